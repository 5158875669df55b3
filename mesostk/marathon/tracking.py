"""Instances as Mesos reports them: status updates, kills, reconciliation, overdue launches.

Order of writes (ARCHITECTURE §5): the changed instance is saved, then the update is acknowledged,
then subscribers hear of it. A task that no instance stands for is killed.
"""

from __future__ import annotations

from collections import deque

import msgspec

from mesostk.marathon import draining, podstate, podviews, probing, repository, residents, taskinfo
from mesostk.marathon.instances import (
    RAISES_BACK_OFF,
    TERMINAL,
    Condition,
    Goal,
    Instance,
    condition_of,
    updated,
)
from mesostk.marathon.queue import WORKED_S
from mesostk.marathon.state import Kill, State, Turn, back_off_of
from mesostk.marathon.versions import config_version
from mesostk.wire import scheduler
from mesostk.wire.marathon import (
    InstanceChanged,
    StatusUpdateEvent,
    TaskFailure,
    TaskIpAddress,
    UnknownInstanceTerminated,
    UnreachableStrategy,
)
from mesostk.wire.mesos import TERMINAL_STATES, AgentID, TaskID, TaskStatus

#: A launch that nothing was heard of for this long is asked about: the ACCEPT may never have left.
ASK_AFTER_S = 10.0

#: Of each pod.
TERMINATIONS_KEPT = 5

_FAILURE_STATES = frozenset(
    {
        "TASK_FAILED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
        "TASK_UNKNOWN",
        "TASK_UNREACHABLE",
    }
)


def on_update(state: State, turn: Turn, status: TaskStatus) -> None:
    """One status update of a task of our framework."""
    id = state.by_task.get(status.task_id.value)
    if id is None:
        _unknown_task(turn, status)
    else:
        _known_task(state, turn, state.instances[id], status)
    acknowledge(turn, status)


def acknowledge(turn: Turn, status: TaskStatus) -> None:
    """Let the agent send the task's next update; updates without uuid need no answer."""
    if status.uuid is None or status.agent_id is None:
        return
    turn.send(
        scheduler.Call(
            type="ACKNOWLEDGE",
            acknowledge=scheduler.Acknowledge(
                agent_id=status.agent_id, task_id=status.task_id, uuid=status.uuid
            ),
        )
    )


def _unknown_task(turn: Turn, status: TaskStatus) -> None:
    task_id = status.task_id.value
    if status.state in TERMINAL_STATES or status.state == "TASK_UNKNOWN":
        instance_id = taskinfo.instance_of(task_id) or task_id
        turn.emit(
            UnknownInstanceTerminated(
                timestamp=turn.at,
                instance_id=instance_id,
                run_spec_id=taskinfo.app_of(task_id) or "",
                condition=condition_of(status),
            )
        )
    elif status.state != "TASK_UNREACHABLE":
        turn.note("Killing unknown task", task=task_id, state=status.state)
        turn.send(_kill_call(task_id, None if status.agent_id is None else status.agent_id.value))


def _known_task(state: State, turn: Turn, old: Instance, status: TaskStatus) -> None:
    change = podstate.updated if old.tasks else updated
    new = change(old, status, turn.wall_s)
    if new is old:
        return
    if new.condition is not old.condition or new.state != old.state:
        turn.note(
            "Updating",
            task=status.task_id.value,
            state=status.state,
            reason=status.reason,
            was=old.state,
        )
        _remember_failure(state, turn, new, status)
    if new.condition is not old.condition:
        _book_progress(state, turn, new)
    residents.follow(state, turn, new, status)
    if new.is_terminal or _is_given_up(state, new, _age(state, turn, old, new)):
        finish(state, turn, new)
    else:
        state.put_instance(turn, new)
        probing.follow(state, turn, new)
    if new.tasks or new.condition is not old.condition or new.state != old.state:
        _tell(turn, new, status)


def finish(state: State, turn: Turn, instance: Instance) -> None:
    """Forget an instance that ended or is given up; what is still wanted is launched anew."""
    probing.stop(state, turn, instance)
    condition = "expunged" if instance.is_unreachable else instance.condition
    turn.note("Forgetting instance", id=instance.id, condition=condition)
    if instance.is_unreachable:
        residents.expunged(state, turn, instance)
    if instance.tasks:
        kept = state.terminations.setdefault(instance.app_id, deque(maxlen=TERMINATIONS_KEPT))
        kept.append(podviews.terminated(state, instance))
    state.drop_instance(turn, instance)


def _book_progress(state: State, turn: Turn, instance: Instance) -> None:
    """Back-off and launch tokens (spec/marathon §3.8)."""
    app = state.app_of(instance)
    if app is not None:
        key = (app.id, config_version(app))
        if instance.condition in RAISES_BACK_OFF:
            raised = state.delays.worked if _has_worked(instance) else state.delays.failed
            delay = raised(key, turn.now, back_off_of(app))
            turn.note("Delaying launches", app=app.id, seconds=round(delay.delay_s, 3))
        elif not instance.is_terminal and not instance.is_unreachable:
            state.delays.progressed(key, turn.now, back_off_of(app))
    confirmed = instance.is_terminal or instance.condition is Condition.RUNNING
    if confirmed and instance.id in state.unconfirmed:
        state.unconfirmed.discard(instance.id)
        state.tokens.give_back()


def _has_worked(instance: Instance) -> bool:
    """Whether it ended well after it had run for a while, and so gives no reason to wait longer."""
    ran_s = 0.0 if instance.started_at is None else instance.since - instance.started_at
    return instance.condition is Condition.FINISHED and ran_s >= WORKED_S


def _remember_failure(state: State, turn: Turn, instance: Instance, status: TaskStatus) -> None:
    if status.state not in _FAILURE_STATES:
        return
    failure = TaskFailure(
        app_id=instance.app_id,
        host=instance.host,
        message="" if instance.message is None else instance.message,
        state=status.state,
        task_id=status.task_id.value,
        timestamp=turn.at,
        version=instance.version,
        slave_id=instance.agent_id,
    )
    state.failures[instance.app_id] = failure
    turn.put(repository.failure_path(instance.app_id), repository.write(failure))


def _tell(turn: Turn, instance: Instance, status: TaskStatus | None = None) -> None:
    """Tell of an instance, by the status of one of its tasks if that is why."""
    task_id = instance.task_id if status is None else status.task_id.value
    turn.emit(
        StatusUpdateEvent(
            timestamp=turn.at,
            slave_id=instance.agent_id,
            task_id=task_id,
            task_status="TASK_STAGING" if instance.state is None else instance.state,
            message="" if instance.message is None else instance.message,
            app_id=instance.app_id,
            host=instance.host,
            ip_addresses=task_addresses(instance),
            ports=instance.ports,
            version=instance.version,
        )
    )
    tell_changed(turn, instance)


def tell_changed(turn: Turn, instance: Instance) -> None:
    """`instance_changed_event`."""
    turn.emit(
        InstanceChanged(
            timestamp=turn.at,
            instance_id=instance.id,
            condition=instance.condition,
            run_spec_id=instance.app_id,
            agent_id=instance.agent_id,
            host=instance.host,
            run_spec_version=instance.version,
        )
    )


def task_addresses(instance: Instance) -> tuple[TaskIpAddress, ...]:
    """The addresses of an instance as tasks and events show them."""
    return tuple(
        TaskIpAddress(ip_address=a.ip_address, protocol="IPv6" if ":" in a.ip_address else "IPv4")
        for a in instance.ip_addresses
        if a.ip_address is not None
    )


# -- unreachable ------------------------------------------------------------------------------


def _is_given_up(state: State, instance: Instance, lost_for_s: float) -> bool:
    """An unreachable instance whose time to come back is over, or that was to be killed."""
    if not instance.is_unreachable:
        return False
    if instance.goal is not Goal.RUNNING:
        return True
    strategy = _strategy(state, instance)
    return strategy is not None and lost_for_s >= strategy.expunge_after_seconds


def _strategy(state: State, instance: Instance) -> UnreachableStrategy | None:
    """None where the app waits for ever, and for an app that is gone: its scale step decides."""
    app = state.app_of(instance)
    if app is None or not isinstance(app.unreachable_strategy, UnreachableStrategy):
        return None
    return app.unreachable_strategy


def expire_unreachable(state: State, turn: Turn) -> None:
    """Replace what is inactive for long enough, forget what is gone for long enough."""
    for instance in [i for i in state.instances.values() if i.is_unreachable]:
        strategy = _strategy(state, instance)
        if _is_given_up(state, instance, turn.now - state.entered[instance.id]):
            finish(state, turn, instance)
        elif (
            strategy is not None
            and instance.condition is Condition.UNREACHABLE
            and turn.now - state.entered[instance.id] >= strategy.inactive_after_seconds
        ):
            # `since` stays: both times count from when the agent was lost.
            inactive = msgspec.structs.replace(instance, condition=Condition.UNREACHABLE_INACTIVE)
            state.put_instance(turn, inactive)
            tell_changed(turn, inactive)


def _age(state: State, turn: Turn, old: Instance, new: Instance) -> float:
    """Seconds for which `new` has been in its condition; 0 if it enters it now."""
    return turn.now - state.entered[old.id] if new.since == old.since else 0.0


# -- kills ------------------------------------------------------------------------------------


def decommission(state: State, turn: Turn, instance: Instance, reason: str) -> None:
    """Decide that an instance goes; KILL follows once that is durable."""
    if instance.goal is Goal.DECOMMISSIONED:
        return
    turn.note("Killing", task=instance.task_id, reason=reason)
    gone = msgspec.structs.replace(instance, goal=Goal.DECOMMISSIONED, kill_reason=reason)
    if instance.is_unreachable:
        # Nobody is there to confirm the kill; if the task comes back it is unknown and killed.
        finish(state, turn, gone)
        return
    drain_s = _drain_s(state, instance)
    if drain_s > 0:
        gone = msgspec.structs.replace(
            gone, condition=Condition.KILLING, state="TASK_KILLING", since=turn.wall_s
        )
        _tell(turn, gone)
    state.put_instance(turn, gone)
    probing.stop(state, turn, gone)
    state.kills[gone.id] = Kill(due_at=turn.now + drain_s)


def _drain_s(state: State, instance: Instance) -> float:
    """Seconds for balancers; none for what serves nobody."""
    app = state.app_of(instance)
    if app is None or not instance.is_running or state.health_of(instance) is False:
        return 0.0
    return draining.seconds(app, state.settings.kill_drain_s)


def resumed_kill(state: State, turn: Turn, instance: Instance) -> Kill:
    """A kill that was decided by an earlier leader, due after the draining it began.

    That is waited for as a whole: how much of it is over only the former leader's clock would tell.
    """
    app = state.app_of(instance)
    if app is None or instance.condition is not Condition.KILLING:
        return Kill()
    return Kill(due_at=turn.now + draining.seconds(app, state.settings.kill_drain_s))


def deadline(state: State) -> float | None:
    """When the next draining ends."""
    ends = (kill.due_at for kill in state.kills.values() if kill.due_at > state.now)
    return min(ends, default=None)


def send_kills(state: State, turn: Turn) -> None:
    """Send due KILLs, at most `kill_chunk_size` unconfirmed at a time, and repeat old ones."""
    if not state.connected:
        return
    settings = state.settings
    in_flight = sum(1 for kill in state.kills.values() if kill.sent is not None)
    for id, kill in state.kills.items():
        if turn.now < kill.due_at:
            continue
        if kill.sent is None:
            if in_flight >= settings.kill_chunk_size:
                continue
            in_flight += 1
        elif turn.now - kill.sent < settings.kill_retry_s:
            continue
        instance = state.instances[id]
        kill.sent = turn.now
        for task_id in instance.live_task_ids:
            turn.send(_kill_call(task_id, instance.agent_id))


def _kill_call(task_id: str, agent_id: str | None) -> scheduler.Call:
    return scheduler.Call(
        type="KILL",
        kill=scheduler.Kill(
            task_id=TaskID(task_id), agent_id=None if agent_id is None else AgentID(agent_id)
        ),
    )


# -- reconciliation ---------------------------------------------------------------------------


def reconcile_all(state: State, turn: Turn) -> None:
    """Ask for the state of every task we know, then for every task the master knows."""
    known = tuple(task for i in state.instances.values() for task in _reconcile_tasks(i))
    if known:
        turn.send(scheduler.Call(type="RECONCILE", reconcile=scheduler.Reconcile(tasks=known)))
    turn.send(scheduler.Call(type="RECONCILE", reconcile=scheduler.Reconcile()))


def ask_about_silent_launches(state: State, turn: Turn) -> None:
    """Reconcile launches without any update: either the master answers, or they never left."""
    silent = tuple(
        task
        for i in state.instances.values()
        if i.state is None and turn.now - state.entered[i.id] >= ASK_AFTER_S
        for task in _reconcile_tasks(i)
    )
    if silent:
        turn.send(scheduler.Call(type="RECONCILE", reconcile=scheduler.Reconcile(tasks=silent)))


def _reconcile_tasks(instance: Instance) -> list[scheduler.ReconcileTask]:
    agent_id = AgentID(instance.agent_id)
    return [
        scheduler.ReconcileTask(task_id=TaskID(task_id), agent_id=agent_id)
        for task_id in instance.live_task_ids
    ]


def kill_overdue(state: State, turn: Turn) -> None:
    """Kill launches that are not confirmed, or not running, in their time (spec §3.7)."""
    settings = state.settings
    for instance in list(state.instances.values()):
        if instance.goal is not Goal.RUNNING or instance.condition in TERMINAL:
            continue
        if instance.condition is Condition.PROVISIONED:
            limit_s = settings.launch_confirm_timeout_s
        elif instance.is_staged:
            limit_s = settings.launch_timeout_s
        else:
            continue
        if turn.now - state.entered[instance.id] > limit_s:
            decommission(state, turn, instance, "launch overdue")
