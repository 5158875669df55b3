"""`site.yml` on hosts that nobody has touched: Debian 13, without a route to the outside."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests

from mesostk.ops.lab import existing
from mesostk.testing.labs import ANSWER_S, Cluster, mesostk, until
from mesostk.testing.requirements import require_docker, require_root

pytestmark = [
    *(pytest.mark.lab, pytest.mark.docker, pytest.mark.root, pytest.mark.beside),
    pytest.mark.timeout(3600),
]

NAME = "fresh"
SUBNET = "10.0.36.0/24"

#: What a host must still be without when a playbook only said what it would do.
TRACES = (
    "ls -d /etc/mesos /etc/mesostk /opt/mesostk /etc/mesos-slave /etc/marathon 2>/dev/null || true"
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and an agent with nothing on them."""
    require_docker()
    require_root()
    kind = ("--release", "trixie", "--isolated", "--no-provision")
    size = ("--masters", "1", "--agents", "1", "--subnet", SUBNET)
    mesostk("lab", "down", "--name", NAME)
    try:
        done = mesostk("lab", "up", "--name", NAME, *kind, *size, timeout_s=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Cluster(existing(NAME), tmp_path_factory.mktemp("runs"))
    finally:
        mesostk("lab", "down", "--name", NAME)


def test_check_mode_says_what_it_would_do_and_does_nothing(fresh: Cluster) -> None:
    outcome = fresh.playbook("site", check=True, diff=True)
    shown = set(re.findall(r"^\+\+\+ after: (\S+)", outcome.output(), re.MULTILINE))
    assert {
        "/etc/zookeeper/conf/zoo.cfg",
        "/etc/mesos/zk",
        "/etc/mesos-master/quorum",
        "/etc/mesos-slave/ip",
        "/etc/marathon/conf/zk",
        "/etc/mesos-dns/config.json",
        "/etc/systemd/system/mesos-agent.service",
    } <= shown
    assert all(outcome.hosts[host.name].changed > 3 for host in fresh.hosts)
    assert {fresh.run(host, TRACES) for host in fresh.hosts} == {""}


def test_cluster_is_made_without_a_network_and_stays_so(fresh: Cluster) -> None:
    for host in fresh.hosts:
        assert "13." in fresh.run(host, "cat /etc/debian_version")
        refused = "! curl -s --max-time 2 http://1.1.1.1/ && ! getent hosts deb.debian.org"
        fresh.run(host, refused)
    fresh.playbook("site")
    url = f"http://{fresh.hosts[0].address}:5050/state"

    def registered() -> bool:
        return bool(requests.get(url, timeout=ANSWER_S).json()["activated_slaves"] == 1)

    until("the agent is registered", registered)
    second, restarted = fresh.restarted_by(lambda: fresh.playbook("site"))
    assert second.changed == 0
    assert restarted == set()
