"""A Marathon in a simulated world: the real core and scheduler core under a simulated shell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from mesostk.base.core import Driver, Effect, Event, Save
from mesostk.base.election import latch_prefix
from mesostk.base.store import Epoch
from mesostk.marathon import events
from mesostk.marathon.core import Marathon
from mesostk.marathon.state import Settings
from mesostk.testing import simstore
from mesostk.testing.simhost import Checked, Ground, Host
from mesostk.testing.simmaster import SESSION_TIMEOUT_S, begin_store
from mesostk.testing.simnet import Network, Request, Server
from mesostk.testing.simprobes import Finder, Prober
from mesostk.testing.simscheduler import SchedulerClient
from mesostk.testing.simzk import Ensemble, Zk

ELECTION = "/marathon/leader-curator"
STORE = "/marathon/mesostk"
PORT = 8080
#: It reserves for its residents, which only a role of its own can.
ROLE = "web"


class Watched(Marathon):
    """The core, which tells of each event that it has handled, before anything comes of it."""

    def __init__(
        self, settings: Settings, rng: random.Random, handled: Callable[[Event], None]
    ) -> None:
        super().__init__(settings, rng)
        self._handled = handled

    def handle(self, now: float, event: Event) -> Sequence[Effect]:
        effects = super().handle(now, event)
        self._handled(event)
        return effects


class MarathonShell(Server):
    """One Marathon; `core` is set while it holds itself for the leader."""

    def __init__(
        self,
        ground: Ground,
        name: str,
        host: Host,
        ensemble: Ensemble,
        net: Network,
        find: Finder,
    ) -> None:
        super().__init__(ground, name, host)
        self._ensemble = ensemble
        self._net = net
        self._find = find
        self.address = f"{host.ip}:{PORT}"
        net.servers[self.address] = self
        self.core: Marathon | None = None
        self.epoch: int | None = None
        self._driver: Driver[Checked[Marathon]] | None = None
        self._client: SchedulerClient | None = None
        self._requests: dict[int, Request] = {}
        self._request_numbers = 0
        #: Told each save when it is decided.
        self.on_save: list[Callable[[MarathonShell, Save], None]] = []
        #: Told each call before it is sent, and each event of the master.
        self.on_call: list[Callable[[MarathonShell, Any], None]] = []
        self.on_heard: list[Callable[[MarathonShell, Any], None]] = []
        #: Told each result of a probe, and each event that was handled.
        self.on_probe: list[Callable[[MarathonShell, events.ProbeResult], None]] = []
        self.on_handled: list[Callable[[MarathonShell, Event], None]] = []

    def boot(self) -> None:
        """Stand for election."""
        self.core = self.epoch = self._driver = self._client = None
        self._requests = {}
        zk = Zk(self._ensemble, self, SESSION_TIMEOUT_S)
        store = simstore.store_on(zk, STORE)
        unique = f"{self.ground.rng.getrandbits(64):016x}"
        simstore.stand(
            self,
            zk,
            ELECTION,
            latch_prefix(unique),
            self.address.encode(),
            lambda: self._elected(store, zk),
            lambda reason: self.crash(f"leadership lost: {reason}"),
        )
        zk.start()

    # -- leading (as marathon.leading) ----------------------------------------------------------

    def _elected(self, store: simstore.ZkStore, zk: Zk) -> None:
        begin_store(
            self, store, self.address, lambda epoch, records: self._begin(store, zk, epoch, records)
        )

    def _begin(
        self, store: simstore.ZkStore, zk: Zk, epoch: Epoch, records: dict[str, bytes]
    ) -> None:
        settings = Settings(
            decline_offer_duration_s=10.0,
            reconciliation_interval_s=150.0,
            hostname=self.host.name,
            role=ROLE,
        )
        rng = random.Random(self.ground.rng.random())
        core: Marathon = Watched(settings, rng, self._handled)
        self.core = core
        self.epoch = epoch.counter
        pipeline = simstore.Pipeline(self, store)
        prober = Prober(self, self._find, self._probed)
        driver = self._driver = self.drive(
            core,
            {
                Save: ("save", lambda effect: self._save(pipeline, effect)),
                events.Subscribe: ("", self._subscribe),
                events.ChangeInfo: ("", self._change_info),
                events.Send: ("send", self._send),
                events.Reply: ("send", self._reply),
                events.Emit: ("", lambda _effect: None),
                events.SetCallbacks: ("", lambda _effect: None),
                events.StartProbes: ("", prober.start),
                events.StopProbes: ("", prober.stop),
            },
        )
        pipeline.feed = driver.feed
        client = self._client = SchedulerClient(self, self._net, rng)
        client.on_connected = lambda own_id, master: driver.feed(events.Connected(own_id, master))
        client.on_disconnected = lambda reason: driver.feed(events.Disconnected(reason))
        client.on_event = self._deliver
        client.on_info_answered = lambda refusal: driver.feed(events.InfoAnswered(refusal))
        driver.feed(events.Loaded(records))
        if self.is_alive:
            client.follow_leader(zk)

    def _save(self, pipeline: simstore.Pipeline, effect: Save) -> None:
        for fn in self.on_save:
            fn(self, effect)
        pipeline.save(effect)

    def _subscribe(self, effect: events.Subscribe) -> None:
        assert self._client is not None
        self._client.subscribe(effect.framework_info)

    def _change_info(self, effect: events.ChangeInfo) -> None:
        assert self._client is not None
        self._client.set_info(effect.framework_info)

    def _send(self, effect: events.Send) -> None:
        assert self._client is not None
        for fn in self.on_call:
            fn(self, effect.call)
        self._client.send(effect.call)

    def _deliver(self, event: Any) -> None:
        assert self._driver is not None
        for fn in self.on_heard:
            fn(self, event)
        self._driver.feed(events.FromMaster(event))

    def _probed(self, result: events.ProbeResult) -> None:
        assert self._driver is not None
        for fn in self.on_probe:
            fn(self, result)
        self._driver.feed(result)

    def _handled(self, event: Event) -> None:
        for fn in self.on_handled:
            fn(self, event)

    # -- the API --------------------------------------------------------------------------------

    def serve(self, request: Request) -> None:
        """A command of a user: `body` makes it, given its request number. Standbys answer 503."""
        if self._driver is None or self.core is None or not self.core.state.loaded:
            request.answer(503, "not leading")
            return
        self._request_numbers += 1
        number = self._request_numbers
        self._requests[number] = request
        self._driver.feed(request.body(number))

    def _reply(self, effect: events.Reply) -> None:
        request = self._requests.pop(effect.request, None)
        assert request is not None, f"request {effect.request} is answered twice"
        if effect.status < 300:
            # The deployment that it began, if any.
            request.answer(effect.status, effect.headers.get("Marathon-Deployment-Id", ""))
        else:
            request.answer(effect.status, str(effect.body))
