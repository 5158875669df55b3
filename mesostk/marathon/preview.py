"""What a change would do, instance by instance, before anything moves: `?dryRun=true`.

::

    root as it is, root as wanted ─▶ steps                          as a deployment would take them
                                  └▶ each changed app: fields, and for each instance
                                     keep, replace or kill; `launch` is how many are started

Instances are judged as they are now; when the change is really made, others may run.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesostk.marathon import deploying, plan, rollout
from mesostk.marathon.groups import Group
from mesostk.marathon.instances import Goal, Instance
from mesostk.marathon.plan import Change
from mesostk.marathon.state import State
from mesostk.marathon.versions import changed_fields, config_version
from mesostk.wire.marathon import AppDefinition, ChangeKind, Step

Fate = Literal["keep", "replace", "kill"]


class InstancePlan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What happens to one instance there is."""

    id: str
    host: str
    condition: str
    action: Fate


class AppPlan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What happens to one app; `fields` are those that differ, as they are spelled in JSON."""

    app: str
    change: ChangeKind
    fields: tuple[str, ...]
    launch: int
    instances: tuple[InstancePlan, ...]


class Preview(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to a dry run; no `apps` means that nothing would change."""

    steps: tuple[Step, ...]
    apps: tuple[AppPlan, ...]


def preview(state: State, wanted: Group) -> Preview:
    """What putting `wanted` in place of the present root would do.

    Raises `Refused` (422) where its apps depend on each other in a circle.
    """
    found = plan.changes(state.root, wanted)
    return Preview(
        steps=plan.steps(state.root, wanted),
        apps=tuple(_app(state, id, change) for id, change in found.items()),
    )


def _app(state: State, id: str, change: Change) -> AppPlan:
    before, after = change.before, change.after
    here = [each for each in state.of_app(id) if each.goal is Goal.RUNNING]
    fates, launch = _fates(state, here, after)
    return AppPlan(
        app=id,
        change=plan.kind(change),
        fields=() if before is None or after is None else changed_fields(before, after),
        launch=launch,
        instances=tuple(
            InstancePlan(
                id=each.id,
                host=each.host,
                condition=each.condition,
                action=fates.get(each.id, "keep"),
            )
            for each in here
        ),
    )


def _fates(
    state: State, here: list[Instance], after: AppDefinition | None
) -> tuple[dict[str, Fate], int]:
    """What becomes of those that do not stay, and how many are launched in all."""
    if after is None:
        return {each.id: "kill" for each in here}, 0
    old = [each for each in here if each.config_version != config_version(after)]
    if after.instances > 0 and old:
        going = rollout.restart(after, deploying.members(state, after.id, after))
        fates: dict[str, Fate] = {each.id: "replace" for each in old}
        current = len(here) - len(old)
        surplus = {id for id in going.kill if id not in fates} if current > after.instances else ()
        fates.update(dict.fromkeys(surplus, "kill"))
        # Old ones beyond the wanted number have no successor.
        missing = max(0, after.instances - current)
        for each in old[missing:]:
            fates[each.id] = "kill"
        return fates, missing
    decision = rollout.scale(after, deploying.members(state, after.id, after))
    return dict.fromkeys(decision.kill, "kill"), decision.launch
