"""The sockets: UDP read in bursts from the loop, TCP by streams.

::

    readable ─▶ up to 64 × (recv ─▶ Answers.hot ─▶ send)      nothing else on the hot way
                              └─ None ─▶ Answers.respond ─▶ send, or a task that asks a resolver

A burst from the loop costs what a loop of recv and send alone costs (docs/performance.md), and
leaves the process one thread that also follows the master.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from mesostk.dns.answers import Answers, Elsewhere, Transfer, servfail
from mesostk.dns.forward import Forwarder
from mesostk.dns.limits import Limiter
from mesostk.dns.transfer import Allowed, messages
from mesostk.dns.zone import Zone
from mesostk.errors import ConfigError, Unavailable

#: Queries of one burst; then the loop sees to others.
_BURST: Final = 64

#: Larger datagrams are no queries that we know of.
_MAX_QUERY_BYTES: Final = 4096

#: What the kernel keeps for us while the loop is busy: some 10,000 queries.
_RECEIVE_BUFFER_BYTES: Final = 4 << 20

# Limits of one TCP connection; the original's, and a limit of all of them.
_TCP_QUERIES: Final = 128
_TCP_IDLE_S: Final = 8.0
_TCP_WRITE_S: Final = 10.0
_TCP_CONNECTIONS: Final = 500

#: linux/in.h, linux/ipv6.h; the socket module names only some of them.
_IP_PKTINFO: Final = 8


class Counts:
    """What was asked and how it went, of one process."""

    __slots__ = (
        "dropped",
        "external",
        "external_failed",
        "failed",
        "mesos",
        "nxdomain",
        "tcp",
        "transfers",
        "unsent",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def figures(self) -> dict[str, float]:
        """By the names of the metrics."""
        return {f"mesos_dns/{name}": float(getattr(self, name)) for name in self.__slots__}

    mesos: int
    nxdomain: int
    failed: int
    external: int
    external_failed: int
    dropped: int
    unsent: int
    tcp: int
    transfers: int


class Service:
    """What all sockets of a process share: the answers, and who is asked for the rest."""

    def __init__(
        self,
        zone: Zone,
        answers: Answers,
        forwarder: Forwarder,
        allowed: Allowed,
        limiter: Limiter | None,
        now: Callable[[], float],
    ) -> None:
        self.zone = zone
        self.answers = answers
        self.forwarder = forwarder
        self.allowed = allowed
        self.limiter = limiter
        self.now = now
        self.counts = Counts()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Hold the tasks that ask resolvers; a task of the daemon."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            await asyncio.get_running_loop().create_future()

    def later(self, query: bytes, zone: str, send: Callable[[bytes], None]) -> None:
        """Ask a resolver, then `send` what it says."""
        if self._tasks is not None:
            self._tasks.create_task(self._forwarded(query, zone, send))

    async def _forwarded(self, query: bytes, zone: str, send: Callable[[bytes], None]) -> None:
        send(await self.forward(query, zone, tcp=False))

    async def forward(self, query: bytes, zone: str, *, tcp: bool) -> bytes:
        """A resolver's reply, or SERVFAIL."""
        self.counts.external += 1
        style = self.answers.style
        try:
            reply = await self.forwarder.ask(query, zone, tcp=tcp)
        except Unavailable:
            self.counts.external_failed += 1
            return servfail(query, recursion=style.recurse_on)
        if not style.set_truncate_bit:
            reply = reply[:2] + bytes((reply[2] & ~0x02,)) + reply[3:]
        return reply

    def count(self, reply: bytes) -> None:
        """Count a reply made here."""
        rcode = reply[3] & 15
        self.counts.mesos += 1
        if rcode == 3:
            self.counts.nxdomain += 1
        elif rcode:
            self.counts.failed += 1


class UdpSocket:
    """Answers what comes to one UDP socket."""

    def __init__(self, sock: socket.socket, service: Service) -> None:
        self._sock = sock
        self._service = service
        # Sent to any address of the host, a query has to be answered from that very address.
        self._is_wildcard = sock.getsockname()[0] in ("0.0.0.0", "::")  # noqa: S104 # compared
        if self._is_wildcard:
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def start(self) -> None:
        """Read from now on."""
        read = self._read_any if self._is_wildcard else self._read
        asyncio.get_running_loop().add_reader(self._sock.fileno(), read)

    async def stop(self) -> None:
        """Read no more."""
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    def _read(self) -> None:
        service, sock = self._service, self._sock
        hot, receive, send = service.answers.hot, sock.recvfrom, sock.sendto
        limiter, counts = service.limiter, service.counts
        for _ in range(_BURST):
            try:
                query, address = receive(_MAX_QUERY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier reply; the next call reads on.
                continue
            reply = hot(query)
            if reply is None:
                self._slowly(query, address, ())
                continue
            counts.mesos += 1
            if reply[3] & 15:
                counts.nxdomain += 1
            if limiter is not None:
                reply = limiter.filter(service.now(), address[0], reply)
                if reply is None:
                    continue
            try:
                send(reply, address)
            except OSError:
                counts.unsent += 1

    def _read_any(self) -> None:
        service, sock = self._service, self._sock
        for _ in range(_BURST):
            try:
                query, extra, _flags, address = sock.recvmsg(_MAX_QUERY_BYTES, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            came_to = tuple((level, kind, _from(data)) for level, kind, data in extra)
            reply = service.answers.hot(query)
            if reply is None:
                self._slowly(query, address, came_to)
                continue
            service.counts.mesos += 1
            if reply[3] & 15:
                service.counts.nxdomain += 1
            self._send(self._limited(reply, address), address, came_to)

    def _slowly(self, query: bytes, address: Any, came_to: tuple[Any, ...]) -> None:
        """A query whose reply is not kept."""
        service = self._service
        reply = service.answers.respond(query)
        if isinstance(reply, bytes):
            service.count(reply)
            self._send(self._limited(reply, address), address, came_to)
        elif isinstance(reply, Elsewhere):
            service.later(query, reply.zone, lambda made: self._send(made, address, came_to))
        else:
            service.counts.dropped += 1

    def _limited(self, reply: bytes, address: Any) -> bytes | None:
        limiter = self._service.limiter
        return reply if limiter is None else limiter.filter(self._service.now(), address[0], reply)

    def _send(self, reply: bytes | None, address: Any, came_to: tuple[Any, ...]) -> None:
        if reply is None or self._sock.fileno() < 0:
            return
        try:
            if came_to:
                self._sock.sendmsg([reply], came_to, 0, address)
            else:
                self._sock.sendto(reply, address)
        except OSError:
            # No room, no route, or a forged port 0: nothing to do about it but to count.
            self._service.counts.unsent += 1


def _from(data: bytes) -> bytes:
    """What a packet said of its destination, as the source to send from, by any interface."""
    if len(data) == 12:
        # struct in_pktinfo: interface, local address, destination.
        return bytes(4) + data[4:]
    return data[:16] + bytes(len(data) - 16)


class TcpServer:
    """Answers connections to one TCP socket."""

    def __init__(self, sock: socket.socket, service: Service) -> None:
        self._sock = sock
        self._service = service
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Accept from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._sock, backlog=128)

    async def stop(self) -> None:
        """Accept no more and end what is open."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _TCP_CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            for _ in range(_TCP_QUERIES):
                async with asyncio.timeout(_TCP_IDLE_S):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    query = await reader.readexactly(size)
                await self._answer(query, writer)
        except (OSError, asyncio.IncompleteReadError):
            # Gone, silent, or it does not read what it asked for.
            return
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, query: bytes, writer: asyncio.StreamWriter) -> None:
        service = self._service
        service.counts.tcp += 1
        reply = service.answers.respond(query, tcp=True)
        if isinstance(reply, Transfer):
            await self._transfer(query, reply, writer)
            return
        if isinstance(reply, Elsewhere):
            reply = await service.forward(query, reply.zone, tcp=True)
        elif reply is None:
            service.counts.dropped += 1
            raise ConnectionAbortedError("no query")
        else:
            service.count(reply)
        await _write(writer, reply)

    async def _transfer(
        self, query: bytes, transfer: Transfer, writer: asyncio.StreamWriter
    ) -> None:
        service = self._service
        reply = service.answers.refuse_transfer(
            query, transfer, is_allowed=writer.get_extra_info("peername")[0] in service.allowed
        )
        if reply is not None:
            service.count(reply)
            await _write(writer, reply)
            return
        service.counts.transfers += 1
        async for message in messages(query, service.answers, service.zone):
            await _write(writer, message)


async def _write(writer: asyncio.StreamWriter, reply: bytes) -> None:
    writer.write(len(reply).to_bytes(2, "big") + reply)
    async with asyncio.timeout(_TCP_WRITE_S):
        await writer.drain()


# -- opening ------------------------------------------------------------------------------------


def open_sockets(ip: str, port: int, count: int) -> tuple[list[socket.socket], socket.socket]:
    """`count` UDP sockets that share one port, and the TCP socket of that port.

    Port 0 takes one that is free for both. ConfigError names the remedy.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with contextlib.ExitStack() as undo:
            tcp = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((ip, port))
            chosen = tcp.getsockname()[1]
            found = []
            for _ in range(count):
                udp = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                if count > 1:
                    udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
                udp.bind((ip, chosen))
                udp.setblocking(False)
                found.append(udp)
            tcp.setblocking(False)
            undo.pop_all()
            return found, tcp
    except OSError as error:
        raise ConfigError(_why(ip, port, error)) from error


def _why(ip: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {ip} is taken; `ss -lnptu 'sport = :{port}'` shows by which process."
            " Stop it, or set another Port or Listener (systemd-resolved holds 127.0.0.53 only)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs root or CAP_NET_BIND_SERVICE; or set a Port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{ip} is not an address of this host; correct Listener"
    return f"cannot listen on {ip}:{port}: {error.strerror or error}"
