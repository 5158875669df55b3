"""Maintenance: schedules, inverse offers and what frameworks say to them, machines down and up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.master import events as ev
from mesostk.master import maintenance as master_maintenance
from mesostk.master.tests.conftest import Bench
from mesostk.wire import link, maintenance, operator, scheduler
from mesostk.wire.mesos import AgentID, DurationInfo, Filters, MachineID, TimeInfo, Unavailability

A1 = MachineID(hostname="a1", ip="10.0.0.1")
A2 = MachineID(hostname="a2", ip="10.0.0.2")
AWAY = Unavailability(
    start=TimeInfo(nanoseconds=1_700_000_100 * 10**9), duration=DurationInfo(nanoseconds=10**12)
)


def schedule(bench: Any, *machines: MachineID, away: Unavailability = AWAY) -> ev.Reply:
    windows = (maintenance.Window(machine_ids=machines, unavailability=away),) if machines else ()
    body = operator.Schedule(schedule=maintenance.Schedule(windows=windows))
    call = operator.Call(type="UPDATE_MAINTENANCE_SCHEDULE", update_maintenance_schedule=body)
    (reply,) = bench.operate(call)
    assert isinstance(reply, ev.Reply)
    return reply


def machines(bench: Any, kind: Any, *named: MachineID) -> ev.Reply:
    fields: Any = {kind.lower(): operator.Machines(machines=named)}
    (reply,) = bench.operate(operator.Call(type=kind, **fields))
    assert isinstance(reply, ev.Reply)
    return reply


def asked(bench: Any, stream: str) -> list[Any]:
    return [
        offer
        for item in bench.heard(stream, "INVERSE_OFFERS")
        for offer in item.inverse_offers.inverse_offers
    ]


def test_offers_of_a_scheduled_machine_say_when_it_will_be_away(bench: Any) -> None:
    bench.agent("a1")
    stream, _ = bench.framework()
    (offer,) = bench.offers(stream)
    assert offer.unavailability is None
    assert schedule(bench, A1).status == 200
    assert bench.heard(stream, "RESCIND")
    (offer,) = bench.offers(stream)
    assert offer.unavailability == AWAY
    assert schedule(bench).status == 200
    (offer,) = bench.offers(stream)
    assert offer.unavailability is None


def test_who_runs_something_there_is_asked_and_the_answer_is_shown(bench: Any) -> None:
    _, agent_id, stream, framework_id = bench.running()
    idle, _ = bench.framework("idle")
    schedule(bench, A1, A2)
    bench.run(1.0)
    (offer,) = asked(bench, stream)
    assert (offer.agent_id.value, offer.unavailability) == (agent_id, AWAY)
    assert asked(bench, idle) == []
    bench.run(60.0)
    assert asked(bench, stream) == [], "one question at a time"
    answer = scheduler.InverseOfferAnswer(
        inverse_offer_ids=(offer.id,), filters=Filters(refuse_seconds=30.0)
    )
    bench.call(framework_id, "ACCEPT_INVERSE_OFFERS", answer)
    status = master_maintenance.status(bench.master)
    (one, two) = status.draining_machines
    assert [(item.status, item.framework_id.value) for item in one.statuses] == [
        ("ACCEPT", framework_id)
    ]
    assert two.statuses == ()
    bench.run(28.0)
    assert asked(bench, stream) == []
    bench.run(4.0)
    (again,) = asked(bench, stream)
    assert again.id != offer.id
    bench.call(
        framework_id,
        "DECLINE_INVERSE_OFFERS",
        scheduler.InverseOfferAnswer(inverse_offer_ids=(again.id,)),
    )
    status = master_maintenance.status(bench.master)
    assert status.draining_machines[0].statuses[0].status == "DECLINE"
    bench.call(framework_id, "REVIVE")
    bench.run(2.0)
    assert len(asked(bench, stream)) == 1
    schedule(bench)
    assert len(bench.heard(stream, "RESCIND_INVERSE_OFFER")) == 1
    assert not bench.master.inverse.offers
    assert not bench.master.inverse.statuses


def test_a_machine_that_goes_down_takes_its_agent_along_until_it_is_up(bench: Any) -> None:
    wire, agent_id, stream, _ = bench.running()
    assert machines(bench, "START_MAINTENANCE", A1).status == 400
    schedule(bench, A1)
    bench.feed(ev.OperatorSubscribed("o"))
    assert machines(bench, "START_MAINTENANCE", A1).status == 200
    assert [type(item) for item in bench.down(wire)] == [link.Shutdown]
    assert [item.state for item in bench.statuses(stream)] == ["TASK_LOST"]
    assert "AGENT_REMOVED" in bench.published()
    assert agent_id not in bench.master.agents
    back = bench.stream()
    bench.feed(ev.AgentSubscribed(back, bench.subscription("a1")))
    assert [type(item) for item in bench.down(back)] == [link.Shutdown]
    assert master_maintenance.status(bench.master).down_machines == (A1,)
    assert "is not in DRAINING mode" in machines(bench, "START_MAINTENANCE", A1).body
    assert "cannot be removed" in schedule(bench, A2).body
    assert machines(bench, "STOP_MAINTENANCE", A1).status == 200
    assert master_maintenance.status(bench.master) == maintenance.Status()
    assert bench.master.registry.maintenance.schedule == maintenance.Schedule()
    bench.agent("a1")


def test_the_schedule_outlives_a_failover(make_bench: Any) -> None:
    first = make_bench()
    _, agent_id, _, framework_id = first.running()
    info = first.master.frameworks[framework_id].info
    task = first.master.frameworks[framework_id].tasks["t1"].wire
    schedule(first, A1, A2)
    machines(first, "START_MAINTENANCE", A2)
    second = make_bench(first.store)
    second.agent("a1", agent_id, tasks=(task,), frameworks=(info,))
    stream = second.subscribe(info)
    second.run(2.0)
    assert len(asked(second, stream)) == 1
    assert master_maintenance.status(second.master).down_machines == (A2,)


@pytest.mark.parametrize(
    ("kind", "named", "why"),
    [
        ("UPDATE_MAINTENANCE_SCHEDULE", (MachineID(),), "Both 'hostname' and 'ip'"),
        ("UPDATE_MAINTENANCE_SCHEDULE", (A1, A1), "appears more than once"),
        ("START_MAINTENANCE", (), "List of machines is empty"),
        (
            "START_MAINTENANCE",
            (A1,),
            'Machine \'{"hostname":"a1","ip":"10.0.0.1"}\' is not part of a maintenance schedule',
        ),
        ("STOP_MAINTENANCE", (A2,), "is not in DOWN mode and cannot be brought up"),
    ],
)
def test_machines_that_cannot_be_are_refused(
    bench: Any, kind: str, named: tuple[MachineID, ...], why: str
) -> None:
    schedule(bench, A2)
    before = bench.master.registry.maintenance
    if kind == "UPDATE_MAINTENANCE_SCHEDULE":
        reply = schedule(bench, *named)
    else:
        reply = machines(bench, kind, *named)
    assert reply.status == 400
    assert why in reply.body
    assert bench.master.registry.maintenance == before


def test_draining_and_scheduling_exclude_each_other(bench: Any) -> None:
    _, agent_id = bench.agent("a1")
    drain = operator.Call(
        type="DRAIN_AGENT", drain_agent=operator.DrainAgent(agent_id=AgentID(agent_id))
    )
    schedule(bench, A1)
    (reply,) = bench.operate(drain)
    assert (reply.status, "has a maintenance schedule" in reply.body) == (400, True)
    schedule(bench)
    assert [reply.status for reply in bench.operate(drain)] == [200]
    assert "cannot be scheduled" in schedule(bench, A1).body


def test_a_framework_that_is_gone_is_not_asked(bench: Any) -> None:
    _, _, stream, framework_id = bench.running()
    schedule(bench, A1)
    bench.run(1.0)
    assert bench.master.inverse.offers
    bench.feed(ev.SchedulerStreamClosed(stream))
    assert not bench.master.inverse.offers
    bench.run(10.0)
    again = bench.subscribe(bench.master.frameworks[framework_id].info)
    bench.run(2.0)
    assert len(asked(bench, again)) == 1
    bench.call(framework_id, "TEARDOWN")
    assert not bench.master.inverse.offers


NAMES = st.sampled_from((None, "", "a1", "A1", "a2"))
IPS = st.sampled_from((None, "", "10.0.0.1", "10.0.0.2"))


@given(st.lists(st.builds(MachineID, hostname=NAMES, ip=IPS), max_size=6))
def test_places_are_those_of_the_first_machine_that_the_agent_is_on(named: list[MachineID]) -> None:
    made = Bench()
    made.agent("a1")
    (agent,) = made.master.agents.values()
    fits = [master_maintenance.is_on(machine, agent) for machine in named]
    found = master_maintenance.Places(enumerate(named)).first(agent.info.hostname, agent.ip)
    assert found == (fits.index(True) if any(fits) else None)


def _looks(count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often machines and agents are named or compared when `count` of each are scheduled."""
    looked: list[str] = []
    with monkeypatch.context() as patched:
        for name in ("_name", "is_on"):
            original = getattr(master_maintenance, name)

            def counted(*args: Any, name: str = name, original: Any = original) -> Any:
                looked.append(name)
                return original(*args)

            patched.setattr(master_maintenance, name, counted)
        made = Bench()
        for number in range(1, count + 1):
            made.agent(f"a{number}")
        looked.clear()
        # None of them is an agent's, so that each agent has to be told from all.
        named = [MachineID(hostname=f"b{number}") for number in range(count)]
        assert schedule(made, *named).status == 200
        assert machines(made, "START_MAINTENANCE", *named).status == 200
    return len(looked)


def test_setting_maintenance_names_each_machine_and_agent_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once, twice = _looks(8, monkeypatch), _looks(16, monkeypatch)
    assert once > 0
    assert twice <= 2 * once
