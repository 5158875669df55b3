"""The agent's HTTP endpoints; each also below `/slave(1)`. Source: spec §5.3, §5.4.

::

    GET ─▶ recovering? 503 ─▶ view of the core (views.py) ─▶ JSON
    GET /files/… ─▶ disk thread ─▶ base.files.VirtualFiles
    GET /sandbox ─▶ page that lists a sandbox and follows stdout and stderr
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from mimetypes import guess_type
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from mesostk import MESOS_VERSION, __version__
from mesostk.agent import usage, views
from mesostk.agent.api import OperatorApi
from mesostk.agent.containers_api import ContainerCalls
from mesostk.agent.disk_watch import DiskWatch
from mesostk.agent.executor_http import ExecutorApi
from mesostk.agent.flags import shown
from mesostk.agent.pages import PAGES
from mesostk.agent.runs import Runs
from mesostk.agent.state import Run, State
from mesostk.base.config import Values
from mesostk.base.daemon import Daemon
from mesostk.base.help import Help
from mesostk.base.http import add_routes, json_answer, not_found, with_all_below
from mesostk.base.system import system_figures
from mesostk.base.units import duration
from mesostk.errors import Rejected

#: The agent's process id in paths. Source: spec §0.1.
PROCESS = "/slave(1)"

#: Files are sent in pieces of this size, each read in the disk thread.
_PIECE_BYTES = 256 * 1024

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

#: What the query of /containers may name together; nothing: all.
_SELECTIONS: tuple[set[str], ...] = (
    set(), {"container_id"}, {"framework_id"}, {"framework_id", "executor_id"},
)  # fmt: skip

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoints:
    """Handlers over the core's state and the runs."""

    def __init__(
        self,
        daemon: Daemon,
        state: State,
        runs: Runs,
        values: Values,
        executors: ExecutorApi,
        containers: ContainerCalls,
        disk_watch: DiskWatch,
    ) -> None:
        self._disk_watch = disk_watch
        self._daemon = daemon
        self._state = state
        self._runs = runs
        self._values = values
        self._started_at = daemon.clock.wall()
        self._started = daemon.clock.monotonic()
        self._executors = executors
        self._operator = OperatorApi(daemon, state, runs, values, self._statistics, containers)
        daemon.metrics.source(self._figures)
        daemon.metrics.source(lambda: system_figures("system/"))

    def add_to(self, app: web.Application) -> None:
        """Add every route."""
        own: dict[str, Handler] = {
            "/state": self.state,
            "/flags": self.flags,
            "/health": self.health,
            "/containers": self.containers,
            "/api/v1": self._operator.handle,
            "/api/v1/executor": self._executors.handle,
            "/containerizer/debug": self.pending,
            "/monitor/statistics": self.statistics,
            "/version": self.version,
            "/metrics/snapshot": self.metrics,
            "/metrics/prometheus": self.prometheus,
            "/system/stats.json": self.system,
            "/files/browse": self.browse,
            "/files/read": self.read,
            "/files/download": self.download,
            "/files/debug": self.debug,
            "/logging/toggle": self.toggle,
        }
        routes = [("*", path, own[path]) for path in own]
        # An old name, which collectors know.
        routes.append(("*", "/monitor/statistics.json", self.statistics))
        add_routes(app, ("", PROCESS), with_all_below(routes))
        alone = Help(PROCESS[1:], PAGES).table()
        add_routes(app, ("",), [("*", path, alone[path]) for path in alone])
        add_routes(app, ("",), [("GET", "/sandbox", self.page), ("GET", "/ui/{name}", self.asset)])
        app.router.add_route("*", "/{nothing:.*}", not_found)

    # -- state -----------------------------------------------------------------------------------

    def _refuse_while_recovering(self) -> None:
        if not self._state.recovered:
            raise Rejected(503, "Agent has not finished recovery")

    async def state(self, request: web.Request) -> web.Response:
        """/state"""
        self._refuse_while_recovering()
        build = {**_build(), "start_time": self._started_at}
        leader = self._state.leader
        host = leader.partition("://")[2].rpartition(":")[0] if leader is not None else None
        view = views.state_view(self._state, shown(self._values), build, host)
        return json_answer(view, request=request)

    async def health(self, _request: web.Request) -> web.Response:
        """/health: 200 and nothing."""
        return web.Response()

    async def flags(self, request: web.Request) -> web.Response:
        """/flags"""
        return json_answer({"flags": shown(self._values)}, request=request)

    async def version(self, request: web.Request) -> web.Response:
        """/version"""
        return json_answer(_build(), request=request)

    async def metrics(self, request: web.Request) -> web.Response:
        """/metrics/snapshot; every figure is at hand, so that the timeout is only checked."""
        timeout = request.query.get("timeout")
        if timeout is not None:
            try:
                duration(timeout)
            except ValueError as error:
                raise Rejected(400, f"Unable to parse timeout '{timeout}': {error}") from error
        return json_answer(self._daemon.metrics.snapshot(), request=request)

    async def prometheus(self, _request: web.Request) -> web.Response:
        """/metrics/prometheus"""
        return web.Response(
            text=self._daemon.metrics.prometheus(), content_type="text/plain", charset="utf-8"
        )

    async def system(self, request: web.Request) -> web.Response:
        """/system/stats.json"""
        return json_answer(system_figures(), request=request)

    async def toggle(self, request: web.Request) -> web.Response:
        """/logging/toggle"""
        return self._operator.log_level.toggle(request)

    def _figures(self) -> dict[str, float]:
        uptime_s = self._daemon.clock.monotonic() - self._started
        found = views.figures(self._state, uptime_s)
        if self._state.recovered_at is not None:
            found["slave/recovery_time_secs"] = max(0.0, self._state.recovered_at - self._started)
        return found

    # -- containers ------------------------------------------------------------------------------

    async def containers(self, request: web.Request) -> web.Response:
        """/containers, of one container or executor if the query names it."""
        self._refuse_while_recovering()
        wanted = {
            name: request.query.get(name)
            for name in ("container_id", "framework_id", "executor_id")
        }
        given = {name for name, value in wanted.items() if value is not None}
        if given not in _SELECTIONS:
            raise Rejected(
                400,
                "Supported query parameters are container_id only, framework_id only, or"
                " executor_id and framework_id only",
            )
        found = []
        for run in self._live():
            if all(value is None or getattr(run, name) == value for name, value in wanted.items()):
                view = views.container_view(run)
                found.append({**view, "statistics": await self._statistics(run)})
        return json_answer(found, request=request)

    async def pending(self, request: web.Request) -> web.Response:
        """/containerizer/debug: what the containers wait for, those being launched."""
        launching = [run for run in self._live() if run.phase != "RUNNING"]
        views = [
            {"operation": "launch", "args": {"containerId": run.container_id}} for run in launching
        ]
        return json_answer({"pending": views}, request=request)

    async def statistics(self, request: web.Request) -> web.Response:
        """/monitor/statistics"""
        self._refuse_while_recovering()
        found = []
        for run in self._live():
            view = views.container_view(run)
            found.append(
                {
                    "executor_id": run.executor_id,
                    "executor_name": view["executor_name"],
                    "framework_id": run.framework_id,
                    "source": view["source"],
                    "statistics": await self._statistics(run),
                }
            )
        return json_answer(found, request=request)

    def _live(self) -> list[Run]:
        return [
            run for run in self._state.live_runs() if run.phase == "RUNNING" and not run.is_default
        ]

    async def _statistics(self, run: Run) -> usage.Statistics:
        watched = self._runs.launcher.runs.get(run.container_id)
        allowed: dict[str, float | int] = {}
        for resource in run.held:
            if resource.scalar is None:
                continue
            if resource.name == "cpus":
                allowed["cpus_limit"] = allowed.get("cpus_limit", 0) + resource.scalar.value
            elif resource.name in ("mem", "disk"):
                name = f"{resource.name}_limit_bytes"
                allowed[name] = int(allowed.get(name, 0) + resource.scalar.value * 2**20)
        used = self._disk_watch.used.get(run.container_id)
        if used is not None:
            allowed["disk_used_bytes"] = used
        docker = self._runs.docker
        if docker is not None and docker.owns(run.container_id):
            allowed |= await docker.statistics(run.container_id)
            return msgspec.convert(
                {"timestamp": self._daemon.clock.wall(), **allowed}, usage.Statistics
            )
        return await self._daemon.disk(
            usage.of_run,
            self._daemon.clock.wall(),
            watched.pid if watched is not None else 0,
            run.container_id,
            self._runs.cgroups,
            allowed,
        )

    # -- files -----------------------------------------------------------------------------------

    async def browse(self, request: web.Request) -> web.Response:
        """/files/browse"""
        entries = await self._daemon.disk(self._runs.files.browse, _path(request))
        return json_answer(entries, request=request)

    async def read(self, request: web.Request) -> web.Response:
        """/files/read: text as it is, bytes that are no UTF-8 as U+FFFD."""
        path, offset = _path(request), _number(request, "offset")
        length = _number(request, "length")
        piece = await self._daemon.disk(self._runs.files.read, path, offset, length)
        data = piece.data.decode("utf-8", errors="replace")
        return json_answer({"offset": piece.offset, "data": data}, request=request)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """/files/download"""
        path = _path(request)
        with self._runs.files.opened(path) as fd:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise Rejected(400, "Cannot download a directory.\n")
            kind, _ = guess_type(path)
            response = web.StreamResponse()
            name = quote(Path(path).name)
            response.headers["Content-Disposition"] = f"attachment; filename={name}"
            response.content_type = kind if kind is not None else "application/octet-stream"
            response.content_length = left = status.st_size
            await response.prepare(request)
            while left > 0:
                piece = await self._daemon.disk(os.read, fd, min(left, _PIECE_BYTES))
                if not piece:
                    break
                left -= len(piece)
                await response.write(piece)
        await response.write_eof()
        return response

    async def debug(self, request: web.Request) -> web.Response:
        """/files/debug: virtual path → real path"""
        return json_answer(dict(self._runs.files.attached()), request=request)

    # -- pages -----------------------------------------------------------------------------------

    async def page(self, _request: web.Request) -> web.StreamResponse:
        """/sandbox?path=… or ?framework=…&executor=…"""
        return await self._static("sandbox.html")

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """/ui/NAME"""
        return await self._static(request.match_info["name"])

    async def _static(self, name: str) -> web.StreamResponse:
        folder = Path(__file__).parent / "ui"
        path = folder / name
        if path.parent != folder or path.suffix not in (".html", ".js", ".css"):
            raise Rejected(404, f"No page is called {name}")
        try:
            body = await self._daemon.disk(path.read_bytes)
        except FileNotFoundError:
            raise Rejected(404, f"No page is called {name}") from None
        kind, _ = guess_type(name)
        return web.Response(
            body=body,
            headers=_PAGE_HEADERS,
            content_type=kind if kind is not None else "text/plain",
            charset="utf-8",
        )


def _build() -> dict[str, Any]:
    return {
        "version": MESOS_VERSION,
        "build_date": "",
        "build_time": 0.0,
        "build_user": "",
        "git_tag": f"mesostk-{__version__}",
    }


def _path(request: web.Request) -> str:
    path = request.query.get("path")
    if not path:
        raise Rejected(400, "Expecting 'path=value' in query.\n")
    return path


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name)
    if text is None or text == "":
        return -1
    try:
        return int(text)
    except ValueError as error:
        raise Rejected(400, f"Failed to parse {name}: '{text}' is not a number.\n") from error
