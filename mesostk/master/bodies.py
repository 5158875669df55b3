"""Large answers without large pauses: made in pieces, shared by all who ask, sent as they are made.

::

    /state ─┐ who asks before it begins      ┌─▶ small: one response, compressed by the edge
    /state ─┴▶ Body (one at a time) ─ pieces ┴─▶ large: chunks as they are made, gzip in a thread
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterator
from typing import Any, Final

from aiohttp import web

from mesostk.base.http import JSON_TYPE, accepts_gzip, json_answer
from mesostk.base.metrics import Counter

#: Seconds of making after which everybody else on the loop has a turn.
TURN_S: Final = 0.004

#: Bytes from which on an answer is sent in chunks of about this size.
CHUNK_BYTES: Final = 256 * 1024

#: As libprocess names it; 16 + 15 makes zlib write gzip.
_GZIP_BITS: Final = 31

Make = Callable[[], Iterator[bytes]]


class Body:
    """A document that is being made: its chunks so far, and whether that was all."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.is_done = False
        self.error: Exception | None = None
        self._more: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def make(self, pieces: Iterator[bytes]) -> None:
        """Take the pieces, with a pause for others each `TURN_S`."""
        waiting: list[bytes] = []
        size, until = 0, time.monotonic() + TURN_S
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                self._add(b"".join(waiting))
                waiting, size = [], 0
            if time.monotonic() >= until:
                await asyncio.sleep(0)
                until = time.monotonic() + TURN_S
        self.chunks.append(b"".join(waiting))

    def finish(self, error: Exception | None = None) -> None:
        self.error = error
        self.is_done = True
        self._wake()

    def _add(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self._wake()

    def _wake(self) -> None:
        self._more.set_result(None)
        self._more = asyncio.get_running_loop().create_future()

    async def read(self) -> AsyncIterator[bytes]:
        """Every chunk, as soon as it is there. Raises what kept the document from being made."""
        at = 0
        while True:
            while at < len(self.chunks):
                yield self.chunks[at]
                at += 1
            if self.error is not None:
                raise self.error
            if self.is_done:
                return
            await asyncio.shield(self._more)


class Bodies:
    """Makes one document at a time; who asks for one that has not begun shares it.

    One that has begun is not shared: it may have passed what the caller has just changed.
    """

    def __init__(
        self,
        start: Callable[[str, Coroutine[Any, Any, None]], object],
        in_thread: Callable[..., Coroutine[Any, Any, bytes]],
        shared: Counter,
    ) -> None:
        """`start` runs a task of the daemon, `in_thread` a function in its thread for computing;
        `shared` counts who was given what had been asked for already."""
        self._start = start
        self._in_thread = in_thread
        self._shared = shared
        self._turn = asyncio.Lock()
        self._next: dict[Hashable, Body] = {}

    async def answer(
        self, request: web.Request, key: Hashable, make: Make, kind: str = JSON_TYPE
    ) -> web.StreamResponse:
        """The document `key`, made by `make` unless it is about to be made for somebody else; its
        Content-Type is `kind`."""
        body = self._next.get(key)
        if body is None:
            body = self._next[key] = Body()
            self._start(f"document {key}", self._make(key, body, make))
        else:
            self._shared.value += 1
        chunks = body.read()
        first = await anext(chunks)
        if "jsonp" in request.query or (body.is_done and len(body.chunks) == 1):
            rest = [chunk async for chunk in chunks]
            whole = b"".join((first, *rest))
            if kind != JSON_TYPE:
                return web.Response(body=whole, content_type=kind)
            return json_answer(whole, request=request)
        return await self._send(request, first, chunks, kind)

    async def _make(self, key: Hashable, body: Body, make: Make) -> None:
        async with self._turn:
            del self._next[key]
            try:
                await body.make(make())
            except Exception as error:  # noqa: BLE001 - each waiting handler raises it to the edge
                body.finish(error)
            else:
                body.finish()

    async def _send(
        self, request: web.Request, first: bytes, rest: AsyncIterator[bytes], kind: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        squeeze = None
        if accepts_gzip(request):
            squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP_BITS)
            response.headers["Content-Encoding"] = "gzip"
            response.headers["Vary"] = "Accept-Encoding"
        await response.prepare(request)
        if squeeze is None:
            await response.write(first)
            async for chunk in rest:
                await response.write(chunk)
        else:
            await response.write(await self._in_thread(squeeze.compress, first))
            async for chunk in rest:
                await response.write(await self._in_thread(squeeze.compress, chunk))
            await response.write(await self._in_thread(squeeze.flush))
        await response.write_eof()
        return response
