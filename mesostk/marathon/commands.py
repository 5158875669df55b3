"""The commands of the API: each changes the root, or kills, and is answered when that is durable.

Every handler either decides and returns, or raises `Refused` before anything was changed.
Source: spec/marathon §1.2-1.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from mesostk.marathon import (
    apps,
    audit,
    callbacks,
    groupcommands,
    groups,
    handover,
    paths,
    podcommands,
    repository,
    residents,
    taskinfo,
    versions,
)
from mesostk.marathon.appview import app_view
from mesostk.marathon.changing import (
    answer,
    deploy,
    known_app,
    new_version,
    no_app,
    posts_of,
    stamp,
    tell_preview,
    with_apps,
)
from mesostk.marathon.deploying import cancel, change_root, current_step
from mesostk.marathon.events import (
    Abdicate,
    AddCallback,
    ChangeGroup,
    Command,
    CreateApp,
    CreatePod,
    DeleteApp,
    DeleteDeployment,
    DeleteGroup,
    DeletePod,
    Evacuate,
    KillInstances,
    KillTasks,
    PatchGroup,
    PutApps,
    PutPod,
    RemoveCallback,
    ResetDelay,
    RestartApp,
)
from mesostk.marathon.explaining import of_step
from mesostk.marathon.groups import Group
from mesostk.marathon.instances import Instance
from mesostk.marathon.refusal import Refused, invalid, malformed
from mesostk.marathon.repository import Deployment
from mesostk.marathon.state import State, Turn
from mesostk.marathon.tracking import decommission
from mesostk.marathon.views import agent_view, task_view
from mesostk.wire.marathon import AppDefinition, TaskCounts


def run(state: State, turn: Turn, command: Command) -> None:
    """Do one command, or answer why not."""
    try:
        HANDLERS[type(command)](state, turn, command)
    except Refused as refused:
        turn.refuse(command.request, refused)


def _location(command: Command, app_id: str) -> str:
    return f"{command.caller.base_url}/v2/apps{app_id}"


# -- apps -------------------------------------------------------------------------------------


def _create_app(state: State, turn: Turn, command: CreateApp) -> None:
    app = apps.normalise(command.body, settings=state.app_settings)
    if app.id in state.apps:
        raise Refused(409, f"An app with id [{app.id}] already exists.")
    version = new_version(state, turn)
    stamped = stamp(state, [(None, app)], version)
    root = with_apps(state, stamped, version)
    if command.dry_run:
        tell_preview(state, turn, command, root)
        return
    posts = posts_of(turn, command, stamped)
    deployment = deploy(state, turn, command, root, version, posts)
    view = app_view(stamped[0], counts=TaskCounts(), deployments=[deployment.id], tasks=())
    headers = {
        "Location": _location(command, app.id),
        "Marathon-Deployment-Id": deployment.id,
    }
    turn.reply(command.request, 201, view, headers)


def _put_apps(state: State, turn: Turn, command: PutApps) -> None:
    pairs = [_merged(state, command, body) for body in command.bodies]
    ids = [app.id for _, app in pairs]
    if len(set(ids)) != len(ids):
        raise malformed("/", "an app is named twice")
    version = new_version(state, turn)
    stamped = stamp(state, pairs, version, force=command.force, may_restart=command.may_restart)
    changed = [new for (old, _), new in zip(pairs, stamped, strict=True) if new != old]
    root = with_apps(state, changed, version) if changed else state.root
    if command.dry_run:
        tell_preview(state, turn, command, root)
        return
    posts = posts_of(turn, command, stamped)
    deployment = deploy(state, turn, command, root, version, posts)
    is_new = command.app_id is not None and pairs[0][0] is None
    location = _location(command, ids[0]) if is_new else ""
    answer(turn, command, deployment, 201 if is_new else 200, location)


def _merged(
    state: State, command: PutApps, body: Mapping[str, object]
) -> tuple[AppDefinition | None, AppDefinition]:
    """The app as it is, and as the body wants it."""
    id = command.app_id
    if id is None:
        given = body.get("id")
        if not isinstance(given, str):
            raise malformed("/id", "is required and missing")
        id = paths.absolute(given)
    before = state.apps.get(id)
    if before is not None and before.pod is not None:
        raise Refused(409, f"A pod with id [{id}] already exists.")
    if before is None and not command.may_create:
        raise no_app(id)
    rollback = apps.rollback_version(body)
    if rollback is not None:
        if before is None:
            raise no_app(id)
        return before, _stored(state, id, rollback)
    _refuse_stale(body, before, partial=command.partial)
    base = before if command.partial else None
    return before, apps.normalise(body, base, id=id, settings=state.app_settings)


def _refuse_stale(
    body: Mapping[str, object], before: AppDefinition | None, *, partial: bool
) -> None:
    """A `version` beside other fields must be the app's own: as it was read, before it was edited.

    The original refuses any; with another version a client wants a roll-back, or edits what was
    changed since. In a complete definition it is ignored, as the original does.
    """
    version = body.get("version")
    if before is None or not partial or version is None or version == before.version:
        return
    raise invalid(
        "/",
        "The 'version' field may only be combined with the 'id' field. Leave it out, or read the "
        f"app again: its version is {before.version}",
    )


def _stored(state: State, id: str, version: str) -> AppDefinition:
    stored = state.versions.get(id, {}).get(version)
    if stored is None:
        raise Refused(404, f"App '{id}' does not exist in version '{version}'")
    return stored


def _delete_app(state: State, turn: Turn, command: DeleteApp) -> None:
    known_app(state, command.app_id)
    version = new_version(state, turn)
    root = groups.delete_app(state.root, command.app_id, version)
    answer(turn, command, deploy(state, turn, command, root, version))


def _restart_app(state: State, turn: Turn, command: RestartApp) -> None:
    app = known_app(state, command.app_id)
    version = new_version(state, turn)
    root = groups.put_app(state.root, versions.restarted(app, version), version)
    answer(turn, command, deploy(state, turn, command, root, version))


def _reset_delay(state: State, turn: Turn, command: ResetDelay) -> None:
    if command.app_id not in state.wants:
        raise Refused(404, f"Application {command.app_id} not found in tasks queue.")
    state.delays.clear_app(command.app_id)
    state.reconsider.add(command.app_id)
    turn.reply(command.request, 204)


# -- tasks ------------------------------------------------------------------------------------


def _kill_tasks(state: State, turn: Turn, command: KillTasks) -> None:
    if command.scale and command.wipe:
        raise Refused(400, "You cannot use scale and wipe at the same time.")
    found = _matching(state, command)
    if command.scale:
        deployment = _scale_down(state, turn, command, found)
        answer(turn, command, deployment)
        return
    views = [task_view(state, instance) for instance in found]
    for instance in found:
        decommission(state, turn, instance, "killed by an operator")
    if command.wipe:
        kept = (state.residences.get(instance.id) for instance in found)
        residents.leave(state, turn, [each for each in kept if each is not None])
    audit.book(state, turn, command, detail=_killed(found))
    turn.reply(command.request, 200, {"task": views[0]} if command.one else {"tasks": views})


def _killed(found: Sequence[Instance]) -> str:
    """The tasks that were killed, in words; some of them, if there are many."""
    named = ", ".join(instance.task_id for instance in found[: audit.MAX_CHANGES])
    return f"killed {len(found)} tasks: {named}"


def _matching(state: State, command: KillTasks) -> list[Instance]:
    """The instances that the command means; Refused (404) for an app or single task unknown."""
    if command.app_id is not None:
        known_app(state, command.app_id)
    if command.task_ids is None:
        assert command.app_id is not None
        return [
            instance
            for instance in state.of_app(command.app_id)
            if command.host in {None, "*", instance.host}
        ]
    found = []
    for task_id in dict.fromkeys(command.task_ids):
        id = state.by_task.get(task_id)
        instance = None if id is None else state.instances[id]
        if instance is not None and command.app_id in {None, instance.app_id}:
            found.append(instance)
        elif not command.one and taskinfo.app_of(task_id) is None:
            raise Refused(400, f"Invalid task id '{task_id[:200]}'")
        elif command.one:
            raise Refused(404, f"Task '{task_id}' does not exist")
    return found


def _scale_down(
    state: State, turn: Turn, command: KillTasks, found: Sequence[Instance]
) -> Deployment:
    """Want fewer instances of each app by those found, and choose these to go."""
    version = new_version(state, turn)
    killed: dict[str, int] = {}
    for instance in found:
        killed[instance.app_id] = killed.get(instance.app_id, 0) + 1
    changed = []
    for app_id, count in killed.items():
        app = state.apps.get(app_id)
        if app is None:
            continue
        fewer = msgspec.structs.replace(app, instances=max(0, app.instances - count))
        changed.append(versions.stamped(app, fewer, version))
    root = groups.put_apps(state.root, changed, version) if changed else state.root
    deployment = deploy(state, turn, command, root, version)
    for instance in found:
        decommission(state, turn, instance, "killed and scaled down by an operator")
    return deployment


def _evacuate(state: State, turn: Turn, command: Evacuate) -> None:
    wanted = not command.cancel
    for instance in state.on_agent(command.agent_id):
        app = state.app_of(instance)
        if instance.is_leaving == wanted or (app is not None and apps.is_resident(app)):
            continue  # a resident's volumes cannot follow it
        state.put_instance(turn, msgspec.structs.replace(instance, is_leaving=wanted))
        state.dirty.add(instance.app_id)
    audit.book(state, turn, command, detail=f"agent {command.agent_id}")
    turn.note("Evacuating" if wanted else "No longer evacuating", agent=command.agent_id)
    turn.reply(command.request, 200, agent_view(state, command.agent_id))


# -- deployments ------------------------------------------------------------------------------


def _delete_deployment(state: State, turn: Turn, command: DeleteDeployment) -> None:
    deployment = state.deployments.get(command.deployment_id)
    if deployment is None:
        raise Refused(404, f"DeploymentPlan {command.deployment_id} does not exist")
    if command.force:
        cancel(state, turn, deployment, "cancelled by an operator")
        audit.book(state, turn, command, detail=f"cancelled deployment {deployment.id}")
        turn.reply(command.request, 202)
        return
    version = new_version(state, turn)
    root = _reverted(state, deployment, version)
    reverting = change_root(state, turn, root, version, force=True, reverts=deployment.id)
    audit.book(state, turn, command, reverting, f"rolled back deployment {deployment.id}")
    answer(turn, command, reverting)


def roll_back_overdue(state: State, turn: Turn) -> None:
    """Take back every deployment that is not done in the time it was given."""
    for deployment in list(state.deployments.values()):
        timeout_s = deployment.timeout_s
        if timeout_s is None or turn.wall_s - deployment.created_at < timeout_s:
            continue
        if deployment.id not in state.deployments:
            continue  # the roll-back of another one ended it
        step = current_step(state, deployment)
        waits = [f"{each.app}: {'; '.join(each.reasons)}" for each in of_step(state, step)]
        reason = f"not done after {timeout_s:g} s, rolled back ({' | '.join(waits)})"
        version = new_version(state, turn)
        try:
            root = _reverted(state, deployment, version)
            reverting = change_root(
                state, turn, root, version, force=True, reverts=deployment.id, cancels=reason
            )
            audit.book_own(state, turn, reverting, f"deployment {deployment.id}: {reason}")
        except Refused as refused:
            # Another change built upon it since; it goes on, and is not tried again.
            turn.note("Cannot roll back", "ERROR", id=deployment.id, reason=str(refused.body()))
            endless = msgspec.structs.replace(deployment, timeout_s=None)
            state.deployments[deployment.id] = endless
            turn.put(repository.deployment_path(deployment.id), repository.write(endless))


def _reverted(state: State, deployment: Deployment, version: str) -> Group:
    """The root with only the apps of `deployment` put back to what they were before it."""
    root = state.root
    for app_id, before in deployment.before.items():
        stored = None if before is None else state.versions.get(app_id, {}).get(before)
        if stored is not None:
            root = groups.put_app(root, stored, version)
        else:
            root = groups.delete_app(root, app_id, version)
            root = _without_empty_groups(root, paths.parent(app_id), version)
    return root


def _without_empty_groups(root: Group, id: str, version: str) -> Group:
    while id != paths.ROOT:
        group = groups.find(root, id)
        if group is None or group.apps or group.groups or group.dependencies:
            return root
        root = groups.delete_group(root, id, version)
        id = paths.parent(id)
    return root


HANDLERS: dict[type[Command], Callable[[State, Turn, Any], None]] = {
    CreateApp: _create_app,
    PutApps: _put_apps,
    DeleteApp: _delete_app,
    RestartApp: _restart_app,
    KillTasks: _kill_tasks,
    ChangeGroup: groupcommands.change,
    PatchGroup: groupcommands.patch,
    DeleteGroup: groupcommands.delete,
    DeleteDeployment: _delete_deployment,
    ResetDelay: _reset_delay,
    Evacuate: _evacuate,
    Abdicate: handover.abdicate,
    AddCallback: callbacks.add,
    RemoveCallback: callbacks.remove,
    CreatePod: podcommands.create,
    PutPod: podcommands.put,
    DeletePod: podcommands.delete,
    KillInstances: podcommands.kill,
}
