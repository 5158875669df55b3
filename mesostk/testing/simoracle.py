"""What must always be true of a simulated world, and what once it has come to rest.

The oracle sees everything at once and keeps its own books: it believes no core.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mesostk.agent.events import Launch, SendUp
from mesostk.base.zk import SetData, ZkOp
from mesostk.marathon import repository, taskinfo
from mesostk.resources.resources import Resources
from mesostk.testing.simagent import AgentShell
from mesostk.testing.simmarathon import STORE, MarathonShell
from mesostk.testing.simmaster import REGISTRY, MasterShell
from mesostk.testing.simproc import Run
from mesostk.testing.simuser import NO_APP, Wish
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

#: A host without trouble for this long has an agent that is known to the leader; seconds.
CALM_S = 90.0


class Broken(AssertionError):
    """An invariant does not hold."""


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
        #: State that each update carried, as Marathons heard it, by its uuid.
        self._heard: dict[bytes, TaskStatus] = {}
        #: Tasks of which some Marathon heard the end.
        self.ended_tasks: set[str] = set()
        #: Every run that was ever started, with its agent.
        self.started: list[tuple[AgentShell, Run]] = []
        world.ensemble.on_write.append(self._written)
        for master in world.masters:
            master.on_send.append(self._master_sends)
            master.on_call.append(self._master_called)
        for agent in world.agents:
            agent.on_event.append(self._agent_changed)
            agent.on_effect.append(self._agent_acts)
            agent.processes.on_start = partial(self._run_started, agent)
        for marathon in world.marathons:
            marathon.on_call.append(self._marathon_calls)
            marathon.on_heard.append(self._marathon_hears)

    def _run_started(self, agent: AgentShell, run: Run) -> None:
        self.started.append((agent, run))

    # -- one writer per epoch -------------------------------------------------------------------

    def _written(self, client: Zk, ops: Sequence[ZkOp]) -> None:
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
            again = [r for r in agent.processes.alive() if r.task_id == effect.spec.executor_id]
            if again:
                raise Broken(f"{agent.name} starts {effect.spec.executor_id} twice")
        elif isinstance(effect, SendUp) and isinstance(effect.message, link.StatusUpdates):
            for update in effect.message.updates:
                self._update_goes_up(agent, update.status)

    def _update_goes_up(self, agent: AgentShell, status: TaskStatus) -> None:
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
                resources = Resources.of(offer.resources).unallocate()
                self._check_offer(master, books, offer.agent_id.value, resources)
                books[offer.id.value] = (offer.agent_id.value, resources, stream)
        elif record.rescind is not None:
            books.pop(record.rescind.offer_id.value, None)
        elif record.subscribed is not None:
            # A scheduler that (re-)subscribes holds no offers of former streams.
            books.clear()
        elif record.update is not None:
            self._update_sent(record.update.status)

    def _check_offer(
        self,
        master: MasterShell,
        books: dict[str, tuple[str, Resources, str]],
        agent_id: str,
        resources: Resources,
    ) -> None:
        assert master.core is not None
        agent = master.core.agents[agent_id]
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
        if not self._owns(REGISTRY, master):
            return
        agent_id = record.agent_id.value
        nodes = self._world.ensemble.nodes
        if not any(p.startswith(f"{REGISTRY}/agents/") and p.endswith(agent_id) for p in nodes):
            raise Broken(f"{master.name} greets {agent_id}, which is not in the registry")

    def _owns(self, root: str, process: MasterShell | MarathonShell) -> bool:
        owner = self._owners.get(root)
        return owner is not None and owner.process is process and process.is_alive

    # -- updates --------------------------------------------------------------------------------

    def _update_sent(self, status: TaskStatus) -> None:
        """A master tells a state: true of every task whose host has been well for a while."""
        task_id = status.task_id.value
        for agent in self._world.agents:
            run = self._run(agent, task_id)
            if run is None:
                continue
            now = self._world.loop.now
            calm = now - max(agent.host.troubled_at, run.started_at, self._world.moved_at) > CALM_S
            if status.state in TERMINAL_STATES - _LOST:
                raise Broken(f"{task_id} lives, {status.state} is told")
            if status.state in _LOST and calm:
                raise Broken(f"{task_id} lives on {agent.name}, {status.state} is told")

    def _marathon_hears(self, _marathon: MarathonShell, event: scheduler.Event) -> None:
        if event.update is None:
            return
        status = event.update.status
        if status.uuid is not None:
            self._heard[status.uuid] = status
        if status.state in TERMINAL_STATES or status.state in _LOST:
            self.ended_tasks.add(status.task_id.value)

    def _marathon_calls(self, marathon: MarathonShell, call: scheduler.Call) -> None:
        if not self._owns(STORE, marathon):
            return
        if call.acknowledge is not None:
            self._acknowledged(marathon, call.acknowledge)
        if call.accept is not None:
            for operation in call.accept.operations:
                for task in () if operation.launch is None else operation.launch.task_infos:
                    if self._stored(task.task_id.value) is None:
                        raise Broken(f"{marathon.name} launches {task.task_id.value} unsaved")

    def _acknowledged(self, marathon: MarathonShell, ack: scheduler.Acknowledge) -> None:
        status = self._heard.get(ack.uuid)
        if status is None:
            raise Broken(f"{marathon.name} acknowledges what it never heard")
        record = self._stored(ack.task_id.value)
        if record is None:
            return
        if status.state in TERMINAL_STATES:
            raise Broken(f"{marathon.name} acknowledges an end that is not saved")
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
        for agent in world.agents:
            why = _why_not_member(agent, leaders[0])
            if why is not None:
                return why
        if marathon.state.deployments:
            return f"deployments run: {sorted(marathon.state.deployments)}"
        for user in world.user.apps.values():
            if user.is_asking:
                return f"the user waits for an answer about {user.app_id}"
        return self._why_not_wanted(marathon) or self._why_not_one_view(master, marathon)

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
            wanted += app.instances
            if len(running) != app.instances:
                return f"{app_id}: {len(running)} run, {app.instances} are wanted"
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
        theirs = {i.task_id for i in marathon.state.instances.values() if i.is_running}
        if theirs != alive or len(marathon.state.instances) != len(alive):
            return f"Marathon's instances differ: {sorted(theirs ^ alive)}"
        for agent in self._world.agents:
            assert agent.core is not None
            if any(stream.pending for stream in agent.core.state.streams.values()):
                return f"{agent.name} has unacknowledged updates"
            if len(agent.core.state.runs) != len(agent.processes.alive()):
                return f"{agent.name} knows {len(agent.core.state.runs)} runs"
        return None

    def at_rest(self) -> None:
        """Assert what must be true of the settled world and its history."""
        head = next(m for m in self._world.marathons if m.is_alive and m.core is not None)
        assert head.core is not None
        apps = head.core.state.apps
        for app_id, user in self._world.user.apps.items():
            app = apps.get(app_id)
            now = NO_APP if app is None else Wish(str(app.cmd), app.instances)
            if now not in user.possible:
                raise Broken(f"{app_id} is {now}, not one of {sorted(map(str, user.possible))}")
        alive = set(self._alive())
        for agent, run in self.started:
            is_told = run.task_id in alive or run.task_id in self.ended_tasks
            if not is_told and not agent.lost_power:
                raise Broken(f"nobody was told the end of {run.task_id} on {agent.name}")


def _why_not_member(agent: AgentShell, leader: MasterShell) -> str | None:
    core = agent.core
    if not agent.is_alive or core is None or core.state.phase != "RUNNING":
        return f"{agent.name} is not registered"
    if agent.link_server != leader.address:
        return f"{agent.name} is registered elsewhere"
    return None
