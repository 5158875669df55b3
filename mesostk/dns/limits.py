"""Response-rate limiting: nobody is flooded with the same answer by way of us.

Counted per network (/24, /56) and answer: of a name that exists by its question, of errors by
their kind, so that made-up names share one count. Over the limit every second reply is cut to its
question with TC set, by which a real client is sent to TCP, and the others are not sent. Source:
BIND's response rate limiting.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_TC: Final = 0x02

#: Counts beyond which a second's are forgotten early.
_MAX_COUNTS: Final = 200_000


class Limiter:
    """At most `per_second` equal replies to one network."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._counts: dict[tuple[str, bytes], int] = {}
        self.dropped = 0

    def filter(self, now: float, ip: str, reply: bytes) -> bytes | None:
        """What to send of `reply` to `ip` at `now`: all, a cut form, or nothing."""
        if int(now) != self._second or len(self._counts) > _MAX_COUNTS:
            self._second = int(now)
            self._counts.clear()
        end = reply.find(b"\0", 12) + 5
        what = reply[12:end].lower() if not reply[3] & 15 else reply[3:4]
        key = (network_of(ip), what)
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count <= self._per_second:
            return reply
        self.dropped += 1
        if count % 2 or reply[4:6] == b"\0\0":
            return None
        return reply[:2] + bytes((reply[2] | _TC, reply[3])) + b"\0\1" + bytes(6) + reply[12:end]


def network_of(ip: str) -> str:
    """The /24 or /56 that an address is in."""
    if ":" not in ip:
        return ip.rpartition(".")[0]
    address = ipaddress.IPv6Address(ip.partition("%")[0])
    return str(int(address) >> 72)
