"""What `GET` answers show, computed from the core's state; nothing here changes anything.

Source: spec/marathon §1.3-1.5, §3.8.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from mesostk.marathon import explaining, selector
from mesostk.marathon.apps import is_resident, service_ports
from mesostk.marathon.appview import app_view
from mesostk.marathon.instances import Condition, Goal, Instance
from mesostk.marathon.paths import safe
from mesostk.marathon.state import State
from mesostk.marathon.timestamps import iso
from mesostk.marathon.tracking import task_addresses
from mesostk.marathon.versions import config_version
from mesostk.wire.marathon import (
    AppDefinition,
    CheckResult,
    CheckResultCommand,
    CheckResultHttp,
    CheckResultTcp,
    HealthCheckResult,
    LifeTime,
    LocalVolume,
    ReadinessCheckResult,
    StatCounts,
    StatGroup,
    Stats,
    TaskCounts,
    TaskStats,
    TaskView,
)

Json = dict[str, object]

#: What an `embed` value adds to an app, its prefix (`apps.`, `app.`, `group.apps.`) taken off.
EMBEDS: dict[str, frozenset[str]] = {
    "tasks": frozenset({"tasks", "deployments"}),
    "counts": frozenset({"counts"}),
    "deployments": frozenset({"deployments"}),
    "readiness": frozenset({"readiness"}),
    "lastTaskFailure": frozenset({"lastTaskFailure"}),
    "failures": frozenset({"lastTaskFailure", "tasks", "deployments"}),
    "taskStats": frozenset({"taskStats"}),
}

_PREFIXES = ("group.apps.", "apps.", "app.")

#: What every list of apps shows, asked for or not.
LISTED = frozenset({"counts", "deployments"})

#: What `GET /v2/apps/{id}` always shows.
SINGLE = LISTED | {"tasks", "lastTaskFailure"}


def embeds(values: Iterable[str]) -> frozenset[str]:
    """The parts that `embed` parameters ask for; unknown ones ask for nothing."""
    parts: set[str] = set()
    for value in values:
        for prefix in _PREFIXES:
            value = value.removeprefix(prefix)
        parts |= EMBEDS.get(value, frozenset())
    return frozenset(parts)


# -- tasks ------------------------------------------------------------------------------------


def task_state(instance: Instance) -> str:
    """The Mesos state that is shown; before the first update it is staging."""
    if instance.is_unreachable:
        return "TASK_UNREACHABLE"
    return "TASK_STAGING" if instance.state is None else instance.state


def task_view(state: State, instance: Instance) -> TaskView:
    """One task as all answers show it."""
    app = state.app_of(instance)
    return TaskView(
        app_id=instance.app_id,
        id=instance.task_id,
        slave_id=instance.agent_id,
        host=instance.host,
        state=task_state(instance),
        ports=instance.ports,
        service_ports=() if app is None else service_ports(app),
        ip_addresses=task_addresses(instance),
        staged_at=iso(instance.provisioned_at),
        started_at=None if instance.started_at is None else iso(instance.started_at),
        version=instance.version,
        health_check_results=health_results(state, instance),
        check_result=_check_result(instance),
        local_volumes=_volumes(state, instance),
        region=instance.placement.region,
        zone=instance.placement.zone,
        role=instance.role,
    )


def _volumes(state: State, instance: Instance) -> tuple[LocalVolume, ...]:
    residence = state.residences.get(instance.id)
    return () if residence is None else residence.volumes


def _check_result(instance: Instance) -> CheckResult | None:
    """What the app's `check` saw last; None before its first result, or without a check."""
    seen = instance.check
    if seen is None:
        return None
    if seen.http is not None and seen.http.status_code is not None:
        return CheckResult(http=CheckResultHttp(status_code=seen.http.status_code))
    if seen.tcp is not None and seen.tcp.succeeded is not None:
        return CheckResult(tcp=CheckResultTcp(succeeded=seen.tcp.succeeded))
    if seen.command is not None and seen.command.exit_code is not None:
        return CheckResult(command=CheckResultCommand(exit_code=seen.command.exit_code))
    return None


def health_results(state: State, instance: Instance) -> tuple[HealthCheckResult, ...]:
    """Results of the checks that have reported, of the leader and of the agent."""
    results = [
        HealthCheckResult(
            alive=check.alive,
            consecutive_failures=check.consecutive_failures,
            first_success=_shown(check.first_success_at),
            last_failure=_shown(check.last_failure_at),
            last_success=_shown(check.last_success_at),
            last_failure_cause=check.last_failure_cause,
            instance_id=instance.id,
            task_id=instance.task_id,
        )
        for check in state.health.get(instance.id, ())
        if check.alive is not None
    ]
    if instance.agent_health is not None:
        results.append(
            HealthCheckResult(
                alive=instance.agent_health, instance_id=instance.id, task_id=instance.task_id
            )
        )
    return tuple(results)


def _shown(wall_s: float | None) -> str | None:
    return None if wall_s is None else iso(wall_s)


def with_status(instances: Iterable[Instance], statuses: Sequence[str]) -> list[Instance]:
    """Those that are in one of `statuses`: `running`, `staging`; none given means all."""
    return [i for i in instances if not statuses or _has_status(i, statuses)]


def _has_status(instance: Instance, statuses: Sequence[str]) -> bool:
    if "running" in statuses and instance.condition is Condition.RUNNING:
        return True
    return "staging" in statuses and instance.is_staged


def tasks_text(state: State, app_ids: Iterable[str], networks: frozenset[str] = frozenset()) -> str:
    """The endpoints of running tasks as old HAProxy bridges read them, a line a service port.

    Ports in container networks are told for those in `networks`, `*` meaning all.
    """
    lines = []
    for app_id in app_ids:
        app = state.apps[app_id]
        running = [i for i in state.of_app(app_id) if i.is_running]
        ports = service_ports(app)
        if not ports:
            lines.append([safe(app_id), " ", *(i.host for i in running)])
        for index, port in enumerate(ports):
            found = (_endpoint(app, instance, index, networks) for instance in running)
            ends = [end for end in found if end is not None]
            lines.append([safe(app_id), str(port), *ends])
    return "".join("".join(f"{cell}\t" for cell in line) + "\n" for line in lines)


def _endpoint(
    app: AppDefinition, instance: Instance, index: int, networks: frozenset[str]
) -> str | None:
    """Where port `index` of an app is reached on one instance; None if nobody outside may."""
    mappings = app.container.port_mappings if app.container is not None else ()
    mapping = mappings[index] if index < len(mappings) else None
    names = {network.name for network in app.networks if network.mode == "container"}
    shown = names if "*" in networks else names & networks
    if mapping is not None and shown and instance.ip_addresses and mapping.container_port != 0:
        return f"{instance.ip_addresses[0].ip_address}:{mapping.container_port}"
    if mapping is not None and mapping.host_port is None:
        return None
    before = sum(1 for each in mappings[:index] if each.host_port is None)
    place = index - before
    return f"{instance.host}:{instance.ports[place]}" if place < len(instance.ports) else None


# -- apps -------------------------------------------------------------------------------------


def counts(state: State, app_id: str) -> TaskCounts:
    """Tasks by what is known of them; health counts only where it is known."""
    instances = state.of_app(app_id)
    running = [i for i in instances if i.is_running]
    health = [state.health_of(i) for i in running]
    return TaskCounts(
        tasks_staged=sum(1 for i in instances if i.is_staged),
        tasks_running=len(running),
        tasks_healthy=sum(1 for known in health if known is True),
        tasks_unhealthy=sum(1 for known in health if known is False),
    )


def app_info(state: State, app: AppDefinition, parts: frozenset[str]) -> Json:
    """An app with the `parts` that `embeds` names."""
    return app_view(
        app,
        counts=counts(state, app.id) if "counts" in parts else None,
        deployments=state.deployments_of(app.id) if "deployments" in parts else None,
        tasks=[task_view(state, i) for i in state.of_app(app.id)] if "tasks" in parts else None,
        last_failure=state.failures.get(app.id) if "lastTaskFailure" in parts else None,
        readiness=readiness(state, app.id) if "readiness" in parts else None,
        stats=stats(state, app) if "taskStats" in parts else None,
    )


def matching_apps(
    state: State,
    *,
    cmd: str | None = None,
    id: str | None = None,
    label: str | None = None,
) -> list[AppDefinition]:
    """Apps by id, filtered by all that is given; Refused (422) for a bad label selector."""
    terms = None if label is None else selector.parse(label)
    found = []
    for app_id in sorted(state.apps):
        app = state.apps[app_id]
        if app.pod is not None:
            continue
        if cmd is not None and (app.cmd is None or cmd.lower() not in app.cmd.lower()):
            continue
        if id is not None and id.lower() not in app_id.lower():
            continue
        if terms is not None and not selector.matches(terms, app.labels):
            continue
        found.append(app)
    return found


def readiness(state: State, app_id: str) -> list[ReadinessCheckResult]:
    """Last readiness results of an app's instances."""
    known = (state.readiness.get(instance.id) for instance in state.of_app(app_id))
    return [result for result in known if result is not None]


def stats(state: State, app: AppDefinition) -> TaskStats:
    """Task statistics by generation; a generation without tasks is left out."""
    instances = state.of_app(app.id)
    current = config_version(app)
    scaled_at = current if app.version_info is None else app.version_info.last_scaling_at
    return TaskStats(
        started_after_last_scaling=_stat(state, [i for i in instances if i.version >= scaled_at]),
        with_latest_config=_stat(state, [i for i in instances if i.config_version == current]),
        with_outdated_config=_stat(state, [i for i in instances if i.config_version != current]),
        total_summary=_stat(state, instances),
    )


def _stat(state: State, instances: list[Instance]) -> StatGroup | None:
    if not instances:
        return None
    running = [i for i in instances if i.is_running]
    health = [state.health_of(i) for i in running]
    ages = [state.wall_s - i.started_at for i in running if i.started_at is not None]
    return StatGroup(
        stats=Stats(
            counts=StatCounts(
                staged=sum(1 for i in instances if i.is_staged),
                running=len(running),
                healthy=sum(1 for known in health if known is True),
                unhealthy=sum(1 for known in health if known is False),
            ),
            life_time=LifeTime(
                average_seconds=statistics.fmean(ages), median_seconds=statistics.median(ages)
            )
            if ages
            else None,
        )
    )


#: Of an instance with persistent volumes, which cannot follow it.
KEEPS_DATA = (
    "it keeps data on this agent: it ends when the agent is drained, and comes back with it"
)


def _why_there(state: State, instance: Instance) -> list[str]:
    """Why an instance is still on an agent that is evacuated, or will stay on it."""
    if instance.is_leaving:
        return list(explaining.why(state, instance.app_id).reasons)
    app = state.app_of(instance)
    return [KEEPS_DATA] if app is not None and is_resident(app) else []


def agent_view(state: State, agent_id: str) -> Json:
    """What is on an agent and whether it is to leave: `GET /v2/agents/{id}/evacuate`, our own."""
    return {
        "agentId": agent_id,
        "instances": [
            {
                "id": instance.id,
                "app": instance.app_id,
                "taskId": instance.task_id,
                "host": instance.host,
                "condition": instance.condition,
                "leaving": instance.is_leaving or instance.goal is not Goal.RUNNING,
                "reasons": _why_there(state, instance),
            }
            for instance in state.on_agent(agent_id)
        ],
    }
