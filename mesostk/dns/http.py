"""The HTTP interface: what the zone holds, as JSON, and how the server is.

Source: spec/dns-lb-autoscale.md §1.12; /v1/health and /metrics are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from mesostk import __version__
from mesostk.base.http import JSON_TYPE, accepted_type_of, make_app, text_error
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.dns.answers import Answers
from mesostk.dns.config import Config, shown
from mesostk.dns.records import AAAA, SRV, A, Record
from mesostk.dns.zone import Zone

#: The document that tells clients what they talk to; the original's address is part of it.
ABOUT: Final = {
    "Service": "Mesos-DNS",
    "URL": "https://github.com/mesosphere/mesos-dns",
    "Version": __version__,
}

#: Names or tasks handled between two turns of the loop: about 5 ms.
_PIECE: Final = 500

_View = dict[str, Any]

Health = Callable[[], Mapping[str, Any]]


class Api:
    """The handlers. `health` says how the server is; its key `healthy` decides the status."""

    def __init__(self, config: Config, zone: Zone, answers: Answers, health: Health) -> None:
        self._config = config
        self._zone = zone
        self._answers = answers
        self._health = health

    def routes(self) -> list[tuple[str, Callable[[web.Request], Awaitable[web.Response]]]]:
        """Path and handler of everything that is served."""
        found: list[tuple[str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("/v1/version", self.version),
            ("/v1/config", self.config),
            ("/v1/hosts/{host}", self.hosts),
            ("/v1/hosts/{host}/ports", self.ports),
            ("/v1/services/{service}", self.services),
            ("/v1/health", self.health),
        ]
        if self._config.enumeration_on:
            found += [("/v1/enumerate", self.enumerate), ("/v1/axfr", self.axfr)]
        return found

    async def version(self, request: web.Request) -> web.Response:
        return _answer(request, ABOUT)

    async def config(self, request: web.Request) -> web.Response:
        return _answer(request, shown(self._config))

    async def health(self, request: web.Request) -> web.Response:
        view = self._health()
        return _answer(request, view, 200 if view["healthy"] else 503)

    async def hosts(self, request: web.Request) -> web.Response:
        """Addresses of a name, A first; one empty entry if there are none."""
        name = request.match_info["host"].lower().rstrip(".")
        ips = [ip for kind in (A, AAAA) for ip in self._zone.values(name, kind)]
        found = [{"host": name + ".", "ip": ip} for ip in ips]
        return _answer(request, found or [{"host": "", "ip": ""}])

    async def ports(self, _request: web.Request) -> web.Response:
        return web.Response(status=501, text="To be implemented...")

    async def services(self, request: web.Request) -> web.Response:
        """Targets of an SRV name with the first A and the first AAAA of each."""
        asked = request.match_info["service"]
        found = []
        for value in self._zone.values(asked.lower().rstrip("."), SRV):
            target, _, port = value.rpartition(":")
            for kind in (A, AAAA):
                found += [
                    {"service": asked, "host": target + ".", "ip": ip, "port": port}
                    for ip in self._zone.values(target, kind)[:1]
                ]
        empty = [{"service": "", "host": "", "ip": "", "port": ""}]
        return _answer(request, found or empty)

    async def enumerate(self, request: web.Request) -> web.Response:
        """Records by framework and task; each under the first task that makes it."""
        accepted_type_of(request, (JSON_TYPE,))
        frameworks: dict[str, _View] = {
            framework_id: {"tasks": [], "name": framework.name}
            for framework_id, framework in self._zone.frameworks.items()
        }
        seen: set[Record] = set()
        for count, (framework, task, records) in enumerate(list(self._zone.by_task())):
            if count % _PIECE == 0:
                await asyncio.sleep(0)
            new = [record for record in records if record not in seen]
            seen.update(new)
            shown_ones = [_record(one) for one in new] if new else None
            view = {"name": task.name, "id": task.id, "records": shown_ones}
            frameworks[framework.id]["tasks"].append(view)
        return _answer(request, {"frameworks": list(frameworks.values())})

    async def axfr(self, request: web.Request) -> web.Response:
        """All records by type and name."""
        accepted_type_of(request, (JSON_TYPE,))
        style, config = self._answers.style, self._config
        tables: dict[str, dict[str, list[str]]] = {A: {}, AAAA: {}, SRV: {}}
        view = {
            "TTL": style.ttl,
            "Serial": self._answers.serial,
            "RefreshSeconds": config.refresh_seconds,
            "Mname": style.mname + ".",
            "Rname": style.rname + ".",
            "Domain": style.domain,
            "Records": {"As": tables[A], "AAAAs": tables[AAAA], "SRVs": tables[SRV]},
        }
        for count, name in enumerate(self._zone.names()):
            if count % _PIECE == 0:
                await asyncio.sleep(0)
            for kind, table in tables.items():
                values = self._zone.values(name, kind)
                if values:
                    table[name + "."] = [_shown(kind, value) for value in values]
        return _answer(request, view)


def _record(record: Record) -> _View:
    value = _shown(record.type, record.value)
    return {"name": record.name + ".", "host": value, "rtype": record.type}


def _shown(kind: str, value: str) -> str:
    if kind != SRV:
        return value
    target, _, port = value.rpartition(":")
    return f"{target}.:{port}"


def _answer(request: web.Request, view: object, status: int = 200) -> web.Response:
    accepted_type_of(request, (JSON_TYPE,))
    body = msgspec.json.format(msgspec.json.encode(view), indent=1)
    return web.Response(status=status, body=body, content_type=JSON_TYPE)


def _error(status: int, message: str) -> web.Response:
    return text_error(status, "404: Page Not Found" if status == 404 else message)


def make_application(api: Api, log: Log, metrics: Metrics) -> web.Application:
    """The application; GET only, with or without a slash at the end."""
    app = make_app(log, metrics, _error)

    async def snapshot(request: web.Request) -> web.Response:
        return _answer(request, metrics.snapshot())

    async def prometheus(_request: web.Request) -> web.Response:
        return web.Response(text=metrics.prometheus(), content_type="text/plain")

    pages = [*api.routes(), ("/metrics/snapshot", snapshot), ("/metrics", prometheus)]
    for path, handler in pages:
        app.router.add_route("GET", path, handler)
        app.router.add_route("GET", path + "/", handler)
    return app
