"""`/v2/events` over real connections."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiohttp import web

from mesostk.base.http import Server, make_app, message_error
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.marathon.stream import EVENT_STREAM, MOST_BUFFERED_BYTES, EventHub
from mesostk.wire.marathon import AppTerminated, GroupChangeSuccess

AT = "2016-06-20T12:00:00.000Z"
ACCEPT = {"Accept": EVENT_STREAM}


class Rig:
    """A hub behind a server, and clients of it."""

    def __init__(self) -> None:
        metrics = Metrics()
        self.hub = EventHub(7, lambda: AT, metrics, Log(), max_outstanding=64)
        app = make_app(Log(), metrics, message_error)
        app.router.add_get("/v2/events", self._serve)
        self.server = Server(app, "127.0.0.1", 0)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        return await self.hub.serve(request, {"X-Marathon-Leader": "http://x"})

    def terminated(self, app_id: str) -> None:
        self.hub.emit(AppTerminated(timestamp=AT, app_id=app_id))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.server.start()
    yield rig
    rig.hub.close()
    await rig.server.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Reader:
    """Splits one answer into (event, id, data)."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> tuple[str, str, dict[str, object]]:
        fields: dict[str, str] = {}
        while True:
            line = (await asyncio.wait_for(self._answer.content.readline(), 60)).decode()
            assert line, "the stream ended"
            if line.strip():
                name, _, value = line.strip().partition(": ")
                fields[name] = value
            elif fields:
                return fields["event"], fields["id"], msgspec.json.decode(fields["data"])


async def test_a_subscriber_sees_its_own_arrival_and_then_events_in_order(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    async with client.get(rig.server.url + "/v2/events", headers=ACCEPT) as answer:
        assert answer.headers["Content-Type"] == EVENT_STREAM
        reader = Reader(answer)
        assert (await reader.next())[0] == "event_stream_attached"
        rig.terminated("/a")
        rig.terminated("/b")
        kind, id, data = await reader.next()
        assert (kind, id) == ("app_terminated_event", "7-2")
        assert data == {"eventType": kind, "timestamp": AT, "appId": "/a"}
        assert (await reader.next())[2]["appId"] == "/b"


async def test_only_the_types_asked_for_are_sent(rig: Rig, client: aiohttp.ClientSession) -> None:
    url = rig.server.url + "/v2/events?event_type=group_change_success&event_type=deployment_info"
    async with client.get(url, headers=ACCEPT) as answer:
        reader = Reader(answer)
        rig.terminated("/a")
        rig.hub.emit(GroupChangeSuccess(timestamp=AT, group_id="/", version=AT))
        assert (await reader.next())[0] == "group_change_success"


async def test_who_returns_with_the_last_id_gets_what_it_missed(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    for id in ("/a", "/b", "/c"):
        rig.terminated(id)
    headers = {**ACCEPT, "Last-Event-ID": "7-1"}
    async with client.get(rig.server.url + "/v2/events", headers=headers) as answer:
        reader = Reader(answer)
        assert [(await reader.next())[2].get("appId") for _ in range(3)] == ["/b", "/c", None]


@pytest.mark.parametrize("last", ["6-1", "7-", "7-x", "nonsense", "7--1"])
async def test_an_id_of_another_leader_or_none_at_all_replays_nothing(
    rig: Rig, client: aiohttp.ClientSession, last: str
) -> None:
    rig.terminated("/a")
    headers = {**ACCEPT, "Last-Event-ID": last}
    async with client.get(rig.server.url + "/v2/events", headers=headers) as answer:
        assert (await Reader(answer).next())[0] == "event_stream_attached"


async def test_without_the_accept_header_it_is_405(rig: Rig, client: aiohttp.ClientSession) -> None:
    async with client.get(rig.server.url + "/v2/events") as answer:
        assert answer.status == 405


def burst(rig: Rig) -> None:
    """20 MB in one step of the loop: more than sockets of the machine hold."""
    for number in range(5000):
        rig.terminated(f"/{number:04}" + "x" * 4096)


async def test_who_does_not_read_is_cut_and_others_are_not(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.server.port, limit=1024)
    writer.write(b"GET /v2/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    await reader.readuntil(b"event_stream_attached")
    url = rig.server.url + "/v2/events?event_type=event_stream_detached"
    async with client.get(url, headers=ACCEPT) as answer:
        burst(rig)
        detached = asyncio.create_task(Reader(answer).next())
        async with asyncio.timeout(60):
            while not detached.done():
                rig.hub.look()
                await asyncio.sleep(0.01)
        kind, _, data = detached.result()
    assert (kind, data["remoteAddress"]) == ("event_stream_detached", "127.0.0.1")
    writer.close()


async def test_a_burst_cuts_nobody_who_reads(rig: Rig, client: aiohttp.ClientSession) -> None:
    async with client.get(rig.server.url + "/v2/events", headers=ACCEPT) as answer:
        reader = Reader(answer)
        await reader.next()
        burst(rig)
        for number in range(5000):
            if number % 2500 == 0:
                rig.hub.look()  # 10 MB were read since the last: sockets hold less
            assert str((await reader.next())[2]["appId"]).startswith(f"/{number:04}x")
        rig.terminated("/after")
        assert (await reader.next())[2]["appId"] == "/after"


async def test_few_unread_messages_cut_nobody_however_large(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    async with client.get(rig.server.url + "/v2/events", headers=ACCEPT) as answer:
        reader = Reader(answer)
        await reader.next()
        rig.terminated("/" + "x" * 20_000_000)
        await asyncio.sleep(0)  # written, as far as the socket takes it
        rig.hub.look()
        rig.hub.look()
        content = answer.content
        async with asyncio.timeout(60):
            left = 20_000_000
            while left > 0:
                left -= len(await content.readany())
        rig.terminated("/after")
        found = b""
        async with asyncio.timeout(60):
            while b'"/after"' not in found:
                found += await content.readany()


async def test_a_reader_that_never_catches_up_is_cut_in_the_end(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    async with client.get(rig.server.url + "/v2/events", headers=ACCEPT) as answer:
        await Reader(answer).next()
        large = "/" + "x" * 1_000_000
        for _ in range(MOST_BUFFERED_BYTES // 1_000_000 + 50):
            rig.terminated(large)
            await asyncio.sleep(0)
        assert rig.hub.subscribers == 0
