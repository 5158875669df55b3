"""The driver against a real server on loopback that answers by script."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from aiohttp import web

from mesostk.base.client import Client
from mesostk.base.core import Note
from mesostk.framework.driver import PATH, Driver
from mesostk.wire import scheduler
from mesostk.wire.json import decode, encode
from mesostk.wire.mesos import Filters, FrameworkID, FrameworkInfo, MasterInfo, OfferID, TaskID
from mesostk.wire.recordio import encode_record

INFO = FrameworkInfo(user="root", name="test")

#: One answer to one SUBSCRIBE.
Script = Callable[["Master", web.Request], Awaitable[web.StreamResponse]]


class Recorder:
    """A framework that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.events: list[scheduler.Event] = []
        self.changed = asyncio.Condition()
        self._notify: set[asyncio.Task[None]] = set()

    def on_connected(self, framework_id: FrameworkID, master: MasterInfo | None) -> None:
        self._tell(f"connected {framework_id.value}")

    def on_disconnected(self, reason: str) -> None:
        self._tell(f"disconnected {reason}")

    def on_event(self, event: scheduler.Event) -> None:
        self.events.append(event)
        self._tell(f"event {event.type}")

    def on_info_answered(self, refusal: str | None) -> None:
        self._tell(f"info {'taken' if refusal is None else refusal}")

    def _tell(self, text: str) -> None:
        self.told.append(text)
        task = asyncio.get_running_loop().create_task(self._wake())
        self._notify.add(task)
        task.add_done_callback(self._notify.discard)

    async def _wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(wanted)


class Master:
    """Answers each SUBSCRIBE by the next script, the last one again and again; takes all calls."""

    def __init__(self, *scripts: Script, call_status: Sequence[tuple[int, str]] = ()) -> None:
        self.scripts = list(scripts)
        self.subscribes: list[scheduler.Call] = []
        self.calls: list[scheduler.Call] = []
        self.stream_ids: list[str | None] = []
        self.connections: set[tuple[str, int]] = set()
        self.call_status = list(call_status)
        self.hold_calls: asyncio.Event | None = None
        self.called = asyncio.Event()
        self.cut = asyncio.Event()
        self.address = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = decode(await request.read(), scheduler.Call)
        if call.type == "SUBSCRIBE":
            assert "Mesos-Stream-Id" not in request.headers
            self.subscribes.append(call)
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            return await script(self, request)
        if self.hold_calls is not None:
            await self.hold_calls.wait()
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        self.calls.append(call)
        self.stream_ids.append(request.headers.get("Mesos-Stream-Id"))
        self.called.set()
        status, text = self.call_status.pop(0) if self.call_status else (202, "")
        return web.Response(status=status, text=text)


def record(event: scheduler.Event) -> bytes:
    return encode_record(encode(event))


SUBSCRIBED = record(
    scheduler.Event(
        type="SUBSCRIBED",
        subscribed=scheduler.Subscribed(
            framework_id=FrameworkID("F-0000"), heartbeat_interval_seconds=15.0
        ),
    )
)
HEARTBEAT = record(scheduler.Event(type="HEARTBEAT"))
RESCIND = record(scheduler.Event(type="RESCIND", rescind=scheduler.Rescind(offer_id=OfferID("O1"))))
REMOVED = record(
    scheduler.Event(type="ERROR", error=scheduler.Error(message="Framework has been removed"))
)


def streams(*pieces: bytes, hold: bool = True, stream_id: str | None = "s-1") -> Script:
    """A stream of `pieces`, one write each; then it stays open, or ends."""

    async def script(master: Master, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if stream_id is not None:
            response.headers["Mesos-Stream-Id"] = stream_id
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if hold:
            await asyncio.Event().wait()
        return response

    return script


def cuts(*pieces: bytes) -> Script:
    """A stream whose connection is reset after `pieces`, once the test says so."""

    async def script(master: Master, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Mesos-Stream-Id": "s-1"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await master.cut.wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    return script


def answers(status: int, text: str = "", **headers: str) -> Script:
    async def script(master: Master, request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return script


@contextlib.asynccontextmanager
async def serving(*masters: Master) -> AsyncIterator[None]:
    runners = []
    for master in masters:
        app = web.Application()
        app.router.add_post(PATH, master.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        master.address = f"127.0.0.1:{port}"
        runners.append(runner)
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def driving(
    framework: Recorder, *addresses: str, notes: list[Note] | None = None
) -> AsyncIterator[Driver]:
    client = Client("test")
    written: list[Note] = [] if notes is None else notes
    driver = Driver(client, framework, time.monotonic, random.Random(7), written.append, addresses)
    task = asyncio.get_running_loop().create_task(driver.run())
    try:
        yield driver
    finally:
        driver.stop()
        async with asyncio.timeout(60):
            await task
        await client.close()


async def test_events_come_through_however_the_stream_is_cut_into_pieces() -> None:
    whole = SUBSCRIBED + HEARTBEAT + RESCIND
    master = Master(streams(*(whole[at : at + 7] for at in range(0, len(whole), 7))))
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: len(framework.told) == 2)
        assert framework.told == ["connected F-0000", "event RESCIND"]
        assert driver.is_connected
    assert framework.told[-1] == "disconnected the framework stops"


async def test_a_redirect_leads_to_the_leader() -> None:
    leader = Master(streams(SUBSCRIBED))
    framework = Recorder()
    async with serving(leader):
        standby = Master(answers(307, Location=f"//{leader.address}/master{PATH}"))
        async with serving(standby), driving(framework, standby.address) as driver:
            driver.subscribe(INFO)
            await framework.until(lambda: driver.is_connected)
            driver.send(scheduler.Call(type="REVIVE"))
            await leader.called.wait()
            assert standby.calls == []
            assert leader.stream_ids == ["s-1"]


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (cuts(SUBSCRIBED), "broke"),
        (cuts(SUBSCRIBED, b"500\n{"), "broke"),
        (streams(SUBSCRIBED, hold=False), "the master closed the stream"),
        (streams(SUBSCRIBED, b"9\nxx", hold=False), "cut within a record"),
        (streams(SUBSCRIBED, encode_record(b"{nonsense")), "syntax error"),
        (streams(SUBSCRIBED, encode_record(b'{"type":7}')), "field 'type'"),
    ],
)
async def test_a_broken_stream_is_opened_again_with_the_same_framework_id(
    first: Script, reason: str
) -> None:
    master = Master(first, streams(SUBSCRIBED))
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: bool(framework.told))
        master.cut.set()
        await framework.until(lambda: len(framework.told) == 3)
        assert framework.told[0] == framework.told[2] == "connected F-0000"
        assert framework.told[1].startswith("disconnected ")
        assert reason in framework.told[1]
        assert master.subscribes[0].framework_id is None
        assert master.subscribes[1].framework_id == FrameworkID("F-0000")


@pytest.mark.parametrize(
    "first",
    [
        answers(503, "No leader elected"),
        answers(503, "Master has not finished recovery"),
        answers(401),
        answers(200, "hello"),
        streams(SUBSCRIBED, stream_id=None),
        streams(b"<html>"),
    ],
)
async def test_a_refused_subscription_is_tried_again(first: Script) -> None:
    master = Master(first, streams(SUBSCRIBED))
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: framework.told == ["connected F-0000"])
        assert len(master.subscribes) == 2


async def test_a_master_that_is_not_there_is_passed_over() -> None:
    master = Master(streams(SUBSCRIBED))
    framework = Recorder()
    # Port 1 is refused at once on any machine that runs tests.
    async with serving(master), driving(framework, "127.0.0.1:1", master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: driver.is_connected)


async def test_removal_is_told_and_not_tried_again_by_itself() -> None:
    master = Master(streams(SUBSCRIBED, REMOVED), streams(SUBSCRIBED))
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: "event ERROR" in framework.told)
        assert framework.told == [
            "connected F-0000",
            "disconnected Framework has been removed",
            "event ERROR",
        ]
        assert not driver.is_connected
        driver.subscribe(INFO)
        await framework.until(lambda: driver.is_connected)
        assert [call.framework_id for call in master.subscribes] == [None, None]


async def test_calls_keep_their_order_on_one_connection() -> None:
    master = Master(streams(SUBSCRIBED))
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: driver.is_connected)
        for number in range(50):
            kill = scheduler.Kill(task_id=TaskID(str(number)))
            driver.send(scheduler.Call(type="KILL", kill=kill))
        async with asyncio.timeout(60):
            while len(master.calls) < 50:
                master.called.clear()
                await master.called.wait()
        assert [call.kill.task_id.value for call in master.calls if call.kill] == [
            str(number) for number in range(50)
        ]
        assert all(call.framework_id == FrameworkID("F-0000") for call in master.calls)
        assert len(master.connections) == 1


async def test_declines_that_wait_behind_a_slow_call_go_as_one() -> None:
    master = Master(streams(SUBSCRIBED))
    master.hold_calls = asyncio.Event()
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: driver.is_connected)
        driver.send(scheduler.Call(type="REVIVE"))
        for number, refuse in enumerate((5.0, 5.0, 5.0, 60.0)):
            body = scheduler.Decline(
                offer_ids=(OfferID(f"O{number}"),), filters=Filters(refuse_seconds=refuse)
            )
            driver.send(scheduler.Call(type="DECLINE", decline=body))
        master.hold_calls.set()
        async with asyncio.timeout(60):
            while len(master.calls) < 3:
                master.called.clear()
                await master.called.wait()
        declined = [call.decline.offer_ids for call in master.calls if call.decline is not None]
        assert declined == [(OfferID("O0"), OfferID("O1"), OfferID("O2")), (OfferID("O3"),)]


async def test_a_wrong_stream_id_makes_the_driver_subscribe_again() -> None:
    master = Master(
        streams(SUBSCRIBED),
        streams(SUBSCRIBED, stream_id="s-2"),
        call_status=[(403, "Framework is not subscribed")],
    )
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: driver.is_connected)
        driver.send(scheduler.Call(type="REVIVE"))
        await framework.until(lambda: len(framework.told) == 3)
        assert framework.told[1] == "disconnected REVIVE: 403 Framework is not subscribed"
        master.called.clear()
        driver.send(scheduler.Call(type="REVIVE"))
        await master.called.wait()
        assert master.stream_ids[-1] == "s-2"


async def test_a_call_that_is_the_frameworks_own_fault_is_only_noted() -> None:
    refusal = "Failed to validate scheduler::Call: Expecting 'kill' to be present"
    master = Master(streams(SUBSCRIBED), call_status=[(400, refusal)])
    framework, notes = Recorder(), list[Note]()
    async with serving(master), driving(framework, master.address, notes=notes) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: driver.is_connected)
        driver.send(scheduler.Call(type="KILL"))
        driver.send(scheduler.Call(type="REVIVE"))
        async with asyncio.timeout(60):
            while len(master.calls) < 2:
                master.called.clear()
                await master.called.wait()
        assert driver.is_connected
    assert any(refusal in str(note.fields.get("reason")) for note in notes)


async def test_the_framework_is_told_what_became_of_its_new_info() -> None:
    refusal = "Not authorized to use role 'web'"
    master = Master(streams(SUBSCRIBED), call_status=[(403, refusal), (200, "")])
    framework = Recorder()
    async with serving(master), driving(framework, master.address) as driver:
        driver.subscribe(INFO)
        await framework.until(lambda: driver.is_connected)
        body = scheduler.UpdateFramework(framework_info=INFO)
        call = scheduler.Call(type="UPDATE_FRAMEWORK", update_framework=body)
        driver.send(call)
        driver.send(call)
        await framework.until(lambda: len(framework.told) == 3)
        assert framework.told[1:] == [f"info {refusal}", "info taken"]


async def test_the_detector_moves_the_stream_to_the_new_leader() -> None:
    old, new = Master(streams(SUBSCRIBED)), Master(streams(SUBSCRIBED))
    framework = Recorder()
    async with serving(old, new), driving(framework) as driver:
        driver.subscribe(INFO)
        driver.set_leader(b"nonsense")
        driver.set_leader(old.address.encode())
        await framework.until(lambda: driver.is_connected)
        driver.set_leader(None)
        assert driver.is_connected
        driver.set_leader(new.address.encode())
        await framework.until(lambda: len(framework.told) == 3)
        assert framework.told[1] == f"disconnected {new.address} leads now"
        assert new.subscribes[0].framework_id == FrameworkID("F-0000")


async def test_an_error_in_the_framework_is_not_swallowed() -> None:
    class Broken(Recorder):
        def on_event(self, event: scheduler.Event) -> None:
            raise ZeroDivisionError("a bug")

    master = Master(streams(SUBSCRIBED, RESCIND))
    client = Client("test")
    driver = Driver(
        client, Broken(), time.monotonic, random.Random(7), lambda note: None, ["127.0.0.1:1"]
    )
    async with serving(master):
        driver.subscribe(INFO)
        driver.set_leader(master.address.encode())
        with pytest.RaisesGroup(ZeroDivisionError):
            await asyncio.wait_for(driver.run(), 60)
    await client.close()
