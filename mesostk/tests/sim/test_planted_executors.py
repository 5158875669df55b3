"""Teeth: bugs about custom executors, and about checks that agents run."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.agent import checks, custom, endings, general_checks, recovered, recovery
from mesostk.agent import core as agent_core
from mesostk.agent.core import Agent
from mesostk.agent.events import Checked, RecoveredRun, RunSeen
from mesostk.agent.state import Verdict
from mesostk.base.core import Effect
from mesostk.testing.planted import Patch, Planted, without_check

#: Where rare ones were seen last.
SEEN = {
    "a restart of the agent ends the checks": 5,
    "what an executor brings again is not taken": 14,
    "tasks that never reached their executor are waited for": 34,
}

PLANTED = Planted(SEEN)

#: Worlds with a framework whose jobs run through executors.
among_executors = PLANTED.bug_in(kinds=("plain",), framework=True, crews=True)


# -- custom executors ---------------------------------------------------------------------------


@among_executors
def an_executor_hears_that_its_update_is_saved_before_it_is(patch: Patch) -> None:
    take = custom._updated

    def hasty(state: Any, now: float, run: Any, status: Any) -> list[Effect]:
        return [*take(state, now, run, status), *custom.acknowledged(state, run, status)]

    patch.setattr(custom, "_updated", hasty)


@among_executors
def what_an_executor_brings_again_is_not_taken(patch: Patch) -> None:
    subscribed = custom.subscribed

    def deaf(state: Any, now: float, event: Any) -> list[Effect]:
        empty = replace(event.subscribe, unacknowledged_updates=())
        return subscribed(state, now, replace(event, subscribe=empty))

    patch.setattr(custom, "subscribed", deaf)


@among_executors
def an_executor_is_given_its_tasks_again_after_a_restart(patch: Patch) -> None:
    take_up = recovered._executor

    def forget(state: Any, now: float, owner: Any, again: Any, event: Any) -> list[Effect]:
        effects = take_up(state, now, owner, again, event)
        for entry in again.tasks.values():
            entry.sent = False
        return effects

    patch.setattr(recovered, "_executor", forget)


@among_executors
def tasks_that_never_reached_their_executor_are_waited_for(patch: Patch) -> None:
    patch.setattr(custom, "_drop_unknown", lambda *_args: [])


@among_executors
def tasks_do_not_end_with_their_executor(patch: Patch) -> None:
    without_check(patch, Agent)
    over = endings.executor_over

    def forget(state: Any, now: float, run: Any, event: Any = None) -> list[Effect]:
        run.silent = True
        return [*endings.tell_exited(state, run, -1), *over(state, now, run, event)]

    patch.setattr(endings, "executor_over", forget)


@among_executors
def an_executor_that_does_not_subscribe_is_left_alone(patch: Patch) -> None:
    timers: dict[Any, Any] = agent_core.TIMERS
    patch.setitem(timers, custom.SubscriptionDue, lambda _state, _now, _timer: [])


@among_executors
def an_executor_that_does_not_end_is_left_alone(patch: Patch) -> None:
    timers: dict[Any, Any] = agent_core.TIMERS
    patch.setitem(timers, custom.ShutdownDue, lambda _state, _now, _timer: [])


@among_executors
def an_executor_that_still_runs_is_started_again_after_a_restart(patch: Patch) -> None:
    event = recovery.Found._run_event

    def dead(self: Any, agent_id: Any, run: Any, seen: RunSeen) -> RecoveredRun:
        told = event(self, agent_id, run, seen)
        is_custom = told.executor_info.type == "CUSTOM"
        return replace(told, seen=RunSeen(ended=seen.ended)) if is_custom else told

    patch.setattr(recovery.Found, "_run_event", dead)


@among_executors
def the_end_of_an_executor_is_told_as_that_of_all_it_ever_ran(patch: Patch) -> None:
    without_check(patch, Agent)
    over = endings.executor_over

    def all_of_them(state: Any, now: float, run: Any, event: Any = None) -> list[Effect]:
        for entry in run.tasks.values():
            entry.state = "TASK_RUNNING"
        run.verdict = run.verdict or Verdict("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", "")
        return over(state, now, run, event)

    patch.setattr(endings, "executor_over", all_of_them)


# -- checks that agents run ---------------------------------------------------------------------


@PLANTED.bug_among("checked", "checked")
def ill_health_ends_no_task(patch: Patch) -> None:
    judge = checks.judge

    def mild(checker: Any, now: float, *, healthy: bool) -> checks.Verdict:
        return replace(judge(checker, now, healthy=healthy), kill=False)

    patch.setattr(checks, "judge", mild)


@PLANTED.bug_among("checked", "checked")
def one_failure_ends_a_task(patch: Patch) -> None:
    judge = checks.judge

    def strict(checker: Any, now: float, *, healthy: bool) -> checks.Verdict:
        verdict = judge(checker, now, healthy=healthy)
        return replace(verdict, kill=verdict.tell and not healthy)

    patch.setattr(checks, "judge", strict)


@PLANTED.bug_among("checked", "checked")
def a_young_task_has_no_grace(patch: Patch) -> None:
    judge = checks.judge

    def strict(checker: Any, now: float, *, healthy: bool) -> checks.Verdict:
        return judge(checker, now + checker.check.grace_period_seconds, healthy=healthy)

    patch.setattr(checks, "judge", strict)


@PLANTED.bug_among("checked", "checked")
def a_restart_of_the_agent_ends_the_checks(patch: Patch) -> None:
    take_up = recovered._take_up

    def forget(state: Any, now: float, again: Any, *args: Any) -> list[Effect]:
        effects = take_up(state, now, again, *args)
        checks.stop(again)
        return effects

    patch.setattr(recovered, "_take_up", forget)


@PLANTED.bug_among("checked", "checked")
def only_the_first_result_of_a_check_is_told(patch: Patch) -> None:
    handlers: dict[Any, Any] = agent_core.HANDLERS
    told: set[str] = set()

    def once(state: Any, now: float, event: Checked) -> list[Effect]:
        effects = general_checks.checked(state, now, event)
        if event.container_id in told:
            return []
        told.add(event.container_id)
        return effects

    patch.setitem(handlers, Checked, once)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", PLANTED.bugs)
def test_a_planted_bug_is_caught(name: str, monkeypatch: Patch) -> None:
    PLANTED.hunt(name, monkeypatch)
