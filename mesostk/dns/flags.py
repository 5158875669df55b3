"""The command line of `mesos-dns` as Go spells it: one dash or two, `-name v` or `-name=v`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from mesostk import __version__
from mesostk.base.units import whole_number
from mesostk.errors import ConfigError

#: Flags of the original's logging library: understood, so that a unit file keeps working.
_LOGGING: Final = {
    "logtostderr": False,
    "alsologtostderr": False,
    "stderrthreshold": True,
    "log_dir": True,
    "log_backtrace_at": True,
    "vmodule": True,
}

HELP: Final = """\
usage: mesos-dns [-config FILE] [-workers N] [-v N] [-version]

Answers DNS queries for the tasks of a Mesos cluster.

  -config FILE   JSON configuration (default: config.json in the working directory)
  -workers N     processes that answer by UDP; overrides Workers of the configuration
  -v N           1: log more; 2: log each change
  -version       print the version and end
  -help          print this text and end

Flags take one dash or two, and their value after = or as the next word.
The flags of the original's logging library are accepted and have no effect:
  """ + ", ".join(f"-{name}" for name in _LOGGING)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Path = Path("config.json")
    workers: int | None = None
    verbosity: int = 0
    wants_version: bool = False
    wants_help: bool = False
    without_effect: tuple[str, ...] = ()


VERSION: Final = f"mesos-dns {__version__} (mesostk)"


def parse(argv: Sequence[str], home: str | None) -> Line:
    """The flags in `argv`, which comes without the program's name; ConfigError names a wrong one.

    The first `~/` of the path of `-config` stands for `home`.
    """
    line = Line()
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or word.startswith("---") or not name:
            raise ConfigError(f"argument {word!r} is not a flag; -help lists them")
        if name in ("version", "help", "h"):
            line = msgspec.structs.replace(
                line,
                wants_version=line.wants_version or name == "version",
                wants_help=line.wants_help or name != "version",
            )
            continue
        takes_value = _LOGGING.get(name, name in ("config", "workers", "v"))
        if takes_value and not equals:
            if not words:
                raise ConfigError(f"-{name} needs a value: -{name}=VALUE")
            value = words.pop(0)
        line = _with(line, name, value, home)
    return line


def _with(line: Line, name: str, value: str, home: str | None) -> Line:
    replace = msgspec.structs.replace
    if name in _LOGGING:
        return replace(line, without_effect=(*line.without_effect, name))
    if name == "config":
        if not value:
            raise ConfigError("-config needs the path of a file")
        path = value if home is None else value.replace("~/", home.rstrip("/") + "/", 1)
        return replace(line, config=Path(path))
    if name == "workers":
        return replace(line, workers=_number(name, value, 1, 64))
    if name == "v":
        return replace(line, verbosity=_number(name, value, 0, 9))
    raise ConfigError(f"no flag is called -{name}; -help lists them")


def _number(name: str, value: str, least: int, most: int) -> int:
    number = whole_number(value)
    if number is None or not least <= number <= most:
        raise ConfigError(f"-{name}={value}: expected a number from {least} to {most}")
    return number
