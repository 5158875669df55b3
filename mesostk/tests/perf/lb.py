"""marathon-lb's figures: `python -m mesostk.tests.perf.lb [--apps 10 100 1000] [--rounds 10]`.

Each size is 3 tasks per app, with vhosts, as the original was measured (docs/marathon-lb.md has its
figures beside these). A scripted Marathon answers with bytes made beforehand; HAProxy is real.
The bad app has a template that HAProxy refuses, and no line number is told to marathon-lb in
advance. Memory is the private memory of the marathon-lb process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from mesostk.lb import bluegreen, model, render, runtime
from mesostk.lb.head import HeadSettings, head
from mesostk.lb.templates import Templates
from mesostk.testing.balanced import Backend, Balancer, Load, ScriptedMarathon, until
from mesostk.testing.lb import app, task

IP = "127.0.0.64"
PORT = 25_000


def many(count: int) -> dict[str, dict[str, Any]]:
    """`count` apps with 3 tasks each, none of which is checked."""
    found = {}
    for number in range(count):
        tasks = [
            {
                **task(n, 31000 + n, f"127.1.{number // 250}.{number % 250 + 1}"),
                "id": f"a{number}.{n}",
            }
            for n in range(3)
        ]
        found[f"/app{number}"] = app(
            f"/app{number}",
            {"HAPROXY_0_VHOST": f"app{number}.example", "HAPROXY_0_BIND_ADDR": IP},
            ports=[PORT + 100 + number],
            tasks=tasks,
        )
    return found


def encoded(apps: dict[str, dict[str, Any]]) -> bytes:
    return json.dumps({"apps": list(apps.values())}).encode()


def whole_config(raw: bytes, rounds: int) -> list[float]:
    """Seconds from the bytes of `/v2/apps` to the text of the file."""
    templates = Templates(head(HeadSettings()))
    settings = model.Settings(groups=frozenset({"external"}))
    resolver = model.Resolver(model.literal, lambda _task: False)
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        merged, _refused = bluegreen.merge(model.read_apps(raw)[0])
        made = model.build(merged, settings, resolver)
        render.render(made, templates, render.Settings()).text()
        taken.append(time.perf_counter() - begun)
    return taken


def private_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) / 1024


def shown(name: str, values: list[float]) -> None:
    ordered = sorted(values)
    print(
        f"  {name}: median {statistics.median(ordered) * 1000:.0f} ms,"
        f" from {ordered[0] * 1000:.0f} to {ordered[-1] * 1000:.0f}"
    )


async def event_to_server(
    marathon: ScriptedMarathon, balancer: Balancer, apps: dict[str, dict[str, Any]], rounds: int
) -> list[float]:
    """Seconds from an event until HAProxy lists the new server as ready."""
    taken = []
    for number in range(rounds):
        # Not the first app: the load goes there, and its new server would be nobody.
        one = apps[f"/app{1 + number % (len(apps) - 1)}"]
        port = 32000 + number
        one["tasks"].append({**task(9, port, "127.1.9.9"), "id": f"new.{number}"})
        marathon.raw = encoded(apps)
        name = f"127_1_9_9_{port}"

        # Only this backend: listing all servers every 10 ms would be the larger part of the load.
        question = f"show servers state {one['id'][1:]}_{one['ports'][0]}"

        async def listed(name: str = name, question: str = question) -> bool:
            state = await runtime.ask(balancer.stats_socket, question)
            return any(s.name == name and s.admin == 0 for s in runtime.servers(state))

        begun = time.perf_counter()
        await marathon.emit()
        await until(listed, "new server", 20)
        taken.append(time.perf_counter() - begun)
        await asyncio.sleep(0.5)  # each round begins with nothing under way
    return taken


async def bad_app(
    marathon: ScriptedMarathon, balancer: Balancer, apps: dict[str, dict[str, Any]]
) -> float:
    """Seconds until a good new app is served when a bad one comes with it."""
    bad = app(
        "/bad", {"HAPROXY_0_BACKEND_HEAD": "backend {backend}\n  nonsense\n"}, ports=[PORT + 99]
    )
    good = app("/good", {"HAPROXY_0_BIND_ADDR": IP}, ports=[PORT + 98])
    marathon.raw = encoded({**apps, "/bad": bad, "/good": good})

    question = f"show servers state good_{PORT + 98}"

    async def served() -> bool:
        return "31514" in await runtime.ask(balancer.stats_socket, question)

    begun = time.perf_counter()
    await marathon.emit("api_post_event")
    await until(served, "the good app", 60)
    return time.perf_counter() - begun


async def measure(count: int, rounds: int, directory: Path) -> None:
    print(f"{count} apps, {count * 3} servers")
    apps = many(count)
    marathon = ScriptedMarathon(IP)
    await marathon.start()
    marathon.raw = encoded(apps)
    shown("whole config", whole_config(marathon.raw, rounds))
    backend = Backend(IP, "load")
    await backend.start()
    apps["/app0"]["tasks"] = [{**task(1, backend.port, IP), "id": "load.1"}]
    marathon.raw = encoded(apps)
    balancer = Balancer(directory, IP, [marathon.url], PORT)
    balancer.make_certificate()
    balancer.start_haproxy()
    begun = time.perf_counter()
    balancer.start()
    try:
        await balancer.serves(count * 3 - 2)
        print(f"  from start to all servers: {time.perf_counter() - begun:.2f} s")
        async with Load(balancer.url(), 50, {"Host": "app0.example"}) as load:
            before = await balancer.metrics()
            shown("event to server", await event_to_server(marathon, balancer, apps, rounds))
            after = await balancer.metrics()
            print(f"  reloads meanwhile: {after['lb/reloads'] - before['lb/reloads']:.0f}")
            delay_s = await bad_app(marathon, balancer, apps)
            print(f"  good app beside a bad one: {delay_s:.2f} s")
        print(f"  requests: {load.answers.total()} ok, {len(load.failures)} failed")
        assert balancer.process is not None
        print(f"  memory: {private_mib(balancer.process.pid):.0f} MiB")
        metrics = await balancer.metrics()
        for name in ("render", "validation", "reload", "pass"):
            print(f"  median {name}: {metrics[f'lb/{name}_ms/p50']:.0f} ms")
    finally:
        balancer.close()
        await marathon.stop()
        backend.die()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--apps", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for count in given.apps:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(measure(count, given.rounds, Path(directory)))


if __name__ == "__main__":
    main()
