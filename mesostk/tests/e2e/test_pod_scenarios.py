"""Pods on real processes: created, healthy, sharing a volume, scaled, updated, killed, deleted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from mesostk.cli.app import app
from mesostk.testing.processes import Cluster, until

EXAMPLES = Path(__file__).parents[3] / "examples"

SERVER = "exec python3 -S -E -m http.server $ENDPOINT_HTTP --directory shared"

POD: dict[str, Any] = {
    "id": "/pair",
    "containers": [
        {
            "name": "server",
            "exec": {"command": {"shell": SERVER}},
            "resources": {"cpus": 0.1, "mem": 32},
            "endpoints": [{"name": "http", "hostPort": 0}],
            "healthCheck": {
                "http": {"endpoint": "http", "path": "/hello"},
                "intervalSeconds": 2,
                "timeoutSeconds": 1,
                "maxConsecutiveFailures": 60,  # a busy machine answers late
                "delaySeconds": 0,
            },
            "volumeMounts": [{"name": "data", "mountPath": "shared"}],
        },
        {
            "name": "writer",
            "exec": {
                "command": {"shell": "echo $WORDS > new; mv new shared/hello; exec sleep 1000"}
            },
            "resources": {"cpus": 0.1, "mem": 32},
            "environment": {"WORDS": "from the other"},
            "volumeMounts": [{"name": "data", "mountPath": "shared"}],
        },
    ],
    "volumes": [{"name": "data"}],
    "networks": [{"mode": "host"}],
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = ["--mesos_role=web", "--min_revive_offers_interval=200"]  # ms
    flags.append("--decline_offer_duration=1000")  # ms
    with Cluster(tmp_path_factory.mktemp("pods"), marathon_flags=flags) as made:
        made.start()
        yield made


def status(cluster: Cluster) -> dict[str, Any]:
    answer = cluster.call("GET", "/v2/pods/pair::status")
    found: dict[str, Any] = answer.json()
    return found


def stable(cluster: Cluster, instances: int) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        now = status(cluster)
        states = [each["status"] for each in now.get("instances", [])]
        return now if states == ["STABLE"] * instances and now["status"] == "STABLE" else None

    return until(f"{instances} stable instances", found)


def said(cluster: Cluster, instance: dict[str, Any]) -> str:
    [endpoint] = next(c for c in instance["containers"] if c["name"] == "server")["endpoints"]
    url = f"http://{instance['agentHostname']}:{endpoint['allocatedHostPort']}/hello"
    return requests.get(url, timeout=60).text.strip()


def test_a_pods_life_from_creation_to_deletion(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.call("HEAD", "/v2/pods").status_code == 200
    created = cluster.call("POST", "/v2/pods", json=POD)
    assert created.status_code == 201, created.text
    assert created.headers["Marathon-Deployment-Id"]
    first = stable(cluster, 1)
    assert said(cluster, first["instances"][0]) == "from the other"
    scaled = {**POD, "scaling": {"kind": "fixed", "instances": 2}}
    assert cluster.call("PUT", "/v2/pods/pair", json=scaled).ok
    two = stable(cluster, 2)
    ids = {each["id"] for each in two["instances"]}
    assert first["instances"][0]["id"] in ids
    writer = {**POD["containers"][1], "environment": {"WORDS": "changed"}}
    changed = {**scaled, "containers": [POD["containers"][0], writer]}
    assert cluster.call("PUT", "/v2/pods/pair", json=changed).ok
    cluster.wait_deployed()
    new = stable(cluster, 2)
    assert not ids & {each["id"] for each in new["instances"]}
    assert {said(cluster, each) for each in new["instances"]} == {"changed"}
    versions = cluster.call("GET", "/v2/pods/pair::versions").json()
    assert len(versions) == 3
    killed = new["instances"][0]["id"]
    assert cluster.call("DELETE", f"/v2/pods/pair::instances/{killed}").json()["id"] == killed
    until("its end", lambda: killed not in {i["id"] for i in status(cluster)["instances"]})
    stable(cluster, 2)
    deleted = cluster.call("DELETE", "/v2/pods/pair")
    assert deleted.status_code == 202
    cluster.wait_deployed()
    assert cluster.call("GET", "/v2/pods").json() == []
    assert cluster.call("GET", "/v2/pods/pair::status").status_code == 404
    until("no process of it", lambda: not cluster.live_tasks("/pair"))


def test_a_container_that_fails_takes_the_pod_with_it_and_both_come_back(
    cluster: Cluster,
) -> None:
    failing = {**POD["containers"][1], "exec": {"command": {"shell": "sleep 1; exit 3"}}}
    pod = {
        **POD,
        "containers": [{**POD["containers"][0], "healthCheck": None}, failing],
        "scheduling": {"backoff": {"backoff": 1, "maxLaunchDelay": 2}},
    }
    assert cluster.call("POST", "/v2/pods", json=pod).status_code == 201

    def twice() -> list[dict[str, Any]] | None:
        found = status(cluster)["terminationHistory"]
        return found if len(found) >= 2 else None

    for ended in until("two ends", twice):
        states = {c["containerId"].split(".")[2]: c["lastKnownState"] for c in ended["containers"]}
        assert states == {"server": "TASK_KILLED", "writer": "TASK_FAILED"}
    cluster.call("DELETE", "/v2/pods/pair", params={"force": "true"})
    cluster.wait_deployed()


#: Both keep data: the server serves what the writer adds a line to with each of its lives.
KEEPER: dict[str, Any] = {
    **POD,
    "id": "/keeper",
    "containers": [
        {
            **POD["containers"][0],
            "healthCheck": {
                **POD["containers"][0]["healthCheck"],
                "http": {"endpoint": "http", "path": "/lives"},
            },
        },
        {
            **POD["containers"][1],
            "exec": {"command": {"shell": "echo $WORDS >> shared/lives; exec sleep 1000"}},
        },
    ],
    "volumes": [{"name": "data", "persistent": {"size": 16}}],
    "scheduling": {"backoff": {"backoff": 0.1}},
}


def keeper(cluster: Cluster) -> dict[str, Any] | None:
    """The only instance of the pod that keeps data, once it is stable."""
    unit = cluster.marathon()
    answer = None if unit is None else unit.get("/v2/pods/keeper::status")
    found = {} if answer is None or not answer.ok else answer.json()
    instances = found.get("instances", [])
    states = [each["status"] for each in instances]
    return instances[0] if (found.get("status"), states) == ("STABLE", ["STABLE"]) else None


def lives(cluster: Cluster) -> list[str]:
    [volume] = (cluster.work_dir(1) / "volumes/roles/web").iterdir()
    return (volume / "lives").read_text().split("\n")[:-1]


def is_at(cluster: Cluster, *told: str) -> Callable[[], dict[str, Any] | None]:
    """The instance, once these are the lives that its volume tells of."""

    def probe() -> dict[str, Any] | None:
        found = keeper(cluster)
        return found if found is not None and lives(cluster) == list(told) else None

    return probe


def test_a_pods_volume_outlives_its_containers_updates_and_every_daemon(cluster: Cluster) -> None:
    created = cluster.call("POST", "/v2/pods", json=KEEPER)
    assert created.status_code == 201, created.text
    first = until("the first life", is_at(cluster, "from the other"))
    [volume] = first["localVolumes"]
    assert volume["containerPath"] == "data"
    cluster.agents[0].kill()
    cluster.masters[0].kill()
    cluster.marathons[0].kill()
    again = until("the same containers", lambda: keeper(cluster))
    names = [each["containerId"] for each in first["containers"]]
    assert [each["containerId"] for each in again["containers"]] == names
    os.kill(cluster.live_tasks("/keeper")[names[1]], signal.SIGKILL)
    second = until("another life", is_at(cluster, *["from the other"] * 2))
    assert second["id"] == first["id"]
    writer = {**KEEPER["containers"][1], "environment": {"WORDS": "updated"}}
    changed = {**KEEPER, "containers": [KEEPER["containers"][0], writer]}
    until("Marathon", cluster.is_subscribed)
    assert cluster.call("PUT", "/v2/pods/keeper", json=changed).ok
    cluster.marathons[0].kill()
    third = until("the update", is_at(cluster, *["from the other"] * 2, "updated"))
    assert third["id"] == first["id"]
    cluster.wait_deployed()
    one = f"/v2/pods/keeper::instances/{first['id']}"
    assert cluster.call("DELETE", one, params={"wipe": "true"}).ok
    fresh = until("an empty volume", lambda: _fresh(cluster, first["id"]))
    assert fresh["localVolumes"][0]["persistenceId"] != volume["persistenceId"]
    cluster.call("DELETE", "/v2/pods/keeper", params={"force": "true"})
    cluster.wait_deployed()
    until("no volume", lambda: not list((cluster.work_dir(1) / "volumes/roles/web").iterdir()))


def _fresh(cluster: Cluster, but: str) -> dict[str, Any] | None:
    found = keeper(cluster)
    if found is None or found["id"] == but:
        return None
    volumes = list((cluster.work_dir(1) / "volumes/roles/web").iterdir())
    return found if len(volumes) == 1 and lives(cluster) == ["updated"] else None


def test_the_command_deploys_scales_and_destroys_the_example(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.setenv("HOME", str(tmp_path))
    runner = CliRunner()

    def say(*words: str) -> str:
        done = runner.invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    masters, marathons = cluster.masters[0].url, cluster.marathons[0].url
    say("context", "add", "here", "--master", masters, "--marathon", marathons)
    shown = say("deploy", str(EXAMPLES / "pod.json"))
    assert "/pair" in shown
    assert "1/1" in shown
    say("scale", "/pair", "2")
    assert len(stable(cluster, 2)["instances"]) == 2
    say("destroy", "/pair", "--yes")
    assert cluster.call("GET", "/v2/pods").json() == []
