"""The Vagrantfile: what Vagrant says of it, its table against the inventory, machines of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from mesostk.ops.lab import LabSpec, Topology, existing
from mesostk.ops.lab_image import RECIPE, image_name
from mesostk.ops.paths import data_root
from mesostk.ops.vagrant_lab import host_variables, read_ssh_config, read_states
from mesostk.testing.labs import Cluster, mesostk
from mesostk.testing.requirements import require_docker, require_program, require_root

NAME = "vtest"
SUBNET = "10.0.35.0/24"


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "VAGRANT_HOME": str(tmp_path / "home"),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        **more,
    }


def validate(tmp_path: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """`vagrant validate` with the options of libvirt, for which no hypervisor is needed."""
    return subprocess.run(
        ["vagrant", "validate"],
        cwd=root,
        env=environ(tmp_path, VAGRANT_DEFAULT_PROVIDER="libvirt"),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def ruby(expression: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ruby", "-rjson", "-r", str(data_root() / "lab" / "vagrant.rb"), "-e", expression],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


TABLE = 'n = MesostkVagrant.nodes(MesostkVagrant.settings("none", ENV.to_h)); puts JSON.dump(n)'


@pytest.mark.parametrize(("topology", "edge"), [("lab", "no"), ("tutorial", "yes")])
def test_machines_are_those_of_the_inventory_and_of_the_lab(topology: Topology, edge: str) -> None:
    require_program("ruby", "vagrant")
    nodes = json.loads(ruby(TABLE, MESOSTK_VAGRANT_EDGE=edge).stdout)
    table = {node["name"]: (node["ip"], set(node["groups"])) for node in nodes}
    hosts = LabSpec(driver="vagrant", topology=topology).hosts()
    assert table == {host.name: (host.address, set(host.groups)) for host in hosts}
    text = (data_root() / "inventory" / topology / "hosts.yml").read_text()
    addresses = {n: h["ansible_host"] for n, h in yaml.safe_load(text)["all"]["hosts"].items()}
    for group in yaml.safe_load(text)["all"]["children"]["cluster"]["children"].values():
        for name, values in (group.get("hosts") or {}).items():
            if values:
                addresses[name] = values["ansible_host"]
    assert {name: ip for name, (ip, _) in table.items()} == addresses


def test_image_is_the_one_that_the_lab_makes() -> None:
    require_program("ruby", "vagrant")
    lab = data_root() / "lab"
    named = ruby(f"puts MesostkVagrant.image({json.dumps(str(lab))})").stdout.strip()
    assert named == image_name("bookworm")


def test_settings_come_from_the_environment_and_wrong_ones_are_named() -> None:
    require_program("ruby", "vagrant")
    nodes = json.loads(ruby(TABLE, MESOSTK_VAGRANT_AGENT_MEMORY="4096").stdout)
    assert {node["memory"] for node in nodes} == {2048, 4096}
    wrong = ruby(TABLE, MESOSTK_VAGRANT_MASTERS="three")
    assert wrong.returncode != 0
    assert "MESOSTK_VAGRANT_MASTERS" in wrong.stderr


def test_addresses_that_virtualbox_refuses_come_with_the_file_to_write(tmp_path: Path) -> None:
    require_program("ruby", "vagrant")
    ask = 'puts MesostkVagrant.why_not_virtualbox("10.0.3.11", "10.0.3.0/24", ENV["FILE"])'
    networks = tmp_path / "networks.conf"
    said = ruby(ask, FILE=str(networks)).stdout
    assert "* 10.0.3.0/24" in said
    assert str(networks) in said
    networks.write_text("* 10.0.3.0/24\n")
    assert ruby(ask, FILE=str(networks)).stdout.strip() == ""


def test_vagrant_takes_the_file_and_would_refuse_an_unknown_option(tmp_path: Path) -> None:
    require_program("vagrant", "vagrant")
    done = validate(tmp_path, data_root())
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong"
    (wrong / "lab").mkdir(parents=True)
    text = (data_root() / "Vagrantfile").read_text()
    (wrong / "Vagrantfile").write_text(text.replace("provider.cpu_mode", "provider.cpu_mod"))
    for part in ("vagrant.rb", *RECIPE):
        (wrong / "lab" / part).write_bytes((data_root() / "lab" / part).read_bytes())
    (wrong / "playbooks").mkdir()
    (wrong / "playbooks" / "site.yml").touch()
    (wrong / "ansible.cfg").touch()
    refused = validate(tmp_path, wrong)
    assert refused.returncode != 0
    assert "cpu_mod" in refused.stdout + refused.stderr


def test_what_vagrant_prints_is_read() -> None:
    config = 'Host a\n  HostName 127.0.0.1\n  User root\n  Port 2222\n  IdentityFile "/k y"\n'
    reached = read_ssh_config(config)
    assert host_variables("10.0.3.11", reached["a"])["ansible_port"] == "2222"
    assert host_variables("10.0.3.11", reached["a"])["ansible_ssh_private_key_file"] == "/k y"
    assert read_states("1,a,provider-name,docker\n1,a,state,running\n1,,ui,x\n") == {"a": "running"}


@pytest.mark.lab
@pytest.mark.beside
@pytest.mark.docker
@pytest.mark.root
@pytest.mark.timeout(2400)
def test_vagrant_makes_machines_that_the_playbooks_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_docker()
    require_root()
    require_program("vagrant", "vagrant")
    for key, value in environ(tmp_path, VAGRANT_DEFAULT_PROVIDER="docker").items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    size = ("--masters", "1", "--agents", "1", "--subnet", SUBNET, "--name", NAME)
    try:
        up = ("lab", "up", "--driver", "vagrant", "--no-provision")
        done = mesostk(*up, *size, timeout_s=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        status = mesostk("lab", "status", "--name", NAME, "--json")
        assert {one["state"] for one in json.loads(status.stdout)} == {"running"}
        cluster = Cluster(existing(NAME), tmp_path / "runs")
        looked = cluster.playbook("validate")
        assert {"mesos-master1", "mesos-slave1"} <= looked.hosts.keys()
        address = "ip -o -4 addr show to 10.0.35.51"
        assert "10.0.35.51" in cluster.run(cluster.hosts[1], address)
    finally:
        gone = mesostk("lab", "down", "--name", NAME)
    assert gone.returncode == 0, gone.stderr
