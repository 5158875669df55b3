"""Which services an app gives, which of its tasks stand behind them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.errors import WireError
from mesostk.lb import labels, model
from mesostk.lb.model import PortAssigner, Server
from mesostk.lb.templates import LABELLED
from mesostk.testing.lb import app, body, build, config, task

UNKNOWN_HOST = "nobody.example"


def servers(apps: list[dict[str, Any]], **options: Any) -> dict[str, list[tuple[str, int]]]:
    return {
        service.backend: [(server.ip, server.port) for server in service.servers]
        for service in build(apps, **options).services
    }


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        ("TASK_RUNNING", True),
        ("TASK_LOST", True),
        ("TASK_UNREACHABLE", True),
        (None, True),
        *((state, False) for state in sorted(model.EXCLUDED_STATES)),
    ],
)
def test_state_of_a_task_decides_whether_it_gets_requests(state: str | None, stays: bool) -> None:
    found = servers([app("/a", tasks=[task(1, 80, state=state), task(2, 90)])])
    assert found == {"a_10001": [("10.0.3.51", 80)] * stays + [("10.0.3.51", 90)]}


def test_service_without_servers_disappears() -> None:
    assert servers([app("/a", tasks=[])]) == {}
    assert servers([app("/a", tasks=[task(1, 80, UNKNOWN_HOST), task(2, 80, "")])]) == {}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, [("10.0.3.51", 31514)]),
        ({"portDefinitions": [{"port": 10001}]}, [("10.0.3.51", 31514)]),
        (
            {
                "networks": [{"mode": "container/bridge"}],
                "container": {"portMappings": [{"containerPort": 80, "servicePort": 10001}]},
            },
            [("10.0.3.51", 31514)],
        ),
        (
            {
                "container": {
                    "docker": {
                        "network": "BRIDGE",
                        "portMappings": [{"containerPort": 80, "servicePort": 10001}],
                    }
                }
            },
            [("10.0.3.51", 31514)],
        ),
        (
            {
                "networks": [{"name": "overlay"}],
                "container": {"portMappings": [{"containerPort": 80, "servicePort": 10001}]},
            },
            [("172.17.0.2", 80)],
        ),
        (
            {
                "container": {
                    "docker": {
                        "network": "USER",
                        "portMappings": [{"containerPort": 80, "servicePort": 10001}],
                    }
                }
            },
            [("172.17.0.2", 80)],
        ),
        ({"ipAddress": {"discovery": {"ports": [{"number": 8080}]}}}, [("172.17.0.2", 8080)]),
    ],
)
def test_address_of_a_task_follows_the_network_of_its_app(
    extra: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    tasks = [task(1, 31514, ipAddresses=[{"ipAddress": "172.17.0.2"}])]
    assert servers([app("/a", tasks=tasks, **extra)]) == {"a_10001": expected}


def test_task_and_service_ports_pair_by_position_and_the_shorter_list_wins() -> None:
    found = servers([app("/a", ports=[10001, 10002, 10003, 10004])])
    assert {name: ports[0][1] for name, ports in found.items()} == {
        "a_10001": 31514,
        "a_10002": 31515,
        "a_10003": 31516,
    }


def test_app_with_an_address_per_task_gets_a_port_of_the_range_by_its_hash() -> None:
    extra: dict[str, Any] = {
        "ports": [],
        "networks": [{"mode": "container"}],
        "container": {"portMappings": [{"containerPort": 80}]},
        "tasks": [task(1, 0, ipAddresses=[{"ipAddress": "172.17.0.2"}])],
    }
    (service,) = build([app("/a", **extra)]).services
    assert service.port == PortAssigner((10050, 10100)).assign("/a", [80])[0]
    assert build([app("/a", **extra)], assigned_ports=None).services == ()
    tight = PortAssigner((10, 11))
    assert sorted(tight.assign("/a", [1, 2, 3])) == [10, 11]
    assert tight.assign("/a", [1]) == tight.assign("/a", [1])


@pytest.mark.parametrize(
    ("results", "was_alive", "stays"),
    [
        ([{"alive": True}, {"alive": False}], False, True),
        ([{"alive": False}], True, False),
        ([], True, False),
        (None, True, True),
        (None, False, False),
    ],
)
def test_health_flag_leaves_out_what_marathon_does_not_call_alive(
    results: list[dict[str, bool]] | None, was_alive: bool, stays: bool
) -> None:
    one = task(1, 80) if results is None else task(1, 80, healthCheckResults=results)
    apps = [app("/a", tasks=[one], healthChecks=[{"protocol": "TCP", "portIndex": 0}])]
    found = servers(apps, health_check=True, was_alive=lambda _task: was_alive)
    assert bool(found) is stays
    assert servers(apps)  # without the flag it stays


def test_groups_of_a_port_beat_those_of_the_app_and_star_serves_all() -> None:
    apps = [
        app("/none", {"HAPROXY_GROUP": ""}, ports=[10001]),
        app("/inner", {"HAPROXY_GROUP": "internal,x"}, ports=[10002]),
        app("/port", {"HAPROXY_GROUP": "internal", "HAPROXY_0_GROUP": "external"}, ports=[10003]),
    ]
    assert list(servers(apps)) == ["port_10003"]
    assert list(servers(apps, groups=frozenset({"x", "y"}))) == ["inner_10002"]
    assert len(servers(apps, groups=frozenset({"*"}))) == 3


def test_strict_mode_wants_each_port_enabled() -> None:
    apps = [app("/a"), app("/b", {"HAPROXY_0_ENABLED": "Y"}, ports=[10002])]
    assert list(servers(apps, strict=True)) == ["b_10002"]


def test_framework_itself_is_left_out() -> None:
    assert servers([app("/marathon")], framework_name="marathon") == {}


def test_nulls_are_as_if_absent() -> None:
    plain = app("/a", labels=None, container=None, healthChecks=None, portDefinitions=None)
    assert build([plain]).services[0].servers == (Server("10.0.3.51", "10.0.3.51", 31514),)


# -- what is wrong harms only itself ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("AUTH", "realm:user", "expected realm:user:password-hash"),
        ("AUTH", 'r"x:u:p', "expected one line"),
        ("AUTH", "r:u u:p", "expected one word"),
        ("PORT", "http", "whole number"),
        ("PORT", "0", "expected 1 to 65535"),
        ("BACKEND_WEIGHT", "heavy", "whole number"),
        ("BACKEND_HEALTHCHECK_PORT_INDEX", "-1", "expected 0 to 1000"),
        ("MODE", "udp", "expected http or tcp"),
        ("VHOST", "a.example b.example", "expected host names"),
        ("VHOST", "a\n  http-request deny", "expected host names"),
        ("PATH", "/a\n  http-request deny", "expected one line"),
        ("PATH", "/a # rest", "expected one line"),
        ("BALANCE", "source\n  server x 1.2.3.4:5", "expected an algorithm"),
        ("BIND_ADDR", "*:80 name x", "expected one address"),
        ("BIND_OPTIONS", "a\nb", "expected one line"),
        ("SSL_CERT", "/a.pem crt /b.pem", "expected one word"),
        ("HTTP_BACKEND_PROXYPASS_PATH", "/a b", "expected one word"),
        ("HTTP_BACKEND_REVPROXY_PATH", "/a${HOME}", "expected one word"),
        ("HTTP_BACKEND_REDIR", "/a\tb", "expected one word"),
        ("BACKEND_NETWORK_ALLOWED_ACL", "-f /etc/shadow", "expected networks"),
        ("BACKEND_HEAD", "global\n  stats socket x\n", "begins with 'global'"),
        ("BACKEND_HTTP_OPTIONS", "frontend mine\n", "begins with 'frontend'"),
        ("BACKEND_HEAD", "backend {backend.__class__}\n", "is unknown"),
        ("BACKEND_HEAD", "backend {backend:>99999}\n", "is unknown"),
        ("BACKEND_HEAD", "backend {backend\n", "braces do not match"),
        ("BACKEND_HEAD", "backend {backend}\x00\n", "control character"),
    ],
)
def test_wrong_label_leaves_out_its_app_with_the_reason(name: str, value: str, why: str) -> None:
    bad = app("/bad", {f"HAPROXY_0_{name}": value, "HAPROXY_0_VHOST": "a"}, ports=[10002])
    if name == "VHOST":
        bad["labels"]["HAPROXY_0_VHOST"] = value
    made = config([app("/good"), bad])
    assert "bad" not in body(made)
    assert "good_10001" in body(made)
    (refusal,) = made.refusals
    assert refusal.app_id == "/bad"
    assert f"HAPROXY_0_{name}" in refusal.reason
    assert why in refusal.reason


@pytest.mark.parametrize(
    "bad",
    [
        app("/bad id"),
        app("/bad\n", healthChecks=[]),
        app("/bad", healthChecks=[{"protocol": "HTTP", "path": "/x\n  http-request deny"}]),
        app("/bad", ports="all of them"),
        {"id": 7},
        "no app at all",
    ],
)
def test_what_no_label_says_is_checked_as_well(bad: Any) -> None:
    made = config([bad, app("/good")])
    assert "bad" not in body(made)
    assert "good_10001" in body(made)
    assert len(made.refusals) == 1


def test_error_body_is_no_list_of_apps() -> None:
    with pytest.raises(WireError):
        model.read_apps(b'{"message": "not now"}')


def test_second_app_on_a_port_is_named_and_keeps_its_host_names() -> None:
    made = config(
        [
            app("/b", {"HAPROXY_0_VHOST": "b"}),
            app("/a"),
            app("/c"),
            app("/d", {"HAPROXY_0_BIND_ADDR": "10.0.0.9"}),
            app("/e", ports=[9091]),
        ]
    )
    text = body(made)
    assert "\nfrontend a_10001\n" in text
    assert "\nfrontend b_10001\n" not in text
    assert "use_backend b_10001 if host_b_b" in text
    assert "\nbackend c_10001\n" not in text
    assert "\nfrontend d_10001\n" in text
    assert {(one.app_id, one.reason) for one in made.refusals} == {
        ("/b", "service port 10001 is taken by /a"),
        ("/c", "service port 10001 is taken by /a"),
        ("/e", "service port 9091 is taken by marathon-lb's own frontends"),
    }


def test_two_ids_that_give_one_name_do_not_share_a_backend() -> None:
    made = config([app("/a/b"), app("/a_b", {"HAPROXY_0_BIND_ADDR": "10.0.0.9"})])
    assert body(made).count("\nbackend a_b_10001\n") == 1
    assert [one.app_id for one in made.refusals] == ["/a_b"]


#: First words of lines that the file may have outside its head, for an app without templates.
KNOWN = frozenset(
    {
        "frontend",
        "backend",
        "userlist",
        "bind",
        "mode",
        "acl",
        "use_backend",
        "balance",
        "option",
        "http-request",
        "http-response",
        "redirect",
        "server",
        "cookie",
        "user",
        "tcp-request",
    }
)
PLAIN_LABELS = sorted(name for name in labels.NAMES if name not in LABELLED)


@given(
    st.dictionaries(
        st.sampled_from(PLAIN_LABELS),
        st.text(st.characters(codec="utf-8"), max_size=30)
        | st.sampled_from(["a.example", "/x", "true", "80", "r:u:p", "10.0.0.0/8", "http"]),
        max_size=5,
    ),
    st.sampled_from(["", "\n", " ", "\r", "\t", "\x0b", "\u2028", "\\", '"', "#", "{backend}"]),
)
def test_no_value_of_a_label_writes_a_line_of_its_own(given: dict[str, str], extra: str) -> None:
    values = {f"HAPROXY_0_{name}": value + extra for name, value in given.items()}
    made = config([app("/good", ports=[10002]), app("/any", values)])
    text = body(made)
    assert "backend good_10002" in text
    for line in text.split("\n"):
        assert not line.strip() or line.split()[0] in KNOWN
        assert "\r" not in line
    assert text.count("\n  server ") <= 2
    assert made.app_at(text.count("\n") + made.before[0].text.count("\n")) in {"/good", "/any"}


@pytest.mark.parametrize("name", ["9" * 5000, "00", "²", "٣", "-1", "1.5", ""])
def test_no_name_of_a_label_keeps_others_from_being_served(name: str) -> None:
    apps = [app("/good", ports=[10002]), app("/any", {f"HAPROXY_{name}_PORT": "no port"})]
    assert servers(apps).keys() == {"good_10002", "any_10001"}


def test_line_of_the_file_leads_back_to_its_app() -> None:
    made = config([app("/a", {"HAPROXY_0_VHOST": "x"}), app("/b", ports=[10002])])
    lines = made.text().split("\n")
    owners = {
        line.strip(): made.app_at(number) for number, line in enumerate(lines, 1) if line.strip()
    }
    assert owners["frontend a_10001"] == "/a"
    assert owners["use_backend a_10001 if host_x_a"] == "/a"
    assert owners["backend b_10002"] == "/b"
    assert owners["frontend marathon_http_in"] is None
    assert made.app_at(10_000) is None


# -- blue and green -----------------------------------------------------------------------------


def colour(name: str, started: str | None, tasks: int, **more: str) -> dict[str, Any]:
    given = {"HAPROXY_DEPLOYMENT_GROUP": "web", **more}
    if started is not None:
        given["HAPROXY_DEPLOYMENT_STARTED_AT"] = started
    made = [
        {**task(n, 31000 + n + (100 if name == "green" else 0)), "id": f"{name}.{n}"}
        for n in range(tasks)
    ]
    return app(f"/web-{name}", given, instances=tasks, tasks=made)


def draining(apps: list[dict[str, Any]]) -> list[tuple[int, bool]]:
    (service,) = build(apps).services
    assert service.app_id == "/web"
    return [(server.port, server.draining) for server in service.servers]


def test_two_apps_of_a_group_are_one_and_the_older_drains_as_far_as_the_newer_is_healthy() -> None:
    blue = colour("blue", "2016-06-20T10:00:00", 3)
    green = colour("green", "2016-06-20T11:00:00Z", 2)
    expected = [(31000, True), (31001, True), (31002, False), (31100, False), (31101, False)]
    assert draining([blue, green]) == expected
    assert draining([green, blue]) == expected
    text = body(config([blue, green]))
    assert text.count(" disabled\n") == 2


def test_with_health_checks_only_what_is_alive_lets_old_instances_drain() -> None:
    blue = colour("blue", None, 2)
    green = colour("green", "2016-06-20T11:00:00Z", 2)
    for one in (blue, green):
        one["healthChecks"] = [{"protocol": "TCP", "portIndex": 0}]
    green["tasks"][0]["healthCheckResults"] = [{"alive": True}]
    assert [drains for _, drains in draining([blue, green])] == [True, False, False, False]


def test_hybrid_deployment_keeps_its_target_and_drains_who_was_scaled_last() -> None:
    more = {"HAPROXY_DEPLOYMENT_NEW_INSTANCES": "0", "HAPROXY_DEPLOYMENT_TARGET_INSTANCES": "3"}
    blue = colour("blue", "2016-06-20T10:00:00", 3)
    green = colour("green", "2016-06-20T11:00:00Z", 1, **more)
    blue["versionInfo"] = {"lastScalingAt": "2016-06-20T10:00:00.000Z"}
    green["versionInfo"] = {"lastScalingAt": "2016-06-20T11:00:00.000Z"}
    assert [drains for _, drains in draining([blue, green])] == [True, False, False, False]
    blue["versionInfo"] = {"lastScalingAt": "2016-06-20T12:00:00.000Z"}
    assert [drains for _, drains in draining([blue, green])] == [False, False, False, True]


def test_group_with_a_wrong_label_keeps_its_first_app() -> None:
    blue = colour("blue", "2016-06-20T10:00:00", 1)
    green = colour("green", "yesterday", 1)
    made = build([blue, green])
    assert [service.app_id for service in made.services] == ["/web"]
    assert [(one.app_id, "yesterday" in one.reason) for one in made.refusals] == [
        ("/web-green", True)
    ]
