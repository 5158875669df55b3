"""Starting containers, against `docker run -d`: `python -m mesostk.tests.perf.docker_start`.

A start is timed from the order of the master until TASK_RUNNING is with it; the agent is a real
process, the master a few lines, the engine one of the script's own (needs root), the network the
host's. The ways are measured in turns, so that a noisy machine disturbs all alike: the agent, a
loop of `docker run -d`, and a service of Docker Swarm on the same engine. In between: what the
agent uses while the containers run idle.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from docker import APIClient
from msgspec.structs import replace

from mesostk.agent.tests.agent_bench import cpus, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster
from mesostk.testing.dockerd import IMAGE, Dockerd, load_image
from mesostk.wire.link import Kill
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    ContainerInfo,
    DockerInfo,
    DurationInfo,
    FrameworkID,
    KillPolicy,
    TaskID,
    TaskInfo,
)

IDLE_S = 10.0

#: Between two looks at Swarm's tasks, a tenth of its fastest deployment.
LOOK_S = 0.05


def contained(task_id: str) -> TaskInfo:
    return replace(
        task(task_id, "exec sleep 10000"),
        container=ContainerInfo(type="DOCKER", docker=DockerInfo(image=IMAGE)),
        # The weight that containers have by default, so that a busy machine treats all ways alike.
        resources=(cpus(1.0),),
        kill_policy=KillPolicy(grace_period=DurationInfo(nanoseconds=0)),
    )


async def heard(master: ScriptedMaster, names: list[str], states: Collection[str]) -> None:
    """Wait, however long it takes, until each of `names` was told to be in one of `states`."""
    async with master.changed:
        for name in names:
            await master.changed.wait_for(
                functools.partial(lambda one: any(s in states for s in master.states(one)), name)
            )


async def by_agent(master: ScriptedMaster, names: list[str]) -> float:
    """Seconds until all of `names`, ordered at once, are told to run."""
    started = time.perf_counter()
    for name in names:
        await master.launch(contained(name))
    await heard(master, names, ["TASK_RUNNING"])
    return time.perf_counter() - started


async def end(master: ScriptedMaster, names: list[str]) -> None:
    for name in names:
        await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID(name)))
    await heard(master, names, TERMINAL_STATES)


async def by_command(socket: Path, names: list[str]) -> float:
    """Seconds of a loop of `docker run -d`."""
    docker = ["docker", "-H", f"unix://{socket}"]
    what = [IMAGE, "/bin/sh", "-c", "exec sleep 10000"]
    started = time.perf_counter()
    for name in names:
        command = [*docker, "run", "-d", "--network=host", f"--name={name}", *what]
        await asyncio.to_thread(
            subprocess.run, command, check=True, stdout=subprocess.DEVNULL, timeout=60
        )
    taken = time.perf_counter() - started
    await asyncio.to_thread(
        subprocess.run, [*docker, "rm", "-f", *names], check=True, stdout=subprocess.DEVNULL
    )
    return taken


async def by_swarm(socket: Path, count: int) -> float:
    """Seconds until all replicas of a new service run, by what its manager says of them."""
    docker = ["docker", "-H", f"unix://{socket}"]
    create = ["service", "create", "--detach", "--no-resolve-image", "--name=many"]
    options = [f"--replicas={count}", "--network=host", "--restart-condition=none"]
    what = [IMAGE, "/bin/sh", "-c", "exec sleep 10000"]
    started = time.perf_counter()
    await asyncio.to_thread(_quietly, [*docker, *create, *options, *what])
    client = APIClient(base_url=f"unix://{socket}", version="auto")
    with contextlib.closing(client):
        while True:
            tasks = await asyncio.to_thread(client.tasks, {"service": "many"})
            states = Counter(task["Status"]["State"] for task in tasks)
            if states["running"] == count:
                break
            await asyncio.sleep(LOOK_S)
        taken = time.perf_counter() - started
        await asyncio.to_thread(_quietly, [*docker, "service", "rm", "many"])
        while await asyncio.to_thread(client.containers, quiet=True):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_S)
    return taken


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(engine: Dockerd, directory: Path, rounds: int) -> None:
    master = ScriptedMaster()
    runner = await master.start()
    (directory / "work").mkdir()
    agent = AgentProcess(
        directory / "work",
        master.url,
        "--containerizers=docker",
        f"--docker_socket={engine.socket}",
    )
    await agent.start()
    await master.until(lambda: bool(master.subscriptions))
    ones: tuple[list[float], list[float]] = ([], [])
    for n in range(rounds):
        ones[0].append(await by_agent(master, [f"one{n}"]))
        await end(master, [f"one{n}"])
        ones[1].append(await by_command(engine.socket, [f"bare{n}"]))
    report("1 container", *ones)
    for count in (10, 50):
        names = [f"many{count}-{n}" for n in range(count)]
        ours = await by_agent(master, names)
        if count == 50:
            await idle(agent, count)
        await end(master, names)
        report(f"{count} at once", [ours], [await by_command(engine.socket, names)])
        print(f"{'':12} Docker Swarm {await by_swarm(engine.socket, count):7.3f} s", flush=True)
    await agent.kill(signal.SIGTERM)
    await runner.cleanup()


async def idle(agent: AgentProcess, count: int) -> None:
    assert agent.process is not None
    before = processor_s(agent.process.pid)
    await asyncio.sleep(IDLE_S)
    used = (processor_s(agent.process.pid) - before) / IDLE_S
    print(f"agent while {count} containers run idle: {used:.2%} of a core")


def report(what: str, ours: list[float], bare: list[float]) -> None:
    p50, bare_p50 = statistics.median(ours), statistics.median(bare)
    print(
        f"{what:12} TASK_RUNNING {p50:7.3f} s   docker run -d {bare_p50:7.3f} s   "
        f"ratio {p50 / bare_p50:5.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="single starts of each kind")
    rounds = parser.parse_args().rounds
    print(f"{platform.machine()}, {os.cpu_count()} cpus, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "engine")
        root.mkdir()
        engine = Dockerd(root, live_restore=False)
        engine.start()
        try:
            load_image(engine.socket)
            swarm = ["swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1"]
            _quietly(["docker", "-H", f"unix://{engine.socket}", *swarm])
            asyncio.run(measure(engine, Path(directory), rounds))
        finally:
            engine.remove()


if __name__ == "__main__":
    main()
