"""What single fields of an app do, from the request to the task or the instances. Spec §2."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesostk.marathon.events import ChangeGroup, CreateApp, CreatePod, PutApps, Reply
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World
from mesostk.wire.marathon import ErrorBody
from mesostk.wire.mesos import TaskInfo

SLEEP: dict[str, Any] = {"id": "/web", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32}

DOCKER = {"type": "DOCKER", "docker": {"image": "nginx"}}


def launched(world: World, **fields: Any) -> TaskInfo:
    """The task that an app with these fields becomes."""
    assert world.ask(CreateApp, body={**SLEEP, **fields}).status == 201
    world.offer()
    [task] = world.tasks.values()
    return task


def paths(reply: Reply) -> list[str]:
    assert reply.status == 422, reply
    assert isinstance(reply.body, ErrorBody)
    assert isinstance(reply.body.details, tuple)
    return [each.path for each in reply.body.details]


@pytest.mark.parametrize(
    ("protocol", "scheme"), [("MESOS_HTTP", "http"), ("MESOS_HTTPS", "https"), ("MESOS_TCP", None)]
)
def test_an_agent_checks_over_ipv6_what_says_so(
    world: World, protocol: str, scheme: str | None
) -> None:
    check = {"protocol": protocol, "ipProtocol": "IPv6", "maxConsecutiveFailures": 2}
    task = launched(world, container=DOCKER, ports=[0], healthChecks=[check])
    assert task.health_check is not None
    assert task.health_check.consecutive_failures == 2
    aimed = task.health_check.tcp if scheme is None else task.health_check.http
    assert aimed is not None
    assert aimed.protocol == "IPv6"
    if task.health_check.http is not None:
        assert (task.health_check.http.scheme, task.health_check.http.path) == (scheme, "/")


@pytest.mark.parametrize(
    "fields",
    [
        {"healthChecks": [{"protocol": "MESOS_HTTP", "ipProtocol": "IPv6"}]},
        {"healthChecks": [{"protocol": "HTTP", "ipProtocol": "IPv6"}], "container": DOCKER},
    ],
)
def test_ipv6_is_for_docker_and_checks_of_the_agent(world: World, fields: dict[str, Any]) -> None:
    reply = world.ask(CreateApp, body={**SLEEP, **fields, "ports": [0]})
    assert paths(reply) == ["/healthChecks(0)/ipProtocol"]


def test_the_leader_probes_https_with_all_that_the_check_says(world: World) -> None:
    check = {
        "protocol": "HTTPS", "path": "/ok", "intervalSeconds": 3, "timeoutSeconds": 2,
        "ignoreHttp1xx": True,
    }  # fmt: skip
    launched(world, ports=[0], healthChecks=[check])
    [started] = world.probes.values()
    [probe] = started.probes
    assert (probe.kind, probe.path, probe.ignore_1xx) == ("HTTPS", "/ok", True)
    assert (probe.first_s, probe.interval_s, probe.timeout_s) == (3.0, 3.0, 2.0)


@pytest.mark.parametrize(("selection", "kept"), [("YOUNGEST_FIRST", 0), ("OLDEST_FIRST", 2)])
def test_scaling_down_takes_whom_kill_selection_names(
    world: World, selection: str, kept: int
) -> None:
    world.ask(CreateApp, body={**SLEEP, "killSelection": selection})
    for number in (1, 2, 3):
        world.ask(PutApps, bodies=({"instances": number},), app_id="/web")
        world.settle(3)
    born = list(world.launched_ever)
    assert len(world.running("/web")) == 3
    world.ask(PutApps, bodies=({"instances": 1},), app_id="/web")
    world.settle(3)
    assert world.running("/web") == [born[kept]]


def test_a_kill_leaves_the_task_the_time_that_its_app_says(world: World) -> None:
    task = launched(world, taskKillGracePeriodSeconds=7)
    assert task.kill_policy is not None
    assert task.kill_policy.grace_period is not None
    assert task.kill_policy.grace_period.nanoseconds == 7_000_000_000


def test_fetch_and_the_uris_of_2016_reach_the_agent(world: World) -> None:
    fetch = [
        {"uri": "http://h/a.tgz"},
        {"uri": "http://h/b", "extract": False, "executable": True, "cache": True, "destPath": "c"},
    ]
    task = launched(world, fetch=fetch)
    assert task.command is not None
    found = [
        (each.value, each.extract, each.executable, each.cache, each.output_file)
        for each in task.command.uris
    ]
    assert found == [
        ("http://h/a.tgz", True, False, False, None),
        ("http://h/b", False, True, True, "c"),
    ]
    world.ask(PutApps, bodies=({"uris": ["http://h/x.zip", "http://h/y"]},), app_id="/web")
    world.settle(3)
    [command] = [each.command for each in world.tasks.values()]
    assert command is not None
    assert [(each.value, each.extract) for each in command.uris] == [
        ("http://h/x.zip", True),
        ("http://h/y", False),
    ]


@pytest.mark.parametrize(
    "fields", [{"fetch": [{"uri": "a b"}]}, {"fetch": [{"uri": "http://h/" + "a" * 1024}]}]
)
def test_a_uri_that_no_fetcher_takes_is_refused(world: World, fields: dict[str, Any]) -> None:
    assert paths(world.ask(CreateApp, body={**SLEEP, **fields})) == ["/fetch(0)/uri"]


def test_a_terminal_is_given_but_not_by_the_docker_engine(world: World) -> None:
    docker = {"type": "DOCKER", "docker": {"image": "busybox"}}
    refused = world.ask(CreateApp, body={**SLEEP, "tty": True, "container": docker})
    assert paths(refused) == ["/tty"]
    task = launched(world, tty=True)
    assert task.container is not None
    assert (task.container.type, task.container.tty_info is not None) == ("MESOS", True)


def test_a_secret_is_named_by_reference_and_must_exist() -> None:
    made = World(settings=Settings(features=frozenset({"secrets"})))
    made.connect()
    env = {"PASSWORD": {"secret": "pw"}}
    assert paths(made.ask(CreateApp, body={**SLEEP, "env": env})) == ["/env/PASSWORD"]
    task = launched(made, env=env, secrets={"pw": {"source": "db/pw"}})
    assert task.command is not None
    assert task.command.environment is not None
    [secret] = [e.secret for e in task.command.environment.variables if e.name == "PASSWORD"]
    assert secret is not None
    assert secret.reference is not None
    assert secret.reference.name == "db/pw"


PULL: dict[str, Any] = {"image": "registry.example/web", "pullConfig": {"secret": "registry"}}


def pulling(task: TaskInfo) -> str:
    container = task.container
    assert container is not None
    assert container.mesos is not None
    assert container.mesos.image is not None
    docker = container.mesos.image.docker
    assert docker is not None
    assert docker.config is not None
    assert docker.config.reference is not None
    return docker.config.reference.name


def test_an_image_is_pulled_with_a_secret_of_the_app_that_must_exist() -> None:
    made = World(settings=Settings(features=frozenset({"secrets"})))
    made.connect()
    container = {"type": "MESOS", "docker": PULL}
    body = {**SLEEP, "container": container}
    assert paths(made.ask(CreateApp, body=body)) == ["/container/docker/pullConfig/secret"]
    task = launched(made, container=container, secrets={"registry": {"source": "pull/registry"}})
    assert pulling(task) == "pull/registry"


def test_an_image_of_a_pod_is_pulled_with_a_secret_of_the_pod_that_must_exist() -> None:
    made = World(settings=Settings(features=frozenset({"secrets"})))
    made.connect()
    image = {"kind": "DOCKER", "id": PULL["image"], "pullConfig": PULL["pullConfig"]}
    pod = {"id": "/pod", "containers": [{"name": "c", "image": image}]}
    refused = made.ask(CreatePod, body=pod)
    assert paths(refused) == ["/containers(0)/image/pullConfig/secret"]
    given = {**pod, "secrets": {"registry": {"source": "pull/registry"}}}
    assert made.ask(CreatePod, body=given).status == 201
    made.settle(3)
    [task] = made.tasks.values()
    assert pulling(task) == "pull/registry"


def test_the_apps_of_a_group_wait_for_the_groups_it_depends_on(world: World) -> None:
    world.obey = False
    body = {
        "groups": [
            {"id": "web", "dependencies": ["../db"], "apps": [{**SLEEP, "id": "front"}]},
            {"id": "db", "groups": [{"id": "inner", "apps": [{**SLEEP, "id": "store"}]}]},
        ]
    }
    assert world.ask(ChangeGroup, group_id="/shop", body=body).status == 200
    world.settle(3)
    assert [id.partition(".")[0] for id in world.tasks] == ["shop_db_inner_store"]
    world.obey = True
    world.update(next(iter(world.tasks)), "TASK_RUNNING")
    world.feed()
    world.settle(3)
    assert len(world.running("/shop/web/front")) == 1
    body["groups"][1]["dependencies"] = ["/shop/web"]
    refused = world.ask(ChangeGroup, group_id="/shop", body=body, force=True)
    assert paths(refused) == ["/"]


# -- both generations of the JSON, in and out (spec §2.3) ------------------------------------------

NGINX = {"image": "nginx"}


def docker(**more: Any) -> dict[str, Any]:
    return {"type": "DOCKER", "docker": {**NGINX, **more}}


@pytest.mark.parametrize(
    ("given", "networks", "ports", "shown"),
    [
        ({}, [{"mode": "host"}], [10000], (None, None)),
        ({"ports": [9000, 0]}, [{"mode": "host"}], [9000, 10000], (None, None)),
        ({"portDefinitions": [{"port": 9001}]}, [{"mode": "host"}], [9001], (None, None)),
        ({"container": docker()}, [{"mode": "host"}], [10000], ("HOST", None)),
        ({"container": docker(network="HOST", portMappings=[{"containerPort": 1}])},
         [{"mode": "host"}], [10000], ("HOST", None)),
        ({"container": docker(network="BRIDGE", portMappings=[{"containerPort": 80}])},
         [{"mode": "container/bridge"}], [10000], ("BRIDGE", None)),
        ({"container": docker(network="BRIDGE", portMappings=[{"containerPort": 80}]),
          "ports": [9002]}, [{"mode": "container/bridge"}], [9002], ("BRIDGE", None)),
        ({"container": {**docker(), "portMappings": [{"containerPort": 80, "servicePort": 9003}]},
          "networks": [{"mode": "container/bridge"}]},
         [{"mode": "container/bridge"}], [9003], ("BRIDGE", None)),
        ({"container": docker(network="USER", portMappings=[{"containerPort": 80}]),
          "ipAddress": {"networkName": "dmz"}},
         [{"mode": "container", "name": "dmz"}], [10000], ("USER", "dmz")),
        ({"container": {**docker(), "portMappings": [{"containerPort": 80}]},
          "networks": [{"name": "dmz"}]},
         [{"mode": "container", "name": "dmz"}], [10000], ("USER", "dmz")),
        ({"ipAddress": {"networkName": "dmz",
                        "discovery": {"ports": [{"number": 80, "name": "web"}]}}},
         [{"mode": "container", "name": "dmz"}], [10000], (None, "dmz")),
        ({"ipAddress": {"networkName": "mesos-bridge",
                        "discovery": {"ports": [{"number": 80, "name": "web"}]}}},
         [{"mode": "container/bridge"}], [10000], (None, None)),
    ],
)  # fmt: skip
def test_either_generation_is_understood_and_both_are_answered(
    world: World,
    given: dict[str, Any],
    networks: list[dict[str, Any]],
    ports: list[int],
    shown: tuple[str | None, str | None],
) -> None:
    reply = world.ask(CreateApp, body={**SLEEP, **given})
    assert reply.status == 201, reply
    answer = msgspec.json.decode(msgspec.json.encode(reply.body))
    found = [{k: v for k, v in each.items() if k != "labels"} for each in answer["networks"]]
    assert found == networks
    assert answer["ports"] == ports
    assert [each["port"] for each in answer["portDefinitions"]] == ports
    in_docker = (answer["container"] or {}).get("docker") or {}
    of_2016 = None if answer["ipAddress"] is None else answer["ipAddress"]["networkName"]
    assert (in_docker.get("network"), of_2016) == shown
    again = world.ask(PutApps, bodies=(answer,), app_id="/web", force=True)
    assert again.status == 200, "its own answer is understood"
    assert world.core.state.apps["/web"].version == answer["version"], "and changes nothing"
