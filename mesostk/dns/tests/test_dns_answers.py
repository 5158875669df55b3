"""Answers: the table of spec/dns-lb-autoscale.md §1.9, room and truncation, what is kept, fuzz."""

from __future__ import annotations

import random

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.dns import facts
from mesostk.dns.answers import Answers, Elsewhere, Transfer
from mesostk.dns.facts import Agent, Framework, Port, Task
from mesostk.dns.limits import Limiter
from mesostk.dns.records import Rules
from mesostk.dns.replies import Style
from mesostk.dns.zone import Zone


def task(number: int, name: str = "web", ip: str = "") -> Task:
    return Task(
        id=f"{name}.{number}",
        name=name,
        framework_id="F",
        agent_id="x-S0",
        is_running=True,
        ports=(31000 + number,),
        discovery_name=name,
        discovery_ports=(Port(31000 + number, "http", "tcp"),),
        netinfo=(ip or f"172.17.{number // 250}.{number % 250 + 1}",),
    )


def made(*tasks: Task, **style: object) -> Answers:
    zone = Zone(Rules(own_ips=("10.0.3.60",)))
    zone.apply(
        facts.Snapshot(
            (Agent("x-S0", "10.0.3.51", 5051),), (Framework("F", "marathon", "10.0.3.11"),), tasks
        )
    )
    answers = Answers(zone, Style(**style), random.Random(7))  # type: ignore[arg-type]
    answers.settle(1000)
    answers.is_usable = True
    return answers


def wire(name: str, kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]


def asked(answers: Answers, name: str, kind: str = "A", **options: object) -> dns.message.Message:
    """The reply, once made and once as it was kept; both must be the same but for the order."""
    query = wire(name, kind, **options)
    first = answers.respond(query)
    assert isinstance(first, bytes)
    reply = dns.message.from_wire(first)
    kept = answers.hot(query)
    if kept is not None:
        again = dns.message.from_wire(kept)
        assert again.question == reply.question
        assert again.flags == reply.flags
        assert len(again.answer) == len(reply.answer)
    assert reply.question == dns.message.from_wire(query).question
    return reply


def texts(section: list[dns.rrset.RRset]) -> list[str]:
    return sorted(f"{rrset.name} {rrset.ttl} {data}" for rrset in section for data in rrset)


SOA = "mesos. 60 ns1.mesos. root.ns1.mesos. 1000 60 600 86400 60"


def test_an_address_is_answered_with_authority() -> None:
    reply = asked(made(task(1)), "web.marathon.mesos")
    assert texts(reply.answer) == ["web.marathon.mesos. 60 172.17.0.2"]
    assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA
    assert not reply.authority


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "authority"),
    [
        ("nope.marathon.mesos", "A", dns.rcode.NXDOMAIN, [SOA]),
        ("web.marathon.mesos", "AAAA", dns.rcode.NOERROR, [SOA]),
        ("web.marathon.mesos", "TXT", dns.rcode.NOERROR, [SOA]),
        ("nope.marathon.mesos", "TXT", dns.rcode.NXDOMAIN, [SOA]),
        ("_web._tcp.marathon.mesos", "A", dns.rcode.NOERROR, [SOA]),
        ("_nope._tcp.marathon.mesos", "SRV", dns.rcode.NOERROR, []),
        ("prod.shop.marathon.mesos", "A", dns.rcode.NXDOMAIN, [SOA]),
        ("nope.mesos", "SOA", dns.rcode.NOERROR, [SOA]),
        ("web.marathon.mesos", "NS", dns.rcode.NOERROR, ["mesos. 60 ns1.mesos."]),
        ("nope.mesos", "ANY", dns.rcode.NXDOMAIN, ["mesos. 60 ns1.mesos.", SOA]),
        ("mesos", "A", dns.rcode.NOERROR, [SOA]),
        ("*.web.marathon.mesos", "A", dns.rcode.NXDOMAIN, [SOA]),
    ],
)
def test_what_is_not_there(name: str, kind: str, rcode: int, authority: list[str]) -> None:
    reply = asked(made(task(1)), name, kind)
    assert reply.rcode() == rcode
    assert reply.answer == []
    assert texts(reply.authority) == authority


def test_a_service_comes_with_the_addresses_of_its_targets() -> None:
    reply = asked(made(task(1), task(2)), "_http._web._tcp.marathon.mesos", "SRV")
    assert sorted(line.split()[2:5] for line in texts(reply.answer)) == [
        ["0", "1", "31001"],
        ["0", "1", "31002"],
    ]
    targets = {str(data.target) for rrset in reply.answer for data in rrset}
    assert {str(rrset.name) for rrset in reply.additional} == targets


def test_the_apex_has_soa_and_ns_in_the_answer() -> None:
    answers = made()
    assert texts(asked(answers, "mesos", "SOA").answer) == [SOA]
    assert texts(asked(answers, "mesos", "NS").answer) == ["mesos. 60 ns1.mesos."]
    assert texts(asked(answers, "ns1.mesos").answer) == ["ns1.mesos. 60 10.0.3.60"]


def test_any_tells_everything_of_a_name() -> None:
    reply = asked(made(task(1)), "web.marathon.mesos", "ANY")
    assert texts(reply.answer) == ["web.marathon.mesos. 60 172.17.0.2"]
    assert texts(reply.authority) == ["mesos. 60 ns1.mesos.", SOA]


def test_case_and_stars_are_ignored_and_echoed() -> None:
    answers = made(task(1))
    assert texts(asked(answers, "WeB.Marathon.MESOS").answer)
    reply = asked(answers, "web.*.marathon.mesos")
    assert texts(reply.answer) == ["web.marathon.mesos. 60 172.17.0.2"]


def test_each_of_two_addresses_is_first_half_of_the_time() -> None:
    answers = made(task(1), task(2))
    query = wire("web.marathon.mesos")
    answers.respond(query)
    firsts = []
    for _ in range(10):
        kept = answers.hot(query)
        assert kept is not None
        firsts.append(str(dns.message.from_wire(kept).answer[0][0]))
    assert sorted(firsts.count(ip) for ip in set(firsts)) == [5, 5]


def test_flags_follow_query_and_configuration() -> None:
    answers = made(task(1), recurse_on=False)
    reply = asked(answers, "web.marathon.mesos", flags=0)
    assert reply.flags == dns.flags.QR | dns.flags.AA


# -- room ------------------------------------------------------------------------------------------


def test_without_edns_an_answer_is_cut_at_512_bytes() -> None:
    answers = made(*(task(number) for number in range(60)))
    query = wire("web.marathon.mesos")
    first = answers.respond(query)
    assert isinstance(first, bytes)
    assert 490 <= len(first) <= 512
    reply = dns.message.from_wire(first)
    assert reply.flags & dns.flags.TC
    # The original returns 29 of 60.
    assert sum(len(rrset) for rrset in reply.answer) == 29


def test_edns_gives_more_room_but_never_fragments() -> None:
    answers = made(*(task(number) for number in range(100)))
    for payload, most in ((800, 800), (4096, 1232)):
        query = wire("web.marathon.mesos", use_edns=0, payload=payload)
        reply = answers.respond(query)
        assert isinstance(reply, bytes)
        assert most - 30 < len(reply) <= most
        assert dns.message.from_wire(reply).payload == 1232
    small = made(*(task(number) for number in range(60)))
    whole = asked(small, "web.marathon.mesos", use_edns=0, payload=1232)
    assert not whole.flags & dns.flags.TC
    assert sum(len(rrset) for rrset in whole.answer) == 60


def test_additional_records_are_left_out_before_answers() -> None:
    answers = made(*(task(number) for number in range(9)))
    reply = asked(answers, "_web._tcp.marathon.mesos", "SRV")
    assert reply.flags & dns.flags.TC
    assert sum(len(rrset) for rrset in reply.answer) == 9
    assert reply.additional == []


def test_the_truncation_bit_can_be_turned_off() -> None:
    answers = made(*(task(number) for number in range(60)), set_truncate_bit=False)
    assert not asked(answers, "web.marathon.mesos").flags & dns.flags.TC


def test_by_tcp_everything_comes_and_a_flood_of_records_still_fits() -> None:
    answers = made(*(task(number) for number in range(60)))
    reply = answers.respond(wire("_web._tcp.marathon.mesos", "SRV"), tcp=True)
    assert isinstance(reply, bytes)
    message = dns.message.from_wire(reply)
    assert sum(len(rrset) for rrset in message.answer) == 60
    assert len(message.additional) == 60
    flood = made(*(task(number, ip=f"10.{number >> 8}.{number & 255}.1") for number in range(5000)))
    reply = flood.respond(wire("web.marathon.mesos"), tcp=True)
    assert isinstance(reply, bytes)
    assert len(reply) <= 65535
    assert dns.message.from_wire(reply).flags & dns.flags.TC


def test_do_is_echoed_and_a_later_edns_is_refused() -> None:
    answers = made(task(1))
    reply = asked(answers, "web.marathon.mesos", want_dnssec=True)
    assert reply.edns == 0
    assert reply.ednsflags & dns.flags.DO
    query = dns.message.make_query("web.marathon.mesos", "A", use_edns=1).to_wire()
    bad = answers.respond(query)
    assert isinstance(bad, bytes)
    assert dns.message.from_wire(bad).rcode() == dns.rcode.BADVERS


def test_a_cookie_does_not_fill_the_memory() -> None:
    answers = made(task(1))
    for number in range(50):
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, number.to_bytes(8, "big"))
        assert texts(asked(answers, "web.marathon.mesos", use_edns=0, options=[option]).answer)
    assert len(answers._hot) == 0
    assert len(answers._kept) == 1


# -- what is kept ----------------------------------------------------------------------------------


def test_a_change_is_answered_at_once_and_other_names_stay_kept() -> None:
    answers = made(task(1), task(2, "other"))
    web, other = wire("web.marathon.mesos"), wire("other.marathon.mesos")
    missing = wire("new.marathon.mesos")
    for query in (web, other, missing):
        answers.respond(query)
    zone = answers._zone
    zone.apply(facts.TaskPut(task(3)))
    zone.apply(facts.TaskPut(task(4, "new")))
    answers.settle(1001)
    assert answers.hot(web) is None
    assert answers.hot(other) is not None
    assert answers.hot(missing) is None
    assert len(texts(asked(answers, "web.marathon.mesos").answer)) == 2
    assert texts(asked(answers, "new.marathon.mesos").answer)
    assert "1001" in texts(asked(answers, "mesos", "SOA").answer)[0]


def test_addresses_in_additional_sections_change_too() -> None:
    answers = made(task(1))
    query = wire("_web._tcp.marathon.mesos", "SRV")
    answers.respond(query)
    answers._zone.apply(facts.TaskPut(task(1, ip="172.17.9.9")))
    answers.settle(1001)
    assert "172.17.9.9" in texts(asked(answers, "_web._tcp.marathon.mesos", "SRV").additional)[0]


NAMES = st.sampled_from(["web", "other", "new"])
STEPS = st.one_of(
    st.builds(lambda n, i: facts.TaskPut(task(i, n)), NAMES, st.integers(1, 3)),
    st.builds(lambda n, i: facts.TaskGone("F", f"{n}.{i}"), NAMES, st.integers(1, 3)),
)


@given(st.lists(st.tuples(STEPS, NAMES, st.sampled_from(["A", "SRV", "ANY", "SOA"])), max_size=20))
@settings(max_examples=60)
def test_what_is_kept_is_what_would_be_made_anew(
    steps: list[tuple[facts.Change, str, str]],
) -> None:
    answers = made(task(1))
    for serial, (change, name, kind) in enumerate(steps, 1001):
        answers._zone.apply(change)
        answers.settle(serial)
        for full in (f"{name}.marathon.mesos", f"_{name}._tcp.marathon.mesos"):
            query = wire(full, kind)
            kept = answers.hot(query) or answers.respond(query)
            fresh = Answers(answers._zone, answers.style, random.Random(1))
            fresh.writer.serial = answers.serial
            fresh.is_usable = True
            anew = fresh.respond(query)
            assert isinstance(kept, bytes)
            assert isinstance(anew, bytes)
            one, other = dns.message.from_wire(kept), dns.message.from_wire(anew)
            assert one.rcode() == other.rcode()
            for section in ("answer", "authority", "additional"):
                assert texts(getattr(one, section)) == texts(getattr(other, section))


# -- what is not ours ------------------------------------------------------------------------------


def test_other_names_are_for_resolvers_by_the_longest_zone() -> None:
    answers = made(zones=("weave", "b.weave"))
    assert answers.respond(wire("a.WEAVE")) == Elsewhere("weave")
    assert answers.respond(wire("x.b.weave")) == Elsewhere("b.weave")
    assert answers.respond(wire("xweave")) == Elsewhere("")
    assert answers.respond(wire("notmesos")) == Elsewhere("")


def test_without_externalon_other_names_are_refused() -> None:
    answers = made(external_on=False)
    reply = answers.respond(wire("example.com"))
    assert isinstance(reply, bytes)
    message = dns.message.from_wire(reply)
    assert message.rcode() == dns.rcode.REFUSED
    assert message.flags & 0xFFF0 == dns.flags.QR | dns.flags.RD


def test_before_anything_is_known_a_client_is_sent_on() -> None:
    answers = made()
    answers.is_usable = False
    reply = answers.respond(wire("web.marathon.mesos"))
    assert isinstance(reply, bytes)
    assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL


def test_transfers_are_by_tcp_only_and_for_some() -> None:
    answers = made()
    query = wire("mesos", "AXFR")
    transfer = answers.respond(query, tcp=True)
    assert isinstance(transfer, Transfer)
    assert answers.refuse_transfer(query, transfer, is_allowed=True) is None
    refused = answers.refuse_transfer(query, transfer, is_allowed=False)
    assert refused is not None
    assert refused[3] & 15 == dns.rcode.REFUSED
    assert isinstance(answers.respond(query), bytes)


# -- anything at all -------------------------------------------------------------------------------


def test_what_is_no_query_is_formerr_notimp_or_silence() -> None:
    answers = made(task(1))
    query = wire("web.marathon.mesos")
    assert answers.respond(b"") is None
    assert answers.respond(query[:11]) is None
    assert answers.respond(query[:2] + b"\x80" + query[3:]) is None
    for broken in (query[:-1], query + b"x", query[:4] + b"\0\0" + query[6:], query[:12]):
        reply = answers.respond(broken)
        assert isinstance(reply, bytes)
        assert (len(reply), reply[3] & 15) == (12, dns.rcode.FORMERR)
    update = query[:2] + bytes((5 << 3,)) + query[3:]
    reply = answers.respond(update)
    assert isinstance(reply, bytes)
    assert (len(reply), reply[3] & 15) == (12, dns.rcode.NOTIMP)


def test_twenty_thousand_broken_packets_bring_no_flood_and_no_crash() -> None:
    answers = made(task(1), task(2), external_on=False)
    rng = random.Random(2026)
    seeds = [
        wire("web.marathon.mesos"),
        wire("_web._tcp.marathon.mesos", "SRV", use_edns=0, payload=4096),
        wire("mesos", "SOA", want_dnssec=True),
        wire("x" * 60 + ".marathon.mesos", "ANY"),
    ]
    counts = {"silent": 0, "formerr": 0, "other": 0}
    for _ in range(20_000):
        packet = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            packet[rng.randrange(len(packet))] = rng.randrange(256)
        cut = bytes(packet[: rng.randint(0, len(packet))] if rng.random() < 0.3 else packet)
        reply = answers.hot(cut) or answers.respond(cut)
        if reply is None:
            counts["silent"] += 1
            continue
        assert isinstance(reply, bytes)
        assert reply[:2] == cut[:2]
        if reply[3] & 15 in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            counts["formerr"] += 1
            assert len(reply) <= len(cut)
        else:
            counts["other"] += 1
            assert len(reply) <= 1232
    assert min(counts.values()) > 1000, counts


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_are_answered_with_as_few_or_not(data: bytes) -> None:
    answers = made(task(1), external_on=False)
    reply = answers.respond(data)
    assert reply is None or (isinstance(reply, bytes) and len(reply) <= max(len(data), 12))


# -- rate ------------------------------------------------------------------------------------------


def test_equal_answers_to_one_network_are_limited() -> None:
    answers = made(task(1))
    reply = answers.respond(wire("web.marathon.mesos"))
    assert isinstance(reply, bytes)
    limiter = Limiter(5)
    sent = [limiter.filter(10.0, f"10.9.8.{number}", reply) for number in range(11)]
    assert sent[:5] == [reply] * 5
    slipped = [one for one in sent[5:] if one is not None]
    assert len(slipped) == 3
    assert all(dns.message.from_wire(one).flags & dns.flags.TC for one in slipped)
    assert limiter.dropped == 6
    assert limiter.filter(10.0, "10.9.9.1", reply) == reply
    assert limiter.filter(11.0, "10.9.8.1", reply) == reply


def test_made_up_names_share_one_limit() -> None:
    answers = made()
    limiter = Limiter(2)
    sent = []
    for number in range(6):
        reply = answers.respond(wire(f"x{number}.mesos"))
        assert isinstance(reply, bytes)
        sent.append(limiter.filter(10.0, "2001:db8::1", reply))
    assert sum(one is not None and len(one) > 40 for one in sent) == 2
