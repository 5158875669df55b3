"""Commands that wait for a deployment, while Marathon changes its leader."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mesostk.testing.labs import mesostk

RUNNING = [{"id": "d-1"}]
NOBODY_LEADS = 503


class Marathon(ThreadingHTTPServer):
    """A deployment that nobody knows of between two leaders."""

    def __init__(self) -> None:
        #: What questions for deployments are answered, the last for ever.
        self.told: list[object] = [NOBODY_LEADS, RUNNING, NOBODY_LEADS, NOBODY_LEADS, RUNNING, []]
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Marathon

    def do_GET(self) -> None:
        if self.path == "/v2/deployments":
            told = self.server.told
            self._send(told.pop(0) if len(told) > 1 else told[0])
        elif self.path == "/v2/apps/web":
            self._send({"app": {"id": "/web", "instances": 3}})
        elif self.path == "/v2/events":
            self._send({})
        else:
            self.send_error(404)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send({"deploymentId": "d-1"})

    def _send(self, body: object) -> None:
        is_known = body != NOBODY_LEADS
        data = json.dumps(body if is_known else {"message": "no leader"}).encode()
        self.send_response(200 if is_known else NOBODY_LEADS)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Nothing: the test says what went wrong."""


@pytest.fixture
def marathon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marathon]:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.delenv("MESOSTK_CONTEXT", raising=False)
    with Marathon() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        added = mesostk("context", "add", "here", "--marathon", url, "--master", url)
        assert added.returncode == 0, added.stderr
        yield server
        server.shutdown()
        thread.join()


def test_a_deployment_is_waited_for_while_nobody_leads(marathon: Marathon) -> None:
    done = mesostk("scale", "web", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert marathon.told == [[]]


def test_it_is_not_waited_for_longer_than_is_asked_for(marathon: Marathon) -> None:
    marathon.told = [NOBODY_LEADS]
    done = mesostk("scale", "web", "3", "--timeout", "1")
    assert done.returncode == 1
    assert "Marathon cannot be reached" in done.stderr
    assert "no leader" in done.stderr
