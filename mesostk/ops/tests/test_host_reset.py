"""The module host_reset: which paths are data, which processes are of tasks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesostk.testing.plugins import load

reset = load("library", "host_reset")


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/var/lib/mesos", True),
        ("/data/disk1/mesos", True),
        ("/srv/mesos/work", True),
        ("/var/lib/zookeeper/version-2", True),
        ("/", False),
        ("/var/lib", False),
        ("/var/lib/..", False),
        ("/var/lib/mesos/../../../etc/ssh", False),
        ("/home/anna/mesos", False),
        ("/usr/lib/mesos", False),
        ("var/lib/mesos", False),
        ("", False),
    ],
)
def test_only_directories_for_data_are_removed(path: str, safe: bool) -> None:
    assert reset.is_safe(path) is safe


LAUNCHER = "/opt/mesostk/0.1.0/bin/python -I -c from mesostk.agent import launcher"


def test_tasks_are_found_below_their_supervisors_and_by_session() -> None:
    table = {
        os.getpid(): (1, os.getpid(), "python host_reset"),
        1: (0, 1, "/sbin/init"),
        10: (1, 10, LAUNCHER),
        11: (10, 11, LAUNCHER),
        12: (11, 12, "sh -c serve"),
        13: (12, 12, "serve"),
        14: (1, 12, "a daemon that its task left behind"),
        20: (1, 20, "/usr/sbin/sshd"),
        21: (1, 21, "/opt/mesostk/0.1.0/bin/python /opt/mesostk/current/bin/marathon"),
    }
    assert reset.of_tasks(table) == {10, 11, 12, 13, 14}


def test_this_machines_processes_are_read() -> None:
    parent, session, command = reset.processes()[os.getpid()]
    assert (parent, session) == (os.getppid(), os.getsid(0))
    assert command


def test_a_block_is_taken_out_of_a_file_that_others_write(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("a\n# BEGIN mesostk cluster\nb\n# END mesostk cluster\nc\n")
    assert reset.remove_block(str(path), "mesostk cluster")
    assert path.read_text() == "a\nc\n"
    assert not reset.remove_block(str(path), "mesostk cluster")
    path.write_text("a\n# BEGIN mesostk cluster\nb\n")
    assert not reset.remove_block(str(path), "mesostk cluster"), "where it ends is not known"


def test_what_roles_laid_elsewhere_is_removed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reset, "LAID", str(tmp_path))
    assert list(reset.laid()) == []
    (tmp_path / "agent.json").write_text('{"files": ["/srv/secrets/token"], "directories": []}')
    assert list(reset.laid()) == ["/srv/secrets/token"]


def test_what_an_interrupted_run_removes_meanwhile_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "etc"
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "file").touch()
    rmtree = reset.shutil.rmtree

    def removed_by_another(path: str) -> None:
        rmtree(tree / "below")
        monkeypatch.undo()
        raise FileNotFoundError(path)

    monkeypatch.setattr(reset.shutil, "rmtree", removed_by_another)
    reset.remove(str(tree))
    assert not tree.exists()
    reset.remove(str(tree))
