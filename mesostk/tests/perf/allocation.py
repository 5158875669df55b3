"""What the master's decisions cost: `python -m mesostk.tests.perf.allocation [--agents 10000]`.

The real core in this process, without sockets: with them a client would be measured, too. All times
are processor time, which other work on the machine disturbs least.

pass      every agent is looked at once for all frameworks, in slices as the daemon does: when all
          is offered, when all is in use, when every framework has just refused every agent, and
          again after that
revive    from SUBSCRIBE or REVIVE of one framework to the offers of 1,000 agents
updates   status updates taken from an agent, handed to the framework and acknowledged
cycle     offer, ACCEPT with a task, its end acknowledged, until the same agent is offered again
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Callable, Iterable

from mesostk.base.core import Effect, Event, Save, Saved, Tick
from mesostk.base.daemon import GC_THRESHOLDS
from mesostk.master import events
from mesostk.resources import text
from mesostk.tests.perf import machine
from mesostk.tests.perf.state import cluster
from mesostk.wire import link, scheduler
from mesostk.wire.mesos import (
    AgentID,
    CommandInfo,
    Filters,
    FrameworkID,
    FrameworkInfo,
    Offer,
    OfferID,
    OfferOperation,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)
from mesostk.wire.mesos import Launch as LaunchOperation

#: Offers refused for this long count as refused for the whole run.
LONG_S = 1e6


class World:
    """A master of `agents` and the frameworks that subscribe, with a clock that stands still."""

    def __init__(self, agents: int, tasks: int = 0) -> None:
        self.master = cluster(agents, tasks)
        self.now = 2.0
        gc.collect()
        gc.freeze()  # as the daemon does once it has recovered

    def feed(self, event: Event) -> list[Effect]:
        out = self.master.handle(self.now, event)
        for effect in out:
            if isinstance(effect, Save):
                out += self.master.handle(self.now, Saved(effect.token))
        return out

    def settle(self) -> list[Effect]:
        """Ticks until nothing is due, as often as the daemon would."""
        out: list[Effect] = []
        while (due := self.master.deadline()) is not None and due <= self.now:
            out += self.feed(Tick())
        return out

    def subscribe(self, name: str, role: str = "*") -> list[Effect]:
        info = FrameworkInfo(user="u", name=name, id=FrameworkID(name), role=role)
        call = scheduler.Call(
            type="SUBSCRIBE",
            framework_id=FrameworkID(name),
            subscribe=scheduler.Subscribe(framework_info=info),
        )
        return self.feed(events.SchedulerSubscribed(f"stream-{name}", call, None))

    def call(self, call: scheduler.Call) -> list[Effect]:
        return self.feed(events.SchedulerCalled(call))


def offers_in(effects: Iterable[Effect]) -> list[Offer]:
    """All offers sent by `effects`."""
    return [
        offer
        for effect in effects
        if isinstance(effect, events.SendToScheduler) and effect.event.offers is not None
        for offer in effect.event.offers.offers
    ]


def timed(work: Callable[[], list[Effect]]) -> tuple[float, list[Effect]]:
    """Milliseconds of processor time, and what came of it."""
    began = time.process_time()
    effects = work()
    return (time.process_time() - began) * 1e3, effects


def say(what: str, value: float, unit: str, more: str = "") -> None:
    print(f"{what:<62} {value:>10.2f} {unit} {more}")


def measure_pass(agents: int, frameworks: int) -> None:
    world = World(agents)
    master = world.master
    for number in range(frameworks):
        world.subscribe(f"F{number}", f"role{number}")
    took, effects = timed(world.settle)
    offers = offers_in(effects)
    what = f"pass over {agents} agents for {frameworks} frameworks"
    say(f"{what}, all of it offered", took, "ms", f"({len(offers)} offers)")

    master.allocator.mark_all(master, world.now)
    took, _ = timed(world.settle)
    say(f"{what}, all of it in use", took, "ms")
    for offer in offers:
        decline = scheduler.Decline(offer_ids=(offer.id,), filters=Filters(refuse_seconds=LONG_S))
        call = scheduler.Call(type="DECLINE", framework_id=offer.framework_id, decline=decline)
        world.call(call)
    allocator = master.allocator

    def refuse_all() -> list[Effect]:
        for number in range(frameworks):
            want = (f"F{number}", f"role{number}")
            for agent in master.agents.values():
                allocator.refuse(master, world.now, want, agent.id, agent.total, world.now + LONG_S)
        return []

    took, _ = timed(refuse_all)
    say("  of it all frameworks refuse all, each", took / agents / frameworks * 1e3, "µs")
    allocator.mark_all(master, world.now)
    took, effects = timed(world.settle)
    assert not offers_in(effects)
    say(f"{what}, all of it just refused by all", took, "ms")
    allocator.mark_all(master, world.now)
    took, effects = timed(world.settle)
    assert not offers_in(effects)
    say(f"{what}, still refused by all", took, "ms")


def measure_revive(agents: int) -> None:
    world = World(agents)
    took, effects = timed(lambda: world.subscribe("F") + world.settle())
    offers = offers_in(effects)
    assert len(offers) == agents
    say(f"SUBSCRIBE to offers of {agents} agents", took, "ms")
    decline = scheduler.Decline(
        offer_ids=tuple(offer.id for offer in offers), filters=Filters(refuse_seconds=LONG_S)
    )
    identity = FrameworkID("F")
    world.call(scheduler.Call(type="DECLINE", framework_id=identity, decline=decline))
    world.settle()
    revive = scheduler.Call(type="REVIVE", framework_id=identity)
    took, effects = timed(lambda: world.call(revive) + world.settle())
    assert len(offers_in(effects)) == agents
    say(f"REVIVE to offers of {agents} agents", took, "ms")


def _status(task_id: str, agent: AgentID, state: TaskState, number: int) -> TaskStatus:
    return TaskStatus(
        task_id=TaskID(task_id),
        state=state,
        agent_id=agent,
        uuid=number.to_bytes(16, "big"),
        timestamp=1.7e9,
        source="SOURCE_EXECUTOR",
    )


def _up(name: str, status: TaskStatus, stream: str) -> events.AgentCalled:
    assert status.state is not None
    update = link.StatusUpdate(
        framework_id=FrameworkID(name), status=status, latest_state=status.state
    )
    return events.AgentCalled(stream, (link.StatusUpdates(updates=(update,)),))


def _acknowledge(name: str, status: TaskStatus) -> scheduler.Call:
    assert status.agent_id is not None
    assert status.uuid is not None
    body = scheduler.Acknowledge(agent_id=status.agent_id, task_id=status.task_id, uuid=status.uuid)
    return scheduler.Call(type="ACKNOWLEDGE", framework_id=FrameworkID(name), acknowledge=body)


def measure_updates(agents: int, count: int) -> None:
    world = World(agents, 5 * agents)
    world.subscribe("F")
    world.settle()
    updates = []
    for number in range(count):
        place, agent = number % 5, number // 5 % agents
        task_id = f"service-{place}.instance-{agent}-{place}"
        status = _status(task_id, AgentID(f"S{agent}"), "TASK_RUNNING", number)
        updates.append((_up("F", status, f"l{agent}"), _acknowledge("F", status)))

    def work() -> list[Effect]:
        sent = 0
        for update, acknowledge in updates:
            heard = world.feed(update)
            sent += sum(isinstance(effect, events.SendToScheduler) for effect in heard)
            world.call(acknowledge)
        assert sent == count
        return []

    took, _ = timed(work)
    say(f"status update, taken and acknowledged, of {count}", took / count * 1e3, "µs")
    say("  the core alone could take", count / took * 1e3, "updates/s")


def measure_cycle(agents: int, count: int) -> None:
    world = World(agents)
    offers = offers_in(world.subscribe("F") + world.settle())
    small = text.parse("cpus:0.1;mem:32").allocate("*").to_wire()

    def work() -> list[Effect]:
        for number in range(count):
            offer = offers.pop()
            assert offer.agent_id is not None
            task = TaskInfo(
                name="t",
                task_id=TaskID(f"t{number}"),
                agent_id=offer.agent_id,
                resources=small,
                command=CommandInfo(value="true"),
            )
            launch = OfferOperation(type="LAUNCH", launch=LaunchOperation(task_infos=(task,)))
            accept = scheduler.Accept(
                offer_ids=(OfferID(offer.id.value),),
                operations=(launch,),
                filters=Filters(refuse_seconds=0.0),
            )
            call = scheduler.Call(type="ACCEPT", framework_id=FrameworkID("F"), accept=accept)
            world.call(call)
            ended = _status(f"t{number}", offer.agent_id, "TASK_FINISHED", number)
            world.feed(_up("F", ended, "l" + offer.agent_id.value[1:]))
            world.call(_acknowledge("F", ended))
            world.now += 1.1  # past the shortest time for which a refusal holds
            offers.extend(offers_in(world.settle()))
        return []

    took, _ = timed(work)
    say(f"cycle of one offer with one task, of {count}", took / count, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--frameworks", type=int, default=100)
    parser.add_argument("--count", type=int, default=20_000, help="status updates")
    options = parser.parse_args()
    print(machine.describe())
    gc.set_threshold(*GC_THRESHOLDS)  # as the daemon does
    measure_revive(min(1000, options.agents))
    measure_cycle(min(1000, options.agents), options.count // 20)
    measure_updates(min(1000, options.agents), options.count)
    measure_pass(options.agents, options.frameworks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say("memory at most", peak, "MiB")


if __name__ == "__main__":
    main()
