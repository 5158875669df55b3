"""Attributes of agents: `rack:abc;level:10;keys:[1000-1500]`.

Source: Mesos `src/common/attributes.cpp`, docs/attributes-resources.md. An attribute is text,
a number or ranges; sets are not allowed. A name may come twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesostk.errors import ConfigError
from mesostk.resources import ranges, scalar
from mesostk.resources.text import parse_ranges, parse_scalar
from mesostk.wire import legacy
from mesostk.wire.mesos import Attribute, Range, Ranges, Scalar, Text


def parse(text: str) -> tuple[Attribute, ...]:
    """The attributes of a flag's value. Raises ConfigError that quotes the part that is wrong."""
    return tuple(_parse_one(part.strip()) for part in text.split(";") if part.strip())


def _parse_one(part: str) -> Attribute:
    name, colon, value = part.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not name or not value:
        raise ConfigError(f"Invalid attribute key:value pair '{part}'")
    return parse_value(name, value)


def parse_value(name: str, value: str) -> Attribute:
    """One attribute of its two texts, typed as its value looks. Raises ConfigError for a set."""
    if value.startswith("["):
        pairs = tuple(Range(begin, end) for begin, end in parse_ranges(value))
        return Attribute(name=name, type="RANGES", ranges=Ranges(range=pairs))
    if value.startswith("{"):
        raise ConfigError(f"Bad type for attribute '{name}' value '{value}': sets are not allowed")
    number = parse_scalar(value)
    if number is not None:
        return Attribute(name=name, type="SCALAR", scalar=Scalar(number))
    return Attribute(name=name, type="TEXT", text=Text(value))


def value_text(attribute: Attribute) -> str:
    """The value as text: `abc`, `10`, `[1000-1500]`. Constraints compare with it."""
    if attribute.text is not None:
        return attribute.text.value
    if attribute.scalar is not None:
        return scalar.to_text(scalar.from_float(attribute.scalar.value))
    if attribute.ranges is not None:
        pairs = ranges.of((pair.begin, pair.end) for pair in attribute.ranges.range)
        return "[" + ",".join(f"{begin}-{end}" for begin, end in pairs) + "]"
    return ""


def to_text(attributes: Iterable[Attribute]) -> str:
    """Flag text; `parse` reads it back."""
    return ";".join(f"{attribute.name}:{value_text(attribute)}" for attribute in attributes)


def named(attributes: Iterable[Attribute], name: str) -> Attribute | None:
    """The first attribute called `name`."""
    return next((attribute for attribute in attributes if attribute.name == name), None)


def matches(attributes: Iterable[Attribute], name: str, value: str) -> bool:
    """Whether an attribute `name` has the value that the text `value` means (`10` is `10.0`)."""
    wanted = value_text(parse_value(name, value)) if value else value
    return any(item.name == name and value_text(item) == wanted for item in attributes)


def legacy_object(attributes: Iterable[Attribute]) -> dict[str, float | str]:
    """The object that /state shows; see `wire.legacy.attributes_view`."""
    return legacy.attributes_view(attributes)
