"""What a LAUNCH_GROUP may ask for. Rules: spec/mesos.md §2.5, §3.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesostk.master.state import Agent, Framework
from mesostk.master.validation import executor_error, task_error
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import ExecutorInfo, TaskInfo

#: Least of what an executor of a task group must have. Source: spec/mesos.md §2.5.
_LEAST_OF_EXECUTOR: Final = {"cpus": 10, "mem": 32_000}


def group_error(
    executor: ExecutorInfo, tasks: Sequence[TaskInfo], framework: Framework, agent: Agent
) -> str | None:
    """The first objection to a LAUNCH_GROUP, resources completed; the pool is not looked at."""
    if not tasks:
        return "Task group cannot be empty"
    why = _group_executor_error(executor, framework, agent)
    if why is not None:
        return why
    seen: set[str] = set()
    for task in tasks:
        task_id = task.task_id.value
        why = task_error(task, framework, agent, in_group=True) or _member_error(task, executor)
        if why is None and task_id in seen:
            why = f"Task has duplicate ID: {task_id}"
        if why is not None:
            return f"Task '{task_id}' is invalid: {why}"
        seen.add(task_id)
    return None


def _group_executor_error(executor: ExecutorInfo, framework: Framework, agent: Agent) -> str | None:
    if executor.type is None or executor.type == "UNKNOWN":
        return "'ExecutorInfo.type' must be set"
    if executor.type == "DEFAULT" and executor.command is not None:
        return "'ExecutorInfo.command' must not be set for 'DEFAULT' executor"
    container = executor.container
    if container is not None and container.type == "DOCKER":
        return "Docker ContainerInfo is not supported on the executor"
    image = None if container is None or container.mesos is None else container.mesos.image
    if executor.type == "DEFAULT" and image is not None:
        return "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor"
    why = executor_error(executor, framework, agent, of_group=True)
    if why is not None or (framework.id, executor.executor_id.value) in agent.executors:
        return why
    held = Resources.of(executor.resources)
    for name, least in _LEAST_OF_EXECUTOR.items():
        if held.scalar(name) < least:
            return f"Executor '{executor.executor_id.value}' has less than {least / 1000:g} {name}"
    if held.scalar("disk") <= 0:
        return f"Executor '{executor.executor_id.value}' has no disk"
    return None


def _member_error(task: TaskInfo, executor: ExecutorInfo) -> str | None:
    if task.executor is not None and task.executor.executor_id != executor.executor_id:
        return "its 'executor' is not that of the task group"
    if executor.type == "DEFAULT" and task.command is None:
        return "'command' must be set for a task of the 'DEFAULT' executor"
    if task.container is not None and task.container.type == "DOCKER":
        return "Docker ContainerInfo is not supported on the task"
    if task.container is not None and task.container.network_infos:
        return "NetworkInfos must not be set on the task"
    return None
