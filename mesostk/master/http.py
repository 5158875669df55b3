"""The master's routes: the original's legacy endpoints, and the page of :5050.

Each is there under `/` and under `/master`, with and without `.json`. Everything about the cluster
is answered by the leader only; about this process by any master (spec/mesos.md §1.3, §5.1).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from aiohttp import web

from mesostk import MESOS_VERSION
from mesostk.base.help import Help
from mesostk.base.http import add_routes, json_answer, not_found, with_all_below
from mesostk.base.metrics import Metrics
from mesostk.base.system import system_figures
from mesostk.base.units import duration
from mesostk.errors import Rejected
from mesostk.master import debugging, documents, explain, legacy, pages
from mesostk.master.bodies import Bodies
from mesostk.master.entry import (
    Node,
    leader_url,
    require_leader,
    require_recovered,
)
from mesostk.master.guard import principal_of, require_allowed, seen_by
from mesostk.master.link import LinkApi
from mesostk.master.operator import OperatorApi
from mesostk.master.permits import view_of
from mesostk.master.posts import Posts
from mesostk.master.scheduler import SchedulerApi
from mesostk.wire.legacy import leader_view

_DEFAULT_TASKS = 100

#: Types of the page's files; nothing else is served.
_UI_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

_UI_HEADERS = {
    # Everything comes from this server, and nothing of it is made up in the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

#: What the original answers 404 below, and where names are below.
_NOTHING_BELOW = frozenset({"/redirect", "/quota/{role:.+}", "/ui/{name}"})

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Every endpoint of a master."""

    def __init__(
        self,
        node: Node,
        metrics: Metrics,
        scheduler: SchedulerApi,
        link: LinkApi,
        operator: OperatorApi,
        bodies: Bodies,
        posts: Posts,
    ) -> None:
        self._node = node
        self._metrics = metrics
        self._scheduler = scheduler
        self._link = link
        self._operator = operator
        self._bodies = bodies
        self._posts = posts

    def add_to(self, app: web.Application) -> None:
        """Add all routes; whatever has none is 404."""
        documents: dict[str, _Answer] = {
            "/state": self.state,
            "/state-summary": self.state_summary,
            "/slaves": self.slaves,
            "/frameworks": self.frameworks,
            "/tasks": self.tasks,
            "/roles": self.roles,
            "/flags": self.flags,
            "/version": self.version,
            "/metrics/snapshot": self.snapshot,
            "/system/stats.json": self.system,
        }
        aliases = {
            f"{path}.json": answer
            for path, answer in documents.items()
            if not path.endswith(".json")
        }
        others: dict[str, _Answer] = {
            "": self.page,
            "/api/v1": self._operator.handle,
            "/api/v1/scheduler": self._scheduler.handle,
            "/api/link": self._link.handle,
            "/explain-offers": self.explain_offers,
            "/health": self.health,
            "/metrics": self.prometheus,
            "/redirect": self.redirect,
            **self._posts.table(),
            **self._operator.files.table(),
            "/ui/{name}": self.page_file,
        }
        table = {**documents, **aliases, **others}
        routes = [("*", path, table[path]) for path in table]
        add_routes(app, ("", "/master"), with_all_below(routes, _NOTHING_BELOW))
        # Of processes of their own in the original, so not under /master.
        alone: dict[str, _Answer] = {
            "/registrar(1)/registry": self.registry,
            "/allocator/offer_constraints_debug": self.offer_constraints,
            **Help("master", pages.PAGES).table(),
        }
        add_routes(app, ("",), [("*", path, alone[path]) for path in alone])
        app.router.add_route("*", "/{nothing:.*}", not_found)

    # -- about the cluster ----------------------------------------------------------------------

    async def state(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        leader = self._node.leader
        head = legacy.state_head(
            self._node.master,
            None if leader is None else leader_view(leader),
            None if leader is None else leader.pid,
            self._node.flags,
            self._node.cluster,
        )
        if not self._node.acls.allows("view_flags", principal_of(request)):
            head = {key: value for key, value in head.items() if key not in {"flags", "cluster"}}
            return await self._document(request, documents.state, variant="no flags", head=head)
        return await self._document(request, documents.state, head=head)

    async def state_summary(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        cluster = self._node.cluster
        return await self._document(request, documents.state_summary, cluster=cluster)

    async def slaves(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        agent_id = request.query.get("slave_id")
        return await self._document(request, documents.slaves, agent_id=agent_id)

    async def frameworks(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        framework_id = request.query.get("framework_id")
        return await self._document(request, documents.frameworks, framework_id=framework_id)

    async def tasks(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        return await self._document(
            request,
            documents.tasks,
            framework_id=request.query.get("framework_id"),
            task_id=request.query.get("task_id"),
            limit=_limit(request),
            offset=_number(request, "offset", 0),
            ascending=request.query.get("order", "desc") == "asc",
        )

    async def _document(
        self,
        request: web.Request,
        pieces: Callable[..., Iterator[bytes]],
        variant: str = "",
        **choice: Any,
    ) -> web.StreamResponse:
        """One of `documents`; requests with the same choice share it; `variant` names the head."""
        fragments = self._node.fragments
        choices = (
            pieces.__name__,
            variant,
            *(value for name, value in choice.items() if name != "head"),
        )
        master, principal = self._node.master, principal_of(request)
        view = view_of(master.config.acls, principal)
        key = choices if view is None else (*choices, "as seen by", principal)
        return await self._bodies.answer(
            request, key, lambda: pieces(master, fragments, **choice, view=view)
        )

    async def roles(self, request: web.Request) -> web.Response:
        require_leader(self._node, request)
        seen = seen_by(self._node.master, request)
        return json_answer(legacy.roles(seen), request=request)

    async def explain_offers(self, request: web.Request) -> web.Response:
        """GET with `framework`, an id or a name, and perhaps `role`: why agents are not offered."""
        require_leader(self._node, request)
        require_recovered(self._node)
        wanted = request.query.get("framework")
        if not wanted:
            raise Rejected(400, "Expecting 'framework=ID' in query; /frameworks lists them")
        master = seen_by(self._node.master, request)
        found = [item for item in master.frameworks.values() if wanted in {item.id, item.info.name}]
        if not found:
            raise Rejected(
                404, f"No framework has the id or name '{wanted}'; /frameworks lists them"
            )
        if len(found) > 1:
            ids = ", ".join(item.id for item in found)
            raise Rejected(400, f"Several frameworks are called '{wanted}'; name one by id: {ids}")
        role, now = request.query.get("role"), time.monotonic()
        if role is not None and not master.sees_role(role):
            raise Rejected(403, "403 Forbidden.")
        return json_answer(explain.offers(master, found[0], role, now), request=request)

    async def registry(self, request: web.Request) -> web.Response:
        """What this master knows of the registry; one that does not lead knows nothing of it."""
        return json_answer(debugging.registry(self._node.master), request=request)

    async def offer_constraints(self, request: web.Request) -> web.Response:
        seen = seen_by(self._node.master, request)
        return json_answer(debugging.offer_constraints(seen), request=request)

    # -- about this process ---------------------------------------------------------------------

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def redirect(self, _request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(leader_url(self._node))

    async def flags(self, request: web.Request) -> web.Response:
        require_allowed(self._node.acls, request, "view_flags")
        return json_answer({"flags": dict(self._node.flags)}, request=request)

    async def version(self, request: web.Request) -> web.Response:
        return json_answer({"version": MESOS_VERSION, **legacy.BUILD}, request=request)

    async def snapshot(self, request: web.Request) -> web.Response:
        """Every figure is at hand, so that the timeout is only checked."""
        require_allowed(self._node.acls, request, "get_endpoints", "/metrics/snapshot")
        timeout = request.query.get("timeout")
        if timeout is not None:
            try:
                duration(timeout)
            except ValueError as error:
                raise Rejected(400, f"Unable to parse timeout '{timeout}': {error}") from error
        return json_answer(self._metrics.snapshot(), request=request)

    async def prometheus(self, request: web.Request) -> web.Response:
        require_allowed(self._node.acls, request, "get_endpoints", "/metrics/snapshot")
        return web.Response(text=self._metrics.prometheus(), content_type="text/plain")

    async def system(self, request: web.Request) -> web.Response:
        return json_answer(system_figures(), request=request)

    # -- the page -------------------------------------------------------------------------------

    async def page(self, request: web.Request) -> web.Response:
        if request.path == "/master":
            # So that the page's relative links hold.
            raise web.HTTPTemporaryRedirect("/master/")
        if self._node.leader is not None and not self._node.is_leading:
            # The page talks to its own origin only, so it is shown by the leader.
            raise web.HTTPTemporaryRedirect(f"{leader_url(self._node)}/")
        return _ui_file("index.html")

    async def page_file(self, request: web.Request) -> web.Response:
        return _ui_file(request.match_info["name"])


def _ui_file(name: str) -> web.Response:
    kind = _UI_TYPES.get(PurePosixPath(name).suffix)
    file = resources.files("mesostk.master") / "ui" / name
    if kind is None or "/" in name or name.startswith(".") or not file.is_file():
        return web.Response(status=404, text="404 Not Found.")
    return web.Response(
        body=file.read_bytes(), content_type=kind, charset="utf-8", headers=_UI_HEADERS
    )


def _limit(request: web.Request) -> int:
    """How many tasks at most; any negative number means all, as clients of the original say."""
    if re.fullmatch(r"-\d+", request.query.get("limit", "")) is not None:
        return sys.maxsize
    return _number(request, "limit", _DEFAULT_TASKS)


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise Rejected(400, f"Query parameter '{name}' must be a number, not '{text[:50]}'")
    return int(text)
