"""`Store` in one SQLite file, for a daemon that runs alone: a file lock keeps second writers out.

The epoch is checked in every transaction too: locks do not hold on every filesystem, and a restored
copy of the file must not be written by a process that loaded the one before.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mesostk.base.core import Op, Put
from mesostk.base.store import Epoch, EpochRecord, below, check_ops, parse_epoch
from mesostk.errors import StaleEpoch, StoreError

T = TypeVar("T")

_SCHEMA = """
create table if not exists epoch (id integer primary key check (id = 1), record blob not null);
create table if not exists records (path text primary key, data blob not null) without rowid;
"""


class FileStore:
    """See `Store`. All work runs in `pool`, which must have one thread; by default its own."""

    def __init__(self, path: Path, pool: Executor | None = None) -> None:
        self._path = path
        self._own_pool = ThreadPoolExecutor(1, thread_name_prefix="store") if pool is None else None
        self._pool: Executor | None = pool if pool is not None else self._own_pool
        self._db: sqlite3.Connection | None = None
        self._lock_fd: int | None = None
        self._epoch: Epoch | None = None
        self._closed = False

    async def open(self, leader: str) -> Epoch:
        """See `Store.open`."""
        return await self._run(self._open, leader)

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """See `Store.load`."""
        return await self._run(self._load, prefix)

    async def commit(self, ops: Sequence[Op]) -> None:
        """See `Store.commit`."""
        check_ops(ops)
        await self._run(self._commit, tuple(ops))

    async def close(self) -> None:
        """See `Store.close`; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._run(self._close)
        if self._own_pool is not None:
            self._own_pool.shutdown()

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self._path}: {error}{_remedy(error)}") from error
        except OSError as error:
            raise StoreError(
                f"{self._path}: {error.strerror or error}: the daemon's user must be able to write"
                " there"
            ) from error

    # -- in the thread ---------------------------------------------------------------------------

    def _open(self, leader: str) -> Epoch:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._lock_fd is None:
            self._lock_fd = self._take_lock()
        if self._db is None:
            # The pool's one thread is the only user, whichever thread that is.
            self._db = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=5.0
            )
        db = self._db
        db.execute("pragma journal_mode = wal")
        # FULL: a commit is on the disk when it returns, not only in the journal's cache.
        db.execute("pragma synchronous = full")
        db.executescript(_SCHEMA)
        db.execute("begin immediate")
        try:
            old = self._read_epoch(db)
            record = EpochRecord(
                cluster_id=str(uuid.uuid4()) if old is None else old.cluster_id,
                counter=1 if old is None else old.counter + 1,
                leader=leader,
            )
            db.execute("insert or replace into epoch values (1, ?)", (msgspec.json.encode(record),))
            db.execute("commit")
        except BaseException:
            if db.in_transaction:
                db.execute("rollback")
            raise
        self._epoch = Epoch(record.cluster_id, record.counter)
        return self._epoch

    def _take_lock(self) -> int:
        path = self._path.with_name(self._path.name + ".lock")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StoreError(
                f"{self._path} is in use by the process with pid {holder}; stop it, or give this"
                " one a directory of its own"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def _read_epoch(self, db: sqlite3.Connection) -> EpochRecord | None:
        row = db.execute("select record from epoch where id = 1").fetchone()
        return None if row is None else parse_epoch(bytes(row[0]), f"the epoch in {self._path}")

    def _load(self, prefix: str) -> dict[str, bytes]:
        db = self._opened()
        rows = db.execute("select path, data from records")
        return below({path: bytes(data) for path, data in rows}, prefix)

    def _commit(self, ops: tuple[Op, ...]) -> None:
        db = self._opened()
        try:
            db.execute("begin immediate")
            self._check_epoch(db)
            for op in ops:
                if isinstance(op, Put):
                    db.execute("insert or replace into records values (?, ?)", (op.path, op.data))
                else:
                    db.execute("delete from records where path = ?", (op.path,))
            db.execute("commit")
        except BaseException:
            self._epoch = None
            if db.in_transaction:
                db.execute("rollback")
            raise

    def _check_epoch(self, db: sqlite3.Connection) -> None:
        record = self._read_epoch(db)
        if record is None or Epoch(record.cluster_id, record.counter) != self._epoch:
            raise StaleEpoch(f"another process owns {self._path} now; nothing was written")

    def _opened(self) -> sqlite3.Connection:
        if self._db is None or self._epoch is None:
            raise StoreError(f"the store {self._path} is not open, or a write to it has failed")
        return self._db

    def _close(self) -> None:
        self._epoch = None
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _remedy(error: sqlite3.DatabaseError) -> str:
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return ": move the file away to begin an empty cluster, or restore a backup"
    if "full" in text:
        return ": free space on that disk"
    if "readonly" in text or "unable to open" in text:
        return ": the daemon's user must be able to write there"
    return ""
