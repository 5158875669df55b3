"""Containers that the operator API starts: beside a task, or on their own (spec §4.4).

::

    LAUNCH_NESTED_CONTAINER_SESSION ─▶ in the parent's sandbox and cgroups, with pipes or a terminal
    LAUNCH_(NESTED_)CONTAINER       ─▶ in a sandbox of its own, below the parent's or containers/
    exit ─▶ kept for WAIT until REMOVE, or until the parent has ended

They are no tasks: nobody is told of them, and they end with their parent or with the agent's
process, whose successor finds and ends what is left of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mesostk.agent import checkpoint, executors, sandbox
from mesostk.agent.amounts import amount_of
from mesostk.agent.cgroup_limits import Limits
from mesostk.agent.checkpoint import ExitRecord
from mesostk.agent.container import BACKLOG, Container, Output
from mesostk.agent.events import Exited
from mesostk.agent.launch_spec import LaunchFailed, LaunchSpec
from mesostk.agent.runs import Runs
from mesostk.agent.secret_uses import uses_of
from mesostk.agent.state import Run, State
from mesostk.agent.terminals import KeptTerminal, Kind, Stdio
from mesostk.base.daemon import Daemon
from mesostk.errors import MesostkError, Rejected
from mesostk.wire.mesos import CommandInfo, ContainerInfo, Resource

if TYPE_CHECKING:  # it brings the SDK, see runs.py
    from mesostk.agent.docker_sessions import DockerStdio

#: Ended containers that are remembered for WAIT.
MAX_ENDED = 1000

#: For a container that asks for none: on a busy host it would never run.
_LEAST_CPUS = 0.1

#: Last words to who is in a session while the agent stops, and for them to be said.
_FAREWELL = b"\r\nThe agent stops, and this session with it; the task goes on.\r\n"
_FAREWELL_S = 2.0

#: Of a container launched without a terminal. Status and text are what the original's clients know.
NOT_ATTACHABLE = "I/O switchboard server was disabled for this container"


class Containers:
    """Starts, ends and remembers them; waits for those of the core, too."""

    def __init__(self, daemon: Daemon, state: State, runs: Runs, work_dir: Path) -> None:
        self._daemon = daemon
        self._state = state
        self._runs = runs
        self._work_dir = work_dir
        self._found: dict[str, Container] = {}
        self._waiting: dict[str, list[asyncio.Future[int | None]]] = {}

    # -- looking up ------------------------------------------------------------------------------

    def get(self, container_id: str) -> Container | None:
        """One that this agent's process started."""
        return self._found.get(container_id)

    def live(self) -> list[Container]:
        """Those that run."""
        return [container for container in self._found.values() if not container.ended.done()]

    def is_known(self, container_id: str) -> bool:
        """Whether it runs here at all, for a task or by a call."""
        return container_id in self._found or container_id in self._state.runs

    def owner_of(self, container_id: str) -> Run | None:
        """The core's run that a container is, or is below."""
        text = container_id
        while text:
            run = self._state.runs.get(text)
            if run is not None and run.phase == "RUNNING":
                return run
            text = text.rpartition(".")[0]
        return None

    # -- starting --------------------------------------------------------------------------------

    async def launch(
        self,
        container_id: str,
        command: CommandInfo,
        info: ContainerInfo | None,
        resources: tuple[Resource, ...] = (),
        *,
        is_session: bool = False,
    ) -> Container | None:
        """Start a container; None if there is one of that id already. Rejected says why not."""
        if container_id in self._found or container_id in self._state.runs:
            return None
        parent_id = container_id.rpartition(".")[0]
        owner = self.owner_of(parent_id) if parent_id else None
        house = self._found.get(parent_id)
        if parent_id and owner is None and (house is None or house.ended.done()):
            raise Rejected(404, f"Container '{parent_id}' cannot be found (or is already killed)")
        loop = asyncio.get_running_loop()
        container = Container(
            container_id=container_id,
            sandbox=self._sandbox_of(container_id, owner, house, is_session=is_session),
            is_session=is_session,
            ended=loop.create_future(),
        )
        self._found[container_id] = container
        if owner is not None and owner.is_docker:
            starting = self._start_in_docker(container, owner, command, info)
        else:
            starting = self._start(container, owner, command, info, resources)
        work = asyncio.ensure_future(self._start_or_undo(container, starting))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            # Who asked is gone. What is half started is started, then ended.
            self._daemon.start(f"abandon {container_id}", self._abandon(container_id, work))
            raise
        return container

    async def _start_or_undo(
        self, container: Container, starting: Coroutine[Any, Any, None]
    ) -> None:
        try:
            await starting
        except (MesostkError, OSError, KeyError) as error:
            self._found.pop(container.container_id, None)
            self._runs.others.pop(container.container_id, None)
            if container.stdio is not None:
                container.stdio.close()
            await self._runs.destroy_cgroup(container.container_id)
            raise Rejected(400, f"Failed to launch container: {error}") from error

    async def _abandon(self, container_id: str, work: asyncio.Future[None]) -> None:
        with contextlib.suppress(Rejected):
            await work
        self.discard(container_id)

    def _sandbox_of(
        self, container_id: str, owner: Run | None, house: Container | None, *, is_session: bool
    ) -> Path:
        """A session's is that of its parent, `house` if a call started it, else `owner`."""
        if house is not None:
            parent = house.sandbox
        elif owner is not None:
            parent = self._work_dir / executors.sandbox_of(self._state, owner)
        else:
            parent = self._work_dir
        own = container_id.rpartition(".")[2]
        return parent if is_session else parent / "containers" / own

    async def _start(
        self,
        container: Container,
        owner: Run | None,
        command: CommandInfo,
        info: ContainerInfo | None,
        resources: tuple[Resource, ...],
    ) -> None:
        env, user = await self._environment(container, owner, command)
        tty = info is not None and info.tty_info is not None
        if not container.is_session:
            await self._daemon.disk(sandbox.create, container.sandbox, user)
        stdio: Stdio | None = None
        if container.is_session or tty:
            stdio = container.stdio = Stdio.open(tty, user)
            window = info.tty_info.window_size if tty and info and info.tty_info else None
            if window is not None:
                await stdio.resize(window.rows, window.columns)
        spec = self._spec(container, command, env, user, stdio)
        spec = msgspec.structs.replace(spec, beside=self._beside(owner, container.container_id))
        spec = await self._daemon.disk(self._isolated, spec, owner, resources)
        self._runs.others[container.container_id] = lambda record: self._exited(container, record)
        run = await self._runs.launcher.launch(spec)
        container.task_pid = run.task_pid
        if stdio is not None:
            stdio.handed_over()
            pumping = self._pump_to_end(container, stdio)
            container.pumping = self._daemon.start(f"output {container.container_id}", pumping)

    async def _start_in_docker(
        self, container: Container, owner: Run, command: CommandInfo, info: ContainerInfo | None
    ) -> None:
        """A session in a container of the engine's, which has its own environment."""
        docker = self._runs.docker
        if docker is None or not container.is_session:
            raise LaunchFailed("only sessions can be started in a Docker container")
        value = command.value if command.value is not None else ""
        argv = ["/bin/sh", "-c", value] if command.shell else list(command.arguments or (value,))
        own = command.environment.variables if command.environment is not None else ()
        env = {v.name: v.value for v in own if v.value is not None}
        terminal = info.tty_info if info is not None else None
        stdio = await docker.session(
            owner.container_id, argv, env, command.user, tty=terminal is not None
        )
        container.stdio = stdio
        if terminal is not None and terminal.window_size is not None:
            await stdio.resize(terminal.window_size.rows, terminal.window_size.columns)
        container.task_pid = await stdio.pid()
        name = f"session {container.container_id}"
        container.pumping = self._daemon.start(name, self._run_in_docker(container, stdio))

    async def _run_in_docker(self, container: Container, stdio: DockerStdio) -> None:
        await self._pump(container, stdio)
        code: int | None = None
        try:
            code = await stdio.exit_code()
        except MesostkError as error:
            why = str(error)
            self._daemon.log.warning("Exit unseen", session=container.container_id, why=why)
        container.ended.set_result(code << 8 if code is not None else None)
        await self._end_output(container)
        stdio.close()
        self._forget_oldest()

    async def _environment(
        self, container: Container, owner: Run | None, command: CommandInfo
    ) -> tuple[dict[str, str], str | None]:
        env = {"PATH": executors.DEFAULT_PATH, **self._state.settings.base_env}
        user: str | None = None
        if owner is not None:
            framework = self._state.frameworks[owner.framework_id]
            process = executors.process_of(self._state, owner)
            env = executors.environment(self._state, framework, owner, process)
            env |= await self._daemon.disk(self._runs.secrets.variables, uses_of(process))
            user = executors.user_of(framework.info, process, self._state.settings)
        env["MESOS_SANDBOX"] = str(container.sandbox)
        if command.user is not None and self._state.settings.switch_user:
            user = command.user
        own = command.environment.variables if command.environment is not None else ()
        env |= {v.name: v.value for v in own if v.value is not None}
        return env, user

    def _spec(
        self,
        container: Container,
        command: CommandInfo,
        env: dict[str, str],
        user: str | None,
        stdio: Stdio | None,
    ) -> LaunchSpec:
        value = command.value if command.value is not None else ""
        return LaunchSpec(
            container_id=container.container_id,
            executable="/bin/sh" if command.shell else value,
            argv=("sh", "-c", value) if command.shell else command.arguments or (value,),
            env=env,
            sandbox=container.sandbox,
            user=user,
            stdio=stdio.paths if stdio is not None else None,
            tty=stdio is not None and stdio.is_tty,
        )

    def _beside(self, owner: Run | None, container_id: str) -> tuple[int, int] | None:
        """Supervisor and task of the run whose namespaces a container shares."""
        if owner is None or owner.is_default or os.geteuid() != 0:
            return None  # without root there are none
        run = self._runs.launcher.runs.get(owner.container_id)
        if run is None or not run.task_pid:
            raise LaunchFailed(f"container '{container_id}' has nothing to be beside of")
        return run.pid, run.task_pid

    def _isolated(
        self, spec: LaunchSpec, owner: Run | None, resources: tuple[Resource, ...]
    ) -> LaunchSpec:
        """Within the limits of the parent, or its own. Blocks."""
        cgroups = self._runs.cgroups
        if cgroups is None:
            return spec
        if owner is not None and not owner.is_default:
            joined = cgroups.of(owner.container_id)
            return msgspec.structs.replace(
                spec,
                joined_cgroups=joined.cgroups,
                supervisor_cgroups=joined.supervisor_cgroups,
            )
        limits = Limits(
            cpus=max(_LEAST_CPUS, amount_of(resources, "cpus")),
            memory_bytes=int(amount_of(resources, "mem") * 2**20),
        )
        own = cgroups.create(spec.container_id, limits)
        return msgspec.structs.replace(
            spec,
            cgroups=own.cgroups,
            supervisor_cgroups=own.supervisor_cgroups,
            oom_events=own.oom_events,
        )

    # -- output ----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def kept(self, container_id: str, kind: Literal[b"o", b"i"]) -> AsyncIterator[Container]:
        """A run of the core with a terminal of its own, as long as somebody is attached to it.

        Rejected 500 if it has none, 404 if it is not there.
        """
        run = self._runs.launcher.runs.get(container_id)
        if run is None and not self.is_known(container_id):
            raise Rejected(404, f"Container '{container_id}' cannot be found")
        try:
            if run is None:
                raise FileNotFoundError
            terminal = await KeptTerminal.open(run.directory, kind)
        except OSError as error:
            raise Rejected(500, NOT_ATTACHABLE) from error
        ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        container = Container(
            container_id=container_id, sandbox=run.directory, is_session=False, ended=ended,
            stdio=terminal,
        )  # fmt: skip
        try:
            yield container
        finally:
            if container.pumping is not None:
                container.pumping.cancel()
            terminal.close()

    def show(self, container: Container) -> Output:
        """The output of a `kept` terminal from now on."""
        output = self.attach(container)
        if isinstance(container.stdio, KeptTerminal):
            pump = self._pump_kept(container, container.stdio)
            container.pumping = asyncio.ensure_future(pump)
        return output

    async def _pump_kept(self, container: Container, terminal: KeptTerminal) -> None:
        await self._pump(container, terminal)
        await self._end_output(container)

    async def _pump_to_end(self, container: Container, stdio: Stdio) -> None:
        """A program may close its output before it ends, and a session that is over is killed:
        the output is over with the program."""
        await self._pump(container, stdio)
        await asyncio.shield(container.ended)
        await self._end_output(container)

    async def _pump(self, container: Container, stdio: Stdio | DockerStdio | KeptTerminal) -> None:
        """Hand on what a container writes, as fast as its slowest reader takes it."""

        async def take(kind: Kind, data: bytes) -> None:
            if not container.outputs:
                container.backlog.append((kind, data))
            for queue in list(container.outputs):
                await queue.put((kind, data))

        await stdio.pump(take)

    async def _end_output(self, container: Container) -> None:
        container.is_drained = True
        for queue in list(container.outputs):
            await queue.put(None)

    def attach(self, container: Container) -> Output:
        """What it writes from now on, after the last of what nobody has read; None at the end."""
        queue: Output = asyncio.Queue(2 * BACKLOG)
        for piece in container.backlog:
            queue.put_nowait(piece)
        container.backlog.clear()
        if container.is_drained:
            queue.put_nowait(None)
        else:
            container.outputs.append(queue)
        return queue

    def detach(self, container: Container, queue: Output) -> None:
        """The reader is gone: it holds up nobody any more."""
        with contextlib.suppress(ValueError):  # drained meanwhile
            container.outputs.remove(queue)
        while not queue.empty():
            queue.get_nowait()

    # -- ending ----------------------------------------------------------------------------------

    def _exited(self, container: Container, record: ExitRecord) -> None:
        container.ended.set_result(record.wait_status)
        self._runs.launcher.forget(container.container_id)
        self._end_below(container.container_id)
        self._daemon.start(f"end {container.container_id}", self._clean_up(container))
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        ended = [name for name, one in self._found.items() if one.ended.done()]
        for name in ended[: max(0, len(ended) - MAX_ENDED)]:
            del self._found[name]

    async def _clean_up(self, container: Container) -> None:
        await self._runs.destroy_cgroup(container.container_id)
        if container.stdio is not None and container.pumping is not None:
            await container.pumping
            container.stdio.close()

    async def close(self) -> None:
        """The agent stops: tell who is in a session, end the sessions, let their output run out."""
        sessions = [one for one in self.live() if one.is_session]
        for container in sessions:
            for queue in container.outputs:
                if not queue.full():
                    queue.put_nowait(("STDERR", _FAREWELL))
            with contextlib.suppress(Rejected):  # it has ended meanwhile
                self.kill(container.container_id, signal.SIGKILL)
        waiting: list[asyncio.Future[Any]] = [one.ended for one in sessions]
        waiting += [one.pumping for one in sessions if one.pumping is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=_FAREWELL_S)

    def discard(self, container_id: str) -> None:
        """End a container that nobody waits for any more, and forget it."""
        with contextlib.suppress(Rejected):  # it has ended
            self.kill(container_id, signal.SIGKILL)
        self._found.pop(container_id, None)

    def kill(self, container_id: str, number: int) -> None:
        """Send a signal to the process group of a container; Rejected if there is none."""
        container = self._found.get(container_id)
        pid = 0
        if container is not None and not container.ended.done():
            pid = container.task_pid
        elif container_id in self._runs.launcher.runs:
            pid = self._runs.launcher.runs[container_id].task_pid
        if not pid:
            text = f"Container '{container_id}' cannot be found (or is already killed)"
            raise Rejected(404, text)
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(pid, number)

    async def wait(self, container_id: str) -> int | None:
        """The wait status once it has ended, None if nobody saw it; Rejected if there is none."""
        container = self._found.get(container_id)
        if container is not None:
            return await asyncio.shield(container.ended)
        run = self._state.runs.get(container_id)
        if run is None or run.phase == "OVER":
            raise Rejected(404, f"Container {container_id} cannot be found")
        ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(container_id, []).append(ended)
        try:
            return await ended
        finally:
            left = self._waiting.get(container_id, [])
            if ended in left:
                left.remove(ended)

    def parent_ended(self, event: Exited) -> None:
        """A run of the core is over: so is what was started beside it."""
        for waiting in self._waiting.pop(event.container_id, []):
            if not waiting.done():
                waiting.set_result(event.status)
        self._end_below(event.container_id)

    def _end_below(self, container_id: str) -> None:
        for name, container in list(self._found.items()):
            if not name.startswith(f"{container_id}."):
                continue
            if container.ended.done():
                del self._found[name]
                continue
            with contextlib.suppress(Rejected):
                self.kill(name, signal.SIGKILL)

    async def remove(self, container_id: str) -> None:
        """Forget an ended container and its sandbox; nothing happens where there is none."""
        container = self._found.get(container_id)
        run = self._state.runs.get(container_id)
        if (container is not None and not container.ended.done()) or (
            run is not None and run.phase != "OVER"
        ):
            raise Rejected(500, f"Container '{container_id}' has not terminated yet")
        if container is not None and not container.is_session:
            await self._daemon.disk(checkpoint.remove, container.sandbox)
        self._found.pop(container_id, None)
