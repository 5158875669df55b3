"""Pods: JSON in, a run spec out.

::

    raw ─▶ PodInput ─▶ defaults, validation ─▶ AppDefinition with `pod` ─▶ planned, rolled out,
                                                 stored and versioned as any app

Inside, a pod is an `AppDefinition` whose `pod` says what is launched: the rest (instances, upgrade
strategy, back-off, constraints, sums of resources …) is what plans and roll-outs look at.
Source: spec/marathon §1.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from mesostk.marathon import constraints, paths
from mesostk.marathon.appinput import read_as
from mesostk.marathon.apps import Settings, persistent_volumes
from mesostk.marathon.externals import ISOLATORS
from mesostk.marathon.instances import Instance
from mesostk.marathon.refusal import INVALID_OBJECT, Refused, malformed, violation
from mesostk.marathon.validation import why_no_uri
from mesostk.wire.marathon import (
    AppDefinition,
    Endpoint,
    EnvSecret,
    Network,
    PersistentVolume,
    PodCheck,
    PodContainer,
    PodDefinition,
    PodHealthCheck,
    Scheduling,
    UnreachableStrategy,
    UpgradeStrategy,
    Violation,
)
from mesostk.wire.pods import PodInput

Violations = Iterator[Violation]

#: Keys that answers carry, so that a client may send back what it got; they are not read.
READ_ONLY = frozenset({"version"})

MAX_INSTANCES = 2**31 - 1

SECRETS = "secrets"

_ELSEWHERE = (
    "where all agents have the isolators for it (--isolation), start Marathon with "
    f"--enable_features {ISOLATORS}"
)

#: As for apps with persistent volumes.
RESIDENT_UPGRADE = UpgradeStrategy(minimum_health_capacity=0.5, maximum_over_capacity=0.0)

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,253}")


def normalise(raw: object, group: str = paths.ROOT) -> AppDefinition:
    """The run spec of the pod that JSON value `raw` describes, valid.

    Relative ids are seen from `group`. Raises `Refused`: 400 for wrong types and missing keys, 422
    with all violations.
    """
    if isinstance(raw, dict):
        raw = {key: value for key, value in raw.items() if key not in READ_ONLY}
    source = _with_strategies(read_as(raw, PodInput), raw)
    if not source.id:
        raise malformed("/id", "must not be empty")
    host = _is_host(source.networks)
    pod = PodDefinition(
        user=source.user,
        environment=source.environment,
        containers=tuple(_with_ports(container, host) for container in source.containers),
        secrets=source.secrets,
        volumes=source.volumes,
        networks=source.networks or (Network(mode="host"),),
        scheduling=source.scheduling,
        executor_resources=source.executor_resources,
        linux_info=source.linux_info,
        legacy_shared_cgroups=source.legacy_shared_cgroups,
    )
    spec = _run_spec(paths.absolute(source.id, group), source, pod)
    found = list(_violations(spec, source, pod))
    if found:
        raise Refused(422, INVALID_OBJECT, found)
    return spec


def _with_strategies(source: PodInput, raw: object) -> PodInput:
    """Where data is kept on an agent, unsaid strategies are those that leave it there."""
    if all(volume.persistent is None for volume in source.volumes) or not isinstance(raw, dict):
        return source
    said = raw.get("scheduling") or {}
    scheduling = source.scheduling
    if said.get("upgrade") is None:
        scheduling = msgspec.structs.replace(scheduling, upgrade=RESIDENT_UPGRADE)
    if said.get("unreachableStrategy") is None:
        scheduling = msgspec.structs.replace(scheduling, unreachable_strategy="disabled")
    return msgspec.structs.replace(source, scheduling=scheduling)


def _is_host(networks: tuple[Network, ...]) -> bool:
    return not networks or networks[0].mode == "host"


def _with_ports(container: PodContainer, host: bool) -> PodContainer:
    """With host networking a port that is not named is drawn; else it is not published."""
    if not host:
        return container
    endpoints = tuple(
        each if each.host_port is not None else msgspec.structs.replace(each, host_port=0)
        for each in container.endpoints
    )
    return msgspec.structs.replace(container, endpoints=endpoints)


def _run_spec(id: str, source: PodInput, pod: PodDefinition) -> AppDefinition:
    parts = [(c.resources.cpus, c.resources.mem, c.resources.disk) for c in pod.containers]
    executor = pod.executor_resources
    parts.append((executor.cpus, executor.mem, executor.disk))
    scheduling = pod.scheduling
    roles = scheduling.placement.accepted_resource_roles
    return AppDefinition(
        id=id,
        instances=source.scaling.instances,
        cpus=sum(cpus for cpus, _, _ in parts),
        mem=sum(mem for _, mem, _ in parts),
        disk=sum(disk for _, _, disk in parts),
        gpus=sum(container.resources.gpus for container in pod.containers) + executor.gpus,
        constraints=tuple(
            (each.field_name, each.operator.upper(), *(() if each.value is None else (each.value,)))
            for each in scheduling.placement.constraints
        ),
        networks=pod.networks,
        upgrade_strategy=scheduling.upgrade,
        backoff_seconds=scheduling.backoff.backoff,
        backoff_factor=scheduling.backoff.backoff_factor,
        max_launch_delay_seconds=scheduling.backoff.max_launch_delay,
        labels=source.labels,
        accepted_resource_roles=roles or None,
        role=source.role,
        kill_selection=scheduling.kill_selection,
        unreachable_strategy=scheduling.unreachable_strategy,
        secrets=source.secrets,
        pod=pod,
    )


def definition(spec: AppDefinition) -> PodDefinition:
    """What a pod's run spec launches; only for specs that are pods."""
    assert spec.pod is not None
    return spec.pod


def endpoints(pod: PodDefinition) -> tuple[Endpoint, ...]:
    """All endpoints in the order of containers: the order of an instance's ports."""
    return tuple(each for container in pod.containers for each in container.endpoints)


def has_checks(spec: AppDefinition) -> bool:
    """Whether any container of the pod is checked."""
    return any(each.health_check is not None for each in definition(spec).containers)


def health(spec: AppDefinition, instance: Instance) -> bool | None:
    """Healthy if every checked container is; None while one has yet to report, or none is."""
    checked = {each.name for each in definition(spec).containers if each.health_check is not None}
    known = [task.healthy for task in instance.tasks if task.name in checked]
    if False in known:
        return False
    return None if None in known or not known else True


def refuse_unsupported(
    spec: AppDefinition, settings: Settings, before: AppDefinition | None = None
) -> None:
    """Raise `Refused` (422) for what this cluster cannot run, or not in place of `before`."""
    found = [*_unsupported(spec, settings)]
    if before is not None and persistent_volumes(before):
        if persistent_volumes(before) != persistent_volumes(spec):
            found.append(violation("/volumes", "Persistent volumes can not be changed!"))
        if _resident_needs(before) != _resident_needs(spec):
            why = "Resident Tasks may not change resource requirements!"
            found.append(violation("/containers", why))
    if found:
        raise Refused(422, INVALID_OBJECT, found)


def _resident_needs(spec: AppDefinition) -> object:
    hosts = [each.host_port for each in endpoints(definition(spec))]
    return (spec.cpus, spec.mem, spec.disk, spec.gpus, hosts)


def _unsupported(spec: AppDefinition, settings: Settings) -> Violations:
    pod = definition(spec)
    if SECRETS not in settings.features and _uses_secrets(pod):
        yield violation(
            "/secrets", f"Feature {SECRETS} is not enabled. Enable with --enable_features {SECRETS}"
        )
    if ISOLATORS in settings.features:
        return
    for index, network in enumerate(pod.networks):
        if network.mode != "host":
            yield violation(
                f"/networks({index})/mode",
                f"must be host: agents give a pod no network of its own; {_ELSEWHERE}",
            )
    if pod.linux_info is not None:
        yield violation("/linuxInfo", f"needs isolators; {_ELSEWHERE}")
    hosts = {volume.name: volume.host for volume in pod.volumes}
    for index, container in enumerate(pod.containers):
        if container.linux_info is not None:
            yield violation(f"/containers({index})/linuxInfo", f"needs isolators; {_ELSEWHERE}")
        for number, mount in enumerate(container.volume_mounts):
            path = mount.mount_path
            if container.image is None and path.startswith("/") and path != hosts[mount.name]:
                yield violation(
                    f"/containers({index})/volumeMounts({number})/mountPath",
                    "must be relative, that is in the sandbox, in a container without an image, or "
                    f"the path of the host volume itself; {_ELSEWHERE}",
                )


def _uses_secrets(pod: PodDefinition) -> bool:
    variables = [pod.environment, *(container.environment for container in pod.containers)]
    return bool(pod.secrets) or any(
        isinstance(value, EnvSecret) for of in variables for value in of.values()
    )


# -- validation -------------------------------------------------------------------------------


def _violations(spec: AppDefinition, source: PodInput, pod: PodDefinition) -> Violations:
    why = paths.why_invalid(spec.id)
    if why is not None:
        yield violation("/id", why)
    yield from _numbers(source, pod.scheduling)
    yield from _networks(pod)
    yield from _containers(pod)
    yield from _volumes(pod)
    yield from _residency(spec)
    yield from _variables("/environment", pod.environment, pod)
    for index, rule in enumerate(spec.constraints):
        why = constraints.why_invalid(rule)
        if why is not None:
            yield violation(f"/scheduling/placement/constraints({index})", why)


def _numbers(source: PodInput, scheduling: Scheduling) -> Violations:
    if not 0 <= source.scaling.instances <= MAX_INSTANCES:
        yield violation("/scaling/instances", f"must be between 0 and {MAX_INSTANCES}")
    upgrade, backoff = scheduling.upgrade, scheduling.backoff
    for name, value in (
        ("minimumHealthCapacity", upgrade.minimum_health_capacity),
        ("maximumOverCapacity", upgrade.maximum_over_capacity),
    ):
        if not 0 <= value <= 1:
            yield violation(f"/scheduling/upgrade/{name}", "must be between 0 and 1")
    at = "/scheduling/backoff"
    if not 0 <= backoff.backoff < 2**31:
        yield violation(f"{at}/backoff", "must be a number of seconds of at least 0")
    if not 1 <= backoff.backoff_factor < 2**31:
        yield violation(f"{at}/backoffFactor", "must be at least 1")
    if not 0 <= backoff.max_launch_delay < 2**31:
        yield violation(f"{at}/maxLaunchDelay", "must be a number of seconds of at least 0")
    strategy = scheduling.unreachable_strategy
    if isinstance(strategy, UnreachableStrategy):
        inactive, expunge = strategy.inactive_after_seconds, strategy.expunge_after_seconds
        if inactive < 0 or inactive > expunge:
            yield violation(
                "/scheduling/unreachableStrategy",
                "inactiveAfterSeconds must be between 0 and expungeAfterSeconds",
            )


def _networks(pod: PodDefinition) -> Violations:
    modes = {network.mode for network in pod.networks}
    if len(modes) > 1 or (len(pod.networks) > 1 and modes != {"container"}):
        yield violation(
            "/networks", "may be one host network, one bridge network, or container networks"
        )
    for index, network in enumerate(pod.networks):
        if network.mode == "container" and not network.name:
            yield violation(f"/networks({index})/name", "is required")


def _containers(pod: PodDefinition) -> Violations:
    if not pod.containers:
        yield violation("/containers", "must hold at least one container")
    names = [container.name for container in pod.containers]
    if len(set(names)) < len(names):
        yield violation("/containers", "container names are not unique")
    for index, container in enumerate(pod.containers):
        yield from _container(f"/containers({index})", container, pod)
    every = endpoints(pod)
    for what, values in (
        ("endpoint names", [each.name for each in every]),
        ("container ports", [each.container_port for each in every if each.container_port]),
        ("host ports", [each.host_port for each in every if each.host_port]),
    ):
        if len(set(values)) < len(values):
            yield violation("/containers", f"{what} must be unique over the pod")


def _container(at: str, container: PodContainer, pod: PodDefinition) -> Violations:
    if len(container.name) > 63 or _NAME.fullmatch(container.name) is None:
        yield violation(f"{at}/name", "must be lower-case letters, digits and '-', at most 63")
    command = None if container.exec is None else container.exec.command
    if command is not None and (command.shell is None) == (command.argv is None):
        yield violation(f"{at}/exec/command", "needs exactly one of shell and argv")
    if command is not None and (command.argv == () or command.shell == ""):
        yield violation(f"{at}/exec/command", "must not be empty")
    if command is None and container.image is None:
        yield violation(f"{at}/exec", "is required without an image")
    yield from _image(f"{at}/image", container, pod)
    for name in ("cpus", "mem", "disk", "gpus"):
        value = getattr(container.resources, name)
        least = 0.001 if name == "cpus" else 0
        if not least <= value < 2**62:
            yield violation(f"{at}/resources/{name}", f"must be a number of at least {least:g}")
    for number, endpoint in enumerate(container.endpoints):
        yield from _endpoint(f"{at}/endpoints({number})", endpoint, pod)
    yield from _variables(f"{at}/environment", container.environment, pod)
    yield from _checks(at, container)
    yield from _limits(f"{at}/resourceLimits", container)
    yield from _artifacts(f"{at}/artifacts", container)
    volumes = {volume.name for volume in pod.volumes}
    for number, mount in enumerate(container.volume_mounts):
        if mount.name not in volumes:
            yield violation(f"{at}/volumeMounts({number})/name", "is no volume of the pod")
        if not mount.mount_path or ".." in mount.mount_path.split("/"):
            at_mount = f"{at}/volumeMounts({number})/mountPath"
            yield violation(at_mount, "must not be empty, nor lead out of the sandbox by '..'")


def _image(at: str, container: PodContainer, pod: PodDefinition) -> Violations:
    config = container.image.pull_config if container.image is not None else None
    if config is not None and config.secret not in pod.secrets:
        yield violation(f"{at}/pullConfig/secret", "is no secret of the pod")


def _endpoint(at: str, endpoint: Endpoint, pod: PodDefinition) -> Violations:
    if len(endpoint.name) > 63 or _NAME.fullmatch(endpoint.name) is None:
        yield violation(f"{at}/name", "must be lower-case letters, digits and '-', at most 63")
    for key, number in (
        ("containerPort", endpoint.container_port),
        ("hostPort", endpoint.host_port),
    ):
        if number is not None and not 0 <= number <= 65535:
            yield violation(f"{at}/{key}", f"must be between 0 and 65535, got {number}")
    host = _is_host(pod.networks)
    if host and endpoint.container_port is not None:
        yield violation(f"{at}/containerPort", "is not for host networking")
    if not host and endpoint.container_port is None:
        yield violation(f"{at}/containerPort", "is required outside host networking")
    if not endpoint.protocol or len(set(endpoint.protocol)) < len(endpoint.protocol):
        yield violation(f"{at}/protocol", "must hold tcp, udp or both, each once")
    networks = {network.name for network in pod.networks}
    unknown = [name for name in endpoint.network_names if name not in networks]
    if unknown:
        yield violation(f"{at}/networkNames", f"'{unknown[0][:64]}' is no network of the pod")
    published = not host and endpoint.host_port is not None
    if published and len(pod.networks) > 1 and len(endpoint.network_names) != 1:
        why = "must name one network: the pod has several, and a host port leads to one"
        yield violation(f"{at}/networkNames", why)


def _limits(at: str, container: PodContainer) -> Violations:
    limits, wanted = container.resource_limits, container.resources
    if limits is None:
        return
    for name, limit, least in (
        ("cpus", limits.cpus, wanted.cpus),
        ("mem", limits.mem, wanted.mem),
    ):
        if limit is not None and limit != "unlimited" and not least <= limit < 2**62:
            why = f'must be "unlimited" or at least resources/{name}, {least:g}'
            yield violation(f"{at}/{name}", why)


def _artifacts(at: str, container: PodContainer) -> Violations:
    for index, artifact in enumerate(container.artifacts):
        why = why_no_uri(artifact.uri)
        if why is not None:
            yield violation(f"{at}({index})/uri", why)


def _checks(at: str, container: PodContainer) -> Violations:
    check, health = container.check, container.health_check
    if check is not None:
        yield from _aimed(f"{at}/check", check, container)
        if check.http is not None and check.http.scheme != "HTTP":
            why = "must be HTTP; only a healthCheck can be by HTTPS"
            yield violation(f"{at}/check/http/scheme", why)
    if health is None:
        return
    yield from _aimed(f"{at}/healthCheck", health, container)
    for name, value in (
        ("gracePeriodSeconds", health.grace_period_seconds),
        ("maxConsecutiveFailures", health.max_consecutive_failures),
    ):
        if value < 0:
            yield violation(f"{at}/healthCheck/{name}", "must be at least 0")


def _aimed(at: str, check: PodHealthCheck | PodCheck, container: PodContainer) -> Violations:
    """What both kinds of checks have: one aim, and times."""
    if sum(kind is not None for kind in (check.http, check.tcp, check.exec)) != 1:
        yield violation(at, "needs exactly one of http, tcp and exec")
    names = {endpoint.name for endpoint in container.endpoints}
    for kind, aimed in (("http", check.http), ("tcp", check.tcp)):
        if aimed is not None and aimed.endpoint not in names:
            yield violation(f"{at}/{kind}/endpoint", "must name an endpoint of this container")
    command = None if check.exec is None else check.exec.command
    if command is not None and (command.shell is None) == (command.argv is None):
        yield violation(f"{at}/exec/command", "needs exactly one of shell and argv")
    if check.timeout_seconds >= check.interval_seconds:
        yield violation(f"{at}/timeoutSeconds", "must be less than intervalSeconds")
    for name, value, least in (
        ("timeoutSeconds", check.timeout_seconds, 1),
        ("delaySeconds", check.delay_seconds, 0),
    ):
        if value < least:
            yield violation(f"{at}/{name}", f"must be at least {least}")


def _volumes(pod: PodDefinition) -> Violations:
    mounted = {mount.name for each in pod.containers for mount in each.volume_mounts}
    names = [volume.name for volume in pod.volumes]
    if len(set(names)) < len(names):
        yield violation("/volumes", "volume names are not unique")
    for index, volume in enumerate(pod.volumes):
        at = f"/volumes({index})"
        if volume.name not in mounted:
            yield violation(f"{at}/name", f"volume '{volume.name}' is mounted by no container")
        kinds = (volume.host, volume.persistent, volume.secret)
        if sum(kind is not None for kind in kinds) > 1:
            yield violation(at, "may be one of host, persistent and secret")
        if _NAME.fullmatch(volume.name) is None or len(volume.name) > 63:
            yield violation(f"{at}/name", "must be lower-case letters, digits and '-', at most 63")
        if volume.persistent is not None:
            yield from _persistent(f"{at}/persistent", volume.persistent)
        if volume.secret is not None and volume.secret not in pod.secrets:
            yield violation(f"{at}/secret", "is no secret of the pod")


def _persistent(at: str, volume: PersistentVolume) -> Violations:
    if volume.type != "root":
        yield violation(f"{at}/type", "must be root: other disks are not used")
    if volume.size <= 0:
        yield violation(f"{at}/size", "must be greater than 0")
    for name, value in (("maxSize", volume.max_size), ("constraints", volume.constraints or None)):
        if value is not None:
            yield violation(f"{at}/{name}", "is not for type root")


def _residency(spec: AppDefinition) -> Violations:
    """Source: spec/marathon §1.7."""
    if not persistent_volumes(spec):
        return
    if spec.upgrade_strategy.maximum_over_capacity != 0:
        at = "/scheduling/upgrade/maximumOverCapacity"
        yield violation(at, "must be 0 with persistent volumes")
    if spec.unreachable_strategy != "disabled":
        at = "/scheduling/unreachableStrategy"
        yield violation(at, 'must be "disabled" with persistent volumes')


def _variables(at: str, given: dict[str, str | EnvSecret], pod: PodDefinition) -> Violations:
    for key, value in given.items():
        if _VARIABLE.fullmatch(key) is None:
            yield violation(f"{at}({key[:64]})", "must match [a-zA-Z_][a-zA-Z0-9_]{0,253}")
        if isinstance(value, EnvSecret) and value.secret not in pod.secrets:
            yield violation(f"{at}/{key[:64]}", f"references an undefined secret '{value.secret}'")
