"""A master on a bench: saves succeed at once, every event is followed by `check()`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from random import Random
from typing import Any, TypeGuard, TypeVar

import pytest

from mesostk.base.core import Delete, Effect, Event, Put, Save, Saved, Tick, WallClock
from mesostk.master import events as ev
from mesostk.master.core import Master
from mesostk.master.state import Config
from mesostk.resources import text
from mesostk.testing.zookeeper import zk_path, zookeeper
from mesostk.wire import link, operator, scheduler
from mesostk.wire.mesos import (
    AgentCapability,
    AgentID,
    AgentInfo,
    CommandInfo,
    Filters,
    FrameworkCapability,
    FrameworkID,
    FrameworkInfo,
    Launch,
    OfferOperation,
    TaskID,
    TaskInfo,
    TaskStatus,
)

__all__ = ["zk_path", "zookeeper"]

E = TypeVar("E", bound=Effect)

WALL = 1_700_000_000.0
CAPABILITIES = tuple(
    AgentCapability(type=name)
    for name in (
        "MULTI_ROLE",
        "HIERARCHICAL_ROLE",
        "RESERVATION_REFINEMENT",
        "RESIZE_VOLUME",
        "AGENT_OPERATION_FEEDBACK",
        "AGENT_DRAINING",
    )
)


class Bench:
    """Drives one master; `effects` are those of the last `feed` (and of the saves it asked for)."""

    def __init__(self, records: dict[str, bytes] | None = None, **config: Any) -> None:
        self.now = 1000.0
        self.store: dict[str, bytes] = dict(records or {})
        self.holding = False
        #: Whether connected agents answer heartbeats.
        self.answering = True
        self.held: list[Save] = []
        self.effects: list[Effect] = []
        self.config = Config(ip="127.0.0.1", hostname="m1", version="1.0", **config)
        self.master = Master(self.config, Random(7))
        self._streams = itertools.count()
        self.feed(WallClock(WALL - self.now))
        epoch = link.ClusterEpoch(cluster_id="c", counter=1)
        self.feed(ev.Elected(epoch, dict(self.store)))

    # -- time and saves ---------------------------------------------------------------------

    def feed(self, event: Event) -> list[Effect]:
        self.effects = self._handle(event)
        return self.effects

    def _handle(self, event: Event) -> list[Effect]:
        out = list(self.master.handle(self.now, event))
        self.master.check()
        for effect in list(out):
            if isinstance(effect, Save):
                self.held.append(effect)
        if not self.holding:
            out += self.release()
        return out

    def release(self) -> list[Effect]:
        """Make the saves that are held durable."""
        out = []
        while self.held:
            save = self.held.pop(0)
            for op in save.ops:
                if isinstance(op, Put):
                    self.store[op.path] = op.data
                elif isinstance(op, Delete):
                    self.store.pop(op.path, None)
            effects = list(self.master.handle(self.now, Saved(save.token)))
            self.held += [effect for effect in effects if isinstance(effect, Save)]
            out += effects
            self.master.check()
        return out

    def run(self, seconds: float = 0.0) -> list[Effect]:
        """Let time pass, with every tick that falls due; all effects of that."""
        until = self.now + seconds
        out: list[Effect] = []
        for _ in range(100_000):
            due = self.master.deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            effects = self._handle(Tick())
            out += effects
            for effect in effects:
                if self._is_heartbeat(effect) and effect.stream in self.master.links:
                    out += self._handle(ev.AgentCalled(effect.stream, (link.Pong(),)))
        self.now = until
        self.effects = out
        return out

    def _is_heartbeat(self, effect: Effect) -> TypeGuard[ev.SendToAgent]:
        return (
            self.answering
            and isinstance(effect, ev.SendToAgent)
            and isinstance(effect.message, link.Heartbeat)
        )

    def stream(self) -> str:
        return f"stream-{next(self._streams)}"

    # -- reading effects --------------------------------------------------------------------

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def down(self, stream: str) -> list[link.DownMessage]:
        return [item.message for item in self.of(ev.SendToAgent) if item.stream == stream]

    def heard(self, stream: str, kind: str | None = None) -> list[scheduler.Event]:
        return [
            item.event
            for item in self.of(ev.SendToScheduler)
            if item.stream == stream and kind in {None, item.event.type}
        ]

    def statuses(self, stream: str) -> list[TaskStatus]:
        return [item.update.status for item in self.heard(stream, "UPDATE") if item.update]

    def published(self) -> list[str]:
        return [item.event.type for item in self.of(ev.Publish)]

    # -- agents -----------------------------------------------------------------------------

    def subscription(
        self,
        host: str = "a1",
        agent_id: str | None = None,
        resources: str = "cpus:4;mem:1024;disk:1000;ports:[31000-31009]",
        **more: Any,
    ) -> link.Subscribe:
        return link.Subscribe(
            protocol=link.PROTOCOL,
            version="1.0",
            ip="10.0.0." + host[1:],
            capabilities=CAPABILITIES,
            agent_info=AgentInfo(
                hostname=host,
                id=None if agent_id is None else AgentID(agent_id),
                resources=text.parse(resources).to_wire(),
            ),
            **more,
        )

    def agent(self, host: str = "a1", agent_id: str | None = None, **more: Any) -> tuple[str, str]:
        """Subscribe an agent; its (stream, id)."""
        stream = self.stream()
        self.feed(ev.AgentSubscribed(stream, self.subscription(host, agent_id, **more)))
        greetings = [item for item in self.down(stream) if isinstance(item, link.Registered)]
        assert len(greetings) == 1, self.effects
        return stream, greetings[0].agent_id.value

    def up(self, stream: str, *messages: link.UpMessage) -> list[Effect]:
        return self.feed(ev.AgentCalled(stream, messages))

    def update(
        self, stream: str, framework_id: str, task_id: str, state: Any, uuid: bytes = b"u" * 16
    ) -> list[Effect]:
        status = TaskStatus(
            task_id=TaskID(task_id), state=state, source="SOURCE_EXECUTOR", uuid=uuid
        )
        update = link.StatusUpdate(
            framework_id=FrameworkID(framework_id), status=status, latest_state=state
        )
        return self.up(stream, link.StatusUpdates(updates=(update,)))

    # -- schedulers -------------------------------------------------------------------------

    def info(
        self, name: str = "f", capabilities: Iterable[str] = ("PARTITION_AWARE",), **more: Any
    ) -> FrameworkInfo:
        given: dict[str, Any] = {"user": "nobody", "checkpoint": True, "failover_timeout": 60.0}
        return FrameworkInfo(
            name=name,
            capabilities=tuple(FrameworkCapability(type=item) for item in capabilities),  # type: ignore[arg-type]  # names of that Literal
            **(given | more),
        )

    def framework(self, name: str = "f", **more: Any) -> tuple[str, str]:
        """Subscribe a framework; its (stream, id)."""
        stream = self.subscribe(self.info(name, **more))
        greetings = self.heard(stream, "SUBSCRIBED")
        assert greetings, self.effects
        assert greetings[0].subscribed is not None
        return stream, greetings[0].subscribed.framework_id.value

    def subscribe(self, info: FrameworkInfo, suppressed: tuple[str, ...] = ()) -> str:
        stream = self.stream()
        call = scheduler.Call(
            type="SUBSCRIBE",
            framework_id=info.id,
            subscribe=scheduler.Subscribe(framework_info=info, suppressed_roles=suppressed),
        )
        self.feed(ev.SchedulerSubscribed(stream, call))
        return stream

    def call(self, framework_id: str, kind: Any, body: Any = None) -> list[Effect]:
        fields = {} if body is None else {kind.lower(): body}
        call = scheduler.Call(type=kind, framework_id=FrameworkID(framework_id), **fields)
        return self.feed(ev.SchedulerCalled(call))

    def offers(self, stream: str, seconds: float = 0.0) -> list[Any]:
        """Offers that arrive on the stream within `seconds`."""
        self.run(seconds)
        return [
            offer
            for item in self.heard(stream, "OFFERS")
            if item.offers is not None
            for offer in item.offers.offers
        ]

    def task(self, task_id: str, agent_id: str, resources: str = "cpus:1;mem:64") -> TaskInfo:
        return TaskInfo(
            name=task_id,
            task_id=TaskID(task_id),
            agent_id=AgentID(agent_id),
            resources=text.parse(resources).to_wire(),
            command=CommandInfo(value="sleep 9"),
        )

    def accept(
        self,
        framework_id: str,
        offers: Iterable[Any],
        *tasks: TaskInfo,
        refuse_s: float = 5.0,
        operations: tuple[OfferOperation, ...] | None = None,
    ) -> list[Effect]:
        if operations is None:
            launch = OfferOperation(type="LAUNCH", launch=Launch(task_infos=tasks))
            operations = (launch,) if tasks else ()
        return self.call(
            framework_id,
            "ACCEPT",
            scheduler.Accept(
                offer_ids=tuple(offer.id for offer in offers),
                operations=operations,
                filters=Filters(refuse_seconds=refuse_s),
            ),
        )

    def running(self, task_id: str = "t1", **more: Any) -> tuple[str, str, str, str]:
        """One agent, one framework, one running task: (link, agent id, stream, framework id)."""
        wire, agent_id = self.agent()
        stream, framework_id = self.framework(**more)
        self.accept(framework_id, self.offers(stream), self.task(task_id, agent_id))
        self.update(wire, framework_id, task_id, "TASK_RUNNING")
        return wire, agent_id, stream, framework_id

    def operate(self, call: operator.Call) -> list[ev.Reply]:
        self.feed(ev.OperatorCalled(1, call))
        return self.of(ev.Reply)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def make_bench() -> type[Bench]:
    return Bench
