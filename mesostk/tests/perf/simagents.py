"""Simulated agents, many in one process, on the real link to a master over loopback.

::

    python -m mesostk.tests.perf.simagents URL COUNT TASKS   each line of stdin is an order:
      start ─▶ every agent subscribes, from now on also whenever its link has ended
      await ─▶ until all are registered
      updates N B ─▶ N status updates of tasks, from all agents in turn, B in one POST
    stdout: `registered` or `sent` when that is done

An agent subscribes as `mesos-agent` does, brings its tasks, answers heartbeats and says nothing
else. They never wait before they subscribe, so the master meets all of them at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mesostk.resources import text
from mesostk.tests.perf.connections import Events, Posts
from mesostk.tests.perf.machine import run
from mesostk.wire import json, link
from mesostk.wire.mesos import (
    AgentCapability,
    AgentID,
    AgentInfo,
    FrameworkID,
    FrameworkInfo,
    Task,
    TaskID,
    TaskStatus,
)
from mesostk.wire.recordio import encode_record

PATH = "/api/link"

#: Whose tasks the agents bring.
FRAMEWORK = FrameworkInfo(
    user="u", name="perf", id=FrameworkID("F"), checkpoint=True, failover_timeout=1e6
)

#: Subscriptions that one process has on their way; more only wait in the master's backlog.
AT_ONCE = 256

#: Before an agent tries again.
PAUSE_S = 0.05

_CAPABILITIES = tuple(
    AgentCapability(type=name)
    for name in ("MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT")
)
_TOTAL = text.parse("cpus:64;mem:65536;disk:99999;ports:[31000-32000]").to_wire()


class SimAgent:
    """One agent: its link, and where its calls are posted."""

    def __init__(self, number: int, tasks: int) -> None:
        self.number = number
        self.id: AgentID | None = None
        self.tasks = tasks
        self.events: Events | None = None
        self.registered = asyncio.Event()
        #: Of the latest link: REGISTERED or its end has come; its end has.
        self.answered = asyncio.Event()
        self.over = asyncio.Event()

    def subscription(self) -> bytes:
        """With the tasks once the agent has an id, as after a failover of the master."""
        brought = tuple(self._task(place) for place in range(self.tasks)) if self.id else ()
        message = link.Subscribe(
            protocol=link.PROTOCOL,
            version="1.11.0",
            ip="127.0.0.1",
            capabilities=_CAPABILITIES,
            agent_info=AgentInfo(
                hostname=f"a{self.number}", id=self.id, port=5051, resources=_TOTAL
            ),
            frameworks=(FRAMEWORK,) if brought else (),
            tasks=brought,
        )
        return encode_record(json.encode(message))

    def _task(self, place: int) -> Task:
        assert self.id is not None
        task_id = TaskID(f"service-{place}.instance-{self.number}-{place}")
        resources = text.parse(f"cpus:0.5;mem:128;ports:[{31000 + place}-{31000 + place}]")
        return Task(
            name=f"service-{place}",
            task_id=task_id,
            framework_id=FrameworkID("F"),
            agent_id=self.id,
            state="TASK_RUNNING",
            resources=resources.allocate("*").to_wire(),
            statuses=(
                TaskStatus(task_id=task_id, state="TASK_RUNNING", timestamp=1.7e9, uuid=b"u" * 16),
            ),
        )

    def update(self, place: int) -> bytes:
        """One more status update of one of the tasks, framed."""
        task_id = TaskID(f"service-{place}.instance-{self.number}-{place}")
        status = TaskStatus(
            task_id=task_id,
            state="TASK_RUNNING",
            agent_id=self.id,
            uuid=os.urandom(16),
            timestamp=time.time(),
            source="SOURCE_EXECUTOR",
        )
        update = link.StatusUpdate(
            framework_id=FrameworkID("F"), status=status, latest_state="TASK_RUNNING"
        )
        return encode_record(json.encode(link.StatusUpdates(updates=(update,))))


class Fleet:
    """All agents of this process. Calls go up over a few connections that they share."""

    def __init__(self, url: str, count: int, tasks: int) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._host, self._port = address.hostname, address.port
        self._agents = [SimAgent(number, tasks) for number in range(count)]
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._posts: Posts | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Take orders from stdin until it ends."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := (await reader.readline()).decode().split():
            if line[0] == "start":
                for agent in self._agents:
                    self._start(self._live(agent))
                await self._report_registered()
            elif line[0] == "await":
                await self._report_registered()
            elif line[0] == "updates":
                await self._send_updates(int(line[1]), int(line[2]))

    async def _report_registered(self) -> None:
        for agent in self._agents:
            await agent.registered.wait()
        print("registered", flush=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, agent: SimAgent) -> None:
        """Be registered, for ever again."""
        while True:
            async with self._gate:
                agent.over.clear()
                agent.answered.clear()
                if not await self._subscribe(agent):
                    await asyncio.sleep(PAUSE_S)
                    continue
            await agent.over.wait()
            agent.registered.clear()
            self._posts = None

    async def _subscribe(self, agent: SimAgent) -> bool:
        """Whether it came to REGISTERED."""
        agent.events = Events(
            self._host,
            self._port,
            PATH,
            agent.subscription(),
            lambda record: self._on_record(agent, record),
            lambda: self._on_end(agent),
        )
        try:
            await agent.events.open()
        except OSError:  # no master listens
            return False
        await agent.answered.wait()
        return agent.registered.is_set()

    def _on_end(self, agent: SimAgent) -> None:
        agent.over.set()
        agent.answered.set()

    def _on_record(self, agent: SimAgent, record: bytes) -> None:
        message = msgspec.json.decode(record, type=link.DownMessage)
        if isinstance(message, link.Registered):
            agent.id = message.agent_id
            agent.registered.set()
            agent.answered.set()
        elif isinstance(message, link.Heartbeat):
            self._start(self._pong(agent))

    async def _pong(self, agent: SimAgent) -> None:
        await self._post(agent, encode_record(json.encode(link.Pong())))

    async def _post(self, agent: SimAgent, body: bytes) -> None:
        assert agent.events is not None
        if self._posts is None:
            self._posts = await Posts.connect(self._host, self._port)
        headers = {link.STREAM_ID_HEADER: agent.events.stream_id}
        self._posts.post(PATH, body, headers)

    async def _send_updates(self, count: int, batch: int) -> None:
        """All agents in turn, `batch` updates in a POST."""
        posts = await Posts.connect(self._host, self._port)
        for number in range(0, count, batch):
            agent = self._agents[number // batch % len(self._agents)]
            assert agent.events is not None
            headers = {link.STREAM_ID_HEADER: agent.events.stream_id}
            parts = range(number, min(number + batch, count))
            body = b"".join(agent.update(part % agent.tasks) for part in parts)
            if number // batch % 100 == 99 or number + batch >= count:
                await posts.ask(PATH, body, headers)
            else:
                posts.post(PATH, body, headers)
        posts.close()
        print("sent", flush=True)


if __name__ == "__main__":
    fleet = Fleet(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    run(fleet.serve(), limit_s=600.0)
