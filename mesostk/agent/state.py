"""What the agent knows, and the timers and checkpoints it waits for.

::

    State ── frameworks {fid: Framework} ── runs {container id: Run} ── tasks {task id: TaskEntry}
         ├── streams    {(fid, task id): Stream}      updates not yet acknowledged
         ├── waiting    {token: what a checkpoint is for}
         └── timers     heap of (deadline, seq, what)

Handlers in `registration`, `tasks`, `updates` and `checks` take the state, change it and return
effects.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import Literal

import msgspec

from mesostk.agent import docker_spec
from mesostk.agent.events import Checkpoint, DiskOp, KillRecord
from mesostk.agent.isolation import Isolation
from mesostk.resources.resources import Resources
from mesostk.wire.link import ClusterEpoch, Down, StatusUpdate
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    AgentID,
    AgentInfo,
    Attribute,
    CheckInfo,
    CheckStatusInfo,
    DomainInfo,
    DrainConfig,
    ExecutorInfo,
    FrameworkInfo,
    HealthCheck,
    Operation,
    Resource,
    StatusReason,
    TaskInfo,
    TaskResourceLimitation,
    TaskState,
    TaskStatus,
)

#: (framework id, task id)
TaskKey = tuple[str, str]

Phase = Literal["RECOVERING", "DISCONNECTED", "REGISTERING", "RUNNING", "TERMINATING"]

#: SAVING: records on their way to the disk · FETCHING: URIs · LAUNCHING: asked of the launcher ·
#: RUNNING: exec'ed · OVER: nothing of it is left, updates may still wait.
RunPhase = Literal["SAVING", "FETCHING", "LAUNCHING", "RUNNING", "OVER"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided. `work_dir` absolute; `base_env` is inherited by every task."""

    hostname: str
    ip: str
    port: int
    resources: tuple[Resource, ...]
    work_dir: str
    version: str
    attributes: tuple[Attribute, ...] = ()
    domain: DomainInfo | None = None
    containerizers: tuple[str, ...] = ("mesos",)
    switch_user: bool = False
    base_env: dict[str, str] = msgspec.field(default_factory=dict)
    adopt_cluster: str | None = None
    registration_backoff_s: float = 1.0
    #: Source: spec §8.1. Shorter where no detector tells that the master is back.
    registration_backoff_max_s: float = 60.0
    shutdown_grace_s: float = 5.0
    executor_registration_timeout_s: float = 60.0
    executor_reregistration_timeout_s: float = 2.0
    recovery_timeout_s: float = 900.0
    libprocess_ip: str | None = None
    fetch_uris: bool = True
    cgroups_enable_cfs: bool = False
    #: Of the host, 0 if unknown.
    memory_bytes: int = 0
    sandbox_directory: str = "/mnt/mesos/sandbox"
    isolation: Isolation = Isolation()
    max_completed_frameworks: int = 50
    max_completed_runs: int = 150


class TaskEntry(msgspec.Struct, kw_only=True):
    """One task, from RUN_TASK until its terminal update is acknowledged.

    `gone`: it ends because the agent is to be marked gone. Of a custom executor's task: `saved`
    once its record is on disk, `sent` once the executor was told of it, `uuids` of its updates,
    `group` of those that it is told of together.
    """

    info: TaskInfo
    state: TaskState = "TASK_STAGING"
    statuses: list[TaskStatus] = msgspec.field(default_factory=list)
    kill: KillRecord | None = None
    gone: bool = False
    healthy: bool | None = None
    saved: bool = False
    sent: bool = False
    uuids: set[bytes] = msgspec.field(default_factory=set)
    group: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What the live tasks of an executor are told of its end."""

    state: TaskState
    reason: StatusReason
    message: str


class Checker(msgspec.Struct, kw_only=True):
    """Health checking of one task; `number` is that of the probe under way or due next."""

    check: HealthCheck
    since: float
    number: int = 0
    failures: int = 0
    has_succeeded: bool = False


class GeneralChecker(msgspec.Struct, kw_only=True):
    """General checking of one task; `result` is what was told last."""

    check: CheckInfo
    result: CheckStatusInfo
    number: int = 0


class Run(msgspec.Struct, kw_only=True, eq=False):
    """One container: the life of a process that the agent started, or of a default executor.

    ::

        command task      one run with one task; its made-up executor has no type
        custom executor   one run, its process the executor's, with any number of tasks
        default executor  one run without process or tasks; `nested` holds a run for each task

    `on_disk`: it has records in work_dir. `silent`: its end is not reported, because the framework
    is gone or does not checkpoint. `ips`: the container's own addresses, if not the agent's.
    `kill_at`: when the grace of a kill is over; `kill_saved`: its reason is on disk. `stream`: over
    which the executor is subscribed, and `subscribed` whether it ever was. `verdict`: what its
    tasks are told when the agent itself ended the executor. `limitation`: what was used up.
    `group`: names the task group of a nested run.
    """

    framework_id: str
    executor: ExecutorInfo
    container_id: str
    phase: RunPhase
    tasks: dict[str, TaskEntry] = msgspec.field(default_factory=dict)
    nested: dict[str, Run] = msgspec.field(default_factory=dict)
    completed: deque[TaskEntry] = msgspec.field(default_factory=lambda: deque(maxlen=200))
    pid: int | None = None
    started_at: float | None = None
    on_disk: bool = True
    silent: bool = False
    checker: Checker | None = None
    general: GeneralChecker | None = None
    ips: tuple[str, ...] = ()
    kill_at: float | None = None
    kill_saved: bool = False
    stream: str | None = None
    subscribed: bool = False
    terminating: bool = False
    verdict: Verdict | None = None
    limitation: TaskResourceLimitation | None = None
    group: str | None = None

    @property
    def is_docker(self) -> bool:
        """Whether the Docker engine runs it."""
        if self.parent_id is not None:
            return docker_spec.is_for_engine(self.only_task.info.container)
        return docker_spec.is_for_engine(self.executor.container)

    @property
    def executor_id(self) -> str:
        return self.executor.executor_id.value

    @property
    def parent_id(self) -> str | None:
        """Container id of the default executor that a nested run belongs to."""
        return self.container_id.partition(".")[0] if "." in self.container_id else None

    @property
    def is_custom(self) -> bool:
        """Whether its process is an executor of the framework's."""
        return self.executor.type == "CUSTOM"

    @property
    def is_default(self) -> bool:
        """Whether it stands for a default executor, which has no process."""
        return self.executor.type == "DEFAULT" and self.parent_id is None

    @property
    def is_executor(self) -> bool:
        """Whether the master knows of it as an executor."""
        return self.is_custom or self.is_default

    @property
    def only_task(self) -> TaskEntry:
        """The task that a command task's or a nested run is."""
        assert not self.is_executor
        return next(iter(self.tasks.values()))

    @property
    def held(self) -> list[Resource]:
        """What it keeps from others: of an executor, what that was given itself, too."""
        held = [] if not self.is_executor else list(self.executor.resources)
        for entry in self.tasks.values():
            if entry.state not in TERMINAL_STATES:
                held += entry.info.resources
        return held


class Framework(msgspec.Struct, kw_only=True, eq=False):
    """`runs` by container id, changed by `add` and `remove` only.

    Among them `executors`, whose tasks come and go, and the others by their only task, `by_task`.
    """

    info: FrameworkInfo
    runs: dict[str, Run] = msgspec.field(default_factory=dict)
    executors: dict[str, Run] = msgspec.field(default_factory=dict)
    by_task: dict[str, Run] = msgspec.field(default_factory=dict)
    completed: deque[Run] = msgspec.field(default_factory=deque)
    terminating: bool = False
    on_disk: bool = False

    def can(self, capability: str) -> bool:
        """Whether the framework declared `capability`."""
        return any(c.type == capability for c in self.info.capabilities)

    @property
    def dropped(self) -> TaskState:
        """The state of a task that was never started, in the framework's terms."""
        return "TASK_DROPPED" if self.can("PARTITION_AWARE") else "TASK_LOST"

    def add(self, run: Run) -> None:
        """Count a run among the framework's; one that is no executor has its task by now."""
        self.runs[run.container_id] = run
        if run.is_executor:
            self.executors[run.container_id] = run
        else:
            self.by_task.setdefault(run.only_task.info.task_id.value, run)

    def remove(self, run: Run) -> None:
        """Forget a run, if it is one of the framework's."""
        self.runs.pop(run.container_id, None)
        self.executors.pop(run.container_id, None)
        if not run.is_executor and self.by_task.get(run.only_task.info.task_id.value) is run:
            del self.by_task[run.only_task.info.task_id.value]

    def run_of(self, task_id: str) -> Run | None:
        """The run that has a task of that id."""
        run = self.by_task.get(task_id)
        if run is not None:
            return run
        return next((each for each in self.executors.values() if task_id in each.tasks), None)

    def executor_run(self, executor_id: str) -> Run | None:
        """The run of a custom or default executor that has not ended."""
        for run in self.executors.values():
            if run.executor_id == executor_id and run.phase != "OVER":
                return run
        return None

    def why_not_executor(self, executor_id: str, kind: str) -> str | None:
        """Why an executor of this kind cannot have that name: one of the other kind has it."""
        run = self.executor_run(executor_id)
        if run is None or run.executor.type == kind:
            return None
        return (
            f"Executor '{executor_id}' runs as {run.executor.type} on this agent; "
            f"name one of type {kind} otherwise"
        )


class Pending(msgspec.Struct, kw_only=True):
    """One update of a stream; `saved` once it may be shown to anyone."""

    update: StatusUpdate
    saved: bool = False


class Stream(msgspec.Struct, kw_only=True):
    """The updates of one task that are not acknowledged yet, oldest first.

    `path` is where they are appended, None for a task that has no records on disk.
    `sent` is true while the first one is on its way over the present link; `sendings` tells the
    timers of earlier sendings from that of the last.
    """

    key: TaskKey
    path: str | None
    pending: deque[Pending] = msgspec.field(default_factory=deque)
    sent: bool = False
    acking: bool = False
    sendings: int = 0
    retry_s: float = 10.0


class Timer(msgspec.Struct, frozen=True):
    """Base of what a deadline is for; each module declares its own."""


class Wait(msgspec.Struct, frozen=True):
    """Base of what a checkpoint is for; each module declares its own."""


class State:
    """Everything the core knows. Made without any I/O; `rng` gives ids and back-offs."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self.settings = settings
        self.rng = rng
        self.phase: Phase = "RECOVERING"
        self.agent_id: AgentID | None = None
        self.epoch: ClusterEpoch | None = None
        self.drain: DrainConfig | None = None
        #: All that the agent has, with its reservations and volumes in their place.
        self.total = Resources.of(settings.resources)
        #: Operations whose outcome is not acknowledged, by uuid.
        self.operations: dict[bytes, Operation] = {}
        #: An operation is being saved; what the master says waits in `held`.
        self.applying = False
        self.leader: str | None = None
        self.link: int | None = None
        self.link_url: str | None = None
        self.links = 0
        self.attempt = 0
        self.backoff_s = settings.registration_backoff_s
        self.ping_timeout_s = 75.0
        self.heard_at = 0.0
        self.held: deque[Down] = deque()
        self.shutdown_reason: str | None = None
        self.leaving = False
        #: The master was told, and closes the link when it has heard.
        self.farewell = False
        self.recovered = False
        #: When that was done, by the monotonic clock.
        self.recovered_at: float | None = None
        self.registering = False
        #: Runs that must end, or executors that must subscribe again, before the agent registers.
        self.recovery_kills: set[str] = set()
        self.reconnecting: set[str] = set()
        #: Default executors of which a task ended: to be looked at after the event.
        self.unsettled: set[str] = set()
        #: Executors of which a task came or ended: to be told their limits after the event.
        self.resized: set[str] = set()
        self.lost_records = 0
        self.frameworks: dict[str, Framework] = {}
        self.completed_frameworks: deque[Framework] = deque(
            maxlen=settings.max_completed_frameworks
        )
        self.runs: dict[str, Run] = {}
        self.streams: dict[TaskKey, Stream] = {}
        self.waiting: dict[int, Wait] = {}
        self.counters: dict[str, int] = {}
        self.offset_s = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._seq = 0

    # -- time, ids, checkpoints ------------------------------------------------------------------

    def wall(self, now: float) -> float:
        """Seconds since the epoch, for fields that go on the wire."""
        return now + self.offset_s

    def call_at(self, when: float, timer: Timer) -> None:
        """Have `timer` handled at `when`; it must find out itself whether it is still wanted."""
        self._seq += 1
        heapq.heappush(self._timers, (when, self._seq, timer))

    def deadline(self) -> float | None:
        """When the next timer is due."""
        return self._timers[0][0] if self._timers else None

    def due(self, now: float) -> list[Timer]:
        """Timers whose time has come, in order; those armed meanwhile wait for the next tick."""
        found = []
        while self._timers and self._timers[0][0] <= now:
            found.append(heapq.heappop(self._timers)[2])
        return found

    def new_uuid(self) -> bytes:
        """16 bytes of a version 4 UUID."""
        raw = bytearray(self.rng.randbytes(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)

    def new_id(self) -> str:
        """A version 4 UUID in the usual spelling."""
        text = self.new_uuid().hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def save(self, what: Wait, *ops: DiskOp, sync: bool = False) -> Checkpoint:
        """A checkpoint of `ops`; `what` is handled when it is durable or failed."""
        self._seq += 1
        self.waiting[self._seq] = what
        return Checkpoint(self._seq, ops, sync)

    def count(self, name: str) -> None:
        """Add one to the counter `name`, shown as `slave/<name>`."""
        self.counters[name] = self.counters.get(name, 0) + 1

    # -- looking things up -----------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether updates may go to the master now."""
        return self.link is not None and self.phase in ("RUNNING", "TERMINATING")

    @property
    def own_id(self) -> AgentID:
        """The agent's id; only asked where tasks exist, which needs one."""
        assert self.agent_id is not None
        return self.agent_id

    def agent_info(self) -> AgentInfo:
        """The agent as it presents itself."""
        s = self.settings
        return AgentInfo(
            hostname=s.hostname,
            port=s.port,
            resources=s.resources,
            attributes=s.attributes,
            id=self.agent_id,
            domain=s.domain,
        )

    def find(self, key: TaskKey) -> tuple[Run, TaskEntry] | None:
        """The run and entry of a task that is live or has unacknowledged updates."""
        framework = self.frameworks.get(key[0])
        run = framework.run_of(key[1]) if framework is not None else None
        return (run, run.tasks[key[1]]) if run is not None else None

    def live_runs(self) -> list[Run]:
        """Runs that hold resources."""
        return [run for run in self.runs.values() if run.phase != "OVER"]

    def in_use(self) -> list[list[Resource]]:
        """What each live run holds."""
        return [run.held for run in self.live_runs()]
