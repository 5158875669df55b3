"""Backups as files: whole, or refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from mesostk.base.store import EpochRecord
from mesostk.errors import ConfigError, WireError
from mesostk.ops.backup import add_inventory, check_stores, pack, unpack
from mesostk.ops.dump import Dump, encode


def brought(directory: Path, records: dict[str, bytes] | None = None) -> Path:
    """What backup.yml leaves on the control node."""
    epoch = EpochRecord(cluster_id="c", counter=4, leader="l")
    taken = Dump(root="/mesos/mesostk", epoch=epoch, taken_at=5.0, records=records or {})
    (directory / "stores").mkdir(parents=True)
    (directory / "stores" / "mesos.jsonl").write_bytes(b"".join(encode(taken)))
    (directory / "hosts").mkdir()
    (directory / "hosts" / "one.tar.gz").write_bytes(b"packed")
    return directory


def made(tmp_path: Path) -> Path:
    target = tmp_path / "b.tar.gz"
    pack(
        brought(tmp_path / "in"), target,
        cluster="prod", version="1", taken_at=9.0, hosts=["one", "two"],
    )  # fmt: skip
    return target


def repacked(source: Path, change: dict[str, bytes | None]) -> Path:
    """The archive with members replaced, added or (None) left out."""
    target = source.with_name("changed.tar.gz")
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        parts: dict[str, bytes | None] = {
            one.name: file.read() for one in old if (file := old.extractfile(one)) is not None
        }
        for name, data in {**parts, **change}.items():
            if data is not None:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return target


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    source = made(tmp_path)
    assert source.stat().st_mode & 0o777 == 0o600
    manifest = unpack(source, tmp_path / "out")
    assert (manifest.cluster, manifest.hosts, manifest.missing) == ("prod", ["one"], ["two"])
    assert manifest.stores["mesos"].counter == 4
    for name in manifest.files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_without_the_registry_there_is_no_backup(tmp_path: Path) -> None:
    directory = brought(tmp_path / "in")
    (directory / "stores" / "mesos.jsonl").unlink()
    with pytest.raises(WireError, match="no host could dump"):
        pack(directory, tmp_path / "b", cluster="c", version="1", taken_at=1, hosts=[])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stores/mesos.jsonl": b"other"}, "stores/mesos.jsonl is not what was packed"),
        ({"stores/mesos.jsonl": None}, "stores/mesos.jsonl is missing"),
        ({"hosts/three.tar.gz": b"more"}, "three.tar.gz is not what was packed"),
        ({"../../evil": b"x"}, "evil is not what was packed"),
        ({"manifest.json": None}, "manifest.json"),
        ({"manifest.json": b"[]"}, "manifest.json"),
    ],
)
def test_a_changed_backup_is_refused(
    tmp_path: Path, change: dict[str, bytes | None], words: str
) -> None:
    with pytest.raises(WireError, match=words):
        unpack(repacked(made(tmp_path), change), tmp_path / "out")


def test_a_name_that_leads_outside_is_refused(tmp_path: Path) -> None:
    directory = brought(tmp_path / "in")
    source = tmp_path / "b.tar.gz"
    pack(directory, source, cluster="c", version="1", taken_at=1, hosts=[])
    with tarfile.open(source) as old:
        manifest = old.extractfile("manifest.json")
        assert manifest is not None
        text = manifest.read().replace(b"hosts/one.tar.gz", b"../one")
    changed = repacked(
        source, {"manifest.json": text, "hosts/one.tar.gz": None, "../one": b"packed"}
    )
    with pytest.raises(WireError, match="is no name of a part"):
        unpack(changed, tmp_path / "out")
    assert not (tmp_path / "one").exists()


def test_any_cut_is_refused(tmp_path: Path) -> None:
    source = made(tmp_path)
    whole = source.read_bytes()
    for size in (0, 10, len(whole) // 2):
        source.write_bytes(whole[:size])
        with pytest.raises(WireError, match=r"b\.tar\.gz"):
            unpack(source, tmp_path / "out")
    with pytest.raises(ConfigError, match="No such file"):
        unpack(tmp_path / "none", tmp_path / "out")


def test_records_that_no_master_could_read_are_named(tmp_path: Path) -> None:
    brought(tmp_path / "in", {"agents/3f/S7": b"{]"})
    with pytest.raises(WireError, match="agents/3f/S7"):
        check_stores(tmp_path / "in")
    empty = check_stores(brought(tmp_path / "other"))
    assert (empty.apps, empty.agents) == (frozenset(), frozenset())


def test_the_inventory_goes_along_with_its_variables(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("a: 1\n")
    (tmp_path / "hosts.yml").write_text("all:\n")
    (tmp_path / "unrelated").write_text("no")
    add_inventory(tmp_path / "file", tmp_path / "hosts.yml")
    kept = {
        path.relative_to(tmp_path / "file").as_posix()
        for path in (tmp_path / "file").rglob("*")
        if path.is_file()
    }
    assert kept == {"inventory/hosts.yml", "inventory/group_vars/all.yml"}
