"""Taking up again what was here before a restart; `recovery` read it, this acts on it.

What still runs is re-entered silently. What ended meanwhile is told with its true exit code. Only
when neither a process nor a status is found does a task count as terminated.
"""

from __future__ import annotations

from mesostk.agent import (
    custom,
    drain,
    endings,
    groups,
    kills,
    operations,
    registration,
    tasks,
    updates,
)
from mesostk.agent.events import (
    KillRun,
    Launched,
    RecoveredAgent,
    RecoveredFramework,
    RecoveredRun,
    RecoveredTask,
    RecoveryDone,
)
from mesostk.agent.state import Framework, Run, State, TaskEntry, Verdict
from mesostk.base.core import Effect, note
from mesostk.resources import conversions
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import TERMINAL_STATES, StatusReason, TaskState


def agent(state: State, now: float, event: RecoveredAgent) -> list[Effect]:
    """Who this agent was."""
    state.agent_id = event.agent_id
    state.epoch = event.epoch
    state.drain = event.drain
    state.total = conversions.with_kept(state.total, Resources.of(event.resources))[0]
    state.operations = {operation.uuid.value: operation for operation in event.operations}
    operations.recovered(state, now)
    return []


def framework(state: State, _now: float, event: RecoveredFramework) -> list[Effect]:
    """A framework that may have runs here."""
    info = event.framework
    assert info.id is not None
    state.frameworks[info.id.value] = Framework(info=info, on_disk=True)
    return []


def run(state: State, now: float, event: RecoveredRun) -> list[Effect]:
    """One run: take it up, or tell its end."""
    owner = state.frameworks[event.framework_id]
    again = Run(
        framework_id=event.framework_id,
        executor=event.executor_info,
        container_id=event.container_id,
        phase="RUNNING" if event.seen.alive else "LAUNCHING",
        tasks={
            task.info.task_id.value: TaskEntry(info=task.info, kill=task.kill)
            for task in event.tasks
        },
        group=event.group,
        started_at=now,
    )
    state.runs[again.container_id] = again
    owner.add(again)
    for task in event.tasks:
        _replay(state, again, again.tasks[task.info.task_id.value], task)
    if again.is_default:
        again.phase = "RUNNING"
        again.silent = not owner.info.checkpoint
        return []
    if again.parent_id is not None:
        owner.runs[again.parent_id].nested[again.container_id] = again
    if not owner.info.checkpoint:
        return _end_unseen(state, now, again)
    if again.is_custom:
        return _executor(state, now, owner, again, event)
    return _task(state, now, owner, again, event)


def _task(
    state: State, now: float, owner: Framework, again: Run, event: RecoveredRun
) -> list[Effect]:
    """A run that is one task."""
    entry = again.only_task
    if (event.framework_id, entry.info.task_id.value) not in state.streams:
        return _already_told(state, again)
    if entry.state in TERMINAL_STATES:
        again.phase = "OVER"
        return [KillRun(again.container_id, 0.0)] if event.seen.alive else []
    if event.seen.alive:
        return _take_up(state, now, again, entry, event.seen.launched)
    if event.seen.ended is not None:
        return endings.exited(state, now, event.seen.ended)
    return _lost(state, now, owner, again, entry, event)


def _executor(
    state: State, now: float, owner: Framework, again: Run, event: RecoveredRun
) -> list[Effect]:
    """A custom executor: it comes back by itself, or it is over and so are its tasks."""
    for task_id, entry in list(again.tasks.items()):
        entry.saved = entry.sent = True
        if (event.framework_id, task_id) not in state.streams:
            again.completed.append(again.tasks.pop(task_id))
    if event.seen.alive:
        again.terminating = False
        return custom.await_return(state, now, again)
    text = "Agent restarted before the executor was started"
    if event.seen.ended is None and all(e.state == "TASK_STAGING" for e in again.tasks.values()):
        again.verdict = Verdict(owner.dropped, "REASON_AGENT_RESTARTED", text)
    elif event.rebooted:
        lost: TaskState = "TASK_FAILED" if owner.can("PARTITION_AWARE") else "TASK_LOST"
        again.verdict = Verdict(lost, "REASON_EXECUTOR_TERMINATED", "Host was restarted")
    elif event.seen.ended is None:
        text = "Executor terminated while the agent was away; no exit status was left"
        again.verdict = Verdict("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", text)
    return endings.executor_over(state, now, again, event.seen.ended)


def _replay(state: State, again: Run, entry: TaskEntry, found: RecoveredTask) -> None:
    key = (again.framework_id, found.info.task_id.value)
    path = updates.updates_path(state, again, key[1])
    assert path is not None
    stream = updates.replay(key, path, found.updates)
    if stream is not None:
        state.streams[key] = stream
    told = [record.update.status for record in found.updates if record.update is not None]
    entry.statuses = told[-updates.STATUSES_KEPT :]
    entry.uuids = {status.uuid for status in told if status.uuid is not None}
    for status in told:
        entry.state = status.state
        if status.healthy is not None:
            entry.healthy = status.healthy


def _already_told(state: State, again: Run) -> list[Effect]:
    """The end was acknowledged; only the sentinel had not been written."""
    again.phase = "OVER"
    return endings.forget(state, again)


def _end_unseen(state: State, now: float, again: Run) -> list[Effect]:
    """Runs of a framework that does not checkpoint end with the agent (spec §8.6)."""
    if again.phase != "RUNNING":
        again.phase = "OVER"
    else:
        state.recovery_kills.add(again.container_id)
    return kills.end_silently(state, now, again, 0.0)


def _take_up(
    state: State, now: float, again: Run, entry: TaskEntry, launched: Launched | None
) -> list[Effect]:
    effects: list[Effect] = [
        note("Recovered", task=entry.info.task_id.value, run=again.container_id)
    ]
    if launched is not None:
        again.pid, again.ips = launched.pid, launched.ips
    if entry.kill is not None:
        # The order to kill may not have reached the supervisor; twice does no harm.
        again.kill_at = now + entry.kill.grace_s
        again.kill_saved = True
        return effects + kills.kill_now(state, now, again)
    if entry.state in {"TASK_STAGING", "TASK_STARTING"}:
        data = launched.data if launched is not None else None
        return effects + tasks.now_running(state, now, again, data)
    tasks.start_clocks(state, now, again)
    return effects


def _lost(
    state: State, now: float, owner: Framework, again: Run, entry: TaskEntry, event: RecoveredRun
) -> list[Effect]:
    """Neither a process nor a status: never started, gone with the boot, or destroyed."""
    aware = owner.can("PARTITION_AWARE")
    how: tuple[TaskState, StatusReason, str]
    if entry.kill is not None:
        how = ("TASK_KILLED", "REASON_EXECUTOR_TERMINATED", "Killed; its exit status was not seen")
    elif entry.state == "TASK_STAGING":
        state_name: TaskState = "TASK_DROPPED" if aware else "TASK_LOST"
        how = (state_name, "REASON_AGENT_RESTARTED", "Agent restarted before the task was started")
    elif event.rebooted and not aware:
        how = ("TASK_LOST", "REASON_EXECUTOR_TERMINATED", "Host was restarted")
    elif event.rebooted:
        how = ("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", "Host was restarted")
    else:
        text = "Executor terminated while the agent was away; no exit status was left"
        how = ("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", text)
    return endings.end_task(state, now, again, how[0], how[1], how[2], "SOURCE_AGENT")


def done(state: State, now: float, event: RecoveryDone) -> list[Effect]:
    """Everything was told: register, as soon as what must end first has ended."""
    state.recovered = True
    state.recovered_at = now
    state.phase = "DISCONNECTED"
    state.lost_records = event.lost
    for name in [name for name, f in state.frameworks.items() if not f.runs]:
        state.completed_frameworks.append(state.frameworks.pop(name))
    effects: list[Effect] = [
        note("Recovered", tasks=len(state.runs), updates=len(state.streams), lost=event.lost)
    ]
    effects += groups.recovered(state)
    if state.drain is not None:
        effects += drain.drain_saved(state, now, None)
    return effects + register_if_ready(state, now)


def register_if_ready(state: State, now: float) -> list[Effect]:
    """Register once the runs that must not be seen any more are over."""
    if not state.recovered or state.registering or state.phase == "TERMINATING":
        return []
    state.recovery_kills &= state.runs.keys()
    if state.recovery_kills or state.reconnecting:
        return []
    state.registering = True
    registration.connect_later(state, now, state.settings.registration_backoff_s)
    return []
