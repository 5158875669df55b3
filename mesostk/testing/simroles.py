"""Roles in a simulated world: who is in which, and what must be true of them.

A framework may be in several roles, nested ones among them, and changes them while it runs; an
operator weighs them, promises some what they need and limits others. Nobody is offered anything in
a role that they are not in, or do not want, or what is reserved beside it; no role gets more than
its limit, or what is promised to another; and at rest masters have each framework in just the
roles that it means to be in.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from mesostk.marathon import subscribing
from mesostk.resources import scalar
from mesostk.resources.resources import Resources
from mesostk.testing.simhost import Broken, Process
from mesostk.testing.simmaster import MasterShell
from mesostk.wire import operator, scheduler
from mesostk.wire.mesos import FrameworkCapability, FrameworkInfo, Offer, Scalar
from mesostk.wire.quota import QuotaConfig

if TYPE_CHECKING:
    from mesostk.master.core import Master
    from mesostk.testing.world import World

#: The roles of a framework that has several. It shares one with the other framework.
ROLES = ("teams", "teams/a", "teams/a/deep", "teams/b", "jobs/night")
#: Between changes of them; seconds.
CHANGE_S = (4.0, 30.0)
#: Limits and promises of cpus. Some are promised to a role that nobody is in: they are owed on.
LIMITS = (0.5, 1.0, 2.0)
PROMISES = (2.0, 6.0, 12.0)
SPARE = "spare"
#: Offers of a role that was given up are gone by then; seconds.
GRACE_S = 1.0


class Wanderer:
    """The roles of a framework, drawn anew now and then; at rest it is in all of them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.suppressed: tuple[str, ...] = ()

    def subscribed(self, info: FrameworkInfo) -> FrameworkInfo:
        """`info` as of a framework of several roles."""
        kinds = (*info.capabilities, FrameworkCapability(type="MULTI_ROLE"))
        return replace(info, role=None, roles=ROLES[:2], capabilities=kinds)

    def pause_s(self) -> float:
        """Until the next change."""
        return self._rng.uniform(*CHANGE_S)

    def changed(self, info: FrameworkInfo, *, is_resting: bool) -> FrameworkInfo | None:
        """`info` with other roles; None if nothing is left to change."""
        if is_resting:
            is_done = info.roles == ROLES and not self.suppressed
            self.suppressed = ()
            return None if is_done else replace(info, roles=ROLES)
        roles = tuple(role for role in ROLES if self._rng.random() < 0.6)
        self.suppressed = tuple(role for role in roles if self._rng.random() < 0.15)
        return replace(info, roles=roles)

    def update(self, info: FrameworkInfo) -> scheduler.Call:
        """Says so to the master."""
        body = scheduler.UpdateFramework(framework_info=info, suppressed_roles=self.suppressed)
        return scheduler.Call(type="UPDATE_FRAMEWORK", update_framework=body)

    def reserves(self) -> bool:
        """Whether what is reserved above is reserved further."""
        return self._rng.random() < 0.3


class Steering:
    """What the operator of a world with roles draws."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def quota(self) -> QuotaConfig:
        """A limit of a top-level role, or a promise to it."""
        if self._rng.random() < 0.5:
            role, most = self._rng.choice(("jobs", "teams")), self._rng.choice(LIMITS)
            return QuotaConfig(role=role, limits={"cpus": Scalar(value=most)})
        role, least = self._rng.choice(("jobs", "teams", SPARE)), self._rng.choice(PROMISES)
        return QuotaConfig(role=role, guarantees={"cpus": Scalar(value=least)})

    def weights(self) -> operator.Call:
        """Of roles on every level."""
        infos = tuple(
            operator.WeightInfo(role=role, weight=self._rng.choice((0.5, 1.0, 3.0)))
            for role in ("jobs", *ROLES)
            if self._rng.random() < 0.5
        )
        return operator.Call(
            type="UPDATE_WEIGHTS", update_weights=operator.Weights(weight_infos=infos)
        )


# -- what must be true --------------------------------------------------------------------------


class Member(msgspec.Struct):
    """What a framework has told one life of a master."""

    roles: frozenset[str]
    suppressed: set[str]


class Marshal:
    """Watches what is offered to whom."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: By the life of a master: who subscribes over which stream, and then by framework id.
        self._coming: dict[tuple[str, str], Member] = {}
        self._members: dict[tuple[str, str], Member] = {}
        for master in world.masters:
            master.on_subscribe.append(self._subscribes)
            master.on_call.append(self._calls)
            master.on_send.append(self._sends)

    def _subscribes(self, master: MasterShell, stream: str, call: scheduler.Call) -> None:
        assert call.subscribe is not None
        member = Member(_roles(call.subscribe.framework_info), set(call.subscribe.suppressed_roles))
        self._coming[_life(master), stream] = member

    def _calls(self, master: MasterShell, call: scheduler.Call) -> None:
        assert call.framework_id is not None
        key = (_life(master), call.framework_id.value)
        member = self._members.get(key)
        if member is None:
            return
        if call.update_framework is not None:
            told = call.update_framework
            now = Member(_roles(told.framework_info), set(told.suppressed_roles))
            self._members[key] = now
            lost = member.roles - now.roles
            self._world.loop.later(GRACE_S, lambda: self._must_be_rescinded(master, key, lost))
        elif call.suppress is not None or call.type == "SUPPRESS":
            member.suppressed |= _named(call.suppress, member)
        elif call.revive is not None or call.type == "REVIVE":
            member.suppressed -= _named(call.revive, member)

    def _must_be_rescinded(
        self, master: MasterShell, key: tuple[str, str], lost: Iterable[str]
    ) -> None:
        """Nothing is offered any more in roles that were given up."""
        member = self._members.get(key)
        if member is None or key[0] != _life(master) or master.core is None or master.is_paused:
            return
        for offer in master.core.offers.values():
            gone = offer.role in lost and offer.role not in member.roles
            if offer.framework_id == key[1] and gone:
                raise Broken(f"{master.name} keeps an offer of {offer.role}, which was given up")

    def _sends(self, master: MasterShell, stream: str, record: Any) -> None:
        if not isinstance(record, scheduler.Event):
            return
        if record.subscribed is not None:
            member = self._coming.pop((_life(master), stream))
            self._members[_life(master), record.subscribed.framework_id.value] = member
        for offer in () if record.offers is None else record.offers.offers:
            self._offered(master, offer)

    def _offered(self, master: MasterShell, offer: Offer) -> None:
        assert master.core is not None
        member = self._members[_life(master), offer.framework_id.value]
        if offer.allocation_info is None:
            (role,) = member.roles
        else:
            role = str(offer.allocation_info.role)
        if role not in member.roles:
            raise Broken(f"{master.name} offers in {role}, the framework is in {member.roles}")
        if role in member.suppressed:
            raise Broken(f"{master.name} offers in {role}, which is suppressed")
        resources = Resources.of(offer.resources)
        for owner in resources.reservations():
            if not _is_within(role, owner):
                raise Broken(f"{master.name} offers {role} what is reserved to {owner}")
        agent = master.core.agents[offer.agent_id.value]
        offered = (master.core.offers[id].resources for id in agent.offers)
        out = Resources.sum((*agent.held(), *offered)).unallocate()
        if not agent.total.contains(out):
            raise Broken(f"{master.name} has given {out} of {agent.id}, which has {agent.total}")
        if resources.unreserved().scalar("cpus"):
            self._check_quotas(master, role)

    def _check_quotas(self, master: MasterShell, role: str) -> None:
        """Of cpus that nobody has reserved: within the limit, and not promised to others."""
        assert master.core is not None
        quotas = master.core.registry.quotas
        top = role.partition("/")[0]
        used = {name: _consumed(master.core, name) for name in {*quotas, top}}
        config = quotas.get(top)
        limit = None if config is None else config.limits.get("cpus")
        if limit is not None and used[top] > scalar.from_float(limit.value):
            text = scalar.to_text(used[top])
            raise Broken(f"{master.name} offers {role} {text} cpus, {limit.value:g} are allowed")
        promised = {
            name: scalar.from_float(each.guarantees["cpus"].value)
            for name, each in quotas.items()
            if "cpus" in each.guarantees
        }
        owed = sum(max(0, amount - used[name]) for name, amount in promised.items())
        left = _free(master.core)
        if used[top] > promised.get(top, 0) and left < owed:
            texts = scalar.to_text(left), scalar.to_text(owed)
            raise Broken(f"{master.name} offers {role} cpus: {texts[0]} left, {texts[1]} promised")

    # -- at rest --------------------------------------------------------------------------------

    def why_not_settled(self, master: Master, marathon: Any) -> str | None:
        """Which framework is not in the roles that it means to be in."""
        meant = {marathon.state.framework_id: subscribing.in_use(marathon.state)}
        for shell in self._world.frameworks:
            own = shell.info.id
            if own is not None:
                meant[own.value] = _roles(shell.info)
            if shell.wanderer is not None and shell.info.roles != ROLES:
                return f"{shell.name} is in {shell.info.roles}"
        found = {id: framework.roles for id, framework in master.frameworks.items()}
        if found != meant:
            return f"the master has frameworks in {found}, meant are {meant}"
        known = set(master.allocator.by_role)
        if known != frozenset().union(*meant.values()):
            return f"the allocator knows the roles {sorted(known)}, in use are {meant}"
        return None


def _roles(info: FrameworkInfo) -> frozenset[str]:
    kinds = {item.type for item in info.capabilities}
    if "MULTI_ROLE" in kinds:
        return frozenset(info.roles)
    return frozenset({"*" if info.role is None else info.role})


def _named(body: scheduler.Roles | None, member: Member) -> frozenset[str]:
    """The roles of a SUPPRESS or REVIVE; one of a role that the framework is not in is ignored."""
    if body is None or not body.roles:
        return member.roles
    named = frozenset(body.roles)
    return named if named <= member.roles else frozenset()


def _life(master: Process) -> str:
    return f"{master.name}.{master.life}"


def _is_within(role: str, other: str) -> bool:
    return role == other or role.startswith(other + "/")


def _held(master: Master) -> list[Resources]:
    held = [part for agent in master.agents.values() for part in agent.held()]
    return held + [offer.resources for offer in master.offers.values()]


def _consumed(master: Master, top: str) -> int:
    """Thousandths of a cpu that a role and those below it have reserved, or hold."""
    found = 0
    for agent in master.agents.values():
        for owner, part in agent.total.reservations().items():
            found += part.scalar("cpus") if _is_within(owner, top) else 0
    for each in _held(master):
        for role, part in each.allocations().items():
            found += part.unreserved().scalar("cpus") if _is_within(role, top) else 0
    return found


def _free(master: Master) -> int:
    """Thousandths of a cpu that nobody has reserved, or holds."""
    found = sum(agent.total.unreserved().scalar("cpus") for agent in master.agents.values())
    return found - sum(each.unreserved().scalar("cpus") for each in _held(master))
