"""A task started without a fork: where no Python is needed between fork and exec.

::

    supervisor ─ directory, output files opened ─ posix_spawn (vfork, exec) ─▶ task
               ◀──────────── waits; an error of the exec is an error here ───┘

A fork copies what either side touches next, a few hundred pages, for a process that lives for a
millisecond. `posix_spawn` lends its own memory instead, and does between fork and exec what a
table can say: process group, signals, files. What it cannot is for `TaskProcess`: cgroups, limits,
another user, namespaces, a terminal.

Imports nothing but small modules of the standard library: see launcher.py.
"""

from __future__ import annotations

import errno
import os
import pwd
import time

from mesostk.agent import processes
from mesostk.agent.task_process import (
    IGNORED_BY_AGENT,
    OUTPUT_FLAGS,
    Failure,
    not_executable,
    perform,
)

TYPE_CHECKING = False  # as in frames.py
if TYPE_CHECKING:
    from typing import Any

#: For how long what the host says of a user is remembered, in seconds.
_LOOKED_UP_S = 10.0

#: What a request must leave empty.
_NOT_BY_TABLE = (
    "cgroups", "joined_cgroups", "rlimits", "namespaces", "mounts", "stdio", "terminal", "beside",
    "shm_mib", "ipc", "tty", "no_new_privileges", "oom_score_adj",
)  # fmt: skip


class Judge:
    """What can be spawned by this process."""

    def __init__(self) -> None:
        self._is_protected = _is_protected()
        self._own: dict[str, float] = {}

    def can(self, request: dict[str, Any]) -> bool:
        """Whether the task of `request` can be started by `Spawned`."""
        if self._is_protected or not request["argv"] or not request["argv"][0]:
            return False
        if any(request[key] not in (None, False, [], ()) for key in _NOT_BY_TABLE):
            return False
        return self._is_own(request["user"])

    def _is_own(self, user: str | None) -> bool:
        """Whether becoming `user` would change nothing."""
        if user is None:
            return True
        now = time.monotonic()
        if self._own.get(user, -_LOOKED_UP_S) + _LOOKED_UP_S > now:
            return True
        if not _is_own(user):
            return False
        self._own[user] = now
        return True


class Spawned:
    """The task's process, with what `TaskProcess` shows; its pid is known once it has exec'ed."""

    def __init__(self) -> None:
        self.pid = self.child = 0

    def start(self, request: dict[str, Any]) -> None:
        """Returns when the task has exec'ed; raises Failure if it does not come to that.

        Leaves the current directory of this process in `/`.
        """
        try:
            perform(os.chdir, request["cwd"], "change to directory")
            self.pid = self.child = _with_output(request)
        finally:
            os.chdir("/")

    def status(self, of_child: int | None) -> int | None:
        """The task's wait status, which is that of `child`."""
        return of_child

    def discard(self) -> None:
        """There is nothing yet."""


def _with_output(request: dict[str, Any]) -> int:
    # Not through a link: a sandbox's files are the user's own.
    out = perform(_open_output, request["stdout"], "open")
    try:
        err = perform(_open_output, request["stderr"], "open")
        try:
            return _exec(request, ((os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)))
        finally:
            os.close(err)
    finally:
        os.close(out)


def _open_output(path: str) -> int:
    return os.open(path, OUTPUT_FLAGS, 0o644)


def _exec(request: dict[str, Any], files: tuple[tuple[int, int, int], ...]) -> int:
    """As `os.execvpe` looks for the program; stdin is ours, /dev/null."""
    name: str = request["executable"]
    refused: OSError | None = None
    for path in _candidates(name, request["env"]):
        try:
            if path is not name:
                os.stat(path)  # noqa: PTH116 - a try of the exec costs more
            return os.posix_spawn(
                path,
                request["argv"],
                request["env"],
                file_actions=files,
                setpgroup=0,
                setsigmask=(),
                setsigdef=IGNORED_BY_AGENT,
            )
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise Failure(f"cannot fork the task: {error.strerror}") from None
            if refused is None or refused.errno in (errno.ENOENT, errno.ENOTDIR):
                refused = error
    raise not_executable(name, refused)


def _candidates(name: str, env: dict[str, str]) -> list[str]:
    if "/" in name:
        return [name]
    return [os.path.join(place, name) for place in os.get_exec_path(env)]  # noqa: PTH118


def _is_own(user: str) -> bool:
    """Errors are for who tries."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return False
    if os.getresuid() != (entry.pw_uid,) * 3:
        return False
    if entry.pw_uid != 0:
        return True  # which is all that can be asked for without root
    if os.getresgid() != (entry.pw_gid,) * 3:
        return False
    return {entry.pw_gid, *os.getgroups()} == set(os.getgrouplist(user, entry.pw_gid))


def _is_protected() -> bool:
    """From the OOM killer, as the agent's unit may be and its tasks shall not."""
    try:
        return int(processes.read("/proc/self/oom_score_adj")) < 0
    except OSError:
        return False  # a kernel without it protects nobody
