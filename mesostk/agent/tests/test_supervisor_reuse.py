"""Supervisors that are used again: nothing of one run reaches the next, whoever dies when."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mesostk.agent import pool
from mesostk.agent.checkpoint import ExitRecord, read_exit, read_pid
from mesostk.agent.launch import LauncherClient, Run
from mesostk.agent.launch_spec import LaunchFailed
from mesostk.agent.processes import children_of, descendants
from mesostk.agent.tests.test_launch import (
    NEEDS_ROOT,
    Agent,
    code,
    descendants_by_mark,
    is_alive,
    new_agent,
    open_files,
    other_agent,
    public,
    until,
    use,
)

__all__ = ["new_agent", "public"]

WAITS = "while [ ! -e go ]; do sleep 0.02; done; exit 5"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, an idle supervisor is still there when the test wants it."""
    monkeypatch.setattr(pool, "IDLE_S", 3600.0)


@pytest.fixture
async def used(new_agent: Agent, tmp_path: Path) -> tuple[Agent, int]:
    """An agent with one idle supervisor, and the pid of that."""
    return new_agent, await use(new_agent, tmp_path / "before")


def directory_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/cwd").readlink()


# -- what stays and what does not ------------------------------------------------------------------


async def test_runs_one_after_another_have_one_supervisor_and_leave_nothing_in_it(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    files = open_files(pid)
    for n in range(5):
        run = await agent.client.launch(agent.spec(f"r{n}", f"exit {n}"))
        assert run.pid == pid
        assert code(await agent.end_of(f"r{n}")) == n
    assert agent.client.idle == (pid,)
    assert open_files(pid) == files
    assert descendants(pid) == []
    assert directory_of(pid) == Path("/")


async def test_runs_at_the_same_time_have_supervisors_of_their_own(new_agent: Agent) -> None:
    names = [f"r{n}" for n in range(10)]
    runs = await asyncio.gather(
        *(new_agent.client.launch(new_agent.spec(name, WAITS)) for name in names)
    )
    assert len({run.pid for run in runs}) == 10
    (new_agent.sandbox / "go").touch()
    for name in names:
        assert code(await new_agent.end_of(name)) == 5
    assert set(new_agent.client.idle) == {run.pid for run in runs}
    assert code(await new_agent.run("next", "exit 6")) == 6
    assert len(new_agent.client.idle) == 10


async def test_nothing_of_a_run_is_alive_when_the_next_begins(used: tuple[Agent, int]) -> None:
    agent, pid = used
    # Of the same session, with the same mark, without a parent: it must not be there any more.
    command = "(setsid sh -c 'echo $$; exec sleep 600' &); sleep 600 & "
    await agent.run("first", command + "while [ ! -s stdout ]; do sleep 0.01; done; exit 3")
    second = await agent.client.launch(agent.spec("second", WAITS))
    assert second.pid == pid
    assert not is_alive(int(agent.out()))
    assert descendants_by_mark("first") == []
    assert descendants(pid)[0] == second.task_pid
    (agent.sandbox / "go").touch()
    assert code(await agent.end_of("second")) == 5


async def test_run_that_was_killed_leaves_its_supervisor_as_good_as_new(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    run = await agent.client.launch(
        agent.spec("r", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    )
    await agent.said("ready")
    agent.client.kill(run, 0.1)
    record = await agent.end_of("r")
    assert record.killed
    assert record.escalated
    record = await agent.run("next", "exit 4")
    assert agent.client.idle == (pid,)
    assert code(record) == 4
    assert not record.killed


async def test_task_that_wants_more_than_a_spawn_gets_it_of_a_used_supervisor(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    for n in range(3):
        await agent.run(f"r{n}", "ulimit -n", rlimits=(("RLMT_NOFILE", 64 + n, 128),))
    assert agent.out() == "64\n65\n66\n"
    assert agent.client.idle == (pid,)
    assert code(await agent.run("plain", "exit 8")) == 8


@NEEDS_ROOT
@pytest.mark.root
async def test_user_is_changed_for_one_run_only(used: tuple[Agent, int], public: Path) -> None:
    agent, pid = used
    said: list[str] = []
    for user in ("root", "nobody", None, "root"):
        sandbox = public / f"sandbox {len(said)}"
        sandbox.mkdir()
        sandbox.chmod(0o777)
        await agent.run(f"r{len(said)}", "id -un", user=user, sandbox=sandbox)
        said.append((sandbox / "stdout").read_text().strip())
    assert said == ["root", "nobody", "root", "root"]
    assert agent.client.idle == (pid,)


async def test_launch_that_fails_ends_its_supervisor_and_no_other_launch(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    with pytest.raises(LaunchFailed, match="cannot execute '/no/such'"):
        await agent.client.launch(agent.spec("r", "", executable="/no/such"))
    assert agent.client.idle == ()
    await until(lambda: not is_alive(pid))
    assert code(await agent.run("next", "exit 7")) == 7


async def test_run_with_namespaces_or_a_terminal_has_a_supervisor_that_ends_with_it(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    run = await agent.client.launch(agent.spec("r", "exit 2", terminal=(24, 80)))
    assert run.pid != pid
    assert code(await agent.end_of("r")) == 2
    await until(lambda: not is_alive(run.pid))
    assert agent.client.idle == (pid,)


async def test_signals_to_an_idle_supervisor_are_not_for_its_next_run(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(pid, number)
    record = await agent.run("r", "exit 7")
    assert agent.client.idle == (pid,)
    assert code(record) == 7
    assert not record.killed


async def test_kill_of_a_run_that_is_over_is_not_for_the_next(used: tuple[Agent, int]) -> None:
    agent, pid = used
    first = await agent.client.launch(agent.spec("first", "exit 1"))
    await agent.end_of("first")
    second = await agent.client.launch(agent.spec("second", WAITS))
    assert first.pid == second.pid == pid
    agent.client.kill(first, 0.0)
    (agent.sandbox / "go").touch()
    record = await agent.end_of("second")
    assert code(record) == 5
    assert not record.killed


# -- how many, and for how long --------------------------------------------------------------------


async def test_supervisor_is_given_up_after_so_many_runs(
    used: tuple[Agent, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, pid = used
    monkeypatch.setattr(pool, "MAX_RUNS", 3)
    await agent.run("second", "true")
    assert pid in agent.client.idle
    await agent.run("third", "true")
    assert pid not in agent.client.idle
    await until(lambda: not is_alive(pid))
    assert code(await agent.run("next", "exit 7")) == 7


async def test_no_more_than_so_many_are_kept_and_none_for_long(
    new_agent: Agent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "MAX_IDLE", 2)
    monkeypatch.setattr(pool, "IDLE_S", 0.2)
    names = [f"r{n}" for n in range(4)]
    runs = await asyncio.gather(
        *(new_agent.client.launch(new_agent.spec(name, WAITS)) for name in names)
    )
    (new_agent.sandbox / "go").touch()
    for name in names:
        await new_agent.end_of(name)
    assert len(new_agent.client.idle) <= 2
    await until(lambda: not any(is_alive(run.pid) for run in runs))
    assert new_agent.client.idle == ()
    assert code(await new_agent.run("next", "exit 7")) == 7


# -- who dies when ---------------------------------------------------------------------------------


async def test_idle_supervisor_that_was_killed_is_not_missed(used: tuple[Agent, int]) -> None:
    agent, pid = used
    os.kill(pid, signal.SIGKILL)
    assert code(await agent.run("r", "exit 7")) == 7  # whether or not it has been heard of
    await until(lambda: pid not in agent.client.idle)


async def test_supervisor_killed_before_it_reads_the_launch_costs_no_launch(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    os.kill(pid, signal.SIGSTOP)
    launch = asyncio.ensure_future(agent.client.launch(agent.spec("r", WAITS)))
    await until(lambda: agent.client.idle == ())
    os.kill(pid, signal.SIGKILL)
    run = await launch
    assert run.pid != pid
    (agent.sandbox / "go").touch()
    assert code(await agent.end_of("r")) == 5


async def test_supervisor_killed_in_a_later_run_takes_that_run_with_it_and_no_other(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    await agent.run("first", "exit 1")
    run = await agent.client.launch(
        agent.spec("second", "(setsid sh -c 'echo $$; exec sleep 600' &); sleep 600")
    )
    await agent.said("\n")
    os.kill(pid, signal.SIGKILL)
    record = await agent.end_of("second")
    assert record.lost
    assert not is_alive(run.task_pid)
    assert not is_alive(int(agent.out()))
    assert isinstance(await agent.client.reattach("first"), ExitRecord)
    assert code(await agent.run("next", "exit 7")) == 7


async def test_idle_supervisor_ends_with_its_agent_and_a_busy_one_after_its_run(
    tmp_path: Path,
) -> None:
    agent = Agent(tmp_path)
    with other_agent(agent, "first") as process:
        process.send_signal(signal.SIGSTOP)  # it shall not end what is unused
        (agent.sandbox / "first").touch()
        await until(lambda: read_exit(agent.runtime / "containers" / "first") is not None)
        idle = read_pid(agent.runtime / "containers" / "first")
        assert idle is not None
        assert is_alive(idle.pid)
        process.kill()
        process.wait()
        await until(lambda: not is_alive(idle.pid))
    await agent.client.start()
    assert isinstance(await agent.client.reattach("first"), ExitRecord)

    run = await agent.client.launch(agent.spec("busy", WAITS))
    await agent.client.close()
    following = Agent(tmp_path)
    await following.client.start()
    found = await following.client.reattach("busy")
    assert isinstance(found, Run)
    assert (found.pid, found.task_pid) == (run.pid, run.task_pid)
    (agent.sandbox / "go").touch()
    assert code(await following.end_of("busy")) == 5
    await until(lambda: not is_alive(run.pid))
    assert following.client.idle == ()
    await following.client.close()


async def test_later_run_of_a_supervisor_is_found_and_killed_by_the_next_agent(
    used: tuple[Agent, int], tmp_path: Path
) -> None:
    agent, pid = used
    await agent.run("over", "exit 1")
    run = await agent.client.launch(agent.spec("live", "echo ready; exec sleep 600"))
    assert run.pid == pid
    await agent.said("ready")
    await agent.client.close()
    following = Agent(tmp_path)
    await following.client.start()
    over = await following.client.reattach("over")  # its record names a pid that is alive
    assert isinstance(over, ExitRecord)
    assert code(over) == 1
    live = await following.client.reattach("live")
    assert isinstance(live, Run)
    following.client.kill(live, 90.0)
    assert code(await following.end_of("live")) == -signal.SIGTERM
    await until(lambda: not is_alive(pid))
    await following.client.close()


@pytest.mark.parametrize("name", ["status", "pid"])
async def test_records_half_removed_never_name_a_later_run(
    used: tuple[Agent, int], name: str
) -> None:
    """An agent killed while it forgets a run: `pid` without `status` would be the next run's."""
    agent, pid = used
    await agent.run("over", "exit 1")
    run = await agent.client.launch(agent.spec("live", WAITS))
    directory = agent.runtime / "containers" / "over"
    left = []

    def stop(path: str) -> None:
        left.append(sorted(entry.name for entry in directory.iterdir()))
        if path.endswith(f"/{name}"):
            raise InterruptedError
        unlink(path)

    unlink: Callable[[str], None] = os.unlink
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.unlink", stop)
        patch.setattr("shutil.rmtree", lambda _path, ignore_errors: None)
        agent.client.forget("over")
    assert left[0] == ["pid", "status"]
    other = LauncherClient(agent.runtime, lambda _id, _record: None)
    outcome = await other.reattach("over")
    assert isinstance(outcome, ExitRecord)  # the record is whole, or says how it ended
    assert is_alive(run.task_pid)
    assert run.pid == pid
    (agent.sandbox / "go").touch()
    assert code(await agent.end_of("live")) == 5


async def test_launcher_that_dies_is_replaced_and_idle_supervisors_serve_on(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    first = agent.client.launcher_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: agent.client.launcher_pid is None)
    run = await agent.client.launch(agent.spec("r", WAITS))
    assert run.pid == pid
    assert agent.client.launcher_pid not in (None, first)
    (agent.sandbox / "go").touch()
    assert code(await agent.end_of("r")) == 5


async def test_launch_given_to_a_used_supervisor_holds_up_the_next_launcher(
    used: tuple[Agent, int],
) -> None:
    """Until it has left its record: an agent that starts then reads the truth."""
    agent, pid = used
    os.kill(pid, signal.SIGSTOP)
    launch = asyncio.ensure_future(agent.client.launch(agent.spec("r", WAITS)))
    await until(lambda: agent.client.idle == ())
    await agent.client.close()  # as if it had died: its shares of the lock are gone
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    with (agent.runtime / "launcher.lock").open() as lock:

        def is_free() -> bool:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        assert not is_free()
        os.kill(pid, signal.SIGCONT)
        await until(is_free)
        record = read_pid(agent.runtime / "containers" / "r")
        assert record is not None
        assert record.pid == pid
    (agent.sandbox / "go").touch()
    await until(lambda: not is_alive(pid))
    ended = read_exit(agent.runtime / "containers" / "r")
    assert ended is not None
    assert code(ended) == 5


async def test_cancelled_launch_goes_on_and_its_supervisor_ends_with_it(
    used: tuple[Agent, int],
) -> None:
    agent, pid = used
    os.kill(pid, signal.SIGSTOP)
    launch = asyncio.ensure_future(agent.client.launch(agent.spec("r", WAITS)))
    await until(lambda: agent.client.idle == ())
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    os.kill(pid, signal.SIGCONT)
    await until(lambda: read_pid(agent.runtime / "containers" / "r") is not None)
    found = await agent.client.reattach("r")
    assert isinstance(found, Run)
    await until(lambda: children_of(pid) != [])
    (agent.sandbox / "go").touch()
    assert code(await agent.end_of("r")) == 5
    await until(lambda: not is_alive(pid))
    assert agent.client.idle == ()


async def test_end_is_told_once_and_after_the_launch_however_short_the_task(
    new_agent: Agent,
) -> None:
    """Whatever comes first to the agent: `started` and `ended` are often read in one go."""
    told: list[str] = []

    async def one(name: str) -> None:
        await new_agent.client.launch(new_agent.spec(name, "exit 0"))
        assert name not in new_agent.ended
        told.append(name)
        await new_agent.end_of(name)

    for n in range(10):
        await asyncio.gather(*(one(f"r{n}-{m}") for m in range(5)))
    assert sorted(told) == sorted(new_agent.ended)
    assert new_agent.client.runs == {}
