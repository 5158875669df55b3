"""Deployments, and the comparison of every app with what is wanted of it.

::

    change_root ─▶ Deployment saved with the new root pointer ─▶ position 0
    settle: each app that something happened to ─▶ rollout decides ─▶ kill these, want k
            all actions of the step done ─▶ next step … ─▶ deployment removed

Nothing is counted along the way: after a failover each deployment begins at its first step again
and passes what is done already. An app that no deployment holds is kept at its wanted number, and
is moved off agents that are evacuated.
Source: spec/marathon §1.11, §3.1-3.3; order of writes: ARCHITECTURE §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mesostk.base.core import Put
from mesostk.marathon import (
    collecting,
    grouprecords,
    groups,
    plan,
    pods,
    probing,
    repository,
    residents,
    rollout,
)
from mesostk.marathon.deploymentview import plan_view, shown_step
from mesostk.marathon.groups import Group
from mesostk.marathon.instances import TERMINAL, Condition, Goal, Instance
from mesostk.marathon.paths import safe
from mesostk.marathon.refusal import Refused, locked
from mesostk.marathon.repository import Deployment
from mesostk.marathon.rollout import Decision, Member
from mesostk.marathon.state import State, Turn, Waiting, Want
from mesostk.marathon.tracking import decommission
from mesostk.marathon.versions import config_version
from mesostk.wire.marathon import (
    Action,
    AppDefinition,
    AppTerminated,
    DeploymentFailed,
    DeploymentInfoEvent,
    DeploymentStepFailure,
    DeploymentStepSuccess,
    DeploymentSuccess,
    GroupChangeSuccess,
    Step,
    StreamEvent,
)

#: Rounds of one settling; each kills or moves on, so more means that two decisions fight.
MAX_ROUNDS = 10_000


#: Up to this many instances an app is compared with what is wanted at every event.
LARGE = 50

#: Larger ones wait this long per instance between two comparisons: about a tenth of a core.
SECONDS_PER_INSTANCE = 50e-6


# -- a new root -------------------------------------------------------------------------------


def change_root(
    state: State,
    turn: Turn,
    root: Group,
    version: str,
    *,
    force: bool = False,
    reverts: str | None = None,
    posts: Sequence[StreamEvent] = (),
    timeout_s: float | None = None,
    cancels: str = "cancelled by a later, forced deployment",
) -> Deployment:
    """Put `root` in place of the present one, and begin the deployment that makes it true.

    `posts` are the events that tell of the request itself; they come first. `cancels` is the reason
    told of deployments that give way; what they were about is part of this one.

    Raises `Refused`: 409 where another deployment holds an affected app and `force` is not given,
    403 with too many deployments, 422 for an unsound tree. Nothing has changed then.
    """
    depth = groups.refuse_invalid(root)
    changed = plan.changes(state.root, root)
    blockers = {state.locks[id] for id in changed if id in state.locks}
    if blockers and not force:
        raise locked(sorted(blockers))
    changed |= _unfinished(state, root, blockers, changed)
    steps = plan.steps_of(changed, depth)
    limit = state.settings.max_running_deployments
    if steps and len(state.deployments) - len(blockers) >= limit:
        raise Refused(403, f"Max number ({limit}) of running deployments is achieved")
    for post in posts:
        turn.emit(post)
    for id in sorted(blockers):
        cancel(state, turn, state.deployments[id], cancels)
    deployment = _planned(state, turn, version, changed, steps)
    deployment = msgspec.structs.replace(deployment, reverts=reverts, timeout_s=timeout_s)
    if root is not state.root:
        store_root(state, turn, root, [c.after for c in changed.values() if c.after is not None])
    turn.emit(GroupChangeSuccess(timestamp=turn.at, group_id="/", version=version))
    _begin(state, turn, deployment)
    for change in changed.values():
        probing.tell_added(turn, change.before, change.after)
    return deployment


def _unfinished(
    state: State, root: Group, blockers: set[str], changed: Mapping[str, plan.Change]
) -> dict[str, plan.Change]:
    """What deployments that give way were about, too: it becomes part of the one that follows.

    Else apps that the later change leaves alone would stay halfway between two versions.
    """
    held = {id for blocker in blockers for id in state.deployments[blocker].after}
    left = {id: groups.app(root, id) for id in sorted(held - changed.keys())}
    return {id: plan.Change(before=app, after=app) for id, app in left.items()}


def _planned(
    state: State,
    turn: Turn,
    version: str,
    changed: Mapping[str, plan.Change],
    steps: tuple[Step, ...],
) -> Deployment:
    return Deployment(
        id=state.new_uuid(),
        version=version,
        created_at=turn.wall_s,
        steps=steps,
        before={id: _version(change.before) for id, change in changed.items()},
        after={id: _version(change.after) for id, change in changed.items()},
        original=state.root.version,
        pods=tuple(
            id
            for id, change in changed.items()
            if any(side is not None and side.pod for side in (change.before, change.after))
        ),
    )


def _version(app: AppDefinition | None) -> str | None:
    return None if app is None else app.version


def store_root(state: State, turn: Turn, root: Group, apps: Iterable[AppDefinition] = ()) -> None:
    """Write what the new root refers to, `apps` that changed among it, then the pointer to it."""
    for app in apps:
        assert app.version is not None  # stamped before it entered the root
        of_app = state.versions.setdefault(app.id, {})
        if app.version not in of_app:
            of_app[app.version] = app
            path = repository.app_path(app.id, app.version)
            turn.prepare([Put(path, repository.write(app))])
    written = grouprecords.changed(state.root, root, state.group_versions)
    for part in written.shards:
        state.shards[part.id, part.shard, part.version] = part
        path = repository.shard_path(part.id, part.shard, part.version)
        turn.prepare([Put(path, repository.write(part))])
    for node in written.nodes:
        state.group_versions.setdefault(node.id, {})[node.version] = node
        path = repository.group_path(node.id, node.version)
        turn.prepare([Put(path, repository.write(node))])
    turn.put(repository.ROOT, repository.write(repository.RootPointer(root.version)))
    set_root(state, root)


def set_root(state: State, root: Group) -> None:
    """Make `root` the tree that counts."""
    state.root = root
    state.apps = {app.id: app for app in groups.apps(root)}
    state.app_roles = frozenset({app.role for app in state.apps.values() if app.role is not None})
    if state.last_version is None or root.version > state.last_version:
        state.last_version = root.version


def _begin(state: State, turn: Turn, deployment: Deployment) -> None:
    turn.note("Deploying", id=deployment.id, apps=",".join(deployment.after) or "-")
    if not deployment.steps:
        turn.emit(_success(turn, deployment))
        return
    turn.put(repository.deployment_path(deployment.id), repository.write(deployment))
    hold(state, deployment)
    for id in _restarted(deployment):
        state.delays.clear_app(id)
    _tell_step(state, turn, deployment)


def hold(state: State, deployment: Deployment) -> None:
    """Take a deployment in at its first step; its apps are held by it."""
    state.deployments[deployment.id] = deployment
    state.position[deployment.id] = 0
    state.actions[deployment.id] = _by_app(deployment)
    for id in deployment.after:
        state.locks[id] = deployment.id
        state.dirty.add(id)


def _restarted(deployment: Deployment) -> list[str]:
    return [
        action.app
        for step in deployment.steps
        for action in step.actions
        if action.action == "RestartApplication" and action.app is not None
    ]


# -- ends -------------------------------------------------------------------------------------


def cancel(state: State, turn: Turn, deployment: Deployment, reason: str) -> None:
    """Stop a deployment where it is; its apps are kept as they are then.

    The step it was at has failed, which is told first. Source: Marathon up to 1.4, where ending an
    action fails its step; later ones tell `deployment_failed` alone, which both send.
    """
    turn.note("Cancelling deployment", id=deployment.id, reason=reason)
    view = plan_view(deployment)
    step = shown_step(deployment, current_step(state, deployment))
    _release(state, turn, deployment)
    turn.emit(DeploymentStepFailure(timestamp=turn.at, plan=view, current_step=step))
    turn.emit(DeploymentFailed(timestamp=turn.at, id=deployment.id, plan=view, reason=reason))


def _release(state: State, turn: Turn, deployment: Deployment) -> None:
    del state.deployments[deployment.id]
    del state.position[deployment.id]
    del state.actions[deployment.id]
    for id in deployment.after:
        del state.locks[id]
        state.waiting.pop(id, None)
        state.dirty.add(id)
    turn.delete(repository.deployment_path(deployment.id))


def _finish(state: State, turn: Turn, deployment: Deployment) -> None:
    turn.note("Deployed", id=deployment.id)
    _release(state, turn, deployment)
    turn.emit(_success(turn, deployment))
    collecting.after(state, turn, deployment)


def _success(turn: Turn, deployment: Deployment) -> DeploymentSuccess:
    return DeploymentSuccess(timestamp=turn.at, id=deployment.id, plan=plan_view(deployment))


# -- settling ---------------------------------------------------------------------------------


def settle(state: State, turn: Turn) -> None:
    """Compare every app that something happened to with what is wanted, until nothing moves."""
    if state.settle_at is not None and turn.now >= state.settle_at:
        state.settle_at = None
    for _ in range(MAX_ROUNDS):
        touched = sorted(id for id in state.dirty if _is_due(state, turn, id))
        state.dirty.difference_update(touched)
        if not touched:
            return
        for app_id in touched:
            _settle_app(state, turn, app_id)
        for id in sorted({state.locks[app_id] for app_id in touched if app_id in state.locks}):
            _advance(state, turn, state.deployments[id])
    raise AssertionError(f"settling does not end: {sorted(state.dirty)}")


def _is_due(state: State, turn: Turn, app_id: str) -> bool:
    """Small apps at each event; large ones a few times a second, or n updates would cost n²."""
    size = len(state.by_app.get(app_id, ()))
    if size <= LARGE:
        return True
    due = state.settled_at.get(app_id, 0.0) + size * SECONDS_PER_INSTANCE
    if turn.now < due:
        state.settle_at = due if state.settle_at is None else min(state.settle_at, due)
        return False
    state.settled_at[app_id] = turn.now
    return True


def _settle_app(state: State, turn: Turn, app_id: str) -> None:
    app, decision = decide(state, app_id)
    state.reconsider.add(app_id)
    for instance_id in decision.kill:
        instance = state.instances.get(instance_id)  # type: ignore[call-overload] # plain str
        if instance is not None:
            decommission(state, turn, instance, "no longer wanted")
    launch = decision.launch
    if app is None or launch == 0:
        state.wants.pop(app_id, None)
        state.reasons.pop(app_id, None)
    else:
        want = state.wants.get(app_id)
        if want is None or want.app is not app:
            state.wants[app_id] = Want(app=app, count=launch, since_at=turn.wall_s)
        else:
            want.count = launch
    if app_id not in state.locks or decision.waiting is None:
        state.waiting.pop(app_id, None)
    elif app_id not in state.waiting or state.waiting[app_id].reason != decision.waiting:
        state.waiting[app_id] = Waiting(reason=decision.waiting, since_s=turn.now)


def decide(state: State, app_id: str) -> tuple[AppDefinition | None, Decision]:
    """What is to be done for an app now, and the definition to launch it by."""
    lock = state.locks.get(app_id)
    if lock is None:
        app = state.apps.get(app_id)
        if app is None and safe(app_id) in state.quarantined:
            return None, Decision()
        return app, _keep(state, app_id, app)
    deployment = state.deployments[lock]
    action = _action_at(state.actions[lock].get(app_id, []), state.position[lock])
    if action is None:
        before = _definition(state, app_id, deployment.before)
        return before, _keep(state, app_id, before)
    after = _definition(state, app_id, deployment.after)
    if action.action == "StartApplication":
        return after, Decision()
    if action.action == "StopApplication" or after is None:
        return None, rollout.stop(members(state, app_id, None))
    seen = members(state, app_id, after)
    outdated = any(m.is_wanted and not m.is_current and m.life != "ended" for m in seen)
    if action.action == "RestartApplication" or (outdated and after.instances > 0):
        return after, rollout.restart(after, seen)
    decision = rollout.scale(after, seen, deployment.created_at)
    return after, _within(after, seen, decision)


def _keep(state: State, app_id: str, app: AppDefinition | None) -> Decision:
    """What keeps an app as it is: its wanted number, or none of it."""
    if app is None:
        return rollout.stop(members(state, app_id, None))
    if app.instances > 0 and any(instance.is_leaving for instance in state.of_app(app_id)):
        return rollout.restart(app, _stayers_first(state, app_id, app))
    seen = members(state, app_id, app)
    return _within(app, seen, rollout.scale(app, seen))


def _stayers_first(state: State, app_id: str, app: AppDefinition) -> list[Member]:
    """The members as an evacuation sees them: only those that leave their agent are replaced."""
    leaving = {instance.id for instance in state.of_app(app_id) if instance.is_leaving}
    return [
        msgspec.structs.replace(member, is_current=member.id not in leaving)
        for member in members(state, app_id, app)
    ]


def _within(app: AppDefinition, seen: list[Member], decision: Decision) -> Decision:
    """Never more tasks than wanted at once: a replacement waits until the old one has ended."""
    present = sum(1 for m in seen if m.life not in {"ended", "inactive"})
    launch = min(decision.launch, max(0, app.instances - present))
    return Decision(kill=decision.kill, launch=launch, waiting=decision.waiting)


def _definition(state: State, app_id: str, versions: dict[str, str | None]) -> AppDefinition | None:
    version = versions.get(app_id)
    return None if version is None else state.versions.get(app_id, {}).get(version)


def _by_app(deployment: Deployment) -> dict[str, list[tuple[int, Action]]]:
    """The actions for each app with the index of their step, in order."""
    found: dict[str, list[tuple[int, Action]]] = {}
    for index, step in enumerate(deployment.steps):
        for action in step.actions:
            if action.app is not None:
                found.setdefault(action.app, []).append((index, action))
    return found


def _action_at(actions: Sequence[tuple[int, Action]], position: int) -> Action | None:
    """The last of an app's actions up to the step at `position`; None while none has its turn."""
    return next((action for index, action in reversed(actions) if index <= position), None)


def members(state: State, app_id: str, app: AppDefinition | None) -> list[Member]:
    """The app's instances as a roll-out to `app` sees them."""
    current = None if app is None else config_version(app)
    versions = state.versions.get(app_id, {})
    return [
        _member(state, instance, versions.get(instance.version), current)
        for instance in state.of_app(app_id)
    ]


def _member(
    state: State, instance: Instance, launched_as: AppDefinition | None, current: str | None
) -> Member:
    condition = instance.condition
    is_checked = launched_as is not None and _has_checks(launched_as)
    waits_ready = launched_as is not None and bool(launched_as.readiness_checks)
    return Member(
        id=instance.id,
        is_current=instance.config_version == current and not instance.is_leaving,
        is_wanted=instance.goal is Goal.RUNNING and condition is not Condition.KILLING,
        life=_LIVES[condition],
        healthy=state.health_of(instance) if is_checked else condition is Condition.RUNNING or None,
        ready=not waits_ready or instance.id in state.ready,
        staged_at=instance.provisioned_at,
        placement=instance.placement,
    )


def _has_checks(spec: AppDefinition) -> bool:
    return bool(spec.health_checks) if spec.pod is None else pods.has_checks(spec)


_LIVES: dict[Condition, rollout.Life] = {
    Condition.PROVISIONED: "staging",
    Condition.STAGING: "staging",
    Condition.STARTING: "staging",
    Condition.RUNNING: "running",
    Condition.KILLING: "running",
    Condition.UNREACHABLE: "unreachable",
    Condition.UNREACHABLE_INACTIVE: "inactive",
    **dict.fromkeys(TERMINAL, "ended"),
}


# -- steps ------------------------------------------------------------------------------------


def _is_done(state: State, step: Step) -> bool:
    return not any(a.app in state.waiting or a.app in state.dirty for a in step.actions)


def _advance(state: State, turn: Turn, deployment: Deployment) -> None:
    """Go to the next step once every action of this one is done; it may be the last."""
    position = state.position[deployment.id]
    step = deployment.steps[position]
    if not _is_done(state, step):
        return
    view = plan_view(deployment)
    shown = shown_step(deployment, step)
    turn.emit(DeploymentStepSuccess(timestamp=turn.at, plan=view, current_step=shown))
    for action in step.actions:
        if action.app is not None and action.action in {"StopApplication", "RestartApplication"}:
            before = _definition(state, action.app, deployment.before)
            after = _definition(state, action.app, deployment.after)
            probing.tell_removed(turn, before, after)
        if action.action == "StopApplication" and action.app is not None:
            _app_is_gone(state, turn, action.app)
    if position + 1 == len(deployment.steps):
        _finish(state, turn, deployment)
        return
    state.position[deployment.id] = position + 1
    _tell_step(state, turn, deployment)
    for action in deployment.steps[position + 1].actions:
        if action.app is not None:
            state.dirty.add(action.app)


def _app_is_gone(state: State, turn: Turn, app_id: str) -> None:
    state.delays.clear_app(app_id)
    state.terminations.pop(app_id, None)
    residents.leave(state, turn, residents.of_app(state, app_id))
    if state.failures.pop(app_id, None) is not None:
        turn.delete(repository.failure_path(app_id))
    turn.emit(AppTerminated(timestamp=turn.at, app_id=app_id))


def _tell_step(state: State, turn: Turn, deployment: Deployment) -> None:
    step = shown_step(deployment, deployment.steps[state.position[deployment.id]])
    turn.emit(DeploymentInfoEvent(timestamp=turn.at, plan=plan_view(deployment), current_step=step))


def current_step(state: State, deployment: Deployment) -> Step:
    """The step a deployment is at."""
    return deployment.steps[state.position[deployment.id]]
