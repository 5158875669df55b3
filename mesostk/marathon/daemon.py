"""`marathon`: builds the graph of one Marathon and runs it.

::

    flags ─▶ listen ─▶ stand for election (or lead at once, without --zk)
                           ├─ a detector tells who leads ─▶ proxy: everything goes to the leader
                           └─ elected ─▶ own the store, load it ─▶ core, driver, probes, events
                                         leadership or store lost ─▶ exit, systemd starts us anew
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from mesostk import __version__
from mesostk.base import flagtext
from mesostk.base.client import Client
from mesostk.base.config import Values
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.base.election import AlwaysLeader, Candidate, Detector, latch_prefix
from mesostk.base.filestore import FileStore
from mesostk.base.http import BasicAuth, Server, make_app
from mesostk.base.log import Log
from mesostk.base.store import Store
from mesostk.base.systemd import Notifier
from mesostk.base.units import whole_number
from mesostk.base.zk import Zk, ZkUrl
from mesostk.base.zkstore import ZkStore
from mesostk.errors import ConfigError
from mesostk.marathon import flags
from mesostk.marathon.api import Api
from mesostk.marathon.edge import Edge, add_slashes, error_response
from mesostk.marathon.leading import Leading
from mesostk.marathon.levels import Levels
from mesostk.marathon.proxy import LeaderProxy, ProxySettings
from mesostk.marathon.state import Settings, State
from mesostk.marathon.stream import EventHub
from mesostk.marathon.system import System

#: Below the path of `--zk`: candidates, as Curator spells them, and our own records.
LATCH_DIRECTORY: Final = "/leader-curator"
STORE_DIRECTORY: Final = "/mesostk"

#: The original goes half a second after the answer to `DELETE /v2/leader`.
ABDICATION_S: Final = 0.5

#: Exit codes of the original (spec/marathon §3.12).
LEADERSHIP_LOST: Final = 103
ABDICATED: Final = 105

LEVELS: Final = {"warn": "warning", "trace": "debug", "all": "debug", "fatal": "error"}


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """The program; returns its exit code."""
    environ = os.environ if environ is None else environ
    values = flags.flag_set().main(sys.argv[1:] if argv is None else argv, environ)
    try:
        settings = flags.settings_of(values)
        addresses = master_addresses(values.master)
    except ConfigError as error:
        sys.stderr.write(f"marathon: {error}\n")
        return 2
    level = values.logging_level.lower()
    log = Log(LEVELS.get(level, level))
    for warning in values.warnings:
        log.warning("Configuration", warning=warning)
    for name in flags.ignored(values):
        log.warning("Flag has no effect", flag=name)
    notifier = Notifier.from_environ(environ, os.getpid())
    daemon = Daemon("marathon", log, notifier=notifier)
    return daemon.run(lambda daemon: MarathonDaemon(daemon, values, settings, addresses).start())


def master_addresses(master: str | None) -> tuple[str, ...]:
    """`host:port` of masters told by flag; empty for a ZooKeeper URL; ConfigError for neither."""
    if master is None:
        raise ConfigError("--master is required: host:port, or zk://host:2181/mesos")
    if master.startswith("zk://"):
        try:
            ZkUrl.parse(master)
        except ConfigError as error:
            raise ConfigError(f"--master: {error}") from error
        return ()
    found = []
    for address in master.removeprefix("http://").rstrip("/").split(","):
        host, colon, port = address.strip().rpartition(":")
        if not colon:
            host, port = address.strip(), "5050"
        number = whole_number(port)
        if not host or number is None or not 0 < number < 65_536:
            raise ConfigError(f"--master: {address!r} is not host:port")
        found.append(f"{host}:{port}")
    return tuple(found)


class MarathonDaemon:
    """The graph of one Marathon: a standby until it is elected, then the leader to its end."""

    def __init__(
        self, daemon: Daemon, values: Values, settings: Settings, masters: tuple[str, ...]
    ) -> None:
        self._daemon = daemon
        self._values = values
        self._settings = settings
        self._masters = masters
        self._me = ""
        self._leader: str | None = None
        self._leading: Leading | None = None
        self._api = Api(self._state, self._feed)

    async def start(self) -> None:
        """Listen, then stand for election; returns once both are under way."""
        daemon, values = self._daemon, self._values
        app = make_app(
            daemon.log,
            daemon.metrics,
            error_response,
            max_body_bytes=values.max_body_bytes,
            in_thread=daemon.cpu,
            compress=values.http_compression,
        )
        server = Server(app, values.http_address, values.http_port, "--http_address", "--http_port")
        self._me = f"{self._settings.hostname}:{server.port}"
        self._add_routes(app)
        await server.start()
        daemon.on_stop("server", server.stop)
        daemon.log.info("Listening", ip=server.ip, port=server.port, me=self._me)
        self._stand()
        daemon.ready("standing for election")

    # -- HTTP -----------------------------------------------------------------------------------

    def _add_routes(self, app: web.Application) -> None:
        values = self._values
        proxy = LeaderProxy(
            self._me,
            lambda: self._leader,
            ProxySettings(
                values.leader_proxy_connection_timeout / 1000,
                values.leader_proxy_read_timeout / 1000,
                values.leader_proxy_max_open_connections,
            ),
        )
        self._daemon.on_stop("proxy", proxy.close)
        origins = tuple(
            origin.strip()
            for origin in (values.access_control_allow_origin or "").split(",")
            if origin.strip()
        )
        edge = Edge(
            f"http://{self._me}",
            lambda: self._leading is not None,
            lambda: self._leading is not None and self._leading.is_ready,
            proxy.forward,
            basic_auth(values),
            origins,
            values.http_max_concurrent_requests,
        )
        edge.add_to(app)
        self._api.add_to(app)
        System(
            values,
            self._daemon.metrics,
            edge,
            self._hub,
            self._state,
            self._api.asker,
            lambda: self._leader,
            self._abdicate,
        ).add_to(app)
        Levels(self._daemon.log).add_to(app)
        add_slashes(app)

    def _state(self) -> State:
        assert self._leading is not None  # the edge forwards everything before
        return self._leading.core.state

    def _feed(self, event: Event) -> None:
        assert self._leading is not None  # as above
        self._leading.feed(event)

    def _hub(self) -> EventHub:
        assert self._leading is not None
        assert self._leading.hub is not None
        return self._leading.hub

    def _abdicate(self) -> None:
        self._daemon.log.info("Abdicating", why="DELETE /v2/leader")
        asyncio.get_running_loop().call_later(
            ABDICATION_S, self._daemon.exit, "leadership abdicated", ABDICATED
        )

    # -- election -------------------------------------------------------------------------------

    def _stand(self) -> None:
        daemon, values = self._daemon, self._values
        if values.zk is None:
            self._leader = self._me
            path = Path(values.state_dir) / "marathon.db"
            store = FileStore(path, daemon.disk_pool)
            daemon.start("election", AlwaysLeader(lambda: self._elected(store, None)).run())
            return
        url = ZkUrl.parse(values.zk)
        zk = Zk(url, values.zk_session_timeout / 1000)
        zk.start()
        daemon.on_stop("zookeeper", zk.close)
        latch = url.path + LATCH_DIRECTORY
        zk_store = ZkStore(zk, url.path + STORE_DIRECTORY)
        if not values.ha:
            daemon.start("election", self._lead_alone(zk_store, zk))
            return
        candidate = Candidate(
            zk,
            latch,
            latch_prefix(str(uuid.uuid4())),
            self._me.encode(),
            lambda: self._elected(zk_store, zk),
            lambda reason: daemon.exit(f"leadership lost: {reason}", LEADERSHIP_LOST),
            daemon.log,
        )
        daemon.start("election", candidate.run())
        daemon.start("leader", Detector(zk, latch, self._led_by, daemon.log).run())

    async def _lead_alone(self, store: Store, zk: Zk) -> None:
        """`--disable_ha`: nobody else stands; the store's fence still keeps two from writing."""
        self._leader = self._me
        await zk.connected(self._values.zk_timeout / 1000)
        self._elected(store, zk)

    def _led_by(self, data: bytes | None) -> None:
        self._leader = None if data is None else data.decode(errors="replace")
        if self._leader is not None and not (self._leader.isprintable() and self._leader.strip()):
            self._daemon.log.error("Unreadable leader in ZooKeeper", data=self._leader[:200])
            self._leader = None
        self._daemon.log.info("Leader detected", leader=self._leader)
        self._daemon.status(f"led by {self._leader}")

    def _elected(self, store: Store, zk: Zk | None) -> None:
        daemon, values = self._daemon, self._values
        client = Client(f"marathon/{__version__}")
        daemon.on_stop("client", client.close)
        self._leading = Leading(
            daemon,
            self._settings,
            client,
            self._masters,
            authorization(values),
            values.max_concurrent_marathon_health_checks,
            values.event_stream_max_outstanding_messages,
            values.http_event_callback_slow_consumer_timeout / 1000,
        )
        daemon.start("recovery", self._leading.begin(store, self._me, self._api))
        if not self._masters:
            self._detect_master(self._leading, zk)

    def _detect_master(self, leading: Leading, zk: Zk | None) -> None:
        """Watch who leads the masters; over the session we have, if it is to the same servers."""
        daemon = self._daemon
        url = ZkUrl.parse(self._values.master)
        if zk is None or zk.url.at(url.path) != url:
            zk = Zk(url, self._values.zk_session_timeout / 1000)
            zk.start()
            daemon.on_stop("zookeeper of the masters", zk.close)
        detector = Detector(zk, url.path, leading.scheduler.set_leader, daemon.log)
        daemon.start("master detector", detector.run())


def basic_auth(values: Values) -> BasicAuth | None:
    """The check of `--http_credentials`; ConfigError unless it is user:password."""
    if values.http_credentials is None:
        return None
    user, colon, password = str(values.http_credentials).partition(":")
    if not user or not colon or not password:
        raise ConfigError("--http_credentials must be user:password")
    return BasicAuth({user: password}, values.http_realm)


def authorization(values: Values) -> str | None:
    """The header by which this framework proves its principal to the master."""
    principal = values.mesos_authentication_principal
    secret = values.mesos_authentication_secret
    if values.mesos_authentication_secret_file is not None:
        if secret is not None:
            raise ConfigError("give --mesos_authentication_secret or …_secret_file, not both")
        path = Path(values.mesos_authentication_secret_file)
        try:
            secret = flagtext.read(path)
        except ConfigError as error:
            raise ConfigError(f"--mesos_authentication_secret_file: {error}") from error
    if principal is None or secret is None:
        return None
    return "Basic " + base64.b64encode(f"{principal}:{secret}".encode()).decode()


if __name__ == "__main__":
    sys.exit(main())
