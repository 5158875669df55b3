"""Agents: admission, coming back, going silent, and what they call.

Nobody hears of a membership that is not saved: a new agent is answered, an unreachable one is
reported, only after `Saved`. While a leaving is being saved (`Master.leaving`) the agent is turned
away and tries again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mesostk.errors import Rejected
from mesostk.master import (
    arrival,
    converting,
    departure,
    maintenance,
    registry,
    tasks,
    validation,
    views,
)
from mesostk.master.events import (
    AgentCalled,
    AgentSubscribed,
    CloseAgentStream,
)
from mesostk.master.state import Agent
from mesostk.resources import validity
from mesostk.resources.resources import Resources
from mesostk.wire import link
from mesostk.wire.mesos import AgentID

if TYPE_CHECKING:
    from mesostk.master.core import Master

# -- subscribing --------------------------------------------------------------------------------


def refusal(message: link.Subscribe) -> Rejected | None:
    """Why the link is refused before anything is looked at: 426 for another protocol."""
    if abs(message.protocol - link.PROTOCOL) > 1:
        return Rejected(
            426,
            f"The agent speaks link protocol {message.protocol}, this master {link.PROTOCOL};"
            " upgrade step by step, one version at a time",
        )
    return None


def subscribed(master: Master, now: float, event: AgentSubscribed) -> None:
    """A new link: of a new agent, of one that comes back, or of one that must not."""
    message, stream = event.message, event.stream
    info = message.agent_info
    kind = "messages_register_slave" if info.id is None else "messages_reregister_slave"
    master.counters[kind] += 1
    why = validation.agent_error(message, master.config)
    if why is not None:
        _turn_away(master, stream, why)
        return
    down = maintenance.why_down(master, info.hostname, message.ip)
    if down is not None:
        _turn_away(master, stream, down, shutdown=True)
        return
    if info.id is None:
        _admit(master, now, stream, message)
        return
    agent_id = info.id.value
    if agent_id in master.registry.gone:
        _turn_away(master, stream, "Agent has been marked gone", shutdown=True)
    elif agent_id in master.leaving:
        _turn_away(master, stream, f"Agent is being marked {master.leaving[agent_id]}")
    else:
        _readmit(master, now, stream, agent_id, message)


def _turn_away(master: Master, stream: str, why: str, *, shutdown: bool = False) -> None:
    master.note("Turning agent away", level="WARNING", why=why)
    if shutdown:
        master.send_agent(stream, link.Shutdown(message=why))
    master.emit(CloseAgentStream(stream))


def _admit(master: Master, _now: float, stream: str, message: link.Subscribe) -> None:
    """An agent without id. One that was at the same address before has lost its work_dir."""
    agent_id = f"{master.id}-S{master.new_number('agent')}"
    message = replace(message, agent_info=replace(message.agent_info, id=AgentID(agent_id)))
    record = registry.AgentRecord(info=message.agent_info, ip=message.ip)
    ops = registry.admit(agent_id, record)
    replaced = master.agent_at.get((message.ip, message.agent_info.port))
    if replaced is not None and replaced not in master.leaving:
        ops = registry.remove(replaced) + ops
        master.leaving[replaced] = "replaced"
    else:
        replaced = None
    master.links[stream] = None
    master.save(ops, _admitted, stream, message, record, replaced)


def _admitted(
    master: Master,
    now: float,
    stream: str,
    message: link.Subscribe,
    record: registry.AgentRecord,
    replaced: str | None,
) -> None:
    if replaced is not None:
        del master.leaving[replaced]
        master.counters["slave_removals"] += 1
        master.counters["slave_removals/reason_registered"] += 1
        why = "A new agent registered at its address"
        departure.remove(master, now, replaced, "TASK_LOST", "REASON_AGENT_REMOVED", why)
        if master.subscribers:
            master.publish(views.agent_removed(replaced))
    agent_id = record_id(record)
    master.registry.agents[agent_id] = record
    master.counters["slave_registrations"] += 1
    arrival.register(master, now, _still_open(master, stream), message, record)


def _still_open(master: Master, stream: str) -> str | None:
    """The stream, if it outlived the saving; what was saved counts either way."""
    return stream if stream in master.links else None


def record_id(record: registry.AgentRecord) -> str:
    """The id of a record that was read or made by this master: it has one."""
    assert record.info.id is not None
    return record.info.id.value


def _readmit(
    master: Master, now: float, stream: str, agent_id: str, message: link.Subscribe
) -> None:
    """A member that comes back as it was is not written again."""
    known = master.registry.agents.get(agent_id)
    unreachable = master.registry.unreachable.get(agent_id)
    if known is not None and (known.ip, known.info.hostname) != (
        message.ip,
        message.agent_info.hostname,
    ):
        why = (
            f"Agent {agent_id} was registered at {known.info.hostname} ({known.ip}) and came back"
            f" at {message.agent_info.hostname} ({message.ip}); remove its work_dir's meta"
            " directory to register as a new agent"
        )
        _turn_away(master, stream, why, shutdown=True)
        return
    master.links[stream] = None
    if known is not None and known.info == message.agent_info:
        _readmitted(master, now, stream, message, known)
        return
    before = known if known is not None else unreachable
    record = registry.AgentRecord(
        info=message.agent_info,
        ip=message.ip,
        deactivated=before is not None and before.deactivated,
        drain_info=None if before is None else before.drain_info,
    )
    # Also for an id that is in no list: it may have been pruned from the unreachable ones.
    master.save(registry.admit(agent_id, record), _readmitted, stream, message, record)


def _readmitted(
    master: Master, now: float, stream: str, message: link.Subscribe, record: registry.AgentRecord
) -> None:
    agent_id = record_id(record)
    if agent_id in master.registry.gone or agent_id in master.leaving:
        # Decided while this was being saved; the later save wins.
        master.links.pop(stream, None)
        _turn_away(master, stream, "Agent is leaving", shutdown=agent_id in master.registry.gone)
        return
    decided = master.registry.agents.get(agent_id)
    if decided is not None and decided.deactivated != record.deactivated:
        # An operator decided while this was being saved, and must not be forgotten.
        record = replace(record, deactivated=decided.deactivated, drain_info=decided.drain_info)
        master.save(registry.update(agent_id, record), _kept_decision)
    master.registry.agents[agent_id] = record
    was_unreachable = master.registry.unreachable.pop(agent_id, None) is not None
    master.recovered.pop(agent_id, None)
    master.counters["slave_reregistrations"] += 1
    departure.cancel_removal(master, agent_id)
    still_open = _still_open(master, stream)
    if still_open is None and agent_id in master.agents:
        return
    arrival.register(master, now, still_open, message, record, was_unreachable=was_unreachable)
    master.agents[agent_id].reregistered_at = master.wall(now)


def _kept_decision(_master: Master, _now: float) -> None:
    """The record says again what it said before it was overtaken."""


# -- calls --------------------------------------------------------------------------------------


def called(master: Master, now: float, event: AgentCalled) -> None:
    """Calls of one POST; any of them shows that the agent is alive."""
    agent_id = master.links.get(event.stream)
    if agent_id is None:
        master.counters["dropped_messages"] += len(event.messages)
        return
    agent = master.agents[agent_id]
    agent.heard_at = now
    departure.cancel_removal(master, agent_id)
    for message in event.messages:
        CALLS[type(message)](master, now, agent, message)


def _pong(master: Master, now: float, agent: Agent, message: link.Pong) -> None:
    """Being called was all."""


def _subscribe_again(master: Master, _now: float, agent: Agent, _message: link.Subscribe) -> None:
    """SUBSCRIBE opens a link and cannot be sent on one."""
    master.counters["dropped_messages"] += 1
    master.note("Ignoring SUBSCRIBE on an open link", level="WARNING", agent=agent.id)


def _update_agent(master: Master, now: float, agent: Agent, message: link.UpdateAgent) -> None:
    """New totals: what was offered of the old ones is taken back."""
    master.counters["messages_update_slave"] += 1
    agent.resource_version = message.resource_version
    if not message.resources and not message.oversubscribed_resources:
        return
    resources = (*message.resources, *message.oversubscribed_resources)
    why = validity.why_not_all(resources)
    if why is not None:
        master.note("Ignoring resources of agent", level="WARNING", agent=agent.id, why=why)
        return
    total = converting.rebooked(agent, Resources.of(resources))
    arrival.set_total(master, now, agent, total)


def _unregister(master: Master, _now: float, agent: Agent, _message: link.Unregister) -> None:
    """An operator ends the agent for good. Source: spec §1.6, §8.1."""
    master.counters["messages_unregister_slave"] += 1
    if agent.id not in master.leaving:
        master.leaving[agent.id] = "unregistered"
        master.save(registry.remove(agent.id), _unregistered, agent.id)


def _unregistered(master: Master, now: float, agent_id: str) -> None:
    del master.leaving[agent_id]
    master.counters["slave_removals"] += 1
    master.counters["slave_removals/reason_unregistered"] += 1
    master.note("Agent unregistered", agent=agent_id)
    why = "The agent unregistered"
    departure.remove(master, now, agent_id, "TASK_LOST", "REASON_AGENT_REMOVED", why)
    if master.subscribers:
        master.publish(views.agent_removed(agent_id))


CALLS: dict[type[link.Up], Callable[[Master, float, Agent, Any], None]] = {
    link.Pong: _pong,
    link.Subscribe: _subscribe_again,
    link.StatusUpdates: tasks.status_updates,
    link.ExitedExecutor: tasks.exited_executor,
    link.ExecutorMessage: tasks.executor_message,
    link.UpdateAgent: _update_agent,
    link.OperationUpdate: converting.updated,
    link.Unregister: _unregister,
}
