"""Zero-downtime deployments: what is created, how it grows, what is killed, how it ends."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesostk.lb import bluegreen, deployment
from mesostk.lb.deployment import Settings, ZddError
from mesostk.lb.zdd import Deployment, Services
from mesostk.testing.lb import app, build, task

IP = "127.0.0.63"


def wanted(instances: int = 3, **extra: Any) -> dict[str, Any]:
    labels = {
        "HAPROXY_GROUP": "external",
        "HAPROXY_DEPLOYMENT_GROUP": "web",
        "HAPROXY_DEPLOYMENT_ALT_PORT": "10002",
    }
    return {"id": "web", "instances": instances, "labels": labels, "ports": [10001], **extra}


class Cluster(ThreadingHTTPServer):
    """Marathon and one balancer, played: instances run at once, draining follows the real rules."""

    def __init__(self) -> None:
        super().__init__((IP, 0), Handler)
        self.apps: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.next_task = 0
        self.pids = ["1 2 3", "1 2"]
        self.fewest_up = 99

    def scale(self, app: dict[str, Any], count: int) -> None:
        tasks = app.setdefault("tasks", [])
        while len(tasks) < count:
            self.next_task += 1
            made = task(self.next_task, 31000 + self.next_task, IP)
            tasks.append({**made, "id": f"{app['id']}.{self.next_task:03}"})
        app["instances"] = count
        app["versionInfo"] = {"lastScalingAt": f"2016-06-20T12:00:{len(self.calls):02}.000Z"}

    def statistics(self) -> str:
        model = build(list(self.apps.values()))
        lines = ["# pxname,svname,status,scur,qcur,"]
        up = 0
        for service in model.services:
            for server in service.servers:
                name = f"{server.ip}_{server.port}".replace(".", "_")
                state = "MAINT" if server.draining else "UP"
                up += not server.draining
                lines.append(f"{service.backend},{name},{state},0,0,")
            lines.append(f"{service.backend},BACKEND,UP,0,0,")
        self.fewest_up = min(self.fewest_up, up)
        return "\n".join(lines) + "\n"


class Handler(BaseHTTPRequestHandler):
    server: Cluster

    def _answer(self, body: Any, status: int = 200) -> None:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        cluster = self.server
        if path == "/_haproxy_getpids":
            self._answer(cluster.pids.pop(0) if len(cluster.pids) > 1 else cluster.pids[0])
        elif path == "/haproxy":
            self._answer(cluster.statistics())
        elif path == "/v2/apps":
            self._answer({"apps": list(cluster.apps.values())})
        else:
            self._answer({"app": cluster.apps[path.removeprefix("/v2/apps")]})

    def do_POST(self) -> None:
        body, cluster = self._body(), self.server
        cluster.calls.append(f"POST {self.path}")
        if self.path == "/v2/apps":
            cluster.apps[body["id"]] = body
            cluster.scale(body, body["instances"])
        else:
            for one in cluster.apps.values():
                one["tasks"] = [t for t in one["tasks"] if t["id"] not in body["ids"]]
                cluster.scale(one, len(one["tasks"]))
        self._answer({})

    def do_PUT(self) -> None:
        body = self._body()
        self.server.calls.append(f"PUT {self.path} {body['instances']}")
        self.server.scale(self.server.apps[self.path.removeprefix("/v2/apps")], body["instances"])
        self._answer({})

    def do_DELETE(self) -> None:
        self.server.calls.append(f"DELETE {self.path}")
        if "cannot" in self.path:
            self._answer({"message": "locked"}, 409)
            return
        del self.server.apps[self.path.removeprefix("/v2/apps")]
        self._answer({})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def deploy(cluster: Cluster, app: dict[str, Any], hook: str | None = None, **settings: Any) -> bool:
    url = f"http://{IP}:{cluster.server_port}"
    run = Deployment(
        Services(url, [url]),
        Settings(step_delay_s=0.0, max_wait_s=0.2, **settings),
        lambda _text: None,
        lambda _question: True,
        hook,
        lambda _seconds: None,
    )
    made, previous = run.prepare(app)
    if len(previous) < 2:
        run.create(made)
    else:
        old, made = deployment.started(previous)[-2:]
        previous = [old]
    return run.swap(made["id"], previous[0]["id"]) if previous else True


def test_first_deployment_creates_blue_and_the_second_replaces_it_by_green(
    cluster: Cluster,
) -> None:
    assert deploy(cluster, wanted(4))
    blue = cluster.apps["/web-blue"]
    assert (blue["instances"], blue["ports"]) == (4, [10001])
    assert blue["labels"]["HAPROXY_APP_ID"] == "web"
    assert deploy(cluster, wanted(4))
    assert list(cluster.apps) == ["/web-green"]
    green = cluster.apps["/web-green"]
    assert (green["instances"], green["ports"]) == (4, [10002])
    assert green["labels"]["HAPROXY_0_PORT"] == "10001"
    assert cluster.fewest_up >= 4
    assert [call for call in cluster.calls if call.startswith("PUT")] == [
        "PUT /v2/apps/web-green 2",
        "PUT /v2/apps/web-green 4",
    ]
    assert deploy(cluster, wanted(4))
    assert cluster.apps["/web-blue"]["ports"] == [10001]


def test_linear_growth_goes_by_its_step(cluster: Cluster) -> None:
    deploy(cluster, wanted(4))
    deploy(cluster, wanted(4), linear_increase=2)
    assert [call for call in cluster.calls if call.startswith("PUT")] == [
        "PUT /v2/apps/web-green 3",
        "PUT /v2/apps/web-green 4",
    ]


def test_hybrid_keeps_both_until_it_is_completed(cluster: Cluster) -> None:
    deploy(cluster, wanted(4))
    assert deploy(cluster, wanted(4), new_instances=1)
    assert {id: one["instances"] for id, one in cluster.apps.items()} == {
        "/web-blue": 3,
        "/web-green": 1,
    }
    assert cluster.fewest_up >= 4
    assert deploy(cluster, wanted(4), complete=True)
    assert {id: one["instances"] for id, one in cluster.apps.items()} == {"/web-green": 4}


def test_hook_sees_old_tasks_and_new_and_stops_the_deployment(
    cluster: Cluster, tmp_path: Path
) -> None:
    deploy(cluster, wanted(2))
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\nprintf %s "$2" > {tmp_path}/ids\nexit 3\n')
    hook.chmod(stat.S_IRWXU)
    with pytest.raises(ZddError, match="ended with 3") as caught:
        deploy(cluster, wanted(2), hook=str(hook))
    assert caught.value.code == 2
    assert json.loads((tmp_path / "ids").read_text()) == ["/web-blue.001"]
    assert not any("delete" in call for call in cluster.calls)


def test_refusal_of_marathon_has_the_code_of_what_was_tried(cluster: Cluster) -> None:
    services = Services(f"http://{IP}:{cluster.server_port}", ["http://x"])
    with pytest.raises(ZddError, match="locked") as caught:
        services.call(deployment.DELETE, "DELETE", "/v2/apps/cannot")
    assert caught.value.code == 8
    with pytest.raises(ZddError) as caught:
        Services("http://127.0.0.63:1", ["http://nobody.invalid"]).apps()
    assert caught.value.code == 6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "`id`"),
        ({"labels": {}}, "HAPROXY_DEPLOYMENT_GROUP"),
        ({"labels": {"HAPROXY_DEPLOYMENT_GROUP": "web"}}, "HAPROXY_DEPLOYMENT_ALT_PORT"),
        ({"ports": []}, "service port"),
    ],
)
def test_field_that_is_missing_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ZddError, match=field) as caught:
        deployment.validate({**wanted(), **change})
    assert caught.value.code == 4


@pytest.mark.parametrize(
    "ports",
    [
        {"ports": [10001]},
        {"portDefinitions": [{"port": 10001}]},
        {"container": {"portMappings": [{"servicePort": 10001}]}},
        {"container": {"docker": {"portMappings": [{"servicePort": 10001}]}}},
    ],
)
def test_port_is_found_and_set_wherever_the_app_has_it(ports: dict[str, Any]) -> None:
    given = {**wanted(), "ports": None, **ports}
    last = deployment.prepared(given, [], "2016-06-20T10:00:00", Settings())
    made = deployment.prepared(given, [last], "2016-06-20T11:00:00", Settings())
    assert deployment.service_port(made) == 10002
    assert deployment.service_port(given) == 10001
    assert made["labels"]["HAPROXY_0_PORT"] == "10001"


def test_nothing_is_killed_before_every_balancer_has_drained_it() -> None:
    old = app("/web-blue", tasks=[task(1, 31001, IP), task(2, 31002, IP)])
    rows = [
        {"pxname": "web_10001", "svname": "127_0_0_63_31001", "status": "MAINT", "scur": "0"},
        {"pxname": "web_10001", "svname": "127_0_0_63_31002", "status": "MAINT", "scur": "1"},
        {"pxname": "web_10001", "svname": "BACKEND", "status": "UP"},
    ]
    one = deployment.listeners("a", rows, "web_10001")
    assert deployment.drained(one, old, 1) == ["t.1"]
    up = deployment.listeners("b", [{**row, "status": "UP"} for row in rows], "web_10001")
    assert deployment.drained([*one, *up], old, 2) == []
    assert deployment.draining([*one, *up], old) == ["t.1", "t.2"]


def test_group_label_is_the_one_that_the_balancer_merges_by() -> None:
    assert deployment.GROUP == bluegreen.GROUP
    assert deployment.STARTED_AT == bluegreen.STARTED_AT
