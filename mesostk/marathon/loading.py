"""From the records of the store to the state of a new leader.

What cannot be read is named in the log and not used; what refers to it falls back to the newest
version that can be read. The instances of an app that is lost in this way are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mesostk.marathon import (
    callbacks,
    collecting,
    deploying,
    paths,
    probing,
    repository,
    residents,
    tracking,
)
from mesostk.marathon.grouprecords import ShardKey, assemble
from mesostk.marathon.groups import EMPTY, Group
from mesostk.marathon.instances import Goal
from mesostk.marathon.repository import Deployment, Records
from mesostk.marathon.state import State, Turn
from mesostk.wire.marathon import AppDefinition, GroupNode, GroupShard
from mesostk.wire.mesos import FrameworkId


def load(state: State, turn: Turn, stored: Mapping[str, bytes]) -> None:
    """Fill `state`, which is new, from the records; begin what runs again."""
    records = repository.read_all(stored)
    for path, reason in records.unreadable.items():
        turn.note("Leaving unreadable record alone", "ERROR", path=path, reason=reason)
        parts = path.split("/")
        if parts[0] == "apps" and len(parts) == 4:
            state.quarantined.add(parts[2])
    if records.framework_id is not None:
        state.framework_id = FrameworkId(records.framework_id)
    state.versions = records.apps = _with_roles(state, records.apps)
    state.group_versions = records.groups
    state.shards = records.shards
    versions = [version for of_app in records.apps.values() for version in of_app]
    versions += [version for of_group in records.groups.values() for version in of_group]
    state.last_version = max(versions, default=None)
    deploying.set_root(state, _root(state, records, turn))
    for deployment in sorted(records.deployments, key=lambda d: d.created_at):
        _take_deployment(state, turn, deployment)
    for residence in records.residences:
        residents.index(state, turn.now, residence)
    _take_instances(state, turn, records)
    _take_failures(state, turn, records)
    state.audit = {entry.timestamp: entry for entry in records.audit}
    collecting.sweep(state, turn)
    callbacks.begin(state, turn, records.callbacks)
    state.loaded = True
    turn.note(
        "Loaded",
        apps=len(state.apps),
        instances=len(state.instances),
        deployments=len(state.deployments),
        framework=state.framework_id,
    )


def _with_roles(
    state: State, apps: dict[str, dict[str, AppDefinition]]
) -> dict[str, dict[str, AppDefinition]]:
    """The definitions with a role, also those of versions of ours that knew only one."""
    role = state.settings.role
    return {
        id: {
            version: app if app.role is not None else msgspec.structs.replace(app, role=role)
            for version, app in of_app.items()
        }
        for id, of_app in apps.items()
    }


def _take_deployment(state: State, turn: Turn, deployment: Deployment) -> None:
    if not deployment.steps or any(id in state.locks for id in deployment.after):
        # Never written so by us; two holders of one app would undo each other.
        turn.note("Dropping deployment", "ERROR", id=deployment.id, reason="its apps are held")
        turn.delete(repository.deployment_path(deployment.id))
        return
    turn.note("Resuming deployment", id=deployment.id)
    deploying.hold(state, deployment)


def _take_instances(state: State, turn: Turn, records: Records) -> None:
    for instance in records.instances:
        state.index(instance)
        # Time in its condition goes on counting across the failover; a clock set back counts as 0.
        state.entered[instance.id] = turn.now - max(0.0, turn.wall_s - instance.since)
        state.dirty.add(instance.app_id)
        if instance.goal is not Goal.RUNNING:
            state.kills[instance.id] = tracking.resumed_kill(state, turn, instance)
        elif instance.is_running:
            probing.start(state, turn, instance)
    state.dirty.update(state.apps)


def _take_failures(state: State, turn: Turn, records: Records) -> None:
    for failure in records.failures:
        if failure.app_id in state.apps or failure.app_id in state.by_app:
            state.failures[failure.app_id] = failure
        else:
            turn.delete(repository.failure_path(failure.app_id))


# -- the root group ---------------------------------------------------------------------------


def _root(state: State, records: Records, turn: Turn) -> Group:
    """The tree that counts, mended where records are missing."""
    if records.root_version is None:
        of_root = records.groups.get(EMPTY.id, {})
        if repository.ROOT not in records.unreadable or not of_root:
            return EMPTY
        # The newest root is at most one unanswered change away from the one that counted.
        records.root_version = max(of_root)
    root, missing = assemble(records.groups, records.shards, records.apps, records.root_version)
    if not missing:
        return root
    # Stand-ins are for this tree only, no versions that anyone could ask for.
    nodes = {id: dict(of) for id, of in records.groups.items()}
    shards = dict(records.shards)
    definitions = {id: dict(of) for id, of in records.apps.items()}
    for what in missing:
        turn.note("Falling back to the newest readable version", "ERROR", instead_of=what)
        _mend(nodes, shards, definitions, what)
    mended, still = assemble(nodes, shards, definitions, records.root_version)
    for what in still:
        turn.note("Nothing to fall back to", "ERROR", instead_of=what)
        kind, _, rest = what.partition(" ")
        if kind in {"group", "shard"}:
            lost = rest.partition(" ")[0]
            inside = (id for id in records.apps if paths.is_below(id, lost))
            state.quarantined.update(paths.safe(id) for id in inside)
    return mended


def _mend(
    nodes: dict[str, dict[str, GroupNode]],
    shards: dict[ShardKey, GroupShard],
    definitions: dict[str, dict[str, AppDefinition]],
    what: str,
) -> None:
    """Stand the newest known version in for what `assemble` did not find: `app /x v1`."""
    kind, _, rest = what.partition(" ")
    id, *shard, version = rest.split(" ")
    if kind == "app" and definitions.get(id):
        definitions[id][version] = definitions[id][max(definitions[id])]
    elif kind == "group" and nodes.get(id):
        nodes[id][version] = nodes[id][max(nodes[id])]
    elif kind == "shard" and shard:
        known = [key for key in shards if key[:2] == (id, shard[0])]
        if known:
            shards[id, shard[0], version] = shards[max(known)]
