"""The agent's operator API in JSON, protobuf and RecordIO (spec/mesos.md §0.3, §4.1, §15.2)."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from mesostk.agent.tests.agent_bench import task
from mesostk.agent.tests.test_agent_process import (
    TIMEOUT_S,
    AgentProcess,
    ScriptedMaster,
    agent,
    master,
)
from mesostk.wire import agent_operator as wire
from mesostk.wire import json, operator, protobuf
from mesostk.wire.mesos import CommandInfo, ContainerID, DurationInfo
from mesostk.wire.recordio import Decoder, encode_record

__all__ = ["agent", "master"]  # fixtures

JSON, PROTOBUF, RECORDIO = (
    "application/json",
    "application/x-protobuf",
    "application/recordio",
)
BINARY = {"Content-Type": PROTOBUF, "Accept": PROTOBUF}

STDOUT = "/frameworks/F/executors/t1/runs/latest"
CALLS: tuple[wire.Call, ...] = (
    wire.Call(type="GET_HEALTH"),
    wire.Call(type="GET_FLAGS"),
    wire.Call(type="GET_VERSION"),
    wire.Call(type="GET_LOGGING_LEVEL"),
    wire.Call(type="LIST_FILES", list_files=operator.ListFiles(path=STDOUT)),
    wire.Call(type="READ_FILE", read_file=operator.ReadFile(path=f"{STDOUT}/stdout", offset=1)),
    wire.Call(type="GET_STATE"),
    wire.Call(type="GET_FRAMEWORKS"),
    wire.Call(type="GET_EXECUTORS"),
    wire.Call(type="GET_OPERATIONS"),
    wire.Call(type="GET_TASKS"),
    wire.Call(type="GET_AGENT"),
    wire.Call(type="GET_RESOURCE_PROVIDERS"),
)
MOVING: tuple[wire.Call, ...] = (
    wire.Call(type="GET_METRICS", get_metrics=operator.GetMetrics()),
    wire.Call(type="GET_CONTAINERS"),
)

REFUSED = [
    # (headers, body, status, text)
    ({}, b"{}", 400, "Expecting 'Content-Type' to be present"),
    ({"Content-Type": "text/html"}, b"{}", 415,
     f"Expecting 'Content-Type' of {JSON} or {PROTOBUF} or {RECORDIO}"),
    ({"Content-Type": JSON, "Message-Content-Type": JSON}, b"{}", 415,
     "Expecting 'Message-Content-Type' to be not set for non-streaming requests"),
    ({"Content-Type": RECORDIO}, b"", 400,
     "Expecting 'Message-Content-Type' to be set for streaming requests"),
    ({"Content-Type": RECORDIO, "Message-Content-Type": "text/html"}, b"", 415,
     f"Expecting 'Message-Content-Type' of {JSON} or {PROTOBUF}"),
    ({"Content-Type": PROTOBUF}, b"\xff", 400, "Failed to parse body into a protobuf object"),
    ({"Content-Type": PROTOBUF}, b"", 400,
     "Failed to validate agent::Call: Expecting 'type' to be present"),
    ({"Content-Type": JSON, "Accept": "text/html"}, b'{"type":"GET_HEALTH"}', 406,
     f"Expecting 'Accept' to allow {JSON} or {PROTOBUF} or {RECORDIO}"),
    ({"Content-Type": JSON, "Accept": JSON, "Message-Accept": JSON}, b'{"type":"GET_HEALTH"}', 406,
     "Expecting 'Message-Accept' to be not set for non-streaming responses"),
    ({"Content-Type": JSON, "Accept": RECORDIO, "Message-Accept": "text/html"},
     b'{"type":"GET_HEALTH"}', 406, f"Expecting 'Message-Accept' to allow {JSON} or {PROTOBUF}"),
]  # fmt: skip


async def test_every_reading_call_says_the_same_in_json_and_protobuf(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await master.launch(task("t1", "echo hello; exec sleep 1000"))
    await master.until_state("t1", "TASK_RUNNING")
    url = f"http://127.0.0.1:{agent.port}/api/v1"
    async with aiohttp.ClientSession() as http:

        async def ask(call: wire.Call, kind: str) -> wire.Response:
            encode, decode = (
                (json.encode, json.decode) if kind == JSON else (protobuf.encode, protobuf.decode)
            )
            headers = {"Content-Type": kind, "Accept": kind}
            async with http.post(url, data=encode(call), headers=headers) as answer:
                raw = await answer.read()
                assert (answer.status, answer.content_type) == (200, kind), raw
                return decode(raw, wire.Response)

        async def is_acknowledged() -> bool:
            told = (await ask(wire.Call(type="GET_TASKS"), JSON)).get_tasks
            assert told is not None
            return all(one.status_update_uuid is None for one in told.launched_tasks)

        # What is asked twice must not change in between.
        async with asyncio.timeout(TIMEOUT_S):
            while not await is_acknowledged():  # noqa: ASYNC110 - the agent tells nobody
                await asyncio.sleep(0.01)
        [stdout] = agent.work_dir.glob(f"slaves/*{STDOUT}/stdout")
        await master.until_true(lambda: stdout.read_text() == "hello\n")
        for call in CALLS:
            assert await ask(call, PROTOBUF) == await ask(call, JSON), call.type
        for call in MOVING:
            both = [msgspec.to_builtins(await ask(call, kind)) for kind in (PROTOBUF, JSON)]
            assert shape(both[0]) == shape(both[1])
        level = wire.Call(
            type="SET_LOGGING_LEVEL",
            set_logging_level=operator.SetLoggingLevel(
                level=0, duration=DurationInfo(nanoseconds=1)
            ),
        )
        async with http.post(url, data=protobuf.encode(level), headers=BINARY) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        for headers, body, status, text in REFUSED:
            async with http.post(
                url, data=body, headers=headers, skip_auto_headers=["Content-Type"]
            ) as answer:
                said = await answer.text()
                assert (answer.status, said[: len(text)]) == (status, text), headers


def shape(value: Any) -> Any:
    """Without the numbers."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shape(item) for item in value]
    return type(value)


@pytest.mark.parametrize("recordio", [False, True])
async def test_a_session_is_held_in_protobuf(
    master: ScriptedMaster, agent: AgentProcess, recordio: bool
) -> None:
    await master.launch(task("t1", "exec sleep 1000"))
    status = (await master.until_state("t1", "TASK_RUNNING")).status.container_status
    assert status is not None
    session = ContainerID(value="session", parent=status.container_id)
    launch = wire.Call(
        type="LAUNCH_NESTED_CONTAINER_SESSION",
        launch_nested_container_session=wire.LaunchNested(
            container_id=session,
            command=CommandInfo(value="cat", arguments=("cat",), shell=False),
        ),
    )
    headers = {"Content-Type": PROTOBUF, "Accept": PROTOBUF}
    if recordio:
        headers |= {"Accept": RECORDIO, "Message-Accept": PROTOBUF}
    url = f"http://127.0.0.1:{agent.port}/api/v1"
    async with aiohttp.ClientSession() as http:
        async with http.post(url, data=protobuf.encode(launch), headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == (RECORDIO if recordio else PROTOBUF)
            assert answer.headers.get("Message-Content-Type") == (PROTOBUF if recordio else None)
            await type_in(http, url, session, b"typed")
            decoder, heard = Decoder(), b""
            async for chunk in answer.content.iter_any():
                for record in decoder.feed(chunk):
                    io = protobuf.decode(record, wire.ProcessIO)
                    assert io.data is not None
                    heard += io.data.data if io.data.data is not None else b""
        assert heard == b"typed"
        wait = wire.Call(
            type="WAIT_CONTAINER", wait_container=wire.ContainerRef(container_id=session)
        )
        async with http.post(url, data=protobuf.encode(wait), headers=BINARY) as answer:
            ended = protobuf.decode(await answer.read(), wire.Response)
        assert ended.wait_container == wire.Termination(exit_status=0)


async def type_in(http: aiohttp.ClientSession, url: str, session: ContainerID, data: bytes) -> None:
    """Type `data` and the end of the input."""
    parts = [wire.AttachInput(type="CONTAINER_ID", container_id=session)]
    for piece in (data, b""):
        io = wire.ProcessIO(type="DATA", data=wire.ProcessData(type="STDIN", data=piece))
        parts.append(wire.AttachInput(type="PROCESS_IO", process_io=io))
    body = b"".join(
        encode_record(
            protobuf.encode(wire.Call(type="ATTACH_CONTAINER_INPUT", attach_container_input=part))
        )
        for part in parts
    )
    headers = {"Content-Type": RECORDIO, "Message-Content-Type": PROTOBUF}
    async with http.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
