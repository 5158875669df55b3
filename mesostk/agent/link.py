"""The agent's end of the link to the master (records: wire/link.py).

::

    Connect ─▶ POST /api/link, one framed Subscribe ─▶ 200, stays open ─▶ LinkMessage …
    SendUp ─▶ outbox ─▶ one POST at a time, up to 64 records each ─▶ 202
    anything else, either way ─▶ LinkClosed(reason), once

While a POST is under way the next records gather, so that a quiet agent adds no delay and a busy
one sends few large bodies. Nothing is sent twice: the core subscribes again instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import aiohttp

from mesostk.agent.events import Connect, Disconnect, LinkClosed, LinkMessage, SendUp
from mesostk.agent.uplink import UpLink
from mesostk.base.client import Client, read_answer, redirected
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.errors import Unavailable, WireError
from mesostk.wire import json
from mesostk.wire.link import STREAM_ID_HEADER, DownMessage, Up
from mesostk.wire.recordio import Decoder, encode_record

PATH = "/api/link"

#: Records in one POST.
MAX_BATCH = 64

#: Unsent records at which a link is given up: the master takes none, and re-registration will
#: carry what matters.
MAX_UNSENT = 100_000

#: Most records of a master: a RUN_TASK with all its environment.
MAX_RECORD_BYTES = 64 * 1024 * 1024

#: For the answer to a POST. A master that takes longer is not well; subscribe anew.
POST_TIMEOUT_S = 30.0

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


class _Link:
    """One link from Connect to its end."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.outbox: deque[Up] = deque()
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class MasterLink:
    """Performs Connect, Disconnect and SendUp."""

    def __init__(
        self,
        daemon: Daemon,
        client: Client,
        feed: Callable[[Event], None],
        authorization: str | None = None,
    ) -> None:
        """`authorization`: the header by which the agent proves itself, if it does."""
        self._daemon = daemon
        self._client = client
        self._feed = feed
        proof = {} if authorization is None else {"Authorization": authorization}
        self._headers = {**_HEADERS, **proof}
        self._link: _Link | None = None
        self._posts = daemon.metrics.counter("link/posts")
        self._records = daemon.metrics.counter("link/records_up")

    def connect(self, effect: Connect) -> None:
        """Open a link; an earlier one is closed."""
        self._drop()
        link = self._link = _Link(effect.link)
        link.task = self._daemon.start(f"link {effect.link}", self._run(link, effect))

    def disconnect(self, effect: Disconnect) -> None:
        """Close a link without telling."""
        if self._link is not None and self._link.number == effect.link:
            self._drop()

    def send(self, effect: SendUp) -> None:
        """Queue a record for the link, if it is still that one."""
        link = self._link
        if link is None or link.number != effect.link:
            return
        link.outbox.append(effect.message)
        link.wake.set()
        if len(link.outbox) > MAX_UNSENT:
            self._drop()
            closed = LinkClosed(effect.link, f"the master takes none of {MAX_UNSENT} records")
            asyncio.get_running_loop().call_soon(self._feed, closed)

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None and link.task is not None:
            link.task.cancel()

    async def _run(self, link: _Link, effect: Connect) -> None:
        try:
            await self._serve(link, effect)
            reason = "the master closed the link"
        except (Unavailable, WireError) as error:
            reason = str(error)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = str(error)
            reason = f"link broken: {said or type(error).__name__}"
        if self._link is link:
            self._link = None
            self._feed(LinkClosed(link.number, reason))

    async def _serve(self, link: _Link, effect: Connect) -> None:
        body = encode_record(json.encode(effect.subscribe))
        url, response = await self._subscribe(effect.url + PATH, body)
        try:
            stream_id = response.headers.get(STREAM_ID_HEADER)
            if stream_id is None:
                raise WireError(f"the master's answer has no {STREAM_ID_HEADER} header")
            up = UpLink(url, {**self._headers, STREAM_ID_HEADER: stream_id})
            try:
                async with asyncio.TaskGroup() as group:
                    sending = group.create_task(self._send_all(link, up))
                    await self._read_all(link, response)
                    sending.cancel()
            finally:
                up.close()
        except BaseExceptionGroup as group_error:
            raise _first_of(group_error) from group_error
        finally:
            response.close()

    async def _subscribe(self, url: str, body: bytes) -> tuple[str, aiohttp.ClientResponse]:
        """The open answer and where it came from; one redirect to the leader is followed."""
        for _ in range(2):
            response = await self._client.open("POST", url, body, self._headers)
            if response.status == 200:
                return url, response
            location = response.headers.get("Location")
            if response.status == 307 and location is not None:
                response.release()
                url = redirected(url, location)
                continue
            answer = await read_answer(response)
            raise Unavailable(f"{url} refuses the agent: {answer.status} {answer.text()[:500]}")
        raise Unavailable(f"{url} does not lead either")

    async def _read_all(self, link: _Link, response: aiohttp.ClientResponse) -> None:
        decoder = Decoder(MAX_RECORD_BYTES)
        async for chunk in response.content.iter_any():
            for record in decoder.feed(chunk):
                if self._link is not link:
                    return
                self._feed(LinkMessage(link.number, json.decode(record, DownMessage)))

    async def _send_all(self, link: _Link, up: UpLink) -> None:
        while True:
            await link.wake.wait()
            while link.outbox:
                batch = [link.outbox.popleft() for _ in range(min(MAX_BATCH, len(link.outbox)))]
                body = b"".join(encode_record(json.encode(record)) for record in batch)
                self._posts.value += 1
                self._records.value += len(batch)
                status, text = await up.post(body, POST_TIMEOUT_S)
                if status != 202:
                    raise Unavailable(f"the master refused a record: {status} {text[:500]}")
            link.wake.clear()


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error inside of a task group's: the others only follow from it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
