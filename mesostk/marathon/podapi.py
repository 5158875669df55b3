"""`/v2/pods`: routes. The words after `::` are part of the path, as the original has it.

Source: spec/marathon §1.7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiohttp import web

from mesostk.errors import Rejected
from mesostk.marathon import explaining, paths, podviews
from mesostk.marathon.asking import Asker, flag, json_body, json_object
from mesostk.marathon.edge import json_response
from mesostk.marathon.events import CreatePod, DeletePod, KillInstances, PutPod
from mesostk.marathon.pieces import encode_list
from mesostk.marathon.podcommands import known, no_pod
from mesostk.marathon.refusal import Refused, malformed
from mesostk.marathon.state import State

Answer = Awaitable[web.StreamResponse]
Handler = Callable[[web.Request, str, str], Answer]


class PodApi:
    """Routes of pods, over the core's state and its commands."""

    def __init__(self, state: Callable[[], State], asker: Asker) -> None:
        self._state = state
        self._asker = asker
        #: By method and the word after `::`; with a slash where more follows it.
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", ""): self._get_one,
            ("PUT", ""): self._put,
            ("DELETE", ""): self._delete,
            ("GET", "status"): self._get_status,
            ("GET", "why"): self._get_why,
            ("GET", "versions"): self._get_versions,
            ("GET", "versions/"): self._get_version,
            ("DELETE", "instances"): self._kill_listed,
            ("DELETE", "instances/"): self._kill_one,
        }

    def add_to(self, app: web.Application) -> None:
        """Add all routes."""
        app.router.add_get("/v2/pods", self._get_all)  # HEAD too: a probe for the feature
        app.router.add_post("/v2/pods", self._post)
        app.router.add_get("/v2/pods/::status", self._get_statuses)
        app.router.add_route("*", "/v2/pods/{tail:.+}", self._by_tail)

    async def _by_tail(self, request: web.Request) -> web.StreamResponse:
        id, _, words = request.match_info["tail"].partition("::")
        word, slash, rest = words.partition("/")
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._handlers.get((method, word + slash))
        if handler is None:
            methods = sorted(m for m, known_word in self._handlers if known_word == word + slash)
            if not methods:
                raise web.HTTPNotFound
            raise web.HTTPMethodNotAllowed(method, methods)
        return await handler(request, paths.absolute(id), rest)

    # -- reading --------------------------------------------------------------------------------

    def _ids(self) -> list[str]:
        return sorted(id for id, spec in self._state().apps.items() if spec.pod is not None)

    async def _get_all(self, _request: web.Request) -> web.StreamResponse:
        apps = self._state().apps
        found = [apps[id] for id in self._ids()]
        return json_response(await encode_list(None, found, podviews.pod_view))

    async def _get_statuses(self, _request: web.Request) -> web.StreamResponse:
        state = self._state()
        show = partial(podviews.pod_status, state)
        return json_response(await encode_list(None, self._ids(), show))

    async def _get_one(self, _request: web.Request, id: str, _rest: str) -> web.StreamResponse:
        return json_response(podviews.pod_view(known(self._state(), id)))

    async def _get_status(self, _request: web.Request, id: str, _rest: str) -> web.StreamResponse:
        status = podviews.pod_status(self._state(), id)
        if status is None:
            raise no_pod(id)
        return json_response(status)

    async def _get_why(self, _request: web.Request, id: str, _rest: str) -> web.StreamResponse:
        known(self._state(), id)
        return json_response(explaining.why(self._state(), id))

    async def _get_versions(self, _request: web.Request, id: str, _rest: str) -> web.StreamResponse:
        known(self._state(), id)
        return json_response(sorted(self._state().versions[id], reverse=True))

    async def _get_version(
        self, _request: web.Request, id: str, version: str
    ) -> web.StreamResponse:
        known(self._state(), id)
        spec = self._state().versions[id].get(version)
        if spec is None or spec.pod is None:
            raise Refused(404, f"Pod '{id}' does not exist in version '{version}'")
        return json_response(podviews.pod_view(spec))

    # -- changing -------------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body, dry_run = await json_object(request), flag(request, "dryRun")
        return await self._asker.ask(request, CreatePod, body=body, dry_run=dry_run)

    async def _put(self, request: web.Request, id: str, _rest: str) -> web.StreamResponse:
        body = await json_object(request)
        return await self._asker.ask(
            request,
            PutPod,
            pod_id=id,
            body=body,
            dry_run=flag(request, "dryRun"),
            may_restart=flag(request, "restart", default=True),
        )

    async def _delete(self, request: web.Request, id: str, _rest: str) -> web.StreamResponse:
        return await self._asker.ask(request, DeletePod, pod_id=id)

    async def _kill_listed(self, request: web.Request, id: str, _rest: str) -> web.StreamResponse:
        raw = await json_body(request)
        if not isinstance(raw, list) or not raw or not all(isinstance(each, str) for each in raw):
            raise malformed("/", "expected a list of instance ids")
        return await self._kill(request, id, raw, one=False)

    async def _kill_one(self, request: web.Request, id: str, rest: str) -> web.StreamResponse:
        if not rest:
            raise Rejected(400, "an instance id is missing after ::instances/")
        return await self._kill(request, id, [rest], one=True)

    async def _kill(
        self, request: web.Request, id: str, ids: Sequence[str], *, one: bool
    ) -> web.StreamResponse:
        return await self._asker.ask(
            request,
            KillInstances,
            pod_id=id,
            instance_ids=tuple(ids),
            one=one,
            wipe=flag(request, "wipe"),
        )
