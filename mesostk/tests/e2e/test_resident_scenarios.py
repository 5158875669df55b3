"""Apps with persistent volumes on real processes: the data outlives tasks, agents and leaders."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, until

ROLE = "web"

#: Counts its own starts in its volume.
APP: dict[str, Any] = {
    "id": "/db",
    "cmd": "echo started >> data/log; exec sleep 1000",
    "cpus": 0.1,
    "mem": 32,
    "instances": 1,
    "container": {
        "type": "MESOS",
        "volumes": [
            {"containerPath": "data", "mode": "RW", "persistent": {"type": "root", "size": 16}}
        ],
    },
    "backoffSeconds": 1,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = [f"--mesos_role={ROLE}", "--min_revive_offers_interval=200"]  # ms
    flags.append("--decline_offer_duration=1000")  # ms
    with Cluster(tmp_path_factory.mktemp("resident"), marathon_flags=flags) as made:
        made.start()
        yield made


def task(cluster: Cluster) -> dict[str, Any]:
    found: list[dict[str, Any]] = cluster.call("GET", "/v2/apps/db/tasks").json()["tasks"]
    assert len(found) == 1
    return found[0]


def volumes(cluster: Cluster) -> list[Path]:
    """Directories of the volumes that there are."""
    return sorted((cluster.work_dir(1) / "volumes" / "roles" / ROLE).glob("*"))


def starts(cluster: Cluster) -> int:
    """How often the only volume says that the app was started."""
    logs = [place / "log" for place in volumes(cluster)]
    if len(logs) != 1 or not logs[0].exists():
        return 0
    return len(logs[0].read_text().splitlines())


def reserved(cluster: Cluster) -> dict[str, float]:
    slaves = requests.get(f"{cluster.masters[0].url}/slaves", timeout=60).json()["slaves"]
    found: dict[str, float] = slaves[0]["reserved_resources"].get(ROLE, {})
    return {name: amount for name, amount in found.items() if amount and name != "ports"}


def test_data_outlives_tasks_updates_daemons_and_scaling_but_not_its_app(
    cluster: Cluster,
) -> None:
    created = cluster.call("POST", "/v2/apps", json=APP)
    assert created.status_code == 201, created.text
    cluster.wait_deployed()
    [(first, pid)] = cluster.wait_running("/db", 1).items()
    until("a start", lambda: starts(cluster) == 1)
    [shown] = task(cluster)["localVolumes"]
    assert shown["containerPath"] == "data"
    assert volumes(cluster)[0].name == shown["persistenceId"]
    assert reserved(cluster) == {"cpus": 0.1, "mem": 32.0, "disk": 16.0}

    os.kill(pid, signal.SIGKILL)
    until("another task", lambda: first not in (cluster.marathon_tasks("/db") or {first: {}}))
    cluster.wait_running("/db", 1)
    until("a second start", lambda: starts(cluster) == 2)
    assert task(cluster)["id"] == first.removesuffix(".1") + ".2", "the same instance once more"

    for unit in (cluster.marathons[0], cluster.agents[0], cluster.masters[0]):
        unit.kill()
        cluster.wait_ready()
    assert cluster.call("PUT", "/v2/apps/db", json={"env": {"A": "1"}}).ok
    cluster.wait_deployed()
    cluster.wait_running("/db", 1)
    until("a third start", lambda: starts(cluster) == 3)

    assert cluster.call("PUT", "/v2/apps/db", json={"instances": 0}).ok
    cluster.wait_deployed()
    assert reserved(cluster) == {"cpus": 0.1, "mem": 32.0, "disk": 16.0}, "the place is kept"
    assert cluster.call("PUT", "/v2/apps/db", json={"instances": 1}).ok
    cluster.wait_deployed()
    until("a fourth start", lambda: starts(cluster) == 4)

    refused = cluster.call("PUT", "/v2/apps/db", json={"cpus": 0.2})
    assert refused.status_code == 422
    assert "may not change" in refused.text

    cluster.destroy("/db")
    until("nothing reserved", lambda: not reserved(cluster) and not volumes(cluster))


def test_a_wiped_task_comes_back_with_an_empty_volume(cluster: Cluster) -> None:
    cluster.call("POST", "/v2/apps", json=APP)
    cluster.wait_deployed()
    before = task(cluster)["id"]
    [place] = volumes(cluster)
    answer = cluster.call("DELETE", f"/v2/apps/db/tasks/{before}", params={"wipe": "true"})
    assert answer.ok, answer.text
    until("another instance", lambda: before not in (cluster.marathon_tasks("/db") or {before: {}}))
    cluster.wait_running("/db", 1)
    until("only a new volume", lambda: place not in volumes(cluster) and len(volumes(cluster)) == 1)
    until("one start", lambda: starts(cluster) == 1)
    cluster.destroy("/db")
    until("nothing reserved", lambda: not reserved(cluster))
