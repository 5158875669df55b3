"""A backup of Marathon is whole, or is told to be not."""

from __future__ import annotations

import pytest

from mesostk.errors import WireError
from mesostk.marathon.events import ChangeGroup, CreateApp, PutApps
from mesostk.marathon.tests.conftest import World
from mesostk.marathon.wholeness import app_ids


def app(id: str, **fields: object) -> dict[str, object]:
    return {"id": id, "cmd": "serve", "cpus": 0.1, "mem": 16, **fields}


@pytest.fixture
def full(world: World) -> World:
    """A cluster with versions, a wide group, running tasks, a failure and a deployment."""
    world.ask(CreateApp, body=app("/web", instances=2))
    world.settle(3)
    world.ask(PutApps, app_id="/web", bodies=({"mem": 32},))
    world.settle(9)
    world.end(world.running("/web")[0])
    wide = [app(f"/wide/a{n}", instances=0) for n in range(300)]
    world.ask(ChangeGroup, group_id="/wide", body={"apps": wide})
    world.ask(CreateApp, body=app("/huge", cpus=1000))
    return world


def test_a_whole_store_names_its_apps(full: World) -> None:
    assert app_ids(full.store) == {"/web", "/huge", *(f"/wide/a{n}" for n in range(300))}
    assert app_ids({}) == frozenset()


def test_a_store_brought_back_is_the_same_marathon(full: World) -> None:
    other = World()
    other.store = dict(full.store)
    other.start()
    state, back = full.core.state, other.core.state
    assert back.root == state.root
    assert back.versions == state.versions
    assert back.framework_id == state.framework_id
    assert back.instances == state.instances
    assert back.deployments == state.deployments


def test_half_a_store_is_named_as_such(full: World) -> None:
    shard = next(path for path in full.store if path.startswith("shards/"))
    lost = {path: data for path, data in full.store.items() if path != shard}
    with pytest.raises(WireError, match="missing: shard /wide"):
        app_ids(lost)
    with pytest.raises(WireError, match="shards/"):
        app_ids({**full.store, shard: b'{"id": 5}'})


def test_many_damaged_records_are_counted(full: World) -> None:
    for number in range(8):
        full.store[f"apps/0/web/garbage{number}"] = b"\x00garbage"
    with pytest.raises(WireError, match=r"garbage0: .* and 3 more"):
        app_ids(full.store)
