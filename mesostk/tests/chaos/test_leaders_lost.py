"""Leaders, agents and ZooKeeper servers that die under load, as real processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, Unit, until

pytestmark = pytest.mark.zookeeper


def deploy(cluster: Cluster, app: str, instances: int, **more: Any) -> dict[str, int]:
    """Deploy an app of sleeping tasks; task id → pid once all run."""
    body = {
        "id": app,
        "cmd": "exec sleep 10000",
        "cpus": 0.1,
        "mem": 8,
        "instances": instances,
        **more,
    }
    answer = cluster.call("POST", "/v2/apps", json=body)
    assert answer.status_code == requests.codes.created, answer.text
    return cluster.wait_running(app, instances)


def scale(cluster: Cluster, app: str, instances: int) -> None:
    answer = cluster.call(
        "PUT", f"/v2/apps{app}", json={"instances": instances}, params={"force": "true"}
    )
    assert answer.status_code == requests.codes.ok, answer.text


def master_tasks(cluster: Cluster, app: str) -> dict[str, str]:
    """Task id → state of an app's live tasks, as the leading master knows them."""

    def told() -> requests.Response | None:
        answer = cluster.wait_leader().get("/tasks?limit=1000")
        return answer if answer is not None and answer.ok else None

    answer = until("the leading master's tasks", told)
    prefix = app.strip("/") + "."
    return {
        task["id"]: task["state"]
        for task in answer.json()["tasks"]
        if task["id"].startswith(prefix) and task["state"] in ("TASK_STAGING", "TASK_RUNNING")
    }


def assert_same_tasks(cluster: Cluster, app: str, before: dict[str, int]) -> None:
    """Marathon, master and agents all have exactly these tasks, in the same processes."""
    assert cluster.wait_running(app, len(before)) == before
    wanted = dict.fromkeys(before, "TASK_RUNNING")
    until("the same tasks in the master", lambda: master_tasks(cluster, app) == wanted)


def new_leader(cluster: Cluster, old: Unit) -> Unit:
    return until("another leading master", lambda: cluster.leader(but=old))


def test_fifty_tasks_outlive_the_leading_master(cluster: Cluster) -> None:
    before = deploy(cluster, "/fifty", 50)
    assert len(before) == 50
    old = cluster.wait_leader()
    old.kill()
    killed = time.monotonic()
    leader = new_leader(cluster, old)
    took_s = time.monotonic() - killed
    print(f"another master serves {took_s:.1f} s after kill -9 of the leader")

    cluster.wait_ready()
    assert_same_tasks(cluster, "/fifty", before)
    # A cluster that lost, or doubled, a task would show it while it launches more.
    scale(cluster, "/fifty", 53)
    after = cluster.wait_running("/fifty", 53)
    assert before.items() < after.items()

    def redirects() -> bool:
        answer = old.get("/redirect")
        where = "" if answer is None else answer.headers.get("Location", "")
        return f"http:{where}" == leader.url

    until("the old leader as a standby that redirects", redirects)


def test_a_paused_leader_that_wakes_up_ends_and_harms_nobody(cluster: Cluster) -> None:
    before = deploy(cluster, "/paused", 5)
    old = cluster.wait_leader()
    ended = len(old.codes)
    old.pause()
    new_leader(cluster, old)
    cluster.wait_ready()
    old.resume()
    until("the end of the leader that slept", lambda: len(old.codes) > ended)
    assert old.codes[-1] not in (0, -9), "it must say that it lost its leadership"
    assert cluster.wait_leader() is not old
    assert_same_tasks(cluster, "/paused", before)


def test_tasks_keep_their_pids_over_a_killed_agent(cluster: Cluster) -> None:
    before = deploy(cluster, "/steady", 10)
    for agent in cluster.agents:
        agent.kill()
    until("both agents again", lambda: all(agent.pid is not None for agent in cluster.agents))
    cluster.wait_ready()
    assert_same_tasks(cluster, "/steady", before)
    scale(cluster, "/steady", 12)
    assert before.items() < cluster.wait_running("/steady", 12).items()


def test_a_task_that_ended_while_its_agent_was_dead_tells_its_true_exit_code(
    cluster: Cluster, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.05; done; exit 7"
    # The back-off keeps the second life of the task out of this test.
    body = {"id": "/ends", "cmd": wait, "cpus": 0.1, "mem": 8, "backoffSeconds": 600}
    assert cluster.call("POST", "/v2/apps", json=body).status_code == 201

    def running() -> str | None:
        told = cluster.marathon_tasks("/ends") or {}
        return next((id for id, task in told.items() if task["state"] == "TASK_RUNNING"), None)

    task = until("the running task", running)
    for agent in cluster.agents:
        agent.kill(restart=False)
    go.touch()
    statuses = cluster.directory.glob
    until("the task's end", lambda: any(statuses("agent*/run/containers/*/status")))
    for agent in cluster.agents:
        agent.start()

    def failure() -> dict[str, Any] | None:
        app = cluster.call("GET", "/v2/apps//ends").json()["app"]
        found: dict[str, Any] | None = app.get("lastTaskFailure")
        return found

    told = until("the failure in Marathon", failure)
    assert told["taskId"] == task
    assert told["state"] == "TASK_FAILED"
    assert told["message"] == "Command exited with status 7"


@pytest.mark.parametrize("moment", ["answered", "first task", "agent silent"])
def test_marathon_killed_in_a_scale_up_ends_at_exactly_the_number_wanted(
    cluster: Cluster, moment: str
) -> None:
    before = deploy(cluster, "/grows", 5)
    framework = cluster.call("GET", "/v2/info").json()["frameworkId"]
    old = cluster.leading_marathon()
    if moment == "agent silent":
        # Half of the launches are sent and cannot be confirmed.
        cluster.agents[0].pause()
    scale(cluster, "/grows", 40)
    if moment != "answered":
        until("the first launch", lambda: len(master_tasks(cluster, "/grows")) > 5)
    old.kill()
    running = len(cluster.live_tasks("/grows"))
    print(f"killed when {len(master_tasks(cluster, '/grows'))} of 40 were launched, {running} ran")
    cluster.agents[0].resume()
    after = cluster.wait_running("/grows", 40)
    assert before.items() < after.items()
    assert cluster.leading_marathon() is not old
    cluster.wait_ready()
    cluster.wait_deployed()
    assert_same_tasks(cluster, "/grows", after)
    assert cluster.call("GET", "/v2/info").json()["frameworkId"] == framework


def test_nothing_happens_when_a_zookeeper_follower_dies(cluster: Cluster) -> None:
    assert cluster.zookeeper is not None
    before = deploy(cluster, "/calm", 5)
    leader, marathon = cluster.wait_leader(), cluster.leading_marathon()
    pids = [unit.pid for unit in cluster.units]
    follower = cluster.zookeeper.follower()
    follower.kill()
    # Everybody's session has moved to the members that are left once this is done.
    scale(cluster, "/calm", 7)
    after = cluster.wait_running("/calm", 7)
    follower.launch()
    follower.wait_serving()
    assert before.items() < after.items()
    assert cluster.wait_leader() is leader
    assert cluster.leading_marathon() is marathon
    assert [unit.pid for unit in cluster.units] == pids


def test_tasks_run_on_while_zookeeper_has_no_quorum_and_all_is_well_after(
    cluster: Cluster,
) -> None:
    assert cluster.zookeeper is not None
    before = deploy(cluster, "/quorum", 5)
    leader, marathon = cluster.wait_leader(), cluster.leading_marathon()
    ended = len(leader.codes), len(marathon.codes)
    lost = cluster.zookeeper.members[:2]
    for member in lost:
        member.kill()
    # Crash-only: who led and cannot be sure to do so any more ends.
    until(
        "the end of both leaders",
        lambda: ended[0] < len(leader.codes) and ended[1] < len(marathon.codes),
    )
    assert cluster.leader() is None
    assert cluster.live_tasks("/quorum") == before
    for member in lost:
        member.launch()
    for member in lost:
        member.wait_serving()
    cluster.wait_ready()
    assert_same_tasks(cluster, "/quorum", before)
    scale(cluster, "/quorum", 6)
    assert before.items() < cluster.wait_running("/quorum", 6).items()
