"""Performs what the core wants of runs: sandbox, cgroups, launcher, exits, and what they leave.

::

    Launch ─▶ sandbox, cgroups (disk thread) ─▶ launcher ─▶ Launched | LaunchFailed
    KillRun ─▶ launcher                          launcher.on_exit ─▶ cgroup removed ─▶ Exited
    RunOver ─▶ runtime records removed; sandbox and records after gc_delay (gc.py)
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mesostk.agent import sandbox
from mesostk.agent.cgroup_limits import CgroupError, Limits
from mesostk.agent.cgroups import Cgroups
from mesostk.agent.checkpoint import ExitRecord
from mesostk.agent.events import (
    Amounts,
    Exited,
    KillRun,
    Launch,
    Launched,
    LaunchFailed,
    RunOver,
    RunSeen,
    RunSpec,
    VolumeLink,
    VolumeMount,
)
from mesostk.agent.gc import Collector
from mesostk.agent.isolation import Shared
from mesostk.agent.launch import LauncherClient, Run
from mesostk.agent.launch_spec import LaunchFailed as LaunchRefused
from mesostk.agent.launch_spec import LaunchSpec
from mesostk.agent.sandbox import SandboxError
from mesostk.agent.secret_uses import SecretError
from mesostk.agent.secrets import Secrets
from mesostk.agent.shared_ipc import SharedIpc, SharedIpcError
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.base.files import VirtualFiles
from mesostk.errors import Unavailable

if TYPE_CHECKING:  # the SDK costs an agent that needs none of it 0.2 s and 20 MB
    from mesostk.agent.docker import DockerRuns

_MIB = 1 << 20

#: Why a run cannot be started on this host.
_REFUSALS = (LaunchRefused, SandboxError, CgroupError, SecretError, SharedIpcError)

#: Between changes of the limits of one container: executors may take hundreds of tasks a second.
_RESIZE_PAUSE_S = 0.05


class Runs:
    """The runs of this agent, as the outside world has them."""

    def __init__(
        self,
        daemon: Daemon,
        feed: Callable[[Event], None],
        work_dir: Path,
        runtime_dir: Path,
        cgroups: Cgroups | None,
        collector: Collector,
        secrets: Secrets,
        *,
        enable_cfs: bool,
    ) -> None:
        self._daemon = daemon
        self._feed = feed
        self._work_dir = work_dir
        #: Below it, what the agent makes itself holds no symbolic link but `latest`.
        self._real_work_dir = Path(os.path.realpath(work_dir))
        self._collector = collector
        self.secrets = secrets
        self._enable_cfs = enable_cfs
        self._starting: set[str] = set()
        self._orphans: set[str] = set()
        self._ended_early: dict[str, ExitRecord] = {}
        self._limits: dict[str, float] = {}
        self._resizing: dict[str, Callable[[], Amounts | None] | None] = {}
        #: Of containers that are none of the core's: told of their end instead of it.
        self.others: dict[str, Callable[[ExitRecord], None]] = {}
        #: So that it is shown before the first one.
        daemon.metrics.counter("containerizer/mesos/container_destroy_errors")
        self.cgroups = cgroups
        self.docker: DockerRuns | None = None
        self._shared_ipc = SharedIpc(runtime_dir)
        self.files = VirtualFiles()
        self.launcher = LauncherClient(runtime_dir, self._on_exit)
        self._launch_timer = daemon.metrics.timer("containerizer/launch")

    async def start(self) -> None:
        """Start the launcher; raises Unavailable if it cannot be."""
        await self.launcher.start()

    async def seen(self, container_ids: Iterable[str]) -> dict[str, RunSeen]:
        """What became of runs that a former agent left; live ones are watched again."""
        found: dict[str, RunSeen] = {}
        for container_id in container_ids:
            outcome = await self.launcher.reattach(container_id)
            if isinstance(outcome, Run):
                found[container_id] = RunSeen(alive=True)
            elif outcome is not None:
                ended = await self._conclude(container_id, outcome)
                found[container_id] = RunSeen(ended=ended)
        return found

    async def sweep(self, known: Iterable[str], runtime_dir: Path) -> None:
        """End runs that the records do not know, and forget those that are over.

        Only this agent's own are found: the runtime directory is no other's.
        """
        await self._daemon.disk(self.secrets.keep_only, list(known))
        for container_id in await self._daemon.disk(self._shared_ipc.held) - set(known):
            await self._release_ipc(container_id)
        containers = runtime_dir / "containers"
        names = await self._daemon.disk(_names_in, containers)
        for container_id in sorted(names - set(known)):
            outcome = await self.launcher.reattach(container_id)
            if not isinstance(outcome, Run):
                await self.destroy_cgroup(container_id)
                self.launcher.forget(container_id)
                continue
            self._daemon.log.warning("Ending unknown run", run=container_id)
            self._orphans.add(container_id)
            self.launcher.kill(outcome, 0.0)

    def log_record(self, sandbox_path: str) -> Path:
        """Where the position in the log of the container with that sandbox is recorded."""
        return self._work_dir / "meta" / sandbox_path / "docker.logs"

    # -- launching -------------------------------------------------------------------------------

    def launch(self, effect: Launch) -> None:
        """Start a run; the outcome is told by an event."""
        container_id = effect.spec.container_id
        if effect.spec.docker is not None:
            assert self.docker is not None
            spec = effect.spec
            self.show(spec.sandbox, spec.framework_id, spec.executor_id, spec.shared)
            self.docker.launch(effect.spec, self.log_record(effect.spec.sandbox))
            return
        self._starting.add(container_id)
        self._daemon.start(f"launch {container_id}", self._launch(effect.spec))

    async def _launch(self, spec: RunSpec) -> None:
        clock = self._daemon.clock
        started = clock.monotonic()
        try:
            request = await self._daemon.disk(self._prepare, spec)
            run = await self.launcher.launch(request)
        except (*_REFUSALS, Unavailable) as error:
            await self.destroy_cgroup(spec.container_id)
            self._starting.discard(spec.container_id)
            self._feed(LaunchFailed(spec.container_id, str(error)))
            return
        self._launch_timer.record(clock.monotonic() - started)
        volumes = (*spec.volumes, *spec.shared)
        self.show(spec.sandbox, spec.framework_id, spec.executor_id, volumes)
        self._limits[spec.container_id] = spec.amounts.mem_mib
        if spec.within is not None and spec.amounts.mem_limit_mib == math.inf:
            parent_id = spec.container_id.rpartition(".")[0]
            self._limits[parent_id] = spec.within.mem_mib
        self._starting.discard(spec.container_id)
        self._feed(Launched(spec.container_id, run.task_pid))
        early = self._ended_early.pop(spec.container_id, None)
        if early is not None:
            self._on_exit(spec.container_id, early)

    def _prepare(self, spec: RunSpec) -> LaunchSpec:
        directory = self._work_dir / spec.sandbox
        sandbox.create_for(directory, spec)
        persistent = [VolumeLink(v.container_path, v.source, own=True) for v in spec.volumes]
        placed = self.secrets.place(spec.container_id, spec.secrets, spec.user, mounted=False)
        files = [VolumeLink(path, str(file)) for path, file in placed.items()]
        sandbox.link_volumes(directory, (*spec.links, *persistent, *files), spec.user)
        sandbox.make_sources(directory, spec.mounts)
        request = LaunchSpec(
            container_id=spec.container_id,
            executable=spec.executable,
            argv=spec.argv,
            env={**spec.env, **self.secrets.variables(spec.secrets)},
            sandbox=directory,
            user=spec.user,
            rlimits=spec.rlimits,
            grace_s=spec.grace_s,
            namespaces=spec.own.namespaces,
            mounts=tuple((m.source, m.target, m.read_only) for m in spec.mounts),
            shm_mib=spec.own.shm_mib,
            no_new_privileges=spec.no_new_privileges,
            terminal=spec.terminal,
        )
        request = self._with_shared_ipc(request, spec.own.shared)
        if self.cgroups is None:
            return request
        within = self._limits_of(spec.within) if spec.within is not None else None
        own = self.cgroups.create(spec.container_id, self._limits_of(spec.amounts), within)
        return msgspec.structs.replace(
            request,
            cgroups=own.cgroups,
            supervisor_cgroups=own.supervisor_cgroups,
            oom_events=own.oom_events,
            oom_score_adj=spec.oom_score_adj,
        )

    def _with_shared_ipc(self, request: LaunchSpec, shared: Shared | None) -> LaunchSpec:
        """With what a task of a group has together with the others."""
        if shared is None:
            return request
        parent_id = request.container_id.rpartition(".")[0]
        mounts = request.mounts
        if shared.shm_mib is not None:
            place = self._shared_ipc.hold_shm(parent_id, shared.shm_mib)
            mounts = (*mounts, (place, "/dev/shm", False))  # noqa: S108 - the system's place
        ipc = self._shared_ipc.hold(parent_id)
        return msgspec.structs.replace(request, ipc=ipc, mounts=mounts)

    def _limits_of(self, amounts: Amounts) -> Limits:
        hard = amounts.mem_limit_mib
        return Limits(
            cpus=amounts.cpus,
            memory_bytes=int(amounts.mem_mib * _MIB),
            cpus_limit=amounts.cpus_limit,
            memory_limit_bytes=hard * _MIB if hard is not None else None,
            enable_cfs=self._enable_cfs,
        )

    def resize(self, container_id: str, ask: Callable[[], Amounts | None]) -> None:
        """Change the limits of a container, soon, to what `ask` says then; None for no change."""
        if self.cgroups is None:
            return
        is_running = container_id in self._resizing
        self._resizing[container_id] = ask
        if not is_running:
            self._daemon.start(f"resize {container_id}", self._resize(container_id))

    async def _resize(self, container_id: str) -> None:
        assert self.cgroups is not None
        done: Amounts | None = None
        while (ask := self._resizing[container_id]) is not None:
            self._resizing[container_id] = None
            amounts = ask()
            if amounts is not None and amounts != done:
                await self._apply(self.cgroups, container_id, amounts)
                done = amounts
            await asyncio.sleep(_RESIZE_PAUSE_S)
        del self._resizing[container_id]

    async def _apply(self, cgroups: Cgroups, container_id: str, amounts: Amounts) -> None:
        self._limits[container_id] = amounts.mem_mib
        try:
            await self._daemon.disk(cgroups.update, container_id, self._limits_of(amounts))
        except CgroupError as error:
            self._daemon.log.warning("Not resized", run=container_id, why=error)

    def show(
        self,
        path: str,
        framework_id: str,
        executor_id: str,
        volumes: Sequence[VolumeMount] = (),
    ) -> None:
        """Offer a sandbox, with the volumes in it, under the original's paths (spec §5.4)."""
        place, real = self._work_dir / path, self._real_work_dir / path
        if place.parent.name == "containers":
            self.files.attach_real([str(place)], real)
            place, real = place.parent.parent, real.parent.parent
        virtual = f"/frameworks/{framework_id}/executors/{executor_id}/runs/latest"
        names = (str(place), str(place.parent / "latest"), virtual)
        self.files.attach_real(names, real)
        for volume in volumes:
            for name in names:
                self.files.attach(f"{name}/{volume.container_path}", Path(volume.source))

    # -- ending ----------------------------------------------------------------------------------

    def kill(self, effect: KillRun) -> None:
        """Ask the supervisor, or the Docker engine, to end the run."""
        if self.docker is not None and self.docker.owns(effect.container_id):
            self.docker.kill(effect)
            return
        run = self.launcher.runs.get(effect.container_id)
        if run is None:
            self._daemon.log.info("Not killing", run=effect.container_id, why="it has ended")
            return
        try:
            self.launcher.kill(run, effect.grace_s)
        except OSError as error:
            # TERM was sent; only the grace could not be written, and that of the launch holds.
            self._daemon.log.warning("Killing with default grace", run=run.container_id, why=error)

    def _on_exit(self, container_id: str, record: ExitRecord) -> None:
        other = self.others.pop(container_id, None)
        if other is not None:
            other(record)
            return
        if container_id in self._starting:
            # It ended before `launch` returned: its start is told first.
            self._ended_early[container_id] = record
            return
        self._daemon.start(f"exit {container_id}", self._exit(container_id, record))

    async def _exit(self, container_id: str, record: ExitRecord) -> None:
        ended = await self._conclude(container_id, record)
        if container_id in self._orphans:
            self._orphans.discard(container_id)
            self.launcher.forget(container_id)
            return
        self._feed(ended)

    async def _conclude(self, container_id: str, record: ExitRecord) -> Exited:
        message, peak_mib = record.note, None
        if record.oom and self.cgroups is not None:
            message, peak_mib = await self._daemon.disk(self._out_of_memory, container_id)
        await self.destroy_cgroup(container_id)
        if record.left:
            self._daemon.log.error("Processes stay", run=container_id, count=record.left)
        return Exited(
            container_id,
            record.wait_status,
            failure=record.failure,
            killed=record.killed,
            oom=record.oom,
            peak_mib=peak_mib,
            message=message,
        )

    def _out_of_memory(self, container_id: str) -> tuple[str, float | None]:
        """A text of the limit that was hit, which for a task of a group is its executor's, and the
        most that was used, in MiB.

        Source of the text: spec §8.7.
        """
        assert self.cgroups is not None
        parent_id = container_id.rpartition(".")[0]
        limited = parent_id if parent_id in self._limits else container_id
        asked, peak = self._limits.get(limited), self.cgroups.memory_peak_bytes(limited)
        text = "Memory limit exceeded:"
        if asked is not None:
            text += f" Requested: {asked:g}MB"
        if peak is None:
            return text, asked  # at least: it did not suffice
        return f"{text} Maximum Used: {peak / _MIB:.0f}MB", peak / _MIB

    async def destroy_cgroup(self, container_id: str) -> None:
        """End and remove what is in the cgroups of a container, if it has any."""
        if self.cgroups is None:
            return
        try:
            # Not in the disk thread: it may wait seconds for the kernel.
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self.cgroups.destroy, container_id)
        except CgroupError as error:
            self._daemon.metrics.counter("containerizer/mesos/container_destroy_errors").value += 1
            self._daemon.log.error("Cgroup stays", run=container_id, why=error)

    def over(self, effect: RunOver) -> None:
        """Forget a run; its sandbox stays until its time has come."""
        self._limits.pop(effect.container_id, None)
        self.secrets.forget(effect.container_id)
        if self.docker is not None:
            self.docker.over(effect.container_id)
        self.launcher.forget(effect.container_id)
        if self.cgroups is not None and self.cgroups.exists(effect.container_id):
            # A default executor's: no process of its own has told of its end.
            cleaning = self.destroy_cgroup(effect.container_id)
            self._daemon.start(f"clean up {effect.container_id}", cleaning)
        if self._shared_ipc.is_held(effect.container_id):
            releasing = self._release_ipc(effect.container_id)
            self._daemon.start(f"release {effect.container_id}", releasing)
        self._collector.add_run(effect.framework_id, effect.executor_id, effect.container_id)

    async def _release_ipc(self, container_id: str) -> None:
        try:
            await self._daemon.disk(self._shared_ipc.release, container_id)
        except SharedIpcError as error:
            self._daemon.log.error("IPC namespace stays", run=container_id, why=error)

    def hide(self, path: Path) -> None:
        """Stop offering a sandbox that is removed."""
        real = str(path)
        attached = self.files.attached()
        hidden = [virtual for virtual, shown in attached.items() if shown == real]
        for virtual in attached:
            # The volumes in it go with it.
            if any(virtual == place or virtual.startswith(place + "/") for place in hidden):
                self.files.detach(virtual)

    async def close(self) -> None:
        """Stop watching; the runs go on."""
        await self.launcher.close()


def _names_in(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
