"""An instance of a pod: the tasks of its containers, and what they mean together.

Conditions of containers that live, first that applies: Unreachable, Killing, Starting, Staging,
Provisioned, Running; one that failed beside living ones means Killing, since the executor ends the
others. When all have ended: Error, Failed, Gone, Dropped, Unknown, Finished, Killed.
Source: spec/marathon §3.7.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mesostk.marathon.instances import (
    TERMINAL,
    Condition,
    Instance,
    PodTask,
    addresses_of,
    condition_of,
    is_stale,
    message_of,
)
from mesostk.wire.mesos import TaskStatus

_LIVING = (
    Condition.UNREACHABLE,
    Condition.UNREACHABLE_INACTIVE,
    Condition.KILLING,
    Condition.STARTING,
    Condition.STAGING,
    Condition.PROVISIONED,
    Condition.RUNNING,
)

#: What becomes of an instance that is killed. One that is out of reach is given up.
_NOT_KILLING = TERMINAL | {Condition.UNREACHABLE, Condition.UNREACHABLE_INACTIVE}

_ENDED = (
    Condition.ERROR,
    Condition.FAILED,
    Condition.GONE,
    Condition.DROPPED,
    Condition.UNKNOWN,
    Condition.FINISHED,
    Condition.KILLED,
)


def together(conditions: Sequence[Condition]) -> Condition:
    """The condition of an instance whose containers are in these."""
    living = [each for each in conditions if each not in TERMINAL]
    if not living:
        return next(each for each in _ENDED if each in conditions)
    first = next(each for each in _LIVING if each in living)
    broken = any(each in TERMINAL and each is not Condition.FINISHED for each in conditions)
    if broken and first is not Condition.UNREACHABLE:
        return Condition.KILLING
    return first


def updated(instance: Instance, status: TaskStatus, wall_s: float) -> Instance:
    """`instance` after the status of one of its containers; the same object if nothing is new."""
    tasks = tuple(
        _task(task, status, wall_s) if task.task_id == status.task_id.value else task
        for task in instance.tasks
    )
    if tasks == instance.tasks:
        return instance
    condition = together([task.condition for task in tasks])
    if instance.condition is Condition.KILLING and condition not in _NOT_KILLING:
        condition = Condition.KILLING  # told before the kill, so that balancers take it out
    known = [task.healthy for task in tasks if task.healthy is not None]
    started = [task.started_at for task in tasks]
    up = condition is Condition.RUNNING and None not in started
    return msgspec.structs.replace(
        instance,
        tasks=tasks,
        condition=condition,
        state=status.state,
        started_at=wall_s if up and instance.started_at is None else instance.started_at,
        ip_addresses=addresses_of(status) or instance.ip_addresses,
        agent_health=all(known) if known else None,
        message=message_of(status, instance.message),
        since=wall_s if condition is not instance.condition else instance.since,
    )


def _task(task: PodTask, status: TaskStatus, wall_s: float) -> PodTask:
    condition = condition_of(status)
    if task.condition in TERMINAL or is_stale(task.condition, condition):
        return task
    running = condition is Condition.RUNNING
    return msgspec.structs.replace(
        task,
        condition=condition,
        state=status.state,
        since=wall_s if condition is not task.condition else task.since,
        started_at=wall_s if running and task.started_at is None else task.started_at,
        healthy=task.healthy if status.healthy is None else status.healthy,
        check=task.check if status.check_status is None else status.check_status,
        message=message_of(status, task.message),
    )
