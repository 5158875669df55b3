"""Why calls of the agent's operator API are none; texts of Mesos `src/slave/validation.cpp`."""

from __future__ import annotations

import json as plain
from typing import Any

import pytest

from mesostk.agent.validation import call_error
from mesostk.wire import agent_operator as wire
from mesostk.wire import json

CPUS = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}}
ALONE = {
    "container_id": {"value": "c"},
    "command": {"value": "true"},
    "resources": [CPUS],
}
BELOW = {"value": "c", "parent": {"value": "p"}}
DEEP = {"value": "c", "parent": BELOW}
NESTED = {"container_id": BELOW, "command": {"value": "true"}}


def why(kind: str, body: dict[str, Any] | None) -> str | None:
    call = {"type": kind} if body is None else {"type": kind, kind.lower(): body}
    return call_error(json.decode(plain.dumps(call), wire.Call))


def amount(value: object) -> list[dict[str, Any]]:
    return [{**CPUS, "scalar": {"value": value}}]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("LAUNCH_CONTAINER", ALONE),
        ("LAUNCH_CONTAINER", {**NESTED, "resources": [CPUS, CPUS]}),
        ("LAUNCH_CONTAINER", {**NESTED, "container_id": DEEP}),
        ("LAUNCH_NESTED_CONTAINER", NESTED),
        ("LAUNCH_NESTED_CONTAINER_SESSION", NESTED),
        ("WAIT_CONTAINER", {"container_id": {"value": "n" * 242}}),
        ("KILL_NESTED_CONTAINER", {"container_id": BELOW}),
        ("PRUNE_IMAGES", None),
        ("GET_CONTAINERS", None),
        ("UNKNOWN", None),
    ],
)
def test_what_means_something_is_not_refused(kind: str, body: dict[str, Any] | None) -> None:
    assert why(kind, body) is None


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("WAIT_CONTAINER", None, "Expecting 'wait_container' to be present"),
        ("WAIT_CONTAINER", {"container_id": {"value": ""}},
         "'wait_container.container_id' is invalid: ID must not be empty"),
        ("KILL_CONTAINER", {"container_id": {"value": "a/b"}},
         "'kill_container.container_id' is invalid: 'a/b' contains invalid characters"),
        ("REMOVE_CONTAINER", {"container_id": {"value": ".."}},
         ("'remove_container.container_id' is invalid: 'ContainerID.value' '..' contains invalid"
         " characters")),
        ("ATTACH_CONTAINER_OUTPUT", {"container_id": {"value": "a b"}},
         ("'attach_container_output.container_id' is invalid: 'ContainerID.value' 'a b' contains"
         " invalid characters")),
        ("WAIT_CONTAINER", {"container_id": {"value": "n" * 243}},
         ("'wait_container.container_id' is invalid: 'ContainerID.value' must not be longer than"
          " 242 bytes")),
        ("WAIT_CONTAINER", {"container_id": {"value": "é" * 122}},
         ("'wait_container.container_id' is invalid: 'ContainerID.value' must not be longer than"
          " 242 bytes")),
        ("WAIT_CONTAINER", {"container_id": {"value": "c", "parent": {"value": ""}}},
         ("'wait_container.container_id' is invalid: 'ContainerID.parent' is invalid: ID must not"
          " be empty")),
        *(
            (f"LAUNCH_{kind}", {"container_id": {"value": "c"}},
             f"Expecting 'launch_{kind.lower()}.container_id.parent' to be present")
            for kind in ("NESTED_CONTAINER", "NESTED_CONTAINER_SESSION")
        ),
        ("LAUNCH_CONTAINER", {**ALONE, "resources": amount(-1)},
         "Invalid resources: Resource 'cpus' is invalid: Invalid scalar resource: value < 0"),
        *(
            ("LAUNCH_CONTAINER", {**ALONE, "resources": amount(value)},
             ("Invalid resources: Resource 'cpus' is invalid: Invalid scalar resource: value is not"
              " a finite number"))
            for value in ("NaN", "Infinity", 1e308)
        ),
        ("LAUNCH_CONTAINER", {**ALONE, "resources": amount(1e300)},
         "Invalid resources: Resource 'cpus' is invalid: no host has 1e+300"),
        ("LAUNCH_CONTAINER", {**ALONE, "resources": []},
         "Expecting 'launch_container.resources' of a standalone container"),
        ("LAUNCH_CONTAINER", {**ALONE, "resources": [{**CPUS, "role": "eng"}]},
         "'launch_container.resources' must be unreserved"),
        ("LAUNCH_CONTAINER",
         {**ALONE, "resources": [{**CPUS, "name": "disk", "disk": {"persistence": {"id": "v"}}}]},
         "'launch_container.resources' may not use persistent volumes"),
        ("LAUNCH_CONTAINER", {**ALONE, "resources": [{**CPUS, "revocable": {}}]},
         "'launch_container.resources' must be non-revocable"),
        ("LAUNCH_CONTAINER", {**NESTED, "container_id": DEEP, "resources": [CPUS]},
         ("'launch_container' is invalid: containers nested at the second level or greater cannot"
         " specify resources")),
        ("LAUNCH_CONTAINER", {**ALONE, "limits": {"cpus": {"value": 2.0}}},
         ("'launch_container.limits' are not supported; 'launch_container.resources' are the"
         " limits")),
        ("LAUNCH_CONTAINER", {**ALONE, "command": {"shell": False}},
         "Expecting 'launch_container.command.value' to be present"),
        ("LAUNCH_NESTED_CONTAINER", {"container_id": BELOW},
         "Expecting 'launch_nested_container.command.value' to be present"),
        ("LAUNCH_NESTED_CONTAINER",
         {**NESTED, "command": {"value": "x", "environment": {"variables": [{"name": "A"}]}}},
         ("'launch_nested_container.command' is invalid: Environment variable 'A' of type 'VALUE'"
         " must have a value set")),
        ("LAUNCH_NESTED_CONTAINER_SESSION", {**NESTED, "container": {"type": "DOCKER"}},
         ("'launch_nested_container_session.container.type' DOCKER cannot be launched by this call;"
         " leave it MESOS")),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_by_the_name_of_the_field(
    kind: str, body: dict[str, Any] | None, text: str
) -> None:
    assert why(kind, body) == text
