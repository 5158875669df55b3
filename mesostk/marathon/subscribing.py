"""What Marathon registers as, and in which roles: those of its apps, instances and residences.

::

    an app with a new role ─▶ UPDATE_FRAMEWORK at once, so that offers of that role come
                                └─ refused: told by `why` and info, asked again when subscribed
    nothing is left of a role ─▶ UPDATE_FRAMEWORK at the next look (housekeeping)
    SUBSCRIBE refused ─▶ SUBSCRIBE in the own role, then the others one by one

The roles are derived from the records, so a new leader subscribes in all of them.
Source: spec/marathon §3.9, the original's `multirole.md`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mesostk.marathon import reviving
from mesostk.marathon.events import ChangeInfo, Subscribe
from mesostk.marathon.state import RoleRefusal, State, Turn
from mesostk.marathon.timestamps import iso
from mesostk.wire import scheduler
from mesostk.wire.marathon import RefusedRole
from mesostk.wire.mesos import (
    FrameworkCapability,
    FrameworkCapabilityType,
    FrameworkID,
    FrameworkInfo,
)

CAPABILITIES: tuple[FrameworkCapabilityType, ...] = (
    "PARTITION_AWARE",
    "REGION_AWARE",
    "MULTI_ROLE",
    "TASK_KILLING_STATE",
)

#: Errors of a master that another set of roles cannot mend. Source: Mesos `src/master/master.cpp`.
REMOVED: Final = "Framework has been removed"
FAILED_OVER: Final = "Framework failed over"


def framework_info(state: State) -> FrameworkInfo:
    """Marathon as masters know it."""
    settings = state.settings
    id = state.framework_id
    kinds: list[FrameworkCapabilityType] = list(CAPABILITIES)
    if "gpu_resources" in settings.features:
        kinds.append("GPU_RESOURCES")
    return FrameworkInfo(
        user=settings.user,
        name=settings.framework_name,
        id=None if id is None else FrameworkID(id),
        failover_timeout=settings.failover_timeout_s,
        checkpoint=settings.checkpoint,
        roles=tuple(sorted(state.roles)),
        hostname=settings.hostname,
        principal=settings.principal,
        webui_url=settings.webui_url,
        capabilities=tuple(FrameworkCapability(type=kind) for kind in kinds),
    )


def in_use(state: State) -> frozenset[str]:
    """Every role that something is, or is to be, launched or reserved in; and `--mesos_role`."""
    wanted = {want.app.role for want in state.wants.values() if want.app.role is not None}
    placed = {instance.role for instance in state.instances.values()}
    reserved = {residence.role for residence in state.residences.values()}
    return frozenset({state.settings.role} | state.app_roles | wanted | placed | reserved)


def follow(state: State, turn: Turn, *, thoroughly: bool) -> None:
    """Tell the master of a role that came, and `thoroughly` of those that went.

    Roles go seldom and nobody waits for it, while looking at all instances costs time. New ones are
    told one by one: a master refuses an UPDATE_FRAMEWORK as a whole, and one role that it does not
    have must not keep the others out.
    """
    if not state.connected or state.roles_before is not None:
        return
    if thoroughly:
        wanted = in_use(state)
        for role in state.refused_roles.keys() - wanted:
            del state.refused_roles[role]
    elif state.app_roles <= state.roles and not state.refused_roles:
        return
    else:
        wanted = state.roles | state.app_roles | state.refused_roles.keys()
    shut = {role for role, refusal in state.refused_roles.items() if not refusal.is_due}
    came, went = sorted(wanted - shut - state.roles), state.roles - wanted
    if came:
        _ask(state, turn, state.roles | {came[0]})
    elif went:
        _ask(state, turn, state.roles - went)


def _ask(state: State, turn: Turn, roles: frozenset[str]) -> None:
    came, went = roles - state.roles, state.roles - roles
    turn.note("Changing roles", came=",".join(sorted(came)), went=",".join(sorted(went)))
    state.roles_before, state.roles = state.roles, roles
    reviving.roles_changed(state)
    body = scheduler.UpdateFramework(
        framework_info=framework_info(state),
        suppressed_roles=tuple(sorted(state.hunger.suppressed)),
    )
    turn.send(scheduler.Call(type="UPDATE_FRAMEWORK", update_framework=body))


def answered(state: State, turn: Turn, refusal: str | None) -> None:
    """Keep the roles of the last UPDATE_FRAMEWORK for the next subscription, or do without."""
    before = state.roles_before
    if before is None:
        return
    state.roles_before = None
    for role in state.roles - before:
        known = state.refused_roles.pop(role, None)
        if refusal is not None:
            since_s = turn.now if known is None else known.since_s
            state.refused_roles[role] = RoleRefusal(reason=refusal, since_s=since_s)
            turn.note("Role refused by the master", "ERROR", role=role, reason=refusal)
    if refusal is not None:
        state.roles = before
        reviving.roles_changed(state)
    turn.perform(ChangeInfo(framework_info(state)))


def connected(state: State) -> None:
    """A new subscription: its master may have other `--roles` and `--acls`, so it is asked anew."""
    state.roles_before = None
    for role, refusal in state.refused_roles.items():
        state.refused_roles[role] = msgspec.structs.replace(refusal, is_due=True)


def disconnected(state: State) -> None:
    """Nobody knows what became of what was asked last; the next subscription is as before it.

    That goes for roles that were given up, too: the master has them again, until it is told anew.
    """
    if state.roles_before is not None:
        state.roles, state.roles_before = state.roles_before, None


def retreat(state: State, turn: Turn, message: str) -> bool:
    """Subscribe in the own role alone if it may be the others that the master refused us for.

    The others are asked for afterwards, one by one; False where that would be no help.
    """
    own = frozenset({state.settings.role})
    if state.roles == own or REMOVED in message or FAILED_OVER in message:
        return False
    turn.note("Subscribing without the roles of apps", "WARNING", role=state.settings.role)
    state.roles, state.roles_before = own, None
    reviving.roles_changed(state)
    turn.perform(Subscribe(framework_info(state)))
    return True


def refused_roles(state: State) -> tuple[RefusedRole, ...]:
    """What the master refuses, for people."""
    return tuple(
        RefusedRole(role=role, reason=found.reason, since=iso(found.since_s + state.offset_s))
        for role, found in sorted(state.refused_roles.items())
    )


def refusal(state: State, role: str) -> str | None:
    """Why nothing is launched in `role`, and what helps; None where the master has it."""
    found = state.refused_roles.get(role)
    if found is None:
        return None
    return (
        f"the master refuses role '{role}': {found.reason}; add it to --roles (--acls: "
        "register_frameworks) of all masters and restart them, or give the app another role"
    )
