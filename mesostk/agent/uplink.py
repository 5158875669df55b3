"""POSTs to the master over one kept connection, each sent when the one before is answered.

A client library took 0.1 ms of processor time for each; what is sent and answered here is always
the same. Only what says how long an answer is, and whether the connection stays, is read of one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from mesostk.base.client import CONNECT_TIMEOUT_S, NotSent
from mesostk.errors import Unavailable

#: Of an answer, which says in a sentence what was wrong.
MAX_ANSWER_BYTES = 64 * 1024

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)


class UpLink:
    """Where records go; `headers` are sent with each POST. Close it at the end."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Raises NotSent for a `url` that names no host, or headers that cannot be sent."""
        try:
            where = urlsplit(url)
            host, self._port = where.hostname, where.port
        except ValueError as error:
            raise NotSent(f"{url[:200]!r} names no host: {error}") from error
        if host is None or any(not text.isprintable() for text in headers.values()):
            raise NotSent(f"{url[:200]!r} names no host that a POST can go to")
        self._host = host
        self._is_https = where.scheme == "https"
        self._where = where.netloc
        lines = [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()
        self._connection: _Connection | None = None

    async def post(self, body: bytes, timeout_s: float) -> tuple[int, str]:
        """Send `body`; status and text of the answer. Unavailable if there is none in time."""
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._connection
                if connection is None or connection.is_over:
                    connection = self._connection = await self._connect()
                return await connection.ask(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
        except NotSent:
            raise
        except (OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"no answer from {self._where}: {reason}") from error

    async def _connect(self) -> _Connection:
        port = self._port if self._port is not None else 443 if self._is_https else 80
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    _Connection, self._host, port, ssl=self._is_https or None
                )
        except (OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise NotSent(f"cannot connect to {self._where}: {reason}") from error
        return connection

    def close(self) -> None:
        """Close the connection; what is under way on it ends with Unavailable."""
        if self._connection is not None:
            self._connection.close()


class _Connection(asyncio.Protocol):
    """One connection; `is_over` when nothing can be sent over it any more."""

    def __init__(self) -> None:
        self.is_over = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        self._fail("the connection was closed" if exc is None else str(exc))

    def close(self) -> None:
        self.is_over = True
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, request: bytes) -> tuple[int, str]:
        """Send a request and await its answer; raises OSError if the connection ends before."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()  # its answer would be taken for the next one's
            raise

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if self._answer is None or self._answer.done():
            self.close()  # nothing was asked
            return
        end = self._heard.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._heard) > MAX_ANSWER_BYTES:
                self._fail("its answer has no end")
                self.close()
            return
        head = self._heard[: end - 2]
        status, length = _STATUS.match(head), _LENGTH.search(head)
        if status is None or length is None or int(length[1]) > MAX_ANSWER_BYTES:
            self._fail(f"its answer begins with {head[:64]!r} and does not say where it ends")
            self.close()
            return
        if len(self._heard) < end + int(length[1]):
            return
        text = self._heard[end : end + int(length[1])].decode(errors="replace")
        is_last = _CLOSES.search(head) is not None or len(self._heard) > end + int(length[1])
        self._heard = b""
        self._answer.set_result((int(status[1]), text))
        if is_last:
            self.close()

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))
