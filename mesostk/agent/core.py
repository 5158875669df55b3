"""The agent's core: a table from events to handlers, and the invariants.

Made without any I/O: `Agent(settings, rng)`. Feed it `WallClock`, then what `recovery.recover` made
of the disk (ending in `RecoveryDone`), then whatever happens; perform what it returns, in order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from mesostk.agent import (
    amounts,
    checks,
    custom,
    drain,
    endings,
    executors,
    general_checks,
    groups,
    kills,
    operations,
    recovered,
    registration,
    tasks,
    updates,
)
from mesostk.agent.events import (
    Checked,
    DiskExceeded,
    ExecutorCalled,
    ExecutorStreamClosed,
    ExecutorSubscribed,
    Exited,
    Fetched,
    FetchFailed,
    Launched,
    LaunchFailed,
    LeaderChanged,
    LinkClosed,
    LinkMessage,
    Probed,
    RecoveredAgent,
    RecoveredFramework,
    RecoveredRun,
    RecoveryDone,
    SaveFailed,
    ShutdownRequested,
)
from mesostk.agent.fitting import why_not_fit
from mesostk.agent.state import Run, Settings, State, Timer, Wait
from mesostk.base.core import Effect, Event, Saved, Tick, WallClock, note
from mesostk.resources.resources import Resources
from mesostk.wire import link
from mesostk.wire.mesos import TERMINAL_STATES

Effects = list[Effect]


class Agent:
    """The pure core of the agent daemon; see `base.core.Core`."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self.state = State(settings, rng)

    def handle(self, now: float, event: Event) -> Sequence[Effect]:
        """Take one event in; return what the shell must do, in order."""
        effects = HANDLERS[type(event)](self.state, now, event)
        if self.state.unsettled:
            effects += groups.settle(self.state, now)
        return effects + amounts.settle(self.state) if self.state.resized else effects

    def deadline(self) -> float | None:
        """When the next timer is due, on the monotonic clock."""
        return self.state.deadline()

    def check(self) -> None:
        """Assert what must hold between any two events."""
        state = self.state
        for run in state.live_runs():
            assert state.runs[run.container_id] is run
            assert state.frameworks[run.framework_id].runs[run.container_id] is run
        held = [resource for part in state.in_use() for resource in part]
        why = why_not_fit(state.settings.resources, (), held)
        assert why is None, why
        assert state.total.quantities() == Resources.of(state.settings.resources).quantities()
        for framework in state.frameworks.values():
            assert framework.runs or not state.recovered, (
                "a framework without runs is not forgotten"
            )
            for run in framework.runs.values():
                self._check_run(run)
            assert framework.executors == {i: r for i, r in framework.runs.items() if r.is_executor}
            assert set(framework.by_task.values()) == {
                run for run in framework.runs.values() if not run.is_executor
            }
        for key, stream in state.streams.items():
            assert stream.key == key
            assert stream.pending or state.find(key) is not None, f"{key} has nothing to say"
            assert not stream.sent or stream.pending[0].saved, "shown before it was on disk"
            for pending in list(stream.pending)[:-1]:
                assert pending.update.status.state not in TERMINAL_STATES, "said after the end"
        assert state.phase != "RUNNING" or state.link is not None

    def _check_run(self, run: Run) -> None:
        parent = run.parent_id
        if parent is not None and run.executor.type == "DEFAULT":
            owner = self.state.frameworks[run.framework_id].runs[parent]
            assert owner.nested[run.container_id] is run, "a task of no executor"
        if run.is_default and self.state.recovered:
            assert run.nested, "a default executor without tasks is not forgotten"
        for task_id, entry in run.tasks.items():
            ended = entry.state in TERMINAL_STATES
            assert run.phase == "OVER" or run.is_custom or not ended, "a live task is reported dead"
            if ended and not run.silent:
                stream = self.state.streams.get((run.framework_id, task_id))
                assert stream is not None, "an end that nobody is told"
                last = stream.pending[-1].update.status
                assert last.state in TERMINAL_STATES, "an end that is not the last update"


# -- events -------------------------------------------------------------------------------------


def _wall_clock(state: State, _now: float, event: WallClock) -> Effects:
    state.offset_s = event.offset_s
    return []


def _tick(state: State, now: float, _event: Tick) -> Effects:
    effects: Effects = []
    for timer in state.due(now):
        effects += TIMERS[type(timer)](state, now, timer)
    return effects


def _saved(state: State, now: float, event: Saved) -> Effects:
    what = state.waiting.pop(event.token)
    return WAITS[type(what)](state, now, what, None)


def _save_failed(state: State, now: float, event: SaveFailed) -> Effects:
    what = state.waiting.pop(event.token)
    state.count("checkpoint_errors")
    return WAITS[type(what)](state, now, what, f"{event.path}: {event.error}")


def _link_message(state: State, now: float, event: LinkMessage) -> Effects:
    if event.link != state.link:
        return []
    state.heard_at = now
    message = event.message
    if isinstance(message, link.Registered):
        return registration.registered(state, now, event.link, message)
    if state.phase == "REGISTERING":
        state.held.append(message)
        return []
    if state.applying and state.phase == "RUNNING":
        state.held.append(message)
        return []
    if state.phase not in {"RUNNING", "TERMINATING"} and not isinstance(message, link.Shutdown):
        return [note("Ignoring", level="WARNING", what=type(message).__name__, phase=state.phase)]
    return MESSAGES[type(message)](state, now, message)


def _probed(state: State, now: float, event: Probed) -> Effects:
    effects, kill = checks.probed(state, now, event)
    run = state.runs.get(event.container_id)
    if kill and run is not None:
        from_policy = executors.grace_of(run.only_task.info, state.settings)
        effects += kills.end(state, now, run, run.only_task, "HEALTH", from_policy)
    return effects


def _exited(state: State, now: float, event: Exited) -> Effects:
    effects = endings.exited(state, now, event)
    return effects + _afterwards(state, now)


def _afterwards(state: State, now: float) -> Effects:
    """What may become possible when a run ends or an update is acknowledged."""
    return [
        *registration.leave_if_done(state),
        *drain.finish_if_empty(state, now),
        *recovered.register_if_ready(state, now),
    ]


def _shutdown_requested(state: State, now: float, event: ShutdownRequested) -> Effects:
    return registration.unregister(state, now, event.reason)


# -- checkpoints --------------------------------------------------------------------------------


def _membership_saved(
    state: State, now: float, what: registration.MembershipSaved, error: str | None
) -> Effects:
    effects = registration.membership_saved(state, now, what, error)
    if what.link == state.link:
        effects += _hear_held(state, now)
    return effects


def _hear_held(state: State, now: float) -> Effects:
    """What the master said meanwhile, up to the next operation."""
    effects: Effects = []
    while state.held and state.phase in {"RUNNING", "TERMINATING"} and not state.applying:
        message = state.held.popleft()
        effects += MESSAGES[type(message)](state, now, message)
    return effects


def _ack_saved(state: State, now: float, what: updates.AckSaved, error: str | None) -> Effects:
    effects, ended = updates.ack_saved(state, now, what, error)
    if ended is not None:
        effects += endings.acknowledged_to_the_end(state, ended)
    return effects + _afterwards(state, now)


def _run_saved(state: State, now: float, what: tasks.RunSaved, error: str | None) -> Effects:
    return tasks.run_saved(state, now, what, error) + _afterwards(state, now)


def _group_saved(state: State, now: float, what: groups.GroupSaved, error: str | None) -> Effects:
    return groups.group_saved(state, now, what, error) + _afterwards(state, now)


def _recorded(_state: State, _now: float, _what: Wait, error: str | None) -> Effects:
    return [note("Unrecorded", level="ERROR", error=error)] if error is not None else []


# -- messages of the master ---------------------------------------------------------------------


def _acknowledge(state: State, now: float, message: link.Acknowledge) -> Effects:
    effects, ended = updates.acknowledged(state, now, message)
    if ended is not None:
        effects += endings.acknowledged_to_the_end(state, ended)
    return effects + _afterwards(state, now)


def _shutdown_framework(state: State, now: float, message: link.ShutdownFramework) -> Effects:
    effects = kills.shutdown_framework(state, now, message.framework_id.value)
    effects += operations.forget_framework(state, message.framework_id.value)
    return effects + _afterwards(state, now)


def _shutdown_executor(state: State, now: float, message: link.ShutdownExecutor) -> Effects:
    return kills.shutdown_executor(state, now, message) + _afterwards(state, now)


def _applied(state: State, now: float, what: operations.Applied, error: str | None) -> Effects:
    return operations.applied(state, now, what, error) + _hear_held(state, now)


Handler = Callable[[State, float, Any], Effects]

HANDLERS: dict[type[Event], Handler] = {
    WallClock: _wall_clock,
    Tick: _tick,
    Saved: _saved,
    SaveFailed: _save_failed,
    RecoveredAgent: recovered.agent,
    RecoveredFramework: recovered.framework,
    RecoveredRun: recovered.run,
    RecoveryDone: recovered.done,
    LeaderChanged: registration.leader_changed,
    LinkMessage: _link_message,
    LinkClosed: registration.link_closed,
    Fetched: tasks.fetched,
    FetchFailed: lambda s, now, e: tasks.fetch_failed(s, now, e) + _afterwards(s, now),
    Launched: tasks.launched,
    LaunchFailed: lambda s, now, e: tasks.launch_failed(s, now, e) + _afterwards(s, now),
    Exited: _exited,
    Probed: _probed,
    Checked: general_checks.checked,
    DiskExceeded: kills.disk_exceeded,
    ShutdownRequested: _shutdown_requested,
    ExecutorSubscribed: lambda s, now, e: custom.subscribed(s, now, e) + _afterwards(s, now),
    ExecutorCalled: custom.called,
    ExecutorStreamClosed: custom.stream_closed,
}

MESSAGES: dict[type[link.Down], Handler] = {
    link.RunTask: tasks.run_task,
    link.RunGroup: groups.run_group,
    link.Kill: kills.kill,
    link.Acknowledge: _acknowledge,
    link.SchedulerMessage: lambda s, _now, m: custom.message(s, m),
    link.ShutdownExecutor: _shutdown_executor,
    link.ApplyOperation: operations.apply,
    link.AcknowledgeOperation: operations.acknowledged,
    link.Drain: lambda s, _now, m: drain.drain(s, m),
    link.UpdateFramework: lambda s, _now, m: tasks.update_framework(s, m.framework),
    link.ShutdownFramework: _shutdown_framework,
    link.Heartbeat: registration.heartbeat,
    link.Shutdown: lambda s, now, m: registration.shut_down(s, now, m.message),
}

WAITS: dict[type[Wait], Callable[[State, float, Any, str | None], Effects]] = {
    updates.UpdateSaved: custom.update_saved,
    updates.AckSaved: _ack_saved,
    tasks.RunSaved: _run_saved,
    tasks.TaskSaved: tasks.task_saved,
    groups.GroupSaved: _group_saved,
    kills.KillSaved: kills.kill_saved,
    endings.Recorded: _recorded,
    operations.Applied: _applied,
    operations.Acknowledged: _recorded,
    drain.DrainSaved: lambda s, now, _w, error: drain.drain_saved(s, now, error),
    registration.MembershipSaved: _membership_saved,
    registration.Left: lambda s, _now, _w, error: registration.left(s, error),
}

TIMERS: dict[type[Timer], Callable[[State, float, Any], Effects]] = {
    updates.Resend: updates.resend,
    kills.TimeUp: kills.time_up,
    kills.KillAgain: kills.kill_again,
    operations.Resend: operations.resend,
    checks.ProbeDue: checks.probe_due,
    general_checks.CheckDue: general_checks.check_due,
    registration.ConnectDue: lambda s, _now, t: registration.connect_due(s, t),
    registration.SilenceDue: registration.silence_due,
    registration.FarewellDue: registration.farewell_due,
    custom.SubscriptionDue: custom.subscription_due,
    custom.ShutdownDue: custom.shutdown_due,
}
