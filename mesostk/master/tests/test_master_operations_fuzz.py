"""Whatever is asked of an agent's resources, the core answers and its books stay right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesostk.master import events as ev
from mesostk.master.tests.test_master_operations import MULTI, reserved, volume
from mesostk.wire import operator
from mesostk.wire.mesos import (
    AgentID,
    AllocationInfo,
    Create,
    Destroy,
    DiskInfo,
    GrowVolume,
    OfferOperation,
    OperationID,
    Persistence,
    Range,
    Ranges,
    ReservationInfo,
    Reserve,
    Resource,
    Scalar,
    Set,
    SharedInfo,
    ShrinkVolume,
    Unreserve,
    Volume,
)

numbers = st.one_of(
    st.sampled_from([0.0, -1.0, 1.0, 50.0, 1e300, float("nan"), float("inf"), -0.0, 0.0004]),
    st.floats(),
)
names = st.sampled_from(["cpus", "mem", "disk", "ports", "", "x", "a/b", "..", "*", "web", "-"])
reservations = st.builds(
    ReservationInfo,
    type=st.sampled_from([None, "STATIC", "DYNAMIC", "UNKNOWN"]),
    role=st.one_of(st.none(), names),
    principal=st.one_of(st.none(), names),
)
disks = st.builds(
    DiskInfo,
    persistence=st.one_of(st.none(), st.builds(Persistence, id=names)),
    volume=st.one_of(
        st.none(),
        st.builds(Volume, mode=st.sampled_from(["RW", "RO"]), container_path=names),
    ),
)
resources = st.one_of(
    st.sampled_from([*reserved("cpus:1;mem:10;disk:50"), volume(50), volume(10, "v2")]),
    st.builds(
        Resource,
        name=names,
        type=st.sampled_from(["SCALAR", "RANGES", "SET"]),
        scalar=st.one_of(st.none(), st.builds(Scalar, numbers)),
        ranges=st.one_of(
            st.none(),
            st.builds(
                Ranges,
                range=st.lists(
                    st.builds(Range, begin=st.integers(-2, 40000), end=st.integers(-2, 40000)),
                    max_size=3,
                ).map(tuple),
            ),
        ),
        set=st.one_of(st.none(), st.builds(Set, item=st.lists(names, max_size=3).map(tuple))),
        role=st.one_of(st.none(), names),
        reservation=st.one_of(st.none(), reservations),
        reservations=st.lists(reservations, max_size=3).map(tuple),
        disk=st.one_of(st.none(), disks),
        shared=st.one_of(st.none(), st.just(SharedInfo())),
        allocation_info=st.one_of(st.none(), st.builds(AllocationInfo, role=names)),
    ),
)
many = st.lists(resources, max_size=3).map(tuple)
operations = st.builds(
    OfferOperation,
    type=st.sampled_from(
        ["RESERVE", "UNRESERVE", "CREATE", "DESTROY", "GROW_VOLUME", "SHRINK_VOLUME"]
    ),
    id=st.one_of(st.none(), st.builds(OperationID, names)),
    reserve=st.one_of(st.none(), st.builds(Reserve, source=many, resources=many)),
    unreserve=st.one_of(st.none(), st.builds(Unreserve, resources=many)),
    create=st.one_of(st.none(), st.builds(Create, volumes=many)),
    destroy=st.one_of(st.none(), st.builds(Destroy, volumes=many)),
    grow_volume=st.one_of(st.none(), st.builds(GrowVolume, volume=resources, addition=resources)),
    shrink_volume=st.one_of(
        st.none(), st.builds(ShrinkVolume, volume=resources, subtract=st.builds(Scalar, numbers))
    ),
)
quick = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quick
@given(asked=st.lists(operations, min_size=1, max_size=4).map(tuple))
def test_no_accept_breaks_the_books(make_bench: Any, asked: tuple[OfferOperation, ...]) -> None:
    bench = make_bench()
    _, agent_id = bench.agent()
    before = bench.master.agents[agent_id].total.quantities()
    stream, framework_id = bench.framework(roles=("web",), capabilities=MULTI)
    bench.accept(framework_id, bench.offers(stream), operations=asked)
    assert bench.master.agents[agent_id].total.quantities() == before


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_an_amount_that_is_none_is_refused(make_bench: Any, amount: float) -> None:
    bench = make_bench()
    bench.agent()
    stream, framework_id = bench.framework(roles=("web",), capabilities=MULTI)
    shrink = ShrinkVolume(volume=volume(50), subtract=Scalar(amount))
    operation = OfferOperation(type="SHRINK_VOLUME", id=OperationID("o"), shrink_volume=shrink)
    bench.accept(framework_id, bench.offers(stream), operations=(operation,))
    (event,) = bench.heard(stream, "UPDATE_OPERATION_STATUS")
    assert event.update_operation_status.status.state == "OPERATION_ERROR"


@quick
@given(many=many, one=resources, other=resources, number=numbers)
def test_no_operator_breaks_the_books(
    make_bench: Any, many: tuple[Resource, ...], one: Resource, other: Resource, number: float
) -> None:
    bench = make_bench()
    _, agent_id = bench.agent()
    agent = AgentID(agent_id)
    before = bench.master.agents[agent_id].total.quantities()
    calls = (
        operator.Call(
            type="RESERVE_RESOURCES",
            reserve_resources=operator.ReserveResources(
                agent_id=agent, resources=many, source=(one,)
            ),
        ),
        operator.Call(
            type="RESERVE_RESOURCES",
            reserve_resources=operator.ReserveResources(agent_id=agent, resources=many),
        ),
        operator.Call(
            type="CREATE_VOLUMES", create_volumes=operator.Volumes(agent_id=agent, volumes=many)
        ),
        operator.Call(
            type="GROW_VOLUME",
            grow_volume=operator.GrowVolume(agent_id=agent, volume=one, addition=other),
        ),
        operator.Call(
            type="SHRINK_VOLUME",
            shrink_volume=operator.ShrinkVolume(
                agent_id=agent, volume=one, subtract=Scalar(number)
            ),
        ),
        operator.Call(
            type="DESTROY_VOLUMES", destroy_volumes=operator.Volumes(agent_id=agent, volumes=many)
        ),
    )
    for call in calls:
        (reply,) = bench.operate(call)
        assert isinstance(reply, ev.Reply)
        assert reply.status in {202, 400, 409}
    assert bench.master.agents[agent_id].total.quantities() == before
