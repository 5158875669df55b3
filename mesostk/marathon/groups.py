"""The root group: an immutable tree of groups and apps; every change gives a new root.

::

    Root "/" v7 ── apps {/web: v7} ── groups {/prod: v5} ── /prod v5 ── apps {/prod/db: v3} …
                                             └── untouched subtrees are shared by old and new root

How a tree is stored: `grouprecords`.
Sources: spec/marathon §1.6 (groups), §3.1 (dependencies).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from mesostk.marathon import paths
from mesostk.marathon.refusal import Refused, invalid
from mesostk.wire.marathon import AppDefinition


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """`apps` and `groups` are the direct children by full id; dependencies are absolute ids."""

    id: str
    version: str = ""
    apps: dict[str, AppDefinition] = msgspec.field(default_factory=dict)
    groups: dict[str, Group] = msgspec.field(default_factory=dict)
    dependencies: tuple[str, ...] = ()
    enforce_role: bool = False


EMPTY = Group(id=paths.ROOT)


# -- look-up ----------------------------------------------------------------------------------


def find(root: Group, id: str) -> Group | None:
    """The group `id`, or None."""
    group = root
    for path in [*paths.ancestors(id)[1:], id] if id != paths.ROOT else []:
        child = group.groups.get(path)
        if child is None:
            return None
        group = child
    return group


def app(root: Group, id: str) -> AppDefinition | None:
    """The app `id`, or None."""
    group = find(root, paths.parent(id))
    return None if group is None else group.apps.get(id)


def apps(group: Group) -> Iterator[AppDefinition]:
    """Every app in and below `group`."""
    yield from group.apps.values()
    for child in group.groups.values():
        yield from apps(child)


def only_apps(group: Group) -> list[AppDefinition]:
    """Every app in and below `group` that is no pod."""
    return [each for each in apps(group) if each.pod is None]


def walk(group: Group) -> Iterator[Group]:
    """`group` and every group below it, parents first."""
    yield group
    for child in group.groups.values():
        yield from walk(child)


# -- change -----------------------------------------------------------------------------------


def put_app(root: Group, app: AppDefinition, version: str) -> Group:
    """`put_apps` for one."""
    return put_apps(root, (app,), version)


def put_apps(root: Group, changed: Iterable[AppDefinition], version: str) -> Group:
    """`root` with the apps in it, their groups made where missing; each on the way is `version`.

    Raises `Refused` (422) where a group has the app's id, or an app the id of one of its groups.
    """
    by_parent: dict[str, list[AppDefinition]] = {}
    for each in changed:
        by_parent.setdefault(paths.parent(each.id), []).append(each)
    for parent, children in by_parent.items():
        for each in children:
            if find(root, each.id) is not None:
                raise same_path(each.id)
        # All at once: a copy of the group's apps for each would cost n².
        grown = _grown(root, parent)
        more = {**grown.apps, **{each.id: each for each in children}}
        root = put_group(root, msgspec.structs.replace(grown, apps=more), version)
    return root


def delete_app(root: Group, id: str, version: str) -> Group:
    """`root` without the app `id`; its group stays. The same root if there is no such app."""
    parent = find(root, paths.parent(id))
    if parent is None or id not in parent.apps:
        return root
    left = {key: value for key, value in parent.apps.items() if key != id}
    return put_group(root, msgspec.structs.replace(parent, apps=left), version)


def put_group(root: Group, group: Group, version: str) -> Group:
    """`root` with `group` in its place; it and all groups above it get `version`."""
    group = msgspec.structs.replace(group, version=version)
    if group.id == paths.ROOT:
        return group
    if app(root, group.id) is not None:
        raise same_path(group.id)
    parent = _grown(root, paths.parent(group.id))
    grown = msgspec.structs.replace(parent, groups={**parent.groups, group.id: group})
    return put_group(root, grown, version)


def delete_group(root: Group, id: str, version: str) -> Group:
    """`root` without the group `id` and all in it; the root group itself is only emptied."""
    if id == paths.ROOT:
        return Group(id=paths.ROOT, version=version)
    parent = find(root, paths.parent(id))
    if parent is None or id not in parent.groups:
        return root
    left = {key: value for key, value in parent.groups.items() if key != id}
    return put_group(root, msgspec.structs.replace(parent, groups=left), version)


def _grown(root: Group, id: str) -> Group:
    """The group `id`, a new empty one if there is none."""
    for place in [*paths.ancestors(id), id]:
        if app(root, place) is not None:
            raise same_path(place)
    found = find(root, id)
    return found if found is not None else Group(id=id)


def same_path(id: str) -> Refused:
    """422: an app and a group would share an id."""
    return invalid("/", f"Groups and Applications may not have the same identifier: {id}.")


# -- dependencies -----------------------------------------------------------------------------


def dependencies(root: Group) -> dict[str, frozenset[str]]:
    """For every app the apps it waits for: its own and its groups' dependencies, groups expanded.

    A dependency that names nothing waits for nothing.
    """
    inherited: dict[str, frozenset[str]] = {}
    named: dict[str, frozenset[str]] = {}
    nothing: frozenset[str] = frozenset()
    for group in walk(root):
        above = inherited.get(paths.parent(group.id), nothing)
        here = inherited[group.id] = above | frozenset(group.dependencies)
        for id, each in group.apps.items():
            named[id] = here | frozenset(each.dependencies) if each.dependencies else here
    members: dict[str, frozenset[str]] = {}
    for id in {id for wanted in set(named.values()) for id in wanted}:
        group_named = find(root, id)
        found = (each.id for each in apps(group_named)) if group_named is not None else (id,)
        members[id] = frozenset(found) & named.keys()
    return {
        id: frozenset(member for each in wanted for member in members[each]) if wanted else nothing
        for id, wanted in named.items()
    }


def layers(root: Group) -> dict[str, int]:
    """For every app the length of the longest dependency path below it; 0 = waits for none.

    Raises `Refused` (422) where apps wait for each other.
    """
    wanted_by = dependencies(root)
    waiting = {id: set(wanted) for id, wanted in wanted_by.items() if wanted}
    depth = dict.fromkeys((id for id, wanted in wanted_by.items() if not wanted), 0)
    dependents: dict[str, list[str]] = {}
    for id, wanted in waiting.items():
        for dependency in wanted:
            dependents.setdefault(dependency, []).append(id)
    ready = [id for id in dependents if id in depth]
    while ready:
        id = ready.pop()
        for dependent in dependents.get(id, ()):
            depth[dependent] = max(depth.get(dependent, 0), depth[id] + 1)
            waiting[dependent].discard(id)
            if not waiting[dependent]:
                ready.append(dependent)
    stuck = sorted(id for id, wanted in waiting.items() if wanted)
    if stuck:
        raise invalid("/", f"Dependency graph has cyclic dependencies. Apps: {', '.join(stuck)}")
    return depth


def refuse_invalid(root: Group) -> dict[str, int]:
    """`layers`; raises `Refused` (422) unless the tree as a whole is sound.

    Children are below their group, no app shares its id with a group, dependencies exist and are
    free of cycles, roles are enforced on top-level groups only.
    """
    known = {group.id for group in walk(root)}
    app_ids = {each.id for each in apps(root)}
    for clash in sorted(known & app_ids):
        raise same_path(clash)
    for group in walk(root):
        # Ids hold no empty segment: what begins with the group's and has one more slash is below.
        below = "/" if group.id == paths.ROOT else group.id + "/"
        depth = below.count("/")
        for child in (*group.apps, *group.groups):
            if not child.startswith(below) or child.count("/") != depth:
                raise invalid("/", f"'{child}' is not a direct child of group '{group.id}'")
        if group.enforce_role and len(paths.segments(group.id)) != 1:
            raise invalid(
                "/enforceRole",
                f"enforceRole can only be set for top-level groups, and {group.id} is not "
                "top-level",
            )
        _refuse_unknown(group.id, group.dependencies, known, app_ids)
        for each in group.apps.values():
            if each.dependencies:
                _refuse_unknown(each.id, each.dependencies, known, app_ids)
    return layers(root)


def _refuse_unknown(
    id: str, wanted: Iterable[str], known_groups: set[str], known_apps: set[str]
) -> None:
    for dependency in wanted:
        if dependency not in known_groups and dependency not in known_apps:
            raise invalid(
                "/dependencies", f"'{id}' depends on '{dependency}', which does not exist"
            )
