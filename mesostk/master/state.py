"""The records of the master's core: its configuration and what it knows of everyone.

They refer to each other by id only. Aggregates kept for speed (`Agent.free`) are recomputed and
compared by `core.Master.check`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from mesostk.master.acls import NO_ACLS, Acls
from mesostk.resources import scalar
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    AgentInfo,
    DomainInfo,
    DrainInfo,
    ExecutorInfo,
    FrameworkInfo,
    KillPolicy,
    Offer,
    Operation,
    RateLimits,
    Task,
)
from mesostk.wire.scheduler import OfferConstraints

_DAY_S = 86400.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What flags decide. Times in seconds. The defaults are those of spec/mesos.md §9.2."""

    ip: str
    port: int = 5050
    hostname: str
    version: str
    domain: DomainInfo | None = None
    require_agent_domain: bool = False

    agent_ping_timeout_s: float = 15.0
    max_agent_ping_timeouts: int = 5
    agent_reregister_timeout_s: float = 600.0
    #: (n, seconds): at most n agents are marked unreachable in that time.
    agent_removal_rate: tuple[int, float] | None = None
    #: Share of the registered agents that may be lost at a failover; more end the process.
    recovery_agent_removal_limit: float = 1.0
    max_executors_per_agent: int | None = None

    registry_gc_interval_s: float = 900.0
    registry_max_agent_age_s: float = 14 * _DAY_S
    registry_max_agent_count: int = 102400

    heartbeat_s: float = 15.0
    allocation_interval_s: float = 1.0
    #: After a pass over changed agents the next waits so long, so that what many tasks give back
    #: is offered together; a change after that time is offered at once, and so is a new wish.
    gathering_s: float = 0.0
    #: With quotas set: offers are made again when so many agents are back, or after that time.
    allocator_agent_recovery_factor: float = 0.8
    allocator_recovery_timeout_s: float = 600.0
    offer_timeout_s: float | None = None
    #: An offer passes if it holds any of these sets of thousandths; none = everything passes.
    min_allocatable: tuple[Mapping[str, int], ...] = ({"cpus": 10}, {"mem": 32000})
    filter_gpu_resources: bool = True
    #: Of regular expressions in offer constraints: steps, and bytes as RE2 would need them.
    max_regex_size: int = 100
    max_regex_bytes: int = 4096
    fair_sharing_excluded: frozenset[str] = frozenset()
    #: `drf` or `random`: who is served next.
    role_sorter: str = "drf"
    framework_sorter: str = "drf"
    weights: Mapping[str, float] = msgspec.field(default_factory=dict)
    rate_limits: RateLimits | None = None
    #: The only roles that may subscribe; None = any.
    roles: frozenset[str] | None = None
    #: The only hostnames that get offered; None = any.
    whitelist: frozenset[str] | None = None
    root_submissions: bool = True
    acls: Acls = NO_ACLS

    max_completed_frameworks: int = 50
    max_completed_tasks_per_framework: int = 1000
    max_unreachable_tasks_per_framework: int = 1000
    max_operator_subscribers: int = 1000

    @property
    def ping_timeout_s(self) -> float:
        """Silence after which an agent is unreachable, and after which an agent looks again."""
        return self.agent_ping_timeout_s * self.max_agent_ping_timeouts


class TaskRecord(msgspec.Struct, eq=False):
    """A task as shown (`wire`, replaced at each change) and what it holds on its agent.

    `held` has its allocation role; it is given back when the task becomes terminal.
    """

    wire: Task
    role: str
    held: Resources

    @property
    def task_id(self) -> str:
        return self.wire.task_id.value

    @property
    def framework_id(self) -> str:
        return self.wire.framework_id.value

    @property
    def agent_id(self) -> str:
        return self.wire.agent_id.value

    @property
    def is_terminal(self) -> bool:
        return self.wire.state in TERMINAL_STATES


class Executor(msgspec.Struct, eq=False):
    """An executor that was made for a task; command tasks have none here."""

    info: ExecutorInfo
    role: str
    held: Resources


class OperationRecord(msgspec.Struct, eq=False):
    """An operation that its agent has not answered, or whose outcome is not acknowledged."""

    wire: Operation

    @property
    def operation_id(self) -> str | None:
        """What the framework calls it; None if it wants no feedback."""
        return None if self.wire.info.id is None else self.wire.info.id.value

    @property
    def is_pending(self) -> bool:
        """Whether the agent may still have to apply it."""
        return self.wire.latest_status.state == "OPERATION_PENDING"


class Agent(msgspec.Struct, kw_only=True, eq=False):
    """A registered agent; `stream` is None while it is disconnected.

    `free` = `total` - what tasks, executors and offers hold, without allocation roles; shared
    volumes are always free, because several may hold them.
    `heard_at` is monotonic, the other times are seconds since the epoch.
    """

    id: str
    info: AgentInfo
    ip: str
    version: str
    capabilities: frozenset[str]
    total: Resources
    free: Resources
    stream: str | None
    heard_at: float
    #: It brought more than its total holds; then `free` is recomputed instead of added to.
    is_overcommitted: bool = False
    registered_at: float
    reregistered_at: float | None = None
    deactivated: bool = False
    drain_info: DrainInfo | None = None
    #: When this master ordered it; unknown after a failover.
    drain_started_at: float | None = None
    resource_version: str | None = None
    tasks: dict[tuple[str, str], TaskRecord] = msgspec.field(default_factory=dict)
    executors: dict[tuple[str, str], Executor] = msgspec.field(default_factory=dict)
    #: By uuid, in the order in which they were sent.
    operations: dict[bytes, OperationRecord] = msgspec.field(default_factory=dict)
    offers: set[str] = msgspec.field(default_factory=set)
    #: Kills that came while it was disconnected.
    kills: dict[tuple[str, str], KillPolicy | None] = msgspec.field(default_factory=dict)

    @property
    def pid(self) -> str:
        return f"slave(1)@{self.ip}:{self.info.port}"

    @property
    def is_active(self) -> bool:
        """Whether it gets offered."""
        return self.stream is not None and not self.deactivated

    def held(self) -> list[Resources]:
        """What each live task and executor holds, with allocation roles; offers not counted."""
        tasks = [task.held for task in self.tasks.values() if not task.is_terminal]
        return tasks + [executor.held for executor in self.executors.values()]

    @property
    def address(self) -> tuple[str, int]:
        return (self.ip, self.info.port)


class Framework(msgspec.Struct, kw_only=True, eq=False):
    """A framework; `stream` is None while it is disconnected.

    `recovered`: known only from what agents told after a failover. `subscription` counts its
    subscriptions, so that a timer of an old one is told apart.
    """

    id: str
    info: FrameworkInfo
    roles: frozenset[str]
    capabilities: frozenset[str]
    stream: str | None
    completed_tasks: deque[Task]
    recovered: bool = False
    active: bool = True
    registered_at: float = 0.0
    reregistered_at: float = 0.0
    unregistered_at: float = 0.0
    subscription: int = 0
    suppressed: set[str] = msgspec.field(default_factory=set)
    #: What an offer must hold at least, in thousandths, by role; instead of the master's.
    min_allocatable: Mapping[str, tuple[Mapping[str, int], ...]] = msgspec.field(
        default_factory=dict
    )
    offer_constraints: OfferConstraints | None = None
    tasks: dict[str, TaskRecord] = msgspec.field(default_factory=dict)
    #: Oldest first.
    unreachable_tasks: dict[str, Task] = msgspec.field(default_factory=dict)
    #: (agent, executor) ids.
    executors: dict[tuple[str, str], Executor] = msgspec.field(default_factory=dict)
    #: Those that want feedback, by the id that the framework gave.
    operations: dict[str, OperationRecord] = msgspec.field(default_factory=dict)
    offers: set[str] = msgspec.field(default_factory=set)
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    #: Calls that wait for their turn under --rate_limits, or were dropped.
    calls_not_processed: int = 0

    @property
    def is_partition_aware(self) -> bool:
        return "PARTITION_AWARE" in self.capabilities

    @property
    def is_multi_role(self) -> bool:
        return "MULTI_ROLE" in self.capabilities


class OfferRecord(msgspec.Struct, eq=False):
    """An outstanding offer; `resources` have their allocation role, `wire` is as it was sent."""

    id: str
    framework_id: str
    agent_id: str
    role: str
    resources: Resources
    wire: Offer


def roles_of(info: FrameworkInfo) -> frozenset[str]:
    """The roles a framework subscribes to: `roles` with MULTI_ROLE, else `role` or `*`."""
    if any(item.type == "MULTI_ROLE" for item in info.capabilities):
        return frozenset(info.roles)
    return frozenset({info.role if info.role is not None else "*"})


def min_allocatable_of(info: FrameworkInfo) -> Mapping[str, tuple[Mapping[str, int], ...]]:
    """The framework's own least offers: sets of thousandths by role."""
    return {
        role: tuple(
            {name: scalar.from_float(item.value) for name, item in each.quantities.items()}
            for each in filters.min_allocatable_resources.quantities
        )
        for role, filters in info.offer_filters.items()
        if filters.min_allocatable_resources is not None
    }


def capabilities_of(info: FrameworkInfo) -> frozenset[str]:
    return frozenset(item.type for item in info.capabilities if item.type is not None)
