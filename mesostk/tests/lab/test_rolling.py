"""Day two on real hosts, under load: other releases, hosts that come and go, a host that is dead.

One app that dies at once on SIGTERM is asked 15 times a second all the while, through a balancer;
no request may fail. Somewhere, drawn from a seed that is printed, a run is killed and started
again. The lab is left as it was found. `make soak-lab` draws ten times.
"""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesostk.testing import draws, releases
from mesostk.testing.labs import Cluster, mesostk, until
from mesostk.testing.loaded import LoadedApp

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(0)]

#: A limit for what hangs, not a measure of speed.
LIMIT_S = 1500.0
#: Where a run is killed.
SEED = draws.seed()
#: One in CI; `make soak-lab` takes ten.
SEEDS = range(int(os.environ.get("MESOSTK_ROLLING_SEEDS", "1")))
#: Lines that each of these writes on six hosts, one for each task and change: where to kill it.
LINES = {"upgrade": 225, "replace the dead": 180, "replace the living": 180}


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
    found = cluster.ask("GET", "/slaves", 5050).json()["slaves"]
    return {one["hostname"]: one["id"] for one in found if one["active"]}


def whole(cluster: Cluster) -> dict[str, str]:
    """Host → id of the agents, once all are active."""
    hosts = {host.address for host in cluster.hosts if host.is_agent}

    def found() -> dict[str, str] | None:
        active = agents(cluster)
        return active if active.keys() == hosts else None

    return until("all agents are active", found)


def must_have(cluster: Cluster, registered: dict[str, str]) -> None:
    """Return once exactly these agents are active, by these ids."""
    until(f"the agents are {registered}", lambda: agents(cluster) == registered)


# What the roles wrote, and whether each daemon was started from it; the release is told apart.
STATE_SCRIPT = r"""
find /etc /usr/local/lib/mesostk -type f \( -path '/etc/hosts' -o -path '/etc/mesos*' \
    -o -path '/etc/marathon*' -o -path '/etc/zookeeper/*' -o -path '/usr/local/*' \) \
    -exec stat -c '%n %a %U:%G' {} + -exec sha256sum {} +
for record in /etc/mesostk/services/*.json; do
    name=$(basename "$record" .json)
    echo "service $name $(systemctl is-enabled "$name") $(systemctl is-active "$name")"
    find /etc/systemd/system/"$name".service* -type f -exec sha256sum {} +
    wanted=$(/usr/local/lib/mesostk/service-hash "$name")
    [ "$wanted" = "$(cat /run/mesostk/"$name".started)" ] || echo "$name is due for a restart"
done
"""


def state(cluster: Cluster) -> dict[str, list[str]]:
    """Host → lines; two that are equal leave nothing to do between them."""

    def told() -> dict[str, list[str]] | None:
        # A daemon that lost its session of ZooKeeper ends, and is started again by systemd.
        found = {
            host.name: sorted(cluster.run(host, STATE_SCRIPT).splitlines())
            for host in cluster.hosts
        }
        services = [one for lines in found.values() for one in lines if one.startswith("service ")]
        return found if all(one.endswith(" active") for one in services) else None

    found = until("all services are active", told)
    assert [line for lines in found.values() for line in lines if "restart" in line] == []
    return found


def shared(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """What a host has in common with another one in its place: not the certificate it made."""
    return {
        host: [line for line in lines if not line.endswith("marathon-lb/cert.pem")]
        for host, lines in found.items()
    }


def current(cluster: Cluster) -> set[str]:
    """Releases that the hosts have switched to."""
    script = "basename $(readlink /opt/mesostk/current)"
    return {cluster.run(host, script).strip() for host in cluster.hosts}


def begun(cluster: Cluster, *words: str) -> subprocess.Popen[str]:
    """The command, begun; to be killed with its group."""
    return subprocess.Popen(
        [sys.executable, "-m", "mesostk", *words, "--context", cluster.lab.spec.name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def killed_at(number: int, cluster: Cluster, *words: str) -> None:
    """Run the command, and kill it at its `number`-th line if it has that many."""
    process = begun(cluster, *words)
    assert process.stderr is not None
    told: list[str] = []
    with process.stderr:
        for line in process.stderr:
            told.append(line)
            if len(told) == number:
                os.killpg(process.pid, signal.SIGKILL)
                print(f"killed at line {number}: {line}")
                break
        else:
            print(f"it was done after line {len(told)}, and is asked for again")
    assert process.wait(LIMIT_S) in (0, -signal.SIGKILL), "".join(told)


def perhaps_killed(more: int, what: str, cluster: Cluster, *words: str) -> None:
    """Kill the command somewhere if the seed says that it is this one; the caller runs it again."""
    seed = SEED + more
    draw = random.Random(seed)
    chosen = draw.choice(list(LINES))
    if chosen == what:
        number = draw.randrange(1, LINES[what])
        print(f"\nMESOSTK_ROLLING_SEED={seed}: killing `{' '.join(words)}` at line {number}")
        killed_at(number, cluster, *words)


def show(request: pytest.FixtureRequest, line: str) -> None:
    """Print `line` also where the output of tests that pass is not shown."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(f"\n{line}", flush=True)


@pytest.fixture(scope="module")
def loaded(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[LoadedApp]:
    """The app that dies at once on SIGTERM, with requests through the second host's balancer."""
    show(request, f"MESOSTK_ROLLING_SEED={SEED}")
    host = address(cluster, "mesos-master2")
    with LoadedApp(f"http://{host}:8080", host) as app:
        yield app
        show(request, f"{app.answers} requests were answered, {app.failures.total()} failed")


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The release before this one: the same code under another version."""
    kept = os.environ.get("MESOSTK_WHEELHOUSE") or str(Path.home() / ".cache/mesostk/wheelhouse")
    return releases.built("0.0.9", tmp_path_factory.mktemp("older"), Path(kept))


def ids(app: LoadedApp) -> set[str]:
    """The app's tasks, once no other ends that was on a host which left."""
    app.settle()
    return {str(task["id"]) for task in app.tasks()}


@pytest.mark.parametrize("more", SEEDS)
def test_another_release_and_the_way_back_lose_no_task_and_no_request(
    cluster: Cluster, loaded: LoadedApp, older: str, more: int
) -> None:
    tasks, registered, before = ids(loaded), whole(cluster), state(cluster)
    (newer,) = current(cluster)
    answered = loaded.answers

    upgrade = ("cluster", "upgrade", "--no-backup")
    perhaps_killed(more, "upgrade", cluster, *upgrade, "--to", older)
    must(cluster, *upgrade, "--to", older)
    assert current(cluster) == {older}
    assert state(cluster) == before
    must_have(cluster, registered)

    must(cluster, *upgrade)
    assert current(cluster) == {newer}
    assert state(cluster) == before
    must_have(cluster, registered)

    assert ids(loaded) == tasks
    assert loaded.failures == Counter()
    assert loaded.answers > answered + 100


def test_agent_joins_another_is_emptied_and_both_leave_under_load(
    cluster: Cluster, loaded: LoadedApp
) -> None:
    before = whole(cluster)
    try:
        must(cluster, "node", "add", "mesos-slave4")
        joined = str(cluster.lab.spec.network()[54])
        until("the fourth agent is there", lambda: set(agents(cluster)) == {*before, joined})
        for one in cluster.hosts:
            assert "mesos-slave4" in cluster.run(one, "cat /etc/hosts")
        host = next(str(task["host"]) for task in loaded.tasks() if task["host"] in before)
        (name,) = (one.name for one in cluster.hosts if one.address == host)
        path = f"/v2/agents/{before[host]}/evacuate"

        def leaving() -> list[str]:
            # Those of others may be ended just now: `node add` verified with an app of its own.
            found = cluster.ask("GET", path).json()["instances"]
            return [one["id"] for one in found if one["leaving"] and one["app"] == loaded.id]

        def moving() -> bool:
            # A test that got no processor for long sees the end of it only.
            is_over = process.poll() is not None
            return is_over or (bool(leaving()) and host not in agents(cluster))

        # An interrupted drain, given back: nothing goes on moving what may stay.
        process = begun(cluster, "drain", name)
        try:
            until("its tasks are to leave, and no others to come", moving)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            _, told = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), told
        must(cluster, "undrain", name)
        until("it is back", lambda: host in agents(cluster))
        until("nothing is to leave it", lambda: not leaving())

        must(cluster, "drain", name)
        assert host not in {task["host"] for task in loaded.tasks()}
        assert "drained" in must(cluster, "agents")
        must(cluster, "undrain", name)
        assert "drained" not in must(cluster, "agents")
    finally:
        must(cluster, "node", "remove", "mesos-slave4")
    must_have(cluster, before)
    assert loaded.failures == Counter()


@pytest.mark.parametrize("more", SEEDS)
def test_dead_first_master_is_replaced_and_the_replacement_by_a_new_one(
    cluster: Cluster, loaded: LoadedApp, more: int
) -> None:
    tasks, registered, before = ids(loaded), whole(cluster), state(cluster)
    assert mesostk("lab", "stop", "mesos-master1", "--name", cluster.lab.spec.name).returncode == 0
    replace = ("node", "replace", "mesos-master1", "mesos-master4")
    perhaps_killed(more, "replace the dead", cluster, *replace)
    told = must(cluster, *replace)
    # The last that an interrupted run does is to take the old host out of the inventory.
    assert (
        "ZooKeeper now: 3 members, 2 serve, 2 are a quorum" in told
        or "An interrupted run had done all but this." in told
    )
    must_have(cluster, registered)

    replace = ("node", "replace", "mesos-master4", "mesos-master1")
    perhaps_killed(more, "replace the living", cluster, *replace)
    must(cluster, *replace)
    assert shared(state(cluster)) == shared(before)
    must_have(cluster, registered)
    assert ids(loaded) == tasks
    assert loaded.failures == Counter()
