"""One quantity: thousandths or copies, ranges, or items of a set.

The kind that a quantity is of fixes its type; two quantities of one kind never differ in it.
"""

from __future__ import annotations

from typing import Any

from mesostk.errors import WireError
from mesostk.resources import ranges, scalar
from mesostk.wire.mesos import Range, Ranges, Resource, Scalar, Set

#: Thousandths or copies, sorted disjoint ranges, or items.
Quantity = int | ranges.Ranges | frozenset[str]


def plus(a: Quantity, b: Quantity) -> Quantity:
    """Both together."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return ranges.union(a, b)
    if isinstance(a, frozenset) and isinstance(b, frozenset):
        return a | b
    raise TypeError(f"quantities of one kind but of two types: {a!r}, {b!r}")


def minus(a: Quantity, b: Quantity) -> Quantity:
    """What `b` leaves of `a`; never negative."""
    if isinstance(a, int) and isinstance(b, int):
        return a - b if a > b else 0
    if isinstance(a, tuple) and isinstance(b, tuple):
        return ranges.subtract(a, b)
    if isinstance(a, frozenset) and isinstance(b, frozenset):
        return a - b
    raise TypeError(f"quantities of one kind but of two types: {a!r}, {b!r}")


def covers(a: Quantity, b: Quantity) -> bool:
    """Whether all of `b` is in `a`."""
    if isinstance(a, int) and isinstance(b, int):
        return a >= b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return ranges.contains(a, b)
    return isinstance(a, frozenset) and isinstance(b, frozenset) and a >= b


def of_wire(resource: Resource) -> Quantity:
    """The value of `resource`. Raises WireError where it does not fit the type or is negative."""
    if resource.scalar is not None and resource.type == "SCALAR":
        thousandths = scalar.from_float(resource.scalar.value)
        if thousandths < 0:
            raise WireError(f"resource '{resource.name}': Invalid scalar resource: value < 0")
        return thousandths
    if resource.ranges is not None and resource.type == "RANGES":
        return ranges.of((pair.begin, pair.end) for pair in resource.ranges.range)
    if resource.set is not None and resource.type == "SET":
        return frozenset(resource.set.item)
    raise WireError(
        f"resource '{resource.name}': type {resource.type} does not match the value that is set"
    )


def wire_fields(quantity: Quantity) -> dict[str, Any]:
    """The field of `wire.mesos.Resource` that holds `quantity`; sets sorted."""
    if isinstance(quantity, int):
        return {"scalar": Scalar(scalar.to_float(quantity))}
    if isinstance(quantity, tuple):
        return {"ranges": Ranges(range=tuple(Range(begin, end) for begin, end in quantity))}
    return {"set": Set(item=tuple(sorted(quantity)))}


def to_text(quantity: Quantity) -> str:
    """`1.5`, `[1-2, 4-4]` or `{a, b}`, as messages and /state show it."""
    if isinstance(quantity, int):
        return scalar.to_text(quantity)
    if isinstance(quantity, tuple):
        return ranges.to_text(quantity)
    return "{" + ", ".join(sorted(quantity)) + "}"
