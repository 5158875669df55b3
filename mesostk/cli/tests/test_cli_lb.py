"""`mesostk lb` and `mesostk zdd`: what they show, and which app takes over."""

from __future__ import annotations

from typing import Any

import pytest

from mesostk.cli import lb
from mesostk.cli.contexts import Context
from mesostk.lb.deployment import ZddError


def test_route_is_shown_by_its_host_names_and_its_port() -> None:
    route = {
        "vhosts": ["a.example", "b.example"],
        "path": "/api",
        "bind": "*:10001",
        "app_id": "/web",
        "mode": "http",
        "up": 2,
        "servers": 3,
        "requests_per_second": 7,
    }
    assert lb.route_rows([route, {**route, "vhosts": [], "bind": None}]) == [
        ("a.example/api b.example/api *:10001", "/web", "http", "2/3", "7"),
        ("", "/web", "http", "2/3", "7"),
    ]


def test_balancers_are_those_named_or_those_beside_marathon() -> None:
    context = Context(masters=[], marathons=["http://10.0.3.11:8080", "http://10.0.3.12:8080"])
    assert lb.balancers_of(context, None) == ["http://10.0.3.11:9090", "http://10.0.3.12:9090"]
    assert lb.balancers_of(None, ["http://lb:9090/"]) == ["http://lb:9090"]


def old_and_new() -> list[dict[str, Any]]:
    return [
        {"id": "/green", "labels": {"HAPROXY_DEPLOYMENT_STARTED_AT": "2016-02"}},
        {"id": "/blue", "labels": {"HAPROXY_DEPLOYMENT_STARTED_AT": "2016-01"}},
    ]


def test_deployment_under_way_goes_forward_or_back_but_not_without_being_told() -> None:
    green, blue = old_and_new()
    made = {"id": "/made"}
    assert lb._pair(made, [], False, False) == (made, None)
    assert lb._pair(made, [blue], True, False) == (made, blue)
    assert lb._pair(made, [green, blue], True, False) == (green, blue)
    assert lb._pair(made, [green, blue], False, True) == (blue, green)
    with pytest.raises(ZddError, match="--complete-prev \\(all to /blue\\)") as caught:
        lb._pair(made, [green, blue], False, False)
    assert caught.value.code == 3
    with pytest.raises(ZddError, match="no two apps"):
        lb._pair(made, [blue], False, True)
