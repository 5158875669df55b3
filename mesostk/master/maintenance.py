"""Maintenance: which machines will be away when, who agreed, and which are down.

::

    UP ─ UPDATE_MAINTENANCE_SCHEDULE ─▶ DRAINING ─ START_MAINTENANCE ─▶ DOWN ─ STOP_… ─▶ UP
                                         │ offers show when                │ agents are shut down
                                         └ inverse offers to who runs      └ and not let in
                                           something there: ACCEPT, DECLINE

Schedule and modes are one record of the registry. Inverse offers and the answers to them are not
saved: after a failover they are asked again. Source: spec/mesos.md §4.2, §5.1, §7.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from mesostk.master import departure, offers, registry, tasks, views
from mesostk.master.events import Reply
from mesostk.master.state import Agent, Framework
from mesostk.wire import json, link, maintenance, operator, scheduler
from mesostk.wire.mesos import (
    URL,
    Address,
    AgentID,
    FrameworkID,
    InverseOffer,
    MachineID,
    OfferID,
    TimeInfo,
    Unavailability,
)

if TYPE_CHECKING:
    from mesostk.master.core import Master


#: How a machine is named: hostname in lower case, IP; None for what is not said.
_Name = tuple[str | None, str | None]


class Places:
    """Where machines of a list stand in it, to be looked up by what runs on them.

    Both lists, of machines in a body and of agents, may be long.
    """

    def __init__(self, machines: Iterable[tuple[int, MachineID]]) -> None:
        """`machines` with their places; of several that fit, the first one given is found."""
        self._places: dict[_Name, int] = {}
        for place, machine in machines:
            self._places.setdefault(_name(machine.hostname, machine.ip), place)

    def first(self, hostname: str, ip: str) -> int | None:
        """The least place of a machine of which all that is said fits; None if none does."""
        full = _name(hostname, ip)
        names = (full, (full[0], None), (None, ip), (None, None))
        return min((self._places[name] for name in names if name in self._places), default=None)


def _name(hostname: str | None, ip: str | None) -> _Name:
    return None if hostname is None else hostname.lower(), ip


class _Index(msgspec.Struct, frozen=True):
    """Of one record: places of windows by their machines, and of machines that are down."""

    record: registry.MaintenanceRecord
    windows: Places
    down: Places


class Inverse(msgspec.Struct):
    """What the core knows of maintenance beyond the registry, by (framework, agent) ids."""

    #: Outstanding, by id.
    offers: dict[str, InverseOffer] = msgspec.field(default_factory=dict)
    #: Answered; asked again after that time.
    filters: dict[tuple[str, str], float] = msgspec.field(default_factory=dict)
    statuses: dict[tuple[str, str], maintenance.InverseOfferStatus] = msgspec.field(
        default_factory=dict
    )
    is_armed: bool = False
    #: Of the record in force when it was last asked.
    index: _Index | None = None

    def of_framework(self, framework_id: str) -> list[InverseOffer]:
        """Outstanding ones of a framework."""
        return [item for item in self.offers.values() if item.framework_id.value == framework_id]


# -- machines -----------------------------------------------------------------------------------


def is_on(machine: MachineID, agent: Agent) -> bool:
    """Whether the agent runs on the machine: all that is said of it fits."""
    if machine.hostname is not None and machine.hostname.lower() != agent.info.hostname.lower():
        return False
    return machine.ip is None or machine.ip == agent.ip


_Key = tuple[str, str | None]


def _key(machine: MachineID) -> _Key:
    """What is the same for two names of one machine."""
    return (machine.hostname or "").lower(), machine.ip


def _keys(machines: Iterable[MachineID]) -> set[_Key]:
    """To look machines up in: a schedule may name as many as fit in a body."""
    return {_key(machine) for machine in machines}


def _machine_error(machine: MachineID) -> str | None:
    if not machine.hostname and not machine.ip:
        return "Both 'hostname' and 'ip' of a machine are empty"
    return None


def _scheduled(record: registry.MaintenanceRecord) -> list[MachineID]:
    return [machine for window in record.schedule.windows for machine in window.machine_ids]


def _placed(schedule: maintenance.Schedule) -> Places:
    return Places(
        (place, machine)
        for place, window in enumerate(schedule.windows)
        for machine in window.machine_ids
    )


def _index(master: Master) -> _Index:
    record = master.registry.maintenance
    index = master.inverse.index
    if index is None or index.record is not record:
        index = _Index(record, _placed(record.schedule), Places(enumerate(record.down)))
        master.inverse.index = index
    return index


def unavailability_of(master: Master, agent: Agent) -> Unavailability | None:
    """When the agent's machine will be away, if it is scheduled to."""
    index = _index(master)
    place = index.windows.first(agent.info.hostname, agent.ip)
    return None if place is None else index.record.schedule.windows[place].unavailability


def why_down(master: Master, hostname: str, ip: str) -> str | None:
    """Why an agent at that address is not let in; None if it is."""
    index = _index(master)
    place = index.down.first(hostname, ip)
    if place is None:
        return None
    return f"Machine {_text(index.record.down[place])} is down for maintenance"


def _text(machine: MachineID) -> str:
    return json.encode(machine).decode()


# -- calls --------------------------------------------------------------------------------------


def update_schedule(master: Master, _now: float, request: int, call: operator.Schedule) -> None:
    """UPDATE_MAINTENANCE_SCHEDULE: the whole schedule; machines that are down stay in it."""
    before = master.maintenance_asked
    why = _schedule_error(call.schedule, before)
    if why is None:
        why = _draining_error(master, call.schedule)
    if why is not None:
        master.emit(Reply(request, 400, why))
        return
    _save(master, request, replace(before, schedule=call.schedule))


def _schedule_error(
    schedule: maintenance.Schedule, before: registry.MaintenanceRecord
) -> str | None:
    seen: set[_Key] = set()
    for window in schedule.windows:
        duration = window.unavailability.duration
        if duration is not None and duration.nanoseconds < 0:
            return "Unavailability 'duration' is negative"
        if not window.machine_ids:
            return "List of machines is empty"
        for machine in window.machine_ids:
            why = _machine_error(machine)
            if why is not None:
                return why
            if _key(machine) in seen:
                return f"Machine '{_text(machine)}' appears more than once in the schedule"
            seen.add(_key(machine))
    for machine in before.down:
        if _key(machine) not in seen:
            return f"Machine '{_text(machine)}' is deactivated and cannot be removed"
    return None


def _draining_error(master: Master, schedule: maintenance.Schedule) -> str | None:
    places = _placed(schedule)
    for agent in master.agents.values():
        is_scheduled = places.first(agent.info.hostname, agent.ip) is not None
        if agent.drain_info is not None and is_scheduled:
            return f"Agent '{agent.id}' is {agent.drain_info.state} and cannot be scheduled"
    return None


def start(master: Master, _now: float, request: int, call: operator.Machines) -> None:
    """START_MAINTENANCE: the machines are down; their agents end."""
    before = master.maintenance_asked
    why = _listed_error(call.machines, _scheduled(before))
    down = _keys(before.down)
    for machine in call.machines:
        if why is None and _key(machine) in down:
            why = f"Machine '{_text(machine)}' is not in DRAINING mode and cannot be brought down"
    if why is not None:
        master.emit(Reply(request, 400, why))
        return
    _save(master, request, replace(before, down=(*before.down, *call.machines)))


def stop(master: Master, _now: float, request: int, call: operator.Machines) -> None:
    """STOP_MAINTENANCE: the machines are up and no longer in the schedule."""
    before = master.maintenance_asked
    why = _listed_error(call.machines, _scheduled(before))
    are_down, meant = _keys(before.down), _keys(call.machines)
    for machine in call.machines:
        if why is None and _key(machine) not in are_down:
            why = f"Machine '{_text(machine)}' is not in DOWN mode and cannot be brought up"
    if why is not None:
        master.emit(Reply(request, 400, why))
        return
    windows = []
    for window in before.schedule.windows:
        left = tuple(item for item in window.machine_ids if _key(item) not in meant)
        if left:
            windows.append(replace(window, machine_ids=left))
    down = tuple(item for item in before.down if _key(item) not in meant)
    schedule = maintenance.Schedule(windows=tuple(windows))
    _save(master, request, registry.MaintenanceRecord(schedule=schedule, down=down))


def _listed_error(machines: tuple[MachineID, ...], scheduled: list[MachineID]) -> str | None:
    if not machines:
        return "List of machines is empty"
    known, seen = _keys(scheduled), set[_Key]()
    for machine in machines:
        why = _machine_error(machine)
        if why is not None:
            return why
        if _key(machine) in seen:
            return f"Machine '{_text(machine)}' appears more than once in the list"
        seen.add(_key(machine))
        if _key(machine) not in known:
            return f"Machine '{_text(machine)}' is not part of a maintenance schedule"
    return None


def _save(master: Master, request: int, record: registry.MaintenanceRecord) -> None:
    master.maintenance_asked = record
    master.save(registry.set_maintenance(record), _saved, record, request)


def _saved(master: Master, now: float, record: registry.MaintenanceRecord, request: int) -> None:
    was = {agent.id: unavailability_of(master, agent) for agent in master.agents.values()}
    master.registry.maintenance = record
    for agent in list(master.agents.values()):
        if unavailability_of(master, agent) != was[agent.id]:
            _changed(master, now, agent)
    for agent in list(master.agents.values()):
        why = why_down(master, agent.info.hostname, agent.ip)
        if why is not None:
            _shut_down(master, agent, why)
    arm(master, now)
    master.note("Set maintenance", windows=len(record.schedule.windows), down=len(record.down))
    master.emit(Reply(request, 200))


def _changed(master: Master, now: float, agent: Agent) -> None:
    """Offers and questions about the agent that were made by the old schedule end."""
    offers.end_all(master, now, agent.offers, rescind=True)
    forget_agent(master, agent.id)
    master.allocator.mark(agent.id, now)


def _shut_down(master: Master, agent: Agent, why: str) -> None:
    """The agent's machine goes down; it stays out until the machine is up again."""
    if agent.id in master.leaving:
        return
    master.leaving[agent.id] = "removed"
    master.save(registry.remove(agent.id), _removed, agent.id, why)


def _removed(master: Master, now: float, agent_id: str, why: str) -> None:
    del master.leaving[agent_id]
    agent = master.agents.get(agent_id)
    if agent is None:
        return
    tasks.agents_send(master, agent, link.Shutdown(message=why))
    master.counters["slave_removals"] += 1
    departure.remove(master, now, agent_id, "TASK_LOST", "REASON_AGENT_REMOVED", why)
    if master.subscribers:
        master.publish(views.agent_removed(agent_id))


# -- inverse offers -----------------------------------------------------------------------------


def arm(master: Master, now: float) -> None:
    """Ask frameworks each allocation interval, for as long as anything is scheduled."""
    inverse = master.inverse
    if master.registry.maintenance.schedule.windows and not inverse.is_armed:
        inverse.is_armed = True
        master.timers.at(now, _ask)


def _ask(master: Master, now: float) -> None:
    """Timer: who runs something on a machine that will be away is asked whether it may."""
    inverse = master.inverse
    inverse.is_armed = False
    asked = {(i.framework_id.value, _agent_id(i)) for i in inverse.offers.values()}
    made: dict[str, list[InverseOffer]] = {}
    for agent in master.agents.values():
        unavailability = unavailability_of(master, agent)
        if unavailability is None or agent.stream is None:
            continue
        for framework_id in views.held_by_framework(agent):
            key = (framework_id, agent.id)
            framework = master.frameworks[framework_id]
            is_waiting = key in asked or inverse.filters.get(key, now) > now
            if is_waiting or framework.stream is None or not framework.active:
                continue
            offer = _make(master, framework_id, agent, unavailability)
            inverse.offers[offer.id.value] = offer
            made.setdefault(framework_id, []).append(offer)
    for framework_id, some in made.items():
        event = scheduler.InverseOffers(inverse_offers=tuple(some))
        framework = master.frameworks[framework_id]
        master.tell(framework, scheduler.Event(type="INVERSE_OFFERS", inverse_offers=event))
    arm_later(master, now)


def arm_later(master: Master, now: float) -> None:
    if master.registry.maintenance.schedule.windows and not master.inverse.is_armed:
        master.inverse.is_armed = True
        master.timers.at(now + master.config.allocation_interval_s, _ask)


def _make(
    master: Master, framework_id: str, agent: Agent, unavailability: Unavailability
) -> InverseOffer:
    address = Address(hostname=agent.info.hostname, ip=agent.ip, port=agent.info.port)
    return InverseOffer(
        # One row of numbers with the offers.
        id=OfferID(f"{master.id}-O{master.new_number('offer')}"),
        url=URL(scheme="http", address=address, path="/slave(1)"),
        framework_id=FrameworkID(framework_id),
        agent_id=AgentID(agent.id),
        unavailability=unavailability,
    )


def _agent_id(offer: InverseOffer) -> str:
    assert offer.agent_id is not None
    return offer.agent_id.value


def accept(
    master: Master, now: float, framework: Framework, call: scheduler.InverseOfferAnswer
) -> None:
    """ACCEPT_INVERSE_OFFERS: recorded for GET_MAINTENANCE_STATUS."""
    _answer(master, now, framework, call, is_accepted=True)


def decline(
    master: Master, now: float, framework: Framework, call: scheduler.InverseOfferAnswer
) -> None:
    """DECLINE_INVERSE_OFFERS: recorded; asked again after `refuse_seconds`."""
    _answer(master, now, framework, call, is_accepted=False)


def _answer(
    master: Master,
    now: float,
    framework: Framework,
    call: scheduler.InverseOfferAnswer,
    *,
    is_accepted: bool,
) -> None:
    inverse = master.inverse
    for item in call.inverse_offer_ids:
        offer = inverse.offers.get(item.value)
        if offer is None or offer.framework_id.value != framework.id:
            master.note(
                "Ignoring answer to an unknown inverse offer",
                level="WARNING",
                framework=framework.id,
                offer=item.value,
            )
            continue
        del inverse.offers[item.value]
        key = (framework.id, _agent_id(offer))
        refuse_s = offers.refusal_s(call.filters, master.config.allocation_interval_s)
        inverse.filters[key] = now + refuse_s
        inverse.statuses[key] = maintenance.InverseOfferStatus(
            status="ACCEPT" if is_accepted else "DECLINE",
            framework_id=FrameworkID(framework.id),
            timestamp=TimeInfo(nanoseconds=int(master.wall(now) * 1e9)),
        )


def revive(master: Master, framework: Framework) -> None:
    """REVIVE: the framework wants to be asked again."""
    for key in [key for key in master.inverse.filters if key[0] == framework.id]:
        del master.inverse.filters[key]


def forget_agent(master: Master, agent_id: str) -> None:
    """Nothing is asked about the agent any more; outstanding questions are taken back."""
    inverse = master.inverse
    for id, offer in list(inverse.offers.items()):
        if _agent_id(offer) == agent_id:
            del inverse.offers[id]
            framework = master.frameworks.get(offer.framework_id.value)
            if framework is not None:
                rescinded = scheduler.RescindInverseOffer(inverse_offer_id=OfferID(id))
                master.tell(
                    framework,
                    scheduler.Event(type="RESCIND_INVERSE_OFFER", rescind_inverse_offer=rescinded),
                )
    for book in (inverse.filters, inverse.statuses):
        for key in [key for key in book if key[1] == agent_id]:
            book.pop(key)


def forget_stream(master: Master, framework: Framework) -> None:
    """The scheduler that was asked is gone; whoever comes for the framework is asked again."""
    for offer in master.inverse.of_framework(framework.id):
        del master.inverse.offers[offer.id.value]


def forget_framework(master: Master, framework: Framework) -> None:
    """The framework is removed, with all it answered."""
    forget_stream(master, framework)
    inverse = master.inverse
    for book in (inverse.filters, inverse.statuses):
        for key in [key for key in book if key[0] == framework.id]:
            book.pop(key)


# -- what is shown ------------------------------------------------------------------------------


def status(master: Master) -> maintenance.Status:
    """GET_MAINTENANCE_STATUS, and GET /maintenance/status."""
    record = master.registry.maintenance
    draining = []
    down = _keys(record.down)
    for machine in _scheduled(record):
        if _key(machine) in down:
            continue
        on_it = {agent.id for agent in master.agents.values() if is_on(machine, agent)}
        statuses = tuple(
            answer for (_, agent), answer in master.inverse.statuses.items() if agent in on_it
        )
        draining.append(maintenance.DrainingMachine(id=machine, statuses=statuses))
    return maintenance.Status(draining_machines=tuple(draining), down_machines=record.down)
