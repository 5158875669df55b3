"""JSON as Mesos reads and writes protobufs, which is not the proto3 mapping.

Writing: names as in the .proto, 64-bit integers as numbers, doubles with a fraction, bytes in
base64, infinite doubles as `"Infinity"`; NaN has no spelling and is written as `null`.

Reading is tried strictly first, which fits what nearly every peer sends. Only a document that fails
is read again with the original's leniency: `null` is ignored, an unknown enum name leaves its field
unset, strings serve as numbers and booleans. What is still wrong becomes a `WireError` that names
the field's path. Source: Mesos `3rdparty/stout/include/stout/protobuf.hpp`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import UnionType
from typing import Any, TypeVar, overload

import msgspec
from msgspec import inspect as mi

from mesostk.errors import WireError

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()
_UNTYPED = msgspec.json.Decoder()

#: Repairs one untyped value; paths of absent required fields are added to the list.
_Repair = Callable[[Any, str, list[str]], Any]

#: Stands for "as if it had not been there".
_ABSENT = object()

_JSON_KINDS = {
    "int": "number",
    "float": "number",
    "array": "array",
    "object": "object",
    "str": "string",
    "bool": "boolean",
    "null": "null",
}
_MISMATCH = re.compile(r"^Expected `(?P<expected>[^`]+)`, got `(?P<got>[a-z]+)`")


def encode(obj: object) -> bytes:
    """The JSON of a wire record, or of plain dicts and lists of them.

    Raises WireError for what JSON cannot hold (a lone surrogate, an unknown Python type).
    """
    try:
        raw = _ENCODER.encode(obj)
        # msgspec writes non-finite numbers as null, and wire records have no other source of it.
        if b":null" in raw:
            raw = _ENCODER.encode(_spell_infinity(msgspec.to_builtins(obj)))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"cannot be written as JSON: {error}") from error
    return raw


def encode_shown(obj: object) -> bytes:
    """The JSON of records and dicts in which `null` is a value and every number finite.

    Marathon's answers are such: `encode` would take each `null` for a number to spell.
    Raises WireError as `encode` does.
    """
    try:
        return _ENCODER.encode(obj)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"cannot be written as JSON: {error}") from error


def _spell_infinity(value: Any) -> Any:
    """`value` with infinite floats as the strings that the original reads back."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spell_infinity(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell_infinity(item) for item in value]
    return value


#: Made at first use; there are as many as types that come from outside.
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}
_REPAIRS: dict[Any, _Repair] = {}


@overload
def decode(data: bytes | bytearray | memoryview | str, type: type[T]) -> T: ...


@overload
def decode(data: bytes | bytearray | memoryview | str, type: UnionType) -> Any: ...


def decode(data: bytes | bytearray | memoryview | str, type: Any) -> Any:
    """`data` as a record of `type`; also takes unions of tagged records.

    Raises WireError: `Missing required fields: a.b, c[0].d`, or what is wrong at which path.
    """
    decoder = _DECODERS.get(type)
    if decoder is None:
        decoder = _DECODERS[type] = msgspec.json.Decoder(type, strict=False)
    try:
        try:
            return decoder.decode(data)
        except msgspec.ValidationError as error:
            return _decode_leniently(data, type, str(error))
    except RecursionError as error:
        raise WireError("JSON is nested too deeply") from error
    except UnicodeError as error:
        raise WireError(f"JSON is not UTF-8: {error}") from error
    except msgspec.DecodeError as error:
        raise WireError(f"syntax error: {error}") from error


def _decode_leniently(data: Any, type: Any, first_error: str) -> Any:
    """`data` once more; `first_error` is what to say when it cannot even be read without types."""
    missing: list[str] = []
    try:
        plain = _UNTYPED.decode(data)
    except msgspec.ValidationError as error:
        raise WireError(_explain(first_error)) from error
    repaired = _repair_of(type)(plain, "", missing)
    if missing:
        raise WireError("Missing required fields: " + ", ".join(missing))
    try:
        return msgspec.convert(repaired, type, strict=False)
    except msgspec.ValidationError as error:
        raise WireError(_explain(str(error))) from error


def _explain(message: str) -> str:
    """msgspec's message in the original's words where it has some, with the path.

    Source: the texts answered by Mesos 1.11 for malformed bodies.
    """
    what, _, path = message.partition(" - at `")
    path = path.rstrip("`").removeprefix("$").lstrip(".").removeprefix("key in ")
    match = _MISMATCH.match(what)
    if match is None:
        return f"{what} at '{path}'" if path else what
    if not path:
        return "Expecting a JSON object" if match["expected"] == "object" else what
    kind = _JSON_KINDS.get(match["got"], match["got"])
    field = path.rpartition(".")[2]
    return f"Not expecting a JSON {kind} for field '{field}' (at '{path}': {what})"


# -- repair ---------------------------------------------------------------------------------------


def _repair_of(type: Any) -> _Repair:
    repair = _REPAIRS.get(type)
    if repair is None:
        repair = _REPAIRS[type] = _build(mi.type_info(type), {})
    return repair


def _build(info: mi.Type, seen: dict[Any, _Repair]) -> _Repair:
    """The repair for `info`; `seen` ends the recursion of types that contain themselves."""
    if isinstance(info, mi.StructType):
        return _build_struct(info, seen)
    if isinstance(info, mi.UnionType):
        return _build_union(info, seen)
    if isinstance(info, (mi.VarTupleType, mi.ListType)):
        return _repair_array(_build(info.item_type, seen))
    if isinstance(info, mi.DictType):
        return _repair_map(_build(info.value_type, seen))
    if isinstance(info, mi.LiteralType):
        return _repair_enum(frozenset(info.values))
    return _keep


def _keep(value: Any, path: str, missing: list[str]) -> Any:  # noqa: ARG001  # a _Repair
    return value


def _repair_enum(names: frozenset[Any]) -> _Repair:
    def repair(value: Any, path: str, missing: list[str]) -> Any:  # noqa: ARG001  # a _Repair
        if isinstance(value, str) and value not in names:
            return _ABSENT
        return value

    return repair


def _repair_array(repair_item: _Repair) -> _Repair:
    def repair(value: Any, path: str, missing: list[str]) -> Any:
        if not isinstance(value, list):
            return value
        items = (
            repair_item(item, f"{path}[{index}]", missing)
            for index, item in enumerate(value)
            if item is not None
        )
        return [item for item in items if item is not _ABSENT]

    return repair


def _repair_map(repair_item: _Repair) -> _Repair:
    def repair(value: Any, path: str, missing: list[str]) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: repair_item(item, f"{path}['{key}']", missing)
            for key, item in value.items()
            if item is not None
        }

    return repair


def _build_union(info: mi.UnionType, seen: dict[Any, _Repair]) -> _Repair:
    members = [member for member in info.types if not isinstance(member, mi.NoneType)]
    structs = [member for member in members if isinstance(member, mi.StructType)]
    if len(members) == 1:
        return _build(members[0], seen)
    if not structs:
        return _keep
    by_tag = {struct.tag: _build(struct, seen) for struct in structs}
    tag_field = structs[0].tag_field

    def repair(value: Any, path: str, missing: list[str]) -> Any:
        if not isinstance(value, dict):
            return value
        if tag_field is None:
            return by_tag[None](value, path, missing)
        tag = value.get(tag_field)
        known = by_tag.get(tag) if isinstance(tag, (str, int)) else None
        return value if known is None else known(value, path, missing)

    return repair


def _build_struct(info: mi.StructType, seen: dict[Any, _Repair]) -> _Repair:
    if info.cls in seen:
        return seen[info.cls]
    repairs: dict[str, _Repair] = {}
    required = [field.encode_name for field in info.fields if field.required]

    def repair(value: Any, path: str, missing: list[str]) -> Any:
        if not isinstance(value, dict):
            return value
        prefix = f"{path}." if path else ""
        kept: dict[str, Any] = {}
        for name, item in value.items():
            repair_field = repairs.get(name, _keep)
            if item is None:
                continue
            item = repair_field(item, prefix + name, missing)
            if item is not _ABSENT:
                kept[name] = item
        missing.extend(prefix + name for name in required if name not in kept)
        return kept

    seen[info.cls] = repair
    for field in info.fields:
        repairs[field.encode_name] = _build(field.type, seen)
    return repair
