"""Calls, responses and events: every sub-message is the lower-case name of a type."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given

from mesostk.testing.strategies import offers, task_infos, task_statuses
from mesostk.wire import agent_operator, executor, mesos, operator, scheduler
from mesostk.wire.json import decode, encode

#: Sub-messages that carry no data of their own need none; ids stand beside the sub-messages.
UNIONS: list[tuple[type[msgspec.Struct], Any, frozenset[str]]] = [
    (scheduler.Call, scheduler.CallType, frozenset({"framework_id"})),
    (scheduler.Event, scheduler.EventType, frozenset()),
    (executor.Call, executor.CallType, frozenset({"framework_id", "executor_id"})),
    (executor.Event, executor.EventType, frozenset()),
    (operator.Call, operator.CallType, frozenset()),
    (operator.Response, operator.ResponseType, frozenset()),
    (operator.Event, operator.EventType, frozenset()),
    (agent_operator.Call, agent_operator.CallType, frozenset()),
    (agent_operator.Response, agent_operator.ResponseType, frozenset()),
]


@pytest.mark.parametrize(("union", "types", "extra"), UNIONS)
def test_every_sub_message_is_named_as_its_type(
    union: type[msgspec.Struct], types: Any, extra: frozenset[str]
) -> None:
    fields = set(union.__struct_fields__) - {"type"} - extra
    assert {field.upper() for field in fields} <= set(get_args(types))


@pytest.mark.parametrize("union", [operator.Response, agent_operator.Response])
def test_every_response_type_has_its_sub_message(union: type[msgspec.Struct]) -> None:
    types = operator.ResponseType if union is operator.Response else agent_operator.ResponseType
    assert set(union.__struct_fields__) == {name.lower() for name in get_args(types)} - {
        "unknown"
    } | {"type"}


def test_drain_takes_the_duration_of_google_and_ignores_the_other() -> None:
    raw = b'{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"S"},"max_grace_period":%b}}'
    call = decode(raw % b'{"seconds":600,"nanos":0}', operator.Call)
    assert call.drain_agent is not None
    assert call.drain_agent.max_grace_period == operator.ProtoDuration(seconds=600)
    call = decode(raw % b'{"nanoseconds":600000000000}', operator.Call)
    assert call.drain_agent is not None
    assert call.drain_agent.max_grace_period == operator.ProtoDuration()


@given(task_infos())
def test_tasks_round_trip(task: mesos.TaskInfo) -> None:
    assert decode(encode(task), mesos.TaskInfo) == task


@given(task_statuses())
def test_statuses_round_trip(status: mesos.TaskStatus) -> None:
    event = executor.Update(status=status)
    assert decode(encode(event), executor.Update) == event


@given(offers())
def test_offers_round_trip(offer: mesos.Offer) -> None:
    event = scheduler.Event(type="OFFERS", offers=scheduler.Offers(offers=(offer,)))
    assert decode(encode(event), scheduler.Event) == event
