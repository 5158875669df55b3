"""What `/v2/pods` shows: definitions and status, computed from the core's state.

An instance is STABLE when all containers run and those that are checked are healthy, DEGRADED when
one is not or is lost, STAGING until then, TERMINAL at its end. A pod is STABLE with as many stable
instances as are wanted, TERMINAL when it is being removed, else DEGRADED.
Source: spec/marathon §1.7.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesostk.marathon.instances import TERMINAL, Condition, Instance, PodTask
from mesostk.marathon.pods import definition, has_checks
from mesostk.marathon.state import State
from mesostk.marathon.timestamps import iso
from mesostk.wire.marathon import AppDefinition, PodContainer, PodResources
from mesostk.wire.pods import (
    ContainerStatus,
    EndpointStatus,
    InstanceState,
    InstanceStatus,
    NetworkStatus,
    PodStatus,
    Scaling,
    StatusCondition,
    TerminatedContainer,
    TerminationHistory,
    TerminationState,
)

#: Why a `healthy` condition has its value. Source: Marathon's PodStatusConversion.
REPORTED, UNREPORTED = "health-reported-by-mesos", "health-unreported-by-mesos"

#: Why a `check` condition has its value. The original keeps what a pod's checks saw to itself.
CHECKED = "check-reported-by-mesos"

#: What an instance's status means, where that is not said by the name.
_MEANINGS = {
    Condition.UNREACHABLE: "pod instance has become unreachable",
    Condition.UNREACHABLE_INACTIVE: "pod instance has become unreachable",
    Condition.RUNNING: "at least one container is not healthy",
}

Json = dict[str, object]

_CONTAINER_STATES = {
    Condition.PROVISIONED: "TASK_STAGING",
    Condition.UNREACHABLE_INACTIVE: "TASK_UNREACHABLE",
}


def pod_view(spec: AppDefinition) -> Json:
    """A pod as all answers show it."""
    pod = definition(spec)
    shown: Json = {"id": spec.id, "labels": spec.labels, "version": spec.version}
    shown |= msgspec.to_builtins(pod)
    shown["scaling"] = msgspec.to_builtins(Scaling(instances=spec.instances))
    if spec.role is not None:
        shown["role"] = spec.role
    return shown


def pod_status(state: State, id: str) -> PodStatus | None:
    """The status of a pod, also of one that is being removed; None if there is none."""
    spec = state.apps.get(id)
    here = state.of_app(id)
    if spec is None and here:
        spec = next((found for i in here if (found := state.app_of(i)) is not None), None)
    if spec is None or spec.pod is None:
        return None
    shown = [instance_status(state, each) for each in here]
    stable = sum(each.status == "STABLE" for each in shown)
    at = max((each.status_since for each in shown), default=spec.version or iso(state.wall_s))
    status: Literal["STABLE", "DEGRADED", "TERMINAL"] = "TERMINAL"
    if id in state.apps:
        status = "STABLE" if stable == spec.instances == len(shown) else "DEGRADED"
    waiting = state.waiting.get(id)
    return PodStatus(
        id=id,
        spec=pod_view(spec),
        status=status,
        status_since=at,
        message=None if waiting is None else waiting.reason,
        instances=tuple(shown),
        termination_history=tuple(state.terminations.get(id, ())),
        last_updated=iso(state.wall_s),
        last_changed=at,
    )


def instance_status(state: State, instance: Instance) -> InstanceStatus:
    """The status of one instance."""
    spec = state.app_of(instance)
    healthy = state.health_of(instance)
    residence = state.residences.get(instance.id)
    since = iso(instance.since)
    addresses = tuple(a.ip_address for a in instance.ip_addresses if a.ip_address is not None)
    status = _state(instance, healthy, checked=spec is not None and has_checks(spec))
    meaning = _MEANINGS.get(instance.condition) if status == "DEGRADED" else None
    return InstanceStatus(
        id=instance.id,
        status=status,
        status_since=since,
        conditions=() if healthy is None else (_condition("healthy", healthy, since, state),),
        agent_hostname=instance.host,
        agent_id=instance.agent_id,
        agent_region=instance.placement.region,
        agent_zone=instance.placement.zone,
        resources=PodResources(
            cpus=instance.cpus, mem=instance.mem, disk=instance.disk, gpus=int(instance.gpus)
        ),
        networks=_networks(spec, addresses),
        containers=_containers(state, spec, instance),
        spec_reference=f"/v2/pods{instance.app_id}::versions/{instance.version}",
        local_volumes=() if residence is None else residence.volumes,
        message=meaning if meaning is not None else instance.message,
        role=instance.role,
        last_updated=iso(state.wall_s),
        last_changed=since,
    )


def _networks(spec: AppDefinition | None, addresses: tuple[str, ...]) -> tuple[NetworkStatus, ...]:
    if not addresses:
        return ()
    name = None if spec is None else spec.networks[0].name
    return (NetworkStatus(name=name, addresses=addresses),)


def _state(instance: Instance, healthy: bool | None, *, checked: bool) -> InstanceState:
    condition = instance.condition
    if condition is Condition.PROVISIONED:
        return "PENDING"
    if instance.is_staged or (instance.is_running and checked and healthy is None):
        return "STAGING"
    if condition in TERMINAL or condition is Condition.KILLING:
        return "TERMINAL"
    if instance.is_running and healthy is not False:
        return "STABLE"
    return "DEGRADED"


def _condition(
    name: str, value: bool | int, since: str, state: State, reason: str = REPORTED
) -> StatusCondition:
    text = str(value).lower()
    return StatusCondition(
        name=name, value=text, reason=reason, last_changed=since, last_updated=iso(state.wall_s)
    )


def _containers(
    state: State, spec: AppDefinition | None, instance: Instance
) -> tuple[ContainerStatus, ...]:
    by_name: dict[str, PodContainer] = {}
    ports: dict[str, int] = {}
    if spec is not None:
        pod = definition(spec)
        by_name = {container.name: container for container in pod.containers}
        published = [e for c in pod.containers for e in c.endpoints if e.host_port is not None]
        names = [endpoint.name for endpoint in published]
        ports = dict(zip(names, instance.ports, strict=False))
    return tuple(_container(state, by_name.get(task.name), ports, task) for task in instance.tasks)


def _container(
    state: State, container: PodContainer | None, ports: dict[str, int], task: PodTask
) -> ContainerStatus:
    since = iso(task.since)
    return ContainerStatus(
        name=task.name,
        status=task_state(task),
        status_since=since,
        message=task.message,
        container_id=task.task_id,
        conditions=(
            *_health_conditions(state, container, task, since),
            *_check_conditions(state, task, since),
        ),
        endpoints=_endpoints(container, ports, task),
        resources=None if container is None else container.resources,
        termination=_termination(task),
        last_updated=iso(state.wall_s),
        last_changed=since,
    )


def _health_conditions(
    state: State, container: PodContainer | None, task: PodTask, since: str
) -> tuple[StatusCondition, ...]:
    """Of a checked container that came to run: its last result, or that there is none yet."""
    checked = container is not None and container.health_check is not None
    if not checked or task.started_at is None:
        return ()
    if task.healthy is None:
        return (_condition("healthy", False, since, state, UNREPORTED),)
    return (_condition("healthy", task.healthy, since, state),)


def _check_conditions(state: State, task: PodTask, since: str) -> tuple[StatusCondition, ...]:
    """What the container's check saw last: exit code, HTTP status, or whether it was connected."""
    seen = task.check
    if seen is None:
        return ()
    results = (
        seen.command.exit_code if seen.command is not None else None,
        seen.http.status_code if seen.http is not None else None,
        seen.tcp.succeeded if seen.tcp is not None else None,
    )
    known = (each for each in results if each is not None)
    return tuple(_condition("check", each, since, state, CHECKED) for each in known)


def _endpoints(
    container: PodContainer | None, ports: dict[str, int], task: PodTask
) -> tuple[EndpointStatus, ...]:
    """The endpoints of a container that has not ended; the one that is checked with its health."""
    if container is None or task.condition in TERMINAL:
        return ()
    check = container.health_check
    aimed = None if check is None else check.http or check.tcp
    return tuple(
        EndpointStatus(
            name=each.name,
            allocated_host_port=ports.get(each.name),
            healthy=task.healthy if aimed is not None and aimed.endpoint == each.name else None,
        )
        for each in container.endpoints
    )


def task_state(task: PodTask) -> str:
    """The Mesos state that is shown of a container."""
    known = _CONTAINER_STATES.get(task.condition)
    if known is not None or task.state is None:
        return known or "TASK_STAGING"
    return task.state


def _termination(task: PodTask) -> TerminationState | None:
    if task.condition not in TERMINAL:
        return None
    return TerminationState(
        exit_code=0 if task.condition is Condition.FINISHED else None, message=task.message
    )


def terminated(state: State, instance: Instance) -> TerminationHistory:
    """What is remembered of an instance that ended."""
    return TerminationHistory(
        instance_id=instance.id,
        started_at=iso(instance.started_at or instance.provisioned_at),
        terminated_at=iso(state.wall_s),
        message=instance.message,
        containers=tuple(
            TerminatedContainer(
                container_id=task.task_id,
                last_known_state=task_state(task),
                termination=_termination(task),
            )
            for task in instance.tasks
        ),
    )
