"""marathon-lb behind a real Marathon, master and agent: the tutorial's chapters, without Docker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mesostk.lb.deployment import Settings
from mesostk.lb.zdd import Deployment, Services
from mesostk.ops.zookeeper import free_ports
from mesostk.testing.addresses import free_block
from mesostk.testing.balanced import Balancer, Load, until
from mesostk.testing.requirements import require_haproxy

HOST = "127.0.0.65"
OTHER_HOST = "127.0.0.68"

#: Answers at once, and dies at once on SIGTERM. A starved one has more than 5 connections waiting,
#: after which the kernel drops what comes.
SERVER = (
    "exec {python} -c 'import http.server as h,os,signal; signal.signal(15, signal.SIG_DFL);"
    ' h.BaseHTTPRequestHandler.protocol_version="HTTP/1.0";'
    " h.ThreadingHTTPServer.request_queue_size=1000;"
    ' H=type("H",(h.BaseHTTPRequestHandler,),dict(do_GET=lambda s:(s.send_response(200),'
    's.end_headers(),s.wfile.write(b"hello")),log_message=lambda *a:None));'
    ' h.ThreadingHTTPServer(("{host}",int(os.environ["PORT0"])),H).serve_forever()\''
)


class Processes:
    """Master, agent and Marathon on one loopback address."""

    def __init__(self, work: Path) -> None:
        self.work = work
        master, agent, marathon = free_ports(HOST, 3)
        self.marathon = f"http://{HOST}:{marathon}"
        common = (f"--hostname={HOST}",)
        self.processes = [
            self._spawn(
                "master", f"--ip={HOST}", f"--port={master}", f"--work_dir={work}/m", *common
            ),
            self._spawn(
                "agent",
                f"--master={HOST}:{master}",
                f"--ip={HOST}",
                f"--port={agent}",
                f"--work_dir={work}/a",
                f"--runtime_dir={work}/r",
                "--launcher=posix",
                "--resources=cpus:8;mem:4096;disk:10000;ports:[20000-20499]",
                *common,
            ),
            self._spawn(
                "marathon",
                f"--master={HOST}:{master}",
                f"--http_address={HOST}",
                f"--http_port={marathon}",
                f"--state_dir={work}/s",
                *common,
            ),
        ]

    def _spawn(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        code = f"import sys; from mesostk.{name}.daemon import main; sys.exit(main())"
        with (self.work / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code, *flags], stdout=log, stderr=log, cwd=self.work
            )

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(60)
        # Tasks outlive their agent; end those whose sandbox is ours.
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid = int(entry.name)
                where = (entry / "cwd").readlink()
                if where.is_relative_to(self.work) and pid != os.getpid():
                    os.kill(pid, signal.SIGKILL)

    async def put(self, app: dict[str, Any]) -> None:
        """Create or update an app, as soon as Marathon can."""

        async def accepted() -> bool:
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.put(
                        f"{self.marathon}/v2/apps{app['id']}?force=true", json=app
                    ) as answer,
                ):
                    assert answer.status in (200, 201, 503), await answer.text()
                    return answer.status != 503
            except aiohttp.ClientError:
                return False

        await until(accepted, "Marathon takes the app")

    async def killed(self) -> bool:
        """Whether one task is left, and none that waits for its kill."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.marathon}/v2/tasks") as answer,
        ):
            return len((await answer.json())["tasks"]) == 1


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    require_haproxy()
    made = Processes(tmp_path)
    yield made
    made.stop()


async def test_app_is_reached_by_port_and_host_name_and_scales_without_a_lost_request(
    processes: Processes, tmp_path: Path
) -> None:
    directory = tmp_path / "lb"
    directory.mkdir()
    port = free_block(HOST)
    balancer = Balancer(directory, HOST, [processes.marathon], port)
    balancer.make_certificate()
    balancer.start_haproxy()
    balancer.start()
    nginx: dict[str, Any] = {
        "id": "/nginx-external",
        "cmd": SERVER.format(python=sys.executable, host=HOST),
        "instances": 1,
        "cpus": 0.1,
        "mem": 32,
        "ports": [port + 100],
        "healthChecks": [{"protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 300}],
        "labels": {
            "HAPROXY_GROUP": "external",
            "HAPROXY_0_VHOST": "nginx.example",
            "HAPROXY_0_BIND_ADDR": HOST,
            # Enough for a balancer that is starved; the default is for one that is not.
            "MARATHON_DRAIN_SECONDS": "6",
        },
    }
    try:
        await processes.put(nginx)
        await until(lambda: answers(f"http://{HOST}:{port + 100}/"), "the app by its port")
        await balancer.serves(1)
        async with Load(balancer.url(), 40, {"Host": "nginx.example"}) as load:
            await load.more(10)
            await processes.put({**nginx, "instances": 3})

            async def grown() -> bool:
                return len(await balancer.running()) == 3

            async def shrunk() -> bool:
                return len(await balancer.running()) == 1

            await until(grown, "three servers")
            await load.more(20)
            # A new version replaces every instance, each of which dies at once when it is killed.
            before = await balancer.running()
            await processes.put({**nginx, "instances": 3, "env": {"VERSION": "2"}})

            async def replaced() -> bool:
                running = await balancer.running()
                return len(running) == 3 and not running & before

            await until(replaced, "three others")
            await load.more(20)
            await processes.put({**nginx, "instances": 1, "env": {"VERSION": "2"}})
            await until(shrunk, "one server")
            await until(processes.killed, "the end of the others")
            await load.more(20)
        assert load.failures == []
        await balancer.serves(1)
        status = await balancer.status()
        (route,) = status["routes"]
        assert (route["app_id"], route["servers"], status["left_out"]) == ("/nginx-external", 1, [])
        await processes.put({**nginx, "instances": 0})
        await balancer.serves(0)
        assert not json.loads(json.dumps(await balancer.status()))["routes"]
    finally:
        balancer.close()


def replace(marathon: str, balancers: list[str], app: dict[str, Any]) -> None:
    """What `mesostk zdd` does: the other colour beside the first, then instead of it."""
    run = Deployment(
        Services(marathon, balancers),
        Settings(step_delay_s=0.2),
        lambda _said: None,
        lambda _question: True,
    )
    made, previous = run.prepare(app)
    run.create(made)
    for old in previous:
        assert run.swap(made["id"], old["id"])


async def test_blue_and_green_deployment_through_two_balancers_loses_no_request(
    processes: Processes, tmp_path: Path
) -> None:
    port = free_block(HOST)
    balancers = []
    for ip in (HOST, OTHER_HOST):
        directory = tmp_path / ip
        directory.mkdir()
        balancers.append(Balancer(directory, ip, [processes.marathon], port))
    labels = {
        "HAPROXY_GROUP": "external",
        "HAPROXY_0_VHOST": "web.example",
        "HAPROXY_0_BIND_ADDR": HOST,
        "HAPROXY_DEPLOYMENT_GROUP": "web",
        "HAPROXY_DEPLOYMENT_ALT_PORT": str(port + 101),
    }
    app: dict[str, Any] = {
        "id": "/web",
        "cmd": SERVER.format(python=sys.executable, host=HOST),
        "instances": 2,
        "cpus": 0.1,
        "mem": 32,
        "ports": [port + 100],
        "healthChecks": [
            {"protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 300, "intervalSeconds": 1}
        ],
        "labels": labels,
    }
    try:
        for each in balancers:
            each.make_certificate()
            each.start_haproxy()
            each.start()
        services = [each.url(2, "") for each in balancers]
        await until(lambda: answers(f"{processes.marathon}/v2/leader"), "Marathon leads")
        await asyncio.to_thread(replace, processes.marathon, services, app)
        for each in balancers:
            await each.serves(2)
        before = await balancers[0].running()
        first, second = (Load(each.url(), 30, {"Host": "web.example"}) for each in balancers)
        async with first, second:
            await first.more(10)
            await asyncio.to_thread(replace, processes.marathon, services, app)
            for each in balancers:
                await each.serves(2)
            assert not await balancers[1].running() & before
            await first.more(20)
            await second.more(20)
        assert first.failures == []
        assert second.failures == []
    finally:
        for each in balancers:
            each.close()


async def answers(url: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, timeout=aiohttp.ClientTimeout(2)) as answer,
        ):
            return answer.status == 200
    except (TimeoutError, aiohttp.ClientError):
        return False
