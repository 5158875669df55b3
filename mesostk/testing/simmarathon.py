"""A Marathon in a simulated world: the real core and scheduler core under a simulated shell."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from mesostk.base.core import Driver, Save
from mesostk.base.election import latch_prefix
from mesostk.base.store import Epoch
from mesostk.framework import core as framework
from mesostk.marathon import events
from mesostk.marathon.core import Marathon
from mesostk.marathon.state import Settings
from mesostk.testing import simstore
from mesostk.testing.simhost import Checked, Ground, Host
from mesostk.testing.simmaster import ELECTION as MASTERS
from mesostk.testing.simmaster import SESSION_TIMEOUT_S, begin_store
from mesostk.testing.simnet import Network, Request, Server, Stream
from mesostk.testing.simzk import Ensemble, Zk

ELECTION = "/marathon/leader-curator"
STORE = "/marathon/mesostk"
PORT = 8080


class MarathonShell(Server):
    """One Marathon; `core` is set while it holds itself for the leader."""

    def __init__(
        self, ground: Ground, name: str, host: Host, ensemble: Ensemble, net: Network
    ) -> None:
        super().__init__(ground, name, host)
        self._ensemble = ensemble
        self._net = net
        self.address = f"{host.ip}:{PORT}"
        net.servers[self.address] = self
        self.core: Marathon | None = None
        self.epoch: int | None = None
        self._driver: Driver[Checked[Marathon]] | None = None
        self._scheduler: Driver[Checked[framework.SchedulerCore]] | None = None
        self._stream: Stream | None = None
        self._calls: deque[framework.Post] = deque()
        self._is_posting = False
        self._requests: dict[int, Request] = {}
        self._request_numbers = 0
        #: Told each save when it is decided.
        self.on_save: list[Callable[[MarathonShell, Save], None]] = []
        #: Told each call before it is sent, and each event of the master.
        self.on_call: list[Callable[[MarathonShell, Any], None]] = []
        self.on_heard: list[Callable[[MarathonShell, Any], None]] = []

    def boot(self) -> None:
        """Stand for election."""
        self.core = self.epoch = self._driver = self._scheduler = self._stream = None
        self._calls.clear()
        self._is_posting = False
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
        )
        rng = random.Random(self.ground.rng.random())
        core = self.core = Marathon(settings, rng)
        self.epoch = epoch.counter
        pipeline = simstore.Pipeline(self, store)
        driver = self._driver = self.drive(
            core,
            {
                Save: ("save", lambda effect: self._save(pipeline, effect)),
                events.Subscribe: ("", self._subscribe),
                events.Send: ("send", self._send),
                events.Reply: ("send", self._reply),
                events.Emit: ("", lambda _effect: None),
                events.StartProbes: ("", lambda _effect: None),
                events.StopProbes: ("", lambda _effect: None),
            },
        )
        pipeline.feed = driver.feed
        self._scheduler = self.drive(
            framework.SchedulerCore(rng),
            {
                framework.OpenStream: ("", self._open_stream),
                framework.CloseStream: ("", self._close_stream),
                framework.Post: ("", self._queue_post),
                framework.Deliver: ("", lambda e: self._deliver(e.event)),
                framework.Connected: (
                    "",
                    lambda e: driver.feed(events.Connected(e.framework_id, e.master)),
                ),
                framework.Disconnected: (
                    "",
                    lambda e: driver.feed(events.Disconnected(e.reason)),
                ),
            },
            has_clock=False,
        )
        driver.feed(events.Loaded(records))
        if self.is_alive:
            simstore.detect(self, zk, MASTERS, self._master_detected)

    def _master_detected(self, data: bytes | None) -> None:
        assert self._scheduler is not None
        address = None if data is None else framework.leader_address(data)
        self._scheduler.feed(framework.LeaderKnown(address))

    def _save(self, pipeline: simstore.Pipeline, effect: Save) -> None:
        for fn in self.on_save:
            fn(self, effect)
        pipeline.save(effect)

    def _subscribe(self, effect: events.Subscribe) -> None:
        assert self._scheduler is not None
        self._scheduler.feed(framework.SubscribeAsked(effect.framework_info))

    def _send(self, effect: events.Send) -> None:
        assert self._scheduler is not None
        for fn in self.on_call:
            fn(self, effect.call)
        self._scheduler.feed(framework.CallMade(effect.call))

    def _deliver(self, event: Any) -> None:
        assert self._driver is not None
        for fn in self.on_heard:
            fn(self, event)
        self._driver.feed(events.FromMaster(event))

    # -- the scheduler API (as framework.driver) ------------------------------------------------

    def _open_stream(self, effect: framework.OpenStream) -> None:
        scheduler = self._scheduler
        assert scheduler is not None
        attempt = effect.attempt
        stream = self._stream = self._net.open(self, effect.address, "scheduler", effect.call)
        assert stream is not None
        stream.on_begin = lambda stream_id: scheduler.feed(
            framework.StreamOpened(attempt, stream_id)
        )
        stream.on_refused = lambda status, text: scheduler.feed(
            framework.StreamRefused(attempt, status, text, f"//{text}" if status == 307 else None)
        )
        stream.on_client_end = lambda reason: scheduler.feed(framework.StreamEnded(attempt, reason))
        stream.on_record = lambda record: scheduler.feed(framework.Received(attempt, record))

    def _close_stream(self, _effect: framework.CloseStream) -> None:
        self._calls.clear()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _queue_post(self, effect: framework.Post) -> None:
        self._calls.append(effect)
        self._post()

    def _post(self) -> None:
        if self._is_posting or not self._calls:
            return
        self._is_posting = True
        post = self._calls.popleft()

        def answered(status: int, text: str) -> None:
            self._is_posting = False
            scheduler = self._scheduler
            assert scheduler is not None
            if status not in (200, 202):
                type_ = str(post.call.type)
                scheduler.feed(framework.CallRefused(post.attempt, type_, status, text))
            self._post()

        self._net.post(self, post.address, "scheduler", post.call, post.stream_id, answered)

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
        request.answer(effect.status, "" if effect.body is None else str(effect.body))
