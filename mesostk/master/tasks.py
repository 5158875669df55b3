"""Tasks: their life on the master, and the updates, acknowledgements and questions about them.

::

    ACCEPT ─▶ STAGING ─▶ STARTING ─▶ RUNNING ─▶ FINISHED, FAILED, KILLED …   (terminal: frees what
                 │           │          │             │                       it held; stays listed
                 └───────────┴──────────┴─▶ agent lost: UNREACHABLE | LOST    until acknowledged)

An update that carries a uuid goes to the framework as it came and stays the agent's to repeat; one
that the master makes itself has no uuid and is not acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesostk.master import views
from mesostk.master.state import Agent, Executor, Framework, TaskRecord
from mesostk.wire import link, scheduler
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    AgentID,
    FrameworkID,
    StatusReason,
    Task,
    TaskID,
    TaskState,
    TaskStatus,
)

if TYPE_CHECKING:
    from mesostk.master.core import Master

_LATEST = "Reconciliation: Latest task state"
_UNKNOWN = "Reconciliation: Task is unknown"


# -- updates that the master makes --------------------------------------------------------------


def master_status(
    master: Master,
    now: float,
    task_id: str,
    agent_id: str | None,
    state: TaskState,
    reason: StatusReason,
    message: str,
) -> TaskStatus:
    """A status that the master vouches for; not to be acknowledged."""
    return TaskStatus(
        task_id=TaskID(task_id),
        state=state,
        message=message,
        source="SOURCE_MASTER",
        reason=reason,
        agent_id=None if agent_id is None else AgentID(agent_id),
        timestamp=master.wall(now),
    )


def send_update(master: Master, framework: Framework, status: TaskStatus) -> None:
    master.tell(framework, scheduler.Event(type="UPDATE", update=scheduler.Update(status=status)))


def count_state(master: Master, framework: Framework, status: TaskStatus) -> None:
    """Metrics of a task that ended, or that was refused."""
    state = status.state.lower()
    master.counters[state.replace("task_", "tasks_", 1)] += 1
    terminal = f"tasks/terminal/{state}"
    framework.counters[terminal] = framework.counters.get(terminal, 0) + 1
    if status.source is not None and status.reason is not None:
        # The original's metrics kept the old word for an agent.
        source = status.source.lower().replace("agent", "slave")
        reason = status.reason.lower().replace("agent", "slave")
        master.counters[f"{state}/{source}/{reason}"] += 1


# -- life ---------------------------------------------------------------------------------------


def add(master: Master, agent: Agent, framework: Framework, task: TaskRecord) -> None:
    """Book a task that was accepted, or that an agent brought."""
    agent.tasks[framework.id, task.task_id] = task
    framework.tasks[task.task_id] = task
    if not task.is_terminal:
        master.allocator.hold(agent, framework.id, task.role, task.held)
    if master.subscribers:
        master.publish(views.task_added(task.wire), task.wire)


def add_executor(master: Master, agent: Agent, framework: Framework, executor: Executor) -> None:
    executor_id = executor.info.executor_id.value
    agent.executors[framework.id, executor_id] = executor
    framework.executors[agent.id, executor_id] = executor
    master.allocator.hold(agent, framework.id, executor.role, executor.held)


def remove_executor(
    master: Master, now: float, agent: Agent, framework_id: str, executor_id: str
) -> bool:
    """Forget an executor that ended; False if it was not known."""
    executor = agent.executors.pop((framework_id, executor_id), None)
    if executor is None:
        return False
    del master.frameworks[framework_id].executors[agent.id, executor_id]
    if agent.drain_info is not None and not agent.tasks:
        master.maybe_drained[agent.id] = None
    master.allocator.give_back(agent, framework_id, executor.role, executor.held, now)
    return True


def apply_status(
    master: Master,
    now: float,
    task: TaskRecord,
    status: TaskStatus,
    latest: TaskState | None = None,
) -> None:
    """Move the task to `latest` (the agent may be ahead of what it tells), else to the status's
    state. A terminal task stays what it is; its resources are given back once."""
    before = task.wire
    was_terminal = task.is_terminal
    state = before.state if was_terminal else (latest if latest is not None else status.state)
    statuses = before.statuses
    if statuses and statuses[-1].state == status.state:
        statuses = statuses[:-1]
    carries_uuid = status.uuid is not None
    task.wire = replace(
        before,
        state=state,
        statuses=(*statuses, replace(status, data=None)),
        status_update_state=status.state if carries_uuid else before.status_update_state,
        status_update_uuid=status.uuid if carries_uuid else before.status_update_uuid,
    )
    framework = master.frameworks[task.framework_id]
    if not was_terminal and task.is_terminal:
        agent = master.agents[task.agent_id]
        master.allocator.give_back(agent, framework.id, task.role, task.held, now)
        count_state(master, framework, replace(status, state=state))
    if master.subscribers and (state != before.state or status.reason in _SHOWN_REASONS):
        master.publish(views.task_updated(framework.id, status, state), task.wire)


#: Updates with these reasons are published although the state stays (spec/mesos.md §4.3).
_SHOWN_REASONS = frozenset(
    {"REASON_TASK_CHECK_STATUS_UPDATED", "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"}
)


def remove(master: Master, task: TaskRecord) -> None:
    """Take an ended task out of the live ones; it joins its framework's history."""
    _unlist(master, task)
    framework = master.frameworks[task.framework_id]
    if framework.completed_tasks.maxlen != 0:
        framework.completed_tasks.append(task.wire)


def remove_unreachable(master: Master, task: TaskRecord) -> None:
    """Its agent is partitioned: keep the task aside, in case it comes back."""
    _unlist(master, task)
    framework = master.frameworks[task.framework_id]
    kept = framework.unreachable_tasks
    kept[task.task_id] = task.wire
    on_agent = master.unreachable_on.setdefault(task.agent_id, {})
    on_agent[framework.id, task.task_id] = link.TaskRef(
        framework_id=task.wire.framework_id, task_id=task.wire.task_id
    )
    if len(kept) > master.config.max_unreachable_tasks_per_framework:
        oldest = next(iter(kept))
        forget_unreachable(master, framework, oldest)


def forget_unreachable(master: Master, framework: Framework, task_id: str) -> Task | None:
    """Take a task off its framework's unreachable ones; None if it was not among them."""
    task = framework.unreachable_tasks.pop(task_id, None)
    if task is not None:
        on_agent = master.unreachable_on.get(task.agent_id.value, {})
        on_agent.pop((framework.id, task_id), None)
        if not on_agent:
            master.unreachable_on.pop(task.agent_id.value, None)
    return task


def complete_unreachable(master: Master, framework: Framework, status: TaskStatus) -> None:
    """The end of a task became known whose agent was, or is, unreachable."""
    if status.state not in TERMINAL_STATES:
        return
    task = forget_unreachable(master, framework, status.task_id.value)
    if task is not None:
        framework.completed_tasks.append(
            replace(task, state=status.state, statuses=(*task.statuses, replace(status, data=None)))
        )
        count_state(master, framework, status)


def _unlist(master: Master, task: TaskRecord) -> None:
    agent = master.agents[task.agent_id]
    del agent.tasks[task.framework_id, task.task_id]
    if agent.drain_info is not None and not agent.tasks:
        master.maybe_drained[agent.id] = None
    del master.frameworks[task.framework_id].tasks[task.task_id]


def end_by_master(
    master: Master,
    now: float,
    task: TaskRecord,
    state: TaskState,
    reason: StatusReason,
    message: str,
) -> None:
    """The master itself ends a live task: told to the framework, and gone from the live ones."""
    if not task.is_terminal:
        status = master_status(master, now, task.task_id, task.agent_id, state, reason, message)
        apply_status(master, now, task, status)
        send_update(master, master.frameworks[task.framework_id], status)
    remove(master, task)


# -- what agents tell ---------------------------------------------------------------------------


def status_updates(master: Master, now: float, agent: Agent, message: link.StatusUpdates) -> None:
    for update in message.updates:
        _status_update(master, now, agent, update)


def _status_update(master: Master, now: float, agent: Agent, update: link.StatusUpdate) -> None:
    master.counters["messages_status_update"] += 1
    framework = master.frameworks.get(update.framework_id.value)
    status = update.status
    if framework is None:
        master.counters["invalid_status_updates"] += 1
        if update.framework_id.value in master.completed_frameworks:
            shutdown = link.ShutdownFramework(framework_id=update.framework_id)
            agents_send(master, agent, shutdown)
        return
    if status.agent_id is None or status.agent_id.value != agent.id:
        status = replace(status, agent_id=AgentID(agent.id))
    if status.timestamp is None:
        status = replace(status, timestamp=master.wall(now))
    send_update(master, framework, status)
    task = agent.tasks.get((framework.id, status.task_id.value))
    if task is None:
        # The framework acknowledges nevertheless, so that the agent can forget the task.
        complete_unreachable(master, framework, status)
        master.counters["invalid_status_updates"] += 1
        return
    master.counters["valid_status_updates"] += 1
    apply_status(master, now, task, status, update.latest_state)
    if task.is_terminal and status.uuid is None:
        remove(master, task)


def exited_executor(master: Master, now: float, agent: Agent, message: link.ExitedExecutor) -> None:
    master.counters["messages_exited_executor"] += 1
    framework_id, executor_id = message.framework_id.value, message.executor_id.value
    if not remove_executor(master, now, agent, framework_id, executor_id):
        return
    failure = scheduler.Failure(
        agent_id=AgentID(agent.id), executor_id=message.executor_id, status=message.status
    )
    event = scheduler.Event(type="FAILURE", failure=failure)
    master.tell(master.frameworks[framework_id], event)


def executor_message(
    master: Master, _now: float, agent: Agent, message: link.ExecutorMessage
) -> None:
    master.counters["messages_executor_to_framework"] += 1
    framework = master.frameworks.get(message.framework_id.value)
    if framework is None or framework.stream is None:
        master.counters["invalid_executor_to_framework_messages"] += 1
        return
    master.counters["valid_executor_to_framework_messages"] += 1
    passed_on = scheduler.ExecutorMessage(
        agent_id=AgentID(agent.id), executor_id=message.executor_id, data=message.data
    )
    master.tell(framework, scheduler.Event(type="MESSAGE", message=passed_on))


def agents_send(master: Master, agent: Agent, message: link.DownMessage) -> None:
    """Send down the agent's link, if it is connected."""
    if agent.stream is not None:
        master.send_agent(agent.stream, message)


# -- what frameworks ask ------------------------------------------------------------------------


def kill(master: Master, now: float, framework: Framework, call: scheduler.Kill) -> None:
    """KILL: passed on each time; kept for a disconnected agent; answered for an unknown task."""
    master.counters["messages_kill_task"] += 1
    task = framework.tasks.get(call.task_id.value)
    if task is None:
        asked = scheduler.ReconcileTask(task_id=call.task_id, agent_id=call.agent_id)
        _reconcile_one(master, now, framework, asked)
        return
    if call.agent_id is not None and call.agent_id.value != task.agent_id:
        master.note(
            "Ignoring kill",
            level="WARNING",
            task=task.task_id,
            framework=framework.id,
            why=f"it names agent {call.agent_id.value}, the task is on {task.agent_id}",
        )
        return
    agent = master.agents[task.agent_id]
    if agent.stream is None:
        agent.kills[framework.id, task.task_id] = call.kill_policy
        return
    master.note("Killing", task=task.task_id, framework=framework.id, agent=agent.id)
    agents_send(
        master,
        agent,
        link.Kill(
            framework_id=task.wire.framework_id,
            task_id=task.wire.task_id,
            kill_policy=call.kill_policy,
        ),
    )


def acknowledge(
    master: Master, _now: float, framework: Framework, call: scheduler.Acknowledge
) -> None:
    """ACKNOWLEDGE: to the agent, and the task leaves the live ones if that was its last update."""
    master.counters["messages_status_update_acknowledgement"] += 1
    agent = master.agents.get(call.agent_id.value)
    if agent is None or agent.stream is None:
        master.counters["invalid_status_update_acknowledgements"] += 1
        return
    task = agent.tasks.get((framework.id, call.task_id.value))
    if task is not None:
        if task.wire.status_update_uuid is None:
            # Not forwarded by this master: the agent must first say what state that update was.
            master.counters["invalid_status_update_acknowledgements"] += 1
            return
        if (
            task.wire.status_update_state in TERMINAL_STATES
            and task.wire.status_update_uuid == call.uuid
        ):
            remove(master, task)
    master.counters["valid_status_update_acknowledgements"] += 1
    agents_send(
        master,
        agent,
        link.Acknowledge(
            framework_id=framework_id_of(framework), task_id=call.task_id, uuid=call.uuid
        ),
    )


def framework_id_of(framework: Framework) -> FrameworkID:
    assert framework.info.id is not None
    return framework.info.id


def shutdown_executor(
    master: Master, _now: float, framework: Framework, call: scheduler.Shutdown
) -> None:
    agent = master.agents.get(call.agent_id.value)
    if agent is not None:
        agents_send(
            master,
            agent,
            link.ShutdownExecutor(
                framework_id=framework_id_of(framework), executor_id=call.executor_id
            ),
        )


def framework_message(
    master: Master, _now: float, framework: Framework, call: scheduler.SchedulerMessage
) -> None:
    """MESSAGE: best effort."""
    master.counters["messages_framework_to_executor"] += 1
    agent = master.agents.get(call.agent_id.value)
    if agent is None or agent.stream is None:
        master.counters["invalid_framework_to_executor_messages"] += 1
        return
    master.counters["valid_framework_to_executor_messages"] += 1
    agents_send(
        master,
        agent,
        link.SchedulerMessage(
            framework_id=framework_id_of(framework), executor_id=call.executor_id, data=call.data
        ),
    )


# -- reconciliation -----------------------------------------------------------------------------


def reconcile(master: Master, now: float, framework: Framework, call: scheduler.Reconcile) -> None:
    """RECONCILE: about the tasks named, or about all live ones when none is."""
    master.counters["messages_reconcile_tasks"] += 1
    asked: Iterable[scheduler.ReconcileTask] = call.tasks
    if call.tasks:
        for item in asked:
            _reconcile_one(master, now, framework, item)
        return
    for task in list(framework.tasks.values()):
        send_update(master, framework, _latest_status(master, now, task))


def _latest_status(master: Master, now: float, task: TaskRecord) -> TaskStatus:
    """What the framework was last told, or would have been."""
    wire = task.wire
    state = wire.status_update_state if wire.status_update_state is not None else wire.state
    status = master_status(
        master, now, task.task_id, task.agent_id, state, "REASON_RECONCILIATION", _LATEST
    )
    last = wire.statuses[-1] if wire.statuses else None
    executor_id = wire.executor_id
    if last is None:
        return replace(status, executor_id=executor_id)
    return replace(
        status,
        executor_id=executor_id,
        healthy=last.healthy,
        check_status=last.check_status,
        container_status=last.container_status,
    )


def _reconcile_one(
    master: Master, now: float, framework: Framework, asked: scheduler.ReconcileTask
) -> None:
    """One explicit answer, by the table of spec/mesos.md §2.7; none while it cannot be known."""
    task_id = asked.task_id.value
    task = framework.tasks.get(task_id)
    if task is not None:
        send_update(master, framework, _latest_status(master, now, task))
        return
    agent_id = None if asked.agent_id is None else asked.agent_id.value
    state: TaskState
    unreachable_time = None
    if agent_id is None and task_id in framework.unreachable_tasks:
        agent_id = framework.unreachable_tasks[task_id].agent_id.value
    if agent_id in master.recovered or (agent_id is None and master.recovered):
        return
    if agent_id in master.agents:
        state = "TASK_GONE"
    elif agent_id in master.registry.unreachable:
        state = "TASK_UNREACHABLE"
        unreachable_time = master.registry.unreachable[agent_id].time
    elif agent_id in master.registry.gone:
        state = "TASK_GONE_BY_OPERATOR"
    else:
        state = "TASK_UNKNOWN"
    if not framework.is_partition_aware:
        state, unreachable_time = "TASK_LOST", None
    status = master_status(master, now, task_id, agent_id, state, "REASON_RECONCILIATION", _UNKNOWN)
    send_update(master, framework, replace(status, unreachable_time=unreachable_time))
