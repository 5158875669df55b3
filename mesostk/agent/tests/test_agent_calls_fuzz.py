"""What executors and masters say that decodes and means nothing: no end of the agent.

Every call of the executor API and every message of a master, with something else in one to three
of its places. `Bench` asks the core's `check()` after each event.
"""

from __future__ import annotations

import json as plain
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.agent import custom
from mesostk.agent.events import (
    ExecutorCalled,
    ExecutorSubscribed,
    Exited,
    Fetch,
    Fetched,
    KillRun,
    Launch,
    Launched,
)
from mesostk.agent.executor_http import parsed
from mesostk.agent.tests.agent_bench import Bench, of_type, updates
from mesostk.base.core import Effect
from mesostk.errors import Rejected, WireError
from mesostk.testing.hostile import CPUS, RESERVED, VOLUME, altered, damaged, fuzz
from mesostk.wire import executor, json, protobuf
from mesostk.wire.link import DownMessage

UUID = "dXV1dXV1dXV1dXV1dXV1dQ=="
FRAMEWORK = {
    "user": "u",
    "name": "F",
    "id": {"value": "F"},
    "checkpoint": True,
    "capabilities": [{"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}],
}
RUN: dict[str, Any] = {
    "name": "new",
    "task_id": {"value": "new"},
    "agent_id": {"value": "M-S0"},
    "resources": [CPUS],
    "command": {
        "value": "x",
        "environment": {"variables": [{"name": "A", "value": "b"}]},
        "uris": [{"value": "http://127.0.0.1/x", "output_file": "y"}],
    },
    "container": {
        "type": "MESOS",
        "volumes": [{"mode": "RW", "container_path": "c", "host_path": "h"}],
        "rlimit_info": {"rlimits": [{"type": "RLMT_CORE", "soft": 1, "hard": 2}]},
        "tty_info": {"window_size": {"rows": 1, "columns": 2}},
    },
    "health_check": {"type": "TCP", "tcp": {"port": 1}, "delay_seconds": 1.0},
    "check": {"type": "COMMAND", "command": {"command": {"value": "true"}}},
    "kill_policy": {"grace_period": {"nanoseconds": 1}},
    "labels": {"labels": [{"key": "k", "value": "v"}]},
    "limits": {"cpus": {"value": 1.0}},
    "discovery": {"visibility": "CLUSTER", "name": "n", "ports": {"ports": [{"number": 1}]}},
    "max_completion_time": {"nanoseconds": 10},
}
EXECUTOR = {"type": "CUSTOM", "executor_id": {"value": "e"}, "framework_id": {"value": "F"},
            "command": {"value": "y"}, "resources": [CPUS],
            "shutdown_grace_period": {"nanoseconds": 10}}  # fmt: skip
IDS = {"framework_id": {"value": "F"}, "executor_id": {"value": "e"}}

OPERATIONS: tuple[dict[str, Any], ...] = (
    {"type": "RESERVE", "id": {"value": "o"}, "reserve": {"resources": [RESERVED]}},
    {"type": "UNRESERVE", "unreserve": {"resources": [RESERVED]}},
    {"type": "CREATE", "create": {"volumes": [VOLUME]}},
    {"type": "DESTROY", "destroy": {"volumes": [VOLUME]}},
    {"type": "GROW_VOLUME",
     "grow_volume": {"volume": VOLUME, "addition": {**CPUS, "name": "disk"}}},
    {"type": "SHRINK_VOLUME", "shrink_volume": {"volume": VOLUME, "subtract": {"value": 1.0}}},
)  # fmt: skip

#: Messages of a master, each near to one that is done.
DOWN: tuple[dict[str, Any], ...] = (
    {"type": "RUN_TASK", "framework": FRAMEWORK, "task": RUN},
    {"type": "RUN_TASK", "framework": FRAMEWORK, "launch_executor": False,
     "task": {**{k: v for k, v in RUN.items() if k != "command"}, "executor": EXECUTOR}},
    {"type": "RUN_GROUP", "framework": FRAMEWORK, "executor": EXECUTOR,
     "task_group": {"tasks": [RUN]}},
    {"type": "RUN_GROUP", "framework": FRAMEWORK,
     "executor": {"type": "DEFAULT", "executor_id": {"value": "d"}, "resources": [CPUS]},
     "task_group": {"tasks": [RUN, {**RUN, "task_id": {"value": "new2"}}]}},
    {"type": "KILL", "framework_id": {"value": "F"}, "task_id": {"value": "t1"},
     "kill_policy": {"grace_period": {"nanoseconds": 1}}},
    {"type": "ACK", "framework_id": {"value": "F"}, "task_id": {"value": "t1"}, "uuid": UUID},
    {"type": "MESSAGE", **IDS, "data": "AAAA"},
    *(
        {"type": "APPLY_OPERATION", "framework_id": {"value": "F"}, "operation": operation,
         "operation_uuid": {"value": UUID}}
        for operation in OPERATIONS
    ),
    {"type": "ACK_OPERATION", "operation_uuid": {"value": UUID}, "status_uuid": {"value": UUID}},
    {"type": "DRAIN",
     "config": {"max_grace_period": {"nanoseconds": 1}, "mark_gone": True}},
    {"type": "UPDATE_FRAMEWORK", "framework": FRAMEWORK},
    {"type": "SHUTDOWN_EXECUTOR", **IDS},
    {"type": "SHUTDOWN_FRAMEWORK", "framework_id": {"value": "F"}},
    {"type": "HEARTBEAT", "connected": True},
    {"type": "REGISTERED", "agent_id": {"value": "M-S0"},
     "epoch": {"cluster_id": "c1", "counter": 5}, "heartbeat_s": 15.0, "ping_timeout_s": 75.0,
     "protocol": 1, "report": [{"framework_id": {"value": "F"}, "task_id": {"value": "t9"}}]},
)  # fmt: skip

STATUS = {"task_id": {"value": "c1"}, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR",
          "uuid": UUID, "timestamp": 1.0, "data": "AAAA", "healthy": True,
          "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": "1.2.3.4"}]}]},
          "labels": {"labels": [{"key": "k", "value": "v"}]}}  # fmt: skip
#: Calls of an executor.
CALLS: dict[str, dict[str, Any]] = {
    "SUBSCRIBE": {
        "unacknowledged_tasks": [{**RUN, "executor": EXECUTOR}],
        "unacknowledged_updates": [{"status": STATUS}],
    },
    "UPDATE": {"status": STATUS},
    "MESSAGE": {"data": "AAAA"},
}

#: Messages one after the other to one agent: what the first left, the next meets.
ROUNDS = 4

STATES = ("TASK_STAGING", "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR",
          "TASK_UNREACHABLE", "TASK_KILLING")  # fmt: skip


class Host:
    """An agent with a command task and one of a custom executor; its processes start at once."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.bench.register()
        self.bench.run()
        message = {**DOWN[1], "launch_executor": True}
        message["task"] = {**message["task"], "task_id": {"value": "c1"}}
        self.hear(message)
        self.call("SUBSCRIBE", {})

    def hear(self, message: dict[str, Any]) -> None:
        """What a master says, if it is a message at all."""
        with suppress(WireError):
            self._perform(self.bench.down(json.decode(plain.dumps(message).encode(), DownMessage)))

    def call(self, kind: str, body: Any) -> None:
        """A call of the executor, if it is one and may be made."""
        with suppress(Rejected):
            self.take(parsed(plain.dumps({"type": kind, **IDS, kind.lower(): body}).encode()))

    def take(self, call: executor.Call) -> None:
        """A call of the executor, if it may be made."""
        with suppress(Rejected):
            custom.refuse(self.bench.core.state, call)
            if call.subscribe is not None and call.type == "SUBSCRIBE":
                event = ExecutorSubscribed(
                    stream="s", framework_id=call.framework_id.value,
                    executor_id=call.executor_id.value, subscribe=call.subscribe,
                )  # fmt: skip
                self._perform(self.bench.feed(event))
            else:
                self._perform(self.bench.feed(ExecutorCalled(call)))

    def _perform(self, effects: list[Effect]) -> None:
        while effects:
            events = [Fetched(fetch.container_id) for fetch in of_type(effects, Fetch)]
            started = [Launched(launch.spec.container_id, 1) for launch in of_type(effects, Launch)]
            ended = [
                Exited(kill.container_id, 9, killed=True) for kill in of_type(effects, KillRun)
            ]
            effects = self.bench.feed(*events, *started, *ended)


@fuzz(80)
@given(st.data())
def test_no_message_of_a_master_breaks_the_books(data: st.DataObject) -> None:
    host = Host()
    for _ in range(ROUNDS):
        if host.bench.core.state.link is None:
            break
        host.hear(data.draw(altered(data.draw(st.sampled_from(DOWN)), (*STATES, [RUN, RUN]))))
        host.bench.advance(2)


@fuzz(80)
@given(st.data())
def test_no_call_of_an_executor_breaks_the_books(data: st.DataObject) -> None:
    host = Host()
    for _ in range(ROUNDS):
        kind = data.draw(st.sampled_from(sorted(CALLS)))
        host.call(kind, data.draw(altered(CALLS[kind], STATES)))
        host.bench.advance(2)


@fuzz(40)
@given(st.data())
def test_no_call_in_damaged_protobuf_breaks_the_books(data: st.DataObject) -> None:
    host = Host()
    for _ in range(ROUNDS):
        kind = data.draw(st.sampled_from(sorted(CALLS)))
        body = data.draw(altered(CALLS[kind], STATES))
        text = plain.dumps({"type": kind, **IDS, kind.lower(): body}).encode()
        with suppress(Rejected, WireError):
            binary = protobuf.encode(json.decode(text, executor.Call))
            host.take(parsed(data.draw(damaged(binary)), is_binary=True))
        host.bench.advance(2)


@pytest.mark.parametrize("kind", ["task", "group"])
def test_an_executor_of_the_other_kind_is_refused(kind: str) -> None:
    host = Host()
    if kind == "group":
        group = {**DOWN[3], "executor": {**DOWN[3]["executor"], "executor_id": {"value": "e"}}}
        host.hear(group)
        wanted = {"new", "new2"}
    else:
        host.hear({**DOWN[3], "task_group": {"tasks": [RUN]}})
        other = {**EXECUTOR, "executor_id": {"value": "d"}}
        task = {**DOWN[1]["task"], "task_id": {"value": "late"}, "executor": other}
        host.hear({**DOWN[1], "task": task, "launch_executor": True})
        wanted = {"late"}
    found = [up.status for up in updates(host.bench.effects) if up.status.task_id.value in wanted]
    assert {status.task_id.value for status in found} == wanted
    assert {status.state for status in found} == {"TASK_LOST"}
    assert all("on this agent; name one of type" in str(status.message) for status in found)
