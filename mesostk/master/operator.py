"""`POST /api/v1`: the operator API, calls and event stream (spec/mesos.md §4)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

from mesostk import MESOS_VERSION, __version__
from mesostk.base.http import JSON_TYPE, PROTOBUF_TYPE, accepted_type_of
from mesostk.base.metrics import Metrics
from mesostk.errors import Rejected
from mesostk.master import (
    maintenance,
    operator_resources,
    operators,
    quota_calls,
    v1_documents,
    views,
)
from mesostk.master.bodies import Bodies
from mesostk.master.entry import (
    Node,
    read_call,
    require_leader,
    require_recovered,
    require_type,
    wrong_method,
)
from mesostk.master.event_streams import FORMS, EventStreams
from mesostk.master.events import OperatorCalled, Reply
from mesostk.master.guard import principal_of, require_allowed, seen_by
from mesostk.master.node_files import NodeFiles
from mesostk.master.permits import view_of
from mesostk.wire import operator
from mesostk.wire.mesos import Flag, Metric, VersionInfo

#: JSON wins where both are accepted.
_TYPES = (JSON_TYPE, PROTOBUF_TYPE)

_NOT_IMPLEMENTED = "501 Not Implemented."


class OperatorApi:
    """The endpoint, and the performer of what the core answers operators."""

    def __init__(
        self,
        node: Node,
        metrics: Metrics,
        bodies: Bodies,
        files: NodeFiles,
        streams: EventStreams,
    ) -> None:
        self.files = files
        self._streams = streams
        self._node = node
        self._metrics = metrics
        self._bodies = bodies
        self._requests = itertools.count()
        self._waiting: dict[int, asyncio.Future[web.Response]] = {}

    # -- performing -----------------------------------------------------------------------------

    def reply(self, effect: Reply) -> None:
        waiting = self._waiting.pop(effect.request, None)
        if waiting is not None and not waiting.done():
            text = None if effect.body == "" else effect.body
            response = web.Response(status=effect.status, text=text, headers=effect.headers)
            waiting.set_result(response)

    # -- serving --------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        require_leader(self._node, request)
        require_recovered(self._node)
        refused = wrong_method(request)
        if refused is not None:
            return refused
        call = await read_call(request, operator.Call, require_type(request, _TYPES))
        why = call_error(call)
        if why is not None:
            raise Rejected(400, f"Failed to validate master::Call: {why}")
        kind = accepted_type_of(request, _TYPES)
        principal = principal_of(request)
        if call.type == "SUBSCRIBE":
            return await (await self._streams.open(request, kind, principal)).wait()
        if call.type in operators.CALLS or call.type in operator_resources.OPERATIONS:
            return await self.change(call, request)
        if call.type in v1_documents.CALLS:
            return await self._document(request, call.type, kind)
        local = _LOCAL.get(call.type or "")
        if local is not None:
            return _answer(kind, await local(self.files, call, request))
        if call.type == "SET_LOGGING_LEVEL":
            return self._set_logging_level(call, request)
        read = _READS.get(call.type or "")
        if read is None:
            return web.Response(status=501, text=_NOT_IMPLEMENTED)
        action = _READ_ACTIONS.get(call.type or "")
        if action is not None:
            require_allowed(self._node.acls, request, action[0], action[1])
        return _answer(kind, read(self, request))

    async def _document(
        self, request: web.Request, call: operator.ResponseType, kind: str
    ) -> web.StreamResponse:
        """One that grows with the cluster; who asks for the same in the same way shares it."""
        master, fragments = self._node.master, self._node.fragments
        principal = principal_of(request)
        view = view_of(self._node.acls, principal)
        key = (call, kind, None if view is None else principal)

        def pieces() -> Iterator[bytes]:
            return v1_documents.answer(call, master, fragments, FORMS[kind], view)

        return await self._bodies.answer(request, key, pieces, kind)

    def _set_logging_level(self, call: operator.Call, request: web.Request) -> web.Response:
        require_allowed(self._node.acls, request, "set_log_level")
        asked = call.set_logging_level
        assert asked is not None
        self.files.log_level.set(asked.level, asked.duration.nanoseconds / 1e9)
        return web.Response()

    async def change(self, call: operator.Call, asked: web.Request) -> web.Response:
        """Have the core do it; its `Reply` is the answer."""
        request = next(self._requests)
        future: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        self._node.feed(OperatorCalled(request, call, principal_of(asked)))
        try:
            return await future
        finally:
            self._waiting.pop(request, None)

    # -- reading --------------------------------------------------------------------------------

    def _answer(self, **fields: Any) -> operator.Response:
        (name,) = fields
        kind: Any = name.upper()
        return operator.Response(type=kind, **fields)

    def health(self, _request: web.Request) -> operator.Response:
        return self._answer(get_health=operator.Health(healthy=True))

    def flags(self, _request: web.Request) -> operator.Response:
        flags = tuple(Flag(name=name, value=text) for name, text in self._node.flags.items())
        return self._answer(get_flags=operator.Flags(flags=flags))

    def version(self, _request: web.Request) -> operator.Response:
        info = VersionInfo(version=MESOS_VERSION, git_tag=f"mesostk-{__version__}")
        return self._answer(get_version=operator.Version(version_info=info))

    def figures(self, _request: web.Request) -> operator.Response:
        metrics = tuple(
            Metric(name=name, value=value) for name, value in self._metrics.snapshot().items()
        )
        return self._answer(get_metrics=operator.Metrics(metrics=metrics))

    def operations(self, request: web.Request) -> operator.Response:
        return self._answer(get_operations=views.operations(seen_by(self._node.master, request)))

    def roles(self, request: web.Request) -> operator.Response:
        return self._answer(get_roles=views.roles(seen_by(self._node.master, request)))

    def weights(self, request: web.Request) -> operator.Response:
        return self._answer(get_weights=views.get_weights(seen_by(self._node.master, request)))

    def quota(self, request: web.Request) -> operator.Response:
        status = quota_calls.status(self._node.master, principal_of(request))
        return self._answer(get_quota=operator.GetQuota(status=status))

    def maintenance_schedule(self, _request: web.Request) -> operator.Response:
        schedule = operator.Schedule(schedule=self._node.master.registry.maintenance.schedule)
        return self._answer(get_maintenance_schedule=schedule)

    def maintenance_status(self, _request: web.Request) -> operator.Response:
        status = maintenance.status(self._node.master)
        return self._answer(get_maintenance_status=operator.GetMaintenanceStatus(status=status))

    def the_master(self, _request: web.Request) -> operator.Response:
        return self._answer(get_master=views.the_master(self._node.master))


#: About this process; these may wait for the disk.
_LOCAL: dict[
    str, Callable[[NodeFiles, operator.Call, web.Request], Awaitable[operator.Response]]
] = {
    "LIST_FILES": NodeFiles.list_files,
    "READ_FILE": NodeFiles.read_file,
    "GET_LOGGING_LEVEL": NodeFiles.level,
}

#: What a reading call needs, beyond what is left out of its answer.
_READ_ACTIONS: dict[str, tuple[str, str | None]] = {
    "GET_FLAGS": ("view_flags", None),
    "GET_METRICS": ("get_endpoints", "/metrics/snapshot"),
    "GET_MAINTENANCE_SCHEDULE": ("get_maintenance_schedules", None),
    "GET_MAINTENANCE_STATUS": ("get_maintenance_statuses", None),
}

_READS: dict[str, Callable[[OperatorApi, web.Request], operator.Response]] = {
    "GET_HEALTH": OperatorApi.health,
    "GET_FLAGS": OperatorApi.flags,
    "GET_VERSION": OperatorApi.version,
    "GET_METRICS": OperatorApi.figures,
    "GET_OPERATIONS": OperatorApi.operations,
    "GET_ROLES": OperatorApi.roles,
    "GET_WEIGHTS": OperatorApi.weights,
    "GET_QUOTA": OperatorApi.quota,
    "GET_MAINTENANCE_SCHEDULE": OperatorApi.maintenance_schedule,
    "GET_MAINTENANCE_STATUS": OperatorApi.maintenance_status,
    "GET_MASTER": OperatorApi.the_master,
}


def _answer(kind: str, response: operator.Response) -> web.Response:
    return web.Response(body=FORMS[kind].encode(response), content_type=kind)


#: Calls that carry a message of their own name.
_WITH_BODY = frozenset(operator.Call.__struct_fields__) - {"type"}


def call_error(call: operator.Call) -> str | None:
    """What is missing in an operator's call."""
    if call.type is None:
        return "Expecting 'type' to be present"
    name = call.type.lower()
    if name in _WITH_BODY and getattr(call, name) is None:
        return f"Expecting '{name}' to be present"
    return None
