"""What a Marathon has only while it leads: core, scheduler driver, probes, event stream.

::

    scheduler driver ─▶ Connected, FromMaster, Disconnected ─┐             ┌─▶ Save ─▶ store
    prober ───────────▶ ProbeResult ─────────────────────────┼─▶ core ─────┼─▶ Send ─▶ driver
    api ──────────────▶ commands ────────────────────────────┘             └─▶ Reply, Emit, probes
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import Random

from mesostk.base.client import Client
from mesostk.base.core import Driver as CoreDriver
from mesostk.base.core import Effect, Event, Note, Performer
from mesostk.base.daemon import Daemon
from mesostk.base.store import Store
from mesostk.framework.driver import Driver as SchedulerDriver
from mesostk.marathon import events, inheriting
from mesostk.marathon.api import Api
from mesostk.marathon.core import Marathon
from mesostk.marathon.posting import Poster
from mesostk.marathon.probes import Prober
from mesostk.marathon.state import Settings
from mesostk.marathon.stream import EventHub
from mesostk.marathon.system import model_gauges
from mesostk.marathon.timestamps import iso
from mesostk.wire import scheduler
from mesostk.wire.mesos import FrameworkID, MasterInfo


class Leading:
    """The leader's half of the graph; `driver` is None until `begin` has opened the store."""

    def __init__(
        self,
        daemon: Daemon,
        settings: Settings,
        client: Client,
        masters: tuple[str, ...],
        authorization: str | None,
        max_probes: int,
        max_outstanding: int,
        slow_callback_s: float,
    ) -> None:
        rng = Random(os.urandom(32))  # noqa: S311 - makes ids and spreads load, keeps no secret
        self._daemon = daemon
        self._max_outstanding = max_outstanding
        self.core = Marathon(settings, rng)
        self.hub: EventHub | None = None
        self._driver: CoreDriver[Marathon] | None = None
        self._prober = Prober(daemon.clock, self.feed, daemon.start, max_probes)
        self._poster = Poster(
            client, daemon.clock, daemon.start, daemon.log, daemon.metrics, slow_callback_s
        )
        self.scheduler = SchedulerDriver(
            client,
            self,
            daemon.clock.monotonic,
            rng,
            daemon.log.note,
            addresses=masters,
            authorization=authorization,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the records are read and commands are taken."""
        return self.core.state.loaded

    def feed(self, event: Event) -> None:
        """Tell the core."""
        assert self._driver is not None  # nothing that feeds runs before `begin`
        self._driver.feed(event)

    async def begin(self, store: Store, label: str, api: Api) -> None:
        """Own the store, read it and let the core begin; raises StoreError."""
        daemon = self._daemon
        daemon.on_stop("store", store.close)
        epoch = await store.open(label)
        records = await inheriting.fulfil(store, await store.load(), daemon.disk, self._tell)
        self.hub = EventHub(
            epoch.counter,
            self._now,
            daemon.metrics,
            daemon.log,
            self._max_outstanding,
            self._poster.post,
        )
        daemon.metrics.source(lambda: model_gauges(self.core.state))
        self._driver = daemon.drive(self.core, self._performers(api), store)
        daemon.start("scheduler", self.scheduler.run())
        daemon.start("probes", self._prober.run())
        daemon.start("keep-alive", self.hub.keep_alive())
        daemon.on_stop("scheduler", self._stop)
        self.feed(events.Loaded(records))
        daemon.freeze()
        daemon.log.info("Leading", label=label, epoch=epoch.counter, records=len(records))

    def _performers(self, api: Api) -> dict[type[Effect], Performer]:
        assert self.hub is not None
        hub = self.hub
        return {
            events.Subscribe: lambda effect: self.scheduler.subscribe(effect.framework_info),
            events.ChangeInfo: lambda effect: self.scheduler.set_info(effect.framework_info),
            events.Send: lambda effect: self.scheduler.send(effect.call),
            events.Reply: api.perform,
            events.Emit: lambda effect: hub.emit(effect.event),
            events.SetCallbacks: self._poster.set,
            events.StartProbes: self._prober.begin,
            events.StopProbes: self._prober.end,
        }

    async def _stop(self) -> None:
        self.scheduler.stop()
        if self.hub is not None:
            self.hub.close()

    def _tell(self, verb: str, level: str, fields: Mapping[str, object]) -> None:
        self._daemon.log.note(Note(verb, fields, level))

    def _now(self) -> str:
        return iso(self._daemon.clock.wall())

    # -- what the scheduler driver tells ----------------------------------------------------------

    def on_connected(self, framework_id: FrameworkID, master: MasterInfo | None) -> None:
        """Part of `framework.driver.Framework`."""
        self.feed(events.Connected(framework_id, master))

    def on_disconnected(self, reason: str) -> None:
        """Part of `framework.driver.Framework`."""
        self.feed(events.Disconnected(reason))

    def on_info_answered(self, refusal: str | None) -> None:
        """Part of `framework.driver.Framework`."""
        self.feed(events.InfoAnswered(refusal))

    def on_event(self, event: scheduler.Event) -> None:
        """Part of `framework.driver.Framework`."""
        self.feed(events.FromMaster(event))
