"""Zero-downtime deployments, the deciding part: colours, ports, how many next, who has drained.

Source: spec/dns-lb-autoscale §2.13. Apps are plain JSON here: everything that is not understood has
to go back to Marathon as it came.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mesostk.base.units import whole_number
from mesostk.lb.vhosts import cleaned

App = dict[str, Any]

GROUP: Final = "HAPROXY_DEPLOYMENT_GROUP"
ALT_PORT: Final = "HAPROXY_DEPLOYMENT_ALT_PORT"
COLOUR: Final = "HAPROXY_DEPLOYMENT_COLOUR"
STARTED_AT: Final = "HAPROXY_DEPLOYMENT_STARTED_AT"
TARGET: Final = "HAPROXY_DEPLOYMENT_TARGET_INSTANCES"
NEW: Final = "HAPROXY_DEPLOYMENT_NEW_INSTANCES"
PUBLIC_PORT: Final = "HAPROXY_0_PORT"

#: Exit codes of the original, by what went wrong.
DECLINED, UNKNOWN, ARGUMENTS, FIELD, BALANCER, MARATHON, CREATE, DELETE, SCALE = range(1, 10)


class ZddError(Exception):
    """A deployment cannot go on; `code` is the exit code of the original for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How fast and how far; times in seconds. `complete`: no instance of the old app stays."""

    initial_instances: int = 1
    linear_increase: int = 0
    new_instances: int = 0
    step_delay_s: float = 5.0
    max_wait_s: float = 300.0
    complete: bool = False


def labels(app: App) -> dict[str, str]:
    """The app's labels, made if it has none."""
    found: dict[str, str] = app.setdefault("labels", {})
    return found


def validate(app: App) -> None:
    """ZddError (4) naming the field that a deployable app lacks."""
    if not app.get("id"):
        raise ZddError(FIELD, "the app has no `id`")
    for name in (GROUP, ALT_PORT):
        if not labels(app).get(name):
            raise ZddError(FIELD, f"the app has no label {name}")
    if whole_number(labels(app)[ALT_PORT]) is None:
        raise ZddError(FIELD, f"label {ALT_PORT} is no port: {labels(app)[ALT_PORT]!r}")
    service_port(app)


def _port_holder(app: App) -> tuple[Any, Any]:
    """The object and key that hold the first service port."""
    container = app.get("container") or {}
    for mappings in (
        (container.get("docker") or {}).get("portMappings"),
        container.get("portMappings"),
    ):
        if mappings:
            return mappings[0], "servicePort"
    if app.get("portDefinitions"):
        return app["portDefinitions"][0], "port"
    if app.get("ports"):
        return app["ports"], 0
    raise ZddError(FIELD, "the app has no service port: give it portMappings, or ports")


def service_port(app: App) -> int:
    """The app's first service port; ZddError (4) if it has none."""
    holder, key = _port_holder(app)
    port = holder[key] if isinstance(key, int) else holder.get(key)
    if not port:
        raise ZddError(FIELD, "the app's first service port is not set")
    return int(port)


def started(apps: Iterable[App]) -> list[App]:
    """Apps by the time their deployment started, the oldest first."""
    return sorted(apps, key=lambda app: labels(app).get(STARTED_AT, "0"))


def of_group(apps: Iterable[App], app: App) -> list[App]:
    """Those of `apps` that are in the deployment group of `app`."""
    return [one for one in apps if labels(one).get(GROUP) == labels(app)[GROUP]]


def prepared(app: App, previous: Sequence[App], now_iso: str, settings: Settings) -> App:
    """`app` as it is to be created: coloured, on the free port, with its first instances."""
    made = copy.deepcopy(app)
    public = service_port(made)
    colour, port, target, hybrid = "blue", public, int(made.get("instances", 1)), 0
    if previous:
        last = started(previous)[-1]
        colour = "green" if labels(last).get(COLOUR) == "blue" else "blue"
        port = _next_port(last)
        target = int(last["instances"])
        hybrid = min(settings.new_instances, target)
        made["instances"] = min(settings.initial_instances, hybrid or target)
    labels(made).update(
        {
            "HAPROXY_APP_ID": str(made["id"]),
            PUBLIC_PORT: str(public),
            TARGET: str(target),
            NEW: str(hybrid),
            COLOUR: colour,
            STARTED_AT: now_iso,
        }
    )
    made["id"] = "/" + str(made["id"]).lstrip("/") + "-" + colour
    holder, key = _port_holder(made)
    holder[key] = port
    return made


def _next_port(last: App) -> int:
    alt = int(labels(last)[ALT_PORT])
    taken = last.get("ports") or [service_port(last)]
    if int(taken[0]) == alt:
        return int(labels(last)[PUBLIC_PORT])
    return alt


def target_of(app: App) -> int:
    """How many instances the group is to have."""
    return int(labels(app).get(TARGET) or app["instances"])


def hybrid_of(app: App, settings: Settings) -> int:
    """How many instances the new app keeps beside the old one; 0: it takes over."""
    return 0 if settings.complete else int(labels(app).get(NEW) or 0)


def is_finished(new: App, old: App, settings: Settings) -> bool:
    """Whether a hybrid deployment has reached its two numbers."""
    count = hybrid_of(new, settings)
    return bool(count) and new["instances"] == count and old["instances"] == target_of(new) - count


def next_instances(new: App, old: App, settings: Settings) -> int:
    """How many instances the new app gets next: half again as many, or so many more."""
    now, target, hybrid = int(new["instances"]), target_of(new), hybrid_of(new, settings)
    if settings.linear_increase > 0:
        count = now + settings.linear_increase
        return min(count, hybrid or target)
    count = math.floor(now + (now + 1) / 2)
    if hybrid:
        return min(count, hybrid)
    return target if count >= int(old["instances"]) else count


# -- what the balancers say -------------------------------------------------------------------


class Listener(msgspec.Struct, frozen=True):
    """One row of `haproxy?stats;csv` about a server of the group, from one balancer."""

    balancer: str
    server: str
    status: str
    sessions: int
    queued: int


def listeners(balancer: str, rows: Iterable[Mapping[str, str]], backend: str) -> list[Listener]:
    """The servers of `backend` in one balancer's statistics."""
    return [
        Listener(
            balancer,
            row.get("svname", ""),
            (row.get("status") or "").split(" ")[0],
            int(row.get("scur") or 0),
            int(row.get("qcur") or 0),
        )
        for row in rows
        if row.get("pxname") == backend and row.get("svname") not in ("FRONTEND", "BACKEND")
    ]


def backend_of(app: App) -> str:
    """Name of the group's backend: its name and the public port."""
    group = labels(app)[GROUP].lstrip("/").replace("/", "_")
    return f"{group}_{labels(app).get(PUBLIC_PORT) or service_port(app)}"


def server_of(task: Mapping[str, Any]) -> str:
    """How the names of the servers of `task` end: its first port, after any address."""
    ports = task.get("ports") or [0]
    return cleaned(f"_{ports[0]}")


def drained(found: Sequence[Listener], old: App, balancers: int) -> list[str]:
    """Old tasks that every balancer drains and has no session for, by id."""
    return [
        str(task["id"])
        for task in old.get("tasks", [])
        if (mine := _of_task(found, task))
        and {one.balancer for one in mine} == {one.balancer for one in found}
        and len({one.balancer for one in mine}) == balancers
        and all(one.status == "MAINT" and not one.sessions and not one.queued for one in mine)
    ]


def draining(found: Sequence[Listener], old: App) -> list[str]:
    """Old tasks that are being drained somewhere, by id."""
    return [
        str(task["id"])
        for task in old.get("tasks", [])
        if any(one.status == "MAINT" for one in _of_task(found, task))
    ]


def _of_task(found: Sequence[Listener], task: Mapping[str, Any]) -> list[Listener]:
    end = server_of(task)
    host = cleaned(str(task.get("host", "")))
    return [one for one in found if one.server.startswith(host) and one.server.endswith(end)]


def is_ready(found: Sequence[Listener], new: App, old: App, balancers: int) -> bool:
    """Whether every balancer knows all instances and enough of them are up."""
    if not balancers:
        return False
    known = len(found) / balancers
    up = sum(1 for one in found if one.status == "UP" or one.status == "no") / balancers
    return known == new["instances"] + old["instances"] and up >= min(
        target_of(new), int(new["instances"]) + int(old["instances"])
    )
