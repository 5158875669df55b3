"""What health checks cost the leader: `python -m mesostk.tests.perf.health_checks [--checks N]`.

The real prober, and a real server in another process that answers as little as a web server can.
Printed is the processor time of the prober's process by wall second, since the machine may have
more to do: probes that come late are counted, not made up for.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from mesostk.base.clock import RealClock
from mesostk.marathon.events import Probe, ProbeResult, StartProbes
from mesostk.marathon.instances import InstanceId
from mesostk.marathon.probes import Prober

INTERVAL_S = 10.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class _Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if b"\r\n\r\n" in data:
            self._transport.write(ANSWER)
            self._transport.close()


def serve(pipe: Connection) -> None:
    """The other process: one server on a port of its own."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Server, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def measure(port: int, kind: str, checks: int, seconds: float) -> None:
    results: list[ProbeResult] = []

    def start(name: str, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coro, name=name)

    prober = Prober(RealClock(), results.append, start)
    running = asyncio.get_running_loop().create_task(prober.run())
    for number in range(checks):
        probe = Probe(
            index=0,
            kind=kind,
            host="127.0.0.1",
            port=port,
            first_s=INTERVAL_S * number / checks,
            interval_s=INTERVAL_S,
            timeout_s=5.0,
        )
        prober.begin(StartProbes(InstanceId(f"i{number}"), (probe,)))
    await asyncio.sleep(2.0)
    results.clear()
    cpu, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    good = sum(1 for each in results if each.outcome.alive)
    print(
        f"{kind}: {len(results) / wall:.0f} of {checks / INTERVAL_S:.0f} probes/s wanted, "
        f"{good} of {len(results)} alive, {cpu / len(results) * 1e6:.0f} us of processor time, "
        f"{checks / INTERVAL_S * cpu / len(results):.2f} of a core for all"
    )
    running.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    wanted = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    for kind in ("HTTP", "TCP"):
        uvloop.run(measure(port, kind, wanted.checks, wanted.seconds))
    print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    server.terminate()


if __name__ == "__main__":
    main()
