"""Replies rendered: sections, orders, room and truncation; dnspython writes every byte.

Rules of the answers: spec/dns-lb-autoscale.md §1.9 and §1.10; docs/mesos-dns.md lists differences.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.renderer
import dns.rrset
import msgspec
from dns.rdata import Rdata
from dns.rdataclass import IN
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.SOA import SOA

from mesostk.dns.records import AAAA, SRV, A
from mesostk.dns.zone import Zone

HEADER_BYTES: Final = 12

#: A UDP reply without EDNS. Source: RFC 1035 §4.2.1.
PLAIN_BYTES: Final = 512

#: The most that is sent by UDP, and what we say that we take: fits any path unfragmented.
EDNS_BYTES: Final = 1232

TCP_BYTES: Final = 65535

#: Size of the OPT record of a reply.
_OPT_BYTES: Final = 11

#: The smallest record of an answer: a pointer, ten bytes of head, an IPv4 address.
_MIN_RECORD_BYTES: Final = 16

#: Different orders kept of an answer with several records.
_MAX_ORDERS: Final = 16

TYPES: Final = {A: dns.rdatatype.A, AAAA: dns.rdatatype.AAAA, SRV: dns.rdatatype.SRV}


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration decides about answers. Times in seconds."""

    domain: str = "mesos"
    ttl: int = 60
    weight: int = 1
    recurse_on: bool = True
    set_truncate_bit: bool = True
    mname: str = "ns1.mesos"
    rname: str = "root.ns1.mesos"
    refresh: int = 60
    retry: int = 600
    expire: int = 86400
    external_on: bool = True
    #: Zones with resolvers of their own.
    zones: tuple[str, ...] = ()


class Ask(msgspec.Struct, frozen=True, gc=False):
    """What a reply depends on: `key` is the name that is looked up, `room` the bytes there are.

    `edns` holds the EDNS flags of the reply; None without EDNS.
    """

    name: dns.name.Name
    key: str
    type: int
    flags: int
    room: int
    edns: int | None


#: Head (flags, counts) of a reply, and what follows its question.
Reply = tuple[bytes, bytes]


class Kept:
    """One reply in one or several orders, each rendered when its turn comes."""

    __slots__ = ("make", "replies", "turn")

    def __init__(self, count: int, make: Callable[[int], Reply]) -> None:
        # The first is there always: a reply without other orders needs no turn, and no maker.
        self.replies: list[Reply | None] = [None] * count
        self.replies[0] = make(0)
        self.make = make if count > 1 else None
        self.turn = 0

    def next(self) -> Reply:
        """The reply in the next order."""
        self.turn = turn = (self.turn + 1) % len(self.replies)
        reply = self.replies[turn]
        if reply is None:
            assert self.make is not None
            reply = self.replies[turn] = self.make(turn)
        return reply


class Writer:
    """Makes records of one zone."""

    def __init__(self, style: Style) -> None:
        self.style = style
        #: Number of the zone's state.
        self.serial = 1
        self._domain = name_of(style.domain)

    def soa(self) -> dns.rrset.RRset:
        """The SOA record of the domain."""
        style = self.style
        data = SOA(
            IN, dns.rdatatype.SOA, name_of(style.mname), name_of(style.rname), self.serial,
            style.refresh, style.retry, style.expire, style.ttl,
        )  # fmt: skip
        return dns.rrset.from_rdata(self._domain, style.ttl, data)

    def ns(self) -> dns.rrset.RRset:
        """The NS record of the domain."""
        data = NS(IN, dns.rdatatype.NS, name_of(self.style.mname))
        return dns.rrset.from_rdata(self._domain, self.style.ttl, data)

    def record(self, owner: dns.name.Name, kind: str, value: str) -> dns.rrset.RRset:
        """One record of the zone."""
        return dns.rrset.from_rdata(owner, self.style.ttl, self._data(kind, value))

    def _data(self, kind: str, value: str) -> Rdata:
        if kind == A:
            return dns.rdtypes.IN.A.A(IN, dns.rdatatype.A, value)
        if kind == AAAA:
            return dns.rdtypes.IN.AAAA.AAAA(IN, dns.rdatatype.AAAA, value)
        target, _, port = value.rpartition(":")
        name = name_of(target)
        return dns.rdtypes.IN.SRV.SRV(IN, dns.rdatatype.SRV, 0, self.style.weight, int(port), name)


class Maker:
    """Renders the replies to one question, in as many orders as there is a use for."""

    def __init__(self, writer: Writer, zone: Zone, ask: Ask, rng: random.Random) -> None:
        self._made_by = writer
        self._ask = ask
        self._rng = rng
        self._zone = zone
        kinds = [kind for kind, number in TYPES.items() if number == ask.type]
        if ask.type == dns.rdatatype.ANY:
            kinds = [SRV, A, AAAA]
        self._values = [(kind, value) for kind in kinds for value in zone.values(ask.key, kind)]

    def orders(self) -> int:
        """How many different replies are worth keeping."""
        return max(1, min(len(self._values), _MAX_ORDERS))

    def __call__(self, turn: int) -> tuple[bytes, bytes]:
        """The reply in order `turn`: each record comes first equally often."""
        most = self._ask.room // _MIN_RECORD_BYTES + 1
        values = self._values
        if len(values) <= _MAX_ORDERS:
            values = values[turn:] + values[:turn]
        else:
            values = self._rng.sample(values, min(most, len(values)))
        answer, authority, rcode = self._sections(values)
        is_cut = len(values) < len(self._values)
        extra = [] if is_cut else self._extra(values)
        wire = None if is_cut else self._render(answer, authority, extra, rcode)
        if wire is None:
            wire = self._render_cut(answer, authority, rcode)
        start = HEADER_BYTES + len(self._ask.name.to_wire() or b"") + 4
        return wire[2:HEADER_BYTES], wire[start:]

    def _sections(
        self, values: Sequence[tuple[str, str]]
    ) -> tuple[list[dns.rrset.RRset], list[dns.rrset.RRset], int]:
        """Answer, authority and rcode. Source: spec §1.9; the owner of SOA and NS is the domain."""
        ask, made_by = self._ask, self._made_by
        owner = ask.name if ask.type == dns.rdatatype.SRV else name_of(ask.key)
        answer = [made_by.record(owner, kind, value) for kind, value in values]
        is_apex = ask.key == made_by.style.domain
        soa_or_ns = {dns.rdatatype.SOA: made_by.soa, dns.rdatatype.NS: made_by.ns}
        if ask.type in soa_or_ns:
            record = soa_or_ns[dns.rdatatype.RdataType(ask.type)]()
            # A secondary wants to find them in the answer; elsewhere they only say who to ask.
            return ([record], [], 0) if is_apex else ([], [record], 0)
        exists = ask.key in self._zone
        if ask.type == dns.rdatatype.ANY:
            if is_apex:
                return [made_by.soa(), made_by.ns(), *answer], [], 0
            return answer, [made_by.soa(), made_by.ns()], 0 if exists else dns.rcode.NXDOMAIN
        if answer:
            return answer, [], 0
        if ask.type == dns.rdatatype.SRV:
            return [], [], 0
        return [], [made_by.soa()], 0 if exists or is_apex else dns.rcode.NXDOMAIN

    def _extra(self, values: Sequence[tuple[str, str]]) -> list[dns.rrset.RRset]:
        """One A and one AAAA of each target of SRV records."""
        found = []
        targets = [value.rpartition(":")[0] for kind, value in values if kind == SRV]
        for target in dict.fromkeys(targets):
            for kind in (A, AAAA):
                ips = self._zone.values(target, kind)
                if ips:
                    found.append(self._made_by.record(name_of(target), kind, self._rng.choice(ips)))
        return found

    def _writer(self, rcode: int, flags: int = 0) -> dns.renderer.Renderer:
        ask = self._ask
        size = ask.room - (0 if ask.edns is None else _OPT_BYTES)
        writer = dns.renderer.Renderer(0, ask.flags | flags | rcode, size)
        writer.add_question(ask.name, dns.rdatatype.RdataType.make(ask.type))
        return writer

    def _finish(self, writer: dns.renderer.Renderer) -> bytes:
        if self._ask.edns is not None:
            writer.max_size += _OPT_BYTES
            writer.add_edns(0, self._ask.edns, EDNS_BYTES)
        writer.write_header()
        return bytes(writer.get_wire())

    def _render(
        self,
        answer: Sequence[dns.rrset.RRset],
        authority: Sequence[dns.rrset.RRset],
        extra: Sequence[dns.rrset.RRset],
        rcode: int,
    ) -> bytes | None:
        """The whole message; None if there is no room for it."""
        writer = self._writer(rcode)
        try:
            for section, records in (
                (dns.renderer.ANSWER, answer),
                (dns.renderer.AUTHORITY, authority),
                (dns.renderer.ADDITIONAL, extra),
            ):
                for record in records:
                    writer.add_rrset(section, record)
        except dns.exception.TooBig:
            return None
        return self._finish(writer)

    def _render_cut(
        self,
        answer: Sequence[dns.rrset.RRset],
        authority: Sequence[dns.rrset.RRset],
        rcode: int,
    ) -> bytes:
        """Without additional records, and with as many answers as there is room for."""
        flag = dns.flags.TC if self._made_by.style.set_truncate_bit else 0
        writer = self._writer(rcode, int(flag))
        kept_free = sum(_MIN_RECORD_BYTES + 128 for _ in authority)
        writer.max_size -= kept_free
        for record in answer:
            try:
                writer.add_rrset(dns.renderer.ANSWER, record)
            except dns.exception.TooBig:
                break
        writer.max_size += kept_free
        for record in authority:
            writer.add_rrset(dns.renderer.AUTHORITY, record)
        return self._finish(writer)


# -- names and headers -----------------------------------------------------------------------------


def name_of(text: str) -> dns.name.Name:
    """`text`, whose labels hold no dots, as an absolute name."""
    return dns.name.Name([*(part.encode("latin-1") for part in text.split(".")), b""])


def text_of(name: dns.name.Name) -> str | None:
    """A name as text in lower case, without its last dot; None if that would not be exact."""
    labels = name.labels[:-1]
    if any(b"." in label for label in labels):
        return None
    return b".".join(labels).decode("latin-1").lower() if name.is_absolute() else None


def header_only(query: bytes, rcode: int) -> bytes:
    """Twelve bytes: never more than was sent, so nobody can have us flood a third."""
    flags = (query[2] & 0x79) | 0x80
    return query[:2] + bytes((flags, int(rcode))) + bytes(8)


def header_and_question(query: bytes, name: dns.name.Name, flags: int, rcode: int) -> bytes:
    size = len(name.to_wire() or b"") + 4
    word = int(flags) | int(rcode)
    return query[:2] + word.to_bytes(2, "big") + b"\0\1" + bytes(6) + query[12 : 12 + size]
