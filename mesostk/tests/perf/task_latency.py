"""From ACCEPT to TASK_RUNNING, as a framework sees it: `python -m mesostk.tests.perf.task_latency`.

A real master and a real agent; the framework subscribes by the v1 scheduler API and launches one
command task after another. A time starts when the ACCEPT is sent and stops when the update with
TASK_RUNNING is read.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from mesostk.testing.processes import Cluster
from mesostk.wire.recordio import Decoder

FRAMEWORK = {"user": "root", "name": "latency", "checkpoint": True}


class Framework:
    """A scheduler of a few lines."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = f"{url}/api/v1/scheduler"
        self._stream_id = ""
        self._id: Any = None

    async def subscribe(self) -> AsyncIterator[dict[str, Any]]:
        """Events, from SUBSCRIBED on."""
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": FRAMEWORK}}
        decoder = Decoder()
        async with self._http.post(self._url, json=call) as answer:
            answer.raise_for_status()
            self._stream_id = answer.headers["Mesos-Stream-Id"]
            async for chunk in answer.content.iter_any():
                for record in decoder.feed(chunk):
                    event = msgspec.json.decode(record)
                    if event["type"] == "SUBSCRIBED":
                        self._id = event["subscribed"]["framework_id"]
                    yield event

    async def call(self, kind: str, **body: Any) -> None:
        message = {"type": kind, "framework_id": self._id, **body}
        headers = {"Mesos-Stream-Id": self._stream_id}
        async with self._http.post(self._url, json=message, headers=headers) as answer:
            answer.raise_for_status()

    async def launch(self, offer: dict[str, Any], task_id: str) -> None:
        """Accept the offer with one small command task."""
        resources = [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.01}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 1}},
        ]
        task = {
            "name": task_id,
            "task_id": {"value": task_id},
            "agent_id": offer["agent_id"],
            "resources": resources,
            "command": {"value": "exec sleep 1000"},
        }
        operation = {"type": "LAUNCH", "launch": {"task_infos": [task]}}
        accept = {
            "offer_ids": [offer["id"]],
            "operations": [operation],
            "filters": {"refuse_seconds": 0.0},
        }
        await self.call("ACCEPT", accept=accept)

    async def acknowledge(self, status: dict[str, Any]) -> None:
        fields = {name: status[name] for name in ("agent_id", "task_id", "uuid")}
        await self.call("ACKNOWLEDGE", acknowledge=fields)


async def measure(url: str, count: int, pause_s: float) -> list[float]:
    """Milliseconds of `count` launches."""
    times: list[float] = []
    started = 0.0
    offers: list[dict[str, Any]] = []
    waiting = False
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
        framework = Framework(http, url)
        async for event in framework.subscribe():
            if event["type"] == "OFFERS":
                offers += event["offers"]["offers"]
            elif event["type"] == "UPDATE":
                status = event["update"]["status"]
                if status["state"] == "TASK_RUNNING":
                    times.append((time.perf_counter() - started) * 1000)
                    waiting = False
                elif status["state"] != "TASK_STARTING":
                    raise SystemExit(f"{status['state']}: {status.get('message')}")
                if "uuid" in status:
                    await framework.acknowledge(status)
            if len(times) == count:
                return times
            if offers and not waiting:
                waiting = True
                await asyncio.sleep(pause_s)  # so that each launch meets an idle cluster
                offer = offers.pop()
                started = time.perf_counter()
                await framework.launch(offer, f"t{len(times)}")
    raise SystemExit("the stream has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--pause-s", type=float, default=0.02)
    options = parser.parse_args()
    print(f"{platform.node()}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory), marathons=0) as cluster,
    ):
        # What is left of an offer counts as refused for this long, and is then offered again.
        cluster.masters[0].argv.append("--allocation_interval=10ms")
        cluster.start()
        times = asyncio.run(measure(cluster.masters[0].url, options.count, options.pause_s))
        figures = cluster.agents[0].get("/metrics/snapshot")
    times.sort()
    print(
        f"ACCEPT to TASK_RUNNING over {len(times)}: median {statistics.median(times):.1f} ms,"
        f" min {times[0]:.1f}, p90 {times[int(len(times) * 0.9)]:.1f}, max {times[-1]:.1f}"
    )
    for name in ("checkpoint/write", "containerizer/launch"):
        if figures is not None:
            print(f"  of it on the agent, {name}: p50 {figures.json()[f'{name}_ms/p50']:.1f} ms")


if __name__ == "__main__":
    main()
