"""JSON of tasks and agents, kept for as long as it is true, so that documents are mostly joining.

A record that changed is another object (they are frozen), which is how an old fragment is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from mesostk.master import legacy, views
from mesostk.master.state import Agent, Framework
from mesostk.resources.resources import Resources
from mesostk.wire import json
from mesostk.wire.legacy import task_view
from mesostk.wire.mesos import Task

if TYPE_CHECKING:
    from mesostk.master.core import Master

T = TypeVar("T")

#: Entities handled between two looks at the clock: 25 tasks cost at most 1 ms when none is kept.
CHUNK = 25

_AGENT_FORMS: dict[str, Callable[[Master, Agent], object]] = {
    "state": legacy.agent,
    "slaves": legacy.agent_in_full,
    "v1": views.agent,
}


class Fragments:
    """Documents of single entities, by form (`state`, `slaves`, `v1`)."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._tasks: dict[tuple[str, str, str], tuple[Task, bytes]] = {}
        self._agents: dict[tuple[str, str], tuple[tuple[object, ...], bytes]] = {}
        self._held: dict[str, tuple[Resources, dict[str, Resources]]] = {}

    def prune(self) -> None:
        """Let go of what is mostly about entities that are over; call it before a document."""
        master = self._master
        listed = sum(
            len(item.tasks) + len(item.unreachable_tasks) + len(item.completed_tasks)
            for item in views.every_framework(master)
        )
        # Two forms of each task, and some more before it is worth while.
        if len(self._tasks) > 3 * listed + 1000:
            self._tasks.clear()
        if len(self._held) > len(master.agents):
            for agent_id in self._held.keys() - master.agents.keys():
                del self._held[agent_id]
        if len(self._agents) > len(_AGENT_FORMS) * len(master.agents):
            self._agents.clear()

    def tasks(self, tasks: Sequence[Task], form: str) -> Iterator[bytes]:
        """The tasks' documents, comma separated, some at a time."""
        for some in chunks(tasks):
            yield b",".join([self._task(task, form) for task in some])

    def _task(self, task: Task, form: str) -> bytes:
        key = (form, task.framework_id.value, task.task_id.value)
        found = self._tasks.get(key)
        if found is None or found[0] is not task:
            found = (task, json.encode(task if form == "v1" else task_view(task)))
            self._tasks[key] = found
        return found[1]

    def agent(self, item: Agent, form: str) -> bytes:
        """The agent's document. What an agent gives or takes back makes a new `free`, so that one
        tells of all."""
        state = (
            item.free, item.total, item.info, item.version, item.capabilities, item.is_active,
            item.deactivated, item.drain_info, item.registered_at, item.reregistered_at,
        )  # fmt: skip
        found = self._agents.get((form, item.id))
        if found is None or any(a is not b for a, b in zip(found[0], state, strict=True)):
            found = (state, json.encode(_AGENT_FORMS[form](self._master, item)))
            self._agents[form, item.id] = found
        return found[1]

    def used_by(self, framework: Framework) -> Iterator[Resources]:
        """What the framework's tasks and executors hold, in parts to be added up."""
        agent_ids = dict.fromkeys(agent_id for agent_id, _ in framework.executors)
        for tasks in chunks(list(framework.tasks.values())):
            agent_ids.update(dict.fromkeys([task.agent_id for task in tasks]))
            yield Resources()
        for some in chunks(agent_ids):
            yield Resources.sum(self._held_on(agent_id, framework.id) for agent_id in some)

    def _held_on(self, agent_id: str, framework_id: str) -> Resources:
        """What one framework holds of one agent; nothing of one that left meanwhile."""
        agent = self._master.agents.get(agent_id)
        if agent is None:
            return Resources()
        found = self._held.get(agent_id)
        if found is None or found[0] is not agent.free:
            found = (agent.free, views.held_by_framework(agent))
            self._held[agent_id] = found
        return found[1].get(framework_id, Resources())


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most `CHUNK`."""
    left = iter(items)
    while some := list(islice(left, CHUNK)):
        yield some
