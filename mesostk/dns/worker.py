"""Further processes that answer by UDP, each on a socket of its own with the same port.

::

    main process ── Setup, Batch, Batch … ──▶ worker: Naming.follow ─▶ Answers ◀─▶ its UDP socket
          ▲                                      │
          └────────── Figures each second ───────┘

A message is its length in four bytes and msgpack. A worker ends when the main process does, and the
main process ends, to be started again as a whole, when a worker does.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec

from mesostk.base.daemon import Daemon
from mesostk.base.log import Log
from mesostk.dns.assembly import Core, make_core
from mesostk.dns.config import Config
from mesostk.dns.naming import Batch
from mesostk.dns.server import UdpSocket
from mesostk.errors import MesostkError

#: A worker that does not take in this much is stuck.
_MAX_UNSENT_BYTES: Final = 256 << 20

_FIGURES_S: Final = 1.0


class Setup(msgspec.Struct, frozen=True, tag=True):
    """First message to a worker."""

    config: Config
    own_ips: tuple[str, ...]
    resolvers: tuple[str, ...]


class Figures(msgspec.Struct, frozen=True):
    """What a worker counted since it began."""

    counts: Mapping[str, float]


async def _read(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            head = await reader.readexactly(4)
            yield await reader.readexactly(int.from_bytes(head, "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return


def _framed(message: msgspec.Struct) -> bytes:
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(4, "big") + data


# -- the main process ------------------------------------------------------------------------------


class Worker:
    """One worker as the main process sees it."""

    def __init__(self, number: int, log: Log) -> None:
        self.number = number
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.counts: Mapping[str, float] = {}

    async def start(self, udp: socket.socket, setup: Setup, core: Core) -> None:
        """Start it on a socket, and keep it up to date from now on."""
        ours, theirs = socket.socketpair()
        with theirs, udp:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mesostk.dns.worker", str(udp.fileno()),
                str(theirs.fileno()), str(self.number),
                pass_fds=(udp.fileno(), theirs.fileno()),
            )  # fmt: skip
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._writer.write(_framed(setup))
        self.tell(core.naming.whole())
        core.naming.listeners.append(self.tell)

    def tell(self, batch: Batch) -> None:
        """Send it what changed."""
        if self._writer is None or self._writer.is_closing():
            return
        self._writer.write(_framed(batch))
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._writer.close()

    async def run(self) -> None:
        """Take its figures in; MesostkError when it ends. A task of the daemon."""
        async for data in _read(self._reader):
            self.counts = msgspec.msgpack.decode(data, type=Figures).counts
        assert self._process is not None
        code = await self._process.wait()
        raise MesostkError(f"worker {self.number} ended with code {code}")

    async def stop(self) -> None:
        """End it."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            await self._process.wait()


def summed(core: Core, workers: Sequence[Worker]) -> Mapping[str, float]:
    """Counts of all processes together."""
    total = dict(core.service.counts.figures())
    for worker in workers:
        for name, value in worker.counts.items():
            total[name] = total.get(name, 0.0) + value
    return total


# -- the worker ------------------------------------------------------------------------------------


async def _work(daemon: Daemon, udp: socket.socket, feed: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=feed)
    messages = _read(reader)
    setup = msgspec.msgpack.decode(await anext(messages), type=Setup)
    core = make_core(
        setup.config, setup.own_ips, setup.resolvers, daemon.clock, random.SystemRandom()
    )
    server = UdpSocket(udp, core.service)
    daemon.on_stop("udp", server.stop)
    daemon.start("forwarding", core.service.run())
    daemon.start("figures", _tell_figures(core, writer))
    is_open = False
    async for data in messages:
        core.naming.follow(msgspec.msgpack.decode(data, type=Batch))
        # Messages that are there already are read without a pause, and queries wait.
        await asyncio.sleep(0)
        if not is_open:
            is_open = True
            server.start()
            daemon.ready()
    daemon.exit("the main process ended", 0)


async def _tell_figures(core: Core, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(_FIGURES_S)
        writer.write(_framed(Figures(core.service.counts.figures())))


def main(argv: Sequence[str]) -> int:
    """`python -m mesostk.dns.worker UDP-FD FEED-FD NUMBER`; started by the main process only."""
    udp, feed = (socket.socket(fileno=int(text)) for text in argv[:2])
    # A signal to the whole group ends the main process, and that ends this one.
    os.setpgid(0, 0)
    daemon = Daemon(f"mesos-dns-worker-{argv[2]}", Log("WARNING"))
    return daemon.run(lambda daemon: _work(daemon, udp, feed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
