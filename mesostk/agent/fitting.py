"""Does a task fit into what this agent has left? The agent's own check on the master's booking.

Amounts are compared by name, across reservations: the master alone decides for whom something is
reserved, but nobody can use the same port or the same core twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mesostk.resources import ranges, scalar
from mesostk.wire.mesos import Resource


class Amounts:
    """Thousandths and integer sets by resource name."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self.scalars: dict[str, int] = {}
        self.ranges: dict[str, ranges.Ranges] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> ranges.Ranges:
        """Count `resource`; returns those integers of it that were there already."""
        name = resource.name
        if resource.scalar is not None:
            more = scalar.from_float(resource.scalar.value)
            self.scalars[name] = self.scalars.get(name, 0) + more
        if resource.ranges is None:
            return ranges.EMPTY
        had = self.ranges.get(name, ranges.EMPTY)
        more_ranges = ranges.of((r.begin, r.end) for r in resource.ranges.range)
        self.ranges[name] = ranges.union(had, more_ranges)
        return ranges.intersect(had, more_ranges)


def why_not_fit(
    total: Sequence[Resource], held: Iterable[Sequence[Resource]], wanted: Sequence[Resource]
) -> str | None:
    """Why `wanted` does not fit beside what is `held`; None if it does."""
    limit, used = Amounts(total), Amounts()
    for resources in held:
        for resource in resources:
            if resource.shared is None:
                used.add(resource)
    for resource in wanted:
        if resource.shared is not None:
            continue
        twice = used.add(resource)
        name = resource.name
        if twice:
            return f"{name} {ranges.to_text(twice)} are in use on this agent"
        have = limit.ranges.get(name, ranges.EMPTY)
        if not ranges.contains(have, used.ranges.get(name, ranges.EMPTY)):
            return f"{name} {ranges.to_text(used.ranges[name])} are not all of this agent's"
        if used.scalars.get(name, 0) > limit.scalars.get(name, 0):
            return (
                f"{name} would come to {scalar.to_text(used.scalars[name])} "
                f"of {scalar.to_text(limit.scalars.get(name, 0))} on this agent"
            )
    return None
