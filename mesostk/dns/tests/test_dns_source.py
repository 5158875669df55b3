"""Following a master that is scripted: what its stream does not tell, and states of any size."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from mesostk.base.client import Client
from mesostk.base.clock import RealClock
from mesostk.base.log import Log
from mesostk.dns.assembly import Core, make_core
from mesostk.dns.config import Config
from mesostk.dns.source import Settings, Source
from mesostk.wire.recordio import encode_record

LOCAL = "127.0.0.1"


def framework(number: int, name: str) -> dict[str, Any]:
    info = {"user": "root", "name": name, "id": {"value": f"F{number}"}, "hostname": "10.0.3.11"}
    return {"framework_info": info, "active": True, "connected": True, "recovered": False}


def state(tasks: int) -> dict[str, Any]:
    info = {"hostname": "a1", "id": {"value": "x-S0"}}
    agent = {
        "agent_info": info, "active": True, "version": "1.11.0", "pid": "slave(1)@10.0.3.51:5051",
    }  # fmt: skip
    return {
        "get_agents": {"agents": [agent]},
        "get_frameworks": {"frameworks": [framework(0, "marathon"), framework(1, "old")]},
        "get_tasks": {
            "tasks": [
                {
                    "name": f"app{n}", "task_id": {"value": f"app{n}.1"},
                    "framework_id": {"value": "F0"}, "agent_id": {"value": "x-S0"},
                    "state": "TASK_RUNNING",
                }
                for n in range(tasks)
            ]
        },
    }  # fmt: skip


class Master:
    """Serves one event stream and the summary of its state."""

    def __init__(self, tasks: int, pids: dict[str, str]) -> None:
        self.tasks = tasks
        self.pids = pids
        self._streams: list[web.StreamResponse] = []
        self._ended = asyncio.Event()

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        subscribed = {"get_state": state(self.tasks), "heartbeat_interval_seconds": 15}
        event = {"type": "SUBSCRIBED", "subscribed": subscribed}
        await stream.write(encode_record(json.dumps(event).encode()))
        self._streams.append(stream)
        await self._ended.wait()
        return stream

    async def tell(self, event: dict[str, Any]) -> None:
        for stream in self._streams:
            await stream.write(encode_record(json.dumps(event).encode()))

    async def summary(self, _request: web.Request) -> web.Response:
        found = [{"id": one, "name": one, "pid": pid} for one, pid in self.pids.items()]
        return web.json_response({"hostname": "m1", "frameworks": found})

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[Core]:
        """What is known of it by somebody who follows it."""
        app = web.Application()
        app.router.add_post("/api/v1", self.subscribe)
        app.router.add_get("/master/state-summary", self.summary)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, LOCAL, 0)
        await site.start()
        address = f"{LOCAL}:{runner.addresses[0][1]}"
        clock, client = RealClock(), Client("Mesos-DNS")
        core = make_core(Config(masters=(address,)), (), (), clock, random.Random(1))

        async def unauthorized() -> None:
            return None

        source = Source(
            client, Settings(masters=(address,)), core.naming, clock.monotonic, Log("ERROR"),
            unauthorized,
        )  # fmt: skip
        tasks = [asyncio.create_task(source.run()), asyncio.create_task(source.schedulers())]
        try:
            async with asyncio.timeout(60):
                yield core
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ended.set()
            await client.close()
            await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """What is followed tells nobody; the limit is that of `Master.followed`."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_scheduler_that_speaks_libprocess_has_a_port_with_the_stream_too() -> None:
    service = "_framework._tcp.old.mesos"
    master = Master(0, {"F1": "scheduler-1@10.0.3.12:31111"})
    async with master.followed() as core:
        await until(lambda: bool(core.zone.values(service, "SRV")))
        assert core.zone.values(service, "SRV") == ["old.mesos:31111"]
        assert core.zone.values("old.mesos", "A") == ["10.0.3.12"]
        assert core.zone.values("_framework._tcp.marathon.mesos", "SRV") == []
        # It starts again, elsewhere.
        master.pids = {"F1": "scheduler-2@10.0.3.13:31112"}
        event = {
            "type": "FRAMEWORK_UPDATED",
            "framework_updated": {"framework": framework(1, "old")},
        }
        await master.tell(event)
        while core.zone.values(service, "SRV") != ["old.mesos:31112"]:
            assert core.zone.values(service, "SRV"), "it had no port for a moment"
            await asyncio.sleep(0.005)


async def test_others_have_their_turn_while_a_great_state_is_taken_in() -> None:
    master = Master(5000, {})
    async with master.followed() as core:
        serials = []
        while not core.answers.is_usable:
            if 0 < len(core.zone.tasks) < 5000:
                serials.append(core.answers.serial)
            await asyncio.sleep(0)
        assert len(serials) > 5
        assert len(core.zone.tasks) == 5000
        # A number stands for one content: there is one for the whole, and none for the parts.
        whole = core.answers.serial
        assert whole > serials[-1] == serials[0]
        core.zone.check()
        info = framework(0, "marathon")["framework_info"]
        gone = {"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info": info}}
        await master.tell(gone)
        turns = 0
        while core.zone.tasks:
            turns += len(core.zone.tasks) < 5000
            await asyncio.sleep(0)
        assert turns > 2
        await until(lambda: core.answers.serial != whole)
        core.zone.check()
