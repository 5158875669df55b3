"""The one durable store of a leader: ordered, atomic, fenced against writers of the past.

::

    store.open(leader) ─▶ Epoch(cluster_id, counter)      this process owns the store now
    store.load(prefix) ─▶ {path: bytes}                   everything, once, at start
    store.commit([Put, Delete, …])                        all or none; else StaleEpoch, StoreError

Paths are relative, of parts joined by `/`, without empty, `.` or `..` parts. Data is never empty.
`ZkStore` is in `zkstore.py`, `FileStore` in `filestore.py`; one class of contract tests runs on
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from mesostk.base.core import Delete, Op, Put
from mesostk.errors import StoreError

#: Ops of one commit. ZooKeeper takes more, but a server stalls all others while it applies one.
MAX_BATCH_OPS: Final = 500

#: Bytes of one commit: half of ZooKeeper's default `jute.maxbuffer`, for paths and framing.
MAX_BATCH_BYTES: Final = 512 * 1024


class Epoch(msgspec.Struct, frozen=True):
    """Who owns a store: one cluster for ever, one number per taking of ownership, growing."""

    cluster_id: str
    counter: int


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The epoch as it is kept, with the label of its owner for people to read."""

    cluster_id: str
    counter: int
    leader: str


class Restoring(msgspec.Struct, frozen=True):
    """In the place of the epoch while a backup is written back: nobody may own the store then."""

    restoring: str


class Store(Protocol):
    """What a leader needs of its store. Nothing but `open` may be called before `open`."""

    async def open(self, leader: str) -> Epoch:
        """Take ownership: raise the epoch's counter by one and own it from now on.

        `leader` is a label for people. Raises StaleEpoch if another process was faster, StoreError
        if the store cannot be used, with the remedy, Unavailable if it cannot be reached.
        """
        ...

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """Every record whose path is `prefix` or below it, by its path from the store's root."""
        ...

    async def commit(self, ops: Sequence[Op]) -> None:
        """Apply `ops` in order, all or none, durably.

        At most `MAX_BATCH_OPS` ops and `MAX_BATCH_BYTES` bytes. Raises StaleEpoch if another
        process owns the store (nothing was written), StoreError for anything else; the writer must
        end.
        """
        ...

    async def close(self) -> None:
        """Give up the connection or the lock. Ownership as such ends with the next `open`."""
        ...


def check_ops(ops: Sequence[Op]) -> None:
    """StoreError unless `ops` are within the limits, with proper paths and data."""
    if len(ops) > MAX_BATCH_OPS:
        raise StoreError(f"{len(ops)} writes in one commit; the limit is {MAX_BATCH_OPS}")
    size = 0
    for op in ops:
        check_path(op.path)
        size += len(op.path)
        if isinstance(op, Put):
            if not op.data:
                raise StoreError(f"record {op.path} would be empty")
            size += len(op.data)
    if size > MAX_BATCH_BYTES:
        raise StoreError(f"{size} bytes in one commit; the limit is {MAX_BATCH_BYTES}")


def check_path(path: str) -> None:
    """StoreError unless `path` is a proper relative path of a record."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or not path.isprintable():
        raise StoreError(f"{path!r} is not a path of a record")
    if parts[0] == "epoch":
        raise StoreError("the path epoch belongs to the store itself")


def parse_epoch(data: bytes, where: str) -> EpochRecord:
    """The record kept at `where`; StoreError with the remedy if it is not one."""
    try:
        record = msgspec.json.decode(data, type=EpochRecord)
    except (ValueError, RecursionError) as error:
        if (backup := restoring(data)) is not None:
            raise StoreError(
                f"{where}: the backup {backup} is being restored, or that was interrupted: wait,"
                " or restore it again"
            ) from error
        raise StoreError(
            f"{where} does not hold an epoch ({error}). Another program may use this path, or the"
            f" record is damaged: restore a backup, or remove {where} and everything beside it to"
            " begin an empty cluster there"
        ) from error
    if record.counter < 1 or not record.cluster_id:
        raise StoreError(f"{where} holds an epoch without cluster_id or with a counter below 1")
    return record


def restoring(data: bytes) -> str | None:
    """The backup that is being written back, if that is what `data` in the epoch's place says."""
    try:
        return msgspec.json.decode(data, type=Restoring).restoring
    except (ValueError, RecursionError):
        return None


def _is_below(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(prefix + "/")


def below(records: dict[str, bytes], prefix: str) -> dict[str, bytes]:
    """Those of `records` whose path is `prefix` or below it."""
    return {path: data for path, data in records.items() if _is_below(path, prefix)}


__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_OPS",
    "Delete",
    "Epoch",
    "EpochRecord",
    "Op",
    "Put",
    "Store",
    "below",
    "check_ops",
    "check_path",
    "parse_epoch",
]
