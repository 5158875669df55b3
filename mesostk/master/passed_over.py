"""Who has refused all that they would be offered of an agent, and so is not asked again.

Filters say the same, but have to be compared one by one: 15 µs for each framework and agent. What
is kept here goes through a cluster whose frameworks all wait for something else in a few µs an
agent. It never says more than the filters do: whatever ends one, or makes more of the agent free,
ends what was concluded from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mesostk.resources.resources import Resources

if TYPE_CHECKING:
    from mesostk.master.state import Agent

Want = tuple[str, str]  # (framework id, role)


class _OfAgent(msgspec.Struct, eq=False):
    """`wants` have refused all of it for as long as just `free` is free."""

    free: Resources
    wants: set[Want] = msgspec.field(default_factory=set)


class PassedOver:
    """By agent, the (framework, role) that need not be asked about what is free of it now."""

    def __init__(self) -> None:
        self._by_agent: dict[str, _OfAgent] = {}

    def of(self, agent: Agent) -> set[Want]:
        """To be read, and added to whoever has refused all that is free of the agent now."""
        passed = self._by_agent.get(agent.id)
        if passed is None or passed.free != agent.free:
            passed = self._by_agent[agent.id] = _OfAgent(agent.free)
        return passed.wants

    def ask_again(self, agent_id: str, want: Want) -> None:
        """A filter of `want` for the agent has ended."""
        passed = self._by_agent.get(agent_id)
        if passed is not None:
            passed.wants.discard(want)

    def forget_agent(self, agent_id: str) -> None:
        """All filters for the agent have ended, or it is gone."""
        self._by_agent.pop(agent_id, None)

    def forget_framework(self, framework_id: str) -> None:
        """What the framework can use has changed, and so what its filters leave."""
        for passed in self._by_agent.values():
            passed.wants = {want for want in passed.wants if want[0] != framework_id}

    def clear(self) -> None:
        """Under quota, what can be offered changes without anything becoming free."""
        self._by_agent.clear()
