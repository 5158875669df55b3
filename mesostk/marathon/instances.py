"""Instances: what Marathon knows of each task it launched, and what a status update does to it.

::

    Provisioned ─▶ Staging ─▶ Starting ─▶ Running ─▶ Killing ─┐
         │            │           │          │                ├─▶ Finished Failed Killed Error
         └────────────┴───────────┴──────────┴──▶ Unreachable ┘   Dropped Gone Unknown  (terminal)

An instance is made when its launch is decided and forgotten when it is terminal: a replacement is
a new instance. `goal` says what is wanted of it: Running, or Decommissioned (to be killed).
Source of names and mappings: spec/marathon §3.7.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

import msgspec

from mesostk.marathon.constraints import Placement
from mesostk.wire.mesos import CheckStatusInfo, IPAddress, TaskStatus

InstanceId = NewType("InstanceId", str)

#: The original cuts status messages at this length (spec/marathon §3.7).
MAX_MESSAGE_CHARS = 10_000

UNKNOWN_TASK_PREFIX = "Reconciliation: Task is unknown to the"


class Condition(StrEnum):
    """Where an instance is in its life."""

    PROVISIONED = "Provisioned"
    STAGING = "Staging"
    STARTING = "Starting"
    RUNNING = "Running"
    KILLING = "Killing"
    UNREACHABLE = "Unreachable"
    UNREACHABLE_INACTIVE = "UnreachableInactive"
    FINISHED = "Finished"
    FAILED = "Failed"
    KILLED = "Killed"
    ERROR = "Error"
    DROPPED = "Dropped"
    GONE = "Gone"
    UNKNOWN = "Unknown"


class Goal(StrEnum):
    """What is wanted of an instance."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    DECOMMISSIONED = "Decommissioned"


TERMINAL = frozenset(
    {
        Condition.ERROR,
        Condition.FAILED,
        Condition.FINISHED,
        Condition.KILLED,
        Condition.GONE,
        Condition.DROPPED,
        Condition.UNKNOWN,
    }
)

#: Ended by itself or by its agent, so the next launch waits (spec/marathon §3.8).
RAISES_BACK_OFF = frozenset(
    {
        Condition.DROPPED,
        Condition.ERROR,
        Condition.FAILED,
        Condition.GONE,
        Condition.FINISHED,
    }
)

_CONDITIONS = {
    "TASK_STAGING": Condition.STAGING,
    "TASK_STARTING": Condition.STARTING,
    "TASK_RUNNING": Condition.RUNNING,
    "TASK_KILLING": Condition.KILLING,
    "TASK_FINISHED": Condition.FINISHED,
    "TASK_FAILED": Condition.FAILED,
    "TASK_KILLED": Condition.KILLED,
    "TASK_ERROR": Condition.ERROR,
    "TASK_DROPPED": Condition.DROPPED,
    "TASK_GONE": Condition.GONE,
    "TASK_GONE_BY_OPERATOR": Condition.GONE,
    "TASK_UNREACHABLE": Condition.UNREACHABLE,
    "TASK_UNKNOWN": Condition.UNKNOWN,
}

_LOST_BUT_MAYBE_BACK = frozenset(
    {"REASON_RECONCILIATION", "REASON_AGENT_DISCONNECTED", "REASON_AGENT_REMOVED"}
)

#: Order of progress: an older update than what is known does not turn an instance back.
_RANK = {
    Condition.PROVISIONED: 0,
    Condition.STAGING: 1,
    Condition.STARTING: 2,
    Condition.RUNNING: 3,
    Condition.KILLING: 4,
}


class PodTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One container of a pod's instance; times are wall seconds."""

    name: str
    task_id: str
    condition: Condition = Condition.PROVISIONED
    state: str | None = None
    since: float
    started_at: float | None = None
    healthy: bool | None = None
    check: CheckStatusInfo | None = None
    message: str | None = None


class Instance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One launched task and what was decided about it; times are wall seconds.

    `is_leaving`: its agent is being evacuated, so it goes once a replacement is up elsewhere.
    `version` is the app version it was launched with, `config_version` the one whose instances need
    no replacement by it; `state` is the last Mesos task state, None until the first update.
    """

    id: InstanceId
    app_id: str
    version: str
    config_version: str
    task_id: str
    agent_id: str
    host: str
    role: str = "*"
    ports: tuple[int, ...] = ()
    placement: Placement
    cpus: float = 0.0
    mem: float = 0.0
    disk: float = 0.0
    gpus: float = 0.0
    condition: Condition = Condition.PROVISIONED
    goal: Goal = Goal.RUNNING
    state: str | None = None
    provisioned_at: float
    since: float
    started_at: float | None = None
    ip_addresses: tuple[IPAddress, ...] = ()
    agent_health: bool | None = None
    check: CheckStatusInfo | None = None
    message: str | None = None
    kill_reason: str | None = None
    is_leaving: bool = False
    #: Of a pod its containers; none of an app, whose one task `task_id` names.
    tasks: tuple[PodTask, ...] = ()

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The ids of all its tasks."""
        return tuple(task.task_id for task in self.tasks) if self.tasks else (self.task_id,)

    @property
    def live_task_ids(self) -> tuple[str, ...]:
        """The ids of the tasks that have not ended, as far as is known."""
        if not self.tasks:
            return (self.task_id,)
        return tuple(task.task_id for task in self.tasks if task.condition not in TERMINAL)

    @property
    def is_terminal(self) -> bool:
        """Nothing of it runs any more, as far as anyone will ever know."""
        return self.condition in TERMINAL

    @property
    def is_running(self) -> bool:
        """Its task was reported running and nothing later is known."""
        return self.condition is Condition.RUNNING

    @property
    def is_staged(self) -> bool:
        """Launched, not yet running: what `tasksStaged` counts."""
        return self.condition in {Condition.PROVISIONED, Condition.STAGING, Condition.STARTING}

    @property
    def is_unreachable(self) -> bool:
        """Its agent is out of reach; the task may live on."""
        return self.condition in {Condition.UNREACHABLE, Condition.UNREACHABLE_INACTIVE}


def condition_of(status: TaskStatus) -> Condition:
    """The condition that a Mesos task state means; TASK_LOST depends on its reason and message."""
    known = _CONDITIONS.get(status.state)
    if known is not None:
        return known
    reason = status.reason
    message = "" if status.message is None else status.message
    if reason == "REASON_TASK_UNKNOWN" or message.startswith(UNKNOWN_TASK_PREFIX):
        return Condition.UNKNOWN
    if reason in _LOST_BUT_MAYBE_BACK:
        return Condition.UNREACHABLE
    return Condition.GONE


def updated(instance: Instance, status: TaskStatus, wall_s: float) -> Instance:
    """`instance` after `status`; the same object if it says nothing new.

    A late STAGING or STARTING does not undo RUNNING; a RUNNING (or a reconciliation) after
    Unreachable brings it back.
    """
    condition = condition_of(status)
    if is_stale(instance.condition, condition):
        return instance
    running = condition is Condition.RUNNING
    started_at = wall_s if running and instance.started_at is None else instance.started_at
    changed = msgspec.structs.replace(
        instance,
        condition=condition,
        state=status.state,
        started_at=started_at,
        ip_addresses=addresses_of(status) or instance.ip_addresses,
        agent_health=instance.agent_health if status.healthy is None else status.healthy,
        check=instance.check if status.check_status is None else status.check_status,
        message=message_of(status, instance.message),
        since=wall_s if condition is not instance.condition else instance.since,
    )
    return instance if changed == instance else changed


def message_of(status: TaskStatus, before: str | None) -> str | None:
    """What is known in words after `status`: what it says, else what was said before, but for a
    failed health check once the task is healthy."""
    if status.message is not None:
        return status.message[:MAX_MESSAGE_CHARS]
    return None if status.state == "TASK_RUNNING" and status.healthy else before


def is_stale(old: Condition, new: Condition) -> bool:
    """Whether `new` was told before `old`."""
    return old in _RANK and new in _RANK and _RANK[new] < _RANK[old]


def addresses_of(status: TaskStatus) -> tuple[IPAddress, ...]:
    """The container's addresses in a status."""
    if status.container_status is None:
        return ()
    return tuple(
        address
        for network in status.container_status.network_infos
        for address in network.ip_addresses
    )
