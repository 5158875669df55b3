"""Container hosts for real: a small lab beside whatever lab the developer has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops import engine, lab, lab_registry
from mesostk.ops.docker_lab import DockerLab
from mesostk.ops.lab import LABEL, Host, LabSpec
from mesostk.testing.requirements import require_docker, require_root

pytestmark = [
    pytest.mark.docker,
    pytest.mark.root,
    pytest.mark.timeout(600),  # the first run builds the image
]

SPEC = LabSpec(driver="docker", name="probe", masters=1, agents=1, subnet="10.213.3.0/24")
MASTER, AGENT = SPEC.hosts()


class Recorded:
    """Progress that remembers its details."""

    def __init__(self) -> None:
        self.details: list[str] = []

    def step(self, name: str) -> None:
        """Not of interest."""

    def detail(self, text: str) -> None:
        """Remember it."""
        self.details.append(text)

    def live(self, text: str) -> None:
        """Not of interest."""

    def note(self, text: str) -> None:
        """Not of interest."""

    def done(self, summary: str) -> None:
        """Not of interest."""


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    require_docker()
    require_root()
    client = engine.connect()
    yield client
    client.close()


@pytest.fixture(scope="module")
def made(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerLab]:
    it = DockerLab(SPEC, tmp_path_factory.mktemp("labs") / SPEC.name)
    it.down(Recorded(), purge=False)  # what an interrupted run left
    it.up(Recorded())
    yield it
    it.down(Recorded(), purge=False)
    mine: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={SPEC.name}"}
    assert client.containers.list(all=True, filters=mine) == []
    assert client.networks.list(filters=mine) == []
    assert client.volumes.list(filters=mine) == []
    assert not it.state_dir.exists()


@pytest.fixture
def it(made: DockerLab) -> DockerLab:
    """The lab, repaired after the test before."""
    made.up(Recorded())
    return made


def run(it: DockerLab, host: Host, command: str) -> str:
    """Output of `command` on `host`, by SSH."""
    done = subprocess.run(
        it.ssh.command(host, command), capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def states(it: DockerLab) -> list[str]:
    return [status.state for status in it.status()]


def changes(it: DockerLab) -> list[str]:
    progress = Recorded()
    it.up(progress)
    assert states(it) == ["running", "running"]
    return progress.details


def test_hosts_are_systemd_machines_with_their_names_and_addresses(it: DockerLab) -> None:
    for host in SPEC.hosts():
        assert run(it, host, "hostname") == host.name
        assert run(it, host, "cat /proc/1/comm") == "systemd"
        assert host.address in run(it, host, "ip -4 -o addr show eth0")
    assert run(it, MASTER, "cat /etc/machine-id") != run(it, AGENT, "cat /etc/machine-id")
    assert run(it, MASTER, f"ping -c1 -W2 {AGENT.address} >/dev/null && echo yes") == "yes"


def test_second_up_changes_nothing(it: DockerLab) -> None:
    before = [run(it, host, "stat -c %Y /proc/1") for host in SPEC.hosts()]
    assert changes(it) == []
    assert [run(it, host, "stat -c %Y /proc/1") for host in SPEC.hosts()] == before


def test_files_that_engines_usually_bind_can_be_replaced_and_stay_so(it: DockerLab) -> None:
    for name in ("hosts", "resolv.conf", "hostname"):
        run(
            it,
            AGENT,
            f"cp /etc/{name} /etc/new && echo '# {name}' >>/etc/new && mv /etc/new /etc/{name}",
        )
    it.stop(AGENT.name)
    it.start(AGENT.name)
    for name in ("hosts", "resolv.conf", "hostname"):
        assert f"# {name}" in run(it, AGENT, f"cat /etc/{name}")


def test_hosts_have_cgroups_of_their_own(it: DockerLab) -> None:
    run(it, MASTER, "systemd-run --unit=only-here sleep 600")
    found = "find /sys/fs/cgroup/ -name only-here.service | wc -l"
    assert int(run(it, MASTER, found)) > 0
    assert run(it, AGENT, found) == "0"
    run(it, MASTER, "systemctl stop only-here")


def test_stopped_host_is_started_and_keeps_its_files(it: DockerLab) -> None:
    run(it, AGENT, "echo kept >/root/file")
    it.stop(AGENT.name)
    it.reshape(it.spec, Recorded())
    assert states(it) == ["running", "stopped"], "it may be the one that is to leave"
    joined = Recorded()
    it.reshape(it.spec, joined, AGENT.name)
    assert joined.details == [f"{AGENT.name}: started"]
    assert states(it) == ["running", "running"]
    assert run(it, AGENT, "cat /root/file") == "kept"


def test_missing_host_and_network_are_made_again(
    it: DockerLab, client: docker.DockerClient
) -> None:
    run(it, MASTER, "echo kept >/root/file")
    client.containers.get(it.container_name(AGENT)).remove(force=True)
    assert states(it) == ["running", "missing"]
    network = client.networks.get(it.network_name)
    network.disconnect(it.container_name(MASTER), force=True)
    network.disconnect(f"{SPEC.name}-registry", force=True)
    network.remove()
    registry = f"image registry {lab_registry.url(SPEC)}: made"
    assert changes(it) == [registry, f"{MASTER.name}: connected", f"{AGENT.name}: made"]
    assert run(it, MASTER, "cat /root/file") == "kept"


def test_half_made_host_is_made_anew(it: DockerLab, client: docker.DockerClient) -> None:
    container = client.containers.get(it.container_name(AGENT))
    image = container.image
    assert image is not None
    container.remove(force=True)
    client.containers.create(
        image, name=it.container_name(AGENT), labels={LABEL: SPEC.name}, command="x"
    )
    assert changes(it) == [f"{AGENT.name}: made anew (its creation had been interrupted)"]


def test_partitioned_host_is_cut_off_until_it_is_healed(it: DockerLab) -> None:
    it.partition(AGENT.name)
    assert states(it) == ["running", "partitioned"]
    cut = f"ping -c1 -W1 {AGENT.address} >/dev/null || echo cut"
    assert run(it, MASTER, cut) == "cut"
    it.heal(AGENT.name)
    assert states(it) == ["running", "running"]
    assert run(it, MASTER, cut) == ""
    assert "default via 10.213.3.1" in run(it, AGENT, "ip route")
    it.partition(AGENT.name)
    assert changes(it) == [f"{AGENT.name}: connected"]


def test_paused_host_stands_still_until_it_is_healed(it: DockerLab) -> None:
    it.pause(AGENT.name)
    assert states(it) == ["running", "paused"]
    it.heal(AGENT.name)
    assert states(it) == ["running", "running"]
    assert run(it, AGENT, "hostname") == AGENT.name
    it.pause(AGENT.name)
    assert changes(it) == [f"{AGENT.name}: resumed"]


def test_lost_keys_are_replaced(it: DockerLab) -> None:
    for path in it.ssh.directory.iterdir():
        path.unlink()
    assert changes(it) == []
    assert run(it, AGENT, "hostname") == AGENT.name


def test_strangers_container_is_not_touched(it: DockerLab, client: docker.DockerClient) -> None:
    container = client.containers.get(it.container_name(AGENT))
    image = container.image
    assert image is not None
    container.remove(force=True)
    stranger = client.containers.create(image, name=it.container_name(AGENT))
    try:
        with pytest.raises(ConfigError, match="not this lab's"):
            it.up(Recorded())
        assert client.containers.get(str(stranger.id)).name == it.container_name(AGENT)
    finally:
        stranger.remove(force=True)


def test_what_the_engine_refuses_is_said_in_a_sentence(it: DockerLab) -> None:
    it.stop(AGENT.name)
    with pytest.raises(Unavailable, match=r"the Docker engine refuses: .*is not running"):
        it.stop(AGENT.name)


def test_overlapping_network_is_named(it: DockerLab, tmp_path: Path) -> None:
    other = DockerLab(
        LabSpec(driver="docker", name="other", subnet=SPEC.subnet), tmp_path / "other"
    )
    with pytest.raises(ConfigError, match=r"network mesostk-probe .*--subnet"):
        other.up(Recorded())
    lab.forget(other.state_dir)
