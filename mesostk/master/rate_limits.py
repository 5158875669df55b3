"""`--rate_limits`: the calls of a principal's frameworks are worked off no faster than it may.

::

    call ──▶ free and nobody waits ──▶ done at once; the next one 1/qps later
         ├─▶ else: waits, in order ──▶ done when its turn comes
         └─▶ more than `capacity` wait: dropped, ERROR to the framework

SUBSCRIBE is not limited, and the end of a stream waits behind the calls that came on it. Source:
the original's docs/framework-rate-limiting.md and src/master/master.cpp. There the limits hold for
messages of drivers; frameworks here speak HTTP only, so they hold for their calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mesostk.errors import ConfigError
from mesostk.master import frameworks
from mesostk.master.events import SchedulerCalled, SchedulerStreamClosed
from mesostk.wire import json, scheduler
from mesostk.wire.mesos import RateLimits

if TYPE_CHECKING:
    from mesostk.master.core import Master
    from mesostk.master.state import Framework

_Waiting = SchedulerCalled | SchedulerStreamClosed


class Limiter(msgspec.Struct, eq=False):
    """One call per `spacing_s`; `waiting` holds (stream, event), of which calls alone count."""

    spacing_s: float
    capacity: int | None
    free_at: float = 0.0
    waiting: deque[tuple[str, _Waiting]] = msgspec.field(default_factory=deque)
    calls: int = 0


class Limiters:
    """Those of principals, None for one that is not limited, and the one of all others together."""

    def __init__(self, limits: RateLimits | None) -> None:
        given = RateLimits() if limits is None else limits
        self._by_principal = {
            item.principal: _limiter(item.qps, item.capacity) for item in given.limits
        }
        self._others = _limiter(given.aggregate_default_qps, given.aggregate_default_capacity)

    def of(self, principal: str | None) -> Limiter | None:
        """Who limits frameworks of this principal; None if nobody does."""
        if principal is not None and principal in self._by_principal:
            return self._by_principal[principal]
        return self._others


def _limiter(qps: float | None, capacity: int | None) -> Limiter | None:
    return None if qps is None else Limiter(1.0 / qps, capacity)


def parse(text: str) -> RateLimits:
    """The value of `--rate_limits`. Raises ConfigError naming what is wrong with it."""
    limits = json.decode(text, RateLimits)
    seen: set[str] = set()
    for item in limits.limits:
        if item.principal in seen:
            raise ConfigError(f"--rate_limits: Duplicate principal '{item.principal}'; merge them")
        seen.add(item.principal)
        _require_positive(item.qps, f"qps of '{item.principal}'")
    _require_positive(limits.aggregate_default_qps, "aggregate_default_qps")
    return limits


def _require_positive(qps: float | None, name: str) -> None:
    if qps is not None and not qps > 0:
        raise ConfigError(f"--rate_limits: Invalid {name}: {qps}. It must be a positive number")


# -- what happens -------------------------------------------------------------------------------


def called(master: Master, now: float, event: SchedulerCalled) -> None:
    """A call of a framework: now, later or never."""
    assert event.call.framework_id is not None
    framework = master.frameworks.get(event.call.framework_id.value)
    limiter = None if framework is None else master.limiters.of(framework.info.principal)
    if framework is None or framework.stream is None or limiter is None:
        frameworks.called(master, now, event)
        return
    if limiter.capacity is not None and limiter.calls >= limiter.capacity:
        _exceeded(master, framework, limiter.capacity)
    elif limiter.waiting or limiter.free_at > now:
        framework.calls_not_processed += 1
        limiter.calls += 1
        _wait(master, limiter, framework.stream, event)
    else:
        limiter.free_at = now + limiter.spacing_s
        frameworks.called(master, now, event)


def stream_closed(master: Master, now: float, event: SchedulerStreamClosed) -> None:
    """A scheduler is gone: it counts as gone when all that it asked for before is done."""
    framework_id = master.schedulers.get(event.stream)
    if framework_id is not None:
        limiter = master.limiters.of(master.frameworks[framework_id].info.principal)
        if limiter is not None and any(stream == event.stream for stream, _ in limiter.waiting):
            _wait(master, limiter, event.stream, event)
            return
    frameworks.stream_closed(master, now, event)


def _exceeded(master: Master, framework: Framework, capacity: int) -> None:
    """The framework hears of it; what it makes of that is its own affair, as with the original."""
    framework.calls_not_processed += 1
    master.counters["dropped_messages"] += 1
    text = f"Message mesos.scheduler.Call dropped: capacity({capacity}) exceeded"
    master.note("Dropping call", level="WARNING", framework=framework.id, why=text)
    error = scheduler.Error(message=text)
    master.tell(framework, scheduler.Event(type="ERROR", error=error))


def _wait(master: Master, limiter: Limiter, stream: str, event: _Waiting) -> None:
    limiter.waiting.append((stream, event))
    if len(limiter.waiting) == 1:
        master.timers.at(limiter.free_at, _next, limiter)


def _next(master: Master, now: float, limiter: Limiter) -> None:
    """Timer: the turn of the one who waits longest."""
    limiter.free_at = now + limiter.spacing_s
    stream, event = limiter.waiting.popleft()
    _LATE[type(event)](master, now, limiter, stream, event)
    if limiter.waiting:
        master.timers.at(limiter.free_at, _next, limiter)


def _called_late(
    master: Master, now: float, limiter: Limiter, stream: str, event: SchedulerCalled
) -> None:
    limiter.calls -= 1
    assert event.call.framework_id is not None
    framework = master.frameworks.get(event.call.framework_id.value)
    if framework is None or framework.stream != stream:
        # Another scheduler has the framework by now, or nobody.
        master.counters["dropped_messages"] += 1
        return
    framework.calls_not_processed -= 1
    frameworks.called(master, now, event)


def _closed_late(
    master: Master, now: float, _limiter: Limiter, _stream: str, event: SchedulerStreamClosed
) -> None:
    frameworks.stream_closed(master, now, event)


_LATE: dict[type[_Waiting], Callable[..., None]] = {
    SchedulerCalled: _called_late,
    SchedulerStreamClosed: _closed_late,
}
