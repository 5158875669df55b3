"""The module agent_drain: what goes on after the run that asked for it was interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mesostk.testing.plugins import load

agent_drain = load("library", "agent_drain")

LIMIT_S = 90.0
AGENT = {"id": "S1", "hostname": "10.0.3.51", "pid": "slave(1)@10.0.3.51:5051"}


class Stubborn(BaseHTTPRequestHandler):
    """A master and a Marathon whose instance never leaves unless it `leaves`."""

    told: ClassVar[threading.Event]
    leaves: ClassVar[bool]
    #: Of Marathon's next questions, those that it answers with: nobody leads.
    refused: ClassVar[set[int]]
    asked: ClassVar[int]
    calls: ClassVar[list[str]]

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "//" + self.headers["Host"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/redirect":
            self._answer(307, {})
        elif self.path == "/slaves":
            deactivated = "REACTIVATE_AGENT" not in self.calls
            self._answer(200, {"slaves": [{**AGENT, "deactivated": deactivated}]})
        else:
            self._instances()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/v1":
            self.calls.append(json.loads(body)["type"])
            self._answer(200, {})
        else:
            self._instances("evacuate")
            self.told.set()

    def do_DELETE(self) -> None:
        self._instances("stay")

    def _instances(self, call: str = "") -> None:
        type(self).asked += 1
        if self.asked in self.refused:
            self._answer(503, {"message": "Could not determine the current leader"})
            return
        if call:
            self.calls.append(call)
        told = "evacuate" in self.calls
        one = {"id": "web.1", "app": "/web", "condition": "Running", "leaving": told}
        self._answer(200, {"instances": [] if told and self.leaves else [one]})

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def stubborn() -> Iterator[str]:
    Stubborn.told = threading.Event()
    Stubborn.leaves, Stubborn.refused, Stubborn.asked, Stubborn.calls = False, set(), 0, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Stubborn) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def begun(server: str, tmp_path: Path, **wanted: Any) -> subprocess.Popen[bytes]:
    """The module as Ansible starts it."""
    wanted = {"agent": "10.0.3.51:5051", "masters": [server], "marathons": [server], **wanted}
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": wanted}))
    module = "from mesostk.testing.plugins import load; load('library', 'agent_drain').main()"
    return subprocess.Popen(
        [sys.executable, "-c", module, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_it_does_not_outlive_who_asked_for_it(stubborn: str, tmp_path: Path) -> None:
    process = begun(stubborn, tmp_path, state="evacuated", wait_s=600)
    try:
        assert Stubborn.told.wait(LIMIT_S)
        assert process.poll() is None
        assert process.stdout is not None
        process.stdout.close()
        process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("state", "refused", "calls"),
    [
        ("evacuated", {1, 2}, ["evacuate"]),
        ("evacuated", {2}, ["evacuate"]),
        ("active", {1, 2}, ["REACTIVATE_AGENT", "stay"]),
    ],
)
def test_marathons_between_two_leaders_are_asked_again(
    stubborn: str, tmp_path: Path, state: str, refused: set[int], calls: list[str]
) -> None:
    Stubborn.leaves, Stubborn.refused = True, refused
    out, _ = begun(stubborn, tmp_path, state=state, wait_s=600).communicate(timeout=LIMIT_S)
    answer = json.loads(out)
    assert answer["changed"], answer
    assert (answer["agent_id"], answer["left"]) == ("S1", [])
    assert Stubborn.calls == calls


def test_an_agent_takes_tasks_again_though_no_marathon_answers(
    stubborn: str, tmp_path: Path
) -> None:
    Stubborn.refused = set(range(1000))
    out, _ = begun(stubborn, tmp_path, state="active", wait_s=1).communicate(timeout=LIMIT_S)
    answer = json.loads(out)
    assert answer["failed"]
    assert "it takes tasks again, but moves its own" in answer["msg"]
    assert "503" in answer["msg"]
    assert Stubborn.calls == ["REACTIVATE_AGENT"]


class Electing:
    """Masters of whom nobody leads at the first questions; then the leader says what it knows."""

    agent = "10.0.3.51:5051"

    def __init__(self, agent: dict[str, Any] | None) -> None:
        self.silent = 3
        self.told = agent

    def known(self) -> dict[str, Any] | None:
        self.silent -= 1
        if self.silent >= 0:
            raise agent_drain.Problem("no master knows who leads")
        return self.told


def test_masters_without_a_leader_are_waited_for_longer_than_an_agent_that_none_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_drain, "FIND_S", 0.0)
    end = time.monotonic() + LIMIT_S
    assert agent_drain.find(Electing(AGENT), end) == AGENT
    with pytest.raises(agent_drain.Problem, match="no master has an agent"):
        agent_drain.find(Electing(None), end)
