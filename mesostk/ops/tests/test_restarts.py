"""Plans: what follows from changed files and services, in which order, with what is left."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import yaml

from mesostk.ops.paths import data_root
from mesostk.ops.restarts import (
    ORDER,
    AgentShare,
    HostChange,
    ServiceState,
    read_changes,
    read_services,
    steps,
    watched,
)

MASTERS = ("m1", "m2", "m3")
AGENTS = {"s1": AgentShare(4.0, 1024.0), "s2": AgentShare(2.0, 1024.0)}


def service(
    host: str,
    name: str,
    due: Literal["none", "start", "restart"] = "none",
    *,
    leader: bool = False,
) -> ServiceState:
    watch = (f"/etc/{name}", "/opt/mesostk/current")
    return ServiceState(host=host, name=name, due=due, leader=leader, watch=watch, why="")


def changed(host: str, path: str) -> HostChange:
    return HostChange(host=host, task="Write", path=path)


def test_the_order_is_that_of_the_playbook() -> None:
    plays = yaml.safe_load((data_root() / "playbooks" / "rollout.yml").read_text())
    named = [play["vars"]["rollout_service"] for play in plays if "vars" in play]
    assert tuple(named) == ORDER


@pytest.mark.parametrize(
    ("path", "watch", "expected"),
    [
        ("/etc/a", ["/etc/a"], True),
        ("/etc/a/b", ["/etc/a"], True),
        ("/etc/a/b", ["/etc/a/"], True),
        ("/etc/ab", ["/etc/a"], False),
        ("/etc", ["/etc/a"], False),
        ("", ["/etc/a"], False),
    ],
)
def test_a_watched_directory_watches_what_is_in_it(
    path: str, watch: list[str], expected: bool
) -> None:
    assert watched(path, watch) is expected


def test_nothing_follows_from_nothing() -> None:
    assert steps([], [service(host, "mesos-master") for host in MASTERS], AGENTS) == []


def test_the_leader_comes_last_and_services_in_the_order_of_the_rollout() -> None:
    services = [
        *(service(host, "marathon", leader=host == "m2") for host in MASTERS),
        *(service(host, "mesos-master", leader=host == "m1") for host in MASTERS),
        *(service(host, "zookeeper") for host in MASTERS),
    ]
    release = [changed(host, "/opt/mesostk/current") for host in MASTERS]
    found = steps([*release, changed("m3", "/etc/zookeeper/zoo.cfg")], services, {})
    assert [(one.play, one.hosts, one.batches) for one in found] == [
        ("Restart zookeeper", ("m1", "m2", "m3"), 3),
        ("Restart mesos-master", ("m2", "m3", "m1"), 3),
        ("Restart marathon", ("m1", "m3", "m2"), 3),
    ]
    assert found[0].capacity == "2 of 3 serve"
    assert found[0].why == ("/etc/zookeeper/zoo.cfg", "/opt/mesostk/current")


def test_only_hosts_whose_files_change_are_restarted() -> None:
    services = [service(host, "mesos-agent") for host in AGENTS]
    (found,) = steps([changed("s1", "/etc/mesos-agent/ip")], services, AGENTS)
    assert found.hosts == ("s1",)
    assert found.capacity == "tasks run on; 2 of 6 cpus are offered"


def test_what_is_due_already_is_planned_without_a_change() -> None:
    services = [service("m1", "mesos-dns", "restart"), service("m2", "mesos-dns", "start")]
    started, restarted = steps([], services, {})
    assert (started.kind, started.hosts, started.batches) == ("start", ("m2",), 1)
    assert (restarted.kind, restarted.hosts) == ("restart", ("m1",))
    assert restarted.capacity == "1 of 2 serve"


def test_a_service_that_is_installed_only_now_is_started_with_its_peers() -> None:
    record = "/etc/mesostk/services/zookeeper.json"
    (found,) = steps([changed("m1", record), changed("m2", record)], [], {})
    assert (found.kind, found.hosts) == ("start", ("m1", "m2"))
    assert found.why == ("it is installed",)


@pytest.mark.parametrize(
    ("name", "members", "words"),
    [
        ("zookeeper", 1, "no quorum"),
        ("zookeeper", 2, "no quorum"),
        ("zookeeper", 5, "4 of 5 serve"),
        ("mesos-master", 1, "nobody leads; tasks run on"),
        ("haproxy", 1, "no haproxy serves"),
        ("docker", 3, "containers run on"),
    ],
)
def test_the_capacity_during_a_restart_is_told(name: str, members: int, words: str) -> None:
    services = [service(f"h{n}", name, "restart" if n == 0 else "none") for n in range(members)]
    (found,) = steps([], services, {})
    assert words in found.capacity


@pytest.mark.parametrize(
    ("result", "paths"),
    [
        ({"changed": False, "diff": [{"before_header": "/a"}]}, []),
        ({"changed": True}, [""]),
        ({"changed": True, "diff": []}, [""]),
        ({"changed": True, "diff": {"before": "", "after": ""}}, [""]),
        (
            {"changed": True, "diff": [{"after_header": "/a (mode)"}, {"before_header": "/b"}]},
            ["/a", "/b"],
        ),
    ],
)
def test_changes_are_read_from_what_ansible_says(result: dict[str, Any], paths: list[str]) -> None:
    assert [one.path for one in read_changes("h", "t", result)] == paths


def test_a_difference_has_the_lines_that_differ() -> None:
    diff = {"before_header": "/a", "before": "x\ny\n", "after": "x\nz\n"}
    (found,) = read_changes("h", "t", {"changed": True, "diff": diff})
    assert found.difference == "@@ -1,2 +1,2 @@\n x\n-y\n+z"


def test_services_without_what_they_watch_are_no_report() -> None:
    one = {"name": "marathon", "due": "restart", "why": "w", "leader": True, "watch": ["/a"]}
    (found,) = read_services("h", {"services": [one, {"name": "b", "due": "none", "why": ""}]})
    assert (found.host, found.name, found.watch) == ("h", "marathon", ("/a",))
