"""Every refusal of the master with its text: calls, frameworks, tasks.

Each function returns the reason, or None if there is nothing to object. Rules: spec/mesos.md §2.2,
§2.4, §2.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mesostk.base.commands import command_error, container_error, id_error
from mesostk.errors import WireError
from mesostk.master.state import (
    Agent,
    Config,
    Framework,
    capabilities_of,
    min_allocatable_of,
)
from mesostk.resources import validity
from mesostk.resources.resources import Resources
from mesostk.resources.roles import why_not_role
from mesostk.wire import link, scheduler
from mesostk.wire.mesos import (
    CheckInfo,
    DurationInfo,
    ExecutorInfo,
    FrameworkInfo,
    HealthCheck,
    TaskInfo,
)

#: Calls whose message may be left out, or that have none.
_WITHOUT_MESSAGE = frozenset({"UNKNOWN", "TEARDOWN", "REVIVE", "SUPPRESS"})

#: Largest number of seconds that fits 64-bit nanoseconds.
_LONGEST_S = (2**63 - 1) / 1e9

#: Roles of one framework, the levels of nested ones counted each. The original has no limit; each
#: costs some 10 µs of the loop when it comes, and a body may name 100,000.
MOST_ROLES = 1000


# -- scheduler calls ----------------------------------------------------------------------------


def call_error(call: scheduler.Call) -> str | None:
    """What is missing in a scheduler's call (`Failed to validate scheduler::Call: …`)."""
    if call.type is None:
        return "Expecting 'type' to be present"
    name = call.type.lower()
    if call.type not in _WITHOUT_MESSAGE and getattr(call, name) is None:
        return f"Expecting '{name}' to be present"
    if call.type == "SUBSCRIBE":
        return _subscribe_error(call)
    if call.framework_id is None:
        return "Expecting 'framework_id' to be present"
    if call.acknowledge is not None and call.type == "ACKNOWLEDGE":
        return _uuid_error(call.acknowledge.uuid)
    if call.type == "UPDATE_FRAMEWORK" and call.update_framework is not None:
        named = call.update_framework.framework_info.id
        if named != call.framework_id:
            return "'framework_id' differs from 'update_framework.framework_info.id'"
    if call.type == "ACKNOWLEDGE_OPERATION_STATUS":
        acknowledged = call.acknowledge_operation_status
        if acknowledged is not None and acknowledged.agent_id is None:
            return "Expecting 'agent_id' to be present"
        if acknowledged is not None:
            return _uuid_error(acknowledged.uuid)
    return None


def _subscribe_error(call: scheduler.Call) -> str | None:
    assert call.subscribe is not None
    if call.subscribe.framework_info.id != call.framework_id:
        return "'framework_id' differs from 'subscribe.framework_info.id'"
    return None


def _uuid_error(uuid: bytes) -> str | None:
    if len(uuid) != 16:
        return f"Not a valid UUID: expected 16 bytes, got {len(uuid)}"
    return None


# -- frameworks ---------------------------------------------------------------------------------


def framework_error(info: FrameworkInfo, suppressed: Iterable[str], config: Config) -> str | None:
    """Why a framework may not subscribe as `info` says."""
    why = _roles_error(info, config)
    if why is not None:
        return why
    if info.id is not None and info.id.value:
        why = id_error(info.id.value)
        if why is not None:
            return f"FrameworkInfo.id is invalid: {why}"
    timeout = info.failover_timeout
    if math.isnan(timeout) or timeout > _LONGEST_S:
        return (
            f"The framework failover_timeout ({timeout} seconds) is invalid:"
            f" expected at most {_LONGEST_S:.0f}"
        )
    if info.user == "root" and not config.root_submissions:
        return "User 'root' is not allowed to run frameworks without root submissions"
    try:
        min_allocatable_of(info)
    except WireError as error:
        return f"FrameworkInfo.offer_filters is invalid: {error}"
    strange = sorted(set(suppressed) - _roles(info))
    if strange:
        return f"Suppressed role '{strange[0]}' is not contained in the list of roles"
    return None


def _roles(info: FrameworkInfo) -> set[str]:
    if "MULTI_ROLE" in capabilities_of(info):
        return set(info.roles)
    return {info.role if info.role is not None else "*"}


def _roles_error(info: FrameworkInfo, config: Config) -> str | None:
    if "MULTI_ROLE" in capabilities_of(info):
        if info.role is not None:
            return "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
        levels = len(info.roles) + sum(role.count("/") for role in info.roles)
        if levels > MOST_ROLES:
            return (
                f"'FrameworkInfo.roles' names {levels} roles, levels of nested ones counted each,"
                f" at most {MOST_ROLES} are allowed: divide them among several frameworks"
            )
        if len(set(info.roles)) != len(info.roles):
            return f"'FrameworkInfo.roles' contains duplicate items: {list(info.roles)}"
    elif info.roles:
        return "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
    for role in sorted(_roles(info)):
        why = why_not_role(role)
        if why is not None:
            return f"'FrameworkInfo' contains an invalid role: {why}"
        # The default role is always allowed. Source: Mesos `src/master/master.cpp`, initialize().
        if config.roles is not None and role not in {*config.roles, "*"}:
            return f"Role '{role}' is not present in the master's --roles"
    return None


def change_error(old: FrameworkInfo, new: FrameworkInfo, *, strict: bool) -> str | None:
    """Why `old` may not become `new`; UPDATE_FRAMEWORK is `strict` on what SUBSCRIBE ignores."""
    if new.principal != old.principal:
        return "Changing framework's principal is not allowed."
    if strict and new.user != old.user:
        return "Updating 'FrameworkInfo.user' is unsupported"
    if strict and new.checkpoint != old.checkpoint:
        return "Updating 'FrameworkInfo.checkpoint' is unsupported"
    return None


# -- agents -------------------------------------------------------------------------------------


def agent_error(message: link.Subscribe, config: Config) -> str | None:
    """Why an agent may not register with this description of itself."""
    info = message.agent_info
    if not info.hostname:
        return "'agent_info.hostname' is empty"
    if not 0 < info.port < 65536:
        return f"'agent_info.port' is {info.port}, expected 1 to 65535"
    why = None if info.id is None else id_error(info.id.value)
    if why is not None:
        return f"'agent_info.id' is invalid: {why}"
    if config.require_agent_domain and info.domain is None:
        return "the master requires agents to have a domain (--domain)"
    if (
        config.domain is not None
        and info.domain is not None
        and (config.domain.fault_domain is None) != (info.domain.fault_domain is None)
    ):
        return "the domains of master and agent do not match in kind"
    everything = (
        *info.resources,
        *message.checkpointed_resources,
        *(resource for task in message.tasks for resource in task.resources),
        *(resource for item in message.executors for resource in item.executor.resources),
    )
    return validity.why_not_all(everything)


# -- tasks --------------------------------------------------------------------------------------


def task_error(
    task: TaskInfo, framework: Framework, agent: Agent, *, in_group: bool = False
) -> str | None:
    """The first objection to a task, its resources completed; the pool is not looked at here.

    A task `in_group` names no executor; that of the group is looked at by `groups`.
    """
    task_id = task.task_id.value
    why = id_error(task_id)
    if why is not None:
        return f"Task ID is invalid: {why}"
    if task_id in framework.tasks:
        return f"Task has duplicate ID: {task_id}"
    if task_id in framework.unreachable_tasks:
        return f"Task reuses the ID of an unreachable task: {task_id}"
    if task.agent_id.value != agent.id:
        return f"Task uses invalid agent {task.agent_id.value} while agent {agent.id} is expected"
    return (
        _durations_error(task)
        or _check_error(task.check)
        or _health_check_error(task.health_check)
        or _task_resources_error(task)
        or command_error("Task's 'CommandInfo'", task.command)
        or container_error("Task's 'ContainerInfo'", task.container)
        or _limits_error(task, agent)
        or (None if in_group else _what_runs_error(task, framework, agent))
    )


def _durations_error(task: TaskInfo) -> str | None:
    if task.kill_policy is not None and _is_negative(task.kill_policy.grace_period):
        return "Task's 'kill_policy.grace_period' must be non-negative"
    if _is_negative(task.max_completion_time):
        return "Task's 'max_completion_time' must be non-negative"
    return None


def _is_negative(duration: DurationInfo | None) -> bool:
    return duration is not None and duration.nanoseconds < 0


def _times_error(what: str, times: Mapping[str, float]) -> str | None:
    for name, value in times.items():
        if math.isnan(value) or value < 0:
            return f"{what}: Expecting '{name}' to be non-negative"
    return None


def _port_error(what: str, port: int) -> str | None:
    if not 0 < port < 65536:
        return f"{what}: port {port} is not between 1 and 65535"
    return None


def _health_check_error(check: HealthCheck | None) -> str | None:
    what = "Task uses invalid health check"
    if check is None:
        return None
    why: str | None = None
    if check.type is None or check.type == "UNKNOWN":
        why = f"{what}: HealthCheck must specify 'type'"
    elif check.type == "COMMAND":
        why = (
            f"{what}: Expecting 'command' to be set for COMMAND health check"
            if check.command is None
            else command_error(what, check.command)
        )
    elif check.type == "HTTP":
        if check.http is None:
            why = f"{what}: Expecting 'http' to be set for HTTP health check"
        elif check.http.scheme not in {None, "http", "https"}:
            why = f"{what}: Unsupported HTTP health check scheme: '{check.http.scheme}'"
        elif check.http.path is not None and not check.http.path.startswith("/"):
            why = f"{what}: The path '{check.http.path}' of HTTP health check must start with '/'"
        else:
            why = _port_error(what, check.http.port)
    elif check.tcp is None:
        why = f"{what}: Expecting 'tcp' to be set for TCP health check"
    else:
        why = _port_error(what, check.tcp.port)
    return why or _times_error(
        what,
        {
            "delay_seconds": check.delay_seconds,
            "grace_period_seconds": check.grace_period_seconds,
            "interval_seconds": check.interval_seconds,
            "timeout_seconds": check.timeout_seconds,
        },
    )


def _check_error(check: CheckInfo | None) -> str | None:
    what = "Task uses invalid check"
    if check is None:
        return None
    why: str | None = None
    if check.type is None or check.type == "UNKNOWN":
        why = f"{what}: CheckInfo must specify 'type'"
    elif check.type == "COMMAND":
        why = (
            f"{what}: Expecting 'command' to be set for COMMAND check"
            if check.command is None or check.command.command is None
            else command_error(what, check.command.command)
        )
    elif check.type == "HTTP":
        if check.http is None:
            why = f"{what}: Expecting 'http' to be set for HTTP check"
        elif check.http.path is not None and not check.http.path.startswith("/"):
            why = f"{what}: The path '{check.http.path}' of HTTP check must start with '/'"
        else:
            why = _port_error(what, check.http.port)
    elif check.tcp is None:
        why = f"{what}: Expecting 'tcp' to be set for TCP check"
    else:
        why = _port_error(what, check.tcp.port)
    return why or _times_error(
        what,
        {
            "delay_seconds": check.delay_seconds,
            "interval_seconds": check.interval_seconds,
            "timeout_seconds": check.timeout_seconds,
        },
    )


def _task_resources_error(task: TaskInfo) -> str | None:
    if not task.resources:
        return "Task uses no resources"
    executor = () if task.executor is None else task.executor.resources
    why = validity.why_not_all((*task.resources, *executor))
    if why is not None:
        return f"Task uses invalid resources: {why}"
    total = Resources.of((*task.resources, *executor))
    if not Resources.of(task.resources):
        return "Task uses no resources"
    if len(total.allocations()) > 1:
        return "The resources have multiple allocation roles"
    names = {kind.name for kind, _ in total.revocable().items()}
    if names & {kind.name for kind, _ in total.non_revocable().items()}:
        return "Task mixes revocable and non-revocable resources of one name"
    volumes = [kind.persistence_id for kind, _ in total.persistent_volumes().items()]
    if len(set(volumes)) != len(volumes):
        return "Task uses duplicate persistence ID"
    return None


def _limits_error(task: TaskInfo, agent: Agent) -> str | None:
    if not task.limits:
        return None
    if "TASK_RESOURCE_LIMITS" not in agent.capabilities:
        return f"Agent {agent.id} is not capable of TASK_RESOURCE_LIMITS"
    if task.executor is not None:
        return "Task limits may not be set on a task with an executor"
    requests = Resources.of(task.resources)
    for name, limit in task.limits.items():
        if name not in {"cpus", "mem"}:
            return f"Task limit on '{name}' is not supported, only on cpus and mem"
        if math.isnan(limit.value) or limit.value * 1000 < requests.scalar(name):
            return f"The {name} limit {limit.value} is below the request"
    return None


def _what_runs_error(task: TaskInfo, framework: Framework, agent: Agent) -> str | None:
    if (task.executor is None) == (task.command is None):
        return "Task should have exactly one of CommandInfo or ExecutorInfo present"
    linux = None if task.container is None else task.container.linux_info
    if linux is not None and not linux.share_cgroups:
        return "'share_cgroups' may only be false for tasks of a task group"
    if task.executor is None:
        return None
    return executor_error(task.executor, framework, agent)


def executor_error(
    executor: ExecutorInfo, framework: Framework, agent: Agent, *, of_group: bool = False
) -> str | None:
    """The first objection to the executor of a task or, `of_group`, of a task group."""
    why = id_error(executor.executor_id.value)
    if why is not None:
        return f"Executor ID is invalid: {why}"
    if not of_group and executor.type not in {None, "CUSTOM"}:
        return f"'ExecutorInfo.type' is {executor.type}, a LAUNCH takes CUSTOM only"
    if executor.type != "DEFAULT" and executor.command is None:
        return "'ExecutorInfo.command' must be set for 'CUSTOM' executor"
    if executor.framework_id is not None and executor.framework_id.value != framework.id:
        return (
            f"ExecutorInfo has an invalid FrameworkID (Actual: {executor.framework_id.value}"
            f" vs Expected: {framework.id})"
        )
    if _is_negative(executor.shutdown_grace_period):
        return "ExecutorInfo's 'shutdown_grace_period' must be non-negative"
    why = validity.why_not_all(executor.resources)
    if why is not None:
        return f"Executor uses invalid resources: {why}"
    if Resources.of(executor.resources).shared():
        return "Executor resources must not be shared"
    running = agent.executors.get((framework.id, executor.executor_id.value))
    if running is not None and running.info != executor:
        return (
            f"ExecutorInfo is not compatible with existing ExecutorInfo of"
            f" '{executor.executor_id.value}' on the agent"
        )
    return command_error("Executor's 'CommandInfo'", executor.command) or container_error(
        "Executor's 'ContainerInfo'", executor.container
    )
