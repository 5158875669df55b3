"""What is lost with a host, as a table of clusters."""

from __future__ import annotations

import pytest

from mesostk.marathon.constraints import Placement
from mesostk.ops.impact import (
    Agent,
    App,
    AppImpact,
    Ensemble,
    Instance,
    app_impacts,
    ensemble_impact,
)


def agent(number: int, *, cpus: float = 4.0, rack: str = "a", active: bool = True) -> Agent:
    place = Placement(hostname=f"s{number}", attributes={"rack": rack})
    return Agent(
        id=f"A{number}", place=place, cpus=cpus, mem_mib=1024.0, disk_mib=0.0, is_active=active
    )


def app(
    *on: int,
    constraints: tuple[tuple[str, ...], ...] = (),
    minimum: float = 1.0,
    cpus: float = 1.0,
    mem_mib: float = 16.0,
    resident: bool = False,
    unhealthy: int = 0,
) -> App:
    tasks = [Instance(f"A{n}", "TASK_RUNNING", at >= unhealthy) for at, n in enumerate(on)]
    return App(
        id="/web",
        instances=len(on),
        cpus=cpus,
        mem_mib=mem_mib,
        disk_mib=0.0,
        minimum=minimum,
        constraints=constraints,
        is_resident=resident,
        tasks=tuple(tasks),
    )


def without_first(one: App, *agents: Agent) -> AppImpact:
    (found,) = app_impacts([one], agents, frozenset({"A1"}))
    return found


THREE = (agent(1), agent(2), agent(3))


@pytest.mark.parametrize(
    ("one", "left", "needed", "falls"),
    [
        (app(1, 2, 3), 2, 3, True),
        (app(1, 2, 3, minimum=0.5), 2, 2, False),
        (app(1, 2, 3, minimum=0.0), 2, 0, False),
        (app(1, 1, 2, minimum=0.5), 1, 2, True),
        (app(2, 1, 3, minimum=0.5, unhealthy=1), 1, 2, True),
    ],
)
def test_apps_fall_below_their_minimum_health(
    one: App, left: int, needed: int, falls: bool
) -> None:
    found = without_first(one, *THREE)
    assert (found.left, found.needed, found.falls) == (left, needed, falls)
    assert found.unplaced == 0


def test_an_app_without_an_instance_there_loses_nothing() -> None:
    assert app_impacts([app(2, 3)], THREE, frozenset({"A1"})) == []


@pytest.mark.parametrize(
    ("one", "agents", "unplaced", "words"),
    [
        (app(1, 2, constraints=(("hostname", "UNIQUE"),)), THREE, 0, ""),
        (
            app(1, 2, 3, constraints=(("hostname", "UNIQUE"),)),
            THREE,
            1,
            "hostname UNIQUE: not met with hostname s2",
        ),
        (
            app(1, constraints=(("hostname", "CLUSTER", "s1"),)),
            THREE,
            1,
            "hostname CLUSTER s1",
        ),
        (
            app(1, 2, constraints=(("rack", "LIKE", "b"),)),
            (agent(1, rack="b"), agent(2), agent(3)),
            1,
            "rack LIKE b",
        ),
        (app(1, cpus=8.0), (agent(1, cpus=8.0), agent(2)), 1, "needs 8 cpus, s2 has 4 left"),
        (app(1, mem_mib=2048.0), THREE, 1, "needs 2048 MiB of memory"),
        (app(1, 1, 1, cpus=2.0), (agent(1), agent(2)), 1, "needs 2 cpus, s2 has 0 left"),
        (app(1), (agent(1), agent(2, active=False)), 1, "there is no other agent"),
        (app(1, resident=True), THREE, 1, "its volume is on the host"),
    ],
)
def test_instances_that_fit_nowhere_are_named_with_the_reason(
    one: App, agents: tuple[Agent, ...], unplaced: int, words: str
) -> None:
    found = without_first(one, *agents)
    assert found.unplaced == unplaced
    assert words in "; ".join(found.reasons)


def test_apps_share_what_is_left() -> None:
    first = app(1, cpus=3.0)
    second = App(id="/zweb", instances=1, cpus=3.0, mem_mib=1.0, disk_mib=0.0, tasks=first.tasks)
    found = app_impacts([second, first], (agent(1), agent(2)), frozenset({"A1"}))
    assert {one.app: one.unplaced for one in found} == {"/web": 0, "/zweb": 1}
    assert found[0].app == "/zweb", "the worst comes first"


@pytest.mark.parametrize(
    ("serving", "lost", "quorum", "left", "fails"),
    [
        ({"m1", "m2", "m3"}, "m1", True, 2, False),
        ({"m1", "m2"}, "m1", True, 1, True),
        ({"m1", "m2"}, "m3", True, 2, False),
        ({"m1", "m2"}, "m1", False, 1, False),
        ({"m1"}, "m1", False, 0, True),
    ],
)
def test_quorum_is_counted_by_the_members_that_serve(
    serving: set[str], lost: str, quorum: bool, left: int, fails: bool
) -> None:
    one = Ensemble(
        name="zookeeper",
        members=("m1", "m2", "m3"),
        serving=frozenset(serving),
        leader="m1",
        needs_quorum=quorum,
    )
    found = ensemble_impact(one, frozenset({lost}))
    assert found is not None
    assert (found.left, found.fails, found.leads) == (left, fails, lost == "m1")


def test_a_service_without_a_member_there_loses_nothing() -> None:
    one = Ensemble(name="marathon", members=("m1",), serving=frozenset({"m1"}))
    assert ensemble_impact(one, frozenset({"s1"})) is None
