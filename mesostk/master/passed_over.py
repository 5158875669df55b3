"""Who has refused all that they would be offered of an agent, and so is not asked again.

::

    refusals of an agent, by what was refused:   {all of it: F1 F2 … F99,  cpus:1: F7}
    what is free now ─▶ is it within `all of it`? ─▶ then within all that F1 … F99 could be offered

Filters say the same, but have to be compared one by one for each framework and agent. Frameworks
mostly refuse alike, so one comparison serves all who did; what it says goes for all that is ever
free within it. Whatever else a comparison of one filter has shown is remembered for as long as just
that is free. What is kept never says more than the filters do: whatever ends one ends what was
concluded from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mesostk.resources.resources import Resources

if TYPE_CHECKING:
    from mesostk.master.state import Agent

Want = tuple[str, str]  # (framework id, role)


class Filter(msgspec.Struct, eq=False):
    """Offers within `resources` (no allocation role) are held back until `until`."""

    resources: Resources
    until: float


class Refusals(msgspec.Struct, eq=False):
    """Filters of one framework for one role, by agent; `expiries` is a heap of (time, agent).

    `armed_for` is the earliest time for which a timer runs; it outlives `clear`, so that endless
    refusing and reviving does not pile up timers.
    """

    by_agent: dict[str, list[Filter]] = msgspec.field(default_factory=dict)
    expiries: list[tuple[float, str]] = msgspec.field(default_factory=list)
    armed_for: float | None = None


class _Alike(NamedTuple):
    """`wants` have filters for the same; `resources` is the one bag that all of them hold."""

    resources: Resources
    wants: set[Want]


class _OfAgent(msgspec.Struct, eq=False):
    """`wants` have refused all of it for as long as just `free` is free.

    `covers` are those wanting that were found to be all among them, None if that is not known.
    """

    free: Resources
    wants: set[Want] = msgspec.field(default_factory=set)
    covers: frozenset[Want] | None = None


class PassedOver:
    """By agent, the (framework, role) that need not be asked about what is free of it now."""

    def __init__(self) -> None:
        self._by_agent: dict[str, _OfAgent] = {}
        #: Who has a filter for what, by agent.
        self._refused: dict[str, dict[Resources, _Alike]] = {}
        #: Each want as the one object that all sets hold: sets of the same objects compare fast.
        self._wants: dict[Want, Want] = {}

    def intern(self, want: Want) -> Want:
        """`want` itself, or its equal that was known before."""
        return self._wants.setdefault(want, want)

    def of(self, agent: Agent) -> set[Want]:
        """To be read, and added to whoever has refused all that is free of the agent now."""
        return self._of(agent).wants

    def _of(self, agent: Agent) -> _OfAgent:
        passed = self._by_agent.get(agent.id)
        if passed is not None and passed.free is agent.free:
            return passed
        if passed is None or passed.free != agent.free:
            passed = self._by_agent[agent.id] = _OfAgent(agent.free)
            for alike in self._refused.get(agent.id, {}).values():
                if _is_within(agent.free, alike.resources):
                    passed.wants |= alike.wants
        return passed

    def is_everybody(self, agent: Agent, wanting: frozenset[Want]) -> bool:
        """Whether all of `wanting` have refused all that is free of the agent now."""
        passed = self._of(agent)
        if passed.covers is not wanting and wanting <= passed.wants:
            passed.covers = wanting
        return passed.covers is wanting

    # -- filters --------------------------------------------------------------------------------

    def refuse(self, agent_id: str, want: Want, resources: Resources) -> Resources:
        """`want` has a filter for `resources` of the agent from now on; returns the bag to keep."""
        want = self.intern(want)
        refused = self._refused.setdefault(agent_id, {})
        alike = refused.get(resources)
        if alike is None:
            alike = refused[resources] = _Alike(resources, set())
        alike.wants.add(want)
        passed = self._by_agent.get(agent_id)
        if passed is not None and _is_within(passed.free, alike.resources):
            passed.wants.add(want)
        return alike.resources

    def ask_again(self, agent_id: str, want: Want, left: Iterable[Resources] = ()) -> None:
        """Filters of `want` for the agent have ended; those for `left` have not."""
        passed = self._by_agent.get(agent_id)
        if passed is not None:
            passed.wants.discard(want)
            passed.covers = None
        refused = self._refused.get(agent_id, {})
        for alike in list(refused.values()):
            alike.wants.discard(want)
            if not alike.wants:
                del refused[alike.resources]
        for resources in left:
            self.refuse(agent_id, want, resources)

    def forget_agent(self, agent_id: str) -> None:
        """All filters for the agent have ended, or it is gone."""
        self._by_agent.pop(agent_id, None)
        self._refused.pop(agent_id, None)

    def forget_framework(self, framework_id: str) -> None:
        """What the framework can use has changed: what of that its filters leave is to be seen."""
        for agent_id, passed in self._by_agent.items():
            passed.wants = {want for want in passed.wants if want[0] != framework_id}
            passed.covers = None
            for alike in self._refused.get(agent_id, {}).values():
                if _is_within(passed.free, alike.resources):
                    passed.wants |= {want for want in alike.wants if want[0] == framework_id}

    def forget_want(self, want: Want) -> None:
        """Nobody wants that any more, and all its filters have ended."""
        self._wants.pop(want, None)

    def clear(self) -> None:
        """Under quota, what can be offered changes without anything becoming free."""
        self._by_agent.clear()

    # -- invariants -----------------------------------------------------------------------------

    def check(self, refusals: Mapping[Want, Refusals]) -> None:
        """Assert that who counts as having refused something has a filter for just that."""
        for agent_id, refused in self._refused.items():
            for resources, alike in refused.items():
                for want in alike.wants:
                    filters = refusals[want].by_agent[agent_id]
                    assert any(item.resources == resources for item in filters)


def _is_within(free: Resources, refused: Resources) -> bool:
    return free is refused or refused == free or refused.contains(free)
