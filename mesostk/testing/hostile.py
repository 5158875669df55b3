"""How much the tests with hostile input draw, and bytes as a failing disk or peer makes them.

MESOSTK_FUZZ=100 pytest -k fuzz       a hundred times as many examples, drawn anew each time
"""

from __future__ import annotations

import os
from typing import Final

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
