"""The environment of an app's task.

Source: spec/marathon §3.4; later rules win, the user's own `env` last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mesostk.marathon.apps import is_host
from mesostk.marathon.matcher import Match
from mesostk.wire.marathon import AppDefinition, EnvSecret, PortDefinition, PortMapping

#: Longer keys or values stay out of the environment, as the original keeps them out.
_MAX_KEY, _MAX_VALUE = 493, 512

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


def variables(
    app: AppDefinition, match: Match, task: str, prefix: str | None, enforce_role: bool
) -> dict[str, str | EnvSecret]:
    """All variables by name; `prefix` goes before HOST and PORT* only."""
    before = prefix if prefix is not None else ""
    aimed = {f"{before}{name}": value for name, value in _address(app, match).items()}
    return {**_about(app, task, enforce_role), **aimed, **app.env}


def _about(app: AppDefinition, task: str, enforce_role: bool) -> dict[str, str]:
    found = {
        "MESOS_TASK_ID": task,
        "MARATHON_APP_ID": app.id,
        "MARATHON_APP_VERSION": app.version if app.version is not None else "",
        "MARATHON_APP_RESOURCE_CPUS": repr(float(app.cpus)),
        "MARATHON_APP_RESOURCE_MEM": repr(float(app.mem)),
        "MARATHON_APP_RESOURCE_DISK": repr(float(app.disk)),
        "MARATHON_APP_RESOURCE_GPUS": str(app.gpus),
        "MARATHON_APP_ENFORCE_GROUP_ROLE": "TRUE" if enforce_role else "FALSE",
    }
    container = app.container
    if container is not None and container.type == "DOCKER" and container.docker is not None:
        found["MARATHON_APP_DOCKER_IMAGE"] = container.docker.image
    return found | of_labels(app.labels)


def of_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The variables that tell a task its labels."""
    told = {
        _NOT_IN_NAMES.sub("_", key).upper(): value
        for key, value in labels.items()
        if len(key) < _MAX_KEY and len(value) < _MAX_VALUE
    }
    found = {f"MARATHON_APP_LABEL_{key}": value for key, value in told.items()}
    return {"MARATHON_APP_LABELS": " ".join(told), **found}


def _address(app: AppDefinition, match: Match) -> dict[str, str]:
    found = {"HOST": match.placement.hostname}
    if not match.seen:
        return found
    definitions: Sequence[PortDefinition | PortMapping] = app.port_definitions
    if not is_host(app.networks):
        definitions = app.container.port_mappings if app.container is not None else ()
    for definition, port in zip(definitions, match.seen, strict=True):
        asked = (
            definition.port if isinstance(definition, PortDefinition) else definition.container_port
        )
        found[f"PORT_{asked if asked != 0 else port}"] = str(port)
    for definition, port in zip(definitions, match.seen, strict=True):
        if definition.name is not None:
            found[f"PORT_{definition.name.upper()}"] = str(port)
    found |= {f"PORT{index}": str(port) for index, port in enumerate(match.seen)}
    found["PORT"] = str(match.seen[0])
    found["PORTS"] = ",".join(str(port) for port in match.seen)
    return found
