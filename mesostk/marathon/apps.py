"""From the JSON of an app, of either generation, to `AppDefinition`.

::

    raw ─▶ appinput.read ─▶ AppInput ─▶ networks ─▶ container ─▶ ports ─▶ the rest ─▶ AppDefinition
                                            └── of two spellings of one thing: equal, or the one
                                                that is not what the app had, or 422

Sources: spec/marathon §1.3 (partial update), §2.1-2.6.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from mesostk.marathon import paths
from mesostk.marathon.appinput import AppInput, ContainerInput, IpAddressInput, read
from mesostk.marathon.refusal import invalid, malformed
from mesostk.wire.marathon import (
    AppDefinition,
    Container,
    Docker,
    Fetch,
    HealthCheck,
    Network,
    PortDefinition,
    PortMapping,
    Residency,
    UpgradeStrategy,
    Volume,
)

T = TypeVar("T")

HOST = Network(mode="host")
BRIDGE = Network(mode="container/bridge")

SINGLE_INSTANCE_LABEL = "MARATHON_SINGLE_INSTANCE_APP"

#: Archives that the fetcher unpacks when they come as an old-style `uris` entry (§2.1).
_ARCHIVE = re.compile(r"\.(tgz|tar\.gz|tbz2|tar\.bz2|txz|tar\.xz|zip|tar|gz)$")

_HTTP_KINDS = frozenset({"HTTP", "HTTPS", "MESOS_HTTP", "MESOS_HTTPS"})

#: Fields copied as they are when given; absent ones keep the old value or the default.
_PLAIN = (
    "cmd", "args", "user", "env", "instances", "cpus", "mem", "disk", "gpus", "executor",
    "check", "readiness_checks", "backoff_seconds", "backoff_factor", "max_launch_delay_seconds",
    "labels", "accepted_resource_roles", "role", "task_kill_grace_period_seconds",
    "kill_selection", "secrets", "tty",
)  # fmt: skip

#: Fields that a partial update resets when it does not name them (§1.3, as the original does).
_RESET = ("executor_resources", "resource_limits")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's flags that shape apps: network names, features, roles."""

    default_network_name: str | None = None
    bridge_name: str = "mesos-bridge"
    features: frozenset[str] = frozenset()
    role: str = "*"
    enforce_new_groups: bool = False


DEFAULT_SETTINGS = Settings()


def normalise(
    raw: object,
    base: AppDefinition | None = None,
    *,
    group: str = paths.ROOT,
    id: str | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> AppDefinition:
    """The app that JSON value `raw` describes, not yet validated (see `validation.refuse_invalid`).

    With `base` this is a partial update of that app: absent keys keep its values and its version.
    Relative ids are seen from `group`. `id` is the one in the URL; the body's must equal it.
    Raises `Refused`: 400 for wrong types, missing keys and another id, 422 for contradictions.
    """
    source = read(raw)
    path = _id(source, base, group, id)
    networks = _networks(source, base, settings)
    container = _container(source, base, networks)
    app = base if base is not None else AppDefinition(id=path)
    changes: dict[str, object] = {
        name: value for name in _PLAIN if (value := getattr(source, name)) is not None
    }
    changes.update({name: getattr(source, name) for name in _RESET})
    app = msgspec.structs.replace(app, id=path, networks=networks, container=container, **changes)
    app = _with_ports(app, source, base)
    app = _with_lists(app, source, base)
    return _with_strategies(app, source, base)


def rollback_version(raw: object) -> str | None:
    """The version that a body of just `version` (and `id`) asks to go back to, else None.

    Answers of the API carry a `version` too, so only a body without any other setting counts.
    """
    if not isinstance(raw, dict) or "version" not in raw or set(raw) - {"version", "id"}:
        return None
    version = raw["version"]
    if version is None:
        return None
    if not isinstance(version, str):
        raise malformed("/version", "expected a string such as 2016-06-20T12:00:00.000Z")
    return version


def _id(source: AppInput, base: AppDefinition | None, group: str, id: str | None) -> str:
    wanted = None if id is None else paths.absolute(id)
    if source.id is None:
        if wanted is not None:
            return wanted
        if base is not None:
            return base.id
        raise malformed("/id", "is required and missing")
    if source.id == "":
        raise invalid("/id", "must not be empty")
    path = paths.absolute(source.id, group)
    if wanted is not None and path != wanted:
        raise malformed("/id", f"'{wanted}' does not match definition's id ('{path}')")
    return path


def _settle(path: str, spellings: Sequence[T | None], current: T | None) -> T | None:
    """One value of several spellings; None when there is none.

    A client that reads an app, edits one spelling and sends all back means its edit, so a spelling
    that only repeats the `current` value gives way. Raises `Refused` where two really disagree.
    """
    given = [value for value in spellings if value is not None]
    if not given:
        return None
    edited = [value for value in given if value != current] or given
    if any(value != edited[0] for value in edited):
        raise invalid(path, "is given in an old and a new spelling that contradict each other")
    return edited[0]


# -- networks ---------------------------------------------------------------------------------


def _networks(
    source: AppInput, base: AppDefinition | None, settings: Settings
) -> tuple[Network, ...]:
    """Canonical networks (§2.3)."""
    ip = source.ip_address
    docker = source.container.docker if source.container is not None else None
    old: tuple[Network, ...] | None = None
    if docker is not None and docker.network is not None:
        old = _docker_networks(docker.network, ip, settings)
    elif ip is not None:
        old = (_named(ip.network_name, ip.labels, settings),)
    new = source.networks
    if new is not None:
        new = tuple(_with_default_name(network, settings) for network in new) or (HOST,)
    if new is not None and old is not None and _shows(old[0], new[0]):
        old = None  # it can show only one of several, and no labels of a bridge
    found = _settle("/networks", (new, old), base.networks if base is not None else None)
    if found is not None:
        return found
    return base.networks if base is not None else (HOST,)


def _shows(old: Network, new: Network) -> bool:
    return (old.mode, old.name) == (new.mode, new.name)


def _docker_networks(
    network: str, ip: IpAddressInput | None, settings: Settings
) -> tuple[Network, ...]:
    if network == "NONE":
        raise invalid("/container/docker/network", "NONE is not supported; use HOST or BRIDGE")
    if network == "HOST":
        return (HOST,)
    if network == "BRIDGE":
        return (BRIDGE,)
    return (_with_default_name(
        Network(
            mode="container",
            name=ip.network_name if ip is not None else None,
            labels=ip.labels if ip is not None else {},
        ),
        settings,
    ),)  # fmt: skip


def _named(name: str | None, labels: dict[str, str], settings: Settings) -> Network:
    if name == settings.bridge_name:
        return Network(mode="container/bridge", labels=labels)
    return _with_default_name(Network(mode="container", name=name, labels=labels), settings)


def _with_default_name(network: Network, settings: Settings) -> Network:
    if network.mode != "container" or network.name is not None:
        return network
    return msgspec.structs.replace(network, name=settings.default_network_name)


def is_host(networks: Sequence[Network]) -> bool:
    """Whether the app shares the agent's network."""
    return any(network.mode == "host" for network in networks)


def is_bridge(networks: Sequence[Network]) -> bool:
    """Whether the app sits behind the agent's bridge."""
    return any(network.mode == "container/bridge" for network in networks)


# -- container --------------------------------------------------------------------------------


def _container(
    source: AppInput, base: AppDefinition | None, networks: tuple[Network, ...]
) -> Container | None:
    given = source.container
    if given is None:
        kept = base.container if base is not None else None
        if is_host(networks):
            return None if kept is None else msgspec.structs.replace(kept, port_mappings=())
        if kept is None:
            kept = Container(type="MESOS")
        was_mapped = base is not None and not is_host(base.networks)
        if was_mapped and source.ip_address is None:
            return kept
        mappings = _mappings(source, None, base, networks)
        return msgspec.structs.replace(kept, port_mappings=mappings)
    if given.docker is not None and given.docker.credential is not None:
        raise invalid(
            "/container/docker/credential", "is no longer supported; use fetch or pullConfig"
        )
    docker = given.docker
    return Container(
        type=given.type,
        docker=None
        if docker is None
        else Docker(
            image=docker.image,
            privileged=docker.privileged,
            force_pull_image=docker.force_pull_image,
            parameters=docker.parameters,
            pull_config=docker.pull_config,
        ),
        volumes=tuple(_volume(volume) for volume in given.volumes),
        port_mappings=_mappings(source, given, base, networks),
        linux_info=given.linux_info,
    )


def _volume(volume: Volume) -> Volume:
    if volume.mode is not None:
        return volume
    return msgspec.structs.replace(volume, mode="RO" if volume.secret is not None else "RW")


def _mappings(
    source: AppInput,
    given: ContainerInput | None,
    base: AppDefinition | None,
    networks: tuple[Network, ...],
) -> tuple[PortMapping, ...]:
    new = given.port_mappings if given is not None else None
    docker = given.docker if given is not None else None
    if is_host(networks):
        if new:
            raise invalid(
                "/container/portMappings", "must be empty with host networking; use portDefinitions"
            )
        return ()  # docker.portMappings are dropped, as the original does
    bridge = is_bridge(networks)
    current = base.container.port_mappings if base is not None and base.container else None
    found = _settle(
        "/container/portMappings",
        (
            _completed(new, bridge),
            _completed(docker.port_mappings if docker is not None else None, bridge),
        ),
        current,
    )
    if found is not None:
        return found
    ip = source.ip_address
    if ip is not None and ip.discovery.ports:
        return tuple(
            PortMapping(
                container_port=port.number,
                host_port=0 if bridge else None,
                protocol=port.protocol,
                name=port.name,
                labels=port.labels,
            )
            for port in ip.discovery.ports
        )
    if ip is not None or (docker is not None and docker.network is not None):
        return ()  # before 1.5 an app without mappings had no ports
    return (PortMapping(host_port=0 if bridge else None, name="default"),)


def _completed(
    mappings: tuple[PortMapping, ...] | None, bridge: bool
) -> tuple[PortMapping, ...] | None:
    if mappings is None or not bridge:
        return mappings
    return tuple(
        mapping if mapping.host_port is not None else msgspec.structs.replace(mapping, host_port=0)
        for mapping in mappings
    )


# -- ports ------------------------------------------------------------------------------------


def service_ports(app: AppDefinition) -> tuple[int, ...]:
    """One service port for each definition or mapping, in order; 0 = not assigned yet."""
    if is_host(app.networks):
        return tuple(definition.port for definition in app.port_definitions)
    mappings = app.container.port_mappings if app.container is not None else ()
    return tuple(mapping.service_port for mapping in mappings)


def with_service_ports(app: AppDefinition, numbers: Sequence[int]) -> AppDefinition:
    """`app` with its service ports replaced; extra numbers make extra mappings (§2.3)."""
    if tuple(numbers) == service_ports(app):
        return app
    if is_host(app.networks):
        definitions = tuple(
            msgspec.structs.replace(definition, port=number)
            for definition, number in zip(app.port_definitions, numbers, strict=True)
        )
        return msgspec.structs.replace(app, port_definitions=definitions)
    assert app.container is not None  # made for every app outside host networking
    extra = PortMapping(host_port=0 if is_bridge(app.networks) else None)
    mappings = list(app.container.port_mappings)
    mappings += [extra] * (len(numbers) - len(mappings))
    replaced = tuple(
        msgspec.structs.replace(mapping, service_port=number)
        for mapping, number in zip(mappings, numbers, strict=True)
    )
    container = msgspec.structs.replace(app.container, port_mappings=replaced)
    return msgspec.structs.replace(app, container=container)


def _with_ports(app: AppDefinition, source: AppInput, base: AppDefinition | None) -> AppDefinition:
    definitions = source.port_definitions
    if not definitions and source.ports and not is_host(app.networks):
        definitions = None  # mappings define the ports, so an empty list says nothing
    numbers = _settle(
        "/portDefinitions",
        (source.ports, None if definitions is None else tuple(d.port for d in definitions)),
        None if base is None else service_ports(base),
    )
    if not is_host(app.networks):
        app = msgspec.structs.replace(app, port_definitions=(), require_ports=False)
        return _with_mapped_ports(app, source, base, numbers)
    if source.require_ports is not None:
        app = msgspec.structs.replace(app, require_ports=source.require_ports)
    kept = base.port_definitions if base is not None and is_host(base.networks) else None
    if definitions is not None and numbers == tuple(d.port for d in definitions):
        return msgspec.structs.replace(app, port_definitions=definitions)
    if numbers is not None and (kept is None or numbers != tuple(d.port for d in kept)):
        made = tuple(PortDefinition(port=number) for number in numbers)
        return msgspec.structs.replace(app, port_definitions=made)
    if kept is None:
        kept = (PortDefinition(name="default"),)
    return msgspec.structs.replace(app, port_definitions=kept)


def _with_mapped_ports(
    app: AppDefinition,
    source: AppInput,
    base: AppDefinition | None,
    numbers: tuple[int, ...] | None,
) -> AppDefinition:
    """Service ports from `ports` or `portDefinitions` put into the mappings."""
    if not numbers:
        return app
    current = service_ports(app)
    wanted = numbers + current[len(numbers) :]
    padded = current + (0,) * (len(wanted) - len(current))
    mappings_given = source.container is not None and any(current)
    if not mappings_given:
        return with_service_ports(app, wanted)
    if base is not None and padded == service_ports(base):
        return with_service_ports(app, wanted)
    if base is not None and wanted == service_ports(base):
        return with_service_ports(app, padded)
    merged = []
    for mapped, listed in zip(padded, wanted, strict=True):
        if mapped != listed and mapped != 0 and listed != 0:
            raise invalid("/ports", f"{listed} contradicts servicePort {mapped} of the mapping")
        merged.append(mapped if mapped != 0 else listed)
    return with_service_ports(app, merged)


# -- lists and strategies ---------------------------------------------------------------------


def _with_lists(app: AppDefinition, source: AppInput, base: AppDefinition | None) -> AppDefinition:
    changes: dict[str, object] = {}
    uris = None if source.uris is None else tuple(_fetch(uri) for uri in source.uris)
    if uris is not None and source.fetch is not None:
        # uris say less than fetch: they only have to name the same addresses
        same = [entry.uri for entry in uris] == [entry.uri for entry in source.fetch]
        uris = source.fetch if same else uris or None
    # an empty list beside a full one is an old client's default, not a wish
    given = source.fetch if source.fetch or not uris else None
    fetch = _settle("/fetch", (given, uris), base.fetch if base is not None else None)
    if fetch is not None:
        changes["fetch"] = fetch
    if source.constraints is not None:
        changes["constraints"] = tuple(_constraint(each) for each in source.constraints)
    if source.health_checks is not None:
        has_ports = bool(service_ports(app))
        changes["health_checks"] = tuple(
            _health_check(check, has_ports) for check in source.health_checks
        )
    if source.dependencies is not None:
        group = paths.parent(app.id)
        changes["dependencies"] = tuple(paths.absolute(d, group) for d in source.dependencies)
    return msgspec.structs.replace(app, **changes)


def _fetch(uri: str) -> Fetch:
    path = uri.partition("?")[0].partition("#")[0]
    return Fetch(uri=uri, extract=_ARCHIVE.search(path) is not None)


def _constraint(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Operators in upper case; their order and number is checked later."""
    return (*parts[:1], *(part.upper() for part in parts[1:2]), *parts[2:])


def _health_check(check: HealthCheck, has_ports: bool) -> HealthCheck:
    changes: dict[str, object] = {}
    if check.path is None and check.protocol in _HTTP_KINDS:
        changes["path"] = "/"
    unaimed = check.port is None and check.port_index is None
    if unaimed and has_ports and check.protocol != "COMMAND":
        changes["port_index"] = 0
    return msgspec.structs.replace(check, **changes)


def is_resident(app: AppDefinition) -> bool:
    """Whether the app keeps data in persistent volumes."""
    return bool(persistent_volumes(app))


def persistent_volumes(app: AppDefinition) -> list[Volume]:
    """Those of an app's container, or of a pod: in its executor's sandbox, under their names."""
    if app.pod is not None:
        return [
            Volume(container_path=volume.name, mode="RW", persistent=volume.persistent)
            for volume in app.pod.volumes
            if volume.persistent is not None
        ]
    volumes = app.container.volumes if app.container is not None else ()
    return [volume for volume in volumes if volume.persistent is not None]


def _with_strategies(
    app: AppDefinition, source: AppInput, base: AppDefinition | None
) -> AppDefinition:
    resident = is_resident(app)
    was_resident = base is not None and is_resident(base)
    changes: dict[str, object] = {}
    if source.upgrade_strategy is not None:
        changes["upgrade_strategy"] = source.upgrade_strategy
    elif base is None or resident != was_resident:
        changes["upgrade_strategy"] = _default_upgrade(app)
    if source.unreachable_strategy is not None:
        changes["unreachable_strategy"] = source.unreachable_strategy
    elif resident:
        changes["unreachable_strategy"] = "disabled"
    if source.residency is not None:
        changes["residency"] = source.residency
    elif resident and app.residency is None:
        changes["residency"] = Residency()
    return msgspec.structs.replace(app, **changes)


def _default_upgrade(app: AppDefinition) -> UpgradeStrategy:
    if app.labels.get(SINGLE_INSTANCE_LABEL, "").lower() == "true":
        return UpgradeStrategy(minimum_health_capacity=0.0, maximum_over_capacity=0.0)
    volumes = app.container.volumes if app.container is not None else ()
    if any(volume.persistent is not None or volume.external is not None for volume in volumes):
        return UpgradeStrategy(minimum_health_capacity=0.5, maximum_over_capacity=0.0)
    return UpgradeStrategy()
