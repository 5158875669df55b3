"""The supervisor: one small process per run, forked by the launcher, that outlives the agent.

::

    forked ─▶ session, task's process ─▶ idle ─ request ─▶ cgroup ─▶ `pid` record ─▶ task execs
                                          │ launcher ends             exec fails │      │ it ends
                                          ▼                                      ▼      ▼
                                        gone                  `status` {failure}  the rest is killed
                                                                                        ▼
    SIGTERM: TERM to the task's group and its other descendants       `status` {wait_status}
             … grace … KILL to all of them, and to the cgroup

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
import marshal
import os
import pwd
import resource
import signal
import time
import warnings  # noqa: F401 - os.execvpe imports it, as a user who may not read our files

from mesostk.agent import processes

TYPE_CHECKING = False  # as in launcher.py
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    #: Sends the agent, as far as it listens, a message about launch number n, with file
    #: descriptors. After the first call nothing is open any more.
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

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

#: Room kept for the `status` record when the run starts, so that a full disk cannot lose it.
_STATUS_ROOM = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class _Failure(Exception):
    """The task cannot be started, for the reason given."""


def set_process_name(name: str) -> None:
    """Set what `ps -o comm` shows (15 characters)."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def hand_over(pipe: int, message: Any) -> None:
    """Write one message of plain objects and close the pipe. Raises OSError if nobody reads it."""
    body = marshal.dumps(message)
    rest = memoryview(len(body).to_bytes(4, "big") + body)
    try:
        while rest:
            rest = rest[os.write(pipe, rest) :]
    finally:
        os.close(pipe)


def _take_over(pipe: int) -> Any:
    """The message of `hand_over`; None if whoever was to send it ended before it was whole."""
    data = b""
    while piece := os.read(pipe, 65536):
        data += piece
    os.close(pipe)
    body = data[4:]
    return marshal.loads(body) if len(body) == int.from_bytes(data[:4], "big") > 0 else None  # noqa: S302 - from our own launcher


def run(report: Report, pipe: int, channel: int, lock: int) -> NoReturn:
    """Wait for a launch `(number, request)` on `pipe`, supervise its run, then exit.

    `request` is of `launch.request_of`. Reports `("started", task pid, own pid)` with a pidfd, or
    `("failed", reason)`, and closes `lock` once the `pid` record is written. WAITED must be
    blocked. `channel` is what `report` sends on, which like `lock` is not for the task's process.
    """
    number = 0
    try:
        os.setsid()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        task = _TaskProcess((pipe, channel, lock))
        message = _take_over(pipe)
        if message is None:
            os._exit(0)
        number, request = message
        while signal.sigtimedwait(WAITED, 0) is not None:
            pass  # what was meant for the spare is not for the run
        _Supervisor(request, task).run(lambda *told: report(number, *told), lock)
    except BaseException as error:  # noqa: BLE001 - a forked child must never return to the launcher
        report(number, ("failed", f"supervisor: {type(error).__name__}: {error}"))
        os._exit(1)
    os._exit(0)


class _TaskProcess:
    """The process that will exec the task, forked ahead. `pid` is 0 if there is none.

    It waits for the request on a pipe, and ends if that closes first.
    """

    def __init__(self, not_inherited: Sequence[int]) -> None:
        self.pid = 0
        self._refused = ""
        take, self._hand = os.pipe()
        self._why, why = os.pipe()
        try:
            self.pid = os.fork()
        except OSError as error:
            self._refused = f"cannot fork the task: {error.strerror}"
        if self.pid == 0 and not self._refused:
            for fd in (*not_inherited, self._hand, self._why):
                os.close(fd)
            _await_task(take, why)
        os.close(take)
        os.close(why)

    def start(self, request: dict[str, Any]) -> None:
        """Returns when the task has exec'ed; raises _Failure if it does not come to that."""
        if self._refused:
            raise _Failure(self._refused)
        try:
            hand_over(self._hand, request)
        except OSError:
            raise _Failure("the task's process was killed before it could start") from None
        why = os.read(self._why, 4096)
        os.close(self._why)
        if why:
            raise _Failure(why.decode(errors="replace"))


class _Supervisor:
    """Of one run; `_task` is the pid of its task."""

    def __init__(self, request: dict[str, Any], task: _TaskProcess) -> None:
        self._request = request
        self._process = task
        self._runtime: str = request["runtime"]
        self._cgroups: Sequence[str] = request["cgroups"]
        self._status_fd = -1
        self._task = task.pid
        self._wait_status: int | None = None
        self._killed = False
        self._escalated = False
        self._left = 0
        self._deadline: float | None = None

    def run(self, report: Callable[..., None], lock: int) -> None:
        try:
            started_at = time.time()
            self._start(lock)
        except _Failure as failure:
            self._end_all()
            self._write_status(f'"failure":{_quote(str(failure))},"ended_at":{time.time():.6f}')
            report(("failed", str(failure)))
            return
        pidfd = os.pidfd_open(os.getpid())
        report(("started", self._task, os.getpid()), pidfd)
        os.close(pidfd)
        set_process_name("mesos-supervise")
        self._wait()
        self._write_status(
            f'"wait_status":{self._wait_status},"killed":{_bool(self._killed)},'
            f'"escalated":{_bool(self._escalated)},"oom":{_bool(self._ran_out_of_memory())},'
            f'"left":{self._left},'
            f'"started_at":{started_at:.6f},"ended_at":{time.time():.6f}'
        )

    # -- start --------------------------------------------------------------------------------

    def _start(self, lock: int) -> None:
        """Record the run, then let the task exec; raises _Failure if it did not come to that."""
        for path in self._request["supervisor_cgroups"]:
            _enter_cgroup(path)
        self._reserve_status()
        self._write_pid()
        os.close(lock)
        self._process.start(self._request)

    def _reserve_status(self) -> None:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._status_fd = os.open(f"{self._runtime}/status.tmp", flags, 0o644)
            os.write(self._status_fd, b" " * _STATUS_ROOM)
        except OSError as error:
            raise _Failure(f"cannot write to {self._runtime}: {error.strerror}") from None

    def _write_pid(self) -> None:
        pid = os.getpid()
        record = (
            f'{{"pid":{pid},"start_time":{processes.start_time(pid)},'
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
            raise _Failure(f"cannot write {path}: {error.strerror}") from None

    # -- wait and kill ------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until the task has ended and nothing that it left behind is alive."""
        while self._reap():
            if self._wait_status is not None and not self._killed:
                break
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._escalated = self._escalated or self._wait_status is None
                break
            timeout = (
                3600.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            )
            info = signal.sigtimedwait(WAITED, timeout)
            if info is not None and info.si_signo == signal.SIGTERM:
                self._kill_gently()
        self._end_all()

    def _reap(self) -> bool:
        """Collect what has ended; False when no child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._task:
                    self._wait_status = status
        except ChildProcessError:
            return False

    def _kill_gently(self) -> None:
        self._killed = self._killed or self._wait_status is None
        deadline = self._asked_deadline()
        first = self._deadline is None
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        if first:
            processes.send_group(self._task, signal.SIGTERM)
            for pid in processes.descendants(os.getpid()):
                if processes.group_of(pid) != self._task:
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
        pause_s = _FIRST_ROUND_S
        while self._reap():
            for path in self._cgroups:
                processes.kill_cgroup(path)
            if self._wait_status is None:
                processes.send_group(self._task, signal.SIGKILL)
            for pid in processes.descendants(os.getpid()):
                processes.send(pid, signal.SIGKILL)
            children = processes.children_of(os.getpid())
            self._left = sum(not processes.send(pid, signal.SIGKILL) for pid in children)
            if children and self._left == len(children) and self._wait_status is not None:
                return  # set-user-id programs under an agent that is not root
            signal.sigtimedwait({signal.SIGCHLD}, pause_s)
            pause_s = min(2 * pause_s, _LAST_ROUND_S)
        self._left = 0

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
        os.rename(path + ".tmp", path)  # noqa: PTH104 - pathlib is not imported here


# -- the task's side of the fork ----------------------------------------------------------------


def _await_task(take: int, why: int) -> NoReturn:
    """Turn into the task when the request comes; on failure tell `why` and exit."""
    try:
        # A group of its own in the supervisor's session: the session is known before the fork, so
        # that the `pid` record can be written first and still leads to the task.
        os.setpgid(0, 0)
        request = _take_over(take)
        if request is None:
            os._exit(0)
        _prepare(request)
        executable = request["executable"]
        try:
            os.execvpe(executable, request["argv"], request["env"])  # noqa: S606 - it is the point
        except OSError as error:
            raise _Failure(f"cannot execute '{executable}': {error.strerror}") from None
    except _Failure as failure:
        text = str(failure)
    except BaseException as error:  # noqa: BLE001 - must not return into the supervisor's code
        text = f"cannot start the task: {type(error).__name__}: {error}"
    os.write(why, text.encode(errors="replace")[:4096])
    os._exit(127)


def _prepare(request: dict[str, Any]) -> None:
    """Cgroups, limits, user, directory, files, signals: in the order in which rights vanish."""
    for path in (*request["joined_cgroups"], *request["cgroups"]):
        _enter_cgroup(path)
    stdio = _open_stdio(request["stdio"], request["tty"])
    for kind, soft, hard in request["rlimits"]:
        try:
            resource.setrlimit(kind, (soft, hard))
        except (OSError, ValueError) as error:
            raise _Failure(f"cannot set resource limit {kind} to {soft}/{hard}: {error}") from None
    _become_user(request["user"])
    _become_ordinary_for_oom_killer()
    os.umask(0o022)
    _at(os.chdir, request["cwd"], "change to directory")
    if stdio:
        for fd, opened in enumerate(stdio):
            os.dup2(opened, fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Opened as the user and not through a link: a sandbox's files are the user's own.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    for fd, key in ((1, "stdout"), (2, "stderr")):
        opened = _at(lambda path: os.open(path, flags, 0o644), request[key], "open")
        os.dup2(opened, fd)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _open_stdio(paths: Sequence[str] | None, tty: bool) -> list[int]:
    """What the agent reads and writes, opened before the rights to do so are given up.

    A terminal becomes the controlling one of a session of its own.
    """
    if paths is None:
        return []
    if tty:
        os.setpgid(0, os.getpgid(os.getppid()))  # the leader of a group cannot make a session
        os.setsid()
    flags = [os.O_RDWR] * 3 if tty else [os.O_RDONLY, os.O_WRONLY, os.O_WRONLY]
    return [
        _at(lambda path, flag=flag: os.open(path, flag | os.O_CLOEXEC), path, "open")
        for path, flag in zip(paths, flags, strict=True)
    ]


def _become_user(user: str | None) -> None:
    if user is None:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise _Failure(f"user '{user}' does not exist on this host") from None
    if os.geteuid() != 0:
        if entry.pw_uid == os.geteuid():
            return
        raise _Failure(f"cannot become user '{user}': the agent does not run as root")
    try:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as error:
        raise _Failure(f"cannot become user '{user}': {error.strerror}") from None


def _become_ordinary_for_oom_killer() -> None:
    """The agent's unit may be protected; a task must not inherit that."""
    try:
        if int(processes.read("/proc/self/oom_score_adj")) < 0:
            processes.write("/proc/self/oom_score_adj", "0")
    except OSError:
        return  # a kernel without it protects nobody


def _at(act: Any, path: str, verb: str) -> Any:
    try:
        return act(path)
    except OSError as error:
        raise _Failure(f"cannot {verb} {path}: {error.strerror}") from None


def _enter_cgroup(path: str) -> None:
    """Put this process, which has one thread, into a cgroup.

    By v1's `tasks` where there is one: moving a single thread takes no lock, while `cgroup.procs`
    waits until no process of the host is forking or exiting, which is an RCU grace period of
    several milliseconds for each controller.
    """
    try:
        try:
            processes.write(f"{path}/tasks", "0")
        except FileNotFoundError:
            processes.write(f"{path}/cgroup.procs", "0")
    except OSError as error:
        raise _Failure(f"cannot enter cgroup {path}: {error.strerror}") from None


# -- records and reports ------------------------------------------------------------------------


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _quote(text: str) -> str:
    """A JSON string; the json module is not imported here. Outside the BMP becomes `?`."""
    return '"' + "".join(map(_quoted_character, text)) + '"'


def _quoted_character(c: str) -> str:
    if " " <= c <= "~" and c not in '"\\':
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0xD800 or 0xDFFF < ord(c) <= 0xFFFF else "?"
