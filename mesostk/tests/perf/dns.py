"""What a DNS query costs: `python -m mesostk.tests.perf.dns [--tasks 10000] [--seconds 5]`.

A real `mesos-dns` process follows a stand-in for a master, which serves the operator event stream
with that many tasks. `dnsperf` asks it over loopback, for A and SRV names of all tasks in turn; the
processor time is that of the server's processes, so a machine that is busy otherwise disturbs it
little. `--loops` compares ways to read a UDP socket, each with the same answers.

Measured: time from start to the first answer, queries per second, processor time per query,
latency, memory, and the time from an update on the stream to the first right answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json as plain_json
import platform
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import dns.message
import psutil
import uvloop
from aiohttp import web

from mesostk.base.clock import RealClock
from mesostk.dns import facts
from mesostk.dns.assembly import Core, make_core
from mesostk.dns.config import Config
from mesostk.dns.reading import Greeting, at_once, read_greeting
from mesostk.dns.server import UdpSocket
from mesostk.dns.source import PIECE_S
from mesostk.wire.recordio import encode_record

LOCAL: Final = "127.0.0.1"
AGENTS: Final = 1000


# -- a cluster that never was ----------------------------------------------------------------------


def task(number: int, ip: str = "") -> dict[str, Any]:
    """A running task with discovery ports, as Marathon makes them."""
    name = f"app{number}"
    address = ip or f"172.{16 + number // 65536}.{number // 256 % 256}.{number % 256}"
    return {
        "name": name,
        "task_id": {"value": f"{name}.instance-{number}"},
        "framework_id": {"value": "F"},
        "agent_id": {"value": f"c0ffee-S{number % AGENTS}"},
        "state": "TASK_RUNNING",
        "resources": [
            {"name": "ports", "type": "RANGES",
             "ranges": {"range": [{"begin": 31000, "end": 31000}]}},
        ],
        "discovery": {
            "visibility": "FRAMEWORK", "name": name,
            "ports": {"ports": [{"number": 31000, "name": "http", "protocol": "tcp"}]},
        },
        "statuses": [status(number, address)],
    }  # fmt: skip


def status(number: int, ip: str) -> dict[str, Any]:
    return {
        "task_id": {"value": f"app{number}.instance-{number}"},
        "state": "TASK_RUNNING",
        "timestamp": 1.0,
        "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": ip}]}]},
    }


def state(tasks: int, ip: str = "") -> dict[str, Any]:
    """`get_state` of a cluster with that many tasks, each at `ip` or at one of its own."""
    agents = [
        {
            "agent_info": {"hostname": f"a{n}", "id": {"value": f"c0ffee-S{n}"}},
            "active": True, "version": "1.11.0",
            "pid": f"slave(1)@10.1.{n // 250}.{n % 250 + 1}:5051",
        }
        for n in range(AGENTS)
    ]  # fmt: skip
    info = {"user": "root", "name": "marathon", "id": {"value": "F"}, "hostname": "10.0.3.11"}
    framework = {"framework_info": info, "active": True, "connected": True, "recovered": False}
    return {
        "get_agents": {"agents": agents},
        "get_frameworks": {"frameworks": [framework]},
        "get_tasks": {"tasks": [task(number, ip) for number in range(tasks)]},
    }


class Master:
    """Serves one event stream, in a thread of its own."""

    def __init__(self, tasks: int) -> None:
        self._greeting = self._greeting_of(state(tasks))
        self._streams: list[web.StreamResponse] = []
        self._loop = asyncio.new_event_loop()
        self.port = 0
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait(20)

    def _run(self, started: threading.Event) -> None:
        self._loop.run_until_complete(self._serve())
        started.set()
        self._loop.run_forever()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/api/v1", self._subscribed)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, LOCAL, 0)
        await site.start()
        self.port = runner.addresses[0][1]

    async def _subscribed(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        await stream.write(self._greeting)
        self._streams.append(stream)
        await asyncio.get_running_loop().create_future()
        return stream

    @staticmethod
    def _greeting_of(state: dict[str, Any]) -> bytes:
        subscribed = {"get_state": state, "heartbeat_interval_seconds": 15}
        event = {"type": "SUBSCRIBED", "subscribed": subscribed}
        return encode_record(plain_json.dumps(event).encode())

    def begin_anew(self, tasks: int, ip: str) -> None:
        """Break every stream; who comes again is told that each task is at `ip`."""
        self._greeting = self._greeting_of(state(tasks, ip))

        async def end() -> None:
            for stream in self._streams:
                assert stream._req is not None  # there is no other way to its socket
                assert stream._req.transport is not None
                stream._req.transport.abort()
            self._streams.clear()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)

    def update(self, number: int, ip: str) -> None:
        """Tell that a task has another address."""
        event = {
            "type": "TASK_UPDATED",
            "task_updated": {
                "framework_id": {"value": "F"},
                "status": status(number, ip),
                "state": "TASK_RUNNING",
            },
        }
        data = encode_record(plain_json.dumps(event).encode())

        async def tell() -> None:
            for stream in list(self._streams):
                try:
                    await stream.write(data)
                except ConnectionError:  # whoever followed it has another one now
                    self._streams.remove(stream)

        asyncio.run_coroutine_threadsafe(tell(), self._loop).result(10)


# -- the server ------------------------------------------------------------------------------------


class Server:
    """A `mesos-dns` process."""

    def __init__(self, directory: Path, master: Master, workers: int) -> None:
        with socket.socket() as probe:
            probe.bind((LOCAL, 0))
            self.port: int = probe.getsockname()[1]
        config = {
            "masters": [f"{LOCAL}:{master.port}"], "listener": LOCAL, "port": self.port,
            "httpOn": False, "externalon": False, "workers": workers,
        }  # fmt: skip
        path = directory / "config.json"
        path.write_text(plain_json.dumps(config))
        argv = [sys.executable, "-m", "mesostk.dns.daemon", f"-config={path}"]
        self._began = time.monotonic()
        self.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)

    def first_answer_s(self, name: str) -> float:
        """Seconds from the start of the process to the first right answer."""
        while not ask(self.port, name):
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() - self._began < 120, "no answer"
        return time.monotonic() - self._began

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_s(self) -> float:
        return sum(self.cpu_of_each())

    def cpu_of_each(self) -> list[float]:
        """Processor time of each process so far, in seconds."""
        return [sum(one.cpu_times()[:2]) for one in self.family()]

    def rss_mb(self) -> list[float]:
        return [one.memory_info().rss / 1e6 for one in self.family()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def ask(port: int, name: str, kind: str = "A") -> list[str]:
    """Addresses of a name; empty while there are none."""
    query = dns.message.make_query(name, kind).to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect((LOCAL, port))
        try:
            sock.send(query)
            reply = dns.message.from_wire(sock.recv(4096))
        except OSError:
            time.sleep(0.002)
            return []
    return [str(data) for rrset in reply.answer for data in rrset]


# -- measuring -------------------------------------------------------------------------------------


class Load:
    """What `dnsperf` says of one run."""

    def __init__(self, port: int, names: Path, seconds: int | None, clients: int) -> None:
        """For that many seconds, or each name once."""
        argv = [
            "dnsperf", "-s", LOCAL, "-p", str(port), "-d", str(names), "-c", str(clients),
            "-T", "1", "-q", "100", *(("-n", "1") if seconds is None else ("-l", str(seconds))),
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
        self.completed = int(self._number(r"Queries completed:\s+(\d+)", done.stdout))
        self.lost = int(self._number(r"Queries lost:\s+(\d+)", done.stdout))
        self.per_second = self._number(r"Queries per second:\s+([\d.]+)", done.stdout)
        self.codes = re.findall(r"Response codes:\s+(.*)", done.stdout)[0].strip()

    @staticmethod
    def _number(pattern: str, text: str) -> float:
        found = re.search(pattern, text)
        assert found is not None, text
        return float(found[1])


def p99_ms(port: int, names: list[str], kind: str, count: int = 3000) -> tuple[float, float]:
    """Median and 99th percentile of single queries, one at a time, in milliseconds."""
    queries = [dns.message.make_query(name, kind).to_wire() for name in names[:count]]
    took = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect((LOCAL, port))
        for query in queries:
            began = time.perf_counter()
            sock.send(query)
            sock.recv(4096)
            took.append(time.perf_counter() - began)
    took.sort()
    return took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3


def names_of(kind: str, tasks: int) -> list[str]:
    pattern = "app{}.marathon.mesos" if kind == "A" else "_app{}._tcp.marathon.mesos"
    return [pattern.format(number) for number in range(tasks)]


def measure(tasks: int, workers: int, seconds: int) -> None:
    """One server under load; prints its figures."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        master = Master(tasks)
        server = Server(directory, master, workers)
        try:
            first = server.first_answer_s(f"app{tasks - 1}.marathon.mesos")
            print(f"\n{tasks} tasks, {workers} workers: first answer {first:.2f} s after the start,"
                  f" {server.cpu_s():.2f} s of processor time")  # fmt: skip
            for kind in ("A", "SRV"):
                names = names_of(kind, tasks)
                random.Random(1).shuffle(names)
                path = directory / kind
                path.write_text("".join(f"{name} {kind}\n" for name in names))
                # Renders what is then kept; by as many clients, so that each worker gets all.
                for _ in range(4 * workers):
                    Load(server.port, path, None, workers * 4)
                before = server.cpu_of_each()
                load = Load(server.port, path, seconds, workers * 4)
                spent = [now - was for now, was in zip(server.cpu_of_each(), before, strict=True)]
                each = sum(spent) / load.completed * 1e6
                # What the processes could answer if each had a core to itself.
                capacity = load.completed / max(spent)
                median, worst = p99_ms(server.port, names, kind)
                print(f"  {kind:4}{load.per_second:8.0f} q/s  {each:5.1f} µs CPU/query"
                      f"  with a core each {capacity:.0f} q/s"
                      f"  lost {load.lost}  median {median:.3f} ms  p99 {worst:.3f} ms"
                      f"  [{load.codes}]")  # fmt: skip
            took = [update_ms(server, master, number) for number in range(20)]
            print(f"  update to answer: median {sorted(took)[10]:.1f} ms, worst {max(took):.1f} ms")
            wait, took_s = longest_wait_ms(server, master, tasks)
            print(f"  every task changed at once: taken in after {took_s:.2f} s,"
                  f" meanwhile a query waited for at most {wait:.1f} ms")  # fmt: skip
            print("  memory: " + ", ".join(f"{one:.0f} MB" for one in server.rss_mb()))
        finally:
            server.stop()


def update_ms(server: Server, master: Master, number: int) -> float:
    """From telling the server of another address to its first answer with it."""
    ip = f"10.99.{number}.1"
    name = f"app{number}.marathon.mesos"
    began = time.perf_counter()
    master.update(number, ip)
    while ask(server.port, name) != [ip]:
        assert time.perf_counter() - began < 10, "the update never came"
    return (time.perf_counter() - began) * 1e3


def longest_wait_ms(server: Server, master: Master, tasks: int) -> tuple[float, float]:
    """The longest wait of one query after the other while a state with all addresses new is taken
    in, in milliseconds; and the seconds until the last name had its new address."""
    last, ip = f"app{tasks - 1}.marathon.mesos", "10.98.0.1"
    master.begin_anew(tasks, ip)
    began = time.perf_counter()
    longest = 0.0
    while True:
        asked = time.perf_counter()
        answer = ask(server.port, last)
        longest = max(longest, time.perf_counter() - asked)
        if answer == [ip]:
            return longest * 1e3, time.perf_counter() - began
        assert time.perf_counter() - began < 60, "the new state never came"


def longest_piece_ms(tasks: int) -> tuple[float, float]:
    """Processor time, in milliseconds, for which queries wait at most while a state is read and
    taken in: of a server that knows nothing, and of one that knew each task at another address.
    """
    core = make_core(
        Config(masters=(f"{LOCAL}:1",), external_on=False), (), (), RealClock(), random.Random(1)
    )
    longest = []
    for ip in ("", "10.98.0.1"):
        subscribed = {"get_state": state(tasks, ip)}
        record = plain_json.dumps({"type": "SUBSCRIBED", "subscribed": subscribed}).encode()
        worst, began = 0.0, time.thread_time()
        steps = read_greeting(record, core.zone.frameworks)
        greeting: Greeting | None = None
        is_read = False
        while not is_read:
            try:
                next(steps)
            except StopIteration as end:
                greeting, is_read = end.value, True
            worst, began = max(worst, time.thread_time() - began), time.thread_time()
        assert greeting is not None
        piece: list[facts.Change] = []
        for change in core.zone.steps(greeting.snapshot):
            core.zone.apply(change)
            piece.append(change)
            if time.thread_time() - began >= PIECE_S:
                core.naming.take_applied(piece, is_last=False)
                worst, began = max(worst, time.thread_time() - began), time.thread_time()
                piece = []
        core.naming.take_applied(piece)
        longest.append(max(worst, time.thread_time() - began) * 1e3)
    return longest[0], longest[1]


# -- ways to read a socket -------------------------------------------------------------------------


def made_core(tasks: int) -> Core:
    core = make_core(
        Config(masters=(f"{LOCAL}:1",), external_on=False), (), (), RealClock(), random.Random(1)
    )
    event = {"type": "SUBSCRIBED", "subscribed": {"get_state": state(tasks)}}
    greeting = at_once(read_greeting(plain_json.dumps(event).encode(), {}))
    assert greeting is not None
    core.naming.take([greeting.snapshot, facts.Masters(None)])
    core.naming.use(True)
    return core


def sync_loop(core: Core, sock: socket.socket) -> None:
    """Receive, look up, send, and nothing else."""
    sock.setblocking(True)
    hot, respond = core.answers.hot, core.answers.respond
    while True:
        query, address = sock.recvfrom(4096)
        reply = hot(query)
        if reply is None:
            made = respond(query)
            assert isinstance(made, bytes)
            reply = made
        sock.sendto(reply, address)


def burst_loop(core: Core, sock: socket.socket) -> None:
    """What the server does: bursts from uvloop."""

    async def run() -> None:
        UdpSocket(sock, core.service).start()
        await asyncio.get_running_loop().create_future()

    uvloop.run(run())


def protocol_loop(core: Core, sock: socket.socket) -> None:
    """A DatagramProtocol of uvloop."""

    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self._transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            reply = core.answers.hot(data) or core.answers.respond(data)
            self._transport.sendto(reply, addr)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(Protocol, sock=sock)
        await loop.create_future()

    uvloop.run(run())


LOOPS: Final[Mapping[str, Callable[[Core, socket.socket], None]]] = {
    "sync": sync_loop,
    "burst": burst_loop,
    "protocol": protocol_loop,
}


def serve_loop(name: str, tasks: int, fd: int) -> None:
    """The process that `compare_loops` starts."""
    with socket.socket(fileno=fd) as sock:
        sock.setblocking(False)
        LOOPS[name](made_core(tasks), sock)


def compare_loops(tasks: int, seconds: int) -> None:
    """Processor time per A query of each way."""
    for name in (*LOOPS, *LOOPS):
        with (
            tempfile.NamedTemporaryFile("w") as names,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            sock.bind((LOCAL, 0))
            port = sock.getsockname()[1]
            argv = [sys.executable, "-m", "mesostk.tests.perf.dns", f"--tasks={tasks}",
                    f"--serve={name}", f"--fd={sock.fileno()}"]  # fmt: skip
            process = subprocess.Popen(argv, pass_fds=(sock.fileno(),))
            try:
                while not ask(port, "app0.marathon.mesos"):
                    assert process.poll() is None
                names.write("".join(f"{one} A\n" for one in names_of("A", tasks)))
                names.flush()
                Load(port, Path(names.name), None, 4)
                times = psutil.Process(process.pid)
                before = sum(times.cpu_times()[:2])
                load = Load(port, Path(names.name), seconds, 4)
                each = (sum(times.cpu_times()[:2]) - before) / load.completed * 1e6
                print(f"  {name:9}{load.per_second:8.0f} q/s  {each:5.1f} µs CPU/query")
            finally:
                process.kill()
                process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--loops", action="store_true", help="compare ways to read a socket")
    parser.add_argument("--serve", choices=list(LOOPS), help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_loop(options.serve, options.tasks[0], options.fd)
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, {psutil.cpu_count()} cores")
    if options.loops:
        compare_loops(options.tasks[-1], options.seconds)
        return
    for tasks in options.tasks:
        first, anew = longest_piece_ms(tasks)
        print(f"{tasks} tasks taken in: longest piece {first:.1f} ms of processor time,"
              f" {anew:.1f} ms when all addresses are new")  # fmt: skip
        for workers in options.workers:
            measure(tasks, workers, options.seconds)


if __name__ == "__main__":
    main()
