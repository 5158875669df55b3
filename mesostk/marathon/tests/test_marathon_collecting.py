"""Records that nothing refers to any more are removed."""

from __future__ import annotations

from mesostk.marathon import grouprecords
from mesostk.marathon.events import ChangeGroup, CreateApp, DeleteApp, DeleteGroup, PutApps
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World


def app(id: str, **fields: object) -> dict[str, object]:
    return {"id": id, "cmd": "serve", "cpus": 0.1, "mem": 16, "instances": 0, **fields}


def small(max_versions: int = 3) -> World:
    world = World(settings=Settings(max_versions=max_versions))
    world.connect()
    return world


def stored(world: World, kind: str) -> list[str]:
    return [path for path in world.store if path.startswith(kind + "/")]


def test_versions_of_apps_and_groups_are_kept_up_to_their_limit() -> None:
    world = small()
    world.ask(CreateApp, body=app("/g/web"))
    for mem in range(1, 9):
        world.ask(PutApps, app_id="/g/web", bodies=({"mem": mem},))
        world.advance(1.0)
    assert len(stored(world, "apps")) == 3
    assert len(stored(world, "groups")) == 6  # of / and /g
    assert {path.rpartition("/")[2] for path in stored(world, "apps")} == set(
        world.core.state.versions["/g/web"]
    )


def test_a_deleted_group_leaves_no_record() -> None:
    world = small()
    world.ask(ChangeGroup, group_id="/g", body={"apps": [app("a")], "groups": [{"id": "h"}]})
    world.advance(1.0)
    world.ask(DeleteGroup, group_id="/g")
    world.advance(1.0)
    assert {path.split("/")[2] for path in stored(world, "groups")} == {"_"}
    assert not stored(world, "apps")


def test_shards_of_dropped_versions_go_and_those_still_named_stay() -> None:
    world = small()
    world.ask(PutApps, bodies=tuple(app(f"/a{n}") for n in range(300)))
    for mem in range(1, 9):
        world.ask(PutApps, app_id="/a7", bodies=({"mem": mem},))
        world.advance(1.0)
    of_seven = [path for path in stored(world, "shards") if path.split("/")[3] == shard("/a7")]
    assert len(of_seven) == 3
    assert len(stored(world, "shards")) == grouprecords.SHARDS + 2
    assert world.start().state.apps["/a7"].mem == 8
    assert len(world.core.state.apps) == 300


def shard(app_id: str) -> str:
    return grouprecords.shard_of(app_id)


def test_what_an_earlier_leader_left_behind_goes_at_the_start() -> None:
    world = small()
    world.ask(CreateApp, body=app("/g/web"))
    world.advance(1.0)
    before = dict(world.store)
    world.ask(DeleteApp, app_id="/g/web")
    world.ask(DeleteGroup, group_id="/g")
    world.advance(1.0)
    left = {path for path in before if path.startswith(("apps/", "groups/"))}
    world.store.update({path: before[path] for path in left if path not in world.store})
    assert stored(world, "apps")
    world.start()
    assert not stored(world, "apps")
    assert {path.split("/")[2] for path in stored(world, "groups")} == {"_"}


def test_versions_that_a_running_deployment_needs_are_kept() -> None:
    world = small(max_versions=1)
    world.ask(CreateApp, body=app("/web", instances=1))
    world.settle(3)
    first = world.core.state.apps["/web"].version
    world.ask(PutApps, app_id="/web", bodies=({"cpus": 1000.0},))
    world.settle(3)
    world.start()
    assert first in world.core.state.versions["/web"]
    assert len(world.core.state.deployments) == 1
