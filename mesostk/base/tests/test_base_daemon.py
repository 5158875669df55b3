"""The daemon's life, its driver and its writes."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.base.core import (
    Delete,
    Driver,
    Effect,
    Event,
    Exit,
    Note,
    Op,
    Put,
    Save,
    Saved,
    Tick,
    WallClock,
    note,
)
from mesostk.base.daemon import Daemon
from mesostk.base.filestore import FileStore
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.base.pipeline import SavePipeline, take_batch
from mesostk.base.store import MAX_BATCH_BYTES, MAX_BATCH_OPS, Epoch
from mesostk.base.systemd import Notifier
from mesostk.errors import StaleEpoch, StoreError


class Go(Event, frozen=True):
    """Tells the test core what to answer."""

    effects: tuple[Effect, ...] = ()


class Say(Effect, frozen=True):
    """An effect that the test performs."""

    text: str


class Recorder:
    """A core that remembers its events and answers what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.wants: float | None = None
        self.bug: Exception | None = None

    def handle(self, now: float, event: Event) -> Sequence[Effect]:
        self.events.append(event)
        if self.bug is not None:
            raise self.bug
        if isinstance(event, Tick):
            self.wants = None
        return event.effects if isinstance(event, Go) else ()

    def deadline(self) -> float | None:
        return self.wants

    def check(self) -> None:
        return


class HandClock:
    def __init__(self) -> None:
        self.now = 100.0
        self.offset = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.offset


def make_daemon(clock: HandClock | None = None, notifier: Notifier | None = None) -> Daemon:
    return Daemon("test", Log(stream=io.StringIO()), Metrics(), clock, notifier)


def logged(daemon: Daemon) -> str:
    stream = daemon.log._stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


# -- the driver ------------------------------------------------------------------------------------


def test_events_fed_by_effects_wait_until_all_effects_of_one_are_done() -> None:
    core = Recorder()
    said: list[str] = []
    driver: Driver[Recorder] = Driver(
        core, {}, lambda: 0.0, lambda _, __: lambda: None, lambda _: None
    )

    def say(effect: Say) -> None:
        said.append(effect.text)
        if effect.text == "a":
            driver.feed(Go((Say("nested"),)))

    driver.perform(Say, say)
    driver.feed(Go((Say("a"), Say("b"))))
    assert said == ["a", "b", "nested"]


def test_one_timer_is_armed_for_the_deadline() -> None:
    core = Recorder()
    armed: list[float] = []
    cancelled: list[float] = []

    def call_at(when: float, fn: object) -> object:
        armed.append(when)
        return lambda: cancelled.append(when)

    driver: Driver[Recorder] = Driver(core, {}, lambda: 0.0, call_at, lambda _: None)  # type: ignore[arg-type]  # shapes fit, the test names them loosely
    for wanted in (5.0, 5.0, 3.0, None):
        core.wants = wanted
        driver.feed(Go())
    assert (armed, cancelled) == ([5.0, 3.0], [5.0, 3.0])
    driver.stop()
    core.wants = 9.0
    driver.feed(Go())
    assert armed == [5.0, 3.0]


def test_a_core_that_raises_is_stopped_and_asked_nothing_more() -> None:
    core = Recorder()
    crashes: list[Exception] = []
    driver: Driver[Recorder] = Driver(
        core, {}, lambda: 0.0, lambda _, __: lambda: None, lambda _: None, crashes.append
    )
    core.bug = AssertionError("two offers of one resource")
    with pytest.raises(AssertionError):
        driver.feed(Go())
    core.bug = None
    driver.feed(Go())
    assert len(core.events) == 1
    assert crashes == [
        driver_error for driver_error in crashes if "two offers" in str(driver_error)
    ]
    assert driver.is_stopped()


# -- the daemon ------------------------------------------------------------------------------------


async def test_a_daemon_runs_until_told_to_exit_and_stops_in_reverse_order() -> None:
    daemon = make_daemon()
    order: list[str] = []

    async def main(daemon: Daemon) -> None:
        for name in ("zk", "http"):

            async def stop(name: str = name) -> None:
                order.append(name)

            daemon.on_stop(name, stop)
        daemon.ready("leading")
        daemon.exit("done", 0)
        daemon.exit("too late", 3)

    assert await daemon.serve(main) == 0
    assert order == ["http", "zk"]
    assert "Ending daemon=test reason=done code=0" in logged(daemon)


async def test_a_task_that_fails_ends_the_process_with_its_traceback_logged() -> None:
    daemon = make_daemon()

    async def main(daemon: Daemon) -> None:
        async def broken() -> None:
            raise KeyError("gone")

        daemon.start("broken", broken())

    assert await daemon.serve(main) == 1
    assert "Crashed part=broken" in logged(daemon)
    assert "Traceback" in logged(daemon)


async def test_an_operators_error_is_one_line_without_traceback() -> None:
    daemon = make_daemon()

    async def main(daemon: Daemon) -> None:
        raise StoreError("the disk is full: free space")

    assert await daemon.serve(main) == 1
    assert 'Failed part=main error="StoreError: the disk is full: free space"' in logged(daemon)
    assert "Traceback" not in logged(daemon)


async def test_a_failing_callback_of_the_loop_ends_the_process() -> None:
    daemon = make_daemon()

    async def main(daemon: Daemon) -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)

    assert await daemon.serve(main) == 1
    assert "ZeroDivisionError" in logged(daemon)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_it_gracefully(number: signal.Signals) -> None:
    daemon = make_daemon()
    hangups: list[str] = []

    async def main(daemon: Daemon) -> None:
        daemon.on_hangup(lambda: hangups.append("hup"))
        os.kill(os.getpid(), signal.SIGHUP)
        while not hangups:  # noqa: ASYNC110 - a signal is no event of the loop
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), number)

    assert await asyncio.wait_for(daemon.serve(main), 60) == 0
    assert hangups == ["hup"]


async def test_what_does_not_stop_does_not_keep_the_rest_from_stopping() -> None:
    daemon = make_daemon()
    stopped: list[str] = []

    async def main(daemon: Daemon) -> None:
        async def good() -> None:
            stopped.append("good")

        async def bad() -> None:
            raise OSError("cannot")

        daemon.on_stop("good", good)
        daemon.on_stop("bad", bad)
        daemon.exit("x", 0)

    assert await daemon.serve(main) == 0
    assert stopped == ["good"]
    assert "Stopping failed part=bad" in logged(daemon)


def test_run_makes_a_loop_of_its_own() -> None:
    daemon = make_daemon()
    kinds: list[str] = []

    async def main(daemon: Daemon) -> None:
        kinds.append(type(asyncio.get_running_loop()).__module__)
        assert await daemon.disk(lambda x: x + 1, 1) == 2
        assert await daemon.cpu(len, b"abc") == 3
        daemon.exit("done", 0)

    assert daemon.run(main) == 0
    assert kinds[0].startswith("uvloop")


async def test_systemd_gets_ready_signs_of_life_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        sock.setblocking(False)
        daemon = make_daemon(notifier=Notifier(str(tmp_path / "n"), watchdog_s=0.04))
        heard: list[bytes] = []

        async def main(daemon: Daemon) -> None:
            daemon.ready()
            while heard.count(b"WATCHDOG=1") < 2:
                heard.append(await asyncio.get_running_loop().sock_recv(sock, 100))
            daemon.exit("done", 0)

        assert await asyncio.wait_for(daemon.serve(main), 60) == 0
        assert heard[0] == b"READY=1"
        rest = b""
        while b"STOPPING=1" not in rest:
            rest = sock.recv(100)


async def test_the_driver_hears_of_the_wall_clock_first_and_of_its_steps() -> None:
    clock = HandClock()
    daemon = make_daemon(clock)
    core = Recorder()

    async def main(daemon: Daemon) -> None:
        daemon.drive(core, {})
        assert core.events == [WallClock(1000.0)]
        clock.offset += 0.04
        daemon._compare_clocks()
        assert len(core.events) == 1
        clock.offset += 60.0
        daemon._compare_clocks()
        daemon.exit("done", 0)

    assert await daemon.serve(main) == 0
    assert core.events[1:] == [WallClock(1060.04)]


async def test_timers_of_the_core_are_kept() -> None:
    daemon = make_daemon()
    core = Recorder()

    async def main(daemon: Daemon) -> None:
        driver = daemon.drive(core, {})
        core.wants = daemon.clock.monotonic() + 0.02
        driver.feed(Go())
        while not any(isinstance(e, Tick) for e in core.events):  # noqa: ASYNC110 - a timer's doing
            await asyncio.sleep(0.005)
        assert sum(isinstance(event, Tick) for event in core.events) == 1
        daemon.exit("done", 0)

    assert await asyncio.wait_for(daemon.serve(main), 60) == 0


async def test_notes_are_logged_and_exit_ends_with_its_code() -> None:
    daemon = make_daemon()
    said: list[str] = []

    async def main(daemon: Daemon) -> None:
        driver = daemon.drive(Recorder(), {Say: lambda effect: said.append(effect.text)})
        driver.feed(Go((note("Leading", epoch=3), Say("one"), Exit("deposed", 103), Say("two"))))
        driver.feed(Go((Say("three"),)))

    assert await daemon.serve(main) == 103
    assert said == ["one"]
    assert "INFO Leading epoch=3" in logged(daemon)
    assert "reason=deposed code=103" in logged(daemon)


async def test_a_broken_invariant_ends_the_process() -> None:
    daemon = make_daemon()
    core = Recorder()

    async def main(daemon: Daemon) -> None:
        driver = daemon.drive(core, {})
        core.bug = AssertionError("over-committed")
        asyncio.get_running_loop().call_soon(driver.feed, Go())

    assert await daemon.serve(main) == 1
    assert "Crashed part=core" in logged(daemon)


async def test_saves_are_durable_before_saved(tmp_path: Path) -> None:
    daemon = make_daemon()
    core = Recorder()
    store = FileStore(tmp_path / "s.db")

    async def main(daemon: Daemon) -> None:
        await store.open("x")
        daemon.on_stop("store", store.close)
        driver = daemon.drive(core, {}, store)
        driver.feed(Go((Save(1, (Put("a", b"1"),)), Save(2, ()), Save(3, (Delete("a"),)))))
        while len(core.events) < 5:  # noqa: ASYNC110 - the store's thread decides when
            await asyncio.sleep(0.005)
        daemon.exit("done", 0)

    assert await asyncio.wait_for(daemon.serve(main), 60) == 0
    assert [e.token for e in core.events if isinstance(e, Saved)] == [1, 2, 3]
    assert daemon.metrics.snapshot()["store/ops"] == 2.0


async def test_a_save_that_fails_ends_the_process(tmp_path: Path) -> None:
    daemon = make_daemon()
    core = Recorder()
    store = FileStore(tmp_path / "s.db")

    async def main(daemon: Daemon) -> None:
        await store.open("x")
        daemon.on_stop("store", store.close)
        driver = daemon.drive(core, {}, store)
        driver.feed(Go((Save(1, (Put("../a", b"1"),)),)))

    assert await asyncio.wait_for(daemon.serve(main), 60) == 1
    assert not any(isinstance(event, Saved) for event in core.events)
    assert "not a path" in logged(daemon)


async def test_a_graceful_end_writes_what_waits_first(tmp_path: Path) -> None:
    daemon = make_daemon()
    store = FileStore(tmp_path / "s.db")

    async def main(daemon: Daemon) -> None:
        await store.open("x")
        daemon.on_stop("store", store.close)
        driver = daemon.drive(Recorder(), {}, store)
        for token in range(700):
            driver.feed(Go((Save(token, (Put(f"n{token}", b"1"),)),)))
        daemon.exit("SIGTERM", 0)

    assert await asyncio.wait_for(daemon.serve(main), 60) == 0
    assert "Failed" not in logged(daemon)
    again = FileStore(tmp_path / "s.db")
    await again.open("y")
    assert len(await again.load()) == 700
    await again.close()


async def test_a_deposed_leader_does_nothing_more() -> None:
    daemon = make_daemon()
    said: list[str] = []

    async def main(daemon: Daemon) -> None:
        driver = daemon.drive(Recorder(), {Say: lambda effect: said.append(effect.text)})
        driver.feed(Go((Say("leading"),)))
        daemon.exit("the ZooKeeper session is lost", 1)
        driver.feed(Go((Say("offer"),)))

    assert await daemon.serve(main) == 1
    assert said == ["leading"]


# -- the pipeline ----------------------------------------------------------------------------------


class SlowStore:
    """Commits only when the test says so."""

    def __init__(self) -> None:
        self.commits: list[list[Op]] = []
        self.gate = asyncio.Semaphore(0)
        self.began = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def open(self, leader: str) -> Epoch:
        return Epoch("c", 1)

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        return {}

    async def commit(self, ops: Sequence[Op]) -> None:
        self.began.release()
        await self.gate.acquire()
        if self.error is not None:
            raise self.error
        self.commits.append(list(ops))

    async def close(self) -> None:
        return


async def test_what_waits_while_a_commit_is_under_way_goes_together() -> None:
    store, fed = SlowStore(), list[Event]()
    pipeline = SavePipeline(store, fed.append, HandClock(), Metrics())
    task = asyncio.create_task(pipeline.run())
    pipeline.save(Save(1, (Put("a", b"1"),)))
    await store.began.acquire()
    for token in (2, 3, 4):
        pipeline.save(Save(token, (Put(f"b{token}", b"2"),)))
    assert fed == []
    store.gate.release()
    await store.began.acquire()
    assert fed == [Saved(1)]
    store.gate.release()
    await pipeline.drained()
    assert [len(commit) for commit in store.commits] == [1, 3]
    assert fed == [Saved(1), Saved(2), Saved(3), Saved(4)]
    store.error = StaleEpoch("another")
    pipeline.save(Save(5, (Put("c", b"3"),)))
    store.gate.release()
    with pytest.raises(StaleEpoch):
        await task
    assert Saved(5) not in fed


saves = st.lists(
    st.lists(st.builds(Put, st.just("p"), st.integers(1, 200_000).map(bytes)), max_size=3).map(
        lambda ops: Save(0, tuple(ops))
    ),
    min_size=1,
    max_size=12,
)


@given(saves, st.integers(1, 300))
def test_batches_keep_order_and_limits(batch: list[Save], copies: int) -> None:
    waiting = deque(batch + [Save(1, (Put("q", b"x"),))] * copies)
    before = list(waiting)
    after: list[Save] = []
    while waiting:
        taken = take_batch(waiting)
        assert taken
        ops = [op for save in taken for op in save.ops]
        size = sum(len(op.path) + len(op.data) for op in ops if isinstance(op, Put))
        if len(taken) > 1:
            assert len(ops) <= MAX_BATCH_OPS
            assert size <= MAX_BATCH_BYTES
        after += taken
    assert after == before


def test_a_note_is_an_effect() -> None:
    assert note("Doing", level="WARNING", x=1) == Note("Doing", {"x": 1}, "WARNING")
