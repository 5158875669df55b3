"""The life of a daemon's process: one loop, its tasks, signals, threads, and one way to end.

::

    run(main) ─▶ main(daemon) builds the graph, calls start/drive/on_stop, returns
                   │  daemon.ready()      READY=1: the ports are open
                   ▼
                 running ── SIGTERM, SIGINT ────────────▶ stops in reverse order ─▶ exit 0
                   └────── a task fails, Exit effect ───▶ stops in reverse order ─▶ exit code
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import uvloop

from mesostk.base.clock import Clock, RealClock
from mesostk.base.core import Core, Driver, Effect, Exit, Performer, Save, WallClock
from mesostk.base.log import Log, capture_library_logs
from mesostk.base.metrics import Metrics
from mesostk.base.pipeline import SavePipeline
from mesostk.base.store import Store
from mesostk.base.systemd import Notifier
from mesostk.errors import MesostkError

C = TypeVar("C", bound=Core)
T = TypeVar("T")

#: A step of the wall clock below this is noise of reading two clocks one after the other.
MIN_CLOCK_STEP_S: Final = 0.05

#: How often the loop's lag is measured and the wall clock compared.
PULSE_S: Final = 0.5

#: One part of the graph that takes longer than this to stop is left behind.
STOP_TIMEOUT_S: Final = 10.0

#: Young objects are looked at in lots that take the collector less than 5 ms, older ones rarely: a
#: core has no cycles to find.
GC_THRESHOLDS: Final = (20_000, 250, 100)


class Daemon:
    """Runs one graph of objects until a signal, a failure or an `Exit` ends it."""

    def __init__(
        self,
        name: str,
        log: Log | None = None,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.name = name
        self.log = log if log is not None else Log()
        self.metrics = metrics if metrics is not None else Metrics()
        self.clock: Clock = clock if clock is not None else RealClock()
        self._notifier = notifier if notifier is not None else Notifier(None)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._cpu = ThreadPoolExecutor(1, thread_name_prefix="cpu")
        self._tasks: set[asyncio.Task[None]] = set()
        self._stops: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._hangups: list[Callable[[], None]] = []
        self._drivers: list[Driver[Any]] = []
        self._ended: asyncio.Event | None = None
        self._outcome: tuple[str, int] | None = None
        self._offset_s = 0.0
        self._lag = self.metrics.timer("loop/lag")

    # -- running ---------------------------------------------------------------------------------

    def run(self, main: Callable[[Daemon], Coroutine[Any, Any, None]]) -> int:
        """Run `main` and what it starts on a uvloop; return the exit code of the process."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self.serve(main))

    async def serve(self, main: Callable[[Daemon], Coroutine[Any, Any, None]]) -> int:
        """`run` for a caller that has a loop: tests, and several daemons in one process."""
        loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        loop.set_exception_handler(self._on_loop_error)
        capture_library_logs(self.log)
        gc.set_threshold(*GC_THRESHOLDS)
        installed = self._catch_signals(loop)
        self._offset_s = self.clock.wall() - self.clock.monotonic()
        self.start("pulse", self._pulse())
        try:
            self.start("main", main(self))
            await self._ended.wait()
        finally:
            self._notifier.stopping()
            await self._stop_all()
            for number in installed:
                loop.remove_signal_handler(number)
        reason, code = self._outcome if self._outcome is not None else ("", 0)
        write = self.log.info if code == 0 else self.log.error
        write("Ending", daemon=self.name, reason=reason, code=code)
        return code

    def _catch_signals(self, loop: asyncio.AbstractEventLoop) -> list[int]:
        handlers: dict[int, Callable[[], None]] = {
            signal.SIGTERM: lambda: self.exit("SIGTERM", 0),
            signal.SIGINT: lambda: self.exit("SIGINT", 0),
            signal.SIGHUP: self._hang_up,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        return list(handlers)

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        message = str(context.get("message", ""))
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            self.fail(f"callback: {message}", error)
            return
        self.log.warning("Loop reports", message=message, error=error)

    async def _stop_all(self) -> None:
        for name, stop in reversed(self._stops):
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await stop()
            except TimeoutError:
                self.log.warning("Leaving behind what does not stop", part=name)
            except Exception as error:  # noqa: BLE001 - one part must not keep others from stopping
                self.log.crash("Stopping failed", error, part=name)
        pending = [task for task in self._tasks if not task.done()]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=STOP_TIMEOUT_S)
        self._disk.shutdown(wait=False, cancel_futures=True)
        self._cpu.shutdown(wait=False, cancel_futures=True)

    # -- for the builder of the graph --------------------------------------------------------------

    def start(self, name: str, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `coro` as a task whose failure ends the process."""
        task = asyncio.get_running_loop().create_task(self._guard(name, coro), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, name: str, coro: Coroutine[Any, Any, None]) -> None:
        try:
            await coro
        except Exception as error:  # noqa: BLE001 - the one place where any failure ends the process
            self.fail(name, error)

    def on_stop(self, name: str, stop: Callable[[], Awaitable[None]]) -> None:
        """Call `stop` when the process ends; last told, first called."""
        self._stops.append((name, stop))

    def on_hangup(self, react: Callable[[], None]) -> None:
        """Call `react` at each SIGHUP."""
        self._hangups.append(react)

    def ready(self, status: str = "") -> None:
        """Tell systemd that the ports are open, and put what is now loaded out of the collector."""
        self.freeze()
        self._notifier.ready(status)
        self.log.info("Ready", daemon=self.name, status=status, pid=os.getpid())

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._notifier.status(text)

    def freeze(self) -> None:
        """Move all live objects out of the collector's sight; call it after recovery."""
        gc.collect()
        gc.freeze()

    def exit(self, reason: str, code: int = 1) -> None:
        """End the process with `code`; the first reason counts.

        With code 0 the cores go on until all is stopped. With any other, leadership or a write was
        lost or an invariant broken: from here on no core is asked and no effect performed.
        """
        if self._outcome is None:
            self._outcome = (reason, code)
        if code != 0:
            for driver in self._drivers:
                driver.stop()
        if self._ended is not None:
            self._ended.set()

    def fail(self, part: str, error: BaseException) -> None:
        """End the process because `error` was raised in `part`."""
        code = getattr(error, "exit_code", 1)
        if isinstance(error, MesostkError):
            # Its message is a sentence for the operator; a traceback would only hide it.
            self.log.error("Failed", part=part, error=f"{type(error).__name__}: {error}")
        else:
            self.log.crash("Crashed", error, part=part)
        self.exit(f"{part}: {error}", code if isinstance(code, int) else 1)

    async def disk(self, work: Callable[..., T], *args: Any) -> T:
        """`work(*args)` in the one disk thread, in the order of the calls."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *args)

    async def cpu(self, work: Callable[..., T], *args: Any) -> T:
        """`work(*args)` in the one thread for computing (compression of large answers)."""
        return await asyncio.get_running_loop().run_in_executor(self._cpu, work, *args)

    @property
    def disk_pool(self) -> ThreadPoolExecutor:
        """The pool of `disk`, for a store that needs one."""
        return self._disk

    def drive(
        self,
        core: C,
        performers: Mapping[type[Effect], Performer],
        store: Store | None = None,
    ) -> Driver[C]:
        """A driver for `core` with its `WallClock` fed; `Exit` ends the process.

        With a `store` (opened already), `Save` is committed there and answered by `Saved`. An
        exception out of `core` or a performer is a broken invariant and ends the process.
        """
        driver: Driver[C] = Driver(
            core,
            performers,
            self.clock.monotonic,
            self._call_at,
            self.log.note,
            lambda error: self.fail("core", error),
        )
        driver.perform(Exit, self._perform_exit)
        if store is not None:
            pipeline = SavePipeline(store, driver.feed, self.clock, self.metrics)
            driver.perform(Save, pipeline.save)
            self.start("store", pipeline.run())
            # Told after whoever closes the store, so it is called before.
            self.on_stop("writes", pipeline.drained)
        self._drivers.append(driver)
        driver.feed(WallClock(self._offset_s))
        return driver

    # -- inside ------------------------------------------------------------------------------------

    def _perform_exit(self, effect: Exit) -> None:
        for driver in self._drivers:
            driver.stop()
        self.exit(effect.reason, effect.code)

    def _call_at(self, when: float, fn: Callable[[], None]) -> Callable[[], None]:
        # The loop's timers tick in milliseconds: round up, or the core is asked too early.
        delay = math.ceil(max(0.0, when - self.clock.monotonic()) * 1000.0) / 1000.0
        return asyncio.get_running_loop().call_later(delay, fn).cancel

    def _hang_up(self) -> None:
        self.log.info("Hung up", daemon=self.name, reactions=len(self._hangups))
        for react in self._hangups:
            react()

    async def _pulse(self) -> None:
        """Measure the loop, feed the watchdog and watch the wall clock, from the loop itself."""
        watchdog_s = self._notifier.watchdog_s
        period = PULSE_S if watchdog_s is None else min(PULSE_S, watchdog_s / 4)
        while True:
            before = self.clock.monotonic()
            await asyncio.sleep(period)
            self._lag.record(max(0.0, self.clock.monotonic() - before - period))
            if watchdog_s is not None:
                self._notifier.watchdog()
            self._compare_clocks()

    def _compare_clocks(self) -> None:
        offset_s = self.clock.wall() - self.clock.monotonic()
        if abs(offset_s - self._offset_s) <= MIN_CLOCK_STEP_S:
            return
        self.log.warning("Wall clock stepped", by_s=round(offset_s - self._offset_s, 3))
        self._offset_s = offset_s
        for driver in self._drivers:
            driver.feed(WallClock(offset_s))
