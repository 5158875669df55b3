"""Who may ask: the endpoints that are open at all, and HTTP Basic authentication by realm
(spec/mesos.md §0.1, §10).

::

    mesos-master-readonly    documents, metrics, flags       --authenticate_http_readonly
    mesos-master-readwrite   /api/v1 and what changes        --authenticate_http_readwrite
    mesos-master-scheduler   /api/v1/scheduler               --authenticate_http_frameworks
    mesos-master-agent       /api/link                       --authenticate_agents
    open to all              /health, /redirect, /version, /help, the page
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mesostk.base.config import Values
from mesostk.base.firewall import disabled_paths
from mesostk.base.http import BasicAuth, endpoint_of, parse_credentials
from mesostk.errors import Rejected
from mesostk.master.acls import Acls
from mesostk.master.permits import Seen, sees_all
from mesostk.wire import scheduler

if TYPE_CHECKING:
    from mesostk.master.core import Master

#: Key of a request under which its authenticated principal is, if there is one.
PRINCIPAL = "principal"

_READONLY, _READWRITE, _SCHEDULER, _AGENT = (
    "mesos-master-readonly",
    "mesos-master-readwrite",
    "mesos-master-scheduler",
    "mesos-master-agent",
)

_OPEN = frozenset({"", "/health", "/redirect", "/version", "/help", "/__processes__"})

#: Everything that is not named here or above may change something.
_DOCUMENTS = frozenset(
    {
        "/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/roles", "/flags",
        "/metrics", "/metrics/snapshot", "/system/stats", "/explain-offers", "/maintenance/status",
        "/files/browse", "/files/read", "/files/download", "/files/debug",
        "/registrar(1)/registry", "/allocator/offer_constraints_debug",
    }
)  # fmt: skip

_FLAGS = {
    _READONLY: "authenticate_http_readonly",
    _READWRITE: "authenticate_http_readwrite",
    _SCHEDULER: "authenticate_http_frameworks",
    _AGENT: "authenticate_agents",
}


def realm_of(path: str) -> str | None:
    """The realm of a path, with or without `/master`; None for what is open to all."""
    plain = plain_path(path)
    if plain == "/api/link":
        return _AGENT
    if plain in _OPEN or plain.startswith(("/ui/", "/help/")):
        return None
    if plain == "/api/v1/scheduler":
        return _SCHEDULER
    return _READONLY if plain in _DOCUMENTS else _READWRITE


def plain_path(path: str) -> str:
    """Without `/master`, `.json` and a slash at the end, which all name the same endpoint."""
    plain = path.rstrip("/")
    if plain == "/master" or plain.startswith("/master/"):
        plain = plain.removeprefix("/master")
    return plain.removesuffix(".json")


def refusal(values: Values) -> str | None:
    """Why the flags about authentication cannot be used together; None if they can."""
    wanted = [flag for flag in (*_FLAGS.values(), "authenticate_frameworks") if values[flag]]
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
    if values.authenticate_frameworks:
        # There are none but HTTP frameworks here.
        closed.add(_SCHEDULER)
    disabled = disabled_paths(values.firewall_rules, plain_path)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        endpoint = endpoint_of(request)
        if plain_path(endpoint) in disabled:
            return web.Response(status=403, text=f"Endpoint '{request.path}' is disabled")
        realm = realm_of(endpoint)
        if realm is not None:
            principal = doors[realm].principal(request)
            if principal is None and realm in closed:
                return doors[realm].challenge()
            request[PRINCIPAL] = principal
        return await handler(request)

    return check


def needs_nothing(values: Values, path: str) -> bool:
    """Whether `guard` lets through to `path` who does not prove itself."""
    realm = realm_of(path)
    asked = realm is not None and bool(values[_FLAGS[realm]])
    if realm == _SCHEDULER:
        asked = asked or bool(values.authenticate_frameworks)
    return not asked and path not in disabled_paths(values.firewall_rules, plain_path)


def principal_of(request: web.Request) -> str | None:
    """The principal that proved itself; None if nobody had to and nobody did."""
    principal: str | None = request.get(PRINCIPAL)
    return principal


def require_allowed(
    acls: Acls, request: web.Request, action: str, value: str | None = None
) -> None:
    """Rejected (403) if the principal of the request may not do it."""
    if not acls.allows(action, principal_of(request), value):
        raise Rejected(403, "403 Forbidden.")


def seen_by(master: Master, request: web.Request) -> Master:
    """The master as the principal of the request sees it, for answers without tasks."""
    principal = principal_of(request)
    if sees_all(master.config.acls, principal):
        return master
    # It has all that views read of a master.
    return cast("Master", Seen(master, principal))


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
