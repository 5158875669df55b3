"""`Store` on ZooKeeper: one znode per record, every write headed by a check of the epoch node.

::

    <root>/epoch          {cluster_id, counter, leader}; `open` sets it with the version it read, so
                          of two that open at once one wins; its new version is what commits check
    <root>/agents/3f/S7   a record; nodes with empty data are only parents and come and go by need
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec

from mesostk.base.core import Op, Put
from mesostk.base.store import Epoch, EpochRecord, below, check_ops, parse_epoch
from mesostk.base.zk import (
    BadVersionError,
    Check,
    Create,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    Remove,
    SetData,
    Zk,
    ZkOp,
)
from mesostk.errors import StaleEpoch, StoreError, Unavailable, UnknownOutcome

#: Requests under way while loading: enough to hide the round trip, few enough not to flood.
LOAD_WINDOW: Final = 1000

#: Times a commit of unknown outcome is read back before the writer gives up.
MAX_READ_BACKS: Final = 5


class _Node:
    """What the store knows of a znode below its root."""

    __slots__ = ("children", "has_data")

    def __init__(self, *, has_data: bool = False, children: int = 0) -> None:
        self.has_data = has_data
        self.children = children


class Tree:
    """Which nodes there are, and from it the znode operations that a batch needs."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def add(self, path: str, *, has_data: bool) -> None:
        """Note that `path` is there; its parent was told before."""
        self._nodes[path] = _Node(has_data=has_data)
        parent = path.rpartition("/")[0]
        if parent:
            self._nodes[parent].children += 1

    def plan(self, root: str, ops: Sequence[Op]) -> list[ZkOp]:
        """The znode operations for `ops`; the tree is then as after them."""
        planned: list[ZkOp] = []
        for op in ops:
            if isinstance(op, Put):
                self._plan_put(root, op, planned)
            else:
                self._plan_delete(root, op.path, planned)
        return planned

    def _plan_put(self, root: str, op: Put, planned: list[ZkOp]) -> None:
        node = self._nodes.get(op.path)
        if node is not None:
            node.has_data = True
            planned.append(SetData(f"{root}/{op.path}", op.data))
            return
        parts = op.path.split("/")
        for count in range(1, len(parts)):
            parent = "/".join(parts[:count])
            if parent not in self._nodes:
                self.add(parent, has_data=False)
                planned.append(Create(f"{root}/{parent}", b""))
        self.add(op.path, has_data=True)
        planned.append(Create(f"{root}/{op.path}", op.data))

    def _plan_delete(self, root: str, path: str, planned: list[ZkOp]) -> None:
        node = self._nodes.get(path)
        if node is None or not node.has_data:
            return
        node.has_data = False
        if node.children:
            planned.append(SetData(f"{root}/{path}", b""))
            return
        # Parents that held nothing else go too, or names of long gone apps would pile up.
        while path and not self._nodes[path].has_data and not self._nodes[path].children:
            del self._nodes[path]
            planned.append(Remove(f"{root}/{path}"))
            path = path.rpartition("/")[0]
            if path:
                self._nodes[path].children -= 1


class ZkStore:
    """See `Store`. `zk` is started by the caller and closed by it; `root` is an absolute path."""

    def __init__(self, zk: Zk, root: str) -> None:
        self._zk = zk
        self._root = root.rstrip("/")
        self._epoch_path = f"{self._root}/epoch"
        self._version: int | None = None
        self._tree: Tree | None = None
        self._busy = asyncio.Lock()

    async def open(self, leader: str) -> Epoch:
        """See `Store.open`."""
        await self._zk.connected(self._zk.session_timeout_s)
        await self._zk.ensure_path(self._root)
        try:
            data, stat = await self._zk.get(self._epoch_path)
        except NoNodeError:
            record = EpochRecord(cluster_id=str(uuid.uuid4()), counter=1, leader=leader)
            try:
                await self._zk.create(self._epoch_path, msgspec.json.encode(record))
            except NodeExistsError as error:
                raise self._taken() from error
            self._version = 0
            return Epoch(record.cluster_id, record.counter)
        old = parse_epoch(data, f"znode {self._epoch_path}")
        record = EpochRecord(cluster_id=old.cluster_id, counter=old.counter + 1, leader=leader)
        try:
            owned = await self._zk.set(self._epoch_path, msgspec.json.encode(record), stat.version)
        except (BadVersionError, NoNodeError) as error:
            raise self._taken() from error
        self._version = owned.version
        self._tree = None
        return Epoch(record.cluster_id, record.counter)

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """See `Store.load`."""
        self._owned_version()
        tree = Tree()
        records: dict[str, bytes] = {}
        level = [name for name in await self._zk.children(self._root) if name != "epoch"]
        while level:
            deeper: list[str] = []
            for start in range(0, len(level), LOAD_WINDOW):
                deeper += await self._load_some(level[start : start + LOAD_WINDOW], tree, records)
            level = deeper
        self._tree = tree
        return below(records, prefix)

    async def _load_some(
        self, paths: list[str], tree: Tree, records: dict[str, bytes]
    ) -> list[str]:
        """Read `paths` into `tree` and `records`; return the paths of their children."""
        parents: list[str] = []
        found = await self._zk.get_many([f"{self._root}/{path}" for path in paths])
        for path, node in zip(paths, found, strict=True):
            if node is None:
                # A writer of the past got its last multi in; the fence stops it from now on.
                continue
            data, stat = node
            tree.add(path, has_data=bool(data))
            if data:
                records[path] = data
            if stat.children:
                parents.append(path)
        names = await asyncio.gather(*(self._children(path) for path in parents))
        return [
            f"{path}/{name}" for path, some in zip(parents, names, strict=True) for name in some
        ]

    async def _children(self, path: str) -> list[str]:
        try:
            return await self._zk.children(f"{self._root}/{path}")
        except NoNodeError:
            return []

    async def commit(self, ops: Sequence[Op]) -> None:
        """See `Store.commit`."""
        check_ops(ops)
        async with self._busy:
            version = self._owned_version()
            if self._tree is None:
                await self.load()
            if self._tree is None:
                raise StoreError("the store was opened again while it was read")
            planned = [Check(self._epoch_path, version), *self._tree.plan(self._root, ops)]
            try:
                await self._apply(planned, ops, version)
            except BaseException:
                # What the tree says and what is there may differ now: the writer is done for.
                self._version = None
                raise

    async def _apply(self, planned: Sequence[ZkOp], ops: Sequence[Op], version: int) -> None:
        for _ in range(MAX_READ_BACKS):
            try:
                await self._zk.multi(planned)
            except UnknownOutcome:
                if await self._was_applied(ops, version):
                    return
                continue
            except BadVersionError as error:
                raise self._taken() from error
            except (NoNodeError, NodeExistsError, NotEmptyError) as error:
                await self._check_epoch(version)
                raise StoreError(
                    f"nodes below {self._root} were changed by somebody else"
                    f" ({type(error).__name__}); nothing was written"
                ) from error
            return
        raise UnknownOutcome(f"ZooKeeper lost the answer {MAX_READ_BACKS} times in a row")

    async def _was_applied(self, ops: Sequence[Op], version: int) -> bool:
        """Whether the multi of `ops`, whose answer was lost, took effect."""
        wanted = {op.path: op.data if isinstance(op, Put) else b"" for op in ops}
        try:
            await self._zk.connected(self._zk.session_timeout_s)
            await self._zk.sync(self._epoch_path)
            await self._check_epoch(version)
            found = await self._zk.get_many([f"{self._root}/{path}" for path in wanted])
        except Unavailable as error:
            raise UnknownOutcome(f"a write could not be read back: {error}") from error
        present = [b"" if node is None else node[0] for node in found]
        return present == list(wanted.values())

    async def _check_epoch(self, version: int) -> None:
        stat = await self._zk.exists(self._epoch_path)
        if stat is None or stat.version != version:
            raise self._taken()

    async def close(self) -> None:
        """See `Store.close`; the session stays the caller's."""
        self._version = None

    def _owned_version(self) -> int:
        if self._version is None:
            raise StoreError(f"the store {self._root} is not open, or a write to it has failed")
        return self._version

    def _taken(self) -> StaleEpoch:
        return StaleEpoch(f"another process owns {self._root} now; nothing was written")
