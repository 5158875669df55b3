"""Who may ask an agent, by HTTP Basic (spec/mesos.md §0.1).

::

    mesos-agent-readonly    documents, metrics, sandboxes         --authenticate_http_readonly
    mesos-agent-readwrite   /api/v1, which can run programs       --authenticate_http_readwrite
    open to all             /health, /version, /help, pages; executors by the ids they were given
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mesostk.base.config import Values
from mesostk.base.firewall import disabled_paths
from mesostk.base.http import BasicAuth, endpoint_of, parse_credentials
from mesostk.errors import ConfigError

_READONLY, _READWRITE = "mesos-agent-readonly", "mesos-agent-readwrite"

_OPEN = frozenset(
    {"", "/health", "/version", "/sandbox", "/api/v1/executor", "/help", "/__processes__"}
)

_CHANGING = ("/api/v1", "/logging/", "/profiler/")

_FLAGS = {_READONLY: "authenticate_http_readonly", _READWRITE: "authenticate_http_readwrite"}


def realm_of(path: str) -> str | None:
    """The realm of a path, with or without `/slave(1)`; None for what is open to all."""
    plain = plain_path(path)
    if plain in _OPEN or plain.startswith(("/ui/", "/help/")):
        return None
    return _READWRITE if plain.startswith(_CHANGING) else _READONLY


def plain_path(path: str) -> str:
    """Without `/slave(1)`, `.json` and a slash at the end, which all name the same endpoint."""
    return path.rstrip("/").removeprefix("/slave(1)").removesuffix(".json")


def guard(values: Values) -> Middleware:
    """A middleware that answers 401 to who must prove itself and does not.

    It answers 403 on what --firewall_rules closes.

    Raises ConfigError for credentials that cannot be read, or that are wanted and not given.
    """
    if values.authenticate_http_executors:
        raise ConfigError("--authenticate_http_executors: executors have no tokens here; leave it")
    closed = {realm for realm, flag in _FLAGS.items() if values[flag]}
    if closed and values.http_credentials is None:
        flag = _FLAGS[min(closed)]
        raise ConfigError(f"--{flag} needs --http_credentials=file:///path of the principals")
    text = values.http_credentials
    secrets = {} if text is None else parse_credentials(text, "http_credentials")
    doors = {realm: BasicAuth(secrets, realm) for realm in _FLAGS}

    disabled = disabled_paths(values.firewall_rules, plain_path)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        endpoint = endpoint_of(request)
        if plain_path(endpoint) in disabled:
            return web.Response(status=403, text=f"Endpoint '{request.path}' is disabled")
        realm = realm_of(endpoint)
        if realm in closed and doors[realm].principal(request) is None:
            return doors[realm].challenge()
        return await handler(request)

    return check
