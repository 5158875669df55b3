"""Requests that mean nothing: the status of docs/refusals.md, the field named, nothing changed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, Unit, until

JSON = {"Content-Type": "application/json"}
GOOD = {"id": "/bad", "cmd": "exec sleep 1000", "cpus": 0.1, "mem": 8}
MIB = 1 << 20


def app(**changes: Any) -> str:
    """A good app with something wrong in it."""
    return json.dumps({**GOOD, **changes})


#: Bodies of `POST /v2/apps` → status, words of the answer.
BAD_APPS: dict[str, tuple[str | bytes, int, list[str]]] = {
    "cut JSON": ('{"id": ', 400, ["Invalid JSON", "truncated"]),
    "empty": ("", 400, ["Invalid JSON"]),
    "no text": (b'{"id":"/a\xff"}', 400, ["Invalid JSON", "0xff"]),
    "NaN": ('{"id":"/bad","cmd":"x","cpus":NaN}', 400, ["Invalid JSON", "byte 30"]),
    "beyond floats": ('{"id":"/bad","cmd":"x","cpus":1e999}', 400, ["Invalid JSON", "range"]),
    "100,000 deep": ("[" * 100_000, 400, ["Invalid JSON"]),
    "list": ("[]", 400, ["expected an object"]),
    "no id": ("{}", 400, ["/id", "required"]),
    "no command": ('{"id":"/bad"}', 422, ["cmd", "args", "container"]),
    "two commands": (app(args=["x"]), 422, ["cmd", "args"]),
    "text for a number": (app(instances="many"), 400, ["/instances", "int", "str"]),
    "part of an instance": (app(instances=1.5), 400, ["/instances", "float"]),
    "huge number": (app(instances=10**30), 422, ["/instances", "2147483647"]),
    "negative": (app(cpus=-1), 422, ["/cpus", "greater than or equal to 0"]),
    "unknown field": (app(instanses=3), 422, ["/instanses", "did you mean 'instances'?"]),
    "number for text": (app(env={"A": 1}), 400, ["/env", "int"]),
    "bad id": (app(id="/A B"), 422, ["/id", "lower-case"]),
    "long id": (app(id="/" + "a" * 100_000), 422, ["/id", "longer than"]),
    "bad port": (app(ports=[70_000]), 422, ["port", "65535"]),
    "bad operator": (app(constraints=[["hostname", "UNIQ"]]), 422, ["UNIQ", "UNIQUE"]),
    "bad protocol": (app(healthChecks=[{"protocol": "FOO"}]), 400, ["protocol", "FOO"]),
    "bad port index": (app(healthChecks=[{"portIndex": 5}]), 422, ["/healthChecks(0)/portIndex"]),
    "no image": (app(container={"type": "DOCKER", "docker": {}}), 400, ["docker/image"]),
    "no such app": (app(dependencies=["/none"]), 422, ["/dependencies", "/none"]),
    "5 MB": (b"x" * (5 * MIB), 413, ["larger than 4194304 bytes"]),
}

#: (method, path, body, status, words) of other requests to Marathon.
BAD_CALLS: list[tuple[str, str, str | None, int, list[str]]] = [
    ("GET", "/v2/apps/none", None, 404, ["App '/none' does not exist"]),
    ("DELETE", "/v2/apps/none", None, 404, ["App '/none' does not exist"]),
    ("POST", "/v2/apps/none/restart", None, 404, ["App '/none' does not exist"]),
    ("GET", "/v2/apps/none/tasks", None, 404, ["App '/none' does not exist"]),
    ("GET", "/v2/apps/kept/versions/2020", None, 404, ["'/kept'", "'2020'"]),
    ("PUT", "/v2/apps/none", '{"instances":3}', 422, ["cmd"]),
    ("PUT", "/v2/apps/kept", '{"instances":-3}', 422, ["/instances"]),
    ("PUT", "/v2/apps/kept", '{"id":"/other"}', 400, ["/id", "/kept", "/other"]),
    ("POST", "/v2/apps", '{"id":"/kept","cmd":"x"}', 409, ["[/kept] already exists"]),
    ("PUT", "/v2/apps", "{}", 400, ["list of apps"]),
    ("PUT", "/v2/apps", '[{"id":"/z","cmd":"x"},{"id":"/Z","cmd":"x"}]', 422, ["'Z'"]),
    ("DELETE", "/v2/apps/kept?force=maybe", None, 400, ["'force'", "'maybe'", "true or false"]),
    ("DELETE", "/v2/apps/kept/tasks/none", None, 404, ["none"]),
    ("DELETE", "/v2/deployments/none", None, 404, ["none", "does not exist"]),
    ("DELETE", "/v2/groups/none", None, 404, ["Group '/none' does not exist"]),
    ("DELETE", "/v2/queue/none/delay", None, 404, ["/none"]),
    ("POST", "/v2/tasks/delete", '{"ids":3}', 400, ["ids", "array"]),
    ("GET", "/v2/apps?label=%25%25", None, 422, ["label selector"]),
    ("GET", "/v2/none", None, 404, ["/v2/none"]),
    ("POST", "/v2/info", "{}", 405, []),
]

#: (type of the body, body, status, words) for both of the master's v1 endpoints.
BAD_V1: list[tuple[str | None, str, int, list[str]]] = [
    ("application/json", '{"type": ', 400, ["Failed to parse body into JSON"]),
    ("application/json", "", 400, ["Failed to parse body into JSON"]),
    ("application/json", "[]", 400, ["JSON object"]),
    ("application/json", "[" * 100_000, 400, ["nested too deeply"]),
    ("application/json", "{}", 400, ["Expecting 'type' to be present"]),
    ("application/json", '{"type":"NOPE"}', 400, ["Expecting 'type'"]),
    ("application/json", '{"type":3}', 400, ["'type'", "str"]),
    (None, "{}", 400, ["Expecting 'Content-Type' to be present"]),
    ("text/plain", "{}", 415, ["application/json"]),
]

INFO = {"user": "nobody", "name": "x"}
#: Calls of the scheduler API.
BAD_SCHEDULER: list[tuple[dict[str, Any], int, list[str]]] = [
    ({"type": "SUBSCRIBE"}, 400, ["Expecting 'subscribe' to be present"]),
    ({"type": "SUBSCRIBE", "subscribe": {}}, 400, ["framework_info"]),
    ({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}}, 400, ["user"]),
    (
        {"type": "SUBSCRIBE", "subscribe": {"framework_info": {**INFO, "user": 3}}},
        400,
        ["'user'", "str"],
    ),
    ({"type": "DECLINE", "framework_id": {"value": "none"}}, 400, ["decline"]),
    ({"type": "TEARDOWN", "framework_id": {"value": "none"}}, 400, ["Framework cannot be found"]),
    ({"type": "TEARDOWN"}, 400, ["framework_id"]),
]

#: Bodies of the private link: RecordIO.
BAD_LINK: list[tuple[str, list[str]]] = [
    ("garbage", ["decimal length", "garbage"]),
    ("5\n{}", ["ends within a record"]),
    ("99999999999\nx", ["99999999999 bytes is above the limit"]),
    ('7\n{"a":1}', ["type"]),
    ("2\n[]", ["JSON object"]),
    ("", ["SUBSCRIBE"]),
]


@pytest.fixture(scope="module")
def cluster(alone: Cluster) -> Iterator[Cluster]:
    """A cluster with one app, `/kept`, that no bad request may change."""
    body = {**GOOD, "id": "/kept"}
    assert alone.call("POST", "/v2/apps", json=body).status_code == 201
    before = alone.wait_running("/kept", 1)
    alone.wait_deployed()
    pids = [unit.pid for unit in alone.units]
    yield alone
    assert [unit.pid for unit in alone.units] == pids
    assert [unit.codes for unit in alone.units] == [[], [], []]
    assert alone.wait_running("/kept", 1) == before
    for unit in alone.units:
        log = unit.log.read_text()
        assert "Request failed" not in log, f"{unit.name} answered 500:\n{log}"
        assert "Traceback" not in log


def snapshot(cluster: Cluster) -> object:
    """What must be the same after a refusal."""
    apps = cluster.call("GET", "/v2/apps").json()["apps"]
    versions = {one["id"]: one["version"] for one in apps}
    return versions, cluster.call("GET", "/v2/deployments").json()


def send(unit: Unit, method: str, path: str, **options: Any) -> requests.Response:
    return requests.request(method, unit.url + path, timeout=60, **options)


def assert_refused(answer: requests.Response, status: int, words: list[str]) -> None:
    assert answer.status_code == status, answer.text
    for one in words:
        assert one in answer.text


@pytest.mark.parametrize(("body", "status", "words"), BAD_APPS.values(), ids=BAD_APPS)
def test_an_app_that_is_none_is_refused_by_field(
    cluster: Cluster, body: str | bytes, status: int, words: list[str]
) -> None:
    before = snapshot(cluster)
    answer = send(cluster.marathons[0], "POST", "/v2/apps", data=body, headers=JSON)
    assert_refused(answer, status, words)
    assert answer.json()["message"]
    assert snapshot(cluster) == before


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), BAD_CALLS)
def test_a_call_that_cannot_be_done_changes_nothing(
    cluster: Cluster, method: str, path: str, body: str | None, status: int, words: list[str]
) -> None:
    before = snapshot(cluster)
    answer = send(cluster.marathons[0], method, path, data=body, headers=JSON)
    assert_refused(answer, status, words)
    assert answer.json()["message"]
    assert snapshot(cluster) == before


def test_marathon_takes_json_only(cluster: Cluster) -> None:
    headers = {"Content-Type": "text/plain"}
    answer = send(cluster.marathons[0], "POST", "/v2/apps", data=app(), headers=headers)
    assert_refused(answer, 415, ["Unsupported Media Type"])


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/scheduler"])
@pytest.mark.parametrize(("kind", "body", "status", "words"), BAD_V1)
def test_the_masters_api_refuses_what_is_no_call(
    cluster: Cluster, path: str, kind: str | None, body: str, status: int, words: list[str]
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = send(cluster.masters[0], "POST", path, data=body.encode(), headers=headers)
    assert_refused(answer, status, words)


@pytest.mark.parametrize(("call", "status", "words"), BAD_SCHEDULER)
def test_a_call_of_a_framework_names_what_is_wrong(
    cluster: Cluster, call: dict[str, Any], status: int, words: list[str]
) -> None:
    answer = send(cluster.masters[0], "POST", "/api/v1/scheduler", json=call)
    assert_refused(answer, status, words)


@pytest.mark.parametrize(("body", "words"), BAD_LINK)
def test_the_link_refuses_broken_records(cluster: Cluster, body: str, words: list[str]) -> None:
    answer = send(cluster.masters[0], "POST", "/api/link", data=body, headers=JSON)
    assert_refused(answer, 400, words)
    until("the agent", lambda: len(cluster.active_agents()) == 1)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/api/v1/scheduler", None, 405, ["'POST'", "'GET'"]),
        ("GET", "/tasks?limit=x", None, 400, ["'limit'", "'x'"]),
        ("GET", "/slaves?jsonp=alert(1)", None, 400, ["'jsonp'"]),
        ("POST", "/teardown", b"x=1", 400, ["'frameworkId'"]),
        ("POST", "/teardown", b"frameworkId=none", 400, ["No framework found"]),
        ("GET", "/none", None, 404, ["404"]),
        ("POST", "/api/v1", b" " * (65 * MIB), 413, ["67108864 bytes"]),
    ],
)
def test_the_masters_other_endpoints_refuse(
    cluster: Cluster, method: str, path: str, body: bytes | None, status: int, words: list[str]
) -> None:
    headers = JSON if path == "/api/v1" else {}
    answer = send(cluster.masters[0], method, path, data=body, headers=headers)
    assert_refused(answer, status, words)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/files/read", 400, ["'path=value'"]),
        ("/files/read?path=/etc/passwd", 404, []),
        ("/files/read?path=../../../../etc/passwd", 404, []),
        ("/files/download?path=/etc/../etc/passwd", 404, []),
        ("/files/browse?path=/none", 404, []),
        ("/files/read?path=/&offset=x", 400, ["offset", "'x'"]),
        ("/state?jsonp=a(", 400, ["'jsonp'"]),
        ("/none", 404, ["404 Not Found."]),
    ],
)
def test_an_agent_refuses(cluster: Cluster, path: str, status: int, words: list[str]) -> None:
    assert_refused(send(cluster.agents[0], "GET", path), status, words)


@pytest.mark.parametrize("daemon", ["mesos-master1", "mesos-agent1", "marathon1"])
def test_what_is_no_http_is_answered_400_and_closed(cluster: Cluster, daemon: str) -> None:
    unit = next(one for one in cluster.units if one.name == daemon)
    host, _, port = unit.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        answer = sock.recv(4096)
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
