"""Whatever is in its store, Marathon leads on; what it cannot read it names and leaves alone."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mesostk.marathon import repository
from mesostk.marathon.events import ChangeGroup, CreateApp, CreatePod, PutApps
from mesostk.marathon.tests.conftest import World
from mesostk.testing.hostile import changed, damaged, fuzz, garbage

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 2**70, 1.5, 1e308, "", "x", "/a/b", "..", "é\n", [], [None], {},
    "2016-06-20T12:00:00.000Z",
)  # fmt: skip

POD = {"name": "c", "exec": {"command": {"shell": "x"}}, "resources": {"cpus": 0.1, "mem": 16}}


def app(id: str, **fields: object) -> dict[str, object]:
    return {"id": id, "cmd": "serve", "cpus": 0.1, "mem": 16, **fields}


@cache
def lived() -> World:
    """A Marathon with records of every kind that apps, groups and pods leave."""
    world = World(1)
    world.connect()
    world.ask(CreateApp, body=app("/web", instances=2, constraints=[["hostname", "UNIQUE"]]))
    world.settle(3)
    world.ask(PutApps, app_id="/web", bodies=({"mem": 32},))
    world.settle(9)
    world.end(world.running("/web")[0])
    world.ask(ChangeGroup, group_id="/g", body={"apps": [app("/g/a", dependencies=["/web"])]})
    world.settle(4)
    world.ask(CreatePod, body={"id": "/pod", "containers": [POD]})
    world.settle(4)
    world.ask(CreateApp, body=app("/huge", cpus=1000))
    kinds = {path.partition("/")[0] for path in world.store}
    assert kinds == {
        "apps", "audit", "deployments", "failures", "framework-id", "groups", "instances", "root",
    }  # fmt: skip
    return world


@st.composite
def stores(draw: st.DrawFn) -> dict[str, bytes]:
    """What a Marathon lived with: some of it damaged, or lost, or in the place of another."""
    whole = lived().store
    store = dict(whole)
    for path in draw(st.lists(st.sampled_from(sorted(whole)), min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(("damaged", "changed", "lost", "swapped")))
        if kind == "damaged":
            store[path] = draw(damaged(whole[path])) or b"\0"
        elif kind == "changed":
            store[path] = draw(changed(whole[path], JUNK))
        elif kind == "swapped":
            store[path] = whole[draw(st.sampled_from(sorted(whole)))]
        else:
            del store[path]
    if draw(st.booleans()):
        strange = ("apps/x", "apps/0/é/..", "instances/00/x", "strange", "callbacks", "handover")
        store[draw(st.sampled_from(strange))] = draw(garbage) or b"\0"
    return store


@fuzz(40)
@given(stores())
@example({"root": b'{"version":"x"}'})
@example({"groups/4/_/x": b'{"id":"/","version":"x","apps":{}}'})
@example({"root": b'{"version":"9999-12-31T23:59:59.999Z"}'})
@example({"audit/x/x": b'{"timestamp":"x","clientIp":"","method":"","uri":"","version":"x"}'})
def test_marathon_leads_on_whatever_its_store_holds(store: dict[str, bytes]) -> None:
    before = lived()
    unreadable = repository.read_all(store).unreadable
    world = World(2)
    world.store = dict(store)
    world.tasks, world.states = dict(before.tasks), dict(before.states)
    world.start()
    named = {str(note.fields["path"]) for note in world.notes if "path" in note.fields}
    assert named >= set(unreadable)
    world.connect()
    world.settle(3)
    world.advance(100)
    # What could not be read stays as it is, but for the two records that a leader sets anew.
    kept = unreadable.keys() - {repository.FRAMEWORK_ID, repository.ROOT}
    assert {path: world.store.get(path) for path in kept} == {path: store[path] for path in kept}
    assert world.ask(CreateApp, body=app("/after")).status in (201, 409, 422)
