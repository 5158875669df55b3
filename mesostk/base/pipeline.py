"""From `Save` effects to durable writes to `Saved` events, in order, one commit in flight.

::

    core ── Save 7 ──▶ [7]──▶ commit(7) in flight
    core ── Save 8, 9 ──▶ [8, 9] wait; when 7 is durable: Saved 7, commit(8 + 9) as one
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from mesostk.base.clock import Clock
from mesostk.base.core import Delete, Event, Op, Put, Save, Saved
from mesostk.base.metrics import Metrics
from mesostk.base.store import MAX_BATCH_BYTES, MAX_BATCH_OPS, Store

#: Saves that may wait. A store that is this far behind is stuck; the process then ends.
MAX_WAITING: Final = 100_000


class SavePipeline:
    """Performs `Save`; its `run` is a task of the daemon and raises StoreError if a write fails."""

    def __init__(
        self, store: Store, feed: Callable[[Event], None], clock: Clock, metrics: Metrics
    ) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        self._waiting: deque[Save] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._over = False
        self._timer = metrics.timer("store/commit")
        self._commits = metrics.counter("store/commits")
        self._ops = metrics.counter("store/ops")
        metrics.gauge("store/waiting_saves", lambda: len(self._waiting))

    def save(self, effect: Save) -> None:
        """Queue `effect`; `Saved` follows once it is durable. Nothing happens after a failure."""
        if self._over:
            return
        if len(self._waiting) >= MAX_WAITING:
            raise RuntimeError(f"more than {MAX_WAITING} writes wait for the store")
        self._waiting.append(effect)
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Commit what waits, for ever; raises what a commit raises."""
        try:
            while True:
                await self._wake.wait()
                while self._waiting:
                    await self._commit(take_batch(self._waiting))
                self._wake.clear()
                self._idle.set()
        finally:
            self._over = True
            self._idle.set()

    async def drained(self) -> None:
        """Return once nothing waits, or nothing can be written any more."""
        await self._idle.wait()

    async def _commit(self, batch: list[Save]) -> None:
        ops: list[Op] = [op for save in batch for op in save.ops]
        started = self._clock.monotonic()
        if ops:
            await self._store.commit(ops)
            self._timer.record(self._clock.monotonic() - started)
            self._commits.value += 1
            self._ops.value += len(ops)
        for save in batch:
            self._feed(Saved(save.token))


def take_batch(waiting: deque[Save]) -> list[Save]:
    """The first saves that fit in one commit together, removed from `waiting`; at least one.

    A single save beyond the limits goes alone; the store refuses it with the reason.
    """
    batch: list[Save] = []
    ops = size = 0
    while waiting:
        head = waiting[0]
        ops += len(head.ops)
        size += sum(map(op_bytes, head.ops))
        if batch and (ops > MAX_BATCH_OPS or size > MAX_BATCH_BYTES):
            break
        batch.append(waiting.popleft())
    return batch


def op_bytes(op: Op) -> int:
    """What `op` counts towards the limit of a commit."""
    match op:
        case Put(path, data):
            return len(path) + len(data)
        case Delete(path):
            return len(path)
