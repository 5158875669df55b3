"""`--acls`: what rules say, and that everything that they are about asks them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.errors import ConfigError
from mesostk.master import acls, documents, legacy, permits, v1_documents, views
from mesostk.master import events as ev
from mesostk.master.fragments import Fragments
from mesostk.master.operators import CALLS
from mesostk.resources import text
from mesostk.wire import json as wire_json
from mesostk.wire import operator
from mesostk.wire.mesos import (
    AgentID,
    CommandInfo,
    FrameworkID,
    OfferOperation,
    OperationID,
    ReservationInfo,
    Reserve,
)


def rules(permissive: bool = False, /, **lists: Any) -> acls.Acls:
    return acls.parse(json.dumps({"permissive": permissive, **lists}))


def some(*values: str) -> dict[str, Any]:
    return {"values": list(values)}


ANY, NONE = {"type": "ANY"}, {"type": "NONE"}


@pytest.mark.parametrize(
    ("principals", "roles", "who", "role", "expected"),
    [
        (some("p"), some("a"), "p", "a", True),
        (some("p"), some("a"), "p", "b", None),
        (some("p"), some("a"), "q", "a", None),
        (some("p"), some("a"), None, "a", None),
        (some("p"), ANY, "p", "b", True),
        (some("p"), NONE, "p", "b", False),
        (ANY, some("a"), None, "a", True),
        (ANY, NONE, None, "a", False),
        (NONE, some("a"), "p", "a", False),
        (NONE, some("a"), None, "a", False),
        (ANY, some("a"), "p", None, None),
        (ANY, ANY, None, None, True),
        (ANY, some("a/%"), "p", "a/b/c", True),
        (ANY, some("a/%"), "p", "a", None),
        (ANY, some("a/%"), "p", "ab", None),
    ],
)
def test_a_rule_decides_or_leaves_it_to_permissive(
    principals: Any, roles: Any, who: str | None, role: str | None, expected: bool | None
) -> None:
    for permissive in (True, False):
        made = rules(permissive, register_frameworks=[{"principals": principals, "roles": roles}])
        allowed = made.allows("register_frameworks", who, role)
        assert allowed is (permissive if expected is None else expected)
        if not allowed:
            assert made.restricts("register_frameworks", who)


def test_the_first_rule_that_fits_decides() -> None:
    made = rules(
        True,
        run_tasks=[
            {"principals": some("p"), "users": some("www")},
            {"principals": some("p"), "users": NONE},
        ],
    )
    assert made.allows("run_tasks", "p", "www")
    assert not made.allows("run_tasks", "p", "root")
    assert made.allows("run_tasks", "q", "root")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("[]", "expected a JSON object"),
        ('{"register_framework": []}', "is no action"),
        ('{"run_tasks": [{"principals": {"type": "ANY"}}]}', "'users' is missing"),
        ('{"run_tasks": [{"principals": {"type": "ANY"}, "roles": {"type": "ANY"}}]}', "'roles'"),
        ('{"run_tasks": [{"principals": {"type": "ALL"}, "users": {}}]}', "ALL"),
        ('{"permissive": "no"}', "'permissive'"),
        (
            '{"run_tasks":[{"principals":{"type":"NONE","values":["a"]},"users":{"type":"ANY"}}]}',
            "both a type and values",
        ),
    ],
)
def test_rules_that_are_none_do_not_let_a_master_start(given: str, why: str) -> None:
    with pytest.raises(ConfigError, match="--acls") as caught:
        acls.parse(given)
    assert why in str(caught.value)


def test_rules_of_agents_are_taken_in_a_shared_file() -> None:
    made = acls.parse('{"access_sandboxes": [{"principals": {"type": "ANY"}, "users": {}}]}')
    assert made.rules == {}


def test_every_changing_call_asks() -> None:
    assert CALLS.keys() <= permits._NEEDS.keys()


# -- in the core --------------------------------------------------------------------------------


@dataclass
class Case:
    kind: str
    body: Any


CASES = [
    Case("TEARDOWN", operator.Teardown(framework_id=FrameworkID("F"))),
    Case("MARK_AGENT_GONE", operator.AgentRef(agent_id=AgentID("A"))),
    Case("DEACTIVATE_AGENT", operator.AgentRef(agent_id=AgentID("A"))),
    Case("REACTIVATE_AGENT", operator.AgentRef(agent_id=AgentID("A"))),
    Case("DRAIN_AGENT", operator.DrainAgent(agent_id=AgentID("A"))),
    Case("START_MAINTENANCE", operator.Machines()),
    Case("STOP_MAINTENANCE", operator.Machines()),
    Case("REMOVE_QUOTA", operator.RemoveQuota(role="a")),
    Case(
        "UPDATE_WEIGHTS",
        operator.Weights(weight_infos=(operator.WeightInfo(role="a", weight=2.0),)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.kind))
def test_operators_without_leave_are_forbidden(make_bench: Any, case: Case) -> None:
    bench = make_bench(acls=rules())
    kind: Any = case.kind
    fields: Any = {case.kind.lower(): case.body}
    (reply,) = bench.operate(operator.Call(type=kind, **fields))
    assert (reply.status, reply.body) == (403, "403 Forbidden.")
    assert bench.store == {}


def test_frameworks_may_use_their_roles_and_users_only(make_bench: Any) -> None:
    bench = make_bench(
        acls=rules(
            register_agents=[{"principals": ANY, "agents": ANY}],
            register_frameworks=[{"principals": some("p"), "roles": some("web")}],
            run_tasks=[{"principals": some("p"), "users": some("www")}],
            reserve_resources=[{"principals": some("p"), "roles": some("ops")}],
        )
    )
    wire, agent_id = bench.agent()
    refused = bench.subscribe(bench.info(role="web"))
    (error,) = bench.heard(refused, "ERROR")
    assert error.error.message == "Not authorized to use role 'web'"
    assert bench.of(ev.CloseSchedulerStream)
    stream, framework_id = bench.framework(role="web", principal="p", user="www")
    root = replace(bench.task("t1", agent_id), command=CommandInfo(value="x", user="root"))
    own = bench.task("t2", agent_id)
    bench.accept(framework_id, bench.offers(stream), root, own)
    (status,) = bench.statuses(stream)
    assert (status.task_id.value, status.reason) == ("t1", "REASON_TASK_UNAUTHORIZED")
    assert "t2" in bench.master.frameworks[framework_id].tasks
    operation = OfferOperation(
        type="RESERVE",
        id=OperationID("o"),
        reserve=Reserve(
            resources=text.parse("cpus:1")
            .push_reservation(ReservationInfo(type="DYNAMIC", role="web", principal="p"))
            .to_wire()
        ),
    )
    bench.accept(framework_id, bench.offers(stream, 6.0), operations=(operation,))
    (event,) = bench.heard(stream, "UPDATE_OPERATION_STATUS")
    assert "Not authorized" in event.update_operation_status.status.message
    assert wire


def test_a_view_leaves_out_what_is_not_to_be_seen(make_bench: Any) -> None:
    bench = make_bench(
        acls=rules(
            True,
            view_frameworks=[
                {"principals": some("me"), "users": some("mine")},
                {"principals": some("me"), "users": NONE},
            ],
            view_tasks=[
                {"principals": some("me"), "users": some("mine")},
                {"principals": some("me"), "users": NONE},
            ],
            view_roles=[
                {"principals": some("me"), "roles": some("web")},
                {"principals": some("me"), "roles": NONE},
            ],
        )
    )
    _, agent_id, stream, framework_id = bench.running(role="web", user="mine")
    other, other_id = bench.framework("other", role="ops", user="theirs")
    secret = replace(bench.task("t9", agent_id), command=CommandInfo(value="x", user="theirs"))
    bench.accept(framework_id, bench.offers(stream, 6.0), secret)
    bench.run(6.0)
    bench.agent("a2", resources="cpus(ops):1;cpus(web):2;mem:512")
    me: Any = permits.Seen(bench.master, "me")
    assert set(me.frameworks) == {framework_id}
    view = permits.view_of(bench.master.config.acls, "me")
    fragments = Fragments(bench.master)
    head = legacy.state_head(bench.master, None, None, {}, None)
    made = {
        "state": documents.state(bench.master, fragments, head, view),
        "frameworks": documents.frameworks(bench.master, fragments, None, view),
        "slaves": documents.slaves(bench.master, fragments, None, view),
        "summary": documents.state_summary(bench.master, fragments, None, view),
        "tasks": documents.tasks(
            bench.master, fragments, framework_id=None, task_id=None, limit=9, offset=0,
            ascending=True, view=view,
        ),
    }  # fmt: skip
    read = {name: wire_json.decode(b"".join(pieces), dict) for name, pieces in made.items()}
    for name in ("state", "frameworks"):
        (shown_framework,) = read[name]["frameworks"]
        assert shown_framework["id"] == framework_id
        assert [task["id"] for task in shown_framework["tasks"]] == ["t1"]
    assert [task["id"] for task in read["tasks"]["tasks"]] == ["t1"]
    assert [item["id"] for item in read["summary"]["frameworks"]] == [framework_id]
    first, second = read["summary"]["slaves"]
    assert first["TASK_STAGING"] + first["TASK_RUNNING"] == 1
    assert first["framework_ids"] == [framework_id]
    assert second["framework_ids"] == []
    for name in ("state", "slaves", "summary"):
        assert [set(item["reserved_resources"]) for item in read[name]["slaves"]] == [
            set(),
            {"web"},
        ]
    whole = wire_json.decode(b"".join(documents.slaves(bench.master, fragments, None)), dict)
    assert set(whole["slaves"][1]["reserved_resources"]) == {"ops", "web"}
    shown = v1_documents.answer(
        "GET_TASKS",
        bench.master,
        Fragments(bench.master),
        view=permits.view_of(bench.master.config.acls, "me"),
    )
    tasks = wire_json.decode(b"".join(shown), operator.Response).get_tasks
    assert tasks is not None
    assert [task.task_id.value for task in tasks.tasks] == ["t1"]
    assert {item["name"] for item in legacy.roles(me)["roles"]} == {"web"}
    assert {item.name for item in views.roles(me).roles} == {"web"}
    assert permits.sees_all(bench.master.config.acls, "admin")
    assert not permits.sees_all(bench.master.config.acls, "me")
    everyone: Any = permits.Seen(bench.master, "admin")
    assert set(everyone.frameworks) == {framework_id, other_id}
    assert other
