"""The part of `cluster plan` that is about HAProxy: lines that would differ, servers left out."""

from __future__ import annotations

from typing import Any

from mesostk.cli.planning import haproxy_difference, placeholder

EXTERNAL = frozenset({"external"})


def web(**fields: Any) -> dict[str, Any]:
    labels = {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "web.example.com"}
    port = [{"port": 10001, "protocol": "tcp"}]
    return {"id": "/web", "labels": labels, "portDefinitions": port, "tasks": [], **fields}


def test_a_new_app_has_a_frontend_and_a_backend() -> None:
    text = haproxy_difference([], [web()], EXTERNAL)
    assert "+frontend web_10001" in text
    assert "web.example.com" in text
    assert "192.0.2.1" not in text


def test_an_app_of_another_group_changes_nothing() -> None:
    assert haproxy_difference([], [web(labels={"HAPROXY_GROUP": "internal"})], EXTERNAL) == ""


def test_only_what_differs_is_shown() -> None:
    now = [web(tasks=[placeholder(web())])]
    assert haproxy_difference(now, [web()], EXTERNAL) == ""
    labels = {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "www.example.com"}
    lines = haproxy_difference(now, [web(labels=labels)], EXTERNAL).splitlines()
    assert any(line.startswith("+") and "www.example.com" in line for line in lines)
    assert any(line.startswith("-") and "web.example.com" in line for line in lines)
    assert not any("192.0.2.1" in line for line in lines)
