"""A bench for the agent's core: simulated disk, processes and master, nothing real.

`Bench` performs effects at once, for tables of events and effects. `World` queues every effect and
performs them in a random order that the real parts allow, crashing in between.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any, TypeVar

import msgspec

from mesostk.agent import layout, recovery
from mesostk.agent.core import Agent
from mesostk.agent.events import (
    Append,
    Checkpoint,
    Connect,
    Disconnect,
    DiskOp,
    Exited,
    KillRun,
    Launch,
    Launched,
    LeaderChanged,
    Link,
    LinkClosed,
    LinkMessage,
    MakeVolume,
    RemoveVolume,
    RunSeen,
    SaveFailed,
    SendUp,
)
from mesostk.agent.state import Settings
from mesostk.base.core import Delete, Effect, Event, Note, Put, Saved, Tick, WallClock
from mesostk.wire.link import (
    Acknowledge,
    ClusterEpoch,
    Down,
    Kill,
    Registered,
    RunGroup,
    RunTask,
    StatusUpdate,
    StatusUpdates,
    Subscribe,
    TaskRef,
)
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    AgentID,
    CommandInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkCapability,
    FrameworkCapabilityType,
    FrameworkID,
    FrameworkInfo,
    Resource,
    Scalar,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
)

AGENT = AgentID("M-S0")
EPOCH = ClusterEpoch(cluster_id="c1", counter=5)
BOOT = "boot-1"

E = TypeVar("E", bound=Effect)
MASTER = "http://127.0.0.1:5050"


def cpus(amount: float) -> Resource:
    return Resource(name="cpus", type="SCALAR", scalar=Scalar(amount))


def settings(**changes: Any) -> Settings:
    made = Settings(
        hostname="h",
        ip="127.0.0.1",
        port=5051,
        resources=(cpus(8.0),),
        work_dir="/w",
        version="0",
    )
    return msgspec.structs.replace(made, **changes)


def framework(
    name: str = "F", *capabilities: FrameworkCapabilityType, checkpoint: bool = True
) -> FrameworkInfo:
    return FrameworkInfo(
        user="u",
        name=name,
        id=FrameworkID(name),
        checkpoint=checkpoint,
        capabilities=tuple(FrameworkCapability(type=c) for c in capabilities),
    )


def task(task_id: str = "t1", value: str = "sleep 9", amount: float = 1.0, **more: Any) -> TaskInfo:
    return TaskInfo(
        name=task_id,
        task_id=TaskID(task_id),
        agent_id=AGENT,
        resources=(cpus(amount),),
        command=CommandInfo(value=value),
        **more,
    )


class SimDisk:
    """Files below work_dir; each operation whole or not at all."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.volumes: set[str] = set()

    def apply(self, op: DiskOp) -> None:
        match op:
            case Put(path, data):
                self.files[path] = data
            case Append(path, data):
                self.files[path] = self.files.get(path, b"") + data
            case Link(path, target):
                self.links[path] = target
            case Delete(path):
                for name in [n for n in self.files if n == path or n.startswith(f"{path}/")]:
                    del self.files[name]
                self.links.pop(path, None)
            case MakeVolume(path):
                self.volumes.add(path)
            case RemoveVolume(path):
                self.volumes.discard(path)

    def recover(self, boot: str = BOOT) -> recovery.Found:
        found = recovery.read(self.files, self.links.get("meta/slaves/latest"), boot)
        for repair in found.repairs:
            self.apply(repair)
        return found


class Bench:
    """Feeds a core and performs checkpoints at once; keeps all other effects to be looked at."""

    def __init__(self, config: Settings | None = None, seed: int = 0) -> None:
        self.settings = config if config is not None else settings()
        self.disk = SimDisk()
        self.now = 1000.0
        self.is_full = False
        self.hold_disk = False
        self.held: deque[Checkpoint] = deque()
        self.rng = random.Random(seed)
        self.start({})

    def start(self, seen: dict[str, RunSeen], boot: str = BOOT) -> None:
        """A new agent process on the same disk."""
        self.core = Agent(self.settings, random.Random(self.rng.random()))
        self.effects: list[Effect] = []
        self.feed(WallClock(1e9))
        for event in self.disk.recover(boot).events(seen):
            self.feed(event)

    def feed(self, *events: Event) -> list[Effect]:
        """Effects of `events` and of the checkpoints they led to, without notes."""
        done: list[Effect] = []
        queue = deque(events)
        while queue:
            for effect in self.core.handle(self.now, queue.popleft()):
                if isinstance(effect, Checkpoint):
                    if self.hold_disk:
                        self.held.append(effect)
                    else:
                        queue.append(self._save(effect))
                if not isinstance(effect, Note):
                    done.append(effect)
            self.core.check()
        self.effects += done
        return done

    def _save(self, effect: Checkpoint) -> Event:
        if self.is_full:
            return SaveFailed(effect.token, effect.ops[0].path, "No space left on device")
        for op in effect.ops:
            self.disk.apply(op)
        return Saved(effect.token)

    def release_disk(self) -> list[Effect]:
        """Let the held checkpoints happen, oldest first."""
        self.hold_disk = False
        held, self.held = list(self.held), deque()
        return [e for checkpoint in held for e in self.feed(self._save(checkpoint))]

    def advance(self, seconds: float) -> list[Effect]:
        """Let time pass, stopping at each deadline."""
        end, done = self.now + seconds, []
        while True:
            due = self.core.deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            done += self.feed(Tick())
        self.now = end
        return done

    @property
    def link(self) -> int:
        link = self.core.state.link
        assert link is not None
        return link

    def register(
        self, epoch: ClusterEpoch = EPOCH, report: tuple[TaskRef, ...] = ()
    ) -> list[Effect]:
        """Have a leader detected, subscribe, be registered; returns the effects of the last."""
        if self.core.state.leader is None:
            self.feed(LeaderChanged(MASTER))
        if self.core.state.link is None:
            self.advance(61.0)
        return self.down(registered(epoch, report))

    def down(self, message: Down) -> list[Effect]:
        return self.feed(LinkMessage(self.link, message))

    def acknowledge(self, update: StatusUpdate) -> list[Effect]:
        assert update.status.uuid is not None
        return self.down(
            Acknowledge(
                framework_id=update.framework_id,
                task_id=update.status.task_id,
                uuid=update.status.uuid,
            )
        )

    def run(self, info: TaskInfo | None = None, owner: FrameworkInfo | None = None) -> str:
        """Launch a task up to an acknowledged TASK_RUNNING; returns its container id."""
        info = info if info is not None else task()
        owner = owner if owner is not None else framework()
        effects = self.down(RunTask(framework=owner, task=info))
        container_id: str = one(effects, Launch).spec.container_id
        effects += self.acknowledge(updates(effects)[-1])
        effects += self.feed(Launched(container_id, 4711))
        self.acknowledge(updates(effects)[-1])
        return container_id


def registered(epoch: ClusterEpoch = EPOCH, report: tuple[TaskRef, ...] = ()) -> Registered:
    return Registered(
        agent_id=AGENT,
        epoch=epoch,
        heartbeat_s=15.0,
        ping_timeout_s=75.0,
        protocol=1,
        report=report,
    )


def of_type(effects: list[Effect], kind: type[E]) -> list[E]:
    return [e for e in effects if isinstance(e, kind)]


def one(effects: list[Effect], kind: type[E]) -> E:
    found = of_type(effects, kind)
    assert len(found) == 1, effects
    return found[0]


def updates(effects: list[Effect]) -> list[StatusUpdate]:
    """Updates that went up, in order."""
    return [
        update
        for effect in effects
        if isinstance(effect, SendUp) and isinstance(effect.message, StatusUpdates)
        for update in effect.message.updates
    ]


def states(effects: list[Effect]) -> list[str]:
    return [update.status.state for update in updates(effects)]


class Process(msgspec.Struct):
    """A simulated supervisor with its task. `killed`: a kill reached it."""

    alive: bool = True
    ended: Exited | None = None
    kill_at: float | None = None


class World:
    """An agent, its processes and a master, with crashes, lost messages and any order of events."""

    def __init__(self, seed: int, tasks: int = 6, *, groups: bool = False) -> None:
        self.groups = groups
        self.rng = random.Random(seed)
        self.disk = SimDisk()
        self.settings = settings(registration_backoff_s=0.5)
        self.now = 100.0
        self.processes: dict[str, Process] = {}
        self.of_task: dict[str, str] = {}
        self.crashes = 0
        self.lost = 0
        self.has_faults = True
        self.known: dict[str, list[StatusUpdate]] = {}  # the master's: launched and what it heard
        self.acked: set[bytes] = set()
        self.to_launch = [f"t{n}" for n in range(tasks)]
        self.killed: set[str] = set()
        self.registered_link: int | None = None
        self.boots = 0
        self.boot()

    # -- the agent process -----------------------------------------------------------------------

    def boot(self) -> None:
        """Start the agent on what is on disk; a crash meanwhile starts the next one."""
        self.boots += 1
        mine = self.boots
        self.core = Agent(self.settings, self.rng)
        self.disk_queue: deque[Checkpoint] = deque()
        self.up: deque[SendUp] = deque()
        self.down: deque[LinkMessage] = deque()
        self.inbox: list[Event] = []
        self.registered_link = None
        seen = {cid: RunSeen(alive=p.alive, ended=p.ended) for cid, p in self.processes.items()}
        events = self.disk.recover().events(seen)
        for event in (WallClock(1e9), *events, LeaderChanged(MASTER)):
            if mine == self.boots:
                self.feed(event)

    def crash(self) -> None:
        """Kill the agent: what is queued is lost, except checkpoints that made it by chance."""
        self.crashes += 1
        for _ in range(self.rng.randint(0, len(self.disk_queue))):
            for op in self.disk_queue.popleft().ops:
                self.disk.apply(op)
        self.boot()

    def feed(self, event: Event) -> None:
        effects = self.core.handle(self.now, event)
        self.core.check()
        for effect in effects:
            self.perform(effect)
            if self.has_faults and self.rng.random() < 0.01:
                self.crash()
                return

    def perform(self, effect: Effect) -> None:
        match effect:
            case Checkpoint():
                self.disk_queue.append(effect)
            case Launch(spec):
                self.processes[spec.container_id] = Process()
                run = self.core.state.runs[spec.container_id]
                self.of_task[run.only_task.info.task_id.value] = spec.container_id
                self.inbox.append(Launched(spec.container_id, 1))
            case KillRun(container_id, grace_s):
                process = self.processes[container_id]
                kill_at = self.now + self.rng.uniform(0, grace_s)
                if process.kill_at is None or kill_at < process.kill_at:
                    process.kill_at = kill_at
            case Connect(link, _, subscribe):
                self.subscribe(link, subscribe)
            case Disconnect():
                self.registered_link = None
            case SendUp():
                self.up.append(effect)

    # -- the master ------------------------------------------------------------------------------

    def subscribe(self, link: int, subscribe: Subscribe) -> None:
        if self.has_faults and self.rng.random() < 0.2:
            self.inbox.append(LinkClosed(link, "refused"))
            return
        self.up.clear()
        self.down.clear()
        self.registered_link = link
        brought = {t.task_id.value for t in subscribe.tasks}
        open_tasks = [t for t in self.known if not self.is_done(t)]
        missing = tuple(
            TaskRef(framework_id=FrameworkID("F"), task_id=TaskID(t))
            for t in open_tasks
            if t not in brought
        )
        self.send(registered(report=missing))

    def send(self, message: Down) -> None:
        assert self.registered_link is not None
        self.down.append(LinkMessage(self.registered_link, message))

    def is_done(self, task_id: str) -> bool:
        """Whether the master has acknowledged an end of the task."""
        return any(
            u.status.state in TERMINAL_STATES and u.status.uuid in self.acked
            for u in self.known[task_id]
        )

    def hear(self, effect: SendUp) -> None:
        if effect.link != self.registered_link or not isinstance(effect.message, StatusUpdates):
            return
        for update in effect.message.updates:
            task_id = update.status.task_id.value
            if update.status.state in TERMINAL_STATES:
                cid = self.of_task.get(task_id)
                assert cid is None or not self.processes[cid].alive, f"{task_id} lives"
            self.known[task_id].append(update)
            if not self.has_faults or self.rng.random() < 0.7:
                assert update.status.uuid is not None
                self.acked.add(update.status.uuid)
                self.send(
                    Acknowledge(
                        framework_id=update.framework_id,
                        task_id=update.status.task_id,
                        uuid=update.status.uuid,
                    )
                )

    # -- steps -----------------------------------------------------------------------------------

    def step(self) -> None:
        """One thing that can happen now, at random."""
        choices = []
        if self.disk_queue:
            choices += [self._disk] * 4
        if self.inbox:
            choices += [self._inbox] * 3
        if self.up:
            choices += [self._up] * 3
        if self.down:
            choices += [self._down] * 3
        if self.registered_link is not None and self.to_launch:
            choices.append(self._launch)
        if self.has_faults and self.registered_link is not None and self.rng.random() < 0.1:
            choices.append(self._kill)
        choices += [self._time, self._exit]
        if self.has_faults:
            choices.append(self._fault)
        self.rng.choice(choices)()

    def _disk(self) -> None:
        checkpoint = self.disk_queue.popleft()
        for op in checkpoint.ops:
            self.disk.apply(op)
        self.feed(Saved(checkpoint.token))

    def _inbox(self) -> None:
        self.feed(self.inbox.pop(self.rng.randrange(len(self.inbox))))

    def _up(self) -> None:
        self.hear(self.up.popleft())

    def _down(self) -> None:
        self.feed(self.down.popleft())

    def _launch(self) -> None:
        if self.core.state.agent_id is None:
            return
        task_id = self.to_launch.pop()
        self.known[task_id] = []
        if not self.groups or not self.to_launch:
            self.send(RunTask(framework=framework("F"), task=task(task_id)))
            return
        other = self.to_launch.pop()
        self.known[other] = []
        executor = ExecutorInfo(executor_id=ExecutorID(f"e-{task_id}"), type="DEFAULT")
        both = TaskGroupInfo(tasks=(task(task_id), task(other)))
        self.send(RunGroup(framework=framework("F"), executor=executor, task_group=both))

    def _kill(self) -> None:
        task_id = self.rng.choice([*sorted(self.known), ""])
        if task_id and not self.is_done(task_id):
            self.killed.add(task_id)
            self.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID(task_id)))

    def _time(self) -> None:
        due = self.core.deadline()
        ahead = self.rng.uniform(0, 3)
        self.now = min(self.now + ahead, due) if due is not None else self.now + ahead
        self.now = max(self.now, 100.0)
        if due is not None and due <= self.now:
            self.feed(Tick())

    def is_to_be_killed(self, container_id: str) -> bool:
        """Whether the agent wrote down that it kills the run: it must not need to end by itself."""
        place = layout.run_segments(container_id)
        return any(place in path and path.endswith("task.kill") for path in self.disk.files)

    def _exit(self) -> None:
        alive = [(cid, p) for cid, p in self.processes.items() if p.alive]
        if not alive:
            return
        cid, process = self.rng.choice(alive)
        if process.kill_at is not None and self.now >= process.kill_at:
            ended = Exited(cid, 15, killed=True)
        elif self.rng.random() < 0.03 and (self.has_faults or not self.is_to_be_killed(cid)):
            ended = Exited(cid, self.rng.choice([0, 0, 7 << 8]))
        else:
            return
        process.alive, process.ended = False, ended
        self.inbox.append(ended)

    def _fault(self) -> None:
        kind = self.rng.randrange(6)
        if kind == 0:
            self.crash()
        elif kind == 1 and self.registered_link is not None:
            self.lost += 1
            self.inbox.append(LinkClosed(self.registered_link, "reset"))
            self.registered_link = None
            self.up.clear()
            self.down.clear()
