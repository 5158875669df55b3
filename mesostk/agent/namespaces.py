"""A run's own namespaces: made before its task execs, joined by whatever is started beside it.

::

    pid   the supervisor unshares, forks a small init (process 1), which forks the task
    ipc   the task's process unshares; a /dev/shm of its own goes with it. Or it joins the one that
          its group shares (shared_ipc.py)
    mnt   the task's process unshares, mounts what it is told, and /proc of its pid namespace

Init stays outside of the run's cgroups, like the supervisor: when the kernel kills a task for its
memory, init still sees how it ended. It reaps what the task orphaned; when it ends, the kernel
kills all that is left.

Imports nothing but small modules of the standard library: see launcher.py.
"""

from __future__ import annotations

import ctypes
import os
import signal

from mesostk.agent import processes

TYPE_CHECKING = False  # as in launcher.py
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

#: Flags of unshare(2) and setns(2), by the names in /proc/<pid>/ns.
FLAGS = {"mnt": 0x00020000, "ipc": 0x08000000, "pid": 0x20000000}

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 0x20, 0x1000, 0x4000, 0x80000

_MNT_DETACH = 0x2

_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """A namespace cannot be made or joined, for the reason given."""


def wants_new_process(request: dict[str, Any]) -> bool:
    """Whether the task must be forked anew, in another pid namespace than the supervisor's."""
    beside = request["beside"]
    if beside is None:
        return "pid" in request["namespaces"]
    return _is_another(beside[1], "pid")


def enter_pid(request: dict[str, Any]) -> bool:
    """Have the next child forked in a pid namespace of its own, or in that of the run beside.

    True if it becomes process 1. Raises NamespaceError.
    """
    if "pid" in request["namespaces"]:
        _unshare("pid")
        return True
    _join(request["beside"], ("pid",))
    return False


def isolate(request: dict[str, Any]) -> None:
    """Give this process, the task's, the namespaces and mounts of its run. Raises NamespaceError.

    What it opened before stays open, whatever is mounted over it.
    """
    if request["beside"] is not None:
        _join(request["beside"], ("ipc", "mnt"))
        return
    own = request["namespaces"]
    if request["ipc"] is not None:
        _enter(request["ipc"], "ipc")
    elif "ipc" in own:
        _unshare("ipc")
    if "mnt" in own:
        _unshare("mnt")
        # What the host mounts later is seen here, and nothing that is mounted here by the host.
        _mount("none", "/", None, _MS_REC | _MS_SLAVE)
        for source, target, read_only in request["mounts"]:
            _mount(source, target, None, _MS_BIND | _MS_REC)
            if read_only:
                _mount("none", target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        if request["shm_mib"] is not None:
            mount_shm("/dev/shm", request["shm_mib"])  # noqa: S108 - the system's place
        if "pid" in own:
            _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if request["no_new_privileges"] and _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise NamespaceError(f"cannot give up new privileges: {_why()}")


def become_init(told: int, closed: Sequence[int]) -> None:
    """Fork the task's process and return in it; the caller itself stays behind as process 1.

    `told` hears of a byte once the process is forked, and of its wait status; `closed` are
    descriptors that only the task's process needs. Raises OSError if it cannot be forked.
    """
    pid = os.fork()
    if pid == 0:
        os.close(told)
        return
    for fd in closed:
        os.close(fd)
    os.write(told, b"\n")
    _libc.prctl(15, b"mesos-init", 0, 0, 0)
    _serve(pid, told)


def _serve(task: int, told: int) -> NoReturn:
    """Reap until the task has ended; once told to end gently, until nothing is left."""
    is_over = is_gentle = False
    while True:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == task:
                    is_over = True
                    os.write(told, str(status).encode())
        except ChildProcessError:
            os._exit(0)
        # The supervisor says it to init before it does to the task: then it is there by now.
        is_gentle = is_gentle or _is_told(0.0)
        if is_over and not is_gentle:
            os._exit(0)
        is_gentle = _is_told(3600.0) or is_gentle


def _is_told(timeout_s: float) -> bool:
    """Whether the supervisor says TERM; waits for that, or for a child to end.

    From outside the namespace a sender has no number: nobody inside can say it.
    """
    numbers = {signal.SIGTERM, signal.SIGCHLD} if timeout_s else {signal.SIGTERM}
    info = signal.sigtimedwait(numbers, timeout_s)
    return info is not None and info.si_signo == signal.SIGTERM and info.si_pid == 0


def _join(beside: Sequence[int], kinds: Sequence[str]) -> None:
    """Enter namespaces of the task `beside[1]`, as far as they are others than ours."""
    supervisor, task = beside
    opened = []
    try:
        for kind in kinds:
            if _is_another(task, kind):
                path = f"/proc/{task}/ns/{kind}"
                opened.append((kind, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
        # Asked after opening: a number that has come to mean another process is not below it. A
        # process that has left the supervisor's pid namespace sees neither.
        if opened and "pid" in kinds and task not in processes.descendants(supervisor):
            raise NamespaceError("the container has ended")
    except OSError as error:
        raise NamespaceError(f"cannot look at the container: {error.strerror}") from None
    for kind, fd in opened:
        if _libc.setns(fd, FLAGS[kind]) != 0:
            raise NamespaceError(f"cannot enter the {kind} namespace: {_why()}")
        os.close(fd)


def _enter(path: str, kind: str) -> None:
    """Enter the namespace that is bound to `path`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceError(f"cannot open {path}: {error.strerror}") from None
    try:
        if _libc.setns(fd, FLAGS[kind]) != 0:
            raise NamespaceError(f"cannot enter the {kind} namespace: {_why()}")
    finally:
        os.close(fd)


def _is_another(task: int, kind: str) -> bool:
    """Whether a process is in another namespace than this one; not, if it has ended."""
    try:
        theirs = os.readlink(f"/proc/{task}/ns/{kind}")  # noqa: PTH115 - no pathlib here
    except OSError:
        return False
    return theirs != os.readlink(f"/proc/self/ns/{kind}")  # noqa: PTH115 - as above


def _unshare(kind: str) -> None:
    if _libc.unshare(FLAGS[kind]) != 0:
        raise NamespaceError(f"cannot make a {kind} namespace: {_why()}")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    coded = kind.encode() if kind is not None else None
    done = _libc.mount(
        os.fsencode(source), os.fsencode(target), coded, ctypes.c_ulong(flags), options.encode()
    )
    if done != 0:
        raise NamespaceError(f"cannot mount {source} at {target}: {_why()}")


def mount_shm(target: str, size_mib: int) -> None:
    """Mount a new /dev/shm at `target`; 0 for the kernel's size. Raises NamespaceError."""
    options = "mode=1777" + (f",size={size_mib}m" if size_mib else "")
    _mount("shm", target, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)


def keep_new_ipc(path: str) -> None:
    """Put the calling thread in a new IPC namespace, kept by a mount at the file `path` when the
    thread has ended. Raises NamespaceError."""
    _unshare("ipc")
    _mount("/proc/thread-self/ns/ipc", path, None, _MS_BIND)


def unmount(path: str) -> None:
    """Unmount `path` from here; who uses it goes on. Raises NamespaceError."""
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        raise NamespaceError(f"cannot unmount {path}: {_why()}")


def _why() -> str:
    return os.strerror(ctypes.get_errno())


def attempt(kind: str) -> None:
    """Make one namespace, to see whether it can be had; exits with the reason if not."""
    try:
        _unshare(kind)
        if kind == "mnt":
            _mount("none", "/", None, _MS_REC | _MS_SLAVE)
    except NamespaceError as error:
        raise SystemExit(str(error)) from None
