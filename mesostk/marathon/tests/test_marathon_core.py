"""The core under single events: what it saves, sends, answers and tells, and in which order."""

from __future__ import annotations

import msgspec
import pytest

from mesostk.base.core import Save, Tick
from mesostk.marathon.events import (
    Command,
    CreateApp,
    DeleteApp,
    DeleteDeployment,
    Disconnected,
    FromMaster,
    KillTasks,
    PutApps,
    Reply,
    ResetDelay,
    RestartApp,
    Send,
)
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World
from mesostk.wire import scheduler
from mesostk.wire.marathon import DeploymentStepFailure

HELLO = {
    "id": "hello2",
    "cmd": "echo hello; sleep 10",
    "mem": 16,
    "cpus": 0.1,
    "instances": 1,
    "disk": 0.0,
    "ports": [0],
}


def web(**fields: object) -> dict[str, object]:
    return {"id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 16, **fields}


def body(reply: Reply) -> dict[str, object]:
    built = msgspec.json.decode(msgspec.json.encode(reply.body))
    assert isinstance(built, dict)
    return built


# -- creating ---------------------------------------------------------------------------------


def test_the_tutorials_app_is_answered_with_the_keys_of_1_1(world: World) -> None:
    reply = world.ask(CreateApp, body=HELLO)
    assert reply.status == 201
    assert reply.headers["Location"] == "/v2/apps/hello2"
    shown = body(reply)
    assert list(shown)[:6] == ["id", "cmd", "args", "user", "env", "instances"]
    assert shown["id"] == "/hello2"
    assert shown["tasks"] == []
    assert [shown[f"tasks{what}"] for what in ("Staged", "Running", "Healthy")] == [0, 0, 0]
    assert shown["deployments"] == [{"id": reply.headers["Marathon-Deployment-Id"]}]


def test_an_app_runs_once_offers_come(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    assert world.revives == 1
    world.settle(2)
    assert len(world.running("/hello2")) == 1
    assert not world.core.state.deployments
    assert world.suppressed


def test_events_of_a_creation_come_in_the_order_of_the_original(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    world.settle(2)
    seen = [kind for kind in world.events() if not kind.startswith(("scheduler", "instance_"))]
    assert seen == [
        "api_post_event",
        "group_change_success",
        "deployment_info",
        "deployment_step_success",
        "deployment_info",
        "status_update_event",
        "status_update_event",
        "deployment_step_success",
        "deployment_success",
    ]


def test_nothing_is_answered_before_it_is_durable(world: World) -> None:
    world.hold_saves = True
    world.requests += 1
    world.feed(CreateApp(request=world.requests, body=HELLO))
    assert world.held
    assert world.requests not in world.replies
    assert "api_post_event" not in world.events()
    world.release_saves()
    assert world.replies[world.requests].status == 201


def test_accept_leaves_only_after_the_instance_is_durable(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    world.hold_saves = True
    world.offer()
    assert not world.tasks
    saved = [op.path for save in world.held for op in save.ops]
    assert any(path.startswith("instances/") for path in saved)
    world.release_saves()
    assert len(world.tasks) == 1


def test_an_update_is_acknowledged_only_after_its_instance_is_durable(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    world.settle(2)
    (task,) = world.running("/hello2")
    before = len(world.acked)
    world.hold_saves = True
    world.end(task)
    assert len(world.acked) == before
    world.release_saves()
    assert len(world.acked) == before + 1


def test_every_update_with_a_uuid_is_acknowledged_known_or_not(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    world.settle(2)
    world.update("stranger.instance-1._app.1", "TASK_FINISHED", agent="S1")
    world.feed()
    given = world.uuids
    assert [int.from_bytes(uuid, "big") for uuid in world.acked][-1] == given


# -- refusals ---------------------------------------------------------------------------------


def test_an_app_that_exists_is_not_created_again(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    reply = world.ask(CreateApp, body=HELLO)
    assert reply.status == 409
    assert body(reply) == {"message": "An app with id [/hello2] already exists."}


def test_a_locked_app_is_refused_with_the_text_of_the_original(world: World) -> None:
    created = world.ask(CreateApp, body=HELLO)
    reply = world.ask(PutApps, app_id="/hello2", bodies=({"instances": 2},))
    assert reply.status == 409
    assert body(reply) == {
        "message": "App is locked by one or more deployments. Override with the option "
        "'?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
        "deployments": [{"id": created.headers["Marathon-Deployment-Id"]}],
    }
    assert world.core.state.apps["/hello2"].instances == 1


def test_force_takes_the_place_of_the_deployment_that_holds_the_app(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    reply = world.ask(PutApps, app_id="/hello2", bodies=({"instances": 2},), force=True)
    assert reply.status == 200
    assert "deployment_failed" in world.events()
    world.settle()
    assert len(world.running("/hello2")) == 2


def test_a_cancelled_deployment_tells_the_step_it_failed_at_first(world: World) -> None:
    created = world.ask(CreateApp, body=HELLO)
    world.ask(PutApps, app_id="/hello2", bodies=({"instances": 2},), force=True)
    kinds = world.events()
    at = kinds.index("deployment_failed")
    assert kinds[at - 1] == "deployment_step_failure"
    failure = world.emitted[at - 1].event
    assert isinstance(failure, DeploymentStepFailure)
    assert failure.plan.id == created.headers["Marathon-Deployment-Id"]
    assert failure.plan.steps[1] == failure.current_step
    assert [action.action for action in failure.current_step.actions] == ["ScaleApplication"]


@pytest.mark.parametrize(
    ("command", "fields", "message"),
    [
        (DeleteApp, {"app_id": "/no"}, "App '/no' does not exist"),
        (RestartApp, {"app_id": "/no"}, "App '/no' does not exist"),
        (KillTasks, {"app_id": "/no"}, "App '/no' does not exist"),
        (
            DeleteDeployment,
            {"deployment_id": "no"},
            "DeploymentPlan no does not exist",
        ),
        (ResetDelay, {"app_id": "/no"}, "Application /no not found in tasks queue."),
        (
            PutApps,
            {"app_id": "/no", "bodies": ({},), "may_create": False},
            "App '/no' does not exist",
        ),
    ],
)
def test_what_does_not_exist_is_404_with_its_text(
    world: World, command: type[Command], fields: dict[str, object], message: str
) -> None:
    reply = world.ask(command, **fields)
    assert (reply.status, body(reply)) == (404, {"message": message})


def test_scale_and_wipe_do_not_go_together(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    assert world.ask(KillTasks, app_id="/hello2", scale=True, wipe=True).status == 400


def test_an_invalid_app_changes_nothing(world: World) -> None:
    stored = dict(world.store)
    reply = world.ask(CreateApp, body=web(instances=-1))
    assert reply.status == 422
    assert body(reply)["message"] == "Object is not valid"
    assert world.store == stored


def test_too_many_deployments_are_403() -> None:
    world = World(settings=Settings(max_running_deployments=1))
    world.connect()
    assert world.ask(CreateApp, body=HELLO).status == 201
    assert world.ask(CreateApp, body=web()).status == 403


# -- scaling, updating, deleting --------------------------------------------------------------


def test_scaling_up_and_down_ends_at_exactly_the_wanted_number(world: World) -> None:
    world.ask(CreateApp, body=web(instances=3))
    world.settle(3)
    assert len(world.running("/web")) == 3
    world.ask(PutApps, app_id="/web", bodies=({"instances": 12},))
    world.settle(3)
    assert len(world.running("/web")) == 12
    world.ask(PutApps, app_id="/web", bodies=({"instances": 2},))
    world.settle(3)
    assert len(world.running("/web")) == 2
    assert not world.core.state.deployments


def test_a_large_app_is_compared_now_and_then_and_still_ends_exactly(world: World) -> None:
    world.ask(CreateApp, body=web(instances=200, cpus=0.01, mem=1))
    world.settle(20)
    assert len(world.running("/web")) == 200
    world.ask(PutApps, app_id="/web", bodies=({"cmd": "other", "instances": 150},))
    world.ask(PutApps, app_id="/other", bodies=(web(id="/other"),))
    world.settle(60)
    assert len(world.running("/web")) == 150
    assert not world.core.state.deployments
    world.ask(KillTasks, app_id="/web")
    world.settle(40)
    assert len(world.running("/web")) == 150


def test_a_step_waits_for_a_large_app_that_is_not_compared_yet(world: World) -> None:
    world.ask(CreateApp, body=web(instances=100, cpus=0.01, mem=1))
    world.settle(20)
    world.obey = False
    bodies = ({"id": "/web", "instances": 101}, {"id": "/small", "cmd": "x", "instances": 0})
    world.ask(PutApps, bodies=bodies)
    world.advance(1.0)
    assert world.core.state.deployments, "ended before the large app was scaled"
    world.obey = True
    world.settle(5)
    assert len(world.running("/web")) == 101
    assert not world.core.state.deployments


def test_scaling_restarts_nothing(world: World) -> None:
    world.ask(CreateApp, body=web(instances=2))
    world.settle(3)
    old = set(world.running("/web"))
    world.ask(PutApps, app_id="/web", bodies=({"instances": 4},))
    world.settle(3)
    assert old < set(world.running("/web"))


def test_a_new_configuration_replaces_every_instance_without_going_below_the_minimum(
    world: World,
) -> None:
    world.ask(CreateApp, body=web(instances=4))
    world.settle(3)
    old = set(world.running("/web"))
    fewest = []
    world.before = lambda _effect: fewest.append(len(world.running("/web")))
    world.ask(PutApps, app_id="/web", bodies=({"cmd": "serve --better"},))
    world.settle()
    assert len(world.running("/web")) == 4
    assert not old & set(world.running("/web"))
    assert min(fewest) >= 4
    assert max(fewest) <= 8
    assert not world.core.state.deployments


def test_an_update_that_changes_nothing_succeeds_at_once(world: World) -> None:
    world.ask(CreateApp, body=web())
    world.settle(2)
    stored = dict(world.store)
    reply = world.ask(PutApps, app_id="/web", bodies=({"cmd": "serve"},))
    assert reply.status == 200
    assert set(body(reply)) == {"version", "deploymentId"}
    assert world.events()[-1] == "deployment_success"
    assert world.store == stored


def test_put_creates_what_is_not_there(world: World) -> None:
    reply = world.ask(PutApps, app_id="/web", bodies=(web(),))
    assert reply.status == 201
    world.settle(2)
    assert len(world.running("/web")) == 1


def test_restart_replaces_instances_though_nothing_changed(world: World) -> None:
    world.ask(CreateApp, body=web(instances=2))
    world.settle(3)
    old = set(world.running("/web"))
    assert world.ask(RestartApp, app_id="/web").status == 200
    world.settle()
    assert len(world.running("/web")) == 2
    assert not old & set(world.running("/web"))


def test_deleting_kills_all_and_leaves_no_record_of_the_app(world: World) -> None:
    world.ask(CreateApp, body=web(instances=3))
    world.settle(3)
    assert world.ask(DeleteApp, app_id="/web", force=True).status == 200
    world.settle(3)
    assert not world.tasks
    assert "app_terminated_event" in world.events()
    kinds = {path.partition("/")[0] for path in world.store}
    assert kinds == {"audit", "framework-id", "groups", "root"}


def test_a_stored_version_comes_back_by_its_name(world: World) -> None:
    world.ask(CreateApp, body=web())
    world.settle(2)
    first = world.core.state.apps["/web"].version
    world.ask(PutApps, app_id="/web", bodies=({"cmd": "other"},))
    world.settle()
    assert world.ask(PutApps, app_id="/web", bodies=({"version": first},)).status == 200
    world.settle()
    assert world.core.state.apps["/web"].cmd == "serve"
    assert len(world.running("/web")) == 1
    bad = world.ask(PutApps, app_id="/web", bodies=({"version": "2001-01-01T00:00:00.000Z"},))
    assert bad.status == 404


# -- deployments ------------------------------------------------------------------------------


def test_a_deployment_is_reverted_to_what_was_before(world: World) -> None:
    world.ask(CreateApp, body=web(instances=2))
    world.settle(3)
    old = set(world.running("/web"))
    world.ask(PutApps, app_id="/web", bodies=({"cmd": "worse", "cpus": 100},))
    (deployment,) = world.core.state.deployments
    reply = world.ask(DeleteDeployment, deployment_id=deployment)
    assert reply.status == 200
    world.settle()
    assert set(world.running("/web")) == old
    assert world.core.state.apps["/web"].cmd == "serve"


def test_reverting_a_creation_removes_the_app_and_the_groups_it_made(world: World) -> None:
    world.ask(CreateApp, body={**HELLO, "id": "/a/b/hello2"})
    (deployment,) = world.core.state.deployments
    world.ask(DeleteDeployment, deployment_id=deployment)
    world.settle()
    assert not world.core.state.apps
    assert not world.core.state.root.groups
    assert not world.tasks


def test_a_forced_cancel_leaves_things_as_they_are(world: World) -> None:
    world.ask(CreateApp, body=web(instances=2))
    world.settle(3)
    world.ask(PutApps, app_id="/web", bodies=({"cmd": "worse", "cpus": 100},))
    (deployment,) = world.core.state.deployments
    reply = world.ask(DeleteDeployment, deployment_id=deployment, force=True)
    assert (reply.status, reply.body) == (202, None)
    world.settle()
    assert len(world.running("/web")) == 2
    assert not world.core.state.deployments


def test_apps_wait_for_those_they_depend_on(world: World) -> None:
    first = web(id="/db", instances=1)
    second = web(id="/web", dependencies=["/db"], instances=1)
    world.obey = False
    world.ask(PutApps, bodies=(second, first))
    world.offer()
    assert [id.partition(".")[0] for id in world.tasks] == ["db"]
    world.obey = True
    world.update(next(iter(world.tasks)), "TASK_RUNNING")
    world.feed()
    world.settle(3)
    assert len(world.running("/web")) == 1


# -- tasks ------------------------------------------------------------------------------------


def test_killed_tasks_are_replaced(world: World) -> None:
    world.ask(CreateApp, body=web(instances=3))
    world.settle(3)
    victim = world.running("/web")[0]
    reply = world.ask(KillTasks, app_id="/web", task_ids=(victim,), one=True)
    assert body(reply)["task"]["id"] == victim  # type: ignore[index] # a JSON object
    world.settle(3)
    assert victim not in world.running("/web")
    assert len(world.running("/web")) == 3


def test_kill_and_scale_lowers_the_wanted_number_by_exactly_those(world: World) -> None:
    world.ask(CreateApp, body=web(instances=3))
    world.settle(3)
    old = set(world.running("/web"))
    victim = sorted(old)[1]
    reply = world.ask(
        KillTasks,
        task_ids=(victim, "web.instance-00000000-0000-4000-8000-000000000000._app.1"),
        scale=True,
    )
    assert "deploymentId" in body(reply)
    world.settle(3)
    assert set(world.running("/web")) == old - {victim}
    assert world.core.state.apps["/web"].instances == 2


def test_tasks_of_one_host_are_killed(world: World) -> None:
    world.ask(CreateApp, body=web(instances=6))
    world.settle(3)
    hosts = {i.host for i in world.core.state.instances.values()}
    host = min(hosts)
    reply = world.ask(KillTasks, app_id="/web", host=host)
    killed = body(reply)["tasks"]
    assert isinstance(killed, list)
    assert {task["host"] for task in killed} == {host}


def test_a_task_nobody_knows_is_killed(world: World) -> None:
    world.update("gone.instance-1._app.1", "TASK_RUNNING", agent="S1")
    world.feed()
    assert world.killed_ever == ["gone.instance-1._app.1"]


def test_a_replacement_waits_until_the_killed_task_has_ended(world: World) -> None:
    world.ask(CreateApp, body=web(instances=1))
    world.settle(2)
    world.obey = False
    (victim,) = world.running("/web")
    world.ask(KillTasks, app_id="/web")
    world.settle(3)
    assert list(world.tasks) == [victim]
    world.end(victim, "TASK_KILLED")
    world.settle(2)
    assert len(world.tasks) == 1


def test_an_unconfirmed_kill_is_repeated(world: World) -> None:
    world.ask(CreateApp, body=web(instances=1))
    world.settle(2)
    world.obey = False
    world.ask(KillTasks, app_id="/web")
    world.advance(31.0)
    assert len(world.killed_ever) == 2


def test_kills_are_sent_anew_to_a_new_master(world: World) -> None:
    world.ask(CreateApp, body=web(instances=1))
    world.settle(2)
    world.obey = False
    world.ask(KillTasks, app_id="/web")
    world.feed(Disconnected("cut"))
    world.connect()
    assert len(world.killed_ever) == 2


# -- failure and back-off ---------------------------------------------------------------------


def test_a_task_that_fails_is_launched_again_later_each_time(world: World) -> None:
    world.ask(CreateApp, body=web(backoffSeconds=10, backoffFactor=2.0))
    world.settle(2)
    waits = []
    for _ in range(3):
        (task,) = world.running("/web")
        world.end(task)
        failed_at = world.now
        while not world.running("/web"):
            world.offer()
            world.advance(1.0)
        waits.append(round(world.now - failed_at))
    assert waits[0] in {11, 12}
    assert waits[1] > waits[0] + 5
    assert waits[2] > waits[1] + 10


@pytest.mark.parametrize(("worked_s", "grows"), [(10.0, False), (1.0, True)])
def test_a_task_that_ends_well_goes_round_in_a_circle_unless_it_ends_at_once(
    world: World, worked_s: float, grows: bool
) -> None:
    world.ask(CreateApp, body=web(backoffSeconds=1, backoffFactor=2.0))
    waits = []
    for _ in range(6):
        started = world.now
        while not world.running("/web"):
            world.offer()
            world.advance(0.5)
        waits.append(world.now - started)
        world.advance(worked_s)
        world.end(world.running("/web")[0], "TASK_FINISHED")
    assert (waits[-1] > 10.0) is grows
    assert grows or waits[-1] <= 2.0


def test_the_delay_ends_with_its_reset(world: World) -> None:
    world.ask(CreateApp, body=web(backoffSeconds=200))
    world.settle(2)
    world.end(world.running("/web")[0])
    world.settle(5)
    assert not world.running("/web")
    revives = world.revives
    assert world.ask(ResetDelay, app_id="/web").status == 204
    assert world.revives == revives + 1
    world.settle(2)
    assert len(world.running("/web")) == 1


def test_the_last_failure_is_remembered(world: World) -> None:
    world.ask(CreateApp, body=web())
    world.settle(2)
    (task,) = world.running("/web")
    world.update(task, "TASK_FAILED", message="Command exited with status 1")
    world.feed()
    failure = world.core.state.failures["/web"]
    assert (failure.task_id, failure.message) == (task, "Command exited with status 1")


def test_a_lost_agents_task_is_replaced_and_killed_when_it_returns(world: World) -> None:
    world.ask(CreateApp, body=web())
    world.settle(2)
    (task,) = world.running("/web")
    world.update(task, "TASK_UNREACHABLE")
    world.feed()
    world.settle(3)
    (other,) = world.running("/web")
    assert other != task
    world.update(task, "TASK_RUNNING")
    world.feed()
    world.settle(2)
    assert world.running("/web") == [other]


def test_with_unreachable_disabled_the_task_is_waited_for(world: World) -> None:
    world.ask(CreateApp, body=web(unreachableStrategy="disabled"))
    world.settle(2)
    (task,) = world.running("/web")
    world.update(task, "TASK_UNREACHABLE")
    world.feed()
    world.settle(10)
    assert list(world.tasks) == [task]
    world.update(task, "TASK_RUNNING")
    world.feed()
    assert world.running("/web") == [task]


def test_an_inactive_instance_is_replaced_and_one_too_many_is_killed(world: World) -> None:
    strategy = {"inactiveAfterSeconds": 20, "expungeAfterSeconds": 600}
    world.ask(CreateApp, body=web(unreachableStrategy=strategy))
    world.settle(2)
    (task,) = world.running("/web")
    world.update(task, "TASK_UNREACHABLE")
    world.feed()
    world.settle(10)
    assert len(world.launched_ever) == 1
    world.settle(20)
    assert len(world.running("/web")) == 1
    world.update(task, "TASK_RUNNING")
    world.feed()
    world.settle(3)
    assert len(world.running("/web")) == 1


def test_a_launch_that_never_starts_is_killed_and_replaced(world: World) -> None:
    world.obey = False
    world.ask(CreateApp, body=web())
    world.offer()
    world.advance(320.0)
    assert world.killed_ever[:1] == world.launched_ever[:1]


def test_a_silent_launch_is_asked_about_and_replaced_if_the_master_knows_nothing(
    world: World,
) -> None:
    world.obey = False
    world.ask(CreateApp, body=web())
    world.offer()
    (task,) = world.tasks
    del world.tasks[task], world.states[task]  # the ACCEPT got lost
    world.obey = True
    world.settle(20)
    assert len(world.running("/web")) == 1


# -- health -----------------------------------------------------------------------------------

CHECK = {"protocol": "HTTP", "path": "/", "gracePeriodSeconds": 3, "intervalSeconds": 10}


def test_a_checked_app_is_deployed_only_when_healthy(world: World) -> None:
    world.ask(CreateApp, body=web(healthChecks=[CHECK]))
    world.settle(2)
    assert world.core.state.deployments
    (probed,) = world.probes
    (probe,) = world.probes[probed].probes
    assert (probe.kind, probe.path, probe.first_s, probe.interval_s) == ("HTTP", "/", 5.0, 10.0)
    assert probe.host in world.agents.values()
    assert 31000 <= probe.port <= 31099
    world.probe(probed, alive=True)
    assert not world.core.state.deployments
    assert "health_status_changed_event" in world.events()


def test_an_instance_that_fails_its_checks_is_killed_and_replaced(world: World) -> None:
    world.ask(CreateApp, body=web(healthChecks=[CHECK]))
    world.settle(2)
    (sick,) = world.probes
    world.probe(sick, alive=True)
    for _ in range(3):
        world.probe(sick, alive=False)
    assert world.killed_ever
    kinds = world.events()
    assert kinds.count("failed_health_check_event") == 3
    assert "unhealthy_task_kill_event" in kinds
    world.settle(3)
    (fresh,) = world.probes
    assert fresh != sick


def test_results_after_the_kill_are_ignored(world: World) -> None:
    world.ask(CreateApp, body=web(healthChecks=[CHECK]))
    world.settle(2)
    (sick,) = world.probes
    world.probe(sick, alive=True)
    world.obey = False
    for _ in range(5):
        world.probe(sick, alive=False)
    assert len(world.killed_ever) == 1


def test_readiness_holds_a_restart_until_the_new_instance_is_ready(world: World) -> None:
    check = {"portName": "http", "intervalSeconds": 5, "timeoutSeconds": 1}
    ports = [{"port": 0, "name": "http"}]
    world.ask(CreateApp, body=web(portDefinitions=ports, readinessChecks=[check]))
    world.settle(2)
    assert world.core.state.deployments
    (instance,) = world.probes
    world.probe(instance, alive=False, index=-1)
    assert world.core.state.deployments
    world.probe(instance, alive=True, index=-1)
    assert not world.core.state.deployments
    assert not world.probes


# -- the master -------------------------------------------------------------------------------


def test_offers_nobody_wants_are_declined_in_one_call_for_long(world: World) -> None:
    sent: list[scheduler.Call] = []
    world.before = lambda effect: sent.append(effect.call) if isinstance(effect, Send) else None
    world.suppressed = False
    world.offer()
    (call,) = sent
    assert call.decline is not None
    assert len(call.decline.offer_ids) == 3
    assert call.decline.filters is not None
    assert call.decline.filters.refuse_seconds == 120.0


def test_no_more_than_five_tasks_are_launched_on_one_offer(world: World) -> None:
    world.ask(CreateApp, body=web(instances=7))
    world.offer(agents=1)
    assert len(world.tasks) == 5
    world.offer(agents=1)
    assert len(world.tasks) == 7


def test_launches_pause_when_the_tokens_are_used_up() -> None:
    world = World(settings=Settings(launch_tokens=2))
    world.connect()
    world.obey = False
    world.ask(CreateApp, body=web(instances=5))
    world.offer()
    assert len(world.tasks) == 2
    world.advance(31.0)
    world.offer()
    assert len(world.tasks) == 4


def test_revives_are_limited(world: World) -> None:
    for number in range(20):
        world.ask(CreateApp, body=web(id=f"/app{number}", cpus=99))
    assert world.revives <= 6
    world.advance(10.0)
    assert world.revives <= 9


def test_the_framework_id_is_stored_at_the_first_registration(world: World) -> None:
    assert world.store["framework-id"] == b'{"value":"F1"}'
    assert world.events()[0] == "scheduler_registered_event"
    world.feed(Disconnected("cut"))
    world.connect()
    assert world.events()[1:] == ["scheduler_disconnected_event", "scheduler_reregistered_event"]


@pytest.mark.parametrize(
    ("message", "code"), [("Framework has been removed", 110), ("Framework failed over", 106)]
)
def test_a_masters_error_ends_the_process(world: World, message: str, code: int) -> None:
    event = scheduler.Event(type="ERROR", error=scheduler.Error(message=message))
    world.feed(FromMaster(event))
    assert [exit.code for exit in world.exits] == [code]


def test_one_event_makes_at_most_one_save_unless_it_is_large(world: World) -> None:
    saves: list[int] = []

    def count(effect: object) -> None:
        if isinstance(effect, Save):
            saves.append(effect.token)

    world.before = count
    world.ask(CreateApp, body=web(instances=3))
    assert len(saves) == 2  # what the root refers to, then the root and the deployment
    saves.clear()
    world.offer()
    launched_and_updated = 1 + 2 * 3
    assert len(saves) == launched_and_updated


def test_ticks_without_cause_do_nothing(world: World) -> None:
    world.settle(2)
    stored = dict(world.store)
    assert list(world.core.handle(world.now, Tick())) == []
    assert world.store == stored


def test_emitted_events_have_the_wall_time(world: World) -> None:
    world.ask(CreateApp, body=HELLO)
    assert world.emitted[-1].event.timestamp == "2016-06-20T12:16:40.000Z"
