"""What the user of a simulated world runs: apps, services, pods, residents, pairs of services.

A shape knows how one thing is asked for, and what is there once that was answered. A thing may be
several apps: a pair is a group of two, of which one depends on the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from mesostk.marathon import events
from mesostk.wire.marathon import AppDefinition

#: Makes a command, given its request number.
Make = Callable[[int], events.Command]


class AppWish(msgspec.Struct, frozen=True):
    """What an app may be: its command and number of instances."""

    app_id: str
    command: str
    instances: int


#: What may be there of one thing; nothing where it does not exist.
Wish = frozenset[AppWish]
NOTHING: Final[Wish] = frozenset()


def of_app(app: AppDefinition) -> AppWish:
    """What an app that is there says of itself."""
    if app.pod is None:
        return AppWish(app.id, str(app.cmd), app.instances)
    first = app.pod.containers[0]
    assert first.exec is not None
    return AppWish(app.id, str(first.exec.command.shell), app.instances)


class Shape(Protocol):
    """One kind of thing. `version` tells its definitions from each other."""

    #: Whether another version is made by some changes, whether it can be restarted, and whether its
    #: instances can be killed by the id of their app.
    upgrades: bool
    restarts: bool

    def wish(self, id: str, command: str, count: int) -> Wish:
        """What is there once `put` was answered."""

    def put(self, id: str, command: str, count: int, *, exists: bool) -> Make:
        """Have it be there."""

    def scale(self, id: str, count: int) -> Make | None:
        """Have another number of instances, of the version that is there."""

    def delete(self, id: str) -> Make:
        """Have it be gone."""


def _app(id: str, command: str, count: int, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "cmd": command,
        "cpus": 0.5,
        "mem": 32,
        "instances": count,
        "backoffSeconds": 1,
        "maxLaunchDelaySeconds": 10,
        "taskKillGracePeriodSeconds": 3,
        **more,
    }


class Plain:
    """An app; `more` goes into its definition."""

    def __init__(self, *, upgrades: bool = False, **more: Any) -> None:
        self.upgrades = upgrades
        self.restarts = True
        self._more = more

    def wish(self, id: str, command: str, count: int) -> Wish:
        return frozenset({AppWish(id, command, count)})

    def put(self, id: str, command: str, count: int, *, exists: bool) -> Make:
        del exists  # PUT makes what is not there
        return self._put(id, _app(id, command, count, **self._more), partial=False)

    def scale(self, id: str, count: int) -> Make | None:
        return self._put(id, {"instances": count}, partial=True)

    def _put(self, id: str, body: dict[str, Any], *, partial: bool) -> Make:
        return lambda number: events.PutApps(
            request=number, bodies=(body,), app_id=id, partial=partial, force=True
        )

    def delete(self, id: str) -> Make:
        return lambda number: events.DeleteApp(request=number, app_id=id, force=True)


class Pod:
    """A pod of two containers, of which the first says the version."""

    upgrades = True
    restarts = False

    def wish(self, id: str, command: str, count: int) -> Wish:
        return frozenset({AppWish(id, command, count)})

    def put(self, id: str, command: str, count: int, *, exists: bool) -> Make:
        containers = [
            {
                "name": name,
                "exec": {"command": {"shell": shell}},
                "resources": {"cpus": 0.5, "mem": 16},
            }
            for name, shell in (("main", command), ("side", "run"))
        ]
        body = {
            "id": id,
            "containers": containers,
            "scaling": {"kind": "fixed", "instances": count},
            "scheduling": {"backoff": {"backoff": 1, "maxLaunchDelay": 10}},
        }
        if exists:
            return lambda number: events.PutPod(request=number, pod_id=id, body=body, force=True)
        return lambda number: events.CreatePod(request=number, body=body, force=True)

    def scale(self, id: str, count: int) -> Make | None:
        del id, count  # a pod's definition is always put as a whole
        return None

    def delete(self, id: str) -> Make:
        return lambda number: events.DeletePod(request=number, pod_id=id, force=True)


class Pair:
    """A group of two services, `front` after `back`; each is as `more` says."""

    upgrades = True
    restarts = False

    def __init__(self, **more: Any) -> None:
        self._more = more

    def wish(self, id: str, command: str, count: int) -> Wish:
        return frozenset(
            {AppWish(f"{id}/back", command, 1), AppWish(f"{id}/front", command, count)}
        )

    def put(self, id: str, command: str, count: int, *, exists: bool) -> Make:
        del exists  # PUT makes what is not there
        back = _app(f"{id}/back", command, 1, **self._more)
        front = _app(f"{id}/front", command, count, **self._more, dependencies=[f"{id}/back"])
        body = {"apps": [front, back]}
        return lambda number: events.ChangeGroup(request=number, group_id=id, body=body, force=True)

    def scale(self, id: str, count: int) -> Make | None:
        del id, count  # a group's apps are always put together
        return None

    def delete(self, id: str) -> Make:
        return lambda number: events.DeleteGroup(request=number, group_id=id, force=True)


class Team:
    """A group with an app in the role that is named as the group; `more` goes into the app."""

    upgrades = True
    restarts = False

    def __init__(self, **more: Any) -> None:
        self._more = more

    def wish(self, id: str, command: str, count: int) -> Wish:
        return frozenset({AppWish(f"{id}/own", command, count)})

    def put(self, id: str, command: str, count: int, *, exists: bool) -> Make:
        del exists  # PUT makes what is not there
        app = _app(f"{id}/own", command, count, **self._more, role=id.removeprefix("/"))
        body = {"apps": [app]}
        return lambda number: events.ChangeGroup(request=number, group_id=id, body=body, force=True)

    def scale(self, id: str, count: int) -> Make | None:
        del id, count  # a group's apps are always put together
        return None

    def delete(self, id: str) -> Make:
        return lambda number: events.DeleteGroup(request=number, group_id=id, force=True)


# -- what is drawn ------------------------------------------------------------------------------

_HEALTH = {
    "path": "/health",
    "portIndex": 0,
    "gracePeriodSeconds": 8,
    "intervalSeconds": 2,
    "timeoutSeconds": 1,
    "maxConsecutiveFailures": 3,
}
_READINESS = {
    "name": "ready",
    "portName": "http",
    "path": "/ready",
    "intervalSeconds": 2,
    "timeoutSeconds": 1,
    "httpStatusCodesForReady": [200],
}
#: Smallest healthy share and surplus of an upgrade.
_STRATEGIES = ((1.0, 1.0), (1.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.75, 0.34), (0.0, 0.0))


def _served(rng: random.Random) -> dict[str, Any]:
    """How a service is checked, upgraded and drained."""
    least, surplus = rng.choice(_STRATEGIES)
    more: dict[str, Any] = {
        "portDefinitions": [{"port": 0, "name": "http"}],
        "healthChecks": [{"protocol": rng.choice(("HTTP", "TCP")), **_HEALTH}],
        "upgradeStrategy": {"minimumHealthCapacity": least, "maximumOverCapacity": surplus},
    }
    if more["healthChecks"][0]["protocol"] == "TCP":
        del more["healthChecks"][0]["path"]
    if rng.random() < 0.5:
        more["readinessChecks"] = [_READINESS]
    if rng.random() < 0.6:
        more["labels"] = {"HAPROXY_GROUP": "external"}
        if rng.random() < 0.5:
            more["labels"]["MARATHON_DRAIN_SECONDS"] = "6"
    if rng.random() < 0.5:
        more["unreachableStrategy"] = {"inactiveAfterSeconds": 10, "expungeAfterSeconds": 40}
    return more


def service(rng: random.Random) -> Plain:
    """A service that is upgraded."""
    return Plain(upgrades=True, **_served(rng))


_COMMAND = {
    "protocol": "COMMAND",
    "command": {"value": "check"},
    "gracePeriodSeconds": 8,
    "intervalSeconds": 1,
    "timeoutSeconds": 1,
    "delaySeconds": 0,
    "maxConsecutiveFailures": 2,
}
_CHECK = {
    "exec": {"command": {"shell": "check"}},
    "intervalSeconds": 3,
    "timeoutSeconds": 1,
    "delaySeconds": 0,
}


def checked(rng: random.Random) -> Plain:
    """A service that its agents check, for its health and otherwise."""
    more = _served(rng)
    more["healthChecks"] = [_COMMAND]
    return Plain(upgrades=True, **more, check=_CHECK)


def pair(rng: random.Random) -> Pair:
    """Two of them."""
    return Pair(**_served(rng))


def _kept(rng: random.Random) -> dict[str, Any]:
    """A volume for each instance, and how those are upgraded."""
    volume = {"containerPath": "data", "mode": "RW", "persistent": {"type": "root", "size": 16}}
    least = rng.choice((0.0, 0.5, 1.0))
    return {
        "container": {"type": "MESOS", "volumes": [volume]},
        "upgradeStrategy": {"minimumHealthCapacity": least, "maximumOverCapacity": 0.0},
    }


def resident(rng: random.Random) -> Plain:
    """An app whose instances have a volume each."""
    return Plain(upgrades=True, **_kept(rng))


def team(rng: random.Random) -> Team:
    """An app in a role of its own, half of the time with volumes."""
    return Team(**(_kept(rng) if rng.random() < 0.5 else {}))
