"""What masters tell: /state as the original writes it, and the operator API's events."""

from __future__ import annotations

import json as plain_json
from typing import Any

import pytest

from mesostk.dns import facts
from mesostk.dns.reading import (
    Greeting,
    Told,
    at_once,
    host_and_port,
    ports_of,
    read_event,
    read_greeting,
    read_schedulers,
    read_state,
)
from mesostk.errors import WireError
from mesostk.wire import json, operator

TASK = {
    "id": "nginx.1",
    "name": "nginx",
    "slave_id": "x-S0",
    "state": "TASK_RUNNING",
    "resources": {"cpus": 0.1, "mem": 32.0, "ports": "[31000-31001, 31010-31010]"},
    "discovery": {
        "visibility": "FRAMEWORK",
        "name": "nginx",
        "ports": {"ports": [{"number": 31514, "name": "http", "protocol": "tcp"}]},
    },
    "statuses": [
        {
            "state": "TASK_RUNNING",
            "timestamp": 20.0,
            "labels": [{"key": "Docker.NetworkSettings.IPAddress", "value": "172.17.0.9"}],
            "container_status": {
                "network_infos": [
                    {"ip_addresses": [{"ip_address": "172.17.0.2"}, {"ip_address": "garbage"}]}
                ]
            },
        },
        {
            "state": "TASK_RUNNING",
            "timestamp": 10.0,
            "container_status": {"network_infos": [{"ip_address": "172.17.0.1"}]},
        },
        {"state": "TASK_STAGING", "timestamp": 30.0},
    ],
}


def state(**changes: Any) -> bytes:
    document = {
        "leader": "master@10.0.3.11:5050",
        "slaves": [{"id": "x-S0", "pid": "slave(1)@10.0.3.51:5051", "hostname": "a1"}],
        "frameworks": [
            {"id": "F", "name": "marathon", "pid": "scheduler-1@10.0.3.11:31111",
             "hostname": "m1", "tasks": [TASK]},
        ],
        **changes,
    }  # fmt: skip
    return plain_json.dumps(document).encode()


def test_a_state_is_read_as_facts() -> None:
    read = at_once(read_state(state()))
    assert read.leader == "10.0.3.11:5050"
    assert read.snapshot.agents == (facts.Agent("x-S0", "10.0.3.51", 5051),)
    assert read.snapshot.frameworks == (facts.Framework("F", "marathon", "10.0.3.11", 31111),)
    assert read.snapshot.tasks == (
        facts.Task(
            id="nginx.1",
            name="nginx",
            framework_id="F",
            agent_id="x-S0",
            is_running=True,
            ports=(31000, 31001, 31010),
            discovery_name="nginx",
            discovery_ports=(facts.Port(31514, "http", "tcp"),),
            # Of the latest running status, wherever it is in the list.
            netinfo=("172.17.0.2",),
            docker=("172.17.0.9",),
        ),
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"slaves": [{"id": "x-S0"}, {"pid": "slave(1)@10.0.3.52:5051"}]}, "agent: "),
        ({"frameworks": [{"name": "f", "tasks": [{"id": "t"}, TASK]}]}, "task: "),
        ({"frameworks": [{"tasks": []}, {"name": "f", "tasks": [TASK]}]}, "framework: "),
    ],
)
def test_an_entry_that_cannot_be_read_costs_itself_only(
    changes: dict[str, Any], problem: str
) -> None:
    read = at_once(read_state(state(**changes)))
    assert len(read.skipped) == 1
    assert read.skipped[0].startswith(problem)
    assert len(read.snapshot.tasks) == 1
    assert len(read.snapshot.agents) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"leader":""}', b'{"leader":"x"}']
)
def test_what_is_no_state_of_a_leader_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        at_once(read_state(body))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[31000-31001, 31010-31010]", [31000, 31001, 31010]),
        ("[31000]", [31000]),
        ("31000-31001", [31000, 31001]),
        ("", []),
        ("[x-y]", []),
        ("[65534-99999]", [65534, 65535]),
    ],
)
def test_ports_in_text(text: str, wanted: list[int]) -> None:
    assert ports_of(text) == wanted


@pytest.mark.parametrize(
    ("pid", "wanted"),
    [
        ("slave(1)@10.0.3.51:5051", ("10.0.3.51", 5051)),
        ("master@[fd00::1]:5050", ("fd00::1", 5050)),
        ("master@host.example:5050", ("host.example", 5050)),
        ("", None),
        ("slave(1)@10.0.3.51", None),
        ("slave(1)@10.0.3.51:0", None),
    ],
)
def test_hosts_in_pids(pid: str, wanted: tuple[str, int] | None) -> None:
    assert host_and_port(pid) == wanted


# -- events ----------------------------------------------------------------------------------------

WIRE_TASK: dict[str, Any] = {
    "name": "web.shop",
    "task_id": {"value": "t1"},
    "framework_id": {"value": "F"},
    "agent_id": {"value": "x-S0"},
    "state": "TASK_STAGING",
    "resources": [
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}]}},
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}},
    ],
    "discovery": {"visibility": "EXTERNAL", "name": "web"},
}
AGENT = facts.Agent("x-S0", "10.0.3.51", 5051)
FRAMEWORK = facts.Framework("F", "marathon")
STAGING = facts.Task(
    id="t1", name="web.shop", framework_id="F", agent_id="x-S0", is_running=False, ports=(1, 2),
    discovery_name="web",
)  # fmt: skip


def told(event: dict[str, Any], *tasks: facts.Task, known: bool = True) -> Told:
    decoded = json.decode(plain_json.dumps(event), operator.Event)
    agents = {"x-S0": AGENT} if known else {}
    frameworks = {"F": FRAMEWORK} if known else {}
    return read_event(decoded, {task.key: task for task in tasks}, agents, frameworks)


def updated(state: str, **status: Any) -> dict[str, Any]:
    return {
        "type": "TASK_UPDATED",
        "task_updated": {
            "framework_id": {"value": "F"},
            "status": {"task_id": {"value": "t1"}, "state": state, **status},
            "state": state,
        },
    }


def test_a_task_has_names_when_it_runs() -> None:
    added = told({"type": "TASK_ADDED", "task_added": {"task": WIRE_TASK}})
    assert added == Told((facts.TaskPut(STAGING),))
    infos = {"network_infos": [{"ip_addresses": [{"ip_address": "172.17.0.5"}]}]}
    running = told(updated("TASK_RUNNING", container_status=infos), STAGING)
    (change,) = running.changes
    assert isinstance(change, facts.TaskPut)
    assert change.task.is_running
    assert change.task.netinfo == ("172.17.0.5",)


def test_a_task_that_is_over_is_gone() -> None:
    assert told(updated("TASK_FAILED"), STAGING).changes == (facts.TaskGone("F", "t1"),)
    assert told(updated("TASK_FAILED")).changes == (facts.TaskGone("F", "t1"),)


def test_an_unreachable_task_keeps_what_is_known_without_names() -> None:
    (change,) = told(updated("TASK_UNREACHABLE"), STAGING).changes
    assert isinstance(change, facts.TaskPut)
    assert not change.task.is_running
    assert change.task.ports == (1, 2)


def test_what_cannot_be_placed_asks_for_the_whole_state() -> None:
    assert told(updated("TASK_RUNNING")).resync == "task t1 is not known"
    added = told({"type": "TASK_ADDED", "task_added": {"task": WIRE_TASK}}, known=False)
    assert added.resync is not None


def test_agents_come_and_go() -> None:
    agent: dict[str, Any] = {
        "agent_info": {"hostname": "a1", "port": 5051, "id": {"value": "x-S0"}},
        "active": True,
        "version": "1.11.0",
        "pid": "slave(1)@10.0.3.51:5051",
    }
    event = {"type": "AGENT_ADDED", "agent_added": {"agent": agent}}
    assert told(event) == Told((facts.AgentPut(AGENT),))
    agent["reregistered_time"] = {"nanoseconds": 5}
    assert told(event).resync == "agent x-S0 came back"
    removed = {"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "x-S0"}}}
    assert told(removed).changes == (facts.AgentGone("x-S0"),)


def test_frameworks_come_and_go() -> None:
    info = {"user": "root", "name": "marathon", "id": {"value": "F"}, "hostname": "m1"}
    framework = {"framework_info": info, "active": True, "connected": True, "recovered": False}
    event = {"type": "FRAMEWORK_UPDATED", "framework_updated": {"framework": framework}}
    wanted = facts.FrameworkPut(facts.Framework("F", "marathon", "m1"))
    assert told(event).changes == (wanted,)
    removed = {"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info": info}}
    assert told(removed).changes == (facts.FrameworkGone("F"),)


def test_a_heartbeat_and_unknown_events_say_nothing() -> None:
    assert told({"type": "HEARTBEAT"}) == Told()
    assert told({"type": "SOMETHING_NEW", "something": {}}) == Told()


def test_the_whole_state_names_agents_that_are_waited_for() -> None:
    document = {
        "get_agents": {"recovered_agents": [{"hostname": "a2", "id": {"value": "x-S9"}}]},
        "get_tasks": {
            "tasks": [
                {**WIRE_TASK, "state": "TASK_RUNNING"},
                {**WIRE_TASK, "task_id": {"value": "t2"}, "state": "TASK_KILLED"},
            ]
        },
    }
    snapshot = greeting(document).snapshot
    assert snapshot.missing_agents == {"x-S9"}
    assert [task.id for task in snapshot.tasks] == ["t1"]


def greeting(document: dict[str, Any], *known: facts.Framework) -> Greeting:
    event = {"type": "SUBSCRIBED", "subscribed": {"get_state": document}}
    steps = read_greeting(plain_json.dumps(event).encode(), {one.id: one for one in known})
    found = at_once(steps)
    assert found is not None
    return found


def test_entry_of_the_greeting_that_cannot_be_read_costs_itself_only() -> None:
    read = greeting({"get_tasks": {"tasks": [{"name": 1}, WIRE_TASK]}})
    assert [task.id for task in read.snapshot.tasks] == ["t1"]
    assert len(read.skipped) == 1
    assert read.skipped[0].startswith("task: Missing required fields: ")


def test_other_first_event_is_no_greeting() -> None:
    assert at_once(read_greeting(b'{"type": "HEARTBEAT"}', {})) is None
    with pytest.raises(WireError):
        at_once(read_greeting(b"<html>", {}))


def test_address_of_a_scheduler_is_kept_from_before_the_greeting() -> None:
    info = {"user": "root", "name": "old", "id": {"value": "F"}, "hostname": "m1"}
    framework = {"framework_info": info, "active": True, "connected": True, "recovered": False}
    document = {"get_frameworks": {"frameworks": [framework]}}
    known = facts.Framework("F", "old", "10.0.3.11", 31111)
    assert greeting(document, known).snapshot.frameworks == (known,)
    assert greeting(document).snapshot.frameworks == (facts.Framework("F", "old", "m1"),)


def test_schedulers_that_speak_libprocess_are_told_by_the_summary() -> None:
    frameworks = [
        {"id": "F", "name": "old", "pid": "scheduler-1@10.0.3.11:31111"},
        {"id": "G", "name": "http"},
        {"id": "H", "name": "none", "pid": "@0.0.0.0:0"},
    ]
    body = plain_json.dumps({"hostname": "m1", "frameworks": frameworks}).encode()
    assert read_schedulers(body) == {"F": ("10.0.3.11", 31111)}
