"""Short tasks per second: `python -m mesostk.tests.perf.throughput --executor command|custom`.

A real master and three real agents. The framework keeps `--in-flight` tasks on their way until
`--count` have ended, each either the command `true` (a supervised process of its own) or a task of
a custom executor, one to an agent, that answers TASK_RUNNING and TASK_FINISHED at once. Time runs
from the first ACCEPT to the last terminal update. Beside the rate, which holds the machine's other
work, stands what each daemon spent on a task: at two cores that bounds the rate of an idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mesostk
from mesostk.testing.processes import Cluster
from mesostk.testing.scheduler import TERMINAL
from mesostk.tests.perf import machine
from mesostk.tests.perf.framework import Framework, scalars

_ROOT = Path(mesostk.__file__).parent.parent


class Short(Framework):
    """Launches `count` short tasks, at most `in_flight` at a time."""

    def __init__(self, url: str, count: int, in_flight: int, *, custom: bool) -> None:
        super().__init__(url, "throughput")
        self._count = count
        self._room = in_flight
        self._per_agent = max(1, in_flight // 3)
        self._custom = custom
        self._offers: list[dict[str, Any]] = []
        self._launched = 0
        self.ended = 0
        self.began = 0.0
        self.took = 0.0

    def on_offers(self, offers: list[dict[str, Any]]) -> None:
        self._offers += offers
        self._fill()

    def _fill(self) -> None:
        while self._offers:
            wanted = min(self._room, self._per_agent, self._count - self._launched)
            if wanted == 0:
                return
            if not self.began:
                self.began = time.perf_counter()
            offer = self._offers.pop(0)
            number = min(wanted, self._fitting(offer))
            self.accept(offer, [self._task(offer, self._launched + n) for n in range(number)])
            self._launched += number
            self._room -= number

    def _fitting(self, offer: dict[str, Any]) -> int:
        """Tasks that fit in what was offered: the remains of earlier ones come back in pieces."""
        values = {r["name"]: r.get("scalar", {}).get("value", 0) for r in offer["resources"]}
        executor = 1.0 if self._custom else 0.0
        fitting = min(values.get("cpus", 0) - 0.1 * executor, 0.01 * values.get("mem", 0)) / 0.01
        return max(0, int(fitting - 32 * executor))

    def _task(self, offer: dict[str, Any], number: int) -> dict[str, Any]:
        name = f"t{number}"
        task = {
            "name": name,
            "task_id": {"value": name},
            "agent_id": offer["agent_id"],
            "resources": scalars(cpus=0.01, mem=1),
        }
        if not self._custom:
            return {**task, "command": {"value": "true"}}
        command = f"PYTHONPATH={_ROOT} exec {sys.executable} -m mesostk.tests.perf.executor"
        executor = {
            "executor_id": {"value": f"answers-{offer['agent_id']['value']}"},
            "command": {"value": command},
            "resources": scalars(cpus=0.1, mem=32),
        }
        return {**task, "executor": executor}

    def on_update(self, status: dict[str, Any]) -> None:
        if status["state"] not in TERMINAL:
            return
        if status["state"] != "TASK_FINISHED":
            raise RuntimeError(f"{status['state']}: {status.get('message')}")
        self.ended += 1
        self._room += 1
        self.took = time.perf_counter() - self.began
        if self.ended == self._count:
            self.done.set()
        elif self._room >= self._per_agent or self._launched == self._count:
            self._fill()


async def measure(cluster: Cluster, options: argparse.Namespace) -> None:
    custom = options.executor == "custom"
    url = cluster.masters[0].url
    framework = Short(url, options.count, options.in_flight, custom=custom)
    before, own = machine.spent(cluster), time.process_time()
    await framework.subscribe()
    await framework.done.wait()
    own = time.process_time() - own
    after = machine.spent(cluster)
    framework.call("TEARDOWN")
    await asyncio.sleep(0)
    framework.close()
    print(
        f"{options.count} tasks, {options.executor}: {framework.took:.2f} s,"
        f" {options.count / framework.took:.0f} tasks/s"
    )
    print(machine.cost(before, after, options.count, "task, executors with their agents"))
    print(f"  of the framework itself: {own / options.count * 1e3:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", choices=["command", "custom"], default="command")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--in-flight", type=int, default=150)
    parser.add_argument("--agents", type=int, default=3)
    parser.add_argument("--limit-s", type=float, default=110.0)
    options = parser.parse_args()
    print(machine.describe())
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(
            Path(directory),
            agents=options.agents,
            marathons=0,
            # What is left of an offer counts as refused for this long, and is then offered again.
            master_flags=["--allocation_interval=10ms"],
        ) as cluster,
    ):
        cluster.start()
        machine.run(measure(cluster, options), options.limit_s)


if __name__ == "__main__":
    main()
