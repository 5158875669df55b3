"""GET_STATE and its like, and what an event stream begins with, as JSON or protobuf in pieces.

First everything is taken (`captures.Capture`), agents as documents and tasks as references to their
frozen records, with turns for others in between; then it is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from mesostk.master import views
from mesostk.master.captures import Capture
from mesostk.master.fragments import Fragments
from mesostk.master.permits import View
from mesostk.master.pieces import Groups, Node, Pieces, to_json, to_protobuf
from mesostk.master.state import Agent, Executor, Framework, TaskRecord
from mesostk.resources.resources import Resources
from mesostk.wire import json, operator, protobuf
from mesostk.wire.mesos import AgentID, FrameworkInfo, Message, Task

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: Some 0.5 ms where none of them is in the processor's cache.
_TASKS_AT_ONCE = 1000


class Form(NamedTuple):
    """How a document is written; `name` is that of its fragments."""

    name: str
    encode: Callable[[Message], bytes]
    write: Callable[[Node], Pieces]


JSON = Form("v1", json.encode, to_json)
PROTOBUF = Form("protobuf", protobuf.encode, to_protobuf)


def answer(
    kind: operator.ResponseType,
    master: Master,
    fragments: Fragments,
    form: Form = JSON,
    view: View | None = None,
) -> Pieces:
    """The answer to a call of `CALLS`; `view` is None for who sees everything."""
    document = _Document(master, fragments, form, view)
    body = yield from CALLS[kind](document, Capture(master))
    yield from form.write(Node(operator.Response(type=kind), {kind.lower(): body}))


def subscribed(
    master: Master,
    capture: Capture,
    fragments: Fragments,
    form: Form,
    view: View | None,
    heartbeat_s: float,
) -> Pieces:
    """The first event of a stream; what `capture` calls news from now on is to follow it."""
    state = yield from _Document(master, fragments, form, view).state(capture)
    body = Node(operator.Subscribed(heartbeat_interval_seconds=heartbeat_s), {"get_state": state})
    yield from form.write(Node(operator.Event(type="SUBSCRIBED"), {"subscribed": body}))


class _Taken(NamedTuple):
    """A framework at the instant at which it was taken; its live tasks come by and by."""

    info: FrameworkInfo
    document: bytes
    tasks: list[Task]
    unreachable_tasks: list[Task]
    completed_tasks: list[Task]
    #: By (agent, executor) id.
    executors: list[tuple[tuple[str, str], Executor]]


def _add_tasks(taken: _Taken, framework: Framework, tasks: Mapping[str, TaskRecord]) -> None:
    """Put what were live tasks of the framework where they are now."""
    for task_id, record in tasks.items():
        now = framework.tasks.get(task_id)
        if now is not None:
            taken.tasks.append(now.wire)
        elif (aside := framework.unreachable_tasks.get(task_id)) is not None:
            taken.unreachable_tasks.append(aside)
        else:
            taken.completed_tasks.append(record.wire)


class _Document:
    """What is shown, to whom, in which form. Each part is a generator that returns its message."""

    def __init__(self, master: Master, fragments: Fragments, form: Form, view: View | None) -> None:
        fragments.prune()
        self._master = master
        self._fragments = fragments
        self._form = form
        self._view = view

    # -- messages -------------------------------------------------------------------------------

    def state(self, capture: Capture) -> Generator[bytes, None, Node]:
        agents = yield from self.agents(capture)
        live, completed = yield from self._take(capture, with_documents=True)
        parts = {
            "get_tasks": self._tasks_of((*live, *completed)),
            "get_executors": self._executors_of(live),
            "get_frameworks": self._frameworks_of(live, completed),
            "get_agents": agents,
        }
        return Node(operator.State(), parts)

    def tasks(self, capture: Capture) -> Generator[bytes, None, Node]:
        live, completed = yield from self._take(capture, with_documents=False)
        return self._tasks_of((*live, *completed))

    def executors(self, capture: Capture) -> Generator[bytes, None, Node]:
        live, _ = yield from self._take(capture, with_documents=False)
        return self._executors_of(live)

    def frameworks(self, capture: Capture) -> Generator[bytes, None, Node]:
        live, completed = yield from self._take(capture, with_documents=True)
        return self._frameworks_of(live, completed)

    def agents(self, capture: Capture) -> Generator[bytes, None, Node]:
        found = []
        for agent in capture.agents():
            found.append(self._agent(agent))
            if self._fragments.is_turn():
                yield b""
        view, encode = self._view, self._form.encode
        recovered = [record.info for record in self._master.recovered.values()]
        infos = (encode(info if view is None else view.of_agent(info)) for info in recovered)
        parts = {
            "agents": self._fragments.grouped(found),
            "recovered_agents": self._fragments.grouped(infos),
        }
        return Node(operator.Agents(), parts)

    def _tasks_of(self, frameworks: Iterable[_Taken]) -> Node:
        lists: dict[str, Callable[[_Taken], list[Task]]] = {
            "tasks": lambda item: item.tasks,
            "unreachable_tasks": lambda item: item.unreachable_tasks,
            "completed_tasks": lambda item: item.completed_tasks,
        }
        parts = {name: self._tasks(frameworks, get) for name, get in lists.items()}
        return Node(operator.Tasks(), parts)

    def _executors_of(self, frameworks: Iterable[_Taken]) -> Node:
        return Node(operator.Executors(), {"executors": self._executors(frameworks)})

    def _frameworks_of(self, live: Iterable[_Taken], completed: Iterable[_Taken]) -> Node:
        parts = {
            "frameworks": iter([[item.document] for item in live]),
            "completed_frameworks": iter([[item.document] for item in completed]),
        }
        return Node(operator.Frameworks(), parts)

    # -- taking ---------------------------------------------------------------------------------

    def _take(
        self, capture: Capture, *, with_documents: bool
    ) -> Generator[bytes, None, tuple[list[_Taken], list[_Taken]]]:
        """The live and the completed frameworks that are shown."""
        live, completed = [], []
        for framework in capture.frameworks():
            used = Resources()
            if with_documents:
                for part in self._fragments.used_by(framework):
                    used += part
                    yield b""
            if capture.take(framework) and self._shows(framework):
                live.append(taken := self._framework(framework, used, is_live=True))
                yield b""
                while some := capture.tasks(framework, _TASKS_AT_ONCE):
                    _add_tasks(taken, framework, some)
                    yield b""
                taken.tasks.reverse()
            yield b""
        for framework in capture.completed_frameworks():
            if self._shows(framework):
                completed.append(self._framework(framework, Resources(), is_live=False))
            yield b""
        return live, completed

    def _shows(self, framework: Framework) -> bool:
        return self._view is None or self._view.shows_framework(framework.info)

    def _framework(self, framework: Framework, used: Resources, *, is_live: bool) -> _Taken:
        master, offers = self._master, []
        if is_live:
            offers = [master.offers[offer_id] for offer_id in sorted(framework.offers)]
        record = views.framework_record(
            framework,
            used=self._seen(used),
            offered=self._seen(Resources.sum(offer.resources for offer in offers)),
            offers=tuple(offer.wire for offer in offers),
            inverse_offers=tuple(master.inverse.of_framework(framework.id)) if is_live else (),
        )
        return _Taken(
            framework.info,
            self._form.encode(record),
            [],
            list(framework.unreachable_tasks.values()),
            list(framework.completed_tasks),
            list(framework.executors.items()),
        )

    def _agent(self, agent: Agent) -> bytes:
        view = self._view
        if view is None:
            return self._fragments.agent(agent, self._form.name)
        record = views.agent_record(
            agent,
            view.of_resources(agent.total),
            view.of_resources(views.used_on(agent)),
            view.of_resources(views.offered_on(self._master, agent)),
        )
        return self._form.encode(replace(record, agent_info=view.of_agent(agent.info)))

    def _seen(self, resources: Resources) -> Resources:
        return resources if self._view is None else self._view.of_resources(resources)

    # -- writing --------------------------------------------------------------------------------

    def _tasks(self, frameworks: Iterable[_Taken], get: Callable[[_Taken], list[Task]]) -> Groups:
        task, name, view = self._fragments.task, self._form.name, self._view
        for item in frameworks:
            if view is None:
                yield from self._fragments.grouped(task(each, name) for each in get(item))
                continue
            yield from self._fragments.grouped(
                task(each, name) if view.shows_task(item.info, each.user) else None
                for each in get(item)
            )

    def _executors(self, frameworks: Iterable[_Taken]) -> Groups:
        for item in frameworks:
            if self._view is not None and not self._view.shows_executors(item.info):
                continue
            yield from self._fragments.grouped(
                self._form.encode(
                    operator.Executor(executor_info=executor.info, agent_id=AgentID(agent_id))
                )
                for (agent_id, _), executor in item.executors
            )


_Make = Callable[[_Document, Capture], Generator[bytes, None, Node]]

#: Answers that grow with the cluster.
CALLS: dict[operator.ResponseType, _Make] = {
    "GET_STATE": _Document.state,
    "GET_AGENTS": _Document.agents,
    "GET_FRAMEWORKS": _Document.frameworks,
    "GET_EXECUTORS": _Document.executors,
    "GET_TASKS": _Document.tasks,
}
