"""Task groups: the default executor, without a process of its own (spec §3.5).

::

    RUN_GROUP ─▶ refused? all of its tasks are
              └▶ records of the executor and of every task ─▶ Saved ─▶ each task as a run of its
                                                   own, in container <executor's>.<its own>
    a task FAILED or KILLED, or could not be launched ─▶ the others of its group are killed
    the last task acknowledged ─▶ the executor ends, EXITED_EXECUTOR up

The agent supervises the tasks itself, as it does command tasks: no executor process per group, and
each task survives a restart of the agent by the same means.
"""

from __future__ import annotations

from msgspec.structs import replace

from mesostk.agent import custom, endings, executors, kills, layout, operations, tasks
from mesostk.agent.state import Framework, Run, State, TaskEntry, TaskKey
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Effect, Put, note
from mesostk.errors import WireError
from mesostk.wire.link import RunGroup
from mesostk.wire.mesos import TERMINAL_STATES, Resource, TaskInfo

#: Ends of a task that end its group: all but a good one. A restart of the agent within the launch
#: of a group leaves tasks that are dropped beside others that run.
_BREAKING: frozenset[str] = TERMINAL_STATES - {"TASK_FINISHED"}


class GroupSaved(WaitBase, frozen=True):
    """The records of a task group are on disk."""

    parent_id: str
    container_ids: tuple[str, ...]


def run_group(state: State, now: float, message: RunGroup) -> list[Effect]:
    """Take a task group on, whole or not at all."""
    info = message.framework
    if info.id is None or not message.task_group.tasks:
        return [note("Ignoring", level="ERROR", what="RUN_GROUP without framework id or tasks")]
    owner = info.id.value
    keys = [(owner, task.task_id.value) for task in message.task_group.tasks]
    if any(state.find(key) is not None or key in state.streams for key in keys):
        return [note("Ignoring", level="WARNING", what="RUN_GROUP of known tasks", tasks=keys)]
    framework = state.frameworks.setdefault(owner, Framework(info=info))
    executor_id = message.executor.executor_id.value
    kind = "CUSTOM" if message.executor.type == "CUSTOM" else "DEFAULT"
    why = framework.why_not_executor(executor_id, kind)
    if why is not None:
        return _answer_all(state, now, keys, why)
    if kind == "CUSTOM":
        return _give_to_custom(state, now, framework, message)
    executor = replace(message.executor, type=kind, framework_id=info.id)
    parent = framework.executor_run(executor_id)
    is_new = parent is None
    if parent is None:
        parent = Run(
            framework_id=owner, executor=executor, container_id=state.new_id(), phase="SAVING"
        )
        framework.add(parent)
    infos = [replace(task, executor=executor) for task in message.task_group.tasks]
    refusal = _refusal(state, framework, infos, parent, message.launch_executor, is_new=is_new)
    nested = [_nested_run(state, parent, task) for task in infos]
    for run in nested:
        run.group = nested[0].container_id
        framework.add(run)
        parent.nested[run.container_id] = run
    effects: list[Effect] = [
        note("Accepting", group=len(nested), framework=owner, executor=parent.executor_id)
    ]
    if refusal is not None:
        if is_new:
            parent.phase, parent.on_disk = "OVER", False
        for run in nested:
            run.on_disk = False
            effects += tasks.refuse(state, now, run, run.only_task, refusal)
        return effects
    for run in [parent, *nested]:
        state.runs[run.container_id] = run
    ops = [op for run in nested for op in _records(state, run)]
    if is_new:
        ops = [*tasks.executor_records(state, framework, parent), *ops]
    saved = GroupSaved(parent.container_id, tuple(run.container_id for run in nested))
    return [*effects, state.save(saved, *ops)]


def _answer_all(state: State, now: float, keys: list[TaskKey], why: str) -> list[Effect]:
    """Say of every task of a group that it is not run."""
    effects: list[Effect] = []
    for key in keys:
        effects += endings.answer_unknown(state, now, key, "REASON_TASK_GROUP_INVALID", why)
    return effects


def _give_to_custom(
    state: State, now: float, framework: Framework, message: RunGroup
) -> list[Effect]:
    """A task group for an executor of the framework's own, which is told of it as a whole."""
    infos = [replace(task, executor=message.executor) for task in message.task_group.tasks]
    run = framework.executor_run(message.executor.executor_id.value)
    is_new = run is None
    if run is None:
        run = custom.new_run(state, framework, infos[0])
    refusal = _refusal(state, framework, infos, run, message.launch_executor, is_new=is_new)
    entries = {task.task_id.value: TaskEntry(info=task) for task in infos}
    effects: list[Effect] = [note("Accepting", group=len(infos), executor=run.executor_id)]
    if refusal is not None:
        refused = Run(
            framework_id=run.framework_id,
            executor=run.executor,
            container_id=run.container_id if is_new else state.new_id(),
            phase="OVER",
            on_disk=False,
            tasks=entries,
        )
        framework.add(refused)
        if is_new:
            effects += endings.tell_exited(state, run, -1)
        for entry in entries.values():
            effects += tasks.refuse(state, now, refused, entry, refusal)
        return effects
    name = state.new_id()
    for entry in entries.values():
        entry.group = name
    run.tasks.update(entries)
    records = [tasks.task_record(state, run, task) for task in infos]
    if not is_new:
        state.resized.add(run.container_id)
        saved = tasks.TaskSaved(run.container_id, tuple(entries))
        return [*effects, state.save(saved, *records)]
    framework.add(run)
    state.runs[run.container_id] = run
    first = tasks.executor_records(state, framework, run)
    return [*effects, state.save(tasks.RunSaved(run.container_id), *first, *records)]


def _nested_run(state: State, parent: Run, task: TaskInfo) -> Run:
    return Run(
        framework_id=parent.framework_id,
        executor=parent.executor,
        container_id=f"{parent.container_id}.{state.new_id()}",
        phase="SAVING",
        tasks={task.task_id.value: TaskEntry(info=task)},
    )


def _records(state: State, run: Run) -> list[Put]:
    ids = (state.own_id.value, run.framework_id, run.executor_id, run.container_id)
    task = run.only_task.info
    return [
        Put(f"{layout.run_dir(*ids)}/group", layout.frame(run.group)),
        Put(f"{layout.task_dir(*ids, task.task_id.value)}/task.info", layout.frame(task)),
    ]


def _refusal(
    state: State,
    framework: Framework,
    infos: list[TaskInfo],
    parent: Run,
    expected: bool | None,
    *,
    is_new: bool,
) -> executors.Refusal | None:
    """Why none of the group is run: the first task that cannot be, or all together."""
    wanted: list[Resource] = list(parent.executor.resources) if is_new else []
    for task in infos:
        wanted += task.resources
        why = tasks.refusal_of(state, framework, task)
        if why is not None:
            return why
    dropped = framework.dropped
    if not is_new and parent.terminating:
        return (dropped, "REASON_EXECUTOR_TERMINATED", "Executor is shutting down")
    if is_new and expected is False:
        return (dropped, "REASON_EXECUTOR_TERMINATED", "Executor has ended")
    if len({task.task_id.value for task in infos}) != len(infos):
        return ("TASK_ERROR", "REASON_TASK_GROUP_INVALID", "Two tasks of the group have one id")
    try:
        why_not = operations.why_not_granted(state, wanted)
    except WireError as error:
        return ("TASK_ERROR", "REASON_TASK_GROUP_INVALID", f"Resources: {error}")
    return (dropped, *why_not) if why_not is not None else None


def group_saved(state: State, now: float, what: GroupSaved, error: str | None) -> list[Effect]:
    """Launch the tasks; a group that could not be recorded is refused."""
    effects: list[Effect] = []
    parent = state.runs.get(what.parent_id)
    if parent is not None and parent.phase == "SAVING":
        parent.phase, parent.started_at = "RUNNING", now
        if error is not None:
            parent.phase, parent.on_disk = "OVER", False
            state.runs.pop(parent.container_id)
    for container_id in what.container_ids:
        effects += tasks.run_saved(state, now, tasks.RunSaved(container_id), error)
    return effects


def settle(state: State, now: float) -> list[Effect]:
    """Kill what is left of groups of which a task failed or was killed."""
    effects: list[Effect] = []
    while state.unsettled:
        parent = state.runs.get(state.unsettled.pop())
        if parent is None:
            continue
        nested = list(parent.nested.values())
        broken = {
            run.group for run in nested if run.phase == "OVER" and run.only_task.state in _BREAKING
        }
        for run in nested:
            entry = run.only_task
            if run.group in broken and run.phase != "OVER" and entry.kill is None:
                grace_s = executors.grace_of(entry.info, state.settings)
                effects += kills.end(state, now, run, entry, "KILL", grace_s)
    return effects


def recovered(state: State) -> list[Effect]:
    """After a restart: look at each group; executors without tasks are over."""
    effects: list[Effect] = []
    for run in list(state.runs.values()):
        if run.is_default:
            state.unsettled.add(run.container_id)
            if not run.nested:
                effects += endings.default_over(state, run)
    return effects
