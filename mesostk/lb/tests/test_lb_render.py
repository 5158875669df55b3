"""The file, byte for byte: layout, every label, every template."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mesostk.errors import ConfigError
from mesostk.lb import labels, templates
from mesostk.lb.head import HeadSettings, head
from mesostk.lb.render import server_id
from mesostk.lb.templates import BUILT_IN, LABELLED, PLAIN, Templates
from mesostk.testing.lb import app, body, config, task

HTTP_IN = "\nfrontend marathon_http_in\n  bind *:80\n  mode http\n"
APPID_IN = "\nfrontend marathon_http_appid_in\n  bind *:9091\n  mode http\n"
HTTPS_IN = "\nfrontend marathon_https_in\n  bind *:443 ssl crt /etc/ssl/cert.pem\n  mode http\n"
OPTIONS = (
    "  option forwardfor\n"
    "  http-request set-header X-Forwarded-Port %[dst_port]\n"
    "  http-request add-header X-Forwarded-Proto https if { ssl_fc }\n"
)
APP_RULE = "  acl app__web hdr(x-marathon-app-id) -i /web\n  use_backend web_10001 if app__web\n"
SERVER = "  server 10_0_3_51_31514 10.0.3.51:31514 id 19557\n"


def frontend(mode: str, bind: str = "*:10001", name: str = "web_10001") -> str:
    return f"\nfrontend {name}\n  bind {bind}\n  mode {mode}\n  use_backend {name}\n"


def backend(
    mode: str,
    lines: str = "",
    server: str = SERVER,
    name: str = "web_10001",
    balance: str = "roundrobin",
) -> str:
    return f"\nbackend {name}\n  balance {balance}\n  mode {mode}\n{lines}{server}"


def http_file(
    *, http: str = "", https: str = "", lines: str = OPTIONS, users: str = "", **parts: Any
) -> str:
    bind = parts.pop("bind", "*:10001")
    tail = frontend("http", bind) + backend("http", lines, **parts)
    return users + HTTP_IN + http + APPID_IN + APP_RULE + HTTPS_IN + https + tail


def tcp_file(lines: str = "", **parts: Any) -> str:
    bind = parts.pop("bind", "*:10001")
    return HTTP_IN + APPID_IN + HTTPS_IN + frontend("tcp", bind) + backend("tcp", lines, **parts)


HOST = "  acl host_a_example_web hdr(host) -i a.example\n"
USE = "  use_backend web_10001 if host_a_example_web\n"
USE_PATH = "  use_backend web_10001 if host_a_example_web path_web_10001\n"
PATH = "  acl path_web_10001 path_beg /api\n"
AUTH = "  acl auth_a_example_web http_auth(user_web_10001)\n"
LOGIN = '  http-request auth realm "my realm" if host_a_example_web !auth_a_example_web\n'
LOGIN_PATH = (
    '  http-request auth realm "my realm" if host_a_example_web path_web_10001'
    " !auth_a_example_web\n"
)
SNI = "  use_backend web_10001 if { ssl_fc_sni a.example }\n"
SNI_PATH = "  use_backend web_10001 if { ssl_fc_sni a.example } path_web_10001\n"
SNI_LOGIN = '  http-request auth realm "my realm" if { ssl_fc_sni a.example } !auth_a_example_web\n'
SNI_LOGIN_PATH = (
    '  http-request auth realm "my realm" if { ssl_fc_sni a.example } path_web_10001'
    " !auth_a_example_web\n"
)
USERS = "\nuserlist user_web_10001\n  user ann password $5$salt$hash\n"
SECRET = "my realm:ann:$5$salt$hash"
REDIRECT = "  redirect scheme https code 301 if !{ ssl_fc } host_a_example_web\n"
REDIRECT_PATH = (
    "  redirect scheme https code 301 if !{ ssl_fc } host_a_example_web path_web_10001\n"
)
HOST_B = "  acl host_a_example_web hdr(host) -i b.example\n"
SNI_B = "  use_backend web_10001 if { ssl_fc_sni b.example }\n"


def zero(**values: str) -> dict[str, str]:
    return {f"HAPROXY_0_{name}": value for name, value in values.items()}


#: Labels → the whole file behind the head. Typed by hand from spec/dns-lb-autoscale §2.5-2.8.
GOLDEN: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, tcp_file()),
    "mode": (zero(MODE="HTTP"), http_file()),
    "mode_tcp_with_vhost": (
        zero(MODE="tcp", VHOST="a.example"),
        HTTP_IN + HOST + USE + APPID_IN + HTTPS_IN + SNI + frontend("tcp") + backend("tcp"),
    ),
    "vhost": (zero(VHOST="A.example"), http_file(http=HOST + USE, https=SNI)),
    "vhosts": (
        zero(VHOST="a.example,b.example"),
        http_file(http=HOST + HOST_B + USE, https=SNI + SNI_B),
    ),
    "path": (
        zero(VHOST="a.example", PATH="/api"),
        http_file(http=HOST + PATH + USE_PATH, https=PATH + SNI_PATH),
    ),
    "path_of_vhosts": (
        zero(VHOST="a.example,b.example", PATH="/api"),
        http_file(
            http=PATH + HOST + HOST_B + USE_PATH,
            https=PATH + SNI_PATH + SNI_PATH.replace("a.ex", "b.ex"),
        ),
    ),
    "redirect": (
        zero(VHOST="a.example", REDIRECT_TO_HTTPS="true"),
        http_file(http=HOST + USE + REDIRECT, https=SNI),
    ),
    "redirect_path": (
        zero(VHOST="a.example", PATH="/api", REDIRECT_TO_HTTPS="yes"),
        http_file(http=HOST + PATH + REDIRECT_PATH, https=PATH + SNI_PATH),
    ),
    "redirect_vhosts": (
        zero(VHOST="a.example,b.example", REDIRECT_TO_HTTPS="t"),
        http_file(http=HOST + HOST_B + REDIRECT, https=SNI + SNI_B),
    ),
    "redirect_path_of_vhosts": (
        zero(VHOST="a.example,b.example", PATH="/api", REDIRECT_TO_HTTPS="y"),
        http_file(
            http=PATH + HOST + HOST_B + REDIRECT_PATH,
            https=PATH + SNI_PATH + SNI_PATH.replace("a.ex", "b.ex"),
        ),
    ),
    "auth": (
        zero(VHOST="a.example", AUTH=SECRET),
        http_file(users=USERS, http=HOST + AUTH + LOGIN + USE, https=AUTH + SNI_LOGIN + SNI),
    ),
    "auth_path": (
        zero(VHOST="a.example", AUTH=SECRET, PATH="/api"),
        http_file(
            users=USERS,
            http=HOST + AUTH + PATH + LOGIN_PATH + USE_PATH,
            https=PATH + AUTH + SNI_LOGIN_PATH + SNI_PATH,
        ),
    ),
    "auth_vhosts": (
        zero(VHOST="a.example,b.example", AUTH=SECRET),
        http_file(
            users=USERS,
            http=HOST + HOST_B + AUTH + LOGIN + USE,
            https=AUTH + SNI_LOGIN + SNI + (AUTH + SNI_LOGIN + SNI).replace(" a.ex", " b.ex"),
        ),
    ),
    "auth_path_of_vhosts": (
        zero(VHOST="a.example,b.example", AUTH=SECRET, PATH="/api"),
        http_file(
            users=USERS,
            http=PATH + AUTH + HOST + HOST_B + LOGIN_PATH + USE_PATH,
            https=PATH
            + (AUTH + SNI_LOGIN_PATH + SNI_PATH)
            + (AUTH + SNI_LOGIN_PATH + SNI_PATH).replace(" a.ex", " b.ex"),
        ),
    ),
    "balance": (zero(BALANCE="leastconn"), tcp_file(balance="leastconn")),
    "port": (
        zero(PORT="10101"),
        tcp_file().replace("web_10001", "web_10101").replace("*:10001", "*:10101"),
    ),
    "bind_addr": (zero(BIND_ADDR="10.0.0.42"), tcp_file(bind="10.0.0.42:10001")),
    "bind_options": (
        zero(BIND_OPTIONS="accept-proxy defer-accept"),
        tcp_file(bind="*:10001 accept-proxy defer-accept"),
    ),
    "ssl_cert": (
        zero(SSL_CERT="/etc/ssl/a.pem", BIND_OPTIONS="force-tlsv12"),
        tcp_file(bind="*:10001 ssl crt /etc/ssl/a.pem force-tlsv12"),
    ),
    "disabled": (zero(ENABLED="1"), HTTP_IN + APPID_IN + HTTPS_IN),
    "sticky": (
        zero(STICKY="true"),
        tcp_file(
            "  cookie mesosphere_server_id insert indirect nocache\n",
            server=SERVER.replace("19557\n", "19557 check cookie ae2fa6995c\n"),
        ),
    ),
    "hsts": (
        zero(MODE="http", USE_HSTS="true"),
        http_file(
            lines="  http-response set-header Strict-Transport-Security max-age=15768000\n"
            + OPTIONS
        ),
    ),
    "proxy_pass": (
        zero(VHOST="a.example", HTTP_BACKEND_PROXYPASS_PATH="/shop"),
        http_file(
            http=HOST + USE,
            https=SNI,
            lines=OPTIONS
            + "  http-request set-header Host a.example\n"
            + "  http-request replace-path ^/shop/?(.*) /\\1\n",
        ),
    ),
    "reverse_proxy": (
        zero(VHOST="a.example", HTTP_BACKEND_REVPROXY_PATH="/shop"),
        http_file(
            http=HOST + USE,
            https=SNI,
            lines=OPTIONS
            + "  acl hdr_location res.hdr(Location) -m found\n"
            + "  http-response replace-header Location"
            + " (https?://a.example(:[0-9]+)?)?(/.*) /shop if hdr_location\n",
        ),
    ),
    "redir": (
        zero(VHOST="a.example", HTTP_BACKEND_REDIR="/shop"),
        http_file(
            http=HOST + USE,
            https=SNI,
            lines=OPTIONS
            + "  acl is_root path -i /\n  acl is_domain hdr(host) -i a.example\n"
            + "  redirect code 301 location /shop if is_domain is_root\n",
        ),
    ),
    "network_http": (
        zero(MODE="http", BACKEND_NETWORK_ALLOWED_ACL="10.1.40.0/24 10.1.55.43"),
        http_file(
            lines=OPTIONS
            + "  acl network_allowed src 10.1.40.0/24\n  acl network_allowed src 10.1.55.43\n"
            + "  http-request allow if network_allowed\n  http-request deny\n"
        ),
    ),
    "network_tcp": (
        zero(BACKEND_NETWORK_ALLOWED_ACL="10.1.40.0/24"),
        tcp_file(
            "  acl network_allowed src 10.1.40.0/24\n"
            "  tcp-request content accept if network_allowed\n  tcp-request content reject\n"
        ),
    ),
    "group": ({"HAPROXY_GROUP": "internal", **zero(GROUP="a,external")}, tcp_file()),
    "other_group": (
        {"HAPROXY_GROUP": "external", **zero(GROUP="internal")},
        HTTP_IN + APPID_IN + HTTPS_IN,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_label_gives_its_lines_and_nothing_else(name: str) -> None:
    given, expected = GOLDEN[name]
    assert body(config([app("/web", given)])) == expected


def test_head_has_the_originals_global_defaults_and_stats() -> None:
    text = head(HeadSettings(stats_auth="ann:secret", user="haproxy"))
    assert text.startswith("global\n  log /dev/log local0\n  log /dev/log local1 notice\n")
    assert (
        "  stats socket /var/run/haproxy/socket mode 660 level admin expose-fd listeners\n" in text
    )
    assert (
        "  timeout tarpit          60s\n"
        "  option            dontlognull\n"
        "  option            http-server-close\n"
        "  option            redispatch\n"
        "listen stats\n  bind 0.0.0.0:9090\n  balance\n  mode http\n  stats enable\n"
        "  stats auth ann:secret\n"
        "  http-request use-service prometheus-exporter if { path /metrics }\n"
        "  monitor-uri /_haproxy_health_check\n"
    ) in text
    assert "  user haproxy\n" in text


def test_tutorials_internal_app_gets_the_tutorials_names() -> None:
    nginx = app(
        "/nginx-internal",
        {"HAPROXY_GROUP": "internal"},
        tasks=[task(1, 31187, "10.0.3.52"), task(2, 31514, "agent1")],
    )
    text = body(config([nginx], groups=frozenset({"internal"})))
    assert "\nfrontend nginx-internal_10001\n  bind *:10001\n  mode tcp\n" in text
    assert "  server 10_0_3_52_31187 10.0.3.52:31187 id " in text
    assert "  server agent1_10_0_3_51_31514 10.0.3.51:31514 id " in text


CHECK = {
    "protocol": "HTTP",
    "path": "/ping",
    "portIndex": 0,
    "gracePeriodSeconds": 10,
    "intervalSeconds": 2,
    "timeoutSeconds": 5,
    "maxConsecutiveFailures": 3,
}


@pytest.mark.parametrize(
    ("check", "given", "mode", "lines", "options"),
    [
        (
            CHECK,
            {},
            "http",
            "  option  httpchk GET /ping\n  timeout check 5s\n",
            " check inter 2s fall 4",
        ),
        (CHECK, zero(MODE="tcp"), "tcp", "", " check inter 2s fall 4"),
        ({**CHECK, "protocol": "TCP"}, {}, "tcp", "", " check inter 2s fall 4"),
        ({**CHECK, "protocol": "COMMAND"}, {}, "tcp", "", " check inter 2s fall 4"),
        ({**CHECK, "protocol": "MESOS_HTTP"}, {}, "tcp", "", " check inter 2s fall 4"),
        (
            {**CHECK, "protocol": "MESOS_TCP"},
            zero(MODE="http"),
            "http",
            "",
            " check inter 2s fall 4",
        ),
        (
            {**CHECK, "portIndex": None, "port": 8888},
            {},
            "http",
            "  option  httpchk GET /ping\n  timeout check 5s\n",
            " check inter 2s fall 4 port 8888",
        ),
        ({**CHECK, "portIndex": 1}, {}, "tcp", "", ""),
    ],
)
def test_health_check_becomes_haproxys_own(
    check: dict[str, Any], given: dict[str, str], mode: str, lines: str, options: str
) -> None:
    made = config([app("/web", given, healthChecks=[check])])
    text = body(made)
    before = OPTIONS if mode == "http" else ""
    assert backend(mode, before + lines, SERVER.replace("\n", options + "\n")) in text


def test_check_is_borrowed_from_another_port_of_the_same_server() -> None:
    made = config(
        [
            app(
                "/web",
                zero(BACKEND_HEALTHCHECK_PORT_INDEX="1"),
                ports=[10001, 10002],
                healthChecks=[{**CHECK, "portIndex": 1}],
            )
        ]
    )
    text = body(made)
    assert "id 19557 check inter 2s fall 4 port 31515\n" in text
    assert "\nbackend web_10001\n  balance roundrobin\n  mode http\n" in text


def test_weights_order_the_rules_and_ties_stay_in_the_order_of_ids() -> None:
    made = config(
        [
            app("/c", zero(VHOST="x"), ports=[10003]),
            app("/a", zero(VHOST="x", PATH="/a"), ports=[10001]),
            app("/b", zero(VHOST="x", BACKEND_WEIGHT="7"), ports=[10002]),
            app("/d", zero(VHOST="x", PATH="/d", BACKEND_WEIGHT="-2"), ports=[10004]),
            app("/e", zero(VHOST="x"), ports=[10005]),
        ]
    )
    part = body(made).split("marathon_http_appid_in")[0]
    assert re.findall(r"use_backend (\w)_", part) == ["b", "a", "c", "e", "d"]


def test_map_files_replace_the_rules_of_plain_services() -> None:
    made = config(
        [
            app("/a", zero(VHOST="a.example"), ports=[10001]),
            app("/b", zero(VHOST="b.example,c.example"), ports=[10002]),
            app("/c", zero(VHOST="d.example", PATH="/c"), ports=[10003]),
        ],
        settings={"use_maps": True, "directory": "/etc/haproxy"},
    )
    assert made.domain_map == "a.example a_10001\nb.example b_10002\nc.example b_10002\n"
    assert made.app_map == "/a a_10001\n/b b_10002\n/c c_10003\n"
    text = body(made)
    rule = "map(/etc/haproxy/domain2backend.map)]"
    assert text.count("  use_backend %[req.hdr(host),lower,regsub(:.*$,,)," + rule) == 1
    assert text.count("  use_backend %[ssl_fc_sni,lower," + rule) == 1
    assert text.index("path_beg /c") < text.index("regsub")
    assert (
        text.count(
            "  use_backend %[req.hdr(x-marathon-app-id),lower,map(/etc/haproxy/app2backend.map)]"
        )
        == 1
    )


def test_grouped_tls_gives_each_host_name_its_own_certificates() -> None:
    made = config(
        [
            app("/a", zero(VHOST="a.example", SSL_CERT="/a.pem", BIND_OPTIONS="force-tlsv12")),
            app("/b", zero(VHOST="b.example"), ports=[10002]),
        ],
        settings={"group_https_by_vhost": True, "certificates": ("/x.pem", "/y.pem")},
    )
    text = body(made)
    assert (
        "\nfrontend marathon_https_in\n  bind *:443\n  mode tcp\n  tcp-request inspect-delay 5s\n"
        "  tcp-request content accept if { req_ssl_hello_type 1 }\n"
        "  use_backend a_example if { req_ssl_sni -i a.example }\n"
        "  use_backend b_example if { req_ssl_sni -i b.example }\n"
        "\nbackend a_example\n  server loopback-for-tls abns@a_example send-proxy-v2\n"
        "\nfrontend a_example\n  mode http\n"
        "  bind abns@a_example accept-proxy ssl crt /a.pem force-tlsv12\n"
        "  use_backend a_10001 if { ssl_fc_sni a.example }\n"
    ) in text
    assert "  bind abns@b_example accept-proxy ssl crt /x.pem crt /y.pem\n" in text


def test_without_http_and_https_port_9091_stays() -> None:
    made = config([app("/web", zero(VHOST="a.example"))], settings={"bind_http_https": False})
    assert body(made) == APPID_IN + APP_RULE + frontend("http") + backend("http", OPTIONS)


def test_several_certificates_are_all_offered() -> None:
    made = config([], settings={"certificates": ("/a.pem", "/certs/")})
    assert "  bind *:443 ssl crt /a.pem crt /certs/\n" in body(made)


# -- templates ----------------------------------------------------------------------------------

FULL = {"VHOST": "a.example", "MODE": "http", "STICKY": "true", "USE_HSTS": "true"}
TWO = {"VHOST": "a.example,b.example"}
WITH_PATH = {"PATH": "/p"}
WITH_AUTH = {"AUTH": SECRET}
SECURE = {"REDIRECT_TO_HTTPS": "true"}
NET = {"BACKEND_NETWORK_ALLOWED_ACL": "10.0.0.0/8"}

#: Template → labels of an app in whose part of the file it stands.
USED_WITH: dict[str, dict[str, str]] = {
    "USERLIST_HEAD": WITH_AUTH,
    "FRONTEND_HEAD": {},
    "BACKEND_HEAD": {},
    "FRONTEND_BACKEND_GLUE": {},
    "HTTP_FRONTEND_ACL": FULL,
    "HTTP_FRONTEND_ACL_ONLY": TWO,
    "HTTP_FRONTEND_ROUTING_ONLY": TWO,
    "HTTP_FRONTEND_ACL_WITH_PATH": {**FULL, **WITH_PATH},
    "HTTP_FRONTEND_ACL_ONLY_WITH_PATH": {**TWO, **WITH_PATH},
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH": {**TWO, **WITH_PATH},
    "HTTP_FRONTEND_ACL_WITH_AUTH": {**FULL, **WITH_AUTH},
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH": {**TWO, **WITH_AUTH},
    "HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH": {**FULL, **WITH_AUTH, **WITH_PATH},
    "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH": {**TWO, **WITH_AUTH, **WITH_PATH},
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH": {**TWO, **WITH_AUTH, **WITH_PATH},
    "BACKEND_REDIRECT_HTTP_TO_HTTPS": {**FULL, **SECURE},
    "BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH": {**FULL, **SECURE, **WITH_PATH},
    "HTTPS_FRONTEND_ACL": FULL,
    "HTTPS_FRONTEND_ACL_WITH_PATH": {**FULL, **WITH_PATH},
    "HTTPS_FRONTEND_ACL_ONLY_WITH_PATH": {**FULL, **WITH_PATH},
    "HTTPS_FRONTEND_ACL_WITH_AUTH": {**FULL, **WITH_AUTH},
    "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH": {**FULL, **WITH_AUTH, **WITH_PATH},
    "HTTP_FRONTEND_APPID_ACL": FULL,
    "BACKEND_HTTP_OPTIONS": FULL,
    "BACKEND_HSTS_OPTIONS": FULL,
    "BACKEND_STICKY_OPTIONS": FULL,
    "HTTP_BACKEND_PROXYPASS_GLUE": {**FULL, "HTTP_BACKEND_PROXYPASS_PATH": "/q"},
    "HTTP_BACKEND_REVPROXY_GLUE": {**FULL, "HTTP_BACKEND_REVPROXY_PATH": "/q"},
    "HTTP_BACKEND_REDIR": {**FULL, "HTTP_BACKEND_REDIR": "/q"},
    "BACKEND_HTTP_HEALTHCHECK_OPTIONS": FULL,
    "BACKEND_TCP_HEALTHCHECK_OPTIONS": {"MODE": "tcp"},
    "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS": FULL,
    "BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS": {"MODE": "tcp"},
    "BACKEND_SERVER_OPTIONS": {},
    "HTTP_BACKEND_NETWORK_ALLOWED_ACL": {**FULL, **NET},
    "TCP_BACKEND_NETWORK_ALLOWED_ACL": {"MODE": "tcp", **NET},
    "HTTP_BACKEND_ACL_ALLOW_DENY": {**FULL, **NET},
    "TCP_BACKEND_ACL_ALLOW_DENY": {"MODE": "tcp", **NET},
    "HTTP_FRONTEND_HEAD": {},
    "HTTP_FRONTEND_APPID_HEAD": {},
    "HTTPS_FRONTEND_HEAD": {},
    "HTTPS_GROUPED_FRONTEND_HEAD": FULL,
    "HTTPS_GROUPED_VHOST_FRONTEND_ACL": FULL,
    "HTTPS_GROUPED_VHOST_BACKEND_HEAD": FULL,
    "HTTPS_GROUPED_VHOST_FRONTEND_HEAD": FULL,
    "MAP_HTTP_FRONTEND_ACL": FULL,
    "MAP_HTTP_FRONTEND_ACL_ONLY": TWO,
    "MAP_HTTPS_FRONTEND_ACL": FULL,
    "MAP_HTTP_FRONTEND_APPID_ACL": FULL,
}
NEVER_USED = {
    "HTTPS_FRONTEND_AUTH_ACL_ONLY",
    "HTTPS_FRONTEND_AUTH_REQUEST_ONLY",
    "HTTPS_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH",
}


def marked(name: str) -> str:
    """A text for template `name` that shows every placeholder it has."""
    shown = "".join(f" {field}={{{field}}}" for field in sorted(templates.fields(name)))
    return f"  # marked{shown}\n"


def where(name: str) -> dict[str, Any]:
    return {
        "use_maps": name.startswith("MAP_"),
        "group_https_by_vhost": "GROUPED" in name,
    }


def test_every_template_is_known_to_these_tests() -> None:
    assert {*USED_WITH, *NEVER_USED} == set(BUILT_IN)
    assert len(BUILT_IN) + 1 == 53  # and HEAD


@pytest.mark.parametrize("name", sorted(USED_WITH))
def test_template_of_the_environment_or_directory_replaces_the_built_in_one(name: str) -> None:
    given = zero(**USED_WITH[name])
    apps = [app("/web", given, healthChecks=[CHECK])]
    text = body(config(apps, {name: marked(name)}, where(name)))
    assert " # marked" in text
    assert "{" not in re.findall(r" # marked.*", text)[0]


@pytest.mark.parametrize("name", sorted(set(USED_WITH) & LABELLED))
def test_template_of_a_label_replaces_it_for_its_service_only(name: str) -> None:
    given = {**zero(**USED_WITH[name])}
    label = name.removeprefix("MAP_")
    given[f"HAPROXY_0_{label}"] = marked(name).replace("\n", "\r\n")
    other = app("/yet", zero(**USED_WITH[name]), ports=[10002], healthChecks=[CHECK])
    web = app("/web", given, healthChecks=[CHECK])
    made = config([web, other], None, where(name))
    assert made.refusals == ()
    text = body(made)
    assert " # marked" in text
    assert "\r" not in text
    assert "\nbackend yet_10002\n" in text
    alone = body(config([other], None, where(name)))
    assert "# marked" not in alone


def test_label_of_a_map_template_is_accepted_and_ignored() -> None:
    given = zero(VHOST="a.example", MAP_HTTP_FRONTEND_ACL="  # marked\n")
    text = body(config([app("/web", given)], None, {"use_maps": True}))
    assert "# marked" not in text


def test_labels_without_effect_in_the_original_have_none_here() -> None:
    names = set(BUILT_IN) - LABELLED
    assert names == {
        *NEVER_USED,
        "HTTP_FRONTEND_HEAD",
        "HTTP_FRONTEND_APPID_HEAD",
        "HTTPS_FRONTEND_HEAD",
        "HTTPS_GROUPED_FRONTEND_HEAD",
        "HTTPS_GROUPED_VHOST_FRONTEND_ACL",
        "HTTPS_GROUPED_VHOST_BACKEND_HEAD",
        "HTTPS_GROUPED_VHOST_FRONTEND_HEAD",
        "HTTP_BACKEND_REDIR",
        "HTTP_BACKEND_ACL_ALLOW_DENY",
        "TCP_BACKEND_ACL_ALLOW_DENY",
    }
    assert "HTTP_BACKEND_REDIR" in labels.NAMES  # the path, not the template


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("global\n  expose-fd listeners\n  daemon\n", "contains `daemon`"),
        ("global\n", "expose-fd listeners"),
    ],
)
def test_head_that_breaks_reloads_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Templates(text)


def test_template_with_an_unknown_placeholder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"BACKEND_HEAD.*nonsense.*known are backend, balance, mode"
    ):
        Templates(head(HeadSettings()), {"BACKEND_HEAD": "backend {nonsense}\n"})


def test_plain_templates_keep_their_braces() -> None:
    assert "BACKEND_HTTP_OPTIONS" in PLAIN
    used = Templates(head(HeadSettings()), {"BACKEND_HTTP_OPTIONS": "  # { ssl_fc } {x}\n"})
    assert used["BACKEND_HTTP_OPTIONS"] == "  # { ssl_fc } {x}\n"


def test_server_ids_do_not_clash() -> None:
    taken: set[int] = set()
    ids = [server_id(f"10_0_0_1_{port}", taken) for port in range(1000)]
    assert len(set(ids)) == 1000
    assert all(0 < one < 32767 for one in ids)
    assert server_id("10_0_0_1_0", set()) == ids[0]
    assert server_id("10_0_0_1_0", {ids[0]}) != ids[0]
