"""The keeper of a task's own terminal (`tty_info`): a process beside it that outlives the agent.

::

    task ── terminal ── keeper ─▶ sandbox's stdout
                          ▲ └───▶ who attached to the output     <runtime>/terminal, a unix socket:
                          └────── who types                      `o`, then bytes from the keeper
                                                                 `i`, then frames to it (`frame`)

It ends when nobody has the terminal open any more, after the last of the output. A reader that
takes nothing is cut off: it must not hold up the task.

Imports nothing but small modules of the standard library: see launcher.py.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import select
import socket
import stat
import sys

TYPE_CHECKING = False  # as in launcher.py
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: Name of the socket in the runtime directory of the run.
SOCKET = "terminal"

#: Kinds of frames: what is typed, and the size of the window.
DATA, WINDOW = b"d", b"w"

_PIECE = 64 * 1024

#: Output that one reader may leave unread.
_MAX_UNREAD = 1024 * 1024

_TIOCSWINSZ = 0x5414  # termios(4), the same on all of Linux's usual machines


def frame(kind: bytes, body: bytes) -> bytes:
    """One frame of who types."""
    return kind + len(body).to_bytes(4, "big") + body


def window(rows: int, columns: int) -> bytes:
    """The body of a WINDOW frame."""
    return rows.to_bytes(2, "big") + columns.to_bytes(2, "big")


def start(request: dict[str, Any]) -> tuple[int, int, str]:
    """Make the terminal and its keeper; its pid, our end of it, and its name. Raises OSError.

    Our end is to be closed once the task has the terminal open.
    """
    ours, theirs = os.openpty()
    os.set_inheritable(theirs, False)
    try:
        rows, columns = request["terminal"]
        _resize(ours, rows, columns)
        log = _open_log(request)
        if request["user"] is not None and os.geteuid() == 0:
            os.fchown(theirs, pwd.getpwnam(request["user"]).pw_uid, -1)
        server = _listen(request["runtime"])
        pid = os.fork()
        if pid == 0:
            _close_all_but(ours, log, server.fileno())
            _Keeper(ours, log, server).serve()
        os.close(log)
        server.close()
    except (OSError, KeyError):
        os.close(theirs)
        raise
    finally:
        os.close(ours)
    return pid, theirs, os.ttyname(theirs)


def _close_all_but(*kept: int) -> None:
    """Among others the pipe by which the task's process learns what to be, whose end it awaits."""
    last = 2
    for fd in sorted(kept):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, 1024)


def _open_log(request: dict[str, Any]) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    log = os.open(request["stdout"], flags, 0o644)
    if not stat.S_ISREG(os.fstat(log).st_mode):
        os.close(log)
        raise OSError(22, "stdout is not a file")
    if request["user"] is not None and os.geteuid() == 0:
        entry = pwd.getpwnam(request["user"])
        os.fchown(log, entry.pw_uid, entry.pw_gid)
    return log


def _listen(runtime: str) -> socket.socket:
    """By way of the directory's descriptor, for the path of a socket must be short."""
    directory = os.open(runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o077)
        server.bind(f"/proc/self/fd/{directory}/{SOCKET}")
        os.umask(before)
        server.listen(16)
    finally:
        os.close(directory)
    server.setblocking(False)
    return server


def _resize(terminal: int, rows: int, columns: int) -> None:
    if rows and columns:
        size = rows.to_bytes(2, sys.byteorder) + columns.to_bytes(2, sys.byteorder)
        fcntl.ioctl(terminal, _TIOCSWINSZ, size + bytes(4))


class _Client:
    """One connection: what was read of it and not understood yet, what is to be written to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.kind = b""
        self.heard = b""
        self.unread = b""


class _Keeper:
    def __init__(self, terminal: int, log: int, server: socket.socket) -> None:
        self._terminal = terminal
        self._log = log
        self._server = server
        self._clients: dict[int, _Client] = {}
        self._typed = b""
        os.set_blocking(terminal, False)

    def serve(self) -> NoReturn:
        """Until the terminal is closed on the other side."""
        try:
            while True:
                self._turn()
        except EOFError:
            for client in list(self._clients.values()):
                client.sock.setblocking(False)
                self._give(client)
        finally:
            os._exit(0)

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._terminal, select.POLLIN | (select.POLLOUT if self._typed else 0))
        poll.register(self._server.fileno(), select.POLLIN)
        for fd, client in self._clients.items():
            wants = select.POLLOUT if client.unread else 0
            # Nothing more is taken from who types until the terminal has taken that.
            wants |= 0 if self._typed and client.kind == b"i" else select.POLLIN
            poll.register(fd, wants)
        for fd, happened in poll.poll():
            if fd == self._server.fileno():
                self._accept()
            elif fd == self._terminal:
                self._move(happened)
            elif fd in self._clients:
                self._hear(self._clients[fd], happened)

    def _accept(self) -> None:
        try:
            sock, _ = self._server.accept()
        except OSError:
            return  # gone again
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock)

    def _move(self, happened: int) -> None:
        """Output of the task to all, what was typed to the task. Raises EOFError at the end."""
        if self._typed and happened & select.POLLOUT:
            self._type()
        if not happened & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            data = os.read(self._terminal, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            raise EOFError from None  # EIO: nobody has it open any more
        if not data:
            raise EOFError
        self._record(data)
        for client in list(self._clients.values()):
            if client.kind == b"o":
                client.unread += data
                self._give(client)

    def _type(self) -> None:
        try:
            self._typed = self._typed[os.write(self._terminal, self._typed) :]
        except OSError:
            return  # no room after all, or the end, which the reading tells

    def _record(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._log, left) :]
        except OSError:
            return  # a full disk: the task itself would not have got it there either

    def _hear(self, client: _Client, happened: int) -> None:
        if happened & select.POLLOUT:
            self._give(client)
        if not happened & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            data = client.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.heard += data
        if not client.kind:
            client.kind, client.heard = client.heard[:1], client.heard[1:]
        if client.kind == b"i":
            self._take_frames(client)

    def _take_frames(self, client: _Client) -> None:
        while len(client.heard) >= 5:
            size = int.from_bytes(client.heard[1:5], "big")
            if len(client.heard) < 5 + size:
                return
            kind, body = client.heard[:1], client.heard[5 : 5 + size]
            client.heard = client.heard[5 + size :]
            if kind == DATA:
                self._typed += body
            elif kind == WINDOW and size == 4:
                rows, columns = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:], "big")
                _resize(self._terminal, rows, columns)

    def _give(self, client: _Client) -> None:
        try:
            while client.unread:
                client.unread = client.unread[client.sock.send(client.unread) :]
        except BlockingIOError:
            if len(client.unread) > _MAX_UNREAD:
                self._drop(client)
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        client.sock.close()
