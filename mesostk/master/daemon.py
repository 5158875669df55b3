"""`mesos-master`: builds the graph of one master and runs it.

::

    flags ─▶ Server (listens) ─▶ Master core, Node ─▶ election
                                                        ├─ a detector tells who leads
                                                        └─ elected: own the store, load it, drive
                                                           the core; leadership lost = exit
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from mesostk.base import libprocess
from mesostk.base.config import Values
from mesostk.base.core import Effect, Performer
from mesostk.base.daemon import Daemon
from mesostk.base.election import MASTER_PREFIX, AlwaysLeader, Candidate, Detector
from mesostk.base.filestore import FileStore
from mesostk.base.http import Server, make_app
from mesostk.base.log import Log
from mesostk.base.metrics import PERCENTILES, Timer
from mesostk.base.shortcut import Shortcut
from mesostk.base.store import Store
from mesostk.base.system import system_figures
from mesostk.base.systemd import Notifier
from mesostk.base.zk import SessionState, Zk, ZkUrl
from mesostk.base.zkstore import ZkStore
from mesostk.errors import ConfigError, WireError
from mesostk.master import events, flags, whitelist
from mesostk.master.bodies import Bodies
from mesostk.master.core import Master
from mesostk.master.entry import Node
from mesostk.master.event_streams import EventStreams
from mesostk.master.figures import figures
from mesostk.master.guard import guard, needs_nothing
from mesostk.master.http import Routes
from mesostk.master.link import LinkApi
from mesostk.master.memorystore import MemoryStore
from mesostk.master.node_files import NodeFiles
from mesostk.master.observing import MeasuredStore, TimedCore
from mesostk.master.operator import OperatorApi
from mesostk.master.posts import Posts
from mesostk.master.scheduler import SchedulerApi
from mesostk.wire import json, link
from mesostk.wire.mesos import MasterInfo

#: The registry's directory, below the path of the election (ARCHITECTURE §5).
_STORE_DIRECTORY = "/mesostk"

_DISCOVERY_TIMEOUT_S = 10.0


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """The program; returns its exit code."""
    environ = os.environ if environ is None else environ
    values = flags.master_flags().main(sys.argv[1:] if argv is None else argv, environ)
    why = flags.refusal(values) or libprocess.refusal(environ)
    if why is not None:
        sys.stderr.write(f"mesos-master: {why}\n")
        return 2
    log = Log(values.logging_level)
    for warning in values.warnings:
        log.warning("Configuration", warning=warning)
    for name in flags.without_effect(values):
        log.warning("Flag has no effect", flag=name, value=values.as_strings().get(name))
    notifier = Notifier.from_environ(environ, os.getpid())
    daemon = Daemon("mesos-master", log, notifier=notifier)
    return daemon.run(lambda daemon: MasterDaemon(daemon, values).start())


class MasterDaemon:
    """The graph of one master."""

    def __init__(self, daemon: Daemon, values: Values) -> None:
        self._daemon = daemon
        self._values = values
        self._store: MeasuredStore | None = None
        self._node = node = Node(flags.shown(values), values.cluster, flags.acls_of(values))
        self._scheduler = SchedulerApi(node)
        self._link = LinkApi(node, values.max_body)
        self._bodies = Bodies(
            daemon.start, daemon.cpu, daemon.metrics.counter("master/http_cache_hits")
        )
        files = NodeFiles(node, daemon, values.external_log_file)
        self._streams = EventStreams(node, daemon.metrics, daemon.start)
        self._operator = OperatorApi(node, daemon.metrics, self._bodies, files, self._streams)

    async def start(self) -> None:
        """Listen, then stand for election; returns once both are under way."""
        daemon, values = self._daemon, self._values
        ip, hostname = await asyncio.to_thread(identity, values)
        app = make_app(
            daemon.log,
            daemon.metrics,
            max_body_bytes=values.max_body,
            in_thread=daemon.cpu,
            middlewares=[guard(values)],
        )
        Routes(
            self._node,
            daemon.metrics,
            self._scheduler,
            self._link,
            self._operator,
            self._bodies,
            Posts(self._node, self._operator),
        ).add_to(app)
        own = "0.0.0.0" if values.ip is None else values.ip  # noqa: S104 - no --ip means all addresses, as in the original
        server = Server(app, own, values.port, shortcut=self._shortcut())
        await server.start()
        daemon.on_stop("server", server.stop)
        port = server.port if values.advertise_port is None else values.advertise_port
        config = flags.config_of(values, ip=ip, port=port, hostname=hostname)
        master = Master(config, Random(os.urandom(32)))  # noqa: S311 - seeds ids, keeps no secret
        master.started_at = daemon.clock.wall()
        self._node.begin(master)
        self._measure(master)
        daemon.log.info("Listening", ip=server.ip, port=server.port, id=master.id)
        if values.whitelist is not None:
            told = whitelist.watch(
                values.whitelist,
                daemon.log,
                lambda names: self._node.feed(events.WhitelistRead(names)),
            )
            daemon.start("whitelist", told)
        self._stand()
        daemon.ready("standing for election")

    def _shortcut(self) -> Shortcut:
        """For what comes with every task, unless who sends it must prove itself."""
        takers = {"/api/v1/scheduler": self._scheduler.take, "/api/link": self._link.take}
        values = self._values
        return Shortcut(
            takers={
                prefix + path: take
                for path, take in takers.items()
                for prefix in ("", "/master")
                if needs_nothing(values, path)
            },
            max_body_bytes=values.max_body,
            requests=self._daemon.metrics.counter("http/requests"),
        )

    def _measure(self, master: Master) -> None:
        daemon, values = self._daemon, self._values
        daemon.metrics.source(
            lambda: figures(
                master,
                daemon.clock.wall(),
                elected=self._node.is_leading,
                per_framework=values.publish_per_framework_metrics,
            )
        )
        daemon.metrics.source(lambda: system_figures("system/"))
        commits = daemon.metrics.timer("store/commit")
        daemon.metrics.source(lambda: self._registrar(commits))

    def _registrar(self, commits: Timer) -> dict[str, float]:
        """What monitoring of the original reads of its registrar and replicated log."""
        zk, store = self._values.zk, self._store
        names = ("min", "max", *(name for name, _ in PERCENTILES))
        written = {**dict.fromkeys(names, 0.0), **commits.statistics()}
        return {
            "registrar/state_store_ms": commits.last_ms,
            **{f"registrar/state_store_ms/{key}": value for key, value in written.items()},
            "registrar/registry_size_bytes": 0.0 if store is None else store.size_bytes,
            "registrar/log/recovered": float(self._node.master.epoch is not None),
            "registrar/log/ensemble_size": 1
            if zk is None
            else ZkUrl.parse(zk).hosts.count(",") + 1,
        }

    # -- election -------------------------------------------------------------------------------

    def _stand(self) -> None:
        daemon, values, info = self._daemon, self._values, self._node.master.info
        if values.zk is None:
            store = self._alone()
            alone = AlwaysLeader(lambda: self._elected(store))
            daemon.start("election", alone.run())
            return
        url = ZkUrl.parse(values.zk)
        zk = Zk(url, values.zk_session_timeout)
        zk.start()
        daemon.on_stop("zookeeper", zk.close)
        store = ZkStore(zk, url.path + _STORE_DIRECTORY)
        candidate = Candidate(
            zk,
            url.path,
            MASTER_PREFIX,
            json.encode(info),
            lambda: self._elected(store),
            lambda reason: daemon.exit(f"leadership lost: {reason}"),
            daemon.log,
        )
        zk.listen(self._doubt)
        daemon.start("election", candidate.run())
        daemon.start("detector", Detector(zk, url.path, self._led_by, daemon.log).run())

    def _alone(self) -> Store:
        values = self._values
        if values.registry == "in_memory" or values.work_dir is None:
            return MemoryStore()
        return FileStore(Path(values.work_dir) / "registry.db", self._daemon.disk_pool)

    def _doubt(self, state: SessionState) -> None:
        """While the session may be lost, somebody else may come to lead: nothing is offered."""
        self._node.feed(events.LeadershipInDoubt(state is not SessionState.CONNECTED))

    def _led_by(self, data: bytes | None) -> None:
        """The detector's word; what is no MasterInfo leads nobody anywhere."""
        leader = None
        if data is not None:
            try:
                leader = readable(json.decode(data, MasterInfo))
            except WireError as error:
                self._daemon.log.error("Unreadable leader in ZooKeeper", error=error)
        self._node.leader = leader
        name = "nobody" if leader is None else f"{leader.hostname}:{leader.port}"
        self._daemon.log.info("Leader detected", leader=name)
        self._daemon.status(f"led by {name}")

    def _elected(self, store: Store) -> None:
        self._node.leader = self._node.master.info
        self._daemon.start("recovery", self._recover(store))

    async def _recover(self, plain: Store) -> None:
        """Own the store, read the registry, and let the core begin."""
        daemon, master = self._daemon, self._node.master
        store = self._store = MeasuredStore(plain)
        started = daemon.clock.monotonic()
        daemon.on_stop("store", store.close)
        epoch = await store.open(f"{master.info.hostname}:{master.info.port}")
        records = await store.load()
        daemon.metrics.timer("registrar/state_fetch").record(daemon.clock.monotonic() - started)
        driver = daemon.drive(TimedCore(master, daemon.metrics), self._performers(), store)
        self._node.driver = driver
        owned = link.ClusterEpoch(cluster_id=epoch.cluster_id, counter=epoch.counter)
        driver.feed(events.Elected(owned, records))
        daemon.freeze()
        daemon.status("leading")
        daemon.log.info(
            "Elected as the leading master",
            id=master.id,
            cluster=epoch.cluster_id,
            epoch=epoch.counter,
            records=len(records),
        )

    def _performers(self) -> dict[type[Effect], Performer]:
        return {
            events.SendToAgent: self._link.send,
            events.CloseAgentStream: self._link.close,
            events.SendToScheduler: self._scheduler.send,
            events.CloseSchedulerStream: self._scheduler.close,
            events.GreetOperator: self._streams.greet,
            events.SendToOperator: self._streams.send,
            events.CloseOperatorStream: self._streams.close,
            events.Publish: self._streams.publish,
            events.Reply: self._operator.reply,
        }


# -- who this is --------------------------------------------------------------------------------


def readable(leader: MasterInfo) -> MasterInfo:
    """A leader to whom a redirect can point. Raises WireError for any other."""
    address = leader.address
    for name in (leader.hostname, *(() if address is None else (address.hostname, address.ip))):
        if name is not None and not name.isprintable():
            raise WireError(f"{name!r} is the name of no host")
    return leader


def identity(values: Values) -> tuple[str, str]:
    """(IPv4 address, hostname) at which others reach this master; may ask DNS.

    Raises ConfigError for an address that is none.
    """
    ip = values.advertise_ip
    if ip is None:
        ip = values.ip
    if ip is None and values.ip_discovery_command is not None:
        ip = _discover(values.ip_discovery_command)
    if ip is None:
        ip = _own_address()
    try:
        ipaddress.IPv4Address(ip)
    except ValueError as error:
        raise ConfigError(f"{ip} is not an IPv4 address; correct --ip or --advertise_ip") from error
    if values.hostname is not None:
        return ip, values.hostname
    return ip, _name_of(ip) if values.hostname_lookup else ip


def _discover(command: str) -> str:
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=_DISCOVERY_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"--ip_discovery_command failed: {error}") from error
    return done.stdout.strip()


def _own_address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        # A host that does not know its own name is reachable on itself only.
        return "127.0.0.1"


def _name_of(ip: str) -> str:
    try:
        return socket.gethostbyaddr(ip)[0]
    except OSError:
        return ip


if __name__ == "__main__":
    sys.exit(main())
