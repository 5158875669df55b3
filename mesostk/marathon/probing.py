"""Which instances are probed, and what the results of probes do to them.

Health checks of kind HTTP, HTTPS and TCP, and readiness checks, are run by the leader. An instance
is probed from the moment it runs until it is to be killed, ends, or gets out of reach.
Source: spec/marathon §2.4, §2.5, §3.10.
"""

from __future__ import annotations

from mesostk.marathon.apps import is_bridge, is_host
from mesostk.marathon.events import Probe, ProbeResult, StartProbes, StopProbes
from mesostk.marathon.health import CheckHealth, Limits, Verdict, judge
from mesostk.marathon.instances import Goal, Instance
from mesostk.marathon.state import State, Turn
from mesostk.marathon.versions import config_version
from mesostk.wire.marathon import (
    LEADER_PROBED,
    AddHealthCheck,
    AppDefinition,
    FailedHealthCheck,
    HealthCheck,
    HealthStatusChanged,
    InstanceHealthChanged,
    ReadinessCheck,
    ReadinessCheckResult,
    ReadinessResponse,
    RemoveHealthCheck,
    UnhealthyInstanceKill,
    UnhealthyTaskKill,
)

#: The first round comes at most this long after the start (spec/marathon §3.10).
FIRST_ROUND_S = 5.0

#: Readiness results carry this index; health checks count from 0.
READINESS = -1

#: A readiness answer that never came is shown with this status (spec/marathon §3.2).
GATEWAY_TIMEOUT = 504


def follow(state: State, turn: Turn, instance: Instance) -> None:
    """Start or stop probing after an instance changed."""
    wanted = instance.is_running and instance.goal is Goal.RUNNING
    if wanted and instance.id not in state.probed:
        start(state, turn, instance)
    elif not wanted:
        stop(state, turn, instance)


def start(state: State, turn: Turn, instance: Instance) -> None:
    """Begin probing, if the instance's app version has anything to probe."""
    app = state.app_of(instance)
    if app is None:
        return
    probes = tuple(_health_probes(app, instance))
    if instance.id not in state.ready:
        probes += tuple(_readiness_probes(app, instance))
    if not probes:
        return
    state.probed.add(instance.id)
    state.health[instance.id] = [CheckHealth() for _ in leader_checks(app)]
    turn.perform(StartProbes(instance.id, probes))


def stop(state: State, turn: Turn, instance: Instance) -> None:
    """End probing; the last known health stays until the instance is forgotten."""
    if instance.id in state.probed:
        state.probed.discard(instance.id)
        turn.perform(StopProbes(instance.id))


def leader_checks(app: AppDefinition) -> list[HealthCheck]:
    """The health checks that the leader runs itself."""
    return [check for check in app.health_checks if check.protocol in LEADER_PROBED]


def _health_probes(app: AppDefinition, instance: Instance) -> list[Probe]:
    probes = []
    for index, check in enumerate(leader_checks(app)):
        address = _address(app, instance, check.port_index, check.port)
        if address is None:
            continue
        probes.append(
            Probe(
                index=index,
                kind=check.protocol,
                host=address[0],
                port=address[1],
                path="/" if check.path is None else check.path,
                first_s=min(float(check.interval_seconds), FIRST_ROUND_S),
                interval_s=float(check.interval_seconds),
                timeout_s=float(check.timeout_seconds),
                ignore_1xx=check.ignore_http1xx,
            )
        )
    return probes


def _readiness_probes(app: AppDefinition, instance: Instance) -> list[Probe]:
    probes = []
    for check in app.readiness_checks:
        address = _address(app, instance, _port_named(app, check), None)
        if address is not None:
            probes.append(
                Probe(
                    index=READINESS,
                    kind=check.protocol,
                    host=address[0],
                    port=address[1],
                    path=check.path,
                    first_s=0.0,
                    interval_s=float(check.interval_seconds),
                    timeout_s=float(check.timeout_seconds),
                    ready_codes=check.http_status_codes_for_ready,
                )
            )
    return probes


def _port_named(app: AppDefinition, check: ReadinessCheck) -> int | None:
    mappings = () if app.container is None else app.container.port_mappings
    ports = app.port_definitions if is_host(app.networks) else mappings
    names = [port.name for port in ports]
    return names.index(check.port_name) if check.port_name in names else None


def _address(
    app: AppDefinition, instance: Instance, port_index: int | None, port: int | None
) -> tuple[str, int] | None:
    """Host and bridge: agent and host port; container network: the task's own address."""
    if is_host(app.networks) or is_bridge(app.networks):
        if port is not None:
            return instance.host, port
        if port_index is None or port_index >= len(instance.ports):
            return None
        return instance.host, instance.ports[port_index]
    addresses = [a.ip_address for a in instance.ip_addresses if a.ip_address is not None]
    if not addresses or app.container is None:
        return None
    if port is None and port_index is not None and port_index < len(app.container.port_mappings):
        port = app.container.port_mappings[port_index].container_port
    return None if not port else (addresses[0], port)


# -- results ----------------------------------------------------------------------------------


def on_result(state: State, turn: Turn, result: ProbeResult) -> str | None:
    """Book what one probe saw. Returns why the instance must be killed, None if it must not."""
    instance = state.instances.get(result.instance_id)
    if instance is None or instance.id not in state.probed:
        return None  # it was stopped while the probe was under way
    app = state.app_of(instance)
    if app is None:
        return None
    if result.index == READINESS:
        _on_readiness(state, turn, app, instance, result)
        return None
    return _on_health(state, turn, app, instance, result)


def _on_health(
    state: State, turn: Turn, app: AppDefinition, instance: Instance, result: ProbeResult
) -> str | None:
    check = leader_checks(app)[result.index]
    checks = state.health[instance.id]
    before = state.health_of(instance)
    verdict = judge(
        checks[result.index],
        result.outcome,
        Limits(
            grace_period_s=float(check.grace_period_seconds),
            max_consecutive_failures=check.max_consecutive_failures,
        ),
        turn.wall_s,
        turn.now - state.entered[instance.id],
    )
    checks[result.index] = verdict.health
    _tell(state, turn, instance, check, verdict, before)
    if verdict.changed:
        state.dirty.add(instance.app_id)
    return _condemn(turn, instance, verdict.health) if verdict.kill else None


def _tell(
    state: State,
    turn: Turn,
    instance: Instance,
    check: HealthCheck,
    verdict: Verdict,
    before: bool | None,
) -> None:
    if verdict.failed:
        turn.emit(
            FailedHealthCheck(
                timestamp=turn.at,
                app_id=instance.app_id,
                task_id=instance.task_id,
                instance_id=instance.id,
                health_check=check,
            )
        )
    if verdict.changed:
        turn.emit(
            HealthStatusChanged(
                timestamp=turn.at,
                app_id=instance.app_id,
                instance_id=instance.id,
                task_id=instance.task_id,
                version=instance.version,
                alive=verdict.health.alive is True,
            )
        )
    after = state.health_of(instance)
    if after is not before:
        turn.emit(
            InstanceHealthChanged(
                timestamp=turn.at,
                instance_id=instance.id,
                run_spec_id=instance.app_id,
                run_spec_version=instance.version,
                healthy=after,
            )
        )


def _condemn(turn: Turn, instance: Instance, health: CheckHealth) -> str:
    cause = "no answer" if health.last_failure_cause is None else health.last_failure_cause
    for event in (UnhealthyTaskKill, UnhealthyInstanceKill):
        turn.emit(
            event(
                timestamp=turn.at,
                app_id=instance.app_id,
                task_id=instance.task_id,
                instance_id=instance.id,
                version=instance.version,
                reason=cause,
                host=instance.host,
                slave_id=instance.agent_id,
            )
        )
    return f"{health.consecutive_failures} health checks failed: {cause}"


def _on_readiness(
    state: State, turn: Turn, app: AppDefinition, instance: Instance, result: ProbeResult
) -> None:
    check = app.readiness_checks[0]
    kept = None
    if check.preserve_last_response:
        kept = ReadinessResponse(
            status=GATEWAY_TIMEOUT if result.status is None else result.status,
            content_type=result.content_type,
            body=result.body,
        )
    state.readiness[instance.id] = ReadinessCheckResult(
        name=check.name,
        task_id=instance.task_id,
        ready=result.outcome.alive,
        last_response=kept,
    )
    if not result.outcome.alive or instance.id in state.ready:
        return
    turn.note("Ready", task=instance.task_id)
    state.ready.add(instance.id)
    state.dirty.add(instance.app_id)
    # Polling of readiness ends with the first success; the health probes go on.
    remaining = tuple(_health_probes(app, instance))
    turn.perform(StartProbes(instance.id, remaining) if remaining else StopProbes(instance.id))


def tell_added(turn: Turn, before: AppDefinition | None, after: AppDefinition | None) -> None:
    """`add_health_check_event` for each check of an app that is new, or restarted."""
    if after is None or after.version is None or _same_config(before, after):
        return
    for check in after.health_checks:
        turn.emit(
            AddHealthCheck(
                timestamp=turn.at, app_id=after.id, version=after.version, health_check=check
            )
        )


def tell_removed(turn: Turn, before: AppDefinition | None, after: AppDefinition | None) -> None:
    """`remove_health_check_event` for each check whose instances are all gone."""
    if before is None or (after is not None and _same_config(before, after)):
        return
    for _ in before.health_checks:
        turn.emit(RemoveHealthCheck(timestamp=turn.at, app_id=before.id))


def _same_config(before: AppDefinition | None, after: AppDefinition) -> bool:
    return before is not None and config_version(before) == config_version(after)
