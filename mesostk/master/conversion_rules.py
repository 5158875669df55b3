"""Why a RESERVE, UNRESERVE, CREATE, DESTROY, GROW_VOLUME or SHRINK_VOLUME may not be.

Each function returns the reason or None; whether the resources are there is not asked here.
Rules: spec/mesos.md §2.5, §4.2, and Mesos docs/reservation.md, docs/persistent-volume.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from mesostk.base.commands import id_error
from mesostk.master.state import Agent, Framework
from mesostk.resources import scalar, validity
from mesostk.resources.kinds import Kind
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import OfferOperation, Resource

#: Resources that one operation may name. The original has no limit; each costs some 30 µs of the
#: loop, and a body may name 100,000.
MOST_CONVERTED = 250


class Asker(msgspec.Struct, frozen=True):
    """Who asks: a framework in the role of its offer, or an operator.

    `principal` is what reservations and volumes must carry; None if nobody said who they are.
    """

    principal: str | None
    framework: Framework | None = None
    role: str | None = None


def resources_of(operation: OfferOperation) -> tuple[Resource, ...]:
    """Every resource that the operation names."""
    found: list[Resource] = []
    if operation.reserve is not None:
        found += [*operation.reserve.source, *operation.reserve.resources]
    if operation.unreserve is not None:
        found += operation.unreserve.resources
    for volumes in (operation.create, operation.destroy):
        if volumes is not None:
            found += volumes.volumes
    if operation.grow_volume is not None:
        found += [operation.grow_volume.volume, operation.grow_volume.addition]
    if operation.shrink_volume is not None:
        found.append(operation.shrink_volume.volume)
    return tuple(found)


def why_too_many(operation: OfferOperation, named: Sequence[Resource]) -> str | None:
    """Why an operation may not name so many resources."""
    if len(named) <= MOST_CONVERTED:
        return None
    return (
        f"'{str(operation.type).lower()}' names {len(named)} resources, at most {MOST_CONVERTED}"
        " are allowed: divide them among several calls"
    )


def why_not(operation: OfferOperation, asker: Asker, agent: Agent) -> str | None:
    """The first objection to an operation of `CHECKS`."""
    name = str(operation.type).lower()
    if getattr(operation, name) is None:
        return f"Expecting '{name}' to be present"
    named = resources_of(operation)
    if not named:
        return "No resources given"
    why = why_too_many(operation, named)
    if why is not None:
        return why
    why = validity.why_not_all(named)
    if why is not None:
        return f"Invalid resources: {why}"
    why = _feedback_error(operation, asker, agent) or _role_error(named, asker, agent)
    return why or CHECKS[str(operation.type)](operation, asker, agent)


def _feedback_error(operation: OfferOperation, asker: Asker, agent: Agent) -> str | None:
    if "AGENT_OPERATION_FEEDBACK" not in agent.capabilities:
        return f"Agent {agent.id} is not capable of applying operations; upgrade it"
    if operation.id is None or asker.framework is None:
        return None
    why = id_error(operation.id.value)
    if why is not None:
        return f"Operation ID is invalid: {why}"
    if operation.id.value in asker.framework.operations:
        return f"Operation has duplicate ID: {operation.id.value}"
    return None


def _role_error(named: Iterable[Resource], asker: Asker, agent: Agent) -> str | None:
    for kind in _kinds(named):
        if kind.revocable:
            return f"{kind.name} is revocable; revocable resources cannot be reserved"
        if "/" in kind.role and "HIERARCHICAL_ROLE" not in agent.capabilities:
            return f"The agent is not capable of reservations to the nested role '{kind.role}'"
        if kind.is_refined and "RESERVATION_REFINEMENT" not in agent.capabilities:
            return f"The agent is not capable of the refined reservation to '{kind.role}'"
        if asker.framework is None and kind.allocation_role is not None:
            return "Resources of an operator must not have 'allocation_info'"
        if asker.role is not None and kind.allocation_role != asker.role:
            return (
                f"{kind.name} is allocated to role '{kind.allocation_role}', the offer to"
                f" '{asker.role}'"
            )
    return None


def _kinds(resources: Iterable[Resource]) -> list[Kind]:
    return _kinds_in(Resources.of(resources))


def _kinds_in(resources: Resources) -> list[Kind]:
    return [kind for kind, _ in resources.items()]


# -- reservations -------------------------------------------------------------------------------


def _reserve_error(operation: OfferOperation, asker: Asker, _agent: Agent) -> str | None:
    assert operation.reserve is not None
    if operation.reserve.source and asker.framework is not None:
        return "'source' is not allowed in a RESERVE of a framework"
    for kind in _kinds(operation.reserve.resources):
        why = _reservation_error(kind, asker)
        if why is not None:
            return why
    if not operation.reserve.source:
        return None
    if any(kind.is_persistent_volume for kind in _kinds(operation.reserve.source)):
        return "A persistent volume cannot be reserved otherwise"
    before = Resources.of(operation.reserve.source).to_unreserved()
    after = Resources.of(operation.reserve.resources).to_unreserved()
    return None if before == after else f"'source' has {before}, 'resources' have {after}"


def _reservation_error(kind: Kind, asker: Asker) -> str | None:
    if not kind.is_dynamically_reserved:
        return f"Resource {kind.name} is not dynamically reserved"
    if kind.is_persistent_volume:
        return f"A persistent volume '{kind.persistence_id}' must already be reserved"
    if asker.role is not None and kind.role != asker.role:
        return (
            f"A reserve operation was attempted for role '{kind.role}', but the resources are"
            f" allocated to role '{asker.role}'"
        )
    return _principal_error("A reserve operation", kind.reservations[-1].principal, asker)


def _principal_error(what: str, named: str | None, asker: Asker) -> str | None:
    if asker.principal is None or named == asker.principal:
        return None
    shown = "no principal set" if named is None else f"principal '{named}' set"
    return (
        f"{what} was attempted by authenticated principal '{asker.principal}', but there is a"
        f" resource in the request with {shown}"
    )


def _unreserve_error(operation: OfferOperation, _asker: Asker, _agent: Agent) -> str | None:
    assert operation.unreserve is not None
    for kind in _kinds(operation.unreserve.resources):
        if not kind.is_dynamically_reserved:
            return f"Resource {kind.name} is not dynamically reserved"
        if kind.is_persistent_volume:
            return (
                f"A persistent volume '{kind.persistence_id}' cannot be unreserved; destroy it"
                " first"
            )
    return None


# -- volumes ------------------------------------------------------------------------------------


def _create_error(operation: OfferOperation, asker: Asker, agent: Agent) -> str | None:
    assert operation.create is not None
    volumes = _kinds_in(agent.total.persistent_volumes())
    used = {(kind.role, kind.persistence_id) for kind in volumes}
    for volume in operation.create.volumes:
        kinds = _kinds((volume,))
        if not kinds:
            return f"Resource {volume.name} is empty"
        (kind,) = kinds
        why = _volume_error(volume, kind)
        if why is None and (kind.role, kind.persistence_id) in used:
            why = f"Persistence ID '{kind.persistence_id}' already exists for role '{kind.role}'"
        if why is None:
            assert volume.disk is not None
            assert volume.disk.persistence is not None
            principal = volume.disk.persistence.principal
            why = _principal_error("A create volume operation", principal, asker)
        if why is None and kind.shared and not _can_share(asker):
            why = "A shared volume needs the framework's capability SHARED_RESOURCES"
        if why is not None:
            return why
        used.add((kind.role, kind.persistence_id))
    return None


def _can_share(asker: Asker) -> bool:
    return asker.framework is None or "SHARED_RESOURCES" in asker.framework.capabilities


def _volume_error(volume: Resource, kind: Kind) -> str | None:
    disk = volume.disk
    if disk is None or disk.persistence is None:
        return f"Resource {kind.name} is not a persistent volume"
    if not kind.is_reserved:
        return "Persistent volumes cannot be created from unreserved resources"
    why = id_error(disk.persistence.id)
    if why is not None:
        return f"Invalid persistence ID for persistent volume: {why}"
    if disk.volume is None:
        return "Expecting 'volume' to be set for persistent volume"
    if disk.volume.mode == "RO":
        return "Read-only persistent volume not supported"
    if disk.volume.host_path is not None:
        return "Expecting 'host_path' to be unset for persistent volume"
    return None


def _destroy_error(operation: OfferOperation, _asker: Asker, agent: Agent) -> str | None:
    assert operation.destroy is not None
    volumes = Resources.of(operation.destroy.volumes).unallocate()
    if volumes != volumes.persistent_volumes():
        return f"{volumes} are not all persistent volumes"
    if not agent.total.contains(volumes):
        return "Persistent volumes not found"
    used = {kind.core for kind in _kinds_in(Resources.sum(agent.held()).unallocate())}
    for kind in _kinds_in(volumes):
        if kind.core in used:
            return f"Persistent volume '{kind.persistence_id}' is in use"
    return None


def _grow_error(operation: OfferOperation, _asker: Asker, agent: Agent) -> str | None:
    assert operation.grow_volume is not None
    volume, addition = operation.grow_volume.volume, operation.grow_volume.addition
    why = _resize_error(volume, agent, "Growing")
    if why is not None:
        return why
    made_of = _bare(volume)
    if _bare(addition) != made_of or (
        addition.disk is not None and addition.disk.persistence is not None
    ):
        return "Incompatible volume and addition"
    if not Resources.of((addition,)).scalar("disk"):
        return "The size of 'addition' must be above 0"
    return None


def _bare(disk: Resource) -> list[object]:
    """What tells disks apart that are not volumes."""
    source = None if disk.disk is None else disk.disk.source
    return [
        (kind.name, kind.reservations, kind.allocation_role, source) for kind in _kinds((disk,))
    ]


def _shrink_error(operation: OfferOperation, _asker: Asker, agent: Agent) -> str | None:
    assert operation.shrink_volume is not None
    volume = operation.shrink_volume.volume
    why = _resize_error(volume, agent, "Shrinking")
    if why is not None:
        return why
    removed = scalar.from_float(operation.shrink_volume.subtract.value)
    if removed <= 0:
        return "Value of 'subtract' must be greater than zero"
    if removed >= Resources.of((volume,)).scalar("disk"):
        return "Persistent volume cannot be shrunk to or below zero"
    return None


def _resize_error(volume: Resource, agent: Agent, doing: str) -> str | None:
    if volume.disk is None or volume.disk.persistence is None:
        return f"Resource {volume.name} is not a persistent volume"
    if "RESIZE_VOLUME" not in agent.capabilities:
        return f"{doing} a volume needs the agent's capability RESIZE_VOLUME"
    if volume.shared is not None:
        return f"{doing} a shared persistent volume is not supported"
    source = volume.disk.source
    if source is not None and source.type == "MOUNT":
        return f"{doing} a persistent volume on a MOUNT disk is not supported"
    return None


CHECKS: dict[str, Callable[[OfferOperation, Asker, Agent], str | None]] = {
    "RESERVE": _reserve_error,
    "UNRESERVE": _unreserve_error,
    "CREATE": _create_error,
    "DESTROY": _destroy_error,
    "GROW_VOLUME": _grow_error,
    "SHRINK_VOLUME": _shrink_error,
}
