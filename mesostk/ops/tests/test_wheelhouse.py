"""Release names and archives. The network is not asked: wheels that are there are not fetched."""

import hashlib
import tarfile
import zipfile
from pathlib import Path

import pytest

from mesostk.errors import ConfigError
from mesostk.ops import wheelhouse
from mesostk.ops.paths import data_root


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_other_code_is_another_release_and_other_roles_are_not(tmp_path: Path) -> None:
    code = {"mesostk/a.py": "1", "mesostk/_ansible/roles/x": "1", "mesostk-0.dist-info/RECORD": ""}
    names = [
        wheelhouse.release_name(wheel(tmp_path / f"{number}.whl", code | change))
        for number, change in enumerate(
            ({}, {"mesostk/_ansible/roles/x": "2"}, {"mesostk/a.py": "2"}, {"mesostk/b.py": ""})
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_checkout_builds_one_release_however_often(tmp_path: Path) -> None:
    first, built = wheelhouse.own_wheel(tmp_path)
    again, same = wheelhouse.own_wheel(tmp_path)
    assert (first, built) == (again, same)
    names = zipfile.ZipFile(built).namelist()
    assert "mesostk/_ansible/playbooks/site.yml" in names
    assert "mesostk/_ansible/requirements/node.txt" in names
    assert not [name for name in names if "/tests/" in name or "mesostk/testing/" in name]


def test_archive_holds_lock_file_own_wheel_and_the_others(tmp_path: Path) -> None:
    release = "0.1.0+12345678"
    (tmp_path / release).mkdir()
    wheel(tmp_path / release / "mesostk-0.1.0-py3-none-any.whl", {"a": ""})
    locks = [data_root() / "requirements" / name for name in ("node.txt", "installer.txt")]
    key = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:8]
    wheels = tmp_path / f"wheels-{key}-py3.11-x86_64"
    wheels.mkdir()
    (wheels / "kazoo-1.whl").write_bytes(b"k")
    archive = wheelhouse.build(tmp_path, release, "3.11", "x86_64")
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["node.txt", "mesostk-0.1.0-py3-none-any.whl", "kazoo-1.whl"]
    assert wheelhouse.build(tmp_path, release, "3.11", "x86_64") == archive


def test_version_that_was_never_built_is_refused_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "0.1.0+aaaaaaaa").mkdir()
    assert wheelhouse.find_release(tmp_path, "0.1.0") == "0.1.0+aaaaaaaa"
    with pytest.raises(ConfigError, match=r"0\.2\.0 has no wheelhouse .*0\.1\.0\+aaaaaaaa"):
        wheelhouse.find_release(tmp_path, "0.2.0")


@pytest.mark.parametrize("python", ["3.10", "2.7", "3", "x", "3.11; rm"])
def test_python_that_is_too_old_or_none_is_refused(tmp_path: Path, python: str) -> None:
    with pytest.raises(ConfigError, match="or newer is needed"):
        wheelhouse.build(tmp_path, "r", python, "x86_64")


def test_command_prints_errors_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["release", "--version", "9.9", "--directory", str(tmp_path)]
    assert wheelhouse.main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: mesostk_version 9.9")
