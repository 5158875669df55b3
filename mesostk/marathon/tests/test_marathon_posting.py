"""Events sent to URLs, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web

from mesostk.base.client import Client
from mesostk.base.clock import RealClock
from mesostk.base.http import Server
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.marathon import posting
from mesostk.marathon.events import SetCallbacks
from mesostk.marathon.posting import Poster

LIMIT_S = 90.0


class Consumer:
    """A server that takes events; `answer` decides what it says to each."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.answer: Callable[[], int] = lambda: 200
        self.told = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        app = web.Application()
        app.router.add_post("/events", self._take)
        self.server = Server(app, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        return self.server.url + "/events"

    async def _take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        self.seen.append(await request.read())
        self.told.set()
        await self.open.wait()
        return web.Response(status=self.answer())

    async def until(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.seen) < count:
                self.told.clear()
                await self.told.wait()


@pytest.fixture
async def consumer() -> AsyncIterator[Consumer]:
    made = Consumer()
    await made.server.start()
    yield made
    made.open.set()
    await made.server.stop()


class Rig:
    def __init__(self, slow_s: float) -> None:
        self.client = Client("test")
        self.metrics = Metrics()
        self.tasks: list[asyncio.Task[None]] = []
        self.poster = Poster(
            self.client, RealClock(), self._start, Log("ERROR"), self.metrics, slow_s
        )

    def _start(self, name: str, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self.tasks.append(task)
        return task

    @property
    def dropped(self) -> float:
        return self.metrics.snapshot()["marathon.event-callbacks.dropped.counter"]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(slow_s=30.0)
    yield made
    await made.close()


async def test_events_come_in_order_to_every_url(rig: Rig, consumer: Consumer) -> None:
    rig.poster.set(SetCallbacks((consumer.url, consumer.url + "?again")))
    for number in range(20):
        rig.poster.post(b'{"n":%d}' % number)
    await consumer.until(40)
    wanted = [b'{"n":%d}' % number for number in range(20)]
    assert list(dict.fromkeys(consumer.seen)) == wanted
    assert [consumer.seen.count(each) for each in wanted] == [2] * 20


async def test_a_url_that_is_gone_gets_nothing_more(rig: Rig, consumer: Consumer) -> None:
    rig.poster.set(SetCallbacks((consumer.url,)))
    rig.poster.post(b"1")
    await consumer.until(1)
    rig.poster.set(SetCallbacks(()))
    rig.poster.post(b"2")
    rig.poster.set(SetCallbacks((consumer.url,)))
    rig.poster.post(b"3")
    await consumer.until(2)
    assert consumer.seen == [b"1", b"3"]


async def test_a_url_that_fails_is_muted_and_the_others_are_not(
    rig: Rig, consumer: Consumer
) -> None:
    consumer.answer = lambda: 500
    rig.poster.set(SetCallbacks((consumer.url, "http://127.0.0.1:1/nobody")))
    rig.poster.post(b"1")
    await consumer.until(1)
    async with asyncio.timeout(LIMIT_S):
        while rig.dropped < 2:  # both are muted
            rig.poster.post(b"2")
            await asyncio.sleep(0.01)
    assert consumer.seen[0] == b"1"


async def test_a_url_that_does_not_answer_holds_up_a_bounded_number(
    rig: Rig, consumer: Consumer
) -> None:
    consumer.open.clear()
    rig.poster.set(SetCallbacks((consumer.url,)))
    rig.poster.post(b"0")
    await consumer.until(1)
    for _ in range(posting.MAX_WAITING + 7):
        rig.poster.post(b"x")
    assert rig.dropped == 7
