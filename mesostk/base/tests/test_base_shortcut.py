"""The short cut in front of aiohttp: who answers, and that nobody can tell by the answers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from mesostk.base.http import Server, make_app
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.base.shortcut import Shortcut

MAX_BODY = 2000

PATH = "/api/door"

PLAIN = ("Host: here", "Content-Type: application/json", "Mesos-Stream-Id: s1")


def post(body: bytes, *fields: str, path: str = PATH, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", *fields, f"Content-Length: {size}", "", ""]
    return "\r\n".join(lines).encode() + body


class Door:
    """A server with a door; what came through it, and by which way."""

    def __init__(self, *, short: bool) -> None:
        self.came: list[tuple[str, bytes]] = []
        self.metrics = Metrics()
        app = make_app(Log("ERROR"), self.metrics, max_body_bytes=MAX_BODY)
        app.router.add_route("*", PATH, self.handle)
        app.router.add_route("*", "/other", self.handle)
        shortcut = Shortcut(
            takers={PATH: self.take},
            max_body_bytes=MAX_BODY,
            requests=self.metrics.counter("http/requests"),
        )
        self.server = Server(app, "127.0.0.1", 0, shortcut=shortcut if short else None)

    def take(self, stream_id: str | None, body: bytes) -> bool:
        if stream_id != "s1" or body.startswith(b"slow"):
            return False
        self.came.append(("short", body))
        return True

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Mesos-Stream-Id") != "s1":
            return web.Response(status=403, text="no such stream")
        await asyncio.sleep(0)  # others have their turn, as where the handler waits for something
        self.came.append(("long", body))
        return web.Response(status=202)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.came]

    @property
    def ways(self) -> list[str]:
        return [way for way, _ in self.came]


@asynccontextmanager
async def door(*, short: bool) -> AsyncIterator[Door]:
    one = Door(short=short)
    await one.server.start()
    try:
        yield one
    finally:
        await one.server.stop()


LAST = post(b"slow, the last", *PLAIN, "Connection: close")


class Peer:
    """A connection to a door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send each when the loop has had turns since the one before."""
        for piece in pieces:
            self._writer.write(piece)
            for _ in range(3):
                await asyncio.sleep(0)

    async def ask(self, request: bytes) -> None:
        """Send requests that are answered 202, and read the answers."""
        await self.send(request)
        for _ in range(request.count(b"POST ")):
            answer = await self._reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 202 ")

    async def hear(self) -> bytes:
        """All that the server says until it closes, without the time of day."""
        return re.sub(rb"Date: [^\r]*", b"Date: then", await self._reader.read())


@asynccontextmanager
async def peer(one: Door) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def said(one: Door, *pieces: bytes, last: bytes = LAST) -> bytes:
    """What the server says to `pieces` and to `last`, upon which it closes."""
    async with peer(one) as sending:
        await sending.send(*pieces, last)
        return await sending.hear()


REQUESTS = {
    "plain": post(b"{}", *PLAIN),
    "two": post(b"{}", *PLAIN) + post(b"[1]", *PLAIN),
    "refused by the taker": post(b"slow", *PLAIN),
    "between others": post(b"1", *PLAIN) + post(b"slow", *PLAIN) + post(b"2", *PLAIN),
    "another stream": post(b"{}", *PLAIN[:2], "Mesos-Stream-Id: s2"),
    "no stream": post(b"{}", *PLAIN[:2]),
    "other names": post(b"{}", *PLAIN, "User-Agent: x", "Accept: */*", "accept-encoding:gzip"),
    "kept by its word": post(b"{}", *PLAIN, "Connection: Keep-Alive"),
    "no body": post(b"", *PLAIN),
    "large": post(b"x" * MAX_BODY, *PLAIN),
    "too large": post(b"x" * (MAX_BODY + 1), *PLAIN),
    "an odd name": post(b"{}", *PLAIN, "X-Trace: 1"),
    "proof": post(b"{}", *PLAIN, "Authorization: Basic eDp5"),
    "another type": post(b"{}", PLAIN[0], "Content-Type: text/plain", PLAIN[2]),
    "another path": post(b"{}", *PLAIN, path="/other"),
    "no such path": post(b"{}", *PLAIN, path="/nothing"),
    "a query": post(b"{}", *PLAIN, path=PATH + "?a=b"),
    "expecting": post(b"{}", *PLAIN, "Expect: 100-continue"),
    "a method": b"GET " + post(b"{}", *PLAIN)[5:],
    "HTTP/1.0": post(b"{}", *PLAIN, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "chunked": (
        f"POST {PATH} HTTP/1.1\r\n{PLAIN[0]}\r\n{PLAIN[1]}\r\n{PLAIN[2]}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ).encode(),
    "a long head": post(b"{}", *PLAIN, "Accept: " + "x" * 6000),
}

#: Upon which aiohttp closes, whatever follows.
REFUSED = {
    "two lengths": post(b"{}", *PLAIN, "Content-Length: 3"),
    "no length": post(b"{}", *PLAIN, length=-1),
    "chunked with a length": post(b"{}", *PLAIN, "Transfer-Encoding: chunked"),
    "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
    "a bad byte": post(b"{}", *PLAIN, "Accept: a\x00b"),
}


@pytest.mark.parametrize("name", [*REQUESTS, *REFUSED])
async def test_nobody_can_tell_by_the_answers(name: str) -> None:
    request = REQUESTS.get(name) or REFUSED[name]
    last = LAST if name in REQUESTS else b""
    async with door(short=True) as short, door(short=False) as long:
        heard = [await said(one, request, last=last) for one in (short, long)]
        assert heard[0] == heard[1]
        assert heard[0]
        assert b"aiohttp" not in heard[0]
        assert name in REQUESTS or heard[0].startswith(b"HTTP/1.0 400 Bad Request\r\n")
        assert name in REQUESTS or heard[0].endswith(b"\r\n\r\nBad Request")
        assert short.bodies == long.bodies
        counts = [one.metrics.snapshot()["http/requests"] for one in (short, long)]
        assert counts[0] == counts[1]


async def test_what_is_plain_is_taken_and_all_else_is_left_to_aiohttp() -> None:
    first = post(b"slow", *PLAIN)  # aiohttp waits for the next one from then on
    async with door(short=True) as one, peer(one) as sending:
        for request in (first, post(b"1", *PLAIN), post(b"2", *PLAIN) + post(b"3", *PLAIN)):
            await sending.ask(request)
        assert one.ways == ["long", "short", "short", "short"]
        await sending.ask(first)
        await sending.ask(post(b"4", *PLAIN))
        assert one.ways[4:] == ["long", "short"]
        await sending.ask(post(b"5", *PLAIN, "X-Trace: 1"))
        await sending.ask(post(b"6", *PLAIN))
        assert one.ways[6:] == ["long", "long"]


@pytest.mark.parametrize("seed", range(20))
async def test_however_it_is_cut_it_is_answered_in_order(seed: int) -> None:
    rng = random.Random(seed)
    names = rng.choices(sorted(REQUESTS), k=12)
    # What is aiohttp's for good comes last, or the others would hardly be taken at all.
    plain = [b"%d" % n for n in range(200)]
    stream = b"".join(post(body, *PLAIN) for body in plain)
    stream += b"".join(REQUESTS[name] for name in names)
    cuts = sorted(rng.sample(range(1, len(stream)), 30))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    async with door(short=True) as short, door(short=False) as long:
        assert await said(short, *pieces) == await said(long, stream)
        assert short.bodies == long.bodies
        assert short.bodies[:200] == plain


async def test_a_large_number_at_once_leaves_turns_to_others() -> None:
    async with door(short=True) as one, peer(one) as sending:
        await sending.ask(post(b"slow", *PLAIN))
        await sending.ask(b"".join(post(b"%d" % n, *PLAIN) for n in range(500)))
        assert one.bodies[1:] == [b"%d" % n for n in range(500)]
        assert 0 < one.ways.count("short") < 500


async def test_a_peer_that_goes_away_within_a_request_leaves_nothing() -> None:
    async with door(short=True) as one:
        for cut in (1, 20, 60, len(REQUESTS["plain"]) - 1):
            _, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
            writer.write(REQUESTS["plain"][:cut])
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        await said(one)
        assert one.bodies == [b"slow, the last"]
