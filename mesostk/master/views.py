"""What others see of the master: the operator API's records and events, made from the state.

Pure: nothing here changes anything. Resources are in the ENDPOINT format (spec/mesos.md §7.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesostk.master import weights
from mesostk.master.state import Agent, Framework
from mesostk.resources.resources import Resources
from mesostk.wire import operator
from mesostk.wire.mesos import (
    AgentCapability,
    AgentID,
    FrameworkID,
    InverseOffer,
    Offer,
    Task,
    TaskState,
    TaskStatus,
    TimeInfo,
)

if TYPE_CHECKING:
    from mesostk.master.core import Master


# -- pieces -------------------------------------------------------------------------------------


def _time(seconds: float | None) -> TimeInfo | None:
    return None if not seconds else TimeInfo(nanoseconds=int(seconds * 1e9))


def offered_on(master: Master, agent: Agent) -> Resources:
    return Resources.sum(master.offers[offer_id].resources for offer_id in agent.offers)


def used_on(agent: Agent) -> Resources:
    """What tasks and executors hold."""
    return Resources.sum(agent.held())


def offered_to(master: Master, framework: Framework) -> Resources:
    return Resources.sum(master.offers[offer_id].resources for offer_id in framework.offers)


def used_by(framework: Framework) -> Resources:
    tasks = (task.held for task in framework.tasks.values() if not task.is_terminal)
    executors = (executor.held for executor in framework.executors.values())
    return Resources.sum((*tasks, *executors))


def held_by_framework(agent: Agent) -> dict[str, Resources]:
    """What each framework's tasks and executors hold of the agent."""
    parts: dict[str, list[Resources]] = {}
    for (framework_id, _), task in agent.tasks.items():
        if not task.is_terminal:
            parts.setdefault(framework_id, []).append(task.held)
    for (framework_id, _), executor in agent.executors.items():
        parts.setdefault(framework_id, []).append(executor.held)
    return {framework_id: Resources.sum(held) for framework_id, held in parts.items()}


def operations(master: Master) -> operator.Operations:
    """Those that agents have not answered, and those whose outcome is not acknowledged; none of a
    framework that is not shown."""
    records = (
        record.wire for agent in master.agents.values() for record in agent.operations.values()
    )
    return operator.Operations(
        operations=tuple(
            wire
            for wire in records
            if wire.framework_id is None or wire.framework_id.value in master.frameworks
        )
    )


def agent(master: Master, agent: Agent) -> operator.Agent:
    """An agent as GET_AGENTS shows it."""
    return agent_record(agent, agent.total, used_on(agent), offered_on(master, agent))


def agent_record(
    agent: Agent, total: Resources, used: Resources, offered: Resources
) -> operator.Agent:
    """An agent with these resources, of which something may be left out."""
    return operator.Agent(
        agent_info=agent.info,
        active=agent.is_active,
        deactivated=agent.deactivated,
        version=agent.version,
        pid=agent.pid,
        registered_time=_time(agent.registered_at),
        reregistered_time=_time(agent.reregistered_at),
        total_resources=total.to_wire("ENDPOINT"),
        allocated_resources=used.to_wire("ENDPOINT"),
        offered_resources=offered.to_wire("ENDPOINT"),
        capabilities=tuple(
            AgentCapability(type=name)  # type: ignore[arg-type]  # came as that Literal
            for name in sorted(agent.capabilities)
        ),
        drain_info=agent.drain_info,
        estimated_drain_start_time=_time(agent.drain_started_at),
    )


def framework(framework: Framework) -> operator.Framework:
    """A framework as events show it: without offers, what it holds, and offer constraints."""
    return operator.Framework(
        framework_info=framework.info,
        active=framework.active,
        connected=framework.stream is not None,
        recovered=framework.recovered,
        registered_time=_time(framework.registered_at),
        reregistered_time=_time(framework.reregistered_at),
        unregistered_time=_time(framework.unregistered_at),
    )


def framework_record(
    item: Framework,
    *,
    used: Resources,
    offered: Resources,
    offers: tuple[Offer, ...],
    inverse_offers: tuple[InverseOffer, ...],
) -> operator.Framework:
    """A framework as GET_FRAMEWORKS shows it."""
    return replace(
        framework(item),
        offers=offers,
        inverse_offers=inverse_offers,
        allocated_resources=used.to_wire("ENDPOINT"),
        offered_resources=offered.to_wire("ENDPOINT"),
        offer_constraints=item.offer_constraints,
    )


# -- answers ------------------------------------------------------------------------------------


def every_framework(master: Master) -> Iterable[Framework]:
    """The live ones, then the completed ones."""
    yield from master.frameworks.values()
    yield from master.completed_frameworks.values()


def the_master(master: Master) -> operator.Master:
    return operator.Master(
        master_info=master.info,
        start_time=master.started_at,
        elected_time=master.elected_at,
    )


def roles(master: Master) -> operator.Roles:
    """Roles that somebody subscribes to, holds something of, or that have a weight."""
    shares = weights.current(master)
    names = {*shares, *master.allocator.by_role}
    return operator.Roles(
        roles=tuple(
            _role(master, name, shares.get(name, 1.0))
            for name in sorted(names)
            if master.sees_role(name)
        )
    )


def _role(master: Master, name: str, weight: float) -> operator.Role:
    members = [item for item in master.frameworks.values() if name in item.roles]
    held = [
        held.allocations().get(name, Resources())
        for item in members
        for held in (used_by(item), offered_to(master, item))
    ]
    shown = Resources.sum(held).unallocate().to_unreserved().scalars_only()
    return operator.Role(
        name=name,
        weight=weight,
        frameworks=tuple(FrameworkID(item.id) for item in members),
        resources=shown.to_wire(),
    )


def get_weights(master: Master) -> operator.Weights:
    return operator.Weights(
        weight_infos=tuple(
            operator.WeightInfo(weight=weight, role=role)
            for role, weight in sorted(weights.current(master).items())
            if master.sees_role(role)
        )
    )


# -- events -------------------------------------------------------------------------------------


def task_added(task: Task) -> operator.Event:
    return operator.Event(type="TASK_ADDED", task_added=operator.TaskAdded(task=task))


def task_updated(framework_id: str, status: TaskStatus, state: TaskState) -> operator.Event:
    updated = operator.TaskUpdated(
        framework_id=FrameworkID(framework_id), status=status, state=state
    )
    return operator.Event(type="TASK_UPDATED", task_updated=updated)


def agent_added(master: Master, added: Agent) -> operator.Event:
    return operator.Event(
        type="AGENT_ADDED", agent_added=operator.AgentAdded(agent=agent(master, added))
    )


def agent_removed(agent_id: str) -> operator.Event:
    return operator.Event(
        type="AGENT_REMOVED", agent_removed=operator.AgentRef(agent_id=AgentID(agent_id))
    )


def framework_added(added: Framework) -> operator.Event:
    body = operator.FrameworkEvent(framework=framework(added))
    return operator.Event(type="FRAMEWORK_ADDED", framework_added=body)


def framework_updated(updated: Framework) -> operator.Event:
    body = operator.FrameworkEvent(framework=framework(updated))
    return operator.Event(type="FRAMEWORK_UPDATED", framework_updated=body)


def framework_removed(removed: Framework) -> operator.Event:
    body = operator.FrameworkRemoved(framework_info=removed.info)
    return operator.Event(type="FRAMEWORK_REMOVED", framework_removed=body)
