"""Evacuation: every instance of an agent is replaced elsewhere, the replacement first."""

from __future__ import annotations

import pytest

from mesostk.marathon.events import CreateApp, Evacuate, PutApps
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World


def app(instances: int, **fields: object) -> dict[str, object]:
    return {
        "id": "/web",
        "cmd": "serve",
        "cpus": 0.1,
        "mem": 16,
        "instances": instances,
        **fields,
    }


def agents_of(world: World) -> list[str]:
    """Agents of the tasks that run, one for each."""
    return sorted(world.tasks[id].agent_id.value for id in world.running("/web"))


@pytest.fixture
def spread() -> World:
    """Six instances, two on each of three agents."""
    world = World(settings=Settings(max_instances_per_offer=2))
    world.connect()
    world.ask(CreateApp, body=app(6))
    world.settle(10)
    assert agents_of(world) == ["S0", "S0", "S1", "S1", "S2", "S2"]
    return world


def test_replacements_run_elsewhere_before_anything_is_killed(spread: World) -> None:
    reply = spread.ask(Evacuate, agent_id="S1")
    assert reply.status == 200
    assert isinstance(reply.body, dict)
    assert [each["leaving"] for each in reply.body["instances"]] == [True, True]
    assert spread.killed_ever == []
    fewest = 6
    for _ in range(10):
        spread.offer()
        fewest = min(fewest, len(spread.running("/web")))
        spread.advance(1.0)
    assert fewest == 6
    assert len(agents_of(spread)) == 6
    assert "S1" not in agents_of(spread)
    assert len(spread.killed_ever) == 2
    assert not spread.core.state.wants


def test_only_what_is_on_the_agent_is_replaced(spread: World) -> None:
    stay = {id for id, task in spread.tasks.items() if task.agent_id.value != "S1"}
    spread.ask(Evacuate, agent_id="S1")
    spread.settle(10)
    assert stay < set(spread.running("/web"))


def test_without_another_agent_all_stays_and_the_queue_says_why(world: World) -> None:
    world.agents = {"S0": "agent0"}
    world.ask(CreateApp, body=app(2))
    world.settle(3)
    world.ask(Evacuate, agent_id="S0")
    world.settle(5)
    assert agents_of(world) == ["S0", "S0"]
    reasons = world.core.state.reasons["/web"]
    assert reasons.declined["AgentMaintenance"] > 0
    world.ask(Evacuate, agent_id="S0", cancel=True)
    assert not world.core.state.wants
    world.settle(2)
    assert agents_of(world) == ["S0", "S0"]


def test_a_later_leader_goes_on_evacuating(spread: World) -> None:
    spread.ask(Evacuate, agent_id="S2")
    spread.start()
    spread.connect()
    spread.settle(10)
    assert len(agents_of(spread)) == 6
    assert "S2" not in agents_of(spread)


def test_an_upgrade_and_an_evacuation_at_once_end_with_both_done(spread: World) -> None:
    spread.ask(Evacuate, agent_id="S0")
    spread.ask(PutApps, app_id="/web", bodies=({"cmd": "serve better"},))
    spread.settle(20)
    assert len(agents_of(spread)) == 6
    assert "S0" not in agents_of(spread)
    commands = {spread.tasks[id].command for id in spread.running("/web")}
    assert {each.value for each in commands if each is not None} == {"serve better"}
    assert not spread.core.state.deployments


def test_scaling_while_evacuating_gives_the_new_number(spread: World) -> None:
    spread.ask(Evacuate, agent_id="S0")
    spread.ask(PutApps, app_id="/web", bodies=({"instances": 3},))
    spread.settle(20)
    assert len(agents_of(spread)) == 3
    assert "S0" not in agents_of(spread)


def test_an_agent_without_instances_is_told_so(world: World) -> None:
    reply = world.ask(Evacuate, agent_id="nowhere")
    assert (reply.status, reply.body) == (200, {"agentId": "nowhere", "instances": []})
