"""Why an id, a command or a container is none, in the original's words, for whoever is told of one.

Each function returns the reason, or None if there is nothing to object. Rules: spec/mesos.md §2.4,
§2.5; texts as Mesos `src/common/validation.cpp`.
"""

from __future__ import annotations

import re
from typing import Final

from mesostk.wire.mesos import CommandInfo, ContainerInfo, Environment

_NOT_IN_IDS: Final = re.compile(r"[\x00-\x1f\x7f/\\]")


def id_error(text: str) -> str | None:
    """Why `text` is no id for a framework, agent, task or executor."""
    if not text:
        return "ID must not be empty"
    if len(text.encode()) > 255:
        return "ID must not be greater than 255 characters"
    if text in {".", ".."}:
        return f"'{text}' is disallowed"
    if _NOT_IN_IDS.search(text) is not None:
        return f"'{text}' contains invalid characters"
    return None


def command_error(what: str, command: CommandInfo | None) -> str | None:
    """Why `what`, a command, is none."""
    if command is None:
        return None
    if command.shell and command.value is None:
        return f"{what} is invalid: a shell command needs a 'value'"
    return _environment_error(what, command.environment)


def _environment_error(what: str, environment: Environment | None) -> str | None:
    if environment is None:
        return None
    for variable in environment.variables:
        if variable.type == "UNKNOWN":
            return f"{what} is invalid: Environment variable '{variable.name}' of type 'UNKNOWN'"
        if variable.type == "VALUE" and variable.value is None:
            return (
                f"{what} is invalid: Environment variable '{variable.name}' of type 'VALUE'"
                " must have a value set"
            )
        if variable.type == "SECRET" and variable.secret is None:
            return (
                f"{what} is invalid: Environment variable '{variable.name}' of type 'SECRET'"
                " must have a secret set"
            )
    return None


def container_error(what: str, container: ContainerInfo | None) -> str | None:
    """Why `what`, a description of a container, is none."""
    if container is None:
        return None
    for volume in container.volumes:
        ways = (volume.host_path, volume.image, volume.source)
        if sum(way is not None for way in ways) != 1:
            return (
                f"{what} is invalid: Volume '{volume.container_path}' needs exactly one of"
                " 'host_path', 'image' and 'source'"
            )
    if container.type == "DOCKER":
        if container.docker is None:
            return (
                f"{what} is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
            )
        if any(parameter.key == "name" for parameter in container.docker.parameters):
            return f"{what} is invalid: Parameter in DockerInfo must not be 'name'"
    return None
