"""Runs with namespaces of their own: what they see, how they end, and who can join them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesostk.agent.launch import Run
from mesostk.agent.launch_spec import LaunchFailed
from mesostk.agent.processes import children_of, descendants
from mesostk.agent.tests.test_launch import Agent, code, descendants_by_mark, is_alive, until
from mesostk.testing.requirements import require_root

ALL = ("pid", "ipc", "mnt")


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    require_root()
    agent = Agent(tmp_path)
    await agent.client.start()
    yield agent
    for run in list(agent.client.runs.values()):
        agent.client.kill(run, 0.0)
    await until(lambda: not agent.client.runs)
    await agent.client.close()


async def start(agent: Agent, name: str, command: str, **more: object) -> Run:
    return await agent.client.launch(agent.spec(name, command, **more))


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# -- what a task sees ------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [0, 3, 255])
async def test_exit_code_comes_out_of_a_pid_namespace(agent: Agent, expected: int) -> None:
    record = await agent.run("r", f"echo $$; exit {expected}", namespaces=ALL)
    assert code(record) == expected
    assert agent.out() == "2\n"


async def test_signal_that_ended_the_task_comes_out_too(agent: Agent) -> None:
    assert code(await agent.run("r", "kill -SEGV $$", namespaces=ALL)) == -signal.SIGSEGV


async def test_task_sees_its_own_processes_only(agent: Agent) -> None:
    await agent.run("r", "ls /proc | grep -c '^[0-9]'; ls /proc/1/task", namespaces=ALL)
    count, init = agent.out().split()
    assert int(count) <= 5  # init, the shell and the two of its pipeline
    assert init == "1"


async def test_ipc_and_shared_memory_are_the_tasks_own(agent: Agent, tmp_path: Path) -> None:
    ours = os.readlink("/proc/self/ns/ipc")  # noqa: PTH115 - the link's own text
    name = f"mesostk-{os.getpid()}"
    command = f"readlink /proc/self/ns/ipc; echo x > /dev/shm/{name}; df -k /dev/shm | tail -1"
    await agent.run("r", command, namespaces=ALL, shm_mib=7)
    theirs, _, size, *_ = agent.out().split()
    assert theirs != ours
    assert size == "7168"
    assert subprocess.run(["test", "-e", f"/dev/shm/{name}"], check=False).returncode == 1  # noqa: ASYNC221


async def test_a_mount_is_seen_by_the_task_alone(agent: Agent, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    command = f"echo in > {target}/new; cat {target}/new"
    await agent.run("r", command, namespaces=("mnt",), mounts=((str(source), str(target), False),))
    assert agent.out() == "in\n"
    assert (source / "new").read_text() == "in\n"
    assert not list(target.iterdir())


async def test_a_read_only_mount_refuses_writing(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    mounts = ((str(tmp_path / "s"), str(tmp_path / "s"), True),)
    record = await agent.run("r", f"echo x > {tmp_path}/s/x", namespaces=("mnt",), mounts=mounts)
    assert code(record) != 0
    assert "Read-only" in (agent.sandbox / "stderr").read_text()


async def test_a_mount_that_cannot_be_made_fails_the_launch_with_its_reason(agent: Agent) -> None:
    mounts = (("/nowhere", "/tmp", False),)
    with pytest.raises(LaunchFailed, match="cannot mount /nowhere at /tmp: No such file"):
        await start(agent, "r", "true", namespaces=ALL, mounts=mounts)
    assert not descendants_by_mark("r")


async def test_no_new_privileges_are_had(agent: Agent) -> None:
    await agent.run("r", "grep NoNewPrivs /proc/self/status", no_new_privileges=True)
    assert agent.out().split() == ["NoNewPrivs:", "1"]


# -- how it ends -----------------------------------------------------------------------------------


async def test_what_the_task_leaves_behind_ends_with_its_namespace(agent: Agent) -> None:
    command = "setsid sh -c 'echo daemon; sleep 1000' & until grep -q daemon stdout; do :; done"
    record = await agent.run("r", command, namespaces=ALL)
    assert code(record) == 0
    assert not descendants_by_mark("r")


async def test_term_reaches_the_task_and_its_answer_is_told(agent: Agent) -> None:
    command = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    run = await start(agent, "r", command, namespaces=ALL)
    await agent.said("ready")
    agent.client.kill(run, 90.0)
    record = await agent.end_of("r")
    assert (code(record), record.killed, record.escalated) == (7, True, False)
    assert "bye" in agent.out()


async def test_a_daemon_has_its_grace_after_the_task_has_gone(agent: Agent) -> None:
    daemon = "trap 'sleep 0.3; echo saved; exit' TERM; echo set; while :; do sleep 0.05; done"
    command = f'setsid sh -c "{daemon}" & until grep -q set stdout; do :; done; echo ready; wait'
    run = await start(agent, "r", command, namespaces=ALL)
    await agent.said("ready")
    agent.client.kill(run, 90.0)
    record = await agent.end_of("r")
    assert code(record) == -signal.SIGTERM
    assert "saved" in agent.out()


async def test_a_daemon_that_ignores_term_changes_nothing_about_the_tasks_end(agent: Agent) -> None:
    daemon = "trap '' TERM; echo set; while :; do sleep 0.05; done"
    command = f'setsid sh -c "{daemon}" & until grep -q set stdout; do :; done; '
    command += "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done"
    run = await start(agent, "r", command, namespaces=ALL)
    await agent.said("ready")
    (init,) = children_of(run.pid)
    agent.client.kill(run, 600.0)
    # However long that takes: the task is reaped, and init, asleep again, has told how it ended.
    await until(lambda: children_of(init)[:1] != [run.task_pid] and state_of(init) == "S")
    agent.client.kill(run, 0.0)
    record = await agent.end_of("r")
    assert (code(record), record.escalated) == (6, False)
    assert not descendants_by_mark("r")


async def test_who_ignores_term_is_killed_with_all_its_children(agent: Agent) -> None:
    command = "trap '' TERM; (setsid sleep 1000) & sleep 1000 & echo ready; while :; do wait; done"
    run = await start(agent, "r", command, namespaces=ALL)
    await agent.said("ready")
    below = descendants(run.pid)
    agent.client.kill(run, 0.2)
    record = await agent.end_of("r")
    assert (code(record), record.escalated) == (-signal.SIGKILL, True)
    assert not any(is_alive(pid) for pid in below)


# -- the agent restarts ----------------------------------------------------------------------------


async def test_a_later_agent_finds_the_task_and_hears_how_it_ended(
    agent: Agent, tmp_path: Path
) -> None:
    command = "echo ready; while [ ! -e go ]; do sleep 0.05; done; exit 42"
    run = await start(agent, "r", command, namespaces=ALL)
    await agent.said("ready")
    await agent.client.close()
    later = Agent(tmp_path)
    await later.client.start()
    found = await later.client.reattach("r")
    assert isinstance(found, Run)
    assert (found.pid, found.task_pid) == (run.pid, run.task_pid)
    (later.sandbox / "go").touch()
    assert code(await later.end_of("r")) == 42
    await later.client.close()


async def test_a_killed_supervisor_leaves_nothing_behind(agent: Agent, tmp_path: Path) -> None:
    command = "(setsid sleep 1000) & echo ready; sleep 1000"
    run = await start(agent, "r", command, namespaces=ALL)
    await agent.said("ready")
    below = descendants(run.pid)
    await agent.client.close()
    os.kill(run.pid, signal.SIGKILL)
    await until(lambda: not is_alive(run.pid))
    later = Agent(tmp_path)
    await later.client.start()
    outcome = await later.client.reattach("r")
    assert not isinstance(outcome, Run)
    assert outcome is not None
    assert outcome.lost
    assert not any(is_alive(pid) for pid in below)
    await later.client.close()


# -- beside it -------------------------------------------------------------------------------------


async def test_a_session_joins_all_namespaces(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "secret").write_text("found\n")
    mounts = ((str(tmp_path / "s"), "/mnt", False),)
    run = await start(agent, "r", "sleep 1000", namespaces=ALL, mounts=mounts)
    own = [os.readlink(f"/proc/{run.task_pid}/ns/{kind}") for kind in ALL]  # noqa: PTH115 - text
    command = "readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/mnt; cat /mnt/secret"
    beside = (run.pid, run.task_pid)
    record = await agent.run("r.s", command + "; cat /proc/2/cmdline; exit 5", beside=beside)
    assert code(record) == 5
    assert agent.out().split() == [*own, "found", "sh\0-c\0sleep", "1000\0"]
    assert children_of(run.pid)


async def test_what_a_session_daemonises_ends_with_it_and_the_task_goes_on(agent: Agent) -> None:
    run = await start(agent, "r", "sleep 1000", namespaces=ALL)
    command = "(setsid sh -c 'echo daemon; exec sleep 1000' &); "
    command += "until grep -q daemon stdout; do :; done"
    record = await agent.run("r.s", command, beside=(run.pid, run.task_pid))
    assert code(record) == 0
    assert not descendants_by_mark("r.s")
    assert is_alive(run.task_pid)


async def test_a_session_beside_what_has_ended_is_refused(agent: Agent) -> None:
    run = await start(agent, "r", "sleep 1000", namespaces=ALL)
    # Alive, in another namespace, but not below the supervisor that is named.
    other = await start(agent, "other", "sleep 1000", namespaces=ALL)
    with pytest.raises(LaunchFailed, match="the container has ended"):
        await start(agent, "r.s", "true", beside=(run.pid, other.task_pid))
