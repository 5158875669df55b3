"""What RESERVE, CREATE and their like turn into what.

Master and agent must agree on every one of these, so both use this. Source:
`getResourceConversions` in Mesos `src/common/resources_utils.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from mesostk.resources import scalar
from mesostk.resources.kinds import with_format
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import DiskInfo, OfferOperation, Resource, Scalar


class Conversion(NamedTuple):
    """`consumed` is taken away, `converted` comes in its place; totals by name stay the same."""

    consumed: Resources
    converted: Resources


Change = Callable[[Resource], Resource]


def map_resources(operation: OfferOperation, change: Change) -> OfferOperation:
    """`operation` with each resource that it names changed."""

    def each(resources: tuple[Resource, ...]) -> tuple[Resource, ...]:
        return tuple(change(item) for item in resources)

    changed: dict[str, Any] = {}
    if (reserve := operation.reserve) is not None:
        changed["reserve"] = replace(
            reserve, source=each(reserve.source), resources=each(reserve.resources)
        )
    if (unreserve := operation.unreserve) is not None:
        changed["unreserve"] = replace(unreserve, resources=each(unreserve.resources))
    if (create := operation.create) is not None:
        changed["create"] = replace(create, volumes=each(create.volumes))
    if (destroy := operation.destroy) is not None:
        changed["destroy"] = replace(destroy, volumes=each(destroy.volumes))
    if (grow := operation.grow_volume) is not None:
        changed["grow_volume"] = replace(
            grow, volume=change(grow.volume), addition=change(grow.addition)
        )
    if (shrink := operation.shrink_volume) is not None:
        changed["shrink_volume"] = replace(shrink, volume=change(shrink.volume))
    return replace(operation, **changed)


def apply(resources: Resources, operation: OfferOperation) -> Resources | str:
    """`resources` after `operation`, or why it cannot be applied to them."""
    conversion = of(operation)
    if isinstance(conversion, str):
        return conversion
    if not resources.contains(conversion.consumed):
        return f"{resources} does not contain {conversion.consumed}"
    return resources - conversion.consumed + conversion.converted


def with_kept(total: Resources, kept: Resources) -> tuple[Resources, Resources]:
    """`total` with the reservations and volumes `kept` in place of what they were made of.

    Returns it, and those of `kept` that `total` has no room for any more.
    """
    left_out = Resources()
    for kind, amount in kept.items():
        part = Resources({kind: amount})
        source = _made_of(part)
        if total.contains(source):
            total = total - source + part
        else:
            left_out += part
    return total, left_out


def _made_of(kept: Resources) -> Resources:
    """What was there before any operation: no volumes, static reservations only."""
    plain = Resources.of(_without_volume(item) for item in kept.to_wire())
    while plain.filter(lambda kind: kind.is_dynamically_reserved):
        plain = Resources.sum(
            part.pop_reservation() if kind.is_dynamically_reserved else part
            for kind, amount in plain.items()
            for part in (Resources({kind: amount}),)
        )
    return plain


def of(operation: OfferOperation) -> Conversion | str:
    """What a valid `operation` converts, or why it converts nothing.

    Raises WireError for a value that is no quantity; `validity.why_not_all` finds those first.
    """
    convert = _CONVERSIONS.get(operation.type or "UNKNOWN")
    if convert is None:
        return f"operation {operation.type} does not convert resources"
    return convert(operation)


def _reserve(operation: OfferOperation) -> Conversion | str:
    if operation.reserve is None:
        return "Expecting 'reserve' to be present"
    converted = Resources.of(operation.reserve.resources)
    if converted.unreserved():
        return f"{converted.unreserved()} is not reserved"
    if operation.reserve.source:
        return Conversion(Resources.of(operation.reserve.source), converted)
    return Conversion(converted.pop_reservation(), converted)


def _unreserve(operation: OfferOperation) -> Conversion | str:
    if operation.unreserve is None:
        return "Expecting 'unreserve' to be present"
    consumed = Resources.of(operation.unreserve.resources)
    if consumed.unreserved():
        return f"{consumed.unreserved()} is not reserved"
    return Conversion(consumed, consumed.pop_reservation())


def _create(operation: OfferOperation) -> Conversion | str:
    if operation.create is None:
        return "Expecting 'create' to be present"
    return _volumes(operation.create.volumes)


def _destroy(operation: OfferOperation) -> Conversion | str:
    if operation.destroy is None:
        return "Expecting 'destroy' to be present"
    created = _volumes(operation.destroy.volumes)
    if isinstance(created, str):
        return created
    return Conversion(created.converted, created.consumed)


def _volumes(volumes: tuple[Resource, ...]) -> Conversion | str:
    for volume in volumes:
        if volume.disk is None or volume.disk.persistence is None:
            return f"{Resources.of((volume,))} is not a persistent volume"
    return Conversion(
        Resources.of(_without_volume(volume) for volume in volumes), Resources.of(volumes)
    )


def _without_volume(volume: Resource) -> Resource:
    """The disk that `volume` is made of."""
    source = None if volume.disk is None else volume.disk.source
    disk = None if source is None else DiskInfo(source=source)
    return msgspec.structs.replace(with_format(volume, "POST"), disk=disk, shared=None)


def _grow(operation: OfferOperation) -> Conversion | str:
    if operation.grow_volume is None:
        return "Expecting 'grow_volume' to be present"
    volume, addition = operation.grow_volume.volume, operation.grow_volume.addition
    added = Resources.of((addition,)).scalar("disk")
    return Conversion(Resources.of((volume, addition)), Resources.of((_resized(volume, added),)))


def _shrink(operation: OfferOperation) -> Conversion | str:
    if operation.shrink_volume is None:
        return "Expecting 'shrink_volume' to be present"
    volume = operation.shrink_volume.volume
    removed = scalar.from_float(operation.shrink_volume.subtract.value)
    if not 0 < removed < Resources.of((volume,)).scalar("disk"):
        return "'subtract' must be above 0 and below the size of the volume"
    freed = msgspec.structs.replace(
        _without_volume(volume), scalar=Scalar(scalar.to_float(removed))
    )
    return Conversion(Resources.of((volume,)), Resources.of((_resized(volume, -removed), freed)))


def _resized(volume: Resource, thousandths: int) -> Resource:
    size = Resources.of((volume,)).scalar("disk") + thousandths
    return msgspec.structs.replace(volume, scalar=Scalar(scalar.to_float(size)))


_CONVERSIONS: dict[str, Callable[[OfferOperation], Conversion | str]] = {
    "RESERVE": _reserve,
    "UNRESERVE": _unreserve,
    "CREATE": _create,
    "DESTROY": _destroy,
    "GROW_VOLUME": _grow,
    "SHRINK_VOLUME": _shrink,
}
