"""The scenarios of the original's system tests, on real processes; the list is in docs/testing.md.

One cluster serves all of them: 1 master, 2 agents, 1 Marathon, apps that are shells or small web
servers. What is served lies in the task's sandbox, so that a test decides when a check passes.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, until

SLEEP = "exec sleep 1000"

#: Serves its sandbox; -S and -E keep the start short.
SERVE = "exec python3 -S -E -m http.server $PORT0"

#: Soon, yet patient: a busy machine starts and answers late.
FAST = {"intervalSeconds": 1, "timeoutSeconds": 20, "gracePeriodSeconds": 120}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = ["--min_revive_offers_interval=200", "--decline_offer_duration=1000"]  # ms
    directory = tmp_path_factory.mktemp("scenarios")
    with Cluster(directory, agents=2, marathon_flags=flags) as made:
        made.start()
        yield made


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The cluster; no app of a test is left behind."""
    yield shared
    shared.call("DELETE", "/v2/groups", params={"force": "true"})
    until("no app and no deployment", lambda: not shared.apps() and not deployments(shared))


def app(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "cmd": SLEEP, "cpus": 0.1, "mem": 16, "instances": 1, **fields}


def ask(cluster: Cluster, method: str, path: str, body: Any = None, **params: str) -> Any:
    """The JSON of a 2xx answer."""
    answer = cluster.call(method, path, json=body, params=params)
    assert answer.ok, answer.text
    return answer.json()


def post(cluster: Cluster, body: dict[str, Any]) -> None:
    ask(cluster, "POST", "/v2/apps", body)


def deploy(cluster: Cluster, body: dict[str, Any]) -> dict[str, int]:
    """Create an app; its task ids with their pids once all run and the deployment is done."""
    post(cluster, body)
    cluster.wait_deployed()
    return cluster.wait_running(body["id"], body["instances"])


def shown(cluster: Cluster, id: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(cluster, "GET", f"/v2/apps{id}")["app"]
    return found


def deployments(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(cluster, "GET", "/v2/deployments")
    return found


def sandbox(cluster: Cluster, task: str) -> Path:
    """The directory in which a task runs."""

    def found() -> Path | None:
        pid = next((p for id, p in cluster.live_tasks(app_of(task)).items() if id == task), None)
        return None if pid is None else Path(f"/proc/{pid}/cwd").readlink()

    return until(f"the sandbox of {task}", found)


def app_of(task: str) -> str:
    return "/" + task.partition(".instance-")[0].replace("_", "/")


def hosts(cluster: Cluster, id: str) -> list[str]:
    return sorted(task["host"] for task in shown(cluster, id)["tasks"])


# -- groups -----------------------------------------------------------------------------------


def test_a_group_is_launched_then_an_app_in_it_scaled_then_the_whole(cluster: Cluster) -> None:
    group = {"id": "/shop", "apps": [app("/shop/db"), app("/shop/web", dependencies=["/shop/db"])]}
    ask(cluster, "POST", "/v2/groups", group)
    cluster.wait_deployed()
    cluster.wait_running("/shop/db", 1)
    cluster.wait_running("/shop/web", 1)
    started = {id: shown(cluster, id)["tasks"][0]["startedAt"] for id in ("/shop/db", "/shop/web")}
    assert started["/shop/db"] <= started["/shop/web"], "in the order of dependencies"
    ask(cluster, "PUT", "/v2/apps/shop/db", {"instances": 2})
    cluster.wait_deployed()
    ask(cluster, "PUT", "/v2/groups/shop", {"scaleBy": 2})
    cluster.wait_deployed()
    cluster.wait_running("/shop/db", 4)
    cluster.wait_running("/shop/web", 2)


# -- health -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "check"),
    [
        (SERVE, {"protocol": "HTTP", "path": "/", "portIndex": 0}),
        (SERVE, {"protocol": "TCP", "portIndex": 0}),
        (SERVE, {"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0, "delaySeconds": 0}),
        (SLEEP, {"protocol": "COMMAND", "command": {"value": "true"}, "delaySeconds": 0}),
    ],
    ids=["http", "tcp", "mesos_http", "command"],
)
def test_an_app_that_passes_its_check_is_healthy(
    cluster: Cluster, cmd: str, check: dict[str, Any]
) -> None:
    deploy(cluster, app("/checked", cmd=cmd, healthChecks=[{**check, **FAST}]))
    found = shown(cluster, "/checked")
    assert (found["tasksHealthy"], found["tasksUnhealthy"]) == (1, 0)
    assert found["tasks"][0]["healthCheckResults"][0]["alive"] is True


def test_an_app_without_checks_is_not_called_healthy(cluster: Cluster) -> None:
    deploy(cluster, app("/plain"))
    found = shown(cluster, "/plain")
    assert (found["tasksHealthy"], found["tasksUnhealthy"]) == (0, 0)
    assert "healthCheckResults" not in found["tasks"][0]


def test_an_update_that_never_gets_healthy_says_so_and_is_rolled_back(cluster: Cluster) -> None:
    check = {"protocol": "HTTP", "path": "/", "portIndex": 0, "maxConsecutiveFailures": 0, **FAST}
    kept = deploy(cluster, app("/sick", cmd=SERVE, healthChecks=[check]))
    bad = {**check, "path": "/nothing", "gracePeriodSeconds": 0}
    ask(cluster, "PUT", "/v2/apps/sick", {"healthChecks": [bad]})
    until("an unhealthy task", lambda: shown(cluster, "/sick")["tasksUnhealthy"] == 1)

    def why() -> bool:
        """At first its server does not listen yet."""
        reasons = ask(cluster, "GET", "/v2/apps/sick/why")["reasons"]
        return any("HTTP 404" in reason for reason in reasons)

    until("the reason", why)
    [running] = deployments(cluster)
    ask(cluster, "DELETE", f"/v2/deployments/{running['id']}")
    cluster.wait_deployed()
    assert cluster.wait_running("/sick", 1) == kept, "the old task was never touched"
    assert shown(cluster, "/sick")["healthChecks"][0]["path"] == "/"


def test_an_app_is_deployed_only_once_it_is_ready(cluster: Cluster) -> None:
    ready = {"path": "/ready", "portName": "web", "intervalSeconds": 2, "timeoutSeconds": 1}
    ports = [{"port": 0, "name": "web"}]
    body = app("/slow", cmd=SERVE, portDefinitions=ports, readinessChecks=[ready])
    post(cluster, body)
    [task] = cluster.wait_running("/slow", 1)

    def told() -> bool:
        actions = [each for one in deployments(cluster) for each in one["currentActions"]]
        results = [result for action in actions for result in action["readinessCheckResults"]]
        return [result["ready"] for result in results] == [False]

    until("a readiness result", told)
    (sandbox(cluster, task) / "ready").write_text("yes")
    cluster.wait_deployed()
    assert list(cluster.wait_running("/slow", 1)) == [task]


def test_an_update_that_never_gets_ready_can_be_taken_back(cluster: Cluster) -> None:
    kept = deploy(cluster, app("/steady"))
    never = {"path": "/no", "portName": "default", "intervalSeconds": 2, "timeoutSeconds": 1}
    change = {"cmd": SERVE, "readinessChecks": [never]}
    ask(cluster, "PUT", "/v2/apps/steady", change)
    until("a second task", lambda: len(shown(cluster, "/steady")["tasks"]) == 2)
    [running] = deployments(cluster)
    ask(cluster, "DELETE", f"/v2/deployments/{running['id']}")
    cluster.wait_deployed()
    assert cluster.wait_running("/steady", 1) == kept


# -- deployments ------------------------------------------------------------------------------


def test_an_app_is_updated_and_rolled_back_to_its_first_version(cluster: Cluster) -> None:
    first = deploy(cluster, app("/twice"))
    version = shown(cluster, "/twice")["version"]
    ask(cluster, "PUT", "/v2/apps/twice", {"mem": 17})
    cluster.wait_deployed()
    second = cluster.wait_running("/twice", 1)
    assert not first.keys() & second.keys()
    ask(cluster, "PUT", "/v2/apps/twice", {"version": version})
    cluster.wait_deployed()
    cluster.wait_running("/twice", 1)
    assert shown(cluster, "/twice")["mem"] == 16


def test_the_same_definition_again_restarts_nothing(cluster: Cluster) -> None:
    body = app("/same", env={"A": "1"}, labels={"team": "x"})
    before = deploy(cluster, body)
    ask(cluster, "PUT", "/v2/apps/same", body)
    cluster.wait_deployed()
    assert cluster.wait_running("/same", 1) == before


def test_a_rolling_update_keeps_the_minimum_up_and_refuses_interruption(cluster: Cluster) -> None:
    strategy = {"minimumHealthCapacity": 0.75, "maximumOverCapacity": 0.25}
    check = {"protocol": "HTTP", "path": "/", "portIndex": 0, **FAST}
    body = app("/wide", cmd=SERVE, instances=4, upgradeStrategy=strategy, healthChecks=[check])
    deploy(cluster, body)
    under_way = ""
    for number in itertools.count(2):  # an update may be over before the next is asked for
        answer = cluster.call("PUT", "/v2/apps/wide", json={"env": {"A": str(number)}})
        if answer.status_code == requests.codes.conflict:
            break
        assert answer.ok, answer.text
        under_way = answer.json()["deploymentId"]
    assert answer.json()["deployments"] == [{"id": under_way}]
    lowest, most = 4, 4
    while deployments(cluster):
        found = shown(cluster, "/wide")
        lowest = min(lowest, found["tasksHealthy"])
        most = max(most, len(found["tasks"]))
    assert lowest >= 3
    assert most <= 5
    cluster.wait_running("/wide", 4)


def test_what_no_agent_can_run_is_explained_by_the_queue(cluster: Cluster) -> None:
    for body, reason in (
        (app("/huge", cpus=1000), "InsufficientCpus"),
        (app("/foreign/app", role="foreign", acceptedResourceRoles=["foreign"]), "UnfulfilledRole"),
    ):
        post(cluster, body)

        def booked(id: str = body["id"], reason: str = reason) -> bool:
            for item in ask(cluster, "GET", "/v2/queue")["queue"]:
                if item["app"]["id"] == id:
                    funnel = item["processedOffersSummary"]["rejectSummaryLastOffers"]
                    return any(row["reason"] == reason and row["declined"] for row in funnel)
            return False

        until(f"{reason} for {body['id']}", booked)


def test_a_delay_after_failures_is_shown_and_can_be_reset(cluster: Cluster) -> None:
    post(cluster, app("/crash", cmd="exit 3", backoffSeconds=600, maxLaunchDelaySeconds=600))

    def delayed() -> bool:
        items = ask(cluster, "GET", "/v2/queue")["queue"]
        return any(item["delay"]["timeLeftSeconds"] > 500 for item in items)

    until("a delay", delayed)
    failure = shown(cluster, "/crash")["lastTaskFailure"]
    assert failure["state"] == "TASK_FAILED"
    assert cluster.call("DELETE", "/v2/queue/crash/delay").status_code == 204
    again = until(
        "another try",
        lambda: (
            (found := shown(cluster, "/crash")["lastTaskFailure"])["taskId"] != failure["taskId"]
            and found
        ),
    )
    assert again["state"] == "TASK_FAILED"


def test_an_artifact_that_cannot_be_fetched_fails_the_task_and_is_named(cluster: Cluster) -> None:
    uri = "file:///nonexistent/archive.tgz"
    post(cluster, app("/unfetched", fetch=[{"uri": uri}]))
    failed = until("a failure", lambda: shown(cluster, "/unfetched").get("lastTaskFailure"))
    assert failed["state"] in {"TASK_FAILED", "TASK_ERROR"}
    assert "archive.tgz" in failed["message"]


# -- failures ---------------------------------------------------------------------------------


def test_a_task_that_dies_is_replaced(cluster: Cluster) -> None:
    [(task, pid)] = deploy(cluster, app("/mortal")).items()
    os.kill(pid, signal.SIGKILL)
    until("its end", lambda: task not in (cluster.marathon_tasks("/mortal") or {task: {}}))
    [other] = cluster.wait_running("/mortal", 1)
    assert other != task
    assert shown(cluster, "/mortal")["lastTaskFailure"]["taskId"] == task


def test_a_task_outlives_its_bounced_agent_master_and_marathon(cluster: Cluster) -> None:
    before = deploy(cluster, app("/durable", instances=2))
    for unit in (cluster.agents[0], cluster.masters[0], cluster.marathons[0]):
        unit.kill()
        cluster.wait_ready()
    assert cluster.wait_running("/durable", 2) == before
    ask(cluster, "PUT", "/v2/apps/durable", {"instances": 3})
    cluster.wait_deployed()
    assert before.items() <= cluster.wait_running("/durable", 3).items()


@pytest.mark.parametrize(("grace", "obeys"), [(30, True), (1, False)], ids=["ends", "is killed"])
def test_a_task_has_its_grace_period_to_end(cluster: Cluster, grace: int, obeys: bool) -> None:
    end = "touch ended; exit 0" if obeys else ":"
    cmd = f"trap '{end}' TERM; touch up; while :; do sleep 0.1; done"
    [(task, _)] = deploy(
        cluster, app("/graceful", cmd=cmd, taskKillGracePeriodSeconds=grace)
    ).items()
    directory = sandbox(cluster, task)
    until("its trap", (directory / "up").exists)
    cluster.destroy("/graceful")
    assert (directory / "ended").exists() == obeys


# -- placement --------------------------------------------------------------------------------


def test_a_pinned_app_waits_for_its_host_scales_and_recovers_there(cluster: Cluster) -> None:
    host = cluster.agents[0].url.removeprefix("http://").partition(":")[0]
    post(cluster, app("/lost", constraints=[["hostname", "CLUSTER", "nowhere"]]))
    post(cluster, app("/pinned", constraints=[["hostname", "CLUSTER", host]]))
    cluster.wait_running("/pinned", 1)
    until("one deployment", lambda: len(deployments(cluster)) == 1)
    ask(cluster, "PUT", "/v2/apps/pinned", {"instances": 3})
    cluster.wait_running("/pinned", 3)
    assert hosts(cluster, "/pinned") == [host] * 3
    task, pid = next(iter(cluster.live_tasks("/pinned").items()))
    os.kill(pid, signal.SIGKILL)
    until("its end", lambda: task not in (cluster.marathon_tasks("/pinned") or {task: {}}))
    cluster.wait_running("/pinned", 3)
    assert hosts(cluster, "/pinned") == [host] * 3
    assert shown(cluster, "/lost")["tasks"] == []
    until(
        "the deployment that waits",
        lambda: [each["affectedApps"] for each in deployments(cluster)] == [["/lost"]],
    )


def test_a_unique_app_uses_each_host_once(cluster: Cluster) -> None:
    post(cluster, app("/spread", instances=3, constraints=[["hostname", "UNIQUE"]]))
    until("two tasks", lambda: len(shown(cluster, "/spread")["tasks"]) == 2)
    assert len(set(hosts(cluster, "/spread"))) == 2

    def explained() -> bool:
        reasons = ask(cluster, "GET", "/v2/apps/spread/why")["reasons"]
        return any("UnfulfilledConstraint" in reason for reason in reasons)

    until("the constraint as the reason", explained)


# -- events -----------------------------------------------------------------------------------


def test_the_event_stream_tells_an_apps_whole_life(cluster: Cluster) -> None:
    url = cluster.marathons[0].url + "/v2/events"
    headers = {"Accept": "text/event-stream"}
    with requests.get(url, headers=headers, stream=True, timeout=60) as stream:
        told: list[dict[str, Any]] = []
        lines = (line[6:] for line in stream.iter_lines() if line.startswith(b"data: "))
        deploy(cluster, app("/told"))
        cluster.call("DELETE", "/v2/apps/told")
        for line in lines:
            told.append(json.loads(line))
            if told[-1]["eventType"] == "app_terminated_event":
                break
    kinds = [each["eventType"] for each in told]
    first = ["event_stream_attached", "api_post_event", "group_change_success", "deployment_info"]
    assert list(dict.fromkeys(kinds))[:4] == first
    assert "deployment_step_success" in kinds
    states = [each["taskStatus"] for each in told if each["eventType"] == "status_update_event"]
    assert states[-3:] == ["TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
    running = next(n for n, each in enumerate(told) if each.get("taskStatus") == "TASK_RUNNING")
    assert running < kinds.index("deployment_success") < kinds.index("app_terminated_event")


def roles(cluster: Cluster) -> list[str]:
    """The roles in which the master knows Marathon."""
    state = requests.get(f"{cluster.masters[0].url}/state", timeout=60).json()
    [framework] = state["frameworks"]
    return sorted(framework["roles"])


def test_an_app_of_its_groups_role_runs_on_offers_of_that_role(cluster: Cluster) -> None:
    ask(cluster, "PUT", "/v2/groups/dev", {"enforceRole": True})
    deploy(cluster, app("/dev/web"))
    [task] = ask(cluster, "GET", "/v2/apps/dev/web/tasks")["tasks"]
    assert task["role"] == shown(cluster, "/dev/web")["role"] == "dev"
    tasks = requests.get(f"{cluster.masters[0].url}/tasks", timeout=60).json()["tasks"]
    assert [each["role"] for each in tasks if each["id"] == task["id"]] == ["dev"]
    assert roles(cluster) == ["*", "dev"]
    ask(cluster, "DELETE", "/v2/apps/dev/web")
    until("nothing left of the role", lambda: roles(cluster) == ["*"])
