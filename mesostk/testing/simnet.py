"""The network: streams that keep their order, POSTs, delay, loss of connection, partitions.

::

    client ── open(request) ──▶ server.serve(request) ─▶ begin(stream id) | refuse(status, location)
           ◀── records, in order, each after its own delay ── send(record)
           ── post(request) ──▶ server.serve(request) ─▶ answer(status)

A stream ends for each side on its own: when one side is gone, the other learns it after a while,
or never (half open). What is sent while hosts are parted waits; when they meet again it arrives,
or the connection is found broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesostk.testing.faults import Kind
from mesostk.testing.simhost import Ground, Host, Process

#: Shortest and longest delay of a message; seconds.
DELAY_S = (0.0005, 0.02)
#: How late a late message is at most; seconds.
LATE_S = 3.0
#: A connection that does not come to be, and a POST that is not answered, are given up; seconds.
CONNECT_TIMEOUT_S = 10.0
POST_TIMEOUT_S = 30.0


class Request:
    """A call on its way to a server. `kind` names the endpoint, `stream_id` the header."""

    def __init__(
        self, kind: str, body: Any, stream_id: str | None, answer: Callable[[int, str], None]
    ) -> None:
        self.kind = kind
        self.body = body
        self.stream_id = stream_id
        #: Tells the client status and text, or the location of a redirect.
        self.answer = answer
        #: The stream that may be the answer; None for a POST.
        self.stream: Stream | None = None


class Server(Process):
    """A process that can be called."""

    def serve(self, request: Request) -> None:
        """Handle a call that arrived."""
        raise NotImplementedError


class Stream:
    """A long answer: `client` hears what `server` sends."""

    def __init__(self, net: Network, client: Process, server: Server) -> None:
        self._net = net
        self.client = client
        self.server = server
        self.id: str | None = None
        self.client_open = True
        self.server_open = False
        self.lossy = False
        self._free_at = 0.0
        self._waiting: list[Callable[[], None]] = []
        self.on_begin: Callable[[str], None] = lambda _id: None
        self.on_refused: Callable[[int, str], None] = lambda _status, _text: None
        self.on_record: Callable[[Any], None] = lambda _record: None
        self.on_client_end: Callable[[str], None] = lambda _reason: None
        self.on_server_end: Callable[[], None] = lambda: None

    # -- the server's side ----------------------------------------------------------------------

    def begin(self, stream_id: str) -> None:
        """Answer 200; records may follow."""
        self.id = stream_id
        self.server_open = True
        self.server.ended.append(lambda: self.end("the server died"))
        self._down(lambda: self.on_begin(stream_id))

    def refuse(self, status: int, text: str) -> None:
        """Answer anything else; `text` is the location of a redirect."""
        self.server_open = False
        self._down(lambda: self._refused(status, text))

    def _refused(self, status: int, text: str) -> None:
        self.client_open = False
        self.on_refused(status, text)

    def send(self, record: Any) -> None:
        """Send a record; lost if the connection is."""
        if self.server_open:
            self._down(lambda: self.on_record(record))

    def end(self, reason: str) -> None:
        """The server's side is closed; the client learns it after what was sent."""
        if self.server_open or self.id is None:
            self.server_open = False
            self._down(lambda: self._client_ended(reason))

    # -- the client's side ----------------------------------------------------------------------

    def close(self) -> None:
        """The client's side is closed; the server learns it."""
        if not self.client_open:
            return
        self.client_open = False
        self._net.travel(self.client.host, self.server.host, self._to_server, "close")

    def _to_server(self) -> None:
        if self.server_open and not self.lossy:
            self.server.arrives(self._server_ended)()

    def _server_ended(self) -> None:
        if self.server_open:
            self.server_open = False
            self.on_server_end()

    def _client_ended(self, reason: str) -> None:
        if self.client_open:
            self.client_open = False
            self.on_client_end(reason)

    # -- on the way -----------------------------------------------------------------------------

    def _down(self, fn: Callable[[], None]) -> None:
        """Have `fn` happen at the client, after all before it."""

        def arrive() -> None:
            if self.client_open:
                fn()

        if self.lossy:
            return
        if self._net.is_parted(self.client.host, self.server.host):
            self._waiting.append(arrive)
            return
        net = self._net
        self._free_at = max(self._free_at, net.ground.loop.now + net.delay(self.client.name))
        net.ground.loop.at(self._free_at, self.client.arrives(arrive))

    def cut(self) -> None:
        """Both sides learn that the connection is broken; what was on its way is lost."""
        self.lossy = True
        client, server = self.client, self.server
        reason = "connection reset"
        client.later(self._net.delay("cut"), lambda: self._client_ended(reason))
        server.later(self._net.delay("cut"), self._server_ended)

    def half_open(self, *, client_knows: bool) -> None:
        """Only one side learns that the connection is broken."""
        self.lossy = True
        if client_knows:
            self.client.later(0.0, lambda: self._client_ended("connection reset"))
        else:
            self.server.later(0.0, self._server_ended)

    def meet(self) -> None:
        """The hosts can reach each other again."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if self._net.ground.rng.random() < 0.5:
            self.cut()
            return
        for arrive in waiting:
            self._free_at = max(self._free_at, self._net.ground.loop.now + self._net.delay("meet"))
            self._net.ground.loop.at(self._free_at, self.client.arrives(arrive))


class Network:
    """Carries calls between hosts; `servers` by `host:port`."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.servers: dict[str, Server] = {}
        self.streams: list[Stream] = []
        self._parted: set[frozenset[str]] = set()

    # -- connectivity ---------------------------------------------------------------------------

    def is_parted(self, one: Host, other: Host) -> bool:
        """Whether messages between the two hosts do not get through."""
        return one is not other and frozenset((one.name, other.name)) in self._parted

    def part(self, one: Host, other: Host) -> None:
        """No message gets through between the two from now on."""
        if one is not other:
            self._parted.add(frozenset((one.name, other.name)))

    def join(self, one: Host, other: Host) -> None:
        """They can reach each other again."""
        if self.is_parted(one, other):
            self._parted.discard(frozenset((one.name, other.name)))
            for stream in self.open_streams():
                if {stream.client.host, stream.server.host} == {one, other}:
                    stream.meet()

    def open_streams(self) -> list[Stream]:
        """Streams that at least one side holds for open."""
        self.streams = [s for s in self.streams if s.client_open or s.server_open]
        return list(self.streams)

    def delay(self, what: str) -> float:
        """How long the next message takes."""
        if self.ground.faults.roll(Kind.LATE_MESSAGE, what):
            return self.ground.rng.uniform(0.0, LATE_S)
        return self.ground.rng.uniform(*DELAY_S)

    def travel(self, source: Host, target: Host, fn: Callable[[], None], what: str) -> None:
        """Have `fn` happen at `target` after a delay; lost if the hosts are parted."""
        if not self.is_parted(source, target):
            self.ground.loop.later(self.delay(what), fn)

    # -- calls ----------------------------------------------------------------------------------

    def open(self, client: Process, address: str, kind: str, body: Any) -> Stream | None:
        """A call whose answer is a stream; None if no such server can exist.

        The caller sets the stream's `on_…` before anything can happen.
        """
        server = self.servers.get(address)
        if server is None:
            return None
        stream = Stream(self, client, server)
        self.streams.append(stream)
        client.ended.append(stream.close)
        request = Request(kind, body, None, stream.refuse)
        request.stream = stream

        def timed_out() -> None:
            if stream.client_open and stream.id is None:
                stream.client_open = False
                stream.on_client_end("no answer")

        client.later(CONNECT_TIMEOUT_S, timed_out)
        self._call(client, server, request, lambda: stream.end("connection refused"))
        return stream

    def post(
        self,
        client: Process,
        address: str,
        kind: str,
        body: Any,
        stream_id: str | None,
        answered: Callable[[int, str], None],
    ) -> None:
        """A call; `answered` gets status and text once, status 0 for no answer in time."""
        server = self.servers[address]
        is_open = True

        def once(status: int, text: str) -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                answered(status, text)

        life = client.life

        def answer(status: int, text: str) -> None:
            if client.life == life:
                arrive = client.arrives(lambda: once(status, text))
                self.travel(server.host, client.host, arrive, client.name)

        client.later(POST_TIMEOUT_S, lambda: once(0, "no answer"))
        request = Request(kind, body, stream_id, answer)
        self._call(client, server, request, lambda: answer(0, "connection refused"))
        # A user's change that comes twice is two changes; nothing can be said about the second.
        if kind != "api" and self.ground.faults.roll(Kind.DUPLICATE_CALL, f"{client.name} {kind}"):
            self._call(client, server, request, lambda: None)

    def _call(
        self, client: Process, server: Server, request: Request, refused: Callable[[], None]
    ) -> None:
        def arrive() -> None:
            if server.is_alive:
                server.arrives(lambda: server.serve(request))()
            else:
                refused()

        self.travel(client.host, server.host, arrive, client.name)
