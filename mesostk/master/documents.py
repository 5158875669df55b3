"""/state and its like as pieces of JSON; the operator API's are in `v1_documents`.

Each document takes the `View` of who asks, None for who sees everything, and asks it of each entity
as that has its turn.

::

    state() ─▶ b'{"version":…' ─▶ b',"slaves":[' ─▶ 25 agents ─▶ … ─▶ b'}'
    bodies.py takes the pieces one by one, and lets the loop go on in between

A generator here takes a copy of each list before it gives out the first of it, so that nothing is
changed under it while the loop goes on; a document is therefore true of the time at which it was
made, list by list, not of one instant.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from mesostk.master import legacy, views
from mesostk.master.fragments import Fragments, chunks
from mesostk.master.permits import View
from mesostk.master.state import Agent, Framework
from mesostk.resources.resources import Resources
from mesostk.wire import json
from mesostk.wire.mesos import Task

if TYPE_CHECKING:
    from mesostk.master.core import Master

Pieces = Iterator[bytes]
Fields = dict[str, Any]


# -- JSON in pieces -----------------------------------------------------------------------------


def _object(head: Mapping[str, Any], parts: Mapping[str, Iterable[bytes]]) -> Pieces:
    """`head` as it is, then each of `parts`, which is JSON in pieces."""
    opening = json.encode(head)[:-1]
    yield opening
    comma = b"" if opening == b"{" else b","
    for name, pieces in parts.items():
        yield comma + b'"' + name.encode() + b'":'
        yield from pieces
        comma = b","
    yield b"}"


def _array(groups: Iterable[bytes]) -> Pieces:
    """An array of pieces that are whole elements, or several with commas, or none of them."""
    comma = b"["
    for group in groups:
        if not group:
            yield b""
            continue
        yield comma + group
        comma = b","
    yield b"[]" if comma == b"[" else b"]"


def _array_of(elements: Iterable[Pieces]) -> Pieces:
    """An array of elements that are in pieces themselves."""
    comma = b"["
    for element in elements:
        yield comma
        yield from element
        comma = b","
    yield b"[]" if comma == b"[" else b"]"


def _encoded(values: Sequence[Any]) -> Pieces:
    for some in chunks(values):
        yield b",".join([json.encode(value) for value in some])


# -- legacy -------------------------------------------------------------------------------------


def state(master: Master, fragments: Fragments, head: Fields, view: View | None = None) -> Pieces:
    """/state; `head` is what stands before the lists."""
    fragments.prune()
    parts = {
        "slaves": _array(_agents(master, fragments, "state", view)),
        "recovered_slaves": _array(_encoded(legacy.recovered(master))),
        "frameworks": _array_of(_frameworks(master, fragments, master.frameworks, view)),
        "completed_frameworks": _array_of(
            _frameworks(master, fragments, master.completed_frameworks, view)
        ),
        "orphan_tasks": (b"[]",),
        "unregistered_frameworks": (b"[]",),
    }
    yield from _object(head, parts)


def slaves(
    master: Master, fragments: Fragments, agent_id: str | None, view: View | None = None
) -> Pieces:
    """/slaves; only the one named, if one is."""
    fragments.prune()
    parts = {
        "slaves": _array(_agents(master, fragments, "slaves", view, agent_id)),
        "recovered_slaves": _array(_encoded(legacy.recovered(master, agent_id))),
    }
    yield from _object({}, parts)


def frameworks(
    master: Master, fragments: Fragments, framework_id: str | None, view: View | None = None
) -> Pieces:
    """/frameworks; only the one named, if one is."""
    fragments.prune()
    live, completed = master.frameworks, master.completed_frameworks
    parts = {
        "frameworks": _array_of(_frameworks(master, fragments, live, view, framework_id)),
        "completed_frameworks": _array_of(
            _frameworks(master, fragments, completed, view, framework_id)
        ),
        "unregistered_frameworks": (b"[]",),
    }
    yield from _object({}, parts)


def _agents(
    master: Master,
    fragments: Fragments,
    form: str,
    view: View | None,
    agent_id: str | None = None,
) -> Pieces:
    agents = list(master.agents.values())
    for group in fragments.grouped(
        _agent(fragments, item, form, view) if agent_id is None or item.id == agent_id else None
        for item in agents
    ):
        yield b",".join(group)


def _agent(fragments: Fragments, item: Agent, form: str, view: View | None) -> bytes:
    shown = item if view is None else view.agent(item)
    return fragments.agent(shown, form) if shown is item else fragments.agent_anew(shown, form)


def _frameworks(
    master: Master,
    fragments: Fragments,
    listed: Mapping[str, Framework],
    view: View | None,
    framework_id: str | None = None,
) -> Iterator[Pieces]:
    for item in list(listed.values()):
        is_shown = view is None or view.shows_framework(item.info)
        if is_shown and (framework_id is None or item.id == framework_id):
            yield _framework(master, fragments, item, view)


def _framework(master: Master, fragments: Fragments, item: Framework, view: View | None) -> Pieces:
    """A framework with its tasks, offers and executors."""
    used = Resources()
    for part in fragments.used_by(item):
        used += part
        yield b""
    if view is not None:
        used = view.of_resources(used)
    live = (task.wire for task in list(item.tasks.values()))
    unreachable, completed = list(item.unreachable_tasks.values()), list(item.completed_tasks)
    shows_executors = view is None or view.shows_executors(item.info)

    def shown(tasks: Iterable[Task]) -> Pieces:
        if view is None:
            return _array(fragments.tasks(tasks, "state"))
        return _array(
            fragments.tasks(
                (task if view.shows_task(item.info, task.user) else None for task in tasks), "state"
            )
        )

    parts = {
        "tasks": shown(live),
        "unreachable_tasks": shown(unreachable),
        "completed_tasks": shown(completed),
        "offers": _array(_encoded(legacy.offers(master, item))),
        "executors": _array(_encoded(legacy.executors(item) if shows_executors else ())),
    }
    yield from _object(legacy.framework(master, item, used), parts)


def tasks(
    master: Master,
    fragments: Fragments,
    *,
    framework_id: str | None,
    task_id: str | None,
    limit: int,
    offset: int,
    ascending: bool,
    view: View | None = None,
) -> Pieces:
    """/tasks: live, unreachable and completed ones, by the time of their first status."""
    fragments.prune()
    # Sorted in runs, which are merged for as far as they are wanted: one sort of all would block.
    runs: list[list[Task]] = []
    for item in list(views.every_framework(master)):
        if framework_id is not None and item.id != framework_id:
            continue
        for some in _tasks_of(item, view):
            run = [task for task in some if task_id is None or task.task_id.value == task_id]
            run.sort(key=_first_at, reverse=not ascending)
            runs.append(run)
            yield b""
    merged = heapq.merge(*runs, key=_first_at, reverse=not ascending)
    # The largest index that islice takes is that of any list.
    chosen = list(islice(merged, min(offset, sys.maxsize), min(offset + limit, sys.maxsize)))
    yield from _object({}, {"tasks": _array(fragments.tasks(chosen, "state"))})


def _tasks_of(item: Framework, view: View | None) -> Iterator[list[Task]]:
    """Live, unreachable and completed ones, some at a time: to look at all at once takes long."""
    if view is None:
        yield from _every_task(item)
    elif view.shows_framework(item.info):
        for some in _every_task(item):
            yield [task for task in some if view.shows_task(item.info, task.user)]


def _every_task(item: Framework) -> Iterator[list[Task]]:
    for records in chunks(list(item.tasks.values())):
        yield [record.wire for record in records]
    yield from chunks(list(item.unreachable_tasks.values()))
    yield from chunks(list(item.completed_tasks))


def _first_at(task: Task) -> tuple[float, str]:
    first = task.statuses[0].timestamp if task.statuses else None
    return (0.0 if first is None else first, task.task_id.value)


def state_summary(
    master: Master, fragments: Fragments, cluster: str | None, view: View | None = None
) -> Pieces:
    """/state-summary: no tasks, but how many there are in which state."""
    fragments.prune()
    counts = _Counts()
    for item in list(views.every_framework(master)):
        for some in _tasks_of(item, view):
            for task in some:
                counts.add(item.id, task)
            yield b""
    head: Fields = {"hostname": master.info.hostname}
    if cluster is not None:
        head["cluster"] = cluster
    parts = {
        "slaves": _array_of(_summed_agents(master, fragments, counts, view)),
        "frameworks": _array_of(_summed_frameworks(master, fragments, counts, view)),
    }
    yield from _object(head, parts)


class _Counts:
    """Tasks by state, of each agent and of each framework."""

    def __init__(self) -> None:
        self.by_agent: dict[str, Counter[str]] = {}
        self.by_framework: dict[str, Counter[str]] = {}
        self.members: dict[str, set[str]] = {}
        self.places: dict[str, set[str]] = {}

    def add(self, framework_id: str, task: Task) -> None:
        agent_id = task.agent_id.value
        self.by_agent.setdefault(agent_id, Counter())[task.state] += 1
        self.by_framework.setdefault(framework_id, Counter())[task.state] += 1
        self.members.setdefault(agent_id, set()).add(framework_id)
        self.places.setdefault(framework_id, set()).add(agent_id)


def _summed_agents(
    master: Master, fragments: Fragments, counts: _Counts, view: View | None
) -> Iterator[Pieces]:
    for item in list(master.agents.values()):
        more = legacy.counts(counts.by_agent.get(item.id, Counter()))
        more["framework_ids"] = sorted(counts.members.get(item.id, ()))
        # One object of two: the agent's own, and what is counted here.
        own = _agent(fragments, item, "state", view)
        yield iter((own[:-1], b"," + json.encode(more)[1:]))


def _summed_frameworks(
    master: Master, fragments: Fragments, counts: _Counts, view: View | None
) -> Iterator[Pieces]:
    for item in list(master.frameworks.values()):
        if view is None or view.shows_framework(item.info):
            yield _summed_framework(master, fragments, counts, item, view)


def _summed_framework(
    master: Master,
    fragments: Fragments,
    counts: _Counts,
    item: Framework,
    view: View | None,
) -> Pieces:
    used = Resources()
    for part in fragments.used_by(item):
        used += part
        yield b""
    if view is not None:
        used = view.of_resources(used)
    summary = legacy.framework_summary(item, used, views.offered_to(master, item))
    more = legacy.counts(counts.by_framework.get(item.id, Counter()))
    more["slave_ids"] = sorted(counts.places.get(item.id, ()))
    yield json.encode({**summary, **more})
