"""Events to effects: offers, tasks, agents and frameworks of one master."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.base.core import Exit, Save
from mesostk.master import events as ev
from mesostk.master import registry, validation
from mesostk.resources import text
from mesostk.wire import json, link, operator, scheduler
from mesostk.wire.mesos import (
    AgentID,
    CommandInfo,
    ExecutorID,
    ExecutorInfo,
    Filters,
    FrameworkID,
    FrameworkInfo,
    Launch,
    OfferOperation,
    OperationID,
    Reserve,
    Task,
    TaskID,
    TimeInfo,
)

# -- agents -------------------------------------------------------------------------------------


def test_a_new_agent_is_answered_only_after_it_is_saved(bench: Any) -> None:
    bench.holding = True
    stream = bench.stream()
    bench.feed(ev.AgentSubscribed(stream, bench.subscription()))
    assert [type(effect) for effect in bench.effects] == [Save]
    bench.effects = bench.release()
    (greeting,) = bench.down(stream)
    assert greeting.agent_id.value == f"{bench.master.id}-S0"
    assert greeting.ping_timeout_s == 75.0
    assert len(bench.store) == 1


def test_a_known_agent_comes_back_without_a_write(make_bench: Any) -> None:
    first = make_bench()
    _, agent_id = first.agent()
    second = make_bench(first.store)
    second.agent(agent_id=agent_id)
    assert second.of(Save) == []
    assert not second.master.recovered


def test_an_agent_that_moved_to_another_host_is_told_to_shut_down(bench: Any) -> None:
    _, agent_id = bench.agent()
    stream = bench.stream()
    bench.feed(ev.AgentSubscribed(stream, bench.subscription("b2", agent_id)))
    (message,) = bench.down(stream)
    assert isinstance(message, link.Shutdown)
    assert bench.of(ev.CloseAgentStream) == [ev.CloseAgentStream(stream)]


def test_a_silent_agent_becomes_unreachable_after_five_pings(bench: Any) -> None:
    wire, agent_id, stream, _ = bench.running()
    bench.feed(ev.AgentStreamClosed(wire))
    bench.run(74.0)
    assert bench.statuses(stream) == []
    bench.run(17.0)
    (status,) = bench.statuses(stream)
    assert (status.state, status.reason) == ("TASK_UNREACHABLE", "REASON_AGENT_REMOVED")
    assert status.unreachable_time is not None
    assert status.uuid is None
    (failure,) = bench.heard(stream, "FAILURE")
    assert failure.failure == scheduler.Failure(agent_id=AgentID(agent_id))
    assert list(bench.store) == [registry.path("unreachable", agent_id)]


def test_unreachable_is_told_to_nobody_before_it_is_saved(bench: Any) -> None:
    wire, _, _, _ = bench.running()
    bench.feed(ev.AgentStreamClosed(wire))
    bench.holding = True
    bench.run(91.0)
    assert bench.of(Save)
    assert not any(effect.event.type != "HEARTBEAT" for effect in bench.of(ev.SendToScheduler))


def test_an_agent_that_answers_heartbeats_stays_and_one_that_does_not_goes(bench: Any) -> None:
    wire, agent_id = bench.agent()
    bench.run(300.0)
    assert bench.down(wire) == [link.Heartbeat()] * 20
    assert agent_id in bench.master.agents
    bench.answering = False
    bench.run(91.0)
    assert agent_id in bench.master.registry.unreachable
    assert bench.of(ev.CloseAgentStream) == [ev.CloseAgentStream(wire)]


def test_tasks_of_an_unreachable_agent_return_with_it(bench: Any) -> None:
    wire, agent_id, stream, framework_id = bench.running()
    task = bench.master.frameworks[framework_id].tasks["t1"].wire
    bench.feed(ev.AgentStreamClosed(wire))
    bench.run(91.0)
    assert "t1" in bench.master.frameworks[framework_id].unreachable_tasks
    bench.agent(agent_id=agent_id, tasks=(task,))
    (status,) = bench.statuses(stream)
    assert (status.state, status.reason) == ("TASK_RUNNING", "REASON_AGENT_REREGISTERED")
    assert "t1" in bench.master.frameworks[framework_id].tasks
    assert list(bench.store) == [registry.path("agents", agent_id)]


def test_an_agent_that_comes_back_after_removal_is_told_to_shut_down(bench: Any) -> None:
    _, agent_id, stream, _ = bench.running()
    gone = operator.Call(
        type="MARK_AGENT_GONE", mark_agent_gone=operator.AgentRef(agent_id=AgentID(agent_id))
    )
    (reply,) = bench.operate(gone)
    assert reply.status == 200
    (status,) = bench.statuses(stream)
    assert status.state == "TASK_GONE_BY_OPERATOR"
    back = bench.stream()
    bench.feed(ev.AgentSubscribed(back, bench.subscription(agent_id=agent_id)))
    assert bench.down(back) == [link.Shutdown(message="Agent has been marked gone")]
    (again,) = bench.operate(gone)
    assert again.status == 200


def test_tasks_that_the_agent_does_not_bring_are_asked_for(bench: Any) -> None:
    _, agent_id, _, framework_id = bench.running()
    stream = bench.stream()
    bench.feed(ev.AgentSubscribed(stream, bench.subscription(agent_id=agent_id)))
    greeting = bench.down(stream)[0]
    assert greeting.report == (
        link.TaskRef(framework_id=FrameworkID(framework_id), task_id=TaskID("t1")),
    )


def test_a_non_checkpointing_task_is_lost_with_the_link(bench: Any) -> None:
    wire, _, stream, framework_id = bench.running(checkpoint=False)
    bench.feed(ev.AgentStreamClosed(wire))
    (status,) = bench.statuses(stream)
    assert (status.state, status.reason) == ("TASK_LOST", "REASON_AGENT_DISCONNECTED")
    assert not bench.master.frameworks[framework_id].tasks


def test_another_agent_at_the_same_address_replaces_the_old_one(bench: Any) -> None:
    _, old, stream, _ = bench.running()
    _, new = bench.agent()
    assert old != new
    assert list(bench.store) == [registry.path("agents", new)]
    assert [status.state for status in bench.statuses(stream)] == ["TASK_LOST"]


def test_an_agent_that_unregisters_is_forgotten_at_once(bench: Any) -> None:
    wire, agent_id, stream, _ = bench.running()
    effects = bench.up(wire, link.Unregister(), link.Unregister())
    status = bench.statuses(stream)[-1]
    assert (status.state, status.reason) == ("TASK_LOST", "REASON_AGENT_REMOVED")
    assert bench.heard(stream, "FAILURE")[-1].failure.agent_id.value == agent_id
    assert [effect.stream for effect in effects if isinstance(effect, ev.CloseAgentStream)] == [
        wire
    ]
    assert not bench.master.agents
    assert agent_id not in bench.master.registry.agents
    assert not bench.master.registry.unreachable
    counters = bench.master.counters
    assert counters["slave_removals/reason_unregistered"] == counters["slave_removals"] == 1


def test_agents_that_do_not_return_after_failover_are_unreachable(make_bench: Any) -> None:
    first = make_bench()
    ids = [first.agent(f"a{number}")[1] for number in range(1, 5)]
    second = make_bench(first.store, agent_reregister_timeout_s=600.0)
    second.agent("a1", ids[0])
    second.run(601.0)
    assert set(second.master.registry.unreachable) == set(ids[1:])


def test_removals_keep_to_the_rate_limit(make_bench: Any) -> None:
    first = make_bench()
    for number in range(1, 5):
        first.agent(f"a{number}")
    second = make_bench(first.store, agent_removal_rate=(1, 60.0))
    second.run(601.0)
    assert len(second.master.registry.unreachable) == 1
    second.run(120.0)
    assert len(second.master.registry.unreachable) == 3


def test_losing_more_agents_than_allowed_at_a_failover_ends_the_master(make_bench: Any) -> None:
    first = make_bench()
    for number in range(1, 5):
        first.agent(f"a{number}")
    second = make_bench(first.store, recovery_agent_removal_limit=0.5)
    second.run(601.0)
    (exit_,) = second.of(Exit)
    assert "4 of 4 agents" in exit_.reason


def test_an_unreadable_record_is_set_aside_and_the_rest_recovers(make_bench: Any) -> None:
    first = make_bench()
    _, agent_id = first.agent()
    second = make_bench({**first.store, "agents/00/broken": b"{"})
    assert list(second.master.recovered) == [agent_id]
    assert second.master.counters["registry_unreadable"] == 1


def test_old_unreachable_agents_are_forgotten(make_bench: Any) -> None:
    record = registry.UnreachableRecord(
        id=AgentID("old"), time=json.decode(b'{"nanoseconds":1}', TimeInfo)
    )
    bench = make_bench({registry.path("unreachable", "old"): json.encode(record)})
    bench.run(901.0)
    assert bench.store == {}
    assert bench.master.registry.unreachable == {}


# -- offers and launches ------------------------------------------------------------------------


def test_one_offers_event_brings_all_agents_right_after_subscribing(bench: Any) -> None:
    for number in range(1, 4):
        bench.agent(f"a{number}")
    stream, _ = bench.framework()
    assert [event.type for event in bench.heard(stream)] == ["SUBSCRIBED", "HEARTBEAT"]
    offers = bench.offers(stream)
    assert len(bench.heard(stream, "OFFERS")) == 1
    assert sorted(offer.hostname for offer in offers) == ["a1", "a2", "a3"]
    assert offers[0].allocation_info is None
    assert {resource.role for resource in offers[0].resources} == {"*"}


def test_a_multi_role_framework_sees_the_allocation_role(bench: Any) -> None:
    bench.agent()
    stream, _ = bench.framework(
        capabilities=("MULTI_ROLE", "RESERVATION_REFINEMENT"), roles=("eng/web",)
    )
    (offer,) = bench.offers(stream)
    assert offer.allocation_info.role == "eng/web"
    assert {resource.allocation_info.role for resource in offer.resources} == {"eng/web"}
    assert {resource.role for resource in offer.resources} == {None}


def test_a_launch_reaches_the_agent_and_the_rest_is_offered_again(bench: Any) -> None:
    wire, agent_id = bench.agent()
    stream, framework_id = bench.framework()
    bench.accept(framework_id, bench.offers(stream), bench.task("t1", agent_id), refuse_s=0.0)
    (run,) = bench.down(wire)
    assert run.task.resources[0].allocation_info.role == "*"
    assert bench.offers(stream) == []
    (offer,) = bench.offers(stream, 1.0)
    amounts = {item.name: item.scalar.value for item in offer.resources if item.scalar}
    assert amounts == {"cpus": 3.0, "mem": 960.0, "disk": 1000.0}


def test_several_offers_and_operations_are_pooled(bench: Any) -> None:
    _, agent_id = bench.agent(resources="cpus:4;mem:1024")
    stream, framework_id = bench.framework()
    first = bench.offers(stream)
    bench.accept(framework_id, first, bench.task("t1", agent_id, "cpus:2;mem:100"), refuse_s=0.0)
    second = bench.offers(stream, 1.0)
    bench.update(bench.master.agents[agent_id].stream, framework_id, "t1", "TASK_FINISHED")
    third = bench.offers(stream, 1.0)
    assert second
    assert third
    launches = tuple(
        OfferOperation(
            type="LAUNCH",
            launch=Launch(task_infos=(bench.task(name, agent_id, "cpus:1.5;mem:100"),)),
        )
        for name in ("t2", "t3")
    )
    bench.accept(framework_id, second + third, operations=launches)
    assert {"t2", "t3"} <= set(bench.master.frameworks[framework_id].tasks)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ("cpus:5;mem:64", "Task uses more resources"),
        ("cpus:0", "Task uses no resources"),
    ],
)
def test_a_task_that_does_not_fit_is_an_error_and_the_others_go_on(
    bench: Any, resources: str, message: str
) -> None:
    _, agent_id = bench.agent()
    stream, framework_id = bench.framework()
    bad = bench.task("bad", agent_id, resources)
    bench.accept(framework_id, bench.offers(stream), bad, bench.task("good", agent_id))
    (status,) = bench.statuses(stream)
    assert (status.state, status.reason) == ("TASK_ERROR", "REASON_TASK_INVALID")
    assert message in status.message
    assert list(bench.master.frameworks[framework_id].tasks) == ["good"]


def test_an_accept_that_comes_twice_does_not_drop_what_it_launched(bench: Any) -> None:
    _, agent_id = bench.agent()
    stream, framework_id = bench.framework()
    offers = bench.offers(stream)
    bench.accept(framework_id, offers, bench.task("t1", agent_id))
    bench.accept(framework_id, offers, bench.task("t1", agent_id))
    assert bench.statuses(stream) == []
    assert list(bench.master.frameworks[framework_id].tasks) == ["t1"]


def test_tasks_on_an_offer_used_twice_are_dropped(bench: Any) -> None:
    _, agent_id = bench.agent()
    stream, framework_id = bench.framework()
    offers = bench.offers(stream)
    bench.accept(framework_id, offers, bench.task("t1", agent_id))
    bench.accept(framework_id, offers, bench.task("t2", agent_id))
    (status,) = bench.statuses(stream)
    assert (status.state, status.reason) == ("TASK_DROPPED", "REASON_INVALID_OFFERS")
    assert status.message.startswith("Task launched with invalid offers: ")


def test_an_unsupported_operation_with_an_id_is_answered(bench: Any) -> None:
    bench.agent()
    stream, framework_id = bench.framework()
    reserve = OfferOperation(type="RESERVE", id=OperationID("o1"), reserve=Reserve())
    bench.accept(framework_id, bench.offers(stream), operations=(reserve,))
    (event,) = bench.heard(stream, "UPDATE_OPERATION_STATUS")
    status = event.update_operation_status.status
    assert (status.operation_id.value, status.state) == ("o1", "OPERATION_ERROR")


def test_a_refusal_holds_for_its_time_and_revive_ends_it(bench: Any) -> None:
    bench.agent()
    stream, framework_id = bench.framework()
    (offer,) = bench.offers(stream)
    bench.call(framework_id, "DECLINE", decline(offer, 100.0))
    assert bench.offers(stream, 99.0) == []
    (offer,) = bench.offers(stream, 1.1)
    bench.call(framework_id, "DECLINE", decline(offer, 1e9))
    bench.call(framework_id, "REVIVE")
    assert len(bench.offers(stream)) == 1


def decline(offer: Any, seconds: float) -> scheduler.Decline:
    return scheduler.Decline(offer_ids=(offer.id,), filters=Filters(refuse_seconds=seconds))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), 5.0])
def test_a_senseless_refusal_is_five_seconds(bench: Any, seconds: float) -> None:
    bench.agent()
    stream, framework_id = bench.framework()
    (offer,) = bench.offers(stream)
    bench.call(framework_id, "DECLINE", decline(offer, seconds))
    assert bench.offers(stream, 4.9) == []
    assert len(bench.offers(stream, 0.2)) == 1


def test_what_one_refuses_goes_to_another_at_once(bench: Any) -> None:
    bench.agent()
    one, first = bench.framework("one")
    (offer,) = bench.offers(one)
    two, _ = bench.framework("two")
    assert bench.offers(two) == []
    bench.call(first, "DECLINE", decline(offer, 0.0))
    assert len(bench.offers(two)) == 1


def test_suppressed_means_no_offers_until_revived(bench: Any) -> None:
    stream, framework_id = bench.framework()
    bench.call(framework_id, "SUPPRESS")
    bench.agent()
    assert bench.offers(stream, 10.0) == []
    bench.call(framework_id, "REVIVE")
    assert len(bench.offers(stream)) == 1


def test_endless_refusing_and_reviving_piles_up_no_timers(bench: Any) -> None:
    bench.agent()
    stream, framework_id = bench.framework()
    for _ in range(50):
        (offer,) = bench.offers(stream)
        bench.call(framework_id, "DECLINE", decline(offer, 1e7))
        bench.call(framework_id, "REVIVE")
    assert len(bench.master.timers._heap) < 10


def test_an_offer_is_rescinded_after_its_timeout(make_bench: Any) -> None:
    bench = make_bench(offer_timeout_s=30.0)
    bench.agent()
    stream, _ = bench.framework()
    (offer,) = bench.offers(stream)
    bench.run(30.0)
    (event,) = bench.heard(stream, "RESCIND")
    assert event.rescind.offer_id == offer.id


def test_a_broken_link_rescinds_the_offers(bench: Any) -> None:
    wire, _ = bench.agent()
    stream, _ = bench.framework()
    (offer,) = bench.offers(stream)
    bench.feed(ev.AgentStreamClosed(wire))
    assert bench.heard(stream, "RESCIND")[0].rescind.offer_id == offer.id
    assert bench.offers(stream, 10.0) == []


def test_agents_with_gpus_are_kept_for_those_who_can_use_them(bench: Any) -> None:
    bench.agent(resources="cpus:4;mem:1024;gpus:1")
    plain, _ = bench.framework("plain")
    assert bench.offers(plain) == []
    able, _ = bench.framework("able", capabilities=("GPU_RESOURCES",))
    assert len(bench.offers(able)) == 1


def test_equal_frameworks_get_equal_parts(bench: Any) -> None:
    streams = [bench.framework(name)[0] for name in ("one", "two")]
    for number in range(10):
        bench.agent(f"a{number}")
        bench.run()
    held = [len(item.offers) for item in bench.master.frameworks.values()]
    assert held == [5, 5]
    assert len(streams) == 2


def test_a_role_of_thrice_the_weight_gets_thrice_as_much(make_bench: Any) -> None:
    bench = make_bench(weights={"heavy": 3.0})
    for name in ("heavy", "light"):
        bench.framework(name, role=name)
    for number in range(16):
        bench.agent(f"a{number}")
        bench.run()
    held = {item.info.name: len(item.offers) for item in bench.master.frameworks.values()}
    assert held == {"heavy": 12, "light": 4}


def test_statically_reserved_resources_go_to_their_role_and_its_children(bench: Any) -> None:
    bench.agent(resources="cpus(eng):2;mem(eng):512;cpus:1;mem:256")
    multi = ("MULTI_ROLE", "RESERVATION_REFINEMENT")
    other, _ = bench.framework("other", capabilities=multi, roles=("ops",))
    (offer,) = bench.offers(other)
    assert {item.name: item.scalar.value for item in offer.resources} == {"cpus": 1.0, "mem": 256.0}
    child, _ = bench.framework("child", capabilities=multi, roles=("eng/web",))
    (offer,) = bench.offers(child)
    assert {item.name: item.scalar.value for item in offer.resources} == {"cpus": 2.0, "mem": 512.0}
    assert {item.reservations[0].role for item in offer.resources} == {"eng"}


def test_less_than_the_least_is_not_offered(bench: Any) -> None:
    bench.agent(resources="cpus:0.005;mem:16;disk:100")
    stream, _ = bench.framework()
    assert bench.offers(stream, 10.0) == []


def test_nothing_is_offered_while_leadership_is_in_doubt(bench: Any) -> None:
    stream, _ = bench.framework()
    bench.feed(ev.LeadershipInDoubt(True))
    bench.agent()
    assert bench.offers(stream, 5.0) == []
    bench.feed(ev.LeadershipInDoubt(False))
    assert len(bench.offers(stream)) == 1


# -- tasks --------------------------------------------------------------------------------------


def test_an_update_goes_to_the_framework_and_its_acknowledgement_to_the_agent(bench: Any) -> None:
    wire, agent_id, stream, framework_id = bench.running()
    bench.update(wire, framework_id, "t1", "TASK_FINISHED", b"v" * 16)
    (status,) = bench.statuses(stream)
    assert status.uuid == b"v" * 16
    assert status.agent_id.value == agent_id
    assert status.timestamp is not None
    assert "t1" in bench.master.frameworks[framework_id].tasks
    bench.call(framework_id, "ACKNOWLEDGE", acknowledgement(agent_id, b"v" * 16))
    (ack,) = bench.down(wire)
    assert (ack.task_id.value, ack.uuid) == ("t1", b"v" * 16)
    framework = bench.master.frameworks[framework_id]
    assert not framework.tasks
    assert [task.state for task in framework.completed_tasks] == ["TASK_FINISHED"]


def acknowledgement(agent_id: str, uuid: bytes) -> scheduler.Acknowledge:
    return scheduler.Acknowledge(agent_id=AgentID(agent_id), task_id=TaskID("t1"), uuid=uuid)


def test_an_acknowledgement_of_another_update_keeps_the_task(bench: Any) -> None:
    wire, agent_id, _, framework_id = bench.running()
    bench.update(wire, framework_id, "t1", "TASK_FINISHED", b"v" * 16)
    bench.call(framework_id, "ACKNOWLEDGE", acknowledgement(agent_id, b"x" * 16))
    assert "t1" in bench.master.frameworks[framework_id].tasks


def test_a_terminal_task_frees_what_it_held_before_it_is_acknowledged(bench: Any) -> None:
    wire, agent_id, _, framework_id = bench.running()
    agent = bench.master.agents[agent_id]
    before = agent.free
    bench.update(wire, framework_id, "t1", "TASK_FAILED")
    assert agent.free.scalar("cpus") >= before.scalar("cpus")
    assert (
        sum(item.resources.scalar("cpus") for item in bench.master.offers.values())
        + (agent.free.scalar("cpus"))
        == 4000
    )


def test_kill_goes_to_the_agent_each_time_and_waits_for_a_disconnected_one(bench: Any) -> None:
    wire, agent_id, _, framework_id = bench.running()
    task = bench.master.frameworks[framework_id].tasks["t1"].wire
    for _ in range(2):
        bench.call(framework_id, "KILL", scheduler.Kill(task_id=TaskID("t1")))
        assert [type(message) for message in bench.down(wire)] == [link.Kill]
    bench.feed(ev.AgentStreamClosed(wire))
    bench.call(framework_id, "KILL", scheduler.Kill(task_id=TaskID("t1")))
    again, _ = bench.agent(agent_id=agent_id, tasks=(task,))
    assert [type(message) for message in bench.down(again)][1:] == [link.Kill]


def test_killing_an_unknown_task_is_answered(bench: Any) -> None:
    stream, framework_id = bench.framework()
    bench.call(framework_id, "KILL", scheduler.Kill(task_id=TaskID("nope")))
    (status,) = bench.statuses(stream)
    assert (status.state, status.reason) == ("TASK_UNKNOWN", "REASON_RECONCILIATION")


RECONCILED = [
    # (partition aware, agent named, state) — spec/mesos.md §2.7
    (True, "registered", "TASK_GONE"),
    (False, "registered", "TASK_LOST"),
    (True, "unreachable", "TASK_UNREACHABLE"),
    (False, "unreachable", "TASK_LOST"),
    (True, "gone", "TASK_GONE_BY_OPERATOR"),
    (True, "recovered", None),
    (True, "unheard-of", "TASK_UNKNOWN"),
    (False, "unheard-of", "TASK_LOST"),
]


@pytest.mark.parametrize(("aware", "where", "state"), RECONCILED)
def test_explicit_reconciliation(
    make_bench: Any, aware: bool, where: str, state: str | None
) -> None:
    first = make_bench()
    ids = dict(
        zip(
            ("registered", "recovered", "unreachable", "gone"),
            (first.agent(f"a{number}")[1] for number in range(1, 5)),
            strict=True,
        )
    )
    records = dict(first.store)
    now = TimeInfo(nanoseconds=int(1.7e18))
    for kind, record in (
        ("unreachable", registry.UnreachableRecord(id=AgentID(ids["unreachable"]), time=now)),
        ("gone", registry.GoneRecord(id=AgentID(ids["gone"]), time=now)),
    ):
        del records[registry.path("agents", ids[kind])]
        records[registry.path(kind, ids[kind])] = json.encode(record)
    bench = make_bench(records)
    bench.agent("a1", ids["registered"])
    stream, framework_id = bench.framework(capabilities=("PARTITION_AWARE",) if aware else ())
    asked = scheduler.ReconcileTask(
        task_id=TaskID("t"), agent_id=AgentID(ids.get(where, "unheard-of"))
    )
    bench.call(framework_id, "RECONCILE", scheduler.Reconcile(tasks=(asked,)))
    assert [status.state for status in bench.statuses(stream)] == ([] if state is None else [state])


def test_implicit_reconciliation_tells_the_latest_state_of_each(bench: Any) -> None:
    _, agent_id, stream, framework_id = bench.running()
    bench.call(framework_id, "RECONCILE", scheduler.Reconcile())
    (status,) = bench.statuses(stream)
    assert (status.state, status.message, status.uuid) == (
        "TASK_RUNNING",
        "Reconciliation: Latest task state",
        None,
    )
    assert status.agent_id.value == agent_id


def test_an_executor_counts_once_and_its_end_is_a_failure_event(bench: Any) -> None:
    wire, agent_id = bench.agent()
    stream, framework_id = bench.framework()
    executor = ExecutorInfo(
        executor_id=ExecutorID("e"),
        command=CommandInfo(value="run"),
        resources=text.parse("cpus:1").to_wire(),
    )
    tasks = [
        replace(bench.task(name, agent_id, "cpus:0.5"), command=None, executor=executor)
        for name in ("t1", "t2")
    ]
    changed = replace(executor, command=CommandInfo(value="other"))
    tasks.append(replace(tasks[0], task_id=TaskID("t3"), executor=changed))
    bench.accept(framework_id, bench.offers(stream), *tasks)
    (status,) = bench.statuses(stream)
    assert (status.task_id.value, status.state) == ("t3", "TASK_ERROR")
    agent = bench.master.agents[agent_id]
    assert agent.total.scalar("cpus") - agent.free.scalar("cpus") == 2000
    exited = link.ExitedExecutor(
        framework_id=FrameworkID(framework_id), executor_id=ExecutorID("e"), status=9
    )
    bench.up(wire, exited)
    (failure,) = bench.heard(stream, "FAILURE")
    assert (failure.failure.executor_id.value, failure.failure.status) == ("e", 9)
    bench.up(wire, exited)
    assert bench.heard(stream, "FAILURE") == []


def test_an_executor_without_resources_ends_in_a_role_its_framework_has_left(
    make_bench: Any,
) -> None:
    first = make_bench()
    _, agent_id = first.agent()
    _, framework_id = first.framework(roles=("web",), capabilities=("MULTI_ROLE",))
    info = first.master.frameworks[framework_id].info
    bench = make_bench(first.store)
    idle = link.FrameworkExecutor(
        framework_id=FrameworkID(framework_id),
        executor=ExecutorInfo(executor_id=ExecutorID("e"), command=CommandInfo(value="run")),
    )
    half_known = replace(info, roles=(), capabilities=())
    wire, _ = bench.agent(agent_id=agent_id, frameworks=(half_known,), executors=(idle,))
    stream = bench.subscribe(info)
    exited = link.ExitedExecutor(
        framework_id=FrameworkID(framework_id), executor_id=ExecutorID("e"), status=0
    )
    bench.up(wire, exited)
    assert len(bench.heard(stream, "FAILURE")) == 1


# -- frameworks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "a//b"}, "'FrameworkInfo' contains an invalid role"),
        ({"roles": ("a",)}, "'FrameworkInfo.roles' must not be set"),
        ({"failover_timeout": 1e30}, "failover_timeout"),
        ({"id": FrameworkID("a/b")}, "FrameworkInfo.id is invalid"),
    ],
)
def test_a_bad_framework_hears_an_error_and_is_closed(
    bench: Any, change: dict[str, Any], message: str
) -> None:
    stream = bench.subscribe(bench.info(**change))
    (event,) = bench.heard(stream)
    assert event.type == "ERROR"
    assert message in event.error.message
    assert bench.of(ev.CloseSchedulerStream) == [ev.CloseSchedulerStream(stream)]
    assert not bench.master.frameworks


def test_a_second_scheduler_takes_the_framework_over(bench: Any) -> None:
    bench.agent()
    old, framework_id = bench.framework()
    bench.offers(old)
    new = bench.subscribe(bench.info(id=FrameworkID(framework_id)))
    (error,) = bench.heard(old)
    assert error.error.message == "Framework failed over"
    assert bench.of(ev.CloseSchedulerStream) == [ev.CloseSchedulerStream(old)]
    assert [event.type for event in bench.heard(new)] == ["SUBSCRIBED", "HEARTBEAT"]
    assert len(bench.offers(new)) == 1
    bench.feed(ev.SchedulerStreamClosed(old))
    assert bench.master.frameworks[framework_id].stream == new


def test_a_framework_without_failover_timeout_ends_with_its_stream(bench: Any) -> None:
    wire, _, stream, framework_id = bench.running(failover_timeout=0.0)
    bench.feed(ev.SchedulerStreamClosed(stream))
    assert [type(message) for message in bench.down(wire)] == [link.ShutdownFramework]
    completed = bench.master.completed_frameworks[framework_id]
    assert [task.state for task in completed.completed_tasks] == ["TASK_KILLED"]
    again = bench.subscribe(bench.info(id=FrameworkID(framework_id)))
    assert bench.heard(again)[0].error.message == "Framework has been removed"


def test_the_failover_timer_of_an_old_subscription_does_nothing(bench: Any) -> None:
    stream, framework_id = bench.framework(failover_timeout=60.0)
    bench.feed(ev.SchedulerStreamClosed(stream))
    bench.run(59.0)
    again = bench.subscribe(bench.info(id=FrameworkID(framework_id)))
    bench.run(59.0)
    bench.feed(ev.SchedulerStreamClosed(again))
    bench.run(59.0)
    assert framework_id in bench.master.frameworks
    bench.run(2.0)
    assert framework_id in bench.master.completed_frameworks


def test_a_framework_is_recovered_from_its_agents_and_keeps_its_tasks(make_bench: Any) -> None:
    first = make_bench()
    _, agent_id, _, framework_id = first.running()
    framework = first.master.frameworks[framework_id]
    second = make_bench(first.store)
    second.agent(
        agent_id=agent_id,
        frameworks=(framework.info,),
        tasks=(framework.tasks["t1"].wire,),
    )
    recovered = second.master.frameworks[framework_id]
    assert (recovered.recovered, recovered.active) == (True, False)
    second.run(10_000.0)
    stream = second.subscribe(first.info(id=FrameworkID(framework_id)))
    assert second.heard(stream, "SUBSCRIBED")
    assert list(second.master.frameworks[framework_id].tasks) == ["t1"]
    assert not second.master.frameworks[framework_id].recovered


def test_a_framework_of_which_an_agent_lost_the_record_can_still_be_updated(
    make_bench: Any,
) -> None:
    first = make_bench()
    _, agent_id, _, framework_id = first.running()
    framework = first.master.frameworks[framework_id]
    id = FrameworkID(framework_id)
    unread = FrameworkInfo(user="", name=framework_id, id=id, checkpoint=framework.info.checkpoint)
    second = make_bench(first.store)
    second.agent(agent_id=agent_id, frameworks=(unread,), tasks=(framework.tasks["t1"].wire,))
    info = first.info(id=id)
    stream = second.subscribe(info)
    assert second.heard(stream, "SUBSCRIBED")
    assert second.master.frameworks[framework_id].info.user == info.user != ""
    assert (
        validation.change_error(second.master.frameworks[framework_id].info, info, strict=True)
        is None
    )


@pytest.mark.parametrize(
    ("had", "has", "heard"),
    [
        ("alice", "alice", "SUBSCRIBED"),
        ("alice", "mallory", "ERROR"),
        (None, "alice", "SUBSCRIBED"),
        ("alice", None, "SUBSCRIBED"),
    ],
)
def test_a_recovered_framework_is_not_taken_over_by_another_principal(
    make_bench: Any, had: str | None, has: str | None, heard: str
) -> None:
    first = make_bench()
    _, agent_id, _, framework_id = first.running(principal=had)
    framework = first.master.frameworks[framework_id]
    second = make_bench(first.store)
    second.agent(
        agent_id=agent_id, frameworks=(framework.info,), tasks=(framework.tasks["t1"].wire,)
    )
    stream = second.subscribe(first.info(id=FrameworkID(framework_id), principal=has))
    assert second.heard(stream)[0].type == heard
    assert second.master.frameworks[framework_id].recovered == (heard == "ERROR")


def test_tasks_of_a_removed_framework_are_shut_down_when_the_agent_brings_them(
    bench: Any,
) -> None:
    wire, agent_id, stream, framework_id = bench.running()
    framework = bench.master.frameworks[framework_id]
    task = framework.tasks["t1"].wire
    bench.feed(ev.AgentStreamClosed(wire))
    bench.call(framework_id, "TEARDOWN")
    assert bench.of(ev.CloseSchedulerStream) == [ev.CloseSchedulerStream(stream)]
    again, _ = bench.agent(agent_id=agent_id, frameworks=(framework.info,), tasks=(task,))
    assert bench.down(again)[1:] == [link.ShutdownFramework(framework_id=FrameworkID(framework_id))]
    assert not bench.master.agents[agent_id].tasks


def test_heartbeats_come_every_fifteen_seconds(bench: Any) -> None:
    stream, _ = bench.framework()
    bench.run(45.0)
    assert len(bench.heard(stream, "HEARTBEAT")) == 3


# -- operators ----------------------------------------------------------------------------------


def test_the_event_stream_begins_with_the_state_and_follows_changes(bench: Any) -> None:
    wire, _, _, framework_id = bench.running()
    bench.feed(ev.OperatorSubscribed("o"))
    assert [effect.stream for effect in bench.of(ev.GreetOperator)] == ["o"]
    assert [effect.event.type for effect in bench.of(ev.SendToOperator)] == ["HEARTBEAT"]
    bench.update(wire, framework_id, "t1", "TASK_RUNNING", b"w" * 16)
    assert bench.published() == []
    bench.update(wire, framework_id, "t1", "TASK_FAILED", b"x" * 16)
    assert bench.published() == ["TASK_UPDATED"]
    bench.agent("a2")
    assert bench.published() == ["AGENT_ADDED"]
    bench.call(framework_id, "TEARDOWN")
    assert bench.published() == ["FRAMEWORK_REMOVED"]


def test_the_oldest_of_too_many_subscribers_is_closed(make_bench: Any) -> None:
    bench = make_bench(max_operator_subscribers=2)
    for stream in ("o1", "o2", "o3"):
        bench.feed(ev.OperatorSubscribed(stream))
    assert bench.of(ev.CloseOperatorStream) == [ev.CloseOperatorStream("o1")]


def test_a_deactivated_agent_gets_no_offers_until_reactivated(bench: Any) -> None:
    _, agent_id = bench.agent()
    ref = operator.AgentRef(agent_id=AgentID(agent_id))
    stream, _ = bench.framework()
    bench.offers(stream)
    bench.operate(operator.Call(type="DEACTIVATE_AGENT", deactivate_agent=ref))
    assert len(bench.heard(stream, "RESCIND")) == 1
    assert bench.offers(stream, 10.0) == []
    (reply,) = bench.operate(operator.Call(type="REACTIVATE_AGENT", reactivate_agent=ref))
    assert reply.status == 200
    assert len(bench.offers(stream)) == 1
    (reply,) = bench.operate(operator.Call(type="REACTIVATE_AGENT", reactivate_agent=ref))
    assert (reply.status, reply.body) == (400, "Agent is not deactivated")


def test_an_agent_with_more_work_than_resources_is_kept_and_not_offered(bench: Any) -> None:
    _, agent_id, stream, framework_id = bench.running()
    task: Task = bench.master.frameworks[framework_id].tasks["t1"].wire
    bench.agent(agent_id=agent_id, tasks=(task,), resources="cpus:0.5;mem:32")
    assert bench.offers(stream, 100.0) == []
    assert "t1" in bench.master.frameworks[framework_id].tasks
