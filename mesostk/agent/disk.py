"""Performs `Checkpoint` in the disk thread, in order, and reads at start what was written.

::

    core ── Checkpoint 7 ──▶ [7] ──▶ disk thread
    core ── Checkpoint 8, 9 ──▶ wait; when 7 is done: Saved 7, then 8 and 9 in one go
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from mesostk.agent import layout
from mesostk.agent.checkpoint import CheckpointError, Disk
from mesostk.agent.events import Checkpoint, SaveFailed
from mesostk.base import regular
from mesostk.base.core import Event, Saved
from mesostk.base.daemon import Daemon
from mesostk.errors import ConfigError


class DiskQueue:
    """Checkpoints on their way to the disk; `run` is a task of the daemon."""

    def __init__(self, daemon: Daemon, disk: Disk, feed: Callable[[Event], None]) -> None:
        self._daemon = daemon
        self._disk = disk
        self._feed = feed
        self._waiting: deque[Checkpoint] = deque()
        self._wake = asyncio.Event()
        self._timer = daemon.metrics.timer("checkpoint/write")
        daemon.metrics.gauge("checkpoint/waiting", lambda: len(self._waiting))

    def save(self, effect: Checkpoint) -> None:
        """Queue `effect`; `Saved` or `SaveFailed` follows."""
        self._waiting.append(effect)
        self._wake.set()

    async def run(self) -> None:
        """Write what waits, for ever."""
        clock = self._daemon.clock
        while True:
            await self._wake.wait()
            while self._waiting:
                batch = list(self._waiting)
                self._waiting.clear()
                started = clock.monotonic()
                outcomes = await self._daemon.disk(self._apply, batch)
                self._timer.record(clock.monotonic() - started)
                for outcome in outcomes:
                    self._feed(outcome)
            self._wake.clear()

    def _apply(self, batch: list[Checkpoint]) -> list[Event]:
        outcomes: list[Event] = []
        for checkpoint in batch:
            try:
                self._disk.apply(checkpoint.ops, checkpoint.sync)
            except CheckpointError as error:
                outcomes.append(SaveFailed(checkpoint.token, error.path, str(error)))
            else:
                outcomes.append(Saved(checkpoint.token))
        return outcomes


def read_records(work_dir: Path) -> tuple[dict[str, bytes], str | None]:
    """The files below `meta` by their path, and what `meta/slaves/latest` points at.

    Only records of the latest agent id and those without one. A file that cannot be read counts as
    empty, which `recovery` tells as lost. Blocks.
    """
    try:
        latest: str | None = os.readlink(work_dir / layout.LATEST)  # noqa: PTH115 - text as it is
    except OSError:
        latest = None
    files: dict[str, bytes] = {}
    for name in (layout.BOOT_ID, layout.EPOCH, layout.RESOURCES):
        _read(work_dir, work_dir / name, files)
    if latest is not None:
        latest = Path(latest).name
        for directory, _, names in os.walk(work_dir / "meta" / "slaves" / latest):
            for name in names:
                if not name.endswith(".new"):
                    _read(work_dir, Path(directory, name), files)
    return files, latest


def _read(work_dir: Path, path: Path, files: dict[str, bytes]) -> None:
    try:
        files[str(path.relative_to(work_dir))] = regular.read(path)
    except FileNotFoundError:
        return
    except OSError:
        files[str(path.relative_to(work_dir))] = b""


class DirectoryLock:
    """Keeps a directory to one agent; held for as long as the process lives."""

    def __init__(self, directory: Path, flag: str) -> None:
        """Raises ConfigError naming `flag` if another process has the directory."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"--{flag}={directory}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"--{flag}={directory} is in use by another agent; give each its own"
            ) from error

    async def release(self) -> None:
        """Let the next agent have the directory."""
        os.close(self._fd)
