"""Operators: their event stream and their changing calls.

A call of `CALLS` is answered with exactly one `Reply`, after what it changes is saved. Reading
calls never get here: `operator.py` answers them from `views`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mesostk.master import (
    departure,
    draining,
    frameworks,
    maintenance,
    offers,
    operator_resources,
    permits,
    quota_calls,
    registry,
    weights,
)
from mesostk.master.events import (
    CloseOperatorStream,
    GreetOperator,
    OperatorCalled,
    OperatorStreamClosed,
    OperatorSubscribed,
    Reply,
    SendToOperator,
)
from mesostk.wire import operator
from mesostk.wire.mesos import AgentID, TimeInfo

if TYPE_CHECKING:
    from mesostk.master.core import Master


# -- the event stream ---------------------------------------------------------------------------


def subscribed(master: Master, now: float, event: OperatorSubscribed) -> None:
    """The whole state first, then what changes; beyond the limit the oldest subscriber goes."""
    master.subscribers[event.stream] = None
    if len(master.subscribers) > master.config.max_operator_subscribers:
        oldest = next(iter(master.subscribers))
        del master.subscribers[oldest]
        master.emit(CloseOperatorStream(oldest))
    master.emit(GreetOperator(event.stream, event.principal, master.config.heartbeat_s))
    _heartbeat(master, now, event.stream)


def _heartbeat(master: Master, now: float, stream: str) -> None:
    """Timer: each `heartbeat_s` of one subscriber."""
    if stream in master.subscribers:
        master.emit(SendToOperator(stream, operator.Event(type="HEARTBEAT")))
        master.timers.at(now + master.config.heartbeat_s, _heartbeat, stream)


def stream_closed(master: Master, _now: float, event: OperatorStreamClosed) -> None:
    master.subscribers.pop(event.stream, None)


# -- calls --------------------------------------------------------------------------------------


def called(master: Master, now: float, event: OperatorCalled) -> None:
    """A call with a row in `CALLS`; its sub-message is there (`operator.py` looked)."""
    call = event.call
    assert call.type is not None
    if call.type in operator_resources.OPERATIONS:
        operator_resources.called(master, now, event)
        return
    if not permits.may_call(master, call, event.principal):
        master.emit(Reply(event.request, 403, "403 Forbidden."))
        return
    CALLS[call.type](master, now, event.request, getattr(call, call.type.lower()))


def _teardown(master: Master, now: float, request: int, call: operator.Teardown) -> None:
    framework = master.frameworks.get(call.framework_id.value)
    if framework is None:
        master.emit(Reply(request, 400, "No framework found with specified ID"))
        return
    frameworks.remove(master, now, framework)
    master.emit(Reply(request, 200))


def _mark_gone(master: Master, now: float, request: int, call: operator.AgentRef) -> None:
    agent_id = call.agent_id.value
    if agent_id in master.registry.gone:
        master.emit(Reply(request, 200))
        return
    if agent_id in master.leaving:
        why = f"Agent is being marked {master.leaving[agent_id]}; try again"
        master.emit(Reply(request, 503, why))
        return
    if agent_id not in master.registry.agents and agent_id not in master.registry.unreachable:
        master.emit(Reply(request, 404, f"Agent '{agent_id}' not found"))
        return
    record = registry.GoneRecord(
        id=AgentID(agent_id), time=TimeInfo(nanoseconds=int(master.wall(now) * 1e9))
    )
    master.leaving[agent_id] = "gone"
    master.save(registry.mark_gone(record), departure.marked_gone, record, request)


def _set_deactivated(
    master: Master, _now: float, request: int, agent_id: str, *, deactivated: bool
) -> None:
    record = master.registry.agents[agent_id]
    changed = replace(
        record,
        deactivated=deactivated,
        drain_info=record.drain_info if deactivated else None,
    )
    ops = registry.update(agent_id, changed)
    master.save(ops, _deactivation_saved, agent_id, deactivated, request)


def _deactivate(master: Master, now: float, request: int, call: operator.AgentRef) -> None:
    agent_id = call.agent_id.value
    if agent_id not in master.registry.agents or agent_id in master.leaving:
        master.emit(Reply(request, 400, f"Unknown agent '{agent_id}'"))
        return
    _set_deactivated(master, now, request, agent_id, deactivated=True)


def _reactivate(master: Master, now: float, request: int, call: operator.AgentRef) -> None:
    agent_id = call.agent_id.value
    record = master.registry.agents.get(agent_id)
    if record is None or agent_id in master.leaving:
        master.emit(Reply(request, 400, f"Unknown agent '{agent_id}'"))
    elif not record.deactivated:
        master.emit(Reply(request, 400, "Agent is not deactivated"))
    elif record.drain_info is not None and record.drain_info.state == "DRAINING":
        master.emit(Reply(request, 400, "Agent is still in the DRAINING state"))
    else:
        _set_deactivated(master, now, request, agent_id, deactivated=False)


def _deactivation_saved(
    master: Master, now: float, agent_id: str, deactivated: bool, request: int
) -> None:
    record = master.registry.agents.get(agent_id)
    if record is None:
        master.emit(Reply(request, 409, f"Agent '{agent_id}' is no longer registered"))
        return
    record = replace(
        record,
        deactivated=deactivated,
        drain_info=record.drain_info if deactivated else None,
    )
    master.registry.agents[agent_id] = record
    if agent_id in master.recovered:
        master.recovered[agent_id] = record
    agent = master.agents.get(agent_id)
    if agent is not None:
        agent.deactivated = record.deactivated
        agent.drain_info = record.drain_info
        if deactivated:
            offers.end_all(master, now, agent.offers, rescind=True)
        else:
            master.allocator.mark(agent_id, now)
    master.note("Deactivated agent" if deactivated else "Reactivated agent", agent=agent_id)
    master.emit(Reply(request, 200))


CALLS: dict[str, Callable[[Master, float, int, Any], None]] = {
    "TEARDOWN": _teardown,
    "MARK_AGENT_GONE": _mark_gone,
    "DEACTIVATE_AGENT": _deactivate,
    "REACTIVATE_AGENT": _reactivate,
    "DRAIN_AGENT": draining.drain,
    "UPDATE_WEIGHTS": weights.update,
    "UPDATE_MAINTENANCE_SCHEDULE": maintenance.update_schedule,
    "START_MAINTENANCE": maintenance.start,
    "STOP_MAINTENANCE": maintenance.stop,
    "UPDATE_QUOTA": quota_calls.update,
    "SET_QUOTA": quota_calls.set_one,
    "REMOVE_QUOTA": quota_calls.remove,
}
