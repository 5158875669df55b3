"""The JSON that answers show of an app: canonical keys, and the keys of 2016 computed from them.

The order is that of the tutorial's answer of Marathon 1.1; newer keys follow before `version`.
Unset optional fields are `null`, as 1.1 wrote them. Whole numbers are written without a fraction.
Sources: spec/marathon §0 (order), §2.3 (both spellings).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mesostk.marathon.apps import is_bridge, is_host, service_ports
from mesostk.wire.marathon import (
    AppDefinition,
    ReadinessCheckResult,
    TaskCounts,
    TaskFailure,
    TaskStats,
    TaskView,
)

Json = dict[str, object]


def app_view(
    app: AppDefinition,
    *,
    counts: TaskCounts | None = None,
    deployments: Iterable[str] | None = None,
    tasks: Sequence[TaskView] | None = None,
    last_failure: TaskFailure | None = None,
    readiness: Sequence[ReadinessCheckResult] | None = None,
    stats: TaskStats | None = None,
) -> Json:
    """The app with what `embed` asked for; what is None is left out."""
    view: Json = _definition(app)
    if counts is not None:
        view |= _plain(counts)
    if deployments is not None:
        view["deployments"] = [{"id": id} for id in deployments]
    if readiness is not None:
        view["readinessCheckResults"] = [_plain(each) for each in readiness]
    if tasks is not None:
        view["tasks"] = [_plain(task) for task in tasks]
    if last_failure is not None:
        view["lastTaskFailure"] = _plain(last_failure)
    if stats is not None:
        view["taskStats"] = _plain(stats)
    return view


def _definition(app: AppDefinition) -> Json:
    full = _plain(app)
    host = is_host(app.networks)
    old: Json = {
        "uris": [entry.uri for entry in app.fetch],
        "storeUrls": [],
        "ports": list(service_ports(app)),
        "ipAddress": _ip_address(app),
        "container": _container(app, full["container"]),
    }
    if not host:
        old["portDefinitions"] = _mapped_definitions(app)
    shown = {key: old[key] if key in old else full[key] for key in _ORDER}
    return {k: value for k, value in shown.items() if k not in _ONLY_IF_SET or _is_set(value)}


def _is_set(value: object) -> bool:
    return value is not None and value is not False and value != {}


#: Keys that clients of older versions do not know: the `marathon` client of PyPI refuses them.
_ONLY_IF_SET = frozenset(
    {
        "check", "executorResources", "resourceLimits", "secrets",
        "taskKillGracePeriodSeconds", "tty",
    }
)  # fmt: skip

#: Keys of 1.1 in its order, then the newer ones, then what 1.1 ended with.
_ORDER = (
    "id", "cmd", "args", "user", "env", "instances", "cpus", "mem", "disk", "gpus", "executor",
    "constraints", "uris", "fetch", "storeUrls", "ports", "portDefinitions", "requirePorts",
    "backoffSeconds", "backoffFactor", "maxLaunchDelaySeconds", "container", "healthChecks",
    "readinessChecks", "dependencies", "upgradeStrategy", "labels", "acceptedResourceRoles",
    "ipAddress", "networks", "check", "resourceLimits", "executorResources",
    "taskKillGracePeriodSeconds", "killSelection", "unreachableStrategy", "secrets", "role", "tty",
    "version", "versionInfo", "residency",
)  # fmt: skip


def _container(app: AppDefinition, full: object) -> object:
    """The canonical container, its docker block with the network and mappings of 2016 added."""
    if app.container is None or not isinstance(full, dict):
        return None
    shown: Json = dict(full)
    if not is_host(app.networks):
        shown.setdefault("portMappings", [])
    if app.container.docker is None:
        return shown
    docker = dict(full["docker"])
    network = "HOST" if is_host(app.networks) else "BRIDGE" if is_bridge(app.networks) else "USER"
    shown["docker"] = {
        "image": docker.pop("image"),
        "network": network,
        "portMappings": None if network == "HOST" else shown["portMappings"],
        **docker,
    }
    return shown


def _mapped_definitions(app: AppDefinition) -> list[Json]:
    mappings = app.container.port_mappings if app.container is not None else ()
    definitions: list[Json] = []
    for mapping in mappings:
        definition: Json = {"port": mapping.service_port, "protocol": mapping.protocol}
        if mapping.name is not None:
            definition["name"] = mapping.name
        definition["labels"] = mapping.labels
        definitions.append(definition)
    return definitions


def _ip_address(app: AppDefinition) -> Json | None:
    """IP per task as until 1.4: for the first container network."""
    network = app.networks[0]
    if network.mode != "container":
        return None
    in_docker = app.container is not None and app.container.docker is not None
    mappings = app.container.port_mappings if app.container is not None else ()
    ports = [] if in_docker else [
        {
            "number": mapping.container_port,
            "name": mapping.name or f"port{index}",
            "protocol": mapping.protocol,
            "labels": mapping.labels,
        }
        for index, mapping in enumerate(mappings)
    ]  # fmt: skip
    return {
        "groups": [],
        "labels": network.labels,
        "discovery": {"ports": ports},
        "networkName": network.name,
    }


def _plain(record: msgspec.Struct) -> Json:
    """A record as JSON values, whole floats as integers."""
    value = _whole(msgspec.to_builtins(record))
    assert isinstance(value, dict)
    return value


def _whole(value: object) -> object:
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
