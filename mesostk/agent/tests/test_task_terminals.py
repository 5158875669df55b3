"""Tasks with a terminal of their own: who attaches sees it and types, and it outlives the agent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from mesostk.agent.launch import Run
from mesostk.agent.launch_spec import LaunchFailed
from mesostk.agent.sandbox import SandboxError
from mesostk.agent.terminals import KeptTerminal, Kind, Stdio
from mesostk.agent.tests.agent_bench import AGENT, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, master
from mesostk.agent.tests.test_launch import Agent, code, descendants_by_mark, until
from mesostk.testing.requirements import require_root
from mesostk.wire import json
from mesostk.wire.link import Kill
from mesostk.wire.mesos import ContainerInfo, FrameworkID, TaskID, TTYInfo, WindowSize
from mesostk.wire.recordio import Decoder, encode_record

__all__ = ["master"]  # a fixture

#: Says what it is, then does as it is told.
COMMAND = 'tty; stty size; while read line; do eval "$line"; done'


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    agent = Agent(tmp_path)
    await agent.client.start()
    yield agent
    for run in list(agent.client.runs.values()):
        agent.client.kill(run, 0.0)
    await until(lambda: not agent.client.runs)
    await agent.client.close()


async def start(agent: Agent, command: str = COMMAND, **more: object) -> Run:
    return await agent.client.launch(agent.spec("r", command, terminal=(24, 80), **more))


async def heard(terminal: KeptTerminal) -> bytes:
    """All that comes out until the end."""
    pieces = []

    async def take(_kind: Kind, data: bytes) -> None:
        pieces.append(data)

    await terminal.pump(take)
    return b"".join(pieces)


@pytest.mark.parametrize("namespaces", [(), ("pid", "ipc", "mnt")])
async def test_a_terminal_is_typed_into_sized_and_recorded(
    agent: Agent, namespaces: tuple[str, ...]
) -> None:
    if namespaces:
        require_root()
    run = await start(agent, namespaces=namespaces)
    await agent.said("24 80")
    assert agent.out().startswith("/dev/pts/")
    output = await KeptTerminal.open(run.directory, b"o")
    listening = asyncio.ensure_future(heard(output))
    typing = await KeptTerminal.open(run.directory, b"i")
    await typing.resize(50, 132)
    await typing.write(b"stty size; echo $((6 * 7))\n")
    await agent.said("42")
    await typing.write(b"exit 4\n")
    assert code(await agent.end_of("r")) == 4
    said = await listening
    assert b"50 132\r\n42\r\n" in said
    assert said in (agent.sandbox / "stdout").read_bytes()  # all of it is recorded, as it came
    for terminal in (output, typing):
        terminal.close()


async def test_a_terminal_outlives_the_agent(agent: Agent, tmp_path: Path) -> None:
    await start(agent)
    await agent.said("24 80")
    await agent.client.close()
    later = Agent(tmp_path)
    await later.client.start()
    found = await later.client.reattach("r")
    assert isinstance(found, Run)
    typing = await KeptTerminal.open(found.directory, b"i")
    await typing.write(b"echo back; exit 9\n")
    assert code(await later.end_of("r")) == 9
    assert "back\n" in later.out()
    typing.close()
    await later.client.close()


async def test_a_killed_task_leaves_no_keeper_and_hangups_harm_nobody(agent: Agent) -> None:
    run = await start(agent, f"trap '' HUP TERM; {COMMAND}")
    await agent.said("24 80")
    for _ in range(3):
        (await KeptTerminal.open(run.directory, b"o")).close()
    silent = await KeptTerminal.open(run.directory, b"o")  # takes nothing of what comes
    typing = await KeptTerminal.open(run.directory, b"i")
    await typing.write(b"head -c 3000000 /dev/zero | tr '\\0' x; echo d''one\n")
    await agent.said("done")
    agent.client.kill(run, 0.1)
    record = await agent.end_of("r")
    assert (code(record), record.escalated) == (-9, True)
    assert not descendants_by_mark("r")
    silent.close()
    typing.close()


async def test_a_terminal_task_that_cannot_start_says_why(agent: Agent) -> None:
    with pytest.raises(LaunchFailed, match="cannot execute"):
        await agent.client.launch(
            agent.spec("r", "", terminal=(0, 0), executable="/no/such", argv=("x",))
        )
    (agent.sandbox / "stdout").unlink()
    (agent.sandbox / "stdout").symlink_to("/dev/null")
    with pytest.raises(LaunchFailed, match="cannot make a terminal"):
        await agent.client.launch(agent.spec("r", "true", terminal=(0, 0)))


# -- by the operator API ---------------------------------------------------------------------------


async def test_who_attaches_to_a_task_sees_and_types_also_after_a_restart(
    master: ScriptedMaster, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    agent = AgentProcess(tmp_path / "work", master.url)
    await agent.start()
    await master.until(lambda: bool(master.subscriptions))
    info = TTYInfo(window_size=WindowSize(rows=33, columns=99))
    container = ContainerInfo(type="MESOS", tty_info=info)
    await master.launch(replace(task("t", COMMAND), container=container))
    await master.launch(task("plain", "sleep 1000"))
    ids = {}
    for name in ("t", "plain"):
        status = (await master.until_state(name, "TASK_RUNNING")).status.container_status
        assert status is not None
        assert status.container_id is not None
        ids[name] = {"value": status.container_id.value}
    await agent.kill()
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)

    url = f"http://127.0.0.1:{agent.port}/api/v1"
    kind = "ATTACH_CONTAINER_OUTPUT"
    async with aiohttp.ClientSession() as http:
        look = {"type": kind, kind.lower(): {"container_id": ids["plain"]}}
        async with http.post(url, json=look) as answer:
            assert (answer.status, "switchboard" in await answer.text()) == (500, True)
        look = {"type": kind, kind.lower(): {"container_id": ids["t"]}}
        async with http.post(url, json=look) as answer:
            assert answer.status == 200
            await type_in(http, url, ids["t"], "stty size; echo $((6 * 7)); exit 5\n")
            records = [json.decode(r, dict) for r in Decoder().feed(await answer.read())]
    said = b"".join(base64.b64decode(r["data"]["data"]) for r in records if r["type"] == "DATA")
    assert b"44 144\r\n42\r\n" in said
    end = await master.until_ended("t")
    assert end.status.message == "Command exited with status 5"
    out = tmp_path / f"work/slaves/{AGENT.value}/frameworks/F/executors/t/runs/latest/stdout"
    assert b"33 99\r\n" in out.read_bytes()
    await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID("plain")))
    await master.until_ended("plain")
    await agent.kill()


@pytest.mark.parametrize("user", ["no-such-user", "nul\0"])
def test_a_terminal_for_nobody_is_refused_and_leaves_nothing_open(user: str) -> None:
    require_root()
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(SandboxError, match="does not exist on this host"):
        Stdio.open(tty=True, user=user)
    assert set(Path("/proc/self/fd").iterdir()) <= before


async def type_in(
    http: aiohttp.ClientSession, url: str, container_id: dict[str, str], text: str
) -> None:
    """ATTACH_CONTAINER_INPUT: a size for the window, then what is typed."""
    size = {"type": "TTY_INFO", "tty_info": {"window_size": {"rows": 44, "columns": 144}}}
    data = {"type": "STDIN", "data": base64.b64encode(text.encode()).decode()}
    parts: list[dict[str, Any]] = [
        {"type": "CONTAINER_ID", "container_id": container_id},
        {"type": "PROCESS_IO", "process_io": {"type": "CONTROL", "control": size}},
        {"type": "PROCESS_IO", "process_io": {"type": "DATA", "data": data}},
    ]
    calls = [{"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": part} for part in parts]
    body = b"".join(encode_record(json.encode(call)) for call in calls)
    headers = {"Content-Type": "application/recordio", "Message-Content-Type": "application/json"}
    async with http.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
