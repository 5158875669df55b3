"""Marathon's core: every event that reaches a leader, and what follows from it.

::

    Loaded ─▶ records become state ─▶ Subscribe ─▶ SUBSCRIBED: reconcile ─▶ offers, updates …
    any event ─▶ its handler ─▶ settle (deploying) ─▶ kills, revive or suppress ─▶ outbox

A process leads once: it makes one core when it is elected, and ends when it leads no longer. Built
without any I/O: `Marathon(Settings(...), random.Random(seed))`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from mesostk.base.core import Effect, Event, Exit, Saved, Tick, WallClock
from mesostk.marathon import (
    audit,
    commands,
    deploying,
    launching,
    loading,
    probing,
    repository,
    residents,
    reviving,
    rollout,
    stalling,
    subscribing,
    tracking,
)
from mesostk.marathon.events import (
    Abdicate,
    AddCallback,
    ChangeGroup,
    Command,
    Connected,
    CreateApp,
    CreatePod,
    DeleteApp,
    DeleteDeployment,
    DeleteGroup,
    DeletePod,
    Disconnected,
    Evacuate,
    FromMaster,
    InfoAnswered,
    KillInstances,
    KillTasks,
    Loaded,
    PatchGroup,
    ProbeResult,
    PutApps,
    PutPod,
    RemoveCallback,
    ResetDelay,
    RestartApp,
    Subscribe,
)
from mesostk.marathon.state import Outbox, Settings, State, Turn
from mesostk.wire import scheduler
from mesostk.wire.marathon import (
    FrameworkMessageEvent,
    SchedulerDisconnected,
    SchedulerRegistered,
    SchedulerReregistered,
)
from mesostk.wire.mesos import FrameworkId, MasterInfo

#: How often overdue launches, lost kills and unreachable instances are looked at (spec §3.7).
HOUSEKEEPING_S = 5.0

#: Exit code of the original when the master has forgotten this framework (spec §3.12).
FRAMEWORK_REMOVED = 110

#: Exit code of the original for any other error that the master tells.
SCHEDULER_ERROR = 106


class Marathon:
    """The leader's decisions. `handle` is the only way in; `state` is for views to read."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self.state = State(settings, rng)
        self._outbox = Outbox()
        #: When overdue things are looked at next; None before the records are loaded.
        self.housekeep_at: float | None = None
        #: When all tasks are asked for next; None while not connected.
        self.reconcile_at: float | None = None

    # -- the core protocol ----------------------------------------------------------------------

    def handle(self, now: float, event: Event) -> Sequence[Effect]:
        """Take one event in; return what the shell must do, in order."""
        self.state.now = now
        if isinstance(event, Saved):
            return self._outbox.saved(event.token)
        turn = Turn(now, now + self.state.offset_s)
        HANDLERS[type(event)](self, turn, event)
        if self.state.loaded:
            deploying.settle(self.state, turn)
            tracking.send_kills(self.state, turn)
            subscribing.follow(self.state, turn, thoroughly=isinstance(event, Tick))
            reviving.ask_for_offers(self.state, turn, all_apps=isinstance(event, Tick | Connected))
        return self._outbox.release(turn)

    def deadline(self) -> float | None:
        """When the core wants its next `Tick`."""
        times = [self.housekeep_at, self.reconcile_at, self.state.settle_at]
        if self.state.connected:
            times += [reviving.deadline(self.state), tracking.deadline(self.state)]
        return min((time for time in times if time is not None), default=None)

    def check(self) -> None:
        """Assert the invariants between the parts of the state."""
        state = self.state
        indexed = {id for of_app in state.by_app.values() for id in of_app}
        assert indexed == state.instances.keys() == state.entered.keys()
        assert set(state.by_task.values()) == state.instances.keys()
        assert len(state.by_task) == sum(len(i.task_ids) for i in state.instances.values())
        for instance in state.instances.values():
            assert instance.id in state.by_app[instance.app_id]
            assert not instance.is_terminal, "an ended instance is forgotten at once"
        holders = {
            app_id: deployment.id
            for deployment in state.deployments.values()
            for app_id in deployment.after
        }
        assert holders == state.locks, "one deployment holds an app"
        assert state.actions.keys() == state.deployments.keys() == state.position.keys()
        assert sum(len(d.after) for d in state.deployments.values()) == len(state.locks)
        assert state.kills.keys() <= state.instances.keys()
        assert state.probed <= state.instances.keys()
        assert state.unconfirmed <= state.instances.keys()
        for app_id, want in state.wants.items():
            assert want.count > 0
            live = [m for m in deploying.members(state, app_id, want.app) if m.life != "inactive"]
            # One above capacity where a restart could not move otherwise (spec §3.2).
            most = max(rollout.bounds(want.app).max_capacity + 1, want.app.instances)
            assert len(live) + want.count <= most, f"{app_id} would have too many instances"
        homes = {id: app_id for app_id, of_app in state.homes.items() for id in of_app}
        assert homes == {id: each.app_id for id, each in state.residences.items()}
        for id, residence in state.residences.items():
            is_sought = id in state.lost_since
            assert residence.is_lost or not is_sought
            assert (id in state.awaited) == (residence.is_leaving or is_sought)
            assert is_sought or not (residence.is_leaving and residence.is_lost)
        for app_id in state.dirty:
            assert len(state.by_app[app_id]) > deploying.LARGE, "small apps are settled at once"
            assert state.settle_at is not None


# -- handlers ---------------------------------------------------------------------------------


def _on_wall_clock(core: Marathon, _turn: Turn, event: WallClock) -> None:
    core.state.offset_s = event.offset_s


def _on_loaded(core: Marathon, turn: Turn, event: Loaded) -> None:
    loading.load(core.state, turn, event.records)
    core.housekeep_at = turn.now + HOUSEKEEPING_S
    core.state.roles = subscribing.in_use(core.state)
    turn.perform(Subscribe(subscribing.framework_info(core.state)))


def _on_master(core: Marathon, turn: Turn, event: FromMaster) -> None:
    handler = MASTER_HANDLERS.get(event.event.type)
    if handler is not None:
        handler(core, turn, event.event)


def _on_connected(core: Marathon, turn: Turn, event: Connected) -> None:
    state = core.state
    state.connected = True
    id = FrameworkId(event.framework_id.value)
    master = "" if event.master is None else _address(event.master)
    if state.framework_id != id:
        turn.note("Registered", framework=id, master=master)
        state.framework_id = id
        turn.put(repository.FRAMEWORK_ID, repository.write(repository.StoredId(id)))
        turn.emit(SchedulerRegistered(timestamp=turn.at, framework_id=id, master=master))
    else:
        turn.note("Reregistered", framework=id, master=master)
        turn.emit(SchedulerReregistered(timestamp=turn.at, master=master))
    for kill in state.kills.values():
        kill.sent = None  # what was sent to another master may be lost
    residents.search_anew(state, turn.now)
    reviving.subscribed(state)
    subscribing.connected(state)
    tracking.reconcile_all(state, turn)
    core.reconcile_at = turn.now + state.settings.reconciliation_interval_s


def _on_offers(core: Marathon, turn: Turn, event: scheduler.Event) -> None:
    assert event.offers is not None
    launching.on_offers(core.state, turn, event.offers.offers)


def _on_update(core: Marathon, turn: Turn, event: scheduler.Event) -> None:
    assert event.update is not None
    tracking.on_update(core.state, turn, event.update.status)


def _on_executor_message(_core: Marathon, turn: Turn, event: scheduler.Event) -> None:
    message = event.message
    assert message is not None
    turn.emit(
        FrameworkMessageEvent(
            timestamp=turn.at,
            executor_id=message.executor_id.value,
            slave_id=message.agent_id.value,
            message=tuple(message.data),
        )
    )


def _on_error(core: Marathon, turn: Turn, event: scheduler.Event) -> None:
    assert event.error is not None
    message = event.error.message
    turn.note("Master refuses us", "ERROR", message=message)
    if subscribing.retreat(core.state, turn, message):
        return
    if subscribing.REMOVED in message:
        remedy = "remove the record framework-id of its store to register anew"
        turn.perform(Exit(f"{message}; {remedy}", FRAMEWORK_REMOVED))
    else:
        turn.perform(Exit(message, SCHEDULER_ERROR))


def _on_disconnected(core: Marathon, turn: Turn, event: Disconnected) -> None:
    if not core.state.connected:
        return
    core.state.connected = False
    subscribing.disconnected(core.state)
    core.reconcile_at = None
    turn.note("Disconnected", "WARNING", reason=event.reason)
    turn.emit(SchedulerDisconnected(timestamp=turn.at))


def _on_info_answered(core: Marathon, turn: Turn, event: InfoAnswered) -> None:
    subscribing.answered(core.state, turn, event.refusal)


def _on_probe(core: Marathon, turn: Turn, event: ProbeResult) -> None:
    reason = probing.on_result(core.state, turn, event)
    if reason is not None:
        tracking.decommission(core.state, turn, core.state.instances[event.instance_id], reason)


def _on_command(core: Marathon, turn: Turn, event: Command) -> None:
    commands.run(core.state, turn, event)


def _on_tick(core: Marathon, turn: Turn, _event: Tick) -> None:
    state = core.state
    if core.housekeep_at is not None and turn.now >= core.housekeep_at:
        core.housekeep_at = turn.now + HOUSEKEEPING_S
        tracking.expire_unreachable(state, turn)
        tracking.kill_overdue(state, turn)
        commands.roll_back_overdue(state, turn)
        stalling.tell(state, turn)
        audit.forget_old(state, turn)
        if state.connected:
            tracking.ask_about_silent_launches(state, turn)
            residents.stop_searches(state, turn)
    if core.reconcile_at is not None and turn.now >= core.reconcile_at:
        core.reconcile_at = turn.now + state.settings.reconciliation_interval_s
        tracking.reconcile_all(state, turn)


def _address(master: MasterInfo) -> str:
    host = master.hostname
    if master.address is not None:
        host = master.address.hostname or master.address.ip or host
    return f"{host}:{master.port}"


HANDLERS: dict[type[Event], Callable[[Marathon, Turn, Any], None]] = {
    WallClock: _on_wall_clock,
    Connected: _on_connected,
    Loaded: _on_loaded,
    FromMaster: _on_master,
    Disconnected: _on_disconnected,
    InfoAnswered: _on_info_answered,
    ProbeResult: _on_probe,
    Tick: _on_tick,
    CreateApp: _on_command,
    PutApps: _on_command,
    DeleteApp: _on_command,
    RestartApp: _on_command,
    KillTasks: _on_command,
    ChangeGroup: _on_command,
    PatchGroup: _on_command,
    DeleteGroup: _on_command,
    DeleteDeployment: _on_command,
    ResetDelay: _on_command,
    Evacuate: _on_command,
    Abdicate: _on_command,
    AddCallback: _on_command,
    RemoveCallback: _on_command,
    CreatePod: _on_command,
    PutPod: _on_command,
    DeletePod: _on_command,
    KillInstances: _on_command,
}

#: Events that are not here (heartbeats, rescinded offers, failures of agents and executors) change
#: nothing: offers are used when they come, and lost tasks are told by updates.
MASTER_HANDLERS: dict[str, Callable[[Marathon, Turn, scheduler.Event], None]] = {
    "OFFERS": _on_offers,
    "UPDATE": _on_update,
    "MESSAGE": _on_executor_message,
    "ERROR": _on_error,
}
