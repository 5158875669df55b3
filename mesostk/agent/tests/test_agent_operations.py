"""Reservations and volumes on the agent: saved before answered, and there after a restart."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.agent import layout
from mesostk.agent.events import Connect, Launch, LeaderChanged, SendUp, VolumeMount
from mesostk.agent.tests.agent_bench import (
    MASTER,
    Bench,
    cpus,
    framework,
    of_type,
    one,
    registered,
    settings,
    task,
    updates,
)
from mesostk.base.core import Delete, Effect
from mesostk.wire.link import (
    AcknowledgeOperation,
    ApplyOperation,
    OperationUpdate,
    RunGroup,
    RunTask,
    ShutdownFramework,
    Subscribe,
    UpdateAgent,
)
from mesostk.wire.mesos import (
    UUID,
    AgentID,
    Create,
    Destroy,
    DiskInfo,
    DiskSource,
    DiskSourceRoot,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    OfferOperation,
    OperationID,
    Persistence,
    ReservationInfo,
    Reserve,
    Resource,
    Scalar,
    TaskGroupInfo,
    Unreserve,
    Volume,
)

DISK = Resource(name="disk", type="SCALAR", scalar=Scalar(100.0))
DYNAMIC = (ReservationInfo(type="DYNAMIC", role="eng/web"),)


def reserved(resource: Resource) -> Resource:
    return replace(resource, reservations=DYNAMIC)


def left() -> Resource:
    """What a volume of 10 leaves of the reserved disk."""
    return replace(reserved(DISK), scalar=Scalar(90.0))


def volume(size: float = 10.0, source: DiskSource | None = None) -> Resource:
    return replace(
        reserved(DISK),
        scalar=Scalar(size),
        disk=DiskInfo(
            persistence=Persistence(id="v1"),
            volume=Volume(mode="RW", container_path="data"),
            source=source,
        ),
    )


def operation(number: int, kind: Any, id: str | None = None, **body: Any) -> ApplyOperation:
    return ApplyOperation(
        framework_id=FrameworkID("F"),
        operation=OfferOperation(type=kind, id=None if id is None else OperationID(id), **body),
        operation_uuid=UUID(bytes([number]) * 16),
    )


RESERVE = operation(1, "RESERVE", "o1", reserve=Reserve(resources=(reserved(DISK),)))
CREATE = operation(2, "CREATE", create=Create(volumes=(volume(),)))
DESTROY = operation(3, "DESTROY", destroy=Destroy(volumes=(volume(),)))
PLACE = "volumes/roles/eng web/v1"


def up(effects: list[Effect], kind: type[Any]) -> list[Any]:
    return [item.message for item in of_type(effects, SendUp) if isinstance(item.message, kind)]


def subscribed(bench: Bench) -> Subscribe:
    """Register, and what the agent said of itself."""
    bench.register()
    return of_type(bench.effects, Connect)[-1].subscribe


def outcomes(effects: list[Effect]) -> list[tuple[str, str | None]]:
    """State and reason of every update."""
    return [(update.status.state, update.status.reason) for update in updates(effects)]


@pytest.fixture
def bench() -> Bench:
    bench = Bench(settings(resources=(cpus(8.0), DISK)))
    bench.register()
    return bench


def test_an_operation_is_answered_when_it_is_on_disk(bench: Bench) -> None:
    bench.hold_disk = True
    assert not up(bench.down(RESERVE), OperationUpdate)
    assert not bench.core.state.total.reserved()
    (told,) = up(bench.release_disk(), OperationUpdate)
    assert (told.status.state, told.status.operation_id) == (
        "OPERATION_FINISHED",
        OperationID("o1"),
    )
    assert told.status.uuid is not None
    assert told.status.converted_resources == (reserved(DISK),)
    assert layout.RESOURCES in bench.disk.files


def test_what_follows_an_operation_waits_for_it(bench: Bench) -> None:
    bench.hold_disk = True
    user = replace(task(), resources=(cpus(1.0), volume()))
    for message in (RESERVE, CREATE, RunTask(framework=framework(), task=user)):
        assert not of_type(bench.down(message), Launch)
    effects = []
    for _ in range(3):
        effects += bench.release_disk()
    assert one(effects, Launch).spec.volumes == (
        VolumeMount(source=f"/w/{PLACE}", container_path="data"),
    )
    assert bench.disk.volumes == {PLACE}


def test_a_task_with_a_volume_that_is_not_here_is_refused(bench: Bench) -> None:
    user = replace(task(), resources=(cpus(1.0), volume()))
    effects = bench.down(RunTask(framework=framework("F", "PARTITION_AWARE"), task=user))
    assert outcomes(effects) == [("TASK_DROPPED", "REASON_RESOURCES_UNKNOWN")]
    bench.down(RESERVE)
    bench.down(CREATE)
    disk = DiskInfo(
        persistence=Persistence(id="v1"), volume=Volume(mode="RW", container_path="/etc")
    )
    outside = replace(task("t2"), resources=(replace(volume(), disk=disk),))
    effects = bench.down(RunTask(framework=framework("F", "PARTITION_AWARE"), task=outside))
    assert outcomes(effects) == [("TASK_DROPPED", "REASON_INVALID_OFFERS")]


def test_what_a_group_wants_and_is_not_reserved_here_drops_the_whole_group(bench: Bench) -> None:
    # More than there is of it, too: that it is unknown comes first.
    wants = replace(task("a"), resources=(replace(reserved(DISK), scalar=Scalar(1000.0)),))
    executor = ExecutorInfo(type="DEFAULT", executor_id=ExecutorID("e"))
    group = TaskGroupInfo(tasks=(wants, task("b")))
    effects = bench.down(RunGroup(framework=framework(), executor=executor, task_group=group))
    assert not of_type(effects, Launch)
    assert outcomes(effects) == [("TASK_LOST", "REASON_RESOURCES_UNKNOWN")] * 2


def test_an_operation_that_does_not_fit_is_an_error_with_the_total(bench: Bench) -> None:
    effects = bench.down(CREATE)
    (told,) = up(effects, OperationUpdate)
    assert told.status.state == "OPERATION_ERROR"
    assert "does not contain" in told.status.message
    assert told.status.uuid is None
    (total,) = up(effects, UpdateAgent)
    assert total.resources == bench.core.state.total.to_wire()


def test_a_full_disk_fails_the_operation_and_changes_nothing(bench: Bench) -> None:
    bench.is_full = True
    effects = bench.down(RESERVE)
    (told,) = up(effects, OperationUpdate)
    assert told.status.state == "OPERATION_FAILED"
    sent = [effect.message for effect in of_type(effects, SendUp)]
    # Else the master, which waits for the operation, would add it to the total.
    assert [type(message) for message in sent] == [OperationUpdate, UpdateAgent]
    assert not bench.core.state.total.reserved()
    bench.is_full = False
    (told,) = up(bench.down(replace(RESERVE, operation_uuid=UUID(b"9" * 16))), OperationUpdate)
    assert told.status.state == "OPERATION_FINISHED"


def test_the_outcome_is_told_again_until_it_is_acknowledged(bench: Bench) -> None:
    (told,) = up(bench.down(RESERVE), OperationUpdate)
    assert up(bench.advance(10.0), OperationUpdate) == [told]
    assert up(bench.advance(19.0), OperationUpdate) == []
    assert up(bench.advance(1.0), OperationUpdate) == [told]
    wrong = AcknowledgeOperation(operation_uuid=told.operation_uuid, status_uuid=UUID(b"x" * 16))
    bench.down(wrong)
    assert up(bench.advance(40.0), OperationUpdate) == [told]
    bench.down(replace(wrong, status_uuid=told.status.uuid))
    assert up(bench.advance(1000.0), OperationUpdate) == []
    bench.start({})
    assert subscribed(bench).operations == ()


def test_a_restart_keeps_reservations_volumes_and_outcomes(bench: Bench) -> None:
    bench.down(RESERVE)
    bench.down(CREATE)
    total = bench.core.state.total
    bench.start({})
    subscription = subscribed(bench)
    assert bench.core.state.total == total
    assert {item.name for item in subscription.checkpointed_resources} == {"disk"}
    (kept,) = subscription.operations
    assert kept.latest_status.state == "OPERATION_FINISHED"
    assert up(bench.advance(700.0), OperationUpdate)


def test_outcomes_of_a_former_agent_id_are_never_told_again(bench: Bench) -> None:
    bench.down(RESERVE)
    bench.disk.apply(Delete(layout.LATEST))
    bench.start({})
    bench.feed(LeaderChanged(MASTER))
    bench.advance(61.0)
    bench.down(replace(registered(), agent_id=AgentID("another")))
    bench.start({})
    assert bench.core.state.agent_id == AgentID("another")
    assert not bench.core.state.operations
    assert bench.core.state.total.reserved(), "reservations stay"


def test_an_applied_operation_that_comes_again_is_only_answered(bench: Bench) -> None:
    (told,) = up(bench.down(RESERVE), OperationUpdate)
    assert up(bench.down(RESERVE), OperationUpdate) == [told]


def test_a_destroyed_volume_is_removed_after_that_is_on_disk(bench: Bench) -> None:
    for message in (RESERVE, CREATE, DESTROY):
        bench.down(message)
    assert bench.disk.volumes == set()
    assert not bench.core.state.total.persistent_volumes()
    # Should the removal have been cut off, the next start does it.
    bench.disk.volumes.add(PLACE)
    bench.start({})
    assert bench.disk.volumes == set()


def test_a_start_makes_the_directory_that_a_crash_left_out(bench: Bench) -> None:
    bench.down(RESERVE)
    bench.down(CREATE)
    bench.disk.volumes.clear()
    bench.start({})
    assert bench.disk.volumes == {PLACE}
    # Only what was being made: a disk that is not mounted any more must not look like an empty one.
    bench.register()
    bench.down(replace(RESERVE, operation_uuid=UUID(b"8" * 16)))
    bench.down(operation(7, "UNRESERVE", unreserve=Unreserve(resources=(left(),))))
    bench.disk.volumes.clear()
    bench.start({})
    assert bench.disk.volumes == set()


def test_a_framework_that_ends_takes_its_outcomes_along(bench: Bench) -> None:
    bench.down(RESERVE)
    bench.down(ShutdownFramework(framework_id=FrameworkID("F")))
    assert up(bench.advance(1000.0), OperationUpdate) == []
    assert bench.core.state.operations == {}


@pytest.mark.parametrize(
    ("source", "place"),
    [
        (DiskSource(type="PATH", path=DiskSourceRoot(root="/mnt/d")), f"/mnt/d/{PLACE}"),
        (DiskSource(type="MOUNT", mount=DiskSourceRoot(root="/mnt/m")), "/mnt/m"),
    ],
)
def test_volumes_lie_on_the_disk_that_they_are_made_of(source: DiskSource, place: str) -> None:
    disk = replace(DISK, disk=DiskInfo(source=source))
    bench = Bench(settings(resources=(cpus(8.0), disk)))
    bench.register()
    bench.down(operation(1, "RESERVE", reserve=Reserve(resources=(reserved(disk),))))
    user = volume(100.0, source)
    bench.down(operation(2, "CREATE", create=Create(volumes=(user,))))
    effects = bench.down(
        RunTask(framework=framework(), task=replace(task(), resources=(cpus(1.0), user)))
    )
    assert [item.source for item in one(effects, Launch).spec.volumes] == [place]
