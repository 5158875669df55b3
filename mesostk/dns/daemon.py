"""`mesos-dns`: builds the graph of one server and runs it.

::

    config.json ─▶ open ports ─▶ Members (ZooKeeper) ─▶ Source ─▶ Naming ─▶ Answers ─▶ UDP, TCP
                                                                    ├─▶ Worker … (further processes)
                                                                    └─▶ Notifier ─▶ secondaries
The ports are open at once: until a master was heard, names of the domain are answered SERVFAIL, so
that a client asks its next server, and other names are passed on.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import psutil

from mesostk.base.client import Client
from mesostk.base.daemon import Daemon
from mesostk.base.http import Server
from mesostk.base.log import Log
from mesostk.base.systemd import Notifier as Systemd
from mesostk.base.zk import Zk, ZkUrl
from mesostk.dns import config as configuration
from mesostk.dns import flags
from mesostk.dns.assembly import make_core
from mesostk.dns.auth import Authorizer, tls_of
from mesostk.dns.config import Config
from mesostk.dns.forward import read_system_resolvers
from mesostk.dns.http import Api, make_application
from mesostk.dns.members import Members
from mesostk.dns.naming import Batch
from mesostk.dns.server import TcpServer, UdpSocket, open_sockets
from mesostk.dns.source import Settings, Source
from mesostk.dns.transfer import Notifier
from mesostk.dns.worker import Setup, Worker, summed
from mesostk.errors import ConfigError

#: How often it is looked whether what is known is too old.
_WATCH_S: Final = 1.0


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """The program; returns its exit code."""
    environ = os.environ if environ is None else environ
    try:
        line = flags.parse(sys.argv[1:] if argv is None else argv, environ.get("HOME"))
        if line.wants_help or line.wants_version:
            print(flags.HELP if line.wants_help else flags.VERSION)
            return 0
        loaded = configuration.load(line.config)
    except ConfigError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 1
    config = loaded.config
    if line.workers is not None:
        config = msgspec.structs.replace(config, workers=line.workers)
    log = Log("DEBUG" if line.verbosity else "INFO")
    for warning in loaded.warnings:
        log.warning("Configuration", warning=warning)
    for name in line.without_effect:
        log.warning("Flag has no effect", flag=name)
    daemon = Daemon("mesos-dns", log, notifier=Systemd.from_environ(environ, os.getpid()))
    return daemon.run(lambda daemon: MesosDns(daemon, config, line.verbosity).start())


def own_addresses(listener: str) -> tuple[str, ...]:
    """Addresses at which the server itself is reached: the listener, or all but loopback ones."""
    if listener not in ("0.0.0.0", "::"):  # noqa: S104 # compared
        return (listener,)
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name in ("AF_INET", "AF_INET6")
    ]
    return tuple(
        dict.fromkeys(
            ip for ip in found if "%" not in ip and not ip.startswith("127.") and ip != "::1"
        )
    )


class MesosDns:
    """The graph of one server."""

    def __init__(self, daemon: Daemon, config: Config, verbosity: int) -> None:
        self._daemon = daemon
        self._config = config
        self._verbosity = verbosity
        own = own_addresses(config.listener)
        resolvers = config.resolvers
        if config.external_on and not resolvers:
            mine = {*own, "127.0.0.1"} if config.port == 53 else set()
            resolvers = read_system_resolvers(mine)
            daemon.log.info("Resolvers of this host", resolvers=",".join(resolvers))
        self._setup = Setup(config, own, resolvers or ())
        # Ids of forwarded queries must not be guessed, so no seeded generator.
        self._rng = random.SystemRandom()
        self._core = make_core(config, own, resolvers or (), daemon.clock, self._rng)
        self._workers: list[Worker] = []
        self._source: Source | None = None

    async def start(self) -> None:
        """Open the ports, then follow the masters; returns once all is under way."""
        daemon, config, core = self._daemon, self._config, self._core
        client = Client("Mesos-DNS", tls=tls_of(config))
        daemon.on_stop("client", client.close)
        self._source = source = Source(
            client,
            self._source_settings(),
            core.naming,
            daemon.clock.monotonic,
            daemon.log,
            Authorizer(config, client, daemon.clock.wall).header,
        )
        core.naming.listeners.append(self._changed)
        if config.dns_on:
            await self._open_dns()
        if config.http_on:
            await self._open_http()
        self._show_figures(source)
        if config.zk:
            self._watch_zookeeper(source)
        daemon.start("source", source.run())
        daemon.start("hosts", source.resolve())
        daemon.start("schedulers", source.schedulers())
        daemon.start("staleness", self._watch_staleness(source))
        daemon.ready(f"{config.domain} on {config.listener}:{self.port}")

    #: The port that is open; differs from the configured one if that is 0.
    port = 0

    def _source_settings(self) -> Settings:
        config = self._config
        return Settings(
            masters=config.masters,
            scheme="https" if config.mesos_https_on else "http",
            refresh_s=float(config.refresh_seconds),
            state_timeout_s=float(config.state_timeout_seconds),
            event_stream=config.event_stream,
        )

    async def _open_dns(self) -> None:
        daemon, config, core = self._daemon, self._config, self._core
        udps, tcp = open_sockets(config.listener, config.port, config.workers)
        self.port = tcp.getsockname()[1]
        first, *others = udps
        for number, udp in enumerate(others, 1):
            worker = Worker(number, daemon.log)
            await worker.start(udp, self._setup, core)
            daemon.on_stop(f"worker {number}", worker.stop)
            daemon.start(f"worker {number}", worker.run())
            self._workers.append(worker)
        socket, server = UdpSocket(first, core.service), TcpServer(tcp, core.service)
        socket.start()
        await server.start()
        daemon.on_stop("udp", socket.stop)
        daemon.on_stop("tcp", server.stop)
        daemon.start("forwarding", core.service.run())
        notifier = Notifier(core.answers, config.notify, daemon.log, self._rng)
        self._notifier = notifier
        daemon.start("notify", notifier.run())

    _notifier: Notifier | None = None

    async def _open_http(self) -> None:
        daemon, config = self._daemon, self._config
        api = Api(config, self._core.zone, self._core.answers, self._health)
        app = make_application(api, daemon.log, daemon.metrics)
        server = Server(app, config.http_listener, config.http_port)
        await server.start()
        daemon.on_stop("http", server.stop)
        daemon.log.info("Serving HTTP", url=server.url)

    def _watch_zookeeper(self, source: Source) -> None:
        daemon = self._daemon
        url = ZkUrl.parse(self._config.zk)
        zk = Zk(url)
        zk.start()
        daemon.on_stop("zookeeper", zk.close)
        members = Members(zk, url.path, source.set_members, daemon.log)
        daemon.start("members", members.run())
        if self._config.zk_detection_timeout:
            daemon.start("detection", self._complain(source))

    async def _complain(self, source: Source) -> None:
        """Say so when no leader is found; the original ends, and takes what it knows with it."""
        await asyncio.sleep(self._config.zk_detection_timeout)
        if source.heard_at is None:
            self._daemon.log.error(
                "No leading master within ZkDetectionTimeout; check Zk",
                zk=ZkUrl.parse(self._config.zk).hosts,
            )

    # -- what is said about it -------------------------------------------------------------------

    def _changed(self, batch: Batch) -> None:
        if self._notifier is not None and batch.changes:
            self._notifier.changed()
        if self._verbosity >= 2:  # as the original's
            for change in batch.changes:
                self._daemon.log.debug("Changed", change=change)

    async def _watch_staleness(self, source: Source) -> None:
        limit = self._config.staleness_limit_seconds
        while True:
            await asyncio.sleep(_WATCH_S)
            if not limit or source.heard_at is None:
                continue
            fresh = source.staleness_s() <= limit
            if fresh != self._core.answers.is_usable:
                self._daemon.log.warning("Staleness limit", answering=fresh, limit_s=limit)
                self._core.naming.use(fresh)

    def _health(self) -> Mapping[str, Any]:
        source, answers = self._source, self._core.answers
        age = math.inf if source is None else source.staleness_s()
        return {
            "healthy": answers.is_usable,
            "leader": None if source is None else source.leader,
            "mode": "" if source is None else source.mode,
            "staleness_s": None if math.isinf(age) else round(age, 3),
            "serial": answers.serial,
        }

    def _show_figures(self, source: Source) -> None:
        metrics, zone, answers = self._daemon.metrics, self._core.zone, self._core.answers
        metrics.gauge("mesos_dns/staleness_s", source.staleness_s)
        metrics.gauge("mesos_dns/is_usable", lambda: float(answers.is_usable))
        metrics.gauge("mesos_dns/following_stream", lambda: float(source.mode == "stream"))
        metrics.gauge("mesos_dns/serial", lambda: float(answers.serial))
        metrics.gauge("mesos_dns/rrsets", lambda: float(len(zone)))
        metrics.gauge("mesos_dns/tasks", lambda: float(len(zone.tasks)))
        metrics.gauge("mesos_dns/agents", lambda: float(len(zone.agents)))
        metrics.gauge("mesos_dns/frameworks", lambda: float(len(zone.frameworks)))
        metrics.gauge("mesos_dns/forwarding", lambda: float(self._core.service.forwarder.under_way))
        metrics.source(lambda: summed(self._core, self._workers))


if __name__ == "__main__":
    sys.exit(main())
