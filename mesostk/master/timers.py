"""A heap of deadlines, for a core."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

#: Called as `call(core, now, *args)`.
Call = Callable[..., None]


class Timers:
    """Calls to make when their time comes, in order of (time, when they were asked for)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Call, tuple[Any, ...]]] = []
        self._asked = 0

    def at(self, when: float, call: Call, *args: Any) -> None:
        """Ask for `call` at `when`; it must find out by itself whether it still applies."""
        self._asked += 1
        heapq.heappush(self._heap, (when, self._asked, call, args))

    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> tuple[Call, tuple[Any, ...]] | None:
        """The next call whose time has come, taken out; None if there is none."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, call, args = heapq.heappop(self._heap)
        return call, args
