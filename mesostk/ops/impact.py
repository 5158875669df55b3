"""What is lost with a host: apps below their minimum health, instances that fit nowhere, quorum.

Pure. Instances are placed anew in thought, one after the other, by the very rules that Marathon
places them by; what it says of the whole is therefore what would happen with the offers of now.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from mesostk.marathon.constraints import Placement, why_not

#: States in which an instance serves.
_RUNNING = "TASK_RUNNING"


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as its master knows it, with what nobody uses."""

    id: str
    place: Placement
    cpus: float
    mem_mib: float
    disk_mib: float
    is_active: bool = True


class Instance(msgspec.Struct, frozen=True):
    """One task of an app."""

    agent_id: str
    state: str
    healthy: bool = True


class App(msgspec.Struct, frozen=True, kw_only=True):
    """An app with its instances; `minimum` is upgradeStrategy.minimumHealthCapacity."""

    id: str
    instances: int
    cpus: float
    mem_mib: float
    disk_mib: float
    minimum: float = 1.0
    constraints: tuple[tuple[str, ...], ...] = ()
    is_resident: bool = False
    tasks: tuple[Instance, ...] = ()


class AppImpact(msgspec.Struct, frozen=True, kw_only=True):
    """What an app loses: `left` of `instances` serve at once, `needed` should."""

    app: str
    instances: int
    lost: int
    left: int
    needed: int
    #: Instances that no other agent takes, with the reasons and how many agents give each.
    unplaced: int
    reasons: tuple[str, ...] = ()

    @property
    def falls(self) -> bool:
        """Whether fewer serve than the app's minimum health capacity asks for."""
        return self.left < self.needed


class Ensemble(msgspec.Struct, frozen=True, kw_only=True):
    """A service of several members: who they are, which of them serve, and who leads."""

    name: str
    members: tuple[str, ...]
    serving: frozenset[str]
    leader: str = ""
    #: Whether more than half of the members must serve; else one is enough.
    needs_quorum: bool = False


class EnsembleImpact(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a service without the host."""

    name: str
    members: int
    left: int
    needed: int
    leads: bool
    #: Members on other hosts that do not serve now either.
    silent: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether the service is gone with the host."""
        return self.left < self.needed


def ensemble_impact(one: Ensemble, addresses: frozenset[str]) -> EnsembleImpact | None:
    """What `one` loses with the host of `addresses`; None if it has no member there."""
    if not addresses & set(one.members):
        return None
    needed = len(one.members) // 2 + 1 if one.needs_quorum else 1
    return EnsembleImpact(
        name=one.name,
        members=len(one.members),
        left=len(one.serving - addresses),
        needed=needed,
        leads=one.leader in addresses,
        silent=tuple(host for host in one.members if host not in one.serving | addresses),
    )


def app_impacts(
    apps: Sequence[App], agents: Sequence[Agent], lost: frozenset[str]
) -> list[AppImpact]:
    """What each app loses with the agents `lost` (ids), those that fall first."""
    free = _Free([one for one in agents if one.id not in lost and one.is_active])
    places = {one.id: one.place for one in agents}
    found = []
    for app in sorted(apps, key=lambda one: one.id):
        gone = [one for one in app.tasks if one.agent_id in lost]
        if gone:
            rest = [one for one in app.tasks if one.agent_id not in lost]
            found.append(_app_impact(app, gone, rest, free, places))
    return sorted(found, key=lambda one: (not one.falls, one.unplaced == 0, one.app))


def _app_impact(
    app: App,
    gone: Sequence[Instance],
    rest: Sequence[Instance],
    free: _Free,
    places: Mapping[str, Placement],
) -> AppImpact:
    reasons: Counter[str] = Counter()
    placed = [places[one.agent_id] for one in rest if one.agent_id in places]
    unplaced = 0
    for _ in gone:
        if app.is_resident:
            unplaced += 1
            reasons["its volume is on the host: it waits until that is back"] = 1
            continue
        place, why = free.take(app, placed)
        if place is None:
            unplaced += 1
            reasons |= why
        else:
            placed.append(place)
    serving = sum(1 for one in rest if one.state == _RUNNING and one.healthy)
    return AppImpact(
        app=app.id,
        instances=app.instances,
        lost=len(gone),
        left=serving,
        needed=math.ceil(app.instances * app.minimum),
        unplaced=unplaced,
        reasons=tuple(
            f"{text} ({n} agents)" if n > 1 else text for text, n in sorted(reasons.items())
        ),
    )


class _Free:
    """What the agents that stay have left, while instances are placed on them in thought."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self._agents = list(agents)

    def take(self, app: App, placed: Sequence[Placement]) -> tuple[Placement | None, Counter[str]]:
        """Where one more instance goes; else why each agent does not take it."""
        reasons: Counter[str] = Counter()
        order = sorted(
            range(len(self._agents)), key=lambda n: (-self._agents[n].cpus, self._agents[n].id)
        )
        for number in order:
            agent = self._agents[number]
            why = why_not(app.constraints, agent.place, placed, app.instances)
            if why is None:
                why = _too_small(app, agent)
            if why is None:
                self._agents[number] = msgspec.structs.replace(
                    agent,
                    cpus=agent.cpus - app.cpus,
                    mem_mib=agent.mem_mib - app.mem_mib,
                    disk_mib=agent.disk_mib - app.disk_mib,
                )
                return agent.place, reasons
            reasons[why] += 1
        if not self._agents:
            reasons["there is no other agent"] = 1
        return None, reasons


def _too_small(app: App, agent: Agent) -> str | None:
    for name, wanted, there in (
        ("cpus", app.cpus, agent.cpus),
        ("MiB of memory", app.mem_mib, agent.mem_mib),
        ("MiB of disk", app.disk_mib, agent.disk_mib),
    ):
        # Mesos counts in thousandths.
        if wanted > there + 0.0005:
            return f"needs {wanted:g} {name}, {agent.place.hostname} has {max(0.0, there):g} left"
    return None
