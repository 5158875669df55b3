"""Questions to answers: dnspython reads and writes messages, and what it wrote is kept.

::

    query ─▶ hot: the bytes after the id, name in lower case ─▶ kept reply, with id and question
      └─ not kept ─▶ respond: parse, decide ─┬─▶ reply, rendered and kept
                                             ├─▶ Elsewhere: a resolver has to answer
                                             ├─▶ Transfer: the whole zone, over TCP
                                             └─▶ None: say nothing

A reply depends on flags, name, type, room and EDNS only, so it is the same for everybody until the
zone changes. What holds the serial number is forgotten at each change, the rest only with its name.
Rules of the answers: spec/dns-lb-autoscale.md §1.9 and §1.10; docs/mesos-dns.md lists differences.
"""

from __future__ import annotations

import random
import struct
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.renderer
import dns.rrset
import msgspec
from dns.rdataclass import IN

from mesostk.dns.replies import (
    EDNS_BYTES,
    HEADER_BYTES,
    PLAIN_BYTES,
    TCP_BYTES,
    TYPES,
    Ask,
    Kept,
    Maker,
    Style,
    Writer,
    header_and_question,
    header_only,
    name_of,
    text_of,
)
from mesostk.dns.zone import Zone

#: Kept replies beyond which all are forgotten: some 40 MB, whatever is asked for.
MAX_KEPT: Final = 100_000


class Elsewhere(msgspec.Struct, frozen=True, gc=False):
    """The question is not ours: ask the resolvers of `zone`, or the general ones if that is ``."""

    zone: str


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """The whole zone was asked for, over TCP."""

    question: dns.name.Name


class Answers:
    """Answers for one zone. `settle` has to be called after the zone changed."""

    def __init__(self, zone: Zone, style: Style, rng: random.Random) -> None:
        self._zone = zone
        self.style = style
        self._rng = rng
        #: Makes single records, for whoever writes messages of its own.
        self.writer = Writer(style)
        #: Whether the zone holds what a master told; before, and when it is too old, SERVFAIL.
        self.is_usable = False
        self._suffix = "." + style.domain
        self._hot: dict[bytes, Kept] = {}
        self._passing: dict[bytes, Kept] = {}
        self._kept: dict[Ask, Kept] = {}
        self._keys: dict[str, list[bytes | Ask]] = {}
        self._fleeting: set[Ask] = set()

    @property
    def serial(self) -> int:
        """Serial number of what is answered."""
        return self.writer.serial

    # -- the two ways ----------------------------------------------------------------------------

    def hot(self, query: bytes) -> bytes | None:
        """The kept reply to a UDP query, or None: then `respond` has to be asked."""
        end = query.find(b"\0", HEADER_BYTES)
        # A label may hold a NUL; such a key was never kept, since keys are made of whole names.
        key = query[2:12] + query[12:end].lower() + query[end:]
        kept = self._hot.get(key)
        if kept is None:
            kept = self._passing.get(key)
            if kept is None:
                return None
        if len(kept.replies) == 1:
            head, tail = kept.replies[0]  # type: ignore[misc]  # the first is always made
        else:
            head, tail = kept.next()
        return query[:2] + head + query[12 : end + 5] + tail

    def respond(self, query: bytes, *, tcp: bool = False) -> bytes | Elsewhere | Transfer | None:
        """What to do about any bytes that somebody sent."""
        if len(query) < HEADER_BYTES or query[2] & 0x80:
            return None
        opcode = query[2] >> 3 & 15
        if opcode != dns.opcode.QUERY:
            return header_only(query, dns.rcode.NOTIMP)
        try:
            message = dns.message.from_wire(query)
        except (dns.exception.DNSException, ValueError, struct.error):
            return header_only(query, dns.rcode.FORMERR)
        if len(message.question) != 1 or query[4:6] != b"\0\1":
            return header_only(query, dns.rcode.FORMERR)
        question = message.question[0]
        text = text_of(question.name)
        if text is None or not self._is_ours(text):
            zone = self._zone_of(text)
            if self.style.external_on:
                return Elsewhere(zone)
            return self._refused(query, question.name)
        if question.rdclass not in (IN, dns.rdataclass.ANY):
            return self._refused(query, question.name)
        if tcp and question.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
            return Transfer(question.name)
        return self._ours(query, message, text, tcp=tcp)

    def _ours(self, query: bytes, message: dns.message.Message, text: str, *, tcp: bool) -> bytes:
        question = message.question[0]
        flags = dns.flags.QR | dns.flags.AA | (message.flags & (dns.flags.RD | dns.flags.CD))
        if self.style.recurse_on:
            flags |= dns.flags.RA
        if message.edns > 0:
            return self._bad_version(query, question)
        if not self.is_usable:
            return header_and_question(query, question.name, flags, dns.rcode.SERVFAIL)
        room, edns = PLAIN_BYTES, None
        if message.edns == 0:
            room = max(PLAIN_BYTES, min(message.payload, EDNS_BYTES))
            edns = int(message.ednsflags & dns.flags.DO)
        ask = Ask(
            question.name, without_stars(text), int(question.rdtype), int(flags),
            TCP_BYTES if tcp else room, edns,
        )  # fmt: skip
        lowered = msgspec.structs.replace(ask, name=name_of(text))
        kept = self._kept.get(lowered)
        if kept is None:
            maker = Maker(self.writer, self._zone, lowered, self._rng)
            kept = Kept(maker.orders(), maker)
            self._keep(lowered, kept, None if tcp else _hot_key(query, message))
        head, tail = kept.next()
        size = len(question.name.to_wire() or b"") + 4
        return query[:2] + head + query[12 : 12 + size] + tail

    def _keep(self, ask: Ask, kept: Kept, key: bytes | None) -> None:
        """Under `key`, the query's bytes, for the hot way; else under what the reply depends on."""
        if len(self._kept) + len(self._hot) + len(self._passing) >= MAX_KEPT:
            self.forget()
        is_steady = self._is_steady(ask)
        if key is None:
            self._kept[ask] = kept
            if is_steady:
                self._keys.setdefault(ask.key, []).append(ask)
            else:
                self._fleeting.add(ask)
        elif is_steady:
            self._hot[key] = kept
            self._keys.setdefault(ask.key, []).append(key)
        else:
            self._passing[key] = kept

    def _is_steady(self, ask: Ask) -> bool:
        """Whether the reply holds no serial number."""
        kind = next((name for name, number in TYPES.items() if number == ask.type), None)
        return kind is not None and bool(self._zone.values(ask.key, kind))

    # -- what is kept ----------------------------------------------------------------------------

    def settle(self, serial: int) -> None:
        """Take over what changed in the zone, under its new serial number."""
        changed = self._zone.changed
        self.writer.serial = serial
        self._passing.clear()
        few, many = sorted((changed, self._keys.keys()), key=len)
        for name in [name for name in few if name in many]:
            self._forget_name(name)
        for ask in self._fleeting:
            self._kept.pop(ask, None)
        self._fleeting.clear()
        changed.clear()

    def _forget_name(self, name: str) -> None:
        for key in self._keys.pop(name, ()):
            if isinstance(key, bytes):
                self._hot.pop(key, None)
            else:
                self._kept.pop(key, None)

    def forget(self) -> None:
        """Forget every kept reply."""
        self._hot.clear()
        self._passing.clear()
        self._kept.clear()
        self._keys.clear()
        self._fleeting.clear()

    # -- deciding --------------------------------------------------------------------------------

    def _is_ours(self, text: str) -> bool:
        domain = self.style.domain
        return text == domain or text.endswith(self._suffix)

    def _zone_of(self, text: str | None) -> str:
        """The zone with resolvers of its own that `text` is in; `` if none."""
        if text is None:
            return ""
        found = [zone for zone in self.style.zones if text == zone or text.endswith("." + zone)]
        return max(found, key=len, default="")

    def _refused(self, query: bytes, name: dns.name.Name) -> bytes:
        flags = dns.flags.QR | (int.from_bytes(query[2:4], "big") & dns.flags.RD)
        return header_and_question(query, name, flags, dns.rcode.REFUSED)

    def refuse_transfer(
        self, query: bytes, transfer: Transfer, *, is_allowed: bool
    ) -> bytes | None:
        """Why there is no transfer, as a reply; None if there is one."""
        flags = dns.flags.QR
        if text_of(transfer.question) != self.style.domain:
            rcode = dns.rcode.NOTAUTH
        elif not is_allowed:
            rcode = dns.rcode.REFUSED
        elif not self.is_usable:
            rcode = dns.rcode.SERVFAIL
        else:
            return None
        return header_and_question(query, transfer.question, int(flags), rcode)

    def _bad_version(self, query: bytes, question: dns.rrset.RRset) -> bytes:
        flags = dns.flags.QR | (int.from_bytes(query[2:4], "big") & dns.flags.RD)
        writer = dns.renderer.Renderer(int.from_bytes(query[:2], "big"), int(flags), PLAIN_BYTES)
        writer.add_question(question.name, question.rdtype, question.rdclass)
        writer.add_edns(0, dns.rcode.to_flags(dns.rcode.BADVERS)[1], EDNS_BYTES)
        writer.write_header()
        return bytes(writer.get_wire())


def _hot_key(query: bytes, message: dns.message.Message) -> bytes | None:
    """What `Answers.hot` finds the reply by; None if it cannot.

    A cookie or the like makes each query another one, and a NUL in a label hides where it ends.
    """
    if message.options or message.answer or message.authority or message.additional:
        return None
    end = query.find(b"\0", HEADER_BYTES)
    if any(b"\0" in part for part in message.question[0].name.labels[:-1]):
        return None
    return query[2:12] + query[12:end].lower() + query[end:]


def without_stars(text: str) -> str:
    """`nginx.*.marathon.mesos` is looked up as `nginx.marathon.mesos`. Source: spec §1.9."""
    first, *others = text.split(".")
    return ".".join([first, *(part for part in others if part != "*")])


def servfail(query: bytes, *, recursion: bool) -> bytes:
    """The reply when no resolver answered a query that `respond` passed on."""
    flags = dns.flags.QR | (int.from_bytes(query[2:4], "big") & dns.flags.RD)
    if recursion:
        flags |= dns.flags.RA
    name = dns.message.from_wire(query, question_only=True).question[0].name
    return header_and_question(query, name, int(flags), dns.rcode.SERVFAIL)
