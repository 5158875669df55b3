"""A master in a simulated world: the real core, store and candidate under a simulated shell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from mesostk.base.core import Driver, Save
from mesostk.base.election import MASTER_PREFIX
from mesostk.base.store import Epoch
from mesostk.base.zk import SessionState
from mesostk.errors import StaleEpoch, StoreError, Unavailable, UnknownOutcome
from mesostk.master import agents, events, frameworks, validation
from mesostk.master.core import Master
from mesostk.master.state import Config
from mesostk.testing import simstore
from mesostk.testing.simhost import Checked, Ground, Host
from mesostk.testing.simloop import spawn
from mesostk.testing.simnet import Network, Request, Server, Stream
from mesostk.testing.simzk import Ensemble, Zk
from mesostk.wire import json, link, operator, scheduler
from mesostk.wire.mesos import MasterInfo

#: Where masters stand for election, and the registry below it.
ELECTION = "/mesos"
REGISTRY = "/mesos/mesostk"
PORT = 5050
SESSION_TIMEOUT_S = 10.0
#: Time that agents have to come back to a new leader; seconds.
REREGISTER_S = 60.0


class MasterShell(Server):
    """One master; `epoch` is set while it holds itself for the leader."""

    def __init__(
        self, ground: Ground, name: str, host: Host, ensemble: Ensemble, net: Network
    ) -> None:
        super().__init__(ground, name, host)
        self._ensemble = ensemble
        self._net = net
        self.address = f"{host.ip}:{PORT}"
        net.servers[self.address] = self
        self.core: Master | None = None
        self.epoch: int | None = None
        self._driver: Driver[Checked[Master]] | None = None
        self._leader: MasterInfo | None = None
        self._streams: dict[str, Stream] = {}
        self._stream_ids = 0
        #: Told when this master begins to lead.
        self.on_lead: list[Callable[[MasterShell], None]] = []
        #: Told when a stream is closed, by its id.
        self.on_close: list[Callable[[MasterShell, str], None]] = []
        #: Told whenever an agent's calls are taken, by its link.
        self.on_agent: list[Callable[[MasterShell, str], None]] = []
        #: Told each message to an agent or scheduler, and each call, before it is acted upon.
        self.on_send: list[Callable[[MasterShell, str, Any], None]] = []
        self.on_call: list[Callable[[MasterShell, scheduler.Call], None]] = []
        #: Told each SUBSCRIBE of a scheduler, with its stream.
        self.on_subscribe: list[Callable[[MasterShell, str, scheduler.Call], None]] = []

    def boot(self) -> None:
        """Stand for election."""
        self._driver = self._leader = self.epoch = None
        self._streams = {}
        self._requests = 0
        config = Config(
            ip=self.host.ip,
            hostname=self.host.name,
            version="0",
            agent_ping_timeout_s=5.0,
            max_agent_ping_timeouts=4,
            agent_reregister_timeout_s=REREGISTER_S,
        )
        self.core = Master(config, random.Random(self.ground.rng.random()))
        zk = Zk(self._ensemble, self, SESSION_TIMEOUT_S)
        store = simstore.store_on(zk, REGISTRY)
        data = json.encode(self.core.info)
        simstore.stand(
            self,
            zk,
            ELECTION,
            MASTER_PREFIX,
            data,
            lambda: self._elected(store, data),
            lambda reason: self.crash(f"leadership lost: {reason}"),
        )
        simstore.detect(self, zk, ELECTION, self._led_by)
        zk.listen(self._doubt)
        zk.start()

    def _doubt(self, state: SessionState) -> None:
        if self._driver is not None:
            self._driver.feed(events.LeadershipInDoubt(state is not SessionState.CONNECTED))

    def _led_by(self, data: bytes | None) -> None:
        self._leader = None if data is None else json.decode(data, MasterInfo)

    # -- election -------------------------------------------------------------------------------

    def _elected(self, store: simstore.ZkStore, data: bytes) -> None:
        assert self.core is not None
        self._leader = self.core.info
        simstore.remember(self._ensemble, ELECTION, data)
        begin_store(
            self, store, self.name, lambda epoch, records: self._begin(store, epoch, records)
        )

    def _begin(self, store: simstore.ZkStore, epoch: Epoch, records: dict[str, bytes]) -> None:
        assert self.core is not None
        pipeline = simstore.Pipeline(self, store)
        driver = self._driver = self.drive(
            self.core,
            {
                Save: ("save", pipeline.save),
                events.SendToAgent: ("send", lambda e: self._send(e.stream, e.message)),
                events.CloseAgentStream: ("", lambda e: self._close(e.stream)),
                events.SendToScheduler: ("send", lambda e: self._send(e.stream, e.event)),
                events.CloseSchedulerStream: ("", lambda e: self._close(e.stream)),
                # Operators look at what has become of a call, not at its answer.
                events.Reply: ("", lambda _effect: None),
            },
        )
        pipeline.feed = driver.feed
        self.epoch = epoch.counter
        for fn in self.on_lead:
            fn(self)
        owned = link.ClusterEpoch(cluster_id=epoch.cluster_id, counter=epoch.counter)
        driver.feed(events.Elected(owned, records))

    def _send(self, stream_id: str, record: Any) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        for fn in self.on_send:
            fn(self, stream_id, record)
        stream.send(_through_wire(self.ground.rng, record))

    def _close(self, stream_id: str) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._tell_closed(stream_id)
            stream.end("the master closed the stream")

    def _tell_closed(self, stream_id: str) -> None:
        for fn in self.on_close:
            fn(self, stream_id)

    def operate(self, call: operator.Call) -> bool:
        """An operator calls, close by; False if this master does not lead."""
        if self._driver is None or not self.is_alive or self.is_paused:
            return False
        self._requests += 1
        self._driver.feed(events.OperatorCalled(self._requests, call))
        return True

    # -- calls ----------------------------------------------------------------------------------

    def serve(self, request: Request) -> None:
        """As `master.link` and `master.scheduler` do it over HTTP."""
        assert self.core is not None
        driver = self._driver
        if self._leader is None:
            request.answer(503, "No leader elected")
        elif self._leader.id != self.core.info.id:
            address = self._leader.address
            assert address is not None
            request.answer(307, f"{address.ip}:{address.port}")
        elif driver is None:
            request.answer(503, "Master has not finished recovery")
        elif request.kind == "link":
            self._serve_link(driver, request)
        else:
            self._serve_scheduler(driver, request)

    def _serve_link(self, driver: Driver[Checked[Master]], request: Request) -> None:
        assert self.core is not None
        if request.stream is not None:
            rejected = agents.refusal(request.body)
            if rejected is not None:
                request.answer(rejected.status, str(rejected))
                return
            stream_id = self._open(request.stream, driver, events.AgentStreamClosed)
            driver.feed(events.AgentSubscribed(stream_id, request.body))
        elif request.stream_id not in self.core.links:
            request.answer(403, f"No link is open with {request.stream_id}")
        else:
            for fn in self.on_agent:
                fn(self, self.core.links[request.stream_id] or "")
            messages = tuple(_through_wire(self.ground.rng, m) for m in request.body)
            driver.feed(events.AgentCalled(request.stream_id, messages))
            request.answer(202, "")

    def _serve_scheduler(self, driver: Driver[Checked[Master]], request: Request) -> None:
        assert self.core is not None
        call: scheduler.Call = _through_wire(self.ground.rng, request.body)
        why = validation.call_error(call)
        if why is not None:
            request.answer(400, f"Failed to validate scheduler::Call: {why}")
            return
        if request.stream is not None:
            stream_id = self._open(request.stream, driver, events.SchedulerStreamClosed)
            for subscribes in self.on_subscribe:
                subscribes(self, stream_id, call)
            driver.feed(events.SchedulerSubscribed(stream_id, call))
            return
        rejected = frameworks.refusal(self.core, call, request.stream_id, None)
        if rejected is not None:
            request.answer(rejected.status, str(rejected))
            return
        for fn in self.on_call:
            fn(self, call)
        driver.feed(events.SchedulerCalled(call))
        request.answer(202, "")

    def _open(
        self, stream: Stream, driver: Driver[Checked[Master]], closed: Callable[[str], Any]
    ) -> str:
        self._stream_ids += 1
        stream_id = f"{self.name}.{self.life}-{self._stream_ids}"
        self._streams[stream_id] = stream

        def ended() -> None:
            if self._streams.pop(stream_id, None) is not None:
                self._tell_closed(stream_id)
                driver.feed(closed(stream_id))

        stream.on_server_end = ended
        stream.begin(stream_id)
        return stream_id


def begin_store(
    process: Server,
    store: simstore.ZkStore,
    label: str,
    begin: Callable[[Epoch, dict[str, bytes]], None],
) -> None:
    """Own the store and read it, then `begin`; a store that does not let us ends the process."""

    async def opening() -> tuple[Epoch, dict[str, bytes]]:
        epoch = await store.open(label)
        return epoch, await store.load()

    def failed(error: Exception) -> None:
        if not isinstance(error, StaleEpoch | StoreError | Unavailable | UnknownOutcome):
            raise error
        process.crash(f"store: {error}")

    spawn(opening(), lambda found: begin(*found), failed)


#: One message of so many goes through bytes: what the wire cannot carry shows.
_CODED_SHARE = 0.1

_TYPES: Sequence[tuple[type, Any]] = (
    (link.Up, link.UpMessage),
    (link.Down, link.DownMessage),
    (scheduler.Call, scheduler.Call),
    (scheduler.Event, scheduler.Event),
)


def _through_wire(rng: random.Random, record: Any) -> Any:
    """`record`, some of the time encoded and decoded."""
    if rng.random() >= _CODED_SHARE:
        return record
    for base, wire in _TYPES:
        if isinstance(record, base):
            return json.decode(json.encode(record), wire)
    raise TypeError(type(record).__name__)
