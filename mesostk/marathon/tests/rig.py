"""One Marathon's HTTP half, over a world and a real server, for tests of the API."""

from __future__ import annotations

from mesostk.base.http import BasicAuth, Server, make_app
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.marathon import flags
from mesostk.marathon.api import Api
from mesostk.marathon.edge import Edge, add_slashes, error_response
from mesostk.marathon.levels import Levels
from mesostk.marathon.proxy import LeaderProxy, ProxySettings
from mesostk.marathon.state import Settings
from mesostk.marathon.stream import EventHub
from mesostk.marathon.system import System
from mesostk.marathon.tests.conftest import World

MAX_BODY = 64 * 1024


class Rig:
    """One Marathon's HTTP half over a world; a standby when it does not lead."""

    def __init__(
        self,
        *,
        leads: bool = True,
        auth: BasicAuth | None = None,
        most: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.most = most
        self.world = World(settings=settings)
        self.world.connect()
        self.leads = leads
        self.leader: str | None = None
        self.abdicated = False
        metrics = Metrics()
        self.log = Log()
        self.hub = EventHub(1, lambda: "2016-06-20T12:00:00.000Z", metrics, self.log)
        self.api = Api(lambda: self.world.core.state, self.world.feed)
        self.world.on_reply = self.api.perform
        values = flags.flag_set().load(["--master=127.0.0.1:5050", "--zk=zk://u:pw@h:1/m"], {})
        self.app = make_app(self.log, metrics, error_response, max_body_bytes=MAX_BODY)
        self.server = Server(self.app, "127.0.0.1", 0)
        self.proxy: LeaderProxy | None = None
        self._values, self._metrics, self._auth = values, metrics, auth

    async def start(self) -> None:
        # The name is needed before the port is known; 8080 is what the original would show.
        self.proxy = LeaderProxy("me:8080", lambda: self.leader, ProxySettings(1.0, 5.0, 4))
        edge = Edge(
            "http://me:8080",
            lambda: self.leads,
            lambda: True,
            self.proxy.forward,
            self._auth,
            ("http://allowed",),
            self.most,
        )
        edge.add_to(self.app)
        self.api.add_to(self.app)
        System(
            self._values,
            self._metrics,
            edge,
            lambda: self.hub,
            lambda: self.world.core.state,
            self.api.asker,
            lambda: self.leader,
            self._abdicate,
        ).add_to(self.app)
        Levels(self.log).add_to(self.app)
        add_slashes(self.app)
        await self.server.start()

    def _abdicate(self) -> None:
        self.abdicated = True

    async def stop(self) -> None:
        self.hub.close()
        await self.server.stop()
        if self.proxy is not None:
            await self.proxy.close()
