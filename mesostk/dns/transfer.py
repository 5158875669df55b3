"""The whole zone for secondaries: AXFR over TCP, and NOTIFY when the serial number grew.

A transfer that takes longer than the zone stays the same may mix two states; it ends under the
serial number it began with, so the secondary asks again when told of the next one.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Iterable
from random import Random
from typing import Final

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.renderer
import dns.rrset

from mesostk.base.log import Log
from mesostk.dns.answers import Answers
from mesostk.dns.forward import is_reply_to, split_address
from mesostk.dns.records import AAAA, SRV, A
from mesostk.dns.replies import name_of
from mesostk.dns.zone import Zone

#: Size of one message of a transfer: small enough that making it holds the loop for 10 ms.
_MESSAGE_BYTES: Final = 16_000

#: Pauses between attempts to tell a secondary. Source: RFC 1996 §3.6, with a shorter start.
_NOTIFY_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)

#: Changes within this time are told together.
_NOTIFY_EVERY_S: Final = 1.0


class Allowed:
    """Who may have the zone."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(text, strict=False) for text in networks]

    def __contains__(self, ip: str) -> bool:
        address = ipaddress.ip_address(ip.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


async def messages(query: bytes, answers: Answers, zone: Zone) -> AsyncIterator[bytes]:
    """The messages of one transfer, in order. Source: RFC 5936."""
    asked = dns.message.from_wire(query, question_only=True).question[0]
    soa = answers.writer.soa()
    suffix = "." + answers.style.domain
    writer = _Writer(query, asked)
    for record in (soa, answers.writer.ns()):
        writer.add(record)
    for name in zone.names():
        if not name.endswith(suffix) and name != answers.style.domain:
            continue
        owner = name_of(name)
        for kind in (A, AAAA, SRV):
            for value in zone.values(name, kind):
                record = answers.writer.record(owner, kind, value)
                if not writer.add(record):
                    yield writer.message()
                    # The loop answers others between two messages.
                    await asyncio.sleep(0)
                    writer = _Writer(query, asked)
                    writer.add(record)
    if not writer.add(soa):
        yield writer.message()
        writer = _Writer(query, asked)
        writer.add(soa)
    yield writer.message()


class _Writer:
    def __init__(self, query: bytes, asked: dns.rrset.RRset) -> None:
        flags = dns.flags.QR | dns.flags.AA
        id = int.from_bytes(query[:2], "big")
        self._renderer = dns.renderer.Renderer(id, int(flags), _MESSAGE_BYTES)
        self._renderer.add_question(asked.name, asked.rdtype, asked.rdclass)

    def add(self, record: dns.rrset.RRset) -> bool:
        """Whether there was room."""
        try:
            self._renderer.add_rrset(dns.renderer.ANSWER, record)
        except dns.exception.TooBig:
            return False
        return True

    def message(self) -> bytes:
        self._renderer.write_header()
        return bytes(self._renderer.get_wire())


class Notifier:
    """Tells secondaries of new serial numbers. `run` is a task of the daemon."""

    def __init__(self, answers: Answers, secondaries: Iterable[str], log: Log, rng: Random) -> None:
        self._answers = answers
        self._secondaries = [split_address(text) for text in secondaries]
        self._log = log
        self._rng = rng
        self._changes = [asyncio.Event() for _ in self._secondaries]

    def changed(self) -> None:
        """The serial number grew."""
        for change in self._changes:
            change.set()

    async def run(self) -> None:
        """Tell them for ever; one that does not confirm is told again, or of the next one."""
        if not self._secondaries:
            return
        async with asyncio.TaskGroup() as group:
            for address, change in zip(self._secondaries, self._changes, strict=True):
                group.create_task(self._tell(address, change))

    async def _tell(self, address: tuple[str, int], change: asyncio.Event) -> None:
        while True:
            await change.wait()
            change.clear()
            serial = self._answers.serial
            for wait_s in _NOTIFY_WAITS_S:
                if await self._confirmed(address, wait_s):
                    break
            else:
                self._log.warning("Secondary does not confirm", address=address[0], serial=serial)
            await asyncio.sleep(_NOTIFY_EVERY_S)

    async def _confirmed(self, address: tuple[str, int], wait_s: float) -> bool:
        message = dns.message.make_query(name_of(self._answers.style.domain), "SOA")
        message.set_opcode(dns.opcode.NOTIFY)
        message.flags |= dns.flags.AA
        message.flags &= ~dns.flags.RD
        message.id = self._rng.randrange(65536)
        message.answer.append(self._answers.writer.soa())
        query = message.to_wire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        try:
            async with asyncio.timeout(wait_s):
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Confirmation(query, answer), remote_addr=address
                )
                try:
                    transport.sendto(query)
                    await answer
                finally:
                    transport.close()
        except OSError:
            return False
        return True


class _Confirmation(asyncio.DatagramProtocol):
    def __init__(self, query: bytes, answer: asyncio.Future[bytes]) -> None:
        self._query = query
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 # connected
        if not self._answer.done() and is_reply_to(self._query, data):
            self._answer.set_result(data)
