"""Has the fetcher's orders carried out, each by a process that the launcher starts (spec §8.8).

::

    order ─▶ launcher ─▶ supervisor ─▶ fetching.py ─ stdout ─▶ answer
             session and cgroup of its own   ▲ stdin: open until then; closed, it ends
    Cancellation, sweep of the next agent ─▶ supervisor ─▶ KILL to all below it and in the cgroup

As in the original it counts to no container: unpacking may need more memory than the task may
use. Its cgroup is there to find all of it, and limits nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

import mesostk
from mesostk.agent.cgroup_limits import CgroupError, Limits
from mesostk.agent.checkpoint import ExitRecord
from mesostk.agent.launch import Run
from mesostk.agent.launch_spec import LaunchFailed, LaunchSpec
from mesostk.agent.runs import Runs
from mesostk.agent.terminals import Kind, Stdio
from mesostk.errors import MesostkError, Unavailable

_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from mesostk.agent import fetching; fetching.main()"
)

#: The share of a task with one CPU, no limit of memory.
_LIMITS = Limits(cpus=1.0, memory_bytes=0, memory_limit_bytes=math.inf)

_REFUSALS = (LaunchFailed, CgroupError, Unavailable, OSError)


class FetchError(MesostkError):
    """A URI cannot be had; the message names it and says why."""


class Cancellation:
    """Whether a job is wanted no more; `set` also ends the process that works for it."""

    def __init__(self) -> None:
        self._is_set = False
        self._end: Callable[[], None] | None = None

    def set(self) -> None:
        """Give up now."""
        self._is_set = True
        if self._end is not None:
            self._end()

    def is_set(self) -> bool:
        """Whether it was cancelled."""
        return self._is_set

    @contextlib.contextmanager
    def ends(self, end: Callable[[], None]) -> Iterator[None]:
        """Within this, `set` calls `end`, which is called at once where `set` came before."""
        self._end = end
        if self._is_set:
            end()
        try:
            yield
        finally:
            self._end = None


def command() -> tuple[str, ...]:
    """How the process is started."""
    package = str(Path(mesostk.__file__).parent.parent)
    return (sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, package)


class FetchProcesses:
    """Starts them; `argv` is what is run."""

    def __init__(self, runs: Runs, argv: tuple[str, ...] | None = None) -> None:
        self._runs = runs
        self._argv = argv if argv is not None else command()

    async def carry_out(self, order: dict[str, Any], cancelled: Cancellation) -> dict[str, Any]:
        """The answer to an order (fetching.py).

        Raises FetchError if there is no process, or none that answered: it was cancelled or killed.
        """
        if cancelled.is_set():
            raise FetchError("no longer wanted")
        name = f"fetch-{uuid.uuid4()}"
        ended: asyncio.Future[ExitRecord] = asyncio.get_running_loop().create_future()
        try:
            stdio = Stdio.open(tty=False, user=None)
        except OSError as error:
            raise FetchError(f"no process to fetch by: {error}") from error
        self._runs.others[name] = ended.set_result
        try:
            run = await self._start(name, stdio)
            with cancelled.ends(lambda: self._runs.launcher.kill(run, 0.0)):
                said = await _talk(stdio, order)
                record = await ended
            await self._forget(name)
        finally:
            self._runs.others.pop(name, None)
            stdio.close()
        if cancelled.is_set():
            raise FetchError("no longer wanted")
        return _answer_of(said, record)

    async def _start(self, name: str, stdio: Stdio) -> Run:
        try:
            loop = asyncio.get_running_loop()
            spec = await loop.run_in_executor(None, self._spec, name, stdio.paths)
            run = await self._runs.launcher.launch(spec)
        except _REFUSALS as error:
            await self._forget(name)
            raise FetchError(f"no process to fetch by: {error}") from error
        stdio.handed_over()
        return run

    def _spec(self, name: str, paths: tuple[str, str, str]) -> LaunchSpec:
        """With the agent's rights, for files of the cache: it gives them up itself. Blocks."""
        spec = LaunchSpec(
            container_id=name,
            executable=self._argv[0],
            argv=self._argv,
            env=dict(os.environ),  # proxies, certificates
            sandbox=Path("/"),
            stdio=paths,
            grace_s=0.0,
        )
        if self._runs.cgroups is None:
            return spec
        own = self._runs.cgroups.create(name, _LIMITS)
        return msgspec.structs.replace(
            spec, cgroups=own.cgroups, supervisor_cgroups=own.supervisor_cgroups
        )

    async def _forget(self, name: str) -> None:
        await self._runs.destroy_cgroup(name)
        self._runs.launcher.forget(name)


async def _talk(stdio: Stdio, order: dict[str, Any]) -> dict[Kind, bytes]:
    """Give the order; all that is said until the process and what it started have ended."""
    said: dict[Kind, bytes] = {"STDOUT": b"", "STDERR": b""}

    async def take(kind: Kind, data: bytes) -> None:
        said[kind] += data

    hearing = asyncio.ensure_future(stdio.pump(take))
    try:
        # Left open: that it is closed tells the process that the agent has gone.
        await stdio.write(json.dumps(order).encode() + b"\n")
        await hearing
    finally:
        if not hearing.done():
            hearing.cancel()
            await asyncio.wait([hearing])  # or its reader would be of a descriptor that is closed
    return said


def _answer_of(said: dict[Kind, bytes], record: ExitRecord) -> dict[str, Any]:
    try:
        answer = json.loads(_last_line(said["STDOUT"]))
    except ValueError:
        answer = None
    if isinstance(answer, dict) and "error" in answer:
        return answer
    status = record.wait_status
    how = str(os.waitstatus_to_exitcode(status)) if status is not None else "nobody knows what"
    raise FetchError(f"the fetcher ended with {how}: {_last_line(said['STDERR'])}")


def _last_line(said: bytes) -> str:
    return said.decode(errors="replace").strip().rpartition("\n")[2]
