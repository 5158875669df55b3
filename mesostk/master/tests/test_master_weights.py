"""UPDATE_WEIGHTS: kept over a failover, and what the allocator goes by."""

from __future__ import annotations

from typing import Any

import pytest

from mesostk.master import events as ev
from mesostk.master import views, weights
from mesostk.wire import operator


def update(bench: Any, *pairs: tuple[str, float]) -> list[ev.Reply]:
    infos = tuple(operator.WeightInfo(role=role, weight=weight) for role, weight in pairs)
    body = operator.Weights(weight_infos=infos)
    replies: list[ev.Reply] = bench.operate(
        operator.Call(type="UPDATE_WEIGHTS", update_weights=body)
    )
    return replies


def test_weights_survive_a_failover_and_beat_the_flag(make_bench: Any) -> None:
    bench = make_bench(weights={"web": 2.0, "ops": 3.0})
    assert [reply.status for reply in update(bench, ("web", 5.0), ("new", 0.5))] == [200]
    second = make_bench(bench.store, weights={"web": 2.0, "ops": 3.0})
    shown = {info.role: info.weight for info in views.get_weights(second.master).weight_infos}
    assert shown == {"web": 5.0, "ops": 3.0, "new": 0.5}


def test_two_updates_that_are_being_saved_do_not_undo_each_other(bench: Any) -> None:
    bench.holding = True
    assert update(bench, ("a", 2.0)) == []
    assert update(bench, ("b", 3.0)) == []
    bench.release()
    again = type(bench)(bench.store)
    assert weights.current(again.master) == {"a": 2.0, "b": 3.0}


def test_a_new_weight_rescinds_offers_and_decides_who_comes_first(bench: Any) -> None:
    for host in ("a1", "a2", "a3", "a4"):
        bench.agent(host)
    light, light_id = bench.framework("light", role="light")
    heavy, heavy_id = bench.framework("heavy", role="heavy")
    bench.run(1.0)
    assert update(bench, ("heavy", 3.0))[0].status == 200
    assert bench.heard(light, "RESCIND")
    bench.run(1.0)
    counts = {
        framework_id: len(bench.master.frameworks[framework_id].offers)
        for framework_id in (light_id, heavy_id)
    }
    assert counts == {light_id: 1, heavy_id: 3}
    assert heavy != light


@pytest.mark.parametrize(
    ("role", "weight", "why"),
    [
        ("web", 0.0, "Weights must be positive"),
        ("web", -1.0, "Weights must be positive"),
        ("/web", 1.0, "cannot start or end with a slash"),
        ("other", 1.0, "Unknown role 'other'"),
    ],
)
def test_weights_that_cannot_be_are_refused(
    make_bench: Any, role: str, weight: float, why: str
) -> None:
    bench = make_bench(roles=frozenset({"web"}))
    [reply] = update(bench, (role, weight))
    assert reply.status == 400
    assert why in reply.body
    assert weights.current(bench.master) == {}


def test_the_default_role_is_allowed_whatever_the_flag_says(make_bench: Any) -> None:
    bench = make_bench(roles=frozenset({"web"}))
    assert bench.heard(bench.subscribe(bench.info(role="*")), "SUBSCRIBED")
    [error] = bench.heard(bench.subscribe(bench.info(role="x")), "ERROR")
    assert error.error.message == "Role 'x' is not present in the master's --roles"
