"""Offers matched, and the tasks made of them (spec/marathon §3.4, §3.5, §3.9, §1.5)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.marathon import matcher, taskinfo
from mesostk.marathon.apps import Settings, normalise
from mesostk.marathon.matcher import Match, NoMatch, Rules
from mesostk.marathon.ports import assign_service_ports
from mesostk.marathon.versions import stamped
from mesostk.resources.resources import Resources
from mesostk.wire import mesos
from mesostk.wire.marathon import AppDefinition

EXAMPLES = Path(__file__).parents[3] / "examples"
UUID = "11111111-2222-4333-8444-555555555555"
SETTINGS = Settings(features=frozenset({"secrets", "gpu_resources", "external_volumes"}))


def scalar(name: str, value: float, role: str | None = None) -> mesos.Resource:
    return mesos.Resource(name=name, type="SCALAR", scalar=mesos.Scalar(value), role=role)


def port_range(first: int, last: int, role: str | None = None) -> mesos.Resource:
    spans = mesos.Ranges((mesos.Range(first, last),))
    return mesos.Resource(name="ports", type="RANGES", ranges=spans, role=role)


PLENTY = (scalar("cpus", 4), scalar("mem", 1024), scalar("disk", 100), port_range(31000, 31999))


def offer(*resources: mesos.Resource, **more: Any) -> mesos.Offer:
    return mesos.Offer(
        id=mesos.OfferID("O1"),
        framework_id=mesos.FrameworkID("F1"),
        agent_id=mesos.AgentID("S1"),
        hostname="host1",
        resources=resources or PLENTY,
        **more,
    )


def app(**raw: object) -> AppDefinition:
    wanted = normalise({"id": "/prod/web", "cmd": "run", "cpus": 0.5, "mem": 64} | raw,
                       settings=SETTINGS)  # fmt: skip
    [wanted] = assign_service_ports([wanted], {}, 10000, 20000)
    return stamped(None, wanted, "2016-06-20T12:00:00.000Z")


def tried(definition: AppDefinition, found: mesos.Offer, **rules: Any) -> Match | NoMatch:
    return matcher.match(
        definition,
        found,
        Resources.of(found.resources),
        [],
        random.Random(7),
        1000.0,
        Rules(**rules),
    )


def matched(definition: AppDefinition, found: mesos.Offer | None = None, **rules: Any) -> Match:
    result = tried(definition, found if found is not None else offer(), **rules)
    assert isinstance(result, Match), result
    return result


def task(definition: AppDefinition, **options: Any) -> mesos.TaskInfo:
    id = taskinfo.task_id(taskinfo.instance_id(definition.id, UUID))
    match = matched(definition)
    return taskinfo.build(definition, match, mesos.AgentID("S1"), id, taskinfo.Options(**options))


def environment(info: mesos.TaskInfo) -> dict[str, str | None]:
    assert info.command is not None
    assert info.command.environment is not None
    return {v.name: v.value for v in info.command.environment.variables}


# -- matching ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "found", "reason"),
    [
        ({"acceptedResourceRoles": ["db"]}, offer(), "UnfulfilledRole"),
        ({}, offer(scalar("cpus", 9, "db")), "UnfulfilledRole"),
        ({"constraints": [["rack", "IS", "r1"]]}, offer(), "UnfulfilledConstraint"),
        ({"cpus": 5}, offer(), "InsufficientCpus"),
        ({"mem": 5000}, offer(), "InsufficientMemory"),
        ({"disk": 101}, offer(), "InsufficientDisk"),
        ({"gpus": 1}, offer(), "InsufficientGpus"),
        ({"ports": [80], "requirePorts": True}, offer(), "InsufficientPorts"),
        ({}, offer(*PLENTY, scalar("gpus", 1)), "DeclinedScarceResources"),
        ({}, offer(unavailability=mesos.Unavailability(start=mesos.TimeInfo(nanoseconds=10**12))),
         "AgentMaintenance"),
    ],
)  # fmt: skip
def test_refusals_come_in_the_funnels_order(raw: Any, found: mesos.Offer, reason: str) -> None:
    result = tried(app(**raw), found)
    assert isinstance(result, NoMatch)
    assert result.reason == reason
    assert reason in matcher.REASONS


def test_the_detail_has_the_numbers() -> None:
    result = tried(app(cpus=5), offer())
    assert isinstance(result, NoMatch)
    assert result.detail == "needs 5 cpus, offer has 4"


def test_reserved_resources_are_used_first() -> None:
    found = offer(*PLENTY, scalar("cpus", 0.2, "prod"), port_range(100, 100, "prod"))
    match = matched(app(role="prod", ports=[0, 0]), found)
    assert match.resources.reserved("prod").scalar("cpus") == 200
    assert match.resources.unreserved().scalar("cpus") == 300
    assert match.ports[0] == 100
    assert match.left + match.resources == Resources.of(found.resources)


def test_maintenance_that_is_over_or_far_away_does_not_matter() -> None:
    over = mesos.Unavailability(
        start=mesos.TimeInfo(nanoseconds=0), duration=mesos.DurationInfo(nanoseconds=10**9)
    )
    matched(app(), offer(unavailability=over))
    far = mesos.Unavailability(start=mesos.TimeInfo(nanoseconds=2 * 10**12))
    matched(app(), offer(unavailability=far))
    assert isinstance(tried(app(), offer(unavailability=far), draining_s=1000.0), NoMatch)


def test_a_foreign_region_needs_a_constraint_that_names_it() -> None:
    fault = mesos.FaultDomain(region=mesos.RegionInfo(name="us"), zone=mesos.ZoneInfo(name="z"))
    found = offer(domain=mesos.DomainInfo(fault_domain=fault))
    assert isinstance(tried(app(), found, region="eu"), NoMatch)
    matched(app(constraints=[["@region", "IS", "us"]]), found, region="eu")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 3), st.integers(0, 2**32))
def test_instances_on_one_offer_never_share_a_port_nor_take_too_much(
    count: int, ports: int, seed: int
) -> None:
    definition = app(ports=[0] * ports)
    found = offer(scalar("cpus", 3), scalar("mem", 1024), port_range(31000, 31011))
    left = Resources.of(found.resources)
    rng = random.Random(seed)
    taken: list[int] = []
    total = Resources()
    for _ in range(count):
        result = matcher.match(definition, found, left, [], rng, 0.0, Rules())
        if isinstance(result, NoMatch):
            assert result.reason in ("InsufficientCpus", "InsufficientPorts")
            break
        left = result.left
        taken += result.host_ports
        total += result.resources
    assert len(set(taken)) == len(taken)
    assert Resources.of(found.resources).contains(total)
    assert left + total == Resources.of(found.resources)


# -- ids (§3.4) -------------------------------------------------------------------------------


def test_ids_and_the_name_for_dns() -> None:
    instance = taskinfo.instance_id("/prod/web", UUID)
    assert instance == f"prod_web.instance-{UUID}"
    assert taskinfo.task_id(instance) == f"prod_web.instance-{UUID}._app.1"
    info = task(app())
    assert info.name == "web.prod"
    assert info.discovery is not None
    assert info.discovery.name == "web.prod"


@pytest.mark.parametrize(
    "id",
    [
        f"prod_web.instance-{UUID}._app.3",
        f"prod_web.instance-{UUID}",
        f"prod_web.marathon-{UUID}",
        f"prod_web.instance-{UUID}.nginx.1",
        "prod_web.53d6ccef-39f7-11e6-a2b6-0800272ca725",
    ],
)
def test_task_ids_of_every_generation_tell_their_app(id: str) -> None:
    assert taskinfo.app_of(id) == "/prod/web"


def test_foreign_task_ids_tell_nothing() -> None:
    assert taskinfo.app_of("ct:123:0:job:") is None
    assert taskinfo.instance_of("") is None
    task_id = f"prod_web.instance-{UUID}._app.3"
    assert taskinfo.instance_of(task_id) == f"prod_web.instance-{UUID}"


# -- environment (§3.4) -----------------------------------------------------------------------


def test_environment_of_a_host_app() -> None:
    definition = app(
        ports=[0, 0],
        env={"FOO": "bar", "MARATHON_APP_ID": "mine"},
        labels={"tier/a": "x", "B": "y" * 600},
    )
    info = task(definition)
    env = environment(info)
    spans = [r.ranges for r in info.resources if r.name == "ports" and r.ranges is not None]
    ports = {n for span in spans[0].range for n in range(span.begin, span.end + 1)}
    assert {int(env["PORT0"] or 0), int(env["PORT1"] or 0)} == ports
    assert env["PORT"] == env["PORT0"]
    assert env["PORTS"] == f"{env['PORT0']},{env['PORT1']}"
    assert env["PORT_10000"] == env["PORT0"]
    assert env["HOST"] == "host1"
    assert env["FOO"] == "bar"
    assert env["MARATHON_APP_ID"] == "mine"
    assert env["MESOS_TASK_ID"] == info.task_id.value
    assert env["MARATHON_APP_VERSION"] == "2016-06-20T12:00:00.000Z"
    assert env["MARATHON_APP_RESOURCE_CPUS"] == "0.5"
    assert env["MARATHON_APP_RESOURCE_MEM"] == "64.0"
    assert env["MARATHON_APP_RESOURCE_GPUS"] == "0"
    assert env["MARATHON_APP_LABELS"] == "TIER_A"
    assert env["MARATHON_APP_LABEL_TIER_A"] == "x"


def test_no_ports_no_port_variables_and_the_prefix_is_for_addresses_only() -> None:
    env = environment(task(app(ports=[]), env_vars_prefix="M_"))
    assert not [name for name in env if "PORT" in name]
    assert env["M_HOST"] == "host1"
    assert "HOST" not in env
    assert "MESOS_TASK_ID" in env


def test_named_ports_and_secrets() -> None:
    definition = app(
        portDefinitions=[{"name": "http"}], env={"S": {"secret": "pw"}},
        secrets={"pw": {"source": "/db/pw"}},
    )  # fmt: skip
    info = task(definition)
    env = environment(info)
    assert env["PORT_HTTP"] == env["PORT0"]
    assert info.command is not None
    assert info.command.environment is not None
    [secret] = [v.secret for v in info.command.environment.variables if v.name == "S"]
    assert secret is not None
    assert secret.reference == mesos.SecretReference(name="/db/pw")


# -- command, container, checks ---------------------------------------------------------------


def test_cmd_runs_in_a_shell_and_args_do_not() -> None:
    info = task(app(cmd="echo hello; sleep 10"))
    assert info.command is not None
    assert (info.command.shell, info.command.value) == (True, "echo hello; sleep 10")
    info = task(app(cmd=None, args=["/bin/echo", "a b"]))
    assert info.command is not None
    assert (info.command.shell, info.command.value) == (False, "/bin/echo")
    assert info.command.arguments == ("/bin/echo", "a b")


def test_an_image_runs_its_own_command() -> None:
    raw = json.loads((EXAMPLES / "nginx.json").read_bytes())
    info = task(stamped(None, normalise(raw), "v1"))
    assert info.command is not None
    assert (info.command.shell, info.command.value) == (False, None)
    assert info.container is not None
    assert info.container.docker is not None
    assert info.container.docker.network == "HOST"
    label = mesos.Parameter(key="label", value=f"MESOS_TASK_ID={info.task_id.value}")
    assert label in info.container.docker.parameters


def test_bridge_mappings_of_the_tutorial() -> None:
    raw = json.loads((EXAMPLES / "nginx-internal.json").read_bytes())
    info = task(stamped(None, normalise(raw), "v1"))
    env = environment(info)
    assert info.container is not None
    assert info.container.docker is not None
    [mapping] = info.container.docker.port_mappings
    assert (mapping.container_port, str(mapping.host_port)) == (80, env["PORT0"])
    assert env["PORT_80"] == env["PORT0"]
    assert info.container.docker.force_pull_image is True
    assert info.discovery is not None
    assert info.discovery.ports is not None
    [port] = info.discovery.ports.ports
    assert port.number == mapping.host_port
    assert info.health_check is None


def test_fixed_host_ports_of_two_protocols() -> None:
    raw = json.loads((EXAMPLES / "bridged-webapp.json").read_bytes())
    definition = stamped(None, normalise(raw), "v1")
    result = matched(definition)
    assert result.ports == (31240, 31241)


def test_a_container_network_publishes_only_what_has_a_host_port() -> None:
    definition = app(
        container={
            "type": "MESOS",
            "docker": {"image": "i"},
            "portMappings": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 0}],
        },
        networks=[{"mode": "container", "name": "blue"}],
    )
    match = matched(definition)
    assert match.ports[0] is None
    assert match.seen[0] == 80
    info = task(definition)
    assert info.container is not None
    [network] = info.container.network_infos
    assert network.name == "blue"
    assert [m.container_port for m in network.port_mappings] == [81]
    assert environment(info)["PORT0"] == "80"


def test_agent_side_health_checks_and_kill_grace() -> None:
    command = {"protocol": "COMMAND", "command": {"value": "true"}, "maxConsecutiveFailures": 5}
    info = task(app(healthChecks=[{}, command], taskKillGracePeriodSeconds=3))
    assert info.health_check is not None
    assert info.health_check.type == "COMMAND"
    assert info.health_check.consecutive_failures == 5
    assert info.kill_policy is not None
    assert info.kill_policy.grace_period == mesos.DurationInfo(nanoseconds=3_000_000_000)
    info = task(app(healthChecks=[{"protocol": "MESOS_HTTP", "path": "/up"}]))
    assert info.health_check is not None
    assert info.health_check.http is not None
    assert str(info.health_check.http.port) == environment(info)["PORT0"]
    assert task(app(healthChecks=[{}])).health_check is None


def test_a_custom_executor_gets_the_command() -> None:
    info = task(app(executor="/opt/my exec"))
    assert info.command is None
    assert info.executor is not None
    assert info.executor.command is not None
    assert info.executor.command.value == "chmod ug+rx '/opt/my exec' && exec '/opt/my exec' run"


def test_fetch_user_labels_and_limits_are_passed_on() -> None:
    definition = app(
        uris=["http://h/a.tgz"], user="nobody", labels={"a": "b"},
        resourceLimits={"cpus": "unlimited", "mem": 128},
    )  # fmt: skip
    info = task(definition)
    assert info.command is not None
    assert info.command.uris[0].value == "http://h/a.tgz"
    assert info.command.user == "nobody"
    assert info.labels == mesos.Labels(labels=(mesos.Label(key="a", value="b"),))
    assert info.limits == {"cpus": mesos.Scalar(float("inf")), "mem": mesos.Scalar(128.0)}


OF_THE_TUTORIAL = sorted(path for path in EXAMPLES.glob("*.json") if path.stem != "pod")


@pytest.mark.parametrize("path", OF_THE_TUTORIAL, ids=lambda path: path.stem)
def test_every_app_of_the_tutorial_becomes_a_task(path: Path) -> None:
    definition = stamped(None, normalise(json.loads(path.read_bytes())), "v1")
    info = task(definition)
    assert info.name == path.stem
    assert {r.name for r in info.resources} >= {"cpus", "mem"}
