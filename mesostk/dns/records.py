"""The rules: which records an agent, a framework, a task and the masters have.

Pure functions of facts. Source: spec/dns-lb-autoscale.md §1.5 to §1.8; where the original makes a
name that nobody can ask for, or one that breaks an answer, it is made usable or left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from mesostk.base.units import whole_number
from mesostk.dns.facts import Agent, Framework, Masters, Port, Task
from mesostk.dns.labels import (
    MAX_NAME,
    canonical,
    domain_part,
    is_name,
    label,
    underscored,
)

A: Final = "A"
AAAA: Final = "AAAA"
SRV: Final = "SRV"

BOTH: Final = ("tcp", "udp")

#: What records add at most to the names of task, framework and domain: a port's name, a protocol,
#: the hash and tail of a task's own name, `slave`, and dots.
_MOST_ADDED: Final = 64 + 64 + 63 + 10


class Record(NamedTuple):
    """`value` is an address, or `target:port` for SRV. Names are without their last dot."""

    name: str
    type: str
    value: str


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration decides about records."""

    domain: str = "mesos"
    ip_sources: tuple[str, ...] = ("netinfo", "mesos", "host")
    rfc952: bool = False
    #: Name of the server itself, and the addresses it answers at.
    mname: str = "ns1.mesos"
    own_ips: tuple[str, ...] = ()


@lru_cache(maxsize=65536)
def address_type(ip: str) -> str | None:
    """`A`, `AAAA`, or None if `ip` is no address."""
    try:
        return A if ipaddress.ip_address(ip).version == 4 else AAAA
    except ValueError:
        return None


def _addresses(name: str, ips: Iterable[str]) -> Iterator[Record]:
    for ip in ips:
        kind = address_type(ip)
        if kind is not None:
            yield Record(name, kind, ip)


def _usable(records: Iterable[Record]) -> list[Record]:
    """Without doubles and without names that no question can hold."""
    return [
        record
        for record in dict.fromkeys(records)
        if is_name(record.name) and (record.type != SRV or is_name(record.value.rpartition(":")[0]))
    ]


# -- infrastructure -------------------------------------------------------------------------------


def agent_records(agent: Agent, ips: tuple[str, ...], rules: Rules) -> list[Record]:
    """`slave.D`, and one SRV per distinct port of agents."""
    name = f"slave.{rules.domain}"
    found = [*_addresses(name, ips)]
    if found:
        found.append(Record(f"_slave._tcp.{rules.domain}", SRV, f"{name}:{agent.port}"))
    return _usable(found)


def framework_records(framework: Framework, ips: tuple[str, ...], rules: Rules) -> list[Record]:
    """`F.D`, and where its scheduler listens."""
    part = domain_part(framework.name, rules.rfc952)
    if not part:
        return []
    name = f"{part}.{rules.domain}"
    found = [*_addresses(name, ips)]
    if found and framework.port is not None:
        found.append(Record(f"_framework._tcp.{name}", SRV, f"{name}:{framework.port}"))
    return _usable(found)


def master_records(masters: Masters, rules: Rules) -> list[Record]:
    """`leader`, `master`, `masterN` and the SRV of the leader; members with names are left out.

    Source: §1.8: N counts the members in order, without doubles; a leader that is none is last.
    """
    domain = rules.domain
    found: list[Record] = []
    leader = None if masters.leader is None else _split(masters.leader)
    if leader is not None:
        name = f"leader.{domain}"
        found += _addresses(name, [leader[0]])
        found += [Record(f"_leader._{p}.{domain}", SRV, f"{name}:{leader[1]}") for p in BOTH]
        found += _addresses(f"master.{domain}", [leader[0]])
    members = [pair[0] for member in masters.members if (pair := _split(member)) is not None]
    if leader is not None:
        members.append(leader[0])
    for number, ip in enumerate(dict.fromkeys(members)):
        found += _addresses(f"master.{domain}", [ip])
        found += _addresses(f"master{number}.{domain}", [ip])
    found += _addresses(rules.mname, rules.own_ips)
    return _usable(found)


def _split(address: str) -> tuple[str, int] | None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    number = whole_number(port)
    if number is None or number > 65_535 or address_type(host) is None:
        return None
    return host, number


# -- tasks ----------------------------------------------------------------------------------------


def task_ips(task: Task, agent_ips: tuple[str, ...], rules: Rules) -> tuple[str, ...]:
    """Addresses of the first source that has any."""
    sources = {
        "host": agent_ips,
        "netinfo": task.netinfo,
        "docker": task.docker,
        "mesos": task.mesos,
    }
    return next((ips for name in rules.ip_sources if (ips := sources[name])), ())


def task_records(
    task: Task, framework: str, agent_ips: tuple[str, ...], rules: Rules
) -> list[Record]:
    """All records of a running task; `framework` is its part of a name."""
    if not task.is_running or not framework:
        return []
    said = task.discovery_name or task.name
    clean = label(said, rules.rfc952)
    names = [clean]
    if task.discovery_name:
        # Asked for as it was given, too; in lower case, or no question could match it.
        names.insert(0, said.lower())
    ips = task_ips(task, agent_ips, rules)
    found: list[Record] = []
    for name in dict.fromkeys(names):
        if not name or is_name(name):
            found += _named(task, name, framework, ips, agent_ips, rules)
    # All parts are labels, so only the whole can be too long, and that only if these are.
    if len(said) + len(framework) + len(rules.domain) + _MOST_ADDED > MAX_NAME:
        return _usable(found)
    return found


def _named(
    task: Task,
    name: str,
    framework: str,
    ips: tuple[str, ...],
    agent_ips: tuple[str, ...],
    rules: Rules,
) -> Iterator[Record]:
    """Records of a task under one spelling of its name, in the original's order."""
    inside, on_agent = f"{framework}.{rules.domain}", f"{framework}.slave.{rules.domain}"
    own = canonical(name, task.id, task.agent_id)
    if name:
        yield from _addresses(f"{name}.{inside}", ips)
    yield from _addresses(f"{own}.{inside}", ips)
    if name:
        yield from _addresses(f"{name}.{on_agent}", agent_ips)
    yield from _addresses(f"{own}.{on_agent}", agent_ips)
    if not name:
        return
    service, target = underscored(name), f"{own}.{on_agent}"
    for port in task.ports:
        for protocol in BOTH:
            yield Record(f"{service}._{protocol}.{on_agent}", SRV, f"{target}:{port}")
            if not task.discovery_name:
                yield Record(f"{service}._{protocol}.{inside}", SRV, f"{target}:{port}")
    if task.discovery_name:
        yield from _discovered(task, service, inside, f"{own}.{inside}", rules)


def _discovered(
    task: Task, service: str, inside: str, target: str, rules: Rules
) -> Iterator[Record]:
    """SRV records of the ports that a task's DiscoveryInfo names."""
    for wanted in task.discovery_ports:
        port_name = label(wanted.name, rules.rfc952)
        for protocol in protocols(wanted):
            full, value = f"{service}._{protocol}.{inside}", f"{target}:{wanted.number}"
            yield Record(full, SRV, value)
            if port_name:
                yield Record(f"{underscored(port_name)}.{full}", SRV, value)


def protocols(port: Port) -> tuple[str, ...]:
    """`tcp`, `udp`, or both if none is named; `udp,tcp` is both, which the original joins."""
    named = tuple(part for word in port.protocol.split(",") if (part := label(word)))
    return tuple(dict.fromkeys(named)) if named else BOTH
