"""The large documents: put together right, shared, and sent as they are made."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from mesostk.base.daemon import Daemon
from mesostk.master import documents, legacy, v1_documents
from mesostk.master.bodies import CHUNK_BYTES, Bodies
from mesostk.master.fragments import CHUNK, Fragments

Client = TestClient[web.Request, Any]


def read(pieces: Iterator[bytes]) -> Any:
    return msgspec.json.decode(b"".join(pieces))


def state_of(bench: Any, fragments: Fragments) -> Any:
    head = legacy.state_head(bench.master, None, None, {}, None)
    return read(documents.state(bench.master, fragments, head))


def test_documents_of_a_master_that_knows_nobody(bench: Any) -> None:
    fragments = Fragments(bench.master)
    state = state_of(bench, fragments)
    lists = ("slaves", "recovered_slaves", "frameworks", "completed_frameworks", "orphan_tasks")
    assert [state[name] for name in lists] == [[]] * 5
    assert read(documents.tasks(bench.master, fragments, framework_id=None, task_id=None,
                                limit=5, offset=0, ascending=True)) == {"tasks": []}  # fmt: skip
    assert read(v1_documents.answer("GET_STATE", bench.master, fragments)) == {
        "type": "GET_STATE",
        "get_state": {"get_tasks": {}, "get_executors": {}, "get_frameworks": {}, "get_agents": {}},
    }


def test_a_fragment_is_made_anew_when_its_entity_changes(bench: Any) -> None:
    wire, _agent_id, _stream, framework_id = bench.running()
    fragments = Fragments(bench.master)
    before = state_of(bench, fragments)
    assert before["frameworks"][0]["tasks"][0]["state"] == "TASK_RUNNING"
    assert before["frameworks"][0]["used_resources"]["cpus"] == 1.0
    assert before["slaves"][0]["used_resources"]["cpus"] == 1.0
    assert state_of(bench, fragments) == before
    bench.update(wire, framework_id, "t1", "TASK_FINISHED", uuid=b"v" * 16)
    after = state_of(bench, fragments)
    assert after["frameworks"][0]["tasks"][0]["state"] == "TASK_FINISHED"
    assert after["frameworks"][0]["used_resources"]["cpus"] == 0
    assert after["slaves"][0]["used_resources"]["cpus"] == 0


def test_tasks_are_ordered_over_all_runs_and_cut_out(bench: Any) -> None:
    _wire, agent_id = bench.agent(resources="cpus:400;mem:90000;disk:1000")
    stream, framework_id = bench.framework()
    count = 2 * CHUNK + 3
    tasks = [bench.task(f"t{n:03}", agent_id, "cpus:1;mem:8") for n in range(count)]
    bench.accept(framework_id, bench.offers(stream), *tasks)
    fragments = Fragments(bench.master)

    def ids(limit: int, offset: int, *, ascending: bool) -> list[str]:
        found = read(documents.tasks(bench.master, fragments, framework_id=framework_id,
                                     task_id=None, limit=limit, offset=offset,
                                     ascending=ascending))  # fmt: skip
        return [task["id"] for task in found["tasks"]]

    every = [f"t{n:03}" for n in range(count)]
    assert ids(1000, 0, ascending=True) == every
    assert ids(1000, 0, ascending=False) == every[::-1]
    assert ids(30, 20, ascending=True) == every[20:50]
    summary = read(documents.state_summary(bench.master, fragments, None))
    assert summary["slaves"][0]["TASK_STAGING"] == count
    assert summary["frameworks"][0]["TASK_STAGING"] == count
    assert summary["frameworks"][0]["slave_ids"] == [agent_id]


async def served(made: list[str], pieces: Any) -> Client:
    """A server with one document, `pieces()`; each making of it is noted in `made`."""
    daemon = Daemon("test")
    bodies = Bodies(daemon.start, daemon.cpu, daemon.metrics.counter("shared"))

    def make() -> Iterator[bytes]:
        made.append("made")
        yield from pieces()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await bodies.answer(request, "document", make)

    app = web.Application()
    app.router.add_get("/", handle)
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


async def test_a_large_document_arrives_whole_with_and_without_gzip_and_jsonp() -> None:
    text = b"0123456789abcdef" * 64
    count = 3 * CHUNK_BYTES // len(text)

    def pieces() -> Iterator[bytes]:
        yield b'"'
        yield from [text] * count
        yield b'"'

    client = await served([], pieces)
    whole = b'"' + text * count + b'"'
    plain = await client.get("/", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert await plain.read() == whole
    raw: Client = TestClient(client.server, auto_decompress=False)
    squeezed = await raw.get("/", headers={"Accept-Encoding": "gzip"})
    assert squeezed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(await squeezed.read()) == whole
    wrapped = await client.get("/?jsonp=go")
    assert await wrapped.read() == b"go(" + whole + b")"
    await raw.close()
    await client.close()


async def test_who_asks_before_a_document_begins_shares_it_and_later_ones_do_not() -> None:
    made: list[str] = []
    client = await served(made, lambda: iter((b"{}",)))
    answers = await asyncio.gather(*(client.get("/") for _ in range(8)))
    assert [await answer.json() for answer in answers] == [{}] * 8
    assert len(made) < 8
    before = len(made)
    assert await (await client.get("/")).json() == {}
    assert len(made) == before + 1
    await client.close()


async def test_a_document_that_cannot_be_made_fails_its_askers_only() -> None:
    fail = True

    def pieces() -> Iterator[bytes]:
        yield b"{}"
        if fail:
            raise ZeroDivisionError("broken")

    client = await served([], pieces)
    assert (await client.get("/")).status == 500
    fail = False
    assert await (await client.get("/")).json() == {}
    await client.close()
