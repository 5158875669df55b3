"""What an ACCEPT asks for: each operation sees the pool of resources that those before it left.

A kind of operation is one row of `_APPLY`; what has no row is refused as the original refuses an
operation that an agent cannot do: OPERATION_ERROR if it has an id, TASK_ERROR for each task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from mesostk.errors import WireError
from mesostk.master import conversion_rules, converting, groups, tasks, validation
from mesostk.master.conversion_rules import Asker
from mesostk.master.permits import may_convert, why_not_run
from mesostk.master.state import Agent, Executor, Framework, TaskRecord
from mesostk.resources import conversions, validity
from mesostk.resources.conversions import Conversion
from mesostk.resources.resources import Resources
from mesostk.wire import link
from mesostk.wire.mesos import (
    AgentID,
    AllocationInfo,
    ExecutorInfo,
    OfferOperation,
    OperationStatus,
    Resource,
    StatusReason,
    Task,
    TaskGroupInfo,
    TaskInfo,
    TaskState,
)

if TYPE_CHECKING:
    from mesostk.master.core import Master


#: What the conversions of one ACCEPT may look at: each does at every kind of resource that its
#: agent has, thousands where it has as many volumes, at 1 to 2 µs; and at what it names.
_MOST_LOOKS = 6_000
_LOOKS_PER_RESOURCE = 20


class Batch(msgspec.Struct, eq=False):
    """One ACCEPT under way; `pool` is what is left, with its allocation role."""

    framework: Framework
    agent: Agent
    role: str
    pool: Resources
    #: What its conversions have looked at.
    looks: int = 0


def apply_all(
    master: Master,
    now: float,
    framework: Framework,
    agent: Agent,
    role: str,
    pool: Resources,
    operations: Sequence[OfferOperation],
) -> Resources:
    """Apply in order; returns what of `pool` was neither used nor turned into something else."""
    batch = Batch(framework, agent, role, pool)
    for operation in operations:
        _count(framework, operation)
        apply = _APPLY.get(operation.type) if operation.type is not None else None
        if apply is None:
            _refuse_unsupported(master, batch, operation)
        else:
            apply(master, now, batch, operation)
    made = batch.pool - pool
    return batch.pool - made


def refuse_all(
    master: Master,
    now: float,
    framework: Framework,
    operations: Sequence[OfferOperation],
    why: str,
) -> None:
    """The offers were not valid: no operation is applied, and each one is answered."""
    for operation in operations:
        _count(framework, operation)
        state: TaskState = "TASK_DROPPED" if framework.is_partition_aware else "TASK_LOST"
        for task in _tasks_of(operation):
            if task.task_id.value in framework.tasks:
                # The call came twice: what it launched the first time lives, and is not dropped.
                master.note("Ignoring a repeated launch", level="WARNING", task=task.task_id.value)
                continue
            status = tasks.master_status(
                master,
                now,
                task.task_id.value,
                task.agent_id.value,
                state,
                "REASON_INVALID_OFFERS",
                f"Task launched with invalid offers: {why}",
            )
            tasks.count_state(master, framework, status)
            tasks.send_update(master, framework, status)
        if operation.type not in {"LAUNCH", "LAUNCH_GROUP"}:
            drop(master, framework, None, operation, f"Operation used invalid offers: {why}")


def drop(
    master: Master,
    framework: Framework,
    agent: Agent | None,
    operation: OfferOperation,
    why: str,
) -> None:
    """Refuse an operation: told to the framework if it asked for feedback by giving an id."""
    kind = str(operation.type)
    converting.count(master, operation, "error")
    converting.count(master, operation, "total")
    master.note(
        "Refusing operation", level="WARNING", framework=framework.id, operation=kind, why=why
    )
    if operation.id is None:
        return
    status = OperationStatus(
        operation_id=operation.id,
        state="OPERATION_ERROR",
        message=why,
        agent_id=None if agent is None else AgentID(agent.id),
    )
    converting.tell(master, framework, status)


def _refuse_unsupported(master: Master, batch: Batch, operation: OfferOperation) -> None:
    if operation.type is None or operation.type == "UNKNOWN":
        drop(master, batch.framework, batch.agent, operation, "Unknown operation type")
        return
    # CREATE_DISK and DESTROY_DISK are of resource providers, of which agents here have none.
    agent = batch.agent
    why = (
        f"Not supported on agent {agent.id} at {agent.pid} ({agent.info.hostname}) because it does"
        " not have RESOURCE_PROVIDER capability"
    )
    drop(master, batch.framework, agent, operation, why)


def _tasks_of(operation: OfferOperation) -> Iterable[TaskInfo]:
    if operation.type == "LAUNCH" and operation.launch is not None:
        return operation.launch.task_infos
    if operation.type == "LAUNCH_GROUP" and operation.launch_group is not None:
        return operation.launch_group.task_group.tasks
    return ()


def _count(framework: Framework, operation: OfferOperation) -> None:
    for name in ("operations", f"operations/{str(operation.type).lower()}"):
        framework.counters[name] = framework.counters.get(name, 0) + 1


# -- LAUNCH -------------------------------------------------------------------------------------


def _launch(master: Master, now: float, batch: Batch, operation: OfferOperation) -> None:
    master.counters["messages_launch_tasks"] += 1
    for info in _tasks_of(operation):
        task = _complete(batch, info)
        if operation.id is not None:
            why: str | None = "The LAUNCH operation does not take an 'id'"
        else:
            why = validation.task_error(task, batch.framework, batch.agent)
        forbidden = why_not_run(master.config.acls, batch.framework, (task,))
        if forbidden is not None:
            _refuse_task(master, now, batch, task, forbidden, "REASON_TASK_UNAUTHORIZED")
            continue
        if why is None:
            why = _launch_one(master, batch, task)
        if why is not None:
            _refuse_task(master, now, batch, task, why, "REASON_TASK_INVALID")


def _complete(batch: Batch, task: TaskInfo) -> TaskInfo:
    """With what a framework may leave out: allocation role, and of the executor type and owner."""
    executor = task.executor
    if executor is not None:
        executor = _complete_executor(batch, executor)
    return replace(task, executor=executor, resources=_allocated(task.resources, batch.role))


def _complete_executor(batch: Batch, executor: ExecutorInfo) -> ExecutorInfo:
    owner = executor.framework_id
    return replace(
        executor,
        type=executor.type if executor.type is not None else "CUSTOM",
        framework_id=owner if owner is not None else tasks.framework_id_of(batch.framework),
        resources=_allocated(executor.resources, batch.role),
    )


# -- LAUNCH_GROUP -------------------------------------------------------------------------------


def _launch_group(master: Master, now: float, batch: Batch, operation: OfferOperation) -> None:
    """All tasks of the group, or none: each is then told why."""
    group = operation.launch_group
    if group is None:
        drop(master, batch.framework, batch.agent, operation, "Expecting 'launch_group'")
        return
    master.counters["messages_launch_tasks"] += 1
    executor = group.executor
    if executor.type is not None:
        executor = _complete_executor(batch, executor)
    infos = [
        replace(task, executor=None, resources=_allocated(task.resources, batch.role))
        for task in group.task_group.tasks
    ]
    why = (
        "The LAUNCH_GROUP operation does not take an 'id'"
        if operation.id is not None
        else _group_error(batch, executor, group.task_group.tasks, infos)
    )
    forbidden = why_not_run(master.config.acls, batch.framework, infos)
    if forbidden is not None:
        for task in infos:
            _refuse_task(master, now, batch, task, forbidden, "REASON_TASK_GROUP_UNAUTHORIZED")
        return
    if why is None:
        why = _take_group(master, batch, executor, infos)
    if why is not None:
        for task in infos:
            _refuse_task(master, now, batch, task, why, "REASON_TASK_GROUP_INVALID")


def _group_error(
    batch: Batch, executor: ExecutorInfo, given: Sequence[TaskInfo], infos: Sequence[TaskInfo]
) -> str | None:
    for task in given:
        if task.executor is not None and task.executor.executor_id != executor.executor_id:
            return f"Task '{task.task_id.value}' has another 'executor' than its group"
    return groups.group_error(executor, infos, batch.framework, batch.agent)


def _take_group(
    master: Master, batch: Batch, executor: ExecutorInfo, infos: Sequence[TaskInfo]
) -> str | None:
    """Take the group's resources from the pool, book it and send it; or say why not."""
    framework, agent = batch.framework, batch.agent
    new_executor = _new_executor(batch, executor)
    needed = Resources.sum(Resources.of(task.resources) for task in infos)
    if new_executor is not None:
        needed += new_executor.held
    if not batch.pool.contains(needed):
        return f"Task group uses more resources {needed} than available {batch.pool}"
    batch.pool -= needed.non_shared()
    if new_executor is not None:
        tasks.add_executor(master, agent, framework, new_executor)
    members = [replace(task, executor=executor) for task in infos]
    for task in members:
        held = Resources.of(task.resources)
        tasks.add(master, agent, framework, TaskRecord(_task_of(framework, task), batch.role, held))
    master.note(
        "Launching",
        group=",".join(task.task_id.value for task in members),
        framework=framework.id,
        agent=agent.id,
        resources=needed.unallocate(),
    )
    message = link.RunGroup(
        framework=framework.info,
        executor=executor,
        task_group=TaskGroupInfo(tasks=tuple(infos)),
        launch_executor=new_executor is not None,
    )
    tasks.agents_send(master, agent, message)
    return None


def _allocated(resources: tuple[Resource, ...], role: str) -> tuple[Resource, ...]:
    return tuple(
        resource
        if resource.allocation_info is not None
        else replace(resource, allocation_info=AllocationInfo(role=role))
        for resource in resources
    )


def _launch_one(master: Master, batch: Batch, info: TaskInfo) -> str | None:
    """Take the task's resources from the pool, book it and send it; or say why not."""
    framework, agent = batch.framework, batch.agent
    held = Resources.of(info.resources)
    new_executor = _new_executor(batch, info.executor)
    needed = held if new_executor is None else held + new_executor.held
    if not batch.pool.contains(needed):
        return f"Task uses more resources {needed} than available {batch.pool}"
    # Several tasks may hold the same shared volume.
    batch.pool -= needed.non_shared()
    if new_executor is not None:
        tasks.add_executor(master, agent, framework, new_executor)
    record = TaskRecord(_task_of(framework, info), batch.role, held)
    tasks.add(master, agent, framework, record)
    master.note(
        "Launching",
        task=record.task_id,
        framework=framework.id,
        agent=agent.id,
        resources=held.unallocate(),
    )
    message = link.RunTask(
        framework=framework.info,
        task=info,
        launch_executor=None if info.executor is None else new_executor is not None,
    )
    tasks.agents_send(master, agent, message)
    return None


def _new_executor(batch: Batch, info: ExecutorInfo | None) -> Executor | None:
    """The executor that the task starts; None for a command task or a running executor."""
    if info is None:
        return None
    if (batch.framework.id, info.executor_id.value) in batch.agent.executors:
        return None
    return Executor(info, batch.role, Resources.of(info.resources))


def _task_of(framework: Framework, info: TaskInfo) -> Task:
    """What the master shows of a task that was just accepted."""
    user = framework.info.user
    command = info.command
    if command is None and info.executor is not None:
        command = info.executor.command
    if command is not None and command.user is not None:
        user = command.user
    return Task(
        name=info.name,
        task_id=info.task_id,
        framework_id=tasks.framework_id_of(framework),
        executor_id=None if info.executor is None else info.executor.executor_id,
        agent_id=info.agent_id,
        state="TASK_STAGING",
        resources=info.resources,
        limits=info.limits,
        labels=info.labels,
        discovery=info.discovery,
        container=info.container,
        health_check=info.health_check,
        kill_policy=info.kill_policy,
        user=user,
    )


def _refuse_task(
    master: Master,
    now: float,
    batch: Batch,
    task: TaskInfo,
    why: str,
    reason: StatusReason,
) -> None:
    status = tasks.master_status(
        master, now, task.task_id.value, task.agent_id.value, "TASK_ERROR", reason, why
    )
    master.note(
        "Refusing task",
        level="WARNING",
        task=task.task_id.value,
        framework=batch.framework.id,
        why=why,
    )
    tasks.count_state(master, batch.framework, status)
    tasks.send_update(master, batch.framework, status)


# -- RESERVE, CREATE and their like -------------------------------------------------------------


def _convert(master: Master, _now: float, batch: Batch, operation: OfferOperation) -> None:
    """Change what the agent has; the operations that follow see it, but for resized volumes."""
    framework, agent = batch.framework, batch.agent
    conversion: Conversion | str
    try:
        operation, conversion = _conversion_of(master, batch, operation)
    except WireError as error:
        conversion = str(error)
    if isinstance(conversion, str):
        drop(master, framework, agent, operation, f"Invalid {operation.type}: {conversion}")
        return
    batch.pool -= conversion.consumed
    if operation.type not in {"GROW_VOLUME", "SHRINK_VOLUME"}:
        batch.pool += conversion.converted
    plain = Conversion(conversion.consumed.unallocate(), conversion.converted.unallocate())
    converting.book(master, agent, framework, operation, plain)


def _conversion_of(
    master: Master, batch: Batch, operation: OfferOperation
) -> tuple[OfferOperation, Conversion | str]:
    """The operation completed, and what it converts or why it does not. WireError: an amount that
    is none."""
    principal = batch.framework.info.principal
    named = conversion_rules.resources_of(operation)
    why = (
        conversion_rules.why_too_many(operation, named)
        or _why_too_much(batch, len(named))
        or validity.why_not_all(named)
    )
    if why is not None:
        return operation, why
    operation = converting.completed(operation, batch.role)
    asker = Asker(principal, batch.framework, batch.role)
    why = conversion_rules.why_not(operation, asker, batch.agent)
    if why is None and not may_convert(master.config.acls, operation, principal):
        why = f"Not authorized to perform {operation.type}"
    if why is not None:
        return operation, why
    conversion = conversions.of(operation)
    if not isinstance(conversion, str) and not batch.pool.contains(conversion.consumed):
        return operation, f"{batch.pool} does not contain {conversion.consumed}"
    return operation, conversion


def _why_too_much(batch: Batch, named: int) -> str | None:
    """Why an operation that names so many resources is one too many for its ACCEPT; the first
    never is."""
    before, kinds = batch.looks, len(batch.agent.total)
    batch.looks += named * _LOOKS_PER_RESOURCE + kinds
    if before == 0 or batch.looks <= _MOST_LOOKS:
        return None
    return (
        f"the 'operations' of this ACCEPT convert too many resources of agent {batch.agent.id},"
        f" which has {kinds} kinds of them: send the rest with its next offer"
    )


_APPLY: dict[str, Callable[[Master, float, Batch, OfferOperation], None]] = {
    "LAUNCH": _launch,
    "LAUNCH_GROUP": _launch_group,
    **dict.fromkeys(conversion_rules.CHECKS, _convert),
}
