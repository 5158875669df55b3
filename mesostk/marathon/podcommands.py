"""The commands of `/v2/pods`: as those of apps, for run specs that are pods.

Source: spec/marathon §1.7.
"""

from __future__ import annotations

from mesostk.marathon import audit, groups, paths, pods, residents, versions
from mesostk.marathon.changing import deploy, new_version, stamp, tell_preview, with_apps
from mesostk.marathon.events import CreatePod, DeletePod, KillInstances, PutPod
from mesostk.marathon.instances import Goal
from mesostk.marathon.podviews import instance_status, pod_view
from mesostk.marathon.refusal import Refused
from mesostk.marathon.state import State, Turn
from mesostk.marathon.tracking import decommission
from mesostk.wire.marathon import (
    AppDefinition,
    PodCreated,
    PodDeleted,
    PodUpdated,
)


def no_pod(id: str) -> Refused:
    """404 for a pod."""
    return Refused(404, f"Pod '{id}' does not exist")


def known(state: State, id: str) -> AppDefinition:
    """The pod `id`; Refused (404) where there is none, or an app of that name."""
    spec = state.apps.get(id)
    if spec is None or spec.pod is None:
        raise no_pod(id)
    return spec


def create(state: State, turn: Turn, command: CreatePod) -> None:
    """`POST /v2/pods`."""
    spec = pods.normalise(command.body)
    if spec.id in state.apps:
        kind = "A pod" if state.apps[spec.id].pod is not None else "An app"
        raise Refused(409, f"{kind} with id [{spec.id}] already exists.")
    version = new_version(state, turn)
    [stamped] = stamp(state, [(None, spec)], version)
    root = with_apps(state, [stamped], version)
    if command.dry_run:
        tell_preview(state, turn, command, root)
        return
    event = PodCreated(
        timestamp=turn.at, client_ip=command.caller.client_ip, uri=command.caller.uri
    )
    deployment = deploy(state, turn, command, root, version, (event,))
    headers = {
        "Location": f"{command.caller.base_url}/v2/pods{spec.id}",
        "Marathon-Deployment-Id": deployment.id,
    }
    turn.reply(command.request, 201, pod_view(stamped), headers)


def put(state: State, turn: Turn, command: PutPod) -> None:
    """`PUT /v2/pods/{id}`: the whole definition anew."""
    given = command.body.get("id", command.pod_id)
    if not isinstance(given, str) or paths.absolute(given) != command.pod_id:
        shown = str(given)[:64]
        raise Refused(400, f"'{command.pod_id}' does not match definition's id ('{shown}')")
    before = known(state, command.pod_id)
    spec = pods.normalise({**command.body, "id": command.pod_id})
    version = new_version(state, turn)
    may_restart = command.may_restart
    pairs = [(before, spec)]
    [stamped] = stamp(state, pairs, version, force=command.force, may_restart=may_restart)
    changed = not versions.is_same(before, stamped)
    root = groups.put_app(state.root, stamped, version) if changed else state.root
    if command.dry_run:
        tell_preview(state, turn, command, root)
        return
    event = PodUpdated(
        timestamp=turn.at, client_ip=command.caller.client_ip, uri=command.caller.uri
    )
    deployment = deploy(state, turn, command, root, version, (event,))
    headers = {"Marathon-Deployment-Id": deployment.id}
    turn.reply(command.request, 200, pod_view(stamped), headers)


def delete(state: State, turn: Turn, command: DeletePod) -> None:
    """`DELETE /v2/pods/{id}`."""
    known(state, command.pod_id)
    version = new_version(state, turn)
    root = groups.delete_app(state.root, command.pod_id, version)
    event = PodDeleted(
        timestamp=turn.at, client_ip=command.caller.client_ip, uri=command.caller.uri
    )
    deployment = deploy(state, turn, command, root, version, (event,))
    location = f"{command.caller.base_url}/v2/deployments/{deployment.id}"
    headers = {"Marathon-Deployment-Id": deployment.id, "Location": location}
    turn.reply(command.request, 202, None, headers)


def kill(state: State, turn: Turn, command: KillInstances) -> None:
    """`DELETE …::instances`: those of the pod that are named; the pod launches others."""
    known(state, command.pod_id)
    wanted = set(command.instance_ids)
    found = [each for each in state.of_app(command.pod_id) if each.id in wanted]
    if command.one and not found:
        raise Refused(404, f"Instance '{command.instance_ids[0]}' does not exist")
    views = [instance_status(state, each) for each in found]
    for each in found:
        if each.goal is Goal.RUNNING:
            decommission(state, turn, each, "killed by an operator")
    if command.wipe:
        kept = (state.residences.get(each.id) for each in found)
        residents.leave(state, turn, [each for each in kept if each is not None])
    names = ", ".join(each.id for each in found[: audit.MAX_CHANGES])
    audit.book(state, turn, command, detail=f"killed {len(found)} instances: {names}")
    turn.reply(command.request, 200, views[0] if command.one else views)
