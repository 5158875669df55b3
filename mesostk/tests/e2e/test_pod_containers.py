"""What the containers of a pod are given: users, images, a folder, checks, and time to end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.dockerd import load_image, remove_containers
from mesostk.testing.processes import Cluster, until
from mesostk.testing.requirements import DOCKER_SOCKET, require_docker, require_root

pytestmark = [pytest.mark.docker, pytest.mark.root]

#: As it is, it serves nothing, and knows no user.
IMAGE = "mesostk-entry:1"

#: Longer than a task has to end if it says nothing about that.
WRITES = """\
trap 'sleep 4; touch d/ended; exit 0' TERM
id -un > d/new && mv d/new d/said
sleep 1000 & wait $!
"""

SERVES = "busybox id -u > uid; exec httpd -f -p $ENDPOINT_WEB -h /shared"

#: What always sees the same has the time of a busy machine; what looks too soon looks again soon.
PATIENT = {"intervalSeconds": 41, "timeoutSeconds": 40, "delaySeconds": 0}
AGAIN = {"intervalSeconds": 5, "timeoutSeconds": 4, "delaySeconds": 0}

POD: dict[str, Any] = {
    "id": "/mixed",
    "containers": [
        {
            "name": "web",
            "user": "nobody",
            "image": {"kind": "DOCKER", "id": IMAGE},
            "exec": {"command": {"argv": ["sh", "-c", SERVES]}, "overrideEntrypoint": True},
            "resources": {"cpus": 0.1, "mem": 32},
            "endpoints": [{"name": "web", "hostPort": 0}],
            "check": {"http": {"endpoint": "web", "path": "/said"}, **AGAIN},
            "volumeMounts": [{"name": "data", "mountPath": "/shared", "readOnly": True}],
            "lifecycle": {"killGracePeriodSeconds": 0},
        },
        {
            "name": "writer",
            "user": "nobody",
            "exec": {"command": {"argv": ["sh", "-c", WRITES]}},
            "resources": {"cpus": 0.1, "mem": 32},
            "environment": {"RESULT": "4"},
            "check": {"exec": {"command": {"shell": "exit $RESULT"}}, **PATIENT},
            "volumeMounts": [{"name": "data", "mountPath": "d"}],
            "lifecycle": {"killGracePeriodSeconds": 1000},
        },
        {
            "name": "idle",
            "exec": {"command": {"shell": "exec sleep 1000"}},
            "resources": {"cpus": 0.1, "mem": 32},
            "endpoints": [{"name": "nothing", "hostPort": 0}],
            "check": {"tcp": {"endpoint": "nothing"}, **PATIENT},
        },
    ],
    "volumes": [{"name": "data"}],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require_root()
    require_docker()
    load_image(DOCKER_SOCKET, IMAGE, changes=['ENTRYPOINT ["sleep", "1000"]'])
    flags = ["--containerizers=docker,mesos", "--switch_user"]
    flags.append("--executor_registration_timeout=10mins")  # however slow the engine
    # Where every user gets to; pytest's own directories are for one.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with Cluster(Path(name), agent_flags=flags) as made:
            try:
                made.start()
                yield made
            finally:
                made.agents[0].stop()
                remove_containers(DOCKER_SOCKET, made.work_dir(1))


def checks(cluster: Cluster) -> dict[str, tuple[str, Any]]:
    """What each container's check saw, as Marathon shows it and as Mesos does."""
    shown: dict[str, str] = {}
    for instance in cluster.call("GET", "/v2/pods/mixed::status").json()["instances"]:
        for each in instance["containers"]:
            values = [c["value"] for c in each["conditions"] if c["name"] == "check"]
            shown[each["name"]] = "".join(values)
    url = f"{cluster.masters[0].url}/api/v1"
    answer = requests.post(url, json={"type": "GET_TASKS"}, timeout=60).json()
    found: dict[str, tuple[str, Any]] = {}
    for task in answer["get_tasks"].get("tasks", []):
        seen = task.get("statuses", [{}])[-1].get("check_status", {})
        kind = seen.get("type", "").lower()
        found[task["name"]] = (shown.get(task["name"], ""), seen.get(kind))
    return found


def test_containers_get_users_a_folder_their_image_checks_and_time(cluster: Cluster) -> None:
    created = cluster.call("POST", "/v2/pods", json=POD)
    assert created.status_code == 201, created.text
    wanted = {
        "web": ("200", {"status_code": 200}),
        "writer": ("4", {"exit_code": 4}),
        "idle": ("false", {"succeeded": False}),
    }
    until("the result of every check", lambda: checks(cluster) == wanted)
    [run] = cluster.work_dir(1).glob("slaves/*/frameworks/*/executors/*/runs/*-*-*-*-*")
    assert (run / "data/said").read_text() == "nobody\n"
    [uid] = run.glob("containers/*-*-*-*-*/uid")
    assert uid.read_text() == f"{uid.stat().st_uid}\n", "it started in the sandbox, as this host's"
    assert uid.owner() == "nobody"
    deleted = cluster.call("DELETE", "/v2/pods/mixed")
    assert deleted.status_code == 202
    until("its own end", (run / "data/ended").exists)
    cluster.wait_deployed()
    until("no process of it", lambda: not cluster.live_tasks("/mixed"))
