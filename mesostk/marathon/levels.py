"""`/logging`: which lines are written, changed without a restart, for a while or for good.

One logger is ours, `ROOT`; the others are libraries, which write warnings unless told otherwise.
Both forms of the original are read: JSON since 1.5, a form before.
Source: spec/marathon §1.8.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec
from aiohttp import web

from mesostk.base.log import LEVELS, Log
from mesostk.errors import Rejected
from mesostk.marathon.appinput import read_as
from mesostk.marathon.asking import json_object
from mesostk.marathon.edge import json_response

ROOT: Final = "ROOT"
LIBRARIES: Final = ("aiohttp", "asyncio", "kazoo")

#: The original's levels by those there are here.
_SPELLED: Final = {
    "all": "DEBUG", "trace": "DEBUG", "debug": "DEBUG", "info": "INFO", "warn": "WARNING",
    "warning": "WARNING", "error": "ERROR", "fatal": "ERROR", "off": "ERROR",
}  # fmt: skip

#: A day: who wants a level for longer wants it for good.
MAX_DURATION_S: Final = 86_400


class LoggerChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Body of `POST /logging`."""

    level: str
    logger: str = ROOT
    duration_seconds: int | None = None


def level_of(name: str) -> str:
    """The level that the original's `name` stands for; Rejected (422) for none."""
    level = _SPELLED.get(name.lower())
    if level is None:
        known = ", ".join(sorted(_SPELLED))
        raise Rejected(422, f"level '{name[:32]}' is not one of {known}")
    return level


class Levels:
    """The routes of `/logging`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._resets: dict[str, asyncio.TimerHandle] = {}

    def add_to(self, app: web.Application) -> None:
        """Add all routes."""
        app.router.add_get("/logging", self._get)
        app.router.add_post("/logging", self._post)

    async def _get(self, _request: web.Request) -> web.Response:
        return json_response({name: self._level(name) for name in (ROOT, *LIBRARIES)})

    async def _post(self, request: web.Request) -> web.Response:
        body: dict[str, object]
        if request.content_type == "application/x-www-form-urlencoded":
            body = dict(await request.post())
        else:
            body = await json_object(request)
        change = read_as(body, LoggerChange)
        if change.logger not in (ROOT, *LIBRARIES):
            known = ", ".join((ROOT, *LIBRARIES))
            raise Rejected(422, f"logger '{change.logger[:64]}' is not one of {known}")
        seconds = change.duration_seconds
        if seconds is not None and not 1 <= seconds <= MAX_DURATION_S:
            raise Rejected(422, f"durationSeconds must be between 1 and {MAX_DURATION_S}")
        level = level_of(change.level)
        self._set(change.logger, level, seconds)
        return json_response(
            LoggerChange(level=level, logger=change.logger, duration_seconds=seconds)
        )

    def _level(self, name: str) -> str:
        if name == ROOT:
            return self._log.level
        return logging.getLevelName(logging.getLogger(name).getEffectiveLevel())

    def _set(self, name: str, level: str, seconds: int | None) -> None:
        before = self._level(name)
        waiting = self._resets.pop(name, None)
        if waiting is not None:
            waiting.cancel()
        self._log.info("Changing log level", logger=name, level=level, was=before, seconds=seconds)
        self._apply(name, level)
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._resets[name] = loop.call_later(seconds, self._apply, name, before)

    def _apply(self, name: str, level: str) -> None:
        if name == ROOT:
            self._log.set_level(level)
        else:
            logging.getLogger(name).setLevel(LEVELS[level])
