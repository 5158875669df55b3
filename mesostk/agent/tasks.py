"""One task, from RUN_TASK to its end: launch, kill, exit, and who is told what.

::

    RUN_TASK ─▶ refused? DROPPED | ERROR | FAILED
             └▶ SAVING ─▶ FETCHING ─▶ LAUNCHING ─▶ RUNNING ─▶ OVER ─▶ terminal acked ─▶ forgotten
                   │ kill     │ kill       │ kill: as soon as it runs
                   └──────────┴─▶ KILLED (REASON_TASK_KILLED_DURING_LAUNCH)

The records of a task are on disk before anything of it is started, and why it is killed before it
is killed: after a crash at any point recovery tells the same story.
"""

from __future__ import annotations

import msgspec

from mesostk.agent import checks, endings, executors, kills, layout, updates
from mesostk.agent.events import (
    Fetch,
    Fetched,
    FetchFailed,
    Launch,
    Launched,
    LaunchFailed,
)
from mesostk.agent.fitting import why_not_fit
from mesostk.agent.state import Framework, Run, State, TaskEntry
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Effect, Put, note
from mesostk.errors import WireError
from mesostk.wire.link import RunTask
from mesostk.wire.mesos import (
    ExecutorInfo,
    FrameworkInfo,
    TaskInfo,
    TaskState,
)


class RunSaved(WaitBase, frozen=True):
    """The records of a run and its task are on disk."""

    container_id: str


def run_task(state: State, now: float, message: RunTask) -> list[Effect]:
    """Take a task on, or say why not."""
    task, info = message.task, message.framework
    if info.id is None:
        return [note("Ignoring", level="ERROR", what="RUN_TASK without a framework id")]
    key = (info.id.value, task.task_id.value)
    if state.find(key) is not None or key in state.streams:
        return [note("Ignoring", level="WARNING", what="RUN_TASK of a known task", task=key[1])]
    framework = state.frameworks.get(key[0])
    if framework is None:
        framework = state.frameworks[key[0]] = Framework(info=info)
    run = Run(
        framework_id=key[0],
        executor=executors.command_executor(task, info.id),
        container_id=state.new_id(),
        phase="SAVING",
    )
    entry = TaskEntry(info=task)
    refusal = _refusal(state, framework, task)
    run.tasks[key[1]] = entry
    framework.runs[run.executor_id] = run
    effects: list[Effect] = [note("Accepting", task=key[1], framework=key[0], run=run.container_id)]
    if refusal is not None:
        run.on_disk = False
        return effects + _refuse(state, now, run, entry, refusal)
    state.runs[run.container_id] = run
    return [*effects, _save_run(state, framework, run, task)]


def with_executor(task: TaskInfo, executor: ExecutorInfo) -> TaskInfo:
    """A task of a group as if it were launched alone on the group's executor."""
    return msgspec.structs.replace(task, executor=executor)


def _refusal(state: State, framework: Framework, task: TaskInfo) -> executors.Refusal | None:
    dropped: TaskState = "TASK_DROPPED" if framework.can("PARTITION_AWARE") else "TASK_LOST"
    if task.agent_id != state.own_id:
        text = f"Task is meant for agent {task.agent_id.value}, this is {state.own_id.value}"
        return (dropped, "REASON_INVALID_OFFERS", text)
    if state.phase == "TERMINATING" or framework.terminating:
        return (dropped, "REASON_EXECUTOR_TERMINATED", "Agent or framework is shutting down")
    if state.drain is not None:
        return (dropped, "REASON_AGENT_DRAINING", "Agent is draining")
    refusal = executors.why_not(task, state.settings)
    if refusal is not None:
        return refusal
    held = [e.info.resources for run in state.live_runs() for e in run.tasks.values()]
    try:
        why = why_not_fit(state.settings.resources, held, task.resources)
    except WireError as error:
        return ("TASK_ERROR", "REASON_TASK_INVALID", f"Resources: {error}")
    return (dropped, "REASON_INVALID_OFFERS", why) if why is not None else None


def _refuse(
    state: State, now: float, run: Run, entry: TaskEntry, refusal: executors.Refusal
) -> list[Effect]:
    run.phase = "OVER"
    state.runs.pop(run.container_id, None)
    status = updates.make_status(
        state, now, run, entry, refusal[0], source="SOURCE_AGENT", reason=refusal[1],
        message=refusal[2],
    )  # fmt: skip
    return updates.report(state, now, run, entry, status)


def _save_run(state: State, framework: Framework, run: Run, task: TaskInfo) -> Effect:
    agent = state.own_id.value
    ids = (agent, run.framework_id, run.executor_id, run.container_id)
    ops = [
        Put(f"{layout.run_dir(*ids)}/executor.info", layout.frame(run.executor)),
        Put(f"{layout.task_dir(*ids, task.task_id.value)}/task.info", layout.frame(task)),
    ]
    if not framework.on_disk:
        path = layout.framework_info(agent, run.framework_id)
        ops.insert(0, Put(path, layout.frame(framework.info)))
    return state.save(RunSaved(run.container_id), *ops)


def run_saved(state: State, now: float, what: RunSaved, error: str | None) -> list[Effect]:
    """Go on with the launch; a task that could not be recorded is refused, the agent stays up."""
    run = state.runs.get(what.container_id)
    if run is None or run.phase != "SAVING":
        return []
    framework, entry = state.frameworks[run.framework_id], run.only_task
    if error is not None:
        run.on_disk = False
        state.count("container_launch_errors")
        dropped: TaskState = "TASK_DROPPED" if framework.can("PARTITION_AWARE") else "TASK_LOST"
        text = f"Task cannot be recorded in work_dir {state.settings.work_dir}: {error}"
        return _refuse(state, now, run, entry, (dropped, "REASON_CONTAINER_LAUNCH_FAILED", text))
    framework.on_disk = True
    if run.silent:
        run.phase = "OVER"
        return endings.forget(state, run)
    if entry.kill is not None:
        return endings.killed_before_launch(state, now, run)
    task = entry.info
    if task.command is not None and task.command.uris:
        run.phase = "FETCHING"
        user = executors.user_of(framework.info, task, state.settings)
        sandbox = executors.sandbox_of(state, run)
        return [Fetch(run.container_id, sandbox, user, task.command.uris)]
    return _launch(state, now, framework, run)


def fetched(state: State, now: float, event: Fetched) -> list[Effect]:
    """All URIs are in the sandbox."""
    run = state.runs.get(event.container_id)
    if run is None or run.phase != "FETCHING":
        return []
    return _launch(state, now, state.frameworks[run.framework_id], run)


def _launch(state: State, now: float, framework: Framework, run: Run) -> list[Effect]:
    run.phase = "LAUNCHING"
    run.started_at = now
    entry = run.only_task
    starting = updates.make_status(state, now, run, entry, "TASK_STARTING")
    effects: list[Effect] = [Launch(executors.run_spec(state, framework, run, entry))]
    return effects + updates.report(state, now, run, entry, starting)


def fetch_failed(state: State, now: float, event: FetchFailed) -> list[Effect]:
    """A task whose URIs cannot be had fails. Source of the text: spec §8.8."""
    text = f"Failed to fetch all URIs for container '{event.container_id}': {event.error}"
    return _not_launched(state, now, event.container_id, text)


def launch_failed(state: State, now: float, event: LaunchFailed) -> list[Effect]:
    """The supervisor could not start the task."""
    return _not_launched(state, now, event.container_id, event.error)


def _not_launched(state: State, now: float, container_id: str, error: str) -> list[Effect]:
    run = state.runs.get(container_id)
    if run is None or run.phase not in {"FETCHING", "LAUNCHING"}:
        return []
    state.count("container_launch_errors")
    if run.silent:
        run.phase = "OVER"
        return endings.forget(state, run)
    if run.only_task.kill is not None:
        return endings.killed_before_launch(state, now, run)
    return endings.end_task(
        state, now, run, "TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED",
        f"Failed to launch container: {error}", "SOURCE_AGENT",
    )  # fmt: skip


def launched(state: State, now: float, event: Launched) -> list[Effect]:
    """The task runs."""
    run = state.runs.get(event.container_id)
    if run is None or run.phase != "LAUNCHING":
        return []
    run.phase = "RUNNING"
    run.pid, run.ips = event.pid, event.ips
    if run.silent:
        return kills.kill_now(state, now, run)
    return now_running(state, now, run, event.data) + kills.kill_now(state, now, run)


def now_running(state: State, now: float, run: Run, data: bytes | None = None) -> list[Effect]:
    """Say that the task runs, and start its clocks."""
    entry = run.only_task
    start_clocks(state, now, run)
    running = updates.make_status(state, now, run, entry, "TASK_RUNNING", data=data)
    return updates.report(state, now, run, entry, running)


def start_clocks(state: State, now: float, run: Run) -> None:
    """Arm what a running task is watched by: its completion time and its health check."""
    limit = run.only_task.info.max_completion_time
    if limit is not None:
        state.call_at(now + limit.nanoseconds / 1e9, kills.TimeUp(run.container_id))
    checks.start(state, now, run)


def update_framework(state: State, info: FrameworkInfo) -> list[Effect]:
    """The framework changed its description."""
    framework = state.frameworks.get(info.id.value) if info.id is not None else None
    if framework is None or info.id is None:
        return []
    framework.info = info
    path = layout.framework_info(state.own_id.value, info.id.value)
    return [state.save(endings.Recorded(), Put(path, layout.frame(info)))]
