"""A simulated disk: the page cache outlives a process, only what was synced outlives the power.

::

    Checkpoint ─▶ queue ─▶ apply to the page cache (Saved) ─▶ with sync: on the platter, too
    process crash: of what was queued a part got in, the last record perhaps torn
    power cut: unsynced files are as they were, cut off, empty or gone
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mesostk.agent.events import Append, DiskOp, Link, MakeVolume, RemoveVolume
from mesostk.agent.layout import RESOURCES
from mesostk.base.core import Delete, Put


class SimDisk:
    """Files and links by their path below work_dir."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self._synced_files: dict[str, bytes] = {}
        self._synced_links: dict[str, str] = {}
        #: Directories of persistent volumes; these are always synced.
        self.volumes: set[str] = set()
        #: Told of each volume whose data goes.
        self.on_remove: list[Callable[[str], None]] = []
        self.is_full = False

    def apply(self, op: DiskOp, *, sync: bool) -> None:
        """Perform one operation."""
        match op:
            case Put(path, data):
                self.files[path] = data
            case Append(path, data):
                self.files[path] = self.files.get(path, b"") + data
            case Link(path, target):
                self.links[path] = target
            case Delete(path):
                self._delete(path)
            case MakeVolume(path):
                self.volumes.add(path)
            case RemoveVolume(path):
                self.volumes.discard(path)
                for fn in self.on_remove:
                    fn(path)
        if sync:
            self._sync(op.path)

    def _delete(self, path: str) -> None:
        self.links.pop(path, None)
        for name in [n for n in self.files if n == path or n.startswith(path + "/")]:
            del self.files[name]

    def _sync(self, path: str) -> None:
        if path in self.links:
            self._synced_links[path] = self.links[path]
        elif path in self.files:
            self._synced_files[path] = self.files[path]
        else:
            self._synced_links.pop(path, None)
            self._synced_files.pop(path, None)

    def tear(self, op: DiskOp) -> None:
        """The process died within this operation."""
        if isinstance(op, Append) and op.data:
            torn = op.data[: self._rng.randrange(len(op.data))]
            self.files[op.path] = self.files.get(op.path, b"") + torn
        elif isinstance(op, Put):
            # Replaced by rename: only the staged file is left behind.
            self.files[op.path + ".new"] = op.data[: self._rng.randrange(len(op.data) + 1)]

    def cut_power(self) -> None:
        """What was not synced is as it was before, half written, or empty."""
        self.links = dict(self._synced_links)
        files = dict(self._synced_files)
        for path, data in sorted(self.files.items()):
            if self._synced_files.get(path) == data:
                continue
            chance = self._rng.random()
            if chance < 0.4:
                files[path] = data
            elif chance < 0.6:
                files[path] = data[: self._rng.randrange(len(data) + 1)]
        self.files = files
        self._synced_files = dict(files)

    def visible(self, latest: str | None) -> dict[str, bytes]:
        """The records that `agent.disk.read_records` would read."""
        home = f"meta/slaves/{latest}/"
        return {
            path: data
            for path, data in self.files.items()
            if not path.endswith(".new")
            and (path in ("meta/boot_id", "meta/epoch", RESOURCES) or path.startswith(home))
        }
