"""Keeps tasks from filling the disk: their output is rotated by size, their usage may be limited.

::

    every _ROTATE_S   stdout, stderr larger than --container_log_size ─▶ their head goes to stdout.1
    every --container_disk_watch_interval   du of each sandbox ─▶ statistics
                                            above the task's disk, if enforced ─▶ DiskExceeded

The task has its output open, so the file must stay. Its head, whole blocks, is copied and then cut
off by the file system in one step (FALLOC_FL_COLLAPSE_RANGE: ext4, XFS), whatever is appended
meanwhile: nothing is lost. Where that cannot be (tmpfs, Btrfs), the file is emptied, and what was
written between the last byte copied and that is lost; a warning says so once. The output of Docker
containers is the agent's own writing and moved by it (docker_logs.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from mesostk.agent import executors
from mesostk.agent.events import DiskExceeded
from mesostk.agent.state import Run, State
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon

T = TypeVar("T")

#: Between looks at the size of output.
_ROTATE_S = 2.0

_CHUNK_BYTES = 1 << 20

#: Of fallocate(2). Not in Python's `os`.
_FALLOC_FL_COLLAPSE_RANGE = 0x08

#: How a file system says that it cannot cut a head off, or not in pieces of its block size.
_CANNOT_CUT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

_libc = ctypes.CDLL(None, use_errno=True)
_MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Flags container_disk_watch_interval, enforce_container_disk_quota, container_log_size."""

    interval_s: float
    enforce: bool
    log_bytes: int


class DiskWatch:
    """`used` tells the bytes in each live run's sandbox, by container id, as of the last look."""

    def __init__(
        self,
        daemon: Daemon,
        state: State,
        feed: Callable[[Event], None],
        work_dir: Path,
        limits: Limits,
    ) -> None:
        self._daemon = daemon
        self._state = state
        self._feed = feed
        self._work_dir = work_dir
        self._limits = limits
        self._told: set[Path] = set()
        self._told_of_loss = False
        self.used: dict[str, int] = {}

    async def watch_usage(self) -> None:
        """Measure every sandbox now and then, for ever."""
        while True:
            await asyncio.sleep(self._limits.interval_s)
            live = self._live()
            ids = {run.container_id for run in live}
            self.used = {cid: used for cid, used in self.used.items() if cid in ids}
            for run in live:
                # Not the disk thread: a large tree takes long, and checkpoints must not wait.
                sandbox = self._sandbox_of(run)
                used = await self._in_thread(disk_usage, sandbox)
                self.used[run.container_id] = used
                quota = quota_of(run)
                if self._limits.enforce and quota is not None and used > quota:
                    self._feed(DiskExceeded(run.container_id, used, quota))

    async def rotate_output(self) -> None:
        """Rotate what has grown too large, for ever."""
        if not self._limits.log_bytes:
            return
        while True:
            await asyncio.sleep(_ROTATE_S)
            for run in self._live():
                if not run.is_docker:
                    await self._rotate(self._sandbox_of(run))

    async def _rotate(self, sandbox: Path) -> None:
        for name in ("stdout", "stderr"):
            try:
                if (sandbox / name).lstat().st_size > self._limits.log_bytes:
                    is_whole = await self._in_thread(rotate, sandbox, name)
                    if not is_whole and not self._told_of_loss:
                        self._told_of_loss = True
                        why = "this file system cuts no heads off; ext4 and XFS do"
                        self._daemon.log.warning("Rotating may lose output", why=why)
            except FileNotFoundError:
                continue  # the task's own doing, or not there yet
            except OSError as error:
                if sandbox not in self._told:  # once, not every two seconds
                    self._told.add(sandbox)
                    self._daemon.log.warning("Not rotating", file=sandbox / name, why=error)

    def _live(self) -> list[Run]:
        return [
            run for run in self._state.live_runs() if run.phase == "RUNNING" and not run.is_default
        ]

    def _sandbox_of(self, run: Run) -> Path:
        return self._work_dir / executors.sandbox_of(self._state, run)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, work, *args)


def quota_of(run: Run) -> int | None:
    """Bytes of disk that a run was given; None if none were."""
    amounts = [r.scalar.value for r in run.held if r.name == "disk" and r.scalar is not None]
    return int(sum(amounts) * _MIB) if amounts else None


def disk_usage(directory: Path) -> int:
    """Bytes on the disk of all below `directory`, without what links lead to. Blocks."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for base, directories, files in os.walk(directory):
        for name in (*directories, *files):
            try:
                status = Path(base, name).lstat()
            except OSError:
                continue  # gone meanwhile
            key = (status.st_dev, status.st_ino)
            if status.st_nlink == 1 or key not in seen:
                seen.add(key)
                total += status.st_blocks * 512
    return total


def rotate(sandbox: Path, name: str) -> bool:
    """Move what is in `name` to `name`.1, but for the rest of a block; False if a part may be lost.

    Blocks; raises OSError. The sandbox is the task's: nothing is followed that it may have put in
    place of a file.
    """
    directory = os.open(sandbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(name, flags, dir_fd=directory)
        try:
            return _move_head(source, f"{name}.1", directory)
        finally:
            os.close(source)
    finally:
        os.close(directory)


def _move_head(source: int, copy: str, directory: int) -> bool:
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise OSError("it is no plain file, or has another name")
    block = os.fstatvfs(source).f_bsize
    head = (status.st_size - 1) // block * block  # something must stay: the end cannot be cut
    if head <= 0:
        return True
    with contextlib.suppress(FileNotFoundError):
        os.unlink(copy, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(copy, flags, 0o644, dir_fd=directory)
    cut = False
    try:
        if os.geteuid() == 0:
            os.fchown(target, status.st_uid, status.st_gid)
        _copy(source, target, 0, head)
        cut = _cut_head(source, head)
        if not cut:
            _copy(source, target, head, None)
    finally:
        # Also when the disk is full: the task's output is what fills it.
        if not cut and not _cut_head(source, head):
            os.ftruncate(source, 0)
        os.close(target)
    return cut


def _copy(source: int, target: int, at: int, end: int | None) -> None:
    """Append bytes of `source` from `at` up to `end`, or all there are, to `target`."""
    while end is None or at < end:
        size = _CHUNK_BYTES if end is None else min(_CHUNK_BYTES, end - at)
        data = os.pread(source, size, at)
        if not data:
            return
        at += len(data)
        left = memoryview(data)
        while left:
            left = left[os.write(target, left) :]


def _cut_head(source: int, length: int) -> bool:
    """Cut the first `length` bytes off, in one step; False where that cannot be done."""
    done = _libc.fallocate(
        source, _FALLOC_FL_COLLAPSE_RANGE, ctypes.c_int64(0), ctypes.c_int64(length)
    )
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number not in _CANNOT_CUT:
        raise OSError(number, os.strerror(number))
    return False
