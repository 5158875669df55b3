"""Resources in flags: `cpus:24;mem:24576;ports:[31000-32000];disks(web):{a,b}`, or JSON.

Source: Mesos docs/attributes-resources.md and `Resources::fromString`. Only what an operator may
say at start: unreserved resources and static reservations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import msgspec

from mesostk.errors import ConfigError, WireError
from mesostk.resources import ranges, validity
from mesostk.resources.quantity import Quantity
from mesostk.resources.quantity import to_text as quantity_to_text
from mesostk.resources.resources import Resources
from mesostk.resources.roles import UNRESERVED
from mesostk.wire import json
from mesostk.wire.mesos import Range, Ranges, ReservationInfo, Resource, Scalar, Set, ValueType

_RANGE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*")
#: More than any number of 64 bits has, zeros before it included; `int` reads 4,300 at most.
_MAX_DIGITS = 100
_UNSAYABLE = re.compile(r"[\s,;:{}]|^$")
_NAME = re.compile(r"\s*(?P<name>[^()]*?)\s*(?:\(\s*(?P<role>[^()]*?)\s*\)\s*)?")


def parse(text: str, default_role: str = UNRESERVED) -> Resources:
    """The resources of a flag's value; zero quantities are left out.

    Raises ConfigError that quotes the part that is wrong.
    """
    stripped = text.strip()
    if stripped.startswith("["):
        wire = _from_json(stripped, default_role)
    else:
        wire = [_parse_one(part, default_role) for part in stripped.split(";") if part.strip()]
    types: dict[str, ValueType] = {}
    for resource in wire:
        reason = validity.why_not(resource) or _why_not_static(resource)
        if reason is not None:
            raise ConfigError(f"resources: '{resource.name}' is invalid: {reason}")
        if types.setdefault(resource.name, resource.type) != resource.type:
            raise ConfigError(
                f"resources: Resources with the same name ('{resource.name}') but different types"
                " are not allowed"
            )
    try:
        return Resources.of(wire)
    except WireError as error:
        raise ConfigError(f"resources: {error}") from error


def parse_quantities(text: str) -> dict[str, int]:
    """Thousandths by name of `cpus:0.01;mem:32`. Raises ConfigError for anything else."""
    quantities: dict[str, int] = {}
    for kind, quantity in parse(text).items():
        if not isinstance(quantity, int) or kind.is_reserved:
            raise ConfigError(
                f"'{text}': expected unreserved scalars only, such as cpus:0.01;mem:32"
            )
        quantities[kind.name] = quantity
    return quantities


def to_text(resources: Resources) -> str:
    """The flag text of unreserved and statically reserved resources; `parse` reads it back.

    Raises ConfigError for what flag text cannot say.
    """
    parts: list[str] = []
    for kind, quantity in resources.items():
        role = ""
        if kind.is_reserved:
            role = f"({kind.role})"
        if not _is_sayable(kind.replace(reservations=()).is_plain, kind.reservations):
            raise ConfigError(f"{kind.name}: only JSON can say a resource of this kind")
        parts.append(f"{kind.name}{role}:{_quantity_text(quantity)}")
    return ";".join(parts)


def _quantity_text(quantity: Quantity) -> str:
    """As the flag has it, without the spaces that messages have. Raises ConfigError."""
    if isinstance(quantity, frozenset):
        for item in quantity:
            if _UNSAYABLE.search(item):
                raise ConfigError(f"set item '{item}': only JSON can say it")
    return quantity_to_text(quantity).replace(", ", ",")


def _is_sayable(is_plain: bool, reservations: tuple[ReservationInfo, ...]) -> bool:
    if not is_plain:
        return False
    return not reservations or (len(reservations) == 1 and reservations[0].type == "STATIC")


def _from_json(text: str, default_role: str) -> list[Resource]:
    try:
        found = json.decode(text, tuple[Resource, ...])
    except WireError as error:
        raise ConfigError(f"resources: {error}") from error
    return [_with_default_role(resource, default_role) for resource in found]


def _with_default_role(resource: Resource, default_role: str) -> Resource:
    if default_role == UNRESERVED or resource.reservations or resource.role is not None:
        return resource
    return msgspec.structs.replace(resource, role=default_role)


def _why_not_static(resource: Resource) -> str | None:
    if any(item.type == "DYNAMIC" for item in resource.reservations) or resource.reservation:
        return "dynamic reservations are made with RESERVE, not by a flag"
    if resource.disk is not None and resource.disk.persistence is not None:
        return "persistent volumes are made with CREATE, not by a flag"
    if resource.revocable is not None:
        return "revocable resources come from oversubscription, not from a flag"
    if resource.allocation_info is not None:
        return "allocation_info is set by the master, not by a flag"
    return None


def _parse_one(part: str, default_role: str) -> Resource:
    head, colon, value = part.partition(":")
    if not colon or ":" in value:
        raise ConfigError(
            f"Bad value for resources, missing or extra ':' in '{part.strip()}';"
            " expected name:value or name(role):value"
        )
    match = _NAME.fullmatch(head)
    if match is None:
        raise ConfigError(f"Bad value for resources, mismatched parentheses in '{part.strip()}'")
    role = match["role"] if match["role"] is not None else default_role
    return parse_value(match["name"], value, role)


def parse_value(name: str, value: str, role: str = UNRESERVED) -> Resource:
    """One resource of its three texts. Raises ConfigError."""
    stripped = value.strip()
    role_field = None if role == UNRESERVED else role
    if stripped.startswith("["):
        pairs = parse_ranges(stripped)
        found = Ranges(range=tuple(Range(begin, end) for begin, end in pairs))
        return Resource(name=name, type="RANGES", ranges=found, role=role_field)
    if stripped.startswith("{"):
        return Resource(name=name, type="SET", set=_parse_set(stripped), role=role_field)
    amount = parse_scalar(stripped)
    if amount is None:
        raise ConfigError(
            f"Bad value '{stripped}' for resource '{name}':"
            " expected a number, ranges [1-2] or a set {a,b}"
        )
    return Resource(name=name, type="SCALAR", scalar=Scalar(amount), role=role_field)


def parse_scalar(text: str) -> float | None:
    """The finite number that `text` is; None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_ranges(text: str) -> ranges.Ranges:
    """`[1-2, 4-9]`; overlapping ones are merged. Raises ConfigError."""
    if not text.endswith("]"):
        raise ConfigError(f"'{text}': missing ']' at the end of ranges")
    pairs = [_parse_range(part, text) for part in _parts(text[1:-1])]
    return ranges.of(pairs)


def _parse_range(part: str, text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ConfigError(f"'{text}': expected ranges such as [31000-32000,33000-33005]")
    if max(len(match[1]), len(match[2])) > _MAX_DIGITS:
        raise ConfigError(f"'{text[:80]}': a number of over {_MAX_DIGITS} digits")
    begin, end = int(match[1]), int(match[2])
    if begin > end:
        raise ConfigError(f"'{text}': {begin} is above {end}")
    if end >= 2**64:
        raise ConfigError(f"'{text}': {end} does not fit 64 bits")
    return begin, end


def _parse_set(text: str) -> Set:
    if not text.endswith("}"):
        raise ConfigError(f"'{text}': missing '}}' at the end of a set")
    return Set(item=tuple(dict.fromkeys(part.strip() for part in _parts(text[1:-1]))))


def _parts(inner: str) -> Iterable[str]:
    return [part for part in inner.split(",") if part.strip()]
