"""Runs of the Docker containerizer: the engine keeps them, the agent only looks on.

::

    launch ─▶ sandbox, `docker.logs` ─▶ [pull] create ─▶ start ─▶ inspect ─▶ Launched
    watch  ─▶ follow the log into the sandbox ─▶ it ended? inspect ─▶ rest of the log ─▶ Exited
                 └─ engine away: try again until it answers, then go on where we were
    restart of the agent ─▶ seen(): inspect; watch as above
    tidy   ─▶ own containers that are over are removed after --docker_remove_delay

No supervisor stands beside a container: the engine keeps its exit code and its log until the
container is removed, which only this module does, and the log is copied by position
(docker_logs.py). So an agent that is killed loses nothing, and an engine that ends only what it had
read of a program's output and not yet written to its log.

Ours are the containers with this work_dir's id in their label, and those that the original named
with this agent's id; no others are ever touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import signal
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mesostk.agent import checkpoint, docker_engine, sandbox
from mesostk.agent.docker_engine import Engine, EngineDown, EngineError, explain
from mesostk.agent.docker_logs import Copier, Skipper
from mesostk.agent.docker_reports import (
    LIVE_STATES,
    OWNER_LABEL,
    address_of,
    exited_of,
    finished_at,
    gone,
    is_live,
    launched_of,
    owned_name,
    run_of,
    statistics_of,
)
from mesostk.agent.docker_sessions import DockerStdio
from mesostk.agent.docker_spec import DockerPlan, name_of, with_secrets
from mesostk.agent.events import Exited, KillRun, Launched, LaunchFailed, RunSeen, RunSpec
from mesostk.agent.secrets import Secrets
from mesostk.base.config import Values
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.base.flagtext import decode_json
from mesostk.errors import ConfigError, MesostkError, WireError

T = TypeVar("T")

#: More starts at once make each slower and the last no sooner; measured on two engines.
MAX_STARTING = 4

#: Between looks at an engine that is away, or at a container whose log has ended before it has.
_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 2.0

#: For an engine to remove what a failed launch left.
_PATIENCE_S = 5.0

#: A full disk, or a task that replaced its own files: after these the end is told without the rest.
_TRIES_TO_COPY = 10

#: Threads that write output; each hand-over is a batch of lines.
_WRITERS = 2

_GONE = 404

#: Wait status of a container whose program was killed.
_KILLED = (128 + signal.SIGKILL) << 8

#: How often ended containers are looked for.
_TIDY_INTERVAL_S = 60.0

#: What the container runtime writes when the kernel does not run a program.
_NOT_RUN = re.compile(r"^(exec |standard_init_linux).*exec format error$")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided; times in seconds. `config` is a Docker config as JSON."""

    socket: str
    launch_timeout_s: float
    remove_delay_s: float
    kill_orphans: bool
    config: str | None = None
    log_bytes: int = 0


def options_of(values: Values) -> Options:
    """The options as the flags give them; raises ConfigError for a --docker_config that is none."""
    config = values.docker_config
    if config is not None:
        try:
            decode_json(config, dict[str, Any])
        except ValueError as error:
            raise ConfigError(
                f'--docker_config: {error}; expected {{"auths":{{…}}}} or file:///path'
            ) from error
    return Options(
        socket=values.docker_socket.removeprefix("unix://"),
        launch_timeout_s=values.executor_registration_timeout,
        remove_delay_s=values.docker_remove_delay,
        kill_orphans=values.docker_kill_orphans,
        config=config,
        log_bytes=values.container_log_size,
    )


class Container(msgspec.Struct, kw_only=True):
    """A container that is launched or watched. `ip` is its own address, None in network HOST."""

    container_id: str
    name: str
    copier: Copier
    ip: str | None = None
    work: asyncio.Task[None] | None = None
    is_launching: bool = False
    is_cancelled: bool = False


class DockerRuns:
    """Launches, watches, kills and recovers the docker runs of one agent."""

    def __init__(
        self,
        daemon: Daemon,
        feed: Callable[[Event], None],
        work_dir: Path,
        options: Options,
        secrets: Secrets,
    ) -> None:
        self._daemon = daemon
        self._feed = feed
        self._work_dir = work_dir
        self._options = options
        self._secrets = secrets
        self._engine = Engine(options.socket)
        self._starting = asyncio.Semaphore(MAX_STARTING)
        self._files = ThreadPoolExecutor(_WRITERS, thread_name_prefix="docker-files")
        self._unread: set[str] = set()
        self._ended_at: dict[str, float] = {}
        self._owner = ""
        self.runs: dict[str, Container] = {}

    async def start(self) -> None:
        """Find out the id of the work_dir, making one if it has none."""
        self._owner = await self._daemon.disk(_owner_of, self._work_dir)

    async def close(self) -> None:
        """Stop looking; the containers run on."""
        self._files.shutdown(wait=False, cancel_futures=True)
        await self._engine.close()

    def owns(self, container_id: str) -> bool:
        """Whether this run is a container of the engine's."""
        return container_id in self.runs

    # -- launching ---------------------------------------------------------------------------------

    def launch(self, spec: RunSpec, record: Path) -> None:
        """Start a run; the outcome is told by an event. `record` is where its log position goes."""
        container = Container(
            container_id=spec.container_id,
            name=name_of(spec.container_id),
            copier=Copier(self._work_dir / spec.sandbox, record, self._options.log_bytes),
            is_launching=True,
        )
        self.runs[spec.container_id] = container
        container.work = self._daemon.start(
            f"docker {spec.container_id}", self._launch(container, spec)
        )

    async def _launch(self, container: Container, spec: RunSpec) -> None:
        try:
            async with asyncio.timeout(self._options.launch_timeout_s):
                found = await self._start(container, spec)
        except TimeoutError:
            limit = self._options.launch_timeout_s
            why = f"it took longer than --executor_registration_timeout, which is {limit:g} s"
            await self._give_up(container, why)
        except asyncio.CancelledError:
            if not container.is_cancelled:
                raise  # the agent ends; its successor sees what became of it
            await self._give_up(container, "it was killed while it was launched")
        except (MesostkError, OSError) as error:
            await self._give_up(container, str(error))
        else:
            container.is_launching = False
            container.ip = address_of(found)
            self._feed(launched_of(container.container_id, found))
            await self._watch(container)

    async def _start(self, container: Container, spec: RunSpec) -> dict[str, Any]:
        plan = spec.docker
        assert plan is not None
        # In the thread in which the others of its group make this directory, too.
        await self._daemon.disk(sandbox.create_for, container.copier.sandbox, spec)
        await self._in_thread(self._prepare, container, spec)
        body = await self._in_thread(self._with_secrets, plan, spec)
        body["Labels"] = {**body["Labels"], OWNER_LABEL: self._owner}
        if plan.force_pull:
            await self._pull(container, plan, spec)
        try:
            await self._create(container.name, body, plan.home)
        except EngineError as error:
            if error.status != 404 or plan.force_pull:
                raise
            await self._pull(container, plan, spec)
            await self._create(container.name, body, plan.home)
        async with self._starting:
            await self._engine.start(container.name)
        return await self._engine.inspect(container.name)

    def _with_secrets(self, plan: DockerPlan, spec: RunSpec) -> dict[str, Any]:
        variables = self._secrets.variables(spec.secrets)
        # Mounted as they are, so whatever user the image has.
        placed = self._secrets.place(spec.container_id, spec.secrets, None, mounted=True)
        files = {path: str(file) for path, file in placed.items()}
        body = with_secrets(plan, variables, files, plan.inside)
        if plan.user is not None and spec.user is not None:
            body["User"], body["HostConfig"]["GroupAdd"] = sandbox.identity_of(spec.user)
        return body

    async def _create(self, name: str, body: Mapping[str, Any], home: str | None) -> None:
        async with self._starting:
            await self._engine.create(name, body, home)

    def _prepare(self, container: Container, spec: RunSpec) -> None:
        assert spec.docker is not None
        for folder in spec.docker.folders:
            sandbox.make_folder(container.copier.sandbox / folder, spec.user)
        container.copier.begin()

    def _credentials(self, image: str, sandbox_dir: Path, spec: RunSpec) -> str | None:
        """What the task brings as a secret, then what was fetched for it, then the agent's own."""
        secret = self._secrets.pull_configs(spec.secrets)
        texts = [(f"secret '{name}'", text) for name, text in secret.items()]
        texts += docker_engine.fetched_configs(sandbox_dir)
        if self._options.config is not None:
            texts.append(("--docker_config", self._options.config))
        return docker_engine.credentials(image, texts)

    async def _pull(self, container: Container, plan: DockerPlan, spec: RunSpec) -> None:
        folder = container.copier.sandbox
        auth = await self._in_thread(self._credentials, plan.image, folder, spec)
        with (folder / "stderr").open("a", buffering=1) as log:
            log.write(f"Pulling image '{plan.image}'\n")
            limit = self._options.launch_timeout_s
            await self._engine.pull(plan.image, auth, lambda text: print(text, file=log), limit)
        await self._in_thread(container.copier.begin)

    async def _give_up(self, container: Container, why: str) -> None:
        """Nothing of the container may stay: its task is about to be told as failed.

        An engine that is away or hangs is not waited for; `tidy` removes what it may have made.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._engine.remove(container.name)
        except (MesostkError, TimeoutError) as error:
            self._daemon.log.warning("Not removed yet", container=container.name, why=error)
        del self.runs[container.container_id]
        self._feed(LaunchFailed(container.container_id, why))

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        # Not the disk thread: a chatty container must not delay checkpoints.
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *args)

    # -- watching ----------------------------------------------------------------------------------

    async def _watch(self, container: Container) -> None:
        """Copy the output until the container has ended, whatever becomes of the engine."""
        pause, failures = _FIRST_PAUSE_S, 0
        while True:
            try:
                await self._copy(container, follow=True)
                ended = await self._ended_of(container)
                if ended is not None:
                    await self._copy(container, follow=False)
                    if ended.status == _KILLED and not ended.oom:
                        # The engine may hear of the kernel's kill only after the end.
                        ended = await self._ended_of(container) or ended
                    return self._conclude(container, await self._with_cause(container, ended))
            except EngineError as error:
                if error.status == _GONE:
                    return self._conclude(container, gone(container.container_id, container.name))
                self._daemon.log.warning("Watching", container=container.name, why=error)
            except EngineDown as error:
                if pause == _FIRST_PAUSE_S:
                    self._daemon.log.warning("Docker engine is away", why=error)
            except (OSError, WireError) as error:
                failures += 1
                self._daemon.log.error("Output not copied", run=container.container_id, why=error)
                if failures >= _TRIES_TO_COPY:
                    ended = await self._ended_if_up(container)
                    if ended is not None:
                        return self._conclude(container, ended)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_S)

    async def _with_cause(self, container: Container, ended: Exited) -> Exited:
        """Some engines start what cannot be run, and say so only in its stderr."""
        if ended.status == 0:
            return ended
        said = await self._in_thread(container.copier.last_error)
        cause = explain(said) if _NOT_RUN.search(said) else None
        return msgspec.structs.replace(ended, cause=cause)

    async def _copy(self, container: Container, *, follow: bool) -> None:
        copier = container.copier
        await self._in_thread(copier.resume)
        skipper = Skipper(copier.positions)
        frames = self._engine.logs(container.name, copier.positions.since, follow=follow)
        async with contextlib.aclosing(frames):
            async for some in frames:
                await self._in_thread(copier.take, some, skipper)

    async def _ended_of(self, container: Container) -> Exited | None:
        found = await self._engine.inspect(container.name)
        return None if is_live(found) else exited_of(container.container_id, found)

    async def _ended_if_up(self, container: Container) -> Exited | None:
        try:
            return await self._ended_of(container)
        except MesostkError:
            return None  # the next round hears of it, too

    def _conclude(self, container: Container, ended: Exited) -> None:
        del self.runs[container.container_id]
        self._unread.add(container.container_id)
        self._feed(ended)

    # -- ending ------------------------------------------------------------------------------------

    def kill(self, effect: KillRun) -> None:
        """End a run; of one that is still being launched, the launch."""
        container = self.runs.get(effect.container_id)
        if container is None:
            return
        if container.is_launching:
            container.is_cancelled = True
            if container.work is not None:
                container.work.cancel()
            return
        self._daemon.start(f"stop {container.name}", self._stop(container, effect.grace_s))

    async def _stop(self, container: Container, grace_s: float) -> None:
        try:
            if grace_s > 0:
                await self._engine.stop(container.name, math.ceil(grace_s))
            else:
                await self._engine.kill(container.name)
        except MesostkError as error:
            # The core kills again some seconds after the grace.
            self._daemon.log.warning("Not stopped yet", container=container.name, why=error)

    def over(self, container_id: str) -> None:
        """The run is fully told of: its container may go when its time has come."""
        self._unread.discard(container_id)

    # -- recovery ----------------------------------------------------------------------------------

    async def seen(
        self, container_id: str, agent_id: str, place: Path, record: Path
    ) -> RunSeen | None:
        """What became of a run that a former agent left; None if the engine knows nothing of it.

        One that has ended counts as alive until `resume`, by which its output is fetched first.
        """
        container = Container(
            container_id=container_id,
            name=name_of(container_id),
            copier=Copier(place, record, self._options.log_bytes),
        )
        launched: Launched | None = None
        try:
            found = await self._look_up(container, agent_id)
            if found is None or found["State"]["Status"] == "created":
                return None  # never started; `tidy` removes what there is
            launched = launched_of(container_id, found)
            container.ip = address_of(found)
        except MesostkError as error:
            self._daemon.log.warning("Taking it to be alive", run=container_id, why=error)
        self.runs[container_id] = container
        return RunSeen(alive=True, launched=launched)

    async def _look_up(self, container: Container, agent_id: str) -> dict[str, Any] | None:
        for name in (container.name, f"mesos-{agent_id}.{container.container_id}"):
            try:
                found = await self._engine.inspect(name)
            except EngineError as error:
                if error.status != _GONE:
                    raise
                continue
            container.name = name
            return found
        return None

    def resume(self, agent_id: str) -> None:
        """Watch what `seen` found, now that the core knows of it, and tidy up now and then."""
        for container in self.runs.values():
            if container.work is None:
                name = f"docker {container.container_id}"
                container.work = self._daemon.start(name, self._watch(container))
        self._daemon.start("docker tidy", self._tidy_for_ever(agent_id))

    async def _tidy_for_ever(self, agent_id: str) -> None:
        while True:
            try:
                await self.tidy(agent_id)
            except MesostkError as error:
                self._daemon.log.warning("Not tidied", why=error)
            await asyncio.sleep(_TIDY_INTERVAL_S)

    async def tidy(self, agent_id: str) -> None:
        """Remove this agent's containers that are nobody's run or have been over for long."""
        now = self._daemon.clock.wall()
        for listed in await self._engine.containers():
            name = owned_name(listed, self._owner, agent_id)
            if name is None or run_of(name) in self._unread or run_of(name) in self.runs:
                continue
            if listed["State"] in LIVE_STATES or listed["State"] == "created":
                if not self._options.kill_orphans:
                    continue
                self._daemon.log.warning("Ending unknown container", container=name)
            else:
                ended = self._ended_at.setdefault(name, await self._finished(name, now))
                if now - ended < self._options.remove_delay_s:
                    continue
            self._ended_at.pop(name, None)
            await self._engine.remove(name)

    async def _finished(self, name: str, otherwise: float) -> float:
        if name in self._ended_at:
            return self._ended_at[name]
        try:
            found = await self._engine.inspect(name)
        except EngineError:
            return otherwise  # gone meanwhile
        return finished_at(found, otherwise)

    # -- for others --------------------------------------------------------------------------------

    def address(self, container_id: str) -> str | None:
        """The container's own address; None where it has the host's."""
        container = self.runs.get(container_id)
        return container.ip if container is not None else None

    async def execute(self, container_id: str, argv: list[str], env: Mapping[str, str]) -> int:
        """Run a program in the container; returns its exit status."""
        pairs = [f"{name}={value}" for name, value in env.items()]
        return await self._engine.execute(self.runs[container_id].name, argv, pairs)

    async def session(
        self,
        container_id: str,
        argv: list[str],
        env: Mapping[str, str],
        user: str | None,
        *,
        tty: bool,
    ) -> DockerStdio:
        """Begin a program with streams in the container; raises EngineError or EngineDown."""
        name = self.runs[container_id].name
        return await DockerStdio.start(self._engine, name, argv, env, user, tty=tty)

    async def statistics(self, container_id: str) -> dict[str, float | int]:
        """What the container uses, named as in `usage.Statistics`; nothing if it cannot be read."""
        try:
            found = await self._engine.statistics(self.runs[container_id].name)
        except (MesostkError, KeyError) as error:
            self._daemon.log.warning("No statistics", run=container_id, why=error)
            return {}
        return statistics_of(found)


def _owner_of(work_dir: Path) -> str:
    """The id in `meta/docker_owner`, made when there is none. Blocks."""
    path = work_dir / "meta" / "docker_owner"
    try:
        known = path.read_text().strip()
    except FileNotFoundError:
        known = ""
    if not known:
        known = str(uuid.uuid4())
        checkpoint.replace(path, known.encode(), sync=True)
    return known
