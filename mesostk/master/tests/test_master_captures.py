"""Documents of the operator API, and event streams that begin with one: nothing is missed, nothing
is told twice, however long the making takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from mesostk.base.daemon import Daemon
from mesostk.base.http import JSON_TYPE, PROTOBUF_TYPE, make_app
from mesostk.master import acls, permits, v1_documents
from mesostk.master import events as ev
from mesostk.master.captures import Capture
from mesostk.master.entry import Node
from mesostk.master.event_streams import EventStreams, seen_event
from mesostk.master.fragments import Fragments
from mesostk.master.tests.test_master_random import Chaos
from mesostk.wire import json, operator, protobuf
from mesostk.wire.recordio import Decoder

FORMS = [(v1_documents.JSON, json.decode), (v1_documents.PROTOBUF, protobuf.decode)]


def busy(make_bench: Any, seed: int, steps: int = 150) -> tuple[Any, Chaos]:
    bench = make_bench()
    chaos = Chaos(bench, Random(seed))
    bench.feed(ev.OperatorSubscribed("o"))
    for _ in range(steps):
        chaos.step()
    return bench, chaos


def greeting(master: Any, fragments: Fragments, form: Any, view: Any = None) -> Iterator[bytes]:
    capture = Capture(master)
    return v1_documents.subscribed(master, capture, fragments, form, view, 15.0)


@pytest.mark.parametrize("seed", range(4))
def test_both_forms_say_the_same(make_bench: Any, seed: int) -> None:
    bench, chaos = busy(make_bench, seed)
    fragments = Fragments(bench.master)
    for _ in range(2):
        said = [
            decode(b"".join(greeting(bench.master, fragments, form)), operator.Event)
            for form, decode in FORMS
        ]
        assert said[0] == said[1]
        for kind in v1_documents.CALLS:
            both = [
                decode(
                    b"".join(v1_documents.answer(kind, bench.master, fragments, form)),
                    operator.Response,
                )
                for form, decode in FORMS
            ]
            assert both[0] == both[1]
        for _ in range(40):
            chaos.step()


class Follower:
    """What a subscriber knows: the greeting, then what events change of it."""

    def __init__(self, event: operator.Event) -> None:
        assert event.subscribed is not None
        state = event.subscribed.get_state
        assert state is not None
        tasks, agents, frameworks = state.get_tasks, state.get_agents, state.get_frameworks
        assert tasks is not None
        assert agents is not None
        assert frameworks is not None
        lists = (tasks.completed_tasks, tasks.unreachable_tasks, tasks.tasks)
        self.tasks = {_key(task): task.state for listed in lists for task in listed}
        self.agents = {_id(item.agent_info) for item in agents.agents}
        self.frameworks = {_id(item.framework_info) for item in frameworks.frameworks}

    def hear(self, event: operator.Event) -> None:
        if event.task_added is not None:
            self.tasks[_key(event.task_added.task)] = event.task_added.task.state
        if event.task_updated is not None:
            told = event.task_updated
            key = (told.framework_id.value, told.status.task_id.value)
            assert self.tasks[key] != told.state, "told twice"
            self.tasks[key] = told.state
        if event.agent_added is not None:
            self.agents.add(_id(event.agent_added.agent.agent_info))
        if event.agent_removed is not None:
            self.agents.remove(event.agent_removed.agent_id.value)
        if event.framework_added is not None:
            added = _id(event.framework_added.framework.framework_info)
            assert added not in self.frameworks, "told twice"
            self.frameworks.add(added)
        if event.framework_updated is not None:
            updated = event.framework_updated.framework.framework_info
            assert _id(updated) in self.frameworks, "never told of"
        if event.framework_removed is not None:
            self.frameworks.remove(_id(event.framework_removed.framework_info))


def _key(task: Any) -> tuple[str, str]:
    return (task.framework_id.value, task.task_id.value)


def _id(info: Any) -> str:
    found: str = info.id.value
    return found


@pytest.mark.parametrize("seed", range(12))
def test_greeting_and_events_are_the_cluster_whatever_happens_while_it_is_made(
    make_bench: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v1_documents, "_TASKS_AT_ONCE", 1)
    bench, chaos = busy(make_bench, seed, 80)
    rng, waiting = Random(seed), list[operator.Event]()
    form, decode = FORMS[seed % 2]
    capture = Capture(bench.master)
    handle = bench.master.handle

    def handled(now: float, event: Any) -> Any:
        effects = handle(now, event)
        waiting.extend(
            effect.event
            for effect in effects
            if isinstance(effect, ev.Publish) and capture.is_news(effect.event, effect.task)
        )
        return effects

    bench.master.handle = handled
    pieces = v1_documents.subscribed(bench.master, capture, Small(bench.master), form, None, 15.0)
    made = []
    for piece in pieces:
        made.append(piece)
        for _ in range(rng.randrange(4)):
            chaos.step()
    follower = Follower(decode(b"".join(made), operator.Event))
    for _ in range(60):
        chaos.step()
    assert len(waiting) > 3
    for event in waiting:
        follower.hear(event)
    master = bench.master
    assert follower.frameworks == set(master.frameworks)
    # The original tells nothing of agents that become unreachable or gone.
    assert follower.agents >= set(master.agents)
    for framework in master.frameworks.values():
        for task in framework.tasks.values():
            assert follower.tasks[_key(task.wire)] == task.wire.state
    for framework in master.frameworks.values():
        for wire in (*framework.unreachable_tasks.values(), *framework.completed_tasks):
            assert _key(wire) in follower.tasks


class Small(Fragments):
    """Gives others their turn after each single entity."""

    def is_turn(self, work: int = 1) -> bool:
        super().is_turn(work)
        return True


async def test_streams_in_both_forms_are_greeted_and_told_by_a_real_server(
    make_bench: Any,
) -> None:
    bench, chaos = busy(make_bench, 11, 100)
    daemon = Daemon("mesos-master")
    node = Node({}, None)
    node.begin(bench.master)
    streams = EventStreams(node, daemon.metrics, daemon.start)
    performers: dict[type[Any], Any] = {
        ev.GreetOperator: streams.greet,
        ev.Publish: streams.publish,
        ev.SendToOperator: streams.send,
    }
    handle = bench.master.handle

    def handled(now: float, event: Any) -> Any:
        effects = handle(now, event)
        for effect in effects:
            if type(effect) in performers:
                performers[type(effect)](effect)
        return effects

    bench.master.handle = handled
    node.feed = bench.feed  # type: ignore[method-assign]  # the bench drives the core here

    async def serve(request: Any) -> Any:
        return await (await streams.open(request, request.query["kind"], None)).wait()

    app = make_app(daemon.log, daemon.metrics)
    app.router.add_get("/", serve)
    async with TestServer(app) as server, ClientSession() as http:
        answers = []
        for kind in (JSON_TYPE, PROTOBUF_TYPE) * 2:
            answers.append(await http.get(server.make_url("/"), params={"kind": kind}))
            for _ in range(40):
                chaos.step()
                await asyncio.sleep(0)
        last = bench.framework("last")[1]
        for place, answer in enumerate(answers):
            follower = await _follow(answer, (json.decode, protobuf.decode)[place % 2], last)
            assert follower.frameworks == set(bench.master.frameworks)
            live = {
                _key(task.wire): task.wire.state
                for item in bench.master.frameworks.values()
                for task in item.tasks.values()
            }
            assert {key: follower.tasks[key] for key in live} == live
            answer.close()


async def _follow(answer: Any, decode: Any, last: str) -> Follower:
    """Read until the framework `last` is told of."""
    decoder, follower = Decoder(), None
    while follower is None or last not in follower.frameworks:
        chunk = await asyncio.wait_for(answer.content.readany(), 60)
        for record in decoder.feed(chunk):
            event = decode(record, operator.Event)
            if follower is None:
                assert event.type == "SUBSCRIBED"
                follower = Follower(event)
            else:
                follower.hear(event)
    return follower


def some(*values: str) -> dict[str, Any]:
    return {"values": list(values)}


RULES = {
    "permissive": True,
    "view_frameworks": [
        {"principals": some("me"), "users": some("mine")},
        {"principals": some("me"), "users": {"type": "NONE"}},
    ],
    "view_roles": [
        {"principals": some("me"), "roles": some("web", "*")},
        {"principals": some("me"), "roles": {"type": "NONE"}},
    ],
}


def test_a_restricted_subscriber_hears_of_what_it_may_see_only(make_bench: Any) -> None:
    rules = acls.parse(json.encode(RULES).decode())
    bench = make_bench(acls=rules)
    view = permits.view_of(rules, "me")
    assert view is not None
    assert permits.view_of(rules, "boss") is None
    bench.feed(ev.OperatorSubscribed("o", "me"))
    heard: list[operator.Event] = []

    def listen() -> None:
        for effect in bench.of(ev.Publish):
            event = seen_event(view, bench.master, effect.event, effect.task)
            if event is not None:
                heard.append(event)

    kept = "cpus(ops):1;cpus(web):2;mem:512"
    wire, agent_id = bench.agent(resources=kept)
    listen()
    assert heard[-1].agent_added is not None
    roles = {
        item.reservations[-1].role if item.reservations else None
        for item in heard[-1].agent_added.agent.total_resources
    }
    assert roles == {"web", None}
    stream, framework_id = bench.framework(role="web", user="mine")
    listen()
    _, other = bench.framework("other", role="ops", user="theirs")
    listen()
    assert [event.type for event in heard[1:]] == ["FRAMEWORK_ADDED"]
    bench.accept(framework_id, bench.offers(stream), bench.task("t1", agent_id, "cpus(web):1"))
    listen()
    bench.update(wire, framework_id, "t1", "TASK_RUNNING")
    listen()
    bench.call(other, "TEARDOWN")
    listen()
    assert [event.type for event in heard[2:]] == ["TASK_ADDED", "TASK_UPDATED"]
    pieces = greeting(bench.master, Fragments(bench.master), v1_documents.JSON, view)
    begun = json.decode(b"".join(pieces), operator.Event).subscribed
    assert begun is not None
    assert begun.get_state is not None
    assert b"theirs" not in json.encode(begun)
    assert b"ops" not in json.encode(begun)
    assert json.encode(begun).count(b'"value":"t1"') > 0
    assert other not in json.encode(begun).decode()
