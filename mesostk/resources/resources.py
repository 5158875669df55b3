"""`Resources`: an immutable bag of quantities by kind, and its arithmetic.

The hot path of the master is `+`, `-` and `contains` of four-resource bundles: one dict copy and
one look-up by identity per kind. Source of the rules: Mesos `src/common/resources.cpp`.
"""

# ruff: noqa: SLF001  # bags read each other's items

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mesostk.resources import quantity, ranges
from mesostk.resources.kinds import Format, Kind, is_plain, kind_of, plain
from mesostk.resources.quantity import Quantity
from mesostk.wire import legacy
from mesostk.wire.mesos import ReservationInfo, Resource, Scalar


class Resources:
    """Quantities by kind; never holds an empty one. Equal bags are equal and hash alike."""

    __slots__ = (
        "_cores",
        "_hash",
        "_items",
        "_quantities",
        "_reserved",
        "_revocable",
        "_shared",
        "_wire",
    )

    def __init__(self, items: Mapping[Kind, Quantity] | None = None) -> None:
        """A bag of `items`, which must be non-empty quantities; most callers want `of`."""
        self._items: dict[Kind, Quantity] = {} if items is None else dict(items)
        self._hash: int | None = None
        self._wire: tuple[Resource, ...] | None = None
        self._quantities: Mapping[str, int] | None = None
        self._revocable: bool | None = None
        self._shared: bool | None = None
        self._reserved: bool | None = None
        self._cores: dict[Kind, Kind] | None = None

    # -- from and to the wire -----------------------------------------------------------------

    @staticmethod
    def of(resources: Iterable[Resource]) -> Resources:
        """The sum of wire resources in either reservation format; empty ones are left out.

        Raises WireError for a value that is no amount. Resources of outside origin are first
        put through `validity.why_not`, which has the original's reasons.
        """
        items: dict[Kind, Quantity] = {}
        cores: dict[Kind, Kind] = {}
        for resource in resources:
            amount = quantity.of_wire(resource)
            if not amount:
                continue
            if is_plain(resource):
                kind = plain(resource.name, resource.type)
            else:
                kind = kind_of(resource, amount if isinstance(amount, int) else None)
                if kind.is_counted:
                    amount = 1
            _add(items, cores, kind, amount)
        return _adopt(items)

    @staticmethod
    def scalars(**amounts: float) -> Resources:
        """Unreserved scalars: `Resources.scalars(cpus=0.5, mem=128)`."""
        return Resources.of(
            Resource(name=name, type="SCALAR", scalar=Scalar(amount))
            for name, amount in amounts.items()
        )

    @staticmethod
    def ports(*pairs: tuple[int, int]) -> Resources:
        """Unreserved ports: `Resources.ports((31000, 32000))`."""
        found = ranges.of(pairs)
        return _adopt({plain("ports", "RANGES"): found} if found else {})

    def to_wire(self, format: Format = "POST") -> tuple[Resource, ...]:
        """As wire resources, one per kind and per copy; scalars first as they came.

        Raises WireError if `format` is PRE and a reservation is refined; filter by `is_refined`.
        """
        if format != "POST":
            return tuple(_wire(kind, amount, format) for kind, amount in self._expanded())
        if self._wire is None:
            self._wire = tuple(_wire(kind, q, "POST") for kind, q in self._expanded())
        return self._wire

    def _expanded(self) -> Iterator[tuple[Kind, Quantity]]:
        for kind, amount in self._items.items():
            if kind.exact is not None and isinstance(amount, int):
                for _ in range(amount):
                    yield kind, kind.exact
            else:
                yield kind, amount

    # -- arithmetic ---------------------------------------------------------------------------

    def __add__(self, other: Resources) -> Resources:
        if not other._items:
            return self
        if not self._items:
            return other
        items = self._items.copy()
        for kind, amount in other._items.items():
            mine = items.get(kind)
            if mine is None:
                if kind.disk is None or (found := self._same_core(kind)) is None:
                    items[kind] = amount
                    continue
                kind, mine = found, items[found]
            items[kind] = quantity.plus(mine, amount)
        return _adopt(items)

    def __sub__(self, other: Resources) -> Resources:
        """What is left; taking more than there is leaves nothing of it, never a negative."""
        if not other._items or not self._items:
            return self
        items = self._items.copy()
        for kind, amount in other._items.items():
            mine = items.get(kind)
            if mine is None:
                if kind.disk is None or (found := self._same_core(kind)) is None:
                    continue
                kind, mine = found, items[found]
            left = quantity.minus(mine, amount)
            if left:
                items[kind] = left
            else:
                del items[kind]
        return _adopt(items)

    def contains(self, other: Resources) -> bool:
        """Whether all of `other` is here: kind by kind, volumes exactly."""
        items = self._items
        for kind, amount in other._items.items():
            mine = items.get(kind)
            if mine is None:
                if kind.disk is None or (found := self._same_core(kind)) is None:
                    return False
                mine = items[found]
            if type(amount) is int:
                if mine < amount:  # type: ignore[operator]  # the kind fixes the type
                    return False
            elif not quantity.covers(mine, amount):
                return False
        return True

    def __contains__(self, other: Resources) -> bool:
        return self.contains(other)

    @staticmethod
    def sum(bags: Iterable[Resources]) -> Resources:
        """All of `bags` together, copying once."""
        items: dict[Kind, Quantity] = {}
        cores: dict[Kind, Kind] = {}
        for bag in bags:
            for kind, amount in bag._items.items():
                _add(items, cores, kind, amount)
        return _adopt(items)

    def _same_core(self, kind: Kind) -> Kind | None:
        """A kind in here that differs from `kind`, which has a disk, only in its mount.

        Looked up, not looked for: a body may hold thousands of volumes.
        """
        if self._cores is None:
            self._cores = {mine.core: mine for mine in self._items if mine.disk is not None}
        return self._cores.get(kind.core)

    # -- as a value ---------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        return not self._items

    def __bool__(self) -> bool:
        return bool(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Resources) and self._items == other._items

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __copy__(self) -> Resources:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Resources:
        return self

    def __reduce__(self) -> tuple[type[Resources], tuple[dict[Kind, Quantity]]]:
        return (Resources, (self._items,))

    def __repr__(self) -> str:
        return f"<Resources {self}>"

    def __str__(self) -> str:
        """`cpus:1; ports(reservations: [(STATIC,web)]):[1-2]`, as the original's messages do."""
        return (
            "; ".join(f"{_describe(kind)}:{quantity.to_text(q)}" for kind, q in self._expanded())
            or "{}"
        )

    def items(self) -> Iterable[tuple[Kind, Quantity]]:
        """Kinds with their quantities; a counted kind's is its number of copies."""
        return self._items.items()

    # -- views --------------------------------------------------------------------------------

    def quantities(self) -> Mapping[str, int]:
        """Thousandths of every scalar by name, all roles together; shared ones once."""
        if self._quantities is None:
            totals: dict[str, int] = {}
            for kind, amount in self._items.items():
                if type(amount) is int:
                    totals[kind.name] = totals.get(kind.name, 0) + _amount(kind, amount)
            self._quantities = totals
        return self._quantities

    def scalar(self, name: str) -> int:
        """Thousandths of the scalar `name`, all roles together; 0 if there is none."""
        return self.quantities().get(name, 0)

    def ranges(self, name: str) -> ranges.Ranges:
        """Intervals of `name`, all roles together."""
        found: ranges.Ranges = ()
        for kind, amount in self._items.items():
            if kind.name == name and type(amount) is tuple:
                found = ranges.union(found, amount)
        return found

    def items_of_set(self, name: str) -> frozenset[str]:
        """Items of the set `name`, all roles together."""
        found: frozenset[str] = frozenset()
        for kind, amount in self._items.items():
            if kind.name == name and isinstance(amount, frozenset):
                found |= amount
        return found

    def legacy_object(self) -> dict[str, float | str]:
        """The object that /state shows; see `wire.legacy.resources_view`."""
        return legacy.resources_view(self.to_wire())

    # -- parts --------------------------------------------------------------------------------

    def filter(self, wanted: Callable[[Kind], bool]) -> Resources:
        """The part whose kinds are `wanted`; the bag itself if that is all."""
        items = {kind: amount for kind, amount in self._items.items() if wanted(kind)}
        return self if len(items) == len(self._items) else _adopt(items)

    def named(self, name: str) -> Resources:
        """The part called `name`."""
        return self.filter(lambda kind: kind.name == name)

    def allocatable_to(self, role: str) -> Resources:
        """Unreserved, or reserved to `role` or to an ancestor of it."""
        return self.filter(lambda kind: kind.is_allocatable_to(role)) if self.has_reserved else self

    def unrefined(self) -> Resources:
        """Without what is reserved more than once."""
        return self.filter(lambda kind: not kind.is_refined) if self.has_reserved else self

    @property
    def has_reserved(self) -> bool:
        """Whether any of it is reserved; found out once."""
        if self._reserved is None:
            self._reserved = any(kind.is_reserved for kind in self._items)
        return self._reserved

    def unreserved(self) -> Resources:
        return self.filter(lambda kind: not kind.is_reserved)

    def reserved(self, role: str | None = None) -> Resources:
        """The part reserved to `role` itself; to anyone if None."""
        if role is None:
            return self.filter(lambda kind: kind.is_reserved)
        return self.filter(lambda kind: kind.is_reserved and kind.role == role)

    def reservations(self) -> dict[str, Resources]:
        """Reserved parts by role."""
        return self._group(lambda kind: kind.role if kind.is_reserved else None)

    def allocations(self) -> dict[str, Resources]:
        """Allocated parts by the role that they are allocated to."""
        return self._group(lambda kind: kind.allocation_role)

    def _group(self, key: Callable[[Kind], str | None]) -> dict[str, Resources]:
        groups: dict[str, dict[Kind, Quantity]] = {}
        for kind, amount in self._items.items():
            name = key(kind)
            if name is not None:
                groups.setdefault(name, {})[kind] = amount
        return {name: _adopt(items) for name, items in groups.items()}

    @property
    def has_revocable(self) -> bool:
        """Whether any of it is revocable; found out once."""
        if self._revocable is None:
            self._revocable = any(kind.revocable for kind in self._items)
        return self._revocable

    @property
    def has_shared(self) -> bool:
        """Whether any of it is a shared volume; found out once."""
        if self._shared is None:
            self._shared = any(kind.shared for kind in self._items)
        return self._shared

    def revocable(self) -> Resources:
        return self.filter(lambda kind: kind.revocable)

    def non_revocable(self) -> Resources:
        return self.filter(lambda kind: not kind.revocable) if self.has_revocable else self

    def shared(self) -> Resources:
        return self.filter(lambda kind: kind.shared)

    def non_shared(self) -> Resources:
        return self.filter(lambda kind: not kind.shared) if self.has_shared else self

    def persistent_volumes(self) -> Resources:
        return self.filter(lambda kind: kind.is_persistent_volume)

    def checkpointable(self) -> Resources:
        """What an agent must keep on disk: dynamic reservations and persistent volumes."""
        return self.filter(lambda kind: kind.is_dynamically_reserved or kind.is_persistent_volume)

    def scalars_only(self) -> Resources:
        return self.filter(lambda kind: kind.type == "SCALAR")

    # -- conversions --------------------------------------------------------------------------

    def allocate(self, role: str) -> Resources:
        """The same, allocated to `role`."""
        return self._map(lambda kind: kind.allocated(role))

    def unallocate(self) -> Resources:
        """The same without the roles it is allocated to."""
        return self._map(lambda kind: kind.allocated(None))

    def push_reservation(self, reservation: ReservationInfo) -> Resources:
        """All of it reserved once more; `reservation` has type and role."""
        return self._map(lambda kind: kind.pushed(reservation))

    def pop_reservation(self) -> Resources:
        """All of it with its last reservation taken off."""
        return self._map(Kind.popped)

    def to_unreserved(self) -> Resources:
        """All of it with every reservation taken off."""
        return self._map(lambda kind: kind.replace(reservations=()))

    def _map(self, change: Callable[[Kind], Kind]) -> Resources:
        items: dict[Kind, Quantity] = {}
        cores: dict[Kind, Kind] = {}
        for kind, amount in self._items.items():
            _add(items, cores, change(kind), amount)
        return _adopt(items)

    def shrink(self, limits: Mapping[str, int]) -> Resources:
        """At most `limits` (thousandths by name) of each scalar named there; the rest whole.

        A volume or disk that cannot be split and does not fit is left out. Source: Mesos
        `shrinkResources` in `src/master/allocator/mesos/hierarchical.cpp`.
        """
        room = dict(limits)
        items: dict[Kind, Quantity] = {}
        for kind, amount in self._items.items():
            left = room.get(kind.name)
            if left is None or not isinstance(amount, int):
                items[kind] = amount
                continue
            amount = _amount(kind, amount)
            if kind.is_counted:
                if amount > left:
                    continue
                items[kind] = amount
            elif left > 0:
                items[kind] = amount = min(amount, left)
            else:
                continue
            room[kind.name] = left - amount
        return _adopt(items)


def _adopt(items: dict[Kind, Quantity]) -> Resources:
    """A bag around `items` without copying them."""
    made = Resources.__new__(Resources)
    made._items = items
    made._hash = None
    made._wire = None
    made._quantities = None
    made._revocable = None
    made._shared = None
    made._reserved = None
    made._cores = None
    return made


def _add(
    items: dict[Kind, Quantity], cores: dict[Kind, Kind], kind: Kind, amount: Quantity
) -> None:
    """Add to `items` under construction; `cores` has those of them with a disk by their core."""
    mine = items.get(kind)
    if mine is None:
        found = kind if kind.disk is None else cores.setdefault(kind.core, kind)
        if found is kind:
            items[kind] = amount
            return
        kind, mine = found, items[found]
    items[kind] = quantity.plus(mine, amount)


def _amount(kind: Kind, amount: int) -> int:
    """Thousandths; copies of a shared resource occupy it once."""
    exact = kind.exact
    if exact is None:
        return amount
    return exact if kind.shared else exact * amount


def _wire(kind: Kind, amount: Quantity, format: Format) -> Resource:
    value = quantity.wire_fields(amount)
    if kind.is_plain and format == "POST":
        return Resource(name=kind.name, type=kind.type, **value)
    return Resource(**kind.wire_fields(format), **value)


def _describe(kind: Kind) -> str:
    text = kind.name
    if kind.allocation_role is not None:
        text += f"(allocated: {kind.allocation_role})"
    if kind.reservations:
        stack = ", ".join(_describe_reservation(item) for item in kind.reservations)
        text += f"(reservations: [{stack}])"
    if kind.disk is not None:
        volume = kind.disk.volume
        path = "" if volume is None else f":{volume.container_path}"
        source = "" if kind.disk.source is None else f"{kind.disk.source.type},"
        text += f"[{source}{kind.persistence_id or ''}{path}]"
    if kind.revocable:
        text += "{REV}"
    if kind.shared:
        text += "<SHARED>"
    return text


def _describe_reservation(reservation: ReservationInfo) -> str:
    parts = [str(reservation.type), str(reservation.role)]
    if reservation.principal is not None:
        parts.append(reservation.principal)
    if reservation.labels is not None:
        labels = ", ".join(f"{item.key}: {item.value}" for item in reservation.labels.labels)
        parts.append("{" + labels + "}")
    return "(" + ",".join(parts) + ")"


#: The bag without anything in it.
EMPTY = Resources()
