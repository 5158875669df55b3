"""The end of a run: what is reported, and when nothing more is known of it.

::

    Exited ─▶ outcome: FINISHED | FAILED | KILLED ─▶ update stream ─▶ acknowledged ─▶ forget
                                                                   sentinel, RunOver ◀──┘
"""

from __future__ import annotations

import signal

from msgspec.structs import replace

from mesostk.agent import amounts, checks, layout, updates
from mesostk.agent.events import CloseExecutorStream, Exited, RunOver, SendUp
from mesostk.agent.state import Framework, Run, State, TaskEntry, TaskKey, Verdict
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Delete, Effect, Put, note
from mesostk.wire.link import ExitedExecutor
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    FrameworkID,
    StatusReason,
    StatusSource,
    TaskID,
    TaskState,
    TaskStatus,
)

#: Of which a status says what was used up. Source: spec §6.1, §8.7.
_LIMITATIONS = frozenset({"REASON_CONTAINER_LIMITATION_MEMORY", "REASON_CONTAINER_LIMITATION_DISK"})


class Recorded(WaitBase, frozen=True):
    """A record that nothing waits for."""


def exited(state: State, now: float, event: Exited) -> list[Effect]:
    """The run is over: say how its tasks ended."""
    run = state.runs.get(event.container_id)
    if run is None or run.phase == "OVER":
        return []
    if event.oom and event.peak_mib is not None:
        run.limitation = amounts.limitation("mem", event.peak_mib)
    if run.is_custom:
        return executor_over(state, now, run, event)
    if run.parent_id is None:
        state.count("executors_terminated")
    if run.silent:
        run.phase = "OVER"
        return forget(state, run)
    entry = run.only_task
    if entry.kill is not None and entry.kill.cause == "HEALTH":
        entry.healthy = False
    return end_task(state, now, run, *outcome(state.frameworks[run.framework_id], entry, event))


def executor_over(state: State, now: float, run: Run, event: Exited | None = None) -> list[Effect]:
    """An executor's process has ended, or never began: so have its tasks, and the master hears.

    Source: spec §8.4 "Executor exit".
    """
    run.phase = "OVER"
    state.count("executors_terminated")
    stream, run.stream = run.stream, None
    state.reconnecting.discard(run.container_id)
    status = event.status if event is not None and event.status is not None else -1
    effects: list[Effect] = [
        note("Ended", executor=run.executor_id, run=run.container_id, status=status)
    ]
    if stream is not None:
        effects.append(CloseExecutorStream(stream))
    if run.silent:
        return effects + forget(state, run)
    effects += tell_exited(state, run, status)
    verdict = run.verdict if run.verdict is not None else _verdict(event)
    for entry in list(run.tasks.values()):
        if entry.state not in TERMINAL_STATES:
            effects += end_entry(
                state, now, run, entry,
                verdict.state, verdict.reason, verdict.message, "SOURCE_AGENT",
            )  # fmt: skip
    return effects + ([] if run.tasks else forget(state, run))


def tell_exited(state: State, run: Run, status: int) -> list[Effect]:
    """Have the master forget the executor and tell its framework."""
    if not state.connected or state.link is None:
        return []  # the next subscription does not name it
    message = ExitedExecutor(
        framework_id=FrameworkID(run.framework_id),
        executor_id=run.executor.executor_id,
        status=status,
    )
    return [SendUp(state.link, message)]


def _verdict(event: Exited | None) -> Verdict:
    if event is None:
        return Verdict(
            "TASK_KILLED", "REASON_TASK_KILLED_DURING_LAUNCH", "Executor was not started"
        )
    if event.failure is not None:
        text = f"Failed to launch container: {event.failure}"
        return Verdict("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
    if event.oom:
        text = event.message if event.message is not None else "Memory limit exceeded"
        return Verdict("TASK_FAILED", "REASON_CONTAINER_LIMITATION_MEMORY", text)
    text = event.message if event.message is not None else "Executor terminated"
    return Verdict("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", text)


Outcome = tuple[TaskState, StatusReason | None, str, StatusSource]


def outcome(framework: Framework, entry: TaskEntry, event: Exited) -> Outcome:
    """State, reason, text and source of the terminal update. Source: spec §3.3 "Exit"."""
    text = describe(event.status, event.what)
    if event.cause is not None:
        text += f": {event.cause}"
    cause = entry.kill.cause if entry.kill is not None else "KILL" if event.killed else None
    if cause == "TIME":
        return ("TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED", text, "SOURCE_EXECUTOR")
    if cause == "DISK" and entry.kill is not None and entry.kill.text is not None:
        reason: StatusReason = "REASON_CONTAINER_LIMITATION_DISK"
        return ("TASK_FAILED", reason, entry.kill.text, "SOURCE_AGENT")
    if cause == "DRAIN":
        gone = entry.gone and framework.can("PARTITION_AWARE")
        state: TaskState = "TASK_GONE_BY_OPERATOR" if gone else "TASK_KILLED"
        return (state, "REASON_AGENT_DRAINING", text, "SOURCE_EXECUTOR")
    if cause is not None:
        # Also when only the supervisor knows of a kill, whose record was lost with a full disk.
        return ("TASK_KILLED", None, text, "SOURCE_EXECUTOR")
    if event.failure is not None:
        text = f"Failed to launch container: {event.failure}"
        return ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text, "SOURCE_AGENT")
    if event.oom:
        text = event.message if event.message is not None else "Memory limit exceeded"
        return ("TASK_FAILED", "REASON_CONTAINER_LIMITATION_MEMORY", text, "SOURCE_AGENT")
    if event.status is None:
        text = event.message if event.message is not None else text
        return ("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", text, "SOURCE_AGENT")
    if event.status == 0:
        return ("TASK_FINISHED", None, text, "SOURCE_EXECUTOR")
    return ("TASK_FAILED", None, text, "SOURCE_EXECUTOR")


def describe(status: int | None, what: str = "Command") -> str:
    """A wait status of `what` in the original's words (spec §3.3, §3.4)."""
    if status is None:
        return "Executor terminated"
    number = status & 0x7F
    if number == 0:
        return f"{what} exited with status {status >> 8 & 0xFF}"
    try:
        name = signal.strsignal(number)
    except ValueError:
        name = None
    return f"{what} terminated with signal {name if name is not None else number}"


def killed_before_launch(state: State, now: float, run: Run) -> list[Effect]:
    """The task was killed while its launch was being prepared."""
    return end_task(
        state, now, run, "TASK_KILLED", "REASON_TASK_KILLED_DURING_LAUNCH",
        "Task was killed before it was launched", "SOURCE_AGENT",
    )  # fmt: skip


def end_task(
    state: State,
    now: float,
    run: Run,
    task_state: TaskState,
    reason: StatusReason | None,
    message: str,
    source: StatusSource,
) -> list[Effect]:
    """The run is over: report the task's end, once."""
    run.phase = "OVER"
    checks.stop(run)
    if run.parent_id is not None:
        state.unsettled.add(run.parent_id)
    return end_entry(state, now, run, run.only_task, task_state, reason, message, source)


def end_entry(
    state: State,
    now: float,
    run: Run,
    entry: TaskEntry,
    task_state: TaskState,
    reason: StatusReason | None,
    message: str,
    source: StatusSource,
) -> list[Effect]:
    """Report the end of one task."""
    status = updates.make_status(
        state, now, run, entry, task_state, source=source, reason=reason, message=message
    )
    if reason in _LIMITATIONS:
        status = replace(status, limitation=run.limitation)
    return updates.report(state, now, run, entry, status)


def acknowledged_to_the_end(state: State, key: TaskKey) -> list[Effect]:
    """The last update of a task was acknowledged: nothing more is to be said of it."""
    found = state.find(key)
    if found is None:
        return []
    run, entry = found
    if not run.is_custom:
        return forget(state, run)
    del run.tasks[key[1]]
    run.completed.append(entry)
    if run.phase == "OVER" and not run.tasks:
        return forget(state, run)
    if not run.on_disk or run.phase == "OVER":
        return []
    ids = (state.own_id.value, run.framework_id, run.executor_id, run.container_id)
    # Its executor may live for months and run thousands.
    return [state.save(Recorded(), Delete(layout.task_dir(*ids, key[1])))]


def forget(state: State, run: Run) -> list[Effect]:
    """Close the records of a run that is over and has nothing left to report."""
    framework = state.frameworks[run.framework_id]
    state.runs.pop(run.container_id, None)
    framework.remove(run)
    if run.parent_id is None:
        framework.completed.append(run)
    while len(framework.completed) > state.settings.max_completed_runs:
        framework.completed.popleft()
    effects: list[Effect] = []
    if run.on_disk:
        ids = (state.own_id.value, run.framework_id, run.executor_id, run.container_id)
        path = f"{layout.run_dir(*ids)}/executor.sentinel"
        effects.append(state.save(Recorded(), Put(path, b"")))
        effects.append(RunOver(run.framework_id, run.executor_id, run.container_id))
    if run.parent_id is not None:
        effects += _leave(state, framework, run, run.parent_id)
    if not framework.runs and state.recovered:
        state.frameworks.pop(run.framework_id, None)
        if framework not in state.completed_frameworks:
            state.completed_frameworks.append(framework)
    return effects


def _leave(state: State, framework: Framework, run: Run, parent_id: str) -> list[Effect]:
    """A default executor ends with the last of its tasks (spec §3.5)."""
    parent = framework.runs.get(parent_id)
    if parent is None:
        return []
    parent.nested.pop(run.container_id, None)
    parent.completed += run.tasks.values()
    if parent.nested or not state.recovered:
        return []
    return default_over(state, parent)


def default_over(state: State, run: Run) -> list[Effect]:
    """Nothing is left of a default executor."""
    run.phase = "OVER"
    state.count("executors_terminated")
    told = [] if run.silent else tell_exited(state, run, 0)
    said = note("Ended", executor=run.executor_id, run=run.container_id)
    return [said, *told, *forget(state, run)]


def answer_unknown(
    state: State, now: float, key: TaskKey, reason: StatusReason, text: str
) -> list[Effect]:
    """Say of a task that is not here that it is not; retried like any update, kept nowhere."""
    framework = state.frameworks.get(key[0])
    aware = framework is not None and framework.can("PARTITION_AWARE")
    status = TaskStatus(
        task_id=TaskID(key[1]),
        state="TASK_DROPPED" if aware else "TASK_LOST",
        message=text,
        source="SOURCE_AGENT",
        reason=reason,
        agent_id=state.own_id,
        timestamp=state.wall(now),
        uuid=state.new_uuid(),
    )
    return updates.answer(state, now, key, status)
