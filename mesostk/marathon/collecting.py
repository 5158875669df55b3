"""Old versions of apps and groups go: all of what was deleted, all but the newest few of the rest.

A version stays while anything refers to it: the root that counts, a running deployment, an
instance. Source: spec/marathon §3.12 (garbage collection, `--zk_max_versions`).
"""

from __future__ import annotations

from collections.abc import Iterable

from mesostk.marathon import groups, paths, repository
from mesostk.marathon.repository import Deployment
from mesostk.marathon.state import State, Turn


def after(state: State, turn: Turn, deployment: Deployment) -> None:
    """Collect what `deployment`, which is over, leaves behind."""
    _collect_apps(state, turn, deployment.after)
    above = {id for app in deployment.after for id in paths.ancestors(app)}
    _collect_groups(state, turn, above | _gone_groups(state))


def sweep(state: State, turn: Turn) -> None:
    """The same for everything, at the start: an earlier leader may have died before it did."""
    _collect_apps(state, turn, list(state.versions))
    _collect_groups(state, turn, list(state.group_versions))
    named = {
        (id, shard, version)
        for id, of in state.group_versions.items()
        for node in of.values()
        for shard, version in node.shards.items()
    }
    for key in [key for key in state.shards if key not in named]:
        del state.shards[key]
        turn.delete(repository.shard_path(*key))


def _collect_apps(state: State, turn: Turn, ids: Iterable[str]) -> None:
    for id in ids:
        known = state.versions.get(id, {})
        surplus = len(known) > state.settings.max_versions
        if (id in state.apps and not surplus) or paths.safe(id) in state.quarantined:
            continue
        kept = {instance.version for instance in state.of_app(id)}
        lock = state.locks.get(id)
        if lock is not None:
            held = state.deployments[lock]
            kept |= {version for of in (held.before, held.after) if (version := of.get(id))}
        if id in state.apps:
            kept.add(state.apps[id].version or "")
            kept.update(sorted(known)[-state.settings.max_versions :])
        for version in [version for version in known if version not in kept]:
            del known[version]
            turn.delete(repository.app_path(id, version))
        if not known:
            state.versions.pop(id, None)


def _gone_groups(state: State) -> set[str]:
    return state.group_versions.keys() - {group.id for group in groups.walk(state.root)}


def _collect_groups(state: State, turn: Turn, ids: Iterable[str]) -> None:
    for id in ids:
        known = state.group_versions.get(id, {})
        group = groups.find(state.root, id)
        most = 0 if group is None else state.settings.max_versions
        if len(known) <= most:
            continue
        newest = set(sorted(known)[len(known) - most :])
        if group is not None:
            newest.add(group.version)
        dropped = [known.pop(version) for version in list(known) if version not in newest]
        if not known:
            state.group_versions.pop(id, None)
        still = {pair for node in known.values() for pair in node.shards.items()}
        for node in dropped:
            turn.delete(repository.group_path(id, node.version))
            for shard, version in node.shards.items():
                key = (id, shard, version)
                if (shard, version) not in still and state.shards.pop(key, None) is not None:
                    turn.delete(repository.shard_path(*key))
