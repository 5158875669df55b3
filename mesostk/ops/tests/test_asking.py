"""What Ansible's modules share, against real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mesostk.testing.plugins import load

asking = load("module_utils", "asking")


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = {
            "/redirect": (307, b""),
            "/echo": (200, sent),
            "/text": (404, b"no such page"),
        }[self.path]
        self.send_response(status)
        self.send_header("Location", "/echo")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # A proxy for the web, which must not be asked.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_redirect_is_an_answer_unless_it_is_to_be_followed(url: str) -> None:
    status, headers, body = asking.ask_json("GET", url + "/redirect")
    assert (status, headers["Location"], body) == (307, "/echo", None)
    assert asking.ask("GET", url + "/redirect", follow=True)[0] == 200


def test_answers_of_every_status_are_read_as_what_they_are(url: str) -> None:
    assert asking.ask_json("POST", url + "/echo", {"a": 1})[::2] == (200, {"a": 1})
    assert asking.ask_json("GET", url + "/text")[::2] == (404, "no such page")
    assert asking.ask("POST", url + "/echo", "x" * 100, limit=5)[2] == b'"xxxx'


def test_nobody_who_answers_is_an_error() -> None:
    with pytest.raises(OSError, match="refused"):
        asking.ask("GET", "http://127.0.0.1:1/")
    mode, said = asking.zookeeper_mode("127.0.0.1", 1)
    assert mode is None
    assert "cannot be reached" in said


def test_a_server_that_ends_amidst_its_answer_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(OSError, match="IncompleteRead"):
            asking.ask("GET", f"http://127.0.0.1:{server.getsockname()[1]}/")


@pytest.mark.parametrize(
    ("answer", "mode"), [(b"Zookeeper\nMode: follower\n", "follower"), (b"not serving\n", None)]
)
def test_zookeeper_says_its_mode_or_why_not(answer: bytes, mode: str | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        found, said = asking.zookeeper_mode(*server.getsockname())
    assert found == mode
    assert said
