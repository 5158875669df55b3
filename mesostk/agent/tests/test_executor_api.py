"""The executor API of a real agent, the test being the executor: JSON, protobuf, kill -9."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from mesostk.agent.tests.agent_bench import cpus, framework, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, agent, master
from mesostk.wire import executor as wire
from mesostk.wire import json, protobuf
from mesostk.wire.link import Kill, RunTask, SchedulerMessage, ShutdownExecutor
from mesostk.wire.mesos import (
    CommandInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    TaskID,
    TaskState,
    TaskStatus,
)
from mesostk.wire.recordio import Decoder

__all__ = ["agent", "master"]  # fixtures

F, E = FrameworkID("F"), ExecutorID("e")
#: It subscribes for itself nothing: the test does.
INFO = ExecutorInfo(
    executor_id=E, type="CUSTOM", command=CommandInfo(value="sleep 600"), resources=(cpus(0.1),)
)
JSON, PROTOBUF = "application/json", "application/x-protobuf"


SUBSCRIBE = json.encode(
    wire.Call(executor_id=E, framework_id=F, type="SUBSCRIBE", subscribe=wire.Subscribe())
)


class Executor:
    """The other end of the API, in either encoding."""

    def __init__(self, http: aiohttp.ClientSession, port: int, kind: str) -> None:
        self._http = http
        self._url = f"http://127.0.0.1:{port}/api/v1/executor"
        self.kind = kind
        self._encode: Any = protobuf.encode if kind == PROTOBUF else json.encode
        self._decode: Any = protobuf.decode if kind == PROTOBUF else json.decode
        self._headers = {"Content-Type": kind, "Accept": kind}

    def call(self, kind: wire.CallType, **body: Any) -> bytes:
        call = wire.Call(executor_id=E, framework_id=F, type=kind, **body)
        encoded: bytes = self._encode(call)
        return encoded

    async def send(self, kind: wire.CallType, **body: Any) -> int:
        data = self.call(kind, **body)
        async with self._http.post(self._url, data=data, headers=self._headers) as answer:
            return answer.status

    async def update(self, task_id: str, state: TaskState) -> wire.Update:
        status = TaskStatus(
            task_id=TaskID(task_id), state=state, source="SOURCE_EXECUTOR", uuid=uuid.uuid4().bytes
        )
        assert await self.send("UPDATE", update=wire.Update(status=status)) == 202
        return wire.Update(status=status)

    async def subscribe(self, **body: Any) -> AsyncIterator[wire.Event]:
        """Events, from SUBSCRIBED on; asks again while the agent is away or recovers."""
        data = self.call("SUBSCRIBE", subscribe=wire.Subscribe(**body))
        while True:
            try:
                answer = await self._http.post(self._url, data=data, headers=self._headers)
            except aiohttp.ClientError:
                continue
            if answer.status == 503:
                answer.close()
                continue
            break
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == self.kind
        assert "Mesos-Stream-Id" not in answer.headers
        decoder = Decoder()
        async with answer:
            async for chunk in answer.content.iter_any():
                for record in decoder.feed(chunk):
                    yield self._decode(record, wire.Event)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def launch(master: ScriptedMaster, task_id: str, *, new: bool) -> None:
    info = replace(task(task_id), command=None, executor=INFO)
    await master.send(RunTask(framework=framework(), task=info, launch_executor=new))


@pytest.mark.parametrize("kind", [JSON, PROTOBUF])
async def test_a_life_of_an_executor(
    master: ScriptedMaster, agent: AgentProcess, http: aiohttp.ClientSession, kind: str
) -> None:
    await launch(master, "t1", new=True)
    executor = Executor(http, agent.port, kind)
    await until_started(executor)
    assert await executor.send("HEARTBEAT") == 202
    events = executor.subscribe()
    first = await anext(events)
    assert first.subscribed is not None
    assert first.subscribed.executor_info.executor_id == E
    assert first.subscribed.agent_info.hostname == "agent.test"
    given = await anext(events)
    assert given.launch is not None
    assert given.launch.task.task_id == TaskID("t1")
    told = await executor.update("t1", "TASK_RUNNING")
    taken = await anext(events)
    assert taken.acknowledged == wire.Acknowledged(
        task_id=TaskID("t1"), uuid=told.status.uuid or b""
    )
    await master.until_state("t1", "TASK_RUNNING")
    await master.send(SchedulerMessage(framework_id=F, executor_id=E, data=b"\0word"))
    assert (await anext(events)).message == wire.ToExecutor(data=b"\0word")
    await master.send(Kill(framework_id=F, task_id=TaskID("t1")))
    assert (await anext(events)).type == "KILL"
    await executor.update("t1", "TASK_KILLED")
    await master.until_ended("t1")
    await master.send(ShutdownExecutor(framework_id=F, executor_id=E))
    kinds = [event.type async for event in events]
    assert kinds == ["ACKNOWLEDGED", "SHUTDOWN"]  # then the grace period ends it


async def until_started(executor: Executor) -> None:
    """Its process is there: it may subscribe, and nothing else."""
    status = 400
    while status == 400:
        status = await executor.send("MESSAGE", message=wire.ToFramework(data=b""))
    assert status == 403


async def test_an_executor_outlives_the_agent_and_says_what_was_not_acknowledged(
    master: ScriptedMaster, agent: AgentProcess, http: aiohttp.ClientSession
) -> None:
    await launch(master, "t1", new=True)
    executor = Executor(http, agent.port, PROTOBUF)
    await until_started(executor)
    events = executor.subscribe()
    assert [(await anext(events)).type for _ in range(2)] == ["SUBSCRIBED", "LAUNCH"]
    await launch(master, "t2", new=False)
    assert (await anext(events)).type == "LAUNCH"
    await executor.update("t1", "TASK_RUNNING")
    assert (await anext(events)).type == "ACKNOWLEDGED"
    await master.until_state("t1", "TASK_RUNNING")
    await agent.kill()
    await agent.start()
    # Of t1 it has nothing left to say; t2 it has, and an update that the agent never took.
    status = TaskStatus(
        task_id=TaskID("t2"), state="TASK_RUNNING", source="SOURCE_EXECUTOR",
        uuid=uuid.uuid4().bytes,
    )  # fmt: skip
    again = executor.subscribe(
        unacknowledged_tasks=(task("t2"),), unacknowledged_updates=(wire.Update(status=status),)
    )
    assert [(await anext(again)).type for _ in range(2)] == ["SUBSCRIBED", "ACKNOWLEDGED"]
    await master.until_state("t2", "TASK_RUNNING")
    brought = master.subscriptions[-1]
    assert [item.executor.executor_id for item in brought.executors] == [E]
    assert {item.task_id.value for item in brought.tasks} == {"t1", "t2"}
    pid = (await master.until_state("t2", "TASK_RUNNING")).status.container_status
    assert pid is not None
    [process] = await pids_of(agent, "e")
    os.killpg(process, signal.SIGKILL)
    for name in ("t1", "t2"):
        ended = await master.until_ended(name)
        assert ended.status.reason == "REASON_EXECUTOR_TERMINATED"


async def pids_of(agent: AgentProcess, executor_id: str) -> list[int]:
    """Process groups of an executor, by the mark in their environment."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:  # noqa: ASYNC230, PTH123 - in /proc
                variables = file.read().split(b"\0")
        except OSError:
            continue
        home = str(agent.work_dir).encode()
        ours = any(v.startswith(b"MESOS_DIRECTORY=" + home) for v in variables)
        if ours and f"MESOS_EXECUTOR_ID={executor_id}".encode() in variables:
            found.append(int(name))
    return [pid for pid in found if os.getpgid(pid) == pid]


async def test_one_that_never_subscribes_is_ended(
    master: ScriptedMaster, tmp_path: Any, http: aiohttp.ClientSession
) -> None:
    assert http is not None
    (tmp_path / "own").mkdir()
    agent = AgentProcess(tmp_path / "own", master.url, "--executor_registration_timeout=300ms")
    await agent.start()
    try:
        await master.until(lambda: bool(master.subscriptions))
        await launch(master, "t1", new=True)
        status = (await master.until_ended("t1")).status
        assert status.reason == "REASON_EXECUTOR_REGISTRATION_TIMEOUT"
    finally:
        await agent.kill()


@pytest.mark.parametrize(
    ("method", "headers", "body", "status", "text"),
    [
        ("GET", {}, b"", 405, "405 Method Not Allowed"),
        ("POST", {}, b"{}", 415, "Expecting 'Content-Type' of"),
        ("POST", {"Content-Type": JSON}, b"{", 400, "Failed to parse body"),
        ("POST", {"Content-Type": PROTOBUF}, b"\x0a", 400, "Failed to parse body"),
        (
            "POST", {"Content-Type": JSON},
            b'{"executor_id":{"value":"e"},"framework_id":{"value":"F"}}', 400,
            "Expecting 'type' to be present",
        ),
        (
            "POST", {"Content-Type": JSON},
            b'{"executor_id":{"value":"e"},"framework_id":{"value":"F"},"type":"UPDATE"}', 400,
            "Expecting 'update' to be present",
        ),
        (
            "POST", {"Content-Type": JSON, "Accept": "text/html"},
            SUBSCRIBE, 406, "Expecting 'Accept' to allow",
        ),
        (
            "POST", {"Content-Type": JSON},
            SUBSCRIBE, 400, "Framework cannot be found",
        ),
    ],
)  # fmt: skip
async def test_wrong_calls_are_refused(
    agent: AgentProcess,
    http: aiohttp.ClientSession,
    method: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    text: str,
) -> None:
    url = f"http://127.0.0.1:{agent.port}/slave(1)/api/v1/executor"
    async with http.request(method, url, data=body, headers=headers) as answer:
        assert (answer.status, text in await answer.text()) == (status, True)
