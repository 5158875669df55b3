"""Servers that are no Marathon and no master: said in a line, with where the address comes from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from mesostk.cli import contexts
from mesostk.cli.app import app

#: What a server answers to everything.
ANSWERS: Final = {
    "page": b"<html><body>It works!</body></html>",
    "cut off": b'{"apps": [{"id": "/a"',
    "no text": b"\xff\xfe\0",
    "deep": b"[" * 100_000,
}
WORDS: Final = (["apps"], ["app", "/a"], ["agents"], ["tasks"], ["scale", "/a", "2"], ["why", "/a"])


class Strange(ThreadingHTTPServer):
    """Says the same to all."""

    daemon_threads = True
    answer = b""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Strange)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Not to the tests' output."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Strange]:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    with Strange(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        contexts.remember("x", contexts.Context(masters=[url], marathons=[url]))
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_that_is_no_json_is_said_with_the_address(server: Strange, kind: str) -> None:
    server.answer = ANSWERS[kind]
    for words in WORDS:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1, (words, result.exception)
        said = " ".join(result.stderr.split())
        assert f"http://127.0.0.1:{server.server_port}/" in said, words
        assert "answers what is no JSON" in said, words
        assert "`mesostk context list`" in said, words
