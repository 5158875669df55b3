"""From a group's JSON to the tree that it wants in the place of the present one.

::

    {"apps": […]}      the group has exactly these apps; absent: those it has
    {"groups": […]}    the same for child groups, each changed in its turn
    {"scaleBy": 1.5}   every app below: instances × 1.5, rounded up      (alone)
    {"version": "…"}   as it was in that version                         (alone)

Apps come out without new versions and service ports; `commands` stamps them all at once.
Source: spec/marathon §1.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from mesostk.marathon import apps, groups, paths, pods
from mesostk.marathon.appinput import read_as
from mesostk.marathon.groups import Group
from mesostk.marathon.refusal import Refused, inside, invalid, malformed
from mesostk.wire.marathon import AppDefinition


class GroupInput(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A group as clients send it; every key may be absent."""

    id: str | None = None
    apps: tuple[dict[str, object], ...] | None = None
    pods: tuple[dict[str, object], ...] | None = None
    groups: tuple[dict[str, object], ...] | None = None
    dependencies: tuple[str, ...] | None = None
    scale_by: float | None = None
    version: str | None = None
    enforce_role: bool | None = None


#: The group in a stored version; Refused (404) if there is none.
AtVersion = Callable[[str, str], Group]


def read(raw: Mapping[str, object]) -> GroupInput:
    """The body of a group; Refused for wrong types, unknown keys and contradictions.

    An answer of the API carries `version` beside content; sent back, it does not count.
    """
    update = read_as(raw, GroupInput)
    has_content = any(
        part is not None for part in (update.apps, update.pods, update.groups, update.dependencies)
    )
    if update.scale_by is not None:
        if has_content:
            raise invalid("/scaleBy", "can only be given alone")
        if update.scale_by < 0 or not math.isfinite(update.scale_by):
            raise invalid("/scaleBy", "must be a number of at least 0")
    if update.version is not None and has_content:
        return msgspec.structs.replace(update, version=None)
    return update


def created_id(update: GroupInput, parent: str) -> str:
    """The id of a group to be made below `parent`; Refused without one."""
    if update.id is None:
        raise malformed("/id", "is required and missing")
    return paths.absolute(update.id, parent)


def changed(
    root: Group,
    id: str,
    update: GroupInput,
    settings: apps.Settings,
    at_version: AtVersion,
) -> Group:
    """The group `id` of `root` as `update` wants it; made new where there is none."""
    why = None if id == paths.ROOT else paths.why_invalid(id)
    if why is not None:
        raise invalid("/id", why)
    present = groups.find(root, id)
    if update.version is not None:
        return at_version(id, update.version)
    if update.scale_by is not None:
        if present is None:
            raise Refused(404, f"Group '{id}' does not exist")
        return _scaled(present, update.scale_by)
    return _merged(root, present, update, settings, id)


def _scaled(group: Group, factor: float) -> Group:
    return msgspec.structs.replace(
        group,
        apps={
            id: msgspec.structs.replace(app, instances=math.ceil(app.instances * factor))
            for id, app in group.apps.items()
        },
        groups={id: _scaled(child, factor) for id, child in group.groups.items()},
    )


def _merged(
    root: Group, present: Group | None, update: GroupInput, settings: apps.Settings, id: str
) -> Group:
    group = Group(id=id) if present is None else present
    changes: dict[str, object] = {"enforce_role": _enforces_role(present, update, settings, id)}
    if update.apps is not None or update.pods is not None:
        changes["apps"] = {
            **_kept_or_read(group, update.apps, is_pod=False, settings=settings),
            **_kept_or_read(group, update.pods, is_pod=True, settings=settings),
        }
    if update.groups is not None:
        children: dict[str, Group] = {}
        for raw in update.groups:
            child = read(raw)
            child_id = created_id(child, group.id)
            if paths.parent(child_id) != group.id:
                raise invalid("/groups", f"'{child_id}' is no direct child of '{group.id}'")
            if child.version is not None or child.scale_by is not None:
                raise invalid("/groups", "version and scaleBy are for the group of the request")
            there = groups.find(root, child_id)
            children[child_id] = _merged(root, there, child, settings, child_id)
        changes["groups"] = children
    if update.dependencies is not None:
        wanted = (paths.absolute(each, group.id) for each in update.dependencies)
        changes["dependencies"] = tuple(wanted)
    return msgspec.structs.replace(group, **changes)


def _enforces_role(
    present: Group | None, update: GroupInput, settings: apps.Settings, id: str
) -> bool:
    """What the group will do; Refused (422) where services and their rule would change at once."""
    if update.enforce_role is None:
        if present is not None:
            return present.enforce_role
        return settings.enforce_new_groups and len(paths.segments(id)) == 1
    if present is not None and update.enforce_role != present.enforce_role and _moves(update):
        raise invalid(
            "/enforceRole",
            "enforceRole cannot be modified in a request that adds, removes or modifies services; "
            "please make these changes in separate requests.",
        )
    return update.enforce_role


def _moves(update: GroupInput) -> bool:
    """Whether an update names services, or groups that may hold some."""
    return bool(update.apps or update.pods or update.groups)


def _kept_or_read(
    group: Group,
    raws: tuple[dict[str, object], ...] | None,
    *,
    is_pod: bool,
    settings: apps.Settings,
) -> dict[str, AppDefinition]:
    """The group's apps, or its pods: those that are listed; all that are there without a list."""
    there = {id: app for id, app in group.apps.items() if (app.pod is not None) == is_pod}
    if raws is None:
        return there
    key = "pods" if is_pod else "apps"
    found: dict[str, AppDefinition] = {}
    for index, raw in enumerate(raws):
        given = raw.get("id")
        if not isinstance(given, str):
            raise malformed(f"/{key}({index})/id", "is required and missing")
        id = paths.absolute(given, group.id)
        if paths.parent(id) != group.id:
            raise invalid(f"/{key}({index})/id", f"'{id}' is no direct child of '{group.id}'")
        if id in found or (id in group.apps and id not in there):
            raise invalid(f"/{key}({index})/id", f"'{id}' is named twice")
        with inside(f"/{key}({index})"):
            if is_pod:
                found[id] = pods.normalise(raw, group.id)
            else:
                before = there.get(id)
                found[id] = apps.normalise(raw, before, group=group.id, settings=settings)
    return found


def replaced(group: Group, definitions: Mapping[str, AppDefinition], version: str) -> Group:
    """`group` with its apps taken from `definitions`, and every group in it in `version`."""
    return msgspec.structs.replace(
        group,
        version=version,
        apps={id: definitions[id] for id in group.apps},
        groups={id: replaced(child, definitions, version) for id, child in group.groups.items()},
    )
