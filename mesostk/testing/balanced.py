"""A scripted Marathon, servers behind a real HAProxy, and a load that counts what goes wrong."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from mesostk.errors import Unavailable
from mesostk.lb import runtime

#: For an answer of HAProxy to a test.
PATIENCE_S = 60.0


def program() -> str:
    """The HAProxy of this machine, or the one that MESOSTK_HAPROXY names."""
    if named := os.environ.get("MESOSTK_HAPROXY"):
        return named
    found = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert found is not None
    return found


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 120
) -> None:
    """Return once `condition` holds; fail naming `what` if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        await asyncio.sleep(0.01)


class ScriptedMarathon:
    """Serves apps and events as a test wants them."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.url = ""
        self.apps: dict[str, dict[str, Any]] = {}
        #: The whole answer to `/v2/apps` where a test has made it already.
        self.raw: bytes | None = None
        self.fetches = 0
        self._streams: set[web.StreamResponse] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen, on the port of the first time if there was one."""
        app = web.Application()
        app.router.add_get("/v2/apps", self._list)
        app.router.add_get("/v2/events", self._events)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.ip, self._port, reuse_address=True).start()
        self._port = int(self._runner.addresses[0][1])
        self.url = f"http://{self.ip}:{self._port}"

    async def stop(self) -> None:
        """Go away, with all streams."""
        for task in list(self._tasks):
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _list(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        body = self.raw
        if body is None:
            body = json.dumps({"apps": list(self.apps.values())}).encode()
        return web.Response(body=body, content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        self._streams.add(stream)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                await asyncio.sleep(10)
                await stream.write(b"\r\n")
        finally:
            self._streams.discard(stream)
            self._tasks.discard(task)

    async def emit(self, kind: str = "status_update_event", times: int = 1, **fields: Any) -> None:
        """Send one event to every stream, or the same one several times at once."""
        data = json.dumps({"eventType": kind, **fields})
        for stream in list(self._streams):
            try:
                await stream.write(f"event: {kind}\ndata: {data}\n\n".encode() * times)
            except ConnectionError:  # whoever listened went away
                self._streams.discard(stream)


class Backend:
    """One task: an HTTP server that answers with its name."""

    def __init__(self, ip: str, name: str = "") -> None:
        self.ip = ip
        self.name = name
        self.port = 0
        self.served = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, self.ip, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.served += not head.startswith(b"OPTIONS")
                body = f"{self.name}:{self.port}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def die(self) -> None:
        """End at once, as on a SIGTERM that nobody handles: connections break."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()


class Load:
    """Requests at a constant rate, each on a connection of its own.

    A client that has several addresses of a name tries the next one where nobody takes its
    connection; `others` are those.
    """

    def __init__(
        self,
        url: str,
        rate: float = 150,
        headers: Mapping[str, str] | None = None,
        others: Sequence[str] = (),
    ) -> None:
        self.urls = [url, *others]
        self.rate = rate
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._turn = 0
        self._headers = dict(headers or {})
        self._task: asyncio.Task[None] | None = None
        self._flying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, *self._flying, return_exceptions=True)

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(connector=connector, headers=self._headers) as session:
            due = time.monotonic()
            try:
                while True:
                    task = asyncio.create_task(self._one(session))
                    self._flying.add(task)
                    task.add_done_callback(self._flying.discard)
                    # What a busy machine has missed is not made up for all at once.
                    due = max(due + 1 / self.rate, time.monotonic())
                    await asyncio.sleep(due - time.monotonic())
            finally:
                await asyncio.gather(*self._flying, return_exceptions=True)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        first = self._turn = self._turn + 1
        failure = ""
        for number in range(len(self.urls)):
            url = self.urls[(first + number) % len(self.urls)]
            try:
                async with session.get(url, timeout=aiohttp.ClientTimeout(60)) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        self.answers[text] += 1
                        return
                    failure = f"status {answer.status}"
            except aiohttp.ClientConnectorError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failure = f"{type(error).__name__}: {error}"
            break
        self.failures.append(failure)

    async def more(self, count: int) -> None:
        """Return after `count` further good answers."""
        goal = self.answers.total() + count

        async def reached() -> bool:
            return self.answers.total() >= goal

        await until(reached, f"{count} more answers ({self.failures[:3]})")


class Balancer:
    """A real HAProxy and a real marathon-lb process on one loopback address."""

    def __init__(self, directory: Path, ip: str, marathons: list[str], port: int) -> None:
        self.directory = directory
        self.ip = ip
        self.port = port
        self.marathons = marathons
        self.stats_socket = str(directory / "stats.sock")
        self.master_socket = str(directory / "master.sock")
        self.config = directory / "haproxy.cfg"
        self.certificates: list[Path] = []
        self.haproxy: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "marathon-lb.log"

    def url(self, offset: int = 0, path: str = "/") -> str:
        """Port 80 is offset 0, 443 is 1, 9090 is 2, 9091 is 3, marathon-lb itself 4."""
        return f"http://{self.ip}:{self.port + offset}{path}"

    def environ(self) -> dict[str, str]:
        """Templates that put the fixed ports elsewhere."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HAPROXY_HTTP_FRONTEND_HEAD": f"\\nfrontend marathon_http_in\\n  bind {self.ip}:{self.port}\\n  mode http\\n",  # noqa: E501
            "HAPROXY_HTTPS_FRONTEND_HEAD": f"\\nfrontend marathon_https_in\\n  bind {self.ip}:{self.port + 1} ssl {{sslCerts}}\\n  mode http\\n",  # noqa: E501
            "HAPROXY_HTTP_FRONTEND_APPID_HEAD": f"\\nfrontend marathon_http_appid_in\\n  bind {self.ip}:{self.port + 3}\\n  mode http\\n",  # noqa: E501
        }

    def arguments(self, *more: str) -> list[str]:
        """The command line of marathon-lb."""
        return [
            f"--marathon={','.join(self.marathons)}",
            "--group=external",
            f"--haproxy-config={self.config}",
            f"--haproxy-program={program()}",
            f"--ssl-certs={','.join(map(str, self.certificates))}",
            f"--stats-socket={self.stats_socket}",
            f"--master-socket={self.master_socket}",
            f"--state-dir={self.directory}",
            f"--stats-bind={self.ip}:{self.port + 2}",
            f"--http-address={self.ip}",
            f"--http-port={self.port + 4}",
            *more,
        ]

    def make_certificate(self, name: str = "lab") -> Path:
        """One more certificate for port 443, for host `name`; the path of it without its key."""
        key, cert = self.directory / f"{name}.key", self.directory / f"{name}.crt"
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
            f"-subj /CN={name} -addext subjectAltName=DNS:{name} -keyout {key} -out {cert}"
        )
        subprocess.run(command.split(), check=True, capture_output=True)
        both = self.directory / f"{name}.pem"
        both.write_text(cert.read_text() + key.read_text())
        self.certificates.append(both)
        return cert

    def start_haproxy(self) -> None:
        """Start HAProxy from the file, or from an empty one if there is none yet."""
        if not self.config.exists():
            self.config.write_text(
                f"global\n  stats socket {self.stats_socket} level admin expose-fd listeners\n"
                "defaults\n  timeout client 1s\n  timeout server 1s\n  timeout connect 1s\n"
                f"frontend f\n  bind {self.ip}:{self.port}\n"
            )
        command = [program(), "-W", "-f", str(self.config), "-S", self.master_socket]
        with (self.directory / "haproxy.log").open("ab") as log:
            self.haproxy = subprocess.Popen(command, stdout=log, stderr=log)

    def start(self, *more: str) -> None:
        """Start marathon-lb."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mesostk.lb.daemon", *self.arguments(*more)],
                env=self.environ(),
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Stop marathon-lb; HAProxy goes on."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def close(self) -> None:
        """Stop both."""
        self.stop()
        if self.haproxy is not None:
            self.haproxy.terminate()
            try:
                self.haproxy.wait(3)
            except subprocess.TimeoutExpired:
                self.haproxy.kill()
                self.haproxy.wait(60)

    def restart_haproxy(self) -> None:
        """As the unit does: no new connections, those under way end, then a new process."""
        assert self.haproxy is not None
        self.haproxy.send_signal(signal.SIGUSR1)
        self.haproxy.wait(60)
        self.start_haproxy()

    async def running(self) -> set[tuple[str, str, str, int]]:
        """(backend, server, address, id) of what gets requests now."""
        state = await runtime.ask(self.stats_socket, "show servers state", PATIENCE_S)
        return {
            (one.backend, one.name, one.address, one.id)
            for one in runtime.servers(state)
            if one.admin == 0 and one.backend != "marathon_lb_control"
        }

    def in_file(self) -> set[tuple[str, str, str, int]]:
        """The same, from the file."""
        found, backend = set(), ""
        for line in self.config.read_text().splitlines():
            words = line.split()
            if words[:1] == ["backend"]:
                backend = words[1]
            elif words[:1] == ["server"] and "id" in words and "disabled" not in words:
                found.add((backend, words[1], words[2], int(words[4])))
        return found

    async def serves(self, servers: int, addresses: set[str] | None = None) -> None:
        """Return once exactly that many servers run, by HAProxy, file and marathon-lb.

        `addresses` are those of the servers: a pass on the way there may have as many.
        """

        async def reached() -> bool:
            try:
                running = await self.running()
                status = await self.status()
            except (Unavailable, aiohttp.ClientError):  # it starts
                return False
            if addresses is not None and {one[2] for one in running} != addresses:
                return False
            known = sum(int(route["servers"]) for route in status["routes"])
            return len(running) == known == servers and running == self.in_file()

        await until(reached, f"{servers} servers")

    async def metrics(self) -> dict[str, float]:
        """The figures of marathon-lb."""
        return await self._json("/metrics/snapshot")

    async def status(self) -> dict[str, Any]:
        """What marathon-lb says of itself."""
        return await self._json("/_mlb_status")

    async def _json(self, path: str) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url(4, path)) as answer,
        ):
            body: dict[str, Any] = await answer.json()
            return body
