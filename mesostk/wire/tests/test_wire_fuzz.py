"""Calls that are nearly right: a record, or an error that names the field."""

from __future__ import annotations

import copy
import json as plain
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.errors import WireError
from mesostk.wire import agent_operator, executor, operator, scheduler
from mesostk.wire.json import decode

ID = {"value": "x"}
SCALAR = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.5}, "role": "*"}
TASK = {
    "name": "t",
    "task_id": ID,
    "agent_id": ID,
    "resources": [SCALAR],
    "command": {"value": "x"},
}
LAUNCH = {"type": "LAUNCH", "launch": {"task_infos": [TASK]}}
#: One document of each kind of call, with something of every shape below it.
CALLS: list[tuple[type[msgspec.Struct], dict[str, Any]]] = [
    (
        scheduler.Call,
        {
            "type": "ACCEPT",
            "framework_id": ID,
            "accept": {
                "offer_ids": [ID],
                "operations": [LAUNCH],
                "filters": {"refuse_seconds": 5.0},
            },
        },
    ),
    (
        scheduler.Call,
        {
            "type": "SUBSCRIBE",
            "subscribe": {
                "framework_info": {"user": "u", "name": "n", "roles": ["a"], "checkpoint": True},
                "suppressed_roles": ["a"],
            },
        },
    ),
    (
        executor.Call,
        {
            "type": "UPDATE",
            "framework_id": ID,
            "executor_id": ID,
            "update": {"status": {"task_id": ID, "state": "TASK_RUNNING", "uuid": "AAAA"}},
        },
    ),
    (
        operator.Call,
        {
            "type": "UPDATE_QUOTA",
            "update_quota": {"quota_configs": [{"role": "a", "limits": {"cpus": {"value": 1.0}}}]},
        },
    ),
    (
        operator.Call,
        {"type": "RESERVE_RESOURCES", "reserve_resources": {"agent_id": ID, "resources": [SCALAR]}},
    ),
    (
        agent_operator.Call,
        {
            "type": "LAUNCH_CONTAINER",
            "launch_container": {"container_id": ID, "command": {"value": "x"}},
        },
    ),
]

JUNK: list[Any] = [None, True, -1, 2**70, 1.5, "", "x", [], [None], {}, {"value": []}, "Infinity"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    keys = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [
        found for key, child in (*keys, *items) for found in places(child, (*path, key))
    ]


@pytest.mark.parametrize(
    ("cls", "document"), CALLS, ids=lambda value: getattr(value, "__module__", "")
)
def test_any_value_in_any_place_is_read_or_refused_by_the_name_of_the_field(
    cls: type[msgspec.Struct], document: dict[str, Any]
) -> None:
    assert isinstance(decode(plain.dumps(document), cls), cls)
    for path in places(document):
        for junk in JUNK:
            changed = copy.deepcopy(document)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = junk
            said = refusal(plain.dumps(changed).encode(), cls)
            names = [str(key) for key in path if isinstance(key, str)]
            assert said is None or any(name in said for name in (*names, "$")), (path, junk, said)


@settings(max_examples=100)
@given(st.binary(max_size=60), st.sampled_from([cls for cls, _ in CALLS]))
def test_bytes_that_are_no_call_are_refused_in_words(raw: bytes, cls: type[msgspec.Struct]) -> None:
    assert refusal(raw, cls) != ""


def refusal(raw: bytes, cls: type[msgspec.Struct]) -> str | None:
    """Why a body is refused; None if it is read."""
    try:
        decode(raw, cls)
    except WireError as error:
        return str(error)
    return None
