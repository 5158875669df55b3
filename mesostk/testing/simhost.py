"""Hosts, and the lives of daemons on them: crash, pause, restart with back-off as by systemd.

::

    start ─▶ boot() ─▶ events ─▶ Driver ─▶ core.handle ─▶ effects, a crash before or after any
      ▲                                                  of them; now and then core.check
      └── back-off 1 s … 30 s ◀── crash, Exit
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from mesostk.base.core import Core, Driver, Effect, Event, Exit, Note, Performer, WallClock
from mesostk.testing.faults import Faults, Kind
from mesostk.testing.simloop import Loop

C = TypeVar("C", bound=Core)

#: Delay of the first restart, and the most that quick deaths make of it; seconds.
RESTART_S = 1.0
MAX_RESTART_S = 30.0
#: A life longer than this was not a quick death; seconds.
GOOD_LIFE_S = 20.0
#: Invariants cost half as much again as what they are asserted of; what breaks one mostly stays
#: broken. To see the event that did it: the same seed with MESOSTK_CHECK_EVERY=1.
CHECK_EVERY = int(os.environ.get("MESOSTK_CHECK_EVERY", "4"))
#: Last lines of every log that a failing run shows.
LOG_LINES = 400


class Broken(AssertionError):
    """Something that must hold in a simulated world does not."""


class Ground:
    """What everything stands on: time, chance, faults, and the log of all daemons."""

    def __init__(self, seed: int) -> None:
        self.loop = Loop(seed)
        self.rng = self.loop.rng
        self.faults = Faults(random.Random(self.rng.random()), lambda: self.loop.now)
        self.log: deque[str] = deque(maxlen=LOG_LINES)

    def say(self, who: str, note: Note) -> None:
        """Keep one line of a daemon's log."""
        fields = " ".join(f"{key}={value}" for key, value in note.fields.items())
        self.log.append(f"{self.loop.now:9.3f} {who}: {note.verb} {fields}")


class Host:
    """A machine: its address, its wall clock and the daemons on it."""

    def __init__(self, name: str, ip: str) -> None:
        self.name = name
        self.ip = ip
        #: Wall clock minus monotonic clock; seconds.
        self.offset_s = 1_700_000_000.0
        self.daemons: list[Process] = []


class Checked(Generic[C]):
    """A core whose invariants are asserted after every CHECK_EVERY-th event, and after its last."""

    def __init__(self, core: C) -> None:
        self.core = core
        self._events = 0

    def handle(self, now: float, event: Event) -> Sequence[Effect]:
        effects = self.core.handle(now, event)
        self._events += 1
        if self._events % CHECK_EVERY == 0:
            self.core.check()
        return effects

    def deadline(self) -> float | None:
        return self.core.deadline()

    def check(self) -> None:
        self.core.check()


#: What crashes are rolled before and after an effect, by the kind of the effect.
BOUNDARIES = {
    "save": (Kind.CRASH_BEFORE_SAVE, Kind.CRASH_AFTER_SAVE),
    "checkpoint": (Kind.CRASH_BEFORE_CHECKPOINT, Kind.CRASH_AFTER_CHECKPOINT),
    "send": (Kind.CRASH_BEFORE_SEND, Kind.CRASH_AFTER_SEND),
    "launch": (Kind.CRASH_BEFORE_LAUNCH, Kind.CRASH_AFTER_LAUNCH),
}


class Process:
    """A daemon through all its lives. `boot` begins one, `on_end` follows each."""

    def __init__(self, ground: Ground, name: str, host: Host) -> None:
        self.ground = ground
        self.name = name
        self.host = host
        self.is_alive = False
        self.is_paused = False
        #: Whether a dead process comes back; the host may be without power.
        self.has_power = True
        self.life = 0
        self.ended: list[Callable[[], None]] = []
        #: When this life began.
        self.born_at = 0.0
        self._quick_deaths = 0
        self._held: deque[Callable[[], None]] = deque()
        self._drivers: list[Driver[Checked[Core]]] = []
        self._clocks: list[Callable[[], None]] = []
        #: Told when the process can be reached by ZooKeeper again, or no longer.
        self.on_contact: list[Callable[[], None]] = []
        host.daemons.append(self)

    # -- life -----------------------------------------------------------------------------------

    def boot(self) -> None:
        """Begin a life; for subclasses."""
        raise NotImplementedError

    def start(self) -> None:
        """A new life, unless there is one or no power."""
        if self.is_alive or not self.has_power:
            return
        self.life += 1
        self.is_alive = True
        self.born_at = self.ground.loop.now
        self.boot()

    def crash(self, why: str) -> None:
        """End at once, as by SIGKILL; systemd starts it again."""
        if not self.is_alive:
            return
        now = self.ground.loop.now
        self.ground.say(self.name, Note("Dying", {"why": why}))
        self.is_alive = self.is_paused = False
        self._held.clear()
        self.on_contact.clear()
        for driver in self._drivers:
            driver.stop()
        self.check()
        self._drivers.clear()
        self._clocks.clear()
        ended, self.ended = self.ended, []
        for fn in ended:
            fn()
        lived = now - self.born_at
        self._quick_deaths = 0 if lived > GOOD_LIFE_S else self._quick_deaths + 1
        delay = min(RESTART_S * 2**self._quick_deaths, MAX_RESTART_S)
        self.ground.loop.later(delay, self.start)

    def check(self) -> None:
        """Assert the invariants of its cores."""
        for driver in self._drivers:
            driver.core.check()

    def pause(self, seconds: float) -> None:
        """Stop dead for `seconds`, as by SIGSTOP: what arrives waits."""
        if not self.is_alive or self.is_paused:
            return
        self.is_paused = True
        life = self.life
        for fn in list(self.on_contact):
            fn()
        self.ground.loop.later(seconds, lambda: self.resume() if life == self.life else None)

    def resume(self) -> None:
        """Go on after a pause: what arrived meanwhile is handled first."""
        if not self.is_paused:
            return
        life = self.life
        self.is_paused = False
        for fn in list(self.on_contact):
            fn()
        while self._held and self.is_alive and life == self.life:
            self._held.popleft()()

    # -- time -----------------------------------------------------------------------------------

    def arrives(self, fn: Callable[[], None]) -> Callable[[], None]:
        """`fn` for this life only: dropped once it is over, held back while paused."""
        life = self.life

        def arrive() -> None:
            if not self.is_alive or life != self.life:
                return
            if self.is_paused:
                self._held.append(fn)
            else:
                fn()

        return arrive

    def later(self, delay_s: float, fn: Callable[[], None]) -> Callable[[], None]:
        """Call `fn` after `delay_s` in this life."""
        return self.ground.loop.later(delay_s, self.arrives(fn))

    def monotonic(self) -> float:
        return self.ground.loop.now

    # -- cores ----------------------------------------------------------------------------------

    def drive(
        self,
        core: C,
        table: Mapping[type[Effect], tuple[str, Performer]],
        *,
        has_clock: bool = True,
    ) -> Driver[Checked[C]]:
        """A driver of a core; `table` gives each effect's boundary, or "" for none.

        `has_clock`: the core is told the wall clock, now and at each step.
        """
        performers = {
            kind: self._at_boundary(kind.__name__, boundary, performer)
            for kind, (boundary, performer) in table.items()
        }
        performers[Exit] = lambda effect: self.crash(f"exit: {effect.reason}")
        driver = Driver(
            Checked(core),
            performers,
            self.monotonic,
            lambda when, fn: self.ground.loop.at(when, self.arrives(fn)),
            lambda note: self.ground.say(self.name, note),
        )
        self._drivers.append(driver)  # type: ignore[arg-type] # a driver of some core
        if has_clock:
            self._clocks.append(lambda: driver.feed(WallClock(self.host.offset_s)))
            driver.feed(WallClock(self.host.offset_s))
        return driver

    def _at_boundary(self, what: str, boundary: str, performer: Performer) -> Performer:
        if not boundary:
            return performer
        before, after = BOUNDARIES[boundary]
        faults = self.ground.faults

        def perform(effect: Effect) -> None:
            if faults.roll(before, f"{self.name} {what}"):
                self.crash(before)
                return
            life = self.life
            performer(effect)
            if self.is_alive and self.life == life and faults.roll(after, f"{self.name} {what}"):
                self.crash(after)

        return perform

    def clock_stepped(self) -> None:
        """Tell the cores what the host's wall clock is now."""
        for tell in list(self._clocks):
            self.arrives(tell)()
