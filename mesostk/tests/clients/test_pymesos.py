"""pymesos, unmodified, with a stand-in for its C dependency: scheduler, executor, operator API.

scheduler  registered, resourceOffers, launchTasks, statusUpdate (acknowledged), killTask,
           sendFrameworkMessage, frameworkMessage, reconcileTasks, suppressOffers, reviveOffers,
           declineOffer, executorLost, stop (TEARDOWN)
executor   registered, reregistered, launchTask, sendStatusUpdate, killTask, frameworkMessage,
           sendFrameworkMessage
operator   agent: getHealth, getFlags, getVersion, getMetrics, getLoggingLevel, setLoggingLevel,
           getState, getFrameworks, getExecutors, getTasks, getContainers, launchNestedContainer,
           waitNestedContainer, killNestedContainer, removeNestedContainer
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, until

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An agent that gives executors the time that pymesos' back-off needs."""
    flags = ["--executor_reregistration_timeout=15secs"]
    directory = tmp_path_factory.mktemp("cluster")
    with Cluster(directory, marathons=0, agent_flags=flags) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def home(stranger_home: Any) -> str:
    return f"{stranger_home('pymesos')}:{HERE / 'standin'}"


def test_a_scheduler_and_its_executor_talk_die_and_come_back(patient: Cluster, home: str) -> None:
    executor = f"PYTHONPATH={home} {sys.executable} -P -W ignore {HERE / 'pymesos_executor.py'}"
    address = patient.masters[0].url.removeprefix("http://")
    script = [sys.executable, "-P", "-W", "ignore", str(HERE / "drive_pymesos.py")]
    log = patient.directory / "pymesos.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*script, address, executor],
            env={**os.environ, "PYTHONPATH": home},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            if line == "@\n":
                patient.agents[0].kill()
                print(file=process.stdin, flush=True)
                continue
            told = json.loads(line)
    assert process.returncode == 0, log.read_text()
    states = [(task, state) for task, state in told["states"]]
    assert states[:4] == [
        ("t1", "TASK_RUNNING"),
        ("t2", "TASK_RUNNING"),
        ("t2", "TASK_FINISHED"),
        ("t1", "TASK_KILLED"),
    ]
    assert states[-1] == ("t3", "TASK_FAILED")
    assert told["data"][0] == "from pymesos"
    assert told["lost"] == [3 << 8]

    def is_over() -> bool:
        state = requests.get(f"{patient.masters[0].url}/state", timeout=60).json()
        return told["framework_id"] in [one["id"] for one in state["completed_frameworks"]]

    until("a framework that was torn down", is_over)


def test_its_agent_operator_driver_reads_and_runs_containers(patient: Cluster, home: str) -> None:
    address = patient.agents[0].url.removeprefix("http://")
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", str(HERE / "drive_pymesos_agent.py"), address],
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["getHealth"] == {"healthy": True}
    assert told["getVersion"]["version_info"]["version"] == "1.11.0"
    assert "slave/uptime_secs" in {one["name"] for one in told["getMetrics"]["metrics"]}
    assert {"work_dir", "port"} <= {one["name"] for one in told["getFlags"]["flags"]}
    assert told.keys() >= {"getState", "getFrameworks", "getExecutors", "getTasks", "getContainers"}
