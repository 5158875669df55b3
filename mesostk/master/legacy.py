"""The documents of /state, /state-summary, /slaves, /frameworks, /tasks and /roles (spec §5).

Tasks are encoded once for as long as they do not change (`Fragments`), and put into documents as
they are: a task is most of what these documents consist of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mesostk import MESOS_VERSION, __version__
from mesostk.master import views
from mesostk.master.state import Agent, Framework
from mesostk.resources.resources import Resources
from mesostk.resources.roles import ancestors
from mesostk.wire import json, legacy
from mesostk.wire.mesos import Task

if TYPE_CHECKING:
    from mesostk.master.core import Master

View = dict[str, Any]

_COUNTED_STATES = (
    "TASK_STAGING",
    "TASK_STARTING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_FINISHED",
    "TASK_KILLED",
    "TASK_FAILED",
    "TASK_LOST",
    "TASK_ERROR",
    "TASK_UNREACHABLE",
)

#: What the original says of its build. `version` is that of the interfaces, because clients decide
#: by it what they may ask; our own release is in `git_tag`.
BUILD: View = {
    "build_date": "",
    "build_time": 0.0,
    "build_user": "",
    "git_tag": f"mesostk-{__version__}",
}


class Fragments:
    """JSON of tasks and agents, kept while the very same record is shown again."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Task, msgspec.Raw]] = {}
        self._used: dict[int, tuple[Task, msgspec.Raw]] = {}
        self._agents: dict[str, tuple[tuple[object, ...], msgspec.Raw]] = {}

    def agent(self, master: Master, item: Agent) -> msgspec.Raw:
        """The agent's document.

        Whatever an agent gives or takes back makes a new `free`, so that one tells of all.
        """
        state = (
            item.free,
            item.info,
            item.version,
            item.capabilities,
            item.is_active,
            item.deactivated,
            item.drain_info,
            item.registered_at,
            item.reregistered_at,
        )
        found = self._agents.get(item.id)
        if found is None or any(a is not b for a, b in zip(found[0], state, strict=True)):
            found = (state, msgspec.Raw(json.encode(agent(master, item))))
            self._agents[item.id] = found
        return found[1]

    def task(self, task: Task) -> msgspec.Raw:
        """The task's document; the record keeps its own id alive while it is kept here."""
        found = self._kept.get(id(task))
        if found is None:
            found = (task, msgspec.Raw(json.encode(legacy.task_view(task))))
        self._used[id(task)] = found
        return found[1]

    def turn(self) -> None:
        """After a whole /state: what it did not use is not there any more."""
        self._kept, self._used = self._used, {}

    def forget_agents(self, known: Mapping[str, Agent]) -> None:
        """Drop the agents that are not there any more."""
        for agent_id in self._agents.keys() - known.keys():
            del self._agents[agent_id]


# -- agents -------------------------------------------------------------------------------------


def agent(master: Master, item: Agent) -> View:
    view = legacy.agent_view(
        item.id, item.info.hostname, item.info.port, item.info.attributes, item.info.domain
    )
    view["pid"] = item.pid
    view["registered_time"] = item.registered_at
    if item.reregistered_at is not None:
        view["reregistered_time"] = item.reregistered_at
    view["resources"] = item.total.legacy_object()
    offered = views.offered_on(master, item)
    used = (
        views.used_on(item)
        if item.is_overcommitted
        else item.total - item.free - offered.unallocate()
    )
    view["used_resources"] = used.legacy_object()
    view["offered_resources"] = offered.legacy_object()
    view["reserved_resources"] = {
        role: part.legacy_object() for role, part in item.total.reservations().items()
    }
    view["unreserved_resources"] = item.total.unreserved().legacy_object()
    view["active"] = item.is_active
    view["deactivated"] = item.deactivated
    view["version"] = item.version
    view["capabilities"] = sorted(item.capabilities)
    if item.drain_info is not None:
        view["drain_info"] = item.drain_info
    return view


def slaves(master: Master, agent_id: str | None) -> View:
    """/slaves; only the one named, if one is."""
    shown = []
    for item in master.agents.values():
        if agent_id is not None and item.id != agent_id:
            continue
        view = agent(master, item)
        view["reserved_resources_full"] = {
            role: part.to_wire("ENDPOINT") for role, part in item.total.reservations().items()
        }
        view["unreserved_resources_full"] = item.total.unreserved().to_wire("ENDPOINT")
        view["used_resources_full"] = views.used_on(item).to_wire("ENDPOINT")
        view["offered_resources_full"] = views.offered_on(master, item).to_wire("ENDPOINT")
        shown.append(view)
    return {"slaves": shown, "recovered_slaves": _recovered(master, agent_id)}


def _recovered(master: Master, agent_id: str | None = None) -> list[View]:
    return [
        legacy.agent_view(
            known, record.info.hostname, record.info.port, record.info.attributes,
            record.info.domain,
        )
        for known, record in master.recovered.items()
        if agent_id is None or known == agent_id
    ]  # fmt: skip


# -- frameworks ---------------------------------------------------------------------------------


def framework_summary(item: Framework, used: Resources, offered: Resources) -> View:
    """The keys of a framework without its lists."""
    said = legacy.framework_view(item.info)
    return {
        "id": said["id"],
        "name": said["name"],
        "used_resources": used.legacy_object(),
        "offered_resources": offered.legacy_object(),
        "capabilities": said["capabilities"],
        "hostname": said["hostname"],
        "webui_url": said["webui_url"],
        "active": item.active,
        "connected": item.stream is not None,
        "recovered": item.recovered,
    }


def framework(master: Master, item: Framework, fragments: Fragments) -> View:
    """A framework with its tasks, offers and executors."""
    used, offered = views.used_by(item), views.offered_to(master, item)
    view = framework_summary(item, used, offered)
    said = legacy.framework_view(item.info)
    view.update(
        {key: said[key] for key in ("user", "failover_timeout", "checkpoint")},
        registered_time=item.registered_at,
        unregistered_time=item.unregistered_at,
    )
    if "principal" in said:
        view["principal"] = said["principal"]
    view["resources"] = (used + offered).legacy_object()
    if item.reregistered_at not in {item.registered_at, 0.0}:
        view["reregistered_time"] = item.reregistered_at
    view.update({key: said[key] for key in ("roles", "role") if key in said})
    view["tasks"] = [fragments.task(task.wire) for task in item.tasks.values()]
    view["unreachable_tasks"] = [fragments.task(task) for task in item.unreachable_tasks.values()]
    view["completed_tasks"] = [fragments.task(task) for task in item.completed_tasks]
    view["offers"] = [
        legacy.offer_view(master.offers[offer_id].wire) for offer_id in sorted(item.offers)
    ]
    view["executors"] = [
        legacy.executor_view(executor.info, agent_id)
        for (agent_id, _), executor in item.executors.items()
    ]
    if "labels" in said:
        view["labels"] = said["labels"]
    return view


def frameworks(master: Master, framework_id: str | None, fragments: Fragments) -> View:
    """/frameworks; only the one named, if one is."""

    def chosen(items: Iterable[Framework]) -> list[View]:
        return [
            framework(master, item, fragments)
            for item in items
            if framework_id is None or item.id == framework_id
        ]

    return {
        "frameworks": chosen(master.frameworks.values()),
        "completed_frameworks": chosen(master.completed_frameworks.values()),
        "unregistered_frameworks": [],
    }


def tasks(
    master: Master,
    fragments: Fragments,
    *,
    framework_id: str | None,
    task_id: str | None,
    limit: int,
    offset: int,
    ascending: bool,
) -> View:
    """/tasks: live, unreachable and completed ones, by the time of their first status."""
    found = [
        task
        for item in views.every_framework(master)
        if framework_id is None or item.id == framework_id
        for task in _tasks_of(item)
        if task_id is None or task.task_id.value == task_id
    ]
    found.sort(key=_first_at, reverse=not ascending)
    return {"tasks": [fragments.task(task) for task in found[offset : offset + limit]]}


def _tasks_of(item: Framework) -> Iterable[Task]:
    yield from (task.wire for task in item.tasks.values())
    yield from item.unreachable_tasks.values()
    yield from item.completed_tasks


def _first_at(task: Task) -> tuple[float, str]:
    first = task.statuses[0].timestamp if task.statuses else None
    return (0.0 if first is None else first, task.task_id.value)


# -- whole documents ----------------------------------------------------------------------------


def state(
    master: Master,
    fragments: Fragments,
    leader: View | None,
    leader_pid: str | None,
    flags: Mapping[str, str],
    cluster: str | None,
) -> View:
    """/state."""
    view: View = {"version": MESOS_VERSION, **BUILD, "start_time": master.started_at or 0.0}
    if master.elected_at is not None:
        view["elected_time"] = master.elected_at
    active = sum(item.is_active for item in master.agents.values())
    view.update(
        id=master.id,
        pid=master.info.pid,
        hostname=master.info.hostname,
        capabilities=legacy.capability_names(master.info.capabilities),
        activated_slaves=active,
        deactivated_slaves=len(master.agents) - active,
        unreachable_slaves=len(master.registry.unreachable),
    )
    if master.config.domain is not None:
        view["domain"] = master.config.domain
    if leader is not None:
        view["leader"] = leader_pid
        view["leader_info"] = leader
    if cluster is not None:
        view["cluster"] = cluster
    view["flags"] = dict(flags)
    view["slaves"] = [fragments.agent(master, item) for item in master.agents.values()]
    view["recovered_slaves"] = _recovered(master)
    view["frameworks"] = [framework(master, item, fragments) for item in master.frameworks.values()]
    view["completed_frameworks"] = [
        framework(master, item, fragments) for item in master.completed_frameworks.values()
    ]
    view["orphan_tasks"] = []
    view["unregistered_frameworks"] = []
    fragments.turn()
    fragments.forget_agents(master.agents)
    return view


def state_summary(master: Master, cluster: str | None) -> View:
    """/state-summary: no tasks, but how many there are in which state."""
    by_agent: dict[str, Counter[str]] = {}
    members: dict[str, set[str]] = {}
    shown = []
    for item in views.every_framework(master):
        states: Counter[str] = Counter()
        agents: set[str] = set()
        for task in _tasks_of(item):
            states[task.state] += 1
            agent_id = task.agent_id.value
            agents.add(agent_id)
            by_agent.setdefault(agent_id, Counter())[task.state] += 1
            members.setdefault(agent_id, set()).add(item.id)
        if item.id in master.frameworks:
            offered = views.offered_to(master, item)
            summary = framework_summary(item, views.used_by(item), offered)
            shown.append({**summary, **_counts(states), "slave_ids": sorted(agents)})
    view: View = {"hostname": master.info.hostname}
    if cluster is not None:
        view["cluster"] = cluster
    view["slaves"] = [
        {
            **agent(master, item),
            **_counts(by_agent.get(item.id, Counter())),
            "framework_ids": sorted(members.get(item.id, ())),
        }
        for item in master.agents.values()
    ]
    view["frameworks"] = shown
    return view


def _counts(states: Counter[str]) -> dict[str, int]:
    return {name: states[name] for name in _COUNTED_STATES}


# -- roles --------------------------------------------------------------------------------------


def roles(master: Master) -> View:
    """/roles: those in use, reserved to or weighted, and their ancestors."""
    names = {*master.allocator.by_role, *master.config.weights}
    for item in master.agents.values():
        names.update(item.total.reservations())
    names.update(parent for name in list(names) for parent in ancestors(name))
    return {"roles": [_role(master, name) for name in sorted(names)]}


def _role(master: Master, name: str) -> View:
    members = [item for item in master.frameworks.values() if name in item.roles]

    def allocated_to(parts: Iterable[Resources]) -> Resources:
        return Resources.sum(part.allocations().get(name, Resources()) for part in parts)

    used = allocated_to(views.used_by(item) for item in members)
    offered = allocated_to(views.offered_to(master, item) for item in members)
    reserved = Resources.sum(item.total.reserved(name) for item in master.agents.values())
    return {
        "name": name,
        "weight": master.config.weights.get(name, 1.0),
        "quota": {"role": name, "guarantee": {}, "limit": {}, "consumed": _plain(used + reserved)},
        "resources": (used + offered).legacy_object(),
        "allocated": _plain(used),
        "offered": _plain(offered),
        "reserved": _plain(reserved),
        "frameworks": [item.id for item in members],
    }


def _plain(resources: Resources) -> dict[str, float]:
    return {name: amount / 1000 for name, amount in resources.quantities().items()}
