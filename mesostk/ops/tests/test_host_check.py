"""The module host_check on this very machine: real sockets, disks, interpreters."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from mesostk.testing.plugins import load

check = load("library", "host_check")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No service of this toolkit is installed, whatever the machine has."""
    directory = tmp_path / "services"
    directory.mkdir()
    monkeypatch.setattr(check, "RECORDS", str(directory))
    return directory


def test_the_hosts_own_address_and_name_are_well() -> None:
    assert list(check.check_address("127.0.0.1")) == []
    assert list(check.check_address("localhost")) == []


def test_an_address_of_another_host_is_found() -> None:
    (found,) = check.check_address("192.0.2.1")  # reserved for documentation: nobody's
    assert "none of its network cards" in found["problem"]


def test_a_name_without_an_address_is_found() -> None:
    (found,) = check.check_address("no-such-host.invalid")
    assert "has no address" in found["problem"]


def test_a_taken_port_is_found_with_its_process(records: Path) -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))  # what other hosts can reach is what counts
        server.listen()
        port = server.getsockname()[1]
        wanted = [{"port": port, "service": "marathon"}]
        (found,) = check.check_ports(wanted)
        assert f"(pid {os.getpid()})" in found["problem"]
        (records / "marathon.json").write_text("{}")
        assert list(check.check_ports(wanted)) == [], "it is the service itself"


def test_a_loopback_listener_takes_no_port(records: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        wanted = [{"port": server.getsockname()[1], "service": "marathon"}]
        assert list(check.check_ports(wanted)) == []


def test_a_host_that_refuses_is_reached_and_a_name_without_address_is_not() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused = {"host": "a", "address": "127.0.0.1", "port": free.getsockname()[1]}
        unknown = {"host": "b", "address": "no-such-host.invalid", "port": 1}
        (found,) = check.unreached([refused, unknown])
    assert found == {**unknown, "reason": "its name has no address"}


def test_directories_on_one_disk_share_its_room(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize >> 20
    half = {str(tmp_path / "a" / "b"): free // 2}
    assert list(check.check_disks(half)) == []
    (found,) = check.check_disks({**half, str(tmp_path / "c"): free})
    assert "a/b" in found["problem"]
    assert str(tmp_path / "c") in found["problem"]


def test_data_of_another_installation_are_found(tmp_path: Path, records: Path) -> None:
    wanted = [{"path": str(tmp_path / "version-2"), "service": "zookeeper"}]
    assert list(check.check_data(wanted)) == []
    (tmp_path / "version-2").mkdir()
    assert list(check.check_data(wanted)) == []
    (tmp_path / "version-2" / "snapshot.0").write_text("")
    (found,) = check.check_data(wanted)
    assert "validate_keep_data" in found["remedy"]
    (records / "zookeeper.json").write_text("{}")
    assert list(check.check_data(wanted)) == []


@pytest.mark.parametrize(
    ("there", "used", "wrong"),
    [(None, True, False), ("1", True, False), ("2", True, True), ("2", False, False)],
)
def test_the_number_of_a_member_may_not_change(
    tmp_path: Path, there: str | None, used: bool, wrong: bool
) -> None:
    if there is not None:
        (tmp_path / "myid").write_text(there + "\n")
    if used:
        (tmp_path / "version-2").mkdir()
    found = list(check.check_zookeeper_id(1, str(tmp_path)))
    assert [one["remedy"].startswith("set zookeeper_id: 2") for one in found] == [True] * wrong


@pytest.mark.parametrize(
    ("lines", "members"),
    [
        (["# server.9=x:1:2", "dataDir=/d"], {"2": "10.0.3.12"}),
        (
            ["server.1=10.0.3.11:2888:3888", "server.2 = m2:2888:3888:participant;2181"],
            {"1": "10.0.3.11", "2": "m2"},
        ),
    ],
)
def test_ensemble_is_that_of_the_configuration_where_there_are_data(
    tmp_path: Path,
    records: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    members: dict[str, str],
) -> None:
    monkeypatch.setattr(check, "ZOO_CFG", str(tmp_path / "zoo.cfg"))
    (tmp_path / "zoo.cfg").write_text("\n".join(lines))
    (tmp_path / "myid").write_text("2\n")
    (records / "zookeeper.json").write_text("{}")
    assert check.ensemble("10.0.3.12", str(tmp_path)) == {}
    (tmp_path / "version-2").mkdir()
    assert check.ensemble("10.0.3.12", str(tmp_path)) == members


def test_controllers_that_nobody_has_are_found() -> None:
    assert list(check.check_cgroups([])) == []
    (found,) = check.check_cgroups(["warp"])
    assert "warp" in found["problem"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f'exec {sys.executable} "$@"', None),
        ("echo '[3, 9]'", "Python 3.9"),
        ("exit 1", "not there"),
    ],
)
def test_an_old_python_is_found(tmp_path: Path, body: str, words: str | None) -> None:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    found = list(check.check_python(str(path)))
    assert found == [] if words is None else words in found[0]["problem"]


def test_a_python_that_is_not_there_is_found() -> None:
    (found,) = check.check_python("/no/python3")
    assert "mesostk_python" in found["remedy"]
