"""Following the leading master: its event stream, or /state where there is none.

::

    masters (ZooKeeper, then `Masters`) ─▶ POST /api/v1 SUBSCRIBE ─▶ SUBSCRIBED, events ─▶ changes
                  ▲                             └─ refused ─▶ GET /master/state each RefreshSeconds
                  └── broken, silent, another leader, resync ◀──────┘

What is known stays known while no master can be reached; `staleness_s` says how old it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from mesostk.base.client import Client, read_answer, redirected
from mesostk.base.log import Log
from mesostk.dns import facts
from mesostk.dns.facts import Change
from mesostk.dns.naming import Naming
from mesostk.dns.reading import (
    Steps,
    host_and_port,
    read_event,
    read_greeting,
    read_schedulers,
    read_state,
)
from mesostk.dns.records import address_type
from mesostk.errors import Unavailable, WireError
from mesostk.wire import json, operator
from mesostk.wire.recordio import Decoder

#: Pauses between rounds in which no master could be followed.
_MIN_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 2.0

#: A stream is silent if this many heartbeats do not come.
_MISSED_HEARTBEATS: Final = 3
_HEARTBEAT_S: Final = 15.0

#: The whole state is asked for again after this time at least, and after a multiple of the time
#: that taking it in took, so that a large cluster that comes back does not keep us busy.
_RESYNC_S: Final = 1.0
_RESYNC_SHARE: Final = 5.0

#: Queries wait for no longer than this, and a step, while much is taken in.
PIECE_S: Final = 0.003

_CONNECT_S: Final = 10.0
_MAX_REDIRECTS: Final = 5

T = TypeVar("T")

#: Tells the value of the Authorization header; raises Unavailable.
Authorize = Callable[[], Awaitable[str | None]]


class _NoStream(Exception):
    """The master is there, and does not serve the event stream."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration decides. Times in seconds."""

    masters: tuple[str, ...] = ()
    scheme: str = "http"
    refresh_s: float = 60.0
    state_timeout_s: float = 300.0
    event_stream: bool = True


class Source:
    """Keeps a `Naming` up to date. `run` is a task of the daemon."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        naming: Naming,
        now: Callable[[], float],
        log: Log,
        authorize: Authorize,
    ) -> None:
        self._client = client
        self._settings = settings
        self._naming = naming
        self._now = now
        self._log = log
        self._authorize = authorize
        self._members: tuple[str, ...] = ()
        self._moved = asyncio.Event()
        self._hosts_wanted = asyncio.Event()
        self._schedulers_wanted = asyncio.Event()
        #: Monotonic time at which a master was last heard; None: never.
        self.heard_at: float | None = None
        #: The master being followed, and how: `stream`, `poll` or ``.
        self.leader: str | None = None
        self.mode = ""
        self._response: aiohttp.ClientResponse | None = None
        self._heartbeat_s = _HEARTBEAT_S
        self._resync_at: float | None = None
        self._took_s = 0.0

    def set_members(self, members: tuple[str, ...]) -> None:
        """The masters that ZooKeeper knows, leader first; empty: nobody stands."""
        before, self._members = self._members[:1], members
        self._tell_masters()
        if members and before != members[:1] and self.leader != members[0]:
            self._moved.set()
            if self._response is not None:
                # Ends the reading of a stream that a deposed leader may keep open.
                self._response.close()

    def staleness_s(self) -> float:
        """Seconds since a master was last heard; infinite before the first time."""
        return float("inf") if self.heard_at is None else self._now() - self.heard_at

    async def run(self) -> None:
        """Follow whoever leads, for ever."""
        pause = _MIN_PAUSE_S
        while True:
            self._moved.clear()
            was_heard = await self._round()
            pause = _MIN_PAUSE_S if was_heard else min(2 * pause, _MAX_PAUSE_S)
            if self.mode == "poll" and was_heard:
                pause = self._settings.refresh_s
            await self._wait_for_move(pause)

    async def _wait_for_move(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    def _candidates(self) -> list[str]:
        return list(dict.fromkeys((*self._members, *self._settings.masters)))

    async def _round(self) -> bool:
        """Try each master in turn; whether one was heard."""
        trouble = ""
        for address in self._candidates():
            before = self.heard_at
            try:
                await self._follow(address)
            except (Unavailable, WireError) as error:
                trouble = str(error)
            if self.heard_at != before:
                if trouble and self.mode == "stream":
                    self._log.info("Following again", master=self.leader, reason=trouble)
                return True
            if self._moved.is_set():
                break
        self.mode = ""
        reason = trouble or "no master is known yet"
        self._log.warning("No master answers; keeping what is known", error=reason)
        return False

    async def _follow(self, address: str) -> None:
        if self._settings.event_stream:
            try:
                await self._stream(address)
            except _NoStream as error:
                if self.mode != "poll":
                    self._log.info("Polling /state", master=address, reason=error)
            else:
                return
        await self._poll(address)

    # -- the event stream ------------------------------------------------------------------------

    async def _stream(self, address: str) -> None:
        call = json.encode(operator.Call(type="SUBSCRIBE"))
        response, leader = await self._open("POST", address, "/api/v1", call)
        try:
            if response.status == 503:
                answer = await read_answer(response, _CONNECT_S)
                raise Unavailable(f"{leader} does not lead: {answer.text()[:200]}")
            if response.status != 200:
                raise _NoStream(f"{leader} answers {response.status} to SUBSCRIBE")
            self._response = response
            self.mode, self._resync_at = "stream", None
            await self._read(response, leader)
        except Unavailable:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the stream of {leader} broke: {str(error) or 'closed'}") from error
        finally:
            self._response = None
            response.close()

    async def _read(self, response: aiohttp.ClientResponse, leader: str) -> None:
        """Take events in until the stream ends or another one has to be opened."""
        decoder = Decoder()
        is_greeted = False
        chunks = response.content.iter_any()
        silent_at = self._now() + _HEARTBEAT_S * _MISSED_HEARTBEATS
        while True:
            until = silent_at if self._resync_at is None else min(silent_at, self._resync_at)
            try:
                async with asyncio.timeout(max(0.0, until - self._now())):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                raise Unavailable(f"{leader} closed the stream") from None
            except TimeoutError:
                if self._is_resync_due():
                    return
                raise Unavailable(f"the stream of {leader} is silent") from None
            records = decoder.feed(chunk)
            if records and not is_greeted:
                is_greeted = True
                if await self._take_greeting(records[0], leader):
                    records = records[1:]
            if records:
                await self._take_events([json.decode(one, operator.Event) for one in records])
            self.heard_at = self._now()
            silent_at = self.heard_at + self._heartbeat_s * _MISSED_HEARTBEATS
            if self._is_resync_due():
                return

    def _is_resync_due(self) -> bool:
        return self._resync_at is not None and self._now() >= self._resync_at

    async def _take_greeting(self, record: bytes, leader: str) -> bool:
        """Take SUBSCRIBED in; whether `record` is that."""
        began = self._now()
        greeting = await self._paced(read_greeting(record, self._naming.zone.frameworks))
        if greeting is None:
            return False
        for problem in greeting.skipped[:10]:
            self._log.warning("Ignoring an entry of SUBSCRIBED", problem=problem)
        self._heartbeat_s = greeting.heartbeat_s or _HEARTBEAT_S
        self._set_leader(leader)
        self._log.info("Following the event stream", master=leader)
        await self._take_snapshot(greeting.snapshot, began)
        self._schedulers_wanted.set()
        return True

    async def _take_snapshot(self, snapshot: facts.Snapshot, began: float) -> None:
        await self._take_in_pieces(self._naming.zone.steps(snapshot))
        self._took_s = self._now() - began
        self._naming.use(True)
        self._want_hosts([snapshot])

    async def _take_in_pieces(self, steps: Iterable[Change]) -> None:
        """Take a great change in, with pauses for queries; each name is the old or the new one."""
        naming = self._naming
        piece: list[Change] = []
        began = self._now()
        for change in steps:
            naming.zone.apply(change)
            piece.append(change)
            if self._now() - began >= PIECE_S:
                naming.take_applied(piece, is_last=False)
                piece = []
                await asyncio.sleep(0)
                began = self._now()
        naming.take_applied(piece)

    async def _paced(self, steps: Steps[T]) -> T:
        """The result of `steps`, with pauses for queries."""
        began = self._now()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # as in `reading.at_once`
            if self._now() - began >= PIECE_S:
                await asyncio.sleep(0)
                began = self._now()

    async def _take_events(self, events: Sequence[operator.Event]) -> None:
        began = self._now()
        zone = self._naming.zone
        changes: list[Change] = []
        for event in events:
            told = read_event(event, zone.tasks, zone.agents, zone.frameworks)
            if told.resync is not None and self._resync_at is None:
                wait_s = max(_RESYNC_S, self._took_s * _RESYNC_SHARE)
                self._resync_at = began + wait_s
                self._log.info("Asking for the whole state soon", reason=told.resync)
            # One at a time: an event is read against what the one before it changed.
            for change in told.changes:
                if isinstance(change, facts.FrameworkGone | facts.AgentGone):
                    self._settle(changes)
                    changes = []
                    await self._take_in_pieces(zone.steps(change))
                else:
                    zone.apply(change)
                    changes.append(change)
        self._settle(changes)

    def _settle(self, changes: Sequence[Change]) -> None:
        """Answer for what the zone has taken in."""
        self._naming.take_applied(changes)
        self._want_hosts(changes)
        if any(isinstance(change, facts.FrameworkPut) for change in changes):
            self._schedulers_wanted.set()

    # -- /state ----------------------------------------------------------------------------------

    async def _poll(self, address: str) -> None:
        began = self._now()
        leader = address
        # A master that does not lead may answer /state all the same, naming the one that does.
        for _ in range(2):
            read = await self._paced(read_state(await self._get(leader, "/master/state")))
            if _host(read.leader) == _host(leader):
                break
            leader = read.leader
        for problem in read.skipped[:10]:
            self._log.warning("Ignoring an entry of /state", problem=problem)
        self.mode = "poll"
        self.heard_at = self._now()
        self._set_leader(read.leader)
        await self._take_snapshot(read.snapshot, began)

    async def _get(self, address: str, path: str) -> bytes:
        response, _ = await self._open("GET", address, path, None)
        answer = await read_answer(response, self._settings.state_timeout_s)
        if answer.status != 200:
            raise Unavailable(f"{address} answers {answer.status}: {answer.text()[:200]}")
        return answer.body

    # -- both ------------------------------------------------------------------------------------

    async def _open(
        self, method: str, address: str, path: str, body: bytes | None
    ) -> tuple[aiohttp.ClientResponse, str]:
        """An answer, redirects followed, and `host:port` of who gave it."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        authorization = await self._authorize()
        if authorization is not None:
            headers["Authorization"] = authorization
        url = f"{self._settings.scheme}://{address}{path}"
        for _ in range(_MAX_REDIRECTS):
            timeout_s = min(self._settings.state_timeout_s, _CONNECT_S)
            response = await self._client.open(method, url, body, headers, timeout_s)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 307, 308) or location is None:
                return response, await _by_address(urlsplit(url).netloc)
            response.release()
            url = redirected(url, location)
        raise Unavailable(f"{address} and others redirect in circles")

    def _set_leader(self, leader: str) -> None:
        self.leader = leader
        self._tell_masters()

    def _tell_masters(self) -> None:
        members = self._members or self._settings.masters
        known = facts.Masters(self.leader or next(iter(self._members), None), members)
        if known != self._naming.zone.masters:
            self._naming.take([known])

    # -- schedulers that speak libprocess, of which the stream does not tell ----------------------

    async def schedulers(self) -> None:
        """Ask where schedulers listen whenever one came or changed; a task of the daemon."""
        while True:
            await self._schedulers_wanted.wait()
            self._schedulers_wanted.clear()
            if self.leader is None or self.mode != "stream":
                continue
            try:
                found = read_schedulers(await self._get(self.leader, "/master/state-summary"))
            except (Unavailable, WireError) as error:
                self._log.warning("Schedulers' addresses are not told", reason=str(error))
                continue
            changes = list(self._scheduler_changes(found))
            if changes:
                self._naming.take(changes)
                self._want_hosts(changes)

    def _scheduler_changes(self, found: Mapping[str, tuple[str, int]]) -> Iterator[Change]:
        for known in list(self._naming.zone.frameworks.values()):
            host, port = found.get(known.id, (known.host, None))
            new = msgspec.structs.replace(known, host=host, port=port)
            if new != known:
                yield facts.FrameworkPut(new)

    # -- hosts that are known by name ------------------------------------------------------------

    def _want_hosts(self, changes: Sequence[Change]) -> None:
        kinds = (facts.Snapshot, facts.AgentPut, facts.FrameworkPut)
        if any(isinstance(change, kinds) for change in changes) and self._naming.zone.unresolved():
            self._hosts_wanted.set()

    async def resolve(self) -> None:
        """Look names of hosts up when they come, and now and then again; a task of the daemon."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.refresh_s):
                    await self._hosts_wanted.wait()
            self._hosts_wanted.clear()
            zone = self._naming.zone
            for host in sorted(zone.unresolved() | set(zone.hosts())):
                ips = await _look_up(host)
                known = zone.hosts().get(host)
                # A name server that fails for once takes nothing away.
                if known is None or (ips and ips != known):
                    self._naming.take([facts.Resolved(host, ips)])


def _host(address: str) -> str:
    place = host_and_port(address)
    return address if place is None else place[0]


async def _look_up(host: str) -> tuple[str, ...]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=1)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({str(address[0]).partition("%")[0] for *_, address in found}))


async def _by_address(place: str) -> str:
    """`ip:port` for `host:port`, if the host has an address."""
    pair = host_and_port(place)
    if pair is None or address_type(pair[0]):
        return place
    ips = await _look_up(pair[0])
    ip = next(iter(ips), pair[0])
    return f"[{ip}]:{pair[1]}" if ":" in ip else f"{ip}:{pair[1]}"
