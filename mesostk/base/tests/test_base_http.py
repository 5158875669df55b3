"""The HTTP edge, streams, broadcasts and clients, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from mesostk.base.client import Client, LeaderClient, redirected
from mesostk.base.fanout import Broadcast
from mesostk.base.http import (
    BasicAuth,
    Server,
    accepted_type_of,
    add_routes,
    content_type_of,
    json_answer,
    make_app,
    message_error,
    parse_credentials,
    wait_for_port,
)
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.base.stream import PEER_CLOSED, Stream
from mesostk.errors import ConfigError, Rejected, Unavailable, WireError


async def until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - any condition, also of the peer
            await asyncio.sleep(0.005)


class Site:
    """A server with some routes, a client session, and what was logged and streamed."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.out = io.StringIO()
        self.streams: list[Stream] = []
        self.endings: list[str] = []
        self.limit = 1 << 20
        self.entered, self.cancelled = asyncio.Event(), asyncio.Event()
        self.broadcast = Broadcast("events", self.metrics, max_streams=3)
        self.server: Server
        self.session: aiohttp.ClientSession

    async def start(self) -> None:
        async def thread(work: Callable[..., bytes], *args: object) -> bytes:
            return await asyncio.to_thread(work, *args)

        app = make_app(Log(stream=self.out), self.metrics, max_body_bytes=10_000, in_thread=thread)
        routes = [
            ("GET", "/small", self.small),
            ("GET", "/large", self.large),
            ("GET", "/fail/{kind}", self.fail),
            ("POST", "/echo", self.echo),
            ("GET", "/stream", self.stream),
            ("POST", "/slow", self.slow),
            ("GET", "/events", self.events),
        ]
        add_routes(app, ["", "/master"], routes)
        self.server = Server(app, "127.0.0.1", 0)
        await self.server.start()
        self.session = aiohttp.ClientSession(self.server.url)

    async def small(self, request: web.Request) -> web.Response:
        return json_answer({"a": 1.0}, request=request)

    async def large(self, request: web.Request) -> web.Response:
        return json_answer({"a": "x" * int(request.query.get("n", "2000"))}, request=request)

    async def fail(self, request: web.Request) -> web.Response:
        errors: dict[str, Exception] = {
            "rejected": Rejected(409, "App is locked"),
            "wire": WireError("task.id: missing"),
            "unavailable": Unavailable("no master"),
            "bug": ValueError("secret detail"),
        }
        raise errors[request.match_info["kind"]]

    async def echo(self, request: web.Request) -> web.Response:
        kind = content_type_of(request, ("application/json", "application/x-protobuf"))
        accepted = accepted_type_of(request, ("application/json", "application/x-protobuf"))
        return web.Response(body=await request.read(), headers={"X-Kinds": f"{kind} {accepted}"})

    async def slow(self, request: web.Request) -> web.Response:
        self.entered.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return web.Response()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        stream = Stream("application/json", self.endings.append, self.limit, {"X-Id": "7"})
        stream.send(b"early;")
        await stream.open(request)
        self.streams.append(stream)
        return await stream.wait()

    async def events(self, request: web.Request) -> web.StreamResponse:
        stream = Stream("text/event-stream", lambda _: self.broadcast.discard(stream))
        await stream.open(request)
        self.broadcast.add(stream, request.query.getall("event_type", []) or None)
        self.streams.append(stream)
        return await stream.wait()

    async def stop(self) -> None:
        await self.session.close()
        await self.server.stop()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.start()
    yield made
    await made.stop()


async def test_every_path_has_its_prefixed_and_slashed_form(site: Site) -> None:
    for path in ("/small", "/small/", "/master/small", "/master/small/"):
        async with site.session.get(path) as answer:
            assert (answer.status, await answer.read()) == (200, b'{"a":1.0}')
            assert answer.headers["Content-Type"] == "application/json"
    async with site.session.head("/small") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/fail/rejected", 409, "App is locked"),
        ("GET", "/fail/wire", 400, "task.id: missing"),
        ("GET", "/fail/unavailable", 503, "no master"),
        ("GET", "/none", 404, "URI not found: /none"),
        ("PUT", "/small", 405, "one of { 'GET' }, but received 'PUT'."),
        ("GET", "/small?jsonp=alert(1)", 400, "jsonp"),
    ],
)
async def test_errors_are_answered_in_plain_text(
    site: Site, method: str, path: str, status: int, text: str
) -> None:
    async with site.session.request(method, path) as answer:
        assert answer.status == status
        assert text in await answer.text()
        assert answer.content_type == "text/plain"
        assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/small", "/nowhere", "/fail/bug", "/stream"])
async def test_no_answer_names_the_library_that_it_is_made_with(site: Site, path: str) -> None:
    async with site.session.get(site.server.url + path) as answer:
        assert "Server" not in answer.headers


async def test_a_bug_is_500_counted_and_logged_but_not_told(site: Site) -> None:
    async with site.session.get("/fail/bug") as answer:
        assert answer.status == 500
        assert "secret detail" not in await answer.text()
    assert site.metrics.snapshot()["http/errors_500"] == 1.0
    assert "secret detail" in site.out.getvalue()


async def test_marathon_style_errors() -> None:
    answer = message_error(404, 'App "/x" does not exist')
    assert answer.body == b'{"message":"App \\"/x\\" does not exist"}'
    assert answer.content_type == "application/json"
    assert message_error(415, "Expecting …").body == b'{"message":"Unsupported Media Type"}'


@pytest.mark.parametrize("size", [2000, 300_000])
async def test_large_answers_are_compressed_for_those_who_take_it(site: Site, size: int) -> None:
    async with site.session.get(f"/large?n={size}") as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(await answer.read()) == size + 8
    for refusal in ("identity", "gzip;q=0", ""):
        headers = {"Accept-Encoding": refusal}
        async with site.session.get(f"/large?n={size}", headers=headers) as answer:
            assert "Content-Encoding" not in answer.headers
            assert len(await answer.read()) == size + 8
    async with site.session.get("/small") as answer:
        assert "Content-Encoding" not in answer.headers


async def test_jsonp_wraps_the_answer(site: Site) -> None:
    async with site.session.get("/small?jsonp=jQuery_1.cb") as answer:
        assert answer.content_type == "text/javascript"
        assert await answer.text() == 'jQuery_1.cb({"a":1.0})'


@pytest.mark.parametrize(
    ("headers", "status", "kinds"),
    [
        ({"Content-Type": "application/json"}, 200, "application/json application/json"),
        (
            {"Content-Type": "application/x-protobuf; v=1", "Accept": "application/x-protobuf"},
            200,
            "application/x-protobuf application/x-protobuf",
        ),
        (
            {
                "Content-Type": "application/json",
                "Accept": "application/x-protobuf, application/json;q=0.1",
            },
            200,
            "application/json application/json",
        ),
        (
            {"Content-Type": "application/json", "Accept": "application/json;q=0, */*"},
            200,
            "application/json application/x-protobuf",
        ),
        ({"Content-Type": "text/plain"}, 415, ""),
        ({"Content-Type": "application/json", "Accept": "text/html"}, 406, ""),
    ],
)
async def test_negotiation(site: Site, headers: dict[str, str], status: int, kinds: str) -> None:
    async with site.session.post("/echo", data=b"{}", headers=headers) as answer:
        assert answer.status == status
        assert answer.headers.get("X-Kinds", "") == kinds


async def test_a_body_without_a_type_is_400(site: Site) -> None:
    async with site.session.post("/echo", data=b"{}", skip_auto_headers=["Content-Type"]) as answer:
        assert answer.status == 400
        assert await answer.text() == "Expecting 'Content-Type' to be present"


async def test_a_huge_body_is_413_with_the_limit(site: Site) -> None:
    headers = {"Content-Type": "application/json"}
    async with site.session.post("/echo", data=b"x" * 20_000, headers=headers) as answer:
        assert answer.status == 413
        assert "10000 bytes" in await answer.text()


async def test_a_taken_port_is_named_with_the_remedy(site: Site) -> None:
    second = Server(web.Application(), "127.0.0.1", site.server.port)
    with pytest.raises(ConfigError, match=f"port {site.server.port}.*is taken.*ss -ltnp"):
        await second.start()


@pytest.mark.parametrize(("ip", "message"), [("10.255.1.2", "not an address of this"), ("x", "IP")])
async def test_a_wrong_address_is_named(ip: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await Server(web.Application(), ip, 0).start()


async def test_a_port_can_be_taken_again_at_once() -> None:
    first = Site()
    await first.start()
    port = first.server.port
    async with first.session.get("/small") as answer:
        await answer.read()
    await first.stop()
    second = Server(web.Application(), "127.0.0.1", port)
    await second.start()
    await wait_for_port("127.0.0.1", port, 60.0)
    await second.stop()
    with pytest.raises(Unavailable):
        await wait_for_port("127.0.0.1", port, 0.05)


async def test_a_handler_whose_caller_is_gone_is_cancelled(site: Site) -> None:
    asking = asyncio.ensure_future(site.session.post("/slow"))
    await asyncio.wait_for(site.entered.wait(), 60)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(site.cancelled.wait(), 60)


# -- streams ---------------------------------------------------------------------------------------


async def read(answer: aiohttp.ClientResponse, size: int) -> bytes:
    return await asyncio.wait_for(answer.content.readexactly(size), 60)


async def test_a_stream_sends_and_ends_and_the_connection_lives_on(site: Site) -> None:
    async with site.session.get("/stream") as answer:
        assert answer.headers["X-Id"] == "7"
        assert await read(answer, 6) == b"early;"
        stream = site.streams[0]
        stream.send(b"a")
        stream.send(b"")
        stream.send(b"b")
        assert stream.unsent_bytes == 2
        assert await read(answer, 2) == b"ab"
        stream.send(b"last")
        stream.close("done")
        stream.close("again")
        stream.cut("never")
        stream.send(b"too late")
        assert await answer.content.read() == b"last"
    assert site.endings == ["done"]
    assert not stream.is_open
    async with site.session.get("/small") as answer:
        assert answer.status == 200


async def test_a_peer_that_leaves_is_noticed_once(site: Site) -> None:
    answer = await site.session.get("/stream")
    await read(answer, 6)
    answer.close()
    await until(lambda: bool(site.endings))
    site.streams[0].send(b"x")
    assert site.endings == [PEER_CLOSED]


async def never_reading(site: Site) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port, limit=1024)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.read(10)
    await until(lambda: bool(site.streams))
    return writer


async def test_a_peer_that_never_reads_is_cut_and_others_are_not_held_up(site: Site) -> None:
    writer = await never_reading(site)
    good = await site.session.get("/stream")
    await read(good, 6)
    slow, fast = site.streams
    for _ in range(200):
        for stream in site.streams:
            stream.send(b"x" * 100_000)
        await read(good, 100_000)
        if not slow.is_open:
            break
    assert site.endings == [f"more than {site.limit} bytes unsent"]
    assert fast.is_open
    good.close()
    writer.close()


async def test_a_snapshot_may_exceed_the_limit_until_the_peer_has_caught_up(site: Site) -> None:
    answer = await site.session.get("/stream")
    await read(answer, 6)
    stream = site.streams[0]
    snapshot = b"s" * (5 * site.limit)
    stream.send(snapshot, exempt=True)
    await asyncio.sleep(0)
    stream.send(b"event")
    assert await read(answer, len(snapshot)) == snapshot
    assert await read(answer, 5) == b"event"
    await until(lambda: stream.unsent_bytes == 0)
    stream.send(b"now")
    await read(answer, 3)
    stream.send(snapshot)
    assert not stream.is_open
    answer.close()


async def test_an_old_client_gets_a_plain_body(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(b"GET /stream HTTP/1.0\r\n\r\n")
    await until(lambda: bool(site.streams))
    site.streams[0].send(b"data")
    site.streams[0].close()
    text = await asyncio.wait_for(reader.read(), 60)
    assert text.endswith(b"\r\n\r\nearly;data")
    assert b"chunked" not in text
    writer.close()


async def test_stopping_the_server_ends_streams(site: Site) -> None:
    answer = await site.session.get("/stream")
    await read(answer, 6)
    await asyncio.wait_for(site.server.stop(), 60)
    assert site.endings == [PEER_CLOSED]
    answer.close()


async def test_broadcast_reaches_each_with_what_it_wants(site: Site) -> None:
    every = await site.session.get("/events")
    some = await site.session.get("/events?event_type=b&event_type=c")
    await until(lambda: len(site.broadcast) == 2)
    site.broadcast.publish(b"a1", "a")
    site.broadcast.publish(b"b1", "b")
    site.broadcast.send_to(site.streams[0], b"own")
    site.broadcast.publish(b"c1", "c")
    assert await read(every, 9) == b"a1b1ownc1"
    assert await read(some, 4) == b"b1c1"
    late = await site.session.get("/events")
    await until(lambda: len(site.broadcast) == 3)
    site.broadcast.publish(b"d1", "d")
    assert await read(late, 2) == b"d1"
    assert site.metrics.snapshot()["events/subscribers"] == 3.0
    newest = await site.session.get("/events")
    await until(lambda: len(site.streams) == 4)
    assert len(site.broadcast) == 3
    assert await every.content.read() == b"d1"
    some.close()
    await until(lambda: len(site.broadcast) == 2)
    site.broadcast.close("over")
    assert await newest.content.read() == b""
    assert len(site.broadcast) == 0


# -- authentication --------------------------------------------------------------------------------


def request_with(value: str) -> web.Request:
    return make_mocked_request("GET", "/", headers={"Authorization": value})


def basic(principal: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{principal}:{secret}".encode()).decode()


def test_basic_authentication() -> None:
    text = '{"credentials":[{"principal":"ops","secret":"pä:ss"}]}'
    auth = BasicAuth(parse_credentials(text), "mesos-master-readwrite")
    assert auth.principal(request_with(basic("ops", "pä:ss"))) == "ops"
    for login in (("ops", "wrong"), ("other", "pä:ss"), ("ops", ""), ("", "")):
        assert auth.principal(request_with(basic(*login))) is None
    for value in ("", "Basic", "Basic !!!", "Bearer b3Bz", "Basic b3Bz", "Basic //79"):
        assert auth.principal(request_with(value)) is None
    assert auth.challenge().headers["WWW-Authenticate"] == 'Basic realm="mesos-master-readwrite"'


@pytest.mark.parametrize("text", ["", "ops secret", "[]", '{"credentials":[{"principal":"x"}]}'])
def test_wrong_credentials_files(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_credentials(text)


# -- clients ---------------------------------------------------------------------------------------


class Masters:
    """Servers of which one leads and the others point to it."""

    def __init__(self, count: int) -> None:
        self.leader = 0
        self.elected = True
        self.asked: list[int] = []
        self.servers = [self._server(index) for index in range(count)]

    def _server(self, index: int) -> Server:
        async def answer(request: web.Request) -> web.Response:
            self.asked.append(index)
            if not self.elected:
                return web.Response(status=503, text="No leader elected")
            if index != self.leader:
                there = self.servers[self.leader]
                location = f"//{there.ip}:{there.port}{request.path_qs}"
                return web.Response(status=307, headers={"Location": location})
            body = await request.read()
            return json_answer({"by": index, "path": request.path_qs, "body": body.decode()})

        app = make_app(Log(stream=io.StringIO()), Metrics())
        add_routes(app, [""], [("*", "/{tail:.*}", answer)])
        return Server(app, "127.0.0.1", 0)

    @property
    def addresses(self) -> list[str]:
        return [f"{server.ip}:{server.port}" for server in self.servers]


@pytest.fixture
async def masters() -> AsyncIterator[Masters]:
    made = Masters(3)
    for server in made.servers:
        await server.start()
    yield made
    for server in made.servers:
        await server.stop()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client("mesostk-test")
    yield made
    await made.close()


async def test_a_leader_client_follows_redirects_and_remembers(
    masters: Masters, client: Client
) -> None:
    masters.leader = 2
    to_leader = LeaderClient(client, masters.addresses, random.Random(1))
    answer = await to_leader.request("POST", "/api/v1?x=1", b"call")
    assert answer.json(dict) == {"by": 2, "path": "/api/v1?x=1", "body": "call"}
    await to_leader.request("POST", "/again", b"call")
    assert masters.asked == [0, 2, 2]
    assert to_leader.leader == masters.addresses[2]


async def test_a_leader_client_goes_on_when_the_leader_dies(
    masters: Masters, client: Client
) -> None:
    to_leader = LeaderClient(client, masters.addresses, random.Random(1))
    await to_leader.request("GET", "/")
    await masters.servers[0].stop()
    masters.leader = 1
    assert (await to_leader.request("GET", "/state")).json(dict)["by"] == 1


async def test_a_leader_client_waits_for_an_election(masters: Masters, client: Client) -> None:
    masters.elected = False
    to_leader = LeaderClient(client, masters.addresses, random.Random(1))
    waiting = asyncio.create_task(to_leader.request("POST", "/", b"x"))
    await until(lambda: len(masters.asked) >= 3)
    masters.elected = True
    assert (await waiting).status == 200
    masters.elected = False
    with pytest.raises(Unavailable, match="No leader elected"):
        await to_leader.request("GET", "/", timeout_s=1.0)


async def test_a_leader_client_is_told_by_a_detector(masters: Masters, client: Client) -> None:
    to_leader = LeaderClient(client, rng=random.Random(1))
    with pytest.raises(Unavailable, match="nobody leads"):
        await to_leader.request("GET", "/", timeout_s=0.05)
    to_leader.set_leader(masters.addresses[0])
    assert (await to_leader.request("GET", "/")).status == 200


async def test_masters_that_redirect_in_circles_are_not_followed_for_ever(
    masters: Masters, client: Client
) -> None:
    async def away(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"//{request.host}/x"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", away)
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    to_leader = LeaderClient(client, [f"127.0.0.1:{server.port}"], random.Random(1))
    with pytest.raises(Unavailable, match="circles"):
        await to_leader.request("GET", "/", timeout_s=1.0)
    await server.stop()


async def test_a_post_that_may_have_arrived_is_not_repeated(client: Client) -> None:
    calls = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    to_leader = LeaderClient(client, [f"127.0.0.1:{port}"], random.Random(1))
    with pytest.raises(Unavailable, match="no answer"):
        await to_leader.request("POST", "/", b"x", timeout_s=60)
    assert calls == 1
    server.close()
    await server.wait_closed()


async def test_a_silent_peer_is_unavailable(client: Client, site: Site) -> None:
    with pytest.raises(Unavailable, match="no answer from 127"):
        await client.request("POST", site.server.url + "/slow", b"", timeout_s=0.05)


async def test_a_stream_is_opened_unread(client: Client, site: Site) -> None:
    to_leader = LeaderClient(client, [f"127.0.0.1:{site.server.port}"], random.Random(1))
    response = await to_leader.open("GET", "/stream")
    assert await read(response, 6) == b"early;"
    response.close()


def test_redirect_targets() -> None:
    assert redirected("http://a:1/x", "//b:2/y?z") == "http://b:2/y?z"
    assert redirected("http://a:1/x", "/y") == "http://a:1/y"
    assert redirected("https://a:1/x", "http://b/y") == "http://b/y"
    with pytest.raises(Unavailable):
        redirected("http://a:1/x", "javascript:1")
