"""The fetcher's cache: files that several tasks want are brought once. Source: spec §8.8.

::

    (user, URI), announced size ─▶ here? wait until it is whole ─▶ used
                                  └ room, the longest unused going first? bring it, else bypass

Loop thread only; cleared when the agent starts, so that no half of a file is ever found.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

#: (user, URI); files of one user are no other's.
Key = tuple[str | None, str]


#: Writes a file; OSError says why it could not.
Bring = Callable[[Path], Awaitable[None]]


class _Entry:
    """One file; `error` says why it could not be brought, as long as it is not whole."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.users = 0
        self.error: str | None = "its fetching was interrupted"
        self.tried = asyncio.Event()


class FetchCache:
    """At most `capacity` bytes of files below `directory`."""

    def __init__(self, directory: Path, capacity: int) -> None:
        self.capacity = capacity
        self._directory = directory
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._number = 0

    def clear(self) -> None:
        """Remove what a former agent left; raises OSError if that cannot be. Blocks."""
        if self._directory.exists():
            shutil.rmtree(self._directory)

    @property
    def used(self) -> int:
        """Bytes of all files, those under way included."""
        return sum(entry.size for entry in self._entries.values())

    @contextlib.asynccontextmanager
    async def hold(self, key: Key, size: int, bring: Bring) -> AsyncIterator[Path | None]:
        """The file, which stays for as long as this lasts; None if it is to be had without.

        `bring` writes it, once for all who want it. Raises OSError if that fails, or if what came
        is not `size` bytes long; who waited for it then goes without, as in the original: what was
        wrong may be the other's alone. None, too, if there is no room.
        """
        entry, going = self._entries.get(key), list[Path]()
        is_new = entry is None
        if entry is None:
            entry, going = self._new_entry(key, size)
        if entry is None:
            yield None
            return
        entry.users += 1
        self._entries.move_to_end(key)
        try:
            if is_new:
                await self._fill(key, entry, going, bring)
            else:
                await entry.tried.wait()
            yield entry.path if entry.error is None else None
        finally:
            entry.users -= 1

    def _new_entry(self, key: Key, size: int) -> tuple[_Entry | None, list[Path]]:
        """With the files that must go for it; None if that is not enough."""
        free = self.capacity - self.used
        going: list[Key] = []
        for name, entry in self._entries.items():
            if free >= size:
                break
            if not entry.users:
                free += entry.size
                going.append(name)
        if free < size:
            return None, []
        paths = [self._entries.pop(name).path for name in going]
        self._number += 1
        made = self._entries[key] = _Entry(self._directory / f"c{self._number}", size)
        return made, paths

    async def _fill(self, key: Key, entry: _Entry, going: list[Path], bring: Bring) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, _make_room, self._directory, going)
            await bring(entry.path)
            came = entry.path.stat().st_size
            if came != entry.size:
                raise OSError(f"{came} bytes came instead of the {entry.size} announced")
            entry.error = None
        finally:
            if entry.error is not None:
                self._entries.pop(key, None)
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    entry.path.unlink()
            entry.tried.set()


def _make_room(directory: Path, going: Iterable[Path]) -> None:
    for path in going:
        path.unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
