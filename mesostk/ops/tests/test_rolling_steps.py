"""The plays of an upgrade and of hosts that come and go, counted on inventories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesostk.ops.inventory import groups
from mesostk.ops.paths import data_root
from mesostk.ops.rolling import change_steps, upgrade_steps

MASTERS = ["m1", "m2", "m3"]
GROUPS = {
    "zookeeper": MASTERS,
    "mesos_masters": MASTERS,
    "marathon": MASTERS,
    "mesos_agents": [f"a{n}" for n in range(12)],
    "mesos_dns": ["m1"],
}


def plays() -> set[str]:
    """Names of all plays; one that is a template without what is filled in."""
    found: list[dict[str, Any]] = []
    for path in (data_root() / "playbooks").glob("*.yml"):
        found += yaml.safe_load(path.read_text())
    return {str(one["name"]).partition("{{")[0] for one in found}


@pytest.mark.parametrize(
    ("serial", "batches"), [("20%", 6), ("50%", 2), ("100%", 1), ("5", 3), ("1%", 12), ("odd", 12)]
)
def test_agents_are_upgraded_in_batches_and_the_others_one_by_one(
    serial: str, batches: int
) -> None:
    found = upgrade_steps(GROUPS, serial)
    assert found["Upgrade mesos-agent"] == batches
    assert (found["Upgrade mesos-master"], found["Upgrade mesos-dns"]) == (3, 1)
    assert "Upgrade marathon-lb" not in found


def test_an_agent_that_comes_or_goes_restarts_nobody() -> None:
    added = change_steps(GROUPS, joining=["a3"])
    assert {"Prepare every host", "Configure the agents", "Start mesos-agent"} <= added.keys()
    removed = change_steps(GROUPS, leaving=["a3"])
    assert "Drain the agents" in removed
    for steps in (added, removed):
        assert not [name for name in steps if name.startswith("Restart")]
        assert "Configure ZooKeeper" not in steps


def test_a_master_in_the_place_of_another_is_told_to_all_one_by_one() -> None:
    known = {**GROUPS, "zookeeper": [*MASTERS, "m4"], "mesos_masters": [*MASTERS, "m4"]}
    found = change_steps(known, leaving=["m1"], joining=["m4"])
    assert found["Restart zookeeper"] == 2
    assert found["Restart mesos-agent"] == 12
    assert found["Start zookeeper"] == found["Start mesos-master"] == 1
    assert "Start mesos-agent" not in found
    assert "Drain the agents" not in found


def test_every_step_is_a_play() -> None:
    names = {
        *upgrade_steps({**GROUPS, "marathon_lb": ["m1"]}),
        *change_steps(GROUPS, leaving=["m1", "a1"], joining=["m2", "a2"]),
    }
    known = plays()
    for name in names:
        assert name in known or f"{name.rpartition(' ')[0]} " in known, name


def test_groups_have_the_hosts_of_their_children() -> None:
    found = groups(data_root() / "inventory" / "tutorial" / "hosts.yml")
    assert found["zookeeper"] == ["mesos-master1", "mesos-master2", "mesos-master3"]
    assert found["mesos_dns"] == ["mesos-dns"]
    assert set(found["cluster"]) == set(found["all"])
    assert len(found["cluster"]) == 8


def test_groups_of_a_small_inventory(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("mesos_agents: {hosts: {a1: {}}}\n")
    assert groups(tmp_path)["mesos_agents"] == ["a1"]
