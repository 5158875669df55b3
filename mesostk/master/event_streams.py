"""The operator API's event streams: SUBSCRIBED first, then each event in the subscriber's encoding.

::

    GreetOperator ─▶ Greeting: pieces of SUBSCRIBED, while its events wait ─┐ whole record, waiting
    Publish ──┬─▶ waiting list of each greeting                             ▼ events, and from then
              ├─▶ a Broadcast of each encoding ─▶ who may see everything    on like all others
              └─▶ View of each other subscriber ─▶ what it may see
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from aiohttp import web

from mesostk.base.fanout import Broadcast
from mesostk.base.http import JSON_TYPE, PROTOBUF_TYPE
from mesostk.base.metrics import Metrics
from mesostk.base.stream import OPERATOR_LIMIT_BYTES, Stream
from mesostk.errors import WireError
from mesostk.master import v1_documents
from mesostk.master.bodies import Body
from mesostk.master.captures import Capture
from mesostk.master.core import Master
from mesostk.master.entry import Node
from mesostk.master.events import (
    CloseOperatorStream,
    GreetOperator,
    OperatorStreamClosed,
    OperatorSubscribed,
    Publish,
    SendToOperator,
)
from mesostk.master.permits import View, view_of
from mesostk.resources.resources import Resources
from mesostk.wire import operator
from mesostk.wire.mesos import Resource, Task
from mesostk.wire.recordio import encode_record

#: How each accepted type is written.
FORMS: Final = {JSON_TYPE: v1_documents.JSON, PROTOBUF_TYPE: v1_documents.PROTOBUF}


class _Greeting:
    """A SUBSCRIBED that is being made, and the records that come after it."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.records: list[bytes] = []
        self.size = 0


class _Subscriber:
    """One stream; `view` is None for who sees everything, `greeting` once that is sent."""

    def __init__(self, stream: Stream, kind: str) -> None:
        self.stream = stream
        self.kind = kind
        self.form = FORMS[kind]
        self.view: View | None = None
        self.greeting: _Greeting | None = None

    def send(self, record: bytes) -> None:
        """Now, or after the greeting; who lets too much wait meanwhile is cut."""
        waiting = self.greeting
        if waiting is None:
            self.stream.send(record)
            return
        waiting.records.append(record)
        waiting.size += len(record)
        if waiting.size > OPERATOR_LIMIT_BYTES:
            self.stream.cut(f"more than {OPERATOR_LIMIT_BYTES} bytes of events before SUBSCRIBED")


class EventStreams:
    """Opens the streams, and performs what the core tells them."""

    def __init__(
        self,
        node: Node,
        metrics: Metrics,
        start: Callable[[str, Coroutine[Any, Any, None]], object],
    ) -> None:
        """`start` runs a task of the daemon."""
        self._node = node
        self._start = start
        self._broadcasts = {
            JSON_TYPE: Broadcast("operator_events", metrics),
            PROTOBUF_TYPE: Broadcast("operator_events_protobuf", metrics),
        }
        self._subscribers: dict[str, _Subscriber] = {}
        #: Those that no broadcast serves: being greeted, or with a restricted view.
        self._apart: dict[str, _Subscriber] = {}

    async def open(self, request: web.Request, kind: str, principal: str | None) -> Stream:
        """Open the stream that answers `request`, in `kind`; the caller waits for its end."""
        stream_id = str(uuid.uuid4())

        def closed(_reason: str) -> None:
            self._node.streams.pop(stream_id, None)
            self._subscribers.pop(stream_id, None)
            self._apart.pop(stream_id, None)
            self._broadcasts[kind].discard(stream)
            self._node.feed(OperatorStreamClosed(stream_id))

        stream = Stream(kind, closed, OPERATOR_LIMIT_BYTES, {"Cache-Control": "no-store"})
        await stream.open(request)
        if stream.is_open:
            self._node.streams[stream_id] = stream
            self._subscribers[stream_id] = _Subscriber(stream, kind)
            self._node.feed(OperatorSubscribed(stream_id, principal))
        return stream

    # -- performing -----------------------------------------------------------------------------

    def publish(self, effect: Publish) -> None:
        """To everybody who may see it."""
        event, records = effect.event, dict[str, bytes]()

        def record(kind: str) -> bytes:
            if kind not in records:
                records[kind] = encode_record(FORMS[kind].encode(event))
            return records[kind]

        for kind, broadcast in self._broadcasts.items():
            if len(broadcast):
                broadcast.publish(record(kind), event.type)
        for one in list(self._apart.values()):
            if one.greeting is not None and not one.greeting.capture.is_news(event, effect.task):
                continue
            if one.view is None:
                one.send(record(one.kind))
                continue
            shown = seen_event(one.view, self._node.master, event, effect.task)
            if shown is not None:
                one.send(encode_record(one.form.encode(shown)))

    def send(self, effect: SendToOperator) -> None:
        """To one subscriber, after all that was published before."""
        one = self._subscribers.get(effect.stream)
        if one is None:
            return
        data = encode_record(one.form.encode(effect.event))
        if effect.stream in self._apart:
            one.send(data)
        else:
            self._broadcasts[one.kind].send_to(one.stream, data)

    def greet(self, effect: GreetOperator) -> None:
        one = self._subscribers.get(effect.stream)
        if one is None:
            return
        one.view = view_of(self._node.acls, effect.principal)
        one.greeting = _Greeting(Capture(self._node.master))
        self._apart[effect.stream] = one
        self._start(f"greeting {effect.stream}", self._greet(effect, one, one.greeting.capture))

    def close(self, effect: CloseOperatorStream) -> None:
        """End a stream after what was sent to it."""
        one = self._subscribers.get(effect.stream)
        if one is not None:
            self._broadcasts[one.kind].flush()
            self._broadcasts[one.kind].discard(one.stream)
            self._node.close(effect.stream)

    async def _greet(self, effect: GreetOperator, one: _Subscriber, capture: Capture) -> None:
        """Make SUBSCRIBED with pauses for others, send it, and let what waited follow."""
        node = self._node
        pieces = v1_documents.subscribed(
            node.master, capture, node.fragments, one.form, one.view, effect.heartbeat_s
        )
        body = Body()
        try:
            await body.make(pieces)
        except WireError as error:
            one.stream.cut(f"SUBSCRIBED cannot be written: {error}")
            return
        # A record begins with its size, so it can only be sent once it is whole.
        one.stream.send(b"%d\n" % sum(map(len, body.chunks)), exempt=True)
        for chunk in body.chunks:
            one.stream.send(chunk, exempt=True)
            await asyncio.sleep(0)
        self._follow(effect.stream, one)

    def _follow(self, stream_id: str, one: _Subscriber) -> None:
        """What waited, and from now on what comes."""
        greeting, one.greeting = one.greeting, None
        if greeting is None or not one.stream.is_open:
            return
        for record in greeting.records:
            one.stream.send(record)
        if one.view is None:
            del self._apart[stream_id]
            # It has what was published in this turn of the loop; `add` hands that to the others.
            self._broadcasts[one.kind].add(one.stream)


# -- what a restricted subscriber sees ----------------------------------------------------------


def seen_event(
    view: View, master: Master, event: operator.Event, task: Task | None
) -> operator.Event | None:
    """The event as `view` shows it, or None if it does not."""
    if event.type in {"TASK_ADDED", "TASK_UPDATED"}:
        assert task is not None
        return event if _shows_task(view, master, task) else None
    changed = (
        event.framework_added if event.framework_added is not None else (event.framework_updated)
    )
    if changed is not None:
        return event if view.shows_framework(changed.framework.framework_info) else None
    if event.framework_removed is not None:
        return event if view.shows_framework(event.framework_removed.framework_info) else None
    if event.agent_added is not None:
        agent = event.agent_added.agent
        seen = msgspec.structs.replace(
            agent,
            agent_info=view.of_agent(agent.agent_info),
            total_resources=_seen(view, agent.total_resources),
            allocated_resources=_seen(view, agent.allocated_resources),
            offered_resources=_seen(view, agent.offered_resources),
        )
        return operator.Event(type=event.type, agent_added=operator.AgentAdded(agent=seen))
    return event


def _shows_task(view: View, master: Master, task: Task) -> bool:
    framework_id = task.framework_id.value
    framework = master.frameworks.get(framework_id, master.completed_frameworks.get(framework_id))
    if framework is None or not view.shows_framework(framework.info):
        return False
    return view.shows_task(framework.info, task.user)


def _seen(view: View, resources: tuple[Resource, ...]) -> tuple[Resource, ...]:
    return view.of_resources(Resources.of(resources)).to_wire("ENDPOINT")
