"""`/v2/audit` and `/v2/eventSubscriptions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from mesostk.errors import Rejected
from mesostk.marathon import audit, callbacks, paths
from mesostk.marathon.asking import Asker
from mesostk.marathon.edge import json_response
from mesostk.marathon.events import AddCallback, RemoveCallback
from mesostk.marathon.state import State
from mesostk.wire.marathon import Callbacks

#: Entries of the history in one answer, unless `limit` asks for another number.
SHOWN: Final = 100


class History:
    """Routes about what was done, and who is told of it."""

    def __init__(self, state: Callable[[], State], asker: Asker) -> None:
        self._state = state
        self._asker = asker

    def add_to(self, app: web.Application) -> None:
        """Add all routes."""
        app.router.add_get("/v2/audit", self._audit)
        app.router.add_get("/v2/eventSubscriptions", self._get_callbacks)
        app.router.add_post("/v2/eventSubscriptions", self._add_callback)
        app.router.add_delete("/v2/eventSubscriptions", self._remove_callback)

    async def _audit(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        limit = query.get("limit", str(SHOWN))
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= audit.MAX_ENTRIES:
            most = audit.MAX_ENTRIES
            raise Rejected(400, f"Query parameter 'limit' must be a number from 1 to {most}")
        app = query.get("app")
        found = audit.entries(
            self._state(),
            app=None if app is None else paths.absolute(app),
            user=query.get("user"),
            since=query.get("since"),
            limit=int(limit),
        )
        return json_response({"audit": found})

    async def _get_callbacks(self, _request: web.Request) -> web.StreamResponse:
        state = self._state()
        callbacks.refuse_disabled(state)
        return json_response(Callbacks(callback_urls=callbacks.all_urls(state)))

    async def _add_callback(self, request: web.Request) -> web.StreamResponse:
        return await self._asker.ask(request, AddCallback, url=_url(request))

    async def _remove_callback(self, request: web.Request) -> web.StreamResponse:
        return await self._asker.ask(request, RemoveCallback, url=_url(request))


def _url(request: web.Request) -> str:
    url = request.query.get("callbackUrl")
    if url is None:
        raise Rejected(400, "Query parameter 'callbackUrl' is missing")
    return url
