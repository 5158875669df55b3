"""Removes what ended runs left, when it is old or the disk is full. Source: spec §8.10.

::

    run over ─▶ (sandbox, records, ended at) ─▶ every disk_watch_interval: older than
                gc_delay × max(0, 1 − headroom − used)? ─▶ sandbox and records removed
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from mesostk.agent import checkpoint, layout, sandbox
from mesostk.base.daemon import Daemon


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Flags gc_delay, gc_disk_headroom (a fraction) and disk_watch_interval."""

    delay_s: float
    headroom: float
    interval_s: float


class Collector:
    """What may go, and when; `run` is a task of the daemon."""

    def __init__(
        self,
        daemon: Daemon,
        work_dir: Path,
        policy: Policy,
        agent_id: Callable[[], str],
        removed: Callable[[Path], None],
    ) -> None:
        self._daemon = daemon
        self._work_dir = work_dir
        self._policy = policy
        self._removed = removed
        self._ended: dict[Path, float] = {}
        self._agent_id = agent_id
        self.max_age_s = policy.delay_s
        self._succeeded = daemon.metrics.counter("gc/path_removals_succeeded")
        self._failed = daemon.metrics.counter("gc/path_removals_failed")
        daemon.metrics.gauge("gc/path_removals_pending", lambda: len(self._ended))
        daemon.metrics.gauge(
            "slave/executor_directory_max_allowed_age_secs", lambda: self.max_age_s
        )

    def add_run(self, framework: str, executor: str, run: str) -> None:
        """A run of this agent is over from now on."""
        place = layout.sandbox(self._agent_id(), framework, executor, run)
        self._ended[self._work_dir / place] = self._daemon.clock.wall()

    def add_old(self) -> None:
        """Find what former agents left: ended runs, and all of other agent ids. Blocks."""
        records = self._work_dir / "meta" / "slaves"
        for directory, _, names in os.walk(records):
            if "executor.sentinel" in names:
                at = Path(directory, "executor.sentinel").stat().st_mtime
                relative = Path(directory).relative_to(self._work_dir / "meta")
                self._ended[self._work_dir / relative] = at
        for path in records.iterdir() if records.is_dir() else ():
            if not path.is_symlink() and path.name != layout.segment(self._agent_id()):
                self._ended[self._work_dir / "slaves" / path.name] = path.stat().st_mtime

    async def run(self) -> None:
        """Look at the disk now and then, for ever."""
        while True:
            await self.collect()
            await asyncio.sleep(self._policy.interval_s)

    async def collect(self) -> None:
        """Remove what is due."""
        used = await self._daemon.disk(sandbox.disk_used, self._work_dir)
        self.max_age_s = sandbox.max_age_s(self._policy.delay_s, self._policy.headroom, used)
        now = self._daemon.clock.wall()
        for path in sandbox.due(list(self._ended.items()), now, self.max_age_s):
            del self._ended[path]
            self._removed(path)
            # Not in the disk thread: a large tree takes long, and checkpoints must not wait.
            loop = asyncio.get_running_loop()
            error = await loop.run_in_executor(None, self._remove, path)
            if error is None:
                self._succeeded.value += 1
                self._daemon.log.info("Removed", sandbox=path)
            else:
                self._failed.value += 1
                self._daemon.log.warning("Not removed", sandbox=path, why=error)

    def _remove(self, path: Path) -> str | None:
        try:
            checkpoint.remove(path)
            checkpoint.remove(self._work_dir / "meta" / path.relative_to(self._work_dir))
        except OSError as error:
            return str(error)
        return None
