"""A load-balanced app in a lab under constant requests, which counts those that fail."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

import requests

from mesostk.testing.balanced import Load

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
        answer = requests.put(f"{self.marathon}/v2/apps/balanced", json=APP, timeout=30)
        assert answer.status_code in (200, 201), answer.text
        self._wait_served()
        self._thread.start()
        assert self._begun.wait(60), self._load.failures[:3]
        return self

    def _wait_served(self) -> None:
        session = requests.Session()
        retry = requests.adapters.Retry(
            total=None, connect=60, read=60, status=60, status_forcelist=[503], backoff_factor=0.5
        )
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        assert session.get(self.url, timeout=10).status_code == 200

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        requests.delete(f"{self.marathon}/v2/apps/balanced", timeout=30)

    def tasks(self) -> list[dict[str, Any]]:
        """The app's tasks as Marathon tells them."""
        found = requests.get(f"{self.marathon}/v2/apps/balanced/tasks", timeout=30).json()
        return list(found["tasks"])
