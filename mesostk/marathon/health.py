"""Health of one instance, as the leader's own probes see it.

::

             result good                      failures ≥ maxConsecutiveFailures > 0
    unknown ────────────▶ alive ──result bad──▶ not alive ─────────────────▶ KILL
       │  bad, inside gracePeriodSeconds before the first success: ignored
       └──bad────────────────────────────────▶ not alive

Pure: a result and a time in, the next state and what follows from it out. Health lives in memory
only; after a failover it is unknown until the first round (spec/marathon §3.10).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class ProbeOutcome(msgspec.Struct, frozen=True, gc=False):
    """What one probe saw. `cause` says in words why it is not alive."""

    alive: bool
    cause: str | None = None


class CheckHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One health check of one instance; times are wall seconds."""

    alive: bool | None = None
    consecutive_failures: int = 0
    first_success_at: float | None = None
    last_success_at: float | None = None
    last_failure_at: float | None = None
    last_failure_cause: str | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of a health check's definition that judges results."""

    grace_period_s: float
    max_consecutive_failures: int


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """`changed`: `alive` is another value than before. `kill`: the instance has failed enough."""

    health: CheckHealth
    changed: bool
    failed: bool
    kill: bool


def judge(
    health: CheckHealth, outcome: ProbeOutcome, limits: Limits, wall_s: float, running_for_s: float
) -> Verdict:
    """Book one probe's outcome.

    `running_for_s` is the time since the task was seen running; failures before the first success
    count only once it exceeds the grace period. Source: spec/marathon §2.4, §3.10.
    """
    if outcome.alive:
        first = wall_s if health.first_success_at is None else health.first_success_at
        good = msgspec.structs.replace(
            health,
            alive=True,
            consecutive_failures=0,
            first_success_at=first,
            last_success_at=wall_s,
        )
        return Verdict(good, changed=health.alive is not True, failed=False, kill=False)
    if health.first_success_at is None and running_for_s < limits.grace_period_s:
        return Verdict(health, changed=False, failed=False, kill=False)
    bad = msgspec.structs.replace(
        health,
        alive=False,
        consecutive_failures=health.consecutive_failures + 1,
        last_failure_at=wall_s,
        last_failure_cause=outcome.cause,
    )
    kill = 0 < limits.max_consecutive_failures <= bad.consecutive_failures
    return Verdict(bad, changed=health.alive is not False, failed=True, kill=kill)


def overall(checks: Sequence[CheckHealth]) -> bool | None:
    """Healthy, unhealthy, or None while any check has yet to report (or there is none)."""
    if any(check.alive is False for check in checks):
        return False
    if not checks or any(check.alive is None for check in checks):
        return None
    return True
