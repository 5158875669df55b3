"""Questions for others: passed to resolvers as they are, over the transport they came by.

Nothing is cached, and a reply is handed back whatever it says; only silence, a refused connection
or garbage makes us ask the next resolver. One that was silent is asked last for a while, so that it
costs its timeout once and not per query, as it does in the original.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

from mesostk.errors import Unavailable

#: A resolver that did not answer is asked last for this time.
AVOID_S: Final = 30.0

#: Queries under way; more are answered SERVFAIL at once. Each holds a socket.
MAX_UNDER_WAY: Final = 1000

_Address = tuple[str, int]


def split_address(text: str) -> _Address:
    """`ip:port` or `[ip]:port`, as the configuration has settled it."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def system_resolvers(text: str, own: Iterable[str]) -> tuple[str, ...]:
    """`ip:53` of the name servers in the text of a resolv.conf, without our own addresses."""
    mine = set(own)
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            ip = ipaddress.ip_address(words[1].partition("%")[0])
        except ValueError:
            continue
        if str(ip) not in mine:
            found.append(f"[{ip}]:53" if ip.version == 6 else f"{ip}:53")
    return tuple(dict.fromkeys(found))


def read_system_resolvers(own: Iterable[str], path: str = "/etc/resolv.conf") -> tuple[str, ...]:
    """`system_resolvers` of this host; empty if it has none."""
    try:
        return system_resolvers(Path(path).read_text(), own)
    except OSError:
        return ()


class Forwarder:
    """Asks the resolvers of a zone in turn. `zones` maps a zone, `` for all others, to them."""

    def __init__(
        self,
        zones: Mapping[str, Sequence[str]],
        timeout_s: float,
        now: Callable[[], float],
        rng: Random,
    ) -> None:
        self._zones = {
            zone: [split_address(text) for text in listed] for zone, listed in zones.items()
        }
        self._timeout_s = timeout_s
        self._now = now
        self._rng = rng
        self._silent_until: dict[_Address, float] = {}
        #: Queries under way.
        self.under_way = 0

    def _order(self, zone: str) -> list[_Address]:
        now = self._now()
        listed = self._zones.get(zone, [])
        return sorted(listed, key=lambda one: self._silent_until.get(one, 0.0) > now)

    async def ask(self, query: bytes, zone: str, *, tcp: bool) -> bytes:
        """The reply of the first resolver that gives one; Unavailable if none does."""
        if self.under_way >= MAX_UNDER_WAY:
            raise Unavailable(f"{MAX_UNDER_WAY} queries wait for resolvers already")
        self.under_way += 1
        # An id of our own: with the port of a fresh socket, 32 bits that a forger has to guess.
        id = self._rng.randbytes(2)
        trouble = "none is configured"
        try:
            for address in self._order(zone):
                try:
                    async with asyncio.timeout(self._timeout_s):
                        reply = await self._try(address, id + query[2:], tcp=tcp)
                except (OSError, asyncio.IncompleteReadError) as error:
                    self._silent_until[address] = self._now() + AVOID_S
                    trouble = f"{address[0]}: {str(error) or type(error).__name__}"
                    continue
                self._silent_until.pop(address, None)
                return query[:2] + reply[2:]
        finally:
            self.under_way -= 1
        raise Unavailable(f"no resolver answered: {trouble}")

    async def _try(self, address: _Address, query: bytes, *, tcp: bool) -> bytes:
        return await (_ask_tcp(address, query) if tcp else _ask_udp(address, query))


def is_reply_to(query: bytes, reply: bytes) -> bool:
    """Whether `reply` has the id and the question of `query`; case counts for nothing."""
    if len(reply) < 12 or reply[:2] != query[:2] or not reply[2] & 0x80:
        return False
    if reply[4:6] == b"\0\0":
        # FORMERR and the like may come without the question.
        return reply[3] & 15 != 0
    end = query.find(b"\0", 12) + 5
    return reply[12:end].lower() == query[12:end].lower()


class _Answered(asyncio.DatagramProtocol):
    """Waits for the datagram that answers."""

    def __init__(self, query: bytes, answer: asyncio.Future[bytes]) -> None:
        self._query = query
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 # connected
        if not self._answer.done() and is_reply_to(self._query, data):
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc if exc is not None else ConnectionResetError("closed"))


async def _ask_udp(address: _Address, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Answered(query, answer), remote_addr=address
    )
    try:
        transport.sendto(query)
        return await answer
    finally:
        answer.cancel()
        transport.close()


async def _ask_tcp(address: _Address, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            reply = await reader.readexactly(size)
            if is_reply_to(query, reply):
                return reply
    finally:
        writer.close()
