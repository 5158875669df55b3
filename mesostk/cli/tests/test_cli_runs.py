"""The ledger as an operator meets it: a change that is killed is seen, and run again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mesostk.testing.labs import mesostk

APP = {"id": "/web", "instances": 1}


class Marathon:
    """Knows one app; what a change is answered is up to the test."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.answer.set()
        self.changes = 0
        marathon = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                there = self.path == "/v2/apps/web"
                self._send(200 if there else 404, {"app": APP} if there else {"message": "no"})

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                marathon.changes += 1
                marathon.asked.set()
                while not marathon.answer.wait(5):
                    self._patience()
                self._send(marathon.status, {"message": "no", "deploymentId": "d-1"})

            def _patience(self) -> None:
                """However long it takes, who asked does not give up."""
                with contextlib.suppress(ConnectionError):  # it was killed meanwhile
                    self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

            def _send(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except ConnectionError:
                    # who asked was killed meanwhile
                    self.close_connection = True

            def log_message(self, *_args: object) -> None:
                """Nothing: the test says what went wrong."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.answer.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def marathon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marathon]:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.setenv("MESOSTK_LEDGER_DIR", str(tmp_path / "ledger"))
    monkeypatch.delenv("MESOSTK_CONTEXT", raising=False)
    one = Marathon()
    added = mesostk("context", "add", "here", "--marathon", one.url, "--master", one.url)
    assert added.returncode == 0, added.stderr
    yield one
    one.close()


def runs() -> list[dict[str, object]]:
    listed = mesostk("runs", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return list(json.loads(listed.stdout))


SCALE = ("scale", "web", "3", "--no-wait")


def test_a_change_is_listed_with_its_outcome(marathon: Marathon) -> None:
    assert runs() == []
    assert mesostk(*SCALE).returncode == 0
    marathon.status = 422
    failed = mesostk(*SCALE)
    assert failed.returncode == 1
    good, bad = runs()
    assert (good["outcome"], good["verb"], good["context"]) == ("done", "scale", "here")
    assert good["arguments"] == list(SCALE)
    assert bad["outcome"] == "failed"
    assert f"mesostk runs resume {bad['id']}" in failed.stderr
    shown = mesostk("runs", "show", str(bad["id"])).stdout
    assert "mesostk scale web 3 --no-wait" in shown
    assert "\nno" in shown


def test_a_killed_change_is_seen_and_run_again(marathon: Marathon) -> None:
    marathon.answer.clear()
    process = subprocess.Popen([sys.executable, "-m", "mesostk", *SCALE])
    assert marathon.asked.wait(120)
    [running] = runs()
    assert running["outcome"] == "running"
    refused = mesostk("runs", "resume", str(running["id"]))
    assert refused.returncode == 1
    assert "wait until it has ended" in refused.stderr
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (killed,) = runs()
    assert killed["outcome"] == "interrupted"
    marathon.answer.set()
    dry = mesostk("runs", "resume", "--dry-run")
    assert dry.returncode == 0
    assert "mesostk scale web 3 --no-wait" in dry.stderr
    assert marathon.changes == 1
    resumed = mesostk("runs", "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert marathon.changes == 2
    first, second = runs()
    assert (first["outcome"], second["outcome"]) == ("interrupted", "done")
    assert second["resumes"] == first["id"]


def test_without_anything_to_resume_the_command_says_so(marathon: Marathon) -> None:
    done = mesostk("runs", "resume")
    assert done.returncode == 1
    assert "nothing to resume" in done.stderr
    assert mesostk("runs", "show", "x").returncode == 1
