"""Sends every event to the callback URLs: one after the other to each, all URLs side by side.

::

    event as JSON ─▶ a queue for each URL (1000 events) ─▶ POST ─▶ next
                        └ full, or the URL is muted: dropped and counted
    a POST that fails or takes too long mutes its URL for that time

Source: spec/marathon §1.8 (slow consumers are skipped for a while).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mesostk.base.client import Client
from mesostk.base.clock import Clock
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.errors import Unavailable
from mesostk.marathon.events import SetCallbacks

#: Events that wait for one URL; some seconds of a busy cluster.
MAX_WAITING: Final = 1000

HEADERS: Final = {"Content-Type": "application/json"}


class _Target:
    """One URL and what waits for it."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.filled = asyncio.Event()
        self.muted_until = 0.0


class Poster:
    """Performs `SetCallbacks`, and takes every event as JSON."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        start: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]],
        log: Log,
        metrics: Metrics,
        slow_s: float,
    ) -> None:
        self._client = client
        self._clock = clock
        self._start = start
        self._log = log
        self._slow_s = slow_s
        self._targets: dict[str, _Target] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dropped = metrics.counter("marathon.event-callbacks.dropped.counter")

    def set(self, effect: SetCallbacks) -> None:
        """Perform `SetCallbacks`; what waits for a URL that is gone is dropped."""
        for url in [url for url in self._targets if url not in effect.urls]:
            del self._targets[url]
            self._tasks.pop(url).cancel()
        for url in effect.urls:
            if url not in self._targets:
                target = self._targets[url] = _Target()
                self._tasks[url] = self._start(f"callback {url}", self._send(url, target))

    def post(self, event: bytes) -> None:
        """Send an event to all URLs, without waiting."""
        now = self._clock.monotonic()
        for target in self._targets.values():
            if now < target.muted_until or len(target.waiting) >= MAX_WAITING:
                self._dropped.value += 1
                continue
            target.waiting.append(event)
            target.filled.set()

    async def _send(self, url: str, target: _Target) -> None:
        while True:
            await target.filled.wait()
            event = target.waiting.popleft()
            if not target.waiting:
                target.filled.clear()
            why = await self._why_failed(url, event)
            if why is not None:
                self._log.warning("Muting callback", url=url, seconds=self._slow_s, reason=why)
                target.muted_until = self._clock.monotonic() + self._slow_s
                self._dropped.value += len(target.waiting)
                target.waiting.clear()
                target.filled.clear()

    async def _why_failed(self, url: str, event: bytes) -> str | None:
        try:
            answer = await self._client.request("POST", url, event, HEADERS, self._slow_s)
        except Unavailable as error:
            return str(error)
        return None if answer.status < 400 else f"HTTP {answer.status}"
