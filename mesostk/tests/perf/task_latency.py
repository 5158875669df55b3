"""One task's latencies, as a framework sees them: `python -m mesostk.tests.perf.task_latency`.

A real master and a real agent; the framework subscribes by the v1 scheduler API and launches one
command task after another. ACCEPT to TASK_RUNNING and KILL to TASK_KILLED are timed from the call
until the update is read; the updates before it are acknowledged on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from mesostk.testing.processes import Cluster
from mesostk.tests.perf import machine
from mesostk.tests.perf.framework import Framework, scalars


class OneByOne(Framework):
    """Launches and kills `count` tasks in turn."""

    def __init__(self, url: str, count: int, pause_s: float) -> None:
        super().__init__(url, "latency")
        self._left = count
        self._pause_s = pause_s
        self._offers: list[dict[str, Any]] = []
        self._busy = False
        self._started = 0.0
        self.running_ms: list[float] = []
        self.killed_ms: list[float] = []

    def on_offers(self, offers: list[dict[str, Any]]) -> None:
        self._offers += offers
        self._next()

    def _next(self) -> None:
        if self._left == 0:
            if not self._busy:
                self.done.set()
        elif self._offers and not self._busy:
            self._busy = True
            self._left -= 1
            # So that each launch meets an idle cluster.
            asyncio.get_running_loop().call_later(self._pause_s, self._launch)

    def _launch(self) -> None:
        offer = self._offers.pop()
        name = f"t{self._left}"
        task = {
            "name": name,
            "task_id": {"value": name},
            "agent_id": offer["agent_id"],
            "resources": scalars(cpus=0.01, mem=1),
            "command": {"value": "exec sleep 1000"},
        }
        self._started = time.perf_counter()
        self.accept(offer, [task])

    def _kill(self, status: dict[str, Any]) -> None:
        self._started = time.perf_counter()
        self.call("KILL", kill={"task_id": status["task_id"], "agent_id": status["agent_id"]})

    def on_update(self, status: dict[str, Any]) -> None:
        took = (time.perf_counter() - self._started) * 1e3
        if status["state"] == "TASK_RUNNING":
            self.running_ms.append(took)
            asyncio.get_running_loop().call_later(self._pause_s, self._kill, status)
        elif status["state"] == "TASK_KILLED":
            self.killed_ms.append(took)
            self._busy = False
            self._next()
        elif status["state"] not in {"TASK_STARTING", "TASK_KILLING"}:
            raise SystemExit(f"{status['state']}: {status.get('message')}")


def report(what: str, times: list[float]) -> None:
    times = sorted(times)
    print(
        f"{what} over {len(times)}: median {statistics.median(times):.1f} ms,"
        f" min {times[0]:.1f}, p90 {times[int(len(times) * 0.9)]:.1f}, max {times[-1]:.1f}"
    )


async def measure(url: str, count: int, pause_s: float) -> None:
    framework = OneByOne(url, count, pause_s)
    await framework.subscribe()
    await framework.done.wait()
    framework.close()
    report("ACCEPT to TASK_RUNNING", framework.running_ms)
    report("KILL to TASK_KILLED", framework.killed_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--pause-s", type=float, default=0.02)
    parser.add_argument("--launcher", choices=["posix", "linux"], default="posix")
    options = parser.parse_args()
    print(machine.describe())
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(
            Path(directory),
            marathons=0,
            # What is left of an offer counts as refused for this long, and is then offered again.
            master_flags=["--allocation_interval=10ms"],
            agent_flags=[f"--launcher={options.launcher}"],
        ) as cluster,
    ):
        cluster.start()
        before = machine.spent(cluster)
        work = measure(cluster.masters[0].url, options.count, options.pause_s)
        machine.run(work, limit_s=30 + options.count)
        print(machine.cost(before, machine.spent(cluster), options.count, "task"))
        figures = cluster.agents[0].get("/metrics/snapshot")
    for name in ("checkpoint/write", "containerizer/launch"):
        if figures is not None:
            print(f"  of it on the agent, {name}: p50 {figures.json()[f'{name}_ms/p50']:.1f} ms")


if __name__ == "__main__":
    main()
