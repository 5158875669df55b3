"""The module agent_drain: what goes on after the run that asked for it was interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

LIMIT_S = 90.0
AGENT = {"id": "S1", "hostname": "10.0.3.51", "pid": "slave(1)@10.0.3.51:5051"}


class Stubborn(BaseHTTPRequestHandler):
    """A master and a Marathon whose instance never leaves."""

    told: ClassVar[threading.Event]

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
            self._answer(200, {"slaves": [AGENT]})
        else:
            self._instances()

    def do_POST(self) -> None:
        self._instances()
        self.told.set()

    def _instances(self) -> None:
        one = {"id": "web.1", "app": "/web", "condition": "Running", "leaving": True}
        self._answer(200, {"instances": [one]})

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def stubborn() -> Iterator[str]:
    Stubborn.told = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Stubborn) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_it_does_not_outlive_who_asked_for_it(stubborn: str, tmp_path: Path) -> None:
    wanted = {"agent": "10.0.3.51:5051", "masters": [stubborn], "marathons": [stubborn]}
    arguments = tmp_path / "arguments.json"
    arguments.write_text(
        json.dumps({"ANSIBLE_MODULE_ARGS": {**wanted, "state": "evacuated", "wait_s": 600}})
    )
    module = "from mesostk.testing.plugins import load; load('library', 'agent_drain').main()"
    process = subprocess.Popen(
        [sys.executable, "-c", module, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert Stubborn.told.wait(LIMIT_S)
        assert process.poll() is None
        assert process.stdout is not None
        process.stdout.close()
        process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()
