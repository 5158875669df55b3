"""Draining: Killing is told first, KILL follows when balancers have had their time."""

from __future__ import annotations

import pytest

from mesostk.marathon.events import CreateApp, DeleteApp, KillTasks, PutApps
from mesostk.marathon.tests.conftest import World
from mesostk.wire.marathon import InstanceChanged, StatusUpdateEvent


def web(**labels: str) -> dict[str, object]:
    return {
        "id": "/web",
        "cmd": "serve",
        "cpus": 0.1,
        "mem": 16,
        "labels": {"HAPROXY_GROUP": "external", **labels},
    }


def started(world: World, app: dict[str, object]) -> str:
    assert world.ask(CreateApp, body=app).status == 201
    world.settle(2)
    return world.running("/web")[0]


def told(world: World) -> list[str]:
    """States and conditions told so far."""
    found = []
    for emit in world.emitted:
        if isinstance(emit.event, StatusUpdateEvent):
            found.append(emit.event.task_status)
        elif isinstance(emit.event, InstanceChanged):
            found.append(emit.event.condition)
    return found


def test_killing_is_told_two_seconds_before_the_kill_of_a_balanced_app(world: World) -> None:
    task = started(world, web())
    world.ask(KillTasks, app_id="/web")
    assert told(world)[-2:] == ["TASK_KILLING", "Killing"]
    world.advance(1.9)
    assert world.killed_ever == []
    world.advance(0.2)
    assert world.killed_ever == [task]
    assert told(world)[-2:] == ["TASK_KILLED", "Killed"]
    assert told(world).count("TASK_KILLING") == 1


def test_an_app_that_no_balancer_serves_is_killed_at_once(world: World) -> None:
    task = started(world, {**web(), "labels": {}})
    world.ask(KillTasks, app_id="/web")
    assert world.killed_ever == [task]


@pytest.mark.parametrize(("label", "at_s"), [("0", 0.0), ("7.5", 7.5)])
def test_the_apps_label_overrules_the_flag(world: World, label: str, at_s: float) -> None:
    started(world, web(MARATHON_DRAIN_SECONDS=label))
    world.ask(DeleteApp, app_id="/web")
    if at_s:
        world.advance(at_s - 0.1)
        assert world.killed_ever == []
        world.advance(0.2)
    assert len(world.killed_ever) == 1
    assert not world.core.state.deployments


@pytest.mark.parametrize("label", ["", "soon", "-1", "inf", "nan", "3601"])
def test_a_label_that_is_no_number_of_seconds_is_refused(world: World, label: str) -> None:
    reply = world.ask(CreateApp, body=web(MARATHON_DRAIN_SECONDS=label))
    assert reply.status == 422
    assert "MARATHON_DRAIN_SECONDS must be a number of seconds" in str(reply.body)


def test_a_later_leader_drains_from_the_beginning_as_clocks_may_differ(world: World) -> None:
    task = started(world, web(MARATHON_DRAIN_SECONDS="10"))
    world.ask(KillTasks, app_id="/web")
    world.advance(6)
    world.start()
    world.connect()
    world.advance(9.9)
    assert world.killed_ever == []
    world.advance(0.2)
    assert world.killed_ever == [task]


def test_a_task_that_never_ran_or_is_unhealthy_is_killed_at_once(world: World) -> None:
    check = {"protocol": "HTTP", "portIndex": 0, "maxConsecutiveFailures": 1}
    task = started(world, {**web(), "healthChecks": [{**check, "gracePeriodSeconds": 0}]})
    instance = next(iter(world.core.state.instances))
    world.probe(instance, alive=False)
    assert world.killed_ever == [task]
    world.obey = False
    world.settle(5)
    assert len(world.tasks) == 1
    world.ask(DeleteApp, app_id="/web", force=True)
    assert len(world.killed_ever) == 2


def test_an_upgrade_drains_each_old_instance_after_its_replacement_runs(world: World) -> None:
    old = started(world, {**web(), "instances": 1})
    world.ask(PutApps, app_id="/web", bodies=({"cmd": "serve better"},))
    world.offer()
    assert len(world.running("/web")) == 2
    assert told(world)[-2:] == ["TASK_KILLING", "Killing"]
    world.advance(2.1)
    assert world.killed_ever == [old]
    assert not world.core.state.deployments
