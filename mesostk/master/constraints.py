"""Offer constraints: which agents a framework lets be offered to it, role by role.

A role is offered an agent that at least one of its groups takes; a group takes an agent that meets
all its constraints. Source: spec/mesos.md §2.6, mesos.proto `OfferConstraints`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from mesostk.master.state import Agent
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

_REGEX = (
    "regular expressions are not supported by this master;"
    " use 'text_equals' in one group for each value"
)


def error(constraints: OfferConstraints | None, roles: Collection[str]) -> str | None:
    """Why a framework in `roles` cannot set these; None if it can."""
    if constraints is None:
        return None
    for role, item in sorted(constraints.role_constraints.items()):
        if role not in roles:
            return f"Offer constraints name the role '{role}', which is not subscribed to"
        if not item.groups:
            return f"Offer constraints of the role '{role}' have no 'groups'"
        for group in item.groups:
            why = _group_error(group)
            if why is not None:
                return f"Offer constraints of the role '{role}': {why}"
    return None


def _group_error(group: ConstraintGroup) -> str | None:
    if not group.attribute_constraints:
        return "a group has no 'attribute_constraints'"
    for constraint in group.attribute_constraints:
        selector, predicate = constraint.selector, constraint.predicate
        if (selector.attribute_name is None) == (selector.pseudoattribute_type is None):
            return "'selector' takes one of 'attribute_name' and 'pseudoattribute_type'"
        if selector.pseudoattribute_type == "UNKNOWN":
            return "'pseudoattribute_type' is unknown"
        if predicate.text_matches is not None or predicate.text_not_matches is not None:
            return _REGEX
        if len(_predicates(predicate)) != 1:
            return "'predicate' takes exactly one field"
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
    return tests


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
