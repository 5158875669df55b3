"""Random sequences of everything that can happen never break `Master.check`.

`check` runs after each event on the bench: no agent over-committed, no resource offered twice,
shares equal to what is held. Faults included: broken streams, failed acknowledgements, doubled and
late calls, agents that forget their tasks, held saves.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.master import events as ev
from mesostk.resources import text
from mesostk.wire import link, operator, scheduler
from mesostk.wire.mesos import (
    UUID,
    AgentID,
    CommandInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    OfferOperation,
    OperationID,
    ReservationInfo,
    Reserve,
    Scalar,
    TaskID,
    TaskInfo,
    Unreserve,
)
from mesostk.wire.quota import QuotaConfig

HOSTS = ("a1", "a2", "a3", "a4")
STATES = ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED", "TASK_FAILED", "TASK_LOST")
ROLES = (("*",), ("eng",), ("eng/web",), ("eng", "ops"))


class Chaos:
    """Draws one thing after the other that agents, schedulers and operators may do."""

    def __init__(self, bench: Any, rng: Random) -> None:
        self.bench, self.rng = bench, rng
        self.agent_ids: dict[str, str] = {}
        self.links: list[str] = []
        self.tasks = 0
        self.converted = 0
        self.launched = 0
        self.done: set[str] = set()

    def step(self) -> None:
        actions = (
            self.agent_comes, self.agent_comes, self.agent_comes, self.link_breaks,
            self.scheduler_comes,
            self.scheduler_leaves, self.accept, self.accept, self.accept, self.accept, self.decline,
            self.update, self.update, self.update, self.acknowledge, self.acknowledge, self.ask,
            self.time, self.time, self.time, self.long_time, self.saves, self.operate,
            self.totals, self.executor_exits, self.quota, self.convert, self.convert,
            self.operations_end,
        )  # fmt: skip
        action = self.rng.choice(actions)
        self.done.add(action.__name__)
        action()

    @property
    def master(self) -> Any:
        return self.bench.master

    def agent_comes(self) -> None:
        host = self.rng.choice(HOSTS)
        agent_id = self.agent_ids.get(host) if self.rng.random() < 0.9 else None
        more: dict[str, Any] = {"resources": self.rng.choice(("cpus:4;mem:999", "cpus:2;mem:500"))}
        agent = self.master.agents.get(agent_id)
        if agent is not None and self.rng.random() < 0.8:
            more["tasks"] = tuple(task.wire for task in agent.tasks.values())
            more["frameworks"] = tuple(item.info for item in self.master.frameworks.values())
            more["executors"] = tuple(
                link.FrameworkExecutor(
                    framework_id=FrameworkID(framework_id), executor=executor.info
                )
                for (framework_id, _), executor in agent.executors.items()
                if self.rng.random() < 0.8
            )
        elif agent_id is not None:
            more["tasks"] = tuple(
                item.unreachable_tasks[task_id]
                for item in self.master.frameworks.values()
                for task_id in item.unreachable_tasks
                if item.unreachable_tasks[task_id].agent_id.value == agent_id
            )
        stream = self.bench.stream()
        self.links.append(stream)
        self.bench.feed(ev.AgentSubscribed(stream, self.bench.subscription(host, agent_id, **more)))
        for message in self.bench.down(stream):
            if isinstance(message, link.Registered):
                self.agent_ids[host] = message.agent_id.value
            elif isinstance(message, link.Shutdown):
                self.agent_ids.pop(host, None)

    def link_breaks(self) -> None:
        if self.links:
            self.bench.feed(ev.AgentStreamClosed(self.rng.choice(self.links)))

    def scheduler_comes(self) -> None:
        known = list(self.master.frameworks)
        roles = self.rng.choice(ROLES)
        more: dict[str, Any] = {
            "roles": roles,
            "capabilities": ("MULTI_ROLE", *self.rng.choice(((), ("PARTITION_AWARE",)))),
            "checkpoint": self.rng.random() < 0.5,
            "failover_timeout": self.rng.choice((0.0, 30.0)),
        }
        if known and (self.rng.random() < 0.6 or len(known) > 3):
            more["id"] = FrameworkID(self.rng.choice(known))
        self.bench.subscribe(self.bench.info(**more), suppressed=roles[: self.rng.randrange(2)])

    def scheduler_leaves(self) -> None:
        if self.master.schedulers and self.rng.random() < 0.4:
            self.bench.feed(ev.SchedulerStreamClosed(self.rng.choice(list(self.master.schedulers))))

    def accept(self) -> None:
        offers = list(self.master.offers.values())
        if not offers:
            return
        offer = self.rng.choice(offers)
        tasks = []
        for _ in range(self.rng.randrange(4)):
            self.tasks += 1
            resources = self.rng.choice(("cpus:1;mem:100", "cpus:0.3;mem:50", "cpus:9;mem:1"))
            task = self.bench.task(f"t{self.tasks}", offer.agent_id, resources)
            tasks.append(self.with_executor(task) if self.rng.random() < 0.4 else task)
        listed = [offer.wire, *(other.wire for other in offers if self.rng.random() < 0.1)]
        self.bench.accept(
            offer.framework_id, listed, *tasks, refuse_s=self.rng.choice((0.0, 1.0, 50.0))
        )
        self.launched += sum(
            isinstance(effect.message, link.RunTask) for effect in self.bench.of(ev.SendToAgent)
        )

    def with_executor(self, task: TaskInfo) -> TaskInfo:
        executor = ExecutorInfo(
            executor_id=ExecutorID(self.rng.choice(("e1", "e2"))),
            command=CommandInfo(value="run"),
            resources=text.parse("cpus:0.1;mem:10").to_wire(),
        )
        return replace(task, command=None, executor=executor)

    def executor_exits(self) -> None:
        running = [
            (agent.stream, key)
            for agent in self.master.agents.values()
            for key in agent.executors
            if agent.stream is not None
        ]
        if running:
            stream, (framework_id, executor_id) = self.rng.choice(running)
            exited = link.ExitedExecutor(
                framework_id=FrameworkID(framework_id),
                executor_id=ExecutorID(executor_id),
                status=9,
            )
            self.bench.up(stream, exited)
            assert all(
                agent.stream != stream or (framework_id, executor_id) not in agent.executors
                for agent in self.master.agents.values()
            )

    def decline(self) -> None:
        for offer in list(self.master.offers.values())[: self.rng.randrange(3)]:
            call = scheduler.Decline(offer_ids=(offer.wire.id, offer.wire.id))
            self.bench.call(offer.framework_id, "DECLINE", call)

    def _task(self) -> Any:
        tasks = [task for agent in self.master.agents.values() for task in agent.tasks.values()]
        return self.rng.choice(tasks) if tasks else None

    def update(self) -> None:
        task = self._task()
        if task is None or self.master.agents[task.agent_id].stream is None:
            return
        stream = self.master.agents[task.agent_id].stream
        uuid = bytes([self.rng.randrange(3)]) * 16
        self.bench.update(stream, task.framework_id, task.task_id, self.rng.choice(STATES), uuid)

    def acknowledge(self) -> None:
        task = self._task()
        if task is None:
            return
        uuid = task.wire.status_update_uuid or b"?" * 16
        call = scheduler.Acknowledge(
            agent_id=AgentID(task.agent_id), task_id=TaskID(task.task_id), uuid=uuid
        )
        self.bench.call(task.framework_id, "ACKNOWLEDGE", call)

    def ask(self) -> None:
        if not self.master.frameworks:
            return
        framework_id = self.rng.choice(list(self.master.frameworks))
        task_id = TaskID(f"t{self.rng.randrange(1, self.tasks + 2)}")
        kind, body = self.rng.choice(
            (
                ("KILL", scheduler.Kill(task_id=task_id)),
                ("RECONCILE", scheduler.Reconcile()),
                (
                    "RECONCILE",
                    scheduler.Reconcile(tasks=(scheduler.ReconcileTask(task_id=task_id),)),
                ),
                ("REVIVE", None),
                ("SUPPRESS", scheduler.Roles(roles=("eng",))),
                ("REVIVE", scheduler.Roles(roles=("eng",))),
            )
        )
        self.bench.call(framework_id, kind, body)

    def time(self) -> None:
        self.bench.run(self.rng.choice((0.0, 0.5, 2.0, 10.0)))

    def long_time(self) -> None:
        self.bench.answering = self.rng.random() < 0.8
        self.bench.run(95.0)
        self.bench.answering = True

    def saves(self) -> None:
        self.bench.holding = not self.bench.holding and self.rng.random() < 0.3
        self.bench.release()

    def operate(self) -> None:
        if not self.agent_ids:
            return
        host = self.rng.choice(list(self.agent_ids))
        ref = operator.AgentRef(agent_id=AgentID(self.agent_ids[host]))
        kinds = ["DEACTIVATE_AGENT", "REACTIVATE_AGENT"]
        if self.rng.random() < 0.2:
            kinds = ["MARK_AGENT_GONE"]
        kind: Any = self.rng.choice(kinds)
        body: dict[str, Any] = {kind.lower(): ref}
        self.bench.operate(operator.Call(type=kind, **body))

    def quota(self) -> None:
        role = self.rng.choice(("eng", "ops", "none"))
        guarantees, limits = self.rng.choice(((None, None), (1.0, 3.0), (2.0, 2.0), (0.0, 0.5)))
        body = operator.UpdateQuota(
            force=True,
            quota_configs=(
                QuotaConfig(
                    role=role,
                    guarantees={} if guarantees is None else {"cpus": Scalar(guarantees)},
                    limits={} if limits is None else {"cpus": Scalar(limits)},
                ),
            ),
        )
        self.bench.operate(operator.Call(type="UPDATE_QUOTA", update_quota=body))

    def convert(self) -> None:
        """Reserve, or give back, something of an offer; some of it with feedback."""
        offers = list(self.master.offers.values())
        if not offers:
            return
        offer = self.rng.choice(offers)
        id = OperationID(f"o{self.rng.randrange(20)}") if self.rng.random() < 0.5 else None
        reserved = offer.resources.reserved(offer.role).unallocate()
        if reserved and self.rng.random() < 0.5:
            body = Unreserve(resources=reserved.to_wire())
            operation = OfferOperation(type="UNRESERVE", unreserve=body, id=id)
        else:
            more = ReservationInfo(type="DYNAMIC", role=offer.role)
            what = text.parse(self.rng.choice(("cpus:0.5", "mem:10", "cpus:99")))
            taken = Reserve(resources=what.push_reservation(more).to_wire())
            operation = OfferOperation(type="RESERVE", reserve=taken, id=id)
        self.bench.accept(offer.framework_id, [offer.wire], operations=(operation,))
        self.converted += sum(
            isinstance(effect.message, link.ApplyOperation)
            for effect in self.bench.of(ev.SendToAgent)
        )

    def operations_end(self) -> None:
        """Agents answer what they were asked, or refuse it with their total of before."""
        for agent in list(self.master.agents.values()):
            for record in list(agent.operations.values())[: self.rng.randrange(4)]:
                if agent.stream is None:
                    continue
                wire = record.wire
                state: Any = self.rng.choice(("OPERATION_FINISHED", "OPERATION_FAILED"))
                uuid = None if wire.info.id is None else UUID(b"o" * 16)
                status = replace(wire.latest_status, state=state, uuid=uuid)
                update = link.OperationUpdate(
                    framework_id=wire.framework_id, operation_uuid=wire.uuid, status=status
                )
                self.bench.up(agent.stream, update)

    def totals(self) -> None:
        connected = [agent for agent in self.master.agents.values() if agent.stream is not None]
        if connected and self.rng.random() < 0.3:
            agent = self.rng.choice(connected)
            resources = self.bench.subscription(resources="cpus:3;mem:700").agent_info.resources
            self.bench.up(agent.stream, link.UpdateAgent(resources=resources))


@pytest.mark.parametrize("tens", range(4))
def test_no_sequence_of_events_breaks_the_invariants(make_bench: Any, tens: int) -> None:
    launched = converted = 0
    for seed in range(10 * tens, 10 * tens + 10):
        bench = make_bench()
        chaos = Chaos(bench, Random(seed))
        bench.feed(ev.OperatorSubscribed("o"))
        for _ in range(250):
            chaos.step()
        launched += chaos.launched
        converted += chaos.converted
        assert len(chaos.done) == 18, f"seed {seed} left something out"
        bench.holding = False
        bench.release()
        assert bench.master.saves_pending() == 0
    assert converted > 5, "runs in which little was reserved show little"
    assert launched > 30, "runs in which little was launched show little"
