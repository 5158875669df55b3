"""`mesos.v1.agent`: operator calls and responses of `POST /api/v1` on an agent.

Bodies that are the same on the master are those of `operator`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesostk.wire import operator
from mesostk.wire.mesos import (
    AgentInfo,
    CommandInfo,
    ContainerID,
    ContainerInfo,
    ContainerStatus,
    DrainConfig,
    DurationInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    Image,
    Message,
    Resource,
    ResourceProviderID,
    Scalar,
    StatusReason,
    Task,
    TaskResourceLimitation,
    TaskState,
    TimeInfo,
    TTYInfo,
)
from mesostk.wire.statistics import ResourceStatistics

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
    "GET_CONTAINERS",
    "GET_FRAMEWORKS",
    "GET_EXECUTORS",
    "GET_OPERATIONS",
    "GET_TASKS",
    "GET_AGENT",
    "GET_RESOURCE_PROVIDERS",
    "LAUNCH_NESTED_CONTAINER",
    "WAIT_NESTED_CONTAINER",
    "KILL_NESTED_CONTAINER",
    "REMOVE_NESTED_CONTAINER",
    "LAUNCH_NESTED_CONTAINER_SESSION",
    "ATTACH_CONTAINER_INPUT",
    "ATTACH_CONTAINER_OUTPUT",
    "LAUNCH_CONTAINER",
    "WAIT_CONTAINER",
    "KILL_CONTAINER",
    "REMOVE_CONTAINER",
    "ADD_RESOURCE_PROVIDER_CONFIG",
    "UPDATE_RESOURCE_PROVIDER_CONFIG",
    "REMOVE_RESOURCE_PROVIDER_CONFIG",
    "MARK_RESOURCE_PROVIDER_GONE",
    "PRUNE_IMAGES",
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
    "GET_CONTAINERS",
    "GET_FRAMEWORKS",
    "GET_EXECUTORS",
    "GET_OPERATIONS",
    "GET_TASKS",
    "GET_AGENT",
    "GET_RESOURCE_PROVIDERS",
    "WAIT_NESTED_CONTAINER",
    "WAIT_CONTAINER",
]


# -- streams of a container ---------------------------------------------------------------------


class ProcessData(Message, frozen=True, kw_only=True, gc=False):
    """Bytes of one stream; no bytes of STDIN mean its end."""

    type: Literal["UNKNOWN", "STDIN", "STDOUT", "STDERR"] | None = None
    data: bytes | None = None


class StreamHeartbeat(Message, frozen=True, kw_only=True):
    interval: DurationInfo | None = None


class ProcessControl(Message, frozen=True, kw_only=True):
    type: Literal["UNKNOWN", "TTY_INFO", "HEARTBEAT"] | None = None
    tty_info: TTYInfo | None = None
    heartbeat: StreamHeartbeat | None = None


class ProcessIO(Message, frozen=True, kw_only=True):
    """One record of an attached stream."""

    type: Literal["UNKNOWN", "DATA", "CONTROL"] | None = None
    data: ProcessData | None = None
    control: ProcessControl | None = None


# -- bodies of calls ----------------------------------------------------------------------------


class GetContainers(Message, frozen=True, kw_only=True, gc=False):
    show_nested: bool | None = None
    show_standalone: bool | None = None


class LaunchNested(Message, frozen=True, kw_only=True):
    """Body of LAUNCH_NESTED_CONTAINER and of its session form."""

    container_id: ContainerID
    command: CommandInfo | None = None
    container: ContainerInfo | None = None


class ContainerRef(Message, frozen=True, kw_only=True):
    """Body of WAIT_*, REMOVE_* and ATTACH_CONTAINER_OUTPUT."""

    container_id: ContainerID


class KillContainer(Message, frozen=True, kw_only=True):
    container_id: ContainerID
    signal: int | None = None


class LaunchContainer(Message, frozen=True, kw_only=True):
    container_id: ContainerID
    command: CommandInfo | None = None
    resources: tuple[Resource, ...] = ()
    container: ContainerInfo | None = None
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)


class AttachInput(Message, frozen=True, kw_only=True):
    """First record CONTAINER_ID, every later one PROCESS_IO."""

    type: Literal["UNKNOWN", "CONTAINER_ID", "PROCESS_IO"] | None = None
    container_id: ContainerID | None = None
    process_io: ProcessIO | None = None


class ResourceProviderInfo(Message, frozen=True, kw_only=True):
    id: ResourceProviderID | None = None
    type: str
    name: str


class ResourceProviderConfig(Message, frozen=True, kw_only=True):
    """Body of ADD_ and UPDATE_RESOURCE_PROVIDER_CONFIG."""

    info: ResourceProviderInfo


class RemoveResourceProviderConfig(Message, frozen=True, kw_only=True):
    type: str
    name: str


class MarkResourceProviderGone(Message, frozen=True, kw_only=True):
    resource_provider_id: ResourceProviderID


class PruneImages(Message, frozen=True, kw_only=True):
    excluded_images: tuple[Image, ...] = ()


class Call(Message, frozen=True, kw_only=True):
    """One operator call to an agent."""

    type: CallType | None = None
    get_metrics: operator.GetMetrics | None = None
    set_logging_level: operator.SetLoggingLevel | None = None
    list_files: operator.ListFiles | None = None
    read_file: operator.ReadFile | None = None
    get_containers: GetContainers | None = None
    launch_nested_container: LaunchNested | None = None
    wait_nested_container: ContainerRef | None = None
    kill_nested_container: KillContainer | None = None
    remove_nested_container: ContainerRef | None = None
    launch_nested_container_session: LaunchNested | None = None
    attach_container_input: AttachInput | None = None
    attach_container_output: ContainerRef | None = None
    launch_container: LaunchContainer | None = None
    wait_container: ContainerRef | None = None
    kill_container: KillContainer | None = None
    remove_container: ContainerRef | None = None
    add_resource_provider_config: ResourceProviderConfig | None = None
    update_resource_provider_config: ResourceProviderConfig | None = None
    remove_resource_provider_config: RemoveResourceProviderConfig | None = None
    prune_images: PruneImages | None = None
    mark_resource_provider_gone: MarkResourceProviderGone | None = None


# -- bodies of responses ------------------------------------------------------------------------


class Container(Message, frozen=True, kw_only=True):
    framework_id: FrameworkID | None = None
    executor_id: ExecutorID | None = None
    executor_name: str | None = None
    container_id: ContainerID
    container_status: ContainerStatus | None = None
    resource_statistics: ResourceStatistics | None = None


class Containers(Message, frozen=True, kw_only=True):
    containers: tuple[Container, ...] = ()


class Framework(Message, frozen=True, kw_only=True):
    framework_info: FrameworkInfo


class Frameworks(Message, frozen=True, kw_only=True):
    frameworks: tuple[Framework, ...] = ()
    completed_frameworks: tuple[Framework, ...] = ()


class Executor(Message, frozen=True, kw_only=True):
    executor_info: ExecutorInfo


class Executors(Message, frozen=True, kw_only=True):
    executors: tuple[Executor, ...] = ()
    completed_executors: tuple[Executor, ...] = ()


class Tasks(Message, frozen=True, kw_only=True):
    """`terminated_tasks` have ended but their last update is not acknowledged."""

    pending_tasks: tuple[Task, ...] = ()
    queued_tasks: tuple[Task, ...] = ()
    launched_tasks: tuple[Task, ...] = ()
    terminated_tasks: tuple[Task, ...] = ()
    completed_tasks: tuple[Task, ...] = ()


class State(Message, frozen=True, kw_only=True):
    get_tasks: Tasks | None = None
    get_executors: Executors | None = None
    get_frameworks: Frameworks | None = None


class Agent(Message, frozen=True, kw_only=True):
    agent_info: AgentInfo | None = None
    drain_config: DrainConfig | None = None
    estimated_drain_start_time: TimeInfo | None = None


class ResourceProviders(Message, frozen=True, kw_only=True):
    """Always without any: resource providers are not implemented."""


class Termination(Message, frozen=True, kw_only=True):
    """Answer of WAIT_*; `exit_status` is the wait status."""

    exit_status: int | None = None
    state: TaskState | None = None
    reason: StatusReason | None = None
    limitation: TaskResourceLimitation | None = None
    message: str | None = None


class Response(Message, frozen=True, kw_only=True):
    """Answer of an agent to a call that reads or waits."""

    type: ResponseType | None = None
    get_health: operator.Health | None = None
    get_flags: operator.Flags | None = None
    get_version: operator.Version | None = None
    get_metrics: operator.Metrics | None = None
    get_logging_level: operator.LoggingLevel | None = None
    list_files: operator.Files | None = None
    read_file: operator.FilePart | None = None
    get_state: State | None = None
    get_containers: Containers | None = None
    get_frameworks: Frameworks | None = None
    get_executors: Executors | None = None
    get_operations: operator.Operations | None = None
    get_tasks: Tasks | None = None
    get_agent: Agent | None = None
    get_resource_providers: ResourceProviders | None = None
    wait_nested_container: Termination | None = None
    wait_container: Termination | None = None
