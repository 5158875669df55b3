"""Definitions of apps in JSON, as people write them: what a parser would take silently is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mesostk.errors import ConfigError


def read(source: str) -> Any:
    """The JSON of a file, or of standard input for `-`.

    Raises ConfigError naming file and line; also for a key that comes twice, of which the former
    would be lost, and for NaN, which no server takes.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except (OSError, ValueError) as error:  # the latter: bytes that are no UTF-8, a path with NUL
        raise ConfigError(f"{source}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"{source}:{error.lineno}:{error.colno}"
        raise ConfigError(f"{where}: not JSON: {error.msg}") from error
    except ValueError as error:
        raise ConfigError(f"{source}: not JSON: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: not JSON: nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' comes twice in one object; leave one")
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
