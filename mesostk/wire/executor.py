"""`mesos.v1.executor`: the calls and events of `POST /api/v1/executor` on the agent.

As in the original protobuf a call or event is one message whose `type` names the sub-message that
counts. An executor's own updates carry a uuid of 16 bytes and source SOURCE_EXECUTOR.
"""

from __future__ import annotations

from typing import Literal

from mesostk.wire.mesos import (
    AgentInfo,
    ContainerID,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    Message,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
    TaskStatus,
    shown,
)

CallType = Literal["UNKNOWN", "SUBSCRIBE", "UPDATE", "MESSAGE", "HEARTBEAT"]

EventType = Literal[
    "UNKNOWN",
    "SUBSCRIBED",
    "LAUNCH",
    "LAUNCH_GROUP",
    "KILL",
    "ACKNOWLEDGED",
    "MESSAGE",
    "SHUTDOWN",
    "ERROR",
    "HEARTBEAT",
]


# -- calls --------------------------------------------------------------------------------------


class Update(Message, frozen=True, kw_only=True):
    status: TaskStatus


class Subscribe(Message, frozen=True, kw_only=True):
    """Tasks and updates that the agent has not acknowledged since the executor last subscribed."""

    unacknowledged_tasks: tuple[TaskInfo, ...] = ()
    unacknowledged_updates: tuple[Update, ...] = ()


class ToFramework(Message, frozen=True, kw_only=True, gc=False):
    """Body of the call MESSAGE; in protobuf it differs from the event's by its number."""

    data: bytes


class Call(Message, frozen=True, kw_only=True):
    """One executor call."""

    executor_id: ExecutorID
    framework_id: FrameworkID
    type: CallType | None = None
    subscribe: Subscribe | None = None
    update: Update | None = None
    message: ToFramework | None = None


# -- events -------------------------------------------------------------------------------------


class Subscribed(Message, frozen=True, kw_only=True):
    executor_info: ExecutorInfo
    framework_info: FrameworkInfo
    agent_info: AgentInfo
    container_id: ContainerID | None = None


class Launch(Message, frozen=True, kw_only=True):
    task: TaskInfo


class LaunchGroup(Message, frozen=True, kw_only=True):
    task_group: TaskGroupInfo


class Kill(Message, frozen=True, kw_only=True):
    task_id: TaskID
    kill_policy: KillPolicy | None = None


class Acknowledged(Message, frozen=True, kw_only=True):
    """The agent has the update on disk; whether the framework acknowledged it is not said."""

    task_id: TaskID
    uuid: bytes


class ToExecutor(Message, frozen=True, kw_only=True, gc=False):
    """Body of the event MESSAGE."""

    data: bytes


class Error(Message, frozen=True, kw_only=True, gc=False):
    message: str


class Event(Message, frozen=True, kw_only=True):
    """One executor event."""

    type: EventType = shown("UNKNOWN")
    subscribed: Subscribed | None = None
    acknowledged: Acknowledged | None = None
    launch: Launch | None = None
    launch_group: LaunchGroup | None = None
    kill: Kill | None = None
    message: ToExecutor | None = None
    error: Error | None = None
