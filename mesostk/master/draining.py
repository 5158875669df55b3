"""DRAIN_AGENT: an agent is emptied gently, and stays so until it is reactivated or gone.

::

    DRAIN_AGENT ─▶ Save ─▶ DRAINING, deactivated ─▶ link Drain ─▶ tasks end, are acknowledged
                                                                     └─▶ Save ─▶ DRAINED | gone

The order is saved before the agent hears of it, and is repeated each time that the agent comes
back. Source: spec/mesos.md §4.2 and §8.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesostk.master import departure, offers, registry, tasks
from mesostk.master.events import Reply
from mesostk.master.state import Agent
from mesostk.wire import link, operator
from mesostk.wire.mesos import AgentID, DrainConfig, DrainInfo, DurationInfo, TimeInfo

if TYPE_CHECKING:
    from mesostk.master.core import Master


def drain(master: Master, _now: float, request: int, call: operator.DrainAgent) -> None:
    """DRAIN_AGENT of an operator."""
    agent_id = call.agent_id.value
    why = _why_not(master, agent_id)
    if why is not None:
        master.emit(Reply(request, 400, why))
        return
    if agent_id in master.leaving:
        why = f"Agent is being marked {master.leaving[agent_id]}"
        master.emit(Reply(request, 409, why))
        return
    config = DrainConfig(max_grace_period=_grace(call), mark_gone=call.mark_gone)
    info = DrainInfo(state="DRAINING", config=config)
    record = replace(master.registry.agents[agent_id], deactivated=True, drain_info=info)
    master.save(registry.update(agent_id, record), _drain_saved, agent_id, info, request)


def _why_not(master: Master, agent_id: str) -> str | None:
    if agent_id in master.registry.unreachable:
        return f"Agent '{agent_id}' is unreachable; mark it gone, or drain it when it is back"
    if agent_id not in master.registry.agents:
        return f"Unknown agent '{agent_id}'"
    agent = master.agents.get(agent_id)
    if agent is not None and "AGENT_DRAINING" not in agent.capabilities:
        return f"Agent '{agent_id}' is not capable of AGENT_DRAINING"
    if agent is not None and master.unavailability_of(agent) is not None:
        return f"Agent '{agent_id}' has a maintenance schedule; take it out of that first"
    return None


def _grace(call: operator.DrainAgent) -> DurationInfo | None:
    period = call.max_grace_period
    if period is None:
        return None
    return DurationInfo(nanoseconds=max(0, period.seconds * 10**9 + period.nanos))


def _drain_saved(master: Master, now: float, agent_id: str, info: DrainInfo, request: int) -> None:
    record = master.registry.agents.get(agent_id)
    if record is None:
        master.emit(Reply(request, 409, f"Agent '{agent_id}' is no longer registered"))
        return
    record = replace(record, deactivated=True, drain_info=info)
    master.registry.agents[agent_id] = record
    if agent_id in master.recovered:
        master.recovered[agent_id] = record
    master.note("Draining agent", agent=agent_id, mark_gone=info.config.mark_gone)
    agent = master.agents.get(agent_id)
    if agent is not None:
        agent.deactivated = True
        agent.drain_info = info
        agent.drain_started_at = master.wall(now)
        offers.end_all(master, now, agent.offers, rescind=True)
        remind(master, agent)
    master.emit(Reply(request, 200))


def remind(master: Master, agent: Agent) -> None:
    """Tell the agent to drain, if it is to: after the order, and each time it comes back."""
    if agent.drain_info is None or agent.drain_info.state != "DRAINING":
        return
    tasks.agents_send(master, agent, link.Drain(config=agent.drain_info.config))
    master.maybe_drained[agent.id] = None


def finish(master: Master, now: float) -> None:
    """At the end of each event: agents that were emptied are drained, once that is saved."""
    for agent_id in list(master.maybe_drained):
        del master.maybe_drained[agent_id]
        agent = master.agents.get(agent_id)
        if agent is None or agent_id in master.leaving:
            continue
        if agent.tasks or agent.executors or agent.operations:
            continue
        info = agent.drain_info
        if info is None or info.state != "DRAINING":
            continue
        if info.config.mark_gone:
            _save_gone(master, now, agent_id)
            continue
        drained = replace(info, state="DRAINED")
        record = replace(master.registry.agents[agent_id], deactivated=True, drain_info=drained)
        master.save(registry.update(agent_id, record), _drained, agent_id, drained)


def _save_gone(master: Master, now: float, agent_id: str) -> None:
    record = registry.GoneRecord(
        id=AgentID(agent_id), time=TimeInfo(nanoseconds=int(master.wall(now) * 1e9))
    )
    master.leaving[agent_id] = "gone"
    master.save(registry.mark_gone(record), departure.marked_gone, record, None)


def _drained(master: Master, _now: float, agent_id: str, info: DrainInfo) -> None:
    record = master.registry.agents.get(agent_id)
    if record is None or record.drain_info is None:
        return
    record = replace(record, drain_info=info)
    master.registry.agents[agent_id] = record
    agent = master.agents.get(agent_id)
    if agent is not None:
        agent.drain_info = info
    master.note("Drained agent", agent=agent_id)
