"""The I/O of health and readiness checks: HTTP requests and TCP connections, in limited number.

::

    StartProbes ─▶ heap of (due, probe) ─▶ one task sleeps until the next is due
                        ▲                        └─▶ at most 256 at once ─▶ ProbeResult
                        └──────── next round, interval later ◀──────────┘

One sleeping task serves every probe. Health checks need a status only (`knocking`); readiness
checks show the answer, so they go through a client session, without redirects and cookies.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import string
from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from mesostk.base.clock import Clock
from mesostk.marathon.events import Probe, ProbeResult, StartProbes, StopProbes
from mesostk.marathon.health import ProbeOutcome
from mesostk.marathon.instances import InstanceId
from mesostk.marathon.knocking import any_certificate, connect, status_of

#: Probes under way at once; the rest waits its turn (`--max_concurrent_marathon_health_checks`).
MAX_AT_ONCE: Final = 256

#: What is read of a readiness answer; the rest is dropped.
MAX_BODY_BYTES: Final = 4096

GOOD_STATUSES: Final = range(200, 400)
INFORMATIONAL: Final = range(100, 200)


class Prober:
    """Probes instances and feeds what it saw to the core."""

    def __init__(
        self,
        clock: Clock,
        feed: Callable[[ProbeResult], None],
        start: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]],
        max_at_once: int = MAX_AT_ONCE,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._start = start
        self._max_at_once = max_at_once
        self._rounds: dict[InstanceId, int] = {}
        self._due: list[tuple[float, int, InstanceId, int, Probe]] = []
        self._order = itertools.count()
        self._generation = itertools.count(1)
        self._wake = asyncio.Event()
        self._free = asyncio.Semaphore(max_at_once)
        self._session: aiohttp.ClientSession | None = None
        self._tls = any_certificate()

    def begin(self, effect: StartProbes) -> None:
        """Perform `StartProbes`; what ran for the instance before ends."""
        generation = next(self._generation)
        self._rounds[effect.instance_id] = generation
        now = self._clock.monotonic()
        for probe in effect.probes:
            self._plan(now + probe.first_s, effect.instance_id, generation, probe)

    def end(self, effect: StopProbes) -> None:
        """Perform `StopProbes`; a probe under way is not reported any more."""
        self._rounds.pop(effect.instance_id, None)

    def _plan(self, due: float, id: InstanceId, generation: int, probe: Probe) -> None:
        heapq.heappush(self._due, (due, next(self._order), id, generation, probe))
        self._wake.set()

    async def run(self) -> None:
        """Probe for ever."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True, ssl=False)
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as session:
            self._session = session
            while True:
                await self._until_due()
                due, _, id, generation, probe = heapq.heappop(self._due)
                if self._rounds.get(id) != generation:
                    continue
                await self._free.acquire()
                self._start(f"probe {id}", self._round(due, id, generation, probe))

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            wait_s = self._due[0][0] - self._clock.monotonic() if self._due else None
            if wait_s is not None and wait_s <= 0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _round(self, due: float, id: InstanceId, generation: int, probe: Probe) -> None:
        try:
            result = await self._probe(id, probe)
        finally:
            self._free.release()
        if self._rounds.get(id) != generation:
            return
        # A slow round delays the next one; rounds that were missed are not made up for.
        self._plan(max(due + probe.interval_s, self._clock.monotonic()), id, generation, probe)
        if result is not None:
            self._feed(result)

    async def _probe(self, id: InstanceId, probe: Probe) -> ProbeResult | None:
        try:
            async with asyncio.timeout(probe.timeout_s):
                if probe.kind == "TCP":
                    return await self._tcp(id, probe)
                if probe.ready_codes is not None:
                    return await self._readiness(id, probe, probe.ready_codes)
                return await self._health(id, probe)
        except TimeoutError:
            cause = f"no answer from {probe.host}:{probe.port} in {probe.timeout_s:g} s"
        except (OSError, aiohttp.ClientError, ValueError) as error:
            cause = f"{probe.host}:{probe.port}: {str(error) or type(error).__name__}"
        return ProbeResult(id, probe.index, ProbeOutcome(alive=False, cause=cause))

    async def _tcp(self, id: InstanceId, probe: Probe) -> ProbeResult:
        await connect(probe.host, probe.port)
        return ProbeResult(id, probe.index, ProbeOutcome(alive=True))

    async def _health(self, id: InstanceId, probe: Probe) -> ProbeResult | None:
        tls = self._tls if probe.kind == "HTTPS" else None
        status = await status_of(probe.host, probe.port, _path(probe), tls)
        if status in INFORMATIONAL and probe.ignore_1xx:
            return None
        alive = status in GOOD_STATUSES
        cause = None if alive else f"HTTP {status}"
        return ProbeResult(id, probe.index, ProbeOutcome(alive=alive, cause=cause), status=status)

    async def _readiness(
        self, id: InstanceId, probe: Probe, ready_codes: tuple[int, ...]
    ) -> ProbeResult:
        assert self._session is not None
        scheme = "https" if probe.kind == "HTTPS" else "http"
        host = f"[{probe.host}]" if ":" in probe.host else probe.host
        url = f"{scheme}://{host}:{probe.port}{_path(probe)}"
        async with self._session.get(url, allow_redirects=False) as answer:
            alive = answer.status in ready_codes
            body = await answer.content.read(MAX_BODY_BYTES)
            return ProbeResult(
                id,
                probe.index,
                ProbeOutcome(alive=alive, cause=None if alive else f"HTTP {answer.status}"),
                status=answer.status,
                content_type=answer.headers.get("Content-Type", ""),
                body=body.decode(errors="replace"),
            )


def _path(probe: Probe) -> str:
    """The path as it may stand in a request's first line."""
    path = probe.path if probe.path.startswith("/") else "/" + probe.path
    return quote(path, safe=string.punctuation)
