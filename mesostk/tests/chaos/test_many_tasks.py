"""Three masters, five agents and two hundred tasks through kills, pauses and clocks that are wrong.

One master's clock is an hour ahead, one agent's two hours behind (wall clock only, libfaketime).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mesostk.testing.processes import Cluster, Unit, until
from mesostk.testing.requirements import require_program, require_zookeeper

pytestmark = pytest.mark.zookeeper

TASKS = 200
AHEAD_S, BEHIND_S = 3600, -7200


def skewed(seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock is wrong by so much."""
    require_program("faketime", "faketime")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require_zookeeper()
    environs = {"mesos-master1": skewed(AHEAD_S), "mesos-agent1": skewed(BEHIND_S)}
    with Cluster(
        tmp_path_factory.mktemp("many"),
        masters=3,
        agents=5,
        marathons=2,
        zookeepers=3,
        session_s=8.0,  # half of what keeps this machine busy is the cluster itself
        environs=environs,
    ) as made:
        made.start()
        yield made


def shown_skew_s(unit: Unit) -> float:
    """How far a daemon's clock is ahead of ours, by when it says it was started."""
    answer = until("its state", lambda: unit.get("/state"))
    return float(answer.json()["start_time"]) - time.time()


def leads(cluster: Cluster, but: Unit) -> Unit:
    return until("another leading master", lambda: cluster.leader(but=but))


def test_two_hundred_tasks_are_neither_lost_nor_doubled(cluster: Cluster) -> None:
    assert round(shown_skew_s(cluster.agents[0]) / 3600) == BEHIND_S / 3600
    body = {"id": "/many", "cmd": "exec sleep 10000", "cpus": 0.1, "mem": 4, "instances": TASKS}
    created = cluster.call("POST", "/v2/apps", json=body)
    assert created.status_code == requests.codes.created, created.text
    before = cluster.wait_running("/many", TASKS)

    # Whoever has the wrong clock leads in time: the others die until it does.
    wrong = cluster.masters[0]
    while (old := cluster.wait_leader()) is not wrong:
        old.kill(restart=False)
        leads(cluster, old)
    assert round(shown_skew_s(wrong) / 3600) == AHEAD_S / 3600
    for master in cluster.masters:
        master.start()
    cluster.wait_ready()

    # A pause of half the cluster, longer than a session lasts, ends the leaders' terms.
    master, marathon = cluster.wait_leader(), cluster.leading_marathon()
    paused = [master, marathon, *cluster.agents[1:3]]
    ended = len(master.codes)
    for unit in paused:
        unit.signal(signal.SIGSTOP)
    leads(cluster, master)
    until("another leading Marathon", lambda: cluster.leading_marathon() is not marathon)
    for unit in paused:
        unit.resume()
    cluster.agents[0].kill()
    cluster.agents[4].kill()
    until("the end of the leader that slept", lambda: len(master.codes) > ended)
    cluster.wait_ready()
    assert cluster.wait_running("/many", TASKS) == before
    cluster.wait_deployed()
    cluster.destroy("/many")
