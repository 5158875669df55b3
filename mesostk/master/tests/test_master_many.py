"""Calls that name thousands of things: what they cost grows with their number, up to a bound.

Work is counted in calls of functions, which any load leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.master import events as ev
from mesostk.master import frameworks
from mesostk.master import sorter as sorting
from mesostk.master.conversion_rules import MOST_CONVERTED
from mesostk.master.sorter import Sorter
from mesostk.master.tests.conftest import Bench
from mesostk.master.validation import MOST_ROLES
from mesostk.resources import text
from mesostk.testing.counted import calls
from mesostk.wire import operator, scheduler
from mesostk.wire.mesos import (
    AgentID,
    Create,
    Destroy,
    DiskInfo,
    FrameworkID,
    OfferOperation,
    OperationID,
    Persistence,
    Resource,
    Volume,
)

MULTI = ("MULTI_ROLE", "RESERVATION_REFINEMENT", "PARTITION_AWARE")


def names(count: int, prefix: str = "r") -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(count))


# -- the order of siblings ----------------------------------------------------------------------


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was put into or looked up in an order of siblings one by one."""
    made: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            made.append(name)
            return real(*args, **named)

        return call

    for name in ("insort", "bisect_left"):
        monkeypatch.setattr(sorting, name, counted(name, getattr(sorting, name)))
    return made


def test_roles_that_come_change_and_go_together_are_merged_into_the_order(
    moves: list[str],
) -> None:
    made = Sorter({"cpus": 1000})
    known = names(500)
    for role in known:
        made.add(role)
        made.activate(role)
        made.allocate(role, {"cpus": int(role[1:])})
    assert list(made.in_order()) == list(known)
    for role in known[:250]:
        made.remove(role)
    made.add("new")
    made.activate("new")
    assert list(made.in_order()) == ["new", *known[250:]]
    assert moves == []


def test_one_role_that_changes_is_moved_by_one_bisection(moves: list[str]) -> None:
    made = Sorter({"cpus": 1000})
    for role in names(100):
        made.add(role)
        made.activate(role)
    list(made.in_order())
    made.allocate("r7", {"cpus": 1})
    made.allocate("r7", {"cpus": 1})
    assert list(made.in_order())[-1] == "r7"
    assert moves == ["bisect_left", "insort"]


# -- roles --------------------------------------------------------------------------------------


def work_of(bench: Bench, event: Any) -> int:
    """What the core itself has to do, and the run of the allocator that follows."""

    def handled() -> None:
        bench.master.handle(bench.now, event)
        bench.master.allocator.run(bench.master, bench.now)

    done = calls(handled)
    bench.master.check()
    return done


def subscribing(bench: Bench, roles: tuple[str, ...]) -> ev.SchedulerSubscribed:
    info = bench.info(roles=roles, capabilities=MULTI)
    call = scheduler.Call(type="SUBSCRIBE", subscribe=scheduler.Subscribe(framework_info=info))
    return ev.SchedulerSubscribed(bench.stream(), call)


def updating(bench: Bench, framework_id: str, roles: tuple[str, ...]) -> ev.SchedulerCalled:
    own = FrameworkID(framework_id)
    info = replace(bench.info(roles=roles, capabilities=MULTI), id=own)
    update = scheduler.UpdateFramework(framework_info=info)
    call = scheduler.Call(type="UPDATE_FRAMEWORK", framework_id=own, update_framework=update)
    return ev.SchedulerCalled(call)


def work_with(make_bench: type[Bench], count: int) -> dict[str, int]:
    """Of a framework that subscribes in so many roles, takes as many others, then all but one."""
    bench = make_bench()
    bench.agent()
    work = {"SUBSCRIBE": work_of(bench, subscribing(bench, names(count)))}
    (framework_id,) = bench.master.frameworks
    others = names(count, "q")
    work["all others"] = work_of(bench, updating(bench, framework_id, others))
    work["one less"] = work_of(bench, updating(bench, framework_id, others[1:]))
    call = scheduler.Call(type="TEARDOWN", framework_id=FrameworkID(framework_id))
    work["TEARDOWN"] = work_of(bench, ev.SchedulerCalled(call))
    return work


def test_the_work_of_roles_grows_with_their_number(make_bench: type[Bench]) -> None:
    few, many = work_with(make_bench, 100), work_with(make_bench, 400)
    assert {what: many[what] <= 4 * few[what] for what in few} == dict.fromkeys(few, True), many


def test_a_framework_costs_what_it_is_in_and_not_what_others_are(make_bench: type[Bench]) -> None:
    work = []
    for others in (1, 400):
        bench = make_bench()
        bench.framework(roles=names(others), capabilities=MULTI)
        work.append(work_of(bench, subscribing(bench, ("mine",))))
    assert work[1] <= work[0] + 5, work


@pytest.mark.parametrize(
    ("roles", "named"),
    [
        (names(MOST_ROLES + 1), MOST_ROLES + 1),
        (names(MOST_ROLES // 4, "a/b/c/d/e"), MOST_ROLES // 4 * 5),
    ],
)
def test_a_framework_in_more_roles_than_the_loop_bears_is_told_to_divide_them(
    bench: Bench, roles: tuple[str, ...], named: int
) -> None:
    stream, framework_id = bench.framework(roles=("eng",), capabilities=MULTI)
    why = (
        f"'FrameworkInfo.roles' names {named} roles, levels of nested ones counted each, at most"
        f" {MOST_ROLES} are allowed: divide them among several frameworks"
    )
    refused = bench.subscribe(bench.info(roles=roles, capabilities=MULTI))
    (error,) = bench.heard(refused, "ERROR")
    assert error.error is not None
    assert error.error.message == why
    rejected = frameworks.refusal(
        bench.master, updating(bench, framework_id, roles).call, stream, None
    )
    assert str(rejected) == why


def test_a_framework_may_be_in_as_many_roles_as_the_loop_bears(bench: Bench) -> None:
    _, framework_id = bench.framework(roles=names(MOST_ROLES // 2, "a/"), capabilities=MULTI)
    assert len(bench.master.frameworks[framework_id].roles) == MOST_ROLES // 2


# -- volumes ------------------------------------------------------------------------------------


def volumes(count: int) -> tuple[Resource, ...]:
    (disk,) = text.parse("disk(db):1").to_wire()
    return tuple(
        replace(
            disk,
            disk=DiskInfo(
                persistence=Persistence(id=f"v{number}"),
                volume=Volume(mode="RW", container_path="data"),
            ),
        )
        for number in range(count)
    )


def creating(*made: Resource, id: str | None = None) -> OfferOperation:
    named = None if id is None else OperationID(id)
    return OfferOperation(type="CREATE", id=named, create=Create(volumes=made))


@pytest.fixture
def database(bench: Bench) -> tuple[Bench, str, str]:
    """A framework with a disk of its own; (bench, its stream, its id)."""
    bench.agent(resources="cpus:4;disk(db):1000")
    return (bench, *bench.framework(roles=("db",), capabilities=MULTI))


def refusals(bench: Bench, stream: str) -> list[str]:
    return [
        str(item.update_operation_status.status.message)
        for item in bench.heard(stream, "UPDATE_OPERATION_STATUS")
        if item.update_operation_status is not None
    ]


def test_as_many_volumes_are_made_at_once_as_the_loop_bears(
    database: tuple[Bench, str, str],
) -> None:
    bench, stream, framework_id = database
    too_many = creating(*volumes(MOST_CONVERTED + 1), id="c")
    bench.accept(framework_id, bench.offers(stream), operations=(too_many,))
    (why,) = refusals(bench, stream)
    assert why == (
        f"Invalid CREATE: 'create' names {MOST_CONVERTED + 1} resources, at most {MOST_CONVERTED}"
        " are allowed: divide them among several calls"
    )
    most = volumes(MOST_CONVERTED)
    bench.accept(framework_id, bench.offers(stream, 6.0), operations=(creating(*most),))
    (agent,) = bench.master.agents.values()
    assert len(agent.total.persistent_volumes()) == MOST_CONVERTED
    destroy = OfferOperation(type="DESTROY", destroy=Destroy(volumes=most))
    bench.accept(framework_id, bench.offers(stream, 6.0), operations=(destroy,))
    assert not agent.total.persistent_volumes()


def test_an_operator_may_not_make_more_of_them_either(bench: Bench) -> None:
    _, agent_id = bench.agent(resources="cpus:4;disk(db):1000")
    body = operator.Volumes(agent_id=AgentID(agent_id), volumes=volumes(MOST_CONVERTED + 1))
    (reply,) = bench.operate(operator.Call(type="CREATE_VOLUMES", create_volumes=body))
    assert reply.status == 400
    assert f"at most {MOST_CONVERTED} are allowed" in str(reply.body)


def test_many_operations_of_one_accept_end_where_the_loop_would_be_held(
    database: tuple[Bench, str, str],
) -> None:
    bench, stream, framework_id = database
    asked = [creating(item, id=f"c{number}") for number, item in enumerate(volumes(400))]
    bench.accept(framework_id, bench.offers(stream), operations=tuple(asked))
    (agent,) = bench.master.agents.values()
    made, told = len(agent.total.persistent_volumes()), refusals(bench, stream)
    assert 50 <= made < 400
    assert len(told) == 400 - made
    assert f"convert too many resources of agent {agent.id}, which has" in told[0]
    assert "send the rest with its next offer" in told[0]
    # One more may always be made, however many there are.
    more = creating(*volumes(400)[made : made + 200])
    bench.accept(framework_id, bench.offers(stream, 6.0), operations=(more,))
    assert len(agent.total.persistent_volumes()) == made + 200


def test_the_work_of_operations_ends_with_those_that_are_refused(
    make_bench: type[Bench],
) -> None:
    work = []
    for count in (120, 240):
        bench = make_bench()
        bench.agent(resources="cpus:4;disk(db):1000")
        stream, framework_id = bench.framework(roles=("db",), capabilities=MULTI)
        operations = tuple(creating(item) for item in volumes(count))
        (offer,) = bench.offers(stream)
        accept = scheduler.Accept(offer_ids=(offer.id,), operations=operations)
        own = FrameworkID(framework_id)
        call = scheduler.Call(type="ACCEPT", framework_id=own, accept=accept)
        work.append(work_of(bench, ev.SchedulerCalled(call)))
    assert work[1] < 1.2 * work[0], work
