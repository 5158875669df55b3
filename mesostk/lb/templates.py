"""The texts that haproxy.cfg is made of, each replaceable by environment, directory or label.

A template is a text with `{placeholders}`; braces that HAProxy is to see are doubled, except in
those of `PLAIN`. Source of names, placeholders and layout: spec/dns-lb-autoscale §2.5.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Final

from mesostk.errors import ConfigError

_HOST = "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n"
_PATH = "  acl path_{backend} path_beg {path}\n"
_AUTH = "  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n"
_IF_HOST = "host_{cleanedUpHostname}"
_IF_PATH = " path_{backend}"
_IF_SNI = "{{ ssl_fc_sni {hostname} }}"
_MAPPED_HOST = (
    "  use_backend %[req.hdr(host),lower,regsub(:.*$,,),map({haproxy_dir}/domain2backend.map)]\n"
)


def _use(condition: str) -> str:
    return "  use_backend {backend} if " + condition + "\n"


def _login(condition: str) -> str:
    return '  http-request auth realm "{realm}" if ' + condition + " !auth_{cleanedUpHostname}\n"


_TO_HTTPS = "  redirect scheme https code 301 if !{{ ssl_fc }} " + _IF_HOST
_CHECK = (
    "  check inter {healthCheckIntervalSeconds}s fall {healthCheckFalls}{healthCheckPortOptions}\n"
)

#: Name without the prefix HAPROXY_ → built-in text. HEAD is made by `head`.
#:
#: HSTS, proxy pass and reverse proxy pass use today's directives: those of the original were
#: removed in HAProxy 2.1, and `haproxy -c` refuses them.
BUILT_IN: Final[Mapping[str, str]] = {
    "HTTP_FRONTEND_HEAD": "\nfrontend marathon_http_in\n  bind *:80\n  mode http\n",
    "HTTP_FRONTEND_APPID_HEAD": "\nfrontend marathon_http_appid_in\n  bind *:9091\n  mode http\n",
    "HTTPS_FRONTEND_HEAD": (
        "\nfrontend marathon_https_in\n  bind *:443 ssl {sslCerts}\n  mode http\n"
    ),
    "HTTPS_GROUPED_FRONTEND_HEAD": (
        "\nfrontend marathon_https_in\n  bind *:443\n  mode tcp\n"
        "  tcp-request inspect-delay 5s\n"
        "  tcp-request content accept if { req_ssl_hello_type 1 }\n"
    ),
    "HTTPS_GROUPED_VHOST_FRONTEND_ACL": "  use_backend {backend} if {{ req_ssl_sni -i {host} }}\n",
    "HTTPS_GROUPED_VHOST_BACKEND_HEAD": (
        "\nbackend {name}\n  server loopback-for-tls abns@{name} send-proxy-v2\n"
    ),
    "HTTPS_GROUPED_VHOST_FRONTEND_HEAD": (
        "\nfrontend {name}\n  mode http\n  bind abns@{name} accept-proxy ssl {sslCerts}{bindOpts}\n"
    ),
    "USERLIST_HEAD": "\nuserlist user_{backend}\n  user {user} password {passwd}\n",
    "FRONTEND_HEAD": (
        "\nfrontend {backend}\n"
        "  bind {bindAddr}:{servicePort}{sslCert}{bindOptions}\n"
        "  mode {mode}\n"
    ),
    "BACKEND_HEAD": "\nbackend {backend}\n  balance {balance}\n  mode {mode}\n",
    "FRONTEND_BACKEND_GLUE": "  use_backend {backend}\n",
    # port 80
    "HTTP_FRONTEND_ACL": _HOST + _use(_IF_HOST),
    "HTTP_FRONTEND_ACL_ONLY": _HOST,
    "HTTP_FRONTEND_ROUTING_ONLY": _use(_IF_HOST),
    "HTTP_FRONTEND_ACL_WITH_PATH": _HOST + _PATH + _use(_IF_HOST + _IF_PATH),
    "HTTP_FRONTEND_ACL_ONLY_WITH_PATH": _PATH,
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH": _use(_IF_HOST + _IF_PATH),
    "HTTP_FRONTEND_ACL_WITH_AUTH": _HOST + _AUTH + _login(_IF_HOST) + _use(_IF_HOST),
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH": _AUTH + _login(_IF_HOST) + _use(_IF_HOST),
    "HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH": (
        _HOST + _AUTH + _PATH + _login(_IF_HOST + _IF_PATH) + _use(_IF_HOST + _IF_PATH)
    ),
    "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH": _PATH + _AUTH,
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH": (
        _login(_IF_HOST + _IF_PATH) + _use(_IF_HOST + _IF_PATH)
    ),
    "BACKEND_REDIRECT_HTTP_TO_HTTPS": _TO_HTTPS + "\n",
    "BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH": _TO_HTTPS + _IF_PATH + "\n",
    # port 443
    "HTTPS_FRONTEND_ACL": _use(_IF_SNI),
    "HTTPS_FRONTEND_ACL_WITH_PATH": _use(_IF_SNI + _IF_PATH),
    "HTTPS_FRONTEND_ACL_ONLY_WITH_PATH": _PATH,
    "HTTPS_FRONTEND_ACL_WITH_AUTH": _AUTH + _login(_IF_SNI) + _use(_IF_SNI),
    "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH": (
        _AUTH + _login(_IF_SNI + _IF_PATH) + _use(_IF_SNI + _IF_PATH)
    ),
    # These three are declared by the original and used by nothing, here as there.
    "HTTPS_FRONTEND_AUTH_ACL_ONLY": _AUTH,
    "HTTPS_FRONTEND_AUTH_REQUEST_ONLY": _login(_IF_SNI),
    "HTTPS_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH": (
        _login(_IF_HOST + _IF_PATH) + _use(_IF_HOST + _IF_PATH)
    ),
    # port 9091
    "HTTP_FRONTEND_APPID_ACL": (
        "  acl app_{cleanedUpAppId} hdr(x-marathon-app-id) -i {appId}\n"
        "  use_backend {backend} if app_{cleanedUpAppId}\n"
    ),
    # map files
    "MAP_HTTP_FRONTEND_ACL": _MAPPED_HOST,
    "MAP_HTTP_FRONTEND_ACL_ONLY": _MAPPED_HOST,
    "MAP_HTTPS_FRONTEND_ACL": (
        "  use_backend %[ssl_fc_sni,lower,map({haproxy_dir}/domain2backend.map)]\n"
    ),
    "MAP_HTTP_FRONTEND_APPID_ACL": (
        "  use_backend %[req.hdr(x-marathon-app-id),lower,map({haproxy_dir}/app2backend.map)]\n"
    ),
    # inside a backend
    "BACKEND_HTTP_OPTIONS": (
        "  option forwardfor\n"
        "  http-request set-header X-Forwarded-Port %[dst_port]\n"
        "  http-request add-header X-Forwarded-Proto https if { ssl_fc }\n"
    ),
    "BACKEND_HSTS_OPTIONS": (
        "  http-response set-header Strict-Transport-Security max-age=15768000\n"
    ),
    "BACKEND_STICKY_OPTIONS": "  cookie mesosphere_server_id insert indirect nocache\n",
    "HTTP_BACKEND_PROXYPASS_GLUE": (
        "  http-request set-header Host {hostname}\n"
        "  http-request replace-path ^{proxypath}/?(.*) /\\1\n"
    ),
    "HTTP_BACKEND_REVPROXY_GLUE": (
        "  acl hdr_location res.hdr(Location) -m found\n"
        "  http-response replace-header Location (https?://{hostname}(:[0-9]+)?)?(/.*) {rootpath}"
        " if hdr_location\n"
    ),
    "HTTP_BACKEND_REDIR": (
        "  acl is_root path -i /\n"
        "  acl is_domain hdr(host) -i {hostname}\n"
        "  redirect code 301 location {redirpath} if is_domain is_root\n"
    ),
    "BACKEND_HTTP_HEALTHCHECK_OPTIONS": (
        "  option  httpchk GET {healthCheckPath}\n  timeout check {healthCheckTimeoutSeconds}s\n"
    ),
    "BACKEND_TCP_HEALTHCHECK_OPTIONS": "",
    "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS": _CHECK,
    "BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS": _CHECK,
    "BACKEND_SERVER_OPTIONS": (
        "  server {serverName} {host_ipv4}:{port} id {serverId}"
        "{cookieOptions}{healthCheckOptions}{otherOptions}\n"
    ),
    "HTTP_BACKEND_NETWORK_ALLOWED_ACL": "  acl network_allowed src {network_allowed}\n",
    "HTTP_BACKEND_ACL_ALLOW_DENY": (
        "  http-request allow if network_allowed\n  http-request deny\n"
    ),
    "TCP_BACKEND_NETWORK_ALLOWED_ACL": "  acl network_allowed src {network_allowed}\n",
    "TCP_BACKEND_ACL_ALLOW_DENY": (
        "  tcp-request content accept if network_allowed\n  tcp-request content reject\n"
    ),
}

#: Used as they stand, without placeholders.
PLAIN: Final = frozenset(
    {
        "HEAD",
        "HTTPS_GROUPED_FRONTEND_HEAD",
        "HTTP_FRONTEND_HEAD",
        "HTTP_FRONTEND_APPID_HEAD",
        "BACKEND_HTTP_OPTIONS",
        "BACKEND_HSTS_OPTIONS",
        "BACKEND_STICKY_OPTIONS",
        "HTTP_BACKEND_ACL_ALLOW_DENY",
        "TCP_BACKEND_ACL_ALLOW_DENY",
    }
)

#: Not replaceable by a label: they belong to no single service, or have no label in the original.
_NO_LABEL: Final = frozenset(
    {
        "HEAD",
        "HTTP_FRONTEND_HEAD",
        "HTTP_FRONTEND_APPID_HEAD",
        "HTTPS_FRONTEND_HEAD",
        "HTTPS_GROUPED_FRONTEND_HEAD",
        "HTTPS_GROUPED_VHOST_FRONTEND_ACL",
        "HTTPS_GROUPED_VHOST_BACKEND_HEAD",
        "HTTPS_GROUPED_VHOST_FRONTEND_HEAD",
        "HTTPS_FRONTEND_AUTH_ACL_ONLY",
        "HTTPS_FRONTEND_AUTH_REQUEST_ONLY",
        "HTTPS_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH",
        "HTTP_BACKEND_REDIR",
        "HTTP_BACKEND_ACL_ALLOW_DENY",
        "TCP_BACKEND_ACL_ALLOW_DENY",
    }
)

#: Templates with a label HAPROXY_{n}_<NAME>. The MAP_ ones accept it and ignore it (§2.5).
LABELLED: Final = frozenset(BUILT_IN) - _NO_LABEL

#: In map mode the label without MAP_ replaces the template with it.
MAP_LABELS: Final = {name: name.removeprefix("MAP_") for name in BUILT_IN if name[:4] == "MAP_"}

_CHECK_FIELDS: Final = frozenset(
    {
        "healthCheck",
        "healthCheckPortIndex",
        "healthCheckPort",
        "healthCheckProtocol",
        "healthCheckPath",
        "healthCheckTimeoutSeconds",
        "healthCheckIntervalSeconds",
        "healthCheckGracePeriodSeconds",
        "healthCheckMaxConsecutiveFailures",
        "healthCheckFalls",
        "healthCheckPortOptions",
    }
)
_RULE_FIELDS: Final = frozenset(
    {
        "cleanedUpHostname",
        "hostname",
        "appId",
        "backend",
        "path",
        "realm",
        "bindAddr",
        "haproxy_dir",
    }
)

#: Placeholders that a template may use where they are not those of a vhost's rule.
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "HTTPS_FRONTEND_HEAD": frozenset({"sslCerts"}),
    "HTTPS_GROUPED_VHOST_FRONTEND_ACL": frozenset({"backend", "host"}),
    "HTTPS_GROUPED_VHOST_BACKEND_HEAD": frozenset({"name"}),
    "HTTPS_GROUPED_VHOST_FRONTEND_HEAD": frozenset({"name", "sslCerts", "bindOpts"}),
    "USERLIST_HEAD": frozenset({"backend", "user", "passwd"}),
    "FRONTEND_HEAD": frozenset(
        {"bindAddr", "backend", "servicePort", "mode", "sslCert", "bindOptions"}
    ),
    "BACKEND_HEAD": frozenset({"backend", "balance", "mode"}),
    "FRONTEND_BACKEND_GLUE": frozenset({"backend"}),
    "HTTP_FRONTEND_APPID_ACL": frozenset(
        {"cleanedUpAppId", "appId", "hostname", "backend", "haproxy_dir"}
    ),
    "MAP_HTTP_FRONTEND_ACL": frozenset({"haproxy_dir"}),
    "MAP_HTTP_FRONTEND_ACL_ONLY": frozenset({"haproxy_dir"}),
    "MAP_HTTPS_FRONTEND_ACL": frozenset({"haproxy_dir", "hostname"}),
    "MAP_HTTP_FRONTEND_APPID_ACL": frozenset({"haproxy_dir"}),
    "HTTP_BACKEND_PROXYPASS_GLUE": frozenset({"hostname", "proxypath"}),
    "HTTP_BACKEND_REVPROXY_GLUE": frozenset({"hostname", "rootpath"}),
    "HTTP_BACKEND_REDIR": frozenset({"hostname", "redirpath"}),
    "BACKEND_HTTP_HEALTHCHECK_OPTIONS": _CHECK_FIELDS,
    "BACKEND_TCP_HEALTHCHECK_OPTIONS": _CHECK_FIELDS,
    "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS": _CHECK_FIELDS,
    "BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS": _CHECK_FIELDS,
    "BACKEND_SERVER_OPTIONS": frozenset(
        {
            "serverName",
            "host_ipv4",
            "host",
            "port",
            "serverId",
            "cookieOptions",
            "healthCheckOptions",
            "otherOptions",
        }
    ),
    "HTTP_BACKEND_NETWORK_ALLOWED_ACL": frozenset({"network_allowed"}),
    "TCP_BACKEND_NETWORK_ALLOWED_ACL": frozenset({"network_allowed"}),
}

#: First words of sections. One in a template that stands inside a section would end that section
#: and take the rest of the file along.
_SECTIONS: Final = frozenset(
    {
        "global",
        "defaults",
        "listen",
        "frontend",
        "backend",
        "userlist",
        "peers",
        "resolvers",
        "mailers",
        "cache",
        "program",
        "ring",
        "http-errors",
        "fcgi-app",
        "crt-store",
        "log-forward",
        "log-profile",
        "traces",
        "acme",
    }
)

#: These reach beyond the service: whole-process settings, and programs that the master starts.
_FORBIDDEN_SECTIONS: Final = frozenset({"global", "defaults", "program"})


def fields(name: str) -> frozenset[str]:
    """The placeholders that template `name` may use."""
    return frozenset() if name in PLAIN else _FIELDS.get(name, _RULE_FIELDS)


def why_not_template(name: str, text: str) -> str | None:
    """What is wrong with `text` as template `name` of one service; None if nothing is."""
    for line in text.split("\n"):
        if any(ord(char) < 32 and char != "\t" for char in line):
            return "it has a control character"
        words = line.split(None, 1)
        word = words[0] if words else ""
        if word in _FORBIDDEN_SECTIONS or (word in _SECTIONS and not name.endswith("_HEAD")):
            return f"a line begins with {word!r}, which would start another section"
    return why_not_fields(name, text)


def why_not_fields(name: str, text: str) -> str | None:
    """Which placeholder of `text` is not one of template `name`; None if all are."""
    if name in PLAIN:
        return None
    allowed = fields(name)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        return f"braces do not match ({error}); braces for HAProxy are doubled"
    for _, field, format, conversion in parts:
        if field is None:
            continue
        # Attributes, indices and formats could reach into the program or blow up a line.
        if field not in allowed or format or conversion:
            known = ", ".join(sorted(allowed)) or "none"
            return f"placeholder {{{field}}} is unknown; known are {known}"
    return None


class Templates:
    """The templates in force: `overrides` (name without HAPROXY_ → text) over the built-in ones.

    ConfigError for a HEAD that would break reloads, or an override with unknown placeholders.
    """

    def __init__(self, head: str, overrides: Mapping[str, str] | None = None) -> None:
        self._texts = dict(BUILT_IN)
        self._texts["HEAD"] = head
        for name, text in (overrides or {}).items():
            if name not in self._texts:
                continue
            wrong = why_not_fields(name, text)
            if wrong is not None:
                raise ConfigError(f"template HAPROXY_{name}: {wrong}")
            self._texts[name] = text
        _check_head(self._texts["HEAD"])

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def names(self) -> list[str]:
        """All templates, HEAD first."""
        return ["HEAD", *BUILT_IN]


def _check_head(head: str) -> None:
    # Source: §2.5. The new process takes the listening sockets over from the old one.
    if "daemon" in head.split():
        raise ConfigError(
            "template HAPROXY_HEAD contains `daemon`; take it out: the master process must stay in"
            " the foreground"
        )
    if "expose-fd listeners" not in head:
        raise ConfigError(
            "template HAPROXY_HEAD has no `stats socket PATH expose-fd listeners`; add it to its"
            " global section"
        )
