"""One HTTP GET for its status alone, one TCP connection: for a thousand probes a second.

A client library reads headers and bodies that no health check looks at; here a connection is made,
one request sent, one line read, and the connection closed. TLS takes any certificate, as the
original's checks do. Source: spec/marathon §3.10.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Final, cast

#: A status line is never longer; what does not end by then is no HTTP.
MAX_LINE_BYTES: Final = 1024

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})(?: |$)")


class NoHttp(ValueError):
    """What came back is no HTTP answer."""


def any_certificate() -> ssl.SSLContext:
    """A context that asks for encryption and trusts everyone."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Knock(asyncio.Protocol):
    """Sends a request, and settles `status` by the first line of the answer."""

    def __init__(self, request: bytes) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._request = request
        self._line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            return
        self._line += data
        line, end, _ = self._line.partition(b"\n")
        if not end and len(self._line) < MAX_LINE_BYTES:
            return
        found = _STATUS.match(line.rstrip(b"\r"))
        if found is None:
            self.status.set_exception(NoHttp(f"answers {line[:32]!r}, which is no HTTP"))
        else:
            self.status.set_result(int(found[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            why = "closed the connection without an answer" if exc is None else str(exc)
            self.status.set_exception(NoHttp(why))


async def status_of(host: str, port: int, path: str, tls: ssl.SSLContext | None) -> int:
    """The status that GET `path` is answered with; raises OSError, NoHttp (a ValueError).

    The caller bounds the time.
    """
    name = f"[{host}]" if ":" in host else host
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: mesostk\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    raw = request.encode()
    transport, knock = await loop.create_connection(lambda: _Knock(raw), host, port, ssl=tls)
    try:
        return await knock.status
    finally:
        # Not close: that would wait for the rest of a body that nobody reads.
        transport.abort()


async def connect(host: str, port: int) -> None:
    """Return once a connection stood; raises OSError. The caller bounds the time."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
    transport.abort()
