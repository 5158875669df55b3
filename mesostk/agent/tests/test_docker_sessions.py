"""Programs in the Docker containers of tasks, by the operator API of a real agent."""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import pytest
import requests
from msgspec.structs import replace

from mesostk.agent.tests.agent_bench import AGENT, framework, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster
from mesostk.agent.tests.test_docker_process import agent, contained, engine, master, until
from mesostk.wire.link import RunTask, ShutdownExecutor
from mesostk.wire.mesos import CommandInfo, ExecutorID, ExecutorInfo, FrameworkID
from mesostk.wire.recordio import Decoder, encode_record

pytestmark = [pytest.mark.docker, pytest.mark.root]

__all__ = ["agent", "engine", "master"]  # fixtures

INPUT = {"Content-Type": "application/recordio", "Message-Content-Type": "application/json"}


async def parent_of(master: ScriptedMaster, task_id: str) -> dict[str, Any]:
    status = (await master.until_state(task_id, "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.container_id is not None
    return {"value": status.container_id.value}


class Session:
    """One session: its output as it comes."""

    def __init__(self, http: aiohttp.ClientSession, url: str, parent: dict[str, Any]) -> None:
        self._http = http
        self._url = url
        self.container_id = {"value": "session", "parent": parent}

    async def run(
        self, argv: list[str], typed: bytes | None = None, *, tty: bool = False
    ) -> tuple[dict[str, bytes], int]:
        body: dict[str, Any] = {
            "container_id": self.container_id,
            "command": {"value": argv[0], "arguments": argv, "shell": False},
        }
        if tty:
            window = {"rows": 40, "columns": 99}
            body["container"] = {"type": "MESOS", "tty_info": {"window_size": window}}
        call = {
            "type": "LAUNCH_NESTED_CONTAINER_SESSION",
            "launch_nested_container_session": body,
        }
        found = {"STDOUT": b"", "STDERR": b""}
        async with self._http.post(self._url, json=call) as answer:
            assert answer.status == 200, await answer.text()
            if typed is not None:
                await self._type(typed)
            decoder = Decoder()
            async for chunk in answer.content.iter_any():
                for record in decoder.feed(chunk):
                    data = json.loads(record)["data"]
                    found[data["type"]] += base64.b64decode(data["data"])
        wait = {"type": "WAIT_CONTAINER", "wait_container": {"container_id": self.container_id}}
        async with self._http.post(self._url, json=wait) as answer:
            return found, (await answer.json())["wait_container"]["exit_status"]

    async def _type(self, data: bytes) -> None:
        parts: list[dict[str, Any]] = [{"type": "CONTAINER_ID", "container_id": self.container_id}]
        for piece in (data, b""):
            stdin = {"type": "STDIN", "data": base64.b64encode(piece).decode()}
            io = {"type": "DATA", "data": stdin}
            parts.append({"type": "PROCESS_IO", "process_io": io})
        records = [
            encode_record(
                json.dumps({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": p}).encode()
            )
            for p in parts
        ]
        async with self._http.post(self._url, data=b"".join(records), headers=INPUT) as answer:
            assert answer.status == 200, await answer.text()


@pytest.mark.parametrize(
    ("argv", "typed", "tty", "out", "err", "code"),
    [
        (["sh", "-c", "echo out; echo bad >&2; exit 6"], None, False, b"out\n", b"bad\n", 6),
        (["cat"], b"x" * 300_000, False, b"x" * 300_000, b"", 0),
        (["sh", "-c", "test -t 0 && echo terminal; exit 2"], None, True, b"terminal\r\n", b"", 2),
    ],
)
async def test_a_program_runs_in_the_tasks_container(
    master: ScriptedMaster,
    agent: AgentProcess,
    argv: list[str],
    typed: bytes | None,
    tty: bool,
    out: bytes,
    err: bytes,
    code: int,
) -> None:
    await master.launch(contained("t", "sleep 600"))
    parent = await parent_of(master, "t")
    url = f"http://127.0.0.1:{agent.port}/api/v1"
    async with aiohttp.ClientSession() as http:
        found, status = await Session(http, url, parent).run(argv, typed, tty=tty)
    assert (found["STDOUT"], found["STDERR"], status) == (out, err, code << 8)


async def test_a_program_that_the_image_has_not_is_told(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await master.launch(contained("t", "sleep 600"))
    parent = await parent_of(master, "t")
    url = f"http://127.0.0.1:{agent.port}/api/v1"
    async with aiohttp.ClientSession() as http:
        found, status = await Session(http, url, parent).run(["/no/such"])
    assert b"no such file" in found["STDOUT"] + found["STDERR"]
    assert status >> 8 in {126, 127}


async def test_an_executor_in_a_container_knows_where_its_agent_is(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    inside = contained("t", None)
    executor = ExecutorInfo(
        executor_id=ExecutorID("e"),
        type="CUSTOM",
        command=CommandInfo(value="cd $MESOS_SANDBOX; env > new; mv new env; exec sleep 600"),
        container=inside.container,
        resources=inside.resources,
    )
    info = replace(task("t"), command=None, executor=executor)
    await master.send(RunTask(framework=framework(), task=info, launch_executor=True))
    home = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/e/runs/latest"
    await until((home / "env").exists)
    told = dict(line.split("=", 1) for line in (home / "env").read_text().splitlines())
    assert told["MESOS_AGENT_ENDPOINT"] == f"127.0.0.1:{agent.port}"
    assert (told["MESOS_EXECUTOR_ID"], told["MESOS_FRAMEWORK_ID"]) == ("e", "F")
    assert told["MESOS_SANDBOX"] == "/mnt/mesos/sandbox"

    def is_known_to_run() -> bool:
        # The program is at work before the engine has answered that it is.
        metrics = requests.get(f"http://127.0.0.1:{agent.port}/metrics/snapshot", timeout=60).json()
        return bool(metrics["slave/executors_running"])

    await until(is_known_to_run)
    await master.send(ShutdownExecutor(framework_id=FrameworkID("F"), executor_id=ExecutorID("e")))
    ended = await master.until_ended("t")
    assert ended.status.reason == "REASON_EXECUTOR_TERMINATED"
