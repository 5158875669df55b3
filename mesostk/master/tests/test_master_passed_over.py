"""Who refused all of an agent is not compared again, and is asked once that may have changed."""

from __future__ import annotations

from typing import Any

from mesostk.resources.resources import Resources
from mesostk.wire import scheduler


def passed(bench: Any, agent_id: str) -> set[tuple[str, str]]:
    return set(bench.master.allocator.passed_over.of(bench.master.agents[agent_id]))


def refused(bench: Any, refuse_s: float) -> tuple[str, str, str]:
    """(stream, framework, agent) after a refusal of the whole agent and a further pass."""
    _, agent_id = bench.agent()
    stream, framework_id = bench.framework()
    bench.accept(framework_id, bench.offers(stream, 1.0), refuse_s=refuse_s)
    assert not bench.offers(stream, 2.0)
    assert passed(bench, agent_id) == {(framework_id, "*")}
    return stream, framework_id, agent_id


def test_another_framework_is_asked_all_the_same(bench: Any) -> None:
    _, _, agent_id = refused(bench, 600.0)
    stream, _ = bench.framework("other")
    assert [offer.agent_id.value for offer in bench.offers(stream, 1.0)] == [agent_id]


def test_the_end_of_the_filter_ends_it(bench: Any) -> None:
    stream, _, agent_id = refused(bench, 60.0)
    assert not bench.offers(stream, 50.0)
    assert [offer.agent_id.value for offer in bench.offers(stream, 20.0)] == [agent_id]


def test_revive_ends_it(bench: Any) -> None:
    stream, framework_id, _ = refused(bench, 600.0)
    bench.call(framework_id, "REVIVE")
    assert len(bench.offers(stream, 1.0)) == 1


def test_more_that_becomes_free_ends_it(bench: Any) -> None:
    wire, agent_id, stream, framework_id = bench.running()
    bench.accept(framework_id, bench.offers(stream, 6.0), refuse_s=600.0)
    assert not bench.offers(stream, 2.0)
    assert passed(bench, agent_id) == {(framework_id, "*")}
    bench.update(wire, framework_id, "t1", "TASK_FINISHED")
    assert len(bench.offers(stream, 2.0)) == 1


def test_a_changed_framework_ends_it(bench: Any) -> None:
    _, framework_id, agent_id = refused(bench, 600.0)
    info = bench.master.frameworks[framework_id].info
    changed = scheduler.UpdateFramework(framework_info=bench.info("renamed", id=info.id))
    bench.call(framework_id, "UPDATE_FRAMEWORK", changed)
    assert not passed(bench, agent_id)


def test_what_comes_free_soon_after_a_pass_is_offered_together(make_bench: Any) -> None:
    bench = make_bench(gathering_s=0.5)
    wire, agent_id = bench.agent()
    stream, framework_id = bench.framework()
    tasks = [bench.task(f"t{number}", agent_id) for number in range(3)]
    bench.accept(framework_id, bench.offers(stream), *tasks, refuse_s=600.0)
    bench.run(10.0)
    bench.update(wire, framework_id, "t0", "TASK_FINISHED")
    assert len(bench.offers(stream)) == 1  # long after the last pass: at once
    bench.update(wire, framework_id, "t1", "TASK_FINISHED")
    assert not bench.offers(stream, 0.25)
    bench.update(wire, framework_id, "t2", "TASK_FINISHED")
    assert not bench.offers(stream, 0.2)
    (offer,) = bench.offers(stream, 0.1)
    assert Resources.of(offer.resources).scalar("cpus") == 2000
    other, _ = bench.framework("other", roles=("other",), capabilities=("MULTI_ROLE",))
    bench.agent("a2")
    assert bench.offers(other), "a new wish waits for nothing"
