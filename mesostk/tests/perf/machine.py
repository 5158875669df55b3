"""What every figure says of its machine, and what processes have cost."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Coroutine, Mapping
from typing import Any

import psutil
import uvloop

from mesostk.testing.processes import Cluster


def describe() -> str:
    """Cores and load: a number without them says little."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f}"
    )


def processor_s(pid: int) -> float:
    """Processor seconds of a process, its descendants, and those of them that have ended."""
    total = 0.0
    process = psutil.Process(pid)
    for one in [process, *process.children(recursive=True)]:
        try:
            total += sum(one.cpu_times()[:4])  # own and ended children's, user and system
        except psutil.NoSuchProcess:  # its parent has it counted by the next look
            continue
    return total


def memory_mib(pid: int) -> float:
    """Resident memory of one process."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def spent(cluster: Cluster) -> dict[str, float]:
    """Processor seconds by kind of daemon so far."""
    kinds = {"masters": cluster.masters, "agents": cluster.agents, "Marathon": cluster.marathons}
    return {
        kind: sum(processor_s(unit.pid) for unit in units if unit.pid is not None)
        for kind, units in kinds.items()
        if units
    }


def cost(before: Mapping[str, float], after: Mapping[str, float], count: int, what: str) -> str:
    """Milliseconds of processor time for each of `count`, by kind of daemon."""
    shares = (f"{kind} {(after[kind] - before[kind]) / count * 1e3:.2f}" for kind in after)
    return f"  processor time per {what}: {', '.join(shares)} ms"


def run(work: Coroutine[Any, Any, None], limit_s: float) -> None:
    """Run `work` on a uvloop; an error in any callback, or `limit_s` of it, ends the figure."""

    async def main() -> None:
        task = asyncio.ensure_future(work)
        failures: list[BaseException] = []

        def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            failures.append(context.get("exception") or RuntimeError(context["message"]))
            task.cancel()

        asyncio.get_running_loop().set_exception_handler(fail)
        try:
            async with asyncio.timeout(limit_s):
                await task
        except asyncio.CancelledError:
            if failures:
                raise failures[0] from None
            raise

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
