"""The scripted user of a simulated world: creates, upgrades, scales, restarts and deletes things,
cancels deployments and rolls them back.

What a thing may have become is kept as a set: a 2xx leaves exactly what was asked for, a refusal
what was there, no answer both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from mesostk.marathon import events
from mesostk.testing.simhost import Ground, Host, Process
from mesostk.testing.simmarathon import MarathonShell
from mesostk.testing.simnet import Network
from mesostk.testing.simshapes import NOTHING, Make, Shape, Wish

#: Pauses between requests about one thing; seconds.
PAUSE_S = (2.0, 25.0)
#: Pause before a request is repeated that no leader took; seconds.
RETRY_S = 1.0
#: A deployment is given so long, if it is given a time at all; wall seconds.
TIMEOUT_S = 25.0
#: How many versions of a service come up to nothing.
BROKEN_SHARE = 0.15

#: What is asked for, with its weight; what a shape cannot do is another `put`.
_DEEDS = {"put": 6, "scale": 4, "delete": 1, "restart": 1, "kill": 1, "cancel": 1, "revert": 2}


class AppUser:
    """Asks one thing after the other about one thing: an app, or the apps of a group."""

    def __init__(self, user: User, id: str, shape: Shape, command: str, most: int) -> None:
        self.user = user
        self.id = id
        self.shape = shape
        self.command = command
        self.most = most
        #: What the thing may be now.
        self.possible: set[Wish] = {NOTHING}
        #: When it was last asked to be gone, or may have gone; virtual seconds.
        self.gone_at = 0.0
        #: A deployment was cut short: instances of both versions may stay side by side.
        self.is_mixed = False
        self.is_asking = False
        self.log: list[str] = []
        self._version = 0
        #: Whether the last deployment was given a time, after which it is taken back.
        self._is_timed = False
        #: The last deployment, and what was possible before it.
        self._last: tuple[str, set[Wish]] | None = None

    @property
    def exists(self) -> bool:
        """Whether it may be there."""
        return self.possible != {NOTHING}

    def act(self) -> None:
        """Ask for something, then pause and go on, until the user rests."""
        if self.user.is_resting:
            return
        rng = self.user.ground.rng
        deed = rng.choices(list(_DEEDS), list(_DEEDS.values()))[0]
        count = rng.randint(1, self.most)
        scale = self.shape.scale(self.id, count)
        if not self.exists:
            self._put(count)
        elif deed == "scale" and scale is not None and len(self.possible) == 1:
            [wish] = self.possible
            self._ask(f"scale {count}", scale, {self._rescaled(wish, count)}, self._pause)
        elif deed == "delete":
            self.delete(self._pause)
        elif deed == "restart" and self.shape.restarts:
            self._ask("restart", _restart(self.id), None, self._pause)
        elif deed == "kill" and self.shape.restarts:
            self._ask("kill", _kill(self.id), None, self._pause)
        elif deed in {"cancel", "revert"} and self._last is not None:
            self._undo(*self._last, force=deed == "cancel")
        else:
            self._put(count)

    def _rescaled(self, wish: Wish, count: int) -> Wish:
        command = next(iter(wish)).command
        return self.shape.wish(self.id, command, count)

    def _put(self, count: int) -> None:
        rng = self.user.ground.rng
        timeout_s = None
        # What changes nothing would leave a deployment alone that is taken back later.
        changes = not self.exists or self._is_timed or rng.random() < 0.7
        if self.shape.upgrades and changes:
            broken = self.command == "serve" and rng.random() < BROKEN_SHARE
            self._version += 1
            timeout_s = TIMEOUT_S if rng.random() < 0.25 else None
            self.put(f"{'broken' if broken else self.command} {self._version}", count, timeout_s)
        else:
            self.put(self._current_command(), count, None)

    def _current_command(self) -> str:
        if not self.shape.upgrades:
            return self.command
        wishes = [wish for wish in self.possible if wish]
        found = {app.command for wish in wishes for app in wish}
        return max(found, default=f"{self.command} {self._version}")

    def put(
        self,
        command: str,
        count: int,
        timeout_s: float | None,
        then: Callable[[int], None] | None = None,
    ) -> None:
        """Have the thing be there with `count` instances."""
        plain = self.shape.put(self.id, command, count, exists=self.exists)
        make = plain if timeout_s is None else _with_timeout(plain, timeout_s)
        wishes = {self.shape.wish(self.id, command, count)}
        self._is_timed = timeout_s is not None
        if timeout_s is not None:
            # It may be taken back, until something else is asked for and answered.
            wishes |= self.possible
            if NOTHING in self.possible:
                self.gone_at = math.inf
        text = f"put {count} of {command}" + ("" if timeout_s is None else f" in {timeout_s:g} s")
        self._ask(text, make, wishes, self._pause if then is None else then)

    def delete(self, then: Callable[[int], None]) -> None:
        """Have the thing be gone."""
        self.gone_at = max(self.gone_at, self.user.ground.loop.now)
        self._ask("delete", self.shape.delete(self.id), {NOTHING}, then, is_gone_if_404=True)

    def _undo(self, deployment: str, before: set[Wish], *, force: bool) -> None:
        make = _undo(deployment, force=force)
        if force:
            self.is_mixed = True
            self._ask("cancel", make, None, self._pause)
        else:
            self._may_go(before)
            self._ask("revert", make, before, self._pause)

    def _may_go(self, before: set[Wish]) -> None:
        if NOTHING in before:
            self.gone_at = max(self.gone_at, self.user.ground.loop.now)

    def come_to_rest(self) -> None:
        """What cannot stay goes; what may be of two versions, or never comes up, is put anew."""
        if self.command.startswith("exit"):
            self._until_done(self.delete)
            return
        names = {app.command for wish in self.possible for app in wish}
        if self.is_mixed or any(name.startswith("broken") for name in names):
            self._version += 1
            command = self.command
            if self.shape.upgrades:
                command = f"{self.command} {self._version}"
            self._until_done(lambda then: self.put(command, 1, None, then))

    def _until_done(self, ask: Callable[[Callable[[int], None]], None]) -> None:
        """Again and again, until it was confirmed."""

        def again() -> None:
            if self.is_asking:
                self.user.later(RETRY_S, again)
            else:
                ask(answered)

        def answered(status: int) -> None:
            if not (200 <= status < 300 or status == 404):
                self.user.later(RETRY_S, again)

        again()

    def _pause(self, _status: int) -> None:
        self.user.later(self.user.ground.rng.uniform(*PAUSE_S), self.act)

    def _ask(
        self,
        what: str,
        make: Make,
        wishes: set[Wish] | None,
        then: Callable[[int], None],
        *,
        is_gone_if_404: bool = False,
    ) -> None:
        """Ask the leader; `wishes` is what is there after a 2xx, None for no change."""
        assert not self.is_asking, "one question at a time"
        self.is_asking = True
        before = self.possible
        # As soon as it is on its way it may count.
        if wishes is not None:
            self.possible = before | wishes

        def answered(status: int, text: str) -> None:
            self.is_asking = False
            now = self.user.ground.loop.now
            self.log.append(f"{now:9.3f} {what}: {status} {text[:100]}")
            if 200 <= status < 300:
                if wishes is not None:
                    self.possible = set(wishes)
                if text:
                    self._last = (text, before)
                    if self.gone_at == math.inf and not self._is_timed:
                        self.gone_at = now
            elif status == 404 and is_gone_if_404:
                self.possible = {NOTHING}
            elif status >= 300:
                self.possible = before
            then(status)

        self.user.ask(make, answered)


def _with_timeout(make: Make, timeout_s: float) -> Make:
    return lambda number: msgspec.structs.replace(make(number), timeout_s=timeout_s)


def _restart(app_id: str) -> Make:
    return lambda number: events.RestartApp(request=number, app_id=app_id, force=True)


def _kill(app_id: str) -> Make:
    return lambda number: events.KillTasks(request=number, app_id=app_id)


def _undo(deployment_id: str, *, force: bool) -> Make:
    return lambda number: events.DeleteDeployment(
        request=number, deployment_id=deployment_id, force=force
    )


def _evacuate(agent_id: str, *, cancel: bool) -> Make:
    return lambda number: events.Evacuate(request=number, agent_id=agent_id, cancel=cancel)


class User(Process):
    """Someone at a machine of their own, who is never down."""

    def __init__(
        self, ground: Ground, host: Host, net: Network, marathons: list[MarathonShell]
    ) -> None:
        super().__init__(ground, "user", host)
        self._net = net
        self._marathons = marathons
        self.is_resting = False
        self.apps: dict[str, AppUser] = {}
        #: Agents that Marathon was asked to leave, by their ids.
        self.evacuated: set[str] = set()

    def boot(self) -> None:
        """Begin with each thing."""
        for app in self.apps.values():
            self.later(self.ground.rng.uniform(*PAUSE_S), app.act)

    def rest(self) -> None:
        """Ask for nothing any more, but that what cannot stay is gone, or put right."""
        self.is_resting = True
        for app in self.apps.values():
            app.come_to_rest()
        for agent_id in sorted(self.evacuated):
            self._stay(agent_id)

    def of_app(self, app_id: str) -> AppUser | None:
        """Whose app that is."""
        return self.apps.get("/" + app_id.split("/")[1])

    def evacuate(self, agent_id: str) -> None:
        """Have every instance of an agent replaced elsewhere."""
        self.evacuated.add(agent_id)
        self.ask(_evacuate(agent_id, cancel=False), lambda _status, _text: None)

    def _stay(self, agent_id: str) -> None:
        def answered(status: int, _text: str) -> None:
            if status == 0:
                self.later(RETRY_S, lambda: self._stay(agent_id))
            else:
                self.evacuated.discard(agent_id)

        self.ask(_evacuate(agent_id, cancel=True), answered)

    def ask(self, make: Make, answered: Callable[[int, str], None]) -> None:
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
