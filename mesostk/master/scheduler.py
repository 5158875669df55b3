"""`POST /api/v1/scheduler`: the v1 scheduler API (order of checks: spec/mesos.md §2.1)."""

from __future__ import annotations

import uuid

from aiohttp import web

from mesostk.base.http import JSON_TYPE, PROTOBUF_TYPE, accepted_type_of
from mesostk.base.stream import OPERATOR_LIMIT_BYTES, Stream
from mesostk.errors import Rejected, WireError
from mesostk.master import frameworks, validation
from mesostk.master.entry import (
    Node,
    read_call,
    require_leader,
    require_recovered,
    require_type,
    wrong_method,
)
from mesostk.master.events import (
    CloseSchedulerStream,
    SchedulerCalled,
    SchedulerStreamClosed,
    SchedulerSubscribed,
    SendToScheduler,
)
from mesostk.master.guard import principal_of, require_own_name
from mesostk.wire import json, protobuf, scheduler
from mesostk.wire.recordio import encode_record

STREAM_ID_HEADER = "Mesos-Stream-Id"

_TYPES = (JSON_TYPE, PROTOBUF_TYPE)


#: Calls of a framework that has much to do; they are answered 202 or refused.
_FREQUENT = frozenset({"ACCEPT", "ACKNOWLEDGE", "DECLINE", "KILL", "MESSAGE"})


class SchedulerApi:
    """The endpoint, and the performer of what the core tells schedulers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        #: Streams that are spoken to in protobuf.
        self._binary: set[str] = set()

    def send(self, effect: SendToScheduler) -> None:
        encode = protobuf.encode if effect.stream in self._binary else json.encode
        self._node.send(effect.stream, encode_record(encode(effect.event)))

    def close(self, effect: CloseSchedulerStream) -> None:
        self._node.close(effect.stream)

    def take(self, stream_id: str | None, body: bytes) -> bool:
        """Do a frequent call that nobody had to prove anything for, as `handle` would; False,
        nothing being done, for any other and for what is to be refused (see `base.shortcut`)."""
        node = self._node
        if not node.is_leading or node.driver is None or node.master.epoch is None:
            return False
        try:
            call = json.decode(body, scheduler.Call)
        except WireError:
            return False
        if call.type not in _FREQUENT or validation.call_error(call) is not None:
            return False
        if frameworks.refusal(node.master, call, stream_id, None) is not None:
            return False
        node.driver.feed(SchedulerCalled(call))
        return True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        driver = require_recovered(self._node)
        refused = wrong_method(request)
        if refused is not None:
            return refused
        kind = require_type(request, _TYPES)
        call = await read_call(request, scheduler.Call, kind)
        why = validation.call_error(call)
        if why is not None:
            raise Rejected(400, f"Failed to validate scheduler::Call: {why}")
        answer_type = JSON_TYPE
        if call.type in {"SUBSCRIBE", "RECONCILE_OPERATIONS"}:
            answer_type = _require_accept(request)
        stream_id = request.headers.get(STREAM_ID_HEADER)
        if call.type == "SUBSCRIBE":
            if stream_id is not None:
                text = f"Subscribe calls should not include the '{STREAM_ID_HEADER}' header"
                raise Rejected(400, text)
            require_own_name(call, principal_of(request))
            return await self._subscribe(request, call, answer_type)
        principal = principal_of(request)
        rejected = frameworks.refusal(self._node.master, call, stream_id, principal)
        if rejected is not None:
            raise rejected
        if call.type == "UNKNOWN":
            raise Rejected(501, "501 Not Implemented.")
        driver.feed(SchedulerCalled(call))
        return web.Response(status=200 if call.type == "UPDATE_FRAMEWORK" else 202)

    async def _subscribe(
        self, request: web.Request, call: scheduler.Call, answer_type: str
    ) -> web.StreamResponse:
        node = self._node
        stream_id = str(uuid.uuid4())

        def closed(_reason: str) -> None:
            node.streams.pop(stream_id, None)
            self._binary.discard(stream_id)
            node.feed(SchedulerStreamClosed(stream_id))

        stream = Stream(
            answer_type,
            closed,
            OPERATOR_LIMIT_BYTES,
            {STREAM_ID_HEADER: stream_id, "Cache-Control": "no-store"},
        )
        await stream.open(request)
        node.streams[stream_id] = stream
        if stream.is_open:
            if answer_type == PROTOBUF_TYPE:
                self._binary.add(stream_id)
            node.feed(SchedulerSubscribed(stream_id, call, principal_of(request)))
        return await stream.wait()


def _require_accept(request: web.Request) -> str:
    """The type to answer in: JSON if that is allowed, as the original."""
    try:
        return accepted_type_of(request, _TYPES)
    except Rejected as error:
        text = f"Expecting 'Accept' to allow '{PROTOBUF_TYPE}' or '{JSON_TYPE}'"
        raise Rejected(406, text) from error
