"""The master's core: its state, the table of what it reacts to, and its invariants.

`Master(config, rng)` does no I/O: `handle(now, event)` returns effects (`events.py`). Families of
events are functions in `agents`, `frameworks`, `offers`, `tasks` and `operators`, which take the
state as their first argument.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from mesostk.base.core import Effect, Event, Op, Save, Saved, Tick, WallClock, note
from mesostk.master import (
    agents,
    departure,
    draining,
    frameworks,
    maintenance,
    offers,
    operators,
    quota_calls,
    rate_limits,
    registry,
    weights,
)
from mesostk.master.allocator import Allocator
from mesostk.master.events import (
    AgentCalled,
    AgentStreamClosed,
    AgentSubscribed,
    Elected,
    LeadershipInDoubt,
    OperatorCalled,
    OperatorStreamClosed,
    OperatorSubscribed,
    Publish,
    Reply,
    SchedulerCalled,
    SchedulerStreamClosed,
    SchedulerSubscribed,
    SendToAgent,
    SendToScheduler,
    WhitelistRead,
)
from mesostk.master.state import Agent, Config, Framework, OfferRecord
from mesostk.master.timers import Call, Timers
from mesostk.resources.resources import Resources
from mesostk.wire import link, operator, scheduler
from mesostk.wire.mesos import Address, MasterCapability, MasterInfo, Task, Unavailability
from mesostk.wire.quota import QuotaConfig


class Master:
    """One life of a master process."""

    def __init__(self, config: Config, rng: Random) -> None:
        self.config = config
        self.rng = rng
        self.id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.info = _master_info(self.id, config)
        self.wall_offset_s = 0.0
        self.started_at: float | None = None
        self.elected_at: float | None = None
        self.epoch: link.ClusterEpoch | None = None

        self.registry = registry.Registry()
        #: Admitted agents that have not come back since this master was elected.
        self.recovered: dict[str, registry.AgentRecord] = {}
        #: How many there were.
        self.members_at_election = 0
        self.agents: dict[str, Agent] = {}
        self.agent_at: dict[tuple[str, int], str] = {}
        #: Open links, and the agent each belongs to; None while its admission is being saved.
        self.links: dict[str, str | None] = {}
        #: Agents whose leaving is being saved, and what they become.
        self.leaving: dict[str, str] = {}
        #: Draining agents that lost a task or an executor, to be looked at after the event.
        self.maybe_drained: dict[str, None] = {}
        self.heartbeats = departure.HeartbeatWheel()
        self.removals = departure.RemovalQueue()

        self.frameworks: dict[str, Framework] = {}
        self.schedulers: dict[str, str] = {}
        self.completed_frameworks: dict[str, Framework] = {}
        #: What may come back with an unreachable agent, by agent: (framework, task) ids.
        self.unreachable_on: dict[str, dict[tuple[str, str], link.TaskRef]] = {}
        self.offers: dict[str, OfferRecord] = {}
        self.allocator = Allocator(config, rng)
        self.limiters = rate_limits.Limiters(config.rate_limits)
        #: Weights that operators have set, those included that are being saved.
        self.weights_asked: dict[str, float] = {}
        #: Quotas that operators have set, those included that are being saved.
        self.quotas_asked: dict[str, QuotaConfig] = {}
        #: The record of maintenance, or the one that is being saved.
        self.maintenance_asked = self.registry.maintenance
        self.inverse = maintenance.Inverse()
        #: Operators' event streams, oldest first.
        self.subscribers: dict[str, None] = {}

        self.counters: Counter[str] = Counter()
        self.timers = Timers()
        self._ids = Counter[str]()
        self._saves: dict[int, tuple[Call, tuple[Any, ...]]] = {}
        self._out: list[Effect] = []

    # -- the driver's side ----------------------------------------------------------------------

    def handle(self, now: float, event: Event) -> list[Effect]:
        """Take one event in; the effects that follow, in order."""
        if self.epoch is None and type(event) not in _BEFORE_ELECTION:
            self._refuse_early(event)
        else:
            HANDLERS[type(event)](self, now, event)
            if self.maybe_drained:
                draining.finish(self, now)
        out, self._out = self._out, []
        return out

    def deadline(self) -> float | None:
        """When the next `Tick` is due."""
        timer, allocation = self.timers.next_at(), self.allocator.due_at
        if timer is None or allocation is None:
            return allocation if timer is None else timer
        return min(timer, allocation)

    def _refuse_early(self, event: Event) -> None:
        """The shell answers 503 by itself; what slips through the moment of election ends here."""
        self.counters["dropped_messages"] += 1
        if isinstance(event, OperatorCalled):
            self.emit(Reply(event.request, 503, "Master has not finished recovery"))

    # -- the families' side ---------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._out.append(effect)

    def note(self, verb: str, /, level: str = "INFO", **fields: object) -> None:
        self._out.append(note(verb, level, **fields))

    def publish(self, event: operator.Event, task: Task | None = None) -> None:
        """Tell the subscribers of the event stream; callers ask `subscribers` before they build.
        `task` is what a TASK_* event is about."""
        self._out.append(Publish(event, task))

    def tell(self, framework: Framework, event: scheduler.Event) -> None:
        """Send to the framework if it is connected, else nobody hears it."""
        if framework.stream is not None:
            count(framework.counters, "events")
            count(framework.counters, f"events/{event.type.lower()}")
            self._out.append(SendToScheduler(framework.stream, event))

    def save(self, ops: tuple[Op, ...], then: Call, *args: Any) -> None:
        """Make `ops` durable, then call `then(master, now, *args)`."""
        token = self.new_number("save")
        self._saves[token] = (then, args)
        self._out.append(Save(token, ops))

    def send_agent(self, stream: str, message: link.DownMessage) -> None:
        self._out.append(SendToAgent(stream, message))

    def sees_role(self, role: str) -> bool:
        """Nothing is hidden from who is not restricted; `permits.Seen` hides roles."""
        del role
        return True

    def forget_inverse_offers(self, agent_id: str) -> None:
        """The agent leaves: nobody is asked about it any more."""
        maintenance.forget_agent(self, agent_id)

    def unavailability_of(self, agent: Agent) -> Unavailability | None:
        """When the agent's machine will be away, if it is scheduled to."""
        return maintenance.unavailability_of(self, agent)

    def new_number(self, kind: str) -> int:
        """0, 1, 2 …; one row of numbers for each kind."""
        number = self._ids[kind]
        self._ids[kind] += 1
        return number

    def wall(self, now: float) -> float:
        """Seconds since the epoch at the monotonic time `now`."""
        return now + self.wall_offset_s

    def saves_pending(self) -> int:
        return len(self._saves)

    # -- own events -----------------------------------------------------------------------------

    def on_clock(self, now: float, event: WallClock) -> None:
        self.wall_offset_s = event.offset_s
        if self.started_at is None:
            self.started_at = self.wall(now)

    def on_elected(self, now: float, event: Elected) -> None:
        self.epoch = event.epoch
        self.elected_at = self.wall(now)
        self.registry = registry.load(event.records)
        for where, why in self.registry.unreadable:
            self.counters["registry_unreadable"] += 1
            self.note("Setting aside an unreadable record", level="ERROR", path=where, why=why)
        self.weights_asked = dict(self.registry.weights)
        weights.apply(self)
        self.quotas_asked = dict(self.registry.quotas)
        quota_calls.apply(self, now)
        self.maintenance_asked = self.registry.maintenance
        maintenance.arm(self, now)
        departure.recover(self, now)

    def on_doubt(self, now: float, event: LeadershipInDoubt) -> None:
        """Nothing is offered by a master that may be deposed."""
        self.allocator.pause(now, paused=event.in_doubt)

    def on_whitelist(self, now: float, event: WhitelistRead) -> None:
        """Agents that are no longer in it are not offered from now on, new ones are."""
        if event.hostnames == self.allocator.whitelist:
            return
        self.allocator.whitelist = event.hostnames
        self.note("Read whitelist", hostnames=len(event.hostnames))
        for agent in self.agents.values():
            if agent.info.hostname not in event.hostnames:
                offers.end_all(self, now, agent.offers, rescind=True)
        self.allocator.mark_all(self, now)

    def on_saved(self, now: float, event: Saved) -> None:
        then, args = self._saves.pop(event.token)
        then(self, now, *args)

    def on_tick(self, now: float, event: Tick) -> None:
        del event
        while (due := self.timers.pop_due(now)) is not None:
            call, args = due
            call(self, now, *args)
        self.allocator.run(self, now)

    # -- invariants -----------------------------------------------------------------------------

    def check(self) -> None:
        """Assert what must always hold; recomputes every aggregate."""
        for agent in self.agents.values():
            _check_agent(self, agent)
        for stream, agent_id in self.links.items():
            assert agent_id is None or self.agents[agent_id].stream == stream
        for stream, framework_id in self.schedulers.items():
            assert self.frameworks[framework_id].stream == stream
        for framework in self.frameworks.values():
            assert framework.stream is None or self.schedulers[framework.stream] == framework.id
            for task in framework.tasks.values():
                assert self.agents[task.agent_id].tasks[framework.id, task.task_id] is task
            assert not framework.tasks.keys() & framework.unreachable_tasks.keys()
            assert framework.stream is not None or not framework.offers
            for record in framework.operations.values():
                assert record.wire.agent_id is not None
                agent = self.agents[record.wire.agent_id.value]
                assert agent.operations[record.wire.uuid.value] is record
        for offer in self.offers.values():
            assert offer.id in self.agents[offer.agent_id].offers
            assert offer.id in self.frameworks[offer.framework_id].offers
        kept = {
            (task.agent_id.value, framework.id, task_id)
            for framework in self.frameworks.values()
            for task_id, task in framework.unreachable_tasks.items()
        }
        assert kept == {
            (agent_id, *key) for agent_id, keys in self.unreachable_on.items() for key in keys
        }
        for asked in self.inverse.offers.values():
            assert asked.agent_id is not None
            assert asked.agent_id.value in self.agents
            assert self.frameworks[asked.framework_id.value].stream is not None
        assert not self.agents.keys() & self.recovered.keys()
        assert not self.agents.keys() & self.registry.unreachable.keys()
        assert not self.agents.keys() & self.registry.gone.keys()
        assert not self.frameworks.keys() & self.completed_frameworks.keys()
        self.allocator.check(self)


def _check_agent(master: Master, agent: Agent) -> None:
    for (framework_id, task_id), task in agent.tasks.items():
        assert master.frameworks[framework_id].tasks[task_id] is task
    for (framework_id, executor_id), executor in agent.executors.items():
        assert master.frameworks[framework_id].executors[agent.id, executor_id] is executor
    offered = Resources.sum(master.offers[offer_id].resources for offer_id in agent.offers)
    held = Resources.sum((*agent.held(), offered)).unallocate().non_shared()
    assert agent.is_active or not agent.offers, f"offers of the inactive {agent.id}"
    assert agent.is_overcommitted or agent.total.contains(held), f"{agent.id} holds {held}"
    assert not (agent.is_overcommitted and agent.offers), f"{agent.id} is offered"
    assert agent.free == agent.total - held, f"free of {agent.id}: {agent.free}"


def _master_info(master_id: str, config: Config) -> MasterInfo:
    octets = [int(octet) for octet in config.ip.split(".")]
    return MasterInfo(
        id=master_id,
        # The first octet is the lowest byte (spec/mesos.md §1.2).
        ip=sum(octet << (8 * place) for place, octet in enumerate(octets)),
        port=config.port,
        pid=f"master@{config.ip}:{config.port}",
        hostname=config.hostname,
        version=config.version,
        address=Address(hostname=config.hostname, ip=config.ip, port=config.port),
        domain=config.domain,
        capabilities=(
            MasterCapability(type="AGENT_UPDATE"),
            MasterCapability(type="AGENT_DRAINING"),
            MasterCapability(type="QUOTA_V2"),
        ),
    )


def count(counters: dict[str, int], name: str) -> None:
    counters[name] = counters.get(name, 0) + 1


HANDLERS: dict[type[Event], Callable[[Master, float, Any], None]] = {
    WallClock: Master.on_clock,
    Elected: Master.on_elected,
    LeadershipInDoubt: Master.on_doubt,
    WhitelistRead: Master.on_whitelist,
    Saved: Master.on_saved,
    Tick: Master.on_tick,
    AgentSubscribed: agents.subscribed,
    AgentCalled: agents.called,
    AgentStreamClosed: departure.stream_closed,
    SchedulerSubscribed: frameworks.subscribed,
    SchedulerCalled: rate_limits.called,
    SchedulerStreamClosed: rate_limits.stream_closed,
    OperatorSubscribed: operators.subscribed,
    OperatorStreamClosed: operators.stream_closed,
    OperatorCalled: operators.called,
}

_BEFORE_ELECTION = frozenset({WallClock, Elected, Tick})
