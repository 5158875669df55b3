"""Sockets: dig, dnspython and BIND as clients; resolvers that answer, lie or are silent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Self

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import pytest_asyncio

from mesostk.base.clock import RealClock
from mesostk.dns import facts
from mesostk.dns.assembly import Core, make_core
from mesostk.dns.config import Config
from mesostk.dns.facts import Agent, Framework, Task
from mesostk.dns.forward import is_reply_to, system_resolvers
from mesostk.dns.server import TcpServer, UdpSocket, open_sockets
from mesostk.dns.transfer import Allowed
from mesostk.errors import ConfigError
from mesostk.testing.requirements import require_program

LOCAL = "127.0.0.1"


def task(number: int) -> Task:
    return Task(
        id=f"web.{number}", name="web", framework_id="F", agent_id="x-S0", is_running=True,
        ports=(31000 + number,), netinfo=(f"172.17.0.{number}",),
    )  # fmt: skip


class Still(RealClock):
    """Time does not pass: what is counted by the second is counted in one."""

    def monotonic(self) -> float:
        return 1000.5


class Running:
    """A server of this process, on a free port."""

    def __init__(
        self, config: Config, count: int = 3, ip: str = LOCAL, clock: RealClock | None = None
    ) -> None:
        resolvers = config.resolvers if config.resolvers is not None else ()
        clock = RealClock() if clock is None else clock
        self.core: Core = make_core(config, (LOCAL,), resolvers, clock, random.Random(3))
        tasks = tuple(task(number) for number in range(1, count + 1))
        agent = Agent("x-S0", "10.0.3.51", 5051)
        framework = Framework("F", "marathon", "10.0.3.11")
        self.core.naming.take([facts.Snapshot((agent,), (framework,), tasks)])
        self.core.naming.use(True)
        (udp,), tcp = open_sockets(ip, 0, 1)
        self.port: int = tcp.getsockname()[1]
        self._udp, self._tcp = UdpSocket(udp, self.core.service), TcpServer(tcp, self.core.service)
        self._group = asyncio.create_task(self.core.service.run())

    async def __aenter__(self) -> Self:
        self._udp.start()
        await self._tcp.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._udp.stop()
        await self._tcp.stop()
        self._group.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._group

    async def ask(
        self,
        name: str,
        kind: str = "A",
        *,
        tcp: bool = False,
        where: str = LOCAL,
        **options: object,
    ) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await ask(query, where, timeout=60, port=self.port)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    async with Running(Config(masters=("10.0.3.11:5050",), external_on=False)) as running:
        yield running


def ips(message: dns.message.Message) -> list[str]:
    return sorted(str(data) for rrset in message.answer for data in rrset)


WEB = ["172.17.0.1", "172.17.0.2", "172.17.0.3"]


@pytest.mark.parametrize("tcp", [False, True])
async def test_names_are_answered_by_udp_and_tcp(server: Running, tcp: bool) -> None:
    for _ in range(2):
        assert ips(await server.ask("web.marathon.mesos", tcp=tcp)) == WEB
    reply = await server.ask("nope.mesos", tcp=tcp)
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert (await server.ask("example.com", tcp=tcp)).rcode() == dns.rcode.REFUSED


async def dig(port: int, *words: str) -> str:
    program = require_program("dig", "bind9-dnsutils")
    process = await asyncio.create_subprocess_exec(
        program, f"@{LOCAL}", "-p", str(port), "+time=60", "+tries=2", *words, stdout=-1, stderr=-2
    )
    out, _ = await asyncio.wait_for(process.communicate(), 240)
    return out.decode()


async def test_dig_is_content(server: Running) -> None:
    assert sorted((await dig(server.port, "+short", "web.marathon.mesos")).split()) == WEB
    text = await dig(server.port, "_web._tcp.marathon.mesos", "SRV", "+dnssec", "+tcp")
    assert "ANSWER: 3" in text
    assert "WARNING" not in text
    assert "0 1 31002 web-" in text
    text = await dig(server.port, "+short", "+notcp", "+bufsize=4096", "WEB.marathon.mesos")
    assert sorted(text.split()) == WEB


async def test_a_client_that_speaks_slowly_or_nonsense_harms_nobody(server: Running) -> None:
    reader, writer = await asyncio.open_connection(LOCAL, server.port)
    query = dns.message.make_query("web.marathon.mesos", "A").to_wire()
    framed = len(query).to_bytes(2, "big") + query
    for byte in framed + framed:
        writer.write(bytes((byte,)))
        await writer.drain()
    for _ in range(2):
        size = int.from_bytes(await reader.readexactly(2), "big")
        assert dns.message.from_wire(await reader.readexactly(size)).answer
    writer.write(b"\0\x05hello")
    assert await reader.read() == b""
    writer.close()
    assert ips(await server.ask("web.marathon.mesos")) == WEB


async def test_a_connection_is_for_128_queries(server: Running) -> None:
    reader, writer = await asyncio.open_connection(LOCAL, server.port)
    query = dns.message.make_query("web.marathon.mesos", "A").to_wire()
    for _ in range(128):
        writer.write(len(query).to_bytes(2, "big") + query)
        await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    assert await reader.read() == b""
    writer.close()


async def test_packets_of_every_kind_leave_the_server_answering(server: Running) -> None:
    rng = random.Random(7)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((LOCAL, server.port))
        seed = dns.message.make_query("web.marathon.mesos", "ANY", use_edns=0).to_wire()
        for number in range(10_000):
            packet = bytearray(seed)
            for _ in range(rng.randint(1, 8)):
                packet[rng.randrange(len(packet))] = rng.randrange(256)
            with contextlib.suppress(OSError):
                await loop.sock_sendall(sock, bytes(packet[: rng.randint(0, len(packet))]))
            if number % 200 == 0:
                await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        assert len(sock.recv(65535)) <= 1232
    assert ips(await server.ask("web.marathon.mesos")) == WEB


async def test_a_query_to_any_address_of_the_host_is_answered_from_there() -> None:
    config = Config(masters=("10.0.3.11:5050",), external_on=False)
    async with Running(config, ip="0.0.0.0") as server:
        # dnspython refuses an answer that comes from another address.
        for where in ("127.0.0.1", "127.9.8.7"):
            for _ in range(2):
                assert ips(await server.ask("web.marathon.mesos", where=where)) == WEB


async def test_ipv6_is_served_too() -> None:
    config = Config(masters=("10.0.3.11:5050",), external_on=False)
    try:
        running = Running(config, ip="::")
    except ConfigError as error:
        pytest.skip(f"no IPv6 here: {error}")
    async with running as server:
        assert ips(await server.ask("web.marathon.mesos", where="::1")) == WEB


def test_a_port_that_is_taken_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind((LOCAL, 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} on 127\.0\.0\.1 is taken"):
            open_sockets(LOCAL, port, 1)


async def test_rates_are_limited_per_network() -> None:
    config = Config(masters=("10.0.3.11:5050",), external_on=False, responses_per_second=20)
    async with Running(config, clock=Still()) as server:
        query = dns.message.make_query("web.marathon.mesos", "A").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((LOCAL, server.port))
            for _ in range(200):
                sock.send(query)
            sock.setblocking(False)
            replies: list[bytes] = []
            limiter = server.core.service.limiter
            assert limiter is not None
            async with asyncio.timeout(60):
                while len(replies) < 20 or limiter.dropped + 20 < 200 - 20:
                    await asyncio.sleep(0.01)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            replies.append(sock.recv(2048))
        assert sum(not reply[2] & 0x02 for reply in replies) <= 20
        assert ips(await server.ask("web.marathon.mesos", tcp=True)) == WEB


# -- resolvers -------------------------------------------------------------------------------------


class Upstream(asyncio.DatagramProtocol):
    """A resolver whose replies `react` makes; None: silence."""

    def __init__(self, react: Callable[[bytes], bytes | None]) -> None:
        self._react = react
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]  # it is

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.append(data)
        reply = self._react(data)
        if reply is not None:
            self._transport.sendto(reply, addr)

    def close(self) -> None:
        self._transport.close()


async def upstream(react: Callable[[bytes], bytes | None]) -> tuple[Upstream, str]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Upstream(react), local_addr=(LOCAL, 0)
    )
    return protocol, f"{LOCAL}:{transport.get_extra_info('sockname')[1]}"


def answering(ip: str, *, truncated: bool = False) -> Callable[[bytes], bytes]:
    def react(query: bytes) -> bytes:
        message = dns.message.from_wire(query)
        reply = dns.message.make_response(message)
        name = message.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 30, "IN", "A", ip))
        if truncated:
            reply.flags |= dns.flags.TC
        return reply.to_wire()

    return react


#: For tests that wait for a resolver's silence: those that speak have as long to do so.
SILENCE_S = 5


def config_of(*resolvers: str, timeout: int = 60, **keys: object) -> Config:
    return Config(masters=("10.0.3.11:5050",), resolvers=resolvers, timeout=timeout, **keys)  # type: ignore[arg-type]


async def test_other_names_are_passed_on_and_a_silent_resolver_is_asked_last() -> None:
    silent, first = await upstream(lambda _query: None)
    good, second = await upstream(answering("192.0.2.1"))
    async with Running(config_of(first, second, timeout=SILENCE_S)) as server:
        assert ips(await server.ask("example.com")) == ["192.0.2.1"]
        assert ips(await server.ask("example.org")) == ["192.0.2.1"]
    # The original waits for it at each query.
    assert (len(silent.asked), len(good.asked)) == (1, 2)
    silent.close()
    good.close()


async def test_what_a_resolver_says_is_final() -> None:
    def nxdomain(query: bytes) -> bytes:
        reply = dns.message.make_response(dns.message.from_wire(query))
        reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()

    one, first = await upstream(nxdomain)
    two, second = await upstream(answering("192.0.2.1"))
    async with Running(config_of(first, second)) as server:
        assert (await server.ask("nope.example")).rcode() == dns.rcode.NXDOMAIN
    assert two.asked == []
    one.close()
    two.close()


async def test_forged_replies_are_not_taken() -> None:
    def lying(query: bytes) -> bytes:
        return bytes((query[0] ^ 1,)) + answering("203.0.113.66")(query)[1:]

    liar, first = await upstream(lying)
    good, second = await upstream(answering("192.0.2.1"))
    async with Running(config_of(first, second, timeout=SILENCE_S)) as server:
        assert ips(await server.ask("example.com")) == ["192.0.2.1"]
    liar.close()
    good.close()


async def test_zones_have_their_own_resolvers_and_no_other() -> None:
    general, first = await upstream(answering("192.0.2.1"))
    silent, second = await upstream(lambda _query: None)
    zone, third = await upstream(answering("192.0.2.7"))
    zones = {"weave": (third,), "quiet": (second,)}
    config = config_of(first, timeout=SILENCE_S, zone_resolvers=zones)
    async with Running(config) as server:
        assert ips(await server.ask("a.weave")) == ["192.0.2.7"]
        assert ips(await server.ask("weave")) == ["192.0.2.7"]
        assert ips(await server.ask("a.example")) == ["192.0.2.1"]
        assert (await server.ask("a.quiet")).rcode() == dns.rcode.SERVFAIL
    assert len(general.asked) == 1
    for one in (general, silent, zone):
        one.close()


async def test_truncation_of_others_is_passed_on_or_hidden() -> None:
    one, first = await upstream(answering("192.0.2.1", truncated=True))
    async with Running(config_of(first)) as server:
        assert (await server.ask("example.com")).flags & dns.flags.TC
    async with Running(config_of(first, set_truncate_bit=False)) as server:
        assert not (await server.ask("example.com")).flags & dns.flags.TC
    one.close()


async def test_by_tcp_a_resolver_is_asked_by_tcp() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        reply = answering("192.0.2.9")(query)
        writer.write(len(reply).to_bytes(2, "big") + reply)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, LOCAL, 0)
    address = f"{LOCAL}:{listening.sockets[0].getsockname()[1]}"
    async with Running(config_of("127.0.0.1:1", address)) as server:
        assert ips(await server.ask("example.com", tcp=True)) == ["192.0.2.9"]
    listening.close()


async def test_without_resolvers_the_answer_is_servfail() -> None:
    async with Running(config_of()) as server:
        assert (await server.ask("example.com")).rcode() == dns.rcode.SERVFAIL


def test_replies_are_told_from_others() -> None:
    query = dns.message.make_query("Example.com", "A").to_wire()
    good = answering("192.0.2.1")(query)
    assert is_reply_to(query, good)
    assert is_reply_to(query, good[:12] + good[12:25].lower() + good[25:])
    assert not is_reply_to(query, query)
    assert not is_reply_to(query, good[:11])
    other = answering("192.0.2.1")(dns.message.make_query("example.net", "A").to_wire())
    assert not is_reply_to(query, query[:2] + other[2:])


def test_name_servers_of_the_host_without_itself() -> None:
    text = "search x\nnameserver 10.0.3.60\nnameserver 10.0.3.1 # c\nnameserver fd00::1\nnameserver"
    assert system_resolvers(text, ["10.0.3.60"]) == ("10.0.3.1:53", "[fd00::1]:53")


# -- the whole zone --------------------------------------------------------------------------------


async def test_a_secondary_gets_the_zone_if_it_is_allowed() -> None:
    config = Config(masters=("10.0.3.11:5050",), external_on=False, axfr_allowed=("127.0.0.0/8",))
    async with Running(config, count=250) as server:
        text = await dig(server.port, "mesos", "AXFR", "+tcp", "+onesoa")
        lines = [line.split() for line in text.splitlines() if line and line[0] != ";"]
        zone = server.core.zone
        records = sum(
            len(zone.values(name, kind)) for name in zone.names() for kind in ("A", "AAAA", "SRV")
        )
        assert len(lines) == records + 2
        assert lines[0][3] == "SOA"
        assert "Transfer failed" not in text
    async with Running(Config(masters=("10.0.3.11:5050",), external_on=False)) as server:
        assert "Transfer failed" in await dig(server.port, "mesos", "AXFR", "+tcp")


def test_networks_that_may_have_the_zone() -> None:
    allowed = Allowed(["10.0.3.0/24", "fd00::/8"])
    assert "10.0.3.9" in allowed
    assert "::ffff:10.0.3.9" in allowed
    assert "fd00::5" in allowed
    assert "10.0.4.9" not in allowed


def test_struct_of_a_destination_becomes_that_of_a_source() -> None:
    from mesostk.dns.server import _from

    came = struct.pack("=i4s4s", 5, b"\x7f\0\0\1", b"\x7f\0\0\2")
    assert _from(came) == struct.pack("=i4s4s", 0, b"\x7f\0\0\1", b"\x7f\0\0\2")
    six = bytes(range(16)) + struct.pack("=i", 3)
    assert _from(six) == bytes(range(16)) + bytes(4)
