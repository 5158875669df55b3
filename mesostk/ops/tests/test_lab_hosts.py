"""The parts of making container hosts that need no engine."""

from __future__ import annotations

import io
import ipaddress
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from mesostk.ops import engine, lab_image, paths
from mesostk.ops.docker_lab import read_routes, remove_cgroups, why_subnet_clashes
from mesostk.ops.lab import LabSpec
from mesostk.ops.ssh_keys import SshIdentity
from mesostk.testing.requirements import require_root

LAB = ipaddress.IPv4Network("10.0.3.0/24")
HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def test_routes_are_read_in_the_kernels_byte_order() -> None:
    text = (
        HEADER
        + "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        + "lxcbr0\t0003000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert read_routes(text) == [("lxcbr0", LAB)]


def test_free_subnet_clashes_with_nothing() -> None:
    networks = {"bridge": [ipaddress.IPv4Network("172.17.0.0/16")]}
    routes = [("eth0", ipaddress.IPv4Network("192.168.2.0/24"))]
    assert why_subnet_clashes(LAB, networks, routes) is None


def test_clash_names_network_or_interface_and_the_remedy() -> None:
    wide = ipaddress.IPv4Network("10.0.0.0/8")
    by_network = why_subnet_clashes(LAB, {"other": [wide]}, [])
    assert by_network is not None
    assert "docker network rm other" in by_network
    assert "--subnet" in by_network
    by_route = why_subnet_clashes(LAB, {}, [("lxcbr0", LAB)])
    assert by_route is not None
    assert "lxcbr0" in by_route
    assert "--subnet" in by_route


def test_recipe_hash_changes_with_any_file_and_with_nothing_else(tmp_path: Path) -> None:
    source = paths.data_root() / "lab"
    recipe = lab_image.RECIPE
    for name in recipe:
        (tmp_path / name).write_bytes((source / name).read_bytes())
    before = lab_image.recipe_hash(source)
    assert lab_image.recipe_hash(tmp_path) == before
    (tmp_path / "unrelated").write_text("x")
    assert lab_image.recipe_hash(tmp_path) == before
    for name in recipe:
        with (tmp_path / name).open("ab") as file:
            file.write(b"\n# more\n")
        after = lab_image.recipe_hash(tmp_path)
        assert after != before
        before = after


@pytest.mark.parametrize("name", ["build", "customize", "entrypoint"])
def test_recipe_scripts_are_valid_shell(name: str) -> None:
    subprocess.run(["sh", "-n", str(paths.data_root() / "lab" / name)], check=True)


def test_machines_own_mirror_is_used_where_it_has_the_release() -> None:
    targets = [
        ("https://mirror.example/security/", "bookworm-security", "main"),
        ("https://mirror.example/debian/", "bookworm", "main"),
    ]
    assert lab_image.debian_mirror("bookworm", targets) == "https://mirror.example/debian"
    ubuntu = [("https://ubuntu.example/", "noble", "main")]
    assert lab_image.debian_mirror("bookworm", ubuntu) == "http://deb.debian.org/debian"


def test_another_release_comes_from_the_same_mirrors() -> None:
    targets = [
        ("https://mirror.example/debian/", "bookworm", "main"),
        ("https://mirror.example/debian/", "bookworm", "contrib"),
        ("https://mirror.example/security/", "bookworm-security", "main"),
    ]
    assert lab_image.debian_mirror("trixie", targets) == "https://mirror.example/debian"
    lines = lab_image.apt_sources("trixie", targets).splitlines()
    assert [line.split()[-3:] for line in lines] == [
        ["https://mirror.example/debian/", "trixie", "main"],
        ["https://mirror.example/security/", "trixie-security", "main"],
    ]
    assert lab_image.image_name("trixie") != lab_image.image_name("bookworm")


def test_only_settings_that_say_how_to_fetch_are_taken_over() -> None:
    dump = (
        'APT::Architecture "amd64";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::http::Proxy::mirror.example "DIRECT";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::IndexTargets::deb::DEP-11 "";\n'
        'DPkg::Post-Invoke:: "rm -rf /something";\n'
    )
    assert lab_image.acquire_settings(dump).splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    ]


def test_stale_pid_file_is_removed_and_a_true_one_is_kept(tmp_path: Path) -> None:
    require_root()
    proc, pid_file = tmp_path / "proc", tmp_path / "docker.pid"
    (proc / "41").mkdir(parents=True)
    (proc / "41" / "comm").write_text("dockerd\n")
    (proc / "42").mkdir()
    (proc / "42" / "comm").write_text("postgres\n")
    assert not engine.clear_stale_pid_file(pid_file, "dockerd", proc)
    pid_file.write_text("41")
    assert not engine.clear_stale_pid_file(pid_file, "dockerd", proc)
    assert pid_file.exists()
    for stale in ("42", "43\n", ""):
        pid_file.write_text(stale)
        assert engine.clear_stale_pid_file(pid_file, "dockerd", proc)
        assert not pid_file.exists()


def test_ssh_keys_are_private_distinct_and_made_once(tmp_path: Path) -> None:
    hosts = LabSpec(driver="docker", masters=1, agents=1).hosts()
    ssh = SshIdentity(tmp_path / "ssh")
    ssh.ensure(hosts)
    before = {path.name: path.read_bytes() for path in ssh.directory.iterdir()}
    ssh.key.chmod(0o644)
    ssh.ensure(hosts)
    assert {path.name: path.read_bytes() for path in ssh.directory.iterdir()} == before
    for name in ("id_ed25519", "host_mesos-master1", "host_mesos-slave1"):
        assert stat.S_IMODE((ssh.directory / name).stat().st_mode) == 0o600
    first, second = ssh.known_hosts.read_text().splitlines()
    assert first.startswith("10.0.3.11,mesos-master1 ssh-ed25519 ")
    assert second.startswith("10.0.3.51,mesos-slave1 ssh-ed25519 ")
    assert first.split()[2] != second.split()[2]


def test_host_gets_its_key_and_lets_the_lab_in(tmp_path: Path) -> None:
    hosts = LabSpec(driver="docker", masters=1, agents=1).hosts()
    ssh = SshIdentity(tmp_path)
    ssh.ensure(hosts)
    with tarfile.open(fileobj=io.BytesIO(ssh.archive(hosts[1]))) as tar:
        modes = {entry.name: entry.mode for entry in tar.getmembers()}
        keys = tar.extractfile("root/.ssh/authorized_keys")
        assert keys is not None
        assert keys.read() == (tmp_path / "id_ed25519.pub").read_bytes()
    assert modes["etc/ssh/ssh_host_ed25519_key"] == 0o600
    assert modes["root/.ssh/authorized_keys"] == 0o600


def test_left_over_groups_are_removed_from_the_bottom_up(tmp_path: Path) -> None:
    mine = tmp_path / "memory" / "docker" / "abc" / "system.slice" / "x.service"
    other = tmp_path / "memory" / "docker" / "def"
    unified = tmp_path / "docker" / "abc" / "init.scope"
    for directory in (mine, other, unified):
        directory.mkdir(parents=True)
    removed = remove_cgroups(["abc"], tmp_path)
    assert len(removed) == 5
    assert other.is_dir()
    assert not (tmp_path / "memory" / "docker" / "abc").exists()
    assert not (tmp_path / "docker" / "abc").exists()
