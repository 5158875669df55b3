"""A fetch under way when its task is killed, or its agent is: nothing of it stays or goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mesostk.agent.checkpoint import read_pid
from mesostk.agent.tests.agent_bench import task
from mesostk.agent.tests.fetch_bench import is_alive, until
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, agent, master
from mesostk.wire.link import Kill
from mesostk.wire.mesos import CommandInfo, CommandURI, FrameworkID, TaskID

__all__ = ["agent", "master"]  # fixtures

BEGUN = b"x" * 1000


@pytest.fixture
async def slow() -> AsyncIterator[CommandURI]:
    """Of a server that begins, and goes on only when nobody wants it any more."""
    held = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + BEGUN)
        held.append(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield CommandURI(value=f"http://127.0.0.1:{port}/slow")
    for writer in held:
        writer.close()
    server.close()
    await server.wait_closed()


def records(agent: AgentProcess) -> list[Path]:
    return list((agent.work_dir / "run" / "containers").glob("fetch-*"))


def pids_of(agent: AgentProcess) -> list[int]:
    """Of the supervisor and the process, once they are there."""
    found = [read_pid(directory) for directory in records(agent)]
    return [pid for record in found if record is not None for pid in (record.pid, record.task)]


def fetched(agent: AgentProcess) -> list[Path]:
    return list((agent.work_dir / "slaves").glob("*/frameworks/*/executors/*/runs/latest/slow"))


async def begin(master: ScriptedMaster, agent: AgentProcess, slow: CommandURI) -> list[int]:
    await master.launch(replace(task("t"), command=CommandInfo(value="true", uris=(slow,))))
    await until(lambda: bool(fetched(agent)))
    return pids_of(agent)


async def test_a_fetch_ends_with_its_task(
    master: ScriptedMaster, agent: AgentProcess, slow: CommandURI
) -> None:
    pids = await begin(master, agent, slow)
    assert len(pids) == 2
    assert all(is_alive(pid) for pid in pids)
    await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID("t")))
    assert (await master.until_ended("t")).status.state == "TASK_KILLED"
    await until(lambda: not records(agent))
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_fetch_does_not_outlive_its_agent(
    master: ScriptedMaster, agent: AgentProcess, slow: CommandURI, is_stopped: bool
) -> None:
    """One that is stopped, and so sees nothing, is ended by the next agent."""
    pids = await begin(master, agent, slow)
    assert all(is_alive(pid) for pid in pids)
    if is_stopped:
        os.kill(pids[1], signal.SIGSTOP)
    await agent.kill()
    if not is_stopped:
        await until(lambda: not any(is_alive(pid) for pid in pids))
    await agent.start()
    ended = (await master.until_ended("t")).status
    assert (ended.state, ended.reason) == ("TASK_LOST", "REASON_AGENT_RESTARTED")
    await until(lambda: not any(is_alive(pid) for pid in pids))
    await until(lambda: not records(agent))
    assert len(fetched(agent)) == 1
    assert BEGUN.startswith(fetched(agent)[0].read_bytes())
