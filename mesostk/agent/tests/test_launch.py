"""The launcher, its supervisors and the agent's end of them, with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

import mesostk
from mesostk.agent import frames
from mesostk.agent.checkpoint import ExitRecord, read_exit, read_pid
from mesostk.agent.launch import LauncherClient, Run
from mesostk.agent.launch_spec import LaunchFailed, LaunchSpec
from mesostk.agent.processes import descendants, start_time
from mesostk.errors import Unavailable
from mesostk.testing import disks

PATH = os.environ["PATH"]
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Agent:
    """A client with what it was told."""

    def __init__(self, directory: Path) -> None:
        self.runtime = directory / "runtime"
        self.sandbox = directory / "sandbox"
        self.sandbox.mkdir(exist_ok=True)
        self.ended: dict[str, ExitRecord] = {}
        self.client = LauncherClient(self.runtime, self._on_exit)

    def _on_exit(self, container_id: str, record: ExitRecord) -> None:
        assert container_id not in self.ended, "told twice"
        self.ended[container_id] = record

    def spec(self, container_id: str, command: str, **more: object) -> LaunchSpec:
        fields = {
            "container_id": container_id,
            "executable": "sh",
            "argv": ("sh", "-c", command),
            "env": {"PATH": PATH},
            "sandbox": self.sandbox,
            **more,
        }
        return LaunchSpec(**fields)  # type: ignore[arg-type] # fields are the spec's own

    async def run(self, container_id: str, command: str, **more: object) -> ExitRecord:
        await self.client.launch(self.spec(container_id, command, **more))
        return await self.end_of(container_id)

    async def end_of(self, container_id: str) -> ExitRecord:
        await until(lambda: container_id in self.ended)
        return self.ended[container_id]

    def out(self) -> str:
        return (self.sandbox / "stdout").read_text()

    async def said(self, text: str) -> None:
        """Wait until the task has printed `text`: only then has it set its traps."""
        await until(lambda: (self.sandbox / "stdout").exists() and text in self.out())


async def until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def open_files(pid: int | None) -> set[str]:
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists
            found.add(str(fd.readlink()))
    return found


def descendants_by_mark(container_id: str) -> list[str]:
    mark = f"MESOSTK_RUN={container_id}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environ.read_bytes().split(b"\0"):
                found.append(str(environ))
    return found


def code(record: ExitRecord) -> int:
    assert record.wait_status is not None, record
    return os.waitstatus_to_exitcode(record.wait_status)


@pytest.fixture
async def new_agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Whose next run has a supervisor of its own."""
    agent = Agent(tmp_path)
    await agent.client.start()
    yield agent
    for run in list(agent.client.runs.values()):
        agent.client.kill(run, 0.0)
    await until(lambda: not agent.client.runs)
    await agent.client.close()


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory of every user's; pytest's own any other pytest closes to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(params=["new supervisor", "used supervisor"])
async def agent(new_agent: Agent, tmp_path: Path, request: pytest.FixtureRequest) -> Agent:
    if request.param == "used supervisor":
        await use(new_agent, tmp_path / "before")
    return new_agent


async def use(agent: Agent, sandbox: Path) -> int:
    """Have a run and leave no trace of it but its supervisor, the pid of which is returned."""
    await asyncio.to_thread(sandbox.mkdir)
    await agent.run("before", "true", sandbox=sandbox)
    del agent.ended["before"]
    agent.client.forget("before")
    (agent.runtime / "containers").rmdir()
    (pid,) = agent.client.idle
    return pid


# -- exit codes, output, environment ---------------------------------------------------------------


@pytest.mark.parametrize("expected", [0, 1, 3, 127, 255])
async def test_exit_code_is_kept(agent: Agent, expected: int) -> None:
    record = await agent.run("r", f"exit {expected}")
    assert code(record) == expected
    assert not record.killed
    assert not record.lost


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
async def test_signal_that_ended_the_task_is_kept(agent: Agent, name: str) -> None:
    record = await agent.run("r", f"kill -{name} $$")
    assert code(record) == -signal.Signals[f"SIG{name}"]
    assert not record.killed  # nobody asked for it


async def test_hundred_launches_at_once_keep_their_codes_apart(agent: Agent) -> None:
    names = [f"r{n}" for n in range(100)]
    await asyncio.gather(*(agent.run(name, f"exit {n}") for n, name in enumerate(names)))
    assert [code(agent.ended[name]) for name in names] == list(range(100))


async def test_numbered_lines_are_complete_and_appended(agent: Agent) -> None:
    command = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    await agent.run("first", command)
    await agent.run("second", command)  # same sandbox: O_APPEND, nothing is cut off
    assert agent.out() == "".join(f"line {n}\n" for n in range(2000)) * 2


async def test_stderr_is_a_file_of_its_own(agent: Agent) -> None:
    await agent.run("r", "echo out; echo err >&2")
    assert agent.out() == "out\n"
    assert (agent.sandbox / "stderr").read_text() == "err\n"


async def test_environment_is_exactly_what_was_given(agent: Agent) -> None:
    os.environ["AGENT_SECRET"] = "x"
    try:
        await agent.run("r", "env", env={"PATH": PATH, "GREETING": "h\u00e9 = 'x'\n"})
    finally:
        del os.environ["AGENT_SECRET"]
    assert "GREETING=h\u00e9 = 'x'\n" in agent.out()
    assert "MESOSTK_RUN=r\n" in agent.out()
    assert "AGENT_SECRET" not in agent.out()


@pytest.fixture
def hang_ups_ignored() -> Iterator[None]:
    """As below `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_ups_ignored")
async def test_task_starts_with_clean_signals_in_its_sandbox_and_no_open_files(
    agent: Agent,
) -> None:
    await agent.run("r", "pwd; grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd")
    lines = agent.out().split()
    assert lines[0] == str(agent.sandbox)
    assert lines[1:4] == ["SigBlk:", "0" * 16, "SigIgn:"]
    # 32 and 33 belong to the C library and no program can set them; below make they are ignored
    assert int(lines[4], 16) & ~(0b11 << 31) == 0
    assert lines[5:] == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


async def test_request_larger_than_a_frame(agent: Agent) -> None:
    filler = {f"V{n}": "x" * 10_000 for n in range(40)}
    await agent.run("r", "echo ${#V39}", env={"PATH": PATH, **filler})
    assert agent.out() == "10000\n"


async def test_program_without_a_shell(agent: Agent) -> None:
    record = await agent.run("r", "", executable="printf", argv=("printf", "%s|", "a b", "$HOME"))
    assert code(record) == 0
    assert agent.out() == "a b|$HOME|"


async def test_resource_limit_is_set(agent: Agent) -> None:
    await agent.run("r", "ulimit -n; ulimit -Hn", rlimits=(("RLMT_NOFILE", 64, 128),))
    assert agent.out() == "64\n128\n"


async def test_the_oom_killer_is_told_whom_to_end_first(agent: Agent) -> None:
    await agent.run("r", "cat /proc/self/oom_score_adj", oom_score_adj=765)
    assert agent.out() == "765\n"


@NEEDS_ROOT
@pytest.mark.root
async def test_the_oom_killer_is_told_by_whoever_runs_as_another_user(
    agent: Agent, public: Path
) -> None:
    more = {"oom_score_adj": 765, "user": "nobody", "sandbox": public}
    await agent.run("r", "cat /proc/self/oom_score_adj", **more)
    assert (public / "stdout").read_text() == "765\n"


# -- what cannot start -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"executable": "/no/such"}, "cannot execute '/no/such': No such file or directory"),
        ({"executable": "nosuch"}, "cannot execute 'nosuch': No such file or directory"),
        ({"executable": "/etc/passwd"}, "cannot execute '/etc/passwd': Permission denied"),
        ({"user": "no-such-user"}, "user 'no-such-user' does not exist on this host"),
        ({"sandbox": Path("/no/such")}, "cannot change to directory /no/such: No such file"),
        ({"cgroups": ("/no/such",)}, "cannot enter cgroup /no/such: No such file"),
        ({"rlimits": (("RLMT_NOPE", 1, 1),)}, "resource limit 'RLMT_NOPE' is not known"),
        ({"rlimits": (("RLMT_NOFILE", 9, 1),)}, "resource limit .* soft 9 is above hard 1"),
        ({"rlimits": (("RLMT_NOFILE", 9, None),)}, "resource limit .* give both soft"),
        ({"env": {"A": "nul\0"}}, "'A' is no name, or its text no value, for exec"),
        ({"env": {"A=B": "x"}}, "'A=B' is no name"),
        ({"executable": "nul\0"}, "'executable' is no name, or its text no value, for exec"),
        ({"user": "nul\0"}, "'user' is no name, or its text no value, for exec"),
    ],
)
async def test_what_cannot_start_says_why(
    agent: Agent, more: dict[str, object], reason: str
) -> None:
    with pytest.raises(LaunchFailed, match="^" + reason.replace("(", r"\(")):
        await agent.client.launch(agent.spec("r", "true", **more))
    assert agent.client.runs == {}
    # An agent that died meanwhile would learn the same from the record.
    record = read_exit(agent.runtime / "containers" / "r")
    if record is not None:
        assert record.failure is not None
        assert record.failure.startswith(reason)
    assert agent.ended == {}


@pytest.mark.parametrize("container_id", ["", "..", "a/b"])
async def test_container_id_that_is_no_file_name_is_refused(
    agent: Agent, container_id: str
) -> None:
    with pytest.raises(ValueError, match="is not a file name"):
        await agent.client.launch(agent.spec(container_id, "true"))


async def test_link_in_place_of_stdout_is_not_followed(agent: Agent, tmp_path: Path) -> None:
    (agent.sandbox / "stdout").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LaunchFailed, match=r"cannot open .*/stdout: Too many levels"):
        await agent.client.launch(agent.spec("r", "echo x"))
    assert not (tmp_path / "elsewhere").exists()


async def test_runtime_directory_that_cannot_be_written_fails_the_launch(agent: Agent) -> None:
    (agent.runtime / "containers").write_text("in the way")
    with pytest.raises(LaunchFailed, match=r"cannot make .*/containers/r: Not a directory"):
        await agent.client.launch(agent.spec("r", "true"))


@NEEDS_ROOT
@pytest.mark.root
async def test_task_runs_as_its_user_with_its_groups(agent: Agent, public: Path) -> None:
    entry = pwd.getpwnam("nobody")
    await agent.run("r", "id -u; id -g; id -G", user="nobody", sandbox=public)
    groups = " ".join(str(g) for g in os.getgrouplist("nobody", entry.pw_gid))
    said = (public / "stdout").read_text()
    assert said == f"{entry.pw_uid}\n{entry.pw_gid}\n{groups}\n"
    assert (public / "stdout").stat().st_uid == entry.pw_uid


# -- kill ------------------------------------------------------------------------------------------


async def test_kill_terminates_the_whole_process_group(agent: Agent) -> None:
    run = await agent.client.launch(agent.spec("r", "sleep 600 & echo $!; wait"))
    await agent.said("\n")
    child = int(agent.out())
    agent.client.kill(run, 90.0)
    record = await agent.end_of("r")
    assert code(record) == -signal.SIGTERM
    assert record.killed
    assert not record.escalated
    assert not is_alive(child)


async def test_task_that_ignores_term_is_killed_after_its_grace(agent: Agent) -> None:
    run = await agent.client.launch(
        agent.spec("r", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    )
    await agent.said("ready")
    started = time.monotonic()
    agent.client.kill(run, 0.3)
    record = await agent.end_of("r")
    assert time.monotonic() - started >= 0.3
    assert code(record) == -signal.SIGKILL
    assert record.killed
    assert record.escalated


async def test_second_kill_shortens_the_grace_and_never_lengthens_it(agent: Agent) -> None:
    run = await agent.client.launch(
        agent.spec("r", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    )
    await agent.said("ready")
    agent.client.kill(run, 600.0)
    agent.client.kill(run, 0.2)
    agent.client.kill(run, 600.0)
    assert (await agent.end_of("r")).escalated


async def test_task_may_use_its_grace_to_end_well(agent: Agent) -> None:
    run = await agent.client.launch(
        agent.spec("r", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done")
    )
    await agent.said("ready")
    agent.client.kill(run, 90.0)
    record = await agent.end_of("r")
    assert code(record) == 7
    assert record.killed
    assert agent.out() == "ready\nbye\n"


async def test_children_that_outlive_a_killed_shell_have_the_grace_too(agent: Agent) -> None:
    # The shell dies of TERM at once; its child needs a moment to save its work.
    child = "trap 'sleep 0.3; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    run = await agent.client.launch(agent.spec("r", f'sh -c "{child}" & wait'))
    await agent.said("ready")
    agent.client.kill(run, 90.0)
    record = await agent.end_of("r")
    assert code(record) == -signal.SIGTERM
    assert not record.escalated
    assert "saved" in agent.out()


async def test_stopped_task_is_woken_to_hear_the_kill(agent: Agent) -> None:
    run = await agent.client.launch(agent.spec("r", "echo ready; kill -STOP $$; sleep 600"))
    await agent.said("ready")
    agent.client.kill(run, 90.0)
    assert not (await agent.end_of("r")).escalated


async def test_kill_of_a_run_that_has_ended_does_nothing(agent: Agent) -> None:
    run = await agent.client.launch(agent.spec("r", "exit 5"))
    await agent.end_of("r")
    agent.client.kill(run, 0.0)
    assert code(agent.ended["r"]) == 5
    assert not agent.ended["r"].killed


async def test_exit_takes_daemonised_children_along(agent: Agent) -> None:
    # setsid + double fork: neither the session nor the parent leads from the task to it.
    await agent.run(
        "r",
        "(setsid sh -c 'echo $$; exec sleep 600' &) ; "
        "until [ -s stdout ]; do sleep 0.02; done; exit 4",
    )
    assert code(agent.ended["r"]) == 4
    assert not is_alive(int(agent.out()))


async def test_kill_takes_daemonised_children_along(agent: Agent) -> None:
    run = await agent.client.launch(
        agent.spec("r", "(setsid sh -c 'trap \"\" TERM; echo $$; sleep 600' &) ; sleep 600")
    )
    await agent.said("\n")
    agent.client.kill(run, 0.2)
    await agent.end_of("r")
    assert not is_alive(int(agent.out()))


# -- what dies, and what must not ------------------------------------------------------------------


async def test_run_is_recorded_before_the_task_execs(agent: Agent) -> None:
    path = agent.runtime / "containers" / "r" / "pid"
    await agent.run("r", f"cat {path}")
    assert agent.out() == path.read_text()
    record = read_pid(path.parent)
    assert record is not None
    assert record.container_id == "r"


async def test_supervisor_killed_without_a_record_takes_the_run_with_it(agent: Agent) -> None:
    run = await agent.client.launch(
        agent.spec("r", "(setsid sh -c 'echo $$; exec sleep 600' &) ; sleep 600")
    )
    await agent.said("\n")
    os.kill(run.pid, signal.SIGKILL)
    record = await agent.end_of("r")
    assert record.lost
    assert record.wait_status is None
    assert not is_alive(run.task_pid)
    assert not is_alive(int(agent.out()))


async def test_launcher_that_dies_is_replaced_and_runs_go_on(agent: Agent) -> None:
    await agent.client.launch(agent.spec("old", "while [ ! -e go ]; do sleep 0.02; done; exit 9"))
    first = agent.client.launcher_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: agent.client.launcher_pid is None)
    assert code(await agent.run("new", "exit 8")) == 8
    assert agent.client.launcher_pid not in (None, first)
    (agent.sandbox / "go").touch()
    assert code(await agent.end_of("old")) == 9


async def test_launches_under_way_when_the_launcher_dies_happen_exactly_once(agent: Agent) -> None:
    names = [f"r{n}" for n in range(20)]
    runs = [asyncio.ensure_future(agent.run(name, f"echo {name}")) for name in names]
    await until(lambda: bool(agent.client.runs) or bool(agent.ended))
    pid = agent.client.launcher_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*runs)
    assert sorted(agent.out().split()) == sorted(names)


async def spare_of(agent: Agent) -> tuple[int, int]:
    """Pids of the supervisor forked ahead and of its task's process."""
    launcher_pid = agent.client.launcher_pid
    assert launcher_pid is not None
    await until(lambda: len(descendants(launcher_pid)) == 2)
    supervisor, task = descendants(launcher_pid)
    return supervisor, task


async def test_spare_that_was_killed_is_replaced(new_agent: Agent) -> None:
    supervisor, task = await spare_of(new_agent)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: not is_alive(task))
    assert code(await new_agent.run("r", "exit 7")) == 7


async def test_spare_without_the_tasks_process_fails_one_launch(new_agent: Agent) -> None:
    _, task = await spare_of(new_agent)
    os.kill(task, signal.SIGKILL)
    await until(lambda: not is_alive(task))
    with pytest.raises(LaunchFailed, match="killed before it could start"):
        await new_agent.client.launch(new_agent.spec("r", "exit 7"))
    assert code(await new_agent.run("next", "exit 7")) == 7


async def test_signals_to_a_spare_are_not_for_its_run(new_agent: Agent) -> None:
    supervisor, _ = await spare_of(new_agent)
    os.kill(supervisor, signal.SIGTERM)
    assert code(await new_agent.run("r", "exit 7")) == 7


async def test_spare_ends_with_its_launcher(new_agent: Agent) -> None:
    supervisor, task = await spare_of(new_agent)
    launcher_pid = new_agent.client.launcher_pid
    assert launcher_pid is not None
    os.kill(launcher_pid, signal.SIGKILL)
    await until(lambda: not is_alive(supervisor) and not is_alive(task))


async def test_launcher_ends_with_its_agent_and_leaves_the_runs_alone(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    await agent.client.start()
    run = await agent.client.launch(agent.spec("r", "while [ ! -e go ]; do sleep 0.02; done"))
    pid = agent.client.launcher_pid
    assert pid is not None
    await agent.client.close()
    await until(lambda: not is_alive(pid))
    assert is_alive(run.pid)
    (agent.sandbox / "go").touch()
    await until(lambda: not is_alive(run.pid))
    record = read_exit(agent.runtime / "containers" / "r")
    assert record is not None
    assert record.wait_status == 0


async def test_launches_under_way_at_the_end_are_found_by_the_next_agent(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    await agent.client.start()
    names = [f"r{n}" for n in range(10)]
    specs = [agent.spec(name, "while [ ! -e go ]; do sleep 0.02; done") for name in names]
    launches = [asyncio.ensure_future(agent.client.launch(spec)) for spec in specs]
    await until(lambda: any(launch.done() for launch in launches))
    await agent.client.close()
    outcomes = await asyncio.gather(*launches, return_exceptions=True)
    assert all(isinstance(outcome, Run | Unavailable) for outcome in outcomes)
    with pytest.raises(Unavailable, match="the agent is ending"):
        await agent.client.start()

    following = Agent(tmp_path)
    await following.client.start()
    found = [await following.client.reattach(name) for name in names]
    assert all(outcome is None or isinstance(outcome, Run) for outcome in found)
    running = {run.container_id for run in found if isinstance(run, Run)}
    assert running >= {run.container_id for run in outcomes if isinstance(run, Run)}
    (following.sandbox / "go").touch()
    await until(lambda: set(following.ended) == running)
    assert {code(record) for record in following.ended.values()} == {0}
    await following.client.close()


async def test_unusable_runtime_directory_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    client = LauncherClient(tmp_path / "file" / "below", lambda _id, _record: None)
    with pytest.raises(Unavailable, match=r"cannot start the launcher: .*file"):
        await client.start()


AGENT = """
import asyncio, sys
from pathlib import Path
from mesostk.agent.launch import LauncherClient
from mesostk.agent.launch_spec import LaunchSpec
async def main():
    client = LauncherClient(Path(sys.argv[1]), lambda i, r: None)
    await client.start()
    for name in sys.argv[3:]:
        await client.launch(LaunchSpec(
            container_id=name, executable="sh", env={"PATH": "/usr/bin:/bin"},
            argv=("sh", "-c", f"while [ ! -e {name} ]; do sleep 0.02; done; echo {name}; exit 6"),
            sandbox=Path(sys.argv[2])))
    print("up", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@contextlib.contextmanager
def other_agent(agent: Agent, *names: str):  # type: ignore[no-untyped-def] # a Popen
    root = str(Path(mesostk.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(agent.runtime), str(agent.sandbox), *names],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()
        process.wait()


async def test_runs_of_a_killed_agent_are_found_by_the_next(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    with other_agent(agent, "ends-later", "ends-meanwhile", "supervisor-killed") as process:
        process.kill()
        process.wait()
        (agent.sandbox / "ends-meanwhile").touch()
        gone = agent.runtime / "containers" / "supervisor-killed"
        record = read_pid(gone)
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        await until(lambda: not is_alive(record.pid))
        await until(lambda: read_exit(gone.parent / "ends-meanwhile") is not None)
        await agent.client.start()

        ended = await agent.client.reattach("ends-meanwhile")
        assert isinstance(ended, ExitRecord)
        assert code(ended) == 6

        lost = await agent.client.reattach("supervisor-killed")
        assert isinstance(lost, ExitRecord)
        assert lost.lost
        assert not descendants_by_mark("supervisor-killed")

        run = await agent.client.reattach("ends-later")
        assert isinstance(run, Run)
        (agent.sandbox / "ends-later").touch()
        assert code(await agent.end_of("ends-later")) == 6
        assert sorted(agent.out().split()) == ["ends-later", "ends-meanwhile"]
    assert await agent.client.reattach("never-launched") is None
    await agent.client.close()


async def test_kill_completes_although_the_agent_dies(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    await agent.client.start()
    run = await agent.client.launch(
        agent.spec("r", "trap '' TERM; echo ready; while :; do sleep 0.02; done")
    )
    await agent.said("ready")
    agent.client.kill(run, 0.2)
    await agent.client.close()
    await until(lambda: read_exit(run.directory) is not None)
    record = read_exit(run.directory)
    assert record is not None
    assert record.escalated
    assert agent.ended == {}


async def test_reused_pid_is_not_taken_for_the_supervisor(agent: Agent) -> None:
    run = await agent.client.launch(agent.spec("r", "sleep 600"))
    path = run.directory / "pid"
    true = path.read_text()
    path.write_text(true.replace(f'"start_time":{start_time(run.pid)}', '"start_time":1', 1))
    other = LauncherClient(agent.runtime, lambda _id, _record: None)
    outcome = await other.reattach("r")  # what is left of "the run" is killed: it is the same one
    assert isinstance(outcome, ExitRecord)
    assert outcome.lost
    path.write_text(true)


async def test_records_of_an_earlier_boot_are_of_dead_runs(agent: Agent) -> None:
    run = await agent.client.launch(agent.spec("r", "sleep 600"))
    path = run.directory / "pid"
    true = path.read_text()
    path.write_text(true.replace('"boot":"', '"boot":"other-', 1))
    outcome = await LauncherClient(agent.runtime, lambda _id, _record: None).reattach("r")
    assert outcome == ExitRecord(lost=True, note="the host was restarted")
    assert is_alive(run.task_pid)  # nothing is signalled by numbers of another boot
    path.write_text(true)


@pytest.mark.parametrize("text", ["", "{", '{"pid":"x"}', "\0" * 100, "[]"])
async def test_damaged_records_are_a_lost_run(agent: Agent, text: str) -> None:
    directory = agent.runtime / "containers" / "r"
    directory.mkdir(parents=True)
    (directory / "pid").write_text(text)
    outcome = await agent.client.reattach("r")
    assert isinstance(outcome, ExitRecord)
    assert outcome.lost
    assert outcome.note is not None
    assert str(directory / "pid") in outcome.note


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A runtime directory of 64 KiB."""
    with disks.small_disk(tmp_path / "runtime", "64k") as path:
        yield path


def fill(directory: Path) -> None:
    with contextlib.suppress(OSError), (directory / "fill").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


@pytest.mark.root
async def test_exit_code_is_kept_although_the_disk_fills_up(small_disk: Path, agent: Agent) -> None:
    run = await agent.client.launch(
        agent.spec("r", "trap '' TERM; echo ready; while [ ! -e go ]; do sleep 0.02; done; exit 3")
    )
    await agent.said("ready")
    fill(small_disk)
    agent.client.kill(run, 600.0)  # cannot be noted, but is heard: the launch's grace holds
    (agent.sandbox / "go").touch()
    record = await agent.end_of("r")
    assert code(record) == 3
    assert record.killed


@pytest.mark.root
async def test_full_disk_fails_the_launch_and_only_that(small_disk: Path, agent: Agent) -> None:
    fill(small_disk)
    with pytest.raises(LaunchFailed, match="No space left on device"):
        await agent.client.launch(agent.spec("r", "echo must not run"))
    assert not (agent.sandbox / "stdout").exists()
    (small_disk / "fill").unlink()
    assert code(await agent.run("r", "exit 2")) == 2


# -- the launcher itself ---------------------------------------------------------------------------


SHOWING_MODULES = """
import sys
sys.path.append(sys.argv[1])
from mesostk.agent import launcher
print(*sys.modules, flush=True)
launcher.main(int(sys.argv[2]), sys.argv[3])
"""


@pytest.fixture
def bare(tmp_path: Path):  # type: ignore[no-untyped-def] # (socket, Popen)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = str(Path(mesostk.__file__).parent.parent)
    with theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", SHOWING_MODULES),
                *(root, str(theirs.fileno()), str(tmp_path / "lock")),
            ],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
        )
    ours.settimeout(90.0)
    assert frames.decode(ours.recv(100)) == ("ready", 0, process.pid)
    assert process.stdout is not None
    with ours, process.stdout:
        yield ours, process
    process.kill()
    process.wait()


def test_launcher_survives_garbage(bare) -> None:  # type: ignore[no-untyped-def]
    sock, process = bare
    good = frames.encode((1, {"no": "such request"}))
    for frame in (b"x", b"\0" * 5000, b"MSL1", good[:-1], good[:8] + b"\xff" + good[9:]):
        sock.send(frame)
    messages: tuple[object, ...] = (None, "in-file", 7, (), (1, 2), (1, {}, 3), ("1", {}), {1: 2})
    for message in messages:
        sock.send(frames.encode(message))
    sock.send(b"y" * 150_000)
    sock.send(good)
    answers = [frames.decode(sock.recv(1000)) for _ in range(2)]
    assert [answer[:2] for answer in answers] == [("failed", 1), ("gone", 1)]  # type: ignore[index]
    assert process.poll() is None
    sock.close()
    assert process.wait(90) == 0


def test_launcher_imports_only_small_modules(bare) -> None:  # type: ignore[no-untyped-def]
    _, process = bare
    modules = set(process.stdout.readline().decode().split())
    ours = {name for name in modules if name.startswith("mesostk")}
    assert ours == {
        "mesostk",
        "mesostk.agent",
        "mesostk.agent.frames",
        "mesostk.agent.keeper",
        "mesostk.agent.launcher",
        "mesostk.agent.line",
        "mesostk.agent.namespaces",
        "mesostk.agent.processes",
        "mesostk.agent.spawn",
        "mesostk.agent.supervisor",
        "mesostk.agent.task_process",
    }
    assert not modules & {"asyncio", "json", "logging", "msgspec", "pathlib", "re", "typing"}
    assert "threading" not in modules


def test_launch_waits_for_the_predecessors_launches(bare, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A second launcher is not ready while the first holds the lock."""
    _, process = bare
    with (tmp_path / "lock").open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.kill()
        process.wait()
        fcntl.flock(lock, fcntl.LOCK_EX)


async def test_supervisor_holds_nothing_of_the_agent(agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        run = await agent.client.launch(agent.spec("r", "sleep 600"))
        server = f"socket:[{os.fstat(listening.fileno()).st_ino}]"
        assert server in open_files(os.getpid())
        assert server not in open_files(agent.client.launcher_pid)
        own = {"/dev/null", str(agent.sandbox / "stdout"), str(agent.sandbox / "stderr")}
        await until(lambda: open_files(run.task_pid) == own)  # the shell loads its libraries first
    files = {"/dev/null", str(run.directory / "status.tmp")}

    def has_a_line_only() -> bool:
        found = open_files(run.pid)
        return files <= found and [name.partition(":")[0] for name in found - files] == ["socket"]

    await until(has_a_line_only)
    assert descendants(run.pid)[0] == run.task_pid


def test_everything_works_under_uvloop(tmp_path: Path) -> None:
    async def scenario() -> ExitRecord:
        agent = Agent(tmp_path)
        await agent.client.start()
        run = await agent.client.launch(agent.spec("r", "trap '' TERM; echo ready; sleep 600"))
        await agent.said("ready")
        agent.client.kill(run, 0.1)
        record = await agent.end_of("r")
        await agent.client.close()
        return record

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()).escalated


def test_unlimited_is_what_no_number_means() -> None:
    from mesostk.agent.launch_spec import request_of

    spec = LaunchSpec(
        container_id="r",
        executable="true",
        argv=("true",),
        env={},
        sandbox=Path("/"),
        rlimits=(("RLMT_CORE", None, None),),
    )
    request = request_of(spec, Path("/run"), "boot")
    unlimited = resource.RLIM_INFINITY
    assert request["rlimits"] == [(resource.RLIMIT_CORE, unlimited, unlimited)]
