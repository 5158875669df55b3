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
from mesostk.wire import json, protobuf
from mesostk.wire.legacy import task_view
from mesostk.wire.mesos import Task

if TYPE_CHECKING:
    from mesostk.master.core import Master

T = TypeVar("T")

#: Work between two looks at the clock. An entity whose document is kept counts 1.
CHUNK = 25

#: What making a document adds to that: three agents that are new are about 1 ms.
TASK_WORK, AGENT_WORK = 4, 12

_TASK_FORMS: dict[str, Callable[[Task], bytes]] = {
    "state": lambda task: json.encode(task_view(task)),
    "v1": json.encode,
    "protobuf": protobuf.encode,
}

_AGENT_FORMS: dict[str, Callable[[Master, Agent], bytes]] = {
    "state": lambda master, agent: json.encode(legacy.agent(master, agent)),
    "slaves": lambda master, agent: json.encode(legacy.agent_in_full(master, agent)),
    "v1": lambda master, agent: json.encode(views.agent(master, agent)),
    "protobuf": lambda master, agent: protobuf.encode(views.agent(master, agent)),
}


class Fragments:
    """Documents of single entities, by form (`state`, `slaves`, `v1`, `protobuf`)."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._tasks: dict[tuple[str, str, str], tuple[Task, bytes]] = {}
        self._agents: dict[tuple[str, str], tuple[tuple[object, ...], bytes]] = {}
        self._held: dict[str, tuple[Resources, dict[str, Resources]]] = {}
        #: Since others had their turn.
        self._work = 0

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
        for group in self.grouped(self.task(task, form) for task in tasks):
            yield b",".join(group)

    def task(self, task: Task, form: str) -> bytes:
        """The task's document."""
        key = (form, task.framework_id.value, task.task_id.value)
        found = self._tasks.get(key)
        if found is None or found[0] is not task:
            self._work += TASK_WORK
            found = (task, _TASK_FORMS[form](task))
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
            self._work += AGENT_WORK
            found = (state, _AGENT_FORMS[form](self._master, item))
            self._agents[form, item.id] = found
        return found[1]

    def is_turn(self, work: int = 1) -> bool:
        """Whether others should have their turn, after `work` more: asked after each entity, whose
        share is small if its document was kept, and large if it was made."""
        self._work += work
        if self._work < CHUNK:
            return False
        self._work = 0
        return True

    def grouped(self, documents: Iterable[bytes | None]) -> Iterator[list[bytes]]:
        """`documents` in groups between which others get their turn; None is one left out."""
        group: list[bytes] = []
        for document in documents:
            if document is not None:
                group.append(document)
            if self.is_turn():
                yield group
                group = []
        if group:
            yield group

    def used_by(self, framework: Framework) -> Iterator[Resources]:
        """What the framework's tasks and executors hold, in parts to be added up."""
        agent_ids = dict.fromkeys(agent_id for agent_id, _ in framework.executors)
        for tasks in chunks(list(framework.tasks.values())):
            agent_ids.update(dict.fromkeys([task.agent_id for task in tasks]))
            yield Resources()
        parts = []
        for agent_id in agent_ids:
            parts.append(self.held_on(agent_id, framework.id))
            if self.is_turn():
                yield Resources.sum(parts)
                parts = []
        yield Resources.sum(parts)

    def held_on(self, agent_id: str, framework_id: str) -> Resources:
        """What one framework holds of one agent; nothing of one that left meanwhile."""
        agent = self._master.agents.get(agent_id)
        if agent is None:
            return Resources()
        found = self._held.get(agent_id)
        if found is None or found[0] is not agent.free:
            self._work += TASK_WORK
            found = (agent.free, views.held_by_framework(agent))
            self._held[agent_id] = found
        return found[1].get(framework_id, Resources())


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most `CHUNK`."""
    left = iter(items)
    while some := list(islice(left, CHUNK)):
        yield some
