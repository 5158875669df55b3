"""The line of a supervisor that is used again: by it the agent gives it one run after another.

::

    agent                                           supervisor
      (n, request), the lock ──────────────────────▶  taken when the run before is over
      started n, failed n    ◀──────────────────────
      ended n with its `status` record  ◀───────────  nothing of run n is alive
      nobody there: agent gone, or enough of it ───▶  it exits, after its run if it has one

The agent sends run n + 1 only when it has heard `ended n` and has put away what it signals run n
by, so that no signal for a run reaches its successor: those that came too late are pending when
the next request is read, and are forgotten then.

The lock is the launcher's (launcher.py): with each request comes a share of it, given up when the
`pid` record is written, or with the supervisor's life.

Imports nothing but small modules of the standard library: see launcher.py.
"""

from __future__ import annotations

import socket

from mesostk.agent import frames

TYPE_CHECKING = False  # as in frames.py
if TYPE_CHECKING:
    from typing import Any


class Line:
    """The supervisor's end."""

    def __init__(self) -> None:
        self._sock, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @property
    def number(self) -> int:
        """File descriptor, which is not for the task's process."""
        return self._sock.fileno()

    @property
    def theirs(self) -> int:
        """File descriptor of the agent's end, for it to be sent."""
        return self._theirs.fileno()

    def hand_over(self) -> None:
        """The agent has its end: ours is the only one here from now on."""
        self._theirs.close()

    def report(self, number: int, message: tuple[Any, ...], *fds: int) -> None:
        """Tell the agent, as far as it is there."""
        try:
            frames.send(self._sock, frames.encode((message[0], number, *message[1:])), fds)
        except OSError:
            return  # `next` hears of it, too

    def next(self) -> tuple[int, dict[str, Any], int] | None:
        """Wait for a run: its number, the request, a share of the lock. None if none will come."""
        while True:
            try:
                received = frames.receive(self._sock)
            except OSError:
                return None
            match received:
                case None:
                    return None
                case ((int(number), dict(request)), [lock]):
                    return number, request, lock
                case (_, fds):
                    frames.close(fds)  # the agent hears no answer; only a foreign hand sends such
