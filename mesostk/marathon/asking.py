"""From requests to commands and back: reading what was sent, and waiting for the core's reply.

::

    request ─▶ ask: command with a number ─▶ core … Saved ─▶ Reply with that number ─▶ answer
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from mesostk.base.core import Event
from mesostk.errors import Rejected
from mesostk.marathon.edge import json_response, principal_of
from mesostk.marathon.events import Caller, Command, Reply
from mesostk.marathon.refusal import INVALID_JSON, Refused, malformed

#: A store that needs longer than this has lost its quorum; the command may still take effect.
COMMAND_TIMEOUT_S: Final = 30.0

#: Of the chain of proxies that a request tells of; more is nobody's.
MAX_FORWARDED_CHARS: Final = 200

_TRUE: Final = frozenset({"true", "1", ""})


class Asker:
    """Gives commands to the core on behalf of requests."""

    def __init__(self, feed: Callable[[Event], None]) -> None:
        self._feed = feed
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}

    def perform(self, reply: Reply) -> None:
        """Perform `Reply`: the request that waits gets its answer."""
        future = self._waiting.pop(reply.request, None)
        if future is not None and not future.done():
            future.set_result(reply)

    async def ask(
        self, request: web.Request, make: Callable[..., Command], **fields: object
    ) -> web.Response:
        """The answer to the command that `make` makes of `fields`; Rejected (503) without one."""
        number = next(self._numbers)
        force = fields.pop("force", None)
        command = make(
            request=number,
            caller=_caller(request),
            force=flag(request, "force") if force is None else force,
            timeout_s=seconds(request, "deploymentTimeoutSeconds"),
            **fields,
        )
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._feed(command)
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                reply = await future
        except TimeoutError as error:
            raise Rejected(
                503,
                f"The change was not stored within {COMMAND_TIMEOUT_S:g} s; it may still happen",
            ) from error
        finally:
            self._waiting.pop(number, None)
        return json_response(reply.body, reply.status, dict(reply.headers))


def _caller(request: web.Request) -> Caller:
    forwarded = request.headers.get("X-Forwarded-For")
    return Caller(
        client_ip=request.remote or "",
        uri=request.path,
        base_url=f"{request.scheme}://{request.host}",
        method=request.method,
        user=principal_of(request),
        forwarded_for=None if forwarded is None else forwarded[:MAX_FORWARDED_CHARS],
    )


# -- what was sent ----------------------------------------------------------------------------


def flag(request: web.Request, name: str, *, default: bool = False) -> bool:
    """A boolean query parameter; Rejected (400) for anything but true and false."""
    text = request.query.get(name)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in {"false", "0"}:
        return False
    raise Rejected(400, f"Query parameter '{name}' must be true or false, not '{text[:32]}'")


def seconds(request: web.Request, name: str) -> float | None:
    """A duration among the query parameters; Rejected (400) for anything but a number above 0."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise Rejected(400, f"Query parameter '{name}' must be seconds above 0, not '{text[:32]}'")
    return value


async def json_body(request: web.Request) -> object:
    """The decoded body; 415 for another type, 400 with the parser's words for bad JSON."""
    given = request.headers.get("Content-Type")
    if given is not None and given.partition(";")[0].strip().lower() not in {
        "application/json",
        "application/octet-stream",
        "",
    }:
        raise Rejected(415, "Unsupported Media Type: send Content-Type: application/json")
    raw = await request.read()
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, INVALID_JSON, str(error)) from error


async def json_object(request: web.Request) -> dict[str, object]:
    """The decoded body, which must be an object."""
    raw = await json_body(request)
    if not isinstance(raw, dict):
        raise malformed("/", "expected an object")
    return raw
