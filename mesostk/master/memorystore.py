"""`Store` that forgets everything with the process: `--registry=in_memory`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from mesostk.base.core import Op, Put
from mesostk.base.store import Epoch, below, check_ops


class MemoryStore:
    """See `Store`."""

    def __init__(self) -> None:
        self._records: dict[str, bytes] = {}

    async def open(self, leader: str) -> Epoch:
        """See `Store.open`. Each life is a cluster of its own, to be adopted."""
        del leader
        return Epoch(str(uuid.uuid4()), 1)

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """See `Store.load`."""
        return below(self._records, prefix)

    async def commit(self, ops: Sequence[Op]) -> None:
        """See `Store.commit`."""
        check_ops(ops)
        for op in ops:
            if isinstance(op, Put):
                self._records[op.path] = op.data
            else:
                self._records.pop(op.path, None)

    async def close(self) -> None:
        """See `Store.close`."""
