"""Performs `Probe`: one health check of a task over HTTP, TCP or as a command (spec §3.6)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mesostk.agent.checks import kind_of
from mesostk.agent.events import Probe, Probed
from mesostk.base.client import Client, redirected
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.errors import MesostkError, Unavailable
from mesostk.wire.mesos import CommandInfo, HTTPCheckInfo, TCPCheckInfo

if TYPE_CHECKING:
    from mesostk.agent.docker import DockerRuns

#: curl, which the original uses, follows 50; a task that redirects that often is in a circle.
_MAX_REDIRECTS = 10

#: Statuses of an HTTP check that are healthy when the check names none.
_HEALTHY = range(200, 400)


class Unhealthy(MesostkError):
    """A probe failed; the message says how."""


class Prober:
    """Runs probes, each in a task of its own, and tells their outcome."""

    def __init__(
        self,
        daemon: Daemon,
        client: Client,
        feed: Callable[[Event], None],
        work_dir: Path,
        docker: Callable[[], DockerRuns | None] = lambda: None,
    ) -> None:
        self._daemon = daemon
        self._client = client
        self._feed = feed
        self._work_dir = work_dir
        self._docker = docker

    def probe(self, effect: Probe) -> None:
        """Begin a probe; `Probed` follows within its timeout."""
        self._daemon.start(f"probe {effect.container_id}", self._run(effect))

    async def _run(self, effect: Probe) -> None:
        seconds = effect.check.timeout_seconds
        error: str | None = None
        try:
            # 0 means no limit; source: spec §3.6.
            async with asyncio.timeout(seconds if seconds > 0 else None):
                await self._once(effect)
        except TimeoutError:
            error = f"timed out after {seconds:g} s"
        except MesostkError as unhealthy:
            error = str(unhealthy)
        self._feed(Probed(effect.container_id, effect.number, error))

    async def _once(self, effect: Probe) -> None:
        check = effect.check
        kind = kind_of(check)
        docker = self._docker()
        if docker is not None and not docker.owns(effect.container_id):
            docker = None
        # A container with an address of its own is asked there, whatever ports it maps.
        own = docker.address(effect.container_id) if docker is not None else None
        if kind == "HTTP" and check.http is not None:
            await self._http(check.http, own)
        elif kind == "TCP" and check.tcp is not None:
            await _tcp(check.tcp, own)
        elif kind == "COMMAND" and check.command is not None and docker is not None:
            argv, env = _program_of(check.command)
            _judge(await docker.execute(effect.container_id, argv, env))
        elif kind == "COMMAND" and check.command is not None:
            await _command(check.command, effect.env, self._work_dir / effect.sandbox, effect.user)
        else:
            raise Unhealthy("health check names neither command, http nor tcp")

    async def _http(self, check: HTTPCheckInfo, own: str | None) -> None:
        host = "[::1]" if check.protocol == "IPv6" else "127.0.0.1"
        host = own if own is not None else host
        path = check.path if check.path is not None else "/"
        scheme = check.scheme if check.scheme is not None else "http"
        url = f"{scheme}://{host}:{check.port}{path if path.startswith('/') else '/' + path}"
        for _ in range(_MAX_REDIRECTS):
            response = await self._client.open("GET", url)
            response.close()
            location = response.headers.get("Location")
            if response.status // 100 == 3 and location is not None:
                url = redirected(url, location)
                continue
            if response.status not in (check.statuses or _HEALTHY):
                raise Unhealthy(f"{url} answered HTTP status {response.status}")
            return
        raise Unhealthy(f"{url} redirects more than {_MAX_REDIRECTS} times")


async def _tcp(check: TCPCheckInfo, own: str | None) -> None:
    host = "::1" if check.protocol == "IPv6" else "127.0.0.1"
    host = own if own is not None else host
    try:
        _, writer = await asyncio.open_connection(host, check.port)
    except OSError as error:
        raise Unavailable(f"cannot connect to {host}:{check.port}: {error.strerror}") from error
    writer.close()


async def _command(
    command: CommandInfo, env: Mapping[str, str], sandbox: Path, user: str | None
) -> None:
    argv, own = _program_of(command)
    full_env = {**env, **own}
    loop = asyncio.get_running_loop()
    try:
        # Not asyncio's subprocesses: uvloop's cannot change the user.
        process = await loop.run_in_executor(None, _start, argv, sandbox, full_env, user)
    except OSError as error:
        raise Unhealthy(f"command cannot be run: {error.strerror}") from error
    try:
        await _ended(process)
    finally:
        # Timed out, or ended and left something in its session: the next probe starts clean. Not
        # reaped yet, so that the number of the group is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    _judge(status)


def _judge(status: int) -> None:
    if status != 0:
        raise Unhealthy(f"command exited with status {status}")


def _program_of(command: CommandInfo) -> tuple[list[str], dict[str, str]]:
    value = command.value if command.value is not None else ""
    argv = ["/bin/sh", "-c", value] if command.shell else [value, *command.arguments[1:]]
    own = command.environment.variables if command.environment is not None else ()
    return argv, {v.name: v.value for v in own if v.value is not None}


def _start(
    argv: list[str], sandbox: Path, env: Mapping[str, str], user: str | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        cwd=sandbox,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        user=user,
    )


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Return when the process has ended; it is not reaped."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
