"""`--whitelist`: the file that names the only agents to be offered, read again when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from mesostk.base import regular
from mesostk.base.log import Log
from mesostk.errors import ConfigError

#: How often the file is looked at; seconds. Source: Mesos `src/master/constants.hpp`.
INTERVAL_S = 5.0


def path_of(text: str) -> Path:
    """The file that the flag names. Raises ValueError if it names none."""
    path = Path(text.removeprefix("file://"))
    if not path.is_absolute():
        raise ValueError("expected file:///path")
    return path


def read(path: Path) -> frozenset[str]:
    """Hostnames, one a line. Raises ConfigError if the file cannot be read."""
    try:
        lines = regular.read(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--whitelist={path}: {error}") from error
    return frozenset(line.strip() for line in lines if line.strip())


async def watch(
    path: Path, log: Log, tell: Callable[[frozenset[str]], None], interval_s: float = INTERVAL_S
) -> None:
    """`tell` what the file says, again and again; while it cannot be read, what it said holds."""
    failed: str | None = None
    while True:
        await asyncio.sleep(interval_s)
        try:
            names = await asyncio.to_thread(read, path)
        except ConfigError as error:
            if failed != str(error):
                log.error("Keeping the former whitelist", why=error)
            failed = str(error)
        else:
            failed = None
            tell(names)
