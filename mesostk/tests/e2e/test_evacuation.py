"""An agent is emptied on real processes: of an app, a pod and data, while Marathon dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, until

WEB: dict[str, Any] = {
    "id": "/web",
    "cmd": "exec sleep 1000",
    "cpus": 0.1,
    "mem": 16,
    "instances": 3,
    "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 0.4},
}

POD: dict[str, Any] = {
    "id": "/pair",
    "containers": [
        {
            "name": name,
            "exec": {"command": {"shell": "exec sleep 1000"}},
            "resources": {"cpus": 0.1, "mem": 16},
        }
        for name in ("left", "right")
    ],
}

DB: dict[str, Any] = {
    "id": "/db",
    "cmd": "echo started >> data/log; exec sleep 1000",
    "cpus": 0.1,
    "mem": 16,
    "container": {
        "type": "MESOS",
        "volumes": [{"containerPath": "data", "mode": "RW", "persistent": {"size": 16}}],
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("evacuation"),
        agents=2,
        master_flags=["--agent_ping_timeout=2secs", "--max_agent_ping_timeouts=3"],
        marathon_flags=[
            "--mesos_role=web",
            "--min_revive_offers_interval=200",  # ms
            "--decline_offer_duration=1000",  # ms
        ],
    ) as made:
        made.start()
        yield made


def agents(cluster: Cluster) -> dict[str, str]:
    """Id by hostname."""
    slaves = requests.get(f"{cluster.masters[0].url}/slaves", timeout=60).json()["slaves"]
    return {each["hostname"]: each["id"] for each in slaves}


def operate(cluster: Cluster, kind: str, agent: str) -> None:
    body = {"type": kind, kind.lower(): {"agent_id": {"value": agent}}}
    answer = requests.post(f"{cluster.masters[0].url}/api/v1", json=body, timeout=60)
    assert answer.ok, answer.text


def on_agent(cluster: Cluster, agent: str) -> list[dict[str, Any]] | None:
    """What Marathon says is there; None while it does not answer."""
    unit = cluster.marathon()
    answer = None if unit is None else unit.get(f"/v2/agents/{agent}/evacuate")
    if answer is None or not answer.ok:
        return None
    found: list[dict[str, Any]] = answer.json()["instances"]
    return found


def starts(volume: Path) -> int:
    return len((volume / "log").read_text().splitlines())


def fewest_running(cluster: Cluster, since: float) -> int:
    """Of /web's three tasks the fewest that ran at once from then on, by their own updates."""
    asked = {"framework_name": "marathon", "limit": "100"}
    url = f"{cluster.masters[0].url}/tasks"
    tasks = requests.get(url, params=asked, timeout=60).json()["tasks"]
    steps = [
        (update["timestamp"], 1 if update["state"] == "TASK_RUNNING" else -1)
        for task in tasks
        if task["id"].startswith("web.")
        for update in task["statuses"]
        if update["state"] in ("TASK_RUNNING", "TASK_KILLED") and update["timestamp"] > since
    ]
    return min(accumulate((change for _, change in sorted(steps)), initial=3))


@pytest.fixture
def places(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Ids of the agent on which all three are, and of another that is empty."""
    ids = agents(cluster)
    first, second = (ids[unit.url.split("//")[1].split(":")[0]] for unit in cluster.agents)
    operate(cluster, "DEACTIVATE_AGENT", second)
    for path, body in (("apps", WEB), ("pods", POD), ("apps", DB)):
        created = cluster.call("POST", f"/v2/{path}", json=body)
        assert created.status_code == 201, created.text
    cluster.wait_deployed()
    until("all on the first", lambda: len(on_agent(cluster, first) or []) == 5)
    operate(cluster, "REACTIVATE_AGENT", second)
    yield first, second
    for id in ("/web", "/pair", "/db"):
        cluster.call("DELETE", f"/v2/{'pods' if id == '/pair' else 'apps'}{id}?force=true")
    until("no task", lambda: not any(cluster.live_tasks(id) for id in ("/web", "/pair", "/db")))
    until("no volume", lambda: not any((cluster.work_dir(1) / "volumes/roles/web").iterdir()))


def test_all_but_data_moves_without_a_gap_though_marathon_dies(
    cluster: Cluster, places: tuple[str, str]
) -> None:
    first, second = places
    [volume] = (cluster.work_dir(1) / "volumes/roles/web").iterdir()
    begun = time.time()

    def moved() -> bool:
        there = on_agent(cluster, first)
        return there is not None and {each["app"] for each in there} == {"/db"}

    told = cluster.call("POST", f"/v2/agents/{first}/evacuate").json()["instances"]
    assert [each["leaving"] for each in told].count(True) == 4
    cluster.marathons[0].kill()
    until("an agent with the data alone", moved)
    assert fewest_running(cluster, begun) == 3, "as minimumHealthCapacity demands"
    [stays] = until("what stays", lambda: on_agent(cluster, first))
    assert not stays["leaving"]
    assert stays["reasons"][0].startswith("it keeps data on this agent")
    until("the rest on the other", lambda: len(on_agent(cluster, second) or []) == 4)

    operate(cluster, "DRAIN_AGENT", first)
    until("an empty agent", lambda: not cluster.live_tasks("/db"))
    until("its reason", lambda: _waits_for_its_volume(cluster))
    operate(cluster, "REACTIVATE_AGENT", first)
    cluster.wait_running("/db", 1)
    until("its second start", lambda: starts(volume) == 2)


def _waits_for_its_volume(cluster: Cluster) -> bool:
    reasons = " ".join(cluster.call("GET", "/v2/apps/db/why").json()["reasons"])
    return "1 instance waits" in reasons and "waits for its volumes on" in reasons


def test_a_resident_waits_for_an_agent_that_is_away_and_is_not_replaced(
    cluster: Cluster, places: tuple[str, str]
) -> None:
    [(task, pid)] = cluster.live_tasks("/db").items()
    cluster.agents[0].kill(restart=False)

    def state() -> str:
        return str(cluster.call("GET", "/v2/apps/db/tasks").json()["tasks"][0]["state"])

    until("the master to miss it", lambda: state() == "TASK_UNREACHABLE")
    assert cluster.live_tasks("/db") == {task: pid}
    queue = cluster.call("GET", "/v2/queue").json()["queue"]
    assert "/db" not in [each["app"]["id"] for each in queue if "app" in each]
    cluster.agents[0].start()
    until("its return", lambda: state() == "TASK_RUNNING")
    assert cluster.live_tasks("/db") == {task: pid}
