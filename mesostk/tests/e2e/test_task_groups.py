"""LAUNCH_GROUP through a real master and agent: the default executor and its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, until
from mesostk.testing.scheduler import Scheduler, scalars


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("groups"), marathons=0) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def scheduler(bare: Cluster) -> Iterator[Scheduler]:
    with Scheduler(bare.masters[0].url, "TASK_KILLING_STATE", "PARTITION_AWARE") as made:
        yield made


def executor(name: str) -> dict[str, Any]:
    return {
        "type": "DEFAULT",
        "executor_id": {"value": name},
        "resources": scalars(cpus=0.1, mem=32, disk=10),
    }


def task(name: str, value: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "task_id": {"value": name},
        "resources": scalars(cpus=0.1, mem=32),
        "command": {"value": value},
        **more,
    }


def agent_tasks(bare: Cluster) -> dict[str, Any]:
    answer = requests.post(
        f"{bare.agents[0].url}/api/v1", json={"type": "GET_STATE"}, timeout=60
    ).json()
    found: dict[str, Any] = answer["get_state"]
    return found


def is_back(bare: Cluster) -> bool:
    answer = bare.agents[0].get("/metrics/snapshot")
    return answer is not None and answer.json()["slave/registered"] == 1.0


def test_a_group_runs_shares_a_volume_and_ends_its_executor(
    bare: Cluster, scheduler: Scheduler
) -> None:
    shared = {
        "type": "MESOS",
        "volumes": [
            {
                "mode": "RW",
                "container_path": "data",
                "source": {
                    "type": "SANDBOX_PATH",
                    "sandbox_path": {"type": "PARENT", "path": "shared"},
                },
            }
        ],
    }
    wait = "until [ -e data/said ]; do sleep 0.05; done; cat data/said"
    scheduler.launch_group(
        scheduler.offer(),
        executor("pair"),
        task("reads", wait, container=shared),
        task("writes", "echo hello > data/new && mv data/new data/said", container=shared),
    )
    running = scheduler.until_state("reads", "TASK_RUNNING")
    assert running["executor_id"]["value"] == "pair"
    nested = running["container_status"]["container_id"]
    scheduler.until_state("writes", "TASK_FINISHED")
    scheduler.until_state("reads", "TASK_FINISHED")
    assert (
        scheduler.statuses("writes")[-1]["container_status"]["container_id"]["parent"]
        == (nested["parent"])
    )
    [sandbox] = Path(bare.work_dir(1)).glob(
        f"slaves/*/frameworks/*/executors/pair/runs/{nested['parent']['value']}"
    )
    told = (sandbox / "containers" / nested["value"] / "stdout").read_text()
    assert told == "hello\n"
    failure = until("the end of the executor", lambda: scheduler.of_type("FAILURE"))[0]
    assert (failure["executor_id"]["value"], failure.get("status", 0)) == ("pair", 0)
    state = requests.get(f"{bare.masters[0].url}/state", timeout=60).json()
    [framework] = [f for f in state["frameworks"] if f["id"] == scheduler.framework_id["value"]]
    assert (framework["executors"], framework["used_resources"]["cpus"]) == ([], 0.0)


def test_a_task_that_fails_takes_its_group_along_and_no_other(
    bare: Cluster, scheduler: Scheduler, tmp_path: Path
) -> None:
    fails = task("b", f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; exit 3")
    scheduler.launch_group(scheduler.offer(), executor("e"), task("a", "sleep 600"), fails)
    scheduler.until_state("a", "TASK_RUNNING")
    (tmp_path / "go").touch()
    scheduler.until_state("b", "TASK_FAILED")
    scheduler.until_state("a", "TASK_KILLED")
    assert "TASK_KILLING" in scheduler.states("a")
    until(
        "the end of the executor",
        lambda: agent_tasks(bare)["get_executors"].get("executors", []) == [],
    )


def test_groups_live_on_with_their_agent_killed(bare: Cluster, scheduler: Scheduler) -> None:
    offer = scheduler.offer()
    scheduler.launch_group(
        offer, executor("long"), task("one", "sleep 600"), task("two", "sleep 600")
    )
    scheduler.until_state("one", "TASK_RUNNING")
    before = scheduler.until_state("two", "TASK_RUNNING")["container_status"]
    bare.agents[0].kill()
    until("the agent", lambda: is_back(bare))
    state = agent_tasks(bare)
    assert len(state["get_tasks"]["launched_tasks"]) == 2
    [shown] = state["get_executors"]["executors"]
    assert shown["executor_info"]["executor_id"]["value"] == "long"
    scheduler.launch_group(scheduler.offer(), executor("long"), task("three", "sleep 600"))
    after = scheduler.until_state("three", "TASK_RUNNING")["container_status"]
    assert after["container_id"]["parent"] == before["container_id"]["parent"]
    scheduler.call("KILL", {"task_id": {"value": "one"}})
    scheduler.until_state("one", "TASK_KILLED")
    scheduler.until_state("two", "TASK_KILLED")
    assert scheduler.states("three")[-1] == "TASK_RUNNING"
    body = {"executor_id": {"value": "long"}, "agent_id": offer["agent_id"]}
    scheduler.call("SHUTDOWN", body)
    scheduler.until_state("three", "TASK_KILLED")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"type": None}, "'ExecutorInfo.type' must be set"),
        ({"command": {"value": "true"}}, "must not be set for 'DEFAULT' executor"),
        ({"resources": scalars(cpus=0.1, disk=1)}, "has less than 32 mem"),
        ({"resources": scalars(cpus=0.1, mem=32)}, "has no disk"),
        ({"container": {"type": "DOCKER", "docker": {"image": "x"}}}, "Docker ContainerInfo"),
        ({"resources": scalars(cpus=99, mem=32, disk=1)}, "uses more resources"),
    ],
)
def test_a_group_that_cannot_be_is_refused_whole(
    scheduler: Scheduler, change: dict[str, Any], why: str
) -> None:
    asked = {name: part for name, part in {**executor("bad"), **change}.items() if part is not None}
    scheduler.launch_group(scheduler.offer(), asked, task("x", "true"), task("y", "true"))
    for name in ("x", "y"):
        status = scheduler.until_state(name, "TASK_ERROR")
        assert status["reason"] == "REASON_TASK_GROUP_INVALID"
        assert why in status["message"]
