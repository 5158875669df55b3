"""Reservations and persistent volumes with real daemons: through restarts of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from mesostk.testing.frameworks import HandFramework
from mesostk.testing.processes import Cluster, until

Body = dict[str, Any]
ROLE = "web"
LABELS = {"labels": [{"key": "stack", "value": "db"}]}


def reserved(name: str, amount: float) -> Body:
    reservation = {"type": "DYNAMIC", "role": ROLE, "labels": LABELS}
    return {
        "name": name,
        "type": "SCALAR",
        "scalar": {"value": amount},
        "reservations": [reservation],
    }


def volume(size: float) -> Body:
    disk = {"persistence": {"id": "v1"}, "volume": {"mode": "RW", "container_path": "data"}}
    return {**reserved("disk", size), "disk": disk}


def launch(offer: Body, name: str, command: str) -> Body:
    info = {
        "name": name,
        "task_id": {"value": name},
        "agent_id": offer["agent_id"],
        "command": {"value": command},
        "resources": [reserved("cpus", 0.1), reserved("mem", 32.0), volume(64.0)],
    }
    return {"type": "LAUNCH", "launch": {"task_infos": [info]}}


def operate(url: str, kind: str, **body: Any) -> requests.Response:
    return requests.post(f"{url}/api/v1", json={"type": kind, kind.lower(): body}, timeout=60)


def agent_of(url: str) -> Body:
    found: Body = requests.get(f"{url}/slaves", timeout=60).json()["slaves"][0]
    return found


def test_what_a_task_wrote_to_its_volume_is_there_for_the_next(tmp_path: Path) -> None:
    with Cluster(tmp_path, masters=1, agents=1, marathons=0) as cluster:
        cluster.start()
        url = cluster.masters[0].url
        info: Body = {"roles": [ROLE], "failover_timeout": 600.0}
        info["capabilities"] = [
            {"type": name} for name in ("MULTI_ROLE", "RESERVATION_REFINEMENT", "PARTITION_AWARE")
        ]
        with HandFramework(url, **info) as framework:
            _write_and_read(cluster, url, framework)
        _by_hand(cluster, url)


def _write_and_read(cluster: Cluster, url: str, framework: HandFramework) -> None:
    offer = framework.offer()
    amounts = [reserved("cpus", 0.1), reserved("mem", 32.0), reserved("disk", 64.0)]
    framework.accept(
        offer,
        {"type": "RESERVE", "id": {"value": "r1"}, "reserve": {"resources": amounts}},
        {"type": "CREATE", "create": {"volumes": [volume(64.0)]}},
        launch(offer, "writer", "echo kept > data/file"),
    )
    told = framework.next("UPDATE_OPERATION_STATUS")["status"]
    assert told["state"] == "OPERATION_FINISHED"
    answer = framework.call(
        "ACKNOWLEDGE_OPERATION_STATUS",
        agent_id=offer["agent_id"],
        operation_id={"value": "r1"},
        uuid=told["uuid"]["value"],
    )
    assert answer.status_code == 202
    framework.status("TASK_FINISHED")
    place = cluster.work_dir(1) / "volumes" / "roles" / ROLE / "v1"
    assert (place / "file").read_text() == "kept\n"

    # Neither a restart of the agent nor a new leader forgets it.
    cluster.agents[0].kill()
    cluster.masters[0].kill()
    cluster.wait_ready()
    assert framework.subscribe()["type"] == "SUBSCRIBED"
    offer = framework.offer()
    assert [item for item in offer["resources"] if "disk" in item and "persistence" in item["disk"]]
    framework.accept(offer, launch(offer, "reader", "test $(cat data/file) = kept"))
    framework.status("TASK_FINISHED")
    operations = operate(url, "GET_OPERATIONS").json()["get_operations"]
    assert operations.get("operations", []) == []


def _by_hand(cluster: Cluster, url: str) -> None:
    """The framework is gone and has left its volume; operators clear up, by either interface."""
    agent = agent_of(url)
    assert agent["reserved_resources"][ROLE]["disk"] == 64.0
    agent_id = {"value": agent["id"]}
    assert operate(url, "DESTROY_VOLUMES", agent_id=agent_id, volumes=[volume(64.0)]).ok
    place = cluster.work_dir(1) / "volumes" / "roles" / ROLE / "v1"
    until("the volume to be removed", lambda: None if place.exists() else True)
    form = {"slaveId": agent["id"], "resources": json.dumps([reserved("disk", 64.0)])}
    answer = requests.post(f"{url}/unreserve", data=form, timeout=60)
    assert (answer.status_code, answer.text) == (202, "")
    answer = requests.post(f"{url}/unreserve", data=form, timeout=60)
    assert answer.status_code == 409
    answer = requests.post(f"{url}/reserve", data={"slaveId": agent["id"]}, timeout=60)
    assert (answer.status_code, answer.text) == (
        400,
        "Missing 'resources' query parameter in the request body",
    )
    left = agent_of(url)["reserved_resources"][ROLE]
    assert (left["disk"], left["mem"]) == (0.0, 32.0)
