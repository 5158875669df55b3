"""The master's own metrics, read from the core's state (names: spec/mesos.md §11 and §15.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from operator import attrgetter
from typing import get_args
from urllib.parse import quote

from mesostk.master.core import Master
from mesostk.master.views import used_on
from mesostk.resources.resources import Resources
from mesostk.wire import scheduler

_RESOURCES = ("cpus", "gpus", "mem", "disk")
_LIVE_STATES = ("staging", "starting", "running", "killing")
_ENDS = (
    "finished", "failed", "killed", "lost", "error", "dropped", "gone", "gone_by_operator",
)  # fmt: skip

OPERATIONS = (
    "create", "create_disk", "destroy", "destroy_disk", "grow_volume", "reserve", "shrink_volume",
    "unreserve",
)  # fmt: skip
_OPERATION_STATES = (
    "dropped", "error", "failed", "finished", "gone_by_operator", "pending", "recovering", "total",
    "unreachable",
)  # fmt: skip

#: Counters that are shown as 0 before the first event; the others appear with it.
_COUNTERS = (
    *(f"tasks_{state}" for state in _ENDS),
    "dropped_messages",
    "recovery_slave_removals",
    "slave_registrations",
    "slave_removals",
    "slave_removals/reason_registered",
    "slave_removals/reason_unhealthy",
    "slave_removals/reason_unregistered",
    "slave_reregistrations",
    "slave_unreachable_canceled",
    "slave_unreachable_completed",
    "slave_unreachable_scheduled",
    # Older names, of removals that shut agents down; here they are marked unreachable.
    "slave_shutdowns_canceled",
    "slave_shutdowns_completed",
    "slave_shutdowns_scheduled",
    *(
        f"operations/{name}{state}"
        for name in ("", *(f"{kind}/" for kind in OPERATIONS))
        for state in _OPERATION_STATES
    ),
    *(
        f"messages_{name}"
        for name in (
            "authenticate", "deactivate_framework", "decline_offers", "executor_to_framework",
            "exited_executor",
            "framework_to_executor", "kill_task", "launch_tasks", "operation_status_update",
            "operation_status_update_acknowledgement", "reconcile_operations", "reconcile_tasks",
            "register_framework", "register_slave", "reregister_framework", "reregister_slave",
            "resource_request", "revive_offers", "status_update",
            "status_update_acknowledgement", "suppress_offers", "unregister_framework",
            "unregister_slave", "update_slave",
        )
    ),
    *(
        f"{validity}_{name}"
        for validity in ("valid", "invalid")
        for name in (
            "executor_to_framework_messages", "framework_to_executor_messages",
            "operation_status_updates", "operation_status_update_acknowledgements",
            "status_updates", "status_update_acknowledgements",
        )
    ),
)  # fmt: skip


#: Counters of each framework, shown as 0 before the first event, too.
_OF_FRAMEWORKS = (
    "calls", "events", "operations",
    *(f"calls/{str(name).lower()}" for name in get_args(scheduler.CallType) if name != "UNKNOWN"),
    *(f"events/{str(name).lower()}" for name in get_args(scheduler.EventType) if name != "UNKNOWN"),
    *(f"offers/{what}" for what in ("sent", "accepted", "declined", "rescinded")),
    *(f"operations/{name}" for name in (*OPERATIONS, "launch", "launch_group")),
    *(f"tasks/terminal/task_{state}" for state in _ENDS),
    "tasks/active/task_unknown",
)  # fmt: skip


def figures(
    master: Master, now_wall: float, *, elected: bool, per_framework: bool
) -> dict[str, float]:
    """Every figure of the core; `now_wall` in seconds since the epoch."""
    shown: dict[str, float] = {f"master/{name}": 0 for name in _COUNTERS}
    shown.update({f"master/{name}": value for name, value in master.counters.items()})
    # One event is handled whole before the next is taken in: nothing waits inside the master.
    for name in ("dispatches", "http_requests", "messages"):
        shown[f"master/event_queue_{name}"] = 0
    shown["allocator/event_queue_dispatches"] = 0
    shown["master/elected"] = float(elected)
    if master.started_at is not None:
        shown["master/uptime_secs"] = max(0.0, now_wall - master.started_at)
    shown.update(_members(master))
    shown.update(_operations(master))
    states = _states(master)
    shown.update(_tasks(master, states))
    shown.update(_resources(master))
    shown.update(_allocator(master))
    shown.update(_quotas(master))
    if per_framework:
        shown.update(_frameworks(master, states))
    return shown


def _members(master: Master) -> dict[str, float]:
    agents = list(master.agents.values())
    frameworks = list(master.frameworks.values())
    connected = sum(agent.stream is not None for agent in agents)
    active = sum(agent.is_active for agent in agents)
    subscribed = sum(framework.stream is not None for framework in frameworks)
    framework_active = sum(framework.active for framework in frameworks)
    return {
        "master/slaves_active": active,
        "master/slaves_inactive": len(agents) - active,
        "master/slaves_connected": connected,
        "master/slaves_disconnected": len(agents) - connected,
        "master/slaves_unreachable": len(master.registry.unreachable),
        "master/frameworks_active": framework_active,
        "master/frameworks_inactive": len(frameworks) - framework_active,
        "master/frameworks_connected": subscribed,
        "master/frameworks_disconnected": len(frameworks) - subscribed,
        "master/outstanding_offers": len(master.offers),
        "master/operator_event_stream_subscribers": len(master.subscribers),
        "registrar/queued_operations": master.saves_pending(),
    }


def _operations(master: Master) -> dict[str, float]:
    pending: Counter[str] = Counter()
    for agent in master.agents.values():
        for record in agent.operations.values():
            if record.is_pending:
                pending.update(("", f"{str(record.wire.info.type).lower()}/"))
    return {f"master/operations/{name}pending": count for name, count in pending.items()}


#: Framework id ↦ how many of its tasks are in which state.
_States = Mapping[str, Counter[str]]

_STATE = attrgetter("wire.state")


def _states(master: Master) -> _States:
    """Counted in one pass over tens of thousands of tasks, without a step of Python for each."""
    return {
        framework.id: Counter(map(_STATE, framework.tasks.values()))
        for framework in master.frameworks.values()
    }


def _tasks(master: Master, by_framework: _States) -> dict[str, float]:
    states: Counter[str] = Counter()
    for each in by_framework.values():
        states.update(each)
    shown: dict[str, float] = {
        f"master/tasks_{state}": states[f"TASK_{state.upper()}"] for state in _LIVE_STATES
    }
    shown["master/tasks_unreachable"] = sum(
        len(framework.unreachable_tasks) for framework in master.frameworks.values()
    )
    return shown


def _resources(master: Master) -> dict[str, float]:
    """From the allocator's sums: to add up ten thousand agents at each question takes too long."""
    allocator = master.allocator
    held: Counter[str] = Counter()
    for role in allocator.by_role:
        held.update(allocator.roles.allocated(role))
    for offer in master.offers.values():
        held.subtract(offer.resources.quantities())
    few = [agent for agent in master.agents.values() if agent.total.has_revocable]
    revocable = Resources.sum(agent.total for agent in few).revocable()
    revocable_held = Resources.sum(used_on(agent) for agent in few).revocable()
    shown: dict[str, float] = {}
    for name in _RESOURCES:
        amounts = revocable.scalar(name), revocable_held.scalar(name)
        plain = allocator.total.get(name, 0) - amounts[0], held[name] - amounts[1]
        for suffix, (whole, part) in (("", plain), ("_revocable", amounts)):
            shown[f"master/{name}{suffix}_total"] = whole / 1000
            shown[f"master/{name}{suffix}_used"] = part / 1000
            shown[f"master/{name}{suffix}_percent"] = part / whole if whole else 0.0
    return shown


def _allocator(master: Master) -> dict[str, float]:
    allocator = master.allocator
    shown: dict[str, float] = {
        "allocator/mesos/allocation_runs": allocator.runs,
        "allocator/mesos/event_queue_dispatches": len(allocator.dirty),
    }
    held = dict.fromkeys(_RESOURCES, 0)
    for role in allocator.by_role:
        shown[f"allocator/mesos/roles/{role}/shares/dominant"] = allocator.roles.share(role)
        shown[f"allocator/mesos/offer_filters/roles/{role}/active"] = 0
        for name in _RESOURCES:
            held[name] += allocator.roles.allocated(role).get(name, 0)
    for (_, role), refusals in allocator.refusals.items():
        name = f"allocator/mesos/offer_filters/roles/{role}/active"
        active = sum(len(filters) for filters in refusals.by_agent.values())
        shown[name] = shown.get(name, 0) + active
    for name in _RESOURCES:
        prefix = f"allocator/mesos/resources/{name}"
        shown[f"{prefix}/total"] = allocator.total.get(name, 0) / 1000
        shown[f"{prefix}/offered_or_allocated"] = held[name] / 1000
    return shown


def _quotas(master: Master) -> dict[str, float]:
    shown: dict[str, float] = {}
    quotas = master.allocator.quotas
    for role, quota in quotas.by_role.items():
        amounts = {
            "guarantee": quota.guarantees,
            "limit": quota.limits,
            "consumed": quotas.consumed(role),
            "offered_or_allocated": quotas.held(role),
        }
        for what, each in amounts.items():
            for name, amount in each.items():
                key = f"allocator/mesos/quota/roles/{role}/resources/{name}/{what}"
                shown[key] = amount / 1000
    return shown


def _frameworks(master: Master, by_framework: _States) -> dict[str, float]:
    shown: dict[str, float] = {}
    for framework in master.frameworks.values():
        if framework.info.principal is not None:
            processed = framework.counters.get("calls", 0)
            received = processed + framework.calls_not_processed
            for what, calls in (("received", received), ("processed", processed)):
                key = f"frameworks/{framework.info.principal}/messages_{what}"
                shown[key] = shown.get(key, 0) + calls
        prefix = f"master/frameworks/{quote(framework.info.name, safe='')}/{framework.id}"
        shown[f"{prefix}/subscribed"] = float(framework.stream is not None)
        for name in _OF_FRAMEWORKS:
            shown[f"{prefix}/{name}"] = 0
        for name, value in framework.counters.items():
            shown[f"{prefix}/{name}"] = value
        for role in framework.roles:
            shown[f"{prefix}/roles/{role}/suppressed"] = float(role in framework.suppressed)
        for state in _LIVE_STATES:
            count = by_framework[framework.id][f"TASK_{state.upper()}"]
            shown[f"{prefix}/tasks/active/task_{state}"] = count
        shown[f"{prefix}/tasks/active/task_unreachable"] = len(framework.unreachable_tasks)
    return shown
