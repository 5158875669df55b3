"""Does an offer suit an app? Either what the task takes from it, or the first reason why not.

The reasons and their order are those of the queue's reject summaries (spec/marathon §1.5), so each
offer is booked on the first one that applies. Resources are taken reserved before unreserved.
Sources: spec/marathon §3.5, §3.6, §3.9, §2.1 (acceptedResourceRoles).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from mesostk.marathon import apps, constraints, ports
from mesostk.marathon.constraints import Placement
from mesostk.resources import ranges, scalar
from mesostk.resources.kinds import Kind
from mesostk.resources.quantity import Quantity
from mesostk.resources.ranges import Ranges
from mesostk.resources.resources import Resources
from mesostk.wire.marathon import AppDefinition
from mesostk.wire.mesos import Offer

Reason = Literal[
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
]

#: All reasons in funnel order.
REASONS: tuple[Reason, ...] = (
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
)

RoleBehaviour = Literal["any", "reserved", "unreserved"]

GPU_LABEL = "GPU_SCHEDULING_BEHAVIOR"

UNRESERVED = "*"

#: Container ports that are drawn, as the original draws them.
_CONTAINER_PORTS = range(1025, 65536)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's flags that decide on offers; `region` is Marathon's own."""

    role: str = UNRESERVED
    role_behaviour: RoleBehaviour = "any"
    region: str | None = None
    draining_s: float = 0.0
    maintenance_mode: bool = True
    gpus_are_scarce: bool = True


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """What the task takes; `left` is what the offer still holds afterwards.

    `ports` are host ports in the order of the definitions, None where none is published; `seen`
    are the ports that the task itself is told: the host port, else the one in its container.
    """

    resources: Resources
    left: Resources
    ports: tuple[int | None, ...]
    seen: tuple[int, ...]
    placement: Placement

    @property
    def host_ports(self) -> tuple[int, ...]:
        """The published ports only, as tasks show them."""
        return tuple(port for port in self.ports if port is not None)


class NoMatch(msgspec.Struct, frozen=True, kw_only=True):
    """`detail` is a sentence with the numbers, for people."""

    reason: Reason
    detail: str


def match(
    app: AppDefinition,
    offer: Offer,
    available: Resources,
    placed: Sequence[Placement],
    rng: random.Random,
    wall_s: float,
    rules: Rules,
) -> Match | NoMatch:
    """One instance of `app` on `offer`, of which `available` is not yet taken.

    `placed`: where the app's other instances of this config version are (see `constraints`).
    """
    usable = _usable(app, available, rules)
    if usable.is_empty:
        roles = ", ".join(sorted(accepted_roles(app, rules)))
        return NoMatch(reason="UnfulfilledRole", detail=f"nothing in the offer is for {roles}")
    refused = _why_not_there(app, offer, placed, wall_s, rules)
    if refused is not None:
        return refused
    taken: dict[Kind, Quantity] = {}
    for name, amount, reason in _needs(app):
        found = take(usable, name, amount)
        if found is None:
            has = scalar.to_text(usable.scalar(name))
            detail = f"needs {scalar.to_text(amount)} {name}, offer has {has}"
            return NoMatch(reason=reason, detail=detail)
        taken |= found
    wanted = ports.wanted_host_ports(app)
    parts = _port_parts(usable)
    chosen = ports.choose(wanted, [part for _, part in parts], rng)
    if isinstance(chosen, str):
        return NoMatch(reason="InsufficientPorts", detail=chosen)
    taken |= _of_parts(parts, chosen)
    if rules.gpus_are_scarce and _wastes_gpus(app, usable):
        detail = f"offer has GPUs and the app wants none; label {GPU_LABEL}=unrestricted lifts this"
        return NoMatch(reason="DeclinedScarceResources", detail=detail)
    resources = Resources(taken)
    return Match(
        resources=resources,
        left=available - resources,
        ports=chosen,
        seen=_seen(app, chosen, rng),
        placement=constraints.of_offer(offer),
    )


def accepted_roles(app: AppDefinition, rules: Rules) -> frozenset[str]:
    """The roles whose resources the app may use."""
    if app.accepted_resource_roles is not None:
        return frozenset(app.accepted_resource_roles)
    own = app.role if app.role is not None else rules.role
    if rules.role_behaviour == "unreserved":
        return frozenset({UNRESERVED})
    return frozenset({own}) if rules.role_behaviour == "reserved" else frozenset({own, UNRESERVED})


def _usable(app: AppDefinition, available: Resources, rules: Rules) -> Resources:
    """The part for the accepted roles; no volumes, no shared, revocable or refined resources."""
    roles = accepted_roles(app, rules)
    return available.filter(
        lambda kind: (
            kind.role in roles
            and kind.disk is None
            and not kind.shared
            and not kind.revocable
            and not kind.is_refined
        )
    )


def _why_not_there(
    app: AppDefinition,
    offer: Offer,
    placed: Sequence[Placement],
    wall_s: float,
    rules: Rules,
) -> NoMatch | None:
    place = constraints.of_offer(offer)
    names_domain = any(
        rule[0] in (constraints.REGION, constraints.ZONE) for rule in app.constraints
    )
    if rules.region is not None and place.region not in (None, rules.region) and not names_domain:
        detail = f"region {place.region} is not Marathon's; use an @region or @zone constraint"
        return NoMatch(reason="UnfulfilledConstraint", detail=detail)
    why = constraints.why_not(app.constraints, place, placed, app.instances)
    if why is not None:
        return NoMatch(reason="UnfulfilledConstraint", detail=why)
    if rules.maintenance_mode and _is_in_maintenance(offer, wall_s, rules.draining_s):
        return NoMatch(reason="AgentMaintenance", detail=f"{offer.hostname} is up for maintenance")
    return None


def _is_in_maintenance(offer: Offer, wall_s: float, draining_s: float) -> bool:
    window = offer.unavailability
    if window is None:
        return False
    start = window.start.nanoseconds / 1e9
    if start > wall_s + draining_s:
        return False
    return window.duration is None or wall_s < start + window.duration.nanoseconds / 1e9


def _needs(app: AppDefinition) -> tuple[tuple[str, int, Reason], ...]:
    return (
        ("cpus", scalar.from_float(app.cpus), "InsufficientCpus"),
        ("mem", scalar.from_float(app.mem), "InsufficientMemory"),
        ("disk", scalar.from_float(app.disk + _volumes_mib(app)), "InsufficientDisk"),
        ("gpus", scalar.from_float(app.gpus), "InsufficientGpus"),
    )


def _volumes_mib(app: AppDefinition) -> int:
    volumes = apps.persistent_volumes(app)
    return sum(volume.persistent.size for volume in volumes if volume.persistent is not None)


def placement_of(offer: Offer) -> Placement:
    """Where accepting `offer` would put an instance."""
    return constraints.of_offer(offer)


def _reserved_first(usable: Resources, name: str) -> list[tuple[Kind, Quantity]]:
    found = [(kind, amount) for kind, amount in usable.items() if kind.name == name]
    return sorted(found, key=lambda item: (not item[0].is_reserved, item[0].role))


def take(usable: Resources, name: str, amount: int) -> dict[Kind, Quantity] | None:
    """`amount` thousandths of scalar `name`; None if there is not that much."""
    taken: dict[Kind, Quantity] = {}
    for kind, quantity in _reserved_first(usable, name):
        if amount <= 0:
            break
        if isinstance(quantity, int) and not kind.is_counted:
            taken[kind] = min(quantity, amount)
            amount -= min(quantity, amount)
    return taken if amount <= 0 else None


def take_ports(usable: Resources, chosen: Sequence[int | None]) -> Resources:
    """The part of `usable` that holds these ports; None is no port."""
    return Resources(_of_parts(_port_parts(usable), chosen))


def _port_parts(usable: Resources) -> list[tuple[Kind, Ranges]]:
    return [
        (kind, quantity)
        for kind, quantity in _reserved_first(usable, "ports")
        if isinstance(quantity, tuple)
    ]


def _of_parts(
    parts: Sequence[tuple[Kind, Ranges]], chosen: Sequence[int | None]
) -> dict[Kind, Quantity]:
    left = ranges.of_values(port for port in chosen if port is not None)
    taken: dict[Kind, Quantity] = {}
    for kind, part in parts:
        mine = ranges.intersect(part, left)
        if mine:
            taken[kind] = mine
            left = ranges.subtract(left, mine)
    return taken


def _wastes_gpus(app: AppDefinition, usable: Resources) -> bool:
    allowed = app.labels.get(GPU_LABEL, "restricted") != "restricted"
    return usable.scalar("gpus") > 0 and app.gpus == 0 and not allowed


def _seen(app: AppDefinition, chosen: Sequence[int | None], rng: random.Random) -> tuple[int, ...]:
    if app.pod is not None:
        return tuple(port for port in chosen if port is not None)
    mappings = app.container.port_mappings if app.container is not None else ()
    seen = []
    for index, port in enumerate(chosen):
        if port is None:
            port = mappings[index].container_port
            if port == 0:
                port = rng.choice(_CONTAINER_PORTS)
        seen.append(port)
    return tuple(seen)
