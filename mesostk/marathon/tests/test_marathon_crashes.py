"""Marathon dies at every single effect of a script of deployments; the end is always the same.

What was answered is not asked again, so an answer that was not durable would be missed at the end.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from mesostk.base.core import Effect, Note, Save
from mesostk.marathon.events import Command, CreateApp, DeleteApp, PatchGroup, PutApps, RestartApp
from mesostk.marathon.tests.conftest import Crash, World

Step = tuple[type[Command], dict[str, Any]]


def app(**fields: object) -> dict[str, object]:
    return {"id": "/web", "cmd": "one", "cpus": 0.1, "mem": 16, **fields}


#: Each script, and what must be there at its end: (command line, number of tasks).
SCRIPTS: dict[str, tuple[list[Step], tuple[str, int] | None]] = {
    "create and scale": (
        [
            (PutApps, {"app_id": "/web", "bodies": (app(instances=3),)}),
            (PutApps, {"app_id": "/web", "bodies": ({"instances": 5},)}),
            (PutApps, {"app_id": "/web", "bodies": ({"instances": 2},)}),
        ],
        ("one", 2),
    ),
    "rolling upgrade": (
        [
            (PutApps, {"app_id": "/web", "bodies": (app(instances=3),)}),
            (PutApps, {"app_id": "/web", "bodies": ({"cmd": "two"},)}),
        ],
        ("two", 3),
    ),
    "upgrade without room, then restart": (
        [
            (
                PutApps,
                {
                    "app_id": "/web",
                    "bodies": (
                        app(
                            instances=2,
                            upgradeStrategy={
                                "minimumHealthCapacity": 0.5,
                                "maximumOverCapacity": 0,
                            },
                        ),
                    ),
                },
            ),
            (PutApps, {"app_id": "/web", "bodies": ({"cmd": "two"},)}),
            (RestartApp, {"app_id": "/web"}),
        ],
        ("two", 2),
    ),
    "delete": (
        [
            (PutApps, {"app_id": "/web", "bodies": (app(instances=3),)}),
            (DeleteApp, {"app_id": "/web"}),
        ],
        None,
    ),
}


class Script:
    """Runs a script in a world whose Marathon dies at effect number `crash_at`."""

    def __init__(self, steps: list[Step], crash_at: int | None, seed: int = 1) -> None:
        self.world = World(seed)
        self.steps = steps
        self.crash_at = crash_at
        self.effects = 0
        self.world.before = self._count

    def _count(self, effect: Effect) -> None:
        if isinstance(effect, Note):
            return
        self.effects += 1
        if self.effects == self.crash_at:
            raise Crash

    def run(self) -> None:
        """All steps to their end, through one crash."""
        self._survive(self.world.connect)
        for command, fields in self.steps:
            self._do(command, fields)
            for _ in range(12):
                self._survive(self.world.offer)
                self._survive(lambda: self.world.advance(1.0))

    def _do(self, command: type[Command], fields: dict[str, Any]) -> None:
        reply = self._survive(lambda: self.world.ask(command, force=True, **fields))
        if reply is None:
            # No answer: it may have happened or not, so a client asks again.
            reply = self.world.ask(command, force=True, **fields)
        assert reply.status in {200, 201} or (command is DeleteApp and reply.status == 404)

    def _survive(self, act: Any) -> Any:
        try:
            return act()
        except Crash:
            self.world.start()
            self.world.connect()
            return None


def reborn(world: World) -> None:
    """Start again, however often that crashes too."""
    for _ in range(1000):
        try:
            world.start()
            world.connect()
        except Crash:
            continue
        return
    raise AssertionError("it never comes up")


def settled(world: World) -> None:
    for _ in range(30):
        world.offer()
        world.advance(1.0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_crash_at_any_effect_ends_with_exactly_what_was_asked_for(name: str) -> None:
    steps, wanted = SCRIPTS[name]
    dry = Script(steps, None)
    dry.run()
    assert dry.effects > 20
    for crash_at in range(1, dry.effects + 1):
        script = Script(steps, crash_at)
        script.run()
        world = script.world
        settled(world)
        assert script.effects >= crash_at, "the crash did not happen"
        state = world.core.state
        assert not state.deployments, crash_at
        if wanted is None:
            assert not world.tasks, crash_at
            assert not any(path.startswith(("apps/", "instances/")) for path in world.store)
            continue
        cmd, count = wanted
        assert len(world.running("/web")) == count, crash_at
        commands = [task.command for task in world.tasks.values()]
        assert [c.value for c in commands if c is not None] == [cmd] * count, crash_at
        assert set(state.by_task) == set(world.tasks), crash_at
        stored = [path for path in world.store if path.startswith("instances/")]
        assert len(stored) == count, crash_at


def test_a_crash_in_a_rolling_upgrade_never_goes_above_the_capacity() -> None:
    steps, _ = SCRIPTS["rolling upgrade"]
    dry = Script(steps, None)
    dry.run()
    for crash_at in range(1, dry.effects + 1, 3):
        script = Script(steps, crash_at)
        most = 0
        count = script.world.before

        def watch(effect: Effect) -> None:
            nonlocal most
            most = max(most, len(script.world.tasks))  # noqa: B023 - used within this round only
            count(effect)  # noqa: B023

        script.world.before = watch
        script.run()
        assert most <= 6, crash_at


@pytest.mark.parametrize("seed", range(20))
def test_repeated_crashes_and_failing_tasks_end_with_the_wanted_number(seed: int) -> None:
    rng = random.Random(seed)
    world = World(seed)
    world.connect()

    def maybe_crash(effect: Effect) -> None:
        if not isinstance(effect, Note) and rng.random() < 0.03:
            raise Crash

    world.before = maybe_crash
    wanted = 0
    for round in range(40):
        try:
            if round % 8 == 0:
                wanted = rng.randrange(1, 9)
                body = app(instances=wanted, cmd=f"cmd {rng.randrange(3)}", backoffSeconds=0)
                world.ask(PutApps, app_id="/web", bodies=(body,), force=True)
            world.offer()
            if world.tasks and rng.random() < 0.3:
                world.end(rng.choice(sorted(world.tasks)))
            world.advance(rng.choice([0.1, 1.0, 6.0]))
        except Crash:
            reborn(world)
    world.before = lambda _effect: None
    world.start()
    world.connect()
    settled(world)
    app_now = world.core.state.apps.get("/web")
    expected = 0 if app_now is None else app_now.instances
    assert len(world.running("/web")) == expected
    assert len(world.tasks) == expected


def test_two_saves_lost_at_once_leave_a_consistent_store(world: World) -> None:
    world.hold_saves = True
    world.requests += 1
    world.feed(CreateApp(request=world.requests, body=app(instances=2)))
    first, second = world.held
    assert isinstance(first, Save)
    # Only what the root refers to was written; nothing refers to it.
    world.hold_saves = False
    world.held = [first]
    world.release_saves()
    world.start()
    world.connect()
    assert not world.core.state.apps
    assert second.token == first.token + 1


@pytest.mark.parametrize("kind", ["apps/", "groups/", "instances/", "deployments/", "root"])
def test_a_garbage_record_is_named_and_the_rest_goes_on(world: World, kind: str) -> None:
    world.ask(CreateApp, body=app(instances=2))
    world.settle(3)
    if kind == "deployments/":
        world.ask(PutApps, app_id="/web", bodies=({"cmd": "two", "cpus": 50},))
    path = next(path for path in sorted(world.store) if path.startswith(kind))
    world.store[path] = b'{"id": '
    tasks = set(world.tasks)
    world.notes.clear()
    world.start()
    world.connect()
    world.settle(3)
    assert any(note.fields.get("path") == path for note in world.notes)
    assert world.store[path] == b'{"id": '
    assert len(world.running("/web")) == 2
    if kind != "instances/":
        assert set(world.tasks) == tasks


def test_a_garbage_app_leaves_its_instances_alone(world: World) -> None:
    world.ask(CreateApp, body=app(instances=2))
    world.settle(3)
    for path in world.store:
        if path.startswith("apps/"):
            world.store[path] = msgspec.json.encode(["no app"])
    tasks = set(world.tasks)
    world.start()
    world.connect()
    world.settle(3)
    assert set(world.tasks) == tasks


def test_a_crash_while_the_role_changes_ends_with_all_in_the_new_role() -> None:
    steps: list[Step] = [
        (PutApps, {"app_id": "/dev/web", "bodies": (app(id="/dev/web", instances=2),)}),
        (PatchGroup, {"group_id": "/dev", "body": {"enforceRole": True}}),
        (PutApps, {"app_id": "/dev/web", "bodies": ({"role": "dev"},)}),
        (PutApps, {"app_id": "/dev/web", "bodies": ({"instances": 3},)}),
    ]
    dry = Script(steps, None)
    dry.run()
    for crash_at in range(1, dry.effects + 1):
        script = Script(steps, crash_at)
        script.run()
        world = script.world
        settled(world)
        state = world.core.state
        assert not state.deployments, crash_at
        assert state.root.groups["/dev"].enforce_role, crash_at
        assert len(world.running("/dev/web")) == 3, crash_at
        assert {instance.role for instance in state.of_app("/dev/web")} == {"dev"}, crash_at
        assert world.info is not None
        assert world.info.roles == ("*", "dev"), crash_at
        assert set(state.by_task) == set(world.tasks), crash_at
