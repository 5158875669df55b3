"""Which secrets a task names. Pure.

::

    command.environment ─▶ variables     container.volumes ─▶ files
    container.mesos.image.docker.config ─▶ a Docker configuration, with which the image is pulled

What is in them is known to `secrets` alone; here, in records and in states they are names.
"""

from __future__ import annotations

import re

from mesostk.agent.events import SecretUse
from mesostk.errors import MesostkError
from mesostk.wire.mesos import Secret, TaskInfo

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class SecretError(MesostkError):
    """A secret cannot be had; the message says which and what to do, never what is in it."""


def uses_of(task: TaskInfo) -> tuple[SecretUse, ...]:
    """The secrets that `task` wants. Raises SecretError for what is no name."""
    command, container = task.command, task.container
    variables = () if command is None or command.environment is None else command.environment
    found = [
        SecretUse(name_of(each.secret), variable=each.name)
        for each in (variables.variables if variables else ())
        if each.type == "SECRET"
    ]
    for volume in () if container is None else container.volumes:
        source = volume.source
        if source is not None and source.type == "SECRET":
            found.append(SecretUse(name_of(source.secret), path=volume.container_path))
    image = container.mesos.image if container is not None and container.mesos else None
    if image is not None and image.docker is not None and image.docker.config is not None:
        found.append(SecretUse(name_of(image.docker.config), pulls=True))
    return tuple(found)


def why_not(task: TaskInfo) -> str | None:
    """Why the secrets of `task` cannot even be looked for; None if they can."""
    try:
        uses_of(task)
    except SecretError as error:
        return str(error)
    return None


def name_of(secret: Secret | None) -> str:
    """The name of the file below the directory of secrets. Raises SecretError."""
    if secret is None or secret.reference is None:
        # By value it would be in the agent's records, in states and in the master's memory.
        raise SecretError("a secret must be a REFERENCE: the name of a file of --secrets_dir")
    name = secret.reference.name.removeprefix("/")
    if secret.reference.key is not None:
        name += f"/{secret.reference.key}"
    if not all(_SEGMENT.fullmatch(part) for part in name.split("/")):
        raise SecretError(
            f"secret '{name[:128]}': a name is made of letters, digits and '_-./', as db/password"
        )
    return name
