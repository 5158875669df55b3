"""`cluster init`: an inventory that Ansible reads and the preflight has nothing to say about."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mesostk.cli.app import app
from mesostk.errors import ConfigError
from mesostk.ops.inventory import (
    Wanted,
    addresses,
    check_files,
    initial_inventory,
    listed,
    read_host,
)


def init(directory: Path, *words: str) -> int:
    return CliRunner().invoke(app, ["cluster", "init", str(directory), *words]).exit_code


MASTERS = [word for n in (11, 12, 13) for word in ("--master", f"10.0.3.{n}")]


def test_the_inventory_is_what_was_asked_for(tmp_path: Path) -> None:
    made = tmp_path / "prod"
    words = ("--agent", "blue=10.0.3.51", "--agent", "10.0.3.52", "--user", "ops", "--docker")
    assert init(made, *MASTERS, *words) == 0
    found = listed(made)
    assert addresses(made) == {
        "agent2": "10.0.3.52",
        "blue": "10.0.3.51",
        "master1": "10.0.3.11",
        "master2": "10.0.3.12",
        "master3": "10.0.3.13",
    }
    assert found["mesos_agents"]["hosts"] == ["blue", "agent2"]
    for group in ("zookeeper", "mesos_masters", "marathon", "mesos_dns", "marathon_lb"):
        assert found[group]["hosts"] == ["master1", "master2", "master3"], group
    variables = found["_meta"]["hostvars"]
    assert variables["master2"]["zookeeper_id"] == 2
    assert variables["blue"]["mesos_agent_containerizers"] == ["docker", "mesos"]
    assert variables["blue"]["ansible_user"] == "ops"
    assert (made / "hosts.yml").read_text().count("# ") >= 5, "it is commented"


def test_edges_are_hosts_of_their_own() -> None:
    wanted = Wanted(
        masters=(("m", "10.0.0.1"),), agents=(("s", "10.0.0.2"),), edges=(("e", "10.0.0.3"),)
    )
    hosts = yaml.safe_load(initial_inventory(wanted, "ansible_user: x\n")["hosts.yml"])
    groups = hosts["all"]["children"]["cluster"]["children"]
    assert list(groups["mesos_dns"]["hosts"]) == list(groups["marathon_lb"]["hosts"]) == ["e"]


def test_nothing_is_overwritten_and_nobody_is_asked_without_a_terminal(tmp_path: Path) -> None:
    assert init(tmp_path / "a", "--master", "10.0.3.11") == 2
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "hosts.yml").write_text("mine")
    assert init(tmp_path / "b", *MASTERS, "--agent", "10.0.3.51") == 2
    assert (tmp_path / "b" / "hosts.yml").read_text() == "mine"


@pytest.mark.parametrize(
    ("masters", "agents", "words"),
    [
        ((("a", "1"), ("b", "2")), (("c", "3"),), "2 masters"),
        ((("a", "1"),), (), "0 agents"),
        ((("a", "1"),), (("b", "1"),), "several hosts have the address 1"),
        ((("a", "1"),), (("a", "2"),), "a has two addresses"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(
    masters: tuple[tuple[str, str], ...], agents: tuple[tuple[str, str], ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        initial_inventory(Wanted(masters=masters, agents=agents), "")


@pytest.mark.parametrize("text", ["", "a b", "1=2", "=10.0.0.1", "x=", "a_b=10.0.0.1"])
def test_a_host_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--agent"):
        read_host(text, "agent", 1)


def test_an_inventory_that_ansible_cannot_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: [")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        listed(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        listed(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("hosts.yml", "all:\n  hosts: {a: [\n", r"hosts\.yml:3: no YAML: .*bracket"),
        ("group_vars/all.yml", 'x: 1\ny: "{{ no\n', r"group_vars/all\.yml:\d: no YAML: .*a quote"),
        ("host_vars/blue", "x: 1\n\ty: 2\n", r"host_vars/blue:2: no YAML: .*a tab"),
        ("group_vars/all/more.yaml", "x: \x07\n", r"group_vars/all/more\.yaml: no YAML"),
    ],
)
def test_file_that_is_no_yaml_is_named_with_its_line(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        check_files(tmp_path)


def test_files_that_are_ansibles_own_matter_are_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.ini").write_text("[zookeeper]\nm1 ansible_host=10.0.3.11\n")
    (tmp_path / "group_vars" / "secret.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (tmp_path / "group_vars" / "all.yml").write_text("a: !vault |\n  $ANSIBLE_VAULT;1.1\n  61\n")
    (tmp_path / "group_vars" / ".all.yml.swp").write_bytes(b"\xff\x00")
    check_files(tmp_path)
    check_files(tmp_path / "hosts.ini")
    with pytest.raises(ConfigError, match="does not exist"):
        check_files(tmp_path / "none")
