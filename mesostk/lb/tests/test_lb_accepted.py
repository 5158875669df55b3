"""HAProxy takes what is made of every label, and of a thousand apps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesostk.lb.haproxy import APP_MAP, DOMAIN_MAP, Haproxy, Paths
from mesostk.testing.balanced import Balancer, program
from mesostk.testing.lb import app, config, task
from mesostk.testing.requirements import require_haproxy

CHECK = {"protocol": "HTTP", "path": "/ping", "portIndex": 0, "intervalSeconds": 5}
AUTH = "my realm:ann:$5$salt$hash"

LABELS: list[dict[str, str]] = [
    {},
    {"MODE": "http", "USE_HSTS": "true"},
    {"VHOST": "a.example", "PATH": "-i /api /v2"},
    {"VHOST": "a.example,b.example", "PATH": "/api", "AUTH": AUTH},
    {"VHOST": "c.example", "AUTH": AUTH, "REDIRECT_TO_HTTPS": "true"},
    {"VHOST": "d.example,e.example", "REDIRECT_TO_HTTPS": "true", "PATH": "/x"},
    {"VHOST": "f.example", "HTTP_BACKEND_PROXYPASS_PATH": "/shop"},
    {"VHOST": "g.example", "HTTP_BACKEND_REVPROXY_PATH": "/shop"},
    {"VHOST": "h.example", "HTTP_BACKEND_REDIR": "/shop"},
    {"VHOST": "i.example", "BACKEND_NETWORK_ALLOWED_ACL": "10.0.0.0/8 10.1.2.3", "STICKY": "t"},
    {"BACKEND_NETWORK_ALLOWED_ACL": "10.0.0.0/8", "BALANCE": "source"},
    {"MODE": "http", "BALANCE": "hdr(X-User)"},
    {"BIND_ADDR": "127.0.0.1", "BIND_OPTIONS": "accept-proxy defer-accept"},
    {"VHOST": "j.example", "BACKEND_WEIGHT": "9", "BACKEND_HTTP_OPTIONS": "  option forwardfor\n"},
]


@pytest.fixture
def haproxy(tmp_path: Path) -> Haproxy:
    require_haproxy()
    Balancer(tmp_path, "127.0.0.67", [], 20_000).make_certificate()
    (tmp_path / DOMAIN_MAP).touch()
    (tmp_path / APP_MAP).touch()
    paths = Paths(config=tmp_path / "haproxy.cfg", program=program())
    return Haproxy(paths, asyncio.to_thread)


def settings(directory: Path, **more: Any) -> dict[str, Any]:
    cert = str(directory / "lab.pem")
    return {"certificates": (cert,), "directory": str(directory), **more}


@pytest.mark.parametrize(
    "more",
    [{}, {"use_maps": True}, {"group_https_by_vhost": True}, {"bind_http_https": False}],
    ids=["plain", "maps", "grouped", "without_80_and_443"],
)
async def test_file_of_every_label_is_valid(
    haproxy: Haproxy, tmp_path: Path, more: dict[str, Any]
) -> None:
    apps = []
    for number, given in enumerate(LABELS):
        labels = {f"HAPROXY_0_{name}": value for name, value in given.items()}
        for check in ([], [CHECK]):
            name = f"/group/app-{number}-{len(check)}"
            port = 20_001 + 2 * number + len(check)
            apps.append(app(name, labels, ports=[port], healthChecks=check))
    secure = {"HAPROXY_0_SSL_CERT": str(tmp_path / "lab.pem"), "HAPROXY_0_VHOST": "z.example"}
    apps.append(app("/secure", secure, ports=[20_100]))
    made = config(apps, None, settings(tmp_path, **more))
    assert made.refusals == ()
    assert len(made.backends) == len(apps)
    assert await haproxy.check(made.text()) is None


async def test_file_of_a_thousand_apps_is_valid(haproxy: Haproxy, tmp_path: Path) -> None:
    apps = [
        app(
            f"/app{number}",
            {"HAPROXY_0_VHOST": f"app{number}.example"},
            ports=[20_000 + number],
            tasks=[task(n, 31000 + n, f"10.1.{number // 250}.{number % 250}") for n in range(3)],
        )
        for number in range(1000)
    ]
    made = config(apps, None, settings(tmp_path))
    assert made.text().count("\n  server 10_") == 3000
    assert await haproxy.check(made.text()) is None
