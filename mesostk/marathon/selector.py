"""Label selectors of `GET /v2/apps?label=`: `a==1,b!=2,c in (x,y),d notin (z),e`.

A comma means "and". A bare word is `[-A-Za-z0-9_.]+`; any other character needs a backslash.
Source: spec/marathon §1.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from mesostk.marathon.refusal import Refused

Operator = Literal["exists", "==", "!=", "in", "notin"]

_WORD = r"(?:[-A-Za-z0-9_.]|\\.)+"
_TERM = re.compile(
    rf"\s*(?P<key>{_WORD})\s*(?:(?P<op>==|!=)\s*(?P<value>{_WORD})|"
    rf"(?P<set>in|notin)\s*\((?P<values>\s*{_WORD}\s*(?:,\s*{_WORD}\s*)*)\))?\s*(?:,|$)"
)
_ONE_WORD = re.compile(_WORD)

#: A query string is short; this only bounds the work of a hostile one.
MAX_LENGTH = 8192


class Term(msgspec.Struct, frozen=True):
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` hold the key as this term wants; an absent key never matches."""
        if self.key not in labels:
            return False
        if self.operator == "exists":
            return True
        return (labels[self.key] in self.values) == (self.operator in ("==", "in"))


def parse(text: str) -> tuple[Term, ...]:
    """The terms of a selector. Raises `Refused` (422) where it is not one."""
    terms = []
    position = 0
    if len(text) > MAX_LENGTH or text.rstrip().endswith(","):
        raise _unreadable(text)
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise _unreadable(text)
        terms.append(_term(found))
        position = found.end()
    if not terms:
        raise _unreadable(text)
    return tuple(terms)


def matches(terms: tuple[Term, ...], labels: Mapping[str, str]) -> bool:
    """Whether every term holds."""
    return all(term.matches(labels) for term in terms)


def _term(found: re.Match[str]) -> Term:
    key = _unescaped(found["key"])
    if found["op"] is not None:
        operator: Operator = "==" if found["op"] == "==" else "!="
        return Term(key, operator, frozenset({_unescaped(found["value"])}))
    if found["set"] is not None:
        words = _ONE_WORD.findall(found["values"])
        operator = "in" if found["set"] == "in" else "notin"
        return Term(key, operator, frozenset(_unescaped(word) for word in words))
    return Term(key, "exists")


def _unescaped(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word)


def _unreadable(text: str) -> Refused:
    return Refused(
        422,
        f"Can not parse label selector '{text[:100]}'; "
        "expected terms such as key, key==value, key in (a,b), joined by commas",
    )
