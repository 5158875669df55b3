"""What a lab is, before anything is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops import inventory, lab, lab_registry, paths
from mesostk.ops.lab import LabSpec, Topology


def test_default_lab_has_the_hosts_of_the_tutorial() -> None:
    hosts = {host.name: host.address for host in LabSpec(driver="docker").hosts()}
    assert hosts == {
        "mesos-master1": "10.0.3.11",
        "mesos-master2": "10.0.3.12",
        "mesos-master3": "10.0.3.13",
        "mesos-slave1": "10.0.3.51",
        "mesos-slave2": "10.0.3.52",
        "mesos-slave3": "10.0.3.53",
    }


def test_tutorials_topology_has_names_and_balancing_on_hosts_of_their_own() -> None:
    spec = LabSpec(driver="docker", topology="tutorial")
    hosts = {host.name: (host.address, host.groups) for host in spec.hosts()}
    assert len(hosts) == 8
    assert hosts["mesos-dns"] == ("10.0.3.60", ("mesos_dns",))
    assert hosts["mesos-lb"] == ("10.0.3.61", ("marathon_lb",))
    assert [host.name for host in spec.in_group("mesos_dns")] == ["mesos-dns"]
    assert hosts["mesos-master1"] == ("10.0.3.11", ("zookeeper", "mesos_masters", "marathon"))


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (LabSpec(driver="docker", name="Lab"), "lab name 'Lab'"),
        (LabSpec(driver="docker", name="longer-than-7"), "lab name"),
        (LabSpec(driver="docker", masters=2), "masters: 2"),
        (LabSpec(driver="docker", masters=0), "masters: 0"),
        (LabSpec(driver="local", agents=0), "agents: 0"),
        (LabSpec(driver="local", agents=10), "agents: 10"),
        (LabSpec(driver="local", release="trixie"), "release"),
        (LabSpec(driver="local", isolated=True), "isolated"),
        (LabSpec(driver="docker", subnet="10.0.3.7/24"), "subnet"),
        (LabSpec(driver="docker", subnet="10.0.3.0/28"), "too small"),
        (LabSpec(driver="docker", subnet="nonsense"), "subnet"),
        (LabSpec(driver="local", topology="tutorial"), "topology: tutorial"),
    ],
)
def test_wrong_lab_is_refused_with_the_field_named(spec: LabSpec, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        lab.validate(spec)


def test_lab_can_grow_by_agents_and_by_nothing_else() -> None:
    old = LabSpec(driver="docker", agents=3)
    assert lab.why_not_changed(old, LabSpec(driver="docker", agents=5)) is None
    for other in (
        LabSpec(driver="docker", agents=2),
        LabSpec(driver="docker", masters=1),
        LabSpec(driver="local"),
        LabSpec(driver="docker", subnet="10.9.3.0/24"),
        LabSpec(driver="docker", release="trixie"),
        LabSpec(driver="docker", isolated=True),
        LabSpec(driver="docker", topology="tutorial"),
    ):
        reason = lab.why_not_changed(old, other)
        assert reason is not None
        assert "lab down" in reason


def test_spec_is_remembered_and_a_damaged_one_is_reported(tmp_path: Path) -> None:
    directory = tmp_path / "labs" / "x"
    assert lab.load_spec(directory) is None
    spec = LabSpec(driver="local", name="x", masters=1, agents=2)
    lab.save_spec(directory, spec)
    assert lab.load_spec(directory) == spec
    (directory / "lab.json").write_text('{"driver": "cloud"}')
    with pytest.raises(ConfigError, match=r"lab\.json.*driver"):
        lab.load_spec(directory)
    lab.forget(directory)
    assert not directory.exists()
    assert not directory.parent.exists()


def test_lab_is_changed_by_one_command_at_a_time(tmp_path: Path) -> None:
    directory = tmp_path / "x"
    with lab.changing(directory):
        refused = pytest.raises(Unavailable, match="another command is changing lab 'x'")
        with refused, lab.changing(directory):
            pass
        lab.forget(directory)
    with lab.changing(directory):
        assert directory.is_dir()


def test_unknown_lab_and_host_are_refused_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESOSTK_LABS_DIR", str(tmp_path))
    with pytest.raises(Unavailable, match="there is no lab 'nope'"):
        lab.existing("nope")
    with pytest.raises(ConfigError, match="mesos-master1, mesos-master2"):
        lab.named(LabSpec(driver="docker"), "mesos-master9")


@pytest.mark.parametrize("topology", ["lab", "tutorial"])
def test_written_inventory_says_the_same_as_the_static_one(
    tmp_path: Path, topology: Topology
) -> None:
    static = yaml.safe_load((paths.data_root() / "inventory" / topology / "hosts.yml").read_text())
    spec = LabSpec(driver="docker", topology=topology)
    mirrors = [lab_registry.url(spec)]
    variables = {
        **inventory.ssh_variables(tmp_path / "key", tmp_path / "known hosts"),
        "docker_registry_mirrors": mirrors,
    }
    text = inventory.render_inventory(spec.hosts(), variables)
    written = yaml.safe_load(text)
    assert _members(written) == _members(static)
    assert _addresses(written) == _addresses(static)
    assert written["all"]["vars"].keys() == static["all"]["vars"].keys()
    assert written["all"]["vars"]["docker_registry_mirrors"] == mirrors
    assert static["all"]["vars"]["docker_registry_mirrors"] == mirrors


def _members(tree: dict[str, object]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}

    def walk(name: str, group: dict[str, dict[str, dict[str, object]]]) -> set[str]:
        members = set(group.get("hosts") or {})
        for child, below in (group.get("children") or {}).items():
            members |= walk(child, below)  # type: ignore[arg-type] # YAML has no types
        groups[name] = members
        return members

    walk("all", tree["all"])  # type: ignore[arg-type] # YAML has no types
    return groups


def _addresses(tree: object) -> dict[str, str]:
    found: dict[str, str] = {}
    if isinstance(tree, dict):
        for name, below in tree.items():
            if isinstance(below, dict) and "ansible_host" in below:
                found[name] = below["ansible_host"]
            found |= _addresses(below)
    return found


def test_hosts_of_a_lab_come_and_go_with_their_numbers() -> None:
    spec = LabSpec(driver="docker")
    grown = lab.with_host(spec, "mesos-slave4")
    assert lab.named(grown, "mesos-slave4").address == "10.0.3.54"
    assert lab.without_host(grown, "mesos-slave4") == spec

    both = lab.with_host(spec, "mesos-master4", "mesos-master1")
    assert lab.named(both, "mesos-master4").zookeeper_id == 1
    replaced = lab.without_host(both, "mesos-master1")
    names = [host.name for host in replaced.hosts() if host.is_master]
    assert names == ["mesos-master2", "mesos-master3", "mesos-master4"]
    back = lab.with_host(replaced, "mesos-master1", "mesos-master4")
    assert lab.without_host(back, "mesos-master4") == spec

    assert lab.named(lab.with_host(spec, "mesos-master5"), "mesos-master5").zookeeper_id == 4
    with pytest.raises(ConfigError, match="addresses follow from their names"):
        lab.with_host(spec, "web1")
    with pytest.raises(ConfigError, match="no host 'mesos-slave9'"):
        lab.without_host(spec, "mesos-slave9")
