"""Protobuf for the same structs as JSON: tables of numbers, compiled to closures at first use.

Needed only at the edge, for `application/x-protobuf`. Reading has protobuf's own leniency: unknown
fields and enum numbers are skipped, a singular field that comes twice is merged or replaced,
repeated numbers may be packed. What a .proto calls required must be there. Source of the encoding:
the Protocol Buffers encoding guide; of the numbers: `numbers`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from mesostk.errors import WireError
from mesostk.wire.numbers import ENUMS, FIELDS

T = TypeVar("T")

#: Messages inside messages; google's own limit.
MAX_DEPTH = 100

_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)

_DOUBLE = struct.Struct("<d")


class _Kind(NamedTuple):
    """How a scalar is written after its tag, and read: `read(data, at, end) -> (value, at)`."""

    wire_type: int
    write: Callable[[bytearray, Any], None]
    read: Callable[[bytes, int, int], tuple[Any, int]]


class _Field(NamedTuple):
    """One field of a struct; `codec` is that of an embedded message."""

    name: str
    number: int
    is_repeated: bool
    is_map: bool
    kind: _Kind | None
    codec: _Codec | None


# -- scalars ------------------------------------------------------------------------------------


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise WireError("protobuf: a number of more than 64 bits")
    raise WireError("protobuf: the message is cut within a number")


def _write_integer(out: bytearray, value: int) -> None:
    if not -(2**63) <= value < 2**64:
        raise WireError(f"protobuf: {value} does not fit 64 bits")
    _write_varint(out, value & 0xFFFF_FFFF_FFFF_FFFF)


def _read_signed(data: bytes, at: int, end: int) -> tuple[int, int]:
    value, at = _read_varint(data, at, end)
    return (value - 2**64 if value >= 2**63 else value), at


def _read_int32(data: bytes, at: int, end: int) -> tuple[int, int]:
    value, at = _read_varint(data, at, end)
    value &= 0xFFFF_FFFF
    return (value - 2**32 if value >= 2**31 else value), at


def _read_uint32(data: bytes, at: int, end: int) -> tuple[int, int]:
    value, at = _read_varint(data, at, end)
    return value & 0xFFFF_FFFF, at


def _read_bool(data: bytes, at: int, end: int) -> tuple[bool, int]:
    value, at = _read_varint(data, at, end)
    return value != 0, at


def _write_double(out: bytearray, value: float) -> None:
    out += _DOUBLE.pack(value)


def _read_double(data: bytes, at: int, end: int) -> tuple[float, int]:
    if at + 8 > end:
        raise WireError("protobuf: the message is cut within a double")
    return _DOUBLE.unpack_from(data, at)[0], at + 8


def _write_bytes(out: bytearray, value: bytes | bytearray) -> None:
    _write_varint(out, len(value))
    out += value


def _read_bytes(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    size, at = _read_varint(data, at, end)
    if size > end - at:
        raise WireError("protobuf: the message is cut within a field")
    return data[at : at + size], at + size


def _write_string(out: bytearray, value: str) -> None:
    try:
        _write_bytes(out, value.encode())
    except UnicodeEncodeError as error:
        raise WireError(f"protobuf: {error}") from error


def _read_string(data: bytes, at: int, end: int) -> tuple[str, int]:
    raw, at = _read_bytes(data, at, end)
    try:
        return raw.decode(), at
    except UnicodeDecodeError as error:
        raise WireError(f"protobuf: a string is not UTF-8: {error}") from error


_SCALARS: Mapping[str, _Kind] = {
    "string": _Kind(_LENGTH, _write_string, _read_string),
    "bytes": _Kind(_LENGTH, _write_bytes, _read_bytes),
    "double": _Kind(_FIXED64, _write_double, _read_double),
    "bool": _Kind(_VARINT, _write_integer, _read_bool),
    "int32": _Kind(_VARINT, _write_integer, _read_int32),
    "uint32": _Kind(_VARINT, _write_integer, _read_uint32),
    "int64": _Kind(_VARINT, _write_integer, _read_signed),
    "uint64": _Kind(_VARINT, _write_integer, _read_varint),
}


def _enum(name: str) -> _Kind:
    numbers = {key: int(number) for key, _, number in _parse(ENUMS[name])}
    names = {number: key for key, number in numbers.items()}

    def write(out: bytearray, value: str) -> None:
        number = numbers.get(value)
        if number is None:
            raise WireError(f"protobuf: {name} has no value '{value}'")
        _write_varint(out, number)

    def read(data: bytes, at: int, end: int) -> tuple[str | None, int]:
        number, at = _read_int32(data, at, end)
        return names.get(number), at

    return _Kind(_VARINT, write, read)


def _parse(text: str) -> list[tuple[str, str, str]]:
    """`name=number:kind` as (name, kind, number)."""
    out = []
    for part in text.split():
        name, _, rest = part.partition("=")
        number, _, kind = rest.partition(":")
        out.append((name, kind, number))
    return out


# -- messages -----------------------------------------------------------------------------------


class _Codec:
    """Writes and reads one struct."""

    def __init__(self, type: type[msgspec.Struct]) -> None:
        self.type = type
        self.fields: list[_Field] = []
        self.numbers: dict[str, int] = {}
        #: Tag (number and wire type) ↦ the field it is the usual form of.
        self.by_tag: dict[int, _Field] = {}
        #: Tag of the packed form ↦ the repeated number.
        self.by_packed_tag: dict[int, _Field] = {}
        self.required: list[str] = []

    def build(self, seen: dict[type[msgspec.Struct], _Codec]) -> None:
        """Compile the table; `seen` ends the recursion of messages that contain themselves."""
        declared = {field.encode_name: field for field in msgspec.structs.fields(self.type)}
        for name, kind, number in _parse(FIELDS[self.type]):
            field = _compile(name, int(number), kind, declared[name].type, seen)
            self.fields.append(field)
            self.numbers[name] = field.number
            wire_type = _LENGTH if field.kind is None else field.kind.wire_type
            self.by_tag[field.number << 3 | wire_type] = field
            if field.is_repeated and wire_type != _LENGTH:
                self.by_packed_tag[field.number << 3 | _LENGTH] = field
        self.required = [name for name, field in declared.items() if field.required]

    def write(self, out: bytearray, value: Any) -> None:
        for field in self.fields:
            item = getattr(value, field.name)
            if item is None:
                continue
            if field.is_map:
                _write_map(out, field, item)
            elif field.is_repeated:
                for each in item:
                    _write_one(out, field, each)
            else:
                _write_one(out, field, item)

    def read(self, data: bytes, path: _Path, missing: list[str], depth: int) -> Any:
        """The struct in `data`, or None if something required is missing, which is then listed."""
        if depth > MAX_DEPTH:
            raise WireError("protobuf: messages are nested too deeply")
        values, embedded = self._read_fields(data)
        before = len(missing)
        for field, raws in embedded:
            values[field.name] = _finish(field, raws, path, missing, depth + 1)
        missing.extend(_path_text((path, name)) for name in self.required if name not in values)
        return self.type(**values) if len(missing) == before else None

    def _read_fields(self, data: bytes) -> tuple[dict[str, Any], Iterable[_Embedded]]:
        """Scalars by name, and embedded messages as bytes: one may come in several parts."""
        values: dict[str, Any] = {}
        repeated: dict[str, list[Any]] = {}
        embedded: dict[str, _Embedded] = {}
        at, end = 0, len(data)
        while at < end:
            tag, at = _read_varint(data, at, end)
            field = self.by_tag.get(tag)
            if field is None:
                at = self._read_unusual(data, at, end, tag, repeated)
                continue
            name, kind = field.name, field.kind
            if kind is None:
                raw, at = _read_bytes(data, at, end)
                if name in embedded:
                    embedded[name][1].append(raw)
                else:
                    embedded[name] = (field, [raw])
                continue
            value, at = kind.read(data, at, end)
            if value is None:
                continue
            if field.is_repeated:
                repeated.setdefault(name, []).append(value)
            else:
                values[name] = value
        values.update((name, tuple(items)) for name, items in repeated.items())
        return values, embedded.values()

    def _read_unusual(
        self, data: bytes, at: int, end: int, tag: int, repeated: dict[str, list[Any]]
    ) -> int:
        """Take packed numbers, skip anything else; return where the next field begins."""
        field = self.by_packed_tag.get(tag)
        if field is None or field.kind is None:
            return _skip(data, at, end, tag & 7, tag >> 3)
        packed, at = _read_bytes(data, at, end)
        repeated.setdefault(field.name, []).extend(_unpack(field.kind, packed))
        return at


#: A field with all parts or elements found of it.
_Embedded = tuple[_Field, list[bytes]]

#: (path of the parent, name): told only in errors, so only then made to text.
_Path = tuple[Any, str]

_ROOT: _Path = (None, "")


def _path_text(path: _Path) -> str:
    names: list[str] = []
    at: _Path | None = path
    while at is not None:
        if at[1]:
            names.append(at[1])
        at = at[0]
    return ".".join(reversed(names))


def _finish(field: _Field, raws: list[bytes], path: _Path, missing: list[str], depth: int) -> Any:
    codec = field.codec
    assert codec is not None
    if field.is_map:
        return dict(_read_entry(field, codec, raw, path, missing, depth) for raw in raws)
    if field.is_repeated:
        return tuple(
            codec.read(raw, (path, f"{field.name}[{index}]"), missing, depth)
            for index, raw in enumerate(raws)
        )
    # Parts of one message joined are the message merged; that is how the encoding is made.
    whole = raws[0] if len(raws) == 1 else b"".join(raws)
    return codec.read(whole, (path, field.name), missing, depth)


def _compile(
    name: str, number: int, kind: str, type: Any, seen: dict[type[msgspec.Struct], _Codec]
) -> _Field:
    if get_origin(type) in {Union, UnionType}:
        [type] = [member for member in get_args(type) if member is not NoneType]
    origin = get_origin(type)
    is_repeated, is_map = origin is tuple, origin is dict
    if kind:
        return _Field(name, number, is_repeated, is_map, _SCALARS.get(kind) or _enum(kind), None)
    if is_repeated:
        type = get_args(type)[0]
    elif is_map:
        type = get_args(type)[1]
    return _Field(name, number, is_repeated, is_map, None, _codec(type, seen))


def _codec(cls: type[msgspec.Struct], seen: dict[type[msgspec.Struct], _Codec]) -> _Codec:
    codec = _CODECS.get(cls) or seen.get(cls)
    if codec is None:
        codec = seen[cls] = _Codec(cls)
        codec.build(seen)
    return codec


_CODECS: dict[type[msgspec.Struct], _Codec] = {}


def _write_one(out: bytearray, field: _Field, value: Any) -> None:
    if field.codec is None:
        assert field.kind is not None
        _write_varint(out, field.number << 3 | field.kind.wire_type)
        field.kind.write(out, value)
        return
    inner = bytearray()
    field.codec.write(inner, value)
    _write_varint(out, field.number << 3 | _LENGTH)
    _write_bytes(out, inner)


def _write_map(out: bytearray, field: _Field, values: Mapping[str, Any]) -> None:
    assert field.codec is not None
    for key, value in values.items():
        entry, inner = bytearray(), bytearray()
        entry.append(1 << 3 | _LENGTH)
        _write_string(entry, key)
        field.codec.write(inner, value)
        entry.append(2 << 3 | _LENGTH)
        _write_bytes(entry, inner)
        _write_varint(out, field.number << 3 | _LENGTH)
        _write_bytes(out, entry)


def _read_entry(
    field: _Field, codec: _Codec, data: bytes, path: _Path, missing: list[str], depth: int
) -> tuple[str, Any]:
    key, raw = "", b""
    at, end = 0, len(data)
    while at < end:
        tag, at = _read_varint(data, at, end)
        if tag == (1 << 3 | _LENGTH):
            key, at = _read_string(data, at, end)
        elif tag == (2 << 3 | _LENGTH):
            raw, at = _read_bytes(data, at, end)
        else:
            at = _skip(data, at, end, tag & 7, tag >> 3)
    return key, codec.read(raw, (path, f"{field.name}['{key}']"), missing, depth)


def _unpack(kind: _Kind, data: bytes) -> list[Any]:
    values, at = [], 0
    while at < len(data):
        value, at = kind.read(data, at, len(data))
        if value is not None:
            values.append(value)
    return values


def _skip(data: bytes, at: int, end: int, wire_type: int, number: int) -> int:
    """Where the next field begins after one of `wire_type` that nobody wants."""
    if number == 0:
        raise WireError("protobuf: field number 0")
    if wire_type == _GROUP:
        return _skip_group(data, at, end)
    if wire_type == _VARINT:
        return _read_varint(data, at, end)[1]
    if wire_type == _LENGTH:
        size, at = _read_varint(data, at, end)
        at += size
    elif wire_type in {_FIXED64, _FIXED32}:
        at += 8 if wire_type == _FIXED64 else 4
    else:
        raise WireError(f"protobuf: wire type {wire_type} where none can be")
    if at > end:
        raise WireError("protobuf: the message is cut within a field")
    return at


def _skip_group(data: bytes, at: int, end: int) -> int:
    depth = 1
    while depth:
        tag, at = _read_varint(data, at, end)
        if tag & 7 == _GROUP:
            depth += 1
        elif tag & 7 == _END_GROUP:
            depth -= 1
        else:
            at = _skip(data, at, end, tag & 7, tag >> 3)
    return at


# -- the whole ----------------------------------------------------------------------------------


def encode(value: msgspec.Struct) -> bytes:
    """The protobuf of a wire record. Raises WireError for what protobuf cannot hold."""
    out = bytearray()
    _codec_of(type(value)).write(out, value)
    return bytes(out)


def prefix(cls: type[msgspec.Struct], name: str, size: int) -> bytes:
    """What stands before an embedded message of `size` bytes in the field `name` of `cls`, for who
    puts a large message together of parts that are encoded already."""
    out = bytearray()
    _write_varint(out, _codec_of(cls).numbers[name] << 3 | _LENGTH)
    _write_varint(out, size)
    return bytes(out)


def decode(data: bytes, type: type[T]) -> T:
    """`data` as a record of `type`.

    Raises WireError: `Missing required fields: a.b, c[0].d`, or why it is no protobuf.
    """
    missing: list[str] = []
    found = _codec_of(type).read(bytes(data), _ROOT, missing, 1)
    if missing:
        raise WireError("Missing required fields: " + ", ".join(missing))
    return found  # type: ignore[no-any-return]  # made by the codec of T


def _codec_of(cls: Any) -> _Codec:
    codec = _CODECS.get(cls)
    if codec is None:
        if cls not in FIELDS:
            raise WireError(f"{cls.__name__} has no protobuf form")
        seen: dict[type[msgspec.Struct], _Codec] = {}
        codec = _codec(cls, seen)
        _CODECS.update(seen)
    return codec
