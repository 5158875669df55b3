"""A Marathon core in a small world: a store, a master and agents that always obey.

Only what leaves the core is acted upon, in order; the world can stop it between any two effects and
start a new core from what was saved.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import pytest

from mesostk.base.core import Delete, Effect, Event, Exit, Note, Put, Save, Saved, Tick, WallClock
from mesostk.marathon.core import Marathon
from mesostk.marathon.events import (
    ChangeInfo,
    Command,
    Connected,
    Emit,
    FromMaster,
    InfoAnswered,
    Loaded,
    ProbeResult,
    Reply,
    Send,
    SetCallbacks,
    StartProbes,
    StopProbes,
    Subscribe,
)
from mesostk.marathon.health import ProbeOutcome
from mesostk.marathon.instances import InstanceId
from mesostk.marathon.state import Settings
from mesostk.resources.resources import Resources
from mesostk.testing.zookeeper import zk_path, zookeeper
from mesostk.wire import scheduler
from mesostk.wire.mesos import (
    AgentID,
    AllocationInfo,
    CheckStatusInfo,
    ContainerStatus,
    FrameworkID,
    FrameworkInfo,
    IPAddress,
    NetworkInfo,
    Offer,
    OfferID,
    OfferOperation,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

__all__ = ["Crash", "World", "world", "zk_path", "zookeeper"]

#: Wall clock minus the monotonic clock of the tests: some day in 2016.
OFFSET_S = 1_466_424_000.0


class Crash(Exception):
    """The process dies here."""


def launched(operation: OfferOperation) -> tuple[TaskInfo, ...]:
    """The tasks of a LAUNCH or LAUNCH_GROUP."""
    if operation.launch_group is not None:
        return operation.launch_group.task_group.tasks
    return () if operation.launch is None else operation.launch.task_infos


def in_network(address: str) -> ContainerStatus:
    """What a task's status says of the address that its network gave it."""
    addresses = (IPAddress(ip_address=address),)
    return ContainerStatus(network_infos=(NetworkInfo(ip_addresses=addresses),))


class World:
    """One Marathon and all around it; `now` moves only when a test says so."""

    def __init__(self, seed: int = 1, settings: Settings | None = None) -> None:
        self.rng = random.Random(seed)
        self.settings = Settings() if settings is None else settings
        self.now = 1000.0
        self.store: dict[str, bytes] = {}
        self.tasks: dict[str, TaskInfo] = {}
        self.states: dict[str, str] = {}
        self.agents = {f"S{n}": f"agent{n}" for n in range(3)}
        self.offered: dict[str, str] = {}
        self.launched_ever: list[str] = []
        self.accepted: list[OfferOperation] = []
        self.killed_ever: list[str] = []
        self.offers = 0
        self.uuids = 0
        self.suppressed = False
        #: Roles that were suppressed by name.
        self.quiet: set[str] = set()
        self.revived: list[tuple[str, ...]] = []
        self.revives = 0
        self.info: FrameworkInfo | None = None
        self.updates: list[scheduler.UpdateFramework] = []
        #: Roles that the master has this framework in, and those that it will not have it in.
        self.subscribed_roles: set[str] = set()
        self.refused_roles: set[str] = set()
        #: Its answers to UPDATE_FRAMEWORK stay under way.
        self.hold_answers = False
        self.acked: list[bytes] = []
        self.replies: dict[int, Reply] = {}
        self.emitted: list[Emit] = []
        self.probes: dict[InstanceId, StartProbes] = {}
        self.exits: list[Exit] = []
        self.callbacks: tuple[str, ...] = ()
        self.notes: list[Note] = []
        self.queue: deque[Event] = deque()
        #: Told each reply besides.
        self.on_reply: Callable[[Reply], None] = lambda _reply: None
        #: Called before each effect is done; may raise Crash.
        self.before: Callable[[Effect], None] = lambda _effect: None
        self.hold_saves = False
        self.held: list[Save] = []
        self.requests = 0
        #: The master answers kills with TASK_KILLED, launches with STARTING and RUNNING.
        self.obey = True
        self.core = self.start()

    # -- the process --------------------------------------------------------------------------

    def start(self) -> Marathon:
        """A new process: nothing but the store is left of the old one."""
        self.queue.clear()
        self.held.clear()
        self.probes.clear()
        self.core = Marathon(self.settings, self.rng)
        self.feed(WallClock(OFFSET_S), Loaded(dict(self.store)))
        return self.core

    def connect(self) -> None:
        """The driver subscribes; the master knows the tasks there are."""
        self.suppressed = False
        self.quiet.clear()
        assert self.info is not None
        self.subscribed_roles = set(self.info.roles)
        self.feed(Connected(FrameworkID("F1")))

    def feed(self, *events: Event) -> None:
        """Handle events and all that follows from them."""
        self.queue.extend(events)
        while self.queue:
            event = self.queue.popleft()
            for effect in self.core.handle(self.now, event):
                self.before(effect)
                self._perform(effect)
            self.core.check()

    def ask(self, command: type[Command], **fields: object) -> Reply:
        """Run one command to its answer."""
        self.requests += 1
        request = self.requests
        self.feed(command(request=request, **fields))  # type: ignore[arg-type] # terse
        return self.replies[request]

    def advance(self, seconds: float) -> None:
        """Let time pass, with the ticks that the core wants."""
        end = self.now + seconds
        for _ in range(100_000):
            deadline = self.core.deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.feed(Tick())
        self.now = end
        self.feed(Tick())

    # -- what the world does with effects -----------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Save():
                self._save(effect)
            case Send():
                self._call(effect.call)
            case Reply():
                assert effect.request not in self.replies, "answered twice"
                self.replies[effect.request] = effect
                self.on_reply(effect)
            case Emit():
                self.emitted.append(effect)
            case StartProbes():
                self.probes[effect.instance_id] = effect
            case StopProbes():
                self.probes.pop(effect.instance_id, None)
            case SetCallbacks():
                self.callbacks = effect.urls
            case Exit():
                self.exits.append(effect)
            case Note():
                self.notes.append(effect)
            case Subscribe(info) | ChangeInfo(info):
                self.info = info
            case _:
                raise AssertionError(effect)

    def _save(self, save: Save) -> None:
        if self.hold_saves:
            self.held.append(save)
            return
        for op in save.ops:
            match op:
                case Put(path, data):
                    self.store[path] = data
                case Delete(path):
                    self.store.pop(path, None)
        self.queue.append(Saved(save.token))

    def release_saves(self) -> None:
        """Make durable what was held."""
        self.hold_saves = False
        held, self.held = self.held, []
        for save in held:
            self._save(save)
        self.feed()

    def _call(self, call: scheduler.Call) -> None:
        if call.accept is not None:
            self._accept(call.accept)
        elif call.decline is not None:
            for offer_id in call.decline.offer_ids:
                self.offered.pop(offer_id.value, None)
        elif call.kill is not None:
            self._kill(call.kill.task_id.value)
        elif call.acknowledge is not None:
            self.acked.append(call.acknowledge.uuid)
        elif call.reconcile is not None:
            self._reconcile(call.reconcile)
        elif call.suppress is not None:
            self.quiet |= set(call.suppress.roles) or self.subscribed_roles
            self.suppressed = self.quiet >= self.subscribed_roles
        elif call.revive is not None:
            self.quiet -= set(call.revive.roles or self.quiet)
            self.suppressed = False
            self.revives += 1
            self.revived.append(call.revive.roles)
        elif call.update_framework is not None:
            self.updates.append(call.update_framework)
            refused = self.refused_roles & set(call.update_framework.framework_info.roles)
            if not refused:
                self.subscribed_roles = set(call.update_framework.framework_info.roles)
                self.quiet = set(call.update_framework.suppressed_roles)
                self.suppressed = False
            reason = f"Not authorized to use role '{min(refused)}'" if refused else None
            if not self.hold_answers:
                self.queue.append(InfoAnswered(reason))

    def _accept(self, accept: scheduler.Accept) -> None:
        known = all(self.offered.pop(id.value, None) is not None for id in accept.offer_ids)
        self.accepted.extend(accept.operations)
        for operation in accept.operations:
            for task in launched(operation):
                id = task.task_id.value
                assert id not in self.tasks, "a task id was used twice"
                if not known:
                    self.update(id, "TASK_LOST", reason="REASON_INVALID_OFFERS", agent="S0")
                    continue
                self.tasks[id] = task
                self.launched_ever.append(id)
                self.states[id] = "TASK_STAGING"
                if self.obey:
                    self.update(id, "TASK_STARTING")
                    self.update(id, "TASK_RUNNING")

    def _kill(self, id: str) -> None:
        self.killed_ever.append(id)
        if id not in self.tasks:
            self.update(id, "TASK_LOST", reason="REASON_RECONCILIATION", agent="S0",
                        message="Reconciliation: Task is unknown to the agent")  # fmt: skip
        elif self.obey:
            self.update(id, "TASK_KILLED")

    def _reconcile(self, reconcile: scheduler.Reconcile) -> None:
        asked = [task.task_id.value for task in reconcile.tasks] or list(self.tasks)
        for id in asked:
            if id in self.tasks:
                self.update(id, self.states[id], reason="REASON_RECONCILIATION", plain=True)
            else:
                self.update(id, "TASK_LOST", reason="REASON_TASK_UNKNOWN", agent="S0", plain=True)

    def update(
        self,
        id: str,
        state: str,
        *,
        reason: str | None = None,
        message: str | None = None,
        agent: str | None = None,
        plain: bool = False,
        healthy: bool | None = None,
        check: CheckStatusInfo | None = None,
        address: str | None = None,
    ) -> None:
        """Queue a status update; `plain` ones carry no uuid, as reconciliation answers."""
        task = self.tasks.get(id)
        if task is not None:
            agent = task.agent_id.value
            self.states[id] = state
        if state in {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_GONE"}:
            self.tasks.pop(id, None)
            self.states.pop(id, None)
        self.uuids += 1
        status = TaskStatus(
            task_id=TaskID(id),
            state=state,  # type: ignore[arg-type] # a TaskState by its name
            reason=reason,  # type: ignore[arg-type] # a StatusReason by its name
            message=message,
            agent_id=None if agent is None else AgentID(agent),
            uuid=None if plain else self.uuids.to_bytes(16, "big"),
            healthy=healthy,
            check_status=check,
            container_status=None if address is None else in_network(address),
        )
        self.queue.append(
            FromMaster(scheduler.Event(type="UPDATE", update=scheduler.Update(status=status)))
        )

    # -- what tests make happen ---------------------------------------------------------------

    def offer(
        self, cpus: float = 4.0, mem: float = 1024.0, agents: int = 3, role: str | None = None
    ) -> None:
        """One offer of each agent, unless the framework wants none.

        `role` None: for each of several roles, or without naming the only one, as old masters.
        """
        if role is None and self.info is not None and len(self.info.roles) > 1:
            for each in self.info.roles:
                self.offer(cpus, mem, agents, each)
            return
        if self.suppressed or role in self.quiet:
            return
        offers = []
        for agent_id, host in list(self.agents.items())[:agents]:
            self.offers += 1
            resources = Resources.scalars(cpus=cpus, mem=mem, disk=1000) + Resources.ports(
                (31000, 31099)
            )
            offer = Offer(
                id=OfferID(f"O{self.offers}"),
                framework_id=FrameworkID("F1"),
                agent_id=AgentID(agent_id),
                hostname=host,
                resources=resources.allocate("*" if role is None else role).to_wire("POST"),
                allocation_info=None if role is None else AllocationInfo(role=role),
            )
            self.offered[offer.id.value] = agent_id
            offers.append(offer)
        self.feed(
            FromMaster(
                scheduler.Event(type="OFFERS", offers=scheduler.Offers(offers=tuple(offers)))
            )
        )

    def settle(self, rounds: int = 30) -> None:
        """Offers and time until nothing is wanted any more."""
        for _ in range(rounds):
            self.offer()
            self.advance(1.0)

    def end(self, task_id: str, state: TaskState = "TASK_FAILED") -> None:
        """A task ends by itself."""
        self.update(task_id, state)
        self.feed()

    def probe(self, instance_id: str, alive: bool, index: int = 0) -> None:
        """One probe's result."""
        outcome = ProbeOutcome(alive=alive, cause=None if alive else "HTTP 500")
        self.feed(ProbeResult(InstanceId(instance_id), index, outcome))

    def running(self, app_id: str) -> list[str]:
        """Tasks of an app that really run."""
        prefix = app_id.strip("/").replace("/", "_") + ".instance-"
        return [id for id, state in self.states.items()
                if id.startswith(prefix) and state == "TASK_RUNNING"]  # fmt: skip

    def events(self) -> list[str]:
        """Types of the events emitted so far, in order."""
        return [str(emit.event.__struct_config__.tag) for emit in self.emitted]


@pytest.fixture
def world() -> World:
    """A world whose Marathon is connected."""
    world = World()
    world.connect()
    return world
