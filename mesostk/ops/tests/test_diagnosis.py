"""What the doctor says of a cluster, as a table of clusters with one thing wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesostk.ops.diagnosis import AgentSeen, AppSeen, Member, Seen, StepSeen, diagnose
from mesostk.ops.restarts import ServiceState


def agent(host: str, **fields: Any) -> AgentSeen:
    well = AgentSeen(
        host=host, active=True, deactivated=False, draining=False, cpus=2.0, mem_mib=512.0
    )
    return msgspec.structs.replace(well, **fields)


def step(service: str, has: str, should: str) -> StepSeen:
    return msgspec.convert(
        {"service": service, "host": "m1", "app": "/web", "has": [has], "should": [should]},
        StepSeen,
    )


def service(**fields: Any) -> ServiceState:
    well = ServiceState(host="m1", name="marathon", due="none", up_s=9000.0)
    return msgspec.structs.replace(well, **fields)


MEMBERS = (
    Member("master", "m1", "leading"),
    Member("master", "m2", "standby"),
    Member("marathon", "m1", "standby"),
    Member("marathon", "m2", "leading"),
)
WELL = Seen(
    zookeeper={"m1": "follower", "m2": "leader", "m3": "follower"},
    members=MEMBERS,
    elected_s=5000.0,
    leader_up_s=9000.0,
    agents=[agent("s1"), agent("s2")],
    expected_agents=["s1", "s2"],
    has_marathon_framework=True,
    apps=[AppSeen(id="/web", wanted=2, running=2, deploying=False)],
    steps=[step("mesos-dns", "10.0.3.51", "10.0.3.51"), step("marathon-lb", "2", "2")],
    services=[service(), service(restarts=9), service(up_s=3.0)],
)


def test_a_cluster_that_is_well_has_no_finding() -> None:
    assert diagnose(WELL) == []
    assert diagnose(Seen()) == []


def members(**states: str) -> list[Member]:
    return [
        Member(one.kind, one.host, states.get(f"{one.kind}_{one.host}", one.state), "why")
        for one in MEMBERS
    ]


@pytest.mark.parametrize(
    ("wrong", "subject", "problem", "remedy"),
    [
        (
            {"zookeeper": {"m1": None, "m2": "leader", "m3": "follower"}},
            "zookeeper on m1",
            "2 of 3",
            "mesostk cluster deploy --limit m1",
        ),
        (
            {"zookeeper": {"m1": None, "m2": None, "m3": "follower"}},
            "zookeeper",
            "quorum is lost: 1 of 3 serve, m1, m2 not",
            "mesostk cluster deploy --limit m1,m2",
        ),
        (
            {"zookeeper": {"m1": "standalone", "m2": "leader", "m3": "follower"}},
            "zookeeper",
            "not one ensemble",
            "mesostk cluster deploy --limit m1,m2",
        ),
        (
            {"members": members(master_m2="unreachable")},
            "mesos-master on m2",
            "does not answer: why",
            "mesostk cluster deploy --limit m2",
        ),
        (
            {"members": members(master_m2="leading")},
            "mesos-master",
            "m1 and m2 both",
            "mesostk status",
        ),
        (
            {"members": members(marathon_m2="standby")},
            "marathon",
            "nobody leads",
            "ssh m1 sudo systemctl restart marathon",
        ),
        (
            {"services": [service(restarts=4, up_s=20.0)]},
            "marathon on m1",
            "4 restarts, the last 20 s ago",
            "journalctl -u marathon",
        ),
        ({"elected_s": 5.0}, "mesos-master", "since 5 s only", "doctor, again"),
        (
            {"agents": [agent("s1")]},
            "agent s2",
            "not registered",
            "mesostk cluster deploy --limit s2",
        ),
        (
            {"agents": [agent("s1"), agent("s2", active=False)]},
            "agent s2",
            "does not hear it",
            "mesostk cluster deploy --limit s2",
        ),
        (
            {"agents": [agent("s1"), agent("s2", cpus=0.0)]},
            "agent s2",
            "offers nothing: 0 cpus",
            "mesos_agent_resources",
        ),
        (
            {"agents": [agent("s1"), agent("s2", deactivated=True)]},
            "agent s2",
            "deactivated",
            "mesostk undrain s2",
        ),
        (
            {"has_marathon_framework": False},
            "marathon",
            "not registered with the master",
            "ssh m2 sudo systemctl restart marathon",
        ),
        (
            {"apps": [AppSeen(id="/web", wanted=2, running=1, deploying=False)]},
            "app /web",
            "1 of 2",
            "mesostk why /web",
        ),
        (
            {"steps": [step("mesos-dns", "10.0.3.51", "10.0.3.52")]},
            "mesos-dns on m1",
            "10.0.3.51 for /web, Marathon 10.0.3.52",
            "ssh m1 sudo systemctl restart mesos-dns",
        ),
        (
            {"deaf": [("marathon-lb", "m1", "it does not hear Marathon")]},
            "marathon-lb on m1",
            "does not hear",
            "ssh m1 sudo systemctl restart marathon-lb",
        ),
        (
            {"deaf": [("mesos-dns", "m1", "Mesos-DNS cannot be reached (refused)")]},
            "mesos-dns on m1",
            "cannot be reached",
            "mesostk cluster deploy --limit m1",
        ),
        (
            {"services": [service(due="restart", why="its configuration changed")]},
            "marathon on m1",
            "its configuration changed",
            "mesostk cluster deploy --limit m1",
        ),
        (
            {
                "host_findings": [
                    {"where": "host m1", "problem": "p", "remedy": "r", "level": "error"}
                ]
            },
            "host m1",
            "p",
            "r",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_one_finding_with_its_remedy(
    wrong: dict[str, Any], subject: str, problem: str, remedy: str
) -> None:
    (found,) = diagnose(msgspec.structs.replace(WELL, **wrong))
    assert found.subject == subject
    assert problem in found.problem
    assert remedy in found.remedy


@pytest.mark.parametrize(
    "harmless",
    [
        {"elected_s": 5.0, "leader_up_s": 6.0},  # the cluster was only now started
        {"agents": [agent("s1"), agent("s2", deactivated=True, draining=True)]},
        {"apps": [AppSeen(id="/web", wanted=2, running=1, deploying=True)]},
        {"services": [service(restarts=1, up_s=5.0)]},  # a leader that lost its session
        {"agents": None},  # nobody leads: that is the finding
    ],
)
def test_what_passes_by_itself_is_no_finding(harmless: dict[str, Any]) -> None:
    assert diagnose(msgspec.structs.replace(WELL, **harmless)) == []


def test_without_a_quorum_nothing_else_is_blamed_for_it() -> None:
    lost = {"m1": None, "m2": None, "m3": "follower"}
    nobody = [Member(one.kind, one.host, "standby") for one in MEMBERS]
    seen = msgspec.structs.replace(
        WELL, zookeeper=lost, members=nobody, agents=None, has_marathon_framework=None
    )
    (found,) = diagnose(seen)
    assert found.subject == "zookeeper"


def test_errors_come_before_warnings() -> None:
    seen = msgspec.structs.replace(
        WELL,
        agents=[agent("s1", deactivated=True)],
        expected_agents=["s1", "s2"],
    )
    assert [one.level for one in diagnose(seen)] == ["error", "warning"]
