"""A store in ZooKeeper as a file, and back: what a backup of a cluster is made of.

::

    dump:     read and watch ─▶ read what changed … nothing outstanding: one moment ─▶ lines of JSON
    restore:  nobody runs? ─▶ epoch := "restoring" ─▶ remove ─▶ write ─▶ epoch := counter + 1000
                                 └ fences whoever still writes; nobody can open the store until …┘

    {"format": 1, "root": "/mesos/mesostk", "epoch": {…}, "taken_at": …, "records": 2}
    {"path": "agents/3f/S7", "text": "{…}"}            or "base64", for data that is not text
    {"path": "weights", "text": "{…}"}

The counter jumps, because leaders after the backup had counters above the backup's: agents follow
only what is higher than all they have seen. Runs on a host of the cluster, which reaches ZooKeeper
where the control node may not: `mesostk-store dump|restore`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from mesostk.base.store import (
    MAX_BATCH_BYTES,
    MAX_BATCH_OPS,
    EpochRecord,
    Restoring,
    check_path,
    parse_epoch,
    restoring,
)
from mesostk.base.zk import (
    BadVersionError,
    Check,
    Create,
    NodeExistsError,
    NoNodeError,
    Remove,
    Stat,
    Zk,
    ZkOp,
    ZkUrl,
)
from mesostk.errors import ConfigError, MesostkError, StoreError, Unavailable, WireError

FORMAT: Final = 1

#: Added to the counter of the epoch at a restore (more than leaders there can have been since).
EPOCH_LEAP: Final = 1000

#: Tries to find a moment at which all changes have been read; each is a few round trips.
_ROUNDS: Final = 1_000

#: Requests under way at once.
_WINDOW: Final = 1000

_SESSION_S: Final = 10.0


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """First line of a dump. `records` lines follow; `taken_at` is in seconds since 1970."""

    format: int
    root: str
    epoch: EpochRecord
    taken_at: float
    records: int


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: a record's path below the root and its data."""

    path: str
    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, path: str, data: bytes) -> Record:
        """The line for `data`."""
        try:
            return cls(path=path, text=data.decode())
        except UnicodeDecodeError:
            return cls(path=path, base64=base64.b64encode(data).decode())

    def data(self) -> bytes:
        """The data; raises ValueError if the line has none."""
        if self.text is not None:
            return self.text.encode()
        if self.base64 is None:
            raise ValueError("neither text nor base64")
        return base64.b64decode(self.base64, validate=True)


class Dump(msgspec.Struct, frozen=True, kw_only=True):
    """A store as it was at one moment: its epoch and its records by path."""

    root: str
    epoch: EpochRecord
    taken_at: float
    records: dict[str, bytes]


# -- as text ------------------------------------------------------------------------------------


def encode(dump: Dump) -> Iterator[bytes]:
    """The lines of a dump."""
    header = Header(
        format=FORMAT,
        root=dump.root,
        epoch=dump.epoch,
        taken_at=dump.taken_at,
        records=len(dump.records),
    )
    yield msgspec.json.encode(header) + b"\n"
    for path, data in sorted(dump.records.items()):
        yield msgspec.json.encode(Record.of(path, data)) + b"\n"


def decode(lines: Iterable[bytes], name: str) -> Dump:
    """The dump in `lines`; raises WireError naming `name` and the line that is wrong or missing."""
    header: Header | None = None
    records: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        try:
            if header is None:
                header = msgspec.json.decode(line, type=Header)
            else:
                _add(records, msgspec.json.decode(line, type=Record))
        except (msgspec.MsgspecError, StoreError, ValueError) as error:
            raise WireError(f"{name}, line {number}: {error}") from error
    if header is None:
        raise WireError(f"{name} is empty")
    if header.format != FORMAT:
        raise WireError(f"{name} has format {header.format}; this version reads {FORMAT}")
    if header.records != len(records):
        raise WireError(f"{name} has {len(records)} of {header.records} records: it was cut")
    return Dump(root=header.root, epoch=header.epoch, taken_at=header.taken_at, records=records)


def _add(records: dict[str, bytes], record: Record) -> None:
    check_path(record.path)
    data = record.data()
    if not data or record.path in records:
        raise ValueError(f"record {record.path} is empty or told twice")
    records[record.path] = data


# -- reading ------------------------------------------------------------------------------------


async def take(zk: Zk, root: str, now: float) -> Dump | None:
    """The store below `root` as it was at one moment; None where there is none.

    Raises StoreError for a store that is damaged or being restored, Unavailable if it changes
    faster than the changes can be read.
    """
    seen = await _View(zk).read(root)
    if not seen:
        return None
    epoch_path = f"{root}/epoch"
    if epoch_path not in seen:
        raise StoreError(f"{root} has no node epoch: it is not a store of this cluster")
    epoch = parse_epoch(seen.pop(epoch_path), f"znode {epoch_path}")
    records = {path[len(root) + 1 :]: data for path, data in seen.items() if data}
    return Dump(root=root, epoch=epoch, taken_at=now, records=records)


class _View:
    """Nodes as read, each with watches: what changes is read again until nothing is left to read.

    The moment when no event is outstanding is one moment of the whole tree.
    """

    def __init__(self, zk: Zk) -> None:
        self._zk = zk
        self._data: dict[str, bytes] = {}
        self._children: dict[str, set[str]] = {}
        self._changed: set[str] = set()

    async def read(self, top: str) -> dict[str, bytes]:
        """`top` and all below it, data by path; empty if there is no such node."""
        await self._zk.sync("/")
        self._changed.add(top)
        for _ in range(_ROUNDS):
            while self._changed:
                paths = list(itertools.islice(self._changed, _WINDOW))
                self._changed.difference_update(paths)
                await self._look(paths)
            await self._zk.settled()
            if not self._changed:
                return self._data
        raise Unavailable(f"{top} changes without a pause: try again when less is going on")

    async def _look(self, paths: Sequence[str]) -> None:
        # Children first: a child that comes later is told, one that goes is told by its own watch.
        names = await asyncio.gather(*(self._names(path) for path in paths))
        nodes = await self._zk.get_many(paths, self._changed.add)
        for path, some, node in zip(paths, names, nodes, strict=True):
            if node is None or some is None:
                self._forget(path)
                continue
            self._data[path] = node[0]
            known = self._children.setdefault(path, set())
            for name in known - some:
                self._forget(f"{path}/{name}")
            self._changed.update(f"{path}/{name}" for name in some - known)
            known.update(some)

    async def _names(self, path: str) -> set[str] | None:
        try:
            return set(await self._zk.children(path, lambda: self._changed.add(path)))
        except NoNodeError:
            return None

    def _forget(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        self._children.get(parent, set()).discard(name)
        self._data.pop(path, None)
        for child in list(self._children.pop(path, ())):
            self._forget(f"{path}/{child}")


# -- writing ------------------------------------------------------------------------------------


async def restore(zk: Zk, dump: Dump, name: str, *, force: bool = False) -> EpochRecord:
    """Write a dump back; returns the epoch that the next leader will follow on.

    Raises StoreError, nothing being changed, while a process of the cluster has a session there,
    and without `force` if the store has an epoch or records. Interrupted at any point,
    the store cannot be opened by anybody, and the next `restore` begins anew.
    """
    await zk.sync("/")
    await _refuse_while_run(zk, dump.root)
    epoch_path = f"{dump.root}/epoch"
    [epoch] = await zk.get_many([epoch_path])
    there = await _View(zk).read(dump.root)
    there.pop(dump.root, None)
    there.pop(epoch_path, None)
    counter = dump.epoch.counter
    if epoch is not None and restoring(epoch[0]) is None:
        counter = max(counter, _counter_of(epoch[0]))
    if not force and _is_in_use(epoch, there):
        count = sum(1 for data in there.values() if data)
        raise StoreError(
            f"{dump.root} holds a store with {count} records: --force replaces it by the backup"
        )
    version = await _close_store(zk, dump.root, epoch, name)
    guard = Check(epoch_path, version)
    gone = sorted(there, key=lambda path: path.count("/"), reverse=True)
    await _write(zk, guard, [Remove(path) for path in gone])
    await _write(zk, guard, _creations(dump))
    opened = EpochRecord(
        cluster_id=dump.epoch.cluster_id, counter=counter + EPOCH_LEAP, leader=f"backup {name}"
    )
    await _guarded(zk.set(epoch_path, msgspec.json.encode(opened), version), dump.root)
    return opened


def _is_in_use(epoch: tuple[bytes, Stat] | None, there: dict[str, bytes]) -> bool:
    if epoch is not None:
        return restoring(epoch[0]) is None
    return bool(there)


def _counter_of(epoch: bytes) -> int:
    """Of the store that is replaced; a damaged one has none that could be followed."""
    try:
        return parse_epoch(epoch, "epoch").counter
    except StoreError:
        return 0


async def _refuse_while_run(zk: Zk, root: str) -> None:
    """Candidates have ephemeral nodes beside the store: `json.info_3`, `leader-curator/…`."""
    top = root.rpartition("/")[0]
    level = [f"{top}/{name}" for name in await _names(zk, top)]
    for depth in range(2):
        nodes = [path for path in level if path != root]
        for path, node in zip(nodes, await zk.get_many(nodes), strict=True):
            if node is not None and node[1].ephemeral_owner:
                raise StoreError(
                    f"{path} says that a process of the cluster still runs ({_said(node[0])}): stop"
                    " all that keep their state there, and wait until their sessions have ended"
                )
        if depth == 0:
            level = [f"{path}/{name}" for path in nodes for name in await _names(zk, path)]


async def _names(zk: Zk, path: str) -> list[str]:
    try:
        return await zk.children(path)
    except NoNodeError:
        return []


def _said(data: bytes) -> str:
    return data.decode(errors="replace")[:200]


async def _close_store(zk: Zk, root: str, epoch: tuple[bytes, Stat] | None, name: str) -> int:
    """Put "restoring" in the place of the epoch; returns its version, which guards what follows."""
    marker = msgspec.json.encode(Restoring(name))
    if epoch is not None:
        stat = await _guarded(zk.set(f"{root}/epoch", marker, epoch[1].version), root)
        return stat.version
    await zk.ensure_path(root)
    try:
        await zk.create(f"{root}/epoch", marker)
    except NodeExistsError as error:
        raise _taken(root) from error
    return 0


async def _guarded(setting: Awaitable[Stat], root: str) -> Stat:
    try:
        return await setting
    except (BadVersionError, NoNodeError) as error:
        raise _taken(root) from error


def _taken(root: str) -> StoreError:
    return StoreError(
        f"another process took {root} meanwhile: stop what runs, then restore once more"
    )


def _creations(dump: Dump) -> list[ZkOp]:
    """Every node of the dump, parents first; those that hold no record are empty."""
    nodes: dict[str, bytes] = {}
    for path, data in sorted(dump.records.items()):
        parts = path.split("/")
        for count in range(1, len(parts)):
            nodes.setdefault("/".join(parts[:count]), b"")
        nodes[path] = data
    ordered = sorted(nodes.items(), key=lambda item: (item[0].count("/"), item[0]))
    return [Create(f"{dump.root}/{path}", data) for path, data in ordered]


async def _write(zk: Zk, guard: Check, ops: Sequence[ZkOp]) -> None:
    """Apply `ops` in order, in multis of the store's size, each only while `guard` holds."""
    batch: list[ZkOp] = []
    size = 0
    for op in [*ops, None]:
        cost = len(op.data) + len(op.path) if isinstance(op, Create) else 100
        if batch and (op is None or len(batch) == MAX_BATCH_OPS or size + cost > MAX_BATCH_BYTES):
            try:
                await zk.multi([guard, *batch])
            except (BadVersionError, NoNodeError, NodeExistsError) as error:
                raise _taken(guard.path.rpartition("/")[0]) from error
            batch, size = [], 0
        if op is not None:
            batch.append(op)
            size += cost


# -- on a host ----------------------------------------------------------------------------------


def _url(text: str) -> ZkUrl:
    """`zk://…`, or `file:///etc/mesos/zk` for the URL in that file."""
    if text.startswith("file://"):
        path = Path(text.removeprefix("file://"))
        try:
            text = path.read_text().strip()
        except OSError as error:
            raise ConfigError(f"--zk: cannot read {path}: {error.strerror}") from error
    try:
        return ZkUrl.parse(text)
    except ConfigError as error:
        raise ConfigError(f"--zk: {error}") from error


async def _dump(url: ZkUrl, target: Path) -> dict[str, object]:
    zk = Zk(url, _SESSION_S)
    zk.start()
    try:
        await zk.connected(_SESSION_S)
        dump = await take(zk, f"{url.path}/mesostk", time.time())
    finally:
        await zk.close()
    if dump is None:
        raise StoreError(f"there is no store at {url.path}/mesostk: is this the right --zk?")
    partial = target.with_name(target.name + ".new")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.writelines(encode(dump))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    return {"root": dump.root, "epoch": dump.epoch.counter, "records": len(dump.records)}


async def _restore(url: ZkUrl, source: Path, *, force: bool) -> dict[str, object]:
    with source.open("rb") as file:
        dump = decode(file, source.name)
    here = msgspec.structs.replace(dump, root=f"{url.path}/mesostk")
    zk = Zk(url, _SESSION_S)
    zk.start()
    try:
        await zk.connected(_SESSION_S)
        epoch = await restore(zk, here, source.name, force=force)
    finally:
        await zk.close()
    return {"root": here.root, "epoch": epoch.counter, "records": len(here.records)}


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mesostk-store", description="A daemon's store in ZooKeeper as a file, and back."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("dump", "Write the store to FILE."), ("restore", "Write FILE back.")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument(
            "--zk", required=True, help="zk://host:2181/mesos, or file:///etc/mesos/zk"
        )
        if name == "restore":
            command.add_argument(
                "--force", action="store_true", help="Replace the store that is there."
            )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """`mesostk-store`: one line of JSON on standard output, or an error and exit code 1 or 2."""
    options = _arguments().parse_args(argv)
    try:
        url = _url(options.zk)
        work = (
            _dump(url, options.file)
            if options.command == "dump"
            else _restore(url, options.file, force=options.force)
        )
        print(msgspec.json.encode(asyncio.run(work)).decode())
    except ConfigError as error:
        sys.exit(_failed(error, 2))
    except (MesostkError, OSError) as error:
        sys.exit(_failed(error, 1))


def _failed(error: Exception, code: int) -> int:
    print(f"mesostk-store: {error}", file=sys.stderr)
    return code
