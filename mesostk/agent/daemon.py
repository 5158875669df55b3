"""`mesos-agent`: the graph of the agent's objects, from flags to a registered agent.

::

    flags ─▶ settings ─▶ locks ─▶ HTTP open (503) ─▶ records read, launcher up, runs found
          ─▶ core told ─▶ READY ─▶ leader detected ─▶ link ─▶ tasks
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesostk.agent import (
    amounts,
    checkpoint,
    detect,
    events,
    flags,
    isolation,
    layout,
    operations,
    recovery,
)
from mesostk.agent.cgroup_limits import CgroupError
from mesostk.agent.cgroups import Cgroups
from mesostk.agent.cgroups import detect as detect_cgroups
from mesostk.agent.containers import Containers
from mesostk.agent.containers_api import ContainerCalls
from mesostk.agent.core import Agent
from mesostk.agent.disk import DirectoryLock, DiskQueue, read_records
from mesostk.agent.disk_watch import DiskWatch, Limits
from mesostk.agent.executor_http import ExecutorApi
from mesostk.agent.fetch_cache import FetchCache
from mesostk.agent.fetch_process import FetchProcesses
from mesostk.agent.fetcher import Fetcher
from mesostk.agent.gc import Collector, Policy
from mesostk.agent.guard import guard
from mesostk.agent.http import Endpoints
from mesostk.agent.link import MasterLink
from mesostk.agent.probing import Prober
from mesostk.agent.runs import Runs
from mesostk.agent.secrets import Secrets
from mesostk.agent.state import Settings, State
from mesostk.base import libprocess
from mesostk.base.client import Client
from mesostk.base.config import Values
from mesostk.base.core import Driver, Effect, Event, Performer, Put
from mesostk.base.daemon import Daemon
from mesostk.base.election import Detector
from mesostk.base.http import Server, make_app
from mesostk.base.systemd import Notifier
from mesostk.base.units import whole_number
from mesostk.base.zk import Zk, ZkUrl
from mesostk.errors import ConfigError, WireError
from mesostk.resources import conversions
from mesostk.resources.resources import Resources
from mesostk.wire import json
from mesostk.wire.mesos import MasterInfo

if TYPE_CHECKING:
    from mesostk.agent.docker import DockerRuns

#: Where run records are for root: on a tmpfs, so that a reboot forgets them.
ROOT_RUNTIME_DIR = "/var/run/mesos"

#: A launch goes through the disk thread twice while the loop is busy with updates; with the usual
#: 5 ms each hand-over of the interpreter could cost that much.
GIL_SWITCH_S = 0.0005


def main() -> None:
    """Entry point of `mesos-agent` and `mesos-slave`."""
    name = Path(sys.argv[0]).name
    # Whatever else Python was started with is no name that a message could use.
    prog = name if name in ("mesos-agent", "mesos-slave") else "mesos-agent"
    values = flags.agent_flags(prog).main(sys.argv[1:], os.environ)
    sys.exit(run(values, os.environ))


def run(values: Values, environ: Mapping[str, str]) -> int:
    """Run the agent until it ends; returns the exit code."""
    why = libprocess.refusal(environ)
    if why is not None:
        sys.stderr.write(f"mesos-agent: {why}\n")
        return 2
    daemon = Daemon("mesos-agent", notifier=Notifier.from_environ(environ, os.getpid()))
    daemon.log.set_level(values.logging_level)
    sys.setswitchinterval(GIL_SWITCH_S)
    return daemon.run(lambda d: build(d, values, environ))


async def build(daemon: Daemon, values: Values, environ: Mapping[str, str]) -> None:
    """Make and connect everything; the daemon runs on after this returns."""
    for warning in values.warnings:
        daemon.log.warning("Configuration", why=warning)
    wrong = flags.refusal(values)
    if wrong is not None:
        raise ConfigError(wrong)
    for name in flags.without_effect(values):
        daemon.log.warning("Ignoring flag", flag=name, why="it has no effect here")
    work_dir, runtime_dir = directories_of(values)
    for directory, flag in ((work_dir, "work_dir"), (runtime_dir, "runtime_dir")):
        lock = DirectoryLock(directory, flag)
        daemon.on_stop(f"lock of {flag}", lock.release)
    settings = await daemon.disk(detect.settings_of, values, environ)
    core = Agent(settings, random.Random(os.urandom(32)))  # noqa: S311 - seeded by the kernel
    shell = Shell(daemon, values, core.state, work_dir, runtime_dir)
    shell.drive(core)
    await shell.listen()
    await shell.recover()
    shell.watch_leader()
    daemon.ready(f"agent at {core.state.settings.ip}:{core.state.settings.port}")


def directories_of(values: Values) -> tuple[Path, Path]:
    """work_dir, and where the records of this boot are."""
    work_dir = Path(values.work_dir).absolute()
    if values.runtime_dir is not None:
        return work_dir, Path(values.runtime_dir).absolute()
    return work_dir, Path(ROOT_RUNTIME_DIR) if os.geteuid() == 0 else work_dir / "run"


class Shell:
    """All that is not pure: performs effects, tells events."""

    def __init__(
        self, daemon: Daemon, values: Values, state: State, work_dir: Path, runtime_dir: Path
    ) -> None:
        self._daemon = daemon
        self._values = values
        self._state = state
        self._work_dir = work_dir
        self._runtime_dir = runtime_dir
        self._driver: Driver[Agent] | None = None
        self._client = Client(f"mesos-agent/{state.settings.version}")
        self._disk = checkpoint.Disk(work_dir)
        self._queue = DiskQueue(daemon, self._disk, self._feed)
        self._link = MasterLink(daemon, self._client, self._feed, values.credential)
        kept = values.fetcher_cache_dir
        cache_dir = work_dir / "fetch" if kept is None else Path(kept).absolute() / "mesostk"
        cache = FetchCache(cache_dir, values.fetcher_cache_size)
        policy = Policy(
            delay_s=values.gc_delay,
            headroom=values.gc_disk_headroom,
            interval_s=values.disk_watch_interval,
        )
        self._collector = Collector(daemon, work_dir, policy, self._agent_id, self._hide)
        self.runs = Runs(
            daemon,
            self._feed,
            work_dir,
            runtime_dir,
            self._find_cgroups(),
            self._collector,
            Secrets(Path(values.secrets_dir), runtime_dir),
            enable_cfs=values.cgroups_enable_cfs,
        )
        self._fetcher = Fetcher(
            daemon,
            self._feed,
            work_dir,
            values.frameworks_home,
            values.fetcher_stall_timeout,
            cache,
            FetchProcesses(self.runs),
        )
        limits = Limits(
            interval_s=values.container_disk_watch_interval,
            enforce=values.enforce_container_disk_quota,
            log_bytes=values.container_log_size,
        )
        self._disk_watch = DiskWatch(daemon, state, self._feed, work_dir, limits)
        self._executors = ExecutorApi(state, self._feed)
        self._containers = Containers(daemon, state, self.runs, work_dir)
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        self._checks = Client(f"mesos-agent/{state.settings.version}", tls=trusting)
        self._prober = Prober(daemon, self._checks, self._feed, self._containers, self._docker)
        daemon.on_stop("checks", self._checks.close)
        daemon.on_stop("client", self._client.close)
        daemon.on_stop("launcher", self.runs.close)
        daemon.on_stop("fetcher", self._fetcher.close)

    def _feed(self, event: Event) -> None:
        assert self._driver is not None
        self._driver.feed(event)
        if isinstance(event, events.Exited):
            self._containers.parent_ended(event)

    def _agent_id(self) -> str:
        return self._state.agent_id.value if self._state.agent_id is not None else ""

    def _docker(self) -> DockerRuns | None:
        return self.runs.docker

    def _hide(self, sandbox: Path) -> None:
        self.runs.hide(sandbox)

    def _resize(self, effect: events.Resize) -> None:
        self.runs.resize(effect.container_id, lambda: self._amounts_of(effect.container_id))

    def _amounts_of(self, container_id: str) -> events.Amounts | None:
        run = self._state.runs.get(container_id)
        return amounts.of_executor(run) if run is not None else None

    def _find_cgroups(self) -> Cgroups | None:
        asked = self._state.settings.isolation
        limits = asked.limits if self._values.is_set("isolation") else frozenset[str]()
        launcher = self._values.launcher
        found: Cgroups | None = None
        how = "process groups, without limits"
        if launcher == "linux" or (launcher is None and os.geteuid() == 0):
            found, how = detect_cgroups(self._values.cgroups_root, asked.limits)
        self._daemon.log.info("Isolating", how=f"{how}; {isolation.described(asked)}")
        if found is None and launcher == "linux":
            raise ConfigError(f"--launcher=linux: {how}; use --launcher=posix to go without")
        missing = sorted(limits - (found.controllers() if found is not None else set()))
        if missing:
            raise ConfigError(
                f"--isolation={self._values.isolation}: no limits by {', '.join(missing)}: {how}"
            )
        if found is not None and self._values.cgroups_limit_swap and "memory" in asked.limits:
            try:
                found.limit_swap()
            except CgroupError as error:
                raise ConfigError(f"--cgroups_limit_swap: {error}; leave it out") from error
        return found

    # -- wiring ----------------------------------------------------------------------------------

    def drive(self, core: Agent) -> None:
        """Connect the core with what performs its effects."""
        table: dict[type[Effect], Performer] = {
            events.Checkpoint: self._queue.save,
            events.Connect: self._link.connect,
            events.Disconnect: self._link.disconnect,
            events.SendUp: self._link.send,
            events.Fetch: self._fetcher.fetch,
            events.CancelFetch: self._fetcher.cancel,
            events.Launch: self.runs.launch,
            events.KillRun: self.runs.kill,
            events.RunOver: self.runs.over,
            events.Resize: self._resize,
            events.Probe: self._prober.probe,
            events.Check: self._prober.check,
            events.SendToExecutor: self._executors.send,
            events.CloseExecutorStream: self._executors.close,
        }
        self._driver = self._daemon.drive(core, table)
        self._daemon.start("disk", self._queue.run())
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, self._feed, events.ShutdownRequested("SIGUSR1")
        )

    async def listen(self) -> None:
        """Open the port; most endpoints answer 503 until recovery is over."""
        app = make_app(
            self._daemon.log,
            self._daemon.metrics,
            in_thread=self._daemon.cpu,
            middlewares=(guard(self._values),),
        )
        endpoints = Endpoints(
            self._daemon,
            self._state,
            self.runs,
            self._values,
            self._executors,
            ContainerCalls(self._containers, self._values.http_heartbeat_interval),
            self._disk_watch,
        )
        endpoints.add_to(app)
        ip = self._values.ip if self._values.ip is not None else "0.0.0.0"  # noqa: S104 - as the original
        server = Server(app, ip, self._values.port)
        await server.start()
        self._daemon.on_stop("http", server.stop)
        self._daemon.on_stop("sessions", self._containers.close)
        if self._values.port == 0 and self._values.advertise_port is None:
            self._state.settings = replace(self._state.settings, port=server.port)
        self._daemon.log.info("Listening", ip=ip, port=server.port)

    # -- recovery --------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Read what a former agent left, find its runs, and tell the core."""
        boot = checkpoint.boot_identity()
        await self._daemon.disk(self._fetcher.clear_cache)
        files, latest = await self._daemon.disk(read_records, self._work_dir)
        found = recovery.read(files, latest, boot)
        check_reconfiguration(found, self._state.settings, self._values.reconfiguration_policy)
        for note in found.notes:
            self._daemon.log.note(note)
        if found.notes and self._values.strict and self._values.is_set("strict"):
            raise ConfigError(
                f"--strict: {len(found.notes)} records of {self._work_dir} cannot be read, as was "
                "logged; start with --no-strict to go on with what is whole"
            )
        repairs = list(found.repairs)
        if found.agent_id is not None:
            path = f"{layout.agent_dir(found.agent_id.value)}/slave.info"
            info = replace(self._state.agent_info(), id=found.agent_id)
            repairs.append(Put(path, layout.frame(info)))
        await self._daemon.disk(self._disk.apply, repairs)
        await self.runs.start()
        seen = await self.runs.seen(found.wanted)
        docker = await self._docker_runs(found)
        if docker is not None:
            seen |= await self._seen_by_engine(docker, found)
        # Told while this is on disk: a reboot between the two is seen as one by the next start.
        for event in found.events(seen):
            self._feed(event)
        for run in self._state.runs.values():
            place = layout.sandbox(
                self._agent_id(), run.framework_id, run.executor_id, run.container_id
            )
            resources = run.held if run.parent_id is None else run.executor.resources
            volumes = operations.mounts_of(resources, str(self._work_dir))
            self.runs.show(place, run.framework_id, run.executor_id, volumes)
        await self.runs.sweep(self._state.runs, self._runtime_dir)
        if docker is not None:
            docker.resume(self._agent_id())
        boot_record = Put(layout.BOOT_ID, boot.encode())
        await self._daemon.disk(self._disk.apply, (boot_record,))
        await self._daemon.disk(self._collector.add_old)
        self._daemon.start("gc", self._collector.run())
        self._daemon.start("disk usage", self._disk_watch.watch_usage())
        self._daemon.start("log rotation", self._disk_watch.rotate_output())
        if self._values.recover == "cleanup":
            self._feed(events.ShutdownRequested("--recover=cleanup"))

    async def _docker_runs(self, found: recovery.Found) -> DockerRuns | None:
        """The Docker containerizer, if it is wanted or has runs that still must be watched."""
        if "docker" not in self._state.settings.containerizers and not found.docker:
            return None
        # Imported here: the SDK costs 0.2 s and 20 MB.
        from mesostk.agent.docker import DockerRuns, options_of  # noqa: PLC0415

        options = options_of(self._values)
        docker = DockerRuns(self._daemon, self._feed, self._work_dir, options, self.runs.secrets)
        self._daemon.on_stop("docker", docker.close)
        await docker.start()
        self.runs.docker = docker
        return docker

    async def _seen_by_engine(
        self, docker: DockerRuns, found: recovery.Found
    ) -> dict[str, events.RunSeen]:
        agent = found.agent_id.value if found.agent_id is not None else ""
        seen: dict[str, events.RunSeen] = {}
        for run in found.docker:
            place = layout.sandbox(agent, run.framework_id, run.executor_id, run.container_id)
            record = self.runs.log_record(place)
            outcome = await docker.seen(run.container_id, agent, self._work_dir / place, record)
            if outcome is not None:
                seen[run.container_id] = outcome
        return seen

    # -- the master ------------------------------------------------------------------------------

    def watch_leader(self) -> None:
        """Have the core told who leads."""
        master = str(self._values.master)
        if not master.startswith("zk://"):
            self._feed(events.LeaderChanged(fixed_leader(master)))
            return
        try:
            url = ZkUrl.parse(master)
        except ConfigError as error:
            raise ConfigError(f"--master: {error}") from error
        zk = Zk(url, self._values.zk_session_timeout)
        zk.start()
        self._daemon.on_stop("zookeeper", zk.close)
        detector = Detector(zk, url.path, self._on_leader, self._daemon.log)
        self._daemon.start("detector", detector.run())

    def _on_leader(self, data: bytes | None) -> None:
        url: str | None = None
        if data is not None:
            try:
                url = leader_url(json.decode(data, MasterInfo))
            except WireError as error:
                self._daemon.log.error("Cannot read the leader's node", why=error)
        self._feed(events.LeaderChanged(url))


def leader_url(info: MasterInfo) -> str:
    """Where the master of a znode is reached; its IP comes from `address`, or byte by byte."""
    ip = info.address.ip if info.address is not None else None
    if ip is None:
        ip = ".".join(str(info.ip >> shift & 0xFF) for shift in (0, 8, 16, 24))
    port = info.address.port if info.address is not None else info.port
    return f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}"


def _is_port(text: str) -> bool:
    number = whole_number(text)
    return number is not None and 0 < number < 65_536


def fixed_leader(master: str) -> str:
    """The URL of `--master=host:port`; raises ConfigError for anything else."""
    host, colon, port = master.rpartition(":")
    if not colon or not host or "/" in master or not _is_port(port):
        raise ConfigError(
            f"--master={master}: expected zk://host:port,…/path, host:port or file:///path"
        )
    return f"http://{host}:{port}"


def check_reconfiguration(found: recovery.Found, settings: Settings, policy: str) -> None:
    """Refuse to go on under the old id with other resources; raises ConfigError with the remedy."""
    kept = Resources.of(found.kept.resources)
    left_out = conversions.with_kept(Resources.of(settings.resources), kept)[1]
    if left_out:
        raise ConfigError(
            f"--resources has no room any more for {left_out}, which is reserved or created on "
            "this agent; undo that, or unreserve and destroy it first"
        )
    if found.agent_info is None:
        return
    now = State(settings, random.Random(0)).agent_info()  # noqa: S311 - nothing is drawn
    why = detect.why_incompatible(found.agent_info, now, policy)
    if why is not None:
        raise ConfigError(
            f"the agent's {why}, which --reconfiguration_policy={policy} forbids; undo that, or "
            f"remove {settings.work_dir}/{layout.LATEST} to start as a new agent"
        )
