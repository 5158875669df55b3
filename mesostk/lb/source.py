"""Marathon as marathon-lb sees it: the apps, and the news that they changed.

::

    stream opens ─▶ a pass ─▶ event ─▶ a pass ─▶ … ─▶ stream ends ─▶ next Marathon, after a wait
                                                       └─ 300 s of silence ─▶ the next one at once

While no Marathon answers nothing is told, and HAProxy keeps what it has.
Source: spec/dns-lb-autoscale §2.3.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.errors import Unavailable

CONNECT_TIMEOUT_S: Final = 3.05
READ_TIMEOUT_S: Final = 46.0
SILENCE_S: Final = 300.0

#: First wait before reconnecting, its growth, and how long a stream has to last to start over.
FIRST_WAIT_S: Final = 3.0
GROWTH: Final = 1.5
GOOD_STREAM_S: Final = 600.0

#: Events after which apps may look different. The original knows the first three; a task that is
#: about to be killed is told by the fourth.
EVENT_TYPES: Final = (
    "api_post_event",
    "health_status_changed_event",
    "status_update_event",
    "instance_changed_event",
)
PATH: Final = "/v2/apps?embed=apps.tasks"

MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class _Event(msgspec.Struct, rename="camel"):
    """The parts of an event that say that a task is about to end."""

    event_type: str = ""
    task_id: str | None = None
    task_status: str | None = None
    instance_id: str | None = None
    condition: str | None = None


class Source:
    """The Marathons of a cluster, of which the one that answered last is asked first."""

    def __init__(
        self,
        marathons: Sequence[str],
        credentials: tuple[str, str] | None,
        ca_cert: str | None,
        max_backoff_s: float,
        log: Log,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._marathons = list(marathons)
        self._max_backoff_s = max_backoff_s
        self._log = log
        self._rng = rng
        self._events = metrics.counter("lb/events")
        self._connected = False
        #: Tasks and instances that Marathon is about to kill, from its events.
        self.killing: set[str] = set()
        metrics.gauge("lb/marathon_connected", lambda: float(self._connected))
        context = ssl.create_default_context(cafile=ca_cert) if ca_cert is not None else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context if context is not None else True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            headers={"User-Agent": "marathon-lb", "Accept": "application/json"},
            auth=None if credentials is None else aiohttp.BasicAuth(*credentials),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @property
    def is_connected(self) -> bool:
        """Whether an event stream is open."""
        return self._connected

    async def fetch(self) -> bytes:
        """The answer to `GET /v2/apps`; Unavailable if no Marathon gives one."""
        reasons = []
        for url in list(self._marathons):
            try:
                body = await self._get(url + PATH)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reasons.append(f"{url}: {str(error) or type(error).__name__}")
                continue
            while self._marathons[0] != url:
                self._marathons.append(self._marathons.pop(0))
            return body
        raise Unavailable("no Marathon answers: " + "; ".join(reasons))

    async def _get(self, url: str) -> bytes:
        async with asyncio.timeout(READ_TIMEOUT_S), self._session.get(url) as answer:
            if answer.status != 200:
                text = (await answer.content.read(200)).decode(errors="replace")
                raise Unavailable(f"status {answer.status}: {text}")
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise Unavailable("the answer has no end")
            return bytes(body)

    async def follow(self, tell: Callable[[], None]) -> None:
        """Call `tell` when a stream opens and at each event that matters; never ends."""
        loop = asyncio.get_running_loop()
        wait_s = FIRST_WAIT_S
        while True:
            url = self._marathons[0]
            begun = loop.time()
            try:
                await self._stream(url, tell)
                reason = "it ended"
            except TimeoutError:
                reason = f"silent for {SILENCE_S:g} s"
            except (aiohttp.ClientError, OSError) as error:
                reason = str(error) or type(error).__name__
            self._connected = False
            self._log.warning("Lost event stream", marathon=url, reason=reason)
            lasted = loop.time() - begun
            if self._marathons[0] == url:
                self._marathons.append(self._marathons.pop(0))
            wait_s = FIRST_WAIT_S if lasted > GOOD_STREAM_S else wait_s
            # With others to ask there is no reason to wait for the first round.
            if reason[:6] != "silent" and (len(self._marathons) == 1 or lasted < 1.0):
                await asyncio.sleep(self._rng.random() * wait_s)
                wait_s = min(wait_s * GROWTH, self._max_backoff_s)
            tell()

    async def _stream(self, url: str, tell: Callable[[], None]) -> None:
        query: list[tuple[str, str]] = [("plan-format", "light")]
        query += [("event_type", kind) for kind in EVENT_TYPES]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=SILENCE_S)
        headers = {"Accept": "text/event-stream"}
        async with self._session.get(
            url + "/v2/events", params=query, headers=headers, timeout=timeout
        ) as answer:
            if answer.status != 200:
                raise Unavailable(f"status {answer.status}")
            self._connected = True
            self._log.info("Following events", marathon=url)
            tell()
            async for line in _lines(answer.content):
                if line.startswith(b"data:"):
                    self._events.inc()
                    self._learn(line[5:])
                    tell()

    def _learn(self, data: bytes) -> None:
        try:
            event = msgspec.json.decode(data, type=_Event)
        except msgspec.DecodeError as error:
            self._log.warning("Event is not understood", error=str(error))
            return
        id = event.task_id if event.task_id is not None else event.instance_id
        if id is not None and (
            event.task_status == "TASK_KILLING" or event.condition in ("Killing", "killing")
        ):
            self.killing.add(id)

    def forget_killed(self, tasks: Sequence[str]) -> None:
        """Keep only what is still among `tasks` in `killing`."""
        self.killing = {id for id in self.killing if any(is_of(id, task) for task in tasks)}


def is_of(id: str, task_id: str) -> bool:
    """Whether `id`, of a task or an instance, is that of task `task_id`.

    A task's id is its instance's with `._app.N` behind it, and in instance ids `marathon-` takes
    the place of `instance-`. Source: Marathon 1.5 and later, `core/instance/Instance.scala`.
    """
    if id == task_id:
        return True
    instance = id.replace(".marathon-", ".instance-")
    return task_id == instance or task_id.startswith(instance + "._")


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # An event may be longer than the reader's limit for a line: an app's definition is in it.
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
        if len(rest) > MAX_ANSWER_BYTES:
            raise Unavailable("an event has no end")


def parameters(source: Source) -> dict[str, Any]:
    """What the status page says of it."""
    return {"connected": source.is_connected, "killing": sorted(source.killing)}
