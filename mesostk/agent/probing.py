"""Performs `Probe` and `Check`: one look at a task over HTTP, TCP or by a command (spec §3.6)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from mesostk.agent.checks import kind_of
from mesostk.agent.containers import Containers
from mesostk.agent.events import Check, Checked, Probe, Probed
from mesostk.base.client import Client, redirected
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.errors import MesostkError, Rejected, Unavailable
from mesostk.wire.mesos import CommandInfo, HealthCheck, HTTPCheckInfo, TCPCheckInfo

if TYPE_CHECKING:
    from mesostk.agent.docker import DockerRuns

#: curl, which the original uses, follows 50; a task that redirects that often is in a circle.
_MAX_REDIRECTS = 10

#: Statuses of an HTTP check that are healthy when the check names none.
_HEALTHY = range(200, 400)


class Unhealthy(MesostkError):
    """A probe failed; the message says how."""


class Prober:
    """Runs probes, each in a task of its own, and tells their outcome.

    `client` checks no certificates: a task's own need not be anybody's (spec §3.6).
    """

    def __init__(
        self,
        daemon: Daemon,
        client: Client,
        feed: Callable[[Event], None],
        containers: Containers,
        docker: Callable[[], DockerRuns | None] = lambda: None,
    ) -> None:
        self._daemon = daemon
        self._client = client
        self._feed = feed
        self._containers = containers
        self._docker = docker

    def probe(self, effect: Probe) -> None:
        """Begin a health check; `Probed` follows within its timeout."""
        self._daemon.start(f"probe {effect.container_id}", self._probe(effect))

    def check(self, effect: Check) -> None:
        """Begin a general check; `Checked` follows within its timeout."""
        self._daemon.start(f"check {effect.container_id}", self._check(effect))

    async def _probe(self, effect: Probe) -> None:
        error: str | None = None
        try:
            _judge(effect.check, await self._measure(effect.container_id, effect.check))
        except TimeoutError:
            error = f"timed out after {effect.check.timeout_seconds:g} s"
        except MesostkError as unhealthy:
            error = str(unhealthy)
        self._feed(Probed(effect.container_id, effect.number, error))

    async def _check(self, effect: Check) -> None:
        result: int | None = None
        try:
            result = await self._measure(effect.container_id, effect.check)
        except TimeoutError:
            result = None
        except MesostkError as error:
            self._daemon.log.debug("No result", run=effect.container_id, why=error)
            result = 0 if effect.check.type == "TCP" else None
        self._feed(Checked(effect.container_id, effect.number, result))

    async def _measure(self, container_id: str, check: HealthCheck) -> int:
        """Exit code, HTTP status, or 1 for a connection that was made; TimeoutError in time."""
        seconds = check.timeout_seconds
        # 0 means no limit; source: spec §3.6.
        async with asyncio.timeout(seconds if seconds > 0 else None):
            return await self._once(container_id, check)

    async def _once(self, container_id: str, check: HealthCheck) -> int:
        kind = kind_of(check)
        docker = self._docker()
        if docker is not None and not docker.owns(container_id):
            docker = None
        # A container with an address of its own is asked there, whatever ports it maps.
        own = docker.address(container_id) if docker is not None else None
        if kind == "HTTP" and check.http is not None:
            return await self._http(check.http, own)
        if kind == "TCP" and check.tcp is not None:
            await _tcp(check.tcp, own)
            return 1
        if kind == "COMMAND" and check.command is not None and docker is not None:
            argv, env = _program_of(check.command)
            return await docker.execute(container_id, argv, env)
        if kind == "COMMAND" and check.command is not None:
            return await self._command(container_id, check.command)
        raise Unhealthy("health check names neither command, http nor tcp")

    async def _command(self, container_id: str, command: CommandInfo) -> int:
        """Exit code of a command beside the task, and in its limits; 128 + n for signal n."""
        name = f"{container_id}.check-{uuid.uuid4()}"
        try:
            container = await self._containers.launch(name, command, None, is_session=True)
            assert container is not None
            assert container.stdio is not None
            await container.stdio.write(b"")
            status = await asyncio.shield(container.ended)
        except Rejected as error:
            raise Unhealthy(f"command cannot be run: {error.message}") from error
        finally:
            self._containers.discard(name)
        if status is None:
            raise Unhealthy("the end of the command was not seen")
        return 128 + (status & 0x7F) if status & 0x7F else status >> 8

    async def _http(self, check: HTTPCheckInfo, own: str | None) -> int:
        """The status, after redirects."""
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
            return response.status
        raise Unhealthy(f"{url} redirects more than {_MAX_REDIRECTS} times")


async def _tcp(check: TCPCheckInfo, own: str | None) -> None:
    host = "::1" if check.protocol == "IPv6" else "127.0.0.1"
    host = own if own is not None else host
    try:
        _, writer = await asyncio.open_connection(host, check.port)
    except OSError as error:
        raise Unavailable(f"cannot connect to {host}:{check.port}: {error.strerror}") from error
    writer.close()


def _judge(check: HealthCheck, result: int) -> None:
    """Raises Unhealthy for what a result of a health check means so."""
    kind = kind_of(check)
    if kind == "COMMAND" and result != 0:
        raise Unhealthy(f"command exited with status {result}")
    statuses = check.http.statuses if check.http is not None else ()
    if kind == "HTTP" and result not in (statuses or _HEALTHY):
        raise Unhealthy(f"HTTP status {result}")


def _program_of(command: CommandInfo) -> tuple[list[str], dict[str, str]]:
    value = command.value if command.value is not None else ""
    argv = ["/bin/sh", "-c", value] if command.shell else [value, *command.arguments[1:]]
    own = command.environment.variables if command.environment is not None else ()
    return argv, {v.name: v.value for v in own if v.value is not None}
