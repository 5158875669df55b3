"""Deployments that go nowhere say why and since when, and are rolled back when they are told to."""

from __future__ import annotations

from mesostk.marathon import audit, explaining, planviews
from mesostk.marathon.events import CreateApp, DeleteApp, PutApps
from mesostk.marathon.tests.conftest import OFFSET_S, World
from mesostk.marathon.timestamps import iso
from mesostk.wire.marathon import DeploymentFailed, DeploymentInfoEvent


def web(**fields: object) -> dict[str, object]:
    return {"id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 16, **fields}


def stalls(world: World) -> list[DeploymentInfoEvent]:
    """The events that told of a standstill."""
    events = [emit.event for emit in world.emitted]
    return [each for each in events if isinstance(each, DeploymentInfoEvent) and each.waiting]


def why(world: World) -> str:
    return "; ".join(explaining.why(world.core.state, "/web").reasons)


def test_what_no_offer_can_serve_is_told_with_the_numbers(world: World) -> None:
    world.ask(CreateApp, body=web(mem=100_000))
    began = world.now
    for _ in range(12):
        world.offer()
        world.advance(1.0)
    assert "needs 100000 mem, offer has 1024" in why(world)
    (told,) = stalls(world)
    assert told.waiting[0].app == "/web"
    assert told.waiting[0].since == iso(began + OFFSET_S)
    assert "InsufficientMemory" in "; ".join(told.waiting[0].reasons)
    world.advance(60.0)
    assert len(stalls(world)) == 1, "told once"


def test_strict_clients_see_no_new_key_unless_they_ask(world: World) -> None:
    world.ask(CreateApp, body=web(mem=100_000))
    (plain,) = planviews.deployments(world.core.state)
    assert plain.waiting == ()
    (full,) = planviews.deployments(world.core.state, with_waiting=True)
    assert full.waiting[0].reasons[0] == "0 of 1 instances launched"


def test_back_off_and_the_last_failure_are_told(world: World) -> None:
    world.ask(CreateApp, body=web(backoffSeconds=40))
    world.offer()
    (task,) = world.tasks
    world.update(task, "TASK_FAILED", message="no such file")
    world.feed()
    assert "tried again in" in why(world)
    assert "no such file" in why(world)


def test_a_failing_health_check_is_told_with_its_last_response(world: World) -> None:
    check = {"protocol": "HTTP", "portIndex": 0, "gracePeriodSeconds": 0}
    world.ask(CreateApp, body=web(healthChecks=[{**check, "maxConsecutiveFailures": 0}]))
    world.offer()
    world.probe(next(iter(world.core.state.instances)), alive=False)
    assert "1 unhealthy" in why(world)
    assert "fails its health check: HTTP 500" in why(world)


def test_nothing_is_said_of_an_app_that_is_as_wanted(world: World) -> None:
    world.ask(CreateApp, body=web())
    world.settle(2)
    assert why(world) == ""
    assert stalls(world) == []


def test_an_overdue_upgrade_is_rolled_back_and_says_why(world: World) -> None:
    world.ask(CreateApp, body=web(instances=2))
    world.settle(3)
    before = set(world.running("/web"))
    world.ask(PutApps, app_id="/web", bodies=({"mem": 100_000},), timeout_s=30.0)
    for _ in range(40):
        world.offer()
        world.advance(1.0)
    assert world.core.state.apps["/web"].mem == 16
    assert set(world.running("/web")) == before
    assert not world.core.state.deployments
    failed = [e.event for e in world.emitted if isinstance(e.event, DeploymentFailed)]
    assert failed[0].reason.startswith("not done after 30 s, rolled back (/web: ")
    assert "InsufficientMemory" in failed[0].reason
    own, _asked, _created = audit.entries(
        world.core.state, app="/web", user=None, since=None, limit=9
    )
    assert (own.client_ip, own.method) == ("", "")
    assert own.detail is not None
    assert "not done after 30 s, rolled back" in own.detail
    assert [each.change for each in own.changes] == ["restart"]


def test_an_overdue_creation_leaves_no_app_behind(world: World) -> None:
    world.ask(CreateApp, body=web(mem=100_000), timeout_s=20.0)
    world.advance(19.0)
    assert "/web" in world.core.state.apps
    world.advance(7.0)
    assert world.core.state.apps == {}
    assert not world.core.state.deployments


def test_the_time_goes_on_counting_under_a_later_leader(world: World) -> None:
    world.ask(CreateApp, body=web(mem=100_000), timeout_s=30.0)
    world.advance(20.0)
    world.start()
    world.connect()
    world.advance(16.0)
    assert world.core.state.apps == {}


def test_a_roll_back_is_not_rolled_back_itself(world: World) -> None:
    world.ask(CreateApp, body=web())
    world.settle(2)
    world.obey = False
    world.ask(DeleteApp, app_id="/web", timeout_s=10.0)
    world.advance(100.0)
    (running,) = world.core.state.deployments.values()
    assert running.reverts is not None
    assert running.timeout_s is None
