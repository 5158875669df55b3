"""Offer constraints: which agents a framework lets be offered to it, role by role.

A role is offered an agent that at least one of its groups takes; a group takes an agent that meets
all its constraints. Source: spec/mesos.md §2.6, mesos.proto `OfferConstraints`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from mesostk.base import patterns
from mesostk.master.state import Agent, Config
from mesostk.wire.mesos import Attribute
from mesostk.wire.scheduler import (
    AttributeConstraint,
    ConstraintGroup,
    OfferConstraints,
    Predicate,
    Selector,
)

#: A value that is compared: a text, an attribute of another type, or None where there is none.
_Value = str | Attribute | None

#: Bytes of a step of a compiled pattern, and the part of its memory that RE2 keeps for such.
_STEP_BYTES, _STEPS_SHARE = 16, 2 / 3


def error(
    constraints: OfferConstraints | None, roles: Collection[str], config: Config
) -> str | None:
    """Why a framework in `roles` cannot set these; None if it can."""
    if constraints is None:
        return None
    for role, item in sorted(constraints.role_constraints.items()):
        if role not in roles:
            return f"Offer constraints name the role '{role}', which is not subscribed to"
        if not item.groups:
            return f"Offer constraints of the role '{role}' have no 'groups'"
        for group in item.groups:
            why = _group_error(group, config)
            if why is not None:
                return f"Offer constraints of the role '{role}': {why}"
    return None


def _group_error(group: ConstraintGroup, config: Config) -> str | None:
    if not group.attribute_constraints:
        return "a group has no 'attribute_constraints'"
    for constraint in group.attribute_constraints:
        selector, predicate = constraint.selector, constraint.predicate
        if (selector.attribute_name is None) == (selector.pseudoattribute_type is None):
            return "'selector' takes one of 'attribute_name' and 'pseudoattribute_type'"
        if selector.pseudoattribute_type == "UNKNOWN":
            return "'pseudoattribute_type' is unknown"
        if len(_predicates(predicate)) != 1:
            return "'predicate' takes exactly one field"
        for regex in (predicate.text_matches, predicate.text_not_matches):
            why = None if regex is None else _regex_error(regex.regex, config)
            if why is not None:
                return why
    return None


def _regex_error(text: str, config: Config) -> str | None:
    """Why the pattern cannot be followed, or takes more than the flags allow."""
    try:
        size = patterns.compiled(text).size
    except patterns.PatternError as error:
        return f"the regex '{text[:100]}' {error}"
    if size > config.max_regex_size:
        return (
            f"the regex '{text[:100]}' is too large: its program size of {size} exceeds the"
            f" {config.max_regex_size} of --offer_constraints_re2_max_program_size"
        )
    if size * _STEP_BYTES > config.max_regex_bytes * _STEPS_SHARE:
        return (
            f"the regex '{text[:100]}' is too large: it needs more than the"
            f" {config.max_regex_bytes} bytes of --offer_constraints_re2_max_mem"
        )
    return None


def why_not(constraints: OfferConstraints | None, role: str, agent: Agent) -> str | None:
    """Why the agent is not offered in the role; None if nothing is against it."""
    if constraints is None or role not in constraints.role_constraints:
        return None
    for group in constraints.role_constraints[role].groups:
        if all(_is_met(item, agent) for item in group.attribute_constraints):
            return None
    return "the agent meets no group of the framework's offer constraints"


def _is_met(constraint: AttributeConstraint, agent: Agent) -> bool:
    [test] = _predicates(constraint.predicate)
    return any(test(value) for value in _values(constraint.selector, agent))


def _predicates(predicate: Predicate) -> list[Callable[[_Value], bool]]:
    """The tests that are set. What is no text passes those that compare texts."""
    tests: list[Callable[[_Value], bool]] = []
    if predicate.exists is not None:
        tests.append(lambda value: value is not None)
    if predicate.not_exists is not None:
        tests.append(lambda value: value is None)
    equals, differs = predicate.text_equals, predicate.text_not_equals
    if equals is not None:
        wanted = equals.value
        tests.append(lambda value: value == wanted or isinstance(value, Attribute))
    if differs is not None:
        unwanted = differs.value
        tests.append(lambda value: value != unwanted)
    like, unlike = predicate.text_matches, predicate.text_not_matches
    if like is not None:
        pattern = like.regex
        tests.append(lambda value: _matches(pattern, value) is not False)
    if unlike is not None:
        avoided = unlike.regex
        tests.append(lambda value: value is None or _matches(avoided, value) is not True)
    return tests


def _matches(pattern: str, value: _Value) -> bool | None:
    """Whether a text matches as a whole; what is absent does not, and None for what is no text."""
    if isinstance(value, Attribute):
        return None
    return value is not None and patterns.matches(pattern, value)


def _values(selector: Selector, agent: Agent) -> list[_Value]:
    domain = None if agent.info.domain is None else agent.info.domain.fault_domain
    match selector.pseudoattribute_type:
        case "HOSTNAME":
            return [agent.info.hostname]
        case "REGION":
            return [None if domain is None else domain.region.name]
        case "ZONE":
            return [None if domain is None else domain.zone.name]
        case _:
            named = [item for item in agent.info.attributes if item.name == selector.attribute_name]
            values: list[_Value] = [
                item if item.text is None else item.text.value for item in named
            ]
            return values or [None]
