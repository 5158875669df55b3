"""What stands in /state, /state-summary, /slaves, /frameworks, /tasks and /roles (spec §5).

Entities and heads only; `documents` puts them together, in pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mesostk import MESOS_VERSION, __version__
from mesostk.master import views, weights
from mesostk.master.state import Agent, Framework
from mesostk.resources.resources import Resources
from mesostk.resources.roles import ancestors
from mesostk.wire import legacy

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
    if item.drain_started_at is not None:
        view["estimated_drain_start_time_seconds"] = item.drain_started_at
    return view


def agent_in_full(master: Master, item: Agent) -> View:
    """An agent in /slaves: also with its resources as records."""
    view = agent(master, item)
    view["reserved_resources_full"] = {
        role: part.to_wire("ENDPOINT") for role, part in item.total.reservations().items()
    }
    view["unreserved_resources_full"] = item.total.unreserved().to_wire("ENDPOINT")
    view["used_resources_full"] = views.used_on(item).to_wire("ENDPOINT")
    view["offered_resources_full"] = views.offered_on(master, item).to_wire("ENDPOINT")
    return view


def recovered(master: Master, agent_id: str | None = None) -> list[View]:
    """Members that have not come back since the failover; only the one named, if one is."""
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


def framework(master: Master, item: Framework, used: Resources) -> View:
    """A framework without its lists; `used` is what it holds."""
    offered = views.offered_to(master, item)
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
    view.update({key: said[key] for key in ("roles", "role", "labels") if key in said})
    constraints = item.offer_constraints
    view["offer_constraints"] = {} if constraints is None else constraints
    return view


def offers(master: Master, item: Framework) -> list[View]:
    """Outstanding offers; their role is shown also where the framework itself is not told it."""
    records = [master.offers[offer_id] for offer_id in sorted(item.offers)]
    return [
        {**legacy.offer_view(record.wire), "allocation_info": {"role": record.role}}
        for record in records
    ]


def executors(item: Framework) -> list[View]:
    return [
        legacy.executor_view(executor.info, agent_id)
        for (agent_id, _), executor in item.executors.items()
    ]


# -- whole documents ----------------------------------------------------------------------------


def state_head(
    master: Master,
    leader: View | None,
    leader_pid: str | None,
    flags: Mapping[str, str],
    cluster: str | None,
) -> View:
    """/state without its lists."""
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
    return view


def counts(states: Counter[str]) -> View:
    """The TASK_* keys of /state-summary."""
    return {name: states[name] for name in _COUNTED_STATES}


# -- roles --------------------------------------------------------------------------------------


def roles(master: Master) -> View:
    """/roles: those in use, reserved to or weighted, and their ancestors."""
    names = {*master.allocator.by_role, *weights.current(master), *master.registry.quotas}
    for item in master.agents.values():
        names.update(item.total.reservations())
    names.update(parent for name in list(names) for parent in ancestors(name))
    return {"roles": [_role(master, name) for name in sorted(names) if master.sees_role(name)]}


def _role(master: Master, name: str) -> View:
    members = [item for item in master.frameworks.values() if name in item.roles]

    def allocated_to(parts: Iterable[Resources]) -> Resources:
        return Resources.sum(part.allocations().get(name, Resources()) for part in parts)

    used = allocated_to(views.used_by(item) for item in members)
    offered = allocated_to(views.offered_to(master, item) for item in members)
    reserved = Resources.sum(item.total.reserved(name) for item in master.agents.values())
    # What is reserved counts once, whether it is in use or not.
    consumed = used.unreserved() + reserved
    return {
        "name": name,
        "weight": weights.current(master).get(name, 1.0),
        "quota": _quota(master, name, consumed),
        "resources": (used + offered).legacy_object(),
        "allocated": _plain(used),
        "offered": _plain(offered),
        "reserved": _plain(reserved),
        "frameworks": [item.id for item in members],
    }


def _quota(master: Master, name: str, consumed: Resources) -> View:
    config = master.registry.quotas.get(name)
    guarantees = {} if config is None else config.guarantees
    limits = {} if config is None else config.limits
    return {
        "role": name,
        "guarantee": {key: amount.value for key, amount in guarantees.items()},
        "limit": {key: amount.value for key, amount in limits.items()},
        "consumed": _plain(consumed),
    }


def _plain(resources: Resources) -> dict[str, float]:
    return {name: amount / 1000 for name, amount in resources.quantities().items()}
