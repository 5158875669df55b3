"""Ending tasks that still run: for the framework, the clock, a drain, or because nobody cares.

::

    end(cause, grace) ─▶ TASK_KILLING if the framework knows it ─▶ Checkpoint task.kill ─▶ Saved
                                                           KillRun(what is left of the grace) ◀──┘
    KILL_AGAIN_S after the grace without an exit: KillRun(0)
"""

from __future__ import annotations

from mesostk.agent import amounts, checks, custom, endings, executors, layout, updates
from mesostk.agent.events import CancelFetch, DiskExceeded, KillCause, KillRecord, KillRun
from mesostk.agent.state import Run, State, TaskEntry, Verdict
from mesostk.agent.state import Timer as TimerBase
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Effect, Put, note
from mesostk.wire.link import Kill, ShutdownExecutor
from mesostk.wire.mesos import TERMINAL_STATES, StatusReason

#: How long after the KILL a run may linger before it is killed again: uninterruptible sleep, or a
#: supervisor that was stopped.
KILL_AGAIN_S = 10.0

_MIB = 1 << 20


class KillSaved(WaitBase, frozen=True):
    """Why the run is killed is on disk."""

    container_id: str


class TimeUp(TimerBase, frozen=True):
    """The task has run for its `max_completion_time`."""

    container_id: str


class KillAgain(TimerBase, frozen=True):
    """A killed run should be long over."""

    container_id: str


def kill(state: State, now: float, message: Kill) -> list[Effect]:
    """End a task as the framework asks."""
    key = (message.framework_id.value, message.task_id.value)
    found = state.find(key)
    if found is None:
        if key in state.streams:
            return []
        text = "Unable to find the task: it is not, or no longer, on this agent"
        return endings.answer_unknown(state, now, key, "REASON_EXECUTOR_TERMINATED", text)
    run, entry = found
    policy = message.kill_policy
    grace_s = executors.grace_of(entry.info, state.settings)
    if policy is not None and policy.grace_period is not None:
        grace_s = max(0.0, policy.grace_period.nanoseconds / 1e9)
    return end(state, now, run, entry, "KILL", grace_s)


def end(
    state: State,
    now: float,
    run: Run,
    entry: TaskEntry,
    cause: KillCause,
    grace_s: float,
    text: str | None = None,
) -> list[Effect]:
    """Have a task end within `grace_s`; a second call may only shorten that."""
    if entry.state in TERMINAL_STATES or run.phase == "OVER":
        return []
    if run.is_custom:
        return custom.kill(state, now, run, entry, cause, grace_s)
    if entry.kill is not None:
        if run.kill_at is None or now + grace_s >= run.kill_at:
            return []
        run.kill_at = now + grace_s
        return kill_now(state, now, run)
    entry.kill = KillRecord(cause, grace_s, text)
    run.kill_at = now + grace_s
    effects: list[Effect] = [
        note("Killing", task=entry.info.task_id.value, run=run.container_id, cause=cause)
    ]
    if run.phase == "SAVING":
        return effects
    if run.phase == "FETCHING":
        effects.append(CancelFetch(run.container_id))
        return effects + endings.killed_before_launch(state, now, run)
    checks.stop(run)
    if run.phase == "RUNNING":
        effects += _say_killing(state, now, run, entry)
    ids = (state.own_id.value, run.framework_id, run.executor_id, run.container_id)
    path = f"{layout.task_dir(*ids, entry.info.task_id.value)}/task.kill"
    effects.append(state.save(KillSaved(run.container_id), Put(path, layout.frame(entry.kill))))
    return effects


def _say_killing(state: State, now: float, run: Run, entry: TaskEntry) -> list[Effect]:
    framework = state.frameworks[run.framework_id]
    if run.silent or not framework.can("TASK_KILLING_STATE"):
        return []
    reason: StatusReason | None = None
    if entry.kill is not None and entry.kill.cause == "DRAIN":
        reason = "REASON_AGENT_DRAINING"
    status = updates.make_status(state, now, run, entry, "TASK_KILLING", reason=reason)
    return updates.report(state, now, run, entry, status)


def kill_saved(state: State, now: float, what: KillSaved, error: str | None) -> list[Effect]:
    """Kill; a disk that refused the record is no reason to let the task run on."""
    run = state.runs.get(what.container_id)
    if run is None:
        return []
    run.kill_saved = True
    effects: list[Effect] = []
    if error is not None:
        effects.append(note("Unrecorded", level="ERROR", run=what.container_id, error=error))
    return effects + kill_now(state, now, run)


def kill_now(state: State, now: float, run: Run) -> list[Effect]:
    """Tell the supervisor, once the task runs and the reason is on disk."""
    if run.kill_at is None or not run.kill_saved:
        return []
    if run.phase == "LAUNCHING" and run.is_docker:
        # Its image may still be on the way, for minutes: the launch is called off.
        return [KillRun(run.container_id, max(0.0, run.kill_at - now))]
    if run.phase != "RUNNING":
        return []
    state.call_at(run.kill_at + KILL_AGAIN_S, KillAgain(run.container_id))
    return [KillRun(run.container_id, max(0.0, run.kill_at - now))]


def kill_again(state: State, now: float, timer: KillAgain) -> list[Effect]:
    """A killed run that is still there is killed once more, without grace."""
    run = state.runs.get(timer.container_id)
    if run is None or run.phase != "RUNNING":
        return []
    if run.kill_at is None or now < run.kill_at + KILL_AGAIN_S:
        return []
    state.call_at(now + KILL_AGAIN_S, timer)
    return [
        note("Killing again", level="WARNING", run=run.container_id),
        KillRun(run.container_id, 0.0),
    ]


def time_up(state: State, now: float, timer: TimeUp) -> list[Effect]:
    """The task has run for as long as it may."""
    run = state.runs.get(timer.container_id)
    if run is None or run.phase != "RUNNING":
        return []
    grace_s = executors.grace_of(run.only_task.info, state.settings)
    return end(state, now, run, run.only_task, "TIME", grace_s)


def disk_exceeded(state: State, now: float, event: DiskExceeded) -> list[Effect]:
    """End what uses more of the disk than it may. Source of the text: spec §8.7."""
    run = state.runs.get(event.container_id)
    if run is None or run.phase != "RUNNING" or run.silent:
        return []
    used, quota = event.used / _MIB, event.quota / _MIB
    text = f"Disk usage ({used:.0f}MB) exceeds quota ({quota:.0f}MB)"
    run.limitation = amounts.limitation("disk", quota)
    if not run.is_custom:
        return end(state, now, run, run.only_task, "DISK", 0.0, text)
    if run.verdict is not None:
        return []
    run.verdict = Verdict("TASK_FAILED", "REASON_CONTAINER_LIMITATION_DISK", text)
    said = note("Ending", level="WARNING", executor=run.executor_id, why=text)
    return [said, *custom.end_process(now, run)]


def shutdown_framework(state: State, now: float, framework_id: str) -> list[Effect]:
    """End all runs of a framework that is gone; nobody is left to be told."""
    framework = state.frameworks.get(framework_id)
    if framework is None:
        return []
    framework.terminating = True
    effects: list[Effect] = [note("Shutting down", framework=framework_id)]
    for key in [key for key in state.streams if key[0] == framework_id]:
        del state.streams[key]
    for run in list(framework.runs.values()):
        effects += end_silently(state, now, run, state.settings.shutdown_grace_s)
    return effects


def end_silently(state: State, now: float, run: Run, grace_s: float) -> list[Effect]:
    """End a run without telling anyone what became of its task."""
    framework = state.frameworks.get(run.framework_id)
    if framework is None or run.container_id not in framework.runs:
        return []  # forgotten along with another
    run.silent = True
    checks.stop(run)
    for task_id in run.tasks:
        state.streams.pop((run.framework_id, task_id), None)
    if run.phase == "OVER":
        return endings.forget(state, run)
    if run.is_default:
        # It ends with the last of its tasks, which are runs of their own.
        return [] if run.nested else endings.default_over(state, run)
    if run.phase == "FETCHING":
        run.phase = "OVER"
        return [CancelFetch(run.container_id), *endings.forget(state, run)]
    if run.is_custom and run.stream is not None and grace_s > 0:
        return custom.shut_down(state, now, run)
    run.terminating = True
    run.kill_at = now + grace_s
    run.kill_saved = True
    if run.phase in {"RUNNING", "LAUNCHING"}:
        return kill_now(state, now, run)
    return []  # SAVING ends at the next step


def shutdown_executor(state: State, now: float, message: ShutdownExecutor) -> list[Effect]:
    """End an executor as its framework asks."""
    framework = state.frameworks.get(message.framework_id.value)
    run = framework.executor_run(message.executor_id.value) if framework is not None else None
    if run is None:
        text = "no such executor"
        return [note("Ignoring", level="WARNING", what="SHUTDOWN_EXECUTOR", why=text)]
    if run.is_custom:
        return custom.shut_down(state, now, run)
    run.terminating = True
    effects: list[Effect] = [note("Shutting down", executor=run.executor_id)]
    for nested in list(run.nested.values()):
        grace_s = executors.grace_of(nested.only_task.info, state.settings)
        effects += end(state, now, nested, nested.only_task, "KILL", grace_s)
    return effects
