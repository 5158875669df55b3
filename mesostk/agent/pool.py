"""The supervisors that the agent has a line to: which have a run, and which wait for one.

::

    started n with a line ─▶ busy ─ ended n ─▶ idle ─ next launch ─▶ busy …
                              │                 │ too many, unused for long, used often, agent ends
                              ▼ it is gone      ▼
                            the records tell  its line is closed: it exits

Loop thread only; nothing here blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

from mesostk.agent import frames

#: Supervisors kept without a run; what one holds is about a megabyte.
MAX_IDLE = 64

#: … and for how long, in seconds.
IDLE_S = 10.0

#: Runs of one supervisor, so that nothing can pile up in it for ever.
MAX_RUNS = 1000


class Supervisor:
    """One process with a line to it. `number` is of the launch that it has or had last."""

    __slots__ = ("idle_since", "line", "number", "pid", "pidfd", "runs")

    def __init__(self, number: int, pid: int, pidfd: int, line: socket.socket) -> None:
        self.number = number
        self.pid = pid
        self.pidfd = pidfd
        self.line = line
        self.runs = 1
        self.idle_since = 0.0


class Pool:
    """`on_message` is told what a supervisor says, `on_gone` that one has exited unasked."""

    def __init__(
        self,
        on_message: Callable[[Supervisor, object], None],
        on_gone: Callable[[Supervisor], None],
    ) -> None:
        self._on_message = on_message
        self._on_gone = on_gone
        self._known: set[Supervisor] = set()
        self._idle: list[Supervisor] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> tuple[int, ...]:
        """Pids of those that wait for a run, the one that is used next at the end."""
        return tuple(one.pid for one in self._idle)

    def add(self, number: int, pid: int, pidfd: int, line: int) -> Supervisor:
        """Watch a supervisor that has begun launch `number`; takes both descriptors over."""
        one = Supervisor(number, pid, pidfd, socket.socket(fileno=line))
        one.line.setblocking(False)
        self._known.add(one)
        loop = asyncio.get_running_loop()
        loop.add_reader(line, self._read, one)
        loop.add_reader(pidfd, self._gone, one)
        return one

    def give(self, number: int, frame: bytes, fds: Sequence[int]) -> bool:
        """Have an idle supervisor do a launch; False if there is none."""
        while self._idle:
            one = self._idle.pop()
            one.number = number
            one.runs += 1
            try:
                frames.send(one.line, frame, fds)
            except OSError:
                self.drop(one)  # killed: nobody there has heard of the launch
            else:
                return True
        return False

    def put_back(self, one: Supervisor) -> None:
        """Its run is over, and whoever might signal it knows."""
        if one not in self._known:
            return
        if len(self._idle) >= MAX_IDLE or one.runs >= MAX_RUNS:
            self.drop(one)
            return
        loop = asyncio.get_running_loop()
        one.idle_since = loop.time()
        self._idle.append(one)
        if self._timer is None:
            self._timer = loop.call_later(IDLE_S, self._drop_unused)

    def drop(self, one: Supervisor) -> None:
        """Close the line: it exits, at the end of its run if it has one."""
        if one not in self._known:
            return
        self._known.discard(one)
        if one in self._idle:
            self._idle.remove(one)
        loop = asyncio.get_running_loop()
        loop.remove_reader(one.pidfd)
        loop.remove_reader(one.line.fileno())
        one.line.close()
        os.close(one.pidfd)
        one.pidfd = -1

    def close(self) -> None:
        """Close all lines."""
        for one in list(self._known):
            self.drop(one)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_unused(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        # The one that waits longest is first: `give` takes from the end.
        while self._idle and self._idle[0].idle_since + IDLE_S <= loop.time():
            self.drop(self._idle[0])
        if self._idle:
            due = self._idle[0].idle_since + IDLE_S
            self._timer = loop.call_at(due, self._drop_unused)

    def _read(self, one: Supervisor) -> None:
        """Everything that it has said."""
        while one in self._known:
            try:
                received = frames.receive(one.line)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                # It has exited or will at once: the pidfd tells.
                asyncio.get_running_loop().remove_reader(one.line.fileno())
                return
            message, fds = received
            frames.close(fds)
            self._on_message(one, message)

    def _gone(self, one: Supervisor) -> None:
        with contextlib.suppress(OSError):
            self._read(one)  # first what it said before
        if one in self._known:
            self.drop(one)
            self._on_gone(one)
