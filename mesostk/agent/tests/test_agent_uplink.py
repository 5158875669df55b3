"""POSTs over one kept connection, against servers that answer well, oddly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesostk.agent.uplink import MAX_ANSWER_BYTES, UpLink
from mesostk.base.client import NotSent
from mesostk.errors import Unavailable

LIMIT_S = 90.0

TAKEN = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nServer: x\r\n\r\n"


class Master:
    """Answers each request with the next of `answers`; None closes the connection instead."""

    def __init__(self, answers: list[list[bytes] | None]) -> None:
        self.answers = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.rpartition(b"Content-Length: ")[2])
                self.requests.append(head + await reader.readexactly(length))
                pieces = self.answers.pop(0)
                if pieces is None:
                    break
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()

    async def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self._writers.clear()


@asynccontextmanager
async def asked(*answers: list[bytes] | None) -> AsyncIterator[tuple[Master, UpLink]]:
    master = Master(list(answers))
    server = await asyncio.start_server(master.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    master.url = f"http://127.0.0.1:{port}/api/link"
    up = UpLink(master.url, {"Content-Type": "application/json", "Mesos-Stream-Id": "s1"})
    try:
        yield master, up
    finally:
        up.close()
        await master.hang_up()
        server.close()
        await server.wait_closed()


async def test_posts_go_over_one_connection_and_say_what_they_are() -> None:
    async with asked([TAKEN], [TAKEN]) as (master, up):
        for body in (b"one", b"second"):
            assert await up.post(body, LIMIT_S) == (202, "")
        assert master.connections == 1
        where = master.url.removeprefix("http://").removesuffix("/api/link")
        assert master.requests[1].decode().split("\r\n") == [
            "POST /api/link HTTP/1.1", f"Host: {where}", "Content-Type: application/json",
            "Mesos-Stream-Id: s1", "Content-Length: 6", "", "second",
        ]  # fmt: skip


@pytest.mark.parametrize("cut", range(1, len(TAKEN)))
async def test_an_answer_may_come_in_pieces(cut: int) -> None:
    async with asked([TAKEN[:cut], TAKEN[cut:]], [TAKEN]) as (_, up):
        assert await up.post(b"1", LIMIT_S) == (202, "")
        assert await up.post(b"2", LIMIT_S) == (202, "")


async def test_a_refusal_is_told_with_its_text() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 15\r\n\r\nNo link is open"
    async with asked([refusal[:50], refusal[50:]]) as (_, up):
        assert await up.post(b"1", LIMIT_S) == (403, "No link is open")


@pytest.mark.parametrize("closing", [True, False])
async def test_after_the_last_answer_of_a_connection_there_is_another(closing: bool) -> None:
    last = TAKEN.replace(b"Server: x", b"Connection: close") if closing else TAKEN
    async with asked([last], [TAKEN]) as (master, up):
        assert await up.post(b"1", LIMIT_S) == (202, "")
        if not closing:
            await master.hang_up()
            while master.connections == 1:  # until this end has heard of it, a POST may get lost
                with contextlib.suppress(Unavailable):
                    await up.post(b"2", LIMIT_S)
        else:
            assert await up.post(b"2", LIMIT_S) == (202, "")
        assert master.connections == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "connection was closed"),
        ([TAKEN[:30], b"\r\n\r\n"], "does not say where it ends"),
        (
            [b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
            "where it ends",
        ),
        ([b"HTTP/1.1 202 A\r\nContent-Length: 999999999\r\n\r\n"], "does not say where it ends"),
        ([b"hello\r\n\r\n"], "begins with b'hello"),
        ([b"x" * (MAX_ANSWER_BYTES + 10)], "has no end"),
    ],
)
async def test_what_is_no_answer_is_an_error(answer: list[bytes] | None, words: str) -> None:
    async with asked(answer) as (_, up):
        with pytest.raises(Unavailable, match=words):
            await up.post(b"1", LIMIT_S)


async def test_a_master_that_does_not_answer_is_given_up_and_its_late_answer_is_nobodys() -> None:
    async with asked([TAKEN], [], [TAKEN]) as (master, up):
        # Connected before: a POST that is given up while it connects was never asked.
        assert await up.post(b"0", LIMIT_S) == (202, "")
        with pytest.raises(Unavailable, match="TimeoutError"):
            await up.post(b"1", 0.05)
        assert await up.post(b"2", LIMIT_S) == (202, "")
        assert master.connections == 2


async def test_nobody_there_is_told_as_not_sent() -> None:
    with pytest.raises(NotSent, match=r"cannot connect to 127\.0\.0\.1:1"):
        await UpLink("http://127.0.0.1:1/api/link", {}).post(b"1", LIMIT_S)


@pytest.mark.parametrize("url", ["http://[::1/x", "nothing", "http://h:99999/"])
def test_what_names_no_host_is_refused(url: str) -> None:
    with pytest.raises(NotSent, match="names no host"):
        UpLink(url, {})


def test_a_header_of_two_lines_is_refused() -> None:
    with pytest.raises(NotSent):
        UpLink("http://h/", {"Mesos-Stream-Id": "a\r\nb"})
