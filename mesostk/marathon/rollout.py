"""One action of a deployment, recomputed from the instances there are: what to kill and launch.

::

    members ─┬─ current (config version of the app): good? healthy and ready
             └─ old: good (running, healthy), unknown (running, health not known), bad (the rest)

    budget = good ones above minHealthy ─▶ kill that many old: bad first, then unknown, then good
    room   = maxCapacity - all that are not terminal ─▶ launch up to that many

Nothing is counted from one call to the next, so a deployment goes on after a failover as if nothing
had been. Killing never leaves fewer good instances than minHealthy; launching never makes more
instances than maxCapacity (one more where the two are equal and nothing else could move).
Sources: spec/marathon §3.2 (arithmetic), §3.3 (kill selection), §3.1 (when an action is done).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from mesostk.marathon import constraints
from mesostk.marathon.apps import is_resident
from mesostk.marathon.constraints import Placement
from mesostk.wire.marathon import AppDefinition

#: What a member's task does: not seen running yet, running, out of reach (for so long that it is
#: replaced), or ended.
Life = Literal["staging", "running", "unreachable", "inactive", "ended"]


class Member(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An instance as a roll-out sees it.

    `is_current`: of the app's present config version. `is_wanted`: its goal is Running, no kill was
    decided. `healthy`: None = not known; True for a running one of an app without health checks.
    `ready`: readiness check passed, or there is none. `staged_at`: wall seconds of its launch.
    """

    id: str
    is_current: bool
    is_wanted: bool
    life: Life
    healthy: bool | None
    ready: bool
    staged_at: float
    placement: Placement | None = None

    @property
    def is_good(self) -> bool:
        """Serves, as far as is known."""
        return self.life == "running" and self.healthy is True

    @property
    def is_up(self) -> bool:
        """Good and ready: what a deployment waits for."""
        return self.is_good and self.ready


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`kill` these now; `launch` is how many instances are to be started in all from now on.

    `waiting` says in plain words what keeps an action from being done; None when it is.
    """

    kill: tuple[str, ...] = ()
    launch: int = 0
    waiting: str | None = None

    @property
    def is_done(self) -> bool:
        return self.waiting is None


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """Counts that a roll-out stays within (§3.2)."""

    min_healthy: int
    max_capacity: int


#: Slack for 10 x (1 + 0.1), which is a little above 11 in floating point, and its like.
_EPSILON = 1e-9


def bounds(app: AppDefinition) -> Bounds:
    """minHealthy = ceil(n x minimumHealthCapacity), maxCapacity = floor(n x (1 + over))."""
    strategy = app.upgrade_strategy
    wanted = app.instances
    return Bounds(
        math.ceil(wanted * strategy.minimum_health_capacity - _EPSILON),
        math.floor(wanted * (1 + strategy.maximum_over_capacity) + _EPSILON),
    )


def restart(app: AppDefinition, members: Sequence[Member]) -> Decision:
    """Replace every old instance by a current one (RestartApplication)."""
    live = [member for member in members if member.life != "ended"]
    spare = [m for m in live if m.life == "inactive"]  # their successors count instead of them
    wanted = [m for m in live if m.is_wanted and m.life != "inactive"]
    old = _by_worth([m for m in wanted if not m.is_current], app)
    current = [m for m in wanted if m.is_current]
    limits = bounds(app)
    available = sum(m.is_good for m in old) + sum(m.is_up for m in current)
    bad = [m for m in old if _worth(m) == 0]
    capacity = limits.max_capacity
    is_tight = limits.min_healthy == limits.max_capacity
    if is_tight and not bad and old and not is_resident(app):
        capacity += 1  # one temporary extra, or nothing could ever move
    present = len(live) - len(spare)
    missing = max(0, app.instances - len(current))
    launch = min(missing, max(0, capacity - present))
    budget = max(0, available - limits.min_healthy)
    count = max(budget, len(old) - app.instances)
    if missing == 0 and all(m.is_up for m in current):
        count = len(old)
    elif count == 0 and launch == 0:
        count = _unblocking(app, old, bad, current, live, missing, available, limits)
    kill = [m.id for m in old[:count]] + [m.id for m in spare if m.is_wanted]
    surplus = len(current) - app.instances
    if surplus > 0:
        kill += [m.id for m in _by_worth(current, app)[:surplus]]
    return Decision(kill=tuple(kill), launch=launch, waiting=_why_restarting(app, old, current))


def _unblocking(
    app: AppDefinition,
    old: Sequence[Member],
    bad: Sequence[Member],
    current: Sequence[Member],
    live: Sequence[Member],
    missing: int,
    available: int,
    limits: Bounds,
) -> int:
    """How many old ones to kill though none is to spare, because else nothing would move.

    Bad ones serve nobody, so they make room. A resident app may go one below the minimum, since
    its successor needs the same volume.
    """
    if missing == 0 or any(not m.is_wanted for m in live) or not all(m.is_up for m in current):
        return 0
    if bad:
        return min(len(bad), missing)
    is_stuck = limits.min_healthy == limits.max_capacity and available >= limits.min_healthy
    return 1 if old and is_resident(app) and is_stuck else 0


def _why_restarting(
    app: AppDefinition,
    old: Sequence[Member],
    current: Sequence[Member],
) -> str | None:
    reasons = []
    if len(current) != app.instances:
        reasons.append(f"{len(current)} of {app.instances} instances of the new version launched")
    reasons += _not_up(current)
    if old:
        unknown = sum(_worth(m) == 1 for m in old)
        note = f" ({unknown} of unknown health)" if unknown else ""
        reasons.append(f"{len(old)} of the old version still wanted{note}")
    return "; ".join(reasons) or None


def scale(app: AppDefinition, members: Sequence[Member], since: float = -math.inf) -> Decision:
    """Bring the number of instances to `app.instances`, of whatever version (ScaleApplication).

    Only instances launched at or after wall time `since`, the start of the deployment, have to
    come up for it to be done: an old unhealthy one does not hold a scaling up.
    """
    live = [member for member in members if member.life != "ended"]
    counted = [m for m in live if m.is_wanted and m.life != "inactive"]
    surplus = len(counted) - app.instances
    kill = [m.id for m in selected(app, counted, surplus)] if surplus > 0 else []
    launch = max(0, -surplus)
    reasons = []
    if launch:
        reasons.append(f"{len(counted)} of {app.instances} instances launched")
    going = len(kill) + sum(not m.is_wanted for m in live)
    if going:
        reasons.append(f"{going} instances still ending")
    killed = set(kill)
    reasons += _not_up([m for m in counted if m.staged_at >= since and m.id not in killed])
    return Decision(kill=tuple(kill), launch=launch, waiting="; ".join(reasons) or None)


def stop(members: Sequence[Member]) -> Decision:
    """End every instance (StopApplication)."""
    live = [member for member in members if member.life != "ended"]
    return Decision(
        kill=tuple(m.id for m in live if m.is_wanted),
        waiting=f"{len(live)} instances still ending" if live else None,
    )


def _not_up(members: Sequence[Member]) -> list[str]:
    """What the members that are not up lack, each counted once."""
    reasons = []
    for count, text in (
        (sum(m.life != "running" for m in members), "not running yet"),
        (sum(m.life == "running" and m.healthy is None for m in members), "of unknown health"),
        (sum(m.life == "running" and m.healthy is False for m in members), "unhealthy"),
        (sum(m.is_good and not m.ready for m in members), "not ready"),
    ):
        if count:
            reasons.append(f"{count} {text}")
    return reasons


# -- kill selection (§3.3) --------------------------------------------------------------------

_LIFE_ORDER: dict[Life, int] = {
    "inactive": 0,
    "unreachable": 1,
    "staging": 2,
    "running": 3,
    "ended": 4,
}


def _worth(member: Member) -> int:
    """0 serves nobody, 1 may serve, 2 serves."""
    if member.life != "running" or member.healthy is False:
        return 0
    return 2 if member.healthy is True else 1


def _by_worth(members: Sequence[Member], app: AppDefinition) -> list[Member]:
    return sorted(members, key=lambda m: (_worth(m), m.is_up, *_age_order(m, app)))


def _age_order(member: Member, app: AppDefinition) -> tuple[int, float, str]:
    sign = 1 if app.kill_selection == "OLDEST_FIRST" else -1
    return (_LIFE_ORDER[member.life], sign * member.staged_at, member.id)


def selected(app: AppDefinition, members: Sequence[Member], count: int) -> list[Member]:
    """The `count` members to lose: those that keep GROUP_BY even, then by condition, then by age.

    `killSelection` decides by age: the youngest first, or the oldest.
    """
    rules = [rule for rule in app.constraints if rule[1] == "GROUP_BY"]
    left = sorted(members, key=lambda m: _age_order(m, app))
    chosen: list[Member] = []
    while left and len(chosen) < count:
        candidates = left
        for rule in rules:
            candidates = _of_fullest_groups(rule[0], candidates, left) or candidates
        chosen.append(candidates[0])
        left.remove(candidates[0])
    return chosen


def _of_fullest_groups(
    field: str, candidates: Sequence[Member], all: Sequence[Member]
) -> list[Member]:
    """The candidates in the groups that have the most members."""
    counts = Counter(_group(field, member) for member in all)
    fullest = max((counts[_group(field, member)] for member in candidates), default=0)
    return [member for member in candidates if counts[_group(field, member)] == fullest]


def _group(field: str, member: Member) -> str | None:
    return None if member.placement is None else constraints.value_of(field, member.placement)
