"""The commands of `/v2/groups`.

Source: spec/marathon §1.6.
"""

from __future__ import annotations

import msgspec

from mesostk.marathon import audit, groupchange, groups, paths, plan, roles
from mesostk.marathon.appinput import read_as
from mesostk.marathon.changing import answer, deploy, new_version, posts_of, stamp
from mesostk.marathon.deploying import store_root
from mesostk.marathon.events import ChangeGroup, DeleteGroup, PatchGroup
from mesostk.marathon.grouprecords import assemble
from mesostk.marathon.groups import Group
from mesostk.marathon.refusal import Refused, invalid
from mesostk.marathon.state import State, Turn
from mesostk.wire.marathon import DryRun


class GroupPatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What can be changed of a group without a deployment."""

    enforce_role: bool | None = None


def change(state: State, turn: Turn, command: ChangeGroup) -> None:
    """`POST` and `PUT /v2/groups/{id}`."""
    update = groupchange.read(command.body)
    id = command.group_id
    if command.create:
        id = groupchange.created_id(update, id) if update.id is not None else id
        if groups.find(state.root, id) is not None:
            raise Refused(409, f"Group {id} is already created. Use PUT to change this group.")
        if id in state.apps:
            raise Refused(409, f"An app with the path {id} already exists.")
    version = new_version(state, turn)
    wanted = groupchange.changed(
        state.root, id, update, state.app_settings, lambda *which: group_at(state, *which)
    )
    pairs = [(state.apps.get(app.id), app) for app in groups.apps(wanted)]
    tree = _planted(state, wanted, version)
    stamped = {app.id: app for app in stamp(state, pairs, version, root=tree, force=command.force)}
    root = _planted(state, groupchange.replaced(wanted, stamped, version), version)
    if command.dry_run:
        groups.refuse_invalid(root)
        turn.reply(command.request, 200, DryRun(steps=plan.steps(state.root, root)))
        return
    changed = [app for old, app in pairs if old != stamped[app.id] and app.pod is None]
    posts = posts_of(turn, command, changed)
    deployment = deploy(state, turn, command, root, version, posts)
    location = f"{command.caller.base_url}/v2/groups{id}" if command.create else ""
    answer(turn, command, deployment, 201 if command.create else 200, location)


def _planted(state: State, wanted: Group, version: str) -> Group:
    """The root with `wanted` in its place, and with the groups above it that it needs."""
    root = groups.put_group(state.root, wanted, version)
    if len(paths.segments(wanted.id)) < 2:
        return root  # top-level groups that the request names were given their answer
    return roles.with_new_groups(state.root, root, state.app_settings)


def patch(state: State, turn: Turn, command: PatchGroup) -> None:
    """`PATCH /v2/groups/{id}`: deploys nothing, for services keep the roles that they have."""
    id = command.group_id
    if len(paths.segments(id)) != 1:
        raise invalid("/", "Path needs to be top-level")
    group = groups.find(state.root, id)
    if group is None:
        raise Refused(404, f"Group '{id}' does not exist")
    wanted = read_as(command.body, GroupPatch).enforce_role
    if wanted is None:
        wanted = state.app_settings.enforce_new_groups
    if wanted != group.enforce_role:
        patched = msgspec.structs.replace(group, enforce_role=wanted)
        version = new_version(state, turn)
        store_root(state, turn, groups.put_group(state.root, patched, version))
    audit.book(state, turn, command, detail=f"enforceRole={str(wanted).lower()}")
    turn.reply(command.request, 200)


def group_at(state: State, id: str, version: str) -> Group:
    """The group `id` as it was in `version`; Refused (404) where that is not kept."""
    if version not in state.group_versions.get(id, {}):
        raise Refused(404, f"Group '{id}' does not exist in version {version}")
    group, missing = assemble(state.group_versions, state.shards, state.versions, version, id)
    if missing:
        raise Refused(404, f"Group '{id}' in version {version} is no longer complete: {missing}")
    return group


def delete(state: State, turn: Turn, command: DeleteGroup) -> None:
    """`DELETE /v2/groups/{id}`."""
    if groups.find(state.root, command.group_id) is None:
        raise Refused(404, f"Group '{command.group_id}' does not exist")
    version = new_version(state, turn)
    root = groups.delete_group(state.root, command.group_id, version)
    answer(turn, command, deploy(state, turn, command, root, version))
