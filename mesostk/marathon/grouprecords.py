"""Groups as they are stored: references only, and of a wide group only what changed.

::

    GroupNode /shop v7 ── apps {/shop/web: v7, …} ── groups {/shop/db: v3}       up to 256 apps
    GroupNode /shop v8 ── shards {00: v8, 01: v5, … 3f: v8}                      more of them
                             └─ GroupShard /shop 00 v8 ── apps {/shop/a: v2, /shop/q: v8 …}

An app is in the shard that the CRC of its id names, so a change of one app among 5,000 writes two
records of some KB instead of one of 400.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import msgspec

from mesostk.marathon import paths
from mesostk.marathon.groups import Group
from mesostk.wire.marathon import AppDefinition, GroupNode, GroupShard

#: From so many apps on a group has shards; it loses them only far below, so as not to alternate.
WIDE = 256
NARROW = 128

SHARDS = 64

#: (group id, shard, version).
ShardKey = tuple[str, str, str]


class Written(msgspec.Struct, frozen=True):
    """The records that a new tree needs and the old one did not have."""

    nodes: tuple[GroupNode, ...]
    shards: tuple[GroupShard, ...]


def shard_of(app_id: str) -> str:
    """The shard that an app of a wide group is in."""
    return f"{zlib.crc32(app_id.encode()) % SHARDS:02x}"


def changed(old: Group, new: Group, stored: Mapping[str, Mapping[str, GroupNode]]) -> Written:
    """What must be written when `new` takes the place of `old`; `stored` are all group records.

    Subtrees that both share are not looked at.
    """
    nodes: list[GroupNode] = []
    shards: list[GroupShard] = []
    for before, after in _pairs(old, new):
        known = None if before is None else stored.get(after.id, {}).get(before.version)
        node, own = _node(before, after, {} if known is None else known.shards)
        nodes.append(node)
        shards += own
    return Written(tuple(nodes), tuple(shards))


def _pairs(before: Group | None, after: Group) -> Iterator[tuple[Group | None, Group]]:
    """Every group of the new tree that differs, with what it was, parents first."""
    if before is after:
        return
    if before is None or before.version != after.version:
        yield before, after
    children = {} if before is None else before.groups
    for id, child in after.groups.items():
        yield from _pairs(children.get(id), child)


def _node(
    before: Group | None, after: Group, had: Mapping[str, str]
) -> tuple[GroupNode, list[GroupShard]]:
    node = GroupNode(
        id=after.id,
        version=after.version,
        groups={id: child.version for id, child in after.groups.items()},
        dependencies=after.dependencies,
        enforce_role=after.enforce_role,
    )
    if len(after.apps) < (NARROW if had else WIDE):
        apps = {id: app.version or "" for id, app in after.apps.items()}
        return msgspec.structs.replace(node, apps=apps), []
    touched = _touched(before, after) if had else None
    contents: dict[str, dict[str, str]] = {}
    for id, app in after.apps.items():
        shard = shard_of(id)
        if touched is None or shard in touched:
            contents.setdefault(shard, {})[id] = app.version or ""
    kept = {shard: version for shard, version in had.items() if shard not in (touched or ())}
    shards = {**kept, **dict.fromkeys(contents, after.version)}
    written = [
        GroupShard(id=after.id, shard=shard, version=after.version, apps=apps)
        for shard, apps in contents.items()
    ]
    return msgspec.structs.replace(node, shards=shards), written


def _touched(before: Group | None, after: Group) -> set[str]:
    """The shards whose apps are not all the same objects on both sides."""
    was = {} if before is None else before.apps
    found = {shard_of(id) for id, app in after.apps.items() if was.get(id) is not app}
    return found | {shard_of(id) for id in was if id not in after.apps}


def assemble(
    nodes: Mapping[str, Mapping[str, GroupNode]],
    shards: Mapping[ShardKey, GroupShard],
    definitions: Mapping[str, Mapping[str, AppDefinition]],
    version: str,
    id: str = paths.ROOT,
) -> tuple[Group, list[str]]:
    """The tree below record (`id`, `version`), and what it refers to but was not found."""
    stored = nodes.get(id, {}).get(version)
    if stored is None:
        return Group(id=id, version=version), [f"group {id} {version}"]
    missing: list[str] = []
    named = dict(stored.apps)
    for shard, shard_version in stored.shards.items():
        part = shards.get((id, shard, shard_version))
        if part is None:
            missing.append(f"shard {id} {shard} {shard_version}")
        else:
            named.update(part.apps)
    found: dict[str, AppDefinition] = {}
    for app_id, app_version in named.items():
        definition = definitions.get(app_id, {}).get(app_version)
        if definition is None:
            missing.append(f"app {app_id} {app_version}")
        else:
            found[app_id] = definition
    children: dict[str, Group] = {}
    for child_id, child_version in stored.groups.items():
        if paths.parent(child_id) != id:
            missing.append(f"group {child_id} is no child of {id}")
            continue
        children[child_id], lost = assemble(nodes, shards, definitions, child_version, child_id)
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
