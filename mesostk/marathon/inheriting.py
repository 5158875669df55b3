"""What a new leader does first, if the one before was asked for it: a backup, a restore.

::

    Handover ─▶ backup   all records ─▶ a file of this host
                restore  the file, read to its end ─▶ marked as begun ─▶ records replaced
             ─▶ Handover removed ─▶ the leader loads what there is now

A wish that cannot be fulfilled is dropped with an error in the log, and the state stays as it was.
Only a restore that was begun must end: a leader that finds one half done, and no file, refuses to
lead. The file is a tar, as the original's: one member for each record, by the record's path.
Source: spec/marathon §3.12 (backup).
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from mesostk.base.core import Delete, Op, Put
from mesostk.base.store import Store, check_path
from mesostk.errors import StoreError
from mesostk.marathon import repository
from mesostk.marathon.repository import HANDOVER, Handover
from mesostk.marathon.state import chunks

#: A larger file is no backup of ours, and would fill the memory.
MAX_BACKUP_BYTES: Final = 1 << 30

#: Runs what blocks in the thread for the disk.
Work = Callable[[], bytes]
InThread = Callable[[Work], Awaitable[bytes]]

#: Tells an operator what became of a wish: verb, level, fields.
Tell = Callable[[str, str, Mapping[str, object]], None]


async def fulfil(
    store: Store, records: Mapping[str, bytes], in_thread: InThread, tell: Tell
) -> dict[str, bytes]:
    """The records to lead with, after the wishes in `records` were done and removed.

    Raises StoreError where a restore was begun and cannot be ended, or the store fails.
    """
    left = dict(records)
    stored = left.pop(HANDOVER, None)
    if stored is None:
        return left
    wish = _wish(stored, tell)
    if (
        wish.backup is not None
        and not wish.is_begun
        and not await _back_up(wish.backup, left, in_thread, tell)
    ):
        wish = Handover()  # no restore over a state that could not be backed up
    restored = None if wish.restore is None else await _read(wish, in_thread, tell)
    if restored is None:
        await store.commit([Delete(HANDOVER)])
        return left
    begun = Handover(restore=wish.restore, is_begun=True)
    await store.commit([Put(HANDOVER, repository.write(begun))])
    ops: list[Op] = [Delete(path) for path in left if path not in restored]
    ops += [Put(path, data) for path, data in restored.items() if left.get(path) != data]
    for piece in chunks([*ops, Delete(HANDOVER)]):
        await store.commit(piece)
    tell("Restored", "INFO", {"from": wish.restore, "records": len(restored)})
    return restored


def _wish(stored: bytes, tell: Tell) -> Handover:
    try:
        return repository.read(stored, Handover)
    except msgspec.MsgspecError as error:
        tell("Dropping unreadable record", "ERROR", {"path": HANDOVER, "reason": error})
        return Handover()


async def _back_up(uri: str, records: Mapping[str, bytes], in_thread: InThread, tell: Tell) -> bool:
    try:
        await in_thread(lambda: _write_file(_path(uri), pack(records)))
    except OSError as error:
        tell("Cannot write backup", "ERROR", {"to": uri, "reason": error})
        return False
    tell("Wrote backup", "INFO", {"to": uri, "records": len(records)})
    return True


async def _read(wish: Handover, in_thread: InThread, tell: Tell) -> dict[str, bytes] | None:
    """The records to restore; None, with the reason told, if there are none to be had."""
    uri = wish.restore or ""
    try:
        data = await in_thread(lambda: _read_file(_path(uri)))
        return unpack(data)
    except (OSError, ValueError) as error:
        if wish.is_begun:
            raise StoreError(
                f"the restore from {uri} was interrupted and its file cannot be read here: {error}."
                " Put the file there, or start Marathon on the host that has it"
            ) from error
        tell("Cannot read backup", "ERROR", {"from": uri, "reason": error})
        return None


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def _write_file(path: Path, data: bytes) -> bytes:
    """Put `data` in place of `path`, readable by its owner only: records may hold secrets."""
    staged = path.with_name(path.name + ".new")
    handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    return data


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BACKUP_BYTES + 1)
    if len(data) > MAX_BACKUP_BYTES:
        raise ValueError(f"{path} has more than {MAX_BACKUP_BYTES} bytes")
    return data


# -- the file -----------------------------------------------------------------------------------


def pack(records: Mapping[str, bytes]) -> bytes:
    """A tar file of the records."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in sorted(records.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The records of such a file; ValueError unless all of it is one, and every record reads."""
    records: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is None:
                    raise ValueError(f"{member.name!r} is no record")
                check_path(member.name)
                records[member.name] = file.read()
    except (tarfile.TarError, StoreError) as error:
        raise ValueError(f"not a backup of Marathon: {error}") from error
    for path, reason in repository.read_all(records).unreadable.items():
        raise ValueError(f"record {path} in it cannot be read: {reason}")
    return records
