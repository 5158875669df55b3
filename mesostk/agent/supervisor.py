"""The supervisor: one small process per live run, forked by the launcher, that outlives the agent.

::

    forked ─▶ session, task's process ─▶ idle ─ request ─▶ cgroup ─▶ `pid` record ─▶ task execs
                                          │ launcher ends             exec fails │      │ it ends
                                          ▼                                      ▼      ▼
                                        gone                  `status` {failure}  the rest is killed
                                                                                        ▼
    SIGTERM: TERM to the task's group and its other descendants       `status` {wait_status}
             … grace … KILL to all of them, and to the cgroup               │
                                                                            ▼
    gone ◀─ nobody at the line, or none of it ─ `ended` ─ idle again ─ request ─▶ as above
            (line.py)

After a run that changed nothing of the process itself (no namespaces, no terminal) and of which
nothing is left it takes another, if the agent that saw the end has one: a fork of a Python costs
more than a short task. It never has two; without its agent it ends with its run.

It is a child subreaper: whatever the task forks, daemonised or not, is found when it is orphaned,
and the run is over only when nothing of it is left. Only the task enters the run's cgroups, so that
killing them, or the kernel's OOM killer, does not take the supervisor away with its knowledge of
the exit status.

Files in the run's runtime directory: `pid` and `status` (JSON, replaced atomically; see
`checkpoint.PidRecord`, `checkpoint.ExitRecord`) are written here; `kill` (the monotonic time by
which the run must be over) is written by the agent before it sends SIGTERM. A deadline, not a
duration: of several kills in a row, only one signal may arrive.

Imports nothing but small modules of the standard library: see launcher.py.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

from mesostk.agent import keeper, namespaces, processes, spawn
from mesostk.agent.line import Line
from mesostk.agent.task_process import Failure, TaskProcess, enter_cgroup, take_over

TYPE_CHECKING = False  # as in launcher.py
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    #: Sends the agent, as far as it listens, a message about launch number n, with file
    #: descriptors. After the first call the launcher's socket is not open any more.
    Report = Callable[..., None]

#: Signals that a supervisor takes by sigtimedwait. HUP and INT are blocked only to be ignored.
WAITED = frozenset({signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT})

#: Signals that Python ignores, which exec would hand on to the task: the launcher gives them their
#: default action and blocks them, once, instead of each task before it execs.
IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})

#: In the environment of each task, the container id: finds what is left of a run whose supervisor
#: was killed, even a daemon in a session of its own.
RUN_MARKER = "MESOSTK_RUN"

#: Between rounds of killing descendants that keep forking or take long to die, in seconds; doubled
#: each time up to the second, for those that hang in the kernel.
_FIRST_ROUND_S = 0.01
_LAST_ROUND_S = 1.0

#: Looks for strays, which may fork while they are killed.
_STRAY_ROUNDS = 100

#: … one after the other, until none is taken to be left.
_EMPTY_LOOKS = 2

#: For the keeper of a terminal to record the last of the output, in seconds: it takes milliseconds,
#: unless it has to wait for a processor.
_LAST_WORDS_S = 10.0

#: What `ps` shows of a supervisor with a run, and of one without.
_BUSY, _IDLE = "mesos-supervise", "mesos-launcher"

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

#: Room kept for the `status` record when the run starts, so that a full disk cannot lose it.
_STATUS_ROOM = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def set_process_name(name: str) -> None:
    """Set what `ps -o comm` shows (15 characters)."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def run(report: Report, pipe: int, channel: int, lock: int) -> NoReturn:
    """Wait for a launch `(number, request)` on `pipe`, supervise its run, then exit.

    `request` is of `launch.request_of`. Reports `("started", task pid, own pid)` with a pidfd, or
    `("failed", reason)`, and closes `lock` once the `pid` record is written. WAITED must be
    blocked. `channel` is what `report` sends on, which like `lock` is not for the task's process.

    Where the request says so, the agent's end of a `Line` goes with the pidfd: by it the end is
    told, and the next run comes.
    """
    number = 0
    try:
        _make_ready()
        task: TaskProcess | None = TaskProcess((pipe, channel, lock))
        message = take_over(pipe)
        if message is None:
            os._exit(0)
        number, request = message
        line = Line() if request["again"] else None
        own = _Own()
        one = _Supervisor(own, number, request, task, (channel, lock))
        report = _introducing(report, line)
        while one.run(report, lock) and line is not None:
            line.report(number, ("ended", one.record))
            set_process_name(_IDLE)
            task = one.successor((line.number,))
            following = line.next()
            if following is None:
                break
            number, request, lock = following
            report = line.report
            one = _Supervisor(own, number, request, task, (line.number, lock))
    except BaseException as error:  # noqa: BLE001 - a forked child must never return to the launcher
        report(number, ("failed", f"supervisor: {type(error).__name__}: {error}"))
        os._exit(1)
    os._exit(0)


def _introducing(report: Report, line: Line | None) -> Report:
    """`report` that sends with the start what the agent knows this process by from then on."""

    def told(number: int, message: tuple[Any, ...]) -> None:
        if message[0] != "started":
            report(number, message)
            return
        pidfd = os.pidfd_open(os.getpid())
        report(number, message, *((pidfd,) if line is None else (pidfd, line.theirs)))
        os.close(pidfd)
        if line is not None:
            line.hand_over()

    return told


def _make_ready() -> None:
    """A session, orphans of its tasks, and no file or directory of the launcher's."""
    os.setsid()
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.chdir("/")
    os.umask(0o022)
    for flags, fds in ((os.O_RDONLY, (0,)), (os.O_RDWR, (1, 2))):
        null = os.open(os.devnull, flags)
        for fd in fds:
            os.dup2(null, fd)
        os.close(null)


class _Own:
    """What stays of a supervisor from run to run."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.start_time = processes.start_time(self.pid)
        self.judge = spawn.Judge()
        self._entered: Sequence[str] = ()

    def enter(self, cgroups: Sequence[str]) -> None:
        """Enter the supervisors' cgroups, unless a run before has; raises Failure."""
        if cgroups != self._entered:
            for path in cgroups:
                enter_cgroup(path)
            self._entered = cgroups


class _Supervisor:
    """Of one run; `_task` is the pid of its task, 0 until it is known.

    `process` is forked ahead, or None. `record` is that of `status`, once it is written.
    """

    def __init__(
        self,
        own: _Own,
        number: int,
        request: dict[str, Any],
        process: TaskProcess | None,
        not_inherited: Sequence[int],
    ) -> None:
        self._own = own
        self._number = number
        self._request = request
        self._not_inherited = not_inherited
        self.process: TaskProcess | spawn.Spawned = (
            process if process is not None else self._make_process()
        )
        self._runtime: str = request["runtime"]
        self._cgroups: Sequence[str] = request["cgroups"]
        self._status_fd = -1
        self._task = self.process.pid
        self._wait_status: int | None = None
        self._killed = False
        self._escalated = False
        self._left = 0
        self._deadline: float | None = None
        self._keeper, self._terminal = 0, -1
        self._is_elsewhere = False
        self.record = b""

    def _make_process(self) -> TaskProcess | spawn.Spawned:
        if self._own.judge.can(self._request):
            return spawn.Spawned()
        return TaskProcess(self._not_inherited)

    def successor(self, not_inherited: Sequence[int]) -> TaskProcess | None:
        """Fork the next run's process ahead if it is as little to be spawned as this run's."""
        if isinstance(self.process, spawn.Spawned) or self._own.judge.can(self._request):
            return None
        return TaskProcess(not_inherited)

    def run(self, report: Report, lock: int) -> bool:
        """Whether the run was started, is over, and nothing is left of it."""
        while signal.sigtimedwait(WAITED, 0) is not None:
            pass  # what was meant for the spare, or the run before, is not for the run
        try:
            started_at = time.time()
            self._start(lock)
        except Failure as failure:
            self._close_terminal()
            self._end_all()
            self._write_status(f'"failure":{_quote(str(failure))},"ended_at":{time.time():.6f}')
            report(self._number, ("failed", str(failure)))
            return False
        report(self._number, ("started", self._task, self._own.pid))
        set_process_name(_BUSY)
        self._wait()
        self._write_status(
            f'"wait_status":{self._wait_status},"killed":{_bool(self._killed)},'
            f'"escalated":{_bool(self._escalated)},"oom":{_bool(self._ran_out_of_memory())},'
            f'"left":{self._left},'
            f'"started_at":{started_at:.6f},"ended_at":{time.time():.6f}'
        )
        return self._left == 0

    # -- start --------------------------------------------------------------------------------

    def _start(self, lock: int) -> None:
        """Record the run, then let the task exec; raises Failure if it did not come to that."""
        self._own.enter(self._request["supervisor_cgroups"])
        # First: what is forked after the next step is in the task's pid namespace, ends with it.
        self._make_terminal()
        if namespaces.wants_new_process(self._request):
            self._fork_anew()
        self._reserve_status()
        self._write_pid()
        os.close(lock)
        self.process.start(self._request)
        self._task = self.process.pid
        self._close_terminal()

    def _make_terminal(self) -> None:
        """The task's own terminal, if it wants one."""
        if self._request["terminal"] is None:
            return
        try:
            self._keeper, self._terminal, name = keeper.start(self._request)
        except (OSError, KeyError) as error:
            raise Failure(f"cannot make a terminal: {error}") from None
        self._request["stdio"], self._request["tty"] = (name, name, name), True

    def _close_terminal(self) -> None:
        """The task has it open, or never will: its keeper ends when nobody has."""
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def _fork_anew(self) -> None:
        """Have the task's process in another pid namespace than the one forked ahead is in."""
        self.process.discard()
        self._is_elsewhere = True
        try:
            below_init = namespaces.enter_pid(self._request)
        except namespaces.NamespaceError as error:
            raise Failure(str(error)) from None
        closed = [*self._not_inherited, *([self._terminal] if self._terminal >= 0 else [])]
        self.process = TaskProcess(
            closed, below_init=below_init, leads_group=not self._request["tty"]
        )
        self._task = self.process.pid

    def _reserve_status(self) -> None:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._status_fd = os.open(f"{self._runtime}/status.tmp", flags, 0o644)
            os.write(self._status_fd, b" " * _STATUS_ROOM)
        except OSError as error:
            raise Failure(f"cannot write to {self._runtime}: {error.strerror}") from None

    def _write_pid(self) -> None:
        own = self._own
        record = (
            f'{{"pid":{own.pid},"task":{self._task},"start_time":{own.start_time},'
            f'"boot":{_quote(self._request["boot"])},'
            f'"cgroups":[{",".join(_quote(path) for path in self._cgroups)}],'
            f'"container_id":{_quote(self._request["container_id"])}}}\n'
        )
        path = f"{self._runtime}/pid"
        try:
            fd = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, record.encode())
            finally:
                os.close(fd)
            os.rename(path + ".tmp", path)  # noqa: PTH104 - pathlib is not imported here
        except OSError as error:
            raise Failure(f"cannot write {path}: {error.strerror}") from None

    # -- wait and kill ------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until the task has ended and nothing that it left behind is alive."""
        while self._reap():
            if self._wait_status is not None and not self._killed and not self._was_told():
                break
            if self._deadline is not None and time.monotonic() >= self._deadline:
                if self._wait_status is None:
                    self._wait_status = self.process.status(None)
                self._escalated = self._escalated or self._wait_status is None
                break
            timeout = (
                3600.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            )
            info = signal.sigtimedwait(WAITED, timeout)
            if info is not None and info.si_signo == signal.SIGTERM:
                self._kill_gently()
        # Nothing is left that could be told, too.
        self._killed = self._killed or signal.sigtimedwait({signal.SIGTERM}, 0) is not None
        self._end_all()

    def _reap(self) -> bool:
        """Collect what has ended; False when no child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.process.child:
                    self._wait_status = self.process.status(status)
        except ChildProcessError:
            return False

    def _was_told(self) -> bool:
        """Whether a kill came before the end was seen: for a supervisor that had to wait for a
        processor, both are there at once."""
        if signal.sigtimedwait({signal.SIGTERM}, 0) is None:
            return False
        self._kill_gently()
        return True

    def _kill_gently(self) -> None:
        self._killed = True
        deadline = self._asked_deadline()
        first = self._deadline is None
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        if first:
            # Looked for before anything is told to end: what loses its parent moves in the tree
            # meanwhile, and what is forked now may be the clean-up of one that has been told.
            everyone = processes.everyone_below(os.getpid())
            outside = {pid for pid in everyone if processes.group_of(pid) != self._task}
            if self.process.child != self._task:
                processes.send(self.process.child, signal.SIGTERM)  # init, which ends gently then
            processes.send_group(self._task, signal.SIGTERM)
            for pid in everyone:
                # Those, too, that have left the group since, to become daemons.
                if pid in outside or processes.group_of(pid) != self._task:
                    processes.send(pid, signal.SIGTERM)
            processes.send_group(self._task, signal.SIGCONT)  # a stopped task could not react

    def _asked_deadline(self) -> float:
        """Monotonic time of the KILL: of the agent's `kill` file, else the request's grace."""
        try:
            return float(processes.read(f"{self._runtime}/kill"))
        except (OSError, ValueError):
            return time.monotonic() + float(self._request["grace_s"])

    def _end_all(self) -> None:
        """KILL what is left until nothing is; gives up only on what may not be signalled."""
        pause_s, give_up = _FIRST_ROUND_S, time.monotonic() + _LAST_WORDS_S
        while self._reap():
            for path in self._cgroups:
                processes.kill_cgroup(path)
            if self._wait_status is None:
                processes.send_group(self._task, signal.SIGKILL)
            for pid in processes.descendants(os.getpid()):
                if pid != self._keeper:
                    processes.send(pid, signal.SIGKILL)
            children = [c for c in processes.children_of(os.getpid()) if c != self._keeper]
            if not children and time.monotonic() > give_up:
                processes.send(self._keeper, signal.SIGKILL)  # another has the terminal open
            self._left = sum(not processes.send(pid, signal.SIGKILL) for pid in children)
            if children and self._left == len(children) and self._wait_status is not None:
                return  # set-user-id programs under an agent that is not root
            signal.sigtimedwait({signal.SIGCHLD}, pause_s)
            pause_s = min(2 * pause_s, _LAST_ROUND_S)
        self._left = 0
        self._end_strays()

    def _end_strays(self) -> None:
        """KILL what this run daemonised in the pid namespace of the run beside, whose init has it.

        Found by the mark in its environment.
        """
        if self._request["beside"] is None or not self._is_elsewhere:
            return
        mark = f"{RUN_MARKER}={self._request['container_id']}"
        empty_looks = 0
        for _ in range(_STRAY_ROUNDS):
            found = [
                pid
                for pid in processes.everyone_below(self._request["beside"][0])
                if mark in processes.environment(pid)
            ]
            # What is about to exec has no environment: one look does not see it.
            empty_looks = 0 if found else empty_looks + 1
            if empty_looks == _EMPTY_LOOKS:
                return
            for pid in found:
                processes.send(pid, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, _FIRST_ROUND_S)

    # -- end ----------------------------------------------------------------------------------

    def _ran_out_of_memory(self) -> bool:
        path = self._request["oom_events"]
        if path is None:
            return False
        try:
            fields = processes.read(path).split()
        except OSError:
            return False
        counts = dict(zip(fields[::2], fields[1::2], strict=False))
        return int(counts.get("oom_kill", "0")) > 0

    def _write_status(self, fields: str) -> None:
        record = f"{{{fields}}}\n".encode()
        path = f"{self._runtime}/status"
        if self._status_fd < 0:
            return  # its directory cannot be written to; the answer to the agent says so
        os.pwrite(self._status_fd, record, 0)
        os.ftruncate(self._status_fd, len(record))
        os.close(self._status_fd)
        os.rename(path + ".tmp", path)  # noqa: PTH104 - pathlib is not imported here
        self.record = record


# -- records and reports ------------------------------------------------------------------------


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _quote(text: str) -> str:
    """A JSON string; the json module is not imported here. Outside the BMP becomes `?`."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_quoted_character, text)) + '"'


def _quoted_character(c: str) -> str:
    if " " <= c <= "~" and c not in '"\\':
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0xD800 or 0xDFFF < ord(c) <= 0xFFFF else "?"
