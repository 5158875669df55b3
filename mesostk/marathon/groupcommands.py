"""The commands of `/v2/groups`.

Source: spec/marathon §1.6.
"""

from __future__ import annotations

from mesostk.marathon import groupchange, groups, plan
from mesostk.marathon.changing import answer, deploy, new_version, posts_of, stamp
from mesostk.marathon.events import ChangeGroup, DeleteGroup
from mesostk.marathon.grouprecords import assemble
from mesostk.marathon.groups import Group
from mesostk.marathon.refusal import Refused
from mesostk.marathon.state import State, Turn
from mesostk.wire.marathon import DryRun


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
    stamped = {app.id: app for app in stamp(state, pairs, version)}
    root = groups.put_group(state.root, groupchange.replaced(wanted, stamped, version), version)
    if command.dry_run:
        groups.refuse_invalid(root)
        turn.reply(command.request, 200, DryRun(steps=plan.steps(state.root, root)))
        return
    changed = [app for old, app in pairs if old != stamped[app.id] and app.pod is None]
    posts = posts_of(turn, command, changed)
    deployment = deploy(state, turn, command, root, version, posts)
    location = f"{command.caller.base_url}/v2/groups{id}" if command.create else ""
    answer(turn, command, deployment, 201 if command.create else 200, location)


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
