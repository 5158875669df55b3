"""Executors as the agent sees them: what to start for a task, with which environment.

A command task runs directly under its supervisor; for it the agent makes up an `ExecutorInfo` as
the original does, so that paths, `/state` and the environment look the same. So does each task of a
task group, whose default executor is no process at all. A custom executor is started like a task.
"""

from __future__ import annotations

import math

import msgspec

from mesostk.agent import (
    amounts,
    docker_spec,
    isolation,
    layout,
    operations,
    secret_uses,
    volumes,
)
from mesostk.agent.docker_spec import DockerPlan
from mesostk.agent.events import (
    Amounts,
    BindMount,
    GroupSandbox,
    RunSpec,
    VolumeLink,
    VolumeMount,
)
from mesostk.agent.state import Framework, Run, Settings, State
from mesostk.base.units import printed_duration
from mesostk.wire.mesos import (
    AgentID,
    CommandInfo,
    ContainerInfo,
    Environment,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    Resource,
    StatusReason,
    TaskID,
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
    if task.executor is not None and task.executor.type != "DEFAULT":
        if task.executor.command is None:
            text = f"Executor '{task.executor.executor_id.value}' has no 'command'"
            return ("TASK_ERROR", "REASON_TASK_INVALID", text)
        return _why_not_process(_as_task(task.executor, task.agent_id), settings)
    if task.command is None:
        return ("TASK_ERROR", "REASON_TASK_INVALID", "Task has neither 'command' nor 'executor'")
    return _why_not_process(task, settings)


def _why_not_process(task: TaskInfo, settings: Settings) -> Refusal | None:
    """Why this agent cannot start the command of `task`; None if it can."""
    task = _contained(task, settings)
    command = task.command
    assert command is not None
    container = task.container
    if container is not None and not _can_contain(container, settings):
        enabled = ",".join(settings.containerizers)
        wanted = "docker" if container.type == "DOCKER" else "mesos"
        if wanted == "mesos" and docker_spec.is_for_engine(container):
            wanted = "mesos with an image, which needs docker too (--containerizers=mesos,docker)"
        text = (
            f"None of the enabled containerizers ({enabled}) could create a container for the "
            f"provided ContainerInfo: it asks for {wanted}"
        )
        return ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
    if command.shell and command.value is None:
        return ("TASK_ERROR", "REASON_TASK_INVALID", "Shell command has no 'value'")
    if _is_docker(task):
        wrong = docker_spec.why_not(
            task, enable_cfs=settings.cgroups_enable_cfs, is_nested=task.executor is not None
        )
        if wrong is not None:
            text = f"Failed to launch container: {wrong}"
            return ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
    elif not command.shell and command.value is None:
        return ("TASK_ERROR", "REASON_TASK_INVALID", "Command has no executable in 'value'")
    else:
        wrong = _why_not_isolated(task, settings)
        if wrong is not None:
            text = f"Failed to launch container: {wrong}"
            return ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
    wrong = secret_uses.why_not(task)
    if wrong is not None:
        text = f"Failed to launch container: {wrong}"
        return ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
    if command.uris and not settings.fetch_uris:
        return (
            "TASK_FAILED",
            "REASON_CONTAINER_LAUNCH_FAILED",
            "Failed to launch container: this agent fetches no URIs",
        )
    return None


def _why_not_isolated(task: TaskInfo, settings: Settings) -> str | None:
    nested, asked = task.executor is not None, settings.isolation
    around = _around(task.executor, settings) if task.executor is not None else None
    wrong = _why_not_networked(task.container) or _why_not_networked(around)
    if wrong is None and nested:
        wrong = isolation.why_not_within(task.container, around, asked)
    elif wrong is None:
        wrong = isolation.why_not(task.container, asked)
    if wrong is not None:
        return wrong
    return volumes.why_not(task, is_nested=nested, can_mount="mnt" in asked.namespaces)


def _why_not_networked(container: ContainerInfo | None) -> str | None:
    """Why the networks of a container without Docker cannot be had: run in the host's, it would be
    looked for where it is not."""
    infos = container.network_infos if container is not None else ()
    names = ", ".join(info.name for info in infos if info.name is not None)
    if not names:
        return None
    return (
        f"container.network_infos: '{names}' needs a CNI network, which agents have none of; leave "
        "it out for the host's, or use a container of type DOCKER"
    )


def _contained(task: TaskInfo, settings: Settings) -> TaskInfo:
    """With the container of --default_container_info, if the task names none."""
    if task.container is not None or settings.isolation.container is None:
        return task
    return msgspec.structs.replace(task, container=settings.isolation.container)


def _around(executor: ExecutorInfo, settings: Settings) -> ContainerInfo | None:
    """The container of a default executor, in which its tasks are."""
    return executor.container if executor.container is not None else settings.isolation.container


def _own_of(run: Run, task: TaskInfo, settings: Settings) -> isolation.Own:
    asked = settings.isolation
    if run.parent_id is None:
        return isolation.own_of(task.container, asked)
    return isolation.own_within(task.container, _around(run.executor, settings), asked)


def _as_task(executor: ExecutorInfo, agent_id: AgentID) -> TaskInfo:
    """A custom executor's own process as if it were a command task's."""
    return TaskInfo(
        name=executor.name if executor.name is not None else executor.executor_id.value,
        task_id=TaskID(executor.executor_id.value),
        agent_id=agent_id,
        resources=executor.resources,
        command=executor.command,
        container=executor.container,
        labels=executor.labels,
    )


def process_of(state: State, run: Run) -> TaskInfo:
    """What the run's process is started as: its task, or a custom executor with all it may use."""
    if not run.is_executor:
        return _contained(run.only_task.info, state.settings)
    made = _contained(_as_task(run.executor, state.own_id), state.settings)
    return msgspec.structs.replace(made, resources=tuple(run.held))


def _is_docker(task: TaskInfo) -> bool:
    return docker_spec.is_for_engine(task.container)


def _can_contain(container: ContainerInfo, settings: Settings) -> bool:
    if container.type == "MESOS" and "mesos" not in settings.containerizers:
        return False
    # An image of a MESOS container needs the engine too, for there is no other provisioner.
    return "docker" in settings.containerizers or not docker_spec.is_for_engine(container)


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


def shutdown_grace_of(run: Run, settings: Settings) -> float:
    """Seconds that an executor has to end after SHUTDOWN."""
    period = run.executor.shutdown_grace_period
    return settings.shutdown_grace_s if period is None else max(0.0, period.nanoseconds / 1e9)


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


def _volumes_of(
    state: State, run: Run, task: TaskInfo
) -> tuple[tuple[VolumeLink, ...], tuple[BindMount, ...]]:
    """The links and the mounts of a run."""
    home = state.settings.work_dir
    parent = _parent_sandbox(state, run)
    sandbox = f"{home}/{sandbox_of(state, run)}"
    can_mount = "mnt" in state.settings.isolation.namespaces
    links = volumes.links_of(task, sandbox, parent, can_mount=can_mount)
    return links, volumes.mounts_of(task, sandbox, parent) if can_mount else ()


def _parent_sandbox(state: State, run: Run) -> str | None:
    """The absolute sandbox of a nested run's executor."""
    if run.parent_id is None:
        return None
    ids = (state.own_id.value, run.framework_id, run.executor_id, run.parent_id)
    return f"{state.settings.work_dir}/{layout.sandbox(*ids)}"


def _group_sandbox(state: State, framework: Framework, run: Run) -> GroupSandbox | None:
    """The sandbox of a nested run's executor: its tasks' user's, if they are of one."""
    parent = state.runs.get(run.parent_id) if run.parent_id is not None else None
    if parent is None:
        return None
    infos = [each.only_task.info for each in parent.nested.values() if each.phase != "OVER"]
    tasks = [(info, user_of(framework.info, info, state.settings)) for info in infos]
    users = {user for _, user in tasks}
    is_open = len(users) > 1
    return GroupSandbox(
        user=(framework.info.user or None) if is_open else users.pop(),
        is_open=is_open,
        folders=tuple(volumes.shared_by(tasks).items()),
    )


def _shared_volumes(state: State, run: Run) -> tuple[VolumeMount, ...]:
    """The persistent volumes of a nested run's executor, which are in that one's sandbox."""
    if run.parent_id is None:
        return ()
    return operations.mounts_of(run.executor.resources, state.settings.work_dir)


def environment(state: State, framework: Framework, run: Run, task: TaskInfo) -> dict[str, str]:
    """Variables of a task: inherited, then the agent's, then its own. Source: spec §8.3."""
    s = state.settings
    return {"PATH": DEFAULT_PATH, **s.base_env, **_told(state, framework, run, task)}


def _told(state: State, framework: Framework, run: Run, task: TaskInfo) -> dict[str, str]:
    """The variables that are not inherited."""
    s = state.settings
    sandbox = f"{s.work_dir}/{sandbox_of(state, run)}"
    env = {
        "MESOS_FRAMEWORK_ID": run.framework_id,
        "MESOS_EXECUTOR_ID": run.executor_id,
        "MESOS_SLAVE_ID": state.own_id.value,
        "MESOS_SLAVE_PID": f"slave(1)@{s.ip}:{s.port}",
        "MESOS_AGENT_ENDPOINT": f"{s.ip}:{s.port}",
        "MESOS_DIRECTORY": sandbox,
        "MESOS_SANDBOX": sandbox,
        "MESOS_CHECKPOINT": "1" if framework.info.checkpoint else "0",
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": printed_duration(shutdown_grace_of(run, s)),
        "LIBPROCESS_PORT": "0",
    }
    if s.libprocess_ip is not None:
        env["LIBPROCESS_IP"] = s.libprocess_ip
    if framework.info.checkpoint:
        env["MESOS_RECOVERY_TIMEOUT"] = printed_duration(s.recovery_timeout_s)
        env["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = "2secs"
    if run.parent_id is not None:
        env["MESOS_CONTAINER_IP"] = s.ip
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


def _docker_plan(state: State, framework: Framework, run: Run, task: TaskInfo) -> DockerPlan:
    settings = state.settings
    env = docker_environment(state, run, task)
    if run.is_custom:
        env = {**environment(state, framework, run, task), **env}
    elif task.container is not None and task.container.type == "MESOS":
        env = {**_told(state, framework, run, task), **env}
    around = docker_spec.Surroundings(
        sandbox=f"{settings.work_dir}/{sandbox_of(state, run)}",
        inside=settings.sandbox_directory,
        env=env,
        labels={"MESOS_FRAMEWORK_ID": run.framework_id, "MESOS_TASK_ID": task.task_id.value},
        enable_cfs=settings.cgroups_enable_cfs,
        memory_bytes=settings.memory_bytes,
        parent=_parent_sandbox(state, run),
        volumes=tuple(
            (mount.source, mount.container_path, mount.read_only)
            for mount in operations.mounts_of(run.held, settings.work_dir)
        ),
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


def _amounts_of(run: Run, task: TaskInfo) -> Amounts:
    """What a run's container may use."""
    if run.is_executor:
        return amounts.of_executor(run)
    # What shares its executor's limits has none of its own.
    is_free = run.parent_id is not None and amounts.shares_cgroups(task) and not run.is_docker
    return Amounts(
        cpus=amounts.amount_of(task.resources, "cpus"),
        mem_mib=amounts.amount_of(task.resources, "mem"),
        cpus_limit=math.inf if is_free else amounts.limit_of(task, "cpus"),
        mem_limit_mib=math.inf if is_free else amounts.limit_of(task, "mem"),
    )


def _oom_score_adj(state: State, run: Run, task: TaskInfo) -> int | None:
    """Of a task with limits of its own. Source: Mesos' MemorySubsystemProcess::isolate."""
    if run.is_executor or (run.parent_id is not None and amounts.shares_cgroups(task)):
        return None
    return docker_spec.oom_score_adj(task, state.settings.memory_bytes)


def _terminal_of(task: TaskInfo) -> tuple[int, int] | None:
    info = task.container.tty_info if task.container is not None else None
    if info is None:
        return None
    size = info.window_size
    return (0, 0) if size is None else (size.rows & 0xFFFF, size.columns & 0xFFFF)


def _within(state: State, run: Run) -> Amounts | None:
    """What the executor of a nested run may use with all its tasks."""
    if run.parent_id is None:
        return None
    parent = state.runs.get(run.parent_id)
    return amounts.of_executor(parent) if parent is not None else None


def run_spec(state: State, framework: Framework, run: Run) -> RunSpec:
    """What the launcher, or the Docker engine, needs to start a run's process."""
    task = process_of(state, run)
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
            amounts=_amounts_of(run, task),
            around=_group_sandbox(state, framework, run),
            shared=_shared_volumes(state, run),
            secrets=secret_uses.uses_of(task),
            docker=_docker_plan(state, framework, run, task),
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
    rlimits = task.container.rlimit_info if task.container is not None else None
    links, mounts = _volumes_of(state, run, task)
    asked = state.settings.isolation
    return RunSpec(
        container_id=run.container_id,
        framework_id=run.framework_id,
        executor_id=run.executor_id,
        executable=executable,
        argv=argv,
        env=environment(state, framework, run, task),
        sandbox=sandbox_of(state, run),
        user=user_of(framework.info, task, state.settings),
        amounts=_amounts_of(run, task),
        within=_within(state, run),
        around=_group_sandbox(state, framework, run),
        rlimits=tuple(
            (r.type, r.soft, r.hard)
            for r in (rlimits.rlimits if rlimits is not None else ())
            if r.type is not None
        ),
        grace_s=grace_of(task, state.settings),
        links=links,
        volumes=operations.mounts_of(run.held, state.settings.work_dir),
        shared=_shared_volumes(state, run),
        own=_own_of(run, task, state.settings),
        mounts=mounts,
        no_new_privileges=asked.no_new_privileges,
        oom_score_adj=_oom_score_adj(state, run, task),
        terminal=_terminal_of(task),
        secrets=secret_uses.uses_of(task),
    )
