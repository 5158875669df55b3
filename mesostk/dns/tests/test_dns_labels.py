"""Labels: the examples of spec/dns-lb-autoscale.md §1.6 and §1.7, and what holds of every text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.dns.labels import (
    MAX_LABEL,
    MAX_LABEL_952,
    agent_tail,
    canonical,
    domain_part,
    is_name,
    label,
    task_hash,
    underscored,
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.b_c", "a-b-c"),
        ("-4abc", "4abc"),
        ("$$$", ""),
        ("Web UI", "webui"),
        ("naïve", "nave"),
        ("--a--", "a"),
        ("hello" + 58 * "-" + "f", "hellof"),
        ("hello" + 56 * "-" + "f", "hello" + 56 * "-" + "f"),
        (64 * "x", 63 * "x"),
        ("\u212aelvin", "elvin"),
    ],
)
def test_a_label_keeps_letters_digits_and_dashes(text: str, wanted: str) -> None:
    assert label(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"), [("-4abc", "abc"), ("a" * 30, "a" * 24), ("1-2-web", "web")]
)
def test_rfc_952_labels_begin_with_a_letter_and_are_short(text: str, wanted: str) -> None:
    assert label(text, rfc952=True) == wanted


def test_framework_names_keep_their_dots() -> None:
    assert domain_part("Chronos 2.x_dev") == "chronos2.x-dev"
    assert domain_part("..a..$.b.") == "a.b"


def test_hash_and_tail_are_the_originals() -> None:
    assert task_hash("test") == "iffe9"
    assert agent_tail("5f1ab0a7-0fe5-4e07-b5a4-S12") == "s12"


def test_a_canonical_label_fits_into_a_label() -> None:
    assert canonical("nginx", "test", "x-S0") == "nginx-iffe9-s0"
    name = canonical(63 * "x", "test", "x-S0")
    assert len(name) == MAX_LABEL
    assert name.endswith("-iffe9-s0")
    assert canonical("", "test", "x-S0") == "iffe9-s0"


def test_the_underscore_counts() -> None:
    assert underscored(63 * "x") == "_" + 62 * "x"
    assert underscored(40 * "x" + "." + 40 * "y") == "_" + 40 * "x" + "." + 40 * "y"


@given(st.text(max_size=200), st.booleans())
def test_every_label_is_one(text: str, rfc952: bool) -> None:
    made = label(text, rfc952)
    assert len(made) <= (MAX_LABEL_952 if rfc952 else MAX_LABEL)
    assert not made or is_name(made)
    assert "." not in made
    assert not made.startswith("-")
    assert not made.endswith("-")
    if rfc952:
        assert not made[:1].isdigit()


@given(st.text(max_size=200))
def test_a_label_of_a_label_is_itself(text: str) -> None:
    assert label(label(text)) == label(text)


@given(st.text(max_size=100), st.text(max_size=50), st.text(max_size=50))
def test_every_canonical_name_can_be_asked_for(task: str, task_id: str, agent: str) -> None:
    assert is_name(canonical(label(task), task_id, agent))


@given(st.text(alphabet="ab.-", max_size=40))
def test_names_have_no_empty_labels(text: str) -> None:
    assert is_name(text) == (bool(text) and all(text.split(".")))
