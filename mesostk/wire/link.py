"""The internal agent↔master link (ours, versioned; the original's is libprocess).

`POST /api/link` with one framed `Subscribe` answers with a RecordIO stream of `DownMessage`s that
stays open; further calls of the agent are POSTs to the same path with header `Mesos-Stream-Id`, the
body one or many RecordIO frames of `UpMessage`s. JSON, tagged by `type`. Answers: 202; 307/503 as
the public interfaces when not leading; 400 when not decodable; 403 for an unknown stream id, upon
which the agent subscribes again; 426 for a protocol that is more than one version away.

Nothing is retried by the link: a broken stream means that the agent subscribes again, and that
re-subscription reconciles everything.
"""

from __future__ import annotations

from mesostk.wire.mesos import (
    UUID,
    AgentCapability,
    AgentID,
    AgentInfo,
    DrainConfig,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    Message,
    OfferOperation,
    Operation,
    OperationStatus,
    Resource,
    Task,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

#: Version spoken; a peer may be one behind or ahead, so that a rolling upgrade works both ways.
PROTOCOL = 1

#: Header that names the stream on every call after the subscription.
STREAM_ID_HEADER = "Mesos-Stream-Id"


class ClusterEpoch(Message, frozen=True, kw_only=True, gc=False):
    """Agents refuse a lower `counter` of the same `cluster_id`, and any other `cluster_id`."""

    cluster_id: str
    counter: int


# -- up: agent → master -------------------------------------------------------------------------


class Up(Message, frozen=True, kw_only=True, tag_field="type"):
    """Base of the messages that an agent sends."""


class FrameworkExecutor(Message, frozen=True, kw_only=True):
    """An executor that runs on the agent."""

    framework_id: FrameworkID
    executor: ExecutorInfo


class Subscribe(Up, frozen=True, kw_only=True, tag="SUBSCRIBE"):
    """First record of the link.

    `agent_info.id` is set when the agent was registered before. `tasks` are all tasks that the
    master must know: queued ones as TASK_STAGING, running ones, and terminal ones whose last
    update is not acknowledged. `operations` are those whose outcome is not acknowledged; what
    others did shows in `checkpointed_resources`. `last_epoch` is the highest epoch the agent has
    followed.
    """

    protocol: int
    version: str
    agent_info: AgentInfo
    ip: str
    capabilities: tuple[AgentCapability, ...] = ()
    checkpointed_resources: tuple[Resource, ...] = ()
    resource_version: str | None = None
    frameworks: tuple[FrameworkInfo, ...] = ()
    executors: tuple[FrameworkExecutor, ...] = ()
    tasks: tuple[Task, ...] = ()
    operations: tuple[Operation, ...] = ()
    last_epoch: ClusterEpoch | None = None


class StatusUpdate(Message, frozen=True, kw_only=True):
    """One update of one task; `latest_state` may be ahead of `status.state`."""

    framework_id: FrameworkID
    status: TaskStatus
    latest_state: TaskState


class StatusUpdates(Up, frozen=True, kw_only=True, tag="STATUS_UPDATES"):
    updates: tuple[StatusUpdate, ...] = ()


class ExitedExecutor(Up, frozen=True, kw_only=True, tag="EXITED_EXECUTOR"):
    """`status` is the wait status."""

    framework_id: FrameworkID
    executor_id: ExecutorID
    status: int


class ExecutorMessage(Up, frozen=True, kw_only=True, tag="MESSAGE"):
    framework_id: FrameworkID
    executor_id: ExecutorID
    data: bytes


class UpdateAgent(Up, frozen=True, kw_only=True, tag="UPDATE_AGENT"):
    """New totals: all that the agent has, with its reservations and volumes, or nothing new."""

    resources: tuple[Resource, ...] = ()
    oversubscribed_resources: tuple[Resource, ...] = ()
    resource_version: str | None = None


class OperationUpdate(Up, frozen=True, kw_only=True, tag="OPERATION_UPDATE"):
    """The outcome of an operation, saved before it is told; `status.uuid` asks for an ACK."""

    framework_id: FrameworkID | None = None
    operation_uuid: UUID
    status: OperationStatus


class Pong(Up, frozen=True, kw_only=True, tag="PONG"):
    """Any call counts as one; this is sent when there is nothing else to say."""


class Unregister(Up, frozen=True, kw_only=True, tag="UNREGISTER"):
    """The agent ends its tasks and never comes back: the master closes the link when it has
    forgotten it. Source: UnregisterSlaveMessage, spec §8.1."""


UpMessage = (
    Subscribe
    | StatusUpdates
    | ExitedExecutor
    | ExecutorMessage
    | UpdateAgent
    | OperationUpdate
    | Pong
    | Unregister
)


# -- down: master → agent -----------------------------------------------------------------------


class Down(Message, frozen=True, kw_only=True, tag_field="type"):
    """Base of the messages that a master sends."""


class TaskRef(Message, frozen=True, kw_only=True):
    framework_id: FrameworkID
    task_id: TaskID


class Registered(Down, frozen=True, kw_only=True, tag="REGISTERED"):
    """First record down. `ping_timeout_s`: the agent subscribes again after that long a silence.

    `report` names tasks that the master holds for this agent and that the agent did not bring:
    it must answer for each with a status update (`TASK_DROPPED`, or the state it knows).
    """

    agent_id: AgentID
    epoch: ClusterEpoch
    heartbeat_s: float
    ping_timeout_s: float
    protocol: int
    report: tuple[TaskRef, ...] = ()


class RunTask(Down, frozen=True, kw_only=True, tag="RUN_TASK"):
    """`launch_executor`: whether the task's executor is to be started, or runs already; a task of
    an executor that has ended meanwhile is dropped. None for a command task."""

    framework: FrameworkInfo
    task: TaskInfo
    launch_executor: bool | None = None


class RunGroup(Down, frozen=True, kw_only=True, tag="RUN_GROUP"):
    framework: FrameworkInfo
    executor: ExecutorInfo
    task_group: TaskGroupInfo
    launch_executor: bool | None = None


class Kill(Down, frozen=True, kw_only=True, tag="KILL"):
    framework_id: FrameworkID
    task_id: TaskID
    kill_policy: KillPolicy | None = None


class Acknowledge(Down, frozen=True, kw_only=True, tag="ACK"):
    framework_id: FrameworkID
    task_id: TaskID
    uuid: bytes


class SchedulerMessage(Down, frozen=True, kw_only=True, tag="MESSAGE"):
    framework_id: FrameworkID
    executor_id: ExecutorID
    data: bytes


class ApplyOperation(Down, frozen=True, kw_only=True, tag="APPLY_OPERATION"):
    framework_id: FrameworkID | None = None
    operation: OfferOperation
    operation_uuid: UUID
    resource_version: str | None = None


class AcknowledgeOperation(Down, frozen=True, kw_only=True, tag="ACK_OPERATION"):
    """The outcome `status_uuid` of an operation was heard; only for agents that can feed back."""

    operation_uuid: UUID
    status_uuid: UUID


class Drain(Down, frozen=True, kw_only=True, tag="DRAIN"):
    config: DrainConfig


class UpdateFramework(Down, frozen=True, kw_only=True, tag="UPDATE_FRAMEWORK"):
    framework: FrameworkInfo


class ShutdownFramework(Down, frozen=True, kw_only=True, tag="SHUTDOWN_FRAMEWORK"):
    framework_id: FrameworkID


class ShutdownExecutor(Down, frozen=True, kw_only=True, tag="SHUTDOWN_EXECUTOR"):
    framework_id: FrameworkID
    executor_id: ExecutorID


class Heartbeat(Down, frozen=True, kw_only=True, tag="HEARTBEAT"):
    """`connected` false: the master holds the agent for disconnected; subscribe again at once."""

    connected: bool = True


class Shutdown(Down, frozen=True, kw_only=True, tag="SHUTDOWN"):
    """The agent ends its executors and itself, for the reason given."""

    message: str


DownMessage = (
    Registered
    | RunTask
    | RunGroup
    | Kill
    | Acknowledge
    | SchedulerMessage
    | ApplyOperation
    | AcknowledgeOperation
    | Drain
    | UpdateFramework
    | ShutdownFramework
    | ShutdownExecutor
    | Heartbeat
    | Shutdown
)
