"""What is wrong in a running cluster, and the command that mends it: pure.

::

    interfaces (master, Marathon, ZooKeeper, Mesos-DNS, marathon-lb) ┐
    doctor.yml (services, clocks, disks, ports of every host)        ┴▶ Seen ─▶ diagnose()

What follows from something else is not reported twice: without a quorum of ZooKeeper nobody leads,
and without a leader no agent is registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from mesostk.ops.restarts import ServiceState

#: A service that systemd restarted so often, and that runs for less than _YOUNG_S again, does not
#: stay up by itself. One restart is what a lost session costs a leader.
_RESTARTS = 3
_YOUNG_S = 600.0

#: A leader elected so shortly ago, by a master that runs for much longer, took over from another.
_NEW_LEADER_S = 120.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong; `remedy` is a command where one mends it."""

    level: Literal["error", "warning"] = "error"
    subject: str
    problem: str
    remedy: str


class Member(msgspec.Struct, frozen=True):
    """A master or Marathon: leading, standby or unreachable, and the reason."""

    kind: Literal["master", "marathon"]
    host: str
    state: str
    detail: str = ""


class AgentSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as the leading master knows it."""

    host: str
    active: bool
    deactivated: bool
    draining: bool
    cpus: float
    mem_mib: float


class AppSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An app: instances wanted and running, and whether a deployment is at it."""

    id: str
    wanted: int
    running: int
    deploying: bool


class StepSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge service has of an app, beside what Marathon has; equal where it is in step."""

    service: Literal["mesos-dns", "marathon-lb"]
    host: str
    app: str
    has: tuple[str, ...]
    should: tuple[str, ...]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as it was found; hosts by the names of the inventory where it has one."""

    #: Mode by member; None where it does not serve.
    zookeeper: Mapping[str, str | None] = {}
    members: Sequence[Member] = ()
    #: Seconds since the leading master was elected and started; None where nobody leads.
    elected_s: float | None = None
    leader_up_s: float | None = None
    agents: Sequence[AgentSeen] | None = None
    expected_agents: Sequence[str] = ()
    has_marathon_framework: bool | None = None
    apps: Sequence[AppSeen] = ()
    steps: Sequence[StepSeen] = ()
    #: (service, host, reason) of edge services that do not answer or do not follow Marathon.
    deaf: Sequence[tuple[str, str, str]] = ()
    services: Sequence[ServiceState] = ()
    #: Findings of the preflight, as its filter gives them.
    host_findings: Sequence[Mapping[str, str]] = ()


def _deploy(*hosts: str) -> str:
    return f"mesostk cluster deploy --limit {','.join(hosts)}"


def _restart(host: str, unit: str) -> str:
    return f"ssh {host} sudo systemctl restart {unit}"


def diagnose(seen: Seen) -> list[Finding]:
    """Everything that is wrong, errors first, causes before what they cause."""
    found = [finding for check in _CHECKS for finding in check(seen)]
    return sorted(found, key=lambda one: one.level)


# -- the core services ----------------------------------------------------------------------------


def _has_quorum(seen: Seen) -> bool:
    serving = sum(1 for mode in seen.zookeeper.values() if mode is not None)
    return not seen.zookeeper or serving * 2 > len(seen.zookeeper)


def _leads(seen: Seen, kind: str) -> list[str]:
    return [one.host for one in seen.members if one.kind == kind and one.state == "leading"]


def _zookeeper(seen: Seen) -> Iterator[Finding]:
    silent = [host for host, mode in seen.zookeeper.items() if mode is None]
    total = len(seen.zookeeper)
    if not _has_quorum(seen):
        yield Finding(
            subject="zookeeper",
            problem=f"quorum is lost: {total - len(silent)} of {total} serve, "
            f"{', '.join(silent)} not; nothing can be changed until more than half do",
            remedy=_deploy(*silent),
        )
        return
    for host in silent:
        yield Finding(
            subject=f"zookeeper on {host}",
            problem=f"it does not serve; {total - len(silent)} of {total} do",
            remedy=_deploy(host),
        )
    leaders = [host for host, mode in seen.zookeeper.items() if mode in ("leader", "standalone")]
    if len(leaders) > 1:
        yield Finding(
            subject="zookeeper",
            problem=f"{' and '.join(leaders)} both lead: they are not one ensemble",
            remedy=_deploy(*leaders),
        )


def _members(seen: Seen) -> Iterator[Finding]:
    for kind, name in (("master", "mesos-master"), ("marathon", "marathon")):
        mine = [one for one in seen.members if one.kind == kind]
        lost = [one for one in mine if one.state == "unreachable"]
        for one in lost:
            yield Finding(
                subject=f"{name} on {one.host}",
                problem=f"it does not answer: {one.detail}",
                remedy=_deploy(one.host),
            )
        leaders = _leads(seen, kind)
        if len(leaders) > 1:
            yield Finding(
                subject=name,
                problem=f"{' and '.join(leaders)} both say that they lead",
                remedy=f"mesostk status, again: if it stays so, {_restart(leaders[-1], name)}",
            )
        elif not leaders and len(lost) < len(mine) and _has_quorum(seen):
            yield Finding(
                subject=name,
                problem="nobody leads, although ZooKeeper has a quorum",
                remedy=_restart(next(one.host for one in mine if one not in lost), name),
            )


def _flapping(seen: Seen) -> Iterator[Finding]:
    for one in seen.services:
        if one.restarts >= _RESTARTS and one.up_s < _YOUNG_S:
            yield Finding(
                subject=f"{one.name} on {one.host}",
                problem=f"it does not stay up: {one.restarts} restarts, "
                f"the last {one.up_s:.0f} s ago",
                remedy=f"ssh {one.host} sudo journalctl -u {one.name} -p warning -e",
            )
    moved = seen.elected_s is not None and seen.elected_s < _NEW_LEADER_S
    if moved and seen.leader_up_s is not None and seen.leader_up_s > _NEW_LEADER_S:
        yield Finding(
            level="warning",
            subject="mesos-master",
            problem=f"{', '.join(_leads(seen, 'master'))} leads since {seen.elected_s:.0f} s only",
            remedy="mesostk cluster doctor, again: if the lead moves on, look at ZooKeeper's disk",
        )


# -- agents ---------------------------------------------------------------------------------------


def _agents(seen: Seen) -> Iterator[Finding]:
    if seen.agents is None:
        return
    known = {one.host for one in seen.agents}
    for host in seen.expected_agents:
        if host not in known:
            yield Finding(
                subject=f"agent {host}",
                problem="it is in the inventory and not registered",
                remedy=_deploy(host),
            )
    for one in seen.agents:
        if not one.active and not one.deactivated:
            yield Finding(
                subject=f"agent {one.host}",
                problem="it is registered, but its master does not hear it",
                remedy=_deploy(one.host),
            )
        if one.cpus <= 0 or one.mem_mib <= 0:
            yield Finding(
                subject=f"agent {one.host}",
                problem=f"it offers nothing: {one.cpus:g} cpus, {one.mem_mib:g} MiB of memory",
                remedy=f"correct mesos_agent_resources, then {_deploy(one.host)}",
            )
        if one.deactivated and not one.draining:
            yield Finding(
                level="warning",
                subject=f"agent {one.host}",
                problem="it is deactivated: nothing is offered from it",
                remedy=f"mesostk undrain {one.host}",
            )


# -- apps and edge --------------------------------------------------------------------------------


def _apps(seen: Seen) -> Iterator[Finding]:
    if seen.has_marathon_framework is False and _leads(seen, "marathon"):
        yield Finding(
            subject="marathon",
            problem="it leads, but is not registered with the master",
            remedy=_restart(_leads(seen, "marathon")[0], "marathon"),
        )
    for app in seen.apps:
        if app.running < app.wanted and not app.deploying:
            yield Finding(
                level="warning",
                subject=f"app {app.id}",
                problem=f"{app.running} of {app.wanted} instances run",
                remedy=f"mesostk why {app.id}",
            )


def _edge(seen: Seen) -> Iterator[Finding]:
    for service, host, reason in seen.deaf:
        yield Finding(
            subject=f"{service} on {host}",
            problem=reason,
            remedy=_deploy(host) if "cannot be reached" in reason else _restart(host, service),
        )
    for one in seen.steps:
        if sorted(one.has) != sorted(one.should):
            yield Finding(
                subject=f"{one.service} on {one.host}",
                problem=f"it has {', '.join(sorted(one.has)) or 'nothing'} for {one.app}, "
                f"Marathon {', '.join(sorted(one.should)) or 'nothing'}",
                remedy=_restart(one.host, one.service),
            )


# -- hosts ----------------------------------------------------------------------------------------


def _services(seen: Seen) -> Iterator[Finding]:
    for one in seen.services:
        if one.due != "none":
            yield Finding(
                subject=f"{one.name} on {one.host}",
                problem=one.why or f"it is due for a {one.due}",
                remedy=_deploy(one.host),
            )


def _hosts(seen: Seen) -> Iterator[Finding]:
    for one in seen.host_findings:
        yield Finding(
            level="warning" if one["level"] == "warning" else "error",
            subject=one["where"],
            problem=one["problem"],
            remedy=one["remedy"],
        )


_CHECKS = (_hosts, _zookeeper, _members, _flapping, _services, _agents, _apps, _edge)
