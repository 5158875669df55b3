"""Calls that decode and mean nothing: answered in words, with the core's books in order after.

Every call of both APIs, with something else in one to three of its places. `Bench` asks the core's
`check()` after each event.
"""

from __future__ import annotations

import copy
import json as plain
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.errors import WireError
from mesostk.master import events as ev
from mesostk.master import frameworks, validation
from mesostk.master.operator import call_error
from mesostk.master.tests.conftest import Bench
from mesostk.testing.hostile import CPUS, DYNAMIC, MEM, RESERVED, VOLUME, altered, damaged, fuzz
from mesostk.wire import json, operator, protobuf, scheduler

AGENT, FRAMEWORK, OFFER, TASK = (
    {"value": f"@{name}"} for name in ("agent", "framework", "offer", "task")
)
PORTS = {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}}
RUN = {
    "name": "t",
    "task_id": {"value": "new"},
    "agent_id": AGENT,
    "resources": [CPUS, MEM, PORTS],
    "command": {"value": "x", "environment": {"variables": [{"name": "A", "value": "b"}]}},
    "container": {
        "type": "MESOS",
        "volumes": [{"mode": "RW", "container_path": "c", "host_path": "h"}],
    },
    "health_check": {"type": "TCP", "tcp": {"port": 1}, "delay_seconds": 1.0},
    "kill_policy": {"grace_period": {"nanoseconds": 1}},
    "labels": {"labels": [{"key": "k", "value": "v"}]},
    "limits": {"cpus": {"value": 1.0}},
    "discovery": {"visibility": "CLUSTER", "name": "n", "ports": {"ports": [{"number": 1}]}},
    "max_completion_time": {"nanoseconds": 10},
}
EXECUTOR = {
    "type": "DEFAULT",
    "executor_id": {"value": "e"},
    "framework_id": FRAMEWORK,
    "resources": [CPUS, MEM, {**MEM, "name": "disk"}],
}
INFO = {
    "user": "u",
    "name": "n",
    "roles": ["eng", "eng/web"],
    "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}],
    "failover_timeout": 5.0,
    "checkpoint": True,
    "labels": {"labels": [{"key": "k"}]},
    "offer_filters": {
        "eng": {
            "min_allocatable_resources": {"quantities": [{"quantities": {"cpus": {"value": 1.0}}}]}
        }
    },
}
MACHINE = {"hostname": "a1", "ip": "10.0.0.1"}
WINDOW = {
    "machine_ids": [MACHINE],
    "unavailability": {"start": {"nanoseconds": 10}, "duration": {"nanoseconds": 5}},
}

QUOTA = {"role": "eng", "limits": {"cpus": {"value": 3.0}}, "guarantees": {"cpus": {"value": 1.0}}}
GROUP: dict[str, Any] = {"executor": EXECUTOR, "task_group": {"tasks": [RUN]}}

#: Body by type of call, each near to one that is done.
OPERATOR: dict[str, dict[str, Any]] = {
    "RESERVE_RESOURCES": {"agent_id": AGENT, "resources": [RESERVED]},
    "UNRESERVE_RESOURCES": {"agent_id": AGENT, "resources": [RESERVED]},
    "CREATE_VOLUMES": {"agent_id": AGENT, "volumes": [VOLUME]},
    "DESTROY_VOLUMES": {"agent_id": AGENT, "volumes": [VOLUME]},
    "GROW_VOLUME": {"agent_id": AGENT, "volume": VOLUME, "addition": {**MEM, "name": "disk"}},
    "SHRINK_VOLUME": {"agent_id": AGENT, "volume": VOLUME, "subtract": {"value": 1.0}},
    "UPDATE_WEIGHTS": {"weight_infos": [{"role": "eng", "weight": 2.0}]},
    "UPDATE_QUOTA": {"force": True, "quota_configs": [QUOTA]},
    "SET_QUOTA": {"quota_request": {"force": True, "role": "eng", "guarantee": [CPUS]}},
    "REMOVE_QUOTA": {"role": "eng"},
    "UPDATE_MAINTENANCE_SCHEDULE": {"schedule": {"windows": [WINDOW]}},
    "START_MAINTENANCE": {"machines": [MACHINE]},
    "STOP_MAINTENANCE": {"machines": [MACHINE]},
    "DRAIN_AGENT": {"agent_id": AGENT, "max_grace_period": {"nanoseconds": 1}, "mark_gone": False},
    "DEACTIVATE_AGENT": {"agent_id": AGENT},
    "REACTIVATE_AGENT": {"agent_id": AGENT},
    "MARK_AGENT_GONE": {"agent_id": AGENT},
    "TEARDOWN": {"framework_id": FRAMEWORK},
}  # fmt: skip

SCHEDULER: dict[str, dict[str, Any]] = {
    "SUBSCRIBE": {"framework_info": INFO, "suppressed_roles": ["eng"]},
    "UPDATE_FRAMEWORK": {"framework_info": {**INFO, "id": FRAMEWORK}, "suppressed_roles": ["eng"]},
    "ACCEPT": {
        "offer_ids": [OFFER],
        "filters": {"refuse_seconds": 5.0},
        "operations": [
            {"type": "RESERVE", "id": {"value": "o"}, "reserve": {"resources": [RESERVED]}},
            {"type": "CREATE", "create": {"volumes": [VOLUME]}},
            {"type": "LAUNCH", "launch": {"task_infos": [RUN]}},
            {"type": "LAUNCH_GROUP", "launch_group": GROUP},
        ],
    },
    "DECLINE": {"offer_ids": [OFFER], "filters": {"refuse_seconds": 5.0}},
    "REVIVE": {"roles": ["eng"]},
    "SUPPRESS": {"roles": ["eng"]},
    "KILL": {"task_id": TASK, "agent_id": AGENT, "kill_policy": RUN["kill_policy"]},
    "SHUTDOWN": {"executor_id": {"value": "e"}, "agent_id": AGENT},
    "ACKNOWLEDGE": {"agent_id": AGENT, "task_id": TASK, "uuid": "dXV1dXV1dXV1dXV1dXV1dQ=="},
    "RECONCILE": {"tasks": [{"task_id": TASK, "agent_id": AGENT}]},
    "RECONCILE_OPERATIONS": {"operations": [{"operation_id": {"value": "o"}, "agent_id": AGENT}]},
    "MESSAGE": {"agent_id": AGENT, "executor_id": {"value": "e"}, "data": "AAAA"},
    "REQUEST": {"requests": [{"agent_id": AGENT, "resources": [CPUS]}]},
    "ACCEPT_INVERSE_OFFERS": {"inverse_offer_ids": [OFFER], "filters": {"refuse_seconds": 5.0}},
    "DECLINE_INVERSE_OFFERS": {"inverse_offer_ids": [OFFER], "filters": {"refuse_seconds": 5.0}},
}  # fmt: skip

#: What means something here, in the wrong place.
MISPLACED: tuple[Any, ...] = (
    [CPUS, CPUS], "@agent", "@offer", "@task", [DYNAMIC, DYNAMIC], [RUN, RUN],
)  # fmt: skip


@st.composite
def calls(draw: st.DrawFn, bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A call, with something else in a few of its places."""
    kind = draw(st.sampled_from(sorted(bodies)))
    return {"type": kind, kind.lower(): draw(altered(bodies[kind], MISPLACED))}


Call = TypeVar("Call", operator.Call, scheduler.Call)


@st.composite
def decoded(draw: st.DrawFn, text: bytes, kind: type[Call]) -> Call | None:
    """The call in a JSON text, as it is or over protobuf, damaged or not; None if it is none."""
    form = draw(st.sampled_from(("json", "protobuf", "damaged")))
    with suppress(WireError):
        call = json.decode(text, kind)
        if form == "json":
            return call
        binary = protobuf.encode(call)
        return protobuf.decode(draw(damaged(binary)) if form == "damaged" else binary, kind)
    return None


#: Calls one after the other to one master: what the first left, the next meets.
ROUNDS = 3


class Cluster:
    """A master with an agent, a running task, and an offer."""

    def __init__(self) -> None:
        self.bench = Bench()
        _, agent, self.stream, framework = self.bench.running(
            roles=("eng",), capabilities=("MULTI_ROLE", "PARTITION_AWARE", "RESERVATION_REFINEMENT")
        )
        offers = self.bench.offers(self.stream, 10)
        self.names = {
            "@agent": agent,
            "@framework": framework,
            "@offer": offers[0].id.value,
            "@task": "t1",
        }

    def text(self, call: dict[str, Any]) -> bytes:
        raw = plain.dumps(call)
        for name, value in self.names.items():
            raw = raw.replace(f'"{name}"', f'"{value}"')
        return raw.encode()


@fuzz(50)
@given(st.data())
def test_no_call_of_an_operator_breaks_the_books(data: st.DataObject) -> None:
    cluster = Cluster()
    for _ in range(ROUNDS):
        call = data.draw(decoded(cluster.text(data.draw(calls(OPERATOR))), operator.Call))
        if call is None or call_error(call) is not None or call.type not in OPERATOR:
            continue
        replies = cluster.bench.operate(call)
        assert all(one.status in (200, 202, 400, 403, 404, 409) for one in replies), replies
        cluster.bench.run(2)


@fuzz(70)
@given(st.data())
def test_no_call_of_a_framework_breaks_the_books(data: st.DataObject) -> None:
    cluster = Cluster()
    bench = cluster.bench
    for _ in range(ROUNDS):
        document = data.draw(calls(SCHEDULER))
        document["framework_id"] = {"value": "@framework"}
        call = data.draw(decoded(cluster.text(document), scheduler.Call))
        if call is None or validation.call_error(call) is not None:
            continue
        if call.type == "SUBSCRIBE":
            bench.feed(ev.SchedulerSubscribed(bench.stream(), call))
        elif frameworks.refusal(bench.master, call, cluster.stream, None) is None:
            bench.feed(ev.SchedulerCalled(call))
        bench.run(2)


def test_a_schedule_may_name_as_many_machines_as_a_body_holds() -> None:
    bench = Bench()
    machines = [{"hostname": f"h{number}"} for number in range(20_000)]
    window = {**WINDOW, "machine_ids": machines}
    kinds = {
        "UPDATE_MAINTENANCE_SCHEDULE": {"schedule": {"windows": [window]}},
        "START_MAINTENANCE": {"machines": machines},
        "STOP_MAINTENANCE": {"machines": machines},
    }
    for kind, body in kinds.items():
        call = json.decode(plain.dumps({"type": kind, kind.lower(): body}), operator.Call)
        assert [reply.status for reply in bench.operate(call)] == [200]


def test_a_role_has_an_end() -> None:
    bench = Bench()
    weight = {"role": "/".join("r" * 600), "weight": 1.0}
    call = {"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [weight]}}
    (reply,) = bench.operate(json.decode(plain.dumps(call), operator.Call))
    assert reply.status == 400
    assert "longer than 1024 characters" in reply.body


@pytest.mark.parametrize("field", ["executor", "task"])
def test_a_group_of_resources_without_amounts_is_refused(field: str) -> None:
    cluster = Cluster()
    group: Any = copy.deepcopy(GROUP)
    bad = group["executor"] if field == "executor" else group["task_group"]["tasks"][0]
    bad["resources"] = [{"name": "cpus", "type": "SCALAR"}]
    accept = {
        "offer_ids": [OFFER],
        "operations": [{"type": "LAUNCH_GROUP", "launch_group": group}],
    }
    call = {"type": "ACCEPT", "framework_id": FRAMEWORK, "accept": accept}
    cluster.bench.feed(ev.SchedulerCalled(json.decode(cluster.text(call), scheduler.Call)))
    (status,) = cluster.bench.statuses(cluster.stream)
    assert (status.state, status.reason) == ("TASK_ERROR", "REASON_TASK_GROUP_INVALID")
    assert "invalid resources" in (status.message or "")
