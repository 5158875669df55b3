"""One contract for every store, on real files and on a real ZooKeeper."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.base.core import Delete, Op, Put
from mesostk.base.filestore import FileStore
from mesostk.base.store import MAX_BATCH_BYTES, MAX_BATCH_OPS, Store, check_path
from mesostk.base.zk import Create, Remove, SetData, Zk, ZkUrl
from mesostk.base.zkstore import Tree, ZkStore
from mesostk.errors import StaleEpoch, StoreError, UnknownOutcome
from mesostk.testing.zookeeper import Ensemble


class Bench(Protocol):
    """Makes stores over the same durable state, as processes of the past and future."""

    async def store(self) -> Store:
        """A store that is not open; several may be at once."""
        ...

    async def usurp(self) -> Store:
        """An open store that took ownership from whoever had it."""
        ...

    async def crash(self, store: Store) -> None:
        """End the process of `store` without any goodbye."""
        ...

    async def spoil_epoch(self, data: bytes) -> str:
        """Overwrite the epoch; returns a word that an error message must name."""
        ...

    async def remove_epoch(self) -> None:
        """Somebody cleans up."""
        ...


class FileBench:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "state" / "registry.db"
        self.stores: list[FileStore] = []

    async def store(self) -> Store:
        self.stores.append(FileStore(self.path))
        return self.stores[-1]

    async def usurp(self) -> Store:
        # A filesystem without working locks: the first one's lock is simply not seen.
        for held in self.stores:
            if held._lock_fd is not None:
                fcntl.flock(held._lock_fd, fcntl.LOCK_UN)
        store = await self.store()
        await store.open("usurper")
        return store

    async def crash(self, store: Store) -> None:
        assert isinstance(store, FileStore)
        await store.close()

    async def spoil_epoch(self, data: bytes) -> str:
        with sqlite3.connect(self.path) as db:
            db.execute("update epoch set record = ?", (data,))
        db.close()
        return str(self.path)

    async def remove_epoch(self) -> None:
        with sqlite3.connect(self.path) as db:
            db.execute("delete from epoch")
        db.close()

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


class ZkBench:
    def __init__(self, servers: Ensemble, path: str) -> None:
        self.url = ZkUrl.parse(servers.url(path))
        self.root = path + "/mesostk"
        self.sessions: list[Zk] = []
        self.by_store: dict[int, Zk] = {}

    async def session(self) -> Zk:
        zk = Zk(self.url, session_timeout_s=30.0)
        zk.start()
        self.sessions.append(zk)
        return zk

    async def store(self) -> Store:
        zk = await self.session()
        store = ZkStore(zk, self.root)
        self.by_store[id(store)] = zk
        return store

    async def usurp(self) -> Store:
        store = await self.store()
        await store.open("usurper")
        return store

    async def crash(self, store: Store) -> None:
        await self.by_store[id(store)].close()

    async def spoil_epoch(self, data: bytes) -> str:
        zk = await self.session()
        await zk.connected(60.0)
        await zk.set(self.root + "/epoch", data, -1)
        return self.root + "/epoch"

    async def remove_epoch(self) -> None:
        zk = await self.session()
        await zk.connected(60.0)
        await zk.delete(self.root + "/epoch")

    async def close(self) -> None:
        await asyncio.gather(*(zk.close() for zk in self.sessions))


@pytest.fixture(params=["file", pytest.param("zookeeper", marks=pytest.mark.zookeeper)])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    made: FileBench | ZkBench
    if request.param == "file":
        made = FileBench(tmp_path)
    else:
        servers = request.getfixturevalue("zookeeper")
        made = ZkBench(servers, request.getfixturevalue("zk_path"))
    yield made
    await made.close()


async def contents(bench: Bench) -> dict[str, bytes]:
    """What a new owner finds."""
    return await (await bench.usurp()).load()


class TestStoreContract:
    async def test_a_new_store_is_empty_and_at_epoch_one(self, bench: Bench) -> None:
        store = await bench.store()
        epoch = await store.open("first")
        assert epoch.counter == 1
        assert epoch.cluster_id
        assert await store.load() == {}

    async def test_what_was_committed_is_there_after_a_crash(self, bench: Bench) -> None:
        store = await bench.store()
        first = await store.open("first")
        await store.load()
        await store.commit([Put("agents/3f/S1", b"one"), Put("quota", b"two")])
        await store.commit([Put("agents/3f/S1", b"three"), Put("agents/a0/S2", b"\x00\xff")])
        await bench.crash(store)
        again = await bench.store()
        second = await again.open("second")
        assert (second.cluster_id, second.counter) == (first.cluster_id, 2)
        assert await again.load() == {
            "agents/3f/S1": b"three",
            "agents/a0/S2": b"\x00\xff",
            "quota": b"two",
        }

    async def test_load_with_a_prefix_gives_that_record_and_those_below(self, bench: Bench) -> None:
        store = await bench.store()
        await store.open("first")
        ops = [Put("apps/a", b"1"), Put("apps/a/v1", b"2"), Put("apps/ab", b"3"), Put("z", b"4")]
        await store.commit(ops)
        assert await store.load("apps/a") == {"apps/a": b"1", "apps/a/v1": b"2"}
        assert sorted(await store.load("apps")) == ["apps/a", "apps/a/v1", "apps/ab"]
        assert await store.load("app") == {}

    async def test_delete_removes_only_that_record(self, bench: Bench) -> None:
        store = await bench.store()
        await store.open("first")
        await store.commit([Put("a", b"1"), Put("a/b", b"2"), Put("c/d/e", b"3")])
        await store.commit([Delete("a"), Delete("c/d/e"), Delete("never/was")])
        assert await store.load() == {"a/b": b"2"}
        await store.commit([Delete("a/b"), Put("c", b"4")])
        assert await store.load() == {"c": b"4"}

    async def test_ops_of_one_commit_apply_in_order(self, bench: Bench) -> None:
        store = await bench.store()
        await store.open("first")
        await store.commit(
            [Put("a", b"1"), Delete("a"), Put("a", b"2"), Put("b", b"1"), Delete("b")]
        )
        assert await store.load() == {"a": b"2"}

    async def test_a_stale_writer_is_refused_and_writes_nothing(self, bench: Bench) -> None:
        old = await bench.store()
        await old.open("old")
        await old.commit([Put("kept", b"1")])
        new = await bench.usurp()
        assert await new.load() == {"kept": b"1"}
        with pytest.raises(StaleEpoch):
            await old.commit([Put("kept", b"overwritten"), Put("late", b"2")])
        assert await new.load() == {"kept": b"1"}
        await new.commit([Put("fresh", b"3")])
        assert await new.load() == {"kept": b"1", "fresh": b"3"}

    async def test_a_stale_writer_is_refused_even_when_nothing_would_change(
        self, bench: Bench
    ) -> None:
        old = await bench.store()
        await old.open("old")
        await bench.usurp()
        with pytest.raises(StaleEpoch):
            await old.commit([Delete("never/was")])

    async def test_a_writer_whose_commit_failed_can_write_no_more(self, bench: Bench) -> None:
        old = await bench.store()
        await old.open("old")
        await bench.usurp()
        with pytest.raises(StaleEpoch):
            await old.commit([Put("a", b"1")])
        with pytest.raises(StoreError, match="failed"):
            await old.commit([Put("a", b"1")])

    async def test_a_writer_whose_epoch_was_removed_is_stale(self, bench: Bench) -> None:
        store = await bench.store()
        await store.open("first")
        await bench.remove_epoch()
        with pytest.raises(StaleEpoch):
            await store.commit([Put("a", b"1")])

    async def test_opening_anew_raises_the_counter(self, bench: Bench) -> None:
        store = await bench.store()
        assert [(await store.open("x")).counter for _ in range(3)] == [1, 2, 3]

    async def test_nothing_works_before_open(self, bench: Bench) -> None:
        store = await bench.store()
        with pytest.raises(StoreError, match="not open"):
            await store.load()
        with pytest.raises(StoreError, match="not open"):
            await store.commit([Put("a", b"1")])

    @pytest.mark.parametrize("data", [b"", b"garbage", b"{}", b'{"cluster_id":"x","counter":-1}'])
    async def test_a_garbage_epoch_is_refused_with_its_place_and_the_remedy(
        self, bench: Bench, data: bytes
    ) -> None:
        store = await bench.store()
        await store.open("first")
        await bench.crash(store)
        place = await bench.spoil_epoch(data)
        with pytest.raises(StoreError) as caught:
            await (await bench.store()).open("second")
        assert place in str(caught.value)

    async def test_full_batches_are_taken_and_larger_ones_refused(self, bench: Bench) -> None:
        store = await bench.store()
        await store.open("first")
        full = [Put(f"bucket/{i % 7}/{i}", b"x" * 900) for i in range(MAX_BATCH_OPS)]
        await store.commit(full)
        assert len(await store.load()) == MAX_BATCH_OPS
        with pytest.raises(StoreError, match="501 writes"):
            await store.commit([Put(str(i), b"x") for i in range(MAX_BATCH_OPS + 1)])
        with pytest.raises(StoreError, match="bytes"):
            await store.commit([Put("big", b"x" * MAX_BATCH_BYTES)])
        # A batch that is refused for its size was not begun, so the writer goes on.
        await store.commit([Put("big", b"x" * (MAX_BATCH_BYTES - 3))])
        assert len((await store.load("big"))["big"]) == MAX_BATCH_BYTES - 3

    @pytest.mark.parametrize(
        "op",
        [
            Put("", b"x"),
            Put("/a", b"x"),
            Put("a//b", b"x"),
            Put("../a", b"x"),
            Put("epoch", b"x"),
            Put("epoch/a", b"x"),
            Delete("epoch"),
            Put("a", b""),
            Put("a\nb", b"x"),
        ],
    )
    async def test_improper_paths_and_empty_records_are_refused(self, bench: Bench, op: Op) -> None:
        store = await bench.store()
        await store.open("first")
        with pytest.raises(StoreError):
            await store.commit([op])
        assert await store.load() == {}

    async def test_a_long_history_ends_as_a_dict_would(self, bench: Bench) -> None:
        rng = random.Random(7)
        store = await bench.store()
        await store.open("first")
        model: dict[str, bytes] = {}
        for _ in range(40):
            ops: list[Op] = []
            for _ in range(rng.randrange(1, 8)):
                path = "/".join(rng.choices("abc", k=rng.randrange(1, 4)))
                if rng.random() < 0.6:
                    ops.append(Put(path, str(rng.random()).encode()))
                    model[path] = ops[-1].data  # type: ignore[union-attr]  # just made a Put
                else:
                    ops.append(Delete(path))
                    model.pop(path, None)
            await store.commit(ops)
        assert await store.load() == model
        assert await contents(bench) == model


async def test_a_second_process_is_told_who_holds_the_file(tmp_path: Path) -> None:
    first, second = FileStore(tmp_path / "x.db"), FileStore(tmp_path / "x.db")
    await first.open("a")
    with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        await second.open("b")
    await first.close()
    assert (await second.open("b")).counter == 2
    await second.close()


async def test_a_full_disk_is_named_and_nothing_half_applied_stays(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "x.db")
    await store.open("a")
    await store.commit([Put("kept", b"1")])
    assert store._db is not None
    # The way SQLite itself is told of a limit; a full filesystem gives the same error.
    store._db.execute("pragma max_page_count = 20")
    with pytest.raises(StoreError, match=r"x\.db.*full: free space"):
        await store.commit([Put("kept", b"2"), *(Put(f"n{i}", b"x" * 4000) for i in range(100))])
    with pytest.raises(StoreError, match="has failed"):
        await store.commit([Put("kept", b"3")])
    await store.close()
    again = FileStore(tmp_path / "x.db")
    await again.open("b")
    assert await again.load() == {"kept": b"1"}
    await again.close()


async def test_a_file_that_is_no_database_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is not a database at all, not even a little" * 100)
    store = FileStore(tmp_path / "x.db")
    with pytest.raises(StoreError, match=r"x\.db.*not a database.*move the file away"):
        await store.open("a")
    await store.close()


@pytest.mark.zookeeper
async def test_of_two_that_open_at_once_only_one_can_write(
    zookeeper: Ensemble, zk_path: str
) -> None:
    bench = ZkBench(zookeeper, zk_path)
    stores = [await bench.store() for _ in range(4)]
    outcomes = await asyncio.gather(
        *(s.open(str(i)) for i, s in enumerate(stores)), return_exceptions=True
    )
    written = 0
    for store, outcome in zip(stores, outcomes, strict=True):
        assert not isinstance(outcome, BaseException) or isinstance(outcome, StaleEpoch)
        try:
            await store.commit([Put("a", b"1")])
            written += 1
        except StoreError:
            continue
    assert written == 1
    await bench.close()


@pytest.mark.zookeeper
async def test_a_store_needs_the_password_that_made_it(zookeeper: Ensemble, zk_path: str) -> None:
    hosts = zookeeper.hosts
    outcomes: list[object] = []
    for user in ("mesos:secret@", "mesos:wrong@"):
        zk = Zk(ZkUrl.parse(f"zk://{user}{hosts}{zk_path}"), 30.0)
        zk.start()
        store = ZkStore(zk, zk_path + "/mesostk")
        try:
            outcomes.append((await store.open("x")).counter)
        except StoreError as error:
            outcomes.append(str(error))
        await zk.close()
    assert outcomes[0] == 1
    assert "user:password" in str(outcomes[1])
    reader = Zk(ZkUrl.parse(zookeeper.url(zk_path)), 30.0)
    reader.start()
    await reader.connected(60.0)
    assert b"cluster_id" in (await reader.get(zk_path + "/mesostk/epoch"))[0]
    await reader.close()


@pytest.mark.zookeeper
async def test_a_multi_whose_answer_is_lost_is_read_back_or_sent_again(
    zookeeper: Ensemble, zk_path: str
) -> None:
    class Lossy(Zk):
        """Loses the answers of multis: of applied ones, then of ones that never arrived."""

        losses: list[str] = []  # noqa: RUF012 - one object in one test

        async def multi(self, ops: object) -> None:
            loss = self.losses.pop(0) if self.losses else ""
            if loss != "request":
                await super().multi(ops)  # type: ignore[arg-type]  # passed through unchanged
            if loss:
                raise UnknownOutcome("lost")

    zk = Lossy(ZkUrl.parse(zookeeper.url(zk_path)), 30.0)
    zk.start()
    store = ZkStore(zk, zk_path + "/mesostk")
    await store.open("x")
    await store.commit([Put("gone", b"0")])
    zk.losses = ["answer"]
    await store.commit([Put("a", b"1"), Delete("gone")])
    zk.losses = ["request", "request", "answer"]
    await store.commit([Put("b/c", b"2"), Put("a", b"3")])
    assert await store.load() == {"a": b"3", "b/c": b"2"}
    zk.losses = ["request"] * 9
    with pytest.raises(UnknownOutcome):
        await store.commit([Put("d", b"4")])
    usurper = ZkStore(zk, zk_path + "/mesostk")
    await usurper.open("y")
    assert await usurper.load() == {"a": b"3", "b/c": b"2"}
    zk.losses = ["answer"]
    await usurper.commit([Put("e", b"5")])
    zk.losses = ["answer"]
    with pytest.raises(StoreError):
        await store.commit([Put("f", b"6")])
    await zk.close()


@pytest.mark.zookeeper
async def test_a_store_survives_the_death_of_the_server_it_talks_to(ensemble: Ensemble) -> None:
    zk = Zk(ZkUrl.parse(ensemble.url("/failover")), 30.0)
    zk.start()
    store = ZkStore(zk, "/failover/mesostk")
    await store.open("x")
    for number in range(60):
        if number == 20:
            ensemble.leader().kill()
        await store.commit([Put(f"n/{number}", b"x")])
    assert len(await store.load()) == 60
    await zk.close()


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
ops_of = st.lists(
    st.one_of(st.builds(Put, paths, st.binary(min_size=1, max_size=3)), st.builds(Delete, paths)),
    max_size=12,
)


@given(st.lists(ops_of, max_size=5))
@settings(max_examples=200, deadline=None)
def test_planned_znode_operations_never_meet_a_missing_or_existing_node(
    batches: list[list[Op]],
) -> None:
    tree, nodes, model = Tree(), {"/r": b""}, dict[str, bytes]()
    for ops in batches:
        for planned in tree.plan("/r", ops):
            match planned:
                case Create(path, data):
                    assert path not in nodes
                    assert path.rpartition("/")[0] in nodes
                    nodes[path] = data
                case SetData(path, data):
                    assert path in nodes
                    nodes[path] = data
                case Remove(path):
                    assert path in nodes
                    assert not any(other.startswith(path + "/") for other in nodes)
                    del nodes[path]
        for op in ops:
            if isinstance(op, Put):
                model[op.path] = op.data
            else:
                model.pop(op.path, None)
        assert {p[3:]: d for p, d in nodes.items() if d} == model
        parents = {p for p, d in nodes.items() if not d and p != "/r"}
        assert all(any(q.startswith(p + "/") and d for q, d in nodes.items()) for p in parents)


@given(st.text(max_size=20))
def test_paths_that_pass_have_no_empty_or_dotted_part(path: str) -> None:
    try:
        check_path(path)
    except StoreError:
        return
    assert all(part not in ("", ".", "..") for part in path.split("/"))
    assert path.isprintable()
