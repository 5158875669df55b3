"""What a flag is: its declaration, what documentation sees of it, and its entry in `--help`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from mesostk.base.units import duration, format_bytes, format_duration, port_number, size_bytes

_KIND_NAMES: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    duration: "duration",
    size_bytes: "bytes",
    port_number: "port",
}

#: Seconds, as many as a duration can have: 292 years. Timers do not take more.
_LONGEST_S: Final = 2**63 / 10**9

#: Numbers above it fit no field of a message, and no timer.
_LARGEST: Final = 2**63 - 1

#: Seconds of the units in which numbers are times.
_TIME_UNITS: Final[Mapping[str | None, float]] = {"ms": 0.001, "s": 1.0, "days": 86_400.0}


class Flag(msgspec.Struct, frozen=True):
    """One flag: `type` turns its text into its value and raises ValueError where it cannot.

    `default` is a value, or text for `type`, or None for "unset". `keyed_dir` allows a directory of
    that name whose files KEY become `KEY:content`, joined by `;`. `file_value=False` keeps a value
    `file:///path` as it is. `is_json`: `/path` is read as `file:///path` is, for no JSON begins
    with a slash (so does the original, stout's flags/parse.hpp).
    """

    name: str
    type: Callable[[str], Any]
    default: Any
    help: str
    unit: str | None = None
    env: str | None = None
    old_names: tuple[str, ...] = ()
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    required: bool = False
    keyed_dir: bool = False
    file_value: bool = True
    is_json: bool = False


class FlagRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A flag as documentation and Ansible see it; `default` is text, None if unset."""

    name: str
    kind: str
    default: str | None
    help: str
    unit: str | None
    env: str
    old_names: tuple[str, ...]
    choices: tuple[str, ...] | None
    minimum: float | None
    required: bool


def builtin_flags(*, with_zk: bool) -> list[Flag]:
    """The flags that every daemon has; `zk_file` where a daemon can make use of it."""
    flags = [
        Flag("help", bool, False, "Print this text and end."),
        Flag("version", bool, False, "Print the version and end."),
        Flag(
            "config_dir",
            str,
            None,
            "Directory with one file per flag; may be given several times, or several joined by"
            " colons; a later one wins.",
            file_value=False,
        ),
    ]
    if with_zk:
        text = "File with the cluster's ZooKeeper URL in one line, usually /etc/mesos/zk."
        flags.append(Flag("zk_file", str, None, text, file_value=False))
    return flags


def kind_of(flag: Flag) -> str:
    """What kind of value `flag` takes, as a word for people."""
    return _KIND_NAMES.get(flag.type, getattr(flag.type, "__name__", "text").strip("_"))


def value_text(flag: Flag, value: Any) -> str:
    """`value` as an operator would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if flag.type is duration:
        return format_duration(value)
    if flag.type is size_bytes:
        return format_bytes(int(value))
    if isinstance(value, float) and value.is_integer() and flag.type is int:
        value = int(value)
    return str(value)


def why_out_of_range(flag: Flag, value: float) -> str | None:
    """Why no daemon can work with a number, `below the least value, 1`; None if it can."""
    if not -math.inf < value < math.inf:
        return "not a finite number"
    if flag.minimum is not None and value < flag.minimum:
        return f"below the least value, {value_text(flag, flag.minimum)}"
    is_time = flag.type is duration or flag.unit in _TIME_UNITS
    if is_time and flag.minimum is None and value < 0:
        return "below the least value: a time cannot be negative"
    largest = _LONGEST_S / _TIME_UNITS[flag.unit] if flag.unit in _TIME_UNITS else _LARGEST
    if flag.type is not size_bytes and abs(value) > largest:
        return f"above the largest value, {largest:g}"
    return None


def help_entry(record: FlagRecord) -> list[str]:
    """The lines of one flag in `--help`."""
    head = f"  --[no-]{record.name}" if record.kind == "boolean" else f"  --{record.name}=VALUE"
    facts = [record.kind if record.unit is None else f"{record.kind}, {record.unit}"]
    if record.choices is not None:
        facts.append("one of " + ", ".join(record.choices))
    if record.required:
        facts.append("required")
    elif record.default is not None:
        facts.append(f"default {record.default}")
    if record.old_names:
        facts.append("was " + ", ".join(record.old_names))
    indent = " " * 6
    text = textwrap.wrap(record.help, 90, initial_indent=indent, subsequent_indent=indent)
    return [f"{head}  ({'; '.join(facts)})", *text]
