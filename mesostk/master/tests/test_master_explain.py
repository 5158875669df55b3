"""Every reason for which an agent is not offered is told as it is."""

from __future__ import annotations

from typing import Any

from mesostk.master import events as ev
from mesostk.master import explain
from mesostk.wire import operator, scheduler
from mesostk.wire.mesos import AgentID, Filters


def told(bench: Any, framework_id: str, role: str | None = None) -> dict[str, Any]:
    view = explain.offers(bench.master, bench.master.frameworks[framework_id], role, bench.now)
    [part] = view["roles"]
    return dict(part)


def reasons(bench: Any, framework_id: str) -> list[str | None]:
    return [agent["reason"] for agent in told(bench, framework_id)["agents"]]


def test_what_is_offered_is_shown_with_its_offers(bench: Any) -> None:
    bench.agent()
    stream, framework_id = bench.framework()
    assert reasons(bench, framework_id) == ["it is offered with the next pass"]
    [offer] = bench.offers(stream, 1.0)
    [agent] = told(bench, framework_id)["agents"]
    assert (agent["offered"], agent["reason"], agent["offer_ids"]) == (True, None, [offer.id.value])
    assert agent["resources"]["cpus"] == 4.0


def test_a_refusal_names_how_long_it_holds(bench: Any) -> None:
    bench.agent()
    stream, framework_id = bench.framework()
    offers = bench.offers(stream, 1.0)
    decline = scheduler.Decline(
        offer_ids=tuple(offer.id for offer in offers), filters=Filters(refuse_seconds=60.0)
    )
    bench.call(framework_id, "DECLINE", decline)
    assert reasons(bench, framework_id) == ["refused by the framework for 60.0 s more"]


def test_what_others_hold_is_told(bench: Any) -> None:
    bench.agent()
    first, _ = bench.framework("f")
    assert bench.offers(first, 1.0)
    _, second_id = bench.framework("g")
    bench.run(1.0)
    assert reasons(bench, second_id) == ["nothing of the agent is free"]


def test_agents_that_nobody_is_offered(make_bench: Any) -> None:
    bench = make_bench(whitelist=frozenset({"a1"}))
    gone, _ = bench.agent("a1")
    bench.agent("a2")
    _, third = bench.agent("a3")
    _, framework_id = bench.framework()
    bench.feed(ev.AgentStreamClosed(gone))
    bench.operate(
        operator.Call(
            type="DEACTIVATE_AGENT", deactivate_agent=operator.AgentRef(agent_id=AgentID(third))
        )
    )
    assert reasons(bench, framework_id) == [
        "the agent is not connected",
        "the agent's hostname is not in --whitelist",
        "the agent is deactivated; reactivate it",
    ]


def test_what_keeps_all_agents_away_is_told_of_the_role(bench: Any) -> None:
    bench.agent()
    stream, framework_id = bench.framework(failover_timeout=60.0)
    bench.call(framework_id, "SUPPRESS")
    assert "has suppressed offers of the role *" in told(bench, framework_id)["reason"]
    assert "does not subscribe" in told(bench, framework_id, "web")["reason"]
    bench.call(framework_id, "REVIVE")
    assert told(bench, framework_id)["reason"] is None
    bench.feed(ev.LeadershipInDoubt(True))
    assert "still leads" in told(bench, framework_id)["reason"]
    bench.feed(ev.SchedulerStreamClosed(stream))
    assert told(bench, framework_id)["reason"] == "the framework is not connected"


def test_little_is_too_little(bench: Any) -> None:
    bench.agent(resources="disk:1000")
    _, framework_id = bench.framework()
    bench.run(1.0)
    assert reasons(bench, framework_id) == ["less than min_allocatable_resources is free"]
