"""Endpoints about Marathon itself: info, leader, ping, metrics, events, and the page at `/ui/`.

Source: spec/marathon §1.8, §1.9, §6.
"""

from __future__ import annotations

import asyncio
import html
import importlib.resources
import mimetypes
import re
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from mesostk import __version__
from mesostk.base.config import Values, mask_secrets
from mesostk.base.metrics import Metrics
from mesostk.errors import Rejected
from mesostk.marathon import groups, schemas, subscribing
from mesostk.marathon.asking import Asker
from mesostk.marathon.edge import Edge, json_response
from mesostk.marathon.events import Abdicate
from mesostk.marathon.state import State
from mesostk.marathon.stream import EventHub
from mesostk.wire.marathon import Info, Leader

#: Version of the metrics document that dashboards of the original read.
METRICS_VERSION: Final = "4.0.0"

#: The page loads nothing from anywhere else and runs no inline script.
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

#: Keys of `marathon_config` that are other flags here, or flags in milliseconds there.
_CONFIG_FLAGS: Final = (
    "access_control_allow_origin", "checkpoint", "decline_offer_duration",
    "default_network_name", "env_vars_prefix", "executor", "failover_timeout", "framework_name",
    "ha", "hostname", "launch_token_refresh_interval", "local_port_max", "local_port_min",
    "master", "max_instances_per_offer", "mesos_bridge_name", "mesos_heartbeat_failure_threshold",
    "mesos_heartbeat_interval", "mesos_leader_ui_url", "mesos_role", "mesos_user",
    "min_revive_offers_interval", "new_group_enforce_role", "offer_matching_timeout",
    "on_elected_prepare_timeout", "reconciliation_initial_delay", "reconciliation_interval",
    "scale_apps_initial_delay", "scale_apps_interval", "store_cache",
    "task_launch_confirm_timeout", "task_launch_timeout", "task_lost_expunge_initial_delay",
    "task_lost_expunge_interval", "task_reservation_timeout", "webui_url",
)  # fmt: skip


#: Flags whose whole value is a secret, or holds one.
_SECRET_FLAG: Final = re.compile("secret|password|credentials")


class System:
    """Routes that are not about apps."""

    def __init__(
        self,
        values: Values,
        metrics: Metrics,
        edge: Edge,
        hub: Callable[[], EventHub],
        state: Callable[[], State],
        asker: Asker,
        leader: Callable[[], str | None],
        abdicate: Callable[[], None],
    ) -> None:
        self._values = values
        self._metrics = metrics
        self._edge = edge
        self._hub = hub
        self._state = state
        self._asker = asker
        self._leader = leader
        self._abdicate = abdicate
        self._schemas: Mapping[str, schemas.Schema] = {}

    def add_to(self, app: web.Application) -> None:
        """Add all routes."""
        get = app.router.add_get  # answers HEAD too
        get("/", self._root)
        get("/ui", self._root)
        get("/ui/{path:.*}", self._page)
        get("/ping", self._ping)
        get("/metrics", self._get_metrics)
        get("/metrics/prometheus", self._prometheus)
        get("/v2/info", self._info)
        get("/v2/leader", self._get_leader)
        get("/v2/plugins", self._plugins)
        app.router.add_route("*", "/v2/plugins/{id}/{path:.+}", self._no_plugin)
        app.router.add_route("*", "/v2/artifacts", self._no_artifacts)
        app.router.add_route("*", "/v2/artifacts/{path:.*}", self._no_artifacts)
        get("/v2/schemas/{kind}", self._schema)
        get("/help", self._help)
        get("/config", self._config)
        app.router.add_delete("/v2/leader", self._delete_leader)
        get("/v2/events", self._events, allow_head=False)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._hub().serve(request, self._edge.headers())

    async def _ping(self, request: web.Request) -> web.Response:
        if "application/json" in request.headers.get("Accept", ""):
            return json_response("pong")
        return web.Response(text="pong")

    async def _plugins(self, _request: web.Request) -> web.Response:
        return json_response({"plugins": []})  # there is no interface for them

    async def _no_plugin(self, request: web.Request) -> web.Response:
        raise Rejected(404, f"No plugin with id {request.match_info['id'][:64]}: there are none")

    async def _no_artifacts(self, _request: web.Request) -> web.Response:
        raise Rejected(
            404,
            "There is no artifact store; serve the file over HTTP and name it in an app's fetch",
        )

    async def _schema(self, request: web.Request) -> web.Response:
        if not self._schemas:
            self._schemas = await asyncio.to_thread(schemas.documents)  # longer than the loop waits
        kind = request.match_info["kind"]
        if kind not in self._schemas:
            raise Rejected(404, f"No schema of {kind[:64]}; there are app, pod and group")
        return json_response(self._schemas[kind])

    async def _help(self, request: web.Request) -> web.Response:
        """Every route, as the original's page until 1.4."""
        found: dict[str, set[str]] = {}
        for route in request.app.router.routes():
            if route.resource is not None and not route.resource.canonical.endswith("/"):
                method = "any method" if route.method == "*" else route.method
                found.setdefault(route.resource.canonical, set()).add(method)
        rows = "".join(
            f"<tr><td>{html.escape(path)}</td><td>{', '.join(sorted(found[path]))}</td></tr>\n"
            for path in sorted(found)
        )
        page = (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Marathon</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            '<link rel="icon" href="/ui/favicon.svg" type="image/svg+xml">'
            f"</head><body><h1>Endpoints of Marathon {__version__}</h1>\n<table>\n"
            f"<tr><th>Path</th><th>Methods</th></tr>\n{rows}</table></body></html>\n"
        )
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def _config(self, _request: web.Request) -> web.Response:
        """The flags; passwords are masked."""
        flags = {
            name: "****" if _SECRET_FLAG.search(name) else text
            for name, text in self._values.as_strings().items()
        }
        return json_response({"flags": flags})

    async def _get_leader(self, _request: web.Request) -> web.Response:
        leader = self._leader()
        if leader is None:
            raise Rejected(404, "There is no leader")
        return json_response(Leader(leader=leader))

    async def _delete_leader(self, request: web.Request) -> web.Response:
        if self._leader() is None:
            raise Rejected(404, "There is no leader")
        backup, restore = request.query.get("backup"), request.query.get("restore")
        answer = await self._asker.ask(request, Abdicate, backup=backup, restore=restore)
        if answer.status == 200:
            self._abdicate()
        return answer

    async def _info(self, _request: web.Request) -> web.Response:
        values = self._values
        config: dict[str, object] = {name: _shown(values[name]) for name in _CONFIG_FLAGS}
        config["features"] = sorted(f for f in values.enable_features.split(",") if f)
        config["launch_token"] = values.launch_tokens
        config["leader_proxy_connection_timeout_ms"] = values.leader_proxy_connection_timeout
        config["leader_proxy_read_timeout_ms"] = values.leader_proxy_read_timeout
        return json_response(
            Info(
                version=__version__,
                buildref=f"mesostk-{__version__}",
                elected=True,
                leader=self._leader(),
                framework_id=self._state().framework_id,
                marathon_config=config,
                zookeeper_config={
                    "zk": _shown(values.zk),
                    "zk_timeout": values.zk_timeout,
                    "zk_session_timeout": values.zk_session_timeout,
                    "zk_connection_timeout": values.zk_connection_timeout,
                    "zk_max_versions": values.zk_max_versions,
                    "zk_max_node_size": values.zk_max_node_size,
                    "zk_compression": values.zk_compression,
                    "zk_compression_threshold": values.zk_compression_threshold,
                },
                http_config={
                    "http_port": values.http_port,
                    "https_port": values.https_port,
                    "assets_path": values.assets_path,
                },
                event_subscriber={
                    "type": values.event_subscriber,
                    "http_endpoints": values.http_endpoints,
                },
                refused_roles=subscribing.refused_roles(self._state()),
            )
        )

    # -- metrics --------------------------------------------------------------------------------

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        document: dict[str, object] = {"version": METRICS_VERSION}
        kinds: dict[str, dict[str, object]] = {"gauges": {}, "counters": {}}
        for name, value in sorted(self._metrics.snapshot().items()):
            if name.endswith(".counter"):
                kinds["counters"][name] = {"count": value}
            else:
                kinds["gauges"][name] = {"value": value}
        document.update(kinds, histograms={}, meters={}, timers={})
        return json_response(document)

    async def _prometheus(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._metrics.prometheus())

    # -- the page -------------------------------------------------------------------------------

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/ui/"})

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info["path"] or "index.html"
        folder = importlib.resources.files("mesostk.marathon") / "ui"
        file = folder / name
        # A name with a slash could lead out of the folder; there are no sub-folders.
        if "/" in name or name.startswith(".") or not file.is_file():
            raise web.HTTPNotFound
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        return web.Response(
            body=file.read_bytes(), content_type=kind, charset="utf-8", headers=headers
        )


def _shown(value: object) -> object:
    return mask_secrets(value) if isinstance(value, str) else value


def model_gauges(state: State) -> Mapping[str, float]:
    """Gauges of spec/marathon §6 that are derived from the state each time."""
    instances = state.instances.values()
    return {
        "marathon.apps.active.gauge": sum(1 for app in state.apps.values() if app.pod is None),
        "marathon.pods.active.gauge": sum(1 for app in state.apps.values() if app.pod),
        "marathon.groups.active.gauge": sum(1 for _ in groups.walk(state.root)),
        "marathon.deployments.active.gauge": len(state.deployments),
        "marathon.instances.running.gauge": sum(1 for i in instances if i.is_running),
        "marathon.instances.staged.gauge": sum(1 for i in instances if i.is_staged),
        "marathon.instances.inflight-kills.gauge": len(state.kills),
        "marathon.launch-queue.apps.gauge": len(state.wants),
    }
