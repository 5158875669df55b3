"""Sets of integers as sorted, disjoint, non-adjacent closed intervals: `((31000, 32000),)`.

Every function takes such tuples and returns one; `of` makes one from any pairs. All are linear in
the number of intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Ranges = tuple[tuple[int, int], ...]

EMPTY: Ranges = ()


def of(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """The set of all integers in `pairs`; pairs with begin > end hold none."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(pairs):
        if begin > end:
            continue
        if out and begin <= out[-1][1] + 1:
            if end > out[-1][1]:
                out[-1] = (out[-1][0], end)
        else:
            out.append((begin, end))
    return tuple(out)


def of_values(values: Iterable[int]) -> Ranges:
    """The set of `values`."""
    return of((value, value) for value in values)


def union(a: Ranges, b: Ranges) -> Ranges:
    """Integers in either."""
    if not a:
        return b
    if not b:
        return a
    return of(a + b)


def subtract(a: Ranges, b: Ranges) -> Ranges:
    """Integers of `a` that are not in `b`."""
    if not a or not b:
        return a
    out: list[tuple[int, int]] = []
    at = 0
    for begin, end in a:
        while at < len(b) and b[at][1] < begin:
            at += 1
        scan = at
        while scan < len(b) and b[scan][0] <= end:
            cut_begin, cut_end = b[scan]
            if begin < cut_begin:
                out.append((begin, cut_begin - 1))
            begin = cut_end + 1
            scan += 1
        if begin <= end:
            out.append((begin, end))
    return tuple(out)


def intersect(a: Ranges, b: Ranges) -> Ranges:
    """Integers in both."""
    out: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        begin = max(a[i][0], b[j][0])
        end = min(a[i][1], b[j][1])
        if begin <= end:
            out.append((begin, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(out)


def contains(a: Ranges, b: Ranges) -> bool:
    """Whether every integer of `b` is in `a`."""
    at = 0
    for begin, end in b:
        while at < len(a) and a[at][1] < begin:
            at += 1
        if at == len(a) or a[at][0] > begin or a[at][1] < end:
            return False
    return True


def has(a: Ranges, value: int) -> bool:
    """Whether `value` is in `a`."""
    return any(begin <= value <= end for begin, end in a)


def size(a: Ranges) -> int:
    """How many integers there are."""
    return sum(end - begin + 1 for begin, end in a)


def values(a: Ranges) -> Iterator[int]:
    """Every integer, rising; lazily, for an interval from outside may be huge."""
    for begin, end in a:
        yield from range(begin, end + 1)


def to_text(a: Ranges) -> str:
    """`[31000-32000, 33000-33005]`, as /state shows it."""
    return "[" + ", ".join(f"{begin}-{end}" for begin, end in a) + "]"
