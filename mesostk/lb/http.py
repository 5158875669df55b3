"""marathon-lb's own port: what HAProxy's :9090 hands on, the status and the metrics.

Source of paths and answers: spec/dns-lb-autoscale §2.12. In the original Lua code in HAProxy
answers; callers see no difference, since HAProxy proxies these paths here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from mesostk.base.http import add_routes, json_answer
from mesostk.base.metrics import Metrics
from mesostk.errors import Unavailable
from mesostk.lb import runtime
from mesostk.lb.applying import Applier
from mesostk.lb.haproxy import Haproxy

PROMETHEUS_TYPE: Final = "text/plain"


class Api:
    """Answers requests from what the applier and HAProxy know."""

    def __init__(
        self,
        applier: Applier,
        haproxy: Haproxy,
        metrics: Metrics,
        hang_up: Callable[[], None],
        reload: Callable[[], Awaitable[None]],
        source: Callable[[], dict[str, Any]],
    ) -> None:
        self._applier = applier
        self._haproxy = haproxy
        self._metrics = metrics
        self._hang_up = hang_up
        self._reload = reload
        self._source = source
        #: The text that HAProxy was given last.
        self._source_of_config = haproxy.read

    def add_to(self, app: web.Application) -> None:
        """Serve all paths."""
        add_routes(
            app,
            [""],
            [
                ("GET", "/_haproxy_health_check", self._health),
                ("GET", "/_haproxy_getconfig", self._config),
                ("GET", "/_haproxy_getvhostmap", self._domain_map),
                ("GET", "/_haproxy_getappmap", self._app_map),
                ("GET", "/_haproxy_getpids", self._pids),
                ("GET", "/_mlb_signal/hup", self._signal_hup),
                ("GET", "/_mlb_signal/usr1", self._signal_usr1),
                ("GET", "/_mlb_status", self._status),
                ("GET", "/metrics", self._prometheus),
                ("GET", "/metrics/snapshot", self._snapshot),
            ],
        )

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(
            text="<html><body><h1>200 OK</h1>\nService ready.\n</body></html>\n",
            content_type="text/html",
        )

    async def _config(self, _request: web.Request) -> web.Response:
        return web.Response(text=await self._source_of_config() or "")

    async def _domain_map(self, _request: web.Request) -> web.Response:
        applied = self._applier.applied
        return web.Response(text="" if applied is None else applied.domain_map)

    async def _app_map(self, _request: web.Request) -> web.Response:
        applied = self._applier.applied
        return web.Response(text="" if applied is None else applied.app_map)

    async def _pids(self, _request: web.Request) -> web.Response:
        return web.Response(text=" ".join(map(str, await self._haproxy.pids())) + "\n")

    async def _signal_hup(self, _request: web.Request) -> web.Response:
        self._hang_up()
        return web.Response(text="Sent SIGHUP signal to marathon-lb")

    async def _signal_usr1(self, _request: web.Request) -> web.Response:
        await self._reload()
        return web.Response(text="Sent SIGUSR1 signal to marathon-lb")

    async def _prometheus(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._metrics.prometheus(), content_type=PROMETHEUS_TYPE)

    async def _snapshot(self, _request: web.Request) -> web.Response:
        return json_answer(self._metrics.snapshot())

    async def _status(self, request: web.Request) -> web.Response:
        return json_answer(await self.status(), request=request)

    async def status(self) -> dict[str, Any]:
        """Routes with their servers and rates, what is left out, and how Marathon is heard."""
        try:
            rows = await self._haproxy.statistics()
            problem = None
        except Unavailable as error:
            rows, problem = [], str(error)
        backends = {row["pxname"]: row for row in runtime.only_of(rows, "BACKEND")}
        applied = self._applier.applied
        routes = []
        for route in () if applied is None else applied.routes:
            row = backends.get(route.backend, {})
            routes.append(
                {
                    **msgspec.to_builtins(route),
                    "up": runtime.number(row, "act"),
                    "requests_per_second": _rate(row, route.mode),
                    "sessions": runtime.number(row, "scur"),
                }
            )
        return {
            "routes": routes,
            "left_out": [msgspec.to_builtins(one) for one in self._applier.refusals],
            "marathon": self._source(),
            "haproxy": problem,
        }


def _rate(row: dict[str, str], mode: str) -> int:
    # Backends count requests as sessions in both modes; `req_rate` is a frontend's.
    del mode
    return runtime.number(row, "rate")
