"""`mesos.v1.scheduler`: the calls and events of `POST /api/v1/scheduler`.

As in the original protobuf a call or event is one message whose `type` names the sub-message that
counts; the sub-message's field is the type in lower case.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesostk.wire.mesos import (
    AgentID,
    ExecutorID,
    Filters,
    FrameworkID,
    FrameworkInfo,
    InverseOffer,
    KillPolicy,
    MasterInfo,
    Message,
    Offer,
    OfferID,
    OfferOperation,
    OperationID,
    OperationStatus,
    Request,
    ResourceProviderID,
    TaskID,
    TaskStatus,
    shown,
)

CallType = Literal[
    "UNKNOWN",
    "SUBSCRIBE",
    "TEARDOWN",
    "ACCEPT",
    "DECLINE",
    "ACCEPT_INVERSE_OFFERS",
    "DECLINE_INVERSE_OFFERS",
    "REVIVE",
    "SUPPRESS",
    "KILL",
    "SHUTDOWN",
    "ACKNOWLEDGE",
    "ACKNOWLEDGE_OPERATION_STATUS",
    "RECONCILE",
    "RECONCILE_OPERATIONS",
    "MESSAGE",
    "REQUEST",
    "UPDATE_FRAMEWORK",
]

EventType = Literal[
    "UNKNOWN",
    "SUBSCRIBED",
    "OFFERS",
    "INVERSE_OFFERS",
    "RESCIND",
    "RESCIND_INVERSE_OFFER",
    "UPDATE",
    "UPDATE_OPERATION_STATUS",
    "MESSAGE",
    "FAILURE",
    "ERROR",
    "HEARTBEAT",
]


# -- offer constraints (FrameworkInfo side of the allocator) ------------------------------------


class TextValue(Message, frozen=True, kw_only=True, gc=False):
    """The whole text that a TEXT attribute is compared with."""

    value: str


class TextRegex(Message, frozen=True, kw_only=True, gc=False):
    """An RE2 expression that the whole text must match."""

    regex: str


class Empty(Message, frozen=True, kw_only=True, gc=False):
    """A message without fields; its presence is what counts."""


class Predicate(Message, frozen=True, kw_only=True):
    exists: Empty | None = None
    not_exists: Empty | None = None
    text_equals: TextValue | None = None
    text_not_equals: TextValue | None = None
    text_matches: TextRegex | None = None
    text_not_matches: TextRegex | None = None


class Selector(Message, frozen=True, kw_only=True, gc=False):
    pseudoattribute_type: Literal["UNKNOWN", "HOSTNAME", "REGION", "ZONE"] | None = None
    attribute_name: str | None = None


class AttributeConstraint(Message, frozen=True, kw_only=True):
    selector: Selector
    predicate: Predicate


class ConstraintGroup(Message, frozen=True, kw_only=True):
    attribute_constraints: tuple[AttributeConstraint, ...] = ()


class RoleConstraints(Message, frozen=True, kw_only=True):
    groups: tuple[ConstraintGroup, ...] = ()


class OfferConstraints(Message, frozen=True, kw_only=True):
    role_constraints: dict[str, RoleConstraints] = msgspec.field(default_factory=dict)


# -- calls --------------------------------------------------------------------------------------


class Subscribe(Message, frozen=True, kw_only=True):
    framework_info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()
    offer_constraints: OfferConstraints | None = None


class Accept(Message, frozen=True, kw_only=True):
    offer_ids: tuple[OfferID, ...] = ()
    operations: tuple[OfferOperation, ...] = ()
    filters: Filters | None = None


class Decline(Message, frozen=True, kw_only=True):
    offer_ids: tuple[OfferID, ...] = ()
    filters: Filters | None = None


class InverseOfferAnswer(Message, frozen=True, kw_only=True):
    """Body of both ACCEPT_INVERSE_OFFERS and DECLINE_INVERSE_OFFERS."""

    inverse_offer_ids: tuple[OfferID, ...] = ()
    filters: Filters | None = None


class Roles(Message, frozen=True, kw_only=True):
    """Body of REVIVE and SUPPRESS; empty means all roles."""

    roles: tuple[str, ...] = ()


class Kill(Message, frozen=True, kw_only=True):
    task_id: TaskID
    agent_id: AgentID | None = None
    kill_policy: KillPolicy | None = None


class Shutdown(Message, frozen=True, kw_only=True):
    executor_id: ExecutorID
    agent_id: AgentID


class Acknowledge(Message, frozen=True, kw_only=True):
    agent_id: AgentID
    task_id: TaskID
    uuid: bytes


class AcknowledgeOperationStatus(Message, frozen=True, kw_only=True):
    agent_id: AgentID | None = None
    resource_provider_id: ResourceProviderID | None = None
    uuid: bytes
    operation_id: OperationID


class ReconcileTask(Message, frozen=True, kw_only=True):
    task_id: TaskID
    agent_id: AgentID | None = None


class Reconcile(Message, frozen=True, kw_only=True):
    tasks: tuple[ReconcileTask, ...] = ()


class ReconcileOperation(Message, frozen=True, kw_only=True):
    operation_id: OperationID
    agent_id: AgentID | None = None
    resource_provider_id: ResourceProviderID | None = None


class ReconcileOperations(Message, frozen=True, kw_only=True):
    operations: tuple[ReconcileOperation, ...] = ()


class SchedulerMessage(Message, frozen=True, kw_only=True):
    agent_id: AgentID
    executor_id: ExecutorID
    data: bytes


class RequestResources(Message, frozen=True, kw_only=True):
    requests: tuple[Request, ...] = ()


class UpdateFramework(Message, frozen=True, kw_only=True):
    framework_info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()
    offer_constraints: OfferConstraints | None = None


class Call(Message, frozen=True, kw_only=True):
    """One scheduler call."""

    type: CallType | None = None
    framework_id: FrameworkID | None = None
    subscribe: Subscribe | None = None
    accept: Accept | None = None
    decline: Decline | None = None
    accept_inverse_offers: InverseOfferAnswer | None = None
    decline_inverse_offers: InverseOfferAnswer | None = None
    revive: Roles | None = None
    suppress: Roles | None = None
    kill: Kill | None = None
    shutdown: Shutdown | None = None
    acknowledge: Acknowledge | None = None
    acknowledge_operation_status: AcknowledgeOperationStatus | None = None
    reconcile: Reconcile | None = None
    reconcile_operations: ReconcileOperations | None = None
    message: SchedulerMessage | None = None
    request: RequestResources | None = None
    update_framework: UpdateFramework | None = None


# -- events -------------------------------------------------------------------------------------


class Subscribed(Message, frozen=True, kw_only=True):
    framework_id: FrameworkID
    heartbeat_interval_seconds: float | None = None
    master_info: MasterInfo | None = None


class Offers(Message, frozen=True, kw_only=True):
    offers: tuple[Offer, ...] = ()


class InverseOffers(Message, frozen=True, kw_only=True):
    inverse_offers: tuple[InverseOffer, ...] = ()


class Rescind(Message, frozen=True, kw_only=True):
    offer_id: OfferID


class RescindInverseOffer(Message, frozen=True, kw_only=True):
    inverse_offer_id: OfferID


class Update(Message, frozen=True, kw_only=True):
    status: TaskStatus


class UpdateOperationStatus(Message, frozen=True, kw_only=True):
    status: OperationStatus


class ExecutorMessage(Message, frozen=True, kw_only=True):
    agent_id: AgentID
    executor_id: ExecutorID
    data: bytes


class Failure(Message, frozen=True, kw_only=True):
    """Agent lost: only `agent_id`. Executor ended: both ids and the wait status."""

    agent_id: AgentID | None = None
    executor_id: ExecutorID | None = None
    status: int | None = None


class Error(Message, frozen=True, kw_only=True, gc=False):
    message: str


class Event(Message, frozen=True, kw_only=True):
    """One scheduler event."""

    type: EventType = shown("UNKNOWN")
    subscribed: Subscribed | None = None
    offers: Offers | None = None
    inverse_offers: InverseOffers | None = None
    rescind: Rescind | None = None
    rescind_inverse_offer: RescindInverseOffer | None = None
    update: Update | None = None
    update_operation_status: UpdateOperationStatus | None = None
    message: ExecutorMessage | None = None
    failure: Failure | None = None
    error: Error | None = None
