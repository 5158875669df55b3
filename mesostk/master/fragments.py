"""JSON of tasks and agents, kept for as long as it is true, so that documents are mostly joining.

A record that changed is another object (they are frozen), which is how an old fragment is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mesostk.master import legacy, views
from mesostk.master.state import Agent, Framework
from mesostk.resources.resources import Resources
from mesostk.wire import json, protobuf
from mesostk.wire.legacy import task_view
from mesostk.wire.mesos import AgentInfo, DrainInfo, Task

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


# Kept in nothing that the garbage collector looks at: it would stop for so many, and they are in no
# cycles.


class _TaskFragment(msgspec.Struct, frozen=True, gc=False):
    task: Task
    document: bytes


class _AgentFragment(msgspec.Struct, frozen=True, gc=False):
    """What the document shows of the agent, each the very object; what an agent gives or takes back
    makes a new `free`, so that one tells of all."""

    free: Resources
    total: Resources
    info: AgentInfo
    version: str
    capabilities: frozenset[str]
    is_active: bool
    deactivated: bool
    drain_info: DrainInfo | None
    registered_at: float
    reregistered_at: float | None
    document: bytes

    def is_of(self, agent: Agent) -> bool:
        return (
            self.free is agent.free
            and self.total is agent.total
            and self.info is agent.info
            and self.version is agent.version
            and self.capabilities is agent.capabilities
            and self.is_active is agent.is_active
            and self.deactivated is agent.deactivated
            and self.drain_info is agent.drain_info
            and self.registered_at is agent.registered_at
            and self.reregistered_at is agent.reregistered_at
        )


class _Held(msgspec.Struct, frozen=True, gc=False):
    free: Resources
    by_framework: dict[str, Resources]


class Fragments:
    """Documents of single entities, by form (`state`, `slaves`, `v1`, `protobuf`)."""

    def __init__(self, master: Master) -> None:
        self._master = master
        #: By form, framework and task.
        self._tasks: dict[str, dict[str, dict[str, _TaskFragment]]]
        self._tasks = {form: {} for form in _TASK_FORMS}
        #: By form.
        self._agents: dict[str, dict[str, _AgentFragment]] = {form: {} for form in _AGENT_FORMS}
        self._held: dict[str, _Held] = {}
        #: Since others had their turn.
        self._work = 0

    def prune(self) -> None:
        """Let go of what is mostly about entities that are over; call it before a document."""
        master = self._master
        listed = sum(
            len(item.tasks) + len(item.unreachable_tasks) + len(item.completed_tasks)
            for item in views.every_framework(master)
        )
        for frameworks in self._tasks.values():
            # Some more before it is worth while.
            if sum(map(len, frameworks.values())) > 2 * listed + 1000:
                frameworks.clear()
        if len(self._held) > len(master.agents):
            for agent_id in self._held.keys() - master.agents.keys():
                del self._held[agent_id]
        for agents in self._agents.values():
            if len(agents) > len(master.agents):
                agents.clear()

    def tasks(self, tasks: Iterable[Task | None], form: str) -> Iterator[bytes]:
        """The tasks' documents, comma separated, some or none at a time; None is one left out."""
        for group in self.grouped(
            None if task is None else self.task(task, form) for task in tasks
        ):
            yield b",".join(group)

    def task(self, task: Task, form: str) -> bytes:
        """The task's document."""
        kept = self._tasks[form].setdefault(task.framework_id.value, {})
        found = kept.get(task.task_id.value)
        if found is None or found.task is not task:
            self._work += TASK_WORK
            found = kept[task.task_id.value] = _TaskFragment(task, _TASK_FORMS[form](task))
        return found.document

    def agent(self, item: Agent, form: str) -> bytes:
        """The agent's document."""
        kept = self._agents[form]
        found = kept.get(item.id)
        if found is None or not found.is_of(item):
            self._work += AGENT_WORK
            found = kept[item.id] = _AgentFragment(
                item.free, item.total, item.info, item.version, item.capabilities, item.is_active,
                item.deactivated, item.drain_info, item.registered_at, item.reregistered_at,
                _AGENT_FORMS[form](self._master, item),
            )  # fmt: skip
        return found.document

    def agent_anew(self, item: Agent, form: str) -> bytes:
        """The document of an agent as only few see it; it is not kept."""
        self._work += AGENT_WORK
        return _AGENT_FORMS[form](self._master, item)

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
        if found is None or found.free is not agent.free:
            self._work += TASK_WORK
            found = self._held[agent_id] = _Held(agent.free, views.held_by_framework(agent))
        return found.by_framework.get(framework_id, Resources())


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most `CHUNK`."""
    left = iter(items)
    while some := list(islice(left, CHUNK)):
        yield some
