"""Seeded worlds of real cores, with faults; a failing one prints its seed and what went wrong.

One seed again: `pytest mesostk/tests/sim -k seed43`. More of them: `MESOSTK_SEEDS=2000`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from mesostk.testing.faults import Kind
from mesostk.testing.world import World

SEEDS = int(os.environ.get("MESOSTK_SEEDS", "200"))

#: How often each kind of fault struck, and which seeds were run, in this session.
COUNTS: Counter[Kind] = Counter()
RAN: set[int] = set()


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed{seed}")
def test_whatever_goes_wrong_the_cluster_ends_with_exactly_what_was_asked_for(seed: int) -> None:
    world = World(seed)
    world.prove()
    COUNTS.update(world.faults.counts)
    RAN.add(seed)


@pytest.mark.parametrize("seed", range(max(8, SEEDS // 25)))
def test_whatever_goes_wrong_agents_check_their_tasks_and_roles_get_what_is_theirs(
    seed: int,
) -> None:
    World(seed, kinds=("checked", "checked"), roles=True).prove()


def test_every_kind_of_fault_struck_in_the_seeds_above() -> None:
    if len(RAN) < min(SEEDS, 100):
        pytest.skip("only a part of the seeds ran, so nothing can be said about the whole")
    missing = [kind for kind in Kind if COUNTS[kind] == 0]
    assert not missing, f"never happened: {missing}; happened: {dict(COUNTS)}"


def test_a_small_world_in_peace_just_works() -> None:
    world = World(1, masters=1, agents=2, marathons=1, apps=1)
    world.run(60.0)
    world.heal()
    world.settle(60.0)
    world.oracle.at_rest()
    assert world.oracle.started, "nothing ever ran"
    assert not world.faults.log


def trace(seed: int) -> str:
    """Everything that was logged in the world of `seed`."""
    world = World(seed)
    world.run(5.0)
    world.chaos(60.0)
    return "\n".join([*world.ground.log, *world.faults.log])


def test_a_seed_is_the_same_world_in_every_process() -> None:
    program = "from mesostk.tests.sim.test_world import trace; print(trace(3))"
    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(traces) == 1
    assert len(traces.pop().splitlines()) > 50
