"""The process that becomes a run's task: forked ahead, told what to be, and what it does to be it.

::

    supervisor ── fork ─▶ waits ─ request ─▶ cgroups, namespaces, limits, user, files ─▶ exec
               └─ fork ─▶ init ── fork ─▶ the same, where the run has a pid namespace of its own

Imports nothing but small modules of the standard library: see launcher.py.
"""

from __future__ import annotations

import errno
import marshal
import os
import pwd
import resource
import signal
import warnings  # noqa: F401 - os.execvpe imports it, as a user who may not read our files

from mesostk.agent import namespaces, processes

TYPE_CHECKING = False  # as in launcher.py
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


#: What the agent was started to ignore (`nohup`, `&`), which its tasks shall not, too.
IGNORED_BY_AGENT = tuple(
    number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN
)

#: How a task's stdout and stderr are opened: as the user and not through a link, for a sandbox's
#: files are the user's own.
OUTPUT_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Failure(Exception):
    """The task cannot be started, for the reason given."""


def not_executable(executable: str, error: OSError | None) -> Failure:
    """What exec says of `executable`."""
    why = error.strerror if error is not None else os.strerror(errno.ENOENT)
    return Failure(f"cannot execute '{executable}': {why}")


def hand_over(pipe: int, message: Any) -> None:
    """Write one message of plain objects and close the pipe. Raises OSError if nobody reads it."""
    body = marshal.dumps(message)
    rest = memoryview(len(body).to_bytes(4, "big") + body)
    try:
        while rest:
            rest = rest[os.write(pipe, rest) :]
    finally:
        os.close(pipe)


def take_over(pipe: int) -> Any:
    """The message of `hand_over`; None if whoever was to send it ended before it was whole."""
    data = b""
    while piece := os.read(pipe, 65536):
        data += piece
    os.close(pipe)
    body = data[4:]
    return marshal.loads(body) if len(body) == int.from_bytes(data[:4], "big") > 0 else None  # noqa: S302 - from our own launcher


class TaskProcess:
    """The process that will exec the task, forked ahead. `pid` is 0 if there is none.

    It waits for the request on a pipe, and ends if that closes first. `child` is what the
    supervisor waits for: the process itself, or the init of its pid namespace.
    """

    def __init__(
        self, not_inherited: Sequence[int], *, below_init: bool = False, leads_group: bool = True
    ) -> None:
        self.pid = self.child = 0
        self._refused = ""
        self._told = -1
        self._status: int | None = None
        take, self._hand = os.pipe()
        self._why, why = os.pipe()
        told, tell = os.pipe() if below_init else (-1, -1)
        try:
            self.child = os.fork()
        except OSError as error:
            self._refused = f"cannot fork the task: {error.strerror}"
        if self.child == 0 and not self._refused:
            for fd in (*not_inherited, self._hand, self._why):
                os.close(fd)
            if below_init:
                os.close(told)
                namespaces.become_init(tell, (take, why))
            _await_task(take, why, leads_group=leads_group)
        os.close(take)
        os.close(why)
        self.pid = self.child
        if below_init:
            os.close(tell)
            self._told = told
            self._find_task()

    def _find_task(self) -> None:
        """Init's first child, once it is there: by the number that it has out here."""
        found = processes.children_of(self.child) if os.read(self._told, 1) else []
        os.set_blocking(self._told, False)
        if found:
            self.pid = found[0]
        elif not self._refused:
            self._refused = "cannot fork the task in its pid namespace"

    def discard(self) -> None:
        """Let a process that has no request end."""
        os.close(self._hand)
        os.close(self._why)
        if self.child:
            os.waitpid(self.child, 0)

    def status(self, of_child: int | None) -> int | None:
        """The task's wait status, given that of `child`, None while that lives."""
        if self._status is None and self._told >= 0:
            try:
                said = os.read(self._told, 16)
            except BlockingIOError:
                said = b""
            self._status = int(said) if said else None
        return self._status if self._status is not None else of_child

    def start(self, request: dict[str, Any]) -> None:
        """Returns when the task has exec'ed; raises Failure if it does not come to that."""
        if self._refused:
            raise Failure(self._refused)
        try:
            hand_over(self._hand, request)
        except OSError:
            raise Failure("the task's process was killed before it could start") from None
        why = os.read(self._why, 4096)
        os.close(self._why)
        if why:
            raise Failure(why.decode(errors="replace"))


# -- the task's side of the fork ----------------------------------------------------------------


def _await_task(take: int, why: int, *, leads_group: bool) -> NoReturn:
    """Turn into the task when the request comes; on failure tell `why` and exit."""
    try:
        # A group of its own in the supervisor's session: the session is known before the fork, so
        # that the `pid` record can be written first and still leads to the task.
        if leads_group:
            os.setpgid(0, 0)
        request = take_over(take)
        if request is None:
            os._exit(0)
        _prepare(request)
        executable = request["executable"]
        try:
            os.execvpe(executable, request["argv"], request["env"])  # noqa: S606 - it is the point
        except OSError as error:
            raise not_executable(executable, error) from None
    except (Failure, namespaces.NamespaceError) as failure:
        text = str(failure)
    except BaseException as error:  # noqa: BLE001 - must not return into the supervisor's code
        text = f"cannot start the task: {type(error).__name__}: {error}"
    os.write(why, text.encode(errors="replace")[:4096])
    os._exit(127)


def _prepare(request: dict[str, Any]) -> None:
    """Cgroups, limits, user, directory, files, signals: in the order in which rights vanish."""
    for path in (*request["joined_cgroups"], *request["cgroups"]):
        enter_cgroup(path)
    stdio = _open_stdio(request["stdio"], request["tty"])
    namespaces.isolate(request)
    for kind, soft, hard in request["rlimits"]:
        try:
            resource.setrlimit(kind, (soft, hard))
        except (OSError, ValueError) as error:
            raise Failure(f"cannot set resource limit {kind} to {soft}/{hard}: {error}") from None
    _stand_before_oom_killer(request["oom_score_adj"])  # /proc/self is root's after the next step
    _become_user(request["user"])
    os.umask(0o022)
    perform(os.chdir, request["cwd"], "change to directory")
    if stdio:
        for fd, opened in enumerate(stdio):
            os.dup2(opened, fd)
        _take_signals()
        return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for fd, key in ((1, "stdout"), (2, "stderr")):
        opened = perform(lambda path: os.open(path, OUTPUT_FLAGS, 0o644), request[key], "open")
        os.dup2(opened, fd)
    _take_signals()


def _take_signals() -> None:
    """As a program expects them."""
    for number in IGNORED_BY_AGENT:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _open_stdio(paths: Sequence[str] | None, tty: bool) -> list[int]:
    """What the agent reads and writes, opened before the rights to do so are given up.

    A terminal becomes the controlling one of a session of its own.
    """
    if paths is None:
        return []
    if tty:
        if os.getpgrp() == os.getpid():
            os.setpgid(0, os.getpgid(os.getppid()))  # the leader of a group cannot make a session
        os.setsid()
    flags = [os.O_RDWR] * 3 if tty else [os.O_RDONLY, os.O_WRONLY, os.O_WRONLY]
    return [
        perform(lambda path, flag=flag: os.open(path, flag | os.O_CLOEXEC), path, "open")
        for path, flag in zip(paths, flags, strict=True)
    ]


def _become_user(user: str | None) -> None:
    if user is None:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Failure(f"user '{user}' does not exist on this host") from None
    if os.geteuid() != 0:
        if entry.pw_uid == os.geteuid():
            return
        raise Failure(f"cannot become user '{user}': the agent does not run as root")
    try:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as error:
        raise Failure(f"cannot become user '{user}': {error.strerror}") from None


def _stand_before_oom_killer(wanted: int | None) -> None:
    """The agent's unit may be protected; a task must not inherit that. Nor go below what is its."""
    try:
        present = int(processes.read("/proc/self/oom_score_adj"))
        score = max(0, present, wanted if wanted is not None else 0)
        if score != present:
            processes.write("/proc/self/oom_score_adj", str(score))
    except OSError:
        return  # a kernel without it protects nobody


def perform(act: Any, path: str, verb: str) -> Any:
    """`act` on `path`; raises Failure with the verb and the path."""
    try:
        return act(path)
    except OSError as error:
        raise Failure(f"cannot {verb} {path}: {error.strerror}") from None


def enter_cgroup(path: str) -> None:
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
        raise Failure(f"cannot enter cgroup {path}: {error.strerror}") from None
