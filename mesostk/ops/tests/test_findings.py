"""The filters over the inventory: addresses, ids, and what is found wrong."""

import importlib.util
from types import ModuleType
from typing import Any

import pytest
import yaml

from mesostk.ops.paths import data_root


def load() -> ModuleType:
    path = data_root() / "playbooks" / "filter_plugins" / "cluster.py"
    spec = importlib.util.spec_from_file_location("filter_cluster", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cluster = load()


def lab() -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """The tutorial's six hosts, without fault."""
    masters = ["m1", "m2", "m3"]
    agents = ["s1", "s2", "s3"]
    groups = {
        "all": masters + agents,
        "zookeeper": masters,
        "mesos_masters": masters,
        "marathon": masters,
        "mesos_agents": agents,
    }
    hostvars: dict[str, dict[str, Any]] = {
        name: {"ansible_host": f"10.0.3.{11 + number}"}
        for number, name in enumerate(masters + agents)
    }
    return groups, hostvars


def problems(groups: dict[str, list[str]], hostvars: dict[str, dict[str, Any]]) -> list[str]:
    found = cluster.findings(groups, hostvars)
    assert all(one["remedy"] for one in found)
    return [f"{one['where']}: {one['problem']}" for one in found]


def test_the_tutorials_inventory_has_no_finding() -> None:
    assert problems(*lab()) == []


def test_even_number_of_zookeepers_is_found() -> None:
    groups, hostvars = lab()
    groups["zookeeper"] = ["m1", "m2"]
    (found,) = problems(groups, hostvars)
    assert found.startswith("group zookeeper: 2 hosts")


def test_host_in_no_group_is_found() -> None:
    groups, hostvars = lab()
    groups["all"].append("stray")
    hostvars["stray"] = {}
    assert problems(groups, hostvars) == [
        (
            "host stray: it is in none of the groups zookeeper, mesos_masters, mesos_agents, "
            "marathon, mesos_dns, marathon_lb"
        )
    ]


def test_all_findings_come_at_once() -> None:
    groups, hostvars = lab()
    groups["mesos_agents"] = []
    groups["all"] = ["m1", "m2", "m3"]
    hostvars["m2"]["ansible_host"] = hostvars["m1"]["ansible_host"]
    hostvars["m1"] |= {"zookeeper_id": 7, "mesos_quorum": 2}
    hostvars["m2"]["zookeeper_id"] = 7
    hostvars["m3"] |= {"zookeeper_id": 300, "mesos_master_quorum": 1}
    found = problems(groups, hostvars)
    for words in (
        "group mesos_agents: it has no host",
        "host m2: it has the address 10.0.3.11 of m1",
        "host m2: zookeeper_id 7 is that of m1 too",
        "host m3: zookeeper_id is 300",
        "host m1: variable mesos_quorum is not known",
        "host m3: mesos_master_quorum 1 is not a majority of 3 masters",
    ):
        assert any(one.startswith(words) for one in found), (words, found)


def test_loopback_address_among_several_hosts_is_found() -> None:
    groups, hostvars = lab()
    hostvars["s1"]["ansible_host"] = "127.0.0.1"
    assert problems(groups, hostvars) == ["host s1: the other hosts cannot reach 127.0.0.1"]
    hostvars["s1"]["common_address"] = "10.0.3.99"
    assert problems(groups, hostvars) == []


def test_explicit_zookeeper_ids_never_move() -> None:
    hostvars = {"a": {}, "b": {"zookeeper_id": 1}, "c": {}}
    assert cluster.zookeeper_ids(["a", "b", "c"], hostvars) == {"a": 2, "b": 1, "c": 3}
    assert cluster.zookeeper_ids(["b", "c"], hostvars) == {"b": 1, "c": 2}


@pytest.mark.parametrize(("hosts", "wanted"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_majority(hosts: int, wanted: int) -> None:
    assert cluster.majority(list(range(hosts))) == wanted


def test_zk_url_names_every_member() -> None:
    groups, hostvars = lab()
    assert (
        cluster.zk_url(groups["zookeeper"], hostvars, "/mesos")
        == "zk://10.0.3.11:2181,10.0.3.12:2181,10.0.3.13:2181/mesos"
    )


# -- addresses of services ------------------------------------------------------------------------


def test_endpoint_has_the_port_of_its_own_host() -> None:
    hostvars = {
        "a": {"ansible_host": "10.0.0.1", "mesos_dns_port": 8053},
        "b": {"ansible_host": "10.0.0.2"},
    }
    found = cluster.endpoints(["a", "b"], hostvars, "mesos_dns_port", 53)
    assert found == ["10.0.0.1:8053", "10.0.0.2:53"]
    assert cluster.endpoints(["b"], hostvars, 5050) == ["10.0.0.2:5050"]


def test_probe_app_is_for_every_balancer_there_is() -> None:
    hostvars = {"a": {"marathon_lb_groups": ["web", "*"]}, "b": {"marathon_lb_groups": ["api"]}}
    assert cluster.balancer_groups(["a", "b"], hostvars) == ["api", "web"]
    assert cluster.balancer_groups(["a"], {"a": {"marathon_lb_groups": ["*"]}}) == ["external"]


def test_balancers_groups_are_by_default_those_of_the_role() -> None:
    defaults = data_root() / "roles" / "marathon_lb" / "defaults" / "main.yml"
    known = yaml.safe_load(defaults.read_text())["marathon_lb_groups"]
    assert cluster.balancer_groups(["a"], {"a": {}}) == known
