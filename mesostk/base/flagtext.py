"""Where the text of a flag comes from: files and `file://` values; and what no text may be.

Everything here raises ConfigError, whatever a path or a file turns out to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

import msgspec

from mesostk.base import regular
from mesostk.base.flags import Flag
from mesostk.errors import ConfigError

#: A flag's file larger than this is not a flag's file (somebody pointed at the wrong place).
MAX_FILE_BYTES: Final = 1 << 20

T = TypeVar("T")


def text_of(flag: Flag, text: str, where: str) -> str:
    """What a layer says about `flag`, out of the file it names if that is what it does."""
    refuse_unwritable(text, where)
    if flag.file_value and text.startswith("file://"):
        path = text.removeprefix("file://")
    elif flag.is_json and text.startswith("/"):
        path = text
    else:
        return text
    try:
        text = read(Path(path))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    refuse_unwritable(text, where)
    return text


def refuse_unwritable(text: str, where: str) -> None:
    """ConfigError for what no path and no document can hold: NUL, and bytes that are no UTF-8."""
    if "\0" in text:
        raise ConfigError(f"{where}: there is a NUL character in the value")
    # Bytes of an argument or a variable that are no UTF-8 come as lone surrogates.
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ConfigError(f"{where}: the value is not UTF-8 text")


def entries(path: Path) -> list[Path]:
    """What is in a directory, by name. Raises ConfigError, but FileNotFoundError for none."""
    try:
        return sorted(path.iterdir(), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"configuration directory {path}: {why}") from error


def is_dir(entry: Path) -> bool:
    """Whether an entry is a directory."""
    try:
        return entry.is_dir()
    except OSError as error:
        # The directory can be listed and not searched.
        raise ConfigError(f"cannot read {entry}: {error.strerror}") from error


def read(path: Path) -> str:
    """The text of a file, without blanks around it."""
    try:
        raw = regular.read(path, MAX_FILE_BYTES)
    except ValueError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        return raw.decode().strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error


def decode_json(text: str | bytes, kind: type[T]) -> T:
    """A flag's or a file's JSON as `kind`. Raises ValueError for anything else."""
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error
