"""UPDATE_QUOTA, SET_QUOTA, REMOVE_QUOTA, GET_QUOTA: quotas in the registry.

Every quota is one record of the registry and outlives a failover, after which nothing is offered
until most agents are back: what roles consume is not known before. Source: spec/mesos.md §4.2,
§7.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mesostk.errors import WireError
from mesostk.master import offers, registry
from mesostk.master.events import Reply
from mesostk.master.quotas import Quota
from mesostk.resources import scalar, validity
from mesostk.resources.resources import Resources
from mesostk.resources.roles import UNRESERVED, why_not_role
from mesostk.wire import operator
from mesostk.wire.mesos import Resource, Scalar
from mesostk.wire.quota import QuotaConfig, QuotaInfo, QuotaStatus

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: No quantity may be above these: a trillion, and an exabyte in MiB for mem and disk.
_MOST = {"mem": 2.0**40, "disk": 2.0**40}
_MOST_OF_OTHERS = 1e12

_OVERCOMMIT = "Quota guarantees overcommit the cluster (use 'force' to bypass this check): "


# -- validation ---------------------------------------------------------------------------------


def error(config: QuotaConfig) -> str | None:
    """Why a quota cannot be; None if it can."""
    why = why_not_role(config.role)
    if why is not None:
        return f"Invalid 'role': {why}"
    if config.role == UNRESERVED:
        return f"Invalid 'role': quota for the role '{UNRESERVED}' is not supported"
    if "/" in config.role:
        return f"Invalid 'role': quota for the nested role '{config.role}' is not supported"
    for what, amounts in (("guarantees", config.guarantees), ("limits", config.limits)):
        for name, amount in amounts.items():
            why = _amount_error(name, amount.value)
            if why is not None:
                return f"Invalid '{what}': {why}"
    for name, guarantee in config.guarantees.items():
        limit = config.limits.get(name)
        if limit is not None and guarantee.value > limit.value:
            return (
                f"'guarantees' must not exceed 'limits': {name} is guaranteed"
                f" {guarantee.value:g} and limited to {limit.value:g}"
            )
    return None


def _amount_error(name: str, value: float) -> str | None:
    if not name:
        return "the name of a resource is empty"
    most = _MOST.get(name, _MOST_OF_OTHERS)
    if math.isnan(value) or value < 0 or value > most:
        return f"{name}:{value:g} is not between 0 and {most:g}"
    return None


def _overcommitted(master: Master, configs: Mapping[str, QuotaConfig]) -> str | None:
    """What is promised beyond what the agents have."""
    promised: dict[str, int] = {}
    for config in configs.values():
        for name, amount in _thousandths(config.guarantees).items():
            promised[name] = promised.get(name, 0) + amount
    have = Resources.sum(agent.total.non_revocable() for agent in master.agents.values())
    for name, amount in sorted(promised.items()):
        if amount > have.scalar(name):
            return (
                f"{name}: {scalar.to_text(amount)} are guaranteed, the cluster has"
                f" {scalar.to_text(have.scalar(name))}"
            )
    return None


def _over_limit(master: Master, config: QuotaConfig) -> str | None:
    """What the role has already beyond its new limit, offers not counted."""
    used: dict[str, int] = {}
    for agent in master.agents.values():
        parts = [part for role, part in agent.total.reservations().items() if _below(role, config)]
        for role, part in Resources.sum(agent.held()).allocations().items():
            if _below(role, config):
                parts.append(part.unreserved().non_revocable())
        for name, amount in Resources.sum(parts).quantities().items():
            used[name] = used.get(name, 0) + amount
    for name, limit in _thousandths(config.limits).items():
        if used.get(name, 0) > limit:
            return (
                f"The role '{config.role}' consumes {name}:{scalar.to_text(used[name])}, more than"
                f" the limit {scalar.to_text(limit)} (use 'force' to bypass this check)"
            )
    return None


def _below(role: str, config: QuotaConfig) -> bool:
    return role == config.role or role.startswith(config.role + "/")


def _thousandths(amounts: Mapping[str, Scalar]) -> dict[str, int]:
    return {name: scalar.from_float(amount.value) for name, amount in amounts.items()}


# -- calls --------------------------------------------------------------------------------------


def update(master: Master, _now: float, request: int, call: operator.UpdateQuota) -> None:
    """UPDATE_QUOTA: all of the roles named, or none; an empty one takes a role's quota away."""
    roles = [config.role for config in call.quota_configs]
    why: str | None = None
    if not roles:
        why = "No quota configs given"
    elif len(set(roles)) != len(roles):
        why = "a role is named twice"
    for config in call.quota_configs:
        if why is None:
            why = error(config)
    if why is not None:
        master.emit(Reply(request, 400, f"Invalid QuotaConfig: {why}"))
        return
    changes = {config.role: config for config in call.quota_configs}
    if not call.force:
        why = _overcommitted(master, {**master.quotas_asked, **changes})
        why = None if why is None else _OVERCOMMIT + why
        for config in call.quota_configs:
            why = why or _over_limit(master, config)
        if why is not None:
            master.emit(Reply(request, 400, f"Invalid QuotaConfig: {why}"))
            return
    _save(master, request, changes)


def set_one(master: Master, _now: float, request: int, call: operator.SetQuota) -> None:
    """SET_QUOTA, the older form: the guarantee is the limit, too, and changes no quota."""
    asked = call.quota_request
    prefix = "Failed to validate set quota request: "
    amounts = _guarantee(asked.guarantee)
    if asked.role is None:
        amounts = "Expecting 'role' to be present"
    if isinstance(amounts, str):
        master.emit(Reply(request, 400, prefix + amounts))
        return
    assert asked.role is not None
    config = QuotaConfig(role=asked.role, guarantees=amounts, limits=amounts)
    why = error(config)
    if why is None and asked.role in master.quotas_asked:
        why = f"Role '{asked.role}' already has quota; remove it first, or use UPDATE_QUOTA"
    if why is not None:
        master.emit(Reply(request, 400, prefix + why))
        return
    changes = {asked.role: config}
    why = None if asked.force else _overcommitted(master, {**master.quotas_asked, **changes})
    if why is not None:
        master.emit(Reply(request, 409, _OVERCOMMIT + why))
        return
    _save(master, request, changes)


def _guarantee(resources: tuple[Resource, ...]) -> dict[str, Scalar] | str:
    why = validity.why_not_all(resources)
    if why is not None:
        return why
    if not resources:
        return "Expecting 'guarantee' to be present"
    found: dict[str, Scalar] = {}
    try:
        bag = Resources.of(resources)
    except WireError as exc:
        return str(exc)
    if any(not kind.is_plain for kind, _ in bag.items()):
        return "Quota is for plain resources, without reservation, disk or revocable"
    for resource in resources:
        if resource.scalar is None:
            return f"Quota is for scalars only, not for '{resource.name}'"
        if resource.name in found:
            return f"Duplicate resource '{resource.name}'"
        found[resource.name] = resource.scalar
    return found


def remove(master: Master, _now: float, request: int, call: operator.RemoveQuota) -> None:
    """REMOVE_QUOTA, the older form."""
    why = why_not_role(call.role)
    if why is None and call.role not in master.quotas_asked:
        why = f"Role '{call.role}' has no quota set"
    if why is not None:
        master.emit(Reply(request, 400, f"Failed to remove quota: {why}"))
        return
    _save(master, request, {call.role: QuotaConfig(role=call.role)})


def _save(master: Master, request: int, changes: Mapping[str, QuotaConfig]) -> None:
    # On top of what is being saved already, or the later save would undo the earlier.
    asked = {**master.quotas_asked, **changes}
    master.quotas_asked = {
        role: config for role, config in asked.items() if config.guarantees or config.limits
    }
    ops = registry.set_quotas(tuple(master.quotas_asked.values()))
    master.save(ops, _saved, master.quotas_asked, tuple(changes), request)


def _saved(
    master: Master,
    now: float,
    quotas: dict[str, QuotaConfig],
    roles: tuple[str, ...],
    request: int,
) -> None:
    master.registry.quotas = dict(quotas)
    apply(master, now)
    # What is offered may be promised to others now, or beyond a limit.
    offers.end_all(master, now, list(master.offers), rescind=True)
    master.allocator.mark_all(master, now)
    master.note("Set quota", roles=",".join(sorted(roles)))
    master.emit(Reply(request, 200))


def apply(master: Master, now: float) -> None:
    """Have the allocator go by what is saved."""
    quotas = {
        role: Quota(_thousandths(config.guarantees), _thousandths(config.limits))
        for role, config in master.registry.quotas.items()
    }
    master.allocator.set_quotas(master, now, quotas)


# -- what is shown ------------------------------------------------------------------------------


def status(master: Master, principal: str | None = None) -> QuotaStatus:
    """GET_QUOTA, and GET /quota; only of roles whose quota `principal` may get."""
    allows = master.config.acls.allows
    configs = [
        config
        for role, config in sorted(master.registry.quotas.items())
        if allows("get_quotas", principal, role)
    ]
    infos = tuple(
        QuotaInfo(
            role=config.role,
            guarantee=tuple(
                Resource(name=name, type="SCALAR", scalar=amount)
                for name, amount in config.guarantees.items()
            ),
        )
        for config in configs
        if config.guarantees
    )
    return QuotaStatus(infos=infos, configs=tuple(configs))
