"""The agent's ends of a container's stdin, stdout and stderr: pipes, or one terminal.

Readers wait for data without a thread. A writer waits for room, so that a program that does not
read slows down who types and nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Self

from mesostk.agent import keeper
from mesostk.agent.sandbox import owner_of

Kind = Literal["STDOUT", "STDERR"]

#: Takes a piece of output; the next is read when it returns.
Sink = Callable[[Kind, bytes], Awaitable[None]]

_PIECE_BYTES = 64 * 1024


class Stdio:
    """Three streams; `paths` are what the container's process opens while `ours` are open."""

    def __init__(self, tty: bool) -> None:
        self.is_tty = tty
        self._theirs: list[int] = []
        self._input = -1
        self._outputs: dict[Kind, int] = {}
        self.paths: tuple[str, str, str] = ("", "", "")

    @classmethod
    def open(cls, tty: bool, user: str | None) -> Self:
        """Make the pipes, or a terminal of `user`'s. Raises OSError, SandboxError for no user."""
        made = cls(tty)
        if tty:
            made._open_terminal(user)
        else:
            made._open_pipes()
        return made

    def _open_terminal(self, user: str | None) -> None:
        owner = owner_of(user)[0] if user is not None and os.geteuid() == 0 else -1
        ours, theirs = os.openpty()
        name = os.ttyname(theirs)
        os.fchown(theirs, owner, -1)
        os.set_blocking(ours, False)
        self._theirs = [theirs]
        self._input, self._outputs = ours, {"STDOUT": ours}
        self.paths = (name, name, name)

    def _open_pipes(self) -> None:
        taken, self._input = os.pipe()
        out, given_out = os.pipe()
        err, given_err = os.pipe()
        self._theirs = [taken, given_out, given_err]
        self._outputs = {"STDOUT": out, "STDERR": err}
        for fd in (self._input, out, err):
            os.set_blocking(fd, False)
        own = f"/proc/{os.getpid()}/fd"
        self.paths = (f"{own}/{taken}", f"{own}/{given_out}", f"{own}/{given_err}")

    def handed_over(self) -> None:
        """The process has its ends: close ours of them, so that its end is seen."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs.clear()

    async def pump(self, sink: Sink) -> None:
        """Give `sink` what the process writes, until its end."""
        await asyncio.gather(*(self._pump(kind, sink) for kind in self._outputs))

    async def _pump(self, kind: Kind, sink: Sink) -> None:
        while data := await self._read(kind):
            await sink(kind, data)

    async def _read(self, kind: Kind) -> bytes:
        loop = asyncio.get_running_loop()
        fd = self._outputs[kind]
        while True:
            try:
                return os.read(fd, _PIECE_BYTES)
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_reader(fd, _settle, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(fd)
            except OSError as error:
                if error.errno == errno.EIO:  # nobody has the terminal open any more
                    return b""
                raise

    async def write(self, data: bytes) -> None:
        """Give the process `data`, nothing meaning the end of its input. It may be gone."""
        if not data:
            if not self.is_tty:
                self._close_input()
            return
        loop = asyncio.get_running_loop()
        left = memoryview(data)
        while left and self._input >= 0:
            try:
                left = left[os.write(self._input, left) :]
            except BlockingIOError:
                room = loop.create_future()
                loop.add_writer(self._input, _settle, room)
                try:
                    await room
                finally:
                    loop.remove_writer(self._input)
            except OSError:
                return  # it reads no more

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; nothing happens without one."""
        if self.is_tty and self._input >= 0:
            size = struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0)
            fcntl.ioctl(self._input, termios.TIOCSWINSZ, size)

    def _close_input(self) -> None:
        if self._input >= 0 and not self.is_tty:
            os.close(self._input)
        self._input = -1

    def close(self) -> None:
        """Close everything; reads under way must have ended."""
        self.handed_over()
        self._close_input()
        for fd in self._outputs.values():
            os.close(fd)
        self._outputs.clear()
        self._input = -1


class KeptTerminal:
    """One connection to the keeper of a task's own terminal, for its output or for typing."""

    is_tty = True

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, runtime: Path, kind: Literal[b"o", b"i"]) -> Self:
        """Connect, `o` for the output, `i` to type. Raises OSError if the run has no terminal."""
        directory = os.open(runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{directory}/{keeper.SOCKET}"  # a socket's path must be short
            reader, writer = await asyncio.open_unix_connection(path)
        finally:
            os.close(directory)
        writer.write(kind)
        return cls(reader, writer)

    async def pump(self, sink: Sink) -> None:
        """Give `sink` what the task writes, until the end of the terminal."""
        while data := await self._read():
            await sink("STDOUT", data)

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(_PIECE_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """Type `data`; a terminal has no end of its input."""
        await self._say(keeper.DATA, data)

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size."""
        await self._say(keeper.WINDOW, keeper.window(rows & 0xFFFF, columns & 0xFFFF))

    async def _say(self, kind: bytes, body: bytes) -> None:
        if not body:
            return
        try:
            self._writer.write(keeper.frame(kind, body))
            await self._writer.drain()
        except ConnectionError:
            return  # the task is over

    def close(self) -> None:
        """Hang up; the terminal stays."""
        self._writer.close()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
