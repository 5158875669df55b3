"""What the HTTP servers of all daemons share: listening, answers, errors, negotiation, gzip, Basic.

::

    socket ─▶ edge: handler ─▶ response ─▶ gzip if ≥ 1 KB and accepted
                      ├─ Rejected, WireError, 404, 405, 413, … ─▶ text or {"message"}
                      └─ any other exception ─▶ 500, counted and logged

A handler whose caller goes away is cancelled. Long-lived answers are in `stream.py`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import gzip
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.typedefs import Handler, Middleware

from mesostk.base.flagtext import decode_json
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.base.protocol import Connection
from mesostk.base.shortcut import Shortcut, ShortcutHandler
from mesostk.errors import ConfigError, Rejected, Unavailable, WireError
from mesostk.wire import json

#: Bodies from here on are compressed if the caller accepts gzip, as libprocess does.
GZIP_MIN_BYTES: Final = 1024

#: Bodies from here on are compressed in a thread: 64 KB take about 1 ms at level 1.
GZIP_THREAD_BYTES: Final = 64 * 1024

#: Default limit of a request's body. The largest legal ones (thousands of tasks in one ACCEPT, a
#: Marathon group) stay below; a flag of each daemon may change it.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024

#: Seconds that open answers get to end when a server stops.
SHUTDOWN_S: Final = 1.0

JSON_TYPE: Final = "application/json"
PROTOBUF_TYPE: Final = "application/x-protobuf"
RECORDIO_TYPE: Final = "application/recordio"

_JSONP_NAME = re.compile(r"[A-Za-z_$][\w$.]*")

#: Makes an error's answer: (status, message) → response.
ErrorStyle = Callable[[int, str], web.Response]

#: Runs a function in a thread: `Daemon.cpu`.
InThread = Callable[..., Awaitable[bytes]]


def text_error(status: int, message: str) -> web.Response:
    """An error as Mesos tells it: plain text."""
    return web.Response(status=status, text=message)


def message_error(status: int, message: str) -> web.Response:
    """An error as Marathon and Chronos tell it: `{"message": …}`.

    They name 405, 406 and 415 by the reason phrase alone. Source: spec/marathon §1.2.
    """
    if status in (405, 406, 415):
        message = HTTPStatus(status).phrase
    return web.Response(
        status=status, body=json.encode({"message": message}), content_type=JSON_TYPE
    )


def json_answer(
    body: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    request: web.Request | None = None,
) -> web.Response:
    """`body` as JSON; bytes are taken to be JSON already.

    With `request`, its query parameter `jsonp=NAME` wraps the answer in a call of NAME; Rejected
    (400) if that is no name.
    """
    raw = body if isinstance(body, bytes) else json.encode(body)
    callback = None if request is None else request.query.get("jsonp")
    if callback is None:
        return web.Response(status=status, body=raw, headers=headers, content_type=JSON_TYPE)
    # Anything but a name would run in the page that asked.
    if _JSONP_NAME.fullmatch(callback) is None:
        raise Rejected(400, "Query parameter 'jsonp' must be the name of a function")
    wrapped = callback.encode() + b"(" + raw + b")"
    return web.Response(
        status=status, body=wrapped, headers=headers, content_type="text/javascript"
    )


# -- negotiation -----------------------------------------------------------------------------------


def content_type_of(request: web.Request, allowed: Iterable[str] = (JSON_TYPE,)) -> str:
    """The type of the request's body, one of `allowed`.

    Rejected: 400 if the header is missing, 415 if it names another type. Source: spec/mesos §0.4.
    """
    if "Content-Type" not in request.headers:
        raise Rejected(400, "Expecting 'Content-Type' to be present")
    given = request.headers["Content-Type"].partition(";")[0].strip().lower()
    wanted = list(allowed)
    if given not in wanted:
        raise Rejected(415, f"Expecting 'Content-Type' of {' or '.join(wanted)}")
    return given


def accepted_type_of(request: web.Request, offered: Iterable[str] = (JSON_TYPE,)) -> str:
    """The first of `offered` that the `Accept` headers allow; Rejected (406) if none.

    Order of `offered` counts, not the caller's weights, apart from `q=0`: Mesos tests JSON first.
    """
    choices = list(offered)
    ranges = _accept_ranges(request.headers.getall("Accept", []))
    if not ranges:
        return choices[0]
    for choice in choices:
        if _allows(ranges, choice):
            return choice
    names = " or ".join(f"'{choice}'" for choice in choices)
    raise Rejected(406, f"Expecting 'Accept' to allow {names}")


def _accept_ranges(headers: Iterable[str]) -> dict[str, float]:
    ranges: dict[str, float] = {}
    for part in ",".join(headers).split(","):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        if not name:
            continue
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        ranges[name] = weight
    return ranges


def _allows(ranges: Mapping[str, float], choice: str) -> bool:
    """Whether the most specific range that covers `choice` has a weight above 0."""
    for name in (choice, choice.partition("/")[0] + "/*", "*/*", "*"):
        if name in ranges:
            return ranges[name] > 0
    return False


def accepts_gzip(request: web.Request) -> bool:
    """Whether `Accept-Encoding` allows gzip."""
    ranges = _accept_ranges(request.headers.getall("Accept-Encoding", []))
    return ranges.get("gzip", ranges.get("*", 0.0)) > 0


# -- Basic authentication --------------------------------------------------------------------------


class Credential(msgspec.Struct, frozen=True):
    """One principal and its secret, as in a `--credentials` file."""

    principal: str
    secret: str


class _Credentials(msgspec.Struct, frozen=True):
    credentials: list[Credential]


def parse_credentials(text: str, flag: str = "credentials") -> dict[str, str]:
    """Secret by principal, of `{"credentials":[{"principal","secret"}]}`; ConfigError otherwise."""
    try:
        parsed = decode_json(text, _Credentials)
    except ValueError as error:
        raise ConfigError(
            f'--{flag}: {error}; expected {{"credentials":[{{"principal":…,"secret":…}}]}}'
        ) from error
    return {one.principal: one.secret for one in parsed.credentials}


class BasicAuth:
    """Checks HTTP Basic credentials against a table of secrets."""

    def __init__(self, secrets: Mapping[str, str], realm: str) -> None:
        self._secrets = dict(secrets)
        self._realm = realm

    def principal(self, request: web.Request) -> str | None:
        """The principal that proved itself, or None."""
        scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            text = base64.b64decode(coded.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        principal, colon, secret = text.partition(":")
        known = self._secrets.get(principal)
        # Compared even for an unknown principal, so that the time taken does not tell who exists.
        expected = known if known is not None else "\0"
        same = hmac.compare_digest(secret.encode(), expected.encode())
        return principal if colon and known is not None and same else None

    def challenge(self) -> web.Response:
        """401 with the realm."""
        headers = {"WWW-Authenticate": f'Basic realm="{self._realm}"'}
        return web.Response(status=401, headers=headers)


# -- the edge --------------------------------------------------------------------------------------


def make_app(
    log: Log,
    metrics: Metrics,
    style: ErrorStyle = text_error,
    max_body_bytes: int = MAX_BODY_BYTES,
    in_thread: InThread | None = None,
    middlewares: Iterable[Middleware] = (),
    compress: bool = True,
) -> web.Application:
    """An application whose errors are in `style`; `middlewares` run inside the edge, in order."""
    edge = make_edge(log, metrics, style, max_body_bytes, in_thread, compress=compress)
    return web.Application(middlewares=[edge, *middlewares], client_max_size=max_body_bytes)


def make_edge(
    log: Log,
    metrics: Metrics,
    style: ErrorStyle,
    max_body_bytes: int,
    in_thread: InThread | None,
    *,
    compress: bool = True,
) -> Middleware:
    """The outermost middleware: every outcome of a handler becomes one proper answer."""
    requests = metrics.counter("http/requests")
    failures = metrics.counter("http/errors_500")

    @web.middleware
    async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
        requests.value += 1
        try:
            response = await handler(request)
        except Rejected as error:
            response = style(error.status, error.message)
        except WireError as error:
            response = style(400, str(error))
        except Unavailable as error:
            response = style(503, str(error))
        except web.HTTPRequestEntityTooLarge:
            response = style(413, f"The request's body is larger than {max_body_bytes} bytes")
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = _restyled(style, error, request)
        except Exception as error:  # noqa: BLE001 - the edge answers 500 and counts it
            failures.value += 1
            log.crash("Request failed", error, method=request.method, path=request.path)
            response = style(500, "Internal error; the log of this daemon has the details")
        if compress and type(response) is web.Response:
            await _compress(request, response, in_thread)
        return response

    return edge


def _restyled(style: ErrorStyle, error: web.HTTPException, request: web.Request) -> web.Response:
    message = error.text or error.reason
    if error.status == 404:
        message = f"URI not found: {request.path}"
    if isinstance(error, web.HTTPMethodNotAllowed) and not message.startswith("405 Method"):
        # HEAD comes with every GET here; the original does not speak of it.
        allowed = ", ".join(f"'{name}'" for name in sorted(error.allowed_methods - {"HEAD"}))
        message = (
            f"405 Method Not Allowed. Expecting one of {{ {allowed} }}, but received"
            f" '{request.method}'."
        )
    response = style(error.status, message)
    for name in ("Allow", "WWW-Authenticate"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response


async def _compress(
    request: web.Request, response: web.Response, in_thread: InThread | None
) -> None:
    body = response.body
    if not isinstance(body, bytes) or len(body) < GZIP_MIN_BYTES or response.prepared:
        return
    if "Content-Encoding" in response.headers or not accepts_gzip(request):
        return
    if in_thread is not None and len(body) >= GZIP_THREAD_BYTES:
        response.body = await in_thread(gzip.compress, body, 1)
    else:
        response.body = gzip.compress(body, 1)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"


def add_routes(
    app: web.Application,
    ids: Iterable[str],
    routes: Iterable[tuple[str, str, Handler]],
) -> None:
    """Add (method, path, handler) under each of `ids` (`""`, `"/master"`), with or without a
    trailing slash; `*` is any method, and what answers GET answers HEAD.
    """
    table = list(routes)
    for prefix in ids:
        for method, path, handler in table:
            full = (prefix + path).rstrip("/")
            for spelled in (full, full + "/") if full else ("/",):
                app.router.add_route(method, spelled, handler)
                if method == "GET":
                    app.router.add_route("HEAD", spelled, handler)


#: Nothing that climbs: the original answers 404 to `/..` anywhere in a path.
_BELOW = r"/{below:(?!\.\.)(?!.*/\.\.).+}"


def with_all_below(
    routes: Iterable[tuple[str, str, Handler]], but: Container[str] = ()
) -> list[tuple[str, str, Handler]]:
    """`routes`, each of which but those of paths in `but` answers what is below its path, too,
    unless that has a route of its own: the longest path wins. Source: spec/mesos.md §0.1.
    """
    table = list(routes)
    below = [(method, path + _BELOW, it) for method, path, it in table if path and path not in but]
    return [*table, *below]


def endpoint_of(request: web.Request) -> str:
    """The path of the endpoint that answers, without what the request has below it."""
    below = request.match_info.get("below")
    resource = request.match_info.route.resource
    if below is None or resource is None:
        return request.path
    return resource.canonical.removesuffix("/{below}")


async def not_found(_request: web.Request) -> web.StreamResponse:
    """Whatever has no route, as Mesos answers it."""
    return text_error(404, "404 Not Found.")


async def _without_library(_request: web.Request, response: web.StreamResponse) -> None:
    """Name no library and its version: Mesos sends no `Server` (spec §15)."""
    if response.headers.get("Server") == SERVER_SOFTWARE:
        del response.headers["Server"]


class Server:
    """Listens for one application on one address.

    `ip_flag` and `port_flag` are how the daemon calls the two; its errors name them.
    """

    def __init__(
        self,
        app: web.Application,
        ip: str,
        port: int,
        ip_flag: str = "--ip",
        port_flag: str = "--port",
        shortcut: Shortcut | None = None,
    ) -> None:
        if _without_library not in app.on_response_prepare:
            app.on_response_prepare.insert(0, _without_library)
        self._app = app
        self._shortcut = shortcut
        self._ip_flag = ip_flag
        self._port_flag = port_flag
        self.ip = ip
        #: The port asked for, and from `start` on the one that is open (0 asks for a free one).
        self.port = port
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the port; ConfigError naming it, and the remedy, if that cannot be."""
        self._check_ip()
        runner = web.AppRunner(
            self._app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
        )
        await runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                self._protocols(runner), self.ip, self.port, reuse_address=True, backlog=1024
            )
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(self._cannot_listen(error)) from error
        self._runner = runner
        self.port = int(self._listening.sockets[0].getsockname()[1])

    def _protocols(self, runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a connection."""
        server, shortcut = runner.server, self._shortcut
        assert server is not None
        options: dict[str, Any] = {"loop": asyncio.get_running_loop(), "access_log": None}
        if shortcut is None:
            return lambda: Connection(server, **options)
        return lambda: ShortcutHandler(server, shortcut, **options)

    async def stop(self) -> None:
        """Close the port and end what is under way."""
        runner, self._runner = self._runner, None
        if self._listening is not None:
            self._listening.close()
        if runner is not None:
            await runner.cleanup()

    def _check_ip(self) -> None:
        try:
            ipaddress.ip_address(self.ip)
        except ValueError as error:
            raise ConfigError(
                f"{self._ip_flag}={self.ip} is not an IP address to listen on"
            ) from error

    def _cannot_listen(self, error: OSError) -> str:
        ip, port = self.ip, self.port
        if error.errno == errno.EADDRINUSE:
            return (
                f"port {port} on {ip} is taken by another process; `ss -ltnp 'sport = :{port}'`"
                f" shows which. Stop it or choose another {self._port_flag}"
            )
        if error.errno == errno.EACCES:
            return (
                f"port {port} needs root or CAP_NET_BIND_SERVICE; choose a {self._port_flag}"
                " above 1023"
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return (
                f"{ip} is not an address of this host; `ip address` lists those. Correct"
                f" {self._ip_flag}"
            )
        return f"cannot listen on {ip}:{port}: {error.strerror or error}"

    @property
    def url(self) -> str:
        """`http://ip:port`."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"http://{host}:{self.port}"


async def wait_for_port(ip: str, port: int, timeout_s: float) -> None:
    """Return once somebody accepts connections there; Unavailable after `timeout_s`."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            _, writer = await asyncio.open_connection(ip, port)
        except OSError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable(f"nobody listens on {ip}:{port}: {error}") from error
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
