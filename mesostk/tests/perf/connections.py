"""Connections that cost their process little, so that a figure is the server's and not theirs.

::

    Posts   one keep-alive connection, POSTs in a pipeline; of an answer only the status counts
    Events  one SUBSCRIBE, whose answer is read as RecordIO for as long as it lasts

They know as much HTTP as the daemons here answer with, and raise RuntimeError at anything else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self, cast

from mesostk.wire.recordio import Decoder

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


def request(host: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """One POST, whole."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in {**_JSON, **headers}.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _take_head(buffer: bytearray) -> tuple[int, dict[str, str]] | None:
    """Status and headers (names in lower case) once they are whole, removed from `buffer`."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *rest = bytes(buffer[:end]).decode().split("\r\n")
    del buffer[: end + 4]
    pairs = (line.split(": ", 1) for line in rest)
    return int(first.split(" ", 2)[1]), {name.lower(): value for name, value in pairs}


class Posts(asyncio.Protocol):
    """POSTs in a pipeline; `answered` counts those that were taken (2xx)."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None
        self._skip = 0
        self._waiting: deque[asyncio.Future[None] | None] = deque()
        self._unsent: list[bytes] = []
        self.answered = 0

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        loop = asyncio.get_running_loop()
        _, posts = await loop.create_connection(lambda: cls(f"{host}:{port}"), host, port)
        return posts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self._waiting:
            if future is not None and not future.done():
                future.set_exception(ConnectionResetError(str(exc)))

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send at the end of this tick; whoever refuses it ends the process by an exception."""
        self._send(request(self._host, path, body, headers), None)

    async def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send, and return when it was taken."""
        future = asyncio.get_running_loop().create_future()
        self._send(request(self._host, path, body, headers), future)
        await future

    def _send(self, data: bytes, future: asyncio.Future[None] | None) -> None:
        self._waiting.append(future)
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            if self._skip:
                if len(self._buffer) < self._skip:
                    return
                del self._buffer[: self._skip]
                self._skip = 0
            head = _take_head(self._buffer)
            if head is None:
                return
            status, headers = head
            if status >= 300 and status != 403:  # 403: that stream has ended meanwhile
                raise RuntimeError(f"{self._host} answers {status}: {bytes(self._buffer)!r}")
            self._skip = int(headers.get("content-length", "0"))
            self.answered += 1
            future = self._waiting.popleft()
            if future is not None and not future.done():
                future.set_result(None)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


class Events(asyncio.Protocol):
    """The answer to one SUBSCRIBE; `on_record` gets each record, `on_end` the end.

    503 is an end, too: whoever wants to, subscribes again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        body: bytes,
        on_record: Callable[[bytes], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = host, port
        self._first = request(f"{host}:{port}", path, body, {})
        self._on_record = on_record
        self._on_end = on_end
        self._buffer = bytearray()
        self._decoder = Decoder()
        self._transport: asyncio.WriteTransport | None = None
        #: Of the answer, in lower case; empty until it has come.
        self.headers: dict[str, str] = {}

    async def open(self) -> None:
        """Send the subscription; records may come even before this returns."""
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)

    @property
    def stream_id(self) -> str:
        return self.headers["mesos-stream-id"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._first)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._on_end()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.headers:
            head = _take_head(self._buffer)
            if head is None:
                return
            status, headers = head
            if status == 503:  # nobody leads yet
                self.close()
                return
            self.headers = headers
            if status != 200:
                raise RuntimeError(f"SUBSCRIBE is answered {status}: {bytes(self._buffer)!r}")
        while (chunk := self._take_chunk()) is not None:
            for record in self._decoder.feed(chunk):
                self._on_record(record)

    def _take_chunk(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        size = int(self._buffer[:end], 16)
        if len(self._buffer) < end + size + 4:
            return None
        chunk = bytes(self._buffer[end + 2 : end + 2 + size])
        del self._buffer[: end + size + 4]
        return chunk

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()
