"""Full disks, truncated checkpoints and garbage in ZooKeeper: nothing crashes for good, nothing is
half-applied, and what can go on goes on.
"""

from __future__ import annotations

import asyncio
import errno
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from mesostk.base.zk import Zk, ZkUrl
from mesostk.ops.zookeeper import Ensemble
from mesostk.testing.processes import Cluster, Unit, until
from mesostk.testing.requirements import require_root, require_zookeeper

APP: Final = {"cmd": "exec sleep 1000", "cpus": 0.1, "mem": 8}

#: Enough for a daemon to begin, and soon full.
DISK: Final = "1m"


def deploy(cluster: Cluster, app: str, instances: int = 1) -> dict[str, int]:
    body = {**APP, "id": app, "instances": instances}
    answer = cluster.call("POST", "/v2/apps", json=body)
    assert answer.status_code == requests.codes.created, answer.text
    return cluster.wait_running(app, instances)


# -- full disks --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    require_root()
    path = tmp_path / "small"
    path.mkdir()
    options = ["-o", f"size={DISK}", "tmpfs", str(path)]
    subprocess.run(["mount", "-t", "tmpfs", *options], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Use up every byte; the file that does."""
    path = disk / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return path


def on_disk(unit: Unit, flag: str, directory: Path) -> None:
    """Have the daemon keep its files there."""
    unit.argv = [f"{flag}={directory}" if a.startswith(flag + "=") else a for a in unit.argv]


@pytest.mark.root
def test_an_agent_whose_disk_is_full_refuses_tasks_and_keeps_those_it_has(
    tmp_path: Path, small_disk: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        on_disk(cluster.agents[0], "--work_dir", small_disk / "agent")
        cluster.start()
        before = deploy(cluster, "/kept")
        ballast = fill(small_disk)
        assert cluster.call("POST", "/v2/apps", json={**APP, "id": "/new"}).status_code == 201

        def failure() -> dict[str, Any] | None:
            app = cluster.call("GET", "/v2/apps//new").json()["app"]
            found: dict[str, Any] | None = app.get("lastTaskFailure")
            return found

        told = until("the refusal", failure)
        assert told["state"] in ("TASK_DROPPED", "TASK_LOST", "TASK_FAILED")
        assert "No space left on device; free space" in told["message"]
        assert str(small_disk) in told["message"]
        assert cluster.live_tasks("/new") == {}
        assert cluster.agents[0].codes == []
        ballast.unlink()
        cluster.wait_running("/new", 1)
        assert cluster.wait_running("/kept", 1) == before


def is_accepted(cluster: Cluster, app: dict[str, Any]) -> bool:
    """Whether Marathon answers that the app is there; it may end while it is asked."""
    try:
        return cluster.call("POST", "/v2/apps", json=app).ok
    except requests.ConnectionError:
        return False


@pytest.mark.root
def test_a_marathon_whose_disk_is_full_changes_nothing_and_says_so(
    tmp_path: Path, small_disk: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        marathon = cluster.marathons[0]
        on_disk(marathon, "--state_dir", small_disk / "state")
        cluster.start()
        before = deploy(cluster, "/kept")
        cluster.wait_deployed()
        ballast = fill(small_disk)
        big = {**APP, "id": "/new", "labels": {"big": "x" * 200_000}}
        assert not is_accepted(cluster, big)
        # A store that cannot be written is left: the daemon ends, and says why.
        until("the end of Marathon", lambda: marathon.codes)
        assert "free space on that disk" in marathon.log.read_text()
        assert cluster.live_tasks("/kept") == before
        ballast.unlink()
        cluster.wait_ready()
        assert cluster.apps() == ["/kept"]
        assert cluster.wait_running("/kept", 1) == before
        deploy(cluster, "/new")


@pytest.mark.root
def test_a_master_whose_disk_is_full_admits_nobody_and_says_so(
    tmp_path: Path, small_disk: Path
) -> None:
    with Cluster(tmp_path, agents=2, marathons=0) as cluster:
        master, (first, second) = cluster.masters[0], cluster.agents
        on_disk(master, "--work_dir", small_disk / "master")
        master.start()
        first.start()
        until("the first agent", lambda: len(cluster.active_agents()) == 1)
        known = set(cluster.active_agents())
        # A record of more than the blocks that the file has: it must grow.
        second.argv.append("--attributes=" + ";".join(f"a{n}:{'x' * 100}" for n in range(300)))
        ballast = fill(small_disk)
        second.start()
        until("the end of the master", lambda: master.codes)
        assert "free space on that disk" in master.log.read_text()
        ballast.unlink()
        until("both agents", lambda: len(cluster.active_agents()) == 2)
        assert known < set(cluster.active_agents())


# -- truncated checkpoints ---------------------------------------------------------------------


def cut(path: Path) -> None:
    """As after a power cut: the end is missing."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def scribble(path: Path) -> None:
    """As after a disk's fault: something else is there."""
    path.write_bytes(b"\0garbage\xff")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """1 standalone master, 1 agent and 1 Marathon."""
    with Cluster(tmp_path_factory.mktemp("alone")) as cluster:
        cluster.start()
        yield cluster


def record(cluster: Cluster, pattern: str) -> Path:
    """The one file of the agent's present id that matches; `latest` links lead to the same."""
    agent = cluster.work_dir(1) / "meta" / "slaves" / "latest"
    (path,) = {found.resolve() for found in agent.resolve().glob(pattern)}
    return path


def restart_with(agent: Unit, damage: Callable[[], None]) -> dict[str, float]:
    """Kill the agent, do the damage, start it; its figures once it answers for itself again."""
    ended = len(agent.codes)
    agent.kill(restart=False)
    damage()
    agent.start()

    def figures() -> dict[str, float] | None:
        answer = agent.get("/metrics/snapshot")
        found: dict[str, float] | None = None if answer is None else answer.json()
        return found if found and found.get("slave/registered") == 1.0 else None

    found = until("the registered agent", figures)
    assert agent.codes[ended:] == [-9]
    return found


def test_damaged_records_of_runs_cost_those_runs_at_most(alone: Cluster) -> None:
    before = deploy(alone, "/runs", 8)
    alone.wait_deployed()
    kinds = [
        (name, damage)
        for name in ("task.updates", "task.info", "executor.info")
        for damage in (cut, scribble)
    ]
    victims = dict(zip(sorted(before), kinds, strict=False))
    assert len(victims) == 6

    def do_damage() -> None:
        for task, (name, damage) in victims.items():
            damage(record(alone, f"frameworks/*/executors/{task}/runs/*/**/{name}"))

    figures = restart_with(alone.agents[0], do_damage)
    assert figures["slave/recovery_errors"] >= 6
    after = alone.wait_running("/runs", 8)
    unharmed = {task: pid for task, pid in before.items() if task not in victims}
    assert unharmed.items() <= after.items()
    alone.destroy("/runs")


@pytest.mark.parametrize("damage", [cut, scribble])
def test_a_damaged_record_of_the_framework_costs_no_task(
    alone: Cluster, damage: Callable[[Path], None]
) -> None:
    before = deploy(alone, "/framework", 3)
    alone.wait_deployed()

    def do_damage() -> None:
        damage(record(alone, "frameworks/*/framework.info"))

    figures = restart_with(alone.agents[0], do_damage)
    assert figures["slave/recovery_errors"] >= 1
    assert alone.wait_running("/framework", 3) == before
    alone.destroy("/framework")


def test_an_agent_whose_own_record_is_unreadable_ends_with_as_many_tasks_as_wanted(
    alone: Cluster,
) -> None:
    deploy(alone, "/identity", 2)
    alone.wait_deployed()
    info = alone.work_dir(1) / "meta" / "slaves" / "latest" / "slave.info"
    figures = restart_with(alone.agents[0], lambda: cut(info))
    assert figures["slave/recovery_errors"] >= 1
    # Whether or not the old tasks could be taken up.
    alone.wait_running("/identity", 2)
    alone.destroy("/identity")


# -- garbage in ZooKeeper ----------------------------------------------------------------------


def write_nodes(servers: Ensemble, nodes: dict[str, bytes]) -> None:
    async def write() -> None:
        zk = Zk(ZkUrl.parse(servers.url("/any")))
        zk.start()
        await zk.connected(60)
        for path, data in nodes.items():
            await zk.ensure_path(path.rpartition("/")[0])
            await zk.create(path, data)
        await zk.close()

    asyncio.run(write())


def remove_node(servers: Ensemble, path: str) -> None:
    async def remove() -> None:
        zk = Zk(ZkUrl.parse(servers.url("/any")))
        zk.start()
        await zk.connected(60)
        await zk.delete(path)
        await zk.close()

    asyncio.run(remove())


@pytest.mark.zookeeper
def test_garbage_records_in_zookeeper_are_set_aside(tmp_path: Path) -> None:
    require_zookeeper()
    with Cluster(tmp_path, masters=1, marathons=1, zookeepers=1) as cluster:
        cluster.start()
        before = deploy(cluster, "/kept", 2)
        cluster.wait_deployed()
        servers = cluster.zookeeper
        assert servers is not None
        write_nodes(
            servers,
            {
                "/mesos/no-candidate": b"x",
                "/mesos/json.info_9999999999": b"\0garbage",
                "/mesos/mesostk/agents/00/S99": b'{"info": 3',
                "/mesos/mesostk/strange": b"x",
                "/marathon/mesostk/apps/0/bad/2020": b"\xff\xfe",
                "/marathon/mesostk/instances/00/bad.1": b"{}",
                "/marathon/mesostk/deployments/bad": b"[]",
                "/marathon/mesostk/strange/node": b"x",
            },
        )
        for unit in (cluster.masters[0], cluster.marathons[0]):
            unit.kill()
        cluster.wait_ready()
        assert cluster.wait_running("/kept", 2) == before
        assert cluster.apps() == ["/kept"]
        assert "S99" in cluster.masters[0].log.read_text()
        assert "apps/0/bad/2020" in cluster.marathons[0].log.read_text()
        # No crash loop: one end by the kill, none since.
        assert [unit.codes for unit in cluster.units] == [[-9], [], [-9]]


@pytest.mark.zookeeper
def test_while_garbage_is_first_among_the_candidates_nobody_leads(tmp_path: Path) -> None:
    require_zookeeper()
    with Cluster(tmp_path, masters=2, marathons=0, zookeepers=1, session_s=2.0) as cluster:
        cluster.start()
        # The numbers begin at 0 and the first is taken: let the leader be another.
        cluster.wait_leader().kill()
        cluster.wait_ready()
        servers = cluster.zookeeper
        assert servers is not None
        write_nodes(servers, {"/mesos/json.info_0000000000": b"\0garbage"})
        until("the end of leading", lambda: cluster.leader() is None)

        def told() -> bool:
            answers = [master.get("/slaves") for master in cluster.masters]
            return all(
                a is not None and a.status_code == 503 and "leader" in a.text for a in answers
            )

        until("503 from both", told)
        log = cluster.masters[0].log
        until("the reason", lambda: "Unreadable leader in ZooKeeper" in log.read_text())
        assert cluster.agents[0].codes == []
        remove_node(servers, "/mesos/json.info_0000000000")
        cluster.wait_ready()
