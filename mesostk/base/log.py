"""Log lines of the form `2026-06-20T12:00:00.000Z INFO Launching task=web.1 agent=S3`.

One line per event, whatever its fields hold: values with blanks, quotes or anything unprintable are
quoted and escaped, so that a task's name or a peer's header cannot forge a second line.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from mesostk.base.clock import Clock, RealClock
from mesostk.base.core import Note
from mesostk.errors import ConfigError

LEVELS: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}

#: One field is cut here: a 1 MB message of a framework must not become a 1 MB line.
MAX_VALUE_CHARS: Final = 4096

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,;~*#?&!|<>()\[\]{}$^-]+")


def quoted(value: object) -> str:
    """`value` as one word of printable characters; always of one line."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_VALUE_CHARS:
        text = f"{text[:MAX_VALUE_CHARS]}…({len(text)} characters)"
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def line(verb: str, fields: Mapping[str, object]) -> str:
    """`verb key=value key=value`: the text of one entry without time and level."""
    head = verb if verb.isprintable() else quoted(verb)
    return " ".join([head, *(f"{key}={quoted(value)}" for key, value in fields.items())])


class Stream(Protocol):
    """Where a log is written."""

    def write(self, text: str, /) -> object:
        """Take whole lines in."""
        ...

    def flush(self) -> object:
        """Keep nothing back."""
        ...


class Log:
    """Writes lines at or above a level to a stream, standard error by default."""

    def __init__(
        self, level: str = "INFO", stream: Stream | None = None, clock: Clock | None = None
    ) -> None:
        self._stream = stream
        self._clock: Clock = clock if clock is not None else RealClock()
        self._level = LEVELS["INFO"]
        #: The second of the last entry, and how it is written.
        self._second, self._stamp = -1, ""
        self.set_level(level)

    @property
    def level(self) -> str:
        """Name of the lowest level that is written."""
        return next(name for name, rank in LEVELS.items() if rank == self._level)

    def set_level(self, level: str) -> None:
        """Write entries of `level` and above; ConfigError for a name that is none of `LEVELS`."""
        rank = LEVELS.get(level.upper())
        if rank is None:
            raise ConfigError(f"logging level {level!r} is not one of {', '.join(LEVELS)}")
        self._level = rank

    def note(self, note: Note) -> None:
        """Write what a core had to say."""
        self.write(note.level, note.verb, note.fields)

    def debug(self, verb: str, /, **fields: object) -> None:
        """For the developer; never needed in normal operation."""
        self.write("DEBUG", verb, fields)

    def info(self, verb: str, /, **fields: object) -> None:
        """A change of state."""
        self.write("INFO", verb, fields)

    def warning(self, verb: str, /, **fields: object) -> None:
        """Something an operator should look at some day."""
        self.write("WARNING", verb, fields)

    def error(self, verb: str, /, **fields: object) -> None:
        """Something that failed and will not be tried again by itself."""
        self.write("ERROR", verb, fields)

    def crash(self, verb: str, error: BaseException, /, **fields: object) -> None:
        """An error that nobody expected, with its traceback in one field."""
        trace = "".join(traceback.format_exception(error))
        # A traceback is useful to its end, so it is written in lines of its own, indented: a line
        # that begins with a blank can never be taken for an entry.
        self.write("ERROR", verb, {**fields, "error": f"{type(error).__name__}: {error}"})
        for text in trace.splitlines():
            self._put("    " + "".join(c if c.isprintable() else _escaped(c) for c in text))

    def write(self, level: str, verb: str, fields: Mapping[str, object]) -> None:
        """Write one entry if `level` is at or above the level of this log."""
        if LEVELS.get(level, LEVELS["ERROR"]) < self._level:
            return
        second, thousandths = divmod(int(self._clock.wall() * 1000), 1000)
        if second != self._second:
            self._second = second
            self._stamp = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        self._put(f"{self._stamp}.{thousandths:03d}Z {level} {line(verb, fields)}")

    def _put(self, text: str) -> None:
        stream = self._stream if self._stream is not None else sys.stderr
        try:
            stream.write(text + "\n")
            stream.flush()
        except (OSError, ValueError):
            # The journal went away or the disk is full. A daemon that cannot log must still run.
            return


class ForwardingHandler(logging.Handler):
    """Carries entries of libraries that use the standard `logging` module over to a `Log`."""

    def __init__(self, log: Log, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` with the name of its logger."""
        level = record.levelname if record.levelname in LEVELS else "ERROR"
        fields: dict[str, object] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info is not None and record.exc_info[1] is not None:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._log.write(level, "Library says", fields)


def capture_library_logs(log: Log) -> None:
    """Route warnings and errors of aiohttp, asyncio and kazoo into `log`."""
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, ForwardingHandler)]:
        root.removeHandler(old)
    root.addHandler(ForwardingHandler(log))
    root.setLevel(logging.WARNING)
