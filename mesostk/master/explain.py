"""Why a framework got no offer: for each agent the one reason that the allocator would give.

Asked of the same function that decides (`Allocator.offerable`), so that the answer cannot differ
from what happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesostk.master.state import Agent, Framework
from mesostk.resources.resources import Resources

if TYPE_CHECKING:
    from mesostk.master.core import Master

View = dict[str, Any]


def offers(master: Master, framework: Framework, role: str | None, now: float) -> View:
    """Per role (only `role` if given) and agent: what is offered, or why nothing is. Roles that
    who asks may not see are left out."""
    roles = [each for each in sorted(framework.roles) if master.sees_role(each)]
    roles = roles if role is None else [role]
    return {
        "framework_id": framework.id,
        "name": framework.info.name,
        "roles": [
            {
                "role": each,
                "reason": _of_role(master, framework, each),
                "share": _share(master, framework, each),
                "agents": [
                    _agent(master, framework, each, agent, now) for agent in master.agents.values()
                ],
            }
            for each in roles
        ],
    }


def _of_role(master: Master, framework: Framework, role: str) -> str | None:
    """What keeps every agent from the framework in the role; None if nothing does."""
    if framework.stream is None:
        return "the framework is not connected"
    if not framework.active:
        return "the framework is not active"
    if role not in framework.roles:
        return f"the framework does not subscribe to the role {role}"
    if role in framework.suppressed:
        return f"the framework has suppressed offers of the role {role}; it must REVIVE them"
    if master.allocator.is_paused:
        return "this master waits to know whether it still leads"
    if master.allocator.is_recovering:
        return "this master waits for agents to come back, because quotas are set"
    return None


def _share(master: Master, framework: Framework, role: str) -> float:
    """The framework's dominant share among those of its role: the poorest is asked first."""
    allocator = master.allocator
    if role not in allocator.by_role or framework.id not in allocator.by_role[role]:
        return 0.0
    return allocator.of_role(role).share(framework.id)


def _agent(master: Master, framework: Framework, role: str, agent: Agent, now: float) -> View:
    view: View = {"agent_id": agent.id, "hostname": agent.info.hostname}
    held = [
        master.offers[offer_id]
        for offer_id in sorted(framework.offers & agent.offers)
        if master.offers[offer_id].role == role
    ]
    if held:
        offered = Resources.sum(offer.resources for offer in held)
        return {
            **view,
            "offered": True,
            "reason": None,
            "resources": offered.legacy_object(),
            "offer_ids": [offer.id for offer in held],
        }
    return {
        **view,
        "offered": False,
        "reason": _why_not(master, framework, role, agent, now),
        "free": agent.free.legacy_object(),
    }


def _why_not(master: Master, framework: Framework, role: str, agent: Agent, now: float) -> str:
    why = master.allocator.why_not_served(agent)
    if why is not None:
        return why
    resources, why_not = master.allocator.offerable(framework, role, agent, agent.free, now)
    if resources is None:
        others = len(agent.offers - framework.offers)
        if others:
            return f"{why_not}; {others} offers of it are with other frameworks"
        return why_not
    return _of_role(master, framework, role) or "it is offered with the next pass"
