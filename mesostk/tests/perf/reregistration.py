"""A master of many agents: `python -m mesostk.tests.perf.reregistration [--agents 10000]`.

One real master process; the agents are simulated, all in one other process, each with its link to
the master over loopback (simagents.py). In turn:

  registration   all agents are new; each gets its record in the registry
  offers         a framework subscribes, then revives, and waits for the offers of all agents
  updates        status updates, each in a POST of its own as of quiet agents, then 64 in one as of
                 busy ones; handed to the framework, which acknowledges each
  failover       the master is killed, restarted, and every agent registers again with its tasks

The master stands alone (its registry is a file); with ZooKeeper a failover takes the time until
another one leads on top (failover.py).
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mesostk.testing.processes import Cluster, Unit, until
from mesostk.tests.perf import machine
from mesostk.tests.perf.framework import Framework


class Counting(Framework):
    """Counts agents offered and updates heard; declines everything for long."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "perf", id={"value": "F"}, failover_timeout=1e6)
        self.wanted = 0
        self.heard = 0
        self._held: list[dict[str, str]] = []

    async def count(self, wanted: int) -> float:
        """Seconds until `wanted` of what is counted have come."""
        began = time.perf_counter()
        self.wanted = wanted
        if self.heard < wanted:
            await self.done.wait()
        self.done.clear()
        self.heard = 0
        return time.perf_counter() - began

    def _count(self, number: int) -> None:
        self.heard += number
        if self.wanted and self.heard >= self.wanted:
            self.done.set()

    def on_offers(self, offers: list[dict[str, Any]]) -> None:
        self._held += [offer["id"] for offer in offers]
        self._count(len(offers))

    def on_update(self, status: dict[str, Any]) -> None:
        del status
        self._count(1)

    def give_back(self) -> None:
        """Decline all that was offered."""
        decline = {"offer_ids": self._held, "filters": {"refuse_seconds": 1e6}}
        self.call("DECLINE", decline=decline)
        self._held = []


class Fleet:
    """The process of the simulated agents."""

    def __init__(self, url: str, agents: int, tasks: int) -> None:
        argv = [sys.executable, "-m", "mesostk.tests.perf.simagents", url, str(agents), str(tasks)]
        self._popen = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def order(self, text: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(text + "\n")
        self._popen.stdin.flush()

    def answer(self) -> None:
        """Wait for the next one; RuntimeError if the process has ended."""
        assert self._popen.stdout is not None
        if not self._popen.stdout.readline():
            raise RuntimeError("the simulated agents have ended")

    def close(self) -> None:
        self._popen.kill()
        self._popen.communicate()


def lag(master: Unit) -> str:
    """Of the master's loop since it started; measured twice a second."""

    def figures() -> dict[str, float] | None:
        answer = master.get("/metrics/snapshot", timeout_s=30.0)
        found = answer.json() if answer is not None else {}
        return found if "loop/lag_ms/p99" in found else None

    found = until("a measured loop", figures)
    return (
        f"lag of the loop p50 {found['loop/lag_ms/p50']:.1f},"
        f" p99 {found['loop/lag_ms/p99']:.1f}, max {found['loop/lag_ms/max']:.1f} ms"
    )


def report(what: str, took: float, master: Unit, before: float) -> None:
    assert master.pid is not None
    own = machine.processor_s(master.pid) - before
    print(
        f"{what}: {took:.2f} s, of it processor time of the master {own:.2f} s;"
        f" {lag(master)}; memory {machine.memory_mib(master.pid):.0f} MiB"
    )


async def measure_framework(master: Unit, fleet: Fleet, agents: int, updates: int) -> None:
    assert master.pid is not None
    framework = Counting(master.url)
    for name in ("SUBSCRIBE", "REVIVE"):
        before, began = machine.processor_s(master.pid), time.perf_counter()
        if name == "SUBSCRIBE":
            await framework.subscribe()
        else:
            framework.call("REVIVE")
        await framework.count(agents)
        took = time.perf_counter() - began
        own = machine.processor_s(master.pid) - before
        print(
            f"{name} until all of {agents} agents are offered: {took * 1e3:.0f} ms,"
            f" of it processor time of the master {own * 1e3:.0f} ms"
        )
        framework.give_back()
        await asyncio.sleep(0.5)  # the refusals are taken; they are no part of what follows
    for batch in (1, 64):
        before = machine.processor_s(master.pid)
        fleet.order(f"updates {updates} {batch}")
        began = time.perf_counter()
        await framework.count(updates)
        await framework.settle()
        took = time.perf_counter() - began
        # The kernel counts in ticks.
        own = max(0.01, machine.processor_s(master.pid) - before)
        print(
            f"{updates} status updates, {batch} in a POST, acknowledged: {updates / took:.0f}/s;"
            f" the master takes {own / updates * 1e6:.0f} µs of processor time for one,"
            f" {updates / own:.0f}/s"
        )
        await asyncio.to_thread(fleet.answer)
    framework.close()


def measure(cluster: Cluster, fleet: Fleet, options: argparse.Namespace) -> None:
    master = cluster.masters[0]
    assert master.pid is not None
    before, began = machine.processor_s(master.pid), time.perf_counter()
    fleet.order("start")
    fleet.answer()
    report(f"{options.agents} new agents", time.perf_counter() - began, master, before)
    # Tasks are brought by agents that come back: the second failover meets a full registry.
    for number in range(options.failovers):
        master.kill()
        began = time.perf_counter()
        until("another master", lambda: master.get("/health"))
        assert master.pid is not None
        serves = time.perf_counter() - began
        fleet.order("await")
        fleet.answer()
        took = time.perf_counter() - began
        report(
            f"failover {number + 1}, {options.agents} agents x {options.tasks}", took, master, 0.0
        )
        print(f"  of it {serves:.2f} s until the new master answered")
    work = measure_framework(master, fleet, options.agents, options.updates)
    machine.run(work, limit_s=100.0)
    print(lag(master))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--failovers", type=int, default=2, help="at least 1")
    parser.add_argument("--updates", type=int, default=20_000)
    options = parser.parse_args()
    print(machine.describe())
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory), agents=0, marathons=0) as cluster,
    ):
        cluster.start()
        fleet = Fleet(cluster.masters[0].url, options.agents, options.tasks)
        try:
            measure(cluster, fleet, options)
        finally:
            fleet.close()


if __name__ == "__main__":
    main()
