"""What the master's core is told, and what it tells its shell to do.

A *stream* is the long answer of one SUBSCRIBE (of an agent, a scheduler or an operator's event
stream); its id is made by the shell, is never used twice, and is what `Mesos-Stream-Id` carries.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mesostk.base.core import Effect, Event
from mesostk.wire import link, operator, scheduler
from mesostk.wire.mesos import Task

# -- events -------------------------------------------------------------------------------------


class Elected(Event, frozen=True):
    """This master leads and owns the store; `records` is everything in it, by path."""

    epoch: link.ClusterEpoch
    records: Mapping[str, bytes]


class LeadershipInDoubt(Event, frozen=True):
    """The session with ZooKeeper hangs, or (`in_doubt` false) is well again."""

    in_doubt: bool


class WhitelistRead(Event, frozen=True):
    """The file of --whitelist names these; they may be the same as before."""

    hostnames: frozenset[str]


class AgentSubscribed(Event, frozen=True):
    """An agent opened a link; `message` passed `agents.refusal`."""

    stream: str
    message: link.Subscribe


class AgentCalled(Event, frozen=True):
    """Calls of an agent on the link `stream`, in order."""

    stream: str
    messages: tuple[link.UpMessage, ...]


class AgentStreamClosed(Event, frozen=True):
    stream: str


class SchedulerSubscribed(Event, frozen=True):
    """A SUBSCRIBE that passed `validation.call_error`; every further answer goes to `stream`."""

    stream: str
    call: scheduler.Call
    principal: str | None = None


class SchedulerCalled(Event, frozen=True):
    """Any other call, that passed `frameworks.refusal`; it was answered 202."""

    call: scheduler.Call


class SchedulerStreamClosed(Event, frozen=True):
    stream: str


class OperatorSubscribed(Event, frozen=True):
    stream: str
    principal: str | None = None


class OperatorStreamClosed(Event, frozen=True):
    stream: str


class OperatorCalled(Event, frozen=True):
    """A changing call of an operator; exactly one `Reply(request)` follows, now or later."""

    request: int
    call: operator.Call
    principal: str | None = None


# -- effects ------------------------------------------------------------------------------------


class SendToAgent(Effect, frozen=True):
    stream: str
    message: link.DownMessage


class CloseAgentStream(Effect, frozen=True):
    """After what was sent before; no `AgentStreamClosed` needs to follow."""

    stream: str


class SendToScheduler(Effect, frozen=True):
    stream: str
    event: scheduler.Event


class CloseSchedulerStream(Effect, frozen=True):
    """After what was sent before; no `SchedulerStreamClosed` needs to follow."""

    stream: str


class GreetOperator(Effect, frozen=True):
    """Begin a subscriber's stream with SUBSCRIBED; whatever is sent to it from now on comes after
    that, and of what is published that of which the greeting does not tell."""

    stream: str
    principal: str | None
    heartbeat_s: float


class SendToOperator(Effect, frozen=True):
    """To one subscriber of the event stream; `Publish` is for all of them."""

    stream: str
    event: operator.Event


class CloseOperatorStream(Effect, frozen=True):
    stream: str


class Publish(Effect, frozen=True):
    """To every subscriber of the operator event stream that may see it; `task` is the one that a
    TASK_* event is about."""

    event: operator.Event
    task: Task | None = None


class Reply(Effect, frozen=True):
    """Answer a waiting `OperatorCalled`; `body` is text for people, empty when it succeeded."""

    request: int
    status: int
    body: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
