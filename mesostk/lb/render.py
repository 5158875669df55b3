"""From services to the text of haproxy.cfg, byte for byte in the original's layout.

::

    head · userlists · :80 + rules · :9091 + rules · :443 + rules · frontends · backends

A service's parts are texts of their own, kept with the app they belong to: a line that HAProxy
refuses leads back to its app. Server lines are kept apart from the rest as well, so that a change
of servers alone is known for one. Source: spec/dns-lb-autoscale §2.8.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from mesostk.lb import vhosts
from mesostk.lb.model import Model, Refusal, Server, Service
from mesostk.lb.templates import Templates
from mesostk.lb.vhosts import Block, Maps, cleaned, template
from mesostk.wire.lb import HealthCheck

#: Server ids are kept below this by the original.
_ID_SPACE: Final = 32767

_TCP_CHECKS: Final = frozenset({"TCP", "MESOS_TCP"})

_BIND = re.compile(r"^\s*bind\s+(\S*):(\d+)", re.MULTILINE)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say about the file. `directory` is where file and maps are."""

    bind_http_https: bool = True
    certificates: tuple[str, ...] = ("/etc/ssl/cert.pem",)
    use_maps: bool = False
    group_https_by_vhost: bool = False
    directory: str = "/etc/haproxy"


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of the file and the app it is for; None: for none."""

    text: str
    app_id: str | None = None


class ServerLine(msgspec.Struct, frozen=True, gc=False):
    """A server as the file names it; `text` is its whole line."""

    name: str
    address: str
    id: int
    text: str
    draining: bool = False


class Backend(msgspec.Struct, frozen=True):
    """One backend: what stands before its servers, and they, by name, in the file's order."""

    name: str
    app_id: str
    head: str
    servers: Mapping[str, ServerLine]

    def text(self) -> str:
        """The backend as it stands in the file."""
        return self.head + "".join(line.text for line in self.servers.values())


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """How requests come to a backend, for `mesostk lb status`."""

    app_id: str
    backend: str
    mode: str
    vhosts: tuple[str, ...]
    path: str | None
    bind: str | None
    servers: int


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a pass writes. `before` is all chunks before the backends."""

    before: tuple[Chunk, ...]
    backends: tuple[Backend, ...]
    domain_map: str
    app_map: str
    routes: tuple[Route, ...]
    refusals: tuple[Refusal, ...]

    def text(self) -> str:
        """haproxy.cfg."""
        return "".join([*(one.text for one in self.before), *(b.text() for b in self.backends)])

    def structure(self) -> str:
        """All of the file but its servers; equal structures differ by what can change at run time.

        Backends are kept apart by their heads, which name them.
        """
        return "".join([*(one.text for one in self.before), *(b.head for b in self.backends)])

    def app_at(self, line: int) -> str | None:
        """The app whose text has line number `line`, from 1; None for what belongs to none."""
        end = 0
        chunks = (*self.before, *(Chunk(b.text(), b.app_id) for b in self.backends))
        for chunk in chunks:
            end += chunk.text.count("\n")
            if line <= end:
                return chunk.app_id
        return None


# -- ports that two want ----------------------------------------------------------------------


def _address(text: str) -> str:
    return "*" if text in ("", "*", "0.0.0.0") else text  # noqa: S104 - compared, not bound


def reserved_binds(texts: Iterable[str]) -> dict[tuple[str, str], str]:
    """(address, port) → "haproxy itself" for the binds of the file's own frontends."""
    found = {}
    for text in texts:
        for address, port in _BIND.findall(text):
            found[_address(address), port] = "marathon-lb's own frontends"
    return found


class _Ports:
    """Who has which port: the first by app id keeps it."""

    def __init__(self, taken: dict[tuple[str, str], str]) -> None:
        self._taken = taken
        self._backends: set[str] = set()
        self.refusals: list[Refusal] = []

    def takes_port(self, service: Service) -> bool:
        """Whether the service gets its frontend; the other one is named otherwise."""
        key = (_address(service.labels.bind_address), str(service.port))
        owner = self._taken.setdefault(key, service.app_id)
        if owner == service.app_id and service.backend not in self._backends:
            return True
        reason = f"service port {service.port} is taken by {owner}"
        self.refusals.append(Refusal(service.app_id, reason))
        return False

    def takes_name(self, service: Service) -> bool:
        """Whether nobody else has a backend of this name."""
        if service.backend in self._backends:
            reason = f"its backend would be called {service.backend} like another one"
            self.refusals.append(Refusal(service.app_id, reason))
            return False
        self._backends.add(service.backend)
        return True


# -- the parts of one service -----------------------------------------------------------------


@functools.lru_cache(maxsize=16_384)
def _server_name(address: str) -> str:
    return cleaned(address)


def server_name(server: Server) -> str:
    """Name of a server: address and port, with the host where that is not the address."""
    host = "" if server.host == server.ip else server.host + "_"
    return _server_name(f"{host}{server.ip}") + f"_{server.port}"


@functools.lru_cache(maxsize=65_536)
def _hashed(name: str) -> tuple[str, int]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return digest, int(digest, 16) % _ID_SPACE


def server_id(name: str, taken: set[int]) -> int:
    """The id of server `name`, stable as long as nobody before it clashes; added to `taken`."""
    hashed = name
    while True:
        digest, number = _hashed(hashed)
        if number != 0 and number not in taken:
            taken.add(number)
            return number
        hashed = f"{hashed} {digest}"


def _check_values(check: HealthCheck, port: int | None) -> dict[str, object]:
    return {
        "healthCheck": check.protocol or "",
        "healthCheckPortIndex": check.port_index,
        "healthCheckPort": port,
        "healthCheckProtocol": check.protocol,
        "healthCheckPath": check.path if check.path is not None else "/",
        "healthCheckTimeoutSeconds": check.timeout_seconds,
        "healthCheckIntervalSeconds": check.interval_seconds,
        "healthCheckGracePeriodSeconds": check.grace_period_seconds,
        "healthCheckMaxConsecutiveFailures": check.max_consecutive_failures,
        "healthCheckFalls": check.max_consecutive_failures + 1,
        "healthCheckPortOptions": f" port {port}" if port else "",
    }


def _check_kind(service: Service) -> str:
    assert service.check is not None
    is_tcp = service.mode == "tcp" or service.check.protocol in _TCP_CHECKS
    return "TCP" if is_tcp else "HTTP"


def _check_port(service: Service, peers: Sequence[Service], position: int) -> int:
    """Port that the check of server `position` goes to: that of the service it is borrowed from."""
    index = service.labels.check_port_index
    source = service
    if index is not None and index < len(peers):
        source = peers[index]
    servers = source.servers if position < len(source.servers) else service.servers
    return servers[position].port


def _backend(templates: Templates, service: Service, peers: Sequence[Service]) -> Backend:
    text = template(templates, service, "BACKEND_HEAD").format(
        backend=service.backend, balance=service.labels.balance, mode=service.mode
    )
    if service.mode == "http":
        text += _http_options(templates, service)
    text += _network_rules(templates, service)
    if service.labels.sticky:
        text += template(templates, service, "BACKEND_STICKY_OPTIONS")
    if service.check is not None:
        name = f"BACKEND_{_check_kind(service)}_HEALTHCHECK_OPTIONS"
        values = _check_values(service.check, _check_port(service, peers, 0))
        text += template(templates, service, name).format_map(values)
    lines = _server_lines(templates, service, peers)
    return Backend(service.backend, service.app_id, text, {line.name: line for line in lines})


def _http_options(templates: Templates, service: Service) -> str:
    labels = service.labels
    hostname = ",".join(labels.vhosts)
    text = ""
    if labels.use_hsts:
        text += template(templates, service, "BACKEND_HSTS_OPTIONS")
    text += template(templates, service, "BACKEND_HTTP_OPTIONS")
    for name, key, value in (
        ("HTTP_BACKEND_PROXYPASS_GLUE", "proxypath", labels.proxy_pass_path),
        ("HTTP_BACKEND_REVPROXY_GLUE", "rootpath", labels.reverse_proxy_path),
        ("HTTP_BACKEND_REDIR", "redirpath", labels.redirect_path),
    ):
        if value:
            values = {"hostname": hostname, key: value}
            text += template(templates, service, name).format_map(values)
    return text


def _network_rules(templates: Templates, service: Service) -> str:
    networks = service.labels.networks
    if not networks:
        return ""
    kind = service.mode.upper()
    rule = template(templates, service, f"{kind}_BACKEND_NETWORK_ALLOWED_ACL")
    rules = "".join(rule.format(network_allowed=network) for network in networks)
    return rules + templates[f"{kind}_BACKEND_ACL_ALLOW_DENY"]


def _server_lines(
    templates: Templates, service: Service, peers: Sequence[Service]
) -> list[ServerLine]:
    line = template(templates, service, "BACKEND_SERVER_OPTIONS")
    check_text = ""
    if service.check is not None:
        name = f"BACKEND_SERVER_{_check_kind(service)}_HEALTHCHECK_OPTIONS"
        check_text = template(templates, service, name).strip()
    borrowed = service.labels.check_port_index is not None
    taken: set[int] = set()
    lines = []
    for position, server in enumerate(service.servers):
        name = server_name(server)
        number = server_id(name, taken)
        check = ""
        if check_text and service.check is not None:
            port = _check_port(service, peers, position) if borrowed else service.check.port
            check = " " + check_text.format_map(_check_values(service.check, port))
        cookie = ""
        if service.labels.sticky:
            digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
            cookie = f" check cookie {digest[:10]}"
        text = line.format(
            host=server.host,
            host_ipv4=server.ip,
            port=server.port,
            serverName=name,
            serverId=number,
            cookieOptions=cookie,
            healthCheckOptions=check,
            otherOptions=" disabled" if server.draining else "",
        )
        address = f"{server.ip}:{server.port}"
        lines.append(ServerLine(name, address, number, text, server.draining))
    return lines


# -- the whole file ---------------------------------------------------------------------------


class _File:
    """The parts of the file, filled service by service."""

    def __init__(self, templates: Templates, settings: Settings) -> None:
        self.templates = templates
        self.settings = settings
        self.maps = Maps() if settings.use_maps else None
        self.userlists: list[Chunk] = []
        self.rules: list[tuple[Block, str]] = []
        self.app_rules: list[Chunk] = []
        self.frontends: list[Chunk] = []
        self.backends: list[Backend] = []
        self.routes: list[Route] = []
        self._apps_with_rule: set[str] = set()
        # Host name → (certificates, bind options) of those who share it.
        self.tls: dict[str, tuple[dict[str, None], dict[str, None]]] = {}

    def add(self, service: Service, peers: Sequence[Service], has_port: bool) -> None:
        labels = service.labels
        if labels.user is not None:
            text = template(self.templates, service, "USERLIST_HEAD").format(
                backend=service.backend, user=labels.user, passwd=labels.password
            )
            self.userlists.append(Chunk(text, service.app_id))
        if has_port:
            self.frontends.append(Chunk(self._frontend(service), service.app_id))
        if self.settings.bind_http_https and labels.vhosts:
            self._add_rules(service)
        if service.mode == "http" and service.app_id not in self._apps_with_rule:
            self._apps_with_rule.add(service.app_id)
            self._add_app_rule(service)
        self.backends.append(_backend(self.templates, service, peers))
        self.routes.append(
            Route(
                app_id=service.app_id,
                backend=service.backend,
                mode=service.mode,
                vhosts=labels.vhosts,
                path=labels.path,
                bind=f"{labels.bind_address}:{service.port}" if has_port else None,
                servers=len(service.servers),
            )
        )

    def _frontend(self, service: Service) -> str:
        labels = service.labels
        head = template(self.templates, service, "FRONTEND_HEAD").format(
            bindAddr=labels.bind_address,
            backend=service.backend,
            servicePort=service.port,
            mode=service.mode,
            sslCert=f" ssl crt {labels.certificate}" if labels.certificate else "",
            bindOptions=f" {labels.bind_options}" if labels.bind_options else "",
        )
        glue = template(self.templates, service, "FRONTEND_BACKEND_GLUE")
        return head + glue.format(backend=service.backend)

    def _add_rules(self, service: Service) -> None:
        block = vhosts.block(self.templates, service, self.settings.directory, self.maps)
        self.rules.append((block, service.app_id))
        for host in service.labels.vhosts:
            certificates, options = self.tls.setdefault(host, ({}, {}))
            if service.labels.certificate is not None:
                certificates[service.labels.certificate] = None
            if service.labels.bind_options is not None:
                options[service.labels.bind_options] = None

    def _add_app_rule(self, service: Service) -> None:
        name = "HTTP_FRONTEND_APPID_ACL"
        if self.maps is not None:
            self.maps.apps[service.app_id] = service.backend
            if self.maps.has_app_rule:
                return
            self.maps.has_app_rule = True
            name = "MAP_HTTP_FRONTEND_APPID_ACL"
        text = template(self.templates, service, name).format(
            cleanedUpAppId=cleaned(service.app_id),
            hostname=",".join(service.labels.vhosts),
            appId=service.app_id,
            backend=service.backend,
            haproxy_dir=self.settings.directory,
        )
        self.app_rules.append(Chunk(text, service.app_id))

    def before(self) -> tuple[Chunk, ...]:
        """Everything up to the backends, in order."""
        ordered = sorted(self.rules, key=lambda pair: -pair[0].weight)
        chunks = [Chunk(self.templates["HEAD"]), *self.userlists]
        if self.settings.bind_http_https:
            chunks.append(Chunk(self.templates["HTTP_FRONTEND_HEAD"]))
            chunks += [Chunk(block.http, app_id) for block, app_id in ordered]
        chunks += [Chunk(self.templates["HTTP_FRONTEND_APPID_HEAD"]), *self.app_rules]
        if self.settings.bind_http_https and self.settings.group_https_by_vhost:
            chunks += self._grouped(ordered)
        elif self.settings.bind_http_https:
            certificates = _certificates(self.settings.certificates)
            head = self.templates["HTTPS_FRONTEND_HEAD"].format(sslCerts=certificates)
            chunks.append(Chunk(head))
            chunks += [Chunk(block.https, app_id) for block, app_id in ordered]
        return (*chunks, *self.frontends)

    def _grouped(self, ordered: Sequence[tuple[Block, str]]) -> list[Chunk]:
        hosts = sorted(self.tls)
        acl = self.templates["HTTPS_GROUPED_VHOST_FRONTEND_ACL"]
        chunks = [Chunk(self.templates["HTTPS_GROUPED_FRONTEND_HEAD"])]
        chunks += [Chunk(acl.format(backend=cleaned(host), host=host)) for host in hosts]
        for host in hosts:
            certificates, options = self.tls[host]
            name = cleaned(host)
            backend = self.templates["HTTPS_GROUPED_VHOST_BACKEND_HEAD"].format(name=name)
            frontend = self.templates["HTTPS_GROUPED_VHOST_FRONTEND_HEAD"].format(
                name=name,
                sslCerts=_certificates(certificates or self.settings.certificates),
                bindOpts="".join(f" {one}" for one in options),
            )
            chunks.append(Chunk(backend + frontend))
            chunks += [
                Chunk(block.grouped[host], app_id)
                for block, app_id in ordered
                if host in block.grouped
            ]
        return chunks


def _certificates(paths: Iterable[str]) -> str:
    return " ".join(f"crt {path}" for path in paths)


def render(model: Model, templates: Templates, settings: Settings) -> Config:
    """The file for `model`; services that want what another one has are left out and named."""
    file = _File(templates, settings)
    ports = _Ports(reserved_binds(_own_heads(templates, settings)))
    peers: dict[str, list[Service]] = {}
    for service in model.services:
        peers.setdefault(service.app_id, []).append(service)
    for service in model.services:
        has_port = ports.takes_port(service)
        if not has_port and not service.labels.vhosts:
            continue
        if ports.takes_name(service):
            file.add(service, peers[service.app_id], has_port)
    maps = file.maps if file.maps is not None else Maps()
    return Config(
        before=file.before(),
        backends=tuple(file.backends),
        domain_map=_map_text(maps.domains),
        app_map=_map_text(maps.apps),
        routes=tuple(file.routes),
        refusals=(*model.refusals, *ports.refusals),
    )


def _own_heads(templates: Templates, settings: Settings) -> list[str]:
    names = ["HEAD", "HTTP_FRONTEND_APPID_HEAD"]
    if settings.bind_http_https:
        https = (
            "HTTPS_GROUPED_FRONTEND_HEAD"
            if settings.group_https_by_vhost
            else ("HTTPS_FRONTEND_HEAD")
        )
        names += ["HTTP_FRONTEND_HEAD", https]
    return [templates[name] for name in names]


def _map_text(table: Mapping[str, str]) -> str:
    return "".join(f"{key} {backend}\n" for key, backend in table.items())
