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

from mesostk.agent import (
    checks,
    custom,
    endings,
    executors,
    kills,
    layout,
    operations,
    updates,
)
from mesostk.agent.events import (
    Fetch,
    Fetched,
    FetchFailed,
    Launch,
    Launched,
    LaunchFailed,
)
from mesostk.agent.state import Framework, Run, State, TaskEntry, Verdict
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Effect, Put, note
from mesostk.errors import WireError
from mesostk.wire.link import RunTask
from mesostk.wire.mesos import TERMINAL_STATES, FrameworkInfo, Resource, TaskInfo


class RunSaved(WaitBase, frozen=True):
    """The records of a run and its task are on disk."""

    container_id: str


class TaskSaved(WaitBase, frozen=True):
    """The records of further tasks of an executor are on disk."""

    container_id: str
    task_ids: tuple[str, ...]


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
    if task.executor is not None:
        return _run_with_executor(state, now, framework, task, message.launch_executor)
    run = Run(
        framework_id=key[0],
        executor=executors.command_executor(task, info.id),
        container_id=state.new_id(),
        phase="SAVING",
    )
    entry = TaskEntry(info=task)
    refusal = refusal_of(state, framework, task) or _misfit(state, framework, task.resources)
    run.tasks[key[1]] = entry
    framework.add(run)
    effects: list[Effect] = [note("Accepting", task=key[1], framework=key[0], run=run.container_id)]
    if refusal is not None:
        run.on_disk = False
        return effects + refuse(state, now, run, entry, refusal)
    state.runs[run.container_id] = run
    return [*effects, _save_run(state, framework, run, task)]


def _run_with_executor(
    state: State, now: float, framework: Framework, task: TaskInfo, expected: bool | None
) -> list[Effect]:
    """Take on a task of a custom executor, which is started unless it runs.

    `expected`: whether the master means it to be started; None from a master that does not say.
    """
    assert task.executor is not None
    assert framework.info.id is not None
    executor_id = task.executor.executor_id.value
    why = framework.why_not_executor(executor_id, "CUSTOM")
    if why is not None:
        key = (framework.info.id.value, task.task_id.value)
        return endings.answer_unknown(state, now, key, "REASON_TASK_INVALID", why)
    run = framework.executor_run(executor_id)
    is_new = run is None
    if run is None:
        run = custom.new_run(state, framework, task)
    wanted = task.resources if not is_new else (*task.resources, *run.executor.resources)
    refusal = refusal_of(state, framework, task) or _misfit(state, framework, wanted)
    if refusal is None and (run.terminating if not is_new else expected is False):
        refusal = (framework.dropped, "REASON_EXECUTOR_TERMINATED", "Executor has ended")
    task_id, entry = task.task_id.value, TaskEntry(info=task)
    effects: list[Effect] = [
        note("Accepting", task=task_id, framework=run.framework_id, executor=run.executor_id)
    ]
    if refusal is not None:
        alone = Run(
            framework_id=run.framework_id,
            executor=run.executor,
            container_id=run.container_id if is_new else state.new_id(),
            phase="OVER",
            on_disk=False,
            tasks={task_id: entry},
        )
        framework.add(alone)
        if is_new:
            effects += endings.tell_exited(state, run, -1)
        return effects + refuse(state, now, alone, entry, refusal)
    run.tasks[task_id] = entry
    if is_new:
        framework.add(run)
        state.runs[run.container_id] = run
        return [*effects, _save_run(state, framework, run, task)]
    state.resized.add(run.container_id)
    return [
        *effects,
        state.save(TaskSaved(run.container_id, (task_id,)), task_record(state, run, task)),
    ]


def refusal_of(state: State, framework: Framework, task: TaskInfo) -> executors.Refusal | None:
    """Why a task is not run, resources apart; None if it is."""
    dropped = framework.dropped
    if task.agent_id != state.own_id:
        text = f"Task is meant for agent {task.agent_id.value}, this is {state.own_id.value}"
        return (dropped, "REASON_INVALID_OFFERS", text)
    if state.phase == "TERMINATING" or framework.terminating:
        return (dropped, "REASON_EXECUTOR_TERMINATED", "Agent or framework is shutting down")
    if state.drain is not None:
        return (dropped, "REASON_AGENT_DRAINING", "Agent is draining")
    return executors.why_not(task, state.settings)


def _misfit(
    state: State, framework: Framework, wanted: tuple[Resource, ...]
) -> executors.Refusal | None:
    try:
        why = operations.why_not_granted(state, wanted)
    except WireError as error:
        return ("TASK_ERROR", "REASON_TASK_INVALID", f"Resources: {error}")
    return (framework.dropped, *why) if why is not None else None


def refuse(
    state: State, now: float, run: Run, entry: TaskEntry, refusal: executors.Refusal
) -> list[Effect]:
    """Report that a task is not run; its run is over before it began."""
    run.phase = "OVER"
    state.runs.pop(run.container_id, None)
    status = updates.make_status(
        state, now, run, entry, refusal[0], source="SOURCE_AGENT", reason=refusal[1],
        message=refusal[2],
    )  # fmt: skip
    return updates.report(state, now, run, entry, status)


def executor_records(state: State, framework: Framework, run: Run) -> list[Put]:
    """What is written of a run before its first task."""
    agent = state.own_id.value
    ids = (agent, run.framework_id, run.executor_id, run.container_id)
    ops = [Put(f"{layout.run_dir(*ids)}/executor.info", layout.frame(run.executor))]
    if not framework.on_disk:
        path = layout.framework_info(agent, run.framework_id)
        ops.insert(0, Put(path, layout.frame(framework.info)))
    return ops


def task_record(state: State, run: Run, task: TaskInfo) -> Put:
    """What is written of a task."""
    ids = (state.own_id.value, run.framework_id, run.executor_id, run.container_id)
    return Put(f"{layout.task_dir(*ids, task.task_id.value)}/task.info", layout.frame(task))


def _save_run(state: State, framework: Framework, run: Run, task: TaskInfo) -> Effect:
    ops = executor_records(state, framework, run)
    return state.save(RunSaved(run.container_id), *ops, task_record(state, run, task))


def task_saved(state: State, now: float, what: TaskSaved, error: str | None) -> list[Effect]:
    """Further tasks of a running executor are on disk: the executor may have them."""
    run = state.runs.get(what.container_id)
    if run is None:
        return []
    effects: list[Effect] = []
    for task_id in what.task_ids:
        entry = run.tasks.get(task_id)
        if entry is None:
            continue
        entry.saved = True
        if error is not None and entry.state not in TERMINAL_STATES:
            framework = state.frameworks[run.framework_id]
            text = f"Task cannot be recorded in work_dir {state.settings.work_dir}: {error}"
            effects += endings.end_entry(
                state, now, run, entry, framework.dropped, "REASON_CONTAINER_LAUNCH_FAILED", text,
                "SOURCE_AGENT",
            )  # fmt: skip
    return effects + custom.deliver(run)


def run_saved(state: State, now: float, what: RunSaved, error: str | None) -> list[Effect]:
    """Go on with the launch; a task that could not be recorded is refused, the agent stays up."""
    run = state.runs.get(what.container_id)
    if run is None or run.phase != "SAVING":
        return []
    framework = state.frameworks[run.framework_id]
    if error is not None:
        return _unrecorded(state, now, framework, run, error)
    framework.on_disk = True
    if run.silent:
        run.phase = "OVER"
        return endings.forget(state, run)
    for entry in run.tasks.values():
        entry.saved = True
    if run.is_custom and run.terminating:
        return endings.executor_over(state, now, run)
    if not run.is_custom and run.only_task.kill is not None:
        return endings.killed_before_launch(state, now, run)
    process = executors.process_of(state, run)
    if process.command is not None and process.command.uris:
        run.phase = "FETCHING"
        user = executors.user_of(framework.info, process, state.settings)
        sandbox = executors.sandbox_of(state, run)
        return [Fetch(run.container_id, sandbox, user, process.command.uris)]
    return _launch(state, now, framework, run)


def _unrecorded(
    state: State, now: float, framework: Framework, run: Run, error: str
) -> list[Effect]:
    run.on_disk = False
    state.count("container_launch_errors")
    text = f"Task cannot be recorded in work_dir {state.settings.work_dir}: {error}"
    if run.is_custom:
        run.verdict = Verdict(framework.dropped, "REASON_CONTAINER_LAUNCH_FAILED", text)
        return endings.executor_over(state, now, run)
    refusal: executors.Refusal = (framework.dropped, "REASON_CONTAINER_LAUNCH_FAILED", text)
    return refuse(state, now, run, run.only_task, refusal)


def fetched(state: State, now: float, event: Fetched) -> list[Effect]:
    """All URIs are in the sandbox."""
    run = state.runs.get(event.container_id)
    if run is None or run.phase != "FETCHING":
        return []
    return _launch(state, now, state.frameworks[run.framework_id], run)


def _launch(state: State, now: float, framework: Framework, run: Run) -> list[Effect]:
    run.phase = "LAUNCHING"
    run.started_at = now
    effects: list[Effect] = [Launch(executors.run_spec(state, framework, run))]
    if run.is_custom:
        return effects + custom.started(state, now, run)
    starting = updates.make_status(state, now, run, run.only_task, "TASK_STARTING")
    return effects + updates.report(state, now, run, run.only_task, starting)


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
    if run.is_custom:
        if not run.terminating:  # else it was shut down, and the launch with it
            text = f"Failed to launch container: {error}"
            run.verdict = Verdict("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", text)
        return endings.executor_over(state, now, run)
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
    if run.is_custom:
        state.resized.add(run.container_id)  # tasks may have come while it was started
    if run.silent or run.is_custom:
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
