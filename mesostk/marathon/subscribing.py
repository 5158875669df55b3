"""What Marathon registers as, and in which roles: those of its apps, instances and residences.

::

    an app with a new role ─▶ UPDATE_FRAMEWORK at once, so that offers of that role come
    nothing is left of a role ─▶ UPDATE_FRAMEWORK at the next look (housekeeping)

The roles are derived from the records, so a new leader subscribes in all of them.
Source: spec/marathon §3.9, the original's `multirole.md`.
"""

from __future__ import annotations

from mesostk.marathon import reviving
from mesostk.marathon.events import ChangeInfo
from mesostk.marathon.state import State, Turn
from mesostk.wire import scheduler
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
    """Tell the master of roles that came, and `thoroughly` of those that went.

    Roles go seldom and nobody waits for it, while looking at all instances costs time.
    """
    if thoroughly:
        wanted = in_use(state)
    elif state.app_roles <= state.roles:
        return
    else:
        wanted = state.roles | state.app_roles
    if wanted == state.roles:
        return
    came, went = wanted - state.roles, state.roles - wanted
    turn.note("Changing roles", came=",".join(sorted(came)), went=",".join(sorted(went)))
    state.roles = wanted
    state.roles_changed = True
    reviving.roles_changed(state)
    turn.perform(ChangeInfo(framework_info(state)))
    tell(state, turn)


def tell(state: State, turn: Turn) -> None:
    """UPDATE_FRAMEWORK, if the roles are no longer those that were subscribed with first.

    A connection that was being made while they changed may have been made with the old ones.
    """
    if not state.connected or not state.roles_changed:
        return
    body = scheduler.UpdateFramework(
        framework_info=framework_info(state),
        suppressed_roles=tuple(sorted(state.hunger.suppressed)),
    )
    turn.send(scheduler.Call(type="UPDATE_FRAMEWORK", update_framework=body))
