"""`POST /api/v1/executor`: the executor API (order of checks: spec §3.1).

::

    SUBSCRIBE ─▶ 200, RecordIO of events that stays open        UPDATE, MESSAGE, HEARTBEAT ─▶ 202
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from aiohttp import web

from mesostk.agent import custom
from mesostk.agent.events import (
    CloseExecutorStream,
    ExecutorCalled,
    ExecutorStreamClosed,
    ExecutorSubscribed,
    SendToExecutor,
)
from mesostk.agent.state import State
from mesostk.base.core import Event
from mesostk.base.http import JSON_TYPE, PROTOBUF_TYPE, accepted_type_of
from mesostk.base.stream import LINK_LIMIT_BYTES, Stream
from mesostk.errors import Rejected, WireError
from mesostk.wire import executor as wire
from mesostk.wire import json, protobuf
from mesostk.wire.recordio import encode_record

_TYPES = (JSON_TYPE, PROTOBUF_TYPE)
_NAMES = f"{JSON_TYPE} or {PROTOBUF_TYPE}"

#: Between HEARTBEAT events, the first after as long. Source: spec §3.1.
HEARTBEAT_S = 1800.0

#: Calls that carry a message of their own name, without which they mean nothing.
_WITH_BODY = frozenset({"SUBSCRIBE", "UPDATE", "MESSAGE"})


class ExecutorApi:
    """The endpoint, and the performer of what the core tells executors."""

    def __init__(self, state: State, feed: Callable[[Event], None]) -> None:
        self._state = state
        self._feed = feed
        self._streams: dict[str, Stream] = {}
        #: Streams that are spoken to in protobuf.
        self._binary: set[str] = set()

    def send(self, effect: SendToExecutor) -> None:
        """Send an event, in the stream's encoding."""
        stream = self._streams.get(effect.stream)
        if stream is not None:
            encode = protobuf.encode if effect.stream in self._binary else json.encode
            stream.send(encode_record(encode(effect.event)))

    def close(self, effect: CloseExecutorStream) -> None:
        """End a stream; the core is not told."""
        stream = self._streams.pop(effect.stream, None)
        if stream is not None:
            stream.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        if not self._state.recovered:
            raise Rejected(503, "Agent has not finished recovery")
        if request.method != "POST":
            text = f"Expecting one of {{ 'POST' }}, but received '{request.method}'."
            headers = {"Allow": "POST"}
            return web.Response(status=405, text=f"405 Method Not Allowed. {text}", headers=headers)
        call = await _call_of(request)
        if call.type == "SUBSCRIBE":
            answer_type = _require_accept(request)
            custom.refuse(self._state, call)
            return await self._subscribe(request, call, answer_type)
        if not self._state.registering:
            raise Rejected(503, "Agent has not finished recovery")
        if call.type != "HEARTBEAT":
            custom.refuse(self._state, call)
            self._feed(ExecutorCalled(call))
        return web.Response(status=202)

    async def _subscribe(
        self, request: web.Request, call: wire.Call, answer_type: str
    ) -> web.StreamResponse:
        stream_id = str(uuid.uuid4())

        def closed(_reason: str) -> None:
            self._binary.discard(stream_id)
            if self._streams.pop(stream_id, None) is not None:
                self._feed(ExecutorStreamClosed(stream_id))

        stream = Stream(answer_type, closed, LINK_LIMIT_BYTES)
        await stream.open(request)
        if not stream.is_open:
            return await stream.wait()
        self._streams[stream_id] = stream
        if answer_type == PROTOBUF_TYPE:
            self._binary.add(stream_id)
        assert call.subscribe is not None
        self._feed(
            ExecutorSubscribed(
                stream=stream_id,
                framework_id=call.framework_id.value,
                executor_id=call.executor_id.value,
                subscribe=call.subscribe,
            )
        )
        beating = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat, stream_id)
        try:
            return await stream.wait()
        finally:
            beating.cancel()

    def _beat(self, stream_id: str) -> None:
        self.send(SendToExecutor(stream_id, wire.Event(type="HEARTBEAT")))
        if stream_id in self._streams:
            asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat, stream_id)


async def _call_of(request: web.Request) -> wire.Call:
    given = request.headers.get("Content-Type")
    if given is None:
        raise Rejected(400, "Expecting 'Content-Type' to be present")
    kind = given.partition(";")[0].strip().lower()
    if kind not in _TYPES:
        raise Rejected(415, f"Expecting 'Content-Type' of {_NAMES}")
    return parsed(await request.read(), is_binary=kind == PROTOBUF_TYPE)


def parsed(body: bytes, *, is_binary: bool = False) -> wire.Call:
    """The call in `body`; Rejected with the original's text if there is none."""
    decode = protobuf.decode if is_binary else json.decode
    try:
        call = decode(body, wire.Call)
    except WireError as error:
        raise Rejected(400, f"Failed to parse body into Call: {error}") from error
    why: str | None = None
    if call.type is None or call.type == "UNKNOWN":
        why = "Expecting 'type' to be present"
    elif call.type in _WITH_BODY and getattr(call, call.type.lower()) is None:
        why = f"Expecting '{call.type.lower()}' to be present"
    if why is not None:
        raise Rejected(400, f"Failed to validate executor::Call: {why}")
    return call


def _require_accept(request: web.Request) -> str:
    """The type to answer in: JSON if that is allowed, as the original."""
    try:
        return accepted_type_of(request, _TYPES)
    except Rejected as error:
        raise Rejected(406, f"Expecting 'Accept' to allow {_NAMES}") from error
