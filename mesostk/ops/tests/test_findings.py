"""The filters over the inventory: addresses, ids, and what is found wrong."""

import re
from typing import Any

import jinja2
import pytest
import yaml

from mesostk.ops.paths import data_root
from mesostk.testing.plugins import load

cluster = load("filter_plugins", "cluster")


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


def test_words_in_place_of_values_leave_the_look_at_hosts_to_the_defaults() -> None:
    groups, hostvars = lab()
    hostvars["s1"] |= {
        "mesos_agent_port": "fifty",
        "mesos_agent_work_dir": 3,
        "mesos_agent_flags": ["isolation"],
        "mesos_agent_containerizers": None,
    }
    expected = cluster.expectations("s1", groups, hostvars)
    assert expected["listens"] == [{"port": 5051, "service": "mesos-agent"}]
    assert expected["cgroups"] == []


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


def test_words_where_numbers_belong_are_findings_like_the_others() -> None:
    groups, hostvars = lab()
    hostvars["m1"]["zookeeper_id"] = "first"
    hostvars["m2"]["mesos_master_quorum"] = "most"
    assert problems(groups, hostvars) == [
        "host m1: zookeeper_id is 'first'",
        "host m2: mesos_master_quorum most is not a majority of 3 masters",
    ]
    assert cluster.expectations("m1", groups, hostvars)["zookeeper_id"] == 1


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


def test_another_order_in_the_inventory_changes_no_file() -> None:
    """Each list of hosts that a role writes somewhere, and zoo.cfg, with the hosts turned round."""
    groups, hostvars = lab()
    for number, name in enumerate(groups["zookeeper"], 1):
        hostvars[name]["zookeeper_id"] = number
    turned = {name: hosts[::-1] for name, hosts in groups.items()}
    defaults: dict[str, Any] = {}
    for path in (data_root() / "roles").glob("*/defaults/main.yml"):
        defaults |= yaml.safe_load(path.read_text())
    zoo_cfg = (data_root() / "roles/zookeeper/templates/zoo.cfg.j2").read_text()
    lists = {
        name: text
        for name, text in defaults.items()
        if any(words in str(text) for words in ("| zk_url(", "| cluster_addresses("))
    }
    assert {"mesos_agent_master", "marathon_lb_marathons", "dns_client_servers"} <= lists.keys()
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= cluster.FilterModule().filters()
    environment.filters["regex_replace"] = lambda text, old, new: re.sub(old, new, text)

    def written(order: dict[str, list[str]]) -> dict[str, str]:
        ids = cluster.zookeeper_ids(order["zookeeper"], hostvars)
        known = {**defaults, "zookeeper_ids_by_host": ids, "groups": order, "hostvars": hostvars}
        texts = {"zoo.cfg": zoo_cfg, **lists}
        return {name: environment.from_string(text).render(known) for name, text in texts.items()}

    assert written(turned) == written(groups)
    assert "server.1=10.0.3.11:2888:3888\nserver.2=" in written(turned)["zoo.cfg"]


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


# -- hosts ----------------------------------------------------------------------------------------

NOW = 1_795_000_000.0


def report(**fields: Any) -> dict[str, Any]:
    """What host_check answers of a host without fault."""
    clock = {"asked_at": NOW - 3, "clock_s": NOW - 2}
    return {"findings": [], "unreached": [], **clock, **fields}


def host_problems(reports: dict[str, dict[str, Any]]) -> list[str]:
    groups, hostvars = lab()
    for host, one in reports.items():
        hostvars[host]["validate_host"] = one
    found = cluster.findings(groups, hostvars, NOW)
    assert all(one["remedy"] for one in found)
    return [f"{one['where']}: {one['problem']}" for one in found]


@pytest.mark.parametrize(
    ("asked_ago", "clock_ago", "words"),
    [
        (3.0, 2.0, None),
        (60.0, 30.0, None),  # a question that took long says nothing of the clock
        (3.0, 9.0, "6 s behind"),
        (3.0, -6.0, "6 s ahead of"),
        (3.0, 7.0, None),
    ],
)
def test_a_clock_is_wrong_only_where_no_delay_explains_it(
    asked_ago: float, clock_ago: float, words: str | None
) -> None:
    one = report(asked_at=NOW - asked_ago, clock_s=NOW - clock_ago)
    found = host_problems({"m1": one})
    assert found == [] if words is None else words in found[0]


def test_a_port_that_is_blocked_for_many_is_one_finding() -> None:
    blocked = {"host": "m1", "address": "10.0.3.11", "port": 2181, "reason": "no answer"}
    found = host_problems({host: report(unreached=[blocked]) for host in ("s1", "s2", "m2")})
    assert found == ["host m1: m2, s1, s2 cannot reach its 10.0.3.11:2181 (no answer)"]


def test_a_host_that_is_down_is_one_finding_with_the_remedy_of_what_ssh_says() -> None:
    down = {"unreachable": True, "msg": "ssh: connect to host 10.0.3.11 port 22: No route to host"}
    blocked = {"host": "m1", "address": "10.0.3.11", "port": 2181, "reason": "no answer"}
    groups, hostvars = lab()
    hostvars["m1"]["validate_host"] = down
    hostvars["s1"]["validate_host"] = report(unreached=[blocked])
    (found,) = cluster.findings(groups, hostvars, NOW)
    assert found["problem"].startswith("it cannot be reached: ssh: connect")
    assert "is the host up" in found["remedy"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"msg": "Missing sudo password"}, "sudo without a password"),
        ({"module_stderr": "/bin/sh: 1: /usr/bin/python3: not found"}, "install python3"),
        (
            {"msg": "The module interpreter '/usr/bin/python3' was not found."},
            "install python3",
        ),
        (
            {"unreachable": True, "msg": "root@h: Permission denied (publickey,password)."},
            "does not take the key",
        ),
        ({"unreachable": True, "msg": "Connection timed out during banner"}, "is the host up"),
        ({"msg": "Incorrect sudo password"}, "is not that user's"),
        ({"module_stderr": "/bin/sh: 1: sudo: not found"}, "install sudo"),
        ({"msg": "Timeout (12s) waiting for privilege escalation prompt: "}, "without a password"),
        (
            {"unreachable": True, "msg": "ssh: connect to host h port 22: Network is unreachable"},
            "own network",
        ),
        ({"msg": "something new"}, "-vvv"),
    ],
)
def test_what_ansible_says_of_a_host_is_mapped_to_a_remedy(
    said: dict[str, Any], words: str
) -> None:
    groups, hostvars = lab()
    hostvars["s3"]["validate_host"] = {"failed": True, **said}
    (found,) = cluster.findings(groups, hostvars, NOW)
    assert words in found["remedy"]


RUNNING = {"1": "10.0.3.11", "2": "10.0.3.12", "3": "10.0.3.13"}


@pytest.mark.parametrize(
    ("wanted", "words", "remedy"),
    [
        ("m1 m2 m3", None, ""),
        ("m3 m2 m1", None, ""),  # with its numbers, whatever the order
        ("m1 m2", None, ""),
        ("m1 m2 m3 m4", None, ""),
        ("m4 m2 m3", "1 (10.0.3.11) would leave and 4 (10.0.3.14) would join", "node replace"),
        ("m4=1 m2 m3", "1 (10.0.3.11) would leave and 1 (10.0.3.14) would join", "node replace"),
        ("m1=9 m2 m3", None, ""),  # the number of m1 is a finding of its own
        ("m3", "1 (10.0.3.11), 2 (10.0.3.12) would leave at once", "node remove"),
        ("m1 m2 m3 m4 m5", "4 (10.0.3.14), 5 (10.0.3.15) would join at once", "one at a time"),
    ],
)
def test_two_changes_of_the_ensemble_at_once_are_refused_and_one_is_not(
    wanted: str, words: str | None, remedy: str
) -> None:
    groups, hostvars = lab()
    for number in range(1, 6):
        hostvars[f"m{number}"] = {"ansible_host": f"10.0.3.{10 + number}", "zookeeper_id": number}
        if number <= 3:
            hostvars[f"m{number}"]["validate_host"] = report(ensemble=RUNNING)
    groups["zookeeper"] = [word.partition("=")[0] for word in wanted.split()]
    for name, _, given in (word.partition("=") for word in wanted.split()):
        if given:
            hostvars[name]["zookeeper_id"] = int(given)
    found = [
        one for one in cluster.findings(groups, hostvars, NOW) if "two majorities" in one["problem"]
    ]
    assert [one["problem"] for one in found if words is None] == []
    if words is not None:
        (one,) = found
        assert words in one["problem"]
        assert remedy in one["remedy"]


def test_members_with_their_data_under_new_addresses_are_the_same_members() -> None:
    groups, hostvars = lab()
    for number, name in enumerate(groups["zookeeper"], 1):
        hostvars[name] = {
            "ansible_host": f"10.9.0.{number}",
            "zookeeper_id": number,
            "validate_host": report(ensemble=RUNNING),
        }
    assert cluster.findings(groups, hostvars, NOW) == []


def test_the_report_names_equal_findings_once_and_errors_first() -> None:
    warning = {"problem": "clock", "remedy": "chrony", "level": "warning"}
    error = {"problem": "full", "remedy": "make room", "level": "error"}
    groups, hostvars = lab()
    hostvars["m1"]["validate_host"] = report(findings=[warning, error])
    hostvars["m2"]["validate_host"] = report(findings=[error])
    text = cluster.finding_text(cluster.findings(groups, hostvars, NOW))
    assert text.splitlines() == [
        "- hosts m1, m2: full. Remedy: make room.",
        "- warning: host m1: clock. Remedy: chrony.",
    ]


def test_each_host_is_looked_at_for_what_its_groups_need() -> None:
    groups, hostvars = lab()
    hostvars["m2"] |= {"mesos_master_port": 15050, "zookeeper_id": 9}
    hostvars["s1"] |= {"mesos_agent_containerizers": ["docker"], "validate_keep_data": True}
    agent = cluster.expectations("s1", groups, hostvars)
    assert agent["listens"] == [{"port": 5051, "service": "mesos-agent"}]
    assert {(one["host"], one["port"]) for one in agent["reaches"]} == {
        *((master, 2181) for master in ("m1", "m2", "m3")),
        ("m1", 5050),
        ("m2", 15050),
        ("m3", 5050),
    }
    assert agent["cgroups"] == ["cpu", "memory"]
    assert agent["data"] == []
    assert "zookeeper_id" not in agent
    master = cluster.expectations("m2", groups, hostvars)
    assert {one["port"] for one in master["listens"]} == {2181, 2888, 3888, 15050, 8080}
    assert {one["host"] for one in master["reaches"]} == {"m1", "m3", "s1", "s2", "s3"}
    assert master["zookeeper_id"] == 9
    assert {one["service"] for one in master["data"]} == {"zookeeper"}


def test_ports_and_directories_are_those_of_the_roles() -> None:
    defaults: dict[str, Any] = {}
    for path in (data_root() / "roles").glob("*/defaults/main.yml"):
        defaults |= yaml.safe_load(path.read_text())
    ports = {name: port for ports in cluster.PORTS.values() for name, port, _ in ports}
    paths = {name: path for name, path, _ in cluster.DISKS.values()}
    for name, value in {**ports, **paths}.items():
        assert defaults[name] == value, name
