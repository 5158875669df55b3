"""Agents that go silent or away: heartbeats, the way to unreachable, and the registry's old age.

::

    link broken or silent ─▶ ping_timeout ─▶ RemovalQueue ─▶ Save ─▶ unreachable: tasks reported
    not back after failover ─▶ agent_reregister_timeout ─┘   (rate limit; being heard of cancels)
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mesostk.base.core import Exit
from mesostk.master import converting, offers, registry, tasks
from mesostk.master.events import AgentStreamClosed, CloseAgentStream, Reply
from mesostk.master.state import Agent, TaskRecord
from mesostk.resources.resources import Resources
from mesostk.wire import link, scheduler
from mesostk.wire.mesos import AgentID, StatusReason, TaskState, TimeInfo

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: Heartbeats go to one of so many groups of agents at a time, so that no burst of 10,000 arises.
_SLOTS = 15


#: Records dropped in one save, well below the limit of a commit.
_PRUNED_AT_ONCE = 200


class HeartbeatWheel:
    """Groups of agents; one group's turn comes each `agent_ping_timeout` / 15."""

    def __init__(self) -> None:
        self.slots: list[dict[str, None]] = [{} for _ in range(_SLOTS)]
        self.turn = 0

    def add(self, agent_id: str) -> None:
        self._slot(agent_id)[agent_id] = None

    def discard(self, agent_id: str) -> None:
        self._slot(agent_id).pop(agent_id, None)

    def _slot(self, agent_id: str) -> dict[str, None]:
        return self.slots[zlib.crc32(agent_id.encode()) % _SLOTS]


class RemovalQueue:
    """Agents to be marked unreachable, as fast as `agent_removal_rate_limit` allows."""

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        self.allowed_at = 0.0
        self.is_armed = False


# -- going away ---------------------------------------------------------------------------------


def stream_closed(master: Master, now: float, event: AgentStreamClosed) -> None:
    """The link broke. Offers end; tasks that do not survive the agent are lost at once."""
    agent_id = master.links.pop(event.stream, None)
    if agent_id is None:
        return
    agent = master.agents[agent_id]
    agent.stream = None
    agent.heard_at = now
    master.note("Agent disconnected", agent=agent_id, hostname=agent.info.hostname)
    offers.end_all(master, now, agent.offers, rescind=True)
    for task in list(agent.tasks.values()):
        framework = master.frameworks[task.framework_id]
        if not framework.info.checkpoint:
            tasks.end_by_master(
                master,
                now,
                task,
                "TASK_LOST",
                "REASON_AGENT_DISCONNECTED",
                "Agent disconnected, and the framework does not checkpoint",
            )
    for framework_id, executor_id in list(agent.executors):
        if not master.frameworks[framework_id].info.checkpoint:
            tasks.remove_executor(master, now, agent, framework_id, executor_id)


def recover(master: Master, now: float) -> None:
    """Just elected: members have `agent_reregister_timeout` to come back."""
    master.recovered = dict(master.registry.agents)
    master.note(
        "Recovered registry",
        agents=len(master.recovered),
        unreachable=len(master.registry.unreachable),
        gone=len(master.registry.gone),
    )
    config = master.config
    if master.recovered and master.registry.quotas:
        master.allocator.is_recovering = True
        master.timers.at(now + config.allocator_recovery_timeout_s, _waited_enough)
    master.members_at_election = len(master.recovered)
    if master.recovered:
        master.timers.at(
            now + config.agent_reregister_timeout_s, _reregister_timed_out, len(master.recovered)
        )
    master.timers.at(now + config.agent_ping_timeout_s / _SLOTS, _heartbeats)
    master.timers.at(now + config.registry_gc_interval_s, _prune_registry)


def _waited_enough(master: Master, now: float) -> None:
    """Timer: `--allocator_recovery_timeout` after an election with quotas set."""
    master.allocator.recovered(now)


def count_back(master: Master, now: float) -> None:
    """An agent is back after a failover; enough of them let offers be made again."""
    wanted = master.config.allocator_agent_recovery_factor * master.members_at_election
    if master.allocator.is_recovering and len(master.agents) >= wanted:
        master.allocator.recovered(now)


def _reregister_timed_out(master: Master, now: float, expected: int) -> None:
    """Timer: members that have not come back since the election are unreachable."""
    missing = sorted(master.recovered)
    limit = master.config.recovery_agent_removal_limit
    if len(missing) / expected > limit:
        master.emit(
            Exit(
                f"{len(missing)} of {expected} agents did not come back within"
                f" {master.config.agent_reregister_timeout_s:.0f} s, more than"
                f" --recovery_agent_removal_limit={limit:.0%} allows to remove"
            )
        )
        return
    for agent_id in missing:
        master.counters["recovery_slave_removals"] += 1
        _schedule_removal(master, now, agent_id, "did not re-register after master failover")


def _heartbeats(master: Master, now: float) -> None:
    """Timer: one group's turn. Whoever said nothing for too long is to be marked unreachable."""
    wheel = master.heartbeats
    limit = master.config.ping_timeout_s
    for agent_id in list(wheel.slots[wheel.turn]):
        agent = master.agents[agent_id]
        if now - agent.heard_at >= limit:
            _schedule_removal(master, now, agent_id, "health check timed out")
        elif agent.stream is not None:
            master.send_agent(agent.stream, link.Heartbeat())
    wheel.turn = (wheel.turn + 1) % _SLOTS
    master.timers.at(now + master.config.agent_ping_timeout_s / _SLOTS, _heartbeats)


def _schedule_removal(master: Master, now: float, agent_id: str, why: str) -> None:
    if agent_id in master.removals.waiting or agent_id in master.leaving:
        return
    master.counters["slave_unreachable_scheduled"] += 1
    master.removals.waiting[agent_id] = why
    _remove_waiting(master, now)


def cancel_removal(master: Master, agent_id: str) -> None:
    """The agent was heard of, or leaves otherwise."""
    if master.removals.waiting.pop(agent_id, None) is not None:
        master.counters["slave_unreachable_canceled"] += 1


def _removals_allowed(master: Master, now: float) -> None:
    """Timer: the rate limit lets one more through."""
    master.removals.is_armed = False
    _remove_waiting(master, now)


def _remove_waiting(master: Master, now: float) -> None:
    queue = master.removals
    rate = master.config.agent_removal_rate
    while queue.waiting and (rate is None or now >= queue.allowed_at):
        agent_id = next(iter(queue.waiting))
        why = queue.waiting.pop(agent_id)
        if agent_id in master.leaving:
            continue
        if rate is not None:
            queue.allowed_at = max(now, queue.allowed_at) + rate[1] / rate[0]
        _save_unreachable(master, now, agent_id, why)
    if queue.waiting and not queue.is_armed:
        queue.is_armed = True
        master.timers.at(queue.allowed_at, _removals_allowed)


def _save_unreachable(master: Master, now: float, agent_id: str, why: str) -> None:
    known = master.registry.agents[agent_id]
    record = registry.UnreachableRecord(
        id=AgentID(agent_id),
        time=TimeInfo(nanoseconds=int(master.wall(now) * 1e9)),
        deactivated=known.deactivated,
        drain_info=known.drain_info,
    )
    master.leaving[agent_id] = "unreachable"
    master.save(registry.mark_unreachable(record), _saved_unreachable, record, why)


def _saved_unreachable(
    master: Master, now: float, record: registry.UnreachableRecord, why: str
) -> None:
    agent_id = record.id.value
    del master.leaving[agent_id]
    del master.registry.agents[agent_id]
    master.registry.unreachable[agent_id] = record
    master.counters["slave_unreachable_completed"] += 1
    master.note("Marked agent unreachable", level="WARNING", agent=agent_id, why=why)
    if agent_id in master.recovered:
        del master.recovered[agent_id]
    else:
        master.counters["slave_removals"] += 1
        master.counters["slave_removals/reason_unhealthy"] += 1
        agent = master.agents[agent_id]
        _end_work(master, now, agent)
        for task in list(agent.tasks.values()):
            _leave_unreachable(master, now, agent, task, record, why)
        converting.end_all(master, agent, "OPERATION_UNREACHABLE", why)
        _detach(master, agent)
    tell_lost(master, agent_id)


def _leave_unreachable(
    master: Master,
    now: float,
    agent: Agent,
    task: TaskRecord,
    record: registry.UnreachableRecord,
    why: str,
) -> None:
    """One task of an agent that became unreachable."""
    if task.is_terminal:
        tasks.remove(master, task)
        return
    framework = master.frameworks[task.framework_id]
    state: TaskState = "TASK_UNREACHABLE" if framework.is_partition_aware else "TASK_LOST"
    status = replace(
        tasks.master_status(
            master,
            now,
            task.task_id,
            agent.id,
            state,
            "REASON_AGENT_REMOVED",
            f"Agent {agent.info.hostname} is unreachable: {why}",
        ),
        unreachable_time=record.time,
    )
    tasks.apply_status(master, now, task, status)
    if not task.is_terminal:
        master.allocator.give_back(agent, framework.id, task.role, task.held, now)
    tasks.remove_unreachable(master, task)
    tasks.send_update(master, framework, status)


def _end_work(master: Master, now: float, agent: Agent) -> None:
    """Offers and executors of an agent that leaves."""
    offers.end_all(master, now, agent.offers, rescind=True)
    for framework_id, executor_id in list(agent.executors):
        tasks.remove_executor(master, now, agent, framework_id, executor_id)


def _detach(master: Master, agent: Agent) -> None:
    """Forget an agent that has no tasks, executors or offers any more."""
    if agent.stream is not None:
        del master.links[agent.stream]
        master.emit(CloseAgentStream(agent.stream))
    master.heartbeats.discard(agent.id)
    master.forget_inverse_offers(agent.id)
    master.allocator.change_total(agent.total, Resources())
    master.allocator.clear_refusals_of_agent(agent.id)
    if master.agent_at.get(agent.address) == agent.id:
        del master.agent_at[agent.address]
    del master.agents[agent.id]


def tell_lost(master: Master, agent_id: str) -> None:
    """FAILURE to every connected framework."""
    failure = scheduler.Event(type="FAILURE", failure=scheduler.Failure(agent_id=AgentID(agent_id)))
    for framework_id in list(master.schedulers.values()):
        master.tell(master.frameworks[framework_id], failure)


def remove(
    master: Master,
    now: float,
    agent_id: str,
    state: TaskState,
    reason: StatusReason,
    why: str,
) -> None:
    """Forget a registered agent for good: its tasks end in `state`, or TASK_LOST for frameworks
    that are not partition-aware."""
    agent = master.agents[agent_id]
    master.registry.agents.pop(agent_id, None)
    cancel_removal(master, agent_id)
    _end_work(master, now, agent)
    for task in list(agent.tasks.values()):
        aware = master.frameworks[task.framework_id].is_partition_aware
        tasks.end_by_master(master, now, task, state if aware else "TASK_LOST", reason, why)
    converting.end_all(master, agent, "OPERATION_GONE_BY_OPERATOR", why)
    _detach(master, agent)
    tell_lost(master, agent_id)


def marked_gone(
    master: Master, now: float, record: registry.GoneRecord, request: int | None
) -> None:
    """The agent is saved as gone: it ends, with all it runs. `request` is answered, if any."""
    agent_id = record.id.value
    del master.leaving[agent_id]
    master.registry.gone[agent_id] = record
    master.registry.agents.pop(agent_id, None)
    master.registry.unreachable.pop(agent_id, None)
    master.recovered.pop(agent_id, None)
    master.note("Marked agent gone", level="WARNING", agent=agent_id)
    why = "Agent has been marked gone"
    agent = master.agents.get(agent_id)
    if agent is not None:
        tasks.agents_send(master, agent, link.Shutdown(message=why))
        remove(
            master,
            now,
            agent_id,
            "TASK_GONE_BY_OPERATOR",
            "REASON_AGENT_REMOVED_BY_OPERATOR",
            why,
        )
    else:
        _end_unreachable(master, now, agent_id, why)
    if request is not None:
        master.emit(Reply(request, 200))


def _end_unreachable(master: Master, now: float, agent_id: str, why: str) -> None:
    """Tasks that might have come back with the agent never will."""
    for framework_id, task_id in master.unreachable_on.pop(agent_id, {}):
        framework = master.frameworks[framework_id]
        status = tasks.master_status(
            master,
            now,
            task_id,
            agent_id,
            "TASK_GONE_BY_OPERATOR" if framework.is_partition_aware else "TASK_LOST",
            "REASON_AGENT_REMOVED_BY_OPERATOR",
            why,
        )
        tasks.complete_unreachable(master, framework, status)
        tasks.send_update(master, framework, status)


# -- the registry's old age ---------------------------------------------------------------------


def _prune_registry(master: Master, now: float) -> None:
    """Timer: each `registry_gc_interval`."""
    config = master.config
    lists: dict[str, dict[str, Any]] = {
        registry.UNREACHABLE: master.registry.unreachable,
        registry.GONE: master.registry.gone,
    }
    for kind, records in lists.items():
        times = [(agent_id, record.time.nanoseconds / 1e9) for agent_id, record in records.items()]
        oldest_at = master.wall(now) - config.registry_max_agent_age_s
        old = registry.expired(times, oldest_at, config.registry_max_agent_count)
        for start in range(0, len(old), _PRUNED_AT_ONCE):
            some = old[start : start + _PRUNED_AT_ONCE]
            master.save(registry.prune(kind, some), _pruned, kind, some)
    master.timers.at(now + config.registry_gc_interval_s, _prune_registry)


def _pruned(master: Master, _now: float, kind: str, agent_ids: list[str]) -> None:
    unreachable = kind == registry.UNREACHABLE
    records: dict[str, Any] = master.registry.unreachable if unreachable else master.registry.gone
    for agent_id in agent_ids:
        records.pop(agent_id, None)
