"""What a later start of the agent makes of what an earlier one left, by its flags."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesostk.agent.tests.agent_bench import AGENT, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, master
from mesostk.agent.tests.test_launch import is_alive

__all__ = ["master"]  # a fixture


@pytest.fixture
async def left(tmp_path: Path, master: ScriptedMaster) -> AsyncIterator[tuple[AgentProcess, int]]:
    """A killed agent, and the pid of the task that it left."""
    (tmp_path / "work").mkdir()
    agent = AgentProcess(tmp_path / "work", master.url)
    await agent.start()
    await master.until(lambda: bool(master.subscriptions))
    await master.launch(task("t", "exec sleep 1000"))
    status = (await master.until_state("t", "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.executor_pid is not None
    await agent.kill()
    yield agent, status.executor_pid
    print(log(agent))
    await agent.kill()
    if is_alive(status.executor_pid):
        os.kill(status.executor_pid, 9)


def log(agent: AgentProcess) -> str:
    return (agent.work_dir.parent / "agent.log").read_text()


async def ended(agent: AgentProcess, *flags: str) -> int:
    """The exit code of a start that comes to nothing."""
    before = agent.arguments
    agent.arguments = [*before, *flags]
    await agent.start()
    assert agent.process is not None
    code = await agent.process.wait()
    agent.log.close()
    agent.arguments = before
    return code


async def test_cleanup_ends_all_tasks_and_forgets_the_agents_id(
    left: tuple[AgentProcess, int], master: ScriptedMaster
) -> None:
    agent, pid = left
    assert await ended(agent, "--recover=cleanup") == 0
    assert not is_alive(pid)
    assert len(master.subscriptions) == 1  # it never came back as a member
    assert not (agent.work_dir / "meta/slaves/latest").is_symlink()
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    assert master.subscriptions[1].agent_info.id is None


async def test_an_agent_whose_link_was_removed_is_a_new_one_without_the_tasks(
    left: tuple[AgentProcess, int], master: ScriptedMaster
) -> None:
    agent, pid = left
    (agent.work_dir / "meta/slaves/latest").unlink()
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    assert master.subscriptions[1].agent_info.id is None
    await master.until_true(lambda: not is_alive(pid))
    assert "Ending unknown run" in log(agent)


async def test_other_resources_are_refused_but_more_of_them_if_the_policy_allows(
    left: tuple[AgentProcess, int], master: ScriptedMaster
) -> None:
    agent, pid = left
    usual = next(flag for flag in agent.arguments if flag.startswith("--resources="))
    agent.arguments = [flag for flag in agent.arguments if flag != usual]
    assert await ended(agent, usual.replace("cpus:64", "cpus:63")) == 2
    more = usual.replace("cpus:64", "cpus:65")
    assert await ended(agent, more) == 2
    assert "--reconfiguration_policy=equal forbids" in log(agent)
    assert "latest to start as a new agent" in log(agent)
    assert is_alive(pid)
    agent.arguments += [more, "--reconfiguration_policy=additive"]
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    assert master.subscriptions[1].agent_info.id == AGENT
    assert is_alive(pid)


async def test_strict_says_of_unreadable_records_what_to_do_and_ends_no_task(
    left: tuple[AgentProcess, int], master: ScriptedMaster
) -> None:
    agent, pid = left
    [record] = (agent.work_dir / "meta/slaves").glob("M-S0/frameworks/*/framework.info")
    record.write_bytes(b"scribble")
    assert await ended(agent, "--strict") == 2
    assert "--strict: 1 records of" in log(agent)
    assert "start with --no-strict" in log(agent)
    assert is_alive(pid)
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    assert is_alive(pid)
