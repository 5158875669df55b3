"""Operations on what this agent has: reservations, and persistent volumes with their directories.

::

    APPLY_OPERATION ─▶ does not fit? ─▶ OPERATION_UPDATE ERROR
                    └▶ saving ─▶ saved: the total is the new one ─▶ OPERATION_UPDATE FINISHED,
                         │           kept and repeated until ACK_OPERATION if it has an id
                         └▶ the disk refuses: FAILED, the total is that of before

While one is being saved, what the master says further waits (`State.held`): a task that uses a
volume comes right behind the operation that creates it. The master changed its own books already,
so that whenever an operation does not succeed, or its outcome cannot reach the master that asked,
the agent tells its whole total (UPDATE_AGENT).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from mesostk.agent import layout
from mesostk.agent.events import (
    DiskOp,
    MakeVolume,
    RemoveVolume,
    ResourcesRecord,
    SendUp,
    VolumeMount,
)
from mesostk.agent.fitting import why_not_fit
from mesostk.agent.state import State
from mesostk.agent.state import Timer as TimerBase
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Effect, Put, note
from mesostk.errors import WireError
from mesostk.resources import conversions
from mesostk.resources.kinds import Kind, kind_of
from mesostk.resources.resources import Resources
from mesostk.wire import link
from mesostk.wire.mesos import (
    UUID,
    Operation,
    OperationState,
    OperationStatus,
    Resource,
    StatusReason,
)

#: Between two tellings of an outcome that is not acknowledged; doubled each time (spec §8.5).
RETRY_MIN_S = 10.0
RETRY_MAX_S = 600.0


class Applied(WaitBase, frozen=True):
    """Resources after an operation are on disk, its volumes made or removed."""

    message: link.ApplyOperation
    link: int | None
    resources: Resources
    operation: Operation


class Acknowledged(WaitBase, frozen=True):
    """An outcome is forgotten on disk, too."""


class Resend(TimerBase, frozen=True):
    """The outcome of operation `uuid` may not have been heard."""

    uuid: bytes
    retry_s: float


# -- applying -----------------------------------------------------------------------------------


def apply(state: State, _now: float, message: link.ApplyOperation) -> list[Effect]:
    """Apply an operation to the agent's resources and make that durable, or say why not."""
    uuid = message.operation_uuid.value
    if uuid in state.operations:
        return _tell(state, state.operations[uuid])
    try:
        after = conversions.apply(state.total, message.operation)
    except WireError as error:
        after = str(error)
    if isinstance(after, str):
        return _refuse(state, message, "OPERATION_ERROR", after)
    files = _volume_ops(state.total, after)
    if isinstance(files, str):
        return _refuse(state, message, "OPERATION_ERROR", files)
    made, removed = files
    status = _status(state, message, "OPERATION_FINISHED", None)
    conversion = conversions.of(message.operation)
    assert not isinstance(conversion, str), "it was just applied"
    status = replace(status, converted_resources=conversion.converted.to_wire())
    operation = _operation(state, message, status)
    state.applying = True
    waiting = Applied(message, state.link, after, operation)
    operations = list(state.operations.values())
    if status.uuid is not None:
        operations.append(operation)
    record = _record(after, operations, made, removed)
    ops: list[DiskOp] = [Put(layout.RESOURCES, layout.frame(record)), *made, *removed]
    return [
        note("Applying", operation=message.operation.type, uuid=uuid.hex()),
        state.save(waiting, *ops, sync=True),
    ]


def applied(state: State, now: float, what: Applied, error: str | None) -> list[Effect]:
    """It is done for good, or the disk did not take it and nothing has changed."""
    state.applying = False
    if error is not None:
        # Part of it may be on disk; what is in memory is put back there with the next change.
        text = f"the agent's resources cannot be recorded: {error}"
        again = Put(layout.RESOURCES, layout.frame(_current(state)))
        return [
            *_refuse(state, what.message, "OPERATION_FAILED", text),
            state.save(Acknowledged(), again, sync=True),
        ]
    state.total = what.resources
    if what.operation.latest_status.uuid is not None:
        state.operations[what.operation.uuid.value] = what.operation
    effects = _tell(state, what.operation)
    _arm(state, now, what.operation)
    if what.link != state.link:
        effects += _tell_total(state)
    return effects


def _refuse(
    state: State, message: link.ApplyOperation, outcome: OperationState, why: str
) -> list[Effect]:
    """Nothing changed: the master, which thought it would, is told what there is.

    The outcome goes first: to a total the master adds what it still waits for, this among it.
    """
    # Not kept over a restart, so that there is nothing to acknowledge.
    status = replace(_status(state, message, outcome, why), uuid=None)
    return [
        note("Refusing", level="WARNING", operation=message.operation.type, why=why),
        *_tell(state, _operation(state, message, status)),
        *_tell_total(state),
    ]


def _status(
    state: State, message: link.ApplyOperation, outcome: OperationState, why: str | None
) -> OperationStatus:
    asked = message.operation.id
    return OperationStatus(
        operation_id=asked,
        state=outcome,
        message=why,
        agent_id=state.agent_id,
        uuid=UUID(state.new_uuid()) if asked is not None else None,
    )


def _operation(state: State, message: link.ApplyOperation, status: OperationStatus) -> Operation:
    return Operation(
        framework_id=message.framework_id,
        agent_id=state.agent_id,
        info=message.operation,
        latest_status=status,
        statuses=(status,),
        uuid=message.operation_uuid,
    )


# -- telling ------------------------------------------------------------------------------------


def _tell(state: State, operation: Operation) -> list[Effect]:
    if state.link is None or not state.connected:
        return []
    update = link.OperationUpdate(
        framework_id=operation.framework_id,
        operation_uuid=operation.uuid,
        status=operation.latest_status,
    )
    return [SendUp(state.link, update)]


def _tell_total(state: State) -> list[Effect]:
    if state.link is None or not state.connected:
        return []
    return [SendUp(state.link, link.UpdateAgent(resources=state.total.to_wire()))]


def _arm(state: State, now: float, operation: Operation, retry_s: float = RETRY_MIN_S) -> None:
    if operation.latest_status.uuid is not None:
        state.call_at(now + retry_s, Resend(operation.uuid.value, retry_s))


def resend(state: State, now: float, timer: Resend) -> list[Effect]:
    """Tell an outcome again that nobody acknowledged."""
    operation = state.operations.get(timer.uuid)
    if operation is None:
        return []
    _arm(state, now, operation, min(2 * timer.retry_s, RETRY_MAX_S))
    return _tell(state, operation)


def send_all(state: State) -> list[Effect]:
    """On a new link: every outcome that is not acknowledged."""
    return [effect for operation in state.operations.values() for effect in _tell(state, operation)]


def acknowledged(state: State, _now: float, message: link.AcknowledgeOperation) -> list[Effect]:
    """Forget an outcome that was heard; another status than that told last is not meant."""
    operation = state.operations.get(message.operation_uuid.value)
    if operation is None or operation.latest_status.uuid != message.status_uuid:
        return []
    del state.operations[message.operation_uuid.value]
    return [_save(state)]


def forget_framework(state: State, framework_id: str) -> list[Effect]:
    """Nobody is left to hear of the framework's operations."""
    gone = [
        uuid
        for uuid, operation in state.operations.items()
        if operation.framework_id is not None and operation.framework_id.value == framework_id
    ]
    for uuid in gone:
        del state.operations[uuid]
    return [_save(state)] if gone else []


def recovered(state: State, now: float) -> None:
    """Outcomes of a former life are told until they are acknowledged."""
    for operation in state.operations.values():
        _arm(state, now, operation)


# -- disk ---------------------------------------------------------------------------------------


def _save(state: State) -> Effect:
    # Synced, although to lose this would do no harm: half written it would cost all reservations.
    record = Put(layout.RESOURCES, layout.frame(_current(state)))
    return state.save(Acknowledged(), record, sync=True)


def _current(state: State) -> ResourcesRecord:
    return _record(state.total, state.operations.values())


def _record(
    total: Resources,
    operations: Iterable[Operation],
    making: Iterable[MakeVolume] = (),
    removing: Iterable[RemoveVolume] = (),
) -> ResourcesRecord:
    return ResourcesRecord(
        resources=total.checkpointable().to_wire(),
        operations=tuple(operations),
        making=tuple(making),
        removing=tuple(removing),
    )


def _volume_ops(
    before: Resources, after: Resources
) -> tuple[list[MakeVolume], list[RemoveVolume]] | str:
    """What is to be made and removed once `after` is recorded."""
    was, will_be = _places(before), _places(after)
    for place in (was, will_be):
        if isinstance(place, str):
            return place
    assert not isinstance(was, str)
    assert not isinstance(will_be, str)
    made = [MakeVolume(path) for path in will_be if path not in was and not will_be[path]]
    removed = [RemoveVolume(path, is_mount=was[path]) for path in was if path not in will_be]
    return made, removed


def _places(resources: Resources) -> dict[str, bool] | str:
    """Directories of the volumes, and whether each is a mounted disk; or what cannot be found."""
    places: dict[str, bool] = {}
    for kind in dict(resources.persistent_volumes().items()):
        path = volume_path(kind)
        if path is None:
            return f"the disk of volume '{kind.persistence_id}' has no root directory"
        disk = kind.disk
        source = None if disk is None else disk.source
        places[path] = source is not None and source.type == "MOUNT"
    return places


def volume_path(kind: Kind) -> str | None:
    """Where the files of a persistent volume are: relative to work_dir, or absolute if the disk is
    elsewhere. None for a disk whose root is not known."""
    assert kind.disk is not None
    assert kind.persistence_id is not None
    source = kind.disk.source
    place = layout.volume(kind.role, kind.persistence_id)
    if source is None:
        return place
    if source.type == "PATH":
        root = None if source.path is None else source.path.root
        return None if root is None else f"{root.rstrip('/')}/{place}"
    return None if source.mount is None else source.mount.root


# -- volumes of tasks ---------------------------------------------------------------------------


def why_not_granted(state: State, wanted: Iterable[Resource]) -> tuple[StatusReason, str] | None:
    """Why a task cannot have the resources that it wants of this agent; None if it can.

    Reservations and volumes come first, as in the original: what is missing of them is told by a
    reason of its own (spec §8.4). Raises WireError for what is no quantity.
    """
    wanted = tuple(wanted)
    kept = Resources.of(wanted).unallocate().checkpointable()
    if not state.total.contains(kept):
        return ("REASON_RESOURCES_UNKNOWN", f"{kept} is not reserved or created on this agent")
    why = why_not_fit(state.settings.resources, state.in_use(), wanted) or _why_not_mounted(wanted)
    return ("REASON_INVALID_OFFERS", why) if why is not None else None


def _why_not_mounted(wanted: Iterable[Resource]) -> str | None:
    for mount in mounts_of(wanted, ""):
        path = mount.container_path
        if path.startswith("/") or ".." in path.split("/") or path in {"", "."}:
            return f"container_path '{path}' of a volume must be relative and below the sandbox"
    return None


def mounts_of(resources: Iterable[Resource], work_dir: str) -> tuple[VolumeMount, ...]:
    """The persistent volumes among `resources`, once each."""
    found: dict[VolumeMount, None] = {}
    for resource in resources:
        disk = resource.disk
        if disk is None or disk.persistence is None or disk.volume is None:
            continue
        path = volume_path(kind_of(resource, None))
        if path is None:
            continue
        mount = VolumeMount(
            source=path if path.startswith("/") else f"{work_dir}/{path}",
            container_path=disk.volume.container_path,
            read_only=disk.volume.mode == "RO",
        )
        found[mount] = None
    return tuple(found)
