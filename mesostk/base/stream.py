"""A long-lived answer: RecordIO or server-sent events, written without waiting.

::

    send(bytes) ─▶ pending ─▶ once per tick of the loop: one chunk, one write to the transport
                     │
                     └─ unsent > limit: the connection is cut, closed(reason); None: the owner
                        judges by `unsent_bytes`

A stream costs no task of its own beside the handler that holds it open.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.http import HttpVersion11

#: Unsent bytes at which a subscriber of operator events or a framework is cut.
OPERATOR_LIMIT_BYTES: Final = 8 * 1024 * 1024

#: Unsent bytes at which an agent or an executor is cut.
LINK_LIMIT_BYTES: Final = 4 * 1024 * 1024

#: Why a stream ended by the other side's doing.
PEER_CLOSED: Final = "the peer closed the connection"


class Stream:
    """One open answer.

    In a handler::

        stream = Stream(content_type="application/json", closed=lambda reason: …)
        await stream.open(request)
        stream.send(record)                     # from anywhere on the loop, for as long as it lasts
        return await stream.wait()
    """

    def __init__(
        self,
        content_type: str,
        closed: Callable[[str], None],
        limit_bytes: int | None = OPERATOR_LIMIT_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._limit = math.inf if limit_bytes is None else limit_bytes
        self._closed = closed
        self._response = web.StreamResponse(headers={"Content-Type": content_type})
        if headers is not None:
            self._response.headers.update(headers)
        self._transport: asyncio.WriteTransport | None = None
        self._chunked = True
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._exempt_bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._over = False
        #: Address of the peer, for logs.
        self.remote = ""

    async def open(self, request: web.Request) -> None:
        """Send the headers; what was sent before follows at once."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self.remote = request.remote or ""
        if request.version >= HttpVersion11:
            self._response.enable_chunked_encoding()
        else:
            self._chunked = False
            self._response.force_close()
        try:
            await self._response.prepare(request)
        except (ConnectionError, asyncio.CancelledError):
            self._finish(PEER_CLOSED)
            raise
        transport = request.transport
        if transport is None:
            self._finish(PEER_CLOSED)
            return
        self._transport = transport
        self._flush()

    @property
    def is_open(self) -> bool:
        """False once `close` or `cut` was called or the peer is gone."""
        return not self._over

    @property
    def buffered_bytes(self) -> int:
        """Bytes of former ticks that the peer has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self.buffered_bytes + self._pending_bytes

    def send(self, data: bytes, *, exempt: bool = False) -> None:
        """Write `data` at the end of this tick; never waits. Nothing happens once it is over.

        `exempt` data, the snapshot that a subscription begins with, does not count as unsent until
        the peer has caught up once.
        """
        if self._over or not data:
            return
        if exempt:
            self._exempt_bytes += len(data)
        if not self._pending and self._transport is not None and self._loop is not None:
            self._loop.call_soon(self._flush)
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > self._limit + self._exempt_bytes:
            # Even without a look at the transport: more than the limit within one tick.
            self.cut(f"more than {self._limit} bytes unsent")

    def close(self, reason: str = "closed by the server") -> None:
        """End the answer properly after what was sent; the connection stays usable."""
        if self._over:
            return
        self._flush()
        self._finish(reason)

    def cut(self, reason: str) -> None:
        """Drop the connection with all that is unsent."""
        if self._over:
            return
        self._pending.clear()
        self._pending_bytes = 0
        if self._transport is not None:
            self._transport.abort()
        self._finish(reason)

    async def wait(self) -> web.StreamResponse:
        """Hold the handler until the stream is over; return its response."""
        if self._ended is None:
            raise RuntimeError("Stream.wait before Stream.open")
        try:
            await self._ended
        except asyncio.CancelledError:
            # The server cancels a handler whose peer is gone.
            self._finish(PEER_CLOSED)
            raise
        if self._transport is not None and not self._transport.is_closing():
            try:
                await self._response.write_eof()
            except ConnectionError:
                self._transport.abort()
        return self._response

    def _flush(self) -> None:
        if self._over or not self._pending or self._transport is None:
            return
        if self._transport.is_closing():
            # connection_lost follows and cancels the handler.
            self._pending.clear()
            self._pending_bytes = 0
            return
        parts = self._pending
        size = self._pending_bytes
        self._pending = []
        self._pending_bytes = 0
        buffered = self._transport.get_write_buffer_size()
        if buffered + size > self._limit + self._exempt_bytes:
            self.cut(f"more than {self._limit} bytes unsent")
            return
        if buffered == 0 and size <= self._limit:
            self._exempt_bytes = 0
        if self._chunked:
            parts = [b"%x\r\n" % size, *parts, b"\r\n"]
        self._transport.write(b"".join(parts))

    def _finish(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._closed(reason)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
