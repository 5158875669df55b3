"""What Marathon's core costs: `python -m mesostk.tests.perf.marathon [--apps 1000]`.

The real core with a store in memory and agents that obey at once, so the figures are those of the
decisions and records alone: no ZooKeeper, no network. One line a figure, in processor time, which
other work on the machine disturbs least; the largest pause is the longest that the loop was not
given back, by the wall clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import time
from collections.abc import Callable

from mesostk.base.daemon import GC_THRESHOLDS
from mesostk.marathon import views
from mesostk.marathon.events import CreateApp, PutApps
from mesostk.marathon.pieces import encode_list
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World

#: A znode holds 1 MB; the store refuses more than half of it in one write.
ZNODE_LIMIT_BYTES = 512 * 1024


def app(id: str, instances: int) -> dict[str, object]:
    return {"id": id, "cmd": "exec sleep 1000", "cpus": 0.001, "mem": 1, "instances": instances}


def world() -> World:
    settings = Settings(
        max_instances_per_offer=100, launch_tokens=100_000, min_revive_interval_s=0.0
    )
    made = World(settings=settings)
    made.agents = {f"S{number}": f"agent{number}" for number in range(20)}
    made.connect()
    made.core.check = lambda: None  # type: ignore[method-assign] # invariants are not the figure
    return made


def run_all(made: World, wanted: int) -> float:
    """Seconds of processor time until that many tasks run."""
    began = time.process_time()
    for _ in range(1000):
        if sum(state == "TASK_RUNNING" for state in made.states.values()) >= wanted:
            return time.process_time() - began
        made.offer(cpus=64.0, mem=65536.0, agents=20)
        made.advance(0.1)
    raise SystemExit(f"not {wanted} tasks after 1000 rounds of offers")


def timed(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def say(what: str, value: float, unit: str) -> None:
    print(f"{what:<58} {value:>10.2f} {unit}")


async def listed(made: World) -> tuple[float, float, int]:
    """Seconds, longest pause and bytes of `GET /v2/apps?embed=apps.tasks`."""
    state = made.core.state
    parts = views.LISTED | views.embeds(["apps.tasks"])
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    began = time.process_time()
    found = views.matching_apps(state)
    body = await encode_list("apps", found, lambda each: views.app_info(state, each, parts))
    took = time.process_time() - began
    await asyncio.sleep(0)
    watcher.cancel()
    assert len(json.loads(body)["apps"]) == len(state.apps)
    return took, longest, len(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", type=int, default=200, help="apps, and instances of one app")
    count = parser.parse_args().apps
    gc.set_threshold(*GC_THRESHOLDS)  # as the daemon does
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")

    wide = world()
    wide.ask(CreateApp, body=app("/wide", count))
    say(f"1 app x {count} instances, all running", run_all(wide, count), "s")
    say("  events told", len(wide.emitted), "")

    many = world()
    bodies = tuple(app(f"/g{number % 20}/a{number}", 1) for number in range(count))
    say(f"PUT of {count} apps at once", timed(lambda: many.ask(PutApps, bodies=bodies)), "s")
    say(f"{count} apps x 1 instance, all running", run_all(many, count), "s")
    gc.freeze()  # as the daemon does with all it finds at its start
    change = ({"mem": 2},)
    took = timed(lambda: many.ask(PutApps, app_id="/g1/a1", bodies=change, force=True))
    say(f"PUT of one app among {count}", took * 1e3, "ms")
    largest = max(len(data) for data in many.store.values())
    say("largest record", largest / 1024, "KiB")
    assert largest < ZNODE_LIMIT_BYTES

    flat = world()
    flat.ask(PutApps, bodies=tuple(app(f"/a{n}", 0) for n in range(5 * count)))
    flat.advance(1.0)
    took = timed(lambda: flat.ask(PutApps, app_id="/a7", bodies=change))
    say(f"PUT of one app among {5 * count} in one group", took * 1e3, "ms")

    full = world()
    full.ask(PutApps, bodies=tuple(app(f"/g{n % 20}/a{n}", 3) for n in range(count)))
    run_all(full, 3 * count)
    took, longest, size = asyncio.run(listed(full))
    say(f"GET /v2/apps?embed=apps.tasks of {count} apps x 3", took * 1e3, "ms")
    say("  longest pause of the loop", longest * 1e3, "ms")
    say("  bytes", size / 1024, "KiB")
    say("memory at most", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")


if __name__ == "__main__":
    main()
