"""Regular expressions of strangers, matched in time that grows with pattern and text only.

::

    pattern ─▶ tokens ─▶ recursive descent ─▶ states of an automaton (Thompson) ─▶ text, at most
                                                                states × characters steps

Python's own engine, as Java's, tries one way after the other: `(a+)+b` against thirty `a` would
hold a leader for minutes, so anyone who may create an app or subscribe a framework could stop it.
This engine follows all ways at once. What needs the other kind (look-around, back-references,
atomic groups) is refused; lazy and greedy do not differ, since the whole text must match. Each
character class is still matched by Python's `re`, one character at a time.
Sources: spec/marathon §3.6 (LIKE, UNLIKE) and spec/mesos §2.6 (offer constraints): both match the
whole value.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

#: Longer ones are typing errors; repeated counts such as `(a{9}){9}` grow by multiplication.
MAX_PATTERN_CHARS = 1024
MAX_STATES = 5000

#: Deeper brackets would exhaust the stack.
MAX_DEPTH = 50

#: Longer values are cut nowhere else; an attribute of an agent is a word.
MAX_TEXT_CHARS = 4096

_TOKEN = re.compile(
    r"(?P<group>\((?:\?:|\?P?<[A-Za-z_]\w*>)?(?!\?))"
    r"|(?P<close>\))|(?P<or>\|)|(?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\})\??)"
    r"|(?P<edge>\^|\$|\\A|\\Z|\\z)"
    r"|(?P<atom>\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\\[dDwWsStnrfv]|\\x[0-9a-fA-F]{2}|\\[^\w\s]|[^\\()\[*+?|])",
    re.DOTALL,
)
_COUNTS = re.compile(r"\{(?P<least>\d+)(?P<comma>,(?P<most>\d*))?\}")


class PatternError(ValueError):
    """The text is no pattern, or one that this engine does not follow."""


class _State(msgspec.Struct):
    """`atom` consumes one character; `edge` stands for `^` or `$`; neither: goes on for free."""

    atom: re.Pattern[str] | None = None
    edge: str = ""
    next: tuple[int, ...] = ()


class Pattern:
    """A compiled pattern; made by `compiled`."""

    def __init__(self, text: str) -> None:
        self.text = text
        builder = _Builder(text)
        self._begin = builder.begin
        self._states = builder.states

    @property
    def size(self) -> int:
        """Steps that it is made of, with everything repeated as often as it says."""
        return len(self._states)

    def fullmatch(self, text: str) -> bool:
        """Whether all of `text` matches; a text longer than MAX_TEXT_CHARS does not."""
        if len(text) > MAX_TEXT_CHARS:
            return False
        here = self._reached({self._begin}, 0, text)
        for at, char in enumerate(text):
            stepped = {
                state.next[0]
                for number in here
                if (state := self._states[number]).atom is not None
                and state.atom.fullmatch(char) is not None
            }
            here = self._reached(stepped, at + 1, text)
            if not here:
                return False
        return _END in here

    def _reached(self, start: set[int], at: int, text: str) -> set[int]:
        """`start` and all that can be reached from it without a character."""
        found: set[int] = set()
        waiting = list(start)
        while waiting:
            number = waiting.pop()
            if number in found:
                continue
            found.add(number)
            state = self._states[number]
            if state.atom is None and _holds(state.edge, at, text):
                waiting.extend(state.next)
        return found


def _holds(edge: str, at: int, text: str) -> bool:
    if not edge:
        return True
    return at == 0 if edge in {"^", "\\A"} else at == len(text)


#: The accepting state; no other is made before it.
_END = 0


class _Builder:
    """Builds states from the end of the pattern to its beginning."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN_CHARS:
            raise PatternError(f"is longer than {MAX_PATTERN_CHARS} characters")
        self.states = [_State()]
        self._tokens = _tokens(text)
        self._at = 0
        tree = self._either(0)
        if self._at < len(self._tokens):
            raise PatternError("has a ')' without '('")
        self.begin = self._add(tree, _END)

    # -- reading: a tree of tuples ---------------------------------------------------------------

    def _either(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise PatternError(f"has brackets more than {MAX_DEPTH} deep")
        choices = [self._sequence(depth)]
        while self._peek() == "or":
            self._at += 1
            choices.append(self._sequence(depth))
        return choices[0] if len(choices) == 1 else _Node("either", tuple(choices))

    def _sequence(self, depth: int) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in {None, "or", "close"}:
            parts.append(self._repeated(depth))
        return _Node("sequence", tuple(parts))

    def _repeated(self, depth: int) -> _Node:
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "repeat":
            raise PatternError(f"has nothing to repeat before '{text}'")
        if kind == "group":
            node = self._either(depth + 1)
            if self._peek() != "close":
                raise PatternError("has a '(' without ')'")
            self._at += 1
        else:
            node = _Node(kind, text=text)
        if self._peek() != "repeat":
            return node
        least, most = _counts(self._tokens[self._at][1])
        self._at += 1
        if self._peek() == "repeat":
            raise PatternError(f"repeats a repetition at '{self._tokens[self._at][1]}'")
        return _Node("repeat", (node,), least=least, most=most)

    def _peek(self) -> str | None:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else None

    # -- building --------------------------------------------------------------------------------

    def _add(self, node: _Node, after: int) -> int:
        """The first state of `node`, which goes on to state `after`."""
        if node.kind == "sequence":
            for part in reversed(node.parts):
                after = self._add(part, after)
            return after
        if node.kind == "either":
            return self._state(_State(next=tuple(self._add(part, after) for part in node.parts)))
        if node.kind == "repeat":
            return self._add_repeat(node, after)
        if node.kind == "edge":
            return self._state(_State(edge=node.text, next=(after,)))
        return self._state(_State(atom=_atom(node.text), next=(after,)))

    def _add_repeat(self, node: _Node, after: int) -> int:
        body = node.parts[0]
        if node.most is None:
            loop = self._state(_State())
            self.states[loop].next = (self._add(body, loop), after)
            after = loop
        else:
            end = after
            for _ in range(node.most - node.least):
                after = self._state(_State(next=(self._add(body, after), end)))
        for _ in range(node.least):
            after = self._add(body, after)
        return after

    def _state(self, state: _State) -> int:
        if len(self.states) >= MAX_STATES:
            raise PatternError(f"is too large: it repeats to more than {MAX_STATES} states")
        self.states.append(state)
        return len(self.states) - 1


class _Node(msgspec.Struct, frozen=True):
    """A part of a pattern; `most` None: without limit."""

    kind: str
    parts: tuple[_Node, ...] = ()
    text: str = ""
    least: int = 0
    most: int | None = None


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise PatternError(
                f"cannot be followed from '{text[at : at + 16]}' on; look-around, back-references, "
                "flags and possessive repeats are not supported"
            )
        tokens.append((found.lastgroup, found.group()))
        at = found.end()
    return tokens


def _counts(text: str) -> tuple[int, int | None]:
    sign = text[0]
    if sign != "{":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
    found = _COUNTS.match(text)
    assert found is not None  # the token is of this form
    least = int(found["least"])
    if found["comma"] is None:
        most: int | None = least
    else:
        most = int(found["most"]) if found["most"] else None
    if least > MAX_STATES or (most is not None and (most > MAX_STATES or most < least)):
        raise PatternError(f"repeats by '{text}', which is too often or the wrong way round")
    return least, most


def _atom(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise PatternError(f"has a wrong character class '{text[:32]}': {error}") from error


@lru_cache(maxsize=1024)
def compiled(text: str) -> Pattern:
    """The pattern that `text` spells; raises PatternError with what is wrong with it."""
    return Pattern(text)


@lru_cache(maxsize=65536)
def matches(pattern: str, value: str) -> bool:
    """Whether all of `value` matches `pattern`, which is valid; kept, since offers come again."""
    return compiled(pattern).fullmatch(value)
