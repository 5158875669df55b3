"""What fetches in tests: the launcher and all below it are real, only the core is not there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from mesostk.agent.cgroups import Cgroups
from mesostk.agent.fetch_cache import FetchCache
from mesostk.agent.fetch_process import Cancellation, FetchProcesses
from mesostk.agent.fetcher import Job, fetch_all
from mesostk.agent.fetching import name_of
from mesostk.agent.gc import Collector, Policy
from mesostk.agent.runs import Runs
from mesostk.agent.secrets import Secrets
from mesostk.base.daemon import Daemon
from mesostk.base.log import Log
from mesostk.wire.mesos import CommandURI


class FetchBench:
    """Fetches below `directory`."""

    def __init__(self, directory: Path, cgroups: Cgroups | None = None) -> None:
        daemon = Daemon("test", log=Log(stream=io.StringIO()))
        work, runtime = directory / "work", directory / "runtime"
        policy = Policy(delay_s=0.0, headroom=0.0, interval_s=1.0)
        collector = Collector(daemon, work, policy, lambda: "A", lambda _path: None)
        secrets = Secrets(directory / "secrets", runtime)
        self.runtime = runtime
        self.runs = Runs(
            daemon, lambda _event: None, work, runtime, cgroups, collector, secrets,
            enable_cfs=False,
        )  # fmt: skip
        self.processes = FetchProcesses(self.runs)

    async def fetch(
        self,
        uri: CommandURI,
        sandbox: Path,
        *,
        user: str | None = None,
        home: str | None = None,
        cache: FetchCache | None = None,
        cancelled: Cancellation | None = None,
    ) -> Path:
        """The file that was fetched; raises FetchError."""
        _make(sandbox, user)
        gone = cancelled if cancelled is not None else Cancellation()
        job = Job(sandbox, user, home, 60.0, gone, self.processes)
        await fetch_all((uri,), job, cache if cache is not None else FetchCache(sandbox / "c", 0))
        return sandbox / name_of(uri.value, uri.output_file)

    def left(self) -> list[Path]:
        """What is kept of processes that have ended, or have not."""
        return list((self.runtime / "containers").glob("fetch-*"))


def _make(sandbox: Path, user: str | None) -> None:
    sandbox.mkdir(exist_ok=True)
    if user is not None:
        shutil.chown(sandbox, user)


@contextlib.asynccontextmanager
async def fetch_bench(directory: Path, cgroups: Cgroups | None = None) -> AsyncIterator[FetchBench]:
    """With its launcher; at the end nothing may be left."""
    bench = FetchBench(directory, cgroups)
    await bench.runs.start()
    try:
        yield bench
        await until(lambda: not bench.runs.launcher.runs)
    finally:
        await bench.runs.close()


async def until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Wait for a condition that comes true however busy the machine is."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.005)


# -- other processes instead ----------------------------------------------------------------------

#: Takes its order, starts a daemon that has left session and parents, and waits.
DAEMONISES = """
read order
{python} -IS -c 'import os
if os.fork() == 0:
    os.setsid()
    daemon = os.fork()
    if daemon == 0:
        os.execvp("sleep", ["sleep", "600"])
    os.close(os.open("{directory}/daemon.%d" % daemon, os.O_CREAT))
    os._exit(0)
os.wait()'
"""


def order(**more: Any) -> dict[str, Any]:
    """One for the process, of nothing but `more`."""
    nothing = {"user": None, "home": None, "stall_s": 600, "sizes": None, "into": None}
    return {**nothing, **more}


def daemonising(directory: Path, then: str) -> tuple[str, ...]:
    """What is run instead of the process: its daemon is in `directory`."""
    text = DAEMONISES.format(python=sys.executable, directory=directory)
    return ("/bin/sh", "-c", text + then)


def daemon_of(directory: Path) -> int | None:
    """Pid of that daemon, once it is there."""
    pids = [int(path.suffix[1:]) for path in directory.glob("daemon.*")]
    return pids[0] if pids else None


def is_alive(pid: int | None) -> bool:
    """Whether there is a process that is more than an exit status."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
