"""The agent's end of the link against masters that behave and misbehave."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from mesostk.agent.events import Connect, Disconnect, LinkClosed, LinkMessage, SendUp
from mesostk.agent.link import MAX_BATCH, MasterLink
from mesostk.agent.tests.agent_bench import registered
from mesostk.base.client import Client
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.base.log import Log
from mesostk.wire import json
from mesostk.wire.link import PROTOCOL, STREAM_ID_HEADER, Pong, Subscribe, UpdateAgent, UpMessage
from mesostk.wire.mesos import AgentInfo
from mesostk.wire.recordio import Decoder, encode_record

SUBSCRIBE = Subscribe(
    protocol=PROTOCOL, version="0", agent_info=AgentInfo(hostname="h"), ip="127.0.0.1"
)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Peer:
    """A master whose answers the test decides, and the link to it."""

    def __init__(self) -> None:
        self.subscribe: Answer = self.accept
        self.call: Answer = self.take
        self.bodies: list[list[UpMessage]] = []
        self.told: asyncio.Queue[Event] = asyncio.Queue()
        self.over = asyncio.Event()
        self.arrived = asyncio.Semaphore(0)
        self.release = asyncio.Event()
        self.release.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if STREAM_ID_HEADER in request.headers:
            return await self.call(request)
        return await self.subscribe(request)

    async def accept(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={STREAM_ID_HEADER: "s"})
        await stream.prepare(request)
        await stream.write(encode_record(json.encode(registered())))
        await self.over.wait()
        return stream

    async def take(self, request: web.Request) -> web.StreamResponse:
        records = Decoder().feed(await request.read())
        self.bodies.append([json.decode(record, UpMessage) for record in records])
        self.arrived.release()
        await self.release.wait()
        return web.Response(status=202)

    async def next(self) -> Event:
        async with asyncio.timeout(90):
            return await self.told.get()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    app = web.Application()
    app.router.add_post("/api/link", peer.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    peer.url = "http://{}:{}".format(*runner.addresses[0])
    yield peer
    peer.over.set()
    await runner.cleanup()


@pytest.fixture
async def link(peer: Peer) -> AsyncIterator[MasterLink]:
    daemon, client = Daemon("test", log=Log(stream=io.StringIO())), Client("test")
    link = MasterLink(daemon, client, peer.told.put_nowait)
    yield link
    link.disconnect(Disconnect(1))
    await client.close()
    daemon.disk_pool.shutdown()


async def test_records_come_down_and_go_up_in_order_gathering_while_one_is_sent(
    peer: Peer, link: MasterLink
) -> None:
    link.connect(Connect(1, peer.url, SUBSCRIBE))
    assert await peer.next() == LinkMessage(1, registered())
    peer.release.clear()
    sent = [UpdateAgent(resource_version=str(number)) for number in range(MAX_BATCH + 10)]
    link.send(SendUp(1, sent[0]))
    await peer.arrived.acquire()
    for update in sent[1:]:
        link.send(SendUp(1, update))
    peer.release.set()
    for _ in range(2):
        await peer.arrived.acquire()
    assert [message for body in peer.bodies for message in body] == sent
    assert [len(body) for body in peer.bodies] == [1, MAX_BATCH, 9]


async def answer(status: int, text: str = "", **headers: str) -> web.Response:
    return web.Response(status=status, text=text, headers=headers)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: answer(503, "No leading master"), "503 No leading master"),
        (lambda: answer(426, "protocol 9"), "426 protocol 9"),
        (lambda: answer(200), "no Mesos-Stream-Id"),
        (lambda: answer(200, "garbage", **{STREAM_ID_HEADER: "s"}), "length"),
        (lambda: answer(200, '9\n{"type":1}', **{STREAM_ID_HEADER: "s"}), ""),
        (lambda: answer(200, "", **{STREAM_ID_HEADER: "s"}), "closed the link"),
        (lambda: answer(307, "", Location="//127.0.0.1:1/api/link"), "cannot connect"),
    ],
)
async def test_whatever_is_wrong_closes_the_link_once_with_the_reason(
    peer: Peer, link: MasterLink, make: Callable[[], Awaitable[web.Response]], words: str
) -> None:
    async def respond(_: web.Request) -> web.Response:
        return await make()

    peer.subscribe = respond
    link.connect(Connect(1, peer.url, SUBSCRIBE))
    closed = await peer.next()
    assert isinstance(closed, LinkClosed)
    assert closed.link == 1
    assert words in closed.reason
    await asyncio.sleep(0)
    assert peer.told.empty()


async def test_a_refused_call_closes_the_link(peer: Peer, link: MasterLink) -> None:
    link.connect(Connect(1, peer.url, SUBSCRIBE))
    await peer.next()

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=403, text="No link is open")

    peer.call = refuse
    link.send(SendUp(1, Pong()))
    closed = await peer.next()
    assert isinstance(closed, LinkClosed)
    assert "403 No link is open" in closed.reason


async def test_a_master_that_is_not_there_closes_the_link(peer: Peer, link: MasterLink) -> None:
    link.connect(Connect(1, "http://127.0.0.1:1", SUBSCRIBE))
    closed = await peer.next()
    assert isinstance(closed, LinkClosed)
    assert "cannot connect to 127.0.0.1:1" in closed.reason


async def test_one_redirect_to_the_leader_is_followed(peer: Peer, link: MasterLink) -> None:
    redirected = False

    async def redirect(request: web.Request) -> web.StreamResponse:
        nonlocal redirected
        if redirected:
            return await peer.accept(request)
        redirected = True
        where = peer.url.removeprefix("http:")
        return web.Response(status=307, headers={"Location": f"{where}/api/link"})

    peer.subscribe = redirect
    link.connect(Connect(1, peer.url, SUBSCRIBE))
    assert await peer.next() == LinkMessage(1, registered())
    assert redirected


async def test_nothing_is_told_of_a_link_that_was_dropped(peer: Peer, link: MasterLink) -> None:
    link.connect(Connect(1, peer.url, SUBSCRIBE))
    await peer.next()
    link.disconnect(Disconnect(1))
    link.send(SendUp(1, Pong()))
    link.connect(Connect(2, peer.url, SUBSCRIBE))
    assert await peer.next() == LinkMessage(2, registered())
    assert not peer.bodies
    link.disconnect(Disconnect(2))
