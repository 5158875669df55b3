"""`GET /v2/events`: server-sent events, encoded once, sent to everyone who wants them.

::

    Emit ─▶ event: <type>\\nid: <epoch>-<n>\\ndata: <json>\\n\\n ─▶ kept (last 4096) ─▶ subscribers
    a subscriber that returns with Last-Event-ID of this leader gets what it missed first
    a subscriber that does not read is cut; an idle one gets an empty line every 10 s

Only the leader emits; when it goes, all streams end. Source: spec/marathon §1.9; ids and replay are
our own, clients that know nothing of them are not disturbed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web

from mesostk.base.metrics import Metrics
from mesostk.base.stream import Stream
from mesostk.errors import Rejected
from mesostk.wire import json
from mesostk.wire.marathon import StreamAttached, StreamDetached, StreamEvent

EVENT_STREAM: Final = "text/event-stream"

#: Jetty's default, which clients of the original are built around.
KEEP_ALIVE_S: Final = 10.0

#: Events kept for subscribers that return: some minutes of a busy cluster, a few MB.
KEPT_EVENTS: Final = 4096

#: What one outstanding message stands for when `--event_stream_max_outstanding_messages` is given.
BYTES_PER_MESSAGE: Final = 1024


class Kept(msgspec.Struct, frozen=True, gc=False):
    """One event as it was sent."""

    number: int
    kind: str
    frame: bytes


class _Subscriber:
    """One open stream and the types it wants; an empty set means all."""

    def __init__(self, stream: Stream, kinds: frozenset[str]) -> None:
        self.stream = stream
        self.kinds = kinds

    def offer(self, kept: Kept, *, exempt: bool = False) -> None:
        if not self.kinds or kept.kind in self.kinds:
            self.stream.send(kept.frame, exempt=exempt)


class EventHub:
    """All subscribers of this leader's events; `also` is told each event as JSON."""

    def __init__(
        self,
        epoch: int,
        now_iso: Callable[[], str],
        metrics: Metrics,
        max_outstanding: int = 1024,
        also: Callable[[bytes], None] = lambda _event: None,
    ) -> None:
        self._epoch = epoch
        self._now_iso = now_iso
        self._also = also
        self._limit_bytes = max_outstanding * BYTES_PER_MESSAGE
        self._subscribers: dict[Stream, _Subscriber] = {}
        self._kept: deque[Kept] = deque(maxlen=KEPT_EVENTS)
        self._last = 0
        metrics.gauge("http.event-streams.active.gauge", lambda: len(self._subscribers))

    def emit(self, event: StreamEvent) -> None:
        """Send `event` to all who want its type."""
        self._last += 1
        kind = event.__struct_config__.tag
        assert isinstance(kind, str)  # every StreamEvent has its name as tag
        data = json.encode_shown(event)
        head = (kind.encode(), self._epoch, self._last)
        frame = b"event: %s\nid: %d-%d\ndata: %s\n\n" % (*head, data)
        kept = Kept(self._last, kind, frame)
        self._kept.append(kept)
        for subscriber in list(self._subscribers.values()):  # a cut one leaves the table
            subscriber.offer(kept)
        self._also(data)

    async def serve(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer one subscriber until it goes; Rejected (405) unless it accepts an event stream."""
        if EVENT_STREAM not in request.headers.get("Accept", ""):
            raise Rejected(405, f"Expecting 'Accept' to allow {EVENT_STREAM}")
        kinds = frozenset(request.query.getall("event_type", []))
        remote = request.remote or ""
        stream = Stream(
            EVENT_STREAM,
            closed=lambda _reason: self._detach(stream, remote),
            limit_bytes=self._limit_bytes,
            headers=headers,
        )
        subscriber = _Subscriber(stream, kinds)
        for kept in self._missed(request.headers.get("Last-Event-ID", "")):
            subscriber.offer(kept, exempt=True)
        self._subscribers[stream] = subscriber
        await stream.open(request)
        self.emit(StreamAttached(timestamp=self._now_iso(), remote_address=remote))
        return await stream.wait()

    def _missed(self, last_id: str) -> list[Kept]:
        """What came after `last_id`; nothing for an id of another leader or one too old."""
        epoch, _, number = last_id.partition("-")
        if epoch != str(self._epoch) or not number.isdecimal():
            return []
        return [kept for kept in self._kept if kept.number > int(number)]

    def _detach(self, stream: Stream, remote: str) -> None:
        if self._subscribers.pop(stream, None) is not None:
            self.emit(StreamDetached(timestamp=self._now_iso(), remote_address=remote))

    async def keep_alive(self) -> None:
        """Send the empty lines by which clients and proxies see that the stream lives."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            for stream in list(self._subscribers):
                stream.send(b"\r\n")

    def close(self) -> None:
        """End every stream: this process leads no longer."""
        for stream in list(self._subscribers):
            stream.close("this Marathon leads no longer")
