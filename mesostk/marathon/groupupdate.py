"""Group JSON: what `PUT /v2/groups` asks for, applied to the root; and the view of a group.

::

    {"apps": […], "groups": […]} ─▶ updated ─▶ settled: valid, ports assigned, versions ─▶ plan
    {"scaleBy": f}               ─▶ scaled  ─┘
    {"version": t}               ─▶ the caller takes the stored group of that version

Source: spec/marathon §1.6. `apps`, `groups` and `dependencies` that are absent keep what is there;
present ones replace it, so unlisted apps and child groups are removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from mesostk.marathon import groups, paths, ports, validation, versions
from mesostk.marathon.appinput import Input, read_as
from mesostk.marathon.apps import DEFAULT_SETTINGS, Settings, normalise
from mesostk.marathon.groups import Group
from mesostk.marathon.refusal import INVALID_OBJECT, Refused, invalid, malformed, violation
from mesostk.wire.marathon import AppDefinition


class GroupInput(Input, frozen=True, kw_only=True):
    """A group as clients send it; `apps` are read one by one."""

    id: str | None = None
    apps: tuple[dict[str, object], ...] | None = None
    groups: tuple[dict[str, object], ...] | None = None
    pods: tuple[dict[str, object], ...] = ()
    dependencies: tuple[str, ...] | None = None
    scale_by: float | None = None
    version: str | None = None
    enforce_role: bool | None = None


#: Nested groups deeper than this are refused; ids would not fit into a DNS name either.
MAX_DEPTH = 16


def read(raw: object) -> GroupInput:
    """The body of a group request.

    Raises `Refused`: 400 for types, 422 for unknown keys, and where `version` or `scaleBy` come
    with content.
    """
    update = read_as(raw, GroupInput)
    content = update.apps is not None or update.groups is not None or update.dependencies
    for key, value in (("version", update.version), ("scaleBy", update.scale_by)):
        if value is not None and content:
            raise invalid(f"/{key}", "may not be combined with apps, groups or dependencies")
    if update.scale_by is not None and not (0 <= update.scale_by < math.inf):
        raise invalid("/scaleBy", "must be a number of at least 0")
    if update.pods:
        raise invalid("/pods", "are managed by /v2/pods only")
    return update


def updated(
    root: Group, id: str, update: GroupInput, version: str, settings: Settings = DEFAULT_SETTINGS
) -> Group:
    """`root` with `update` applied to the group `id`, made if missing.

    New and changed apps still lack service ports and versions: see `settled`. Raises `Refused`.
    """
    if update.id is not None and paths.absolute(update.id, paths.parent(id)) != id:
        raise malformed("/id", f"'{id}' does not match the group's id ('{update.id}')")
    _refuse_id(id, "/id")
    old = groups.find(root, id)
    changed = _changed(old if old is not None else Group(id=id), update, version, settings, "", 0)
    return groups.put_group(root, changed, version)


def _changed(
    group: Group, update: GroupInput, version: str, settings: Settings, at: str, depth: int
) -> Group:
    if depth > MAX_DEPTH:
        raise invalid(f"{at}/groups", f"are nested more than {MAX_DEPTH} deep")
    changes: dict[str, object] = {"version": version}
    if update.apps is not None:
        changes["apps"] = _apps(group.id, update.apps, settings, f"{at}/apps")
    if update.groups is not None:
        changes["groups"] = _children(group, update, version, settings, f"{at}/groups", depth)
    if update.dependencies is not None:
        above = paths.parent(group.id)
        changes["dependencies"] = tuple(paths.absolute(d, above) for d in update.dependencies)
    if update.enforce_role is not None:
        changes["enforce_role"] = update.enforce_role
    return msgspec.structs.replace(group, **changes)


def _apps(
    group: str, raws: tuple[dict[str, object], ...], settings: Settings, at: str
) -> dict[str, AppDefinition]:
    found: dict[str, AppDefinition] = {}
    for index, raw in enumerate(raws):
        with _inside(f"{at}({index})"):
            app = normalise(raw, group=group, settings=settings)
        if app.id in found:
            raise invalid(f"{at}({index})/id", f"'{app.id}' is given twice")
        found[app.id] = app
    return found


def _children(
    group: Group, update: GroupInput, version: str, settings: Settings, at: str, depth: int
) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for index, raw in enumerate(update.groups or ()):
        place = f"{at}({index})"
        with _inside(place):
            child = read(raw)
        if child.id is None:
            raise malformed(f"{place}/id", "is required and missing")
        if child.version is not None or child.scale_by is not None:
            raise invalid(place, "version and scaleBy are for the outermost group only")
        id = paths.absolute(child.id, group.id)
        _refuse_id(id, f"{place}/id")
        if id in found:
            raise invalid(f"{place}/id", f"'{id}' is given twice")
        old = group.groups.get(id)
        base = old if old is not None else Group(id=id)
        found[id] = _changed(base, child, version, settings, place, depth + 1)
    return found


def _refuse_id(id: str, at: str) -> None:
    why = paths.why_invalid(id) if id != paths.ROOT else None
    if why is not None:
        raise invalid(at, why)


@contextmanager
def _inside(at: str) -> Iterator[None]:
    """Refusals from within carry `at` before their paths."""
    try:
        yield
    except Refused as refused:
        details = refused.details
        if details is None or isinstance(details, str):
            raise
        moved = [violation(at + each.path.rstrip("/"), *each.errors) for each in details]
        raise Refused(refused.status, refused.message, moved) from None


def scaled(root: Group, id: str, factor: float, version: str) -> Group:
    """`root` with every app in and below group `id` at ceil(instances x `factor`)."""
    group = groups.find(root, id)
    if group is None:
        raise no_group(id)
    changed = [
        msgspec.structs.replace(app, instances=math.ceil(app.instances * factor))
        for app in groups.apps(group)
    ]
    return groups.put_apps(root, changed, version)


def no_group(id: str) -> Refused:
    """404."""
    return Refused(404, f"Group '{id}' does not exist")


def settled(
    old: Group,
    new: Group,
    version: str,
    low: int,
    high: int,
    settings: Settings = DEFAULT_SETTINGS,
) -> Group:
    """`new` with its changed apps valid, their service ports assigned and versions given.

    Raises `Refused`: 422 with the violations of all apps, 500 when the ports are used up.
    """
    before = {app.id: app for app in groups.apps(old)}
    changed = [app for app in groups.apps(new) if before.get(app.id) is not app]
    found = [
        violation(f"{app.id}{each.path}", *each.errors)
        for app in changed
        for each in validation.violations(app, settings, before.get(app.id))
    ]
    if found:
        raise Refused(422, INVALID_OBJECT, found)
    for app in ports.assign_service_ports(changed, before, low, high):
        stamped = versions.stamped(before.get(app.id), app, version)
        new = groups.put_app(new, stamped, version)
    groups.refuse_invalid(new)
    return new


AppView = Callable[[AppDefinition], Mapping[str, object]]


def group_view(
    group: Group, app_view: AppView, *, with_apps: bool = True, with_groups: bool = True
) -> dict[str, object]:
    """GroupInfo; `app_view` shows one app. What is not embedded is left out."""
    view: dict[str, object] = {"id": group.id}
    if with_apps:
        view["apps"] = [app_view(app) for app in group.apps.values()]
        view["pods"] = []
    if with_groups:
        view["groups"] = [
            group_view(child, app_view, with_apps=with_apps) for child in group.groups.values()
        ]
    view["dependencies"] = list(group.dependencies)
    view["version"] = group.version
    view["enforceRole"] = group.enforce_role
    return view
