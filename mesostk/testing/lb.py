"""Apps as Marathon shows them, and the file that is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mesostk.lb import bluegreen, model, render
from mesostk.lb.head import HeadSettings, head
from mesostk.lb.render import Config
from mesostk.lb.templates import Templates

ADDRESSES = {"agent1": "10.0.3.51", "agent2": "10.0.3.52"}


def task(number: int, port: int, host: str = "10.0.3.51", **extra: Any) -> dict[str, Any]:
    """A running task."""
    return {
        "id": f"t.{number}",
        "host": host,
        "state": "TASK_RUNNING",
        "ports": [port, port + 1, port + 2],
        **extra,
    }


def app(app_id: str, labels: Mapping[str, str] | None = None, **extra: Any) -> dict[str, Any]:
    """An app with one service port, 10001, and one task, in group external."""
    return {
        "id": app_id,
        "instances": 1,
        "labels": {"HAPROXY_GROUP": "external", **(labels or {})},
        "ports": [10001],
        "tasks": [task(1, 31514)],
        **extra,
    }


def address(host: str) -> str | None:
    return model.literal(host) or ADDRESSES.get(host)


def build(apps: list[dict[str, Any]], **options: Any) -> model.Model:
    """The services of `apps` for group external, unless told otherwise."""
    options.setdefault("groups", frozenset({"external"}))
    alive = options.pop("was_alive", lambda _task: False)
    read, unread = model.read_apps(json.dumps({"apps": apps}).encode())
    merged, refused = bluegreen.merge(read)
    built = model.build(merged, model.Settings(**options), model.Resolver(address, alive))
    return model.Model(built.services, (*unread, *refused, *built.refusals))


def config(
    apps: list[dict[str, Any]],
    templates: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Config:
    """The file for `apps`."""
    used = Templates(head(HeadSettings()), templates)
    return render.render(build(apps, **options), used, render.Settings(**(settings or {})))


def body(made: Config) -> str:
    """The file without its head."""
    start = made.before[0].text
    text = made.text()
    assert text.startswith(start)
    return text[len(start) :]
