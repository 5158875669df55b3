"""Calling other daemons: one session, clear errors, and a way to whoever leads.

::

    LeaderClient.request ─▶ leader known? ─▶ POST ─▶ 2xx, 4xx: the answer
                              ▲                ├─ 307 Location: //host:port/path ─▶ there
                              └─ pause, jitter ┴─ refused, 503 ─▶ next address, until the time is up
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from mesostk.errors import Unavailable
from mesostk.wire import json

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 30.0

#: A leader points elsewhere at most this often; masters in disagreement may send one in circles.
MAX_REDIRECTS: Final = 5

#: First and longest pause between two rounds of attempts.
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 2.0

#: Answers are read up to this size; `/state` of 10,000 agents has 43 MB.
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, type: type[T]) -> T:
        """The body as a record; WireError names the field that is wrong."""
        return json.decode(self.body, type)

    def text(self) -> str:
        """The body as text, for messages."""
        return self.body.decode(errors="replace")


class Client:
    """A session with keep-alive; made on the loop, closed at the end.

    `tls` is used for https; without it certificates are checked against those of the host.
    """

    def __init__(
        self, user_agent: str, max_connections: int = 100, tls: ssl.SSLContext | None = None
    ) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections, ssl=True if tls is None else tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            headers={"User-Agent": user_agent},
            # The proxy settings of whoever starts a daemon are not the cluster's.
            trust_env=False,
            auto_decompress=True,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def open(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> aiohttp.ClientResponse:
        """Send a request; return the answer with its body unread, for streams.

        `timeout_s` bounds the time to the headers. NotSent if the peer cannot be connected to,
        Unavailable if it may have got the request. The caller closes the response.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._session.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                )
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"cannot connect to {_where(url)}: {error.strerror or error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"no answer from {_where(url)}: {reason}") from error
        except ValueError as error:
            # Addresses come from others: of a leader's node, of a redirect.
            raise NotSent(f"{url[:200]!r} names no host: {error}") from error

    async def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Answer:
        """Send a request and read its whole answer; Unavailable if that cannot be had."""
        response = await self.open(method, url, body, headers, timeout_s)
        return await read_answer(response, timeout_s)


class NotSent(Unavailable):
    """The peer could not be connected to, so it certainly did nothing."""


async def read_answer(
    response: aiohttp.ClientResponse, timeout_s: float = REQUEST_TIMEOUT_S
) -> Answer:
    """The rest of `response`, which is then closed; Unavailable if it breaks off or has no end."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise Unavailable(f"the answer of {_where(str(response.url))} has no end")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if isinstance(error, Unavailable):
            raise
        reason = str(error) or type(error).__name__
        raise Unavailable(f"{_where(str(response.url))} broke off its answer: {reason}") from error
    finally:
        response.release()
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, b"".join(chunks))


class LeaderClient:
    """Requests to whoever leads.

    The leader is told by a detector (`set_leader`), or found among `addresses` (`host:port`) by
    following 307. `rng` spreads the pauses of many clients.
    """

    def __init__(
        self,
        client: Client,
        addresses: Sequence[str] = (),
        rng: random.Random | None = None,
        scheme: str = "http",
    ) -> None:
        self._client = client
        self._addresses = list(addresses)
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - spreads load only
        self._scheme = scheme
        self._leader: str | None = None

    @property
    def leader(self) -> str | None:
        """`host:port` of the last known leader."""
        return self._leader

    def set_leader(self, address: str | None) -> None:
        """What the detector says; None: nobody leads."""
        self._leader = address

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Answer:
        """Send a request to the leader and read its whole answer.

        Tries until `timeout_s` is over as long as nothing was sent or a master said that it does
        not lead; a GET is tried again after any failure. Unavailable says what was tried.
        """
        response = await self.open(method, path, body, headers, timeout_s)
        return await read_answer(response, timeout_s)

    async def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> aiohttp.ClientResponse:
        """As `request`, with the body unread, for streams. The caller closes the response."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause = MIN_PAUSE_S
        trouble = "nobody leads"
        while True:
            for address in self._candidates():
                left = max(0.05, deadline - loop.time())
                try:
                    response = await self._follow(method, address, path, body, headers, left)
                except Unavailable as error:
                    self._forget(address)
                    trouble = str(error)
                    if method not in ("GET", "HEAD") and not isinstance(error, NotSent):
                        raise
                    continue
                if response.status != 503:
                    return response
                trouble = f"{address}: {(await read_answer(response, left)).text()[:200]}"
            if loop.time() + pause >= deadline:
                known = ", ".join(self._candidates()) or "none known"
                raise Unavailable(f"no leader answered within {timeout_s:g} s ({known}): {trouble}")
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(2 * pause, MAX_PAUSE_S)

    def _candidates(self) -> list[str]:
        first: Iterable[str] = [] if self._leader is None else [self._leader]
        return [*first, *(a for a in self._addresses if a != self._leader)]

    def _forget(self, address: str) -> None:
        # With a list to search through, begin with another one; a detector speaks for itself.
        if self._addresses and self._leader == address:
            self._leader = None

    async def _follow(
        self,
        method: str,
        address: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> aiohttp.ClientResponse:
        url = f"{self._scheme}://{address}{path}"
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._client.open(method, url, body, headers, timeout_s)
            location = response.headers.get("Location")
            if response.status not in (302, 307, 308) or location is None:
                if response.status < 300 and self._addresses:
                    self._leader = urlsplit(url).netloc
                return response
            response.release()
            url = redirected(url, location)
        raise Unavailable(f"{address} and others redirect in circles")


def redirected(url: str, location: str) -> str:
    """Where `Location` points: absolute, `//host:port/path` or `/path`."""
    try:
        base, target = urlsplit(url), urlsplit(location)
    except ValueError as error:
        raise Unavailable(f"{_where(url)} redirects to {location[:200]!r}: {error}") from error
    if location.startswith("//"):
        return f"{base.scheme}:{location}"
    if location.startswith("/"):
        return f"{base.scheme}://{base.netloc}{location}"
    if target.scheme not in ("http", "https"):
        raise Unavailable(f"{base.netloc} redirects to {location!r}, which is no address")
    return location


def _where(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return repr(url[:200])
