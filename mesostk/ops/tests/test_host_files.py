"""The Ansible module host_files, on real directories."""

import errno
import grp
import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mesostk.ops.paths import data_root
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


def test_removed_files_that_not_everybody_may_read_are_not_shown(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    disk = host_files.Disk(check=False)
    disk.flag_dir(str(closed), {"stats": "a:hunter2"}, mode="0750", **owned())
    disk.file(str(tmp_path / "plain"), "hunter2", mode="0600", **owned())
    disk.flag_dir(str(closed), {}, mode="0750", **owned())
    disk.absent(str(tmp_path / "plain"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed"]
    assert "hunter2" not in str(disk.diffs)


# -- what was laid once ---------------------------------------------------------------------------


def laid(folder: Path, check: bool = False, **texts: str) -> Any:
    """One run that lays `texts` (db_password: db/password) as files of root alone."""
    disk = host_files.Disk(check=check)
    names = {name.replace("_", "/"): text for name, text in texts.items()}
    params = {
        "directories": [{"path": str(folder / "secrets"), "mode": "0700", **owned()}],
        "files": [
            {"path": str(folder / "secrets" / name), "content": text, "mode": "0600", **owned()}
            for name, text in names.items()
        ],
        "flag_dirs": [],
        "blocks": [],
        "links": [],
        "absent": [],
        "record": str(folder / "records" / "agent.json"),
    }
    host_files.bring_about(disk, params)
    return disk


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_named_no_longer_goes_and_what_others_laid_stays(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    laid(tmp_path, db_password="hunter2", db_key="hunter3", token="hunter4")
    (secrets / "by-hand").write_text("hunter5\n")
    gone = laid(tmp_path, token="hunter4")
    assert files_in(secrets) == ["by-hand", "token"]
    assert not (secrets / "db").exists()
    record = str(tmp_path / "records" / "agent.json")
    assert gone.changed == [str(secrets / "db/key"), str(secrets / "db/password"), record]
    assert "hunter" not in str(gone.diffs)
    assert laid(tmp_path, token="hunter4").changed == []
    laid(tmp_path)
    assert files_in(secrets) == ["by-hand"]
    assert laid(tmp_path).changed == []


def test_directory_that_was_there_before_the_files_or_is_not_empty_stays(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "db").mkdir(parents=True)
    laid(tmp_path, db_password="a", tls_key="b")
    (secrets / "tls" / "by-hand").write_text("c\n")
    laid(tmp_path)
    assert (secrets / "db").is_dir()
    assert files_in(secrets) == ["tls/by-hand"]
    assert laid(tmp_path).changed == []


def test_check_mode_says_what_would_go_and_removes_nothing(tmp_path: Path) -> None:
    laid(tmp_path, token="hunter2")
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    told = laid(tmp_path, check=True)
    assert str(tmp_path / "secrets" / "token") in told.changed
    assert "hunter2" not in str(told.diffs)
    assert before == {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}


def test_run_that_dies_between_its_files_has_recorded_them(tmp_path: Path) -> None:
    laid(tmp_path, token="a")
    (tmp_path / "secrets" / "tls").mkdir()
    # It ends at the second file; the first was written.
    with pytest.raises(host_files.Problem, match="move it away"):
        laid(tmp_path, token="a", db_password="b", tls="c")
    assert files_in(tmp_path / "secrets") == ["db/password", "token"]
    laid(tmp_path)
    assert files_in(tmp_path / "secrets") == []
    # It is a directory, which was not laid.
    assert (tmp_path / "secrets" / "tls").is_dir()


def test_name_may_become_a_directory_of_names_and_the_reverse(tmp_path: Path) -> None:
    laid(tmp_path, db="a")
    laid(tmp_path, db_password="b")
    assert files_in(tmp_path / "secrets") == ["db/password"]
    laid(tmp_path, db="c")
    assert files_in(tmp_path / "secrets") == ["db"]
    assert laid(tmp_path, db="c").changed == []


def test_file_that_another_record_names_stays(tmp_path: Path) -> None:
    laid(tmp_path, zk="a")
    record = tmp_path / "records" / "agent.json"
    (tmp_path / "records" / "master.json").write_text(record.read_text())
    laid(tmp_path)
    assert files_in(tmp_path / "secrets") == ["zk"]


def test_record_that_cannot_be_read_is_told_and_written_anew(tmp_path: Path) -> None:
    laid(tmp_path, token="a")
    record = tmp_path / "records" / "agent.json"
    record.write_text('{"files": 3')
    told = laid(tmp_path, check=True, token="a")
    assert told.changed == [str(record)]
    again = laid(tmp_path, token="a")
    assert (again.changed, len(again.diffs)) == ([str(record)], 1)
    assert laid(tmp_path, token="a").changed == []
    record.write_text('{"files": 3')
    disk = laid(tmp_path)
    assert files_in(tmp_path / "secrets") == ["token"]
    assert len(disk.warnings) == 1
    assert "agent.json cannot be read" in disk.warnings[0]
    assert laid(tmp_path).warnings == []


@pytest.mark.parametrize("path", ["{}/secrets/../../passwd", "secrets/a"])
def test_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(host_files.Problem, match="no absolute path"):
        host_files.Disk(check=False).file(path.format(tmp_path), "text", **owned())
    assert list(tmp_path.iterdir()) == []


def test_disk_without_room_is_told_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(host_files.os, "fsync", full)
    disk = host_files.Disk(check=False)
    file = {"path": str(tmp_path / "a"), "content": "b", **owned()}
    with pytest.raises(host_files.Problem, match=r"/a: No space left on device$"):
        host_files.each(disk.file, [file])
    assert list(tmp_path.iterdir()) == []


def test_neither_answer_nor_refusal_holds_a_content(tmp_path: Path) -> None:
    def run(content: object) -> dict[str, Any]:
        file = {"path": f"{tmp_path}/a", "content": content, "mode": "0600", **owned()}
        flags = {"path": f"{tmp_path}/f", "flags": {"x": content}, "mode": "0750", **owned()}
        settings = {"files": [file], "flag_dirs": [flags], "_ansible_check_mode": True}
        done = subprocess.run(
            [sys.executable, data_root() / "playbooks" / "library" / "host_files.py"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": settings}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "1234" not in done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    answer = run("hunter1234")
    assert answer["invocation"]["module_args"]["files"] == [f"{tmp_path}/a"]
    assert answer["changed"] is True
    assert "type int, not text; put it in quotes" in run(1234)["msg"]
