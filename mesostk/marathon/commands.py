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
    groupchange,
    groups,
    paths,
    plan,
    podcommands,
    ports,
    repository,
    residents,
    validation,
    versions,
)
from mesostk.marathon.appview import app_view
from mesostk.marathon.deploying import cancel, change_root, current_step
from mesostk.marathon.events import (
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
    PutApps,
    PutPod,
    RemoveCallback,
    ResetDelay,
    RestartApp,
)
from mesostk.marathon.explaining import of_step
from mesostk.marathon.grouprecords import assemble
from mesostk.marathon.groups import Group
from mesostk.marathon.instances import Instance
from mesostk.marathon.preview import preview
from mesostk.marathon.refusal import Refused, malformed
from mesostk.marathon.repository import Deployment
from mesostk.marathon.state import State, Turn
from mesostk.marathon.timestamps import next_version
from mesostk.marathon.tracking import decommission
from mesostk.marathon.views import agent_view, task_view
from mesostk.wire.marathon import ApiPostEvent, AppDefinition, DeploymentResult, DryRun, TaskCounts


def no_app(id: str) -> Refused:
    """404 for an app."""
    return Refused(404, f"App '{id}' does not exist")


def known_app(state: State, id: str) -> AppDefinition:
    """The app `id`; Refused (404) where there is none, or a pod of that name."""
    app = state.apps.get(id)
    if app is None or app.pod is not None:
        raise no_app(id)
    return app


def run(state: State, turn: Turn, command: Command) -> None:
    """Do one command, or answer why not."""
    try:
        HANDLERS[type(command)](state, turn, command)
    except Refused as refused:
        turn.refuse(command.request, refused)


def _next_version(state: State, turn: Turn) -> str:
    return next_version(turn.wall_s, state.last_version)


def _answer(
    turn: Turn, command: Command, deployment: Deployment, status: int = 200, location: str = ""
) -> None:
    headers = {"Marathon-Deployment-Id": deployment.id}
    if location:
        headers["Location"] = location
    body = DeploymentResult(version=deployment.version, deployment_id=deployment.id)
    turn.reply(command.request, status, body, headers)


def _deploy(
    state: State,
    turn: Turn,
    command: Command,
    root: Group,
    version: str,
    posts: Sequence[ApiPostEvent] = (),
) -> Deployment:
    """`change_root` with what every command may say about its deployment."""
    timeout_s = command.timeout_s
    deployment = change_root(
        state, turn, root, version, force=command.force, posts=posts, timeout_s=timeout_s
    )
    if deployment.after:
        audit.book(state, turn, command, deployment)
    return deployment


def _location(command: Command, app_id: str) -> str:
    return f"{command.caller.base_url}/v2/apps{app_id}"


# -- apps -------------------------------------------------------------------------------------


def _create_app(state: State, turn: Turn, command: CreateApp) -> None:
    app = apps.normalise(command.body, settings=state.app_settings)
    if app.id in state.apps:
        raise Refused(409, f"An app with id [{app.id}] already exists.")
    version = _next_version(state, turn)
    stamped = _stamped(state, [(None, app)], version)
    root = groups.put_apps(state.root, stamped, version)
    if command.dry_run:
        _tell_preview(state, turn, command, root)
        return
    posts = _posts(turn, command, stamped)
    deployment = _deploy(state, turn, command, root, version, posts)
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
    version = _next_version(state, turn)
    stamped = _stamped(state, pairs, version, may_restart=command.may_restart)
    changed = [new for (old, _), new in zip(pairs, stamped, strict=True) if new != old]
    root = groups.put_apps(state.root, changed, version) if changed else state.root
    if command.dry_run:
        _tell_preview(state, turn, command, root)
        return
    posts = _posts(turn, command, stamped)
    deployment = _deploy(state, turn, command, root, version, posts)
    is_new = command.app_id is not None and pairs[0][0] is None
    location = _location(command, ids[0]) if is_new else ""
    _answer(turn, command, deployment, 201 if is_new else 200, location)


def _tell_preview(state: State, turn: Turn, command: Command, root: Group) -> None:
    groups.refuse_invalid(root)
    turn.reply(command.request, 200, preview(state, root))


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
    base = before if command.partial else None
    return before, apps.normalise(body, base, id=id, settings=state.app_settings)


def _stored(state: State, id: str, version: str) -> AppDefinition:
    stored = state.versions.get(id, {}).get(version)
    if stored is None:
        raise Refused(404, f"App '{id}' does not exist in version '{version}'")
    return stored


def _stamped(
    state: State,
    pairs: Sequence[tuple[AppDefinition | None, AppDefinition]],
    version: str,
    *,
    may_restart: bool = True,
) -> list[AppDefinition]:
    """The new definitions, valid, with service ports and versions."""
    new = sum(1 for before, _ in pairs if before is None)
    limit = state.settings.max_apps
    if limit is not None and new and len(state.apps) + new > limit:
        raise Refused(422, f"There are {len(state.apps)} apps; --max_apps allows {limit}")
    for before, app in pairs:
        if app.pod is not None:
            continue  # read and checked by `pods`, or kept as it is
        validation.refuse_invalid(app, state.app_settings, before)
    settings = state.settings
    numbered = ports.assign_service_ports(
        [app for _, app in pairs],
        state.apps,
        settings.local_port_min,
        settings.local_port_max,
    )
    return [
        versions.stamped(before, app, version, may_restart=may_restart)
        for (before, _), app in zip(pairs, numbered, strict=True)
    ]


def _posts(
    turn: Turn, command: Command, definitions: Sequence[AppDefinition]
) -> list[ApiPostEvent]:
    return [
        ApiPostEvent(
            timestamp=turn.at,
            client_ip=command.caller.client_ip,
            uri=command.caller.uri,
            app_definition=app_view(app),
        )
        for app in definitions
    ]


def _delete_app(state: State, turn: Turn, command: DeleteApp) -> None:
    known_app(state, command.app_id)
    version = _next_version(state, turn)
    root = groups.delete_app(state.root, command.app_id, version)
    _answer(turn, command, _deploy(state, turn, command, root, version))


def _restart_app(state: State, turn: Turn, command: RestartApp) -> None:
    app = known_app(state, command.app_id)
    version = _next_version(state, turn)
    root = groups.put_app(state.root, versions.restarted(app, version), version)
    _answer(turn, command, _deploy(state, turn, command, root, version))


def _reset_delay(state: State, turn: Turn, command: ResetDelay) -> None:
    if command.app_id not in state.wants:
        raise Refused(404, f"Application {command.app_id} not found in tasks queue.")
    state.delays.clear_app(command.app_id)
    state.reconsider.add(command.app_id)
    turn.reply(command.request, 204)


# -- groups -----------------------------------------------------------------------------------


def _change_group(state: State, turn: Turn, command: ChangeGroup) -> None:
    update = groupchange.read(command.body)
    id = command.group_id
    if command.create:
        id = groupchange.created_id(update, id) if update.id is not None else id
        if groups.find(state.root, id) is not None:
            raise Refused(409, f"Group {id} is already created. Use PUT to change this group.")
        if id in state.apps:
            raise Refused(409, f"An app with the path {id} already exists.")
    version = _next_version(state, turn)
    wanted = groupchange.changed(
        state.root, id, update, state.app_settings, lambda *which: group_at(state, *which)
    )
    pairs = [(state.apps.get(app.id), app) for app in groups.apps(wanted)]
    stamped = {app.id: app for app in _stamped(state, pairs, version)}
    root = groups.put_group(state.root, groupchange.replaced(wanted, stamped, version), version)
    if command.dry_run:
        groups.refuse_invalid(root)
        turn.reply(command.request, 200, DryRun(steps=plan.steps(state.root, root)))
        return
    changed = [app for old, app in pairs if old != stamped[app.id] and app.pod is None]
    posts = _posts(turn, command, changed)
    deployment = _deploy(state, turn, command, root, version, posts)
    location = f"{command.caller.base_url}/v2/groups{id}" if command.create else ""
    _answer(turn, command, deployment, 201 if command.create else 200, location)


def group_at(state: State, id: str, version: str) -> Group:
    """The group `id` as it was in `version`; Refused (404) where that is not kept."""
    if version not in state.group_versions.get(id, {}):
        raise Refused(404, f"Group '{id}' does not exist in version {version}")
    group, missing = assemble(state.group_versions, state.shards, state.versions, version, id)
    if missing:
        raise Refused(404, f"Group '{id}' in version {version} is no longer complete: {missing}")
    return group


def _delete_group(state: State, turn: Turn, command: DeleteGroup) -> None:
    if groups.find(state.root, command.group_id) is None:
        raise Refused(404, f"Group '{command.group_id}' does not exist")
    version = _next_version(state, turn)
    root = groups.delete_group(state.root, command.group_id, version)
    _answer(turn, command, _deploy(state, turn, command, root, version))


# -- tasks ------------------------------------------------------------------------------------


def _kill_tasks(state: State, turn: Turn, command: KillTasks) -> None:
    if command.scale and command.wipe:
        raise Refused(400, "You cannot use scale and wipe at the same time.")
    found = _matching(state, command)
    if command.scale:
        deployment = _scale_down(state, turn, command, found)
        _answer(turn, command, deployment)
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
        elif command.one:
            raise Refused(404, f"Task '{task_id}' does not exist")
    return found


def _scale_down(
    state: State, turn: Turn, command: KillTasks, found: Sequence[Instance]
) -> Deployment:
    """Want fewer instances of each app by those found, and choose these to go."""
    version = _next_version(state, turn)
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
    deployment = _deploy(state, turn, command, root, version)
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
    version = _next_version(state, turn)
    root = _reverted(state, deployment, version)
    reverting = change_root(state, turn, root, version, force=True, reverts=deployment.id)
    audit.book(state, turn, command, reverting, f"rolled back deployment {deployment.id}")
    _answer(turn, command, reverting)


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
        version = _next_version(state, turn)
        try:
            root = _reverted(state, deployment, version)
            change_root(
                state, turn, root, version, force=True, reverts=deployment.id, cancels=reason
            )
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
    ChangeGroup: _change_group,
    DeleteGroup: _delete_group,
    DeleteDeployment: _delete_deployment,
    ResetDelay: _reset_delay,
    Evacuate: _evacuate,
    AddCallback: callbacks.add,
    RemoveCallback: callbacks.remove,
    CreatePod: podcommands.create,
    PutPod: podcommands.put,
    DeletePod: podcommands.delete,
    KillInstances: podcommands.kill,
}
