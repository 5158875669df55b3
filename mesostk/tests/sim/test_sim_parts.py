"""The simulated parts keep the promises of what they stand for."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

import pytest

from mesostk.agent.events import Append, Link
from mesostk.base.core import Delete, Put
from mesostk.base.zk import BadVersionError, Check, Create, NodeExistsError, SessionState, SetData
from mesostk.errors import StaleEpoch
from mesostk.testing import simstore
from mesostk.testing.simdisk import SimDisk
from mesostk.testing.simhost import Ground, Host
from mesostk.testing.simloop import spawn
from mesostk.testing.simnet import Network, Request, Server
from mesostk.testing.simzk import Ensemble, Zk


class Bare(Server):
    """A process that does nothing by itself and answers every stream."""

    def boot(self) -> None:
        """Nothing."""

    def serve(self, request: Request) -> None:
        """Begin the stream."""
        assert request.stream is not None
        request.stream.begin("s")
        self.stream = request.stream


@pytest.fixture
def ground() -> Ground:
    return Ground(1)


def bare(ground: Ground, name: str) -> Bare:
    process = Bare(ground, name, Host(name, f"10.0.0.{len(name)}"))
    process.start()
    return process


def client(ensemble: Ensemble, process: Bare) -> Zk:
    zk = Zk(ensemble, process, 10.0)
    zk.start()
    process.ground.loop.run(process.ground.loop.now + 1.0)
    assert zk.state is SessionState.CONNECTED
    return zk


def outcome(ground: Ground, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, or the error it raised, once time has passed."""
    got: list[Any] = []
    spawn(coroutine, got.append, got.append)
    ground.loop.run(ground.loop.now + 30.0)
    assert len(got) == 1, "it never came to an end"
    return got[0]


# -- disk ---------------------------------------------------------------------------------------


def test_a_power_cut_keeps_what_was_synced_and_may_lose_the_rest() -> None:
    seen = set()
    for seed in range(50):
        disk = SimDisk(random.Random(seed))
        disk.apply(Put("meta/epoch", b"one"), sync=True)
        disk.apply(Link("meta/slaves/latest", "S1"), sync=True)
        disk.apply(Append("meta/slaves/S1/x", b"abc"), sync=False)
        disk.apply(Link("other", "S2"), sync=False)
        disk.cut_power()
        assert disk.files["meta/epoch"] == b"one"
        assert disk.links == {"meta/slaves/latest": "S1"}
        seen.add(disk.files.get("meta/slaves/S1/x"))
    assert {None, b"abc"} < seen, "it is never lost, or never kept"


def test_a_torn_append_leaves_a_part_and_a_torn_put_the_old_record() -> None:
    disk = SimDisk(random.Random(3))
    disk.apply(Put("a", b"old"), sync=False)
    disk.tear(Put("a", b"new"))
    disk.apply(Append("b", b"1"), sync=False)
    disk.tear(Append("b", b"234"))
    assert disk.files["a"] == b"old"
    assert disk.files["b"].startswith(b"1")
    assert len(disk.files["b"]) < 4
    disk.apply(Delete("a"), sync=False)
    assert "a" not in disk.files


# -- ZooKeeper ----------------------------------------------------------------------------------


def test_a_multi_is_applied_whole_or_not_at_all(ground: Ground) -> None:
    ensemble = Ensemble(ground)
    ensemble.create("/a", b"1")
    with pytest.raises(NodeExistsError):
        ensemble.multi([SetData("/a", b"2"), Create("/b", b""), Create("/a", b"")])
    with pytest.raises(BadVersionError):
        ensemble.multi([Check("/a", 1), SetData("/a", b"2")])
    assert ensemble.node("/a").data == b"1"
    assert ensemble.node("/a").version == 0
    assert "/b" not in ensemble.nodes
    assert ensemble.node("/").children == {"a"}


def test_the_second_owner_of_a_store_ends_the_writing_of_the_first(ground: Ground) -> None:
    ensemble = Ensemble(ground)
    stores: list[simstore.ZkStore] = []
    for name in ("one", "two2"):
        zk = client(ensemble, bare(ground, name))
        store = simstore.store_on(zk, "/m/store")
        epoch = outcome(ground, store.open(name))
        assert epoch.counter == len(stores) + 1
        assert outcome(ground, store.load()) == ({} if not stores else {"x/y": b"1"})
        if not stores:
            assert outcome(ground, store.commit([Put("x/y", b"1")])) is None
        stores.append(store)
    assert isinstance(outcome(ground, stores[0].commit([Put("x/y", b"2")])), StaleEpoch)
    assert ensemble.node("/m/store/x/y").data == b"1"
    assert ensemble.refused == 1


def test_a_paused_process_loses_its_session_and_learns_it_later(ground: Ground) -> None:
    ensemble = Ensemble(ground)
    process = bare(ground, "one")
    zk = client(ensemble, process)
    outcome(ground, zk.create("/lead", b"", ephemeral=True))
    process.pause(20.0)
    ground.loop.run(ground.loop.now + 12.0)
    assert "/lead" not in ensemble.nodes
    assert zk.state is SessionState.CONNECTED, "it cannot know"
    states: list[SessionState] = []
    zk.listen(states.append)
    ground.loop.run(ground.loop.now + 20.0)
    assert states == [SessionState.LOST, SessionState.CONNECTED]


def test_a_session_outlives_a_short_cut_and_an_outage(ground: Ground) -> None:
    ensemble = Ensemble(ground)
    process = bare(ground, "one")
    zk = client(ensemble, process)
    outcome(ground, zk.create("/lead", b"", ephemeral=True))
    ensemble.cut("one")
    ground.loop.run(ground.loop.now + 4.0)
    ensemble.mend("one")
    ensemble.set_quorum(has_quorum=False)
    ground.loop.run(ground.loop.now + 60.0)
    ensemble.set_quorum(has_quorum=True)
    ground.loop.run(ground.loop.now + 5.0)
    assert "/lead" in ensemble.nodes
    assert zk.state is SessionState.CONNECTED


# -- network ------------------------------------------------------------------------------------


def test_records_of_a_stream_keep_their_order_and_parted_hosts_hear_nothing(
    ground: Ground,
) -> None:
    net = Network(ground)
    here, there = bare(ground, "here"), bare(ground, "there")
    net.servers["there:1"] = there
    heard: list[Any] = []
    stream = net.open(here, "there:1", "any", None)
    assert stream is not None
    stream.on_record = heard.append
    ground.loop.run(ground.loop.now + 1.0)
    for number in range(50):
        stream.send(number)
    ground.loop.run(ground.loop.now + 1.0)
    assert heard == list(range(50))
    net.part(here.host, there.host)
    stream.send(50)
    ground.loop.run(ground.loop.now + 100.0)
    assert heard[-1] == 49
    ends: list[str] = []
    stream.on_client_end = ends.append
    net.join(here.host, there.host)
    ground.loop.run(ground.loop.now + 1.0)
    assert heard[-1] == 50 or ends == ["connection reset"]
