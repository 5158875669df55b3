"""The real agent as a process, against a master of a few lines that speaks the link."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from mesostk.agent.tests.agent_bench import AGENT, EPOCH, framework, task
from mesostk.testing.disks import small_disk
from mesostk.testing.requirements import require_root
from mesostk.wire import json
from mesostk.wire.link import (
    STREAM_ID_HEADER,
    Acknowledge,
    Down,
    Heartbeat,
    Kill,
    Registered,
    RunTask,
    StatusUpdate,
    StatusUpdates,
    Subscribe,
    Unregister,
    UpMessage,
)
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    CommandInfo,
    CommandURI,
    FrameworkID,
    HealthCheck,
    TaskID,
    TaskInfo,
)
from mesostk.wire.recordio import Decoder, encode_record

#: For what a busy machine does in seconds: only what hangs takes longer.
TIMEOUT_S = 180.0


class ScriptedMaster:
    """Registers whoever comes, acknowledges what it hears, and keeps it."""

    def __init__(self) -> None:
        self.subscriptions: list[Subscribe] = []
        self.heard: list[tuple[float, StatusUpdate]] = []
        self.changed = asyncio.Condition()
        self.stream: web.StreamResponse | None = None
        self.acknowledges = True
        self.unregistered = 0
        self.link: asyncio.Task[None] | None = None
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/api/link", self._link)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "{}:{}".format(*runner.addresses[0])
        return runner

    async def _link(self, request: web.Request) -> web.StreamResponse:
        records = Decoder().feed(await request.read())
        messages = [json.decode(record, UpMessage) for record in records]
        if STREAM_ID_HEADER in request.headers:
            await self._hear(messages)
            return web.Response(status=202)
        assert isinstance(messages[0], Subscribe)
        stream = web.StreamResponse(headers={STREAM_ID_HEADER: "s1"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        self.stream = stream
        await self.send(
            Registered(agent_id=AGENT, epoch=EPOCH, heartbeat_s=15, ping_timeout_s=75, protocol=1)
        )
        async with self.changed:
            self.subscriptions.append(messages[0])
            self.changed.notify_all()
        self.link = asyncio.ensure_future(self._beat(request))
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self.link
        return stream

    async def _beat(self, request: web.Request) -> None:
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(1)
            await self.send(Heartbeat())

    async def _hear(self, messages: list[Any]) -> None:
        now = time.monotonic()
        if Unregister() in messages:
            self.unregistered += 1
            assert self.link is not None
            self.link.cancel()
        updates = [u for m in messages if isinstance(m, StatusUpdates) for u in m.updates]
        async with self.changed:
            self.heard += [(now, update) for update in updates]
            self.changed.notify_all()
        for update in updates:
            if self.acknowledges:
                await self.acknowledge(update)

    async def acknowledge(self, update: StatusUpdate) -> None:
        assert update.status.uuid is not None
        await self.send(
            Acknowledge(
                framework_id=update.framework_id,
                task_id=update.status.task_id,
                uuid=update.status.uuid,
            )
        )

    async def send(self, message: Down) -> None:
        assert self.stream is not None
        await self.stream.write(encode_record(json.encode(message)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S), self.changed:
            await self.changed.wait_for(condition)

    async def until_true(self, condition: Callable[[], bool]) -> None:
        """Wait for what no message tells."""
        await _until(condition)

    def of(self, task_id: str) -> list[StatusUpdate]:
        """The task's updates, each once: one whose acknowledgement was lost is told again."""
        told = (u for _, u in self.heard if u.status.task_id.value == task_id)
        return list({u.status.uuid: u for u in told}.values())

    def states(self, task_id: str) -> list[str]:
        return [u.status.state for u in self.of(task_id)]

    async def until_state(self, task_id: str, state: str) -> StatusUpdate:
        await self.until(lambda: state in self.states(task_id))
        return next(u for u in self.of(task_id) if u.status.state == state)

    async def until_ended(self, task_id: str) -> StatusUpdate:
        await self.until(lambda: any(s in TERMINAL_STATES for s in self.states(task_id)))
        return self.of(task_id)[-1]

    async def launch(self, info: TaskInfo) -> None:
        await self.send(RunTask(framework=framework(), task=info))


class AgentProcess:
    """`mesos-agent` on a directory of its own."""

    def __init__(self, work_dir: Path, master: str, *flags: str) -> None:
        self.work_dir = work_dir
        self.port = _free_port()
        given = {flag.partition("=")[0] for flag in flags}
        usual = [
            f"--work_dir={work_dir}",
            f"--runtime_dir={work_dir}/run",
            f"--master={master}",
            "--ip=127.0.0.1",
            "--hostname=agent.test",
            f"--port={self.port}",
            "--launcher=posix",
            "--resources=cpus:64;mem:4096;disk:1024;ports:[31000-32000]",
            "--registration_backoff_factor=10ms",
            "--no-switch_user",
        ]
        self.arguments = [*(f for f in usual if f.partition("=")[0] not in given), *flags]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.log = (self.work_dir.parent / "agent.log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from mesostk.agent.daemon import main; main()",
            *self.arguments,
            stdout=self.log,
            stderr=self.log,
            env={"PATH": os.environ["PATH"]},
        )

    async def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(TIMEOUT_S):
            status = await self.process.wait()
        self.log.close()
        return status

    async def get(self, url_path: str, /, **query: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.port}{url_path}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, params=query) as answer,
        ):
            return answer.status, await answer.read()

    async def post(self, url_path: str, body: Any) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}{url_path}"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            text = await answer.text()
            return answer.status, json.decode(text, dict) if answer.status == 200 else text

    async def call(self, body: dict[str, Any]) -> Any:
        status, answer = await self.post("/api/v1", body)
        assert status == 200, answer
        return answer

    async def json(self, url_path: str, /, **query: str) -> Any:
        status, body = await self.get(url_path, **query)
        assert status == 200, body
        return json.decode(body, dict | list)


def _free_port() -> int:
    # From a range that tests of this machine's other daemons do not listen in.
    for _ in range(100):
        port = random.randint(20_000, 29_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@pytest.fixture
async def master() -> AsyncIterator[ScriptedMaster]:
    master = ScriptedMaster()
    runner = await master.start()
    yield master
    await runner.cleanup()


@pytest.fixture
async def agent(tmp_path: Path, master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    # Executors that are here, on a machine however slow, come back after a restart.
    flag = "--executor_reregistration_timeout=15secs"
    agent = AgentProcess(tmp_path / "work", master.url, flag)
    (tmp_path / "work").mkdir()
    await agent.start()
    try:
        await master.until(lambda: bool(master.subscriptions))
        yield agent
    finally:
        master.acknowledges = True
        live = {key: states for key in live_tasks(master) if (states := master.states(key))}
        for task_id in live:
            with contextlib.suppress(ConnectionError):
                await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID(task_id)))
        with contextlib.suppress(TimeoutError):
            await master.until(lambda: not live_tasks(master))
        await agent.kill(signal.SIGTERM)
        sys.stderr.write((tmp_path / "agent.log").read_text())


def live_tasks(master: ScriptedMaster) -> set[str]:
    ids = {u.status.task_id.value for _, u in master.heard}
    return {i for i in ids if not any(s in TERMINAL_STATES for s in master.states(i))}


async def test_a_task_runs_writes_its_sandbox_and_ends(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await master.launch(task("t1", "echo hello; echo oops >&2; exit 7"))
    end = await master.until_ended("t1")
    assert master.states("t1") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
    assert end.status.message == "Command exited with status 7"
    path = "/frameworks/F/executors/t1/runs/latest"
    names = {
        entry["path"].rpartition("/")[2] for entry in await agent.json("/files/browse", path=path)
    }
    assert names >= {"stdout", "stderr"}
    assert await agent.json("/files/read", path=f"{path}/stdout", offset="0") == {
        "offset": 0,
        "data": "hello\n",
    }
    assert (await agent.json("/slave(1)/files/read", path=f"{path}/stderr"))["offset"] == 5
    status, body = await agent.get("/files/download", path=f"{path}/stdout")
    assert (status, body) == (200, b"hello\n")
    assert (await agent.get("/files/read", path=f"{path}/../../../../../etc/passwd"))[0] == 404
    assert (await agent.get("/files/browse"))[0] == 400


async def test_tasks_keep_their_pid_over_a_killed_agent_and_report_true_exit_codes(
    master: ScriptedMaster, agent: AgentProcess, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    await master.launch(task("stays", "exec sleep 1000"))
    await master.launch(task("ends", f"while [ ! -e {go} ]; do sleep 0.05; done; exit 7"))
    pid = (await master.until_state("stays", "TASK_RUNNING")).status.container_status
    await master.until_state("ends", "TASK_RUNNING")
    assert pid is not None
    assert pid.executor_pid is not None
    before = await agent.json("/containers")
    await agent.kill()
    go.touch()
    await _until(lambda: any(agent.work_dir.glob("run/containers/*/status")))
    before_kill = {u.status.uuid for _, u in master.heard}
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    end = await master.until_ended("ends")
    assert end.status.message == "Command exited with status 7"
    new = {u.status.uuid: u for _, u in master.heard if u.status.uuid not in before_kill}
    assert [u.status.task_id.value for u in new.values()] == ["ends"]
    os.kill(pid.executor_pid, 0)
    brought = {t.task_id.value: t.state for t in master.subscriptions[1].tasks}
    assert brought == {"stays": "TASK_RUNNING", "ends": "TASK_FAILED"}
    after = await agent.json("/containers")
    assert [c["container_id"] for c in after] == [
        c["container_id"] for c in before if c["executor_id"] == "stays"
    ]
    await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID("stays")))
    killed = await master.until_ended("stays")
    assert killed.status.state == "TASK_KILLED"
    with pytest.raises(ProcessLookupError):
        os.kill(pid.executor_pid, 0)


async def test_what_is_not_acknowledged_is_told_again_after_a_restart(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    master.acknowledges = False
    await master.launch(task("t1", "true"))
    first = await master.until_state("t1", "TASK_STARTING")
    await agent.kill()
    heard = len(master.heard)
    await agent.start()
    await master.until(lambda: len(master.heard) > heard)
    again = master.heard[heard][1]
    assert again.status.uuid == first.status.uuid
    master.acknowledges = True
    await master.acknowledge(again)
    await master.until_ended("t1")


async def test_endpoints_answer_as_the_original_does(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await master.launch(task("t1", "exec sleep 1000"))
    await master.until_state("t1", "TASK_RUNNING")
    state = await agent.json("/state")
    assert state["id"] == AGENT.value
    assert state["resources"]["cpus"] == 64.0
    assert state["flags"]["port"] == str(agent.port)
    executor = state["frameworks"][0]["executors"][0]
    assert executor["tasks"][0]["state"] == "TASK_RUNNING"
    assert await agent.json("/files/browse", path=executor["directory"])
    assert (await agent.json("/slave(1)/state"))["id"] == AGENT.value
    figures = await agent.json("/metrics/snapshot")
    assert figures["slave/tasks_running"] == 1.0
    assert figures["slave/cpus_used"] == 1.0
    assert figures["slave/registered"] == 1.0
    assert (await agent.json("/version"))["version"]
    assert (await agent.get("/health")) == (200, b"")
    usage = (await agent.json("/monitor/statistics"))[0]
    assert usage["executor_id"] == "t1"
    assert usage["statistics"]["processes"] >= 1
    status, page = await agent.get("/sandbox", framework="F", executor="t1")
    assert status == 200
    assert b"sandbox.js" in page
    assert (await agent.get("/ui/sandbox.js"))[0] == 200
    assert (await agent.get("/ui/..%2fflags.py"))[0] == 404
    assert (await agent.get("/state.json"))[0] == 404


async def test_the_operator_api_tells_what_runs(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await master.launch(task("t1", "echo hello; exec sleep 1000"))
    await master.until_state("t1", "TASK_RUNNING")
    tasks = (await agent.call({"type": "GET_TASKS"}))["get_tasks"]
    assert [t["task_id"]["value"] for t in tasks["launched_tasks"]] == ["t1"]
    state = (await agent.call({"type": "GET_STATE"}))["get_state"]
    assert state["get_frameworks"]["frameworks"][0]["framework_info"]["name"] == "F"
    container = (await agent.call({"type": "GET_CONTAINERS"}))["get_containers"]["containers"][0]
    assert container["executor_id"]["value"] == "t1"
    about = (await agent.call({"type": "GET_AGENT"}))["get_agent"]["agent_info"]
    assert about["id"]["value"] == AGENT.value
    assert (await agent.call({"type": "GET_HEALTH"}))["get_health"] == {"healthy": True}
    path = "/frameworks/F/executors/t1/runs/latest/stdout"
    [stdout] = agent.work_dir.glob(f"slaves/*{path}")
    await master.until_true(lambda: stdout.read_text() == "hello\n")
    read = {"type": "READ_FILE", "read_file": {"path": path, "offset": 0}}
    assert (await agent.call(read))["read_file"] == {"size": 6, "data": "aGVsbG8K"}
    for body, status, words in (
        ({}, 400, "Expecting 'type' to be present"),
        ({"type": "READ_FILE"}, 400, "Expecting 'read_file' to be present"),
        (
            {"type": "REMOVE_RESOURCE_PROVIDER_CONFIG"},
            400,
            "Expecting 'remove_resource_provider_config' to be present",
        ),
        ([], 400, "Failed to parse"),
    ):
        answered, text = await agent.post("/api/v1", body)
        assert answered == status
        assert words in text


async def test_uris_are_fetched_and_their_failure_is_told(
    master: ScriptedMaster, agent: AgentProcess, tmp_path: Path
) -> None:
    source = tmp_path / "greeting.txt"
    source.write_text("hi\n")
    uris = (CommandURI(value=f"file://{source}", executable=True),)
    await master.launch(
        replace(task("good"), command=CommandInfo(value="cat greeting.txt", uris=uris))
    )
    assert (await master.until_ended("good")).status.state == "TASK_FINISHED"
    missing = (CommandURI(value=f"file://{tmp_path}/nothing"),)
    await master.launch(replace(task("bad"), command=CommandInfo(value="true", uris=missing)))
    end = (await master.until_ended("bad")).status
    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert end.message is not None
    assert "Failed to fetch all URIs" in end.message
    assert "nothing" in end.message


async def test_an_unhealthy_task_is_killed_and_told_as_unhealthy(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    check = HealthCheck(
        type="COMMAND",
        command=CommandInfo(value="test ! -e sick"),
        delay_seconds=0.0,
        interval_seconds=0.05,
        timeout_seconds=60.0,
        consecutive_failures=2,
        grace_period_seconds=0.0,
    )
    command = CommandInfo(value="exec sleep 1000")
    await master.launch(replace(task("t1"), command=command, health_check=check))
    await master.until(lambda: any(u.status.healthy for u in master.of("t1")))
    [sandbox] = agent.work_dir.glob("slaves/*/frameworks/F/executors/t1/runs/latest")
    (sandbox / "sick").touch()
    end = (await master.until_ended("t1")).status
    assert (end.state, end.healthy) == ("TASK_KILLED", False)
    told = [u.status.healthy for u in master.of("t1") if u.status.reason is not None]
    assert True in told
    assert False in told


async def test_a_program_that_does_not_exist_fails_its_task(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    command = CommandInfo(shell=False, value="/no/such/program", arguments=("x",))
    await master.launch(replace(task("t1"), command=command))
    end = (await master.until_ended("t1")).status
    assert end.state == "TASK_FAILED"
    assert end.message is not None
    assert "/no/such/program" in end.message


async def test_a_second_agent_on_the_same_directory_is_refused(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    second = AgentProcess(agent.work_dir, master.url)
    await second.start()
    assert second.process is not None
    async with asyncio.timeout(TIMEOUT_S):
        assert await second.process.wait() != 0
    second.log.close()
    text = (agent.work_dir.parent / "agent.log").read_text()
    assert "is in use by another agent" in text


async def test_usr1_ends_all_tasks_and_the_next_start_is_a_new_agent(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await master.launch(task("t1", "exec sleep 1000"))
    running = await master.until_state("t1", "TASK_RUNNING")
    assert running.status.container_status is not None
    pid = running.status.container_status.executor_pid
    assert pid is not None
    assert await agent.kill(signal.SIGUSR1) == 0
    assert master.unregistered == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    assert master.subscriptions[1].agent_info.id is None
    assert master.subscriptions[1].tasks == ()
    master.heard.clear()


async def test_a_full_disk_refuses_tasks_and_the_agent_stays(
    master: ScriptedMaster, tmp_path: Path
) -> None:
    require_root()
    work_dir = tmp_path / "work"
    with small_disk(work_dir, "2m"):
        agent = AgentProcess(work_dir, master.url)
        await agent.start()
        try:
            await master.until(lambda: bool(master.subscriptions))
            await master.launch(task("before", "exec sleep 1000"))
            await master.until_state("before", "TASK_RUNNING")
            filler = work_dir / "filler"
            fill(filler)
            await master.launch(task("refused", "true"))
            end = (await master.until_ended("refused")).status
            assert end.state == "TASK_LOST"
            assert end.message is not None
            assert str(work_dir) in end.message
            assert "No space left on device" in end.message
            await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID("before")))
            assert (await master.until_ended("before")).status.state == "TASK_KILLED"
            filler.unlink()
            await master.launch(task("after", "true"))
            assert (await master.until_ended("after")).status.state == "TASK_FINISHED"
            assert agent.process is not None
            assert agent.process.returncode is None
        finally:
            await agent.kill(signal.SIGTERM)
            sys.stderr.write((tmp_path / "agent.log").read_text())


def fill(path: Path) -> None:
    """Use up all room of the file system of `path`."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


async def test_latency_from_run_task_to_running(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    waits = []
    for number in range(20):
        task_id = f"t{number}"
        started = time.monotonic()
        await master.launch(task(task_id, "exec sleep 1000", amount=0.1))
        await master.until_state(task_id, "TASK_RUNNING")
        at = next(
            at
            for at, u in master.heard
            if u.status.task_id.value == task_id and u.status.state == "TASK_RUNNING"
        )
        waits.append((at - started) * 1000)
    sys.stderr.write(
        f"RUN_TASK to TASK_RUNNING: median {statistics.median(waits):.1f} ms, "
        f"min {min(waits):.1f}, max {max(waits):.1f}\n"
    )
    figures = await agent.json("/metrics/snapshot")
    for name in ("checkpoint/write", "containerizer/launch"):
        sys.stderr.write(f"{name}: p50 {figures[f'{name}_ms/p50']:.1f} ms\n")
    assert len(waits) == 20


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - a file of another process has no event
            await asyncio.sleep(0.01)
