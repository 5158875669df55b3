"""Probes against real sockets on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop
from aiohttp import web

from mesostk.base.clock import RealClock
from mesostk.marathon.events import Probe, ProbeResult, StartProbes, StopProbes
from mesostk.marathon.instances import InstanceId
from mesostk.marathon.probes import Prober

ID = InstanceId("a.instance-1")

Serve = Callable[[web.Application], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners = []

    async def start(app: web.Application) -> int:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


class Rig:
    """A prober that runs, and what it reported."""

    def __init__(self) -> None:
        self.results: asyncio.Queue[ProbeResult] = asyncio.Queue()
        self.tasks: list[asyncio.Task[None]] = []
        self.prober = Prober(RealClock(), self.results.put_nowait, self._start)

    def _start(self, name: str, coro: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coro)  # type: ignore[arg-type] # a coroutine
        self.tasks.append(task)
        return task

    async def next(self) -> ProbeResult:
        return await asyncio.wait_for(self.results.get(), 60)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    rig._start("run", rig.prober.run())
    yield rig
    for task in rig.tasks:
        task.cancel()
    await asyncio.gather(*rig.tasks, return_exceptions=True)


def probe(port: int, kind: str = "HTTP", **fields: object) -> Probe:
    defaults: dict[str, object] = {"first_s": 0.0, "interval_s": 0.02, "timeout_s": 30.0}
    return Probe(index=0, kind=kind, host="127.0.0.1", port=port, **{**defaults, **fields})  # type: ignore[arg-type] # terse


def answering(*statuses: int) -> web.Application:
    left = list(statuses)

    async def handler(request: web.Request) -> web.Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, text="body", headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_get("/{any:.*}", handler)
    return app


async def test_statuses_from_200_to_399_are_alive_and_redirects_are_not_followed(
    serve: Serve, rig: Rig
) -> None:
    port = await serve(answering(200, 302, 399, 400, 500))
    rig.prober.begin(StartProbes(ID, (probe(port),)))
    seen = [await rig.next() for _ in range(5)]
    assert [result.outcome.alive for result in seen] == [True, True, True, False, False]
    assert seen[4].outcome.cause == "HTTP 500"


async def test_a_closed_port_names_the_address(rig: Rig, serve: Serve) -> None:
    rig.prober.begin(StartProbes(ID, (probe(1), probe(1, kind="TCP"))))
    for _ in range(2):
        result = await rig.next()
        assert not result.outcome.alive
        assert result.outcome.cause is not None
        assert "127.0.0.1:1" in result.outcome.cause


async def test_an_open_port_is_alive_for_tcp(serve: Serve, rig: Rig) -> None:
    port = await serve(answering(500))
    rig.prober.begin(StartProbes(ID, (probe(port, kind="TCP"),)))
    assert (await rig.next()).outcome.alive


async def test_silence_is_a_failure_after_the_timeout(serve: Serve, rig: Rig) -> None:
    async def never(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/", never)
    port = await serve(app)
    rig.prober.begin(StartProbes(ID, (probe(port, timeout_s=0.05),)))
    result = await rig.next()
    assert result.outcome.cause == f"no answer from 127.0.0.1:{port} in 0.05 s"


async def test_readiness_wants_its_own_statuses_and_keeps_the_answer(
    serve: Serve, rig: Rig
) -> None:
    port = await serve(answering(200, 503))
    rig.prober.begin(StartProbes(ID, (probe(port, ready_codes=(503,)),)))
    first, second = await rig.next(), await rig.next()
    assert (first.outcome.alive, second.outcome.alive) == (False, True)
    assert (second.status, second.body) == (503, "body")


async def test_nothing_is_reported_after_the_stop(serve: Serve, rig: Rig) -> None:
    port = await serve(answering(200))
    other = InstanceId("b.instance-2")
    rig.prober.begin(StartProbes(ID, (probe(port),)))
    await rig.next()
    rig.prober.end(StopProbes(ID))
    while not rig.results.empty():
        rig.results.get_nowait()
    rig.prober.begin(StartProbes(other, (probe(port),)))
    for _ in range(3):
        assert (await rig.next()).instance_id == other


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"", "without an answer"),
        (b"x" * 5000, "no HTTP"),
        (b"HTTP/1.1 2", "without an answer"),
    ],
)
async def test_what_is_no_http_answer_is_a_failure_that_says_so(
    rig: Rig, said: bytes, words: str
) -> None:
    server = await asyncio.start_server(_sayer(said), "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    rig.prober.begin(StartProbes(ID, (probe(port),)))
    outcome = (await rig.next()).outcome
    assert not outcome.alive
    assert outcome.cause is not None
    assert words in outcome.cause
    server.close()


def _sayer(said: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    return answer


def test_probes_work_on_the_loop_that_daemons_have() -> None:
    async def run() -> list[ProbeResult]:
        rig = Rig()
        rig._start("run", rig.prober.run())
        server = await asyncio.start_server(
            _sayer(b"HTTP/1.1 204 No Content\r\n\r\n"), "127.0.0.1", 0
        )
        port = int(server.sockets[0].getsockname()[1])
        rig.prober.begin(StartProbes(ID, (probe(port), probe(port, kind="TCP"))))
        seen = [await rig.next(), await rig.next()]
        for task in rig.tasks:
            task.cancel()
        await asyncio.gather(*rig.tasks, return_exceptions=True)
        server.close()
        return seen

    assert [result.outcome.alive for result in uvloop.run(run())] == [True, True]
