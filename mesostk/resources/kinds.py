"""What a quantity is of: `Kind`, and its conversion from and to both reservation formats.

Inside, reservations are always the "post-refinement" stack. Source of the formats: Mesos
docs/reservation.md and `convertResourceFormat` in `src/common/resources_utils.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from mesostk.errors import WireError
from mesostk.resources.roles import UNRESERVED, is_strict_subrole
from mesostk.wire.mesos import (
    AllocationInfo,
    DiskInfo,
    Persistence,
    ReservationInfo,
    Resource,
    ResourceProviderID,
    RevocableInfo,
    SharedInfo,
    ValueType,
)

#: POST: the stack. PRE: role and reservation, for peers without RESERVATION_REFINEMENT.
#: ENDPOINT: the stack, and where it has no more than one element also the PRE fields.
Format = Literal["POST", "PRE", "ENDPOINT"]


class _Key(NamedTuple):
    name: str
    type: ValueType
    reservations: tuple[ReservationInfo, ...] = ()
    allocation_role: str | None = None
    disk: DiskInfo | None = None
    provider_id: ResourceProviderID | None = None
    revocable: bool = False
    shared: bool = False
    #: Thousandths of one copy, for kinds that are counted instead of summed.
    exact: int | None = None


class Kind:
    """One kind of resource. Equal kinds are the same object, so that dicts compare by identity."""

    __slots__ = ("__weakref__", "_allocated", "_core", "_key", "is_counted", "is_plain")

    def __init__(self, key: _Key) -> None:
        self._key = key
        self._allocated: dict[str | None, Kind] = {}
        self.is_counted = key.exact is not None
        self.is_plain = key[2:] == (((), None, None, None, False, False, None))
        core = key if key.disk is None else key._replace(disk=_disk_core(key.disk))
        # No reference to itself, which would keep it until the next collection of cycles.
        self._core = None if core == key else Kind.of(core)

    @staticmethod
    def of(key: _Key) -> Kind:
        """The kind for `key`."""
        kind = _KINDS.get(key)
        if kind is None:
            kind = _KINDS[key] = Kind(key)
        return kind

    def __copy__(self) -> Kind:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Kind:
        return self

    def __reduce__(self) -> tuple[Callable[[_Key], Kind], tuple[_Key]]:
        return (Kind.of, (self._key,))

    def __repr__(self) -> str:
        return f"Kind({self._key})"

    @property
    def core(self) -> Kind:
        """The same without what does not tell resources apart: where a volume is mounted."""
        return self if self._core is None else self._core

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def type(self) -> ValueType:
        return self._key.type

    @property
    def reservations(self) -> tuple[ReservationInfo, ...]:
        return self._key.reservations

    @property
    def allocation_role(self) -> str | None:
        return self._key.allocation_role

    @property
    def disk(self) -> DiskInfo | None:
        return self._key.disk

    @property
    def revocable(self) -> bool:
        return self._key.revocable

    @property
    def shared(self) -> bool:
        return self._key.shared

    @property
    def exact(self) -> int | None:
        """Thousandths of one copy of a counted kind; None for all others."""
        return self._key.exact

    @property
    def role(self) -> str:
        """The role that the resource is reserved to, `*` if to nobody."""
        reservations = self._key.reservations
        return (reservations[-1].role or UNRESERVED) if reservations else UNRESERVED

    @property
    def is_reserved(self) -> bool:
        return bool(self._key.reservations)

    @property
    def is_dynamically_reserved(self) -> bool:
        return self.is_reserved and self._key.reservations[-1].type == "DYNAMIC"

    @property
    def is_refined(self) -> bool:
        """Whether the reservation cannot be told in the PRE format."""
        return len(self._key.reservations) > 1

    @property
    def is_persistent_volume(self) -> bool:
        return self._key.disk is not None and self._key.disk.persistence is not None

    @property
    def persistence_id(self) -> str | None:
        disk = self._key.disk
        return None if disk is None or disk.persistence is None else disk.persistence.id

    def is_allocatable_to(self, role: str) -> bool:
        """Unreserved, or reserved to `role` or to one of its ancestors."""
        if not self._key.reservations:
            return True
        mine = self.role
        return mine == role or is_strict_subrole(role, mine)

    def allocated(self, role: str | None) -> Kind:
        """The same, allocated to `role`; None for not allocated."""
        if self._key.allocation_role == role:
            return self
        kind = self._allocated.get(role)
        if kind is None:
            kind = self._allocated[role] = self.replace(allocation_role=role)
        return kind

    def pushed(self, reservation: ReservationInfo) -> Kind:
        """The same, reserved once more."""
        return self.replace(reservations=(*self._key.reservations, reservation))

    def popped(self) -> Kind:
        """The same without its last reservation; a kind without any stays as it is."""
        return self.replace(reservations=self._key.reservations[:-1])

    def replace(self, **changes: Any) -> Kind:
        """The same with other fields; the caller keeps `exact` in line with `disk` and `shared`."""
        return Kind.of(self._key._replace(**changes))

    def wire_fields(self, format: Format) -> dict[str, Any]:
        """Fields of `wire.mesos.Resource` without the value. WireError: refined, asked for PRE."""
        key = self._key
        fields: dict[str, Any] = {"name": key.name, "type": key.type}
        if key.allocation_role is not None:
            fields["allocation_info"] = AllocationInfo(role=key.allocation_role)
        if key.disk is not None:
            fields["disk"] = key.disk
        if key.provider_id is not None:
            fields["provider_id"] = key.provider_id
        if key.revocable:
            fields["revocable"] = RevocableInfo()
        if key.shared:
            fields["shared"] = SharedInfo()
        if key.reservations and format != "PRE":
            fields["reservations"] = key.reservations
        if format != "POST":
            self._add_pre_fields(fields, format)
        return fields

    def _add_pre_fields(self, fields: dict[str, Any], format: Format) -> None:
        reservations = self._key.reservations
        if len(reservations) > 1:
            if format == "PRE":
                raise WireError(
                    f"{self.name}: a refined reservation to '{self.role}' cannot be told to a peer"
                    " without RESERVATION_REFINEMENT"
                )
            return
        fields["role"] = self.role
        if reservations and reservations[0].type == "DYNAMIC":
            fields["reservation"] = ReservationInfo(
                principal=reservations[0].principal, labels=reservations[0].labels
            )


_KINDS: WeakValueDictionary[_Key, Kind] = WeakValueDictionary()

#: Kept for good, so that nearly every resource on the wire finds its kind with one look-up.
_PREDEFINED: dict[tuple[str, ValueType], Kind] = {
    (kind.name, kind.type): kind
    for kind in (
        Kind.of(_Key("cpus", "SCALAR")),
        Kind.of(_Key("gpus", "SCALAR")),
        Kind.of(_Key("mem", "SCALAR")),
        Kind.of(_Key("disk", "SCALAR")),
        Kind.of(_Key("ports", "RANGES")),
    )
}


def plain(name: str, type: ValueType) -> Kind:
    """The unreserved, unallocated kind of that name."""
    kind = _PREDEFINED.get((name, type))
    return Kind.of(_Key(name, type)) if kind is None else kind


def _disk_core(disk: DiskInfo) -> DiskInfo:
    persistence = disk.persistence
    return DiskInfo(
        source=disk.source,
        persistence=None if persistence is None else Persistence(id=persistence.id),
    )


def is_indivisible(disk: DiskInfo | None, shared: bool) -> bool:
    """Whether such a resource is counted in copies: shared ones, volumes, MOUNT and BLOCK disks."""
    if shared:
        return True
    if disk is None:
        return False
    if disk.persistence is not None:
        return True
    source = disk.source
    if source is None:
        return False
    return source.type in {"MOUNT", "BLOCK"} or (source.type == "RAW" and source.id is not None)


def reservations_of(resource: Resource) -> tuple[ReservationInfo, ...]:
    """The stack of reservations of a resource in either format."""
    if resource.reservations:
        return resource.reservations
    role = resource.role
    if role is None or role == UNRESERVED:
        return ()
    dynamic = resource.reservation
    if dynamic is None:
        return (ReservationInfo(type="STATIC", role=role),)
    return (
        ReservationInfo(
            type="DYNAMIC", role=role, principal=dynamic.principal, labels=dynamic.labels
        ),
    )


def kind_of(resource: Resource, thousandths: int | None) -> Kind:
    """The kind of a wire resource; `thousandths` is its value if it is a scalar."""
    disk = resource.disk
    shared = resource.shared is not None
    allocation = resource.allocation_info
    exact = thousandths if (shared or disk is not None) and is_indivisible(disk, shared) else None
    return Kind.of(
        _Key(
            resource.name,
            resource.type,
            reservations_of(resource),
            None if allocation is None else allocation.role,
            disk,
            resource.provider_id,
            resource.revocable is not None,
            shared,
            exact,
        )
    )


def is_plain(resource: Resource) -> bool:
    """Whether nothing but name, type and value is set; cheap, for it decides the fast path."""
    return (
        not resource.reservations
        and resource.allocation_info is None
        and resource.disk is None
        and (resource.role is None or resource.role == UNRESERVED)
        and resource.reservation is None
        and resource.revocable is None
        and resource.shared is None
        and resource.provider_id is None
    )


def with_format(resource: Resource, format: Format) -> Resource:
    """`resource` with its reservations told in `format`. Raises WireError as `wire_fields`."""
    kind = kind_of(resource, None)
    fields = kind.wire_fields(format)
    return msgspec.structs.replace(
        resource,
        role=fields.get("role"),
        reservation=fields.get("reservation"),
        reservations=fields.get("reservations", ()),
    )
