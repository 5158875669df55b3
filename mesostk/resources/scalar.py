"""Scalars as integers of thousandths, which is as exact as Mesos counts them.

Source: Mesos `src/common/values.cpp` (three decimals, rounded half away from zero).
"""

from __future__ import annotations

import functools
import math

from mesostk.errors import WireError

#: A scalar of the wire times this is the integer inside.
SCALE = 1000


@functools.lru_cache(4096)  # a cluster's amounts are few, and each is asked for again and again
def from_float(value: float) -> int:
    """Thousandths of `value`. Raises WireError for NaN and infinity, which no quantity is."""
    if not math.isfinite(value):
        raise WireError(f"a scalar must be a finite number, not {value}")
    scaled = value * SCALE
    if not math.isfinite(scaled):
        raise WireError(f"scalar {value} is too large")
    return math.floor(scaled + 0.5) if scaled >= 0 else math.ceil(scaled - 0.5)


def to_float(thousandths: int) -> float:
    """The number that the wire shows for `thousandths`."""
    return thousandths / SCALE


def to_text(thousandths: int) -> str:
    """Shortest decimal: `24`, `0.1`, `-1.005`."""
    sign = "-" if thousandths < 0 else ""
    whole, rest = divmod(abs(thousandths), SCALE)
    return f"{sign}{whole}.{rest:03d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"
