"""A network that loses packets between some hosts, as real processes in network namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesostk.testing.namespaces import Namespaces
from mesostk.testing.processes import Cluster, Unit, until
from mesostk.testing.requirements import require_zookeeper

pytestmark = [pytest.mark.zookeeper, pytest.mark.root]

#: Members of ZooKeeper, in the test's own namespace.
ZOOKEEPER = 21
#: Time after which masters give agents up: 3 x 2 s.
PING = ["--agent_ping_timeout=2secs", "--max_agent_ping_timeouts=3"]


@pytest.fixture(scope="module")
def network() -> Namespaces:
    """Closed with the cluster that uses it."""
    require_zookeeper()
    return Namespaces(outside=(ZOOKEEPER,))


@pytest.fixture(scope="module")
def cluster(network: Namespaces, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """2 masters and a Marathon, each master's host with a namespace; 2 agents in one each."""
    with Cluster(
        tmp_path_factory.mktemp("cut"),
        masters=2,
        agents=2,
        zookeepers=1,
        master_flags=PING,
        addresses=network,
    ) as made:
        made.start()
        yield made


def host(unit: Unit) -> str:
    found = urlsplit(unit.url).hostname
    assert found is not None
    return found


def deploy(cluster: Cluster, app: str, instances: int, **more: Any) -> dict[str, int]:
    body = {"id": app, "cmd": "exec sleep 10000", "cpus": 0.1, "mem": 8, "instances": instances}
    assert cluster.call("POST", "/v2/apps", json={**body, **more}).status_code == 201
    return cluster.wait_running(app, instances)


def test_tasks_of_an_agent_out_of_reach_are_replaced_and_never_doubled(
    cluster: Cluster, network: Namespaces
) -> None:
    # One task on each agent at least.
    spread = {"constraints": [["hostname", "GROUP_BY"]]}
    before = deploy(cluster, "/spread", 6, **spread)
    lost, kept = cluster.agents
    for master in cluster.masters:
        network.cut(host(lost), host(master))
    until("the agent to be given up", lambda: len(cluster.active_agents()) == 1)

    def replaced() -> bool:
        tasks = cluster.marathon_tasks("/spread") or {}
        running = [task for task in tasks.values() if task["state"] == "TASK_RUNNING"]
        return len(running) == 6 and {task["host"] for task in running} == {host(kept)}

    until("replacements on the other agent", replaced)
    both = cluster.live_tasks("/spread")
    assert before.items() <= both.items(), "nothing was killed where nobody could be asked"
    assert len(both) > 6
    for master in cluster.masters:
        network.join(host(lost), host(master))
    cluster.wait_ready()
    after = cluster.wait_running("/spread", 6)
    assert {id for id in after if id in before} < before.keys()
    cluster.destroy("/spread")


def test_a_leader_cut_off_from_zookeeper_ends_and_the_tasks_stay(
    cluster: Cluster, network: Namespaces
) -> None:
    before = deploy(cluster, "/calm", 4)
    old = cluster.wait_leader()
    ended = len(old.codes)
    network.cut(host(old), network[ZOOKEEPER])
    try:
        until("another leading master", lambda: cluster.leader(but=old))
        until("the end of the leader that is alone", lambda: len(old.codes) > ended)
    finally:
        network.join(host(old), network[ZOOKEEPER])
    cluster.wait_ready()
    assert cluster.wait_running("/calm", 4) == before
    assert cluster.wait_leader() is not old
    cluster.destroy("/calm")
