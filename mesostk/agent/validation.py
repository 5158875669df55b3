"""Why a call of the agent's operator API is none, in the original's words (spec/mesos.md §4.4).

Each function returns the reason, or None if there is nothing to object. Source of rules and texts:
Mesos `src/slave/validation.cpp`; of the longest id, `src/slave/containerizer`.
"""

from __future__ import annotations

from typing import Final

from mesostk.base.commands import command_error, container_error, id_error
from mesostk.resources import validity
from mesostk.resources.kinds import reservations_of
from mesostk.wire import agent_operator as wire
from mesostk.wire.mesos import ContainerID, Resource

#: Calls that carry a message of their own name, without which they mean nothing.
_WITH_BODY: Final = frozenset(wire.Call.__struct_fields__) - {
    "type",
    "get_containers",
    "prune_images",
}

#: Of a scalar: beyond it, numbers of cgroups and their thousandths have no room, and no host any.
_MOST: Final = 1e12

#: Longest id of a container, in bytes: it names directories and cgroups with something before it.
_MAX_ID_BYTES: Final = 242


def call_error(call: wire.Call) -> str | None:
    """Why a call is none, whatever there is on the agent."""
    if call.type is None:
        return "Expecting 'type' to be present"
    name = call.type.lower()
    if name not in _WITH_BODY:
        return None
    body = getattr(call, name)
    if body is None:
        return f"Expecting '{name}' to be present"
    container_id: ContainerID | None = getattr(body, "container_id", None)
    why = container_id_error(container_id) if container_id is not None else None
    if why is not None:
        return f"'{name}.container_id' is invalid: {why}"
    if isinstance(body, wire.LaunchNested):
        if body.container_id.parent is None:
            return f"Expecting '{name}.container_id.parent' to be present"
        return _what_error(name, body)
    return _launch_error(body) if isinstance(body, wire.LaunchContainer) else None


def container_id_error(container_id: ContainerID) -> str | None:
    """Why an id, or one of its parents', is none."""
    one: ContainerID | None = container_id
    where = ""
    while one is not None:
        why = _name_error(one.value)
        if why is not None:
            return where + why
        where, one = "'ContainerID.parent' is invalid: ", one.parent
    return None


def _name_error(value: str) -> str | None:
    if set(value) & set(". ") or not value.isprintable():
        return f"'ContainerID.value' '{value}' contains invalid characters"
    if len(value.encode()) > _MAX_ID_BYTES:
        return f"'ContainerID.value' must not be longer than {_MAX_ID_BYTES} bytes"
    return id_error(value)


def _launch_error(asked: wire.LaunchContainer) -> str | None:
    name = "launch_container"
    parent = asked.container_id.parent
    why = validity.why_not_all(asked.resources)
    if why is not None:
        return f"Invalid resources: {why}"
    for resource in asked.resources:
        if resource.scalar is not None and resource.scalar.value > _MOST:
            return (
                f"Invalid resources: Resource '{resource.name}' is invalid: no host has"
                f" {resource.scalar.value:g}"
            )
    if parent is None:
        why = _standing_alone_error(asked.resources)
    elif parent.parent is not None and asked.resources:
        why = (
            f"'{name}' is invalid: containers nested at the second level or greater cannot specify"
            " resources"
        )
    if why is not None:
        return why
    if asked.limits:
        return f"'{name}.limits' are not supported; '{name}.resources' are the limits"
    return _what_error(name, asked)


def _standing_alone_error(resources: tuple[Resource, ...]) -> str | None:
    """The master knows nothing of a container without a parent, and counts nothing for it."""
    field = "'launch_container.resources'"
    if not resources:
        return f"Expecting {field} of a standalone container"
    for resource in resources:
        if reservations_of(resource):
            return f"{field} must be unreserved"
        if resource.disk is not None:
            return f"{field} may not use persistent volumes"
        if resource.revocable is not None:
            return f"{field} must be non-revocable"
    return None


def _what_error(name: str, asked: wire.LaunchNested | wire.LaunchContainer) -> str | None:
    why = command_error(f"'{name}.command'", asked.command)
    if why is not None:
        return why
    if asked.command is None or asked.command.value is None:
        return f"Expecting '{name}.command.value' to be present"
    if asked.container is not None and asked.container.type == "DOCKER":
        return f"'{name}.container.type' DOCKER cannot be launched by this call; leave it MESOS"
    return container_error(f"'{name}.container'", asked.container)
