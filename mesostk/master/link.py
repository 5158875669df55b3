"""`POST /api/link`: the master's end of the link to agents (records: wire/link.py).

::

    no Mesos-Stream-Id   one framed Subscribe ─▶ 200, a stream of down messages that stays open
    with it              frames of up messages ─▶ 202; 403 if the stream is not open any more
"""

from __future__ import annotations

import uuid

from aiohttp import web

from mesostk.base.http import JSON_TYPE
from mesostk.base.stream import LINK_LIMIT_BYTES, Stream
from mesostk.errors import Rejected, WireError
from mesostk.master import agents
from mesostk.master.entry import Node, require_leader, require_recovered, wrong_method
from mesostk.master.events import (
    AgentCalled,
    AgentStreamClosed,
    AgentSubscribed,
    CloseAgentStream,
    SendToAgent,
)
from mesostk.master.guard import principal_of
from mesostk.wire import json, link
from mesostk.wire.link import STREAM_ID_HEADER
from mesostk.wire.recordio import Decoder, encode_record


class LinkApi:
    """The endpoint, and the performer of what the core tells agents."""

    def __init__(self, node: Node, max_record_bytes: int) -> None:
        self._node = node
        self._max_record_bytes = max_record_bytes

    def send(self, effect: SendToAgent) -> None:
        self._node.send(effect.stream, encode_record(json.encode(effect.message)))

    def close(self, effect: CloseAgentStream) -> None:
        self._node.close(effect.stream)

    def take(self, stream_id: str | None, body: bytes) -> bool:
        """Messages over an open link, as `handle` takes them; False, nothing being done, for any
        other and for what is to be refused (see `base.shortcut`)."""
        node = self._node
        if not node.is_leading or node.driver is None or node.master.epoch is None:
            return False
        if stream_id not in node.master.links:
            return False
        try:
            messages = self._decode(body)
        except WireError:
            return False
        node.driver.feed(AgentCalled(stream_id, messages))
        return True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        driver = require_recovered(self._node)
        refused = wrong_method(request)
        if refused is not None:
            return refused
        messages = self._decode(await request.read())
        stream_id = request.headers.get(STREAM_ID_HEADER)
        if stream_id is None:
            if len(messages) != 1 or not isinstance(messages[0], link.Subscribe):
                raise Rejected(400, f"Without {STREAM_ID_HEADER}, one SUBSCRIBE is expected")
            return await self._subscribe(request, messages[0])
        if stream_id not in self._node.master.links:
            raise Rejected(403, f"No link is open with {STREAM_ID_HEADER} {stream_id}")
        driver.feed(AgentCalled(stream_id, messages))
        return web.Response(status=202)

    def _decode(self, body: bytes) -> tuple[link.UpMessage, ...]:
        """Every message of the body, or WireError (400): none is acted upon if one is bad."""
        decoder = Decoder(self._max_record_bytes)
        records = decoder.feed(body)
        if not decoder.is_between_records:
            raise WireError("The body ends within a record")
        return tuple(json.decode(record, link.UpMessage) for record in records)

    async def _subscribe(self, request: web.Request, message: link.Subscribe) -> web.StreamResponse:
        if not self._node.acls.allows("register_agents", principal_of(request)):
            raise Rejected(403, "Not authorized to register an agent")
        rejected = agents.refusal(message)
        if rejected is not None:
            raise rejected
        node = self._node
        stream_id = str(uuid.uuid4())

        def closed(_reason: str) -> None:
            node.streams.pop(stream_id, None)
            node.feed(AgentStreamClosed(stream_id))

        stream = Stream(JSON_TYPE, closed, LINK_LIMIT_BYTES, {STREAM_ID_HEADER: stream_id})
        await stream.open(request)
        node.streams[stream_id] = stream
        if stream.is_open:
            node.feed(AgentSubscribed(stream_id, message))
        return await stream.wait()
