"""What a change of members comes to, and what is refused, before anything is touched."""

from typing import Any

import pytest

from mesostk.testing.plugins import load

MEMBERSHIP, CLUSTER = load("filter_plugins", "membership"), load("filter_plugins", "cluster")
CONTROL = ("zookeeper", "mesos_masters", "marathon")


class World:
    """An inventory of masters m1… and agents a1…, and what the hosts said."""

    def __init__(self, masters: int = 3, agents: int = 2, ids: bool = True) -> None:
        names = [f"m{n + 1}" for n in range(masters)]
        self.groups: dict[str, list[str]] = {name: list(names) for name in CONTROL}
        self.groups["mesos_agents"] = [f"a{n + 1}" for n in range(agents)]
        self.vars: dict[str, dict[str, Any]] = {}
        for number, name in enumerate(names, 1):
            self.vars[name] = {"zookeeper_id": number} if ids else {}
            self.serves(name, number)
        for name in self.groups["mesos_agents"]:
            self.vars[name] = {"living_state": {"services": []}}

    def serves(self, host: str, number: int, place: str = "standby") -> None:
        service = {"name": "zookeeper", "place": place, "zookeeper_id": str(number)}
        self.vars.setdefault(host, {})["living_state"] = {"services": [service]}

    def dead(self, host: str) -> None:
        self.vars[host]["living_state"] = {"unreachable": True}

    def fresh(self, host: str, *groups: str, **variables: object) -> None:
        for name in groups:
            self.groups[name].append(host)
        self.vars[host] = {"living_state": {"services": []}, **variables}

    def weigh(self, **change: Any) -> dict[str, Any]:
        found: dict[str, Any] = MEMBERSHIP.weigh(self.groups, self.vars, **change)
        return found


def test_agent_concerns_nobody_else() -> None:
    world = World()
    world.fresh("a3", "mesos_agents")
    added = world.weigh(joining=["a3"])
    assert added["refusals"] == []
    assert added["concerns_all"] is False
    assert added["lines"] == ["mesos_agents: 2 now, 3 afterwards"]


def test_dead_member_is_replaced_by_one_that_takes_over_its_number() -> None:
    world = World()
    world.dead("m1")
    world.fresh("m4", *CONTROL)
    change = world.weigh(leaving=["m1"], joining=["m4"])
    assert change["refusals"] == []
    assert change["zookeeper_ids"] == {"m2": 2, "m3": 3, "m4": 1}
    assert change["lines"][0] == "ZooKeeper now: 3 members, 2 serve, 2 are a quorum"
    assert change["afterwards"][0].startswith("In the inventory: delete m1")


def test_replacement_that_would_lose_quorum_is_refused_with_whom_to_bring_back() -> None:
    world = World()
    world.dead("m1")
    world.dead("m2")
    world.fresh("m4", *CONTROL)
    (refusal,) = world.weigh(leaving=["m1"], joining=["m4"])["refusals"]
    assert "only 1 of 3" in refusal
    assert "bring back m2 first" in refusal


def test_replacement_under_another_number_is_refused() -> None:
    world = World()
    world.fresh("m4", *CONTROL, zookeeper_id=4)
    (refusal,) = world.weigh(leaving=["m1"], joining=["m4"])["refusals"]
    assert "give it 1" in refusal


def test_replacement_that_cannot_do_all_of_it_is_refused() -> None:
    world = World()
    world.fresh("m4", "mesos_masters", "marathon")
    refusals = world.weigh(leaving=["m1"], joining=["m4"], allow_even=True)["refusals"]
    assert any("add it to zookeeper" in one for one in refusals)


def test_even_number_is_refused_unless_it_is_asked_for() -> None:
    world = World()
    (refusal,) = world.weigh(leaving=["m1"])["refusals"]
    assert "node replace" in refusal
    assert world.weigh(leaving=["m1"], allow_even=True)["refusals"] == []


def test_two_members_at_once_are_refused_and_one_after_the_other_are_not() -> None:
    world = World()
    world.fresh("m4", *CONTROL, zookeeper_id=4)
    world.fresh("m5", *CONTROL, zookeeper_id=5)
    (refusal,) = world.weigh(joining=["m4", "m5"])["refusals"]
    assert "one at a time" in refusal
    first = world.weigh(joining=["m4"], later=["m5"], allow_even=True)
    assert first["refusals"] == []
    world.serves("m4", 4)
    assert world.weigh(joining=["m5"])["refusals"] == []


def test_numbers_that_would_move_with_the_inventory_are_named() -> None:
    world = World(ids=False)
    refusals = world.weigh(leaving=["m1"], allow_even=True)["refusals"]
    assert [one.split("`")[1] for one in refusals] == ["zookeeper_id: 2", "zookeeper_id: 3"]


def test_last_host_of_a_group_and_hosts_without_one_are_refused() -> None:
    world = World(agents=1)
    (refusal,) = world.weigh(leaving=["a1"])["refusals"]
    assert "group mesos_agents would have no host" in refusal
    with pytest.raises(MEMBERSHIP.AnsibleFilterError, match="nobody: in no group"):
        world.weigh(joining=["nobody"])
    with pytest.raises(MEMBERSHIP.AnsibleFilterError, match="name the hosts"):
        world.weigh(leaving=[""])


def test_host_that_does_not_answer_cannot_be_added() -> None:
    world = World()
    world.fresh("a3", "mesos_agents")
    world.dead("a3")
    assert world.weigh(joining=["a3"])["refusals"] == ["a3 does not answer: it cannot be set up"]


def test_who_leaves_is_in_no_address_and_keeps_its_number_from_others() -> None:
    hostvars: dict[str, dict[str, object]] = {
        "m1": {"cluster_absent": True},
        "m2": {},
        "m3": {},
    }
    hosts = list(hostvars)
    assert CLUSTER.zk_url(hosts, hostvars, "/mesos") == "zk://m2:2181,m3:2181/mesos"
    assert CLUSTER.zookeeper_ids(hosts, hostvars) == {"m2": 2, "m3": 3}
    assert CLUSTER.endpoints(hosts, hostvars, 5050) == ["m2:5050", "m3:5050"]
