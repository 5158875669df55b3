"""A local lab for real: daemons, tasks, repair, and that nothing is left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from mesostk.errors import ConfigError
from mesostk.ops.lab import LabSpec
from mesostk.ops.local_lab import LocalLab
from mesostk.ops.processes import wait_until
from mesostk.ops.progress import Silent
from mesostk.testing.requirements import require_zookeeper

SPEC = LabSpec(driver="local", name="probe", masters=1, agents=2, subnet="127.213.3.0/24")
#: Ignores SIGTERM and has a child that left its session: the hardest kind to end.
STUBBORN = "trap '' TERM; setsid sleep 987654 & while :; do sleep 987653; done"


@pytest.fixture
def it(tmp_path: Path) -> Iterator[LocalLab]:
    it = LocalLab(SPEC, tmp_path / "labs" / SPEC.name)
    yield it
    it.down(Silent(), purge=False)
    assert it.table.marked() == []
    assert not it.state_dir.exists()


def pids(it: LocalLab) -> dict[str, int]:
    """Pid of each daemon that runs."""
    names = sorted(path.stem for path in (it.state_dir / "run").iterdir())
    found = {name: it.table.find(name) for name in names}
    return {name: process.pid for name, process in found.items() if process is not None}


def states(it: LocalLab) -> list[str]:
    return [status.state for status in it.status()]


def ask(method: str, url: str, **rest: Any) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, url, timeout=60, **rest)
    answer.raise_for_status()
    return answer.json()


def deploy(it: LocalLab, app: str, command: str) -> None:
    """Run `command` once and wait until it runs."""
    marathon = it.endpoints().marathons[0]
    body = {"id": app, "cmd": command, "cpus": 0.1, "mem": 16, "instances": 1}
    ask("POST", f"{marathon}/v2/apps", json=body)

    def runs() -> bool:
        return bool(ask("GET", f"{marathon}/v2/apps/{app}")["app"]["tasksRunning"] == 1)

    wait_until(runs, 120.0, lambda: str(ask("GET", f"{marathon}/v2/apps/{app}")))


def sleepers() -> list[psutil.Process]:
    """The processes of STUBBORN."""
    return [p for p in psutil.process_iter(["cmdline"]) if "987654" in (p.info["cmdline"] or [])]


def test_second_up_leaves_daemons_alone_and_a_killed_one_is_started_again(it: LocalLab) -> None:
    it.up(Silent())
    assert states(it) == ["running"] * 3
    before = pids(it)
    it.up(Silent())
    assert pids(it) == before
    (names,) = it.endpoints().dns
    wait_until(
        lambda: ask("GET", f"{names}/v1/hosts/leader.mesos")[0]["ip"] == SPEC.hosts()[0].address,
        120.0,
        lambda: "Mesos-DNS does not know who leads",
    )
    it.stop("mesos-slave1")
    assert states(it) == ["running", "stopped", "running"]
    it.up(Silent())
    assert states(it) == ["running"] * 3
    changed = {name for name, pid in pids(it).items() if before[name] != pid}
    assert changed == {"mesos-slave1.mesos-agent"}


def test_down_ends_tasks_too_even_those_that_resist(it: LocalLab) -> None:
    it.up(Silent())
    deploy(it, "/stubborn", STUBBORN)
    wait_until(lambda: len(sleepers()) >= 1, 120.0, lambda: "the task does not run")
    it.stop("mesos-slave1")  # orphans the tasks of one agent
    it.down(Silent(), purge=False)
    assert sleepers() == []


def test_paused_host_is_seen_as_partitioned_and_up_heals_it(it: LocalLab) -> None:
    it.up(Silent())
    it.partition("mesos-slave2")
    wait_until(lambda: states(it)[2] == "partitioned", 120.0, lambda: str(states(it)))
    it.up(Silent())
    assert states(it) == ["running"] * 3
    it.partition("mesos-slave2")
    it.heal("mesos-slave2")
    wait_until(lambda: states(it)[2] == "running", 120.0, lambda: str(states(it)))


def test_taken_port_ends_up_with_its_address_and_nothing_is_left(it: LocalLab) -> None:
    with socket.create_server((SPEC.hosts()[0].address, 5050)):
        with pytest.raises(ConfigError, match=r"mesos-master needs 127\.213\.3\.11:5050"):
            it.up(Silent())
        assert states(it) == ["stopped"] * 3


@pytest.mark.zookeeper
def test_three_masters_elect_a_leader_and_survive_its_loss(tmp_path: Path) -> None:
    require_zookeeper()
    spec = LabSpec(driver="local", name="probe", masters=3, agents=1, subnet="127.213.4.0/24")
    it = LocalLab(spec, tmp_path / "labs" / "probe")
    try:
        it.up(Silent())
        assert states(it) == ["running"] * 4
        deploy(it, "/a", "sleep 987652")
        it.table.kill("mesos-master1.mesos-master")
        it.table.kill("mesos-master1.marathon")
        it.up(Silent())
        assert states(it) == ["running"] * 4
    finally:
        it.down(Silent(), purge=False)
    assert it.table.marked() == []
