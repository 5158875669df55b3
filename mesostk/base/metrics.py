"""Counters, gauges and timers, shown as Mesos' flat JSON object or as Prometheus text.

Counters are plain numbers that the owner adds to. Gauges are functions, asked when somebody looks.
A timer keeps its last samples and yields the keys of a Mesos timer: `<name>_ms` (the last sample)
and `<name>_ms/{count,min,max,p50,p90,p95,p99,p999,p9999}`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from mesostk.errors import MesostkError

#: Samples that percentiles are taken of; the capacity of a time series in the original.
TIMER_SAMPLES: Final = 1000

PERCENTILES: Final = (
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p999", 0.999),
    ("p9999", 0.9999),
)


class Counter:
    """A number that only grows; `counter.value += 1` is the way to count."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, by: int = 1) -> None:
        """Add `by`."""
        self.value += by


class Timer:
    """Durations of one kind of work; percentiles are over the last `TIMER_SAMPLES`."""

    __slots__ = ("count", "last_ms", "samples_ms")

    def __init__(self) -> None:
        self.count = 0
        self.last_ms = 0.0
        self.samples_ms: deque[float] = deque(maxlen=TIMER_SAMPLES)

    def record(self, seconds: float) -> None:
        """Add one sample."""
        self.count += 1
        self.last_ms = seconds * 1000.0
        self.samples_ms.append(self.last_ms)

    def statistics(self) -> dict[str, float]:
        """`count`, `min`, `max`, percentiles, in ms; only `count` while there is no sample."""
        figures: dict[str, float] = {"count": float(self.count)}
        if not self.samples_ms:
            return figures
        ordered = sorted(self.samples_ms)
        figures["min"] = ordered[0]
        figures["max"] = ordered[-1]
        for key, share in PERCENTILES:
            figures[key] = _percentile(ordered, share)
        return figures


def _percentile(ordered: list[float], share: float) -> float:
    """Value at `share` of a sorted list, interpolated between its neighbours."""
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    # low + (high - low) * x, not a weighted sum: equal neighbours must give exactly themselves.
    value = ordered[low] + (ordered[high] - ordered[low]) * (position - low)
    return min(max(value, ordered[low]), ordered[high])


class Metrics:
    """The one table of a daemon's figures."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._timers: dict[str, Timer] = {}
        self._sources: list[Callable[[], Mapping[str, float]]] = []

    def counter(self, name: str) -> Counter:
        """The counter called `name`, new or already there."""
        return self._counters.setdefault(self._free(name, self._counters), Counter())

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Show `read()` as `name`; MesostkError if the name is taken."""
        if name in self._gauges:
            raise MesostkError(f"metric {name} is declared twice")
        self._gauges[self._free(name, self._gauges)] = read

    def timer(self, name: str) -> Timer:
        """The timer shown as `<name>_ms`, new or already there; `name` comes without `_ms`."""
        return self._timers.setdefault(self._free(name, self._timers), Timer())

    def source(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Show all of `read()`: figures that a core keeps, or whose names come and go."""
        self._sources.append(read)

    def _free(self, name: str, mine: Iterable[str]) -> str:
        tables: tuple[Mapping[str, object], ...] = (self._counters, self._gauges, self._timers)
        if name not in mine and any(name in table for table in tables):
            raise MesostkError(f"metric {name} is declared twice, as different kinds")
        return name

    def snapshot(self) -> dict[str, float]:
        """Every figure by its name, sorted: the object of `/metrics/snapshot`."""
        figures: dict[str, float] = {}
        for name, counter in self._counters.items():
            figures[name] = float(counter.value)
        for name, read in self._gauges.items():
            figures[name] = float(read())
        for name, timer in self._timers.items():
            figures.update(_timer_figures(name, timer))
        for source in self._sources:
            figures.update({name: float(value) for name, value in source().items()})
        return dict(sorted(figures.items()))

    def prometheus(self) -> str:
        """The same table as Prometheus text, exposition format 0.0.4."""
        lines: list[str] = []
        for name, counter in sorted(self._counters.items()):
            lines += _sample(prometheus_name(name) + "_total", "counter", float(counter.value))
        for name, read in sorted(self._gauges.items()):
            lines += _sample(prometheus_name(name), "gauge", float(read()))
        for name, timer in sorted(self._timers.items()):
            lines += _summary(prometheus_name(name) + "_ms", timer)
        loose: dict[str, float] = {}
        for source in self._sources:
            loose.update({prometheus_name(name): float(v) for name, v in source().items()})
        for name, value in sorted(loose.items()):
            lines += _sample(name, "untyped", value)
        return "\n".join(lines) + "\n" if lines else ""


def prometheus_name(name: str) -> str:
    """`name` with every character that Prometheus refuses replaced by `_`."""
    clean = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
    return clean if re.match(r"[a-zA-Z_:]", clean) else "_" + clean


def _timer_figures(name: str, timer: Timer) -> dict[str, float]:
    statistics = timer.statistics()
    figures = {f"{name}_ms/{key}": value for key, value in statistics.items()}
    if timer.count:
        figures[f"{name}_ms"] = timer.last_ms
    return figures


def _sample(name: str, kind: str, value: float) -> list[str]:
    return [f"# TYPE {name} {kind}", f"{name} {_number(value)}"]


def _summary(name: str, timer: Timer) -> list[str]:
    lines = [f"# TYPE {name} summary"]
    statistics = timer.statistics()
    for key, share in PERCENTILES:
        if key in statistics:
            lines.append(f'{name}{{quantile="{share}"}} {_number(statistics[key])}')
    lines.append(f"{name}_count {timer.count}")
    return lines


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
