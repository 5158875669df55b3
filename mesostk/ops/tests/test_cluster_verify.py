"""The module cluster_verify: all that is not well is told, and its probe app does not stay."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

#: For what hangs; the module gives up before.
LIMIT_S = 400.0
#: Nothing listens there.
NOBODY = "127.0.0.1:1"


class Cluster(BaseHTTPRequestHandler):
    """A master and a Marathon in one, as the server's attributes say."""

    server: Fake

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "//" + self.headers["Host"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path.startswith("/v2/apps/"):
            self._answer(200, {"app": {"id": self.path[8:], "tasksRunning": 1}})
            return
        agents = [{"pid": "slave(1)@10.0.3.51:5051", "active": True}]
        self._answer(
            *{
                "/redirect": (307, {}),
                "/slaves": (200, {"slaves": agents}),
                "/v2/leader": (200, {"leader": self.headers["Host"]}),
                "/v2/info": (200, {"marathon_config": {"framework_name": "marathon"}}),
                "/v1/hosts/leader.mesos": (200, [{"host": "leader.mesos.", "ip": ""}]),
            }[self.path]
        )

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append(("PUT", self.path))
        self._answer(201, {})

    def do_DELETE(self) -> None:
        self.server.calls.append(("DELETE", self.path))
        self._answer(self.server.removals.pop(0), {})

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


class Fake(ThreadingHTTPServer):
    """The cluster, what it was asked to change, and what it answers to removals."""

    def __init__(self, removals: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Cluster)
        self.calls: list[tuple[str, str]] = []
        self.removals = removals

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Member(socketserver.BaseRequestHandler):
    """A ZooKeeper that serves."""

    def handle(self) -> None:
        self.request.recv(4)
        self.request.sendall(b"Mode: standalone\n")


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    with server:
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake([503, 200])
    with serving(server):
        yield server


@pytest.fixture
def zookeeper() -> Iterator[str]:
    server = socketserver.TCPServer(("127.0.0.1", 0), Member)
    with serving(server):
        yield f"127.0.0.1:{server.server_address[1]}"


def verify(tmp_path: Path, **wanted: Any) -> dict[str, Any]:
    """What the module answers."""
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": wanted}))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mesostk.testing.plugins import load; load('library', 'cluster_verify').main()",
            arguments,
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_all_that_is_not_well_is_told_at_once(fake: Fake, tmp_path: Path) -> None:
    answer = verify(
        tmp_path,
        zookeepers=[NOBODY],
        masters=[fake.at, NOBODY],
        agents=["10.0.3.51:5051", "10.0.3.52:5051"],
        dns_http=[fake.at],
        marathons=[NOBODY],
        probe=True,
        wait_s=1,
    )
    assert answer["failed"] is True
    head, *found = answer["msg"].splitlines()
    assert head == "not well after 1 s (verify_wait_s):"
    for line, words in zip(
        found,
        (
            f"- ZooKeeper {NOBODY} does not serve (it cannot be reached: ",
            f"- http://{NOBODY}/redirect cannot be reached: ",
            f"- agents 10.0.3.52:5051 are not registered with {fake.at}: look at journalctl",
            "- Mesos-DNS has no address for leader.mesos: ",
            f"- http://{NOBODY}/v2/leader cannot be reached: ",
        ),
        strict=True,
    ):
        assert line.startswith(words)
    assert fake.calls == [], "no app is run where the rest is not well"


def test_an_app_that_was_not_removed_is_removed_by_the_next_attempt(
    fake: Fake, zookeeper: str, tmp_path: Path
) -> None:
    answer = verify(
        tmp_path,
        zookeepers=[zookeeper],
        masters=[fake.at],
        agents=["10.0.3.51:5051"],
        marathons=[fake.at],
        probe=True,
    )
    assert answer.get("checks") == [
        f"ZooKeeper: 1 members, {zookeeper} leads",
        f"masters: 1, {fake.at} leads",
        "agents: 1 registered",
        f"Marathons: 1, {fake.at} leads",
        "probe app: a task ran",
    ], answer
    assert [method for method, _ in fake.calls] == ["PUT", "DELETE", "PUT", "DELETE"]
    assert len({path for _, path in fake.calls}) == 1


def test_seconds_that_are_none_are_refused_by_the_name_of_the_variable(tmp_path: Path) -> None:
    answer = verify(tmp_path, zookeepers=[], masters=[], agents=[], wait_s=0)
    assert answer["msg"] == "verify_wait_s is 0; give it seconds, 1 or more"
