"""`POST /api/v1`: the operator API, calls and event stream (spec/mesos.md §4)."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

from mesostk import MESOS_VERSION, __version__
from mesostk.base.fanout import Broadcast
from mesostk.base.http import JSON_TYPE, PROTOBUF_TYPE, accepted_type_of, json_answer
from mesostk.base.metrics import Metrics
from mesostk.base.stream import OPERATOR_LIMIT_BYTES, Stream
from mesostk.errors import Rejected
from mesostk.master import (
    documents,
    maintenance,
    operator_resources,
    operators,
    quota_calls,
    views,
)
from mesostk.master.bodies import Bodies
from mesostk.master.core import Master
from mesostk.master.entry import (
    Node,
    read_call,
    require_leader,
    require_recovered,
    require_type,
    wrong_method,
)
from mesostk.master.events import (
    CloseOperatorStream,
    OperatorCalled,
    OperatorStreamClosed,
    OperatorSubscribed,
    Publish,
    Reply,
    SendToOperator,
)
from mesostk.master.fragments import Fragments
from mesostk.master.guard import principal_of, require_allowed, seen_by
from mesostk.master.node_files import NodeFiles
from mesostk.master.permits import sees_all
from mesostk.wire import json, operator
from mesostk.wire.mesos import Flag, Metric, VersionInfo
from mesostk.wire.recordio import encode_record

_ONLY_WHO_SEES_ALL = (
    "The event stream is for principals that --acls hide nothing from; poll GET_STATE instead"
)

_NOT_IMPLEMENTED = "501 Not Implemented."


class OperatorApi:
    """The endpoint, and the performer of what the core tells operators."""

    def __init__(self, node: Node, metrics: Metrics, bodies: Bodies, files: NodeFiles) -> None:
        self.files = files
        self._node = node
        self._metrics = metrics
        self._bodies = bodies
        self._broadcast = Broadcast("operator_events", metrics)
        self._requests = itertools.count()
        self._waiting: dict[int, asyncio.Future[web.Response]] = {}

    # -- performing -----------------------------------------------------------------------------

    def publish(self, effect: Publish) -> None:
        self._broadcast.publish(encode_record(json.encode(effect.event)), effect.event.type)

    def send(self, effect: SendToOperator) -> None:
        stream = self._node.streams.get(effect.stream)
        if stream is None:
            return
        data = encode_record(json.encode(effect.event))
        if effect.event.type == "SUBSCRIBED":
            stream.send(data, exempt=True)
            self._broadcast.add(stream)
        else:
            self._broadcast.send_to(stream, data)

    def close(self, effect: CloseOperatorStream) -> None:
        stream = self._node.streams.get(effect.stream)
        if stream is not None:
            self._broadcast.flush()
            self._broadcast.discard(stream)
            self._node.close(effect.stream)

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
        require_type(request)
        call = await read_call(request, operator.Call)
        why = call_error(call)
        if why is not None:
            raise Rejected(400, f"Failed to validate master::Call: {why}")
        try:
            accepted_type_of(request, (JSON_TYPE,))
        except Rejected as error:
            text = f"Expecting 'Accept' to allow '{JSON_TYPE}' or '{PROTOBUF_TYPE}'"
            raise Rejected(406, text) from error
        if call.type == "SUBSCRIBE":
            if not sees_all(self._node.acls, principal_of(request)):
                raise Rejected(403, _ONLY_WHO_SEES_ALL)
            return await self._subscribe(request)
        if call.type in operators.CALLS or call.type in operator_resources.OPERATIONS:
            return await self.change(call, request)
        pieces = _DOCUMENTS.get(call.type or "")
        if pieces is not None:
            seen, key = seen_by(self._node.master, request, call.type)
            fragments = self._node.fragments
            return await self._bodies.answer(request, key, lambda: pieces(seen, fragments))
        local = _LOCAL.get(call.type or "")
        if local is not None:
            return json_answer(await local(self.files, call, request))
        if call.type == "SET_LOGGING_LEVEL":
            return self._set_logging_level(call, request)
        read = _READS.get(call.type or "")
        if read is None:
            return web.Response(status=501, text=_NOT_IMPLEMENTED)
        action = _READ_ACTIONS.get(call.type or "")
        if action is not None:
            require_allowed(self._node.acls, request, action[0], action[1])
        return json_answer(read(self, request))

    def _set_logging_level(self, call: operator.Call, request: web.Request) -> web.Response:
        require_allowed(self._node.acls, request, "set_log_level")
        asked = call.set_logging_level
        assert asked is not None
        self.files.set_level(asked.level, asked.duration.nanoseconds / 1e9)
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

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        node = self._node
        stream_id = str(uuid.uuid4())

        def closed(_reason: str) -> None:
            node.streams.pop(stream_id, None)
            self._broadcast.discard(stream)
            node.feed(OperatorStreamClosed(stream_id))

        stream = Stream(JSON_TYPE, closed, OPERATOR_LIMIT_BYTES, {"Cache-Control": "no-store"})
        await stream.open(request)
        node.streams[stream_id] = stream
        if stream.is_open:
            node.feed(OperatorSubscribed(stream_id))
        return await stream.wait()

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
        return self._answer(get_operations=views.operations(seen_by(self._node.master, request)[0]))

    def roles(self, request: web.Request) -> operator.Response:
        return self._answer(get_roles=views.roles(seen_by(self._node.master, request)[0]))

    def weights(self, request: web.Request) -> operator.Response:
        return self._answer(get_weights=views.get_weights(seen_by(self._node.master, request)[0]))

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


#: Answers that grow with the cluster.
_DOCUMENTS: dict[str, Callable[[Master, Fragments], Iterator[bytes]]] = {
    "GET_STATE": documents.get_state,
    "GET_AGENTS": documents.get_agents,
    "GET_FRAMEWORKS": documents.get_frameworks,
    "GET_EXECUTORS": documents.get_executors,
    "GET_TASKS": documents.get_tasks,
}

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
