"""Rolling upgrades of health-checked apps in dependent groups, through a crash at every effect.

The judge counts what really serves: tasks that run, answer their probe and were not told to end. It
believes no core. Two planted bugs show that it would notice.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

from mesostk.base.core import Effect, Note
from mesostk.marathon import rollout
from mesostk.marathon.events import ChangeGroup, Send
from mesostk.marathon.rollout import Bounds
from mesostk.marathon.tests.conftest import Crash, World
from mesostk.wire.marathon import AppDefinition

INSTANCES = 4

CHECK = {"protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 0, "intervalSeconds": 1}

STRATEGIES = [(1.0, 1.0), (0.75, 0.25), (0.5, 0.0), (1.0, 0.0), (0.0, 0.0)]


class Broken(AssertionError):
    """An upgrade went outside its bounds."""


class Judge:
    """Watches the world of one group: /shop/db, and /shop/web/front that depends on it."""

    def __init__(self, minimum: float, over: float) -> None:
        self.world = World()
        self.world.connect()
        self.minimum, self.over = minimum, over
        self.crash_at: int | None = None
        self.effects = 0
        self.judging = False
        #: Tasks that were told to end; they may still be running.
        self.doomed: set[str] = set()
        self.world.before = self._before

    # -- what is wanted -------------------------------------------------------------------------

    def body(self, cmd: str) -> dict[str, Any]:
        strategy = {"minimumHealthCapacity": self.minimum, "maximumOverCapacity": self.over}
        app = {"cmd": cmd, "cpus": 0.1, "mem": 16, "instances": INSTANCES, "ports": [0]}
        app |= {"healthChecks": [CHECK], "upgradeStrategy": strategy}
        web = {"id": "web", "dependencies": ["../db"], "apps": [{"id": "front", **app}]}
        return {"groups": [{"id": "db", "apps": [{"id": "main", **app}]}, web]}

    def put(self, cmd: str) -> None:
        reply = self._survive(
            lambda: self.world.ask(ChangeGroup, group_id="/shop", body=self.body(cmd), force=True)
        )
        if reply is None:
            reply = self.world.ask(ChangeGroup, group_id="/shop", body=self.body(cmd), force=True)
        assert reply.status == 200

    # -- the world ------------------------------------------------------------------------------

    def run(self, rounds: int) -> None:
        """Offers, time, and a good answer to every probe."""
        for _ in range(rounds):
            self._survive(self.world.offer)
            for probed in list(self.world.probes):
                self._survive(partial(self.world.probe, probed, alive=True))
            self._survive(lambda: self.world.advance(1.0))

    def _survive(self, act: Any) -> Any:
        try:
            return act()
        except Crash:
            self.world.start()
            self.world.connect()
            return None

    def _before(self, effect: Effect) -> None:
        if self.judging and isinstance(effect, Send):
            if effect.call.kill is not None:
                self._judge_kill(effect.call.kill.task_id.value)
            if effect.call.accept is not None:
                for operation in effect.call.accept.operations:
                    assert operation.launch is not None
                    for task in operation.launch.task_infos:
                        self._judge_launch(
                            task.task_id.value, str(task.command and task.command.value)
                        )
        if isinstance(effect, Note):
            return
        self.effects += 1
        if self.effects == self.crash_at:
            raise Crash

    # -- the judgement --------------------------------------------------------------------------

    def serving(self, app: str) -> set[str]:
        """Tasks that answer: here those that run."""
        running = {id for id in self.world.running(app) if id not in self.doomed}
        state = self.world.core.state
        known = {i.task_id for i in state.of_app(app) if state.health_of(i) is False}
        return running - known

    def _judge_kill(self, task: str) -> None:
        if task in self.doomed or task not in self.world.tasks:
            return
        app = "/shop/db/main" if task.startswith("shop_db_main.") else "/shop/web/front"
        left = self.serving(app) - {task}
        self.doomed.add(task)
        least = math.ceil(INSTANCES * self.minimum - 1e-9)
        if len(left) < least:
            raise Broken(f"{app}: {len(left)} serve after the kill of {task}, {least} must")

    def _judge_launch(self, task: str, cmd: str) -> None:
        app = "shop_db_main." if task.startswith("shop_db_main.") else "shop_web_front."
        there = sum(id.startswith(app) for id in self.world.tasks) + 1
        most = math.floor(INSTANCES * (1 + self.over) + 1e-9)
        if math.ceil(INSTANCES * self.minimum - 1e-9) == most:
            most += 1  # nothing could move otherwise (spec/marathon §3.2)
        if there > most:
            raise Broken(f"{app}: {there} tasks, at most {most} may be")
        # One of the old version that ended is replaced by its like until the app has its turn.
        if app == "shop_web_front." and cmd == "two":
            database = [
                str(info.command and info.command.value)
                for id, info in self.world.tasks.items()
                if id.startswith("shop_db_main.") and id not in self.doomed
            ]
            if database != [cmd] * INSTANCES:
                raise Broken(f"web begins with {cmd} while its database is {database}")


def upgraded(minimum: float, over: float, crash_at: int | None) -> Judge:
    """A judge after an upgrade that died at effect `crash_at` of its own."""
    judge = Judge(minimum, over)
    judge.put("one")
    judge.run(12)
    assert len(judge.world.tasks) == 2 * INSTANCES
    judge.effects, judge.crash_at, judge.judging = 0, crash_at, True
    judge.put("two")
    judge.run(45)
    return judge


@pytest.mark.parametrize(("minimum", "over"), STRATEGIES)
def test_an_upgrade_stays_in_its_bounds_through_a_crash_at_any_effect(
    minimum: float, over: float
) -> None:
    dry = upgraded(minimum, over, None)
    assert dry.effects > 100
    for crash_at in range(1, dry.effects + 1, 9):
        judge = upgraded(minimum, over, crash_at)
        assert judge.effects >= crash_at, "the crash did not happen"
        assert not judge.world.core.state.deployments, crash_at
        commands = [str(t.command and t.command.value) for t in judge.world.tasks.values()]
        assert commands == ["two"] * (2 * INSTANCES), crash_at


def _kills_all_at_once(app: AppDefinition) -> Bounds:
    return Bounds(0, app.instances * 2)


def _launches_too_many(app: AppDefinition) -> Bounds:
    return Bounds(app.instances // 2, app.instances * 3)


@pytest.mark.parametrize("bug", [_kills_all_at_once, _launches_too_many])
def test_the_judge_notices_planted_bugs(bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "bounds", bug)
    with pytest.raises(Broken):
        upgraded(0.75, 0.0, None)


def test_the_judge_notices_that_dependencies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesostk.marathon.groups.refuse_invalid", lambda root: _Flat())
    with pytest.raises(Broken, match="web begins"):
        upgraded(0.5, 0.0, None)


class _Flat(dict[str, int]):
    """All apps in one layer."""

    def __missing__(self, key: str) -> int:
        return 0
