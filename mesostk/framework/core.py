"""`SchedulerCore`: when to subscribe, to whom, and when to give a stream up. Pure."""

# ruff: noqa: ARG002, SLF001  # handlers share one signature; the tables name methods of their class

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from mesostk.base.core import Effect, Event, Tick, note
from mesostk.base.units import whole_number
from mesostk.errors import WireError
from mesostk.wire import json, scheduler
from mesostk.wire.mesos import FrameworkID, FrameworkInfo, MasterInfo

State = Literal["IDLE", "WAITING", "SUBSCRIBING", "CONNECTED"]

#: A leader that just appeared is asked within this time; jitter keeps frameworks from a stampede.
FIRST_DELAY_S = 0.1
#: Delays after failures: full jitter up to a limit that doubles from the first to the last.
MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 5.0
#: Redirects followed at once; more than there are masters is a circle.
MAX_REDIRECTS = 5
#: A master that takes a connection but does not subscribe us in this time is given up.
SUBSCRIBE_TIMEOUT_S = 30.0
#: 5 × 15 s, the original's advice and its agents' ping limit.
MISSED_HEARTBEATS = 5
DEFAULT_HEARTBEAT_S = 15.0


# -- events -------------------------------------------------------------------------------------


class SubscribeAsked(Event, frozen=True):
    """The framework wants to be connected as `info`, from now until told otherwise.

    `info.id` is set when the framework was subscribed before.
    """

    info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()


class InfoChanged(Event, frozen=True):
    """What to subscribe with from now on; does not disturb a connection."""

    info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()


class StopAsked(Event, frozen=True):
    """The framework wants no connection any more; the master's failover time-out begins."""


class CallMade(Event, frozen=True):
    """The framework makes a call; the framework id is filled in."""

    call: scheduler.Call


class LeaderKnown(Event, frozen=True):
    """Who leads, as `host:port`; None if that is not known at the moment."""

    address: str | None


class StreamOpened(Event, frozen=True):
    """The answer to attempt `attempt` is a stream."""

    attempt: int
    stream_id: str


class StreamRefused(Event, frozen=True):
    """The answer to attempt `attempt` is not a stream; `location` is that of a redirect."""

    attempt: int
    status: int
    message: str
    location: str | None = None


class StreamEnded(Event, frozen=True):
    """The stream of `attempt` is over, or never came to be."""

    attempt: int
    reason: str


class Received(Event, frozen=True):
    """One record of the stream of `attempt`."""

    attempt: int
    event: scheduler.Event


class CallDone(Event, frozen=True):
    """The master has done a call on the stream of `attempt`, not only taken it on."""

    attempt: int
    type: str


class CallRefused(Event, frozen=True):
    """A call on the stream of `attempt` was not accepted; status 0 if there was no answer."""

    attempt: int
    type: str
    status: int
    message: str


# -- effects ------------------------------------------------------------------------------------


class OpenStream(Effect, frozen=True):
    """POST `call` to `address` and tell what comes under the number `attempt`."""

    attempt: int
    address: str
    call: scheduler.Call


class CloseStream(Effect, frozen=True):
    """Drop the stream of `attempt` and the calls that still wait for it."""

    attempt: int


class Post(Effect, frozen=True):
    """POST `call` after the ones before it."""

    attempt: int
    address: str
    stream_id: str
    call: scheduler.Call


class Deliver(Effect, frozen=True):
    """Hand an event to the framework."""

    event: scheduler.Event


class InfoAnswered(Effect, frozen=True):
    """The master took an UPDATE_FRAMEWORK, or `refusal` tells why not; nothing changed then.

    Answers come in the order of the calls; none comes for calls of a subscription that is over.
    """

    refusal: str | None


class Connected(Effect, frozen=True):
    """Tell the framework that it is subscribed."""

    framework_id: FrameworkID
    master: MasterInfo | None


class Disconnected(Effect, frozen=True):
    """Tell the framework that a subscription is over; told once per `Connected`."""

    reason: str


class SchedulerCore:
    """One framework's subscription.

    `addresses` are masters to try in turn where no detector tells the leader.
    """

    def __init__(self, rng: random.Random, addresses: Sequence[str] = ()) -> None:
        self._rng = rng
        self._addresses = tuple(addresses)
        self._turn = 0
        self._leader: str | None = None
        self._redirect: str | None = None
        self._redirects = 0
        self._failures = 0
        self._info: FrameworkInfo | None = None
        self._suppressed: tuple[str, ...] = ()
        self._attempt = 0
        self._address = ""
        self._stream_id: str | None = None
        self._heartbeat_s = DEFAULT_HEARTBEAT_S
        self._deadline: float | None = None
        self._leaving = False
        self.state: State = "IDLE"

    def handle(self, now: float, event: Event) -> list[Effect]:
        """Take one event in; return what the shell must do, in order."""
        return HANDLERS[type(event)](self, now, event)

    def deadline(self) -> float | None:
        """When a back-off ends, a subscription takes too long or a master is silent too long."""
        return self._deadline

    def check(self) -> None:
        """Assert the invariants."""
        assert (self.state == "IDLE") <= (self._deadline is None)
        assert (self.state == "CONNECTED") <= (self._stream_id is not None)
        assert (self.state != "IDLE") <= (self._info is not None)
        if self.state in {"SUBSCRIBING", "CONNECTED"}:
            assert self._deadline is not None

    # -- the framework ------------------------------------------------------------------------

    def _on_subscribe_asked(self, now: float, event: SubscribeAsked) -> list[Effect]:
        self._info, self._suppressed = event.info, event.suppressed_roles
        self._leaving = False
        effects = self._drop("the framework subscribes anew")
        return effects + self._wait(now, self._rng.uniform(0, FIRST_DELAY_S))

    def _on_info_changed(self, now: float, event: InfoChanged) -> list[Effect]:
        self._info, self._suppressed = event.info, event.suppressed_roles
        return []

    def _on_stop_asked(self, now: float, event: StopAsked) -> list[Effect]:
        effects = self._drop("the framework stops")
        self.state, self._deadline = "IDLE", None
        return effects

    def _on_call_made(self, now: float, event: CallMade) -> list[Effect]:
        call = event.call
        if self.state != "CONNECTED" or self._stream_id is None or self._info is None:
            return [note("Dropping call", level="WARNING", type=call.type, state=self.state)]
        if call.framework_id is None:
            call = msgspec.structs.replace(call, framework_id=self._info.id)
        if call.type == "TEARDOWN":
            self._leaving = True
        return [Post(self._attempt, self._address, self._stream_id, call)]

    # -- who leads ----------------------------------------------------------------------------

    def _on_leader_known(self, now: float, event: LeaderKnown) -> list[Effect]:
        before, self._leader = self._leader, event.address
        if event.address is None or event.address == before:
            # A stream that lives outlasts a detector that does not see.
            return []
        self._redirect, self._redirects, self._failures = None, 0, 0
        if self.state == "IDLE" or (self.state != "WAITING" and self._address == event.address):
            return []
        effects = self._drop(f"{event.address} leads now")
        return effects + self._wait(now, self._rng.uniform(0, FIRST_DELAY_S))

    def _target(self) -> str | None:
        if self._redirect is not None:
            return self._redirect
        if self._leader is not None:
            return self._leader
        if not self._addresses:
            return None
        return self._addresses[self._turn % len(self._addresses)]

    # -- the stream ---------------------------------------------------------------------------

    def _on_tick(self, now: float, event: Tick) -> list[Effect]:
        if self._deadline is None or now < self._deadline:
            return []
        if self.state == "WAITING":
            return self._subscribe(now)
        if self.state == "SUBSCRIBING":
            return self._fail(now, f"not subscribed within {SUBSCRIBE_TIMEOUT_S:g} s")
        silence = MISSED_HEARTBEATS * self._heartbeat_s
        return self._fail(now, f"no heartbeat for {silence:g} s")

    def _subscribe(self, now: float) -> list[Effect]:
        target = self._target()
        if target is None or self._info is None:
            # `LeaderKnown` goes on from here.
            self._deadline = None
            return []
        self._attempt += 1
        self._address = target
        self._stream_id = None
        self.state = "SUBSCRIBING"
        self._deadline = now + SUBSCRIBE_TIMEOUT_S
        call = scheduler.Call(
            type="SUBSCRIBE",
            framework_id=self._info.id,
            subscribe=scheduler.Subscribe(
                framework_info=self._info, suppressed_roles=self._suppressed
            ),
        )
        return [
            note("Subscribing", master=target, framework=_id_text(self._info)),
            OpenStream(self._attempt, target, call),
        ]

    def _on_stream_opened(self, now: float, event: StreamOpened) -> list[Effect]:
        if event.attempt == self._attempt and self.state == "SUBSCRIBING":
            self._stream_id = event.stream_id
        return []

    def _on_stream_refused(self, now: float, event: StreamRefused) -> list[Effect]:
        if event.attempt != self._attempt or self.state != "SUBSCRIBING":
            return []
        if event.location is not None and self._redirects < MAX_REDIRECTS:
            target = redirect_target(event.location)
            if target is not None and target != self._address:
                self._redirect = target
                self._redirects += 1
                return self._subscribe(now)
        return self._fail(now, f"{event.status} {event.message}".strip())

    def _on_stream_ended(self, now: float, event: StreamEnded) -> list[Effect]:
        if event.attempt != self._attempt or self.state not in {"SUBSCRIBING", "CONNECTED"}:
            return []
        if self._leaving:
            # The master's answer to TEARDOWN; subscribing again would only earn an ERROR.
            effects = self._drop("the framework is torn down")
            self.state, self._deadline = "IDLE", None
            return effects
        return self._fail(now, event.reason)

    def _fail(self, now: float, reason: str) -> list[Effect]:
        """Give the stream up and try again later, elsewhere if nobody says who leads."""
        was_connected = self.state == "CONNECTED"
        master = self._address
        effects: list[Effect] = [
            note("Losing master", level="WARNING", master=master, reason=reason),
            *self._drop(reason),
        ]
        self._redirect, self._redirects = None, 0
        self._turn += 1
        if was_connected:
            self._failures = 0
        limit = min(MIN_BACKOFF_S * 2**self._failures, MAX_BACKOFF_S)
        self._failures = min(self._failures + 1, 16)
        return effects + self._wait(now, self._rng.uniform(0, limit))

    def _drop(self, reason: str) -> list[Effect]:
        effects: list[Effect] = []
        if self.state in {"SUBSCRIBING", "CONNECTED"}:
            effects.append(CloseStream(self._attempt))
        if self.state == "CONNECTED":
            effects.append(Disconnected(reason))
        self._stream_id = None
        return effects

    def _wait(self, now: float, delay_s: float) -> list[Effect]:
        self.state = "WAITING"
        self._deadline = now + delay_s
        return []

    # -- what the master says -----------------------------------------------------------------

    def _on_received(self, now: float, event: Received) -> list[Effect]:
        if event.attempt != self._attempt or self.state not in {"SUBSCRIBING", "CONNECTED"}:
            return []
        if self.state == "CONNECTED":
            self._deadline = now + MISSED_HEARTBEATS * self._heartbeat_s
        handler = RECORDS.get(event.event.type)
        if handler is not None:
            return handler(self, now, event.event)
        if self.state != "CONNECTED":
            return self._fail(now, f"{event.event.type} before SUBSCRIBED")
        return [Deliver(event.event)]

    def _subscribed(self, now: float, event: scheduler.Event) -> list[Effect]:
        body = event.subscribed
        if body is None or self._info is None or self._stream_id is None:
            return self._fail(now, "SUBSCRIBED without its message")
        interval = body.heartbeat_interval_seconds
        self._heartbeat_s = (
            interval if interval is not None and interval > 0 else DEFAULT_HEARTBEAT_S
        )
        self._deadline = now + MISSED_HEARTBEATS * self._heartbeat_s
        self._info = msgspec.structs.replace(self._info, id=body.framework_id)
        self._failures = self._redirects = 0
        # A redirect held for this subscription only: whoever leads next is found anew.
        self._redirect = None
        self.state = "CONNECTED"
        return [
            note("Subscribed", master=self._address, framework=body.framework_id.value),
            Connected(body.framework_id, body.master_info),
        ]

    def _heartbeat(self, now: float, event: scheduler.Event) -> list[Effect]:
        return []

    def _error(self, now: float, event: scheduler.Event) -> list[Effect]:
        """The master refuses this framework; only the framework knows what to do about it."""
        message = "no reason given" if event.error is None else event.error.message
        effects: list[Effect] = [
            note("Refused by master", level="ERROR", master=self._address, reason=message),
            *self._drop(message),
            Deliver(event),
        ]
        self.state, self._deadline = "IDLE", None
        return effects

    def _unknown(self, now: float, event: scheduler.Event) -> list[Effect]:
        return [note("Ignoring an event of unknown type", level="WARNING", master=self._address)]

    def _on_call_refused(self, now: float, event: CallRefused) -> list[Effect]:
        if event.attempt != self._attempt or self.state != "CONNECTED":
            return []
        reason = f"{event.type}: {event.status} {event.message}".strip()
        self._leaving = self._leaving and event.type != "TEARDOWN"
        if event.type == "UPDATE_FRAMEWORK" and _is_judged(event):
            refused = note("Info refused", level="ERROR", master=self._address, reason=reason)
            return [refused, InfoAnswered(event.message)]
        if _is_callers_fault(event):
            return [note("Call refused", level="ERROR", master=self._address, reason=reason)]
        return self._fail(now, reason)

    def _on_call_done(self, now: float, event: CallDone) -> list[Effect]:
        if event.attempt != self._attempt or self.state != "CONNECTED":
            return []
        return [InfoAnswered(None)] if event.type == "UPDATE_FRAMEWORK" else []


#: What masters say of the stream or of a framework that they do not know. All else that they answer
#: to UPDATE_FRAMEWORK is about the info. Source: Mesos `src/master/http.cpp`, scheduler().
_OF_STREAMS = (
    "Framework cannot be found",
    "Framework is not subscribed",
    "All non-subscribe calls should include",
    "The stream ID",
)


def _is_judged(refused: CallRefused) -> bool:
    """Whether the master looked at what was asked, and will not have it (roles, a principal)."""
    if refused.status not in {400, 403, 413}:
        return False
    return not refused.message.startswith(_OF_STREAMS)


def _is_callers_fault(refused: CallRefused) -> bool:
    """Whether the master found the call wrong, rather than the stream.

    A wrong stream id and an unknown framework are 400 as well; texts of refused calls begin with
    "Failed to". Source: Mesos `src/master/http.cpp`, scheduler().
    """
    if refused.status in {413, 415, 406, 501}:
        return True
    return refused.status == 400 and refused.message.startswith("Failed to")


def _id_text(info: FrameworkInfo) -> str:
    return "" if info.id is None else info.id.value


def redirect_target(location: str) -> str | None:
    """`host:port` of `//host:port/path` or `http://host:port/path`; None if it names no host."""
    try:
        return urlsplit(location).netloc.rpartition("@")[2] or None
    except ValueError:
        return None


def leader_address(data: bytes) -> str:
    """`host:port` of what a detector finds: MasterInfo as JSON, or the address itself.

    Raises WireError if it is neither. The address wins over the pid, and that over the old number.
    """
    if not data.lstrip().startswith(b"{"):
        text = data.decode("utf-8", "replace").strip().rpartition("@")[2]
        host, colon, port = text.rpartition(":")
        if not host or not colon or whole_number(port) is None:
            raise WireError(f"leader {data[:80]!r} is neither MasterInfo nor host:port")
        return text
    info = json.decode(data, MasterInfo)
    if info.address is not None and (info.address.ip or info.address.hostname):
        return f"{info.address.ip or info.address.hostname}:{info.address.port}"
    if info.pid is not None and "@" in info.pid:
        return info.pid.rpartition("@")[2]
    octets = (info.ip & 0xFFFFFFFF).to_bytes(4, "little")
    return ".".join(str(octet) for octet in octets) + f":{info.port}"


HANDLERS: Mapping[type[Event], Callable[[SchedulerCore, float, Any], list[Effect]]] = {
    SubscribeAsked: SchedulerCore._on_subscribe_asked,
    InfoChanged: SchedulerCore._on_info_changed,
    StopAsked: SchedulerCore._on_stop_asked,
    CallMade: SchedulerCore._on_call_made,
    LeaderKnown: SchedulerCore._on_leader_known,
    Tick: SchedulerCore._on_tick,
    StreamOpened: SchedulerCore._on_stream_opened,
    StreamRefused: SchedulerCore._on_stream_refused,
    StreamEnded: SchedulerCore._on_stream_ended,
    Received: SchedulerCore._on_received,
    CallDone: SchedulerCore._on_call_done,
    CallRefused: SchedulerCore._on_call_refused,
}

RECORDS: Mapping[str, Callable[[SchedulerCore, float, scheduler.Event], list[Effect]]] = {
    "SUBSCRIBED": SchedulerCore._subscribed,
    "HEARTBEAT": SchedulerCore._heartbeat,
    "ERROR": SchedulerCore._error,
    "UNKNOWN": SchedulerCore._unknown,
}
