"""Two apps of one deployment group become one: the old drains as the new grows healthy.

Source: spec/dns-lb-autoscale §2.13.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from mesostk.base.units import whole_number
from mesostk.lb.model import AppTasks, Refusal, is_alive
from mesostk.wire.lb import App

GROUP: Final = "HAPROXY_DEPLOYMENT_GROUP"
STARTED_AT: Final = "HAPROXY_DEPLOYMENT_STARTED_AT"
NEW_INSTANCES: Final = "HAPROXY_DEPLOYMENT_NEW_INSTANCES"
TARGET_INSTANCES: Final = "HAPROXY_DEPLOYMENT_TARGET_INSTANCES"

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def merge(apps: Iterable[App]) -> tuple[list[AppTasks], list[Refusal]]:
    """Every app by itself; those of one deployment group as one, under the group's name.

    Groups come last, in the order in which their first app comes. What is wrong with a group's
    labels leaves its later app out.
    """
    alone: list[AppTasks] = []
    groups: dict[str, App] = {}
    merged: dict[str, AppTasks] = {}
    refusals: list[Refusal] = []
    for app in apps:
        group = (app.labels or {}).get(GROUP)
        if not group:
            alone.append(AppTasks(app, app.id, app.tasks or ()))
            continue
        name = group if group.startswith("/") else "/" + group
        if name not in groups:
            groups[name] = app
            merged[name] = AppTasks(app, name, app.tasks or ())
            continue
        try:
            merged[name] = _merged(name, groups[name], app)
        except ValueError as error:
            refusals.append(Refusal(app.id, f"deployment group {name}: {error}"))
    return [*alone, *merged.values()], refusals


def _labels(app: App) -> Mapping[str, str]:
    return app.labels or {}


def _time(text: str | None) -> datetime:
    if text is None:
        return _LONG_AGO
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is no time like 2016-06-20T12:00:00") from error
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _scaled_at(app: App) -> datetime:
    return _time(None if app.version_info is None else app.version_info.last_scaling_at)


def _by_start(first: App, second: App) -> tuple[App, App]:
    """(old, new); of two that started together, the first is new."""
    started = [_time(_labels(app).get(STARTED_AT)) for app in (first, second)]
    return (first, second) if started[0] < started[1] else (second, first)


def _target(new: App) -> int:
    text = _labels(new).get(TARGET_INSTANCES, "")
    target = whole_number(text)
    if target is None:
        raise ValueError(f"{TARGET_INSTANCES} is {text[:80]!r}, no number")
    return target


def _merged(name: str, first: App, second: App) -> AppTasks:
    old, new = _by_start(first, second)
    target = 1
    if NEW_INSTANCES in _labels(new):  # also "0"
        target = _target(new)
        # A hybrid deployment keeps both, so who drains is who was scaled last.
        if _scaled_at(old) > _scaled_at(new):
            old, new = new, old
    healthy = _healthy(new)
    old_tasks = sorted(old.tasks or (), key=lambda task: task.id)
    drainable = max(0, healthy + old.instances - target)
    count = min(len(old_tasks), healthy, drainable)
    return AppTasks(
        old,
        name,
        (*old_tasks, *(new.tasks or ())),
        frozenset(task.id for task in old_tasks[:count]),
    )


def _healthy(app: App) -> int:
    if not app.health_checks:
        return app.instances
    return sum(1 for task in app.tasks or () if is_alive(task))
