"""The cluster taken down entity by entity while it changes, so that no turn of that is long.

::

    Capture: agents, frameworks … not taken yet ─▶ v1_documents takes one after the other
        │
        └─ is_news(event): of one that was taken ─▶ must be told;  of one that was not ─▶ must not,
                           because what is taken later has the change already

Each agent, framework and task is taken at one instant, between two events of the core; with the
events that are news from the beginning on, that is the cluster at each later time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mesostk.master.state import Agent, Framework, TaskRecord
from mesostk.wire import operator
from mesostk.wire.mesos import Task

if TYPE_CHECKING:
    from mesostk.master.core import Master


class Capture:
    """What is still to be taken, by id."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._agents = dict.fromkeys(master.agents)
        self._frameworks = dict.fromkeys(master.frameworks)
        self._completed = dict.fromkeys(master.completed_frameworks)
        #: Those that a framework had when it was taken, by its id.
        self._tasks: dict[str, dict[str, TaskRecord]] = {}

    def agents(self) -> Iterator[Agent]:
        """Each agent, taken from the moment on at which it is given; not those that left before."""
        for agent_id in list(self._agents):
            del self._agents[agent_id]
            agent = self._master.agents.get(agent_id)
            if agent is not None:
                yield agent

    def frameworks(self) -> Iterator[Framework]:
        """Each live framework; the caller says by `take` when it takes it."""
        for framework_id in list(self._frameworks):
            framework = self._master.frameworks.get(framework_id)
            if framework is not None:
                yield framework

    def take(self, framework: Framework) -> bool:
        """The framework is taken now, all but its live tasks; False if it has been completed
        meanwhile."""
        if framework.id not in self._master.frameworks:
            return False
        self._frameworks.pop(framework.id)
        self._tasks[framework.id] = framework.tasks.copy()
        return True

    def tasks(self, framework: Framework, count: int) -> dict[str, TaskRecord]:
        """Up to `count` of the live tasks that the framework had when it was taken, the last first;
        taken now, as `framework` has them by now, if it still does."""
        left = self._tasks[framework.id]
        return dict(left.popitem() for _ in range(min(count, len(left))))

    def completed_frameworks(self) -> Iterator[Framework]:
        """Those completed in the beginning, or before they were taken as live ones; call it last,
        and take each as it is given."""
        for framework_id in (*self._completed, *self._frameworks):
            framework = self._master.completed_frameworks.get(framework_id)
            if framework is not None:
                yield framework

    def is_news(self, event: operator.Event, task: Task | None) -> bool:
        """Whether the event, which happens now, tells what was not or will not be taken."""
        if task is not None:
            framework_id, task_id = task.framework_id.value, task.task_id.value
            return framework_id not in self._frameworks and task_id not in self._tasks.get(
                framework_id, ()
            )
        if event.agent_added is not None:
            agent_id = event.agent_added.agent.agent_info.id
            return agent_id is None or agent_id.value not in self._agents
        if event.agent_removed is not None:
            return event.agent_removed.agent_id.value not in self._agents
        about = (
            event.framework_added
            if event.framework_added is not None
            else (event.framework_updated)
        )
        info = None if about is None else about.framework.framework_info
        if event.framework_removed is not None:
            info = event.framework_removed.framework_info
        return info is None or info.id is None or info.id.value not in self._frameworks
