"""Calls about resource providers before the agent has an id; the others are in test_goldens."""

from __future__ import annotations

import random

import pytest

from mesostk.agent import providers
from mesostk.agent.state import State
from mesostk.agent.tests.agent_bench import settings
from mesostk.errors import Rejected
from mesostk.wire import agent_operator as wire
from mesostk.wire.mesos import AgentID, ResourceProviderID


def test_a_provider_is_marked_gone_by_registered_agents_only() -> None:
    state = State(settings(), random.Random(1))
    gone = wire.MarkResourceProviderGone(resource_provider_id=ResourceProviderID("p"))
    call = wire.Call(type="MARK_RESOURCE_PROVIDER_GONE", mark_resource_provider_gone=gone)
    mark = providers.CALLS["MARK_RESOURCE_PROVIDER_GONE"]
    with pytest.raises(Rejected, match="'p' as gone: Agent has not registered yet") as refused:
        mark(state, call)
    assert refused.value.status == 500
    state.agent_id = AgentID("a")
    mark(state, call)
