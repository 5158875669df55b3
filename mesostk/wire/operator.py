"""`mesos.v1.master`: operator calls, responses and the event stream of `POST /api/v1`.

The agent's side of the operator API is in `agent_operator`. A call, response or event is one
message whose `type` names the sub-message that counts. Types shared by both sides are here.
"""

from __future__ import annotations

from typing import Literal

from mesostk.wire import maintenance
from mesostk.wire.mesos import (
    AgentCapability,
    AgentID,
    AgentInfo,
    DrainInfo,
    DurationInfo,
    ExecutorInfo,
    FileInfo,
    Flag,
    FrameworkID,
    FrameworkInfo,
    InverseOffer,
    MachineID,
    MasterInfo,
    Message,
    Metric,
    Offer,
    Operation,
    Resource,
    Scalar,
    Task,
    TaskState,
    TaskStatus,
    TimeInfo,
    VersionInfo,
    shown,
)
from mesostk.wire.quota import QuotaConfig, QuotaRequest, QuotaStatus
from mesostk.wire.scheduler import OfferConstraints

CallType = Literal[
    "UNKNOWN",
    "GET_HEALTH",
    "GET_FLAGS",
    "GET_VERSION",
    "GET_METRICS",
    "GET_LOGGING_LEVEL",
    "SET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "GET_STATE",
    "GET_AGENTS",
    "GET_FRAMEWORKS",
    "GET_EXECUTORS",
    "GET_OPERATIONS",
    "GET_TASKS",
    "GET_ROLES",
    "GET_WEIGHTS",
    "UPDATE_WEIGHTS",
    "GET_MASTER",
    "SUBSCRIBE",
    "RESERVE_RESOURCES",
    "UNRESERVE_RESOURCES",
    "CREATE_VOLUMES",
    "DESTROY_VOLUMES",
    "GROW_VOLUME",
    "SHRINK_VOLUME",
    "GET_MAINTENANCE_STATUS",
    "GET_MAINTENANCE_SCHEDULE",
    "UPDATE_MAINTENANCE_SCHEDULE",
    "START_MAINTENANCE",
    "STOP_MAINTENANCE",
    "DRAIN_AGENT",
    "DEACTIVATE_AGENT",
    "REACTIVATE_AGENT",
    "GET_QUOTA",
    "UPDATE_QUOTA",
    "SET_QUOTA",
    "REMOVE_QUOTA",
    "TEARDOWN",
    "MARK_AGENT_GONE",
]

ResponseType = Literal[
    "UNKNOWN",
    "GET_HEALTH",
    "GET_FLAGS",
    "GET_VERSION",
    "GET_METRICS",
    "GET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "GET_STATE",
    "GET_AGENTS",
    "GET_FRAMEWORKS",
    "GET_EXECUTORS",
    "GET_OPERATIONS",
    "GET_TASKS",
    "GET_ROLES",
    "GET_WEIGHTS",
    "GET_MASTER",
    "GET_MAINTENANCE_STATUS",
    "GET_MAINTENANCE_SCHEDULE",
    "GET_QUOTA",
]

EventType = Literal[
    "UNKNOWN",
    "SUBSCRIBED",
    "TASK_ADDED",
    "TASK_UPDATED",
    "AGENT_ADDED",
    "AGENT_REMOVED",
    "FRAMEWORK_ADDED",
    "FRAMEWORK_UPDATED",
    "FRAMEWORK_REMOVED",
    "HEARTBEAT",
]


# -- bodies shared with the agent ---------------------------------------------------------------


class GetMetrics(Message, frozen=True, kw_only=True):
    timeout: DurationInfo | None = None


class SetLoggingLevel(Message, frozen=True, kw_only=True):
    level: int
    duration: DurationInfo


class ListFiles(Message, frozen=True, kw_only=True, gc=False):
    path: str


class ReadFile(Message, frozen=True, kw_only=True, gc=False):
    """At most 64 KiB are answered; `length` unset means the rest."""

    path: str
    offset: int
    length: int | None = None


class Health(Message, frozen=True, kw_only=True, gc=False):
    healthy: bool


class Flags(Message, frozen=True, kw_only=True):
    flags: tuple[Flag, ...] = ()


class Version(Message, frozen=True, kw_only=True):
    version_info: VersionInfo


class Metrics(Message, frozen=True, kw_only=True):
    metrics: tuple[Metric, ...] = ()


class LoggingLevel(Message, frozen=True, kw_only=True, gc=False):
    level: int


class Files(Message, frozen=True, kw_only=True):
    file_infos: tuple[FileInfo, ...] = ()


class FilePart(Message, frozen=True, kw_only=True, gc=False):
    """`size` of the whole file in bytes."""

    size: int
    data: bytes


class Operations(Message, frozen=True, kw_only=True):
    operations: tuple[Operation, ...] = ()


# -- bodies of calls ----------------------------------------------------------------------------


class WeightInfo(Message, frozen=True, kw_only=True, gc=False):
    weight: float
    role: str | None = None


class Weights(Message, frozen=True, kw_only=True):
    """Body of UPDATE_WEIGHTS, and answer of GET_WEIGHTS."""

    weight_infos: tuple[WeightInfo, ...] = ()


class ReserveResources(Message, frozen=True, kw_only=True):
    agent_id: AgentID
    source: tuple[Resource, ...] = ()
    resources: tuple[Resource, ...] = ()


class UnreserveResources(Message, frozen=True, kw_only=True):
    agent_id: AgentID
    resources: tuple[Resource, ...] = ()


class Volumes(Message, frozen=True, kw_only=True):
    """Body of CREATE_VOLUMES and DESTROY_VOLUMES."""

    agent_id: AgentID
    volumes: tuple[Resource, ...] = ()


class GrowVolume(Message, frozen=True, kw_only=True):
    agent_id: AgentID | None = None
    volume: Resource
    addition: Resource


class ShrinkVolume(Message, frozen=True, kw_only=True):
    agent_id: AgentID | None = None
    volume: Resource
    subtract: Scalar


class Schedule(Message, frozen=True, kw_only=True):
    """Body of UPDATE_MAINTENANCE_SCHEDULE, and answer of GET_MAINTENANCE_SCHEDULE."""

    schedule: maintenance.Schedule


class Machines(Message, frozen=True, kw_only=True):
    """Body of START_MAINTENANCE and STOP_MAINTENANCE."""

    machines: tuple[MachineID, ...] = ()


class ProtoDuration(Message, frozen=True, kw_only=True, gc=False):
    """`google.protobuf.Duration`, which only DRAIN_AGENT has; `nanoseconds` there is ignored."""

    seconds: int = 0
    nanos: int = 0


class DrainAgent(Message, frozen=True, kw_only=True):
    agent_id: AgentID
    max_grace_period: ProtoDuration | None = None
    mark_gone: bool = shown(False)


class AgentRef(Message, frozen=True, kw_only=True):
    """Body of DEACTIVATE_AGENT, REACTIVATE_AGENT and MARK_AGENT_GONE; event AGENT_REMOVED."""

    agent_id: AgentID


class UpdateQuota(Message, frozen=True, kw_only=True):
    force: bool | None = None
    quota_configs: tuple[QuotaConfig, ...] = ()


class SetQuota(Message, frozen=True, kw_only=True):
    quota_request: QuotaRequest


class RemoveQuota(Message, frozen=True, kw_only=True, gc=False):
    role: str


class Teardown(Message, frozen=True, kw_only=True):
    framework_id: FrameworkID


class Call(Message, frozen=True, kw_only=True):
    """One operator call to a master."""

    type: CallType | None = None
    get_metrics: GetMetrics | None = None
    set_logging_level: SetLoggingLevel | None = None
    list_files: ListFiles | None = None
    read_file: ReadFile | None = None
    update_weights: Weights | None = None
    reserve_resources: ReserveResources | None = None
    unreserve_resources: UnreserveResources | None = None
    create_volumes: Volumes | None = None
    destroy_volumes: Volumes | None = None
    grow_volume: GrowVolume | None = None
    shrink_volume: ShrinkVolume | None = None
    update_maintenance_schedule: Schedule | None = None
    start_maintenance: Machines | None = None
    stop_maintenance: Machines | None = None
    drain_agent: DrainAgent | None = None
    deactivate_agent: AgentRef | None = None
    reactivate_agent: AgentRef | None = None
    update_quota: UpdateQuota | None = None
    set_quota: SetQuota | None = None
    remove_quota: RemoveQuota | None = None
    teardown: Teardown | None = None
    mark_agent_gone: AgentRef | None = None


# -- bodies of responses ------------------------------------------------------------------------


class Agent(Message, frozen=True, kw_only=True):
    """An agent as GET_AGENTS and AGENT_ADDED show it; resources in the ENDPOINT format."""

    agent_info: AgentInfo
    active: bool
    deactivated: bool = shown(False)
    version: str
    pid: str | None = None
    registered_time: TimeInfo | None = None
    reregistered_time: TimeInfo | None = None
    total_resources: tuple[Resource, ...] = ()
    allocated_resources: tuple[Resource, ...] = ()
    offered_resources: tuple[Resource, ...] = ()
    capabilities: tuple[AgentCapability, ...] = ()
    drain_info: DrainInfo | None = None
    estimated_drain_start_time: TimeInfo | None = None


class Agents(Message, frozen=True, kw_only=True):
    agents: tuple[Agent, ...] = ()
    recovered_agents: tuple[AgentInfo, ...] = ()


class Framework(Message, frozen=True, kw_only=True):
    """A framework as GET_FRAMEWORKS and FRAMEWORK_ADDED show it."""

    framework_info: FrameworkInfo
    active: bool
    connected: bool
    recovered: bool
    registered_time: TimeInfo | None = None
    reregistered_time: TimeInfo | None = None
    unregistered_time: TimeInfo | None = None
    offers: tuple[Offer, ...] = ()
    inverse_offers: tuple[InverseOffer, ...] = ()
    allocated_resources: tuple[Resource, ...] = ()
    offered_resources: tuple[Resource, ...] = ()
    offer_constraints: OfferConstraints | None = None


class Frameworks(Message, frozen=True, kw_only=True):
    frameworks: tuple[Framework, ...] = ()
    completed_frameworks: tuple[Framework, ...] = ()


class Executor(Message, frozen=True, kw_only=True):
    executor_info: ExecutorInfo
    agent_id: AgentID


class Executors(Message, frozen=True, kw_only=True):
    executors: tuple[Executor, ...] = ()


class Tasks(Message, frozen=True, kw_only=True):
    pending_tasks: tuple[Task, ...] = ()
    tasks: tuple[Task, ...] = ()
    unreachable_tasks: tuple[Task, ...] = ()
    completed_tasks: tuple[Task, ...] = ()
    orphan_tasks: tuple[Task, ...] = ()


class State(Message, frozen=True, kw_only=True):
    get_tasks: Tasks | None = None
    get_executors: Executors | None = None
    get_frameworks: Frameworks | None = None
    get_agents: Agents | None = None


class Role(Message, frozen=True, kw_only=True):
    name: str
    weight: float
    frameworks: tuple[FrameworkID, ...] = ()
    resources: tuple[Resource, ...] = ()


class Roles(Message, frozen=True, kw_only=True):
    roles: tuple[Role, ...] = ()


class Master(Message, frozen=True, kw_only=True):
    """Times in seconds since the epoch."""

    master_info: MasterInfo | None = None
    start_time: float | None = None
    elected_time: float | None = None


class GetMaintenanceStatus(Message, frozen=True, kw_only=True):
    status: maintenance.Status


class GetQuota(Message, frozen=True, kw_only=True):
    status: QuotaStatus


class Response(Message, frozen=True, kw_only=True):
    """Answer of a master to a call that reads."""

    type: ResponseType | None = None
    get_health: Health | None = None
    get_flags: Flags | None = None
    get_version: Version | None = None
    get_metrics: Metrics | None = None
    get_logging_level: LoggingLevel | None = None
    list_files: Files | None = None
    read_file: FilePart | None = None
    get_state: State | None = None
    get_agents: Agents | None = None
    get_frameworks: Frameworks | None = None
    get_executors: Executors | None = None
    get_operations: Operations | None = None
    get_tasks: Tasks | None = None
    get_roles: Roles | None = None
    get_weights: Weights | None = None
    get_master: Master | None = None
    get_maintenance_status: GetMaintenanceStatus | None = None
    get_maintenance_schedule: Schedule | None = None
    get_quota: GetQuota | None = None


# -- event stream -------------------------------------------------------------------------------


class Subscribed(Message, frozen=True, kw_only=True):
    get_state: State | None = None
    heartbeat_interval_seconds: float | None = None


class TaskAdded(Message, frozen=True, kw_only=True):
    task: Task


class TaskUpdated(Message, frozen=True, kw_only=True):
    """`state` is the latest one, which may be ahead of `status.state`."""

    framework_id: FrameworkID
    status: TaskStatus
    state: TaskState


class AgentAdded(Message, frozen=True, kw_only=True):
    agent: Agent


class FrameworkEvent(Message, frozen=True, kw_only=True):
    """Body of FRAMEWORK_ADDED and FRAMEWORK_UPDATED; without offers."""

    framework: Framework


class FrameworkRemoved(Message, frozen=True, kw_only=True):
    framework_info: FrameworkInfo


class Event(Message, frozen=True, kw_only=True):
    """One record of the master's event stream."""

    type: EventType = shown("UNKNOWN")
    subscribed: Subscribed | None = None
    task_added: TaskAdded | None = None
    task_updated: TaskUpdated | None = None
    agent_added: AgentAdded | None = None
    agent_removed: AgentRef | None = None
    framework_added: FrameworkEvent | None = None
    framework_updated: FrameworkEvent | None = None
    framework_removed: FrameworkRemoved | None = None
