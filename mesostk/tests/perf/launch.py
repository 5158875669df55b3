"""How long one launch takes: `python -m mesostk.tests.perf.launch [--count 200]`.

A launch is timed from the call until its task has exec'ed, the `pid` record being on disk. The
ratio is to `subprocess.Popen(["sh", "-c", "true"])` of this process, which keeps no record, no exit
code past its own life and no escalation. Both are measured in turns, so that a noisy machine
disturbs both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import uvloop

from mesostk.agent import cgroups, processes
from mesostk.agent.cgroup_limits import Limits
from mesostk.agent.checkpoint import ExitRecord
from mesostk.agent.launch import LauncherClient
from mesostk.agent.launch_spec import LaunchSpec


class Ended:
    """Which runs have ended."""

    def __init__(self) -> None:
        self._told: dict[str, asyncio.Event] = {}

    def on_exit(self, container_id: str, _record: ExitRecord) -> None:
        self._told.setdefault(container_id, asyncio.Event()).set()

    async def of(self, container_id: str) -> None:
        await self._told.setdefault(container_id, asyncio.Event()).wait()


def spec_of(name: str, sandbox: Path, command: str, groups: cgroups.RunCgroups) -> LaunchSpec:
    return LaunchSpec(
        container_id=name,
        executable="sh",
        argv=("sh", "-c", command),
        env={"PATH": os.environ["PATH"]},
        sandbox=sandbox,
        cgroups=groups.cgroups,
        supervisor_cgroups=groups.supervisor_cgroups,
        oom_events=groups.oom_events,
    )


def private_kib(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))


async def measure(count: int, directory: str, sandbox: Path) -> None:
    ended = Ended()
    client = LauncherClient(Path(directory, "runtime"), ended.on_exit)
    await client.start()
    ours, popen, whole = [], [], []
    for n in range(count):
        started = time.perf_counter()
        process = subprocess.Popen(["sh", "-c", "true"])  # noqa: ASYNC220 - the yardstick
        popen.append(time.perf_counter() - started)
        process.wait()
        started = time.perf_counter()
        await client.launch(spec_of(f"r{n}", sandbox, "true", cgroups.RunCgroups()))
        ours.append(time.perf_counter() - started)
        await ended.of(f"r{n}")
        whole.append(time.perf_counter() - started)
    report("Popen(sh -c true)", popen, popen)
    report("launch until exec", ours, popen)
    report("launch until exit is known", whole, popen)
    tree = await measure_limited(client, sandbox, count, ended, popen)
    await measure_rate(client, sandbox, count, ended)
    run = await client.launch(spec_of("big", sandbox, "sleep 60", cgroups.RunCgroups()))
    print(f"private memory of a supervisor: {private_kib(run.pid)} KiB")
    client.kill(run, 0.0)
    await ended.of("big")
    await client.close()
    if tree is not None:
        await asyncio.to_thread(remove, tree)


async def measure_limited(
    client: LauncherClient, sandbox: Path, count: int, ended: Ended, popen: list[float]
) -> cgroups.Cgroups | None:
    tree, found = cgroups.detect("mesostk-perf")
    print(found)
    if tree is None:
        return None
    times, made = [], []
    limits = Limits(cpus=0.1, memory_bytes=32 << 20)
    for n in range(count):
        started = time.perf_counter()
        groups = tree.create(f"c{n}", limits)
        made.append(time.perf_counter() - started)
        await client.launch(spec_of(f"c{n}", sandbox, "true", groups))
        times.append(time.perf_counter() - started)
        await ended.of(f"c{n}")
        tree.destroy(f"c{n}")
    report("making cgroups", made, popen)
    report("cgroups and launch until exec", times, popen)
    return tree


def remove(tree: cgroups.Cgroups) -> None:
    """Remove the supervisors' cgroups once the last of them, without an agent, has ended."""
    for top in tree.of("any").supervisor_cgroups:
        while processes.read(f"{top}/cgroup.procs"):
            time.sleep(0.005)
        os.rmdir(top)  # noqa: PTH106 - nothing blocks in a cgroup tree


async def measure_rate(client: LauncherClient, sandbox: Path, count: int, ended: Ended) -> None:
    names = [f"p{n}" for n in range(count)]
    started = time.perf_counter()
    specs = [spec_of(name, sandbox, "true", cgroups.RunCgroups()) for name in names]
    await asyncio.gather(*(client.launch(spec) for spec in specs))
    print(f"{count} launches asked at once: {count / (time.perf_counter() - started):.0f} per s")
    await asyncio.gather(*(ended.of(name) for name in names))


def report(what: str, times: list[float], yardstick: list[float]) -> None:
    p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
    ratio = p50 / statistics.median(yardstick)
    print(
        f"{what:32} p50 {p50 * 1e3:6.2f} ms   min {min(times) * 1e3:6.2f}   "
        f"p99 {p99 * 1e3:6.2f}   ratio {ratio:5.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="launches of each kind")
    count = parser.parse_args().count
    print(f"{platform.machine()}, {os.cpu_count()} cpus, Python {platform.python_version()}")
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        sandbox = Path(directory, "sandbox")
        sandbox.mkdir()
        runner.run(measure(count, directory, sandbox))


if __name__ == "__main__":
    main()
