"""Patterns: the same answers as Python's engine, in bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.base.patterns import PatternError, compiled, matches

ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", "-", r"\.", "^", "$"])
REPEATS = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "{1,2}?"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    grouped = inner.map(lambda text: f"({text})") | inner.map(lambda text: f"(?:{text})")
    return (
        st.tuples(inner, inner).map("".join)
        | st.tuples(grouped, grouped).map("|".join)
        | st.tuples(grouped, REPEATS).map("".join)
    )


PATTERNS = st.recursive(ATOMS, _grown, max_leaves=6)


@given(PATTERNS, st.text("ab-.1_", max_size=8))
def test_answers_are_those_of_the_backtracking_engine(pattern: str, text: str) -> None:
    assert compiled(pattern).fullmatch(text) == (re.fullmatch(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+b", "a" * 4000),
        ("(a|a)*b", "a" * 4000),
        ("(.*)*(.*)*(.*)*x", "y" * 200),
        ("a?" * 60 + "a" * 60, "a" * 60 + "b"),
    ],
)
def test_patterns_that_would_hold_the_leader_for_minutes_are_answered(
    pattern: str, text: str
) -> None:
    assert not matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("rack-[1-3]", "rack-2"),
        ("10\\.0\\.3\\.5[1-3]", "10.0.3.51"),
        ("(?P<zone>us|eu)-.*", "eu-west"),
        ("[]a]+", "]a"),
        ("", ""),
        ("a{,3}", "a{,3}"),
        (r"\x41", "A"),
    ],
)
def test_what_people_write_matches(pattern: str, text: str) -> None:
    assert compiled(pattern).fullmatch(text)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a", "a)", "*a", "a**", "a++", "(?=a)b", "(?!a)b", "(?<=a)b", r"(a)\1", "[a", "[z-a]",
        "a{3,2}", "(?i)a", "a{1000}{2}", "((a{50}){50}){50}", "x" * 2000, "(" * 80 + ")" * 80,
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(PatternError):
        compiled(pattern)


def test_a_text_beyond_any_attribute_does_not_match() -> None:
    assert not compiled("a*").fullmatch("a" * 5000)


def test_the_size_grows_with_what_is_repeated() -> None:
    assert compiled("a").size < compiled("abc").size < compiled("(abc){4}").size
