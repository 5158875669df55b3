"""What an executor and its tasks may use together; pure.

::

    executor's own resources + those of its live tasks ─▶ the limits of its container
    a task comes or ends ─▶ Resize ─▶ the shell asks `of_executor`, after a few of them at once

The tasks of a custom executor are in its container; those of a group are nested in their default
executor's, which has no process itself. Source: spec §3.5, §8.7 (`share_cgroups`).
"""

from __future__ import annotations

from collections.abc import Iterable

from mesostk.agent.events import Amounts, Resize
from mesostk.agent.state import Run, State
from mesostk.base.core import Effect
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    Resource,
    Scalar,
    TaskInfo,
    TaskResourceLimitation,
)


def amount_of(resources: Iterable[Resource], name: str) -> float:
    """The sum of a scalar resource."""
    return sum(r.scalar.value for r in resources if r.name == name and r.scalar is not None)


def limit_of(task: TaskInfo, name: str) -> float | None:
    """The limit that the task itself gives, infinity for none at all."""
    scalar = task.limits.get(name)
    return scalar.value if scalar is not None else None


def limitation(name: str, amount: float) -> TaskResourceLimitation:
    """What a container wanted more of: the memory that it had, the disk that it was given."""
    resource = Resource(name=name, type="SCALAR", scalar=Scalar(amount))
    return TaskResourceLimitation(resources=(resource,))


def shares_cgroups(task: TaskInfo) -> bool:
    """Whether a task of a group counts against its executor's limits alone."""
    linux = task.container.linux_info if task.container is not None else None
    return linux is None or linux.share_cgroups


def of_executor(run: Run) -> Amounts:
    """Of an executor's container: its own resources and those of its live tasks."""
    tasks = _tasks_of(run)
    resources = [*run.executor.resources, *(r for task in tasks for r in task.resources)]
    return Amounts(
        cpus=amount_of(resources, "cpus"),
        mem_mib=amount_of(resources, "mem"),
        cpus_limit=_limit(run, tasks, "cpus"),
        mem_limit_mib=_limit(run, tasks, "mem"),
    )


def _tasks_of(run: Run) -> list[TaskInfo]:
    """Those of its live tasks that are in its container; the engine's have limits apart."""
    entries = list(run.tasks.values())
    for nested in run.nested.values():
        if nested.phase != "OVER" and not nested.is_docker:
            entries += nested.tasks.values()
    return [entry.info for entry in entries if entry.state not in TERMINAL_STATES]


def _limit(run: Run, tasks: list[TaskInfo], name: str) -> float | None:
    """None if no task gives a limit: then the request is it. Those without add their request."""
    limits = [limit_of(task, name) for task in tasks]
    if all(limit is None for limit in limits):
        return None
    own = amount_of(run.executor.resources, name)
    pairs = zip(tasks, limits, strict=True)
    return own + sum(amount_of(t.resources, name) if limit is None else limit for t, limit in pairs)


def settle(state: State) -> list[Effect]:
    """Say of which executors tasks came or ended."""
    effects: list[Effect] = []
    while state.resized:
        run = state.runs.get(state.resized.pop())
        if run is not None and run.phase == "RUNNING" and not run.is_docker:
            effects.append(Resize(run.container_id))
    return effects
