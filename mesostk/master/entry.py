"""What every door of the master does first: who leads, has it recovered, is the call one.

Order of the checks (spec/mesos.md §1.3): leader (307 to it, 503 if there is none) → recovery (503)
→ method (405) → content type (400, 415) → body (400).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from aiohttp import web

from mesostk.base.core import Driver, Event
from mesostk.base.http import JSON_TYPE, PROTOBUF_TYPE
from mesostk.base.stream import Stream
from mesostk.errors import Rejected, WireError
from mesostk.master.acls import NO_ACLS, Acls
from mesostk.master.core import Master
from mesostk.master.fragments import Fragments
from mesostk.wire import json, protobuf, scheduler
from mesostk.wire.mesos import MasterInfo

T = TypeVar("T")

_TYPES = "application/json or application/x-protobuf"


class Node:
    """This process among the masters: its core, who leads, and its open streams.

    `driver` is None until this master has been elected and has loaded the registry. `master` is
    set once the port is known, which its id card names; before, `leader` is None.
    """

    master: Master
    fragments: Fragments

    def __init__(self, flags: Mapping[str, str], cluster: str | None, acls: Acls = NO_ACLS) -> None:
        self.flags = flags
        self.acls = acls
        self.cluster = cluster
        self.leader: MasterInfo | None = None
        self.driver: Driver[Any] | None = None
        self.streams: dict[str, Stream] = {}

    def begin(self, master: Master) -> None:
        """`master` is this process's core from now on."""
        self.master = master
        self.fragments = Fragments(master)

    @property
    def is_leading(self) -> bool:
        return self.leader is not None and self.leader.id == self.master.id

    def feed(self, event: Event) -> None:
        """To the core; nothing before it runs (no stream is open then)."""
        if self.driver is not None:
            self.driver.feed(event)

    def send(self, stream_id: str, data: bytes, *, exempt: bool = False) -> None:
        """To one open stream; nothing if that is over."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.send(data, exempt=exempt)

    def close(self, stream_id: str) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            stream.close()


def require_leader(node: Node, request: web.Request) -> None:
    """Raises the redirect to the leading master, or Rejected (503) if there is none."""
    if node.is_leading:
        return
    path = request.path_qs
    if not path.startswith("/master/"):
        # The original's routes are under its process id, and so are its redirects.
        path = "/master" + path
    raise web.HTTPTemporaryRedirect(leader_url(node) + path)


def leader_url(node: Node) -> str:
    """`//host:port` of the leading master. Rejected (503) if there is none."""
    leader = node.leader
    if leader is None:
        raise Rejected(503, "No leader elected")
    address = leader.address
    if address is None:
        return f"//{leader.hostname}:{leader.port}"
    return f"//{address.hostname or address.ip}:{address.port}"


def require_recovered(node: Node) -> Driver[Any]:
    """The running core. Rejected (503) while the registry is being read."""
    if node.driver is None or node.master.epoch is None:
        raise Rejected(503, "Master has not finished recovery")
    return node.driver


def wrong_method(request: web.Request, allowed: str = "POST") -> web.Response | None:
    """405 as the original answers it; None if the method is right."""
    if request.method == allowed:
        return None
    text = (
        f"405 Method Not Allowed. Expecting one of {{ '{allowed}' }},"
        f" but received '{request.method}'."
    )
    return web.Response(status=405, text=text, headers={"Allow": allowed})


def require_type(request: web.Request, allowed: Collection[str] = (JSON_TYPE,)) -> str:
    """The type of the body. Rejected: 400 without Content-Type, 415 for one not in `allowed`."""
    given = request.headers.get("Content-Type")
    if given is None:
        raise Rejected(400, "Expecting 'Content-Type' to be present")
    kind = given.partition(";")[0].strip().lower()
    if kind in allowed:
        return kind
    raise Rejected(415, f"Expecting 'Content-Type' of {_TYPES}")


async def read_call(request: web.Request, call: type[T], kind: str = JSON_TYPE) -> T:
    """The body, of type `kind`, as a call. Rejected (400) says whether it is unreadable or no
    call."""
    body = await request.read()
    try:
        if kind == PROTOBUF_TYPE:
            return protobuf.decode(body, call)
        return json.decode(body, call)
    except WireError as error:
        text = str(error)
        if kind == PROTOBUF_TYPE:
            # Both texts are the original's.
            into = "Call protobuf" if call is scheduler.Call else "a protobuf object"
            raise Rejected(400, f"Failed to parse body into {into}: {text}") from error
        if text.startswith("syntax error"):
            raise Rejected(400, f"Failed to parse body into JSON: {text}") from error
        raise Rejected(400, f"Failed to convert JSON into Call protobuf: {text}") from error
