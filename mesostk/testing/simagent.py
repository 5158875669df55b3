"""An agent in a simulated world: the real core and recovery under a simulated shell."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from mesostk.agent import events, layout, recovery
from mesostk.agent.core import Agent
from mesostk.agent.daemon import leader_url
from mesostk.agent.state import Settings
from mesostk.base.core import Driver, Event, Put, Saved
from mesostk.resources.resources import Resources
from mesostk.testing import simstore
from mesostk.testing.faults import Kind
from mesostk.testing.simchecks import Checkers, performers
from mesostk.testing.simdisk import SimDisk
from mesostk.testing.simexecutor import Desk
from mesostk.testing.simhost import Checked, Ground, Host, Process
from mesostk.testing.simmaster import ELECTION, SESSION_TIMEOUT_S
from mesostk.testing.simnet import Network, Stream
from mesostk.testing.simproc import Processes
from mesostk.testing.simzk import Ensemble, Zk
from mesostk.wire import json, link
from mesostk.wire.mesos import MasterInfo

PORT = 5051
#: A write to the disk, and a launch, take so long; seconds.
DISK_S = (0.0001, 0.01)
LAUNCH_S = (0.002, 0.05)
#: How long an executor may take to subscribe; seconds.
EXECUTOR_REGISTRATION_S = 20.0
#: Records in one POST (as `agent.link`).
MAX_BATCH = 64


class Uplink:
    """One link to the master: the stream down, and what waits to go up."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stream: Stream | None = None
        self.address = ""
        self.outbox: deque[link.UpMessage] = deque()
        self.is_posting = False
        self.is_over = False


class AgentShell(Process):
    """One agent with its disk and its tasks."""

    def __init__(
        self, ground: Ground, name: str, host: Host, ensemble: Ensemble, net: Network, cpus: int
    ) -> None:
        super().__init__(ground, name, host)
        self._ensemble = ensemble
        self._net = net
        self.disk = SimDisk(ground.rng)
        self.processes = Processes(ground.loop, ground.rng, ground.faults)
        self.desk = Desk(self, self._feed)
        self.checkers = Checkers(self, self._feed)
        self.cpus = cpus
        self.boots = 1
        #: Whether the disk ever refused a record, and unsynced ones were ever lost.
        self.was_full = self.lost_power = False
        self._settings = Settings(
            hostname=host.name,
            ip=host.ip,
            port=PORT,
            resources=tuple(
                (
                    Resources.scalars(cpus=cpus, mem=4096, disk=4096)
                    + Resources.ports((31000, 31099))
                ).to_wire()
            ),
            work_dir="/w",
            version="0",
            registration_backoff_max_s=10.0,
            executor_registration_timeout_s=EXECUTOR_REGISTRATION_S,
        )
        self.core: Agent | None = None
        self._driver: Driver[Checked[Agent]] | None = None
        self._link: Uplink | None = None
        self._queue: deque[events.Checkpoint] = deque()
        self._is_writing = False
        self._pending: list[Callable[[], None]] = []
        #: Told after each event, and each effect that starts or reports something.
        self.on_event: list[Callable[[AgentShell], None]] = []
        self.on_effect: list[Callable[[AgentShell, Any], None]] = []

    # -- life -----------------------------------------------------------------------------------

    def boot(self) -> None:
        """Read what a former life left, find its runs, tell the core, look for a leader."""
        self._link = None
        self._queue.clear()
        self._is_writing = False
        self._pending.clear()
        self.ended.append(self._died)
        core = self.core = Agent(self._settings, random.Random(self.ground.rng.random()))
        self._driver = self.drive(
            core,
            {
                events.Checkpoint: ("checkpoint", self._save),
                events.Connect: ("", self._connect),
                events.Disconnect: ("", self._disconnect),
                events.SendUp: ("send", self._send),
                events.Launch: ("launch", self._launch),
                events.KillRun: ("", self._kill),
                events.RunOver: ("", lambda e: self.processes.forget(e.container_id)),
                events.Resize: ("", lambda _e: None),  # simulated processes have no limits
                events.SendToExecutor: ("send", self.desk.send),
                events.CloseExecutorStream: ("", self.desk.close),
                **performers(self.checkers),
            },
        )
        self._recover()
        if not self.is_alive:
            return
        zk = Zk(self._ensemble, self, SESSION_TIMEOUT_S)
        simstore.detect(self, zk, ELECTION, self._on_leader)
        zk.start()

    def _recover(self) -> None:
        boot = f"{self.name}-{self.boots}"
        latest = self.disk.links.get(layout.LATEST)
        found = recovery.read(self.disk.visible(latest), latest, boot)
        for note in found.notes:
            self.ground.say(self.name, note)
        for repair in found.repairs:
            self.disk.apply(repair, sync=False)
        if found.agent_id is not None:
            path = f"{layout.agent_dir(found.agent_id.value)}/slave.info"
            assert self.core is not None
            info = replace(self.core.state.agent_info(), id=found.agent_id)
            self.disk.apply(Put(path, layout.frame(info)), sync=False)
        self.processes.on_exit = lambda exited: self.arrives(lambda: self._feed(exited))()
        for event in found.events(self.processes.seen()):
            self._feed(event)
        if self.is_alive:
            self.disk.apply(Put(layout.BOOT_ID, boot.encode()), sync=False)

    def _died(self) -> None:
        """Checkpoints that wait get in or not; a launch under way happens or not."""
        self.desk.ended()
        rng = self.ground.rng
        written = rng.randint(0, len(self._queue))
        for checkpoint in list(self._queue)[:written]:
            for op in checkpoint.ops:
                self.disk.apply(op, sync=checkpoint.sync)
        for checkpoint in list(self._queue)[written : written + 1]:
            if self.ground.faults.roll(Kind.TORN_RECORD, self.name):
                done = rng.randrange(len(checkpoint.ops))
                for op in checkpoint.ops[:done]:
                    # Each operation is synced before the next begins (`checkpoint.Disk.apply`).
                    self.disk.apply(op, sync=checkpoint.sync)
                self.disk.tear(checkpoint.ops[done])
        pending, self._pending = self._pending, []
        for start in pending:
            if rng.random() < 0.5:
                start()

    def cut_power(self, seconds: float) -> None:
        """The whole host goes dark and comes back."""
        self.has_power = False
        self.lost_power = True
        self.crash("power cut")
        self.boots += 1
        self.processes.cut_power()
        self.disk.cut_power()

        def back() -> None:
            self.has_power = True
            self.start()

        self.ground.loop.later(seconds, back)

    def _feed(self, event: Event) -> None:
        if self._driver is not None and self.is_alive:
            self._driver.feed(event)
            for fn in self.on_event:
                fn(self)

    def _tell(self, effect: Any) -> None:
        for fn in self.on_effect:
            fn(self, effect)

    # -- disk -----------------------------------------------------------------------------------

    def _save(self, effect: events.Checkpoint) -> None:
        self._queue.append(effect)
        if not self._is_writing:
            self._is_writing = True
            self.later(self.ground.rng.uniform(*DISK_S), self._write)

    def _write(self) -> None:
        checkpoint = self._queue.popleft()
        outcome: Event = Saved(checkpoint.token)
        if self.disk.is_full and not all(op.path == layout.LATEST for op in checkpoint.ops):
            path = checkpoint.ops[0].path
            self.was_full = True
            outcome = events.SaveFailed(checkpoint.token, path, "No space left on device")
        else:
            for op in checkpoint.ops:
                self.disk.apply(op, sync=checkpoint.sync)
        self._is_writing = bool(self._queue)
        if self._queue:
            self.later(self.ground.rng.uniform(*DISK_S), self._write)
        self._feed(outcome)

    # -- runs -----------------------------------------------------------------------------------

    def _launch(self, effect: events.Launch) -> None:
        self._tell(effect)
        spec = effect.spec
        task_id = self.task_of(spec.container_id)
        started = False

        def start() -> None:
            nonlocal started
            started = True
            run = self.processes.start(spec, task_id)
            if run.command.startswith("executor"):
                self.desk.started(run)

        def launched() -> None:
            if not started:
                self._pending.remove(start)
                start()
                self._feed(events.Launched(spec.container_id, 4711))

        self._pending.append(start)
        self.later(self.ground.rng.uniform(*LAUNCH_S), launched)

    def _kill(self, effect: events.KillRun) -> None:
        self.checkers.killing(effect)
        self.processes.kill(effect.container_id, effect.grace_s)

    def task_of(self, container_id: str) -> str:
        """The task that is run in a container, or the executor."""
        assert self.core is not None
        run = self.core.state.runs[container_id]
        return run.executor_id if run.is_custom else run.only_task.info.task_id.value

    # -- the link (as agent.link) ---------------------------------------------------------------

    def _on_leader(self, data: bytes | None) -> None:
        url = None if data is None else leader_url(json.decode(data, MasterInfo))
        self._feed(events.LeaderChanged(url))

    def mislead(self, stale: bytes) -> None:
        """A server that lags tells a leader of the past; the others soon tell the present one."""
        past = simstore.history(self._ensemble, ELECTION)
        if not past or past[-1] == stale:
            return
        if self.is_alive and self.ground.faults.roll(Kind.STALE_READ, f"{self.name} {ELECTION}"):
            self.arrives(lambda: self._on_leader(stale))()
            seconds = self.ground.rng.uniform(1.0, 5.0)
            self.later(seconds, lambda: self._on_leader(past[-1]))

    def _connect(self, effect: events.Connect) -> None:
        self._drop()
        uplink = self._link = Uplink(effect.link)
        self._subscribe(uplink, effect.url.removeprefix("http://"), effect.subscribe, 2)

    def _subscribe(
        self, uplink: Uplink, address: str, subscribe: link.Subscribe, tries: int
    ) -> None:
        stream = self._net.open(self, address, "link", subscribe)
        assert stream is not None
        uplink.stream, uplink.address = stream, address

        def refused(status: int, text: str) -> None:
            if uplink.is_over:
                return
            if status == 307 and tries > 1:
                self._subscribe(uplink, text, subscribe, tries - 1)
            else:
                self._closed(uplink, f"{status} {text}")

        stream.on_refused = refused
        stream.on_begin = lambda _id: self._post(uplink)
        stream.on_client_end = lambda reason: self._closed(uplink, reason)
        stream.on_record = lambda record: self._heard(uplink, record)

    def _heard(self, uplink: Uplink, record: link.DownMessage) -> None:
        if uplink is self._link:
            self._feed(events.LinkMessage(uplink.number, record))

    def _closed(self, uplink: Uplink, reason: str) -> None:
        if uplink.is_over:
            return
        uplink.is_over = True
        if uplink.stream is not None:
            uplink.stream.close()
        if uplink is self._link:
            self._link = None
            self._feed(events.LinkClosed(uplink.number, reason))

    def _disconnect(self, effect: events.Disconnect) -> None:
        if self._link is not None and self._link.number == effect.link:
            self._drop()

    def _drop(self) -> None:
        uplink, self._link = self._link, None
        if uplink is not None:
            uplink.is_over = True
            if uplink.stream is not None:
                uplink.stream.close()

    def _send(self, effect: events.SendUp) -> None:
        self._tell(effect)
        uplink = self._link
        if uplink is not None and uplink.number == effect.link:
            uplink.outbox.append(effect.message)  # type: ignore[arg-type] # every Up is one of them
            self._post(uplink)

    def _post(self, uplink: Uplink) -> None:
        stream = uplink.stream
        if uplink.is_posting or uplink.is_over or not uplink.outbox:
            return
        if stream is None or stream.id is None:
            return
        uplink.is_posting = True
        batch = [uplink.outbox.popleft() for _ in range(min(MAX_BATCH, len(uplink.outbox)))]

        def answered(status: int, text: str) -> None:
            uplink.is_posting = False
            if status == 202:
                self._post(uplink)
            else:
                self._closed(uplink, f"the master refused a record: {status} {text}")

        self._net.post(self, uplink.address, "link", tuple(batch), stream.id, answered)

    @property
    def shutdown_grace_s(self) -> float:
        """How long an executor may take to end; seconds."""
        return self._settings.shutdown_grace_s

    @property
    def link_server(self) -> str | None:
        """The address of the master at the other end of the link."""
        return None if self._link is None else self._link.address

    @property
    def link_stream(self) -> str | None:
        """The id of the link's stream; it names the master's life."""
        if self._link is None or self._link.stream is None:
            return None
        return self._link.stream.id
