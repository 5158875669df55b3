"""Executors as the agent sees them: what to start for a task, with which environment.

A command task runs directly under its supervisor; for it the agent makes up an `ExecutorInfo` as
the original does, so that paths, `/state` and the environment look the same. Executors of
frameworks and the default executor (task groups) are not run yet: `why_not` says so.
"""

from __future__ import annotations

from mesostk.agent import docker_spec, layout
from mesostk.agent.docker_spec import DockerPlan
from mesostk.agent.events import RunSpec
from mesostk.agent.state import Framework, Run, Settings, State, TaskEntry
from mesostk.wire.mesos import (
    CommandInfo,
    ContainerInfo,
    Environment,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    Resource,
    StatusReason,
    TaskInfo,
    TaskState,
)

#: Given to tasks whose environment has none. Source: spec §8.3.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Grace between TERM and KILL unless a kill policy says otherwise. Source: spec §3.3.
DEFAULT_GRACE_S = 3.0

#: Characters of a command shown whole in the executor's name. Source: spec §3.3.
_NAME_LIMIT = 15
_NAME_CUT = 12

#: Why a task is refused: final state, reason, text.
Refusal = tuple[TaskState, StatusReason, str]


def why_not(task: TaskInfo, settings: Settings) -> Refusal | None:
    """Why this agent cannot run `task` at all; None if it can."""
    if task.executor is not None:
        text = (
            f"Executor '{task.executor.executor_id.value}': this agent runs command tasks only, "
            "give the task a 'command' instead of an 'executor'"
        )
        return ("TASK_ERROR", "REASON_TASK_INVALID", text)
    if task.command is None:
        return ("TASK_ERROR", "REASON_TASK_INVALID", "Task has neither 'command' nor 'executor'")
    container = task.container
    if container is not None and not _can_contain(container, settings):
        enabled = ",".join(settings.containerizers)
        wanted = "docker" if container.type == "DOCKER" else "mesos with an image"
        text = (
            f"None of the enabled containerizers ({enabled}) could create a container for the "
            f"provided ContainerInfo: it asks for {wanted}"
        )
        return ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
    if task.command.shell and task.command.value is None:
        return ("TASK_ERROR", "REASON_TASK_INVALID", "Shell command has no 'value'")
    if _is_docker(task):
        wrong = docker_spec.why_not(task, enable_cfs=settings.cgroups_enable_cfs)
        if wrong is not None:
            text = f"Failed to launch container: {wrong}"
            return ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
    elif not task.command.shell and task.command.value is None:
        return ("TASK_ERROR", "REASON_TASK_INVALID", "Command has no executable in 'value'")
    if task.command.uris and not settings.fetch_uris:
        return (
            "TASK_FAILED",
            "REASON_CONTAINER_LAUNCH_FAILED",
            "Failed to launch container: this agent fetches no URIs",
        )
    return None


def _is_docker(task: TaskInfo) -> bool:
    return task.container is not None and task.container.type == "DOCKER"


def _can_contain(container: ContainerInfo, settings: Settings) -> bool:
    if container.type == "DOCKER":
        return "docker" in settings.containerizers
    image = container.mesos.image if container.mesos is not None else None
    return image is None and "mesos" in settings.containerizers


def command_executor(task: TaskInfo, framework_id: FrameworkID) -> ExecutorInfo:
    """The executor that stands for a command task. Source: spec §3.3."""
    return ExecutorInfo(
        executor_id=ExecutorID(task.task_id.value),
        framework_id=framework_id,
        command=task.command,
        container=task.container,
        name=f"Command Executor (Task: {task.task_id.value}) (Command: {_shown(task.command)})",
        source=task.task_id.value,
        discovery=task.discovery,
        labels=task.labels,
    )


def _shown(command: CommandInfo | None) -> str:
    if command is None:
        return "NO COMMAND"
    if command.shell:
        value = command.value if command.value is not None else ""
        cut = value if len(value) <= _NAME_LIMIT else value[:_NAME_CUT] + "..."
        return f"sh -c '{cut}'"
    if command.value is None:
        return "NO EXECUTABLE"
    return f"[{', '.join((command.value, *command.arguments))}]"


def grace_of(task: TaskInfo, settings: Settings) -> float:
    """Seconds between TERM and KILL that the task itself asks for, or those of its kind."""
    policy = task.kill_policy
    if policy is None or policy.grace_period is None:
        # Source: spec §3.4 for containers.
        return settings.shutdown_grace_s if _is_docker(task) else DEFAULT_GRACE_S
    return max(0.0, policy.grace_period.nanoseconds / 1e9)


def user_of(framework: FrameworkInfo, task: TaskInfo, settings: Settings) -> str | None:
    """Whom the task runs as, None for the agent's own user."""
    if not settings.switch_user:
        return None
    if task.command is not None and task.command.user is not None:
        return task.command.user
    return framework.user or None


def sandbox_of(state: State, run: Run) -> str:
    """The run's sandbox, relative to work_dir."""
    return layout.sandbox(state.own_id.value, run.framework_id, run.executor_id, run.container_id)


def environment(state: State, framework: Framework, run: Run, task: TaskInfo) -> dict[str, str]:
    """Variables of a task: inherited, then the agent's, then its own. Source: spec §8.3."""
    s = state.settings
    sandbox = f"{s.work_dir}/{sandbox_of(state, run)}"
    env = {
        "PATH": DEFAULT_PATH,
        **s.base_env,
        "MESOS_FRAMEWORK_ID": run.framework_id,
        "MESOS_EXECUTOR_ID": run.executor_id,
        "MESOS_SLAVE_ID": state.own_id.value,
        "MESOS_SLAVE_PID": f"slave(1)@{s.ip}:{s.port}",
        "MESOS_AGENT_ENDPOINT": f"{s.ip}:{s.port}",
        "MESOS_DIRECTORY": sandbox,
        "MESOS_SANDBOX": sandbox,
        "MESOS_CHECKPOINT": "1" if framework.info.checkpoint else "0",
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": f"{s.shutdown_grace_s:g}secs",
        "LIBPROCESS_PORT": "0",
    }
    if framework.info.checkpoint:
        env["MESOS_RECOVERY_TIMEOUT"] = f"{s.recovery_timeout_s / 60:g}mins"
        env["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = "2secs"
    role = allocation_role(task.resources)
    if role is not None:
        env["MESOS_ALLOCATION_ROLE"] = role
    if task.command is not None:
        env.update(_variables(task.command.environment))
    return env


def docker_environment(state: State, run: Run, task: TaskInfo) -> dict[str, str]:
    """Variables that a container gets besides its image's. Source: spec §8.3, §8.9."""
    env = {
        "MESOS_SANDBOX": state.settings.sandbox_directory,
        "MESOS_CONTAINER_NAME": docker_spec.name_of(run.container_id),
    }
    role = allocation_role(task.resources)
    if role is not None:
        env["MESOS_ALLOCATION_ROLE"] = role
    if task.command is not None:
        env.update(_variables(task.command.environment))
    return env


def _docker_plan(state: State, run: Run, task: TaskInfo) -> DockerPlan:
    settings = state.settings
    around = docker_spec.Surroundings(
        sandbox=f"{settings.work_dir}/{sandbox_of(state, run)}",
        inside=settings.sandbox_directory,
        env=docker_environment(state, run, task),
        labels={"MESOS_FRAMEWORK_ID": run.framework_id, "MESOS_TASK_ID": task.task_id.value},
        enable_cfs=settings.cgroups_enable_cfs,
    )
    return docker_spec.plan(task, around)


def allocation_role(resources: tuple[Resource, ...]) -> str | None:
    """The role that the task's resources were offered to."""
    for resource in resources:
        if resource.allocation_info is not None:
            return resource.allocation_info.role
    return None


def _variables(environment: Environment | None) -> dict[str, str]:
    if environment is None:
        return {}
    return {v.name: v.value for v in environment.variables if v.value is not None}


def _amount(task: TaskInfo, name: str) -> float:
    return sum(r.scalar.value for r in task.resources if r.name == name and r.scalar is not None)


def run_spec(state: State, framework: Framework, run: Run, entry: TaskEntry) -> RunSpec:
    """What the launcher, or the Docker engine, needs to start a task."""
    task = entry.info
    if run.is_docker:
        return RunSpec(
            container_id=run.container_id,
            framework_id=run.framework_id,
            executor_id=run.executor_id,
            executable="",
            argv=(),
            env={},
            sandbox=sandbox_of(state, run),
            user=user_of(framework.info, task, state.settings),
            cpus=_amount(task, "cpus"),
            mem_mib=_amount(task, "mem"),
            docker=_docker_plan(state, run, task),
        )
    command = task.command
    assert command is not None
    assert command.value is not None
    argv: tuple[str, ...]
    if command.shell:
        executable, argv = "/bin/sh", ("sh", "-c", command.value)
    else:
        executable = command.value
        argv = command.arguments or (command.value,)
    limit = {name: scalar.value for name, scalar in task.limits.items()}
    rlimits = task.container.rlimit_info if task.container is not None else None
    return RunSpec(
        container_id=run.container_id,
        framework_id=run.framework_id,
        executor_id=run.executor_id,
        executable=executable,
        argv=argv,
        env=environment(state, framework, run, task),
        sandbox=sandbox_of(state, run),
        user=user_of(framework.info, task, state.settings),
        cpus=_amount(task, "cpus"),
        mem_mib=_amount(task, "mem"),
        cpus_limit=limit.get("cpus"),
        mem_limit_mib=limit.get("mem"),
        rlimits=tuple(
            (r.type, r.soft, r.hard)
            for r in (rlimits.rlimits if rlimits is not None else ())
            if r.type is not None
        ),
        grace_s=grace_of(task, state.settings),
    )
