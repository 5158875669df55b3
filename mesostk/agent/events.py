"""The vocabulary of the agent: facts told to its core, commands it gives to its shell.

Shared ones (`WallClock`, `Tick`, `Saved`, `Note`, `Exit`) are in `base.core`. Times are seconds.
Paths of disk operations are relative to work_dir.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesostk.agent.docker_spec import DockerPlan
from mesostk.agent.isolation import Own
from mesostk.base.core import Delete, Effect, Event, Put
from mesostk.wire import executor
from mesostk.wire.link import ClusterEpoch, Down, StatusUpdate, Subscribe, Up
from mesostk.wire.mesos import (
    AgentID,
    CommandURI,
    DrainConfig,
    ExecutorInfo,
    FrameworkInfo,
    HealthCheck,
    Operation,
    Resource,
    TaskInfo,
)

# -- disk ---------------------------------------------------------------------------------------


class Append(msgspec.Struct, frozen=True, gc=False):
    """Add `data` at the end of the file; a torn write is cut off again before anything else."""

    path: str
    data: bytes


class Link(msgspec.Struct, frozen=True, gc=False):
    """Make `path` a symbolic link to `target`, replacing what was there."""

    path: str
    target: str


class MakeVolume(msgspec.Struct, frozen=True, gc=False):
    """Make the directory of a persistent volume; `path` is absolute for one on another disk."""

    path: str


class RemoveVolume(msgspec.Struct, frozen=True, gc=False):
    """Remove all that is in a volume; the directory itself stays where it is a mounted disk."""

    path: str
    is_mount: bool = False


DiskOp = Put | Delete | Append | Link | MakeVolume | RemoveVolume


class Checkpoint(Effect, frozen=True):
    """Apply `ops` in order, then tell `Saved(token)` or `SaveFailed(token, …)`.

    Checkpoints are applied in the order they were asked for. `sync`: must survive a power cut, so
    fsync; the rest is read back only within the same boot, for which the page cache is enough.
    """

    token: int
    ops: tuple[DiskOp, ...]
    sync: bool = False


class SaveFailed(Event, frozen=True):
    """`Checkpoint(token)` was not written, e.g. for a full disk; no half of it counts."""

    token: int
    path: str
    error: str


# -- recovery, told before anything else --------------------------------------------------------


class RecoveredAgent(Event, frozen=True, kw_only=True):
    """Who this agent is: its id, and the highest epoch it has followed.

    `resources` are its dynamic reservations and persistent volumes, `operations` those whose
    outcome was not acknowledged.
    """

    agent_id: AgentID | None
    epoch: ClusterEpoch | None
    drain: DrainConfig | None = None
    resources: tuple[Resource, ...] = ()
    operations: tuple[Operation, ...] = ()


class RecoveredFramework(Event, frozen=True):
    """A framework that has runs on this agent."""

    framework: FrameworkInfo


class ResourcesRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Reservations and volumes, outcomes to be acknowledged, and the directories of volumes that
    are made and removed next: by the next start, should this one not get to it."""

    resources: tuple[Resource, ...] = ()
    operations: tuple[Operation, ...] = ()
    making: tuple[MakeVolume, ...] = ()
    removing: tuple[RemoveVolume, ...] = ()


class UpdateRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of `task.updates`: an update, or the acknowledgement of the one with `uuid`."""

    type: Literal["UPDATE", "ACK"]
    update: StatusUpdate | None = None
    uuid: bytes | None = None


KillCause = Literal["KILL", "HEALTH", "TIME", "DRAIN", "SHUTDOWN", "DISK"]


class KillRecord(msgspec.Struct, frozen=True, gc=False):
    """`task.kill`: why and how gently the task is ended, so that a restart does not forget it."""

    cause: KillCause
    grace_s: float
    text: str | None = None


class RunSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtime directory says of one run: alive and watched again, ended, or neither.

    `launched` is what is known anew of a live one whose start nobody may have been told.
    """

    alive: bool = False
    ended: Exited | None = None
    launched: Launched | None = None


class RecoveredTask(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk of one task."""

    info: TaskInfo
    updates: tuple[UpdateRecord, ...] = ()
    kill: KillRecord | None = None


class RecoveredRun(Event, frozen=True, kw_only=True):
    """One run without a sentinel: what is on disk about it, and what `seen` says became of it.

    A default executor's comes before those of its tasks, whose container ids begin with its own.
    """

    framework_id: str
    executor_info: ExecutorInfo
    container_id: str
    tasks: tuple[RecoveredTask, ...]
    seen: RunSeen
    rebooted: bool
    group: str | None = None


class RecoveryDone(Event, frozen=True):
    """Everything found was told; the agent may register. `lost`: unreadable records."""

    lost: int = 0


# -- the master ---------------------------------------------------------------------------------


class LeaderChanged(Event, frozen=True):
    """The leading master's `http://host:port`, or None when there is none."""

    url: str | None


class LinkMessage(Event, frozen=True):
    """A record that came down link number `link`."""

    link: int
    message: Down


class LinkClosed(Event, frozen=True):
    """Link number `link` could not be opened, was refused, or ended."""

    link: int
    reason: str


class Connect(Effect, frozen=True):
    """Open link number `link` to the master at `url` with this subscription."""

    link: int
    url: str
    subscribe: Subscribe


class Disconnect(Effect, frozen=True):
    """Close link number `link`; nothing more is to be told of it."""

    link: int


class SendUp(Effect, frozen=True):
    """Send a record up link number `link`, in order; lost silently if the link is gone."""

    link: int
    message: Up


class ShutdownRequested(Event, frozen=True):
    """The operator wants the agent to end its tasks and leave the cluster (SIGUSR1)."""

    reason: str


# -- runs ---------------------------------------------------------------------------------------


class VolumeLink(msgspec.Struct, frozen=True):
    """A link at `path` of the sandbox to the absolute `target`.

    `make`: a directory, if missing. `own`: it is given to the task's user.
    """

    path: str
    target: str
    make: bool = False
    own: bool = False


class VolumeMount(msgspec.Struct, frozen=True, kw_only=True):
    """A persistent volume at `source` (absolute), to be found below the sandbox."""

    source: str
    container_path: str
    read_only: bool = False


class GroupSandbox(msgspec.Struct, frozen=True, kw_only=True):
    """The sandbox of a group's executor, with those of its tasks in it.

    `is_open`: its tasks are of several users, each of whom must come to his own. `folders`: (path
    in it, owner) of what the tasks share.
    """

    user: str | None
    is_open: bool = False
    folders: tuple[tuple[str, str | None], ...] = ()


class Amounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a container may use; where no limit is given the request is it, infinity for none."""

    cpus: float
    mem_mib: float
    cpus_limit: float | None = None
    mem_limit_mib: float | None = None


class BindMount(msgspec.Struct, frozen=True, kw_only=True):
    """`source` seen at `target` by a run with a mount namespace; both absolute. `make`: a directory
    with the mode and owner of the target, if missing."""

    source: str
    target: str
    read_only: bool = False
    make: bool = False


class SecretUse(msgspec.Struct, frozen=True):
    """A secret by its name, as a variable, as a file at a path of the sandbox, or to pull with."""

    name: str
    variable: str | None = None
    path: str | None = None
    pulls: bool = False


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to start. `sandbox` is relative to work_dir.

    `within`, `around`: of a task of a group, what its executor's container may use, and that one's
    sandbox. `terminal`: the rows and
    columns of a terminal of its own, zeros for no size.

    With `docker`, that container is all that counts besides ids, sandbox, user, secrets, `around`
    and `shared`: the persistent volumes of its executor, whose sandbox they are in.
    """

    container_id: str
    framework_id: str
    executor_id: str
    executable: str
    argv: tuple[str, ...]
    env: dict[str, str]
    sandbox: str
    user: str | None
    amounts: Amounts
    within: Amounts | None = None
    around: GroupSandbox | None = None
    rlimits: tuple[tuple[str, int | None, int | None], ...] = ()
    grace_s: float = 3.0
    volumes: tuple[VolumeMount, ...] = ()
    docker: DockerPlan | None = None
    links: tuple[VolumeLink, ...] = ()
    shared: tuple[VolumeMount, ...] = ()
    own: Own = Own()
    mounts: tuple[BindMount, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    terminal: tuple[int, int] | None = None
    secrets: tuple[SecretUse, ...] = ()


class Resize(Effect, frozen=True):
    """What a running executor's container may use has changed: ask `amounts.of_executor`, soon.

    An executor may take hundreds of tasks a second, and each would count all of them again.
    """

    container_id: str


class Fetch(Effect, frozen=True):
    """Bring `uris` into the sandbox, then tell `Fetched` or `FetchFailed`."""

    container_id: str
    sandbox: str
    user: str | None
    uris: tuple[CommandURI, ...]


class CancelFetch(Effect, frozen=True):
    """The run is no longer wanted; nothing more is to be told of its fetching."""

    container_id: str


class Fetched(Event, frozen=True):
    container_id: str


class FetchFailed(Event, frozen=True):
    container_id: str
    error: str


class Launch(Effect, frozen=True):
    """Make the sandbox and start the run, then tell `Launched` or `LaunchFailed`."""

    spec: RunSpec


class Launched(Event, frozen=True):
    """The task was exec'ed; `pid` is the task's own.

    `data` goes into TASK_RUNNING; `ips` are the container's own addresses, if it has any.
    """

    container_id: str
    pid: int
    data: bytes | None = None
    ips: tuple[str, ...] = ()


class LaunchFailed(Event, frozen=True):
    """Nothing of the run is left running."""

    container_id: str
    error: str


class Exited(Event, frozen=True):
    """The run is over and nothing of it is left.

    `status` is the wait status, None if nobody saw the end. `failure`: why the task never ran.
    `killed`: the supervisor was asked to end it before it did. `oom`: the kernel killed it for its
    memory limit, `peak_mib` being the most that it had. `message` tells more where there is more to
    tell. `what` ended, in reports; `cause` is added to them.
    """

    container_id: str
    status: int | None
    failure: str | None = None
    killed: bool = False
    oom: bool = False
    peak_mib: float | None = None
    message: str | None = None
    what: str = "Command"
    cause: str | None = None


class KillRun(Effect, frozen=True):
    """TERM now, KILL after `grace_s`; said again, it may only shorten what remains."""

    container_id: str
    grace_s: float


class RunOver(Effect, frozen=True):
    """Nothing refers to the run any more: its records may go now, its sandbox after `gc_delay`."""

    framework_id: str
    executor_id: str
    container_id: str


class DiskExceeded(Event, frozen=True):
    """A run uses more of the disk than it was given, in bytes."""

    container_id: str
    used: int
    quota: int


# -- custom executors ---------------------------------------------------------------------------


class ExecutorSubscribed(Event, frozen=True, kw_only=True):
    """An executor opened `stream`; refused ones are told before it comes to this."""

    stream: str
    framework_id: str
    executor_id: str
    subscribe: executor.Subscribe


class ExecutorCalled(Event, frozen=True):
    """A call of a subscribed executor that was found in order."""

    call: executor.Call


class ExecutorStreamClosed(Event, frozen=True):
    """The executor's end of the stream is gone."""

    stream: str


class SendToExecutor(Effect, frozen=True):
    """Send an event over a stream; lost silently if it is gone."""

    stream: str
    event: executor.Event


class CloseExecutorStream(Effect, frozen=True):
    """End a stream after what was sent; nothing more is to be told of it."""

    stream: str


# -- checks -------------------------------------------------------------------------------------


class Probe(Effect, frozen=True):
    """Run `check` once for the task of a run, then tell `Probed` with the same `number`."""

    container_id: str
    number: int
    check: HealthCheck


class Probed(Event, frozen=True):
    """`error` is None when healthy."""

    container_id: str
    number: int
    error: str | None


class Check(Effect, frozen=True):
    """Run a general check once, described as `check`, then tell `Checked` with `number`."""

    container_id: str
    number: int
    check: HealthCheck


class Checked(Event, frozen=True):
    """What came of it: exit code, HTTP status or whether it connected; None for no result."""

    container_id: str
    number: int
    result: int | None
