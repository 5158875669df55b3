"""Finding, joining and following the leading master.

::

    LeaderChanged ─▶ wait random(0, factor) ─▶ Connect{Subscribe} ─▶ Registered
                              ▲                      │                  ├ epoch old, foreign: refuse
       back-off doubles ◀─────┴─ LinkClosed, silence ┘                  ├ other agent id: Exit
       at most 60 s                                                     └ Checkpoint ─▶ RUNNING

The epoch is the agent's half of the fence: a master that lost its leadership without knowing it, or
one of another cluster, cannot start or kill anything here.
"""

from __future__ import annotations

from mesostk.agent import endings, kills, layout, operations, updates
from mesostk.agent.events import Connect, Disconnect, LeaderChanged, Link, LinkClosed, SendUp
from mesostk.agent.state import Run, State, TaskEntry
from mesostk.agent.state import Timer as TimerBase
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Delete, Effect, Exit, Put, note
from mesostk.wire.link import (
    PROTOCOL,
    ClusterEpoch,
    FrameworkExecutor,
    Heartbeat,
    Pong,
    Registered,
    Subscribe,
    TaskRef,
    Unregister,
)
from mesostk.wire.mesos import AgentCapability, FrameworkID, Task

#: For the master to forget an agent that unregisters.
_FAREWELL_S = 5.0

CAPABILITIES = (
    AgentCapability(type="MULTI_ROLE"),
    AgentCapability(type="HIERARCHICAL_ROLE"),
    AgentCapability(type="RESERVATION_REFINEMENT"),
    AgentCapability(type="RESIZE_VOLUME"),
    AgentCapability(type="AGENT_OPERATION_FEEDBACK"),
    AgentCapability(type="AGENT_DRAINING"),
    AgentCapability(type="TASK_RESOURCE_LIMITS"),
)


class ConnectDue(TimerBase, frozen=True):
    """The back-off before link number `attempt` is over."""

    attempt: int


class SilenceDue(TimerBase, frozen=True):
    """Link number `link` may have been silent for too long."""

    link: int


class FarewellDue(TimerBase, frozen=True):
    """The master does not answer the agent's farewell."""


class MembershipSaved(WaitBase, frozen=True):
    """Id and epoch are on disk: what the master of `registered` says may be done."""

    link: int
    registered: Registered


class Left(WaitBase, frozen=True):
    """The agent's id is forgotten; the process may end."""


# -- links --------------------------------------------------------------------------------------


def leader_changed(state: State, now: float, event: LeaderChanged) -> list[Effect]:
    """Follow the new leader; what is said on the old link counts no more.

    That nobody is known to lead is no reason to drop a link that works: ZooKeeper may be away.
    """
    if event.url == state.leader:
        return []
    state.leader = event.url
    effects: list[Effect] = [note("Detected", leader=event.url)]
    if event.url is None or (state.link is not None and event.url == state.link_url):
        return effects
    effects += drop_link(state)
    state.backoff_s = state.settings.registration_backoff_s
    connect_later(state, now, state.backoff_s)
    return effects


def drop_link(state: State) -> list[Effect]:
    """Give up the present link, if any."""
    if state.link is None:
        return []
    link, state.link = state.link, None
    _unlinked(state)
    return [Disconnect(link)]


def _unlinked(state: State) -> None:
    state.held.clear()
    if state.phase in {"RUNNING", "REGISTERING"}:
        state.phase = "DISCONNECTED"
    updates.link_lost(state)


def connect_later(state: State, now: float, most_s: float) -> None:
    """Connect after a random part of `most_s`, so that not all agents come at once."""
    state.attempt += 1
    state.call_at(now + state.rng.uniform(0.0, most_s), ConnectDue(state.attempt))


def connect_due(state: State, timer: ConnectDue) -> list[Effect]:
    """Connect, unless things changed during the back-off."""
    if timer.attempt != state.attempt or state.link is not None or state.leader is None:
        return []
    if (
        not state.recovered
        or state.recovery_kills
        or state.reconnecting
        or state.phase == "TERMINATING"
    ):
        return []
    state.links += 1
    state.link = state.links
    state.link_url = state.leader
    return [Connect(state.links, state.leader, subscription(state))]


def _longer(state: State) -> float:
    """The next back-off after a failure."""
    return min(2 * state.backoff_s, state.settings.registration_backoff_max_s)


def link_closed(state: State, now: float, event: LinkClosed) -> list[Effect]:
    """Try again, each time after a longer wait."""
    if event.link != state.link:
        return []
    was_running = state.phase == "RUNNING"
    state.link = None
    _unlinked(state)
    most_s = state.backoff_s if was_running else _longer(state)
    state.backoff_s = most_s
    connect_later(state, now, most_s)
    effects: list[Effect] = [
        note("Disconnected", level="WARNING", why=event.reason, leader=state.leader)
    ]
    return effects + leave_if_done(state)


def silence_due(state: State, now: float, timer: SilenceDue) -> list[Effect]:
    """A link over which nothing came for too long is half-open: replace it."""
    if timer.link != state.link:
        return []
    # Compared as the deadline is computed: a difference may round the other way and never be due.
    silent_at = state.heard_at + state.ping_timeout_s
    if now < silent_at:
        state.call_at(silent_at, timer)
        return []
    quiet_s = round(now - state.heard_at, 1)
    effects: list[Effect] = [note("Reconnecting", level="WARNING", silent_s=quiet_s)]
    return effects + _reconnect(state, now)


def _reconnect(state: State, now: float) -> list[Effect]:
    effects = drop_link(state)
    connect_later(state, now, state.backoff_s)
    return effects


def heartbeat(state: State, now: float, message: Heartbeat) -> list[Effect]:
    """Answer; if the master holds the agent for disconnected, subscribe again at once."""
    if not message.connected:
        return _reconnect(state, now)
    return [SendUp(state.link, Pong())] if state.link is not None else []


# -- subscription -------------------------------------------------------------------------------


def subscription(state: State) -> Subscribe:
    """Everything the master must know of this agent."""
    frameworks = [f for f in state.frameworks.values() if not f.terminating]
    return Subscribe(
        protocol=PROTOCOL,
        version=state.settings.version,
        agent_info=state.agent_info(),
        ip=state.settings.ip,
        capabilities=CAPABILITIES,
        checkpointed_resources=state.total.checkpointable().to_wire(),
        frameworks=tuple(f.info for f in frameworks),
        executors=tuple(
            FrameworkExecutor(framework_id=FrameworkID(run.framework_id), executor=run.executor)
            for f in frameworks
            for run in f.runs.values()
            if run.is_executor and run.phase != "OVER" and not run.silent
        ),
        tasks=tuple(
            wire_task(state, run, entry)
            for f in frameworks
            for run in f.runs.values()
            if not run.silent
            for entry in run.tasks.values()
        ),
        operations=tuple(state.operations.values()),
        last_epoch=state.epoch,
    )


def wire_task(state: State, run: Run, entry: TaskEntry) -> Task:
    """A task as the master and the operator API show it; command tasks name no executor."""
    named = run.executor.type is not None
    info = entry.info
    stream = state.streams.get((run.framework_id, info.task_id.value))
    first = stream.pending[0].update.status if stream is not None and stream.pending else None
    return Task(
        name=info.name,
        task_id=info.task_id,
        framework_id=FrameworkID(run.framework_id),
        executor_id=run.executor.executor_id if named else None,
        agent_id=state.own_id,
        state=entry.state,
        resources=info.resources,
        limits=info.limits,
        statuses=tuple(entry.statuses),
        status_update_state=first.state if first is not None else entry.state,
        status_update_uuid=first.uuid if first is not None else None,
        labels=info.labels,
        discovery=info.discovery,
        container=info.container,
        health_check=info.health_check,
        kill_policy=info.kill_policy,
        user=info.command.user if info.command is not None else None,
    )


def why_refused(state: State, epoch: ClusterEpoch) -> str | None:
    """Why a master of `epoch` is not followed; None if it is."""
    last = state.epoch
    if last is None:
        return None
    if epoch.cluster_id == last.cluster_id:
        if epoch.counter >= last.counter:
            return None
        return (
            f"it leads epoch {epoch.counter}, epoch {last.counter} was followed already: "
            "it must be a former leader"
        )
    if epoch.cluster_id == state.settings.adopt_cluster:
        return None
    return (
        f"it belongs to cluster {epoch.cluster_id}, this agent to {last.cluster_id}; "
        f"to move the agent there start it once with --adopt_cluster={epoch.cluster_id}"
    )


def registered(state: State, now: float, link: int, message: Registered) -> list[Effect]:
    """Join, unless the epoch forbids it; nothing is done before id and epoch are on disk."""
    refusal = why_refused(state, message.epoch)
    if refusal is not None:
        effects: list[Effect] = [note("Refusing", level="ERROR", master=state.leader, why=refusal)]
        state.backoff_s = _longer(state)
        return effects + _reconnect(state, now)
    if state.agent_id is not None and message.agent_id != state.agent_id:
        text = f"the master calls this agent {message.agent_id.value}, it is {state.agent_id.value}"
        return [*drop_link(state), Exit(f"Registration failed: {text}")]
    state.ping_timeout_s = message.ping_timeout_s
    state.phase = "REGISTERING"
    what = MembershipSaved(link, message)
    if state.agent_id is not None and state.epoch == message.epoch:
        return membership_saved(state, now, what, None)
    ops: list[Put | Link] = [Put(layout.EPOCH, layout.frame(message.epoch))]
    if state.agent_id is None:
        agent = message.agent_id.value
        info = state.agent_info()
        ops.append(Put(f"{layout.agent_dir(agent)}/slave.info", layout.frame(info)))
        ops.append(Link(layout.LATEST, layout.segment(agent)))
    return [state.save(what, *ops, sync=True)]


def membership_saved(
    state: State, now: float, what: MembershipSaved, error: str | None
) -> list[Effect]:
    """Be a member: tell what waits to be told, then do what the master said meanwhile."""
    if error is None:
        state.agent_id = what.registered.agent_id
        state.epoch = what.registered.epoch
    if what.link != state.link:
        return []
    if error is not None:
        text = f"id and epoch cannot be recorded in {state.settings.work_dir}: {error}"
        state.backoff_s = _longer(state)
        return [note("Not registering", level="ERROR", why=text), *_reconnect(state, now)]
    state.phase = "RUNNING"
    state.backoff_s = state.settings.registration_backoff_s
    state.heard_at = now
    state.call_at(now + state.ping_timeout_s, SilenceDue(what.link))
    effects: list[Effect] = [
        note(
            "Registered",
            agent=state.own_id.value,
            master=state.leader,
            epoch=what.registered.epoch.counter,
        )
    ]
    effects += updates.send_all(state, now)
    effects += operations.send_all(state)
    for ref in what.registered.report:
        effects += _report(state, now, ref)
    return effects


def _report(state: State, now: float, ref: TaskRef) -> list[Effect]:
    """Answer for a task that the master holds and the subscription did not name."""
    key = (ref.framework_id.value, ref.task_id.value)
    if key in state.streams or state.find(key) is not None:
        return []  # its updates are on their way
    # Frameworks tell a task that is not there from one that is out of reach by this beginning.
    text = "Reconciliation: Task is unknown to the agent: it never arrived, or its end was heard"
    return endings.answer_unknown(state, now, key, "REASON_RECONCILIATION", text)


# -- leaving ------------------------------------------------------------------------------------


def shut_down(state: State, now: float, reason: str) -> list[Effect]:
    """End all tasks, then forget the id and end: the next start is that of a new agent."""
    if state.phase == "TERMINATING":
        return []
    state.phase = "TERMINATING"
    state.shutdown_reason = reason
    effects: list[Effect] = [note("Shutting down", level="WARNING", why=reason)]
    for framework in list(state.frameworks.values()):
        for run in list(framework.runs.values()):
            effects += kills.end_silently(state, now, run, state.settings.shutdown_grace_s)
    return effects + leave_if_done(state)


def unregister(state: State, now: float, reason: str) -> list[Effect]:
    """Shut down by the operator's wish: frameworks hear at once that the tasks are lost."""
    if state.phase != "RUNNING" or state.link is None:
        return shut_down(state, now, reason)
    state.farewell = True
    state.call_at(now + _FAREWELL_S, FarewellDue())
    return [SendUp(state.link, Unregister()), *shut_down(state, now, reason)]


def farewell_due(state: State, _now: float, _timer: FarewellDue) -> list[Effect]:
    """Go without: the master will miss the agent."""
    state.farewell = False
    return leave_if_done(state)


def leave_if_done(state: State) -> list[Effect]:
    """Once no run is left of an agent that shuts down, forget who it was."""
    if state.phase != "TERMINATING" or state.runs or state.leaving:
        return []
    if state.farewell and state.link is not None:
        return []
    state.leaving = True
    return [*drop_link(state), state.save(Left(), Delete(layout.LATEST), sync=True)]


def left(state: State, error: str | None) -> list[Effect]:
    """End the process."""
    if error is not None:
        text = f"{state.shutdown_reason}; {layout.LATEST} could not be removed: {error}"
        return [Exit(text)]
    return [Exit(f"Agent shut down: {state.shutdown_reason}", code=0)]
