"""Who refused all of an agent is not compared again, and is asked once that may have changed."""

from __future__ import annotations

from typing import Any

from mesostk.master import explain
from mesostk.resources import text
from mesostk.resources.resources import Resources
from mesostk.wire import scheduler
from mesostk.wire.mesos import OfferID


def passed(bench: Any, agent_id: str) -> set[tuple[str, str]]:
    return set(bench.master.allocator.passed_over.of(bench.master.agents[agent_id]))


def refused(bench: Any, refuse_s: float, **more: Any) -> tuple[str, str, str]:
    """(stream, framework, agent) after a refusal of the whole agent and a further pass."""
    _, agent_id = bench.agent(**more)
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
    # It refused less than all that is free, which only a comparison can say anything about.
    _, framework_id, agent_id = refused(bench, 600.0, resources="cpus:2;mem:512;cpus(web):1")
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


def test_a_refusal_goes_for_what_is_left_when_a_task_takes_some_of_it(bench: Any) -> None:
    stream, framework_id, agent_id = refused(bench, 600.0)
    other, other_id = bench.framework("other")
    small = bench.task("t1", agent_id, "cpus:1;mem:64")
    bench.accept(other_id, bench.offers(other, 1.0), small, refuse_s=1.0)
    # Nobody compared anything since: what is free is within what was refused.
    assert (framework_id, "*") in passed(bench, agent_id)
    assert not bench.offers(stream, 10.0)


def test_a_second_refusal_of_less_does_not_outlive_the_first(bench: Any) -> None:
    stream, framework_id, agent_id = refused(bench, 60.0)
    master = bench.master
    part = text.parse("cpus:1;mem:64")
    want = (framework_id, "*")
    master.allocator.refuse(master, bench.now, want, agent_id, part, bench.now + 600.0)
    assert not bench.offers(stream, 30.0)
    assert [offer.agent_id.value for offer in bench.offers(stream, 60.0)] == [agent_id]


def test_the_reason_is_told_of_who_was_not_compared(bench: Any) -> None:
    _, framework_id, agent_id = refused(bench, 600.0)
    bench.framework("other")
    bench.run(1.0)
    master = bench.master
    assert (framework_id, "*") in passed(bench, agent_id)
    (offer,) = master.offers.values()
    bench.call(offer.framework_id, "DECLINE", scheduler.Decline(offer_ids=(OfferID(offer.id),)))
    told = explain.offers(master, master.frameworks[framework_id], None, bench.now)
    (agent,) = told["roles"][0]["agents"]
    assert agent["reason"].startswith("refused by the framework for ")
