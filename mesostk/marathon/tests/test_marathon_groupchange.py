"""Groups through the API's commands (spec/marathon §1.6)."""

from __future__ import annotations

import msgspec
import pytest

from mesostk.marathon.events import ChangeGroup, CreateApp, DeleteGroup, PutApps, Reply
from mesostk.marathon.tests.conftest import World


def app(id: str, **fields: object) -> dict[str, object]:
    return {"id": id, "cmd": "serve", "cpus": 0.1, "mem": 16, **fields}


SHOP: dict[str, object] = {
    "id": "/shop",
    "groups": [
        {"id": "db", "apps": [app("main")]},
        {"id": "web", "dependencies": ["../db"], "apps": [app("front", instances=2)]},
    ],
}


def put(world: World, id: str, body: dict[str, object], **fields: object) -> Reply:
    return world.ask(ChangeGroup, group_id=id, body=body, **fields)


def post(world: World, body: dict[str, object]) -> Reply:
    return world.ask(ChangeGroup, group_id="/", body=body, create=True)


def test_a_group_is_created_with_all_in_it_in_the_order_of_dependencies(world: World) -> None:
    reply = post(world, SHOP)
    assert reply.status == 201
    assert reply.headers["Location"] == "/v2/groups/shop"
    world.obey = False
    world.offer()
    assert {id.partition(".")[0] for id in world.tasks} == {"shop_db_main"}
    world.obey = True
    world.update(next(iter(world.tasks)), "TASK_RUNNING")
    world.feed()
    world.settle(3)
    assert len(world.running("/shop/web/front")) == 2
    assert not world.core.state.deployments


def test_a_group_that_exists_is_not_created_again(world: World) -> None:
    post(world, SHOP)
    assert post(world, SHOP).status == 409
    world.ask(CreateApp, body=app("/alone"))
    assert post(world, {"id": "/alone"}).status == 409


def test_listed_apps_replace_the_set_and_absent_lists_keep_it(world: World) -> None:
    post(world, {"id": "/g", "apps": [app("a"), app("b")]})
    world.settle(3)
    put(world, "/g", {"apps": [app("b"), app("c")]})
    world.settle(5)
    assert set(world.core.state.apps) == {"/g/b", "/g/c"}
    put(world, "/g", {"dependencies": []})
    world.settle(3)
    assert set(world.core.state.apps) == {"/g/b", "/g/c"}
    assert len(world.running("/g/b")) == len(world.running("/g/c")) == 1
    assert len(world.launched_ever) == 3, "b was restarted"


def test_the_same_content_restarts_nothing(world: World) -> None:
    post(world, SHOP)
    world.settle(5)
    launched = len(world.launched_ever)
    assert put(world, "/shop", SHOP).status == 200
    world.settle(3)
    assert len(world.launched_ever) == launched


def test_scale_by_multiplies_and_rounds_up(world: World) -> None:
    post(world, SHOP)
    world.settle(5)
    assert put(world, "/shop", {"scaleBy": 1.5}).status == 200
    world.settle(5)
    assert len(world.running("/shop/db/main")) == 2
    assert len(world.running("/shop/web/front")) == 3
    assert put(world, "/shop", {"scaleBy": 2, "apps": []}).status == 422
    assert put(world, "/shop", {"scaleBy": -1}).status == 422
    assert put(world, "/no", {"scaleBy": 2}).status == 404


def test_a_group_goes_back_to_a_version(world: World) -> None:
    post(world, {"id": "/g", "apps": [app("a")]})
    world.settle(3)
    first = world.core.state.root.groups["/g"].version
    put(world, "/g", {"apps": [app("a", cmd="other"), app("b")]})
    world.settle(5)
    assert put(world, "/g", {"version": first}).status == 200
    world.settle(5)
    assert {id: a.cmd for id, a in world.core.state.apps.items()} == {"/g/a": "serve"}
    assert put(world, "/g", {"version": "2001-01-01T00:00:00.000Z"}).status == 404


def test_a_dry_run_answers_steps_and_changes_nothing(world: World) -> None:
    stored = dict(world.store)
    reply = put(world, "/shop", SHOP, dry_run=True)
    steps = msgspec.json.decode(msgspec.json.encode(reply.body))["steps"]
    assert [[a["action"] for a in step["actions"]] for step in steps] == [
        ["StartApplication", "StartApplication"],
        ["ScaleApplication"],
        ["ScaleApplication"],
    ]
    assert world.store == stored
    assert not world.core.state.apps


def test_deleting_a_group_ends_all_in_it(world: World) -> None:
    post(world, SHOP)
    world.settle(5)
    assert world.ask(DeleteGroup, group_id="/shop").status == 200
    world.settle(5)
    assert not world.tasks
    assert not world.core.state.root.groups
    assert world.ask(DeleteGroup, group_id="/shop").status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "/bad_id"}, 422),
        ({"id": "/g", "apps": [app("/elsewhere/a")]}, 422),
        ({"id": "/g", "groups": [{"id": "/other"}]}, 422),
        ({"id": "/g", "apps": [app("x"), app("x")]}, 422),
        ({"id": "/g", "apps": [{"cmd": "x"}]}, 400),
        ({"id": "/g", "apps": 5}, 400),
        ({"id": "/g", "unknown": 5}, 422),
        ({"id": "/g", "apps": [app("a", dependencies=["b"]), app("b", dependencies=["a"])]}, 422),
        ({"id": "/g", "apps": [app("x")], "groups": [{"id": "x"}]}, 422),
    ],
)
def test_unsound_groups_are_refused_and_change_nothing(
    world: World, body: dict[str, object], status: int
) -> None:
    stored = dict(world.store)
    assert post(world, body).status == status
    assert world.store == stored
    assert not world.core.state.apps


def test_a_forced_change_finishes_what_the_deployment_before_it_was_about(world: World) -> None:
    post(world, {"id": "/g", "apps": [app("a"), app("b"), app("c")]})
    world.settle(5)
    put(world, "/g", {"apps": [app("a", cmd="other"), app("b", cmd="other")]})
    changed = ({"instances": 2},)
    assert world.ask(PutApps, app_id="/g/a", bodies=changed).status == 409
    world.ask(PutApps, app_id="/g/a", bodies=changed, force=True)
    assert len(world.core.state.deployments) == 1
    world.settle(10)
    assert not world.core.state.deployments
    shown = {
        id: [i.version for i in world.core.state.of_app(id)] for id in ("/g/a", "/g/b", "/g/c")
    }
    wanted = world.core.state.apps
    assert shown["/g/b"] == [wanted["/g/b"].version], "restarted, although it was not named again"
    assert (len(shown["/g/a"]), shown["/g/c"]) == (2, [])
