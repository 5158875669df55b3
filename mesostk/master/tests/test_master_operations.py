"""RESERVE, CREATE and their like: in ACCEPT, by operators, and what agents answer."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.master import events as ev
from mesostk.master import views
from mesostk.resources import conversions, text
from mesostk.resources.resources import Resources
from mesostk.wire import link, operator, scheduler
from mesostk.wire.mesos import (
    UUID,
    AgentID,
    Create,
    Destroy,
    DiskInfo,
    GrowVolume,
    Launch,
    OfferOperation,
    OperationID,
    OperationStatus,
    Persistence,
    ReservationInfo,
    Reserve,
    Resource,
    Scalar,
    SharedInfo,
    ShrinkVolume,
    Unreserve,
    Volume,
)

MULTI = ("MULTI_ROLE", "RESERVATION_REFINEMENT", "PARTITION_AWARE", "SHARED_RESOURCES")


def reserved(
    what: str, role: str = "web", principal: str | None = None, *more: str
) -> tuple[Resource, ...]:
    """`what` dynamically reserved to `role`, refined for each of `more`."""
    bag = text.parse(what)
    for name in (role, *more):
        bag = bag.push_reservation(ReservationInfo(type="DYNAMIC", role=name, principal=principal))
    return bag.to_wire()


def volume(size: float, id: str = "v1", role: str = "web", *, shared: bool = False) -> Resource:
    (disk,) = reserved(f"disk:{size}", role)
    return replace(
        disk,
        disk=DiskInfo(
            persistence=Persistence(id=id), volume=Volume(mode="RW", container_path="data")
        ),
        shared=SharedInfo() if shared else None,
    )


def reserve(
    what: str, role: str = "web", principal: str | None = None, **more: Any
) -> OfferOperation:
    body = Reserve(resources=reserved(what, role, principal))
    return OfferOperation(type="RESERVE", reserve=body, **more)


def create(*volumes: Resource, **more: Any) -> OfferOperation:
    return OfferOperation(type="CREATE", create=Create(volumes=volumes), **more)


def destroy(*volumes: Resource, **more: Any) -> OfferOperation:
    return OfferOperation(type="DESTROY", destroy=Destroy(volumes=volumes), **more)


def launch(*tasks: Any) -> OfferOperation:
    return OfferOperation(type="LAUNCH", launch=Launch(task_infos=tasks))


def asked(bench: Any, wire: str) -> list[link.ApplyOperation]:
    return [item for item in bench.down(wire) if isinstance(item, link.ApplyOperation)]


def answer(
    message: link.ApplyOperation, state: Any = "OPERATION_FINISHED", uuid: bytes | None = None
) -> link.OperationUpdate:
    status = OperationStatus(
        operation_id=message.operation.id,
        state=state,
        uuid=None if uuid is None else UUID(uuid),
        agent_id=AgentID("A"),
    )
    return link.OperationUpdate(
        framework_id=message.framework_id, operation_uuid=message.operation_uuid, status=status
    )


def outcomes(bench: Any, stream: str) -> list[OperationStatus]:
    return [
        item.update_operation_status.status
        for item in bench.heard(stream, "UPDATE_OPERATION_STATUS")
    ]


@pytest.fixture
def ready(bench: Any) -> tuple[Any, str, str, str, str]:
    """(bench, link, agent id, stream, framework id) of one agent and a framework in role web."""
    wire, agent_id = bench.agent()
    stream, framework_id = bench.framework(roles=("web",), capabilities=MULTI)
    return bench, wire, agent_id, stream, framework_id


def offers_of(bench: Any, stream: str) -> list[Any]:
    """Offers among the last effects."""
    return [offer for item in bench.heard(stream, "OFFERS") for offer in item.offers.offers]


# -- ACCEPT -------------------------------------------------------------------------------------


def test_reserve_create_and_launch_in_one_accept(ready: Any) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    offers = bench.offers(stream)
    task = replace(
        bench.task("t1", agent_id),
        resources=(*reserved("cpus:1;mem:64"), volume(100)),
    )
    bench.accept(
        framework_id,
        offers,
        operations=(reserve("cpus:1;mem:64;disk:100"), create(volume(100)), launch(task)),
    )
    kinds = [type(item).__name__ for item in bench.down(wire)]
    assert kinds == ["ApplyOperation", "ApplyOperation", "RunTask"]
    first = asked(bench, wire)[0].operation.reserve
    assert first is not None
    assert all(item.allocation_info is None for item in first.resources)
    agent = bench.master.agents[agent_id]
    volumes = agent.total.persistent_volumes().to_wire()
    assert [item.disk.persistence.id for item in volumes] == ["v1"]
    assert agent.total.quantities() == {"cpus": 4000, "mem": 1024000, "disk": 1000000}
    shown = views.operations(bench.master).operations
    assert [item.info.type for item in shown] == ["RESERVE", "CREATE"]
    assert {item.latest_status.state for item in shown} == {"OPERATION_PENDING"}


def test_what_was_reserved_comes_back_at_once_and_the_rest_after_the_refusal(ready: Any) -> None:
    bench, _, _, stream, framework_id = ready
    bench.accept(framework_id, bench.offers(stream), operations=(reserve("cpus:1"),), refuse_s=60)
    (offer,) = bench.offers(stream, 2.0)
    assert Resources.of(offer.resources).reserved("web").scalar("cpus") == 1000
    bench.accept(framework_id, [offer], refuse_s=60)
    assert bench.offers(stream, 59.0) == []
    assert len(bench.offers(stream, 2.0)) == 1


def test_reserved_resources_are_for_the_role_and_its_children_only(ready: Any) -> None:
    bench, _, _, stream, framework_id = ready
    bench.accept(
        framework_id, bench.offers(stream), operations=(reserve("cpus:4;mem:1024"),), refuse_s=600
    )
    bench.call(framework_id, "SUPPRESS")
    other, _ = bench.framework("other", roles=("ops",), capabilities=MULTI)
    assert bench.offers(other, 1.0) == []
    child, child_id = bench.framework("child", roles=("web/a",), capabilities=MULTI)
    (offer,) = bench.offers(child, 1.0)
    assert Resources.of(offer.resources).reserved("web").scalar("cpus") == 4000
    refined = reserved("cpus:1", "web", None, "web/a")
    bench.accept(
        child_id,
        [offer],
        operations=(OfferOperation(type="RESERVE", reserve=Reserve(resources=refined)),),
    )
    (agent,) = bench.master.agents.values()
    assert agent.total.reserved("web/a").scalar("cpus") == 1000
    assert agent.total.reserved("web").scalar("cpus") == 3000
    (offer,) = [item for item in bench.offers(child, 2.0) if item.resources]
    assert any(len(item.reservations) == 2 for item in offer.resources)
    back = OfferOperation(type="UNRESERVE", unreserve=Unreserve(resources=refined))
    bench.accept(child_id, [offer], operations=(back,))
    assert agent.total.reserved("web").scalar("cpus") == 4000


def test_a_framework_of_the_old_format_reserves_by_role(bench: Any) -> None:
    wire, agent_id = bench.agent()
    stream, framework_id = bench.framework(role="web", principal="p")
    old = Resource(
        name="cpus",
        type="SCALAR",
        scalar=Scalar(1.0),
        role="web",
        reservation=ReservationInfo(principal="p"),
    )
    operation = OfferOperation(type="RESERVE", reserve=Reserve(resources=(old,)))
    bench.accept(framework_id, bench.offers(stream), operations=(operation,))
    (message,) = asked(bench, wire)
    assert message.operation.reserve is not None
    assert message.operation.reserve.resources[0].reservations[0].role == "web"
    assert message.operation.reserve.resources[0].role is None
    (offer,) = bench.offers(stream, 1.0)
    assert [item.reservation for item in offer.resources if item.role == "web"] == [
        ReservationInfo(principal="p")
    ]
    assert bench.master.agents[agent_id].total.reserved("web")


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (reserve("cpus:9", "web", "me"), "does not contain"),
        (reserve("cpus:1", "ops"), "for role 'ops'"),
        (OfferOperation(type="RESERVE"), "Expecting 'reserve' to be present"),
        (
            OfferOperation(
                type="RESERVE",
                reserve=Reserve(
                    resources=reserved("cpus:1"), source=text.parse("cpus:1").to_wire()
                ),
            ),
            "'source' is not allowed",
        ),
        (
            OfferOperation(
                type="RESERVE", reserve=Reserve(resources=reserved("cpus:1", "web", "x"))
            ),
            "principal 'x' set",
        ),
        (OfferOperation(type="UNRESERVE", unreserve=Unreserve()), "No resources given"),
        (create(volume(100)), "no principal set"),
        (create(replace(volume(1), disk=None)), "not a persistent volume"),
        (
            create(replace(volume(1), reservations=())),
            "cannot be created from unreserved resources",
        ),
        (
            create(replace(volume(1), disk=DiskInfo(persistence=Persistence(id="a/b")))),
            "Invalid persistence ID",
        ),
        (
            create(replace(volume(1), disk=DiskInfo(persistence=Persistence(id="a")))),
            "Expecting 'volume' to be set",
        ),
        (destroy(volume(1)), "Persistent volumes not found"),
        (reserve("cpus:1", id=OperationID("a/b")), "Operation ID is invalid"),
        *(
            (
                OfferOperation(type=kind),
                " (a1) because it does not have RESOURCE_PROVIDER capability",
            )
            for kind in ("CREATE_DISK", "DESTROY_DISK")
        ),
    ],
)
def test_operations_that_cannot_be_are_refused_by_an_event(
    bench: Any, operation: OfferOperation, why: str
) -> None:
    wire, agent_id = bench.agent()
    stream, framework_id = bench.framework(roles=("web",), capabilities=MULTI, principal="me")
    before = bench.master.agents[agent_id].total
    if operation.id is None:
        operation = replace(operation, id=OperationID("o1"))
    bench.accept(framework_id, bench.offers(stream), operations=(operation,))
    (status,) = outcomes(bench, stream)
    assert status.state == "OPERATION_ERROR"
    assert why in str(status.message)
    assert status.uuid is None
    assert not asked(bench, wire)
    assert bench.master.agents[agent_id].total == before


def test_volumes_grow_shrink_and_go_but_not_while_they_are_used(ready: Any) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    agent = bench.master.agents[agent_id]

    def do(*operations: OfferOperation) -> list[OperationStatus]:
        bench.accept(framework_id, bench.offers(stream, 1.0), operations=operations, refuse_s=0)
        return outcomes(bench, stream)

    do(reserve("cpus:1;mem:64;disk:200"), create(volume(100)))
    (more,) = reserved("disk:50")
    grow = OfferOperation(
        type="GROW_VOLUME", grow_volume=GrowVolume(volume=volume(100), addition=more)
    )
    # Resized volumes are not there for what follows in the same ACCEPT.
    (error,) = do(grow, destroy(volume(150), id=OperationID("d")))
    assert "does not contain" in str(error.message)
    assert agent.total.persistent_volumes().scalar("disk") == 150000
    shrink = OfferOperation(
        type="SHRINK_VOLUME",
        shrink_volume=ShrinkVolume(volume=volume(150), subtract=Scalar(30.0)),
    )
    do(shrink)
    assert agent.total.persistent_volumes().scalar("disk") == 120000
    task = replace(bench.task("t1", agent_id), resources=(*reserved("cpus:1;mem:64"), volume(120)))
    do(launch(task))
    (error,) = do(destroy(volume(120), id=OperationID("d1")))
    assert "is in use" in str(error.message)
    bench.update(wire, framework_id, "t1", "TASK_FINISHED")
    assert do(destroy(volume(120), id=OperationID("d2"))) == []
    assert not agent.total.persistent_volumes()
    assert agent.total.reserved("web").scalar("disk") == 200000


def test_a_shared_volume_goes_to_many_tasks_and_offers(ready: Any) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    shared = volume(100, shared=True)
    bench.accept(
        framework_id,
        bench.offers(stream),
        operations=(reserve("disk:100"), create(shared)),
        refuse_s=0,
    )
    other, other_id = bench.framework("other", roles=("web",), capabilities=MULTI)
    tasks = [
        replace(
            bench.task(f"t{number}", agent_id),
            resources=(*text.parse("cpus:1;mem:64").to_wire(), shared),
        )
        for number in range(3)
    ]
    offers = [*bench.offers(stream, 1.0), *offers_of(bench, other)]
    taker = offers[0].framework_id.value
    bench.accept(taker, offers, operations=(launch(*tasks),), refuse_s=60)
    assert sum(isinstance(item, link.RunTask) for item in bench.down(wire)) == 3
    again = [*bench.offers(stream, 2.0), *offers_of(bench, other)]
    (offer,) = [item for item in again if Resources.of(item.resources).shared()]
    assert {framework_id, other_id} == {taker, offer.framework_id.value}
    # In use, so that it stays; then it goes, and with it what offers it.
    bench.accept(taker, [], operations=())
    reply = operate(bench, "DESTROY_VOLUMES", agent_id=AgentID(agent_id), volumes=(shared,))
    assert (reply.status, "is in use" in reply.body) == (400, True)
    for number in range(3):
        bench.update(wire, taker, f"t{number}", "TASK_FINISHED")
    reply = operate(bench, "DESTROY_VOLUMES", agent_id=AgentID(agent_id), volumes=(shared,))
    assert reply.status == 202
    assert [*bench.heard(stream, "RESCIND"), *bench.heard(other, "RESCIND")]


# -- feedback -----------------------------------------------------------------------------------


def test_feedback_is_passed_on_until_it_is_acknowledged(ready: Any) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    operation = reserve("cpus:1", id=OperationID("o1"))
    bench.accept(framework_id, bench.offers(stream), operations=(operation,))
    (message,) = asked(bench, wire)
    done = answer(message, uuid=b"s" * 16)
    bench.up(wire, done)
    (status,) = outcomes(bench, stream)
    assert (status.state, status.uuid) == ("OPERATION_FINISHED", UUID(b"s" * 16))
    ask = scheduler.ReconcileOperations()
    bench.call(framework_id, "RECONCILE_OPERATIONS", ask)
    (known,) = outcomes(bench, stream)
    assert (known.state, known.uuid) == ("OPERATION_FINISHED", None)
    heard = scheduler.AcknowledgeOperationStatus(
        agent_id=AgentID(agent_id), uuid=b"s" * 16, operation_id=OperationID("o1")
    )
    bench.call(framework_id, "ACKNOWLEDGE_OPERATION_STATUS", replace(heard, uuid=b"x" * 16))
    assert bench.down(wire) == []
    bench.call(framework_id, "ACKNOWLEDGE_OPERATION_STATUS", heard)
    (ack,) = bench.down(wire)
    assert isinstance(ack, link.AcknowledgeOperation)
    assert ack.operation_uuid == message.operation_uuid
    assert views.operations(bench.master).operations == ()
    # It did not arrive, and the agent tells again: nobody but the agent needs to hear.
    bench.up(wire, done)
    assert isinstance(bench.down(wire)[0], link.AcknowledgeOperation)
    assert outcomes(bench, stream) == []
    assert bench.master.counters["operations/reserve/finished"] == 1


def test_an_operation_without_id_is_forgotten_when_it_is_done(ready: Any) -> None:
    bench, wire, _, stream, framework_id = ready
    bench.accept(framework_id, bench.offers(stream), operations=(reserve("cpus:1"),))
    (message,) = asked(bench, wire)
    bench.up(wire, answer(message))
    assert outcomes(bench, stream) == []
    assert views.operations(bench.master).operations == ()


def test_a_refused_operation_is_undone_and_those_behind_it_are_kept(ready: Any) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    first, second = reserve("cpus:1", id=OperationID("a")), reserve("mem:100")
    bench.accept(framework_id, bench.offers(stream), operations=(first, second))
    one, two = asked(bench, wire)
    total = bench.subscription().agent_info.resources
    bench.up(wire, answer(one, "OPERATION_FAILED"))
    (status,) = outcomes(bench, stream)
    assert status.state == "OPERATION_FAILED"
    bench.up(wire, link.UpdateAgent(resources=total))
    agent = bench.master.agents[agent_id]
    # The second is still on its way and is thought to succeed.
    after = conversions.apply(Resources.of(total), two.operation)
    assert not isinstance(after, str)
    assert agent.total == after
    bench.up(wire, answer(two))
    assert agent.total == after
    assert agent.total.reserved("web").scalar("mem") == 100000


@pytest.mark.parametrize("is_known", [True, False], ids=["task on the agent", "nothing else"])
def test_the_next_leader_learns_reservations_volumes_and_outcomes(
    make_bench: Any, *, is_known: bool
) -> None:
    first = make_bench()
    wire, agent_id = first.agent()
    stream, framework_id = first.framework(roles=("web",), capabilities=MULTI)
    info = first.master.frameworks[framework_id].info
    operations = (reserve("disk:100", id=OperationID("o1")), create(volume(100)))
    first.accept(framework_id, first.offers(stream), operations=operations)
    (message, _) = asked(first, wire)
    agent = first.master.agents[agent_id]
    wire_operation = views.operations(first.master).operations[0]
    status = answer(message, uuid=b"s" * 16).status
    brought = replace(wire_operation, latest_status=status, statuses=(status,))
    second = make_bench(first.store)
    second_wire, _ = second.agent(
        agent_id=agent_id,
        checkpointed_resources=agent.total.checkpointable().to_wire(),
        operations=(brought,),
        frameworks=(info,) if is_known else (),
    )
    assert second.master.agents[agent_id].total == agent.total
    again = second.subscribe(info)
    second.call(framework_id, "RECONCILE_OPERATIONS", scheduler.ReconcileOperations())
    (known,) = outcomes(second, again)
    assert known.state == "OPERATION_FINISHED"
    heard = scheduler.AcknowledgeOperationStatus(
        agent_id=AgentID(agent_id), uuid=b"s" * 16, operation_id=OperationID("o1")
    )
    second.call(framework_id, "ACKNOWLEDGE_OPERATION_STATUS", heard)
    acknowledged = [m for m in second.down(second_wire) if isinstance(m, link.AcknowledgeOperation)]
    assert [m.status_uuid for m in acknowledged] == [UUID(b"s" * 16)]
    assert not second.master.agents[agent_id].operations


def test_an_operation_that_never_arrived_is_dropped_when_the_agent_is_back(ready: Any) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    bench.accept(
        framework_id,
        bench.offers(stream),
        operations=(reserve("cpus:1", id=OperationID("o1")),),
    )
    bench.feed(ev.AgentStreamClosed(wire))
    bench.feed(ev.AgentSubscribed("back", bench.subscription(agent_id=agent_id)))
    (status,) = outcomes(bench, stream)
    assert status.state == "OPERATION_DROPPED"
    assert not bench.master.agents[agent_id].total.reserved("web")


@pytest.mark.parametrize(
    ("leave", "state"),
    [("unreachable", "OPERATION_UNREACHABLE"), ("gone", "OPERATION_GONE_BY_OPERATOR")],
)
def test_operations_of_an_agent_that_leaves(ready: Any, leave: str, state: str) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    bench.accept(
        framework_id,
        bench.offers(stream),
        operations=(reserve("cpus:1", id=OperationID("o1")),),
    )
    if leave == "gone":
        ref = operator.AgentRef(agent_id=AgentID(agent_id))
        bench.operate(operator.Call(type="MARK_AGENT_GONE", mark_agent_gone=ref))
    else:
        bench.feed(ev.AgentStreamClosed(wire))
        bench.run(91.0)
    (status,) = outcomes(bench, stream)
    assert status.state == state
    ask = scheduler.ReconcileOperation(operation_id=OperationID("o1"), agent_id=AgentID(agent_id))
    bench.call(
        framework_id, "RECONCILE_OPERATIONS", scheduler.ReconcileOperations(operations=(ask,))
    )
    (status,) = outcomes(bench, stream)
    assert status.state == state


def test_a_removed_framework_leaves_no_feedback_behind(ready: Any) -> None:
    bench, wire, agent_id, stream, framework_id = ready
    bench.accept(
        framework_id,
        bench.offers(stream),
        operations=(reserve("cpus:1", id=OperationID("o1")),),
    )
    (message,) = asked(bench, wire)
    bench.call(framework_id, "TEARDOWN")
    assert isinstance(bench.down(wire)[0], link.ShutdownFramework)
    assert not bench.master.agents[agent_id].operations
    bench.up(wire, answer(message, uuid=b"s" * 16))
    assert isinstance(bench.down(wire)[0], link.AcknowledgeOperation)


# -- operators ----------------------------------------------------------------------------------


def operate(bench: Any, kind: Any, **body: Any) -> ev.Reply:
    types: dict[str, Any] = {
        "RESERVE_RESOURCES": operator.ReserveResources,
        "UNRESERVE_RESOURCES": operator.UnreserveResources,
        "CREATE_VOLUMES": operator.Volumes,
        "DESTROY_VOLUMES": operator.Volumes,
        "GROW_VOLUME": operator.GrowVolume,
        "SHRINK_VOLUME": operator.ShrinkVolume,
    }
    fields: Any = {kind.lower(): types[kind](**body)}
    (reply,) = bench.operate(operator.Call(type=kind, **fields))
    assert isinstance(reply, ev.Reply)
    return reply


def test_an_operator_reserves_what_is_offered_and_rescinds_just_enough(bench: Any) -> None:
    wire, agent_id = bench.agent()
    _, other_id = bench.agent("a2")
    stream, _ = bench.framework(roles=("web",), capabilities=MULTI)
    bench.run(1.0)
    assert len(bench.master.offers) == 2
    reply = operate(
        bench, "RESERVE_RESOURCES", agent_id=AgentID(agent_id), resources=reserved("cpus:1")
    )
    assert (reply.status, reply.body) == (202, "")
    assert len(bench.heard(stream, "RESCIND")) == 1
    assert [item.operation.type for item in asked(bench, wire)] == ["RESERVE"]
    assert len(bench.master.agents[other_id].offers) == 1
    reply = operate(
        bench, "UNRESERVE_RESOURCES", agent_id=AgentID(agent_id), resources=reserved("cpus:1")
    )
    assert reply.status == 202
    assert not bench.master.agents[agent_id].total.reserved()


def test_an_operator_makes_resizes_and_destroys_volumes(bench: Any) -> None:
    _, agent_id = bench.agent()
    agent = AgentID(agent_id)
    total = bench.master.agents[agent_id]
    (more,) = reserved("disk:20")
    steps: tuple[tuple[Any, dict[str, Any], int], ...] = (
        ("RESERVE_RESOURCES", {"resources": reserved("disk:100")}, 0),
        ("CREATE_VOLUMES", {"volumes": (volume(50),)}, 50),
        ("GROW_VOLUME", {"volume": volume(50), "addition": more}, 70),
        ("SHRINK_VOLUME", {"volume": volume(70), "subtract": Scalar(60.0)}, 10),
        ("DESTROY_VOLUMES", {"volumes": (volume(10),)}, 0),
    )
    for kind, body, size in steps:
        assert operate(bench, kind, agent_id=agent, **body).status == 202, kind
        assert total.total.persistent_volumes().scalar("disk") == size * 1000, kind


def test_operators_are_told_why_not(bench: Any) -> None:
    wire, agent_id, _, _ = bench.running()
    agent = AgentID(agent_id)
    reply = operate(bench, "RESERVE_RESOURCES", agent_id=AgentID("x"), resources=())
    assert (reply.status, reply.body) == (400, "No agent found with specified ID")
    reply = operate(bench, "RESERVE_RESOURCES", agent_id=agent, resources=reserved("cpus:4"))
    assert reply.status == 409
    assert "does not contain cpus:4" in reply.body
    reply = operate(
        bench, "CREATE_VOLUMES", agent_id=agent, volumes=(replace(volume(1), disk=None),)
    )
    assert reply.status == 400
    assert reply.body.startswith(
        f"Invalid CREATE operation on agent {agent_id} at slave(1)@10.0.0.1:5051 (a1): "
    )
    allocated = Resources.of(reserved("cpus:1")).allocate("web").to_wire()
    reply = operate(bench, "RESERVE_RESOURCES", agent_id=agent, resources=allocated)
    assert "must not have 'allocation_info'" in reply.body
    reply = operate(bench, "GROW_VOLUME", volume=volume(1), addition=volume(1))
    assert (reply.status, reply.body) == (400, "Expecting 'agent_id' to be present")
    bench.feed(ev.AgentStreamClosed(wire))
    reply = operate(bench, "RESERVE_RESOURCES", agent_id=agent, resources=reserved("cpus:1"))
    assert reply.status == 409


def test_an_operator_moves_a_reservation_by_naming_its_source(bench: Any) -> None:
    _, agent_id = bench.agent()
    agent = AgentID(agent_id)
    operate(bench, "RESERVE_RESOURCES", agent_id=agent, resources=reserved("cpus:2", "a"))
    reply = operate(
        bench,
        "RESERVE_RESOURCES",
        agent_id=agent,
        source=reserved("cpus:2", "a"),
        resources=reserved("cpus:2", "b"),
    )
    assert reply.status == 202
    assert bench.master.agents[agent_id].total.reserved("b").scalar("cpus") == 2000
    reply = operate(
        bench,
        "RESERVE_RESOURCES",
        agent_id=agent,
        source=reserved("cpus:2", "b"),
        resources=reserved("cpus:1", "c"),
    )
    assert reply.status == 400
