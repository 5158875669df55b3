"""A load-balanced app in a lab under constant requests, which counts those that fail."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

import requests

from mesostk.testing.balanced import Load
from mesostk.testing.labs import ANSWER_S, LIMIT_S, page, until

#: The server of Python's http.server, with room for the requests that come while it is starved:
#: of more than five the kernel drops the connections.
SERVER = (
    "import http.server as s, os; t = s.ThreadingHTTPServer; t.request_queue_size = 128; "
    't(("", int(os.environ["PORT0"])), s.SimpleHTTPRequestHandler).serve_forever()'
)

#: Dies at once on SIGTERM, so that only a kill after real draining loses no request.
APP: dict[str, Any] = {
    "id": "/balanced",
    "cmd": f"exec /usr/bin/python3 -c '{SERVER}'",
    "instances": 2,
    # Its share on a busy machine: an app that is starved answers late whatever is done to hosts.
    "cpus": 0.2,
    "mem": 32,
    "portDefinitions": [{"port": 10100, "protocol": "tcp"}],
    "labels": {"HAPROXY_GROUP": "external"},
    "healthChecks": [
        {
            "protocol": "MESOS_HTTP",
            "portIndex": 0,
            "path": "/",
            "intervalSeconds": 1,
            "timeoutSeconds": 60,
            "gracePeriodSeconds": 60,
            # A task that a busy machine starves is not replaced: that is no loss of day two's.
            "maxConsecutiveFailures": 0,
        }
    ],
}

#: Requests a second: the load is there to notice a gap, not to be one.
RATE = 15.0


class LoadedApp:
    """The app while this is entered; requests go through the balancer at `balancer`."""

    id: str = APP["id"]

    def __init__(self, marathon: str, balancer: str) -> None:
        self.marathon = marathon
        self.url = f"http://{balancer}:10100/"
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._load = Load(self.url, rate=RATE)

    @property
    def answers(self) -> int:
        """Requests that were answered."""
        return self._load.answers.total()

    @property
    def failures(self) -> Counter[str]:
        """Requests that were not, by reason."""
        return Counter(self._load.failures)

    async def _run(self) -> None:
        async with self._load:
            await self._load.more(10)
            self._begun.set()
            await asyncio.to_thread(self._stop.wait)

    def __enter__(self) -> Self:
        answer = self._ask("PUT", "", json=APP)
        assert answer.status_code in (200, 201), answer.text
        try:
            page(self.url)
            # Tasks that are started side by side need not serve at the same time.
            self.settle()
            self._thread.start()
            assert self._begun.wait(LIMIT_S), self._load.failures[:3]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Marathon's answer about the app, asked again while nobody leads."""
        url = f"{self.marathon}/v2/apps/balanced{path}"

        def answered() -> tuple[requests.Response] | None:
            answer = requests.request(method, url, timeout=ANSWER_S, **options)
            return None if answer.status_code in (502, 503) else (answer,)

        return until(f"an answer to {method} {url}", answered)[0]

    def settle(self) -> None:
        """Return once all its instances serve, and none is left of others."""
        until("all its instances serve", self._is_whole)

    def _is_whole(self) -> bool:
        """Whether all that is wanted runs and is healthy, and nothing else is there."""
        app = self._ask("GET", "").json()["app"]
        return bool(
            app["tasksHealthy"] == len(app["tasks"]) == app["instances"] and not app["deployments"]
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LIMIT_S)
        self._ask("DELETE", "?force=true")

    def tasks(self) -> list[dict[str, Any]]:
        """The app's tasks as Marathon tells them."""
        return list(self._ask("GET", "/tasks").json()["tasks"])
