"""Backup and restore through `DELETE /v2/leader`: what is asked, and what the next leader does.

Source: spec/marathon §1.8, §3.12.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mesostk.base.core import Op, Put
from mesostk.base.filestore import FileStore
from mesostk.errors import StoreError
from mesostk.marathon import inheriting, repository
from mesostk.marathon.events import Abdicate, CreateApp, DeleteApp
from mesostk.marathon.repository import HANDOVER, Handover
from mesostk.marathon.tests.conftest import World
from mesostk.wire.marathon import ErrorBody

APP = {"id": "/web", "cmd": "sleep 1000"}


class Disk:
    """Does in this thread what a daemon does in its own, and keeps what operators are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def run(self, work: inheriting.Work) -> bytes:
        return work()

    def tell(self, verb: str, level: str, fields: Mapping[str, object]) -> None:
        self.told.append(f"{level} {verb} " + " ".join(f"{k}={v}" for k, v in fields.items()))

    async def fulfil(self, store: FileStore) -> dict[str, bytes]:
        return await inheriting.fulfil(store, await store.load(), self.run, self.tell)


class Torn(FileStore):
    """A store whose process dies at commit number `dies_at`."""

    dies_at = 0

    async def commit(self, ops: Sequence[Op]) -> None:
        self.dies_at -= 1
        if self.dies_at == 0:
            raise StoreError("the process died")
        await super().commit(ops)


async def stored(tmp_path: Path, records: Mapping[str, bytes]) -> Torn:
    store = Torn(tmp_path / "state.db")
    await store.open("test")
    await store.commit([Put(path, data) for path, data in records.items()])
    return store


def wish(backup: Path | None = None, restore: Path | None = None) -> dict[str, bytes]:
    """The record of what was asked."""
    uris = [None if path is None else path.as_uri() for path in (backup, restore)]
    return {HANDOVER: repository.write(Handover(backup=uris[0], restore=uris[1]))}


def records_of_a_world() -> dict[str, bytes]:
    made = World()
    made.connect()
    assert made.ask(CreateApp, body=APP).status == 201
    made.settle(3)
    return made.store


def test_wishes_are_stored_before_the_answer(world: World) -> None:
    reply = world.ask(Abdicate, backup="file:///var/b.tar", restore="file:///var/a.tar")
    assert (reply.status, reply.body) == (200, {"message": "Leadership abdicated"})
    wanted = Handover(backup="file:///var/b.tar", restore="file:///var/a.tar")
    assert repository.read(world.store[HANDOVER], Handover) == wanted
    assert world.ask(Abdicate).status == 200


@pytest.mark.parametrize(
    "uri", ["s3://bucket/x", "http://h/x", "/tmp/x", "file://other/x", "file:///", "file:///d/"]
)
def test_other_places_than_files_are_refused_with_the_remedy(world: World, uri: str) -> None:
    reply = world.ask(Abdicate, backup=uri)
    assert reply.status == 422
    assert isinstance(reply.body, ErrorBody)
    assert isinstance(reply.body.details, tuple)
    [violation] = reply.body.details
    assert violation.path == "/backup"
    assert violation.errors[0].startswith(("Invalid URI or unsupported scheme", "Invalid URI"))
    assert HANDOVER not in world.store


async def test_a_backup_is_a_tar_of_all_records_that_only_its_owner_reads(tmp_path: Path) -> None:
    records = records_of_a_world()
    file, disk = tmp_path / "backup.tar", Disk()
    store = await stored(tmp_path, {**records, **wish(backup=file)})
    assert await disk.fulfil(store) == records == await store.load()
    with tarfile.open(file) as archive:
        assert sorted(archive.getnames()) == sorted(records)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert disk.told == [f"INFO Wrote backup to={file.as_uri()} records={len(records)}"]
    await store.close()


async def test_a_restore_brings_back_exactly_what_there_was(tmp_path: Path) -> None:
    made = World()
    made.connect()
    made.ask(CreateApp, body=APP)
    made.settle(3)
    before = dict(made.store)
    file, disk = tmp_path / "backup.tar", Disk()
    file.write_bytes(inheriting.pack(before))
    made.ask(DeleteApp, app_id="/web")
    made.ask(CreateApp, body={**APP, "id": "/other"})
    store = await stored(tmp_path, {**made.store, **wish(restore=file)})
    assert await disk.fulfil(store) == before == await store.load()
    made.store = before
    made.start()
    made.connect()
    made.settle(5)
    assert len(made.running("/web")) == 1
    assert list(made.core.state.apps) == ["/web"]
    assert made.running("/other") == []
    await store.close()


@pytest.mark.parametrize("dies_at", [1, 2])
async def test_a_restore_that_was_interrupted_is_ended_by_the_next_leader(
    tmp_path: Path, dies_at: int
) -> None:
    records = records_of_a_world()
    file, disk = tmp_path / "backup.tar", Disk()
    file.write_bytes(inheriting.pack(records))
    store = await stored(tmp_path, {"root": b"{}", **wish(restore=file)})
    store.dies_at = dies_at
    with pytest.raises(StoreError):
        await disk.fulfil(store)
    if dies_at == 2:  # it is marked as begun
        moved = file.rename(tmp_path / "elsewhere.tar")
        with pytest.raises(StoreError, match="was interrupted and its file cannot be read here"):
            await disk.fulfil(store)
        moved.rename(file)
    assert await disk.fulfil(store) == records == await store.load()
    await store.close()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        (b"no tar at all", "not a backup of Marathon"),
        (inheriting.pack({"root": b"not json"}), "record root in it cannot be read"),
        (inheriting.pack({"../root": b"{}"}), "not a path of a record"),
        (inheriting.pack({"root": b'{"version":"v"}'})[:700], "not a backup of Marathon"),
    ],
)
async def test_a_file_that_is_no_backup_changes_nothing(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    file, disk = tmp_path / "backup.tar", Disk()
    if content is not None:
        file.write_bytes(content)
    store = await stored(tmp_path, {"root": b'{"version":"v"}', **wish(restore=file)})
    assert await disk.fulfil(store) == {"root": b'{"version":"v"}'} == await store.load()
    [line] = disk.told
    assert line.startswith("ERROR Cannot read backup")
    assert told in line
    await store.close()


async def test_nothing_is_restored_over_what_could_not_be_backed_up(tmp_path: Path) -> None:
    good, disk = tmp_path / "good.tar", Disk()
    good.write_bytes(inheriting.pack({}))
    asked = wish(backup=tmp_path / "no" / "where.tar", restore=good)
    store = await stored(tmp_path, {"root": b'{"version":"v"}', **asked})
    assert await disk.fulfil(store) == {"root": b'{"version":"v"}'} == await store.load()
    assert [line.split()[:4] for line in disk.told] == [["ERROR", "Cannot", "write", "backup"]]
    await store.close()
