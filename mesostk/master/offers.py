"""Offers: made from grants of the allocator, then accepted, declined, rescinded or timed out.

An outstanding offer holds its resources on the agent (`Allocator.hold`). Whatever ends it gives
them back first; what an ACCEPT launches is held anew by the tasks, all within one event.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from mesostk.master import constraints, operations
from mesostk.master.state import Agent, Config, Framework, OfferRecord
from mesostk.resources.resources import Resources
from mesostk.wire import scheduler
from mesostk.wire.mesos import (
    URL,
    Address,
    AgentID,
    AllocationInfo,
    ExecutorID,
    Filters,
    FrameworkID,
    Offer,
    OfferID,
    Resource,
    Unavailability,
)

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: Longer refusals are cut to this (spec/mesos.md §2.6).
_LONGEST_REFUSAL_S = 365 * 86400.0
_DEFAULT_REFUSAL_S = 5.0


class Grant(msgspec.Struct, eq=False, frozen=True):
    """`resources` of the agent, without allocation role, go to a framework in `role`."""

    agent: Agent
    role: str
    resources: Resources


# -- making -------------------------------------------------------------------------------------


def make(master: Master, now: float, framework: Framework, grants: Sequence[Grant]) -> None:
    """Send one OFFERS event; the grants' resources are already held by the framework."""
    wires = []
    for grant in grants:
        offer_id = f"{master.id}-O{master.new_number('offer')}"
        resources = grant.resources.allocate(grant.role)
        away = master.unavailability_of(grant.agent)
        wire = _wire_offer(offer_id, framework, grant, resources, away)
        master.offers[offer_id] = OfferRecord(
            offer_id, framework.id, grant.agent.id, grant.role, resources, wire
        )
        framework.offers.add(offer_id)
        grant.agent.offers.add(offer_id)
        wires.append(wire)
        if master.config.offer_timeout_s is not None:
            master.timers.at(now + master.config.offer_timeout_s, _timed_out, offer_id)
    add(framework.counters, "offers/sent", len(wires))
    master.tell(
        framework, scheduler.Event(type="OFFERS", offers=scheduler.Offers(offers=tuple(wires)))
    )


def _wire_offer(
    offer_id: str,
    framework: Framework,
    grant: Grant,
    resources: Resources,
    away: Unavailability | None,
) -> Offer:
    agent = grant.agent
    address = Address(hostname=agent.info.hostname, ip=agent.ip, port=agent.info.port)
    return Offer(
        id=OfferID(offer_id),
        framework_id=FrameworkID(framework.id),
        agent_id=AgentID(agent.id),
        hostname=agent.info.hostname,
        url=URL(scheme="http", address=address, path="/slave(1)"),
        domain=agent.info.domain,
        resources=as_seen_by(framework, resources),
        attributes=agent.info.attributes,
        executor_ids=tuple(
            ExecutorID(executor_id)
            for framework_id, executor_id in agent.executors
            if framework_id == framework.id
        ),
        unavailability=away,
        allocation_info=AllocationInfo(role=grant.role) if framework.is_multi_role else None,
    )


def as_seen_by(framework: Framework, resources: Resources) -> tuple[Resource, ...]:
    """In the format that the framework's capabilities ask for (spec/mesos.md §2.4)."""
    if not framework.is_multi_role:
        resources = resources.unallocate()
    if "RESERVATION_REFINEMENT" in framework.capabilities:
        return resources.to_wire()
    return resources.to_wire("PRE")


def usable_by(framework: Framework, resources: Resources) -> Resources:
    """Without what the framework's capabilities keep from it."""
    if "REVOCABLE_RESOURCES" not in framework.capabilities:
        resources = resources.non_revocable()
    if "SHARED_RESOURCES" not in framework.capabilities:
        resources = resources.non_shared()
    if "RESERVATION_REFINEMENT" not in framework.capabilities:
        resources = resources.unrefined()
    return resources


def why_not_agent(framework: Framework, role: str, agent: Agent, config: Config) -> str | None:
    """Why nothing of the agent is ever offered to the framework in the role; None if it may be."""
    why = constraints.why_not(framework.offer_constraints, role, agent)
    if why is not None:
        return why
    limit = config.max_executors_per_agent
    if limit is not None and _executors_on(agent) >= limit:
        return f"the agent runs {limit} executors, as many as max_executors_per_agent allows"
    if framework.is_multi_role and "MULTI_ROLE" not in agent.capabilities:
        return "the agent lacks the capability MULTI_ROLE"
    if "/" in role and "HIERARCHICAL_ROLE" not in agent.capabilities:
        return "the agent lacks the capability HIERARCHICAL_ROLE"
    if (
        config.filter_gpu_resources
        and "GPU_RESOURCES" not in framework.capabilities
        and agent.total.quantities().get("gpus", 0) > 0
    ):
        return "the agent has gpus and the framework lacks the capability GPU_RESOURCES"
    if "REGION_AWARE" not in framework.capabilities and _is_remote(agent, config):
        return "the agent is in another region and the framework lacks REGION_AWARE"
    return None


def _executors_on(agent: Agent) -> int:
    """Those of their own, and one for each command task."""
    commands = (
        task
        for task in agent.tasks.values()
        if not task.is_terminal and task.wire.executor_id is None
    )
    return len(agent.executors) + sum(1 for _ in commands)


def _is_remote(agent: Agent, config: Config) -> bool:
    ours, theirs = config.domain, agent.info.domain
    if ours is None or theirs is None or ours.fault_domain is None or theirs.fault_domain is None:
        return False
    return ours.fault_domain.region != theirs.fault_domain.region


# -- ending -------------------------------------------------------------------------------------


def end(master: Master, now: float, offer: OfferRecord, *, rescind: bool) -> None:
    """The offer is over; what it held is free again. `rescind`: the framework is told."""
    del master.offers[offer.id]
    framework = master.frameworks[offer.framework_id]
    framework.offers.discard(offer.id)
    agent = master.agents[offer.agent_id]
    agent.offers.discard(offer.id)
    master.allocator.give_back(agent, framework.id, offer.role, offer.resources, now)
    if rescind:
        add(framework.counters, "offers/rescinded")
        rescinded = scheduler.Rescind(offer_id=OfferID(offer.id))
        master.tell(framework, scheduler.Event(type="RESCIND", rescind=rescinded))


def end_all(master: Master, now: float, offer_ids: Iterable[str], *, rescind: bool) -> None:
    for offer_id in sorted(offer_ids):
        end(master, now, master.offers[offer_id], rescind=rescind)


def end_destroyed(master: Master, now: float, agent: Agent) -> None:
    """Rescind what still offers a shared volume that was destroyed."""
    offered = ((offer_id, master.offers[offer_id].resources) for offer_id in agent.offers)
    ending = [
        offer_id
        for offer_id, resources in offered
        if resources.has_shared and not agent.total.contains(resources.unallocate().shared())
    ]
    end_all(master, now, ending, rescind=True)


def _timed_out(master: Master, now: float, offer_id: str) -> None:
    """Timer: `--offer_timeout` after an offer was made."""
    offer = master.offers.get(offer_id)
    if offer is not None:
        end(master, now, offer, rescind=True)


def refusal_s(filters: Filters | None, interval_s: float) -> float:
    """Seconds for which a refusal holds: at least one allocation interval."""
    seconds = _DEFAULT_REFUSAL_S if filters is None else filters.refuse_seconds
    if math.isnan(seconds) or seconds < 0:
        seconds = _DEFAULT_REFUSAL_S
    return max(min(seconds, _LONGEST_REFUSAL_S), interval_s)


def decline(master: Master, now: float, framework: Framework, call: scheduler.Decline) -> None:
    """DECLINE: offers that are not the framework's, or gone, are passed over."""
    for offer_id in dict.fromkeys(item.value for item in call.offer_ids):
        offer = master.offers.get(offer_id)
        if offer is None or offer.framework_id != framework.id:
            continue
        end(master, now, offer, rescind=False)
        add(framework.counters, "offers/declined")
        refuse(master, now, offer, offer.resources, call.filters)


def refuse(
    master: Master,
    now: float,
    offer: OfferRecord,
    resources: Resources,
    filters: Filters | None,
) -> None:
    """Hold `resources`, the unused part of an ended offer, back from its framework for a time."""
    if resources:
        until = now + refusal_s(filters, master.config.allocation_interval_s)
        master.allocator.refuse(
            master, now, (offer.framework_id, offer.role), offer.agent_id, resources, until
        )


# -- accepting ----------------------------------------------------------------------------------


def accept(master: Master, now: float, framework: Framework, call: scheduler.Accept) -> None:
    """ACCEPT: the offers' resources are pooled, then the operations applied in their order."""
    ids = [item.value for item in call.offer_ids]
    why = _why_invalid(master, framework, ids)
    listed = [master.offers[i] for i in dict.fromkeys(ids) if i in master.offers]
    mine = [offer for offer in listed if offer.framework_id == framework.id]
    for offer in mine:
        end(master, now, offer, rescind=False)
    if why is not None:
        operations.refuse_all(master, now, framework, call.operations, why)
        return
    add(framework.counters, "offers/accepted", len(mine))
    first = mine[0]
    pool = Resources()
    for offer in mine:
        pool += offer.resources
    agent = master.agents[first.agent_id]
    left = operations.apply_all(master, now, framework, agent, first.role, pool, call.operations)
    refuse(master, now, first, left, call.filters)
    end_destroyed(master, now, agent)


def _why_invalid(master: Master, framework: Framework, ids: Sequence[str]) -> str | None:
    """Why the offers cannot be accepted together; None if they can."""
    if not ids:
        return "No offers specified"
    if len(set(ids)) != len(ids):
        return "Duplicate offer in offer list"
    agents, roles = set(), set()
    for offer_id in ids:
        offer = master.offers.get(offer_id)
        if offer is None:
            return f"Offer {offer_id} is no longer valid"
        if offer.framework_id != framework.id:
            return (
                f"Offer {offer_id} has invalid framework {offer.framework_id}"
                f" while framework {framework.id} is expected"
            )
        agents.add(offer.agent_id)
        roles.add(offer.role)
    if len(roles) > 1:
        return f"Aggregated offers must have the same allocation role, not {sorted(roles)}"
    if len(agents) > 1:
        return f"Aggregated offers must belong to one single agent, not {sorted(agents)}"
    return None


def add(counters: dict[str, int], name: str, amount: int = 1) -> None:
    counters[name] = counters.get(name, 0) + amount
