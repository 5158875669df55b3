"""From the records a former agent left to the events its successor is told. Pure.

::

    files below meta/ ─▶ read ─▶ Found{runs to look for} ─▶ launcher says what became of each
                                   │                                   │ seen
                                   └──────────── events(seen) ◀────────┘
                    RecoveredAgent, RecoveredFramework…, RecoveredRun…, RecoveryDone

Records that are cut off or unreadable cost what was in them and nothing else: each is noted, what
is whole is used, and a task that runs is never ended because of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from mesostk.agent import docker_spec, executors, layout
from mesostk.agent.checkpoint import salvage
from mesostk.agent.events import (
    DiskOp,
    KillRecord,
    RecoveredAgent,
    RecoveredFramework,
    RecoveredRun,
    RecoveredTask,
    RecoveryDone,
    ResourcesRecord,
    RunSeen,
    UpdateRecord,
)
from mesostk.base.core import Event, Note, Put, note
from mesostk.errors import WireError
from mesostk.wire import json
from mesostk.wire.link import ClusterEpoch
from mesostk.wire.mesos import (
    AgentID,
    AgentInfo,
    DrainConfig,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    Operation,
    TaskID,
    TaskInfo,
)
from mesostk.wire.recordio import encode_record

T = TypeVar("T")

#: Says of a run that neither a process nor a status was found.
NOTHING = RunSeen()


class FoundTask(msgspec.Struct, kw_only=True):
    """The records of one task."""

    info: TaskInfo | None = None
    updates: tuple[UpdateRecord, ...] = ()
    kill: KillRecord | None = None
    was_accepted: bool = False


class FoundRun(msgspec.Struct, kw_only=True):
    """The records of one run that had not ended for everybody; `tasks` by id."""

    framework_id: str
    executor_id: str
    container_id: str
    executor: ExecutorInfo | None = None
    tasks: dict[str, FoundTask] = msgspec.field(default_factory=dict)
    group: str | None = None
    is_over: bool = False

    @property
    def parent_id(self) -> str | None:
        """Container id of the default executor of a task group's task."""
        return self.container_id.partition(".")[0] if "." in self.container_id else None

    @property
    def had_task(self) -> bool:
        """Whether a task of it was accepted."""
        return any(task.was_accepted for task in self.tasks.values())

    @property
    def told_executor(self) -> ExecutorInfo | None:
        """The custom executor that it is one of, by the records of its tasks: a readable one names
        it, and the only task of a command's run has the id that is its executor's, too."""
        infos = (task.info for task in self.tasks.values() if task.info is not None)
        named = [info.executor for info in infos if info.executor is not None]
        if not named and self.tasks.keys() <= {self.executor_id}:
            return None
        info = named[0] if named else ExecutorInfo(executor_id=ExecutorID(self.executor_id))
        return replace(info, type="CUSTOM", framework_id=FrameworkID(self.framework_id))

    @property
    def is_docker(self) -> bool:
        """By either record, should one be unreadable."""
        told = [self.executor.container] if self.executor is not None else []
        told += [task.info.container for task in self.tasks.values() if task.info is not None]
        return any(docker_spec.is_for_engine(container) for container in told)


class Found(msgspec.Struct, kw_only=True):
    """What `read` made of the files.

    `repairs` cut torn tails off and must be applied before anything is appended. `agent_info` is
    what the agent was when it registered, to be compared with what it is now.
    """

    agent_id: AgentID | None = None
    agent_info: AgentInfo | None = None
    epoch: ClusterEpoch | None = None
    drain: DrainConfig | None = None
    kept: ResourcesRecord = ResourcesRecord()
    rebooted: bool = False
    frameworks: dict[str, FrameworkInfo] = msgspec.field(default_factory=dict)
    runs: dict[str, FoundRun] = msgspec.field(default_factory=dict)
    repairs: list[DiskOp] = msgspec.field(default_factory=list)
    notes: list[Note] = msgspec.field(default_factory=list)

    @property
    def wanted(self) -> list[str]:
        """Container ids of the runs whose fate the launcher's records tell."""
        runs = self.runs.values()
        return [run.container_id for run in runs if not run.is_over and not run.is_docker]

    def _own_operations(self) -> tuple[Operation, ...]:
        """Outcomes to be told; what a former agent id had to tell is nobody's any more."""
        known = self.agent_id is not None
        mine = [op for op in self.kept.operations if op.latest_status.agent_id == self.agent_id]
        return tuple(mine) if known else ()

    @property
    def docker(self) -> list[FoundRun]:
        """Runs whose fate the Docker engine knows."""
        return [run for run in self.runs.values() if not run.is_over and run.is_docker]

    def events(self, seen: Mapping[str, RunSeen]) -> list[Event]:
        """What the core is told; `seen` by container id, absent meaning that nothing was found."""
        events: list[Event] = [
            RecoveredAgent(
                agent_id=self.agent_id,
                epoch=self.epoch,
                drain=self.drain,
                resources=self.kept.resources,
                operations=self._own_operations(),
            )
        ]
        if self.agent_id is None:
            return [*events, RecoveryDone(lost=len(self.notes))]
        runs = [run for run in self.runs.values() if self._is_owed(run, seen)]
        chosen = self._with_parents(_one_per_executor(runs, seen))
        owners = sorted({run.framework_id for run in chosen})
        events += [RecoveredFramework(self._framework(owner)) for owner in owners]
        events += [
            self._run_event(self.agent_id, run, seen.get(run.container_id, NOTHING))
            for run in chosen
        ]
        return [*events, RecoveryDone(lost=len(self.notes))]

    def _is_owed(self, run: FoundRun, seen: Mapping[str, RunSeen]) -> bool:
        """Whether the core must hear of it: not if it ended, or its task was never accepted."""
        if run.is_over:
            return False
        is_custom = run.executor is not None and run.executor.type == "CUSTOM"
        return run.had_task or is_custom or seen.get(run.container_id, NOTHING).alive

    def _with_parents(self, runs: list[FoundRun]) -> list[FoundRun]:
        """With each task of a group the default executor it belongs to, before it."""
        wanted = {run.container_id: run for run in runs}
        for run in runs:
            parent_id = run.parent_id
            if parent_id is None or parent_id in wanted:
                continue
            parent = self.runs.get(parent_id)
            if parent is None:
                parent = FoundRun(
                    framework_id=run.framework_id,
                    executor_id=run.executor_id,
                    container_id=parent_id,
                )
            wanted[parent_id] = parent
        return sorted(wanted.values(), key=lambda run: (run.framework_id, run.container_id))

    def _framework(self, framework_id: str) -> FrameworkInfo:
        info = self.frameworks.get(framework_id)
        if info is not None:
            return info
        # Unreadable. The rest of it comes with the next UPDATE_FRAMEWORK; to checkpoint is what
        # keeps its tasks alive.
        return FrameworkInfo(
            user="", name=framework_id, id=FrameworkID(framework_id), checkpoint=True
        )

    def _run_event(self, agent_id: AgentID, run: FoundRun, seen: RunSeen) -> RecoveredRun:
        executor = self._executor(agent_id, run)
        tasks = dict(run.tasks)
        if not tasks and executor.type is None:
            # Never written, but it runs. A command task has the id of its executor.
            tasks[run.executor_id] = FoundTask()
        return RecoveredRun(
            framework_id=run.framework_id,
            executor_info=executor,
            container_id=run.container_id,
            tasks=tuple(
                RecoveredTask(
                    info=_task(agent_id, task_id, task), updates=task.updates, kill=task.kill
                )
                for task_id, task in tasks.items()
            ),
            seen=seen,
            rebooted=self.rebooted,
            group=run.group,
        )

    def _executor(self, agent_id: AgentID, run: FoundRun) -> ExecutorInfo:
        """The run's executor; of a task group's task, that of its parent."""
        owner = run if run.parent_id is None else self.runs.get(run.parent_id, run)
        if owner.executor is not None:
            return owner.executor
        framework_id = FrameworkID(run.framework_id)
        if run.parent_id is not None or any(
            r.parent_id == run.container_id for r in self.runs.values()
        ):
            executor_id = ExecutorID(run.executor_id)
            return ExecutorInfo(type="DEFAULT", executor_id=executor_id, framework_id=framework_id)
        if owner.told_executor is not None:
            return owner.told_executor
        task_id, task = next(iter(run.tasks.items()), (run.executor_id, FoundTask()))
        return executors.command_executor(_task(agent_id, task_id, task), framework_id)


def _task(agent_id: AgentID, task_id: str, task: FoundTask) -> TaskInfo:
    """The task; of one that is unreadable, enough to tell of its end."""
    if task.info is not None:
        return task.info
    return TaskInfo(name="", task_id=TaskID(task_id), agent_id=agent_id)


def _one_per_executor(runs: list[FoundRun], seen: Mapping[str, RunSeen]) -> list[FoundRun]:
    """An executor has one run at a time; of more, which only damage can leave, the live one."""
    best: dict[tuple[str, str, str], FoundRun] = {}
    for run in runs:
        nested = run.container_id if run.parent_id is not None else ""
        key = (run.framework_id, run.executor_id, nested)
        other = best.get(key)
        if other is None or _rank(run, seen) > _rank(other, seen):
            best[key] = run
    return [best[key] for key in sorted(best)]


def _rank(run: FoundRun, seen: Mapping[str, RunSeen]) -> tuple[bool, int, str]:
    told = sum(len(task.updates) for task in run.tasks.values())
    return seen.get(run.container_id, NOTHING).alive, told, run.container_id


def read(files: Mapping[str, bytes], latest: str | None, boot: str) -> Found:
    """Take `files` (path below work_dir → bytes) apart.

    `latest` is what the link `meta/slaves/latest` points at, None without one; `boot` names the
    present boot.
    """
    found = Found()
    found.epoch = _record(found, files, layout.EPOCH, ClusterEpoch)
    kept = _record(found, files, layout.RESOURCES, ResourcesRecord)
    if kept is not None:
        found.kept = kept
        found.repairs += [*kept.making, *kept.removing]
    was = files.get(layout.BOOT_ID)
    found.rebooted = was is not None and was.decode(errors="replace").strip() != boot
    if latest is None:
        return found
    found.agent_id = AgentID(layout.unsegment(latest))
    home = layout.agent_dir(found.agent_id.value)
    found.agent_info = _record(found, files, f"{home}/slave.info", AgentInfo)
    found.drain = _record(found, files, f"{home}/drain.config", DrainConfig)
    for path in sorted(files):
        place = layout.place(path)
        if place is not None and place.agent == found.agent_id.value:
            _take(found, files, path, place)
    return found


def _take(found: Found, files: Mapping[str, bytes], path: str, place: layout.Place) -> None:
    if place.run is None or place.executor is None:
        if place.name == "framework.info":
            info = _record(found, files, path, FrameworkInfo)
            if info is not None and info.id is not None:
                found.frameworks[place.framework] = info
        return
    run = found.runs.get(place.run)
    if run is None:
        run = found.runs[place.run] = FoundRun(
            framework_id=place.framework, executor_id=place.executor, container_id=place.run
        )
    match place.name:
        case "executor.sentinel":
            run.is_over = True
        case "executor.info":
            run.executor = _record(found, files, path, ExecutorInfo)
        case "group":
            run.group = _record(found, files, path, str)
        case name if place.task is not None:
            _take_task(found, files, path, run.tasks.setdefault(place.task, FoundTask()), name)


def _take_task(
    found: Found, files: Mapping[str, bytes], path: str, task: FoundTask, name: str
) -> None:
    match name:
        case "task.info":
            task.was_accepted = True
            task.info = _record(found, files, path, TaskInfo)
        case "task.kill":
            task.kill = _record(found, files, path, KillRecord)
        case "task.updates":
            task.updates = _updates(found, files, path)


def _record(found: Found, files: Mapping[str, bytes], path: str, type: type[T]) -> T | None:
    data = files.get(path)
    if data is None:
        return None
    whole = salvage(data)
    why = whole.why
    if why is None and len(whole.records) != 1:
        why = f"holds {len(whole.records)} records instead of 1"
    if why is None:
        try:
            return json.decode(whole.records[0], type)
        except WireError as error:
            why = str(error)
    found.notes.append(note("Losing", level="ERROR", record=path, why=why))
    return None


def _updates(found: Found, files: Mapping[str, bytes], path: str) -> tuple[UpdateRecord, ...]:
    """The whole records; what follows a broken one may refer to it and is lost with it."""
    whole = salvage(files[path])
    records: list[UpdateRecord] = []
    good = 0
    why = whole.why
    for raw in whole.records:
        try:
            records.append(json.decode(raw, UpdateRecord))
        except WireError as error:
            why = f"record {len(records) + 1}: {error}"
            break
        good += len(encode_record(raw))
    if why is not None:
        found.notes.append(note("Losing", level="ERROR", record=path, why=why))
        found.repairs.append(Put(path, files[path][:good]))
    return tuple(records)
