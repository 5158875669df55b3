"""JSON Schema of the bodies of apps, pods and groups, made of the shapes that read them.

It tells keys, types and closed sets. What else is asked of values (ranges, what excludes what) is
told by the answer 422; `?dryRun=true` asks for it without changing anything.
Source: `/v2/schemas/app` of Marathon up to 1.7, in draft 4 of JSON Schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from mesostk.marathon import appinput, pods
from mesostk.marathon.appinput import AppInput
from mesostk.marathon.groupchange import GroupInput
from mesostk.wire.pods import PodInput

Kind = Literal["app", "pod", "group"]
Schema = dict[str, Any]

_SHAPES: dict[Kind, type[msgspec.Struct]] = {"app": AppInput, "pod": PodInput, "group": GroupInput}
_READ_ONLY: dict[Kind, frozenset[str]] = {
    "app": appinput.READ_ONLY,
    "pod": pods.READ_ONLY,
    "group": frozenset(),
}

_DRAFT = "http://json-schema.org/draft-04/schema#"
_AT = "#/definitions/"

#: What the shape of a group reads later, each by its own shape.
_IN_GROUPS: dict[str, Kind] = {"apps": "app", "pods": "pod", "groups": "group"}


def documents() -> dict[str, Schema]:
    """The schema of each kind of body, complete in itself. Costs some 15 ms of processor time."""
    _, made = msgspec.json.schema_components(
        tuple(_SHAPES.values()),
        schema_hook=lambda _type: {"title": "any value"},
        ref_template=_AT + "{name}",
    )
    named = {name: _as_read(schema) for name, schema in made.items()}
    for kind, shape in _SHAPES.items():
        keys = named[shape.__name__]["properties"]
        keys |= {key: {"description": "not read"} for key in sorted(_READ_ONLY[kind])}
    for key, kind in _IN_GROUPS.items():
        items = {"$ref": _AT + _SHAPES[kind].__name__}
        whole = {"type": "array", "items": items}
        named[GroupInput.__name__]["properties"][key] = _or_null(whole)
    return {kind: _whole(named, shape.__name__) for kind, shape in _SHAPES.items()}


def _as_read(schema: Schema) -> Schema:
    """A schema as bodies are read: members that are null count as absent, unknown keys do not."""
    found = {key: _inner(value) for key, value in schema.items()}
    required = found.pop("required", [])
    if "default" in found and found["default"] is None:
        del found["default"]
    if "properties" in found:
        keys = found["properties"]
        found["properties"] = {
            key: part if key in required else _or_null(part) for key, part in keys.items()
        }
        found["additionalProperties"] = False
    elif isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = _or_null(found["additionalProperties"])
    return found | ({"required": required} if required else {})


def _inner(value: Any) -> Any:
    """The parts of a schema; a mapping of names to schemas has nothing but mappings in it."""
    if isinstance(value, dict):
        is_schema = not all(isinstance(part, dict) for part in value.values())
        return _as_read(value) if is_schema else {k: _inner(part) for k, part in value.items()}
    return [_inner(item) for item in value] if isinstance(value, list) else value


def _or_null(schema: Schema) -> Schema:
    options = schema.get("anyOf", [schema])
    if {"type": "null"} in options:
        return schema
    return {"anyOf": [*options, {"type": "null"}]}


def _whole(named: Mapping[str, Schema], root: str) -> Schema:
    """The schema called `root` with all that it refers to."""
    used: dict[str, Schema] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used[name] = named[name]
            waiting += _references(named[name])
    definitions = {name: used[name] for name in sorted(used)}
    return {"$schema": _DRAFT, **named[root], "definitions": definitions}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        aim = value.get("$ref")
        if isinstance(aim, str):
            yield aim.removeprefix(_AT)
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)
