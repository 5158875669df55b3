"""Who may ask: HTTP Basic authentication of the three realms (spec/mesos.md §0.1, §10).

::

    mesos-master-readonly    documents, metrics, flags       --authenticate_http_readonly
    mesos-master-readwrite   /api/v1 and what changes        --authenticate_http_readwrite
    mesos-master-scheduler   /api/v1/scheduler               --authenticate_http_frameworks
    open to all              /health, /redirect, /version, the page; agents have a link of their own
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mesostk.base.config import Values
from mesostk.base.http import BasicAuth, parse_credentials
from mesostk.errors import Rejected
from mesostk.wire import scheduler

#: Key of a request under which its authenticated principal is, if there is one.
PRINCIPAL = "principal"

_READONLY, _READWRITE, _SCHEDULER = (
    "mesos-master-readonly",
    "mesos-master-readwrite",
    "mesos-master-scheduler",
)

_OPEN = frozenset({"", "/health", "/redirect", "/version", "/api/link"})

#: Everything that is not named here or above may change something.
_DOCUMENTS = frozenset(
    {
        "/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/roles", "/flags",
        "/metrics", "/metrics/snapshot", "/system/stats", "/explain-offers", "/maintenance/status",
        "/files/browse", "/files/read", "/files/download", "/files/debug",
        "/registrar(1)/registry",
    }
)  # fmt: skip

_FLAGS = {
    _READONLY: "authenticate_http_readonly",
    _READWRITE: "authenticate_http_readwrite",
    _SCHEDULER: "authenticate_http_frameworks",
}


def realm_of(path: str) -> str | None:
    """The realm of a path, with or without `/master`; None for what is open to all."""
    plain = path.rstrip("/")
    if plain == "/master" or plain.startswith("/master/"):
        plain = plain.removeprefix("/master")
    plain = plain.removesuffix(".json")
    if plain in _OPEN or plain.startswith("/ui/"):
        return None
    if plain == "/api/v1/scheduler":
        return _SCHEDULER
    return _READONLY if plain in _DOCUMENTS else _READWRITE


def refusal(values: Values) -> str | None:
    """Why the flags about authentication cannot be used together; None if they can."""
    wanted = [flag for flag in _FLAGS.values() if values[flag]]
    if wanted and values.credentials is None:
        return f"--{wanted[0]} needs --credentials=file:///path of the principals and secrets"
    return None


def guard(values: Values) -> Middleware:
    """A middleware that answers 401 to who must prove itself and does not.

    A principal that proves itself is kept also where that was not needed. Raises ConfigError for
    credentials that cannot be read.
    """
    secrets = {} if values.credentials is None else parse_credentials(values.credentials)
    doors = {realm: BasicAuth(secrets, realm) for realm in _FLAGS}
    closed = {realm for realm, flag in _FLAGS.items() if values[flag]}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        realm = realm_of(request.path)
        if realm is not None:
            principal = doors[realm].principal(request)
            if principal is None and realm in closed:
                return doors[realm].challenge()
            request[PRINCIPAL] = principal
        return await handler(request)

    return check


def principal_of(request: web.Request) -> str | None:
    """The principal that proved itself; None if nobody had to and nobody did."""
    principal: str | None = request.get(PRINCIPAL)
    return principal


def require_own_name(call: scheduler.Call, principal: str | None) -> None:
    """Rejected (400) if a framework subscribes under another principal than its own."""
    assert call.subscribe is not None
    named = call.subscribe.framework_info.principal
    if principal is not None and named is not None and named != principal:
        raise Rejected(
            400,
            f"Authenticated principal '{principal}' does not match principal '{named}' set in"
            " `FrameworkInfo`",
        )
