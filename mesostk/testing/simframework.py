"""A scripted framework beside Marathon: jobs that run once, some on what it reserves for them, some
through executors of its own (`simcrews`), or in several roles (`simroles`).

What it reserves, with volumes, it gives back at rest, and it acknowledges every outcome that it is
told.

It is not partition-aware, so it is told TASK_LOST where Marathon is told TASK_UNREACHABLE. What it
decides it remembers across its lives, as if each of its records were written at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from mesostk.resources import conversions
from mesostk.resources.resources import Resources
from mesostk.testing.simcrews import NEEDED, Crews
from mesostk.testing.simhost import Ground, Host, Process
from mesostk.testing.simmaster import SESSION_TIMEOUT_S
from mesostk.testing.simnet import Network
from mesostk.testing.simroles import Wanderer
from mesostk.testing.simscheduler import SchedulerClient
from mesostk.testing.simzk import Ensemble, Zk
from mesostk.wire import scheduler
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    AgentID,
    CommandInfo,
    Create,
    Destroy,
    DiskInfo,
    Filters,
    FrameworkCapability,
    FrameworkID,
    FrameworkInfo,
    MasterInfo,
    Offer,
    OfferOperation,
    OperationID,
    OperationStatus,
    OperationType,
    Persistence,
    ReservationInfo,
    Reserve,
    TaskID,
    TaskInfo,
    TaskStatus,
    Unreserve,
    Volume,
)
from mesostk.wire.mesos import Launch as LaunchTasks

#: Jobs that run at a time, at most.
JOBS = 3
COMMANDS = ("exit 0", "exit 1", "run")
#: How often open jobs are asked for, and surplus ones killed; seconds.
RECONCILE_S = 30.0


#: What is reserved at a time; the disk becomes a volume half of the time.
AMOUNTS = Resources.scalars(cpus=0.5, mem=16, disk=16)


class FrameworkShell(Process):
    """One scheduler of one framework."""

    def __init__(
        self,
        ground: Ground,
        name: str,
        host: Host,
        ensemble: Ensemble,
        net: Network,
        *,
        crews: random.Random | None = None,
        wanderer: Wanderer | None = None,
    ) -> None:
        super().__init__(ground, name, host)
        self._ensemble = ensemble
        self._net = net
        self._client: SchedulerClient | None = None
        #: Executors of its own, where `crews` is given to draw them.
        self._crews = None if crews is None else Crews(crews, self._send)
        #: Roles that come and go, where it is in several.
        self.wanderer = wanderer
        info = FrameworkInfo(
            user="root",
            name=name,
            role=name,
            capabilities=(FrameworkCapability(type="RESERVATION_REFINEMENT"),),
            checkpoint=True,
            failover_timeout=100_000.0,
        )
        self.info = info if wanderer is None else wanderer.subscribed(info)
        #: Whether calls reach the master, and whether it was not told of the last change of roles.
        self._is_connected = self._is_untold = False
        #: Operations that want feedback and whose end was not told, by id.
        self.asked: set[str] = set()
        self.operations = 0
        #: Open jobs with the agent each was sent to.
        self.jobs: dict[str, AgentID] = {}
        self.made = 0
        self.is_resting = False
        #: Told each event of the master.
        self.on_heard: list[Callable[[FrameworkShell, scheduler.Event], None]] = []

    def boot(self) -> None:
        """Subscribe as who it was before."""
        client = self._client = SchedulerClient(
            self, self._net, random.Random(self.ground.rng.random())
        )
        self._is_connected = False
        client.on_connected = self._connected
        client.on_disconnected = self._disconnected
        client.on_event = self._heard
        zk = Zk(self._ensemble, self, SESSION_TIMEOUT_S)
        client.follow_leader(zk)
        zk.start()
        client.subscribe(self.info)
        self.later(RECONCILE_S, self._look_after)
        if self.wanderer is not None:
            self.later(self.wanderer.pause_s(), self._change_roles)

    def _change_roles(self) -> None:
        """Be in other roles, from now on and in each life that follows."""
        assert self.wanderer is not None
        assert self._client is not None
        changed = self.wanderer.changed(self.info, is_resting=self.is_resting)
        if changed is not None:
            self.info = changed
            self._client.set_info(changed)
            if changed.id is not None:
                self._send(self.wanderer.update(changed))
            self._is_untold = not self._is_connected
        self.later(self.wanderer.pause_s(), self._change_roles)

    def _send(self, call: scheduler.Call) -> None:
        assert self._client is not None
        self._client.send(call)

    def _connected(self, id: FrameworkID, _master: MasterInfo | None) -> None:
        self.info = msgspec.structs.replace(self.info, id=id)
        self._is_connected = True
        if self.wanderer is not None and self._is_untold:
            # It may have been changed while SUBSCRIBE was on its way.
            self._is_untold = False
            self._send(self.wanderer.update(self.info))
        self._reconcile()

    def _disconnected(self, _reason: str) -> None:
        self._is_connected = False

    def _look_after(self) -> None:
        """Ask for open jobs; at rest, end those that run for ever."""
        self._reconcile()
        if self.is_resting:
            for job, agent_id in sorted(self.jobs.items()):
                self._kill(job, agent_id)
        if self._crews is not None:
            self._crews.look_after(set(self.jobs), is_resting=self.is_resting)
        self.later(RECONCILE_S, self._look_after)

    def _reconcile(self) -> None:
        tasks = tuple(
            scheduler.ReconcileTask(task_id=TaskID(job), agent_id=agent_id)
            for job, agent_id in self.jobs.items()
        )
        if tasks:
            self._send(scheduler.Call(type="RECONCILE", reconcile=scheduler.Reconcile(tasks=tasks)))
        self._send(scheduler.Call(type="RECONCILE", reconcile=scheduler.Reconcile()))
        asked = tuple(
            scheduler.ReconcileOperation(operation_id=OperationID(id)) for id in sorted(self.asked)
        )
        if asked:
            body = scheduler.ReconcileOperations(operations=asked)
            self._send(scheduler.Call(type="RECONCILE_OPERATIONS", reconcile_operations=body))

    def _kill(self, job: str, agent_id: AgentID | None) -> None:
        kill = scheduler.Kill(task_id=TaskID(job), agent_id=agent_id)
        self._send(scheduler.Call(type="KILL", kill=kill))

    def _heard(self, event: scheduler.Event) -> None:
        for fn in self.on_heard:
            fn(self, event)
        if event.offers is not None:
            for offer in event.offers.offers:
                self._answer(offer)
        elif event.inverse_offers is not None:
            self._answer_inverse(event.inverse_offers)
        elif event.update is not None:
            self._updated(event.update.status)
        elif event.update_operation_status is not None:
            self._operation_told(event.update_operation_status.status)

    def _answer(self, offer: Offer) -> None:
        operations = self._conversions(offer)
        if operations:
            filters = Filters(refuse_seconds=1.0)
            accept = scheduler.Accept(offer_ids=(offer.id,), operations=operations, filters=filters)
            self._send(scheduler.Call(type="ACCEPT", accept=accept))
            return
        filters = Filters(refuse_seconds=self.ground.rng.choice((1.0, 5.0, 20.0)))
        wanted = 0 if self.is_resting else JOBS - len(self.jobs)
        cpus = Resources.of(offer.resources).unallocate().quantities().get("cpus", 0)
        each = 500 if self._crews is None else NEEDED
        count = min(wanted, cpus // each, 2)
        if count <= 0:
            decline = scheduler.Decline(offer_ids=(offer.id,), filters=filters)
            self._send(scheduler.Call(type="DECLINE", decline=decline))
            return
        tasks = tuple(self._new_job(offer) for _ in range(count))
        launch = OfferOperation(type="LAUNCH", launch=LaunchTasks(task_infos=tasks))
        accept = scheduler.Accept(offer_ids=(offer.id,), operations=(launch,), filters=filters)
        self._send(scheduler.Call(type="ACCEPT", accept=accept))

    def _answer_inverse(self, asked: scheduler.InverseOffers) -> None:
        """Agree to leave a machine, or do not; the job there goes on either way."""
        ids = tuple(offer.id for offer in asked.inverse_offers)
        answer = scheduler.InverseOfferAnswer(
            inverse_offer_ids=ids, filters=Filters(refuse_seconds=5.0)
        )
        if self.ground.rng.random() < 0.5:
            call = scheduler.Call(type="ACCEPT_INVERSE_OFFERS", accept_inverse_offers=answer)
        else:
            call = scheduler.Call(type="DECLINE_INVERSE_OFFERS", decline_inverse_offers=answer)
        self._send(call)

    def _conversions(self, offer: Offer) -> tuple[OfferOperation, ...]:
        """At rest all that is reserved goes back; before, some offers get something reserved, a
        volume made, and a job that uses both."""
        offered = Resources.of(offer.resources).unallocate()
        role = self.name if offer.allocation_info is None else str(offer.allocation_info.role)
        reserved = offered.reserved(role)
        if reserved and (self.is_resting or self.ground.rng.random() < 0.2):
            return self._given_back(reserved)
        if self.wanderer is not None and not self.is_resting and not reserved:
            further = (offered.reserved() - offered.persistent_volumes()).named("cpus")
            if further and self.wanderer.reserves():
                mine = further.push_reservation(ReservationInfo(type="DYNAMIC", role=role))
                return (self._operation("RESERVE", reserve=Reserve(resources=mine.to_wire())),)
        wanted = not reserved and not self.is_resting and offered.contains(AMOUNTS)
        if not wanted or self.ground.rng.random() < 0.5:
            return ()
        mine = AMOUNTS.push_reservation(ReservationInfo(type="DYNAMIC", role=role))
        found = [self._operation("RESERVE", reserve=Reserve(resources=mine.to_wire()))]
        if self.ground.rng.random() < 0.5:
            (disk,) = mine.named("disk").to_wire()
            self.operations += 1
            volume = msgspec.structs.replace(
                disk,
                disk=DiskInfo(
                    persistence=Persistence(id=f"{self.name}-{self.operations}"),
                    volume=Volume(mode="RW", container_path="data"),
                ),
            )
            found.append(self._operation("CREATE", create=Create(volumes=(volume,))))
            mine = mine - mine.named("disk") + Resources.of((volume,))
        if len(self.jobs) < JOBS:
            job = msgspec.structs.replace(self._plain_job(offer), resources=mine.to_wire())
            found.append(OfferOperation(type="LAUNCH", launch=LaunchTasks(task_infos=(job,))))
        return tuple(found)

    def _given_back(self, reserved: Resources) -> tuple[OfferOperation, ...]:
        volumes = reserved.persistent_volumes()
        found = []
        if volumes:
            destroy = self._operation("DESTROY", destroy=Destroy(volumes=volumes.to_wire()))
            after = conversions.apply(reserved, destroy)
            assert not isinstance(after, str), after
            found.append(destroy)
            reserved = after
        back = Unreserve(resources=reserved.to_wire())
        return (*found, self._operation("UNRESERVE", unreserve=back))

    def _operation(self, kind: OperationType, **body: Any) -> OfferOperation:
        """With feedback half of the time."""
        self.operations += 1
        if self.ground.rng.random() < 0.5:
            return OfferOperation(type=kind, **body)
        id = f"{kind}-{self.operations}"
        self.asked.add(id)
        return OfferOperation(type=kind, id=OperationID(id), **body)

    def _operation_told(self, status: OperationStatus) -> None:
        assert status.operation_id is not None
        if status.state not in {"OPERATION_PENDING", "OPERATION_RECOVERING"}:
            self.asked.discard(status.operation_id.value)
        if status.uuid is None or status.agent_id is None:
            return
        heard = scheduler.AcknowledgeOperationStatus(
            agent_id=status.agent_id, uuid=status.uuid.value, operation_id=status.operation_id
        )
        self._send(
            scheduler.Call(type="ACKNOWLEDGE_OPERATION_STATUS", acknowledge_operation_status=heard)
        )

    def _new_job(self, offer: Offer) -> TaskInfo:
        job = self._plain_job(offer)
        return job if self._crews is None else self._crews.take(job, offer)

    def _plain_job(self, offer: Offer) -> TaskInfo:
        self.made += 1
        job = f"{self.name}-{self.made}"
        self.jobs[job] = offer.agent_id
        return TaskInfo(
            name=job,
            task_id=TaskID(job),
            agent_id=offer.agent_id,
            resources=Resources.scalars(cpus=0.5, mem=16).to_wire(),
            command=CommandInfo(value=self.ground.rng.choice(COMMANDS)),
        )

    def _updated(self, status: TaskStatus) -> None:
        job = status.task_id.value
        if status.state in TERMINAL_STATES or status.state == "TASK_LOST":
            self.jobs.pop(job, None)
        elif job not in self.jobs:
            # It was given up for lost, and is back.
            self._kill(job, status.agent_id)
        if status.uuid is not None and status.agent_id is not None:
            ack = scheduler.Acknowledge(
                agent_id=status.agent_id, task_id=status.task_id, uuid=status.uuid
            )
            self._send(scheduler.Call(type="ACKNOWLEDGE", acknowledge=ack))
