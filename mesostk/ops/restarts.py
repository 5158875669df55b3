"""What a run would change on hosts, and the starts and restarts that follow from it: pure.

::

    site.yml --check --diff ─▶ HostChange  (path, difference) ┐
    service_state           ─▶ ServiceState (due, watched)    ┴▶ steps() ─▶ Step, in order

A service is due when it is so already, or when a path that it watches would be changed. The order
and the rule "starts together, restarts one at a time, the leader last" are those of rollout.yml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

#: Services in the order in which rollout.yml brings them up; a test holds the two together.
ORDER = (
    "zookeeper",
    "mesos-master",
    "docker",
    "mesos-agent",
    "marathon",
    "mesos-dns",
    "marathon-lb",
    "haproxy",
)

#: Services of which more than half must serve.
_QUORUM = frozenset({"zookeeper"})
#: Services of which one leads and another takes over.
_STANDBY = frozenset({"mesos-master", "marathon"})

_RECORD = re.compile(r"/etc/mesostk/services/(.+)\.json")


class HostChange(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would change on a host; `path` is empty for what is no file."""

    host: str
    task: str
    path: str = ""
    difference: str = ""


class ServiceState(msgspec.Struct, frozen=True, kw_only=True):
    """A service of a host as it runs now: `due` already or not, and the paths it watches."""

    host: str
    name: str
    due: Literal["none", "start", "restart"]
    why: str = ""
    leader: bool = False
    watch: tuple[str, ...] = ()
    #: How often systemd restarted it by itself, and for how many seconds it has run since.
    restarts: int = 0
    up_s: float = 0.0


class AgentShare(msgspec.Struct, frozen=True):
    """What one agent has of the cluster: cpus and MiB of memory."""

    cpus: float
    mem_mib: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Members of one service that are brought up: all at once, or one after the other."""

    service: str
    kind: Literal["start", "restart"]
    hosts: tuple[str, ...]
    why: tuple[str, ...]
    #: What is left of the service, or of the cluster, meanwhile.
    capacity: str

    @property
    def play(self) -> str:
        """Name of the play that does it, by which the ledger knows its time."""
        return f"{self.kind.capitalize()} {self.service}"

    @property
    def batches(self) -> int:
        """How often that play comes."""
        return len(self.hosts) if self.kind == "restart" else 1


def read_changes(host: str, task: str, result: Mapping[str, Any]) -> list[HostChange]:
    """What a task's result in check mode says would change; one entry for each file."""
    if not result.get("changed"):
        return []
    raw = result.get("diff") or []
    found = []
    for one in raw if isinstance(raw, list) else [raw]:
        header = str(one.get("after_header") or one.get("before_header") or "")
        path = header.removeprefix("after: ").removeprefix("before: ").partition(" ")[0]
        if path:
            text = difference(one)
            found.append(HostChange(host=host, task=task, path=path, difference=text))
    return found or [HostChange(host=host, task=task)]


def difference(diff: Mapping[str, Any]) -> str:
    """Ansible's before and after as the lines that differ."""
    import difflib  # noqa: PLC0415 # 10 ms, for plans only

    if diff.get("prepared"):
        return str(diff["prepared"])
    before, after = (str(diff.get(key) or "").splitlines() for key in ("before", "after"))
    lines = list(difflib.unified_diff(before, after, lineterm="", n=1))
    return "\n".join(lines[2:])


def read_services(host: str, result: Mapping[str, Any]) -> list[ServiceState]:
    """The report of the module service_state; what it brought up says nothing of watching."""
    return [
        msgspec.convert({"host": host, **one}, ServiceState)
        for one in result.get("services", ())
        if "watch" in one
    ]


def watched(path: str, watch: Iterable[str]) -> bool:
    """Whether `path` is one of `watch`, or in a directory of it."""
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in watch)


def steps(
    changes: Sequence[HostChange],
    services: Sequence[ServiceState],
    agents: Mapping[str, AgentShare],
) -> list[Step]:
    """The starts and restarts that the run would end with, in order.

    `agents` says what each host's agent offers; hosts that are not in it offer nothing yet.
    """
    paths: dict[str, set[str]] = {}
    for change in changes:
        paths.setdefault(change.host, set()).add(change.path)
    known = {(one.host, one.name): one for one in services}
    found: list[Step] = []
    names = [*ORDER, *sorted({one.name for one in services} - set(ORDER))]
    for name in names:
        members = [one for one in services if one.name == name]
        fresh = _fresh(name, changes, known)
        starts = [*(one.host for one in members if one.due == "start"), *fresh]
        due = [one for one in members if one.due != "start" and _is_due(one, paths)]
        due.sort(key=lambda one: (one.leader, one.host))
        for kind, hosts in (("start", tuple(starts)), ("restart", tuple(o.host for o in due))):
            if hosts:
                found.append(
                    Step(
                        service=name,
                        kind="start" if kind == "start" else "restart",
                        hosts=hosts,
                        why=_reasons(kind, [o for o in members if o.host in hosts], paths),
                        capacity=_capacity(name, kind, hosts, len(members) + len(fresh), agents),
                    )
                )
    return found


def _fresh(
    name: str, changes: Sequence[HostChange], known: Mapping[tuple[str, str], ServiceState]
) -> list[str]:
    """Hosts on which the service would be installed only now: its record is among the changes."""
    hosts = []
    for change in changes:
        match = _RECORD.fullmatch(change.path)
        if match and match[1] == name and (change.host, name) not in known:
            hosts.append(change.host)
    return hosts


def _is_due(one: ServiceState, paths: Mapping[str, set[str]]) -> bool:
    return one.due == "restart" or any(watched(p, one.watch) for p in paths.get(one.host, ()))


def _reasons(
    kind: str, members: Sequence[ServiceState], paths: Mapping[str, set[str]]
) -> tuple[str, ...]:
    found = {one.why for one in members if one.why}
    for one in members:
        found |= {p for p in paths.get(one.host, ()) if p and watched(p, one.watch)}
    return tuple(sorted(found)) or (("it is installed",) if kind == "start" else ())


def _capacity(
    name: str, kind: str, hosts: Sequence[str], members: int, agents: Mapping[str, AgentShare]
) -> str:
    """What is left while a step is done, in words."""
    if kind == "start":
        return "nothing is taken away"
    left = members - 1
    if name == "mesos-agent":
        total = sum(one.cpus for one in agents.values())
        most = max((agents[host].cpus for host in hosts if host in agents), default=0.0)
        return f"tasks run on; {total - most:g} of {total:g} cpus are offered"
    if name == "docker":
        return "containers run on"
    if name in _QUORUM and left < members // 2 + 1:
        return f"no quorum: {left} of {members} serve"
    if name in _STANDBY and left == 0:
        return "nobody leads; tasks run on"
    if left == 0:
        return f"no {name} serves"
    return f"{left} of {members} serve"
