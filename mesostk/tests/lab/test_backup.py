"""A backup outlives the loss of all that ZooKeeper knew, and tasks outlive both."""

import json
from pathlib import Path

import pytest

from mesostk.testing.labs import Cluster, mesostk, until

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(2400)]

KEPT = {"id": "/kept", "cmd": "exec sleep 98765", "cpus": 0.1, "mem": 16, "instances": 2}


def running(cluster: Cluster) -> dict[str, list[str]]:
    """Processes of the app's tasks, by agent."""
    agents = [host for host in cluster.hosts if host.is_agent]
    return {
        host.name: cluster.run(host, "pgrep -x -f 'sleep 98765' || true").split() for host in agents
    }


def test_restore_after_zookeeper_lost_everything(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    inventory = ("--inventory", str(cluster.inventory))
    context = ("--context", cluster.lab.spec.name)
    (tmp_path / "kept.json").write_text(json.dumps(KEPT))
    done = mesostk("deploy", str(tmp_path / "kept.json"), *context)
    assert done.returncode == 0, done.stderr
    done = mesostk("backup", "create", "--to", str(file), *inventory)
    assert done.returncode == 0, done.stderr
    done = mesostk("backup", "show", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert {one["store"] for one in json.loads(done.stdout)} == {"mesos", "marathon"}
    # Its shell may run and not yet be the program that it is to become.
    until("both tasks are at it", lambda: sum(map(len, running(cluster).values())) == 2)
    before = running(cluster)

    keepers = [host for host in cluster.hosts if "zookeeper" in host.groups]
    for host in keepers:
        cluster.run(host, "systemctl stop zookeeper")
    for host in keepers:
        cluster.run(host, "rm -rf /var/lib/zookeeper/version-2")
    for host in keepers:
        cluster.run(host, "systemctl start --no-block zookeeper")

    # It ends with verify.yml: quorum, one leader, every agent registered, a probe app.
    done = mesostk("backup", "restore", str(file), "--yes", *inventory, timeout_s=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert running(cluster) == before, "tasks went on in the processes they began in"
    done = mesostk("destroy", "kept", "--yes", *context)
    assert done.returncode == 0, done.stderr
    until("the restored cluster rules them", lambda: not any(running(cluster).values()))
