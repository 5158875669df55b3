"""A short cut in front of aiohttp, for small POSTs that come by the hundred a second.

::

    bytes ─▶ a whole POST to one of the paths, nothing unusual in it, all before it answered?
               │ yes: taker(stream id, body) ─▶ True: 202 is written at once
               │                             └▶ False ─┐
               └ no ───────────────────────────────────┴─▶ aiohttp, with the very same bytes

Through aiohttp such a request costs 0.1 ms beside what is done with it. Whatever is to be refused,
lasts, proves who it is, or is not spelled plainly is aiohttp's, so that there is one place that
answers it, and a peer sees no difference. Pipelined requests are answered in order: while aiohttp
has one, those behind it go there, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from mesostk.base.metrics import Counter
from mesostk.base.protocol import Connection

#: Takes a request's `Mesos-Stream-Id`, if it has one, and its body, which is said to be JSON, to
#: answer 202; False, having done nothing, leaves the request to aiohttp.
Taker = Callable[[str | None, bytes], bool]

#: A head that is longer, as far as it has come, is left to aiohttp.
_MAX_HEAD_BYTES: Final = 4096

#: Requests taken at once; the rest of what has come goes the long way, on which others have turns.
_MAX_AT_ONCE: Final = 64

_HEAD = re.compile(rb"POST (/[a-z0-9/]+) HTTP/1\.1\r\n((?:[A-Za-z-]+:[ -~]*\r\n)+)\r\n")

#: Of these, one each at most, the body's length, and nothing else.
_FIELDS: Final = frozenset(
    {
        b"accept", b"accept-encoding", b"connection", b"content-length", b"content-type", b"host",
        b"mesos-stream-id", b"user-agent",
    }
)  # fmt: skip

_LENGTH = re.compile(rb"[0-9]{1,9}")


class Shortcut(msgspec.Struct, frozen=True, kw_only=True):
    """Which paths have one; `requests` counts what is taken, as the edge counts the others."""

    takers: Mapping[str, Taker]
    max_body_bytes: int
    requests: Counter


class _Head(msgspec.Struct, frozen=True):
    """The head of a request that could be taken; `raw` is all of it."""

    raw: bytes
    taker: Taker
    stream_id: str | None
    length: int


class ShortcutHandler(Connection):
    """The protocol of one connection."""

    __slots__ = ("_is_aside", "_last", "_owed", "_rest", "_shortcut")

    def __init__(self, server: web.Server, shortcut: Shortcut, **options: Any) -> None:
        super().__init__(server, **options)
        self._shortcut = shortcut
        #: Something came whose end is not known here: all that follows is aiohttp's.
        self._is_aside = False
        #: What has come of a head.
        self._rest = b""
        #: Bytes to come of a body whose head aiohttp has.
        self._owed = 0
        #: Most requests of a connection have the head of the one before.
        self._last: _Head | None = None

    def data_received(self, data: bytes) -> None:
        """Take what can be taken, in order; the rest is aiohttp's."""
        if self._is_aside or not data:
            super().data_received(data)
            return
        data, self._rest = self._rest + data, b""
        at = taken = 0
        try:
            while at < len(data):
                if self._owed:
                    end = min(len(data), at + self._owed)
                    self._owed -= end - at
                    super().data_received(data[at:end])
                    at = end
                    continue
                head = self._head_at(data, at)
                if head is None:
                    self._set_aside(data[at:])
                    return
                start = at + len(head.raw)
                end = start + head.length
                can = end <= len(data) and taken < _MAX_AT_ONCE and self._is_idle()
                if can and head.taker(head.stream_id, data[start:end]):
                    taken += 1
                    at = end
                else:
                    self._owed = end - at
        finally:
            if taken:
                self._answer(taken)

    def _head_at(self, data: bytes, at: int) -> _Head | None:
        """The head that begins there; None if it has yet to come, or if aiohttp must read it."""
        last = self._last
        if last is not None and data.startswith(last.raw, at):
            return last
        end = data.find(b"\r\n\r\n", at)
        self._last = self._read(data[at : end + 4]) if end >= 0 else None
        return self._last

    def _set_aside(self, rest: bytes) -> None:
        """Wait for the rest of a head that may become one of ours; any other is aiohttp's, and as
        its end is not known, so is all that follows."""
        begins = (f"POST {path} ".encode() for path in self._shortcut.takers)
        may_come = any(rest.startswith(begin[: len(rest)]) for begin in begins)
        if may_come and len(rest) <= _MAX_HEAD_BYTES and b"\r\n\r\n" not in rest:
            self._rest = rest
            return
        self._is_aside = True
        super().data_received(rest)

    def _read(self, raw: bytes) -> _Head | None:
        """A whole head; None unless every line of it is as plain as can be."""
        found = _HEAD.fullmatch(raw)
        taker = self._shortcut.takers.get(found[1].decode()) if found is not None else None
        if found is None or taker is None:
            return None
        fields: dict[bytes, bytes] = {}
        for line in found[2].split(b"\r\n")[:-1]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name not in _FIELDS or name in fields:
                return None
            fields[name] = value.strip(b" ")
        length = fields.get(b"content-length", b"")
        if (
            _LENGTH.fullmatch(length) is None
            or not 0 < int(length) <= self._shortcut.max_body_bytes
            or fields.get(b"content-type") != b"application/json"
            or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        ):
            return None
        stream_id = fields.get(b"mesos-stream-id")
        text = stream_id.decode() if stream_id is not None else None
        return _Head(raw, taker, text, int(length))

    def _is_idle(self) -> bool:
        """Whether aiohttp waits for the next request, and the peer takes its answers."""
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._messages
            and not self._buffer_paused
            and not self._paused
            and not self._close
            and not self._force_close
        )

    def _answer(self, count: int) -> None:
        """202 to the requests just taken: the bytes that aiohttp answers them with."""
        self._shortcut.requests.value += count
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        answer = (
            f"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        )
        if self.transport is not None:
            self.transport.write(answer.encode() * count)
