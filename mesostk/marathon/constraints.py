"""Placement constraints: may this app have one more instance on this agent?

Sources: spec/marathon §3.6 (operators, fields, how attributes are spelled), §2.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mesostk.base import patterns
from mesostk.wire.mesos import Attribute, Offer

HOSTNAME = "hostname"
REGION = "@region"
ZONE = "@zone"

_IS_VALUE = re.compile(r"[a-zA-Z0-9_/.-]*")
_GROUPS_FOR_EVERY_VALUE = "inf"


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where an instance is, or where an offer would put it."""

    hostname: str
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    region: str | None = None
    zone: str | None = None


def of_offer(offer: Offer) -> Placement:
    """The placement that accepting `offer` would give."""
    fault = offer.domain.fault_domain if offer.domain is not None else None
    return Placement(
        hostname=offer.hostname,
        attributes={attribute.name: spell(attribute) for attribute in offer.attributes},
        region=fault.region.name if fault is not None else None,
        zone=fault.zone.name if fault is not None else None,
    )


def spell(attribute: Attribute) -> str:
    """An attribute's value as constraints compare it: `web`, `1.5`, `[1-3,7-9]`, `{a,b}`."""
    if attribute.scalar is not None:
        return spell_number(attribute.scalar.value)
    if attribute.ranges is not None:
        spans = (f"{span.begin}-{span.end}" for span in attribute.ranges.range)
        return f"[{','.join(spans)}]"
    if attribute.set is not None:
        return "{" + ",".join(sorted(attribute.set.item)) + "}"
    return attribute.text.value if attribute.text is not None else ""


def spell_number(value: float) -> str:
    """A scalar as Mesos prints it: three digits at most, none that say nothing."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def value_of(field: str, place: Placement) -> str | None:
    """What `field` is at `place`; None where the agent has no such attribute."""
    if field in {HOSTNAME, "@hostname"}:
        return place.hostname
    if field == REGION:
        return place.region
    if field == ZONE:
        return place.zone
    return place.attributes.get(field)


def why_not(
    rules: Sequence[Sequence[str]], place: Placement, placed: Sequence[Placement], instances: int
) -> str | None:
    """Why one more instance may not go to `place`, or None.

    `placed` are the app's other instances of its current config version that are not terminal,
    scheduled or lost; `instances` is how many the app wants in all.
    """
    for rule in rules:
        field, operator = rule[0], rule[1]
        here = value_of(field, place)
        if here is None:
            if operator == "UNLIKE":
                continue
            return f"{' '.join(rule)}: agent {place.hostname} has no {field}"
        wanted = rule[2] if len(rule) > 2 else None
        others = [value for each in placed if (value := value_of(field, each)) is not None]
        if not _OPERATORS[operator](here, wanted, others, instances):
            return f"{' '.join(rule)}: not met with {field} {here}"
    return None


def _unique(here: str, _wanted: str | None, others: list[str], _n: int) -> bool:
    return here not in others


def _cluster(here: str, wanted: str | None, others: list[str], _n: int) -> bool:
    if wanted is not None:
        return here == wanted
    return not others or others[0] == here


def _like(here: str, wanted: str | None, _others: list[str], _n: int) -> bool:
    return wanted is not None and patterns.matches(wanted, here)


def _unlike(here: str, wanted: str | None, _others: list[str], _n: int) -> bool:
    return wanted is not None and not patterns.matches(wanted, here)


def _max_per(here: str, wanted: str | None, others: list[str], _n: int) -> bool:
    return wanted is not None and others.count(here) < int(wanted)


def _is(here: str, wanted: str | None, _others: list[str], _n: int) -> bool:
    if wanted is None:
        return False
    try:
        return spell_number(float(here)) == spell_number(float(wanted))
    except ValueError:
        return here == wanted


def _group_by(here: str, wanted: str | None, others: list[str], instances: int) -> bool:
    """With a number of groups: n instances go as n div groups to each, n mod groups get one more.

    Without a number the rule of 1.1-1.4: an unused value, or one of the smallest groups.
    """
    counts = Counter(others)
    if wanted is None:
        return here not in counts or counts[here] == min(counts.values())
    if wanted == _GROUPS_FOR_EVERY_VALUE:
        return here not in counts
    groups = int(wanted)
    if here not in counts:
        return len(counts) < groups
    per_group, rest = divmod(instances, groups)
    if counts[here] < per_group:
        return True
    fuller = sum(count > per_group for count in counts.values())
    return counts[here] == per_group and fuller < rest


_OPERATORS: Mapping[str, Callable[[str, str | None, list[str], int], bool]] = {
    "UNIQUE": _unique,
    "CLUSTER": _cluster,
    "GROUP_BY": _group_by,
    "LIKE": _like,
    "UNLIKE": _unlike,
    "MAX_PER": _max_per,
    "IS": _is,
}


def why_invalid(rule: Sequence[str]) -> str | None:
    """Why `[field, operator, value?]` is no constraint, or None."""
    if len(rule) not in (2, 3):
        return "Constraints must have two or three elements: field, operator, value"
    field, operator = rule[0], rule[1]
    value = rule[2] if len(rule) == 3 else None
    if not field:
        return "Missing field and operator"
    if operator not in _OPERATORS:
        return f"Invalid operator '{operator[:32]}': use one of {', '.join(sorted(_OPERATORS))}"
    if operator == "UNIQUE" and value is not None:
        return "Operator UNIQUE must not have a value"
    if operator in {"LIKE", "UNLIKE", "MAX_PER", "IS"} and value is None:
        return f"Missing value for {operator} operator"
    if value is None:
        return None
    return _why_invalid_value(operator, value)


def _why_invalid_value(operator: str, value: str) -> str | None:
    if operator in {"LIKE", "UNLIKE"}:
        try:
            patterns.compiled(value)
        except patterns.PatternError as error:
            return f"'{value[:64]}' is not a valid regular expression: it {error}"
    elif operator == "MAX_PER":
        if not _is_count(value):
            return f"Value '{value[:64]}' of MAX_PER must be a whole number"
    elif operator == "GROUP_BY":
        if value != _GROUPS_FOR_EVERY_VALUE and (not _is_count(value) or int(value) == 0):
            return f"Value '{value[:64]}' of GROUP_BY must be a whole number above 0, or inf"
    elif operator == "IS" and _IS_VALUE.fullmatch(value) is None:
        return f"Value '{value[:64]}' of IS may hold letters, digits and _/.- only"
    return None


def _is_count(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 10
