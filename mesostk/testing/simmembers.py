"""What must be true of operators' decisions in a simulated cluster, by what ZooKeeper has of them.

Who was marked gone never comes back; no agent is let in on a machine that is down; no role is
offered more than its limit.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesostk.base.zk import Create, SetData, ZkOp
from mesostk.master import registry
from mesostk.resources import scalar
from mesostk.resources.resources import Resources
from mesostk.testing.simagent import AgentShell
from mesostk.testing.simhost import Broken
from mesostk.testing.simloop import Loop
from mesostk.testing.simmaster import REGISTRY, MasterShell
from mesostk.wire import json
from mesostk.wire.mesos import Offer

#: A decision that was just written may not have reached the master that wrote it; seconds.
GRACE_S = 5.0


class Registrar:
    """Keeps book of agents, machines and roles."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        #: Agents that may be given up by an operator, or ended for maintenance: by id, by name.
        self.maybe_gone: set[str] = set()
        self.given_up: set[str] = set()
        #: Ids that are gone, and since when machines are down, by host name.
        self._gone: set[str] = set()
        self._down_since: dict[str, float] = {}

    def give_up(self, agent: AgentShell, agent_id: str) -> None:
        """An operator asks for an agent to end with all it runs; whether it counts is not known."""
        self.maybe_gone.add(agent_id)
        self.given_up.add(agent.name)

    def is_given_up(self, agent: AgentShell) -> bool:
        """Whether the agent is one of those, or begins anew."""
        known_as = None if agent.core is None else agent.core.state.agent_id
        return known_as is None or known_as.value in self.maybe_gone

    def written(self, ops: Sequence[ZkOp]) -> None:
        """Who is gone stays so; machines go down and come up."""
        for op in ops:
            if not isinstance(op, Create | SetData) or not op.path.startswith(f"{REGISTRY}/"):
                continue
            kind, _, rest = op.path.removeprefix(f"{REGISTRY}/").partition("/")
            agent_id = rest.partition("/")[2]
            if kind == registry.GONE and agent_id:
                self._gone.add(agent_id)
            elif kind in {registry.AGENTS, registry.UNREACHABLE} and agent_id in self._gone:
                raise Broken(f"{agent_id} is gone, and is written to {kind}")
            elif kind == registry.MAINTENANCE and op.data:
                record = json.decode(op.data, registry.MaintenanceRecord)
                down = {str(machine.hostname) for machine in record.down}
                since = self._down_since
                self._down_since = {host: since.get(host, self._loop.now) for host in down}

    def greeted(self, master: MasterShell, agent_id: str) -> None:
        """A master lets an agent in."""
        assert master.core is not None
        host = master.core.registry.agents[agent_id].info.hostname
        if self._loop.now - self._down_since.get(host, self._loop.now) > GRACE_S:
            raise Broken(f"{master.name} greets {agent_id}, whose machine is down")

    def offered(self, master: MasterShell, offer: Offer) -> None:
        """Nothing that is not reserved is offered to a role beyond its limit."""
        assert master.core is not None
        role = master.core.offers[offer.id.value].role
        config = master.core.registry.quotas.get(role)
        limit = None if config is None else config.limits.get("cpus")
        if limit is None or not Resources.of(offer.resources).unreserved().scalar("cpus"):
            return
        agents = master.core.agents.values()
        held = [part for agent in agents for part in agent.held()]
        held += [each.resources for each in master.core.offers.values()]
        mine = [part.allocations().get(role, Resources()) for part in held]
        used = sum(part.unreserved().scalar("cpus") for part in mine)
        used += sum(agent.total.reserved(role).scalar("cpus") for agent in agents)
        if used > scalar.from_float(limit.value):
            text = scalar.to_text(used)
            raise Broken(f"{master.name} offers {role} {text} cpus, {limit.value:g} are allowed")
