"""The built-in first part of haproxy.cfg: process, defaults and the port 9090.

The original answers `/_haproxy_get…` and `/_mlb_signal/…` by Lua files in the image; here HAProxy
hands them to marathon-lb's own port, so that nothing has to be installed beside it.
Source: spec/dns-lb-autoscale §2.6.
"""

from __future__ import annotations

from typing import Final

import msgspec

DEFAULT_OPTIONS: Final = "redispatch,http-server-close,dontlognull"

_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:"
    "ECDHE-RSA-AES256-SHA384:DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:"
    "AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:!aNULL:!MD5:!DSS"
)
_TLS: Final = "no-sslv3 no-tlsv10 no-tls-tickets"

#: Setting and value of the section defaults, aligned as operators know it.
_DEFAULTS: Final = """\
defaults
  load-server-state-from-file global
  log               global
  retries                   3
  backlog               10000
  maxconn               10000
  timeout connect          3s
  timeout client          30s
  timeout server          30s
  timeout tunnel        3600s
  timeout http-keep-alive  1s
  timeout http-request    15s
  timeout queue           30s
  timeout tarpit          60s
"""


class HeadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where HAProxy keeps things, and where marathon-lb listens.

    `user` None: HAProxy keeps the user that starts it. `stats_auth` is `user:password`.
    """

    stats_socket: str = "/var/run/haproxy/socket"
    state_directory: str = "/var/state/haproxy/"
    stats_bind: str = "0.0.0.0:9090"
    control: str = "127.0.0.1:9092"
    stats_auth: str | None = None
    user: str | None = None
    log: str = "/dev/log"
    options: str = DEFAULT_OPTIONS


def head(settings: HeadSettings) -> str:
    """The text of template HEAD."""
    return _global(settings) + _DEFAULTS + _options(settings.options) + _stats(settings)


def _global(settings: HeadSettings) -> str:
    # Servers are added and removed over the socket, which needs its highest level.
    socket = f"stats socket {settings.stats_socket} mode 660 level admin expose-fd listeners"
    lines = [
        "global",
        f"  log {settings.log} local0",
        f"  log {settings.log} local1 notice",
        "  spread-checks 5",
        "  max-spread-checks 15000",
        "  maxconn 50000",
        # Where the host allows fewer files, fewer connections are better than no start at all.
        "  no strict-limits",
        "  tune.ssl.default-dh-param 2048",
        f"  ssl-default-bind-ciphers {_CIPHERS}",
        f"  ssl-default-bind-options {_TLS}",
        f"  ssl-default-server-ciphers {_CIPHERS}",
        f"  ssl-default-server-options {_TLS}",
        f"  {socket}",
        "  server-state-file global",
        f"  server-state-base {settings.state_directory}",
    ]
    if settings.user is not None:
        lines.append(f"  user {settings.user}")
    return "\n".join(lines) + "\n"


def _options(options: str) -> str:
    names = {name.strip() for name in options.split(",") if name.strip()}
    return "".join(f"  option            {name}\n" for name in sorted(names))


def _stats(settings: HeadSettings) -> str:
    lines = [
        "listen stats",
        f"  bind {settings.stats_bind}",
        "  balance",
        "  mode http",
        "  stats enable",
    ]
    if settings.stats_auth is not None:
        lines.append(f"  stats auth {settings.stats_auth}")
    lines += [
        "  http-request use-service prometheus-exporter if { path /metrics }",
        "  monitor-uri /_haproxy_health_check",
        "  acl marathon_lb path_beg /_haproxy_get /_mlb_",
        "  use_backend marathon_lb_control if marathon_lb",
        "",
        "backend marathon_lb_control",
        "  mode http",
        f"  server marathon_lb {settings.control}",
    ]
    return "\n".join(lines) + "\n"
