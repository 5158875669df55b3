"""Frameworks: subscription, failover, disconnection, removal, and the table of their calls.

::

            SUBSCRIBE                stream broken               failover_timeout
    (new) ────────────▶ connected ─────────────────▶ disconnected ───────────────▶ completed
                          ▲  │ ▲ SUBSCRIBE (the old stream: ERROR, closed)             ▲
    an agent brought it   │  └─┘                                                       │
    (recovered) ──────────┘──────────────────────── TEARDOWN ──────────────────────────┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mesostk.errors import Rejected
from mesostk.master import constraints, converting, maintenance, offers, tasks, validation, views
from mesostk.master.events import (
    CloseSchedulerStream,
    SchedulerCalled,
    SchedulerStreamClosed,
    SchedulerSubscribed,
    SendToScheduler,
)
from mesostk.master.state import Framework, capabilities_of, min_allocatable_of, roles_of
from mesostk.wire import link, scheduler
from mesostk.wire.mesos import FrameworkID, FrameworkInfo

if TYPE_CHECKING:
    from mesostk.master.core import Master


# -- subscribing --------------------------------------------------------------------------------


def subscribed(master: Master, now: float, event: SchedulerSubscribed) -> None:
    """SUBSCRIBE: every refusal is an ERROR event, after which the stream is closed."""
    subscribe = event.call.subscribe
    assert subscribe is not None
    info = subscribe.framework_info
    if event.principal is not None and info.principal is None:
        info = replace(info, principal=event.principal)
    framework_id = None if info.id is None or not info.id.value else info.id.value
    known = None if framework_id is None else master.frameworks.get(framework_id)
    register = "messages_register_framework"
    master.counters[register if framework_id is None else "messages_reregister_framework"] += 1
    why = _subscribe_error(master, info, subscribe, framework_id, known)
    if why is not None:
        master.note("Refusing framework", level="WARNING", name=info.name, why=why)
        master.emit(SendToScheduler(event.stream, _error(why)))
        master.emit(CloseSchedulerStream(event.stream))
        return
    if framework_id is None:
        framework_id = f"{master.id}-{master.new_number('framework'):04d}"
    if known is None:
        framework = _add(master, now, replace(info, id=FrameworkID(framework_id)), event.stream)
        is_news = True
    else:
        framework = known
        is_news = known.recovered
        _take_over(master, now, known, info, event.stream)
    offers.add(framework.counters, "calls")
    offers.add(framework.counters, "calls/subscribe")
    framework.suppressed = set(subscribe.suppressed_roles)
    framework.offer_constraints = subscribe.offer_constraints
    _connected(master, now, framework)
    if master.subscribers:
        publish = views.framework_added if is_news else views.framework_updated
        master.publish(publish(framework))


def _subscribe_error(
    master: Master,
    info: FrameworkInfo,
    subscribe: scheduler.Subscribe,
    framework_id: str | None,
    known: Framework | None,
) -> str | None:
    why = validation.framework_error(info, subscribe.suppressed_roles, master.config)
    if why is not None:
        return why
    why = _unauthorized(master, info)
    if why is not None:
        return why
    if framework_id in master.completed_frameworks:
        return "Framework has been removed"
    why = constraints.error(subscribe.offer_constraints, roles_of(info), master.config)
    if why is not None:
        return why
    if known is None:
        return None
    if known.recovered and None in {known.info.principal, info.principal}:
        # Authentication may have been turned on or off together with the master's restart.
        return None
    return validation.change_error(known.info, info, strict=False)


def _unauthorized(master: Master, info: FrameworkInfo) -> str | None:
    for role in sorted(roles_of(info)):
        if not master.config.acls.allows("register_frameworks", info.principal, role):
            return f"Not authorized to use role '{role}'"
    return None


def _add(master: Master, now: float, info: FrameworkInfo, stream: str | None) -> Framework:
    assert info.id is not None
    framework = Framework(
        id=info.id.value,
        info=info,
        roles=roles_of(info),
        capabilities=capabilities_of(info),
        min_allocatable=min_allocatable_of(info),
        stream=stream,
        registered_at=master.wall(now),
        reregistered_at=master.wall(now),
        completed_tasks=deque(maxlen=master.config.max_completed_tasks_per_framework),
    )
    master.frameworks[framework.id] = framework
    converting.claim(master, framework)
    master.note("Adding framework", framework=framework.id, name=info.name)
    return framework


def recover(master: Master, now: float, info: FrameworkInfo) -> Framework:
    """A framework that an agent knows and this master not yet: it waits for its scheduler."""
    framework = _add(master, now, info, None)
    framework.recovered = True
    framework.active = False
    framework.registered_at = framework.reregistered_at = 0.0
    if master.subscribers:
        master.publish(views.framework_added(framework))
    return framework


def _take_over(
    master: Master, now: float, framework: Framework, info: FrameworkInfo, stream: str
) -> None:
    """A scheduler of a known framework: it gets the framework, whoever had it."""
    if framework.stream is not None:
        master.tell(framework, _error("Framework failed over"))
        _drop_stream(master, framework, close=True)
    offers.end_all(master, now, framework.offers, rescind=False)
    if framework.recovered:
        framework.registered_at = master.wall(now)
        framework.recovered = False
    framework.reregistered_at = master.wall(now)
    framework.stream = stream
    master.note("Failing over framework", framework=framework.id, name=info.name)
    _update_info(master, framework, info)


def _update_info(master: Master, framework: Framework, info: FrameworkInfo) -> None:
    """New FrameworkInfo, but `user` and `checkpoint` stay; agents are told if it changed.

    An agent that cannot read its record of a framework tells it without a user.
    """
    old = framework.info
    info = replace(info, id=old.id, user=old.user or info.user, checkpoint=old.checkpoint)
    framework.info = info
    framework.roles = roles_of(info)
    framework.capabilities = capabilities_of(info)
    framework.min_allocatable = min_allocatable_of(info)
    if info != old:
        master.allocator.passed_over.forget_framework(framework.id)
        for agent_id in _agents_of(framework):
            update = link.UpdateFramework(framework=info)
            tasks.agents_send(master, master.agents[agent_id], update)


def _agents_of(framework: Framework) -> list[str]:
    """Agents that run something of the framework."""
    of_tasks = (task.agent_id for task in framework.tasks.values())
    of_executors = (agent_id for agent_id, _ in framework.executors)
    return sorted({*of_tasks, *of_executors})


def _connected(master: Master, now: float, framework: Framework) -> None:
    assert framework.stream is not None
    framework.active = True
    framework.subscription += 1
    master.schedulers[framework.stream] = framework.id
    greeting = scheduler.Subscribed(
        framework_id=tasks.framework_id_of(framework),
        heartbeat_interval_seconds=master.config.heartbeat_s,
        master_info=master.info,
    )
    master.tell(framework, scheduler.Event(type="SUBSCRIBED", subscribed=greeting))
    _heartbeat(master, now, framework.id, framework.subscription)
    master.allocator.set_wants(framework)
    master.allocator.mark_all(master, now)


def _heartbeat(master: Master, now: float, framework_id: str, subscription: int) -> None:
    """Timer: every `heartbeat_s` of one subscription."""
    framework = master.frameworks.get(framework_id)
    if framework is None or framework.stream is None or framework.subscription != subscription:
        return
    master.tell(framework, scheduler.Event(type="HEARTBEAT"))
    master.timers.at(now + master.config.heartbeat_s, _heartbeat, framework_id, subscription)


def _error(message: str) -> scheduler.Event:
    return scheduler.Event(type="ERROR", error=scheduler.Error(message=message))


# -- leaving ------------------------------------------------------------------------------------


def stream_closed(master: Master, now: float, event: SchedulerStreamClosed) -> None:
    """The scheduler is gone; it has `failover_timeout` to come back."""
    framework_id = master.schedulers.get(event.stream)
    if framework_id is None:
        return
    framework = master.frameworks[framework_id]
    _drop_stream(master, framework, close=False)
    framework.active = False
    offers.end_all(master, now, framework.offers, rescind=False)
    master.allocator.set_wants(framework)
    timeout = max(framework.info.failover_timeout, 0.0)
    master.note("Framework disconnected", framework=framework.id, failover_timeout_s=timeout)
    if timeout == 0.0:
        remove(master, now, framework)
        return
    if master.subscribers:
        master.publish(views.framework_updated(framework))
    master.timers.at(now + timeout, _failover_timed_out, framework.id, framework.subscription)


def _drop_stream(master: Master, framework: Framework, *, close: bool) -> None:
    assert framework.stream is not None
    del master.schedulers[framework.stream]
    maintenance.forget_stream(master, framework)
    if close:
        master.emit(CloseSchedulerStream(framework.stream))
    framework.stream = None


def _failover_timed_out(master: Master, now: float, framework_id: str, subscription: int) -> None:
    """Timer: nobody came for the framework."""
    framework = master.frameworks.get(framework_id)
    if framework is None or framework.stream is not None:
        return
    if framework.subscription == subscription:
        remove(master, now, framework)


def remove(master: Master, now: float, framework: Framework) -> None:
    """The framework is over: its tasks are killed and its id never comes back."""
    master.note("Removing framework", framework=framework.id, name=framework.info.name)
    if framework.stream is not None:
        _drop_stream(master, framework, close=True)
    framework.active = False
    offers.end_all(master, now, framework.offers, rescind=False)
    shutdown = link.ShutdownFramework(framework_id=tasks.framework_id_of(framework))
    for agent_id in sorted({*_agents_of(framework), *converting.agents_of(master, framework)}):
        tasks.agents_send(master, master.agents[agent_id], shutdown)
    converting.forget_framework(master, framework)
    maintenance.forget_framework(master, framework)
    for task in list(framework.tasks.values()):
        tasks.end_by_master(
            master,
            now,
            task,
            "TASK_KILLED",
            "REASON_FRAMEWORK_REMOVED",
            f"Framework {framework.id} removed",
        )
    for agent_id, executor_id in list(framework.executors):
        agent = master.agents[agent_id]
        tasks.remove_executor(master, now, agent, framework.id, executor_id)
    for task_id in list(framework.unreachable_tasks):
        unreachable = tasks.forget_unreachable(master, framework, task_id)
        if unreachable is not None:
            framework.completed_tasks.append(unreachable)
    framework.unregistered_at = master.wall(now)
    master.allocator.forget(framework)
    del master.frameworks[framework.id]
    completed = master.completed_frameworks
    completed[framework.id] = framework
    while len(completed) > master.config.max_completed_frameworks:
        del completed[next(iter(completed))]
    if master.subscribers:
        master.publish(views.framework_removed(framework))


# -- calls --------------------------------------------------------------------------------------


def refusal(
    master: Master, call: scheduler.Call, stream: str | None, principal: str | None
) -> Rejected | None:
    """Why a call other than SUBSCRIBE is not accepted; checks 10 to 16 of spec/mesos.md §2.1."""
    assert call.framework_id is not None
    framework = master.frameworks.get(call.framework_id.value)
    if framework is None:
        return Rejected(400, "Framework cannot be found")
    if principal is not None and framework.info.principal != principal:
        return Rejected(
            400,
            f"Authenticated principal '{principal}' does not match principal"
            f" '{framework.info.principal}' set in `FrameworkInfo`",
        )
    if framework.stream is None:
        return Rejected(403, "Framework is not subscribed")
    if stream is None:
        return Rejected(400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header")
    if stream != framework.stream:
        return Rejected(
            400,
            f"The stream ID '{stream}' included in this request didn't match the stream ID"
            f" currently associated with framework ID {framework.id}",
        )
    if call.type == "UNKNOWN":
        return Rejected(501, "501 Not Implemented.")
    if call.type == "UPDATE_FRAMEWORK":
        return _update_refusal(master, framework, call)
    return None


def _update_refusal(master: Master, framework: Framework, call: scheduler.Call) -> Rejected | None:
    update = call.update_framework
    assert update is not None
    info = update.framework_info
    why = (
        validation.framework_error(info, update.suppressed_roles, master.config)
        or validation.change_error(framework.info, info, strict=True)
        or constraints.error(update.offer_constraints, roles_of(info), master.config)
    )
    if why is not None:
        return Rejected(400, why)
    forbidden = _unauthorized(master, info)
    return None if forbidden is None else Rejected(403, forbidden)


def called(master: Master, now: float, event: SchedulerCalled) -> None:
    """Any call that passed `refusal` a moment ago."""
    call = event.call
    assert call.framework_id is not None
    assert call.type is not None
    framework = master.frameworks.get(call.framework_id.value)
    if framework is None:
        master.counters["dropped_messages"] += 1
        return
    name = call.type.lower()
    offers.add(framework.counters, "calls")
    offers.add(framework.counters, f"calls/{name}")
    CALLS[call.type](master, now, framework, getattr(call, name, None))


def _teardown(master: Master, now: float, framework: Framework, _call: None) -> None:
    master.counters["messages_unregister_framework"] += 1
    remove(master, now, framework)


def _decline(master: Master, now: float, framework: Framework, call: scheduler.Decline) -> None:
    master.counters["messages_decline_offers"] += 1
    offers.decline(master, now, framework, call)


def _revive(master: Master, now: float, framework: Framework, call: scheduler.Roles | None) -> None:
    """Forget refusals of the roles (all if none is named) and offer again."""
    master.counters["messages_revive_offers"] += 1
    roles = framework.roles if call is None or not call.roles else frozenset(call.roles)
    if not roles <= framework.roles:
        master.note("Ignoring REVIVE of roles not subscribed", level="WARNING", roles=sorted(roles))
        return
    for role in roles:
        master.allocator.clear_refusals(framework.id, role)
    maintenance.revive(master, framework)
    framework.suppressed -= roles
    master.allocator.set_wants(framework)
    master.allocator.mark_all(master, now)


def _suppress(
    master: Master, _now: float, framework: Framework, call: scheduler.Roles | None
) -> None:
    """No more offers for the roles (all if none is named); refusals stay."""
    master.counters["messages_suppress_offers"] += 1
    roles = framework.roles if call is None or not call.roles else frozenset(call.roles)
    if not roles <= framework.roles:
        master.note(
            "Ignoring SUPPRESS of roles not subscribed", level="WARNING", roles=sorted(roles)
        )
        return
    framework.suppressed |= roles
    master.allocator.set_wants(framework)


def _request(
    master: Master, _now: float, _framework: Framework, _call: scheduler.RequestResources
) -> None:
    """REQUEST is counted and otherwise without effect, as in the original."""
    master.counters["messages_resource_request"] += 1


def _update(
    master: Master, now: float, framework: Framework, call: scheduler.UpdateFramework
) -> None:
    """UPDATE_FRAMEWORK: the info and the whole set of suppressed roles are replaced."""
    before = framework.roles
    _update_info(master, framework, call.framework_info)
    framework.suppressed = set(call.suppressed_roles)
    framework.offer_constraints = call.offer_constraints
    lost = before - framework.roles
    gone = [item for item in framework.offers if master.offers[item].role in lost]
    offers.end_all(master, now, gone, rescind=True)
    master.allocator.set_wants(framework)
    master.allocator.mark_all(master, now)
    if master.subscribers:
        master.publish(views.framework_updated(framework))


CALLS: dict[str, Callable[[Master, float, Framework, Any], None]] = {
    "TEARDOWN": _teardown,
    "ACCEPT": offers.accept,
    "DECLINE": _decline,
    "REVIVE": _revive,
    "SUPPRESS": _suppress,
    "KILL": tasks.kill,
    "SHUTDOWN": tasks.shutdown_executor,
    "ACKNOWLEDGE": tasks.acknowledge,
    "ACKNOWLEDGE_OPERATION_STATUS": converting.acknowledged,
    "RECONCILE": tasks.reconcile,
    "RECONCILE_OPERATIONS": converting.reconcile,
    "MESSAGE": tasks.framework_message,
    "REQUEST": _request,
    "UPDATE_FRAMEWORK": _update,
    "ACCEPT_INVERSE_OFFERS": maintenance.accept,
    "DECLINE_INVERSE_OFFERS": maintenance.decline,
}
