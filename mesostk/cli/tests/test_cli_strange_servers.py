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

#: JSON that is another's, and commands that look into what they are answered.
OTHERS: Final = (b"[1]", b"null", b"{}", b'{"apps":3,"app":3,"tasks":3,"slaves":3}', b"7")
READING: Final = (
    *WORDS, ["status"], ["logs", "a.1"], ["destroy", "/a", "--yes"], ["explain-offers", "a"],
    ["doctor"], ["impact", "a"],
)  # fmt: skip


class Strange(ThreadingHTTPServer):
    """Says the same to all."""

    daemon_threads = True
    answer = b""
    #: … but to who asks for pods, if anything.
    pods: bytes | None = None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Strange)
        answer = self.server.answer
        if self.server.pods is not None and self.path.startswith("/v2/pods"):
            answer = self.server.pods
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the server's names

    def log_message(self, format: str, *args: object) -> None:
        """Not to the tests' output."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Strange]:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    with Strange(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
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


@pytest.mark.parametrize("answer", OTHERS, ids=bytes.decode)
def test_json_that_is_not_as_expected_is_no_traceback(server: Strange, answer: bytes) -> None:
    server.answer = answer
    for words in READING:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1, (words, result.exception)
        said = " ".join(result.stderr.split())
        assert f"http://127.0.0.1:{server.server_port}/" in said, words
        assert "not as expected" in said, words
        assert "`mesostk context list`" in said, words


def test_a_defect_is_shown_to_who_asks_for_it(
    server: Strange, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = b"{}"
    monkeypatch.setenv("MESOSTK_TRACEBACK", "1")
    result = CliRunner().invoke(app, ["agents"])
    assert isinstance(result.exception, KeyError)


def test_names_do_not_drive_the_terminal(server: Strange) -> None:
    app_id = "/a\\u001b]0;x\\u0007\\u009b2J"
    server.pods = b"[]"
    server.answer = (
        f'{{"apps":[{{"id":"{app_id}","instances":1,"cpus":1,"mem":1,"version":"x"}}]}}'.encode()
    )
    for words in (["apps"], ["apps", "-o", "name"], ["tasks"]):
        result = CliRunner().invoke(app, words)
        text = result.stdout + result.stderr
        assert not set(text) & {"\x1b", "\x07", "\x9b"}, words
        assert words == ["tasks"] or "/a\\x1b]0;x\\x07\\x9b2J" in text
