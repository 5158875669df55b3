"""One event to many streams: encoded once, joined once per tick, written once per stream.

::

    publish(a) publish(b) publish(c) ─▶ end of the tick: b"abc" ─▶ every stream
                                                         b"ac"  ─▶ streams that want kinds of a, c
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mesostk.base.metrics import Metrics
from mesostk.base.stream import Stream


class Broadcast:
    """The subscribers of one kind of event in one encoding.

    With `max_streams`, a new subscriber beyond it takes the place of the oldest, as in the
    original's `--max_operator_event_stream_subscribers`.
    """

    def __init__(self, name: str, metrics: Metrics, max_streams: int | None = None) -> None:
        self._max_streams = max_streams
        self._streams: dict[Stream, frozenset[str] | None] = {}
        self._pending: list[tuple[str, bytes]] = []
        self._published = metrics.counter(f"{name}/events")
        self._evicted = metrics.counter(f"{name}/evicted")
        metrics.gauge(f"{name}/subscribers", lambda: len(self._streams))
        metrics.gauge(f"{name}/unsent_bytes", lambda: sum(s.unsent_bytes for s in self._streams))

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: Stream, kinds: Iterable[str] | None = None) -> None:
        """Send `stream` what is published from now on, of `kinds` only if given."""
        self.flush()
        if self._max_streams is not None and len(self._streams) >= self._max_streams:
            oldest = next(iter(self._streams))
            del self._streams[oldest]
            self._evicted.value += 1
            oldest.close("a newer subscriber took the place")
        self._streams[stream] = None if kinds is None else frozenset(kinds)

    def discard(self, stream: Stream) -> None:
        """Send `stream` nothing any more; call it from the stream's `closed`."""
        self._streams.pop(stream, None)

    def publish(self, data: bytes, kind: str = "") -> None:
        """Send `data` to every subscriber that wants `kind`, at the end of this tick."""
        self._published.value += 1
        if not self._streams:
            return
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.append((kind, data))

    def send_to(self, stream: Stream, data: bytes) -> None:
        """Send `data` to one subscriber, after all that was published before."""
        self.flush()
        stream.send(data)

    def flush(self) -> None:
        """Hand over what waits now."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        joined: dict[frozenset[str] | None, bytes] = {}
        # A copy: a stream that is cut takes itself out by its `closed`.
        for stream, kinds in list(self._streams.items()):
            if kinds not in joined:
                joined[kinds] = b"".join(
                    data for kind, data in pending if kinds is None or kind in kinds
                )
            stream.send(joined[kinds])

    def close(self, reason: str) -> None:
        """End every stream after what was published."""
        self.flush()
        for stream in list(self._streams):
            stream.close(reason)
        self._streams.clear()
