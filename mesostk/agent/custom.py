"""Custom executors: a framework's own program that runs its tasks (spec §3.1, §8.4, §8.6).

::

    first task ─▶ records ─▶ [Fetch] ─▶ Launch ─▶ Launched ─▶ SUBSCRIBE ─▶ SUBSCRIBED, LAUNCH …
                                          └ registration timeout ─▶ KillRun     ▲ │ UPDATE
    next tasks ─▶ record ─▶ queued until it is subscribed ──────────────────────┘ ▼
                                                  update stream ─▶ Saved ─▶ ACKNOWLEDGED
    SHUTDOWN ─▶ grace ─▶ KillRun          Exited ─▶ its live tasks fail, EXITED_EXECUTOR up

An executor outlives the agent, subscribes again and says what it was not acknowledged; one that
does not come back within the re-registration timeout is ended before the agent registers.
"""

from __future__ import annotations

from msgspec.structs import replace

from mesostk.agent import endings, executors, updates
from mesostk.agent.events import (
    CancelFetch,
    CloseExecutorStream,
    ExecutorCalled,
    ExecutorStreamClosed,
    ExecutorSubscribed,
    KillCause,
    KillRecord,
    KillRun,
    SendToExecutor,
    SendUp,
)
from mesostk.agent.state import Framework, Run, State, TaskEntry, Verdict
from mesostk.agent.state import Timer as TimerBase
from mesostk.base.core import Effect, note
from mesostk.errors import Rejected
from mesostk.wire import executor as wire
from mesostk.wire import link
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    ContainerID,
    DurationInfo,
    ExecutorID,
    FrameworkID,
    KillPolicy,
    StatusReason,
    TaskGroupInfo,
    TaskInfo,
    TaskState,
    TaskStatus,
)

#: Bytes of an update's uuid.
_UUID_BYTES = 16


class SubscriptionDue(TimerBase, frozen=True):
    """The executor should have subscribed by now, for the first time or, `again`, after a restart
    of the agent."""

    container_id: str
    again: bool


class ShutdownDue(TimerBase, frozen=True):
    """The executor should have ended by itself."""

    container_id: str


# -- what may be asked of it --------------------------------------------------------------------


def find(state: State, framework_id: str, executor_id: str) -> Run:
    """The run of a live custom executor; Rejected with the original's texts (spec §3.1)."""
    framework = state.frameworks.get(framework_id)
    if framework is None:
        raise Rejected(400, "Framework cannot be found")
    run = framework.executor_run(executor_id)
    if run is None or not run.is_custom or run.phase not in {"LAUNCHING", "RUNNING"}:
        raise Rejected(400, "Executor cannot be found")
    return run


def refuse(state: State, call: wire.Call) -> None:
    """Raise Rejected for a call that must not be acted upon."""
    run = find(state, call.framework_id.value, call.executor_id.value)
    if call.type == "SUBSCRIBE":
        return
    if run.stream is None:
        raise Rejected(403, "Executor is not subscribed")
    if call.type == "UPDATE" and call.update is not None:
        why = why_not_status(call.update.status)
        if why is not None:
            raise Rejected(400, f"Failed to validate executor::Call: {why}")


def why_not_status(status: TaskStatus) -> str | None:
    """Why an executor's update cannot be taken."""
    if status.uuid is None or len(status.uuid) != _UUID_BYTES:
        return f"'uuid' must have {_UUID_BYTES} bytes"
    if status.source != "SOURCE_EXECUTOR":
        return "Received Call from executor with source other than 'SOURCE_EXECUTOR'"
    return None


# -- subscription -------------------------------------------------------------------------------


def started(state: State, now: float, run: Run) -> list[Effect]:
    """The executor's process runs: it has so long to subscribe."""
    limit_s = state.settings.executor_registration_timeout_s
    state.call_at(now + limit_s, SubscriptionDue(run.container_id, again=False))
    if run.terminating or run.silent:
        return end_process(now, run)
    return []


def await_return(state: State, now: float, run: Run) -> list[Effect]:
    """A live executor of a former agent process: the agent registers once it is back, or over."""
    state.reconnecting.add(run.container_id)
    limit_s = state.settings.executor_reregistration_timeout_s
    state.call_at(now + limit_s, SubscriptionDue(run.container_id, again=True))
    return [note("Awaiting", executor=run.executor_id, run=run.container_id)]


def subscription_due(state: State, now: float, timer: SubscriptionDue) -> list[Effect]:
    """End an executor that did not subscribe in time."""
    run = state.runs.get(timer.container_id)
    if run is None or run.subscribed or run.phase not in {"LAUNCHING", "RUNNING"}:
        return []
    if timer.again:
        framework = state.frameworks[run.framework_id]
        lost: TaskState = "TASK_GONE" if framework.can("PARTITION_AWARE") else "TASK_LOST"
        limit_s = state.settings.executor_reregistration_timeout_s
        text = f"Executor did not re-register within {limit_s:g}secs"
        run.verdict = Verdict(lost, "REASON_EXECUTOR_REREGISTRATION_TIMEOUT", text)
    else:
        limit_s = state.settings.executor_registration_timeout_s
        text = f"Executor did not register within {limit_s:g}secs"
        run.verdict = Verdict("TASK_FAILED", "REASON_EXECUTOR_REGISTRATION_TIMEOUT", text)
    return [
        note("Ending", level="WARNING", executor=run.executor_id, why=text),
        *end_process(now, run),
    ]


def subscribed(state: State, now: float, event: ExecutorSubscribed) -> list[Effect]:
    """Greet the executor, take what it was not acknowledged, and give it what waits for it."""
    try:
        run = find(state, event.framework_id, event.executor_id)
    except Rejected:
        return [CloseExecutorStream(event.stream)]  # it ended while the stream was opened
    framework = state.frameworks[run.framework_id]
    effects: list[Effect] = [note("Subscribed", executor=run.executor_id, run=run.container_id)]
    if run.stream is not None:
        effects.append(CloseExecutorStream(run.stream))
    run.stream = event.stream
    if run.terminating or framework.terminating or state.phase == "TERMINATING":
        effects += [_tell(run, wire.Event(type="SHUTDOWN")), CloseExecutorStream(event.stream)]
        run.stream = None
        return effects
    again, run.subscribed = run.container_id in state.reconnecting, True
    state.reconnecting.discard(run.container_id)
    greeting = wire.Subscribed(
        executor_info=run.executor,
        framework_info=framework.info,
        agent_info=state.agent_info(),
        container_id=ContainerID(run.container_id),
    )
    effects.append(_tell(run, wire.Event(type="SUBSCRIBED", subscribed=greeting)))
    for update in event.subscribe.unacknowledged_updates:
        if why_not_status(update.status) is None:
            effects += _updated(state, now, run, update.status)
    if again:
        known = {task.task_id.value for task in event.subscribe.unacknowledged_tasks}
        effects += _drop_unknown(state, now, run, known)
    effects += deliver(run)
    for entry in run.tasks.values():
        if entry.sent and entry.kill is not None and entry.state not in TERMINAL_STATES:
            effects.append(_kill_event(run, entry, entry.kill.grace_s))
    if not again and not run.tasks and not run.completed:
        effects += shut_down(state, now, run)  # all its tasks were killed before it came
    return effects


def _drop_unknown(state: State, now: float, run: Run, known: set[str]) -> list[Effect]:
    """Tasks of which the executor never heard, the agent having ended before it could tell."""
    framework = state.frameworks[run.framework_id]
    lost: TaskState = "TASK_DROPPED" if framework.can("PARTITION_AWARE") else "TASK_LOST"
    effects: list[Effect] = []
    for task_id, entry in list(run.tasks.items()):
        if entry.sent and entry.state == "TASK_STAGING" and task_id not in known:
            text = "Task dropped during agent recovery: its executor never received it"
            effects += endings.end_entry(
                state, now, run, entry, lost, "REASON_AGENT_RESTARTED", text, "SOURCE_AGENT"
            )
    return effects


def stream_closed(state: State, _now: float, event: ExecutorStreamClosed) -> list[Effect]:
    """The executor may come back; its process tells when it does not."""
    for run in state.runs.values():
        if run.stream == event.stream:
            run.stream = None
            return [note("Unsubscribed", executor=run.executor_id, run=run.container_id)]
    return []


def deliver(run: Run) -> list[Effect]:
    """Tell a subscribed executor of the tasks that it does not know and that are on disk."""
    if run.stream is None or run.terminating or not run.subscribed:
        return []
    waiting = [
        entry
        for entry in run.tasks.values()
        if entry.saved and not entry.sent and entry.state not in TERMINAL_STATES
    ]
    effects: list[Effect] = []
    for entry in waiting:
        if entry.sent:
            continue  # with its group
        together = [e for e in waiting if e is entry or e.group == entry.group is not None]
        for one in together:
            one.sent = True
        if entry.group is None:
            event = wire.Event(type="LAUNCH", launch=wire.Launch(task=entry.info))
        else:
            group = TaskGroupInfo(tasks=tuple(one.info for one in together))
            event = wire.Event(type="LAUNCH_GROUP", launch_group=wire.LaunchGroup(task_group=group))
        effects.append(_tell(run, event))
    return effects


# -- calls --------------------------------------------------------------------------------------


def called(state: State, now: float, event: ExecutorCalled) -> list[Effect]:
    """UPDATE or MESSAGE of an executor."""
    call = event.call
    try:
        run = find(state, call.framework_id.value, call.executor_id.value)
    except Rejected:
        return []
    if call.type == "MESSAGE" and call.message is not None:
        state.count("valid_framework_messages")
        if not state.connected or state.link is None:
            return [note("Dropping", what="executor message", executor=run.executor_id)]
        message = link.ExecutorMessage(
            framework_id=call.framework_id, executor_id=call.executor_id, data=call.message.data
        )
        return [SendUp(state.link, message)]
    if call.type == "UPDATE" and call.update is not None:
        return _updated(state, now, run, call.update.status)
    return []


def _updated(state: State, now: float, run: Run, status: TaskStatus) -> list[Effect]:
    """Take an update once; one that comes again is acknowledged again."""
    assert status.uuid is not None
    if status.state == "TASK_STAGING":
        text = "Executor sent a TASK_STAGING update"
        run.verdict = Verdict("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", text)
        said = note("Ending", level="ERROR", executor=run.executor_id, why=text)
        return [said, *shut_down(state, now, run)]
    entry = run.tasks.get(status.task_id.value)
    is_known = entry is not None and status.uuid in entry.uuids
    if entry is None or is_known or run.silent or entry.state in TERMINAL_STATES:
        if entry is None:
            state.count("invalid_status_updates")
        return _acknowledge(state, run, status)
    entry.uuids.add(status.uuid)
    entry.sent = True
    return updates.report(state, now, run, entry, _completed(state, now, run, entry, status))


def _completed(
    state: State, now: float, run: Run, entry: TaskEntry, status: TaskStatus
) -> TaskStatus:
    """The executor's status with what the agent knows better."""
    made = updates.make_status(state, now, run, entry, status.state)
    draining = entry.kill is not None and entry.kill.cause == "DRAIN"
    task_state, reason = status.state, status.reason
    if draining and task_state in {"TASK_KILLED", "TASK_KILLING"}:
        reason = "REASON_AGENT_DRAINING"
        if entry.gone and task_state == "TASK_KILLED":
            framework = state.frameworks[run.framework_id]
            task_state = "TASK_GONE_BY_OPERATOR" if framework.can("PARTITION_AWARE") else task_state
    if status.healthy is not None:
        entry.healthy = status.healthy
    own = status.container_status
    infos = own.network_infos if own is not None else ()
    container = made.container_status
    if container is not None and infos:
        container = replace(container, network_infos=infos)
    return replace(
        status,
        state=task_state,
        reason=reason,
        agent_id=state.own_id,
        executor_id=run.executor.executor_id,
        timestamp=status.timestamp if status.timestamp is not None else made.timestamp,
        container_status=container,
    )


def _acknowledge(state: State, run: Run, status: TaskStatus) -> list[Effect]:
    """Acknowledge what came again, unless it is still on its way to the disk."""
    assert status.uuid is not None
    stream = state.streams.get((run.framework_id, status.task_id.value))
    for pending in stream.pending if stream is not None else ():
        if pending.update.status.uuid == status.uuid and not pending.saved:
            return []
    return acknowledged(state, run, status)


def acknowledged(_state: State, run: Run, status: TaskStatus) -> list[Effect]:
    """Tell the executor that its update is on disk."""
    if run.stream is None or status.uuid is None:
        return []
    body = wire.Acknowledged(task_id=status.task_id, uuid=status.uuid)
    return [_tell(run, wire.Event(type="ACKNOWLEDGED", acknowledged=body))]


def update_saved(
    state: State, now: float, what: updates.UpdateSaved, error: str | None
) -> list[Effect]:
    """An update is on disk: it goes up, and its executor is told."""
    effects = updates.update_saved(state, now, what, error)
    found = state.find(what.key)
    if found is None or not found[0].is_custom or what.uuid not in found[1].uuids:
        return effects
    status = TaskStatus(task_id=found[1].info.task_id, state=found[1].state, uuid=what.uuid)
    return effects + acknowledged(state, found[0], status)


def message(state: State, message: link.SchedulerMessage) -> list[Effect]:
    """A framework's message to its executor; lost if that is not subscribed (best effort)."""
    try:
        run = find(state, message.framework_id.value, message.executor_id.value)
    except Rejected as error:
        state.count("invalid_framework_messages")
        return [note("Dropping", what="framework message", why=error.message)]
    if run.stream is None:
        state.count("invalid_framework_messages")
        return [note("Dropping", what="framework message", why="executor is not subscribed")]
    state.count("valid_framework_messages")
    body = wire.ToExecutor(data=message.data)
    return [_tell(run, wire.Event(type="MESSAGE", message=body))]


# -- ending -------------------------------------------------------------------------------------


def kill(
    state: State, now: float, run: Run, entry: TaskEntry, cause: KillCause, grace_s: float
) -> list[Effect]:
    """End one task of an executor: the executor does it, unless it never heard of the task."""
    if entry.state in TERMINAL_STATES:
        return []
    repeated = entry.kill is not None
    entry.kill = KillRecord(cause, grace_s)
    if not entry.sent:
        reason: StatusReason = "REASON_TASK_KILLED_DURING_LAUNCH"
        text = "Task was killed before it was delivered to its executor"
        effects: list[Effect] = []
        for one in [
            e for e in run.tasks.values() if e is entry or e.group == entry.group is not None
        ]:
            effects += endings.end_entry(
                state, now, run, one, "TASK_KILLED", reason, text, "SOURCE_AGENT"
            )
        idle = all(other.state in TERMINAL_STATES for other in run.tasks.values())
        if idle and not run.completed and run.phase in {"FETCHING", "LAUNCHING", "RUNNING"}:
            effects += shut_down(state, now, run)
        return effects
    told: list[Effect] = [] if repeated else [note("Killing", task=entry.info.task_id.value)]
    if run.stream is None:
        return told  # said when it subscribes again
    return [*told, _kill_event(run, entry, grace_s)]


def _kill_event(run: Run, entry: TaskEntry, grace_s: float) -> Effect:
    policy = KillPolicy(grace_period=DurationInfo(nanoseconds=int(grace_s * 1e9)))
    body = wire.Kill(task_id=entry.info.task_id, kill_policy=policy)
    return _tell(run, wire.Event(type="KILL", kill=body))


def shut_down(state: State, now: float, run: Run) -> list[Effect]:
    """Ask an executor to end, and see that it does after its grace period."""
    if run.terminating or run.phase == "OVER":
        return []
    run.terminating = True
    effects: list[Effect] = [note("Shutting down", executor=run.executor_id, run=run.container_id)]
    if run.phase == "SAVING":
        return effects
    if run.phase == "FETCHING":
        return [*effects, CancelFetch(run.container_id), *endings.executor_over(state, now, run)]
    if run.stream is None:
        return effects + end_process(now, run)
    grace_s = executors.shutdown_grace_of(run, state.settings)
    state.call_at(now + grace_s, ShutdownDue(run.container_id))
    return [*effects, _tell(run, wire.Event(type="SHUTDOWN"))]


def shutdown_due(state: State, now: float, timer: ShutdownDue) -> list[Effect]:
    """The grace period is over."""
    run = state.runs.get(timer.container_id)
    return end_process(now, run) if run is not None else []


def end_process(now: float, run: Run) -> list[Effect]:
    """Kill the executor's process and all that it started."""
    run.terminating = True
    if run.phase not in {"LAUNCHING", "RUNNING"}:
        return []
    run.kill_at, run.kill_saved = now, True
    if run.phase == "LAUNCHING" and not run.is_docker:
        return []  # as soon as it runs
    return [KillRun(run.container_id, 0.0)]


# -- small things -------------------------------------------------------------------------------


def _tell(run: Run, event: wire.Event) -> Effect:
    assert run.stream is not None
    return SendToExecutor(run.stream, event)


def new_run(state: State, framework: Framework, task: TaskInfo) -> Run:
    """The run of a custom executor that starts with `task`."""
    assert task.executor is not None
    assert framework.info.id is not None
    info = replace(
        task.executor,
        type="CUSTOM",
        framework_id=FrameworkID(framework.info.id.value),
        executor_id=ExecutorID(task.executor.executor_id.value),
    )
    return Run(
        framework_id=framework.info.id.value,
        executor=info,
        container_id=state.new_id(),
        phase="SAVING",
    )
