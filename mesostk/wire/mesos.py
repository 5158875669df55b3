"""The `mesos.v1` messages that travel between all parties, in the spelling of the original.

Conventions (Mesos `3rdparty/stout/include/stout/protobuf.hpp`):

* Field names are those of the .proto files; an enum is the name of its value.
* A scalar with an explicit proto default is always written (`shown`); anything else that is unset
  is left out. Empty lists are left out.
* A field marked "required" in the .proto has no default here, so that decoding refuses its absence.

Nested messages carry their parent's name only where the bare name would mislead
(`CommandInfo.URI` is `CommandURI`, `Resource.ReservationInfo` is `ReservationInfo`).
Decode with `wire.json.decode`, which adds the leniency that the original has.
"""

from __future__ import annotations

from typing import Literal, NewType, TypeVar

import msgspec

AgentId = NewType("AgentId", str)
ContainerId = NewType("ContainerId", str)
ExecutorId = NewType("ExecutorId", str)
FrameworkId = NewType("FrameworkId", str)
OfferId = NewType("OfferId", str)
TaskId = NewType("TaskId", str)

T = TypeVar("T")


def shown(value: T) -> T:
    """A default that is written to the wire even when it was not set, as proto2 defaults are.

    msgspec's `omit_defaults` compares with plain defaults and with empty list, dict and set
    factories only; any other factory escapes it.
    """
    return msgspec.field(default_factory=lambda: value)


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of every wire record: immutable, keyword-only, unset fields left out."""


# -- identifiers ------------------------------------------------------------------------------


class _Id(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of the one-field identifier messages; positional so that `AgentID("S0")` reads well."""

    value: str


class FrameworkID(_Id, frozen=True, gc=False):
    """`{"value": "<master id>-0000"}`"""


class OfferID(_Id, frozen=True, gc=False):
    """`{"value": "<master id>-O0"}`"""


class AgentID(_Id, frozen=True, gc=False):
    """`{"value": "<master id>-S0"}`"""


class TaskID(_Id, frozen=True, gc=False):
    """Chosen by the framework; unique among its live tasks."""


class ExecutorID(_Id, frozen=True, gc=False):
    """Chosen by the framework; a command task's executor has the task's id."""


class ContainerID(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A run; nested containers name their parent."""

    value: str
    parent: ContainerID | None = None


class ResourceProviderID(_Id, frozen=True, gc=False):
    """Accepted and passed on; resource providers are not implemented."""


class OperationID(_Id, frozen=True, gc=False):
    """Asks for feedback on an offer operation."""


class UUID(msgspec.Struct, frozen=True, gc=False):
    """16 raw bytes, base64 in JSON."""

    value: bytes


# -- small common messages --------------------------------------------------------------------


class TimeInfo(Message, frozen=True, kw_only=True, gc=False):
    """Nanoseconds since the epoch."""

    nanoseconds: int


class DurationInfo(Message, frozen=True, kw_only=True, gc=False):
    """Nanoseconds."""

    nanoseconds: int


class Address(Message, frozen=True, kw_only=True, gc=False):
    hostname: str | None = None
    ip: str | None = None
    port: int


class Parameter(Message, frozen=True, kw_only=True, gc=False):
    key: str
    value: str


class Parameters(Message, frozen=True, kw_only=True):
    parameter: tuple[Parameter, ...] = ()


class URL(Message, frozen=True, kw_only=True):
    scheme: str
    address: Address
    path: str | None = None
    query: tuple[Parameter, ...] = ()
    fragment: str | None = None


class Unavailability(Message, frozen=True, kw_only=True):
    start: TimeInfo
    duration: DurationInfo | None = None


class MachineID(Message, frozen=True, kw_only=True, gc=False):
    hostname: str | None = None
    ip: str | None = None


class Label(Message, frozen=True, kw_only=True, gc=False):
    key: str
    value: str | None = None


class Labels(Message, frozen=True, kw_only=True):
    labels: tuple[Label, ...] = ()


class RegionInfo(Message, frozen=True, kw_only=True, gc=False):
    name: str


class ZoneInfo(Message, frozen=True, kw_only=True, gc=False):
    name: str


class FaultDomain(Message, frozen=True, kw_only=True):
    region: RegionInfo
    zone: ZoneInfo


class DomainInfo(Message, frozen=True, kw_only=True):
    fault_domain: FaultDomain | None = None


class VersionInfo(Message, frozen=True, kw_only=True, gc=False):
    version: str
    build_date: str | None = None
    build_time: float | None = None
    build_user: str | None = None
    git_sha: str | None = None
    git_branch: str | None = None
    git_tag: str | None = None


class Flag(Message, frozen=True, kw_only=True, gc=False):
    name: str
    value: str | None = None


class Metric(Message, frozen=True, kw_only=True, gc=False):
    name: str
    value: float | None = None


class FileInfo(Message, frozen=True, kw_only=True):
    path: str
    nlink: int | None = None
    size: int | None = None
    mtime: TimeInfo | None = None
    mode: int | None = None
    uid: str | None = None
    gid: str | None = None


class Credential(Message, frozen=True, kw_only=True, gc=False):
    principal: str
    secret: str | None = None


# -- values, attributes, resources ------------------------------------------------------------

ValueType = Literal["SCALAR", "RANGES", "SET", "TEXT"]


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """`{"value": 1.5}`; three decimals count (spec: Mesos `values.cpp`)."""

    value: float


class Range(msgspec.Struct, frozen=True, gc=False):
    """Both ends inclusive."""

    begin: int
    end: int


class Ranges(msgspec.Struct, frozen=True, omit_defaults=True):
    range: tuple[Range, ...] = ()


class Set(msgspec.Struct, frozen=True, omit_defaults=True):
    item: tuple[str, ...] = ()


class Text(msgspec.Struct, frozen=True, gc=False):
    value: str


class Attribute(Message, frozen=True, kw_only=True):
    name: str
    type: ValueType
    scalar: Scalar | None = None
    ranges: Ranges | None = None
    set: Set | None = None
    text: Text | None = None


ReservationType = Literal["UNKNOWN", "STATIC", "DYNAMIC"]
DiskSourceType = Literal["UNKNOWN", "PATH", "MOUNT", "BLOCK", "RAW"]
VolumeMode = Literal["RW", "RO"]


class AllocationInfo(Message, frozen=True, kw_only=True, gc=False):
    role: str | None = None


class ReservationInfo(Message, frozen=True, kw_only=True):
    type: ReservationType | None = None
    role: str | None = None
    principal: str | None = None
    labels: Labels | None = None


class Persistence(Message, frozen=True, kw_only=True, gc=False):
    id: str
    principal: str | None = None


class DiskSourceRoot(Message, frozen=True, kw_only=True, gc=False):
    root: str | None = None


class DiskSource(Message, frozen=True, kw_only=True):
    type: DiskSourceType
    path: DiskSourceRoot | None = None
    mount: DiskSourceRoot | None = None
    id: str | None = None
    metadata: Labels | None = None
    profile: str | None = None
    vendor: str | None = None


class DockerVolume(Message, frozen=True, kw_only=True):
    driver: str | None = None
    name: str
    driver_options: Parameters | None = None


class MountPropagation(Message, frozen=True, kw_only=True, gc=False):
    mode: Literal["UNKNOWN", "HOST_TO_CONTAINER", "BIDIRECTIONAL"] | None = None


class HostPathSource(Message, frozen=True, kw_only=True):
    path: str
    mount_propagation: MountPropagation | None = None


class SandboxPath(Message, frozen=True, kw_only=True, gc=False):
    type: Literal["UNKNOWN", "SELF", "PARENT"] | None = None
    path: str


SecretType = Literal["UNKNOWN", "REFERENCE", "VALUE"]


class SecretReference(Message, frozen=True, kw_only=True, gc=False):
    name: str
    key: str | None = None


class SecretValue(Message, frozen=True, kw_only=True, gc=False):
    data: bytes


class Secret(Message, frozen=True, kw_only=True):
    type: SecretType | None = None
    reference: SecretReference | None = None
    value: SecretValue | None = None


class ImageAppc(Message, frozen=True, kw_only=True):
    name: str
    id: str | None = None
    labels: Labels | None = None


class ImageDocker(Message, frozen=True, kw_only=True):
    name: str
    credential: Credential | None = None
    config: Secret | None = None


class Image(Message, frozen=True, kw_only=True):
    type: Literal["APPC", "DOCKER"]
    appc: ImageAppc | None = None
    docker: ImageDocker | None = None
    cached: bool = shown(True)


VolumeSourceType = Literal[
    "UNKNOWN", "DOCKER_VOLUME", "HOST_PATH", "SANDBOX_PATH", "SECRET", "CSI_VOLUME"
]


class VolumeSource(Message, frozen=True, kw_only=True):
    type: VolumeSourceType | None = None
    docker_volume: DockerVolume | None = None
    host_path: HostPathSource | None = None
    sandbox_path: SandboxPath | None = None
    secret: Secret | None = None


class Volume(Message, frozen=True, kw_only=True):
    mode: VolumeMode
    container_path: str
    host_path: str | None = None
    image: Image | None = None
    source: VolumeSource | None = None


class DiskInfo(Message, frozen=True, kw_only=True):
    persistence: Persistence | None = None
    volume: Volume | None = None
    source: DiskSource | None = None


class RevocableInfo(Message, frozen=True, kw_only=True, gc=False):
    """Present means revocable."""


class SharedInfo(Message, frozen=True, kw_only=True, gc=False):
    """Present means shareable."""


class Resource(Message, frozen=True, kw_only=True):
    """One quantity of one kind; see `resources.resources` for the algebra and the formats."""

    provider_id: ResourceProviderID | None = None
    name: str
    type: ValueType
    scalar: Scalar | None = None
    ranges: Ranges | None = None
    set: Set | None = None
    role: str | None = None
    allocation_info: AllocationInfo | None = None
    reservation: ReservationInfo | None = None
    reservations: tuple[ReservationInfo, ...] = ()
    disk: DiskInfo | None = None
    revocable: RevocableInfo | None = None
    shared: SharedInfo | None = None


# -- commands, containers ---------------------------------------------------------------------


class CommandURI(Message, frozen=True, kw_only=True, gc=False):
    value: str
    executable: bool | None = None
    extract: bool = shown(True)
    cache: bool | None = None
    output_file: str | None = None


class Variable(Message, frozen=True, kw_only=True):
    name: str
    type: Literal["UNKNOWN", "VALUE", "SECRET"] = shown("VALUE")
    value: str | None = None
    secret: Secret | None = None


class Environment(Message, frozen=True, kw_only=True):
    variables: tuple[Variable, ...] = ()


class CommandInfo(Message, frozen=True, kw_only=True):
    uris: tuple[CommandURI, ...] = ()
    environment: Environment | None = None
    shell: bool = shown(True)
    value: str | None = None
    arguments: tuple[str, ...] = ()
    user: str | None = None


IPProtocol = Literal["IPv4", "IPv6"]


class IPAddress(Message, frozen=True, kw_only=True, gc=False):
    protocol: IPProtocol = shown("IPv4")
    ip_address: str | None = None


class PortMapping(Message, frozen=True, kw_only=True, gc=False):
    host_port: int
    container_port: int
    protocol: str | None = None


class NetworkInfo(Message, frozen=True, kw_only=True):
    ip_addresses: tuple[IPAddress, ...] = ()
    name: str | None = None
    groups: tuple[str, ...] = ()
    labels: Labels | None = None
    port_mappings: tuple[PortMapping, ...] = ()


DockerNetwork = Literal["HOST", "BRIDGE", "NONE", "USER"]


class DockerInfo(Message, frozen=True, kw_only=True):
    image: str
    network: DockerNetwork = shown("HOST")
    port_mappings: tuple[PortMapping, ...] = ()
    privileged: bool = shown(False)
    parameters: tuple[Parameter, ...] = ()
    force_pull_image: bool | None = None
    volume_driver: str | None = None


class MesosInfo(Message, frozen=True, kw_only=True):
    image: Image | None = None


class CapabilityInfo(Message, frozen=True, kw_only=True):
    capabilities: tuple[str, ...] = ()


class SeccompInfo(Message, frozen=True, kw_only=True, gc=False):
    profile_name: str | None = None
    unconfined: bool | None = None


class LinuxInfo(Message, frozen=True, kw_only=True):
    capability_info: CapabilityInfo | None = None
    bounding_capabilities: CapabilityInfo | None = None
    effective_capabilities: CapabilityInfo | None = None
    share_pid_namespace: bool | None = None
    seccomp: SeccompInfo | None = None
    ipc_mode: Literal["UNKNOWN", "PRIVATE", "SHARE_PARENT"] | None = None
    shm_size: int | None = None
    share_cgroups: bool = shown(True)


RLimitType = Literal[
    "UNKNOWN",
    "RLMT_AS",
    "RLMT_CORE",
    "RLMT_CPU",
    "RLMT_DATA",
    "RLMT_FSIZE",
    "RLMT_LOCKS",
    "RLMT_MEMLOCK",
    "RLMT_MSGQUEUE",
    "RLMT_NICE",
    "RLMT_NOFILE",
    "RLMT_NPROC",
    "RLMT_RSS",
    "RLMT_RTPRIO",
    "RLMT_RTTIME",
    "RLMT_SIGPENDING",
    "RLMT_STACK",
]


class RLimit(Message, frozen=True, kw_only=True, gc=False):
    type: RLimitType | None = None
    hard: int | None = None
    soft: int | None = None


class RLimitInfo(Message, frozen=True, kw_only=True):
    rlimits: tuple[RLimit, ...] = ()


class WindowSize(Message, frozen=True, kw_only=True, gc=False):
    rows: int
    columns: int


class TTYInfo(Message, frozen=True, kw_only=True):
    window_size: WindowSize | None = None


class ContainerInfo(Message, frozen=True, kw_only=True):
    type: Literal["DOCKER", "MESOS"]
    volumes: tuple[Volume, ...] = ()
    hostname: str | None = None
    docker: DockerInfo | None = None
    mesos: MesosInfo | None = None
    network_infos: tuple[NetworkInfo, ...] = ()
    linux_info: LinuxInfo | None = None
    rlimit_info: RLimitInfo | None = None
    tty_info: TTYInfo | None = None


class NetCls(Message, frozen=True, kw_only=True, gc=False):
    classid: int | None = None


class CgroupInfo(Message, frozen=True, kw_only=True):
    net_cls: NetCls | None = None


class ContainerStatus(Message, frozen=True, kw_only=True):
    container_id: ContainerID | None = None
    network_infos: tuple[NetworkInfo, ...] = ()
    cgroup_info: CgroupInfo | None = None
    executor_pid: int | None = None


# -- checks -----------------------------------------------------------------------------------

CheckType = Literal["UNKNOWN", "COMMAND", "HTTP", "TCP"]


class HTTPCheckInfo(Message, frozen=True, kw_only=True):
    """`HealthCheck.HTTPCheckInfo`"""

    protocol: IPProtocol = shown("IPv4")
    scheme: str | None = None
    port: int
    path: str | None = None
    statuses: tuple[int, ...] = ()


class TCPCheckInfo(Message, frozen=True, kw_only=True, gc=False):
    """`HealthCheck.TCPCheckInfo`"""

    protocol: IPProtocol = shown("IPv4")
    port: int


class HealthCheck(Message, frozen=True, kw_only=True):
    """Times in seconds."""

    delay_seconds: float = shown(15.0)
    interval_seconds: float = shown(10.0)
    timeout_seconds: float = shown(20.0)
    consecutive_failures: int = shown(3)
    grace_period_seconds: float = shown(10.0)
    type: CheckType | None = None
    command: CommandInfo | None = None
    http: HTTPCheckInfo | None = None
    tcp: TCPCheckInfo | None = None


class CheckCommand(Message, frozen=True, kw_only=True):
    command: CommandInfo


class CheckHttp(Message, frozen=True, kw_only=True, gc=False):
    port: int
    path: str | None = None


class CheckTcp(Message, frozen=True, kw_only=True, gc=False):
    port: int


class CheckInfo(Message, frozen=True, kw_only=True):
    type: CheckType | None = None
    command: CheckCommand | None = None
    http: CheckHttp | None = None
    tcp: CheckTcp | None = None
    delay_seconds: float = shown(15.0)
    interval_seconds: float = shown(10.0)
    timeout_seconds: float = shown(20.0)


class CheckStatusCommand(Message, frozen=True, kw_only=True, gc=False):
    exit_code: int | None = None


class CheckStatusHttp(Message, frozen=True, kw_only=True, gc=False):
    status_code: int | None = None


class CheckStatusTcp(Message, frozen=True, kw_only=True, gc=False):
    succeeded: bool | None = None


class CheckStatusInfo(Message, frozen=True, kw_only=True):
    type: CheckType | None = None
    command: CheckStatusCommand | None = None
    http: CheckStatusHttp | None = None
    tcp: CheckStatusTcp | None = None


class KillPolicy(Message, frozen=True, kw_only=True):
    grace_period: DurationInfo | None = None


# -- discovery --------------------------------------------------------------------------------

Visibility = Literal["FRAMEWORK", "CLUSTER", "EXTERNAL"]


class Port(Message, frozen=True, kw_only=True):
    number: int
    name: str | None = None
    protocol: str | None = None
    visibility: Visibility | None = None
    labels: Labels | None = None


class Ports(Message, frozen=True, kw_only=True):
    ports: tuple[Port, ...] = ()


class DiscoveryInfo(Message, frozen=True, kw_only=True):
    visibility: Visibility
    name: str | None = None
    environment: str | None = None
    location: str | None = None
    version: str | None = None
    ports: Ports | None = None
    labels: Labels | None = None


# -- frameworks, agents, masters --------------------------------------------------------------

FrameworkCapabilityType = Literal[
    "UNKNOWN",
    "REVOCABLE_RESOURCES",
    "TASK_KILLING_STATE",
    "GPU_RESOURCES",
    "SHARED_RESOURCES",
    "PARTITION_AWARE",
    "MULTI_ROLE",
    "RESERVATION_REFINEMENT",
    "REGION_AWARE",
]


class FrameworkCapability(Message, frozen=True, kw_only=True, gc=False):
    type: FrameworkCapabilityType | None = None


class ResourceQuantities(Message, frozen=True, kw_only=True):
    quantities: dict[str, Scalar] = msgspec.field(default_factory=dict)


class MinAllocatableResources(Message, frozen=True, kw_only=True):
    quantities: tuple[ResourceQuantities, ...] = ()


class OfferFilters(Message, frozen=True, kw_only=True):
    min_allocatable_resources: MinAllocatableResources | None = None


class FrameworkInfo(Message, frozen=True, kw_only=True):
    """`failover_timeout` in seconds."""

    user: str
    name: str
    id: FrameworkID | None = None
    failover_timeout: float = shown(0.0)
    checkpoint: bool = shown(False)
    role: str | None = None
    roles: tuple[str, ...] = ()
    hostname: str | None = None
    principal: str | None = None
    webui_url: str | None = None
    capabilities: tuple[FrameworkCapability, ...] = ()
    labels: Labels | None = None
    offer_filters: dict[str, OfferFilters] = msgspec.field(default_factory=dict)


AgentCapabilityType = Literal[
    "UNKNOWN",
    "MULTI_ROLE",
    "HIERARCHICAL_ROLE",
    "RESERVATION_REFINEMENT",
    "RESOURCE_PROVIDER",
    "RESIZE_VOLUME",
    "AGENT_OPERATION_FEEDBACK",
    "AGENT_DRAINING",
    "TASK_RESOURCE_LIMITS",
]


class AgentCapability(Message, frozen=True, kw_only=True, gc=False):
    type: AgentCapabilityType | None = None


class AgentInfo(Message, frozen=True, kw_only=True):
    hostname: str
    port: int = shown(5051)
    resources: tuple[Resource, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    id: AgentID | None = None
    domain: DomainInfo | None = None


MasterCapabilityType = Literal["UNKNOWN", "AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"]


class MasterCapability(Message, frozen=True, kw_only=True, gc=False):
    type: MasterCapabilityType | None = None


class MasterInfo(Message, frozen=True, kw_only=True):
    """`ip` is the IPv4 address as an integer whose first octet is the lowest byte."""

    id: str
    ip: int
    port: int = shown(5050)
    pid: str | None = None
    hostname: str | None = None
    version: str | None = None
    address: Address | None = None
    domain: DomainInfo | None = None
    capabilities: tuple[MasterCapability, ...] = ()


# -- executors, tasks -------------------------------------------------------------------------


class ExecutorInfo(Message, frozen=True, kw_only=True):
    type: Literal["UNKNOWN", "DEFAULT", "CUSTOM"] | None = None
    executor_id: ExecutorID
    framework_id: FrameworkID | None = None
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    resources: tuple[Resource, ...] = ()
    name: str | None = None
    source: str | None = None
    data: bytes | None = None
    discovery: DiscoveryInfo | None = None
    shutdown_grace_period: DurationInfo | None = None
    labels: Labels | None = None


class TaskInfo(Message, frozen=True, kw_only=True):
    name: str
    task_id: TaskID
    agent_id: AgentID
    resources: tuple[Resource, ...] = ()
    executor: ExecutorInfo | None = None
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None
    check: CheckInfo | None = None
    kill_policy: KillPolicy | None = None
    data: bytes | None = None
    labels: Labels | None = None
    discovery: DiscoveryInfo | None = None
    max_completion_time: DurationInfo | None = None
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)


class TaskGroupInfo(Message, frozen=True, kw_only=True):
    tasks: tuple[TaskInfo, ...] = ()


TaskState = Literal[
    "TASK_STAGING",
    "TASK_STARTING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_FINISHED",
    "TASK_FAILED",
    "TASK_KILLED",
    "TASK_ERROR",
    "TASK_LOST",
    "TASK_DROPPED",
    "TASK_UNREACHABLE",
    "TASK_GONE",
    "TASK_GONE_BY_OPERATOR",
    "TASK_UNKNOWN",
]

#: States after which a task never changes again (Mesos `protobuf_utils.cpp`, isTerminalState).
TERMINAL_STATES: frozenset[str] = frozenset(
    {
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    }
)

StatusSource = Literal["SOURCE_MASTER", "SOURCE_AGENT", "SOURCE_EXECUTOR"]

StatusReason = Literal[
    "REASON_COMMAND_EXECUTOR_FAILED",
    "REASON_CONTAINER_LAUNCH_FAILED",
    "REASON_CONTAINER_LIMITATION",
    "REASON_CONTAINER_LIMITATION_DISK",
    "REASON_CONTAINER_LIMITATION_MEMORY",
    "REASON_CONTAINER_PREEMPTED",
    "REASON_CONTAINER_UPDATE_FAILED",
    "REASON_MAX_COMPLETION_TIME_REACHED",
    "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
    "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
    "REASON_EXECUTOR_TERMINATED",
    "REASON_EXECUTOR_UNREGISTERED",
    "REASON_FRAMEWORK_REMOVED",
    "REASON_GC_ERROR",
    "REASON_INVALID_FRAMEWORKID",
    "REASON_INVALID_OFFERS",
    "REASON_IO_SWITCHBOARD_EXITED",
    "REASON_MASTER_DISCONNECTED",
    "REASON_RECONCILIATION",
    "REASON_RESOURCES_UNKNOWN",
    "REASON_AGENT_DISCONNECTED",
    "REASON_AGENT_DRAINING",
    "REASON_AGENT_REMOVED",
    "REASON_AGENT_REMOVED_BY_OPERATOR",
    "REASON_AGENT_REREGISTERED",
    "REASON_AGENT_RESTARTED",
    "REASON_AGENT_UNKNOWN",
    "REASON_TASK_KILLED_DURING_LAUNCH",
    "REASON_TASK_CHECK_STATUS_UPDATED",
    "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
    "REASON_TASK_GROUP_INVALID",
    "REASON_TASK_GROUP_UNAUTHORIZED",
    "REASON_TASK_INVALID",
    "REASON_TASK_UNAUTHORIZED",
    "REASON_TASK_UNKNOWN",
]


class TaskResourceLimitation(Message, frozen=True, kw_only=True):
    resources: tuple[Resource, ...] = ()


class TaskStatus(Message, frozen=True, kw_only=True):
    """`timestamp` in seconds since the epoch; an update with `uuid` must be acknowledged."""

    task_id: TaskID
    state: TaskState
    message: str | None = None
    source: StatusSource | None = None
    reason: StatusReason | None = None
    data: bytes | None = None
    agent_id: AgentID | None = None
    executor_id: ExecutorID | None = None
    timestamp: float | None = None
    uuid: bytes | None = None
    healthy: bool | None = None
    check_status: CheckStatusInfo | None = None
    labels: Labels | None = None
    container_status: ContainerStatus | None = None
    unreachable_time: TimeInfo | None = None
    limitation: TaskResourceLimitation | None = None


class Task(Message, frozen=True, kw_only=True):
    """A task as the master and the operator API show it."""

    name: str
    task_id: TaskID
    framework_id: FrameworkID
    executor_id: ExecutorID | None = None
    agent_id: AgentID
    state: TaskState
    resources: tuple[Resource, ...] = ()
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)
    statuses: tuple[TaskStatus, ...] = ()
    status_update_state: TaskState | None = None
    status_update_uuid: bytes | None = None
    labels: Labels | None = None
    discovery: DiscoveryInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None
    kill_policy: KillPolicy | None = None
    user: str | None = None


# -- offers -----------------------------------------------------------------------------------


class Launch(Message, frozen=True, kw_only=True):
    task_infos: tuple[TaskInfo, ...] = ()


class LaunchGroup(Message, frozen=True, kw_only=True):
    executor: ExecutorInfo
    task_group: TaskGroupInfo


class Reserve(Message, frozen=True, kw_only=True):
    source: tuple[Resource, ...] = ()
    resources: tuple[Resource, ...] = ()


class Unreserve(Message, frozen=True, kw_only=True):
    resources: tuple[Resource, ...] = ()


class Create(Message, frozen=True, kw_only=True):
    volumes: tuple[Resource, ...] = ()


class Destroy(Message, frozen=True, kw_only=True):
    volumes: tuple[Resource, ...] = ()


class GrowVolume(Message, frozen=True, kw_only=True):
    volume: Resource
    addition: Resource


class ShrinkVolume(Message, frozen=True, kw_only=True):
    volume: Resource
    subtract: Scalar


class CreateDisk(Message, frozen=True, kw_only=True):
    source: Resource
    target_type: DiskSourceType
    target_profile: str | None = None


class DestroyDisk(Message, frozen=True, kw_only=True):
    source: Resource


OperationType = Literal[
    "UNKNOWN",
    "LAUNCH",
    "LAUNCH_GROUP",
    "RESERVE",
    "UNRESERVE",
    "CREATE",
    "DESTROY",
    "GROW_VOLUME",
    "SHRINK_VOLUME",
    "CREATE_DISK",
    "DESTROY_DISK",
]


class OfferOperation(Message, frozen=True, kw_only=True):
    """`Offer.Operation`: `type` names which one of the sub-messages is meant."""

    type: OperationType | None = None
    id: OperationID | None = None
    launch: Launch | None = None
    launch_group: LaunchGroup | None = None
    reserve: Reserve | None = None
    unreserve: Unreserve | None = None
    create: Create | None = None
    destroy: Destroy | None = None
    grow_volume: GrowVolume | None = None
    shrink_volume: ShrinkVolume | None = None
    create_disk: CreateDisk | None = None
    destroy_disk: DestroyDisk | None = None


class Offer(Message, frozen=True, kw_only=True):
    id: OfferID
    framework_id: FrameworkID
    agent_id: AgentID
    hostname: str
    url: URL | None = None
    domain: DomainInfo | None = None
    resources: tuple[Resource, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    executor_ids: tuple[ExecutorID, ...] = ()
    unavailability: Unavailability | None = None
    allocation_info: AllocationInfo | None = None


class InverseOffer(Message, frozen=True, kw_only=True):
    id: OfferID
    url: URL | None = None
    framework_id: FrameworkID
    agent_id: AgentID | None = None
    unavailability: Unavailability
    resources: tuple[Resource, ...] = ()


class Filters(Message, frozen=True, kw_only=True, gc=False):
    refuse_seconds: float = shown(5.0)


class RateLimit(Message, frozen=True, kw_only=True, gc=False):
    qps: float | None = None
    principal: str
    capacity: int | None = None


class RateLimits(Message, frozen=True, kw_only=True):
    """Value of the master's `--rate_limits`."""

    limits: tuple[RateLimit, ...] = ()
    aggregate_default_qps: float | None = None
    aggregate_default_capacity: int | None = None


class Request(Message, frozen=True, kw_only=True):
    agent_id: AgentID | None = None
    resources: tuple[Resource, ...] = ()


OperationState = Literal[
    "OPERATION_UNSUPPORTED",
    "OPERATION_PENDING",
    "OPERATION_FINISHED",
    "OPERATION_FAILED",
    "OPERATION_ERROR",
    "OPERATION_DROPPED",
    "OPERATION_UNREACHABLE",
    "OPERATION_GONE_BY_OPERATOR",
    "OPERATION_RECOVERING",
    "OPERATION_UNKNOWN",
]


class OperationStatus(Message, frozen=True, kw_only=True):
    operation_id: OperationID | None = None
    state: OperationState
    message: str | None = None
    converted_resources: tuple[Resource, ...] = ()
    uuid: UUID | None = None
    agent_id: AgentID | None = None
    resource_provider_id: ResourceProviderID | None = None


class Operation(Message, frozen=True, kw_only=True):
    framework_id: FrameworkID | None = None
    agent_id: AgentID | None = None
    info: OfferOperation
    latest_status: OperationStatus
    statuses: tuple[OperationStatus, ...] = ()
    uuid: UUID


# -- draining ---------------------------------------------------------------------------------

DrainState = Literal["UNKNOWN", "DRAINING", "DRAINED"]


class DrainConfig(Message, frozen=True, kw_only=True):
    max_grace_period: DurationInfo | None = None
    mark_gone: bool = shown(False)


class DrainInfo(Message, frozen=True, kw_only=True):
    state: DrainState
    config: DrainConfig
