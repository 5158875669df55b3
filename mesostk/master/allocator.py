"""Who is offered what: agents that changed, in slices, to the poorest framework that wants it.

::

    hold / give_back ─▶ free of the agent ─▶ mark(agent) ─┐
    subscribe, revive, filter expired ─▶ mark_all ────────┴▶ dirty ─▶ run: ≤ SLICE agents a tick
                                                                  └─▶ one OFFERS per framework

Nothing is scanned on a timer: an agent is looked at when something about it, or about somebody who
might want it, has changed; what is given back within `gathering_s` of a pass in one go. A refusal
keeps the refuser away for at least one allocation interval; others are asked at once. Source for
the rules: spec/mesos.md §2.6 and §7.3.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING

from mesostk.master import offers
from mesostk.master.passed_over import Filter, PassedOver, Refusals, Want
from mesostk.master.quotas import Quota, Quotas, top
from mesostk.master.sorter import Sorter
from mesostk.master.state import Agent, Config, Framework
from mesostk.resources.resources import Resources

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: How the reason begins why a framework is passed over that has a filter for what is offered.
_REFUSED = "refused by the framework"

#: Agents served in one go: at 30-60 µs each, with their offers, this stays under 10 ms of the loop.
SLICE = 100


class Allocator:
    """The offer side of the master's state."""

    def __init__(self, config: Config, rng: Random) -> None:
        self._config = config
        self._rng = rng
        self.total: dict[str, int] = {}
        self.roles = self._sorter(config.role_sorter)
        for role, weight in config.weights.items():
            self.roles.set_weight(role, weight)
        self.by_role: dict[str, Sorter] = {}
        #: The roles of `by_role` that know a framework, by its id.
        self._roles_of: dict[str, set[str]] = {}
        self.quotas = Quotas()
        #: The only hostnames that get offered; None = any.
        self.whitelist = config.whitelist
        #: Quotas are set and most agents are not back yet: what roles consume is not known.
        self.is_recovering = False
        #: Under quota, what is given back on one agent may be had on all others.
        self.has_room_anew = False
        self.refusals: dict[Want, Refusals] = {}
        self.passed_over = PassedOver()
        #: Who is to be asked at all; None if that has changed.
        self._wanting: frozenset[Want] | None = None
        self.dirty: dict[str, None] = {}
        #: When the next slice is to be served; None if nothing changed.
        self.due_at: float | None = None
        #: Until then what changes of one agent waits for more.
        self._gathers_until = 0.0
        self.runs = 0
        #: Another master may lead by now: nothing is offered until that is known.
        self.is_paused = False

    def _sorter(self, kind: str) -> Sorter:
        """By dominant shares, or `random`: by draw."""
        rng = self._rng if kind == "random" else None
        return Sorter(self.total, self._config.fair_sharing_excluded, rng)

    # -- what is held ---------------------------------------------------------------------------

    def hold(self, agent: Agent, framework_id: str, role: str, resources: Resources) -> None:
        """`resources` (allocated to `role`) of `agent` are now the framework's."""
        plain = resources.unallocate().non_shared()
        if not agent.free.contains(plain):
            # Only an agent that came back with less than its tasks use gets here.
            agent.is_overcommitted = True
        # A new bag even for a shared volume alone: it shows that what is held has changed.
        agent.free = agent.free - plain if plain else Resources(dict(agent.free.items()))
        self.track(framework_id, role)
        amounts = resources.quantities()
        self.roles.allocate(role, amounts)
        self.by_role[role].allocate(framework_id, amounts)
        if self.quotas.by_role:
            self.quotas.count_held(role, resources)

    def give_back(
        self, agent: Agent, framework_id: str, role: str, resources: Resources, now: float
    ) -> None:
        """The reverse of `hold`; the agent will be offered again."""
        if agent.is_overcommitted:
            self.recompute(agent)
        else:
            plain = resources.unallocate().non_shared()
            agent.free = agent.free + plain if plain else Resources(dict(agent.free.items()))
        self.forget_held(framework_id, role, resources)
        self.mark(agent.id, now)

    def recompute(self, agent: Agent) -> None:
        """`free` anew, from the total and what tasks and executors hold; it has no offers."""
        agent.free, agent.is_overcommitted = agent.total, False
        for held in agent.held():
            plain = held.unallocate().non_shared()
            if not agent.free.contains(plain):
                agent.is_overcommitted = True
            agent.free -= plain

    def forget_held(self, framework_id: str, role: str, resources: Resources) -> None:
        """As `give_back`, for an agent that is gone."""
        if self.quotas.by_role:
            self.quotas.count_held(role, resources, -1)
            self.has_room_anew = True
        amounts = resources.quantities()
        self.roles.release(role, amounts)
        # An executor without resources keeps no role known that its framework is not in.
        if role in self.by_role:
            self.by_role[role].release(framework_id, amounts)

    def change_total(self, before: Resources, after: Resources) -> None:
        """An agent came, went or changed: `before` and `after` are its totals."""
        self.count_change(before, after)
        total = dict(self.total)
        for name, amount in before.quantities().items():
            total[name] = total.get(name, 0) - amount
        for name, amount in after.quantities().items():
            total[name] = total.get(name, 0) + amount
        self.total = total
        self.roles.set_total(total)

    def of_role(self, role: str) -> Sorter:
        """The frameworks of a known role, by shares of what the cluster has now."""
        sorter = self.by_role[role]
        sorter.set_total(self.total)  # of thousands of roles few are asked for after each change
        return sorter

    def count_change(self, before: Resources, after: Resources) -> None:
        """What is reserved of an agent changed, perhaps nothing else."""
        if self.quotas.by_role:
            self.quotas.count_total(before, -1)
            self.quotas.count_total(after)
            self.has_room_anew = True

    def set_quotas(self, master: Master, now: float, quotas: Mapping[str, Quota]) -> None:
        """Go by `quotas`; their books are made anew."""
        had = bool(self.quotas.by_role)
        self.passed_over.clear()
        self.quotas.restart(quotas)
        if quotas:
            fill_books(master, self.quotas)
            if not had:
                _look_again(master, now)

    # -- who wants ------------------------------------------------------------------------------

    def track(self, framework_id: str, role: str) -> None:
        """Know the framework in the role, passed over until `want`."""
        if role not in self.by_role:
            self.roles.add(role)
            self.roles.activate(role)
            self.by_role[role] = self._sorter(self._config.framework_sorter)
        self.by_role[role].add(framework_id)
        self._roles_of.setdefault(framework_id, set()).add(role)

    def set_wants(self, framework: Framework) -> None:
        """Offer to the framework in its roles that are not suppressed, and in no other."""
        self._wanting = None
        wanted = framework.roles - framework.suppressed if framework.active else frozenset()
        for role in framework.roles:
            self.track(framework.id, role)
        for role in sorted(self._roles_of.get(framework.id, ())):
            sorter = self.by_role[role]
            if role in wanted:
                sorter.activate(framework.id)
            else:
                sorter.deactivate(framework.id)
                if role not in framework.roles and not sorter.allocated(framework.id):
                    self._forget_role(framework.id, role)

    def forget(self, framework: Framework) -> None:
        """The framework is removed; it holds nothing any more."""
        self._wanting = None
        for role in sorted(self._roles_of.get(framework.id, ())):
            self._forget_role(framework.id, role)

    def _forget_role(self, framework_id: str, role: str) -> None:
        """The framework is not in the role any more, with what it refused there."""
        self.clear_refusals(framework_id, role)
        self.refusals.pop((framework_id, role), None)
        self.passed_over.forget_want((framework_id, role))
        roles, sorter = self._roles_of[framework_id], self.by_role[role]
        roles.remove(role)
        if not roles:
            del self._roles_of[framework_id]
        sorter.remove(framework_id)
        if len(sorter) == 0:
            del self.by_role[role]
            self.roles.remove(role)

    # -- refusals -------------------------------------------------------------------------------

    def refuse(
        self,
        master: Master,
        now: float,
        want: tuple[str, str],
        agent_id: str,
        resources: Resources,
        until: float,
    ) -> None:
        """Hold `resources` back from the (framework, role) `want`; then look at the agent again."""
        plain = resources.unallocate()
        refusals = self.refusals.setdefault(want, Refusals())
        filters = refusals.by_agent.setdefault(agent_id, [])
        left = [
            item
            for item in filters
            if item.until > now and not (item.until <= until and plain.contains(item.resources))
        ]
        if len(left) < len(filters):
            self.passed_over.ask_again(agent_id, want, [item.resources for item in left])
        filters[:] = [*left, Filter(self.passed_over.refuse(agent_id, want, plain), until)]
        heapq.heappush(refusals.expiries, (until, agent_id))
        self.arm(master, want, refusals)

    def clear_refusals(self, framework_id: str, role: str) -> None:
        refusals = self.refusals.get((framework_id, role))
        if refusals is not None:
            for agent_id in refusals.by_agent:
                self.passed_over.ask_again(agent_id, (framework_id, role))
            refusals.by_agent.clear()
            refusals.expiries.clear()

    def clear_refusals_of_agent(self, agent_id: str) -> None:
        """The agent's total or attributes changed: whoever refused may want it now."""
        for refusals in self.refusals.values():
            refusals.by_agent.pop(agent_id, None)
        self.passed_over.forget_agent(agent_id)

    def arm(self, master: Master, want: Want, refusals: Refusals) -> None:
        """See to it that a timer runs for the first filter to expire."""
        if not refusals.expiries:
            return
        first = refusals.expiries[0][0]
        if refusals.armed_for is None or first < refusals.armed_for:
            refusals.armed_for = first
            master.timers.at(first, _refusals_expire, want, first)

    # -- the run --------------------------------------------------------------------------------

    def pause(self, now: float, *, paused: bool) -> None:
        self.is_paused = paused
        if self.dirty and not paused:
            self.due_at = now

    def recovered(self, now: float) -> None:
        """Enough agents are back, or nobody waits for them any longer."""
        self.is_recovering = False
        if self.dirty:
            self.due_at = now

    def mark(self, agent_id: str, now: float) -> None:
        self.dirty[agent_id] = None
        when = max(now, self._gathers_until)
        if self.due_at is None or when < self.due_at:
            self.due_at = when

    def mark_all(self, master: Master, now: float) -> None:
        self.dirty.update(dict.fromkeys(master.agents))
        if self.dirty:
            self.due_at = now

    def run(self, master: Master, now: float) -> None:
        """Serve up to `SLICE` changed agents, in random order; the rest at the next tick."""
        if self.due_at is None or self.due_at > now:
            return
        if self.is_paused or self.is_recovering:
            self.due_at = None
            return
        self.runs += 1
        chosen = [agent_id for agent_id, _ in zip(self.dirty, range(SLICE), strict=False)]
        for agent_id in chosen:
            del self.dirty[agent_id]
        master.rng.shuffle(chosen)
        granted: dict[str, list[offers.Grant]] = {}
        for agent_id in chosen:
            agent = master.agents.get(agent_id)
            if agent is not None and agent.is_active:
                self._serve(master, now, agent, granted)
        if self.dirty:
            self.due_at = now
        else:
            self.due_at, self._gathers_until = None, now + self._config.gathering_s
        for framework_id, grants in granted.items():
            offers.make(master, now, master.frameworks[framework_id], grants)

    def _serve(
        self,
        master: Master,
        now: float,
        agent: Agent,
        granted: dict[str, list[offers.Grant]],
    ) -> None:
        if self.why_not_served(agent) is not None:
            return
        free = agent.free
        passed = set() if self.quotas.by_role else self.passed_over.of(agent)
        if passed and self.passed_over.is_everybody(agent, self._all_wanting()):
            return
        grants: list[tuple[str, offers.Grant]] = []
        for role in self._in_order():
            for framework_id in self.of_role(role).in_order():
                if (framework_id, role) in passed:
                    continue
                framework = master.frameworks[framework_id]
                resources, why = self.offerable(framework, role, agent, free, now)
                if why.startswith(_REFUSED) and free is agent.free:
                    passed.add((framework_id, role))
                if resources is not None:
                    grants.append((framework_id, offers.Grant(agent, role, resources)))
                    free -= resources.non_shared()
                    if self.quotas.by_role:
                        self.quotas.count_held(role, resources)
            if not free:
                break
        # The sorters may not move while they are walked through.
        for framework_id, grant in grants:
            if self.quotas.by_role:
                self.quotas.count_held(grant.role, grant.resources, -1)  # `hold` counts it
            self.hold(agent, framework_id, grant.role, grant.resources.allocate(grant.role))
            granted.setdefault(framework_id, []).append(grant)

    def _all_wanting(self) -> frozenset[Want]:
        if self._wanting is None:
            self._wanting = frozenset(
                self.passed_over.intern((framework_id, role))
                for role, sorter in self.by_role.items()
                for framework_id in sorter.active()
            )
        return self._wanting

    def _in_order(self) -> Iterable[str]:
        """Roles, poorest first; with quotas those that are owed something before all others."""
        roles = self.roles.in_order()
        return self.quotas.in_order(roles) if self.quotas.by_role else roles

    def why_not_served(self, agent: Agent) -> str | None:
        """Why nobody is offered anything of the agent; None if somebody may be."""
        if agent.stream is None:
            return "the agent is not connected"
        if agent.drain_info is not None:
            return f"the agent is {agent.drain_info.state}; reactivate it"
        if agent.deactivated:
            return "the agent is deactivated; reactivate it"
        if agent.is_overcommitted:
            return "the agent's tasks hold more than it has"
        if not agent.free:
            return "nothing of the agent is free"
        if self.whitelist is not None and agent.info.hostname not in self.whitelist:
            return "the agent's hostname is not in --whitelist"
        return None

    def offerable(
        self, framework: Framework, role: str, agent: Agent, free: Resources, now: float
    ) -> tuple[Resources | None, str]:
        """What of `free` may go to the framework in the role, or None and the reason."""
        why = offers.why_not_agent(framework, role, agent, self._config)
        if why is not None:
            return None, why
        resources = offers.usable_by(framework, free.allocatable_to(role))
        if self.quotas.by_role:
            capped = self.quotas.cap(role, resources)
            if self._is_worth_it(framework, role, resources) and not self._is_worth_it(
                framework, role, capped
            ):
                return None, f"the quota of '{top(role)}' or of others leaves less than can be used"
            resources = capped
        if not self._is_worth_it(framework, role, resources):
            return None, "less than min_allocatable_resources is free"
        refusals = self.refusals.get((framework.id, role))
        if refusals is not None:
            for refused in refusals.by_agent.get(agent.id, ()):
                if refused.until > now and refused.resources.contains(resources):
                    return None, f"{_REFUSED} for {refused.until - now:.1f} s more"
        return resources, ""

    def _is_worth_it(self, framework: Framework, role: str, resources: Resources) -> bool:
        if not resources:
            return False
        own = framework.min_allocatable.get(role)
        least = self._config.min_allocatable if own is None else own
        if not least:
            return True
        amounts = resources.non_shared().quantities()
        return any(
            all(amounts.get(name, 0) >= amount for name, amount in each.items()) for each in least
        )

    # -- invariants -----------------------------------------------------------------------------

    def check(self, master: Master) -> None:
        """Assert that the shares are those of what is held, and the total that of the agents."""
        held: dict[Want, dict[str, int]] = {}
        total: dict[str, int] = {}
        for agent in master.agents.values():
            _add(total, agent.total)
            for task in agent.tasks.values():
                if not task.is_terminal:
                    _add(held.setdefault((task.framework_id, task.role), {}), task.held)
            for (framework_id, _), executor in agent.executors.items():
                _add(held.setdefault((framework_id, executor.role), {}), executor.held)
        for offer in master.offers.values():
            _add(held.setdefault((offer.framework_id, offer.role), {}), offer.resources)
        assert {k: v for k, v in self.total.items() if v} == {k: v for k, v in total.items() if v}
        for role, sorter in self.by_role.items():
            assert role in self.roles
            ours = {fid: amounts for (fid, of), amounts in held.items() if of == role and amounts}
            sorter.check(ours)
        known = {(framework_id, role) for framework_id, of in self._roles_of.items() for role in of}
        assert known == {(fid, role) for role, of in self.by_role.items() for fid in of.clients()}
        for (framework_id, role), amounts in held.items():
            assert not amounts or framework_id in self.by_role[role]
        self._check_passed_over(master)
        if self.quotas.by_role:
            anew = Quotas()
            fill_books(master, anew)
            assert anew.books() == self.quotas.books()

    def _check_passed_over(self, master: Master) -> None:
        """Assert that whoever is passed over has a filter for all that it would be offered."""
        for agent in master.agents.values() if not self.quotas.by_role else ():
            for framework_id, role in self.passed_over.of(agent) & self._all_wanting():
                framework = master.frameworks[framework_id]
                usable = offers.usable_by(framework, agent.free.allocatable_to(role))
                filters = self.refusals[framework_id, role].by_agent[agent.id]
                assert any(item.resources.contains(usable) for item in filters)
        self.passed_over.check(self.refusals)


def fill_books(master: Master, quotas: Quotas) -> None:
    """Count all that agents have and that is held of it."""
    for agent in master.agents.values():
        quotas.count_total(agent.total)
        for task in agent.tasks.values():
            if not task.is_terminal:
                quotas.count_held(task.role, task.held)
        for executor in agent.executors.values():
            quotas.count_held(executor.role, executor.held)
    for offer in master.offers.values():
        quotas.count_held(offer.role, offer.resources)


def _add(amounts: dict[str, int], resources: Resources) -> None:
    for name, amount in resources.quantities().items():
        amounts[name] = amounts.get(name, 0) + amount


def _look_again(master: Master, now: float) -> None:
    """Timer: each allocation interval while quotas are set."""
    allocator = master.allocator
    if not allocator.quotas.by_role:
        return
    if allocator.has_room_anew:
        allocator.has_room_anew = False
        allocator.mark_all(master, now)
    master.timers.at(now + master.config.allocation_interval_s, _look_again)


def _refusals_expire(master: Master, now: float, want: Want, armed_for: float) -> None:
    """Timer: look again at agents whose filters ran out."""
    allocator = master.allocator
    refusals = allocator.refusals.get(want)
    if refusals is None or refusals.armed_for != armed_for:
        return
    refusals.armed_for = None
    while refusals.expiries and refusals.expiries[0][0] <= now:
        _, agent_id = heapq.heappop(refusals.expiries)
        left = [item for item in refusals.by_agent.pop(agent_id, ()) if item.until > now]
        if left:
            refusals.by_agent[agent_id] = left
        allocator.passed_over.ask_again(agent_id, want, [item.resources for item in left])
        allocator.mark(agent_id, now)
    allocator.arm(master, want, refusals)
