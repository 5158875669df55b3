"""Election and detection on a real ZooKeeper."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.client import KazooClient

from mesostk.base.election import (
    MASTER_PREFIX,
    AlwaysLeader,
    Candidate,
    Detector,
    FixedLeader,
    latch_prefix,
    leader_of,
    sequence_of,
)
from mesostk.base.log import Log
from mesostk.base.zk import NodeExistsError, NoNodeError, SessionState, Zk, ZkUrl
from mesostk.errors import ConfigError, StoreError, Unavailable
from mesostk.testing.zookeeper import Ensemble, Member, free_ports

QUIET = Log(stream=io.StringIO())


async def until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Return once `condition` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - any condition, also of other processes
            await asyncio.sleep(0.01)


class Party:
    """Sessions and their tasks over one server, ended together."""

    def __init__(self, hosts: str, path: str) -> None:
        self.path = path
        self.url = ZkUrl.parse(f"zk://{hosts}{path}")
        self.sessions: list[Zk] = []
        self.tasks: list[asyncio.Task[None]] = []

    def session(self, timeout_s: float = 30.0) -> Zk:
        zk = Zk(self.url, timeout_s)
        zk.start()
        self.sessions.append(zk)
        return zk

    def runner(self, data: bytes, prefix: str = MASTER_PREFIX, zk: Zk | None = None) -> Runner:
        runner = Runner(zk if zk is not None else self.session(), self.path, prefix, data)
        self.tasks.append(asyncio.create_task(runner.candidate.run()))
        return runner

    def watcher(self, zk: Zk | None = None) -> list[bytes | None]:
        seen: list[bytes | None] = []
        detector = Detector(zk if zk is not None else self.session(), self.path, seen.append, QUIET)
        self.tasks.append(asyncio.create_task(detector.run()))
        return seen

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Also after a failure: the threads of an open session disturb every later test."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*(zk.close() for zk in self.sessions))


class Runner:
    def __init__(self, zk: Zk, path: str, prefix: str, data: bytes) -> None:
        self.zk = zk
        self.story: list[str] = []
        self.candidate = Candidate(
            zk,
            path,
            prefix,
            data,
            lambda: self.story.append("elected"),
            self.story.append,
            QUIET,
        )


@pytest.fixture
async def party(zookeeper: Ensemble, zk_path: str) -> AsyncIterator[Party]:
    async with Party(zookeeper.hosts, zk_path + "/mesos") as made:
        yield made


@pytest.mark.zookeeper
async def test_the_first_candidate_leads_and_the_next_takes_over(party: Party) -> None:
    seen = party.watcher()
    await until(lambda: seen == [None])
    first = party.runner(b"one")
    await until(lambda: first.story == ["elected"])
    second = party.runner(b"two")
    third = party.runner(b"three")
    await until(lambda: None not in (second.candidate._node, third.candidate._node))
    assert (second.story, third.story) == ([], [])
    assert seen == [None, b"one"]
    await first.zk.close()
    await until(lambda: seen[-1] in (b"two", b"three"))
    await until(lambda: len(second.story + third.story) == 1)
    # Who closes its session itself knows that it leads no more.
    assert first.story == ["elected"]
    assert seen in ([None, b"one", b"two"], [None, b"one", b"three"])


@pytest.mark.zookeeper
async def test_who_is_cancelled_when_the_answer_comes_ends(party: Party) -> None:
    zk = party.session()
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(zk._bounded(answer, Unavailable))
    await asyncio.sleep(0)
    answer.set_result(None)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.zookeeper
async def test_candidates_are_named_as_the_originals_name_them(party: Party) -> None:
    zk = party.session()
    await zk.connected(60.0)
    await zk.ensure_path(party.path)
    # What the original keeps beside its candidates, and our own records.
    for name in ("log_replicas", "mesostk"):
        await zk.create(f"{party.path}/{name}", b"")
    master = party.runner(b"{}")
    await until(lambda: master.story == ["elected"])
    latch = party.runner(b"host:8080", latch_prefix("1f0d"))
    await until(lambda: latch.candidate._node is not None)
    names = sorted(await zk.children(party.path))
    assert names == [
        "_c_1f0d-latch-0000000003",
        "json.info_0000000002",
        "log_replicas",
        "mesostk",
    ]


@pytest.mark.zookeeper
async def test_a_leader_whose_node_is_removed_is_told_so_and_a_follower_stands_again(
    party: Party,
) -> None:
    first = party.runner(b"one")
    await until(lambda: first.story == ["elected"])
    second = party.runner(b"two")
    third = party.runner(b"three")
    await until(lambda: None not in (second.candidate._node, third.candidate._node))
    zk = party.session()
    await zk.connected(60.0)
    old = third.candidate._node
    await zk.delete(f"{party.path}/{old}")
    await until(lambda: third.candidate._node not in (None, old))
    await zk.delete(f"{party.path}/{first.candidate._node}")
    await until(lambda: len(first.story) == 2)
    assert "removed" in first.story[1]
    await until(lambda: second.story == ["elected"])
    assert third.story == []


@pytest.mark.zookeeper
async def test_a_candidate_finds_the_node_that_an_answer_was_lost_for(party: Party) -> None:
    zk = party.session()
    await zk.connected(60.0)
    await zk.ensure_path(party.path)
    made = await zk.create(f"{party.path}/json.info_", b"me", ephemeral=True, sequence=True)
    await zk.create(f"{party.path}/json.info_", b"other", ephemeral=True, sequence=True)
    runner = party.runner(b"me", zk=zk)
    await until(lambda: runner.story == ["elected"])
    assert runner.candidate._node == made.rpartition("/")[2]
    assert len(await zk.children(party.path)) == 2


@pytest.mark.zookeeper
async def test_an_expired_session_ends_a_leader_and_a_follower_stands_again(
    party: Party, zookeeper: Ensemble
) -> None:
    leader = party.runner(b"one")
    await until(lambda: leader.story == ["elected"])
    follower = party.runner(b"two")
    await until(lambda: follower.candidate._node is not None)
    seen = party.watcher()
    await until(lambda: seen == [b"one"])
    for runner in (leader, follower):
        expire(runner.zk, zookeeper)
    await until(lambda: len(leader.story) == 2)
    await until(lambda: seen[-1] == b"two")
    assert leader.story == ["elected", "the ZooKeeper session is lost"]
    await until(lambda: follower.story == ["elected"])


def expire(zk: Zk, servers: Ensemble) -> None:
    """End the session behind the client's back, with a second connection to it."""
    client_id = zk._client.client_id
    thief = KazooClient(hosts=servers.hosts, client_id=client_id, timeout=4.0)
    thief.start()
    thief.stop()
    thief.close()


@pytest.mark.zookeeper
async def test_quorum_lost_ends_the_leader_by_its_own_clock_and_detectors_recover(
    ensemble: Ensemble,
) -> None:
    async with Party(ensemble.hosts, "/mesos") as party:
        leader = party.runner(b"one", zk=party.session(8.0))
        states: list[SessionState] = []
        leader.zk.listen(states.append)
        await until(lambda: leader.story == ["elected"])
        seen = party.watcher(party.session(8.0))
        await until(lambda: seen == [b"one"])
        down = [ensemble.leader(), ensemble.follower()]
        began = time.monotonic()
        for member in down:
            member.kill()
        await until(lambda: len(leader.story) == 2)
        # Being suspended did not end it: that comes at once.
        assert time.monotonic() - began >= 4.0
        assert states[-2:] == [SessionState.SUSPENDED, SessionState.LOST]
        await until(lambda: seen[-1] is None)
        # The process would end here.
        await leader.zk.close()
        for member in down:
            member.launch()
        next_leader = party.runner(b"two")
        await until(lambda: next_leader.story == ["elected"])
        await until(lambda: seen[-1] == b"two")


@pytest.mark.zookeeper
async def test_a_follower_of_the_ensemble_dies_and_nobody_loses_anything(
    ensemble: Ensemble,
) -> None:
    async with Party(ensemble.hosts, "/mesos") as party:
        leader = party.runner(b"one", zk=party.session())
        await until(lambda: leader.story == ["elected"])
        seen = party.watcher(party.session())
        await until(lambda: seen == [b"one"])
        ensemble.follower().kill()
        other = party.session()
        await other.connected(60.0)
        for zk in party.sessions:
            await zk.connected(60.0)
            await zk.get(party.path)
        assert (leader.story, seen) == (["elected"], [b"one"])


@pytest.mark.zookeeper
async def test_a_silent_server_is_unavailable_not_endless(zookeeper: Ensemble) -> None:
    zk = Zk(ZkUrl.parse(f"zk://127.0.0.1:{free_ports('127.0.0.1', 1)[0]}/x"), 1.0)
    zk.start()
    with pytest.raises(Unavailable, match="majority"):
        await zk.connected(0.2)
    with pytest.raises(Unavailable):
        await zk.get("/x")
    await zk.close()


@pytest.mark.zookeeper
async def test_verdicts_of_zookeeper_reach_the_caller(party: Party) -> None:
    zk = party.session()
    await zk.connected(60.0)
    await zk.ensure_path(party.path)
    with pytest.raises(NoNodeError):
        await zk.get(party.path + "/none")
    with pytest.raises(NodeExistsError):
        await zk.create(party.path, b"")
    with pytest.raises(StoreError):
        await zk.create(party.path + "/large", b"x" * 1_100_000)


async def test_standalone_forms_lead_and_tell_at_once() -> None:
    story: list[object] = []
    candidate = AlwaysLeader(lambda: story.append("elected"))
    await candidate.run()
    await FixedLeader(b"host:5050", story.append).run()
    assert (candidate.leads, story) == (True, ["elected", b"host:5050"])


def test_numbers_of_candidates() -> None:
    assert sequence_of("json.info_0000000007") == 7
    assert sequence_of("info_0000000008") == 8
    assert sequence_of("0000000009") == 9
    assert sequence_of("_c_9a-latch-0000000010") == 10
    for name in ("log_replicas", "mesostk", "epoch", "", "json.info_", "x_1a"):
        assert sequence_of(name) is None
    assert leader_of(["mesostk", "info_0000000012", "json.info_0000000011"]) == (
        "json.info_0000000011"
    )
    assert leader_of(["log_replicas"]) is None


@pytest.mark.parametrize(
    ("text", "hosts", "path", "user"),
    [
        ("zk://a:2181,b:2182/mesos", "a:2181,b:2182", "/mesos", None),
        ("zk://a/mesos/", "a:2181", "/mesos", None),
        ("zk://u:p@ss@a,[::1]:99/x/y", "a:2181,[::1]:99", "/x/y", "u"),
    ],
)
def test_urls_are_read(text: str, hosts: str, path: str, user: str | None) -> None:
    url = ZkUrl.parse(text)
    assert (url.hosts, url.path, url.user) == (hosts, path, user)
    assert ZkUrl.parse(str(url)) == url
    assert str(url.at("/marathon")).endswith("/marathon")


@pytest.mark.parametrize(
    "text",
    ["", "a:2181/mesos", "zk://", "zk:///mesos", "zk://a", "zk://a/", "zk://a:x/m", "zk://a:0/m",
     "zk://a:70000/m", "zk://u@a/m", "zk://:p@a/m", "zk://a,,b/m", "zk://a//m", "zk://a/m\n/x"],
)  # fmt: skip
def test_wrong_urls_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        ZkUrl.parse(text)


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    with suppress(ConfigError):
        ZkUrl.parse("zk://" + text)


@pytest.mark.zookeeper
def test_a_member_that_cannot_start_says_why(tmp_path: Path, zookeeper: Ensemble) -> None:
    taken = zookeeper.members[0]
    second = Ensemble(tmp_path, client_ports=[taken.client_port])
    member: Member = second.members[0]
    member.launch()
    assert member._process is not None
    member._process.wait(90)
    with pytest.raises(Unavailable, match="ended"):
        member.wait_serving(60.0)
    second.stop()
