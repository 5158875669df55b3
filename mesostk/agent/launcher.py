"""The pre-forked launcher: a small single-threaded process that forks the supervisors of runs.

::

    agent ── SOCK_SEQPACKET ── launcher ── fork ─▶ spare: supervisor ── fork ─▶ task to be
      ready      ◀──────────────  holds the lock: no launch of an earlier launcher is under way
      (n, request) ───────────▶  ── pipe ─▶ no longer a spare ── pipe ─▶ execs the task
      started n (with pidfd, line) or failed n ◀─ from the supervisor, over the same socket
      gone n     ◀──────────────  it was killed, perhaps before it could answer

One supervisor with its task's process is forked ahead, so that a launch waits for no fork; the
next spare is forked when the request has been handed over. A supervisor whose run is over takes
the next one from the agent by its line (line.py): the launcher is asked only when none is idle.

It is exec'd as `python -I -S` and imports nothing but small modules of the standard library, so
that a fork costs a millisecond and a supervisor a megabyte; forking from the agent itself would be
slow and, with its threads, unsafe. It ends when the agent's end of the socket closes;
supervisors do not notice.

The lock (`flock` on `<runtime_dir>/launcher.lock`) is shared with each supervisor until that has
written its `pid` record. Whoever starts a new launcher and hears `ready` therefore knows that every
launch asked of the old one has left its record or never will: recovery reads the truth. `ready`
brings the agent a share, too, of which it sends one with each request by line.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket

from mesostk.agent import frames, supervisor, task_process

TYPE_CHECKING = False  # as in frames.py
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any


def main(socket_fd: int, lock_path: str) -> None:
    """Serve the agent at the other end of `socket_fd` until it closes."""
    # Blocked from before the fork, none of those that a supervisor waits for is lost.
    for number in supervisor.IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    blocked = supervisor.IGNORED_BY_PYTHON | supervisor.WAITED - {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    supervisor.set_process_name("mesos-launcher")
    os.set_inheritable(socket_fd, False)  # it was for the exec of this process only
    sock = socket.socket(fileno=socket_fd)
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        frames.send(sock, frames.encode(("ready", 0, os.getpid())), [lock])
    except OSError:
        return
    gc.disable()
    gc.freeze()  # a collection in a supervisor would copy every shared page
    _Launcher(sock, lock).serve()


class _Launcher:
    """`_forked` is pid → number of the launch, until that supervisor has ended.

    `_spare` is the pid of the supervisor that has no launch yet, and the pipe by which it gets one;
    closing that ends it.
    """

    def __init__(self, sock: socket.socket, lock: int) -> None:
        self._sock = sock
        self._lock = lock
        self._forked: dict[int, int] = {}
        self._spare: tuple[int, int] | None = None

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, self._on_child)
        self._fork_spare()
        while True:
            try:
                received = frames.receive(self._sock)
            except ConnectionError:
                return
            if received is None:
                return
            message, fds = received
            frames.close(fds)
            if (
                isinstance(message, tuple)
                and len(message) == 2
                and isinstance(message[0], int)
                and isinstance(message[1], dict)
            ):
                self._launch(message[0], message[1])

    def _launch(self, number: int, request: dict[str, object]) -> None:
        if not self._hand_over(number, request):  # none there, or it was killed while it waited
            self._fork_spare()
            if not self._hand_over(number, request):
                self._tell(("failed", number, "cannot fork a supervisor"))
        self._fork_spare()

    def _hand_over(self, number: int, request: dict[str, object]) -> bool:
        """Give the launch to the spare; False if it could not have read all of it."""
        # Blocked first: a spare that has ended is either forgotten by now or told of as `gone`.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            if self._spare is None:
                return False
            pid, pipe = self._spare
            self._spare = None
            task_process.hand_over(pipe, (number, request))
        except OSError:
            return False
        else:
            self._forked[pid] = number
            return True
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def _fork_spare(self) -> None:
        """Fork a supervisor ahead of its launch; where that is refused there is none."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # for the child to inherit
        take, give = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                os.close(give)
                report = _reporter(self._sock)
                supervisor.run(report, take, self._sock.fileno(), self._lock)  # never returns
            self._spare = (pid, give)
        except OSError:
            os.close(give)
        finally:
            os.close(take)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def _on_child(self, _signum: int, _frame: FrameType | None) -> None:
        """Collect supervisors that have ended."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._spare is not None and self._spare[0] == pid:
                    os.close(self._spare[1])
                    self._spare = None
                number = self._forked.pop(pid, None)
                if number is not None and status != 0:
                    self._tell(("gone", number, pid))
        except ChildProcessError:
            return

    def _tell(self, message: object) -> None:
        try:
            self._sock.send(frames.encode(message))
        except ConnectionError:
            return  # the next recvmsg hears of it, too


def _reporter(sock: socket.socket) -> supervisor.Report:
    """What a supervisor reports with, once; closes its socket."""

    def report(number: int, message: tuple[Any, ...], *fds: int) -> None:
        try:
            frames.send(sock, frames.encode((message[0], number, *message[1:])), fds)
        except OSError:
            pass  # the agent is gone, or was told; it reads the records when it is back
        finally:
            sock.close()

    return report
