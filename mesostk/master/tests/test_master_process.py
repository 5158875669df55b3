"""A real `mesos-master` process, driven by raw HTTP."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args

import aiohttp
import msgspec
import pytest

from mesostk import __version__
from mesostk.ops.zookeeper import Ensemble, free_ports
from mesostk.wire import json, link, operator, protobuf, scheduler
from mesostk.wire.mesos import AgentID, AgentInfo, FrameworkID, FrameworkInfo, TaskID, TaskStatus
from mesostk.wire.recordio import Decoder, encode_record

JSON = {"Content-Type": "application/json"}
FRAMEWORK = {
    "user": "nobody",
    "name": "demo",
    "checkpoint": True,
    "failover_timeout": 60.0,
    "capabilities": [{"type": "PARTITION_AWARE"}],
}


class Process:
    """One master of its own on a free port."""

    def __init__(self, directory: Path, *flags: str) -> None:
        [self.port] = free_ports("127.0.0.1", 1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / f"log-{self.port}"
        with self.log.open("wb") as out:
            self.popen = subprocess.Popen(
                [
                    sys.executable, "-m", "mesostk.master.daemon", "--ip=127.0.0.1",
                    f"--port={self.port}", "--hostname=127.0.0.1", *flags,
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={name: os.environ[name] for name in os.environ if "MESOS" not in name},
            )  # fmt: skip

    async def wait(self, http: aiohttp.ClientSession, **headers: str) -> None:
        """Until it answers as, or with, a leader."""
        asked: dict[str, Any] = {"json": {"type": "GET_HEALTH"}, "headers": headers}
        for _ in range(2400):
            assert self.popen.poll() is None, self.log.read_text()
            try:
                async with http.post(f"{self.url}/api/v1", **asked) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(240)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, f"--work_dir={tmp_path}/work", "--cluster=test")
    yield process
    if process.popen.poll() is None:
        process.end()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
        for response in OPENED:
            response.close()
        OPENED.clear()


#: Streams of the test that runs.
OPENED: list[aiohttp.ClientResponse] = []


class Records:
    """Records of an open answer, one at a time."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        OPENED.append(response)
        self.response = response
        self.id = response.headers.get("Mesos-Stream-Id", "")
        self._decoder = Decoder()
        self._ready: list[bytes] = []

    async def next(self) -> Any:
        while not self._ready:
            chunk = await asyncio.wait_for(self.response.content.readany(), 60)
            assert chunk, "the stream has ended"
            self._ready = self._decoder.feed(chunk)
        return msgspec.json.decode(self._ready.pop(0))

    async def of(self, kind: str) -> Any:
        """The next record of that type; others in between are passed over."""
        for _ in range(100):
            record = await self.next()
            if record["type"] == kind:
                return record
        raise AssertionError(f"no {kind}")

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.response.content.readany(), 60) == b""


async def subscribe(http: aiohttp.ClientSession, url: str, **info: Any) -> Records:
    body: dict[str, Any] = {
        "type": "SUBSCRIBE",
        "subscribe": {"framework_info": FRAMEWORK | info},
    }
    if "id" in info:
        body["framework_id"] = info["id"]
    response = await http.post(f"{url}/api/v1/scheduler", json=body)
    assert response.status == 200, await response.text()
    assert response.headers["Content-Type"] == "application/json"
    return Records(response)


async def join(http: aiohttp.ClientSession, url: str, **more: Any) -> Records:
    """An agent's link."""
    info: dict[str, Any] = {
        "hostname": "a1",
        "port": 5051,
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 4}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 1024}},
        ],
    }
    message = link.Subscribe(
        protocol=link.PROTOCOL,
        version="1",
        ip="127.0.0.1",
        agent_info=msgspec.convert(info | more, AgentInfo),
    )
    body = encode_record(msgspec.json.encode(message))
    response = await http.post(f"{url}/api/link", data=body, headers=JSON)
    assert response.status == 200, await response.text()
    return Records(response)


LAUNCH_ID = {"value": "t1"}


async def test_a_task_from_offer_to_acknowledgement(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    agent = await join(http, master.url)
    registered = await agent.of("REGISTERED")
    framework = await subscribe(http, master.url)
    framework_id = (await framework.next())["subscribed"]["framework_id"]
    assert (await framework.next()) == {"type": "HEARTBEAT"}
    (offer,) = (await framework.of("OFFERS"))["offers"]["offers"]
    assert offer["hostname"] == "a1"
    task = {
        "name": "t",
        "task_id": LAUNCH_ID,
        "agent_id": offer["agent_id"],
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}],
        "command": {"value": "true"},
    }
    operations = [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]
    accept = {
        "type": "ACCEPT",
        "framework_id": framework_id,
        "accept": {"offer_ids": [offer["id"]], "operations": operations},
    }
    headers = JSON | {"Mesos-Stream-Id": framework.id}
    async with http.post(f"{master.url}/api/v1/scheduler", json=accept, headers=headers) as answer:
        assert (answer.status, await answer.text()) == (202, "")
    run = await agent.of("RUN_TASK")
    assert run["task"]["task_id"] == LAUNCH_ID

    update = link.StatusUpdate(
        framework_id=FrameworkID(framework_id["value"]),
        status=TaskStatus(
            task_id=TaskID("t1"), state="TASK_FINISHED", source="SOURCE_AGENT", uuid=b"x" * 16
        ),
        latest_state="TASK_FINISHED",
    )
    up = encode_record(msgspec.json.encode(link.StatusUpdates(updates=(update,))))
    async with http.post(
        f"{master.url}/api/link", data=up, headers=JSON | {"Mesos-Stream-Id": agent.id}
    ) as answer:
        assert answer.status == 202
    status = (await framework.of("UPDATE"))["update"]["status"]
    assert (status["state"], status["agent_id"]) == ("TASK_FINISHED", registered["agent_id"])
    acknowledge = {
        "type": "ACKNOWLEDGE",
        "framework_id": framework_id,
        "acknowledge": {
            "agent_id": status["agent_id"],
            "task_id": LAUNCH_ID,
            "uuid": status["uuid"],
        },
    }
    async with http.post(
        f"{master.url}/api/v1/scheduler", json=acknowledge, headers=headers
    ) as answer:
        assert answer.status == 202
    assert (await agent.of("ACK"))["uuid"] == status["uuid"]
    async with http.get(f"{master.url}/state") as answer:
        state = await answer.json()
    (shown,) = state["frameworks"]
    assert [item["state"] for item in shown["completed_tasks"]] == ["TASK_FINISHED"]
    assert state["slaves"][0]["resources"] == {"cpus": 4.0, "gpus": 0.0, "mem": 1024.0, "disk": 0.0}


BAD = [
    # (path, method, headers, body, status, text) — spec/mesos.md §2.1, §4.1, §15.2
    ("/api/v1/scheduler", "GET", {}, "", 405,
     "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."),
    ("/api/v1", "PUT", {}, "", 405,
     "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'PUT'."),
    ("/api/v1", "POST", {"Content-Type": "text/plain"}, "{}", 415,
     "Expecting 'Content-Type' of application/json or application/x-protobuf"),
    ("/api/v1", "POST", JSON, "{", 400, "Failed to parse body into JSON: syntax error"),
    ("/api/v1", "POST", JSON, '{"type":7}', 400, "Failed to convert JSON into Call protobuf: "),
    ("/api/v1", "POST", JSON, "{}", 400,
     "Failed to validate master::Call: Expecting 'type' to be present"),
    ("/api/v1", "POST", JSON, '{"type":"NONSENSE"}', 400,
     "Failed to validate master::Call: Expecting 'type' to be present"),
    ("/api/v1", "POST", JSON, '{"type":"TEARDOWN"}', 400,
     "Failed to validate master::Call: Expecting 'teardown' to be present"),
    ("/api/v1", "POST", JSON, '{"type":"UNKNOWN"}', 501, "501 Not Implemented."),
    ("/api/v1", "POST", JSON | {"Accept": "text/html"}, '{"type":"GET_STATE"}', 406,
     "Expecting 'Accept' to allow 'application/json' or 'application/x-protobuf'"),
    ("/api/v1", "POST", JSON,
     '{"type":"MARK_AGENT_GONE","mark_agent_gone":{"agent_id":{"value":"x"}}}', 404,
     "Agent 'x' not found"),
    ("/api/v1/scheduler", "POST", JSON, "{}", 400,
     "Failed to validate scheduler::Call: Expecting 'type' to be present"),
    ("/api/v1/scheduler", "POST", JSON, '{"type":"ACCEPT"}', 400,
     "Failed to validate scheduler::Call: Expecting 'accept' to be present"),
    ("/api/v1/scheduler", "POST", JSON, '{"type":"TEARDOWN"}', 400,
     "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"),
    ("/api/v1/scheduler", "POST", JSON, '{"type":"TEARDOWN","framework_id":{"value":"f"}}', 400,
     "Framework cannot be found"),
    ("/api/v1/scheduler", "POST", JSON | {"Mesos-Stream-Id": "x"},
     '{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}', 400,
     "Subscribe calls should not include the 'Mesos-Stream-Id' header"),
    ("/api/v1/scheduler", "POST", JSON | {"Accept": "text/html"},
     '{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}', 406,
     "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"),
    ("/api/v1/scheduler", "POST", JSON,
     '{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u"}}}', 400,
     "Failed to convert JSON into Call protobuf: Missing required fields: "),
    ("/api/link", "POST", JSON, "nonsense", 400, "RecordIO: expected a decimal length"),
    ("/api/link", "POST", JSON, "2\n{", 400, "The body ends within a record"),
    ("/api/link", "POST", JSON | {"Mesos-Stream-Id": "x"}, '15\n{"type":"PONG"}', 403,
     "No link is open"),
    ("/teardown", "POST", {}, "", 400,
     "Missing 'frameworkId' query parameter in the request body"),
    ("/teardown", "POST", {}, "frameworkId=x", 400, "No framework found with specified ID"),
    ("/tasks?limit=x", "GET", {}, "", 400, "Query parameter 'limit' must be a number"),
    ("/nothing/here", "GET", {}, "", 404, "404 Not Found."),
    ("/state?jsonp=a(b", "GET", {}, "", 400, "Query parameter 'jsonp' must be the name"),
]  # fmt: skip


async def test_bad_calls_get_their_status_and_text(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    for path, method, headers, body, status, text in BAD:
        async with http.request(
            method, master.url + path, headers=headers, data=body.encode()
        ) as answer:
            said = await answer.text()
            assert (answer.status, said[: len(text)]) == (status, text), (path, body, said)
    async with http.post(
        f"{master.url}/api/v1", data=b"{}", skip_auto_headers=["Content-Type"]
    ) as (answer):
        assert (answer.status, await answer.text()) == (
            400,
            "Expecting 'Content-Type' to be present",
        )


async def test_calls_of_a_framework_need_its_stream(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    stream = await subscribe(http, master.url)
    framework_id = (await stream.next())["subscribed"]["framework_id"]
    revive = {"type": "REVIVE", "framework_id": framework_id}
    url = f"{master.url}/api/v1/scheduler"
    async with http.post(url, json=revive) as answer:
        assert answer.status == 400
        assert "Mesos-Stream-Id" in await answer.text()
    async with http.post(url, json=revive, headers={"Mesos-Stream-Id": "x"}) as answer:
        assert answer.status == 400
        assert (await answer.text()).startswith("The stream ID 'x' included in this request")
    async with http.post(url, json=revive, headers={"Mesos-Stream-Id": stream.id}) as answer:
        assert (answer.status, await answer.text()) == (202, "")
    second = await subscribe(http, master.url, id=framework_id)
    error = await stream.of("ERROR")
    assert error["error"]["message"] == "Framework failed over"
    assert await stream.ended()
    second.response.close()
    for _ in range(2400):
        async with http.post(url, json=revive, headers={"Mesos-Stream-Id": second.id}) as answer:
            if answer.status == 403:
                assert await answer.text() == "Framework is not subscribed"
                return
        await asyncio.sleep(0.02)
    raise AssertionError("the closed stream was never noticed")


async def test_a_refused_subscription_is_an_error_on_a_200_stream(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    stream = await subscribe(http, master.url, role="a//b")
    assert (await stream.next())["type"] == "ERROR"
    assert await stream.ended()


async def test_quota_and_maintenance_are_empty_at_first(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    for path in ("/quota", "/master/maintenance/schedule", "/maintenance/status"):
        async with http.get(master.url + path) as answer:
            assert (answer.status, await answer.json()) == (200, {})
    expected: dict[str, Any] = {
        "GET_QUOTA": {"status": {}},
        "GET_MAINTENANCE_SCHEDULE": {"schedule": {}},
        "GET_MAINTENANCE_STATUS": {"status": {}},
    }
    for kind, body in expected.items():
        async with http.post(f"{master.url}/api/v1", json={"type": kind}) as answer:
            assert await answer.json() == {"type": kind, kind.lower(): body}


async def test_maintenance_is_posted_and_got(master: Process, http: aiohttp.ClientSession) -> None:
    await master.wait(http)
    url = master.url
    machine = {"hostname": "a1", "ip": "10.0.0.1"}
    window = {"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 5}}}
    async with http.post(f"{url}/maintenance/schedule", json={"windows": [window]}) as answer:
        assert (answer.status, await answer.text()) == (200, "")
    async with http.get(f"{url}/maintenance/schedule") as answer:
        assert await answer.json() == {"windows": [window]}
    async with http.post(f"{url}/machine/down", json=[machine]) as answer:
        assert answer.status == 200
    async with http.get(f"{url}/maintenance/status") as answer:
        assert await answer.json() == {"down_machines": [machine]}
    async with http.post(f"{url}/api/v1", json={"type": "GET_MAINTENANCE_STATUS"}) as answer:
        body = (await answer.json())["get_maintenance_status"]
        assert body == {"status": {"down_machines": [machine]}}
    for body, status in ([machine], 200), ([machine], 400), ([], 400):
        async with http.post(f"{url}/machine/up", json=body) as answer:
            assert answer.status == status
    async with http.post(f"{url}/machine/down", data="[") as answer:
        assert answer.status == 400
    async with http.put(f"{url}/maintenance/schedule", json={}) as answer:
        assert answer.status == 405


async def test_quota_is_posted_got_and_deleted(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    url = f"{master.url}/quota"
    guarantee = [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 2.0}}]
    body = {"role": "web", "guarantee": guarantee}
    async with http.post(url, json=body) as answer:
        assert answer.status == 409
        assert "overcommit the cluster (use 'force'" in await answer.text()
    async with http.post(url, json={**body, "force": True}) as answer:
        assert (answer.status, await answer.text()) == (200, "")
    async with http.get(url) as answer:
        shown = await answer.json()
    amounts = {"cpus": {"value": 2.0}}
    assert shown["configs"] == [{"role": "web", "guarantees": amounts, "limits": amounts}]
    assert [item["role"] for item in shown["infos"]] == ["web"]
    for path, status in (("/web", 200), ("/web", 400), ("", 400)):
        async with http.delete(url + path) as answer:
            assert answer.status == status
    async with http.post(url, data="{") as answer:
        assert (await answer.text()).startswith("Failed to parse set quota request JSON '{': ")
    async with http.put(url, json=body) as answer:
        assert answer.status == 405


async def test_the_log_and_its_level_are_shown_by_both_interfaces(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    log = tmp_path / "master.log"
    log.write_text("one line\n")
    process = Process(tmp_path, f"--work_dir={tmp_path}/w", f"--external_log_file={log}")
    url = process.url

    async def call(kind: str, **body: Any) -> tuple[int, Any]:
        sent = {"type": kind, **({kind.lower(): body} if body else {})}
        async with http.post(f"{url}/api/v1", json=sent) as answer:
            text = await answer.text()
            return answer.status, msgspec.json.decode(text) if text.startswith("{") else text

    try:
        await process.wait(http)
        _, body = await call("READ_FILE", path="/master/log", offset=4, length=4)
        assert body["read_file"] == {"size": 9, "data": base64.b64encode(b"line").decode()}
        assert (await call("READ_FILE", path="/etc/passwd", offset=0))[0] == 404
        assert (await call("LIST_FILES", path="/master/log"))[0] == 400
        async with http.get(f"{url}/files/read?path=/master/log&offset=0") as answer:
            assert await answer.json() == {"offset": 0, "data": "one line\n"}
        async with http.get(f"{url}/files/download?path=/master/log") as answer:
            assert await answer.text() == "one line\n"
        async with http.get(f"{url}/files/debug") as answer:
            assert await answer.json() == {"/master/log": str(log)}
        _, body = await call("GET_LOGGING_LEVEL")
        assert body["get_logging_level"] == {"level": 0}
        duration = {"nanoseconds": 10**12}
        assert (await call("SET_LOGGING_LEVEL", level=1, duration=duration))[0] == 200
        async with http.get(f"{url}/logging/toggle") as answer:
            assert await answer.text() == "1\n"
        async with http.post(f"{url}/logging/toggle?level=0&duration=1secs") as answer:
            assert answer.status == 200
        assert (await call("GET_LOGGING_LEVEL"))[1]["get_logging_level"] == {"level": 0}
        wrong = ("level=0", "duration=1secs", "level=x&duration=1secs", "level=0&duration=x")
        for query in (*wrong, f"level={'9' * 5000}&duration=1secs"):
            async with http.get(f"{url}/logging/toggle?{query}") as answer:
                assert answer.status == 400, query
        assert (await call("SET_LOGGING_LEVEL", level=-1, duration=duration))[0] == 400
    finally:
        process.end()


async def test_weights_are_put_and_got(master: Process, http: aiohttp.ClientSession) -> None:
    await master.wait(http)
    url = f"{master.url}/weights"
    async with http.put(url, json=[{"role": "web", "weight": 2.5}]) as answer:
        assert answer.status == 200
    async with http.get(url) as answer:
        assert await answer.json() == [{"role": "web", "weight": 2.5}]
    for body, text in (
        ('[{"role":"web","weight":0}]', "Weights must be positive"),
        ('{"role":"web"}', "Failed to parse update weights request JSON"),
    ):
        async with http.put(url, data=body) as answer:
            assert answer.status == 400
            assert text in await answer.text()
    async with http.post(url) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, PUT")


async def test_a_scheduler_may_speak_protobuf_in_one_direction_or_both(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    agent = await join(http, master.url)
    await agent.of("REGISTERED")
    url, kind = f"{master.url}/api/v1/scheduler", "application/x-protobuf"
    info = FrameworkInfo(user="nobody", name="binary", failover_timeout=60.0)
    call = scheduler.Call(type="SUBSCRIBE", subscribe=scheduler.Subscribe(framework_info=info))
    body, headers = protobuf.encode(call), {"Content-Type": kind, "Accept": kind}
    async with http.post(url, data=body, headers={"Content-Type": kind}) as answer:
        # Without Accept JSON wins.
        assert answer.content_type == "application/json"
    async with http.post(url, data=b"\xff", headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.text()).startswith("Failed to parse body into Call protobuf: ")
    stream = await http.post(url, data=body, headers=headers)
    assert (stream.status, stream.content_type) == (200, kind)
    OPENED.append(stream)
    decoder = Decoder()
    events: list[scheduler.Event] = []
    while not any(event.type == "OFFERS" for event in events):
        chunk = await asyncio.wait_for(stream.content.readany(), 60)
        records = decoder.feed(chunk)
        events += [protobuf.decode(record, scheduler.Event) for record in records]
    greeting = events[0].subscribed
    assert greeting is not None
    assert greeting.master_info is not None
    assert greeting.master_info.port == master.port
    headers = {"Content-Type": kind, "Mesos-Stream-Id": stream.headers["Mesos-Stream-Id"]}
    decline = scheduler.Call(type="SUPPRESS", framework_id=greeting.framework_id)
    async with http.post(url, data=protobuf.encode(decline), headers=headers) as answer:
        assert answer.status == 202
    said = json.encode(decline)
    async with http.post(url, data=said, headers={**headers, **JSON}) as answer:
        assert answer.status == 202


async def test_the_operator_api_says_the_same_in_json_and_protobuf(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    agent = await join(http, master.url)
    await agent.of("REGISTERED")
    framework = await subscribe(http, master.url)
    await framework.of("OFFERS")
    url, kinds = f"{master.url}/api/v1", ("application/json", "application/x-protobuf")

    async def ask(call: operator.Call, asked: str, wanted: str) -> operator.Response:
        encode = json.encode if asked == kinds[0] else protobuf.encode
        headers = {"Content-Type": asked, "Accept": wanted}
        async with http.post(url, data=encode(call), headers=headers) as answer:
            raw = await answer.read()
            assert (answer.status, answer.content_type) == (200, wanted), (call.type, raw)
            if wanted == kinds[0]:
                return json.decode(raw, operator.Response)
            return protobuf.decode(raw, operator.Response)

    for kind in sorted(set(get_args(operator.ResponseType)) - {"UNKNOWN", "GET_METRICS"}):
        call = operator.Call(type=kind)
        if kind in {"LIST_FILES", "READ_FILE"}:
            continue
        asked = await ask(call, kinds[1], kinds[0])
        assert asked == await ask(call, kinds[0], kinds[1]) == await ask(call, kinds[1], kinds[1])
    body = operator.GetMetrics()
    names = []
    for kind in kinds:
        figures = await ask(operator.Call(type="GET_METRICS", get_metrics=body), kind, kind)
        assert figures.get_metrics is not None
        names.append({item.name for item in figures.get_metrics.metrics})
    assert names[0] == names[1]
    gone = operator.Call(
        type="MARK_AGENT_GONE", mark_agent_gone=operator.AgentRef(agent_id=AgentID("x"))
    )
    binary = {"Content-Type": kinds[1], "Accept": kinds[1]}
    async with http.post(url, data=protobuf.encode(gone), headers=binary) as answer:
        assert (answer.status, await answer.text()) == (404, "Agent 'x' not found")
    call = operator.Call(type="SUBSCRIBE")
    stream = await http.post(url, data=protobuf.encode(call), headers=binary)
    assert (stream.status, stream.content_type) == (200, kinds[1])
    OPENED.append(stream)
    decoder = Decoder()
    events: list[operator.Event] = []
    second = await subscribe(http, master.url)
    await second.next()
    while not events or events[-1].type != "FRAMEWORK_ADDED":
        chunk = await asyncio.wait_for(stream.content.readany(), 60)
        events += [protobuf.decode(record, operator.Event) for record in decoder.feed(chunk)]
    told = [event.type for event in events]
    assert list(dict.fromkeys(told)) == ["SUBSCRIBED", "HEARTBEAT", "FRAMEWORK_ADDED"]
    assert events[0].subscribed is not None
    state = (await ask(operator.Call(type="GET_STATE"), kinds[0], kinds[0])).get_state
    assert state is not None
    assert events[0].subscribed.get_state is not None
    assert events[0].subscribed.get_state.get_agents == state.get_agents


async def test_legacy_documents_and_their_aliases(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    agent = await join(http, master.url)
    await agent.of("REGISTERED")
    framework = await subscribe(http, master.url)
    await framework.of("OFFERS")
    documents = {
        "state": {"slaves", "frameworks", "orphan_tasks", "unregistered_frameworks", "cluster"},
        "state-summary": {"hostname", "slaves", "frameworks", "cluster"},
        "slaves": {"slaves", "recovered_slaves"},
        "frameworks": {"frameworks", "completed_frameworks", "unregistered_frameworks"},
        "tasks": {"tasks"},
        "roles": {"roles"},
        "flags": {"flags"},
        "version": {"version", "build_date", "build_time", "build_user", "git_tag"},
        "metrics/snapshot": {
            "master/elected",
            "master/slaves_active",
            "system/cpus_total",
            "system/load_1min",
            "system/mem_free_bytes",
            "registrar/queued_operations",
            "registrar/state_fetch_ms",
            "registrar/state_store_ms",
            "registrar/state_store_ms/p99",
            "master/http_cache_hits",
        },
    }
    for name, keys in documents.items():
        for path in (f"/{name}", f"/master/{name}", f"/{name}.json", f"/{name}/"):
            async with http.get(master.url + path) as answer:
                assert answer.status == 200, path
                assert keys <= set(await answer.json()), path
    async with http.get(f"{master.url}/state?jsonp=go") as answer:
        assert answer.content_type == "text/javascript"
        assert (await answer.text()).startswith('go({"version"')
    async with http.get(f"{master.url}/tasks?limit=-1") as answer:
        # Clients of the original ask so for all.
        assert (answer.status, await answer.json()) == (200, {"tasks": []})
    async with http.get(f"{master.url}/version") as answer:
        told = await answer.json()
    # Clients choose by it what they ask for; our own release is told beside it.
    assert (told["version"], told["git_tag"]) == ("1.11.0", f"mesostk-{__version__}")
    async with http.get(f"{master.url}/redirect", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (307, f"//127.0.0.1:{master.port}")
    async with http.get(f"{master.url}/metrics/snapshot") as answer:
        figures = await answer.json()
    assert figures["master/slaves_active"] == 1
    assert figures["master/cpus_total"] == 4
    assert figures["master/outstanding_offers"] == 1


async def test_reading_calls_of_the_operator_api(
    master: Process, http: aiohttp.ClientSession
) -> None:
    await master.wait(http)
    for name in ("HEALTH", "FLAGS", "VERSION", "STATE", "AGENTS", "FRAMEWORKS", "EXECUTORS",
                 "OPERATIONS", "TASKS", "ROLES", "WEIGHTS", "MASTER"):  # fmt: skip
        async with http.post(f"{master.url}/api/v1", json={"type": f"GET_{name}"}) as answer:
            assert answer.status == 200
            body = await answer.json()
            assert body["type"] == f"GET_{name}"
            assert f"get_{name.lower()}" in body


async def test_a_restarted_master_knows_its_agents_and_a_taken_work_dir_is_refused(
    master: Process, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await master.wait(http)
    agent = await join(http, master.url)
    registered = await agent.of("REGISTERED")
    second = Process(tmp_path, f"--work_dir={tmp_path}/work")
    assert second.popen.wait(240) != 0
    assert "is in use by the process" in second.log.read_text()
    master.end(signal.SIGKILL)
    third = Process(tmp_path, f"--work_dir={tmp_path}/work")
    try:
        await third.wait(http)
        async with http.get(f"{third.url}/slaves") as answer:
            known = (await answer.json())["recovered_slaves"]
        assert [item["id"] for item in known] == [registered["agent_id"]["value"]]
        again = await join(http, third.url, id=registered["agent_id"])
        back = await again.of("REGISTERED")
        assert back["epoch"]["counter"] == registered["epoch"]["counter"] + 1
        assert back["epoch"]["cluster_id"] == registered["epoch"]["cluster_id"]
    finally:
        third.end()


def basic(principal: str, secret: str) -> dict[str, str]:
    coded = base64.b64encode(f"{principal}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {coded}"}


async def test_realms_ask_for_their_principals(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    secrets = tmp_path / "credentials"
    secrets.write_text('{"credentials":[{"principal":"ops","secret":"s3cret"}]}')
    process = Process(
        tmp_path, f"--work_dir={tmp_path}/work", f"--credentials=file://{secrets}",
        "--authenticate_http_readonly", "--authenticate_http_readwrite",
        "--authenticate_frameworks", "--authenticate_agents",
        '--firewall_rules={"disabled_endpoints":{"paths":["/master/slaves.json"]}}',
    )  # fmt: skip
    ops, wrong = basic("ops", "s3cret"), basic("ops", "S3cret")
    url = process.url
    try:
        await process.wait(http, **ops)
        for path in ("/health", "/version", "/"):
            async with http.get(url + path) as answer:
                assert answer.status == 200, path
        realms = {
            "/state": "readonly", "/master/tasks.json": "readonly", "/metrics": "readonly",
            "/flags/": "readonly", "/api/v1": "readwrite", "/master/teardown": "readwrite",
            "/api/v1/scheduler": "scheduler", "/quota/web": "readwrite", "/reserve": "readwrite",
            "/machine/down": "readwrite", "/master/create-volumes": "readwrite",
            "/maintenance/schedule": "readwrite", "/maintenance/status": "readonly",
            "/no/such/path": "readwrite", "/api/link": "agent", "/state/below": "readonly",
            "/master/teardown/below": "readwrite", "/api/v1/scheduler/below": "scheduler",
        }  # fmt: skip
        for path, realm in realms.items():
            for auth in ({}, wrong):
                call = {"type": "GET_HEALTH"}
                async with http.post(url + path, headers=auth, json=call) as answer:
                    assert answer.status == 401, path
                    told = answer.headers["WWW-Authenticate"]
                    assert told == f'Basic realm="mesos-master-{realm}"'
        async with http.post(f"{url}/api/v1", headers=ops, json={"type": "GET_HEALTH"}) as answer:
            assert answer.status == 200
        for path in ("/slaves", "/master/slaves", "/slaves.json", "/slaves/below"):
            async with http.get(url + path, headers=ops) as answer:
                assert answer.status == 403, path
                assert await answer.text() == f"Endpoint '{path}' is disabled"
        async with http.get(f"{url}/flags", headers=ops) as answer:
            assert "s3cret" not in await answer.text()
        body: dict[str, Any] = {"type": "SUBSCRIBE", "subscribe": {"framework_info": FRAMEWORK}}
        stream = Records(await http.post(f"{url}/api/v1/scheduler", headers=ops, json=body))
        assert (await stream.next())["type"] == "SUBSCRIBED"
        async with http.get(f"{url}/frameworks", headers=ops) as answer:
            [framework] = (await answer.json())["frameworks"]
        assert framework["principal"] == "ops"
        body["subscribe"]["framework_info"] = FRAMEWORK | {"principal": "another"}
        async with http.post(f"{url}/api/v1/scheduler", headers=ops, json=body) as answer:
            assert answer.status == 400
            assert "does not match principal 'another'" in await answer.text()
    finally:
        process.end()


def test_flags_that_cannot_protect_as_they_should_are_refused(tmp_path: Path) -> None:
    refused = (
        ("--authenticate_agents", "needs --credentials=file:///path"),
        ("--acls={}x", "--acls"),
        ('--acls={"run": []}', "'run' is no action"),
        ("--firewall_rules=[]", "--firewall_rules"),
        ("--quorum=x", "--quorum"),
        ("--authenticate_http_readonly", "needs --credentials=file:///path"),
        ("--nonsense=1", "no flag is called 'nonsense'"),
        ("--zk=nohost", "expected a URL like zk://"),
    )
    started = [
        (Process(tmp_path, f"--work_dir={tmp_path}/work{number}", flag), text)
        for number, (flag, text) in enumerate(refused)
    ]
    for process, text in started:
        assert process.popen.wait(240) in {1, 2}
        assert text in process.log.read_text()


@pytest.mark.zookeeper
async def test_followers_redirect_and_take_over_with_a_higher_epoch(
    zookeeper: Ensemble, zk_path: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    zk = f"--zk=zk://{zookeeper.hosts}{zk_path}"
    first = Process(tmp_path, zk, "--quorum=1", "--zk_session_timeout=20secs")
    second: Process | None = None
    try:
        await first.wait(http)
        second = Process(tmp_path, zk, "--quorum=1", "--zk_session_timeout=20secs")
        agent = await join(http, first.url)
        registered = await agent.of("REGISTERED")
        for _ in range(2400):
            try:
                async with http.get(f"{second.url}/state?x=1", allow_redirects=False) as answer:
                    if answer.status == 307:
                        break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
        assert answer.headers["Location"] == f"//127.0.0.1:{first.port}/master/state?x=1"
        assert first.end() == 0
        await second.wait(http)
        again = await join(http, second.url, id=registered["agent_id"])
        back = await again.of("REGISTERED")
        assert back["epoch"]["counter"] == registered["epoch"]["counter"] + 1
    finally:
        for process in (first, second):
            if process is not None and process.popen.poll() is None:
                process.end()
