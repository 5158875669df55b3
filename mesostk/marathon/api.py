"""`/v2/*`: requests become commands or views, replies become answers.

::

    GET ─▶ views of the core's state ─▶ answer
    others ─▶ command with a number ─▶ core … Saved ─▶ Reply with that number ─▶ answer

App and group ids hold slashes, so the last segments decide: `/v2/apps/a/b/tasks/ID` is a task of
app `/a/b`. Source: spec/marathon §1.1-1.6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from aiohttp import web

from mesostk.base.core import Event
from mesostk.marathon import explaining, groups, paths, planviews, views
from mesostk.marathon.asking import Asker, flag, json_body, json_object
from mesostk.marathon.changing import known_app
from mesostk.marathon.edge import json_response
from mesostk.marathon.events import (
    ChangeGroup,
    Command,
    CreateApp,
    DeleteApp,
    DeleteDeployment,
    DeleteGroup,
    Evacuate,
    KillTasks,
    PatchGroup,
    PutApps,
    Reply,
    ResetDelay,
    RestartApp,
)
from mesostk.marathon.groupcommands import group_at
from mesostk.marathon.groups import Group
from mesostk.marathon.history import History
from mesostk.marathon.pieces import encode_group, encode_list
from mesostk.marathon.podapi import PodApi
from mesostk.marathon.refusal import INVALID_JSON, Refused, malformed
from mesostk.marathon.state import State
from mesostk.wire.marathon import AppDefinition, TaskKillRequest

Answer = Awaitable[web.StreamResponse]


class Api:
    """The routes of `/v2`, over the core's state and its commands."""

    def __init__(self, state: Callable[[], State], feed: Callable[[Event], None]) -> None:
        self._state = state
        self.asker = Asker(feed)
        self._itself: dict[str, Callable[[web.Request, str], Answer]] = {
            "GET": self._get_app,
            "PUT": self._put_app,
            "PATCH": self._put_app,
            "DELETE": self._delete_app,
        }
        #: By method and last segment, or next to last one with a slash.
        self._below: dict[tuple[str, str], Callable[[web.Request, str, str], Answer]] = {
            ("POST", "restart"): self._restart,
            ("GET", "versions"): self._get_versions,
            ("GET", "versions/"): self._get_version,
            ("GET", "tasks"): self._get_app_tasks,
            ("GET", "why"): self._get_why,
            ("DELETE", "tasks"): self._kill_tasks,
            ("DELETE", "tasks/"): self._kill_task,
        }

    def add_to(self, app: web.Application) -> None:
        """Add all routes; ids are everything up to the last known segment."""
        add, get = app.router.add_route, app.router.add_get  # the latter answers HEAD too
        get("/v2/apps", self._get_apps)
        add("POST", "/v2/apps", self._post_app)
        add("PUT", "/v2/apps", self._put_apps)
        add("PATCH", "/v2/apps", self._put_apps)
        add("*", "/v2/apps/{tail:.+}", self._by_tail)
        get("/v2/tasks", self._get_tasks)
        add("POST", "/v2/tasks/delete", self._kill_listed)
        get("/v2/deployments", self._get_deployments)
        add("DELETE", "/v2/deployments/{id}", self._delete_deployment)
        get("/v2/queue", self._get_queue)
        add("DELETE", "/v2/queue/{id:.+}/delay", self._reset_delay)
        get("/v2/agents/{id}/evacuate", self._get_evacuation)
        add("POST", "/v2/agents/{id}/evacuate", self._evacuate)
        add("DELETE", "/v2/agents/{id}/evacuate", self._evacuate)
        History(self._state, self.asker).add_to(app)
        PodApi(self._state, self.asker).add_to(app)
        get("/v2/groups", self._get_group)
        get("/v2/groups/{tail:.*}", self._get_group)
        add("PATCH", "/v2/groups/{tail:.+}", self._patch_group)
        for method in ("POST", "PUT"):
            add(method, "/v2/groups", self._change_group)
            add(method, "/v2/groups/{tail:.*}", self._change_group)
        add("DELETE", "/v2/groups", self._delete_group)
        add("DELETE", "/v2/groups/{tail:.*}", self._delete_group)

    # -- commands -------------------------------------------------------------------------------

    def perform(self, reply: Reply) -> None:
        """Perform `Reply`: the request that waits gets its answer."""
        self.asker.perform(reply)

    async def _ask(
        self, request: web.Request, make: Callable[..., Command], **fields: object
    ) -> web.Response:
        return await self.asker.ask(request, make, **fields)

    # -- apps -----------------------------------------------------------------------------------

    async def _by_tail(self, request: web.Request) -> web.StreamResponse:
        """Pick the handler by the last, or the next to last, segment of the path."""
        parts = paths.segments(request.match_info["tail"])
        method = "GET" if request.method == "HEAD" else request.method
        if len(parts) > 1 and (method, parts[-1]) in self._below:
            return await self._below[method, parts[-1]](request, absolute(parts[:-1]), "")
        if len(parts) > 2 and (method, parts[-2] + "/") in self._below:
            handler = self._below[method, parts[-2] + "/"]
            return await handler(request, absolute(parts[:-2]), parts[-1])
        if method not in self._itself:
            raise web.HTTPMethodNotAllowed(method, list(self._itself))
        return await self._itself[method](request, absolute(parts))

    async def _get_apps(self, request: web.Request) -> web.StreamResponse:
        parts = views.embeds(request.query.getall("embed", [])) | views.LISTED
        query = request.query
        state = self._state()
        found = views.matching_apps(
            state, cmd=query.get("cmd"), id=query.get("id"), label=query.get("label")
        )
        body = await encode_list("apps", found, lambda app: views.app_info(state, app, parts))
        return json_response(body)

    async def _post_app(self, request: web.Request) -> web.StreamResponse:
        body, dry_run = await json_object(request), flag(request, "dryRun")
        return await self._ask(request, CreateApp, body=body, dry_run=dry_run)

    async def _put_apps(self, request: web.Request) -> web.StreamResponse:
        raw = await json_body(request)
        if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
            raise malformed("/", "expected a list of apps")
        patch = request.method == "PATCH"
        partial = patch or flag(request, "partialUpdate", default=True)
        return await self._ask(
            request,
            PutApps,
            bodies=tuple(raw),
            partial=partial,
            may_create=not patch,
            dry_run=flag(request, "dryRun"),
            may_restart=flag(request, "restart", default=True),
        )

    async def _get_app(self, request: web.Request, app_id: str) -> web.StreamResponse:
        state = self._state()
        embedded = views.embeds(request.query.getall("embed", []))
        if app_id == "/*" or app_id.endswith("/*"):
            group = groups.find(state.root, app_id.removesuffix("*").rstrip("/") or "/")
            found = [] if group is None else groups.only_apps(group)
            parts = embedded | views.LISTED
            shown = await encode_list("*", found, lambda app: views.app_info(state, app, parts))
            return json_response(shown)
        app = self._app(app_id)
        return json_response({"app": views.app_info(state, app, embedded | views.SINGLE)})

    async def _put_app(self, request: web.Request, app_id: str) -> web.StreamResponse:
        body = await json_object(request)
        patch = request.method == "PATCH"
        partial = patch or flag(request, "partialUpdate", default=True)
        return await self._ask(
            request,
            PutApps,
            bodies=(body,),
            app_id=app_id,
            partial=partial,
            may_create=not patch,
            dry_run=flag(request, "dryRun"),
            may_restart=flag(request, "restart", default=True),
        )

    async def _delete_app(self, request: web.Request, app_id: str) -> web.StreamResponse:
        force = flag(request, "force", default=True)
        return await self._ask(request, DeleteApp, app_id=app_id, force=force)

    async def _restart(self, request: web.Request, app_id: str, _rest: str) -> web.StreamResponse:
        return await self._ask(request, RestartApp, app_id=app_id)

    async def _get_versions(
        self, _request: web.Request, app_id: str, _rest: str
    ) -> web.StreamResponse:
        self._app(app_id)
        known = self._state().versions[app_id]
        return json_response({"versions": sorted(known, reverse=True)})

    async def _get_version(
        self, _request: web.Request, app_id: str, version: str
    ) -> web.StreamResponse:
        self._app(app_id)
        app = self._state().versions[app_id].get(version)
        if app is None:
            raise Refused(404, f"App '{app_id}' does not exist in version '{version}'")
        return json_response(views.app_info(self._state(), app, frozenset()))

    async def _get_why(self, _request: web.Request, app_id: str, _rest: str) -> web.StreamResponse:
        if app_id not in self._state().waiting:  # also of an app that is being stopped
            self._app(app_id)
        return json_response(explaining.why(self._state(), app_id))

    def _app(self, app_id: str) -> AppDefinition:
        return known_app(self._state(), app_id)

    # -- tasks ----------------------------------------------------------------------------------

    async def _get_app_tasks(
        self, request: web.Request, app_id: str, _rest: str
    ) -> web.StreamResponse:
        state = self._state()
        if app_id == "/*" or app_id.endswith("/*"):
            group = groups.find(state.root, app_id.removesuffix("*").rstrip("/") or "/")
            ids = [] if group is None else [app.id for app in groups.only_apps(group)]
        else:
            ids = [self._app(app_id).id]
        return await self._tasks(request, ids)

    async def _get_tasks(self, request: web.Request) -> web.StreamResponse:
        apps = self._state().apps
        return await self._tasks(request, sorted(id for id in apps if apps[id].pod is None))

    async def _tasks(self, request: web.Request, app_ids: list[str]) -> web.Response:
        state = self._state()
        if _wants_text(request):
            networks = request.query.get("containerNetworks", "")
            named = frozenset(each.strip() for each in networks.split(",") if each.strip())
            return web.Response(text=views.tasks_text(state, app_ids, named))
        query = request.query
        statuses = [*query.getall("status", []), *query.getall("status[]", [])]
        found = [instance for id in app_ids for instance in state.of_app(id)]
        shown = views.with_status(found, statuses)
        body = await encode_list("tasks", shown, lambda each: views.task_view(state, each))
        return json_response(body)

    async def _kill_tasks(
        self, request: web.Request, app_id: str, _rest: str
    ) -> web.StreamResponse:
        return await self._ask(
            request,
            KillTasks,
            app_id=app_id,
            host=request.query.get("host"),
            scale=flag(request, "scale"),
            wipe=flag(request, "wipe"),
        )

    async def _kill_task(
        self, request: web.Request, app_id: str, task_id: str
    ) -> web.StreamResponse:
        return await self._ask(
            request,
            KillTasks,
            app_id=app_id,
            task_ids=(task_id,),
            scale=flag(request, "scale"),
            wipe=flag(request, "wipe"),
            one=True,
        )

    async def _kill_listed(self, request: web.Request) -> web.StreamResponse:
        raw = await json_body(request)
        try:
            wanted = msgspec.convert(raw, TaskKillRequest)
        except msgspec.ValidationError as error:
            raise Refused(400, INVALID_JSON, str(error)) from error
        return await self._ask(
            request,
            KillTasks,
            task_ids=wanted.ids,
            scale=flag(request, "scale"),
            wipe=flag(request, "wipe"),
        )

    # -- deployments, queue, groups -------------------------------------------------------------

    async def _get_deployments(self, request: web.Request) -> web.StreamResponse:
        with_waiting = "deployment.waiting" in request.query.getall("embed", [])
        return json_response(planviews.deployments(self._state(), with_waiting=with_waiting))

    async def _delete_deployment(self, request: web.Request) -> web.StreamResponse:
        return await self._ask(request, DeleteDeployment, deployment_id=request.match_info["id"])

    async def _get_queue(self, request: web.Request) -> web.StreamResponse:
        with_offers = "lastUnusedOffers" in request.query.getall("embed", [])
        return json_response(planviews.queue(self._state(), with_offers=with_offers))

    async def _reset_delay(self, request: web.Request) -> web.StreamResponse:
        app_id = paths.absolute(request.match_info["id"])
        return await self._ask(request, ResetDelay, app_id=app_id)

    async def _get_evacuation(self, request: web.Request) -> web.StreamResponse:
        return json_response(views.agent_view(self._state(), request.match_info["id"]))

    async def _evacuate(self, request: web.Request) -> web.StreamResponse:
        agent_id, cancel = request.match_info["id"], request.method == "DELETE"
        return await self._ask(request, Evacuate, agent_id=agent_id, cancel=cancel)

    async def _get_group(self, request: web.Request) -> web.StreamResponse:
        state = self._state()
        parts = paths.segments(request.match_info.get("tail", ""))
        last = parts[-1] if parts else ""
        if last in {"apps", "versions"}:
            parts = parts[:-1]
        elif len(parts) > 1 and parts[-2] == "versions":
            return await self._group_version(request, parts)
        group_id = "/" + "/".join(parts)
        group = groups.find(state.root, group_id)
        if group is None:
            raise no_group(group_id)
        embed = request.query.getall("embed", [])
        app_parts = views.embeds(embed)
        if last == "apps":
            listed = app_parts | views.LISTED
            found = groups.only_apps(group)
            body = await encode_list(None, found, lambda app: views.app_info(state, app, listed))
            return json_response(body)
        if last == "versions":
            known = state.group_versions.get(group_id, {group.version: None})
            return json_response(sorted(known, reverse=True))
        return await self._group(group, planviews.group_parts(embed), app_parts)

    async def _group(
        self, group: Group, parts: frozenset[str], app_parts: frozenset[str]
    ) -> web.Response:
        state = self._state()
        show = partial(views.app_info, state, parts=app_parts)
        return json_response(await encode_group(group, parts, show))

    async def _group_version(self, request: web.Request, parts: list[str]) -> web.Response:
        state = self._state()
        embed = request.query.getall("embed", [])
        group_id, version = "/" + "/".join(parts[:-2]), parts[-1]
        group = group_at(state, group_id, version)
        return await self._group(group, planviews.group_parts(embed), views.embeds(embed))

    async def _change_group(self, request: web.Request) -> web.StreamResponse:
        parts = paths.segments(request.match_info.get("tail", ""))
        body: dict[str, object]
        if request.method == "PUT" and parts[-2:-1] == ["versions"]:
            parts, body = parts[:-2], {"version": parts[-1]}  # as clients of 0.7 roll back
        else:
            body = await json_object(request)
        return await self._ask(
            request,
            ChangeGroup,
            group_id=absolute(parts),
            body=body,
            create=request.method == "POST",
            dry_run=flag(request, "dryRun"),
        )

    async def _patch_group(self, request: web.Request) -> web.StreamResponse:
        group_id = paths.absolute(request.match_info["tail"])
        body = await json_object(request)
        return await self._ask(request, PatchGroup, group_id=group_id, body=body)

    async def _delete_group(self, request: web.Request) -> web.StreamResponse:
        group_id = paths.absolute(request.match_info.get("tail", ""))
        return await self._ask(request, DeleteGroup, group_id=group_id)


def absolute(parts: list[str]) -> str:
    """The id that path segments spell."""
    return "/" + "/".join(parts)


def no_group(id: str) -> Refused:
    """404 for a group."""
    return Refused(404, f"Group '{id}' does not exist")


def _wants_text(request: web.Request) -> bool:
    accept = request.headers.get("Accept", "")
    return "text/plain" in accept and "application/json" not in accept
