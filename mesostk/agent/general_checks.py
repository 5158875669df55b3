"""General checks of tasks: their results are told when they change, and end nothing (spec §3.6).

::

    TASK_RUNNING with an empty result ─▶ wait delay ─▶ Check ─▶ Checked ─▶ wait interval …
                                                                └ another result: told

Source: Mesos src/checks/checker.cpp.
"""

from __future__ import annotations

from mesostk.agent import updates
from mesostk.agent.events import Check, Checked
from mesostk.agent.state import GeneralChecker, Run, State
from mesostk.agent.state import Timer as TimerBase
from mesostk.base.core import Effect
from mesostk.wire.mesos import (
    CheckInfo,
    CheckStatusCommand,
    CheckStatusHttp,
    CheckStatusInfo,
    CheckStatusTcp,
    HealthCheck,
    HTTPCheckInfo,
    TCPCheckInfo,
)


class CheckDue(TimerBase, frozen=True):
    """Time for check `number` of a run."""

    container_id: str
    number: int


def start(state: State, now: float, run: Run) -> None:
    """Begin to check a task that has a general check."""
    check = run.only_task.info.check
    if check is None:
        return
    run.general = GeneralChecker(check=check, result=status_of(check, None))
    state.call_at(now + max(0.0, check.delay_seconds), CheckDue(run.container_id, 0))


def check_due(state: State, _now: float, timer: CheckDue) -> list[Effect]:
    """Check, unless the task is no longer checked."""
    run = state.runs.get(timer.container_id)
    if run is None or run.general is None or run.general.number != timer.number:
        return []
    return [Check(run.container_id, timer.number, as_health_check(run.general.check))]


def checked(state: State, now: float, event: Checked) -> list[Effect]:
    """Take a result in, and tell it if it is another one."""
    run = state.runs.get(event.container_id)
    if run is None or run.general is None or run.general.number != event.number:
        return []
    checker, entry = run.general, run.only_task
    checker.number += 1
    wait = max(0.0, checker.check.interval_seconds)
    state.call_at(now + wait, CheckDue(run.container_id, checker.number))
    result = status_of(checker.check, event.result)
    if result == checker.result:
        return []
    checker.result = result
    status = updates.make_status(
        state, now, run, entry, "TASK_RUNNING", reason="REASON_TASK_CHECK_STATUS_UPDATED"
    )
    return updates.report(state, now, run, entry, status)


def status_of(check: CheckInfo, result: int | None) -> CheckStatusInfo:
    """A result as the framework sees it; without one, only what kind of check it is of."""
    if check.type == "COMMAND":
        return CheckStatusInfo(type="COMMAND", command=CheckStatusCommand(exit_code=result))
    if check.type == "HTTP":
        return CheckStatusInfo(type="HTTP", http=CheckStatusHttp(status_code=result))
    succeeded = None if result is None else bool(result)
    return CheckStatusInfo(type=check.type, tcp=CheckStatusTcp(succeeded=succeeded))


def as_health_check(check: CheckInfo) -> HealthCheck:
    """The same check as a health check describes it, for who performs both."""
    http, tcp = check.http, check.tcp
    return HealthCheck(
        type=check.type,
        command=check.command.command if check.command is not None else None,
        http=HTTPCheckInfo(port=http.port, path=http.path) if http is not None else None,
        tcp=TCPCheckInfo(port=tcp.port) if tcp is not None else None,
        timeout_seconds=check.timeout_seconds,
    )
