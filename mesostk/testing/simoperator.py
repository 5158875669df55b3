"""The operator of a simulated cluster: takes agents out of service, for a while or for good, and
sets quotas. A leader that was asked may die before it counts, so each is asked for until it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mesostk.master.core import Master
from mesostk.testing.simagent import AgentShell
from mesostk.testing.simmaster import REGISTRY
from mesostk.wire import operator
from mesostk.wire.maintenance import Schedule, Window
from mesostk.wire.mesos import (
    AgentID,
    DurationInfo,
    MachineID,
    Scalar,
    TimeInfo,
    Unavailability,
)
from mesostk.wire.quota import QuotaConfig

if TYPE_CHECKING:
    from mesostk.testing.world import World

#: Pause before something is asked for again that does not count yet; seconds.
RETRY_S = 1.0
#: How long machines are scheduled to be away; seconds.
AWAY_S = 30.0
#: The role whose quota is set, and its limits of cpus.
ROLE = "jobs"
LIMITS = (0.5, 1.0, 2.0)


class Operator:
    """Someone with access to the masters."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: Agents that are out of service now, and the machine that maintenance is about.
        self._taken_out: list[AgentShell] = []
        self._machine: AgentShell | None = None
        self._has_quota = False

    def _ask(self, call: operator.Call) -> bool:
        return any(master.operate(call) for master in self._world.masters)

    def _leader(self) -> Master | None:
        """The only leader's core, with nothing still to be saved: what it knows counts.

        One that does not know yet that another one followed it is none.
        """
        cores = [
            master.core
            for master in self._world.masters
            if master.core is not None
            and master.epoch is not None
            and self._world.oracle.owns(REGISTRY, master)
        ]
        return cores[0] if len(cores) == 1 and cores[0].saves_pending() == 0 else None

    def _until(self, call: operator.Call, counts: Callable[[Master], bool]) -> None:
        """Ask again and again, until it counts with a leader that was asked."""
        asked = self._ask(call)
        leader = self._leader()
        if not asked or leader is None or not counts(leader):
            self._world.loop.later(RETRY_S, lambda: self._until(call, counts))

    # -- agents ---------------------------------------------------------------------------------

    def _victim(self) -> tuple[AgentShell, AgentID] | None:
        agent = self._world.rng.choice(self._world.agents)
        known = agent.core is not None and agent.core.state.agent_id is not None
        if not known or agent in self._taken_out or agent is self._machine:
            return None
        assert agent.core is not None
        assert agent.core.state.agent_id is not None
        return agent, agent.core.state.agent_id

    def take_out(self) -> str | None:
        """Deactivate or drain an agent, and bring it back when it can be."""
        drains = self._world.rng.random() < 0.5
        found = self._victim()
        if found is None:
            return None
        agent, agent_id = found
        call = (
            operator.Call(type="DRAIN_AGENT", drain_agent=operator.DrainAgent(agent_id=agent_id))
            if drains
            else operator.Call(
                type="DEACTIVATE_AGENT", deactivate_agent=operator.AgentRef(agent_id=agent_id)
            )
        )
        if not self._ask(call):
            return None
        self._taken_out.append(agent)
        seconds = self._world.for_a_while()
        self._world.until(seconds, lambda: self._bring_back(agent, agent_id))
        return f"{agent.name} {'drained' if drains else 'deactivated'} for {seconds:.1f} s"

    def _bring_back(self, agent: AgentShell, agent_id: AgentID) -> None:
        ref = operator.AgentRef(agent_id=agent_id)
        call = operator.Call(type="REACTIVATE_AGENT", reactivate_agent=ref)

        def is_back(leader: Master) -> bool:
            record = leader.registry.agents.get(agent_id.value)
            is_gone = agent_id.value in leader.registry.gone
            if is_gone or (record is not None and not record.deactivated):
                self._taken_out.remove(agent)
                return True
            return False

        self._until(call, is_back)

    def mark_gone(self) -> str | None:
        """Give an agent up for ever: it ends all it runs, and its host begins anew."""
        found = self._victim()
        if found is None:
            return None
        agent, agent_id = found
        ref = operator.AgentRef(agent_id=agent_id)
        if not self._ask(operator.Call(type="MARK_AGENT_GONE", mark_agent_gone=ref)):
            return None
        self._world.oracle.registrar.give_up(agent, agent_id.value)
        return agent.name

    # -- maintenance ----------------------------------------------------------------------------

    def maintain(self) -> str | None:
        """Schedule the maintenance of a machine, which is about to begin, have it, and end it."""
        found = self._victim()
        if found is None or self._machine is not None:
            return None
        agent = found[0]
        machine = MachineID(hostname=agent.host.name, ip=agent.host.ip)
        start = TimeInfo(nanoseconds=int(self._world.loop.now * 1e9))
        length = DurationInfo(nanoseconds=int(AWAY_S * 1e9))
        window = Window(
            machine_ids=(machine,), unavailability=Unavailability(start=start, duration=length)
        )
        if not self._ask(_scheduled((window,))):
            return None
        self._machine = agent
        body = operator.Machines(machines=(machine,))
        goes_down = self._world.rng.random() < 0.6
        if goes_down:
            call = operator.Call(type="START_MAINTENANCE", start_maintenance=body)
            self._world.loop.later(self._world.for_a_while(), lambda: self._begin(agent, call))
        seconds = 2 * self._world.for_a_while()
        self._world.until(seconds, lambda: self._end(agent, body))
        return f"{agent.name} for {seconds:.1f} s{'' if goes_down else ', in the schedule only'}"

    def _begin(self, agent: AgentShell, call: operator.Call) -> None:
        if self._machine is agent and self._ask(call) and agent.core is not None:
            own = agent.core.state.agent_id
            if own is not None:
                self._world.oracle.registrar.give_up(agent, own.value)

    def _end(self, agent: AgentShell, body: operator.Machines) -> None:
        """The machine comes up; the schedule is emptied."""

        def is_up(leader: Master) -> bool:
            return not leader.registry.maintenance.down and self._empty(agent)

        self._until(operator.Call(type="STOP_MAINTENANCE", stop_maintenance=body), is_up)

    def _empty(self, agent: AgentShell) -> bool:
        def is_empty(leader: Master) -> bool:
            if leader.registry.maintenance.schedule.windows:
                return False
            if self._machine is agent:
                self._machine = None
            return True

        self._until(_scheduled(()), is_empty)
        return True

    # -- quota ----------------------------------------------------------------------------------

    def limit(self) -> str | None:
        """Limit what a role may have, for a while; or promise it something, and weigh others."""
        if self._has_quota:
            return None
        cpus = self._world.rng.choice(LIMITS)
        config = QuotaConfig(role=ROLE, limits={"cpus": Scalar(value=cpus)})
        steering = self._world.steering
        if steering is not None:
            config = steering.quota()
            self._ask(steering.weights())
        if not self._ask(_quota(config)):
            return None
        self._has_quota = True
        seconds = 2 * self._world.for_a_while()

        def lifted(leader: Master) -> bool:
            if config.role in leader.registry.quotas:
                return False
            self._has_quota = False
            return True

        none = _quota(QuotaConfig(role=config.role))
        self._world.until(seconds, lambda: self._until(none, lifted))
        limit, promised = (_cpus(amounts) for amounts in (config.limits, config.guarantees))
        return f"{config.role}: at most {limit}, at least {promised} cpus for {seconds:.1f} s"


def _scheduled(windows: Sequence[Window]) -> operator.Call:
    schedule = operator.Schedule(schedule=Schedule(windows=tuple(windows)))
    return operator.Call(type="UPDATE_MAINTENANCE_SCHEDULE", update_maintenance_schedule=schedule)


def _cpus(amounts: Mapping[str, Scalar]) -> str:
    return f"{amounts['cpus'].value:g}" if "cpus" in amounts else "any"


def _quota(config: QuotaConfig) -> operator.Call:
    body = operator.UpdateQuota(force=True, quota_configs=(config,))
    return operator.Call(type="UPDATE_QUOTA", update_quota=body)
