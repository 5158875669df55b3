"""The client `marathon` of PyPI, unchanged, against real processes.

It refuses every key it does not know, so it also shows that answers and events hold no more than
the original's. Each of its calls is made here, by the name `client`; the last test holds that
list to the client's.
"""

from __future__ import annotations

import collections
import collections.abc
import inspect
import json
import queue
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import marathon
import pytest
from marathon.exceptions import ConflictError, MarathonHttpError, NotFoundError
from marathon.models import MarathonApp, MarathonGroup, MarathonHealthCheck
from marathon.models.constraint import MarathonConstraint
from marathon.models.events import MarathonDeploymentSuccess, MarathonStatusUpdateEvent

from mesostk.testing.processes import Cluster, until

#: The client logs an old spelling of a health check by an old spelling of `warning`.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")

SLEEP = "exec sleep 1000"


@pytest.fixture
def client(alone: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The client; what it made is gone afterwards."""
    # It needs a name that Python took away in 3.10.
    monkeypatch.setattr(collections, "Iterable", collections.abc.Iterable, raising=False)
    client = marathon.MarathonClient([alone.marathons[0].url])
    yield client
    client.delete_group("", force=True)
    until("nothing runs", lambda: not client.list_tasks() and not client.list_deployments())


def app(**changes: Any) -> MarathonApp:
    return MarathonApp(**{"cmd": SLEEP, "cpus": 0.1, "mem": 8, "instances": 1, **changes})


def deployed(client: Any) -> None:
    until("no deployment", lambda: not client.list_deployments())


def test_an_app_is_created_read_changed_and_rolled_back(client: Any) -> None:
    made = client.create_app(
        "/web/front",
        app(
            labels={"team": "a"},
            env={"A": "1"},
            constraints=[MarathonConstraint("hostname", "LIKE", ".*")],
            health_checks=[
                MarathonHealthCheck(
                    protocol="COMMAND", command="true", interval_seconds=1, delay_seconds=0
                )
            ],
            ports=[0],
        ),
    )
    assert isinstance(made, MarathonApp)
    assert made.id == "/web/front"
    with pytest.raises(ConflictError):
        client.create_app("/web/front", app())
    deployed(client)
    seen = client.get_app("/web/front", embed_tasks=True, embed_task_stats=True)
    assert (seen.tasks_running, seen.labels, seen.env) == (1, {"team": "a"}, {"A": "1"})
    assert seen.tasks[0].state == "TASK_RUNNING"
    first = client.list_versions("/web/front")
    client.update_app("/web/front", MarathonApp(mem=9), force=True)
    client.update_apps([MarathonApp(id="/web/front", mem=10)], force=True)
    deployed(client)
    assert client.get_app("/web/front").mem == 10
    assert client.get_version("/web/front", first[0]).mem == 8
    client.rollback_app("/web/front", first[0])
    deployed(client)
    assert client.get_app("/web/front").mem == 8
    listed = client.list_apps(
        app_id="front",
        label="team==a",
        cmd="sleep",
        embed_tasks=True,
        embed_counts=True,
        embed_deployments=True,
        embed_readiness=True,
        embed_last_task_failure=True,
        embed_failures=True,
        embed_task_stats=True,
    )
    assert [each.id for each in listed] == ["/web/front"]
    assert client.restart_app("/web/front")["deploymentId"]
    deployed(client)
    assert client.delete_app("/web/front")["deploymentId"]
    deployed(client)
    with pytest.raises(NotFoundError):
        client.get_app("/web/front")


def test_tasks_are_listed_scaled_and_killed(client: Any) -> None:
    client.create_app("/many", app(instances=2, ports=[0]))
    deployed(client)
    tasks = client.list_tasks("many")
    assert [task.app_id for task in tasks] == ["/many"] * 2
    assert {point.task_id for point in client.list_endpoints()} == {task.id for task in tasks}
    client.scale_app("/many", instances=3)
    deployed(client)
    client.scale_app("/many", delta=1)
    deployed(client)
    tasks = client.list_tasks("many")
    assert len(tasks) == 4
    assert client.kill_task("many", tasks[0].id, scale=True)
    deployed(client)
    assert client.kill_given_tasks([tasks[1].id], scale=True) is True
    deployed(client)
    assert client.get_app("/many").instances == 2
    left = {task.id for task in client.list_tasks("many")}
    assert left == {task.id for task in tasks[2:]}
    killed = client.kill_tasks("many")
    assert {task.id for task in killed} == left

    def replaced() -> bool:
        now = {task.id for task in client.list_tasks("many") if task.state == "TASK_RUNNING"}
        return len(now) == 2 and not now & left

    until("replacements", replaced)


def test_groups_are_created_scaled_and_rolled_back(client: Any) -> None:
    inner = MarathonApp(id="/g/one", cmd=SLEEP, cpus=0.1, mem=8, instances=1)
    assert client.create_group(MarathonGroup(id="/g", apps=[inner]))["deploymentId"]
    deployed(client)
    before = client.get_group("/g")
    assert [each.id for each in before.apps] == ["/g/one"]
    assert [each.id for each in client.list_groups()] == ["/g"]
    assert client.scale_group("/g", 2)["deploymentId"]
    deployed(client)
    assert client.get_app("/g/one").instances == 2
    client.rollback_group("g", before.version)
    deployed(client)
    assert client.get_app("/g/one").instances == 1
    changed = MarathonGroup(apps=[MarathonApp(id="one", cmd=SLEEP, cpus=0.1, mem=9, instances=1)])
    client.update_group("g", changed)
    deployed(client)
    assert client.get_app("/g/one").mem == 9
    client.delete_group("g", force=True)
    deployed(client)
    assert client.list_groups() == []


def test_deployments_and_the_queue_of_what_cannot_run_are_shown(client: Any) -> None:
    client.create_app("/huge", app(cpus=1000))
    running = client.list_deployments()
    assert [each.affected_apps for each in running] == [["/huge"]]
    assert running[0].current_actions[0].action in {"StartApplication", "ScaleApplication"}

    def declined() -> Any:
        items = client.list_queue(embed_last_unused_offers=True)
        return next((each for each in items if each.last_unused_offers), None)

    item = until("a declined offer", declined)
    assert (item.app.id, item.count, item.delay.overdue) == ("/huge", 1, True)
    client.reset_delay("/huge")
    assert client.delete_deployment(running[0].id)["deploymentId"]
    deployed(client)
    assert client.list_apps() == []
    client.create_app("/huge", app(cpus=1000))
    assert client.delete_deployment(client.list_deployments()[0].id, force=True) == {}
    deployed(client)
    assert [each.id for each in client.list_apps()] == ["/huge"]


def test_the_event_stream_tells_of_a_deployment(client: Any) -> None:
    events = client.event_stream()
    assert next(events).event_type == "event_stream_attached"
    client.create_app("/told", app())
    seen = []
    for event in events:
        seen.append(event)
        if event.event_type == "deployment_success":
            break
    kinds = {event.event_type for event in seen}
    assert {"api_post_event", "group_change_success", "deployment_info"} <= kinds
    states = [each.task_status for each in seen if isinstance(each, MarathonStatusUpdateEvent)]
    assert states[-1] == "TASK_RUNNING"
    client.delete_app("/told")
    deployed(client)
    only = client.event_stream(event_types=[MarathonDeploymentSuccess], raw=True)
    heard: list[str] = []
    # It asks for the stream when the first event is wanted, and nothing tells that it has it.
    listener = threading.Thread(target=lambda: heard.append(next(only)), daemon=True)
    listener.start()
    while listener.is_alive():
        client.create_app("/told", app(instances=0))
        deployed(client)
        client.delete_app("/told")
        deployed(client)
        listener.join(0.1)
    assert '"deployment_success"' in heard[0]


def test_the_system_pages_are_read(alone: Cluster, client: Any) -> None:
    info = client.get_info()
    assert info.name == "marathon"
    assert info.marathon_config.master == alone.master_url
    leader = client.get_leader()["leader"]
    assert f"http://{leader}" == alone.marathons[0].url
    assert client.ping() == b'"pong"'  # it asks for JSON
    assert {"gauges", "counters"} <= client.get_metrics().keys()


def test_errors_carry_the_message_and_its_path(client: Any) -> None:
    with pytest.raises(MarathonHttpError) as caught:
        client.create_app("/bad", app(cpus=-1))
    assert caught.value.status_code == 422
    assert "/cpus" in str(caught.value.error_details)


def test_a_leader_that_abdicates_comes_back_with_its_tasks(alone: Cluster, client: Any) -> None:
    client.create_app("/kept", app())
    deployed(client)
    before = {task.id for task in client.list_tasks("kept")}
    ended = len(alone.marathons[0].codes)
    assert "message" in client.delete_leader()
    until("the old process ends", lambda: len(alone.marathons[0].codes) > ended)
    alone.wait_ready()
    assert {task.id for task in client.list_tasks("kept")} == before


def test_events_are_sent_to_a_callback_url(client: Any) -> None:
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    class Consumer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Consumer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/events"
        assert client.create_event_subscription(url)["callbackUrl"] == url
        assert client.list_event_subscriptions() == [url]
        client.create_app("/told", app())
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["eventType"] != "deployment_success":
            seen.append(told.get(timeout=60))
        assert client.delete_event_subscription(url)["eventType"] == "unsubscribe_event"
        assert client.list_event_subscriptions() == []
        server.shutdown()
    kinds = [each["eventType"] for each in seen]
    assert kinds[0] == "subscribe_event"
    assert {"api_post_event", "deployment_info", "status_update_event"} <= set(kinds)


def test_every_call_of_the_client_was_made() -> None:
    methods: dict[str, Callable[..., Any]] = dict(
        inspect.getmembers(marathon.MarathonClient, inspect.isfunction)
    )
    public = {name for name in methods if not name.startswith("_")}
    assert public <= set(re.findall(r"\bclient\.(\w+)\(", Path(__file__).read_text()))
