"""Has the URIs of a command brought into its sandbox, with a cache. Source: spec §8.8.

::

    Fetch ─▶ of those that are cached: announced size ─▶ room? brought once ─┐
          └▶ one process of the task's user (fetching.py) brings all ◀───────┘ ─▶ Fetched
             CancelFetch, or the agent's end, ends it                             or FetchFailed

Sizes are asked, and files brought into the cache, by processes of the task's user, too: what it may
not read it gets from nowhere. All are started by the launcher (fetch_process.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mesostk.agent import sandbox
from mesostk.agent.events import CancelFetch, Fetch, Fetched, FetchFailed
from mesostk.agent.fetch_cache import FetchCache
from mesostk.agent.fetch_process import Cancellation, FetchError, FetchProcesses
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.errors import MesostkError
from mesostk.wire.mesos import CommandURI

#: Runs that fetch at the same time; more wait.
MAX_FETCHING = 8

#: When the agent ends, for processes that are killed to be gone, in seconds.
_PATIENCE_S = 2.0


class Fetcher:
    """Performs Fetch and CancelFetch."""

    def __init__(
        self,
        daemon: Daemon,
        feed: Callable[[Event], None],
        work_dir: Path,
        frameworks_home: str | None,
        stall_timeout_s: float,
        cache: FetchCache,
        processes: FetchProcesses,
    ) -> None:
        self._daemon = daemon
        self._feed = feed
        self._work_dir = work_dir
        self._home = frameworks_home
        self._stall_s = stall_timeout_s
        self._cache = cache
        self._processes = processes
        gauge = daemon.metrics.gauge
        gauge("containerizer/fetcher/cache_size_total_bytes", lambda: cache.capacity)
        gauge("containerizer/fetcher/cache_size_used_bytes", lambda: cache.used)
        self._turn = asyncio.Semaphore(MAX_FETCHING)
        self._cancelled: dict[str, Cancellation] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._succeeded = daemon.metrics.counter("containerizer/fetcher/task_fetches_succeeded")
        self._failed = daemon.metrics.counter("containerizer/fetcher/task_fetches_failed")

    def fetch(self, effect: Fetch) -> None:
        """Begin; the outcome is told by an event."""
        self._cancelled[effect.container_id] = Cancellation()
        working = self._daemon.start(f"fetch {effect.container_id}", self._run(effect))
        self._working.add(working)
        working.add_done_callback(self._working.discard)

    def cancel(self, effect: CancelFetch) -> None:
        """Give up soon and say nothing."""
        cancelled = self._cancelled.get(effect.container_id)
        if cancelled is not None:
            cancelled.set()

    def clear_cache(self) -> None:
        """Remove what a former agent kept. Blocks."""
        try:
            self._cache.clear()
        except OSError as error:
            self._daemon.log.error("Cache stays", why=error)

    async def close(self) -> None:
        """Stop all fetching; the runs are told as dropped after the restart."""
        for cancelled in self._cancelled.values():
            cancelled.set()
        if self._working:
            await asyncio.wait(self._working, timeout=_PATIENCE_S)

    async def _run(self, effect: Fetch) -> None:
        cancelled = self._cancelled[effect.container_id]
        try:
            async with self._turn:
                await self._fetch_all(effect, cancelled)
        except MesostkError as error:
            self._failed.value += 1
            if not cancelled.is_set():
                self._feed(FetchFailed(effect.container_id, str(error)))
        else:
            self._succeeded.value += 1
            if not cancelled.is_set():
                self._feed(Fetched(effect.container_id))
        finally:
            del self._cancelled[effect.container_id]

    async def _fetch_all(self, effect: Fetch, cancelled: Cancellation) -> None:
        directory = self._work_dir / effect.sandbox
        await self._daemon.disk(sandbox.create, directory, effect.user)
        job = Job(directory, effect.user, self._home, self._stall_s, cancelled, self._processes)
        await fetch_all(effect.uris, job, self._cache)


class Job(NamedTuple):
    """For whom, how, and by what URIs are fetched. `user` None: the agent's own."""

    directory: Path
    user: str | None
    home: str | None
    stall_s: float
    cancelled: Cancellation
    processes: FetchProcesses

    async def done(self, **order: Any) -> dict[str, Any]:
        """The answer of a process to an order; raises FetchError if there is none."""
        terms = {"user": self.user, "home": self.home, "stall_s": self.stall_s}
        nothing = {"sizes": None, "into": None}
        return await self.processes.carry_out({**terms, **nothing, **order}, self.cancelled)


async def fetch_all(uris: Iterable[CommandURI], job: Job, cache: FetchCache) -> None:
    """Bring all, said in the sandbox's stderr. Raises FetchError naming the one that fails."""
    uris = tuple(uris)
    cached = [uri.value for uri in uris if uri.cache]
    sizes = iter((await job.done(sizes=cached))["sizes"] if cached else ())
    async with contextlib.AsyncExitStack() as held:
        orders: list[dict[str, Any]] = []
        for uri in uris:
            orders.append(await _order(uri, next(sizes) if uri.cache else None, job, cache, held))
            if orders[-1]["error"] is not None:
                break
        answer = await job.done(directory=str(job.directory), uris=orders)
    if answer["error"] is not None:
        raise FetchError(str(answer["error"]))


async def _order(
    uri: CommandURI,
    announced: dict[str, Any] | None,
    job: Job,
    cache: FetchCache,
    held: contextlib.AsyncExitStack,
) -> dict[str, Any]:
    """What the process is told of a URI: if it is cached the file, in use as long as `held`."""
    kept: Path | None = None
    wrong: str | None = None
    if announced is not None:
        wrong = announced["error"]
        if announced["size"] is not None:
            bring = functools.partial(_bring, uri.value, job)
            holding = cache.hold((job.user, uri.value), announced["size"], bring)
            try:
                kept = await held.enter_async_context(holding)
            except OSError as error:
                wrong = str(error)
    return {
        "value": uri.value,
        "output_file": uri.output_file,
        "executable": bool(uri.executable),
        "extract": bool(uri.extract),
        "kept": str(kept) if kept is not None else None,
        "error": wrong,
    }


async def _bring(value: str, job: Job, path: Path) -> None:
    """Bring a URI into a file of the cache. Raises OSError."""
    try:
        answer = await job.done(value=value, into=str(path))
    except FetchError as error:
        raise OSError(str(error)) from error
    if answer["error"] is not None:
        raise OSError(answer["error"])
