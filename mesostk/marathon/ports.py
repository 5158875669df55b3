"""Ports: service ports, unique over the cluster, and host ports out of an offer.

Sources: spec/marathon §2.3 (service ports), §3.5 (host ports), §1.2 (text when none is left).
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterator, Mapping, Sequence

from mesostk.marathon.apps import is_host, service_ports, with_service_ports
from mesostk.marathon.refusal import Refused
from mesostk.resources import ranges
from mesostk.resources.ranges import Ranges
from mesostk.wire.marathon import AppDefinition


def assign_service_ports(
    changed: Sequence[AppDefinition],
    existing: Mapping[str, AppDefinition],
    low: int,
    high: int,
) -> list[AppDefinition]:
    """`changed` with every service port assigned, in order; `existing` are all apps before, by id.

    No two ports that are assigned here are the same, and none is one that any app has or names.
    Raises `Refused` (500) when the range is used up.
    """
    free = _free(changed, existing, low, high)
    assigned = []
    for app in changed:
        numbers = _numbered(app, existing.get(app.id), free)
        if numbers is None:
            raise _used_up(low, high)
        assigned.append(with_service_ports(app, numbers))
    return assigned


def _free(
    changed: Sequence[AppDefinition],
    existing: Mapping[str, AppDefinition],
    low: int,
    high: int,
) -> Iterator[int]:
    """Ports that nobody has; who needs none does not look at thousands of apps."""
    taken = {number for app in existing.values() for number in service_ports(app)}
    taken.update(number for app in changed for number in service_ports(app))
    for number in range(low, high):
        if number not in taken:
            yield number


def assign(
    app: AppDefinition,
    before: AppDefinition | None,
    taken: Container[int],
    low: int,
    high: int,
) -> AppDefinition:
    """`assign_service_ports` for one app; `taken` are the ports of all apps there are."""
    named = service_ports(app)
    free = (number for number in range(low, high) if number not in taken and number not in named)
    numbers = _numbered(app, before, free)
    if numbers is None:
        raise _used_up(low, high)
    return with_service_ports(app, numbers)


def _used_up(low: int, high: int) -> Refused:
    return Refused(500, f"All ports in the range [{low}-{high}) are already in use")


def _numbered(
    app: AppDefinition, before: AppDefinition | None, free: Iterator[int]
) -> list[int] | None:
    """The app's service ports, each 0 replaced; None when `free` has no more.

    First, in order, by ports that `before` had and `app` no longer names, then from `free`. Ports
    that were given stay, even if another app has them too, as in the original.
    """
    wanted = service_ports(app)
    had = service_ports(before) if before is not None else ()
    spare = [number for number in had if number != 0 and number not in wanted]
    numbers = []
    for number in wanted:
        if number == 0:
            found = spare.pop(0) if spare else next(free, None)
            if found is None:
                return None
            number = found
        numbers.append(number)
    return numbers


def wanted_host_ports(app: AppDefinition) -> tuple[int | None, ...]:
    """For each definition or mapping its host port: a number, 0 = any, None = not published.

    Of a pod for each endpoint.
    """
    if app.pod is not None:
        return tuple(each.host_port for part in app.pod.containers for each in part.endpoints)
    if is_host(app.networks):
        return tuple(d.port if app.require_ports else 0 for d in app.port_definitions)
    mappings = app.container.port_mappings if app.container is not None else ()
    return tuple(mapping.host_port for mapping in mappings)


def choose(
    wanted: Sequence[int | None], available: Sequence[Ranges], rng: random.Random
) -> tuple[int | None, ...] | str:
    """Host ports for `wanted` in the same order, or why there are none.

    Free choices begin at a random port and go on from there, so that a port that was just given
    back is not used again at once. `available` are the parts of the offer in order of preference;
    a later part serves only what the earlier ones cannot. One number may serve two protocols.
    """
    fixed = {number for number in wanted if number}
    everywhere = ranges.of(pair for part in available for pair in part)
    missing = [number for number in sorted(fixed) if not ranges.has(everywhere, number)]
    if missing:
        return f"port {missing[0]} is not offered"
    needed = sum(number == 0 for number in wanted)
    free: list[int] = []
    cut = ranges.of_values(fixed)
    for part in available:
        free += _some(ranges.subtract(part, cut), needed - len(free), rng)
        cut = ranges.union(cut, ranges.of_values(free))
    if len(free) < needed:
        return f"needs {needed} free ports, offer has {len(free)}"
    dynamic = iter(free)
    return tuple(next(dynamic) if number == 0 else number for number in wanted)


def _some(part: Ranges, count: int, rng: random.Random) -> list[int]:
    """Up to `count` numbers of `part`, consecutive from a random one, going round at the end."""
    size = ranges.size(part)
    if count <= 0 or size == 0:
        return []
    spans = list(part)
    rng.shuffle(spans)
    found: list[int] = []
    skip = rng.randrange(spans[0][1] - spans[0][0] + 1)
    begin, end = spans[0]
    for first, last in ((begin + skip, end), *spans[1:], (begin, begin + skip - 1)):
        found += range(first, min(last, first + count - len(found) - 1) + 1)
        if len(found) == count:
            break
    return found
