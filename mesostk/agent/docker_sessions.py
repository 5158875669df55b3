"""A program with stdin, stdout and stderr in a container that the Docker engine runs.

::

    POST /containers/N/exec ─▶ POST /exec/E/start, upgraded ─▶ raw bytes of a terminal, or frames
                                                               {stream, 0, 0, 0, size} bytes …
    GET /exec/E/json ─▶ pid, exit code

The engine has no call that ends such a program: it is killed by its pid on this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Mapping

from mesostk.agent.docker_engine import Engine, EngineError
from mesostk.agent.terminals import Kind, Sink
from mesostk.wire import json

_PIECE_BYTES = 64 * 1024

#: Of the engine's answer to the upgrade.
_MAX_HEADER_BYTES = 64 * 1024

#: Between the end of a program's output and the engine's knowing of its exit: milliseconds, unless
#: the engine has to wait for a processor.
_LOOKS, _PAUSE_S = 600, 0.05

#: Header of a frame: number of the stream, three bytes of nothing, size.
_FRAME = struct.Struct(">BxxxL")
_STREAMS: Mapping[int, Kind] = {1: "STDOUT", 2: "STDERR"}


class DockerStdio:
    """The three streams of a program in a container; see `terminals.Stdio`."""

    def __init__(
        self,
        engine: Engine,
        number: str,
        *,
        tty: bool,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.is_tty = tty
        self._engine = engine
        self._number = number
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(
        cls,
        engine: Engine,
        name: str,
        argv: list[str],
        env: Mapping[str, str],
        user: str | None,
        *,
        tty: bool,
    ) -> DockerStdio:
        """Begin; raises EngineError if the engine refuses and EngineDown if it is away."""
        body = {
            "Cmd": argv,
            "Env": [f"{key}={value}" for key, value in env.items()],
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
            "User": user if user is not None else "",
        }
        number = await engine.new_execution(name, body)
        reader, writer = await _upgraded(engine, number, tty=tty)
        return cls(engine, number, tty=tty, reader=reader, writer=writer)

    async def pump(self, sink: Sink) -> None:
        """Give `sink` what the program writes, until its end."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                if self.is_tty:
                    data = await self._reader.read(_PIECE_BYTES)
                    if not data:
                        return
                    await sink("STDOUT", data)
                    continue
                stream, size = _FRAME.unpack(await self._reader.readexactly(_FRAME.size))
                while size:
                    data = await self._reader.readexactly(min(size, _PIECE_BYTES))
                    size -= len(data)
                    await sink(_STREAMS.get(stream, "STDOUT"), data)

    async def write(self, data: bytes) -> None:
        """Give the program `data`, nothing meaning the end of its input. It may be gone."""
        with contextlib.suppress(ConnectionError, OSError):
            if data:
                self._writer.write(data)
                await self._writer.drain()
            elif not self.is_tty:
                self._writer.write_eof()

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; a program that has just ended has none."""
        if self.is_tty:
            with contextlib.suppress(EngineError):
                await self._engine.resize_execution(self._number, rows, columns)

    async def pid(self) -> int:
        """Its pid on this host; 0 if it has ended."""
        return int((await self._engine.execution(self._number)).get("Pid") or 0)

    async def exit_code(self) -> int | None:
        """Once its output has ended; None if the engine does not tell soon after."""
        for _ in range(_LOOKS):
            told = await self._engine.execution(self._number)
            if not told.get("Running") and told.get("ExitCode") is not None:
                return int(told["ExitCode"])
            await asyncio.sleep(_PAUSE_S)
        return None

    def close(self) -> None:
        """Let go of the connection; the program is not told."""
        self._writer.close()


async def _upgraded(
    engine: Engine, number: str, *, tty: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    body = json.encode({"Detach": False, "Tty": tty})
    try:
        reader, writer = await asyncio.open_unix_connection(engine.socket, limit=_MAX_HEADER_BYTES)
    except OSError as error:
        raise engine.down(str(error)) from error
    head = (
        f"POST /exec/{number}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
        writer.close()
        raise engine.down(f"no answer to an upgrade: {error}") from error
    status = int(answer.split(None, 2)[1])
    if status not in (101, 200):
        rest = await reader.read(_PIECE_BYTES)
        writer.close()
        raise EngineError(status, rest.decode(errors="replace").strip())
    return reader, writer
