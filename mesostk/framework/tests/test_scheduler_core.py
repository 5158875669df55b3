"""SchedulerCore: who is asked when, and what makes it give a stream up."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.base.core import Effect, Event, Note, Tick
from mesostk.errors import WireError
from mesostk.framework import core as c
from mesostk.wire import scheduler
from mesostk.wire.json import encode
from mesostk.wire.mesos import Address, FrameworkID, FrameworkInfo, MasterInfo, OfferID

INFO = FrameworkInfo(user="root", name="test")
F = FrameworkID("F-0000")


class Rig:
    """A core, its clock, and what it asked for."""

    def __init__(self, *addresses: str) -> None:
        self.core = c.SchedulerCore(random.Random(1), addresses)
        self.now = 100.0
        self.effects: list[Effect] = []

    def feed(self, event: Event) -> list[Effect]:
        made = [e for e in self.core.handle(self.now, event) if not isinstance(e, Note)]
        self.core.check()
        self.effects += made
        return made

    def pass_time(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.feed(Tick())

    def wait(self) -> list[Effect]:
        """Until the core's own deadline."""
        deadline = self.core.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.feed(Tick())

    def attempt(self) -> c.OpenStream:
        return next(e for e in reversed(self.effects) if isinstance(e, c.OpenStream))

    def record(self, type_: scheduler.EventType, **fields: object) -> list[Effect]:
        event = scheduler.Event(type=type_, **fields)  # type: ignore[arg-type]  # each caller's fields are right
        return self.feed(c.Received(self.attempt().attempt, event))

    def connect(self, heartbeat_s: float | None = 15.0) -> None:
        self.feed(c.SubscribeAsked(INFO))
        self.wait()
        self.subscribed(heartbeat_s)

    def subscribed(self, heartbeat_s: float | None = 15.0) -> list[Effect]:
        self.feed(c.StreamOpened(self.attempt().attempt, "stream-1"))
        body = scheduler.Subscribed(framework_id=F, heartbeat_interval_seconds=heartbeat_s)
        return self.record("SUBSCRIBED", subscribed=body)


def test_subscribing_waits_for_a_leader_and_then_goes_to_it() -> None:
    rig = Rig()
    rig.feed(c.SubscribeAsked(INFO))
    assert rig.wait() == []
    assert rig.core.deadline() is None
    rig.feed(c.LeaderKnown("m1:5050"))
    [opened] = rig.wait()
    assert isinstance(opened, c.OpenStream)
    assert opened.address == "m1:5050"
    assert opened.call.type == "SUBSCRIBE"
    assert opened.call.framework_id is None


def test_the_id_from_the_master_is_used_to_subscribe_again() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    assert rig.effects[-1] == c.Connected(F, None)
    attempt = rig.attempt().attempt
    assert rig.feed(c.StreamEnded(attempt, "cut")) == [
        c.CloseStream(attempt),
        c.Disconnected("cut"),
    ]
    [again] = rig.wait()
    assert isinstance(again, c.OpenStream)
    assert again.call.framework_id == F
    assert again.call.subscribe is not None
    assert again.call.subscribe.framework_info.id == F


def test_calls_carry_the_framework_id_and_are_dropped_while_not_connected() -> None:
    rig = Rig("m1:5050")
    assert rig.feed(c.CallMade(scheduler.Call(type="REVIVE"))) == []
    rig.connect()
    [post] = rig.feed(c.CallMade(scheduler.Call(type="REVIVE")))
    assert isinstance(post, c.Post)
    assert (post.stream_id, post.call.framework_id) == ("stream-1", F)


@pytest.mark.parametrize("location", ["//m2:5050/master/api/v1/scheduler", "http://m2:5050/x"])
def test_a_redirect_is_followed_at_once(location: str) -> None:
    rig = Rig("m1:5050")
    rig.feed(c.SubscribeAsked(INFO))
    rig.wait()
    [again] = rig.feed(c.StreamRefused(1, 307, "", location))
    assert isinstance(again, c.OpenStream)
    assert again.address == "m2:5050"


def test_redirects_in_a_circle_end_in_a_back_off() -> None:
    rig = Rig("m1:5050")
    rig.feed(c.SubscribeAsked(INFO))
    rig.wait()
    for _ in range(20):
        if rig.core.state != "SUBSCRIBING":
            break
        there = "m2:5050" if rig.attempt().address == "m1:5050" else "m1:5050"
        rig.feed(c.StreamRefused(rig.attempt().attempt, 307, "", f"//{there}/"))
    assert rig.core.state == "WAITING"
    assert rig.attempt().attempt == c.MAX_REDIRECTS + 1


def test_masters_are_tried_in_turn_with_growing_pauses() -> None:
    rig = Rig("m1:5050", "m2:5050")
    rig.feed(c.SubscribeAsked(INFO))
    tried, longest = [], 0.0
    for _ in range(30):
        rig.wait()
        tried.append(rig.attempt().address)
        rig.feed(c.StreamRefused(rig.attempt().attempt, 503, "No leader elected"))
        deadline = rig.core.deadline()
        assert deadline is not None
        longest = max(longest, deadline - rig.now)
    assert tried[:4] == ["m1:5050", "m2:5050", "m1:5050", "m2:5050"]
    assert 1.0 < longest <= c.MAX_BACKOFF_S


def test_five_missed_heartbeats_end_the_stream_and_any_record_counts_as_one() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    assert rig.pass_time(74.9) == []
    rig.record("HEARTBEAT")
    assert rig.pass_time(74.9) == []
    rig.record("RESCIND", rescind=scheduler.Rescind(offer_id=OfferID("O")))
    assert rig.pass_time(74.9) == []
    assert rig.pass_time(0.2)[-1] == c.Disconnected("no heartbeat for 75 s")


def test_the_masters_own_heartbeat_interval_counts() -> None:
    rig = Rig("m1:5050")
    rig.connect(heartbeat_s=2.0)
    assert rig.pass_time(10.1)[-1] == c.Disconnected("no heartbeat for 10 s")


def test_a_master_that_never_answers_is_given_up() -> None:
    rig = Rig("m1:5050", "m2:5050")
    rig.feed(c.SubscribeAsked(INFO))
    rig.wait()
    assert rig.pass_time(c.SUBSCRIBE_TIMEOUT_S) == [c.CloseStream(1)]
    rig.wait()
    assert rig.attempt().address == "m2:5050"


def test_another_leader_takes_the_stream_over_at_once() -> None:
    rig = Rig()
    rig.feed(c.LeaderKnown("m1:5050"))
    rig.connect()
    assert rig.feed(c.LeaderKnown(None)) == []
    assert rig.feed(c.LeaderKnown("m1:5050")) == []
    assert rig.feed(c.LeaderKnown("m2:5050"))[-1] == c.Disconnected("m2:5050 leads now")
    deadline = rig.core.deadline()
    assert deadline is not None
    assert deadline - rig.now <= c.FIRST_DELAY_S
    rig.wait()
    assert rig.attempt().address == "m2:5050"


def test_an_error_is_told_and_nothing_is_tried_until_the_framework_asks() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    event = scheduler.Event(
        type="ERROR", error=scheduler.Error(message="Framework has been removed")
    )
    effects = rig.feed(c.Received(rig.attempt().attempt, event))
    assert effects == [
        c.CloseStream(1),
        c.Disconnected("Framework has been removed"),
        c.Deliver(event),
    ]
    assert rig.core.deadline() is None
    assert rig.feed(c.LeaderKnown("m2:5050")) == []
    rig.feed(c.SubscribeAsked(INFO))
    rig.wait()
    assert rig.attempt().call.framework_id is None


def test_an_error_instead_of_subscribed_is_told_too() -> None:
    rig = Rig("m1:5050")
    rig.feed(c.SubscribeAsked(INFO))
    rig.wait()
    rig.feed(c.StreamOpened(1, "s"))
    effects = rig.record("ERROR", error=scheduler.Error(message="bad role"))
    assert isinstance(effects[-1], c.Deliver)
    assert rig.core.state == "IDLE"


@pytest.mark.parametrize(
    ("status", "message", "reconnects"),
    [
        (400, "Failed to validate scheduler::Call: Expecting 'kill' to be present", False),
        (415, "Expecting 'Content-Type'", False),
        (400, "The stream ID 'x' included in this request didn't match", True),
        (400, "Framework cannot be found", True),
        (403, "Framework is not subscribed", True),
        (503, "No leader elected", True),
        (307, "", True),
        (0, "no answer", True),
    ],
)
def test_a_refused_call_ends_the_stream_only_if_the_stream_is_at_fault(
    status: int, message: str, reconnects: bool
) -> None:
    rig = Rig("m1:5050")
    rig.connect()
    rig.feed(c.CallRefused(rig.attempt().attempt, "KILL", status, message))
    assert (rig.core.state == "WAITING") is reconnects


@pytest.mark.parametrize(
    ("status", "message", "reconnects"),
    [
        (400, "Role 'web' is not present in the master's --roles", False),
        (403, "Not authorized to use role 'web'", False),
        (400, "The stream ID 'x' included in this request didn't match", True),
        (400, "Framework cannot be found", True),
        (403, "Framework is not subscribed", True),
        (503, "No leader elected", True),
    ],
)
def test_an_info_that_the_master_will_not_have_is_told_and_ends_no_stream(
    status: int, message: str, reconnects: bool
) -> None:
    rig = Rig("m1:5050")
    rig.connect()
    effects = rig.feed(c.CallRefused(rig.attempt().attempt, "UPDATE_FRAMEWORK", status, message))
    assert (rig.core.state == "WAITING") is reconnects
    assert (c.InfoAnswered(message) in effects) is not reconnects


def test_an_info_that_the_master_took_is_told_and_no_other_call() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    attempt = rig.attempt().attempt
    assert rig.feed(c.CallDone(attempt, "KILL")) == []
    assert rig.feed(c.CallDone(attempt - 1, "UPDATE_FRAMEWORK")) == []
    assert rig.feed(c.CallDone(attempt, "UPDATE_FRAMEWORK")) == [c.InfoAnswered(None)]


def test_whatever_belongs_to_an_older_attempt_is_ignored() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    rig.feed(c.StreamEnded(1, "cut"))
    rig.wait()
    rig.subscribed()
    for stale in (
        c.StreamEnded(1, "cut"),
        c.StreamRefused(1, 503, ""),
        c.CallRefused(1, "KILL", 403, ""),
        c.StreamOpened(1, "old"),
        c.Received(1, scheduler.Event(type="ERROR")),
    ):
        assert rig.feed(stale) == []
    assert rig.core.state == "CONNECTED"


def test_records_before_subscribed_and_unknown_ones_are_not_delivered() -> None:
    rig = Rig("m1:5050")
    rig.feed(c.SubscribeAsked(INFO))
    rig.wait()
    rig.feed(c.StreamOpened(1, "s"))
    assert rig.record("OFFERS", offers=scheduler.Offers()) == [c.CloseStream(1)]
    rig.wait()
    rig.subscribed()
    assert rig.record("UNKNOWN") == []
    assert rig.core.state == "CONNECTED"


def test_the_end_of_the_stream_after_a_teardown_is_the_end() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    rig.feed(c.CallMade(scheduler.Call(type="TEARDOWN")))
    assert rig.feed(c.StreamEnded(1, "closed"))[-1] == c.Disconnected("the framework is torn down")
    assert rig.core.deadline() is None


def test_a_teardown_that_did_not_arrive_is_no_end() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    rig.feed(c.CallMade(scheduler.Call(type="TEARDOWN")))
    rig.feed(c.CallRefused(1, "TEARDOWN", 0, "no answer"))
    assert rig.core.state == "WAITING"


def test_stopping_closes_the_stream_and_arms_nothing() -> None:
    rig = Rig("m1:5050")
    rig.connect()
    assert rig.feed(c.StopAsked()) == [c.CloseStream(1), c.Disconnected("the framework stops")]
    assert rig.core.deadline() is None
    assert rig.feed(c.StopAsked()) == []


_events = st.one_of(
    st.just(c.SubscribeAsked(INFO)),
    st.just(c.StopAsked()),
    st.just(c.CallMade(scheduler.Call(type="REVIVE"))),
    st.sampled_from([None, "m1:5050", "m2:5050"]).map(c.LeaderKnown),
    st.integers(0, 4).map(lambda n: c.StreamOpened(n, "s")),
    st.integers(0, 4).map(lambda n: c.StreamRefused(n, 307, "", "//m2:5050/")),
    st.integers(0, 4).map(lambda n: c.StreamRefused(n, 503, "")),
    st.integers(0, 4).map(lambda n: c.StreamEnded(n, "cut")),
    st.integers(0, 4).map(lambda n: c.CallRefused(n, "KILL", 403, "")),
    st.tuples(
        st.integers(0, 4), st.sampled_from(["SUBSCRIBED", "OFFERS", "ERROR", "HEARTBEAT"])
    ).map(
        lambda pair: c.Received(
            pair[0],
            scheduler.Event(
                type=pair[1],  # type: ignore[arg-type]  # one of the event types above
                subscribed=scheduler.Subscribed(framework_id=F),
            ),
        )
    ),
    st.just(Tick()),
)


@given(st.lists(_events, max_size=40))
def test_connections_and_streams_pair_up_whatever_happens(events: list[Event]) -> None:
    rig = Rig("m1:5050")
    for event in events:
        rig.now += 3.0
        rig.feed(event)
    rig.feed(c.StopAsked())
    told = [e for e in rig.effects if isinstance(e, (c.Connected, c.Disconnected))]
    for index, effect in enumerate(told):
        assert isinstance(effect, c.Connected) == (index % 2 == 0)
    assert len(told) % 2 == 0


# -- what a detector finds ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (b"10.0.3.11:5050", "10.0.3.11:5050"),
        (b"master@10.0.3.11:5050\n", "10.0.3.11:5050"),
        (encode(MasterInfo(id="m", ip=16777343)), "127.0.0.1:5050"),
        (encode(MasterInfo(id="m", ip=0, pid="master@1.2.3.4:99")), "1.2.3.4:99"),
        (
            encode(MasterInfo(id="m", ip=0, pid="x@y:1", address=Address(ip="1.1.1.1", port=7))),
            "1.1.1.1:7",
        ),
        (encode(MasterInfo(id="m", ip=0, address=Address(hostname="h", port=7))), "h:7"),
    ],
)
def test_the_leaders_address_is_found_in_every_form(data: bytes, address: str) -> None:
    assert c.leader_address(data) == address


@pytest.mark.parametrize("data", [b"", b"{}", b"host", b"host:port", b"\xff\x00", b'{"id":1}'])
def test_what_names_no_leader_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        c.leader_address(data)
