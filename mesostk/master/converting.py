"""Operations that turn resources of an agent into others, and what becomes of them.

::

    asked ─▶ booked: the agent's total is changed at once ─▶ APPLY_OPERATION ─▶ PENDING
                 │                                              │ OPERATION_UPDATE
                 │                     with an id: told, kept ◀─┤
                 │                     until acknowledged       └─▶ without: forgotten
                 └─ refused by the agent: it tells its total; what is still PENDING is booked again

Nothing of this is saved here: agents keep their reservations, volumes and the outcomes that nobody
acknowledged, and bring them to the next leader. Source: spec/mesos.md §2.5, §2.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesostk.master.state import Agent, Framework, OperationRecord
from mesostk.resources import conversions
from mesostk.resources.conversions import Conversion
from mesostk.resources.kinds import with_format
from mesostk.resources.resources import Resources
from mesostk.wire import link, scheduler
from mesostk.wire.mesos import (
    UUID,
    AgentID,
    AllocationInfo,
    FrameworkID,
    OfferOperation,
    Operation,
    OperationID,
    OperationState,
    OperationStatus,
    Resource,
)

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: After these an operation changes no more.
TERMINAL = frozenset(
    {
        "OPERATION_FINISHED",
        "OPERATION_FAILED",
        "OPERATION_ERROR",
        "OPERATION_DROPPED",
        "OPERATION_GONE_BY_OPERATOR",
    }
)


# -- their form ---------------------------------------------------------------------------------


def completed(operation: OfferOperation, role: str) -> OfferOperation:
    """In the POST format, allocated to `role` where nothing is said."""

    def change(resource: Resource) -> Resource:
        resource = with_format(resource, "POST")
        if resource.allocation_info is not None:
            return resource
        return replace(resource, allocation_info=AllocationInfo(role=role))

    return _changed(operation, change)


def for_agent(operation: OfferOperation) -> OfferOperation:
    """In the POST format, without allocation: for whom it is, is no matter of the agent's."""
    return _changed(
        operation, lambda resource: replace(with_format(resource, "POST"), allocation_info=None)
    )


def _changed(operation: OfferOperation, change: conversions.Change) -> OfferOperation:
    return conversions.map_resources(operation, change)


# -- booking ------------------------------------------------------------------------------------


def book(
    master: Master,
    agent: Agent,
    framework: Framework | None,
    operation: OfferOperation,
    conversion: Conversion,
) -> None:
    """The agent has other resources from now on; it is told to make it so.

    What `conversion` consumes (no allocation roles) is free on the agent.
    """
    convert(master, agent, conversion)
    uuid = UUID(master.rng.getrandbits(128).to_bytes(16, "big"))
    status = OperationStatus(
        operation_id=operation.id, state="OPERATION_PENDING", agent_id=AgentID(agent.id)
    )
    info = for_agent(operation)
    framework_id = None if framework is None else FrameworkID(framework.id)
    wire = Operation(
        framework_id=framework_id,
        agent_id=AgentID(agent.id),
        info=info,
        latest_status=status,
        statuses=(status,),
        uuid=uuid,
    )
    add(master, agent, wire)
    count(master, info, "total")
    master.note(
        "Applying operation",
        operation=info.type,
        agent=agent.id,
        framework=None if framework is None else framework.id,
        converted=conversion.converted,
    )
    if agent.stream is not None:
        message = link.ApplyOperation(
            framework_id=framework_id, operation=info, operation_uuid=uuid
        )
        master.send_agent(agent.stream, message)


def convert(master: Master, agent: Agent, conversion: Conversion) -> None:
    """Change total and free; quantities by name stay what they were."""
    before = agent.total
    agent.total = agent.total - conversion.consumed + conversion.converted
    if agent.is_overcommitted:
        master.allocator.recompute(agent)
    else:
        agent.free = agent.free - conversion.consumed + conversion.converted
    master.allocator.count_change(before, agent.total)


def rebooked(agent: Agent, total: Resources) -> Resources:
    """`total`, which the agent told, after what it was asked and has not answered yet."""
    for record in agent.operations.values():
        if record.is_pending:
            after = conversions.apply(total, record.wire.info)
            total = total if isinstance(after, str) else after
    return total


def add(master: Master, agent: Agent, wire: Operation) -> None:
    record = OperationRecord(wire)
    agent.operations[wire.uuid.value] = record
    framework = _framework(master, record)
    if framework is not None and record.operation_id is not None:
        framework.operations[record.operation_id] = record


def claim(master: Master, framework: Framework) -> None:
    """A framework became known: agents may have brought outcomes for it before."""
    for agent in master.agents.values():
        for record in agent.operations.values():
            if record.operation_id is not None and _framework(master, record) is framework:
                framework.operations[record.operation_id] = record


def remove(master: Master, agent: Agent, record: OperationRecord) -> None:
    del agent.operations[record.wire.uuid.value]
    framework = _framework(master, record)
    if framework is not None and record.operation_id is not None:
        framework.operations.pop(record.operation_id, None)
    if agent.drain_info is not None and not agent.operations:
        master.maybe_drained[agent.id] = None


def _framework(master: Master, record: OperationRecord) -> Framework | None:
    owner = record.wire.framework_id
    return None if owner is None else master.frameworks.get(owner.value)


def count(master: Master, operation: OfferOperation, what: str) -> None:
    """Metrics: `what` is `total` or the end of a state's name."""
    for name in ("", f"{str(operation.type).lower()}/"):
        master.counters[f"operations/{name}{what}"] += 1


# -- what agents tell ---------------------------------------------------------------------------


def updated(master: Master, _now: float, agent: Agent, message: link.OperationUpdate) -> None:
    """The outcome of an operation; an unknown one was acknowledged, or nobody is left to hear."""
    master.counters["messages_operation_status_update"] += 1
    status = message.status
    record = agent.operations.get(message.operation_uuid.value)
    if record is None:
        master.counters["invalid_operation_status_updates"] += 1
        _acknowledge(master, agent, message.operation_uuid, status.uuid)
        return
    master.counters["valid_operation_status_updates"] += 1
    before = record.wire
    if before.latest_status.state != status.state:
        count(master, before.info, status.state.removeprefix("OPERATION_").lower())
    if before.latest_status != status:
        record.wire = replace(before, latest_status=status, statuses=(*before.statuses, status))
    framework = _framework(master, record)
    if framework is not None and status.operation_id is not None:
        tell(master, framework, status)
    if framework is None:
        _acknowledge(master, agent, message.operation_uuid, status.uuid)
    if status.state in TERMINAL and (status.uuid is None or framework is None):
        remove(master, agent, record)


def _acknowledge(master: Master, agent: Agent, uuid: UUID, status_uuid: UUID | None) -> None:
    if status_uuid is not None and agent.stream is not None:
        heard = link.AcknowledgeOperation(operation_uuid=uuid, status_uuid=status_uuid)
        master.send_agent(agent.stream, heard)


def tell(master: Master, framework: Framework, status: OperationStatus) -> None:
    update = scheduler.UpdateOperationStatus(status=status)
    master.tell(
        framework,
        scheduler.Event(type="UPDATE_OPERATION_STATUS", update_operation_status=update),
    )


def take(master: Master, agent: Agent, brought: tuple[Operation, ...]) -> None:
    """The agent is back: what it does not bring was never applied, or is done with."""
    known = {wire.uuid.value: wire for wire in brought}
    for uuid, record in list(agent.operations.items()):
        if uuid not in known:
            pending = record.is_pending
            remove(master, agent, record)
            if pending:
                why = "The agent came back without it"
                _end(master, agent, record, "OPERATION_DROPPED", why)
    for uuid, wire in known.items():
        if uuid not in agent.operations:
            add(master, agent, replace(wire, agent_id=AgentID(agent.id)))


def end_all(master: Master, agent: Agent, state: OperationState, why: str) -> None:
    """The agent leaves; frameworks that asked for feedback hear `state`."""
    for record in list(agent.operations.values()):
        remove(master, agent, record)
        _end(master, agent, record, state, why)


def _end(
    master: Master, agent: Agent, record: OperationRecord, state: OperationState, why: str
) -> None:
    count(master, record.wire.info, state.removeprefix("OPERATION_").lower())
    framework = _framework(master, record)
    if framework is not None and record.wire.info.id is not None:
        status = OperationStatus(
            operation_id=record.wire.info.id, state=state, message=why, agent_id=AgentID(agent.id)
        )
        tell(master, framework, status)


def forget_framework(master: Master, framework: Framework) -> None:
    """The framework is removed; agents forget with its ShutdownFramework."""
    for agent_id in agents_of(master, framework):
        agent = master.agents[agent_id]
        for record in list(agent.operations.values()):
            owner = record.wire.framework_id
            if owner is not None and owner.value == framework.id:
                remove(master, agent, record)


def agents_of(master: Master, framework: Framework) -> set[str]:
    """Agents that keep outcomes for the framework."""
    asked = (record.wire.agent_id for record in framework.operations.values())
    return {agent.value for agent in asked if agent is not None and agent.value in master.agents}


# -- what frameworks ask ------------------------------------------------------------------------


def acknowledged(
    master: Master,
    _now: float,
    framework: Framework,
    call: scheduler.AcknowledgeOperationStatus,
) -> None:
    """ACKNOWLEDGE_OPERATION_STATUS: to the agent; after the last status it is forgotten."""
    master.counters["messages_operation_status_update_acknowledgement"] += 1
    record = framework.operations.get(call.operation_id.value)
    agent = None if call.agent_id is None else master.agents.get(call.agent_id.value)
    uuid = None if record is None else record.wire.latest_status.uuid
    if (
        record is None
        or agent is None
        or agent.stream is None
        or uuid != UUID(call.uuid)
        or record.wire.uuid.value not in agent.operations
    ):
        master.counters["invalid_operation_status_update_acknowledgements"] += 1
        return
    master.counters["valid_operation_status_update_acknowledgements"] += 1
    _acknowledge(master, agent, record.wire.uuid, uuid)
    if record.wire.latest_status.state in TERMINAL:
        remove(master, agent, record)


def reconcile(
    master: Master, _now: float, framework: Framework, call: scheduler.ReconcileOperations
) -> None:
    """RECONCILE_OPERATIONS: about those named, or all of the framework's if none is."""
    master.counters["messages_reconcile_operations"] += 1
    if not call.operations:
        for record in list(framework.operations.values()):
            tell(master, framework, replace(record.wire.latest_status, uuid=None))
        return
    for asked in call.operations:
        known = framework.operations.get(asked.operation_id.value)
        agent_id = None if asked.agent_id is None else asked.agent_id.value
        if known is not None:
            tell(master, framework, replace(known.wire.latest_status, uuid=None))
        else:
            _tell_unknown(master, framework, asked.operation_id, agent_id)


def _tell_unknown(
    master: Master, framework: Framework, operation_id: OperationID, agent_id: str | None
) -> None:
    """By where it may be; without the agent nothing is known while any may still come back."""
    state: OperationState = "OPERATION_UNKNOWN"
    if agent_id in master.recovered or (agent_id is None and master.recovered):
        state = "OPERATION_RECOVERING"
    elif agent_id in master.registry.unreachable:
        state = "OPERATION_UNREACHABLE"
    elif agent_id in master.registry.gone:
        state = "OPERATION_GONE_BY_OPERATOR"
    status = OperationStatus(
        operation_id=operation_id,
        state=state,
        agent_id=None if agent_id is None else AgentID(agent_id),
    )
    tell(master, framework, status)
