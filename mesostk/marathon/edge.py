"""What every answer of Marathon has in common, and who gives it: the leader or the proxy.

::

    request ─▶ common headers ─▶ CORS ─▶ Basic ─▶ too many? ─▶ this process leads? ─▶ api
                                                     └─ 503        └─ no ─▶ proxy ─▶ the leader
                                                                   └─ elected, still loading: 503

Source: spec/marathon §1.1, §1.2, §1.8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mesostk import __version__
from mesostk.base.http import BasicAuth, accepted_type_of
from mesostk.errors import Rejected
from mesostk.marathon.refusal import Refused
from mesostk.wire import json

#: The type of the original's answers; clients of JSON ignore the parameter.
JSON_TYPE: Final = "application/json; qs=2"

COMMON_HEADERS: Final = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Expires": "0",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Server": f"mesostk/{__version__}",
}

#: What the API answers in; lists of tasks are told as text, too.
_OFFERED: Final = ("application/json", "text/plain")

CORS_MAX_AGE_S: Final = "86400"


_PRINCIPAL: Final = web.RequestKey("principal", str)


def principal_of(request: web.Request) -> str | None:
    """Who proved itself by `--http_credentials`; None where none are asked for."""
    return request.get(_PRINCIPAL)


def json_response(
    body: object, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """`body` as the original's JSON answer; bytes are JSON already, None is no body at all."""
    if body is None:
        return web.Response(status=status, headers=headers)
    raw = body if isinstance(body, bytes) else json.encode_shown(body)
    all_headers = {"Content-Type": JSON_TYPE}
    if headers is not None:
        all_headers.update(headers)
    return web.Response(status=status, body=raw, headers=all_headers)


def error_response(status: int, message: str) -> web.Response:
    """`{"message": …}` with the headers that every answer has."""
    return json_response({"message": message}, status, dict(COMMON_HEADERS))


def add_slashes(app: web.Application) -> None:
    """Answer every path with a slash behind it, too: the original does, and clients send it."""
    for resource in list(app.router.resources()):
        if isinstance(resource, web.PlainResource) and not resource.canonical.endswith("/"):
            for route in resource:
                app.router.add_route(route.method, resource.canonical + "/", route.handler)


class Edge:
    """The middlewares around all routes.

    `leads` tells whether this process answers itself, `is_ready` whether it has its records.
    """

    def __init__(
        self,
        my_url: str,
        leads: Callable[[], bool],
        is_ready: Callable[[], bool],
        forward: Callable[[web.Request], Awaitable[web.StreamResponse]],
        auth: BasicAuth | None,
        origins: tuple[str, ...],
        max_requests: int | None = None,
    ) -> None:
        self._my_url = my_url
        self._leads = leads
        self._is_ready = is_ready
        self._forward = forward
        self._auth = auth
        self._origins = origins
        self._max_requests = max_requests
        self._requests = 0

    def add_to(self, app: web.Application) -> None:
        """Stand around all routes of `app`, in the order in which requests are seen."""
        app.middlewares.extend([self._cors, self._guard, self._crowd, self._lead, _refusals])
        app.on_response_prepare.append(self._common)  # errors that routes raise pass no middleware

    def headers(self) -> dict[str, str]:
        """What the leader puts on each answer, streams included."""
        return {**COMMON_HEADERS, "X-Marathon-Leader": self._my_url}

    async def _common(self, _request: web.Request, response: web.StreamResponse) -> None:
        headers = self.headers() if self._leads() else COMMON_HEADERS
        for name, value in headers.items():
            response.headers.setdefault(name, value)

    @web.middleware
    async def _cors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._origins:
            return await handler(request)
        if request.method == "OPTIONS":
            response: web.StreamResponse = web.Response()
        else:
            response = await handler(request)
        if response.prepared:
            return response
        for origin in self._origins:
            response.headers.add("Access-Control-Allow-Origin", origin)
        asked = request.headers.get("Access-Control-Request-Headers")
        if asked is not None:
            response.headers["Access-Control-Allow-Headers"] = asked
        response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, OPTIONS"
        response.headers["Access-Control-Max-Age"] = CORS_MAX_AGE_S
        return response

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._auth is not None:
            principal = self._auth.principal(request)
            if principal is None:
                return self._auth.challenge()
            request[_PRINCIPAL] = principal
        return await handler(request)

    @web.middleware
    async def _crowd(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """`--http_max_concurrent_requests`; event streams, which last, do not count."""
        if self._max_requests is None or request.path.rstrip("/") == "/v2/events":
            return await handler(request)
        if self._requests >= self._max_requests:
            raise Rejected(503, f"{self._max_requests} requests are under way; try again later")
        self._requests += 1
        try:
            return await handler(request)
        finally:
            self._requests -= 1

    @web.middleware
    async def _lead(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._leads():
            return await self._forward(request)
        if not self._is_ready():
            raise Rejected(503, "This Marathon was just elected and still reads its records")
        if request.path.startswith("/v2/") and request.path.rstrip("/") != "/v2/events":
            accepted_type_of(request, _OFFERED)
        return await handler(request)


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return json_response(refused.body(), refused.status)
