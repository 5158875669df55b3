"""App JSON of both generations in, one model inside, both out (spec/marathon §0, §2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.marathon import apps, pods, validation
from mesostk.marathon.apps import (
    Settings,
    normalise,
    rollback_version,
    service_ports,
    with_service_ports,
)
from mesostk.marathon.appview import app_view
from mesostk.marathon.refusal import Refused
from mesostk.marathon.versions import config_version, needs_restart, restarted, stamped
from mesostk.wire.marathon import (
    AppDefinition,
    Fetch,
    Network,
    PortDefinition,
    PortMapping,
    TaskCounts,
    UpgradeStrategy,
)

EXAMPLES = Path(__file__).parents[3] / "examples"

ALL_FEATURES = Settings(
    default_network_name="weave",
    features=frozenset({"secrets", "gpu_resources", "external_volumes"}),
)


def refusal(raw: object, base: AppDefinition | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        validation.refuse_invalid(normalise(raw, base))
    return caught.value


def places(refused: Refused) -> list[str]:
    assert refused.details is not None
    assert not isinstance(refused.details, str)
    return [each.path for each in refused.details]


def bridged(**docker: object) -> dict[str, Any]:
    return {
        "id": "/web",
        "container": {
            "type": "DOCKER",
            "docker": {"image": "nginx", "network": "BRIDGE", **docker},
        },
    }


WITH_ROLE = apps.Settings(role="web")


# -- the tutorial (§0) ------------------------------------------------------------------------


OF_THE_TUTORIAL = sorted(path for path in EXAMPLES.glob("*.json") if path.stem != "pod")


def test_the_example_of_a_pod_is_valid() -> None:
    assert pods.normalise(json.loads((EXAMPLES / "pod.json").read_bytes())).pod is not None


@pytest.mark.parametrize("path", OF_THE_TUTORIAL, ids=lambda path: path.stem)
def test_every_app_of_the_tutorial_is_valid_and_survives_its_own_answer(path: Path) -> None:
    app = normalise(json.loads(path.read_bytes()))
    validation.refuse_invalid(app)
    assert app.id == f"/{path.stem}"
    assert normalise(json.loads(json.dumps(app_view(app)))) == app


def test_hello2_is_answered_with_the_keys_of_the_tutorial_in_their_order() -> None:
    raw = json.loads((EXAMPLES / "hello2.json").read_bytes())
    app = stamped(None, normalise(raw), "2016-06-21T14:21:31.665Z")
    view = app_view(app, counts=TaskCounts(), deployments=["d1"], tasks=())
    printed = [
        "id", "cmd", "args", "user", "env", "instances", "cpus", "mem", "disk", "executor",
        "constraints", "uris", "fetch", "storeUrls", "ports", "portDefinitions", "requirePorts",
        "backoffSeconds", "backoffFactor", "maxLaunchDelaySeconds", "container", "healthChecks",
        "readinessChecks", "dependencies", "upgradeStrategy", "labels", "acceptedResourceRoles",
        "ipAddress", "version", "residency", "tasksStaged", "tasksRunning", "tasksHealthy",
        "tasksUnhealthy", "deployments", "tasks",
    ]  # fmt: skip
    assert [key for key in view if key in set(printed)] == printed
    assert view["id"] == "/hello2"
    assert view["args"] is None
    assert view["executor"] == ""
    assert view["ports"] == [0]
    assert view["portDefinitions"] == [{"port": 0, "protocol": "tcp", "labels": {}}]
    assert view["upgradeStrategy"] == {"minimumHealthCapacity": 1, "maximumOverCapacity": 1}
    assert json.dumps(view["mem"]) == "16"
    assert view["deployments"] == [{"id": "d1"}]


def test_a_docker_block_without_network_means_host() -> None:
    app = normalise({"id": "ubuntu", "cmd": "date", "container": {"docker": {"image": "u"}}})
    assert app.networks == (Network(mode="host"),)
    assert app.port_definitions == (PortDefinition(name="default"),)


# -- two spellings (§2.3) ---------------------------------------------------------------------


def test_old_bridge_mappings_become_canonical_and_both_are_shown() -> None:
    raw = bridged(portMappings=[{"containerPort": 80, "servicePort": 10001}])
    app = normalise(raw)
    assert app.networks == (Network(mode="container/bridge"),)
    assert app.container is not None
    assert app.container.port_mappings == (
        PortMapping(container_port=80, host_port=0, service_port=10001),
    )
    view: Any = app_view(app)
    assert view["ports"] == [10001]
    assert view["container"]["docker"]["network"] == "BRIDGE"
    assert view["container"]["docker"]["portMappings"] == view["container"]["portMappings"]
    assert view["networks"] == [{"mode": "container/bridge"}]


def test_new_bridge_app_without_mappings_gets_one_default_port() -> None:
    raw = {
        "id": "/web",
        "container": {"docker": {"image": "nginx"}},
        "networks": [{"mode": "container/bridge"}],
    }
    app = normalise(raw)
    assert app.container is not None
    assert app.container.port_mappings == (PortMapping(host_port=0, name="default"),)


def test_old_bridge_app_without_mappings_has_no_ports_and_keeps_it_so() -> None:
    app = normalise(bridged())
    assert service_ports(app) == ()
    assert service_ports(normalise({"instances": 2}, app)) == ()


def test_docker_user_network_takes_its_name_from_ip_address() -> None:
    raw = bridged(network="USER") | {"ipAddress": {"networkName": "blue", "labels": {"a": "b"}}}
    app = normalise(raw)
    assert app.networks == (Network(mode="container", name="blue", labels={"a": "b"}),)


def test_ip_address_without_docker_makes_a_mesos_container_with_mappings() -> None:
    raw = {
        "id": "/a",
        "cmd": "x",
        "ipAddress": {"networkName": "blue", "discovery": {"ports": [{"number": 80}]}},
    }
    app = normalise(raw)
    assert app.container is not None
    assert app.container.type == "MESOS"
    assert app.container.port_mappings == (PortMapping(container_port=80),)
    assert app.port_definitions == ()


def test_ports_in_bridge_mode_are_service_ports_and_pad_the_mappings() -> None:
    raw = bridged(portMappings=[{"containerPort": 80}]) | {"ports": [9000, 9001]}
    assert service_ports(normalise(raw)) == (9000, 9001)


def test_uris_become_fetch_and_unpack_archives_only() -> None:
    app = normalise({"id": "/a", "cmd": "x", "uris": ["http://h/a.tgz", "http://h/a.jar"]})
    assert app.fetch == (
        Fetch(uri="http://h/a.tgz", extract=True),
        Fetch(uri="http://h/a.jar", extract=False),
    )


def test_contradicting_spellings_are_refused() -> None:
    contradictions: dict[str, dict[str, Any]] = {
        "/fetch": {"uris": ["http://a"], "fetch": [{"uri": "http://b"}]},
        "/portDefinitions": {"ports": [1], "portDefinitions": [{"port": 2}]},
        "/networks": {"networks": [{"mode": "host"}], "ipAddress": {"networkName": "blue"}},
    }
    for path, more in contradictions.items():
        refused = refusal({"id": "/a", "cmd": "x"} | more)
        assert refused.status == 422
        assert places(refused) == [path]


def test_a_client_that_edits_one_spelling_of_an_answer_and_sends_it_back_is_understood() -> None:
    app = normalise({"id": "/a", "cmd": "x", "ports": [1000], "uris": ["http://a/x"]})
    edited = app_view(app) | {"ports": [2000]}
    assert service_ports(normalise(edited, app)) == (2000,)
    edited = app_view(app) | {"portDefinitions": [{"port": 3000, "name": "http"}]}
    assert normalise(edited, app).port_definitions == (PortDefinition(port=3000, name="http"),)
    edited = app_view(app) | {"uris": ["http://b/y"]}
    assert [entry.uri for entry in normalise(edited, app).fetch] == ["http://b/y"]


# -- partial update (§1.3) --------------------------------------------------------------------


def test_absent_and_null_keys_keep_what_was_there() -> None:
    app = normalise({"id": "/a", "cmd": "x", "cpus": 2, "labels": {"k": "v"}, "ports": [1, 2]})
    assert normalise({"cpus": None}, app) == app
    assert normalise({"instances": 5}, app).labels == {"k": "v"}
    assert normalise({"labels": {}}, app).labels == {}


def test_resource_limits_are_reset_when_absent() -> None:
    app = normalise({"id": "/a", "cmd": "x", "resourceLimits": {"cpus": "unlimited"}})
    assert app.resource_limits is not None
    assert normalise({"instances": 2}, app).resource_limits is None


def test_id_in_the_body_may_differ_in_form_only() -> None:
    assert normalise({"id": "b", "cmd": "x"}, id="/b").id == "/b"
    refused = refusal_with_url({"id": "/c", "cmd": "x"}, "/b")
    assert refused.status == 400
    assert places(refused) == ["/id"]


def refusal_with_url(raw: object, url: str) -> Refused:
    with pytest.raises(Refused) as caught:
        normalise(raw, id=url)
    return caught.value


def test_relative_ids_are_seen_from_the_group() -> None:
    app = normalise({"id": "web", "cmd": "x", "dependencies": ["../db", "cache"]}, group="/prod/a")
    assert app.id == "/prod/a/web"
    assert app.dependencies == ("/prod/db", "/prod/a/cache")


def test_only_version_and_id_is_a_roll_back() -> None:
    assert rollback_version({"version": "v1", "id": "/a"}) == "v1"
    assert rollback_version({"version": "v1", "instances": 2}) is None
    assert rollback_version({"instances": 2}) is None
    with pytest.raises(Refused):
        rollback_version({"version": 1})


# -- defaults ---------------------------------------------------------------------------------


def test_health_check_aims_at_the_first_port_if_there_is_one() -> None:
    app = normalise({"id": "/a", "cmd": "x", "healthChecks": [{}, {"protocol": "TCP", "port": 80}]})
    assert [(c.path, c.port_index, c.port) for c in app.health_checks] == [
        ("/", 0, None),
        (None, None, 80),
    ]


def test_upgrade_strategy_defaults_follow_volumes_and_the_single_instance_label() -> None:
    half = UpgradeStrategy(minimum_health_capacity=0.5, maximum_over_capacity=0)
    resident = {
        "id": "/a",
        "cmd": "x",
        "container": {
            "type": "MESOS",
            "volumes": [{"containerPath": "data", "mode": "RW", "persistent": {"size": 10}}],
        },
    }
    app = normalise(resident)
    validation.refuse_invalid(app, WITH_ROLE)
    assert app.upgrade_strategy == half
    assert app.unreachable_strategy == "disabled"
    assert app.residency is not None
    single = normalise({"id": "/a", "cmd": "x", "labels": {apps.SINGLE_INSTANCE_LABEL: "true"}})
    assert single.upgrade_strategy.maximum_over_capacity == 0
    assert normalise({"id": "/a", "cmd": "x"}).upgrade_strategy == UpgradeStrategy()


# -- versions (§2.6) --------------------------------------------------------------------------


def test_only_instances_scales_without_restart_and_keeps_the_config_version() -> None:
    app = stamped(None, normalise({"id": "/a", "cmd": "x"}), "t1")
    scaled = stamped(app, normalise({"instances": 3}, app), "t2")
    assert not needs_restart(app, scaled)
    assert (scaled.version, config_version(scaled)) == ("t2", "t1")
    assert scaled.version_info is not None
    assert scaled.version_info.last_scaling_at == "t2"


def test_any_other_change_restarts_and_no_change_keeps_the_version() -> None:
    app = stamped(None, normalise({"id": "/a", "cmd": "x"}), "t1")
    for change in ({"labels": {"a": "b"}}, {"cpus": 2}, {"healthChecks": [{"protocol": "TCP"}]}):
        changed = stamped(app, normalise(change, app), "t2")
        assert needs_restart(app, changed)
        assert config_version(changed) == "t2"
    assert stamped(app, normalise({"cpus": 1, "instances": 1}, app), "t2") == app
    assert config_version(restarted(app, "t3")) == "t3"


# -- refusals (§1.2) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status", "path"),
    [
        ([], 400, "/"),
        ("x", 400, "/"),
        ({}, 400, "/id"),
        ({"id": 3}, 400, "/id"),
        ({"id": "/a", "cmd": "x", "cpus": "many"}, 400, "/cpus"),
        ({"id": "/a", "cmd": "x", "instances": 1.5}, 400, "/instances"),
        ({"id": "/a", "cmd": "x", "env": {"A": 1}}, 400, "/env"),
        (bridged(portMappings=[{"hostPort": "a"}]), 400,
         "/container/docker/portMappings(0)/hostPort"),
        ({"id": "/a", "container": {"docker": {}}}, 400, "/container/docker/image"),
        ({"id": "/a", "cmd": "x", "healthChecks": [{"protocol": "ICMP"}]}, 400,
         "/healthChecks(0)/protocol"),
        ({"id": "/a", "cmd": "x", "instanses": 1}, 422, "/instanses"),
        ({"id": "/a", "cmd": "x", "healthChecks": [{"pth": "/"}]}, 422, "/healthChecks(0)/pth"),
        ({"id": "/A", "cmd": "x"}, 422, "/id"),
        ({"id": "/", "cmd": "x"}, 422, "/id"),
        ({"id": "/a/restart", "cmd": "x"}, 422, "/id"),
        ({"id": "/a" * 65, "cmd": "x"}, 422, "/id"),
        ({"id": "/" + "a" * 1024, "cmd": "x"}, 422, "/id"),
        ({"id": "/a_b", "cmd": "x"}, 422, "/id"),
        ({"id": "", "cmd": "x"}, 422, "/id"),
        ({"id": "/a"}, 422, "/"),
        ({"id": "/a", "cmd": "x", "args": ["y"]}, 422, "/"),
        ({"id": "/a", "cmd": " "}, 422, "/cmd"),
        ({"id": "/a", "cmd": "x", "cpus": -1}, 422, "/cpus"),
        ({"id": "/a", "cmd": "x", "cpus": 1e400}, 422, "/cpus"),
        ({"id": "/a", "cmd": "x", "instances": -1}, 422, "/instances"),
        ({"id": "/a", "cmd": "x", "instances": 2**40}, 422, "/instances"),
        ({"id": "/a", "cmd": "x", "backoffFactor": 0.5}, 422, "/backoffFactor"),
        ({"id": "/a", "cmd": "x", "healthChecks": [{"portIndex": 1}]}, 422,
         "/healthChecks(0)/portIndex"),
        ({"id": "/a", "cmd": "x", "ports": [], "healthChecks": [{}]}, 422,
         "/healthChecks(0)/portIndex"),
        ({"id": "/a", "cmd": "x", "healthChecks": [{"protocol": "COMMAND"}]}, 422,
         "/healthChecks(0)/command"),
        ({"id": "/a", "cmd": "x", "ports": [70000]}, 422, "/portDefinitions(0)/port"),
        ({"id": "/a", "cmd": "x", "ports": [80, 80]}, 422, "/portDefinitions"),
        ({"id": "/a", "cmd": "x", "constraints": [["hostname", "NEAR"]]}, 422, "/constraints(0)"),
        ({"id": "/a", "cmd": "x", "constraints": [["hostname"]]}, 422, "/constraints(0)"),
        ({"id": "/a", "cmd": "x", "constraints": [["a", "LIKE", "("]]}, 422, "/constraints(0)"),
        ({"id": "/a", "cmd": "x", "upgradeStrategy": {"minimumHealthCapacity": 2}}, 422,
         "/upgradeStrategy/minimumHealthCapacity"),
        ({"id": "/a", "cmd": "x", "container": {"type": "DOCKER"}}, 422, "/container/docker"),
        ({"id": "/a", "cmd": "x", "acceptedResourceRoles": []}, 422, "/acceptedResourceRoles"),
        ({"id": "/a", "cmd": "x", "gpus": 1}, 422, "/gpus"),
        ({"id": "/a", "cmd": "x", "env": {"A": {"secret": "s"}}}, 422, "/env/A"),
        ({"id": "/a", "cmd": "x", "fetch": [{"uri": "http://a b"}]}, 422, "/fetch(0)/uri"),
        ({"id": "/a", "cmd": "x", "unreachableStrategy":
          {"inactiveAfterSeconds": 5, "expungeAfterSeconds": 1}}, 422,
         "/unreachableStrategy/expungeAfterSeconds"),
        ({"id": "/a", "cmd": "x", "readinessChecks": [{}]}, 422, "/readinessChecks(0)/portName"),
        ({"id": "/a", "cmd": "x", "networks": [{"mode": "container"}]}, 422, "/networks(0)/name"),
        (bridged(network="NONE"), 422, "/container/docker/network"),
    ],
)  # fmt: skip
def test_refusals_name_the_place(raw: object, status: int, path: str) -> None:
    refused = refusal(raw)
    assert (refused.status, places(refused)) == (status, [path])


def test_an_unknown_key_is_refused_with_a_hint() -> None:
    assert "did you mean 'instances'?" in str(refusal({"id": "/a", "cmd": "x", "instanses": 1}))


def test_xor_rule_has_the_originals_text() -> None:
    assert "AppDefinition must either contain one of 'cmd' or 'args'" in str(refusal({"id": "/a"}))


def test_resident_apps_keep_their_needs() -> None:
    volume = {"containerPath": "data", "persistent": {"size": 10}}
    raw = {"id": "/a", "cmd": "x", "container": {"type": "MESOS", "volumes": [volume]}}
    app = normalise(raw)
    bigger = normalise({"cpus": 2}, app)
    with pytest.raises(Refused, match="may not change resource requirements"):
        validation.refuse_invalid(bigger, WITH_ROLE, app)
    validation.refuse_invalid(normalise({"cmd": "y"}, app), WITH_ROLE, app)


# -- properties -------------------------------------------------------------------------------

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
label_maps = st.dictionaries(texts, texts, max_size=3)
ports = st.integers(0, 65535)
amounts = st.floats(0, 1e6).map(lambda value: round(value, 3))


def mapping_inputs(bridge: bool) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"containerPort": ports},
        optional={
            "hostPort": ports,
            "servicePort": ports,
            "protocol": st.sampled_from(["tcp", "udp", "udp,tcp"]),
            "name": names,
            "labels": label_maps,
        },
    )


@st.composite
def app_inputs(draw: st.DrawFn) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "id": "/" + "/".join(draw(st.lists(names, min_size=1, max_size=3))),
        "cmd": draw(texts) + "x",
    }
    optional = {
        "cpus": amounts,
        "mem": amounts,
        "instances": st.integers(0, 50),
        "env": st.dictionaries(names, texts, max_size=3),
        "labels": label_maps,
        "constraints": st.sampled_from([[["hostname", "unique"]], [["rack", "LIKE", "a|b"]]]),
        "backoffFactor": st.floats(1, 3),
        "killSelection": st.sampled_from(["YOUNGEST_FIRST", "OLDEST_FIRST"]),
        "unreachableStrategy": st.sampled_from(["disabled", {"expungeAfterSeconds": 9}]),
        "acceptedResourceRoles": st.sampled_from([["*"], ["prod", "*"]]),
        "uris": st.lists(st.sampled_from(["http://h/a.tgz", "http://h/b"]), max_size=2),
        "taskKillGracePeriodSeconds": st.integers(0, 60),
        "healthChecks": st.sampled_from([[], [{"protocol": "COMMAND", "command": {"value": "t"}}]]),
    }
    for key, values in optional.items():
        if draw(st.booleans()):
            raw[key] = draw(values)
    return raw | draw(shapes())


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    """Ports and networks, in either generation's spelling."""
    mappings = draw(st.lists(mapping_inputs(True), max_size=3))
    docker = {"image": "i", "parameters": [{"key": "a", "value": "b"}]}
    host = draw(
        st.sampled_from(
            [
                {},
                {"ports": draw(st.lists(ports, max_size=3))},
                {"portDefinitions": [{"port": draw(ports), "name": "p", "labels": {"a": "b"}}]},
                {"container": {"docker": docker}},
                {"container": {"docker": docker | {"network": "HOST"}}, "requirePorts": True},
            ]
        )
    )
    old = {"container": {"docker": docker | {"network": "BRIDGE", "portMappings": mappings}}}
    new = {
        "container": {"docker": docker, "portMappings": mappings},
        "networks": [{"mode": "container/bridge", "labels": {"a": "b"}}],
    }
    user = {
        "container": {"docker": docker | {"network": "USER", "portMappings": mappings}},
        "ipAddress": {"networkName": "blue", "labels": {"c": "d"}},
    }
    plain = {"ipAddress": {"discovery": {"ports": [{"number": draw(ports), "name": "a"}]}}}
    several = {
        "container": {"type": "MESOS"},
        "networks": [{"mode": "container", "name": "a"}, {"mode": "container", "name": "b"}],
    }
    return draw(st.sampled_from([host, old, new, user, plain, several]))


@settings(max_examples=150, deadline=None)
@given(app_inputs())
def test_reading_an_answer_gives_the_app_again(raw: dict[str, Any]) -> None:
    app = normalise(raw, settings=ALL_FEATURES)
    view = json.loads(json.dumps(app_view(app)))
    assert normalise(view, settings=ALL_FEATURES) == app
    assert normalise(view, app, settings=ALL_FEATURES) == app


@settings(max_examples=100, deadline=None)
@given(app_inputs(), st.data())
def test_service_ports_can_be_replaced_and_read_back(
    raw: dict[str, Any], data: st.DataObject
) -> None:
    app = normalise(raw, settings=ALL_FEATURES)
    numbers = tuple(data.draw(ports) for _ in service_ports(app))
    assert service_ports(with_service_ports(app, numbers)) == numbers


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
fields = st.sampled_from(
    [field.encode_name for field in msgspec.structs.fields(AppDefinition)]
    + ["ports", "uris", "ipAddress"]
)


def status_of(value: object, before: AppDefinition | None = None) -> int:
    try:
        validation.refuse_invalid(normalise(value, before), ALL_FEATURES, before)
    except Refused as refused:
        return refused.status
    return 200


@settings(max_examples=300, deadline=None)
@given(app_inputs(), st.dictionaries(fields, json_values, max_size=3))
def test_no_json_raises_anything_but_a_refusal(raw: dict[str, Any], junk: dict[str, Any]) -> None:
    base = normalise(raw, settings=ALL_FEATURES)
    for value, before in ((raw | junk, None), (junk, base), (junk, None)):
        assert status_of(value, before) in (200, 400, 422)


@given(json_values)
@settings(max_examples=150, deadline=None)
def test_any_json_value_is_read_or_refused(value: Any) -> None:
    assert status_of(value) in (200, 400, 422)
