"""With process groups only (`--launcher=posix`): what anybody daemonised ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesostk.agent.tests.agent_bench import AGENT, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, live_tasks, master
from mesostk.agent.tests.test_isolation import session
from mesostk.agent.tests.test_launch import is_alive
from mesostk.wire.link import Kill
from mesostk.wire.mesos import CommandInfo, FrameworkID, HealthCheck, TaskID

__all__ = ["master"]  # a fixture

#: A process of a session of its own, whose parent has ended: its pid is in the file.
DAEMON = "(setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' &); "
DAEMON += "until [ -e {0} ]; do :; done"


@pytest.fixture
async def agent(tmp_path: Path, master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    (tmp_path / "work").mkdir()
    agent = AgentProcess(tmp_path / "work", master.url)  # --launcher=posix
    await agent.start()
    await master.until(lambda: bool(master.subscriptions))
    yield agent
    for task_id in live_tasks(master):
        await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID(task_id)))
    await master.until(lambda: not live_tasks(master))
    await agent.kill()


def sandbox(agent: AgentProcess) -> Path:
    return agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/t/runs/latest"


async def pid_in(master: ScriptedMaster, path: Path) -> int:
    await master.until_true(path.exists)
    return number_in(path)


def number_in(path: Path) -> int:
    return int(path.read_text())


async def test_what_a_check_a_session_and_a_task_daemonise_ends_with_each(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    check = HealthCheck(
        type="COMMAND",
        command=CommandInfo(value=DAEMON.format("of-check")),
        delay_seconds=0,
        interval_seconds=1000,
    )
    command = DAEMON.format("of-task") + "; sleep 1000"
    await master.launch(task("t", command, health_check=check))
    status = (await master.until_state("t", "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.container_id is not None
    of_check = await pid_in(master, sandbox(agent) / "of-check")
    await master.until(lambda: any(u.status.healthy for u in master.of("t")))
    await master.until_true(lambda: not is_alive(of_check))

    await session(agent, status.container_id.value, "s", DAEMON.format("of-session"))
    of_session = await pid_in(master, sandbox(agent) / "of-session")
    await master.until_true(lambda: not is_alive(of_session))

    of_task = await pid_in(master, sandbox(agent) / "of-task")
    assert is_alive(of_task)
    await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID("t")))
    await master.until_ended("t")
    assert not is_alive(of_task)
