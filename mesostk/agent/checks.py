"""Health checks of tasks: when to probe, what a result means. Pure; the probing is the shell's.

::

    running ─▶ wait delay ─▶ Probe ─▶ Probed ─▶ wait interval ─▶ Probe …
                                       │ healthy: told at the first and after each failure
                                       └ not: told each time; N in a row kill the task

Failures count for nothing until the first success while the grace period runs.
Source: spec §3.6, Mesos src/checks/health_checker.cpp.
"""

from __future__ import annotations

import msgspec

from mesostk.agent import general_checks, updates
from mesostk.agent.events import Probe, Probed
from mesostk.agent.state import Checker, Run, State
from mesostk.agent.state import Timer as TimerBase
from mesostk.base.core import Effect, note
from mesostk.wire.mesos import HealthCheck


class ProbeDue(TimerBase, frozen=True):
    """Time for probe `number` of a run."""

    container_id: str
    number: int


class Verdict(msgspec.Struct, frozen=True):
    """`tell`: the framework must hear of it. `kill`: the task has failed too often."""

    tell: bool
    kill: bool


def start(state: State, now: float, run: Run) -> None:
    """Begin to check a task that has a health check."""
    general_checks.start(state, now, run)
    check = run.only_task.info.health_check
    if check is None:
        return
    run.checker = Checker(check=check, since=now)
    state.call_at(now + max(0.0, check.delay_seconds), ProbeDue(run.container_id, 0))


def stop(run: Run) -> None:
    """No more probes; a result under way is ignored."""
    run.checker = run.general = None


def probe_due(state: State, _now: float, timer: ProbeDue) -> list[Effect]:
    """Probe, unless the task is no longer checked."""
    run = state.runs.get(timer.container_id)
    if run is None or run.checker is None or run.checker.number != timer.number:
        return []
    return [Probe(run.container_id, timer.number, run.checker.check)]


def probed(state: State, now: float, event: Probed) -> tuple[list[Effect], bool]:
    """Take a result in; the flag says that the task is to be killed for its ill health."""
    run = state.runs.get(event.container_id)
    if run is None or run.checker is None or run.checker.number != event.number:
        return [], False
    checker, entry = run.checker, run.only_task
    checker.number += 1
    wait = max(0.0, checker.check.interval_seconds)
    state.call_at(now + wait, ProbeDue(run.container_id, checker.number))
    verdict = judge(checker, now, healthy=event.error is None)
    effects: list[Effect] = []
    if event.error is not None:
        effects.append(note("Unhealthy", task=entry.info.task_id.value, why=event.error))
    if verdict.tell:
        entry.healthy = event.error is None
        status = updates.make_status(
            state, now, run, entry, "TASK_RUNNING",
            reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED", message=event.error,
        )  # fmt: skip
        effects += updates.report(state, now, run, entry, status)
    return effects, verdict.kill


def judge(checker: Checker, now: float, *, healthy: bool) -> Verdict:
    """What one result means, given those before it."""
    if healthy:
        first_or_recovered = not checker.has_succeeded or checker.failures > 0
        checker.has_succeeded = True
        checker.failures = 0
        return Verdict(tell=first_or_recovered, kill=False)
    grace_s = checker.check.grace_period_seconds
    in_grace = grace_s > 0 and now - checker.since <= grace_s
    if in_grace and not checker.has_succeeded:
        return Verdict(tell=False, kill=False)
    checker.failures += 1
    return Verdict(tell=True, kill=checker.failures >= max(1, checker.check.consecutive_failures))


def kind_of(check: HealthCheck) -> str | None:
    """COMMAND, HTTP or TCP; inferred where exactly one of them is described, as of old."""
    if check.type is not None and check.type != "UNKNOWN":
        return check.type
    described = [
        name
        for name, part in (("COMMAND", check.command), ("HTTP", check.http), ("TCP", check.tcp))
        if part is not None
    ]
    return described[0] if len(described) == 1 else None
