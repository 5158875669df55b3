"""Shapes of /state, /slaves, /frameworks and /tasks, built from wire records.

Pure functions that give plain dicts with the original's keys in its order; records that the
original shows as they are stay records. A key marked "?" there is left out when unset. Whoever
serves these endpoints adds what only it knows (times, totals, lists). Source: Mesos
`src/common/http.cpp`, `src/master/readonly_handler.cpp`, `src/slave/http.cpp`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesostk.wire.mesos import (
    Attribute,
    CommandInfo,
    ContainerStatus,
    DomainInfo,
    ExecutorInfo,
    FrameworkInfo,
    Labels,
    MasterInfo,
    NetworkInfo,
    Offer,
    Range,
    Resource,
    Task,
    TaskInfo,
    TaskStatus,
)

View = dict[str, Any]

UNRESERVED = "*"


# -- quantities ---------------------------------------------------------------------------------


def resources_view(resources: Iterable[Resource]) -> dict[str, float | str]:
    """cpus, gpus, mem, disk always (0.0 if there is none), others by name, all roles summed.

    Scalars are numbers with three decimals, ranges and sets text; revocable ones are under
    `<name>_revocable`; copies of a shared volume count once.
    """
    scalars: dict[str, int] = {"cpus": 0, "gpus": 0, "mem": 0, "disk": 0}
    intervals: dict[str, list[Range]] = {}
    items: dict[str, set[str]] = {}
    shared: list[Resource] = []
    for resource in resources:
        name = resource.name if resource.revocable is None else resource.name + "_revocable"
        if resource.shared is not None:
            if resource in shared:
                continue
            shared.append(resource)
        if resource.scalar is not None:
            scalars[name] = scalars.get(name, 0) + round(resource.scalar.value * 1000)
        elif resource.ranges is not None:
            intervals.setdefault(name, []).extend(resource.ranges.range)
        elif resource.set is not None:
            items.setdefault(name, set()).update(resource.set.item)
    view: dict[str, float | str] = {name: total / 1000 for name, total in scalars.items()}
    for name, pairs in intervals.items():
        view[name] = ranges_text(pairs)
    for name, members in items.items():
        view[name] = "{" + ", ".join(sorted(members)) + "}"
    return view


def ranges_text(pairs: Iterable[Range]) -> str:
    """`[31000-32000, 33000-33005]`, sorted, touching ones joined."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted((pair.begin, pair.end) for pair in pairs):
        if joined and begin <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return "[" + ", ".join(f"{begin}-{end}" for begin, end in joined) + "]"


def attributes_view(attributes: Iterable[Attribute]) -> dict[str, float | str]:
    """Numbers as numbers, ranges and text as text; of attributes with one name the last."""
    view: dict[str, float | str] = {}
    for attribute in attributes:
        if attribute.scalar is not None:
            view[attribute.name] = attribute.scalar.value
        elif attribute.ranges is not None:
            view[attribute.name] = ranges_text(attribute.ranges.range)
        elif attribute.text is not None:
            view[attribute.name] = attribute.text.value
        elif attribute.set is not None:
            view[attribute.name] = "{" + ", ".join(attribute.set.item) + "}"
    return view


def labels_view(labels: Labels) -> list[View]:
    """`[{key, value}]`"""
    return [
        {"key": label.key} if label.value is None else {"key": label.key, "value": label.value}
        for label in labels.labels
    ]


def role_of(resources: Iterable[Resource]) -> str:
    """The role that a task's or executor's resources are allocated to; `*` if to none."""
    for resource in resources:
        if resource.allocation_info is not None and resource.allocation_info.role is not None:
            return resource.allocation_info.role
    return UNRESERVED


# -- tasks --------------------------------------------------------------------------------------


def task_view(task: Task) -> View:
    """A task in /state and /tasks, on master and agent."""
    view: View = {
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": "" if task.executor_id is None else task.executor_id.value,
        "slave_id": task.agent_id.value,
        "state": task.state,
        "resources": resources_view(task.resources),
    }
    if task.limits:
        view["limits"] = {name: amount.value for name, amount in task.limits.items()}
    view["role"] = role_of(task.resources)
    view["statuses"] = [status_view(status) for status in task.statuses]
    if task.user is not None:
        view["user"] = task.user
    if task.labels is not None:
        view["labels"] = labels_view(task.labels)
    if task.discovery is not None:
        view["discovery"] = task.discovery
    if task.container is not None:
        view["container"] = task.container
    if task.health_check is not None:
        view["health_check"] = task.health_check
    return view


def queued_task_view(task: TaskInfo, framework_id: str) -> View:
    """A task that an agent holds until its executor is up."""
    view: View = {
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": framework_id,
        "executor_id": "" if task.executor is None else task.executor.executor_id.value,
        "slave_id": task.agent_id.value,
        "state": "TASK_STAGING",
        "resources": resources_view(task.resources),
        "role": role_of(task.resources),
        "statuses": [],
    }
    if task.limits:
        view["limits"] = {name: amount.value for name, amount in task.limits.items()}
    if task.labels is not None:
        view["labels"] = labels_view(task.labels)
    if task.discovery is not None:
        view["discovery"] = task.discovery
    if task.container is not None:
        view["container"] = task.container
    return view


def status_view(status: TaskStatus) -> View:
    """One of a task's `statuses`; message and reason are not shown there."""
    view: View = {"state": status.state, "timestamp": status.timestamp or 0.0}
    if status.labels is not None:
        view["labels"] = labels_view(status.labels)
    if status.container_status is not None:
        view["container_status"] = container_status_view(status.container_status)
    if status.healthy is not None:
        view["healthy"] = status.healthy
    return view


def container_status_view(status: ContainerStatus) -> View:
    """`{container_id?, network_infos?, cgroup_info?}`"""
    view: View = {}
    if status.container_id is not None:
        view["container_id"] = status.container_id
    if status.network_infos:
        view["network_infos"] = [network_view(info) for info in status.network_infos]
    if status.cgroup_info is not None:
        view["cgroup_info"] = status.cgroup_info
    return view


def network_view(info: NetworkInfo) -> View:
    """`{groups?, labels?, ip_addresses?, name?, port_mappings?}`; service discovery reads it."""
    view: View = {}
    if info.groups:
        view["groups"] = info.groups
    if info.labels is not None:
        view["labels"] = labels_view(info.labels)
    if info.ip_addresses:
        view["ip_addresses"] = info.ip_addresses
    if info.name is not None:
        view["name"] = info.name
    if info.port_mappings:
        view["port_mappings"] = info.port_mappings
    return view


# -- executors, offers --------------------------------------------------------------------------


def executor_view(executor: ExecutorInfo, agent_id: str | None = None) -> View:
    """An executor in the master's /state; the agent's own shape is `agent_executor_view`."""
    view: View = {
        "executor_id": executor.executor_id.value,
        "name": executor.name or "",
        "framework_id": "" if executor.framework_id is None else executor.framework_id.value,
        "command": command_view(executor.command or CommandInfo()),
        "resources": resources_view(executor.resources),
    }
    _add_executor_options(view, executor)
    if agent_id is not None:
        view["slave_id"] = agent_id
    return view


def agent_executor_view(executor: ExecutorInfo, container_id: str, directory: str) -> View:
    """An executor in an agent's /state; the caller adds tasks, queued_tasks, completed_tasks."""
    view: View = {
        "id": executor.executor_id.value,
        "name": executor.name or "",
        "source": executor.source or "",
        "container": container_id,
        "directory": directory,
        "resources": resources_view(executor.resources),
    }
    _add_executor_options(view, executor)
    return view


def _add_executor_options(view: View, executor: ExecutorInfo) -> None:
    if executor.resources:
        view["role"] = role_of(executor.resources)
    if executor.labels is not None:
        view["labels"] = labels_view(executor.labels)
    if executor.type is not None:
        view["type"] = executor.type


def command_view(command: CommandInfo) -> View:
    """`{shell, value?, argv, environment?, uris}`"""
    view: View = {"shell": command.shell}
    if command.value is not None:
        view["value"] = command.value
    view["argv"] = command.arguments
    if command.environment is not None:
        view["environment"] = {
            "variables": [
                {"name": variable.name, "value": variable.value}
                for variable in command.environment.variables
                if variable.value is not None
            ]
        }
    view["uris"] = [
        {"value": uri.value, "executable": bool(uri.executable)} for uri in command.uris
    ]
    return view


def offer_view(offer: Offer) -> View:
    """An offer of a framework in the master's /state."""
    view: View = {"id": offer.id.value, "framework_id": offer.framework_id.value}
    if offer.allocation_info is not None:
        view["allocation_info"] = offer.allocation_info
    view["slave_id"] = offer.agent_id.value
    view["resources"] = resources_view(offer.resources)
    return view


# -- frameworks, agents, masters ----------------------------------------------------------------


def framework_view(info: FrameworkInfo) -> View:
    """What a FrameworkInfo says, for master and agent; without any key that changes by itself."""
    view: View = {
        "id": "" if info.id is None else info.id.value,
        "name": info.name,
        "user": info.user,
        "failover_timeout": info.failover_timeout,
        "checkpoint": info.checkpoint,
        "hostname": info.hostname or "",
        "webui_url": info.webui_url or "",
        "capabilities": capability_names(info.capabilities),
    }
    if info.principal is not None:
        view["principal"] = info.principal
    if "MULTI_ROLE" in view["capabilities"]:
        view["roles"] = info.roles
    else:
        view["role"] = UNRESERVED if info.role is None else info.role
    if info.labels is not None:
        view["labels"] = labels_view(info.labels)
    return view


def capability_names(capabilities: Iterable[Any]) -> list[str]:
    """Names of framework, agent or master capabilities; unknown ones are left out."""
    return [item.type for item in capabilities if item.type is not None]


def leader_view(info: MasterInfo) -> View:
    """`leader_info` of the master's /state."""
    view: View = {
        "id": info.id,
        "pid": info.pid or "",
        "port": info.port,
        "hostname": info.hostname or "",
    }
    _add_domain(view, info.domain)
    return view


def agent_view(
    id: str, hostname: str, port: int, attributes: Iterable[Attribute], domain: DomainInfo | None
) -> View:
    """What an AgentInfo says; also the whole of a `recovered_slaves` entry."""
    view: View = {
        "id": id,
        "hostname": hostname,
        "port": port,
        "attributes": attributes_view(attributes),
    }
    _add_domain(view, domain)
    return view


def _add_domain(view: View, domain: DomainInfo | None) -> None:
    if domain is not None:
        view["domain"] = domain
