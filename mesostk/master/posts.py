"""The legacy endpoints that change something: forms and JSON made into operator calls (spec §5.1).

Each is answered as the operator API answers the call that it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qs

from aiohttp import web

from mesostk.base.http import json_answer
from mesostk.errors import Rejected, WireError
from mesostk.master import maintenance, quota_calls, views
from mesostk.master.entry import Node, require_leader, require_recovered
from mesostk.master.guard import principal_of, require_allowed, seen_by
from mesostk.master.operator import OperatorApi
from mesostk.wire import json, operator
from mesostk.wire.maintenance import Schedule
from mesostk.wire.mesos import AgentID, FrameworkID, MachineID, Resource
from mesostk.wire.quota import QuotaRequest

T = TypeVar("T")


class Posts:
    """Endpoints that take forms or JSON."""

    def __init__(self, node: Node, operator: OperatorApi) -> None:
        self._node = node
        self._operator = operator

    def table(self) -> dict[str, Any]:
        """Path → answer."""
        return {
            "/teardown": self.teardown,
            "/weights": self.weights,
            "/quota": self.quota,
            "/quota/{role:.+}": self.quota,
            "/maintenance/schedule": self.schedule,
            "/maintenance/status": self.maintenance_status,
            "/machine/down": self.machine_down,
            "/machine/up": self.machine_up,
            "/reserve": self.reserve,
            "/unreserve": self.unreserve,
            "/create-volumes": self.create_volumes,
            "/destroy-volumes": self.destroy_volumes,
        }

    async def _form(self, request: web.Request) -> Mapping[str, str]:
        """The fields of a POST. Rejected: not leading, another method."""
        require_leader(self._node, request)
        require_recovered(self._node)
        if request.method != "POST":
            raise _wrong_method(request, "POST")
        # Not request.post(): the original reads the body as a form whatever its type.
        fields = parse_qs((await request.read()).decode(errors="replace"))
        return {name: values[0] for name, values in fields.items()}

    async def teardown(self, request: web.Request) -> web.StreamResponse:
        """POST with `frameworkId=…` as a form."""
        framework_id = _field(await self._form(request), "frameworkId")
        body = operator.Teardown(framework_id=FrameworkID(framework_id))
        return await self._operator.change(operator.Call(type="TEARDOWN", teardown=body), request)

    async def weights(self, request: web.Request) -> web.StreamResponse:
        """GET the weights, or PUT `[{"role", "weight"}]` to change some."""
        require_leader(self._node, request)
        require_recovered(self._node)
        if request.method == "GET":
            shown = views.get_weights(seen_by(self._node.master, request)).weight_infos
            return json_answer(shown, request=request)
        if request.method != "PUT":
            raise _wrong_method(request, "GET", "PUT")
        try:
            infos = json.decode(await request.read(), tuple[operator.WeightInfo, ...])
        except WireError as error:
            text = f"Failed to parse update weights request JSON: {error}"
            raise Rejected(400, text) from error
        body = operator.Weights(weight_infos=infos)
        call = operator.Call(type="UPDATE_WEIGHTS", update_weights=body)
        return await self._operator.change(call, request)

    async def quota(self, request: web.Request) -> web.StreamResponse:
        """GET all quotas, POST `{role, guarantee, force}`, DELETE /quota/ROLE."""
        require_leader(self._node, request)
        require_recovered(self._node)
        if request.method == "GET":
            return json_answer(
                quota_calls.status(self._node.master, principal_of(request)), request=request
            )
        if request.method == "DELETE":
            removal = operator.RemoveQuota(role=request.match_info.get("role", ""))
            call = operator.Call(type="REMOVE_QUOTA", remove_quota=removal)
            return await self._operator.change(call, request)
        if request.method != "POST":
            raise _wrong_method(request, "GET", "POST", "DELETE")
        body = await request.read()
        try:
            asked = json.decode(body, QuotaRequest)
        except WireError as error:
            shown = body.decode(errors="replace")[:200]
            text = f"Failed to parse set quota request JSON '{shown}': {error}"
            raise Rejected(400, text) from error
        call = operator.Call(type="SET_QUOTA", set_quota=operator.SetQuota(quota_request=asked))
        return await self._operator.change(call, request)

    # -- maintenance ----------------------------------------------------------------------------

    async def schedule(self, request: web.Request) -> web.StreamResponse:
        """GET the maintenance schedule, or POST another."""
        require_leader(self._node, request)
        require_recovered(self._node)
        if request.method == "GET":
            require_allowed(self._node.acls, request, "get_maintenance_schedules")
            schedule = self._node.master.registry.maintenance.schedule
            return json_answer(schedule, request=request)
        if request.method != "POST":
            raise _wrong_method(request, "GET", "POST")
        asked = await _body(request, Schedule)
        return await self._operator.change(
            operator.Call(
                type="UPDATE_MAINTENANCE_SCHEDULE",
                update_maintenance_schedule=operator.Schedule(schedule=asked),
            ),
            request,
        )

    async def maintenance_status(self, request: web.Request) -> web.Response:
        """GET who agreed to what is scheduled, and what is down."""
        require_leader(self._node, request)
        require_recovered(self._node)
        if request.method != "GET":
            raise _wrong_method(request, "GET")
        require_allowed(self._node.acls, request, "get_maintenance_statuses")
        return json_answer(maintenance.status(self._node.master), request=request)

    async def machine_down(self, request: web.Request) -> web.StreamResponse:
        """POST machines whose maintenance begins."""
        machines = operator.Machines(machines=await self._machines(request))
        call = operator.Call(type="START_MAINTENANCE", start_maintenance=machines)
        return await self._operator.change(call, request)

    async def machine_up(self, request: web.Request) -> web.StreamResponse:
        """POST machines that are back."""
        machines = operator.Machines(machines=await self._machines(request))
        call = operator.Call(type="STOP_MAINTENANCE", stop_maintenance=machines)
        return await self._operator.change(call, request)

    async def _machines(self, request: web.Request) -> tuple[MachineID, ...]:
        require_leader(self._node, request)
        require_recovered(self._node)
        if request.method != "POST":
            raise _wrong_method(request, "POST")
        return await _body(request, tuple[MachineID, ...])

    # -- resources ------------------------------------------------------------------------------

    async def reserve(self, request: web.Request) -> web.StreamResponse:
        """POST `slaveId`, `resources` and perhaps `source`."""
        form = await self._form(request)
        body = operator.ReserveResources(
            agent_id=AgentID(_field(form, "slaveId")),
            source=_resources(form, "source") if "source" in form else (),
            resources=_resources(form, "resources"),
        )
        return await self._operator.change(
            operator.Call(type="RESERVE_RESOURCES", reserve_resources=body), request
        )

    async def unreserve(self, request: web.Request) -> web.StreamResponse:
        """POST `slaveId` and `resources`."""
        form = await self._form(request)
        body = operator.UnreserveResources(
            agent_id=AgentID(_field(form, "slaveId")), resources=_resources(form, "resources")
        )
        return await self._operator.change(
            operator.Call(type="UNRESERVE_RESOURCES", unreserve_resources=body), request
        )

    async def create_volumes(self, request: web.Request) -> web.StreamResponse:
        """POST `slaveId` and `volumes`."""
        body = _volumes(await self._form(request))
        return await self._operator.change(
            operator.Call(type="CREATE_VOLUMES", create_volumes=body), request
        )

    async def destroy_volumes(self, request: web.Request) -> web.StreamResponse:
        """POST `slaveId` and `volumes`."""
        body = _volumes(await self._form(request))
        return await self._operator.change(
            operator.Call(type="DESTROY_VOLUMES", destroy_volumes=body), request
        )


def _wrong_method(request: web.Request, *allowed: str) -> web.HTTPMethodNotAllowed:
    names = ", ".join(f"'{name}'" for name in allowed)
    text = (
        f"405 Method Not Allowed. Expecting one of {{ {names} }}, but received '{request.method}'."
    )
    error = web.HTTPMethodNotAllowed(request.method, allowed, text=text)
    error.headers["Allow"] = ", ".join(allowed)
    return error


async def _body(request: web.Request, type: type[T]) -> T:
    """The JSON of a body. Rejected (400) says what is wrong with it."""
    try:
        return json.decode(await request.read(), type)
    except WireError as error:
        raise Rejected(400, f"Failed to parse body: {error}") from error


def _field(form: Mapping[str, str], name: str) -> str:
    if name not in form:
        raise Rejected(400, f"Missing '{name}' query parameter in the request body")
    return form[name]


def _volumes(form: Mapping[str, str]) -> operator.Volumes:
    return operator.Volumes(
        agent_id=AgentID(_field(form, "slaveId")), volumes=_resources(form, "volumes")
    )


def _resources(form: Mapping[str, str], name: str) -> tuple[Resource, ...]:
    try:
        return json.decode(_field(form, name).encode(), tuple[Resource, ...])
    except WireError as error:
        text = f"Error in parsing '{name}' query parameter in the request body: {error}"
        raise Rejected(400, text) from error
