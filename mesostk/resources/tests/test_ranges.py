"""Interval arithmetic against sets of integers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given

from mesostk.resources import ranges
from mesostk.testing.strategies import interval_sets, pairs


def _set(found: ranges.Ranges) -> set[int]:
    return set(ranges.values(found))


@given(pairs())
def test_canonical_form_holds_the_same_integers_sorted_disjoint_and_not_adjacent(
    given_pairs: list[tuple[int, int]],
) -> None:
    found = ranges.of(given_pairs)
    assert _set(found) == {i for begin, end in given_pairs for i in range(begin, end + 1)}
    for (_, end), (begin, _) in pairwise(found):
        assert end + 1 < begin


@given(interval_sets(), interval_sets())
def test_every_operation_agrees_with_python_sets(a: ranges.Ranges, b: ranges.Ranges) -> None:
    assert _set(ranges.union(a, b)) == _set(a) | _set(b)
    assert _set(ranges.subtract(a, b)) == _set(a) - _set(b)
    assert _set(ranges.intersect(a, b)) == _set(a) & _set(b)
    assert ranges.contains(a, b) == (_set(a) >= _set(b))
    assert ranges.size(a) == len(_set(a))
    assert [ranges.has(a, i) for i in range(50)] == [i in _set(a) for i in range(50)]


@given(interval_sets(), interval_sets())
def test_results_are_canonical(a: ranges.Ranges, b: ranges.Ranges) -> None:
    for result in (ranges.union(a, b), ranges.subtract(a, b), ranges.intersect(a, b)):
        assert ranges.of(result) == result


def test_inverted_pairs_hold_nothing() -> None:
    assert ranges.of([(5, 4)]) == ()


def test_text_is_that_of_state() -> None:
    assert ranges.to_text(ranges.of([(31000, 32000), (33000, 33005)])) == (
        "[31000-32000, 33000-33005]"
    )
    assert ranges.of_values([3, 1, 2, 9]) == ((1, 3), (9, 9))
