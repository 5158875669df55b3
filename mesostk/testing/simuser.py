"""The scripted user of a simulated world: creates, scales, restarts and deletes apps.

What an app may have become is kept as a set: a 2xx leaves exactly what was asked for, a refusal
what was there, no answer both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mesostk.marathon import events
from mesostk.testing.simhost import Ground, Host, Process
from mesostk.testing.simmarathon import MarathonShell
from mesostk.testing.simnet import Network

#: Pauses between requests about one app; seconds.
PAUSE_S = (2.0, 25.0)
#: Pause before a request is repeated that no leader took; seconds.
RETRY_S = 1.0


class Wish(msgspec.Struct, frozen=True):
    """What an app may be: its command and number of instances; no app where there are none."""

    command: str
    instances: int


NO_APP = Wish("", 0)


class AppUser:
    """Asks one thing after the other about one app."""

    def __init__(self, user: User, app_id: str, command: str) -> None:
        self.user = user
        self.app_id = app_id
        self.command = command
        #: What the app may be now.
        self.possible = {NO_APP}
        self.is_asking = False
        self.log: list[str] = []

    def act(self) -> None:
        """Ask for something, then pause and go on, until the user rests."""
        if self.user.is_resting:
            return
        rng = self.user.ground.rng
        kind = rng.choices(["put", "scale", "delete", "restart", "kill"], [4, 4, 1, 1, 1])[0]
        count = rng.randint(1, self.user.most_instances)
        if kind == "put" or self.possible == {NO_APP}:
            self.put(count, self._pause)
        elif kind == "scale":
            body = {"instances": count}
            wishes = {Wish(self.command, count)}
            self._ask(f"scale {count}", _put(self.app_id, body, partial=True), wishes, self._pause)
        elif kind == "delete":
            self.delete(self._pause)
        elif kind == "restart":
            make = _restart(self.app_id)
            self._ask("restart", make, None, self._pause)
        else:
            self._ask("kill", _kill(self.app_id), None, self._pause)

    def put(self, count: int, then: Callable[[int], None]) -> None:
        """Have the app be there with `count` instances."""
        body = {
            "id": self.app_id,
            "cmd": self.command,
            "cpus": 0.5,
            "mem": 32,
            "instances": count,
            "backoffSeconds": 1,
            "maxLaunchDelaySeconds": 10,
            "taskKillGracePeriodSeconds": 3,
        }
        wishes = {Wish(self.command, count)}
        self._ask(f"put {count}", _put(self.app_id, body, partial=False), wishes, then)

    def delete(self, then: Callable[[int], None]) -> None:
        """Have the app be gone."""
        self._ask("delete", lambda n: _delete(self.app_id, n), {NO_APP}, then)

    def delete_until_gone(self) -> None:
        """Again and again, until it was confirmed."""

        def answered(status: int) -> None:
            if self.possible != {NO_APP} or status == 0:
                self.user.later(RETRY_S, self.delete_until_gone)

        if self.is_asking:
            self.user.later(RETRY_S, self.delete_until_gone)
        else:
            self.delete(answered)

    def _pause(self, _status: int) -> None:
        self.user.later(self.user.ground.rng.uniform(*PAUSE_S), self.act)

    def _ask(
        self,
        what: str,
        make: Callable[[int], events.Command],
        wishes: set[Wish] | None,
        then: Callable[[int], None],
    ) -> None:
        """Ask the leader; `wishes` is what is there after a 2xx, None for no change."""
        assert not self.is_asking, "one question at a time"
        self.is_asking = True
        before = self.possible

        def answered(status: int, text: str) -> None:
            self.is_asking = False
            now = self.user.ground.loop.now
            self.log.append(f"{now:9.3f} {what}: {status} {text[:100] if status >= 300 else ''}")
            if wishes is not None:
                if 200 <= status < 300:
                    self.possible = set(wishes)
                elif status == 404 and wishes == {NO_APP}:
                    self.possible = {NO_APP}
                elif status == 0:
                    self.possible = before | wishes
            then(status)

        # As soon as it is on its way it may count.
        if wishes is not None:
            self.possible = before | wishes
        self.user.ask(make, lambda status, text: self._settle(before, status, text, answered))

    def _settle(
        self, before: set[Wish], status: int, text: str, answered: Callable[[int, str], None]
    ) -> None:
        if status >= 400:
            self.possible = before
        answered(status, text)


class User(Process):
    """Someone at a machine of their own, who is never down."""

    def __init__(
        self,
        ground: Ground,
        host: Host,
        net: Network,
        marathons: list[MarathonShell],
        most_instances: int,
    ) -> None:
        super().__init__(ground, "user", host)
        self._net = net
        self._marathons = marathons
        self.most_instances = most_instances
        self.is_resting = False
        self.apps: dict[str, AppUser] = {}

    def boot(self) -> None:
        """Begin with each app."""
        for app in self.apps.values():
            self.later(self.ground.rng.uniform(*PAUSE_S), app.act)

    def rest(self) -> None:
        """Ask for nothing any more, but that apps which cannot stay are gone."""
        self.is_resting = True
        for app in self.apps.values():
            if app.command.startswith("exit"):
                app.delete_until_gone()

    def ask(
        self, make: Callable[[int], events.Command], answered: Callable[[int, str], None]
    ) -> None:
        """Ask whichever Marathon leads, trying them in turn; status 0 if one took it in vain."""

        def attempt(number: int) -> None:
            marathon = self._marathons[number % len(self._marathons)]

            def reply(status: int, text: str) -> None:
                if status == 503 or text == "connection refused":
                    # Nothing was done: nobody leads there.
                    self.later(RETRY_S, lambda: attempt(number + 1))
                else:
                    answered(status, text)

            self._net.post(self, marathon.address, "api", make, None, reply)

        attempt(self.ground.rng.randrange(len(self._marathons)))


def _put(app_id: str, body: dict[str, Any], *, partial: bool) -> Callable[[int], events.Command]:
    return lambda number: events.PutApps(
        request=number, bodies=(body,), app_id=app_id, partial=partial, force=True
    )


def _delete(app_id: str, number: int) -> events.Command:
    return events.DeleteApp(request=number, app_id=app_id, force=True)


def _restart(app_id: str) -> Callable[[int], events.Command]:
    return lambda number: events.RestartApp(request=number, app_id=app_id, force=True)


def _kill(app_id: str) -> Callable[[int], events.Command]:
    return lambda number: events.KillTasks(request=number, app_id=app_id)
