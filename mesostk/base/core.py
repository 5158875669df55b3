"""The seam between a pure core and its shell.

::

    sockets, zk, disk, timers ─▶ shell: decode ─▶ Driver.feed(event)
                                                     │  core.handle(now, event) ─▶ [effect, …]
                                                     │  perform[type(effect)](effect), in order
                                                     │  arm one timer for core.deadline()
                                                     └─ Note effects go to the log

A core never awaits, reads a clock, opens anything, logs or draws unseeded randomness. `now` is
monotonic seconds. Wall time, needed only in fields that go on the wire, is `now + offset`; events
of type `WallClock` tell the offset, so that a step of the host's clock moves no deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec


class Event(msgspec.Struct, frozen=True):
    """A fact, told to a core. Subclasses are named as facts: `AgentLost`, `Saved`."""


class Effect(msgspec.Struct, frozen=True):
    """A command that a core gives to its shell. Subclasses are named as commands: `Send`."""


class Tick(Event, frozen=True):
    """`core.deadline()` has come."""


class WallClock(Event, frozen=True):
    """Wall clock minus monotonic clock, in seconds: a core's first event, then at each step."""

    offset_s: float


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write the record at `path`, relative to the store's root, whether or not it exists."""

    path: str
    data: bytes


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Remove the record at `path`; nothing happens where there is none."""

    path: str


Op = Put | Delete


class Save(Effect, frozen=True):
    """Make `ops` durable, all or none, then tell `Saved(token)`.

    Saves are applied in the order in which they were asked for. A save that fails ends the process.
    """

    token: int
    ops: tuple[Op, ...]


class Saved(Event, frozen=True):
    """What `Save(token)` asked for is durable."""

    token: int


class Note(Effect, frozen=True):
    """One line for the log: an active verb and its fields, e.g. `Launching task=web.1`."""

    verb: str
    fields: Mapping[str, object]
    level: str = "INFO"


def note(verb: str, /, level: str = "INFO", **fields: object) -> Note:
    """A `Note` with its fields as keyword arguments."""
    return Note(verb, fields, level)


class Exit(Effect, frozen=True):
    """End the process with `code` after logging `reason`; systemd restarts it."""

    reason: str
    code: int = 1


class Core(Protocol):
    """What the driver and the simulation need of a core."""

    def handle(self, now: float, event: Event) -> Sequence[Effect]:
        """Take one event in; return what the shell must do, in order."""
        ...

    def deadline(self) -> float | None:
        """Monotonic time at which the core wants a `Tick`; None if it waits for nothing."""
        ...

    def check(self) -> None:
        """Assert every invariant; for tests and the simulation."""
        ...


C = TypeVar("C", bound=Core)

#: Performs one kind of effect; must not await, may start work that later feeds an event.
Performer = Callable[[Any], None]


class Driver(Generic[C]):
    """Feeds events to a core and performs its effects, one event at a time.

    An event fed while another is being handled waits its turn, so that effects of one event are
    complete before the next begins. `call_at(when, fn)` arms the only timer and returns a function
    that cancels it. An exception means that the core's state can no longer be trusted: the driver
    stops, tells `on_crash` and raises it.
    """

    def __init__(
        self,
        core: C,
        perform: Mapping[type[Effect], Performer],
        monotonic: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], Callable[[], None]],
        on_note: Callable[[Note], None],
        on_crash: Callable[[Exception], None] | None = None,
    ) -> None:
        self.core = core
        self._on_crash = on_crash
        self._stopped = False
        self._perform: dict[type[Effect], Performer] = {**perform, Note: on_note}
        self._monotonic = monotonic
        self._call_at = call_at
        self._queue: deque[Event] = deque()
        self._busy = False
        self._armed_for: float | None = None
        self._cancel: Callable[[], None] | None = None

    def feed(self, event: Event) -> None:
        """Handle `event` now, or right after the one being handled; nothing once stopped."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue and not self.is_stopped():
                for effect in self.core.handle(self._monotonic(), self._queue.popleft()):
                    if self.is_stopped():
                        break
                    self._perform[type(effect)](effect)
            self._arm()
        except Exception as error:
            self.stop()
            if self._on_crash is not None:
                self._on_crash(error)
            raise
        finally:
            self._busy = False

    def perform(self, kind: type[Effect], performer: Performer) -> None:
        """Have `performer` do effects of type `kind` from now on."""
        self._perform[kind] = performer

    def is_stopped(self) -> bool:
        """Whether `stop` was called, or an exception stopped the driver."""
        return self._stopped

    def stop(self) -> None:
        """Perform nothing any more and drop what waits; for a process that ends."""
        self._stopped = True
        self._queue.clear()
        self._arm()

    def _arm(self) -> None:
        deadline = None if self.is_stopped() else self.core.deadline()
        if deadline == self._armed_for:
            return
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self._armed_for = deadline
        if deadline is not None:
            self._cancel = self._call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._armed_for = None
        self._cancel = None
        self.feed(Tick())
