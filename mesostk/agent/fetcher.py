"""Has the URIs of a command brought into its sandbox, with a cache. Source: spec §8.8.

::

    Fetch ─▶ of those that are cached: announced size ─▶ room? brought once ─┐
          └▶ one process of the task's user (fetching.py) brings all ◀───────┘ ─▶ Fetched
             CancelFetch, or the agent's end, ends it                             or FetchFailed

Threads of their own wait for the processes: a slow server holds up nobody but its task.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import mesostk
from mesostk.agent import fetching
from mesostk.agent.events import CancelFetch, Fetch, Fetched, FetchFailed
from mesostk.agent.fetch_cache import FetchCache
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.errors import MesostkError
from mesostk.wire.mesos import CommandURI

#: Runs that fetch at the same time; more wait.
MAX_FETCHING = 8

_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from mesostk.agent import fetching; fetching.main()"
)


class FetchError(MesostkError):
    """A URI cannot be had; the message names it and says why."""


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
    ) -> None:
        self._daemon = daemon
        self._feed = feed
        self._work_dir = work_dir
        self._home = frameworks_home
        self._stall_s = stall_timeout_s
        self._cache = cache
        gauge = daemon.metrics.gauge
        gauge("containerizer/fetcher/cache_size_total_bytes", lambda: cache.capacity)
        gauge("containerizer/fetcher/cache_size_used_bytes", lambda: cache.used)
        self._pool = ThreadPoolExecutor(MAX_FETCHING, thread_name_prefix="fetch")
        self._cancelled: dict[str, Cancellation] = {}
        self._succeeded = daemon.metrics.counter("containerizer/fetcher/task_fetches_succeeded")
        self._failed = daemon.metrics.counter("containerizer/fetcher/task_fetches_failed")

    def fetch(self, effect: Fetch) -> None:
        """Begin; the outcome is told by an event."""
        self._cancelled[effect.container_id] = Cancellation()
        self._daemon.start(f"fetch {effect.container_id}", self._run(effect))

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
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, effect: Fetch) -> None:
        cancelled = self._cancelled[effect.container_id]
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, self._fetch_all, effect, cancelled)
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

    def _fetch_all(self, effect: Fetch, cancelled: Cancellation) -> None:
        # Imported here: the sandbox module is for the disk thread and brings its own errors.
        from mesostk.agent import sandbox  # noqa: PLC0415

        directory = self._work_dir / effect.sandbox
        sandbox.create(directory, effect.user)
        job = Job(directory, effect.user, self._home, self._stall_s, cancelled)
        try:
            fetch_all(effect.uris, job, self._cache)
        except OSError as error:
            raise FetchError(f"no process to fetch by: {error}") from error


class Cancellation:
    """Whether a job is wanted no more; `set` also ends the process that works for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._working: subprocess.Popen[bytes] | None = None

    def set(self) -> None:
        """From any thread."""
        with self._lock:
            self._is_set = True
            if self._working is not None:
                self._working.kill()

    def is_set(self) -> bool:
        """Whether it was cancelled."""
        return self._is_set

    @contextlib.contextmanager
    def ends(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Within this, `set` kills the process, as it does at once where it came before."""
        with self._lock:
            self._working = process
            if self._is_set:
                process.kill()
        try:
            yield
        finally:
            with self._lock:
                self._working = None


class Job(NamedTuple):
    """For whom, and how, URIs are fetched. `user` None: the agent's own."""

    directory: Path
    user: str | None
    home: str | None
    stall_s: float
    cancelled: Cancellation


def fetch_all(uris: Iterable[CommandURI], job: Job, cache: FetchCache) -> None:
    """Bring all, said in the sandbox's stderr. Raises FetchError naming the one that fails."""
    with contextlib.ExitStack() as held:
        orders: list[dict[str, Any]] = []
        for uri in uris:
            orders.append(_order(uri, job, cache, held))
            if orders[-1]["error"] is not None:
                break
        error = _done(job, directory=str(job.directory), uris=orders)
    if error is not None:
        raise FetchError(error)


def _order(
    uri: CommandURI, job: Job, cache: FetchCache, held: contextlib.ExitStack
) -> dict[str, Any]:
    """What the process is told of a URI: if it is cached the file, in use as long as `held`."""
    kept, wrong = None, None
    if uri.cache:
        try:
            size = fetching.announced_size(uri.value, fetching.Terms(job.home, job.stall_s))
            if size is not None:
                bring = functools.partial(_bring, uri.value, job)
                kept = held.enter_context(cache.hold((job.user, uri.value), size, bring))
        except fetching.BROKEN as error:
            wrong = str(error)
    return {
        "value": uri.value,
        "output_file": uri.output_file,
        "executable": bool(uri.executable),
        "extract": bool(uri.extract),
        "kept": str(kept) if kept is not None else None,
        "error": wrong,
    }


def _bring(value: str, job: Job, path: Path) -> None:
    """Bring a URI into a file of the cache, by a process of the job's user."""
    error = _done(job, value=value, into=str(path))
    if error is not None:
        raise OSError(error)


def command() -> list[str]:
    """How the process is started."""
    package = str(Path(mesostk.__file__).parent.parent)
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, package]


def _done(job: Job, **order: Any) -> str | None:
    """Have an order carried out by a process; returns why it could not be."""
    order = {"user": job.user, "home": job.home, "stall_s": job.stall_s, "into": None, **order}
    with (
        subprocess.Popen(
            command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,  # a Ctrl-C at the agent's terminal is not for it
        ) as working,
        job.cancelled.ends(working),
    ):
        assert working.stdin is not None
        assert working.stdout is not None
        try:
            working.stdin.write(json.dumps(order).encode() + b"\n")
            working.stdin.flush()
        except BrokenPipeError:  # it was ended, and says no more
            with contextlib.suppress(BrokenPipeError):
                working.stdin.close()  # which tries what is left once more: here, not further down
        # Open until it has ended: that it is closed tells it that the agent has gone.
        said = working.stdout.read().decode(errors="replace").strip().rpartition("\n")[2]
    if job.cancelled.is_set():
        return "no longer wanted"
    try:
        error = json.loads(said)["error"]
    except (ValueError, KeyError, TypeError):
        return f"the fetcher ended with {working.returncode}: {said}"
    return error if error is None else str(error)
