"""Placement constraints (spec/marathon §3.6)."""

from __future__ import annotations

import pytest

from mesostk.marathon import constraints
from mesostk.marathon.constraints import Placement, why_invalid, why_not
from mesostk.wire import mesos


def at(
    host: str, region: str | None = None, zone: str | None = None, **attributes: str
) -> Placement:
    return Placement(hostname=host, attributes=attributes, region=region, zone=zone)


A, B = at("a", rack="r1"), at("b", rack="r2")
ANOTHER_A = at("a2", rack="r1")


@pytest.mark.parametrize(
    ("rule", "place", "placed", "accepted"),
    [
        (("hostname", "UNIQUE"), A, [B], True),
        (("hostname", "UNIQUE"), A, [A], False),
        (("@hostname", "UNIQUE"), A, [A], False),
        (("rack", "CLUSTER", "r1"), A, [], True),
        (("rack", "CLUSTER", "r1"), B, [], False),
        (("rack", "CLUSTER"), B, [], True),
        (("rack", "CLUSTER"), B, [A], False),
        (("rack", "CLUSTER"), ANOTHER_A, [A], True),
        (("rack", "LIKE", "r[12]"), A, [], True),
        (("rack", "LIKE", "r"), A, [], False),
        (("rack", "UNLIKE", "r2"), A, [], True),
        (("rack", "UNLIKE", "r."), A, [], False),
        (("disk", "UNLIKE", "ssd"), A, [], True),
        (("disk", "LIKE", "ssd"), A, [], False),
        (("disk", "UNIQUE"), A, [], False),
        (("rack", "MAX_PER", "2"), A, [A], True),
        (("rack", "MAX_PER", "2"), A, [A, ANOTHER_A], False),
        (("rack", "IS", "r1"), A, [], True),
        (("rack", "IS", "r2"), A, [], False),
        (("level", "IS", "1.50"), at("c", level="1.5"), [], True),
        (("@region", "IS", "eu"), at("c", region="eu"), [], True),
        (("@zone", "UNIQUE"), at("c", zone="z1"), [at("d", zone="z1")], False),
        (("rack", "GROUP_BY"), B, [A], True),
        (("rack", "GROUP_BY"), A, [A], True),
        (("rack", "GROUP_BY"), A, [A, ANOTHER_A, B], False),
        (("rack", "GROUP_BY", "inf"), A, [A], False),
        (("rack", "GROUP_BY", "2"), A, [A], True),  # 4 wanted in 2 groups: 2 each
        (("rack", "GROUP_BY", "2"), A, [A, ANOTHER_A], False),
        (("rack", "GROUP_BY", "1"), B, [A], False),
        (("rack", "GROUP_BY", "3"), A, [A], True),  # 4 in 3 groups: one has 2
        (("rack", "GROUP_BY", "3"), B, [A, ANOTHER_A, B], False),
    ],
)
def test_operators(
    rule: tuple[str, ...], place: Placement, placed: list[Placement], accepted: bool
) -> None:
    assert (why_not([rule], place, placed, 4) is None) == accepted


def test_a_refusal_says_which_rule_and_value() -> None:
    assert (
        why_not([("hostname", "UNIQUE")], A, [A], 2) == "hostname UNIQUE: not met with hostname a"
    )


def test_attributes_are_spelled_as_the_original_compares_them() -> None:
    assert (
        constraints.spell(mesos.Attribute(name="a", type="SCALAR", scalar=mesos.Scalar(2.0))) == "2"
    )
    spans = mesos.Ranges((mesos.Range(1, 3), mesos.Range(7, 9)))
    assert constraints.spell(mesos.Attribute(name="a", type="RANGES", ranges=spans)) == "[1-3,7-9]"
    items = mesos.Set(("b", "a"))
    assert constraints.spell(mesos.Attribute(name="a", type="SET", set=items)) == "{a,b}"


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        (("hostname",), "two or three"),
        (("hostname", "UNIQUE", "a"), "must not have a value"),
        (("rack", "LIKE"), "Missing value for LIKE operator"),
        (("rack", "LIKE", "["), "regular expression"),
        (("rack", "MAX_PER", "x"), "whole number"),
        (("rack", "GROUP_BY", "0"), "above 0"),
        (("rack", "IS", "a b"), "letters"),
        (("", "UNIQUE"), "Missing field"),
        (("rack", "NEAR"), "Invalid operator"),
    ],
)
def test_bad_constraints_are_explained(rule: tuple[str, ...], part: str) -> None:
    assert part in (why_invalid(rule) or "")


def test_patterns_are_followed_in_bounded_time() -> None:
    place = Placement(hostname="a" * 40)
    assert why_not([("hostname", "LIKE", "(a+)+b")], place, [], 1) is not None
    assert why_not([("hostname", "UNLIKE", "(a+)+b")], place, [], 1) is None
    assert why_invalid(("hostname", "LIKE", "(?=a)b")) is not None
