"""Durations and sizes as operators write them: `10mins`, `1.5hrs`, `32MB`.

One number and one unit, without or with a blank between. Source: Mesos stout `duration.hpp` and
`bytes.hpp`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

#: Units by falling size; nanoseconds each.
_DURATIONS: Final = (
    ("weeks", 604_800 * 10**9),
    ("days", 86_400 * 10**9),
    ("hrs", 3_600 * 10**9),
    ("mins", 60 * 10**9),
    ("secs", 10**9),
    ("ms", 10**6),
    ("us", 10**3),
    ("ns", 1),
)
_SIZES: Final = (("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1))

_NUMBER_AND_UNIT = re.compile(r"(?P<number>-?\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]+)")

#: 64-bit nanoseconds, the original's range.
_MAX_NANOSECONDS: Final = 2**63 - 1


def duration(text: str) -> float:
    """Seconds of a text like `5mins`; ValueError names the units that are known."""
    nanoseconds = _amount(text, dict(_DURATIONS), "a duration like 10secs or 1.5hrs")
    if abs(nanoseconds) > _MAX_NANOSECONDS:
        raise ValueError("longer than 292 years")
    return float(nanoseconds / 10**9)


def size_bytes(text: str) -> int:
    """Bytes of a text like `32MB` (1024-based); ValueError for less than none or part of a byte."""
    amount = _amount(text, dict(_SIZES), "a size like 512KB or 2GB")
    if amount < 0:
        raise ValueError("a size cannot be negative")
    if amount.denominator != 1:
        raise ValueError("not a whole number of bytes")
    if amount >= 2**64:
        raise ValueError("larger than 64 bits can hold")
    return int(amount)


def port_number(text: str) -> int:
    """A TCP port, 0 where that means any; ValueError for anything else.

    The kernel's calls would take 99999 for 34463.
    """
    port = whole_number(text)
    if port is None or port > 65_535:
        raise ValueError("expected a port, 0 to 65535")
    return port


def whole_number(text: str) -> int | None:
    """What `text` counts, in ASCII digits and below 10^18; None if it is no such number.

    `str.isdigit` alone is true of `²` too, and of more digits than `int` reads.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def format_duration(seconds: float) -> str:
    """The shortest text that `duration` reads back to the nanosecond: `90secs`, `1.5hrs`, `0ns`."""
    nanoseconds = round(seconds * 10**9)
    if nanoseconds == 0:
        return "0ns"
    for unit, size in _DURATIONS:
        if nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    raise AssertionError("1 ns divides every whole number of nanoseconds")


def printed_duration(seconds: float) -> str:
    """As the original prints one for executors: `15mins`, `1.65343915343915weeks`; never `1e6secs`,
    which its parser refuses. In the largest unit that fits, or the next if that makes it whole;
    15 digits. Source: as `duration`.
    """
    nanoseconds = round(seconds * 10**9)
    at = next((n for n, (_, size) in enumerate(_DURATIONS) if size <= abs(nanoseconds)), -1)
    for unit, size in _DURATIONS[at : at + 2]:
        if nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    unit, size = _DURATIONS[at]
    return f"{nanoseconds / size:.15g}{unit}"


def format_bytes(amount: int) -> str:
    """The shortest exact text that `size_bytes` reads back: `32MB`, `1500B`."""
    if amount == 0:
        return "0B"
    for unit, size in _SIZES:
        if amount % size == 0:
            return f"{amount // size}{unit}"
    raise AssertionError("1 B divides every whole number of bytes")


def _amount(text: str, units: dict[str, int], wanted: str) -> Fraction:
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected {wanted}")
    size = units.get(match["unit"])
    if size is None:
        raise ValueError(f"unknown unit {match['unit']!r}; known are {', '.join(units)}")
    return Fraction(match["number"]) * size
