"""DRAIN_AGENT, offer constraints and a framework's own least offers."""

from __future__ import annotations

from typing import Any

import pytest

from mesostk.master import constraints
from mesostk.master import events as ev
from mesostk.wire import json, link, operator, scheduler
from mesostk.wire.mesos import (
    AgentID,
    FrameworkID,
    MinAllocatableResources,
    OfferFilters,
    ResourceQuantities,
    Scalar,
    TaskID,
)


def drain(bench: Any, agent_id: str, *, mark_gone: bool = False) -> list[ev.Reply]:
    body = operator.DrainAgent(
        agent_id=AgentID(agent_id),
        max_grace_period=operator.ProtoDuration(seconds=3),
        mark_gone=mark_gone,
    )
    replies: list[ev.Reply] = bench.operate(operator.Call(type="DRAIN_AGENT", drain_agent=body))
    return replies


def acknowledge(bench: Any, framework_id: str, agent_id: str, task_id: str, uuid: bytes) -> None:
    bench.call(
        framework_id,
        "ACKNOWLEDGE",
        scheduler.Acknowledge(agent_id=AgentID(agent_id), task_id=TaskID(task_id), uuid=uuid),
    )


def test_an_agent_is_drained_when_its_last_task_is_acknowledged(bench: Any) -> None:
    wire, agent_id, stream, framework_id = bench.running()
    assert [reply.status for reply in drain(bench, agent_id)] == [200]
    [order] = [item for item in bench.down(wire) if isinstance(item, link.Drain)]
    assert order.config.max_grace_period is not None
    assert order.config.max_grace_period.nanoseconds == 3 * 10**9
    agent = bench.master.agents[agent_id]
    assert agent.drain_info is not None
    assert agent.drain_info.state == "DRAINING"
    assert not agent.is_active
    bench.update(wire, framework_id, "t1", "TASK_KILLED", uuid=b"k" * 16)
    assert agent.drain_info.state == "DRAINING"
    acknowledge(bench, framework_id, agent_id, "t1", b"k" * 16)
    assert agent.drain_info.state == "DRAINED"
    assert bench.offers(stream, 10.0) == []
    reactivate = operator.Call(
        type="REACTIVATE_AGENT", reactivate_agent=operator.AgentRef(agent_id=AgentID(agent_id))
    )
    assert [reply.status for reply in bench.operate(reactivate)] == [200]
    assert agent.drain_info is None
    assert len(bench.offers(stream, 1.0)) == 1


def test_draining_goes_on_after_a_failover_and_ends_in_gone_if_so_ordered(bench: Any) -> None:
    _wire, agent_id, _stream, _framework_id = bench.running()
    drain(bench, agent_id, mark_gone=True)
    second = type(bench)(bench.store)
    # It comes back empty: the order is repeated, and there is nothing left to wait for.
    stream = second.stream()
    second.feed(ev.AgentSubscribed(stream, second.subscription("a1", agent_id)))
    assert [type(item) for item in second.down(stream)] == [
        link.Registered,
        link.Drain,
        link.Shutdown,
    ]
    assert agent_id in second.master.registry.gone
    assert agent_id not in second.master.agents


def test_an_idle_agent_is_drained_at_once_and_unknown_ones_are_refused(bench: Any) -> None:
    _wire, agent_id = bench.agent()
    assert [reply.status for reply in drain(bench, agent_id)] == [200]
    info = bench.master.agents[agent_id].drain_info
    assert info.state == "DRAINED"
    assert [(reply.status, reply.body) for reply in drain(bench, "S9")] == [
        (400, "Unknown agent 'S9'")
    ]


def test_what_an_operator_decides_while_an_agent_comes_back_is_kept(bench: Any) -> None:
    _wire, agent_id = bench.agent()
    bench.holding = True
    stream = bench.stream()
    changed = bench.subscription("a1", agent_id, "cpus:8;mem:2048")
    # Both are being saved: first what the agent brought, which knows nothing of the other.
    drain(bench, agent_id)
    bench.feed(ev.AgentSubscribed(stream, changed))
    bench.release()
    bench.holding = False
    bench.release()
    again = type(bench)(bench.store)
    record = again.master.registry.agents[agent_id]
    assert record.deactivated
    assert record.drain_info is not None


# -- constraints --------------------------------------------------------------------------------


def constrain(*groups: tuple[str, str]) -> scheduler.OfferConstraints:
    """Constraints of the role `*`, each group with one (selector, predicate)."""
    listed = ",".join(
        f'{{"attribute_constraints":[{{"selector":{{{selector}}},"predicate":{{{predicate}}}}}]}}'
        for selector, predicate in groups
    )
    return json.decode(
        '{"role_constraints":{"*":{"groups":[' + listed + "]}}}", scheduler.OfferConstraints
    )


HOST = '"pseudoattribute_type":"HOSTNAME"'
ZONE = '"pseudoattribute_type":"ZONE"'
RACK = '"attribute_name":"rack"'
IS_A1 = '"text_equals":{"value":"a1"}'
IS_A2 = '"text_equals":{"value":"a2"}'
IS_NOT_A2 = '"text_not_equals":{"value":"a2"}'
EXISTS = '"exists":{}'


@pytest.mark.parametrize(
    ("groups", "is_offered"),
    [
        ([(HOST, IS_A1)], True),
        ([(HOST, IS_A2)], False),
        ([(HOST, IS_A2), (HOST, IS_NOT_A2)], True),
        ([(RACK, EXISTS)], False),
        ([(RACK, '"not_exists":{}')], True),
        ([(RACK, IS_NOT_A2)], True),
        ([(ZONE, EXISTS)], False),
        ([(HOST, '"text_matches":{"regex":"a[0-9]+"}')], True),
        ([(HOST, '"text_matches":{"regex":"[0-9]"}')], False),
        ([(HOST, '"text_not_matches":{"regex":"a[0-9]+"}')], False),
        ([(RACK, '"text_matches":{"regex":".*"}')], False),
        ([(RACK, '"text_not_matches":{"regex":".*"}')], True),
    ],
)
def test_constraints_decide_who_is_offered(
    bench: Any, groups: list[tuple[str, str]], is_offered: bool
) -> None:
    bench.agent("a1")
    stream = bench.stream()
    subscribe = scheduler.Subscribe(
        framework_info=bench.info(), offer_constraints=constrain(*groups)
    )
    call = scheduler.Call(type="SUBSCRIBE", subscribe=subscribe)
    bench.feed(ev.SchedulerSubscribed(stream, call))
    assert bool(bench.offers(stream, 1.0)) == is_offered


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([], "have no 'groups'"),
        ([("", EXISTS)], "'selector' takes one of"),
        ([(HOST, "")], "exactly one field"),
        ([(HOST, f"{EXISTS},{IS_A1}")], "exactly one field"),
        ([(HOST, '"text_matches":{"regex":"a("}')], "has a '(' without ')'"),
        ([(HOST, '"text_matches":{"regex":"(?=a)"}')], "cannot be followed"),
        ([(HOST, '"text_not_matches":{"regex":"(abc){40}"}')], "max_program_size"),
        ([(HOST, f'"text_matches":{{"regex":"a"}},{EXISTS}')], "exactly one field"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(
    bench: Any, groups: list[tuple[str, str]], why: str
) -> None:
    told = constraints.error(constrain(*groups), {"*"}, bench.config)
    assert told is not None
    assert why in told


def test_constraints_of_a_role_that_is_not_subscribed_are_refused(bench: Any) -> None:
    told = constraints.error(constrain((HOST, EXISTS)), {"web"}, bench.config)
    assert told == "Offer constraints name the role '*', which is not subscribed to"
    subscribe = scheduler.Subscribe(
        framework_info=bench.info(role="web"), offer_constraints=constrain((HOST, EXISTS))
    )
    stream = bench.stream()
    call = scheduler.Call(type="SUBSCRIBE", subscribe=subscribe)
    bench.feed(ev.SchedulerSubscribed(stream, call))
    [error] = bench.heard(stream, "ERROR")
    assert error.error.message == told


def test_a_framework_sets_what_an_offer_must_hold_and_lifts_its_constraints(bench: Any) -> None:
    bench.agent("a1", resources="cpus:2;mem:512")
    least = OfferFilters(
        min_allocatable_resources=MinAllocatableResources(
            quantities=(ResourceQuantities(quantities={"cpus": Scalar(3.0)}),)
        )
    )
    info = bench.info(offer_filters={"*": least})
    stream = bench.subscribe(info)
    framework_id = next(iter(bench.master.frameworks))
    assert bench.offers(stream, 1.0) == []
    update = scheduler.UpdateFramework(
        framework_info=bench.info(id=FrameworkID(framework_id)),
        offer_constraints=constrain((HOST, EXISTS)),
    )
    bench.call(framework_id, "UPDATE_FRAMEWORK", update)
    assert len(bench.offers(stream, 1.0)) == 1


def test_an_agent_full_of_executors_is_not_offered(make_bench: Any) -> None:
    bench = make_bench(max_executors_per_agent=1)
    wire, _agent_id, stream, framework_id = bench.running()
    assert bench.offers(stream, 10.0) == []
    bench.update(wire, framework_id, "t1", "TASK_FINISHED", uuid=b"k" * 16)
    assert len(bench.offers(stream, 10.0)) == 1
