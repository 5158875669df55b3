"""Why a wire resource is not one, in the original's words.

Source: `Resources::validate` in Mesos `src/common/resources.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from mesostk.resources.roles import UNRESERVED, is_strict_subrole, why_not_role
from mesostk.wire.mesos import Resource


def why_not_all(resources: Iterable[Resource]) -> str | None:
    """Reason for the first of `resources` that is invalid; None if all are valid."""
    for resource in resources:
        reason = why_not(resource)
        if reason is not None:
            return f"Resource '{resource.name}' is invalid: {reason}"
    return None


def why_not(resource: Resource) -> str | None:
    """Why `resource` is invalid; None if it is valid."""
    if not resource.name:
        return "Empty resource name"
    return _why_not_value(resource) or _why_not_disk(resource) or _why_not_reservation(resource)


def _why_not_value(resource: Resource) -> str | None:
    set_ones = (resource.scalar is not None, resource.ranges is not None, resource.set is not None)
    if resource.type == "SCALAR":
        return _why_not_scalar(resource, set_ones)
    if resource.type == "RANGES":
        return _why_not_ranges(resource, set_ones)
    if resource.type == "SET":
        if resource.set is None or set_ones != (False, False, True):
            return "Invalid set resource"
        items = resource.set.item
        duplicated = len(set(items)) != len(items)
        return "Invalid set resource: duplicated elements" if duplicated else None
    return "Unsupported resource type"


def _why_not_scalar(resource: Resource, set_ones: tuple[bool, bool, bool]) -> str | None:
    if resource.scalar is None or set_ones != (True, False, False):
        return "Invalid scalar resource"
    value = resource.scalar.value
    if not math.isfinite(value * 1000):
        return "Invalid scalar resource: value is not a finite number"
    if value < 0:
        return "Invalid scalar resource: value < 0"
    if resource.name == "gpus" and round(value * 1000) % 1000:
        return "The 'gpus' resource must be an unsigned integer"
    return None


def _why_not_ranges(resource: Resource, set_ones: tuple[bool, bool, bool]) -> str | None:
    if resource.ranges is None or set_ones != (False, True, False):
        return "Invalid ranges resource"
    pairs = [(pair.begin, pair.end) for pair in resource.ranges.range]
    if any(begin < 0 or end >= 2**64 for begin, end in pairs):
        return "Invalid ranges resource: not an unsigned 64-bit integer"
    if any(begin > end for begin, end in pairs):
        return "Invalid ranges resource: begin > end"
    pairs.sort()
    for (_, end), (begin, _) in pairwise(pairs):
        if begin <= end:
            return "Invalid ranges resource: overlapping ranges"
    return None


def _why_not_disk(resource: Resource) -> str | None:
    disk = resource.disk
    if disk is None:
        return None
    if resource.name != "disk":
        return f"DiskInfo should not be set for {resource.name} resource"
    if disk.source is not None and disk.source.type == "UNKNOWN":
        return "Unsupported 'DiskInfo.Source.Type' in 'disk' resource"
    return None


def _why_not_reservation(resource: Resource) -> str | None:
    if resource.reservations:
        return _why_not_stack(resource) or _why_not_both_formats(resource)
    role = UNRESERVED if resource.role is None else resource.role
    reason = why_not_role(role)
    if reason is not None:
        return reason
    if resource.reservation is None:
        return None
    if resource.reservation.type is not None:
        return (
            "Invalid resource format: 'Resource.ReservationInfo.type' must not be set for the"
            " 'Resource.reservation' field"
        )
    if resource.reservation.role is not None:
        return (
            "Invalid resource format: 'Resource.ReservationInfo.role' must not be set for the"
            " 'Resource.reservation' field"
        )
    if role == UNRESERVED:
        return 'Invalid reservation: role "*" cannot be dynamically reserved'
    return None


def _why_not_stack(resource: Resource) -> str | None:
    for reservation in resource.reservations:
        for field in ("type", "role"):
            if getattr(reservation, field) in {None, "UNKNOWN"}:
                return f"Invalid reservation: 'Resource.ReservationInfo.{field}' field must be set."
        role = str(reservation.role)
        reason = why_not_role(role)
        if reason is not None:
            return reason
        if role == UNRESERVED:
            return 'Invalid reservation: role "*" cannot be reserved'
    return _why_not_refinement(resource)


def _why_not_refinement(resource: Resource) -> str | None:
    ancestor = str(resource.reservations[0].role)
    for reservation in resource.reservations[1:]:
        if reservation.type == "STATIC":
            return "Invalid refined reservation: A refined reservation cannot be STATIC"
        role = str(reservation.role)
        if not is_strict_subrole(role, ancestor):
            return f"Invalid refined reservation: role '{role}' is not a refinement of '{ancestor}'"
        ancestor = role
    return None


def _why_not_both_formats(resource: Resource) -> str | None:
    """Both formats at once are accepted only where they say the same (the ENDPOINT format)."""
    if resource.role is None and resource.reservation is None:
        return None
    if len(resource.reservations) > 1:
        field = "role" if resource.role is not None else "reservation"
        return (
            f"Invalid resource format: 'Resource.{field}' must not be set with refined reservations"
        )
    only = resource.reservations[0]
    if resource.role is not None and resource.role != only.role:
        return (
            f"Invalid resource format: 'Resource.role' field with '{resource.role}' does not match"
            f" the role '{only.role}' in 'Resource.reservations'"
        )
    if resource.reservation is None:
        return None
    if only.type == "STATIC":
        return (
            "Invalid resource format: 'Resource.reservation' must not be set if the single"
            " reservation in 'Resource.reservations' is STATIC"
        )
    same = (resource.reservation.principal, resource.reservation.labels) == (
        only.principal,
        only.labels,
    )
    if same:
        return None
    return (
        "Invalid resource format: 'Resource.reservation' does not match the reservation in"
        " 'Resource.reservations'"
    )
