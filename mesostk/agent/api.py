"""`POST /api/v1`: the agent's operator API. Source: spec §4.4, texts §15.2.

Everything that reads is here, what starts and ends containers in `containers_api`, what is about
resource providers and images in `providers`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from mesostk import MESOS_VERSION, __version__
from mesostk.agent import (
    negotiation,
    providers,
    registration,
    updates,
    usage,
    validation,
    views,
)
from mesostk.agent.containers_api import CALLS, ContainerCalls
from mesostk.agent.flags import shown
from mesostk.agent.runs import Runs
from mesostk.agent.state import Framework, Run, State
from mesostk.base.config import Values
from mesostk.base.daemon import Daemon
from mesostk.base.log_level import LogLevel
from mesostk.errors import Rejected
from mesostk.wire import agent_operator as wire
from mesostk.wire import operator
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    ContainerStatus,
    ExecutorID,
    FileInfo,
    Flag,
    FrameworkID,
    Metric,
    Task,
    TimeInfo,
    VersionInfo,
)
from mesostk.wire.statistics import ResourceStatistics

#: Takes the statistics of a run; blocks, for the disk thread.
Measure = Callable[[Run], Awaitable[usage.Statistics]]


class OperatorApi:
    """The endpoint."""

    def __init__(
        self,
        daemon: Daemon,
        state: State,
        runs: Runs,
        values: Values,
        measure: Measure,
        containers: ContainerCalls,
    ) -> None:
        self._containers = containers
        self._daemon = daemon
        self._state = state
        self._runs = runs
        self._values = values
        self._measure = measure
        self.log_level = LogLevel(daemon)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        if request.method != "POST":
            text = f"Expecting one of {{ 'POST' }}, but received '{request.method}'."
            headers = {"Allow": "POST"}
            return web.Response(status=405, text=f"405 Method Not Allowed. {text}", headers=headers)
        types = negotiation.of_body(request)
        if types.is_recordio:
            return await self._containers.attach_input(request, types)
        call = types.decode(await request.read())
        why = validation.call_error(call)
        if why is not None:
            raise Rejected(400, f"Failed to validate agent::Call: {why}")
        wanted = negotiation.of_answer(request)
        if call.type in CALLS:
            self._require_recovered()
            return await self._containers.handle(call, request)
        if call.type in providers.CALLS:
            self._require_recovered()
            providers.CALLS[call.type](self._state, call)
            return web.Response()
        answer = _READS.get(call.type if call.type is not None else "")
        if answer is None:
            return web.Response(status=501, text="501 Not Implemented.")
        if call.type not in _ANY_TIME:
            self._require_recovered()
        return wanted.answer(await answer(self, call))

    def _require_recovered(self) -> None:
        if not self._state.recovered:
            raise Rejected(503, "Agent has not finished recovery")

    # -- about the agent -------------------------------------------------------------------------

    async def health(self, _call: wire.Call) -> wire.Response:
        return wire.Response(type="GET_HEALTH", get_health=operator.Health(healthy=True))

    async def flags(self, _call: wire.Call) -> wire.Response:
        flags = tuple(Flag(name=n, value=v) for n, v in shown(self._values).items())
        return wire.Response(type="GET_FLAGS", get_flags=operator.Flags(flags=flags))

    async def version(self, _call: wire.Call) -> wire.Response:
        info = VersionInfo(version=MESOS_VERSION, git_tag=f"mesostk-{__version__}")
        return wire.Response(type="GET_VERSION", get_version=operator.Version(version_info=info))

    async def figures(self, _call: wire.Call) -> wire.Response:
        table = self._daemon.metrics.snapshot()
        metrics = tuple(Metric(name=name, value=value) for name, value in table.items())
        return wire.Response(type="GET_METRICS", get_metrics=operator.Metrics(metrics=metrics))

    async def logging_level(self, _call: wire.Call) -> wire.Response:
        level = operator.LoggingLevel(level=self.log_level.level)
        return wire.Response(type="GET_LOGGING_LEVEL", get_logging_level=level)

    async def set_logging_level(self, call: wire.Call) -> wire.Response:
        """Log in detail for a while, or no more; the flag's level returns by itself."""
        asked = call.set_logging_level
        assert asked is not None
        self.log_level.set(asked.level, asked.duration.nanoseconds / 1e9)
        return wire.Response()

    async def agent(self, _call: wire.Call) -> wire.Response:
        about = wire.Agent(agent_info=self._state.agent_info(), drain_config=self._state.drain)
        return wire.Response(type="GET_AGENT", get_agent=about)

    async def resource_providers(self, _call: wire.Call) -> wire.Response:
        return wire.Response(
            type="GET_RESOURCE_PROVIDERS", get_resource_providers=wire.ResourceProviders()
        )

    async def operations(self, _call: wire.Call) -> wire.Response:
        operations = operator.Operations(operations=tuple(self._state.operations.values()))
        return wire.Response(type="GET_OPERATIONS", get_operations=operations)

    # -- files -----------------------------------------------------------------------------------

    async def list_files(self, call: wire.Call) -> wire.Response:
        assert call.list_files is not None
        entries = await self._daemon.disk(self._runs.files.browse, call.list_files.path)
        infos = tuple(
            FileInfo(
                path=entry.path,
                nlink=entry.nlink,
                size=entry.size,
                mtime=TimeInfo(nanoseconds=int(entry.mtime * 1e9)),
                uid=entry.uid,
                gid=entry.gid,
            )
            for entry in entries
        )
        return wire.Response(type="LIST_FILES", list_files=operator.Files(file_infos=infos))

    async def read_file(self, call: wire.Call) -> wire.Response:
        asked = call.read_file
        assert asked is not None
        length = asked.length if asked.length is not None else -1
        size = await self._daemon.disk(self._runs.files.read, asked.path)
        piece = await self._daemon.disk(
            self._runs.files.read, asked.path, max(0, asked.offset), length
        )
        part = operator.FilePart(size=size.offset, data=piece.data)
        return wire.Response(type="READ_FILE", read_file=part)

    # -- what runs -------------------------------------------------------------------------------

    async def state(self, _call: wire.Call) -> wire.Response:
        whole = wire.State(
            get_tasks=tasks_of(self._state),
            get_executors=executors_of(self._state),
            get_frameworks=frameworks_of(self._state),
        )
        return wire.Response(type="GET_STATE", get_state=whole)

    async def tasks(self, _call: wire.Call) -> wire.Response:
        return wire.Response(type="GET_TASKS", get_tasks=tasks_of(self._state))

    async def executors(self, _call: wire.Call) -> wire.Response:
        return wire.Response(type="GET_EXECUTORS", get_executors=executors_of(self._state))

    async def frameworks(self, _call: wire.Call) -> wire.Response:
        return wire.Response(type="GET_FRAMEWORKS", get_frameworks=frameworks_of(self._state))

    async def containers(self, call: wire.Call) -> wire.Response:
        asked = call.get_containers if call.get_containers is not None else wire.GetContainers()
        found = []
        for run in self._state.live_runs():
            if run.phase != "RUNNING" or (run.parent_id is not None and not asked.show_nested):
                continue
            container = wire.Container(
                framework_id=FrameworkID(run.framework_id),
                executor_id=ExecutorID(run.executor_id),
                executor_name=run.executor.name,
                container_id=updates.container_id_of(run.container_id),
                container_status=views.container_view(run)["status"],
            )
            if not run.is_default:
                measured = msgspec.to_builtins(await self._measure(run))
                statistics = msgspec.convert(measured, ResourceStatistics)
                container = msgspec.structs.replace(container, resource_statistics=statistics)
            found.append(container)
        for name in self._containers.names(
            nested=asked.show_nested is True, standalone=asked.show_standalone is True
        ):
            container_id = updates.container_id_of(name)
            found.append(
                wire.Container(
                    container_id=container_id,
                    container_status=ContainerStatus(container_id=container_id),
                )
            )
        containers = wire.Containers(containers=tuple(found))
        return wire.Response(type="GET_CONTAINERS", get_containers=containers)


def tasks_of(state: State) -> wire.Tasks:
    """All tasks by how far they are."""
    lists: dict[str, list[Task]] = {"queued": [], "launched": [], "terminated": []}
    for framework in state.frameworks.values():
        for run in framework.runs.values():
            for entry in run.tasks.values():
                kind = "terminated" if entry.state in TERMINAL_STATES else "launched"
                kind = "queued" if entry.state == "TASK_STAGING" else kind
                lists[kind].append(registration.wire_task(state, run, entry))
    completed = [
        registration.wire_task(state, run, entry)
        for framework in _all(state)
        for run in (*framework.runs.values(), *framework.completed)
        for entry in (*run.completed, *(run.tasks.values() if run in framework.completed else ()))
    ]
    return wire.Tasks(
        queued_tasks=tuple(lists["queued"]),
        launched_tasks=tuple(lists["launched"]),
        terminated_tasks=tuple(lists["terminated"]),
        completed_tasks=tuple(completed),
    )


def executors_of(state: State) -> wire.Executors:
    """Executors that run and that ended."""
    return wire.Executors(
        executors=tuple(
            wire.Executor(executor_info=run.executor)
            for framework in state.frameworks.values()
            for run in framework.runs.values()
            if run.parent_id is None
        ),
        completed_executors=tuple(
            wire.Executor(executor_info=run.executor)
            for framework in _all(state)
            for run in framework.completed
        ),
    )


def frameworks_of(state: State) -> wire.Frameworks:
    """Frameworks that have runs here and that had."""
    return wire.Frameworks(
        frameworks=tuple(wire.Framework(framework_info=f.info) for f in state.frameworks.values()),
        completed_frameworks=tuple(
            wire.Framework(framework_info=f.info) for f in state.completed_frameworks
        ),
    )


def _all(state: State) -> list[Framework]:
    return [*state.frameworks.values(), *state.completed_frameworks]


#: Calls that are answered during recovery, too.
_ANY_TIME = frozenset(
    {"GET_HEALTH", "GET_FLAGS", "GET_VERSION", "GET_METRICS", "GET_LOGGING_LEVEL",
     "SET_LOGGING_LEVEL"}
)  # fmt: skip

_READS: dict[str, Callable[[OperatorApi, wire.Call], Awaitable[wire.Response]]] = {
    "GET_HEALTH": OperatorApi.health,
    "GET_FLAGS": OperatorApi.flags,
    "GET_VERSION": OperatorApi.version,
    "GET_METRICS": OperatorApi.figures,
    "GET_LOGGING_LEVEL": OperatorApi.logging_level,
    "SET_LOGGING_LEVEL": OperatorApi.set_logging_level,
    "LIST_FILES": OperatorApi.list_files,
    "READ_FILE": OperatorApi.read_file,
    "GET_STATE": OperatorApi.state,
    "GET_CONTAINERS": OperatorApi.containers,
    "GET_FRAMEWORKS": OperatorApi.frameworks,
    "GET_EXECUTORS": OperatorApi.executors,
    "GET_OPERATIONS": OperatorApi.operations,
    "GET_TASKS": OperatorApi.tasks,
    "GET_AGENT": OperatorApi.agent,
    "GET_RESOURCE_PROVIDERS": OperatorApi.resource_providers,
}
