"""Service ports and host ports (spec/marathon §2.3, §3.5)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.marathon import ports
from mesostk.marathon.apps import normalise, service_ports
from mesostk.marathon.refusal import Refused
from mesostk.resources import ranges
from mesostk.wire.marathon import AppDefinition


def host_app(id: str, *numbers: int) -> AppDefinition:
    return normalise({"id": id, "cmd": "x", "ports": list(numbers)})


def assigned(*apps: AppDefinition, existing: tuple[AppDefinition, ...] = ()) -> list[object]:
    before = {app.id: app for app in existing}
    return [service_ports(a) for a in ports.assign_service_ports(apps, before, 10000, 10004)]


def test_the_lowest_free_numbers_are_taken() -> None:
    assert assigned(host_app("/a", 0, 0)) == [(10000, 10001)]
    other = host_app("/b", 10000)
    assert assigned(host_app("/a", 0), existing=(other,)) == [(10001,)]
    assert assigned(host_app("/a", 0, 10000)) == [(10001, 10000)]


def test_ports_that_were_there_stay_on_update() -> None:
    before = host_app("/a", 10002)
    assert assigned(host_app("/a", 0, 0), existing=(before,)) == [(10002, 10000)]
    assert assigned(host_app("/a", 10002, 0), existing=(before,)) == [(10002, 10000)]


def test_given_numbers_may_be_those_of_another_app_as_the_tutorial_does() -> None:
    other = host_app("/b", 10000)
    assert assigned(host_app("/a", 10000), existing=(other,)) == [(10000,)]


def test_one_app_alone() -> None:
    app = ports.assign(host_app("/a", 0, 10001), host_app("/a", 10005), {10000}, 10000, 10009)
    assert service_ports(app) == (10005, 10001)
    assert service_ports(ports.assign(host_app("/a", 0), None, {10000}, 10000, 10009)) == (10001,)
    with pytest.raises(Refused, match="already in use"):
        ports.assign(host_app("/a", 0), None, {10000}, 10000, 10001)


def test_a_batch_shares_the_range_and_its_end_is_refused() -> None:
    assert assigned(host_app("/a", 0), host_app("/b", 0)) == [(10000,), (10001,)]
    with pytest.raises(Refused, match=r"All ports in the range \[10000-10004\) are already in use"):
        assigned(host_app("/a", 0, 0, 0), host_app("/b", 0, 0))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0, 0, 10001, 20000]), max_size=3), max_size=4),
    st.lists(st.integers(10000, 10030), max_size=5, unique=True),
)
def test_no_port_is_assigned_twice(wanted: list[list[int]], taken: list[int]) -> None:
    apps = [host_app(f"/a{i}", *dict.fromkeys(numbers)) for i, numbers in enumerate(wanted)]
    existing = {"/old": host_app("/old", *taken)}
    done = ports.assign_service_ports(apps, existing, 10000, 10100)
    fresh = [
        after
        for app, result in zip(apps, done, strict=True)
        for number, after in zip(service_ports(app), service_ports(result), strict=True)
        if number == 0
    ]
    assert len(set(fresh)) == len(fresh)
    named = {number for numbers in wanted for number in numbers if number != 0}
    assert not set(fresh) & ({*taken} | named)
    assert all(10000 <= number < 10100 for number in fresh)


def test_host_ports_any_fixed_and_none() -> None:
    rng = random.Random(1)
    found = ports.choose((31005, 0, None), [((31000, 31009),)], rng)
    assert isinstance(found, tuple)
    assert found[0] == 31005
    assert found[1] in set(range(31000, 31010)) - {31005}
    assert found[2] is None
    assert ports.choose((80,), [((31000, 31009),)], rng) == "port 80 is not offered"
    assert ports.choose((0, 0), [((1, 1),)], rng) == "needs 2 free ports, offer has 1"
    assert ports.choose((53, 53), [((53, 53),)], rng) == (53, 53)


spans = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 8)).map(lambda at: (at[0], at[0] + at[1])),
    max_size=4,
).map(ranges.of)


@settings(max_examples=200, deadline=None)
@given(spans, spans, st.lists(st.sampled_from([0, 0, 0, 5, 9, None]), max_size=8), st.randoms())
def test_chosen_host_ports_are_offered_and_different(
    first: ranges.Ranges,
    second: ranges.Ranges,
    wanted: list[int | None],
    rng: random.Random,
) -> None:
    second = ranges.subtract(second, first)
    available = set(ranges.values(first)) | set(ranges.values(second))
    fixed = {number for number in wanted if number}
    found = ports.choose(wanted, [first, second], rng)
    dynamic = wanted.count(0)
    if not fixed <= available or len(available - fixed) < dynamic:
        assert isinstance(found, str)
        return
    assert isinstance(found, tuple)
    drawn = [port for number, port in zip(wanted, found, strict=True) if number == 0]
    assert len(set(drawn)) == dynamic
    assert set(drawn) <= available - fixed
    preferred = len(set(ranges.values(first)) - fixed)
    assert sum(ranges.has(first, port) for port in drawn if port) == min(dynamic, preferred)
