"""The Ansible module host_files, on real directories."""

import grp
import os
import pwd
import stat
from pathlib import Path

import pytest

from mesostk.testing.plugins import load

OWNER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


host_files = load("library", "host_files")


def owned() -> dict[str, str]:
    return {"owner": OWNER, "group": GROUP}


def test_flag_values_become_the_files_that_the_wrapper_reads() -> None:
    flags = {"quorum": 2, "hostname": "a", "log_auto_initialize": True, "tls": False, "x": None}
    assert host_files.flag_files(flags) == {
        "quorum": "2\n",
        "hostname": "a\n",
        "?log_auto_initialize": "",
        "?no-tls": "",
    }


def test_flag_directory_loses_what_is_not_in_the_map_and_keeps_dot_files(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1\n")
    (tmp_path / ".keep").write_text("1\n")
    (tmp_path / "attributes").mkdir()
    disk = host_files.Disk(check=False)
    disk.flag_dir(str(tmp_path), {"ip": "10.0.3.11"}, **owned())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keep", "attributes", "ip"]
    assert (tmp_path / "ip").read_text() == "10.0.3.11\n"
    assert str(tmp_path / "old") in disk.changed


def test_second_run_changes_nothing(tmp_path: Path) -> None:
    def run() -> list[str]:
        disk = host_files.Disk(check=False)
        disk.directory(str(tmp_path / "d"), mode="0750", **owned())
        disk.file(str(tmp_path / "d" / "f"), "text", mode="0640", **owned())
        disk.link(str(tmp_path / "l"), "d/f")
        disk.flag_dir(str(tmp_path / "flags"), {"a": 1}, **owned())
        changed: list[str] = disk.changed
        return changed

    assert len(run()) == 5
    assert run() == []


@pytest.mark.parametrize("damage", ["content", "mode", "gone", "link", "directory mode"])
def test_each_kind_of_drift_is_found_and_repaired(tmp_path: Path, damage: str) -> None:
    target, link, folder = tmp_path / "d" / "f", tmp_path / "l", tmp_path / "d"

    def run() -> list[str]:
        disk = host_files.Disk(check=False)
        disk.directory(str(folder), mode="0750", **owned())
        disk.file(str(target), "text\n", mode="0640", **owned())
        disk.link(str(link), "d/f")
        changed: list[str] = disk.changed
        return changed

    run()
    match damage:
        case "content":
            target.write_text("other\n")
        case "mode":
            target.chmod(0o600)
        case "gone":
            target.unlink()
        case "link":
            link.unlink()
            link.symlink_to("elsewhere")
        case _:
            folder.chmod(0o700)
    wanted = {"link": link, "directory mode": folder}.get(damage, target)
    assert run() == [str(wanted)]
    assert target.read_text() == "text\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert str(link.readlink()) == "d/f"
    assert run() == []


def test_check_mode_reports_and_leaves_alone(tmp_path: Path) -> None:
    disk = host_files.Disk(check=True)
    disk.file(str(tmp_path / "f"), "text", owner="no-such-user-yet")
    disk.flag_dir(str(tmp_path / "flags"), {"a": 1}, owner="no-such-user-yet")
    assert len(disk.changed) == 3
    assert list(tmp_path.iterdir()) == []


def test_unknown_owner_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(host_files.Problem, match="make the user first"):
        host_files.Disk(check=False).file(str(tmp_path / "f"), "text", owner="no-such-user")
    assert list(tmp_path.iterdir()) == []


def test_block_leaves_the_rest_of_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    path.chmod(0o604)
    disk = host_files.Disk(check=False)
    disk.block(str(path), "m", "10.0.3.11 a")
    disk.block(str(path), "m", "10.0.3.12 b")
    assert path.read_text() == ("127.0.0.1 localhost\n# BEGIN m\n10.0.3.12 b\n# END m\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    again = host_files.Disk(check=False)
    again.block(str(path), "m", "10.0.3.12 b")
    assert again.changed == []


def test_directory_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(host_files.Problem, match="move it away"):
        host_files.Disk(check=False).file(str(tmp_path / "f"), "text", **owned())


def test_number_as_content_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(host_files.Problem, match="not text"):
        host_files.Disk(check=False).file(str(tmp_path / "f"), 3, **owned())
    assert list(tmp_path.iterdir()) == []


def test_differences_of_what_not_everybody_may_read_are_not_shown(tmp_path: Path) -> None:
    disk = host_files.Disk(check=False)
    disk.file(str(tmp_path / "config.json"), "key: hunter2", mode="0640", **owned())
    disk.flag_dir(str(tmp_path / "closed"), {"stats": "a:hunter2"}, mode="0750", **owned())
    flags = {"http_credentials": "a:hunter2", "zk": "zk://m1"}
    disk.flag_dir(str(tmp_path / "open"), flags, **owned())
    disk.flag_dir(str(tmp_path / "open"), {}, **owned())
    assert "hunter2" not in str(disk.diffs)
    assert str(disk.diffs).count("zk://m1") == 2
    assert len(disk.changed) == len({one["after_header"] for one in disk.diffs})
