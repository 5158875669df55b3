"""More detail in a daemon's log for a time: `/logging/toggle` and the calls of the same.

The original's levels above 0 are of more and more detail; there is one of that kind here. Source:
spec/mesos.md §5.4 and libprocess' logging.cpp.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from mesostk.base.daemon import Daemon
from mesostk.base.units import duration
from mesostk.errors import Rejected

_INFO, _DETAILED = 0, 1

#: Of a level in a query: a number of thousands of them is none to Python.
_MAX_DIGITS = 20


class LogLevel:
    """The level of one daemon; what its flags say returns by itself."""

    def __init__(self, daemon: Daemon) -> None:
        self._log = daemon.log
        self._usual = daemon.log.level
        self._back: asyncio.TimerHandle | None = None

    @property
    def level(self) -> int:
        """0, or 1 while there is more detail."""
        return _DETAILED if self._log.level == "DEBUG" else _INFO

    def set(self, level: int, seconds: float) -> None:
        """More detail for a time. Rejected (400) for less than what the flags say, and for ever."""
        usual = _DETAILED if self._usual == "DEBUG" else _INFO
        if level < usual:
            raise Rejected(400, f"'{level}' < original level.\n")
        if seconds <= 0:
            raise Rejected(400, "Expecting 'duration' to be above 0")
        if self._back is not None:
            self._back.cancel()
            self._back = None
        self._log.set_level("DEBUG" if level >= _DETAILED else self._usual)
        loop = asyncio.get_running_loop()
        self._back = loop.call_later(seconds, self._log.set_level, self._usual)

    def toggle(self, request: web.Request) -> web.Response:
        """/logging/toggle: the level, or with `level` and `duration` another for a time."""
        level, period = request.query.get("level"), request.query.get("duration")
        if level is None and period is None:
            return web.Response(text=f"{self.level}\n")
        if level is None or period is None:
            missing = "level" if level is None else "duration"
            raise Rejected(400, f"Expecting '{missing}=value' in query.\n")
        if not level.isascii() or not level.isdigit() or len(level) > _MAX_DIGITS:
            raise Rejected(400, f"Invalid level '{level[:20]}'.\n")
        try:
            seconds = duration(period)
        except ValueError as error:
            raise Rejected(400, f"Invalid duration '{period[:20]}': {error}.\n") from error
        self.set(int(level), seconds)
        return web.Response()
