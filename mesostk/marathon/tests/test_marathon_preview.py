"""Dry runs tell what would happen to each instance, and change nothing; restart=false."""

from __future__ import annotations

import pytest

from mesostk.marathon.events import Command, CreateApp, PutApps
from mesostk.marathon.preview import AppPlan, Preview
from mesostk.marathon.tests.conftest import World


def web(**fields: object) -> dict[str, object]:
    return {"id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 16, "instances": 3, **fields}


@pytest.fixture
def running(world: World) -> World:
    """Three instances of /web."""
    world.ask(CreateApp, body=web())
    world.settle(3)
    assert len(world.running("/web")) == 3
    return world


def planned(world: World, command: type[Command], **fields: object) -> Preview:
    """The preview; nothing may have changed."""
    before = dict(world.store)
    told = len(world.emitted)
    reply = world.ask(command, dry_run=True, **fields)
    assert reply.status == 200
    assert world.store == before
    assert len(world.emitted) == told
    assert isinstance(reply.body, Preview)
    return reply.body


def only(found: Preview) -> AppPlan:
    (app,) = found.apps
    return app


def put(world: World, **fields: object) -> Preview:
    return planned(world, PutApps, app_id="/web", bodies=(fields,))


def fates(app: AppPlan) -> list[str]:
    return sorted(each.action for each in app.instances)


def test_a_new_app_would_be_launched(world: World) -> None:
    app = only(planned(world, CreateApp, body=web()))
    assert (app.change, app.launch, app.instances) == ("create", 3, ())
    assert not world.core.state.apps


def test_a_new_command_would_replace_every_instance(running: World) -> None:
    app = only(put(running, cmd="serve better", instances=2))
    assert (app.change, app.fields, app.launch) == ("restart", ("cmd", "instances"), 2)
    assert fates(app) == ["kill", "replace", "replace"]


def test_scaling_up_keeps_all_and_down_names_those_that_go(running: World) -> None:
    up = only(put(running, instances=5))
    assert (up.change, up.launch, fates(up)) == ("scale", 2, ["keep"] * 3)
    down = only(put(running, instances=1))
    assert (down.change, down.launch, fates(down)) == ("scale", 0, ["keep", "kill", "kill"])
    doomed = {each.id for each in down.instances if each.action == "kill"}
    running.ask(PutApps, app_id="/web", bodies=({"instances": 1},))
    running.settle(2)
    assert doomed.isdisjoint(running.core.state.instances), "it does what was told"


def test_what_changes_nothing_has_no_apps_and_no_steps(running: World) -> None:
    found = put(running, cmd="serve")
    assert (found.apps, found.steps) == ((), ())


def test_a_dry_run_refuses_what_the_change_would_be_refused_for(running: World) -> None:
    wrong = running.ask(PutApps, dry_run=True, app_id="/web", bodies=({"cpus": -1},))
    assert wrong.status == 422
    assert running.ask(CreateApp, dry_run=True, body=web()).status == 409


def test_labels_change_without_a_restart_when_told_so(running: World) -> None:
    before = set(running.running("/web"))
    fields = {"labels": {"a": "b"}, "instances": 4}
    reply = running.ask(PutApps, app_id="/web", bodies=(fields,), may_restart=False)
    assert reply.status == 200
    running.settle(3)
    assert before < set(running.running("/web"))
    assert running.core.state.apps["/web"].labels == {"a": "b"}
    assert not running.core.state.deployments
    app = only(put(running, labels={"a": "c"}))
    assert app.change == "restart", "without restart=false it is as in the original"


def test_a_change_that_tasks_must_know_of_is_refused_with_restart_false(running: World) -> None:
    fields = {"labels": {"a": "b"}, "cmd": "other", "mem": 17}
    reply = running.ask(PutApps, app_id="/web", bodies=(fields,), may_restart=False)
    assert reply.status == 422
    assert "restart=false: cmd, mem" in str(reply.body)
    assert running.core.state.apps["/web"].labels == {}
