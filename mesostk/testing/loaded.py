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

#: Dies at once on SIGTERM, so that only a kill after real draining loses no request.
APP: dict[str, Any] = {
    "id": "/balanced",
    "cmd": "exec /usr/bin/python3 -m http.server $PORT0",
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
            "timeoutSeconds": 10,
            "gracePeriodSeconds": 60,
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
            until("all its instances serve", self._is_whole)
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

    def _is_whole(self) -> bool:
        """Whether all that is wanted runs and is healthy."""
        app = self._ask("GET", "").json()["app"]
        return bool(app["tasksHealthy"] == app["instances"] and not app["deployments"])

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
