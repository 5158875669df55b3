"""Records stay small however many apps there are: a znode holds 1 MB, a write half of it."""

from __future__ import annotations

import pytest

from mesostk.base.core import Effect, Put, Save
from mesostk.marathon import repository
from mesostk.marathon.events import ChangeGroup, PutApps
from mesostk.marathon.tests.conftest import World

APPS = 5000
LIMIT_BYTES = 512 * 1024


@pytest.mark.parametrize("groups", [1, 50], ids=["one wide group", "nested groups"])
def test_5000_apps_fit_into_small_records_and_atomic_writes(world: World, groups: int) -> None:
    writes: list[int] = []

    def measure(effect: Effect) -> None:
        if isinstance(effect, Save):
            assert len(effect.ops) <= 500
            sizes = [len(op.data) for op in effect.ops if isinstance(op, Put)]
            writes.append(sum(sizes))

    world.before = measure
    bodies = tuple(
        {"id": f"/team-{n % groups}/service-{n:05}", "cmd": "serve", "instances": 0}
        for n in range(APPS)
    )
    assert world.ask(PutApps, bodies=bodies).status == 200
    assert len(world.core.state.apps) == APPS
    assert max(len(data) for data in world.store.values()) < LIMIT_BYTES
    assert max(writes) < LIMIT_BYTES
    writes.clear()
    assert world.ask(PutApps, app_id=bodies[0]["id"], bodies=({"mem": 1},)).status == 200
    assert sum(writes) < 32 * 1024, "only the path to the app, and its shard, are written anew"
    assert len(world.start().state.apps) == APPS


def test_5000_apps_and_pods_of_one_group_are_small_records_and_outlive_a_leader(
    world: World,
) -> None:
    container = {
        "name": "main",
        "exec": {"command": {"shell": "serve"}},
        "volumeMounts": [{"name": "data", "mountPath": "data"}],
    }
    pod = {
        "containers": [container, {**container, "name": "side"}],
        "volumes": [{"name": "data"}],
        "scaling": {"instances": 0},
    }
    body = {
        "apps": [{"id": f"app-{n:04}", "cmd": "serve", "instances": 0} for n in range(APPS // 2)],
        "pods": [{**pod, "id": f"pod-{n:04}"} for n in range(APPS // 2)],
    }
    assert world.ask(ChangeGroup, group_id="/team", body=body).status in {200, 201}
    assert len(world.core.state.apps) == APPS
    assert max(len(data) for data in world.store.values()) < LIMIT_BYTES
    state = world.start().state
    assert len(state.apps) == APPS
    assert sum(app.pod is not None for app in state.apps.values()) == APPS // 2


def test_a_large_deployment_goes_on_under_a_later_leader(world: World) -> None:
    bodies = tuple({"id": f"/service-{n:05}", "cmd": "serve"} for n in range(1000))
    world.ask(PutApps, bodies=bodies)
    (before,) = world.core.state.deployments.values()
    (stored,) = (data for path, data in world.store.items() if path.startswith("deployments/"))
    assert len(stored) < 50_000
    assert list(world.start().state.deployments.values()) == [before]


def test_a_cut_or_garbled_large_record_is_left_alone() -> None:
    for data in (b"x", b"xyz", b"x\x9c", b"x\x01garbage"):
        records = repository.read_all({"deployments/d": data})
        assert list(records.unreadable) == ["deployments/d"]
