"""What only the shell can measure: how long allocations take, and how large the registry is."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mesostk.base.core import Delete, Effect, Event, Op, Put
from mesostk.base.metrics import Metrics
from mesostk.base.store import Epoch, Store
from mesostk.master.core import Master


class TimedCore:
    """The core, with the time taken of each allocation run and of the wait for it."""

    def __init__(self, master: Master, metrics: Metrics) -> None:
        self._master = master
        self._run = metrics.timer("allocator/mesos/allocation_run")
        self._latency = metrics.timer("allocator/mesos/allocation_run_latency")

    def handle(self, now: float, event: Event) -> list[Effect]:
        """What the core does with the event."""
        allocator = self._master.allocator
        runs, due = allocator.runs, allocator.due_at
        started = time.perf_counter()
        effects = self._master.handle(now, event)
        if allocator.runs != runs:
            self._run.record(time.perf_counter() - started)
            self._latency.record(max(0.0, now - due) if due is not None else 0.0)
        return effects

    def deadline(self) -> float | None:
        """When the core wants to be asked again."""
        return self._master.deadline()

    def check(self) -> None:
        """Assert the core's invariants."""
        self._master.check()


class MeasuredStore:
    """A store whose records' sizes are known: the registry has no other size."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sizes: dict[str, int] = {}

    @property
    def size_bytes(self) -> int:
        """Of all records together."""
        return sum(self._sizes.values())

    async def open(self, leader: str) -> Epoch:
        """As the store does; so do the others."""
        return await self._store.open(leader)

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """Every record, whose size is kept."""
        records = await self._store.load(prefix)
        self._sizes.update((path, len(data)) for path, data in records.items())
        return records

    async def commit(self, ops: Sequence[Op]) -> None:
        """Apply `ops`, then count them."""
        await self._store.commit(ops)
        for op in ops:
            if isinstance(op, Put):
                self._sizes[op.path] = len(op.data)
            elif isinstance(op, Delete):
                self._sizes.pop(op.path, None)

    async def close(self) -> None:
        """Give up the connection or the lock."""
        await self._store.close()
