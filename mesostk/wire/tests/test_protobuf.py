"""The own protobuf codec against google's, for every message of the four HTTP APIs."""

from __future__ import annotations

import functools
import math
from typing import Any

import msgspec
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as mi

from mesostk.errors import WireError
from mesostk.testing.strategies import offers, task_infos
from mesostk.wire import agent_operator, executor, json, mesos, operator, protobuf, scheduler
from mesostk.wire.numbers import ENUMS, FIELDS

ROOTS = (
    scheduler.Call,
    scheduler.Event,
    executor.Call,
    executor.Event,
    operator.Call,
    operator.Response,
    operator.Event,
    agent_operator.Call,
    agent_operator.Response,
    agent_operator.ProcessIO,
)

Proto = descriptor_pb2.FieldDescriptorProto

PROTO_TYPES = {
    "string": Proto.TYPE_STRING,
    "bytes": Proto.TYPE_BYTES,
    "double": Proto.TYPE_DOUBLE,
    "bool": Proto.TYPE_BOOL,
    "int32": Proto.TYPE_INT32,
    "uint32": Proto.TYPE_UINT32,
    "int64": Proto.TYPE_INT64,
    "uint64": Proto.TYPE_UINT64,
}


# -- the tables ---------------------------------------------------------------------------------


@functools.cache
def rows(cls: type[msgspec.Struct]) -> dict[str, tuple[int, str]]:
    """Field name ↦ (number, kind)."""
    parts = (part.partition("=") for part in FIELDS[cls].split())
    split = ((name, rest.partition(":")) for name, _, rest in parts)
    return {name: (int(number), kind) for name, (number, _, kind) in split}


@functools.cache
def enum_numbers(name: str) -> dict[str, int]:
    return {key: int(n) for key, _, n in (part.partition("=") for part in ENUMS[name].split())}


def bare(type: mi.Type) -> mi.Type:
    """Without `None`."""
    if isinstance(type, mi.UnionType):
        [type] = [member for member in type.types if not isinstance(member, mi.NoneType)]
    return type


def element(type: mi.Type) -> mi.Type:
    type = bare(type)
    if isinstance(type, mi.VarTupleType):
        return type.item_type
    return type.value_type if isinstance(type, mi.DictType) else type


@functools.cache
def struct_fields(cls: type[msgspec.Struct]) -> tuple[mi.Field, ...]:
    info = mi.type_info(cls)
    assert isinstance(info, mi.StructType)
    return info.fields


def reachable() -> set[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = set()
    todo: list[type[msgspec.Struct]] = list(ROOTS)
    while todo:
        cls = todo.pop()
        if cls in found:
            continue
        found.add(cls)
        for field in struct_fields(cls):
            item = element(field.type)
            if isinstance(item, mi.StructType):
                todo.append(item.cls)
    return found


def test_the_tables_hold_every_field_of_every_message_that_can_occur() -> None:
    for cls in reachable():
        table = rows(cls)
        assert set(table) == set(cls.__struct_fields__), cls
        numbers = [number for number, _ in table.values()]
        assert len(set(numbers)) == len(numbers), cls


def test_enums_of_the_tables_are_those_of_the_structs() -> None:
    for cls in reachable():
        for field in struct_fields(cls):
            item = element(field.type)
            kind = rows(cls)[field.encode_name][1]
            if isinstance(item, mi.LiteralType):
                assert set(enum_numbers(kind)) == set(item.values), (cls, field.name)


# -- google's side ------------------------------------------------------------------------------


def proto_name(cls: type[msgspec.Struct]) -> str:
    return f"{cls.__module__.rpartition('.')[2]}_{cls.__name__}"


def describe(file: descriptor_pb2.FileDescriptorProto, cls: type[msgspec.Struct]) -> None:
    message = file.message_type.add(name=proto_name(cls))
    for field in struct_fields(cls):
        number, kind = rows(cls)[field.encode_name]
        item, type_ = element(field.type), bare(field.type)
        made = message.field.add(name=field.encode_name, number=number)
        made.label = Proto.LABEL_REQUIRED if field.required else Proto.LABEL_OPTIONAL
        if isinstance(type_, mi.VarTupleType):
            made.label = Proto.LABEL_REPEATED
        if isinstance(type_, mi.DictType):
            assert isinstance(item, mi.StructType)
            describe_map(message, made, proto_name(item.cls))
        elif kind in PROTO_TYPES:
            made.type = PROTO_TYPES[kind]
        elif kind:
            made.type, made.type_name = Proto.TYPE_ENUM, ".t." + kind.replace(".", "_")
        else:
            assert isinstance(item, mi.StructType)
            made.type, made.type_name = Proto.TYPE_MESSAGE, ".t." + proto_name(item.cls)


def describe_map(message: Any, field: Any, value: str) -> None:
    name = "".join(part.title() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Proto.TYPE_STRING, label=Proto.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=Proto.TYPE_MESSAGE,
        type_name=".t." + value,
        label=Proto.LABEL_OPTIONAL,
    )
    field.label, field.type = Proto.LABEL_REPEATED, Proto.TYPE_MESSAGE
    field.type_name = f".t.{message.name}.{name}"


@functools.cache
def pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto2")
    for name in ENUMS:
        made = file.enum_type.add(name=name.replace(".", "_"))
        for key, number in enum_numbers(name).items():
            # Names of enums in one package must differ; only numbers go on the wire.
            made.value.add(name=f"{made.name}_{key}", number=number)
    for cls in sorted(reachable(), key=proto_name):
        describe(file, cls)
    found = descriptor_pool.DescriptorPool()
    found.Add(file)
    return found


def message_class(cls: type[msgspec.Struct]) -> Any:
    descriptor = pool().FindMessageTypeByName("t." + proto_name(cls))
    return message_factory.GetMessageClass(descriptor)


def to_google(value: msgspec.Struct, message: Any = None) -> Any:
    """The same value as one of google's messages."""
    cls = type(value)
    message = message_class(cls)() if message is None else message
    message.SetInParent()
    for name, (_, kind) in rows(cls).items():
        item = getattr(value, name)
        if item is None:
            continue
        if isinstance(item, dict):
            for key, inner in item.items():
                to_google(inner, getattr(message, name)[key])
        elif isinstance(item, tuple):
            for each in item:
                if isinstance(each, msgspec.Struct):
                    to_google(each, getattr(message, name).add())
                else:
                    getattr(message, name).append(number_of(kind, each))
        elif isinstance(item, msgspec.Struct):
            to_google(item, getattr(message, name))
        else:
            setattr(message, name, number_of(kind, item))
    return message


def number_of(kind: str, value: Any) -> Any:
    return value if kind in PROTO_TYPES else enum_numbers(kind)[value]


# -- any message --------------------------------------------------------------------------------

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=4),
    "bytes": st.binary(max_size=4),
    "double": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
}


@st.composite
def structs(draw: st.DrawFn, cls: type[msgspec.Struct], depth: int = 0) -> msgspec.Struct:
    """Any `cls`; the deeper, the more is left unset."""
    values: dict[str, Any] = {}
    for field in struct_fields(cls):
        if not field.required and (depth > 5 or draw(st.integers(0, 2 + depth)) > 1):
            continue
        kind, item, type_ = rows(cls)[field.encode_name][1], element(field.type), bare(field.type)
        one: st.SearchStrategy[Any]
        if isinstance(item, mi.StructType):
            one = structs(item.cls, depth + 1)
        else:
            one = SCALARS[kind] if kind in SCALARS else st.sampled_from(sorted(enum_numbers(kind)))
        if isinstance(type_, mi.DictType):
            values[field.name] = draw(st.dictionaries(st.text(max_size=3), one, max_size=2))
        elif isinstance(type_, mi.VarTupleType):
            values[field.name] = tuple(draw(st.lists(one, max_size=2)))
        else:
            values[field.name] = draw(one)
    return cls(**values)


@pytest.mark.parametrize("root", ROOTS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_message_is_the_same_for_google(
    root: type[msgspec.Struct], data: st.DataObject
) -> None:
    value = data.draw(structs(root))
    google = to_google(value)
    assert protobuf.decode(google.SerializeToString(), root) == value
    assert message_class(root).FromString(protobuf.encode(value)) == google


@settings(max_examples=30, deadline=None)
@given(task_infos())
def test_a_task_is_the_same_in_protobuf_and_json(task: mesos.TaskInfo) -> None:
    again = protobuf.decode(protobuf.encode(task), mesos.TaskInfo)
    assert again == json.decode(json.encode(task), mesos.TaskInfo) == task


@settings(max_examples=30, deadline=None)
@given(offers())
def test_an_offer_is_the_same_for_google(offer: mesos.Offer) -> None:
    assert protobuf.encode(offer) == to_google(offer).SerializeToString(deterministic=True)


# -- leniency and refusals ----------------------------------------------------------------------


def test_a_known_encoding() -> None:
    call = scheduler.Call(type="REVIVE", framework_id=mesos.FrameworkID("F"))
    assert protobuf.encode(call) == b"\x0a\x03\x0a\x01F\x10\x05"


def test_unknown_fields_of_every_wire_type_are_skipped() -> None:
    extra = (
        b"\xa0\x06\x96\x01"  # 100: varint
        b"\xa1\x06" + b"\0" * 8 + b"\xa2\x06\x02ab"  # fixed64, bytes
        b"\xa3\x06\x08\x01\x13\x14\xa4\x06"  # group holding a field and a group
        b"\xa5\x06" + b"\0" * 4  # fixed32
    )
    assert protobuf.decode(b"\x0a\x01S" + extra, mesos.AgentID) == mesos.AgentID("S")


def test_an_unknown_enum_number_leaves_the_field_unset() -> None:
    assert protobuf.decode(b"\x10\x63", scheduler.Call).type is None
    assert protobuf.decode(b"\x08\x63", scheduler.Event).type == "UNKNOWN"


def test_parts_of_one_message_are_merged_and_the_last_scalar_counts() -> None:
    found = protobuf.decode(b"\x0a\x03\x0a\x01F\x0a\x03\x0a\x01G", scheduler.Call)
    assert found.framework_id == mesos.FrameworkID("G")
    # ACCEPT in two parts, one offer each.
    found = protobuf.decode(b"\x22\x05\x0a\x03\x0a\x01a\x22\x05\x0a\x03\x0a\x01b", scheduler.Call)
    assert found.accept is not None
    assert found.accept.offer_ids == (mesos.OfferID("a"), mesos.OfferID("b"))


def test_packed_numbers_are_taken() -> None:
    raw = b"\x08\x50" + b"\x22\x03\xc8\x01\x05"
    found = protobuf.decode(raw, mesos.HTTPCheckInfo)
    assert found.statuses == (200, 5)


def test_infinite_limits_survive() -> None:
    scalar = mesos.Scalar(math.inf)
    assert protobuf.decode(protobuf.encode(scalar), mesos.Scalar) == scalar


def test_every_missing_field_is_named_with_its_path() -> None:
    with pytest.raises(WireError) as caught:
        protobuf.decode(b"\x1a\x02\x0a\x00\x22\x02\x0a\x00", scheduler.Call)
    assert str(caught.value) == (
        "Missing required fields: subscribe.framework_info.user, "
        "subscribe.framework_info.name, accept.offer_ids[0].value"
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x0a\x05ab", "cut within a field"),
        (b"\x0a", "cut within a number"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than 64 bits"),
        (b"\x0a\x01\xff", "not UTF-8"),
        (b"\x0a\x01S\x00\x01", "field number 0"),
        (b"\x0a\x01S\x17", "wire type 7"),
        (b"\x0a\x01S\x14", "wire type 4"),
        (b"\x0a\x01S\x13\x08", "cut within a number"),
        (b"\x0a\x01S\x15\x01", "cut within a field"),
    ],
)
def test_what_is_no_protobuf_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(WireError) as caught:
        protobuf.decode(raw, mesos.AgentID)
    assert message in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_garbage_gives_a_record_or_an_error_and_nothing_else(raw: bytes) -> None:
    for root in ROOTS:
        try:
            found = protobuf.decode(raw, root)
        except WireError:
            continue
        assert isinstance(found, root)


def test_nesting_has_a_limit() -> None:
    raw = b"\x0a\x01c"
    for _ in range(150):
        size = bytearray()
        number = len(raw)
        while number > 0x7F:
            size.append(number & 0x7F | 0x80)
            number >>= 7
        size.append(number)
        raw = b"\x0a\x01c\x12" + bytes(size) + raw
    with pytest.raises(WireError, match="too deeply"):
        protobuf.decode(raw, mesos.ContainerID)


def test_what_protobuf_cannot_hold_is_refused() -> None:
    with pytest.raises(WireError, match="64 bits"):
        protobuf.encode(mesos.Range(0, 2**64))
    with pytest.raises(WireError, match="surrogates"):
        protobuf.encode(mesos.AgentID("\ud800"))
    with pytest.raises(WireError, match="no value 'FLY'"):
        protobuf.encode(mesos.CapabilityInfo(capabilities=("FLY",)))
    with pytest.raises(WireError, match="no protobuf form"):
        protobuf.encode(msgspec.defstruct("Other", [])())
