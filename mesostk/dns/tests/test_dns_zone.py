"""Records of every rule, and the zone's index against all facts made anew."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.dns import facts
from mesostk.dns.facts import Agent, Framework, Masters, Port, Task
from mesostk.dns.records import (
    Record,
    Rules,
    agent_records,
    framework_records,
    master_records,
    task_ips,
    task_records,
)
from mesostk.dns.zone import Zone

RULES = Rules()
AGENT_IPS = ("10.0.3.51",)

#: The worked example of spec/dns-lb-autoscale.md §1.8.
NGINX = Task(
    id="test",
    name="nginx",
    framework_id="F",
    agent_id="x-S0",
    is_running=True,
    ports=(31000, 31001),
    discovery_name="nginx",
    discovery_ports=(Port(31514, "http", "tcp"), Port(31515, "stats", "udp")),
    netinfo=("172.17.0.2",),
)
OWN = "nginx-iffe9-s0"


def lines(records: list[Record]) -> list[str]:
    return [f"{one.name} {one.type} {one.value}" for one in records]


def test_a_task_with_discovery_info_has_the_originals_twelve_records() -> None:
    assert lines(task_records(NGINX, "marathon", AGENT_IPS, RULES)) == [
        "nginx.marathon.mesos A 172.17.0.2",
        f"{OWN}.marathon.mesos A 172.17.0.2",
        "nginx.marathon.slave.mesos A 10.0.3.51",
        f"{OWN}.marathon.slave.mesos A 10.0.3.51",
        f"_nginx._tcp.marathon.slave.mesos SRV {OWN}.marathon.slave.mesos:31000",
        f"_nginx._udp.marathon.slave.mesos SRV {OWN}.marathon.slave.mesos:31000",
        f"_nginx._tcp.marathon.slave.mesos SRV {OWN}.marathon.slave.mesos:31001",
        f"_nginx._udp.marathon.slave.mesos SRV {OWN}.marathon.slave.mesos:31001",
        f"_nginx._tcp.marathon.mesos SRV {OWN}.marathon.mesos:31514",
        f"_http._nginx._tcp.marathon.mesos SRV {OWN}.marathon.mesos:31514",
        f"_nginx._udp.marathon.mesos SRV {OWN}.marathon.mesos:31515",
        f"_stats._nginx._udp.marathon.mesos SRV {OWN}.marathon.mesos:31515",
    ]


def test_without_discovery_info_ports_of_the_agent_are_under_the_tasks_name() -> None:
    task = Task(
        id="test", name="a.b", framework_id="F", agent_id="S1", is_running=True, ports=(31005,)
    )
    assert lines(task_records(task, "marathon", AGENT_IPS, RULES)) == [
        "a-b.marathon.mesos A 10.0.3.51",
        "a-b-iffe9-s1.marathon.mesos A 10.0.3.51",
        "a-b.marathon.slave.mesos A 10.0.3.51",
        "a-b-iffe9-s1.marathon.slave.mesos A 10.0.3.51",
        "_a-b._tcp.marathon.slave.mesos SRV a-b-iffe9-s1.marathon.slave.mesos:31005",
        "_a-b._tcp.marathon.mesos SRV a-b-iffe9-s1.marathon.slave.mesos:31005",
        "_a-b._udp.marathon.slave.mesos SRV a-b-iffe9-s1.marathon.slave.mesos:31005",
        "_a-b._udp.marathon.mesos SRV a-b-iffe9-s1.marathon.slave.mesos:31005",
    ]


def test_a_discovery_name_is_there_as_given_and_as_label() -> None:
    task = msgspec.structs.replace(NGINX, discovery_name="Web.prod.shop", discovery_ports=())
    names = {one.name for one in task_records(task, "marathon", AGENT_IPS, RULES)}
    assert {"web.prod.shop.marathon.mesos", "web-prod-shop.marathon.mesos"} <= names
    assert "_web.prod.shop._tcp.marathon.slave.mesos" in names


@pytest.mark.parametrize(
    ("protocol", "wanted"),
    [("", {"tcp", "udp"}), ("TCP", {"tcp"}), ("udp,tcp", {"tcp", "udp"}), ("sctp", {"sctp"})],
)
def test_protocols_of_a_port(protocol: str, wanted: set[str]) -> None:
    task = msgspec.structs.replace(NGINX, ports=(), discovery_ports=(Port(80, "", protocol),))
    srv = [one for one in task_records(task, "m", AGENT_IPS, RULES) if one.type == "SRV"]
    assert {one.name for one in srv} == {f"_nginx._{name}.m.mesos" for name in wanted}


def test_an_unusable_name_leaves_the_tasks_own_name() -> None:
    task = Task(
        id="test", name="$$$", framework_id="F", agent_id="S1", is_running=True, ports=(80,)
    )
    assert lines(task_records(task, "marathon", AGENT_IPS, RULES)) == [
        "iffe9-s1.marathon.mesos A 10.0.3.51",
        "iffe9-s1.marathon.slave.mesos A 10.0.3.51",
    ]


@pytest.mark.parametrize(
    ("sources", "wanted"),
    [
        (("netinfo", "mesos", "host"), ("1.1.1.1",)),
        (("docker", "host"), ("3.3.3.3",)),
        (("mesos",), ("2.2.2.2", "::2")),
        (("host", "netinfo"), AGENT_IPS),
    ],
)
def test_the_first_source_with_an_address_wins(
    sources: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    task = msgspec.structs.replace(
        NGINX, netinfo=("1.1.1.1",), docker=("3.3.3.3",), mesos=("2.2.2.2", "::2")
    )
    assert task_ips(task, AGENT_IPS, Rules(ip_sources=sources)) == wanted


def test_no_address_means_no_address_record() -> None:
    task = msgspec.structs.replace(NGINX, netinfo=())
    made = task_records(task, "marathon", (), Rules(ip_sources=("docker",)))
    assert {one.type for one in made} == {"SRV"}


def test_only_running_tasks_have_names() -> None:
    task = msgspec.structs.replace(NGINX, is_running=False)
    assert task_records(task, "marathon", AGENT_IPS, RULES) == []


def test_ipv6_addresses_are_aaaa() -> None:
    task = msgspec.structs.replace(NGINX, netinfo=("fd00::7", "10.9.9.9"))
    made = task_records(task, "marathon", AGENT_IPS, RULES)
    assert Record("nginx.marathon.mesos", "AAAA", "fd00::7") in made
    assert Record("nginx.marathon.mesos", "A", "10.9.9.9") in made


def test_a_scheduler_with_a_pid_has_a_port() -> None:
    plain = Framework("F", "marathon", "m1")
    assert lines(framework_records(plain, ("10.0.3.11",), RULES)) == ["marathon.mesos A 10.0.3.11"]
    old = Framework("F", "marathon", "m1", 31111)
    assert lines(framework_records(old, ("10.0.3.11",), RULES))[1] == (
        "_framework._tcp.marathon.mesos SRV marathon.mesos:31111"
    )
    assert framework_records(plain, (), RULES) == []


def test_agents_share_a_name() -> None:
    assert lines(agent_records(Agent("S0", "10.0.3.51", 5051), AGENT_IPS, RULES)) == [
        "slave.mesos A 10.0.3.51",
        "_slave._tcp.mesos SRV slave.mesos:5051",
    ]


def test_masters_are_counted_in_order() -> None:
    masters = Masters("10.0.3.12:5050", ("10.0.3.11:5050", "10.0.3.12:5050", "10.0.3.11:5050"))
    assert lines(master_records(masters, Rules(own_ips=("10.0.3.60",)))) == [
        "leader.mesos A 10.0.3.12",
        "_leader._tcp.mesos SRV leader.mesos:5050",
        "_leader._udp.mesos SRV leader.mesos:5050",
        "master.mesos A 10.0.3.12",
        "master.mesos A 10.0.3.11",
        "master0.mesos A 10.0.3.11",
        "master1.mesos A 10.0.3.12",
        "ns1.mesos A 10.0.3.60",
    ]


def test_a_leader_that_is_no_member_comes_last() -> None:
    made = master_records(Masters("10.0.3.13:5050", ("10.0.3.11:5050", "m2:5050")), RULES)
    assert Record("master1.mesos", "A", "10.0.3.13") in made
    assert not [one for one in made if one.name == "master2.mesos"]


# -- the index ---------------------------------------------------------------------------------


def made_zone() -> Zone:
    zone = Zone(RULES)
    zone.apply(
        facts.Snapshot(
            (Agent("x-S0", "10.0.3.51", 5051), Agent("x-S1", "10.0.3.52", 5051)),
            (Framework("F", "marathon", "10.0.3.11"),),
            (NGINX,),
        )
    )
    zone.check()
    zone.changed.clear()
    return zone


def test_a_second_task_of_a_name_changes_that_name_and_its_own_only() -> None:
    zone = made_zone()
    second = msgspec.structs.replace(NGINX, id="nginx.2", netinfo=("172.17.0.3",))
    zone.apply(facts.TaskPut(second))
    assert zone.values("nginx.marathon.mesos", "A") == ["172.17.0.2", "172.17.0.3"]
    assert f"{OWN}.marathon.mesos" not in zone.changed
    assert "slave.mesos" not in zone.changed
    zone.apply(facts.TaskGone("F", "test"))
    zone.check()
    assert zone.values("nginx.marathon.mesos", "A") == ["172.17.0.3"]


def test_a_changed_address_changes_the_answers_that_carry_it() -> None:
    zone = made_zone()
    zone.apply(facts.TaskPut(msgspec.structs.replace(NGINX, netinfo=("172.17.0.9",))))
    # SRV answers hold the address of their target.
    assert "_nginx._tcp.marathon.mesos" in zone.changed
    assert "_nginx._tcp.marathon.slave.mesos" not in zone.changed


def test_the_same_fact_again_changes_nothing() -> None:
    zone = made_zone()
    zone.apply(facts.TaskPut(NGINX))
    zone.apply(facts.AgentPut(Agent("x-S0", "10.0.3.51", 5051)))
    assert zone.changed == set()


def test_an_agent_takes_its_tasks_along() -> None:
    zone = made_zone()
    zone.apply(facts.AgentGone("x-S0"))
    zone.check()
    assert "nginx.marathon.mesos" not in zone
    assert zone.values("slave.mesos", "A") == ["10.0.3.52"]


def test_a_host_name_is_an_address_once_it_is_resolved() -> None:
    zone = made_zone()
    zone.apply(facts.AgentPut(Agent("x-S0", "agent1.example", 5051)))
    assert zone.unresolved() == {"agent1.example"}
    assert zone.values("nginx.marathon.slave.mesos", "A") == []
    zone.apply(facts.Resolved("agent1.example", ("10.0.3.77",)))
    zone.check()
    assert zone.values("nginx.marathon.slave.mesos", "A") == ["10.0.3.77"]
    assert zone.unresolved() == set()


def test_tasks_of_agents_that_a_new_leader_waits_for_are_kept() -> None:
    zone = made_zone()
    zone.apply(facts.Snapshot((), (), (), frozenset({"x-S0"})))
    zone.check()
    assert zone.values("nginx.marathon.mesos", "A") == ["172.17.0.2"]
    assert zone.values("slave.mesos", "A") == ["10.0.3.51"]
    zone.apply(facts.Snapshot((), (), ()))
    assert "nginx.marathon.mesos" not in zone


AGENTS = st.builds(
    Agent, st.sampled_from(["a-S0", "a-S1"]), st.sampled_from(["10.0.0.1", "10.0.0.2", "h"]),
    st.sampled_from([5051, 5052]),
)  # fmt: skip
FRAMEWORKS = st.builds(
    Framework, st.sampled_from(["F1", "F2"]), st.sampled_from(["marathon", "x.y", "$"]),
    st.sampled_from(["", "h", "10.0.0.9"]), st.sampled_from([None, 99]),
)  # fmt: skip
TASKS = st.builds(
    Task,
    id=st.sampled_from(["t1", "t2", "t3"]),
    name=st.sampled_from(["web", "Web", "a.b", "$"]),
    framework_id=st.sampled_from(["F1", "F2"]),
    agent_id=st.sampled_from(["a-S0", "a-S1"]),
    is_running=st.booleans(),
    ports=st.sampled_from([(), (31000,), (31000, 31001)]),
    discovery_name=st.sampled_from(["", "web", "a.b"]),
    discovery_ports=st.sampled_from([(), (Port(80, "http", "tcp"),), (Port(81),)]),
    netinfo=st.sampled_from([(), ("172.17.0.2",), ("172.17.0.2", "fd00::1")]),
)
CHANGES = st.one_of(
    st.builds(facts.AgentPut, AGENTS),
    st.builds(facts.FrameworkPut, FRAMEWORKS),
    st.builds(facts.TaskPut, TASKS),
    st.builds(facts.AgentGone, st.sampled_from(["a-S0", "a-S1"])),
    st.builds(facts.FrameworkGone, st.sampled_from(["F1", "F2"])),
    st.builds(facts.TaskGone, st.sampled_from(["F1", "F2"]), st.sampled_from(["t1", "t2"])),
    st.builds(facts.Resolved, st.just("h"), st.sampled_from([(), ("10.7.7.7",)])),
    st.builds(facts.Masters, st.sampled_from([None, "10.0.0.1:5050"])),
    st.builds(
        facts.Snapshot,
        st.tuples(AGENTS),
        st.tuples(FRAMEWORKS),
        st.tuples(TASKS),
        st.sampled_from([frozenset(), frozenset({"a-S1"})]),
    ),
)


@given(st.lists(CHANGES, max_size=25))
@settings(max_examples=150)
def test_the_index_is_always_what_the_facts_make(changes: list[facts.Change]) -> None:
    zone = Zone(RULES)
    for change in changes:
        before = {name: [zone.values(name, kind) for kind in ("A", "AAAA", "SRV")]
                  for name in zone.names()}  # fmt: skip
        zone.changed.clear()
        zone.apply(change)
        zone.check()
        for name in {*before, *zone.names()}:
            after = [zone.values(name, kind) for kind in ("A", "AAAA", "SRV")]
            if after != before.get(name, [[], [], []]):
                assert name in zone.changed


@given(st.lists(CHANGES, max_size=10))
@settings(max_examples=50)
def test_changes_survive_the_way_to_a_worker(changes: list[facts.Change]) -> None:
    from mesostk.dns.naming import Batch

    batch = Batch(7, True, tuple(changes))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=Batch) == batch


@given(st.lists(CHANGES, max_size=25))
@settings(max_examples=150)
def test_small_steps_lead_where_the_change_leads_at_once(changes: list[facts.Change]) -> None:
    at_once, stepwise = Zone(RULES), Zone(RULES)
    for change in changes:
        at_once.apply(change)
        for step in stepwise.steps(change):
            assert not isinstance(step, facts.Snapshot)
            stepwise.apply(step)
        assert stepwise.tasks == at_once.tasks
        assert stepwise.agents == at_once.agents
        assert stepwise.frameworks == at_once.frameworks
        stepwise.check()
