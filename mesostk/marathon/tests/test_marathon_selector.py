"""Label selectors (spec/marathon §1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.marathon import selector
from mesostk.marathon.refusal import Refused

LABELS = {"tier": "web", "env": "prod", "odd key": "a,b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tier", True),
        ("none", False),
        ("tier==web", True),
        ("tier == db", False),
        ("tier!=db", True),
        ("none!=db", False),
        ("tier in (db, web)", True),
        ("tier notin (db,web)", False),
        ("none notin (db)", False),
        ("tier==web,env==prod", True),
        ("tier==web, env==test", False),
        (r"odd\ key==a\,b", True),
    ],
)
def test_matching(text: str, expected: bool) -> None:
    assert selector.matches(selector.parse(text), LABELS) == expected


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "a=b", "a==", "a in b", "a in ()", "a b", "(", "\\"]
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="Can not parse label selector") as caught:
        selector.parse(text)
    assert caught.value.status == 422


@given(st.text(max_size=20))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        terms = selector.parse(text)
    except Refused:
        return
    assert terms
