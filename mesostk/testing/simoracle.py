"""What must always be true of a simulated world, and what once it has come to rest.

The oracle sees everything at once and keeps its own books: it believes no core.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mesostk.agent import layout
from mesostk.agent.events import Launch, SendUp
from mesostk.base.zk import SetData, ZkOp
from mesostk.marathon import repository, taskinfo
from mesostk.marathon.instances import Instance
from mesostk.resources.resources import Resources
from mesostk.testing import simchecks
from mesostk.testing.simagent import AgentShell
from mesostk.testing.simhost import Broken, Process
from mesostk.testing.simmarathon import STORE, MarathonShell
from mesostk.testing.simmaster import REGISTRY, REREGISTER_S, MasterShell
from mesostk.testing.simmembers import Registrar
from mesostk.testing.simproc import Run
from mesostk.testing.simroles import Marshal
from mesostk.testing.simrollout import Referee
from mesostk.testing.simshapes import of_app
from mesostk.testing.simsteward import Steward
from mesostk.testing.simvolumes import Warden
from mesostk.testing.simzk import Zk
from mesostk.wire import link, scheduler
from mesostk.wire.mesos import TERMINAL_STATES, TaskStatus

if TYPE_CHECKING:
    from mesostk.testing.world import World

#: States that say a task is not there, or not to be reached.
_LOST = frozenset(
    {
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_UNREACHABLE",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
        "TASK_UNKNOWN",
    }
)

#: States that say how a task ended that was started.
_LIVED = frozenset({"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"})

#: An agent that a master hears of this often is reachable (its limit is 4 × 5 s); seconds.
SILENCE_S = 18.0
#: After it was silent for that long, its loss may still be on the way; seconds.
GRACE_S = 5.0


class Oracle:
    """Watches a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: The owner of each store: the client that raised its epoch last.
        self._owners: dict[str, Zk] = {}
        #: The highest epoch that each agent has followed.
        self._followed: dict[str, int] = {}
        #: Outstanding offers by master's life: offer id → (agent, resources, framework's stream).
        self._offers: dict[str, dict[str, tuple[str, Resources, str]]] = {}
        #: When each master's life last heard of each agent, and when it did so after a silence.
        self._heard_at: dict[tuple[str, int, str], float] = {}
        self._back_at: dict[tuple[str, int, str], float] = {}
        #: State that each update carried, as Marathons heard it, by its uuid.
        self._heard: dict[bytes, TaskStatus] = {}
        #: Which agents told of each task.
        self._tellers: dict[str, set[AgentShell]] = {}
        #: What schedulers heard of the end of each task, from its agent or from the master.
        self._ends: dict[str, set[str]] = {}
        #: The update of an agent that each task's end was told with: its uuid and state.
        self._last: dict[str, tuple[bytes, str]] = {}
        self.registrar = Registrar(world.loop)
        #: Every run that was ever started, with its agent.
        self.started: list[tuple[AgentShell, Run]] = []
        world.ensemble.on_write.append(self._written)
        for master in world.masters:
            master.on_send.append(self._master_sends)
            master.on_call.append(self._master_called)
            master.on_close.append(self._stream_closed)
            master.on_agent.append(self._agent_heard)
        for agent in world.agents:
            agent.on_event.append(self._agent_changed)
            agent.on_effect.append(self._agent_acts)
            agent.processes.on_start = partial(self._run_started, agent)
        for marathon in world.marathons:
            marathon.on_call.append(self._marathon_calls)
            marathon.on_heard.append(self._scheduler_hears)
        self._referee = Referee(world)
        self._warden = Warden(world)
        self._steward = Steward(world)
        self._marshal = None if world.steering is None else Marshal(world)
        for framework in world.frameworks:
            framework.on_heard.append(self._scheduler_hears)

    def _run_started(self, agent: AgentShell, run: Run) -> None:
        if not run.command.startswith("executor"):
            self.started.append((agent, run))
        self._warden.started(agent, run)

    # -- one writer per epoch -------------------------------------------------------------------

    def _written(self, client: Zk, ops: Sequence[ZkOp]) -> None:
        self.registrar.written(ops)
        for root in (REGISTRY, STORE):
            epoch = f"{root}/epoch"
            if any(isinstance(op, SetData) and op.path == epoch for op in ops):
                self._owners[root] = client
            elif any(op.path.startswith(root + "/") for op in ops):
                owner = self._owners.get(root)
                if owner is not None and owner is not client:
                    who = client.process.name
                    raise Broken(f"{who} writes to {root}, which {owner.process.name} owns")

    # -- fencing at agents ----------------------------------------------------------------------

    def _agent_changed(self, agent: AgentShell) -> None:
        core = agent.core
        if core is None or core.state.phase != "RUNNING" or agent.link_stream is None:
            return
        epoch = self._world.epoch_of_life.get(agent.link_stream.partition("-")[0])
        if epoch is None:
            return
        highest = self._followed.get(agent.name, 0)
        if epoch < highest:
            raise Broken(f"{agent.name} follows epoch {epoch} after epoch {highest}")
        self._followed[agent.name] = epoch

    def _agent_acts(self, agent: AgentShell, effect: Any) -> None:
        if isinstance(effect, Launch):
            held = 0.5 * (len(agent.processes.alive()) + 1)
            if held > agent.cpus:
                raise Broken(f"{agent.name} runs {held} cpus of {agent.cpus}")
            task_id = agent.task_of(effect.spec.container_id)
            if any(run.task_id == task_id for run in agent.processes.alive()):
                raise Broken(f"{agent.name} starts {task_id} twice")
        elif isinstance(effect, SendUp) and isinstance(effect.message, link.StatusUpdates):
            for update in effect.message.updates:
                self._update_goes_up(agent, update.status)
        elif isinstance(effect, SendUp) and isinstance(effect.message, link.OperationUpdate):
            self._outcome_goes_up(agent, effect.message)

    def _outcome_goes_up(self, agent: AgentShell, update: link.OperationUpdate) -> None:
        """What is told as done is on the disk, and asks for an acknowledgement if it has an id."""
        status = update.status
        if status.state != "OPERATION_FINISHED" or status.operation_id is None or agent.was_full:
            return
        mark = b"" if status.uuid is None else base64.b64encode(status.uuid.value)
        if not mark or mark not in agent.disk.files.get(layout.RESOURCES, b""):
            raise Broken(f"{agent.name} tells {status.operation_id.value} unsaved")

    def _update_goes_up(self, agent: AgentShell, status: TaskStatus) -> None:
        self._tellers.setdefault(status.task_id.value, set()).add(agent)
        run = self._run(agent, status.task_id.value)
        if status.state in TERMINAL_STATES and run is not None and run.is_alive:
            raise Broken(f"{agent.name} reports {status.state} of {run.task_id}, which lives")
        if status.source != "SOURCE_EXECUTOR" or status.uuid is None or agent.was_full:
            return
        mark = base64.b64encode(status.uuid)
        if not any(
            mark in data for path, data in agent.disk.files.items() if path.endswith("updates")
        ):
            raise Broken(f"{agent.name} sends {status.state} of {status.task_id.value} unsaved")

    def _run(self, agent: AgentShell, task_id: str) -> Run | None:
        for run in agent.processes.alive():
            if run.task_id == task_id:
                return run
        return None

    # -- offers ---------------------------------------------------------------------------------

    def _master_sends(self, master: MasterShell, stream: str, record: Any) -> None:
        if isinstance(record, link.Registered):
            self._registered(master, record)
        if not isinstance(record, scheduler.Event):
            return
        life = f"{master.name}.{master.life}"
        books = self._offers.setdefault(life, {})
        if record.offers is not None:
            for offer in record.offers.offers:
                self.registrar.offered(master, offer)
                resources = Resources.of(offer.resources).unallocate()
                self._check_offer(master, books, offer.agent_id.value, resources)
                books[offer.id.value] = (offer.agent_id.value, resources, stream)
        elif record.rescind is not None:
            books.pop(record.rescind.offer_id.value, None)
        elif record.update is not None:
            self._update_sent(master, record.update.status)

    def _stream_closed(self, master: MasterShell, stream: str) -> None:
        """Whoever held offers over it holds them no more."""
        life = f"{master.name}.{master.life}"
        books = self._offers.get(life, {})
        self._offers[life] = {id: item for id, item in books.items() if item[2] != stream}

    def _check_offer(
        self,
        master: MasterShell,
        books: dict[str, tuple[str, Resources, str]],
        agent_id: str,
        resources: Resources,
    ) -> None:
        assert master.core is not None
        agent = master.core.agents[agent_id]
        if master.core.registry.agents[agent_id].deactivated:
            raise Broken(f"{master.name} offers {agent_id}, which is out of service")
        held = [item[1] for item in books.values() if item[0] == agent_id]
        tasks = [t.held for t in agent.tasks.values() if not t.is_terminal]
        out = Resources.sum((*held, *tasks, resources)).unallocate()
        if not agent.total.contains(out):
            raise Broken(f"{master.name} offers more of {agent_id} than it has: {out}")

    def _master_called(self, master: MasterShell, call: scheduler.Call) -> None:
        books = self._offers.setdefault(f"{master.name}.{master.life}", {})
        for body in (call.accept, call.decline):
            for offer_id in () if body is None else body.offer_ids:
                books.pop(offer_id.value, None)

    def _registered(self, master: MasterShell, record: link.Registered) -> None:
        agent_id = record.agent_id.value
        self._agent_heard(master, agent_id)
        if not self.owns(REGISTRY, master):
            return
        if not self._is_member(agent_id):
            raise Broken(f"{master.name} greets {agent_id}, which is not in the registry")
        self.registrar.greeted(master, agent_id)

    def owns(self, root: str, process: MasterShell | MarathonShell) -> bool:
        """Whether nobody has raised the epoch of a store since this process did."""
        owner = self._owners.get(root)
        return owner is not None and owner.process is process and process.is_alive

    # -- updates --------------------------------------------------------------------------------

    def _update_sent(self, master: MasterShell, status: TaskStatus) -> None:
        """A master tells a state: no task that lives has ended, or is lost with a known agent."""
        task_id = status.task_id.value
        for agent in self._world.agents:
            run = self._run(agent, task_id)
            if run is None:
                continue
            if status.state in TERMINAL_STATES - _LOST:
                raise Broken(f"{task_id} lives, {status.state} is told")
            if self.registrar.is_given_up(agent):
                continue
            if status.state in _LOST and self._is_reachable(master, agent):
                raise Broken(f"{task_id} lives on {agent.name}, {status.state} is told")

    def _agent_heard(self, master: MasterShell, agent_id: str) -> None:
        key = (master.name, master.life, agent_id)
        now = self._world.loop.now
        if now - self._heard_at.get(key, now) >= SILENCE_S:
            self._back_at[key] = now
        self._heard_at[key] = now

    def _is_reachable(self, master: MasterShell, agent: AgentShell) -> bool:
        """Whether the master has no reason to give the agent up."""
        assert agent.core is not None
        known_as = agent.core.state.agent_id
        id = "" if known_as is None else known_as.value
        key = (master.name, master.life, id)
        now = self._world.loop.now
        heard_at = self._heard_at.get(key)
        if heard_at is None:
            # A member has time to come back to a new leader, whatever went on before.
            led_s = now - self._world.led_at[f"{master.name}.{master.life}"]
            return led_s < REREGISTER_S and self._is_member(id)
        return now - heard_at < SILENCE_S and now - self._back_at.get(key, -GRACE_S) > GRACE_S

    def _is_member(self, agent_id: str) -> bool:
        nodes = self._world.ensemble.nodes
        return any(p.startswith(f"{REGISTRY}/agents/") and p.endswith(agent_id) for p in nodes)

    def _scheduler_hears(self, _scheduler: Process, event: scheduler.Event) -> None:
        if event.update is None:
            return
        status = event.update.status
        if status.uuid is not None:
            self._heard[status.uuid] = status
        if status.state in TERMINAL_STATES or status.state in _LOST:
            told = status.state if status.uuid is not None else "by the master"
            self._ends.setdefault(status.task_id.value, set()).add(told)
        if status.state in _LIVED and status.uuid is not None:
            self._check_told_once(status, status.uuid)

    def _check_told_once(self, status: TaskStatus, uuid: bytes) -> None:
        """A task ends once: who hears of it again hears the same update."""
        task_id = status.task_id.value
        first = self._last.setdefault(task_id, (uuid, status.state))
        if first[0] == uuid:
            return
        if not any(agent.was_full or agent.lost_power for agent in self._tellers.get(task_id, ())):
            raise Broken(f"{task_id}: {status.state} is told after {first[1]}")

    def _marathon_calls(self, marathon: MarathonShell, call: scheduler.Call) -> None:
        if not self.owns(STORE, marathon):
            return
        if call.acknowledge is not None:
            self._acknowledged(marathon, call.acknowledge)
        if call.accept is not None:
            for operation in call.accept.operations:
                group = operation.launch_group
                tasks = () if operation.launch is None else operation.launch.task_infos
                for task in tasks if group is None else group.task_group.tasks:
                    if self._stored(task.task_id.value) is None:
                        raise Broken(f"{marathon.name} launches {task.task_id.value} unsaved")

    def _acknowledged(self, marathon: MarathonShell, ack: scheduler.Acknowledge) -> None:
        status = self._heard.get(ack.uuid)
        if status is None:
            raise Broken(f"{marathon.name} acknowledges what it never heard")
        record = self._stored(ack.task_id.value)
        if record is None:
            return
        if ack.task_id.value not in repository.read(record, Instance).live_task_ids:
            return
        if status.state in TERMINAL_STATES:
            raise Broken(f"{marathon.name} acknowledges unsaved: {status}")
        if status.state == "TASK_RUNNING" and b'"state"' not in record:
            raise Broken(f"{marathon.name} acknowledges {status.state}, which is not saved")

    def _stored(self, task_id: str) -> bytes | None:
        instance = taskinfo.instance_of(task_id)
        assert instance is not None
        node = self._world.ensemble.nodes.get(f"{STORE}/{repository.instance_path(instance)}")
        return None if node is None else node.data

    # -- at rest --------------------------------------------------------------------------------

    def why_not_settled(self) -> str | None:
        """What is not yet as it must be once nothing goes wrong any more; None if all is."""
        world = self._world
        leaders = [m for m in world.masters if m.is_alive and m.epoch is not None]
        if len(leaders) != 1:
            return f"{len(leaders)} masters lead"
        heads = [m for m in world.marathons if m.is_alive and m.core is not None]
        if len(heads) != 1:
            return f"{len(heads)} Marathons lead"
        master, marathon = leaders[0].core, heads[0].core
        assert master is not None
        assert marathon is not None
        if not marathon.state.connected:
            return "Marathon is not connected"
        dead = [stream for stream in world.net.open_streams() if stream.lossy]
        if dead:  # whoever holds it has yet to notice
            return f"{dead[0].client.name} or {dead[0].server.name} holds a dead stream"
        for agent in world.agents:
            why = _why_not_member(agent, leaders[0])
            if why is not None:
                return why
        if marathon.state.deployments:
            return f"deployments run: {sorted(marathon.state.deployments)}"
        for framework in world.frameworks:
            if framework.asked or framework.jobs:
                return f"nobody told how {sorted({*framework.asked, *framework.jobs})} ended"
        for user in world.user.apps.values():
            if user.is_asking:
                return f"the user waits for an answer about {user.id}"
        why = None if self._marshal is None else self._marshal.why_not_settled(master, marathon)
        return why or self._why_not_wanted(marathon) or self._why_not_one_view(master, marathon)

    def _alive(self) -> dict[str, AgentShell]:
        return {run.task_id: a for a in self._world.agents for run in a.processes.alive()}

    def _why_not_wanted(self, marathon: Any) -> str | None:
        alive = self._alive()
        total = sum(len(a.processes.alive()) for a in self._world.agents)
        if total != len(alive):
            return "a task runs twice"
        wanted = 0
        for app_id, app in sorted(marathon.state.apps.items()):
            running = [task for task in alive if taskinfo.app_of(task) == app_id]
            each = 1 if app.pod is None else len(app.pod.containers)
            wanted += app.instances * each
            if len(running) != app.instances * each:
                return f"{app_id}: {len(running)} run, {app.instances} x {each} are wanted"
        if wanted != total:
            return f"{total - wanted} tasks run that nobody wants"
        return None

    def _why_not_one_view(self, master: Any, marathon: Any) -> str | None:
        alive = set(self._alive())
        masters = {
            task.task_id
            for agent in master.agents.values()
            for task in agent.tasks.values()
            if task.wire.state == "TASK_RUNNING"
        }
        if masters != alive:
            return f"the master's running tasks differ: {sorted(masters ^ alive)}"
        all_tasks = {id for a in master.agents.values() for _, id in a.tasks}
        if all_tasks != alive:
            return f"the master knows tasks that are over: {sorted(all_tasks - alive)}"
        known = list(marathon.state.instances.values())
        theirs = {task for i in known if i.is_running for task in i.task_ids}
        if theirs != alive or not all(i.is_running for i in known):
            return f"Marathon's instances differ: {sorted(theirs ^ alive)}"
        differ = (self._why_agent_differs(a, master, marathon) for a in self._world.agents)
        why = next((why for why in differ if why is not None), None)
        return simchecks.why_not_told(master, marathon) if why is None else why

    def _why_agent_differs(self, agent: AgentShell, master: Any, marathon: Any) -> str | None:
        assert agent.core is not None
        state = agent.core.state
        theirs_total = None if state.agent_id is None else master.agents[state.agent_id.value]
        if theirs_total is None or theirs_total.total != state.total:
            return f"{agent.name} has {state.total}, the master thinks otherwise"
        if state.operations or theirs_total.operations:
            return f"{agent.name} has outcomes that are not acknowledged"
        # What nobody knows of is waited for longer than a world may take to settle.
        known = [r for r in marathon.state.residences.values() if not r.is_lost]
        left = {r.app_id for r in known} - set(marathon.state.apps)
        if left:
            return f"residences are left of {sorted(left)}"
        # An agent that was marked gone keeps the volumes of residents that did not run then.
        homes = [r for r in known if r.host == agent.host.name]
        wanted = Resources.sum(Resources.of(r.resources) for r in homes)
        if state.total.checkpointable() != wanted.unallocate():
            return f"{agent.name} has {state.total.checkpointable()}, {wanted} is wanted"
        volumes = {volume.persistence_id for r in homes for volume in r.volumes}
        if {path.rpartition("/")[2] for path in agent.disk.volumes} != volumes:
            return f"{agent.name} keeps {sorted(agent.disk.volumes)}, not {sorted(volumes)}"
        known_executors = {id for _, id in theirs_total.executors}
        executors = {r.executor_id for r in state.runs.values() if r.is_executor}
        if known_executors != executors:
            return f"{agent.name} has {sorted(executors)}, not {sorted(known_executors)}"
        if any(stream.pending for stream in agent.core.state.streams.values()):
            return f"{agent.name} has unacknowledged updates"
        runs = [run for run in state.runs.values() if not run.is_default or run.nested]
        held = sum(1 for run in runs if not run.is_default)
        if held != len(agent.processes.alive()) or len(runs) != len(state.runs):
            return f"{agent.name} knows {len(state.runs)} runs"
        return None

    def at_rest(self) -> None:
        """Assert what must be true of the settled world and its history."""
        head = next(m for m in self._world.marathons if m.is_alive and m.core is not None)
        assert head.core is not None
        apps = [of_app(app) for app in head.core.state.apps.values()]
        for id, user in self._world.user.apps.items():
            now = frozenset(app for app in apps if self._world.user.of_app(app.app_id) is user)
            if now not in user.possible:
                raise Broken(f"{id} is {now}, not one of {sorted(map(str, user.possible))}")
        wanted = {app.app_id: app.command for app in apps}
        for task_id, agent in self._alive().items():
            run = self._run(agent, task_id)
            why = None if run is None else agent.checkers.why_not_checked(run)
            if why is not None:
                raise Broken(why)
            app_id = taskinfo.app_of(task_id)
            is_side = run is not None and ".side." in task_id
            if run is not None and not is_side and run.command != wanted[str(app_id)]:
                raise Broken(f"{task_id} runs {run.command}, not {wanted[str(app_id)]}")
        taken = self._steward.ends()
        for agent, run in self.started:
            self._check_end_was_told(agent, run, taken.get(run.task_id))

    def _check_end_was_told(self, agent: AgentShell, run: Run, taken: str | None) -> None:
        """Of a run that is over, its framework heard the truth from the agent, whatever crashed;
        `taken` is the end that the agent took from an executor."""
        if run.is_alive or agent.lost_power or agent.was_full:
            return
        if agent.name in self.registrar.given_up:
            return
        told = self._ends.get(run.task_id, set())
        assert run.ended is not None
        true = {"TASK_KILLED"}
        if not run.is_killed:
            # A kill may have been decided on, and come too late.
            true.add("TASK_FINISHED" if run.ended.status == 0 else "TASK_FAILED")
        if run.within is not None:
            # What nobody had taken from its executor ended with that one.
            true = {"TASK_FAILED", "TASK_LOST"} | _LIVED if taken is None else {taken}
        if not told & true:
            raise Broken(f"{run.task_id} on {agent.name}: {sorted(true)} not told, but {told}")


def _why_not_member(agent: AgentShell, leader: MasterShell) -> str | None:
    core = agent.core
    if not agent.is_alive or core is None or core.state.phase != "RUNNING":
        return f"{agent.name} is not registered"
    if agent.link_server != leader.address:
        return f"{agent.name} is registered elsewhere"
    return None
