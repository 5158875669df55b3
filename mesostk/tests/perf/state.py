"""How /state and GET_STATE do at scale: `python -m mesostk.tests.perf.state [--tasks 50000]`.

A master of simulated agents, each with tasks of one framework, in this process. Printed for the
first document (nothing is encoded yet) and for later ones: seconds of making, the first chunk, the
most processor time that passed between two turns of everybody else on the loop (a busy machine adds
to the wall clock what is not ours), and the size. After that what requests over loopback take in
smaller clusters, beside what the original took (spec/mesos.md §12, §15).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from random import Random

import uvloop
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from mesostk.base.core import Driver, Save, Saved, WallClock
from mesostk.base.daemon import GC_THRESHOLDS, Daemon
from mesostk.base.http import make_app
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.master import acls, documents, events, legacy, permits, v1_documents
from mesostk.master.bodies import Bodies, Body
from mesostk.master.captures import Capture
from mesostk.master.core import Master
from mesostk.master.entry import Node
from mesostk.master.event_streams import EventStreams
from mesostk.master.figures import figures
from mesostk.master.fragments import Fragments
from mesostk.master.http import Routes
from mesostk.master.link import LinkApi
from mesostk.master.node_files import NodeFiles
from mesostk.master.operator import OperatorApi
from mesostk.master.posts import Posts
from mesostk.master.scheduler import SchedulerApi
from mesostk.master.state import Config
from mesostk.resources import text
from mesostk.wire import link
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

_CAPABILITIES = tuple(
    AgentCapability(type=name)
    for name in ("MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT")
)


def cluster(agents: int, tasks: int) -> Master:
    """A master whose agents have brought their tasks."""
    master = Master(Config(ip="127.0.0.1", hostname="m", version="1.11.0"), Random(1))
    master.handle(0.0, WallClock(1_700_000_000.0))
    epoch = link.ClusterEpoch(cluster_id="c", counter=1)
    master.handle(0.0, events.Elected(epoch, {}))
    framework = FrameworkInfo(user="u", name="f", id=FrameworkID("F"), checkpoint=True)
    for number in range(agents):
        brought = tuple(_task(number, place) for place in range(tasks // agents))
        message = link.Subscribe(
            protocol=link.PROTOCOL,
            version="1.11.0",
            ip=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            capabilities=_CAPABILITIES,
            agent_info=AgentInfo(
                hostname=f"a{number}",
                id=AgentID(f"S{number}"),
                resources=text.parse("cpus:64;mem:65536;disk:99999;ports:[31000-32000]").to_wire(),
            ),
            frameworks=(framework,),
            tasks=brought,
        )
        for effect in master.handle(1.0, events.AgentSubscribed(f"l{number}", message)):
            if isinstance(effect, Save):
                master.handle(1.0, Saved(effect.token))
    return master


def _task(agent: int, place: int) -> Task:
    task_id = TaskID(f"service-{place}.instance-{agent}-{place}")
    port = 31000 + place
    status = TaskStatus(task_id=task_id, state="TASK_RUNNING", timestamp=1.7e9, uuid=b"u" * 16)
    return Task(
        name=f"service-{place}",
        task_id=task_id,
        framework_id=FrameworkID("F"),
        agent_id=AgentID(f"S{agent}"),
        state="TASK_RUNNING",
        resources=text.parse(f"cpus:0.5;mem:128;ports:[{port}-{port}]").allocate("*").to_wire(),
        statuses=(status,),
    )


async def measure(name: str, make: Callable[[], Iterator[bytes]]) -> None:
    """Make one document while somebody else keeps asking for a turn."""
    longest, is_over = 0.0, False

    async def others() -> None:
        nonlocal longest
        while not is_over:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    async def first_chunk() -> float:
        async for _chunk in body.read():
            return time.perf_counter() - started
        raise AssertionError("an empty document")

    watcher = asyncio.create_task(others())
    await asyncio.sleep(0)
    body, started = Body(), time.perf_counter()
    first = asyncio.create_task(first_chunk())
    await body.make(make())
    body.finish()
    took = time.perf_counter() - started
    is_over = True
    await watcher
    size = sum(map(len, body.chunks)) / 1e6
    print(
        f"{name:22} {took * 1e3:8.1f} ms   first chunk {await first * 1e3:7.1f} ms"
        f"   longest block {longest * 1e3:6.1f} ms   {size:6.1f} MB"
    )


async def run(agents: int, tasks: int) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{agents} agents, {tasks} tasks")
    master = cluster(agents, tasks)
    # As the daemon does once it has recovered.
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()
    fragments = Fragments(master)
    head = legacy.state_head(master, None, None, {}, None)

    def greeting(form: v1_documents.Form) -> Iterator[bytes]:
        return v1_documents.subscribed(master, Capture(master), fragments, form, None, 15.0)

    view = permits.view_of(acls.parse(_RULES), "some")
    assert view is not None
    makers: dict[str, Callable[[], Iterator[bytes]]] = {
        "/state": lambda: documents.state(master, fragments, head),
        "/state, restricted": lambda: documents.state(master, fragments, head, view),
        "/state-summary": lambda: documents.state_summary(master, fragments, None),
        "SUBSCRIBED": lambda: greeting(v1_documents.JSON),
        "SUBSCRIBED protobuf": lambda: greeting(v1_documents.PROTOBUF),
        "GET_STATE": lambda: v1_documents.answer("GET_STATE", master, fragments),
        "/tasks": lambda: documents.tasks(
            master, fragments, framework_id=None, task_id=None, limit=100, offset=0, ascending=False
        ),
    }
    for name, make in makers.items():
        await measure(f"{name} first", make)
        for _ in range(3):
            await measure(f"{name} again", make)
    gc.unfreeze()


#: Whoever `some` is sees tasks of one user only.
_RULES = """{"view_tasks": [
    {"principals": {"values": ["some"]}, "users": {"values": ["u"]}},
    {"principals": {"values": ["some"]}, "users": {"type": "NONE"}}]}"""

#: (tasks, path or operator call, milliseconds to stay below, those of the original).
_REQUESTS = (
    (1_000, "/state", 15, "17"),
    (10_000, "/state", 60, "127"),
    (10_000, "GET_STATE", 120, "246"),
    (10_000, "/metrics/snapshot", 5, "481"),
)


async def requests() -> None:
    """Whole answers over loopback: the first, the median and the best of 15 after it."""
    for tasks in sorted({tasks for tasks, *_ in _REQUESTS}):
        async with TestClient(TestServer(app(cluster(tasks // 10, tasks)))) as client:
            for size, what, target, original in _REQUESTS:
                if size != tasks:
                    continue
                took = [await _request(client, what) for _ in range(16)]
                later = sorted(took[1:])
                print(
                    f"{what:18} {tasks:6} tasks: first {took[0]:6.1f} ms, then p50 {later[7]:6.1f}"
                    f" best {later[0]:6.1f} ms   target {target} [original {original}]"
                )


async def _request(client: TestClient[web.Request, web.Application], what: str) -> float:
    started = time.perf_counter()
    headers = {"Accept-Encoding": "identity"}
    if what.startswith("/"):
        answer = await client.get(what, headers=headers)
    else:
        answer = await client.post("/api/v1", json={"type": what}, headers=headers)
    await answer.read()
    assert answer.status == 200, await answer.text()
    return (time.perf_counter() - started) * 1e3


def app(master: Master) -> web.Application:
    """The routes of a master that leads."""
    node, metrics = Node({}, None), Metrics()
    made = make_app(Log(), metrics)
    daemon = Daemon("mesos-master", metrics=metrics)
    node.begin(master)
    node.leader = master.info
    # Read from only, so nothing is fed and no timer needed.
    node.driver = Driver(master, {}, time.monotonic, lambda _at, _do: lambda: None, lambda _: None)
    metrics.source(lambda: figures(master, time.time(), elected=True, per_framework=True))
    bodies = Bodies(daemon.start, daemon.cpu, metrics.counter("shared"))
    streams = EventStreams(node, metrics, daemon.start)
    operator = OperatorApi(node, metrics, bodies, NodeFiles(node, daemon, None), streams)
    doors = SchedulerApi(node), LinkApi(node, 1000)
    Routes(node, metrics, *doors, operator, bodies, Posts(node, operator)).add_to(made)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=50_000)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(options.agents, options.tasks))
        runner.run(requests())


if __name__ == "__main__":
    main()
