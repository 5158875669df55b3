"""Roll-outs keep within minHealthy and maxCapacity and end (spec/marathon §3.1-3.3)."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.marathon import rollout
from mesostk.marathon.constraints import Placement
from mesostk.marathon.rollout import Decision, Member, bounds
from mesostk.wire.marathon import (
    AppDefinition,
    Container,
    PersistentVolume,
    UpgradeStrategy,
    Volume,
)


def app(instances: int = 1, least: float = 1.0, over: float = 1.0, **more: Any) -> AppDefinition:
    strategy = UpgradeStrategy(minimum_health_capacity=least, maximum_over_capacity=over)
    return AppDefinition(id="/a", instances=instances, upgrade_strategy=strategy, **more)


def resident(instances: int, least: float = 1.0) -> AppDefinition:
    volume = Volume(container_path="data", mode="RW", persistent=PersistentVolume(size=1))
    return app(instances, least, 0.0, container=Container(type="MESOS", volumes=(volume,)))


def member(id: str, *, current: bool = False, **more: Any) -> Member:
    fields: dict[str, Any] = {
        "is_wanted": True, "life": "running", "healthy": True, "ready": True, "staged_at": 0.0,
    }  # fmt: skip
    return Member(id=id, is_current=current, **(fields | more))


def olds(count: int, **more: Any) -> list[Member]:
    return [member(f"old{i}", **more) for i in range(count)]


def news(count: int, **more: Any) -> list[Member]:
    return [member(f"new{i}", current=True, **more) for i in range(count)]


# -- arithmetic (§3.2) ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instances", "least", "over", "expected"),
    [
        (4, 1.0, 1.0, (4, 8)),
        (4, 0.5, 0.2, (2, 4)),
        (5, 0.5, 0.2, (3, 6)),
        (10, 1.0, 0.1, (10, 11)),
        (10, 0.7, 0.0, (7, 10)),
        (3, 0.0, 0.0, (0, 3)),
        (0, 1.0, 1.0, (0, 0)),
    ],
)
def test_bounds(instances: int, least: float, over: float, expected: tuple[int, int]) -> None:
    found = bounds(app(instances, least, over))
    assert (found.min_healthy, found.max_capacity) == expected


@pytest.mark.parametrize(
    ("definition", "members", "kill", "launch"),
    [
        (app(4), olds(4), 0, 4),
        (app(4, 0.5, 0.5), olds(4), 2, 2),
        (app(4, 0.5, 0.0), olds(4), 2, 0),
        (app(4, 1.0, 0.0), olds(4), 0, 1),  # one temporary extra
        (resident(4), olds(4), 1, 0),  # one below the minimum, never above capacity
        (app(4), olds(4) + news(4, healthy=None), 0, 0),
        (app(4), olds(4) + news(4, ready=False), 0, 0),
        (app(4), olds(4) + news(2), 2, 2),
        (app(4), olds(4) + news(4), 4, 0),
        (app(2), olds(5), 3, 0),
        (app(4), olds(4, healthy=None), 0, 4),
        (app(4, 1.0, 0.0), olds(4, healthy=False), 4, 0),
        (app(3, 1.0, 0.0), olds(3, healthy=None), 0, 1),
        (app(2), news(4), 2, 0),
    ],
)
def test_restart(definition: AppDefinition, members: list[Member], kill: int, launch: int) -> None:
    decision = rollout.restart(definition, members)
    assert (len(decision.kill), decision.launch) == (kill, launch)


def test_old_unhealthy_ones_go_first() -> None:
    members = [*olds(3), member("ill", healthy=False)]
    assert rollout.restart(app(4, 0.5, 0.0), members).kill == ("ill",)


def test_a_restart_is_done_when_all_are_new_and_up() -> None:
    ended = member("gone", life="ended")
    assert rollout.restart(app(2), [*news(2), ended]).is_done
    ending = member("old", is_wanted=False)
    assert rollout.restart(app(2), [*news(2), ending]).is_done
    decision = rollout.restart(app(2), news(2, healthy=False))
    assert decision.waiting == "2 unhealthy"
    assert "not running yet" in (rollout.restart(app(1), news(1, life="staging")).waiting or "")
    assert "not ready" in (rollout.restart(app(1), news(1, ready=False)).waiting or "")


def test_an_instance_that_is_out_of_reach_for_long_is_replaced() -> None:
    decision = rollout.restart(app(2), [*news(1), member("far", current=True, life="inactive")])
    assert (decision.kill, decision.launch) == (("far",), 1)


# -- scaling and stopping (§3.1, §3.3) --------------------------------------------------------


def test_scale_launches_what_is_missing_whatever_the_version() -> None:
    decision = rollout.scale(app(5), olds(2))
    assert (decision.kill, decision.launch) == ((), 3)
    assert decision.waiting == "2 of 5 instances launched"


def test_scale_down_is_not_held_up_by_an_old_unhealthy_instance() -> None:
    assert rollout.scale(app(1), [member("ill", healthy=False)], since=10.0).is_done
    assert not rollout.scale(app(1), [member("ill", healthy=False, staged_at=11.0)], 10.0).is_done


def test_scale_down_waits_for_what_still_ends() -> None:
    members = [member("a"), member("b", is_wanted=False)]
    assert rollout.scale(app(1), members).waiting == "1 instances still ending"


def test_scale_down_takes_unreachable_then_staging_then_the_youngest() -> None:
    members = [
        member("elder", staged_at=1.0),
        member("younger", staged_at=2.0),
        member("starting", life="staging", staged_at=0.5),
        member("far", life="unreachable", staged_at=0.1),
    ]
    assert rollout.scale(app(1), members).kill == ("far", "starting", "younger")
    oldest = app(1, kill_selection="OLDEST_FIRST")
    assert rollout.scale(oldest, members).kill == ("far", "starting", "elder")


def test_scale_down_keeps_group_by_even() -> None:
    racks = ["r1", "r1", "r1", "r2", "r2", "r3"]
    members = [
        member(f"m{i}", placement=Placement(hostname=f"h{i}", attributes={"rack": rack}))
        for i, rack in enumerate(racks)
    ]
    definition = app(3, constraints=(("rack", "GROUP_BY", "3"),))
    killed = set(rollout.scale(definition, members).kill)
    left = [rack for i, rack in enumerate(racks) if f"m{i}" not in killed]
    assert sorted(left) == ["r1", "r2", "r3"]


def test_stop_ends_all_and_is_done_when_none_is_left() -> None:
    assert rollout.stop(olds(2)).kill == ("old0", "old1")
    assert rollout.stop(olds(1, is_wanted=False)).waiting == "1 instances still ending"
    assert rollout.stop(olds(1, life="ended")).is_done


# -- properties: a world in which decisions are carried out -----------------------------------


class World:
    """Carries decisions out with delays of its own choosing; new instances all come up."""

    def __init__(self, definition: AppDefinition, members: list[Member], seed: int) -> None:
        self.app = definition
        self.members = {m.id: m for m in members}
        self.rng = random.Random(seed)
        self.made = 0

    def live(self) -> list[Member]:
        return [m for m in self.members.values() if m.life != "ended"]

    def good(self) -> int:
        return sum(m.is_good and m.is_wanted for m in self.live())

    def perform(self, decision: Decision) -> None:
        for id in decision.kill:
            self.members[id] = msgspec.structs.replace(self.members[id], is_wanted=False)
        for _ in range(self.rng.randint(0, decision.launch)):
            self.made += 1
            id = f"made{self.made}"
            self.members[id] = member(
                id, current=True, life="staging", healthy=None, ready=False, staged_at=self.made
            )

    def live_on(self) -> None:
        """Some of what is due happens."""
        for m in self.live():
            if self.rng.random() < 0.4:
                self.members[m.id] = self._next(m)

    def _next(self, m: Member) -> Member:
        if not m.is_wanted:
            return msgspec.structs.replace(m, life="ended")
        if m.life == "unreachable":
            return msgspec.structs.replace(m, life="inactive")
        if m.life == "staging":
            return msgspec.structs.replace(m, life="running")
        if m.is_current and m.healthy is not True:
            return msgspec.structs.replace(m, healthy=True)
        if m.healthy is None and m.life == "running":
            return msgspec.structs.replace(m, healthy=self.rng.random() < 0.5)
        return msgspec.structs.replace(m, ready=True)


strategies = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0])
members_of = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["staging", "running", "running", "running", "unreachable", "inactive"]),
        st.sampled_from([True, True, False, None]),
    ),
    max_size=12,
)


@settings(max_examples=600, deadline=None)
@given(st.integers(1, 10), strategies, strategies, members_of, st.integers(0, 2**32), st.booleans())
def test_a_restart_never_leaves_its_bounds_and_ends(
    instances: int,
    least: float,
    over: float,
    before: list[tuple[bool, Any, bool | None]],
    seed: int,
    is_resident: bool,
) -> None:
    definition = resident(instances, least) if is_resident else app(instances, least, over)
    initial = [
        member(f"m{i}", current=current, life=life, healthy=healthy, staged_at=-float(i))
        for i, (current, life, healthy) in enumerate(before)
    ]
    world = World(definition, initial, seed)
    limits = bounds(definition)
    is_tight = limits.min_healthy == limits.max_capacity
    floor = limits.min_healthy - (1 if is_resident and is_tight else 0)
    for _ in range(600):
        decision = rollout.restart(definition, list(world.members.values()))
        good = world.good()
        present = sum(m.life != "inactive" for m in world.live())
        world.perform(decision)
        assert world.good() >= min(good, floor)
        ceiling = limits.max_capacity + (1 if is_tight and not is_resident else 0)
        assert sum(m.life != "inactive" for m in world.live()) <= max(present, ceiling)
        if decision.is_done:
            break
        world.live_on()
    else:
        pytest.fail(f"still going: {decision.waiting}")
    wanted = [m for m in world.live() if m.is_wanted]
    assert len(wanted) == instances
    assert all(m.is_current and m.is_up for m in wanted)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10), members_of, st.integers(0, 2**32))
def test_scaling_ends_at_the_wanted_count(
    instances: int, before: list[tuple[bool, Any, bool | None]], seed: int
) -> None:
    definition = app(instances)
    initial = [
        member(f"m{i}", current=current, life=life, healthy=healthy, staged_at=-float(i))
        for i, (current, life, healthy) in enumerate(before)
    ]
    world = World(definition, initial, seed)
    for _ in range(600):
        decision = rollout.scale(definition, list(world.members.values()), since=0.5)
        if decision.is_done:
            break
        world.perform(decision)
        world.live_on()
    else:
        pytest.fail(f"still going: {decision.waiting}")
    counted = [m for m in world.live() if m.is_wanted and m.life != "inactive"]
    assert len(counted) == instances
