"""Virtual time: one heap of (time, sequence number, what happens then), and coroutines on it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any

#: More than any world needs; a core that asks to be woken again at once would never end.
MAX_EVENTS = 2_000_000


class Loop:
    """The world's clock and all that is still to happen; `rng` is its only source of chance."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        #: Monotonic seconds, the same on every host.
        self.now = 1000.0
        self.events = 0
        self._sequence = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()

    def at(self, when: float, fn: Callable[[], None]) -> Callable[[], None]:
        """Call `fn` at `when`, or now if that is past; returns what cancels it."""
        self._sequence += 1
        number = self._sequence
        heapq.heappush(self._heap, (max(when, self.now), number, fn))
        return lambda: self._cancelled.add(number)

    def later(self, delay_s: float, fn: Callable[[], None]) -> Callable[[], None]:
        """Call `fn` after `delay_s`."""
        return self.at(self.now + delay_s, fn)

    def run(self, until: float) -> None:
        """Let everything happen up to `until`."""
        heap, cancelled = self._heap, self._cancelled
        while heap and heap[0][0] <= until:
            when, number, fn = heapq.heappop(heap)
            if number in cancelled:
                cancelled.discard(number)
                continue
            self.now = when
            self.events += 1
            assert self.events < MAX_EVENTS, "the world does not come to rest"
            fn()
        self.now = max(self.now, until)


class Answer:
    """What a simulated request will bring; awaited by at most one coroutine."""

    def __init__(self) -> None:
        self._resume: Callable[[object, Exception | None], None] | None = None

    def __await__(self) -> Generator[Answer, Any, Any]:
        return (yield self)

    def then(self, resume: Callable[[object, Exception | None], None]) -> None:
        """Have `resume` told the result or the error."""
        self._resume = resume

    def give(self, result: object) -> None:
        """The request succeeded. Nothing happens where nobody waits."""
        if self._resume is not None:
            self._resume(result, None)

    def fail(self, error: Exception) -> None:
        """The request failed."""
        if self._resume is not None:
            self._resume(None, error)


def spawn(
    coroutine: Coroutine[Answer, Any, Any],
    done: Callable[[Any], None],
    failed: Callable[[Exception], None],
) -> None:
    """Run a coroutine that awaits nothing but `Answer`s; no event loop of asyncio is involved.

    So the project's own store and election run here as they are.
    """

    def step(result: object, error: Exception | None) -> None:
        try:
            answer = coroutine.send(result) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            done(stop.value)
        except Exception as raised:  # noqa: BLE001 - whoever spawned it decides
            failed(raised)
        else:
            answer.then(step)

    step(None, None)
