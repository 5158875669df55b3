"""The fetcher's cache: files that several tasks want are brought once. Source: spec §8.8.

::

    (user, URI), announced size ─▶ here? wait until it is whole ─▶ used
                                  └ room, the longest unused going first? bring it, else bypass

For the fetcher's threads; cleared when the agent starts, so that no half of a file is ever found.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

#: (user, URI); files of one user are no other's.
Key = tuple[str | None, str]


class _Entry:
    """One file; `error` says why it could not be brought."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.users = 0
        self.error: str | None = None
        self.whole = threading.Event()


class FetchCache:
    """At most `capacity` bytes of files below `directory`."""

    def __init__(self, directory: Path, capacity: int) -> None:
        self.capacity = capacity
        self._directory = directory
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._number = 0

    def clear(self) -> None:
        """Remove what a former agent left; raises OSError if that cannot be."""
        if self._directory.exists():
            shutil.rmtree(self._directory)

    @property
    def used(self) -> int:
        """Bytes of all files, those under way included."""
        with self._lock:
            return sum(entry.size for entry in self._entries.values())

    @contextlib.contextmanager
    def hold(self, key: Key, size: int, bring: Callable[[Path], None]) -> Iterator[Path | None]:
        """The file, which stays for as long as this lasts; None if there is no room for it.

        `bring` writes it, once for all who want it. Raises OSError if that fails, or if what came
        is not `size` bytes long.
        """
        with self._lock:
            entry = self._entries.get(key)
            is_new = entry is None
            if entry is None:
                entry = self._new_entry(key, size)
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(key)
        if entry is None:
            yield None
            return
        try:
            if is_new:
                self._fill(key, entry, bring)
            entry.whole.wait()
            if entry.error is not None:
                raise OSError(entry.error)
            yield entry.path
        finally:
            with self._lock:
                entry.users -= 1

    def _new_entry(self, key: Key, size: int) -> _Entry | None:
        free = self.capacity - sum(entry.size for entry in self._entries.values())
        idle = [name for name, entry in self._entries.items() if not entry.users]
        going: list[Key] = []
        for name in idle:
            if free >= size:
                break
            free += self._entries[name].size
            going.append(name)
        if free < size:
            return None
        for name in going:
            self._entries.pop(name).path.unlink(missing_ok=True)
        self._number += 1
        entry = self._entries[key] = _Entry(self._directory / f"c{self._number}", size)
        return entry

    def _fill(self, key: Key, entry: _Entry, bring: Callable[[Path], None]) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            bring(entry.path)
            came = entry.path.stat().st_size
            if came != entry.size:
                raise OSError(f"{came} bytes came instead of the {entry.size} announced")
        except OSError as error:
            entry.error = str(error)
            with self._lock:
                self._entries.pop(key, None)
            with contextlib.suppress(OSError):  # the first error is the one to tell
                entry.path.unlink()
        finally:
            entry.whole.set()
