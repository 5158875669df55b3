"""Prints what the resource algebra and the codings of an offer cost.

The allocator does each operation once per agent and role.

Run: `python -m mesostk.tests.perf.resources_cost`. Microseconds per call, best of five.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable

from mesostk.resources.resources import Resources
from mesostk.wire import protobuf
from mesostk.wire.json import decode, encode
from mesostk.wire.mesos import Offer

CALLS = 20_000


def best_us(work: Callable[[], object]) -> float:
    """Microseconds per call."""
    return min(timeit.repeat(work, number=CALLS, repeat=5)) / CALLS * 1e6


def main() -> None:
    """Print one line per operation."""
    agent = Resources.scalars(cpus=24, mem=64_000, disk=500_000) + Resources.ports((31000, 32000))
    task = Resources.scalars(cpus=0.5, mem=128, disk=10) + Resources.ports((31005, 31006))
    left = agent - task
    wire = agent.to_wire()
    offer = encode(
        {
            "id": {"value": "O1"},
            "framework_id": {"value": "F"},
            "agent_id": {"value": "S1"},
            "hostname": "agent1",
            "resources": wire,
        }
    )
    record = decode(offer, Offer)
    packed = protobuf.encode(record)
    cases: dict[str, Callable[[], object]] = {
        "add": lambda: left + task,
        "subtract": lambda: agent - task,
        "contains": lambda: agent.contains(task),
        "equal": lambda: left + task == agent,
        "allocate": lambda: agent.allocate("eng"),
        "allocatable_to": lambda: agent.allocatable_to("eng"),
        "of wire": lambda: Resources.of(wire),
        "to wire": lambda: Resources(dict(agent.items())).to_wire(),
        "legacy object": agent.legacy_object,
        "offer: decode": lambda: decode(offer, Offer),
        "offer: encode": lambda: encode(record),
        "protobuf: decode": lambda: protobuf.decode(packed, Offer),
        "protobuf: encode": lambda: protobuf.encode(record),
    }
    for name, work in cases.items():
        sys.stdout.write(f"{name:18}{best_us(work):8.2f} µs\n")


if __name__ == "__main__":
    main()
