"""From two root groups to the steps of a deployment, as data.

Steps run one after another, the actions of a step side by side; empty steps are left out:

1. stop every removed app, 2. start every new one (at 0), 3. scale or restart, one step for each
layer of the dependency graph.

Source: spec/marathon §3.1, §1.11.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mesostk.marathon import groups
from mesostk.marathon.groups import Group
from mesostk.marathon.versions import config_version, is_same, needs_restart
from mesostk.wire.marathon import Action, AppDefinition, ChangeKind, Step


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One app on both sides; None where it does not exist, on both if it may still be ending."""

    before: AppDefinition | None
    after: AppDefinition | None


def changes(old: Group, new: Group) -> dict[str, Change]:
    """Every app that differs, by id; also one that only got a new version (a restart)."""
    before, after = _differing(old, new)
    found = {}
    for id in sorted(before.keys() | after.keys()):
        change = Change(before=before.get(id), after=after.get(id))
        if _differ(change.before, change.after):
            found[id] = change
    return found


Apps = dict[str, AppDefinition]


def _differing(old: Group | None, new: Group | None) -> tuple[Apps, Apps]:
    """The apps of both sides but those that are the same object; shared subtrees are skipped."""
    if old is new:
        return {}, {}
    had: Mapping[str, AppDefinition] = {} if old is None else old.apps
    has: Mapping[str, AppDefinition] = {} if new is None else new.apps
    before = {id: app for id, app in had.items() if has.get(id) is not app}
    after = {id: app for id, app in has.items() if had.get(id) is not app}
    groups_before: Mapping[str, Group] = {} if old is None else old.groups
    groups_after: Mapping[str, Group] = {} if new is None else new.groups
    for id in groups_before.keys() | groups_after.keys():
        below = _differing(groups_before.get(id), groups_after.get(id))
        before |= below[0]
        after |= below[1]
    return before, after


def affected(old: Group, new: Group) -> frozenset[str]:
    """Ids of the apps that a deployment from `old` to `new` locks."""
    return frozenset(changes(old, new))


def steps(old: Group, new: Group) -> tuple[Step, ...]:
    """The steps from `old` to `new`; none if nothing differs.

    Raises `Refused` (422) where the apps of `new` depend on each other in a circle.
    """
    return steps_of(changes(old, new), groups.layers(new))


def steps_of(found: Mapping[str, Change], depth: Mapping[str, int]) -> tuple[Step, ...]:
    """`steps` for changes that are known already, with the layers of the new root."""
    stopped = [id for id, change in found.items() if change.after is None]
    started = [id for id, change in found.items() if change.before is None and change.after]
    plan = [
        Step(actions=tuple(Action(action="StopApplication", app=id) for id in stopped)),
        Step(actions=tuple(Action(action="StartApplication", app=id) for id in started)),
    ]
    by_layer: dict[int, list[Action]] = {}
    for id, change in found.items():
        if change.after is not None:
            by_layer.setdefault(depth[id], []).append(_action(change.before, change.after))
    plan += [Step(actions=tuple(by_layer[layer])) for layer in sorted(by_layer)]
    return tuple(step for step in plan if step.actions)


def _action(before: AppDefinition | None, after: AppDefinition) -> Action:
    """New, only scaled, or going to 0: scale; any other change: restart."""
    scales = before is None or after.instances == 0 or not _restarts(before, after)
    return Action(action="ScaleApplication" if scales else "RestartApplication", app=after.id)


def _restarts(before: AppDefinition, after: AppDefinition) -> bool:
    """By their stamps, which know of `restart=false`; by what they say where there are none."""
    if config_version(before) != config_version(after):
        return True
    return not config_version(after) and needs_restart(before, after)


def _differ(before: AppDefinition | None, after: AppDefinition | None) -> bool:
    if before is after:
        return False  # untouched apps are shared by both roots: thousands at once
    if before is None or after is None:
        return True
    return not is_same(before, after) or config_version(before) != config_version(after)


def kind(change: Change) -> ChangeKind:
    """The change in one word."""
    if change.before is None:
        return "create"
    if change.after is None:
        return "stop"
    if config_version(change.before) != config_version(change.after):
        return "restart"
    return "update" if change.before.instances == change.after.instances else "scale"
