"""An agent arrives, new or back: its tasks are compared with what the master holds; it wins.

::

    brought and known      the agent's state counts
    brought, not known     added (the master failed over, or the agent was unreachable)
    known, not brought     the agent is asked (`Registered.report`) and answers with an update
    of a removed framework the agent is told to shut that framework down
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesostk.master import (
    converting,
    departure,
    draining,
    frameworks,
    offers,
    registry,
    tasks,
    views,
)
from mesostk.master.events import CloseAgentStream
from mesostk.master.state import Agent, Executor, Framework, TaskRecord
from mesostk.resources import conversions
from mesostk.resources.resources import Resources
from mesostk.wire import link
from mesostk.wire.mesos import AgentID, Task

if TYPE_CHECKING:
    from mesostk.master.core import Master


def register(
    master: Master,
    now: float,
    stream: str | None,
    message: link.Subscribe,
    record: registry.AgentRecord,
    *,
    was_unreachable: bool = False,
) -> None:
    """The agent is a member and comes over `stream` (None: that broke meanwhile)."""
    assert record.info.id is not None
    agent_id = record.info.id.value
    agent = master.agents.get(agent_id)
    is_new = agent is None
    if agent is None:
        agent = _add(master, now, agent_id, message, record)
    _attach(master, now, agent, stream)
    agent.info = record.info
    agent.version = message.version
    agent.capabilities = frozenset(item.type for item in message.capabilities if item.type)
    agent.resource_version = message.resource_version
    shutdowns = _recover_frameworks(master, now, message)
    converting.take(master, agent, message.operations)
    set_total(master, now, agent, total_of(message))
    if is_new and master.subscribers:
        master.publish(views.agent_added(master, agent))
    lost, doubles = _take_tasks(master, now, agent, message, was_unreachable=was_unreachable)
    _take_executors(master, now, agent, message)
    master.allocator.recompute(agent)
    master.allocator.mark(agent.id, now)
    departure.count_back(master, now)
    if stream is not None:
        _greet(master, agent, message, lost, [*shutdowns, *doubles])
    master.note(
        "Registered agent" if is_new else "Re-registered agent",
        agent=agent_id,
        hostname=agent.info.hostname,
        ip=agent.ip,
        tasks=len(agent.tasks),
    )


def _add(
    master: Master, now: float, agent_id: str, message: link.Subscribe, record: registry.AgentRecord
) -> Agent:
    agent = Agent(
        id=agent_id,
        info=record.info,
        ip=message.ip,
        version=message.version,
        capabilities=frozenset(),
        total=Resources(),
        free=Resources(),
        stream=None,
        heard_at=now,
        registered_at=master.wall(now),
        deactivated=record.deactivated,
        drain_info=record.drain_info,
    )
    master.agents[agent_id] = agent
    master.agent_at[agent.address] = agent_id
    master.heartbeats.add(agent_id)
    return agent


def _attach(master: Master, now: float, agent: Agent, stream: str | None) -> None:
    """Tie the agent to its new link; an older one is closed."""
    offers.end_all(master, now, agent.offers, rescind=True)
    if agent.stream is not None:
        del master.links[agent.stream]
        master.emit(CloseAgentStream(agent.stream))
    agent.stream = stream
    agent.heard_at = now
    if stream is not None:
        master.links[stream] = agent.id


def total_of(message: link.Subscribe) -> Resources:
    """The agent's resources with its dynamic reservations and volumes put in their place."""
    kept = Resources.of(message.checkpointed_resources)
    return conversions.with_kept(Resources.of(message.agent_info.resources), kept)[0]


def set_total(master: Master, now: float, agent: Agent, total: Resources) -> None:
    """What the agent has altogether; offers of what it had before end if that changed."""
    if total == agent.total:
        return
    offers.end_all(master, now, agent.offers, rescind=True)
    master.allocator.change_total(agent.total, total)
    master.allocator.clear_refusals_of_agent(agent.id)
    agent.total = total
    master.allocator.recompute(agent)
    master.allocator.mark(agent.id, now)


def _recover_frameworks(
    master: Master, now: float, message: link.Subscribe
) -> list[link.ShutdownFramework]:
    """Frameworks that only the agent knows; and those it must be told are over."""
    over = []
    for info in message.frameworks:
        if info.id is None:
            continue
        if info.id.value in master.completed_frameworks:
            over.append(link.ShutdownFramework(framework_id=info.id))
        elif info.id.value not in master.frameworks:
            frameworks.recover(master, now, info)
    return over


# -- tasks --------------------------------------------------------------------------------------


def _take_tasks(
    master: Master, now: float, agent: Agent, message: link.Subscribe, *, was_unreachable: bool
) -> tuple[list[link.TaskRef], list[link.Kill]]:
    """Make the master's tasks of the agent those it brought.

    Returns what it did not bring, and kills of tasks that cannot be taken.
    """
    missing = {
        key: link.TaskRef(framework_id=task.wire.framework_id, task_id=task.wire.task_id)
        for key, task in agent.tasks.items()
    }
    missing.update(master.unreachable_on.get(agent.id, {}))
    doubles = []
    for brought in message.tasks:
        key = (brought.framework_id.value, brought.task_id.value)
        missing.pop(key, None)
        framework = master.frameworks.get(key[0])
        if framework is None:
            continue
        wire = replace(brought, agent_id=AgentID(agent.id))
        known = agent.tasks.get(key)
        if known is not None:
            _correct(master, now, agent, known, wire)
        elif key[1] in framework.tasks:
            doubles.append(_kill_double(master, agent, framework, wire))
            continue
        else:
            tasks.forget_unreachable(master, framework, key[1])
            tasks.add(master, agent, framework, _record(framework, wire))
        if was_unreachable and not agent.tasks[key].is_terminal:
            _tell_back(master, now, framework, agent.tasks[key])
    return list(missing.values()), doubles


def _record(framework: Framework, wire: Task) -> TaskRecord:
    held = Resources.of(wire.resources)
    roles = sorted(held.allocations())
    if not roles:
        # An agent that keeps tasks without their allocation: only one role is possible then.
        roles = sorted(framework.roles) or ["*"]
        held = held.allocate(roles[0])
    return TaskRecord(wire, roles[0], held)


def _correct(master: Master, now: float, agent: Agent, known: TaskRecord, wire: Task) -> None:
    """The agent's word on a task that the master knows."""
    before = known.wire.state
    framework_id = known.framework_id
    if not known.is_terminal:
        master.allocator.give_back(agent, framework_id, known.role, known.held, now)
    statuses = wire.statuses or known.wire.statuses
    known.wire = replace(
        known.wire,
        state=wire.state,
        statuses=statuses,
        status_update_state=wire.status_update_state,
        status_update_uuid=wire.status_update_uuid,
    )
    if not known.is_terminal:
        master.allocator.hold(agent, framework_id, known.role, known.held)
    if before != wire.state and statuses and master.subscribers:
        updated = views.task_updated(framework_id, statuses[-1], wire.state)
        master.publish(updated, known.wire)


def _kill_double(master: Master, agent: Agent, framework: Framework, wire: Task) -> link.Kill:
    """The id is in use on another agent: two of a kind cannot be told apart, the late one goes."""
    other = framework.tasks[wire.task_id.value].agent_id
    master.note(
        "Killing task with an id in use",
        level="ERROR",
        task=wire.task_id.value,
        framework=framework.id,
        agent=agent.id,
        other_agent=other,
    )
    return link.Kill(framework_id=wire.framework_id, task_id=wire.task_id)


def _tell_back(master: Master, now: float, framework: Framework, task: TaskRecord) -> None:
    status = tasks.master_status(
        master,
        now,
        task.task_id,
        task.agent_id,
        task.wire.state,
        "REASON_AGENT_REREGISTERED",
        "Unreachable agent re-reregistered",
    )
    tasks.send_update(master, framework, status)


def _take_executors(master: Master, now: float, agent: Agent, message: link.Subscribe) -> None:
    brought = {
        (item.framework_id.value, item.executor.executor_id.value): item.executor
        for item in message.executors
    }
    for framework_id, executor_id in list(agent.executors):
        if (framework_id, executor_id) not in brought:
            tasks.remove_executor(master, now, agent, framework_id, executor_id)
    for key, info in brought.items():
        framework = master.frameworks.get(key[0])
        if framework is None or key in agent.executors:
            continue
        held = Resources.of(info.resources)
        roles = sorted(held.allocations()) or sorted(framework.roles) or ["*"]
        if not held.allocations():
            held = held.allocate(roles[0])
        executor = Executor(info, roles[0], held)
        tasks.add_executor(master, agent, framework, executor)


# -- the answer ---------------------------------------------------------------------------------


def _greet(
    master: Master,
    agent: Agent,
    message: link.Subscribe,
    lost: list[link.TaskRef],
    orders: list[link.ShutdownFramework | link.Kill],
) -> None:
    """REGISTERED, then what the agent missed: ends of frameworks, their changes, kills."""
    assert master.epoch is not None
    greeting = link.Registered(
        agent_id=AgentID(agent.id),
        epoch=master.epoch,
        heartbeat_s=master.config.agent_ping_timeout_s,
        ping_timeout_s=master.config.ping_timeout_s,
        protocol=link.PROTOCOL,
        report=tuple(lost),
    )
    tasks.agents_send(master, agent, greeting)
    for order in orders:
        tasks.agents_send(master, agent, order)
    for info in message.frameworks:
        framework = None if info.id is None else master.frameworks.get(info.id.value)
        if framework is not None and framework.info != info:
            update = link.UpdateFramework(framework=framework.info)
            tasks.agents_send(master, agent, update)
    draining.remind(master, agent)
    kills, agent.kills = agent.kills, {}
    for key, policy in kills.items():
        task = agent.tasks.get(key)
        if task is not None and not task.is_terminal:
            kill = link.Kill(
                framework_id=task.wire.framework_id,
                task_id=task.wire.task_id,
                kill_policy=policy,
            )
            tasks.agents_send(master, agent, kill)
