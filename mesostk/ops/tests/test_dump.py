"""Stores to files and back, on a real ZooKeeper."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.base.core import Delete, Put
from mesostk.base.store import EpochRecord
from mesostk.base.zk import Zk, ZkUrl
from mesostk.base.zkstore import ZkStore
from mesostk.errors import StaleEpoch, StoreError, WireError
from mesostk.ops import dump as store_dump
from mesostk.ops.dump import Dump, decode, encode, restore, take
from mesostk.ops.zookeeper import Ensemble
from mesostk.testing.zookeeper import zk_path, zookeeper

__all__ = ["zk_path", "zookeeper"]

RECORDS = {
    "agents/3f/S7": b'{"hostname":"mesos-slave1"}',
    "agents/3f": b"a parent with data",
    "weights": "gewichtet: ä".encode(),
    "deployments/x": b"\x1f\x8b\xff",
}

segments = st.text("ab/", min_size=1, max_size=6).filter(
    lambda path: all(part for part in path.split("/"))
)


@contextlib.asynccontextmanager
async def session(servers: Ensemble, path: str) -> AsyncIterator[Zk]:
    zk = Zk(ZkUrl(servers.hosts, path), 30.0)
    zk.start()
    await zk.connected(60.0)
    try:
        yield zk
    finally:
        await zk.close()


async def fill(zk: Zk, root: str, records: dict[str, bytes] = RECORDS) -> ZkStore:
    store = ZkStore(zk, root)
    await store.open("first")
    await store.load()
    await store.commit([Put(path, data) for path, data in records.items()])
    return store


def dump_of(records: dict[str, bytes], root: str = "/x/mesostk", counter: int = 7) -> Dump:
    epoch = EpochRecord(cluster_id="c", counter=counter, leader="l")
    return Dump(root=root, epoch=epoch, taken_at=1.5, records=records)


# -- as text --------------------------------------------------------------------------------------


@given(st.dictionaries(segments, st.binary(min_size=1)))
def test_text_and_back_is_the_same(records: dict[str, bytes]) -> None:
    assert decode(encode(dump_of(records)), "f") == dump_of(records)


@given(st.integers(min_value=0), st.binary(max_size=3))
def test_a_damaged_dump_is_refused_or_harmless(at: int, junk: bytes) -> None:
    whole = b"".join(encode(dump_of(RECORDS)))
    damaged = whole[: at % len(whole)] + junk
    if damaged in (whole, whole[:-1]):  # the last line's end is no loss
        return
    with pytest.raises(WireError, match=r"^f"):
        decode(damaged.splitlines(keepends=True), "f")


def test_a_record_outside_the_store_is_refused() -> None:
    for path in ("../other", "epoch", "a//b", "/a"):
        with pytest.raises(WireError, match=r"line 2"):
            decode(encode(dump_of({path: b"x"})), "f")


def test_another_format_is_refused() -> None:
    line = next(iter(encode(dump_of({})))).replace(b'"format":1', b'"format":2')
    with pytest.raises(WireError, match=r"format 2; this version reads 1"):
        decode([line], "f")


# -- on ZooKeeper ---------------------------------------------------------------------------------


@pytest.mark.zookeeper
async def test_a_store_survives_the_loss_of_its_zookeeper(
    zookeeper: Ensemble, zk_path: str
) -> None:
    root = f"{zk_path}/mesostk"
    async with session(zookeeper, zk_path) as zk:
        await fill(zk, root)
        taken = await take(zk, root, 1.0)
        assert taken is not None
        assert taken.records == RECORDS
        moved = Dump(root=f"{zk_path}new/mesostk", epoch=taken.epoch, taken_at=1, records=RECORDS)
        opened = await restore(zk, moved, "b")
        assert opened.counter == taken.epoch.counter + 1000
        assert opened.cluster_id == taken.epoch.cluster_id
        store = ZkStore(zk, moved.root)
        assert (await store.open("next")).counter == opened.counter + 1
        assert await store.load() == RECORDS
        await store.commit([Delete("weights"), Put("agents/3f/S7", b"{}")])
        again = await take(zk, moved.root, 1.0)
        assert again is not None
        assert set(again.records) == set(RECORDS) - {"weights"}


@pytest.mark.zookeeper
async def test_no_store_is_no_dump(zookeeper: Ensemble, zk_path: str) -> None:
    async with session(zookeeper, zk_path) as zk:
        assert await take(zk, f"{zk_path}/mesostk", 1.0) is None


@pytest.mark.zookeeper
async def test_a_dump_shows_one_moment_while_the_store_is_written(
    zookeeper: Ensemble, zk_path: str
) -> None:
    """Pairs that are written together are never seen apart."""
    root = f"{zk_path}/mesostk"
    async with session(zookeeper, zk_path) as zk, session(zookeeper, zk_path) as other:
        store = await fill(other, root, {f"{side}/{n}": b"0" for side in "ab" for n in range(200)})
        done = asyncio.Event()

        async def write() -> None:
            number = 0
            while not done.is_set():
                number += 1
                text = str(number).encode()
                begun = time.monotonic()
                await store.commit([Put(f"{side}/{number % 200}", text) for side in "ab"])
                took_s = time.monotonic() - begun
                # Fifty changes a second, more than clusters make, or what a busy machine can do
                # and still read.
                await asyncio.sleep(max(0.02, 10 * took_s))

        writing = asyncio.create_task(write())
        for _ in range(5):
            taken = await take(zk, root, 1.0)
            assert taken is not None
            assert all(taken.records[f"a/{n}"] == taken.records[f"b/{n}"] for n in range(200))
        done.set()
        await writing


@pytest.mark.zookeeper
async def test_a_store_in_use_is_replaced_only_by_force(zookeeper: Ensemble, zk_path: str) -> None:
    root = f"{zk_path}/mesostk"
    backup = dump_of({"weights": b"old"}, root, counter=3)
    async with session(zookeeper, zk_path) as zk:
        store = await fill(zk, root)
        with pytest.raises(StoreError, match=r"4 records: --force replaces"):
            await restore(zk, backup, "b")
        assert await store.load() == RECORDS
        for _ in range(1500):
            last = await ZkStore(zk, root).open("flapping")
            if last.counter > 1002:
                break
        opened = await restore(zk, backup, "b", force=True)
        assert opened.counter > last.counter, "agents that follow the last leader follow this one"
        with pytest.raises((StaleEpoch, StoreError)):
            await store.commit([Put("weights", b"late")])
        taken = await take(zk, root, 1.0)
        assert taken is not None
        assert taken.records == {"weights": b"old"}


@pytest.mark.zookeeper
@pytest.mark.parametrize("node", ["json.info_0000000003", "leader-curator/_c_1-latch-0000000001"])
async def test_nothing_is_restored_under_a_running_daemon(
    zookeeper: Ensemble, zk_path: str, node: str
) -> None:
    root = f"{zk_path}/mesostk"
    async with session(zookeeper, zk_path) as zk:
        await fill(zk, root)
        async with session(zookeeper, zk_path) as daemon:
            await daemon.ensure_path(f"{zk_path}/leader-curator")
            await daemon.create(f"{zk_path}/{node}", b"host:5050", ephemeral=True)
            with pytest.raises(StoreError, match=r"still runs \(host:5050\)"):
                await restore(zk, dump_of({}, root), "b", force=True)
        await restore(zk, dump_of({}, root), "b", force=True)


@pytest.mark.zookeeper
async def test_an_interrupted_restore_is_no_store_and_is_begun_anew(
    zookeeper: Ensemble, zk_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"{zk_path}/mesostk"
    records = {f"agents/{n % 7}/{n}": b"x" * 2000 for n in range(1200)}
    backup = dump_of(records, root)
    async with session(zookeeper, zk_path) as zk:
        for after in range(4):
            written = 0

            async def cut(ops: object, after: int = after) -> None:
                nonlocal written
                if written == after:
                    raise KeyboardInterrupt
                written += 1
                await Zk.multi(zk, ops)  # type: ignore[arg-type] # as it was given

            with monkeypatch.context() as patch:
                patch.setattr(zk, "multi", cut)
                with pytest.raises(KeyboardInterrupt):
                    await restore(zk, backup, "b.tar")
            with pytest.raises(StoreError, match=r"backup b\.tar is being restored"):
                await ZkStore(zk, root).open("hasty")
            with pytest.raises(StoreError, match=r"being restored"):
                await take(zk, root, 1.0)
        await restore(zk, backup, "b.tar")
        taken = await take(zk, root, 1.0)
        assert taken is not None
        assert taken.records == records


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.zookeeper
def test_command_dumps_and_restores(
    zookeeper: Ensemble, zk_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def prepare() -> None:
        async with session(zookeeper, zk_path) as zk:
            await fill(zk, f"{zk_path}/mesostk")

    asyncio.run(prepare())
    where = tmp_path / "zk"
    where.write_text(f"zk://{zookeeper.hosts}{zk_path}\n")
    file = tmp_path / "mesos.jsonl"
    store_dump.main(["dump", str(file), "--zk", f"file://{where}"])
    assert json.loads(capsys.readouterr().out)["records"] == len(RECORDS)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SystemExit, match="1"):
        store_dump.main(["restore", str(file), "--zk", f"file://{where}"])
    assert "--force replaces it" in capsys.readouterr().err
    store_dump.main(["restore", str(file), "--zk", f"file://{where}", "--force"])
    assert json.loads(capsys.readouterr().out)["epoch"] == 1001


@pytest.mark.parametrize("zk", ["http://x", "file:///nonexistent", "zk://h"])
def test_command_refuses_a_bad_address(
    zk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        store_dump.main(["dump", str(tmp_path / "f"), "--zk", zk])
    assert "--zk: " in capsys.readouterr().err
