"""The Docker engine as the agent talks to it: short calls and long ones, none without an end.

::

    create, start, inspect, …   docker SDK ── 16 threads, one client each, time limit per call
    logs, pull, stop, exec      aiohttp over the same socket: they last, and hold no thread

Whatever goes wrong is an EngineError whose message a person understands: `explain` adds to the
engine's own words what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import docker
import docker.auth
import docker.errors
import requests

from mesostk.agent.docker_logs import Frame, Frames, since_query
from mesostk.errors import MesostkError, Unavailable

T = TypeVar("T")

#: Short calls at the same time; a hung engine holds no more threads than these.
MAX_CALLS = 16

#: A short call that takes longer has failed. Starts of many containers at once queue up.
CALL_TIMEOUT_S = 60.0

#: To reach the engine's socket.
CONNECT_TIMEOUT_S = 10.0

#: The engine's own kill, after the grace it was given, may take this much longer.
STOP_SLACK_S = 30.0


class EngineError(MesostkError):
    """The engine refused; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineDown(Unavailable):
    """The engine cannot be reached, or did not answer in time."""


#: What is found in an engine's message, and what it means.
_MEANINGS = (
    ("port is already allocated", "a port it maps is bound by something else on this host"),
    ("address already in use", "a port it maps is bound by something else on this host"),
    ("exec format error", "its program is for another processor, or a script without #! line"),
    ("no space left on device", "the engine's disk is full: remove images or enlarge it"),
    ("executable file not found", "the image has no such program"),
    ("no such file or directory", "the image has no such program, or a mount no such path"),
    ("permission denied", "the program may not be executed by the container's user"),
    ("manifest unknown", "the registry has no image of that name and tag"),
    ("pull access denied", "the registry has no such image, or wants credentials"),
    ("no basic auth credentials", "the registry wants credentials"),
    ("unauthorized", "the registry does not take these credentials"),
    ("no such host", "the registry's name cannot be resolved on this host"),
    ("x509:", "the registry's certificate is not trusted by the engine"),
    ("http response to https client", "the registry speaks plain http: list it as insecure"),
    ("unable to apply caps", "the engine itself may not give these rights on this host"),
)


def explain(text: str) -> str:
    """The engine's words, and what they mean where that is known."""
    said = " ".join(text.split())
    lower = said.lower()
    meaning = next((meaning for sign, meaning in _MEANINGS if sign in lower), None)
    return f"{meaning} ({said})" if meaning is not None else said


class Engine:
    """One engine behind a unix socket."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._pool = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="docker")
        self._local = threading.local()
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of the engine; calls under way end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._http is not None:
            await self._http.close()

    # -- short calls, by the SDK -------------------------------------------------------------------

    async def create(self, name: str, body: Mapping[str, Any], home: str | None = None) -> str:
        """Create a container; returns its id. EngineError 404: there is no such image here.

        It starts in `home`, if its image names no directory for that.
        """
        made = await self._call(lambda c: _create(c, name, dict(body), home))
        return str(made["Id"])

    async def start(self, name: str) -> None:
        """Start a created container; returns when its program was exec'ed."""
        await self._call(lambda c: c.start(name))

    async def inspect(self, name: str) -> dict[str, Any]:
        """All that the engine knows of a container; EngineError 404 if it knows none."""
        found: dict[str, Any] = await self._call(lambda c: c.inspect_container(name))
        return found

    async def containers(self, label: str | None = None) -> list[dict[str, Any]]:
        """Containers in any state, with `label` ("name=value") if given."""
        filters = {"label": label} if label is not None else {}
        found: list[dict[str, Any]] = await self._call(
            lambda c: c.containers(all=True, filters=filters)
        )
        return found

    async def kill(self, name: str) -> None:
        """SIGKILL; a container that has ended is fine."""
        with contextlib.suppress(EngineError):
            await self._call(lambda c: c.kill(name))

    async def remove(self, name: str) -> None:
        """Remove a container, its volumes without a name, and what runs of it."""
        try:
            await self._call(lambda c: c.remove_container(name, v=True, force=True))
        except EngineError as error:
            if error.status not in (404, 409):  # gone, or on its way
                raise

    async def statistics(self, name: str) -> dict[str, Any]:
        """One reading of a container's counters."""
        found: dict[str, Any] = await self._call(
            lambda c: c.stats(name, stream=False, one_shot=True)
        )
        return found

    async def _call(self, work: Callable[[docker.APIClient], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            # The client's own limit is per read of the socket; this one is for all of it.
            async with asyncio.timeout(2 * CALL_TIMEOUT_S):
                return await loop.run_in_executor(self._pool, self._do, work)
        except TimeoutError:
            raise self.down(f"no answer within {2 * CALL_TIMEOUT_S:g} s") from None

    def _do(self, work: Callable[[docker.APIClient], T]) -> T:
        try:
            client: docker.APIClient | None = getattr(self._local, "client", None)
            if client is None:
                client = docker.APIClient(
                    base_url=f"unix://{self.socket}", version="auto", timeout=int(CALL_TIMEOUT_S)
                )
                self._local.client = client
            return work(client)
        except docker.errors.APIError as error:
            text = error.explanation or str(error)
            raise EngineError(error.status_code or 500, explain(str(text))) from error
        except requests.exceptions.Timeout:
            raise self.down(f"no answer within {CALL_TIMEOUT_S:g} s") from None
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise self.down(_innermost(error)) from error

    def down(self, why: str) -> EngineDown:
        return EngineDown(
            f"the Docker engine at {self.socket} does not answer: {why}; "
            "see 'systemctl status docker'"
        )

    # -- long calls, on the loop -------------------------------------------------------------------

    async def logs(
        self, name: str, since: str, *, follow: bool
    ) -> AsyncGenerator[list[Frame], None]:
        """Frames of both streams from the time `since` on; following, until the container ends."""
        query = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "follow": "1" if follow else "0",
            "since": since_query(since),
        }
        frames = Frames()
        async with self._open("GET", f"/containers/{name}/logs", query) as answer:
            async for data in answer.content.iter_any():
                found = frames.feed(data)
                if found:
                    yield found

    async def stop(self, name: str, grace_s: int) -> None:
        """The image's stop signal, then SIGKILL; the engine sees to both even if we are gone."""
        query = {"t": str(grace_s)}
        limit = grace_s + STOP_SLACK_S
        async with self._open("POST", f"/containers/{name}/stop", query, limit):
            return

    async def pull(
        self, image: str, auth: str | None, say: Callable[[str], None], timeout_s: float
    ) -> None:
        """Bring an image here, saying how far it is; raises EngineError with the reason."""
        reference, tag = _split(image)
        headers = {"X-Registry-Auth": auth} if auth is not None else {}
        query = {"fromImage": reference, "tag": tag}
        said: dict[str, str] = {}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._open("POST", "/images/create", query, headers=headers) as answer,
            ):
                async for line in answer.content:
                    _progress(line, said, say)
        except TimeoutError:
            raise EngineError(
                408,
                f"pulling image '{image}' took longer than --executor_registration_timeout, "
                f"which is {timeout_s:g} s",
            ) from None
        except EngineError as error:
            raise EngineError(error.status, f"image '{image}' cannot be had: {error}") from error

    async def execute(self, name: str, argv: list[str], env: list[str]) -> int:
        """Run a program inside of a container; returns its exit status."""
        body = {"Cmd": argv, "Env": env, "AttachStdout": True, "AttachStderr": True}
        number = await self.new_execution(name, body)
        started = {"Detach": False, "Tty": False}
        try:
            async with self._open("POST", f"/exec/{number}/start", {}, body=started) as answer:
                async for _ in answer.content.iter_any():
                    continue
        finally:
            ended = await self.execution(number)
            if ended.get("Running") and ended.get("Pid"):
                # Given up on; the engine has no call that ends it.
                with contextlib.suppress(OSError):
                    os.kill(int(ended["Pid"]), signal.SIGKILL)
        code = ended.get("ExitCode")
        return int(code) if code is not None else 1

    async def new_execution(self, name: str, body: Mapping[str, Any]) -> str:
        """Prepare a program in a running container; returns its id."""
        async with self._open("POST", f"/containers/{name}/exec", {}, 60, body=body) as answer:
            return str((await answer.json())["Id"])

    async def execution(self, number: str) -> dict[str, Any]:
        """`Running`, `Pid` and `ExitCode` of a program in a container."""
        async with self._open("GET", f"/exec/{number}/json", {}, 60) as answer:
            told: dict[str, Any] = await answer.json()
            return told

    async def resize_execution(self, number: str, rows: int, columns: int) -> None:
        """Change the size of a program's terminal."""
        size = {"h": str(rows), "w": str(columns)}
        async with self._open("POST", f"/exec/{number}/resize", size, 60):
            return

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limit_s: float | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: object | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self.socket, limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                read_bufsize=1 << 20,
            )
        timeout = aiohttp.ClientTimeout(total=limit_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._http.request(
                method, f"http://docker{path}", params=query, headers=headers, json=body,
                timeout=timeout,
            ) as answer:  # fmt: skip
                if answer.status >= 400:
                    raise EngineError(answer.status, explain(_message_of(await answer.text())))
                yield answer
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self.down(str(error)) from error
        except TimeoutError:
            if limit_s is None:
                raise  # the caller's own limit
            raise self.down(f"no answer within {limit_s:g} s") from None


def _create(
    client: docker.APIClient, name: str, body: dict[str, Any], home: str | None
) -> dict[str, Any]:
    if home is not None:
        found: dict[str, Any] = client.inspect_image(body["Image"])  # type: ignore[no-untyped-call] # the stubs leave it out
        config = found.get("Config") or {}
        # A user of the image's own may not be let into the home of the task's.
        is_ours = "User" in body or not config.get("User")
        if is_ours and not config.get("WorkingDir"):
            body["WorkingDir"] = home
    made: dict[str, Any] = client.create_container_from_config(body, name)  # type: ignore[no-untyped-call] # the stubs leave it out
    return made


def _innermost(error: BaseException) -> str:
    """The cause below the layers of HTTP libraries: `No such file or directory`."""
    seen = error
    while (deeper := seen.__cause__ or seen.__context__) is not None:
        seen = deeper
    return seen.strerror if isinstance(seen, OSError) and seen.strerror else str(seen)


def _message_of(text: str) -> str:
    try:
        said = json.loads(text)
    except ValueError:
        return text
    return str(said.get("message", text)) if isinstance(said, dict) else text


def _split(image: str) -> tuple[str, str]:
    """Name, and tag or digest; `latest` where there is neither, lest every tag be pulled."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def _progress(line: bytes, said: dict[str, str], say: Callable[[str], None]) -> None:
    """One line of a pull: told when its state changes, not for every percent of it."""
    try:
        event = json.loads(line)
    except ValueError:
        return
    if "error" in event:
        raise EngineError(500, explain(str(event["error"])))
    layer, status = str(event.get("id", "")), str(event.get("status", ""))
    if said.get(layer) == status and layer:
        return
    said[layer] = status
    say(f"{layer}: {status}" if layer else status)


def credentials(image: str, configs: Iterable[tuple[str, str]]) -> str | None:
    """The X-Registry-Auth header for `image`; None if no configuration knows its registry.

    `configs` are (where it is from, JSON text), the first that knows it counts. Raises EngineError
    for one that is none; its text is not told.
    """
    registry, _ = docker.auth.resolve_repository_name(_split(image)[0])
    for where, text in configs:
        try:
            parsed = docker.auth.load_config(config_dict=json.loads(text) or {"auths": {}})
            found = docker.auth.resolve_authconfig(parsed, registry)
        except (docker.errors.DockerException, ValueError, TypeError, AttributeError) as error:
            raise EngineError(400, f"{where} is no Docker configuration: {error}") from error
        if found:
            header: bytes = docker.auth.encode_header(found)
            return header.decode()
    return None


def fetched_configs(sandbox: Path) -> list[tuple[str, str]]:
    """Docker configurations among what was fetched into a sandbox, new form first. Blocks."""
    names = (".docker/config.json", ".dockercfg")
    return [(str(p), p.read_text()) for name in names if (p := sandbox / name).is_file()]
