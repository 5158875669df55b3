"""`GET /v2/events`: server-sent events, encoded once, sent to everyone who wants them.

::

    Emit ─▶ event: <type>\\nid: <epoch>-<n>\\ndata: <json>\\n\\n ─▶ kept (last 4096) ─▶ subscribers
    a subscriber that returns with Last-Event-ID of this leader gets what it missed first
    an idle subscriber gets an empty line every 10 s; one with more outstanding messages than the
    flag allows is cut if it took nothing of them from one such look to the next

So a burst, however large, cuts nobody who reads. The original counts messages, too, and drops those
above the limit. Only the leader emits; when it goes, all streams end. Source: spec/marathon §1.9;
ids and replay are our own, clients that know nothing of them are not disturbed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web

from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.base.stream import PEER_CLOSED, Stream
from mesostk.errors import Rejected
from mesostk.wire import json
from mesostk.wire.marathon import StreamAttached, StreamDetached, StreamEvent

EVENT_STREAM: Final = "text/event-stream"

#: Jetty's default, which clients of the original are built around.
KEEP_ALIVE_S: Final = 10.0

#: Events kept for subscribers that return: some minutes of a busy cluster, a few MB.
KEPT_EVENTS: Final = 4096

#: Unread bytes, beside a burst, at which a subscriber that reads, but too slowly, is cut, too.
MOST_BUFFERED_BYTES: Final = 64 * 1024 * 1024


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
        self._sent_bytes = 0
        self._ends: deque[int] = deque()  # of outstanding messages, counted from the first byte
        self._taken_before: int | None = None

    def offer(self, kept: Kept) -> None:
        """Send a message, if it is of a type that is wanted."""
        if self.kinds and kept.kind not in self.kinds:
            return
        if self.stream.buffered_bytes > MOST_BUFFERED_BYTES:
            self.stream.cut(f"more than {MOST_BUFFERED_BYTES} bytes unread")
            return
        self.send(kept.frame)
        self._ends.append(self._sent_bytes)

    def send(self, data: bytes) -> None:
        """Send what is no message."""
        self._sent_bytes += len(data)
        self.stream.send(data)

    def look(self, most: int) -> None:
        """Cut it if more than `most` messages are outstanding, and nothing was taken since."""
        taken = self._sent_bytes - self.stream.unsent_bytes
        while self._ends and self._ends[0] <= taken:
            self._ends.popleft()
        before, self._taken_before = self._taken_before, taken
        if len(self._ends) <= most:
            self._taken_before = None
        elif before is not None and taken <= before:
            self.stream.cut(f"{len(self._ends)} messages unread, and it takes none")


class EventHub:
    """All subscribers of this leader's events; `also` is told each event as JSON."""

    def __init__(
        self,
        epoch: int,
        now_iso: Callable[[], str],
        metrics: Metrics,
        log: Log,
        max_outstanding: int = 50,
        also: Callable[[bytes], None] = lambda _event: None,
    ) -> None:
        self._epoch = epoch
        self._now_iso = now_iso
        self._also = also
        self._log = log
        self._max_outstanding = max_outstanding
        self._subscribers: dict[Stream, _Subscriber] = {}
        self._kept: deque[Kept] = deque(maxlen=KEPT_EVENTS)
        self._last = 0
        metrics.gauge("http.event-streams.active.gauge", lambda: self.subscribers)

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
            closed=lambda reason: self._detach(stream, remote, reason),
            limit_bytes=None,
            headers=headers,
        )
        subscriber = _Subscriber(stream, kinds)
        for kept in self._missed(request.headers.get("Last-Event-ID", "")):
            subscriber.offer(kept)
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

    def _detach(self, stream: Stream, remote: str, reason: str) -> None:
        if self._subscribers.pop(stream, None) is not None:
            if reason != PEER_CLOSED:
                self._log.warning("Ending event stream", remote=remote, why=reason)
            self.emit(StreamDetached(timestamp=self._now_iso(), remote_address=remote))

    @property
    def subscribers(self) -> int:
        """How many streams are open."""
        return len(self._subscribers)

    async def keep_alive(self) -> None:
        """Look after the streams for as long as this runs."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            self.look()

    def look(self) -> None:
        """Cut who reads nothing; to the rest send the empty line by which they see it is alive."""
        for subscriber in list(self._subscribers.values()):
            subscriber.look(self._max_outstanding)
            subscriber.send(b"\r\n")

    def close(self) -> None:
        """End every stream: this process leads no longer."""
        for stream in list(self._subscribers):
            stream.close("this Marathon leads no longer")
