"""ZooKeeper for a loop: kazoo's threads hand results and session events over, and nothing else.

::

    CONNECTED ──connection broken──▶ SUSPENDED ──reconnected──▶ CONNECTED
                                       └─ no answer for the session timeout, or expired ─▶ LOST

While SUSPENDED nothing that depends on the session may be assumed; LOST means that ephemeral nodes
are, or must be taken to be, gone. After any event the path is read again: a watch carries no data.
No recipe of kazoo is used: they run on its threads and do not stop a leader on LOST. This is the
only module that imports kazoo.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    InvalidACLError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
    SessionMovedError,
)
from kazoo.protocol.states import Callback
from kazoo.security import make_acl, make_digest_acl

from mesostk.base.units import whole_number
from mesostk.errors import ConfigError, StoreError, Unavailable, UnknownOutcome

__all__ = [
    "BadVersionError",
    "Check",
    "Create",
    "NoNodeError",
    "NodeExistsError",
    "NotEmptyError",
    "Remove",
    "SessionState",
    "SetData",
    "Stat",
    "Zk",
    "ZkOp",
    "ZkUrl",
    "zk_url",
]

T = TypeVar("T")

DEFAULT_PORT: Final = 2181
DEFAULT_SESSION_TIMEOUT_S: Final = 10.0

#: Longest wait between two attempts to connect; the original retries every 2 s.
MAX_RECONNECT_S: Final = 2.0

#: kazoo's errors after which a request may or may not have been applied.
_LOST_ANSWER: Final = (
    ConnectionLoss,
    ConnectionClosedError,
    SessionExpiredError,
    SessionMovedError,
    OperationTimeoutError,
)
#: What ZooKeeper decided about one node; passed on as it is, for the caller to act upon.
_VERDICTS: Final = (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError)


class SessionState(StrEnum):
    """What the session allows, see the module's picture."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    LOST = "lost"


class ZkUrl(msgspec.Struct, frozen=True):
    """`zk://[user:password@]host:port,host:port/path`."""

    hosts: str
    path: str
    user: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> ZkUrl:
        """The URL in `text`; ConfigError says what is wrong with it."""
        if not text.startswith("zk://"):
            raise ConfigError("expected a URL like zk://host1:2181,host2:2181/mesos")
        authority, slash, path = text.removeprefix("zk://").partition("/")
        user = password = None
        if "@" in authority:
            credentials, _, authority = authority.rpartition("@")
            user, colon, password = credentials.partition(":")
            if not user or not colon or not password:
                raise ConfigError("expected user:password before the @ of the ZooKeeper URL")
        hosts = ",".join(_host_and_port(host) for host in authority.split(","))
        path = path.rstrip("/")
        if not slash or not path:
            raise ConfigError("the ZooKeeper URL needs a path, like zk://host:2181/mesos")
        if any(part in ("", ".", "..") for part in path.split("/")) or not path.isprintable():
            raise ConfigError(f"/{path} is not a ZooKeeper path")
        return cls(hosts, "/" + path, user, password)

    def at(self, path: str) -> ZkUrl:
        """The same servers and user, another path."""
        return ZkUrl(self.hosts, path, self.user, self.password)

    def __str__(self) -> str:
        """The URL, with the password."""
        user = "" if self.user is None else f"{self.user}:{self.password}@"
        return f"zk://{user}{self.hosts}{self.path}"


def zk_url(text: str) -> str:
    """`text` if it is a ZooKeeper URL: the type of a flag; ConfigError otherwise."""
    ZkUrl.parse(text)
    return text


def _host_and_port(text: str) -> str:
    host, colon, port = text.strip().rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text.strip(), str(DEFAULT_PORT)
    number = whole_number(port)
    if not host or any(char in host for char in "/@ ") or number is None:
        raise ConfigError(f"{text!r} is not a host:port of a ZooKeeper server")
    if not 0 < number < 65536:
        raise ConfigError(f"{text!r}: a port is between 1 and 65535")
    return f"{host}:{port}"


class Stat(msgspec.Struct, frozen=True):
    """What callers need of a node's stat."""

    version: int
    children: int
    ephemeral_owner: int


class Create(msgspec.Struct, frozen=True):
    """Part of a multi: a new persistent node."""

    path: str
    data: bytes


class SetData(msgspec.Struct, frozen=True):
    """Part of a multi: other data in a node, whatever its version."""

    path: str
    data: bytes


class Remove(msgspec.Struct, frozen=True):
    """Part of a multi: a node without children goes."""

    path: str


class Check(msgspec.Struct, frozen=True):
    """Part of a multi: the node's version is this one."""

    path: str
    version: int


ZkOp = Create | SetData | Remove | Check


class Zk:
    """One session with ZooKeeper; begins with `start`, and reconnects by itself for ever."""

    def __init__(self, url: ZkUrl, session_timeout_s: float = DEFAULT_SESSION_TIMEOUT_S) -> None:
        self.url = url
        self.session_timeout_s = session_timeout_s
        #: Before the first connection the session is as good as lost.
        self.state = SessionState.LOST
        self._request_timeout_s = 2 * session_timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: list[Callable[[SessionState], None]] = []
        self._connected = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None
        # kazoo reports every attempt to connect; the session events say what matters.
        logger = logging.getLogger("kazoo.quiet")
        logger.setLevel(logging.CRITICAL)
        self._client: Any = KazooClient(
            hosts=url.hosts,
            timeout=session_timeout_s,
            connection_retry={
                "max_tries": -1,
                "delay": 0.05,
                "backoff": 2,
                "max_delay": MAX_RECONNECT_S,
            },
            auth_data=None if url.user is None else [("digest", f"{url.user}:{url.password}")],
            default_acl=_acl(url),
            logger=logger,
        )

    # -- session ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; returns at once, on the running loop that events are then told on."""
        self._loop = asyncio.get_running_loop()
        self._client.add_listener(self._on_kazoo_state)
        self._client.start_async()

    async def connected(self, timeout_s: float) -> None:
        """Return once connected; Unavailable after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError as error:
            raise Unavailable(
                f"ZooKeeper at {self.url.hosts} does not answer within {timeout_s:g} s; check that"
                " a majority of its servers runs and can be reached"
            ) from error

    async def close(self) -> None:
        """End the session: ephemeral nodes go at once."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._client.remove_listener(self._on_kazoo_state)
        # kazoo joins its threads here, which takes as long as an attempt to connect.
        await asyncio.to_thread(self._stop_client)
        self._listeners.clear()
        self._become(SessionState.LOST)

    def _stop_client(self) -> None:
        self._client.stop()
        self._client.close()

    def listen(self, listener: Callable[[SessionState], None]) -> None:
        """Call `listener` on the loop at each change of `state`."""
        self._listeners.append(listener)

    @property
    def session_id(self) -> int | None:
        """The id that ephemeral nodes carry as their owner; None while not connected."""
        pair = self._client.client_id
        return None if pair is None else int(pair[0])

    def _on_kazoo_state(self, state: str) -> None:
        # On a thread of kazoo: hand over, nothing else.
        self._hand_over(lambda: self._on_state(state))

    def _hand_over(self, fn: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(fn)
            except RuntimeError:
                # The loop closed between the two lines; nobody is left to tell.
                return

    def _on_state(self, state: str) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if state == KazooState.CONNECTED:
            self._become(SessionState.CONNECTED)
        elif state == KazooState.LOST:
            self._become(SessionState.LOST)
        elif self.state is SessionState.CONNECTED and self._loop is not None:
            self._become(SessionState.SUSPENDED)
            # kazoo would tell LOST only when a server says so, and none may ever answer.
            self._expiry = self._loop.call_later(self.session_timeout_s, self._expire)

    def _expire(self) -> None:
        """No server has answered for as long as a session lasts: this one is over.

        What it has seen is forgotten with it. Servers refuse a client that has seen more than
        they have, and servers that lost their data, or were given a backup's, would for ever.
        """
        self._client.last_zxid = 0
        self._become(SessionState.LOST)

    def _become(self, state: SessionState) -> None:
        if state is self.state:
            return
        self.state = state
        if state is SessionState.CONNECTED:
            self._connected.set()
        else:
            self._connected.clear()
        for listener in list(self._listeners):
            listener(state)

    # -- nodes -----------------------------------------------------------------------------------

    async def get(self, path: str, watch: Callable[[], None] | None = None) -> tuple[bytes, Stat]:
        """Data and stat; NoNodeError if there is no such node."""
        data, stat = await self._read(self._client.get_async, path, watch)
        return data, _stat(stat)

    async def get_many(
        self, paths: Sequence[str], watch: Callable[[str], None] | None = None
    ) -> list[tuple[bytes, Stat] | None]:
        """`get` of every path, None for one that is not there, under way all at once.

        `watch` is called with the path of each that was there and has changed since, once.
        Answers are gathered on kazoo's thread and handed over together: a hand-over for each would
        cost more than the request.
        """
        if not paths:
            return []
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()
        # Filled by the one thread on which kazoo completes requests; read once it is full.
        results: list[Any] = []

        def collect(result: Any) -> None:
            results.append(result)
            if len(results) == len(begun):
                self._hand_over(lambda: None if answer.done() else answer.set_result(results))

        begun = [self._client.get_async(path, watch=self._watcher(watch, path)) for path in paths]
        for request in begun:
            request.rawlink(collect)
        await self._bounded(answer, Unavailable)
        found: list[tuple[bytes, Stat] | None] = []
        for request in begun:
            if request.exception is None:
                data, stat = request.value
                found.append((data, _stat(stat)))
            elif isinstance(request.exception, NoNodeError):
                found.append(None)
            else:
                raise _translated(request.exception, Unavailable)
        return found

    async def children(self, path: str, watch: Callable[[], None] | None = None) -> list[str]:
        """Names of the children, in no order; NoNodeError if there is no such node."""
        return list(await self._read(self._client.get_children_async, path, watch))

    async def exists(self, path: str, watch: Callable[[], None] | None = None) -> Stat | None:
        """The stat, or None if there is no such node; a watch then tells of its creation."""
        stat = await self._read(self._client.exists_async, path, watch)
        return None if stat is None else _stat(stat)

    async def sync(self, path: str) -> None:
        """Have the server that answers catch up with the leader."""
        await self._call(lambda: self._client.sync_async(path), Unavailable)

    async def create(
        self, path: str, data: bytes, *, ephemeral: bool = False, sequence: bool = False
    ) -> str:
        """The path that was made; NodeExistsError, or NoNodeError for a missing parent."""
        made = await self._call(
            lambda: self._client.create_async(path, data, ephemeral=ephemeral, sequence=sequence),
            UnknownOutcome,
        )
        return str(made)

    async def set(self, path: str, data: bytes, version: int) -> Stat:
        """Replace data at that version (-1: any); BadVersionError, NoNodeError."""
        stat = await self._call(lambda: self._client.set_async(path, data, version), UnknownOutcome)
        return _stat(stat)

    async def delete(self, path: str, version: int = -1) -> None:
        """Remove a node; NoNodeError, NotEmptyError, BadVersionError."""
        await self._call(lambda: self._client.delete_async(path, version), UnknownOutcome)

    async def ensure_path(self, path: str) -> None:
        """Make `path` and its parents, with empty data, where they are missing."""
        parts = path.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            try:
                await self.create("/" + "/".join(parts[:count]), b"")
            except NodeExistsError:
                continue

    async def multi(self, ops: Sequence[ZkOp]) -> None:
        """Apply all `ops` or none; raises what ZooKeeper found wrong with the first bad one.

        UnknownOutcome if the answer was lost. kazoo itself *returns* such errors, in a list.
        """
        transaction = self._client.transaction()
        for op in ops:
            match op:
                case Create(path, data):
                    transaction.create(path, data)
                case SetData(path, data):
                    transaction.set_data(path, data)
                case Remove(path):
                    transaction.delete(path)
                case Check(path, version):
                    transaction.check(path, version)
        results = await self._call(transaction.commit_async, UnknownOutcome)
        errors = [result for result in results if isinstance(result, Exception)]
        for error in errors:
            # Those two only say that another op of the same multi failed.
            if not isinstance(error, RolledBackError | RuntimeInconsistency):
                raise _translated(error, UnknownOutcome)
        if errors or len(results) != len(ops):
            raise StoreError(f"ZooKeeper refused a multi of {len(ops)} without saying which part")

    async def _read(
        self, method: Callable[..., Any], path: str, watch: Callable[[], None] | None
    ) -> Any:
        told = None if watch is None else self._watcher(lambda _path: watch(), path)
        return await self._call(lambda: method(path, watch=told), Unavailable)

    def _watcher(
        self, watch: Callable[[str], None] | None, path: str
    ) -> Callable[[object], None] | None:
        # kazoo keeps a set of watchers per path; a fresh function each time is told each time.
        return None if watch is None else lambda _event: self._hand_over(lambda: watch(path))

    async def settled(self) -> None:
        """Return when every change before this call has been told to those who watch it.

        ZooKeeper sends the events of a session before later answers. kazoo hands answers and
        events over on two threads, so its queue of events is waited for as well.
        """
        await self.sync("/")
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            self._hand_over(lambda: None if told.done() else told.set_result(None))

        self._client.handler.dispatch_callback(Callback("watch", settle, ()))
        await self._bounded(told, Unavailable)

    async def _call(
        self, begin: Callable[[], Any], lost: type[Unavailable | UnknownOutcome]
    ) -> Any:
        """Start a request; return its answer. A lost answer is an error of type `lost`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any) -> None:
            if answer.done():
                return
            if result.exception is not None:
                answer.set_exception(_translated(result.exception, lost))
            else:
                answer.set_result(result.value)

        begin().rawlink(lambda result: self._hand_over(lambda: settle(result)))
        return await self._bounded(answer, lost)

    async def _bounded(self, answer: Awaitable[T], lost: type[Unavailable | UnknownOutcome]) -> T:
        try:
            async with asyncio.timeout(self._request_timeout_s):
                return await answer
        except TimeoutError as error:
            raise lost(
                f"ZooKeeper at {self.url.hosts} gave no answer for {self._request_timeout_s:g} s"
            ) from error


def _acl(url: ZkUrl) -> list[Any] | None:
    if url.user is None:
        return None
    return [
        make_digest_acl(url.user, url.password, all=True),
        make_acl("world", "anyone", read=True),
    ]


def _stat(stat: Any) -> Stat:
    return Stat(stat.version, stat.numChildren, stat.ephemeralOwner)


def _translated(error: Any, lost: type[Unavailable | UnknownOutcome]) -> Exception:
    """What to raise for an error of kazoo, whose classes have no types."""
    known: Exception = error
    if isinstance(error, _VERDICTS):
        return known
    if isinstance(error, _LOST_ANSWER):
        return lost(f"the answer of ZooKeeper was lost: {type(error).__name__}")
    if isinstance(error, AuthFailedError | NoAuthError | InvalidACLError):
        return StoreError(
            f"ZooKeeper refuses access ({type(error).__name__}): the user:password of the URL does"
            " not own these nodes"
        )
    if isinstance(error, KazooException):
        return StoreError(f"ZooKeeper refuses: {type(error).__name__} {error}")
    return known
