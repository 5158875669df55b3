"""A standby answers every request by asking the leader: any method, path and body, streamed.

::

    client ─▶ standby ── X-Marathon-Via: 1.1 me:8080 ─▶ leader
                │ my own name is in X-Marathon-Via already: 502, a loop
                │ no leader within 2.5 s:                   502, could not determine it
                └ /v2/events:                               302, streams go to the leader directly

Source: spec/marathon §1.9, §1.10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from mesostk.errors import Rejected

VIA: Final = "X-Marathon-Via"

#: How often, and how far apart, a standby looks for a leader before it gives up (the original's).
LEADER_TRIES: Final = 10
LEADER_PAUSE_S: Final = 0.25

CHUNK_BYTES: Final = 64 * 1024

#: Headers of one connection, not of the message.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class ProxySettings:
    """How long to wait for the leader, in seconds, and how many requests at once."""

    def __init__(self, connect_s: float = 5.0, read_s: float = 10.0, max_open: int = 64) -> None:
        self.connect_s = connect_s
        self.read_s = read_s
        self.max_open = max_open


class LeaderProxy:
    """Forwards requests to `leader()`, which is `host:port`, or None while nobody leads.

    `me` is this process' own `host:port`; a leader of that name is one that has yet to notice.
    """

    def __init__(self, me: str, leader: Callable[[], str | None], settings: ProxySettings) -> None:
        self.me = me
        self._leader = leader
        self._settings = settings
        self._open = asyncio.Semaphore(settings.max_open)
        self._session: aiohttp.ClientSession | None = None

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The leader's own answer; Rejected (502) where there is none."""
        mine = f"1.1 {self.me}"
        passed = request.headers.getall(VIA, [])
        if any(mine in (hop.strip() for hop in line.split(",")) for line in passed):
            raise Rejected(502, f"Detected a proxying loop: {VIA} names {self.me} already")
        leader = await self._find_leader()
        url = f"{request.scheme}://{leader}{request.raw_path}"
        if request.path.rstrip("/") == "/v2/events":
            return web.Response(status=302, headers={"Location": url})
        async with self._open:
            return await self._relay(request, url, mine)

    async def _find_leader(self) -> str:
        for attempt in range(LEADER_TRIES):
            if attempt:
                await asyncio.sleep(LEADER_PAUSE_S)
            leader = self._leader()
            if leader is not None and leader != self.me:
                return leader
        raise Rejected(502, "Could not determine the current leader")

    async def _relay(self, request: web.Request, url: str, mine: str) -> web.StreamResponse:
        headers = _end_to_end(request.headers)
        headers.add(VIA, mine)
        headers["X-Forwarded-For"] = ", ".join(
            [*request.headers.getall("X-Forwarded-For", []), request.remote or "unknown"]
        )
        body = request.content.iter_chunked(CHUNK_BYTES) if request.body_exists else None
        try:
            async with self._client().request(
                request.method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept-Encoding", "Accept"),
            ) as answer:
                return await self._pass_back(request, answer, mine)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Rejected(502, f"Could not reach the leader at {url}: {reason}") from error
        except ValueError as error:
            raise Rejected(502, f"The leader's node names no host, but {url!r}") from error

    async def _pass_back(
        self, request: web.Request, answer: aiohttp.ClientResponse, mine: str
    ) -> web.StreamResponse:
        headers = _end_to_end(answer.headers)
        headers.add(VIA, mine)
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        await response.prepare(request)
        try:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                await response.write(chunk)
        except (aiohttp.ClientError, TimeoutError):
            # The head is out already: the only honest end is a broken connection.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=self._settings.max_open, ssl=False),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=self._settings.connect_s,
                    sock_read=self._settings.read_s,
                ),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections to the leader."""
        if self._session is not None:
            await self._session.close()


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """`headers` without those of the connection, and those it names itself."""
    kept = headers.copy()
    named = {name.strip().lower() for name in kept.get("Connection", "").split(",")}
    for name in {name for name in kept if name.lower() in HOP_BY_HOP | named}:
        kept.popall(name)
    return kept
