"""Where `--acls` are asked: calls of operators, and what of the cluster a principal gets to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from mesostk.master.acls import Acls
from mesostk.master.state import Agent, Framework
from mesostk.resources.kinds import Kind, reservations_of
from mesostk.resources.resources import Resources
from mesostk.wire import operator
from mesostk.wire.mesos import AgentInfo, FrameworkInfo, OfferOperation, Resource, TaskInfo

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: (action, object) pairs; all must be allowed.
Needs = Iterable[tuple[str, str | None]]

_VIEWS = ("view_frameworks", "view_tasks", "view_executors", "view_roles")


# -- calls --------------------------------------------------------------------------------------


def may_call(master: Master, call: operator.Call, principal: str | None) -> bool:
    """Whether an operator may make a changing call. One that is not known here may nobody make
    whom the rules restrict at all."""
    acls = master.config.acls
    needs = _NEEDS.get(str(call.type))
    if needs is None:
        return acls.permissive and not acls.rules
    body: Any = getattr(call, str(call.type).lower())
    return all(acls.allows(action, principal, value) for action, value in needs(master, body))


def why_not_run(acls: Acls, framework: Framework, tasks: Iterable[TaskInfo]) -> str | None:
    """Why a framework may not launch as the users that its tasks name."""
    for task in tasks:
        owner = framework.info.user
        executor = task.executor
        command = task.command if executor is None else executor.command
        users = {
            owner if each is None or each.user is None else each.user
            for each in (command, task.command)
        }
        for user in sorted(users):
            if not acls.allows("run_tasks", framework.info.principal, user):
                return f"Not authorized to launch as user '{user}'"
    return None


def may_convert(acls: Acls, operation: OfferOperation, principal: str | None) -> bool:
    """Whether a framework or an operator may RESERVE, CREATE and so on."""
    return all(acls.allows(action, principal, value) for action, value in _conversion(operation))


def _conversion(operation: OfferOperation) -> Iterator[tuple[str, str | None]]:
    """What a conversion of resources needs; roles and principals are those of the resources."""
    if operation.reserve is not None:
        for name in _roles(operation.reserve.resources):
            yield "reserve_resources", name
        yield from _unreserve(operation.reserve.source)
    if operation.unreserve is not None:
        yield from _unreserve(operation.unreserve.resources)
    if operation.create is not None:
        for name in _roles(operation.create.volumes):
            yield "create_volumes", name
    if operation.destroy is not None:
        for volume in operation.destroy.volumes:
            persistence = None if volume.disk is None else volume.disk.persistence
            yield "destroy_volumes", None if persistence is None else persistence.principal
    for resized in (operation.grow_volume, operation.shrink_volume):
        if resized is not None:
            for name in _roles((resized.volume,)):
                yield "resize_volumes", name


def _roles(resources: Iterable[Resource]) -> set[str]:
    return {kind.role for kind, _ in Resources.of(resources).items()}


def _unreserve(resources: Iterable[Resource]) -> Iterator[tuple[str, str | None]]:
    for resource in resources:
        reservations = reservations_of(resource)
        if reservations and reservations[-1].type == "DYNAMIC":
            yield "unreserve_resources", reservations[-1].principal


def _teardown(master: Master, body: operator.Teardown) -> Needs:
    framework = master.frameworks.get(body.framework_id.value)
    return [("teardown_frameworks", None if framework is None else framework.info.principal)]


def _any(action: str) -> Callable[[Master, Any], Needs]:
    return lambda _master, _body: [(action, None)]


_NEEDS: dict[str, Callable[[Master, Any], Needs]] = {
    "TEARDOWN": _teardown,
    "MARK_AGENT_GONE": _any("mark_agents_gone"),
    "DEACTIVATE_AGENT": _any("deactivate_agents"),
    "REACTIVATE_AGENT": _any("reactivate_agents"),
    "DRAIN_AGENT": _any("drain_agents"),
    "UPDATE_WEIGHTS": lambda _m, body: [
        ("update_weights", info.role) for info in body.weight_infos
    ],
    "UPDATE_QUOTA": lambda _m, body: [
        ("update_quotas", config.role) for config in body.quota_configs
    ],
    "SET_QUOTA": lambda _m, body: [("update_quotas", body.quota_request.role)],
    "REMOVE_QUOTA": lambda _m, body: [("update_quotas", body.role)],
    "UPDATE_MAINTENANCE_SCHEDULE": _any("update_maintenance_schedules"),
    "START_MAINTENANCE": _any("start_maintenances"),
    "STOP_MAINTENANCE": _any("stop_maintenances"),
    "SET_LOGGING_LEVEL": _any("set_log_level"),
}


# -- views --------------------------------------------------------------------------------------


def sees_all(acls: Acls, principal: str | None) -> bool:
    """Whether nothing of the cluster is hidden from the principal."""
    return not any(acls.restricts(action, principal) for action in _VIEWS)


def view_of(acls: Acls, principal: str | None) -> View | None:
    """What the principal may see; None if that is everything."""
    return None if sees_all(acls, principal) else View(acls, principal)


class View:
    """What of the cluster a principal may see. Asked of each task of a large document, so an answer
    is kept: there are few users and roles."""

    def __init__(self, acls: Acls, principal: str | None) -> None:
        self._acls = acls
        self._principal = principal
        self._known: dict[tuple[str, str | None], bool] = {}

    def _may(self, action: str, value: str | None) -> bool:
        found = self._known.get((action, value))
        if found is None:
            found = self._acls.allows(action, self._principal, value)
            self._known[action, value] = found
        return found

    def shows_framework(self, info: FrameworkInfo) -> bool:
        return self._may("view_frameworks", info.user)

    def shows_executors(self, info: FrameworkInfo) -> bool:
        return self._may("view_executors", info.user)

    def shows_task(self, info: FrameworkInfo, task_user: str | None) -> bool:
        """Whether a task of the framework is shown, which runs as `task_user` or as its own user;
        that the framework itself is shown must have been asked."""
        return self._may("view_tasks", info.user if task_user is None else task_user)

    def shows_role(self, role: str) -> bool:
        return self._may("view_roles", role)

    def of_resources(self, resources: Resources) -> Resources:
        """Without what is reserved to, or allocated to, a role that is not shown."""
        return resources.filter(self._shows)

    def agent(self, item: Agent) -> Agent:
        """The agent without such resources; itself if it has none."""
        total, free = self.of_resources(item.total), self.of_resources(item.free)
        if total is item.total and free is item.free:
            return item
        return msgspec.structs.replace(item, total=total, free=free)

    def of_agent(self, info: AgentInfo) -> AgentInfo:
        """The agent's description without such resources."""
        shown = tuple(item for item in info.resources if self.of_resources(Resources.of((item,))))
        return msgspec.structs.replace(info, resources=shown)

    def _shows(self, kind: Kind) -> bool:
        if kind.is_reserved and not self.shows_role(kind.role):
            return False
        return kind.allocation_role is None or self.shows_role(kind.allocation_role)


class Seen:
    """A master as a principal sees it, but for tasks: everything else is that of the master itself.

    For small answers. Those that grow with the number of tasks ask a `View` of each as they come to
    it (`documents`, `v1_documents`).
    """

    def __init__(self, master: Master, principal: str | None) -> None:
        self._master = master
        self._view = View(master.config.acls, principal)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._master, name)

    @cached_property
    def frameworks(self) -> dict[str, Framework]:
        return self._visible(self._master.frameworks)

    @cached_property
    def completed_frameworks(self) -> dict[str, Framework]:
        return self._visible(self._master.completed_frameworks)

    @cached_property
    def agents(self) -> dict[str, Agent]:
        return {agent.id: self._view.agent(agent) for agent in self._master.agents.values()}

    def sees_role(self, role: str) -> bool:
        """Whether anything of the role is shown."""
        return self._view.shows_role(role)

    def _visible(self, frameworks: dict[str, Framework]) -> dict[str, Framework]:
        return {
            framework.id: framework
            for framework in frameworks.values()
            if self._view.shows_framework(framework.info)
        }
