"""Bugs that are planted in the real code, one at a time: the teeth of the simulation.

A bug that no seed catches means that the simulation, or one of its referees, does not look where it
should.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mesostk.base.core import Core
from mesostk.testing.simhost import Broken
from mesostk.testing.world import World

Patch = pytest.MonkeyPatch
Bug = Callable[[Patch], None]

#: Seeds that are tried before a bug counts as not caught.
SEEDS = 200


class Planted:
    """A table of bugs by their names, which are those of the functions that plant them.

    `seen` tells where rare ones were seen last: looked at first, because the seeds before may cost
    half a minute.
    """

    def __init__(self, seen: Mapping[str, int]) -> None:
        self._seen = seen
        self.bugs: dict[str, Bug] = {}
        #: Worlds that are full of what a bug is about: it shows in fewer of them.
        self._worlds: dict[str, dict[str, Any]] = {}

    def bug(self, plant: Bug) -> Bug:
        """Enter a bug for worlds as they come."""
        self.bugs[plant.__name__.replace("_", " ")] = plant
        return plant

    def bug_in(self, **world: Any) -> Callable[[Bug], Bug]:
        """The same, for worlds that are given something."""

        def enter(plant: Bug) -> Bug:
            self._worlds[plant.__name__.replace("_", " ")] = world
            return self.bug(plant)

        return enter

    def bug_among(self, *kinds: str) -> Callable[[Bug], Bug]:
        """The same, for worlds with just these kinds of things."""
        return self.bug_in(kinds=kinds)

    def hunt(self, name: str, patch: Patch) -> None:
        """Plant a bug and look for a seed that catches it; AssertionError if none does."""
        self.bugs[name](patch)
        for seed in (self._seen.get(name, 0), *range(SEEDS)):
            try:
                World(seed, **self._worlds.get(name, {})).prove()
            except Broken as broken:
                print(f"{name}: {str(broken).splitlines()[0]}")
                return
        raise AssertionError(f"no seed below {SEEDS} sees that {name}")


def without_check(patch: Patch, core: type[Core]) -> None:
    """The core's own check would see it first; the referees must."""
    patch.setattr(core, "check", lambda _self: None)
