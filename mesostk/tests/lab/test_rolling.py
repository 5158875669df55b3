"""Day two on real hosts, under load: other releases, hosts that come and go, a host that is dead.

Each test leaves the lab as it found it. `make soak-lab` runs them: they take longer than CI has.
"""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.ops.lab import existing
from mesostk.testing import releases
from mesostk.testing.labs import Cluster, mesostk
from mesostk.testing.loaded import LoadedApp

pytestmark = [
    pytest.mark.lab,
    pytest.mark.docker,
    pytest.mark.root,
    pytest.mark.timeout(0),
    pytest.mark.skipif(
        "MESOSTK_ROLLING_SEEDS" not in os.environ, reason="by hand, some minutes: make soak-lab"
    ),
]

#: A limit for what hangs, not a measure of speed.
LIMIT_S = 1500.0
#: MESOSTK_ROLLING_SEED names one that failed; else another task is drawn in each run.
SEED = int(os.environ.get("MESOSTK_ROLLING_SEED") or random.SystemRandom().randrange(10**6))
#: One in CI; `make soak` takes ten.
SEEDS = range(int(os.environ.get("MESOSTK_ROLLING_SEEDS", "1")))
#: Lines that an upgrade of the six hosts writes: one for each task and each change.
LINES = 200


def run(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the lab."""
    return mesostk(*words, "--context", cluster.lab.spec.name, timeout_s=LIMIT_S)


def must(cluster: Cluster, *words: str) -> str:
    """What the command prints; it must not fail."""
    done = run(cluster, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def address(cluster: Cluster, name: str) -> str:
    (found,) = (host.address for host in cluster.hosts if host.name == name)
    return found


def agents(cluster: Cluster) -> dict[str, str]:
    """Host → id of the active agents."""
    master = f"http://{address(cluster, 'mesos-master2')}:5050"
    found = requests.get(master + "/slaves", timeout=10).json()["slaves"]
    return {one["hostname"]: one["id"] for one in found if one["active"]}


def current(cluster: Cluster) -> set[str]:
    """Releases that the hosts run, and that their daemons were started from."""
    script = """
    basename $(readlink /opt/mesostk/current)
    for record in /etc/mesostk/services/*.json; do
        name=$(basename "$record" .json)
        wanted=$(/usr/local/lib/mesostk/service-hash "$name")
        [ "$wanted" = "$(cat /run/mesostk/"$name".started)" ] || echo "$name is due for a restart"
    done
    """
    return {line for host in cluster.hosts for line in cluster.run(host, script).splitlines()}


@pytest.fixture
def loaded(cluster: Cluster) -> Iterator[LoadedApp]:
    """The app that dies at once on SIGTERM, with requests through the second host's balancer."""
    host = address(cluster, "mesos-master2")
    with LoadedApp(f"http://{host}:8080", host) as app:
        yield app


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The release before this one: the same code under another version."""
    kept = os.environ.get("MESOSTK_WHEELHOUSE") or str(Path.home() / ".cache/mesostk/wheelhouse")
    return releases.built("0.0.9", tmp_path_factory.mktemp("older"), Path(kept))


def ids(tasks: list[dict[str, Any]]) -> set[str]:
    return {str(task["id"]) for task in tasks}


def killed_at(number: int, cluster: Cluster, *words: str) -> bool:
    """Run the command and kill it at its `number`-th line; whether it was still at work then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mesostk", *words, "--context", cluster.lab.spec.name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    with process.stderr:
        for count, line in enumerate(process.stderr, 1):
            if count == number:
                print(f"killing it at line {number}: {line}")
                os.killpg(process.pid, signal.SIGKILL)
                break
    return process.wait(LIMIT_S) == -signal.SIGKILL


@pytest.mark.parametrize("more", SEEDS)
def test_upgrade_and_roll_back_lose_no_task_and_no_request(
    cluster: Cluster, loaded: LoadedApp, older: str, more: int
) -> None:
    tasks, registered = ids(loaded.tasks()), agents(cluster)
    (newer,) = current(cluster)

    must(cluster, "cluster", "upgrade", "--no-backup", "--to", older)
    assert current(cluster) == {older}
    assert agents(cluster) == registered

    # The way back is interrupted somewhere, and started again.
    seed = SEED + more
    number = random.Random(seed).randrange(5, LINES)
    print(f"MESOSTK_ROLLING_SEED={seed}: interrupting the upgrade at line {number}")
    killed_at(number, cluster, "cluster", "upgrade", "--no-backup")
    must(cluster, "cluster", "upgrade", "--no-backup")
    assert current(cluster) == {newer}
    assert agents(cluster) == registered

    assert ids(loaded.tasks()) == tasks
    assert loaded.failures == Counter()
    assert loaded.answers > 100


def test_agent_is_added_then_emptied_under_load_and_removed(
    cluster: Cluster, loaded: LoadedApp
) -> None:
    before = agents(cluster)
    must(cluster, "node", "add", "mesos-slave4")
    try:
        address_of_new = str(cluster.lab.spec.network()[54])
        assert set(agents(cluster)) == {*before, address_of_new}
        # The others know its name by now, so that a deployment finds nothing to do.
        for one in cluster.hosts:
            assert "mesos-slave4" in cluster.run(one, "cat /etc/hosts")
        must(cluster, "cluster", "plan", "--exit-code")
        host = str(loaded.tasks()[0]["host"])
        (name,) = (
            one.name for one in existing(cluster.lab.spec.name).spec.hosts() if one.address == host
        )

        must(cluster, "drain", name)
        assert host not in {task["host"] for task in loaded.tasks()}
        assert "drained" in must(cluster, "agents")
        must(cluster, "undrain", name)
        assert "drained" not in must(cluster, "agents")
    finally:
        must(cluster, "node", "remove", "mesos-slave4")
    assert agents(cluster) == before
    assert loaded.failures == Counter()


def test_dead_first_master_is_replaced_and_the_replacement_by_a_new_one(cluster: Cluster) -> None:
    registered = agents(cluster)
    assert mesostk("lab", "stop", "mesos-master1", "--name", cluster.lab.spec.name).returncode == 0
    refused = run(cluster, "node", "remove", "mesos-master1")
    assert refused.returncode == 1
    assert "node replace OLD NEW" in refused.stderr

    told = must(cluster, "node", "replace", "mesos-master1", "mesos-master4")
    assert "ZooKeeper now: 3 members, 2 serve, 2 are a quorum" in told
    assert agents(cluster) == registered

    told = must(cluster, "node", "replace", "mesos-master4", "mesos-master1")
    assert "ZooKeeper now: 3 members, 3 serve, 2 are a quorum" in told
    assert agents(cluster) == registered
    must(cluster, "cluster", "verify")
