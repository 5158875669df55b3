"""What all commands that change the root share: versions, checks, the deployment, the answer.

Source: spec/marathon §1.1-1.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesostk.marathon import audit, externals, groups, pods, ports, roles, validation, versions
from mesostk.marathon.apps import Settings
from mesostk.marathon.appview import app_view
from mesostk.marathon.deploying import change_root
from mesostk.marathon.events import Command
from mesostk.marathon.groups import Group
from mesostk.marathon.preview import preview
from mesostk.marathon.refusal import INVALID_OBJECT, Refused
from mesostk.marathon.repository import Deployment
from mesostk.marathon.state import State, Turn
from mesostk.marathon.timestamps import next_version
from mesostk.wire.marathon import (
    ApiPostEvent,
    AppDefinition,
    DeploymentResult,
    GroupChangeFailed,
    StreamEvent,
)


def no_app(id: str) -> Refused:
    """404 for an app."""
    return Refused(404, f"App '{id}' does not exist")


def known_app(state: State, id: str) -> AppDefinition:
    """The app `id`; Refused (404) where there is none, or a pod of that name."""
    app = state.apps.get(id)
    if app is None or app.pod is not None:
        raise no_app(id)
    return app


def new_version(state: State, turn: Turn) -> str:
    """A version later than any that was given before."""
    return next_version(turn.wall_s, state.last_version)


def answer(
    turn: Turn, command: Command, deployment: Deployment, status: int = 200, location: str = ""
) -> None:
    """Answer with the deployment; `location` is the address of what was created."""
    headers = {"Marathon-Deployment-Id": deployment.id}
    if location:
        headers["Location"] = location
    body = DeploymentResult(version=deployment.version, deployment_id=deployment.id)
    turn.reply(command.request, status, body, headers)


def deploy(
    state: State,
    turn: Turn,
    command: Command,
    root: Group,
    version: str,
    posts: Sequence[StreamEvent] = (),
) -> Deployment:
    """`change_root` with what every command may say about its deployment.

    Subscribers of events are told of a change that is refused, too.
    """
    timeout_s = command.timeout_s
    try:
        deployment = change_root(
            state, turn, root, version, force=command.force, posts=posts, timeout_s=timeout_s
        )
    except Refused as refused:
        reason = str(refused)
        turn.emit(
            GroupChangeFailed(timestamp=turn.at, group_id="/", version=version, reason=reason)
        )
        raise
    if deployment.after:
        audit.book(state, turn, command, deployment)
    return deployment


def tell_preview(state: State, turn: Turn, command: Command, root: Group) -> None:
    """Answer what `root` in place of the present one would do; nothing is changed."""
    groups.refuse_invalid(root)
    turn.reply(command.request, 200, preview(state, root))


def stamp(
    state: State,
    pairs: Sequence[tuple[AppDefinition | None, AppDefinition]],
    version: str,
    *,
    root: Group | None = None,
    force: bool = False,
    may_restart: bool = True,
) -> list[AppDefinition]:
    """The new definitions, valid, with roles, service ports and versions.

    `root` is the tree that tells which groups enforce their role, by default that of now. `force`
    lets the role of a resident app change.
    """
    new = sum(1 for before, _ in pairs if before is None)
    limit = state.settings.max_apps
    if limit is not None and new and len(state.apps) + new > limit:
        raise Refused(422, f"There are {len(state.apps)} apps; --max_apps allows {limit}")
    settings = state.settings
    tree = state.root if root is None else root
    checked = [
        _checked(tree, before, app, state.app_settings, force=force) for before, app in pairs
    ]
    _refuse_shared_volumes(tree, checked)
    numbered = ports.assign_service_ports(
        checked,
        state.apps,
        settings.local_port_min,
        settings.local_port_max,
    )
    return [
        versions.stamped(before, app, version, may_restart=may_restart)
        for (before, _), app in zip(pairs, numbered, strict=True)
    ]


def with_apps(state: State, stamped: Sequence[AppDefinition], version: str) -> Group:
    """The root with these apps or pods in it, and the groups that they need."""
    root = groups.put_apps(state.root, stamped, version)
    return roles.with_new_groups(state.root, root, state.app_settings)


def _checked(
    tree: Group,
    before: AppDefinition | None,
    app: AppDefinition,
    settings: Settings,
    *,
    force: bool,
) -> AppDefinition:
    """`app` with its role; Refused (422, all violations) unless it may take the place of `before`.

    What is kept as it is is not looked at: rules that came later must not stop other changes.
    """
    if app is before:
        return app
    choice = roles.choice(tree, app.id, settings, before)
    settled = roles.settled(app, choice)
    found = list(roles.violations(settled, choice, before, force=force))
    if app.pod is None:
        found = validation.violations(settled, settings, before) + found
    else:
        pods.refuse_unsupported(settled, settings, before)
    if found:
        raise Refused(422, INVALID_OBJECT, found)
    return settled


def _refuse_shared_volumes(tree: Group, checked: Sequence[AppDefinition]) -> None:
    """Refused (422) where an external volume would be used by two apps of the tree to be."""
    using = [app for app in checked if externals.of_app(app)]
    if not using:
        return
    after = {app.id: app for app in (*groups.apps(tree), *checked)}
    found = [each for app in using for each in externals.conflicts(app, after.values())]
    if found:
        raise Refused(422, INVALID_OBJECT, found)


def posts_of(
    turn: Turn, command: Command, definitions: Sequence[AppDefinition]
) -> list[ApiPostEvent]:
    """The events that tell of the request, one for each app that it names."""
    return [
        ApiPostEvent(
            timestamp=turn.at,
            client_ip=command.caller.client_ip,
            uri=command.caller.uri,
            app_definition=app_view(app),
        )
        for app in definitions
    ]
