"""The root group: an immutable tree of groups and apps; every change gives a new root.

::

    Root "/" v7 ── apps {/web: v7} ── groups {/prod: v5} ── /prod v5 ── apps {/prod/db: v3} …
                                             └── untouched subtrees are shared by old and new root

In the store a group is a `GroupNode` of references; `changed_nodes` tells which ones a change must
write (only the path from the changed place to the root), `assemble` builds the tree from them.
Sources: spec/marathon §1.6 (groups), §3.1 (dependencies).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from mesostk.marathon import paths
from mesostk.marathon.refusal import Refused, invalid
from mesostk.wire.marathon import AppDefinition, GroupNode


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


def walk(group: Group) -> Iterator[Group]:
    """`group` and every group below it, parents first."""
    yield group
    for child in group.groups.values():
        yield from walk(child)


# -- change -----------------------------------------------------------------------------------


def put_app(root: Group, app: AppDefinition, version: str) -> Group:
    """`root` with `app` in it, its groups made where missing; every group on the way is `version`.

    Raises `Refused` (422) where a group has the app's id, or an app the id of one of its groups.
    """
    if find(root, app.id) is not None:
        raise same_path(app.id)
    parent = _grown(root, paths.parent(app.id))
    changed = msgspec.structs.replace(parent, apps={**parent.apps, app.id: app})
    return put_group(root, changed, version)


def put_apps(root: Group, changed: Iterable[AppDefinition], version: str) -> Group:
    """`put_app` for several."""
    for each in changed:
        root = put_app(root, each, version)
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
    for group in walk(root):
        above = inherited.get(paths.parent(group.id), frozenset())
        inherited[group.id] = above | frozenset(group.dependencies)
        for each in group.apps.values():
            named[each.id] = inherited[group.id] | frozenset(each.dependencies)
    members: dict[str, frozenset[str]] = {}
    for id in {id for wanted in named.values() for id in wanted}:
        group_named = find(root, id)
        found = (each.id for each in apps(group_named)) if group_named is not None else (id,)
        members[id] = frozenset(found) & named.keys()
    return {
        id: frozenset(member for each in wanted for member in members[each])
        for id, wanted in named.items()
    }


def layers(root: Group) -> dict[str, int]:
    """For every app the length of the longest dependency path below it; 0 = waits for none.

    Raises `Refused` (422) where apps wait for each other.
    """
    waiting = {id: set(wanted) for id, wanted in dependencies(root).items()}
    dependents: dict[str, list[str]] = {id: [] for id in waiting}
    for id, wanted in waiting.items():
        for dependency in wanted:
            dependents[dependency].append(id)
    depth: dict[str, int] = {}
    ready = [id for id, wanted in waiting.items() if not wanted]
    while ready:
        id = ready.pop()
        depth.setdefault(id, 0)
        for dependent in dependents[id]:
            depth[dependent] = max(depth.get(dependent, 0), depth[id] + 1)
            waiting[dependent].discard(id)
            if not waiting[dependent]:
                ready.append(dependent)
    stuck = sorted(id for id, wanted in waiting.items() if wanted)
    if stuck:
        raise invalid("/", f"Dependency graph has cyclic dependencies. Apps: {', '.join(stuck)}")
    return depth


def refuse_invalid(root: Group) -> None:
    """Raise `Refused` (422) unless the tree as a whole is sound.

    Children are below their group, no app shares its id with a group, dependencies exist and are
    free of cycles, roles are enforced on top-level groups only.
    """
    known = {group.id for group in walk(root)}
    app_ids = {each.id for each in apps(root)}
    every = known | app_ids
    for clash in sorted(known & app_ids):
        raise same_path(clash)
    for group in walk(root):
        for child in (*group.apps, *group.groups):
            if paths.parent(child) != group.id:
                raise invalid("/", f"'{child}' is not a direct child of group '{group.id}'")
        if group.enforce_role and len(paths.segments(group.id)) != 1:
            raise invalid("/enforceRole", "can only be set on top-level groups")
        _refuse_unknown(group.id, group.dependencies, every)
        for each in group.apps.values():
            _refuse_unknown(each.id, each.dependencies, every)
    layers(root)


def _refuse_unknown(id: str, wanted: Iterable[str], known: set[str]) -> None:
    for dependency in wanted:
        if dependency not in known:
            raise invalid(
                "/dependencies", f"'{id}' depends on '{dependency}', which does not exist"
            )


# -- records ----------------------------------------------------------------------------------


def node(group: Group) -> GroupNode:
    """The stored form: references by version."""
    return GroupNode(
        id=group.id,
        version=group.version,
        apps={id: app.version or "" for id, app in group.apps.items()},
        groups={id: child.version for id, child in group.groups.items()},
        dependencies=group.dependencies,
        enforce_role=group.enforce_role,
    )


def changed_nodes(old: Group, new: Group) -> list[GroupNode]:
    """The group records that `new` needs and `old` did not have."""
    had = {(group.id, group.version) for group in walk(old)}
    return [node(group) for group in walk(new) if (group.id, group.version) not in had]


def assemble(
    nodes: Mapping[tuple[str, str], GroupNode],
    definitions: Mapping[tuple[str, str], AppDefinition],
    version: str,
    id: str = paths.ROOT,
) -> tuple[Group, list[str]]:
    """The tree below record (`id`, `version`), and what it refers to but was not found."""
    stored = nodes.get((id, version))
    if stored is None:
        return Group(id=id, version=version), [f"group {id} {version}"]
    missing: list[str] = []
    found: dict[str, AppDefinition] = {}
    for app_id, app_version in stored.apps.items():
        definition = definitions.get((app_id, app_version))
        if definition is None:
            missing.append(f"app {app_id} {app_version}")
        else:
            found[app_id] = definition
    children: dict[str, Group] = {}
    for child_id, child_version in stored.groups.items():
        if paths.parent(child_id) != id:
            missing.append(f"group {child_id} is no child of {id}")
            continue
        children[child_id], lost = assemble(nodes, definitions, child_version, child_id)
        missing += lost
    group = Group(
        id=id,
        version=version,
        apps=found,
        groups=children,
        dependencies=stored.dependencies,
        enforce_role=stored.enforce_role,
    )
    return group, missing
