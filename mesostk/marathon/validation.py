"""What a normalised app must satisfy; every rule answers with path and text, all at once.

Sources: spec/marathon §2.1-2.5 (rules and quoted texts), §3.6 (constraints).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

from mesostk.marathon import constraints, draining, externals, paths
from mesostk.marathon.apps import (
    DEFAULT_SETTINGS,
    SINGLE_INSTANCE_LABEL,
    Settings,
    is_host,
    is_resident,
    persistent_volumes,
    service_ports,
)
from mesostk.marathon.refusal import INVALID_OBJECT, Refused, violation
from mesostk.wire.marathon import (
    LEADER_PROBED,
    AppDefinition,
    Container,
    EnvSecret,
    HealthCheck,
    PersistentVolume,
    UnreachableStrategy,
    Violation,
    Volume,
)

Violations = Iterator[Violation]

#: Counts travel as 32-bit integers in the original and its clients.
MAX_INSTANCES = 2**31 - 1

#: A larger URI is refused by the fetchers of the original.
MAX_URI = 1024

_EXECUTOR = re.compile(r"(//cmd)|(/?[^/]+(/[^/]+)*)|")
_PORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_URI = re.compile(r"[^\s<>\"{}|\\^`]+")
_INT64 = 2**63


def refuse_invalid(
    app: AppDefinition,
    settings: Settings = DEFAULT_SETTINGS,
    before: AppDefinition | None = None,
) -> None:
    """Raise `Refused` (422, all violations) unless `app` may run in place of `before`."""
    found = violations(app, settings, before)
    if found:
        raise Refused(422, INVALID_OBJECT, found)


def violations(
    app: AppDefinition,
    settings: Settings = DEFAULT_SETTINGS,
    before: AppDefinition | None = None,
) -> list[Violation]:
    """Every violation of `app`, which is to take the place of `before`; empty if it is sound."""
    found = [each for rule in _RULES for each in rule(app)]
    found += _features(app, settings)
    found += _terminal(app)
    found += externals.violations(app, settings.features)
    if before is not None:
        found += _residents_keep_their_volumes(before, app)
    return found


def _id(app: AppDefinition) -> Violations:
    why = paths.why_invalid(app.id)
    if why is not None:
        yield violation("/id", why)
    for index, dependency in enumerate(app.dependencies):
        if dependency == app.id:
            yield violation(f"/dependencies({index})", "an app cannot depend on itself")
        elif dependency != paths.ROOT and paths.why_invalid(dependency) is not None:
            yield violation(f"/dependencies({index})", f"'{dependency[:64]}' is not a valid path")


def _command(app: AppDefinition) -> Violations:
    if app.cmd is not None and not app.cmd.strip():
        yield violation("/cmd", "must not be empty")
    runs_itself = app.container is not None and app.container.docker is not None
    wanted = (app.cmd is not None) + (bool(app.args))
    if wanted == 2 or (wanted == 0 and not runs_itself):
        yield violation(
            "/",
            "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.",
        )


def _at_least(path: str, value: float | None, least: float) -> Violations:
    if value is None:
        return
    if not math.isfinite(value) or value >= _INT64:
        yield violation(path, "must be a finite number below 2^63")
    elif value < least:
        yield violation(path, f"must be greater than or equal to {least:g}, got {value:g}")


def _quantities(app: AppDefinition) -> Violations:
    yield from _at_least("/cpus", app.cpus, 0)
    yield from _at_least("/mem", app.mem, 0)
    yield from _at_least("/disk", app.disk, 0)
    yield from _at_least("/gpus", app.gpus, 0)
    yield from _at_least("/instances", app.instances, 0)
    if app.instances > MAX_INSTANCES:
        yield violation("/instances", f"must be at most {MAX_INSTANCES}")
    yield from _at_least("/backoffSeconds", app.backoff_seconds, 0)
    yield from _at_least("/backoffFactor", app.backoff_factor, 1)
    yield from _at_least("/maxLaunchDelaySeconds", app.max_launch_delay_seconds, 0)
    yield from _at_least("/taskKillGracePeriodSeconds", app.task_kill_grace_period_seconds, 0)
    limits = app.resource_limits
    if limits is not None:
        for name, limit, request in (("cpus", limits.cpus, app.cpus), ("mem", limits.mem, app.mem)):
            if limit is not None and limit != "unlimited":
                yield from _at_least(f"/resourceLimits/{name}", limit, request)


def _labels(app: AppDefinition) -> Violations:
    why = draining.why_invalid(app)
    if why is not None:
        yield violation("/labels", why)


def _executor(app: AppDefinition) -> Violations:
    if _EXECUTOR.fullmatch(app.executor) is None:
        yield violation("/executor", "must be empty, '//cmd' or the path of an executor")
    if app.gpus > 0 and app.container is not None and app.container.type == "DOCKER":
        yield violation("/gpus", "are not supported with the DOCKER containerizer")
    for index, role in enumerate(app.accepted_resource_roles or ()):
        if not role:
            yield violation(f"/acceptedResourceRoles({index})", "must not be empty")
    if app.accepted_resource_roles == ():
        yield violation("/acceptedResourceRoles", "must not be empty")


def why_no_uri(text: str) -> str | None:
    """Why nothing can be fetched from `text`; None if something may be."""
    if len(text) > MAX_URI:
        return f"is longer than {MAX_URI} characters"
    return "URI has invalid syntax" if _URI.fullmatch(text) is None else None


def _fetch(app: AppDefinition) -> Violations:
    for index, entry in enumerate(app.fetch):
        why = why_no_uri(entry.uri)
        if why is not None:
            yield violation(f"/fetch({index})/uri", why)


def _networks(app: AppDefinition) -> Violations:
    modes = {network.mode for network in app.networks}
    if len(modes) > 1 or (len(app.networks) > 1 and modes != {"container"}):
        yield violation(
            "/networks", "may be one host network, one bridge network, or container networks"
        )
    docker = app.container is not None and app.container.type == "DOCKER"
    if docker and len(app.networks) > 1:
        yield violation("/networks", "may hold just one network with the DOCKER containerizer")
    for index, network in enumerate(app.networks):
        at = f"/networks({index})"
        if network.mode == "host" and (network.name is not None or network.labels):
            yield violation(at, "host networking takes neither name nor labels")
        elif network.mode == "container/bridge" and network.name is not None:
            yield violation(f"{at}/name", "bridge networking takes no name")
        elif network.mode == "container" and not network.name:
            yield violation(f"{at}/name", "is required without --default_network_name")


def _port_number(path: str, number: int | None) -> Violations:
    if number is not None and not 0 <= number <= 65535:
        yield violation(path, f"must be between 0 and 65535, got {number}")


def _unique(path: str, values: Sequence[object], what: str) -> Violations:
    if len(set(values)) < len(values):
        yield violation(path, f"{what} must be unique")


def _ports(app: AppDefinition) -> Violations:
    if not is_host(app.networks):
        return
    for index, definition in enumerate(app.port_definitions):
        yield from _port_number(f"/portDefinitions({index})/port", definition.port)
        yield from _port_name(f"/portDefinitions({index})/name", definition.name)
    numbers = [d.port for d in app.port_definitions if d.port != 0]
    names = [d.name for d in app.port_definitions if d.name is not None]
    yield from _unique("/portDefinitions", numbers, "Ports")
    yield from _unique("/portDefinitions", names, "Port names")


def _port_name(path: str, name: str | None) -> Violations:
    if name is not None and (len(name) > 63 or _PORT_NAME.fullmatch(name) is None):
        yield violation(path, "must be lower-case letters, digits and '-', at most 63 characters")


def _mappings(app: AppDefinition) -> Violations:
    mappings = app.container.port_mappings if app.container is not None else ()
    networks = {network.name for network in app.networks}
    for index, mapping in enumerate(mappings):
        at = f"/container/portMappings({index})"
        yield from _port_number(f"{at}/containerPort", mapping.container_port)
        yield from _port_number(f"{at}/hostPort", mapping.host_port)
        yield from _port_number(f"{at}/servicePort", mapping.service_port)
        yield from _port_name(f"{at}/name", mapping.name)
        for name in mapping.network_names:
            if name not in networks:
                yield violation(f"{at}/networkNames", f"'{name}' is not a network of this app")
        several = len(app.networks) > 1
        if several and mapping.host_port is not None and len(mapping.network_names) != 1:
            yield violation(f"{at}/networkNames", "hostPort needs exactly one network")
    services = [m.service_port for m in mappings if m.service_port != 0]
    names = [m.name for m in mappings if m.name is not None]
    yield from _unique("/container/portMappings", services, "Service ports")
    yield from _unique("/container/portMappings", names, "Port names")
    hosts = [
        (m.host_port, protocol)
        for m in mappings
        if m.host_port
        for protocol in m.protocol.split(",")
    ]
    yield from _unique("/container/portMappings", hosts, "Host ports")


def _container(app: AppDefinition) -> Violations:
    container = app.container
    if container is None:
        return
    docker = container.docker
    if container.type == "DOCKER" and docker is None:
        yield violation("/container/docker", "not defined; needed with type DOCKER")
    if docker is not None and not docker.image.strip():
        yield violation("/container/docker/image", "must not be empty")
    if docker is not None and container.type == "MESOS":
        if docker.parameters:
            yield violation("/container/docker/parameters", "need the DOCKER containerizer")
        if docker.privileged:
            yield violation("/container/docker/privileged", "needs the DOCKER containerizer")
    if docker is not None and docker.pull_config is not None and container.type == "DOCKER":
        yield violation("/container/docker/pullConfig", "needs the MESOS containerizer")
    if container.linux_info is not None and container.type == "DOCKER":
        yield violation("/container/linuxInfo", "needs the MESOS containerizer")
    for index, volume in enumerate(container.volumes):
        yield from _volume(f"/container/volumes({index})", volume, container)


def _volume(at: str, volume: Volume, container: Container) -> Violations:
    kinds = (volume.host_path, volume.persistent, volume.external, volume.secret)
    if sum(kind is not None for kind in kinds) != 1:
        yield violation(at, "needs exactly one of hostPath, persistent, external and secret")
    if not volume.container_path:
        yield violation(f"{at}/containerPath", "must not be empty")
    if volume.host_path is not None and not volume.host_path:
        yield violation(f"{at}/hostPath", "must not be empty")
    if volume.secret is not None and container.type == "DOCKER":
        yield violation(f"{at}/secret", "needs the MESOS containerizer")
    if volume.persistent is not None:
        yield from _persistent(at, volume, volume.persistent)


def _persistent(at: str, volume: Volume, persistent: PersistentVolume) -> Violations:
    if "/" in volume.container_path or volume.container_path in {".", ".."}:
        yield violation(f"{at}/containerPath", "must be a plain name without '/'")
    if volume.mode != "RW":
        yield violation(f"{at}/mode", "must be RW for persistent volumes")
    if persistent.size <= 0:
        yield violation(f"{at}/persistent/size", "must be greater than 0")
    if persistent.type != "root":
        yield violation(f"{at}/persistent/type", "must be root: other disks are not used")
    if persistent.max_size is not None and persistent.type != "mount":
        yield violation(f"{at}/persistent/maxSize", "is for type mount only")
    if persistent.constraints and persistent.type == "root":
        yield violation(f"{at}/persistent/constraints", "are not for type root")


def _health_checks(app: AppDefinition) -> Violations:
    ports = len(service_ports(app))
    is_docker = app.container is not None and app.container.type == "DOCKER"
    for index, check in enumerate(app.health_checks):
        yield from _health_check(f"/healthChecks({index})", check, ports, is_docker=is_docker)
    by_agent = [check for check in app.health_checks if check.protocol not in LEADER_PROBED]
    if sum(check.protocol.startswith("MESOS_") for check in by_agent) > 1:
        yield violation("/healthChecks", "may hold just one MESOS_* check")
    own = app.check
    if own is not None:
        if sum(kind is not None for kind in (own.http, own.tcp, own.exec)) != 1:
            yield violation("/check", "needs exactly one of http, tcp and exec")
        for name, aimed in (("http", own.http), ("tcp", own.tcp)):
            if aimed is None or aimed.port is not None:
                continue
            wanted = 0 if aimed.port_index is None else aimed.port_index
            if not 0 <= wanted < ports:
                yield violation(f"/check/{name}/portIndex", "must address a port of the app")
        if app.container is not None and app.container.type == "DOCKER":
            yield violation("/check", "is not supported with the DOCKER containerizer")


def _health_check(at: str, check: HealthCheck, ports: int, *, is_docker: bool) -> Violations:
    is_command = check.protocol == "COMMAND"
    if is_command and (check.command is None or not check.command.value):
        yield violation(f"{at}/command", "is required with protocol COMMAND")
    if not is_command and check.command is not None:
        yield violation(f"{at}/command", "is for protocol COMMAND only")
    if check.port is not None and check.port_index is not None:
        yield violation(at, "may have one of port and portIndex")
    if check.ip_protocol == "IPv6" and not (is_docker and check.protocol.startswith("MESOS_")):
        yield violation(
            f"{at}/ipProtocol",
            "IPv6 can only be used for container type DOCKER and Mesos http/https/tcp health "
            "checks",
        )
    if check.port is not None and not 1 <= check.port <= 65535:
        yield violation(f"{at}/port", f"must be between 1 and 65535, got {check.port}")
    if not is_command and check.port is None:
        index = check.port_index
        if index is None or not 0 <= index < ports:
            yield violation(
                f"{at}/portIndex",
                "Health check port indices must address an element of the ports array "
                "or container port mappings.",
            )
    for name, value, least in (
        ("gracePeriodSeconds", check.grace_period_seconds, 0),
        ("intervalSeconds", check.interval_seconds, 1),
        ("timeoutSeconds", check.timeout_seconds, 1),
        ("maxConsecutiveFailures", check.max_consecutive_failures, 0),
        ("delaySeconds", check.delay_seconds, 0),
    ):
        yield from _at_least(f"{at}/{name}", value, least)


def _readiness(app: AppDefinition) -> Violations:
    if len(app.readiness_checks) > 1:
        yield violation("/readinessChecks", "may hold at most one check")
    names = {definition.name for definition in app.port_definitions}
    if app.container is not None:
        names |= {mapping.name for mapping in app.container.port_mappings}
    for index, check in enumerate(app.readiness_checks):
        at = f"/readinessChecks({index})"
        if check.port_name not in names:
            yield violation(f"{at}/portName", "must name a port of the app")
        yield from _at_least(f"{at}/intervalSeconds", check.interval_seconds, 1)
        yield from _at_least(f"{at}/timeoutSeconds", check.timeout_seconds, 1)
        if check.timeout_seconds >= check.interval_seconds:
            yield violation(f"{at}/timeoutSeconds", "must be less than intervalSeconds")
        if not check.http_status_codes_for_ready:
            yield violation(f"{at}/httpStatusCodesForReady", "must not be empty")


def _strategies(app: AppDefinition) -> Violations:
    strategy = app.upgrade_strategy
    minimum, over = strategy.minimum_health_capacity, strategy.maximum_over_capacity
    for name, value in (("minimumHealthCapacity", minimum), ("maximumOverCapacity", over)):
        if not 0 <= value <= 1:
            yield violation(f"/upgradeStrategy/{name}", "must be between 0 and 1")
    if app.labels.get(SINGLE_INSTANCE_LABEL, "").lower() == "true":
        if minimum != 0 or over != 0:
            yield violation(
                "/upgradeStrategy", f"must be 0 and 0 with label {SINGLE_INSTANCE_LABEL}=true"
            )
        if app.instances > 1:
            yield violation(
                "/instances", f"may be at most 1 with label {SINGLE_INSTANCE_LABEL}=true"
            )
    unreachable = app.unreachable_strategy
    if isinstance(unreachable, UnreachableStrategy):
        inactive, expunge = unreachable.inactive_after_seconds, unreachable.expunge_after_seconds
        yield from _at_least("/unreachableStrategy/inactiveAfterSeconds", inactive, 0)
        if inactive > expunge:
            yield violation(
                "/unreachableStrategy/expungeAfterSeconds", "must not be below inactiveAfterSeconds"
            )
    if is_resident(app):
        if over != 0:
            yield violation(
                "/upgradeStrategy/maximumOverCapacity", "must be 0 with persistent volumes"
            )
        if unreachable != "disabled":
            yield violation("/unreachableStrategy", 'must be "disabled" with persistent volumes')


def _constraints(app: AppDefinition) -> Violations:
    for index, parts in enumerate(app.constraints):
        why = constraints.why_invalid(parts)
        if why is not None:
            yield violation(f"/constraints({index})", why)


def _secrets(app: AppDefinition) -> Violations:
    for name, value in app.env.items():
        if not name or "=" in name or "\0" in name:
            yield violation(f"/env/{name}", "is not a possible name of a variable")
        if isinstance(value, EnvSecret) and value.secret not in app.secrets:
            yield violation(f"/env/{name}", f"names secret '{value.secret}' that does not exist")
        elif isinstance(value, str) and "\0" in value:
            yield violation(f"/env/{name}", "must not hold a NUL character")
    volumes = app.container.volumes if app.container is not None else ()
    for index, volume in enumerate(volumes):
        if volume.secret is not None and volume.secret not in app.secrets:
            yield violation(f"/container/volumes({index})/secret", "names no secret of this app")
    docker = app.container.docker if app.container is not None else None
    pull_config = docker.pull_config if docker is not None else None
    if pull_config is not None and pull_config.secret not in app.secrets:
        yield violation("/container/docker/pullConfig/secret", "names no secret of this app")


def _features(app: AppDefinition, settings: Settings) -> Violations:
    volumes = app.container.volumes if app.container is not None else ()
    for path, feature, is_used in (
        ("/gpus", "gpu_resources", app.gpus > 0),
        ("/secrets", "secrets", bool(app.secrets)),
        (
            "/container/volumes",
            "external_volumes",
            any(volume.external is not None for volume in volumes),
        ),
    ):
        if is_used and feature not in settings.features:
            yield violation(
                path, f"Feature {feature} is not enabled. Enable with --enable_features {feature}"
            )


def _terminal(app: AppDefinition) -> Violations:
    if app.tty and app.container is not None and app.container.type == "DOCKER":
        yield violation(
            "/tty",
            "containers of the Docker engine start without a terminal; use 'mesostk exec -it' "
            "beside the task, or leave it out",
        )


def _residents_keep_their_volumes(before: AppDefinition, after: AppDefinition) -> list[Violation]:
    if not is_resident(before):
        return []
    found = []
    if persistent_volumes(before) != persistent_volumes(after):
        found.append(violation("/container/volumes", "Persistent volumes can not be changed!"))
    if _resident_needs(before) != _resident_needs(after):
        found.append(violation("/", "Resident Tasks may not change resource requirements!"))
    return found


def _resident_needs(app: AppDefinition) -> object:
    mappings = app.container.port_mappings if app.container is not None else ()
    ports = app.port_definitions if app.require_ports else ()
    hosts = [mapping.host_port for mapping in mappings]
    return (app.cpus, app.mem, app.disk, app.gpus, [p.port for p in ports], hosts)


_RULES: tuple[Callable[[AppDefinition], Violations], ...] = (
    _id,
    _command,
    _quantities,
    _executor,
    _labels,
    _fetch,
    _networks,
    _ports,
    _mappings,
    _container,
    _health_checks,
    _readiness,
    _strategies,
    _constraints,
    _secrets,
)
