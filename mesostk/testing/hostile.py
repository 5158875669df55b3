"""How much the tests with hostile input draw, and bytes as a failing disk or peer makes them.

MESOSTK_FUZZ=100 pytest -k fuzz       a hundred times as many examples, drawn anew each time
"""

from __future__ import annotations

import copy
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

#: How many times as much as in the suite; what is drawn there is the same each time.
FACTOR: Final = int(os.environ.get("MESOSTK_FUZZ", "1"))


def fuzz(examples: int) -> settings:
    """The settings of a property: so many examples in the suite, more by hand."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        # A busy machine is no reason to fail.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` cut off anywhere, with a bit turned, with a byte more, or something else."""
    kind = draw(st.sampled_from(("cut", "turned", "more", "twice", "zeros", "else")))
    at = draw(st.integers(0, max(0, len(whole) - 1)))
    if kind == "cut":
        return whole[:at]
    if kind == "turned" and whole:
        bit = 1 << draw(st.integers(0, 7))
        return whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
    if kind == "more":
        return whole[:at] + draw(st.binary(min_size=1, max_size=4)) + whole[at:]
    if kind == "twice":
        return whole + whole[at:]
    if kind == "zeros":
        return whole[:at] + bytes(len(whole) - at)
    return draw(garbage)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


#: What may stand where a daemon's file is meant and holds none: each is made at a path.
REPLACEMENTS: Final[dict[str, Callable[[Path], None]]] = {
    "directory": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "link to itself": lambda path: path.symlink_to(path.name),
    "1 GiB of nothing": _sparse,
}


#: What no daemon ever wrote.
garbage: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        (
            b"", b"\0", b"null", b"{}", b"[]", b'""', b"1", b'{"a":1', b"\xff\xfe", b"{" * 2000,
            b'{"x":' * 100_000, b"[" * 100_000, b'{"id":null}', b'{"value":"\\ud800"}', b"NaN",
            b"9" * 5000, b"5\n{}", b"99999999999\nx",
        )
    ),
)  # fmt: skip


#: Values that stand where others are meant, of every type and at the ends of each.
VALUES: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 1e-320, 1e12, 1e308, -1e308,
    0.0005, "NaN", "Infinity", "-Infinity", "", "*", "x", "..", "a/../b", "/", "a/", "-a", "a\n",
    "\0", "é☃", "x" * 5000, "/".join("r" * 600), [], {}, {"value": ""}, {"value": "../../x"},
    {"range": [{"begin": 0, "end": 2**64 - 1}]}, {"range": [{"begin": 9, "end": 1}]},
    "LAUNCH", "SET", "DOCKER", "eng/web",
)  # fmt: skip


#: Resources as frameworks and operators speak of them, to be put in calls and changed there.
CPUS: Final[dict[str, Any]] = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}
MEM: Final[dict[str, Any]] = {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}}
DYNAMIC: Final[dict[str, Any]] = {
    "type": "DYNAMIC", "role": "eng", "principal": "p", "labels": {"labels": [{"key": "k"}]},
}  # fmt: skip
RESERVED: Final[dict[str, Any]] = {**CPUS, "reservations": [DYNAMIC]}
VOLUME: Final[dict[str, Any]] = {
    "name": "disk",
    "type": "SCALAR",
    "scalar": {"value": 10.0},
    "reservations": [DYNAMIC],
    "disk": {
        "persistence": {"id": "v", "principal": "p"},
        "volume": {"mode": "RW", "container_path": "d"},
    },
}


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a document."""
    if not isinstance(value, dict | list):
        return []
    keys = value if isinstance(value, dict) else range(len(value))
    return [found for key in keys for found in [(value, key), *places(value[key])]]


@st.composite
def changed(draw: st.DrawFn, whole: bytes, values: Sequence[Any]) -> bytes:
    """The JSON record `whole` with one of `values` in one place."""
    document = json.loads(whole)
    parent, key = draw(st.sampled_from(places(document)))
    parent[key] = draw(st.sampled_from(values))
    return json.dumps(document).encode()


@st.composite
def altered(draw: st.DrawFn, whole: Any, more: tuple[Any, ...] = ()) -> Any:
    """A copy of the document `whole` with something else, one of `VALUES` and `more`, in up to
    three of its places, or with less or more of it."""
    body = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, 3))):
        found = places(body)
        if not found:
            break
        parent, key = draw(st.sampled_from(found))
        how = draw(st.sampled_from(("else", "else", "gone", "twice")))
        if how == "gone":
            del parent[key]
        elif how == "twice" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[key] = copy.deepcopy(draw(st.sampled_from((*VALUES, *more))))
    return body
