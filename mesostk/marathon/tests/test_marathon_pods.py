"""Pods through the core: definition, LAUNCH_GROUP, status, updates, groups (spec/marathon §1.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mesostk.base.core import Effect, Note
from mesostk.marathon import podviews
from mesostk.marathon.events import (
    ChangeGroup,
    Command,
    CreateApp,
    CreatePod,
    DeleteApp,
    DeleteDeployment,
    DeletePod,
    KillInstances,
    PutApps,
    PutPod,
    Reply,
)
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import Crash, World
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import (
    CheckStatusCommand,
    CheckStatusHttp,
    CheckStatusInfo,
    CheckStatusTcp,
    CheckType,
    LaunchGroup,
)
from mesostk.wire.pods import PodStatus

WEB: dict[str, Any] = {
    "id": "/shop/web",
    "labels": {"team": "a"},
    "environment": {"WHERE": "here"},
    "containers": [
        {
            "name": "front",
            "exec": {"command": {"shell": "serve $ENDPOINT_HTTP"}},
            "resources": {"cpus": 0.2, "mem": 64},
            "endpoints": [{"name": "http", "hostPort": 0}, {"name": "admin", "hostPort": 31005}],
            "healthCheck": {"http": {"endpoint": "http", "path": "/health"}, "timeoutSeconds": 5},
            "volumeMounts": [{"name": "data", "mountPath": "shared"}],
        },
        {
            "name": "log",
            "exec": {"command": {"argv": ["tail", "-f", "shared/log"]}},
            "resources": {"cpus": 0.1, "mem": 32},
            "volumeMounts": [{"name": "data", "mountPath": "shared", "readOnly": True}],
            "lifecycle": {"killGracePeriodSeconds": 1.5},
        },
    ],
    "volumes": [{"name": "data"}],
    "networks": [{"mode": "host"}],
    "scaling": {"kind": "fixed", "instances": 2},
}


def create(world: World, **changes: Any) -> Reply:
    return world.ask(CreatePod, body={**WEB, **changes})


def status(world: World, id: str = "/shop/web") -> PodStatus:
    found = podviews.pod_status(world.core.state, id)
    assert found is not None
    return found


def healthy(world: World) -> None:
    for id in list(world.tasks):
        if ".front." in id:
            world.update(id, "TASK_RUNNING", healthy=True)
    world.feed()


def checked(kind: CheckType, seen: int | None) -> CheckStatusInfo:
    if kind == "COMMAND":
        return CheckStatusInfo(type=kind, command=CheckStatusCommand(exit_code=seen))
    if kind == "HTTP":
        return CheckStatusInfo(type=kind, http=CheckStatusHttp(status_code=seen))
    return CheckStatusInfo(type=kind, tcp=CheckStatusTcp(succeeded=bool(seen)))


def groups_launched(world: World) -> list[LaunchGroup]:
    return [each.launch_group for each in world.accepted if each.launch_group is not None]


def test_a_pod_is_created_launched_as_a_group_and_shown(world: World) -> None:
    reply = create(world)
    assert reply.status == 201
    assert reply.headers["Location"] == "/v2/pods/shop/web"
    world.settle(3)
    assert len(world.tasks) == 4
    assert {id.split(".")[2] for id in world.tasks} == {"front", "log"}
    assert len(world.core.state.deployments) == 1, "not healthy yet"
    assert status(world).status == "DEGRADED"
    conditions = status(world).instances[0].containers[0].conditions
    assert [(each.value, each.reason) for each in conditions] == [
        ("false", "health-unreported-by-mesos")
    ]
    healthy(world)
    assert not world.core.state.deployments
    shown = status(world)
    assert (shown.status, [each.status for each in shown.instances]) == ("STABLE", ["STABLE"] * 2)
    [front, log] = shown.instances[0].containers
    assert (front.name, front.status, log.status) == ("front", "TASK_RUNNING", "TASK_RUNNING")
    assert [each.name for each in front.endpoints] == ["http", "admin"]
    assert front.endpoints[1].allocated_host_port == 31005
    assert [each.healthy for each in front.endpoints] == [True, None], "only one is checked"
    assert [(each.value, each.reason) for each in front.conditions] == [
        ("true", "health-reported-by-mesos")
    ]
    assert world.events().count("pod_created_event") == 1
    assert "api_post_event" not in world.events()


def test_a_health_check_that_failed_is_not_told_of_once_all_is_well(world: World) -> None:
    create(world, scaling={"instances": 1})
    world.settle(3)
    [front] = [name for name in world.tasks if ".front." in name]

    def said() -> tuple[str | None, str | None]:
        [instance] = status(world).instances
        return instance.message, instance.containers[0].message

    world.update(front, "TASK_RUNNING", healthy=False, message="HTTP status 503")
    world.feed()
    assert said() == ("at least one container is not healthy", "HTTP status 503")
    world.update(front, "TASK_RUNNING", healthy=True)
    world.feed()
    assert said() == (None, None)
    world.update(front, "TASK_RUNNING", healthy=False, message="HTTP status 503")
    world.update(front, "TASK_KILLED", healthy=False)
    world.feed()
    assert said()[1] == "HTTP status 503", "why it was killed"


def test_what_the_check_of_a_container_saw_last_is_shown(world: World) -> None:
    create(world, scaling={"instances": 1})
    world.settle(3)
    [front, log] = sorted(world.tasks, key=lambda name: name.split(".")[2])

    def shown() -> list[list[tuple[str, str]]]:
        containers = status(world).instances[0].containers
        return [
            [(c.name, c.value) for c in each.conditions if c.name == "check"] for each in containers
        ]

    world.update(front, "TASK_RUNNING", check=checked("COMMAND", None))
    world.feed()
    assert shown() == [[], []], "it has no result yet"
    for seen, text in ((0, "0"), (4, "4"), (None, None)):
        world.update(front, "TASK_RUNNING", check=checked("COMMAND", seen))
        world.update(log, "TASK_RUNNING", healthy=True)
        world.feed()
        assert shown() == [[] if text is None else [("check", text)], []]
    world.update(front, "TASK_RUNNING", check=checked("HTTP", 503))
    world.update(log, "TASK_RUNNING", check=checked("TCP", 0))
    world.feed()
    assert shown() == [[("check", "503")], [("check", "false")]]
    assert "check" not in {each.name for each in status(world).instances[0].conditions}


def test_the_group_has_an_executor_and_a_task_for_each_container(world: World) -> None:
    create(world, scaling={"instances": 1})
    world.settle(2)
    [group] = groups_launched(world)
    instance = next(iter(world.core.state.instances.values()))
    unique = instance.id.rpartition("instance-")[2]
    assert group.executor.executor_id.value == f"instance-shop_web.{unique}"
    assert group.executor.type == "DEFAULT"
    assert Resources.of(group.executor.resources).scalar("cpus") == 100
    [front, log] = group.task_group.tasks
    assert (front.name, log.name) == ("front", "log")
    assert Resources.of(front.resources).scalar("mem") == 64_000
    assert Resources.of(log.resources).scalar("mem") == 32_000
    assert front.command is not None
    assert log.command is not None
    assert (log.command.shell, log.command.arguments) == (False, ("tail", "-f", "shared/log"))
    assert front.command.environment is not None
    env = {each.name: each.value for each in front.command.environment.variables}
    assert env["WHERE"] == "here"
    assert env["EP_HOST_ADMIN"] == "31005"
    assert env["ENDPOINT_HTTP"] == str(instance.ports[0])
    assert env["MARATHON_CONTAINER_ID"] == "front"
    assert env["MARATHON_APP_LABEL_TEAM"] == "a"
    assert env["MESOS_EXECUTOR_ID"] == group.executor.executor_id.value
    assert front.health_check is not None
    assert front.health_check.http is not None
    assert front.health_check.http.port == instance.ports[0]
    assert front.container is not None
    [volume] = front.container.volumes
    assert volume.source is not None
    assert volume.source.sandbox_path is not None
    assert (volume.source.sandbox_path.type, volume.source.sandbox_path.path) == ("PARENT", "data")
    assert log.kill_policy is not None
    assert log.kill_policy.grace_period is not None
    assert log.kill_policy.grace_period.nanoseconds == 1_500_000_000


def test_a_pod_whose_container_fails_is_replaced_as_a_whole_with_back_off(world: World) -> None:
    create(world, scaling={"instances": 1})
    world.settle(3)
    healthy(world)
    [old] = world.core.state.instances
    front, log = sorted(world.tasks)
    world.end(front)
    assert status(world).instances[0].status == "TERMINAL"
    world.end(log, "TASK_KILLED")
    assert old not in world.core.state.instances
    shown = status(world)
    [ended] = shown.termination_history
    assert ended.instance_id == old
    assert ended.containers[0].last_known_state == "TASK_FAILED"
    assert world.core.state.failures["/shop/web"].task_id == front
    world.offer()
    assert not world.tasks, "in back-off"
    world.settle(5)
    healthy(world)
    assert status(world).status == "STABLE"


def test_a_container_that_is_done_leaves_the_others_running(world: World) -> None:
    create(world, scaling={"instances": 1})
    world.settle(3)
    healthy(world)
    log = next(id for id in world.tasks if ".log." in id)
    world.end(log, "TASK_FINISHED")
    [instance] = status(world).instances
    assert instance.status == "STABLE"
    assert [each.status for each in instance.containers] == ["TASK_RUNNING", "TASK_FINISHED"]
    assert len(world.core.state.instances) == 1


def test_a_pod_is_updated_rolled_back_and_deleted(world: World) -> None:
    create(world)
    world.settle(3)
    healthy(world)
    before = set(world.core.state.instances)
    changed = {**WEB, "environment": {"WHERE": "there"}}
    assert world.ask(PutPod, pod_id="/shop/web", body=changed).status == 200
    [deployment] = world.core.state.deployments.values()
    assert deployment.pods == ("/shop/web",)
    for _ in range(8):
        world.settle(2)
        healthy(world)
    assert not world.core.state.deployments
    assert not before & set(world.core.state.instances)
    assert status(world).status == "STABLE"
    world.ask(PutPod, pod_id="/shop/web", body={**WEB, "containers": WEB["containers"][:1],
                                                "volumes": []})  # fmt: skip
    world.ask(PutPod, pod_id="/shop/web", body=changed, force=True)
    reply = world.ask(DeletePod, pod_id="/shop/web", force=True)
    assert (reply.status, reply.body) == (202, None)
    world.settle(4)
    assert not world.tasks
    assert podviews.pod_status(world.core.state, "/shop/web") is None
    assert not [path for path in world.store if path.startswith("apps/")]
    kinds = world.events()
    assert {"pod_updated_event", "pod_deleted_event"} <= set(kinds)


def test_scaling_restarts_nothing_and_a_cancelled_update_is_taken_back(world: World) -> None:
    create(world)
    world.settle(3)
    healthy(world)
    before = set(world.core.state.instances)
    world.ask(PutPod, pod_id="/shop/web", body={**WEB, "scaling": {"instances": 3}})
    world.settle(3)
    healthy(world)
    assert before < set(world.core.state.instances)
    body = {**WEB, "scaling": {"instances": 3}, "executorResources": {"cpus": 1000}}
    world.ask(PutPod, pod_id="/shop/web", body=body)
    [id] = world.core.state.deployments
    world.ask(DeleteDeployment, deployment_id=id)
    world.settle(3)
    assert len(world.core.state.instances) == 3
    assert before < set(world.core.state.instances)


def test_instances_are_killed_by_name_and_replaced(world: World) -> None:
    create(world)
    world.settle(3)
    healthy(world)
    first, second = sorted(world.core.state.instances)
    reply = world.ask(KillInstances, pod_id="/shop/web", instance_ids=(first,), one=True)
    assert reply.status == 200
    world.settle(3)
    healthy(world)
    now = set(world.core.state.instances)
    assert first not in now
    assert second in now
    assert len(now) == 2
    missing = world.ask(KillInstances, pod_id="/shop/web", instance_ids=("no",), one=True)
    assert missing.status == 404


def test_an_instance_whose_agent_is_lost_while_it_is_killed_is_given_up(world: World) -> None:
    create(world, scaling={"kind": "fixed", "instances": 1})
    world.settle(3)
    healthy(world)
    world.obey = False
    old = list(world.tasks)
    assert world.ask(DeletePod, pod_id="/shop/web").status == 202
    for task_id in old:
        world.update(task_id, "TASK_KILLING")
    world.feed()
    assert [each.condition for each in world.core.state.instances.values()] == ["Killing"]
    for task_id in old:
        world.update(task_id, "TASK_UNREACHABLE")
    world.feed()
    assert not world.core.state.instances
    assert not world.core.state.deployments


def test_a_new_leader_goes_on_with_pods(world: World) -> None:
    create(world)
    world.settle(3)
    healthy(world)
    before = dict(world.core.state.instances)
    world.start()
    world.connect()
    world.settle(3)
    assert world.core.state.instances.keys() == before.keys()
    assert status(world).status == "STABLE"
    assert len(world.tasks) == 4


def test_pods_and_apps_share_ids_but_not_endpoints(world: World) -> None:
    create(world)
    app = {"id": "/shop/web", "cmd": "x"}
    assert world.ask(CreateApp, body=app).status == 409
    assert world.ask(PutApps, app_id="/shop/web", bodies=(app,)).status == 409
    assert world.ask(DeleteApp, app_id="/shop/web").status == 404
    assert create(world).status == 409
    world.ask(CreateApp, body={"id": "/shop/app", "cmd": "x"})
    assert create(world, id="/shop/app").status == 409
    assert world.ask(DeletePod, pod_id="/shop/app").status == 404
    assert world.ask(PutPod, pod_id="/shop/none", body={**WEB, "id": "/shop/none"}).status == 404
    assert world.ask(PutPod, pod_id="/shop/web", body={**WEB, "id": "/other"}).status == 400


def test_a_group_update_keeps_pods_and_can_bring_them(world: World) -> None:
    create(world, scaling={"instances": 0})
    world.ask(ChangeGroup, group_id="/shop", body={"apps": [{"id": "a", "cmd": "x"}]}, force=True)
    assert set(world.core.state.apps) == {"/shop/a", "/shop/web"}
    pod = {**WEB, "id": "other", "scaling": {"instances": 0}}
    world.ask(ChangeGroup, group_id="/shop", body={"pods": [pod]}, force=True)
    assert set(world.core.state.apps) == {"/shop/a", "/shop/other"}
    world.ask(ChangeGroup, group_id="/shop", body={"scaleBy": 2}, force=True)
    assert world.core.state.apps["/shop/other"].pod is not None
    reply = world.ask(ChangeGroup, group_id="/shop", body={"pods": [{**pod, "containers": []}]})
    assert reply.status == 422
    assert "/pods(0)/containers" in msgspec.json.encode(reply.body).decode()


def _container(**changes: Any) -> dict[str, Any]:
    return {"name": "c", "exec": {"command": {"shell": "x"}}, **changes}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"id": "/Shop"}, "/id"),
        ({"containers": []}, "/containers"),
        ({"containers": [_container(), _container()], "volumes": []}, "/containers"),
        ({"containers": [_container(name="C!")], "volumes": []}, "/containers(0)/name"),
        ({"containers": [{"name": "c"}], "volumes": []}, "/containers(0)/exec"),
        ({"containers": [_container(exec={"command": {}})], "volumes": []},
         "/containers(0)/exec/command"),
        ({"containers": [_container(resources={"cpus": 0, "mem": 1})], "volumes": []},
         "/containers(0)/resources/cpus"),
        ({"containers": [_container(endpoints=[{"name": "a", "containerPort": 80}])],
          "volumes": []}, "/containers(0)/endpoints(0)/containerPort"),
        ({"containers": [_container(endpoints=[{"name": "a"}])], "volumes": [],
          "networks": [{"mode": "container/bridge"}]}, "/containers(0)/endpoints(0)/containerPort"),
        ({"containers": [_container(endpoints=[{"name": "a", "hostPort": 70000}])],
          "volumes": []}, "/containers(0)/endpoints(0)/hostPort"),
        ({"containers": [_container(healthCheck={"tcp": {"endpoint": "no"}})], "volumes": []},
         "/containers(0)/healthCheck/tcp/endpoint"),
        ({"containers": [_container(healthCheck={})], "volumes": []}, "/containers(0)/healthCheck"),
        ({"containers": [_container(volumeMounts=[{"name": "no", "mountPath": "x"}])],
          "volumes": []}, "/containers(0)/volumeMounts(0)/name"),
        ({"containers": [_container(check={})], "volumes": []}, "/containers(0)/check"),
        ({"containers": [_container(check={"http": {"endpoint": "a", "scheme": "HTTPS"}},
                                    endpoints=[{"name": "a"}])], "volumes": []},
         "/containers(0)/check/http/scheme"),
        ({"containers": [_container(endpoints=[{"name": "a", "protocol": ["udp", "udp"]}])],
          "volumes": []}, "/containers(0)/endpoints(0)/protocol"),
        ({"containers": [_container(endpoints=[{"name": "a", "networkNames": ["n"]}])],
          "volumes": []}, "/containers(0)/endpoints(0)/networkNames"),
        ({"containers": [_container(endpoints=[{"name": "a", "containerPort": 1, "hostPort": 0}])],
          "networks": [{"name": "m"}, {"name": "n"}], "volumes": []},
         "/containers(0)/endpoints(0)/networkNames"),
        ({"containers": [_container(resourceLimits={"cpus": 0.05})], "volumes": []},
         "/containers(0)/resourceLimits/cpus"),
        ({"containers": [_container(artifacts=[{"uri": "a b"}])], "volumes": []},
         "/containers(0)/artifacts(0)/uri"),
        ({"volumes": [{"name": "data"}, {"name": "more"}]}, "/volumes(1)/name"),
        ({"volumes": [{"name": "data", "persistent": {"size": 1}}]}, "/role"),
        ({"volumes": [{"name": "data", "persistent": {"size": 0}}]},
         "/volumes(0)/persistent/size"),
        ({"volumes": [{"name": "data", "persistent": {"size": 1, "type": "mount"}}]},
         "/volumes(0)/persistent/type"),
        ({"volumes": [{"name": "data", "persistent": {"size": 1}, "host": "/tmp"}]}, "/volumes(0)"),
        ({"volumes": [{"name": "data", "persistent": {"size": 1}}],
          "scheduling": {"upgrade": {"maximumOverCapacity": 1}}},
         "/scheduling/upgrade/maximumOverCapacity"),
        ({"volumes": [{"name": "data", "persistent": {"size": 1}}],
          "scheduling": {"unreachableStrategy": {}}}, "/scheduling/unreachableStrategy"),
        ({"containers": [_container(volumeMounts=[{"name": "data", "mountPath": "/data"}])]},
         "/containers(0)/volumeMounts(0)/mountPath"),
        ({"containers": [_container(volumeMounts=[{"name": "data", "mountPath": "../x"}])]},
         "/containers(0)/volumeMounts(0)/mountPath"),
        ({"containers": [_container(linuxInfo={})], "volumes": []}, "/containers(0)/linuxInfo"),
        ({"linuxInfo": {}}, "/linuxInfo"),
        ({"containers": [_container()], "volumes": [], "networks": [{"mode": "container/bridge"}]},
         "/networks(0)/mode"),
        ({"secrets": {"a": {"source": "b"}}}, "/secrets"),
        ({"environment": {"1A": "x"}}, "/environment(1A)"),
        ({"environment": {"A": {"secret": "no"}}}, "/environment/A"),
        ({"scaling": {"instances": -1}}, "/scaling/instances"),
        ({"scheduling": {"upgrade": {"minimumHealthCapacity": 2}}},
         "/scheduling/upgrade/minimumHealthCapacity"),
        ({"scheduling": {"placement": {"constraints": [{"fieldName": "a", "operator": "LIKE"}]}}},
         "/scheduling/placement/constraints(0)"),
        ({"networks": [{"mode": "host"}, {"mode": "container", "name": "n"}]}, "/networks"),
        ({"colour": "red"}, "/colour"),
    ],
)  # fmt: skip
def test_what_is_no_pod_is_refused_with_the_path(
    world: World, changes: dict[str, Any], path: str
) -> None:
    reply = create(world, **changes)
    assert reply.status in {400, 422}
    body = msgspec.json.decode(msgspec.json.encode(reply.body))
    assert path in [each["path"] for each in body["details"]], body
    assert not world.core.state.apps


def test_a_dry_run_tells_of_a_pod_and_changes_nothing(world: World) -> None:
    reply = world.ask(CreatePod, body=WEB, dry_run=True)
    assert reply.status == 200
    [told] = told_apps(reply)
    assert (told["app"], told["change"], told["launch"]) == ("/shop/web", "create", 2)
    assert not world.core.state.apps
    create(world)
    world.settle(3)
    healthy(world)
    changed = {**WEB, "environment": {"WHERE": "there"}}
    reply = world.ask(PutPod, pod_id="/shop/web", body=changed, dry_run=True)
    [told] = told_apps(reply)
    assert (told["change"], told["fields"]) == ("restart", ["environment"])
    assert [each["action"] for each in told["instances"]] == ["replace"] * 2
    assert not world.core.state.deployments
    same = world.ask(PutPod, pod_id="/shop/web", body=WEB, dry_run=True)
    assert told_apps(same) == []


def told_apps(reply: Reply) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(reply.body))["apps"]
    return found


def test_labels_of_a_pod_change_without_a_restart_if_asked_and_nothing_else_does(
    world: World,
) -> None:
    create(world)
    world.settle(3)
    healthy(world)
    before = set(world.tasks)
    labelled = {**WEB, "labels": {"team": "b"}}
    reply = world.ask(PutPod, pod_id="/shop/web", body=labelled, may_restart=False)
    assert reply.status == 200
    world.settle(3)
    assert set(world.tasks) == before
    assert world.core.state.apps["/shop/web"].labels == {"team": "b"}
    changed = {**labelled, "environment": {"WHERE": "there"}}
    reply = world.ask(PutPod, pod_id="/shop/web", body=changed, may_restart=False)
    assert reply.status == 422


def test_agents_with_isolators_are_sent_what_needs_them() -> None:
    made = World(settings=Settings(features=frozenset({"mesos_isolators"})))
    made.connect()
    private = {"ipcInfo": {"mode": "PRIVATE"}}
    pod = {
        "id": "/p",
        "networks": [{"mode": "container", "name": "dc"}],
        "linuxInfo": private,
        "containers": [
            _container(
                linuxInfo=private,
                tty=True,
                endpoints=[
                    {"name": "web", "containerPort": 80},
                    {"name": "dns", "containerPort": 53, "hostPort": 0, "protocol": ["udp"]},
                ],
                volumeMounts=[{"name": "v", "mountPath": "/v"}],
            )
        ],
        "volumes": [{"name": "v"}],
    }
    assert made.ask(CreatePod, body=pod).status == 201
    made.settle(2)
    [group] = groups_launched(made)
    around = group.executor.container
    assert around is not None
    assert around.linux_info is not None
    [network] = around.network_infos
    assert network.name == "dc"
    assert [(each.container_port, each.protocol) for each in network.port_mappings] == [(53, "udp")]
    [task] = group.task_group.tasks
    assert task.container is not None
    assert task.container.tty_info is not None
    assert task.container.linux_info is not None
    assert task.command is not None
    assert task.command.environment is not None
    told = {each.name: each.value for each in task.command.environment.variables}
    assert told["EP_CONTAINER_WEB"] == "80"
    assert "EP_HOST_WEB" not in told


def test_a_bridge_is_the_network_that_the_agents_have_for_it() -> None:
    made = World(settings=Settings(features=frozenset({"mesos_isolators"}), bridge_name="br0"))
    made.connect()
    endpoint = {"name": "web", "containerPort": 0, "hostPort": 31007, "protocol": ["tcp", "udp"]}
    made.ask(
        CreatePod,
        body={
            "id": "/p",
            "networks": [{"mode": "container/bridge"}],
            "containers": [_container(endpoints=[endpoint])],
        },
    )
    made.settle(2)
    [group] = groups_launched(made)
    assert group.executor.container is not None
    [network] = group.executor.container.network_infos
    assert network.name == "br0"
    assert [(m.host_port, m.container_port, m.protocol) for m in network.port_mappings] == [
        (31007, 31007, "tcp"),
        (31007, 31007, "udp"),
    ]


@pytest.mark.parametrize(
    ("changes", "override", "value"),
    [
        ({}, None, "run"),
        ({"image": {"id": "busybox"}}, None, None),
        ({"image": {"id": "busybox"}}, True, "run"),
    ],
)
def test_arguments_go_to_the_entry_point_of_an_image_unless_they_replace_it(
    world: World, changes: dict[str, Any], override: bool | None, value: str | None
) -> None:
    given = {"command": {"argv": ["run", "-x"]}, "overrideEntrypoint": override}
    reply = world.ask(
        CreatePod, body={"id": "/p", "containers": [_container(exec=given, **changes)]}
    )
    assert reply.status == 201
    world.settle(2)
    [group] = groups_launched(world)
    command = group.task_group.tasks[0].command
    assert command is not None
    assert (command.shell, command.value, command.arguments) == (False, value, ("run", "-x"))


@pytest.mark.parametrize(
    ("check", "seen"),
    [
        ({"http": {"endpoint": "web", "path": "/up"}}, {"type": "HTTP", "path": "/up"}),
        ({"tcp": {"endpoint": "web"}}, {"type": "TCP"}),
        ({"exec": {"command": {"shell": "true"}}}, {"type": "COMMAND", "value": "true"}),
    ],
)
def test_a_check_of_a_container_is_passed_on(
    world: World, check: dict[str, Any], seen: dict[str, Any]
) -> None:
    made = _container(check={**check, "intervalSeconds": 30}, endpoints=[{"name": "web"}])
    assert world.ask(CreatePod, body={"id": "/p", "containers": [made]}).status == 201
    world.settle(2)
    [group] = groups_launched(world)
    [instance] = world.core.state.instances.values()
    passed = group.task_group.tasks[0].check
    assert passed is not None
    assert (passed.type, passed.interval_seconds) == (seen["type"], 30.0)
    if passed.http is not None:
        assert (passed.http.port, passed.http.path) == (instance.ports[0], seen["path"])
    if passed.tcp is not None:
        assert passed.tcp.port == instance.ports[0]
    if passed.command is not None:
        assert passed.command.command.value == seen["value"]


# -- crashes ----------------------------------------------------------------------------------


class Dying:
    """A pod is created and updated in a world whose Marathon dies at effect `crash_at`."""

    def __init__(self, crash_at: int | None) -> None:
        self.world = World()
        self.effects = 0
        self.crash_at = crash_at
        self.world.before = self._count

    def _count(self, effect: Effect) -> None:
        if isinstance(effect, Note):
            return
        self.effects += 1
        if self.effects == self.crash_at:
            raise Crash

    def survive(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Crash:
            self.world.start()
            self.world.connect()
            return None

    def run(self) -> None:
        self.survive(self.world.connect)
        self.ask(CreatePod, body=WEB)
        self.rounds()
        self.ask(PutPod, pod_id="/shop/web", body={**WEB, "environment": {"WHERE": "there"}})
        self.rounds()

    def ask(self, command: type[Command], **fields: Any) -> None:
        if self.survive(lambda: self.world.ask(command, force=True, **fields)) is None:
            reply = self.world.ask(command, force=True, **fields)
            assert reply.status in {200, 201, 409}

    def rounds(self) -> None:
        for _ in range(10):
            self.survive(self.world.offer)
            self.survive(lambda: self.world.advance(1.0))
            self.survive(lambda: healthy(self.world))


def test_a_crash_at_any_effect_leaves_whole_pods_of_the_last_definition() -> None:
    dry = Dying(None)
    dry.run()
    assert dry.effects > 60
    for crash_at in range(1, dry.effects + 1, 3):
        script = Dying(crash_at)
        script.run()
        script.rounds()
        world = script.world
        assert script.effects >= crash_at, "the crash did not happen"
        assert not world.core.state.deployments, crash_at
        assert status(world).status == "STABLE", crash_at
        assert len(world.tasks) == 4, crash_at
        assert set(world.core.state.by_task) == set(world.tasks), crash_at
        environments = [task.command and task.command.environment for task in world.tasks.values()]
        where = {v.value for e in environments if e for v in e.variables if v.name == "WHERE"}
        assert where == {"there"}, crash_at
