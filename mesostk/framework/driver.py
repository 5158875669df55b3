"""`Driver`: the aiohttp shell around `SchedulerCore`.

One connection carries the stream, another one all calls, in order and one at a time; calls that
wait behind a slow one are sent together where they can be (DECLINEs of equal filters).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import aiohttp
import msgspec

from mesostk.base.client import Client, read_answer
from mesostk.base.core import Driver as CoreDriver
from mesostk.base.core import Event, Note
from mesostk.errors import Unavailable, WireError
from mesostk.framework.core import (
    SUBSCRIBE_TIMEOUT_S,
    CallDone,
    CallMade,
    CallRefused,
    CloseStream,
    Connected,
    Deliver,
    Disconnected,
    InfoAnswered,
    InfoChanged,
    LeaderKnown,
    OpenStream,
    Post,
    Received,
    SchedulerCore,
    StopAsked,
    StreamEnded,
    StreamOpened,
    StreamRefused,
    SubscribeAsked,
    leader_address,
)
from mesostk.wire import json, recordio, scheduler
from mesostk.wire.mesos import FrameworkID, FrameworkInfo, MasterInfo, OfferID

PATH = "/api/v1/scheduler"

#: A master that cannot take this many calls is not worth waiting for; the stream is given up.
MAX_WAITING_CALLS = 10_000

CALL_TIMEOUT_S = 30.0


class Framework(Protocol):
    """What a framework is told, on the loop; it must not block.

    `on_event` gets everything but SUBSCRIBED and HEARTBEAT. After an ERROR event the driver is
    idle until `subscribe` is called again: `Framework has been removed` needs a new framework id,
    `Framework failed over` means that another instance took over.
    """

    def on_connected(self, framework_id: FrameworkID, master: MasterInfo | None) -> None:
        """Subscribed; reconcile now, for calls and updates may have been lost."""
        ...

    def on_disconnected(self, reason: str) -> None:
        """Not subscribed any more; all offers are void. The driver tries again by itself."""
        ...

    def on_event(self, event: scheduler.Event) -> None:
        """One event of the stream."""
        ...

    def on_info_answered(self, refusal: str | None) -> None:
        """An UPDATE_FRAMEWORK was done, or was refused for this reason and changed nothing."""
        ...


class Driver:
    """A framework's connection to whichever master leads.

    `set_leader` takes what a `base.election.Detector` finds; without a detector `addresses`
    (`host:port`) are tried in turn. `authorization` is the value of that header, if any.
    """

    def __init__(
        self,
        client: Client,
        framework: Framework,
        monotonic: Callable[[], float],
        rng: random.Random,
        on_note: Callable[[Note], None],
        addresses: Sequence[str] = (),
        authorization: str | None = None,
        scheme: str = "http",
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        self._scheme = scheme
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if authorization is not None:
            self._headers["Authorization"] = authorization
        self._core = SchedulerCore(rng, addresses)
        self._pump = CoreDriver(
            self._core,
            {
                OpenStream: self._open_stream,
                CloseStream: self._close_stream,
                Post: self._post,
                Deliver: lambda effect: framework.on_event(effect.event),
                Connected: lambda effect: framework.on_connected(
                    effect.framework_id, effect.master
                ),
                Disconnected: lambda effect: framework.on_disconnected(effect.reason),
                InfoAnswered: lambda effect: framework.on_info_answered(effect.refusal),
            },
            monotonic,
            self._call_at,
            on_note,
        )
        self._on_note = on_note
        self._early: list[Event] = []
        self._group: asyncio.TaskGroup | None = None
        self._reader: asyncio.Task[None] | None = None
        self._calls: deque[Post] = deque()
        self._calls_wait = asyncio.Event()
        self._over = asyncio.Event()

    # -- for the framework --------------------------------------------------------------------

    def subscribe(self, info: FrameworkInfo, suppressed_roles: Sequence[str] = ()) -> None:
        """Connect as `info` and stay connected; the id that the master gives is kept."""
        self._feed(SubscribeAsked(info, tuple(suppressed_roles)))

    def set_info(self, info: FrameworkInfo, suppressed_roles: Sequence[str] = ()) -> None:
        """What to subscribe with next time, e.g. after an UPDATE_FRAMEWORK; `info.id` set."""
        self._feed(InfoChanged(info, tuple(suppressed_roles)))

    def send(self, call: scheduler.Call) -> None:
        """Make a call; dropped, with a note, while not connected. The framework id is filled in."""
        self._feed(CallMade(call))

    def set_leader(self, data: bytes | None) -> None:
        """What a detector found: MasterInfo as JSON or `host:port`; None if nobody leads."""
        try:
            address = None if data is None else leader_address(data)
        except WireError as error:
            self._on_note(Note("Ignoring the leader", {"error": error}, "ERROR"))
            address = None
        self._feed(LeaderKnown(address))

    @property
    def is_connected(self) -> bool:
        """Whether calls go out at the moment."""
        return self._core.state == "CONNECTED"

    def stop(self) -> None:
        """Close the stream, and end `run`; the framework stays registered at the master."""
        self._feed(StopAsked())
        self._over.set()

    async def run(self) -> None:
        """Do all of the above until `stop`; a task of the daemon."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                sender = group.create_task(self._send_calls())
                for event in self._early:
                    self._pump.feed(event)
                self._early.clear()
                await self._over.wait()
                sender.cancel()
        finally:
            # Also when the daemon cancels this: no timer may fire into a group that is over.
            self._over.set()
            self._pump.feed(StopAsked())

    def _feed(self, event: Event) -> None:
        if self._over.is_set():
            return
        if self._group is None:
            self._early.append(event)
        else:
            self._pump.feed(event)

    def _call_at(self, when: float, fn: Callable[[], None]) -> Callable[[], None]:
        delay = max(0.0, when - self._monotonic())
        return asyncio.get_running_loop().call_later(delay, fn).cancel

    # -- the stream ---------------------------------------------------------------------------

    def _url(self, address: str) -> str:
        return f"{self._scheme}://{address}{PATH}"

    def _open_stream(self, effect: OpenStream) -> None:
        assert self._group is not None
        self._stop_reader()
        self._reader = self._group.create_task(self._read(effect))

    def _close_stream(self, effect: CloseStream) -> None:  # noqa: ARG002  # a Performer
        self._stop_reader()
        self._calls.clear()

    def _stop_reader(self) -> None:
        """End the reader, unless it is the one that is being served: that ends by itself."""
        reader, self._reader = self._reader, None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()

    async def _read(self, effect: OpenStream) -> None:
        attempt = effect.attempt
        me = asyncio.current_task()
        try:
            response = await self._client.open(
                "POST",
                self._url(effect.address),
                json.encode(effect.call),
                self._headers,
                SUBSCRIBE_TIMEOUT_S,
            )
            if response.status != 200:
                answer = await read_answer(response, SUBSCRIBE_TIMEOUT_S)
                location = answer.headers.get("location") if answer.status < 400 else None
                self._pump.feed(
                    StreamRefused(attempt, answer.status, answer.text()[:500], location)
                )
                return
            try:
                ended = await self._read_records(attempt, response, me)
            finally:
                response.close()
        except (Unavailable, WireError) as error:
            ended = str(error)
        except aiohttp.ClientPayloadError:
            # Chunked without its last chunk; aiohttp's text would puzzle an operator.
            ended = "the stream broke off"
        except (aiohttp.ClientError, OSError) as error:
            ended = f"the stream broke: {str(error) or type(error).__name__}"
        self._pump.feed(StreamEnded(attempt, ended))

    async def _read_records(
        self, attempt: int, response: aiohttp.ClientResponse, me: asyncio.Task[None] | None
    ) -> str:
        """Feed the records of `response` until it ends or is given up; return why it ended."""
        stream_id = response.headers.get("Mesos-Stream-Id")
        if stream_id is None:
            return "the answer has no Mesos-Stream-Id"
        self._pump.feed(StreamOpened(attempt, stream_id))
        decoder = recordio.Decoder()
        async for chunk in response.content.iter_any():
            for record in decoder.feed(chunk):
                self._pump.feed(Received(attempt, json.decode(record, scheduler.Event)))
                if self._reader is not me:
                    return "given up"
        if decoder.is_between_records:
            return "the master closed the stream"
        return "the stream was cut within a record"

    # -- calls --------------------------------------------------------------------------------

    def _post(self, effect: Post) -> None:
        if len(self._calls) >= MAX_WAITING_CALLS:
            self._calls.clear()
            self._pump.feed(StreamEnded(effect.attempt, f"{MAX_WAITING_CALLS} calls wait"))
            return
        self._calls.append(effect)
        self._calls_wait.set()

    async def _send_calls(self) -> None:
        while True:
            self._calls_wait.clear()
            while self._calls:
                await self._send(self._next_call())
            await self._calls_wait.wait()

    def _next_call(self) -> Post:
        first = self._calls.popleft()
        declined = list(_plain_decline(first))
        if not declined:
            return first
        while self._calls and _same_decline(first, self._calls[0]):
            declined.extend(_plain_decline(self._calls.popleft()))
        assert first.call.decline is not None
        body = msgspec.structs.replace(first.call.decline, offer_ids=tuple(declined))
        call = msgspec.structs.replace(first.call, decline=body)
        return Post(first.attempt, first.address, first.stream_id, call)

    async def _send(self, post: Post) -> None:
        headers = {**self._headers, "Mesos-Stream-Id": post.stream_id}
        type_ = str(post.call.type)
        try:
            answer = await self._client.request(
                "POST", self._url(post.address), json.encode(post.call), headers, CALL_TIMEOUT_S
            )
        except WireError as error:
            # The framework's own data; a master would have refused it in the same way.
            refused = CallRefused(post.attempt, type_, 400, f"Failed to encode: {error}")
        except Unavailable as error:
            refused = CallRefused(post.attempt, type_, 0, str(error))
        else:
            if answer.status in {200, 202}:
                self._pump.feed(CallDone(post.attempt, type_))
                return
            refused = CallRefused(post.attempt, type_, answer.status, answer.text()[:500])
        self._pump.feed(refused)


def _plain_decline(post: Post) -> tuple[OfferID, ...]:
    decline = post.call.decline
    return decline.offer_ids if post.call.type == "DECLINE" and decline is not None else ()


def _same_decline(first: Post, other: Post) -> bool:
    if not _plain_decline(other) or first.call.decline is None or other.call.decline is None:
        return False
    return (
        first.attempt == other.attempt and first.call.decline.filters == other.call.decline.filters
    )
