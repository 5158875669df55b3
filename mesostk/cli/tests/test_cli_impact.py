"""What impact takes for serving: what answers now, not what the context names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mesostk.cli.contexts import Context
from mesostk.cli.observation import ensembles
from mesostk.cli.status import edge_states
from mesostk.ops.impact import ensemble_impact

#: Loopback address of a host → status with which its services answer; the third says nothing.
STATUS = {"127.0.9.1": 200, "127.0.9.2": 503}
SILENT = "127.0.9.3"


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(STATUS[self.headers["Host"].partition(":")[0]])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def urls() -> Iterator[list[str]]:
    servers = [ThreadingHTTPServer((host, 0), _Answers) for host in STATUS]
    for one in servers:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    port = servers[0].server_address[1]
    yield [
        *(
            f"http://{host}:{one.server_address[1]}"
            for host, one in zip(STATUS, servers, strict=True)
        ),
        f"http://{SILENT}:{port}",
    ]
    for one in servers:
        one.shutdown()
        one.server_close()


def test_names_and_balancers_are_counted_by_who_answers(urls: list[str]) -> None:
    context = Context(masters=[], marathons=[], dns=urls, balancers=urls)
    states = edge_states(context)
    assert [one["state"] for one in states] == ["serving", "unreachable", "unreachable"] * 2
    found = ensembles(states, {})
    assert [one.name for one in found] == ["mesos-dns", "marathon-lb"]
    for one in found:
        last = ensemble_impact(one, frozenset({"127.0.9.1"}))
        assert last is not None
        assert (last.left, last.fails, last.silent) == (0, True, ("127.0.9.2", SILENT))
        spare = ensemble_impact(one, frozenset({SILENT}))
        assert spare is not None
        assert (spare.left, spare.fails, spare.silent) == (1, False, ("127.0.9.2",))
