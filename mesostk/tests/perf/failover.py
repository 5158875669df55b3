"""How long a cluster is without a leading master: `python -m mesostk.tests.perf.failover`.

3 ZooKeeper members, 3 masters, agents with tasks, 2 Marathons, all as processes. Each round ends
the leading master, by SIGKILL (its session must run out) or by SIGTERM (it leaves at once), and
takes the time until another one answers for the cluster, and until every agent and Marathon are
back.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import tempfile
import time
from pathlib import Path

from mesostk.testing.processes import Cluster, until


def end_leader(cluster: Cluster, number: int) -> tuple[float, float]:
    """Seconds until another master serves, and until the cluster is whole."""
    old = cluster.wait_leader()
    started = time.perf_counter()
    old.signal(number)
    until("another leader", lambda: cluster.leader(but=old))
    leading = time.perf_counter() - started
    cluster.wait_ready()
    return leading, time.perf_counter() - started


def measure(cluster: Cluster, rounds: int) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        pairs = [end_leader(cluster, number) for _ in range(rounds)]
        for what, times in zip(("serves", "whole"), zip(*pairs, strict=True), strict=True):
            shown = " ".join(f"{one:.2f}" for one in times)
            median = statistics.median(times)
            print(f"{signal.Signals(number).name}: {what} after {median:.2f} s ({shown})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agents", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--session-s", type=float, default=10.0)
    options = parser.parse_args()
    print(
        f"{platform.node()}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f};"
        f" {options.tasks} tasks, session timeout {options.session_s:g} s"
    )
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(
            Path(directory),
            masters=3,
            agents=options.agents,
            marathons=2,
            zookeepers=3,
            session_s=options.session_s,
        ) as cluster,
    ):
        cluster.start()
        app = {"id": "/load", "cmd": "exec sleep 10000", "cpus": 0.1, "mem": 8}
        cluster.call("POST", "/v2/apps", json={**app, "instances": options.tasks})
        before = cluster.wait_running("/load", options.tasks)
        measure(cluster, options.rounds)
        assert cluster.wait_running("/load", options.tasks) == before
        print(f"all {len(before)} tasks run on in the processes they began in")


if __name__ == "__main__":
    main()
