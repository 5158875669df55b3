"""Quota: set by operators, kept in the registry, obeyed by the allocator."""

from __future__ import annotations

from typing import Any

import pytest

from mesostk.master import events as ev
from mesostk.master import legacy, quota_calls
from mesostk.master.figures import figures
from mesostk.resources import text
from mesostk.resources.resources import Resources
from mesostk.wire import operator
from mesostk.wire.mesos import AgentID, ReservationInfo, Resource, Scalar
from mesostk.wire.quota import QuotaConfig, QuotaRequest


def amounts(**named: float) -> dict[str, Scalar]:
    return {name: Scalar(value) for name, value in named.items()}


def update(bench: Any, *configs: QuotaConfig, force: bool | None = None) -> ev.Reply:
    body = operator.UpdateQuota(quota_configs=configs, force=force)
    (reply,) = bench.operate(operator.Call(type="UPDATE_QUOTA", update_quota=body))
    assert isinstance(reply, ev.Reply)
    return reply


def set_quota(bench: Any, role: str | None, what: str, **more: Any) -> ev.Reply:
    request = QuotaRequest(role=role, guarantee=text.parse(what).to_wire(), **more)
    body = operator.SetQuota(quota_request=request)
    (reply,) = bench.operate(operator.Call(type="SET_QUOTA", set_quota=body))
    assert isinstance(reply, ev.Reply)
    return reply


def limit(role: str, **named: float) -> QuotaConfig:
    return QuotaConfig(role=role, limits=amounts(**named))


def guarantee(role: str, **named: float) -> QuotaConfig:
    return QuotaConfig(role=role, guarantees=amounts(**named))


def offered(bench: Any, framework_id: str) -> Resources:
    return Resources.sum(
        offer.resources.unallocate()
        for offer in bench.master.offers.values()
        if offer.framework_id == framework_id
    )


def test_a_limit_caps_what_a_role_is_offered_over_all_agents(bench: Any) -> None:
    for host in ("a1", "a2", "a3"):
        bench.agent(host)
    assert update(bench, limit("web", cpus=5.0)).status == 200
    _, framework_id = bench.framework(role="web")
    bench.run(1.0)
    assert offered(bench, framework_id).scalar("cpus") == 5000
    assert offered(bench, framework_id).scalar("mem") == 3 * 1024000
    assert len(offered(bench, framework_id).ranges("ports")) > 0


def test_what_children_hold_counts_as_their_parents(bench: Any) -> None:
    _, agent_id = bench.agent("a1")
    update(bench, limit("eng", cpus=3.0, mem=500.0))
    child, child_id = bench.framework("c", roles=("eng/web",), capabilities=("MULTI_ROLE",))
    bench.accept(child_id, bench.offers(child), bench.task("t1", agent_id, "cpus:2;mem:100"))
    bench.call(child_id, "SUPPRESS")
    bench.agent("a2")
    _, other_id = bench.framework("p", roles=("eng",), capabilities=("MULTI_ROLE",))
    bench.run(2.0)
    assert offered(bench, other_id).quantities()["cpus"] == 1000
    assert offered(bench, other_id).quantities()["mem"] == 400000


def test_a_guarantee_is_held_back_from_everybody_else(bench: Any) -> None:
    for host in ("a1", "a2"):
        bench.agent(host)
    assert update(bench, guarantee("prod", cpus=5.0)).status == 200
    _, greedy_id = bench.framework("greedy", role="dev")
    bench.run(5.0)
    assert offered(bench, greedy_id).scalar("cpus") == 3000
    _, owner_id = bench.framework("owner", role="prod")
    bench.run(5.0)
    assert offered(bench, owner_id).scalar("cpus") == 5000
    assert offered(bench, owner_id).scalar("mem") <= 2 * 1024000


def test_a_role_that_is_owed_something_is_served_first(bench: Any) -> None:
    _, poor_id = bench.framework("poor", role="a")
    _, owed_id = bench.framework("owed", role="z")
    update(bench, guarantee("z", cpus=4.0), force=True)
    bench.agent("a1")
    bench.run(1.0)
    assert offered(bench, owed_id).scalar("cpus") == 4000
    assert not offered(bench, poor_id).scalar("cpus")


def test_what_a_task_gives_back_lets_other_agents_be_offered(bench: Any) -> None:
    wire, agent_id = bench.agent("a1")
    update(bench, limit("web", cpus=4.0, mem=1024.0))
    stream, framework_id = bench.framework(role="web")
    whole = bench.task("t1", agent_id, "cpus:4;mem:1024")
    bench.accept(framework_id, bench.offers(stream), whole)
    _, other_id = bench.agent("a2")
    assert bench.offers(stream, 30.0) == []
    ref = operator.AgentRef(agent_id=AgentID(agent_id))
    bench.operate(operator.Call(type="DEACTIVATE_AGENT", deactivate_agent=ref))
    bench.update(wire, framework_id, "t1", "TASK_FINISHED")
    (offer,) = bench.offers(stream, 1.0)
    assert offer.agent_id.value == other_id


def test_reservations_count_and_are_always_offered_to_their_role(bench: Any) -> None:
    bench.agent("a1")
    web = text.parse("cpus:2").push_reservation(ReservationInfo(type="DYNAMIC", role="web"))
    agent_id = next(iter(bench.master.agents))
    body = operator.ReserveResources(agent_id=AgentID(agent_id), resources=web.to_wire())
    bench.operate(operator.Call(type="RESERVE_RESOURCES", reserve_resources=body))
    assert update(bench, limit("web", cpus=1.0)).status == 400
    assert update(bench, limit("web", cpus=3.0)).status == 200
    _, framework_id = bench.framework(role="web")
    bench.run(1.0)
    got = offered(bench, framework_id)
    assert got.reserved("web").scalar("cpus") == 2000
    assert got.unreserved().scalar("cpus") == 1000


def test_quota_outlives_a_failover_and_waits_for_the_agents(make_bench: Any) -> None:
    first = make_bench()
    ids = [first.agent(host)[1] for host in ("a1", "a2", "a3", "a4", "a5")]
    update(first, guarantee("prod", cpus=2.0))
    second = make_bench(first.store)
    _, framework_id = second.framework(role="dev")
    for number in range(3):
        second.agent(f"a{number + 1}", ids[number])
    second.run(5.0)
    assert not second.master.offers
    second.agent("a4", ids[3])
    second.run(1.0)
    assert offered(second, framework_id).scalar("cpus") == 14000
    assert [item.role for item in quota_calls.status(second.master).configs] == ["prod"]
    third = make_bench(first.store)
    third.agent("a1", ids[0])
    _, framework_id = third.framework(role="dev")
    third.run(601.0)
    assert offered(third, framework_id)


def test_two_updates_that_are_being_saved_do_not_undo_each_other(bench: Any) -> None:
    bench.agent("a1")
    bench.holding = True
    body = operator.UpdateQuota(quota_configs=(limit("a", cpus=1.0),))
    bench.operate(operator.Call(type="UPDATE_QUOTA", update_quota=body))
    body = operator.UpdateQuota(quota_configs=(limit("b", cpus=1.0),))
    bench.operate(operator.Call(type="UPDATE_QUOTA", update_quota=body))
    bench.release()
    again = type(bench)(bench.store)
    assert set(again.master.registry.quotas) == {"a", "b"}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (limit("*", cpus=1.0), "is not supported"),
        (limit("a/b", cpus=1.0), "nested role"),
        (limit("-a", cpus=1.0), "Invalid 'role'"),
        (limit("a", cpus=-1.0), "is not between"),
        (limit("a", cpus=float("nan")), "is not between"),
        (limit("a", mem=2.0**41), "is not between"),
        (
            QuotaConfig(role="a", guarantees=amounts(cpus=2.0), limits=amounts(cpus=1.0)),
            "must not exceed",
        ),
        (guarantee("a", cpus=99.0), "overcommit the cluster"),
    ],
)
def test_quotas_that_cannot_be_are_refused(bench: Any, config: QuotaConfig, why: str) -> None:
    bench.agent("a1")
    reply = update(bench, config)
    assert reply.status == 400
    assert reply.body.startswith("Invalid QuotaConfig: ")
    assert why in reply.body
    assert bench.master.registry.quotas == {}


def test_a_limit_below_what_is_used_needs_force(bench: Any) -> None:
    bench.running(role="web")
    assert "consumes cpus:1" in update(bench, limit("web", cpus=0.5)).body
    assert update(bench, limit("web", cpus=0.5), force=True).status == 200
    shown = {item["name"]: item["quota"] for item in legacy.roles(bench.master)["roles"]}
    assert shown["web"]["limit"] == {"cpus": 0.5}
    assert shown["web"]["consumed"]["cpus"] == 1.0
    assert update(bench, QuotaConfig(role="web")).status == 200
    assert bench.master.registry.quotas == {}


def test_figures_show_quota_and_what_is_consumed_of_it(bench: Any) -> None:
    bench.running(role="web")
    update(bench, QuotaConfig(role="web", guarantees=amounts(cpus=2.0), limits=amounts(cpus=3.0)))
    bench.master.started_at = 1.0
    shown = figures(bench.master, 2.0, elected=True, per_framework=False)
    prefix = "allocator/mesos/quota/roles/web/resources/cpus"
    expected = {"guarantee": 2.0, "limit": 3.0, "consumed": 1.0, "offered_or_allocated": 1.0}
    assert {name: shown[f"{prefix}/{name}"] for name in expected} == expected


def test_the_older_calls(bench: Any) -> None:
    bench.agent("a1")
    assert set_quota(bench, "web", "cpus:9").status == 409
    assert set_quota(bench, None, "cpus:1").body.endswith("Expecting 'role' to be present")
    assert "scalars only" in set_quota(bench, "web", "ports:[1-2]").body
    assert set_quota(bench, "web", "cpus:9", force=True).status == 200
    (config,) = quota_calls.status(bench.master).configs
    assert config.guarantees == config.limits == amounts(cpus=9.0)
    (info,) = quota_calls.status(bench.master).infos
    assert info.guarantee == (Resource(name="cpus", type="SCALAR", scalar=Scalar(9.0)),)
    assert "already has quota" in set_quota(bench, "web", "cpus:1").body
    removal = operator.Call(type="REMOVE_QUOTA", remove_quota=operator.RemoveQuota(role="web"))
    assert [reply.status for reply in bench.operate(removal)] == [200]
    (reply,) = bench.operate(removal)
    assert (reply.status, reply.body) == (
        400,
        "Failed to remove quota: Role 'web' has no quota set",
    )
