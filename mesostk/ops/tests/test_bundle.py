"""Bundles: what comes out is what went in, or nothing does."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest

from mesostk.errors import ConfigError, MesostkError, WireError
from mesostk.ops import bundle
from mesostk.ops.bundle import LOCK, Lock, index_of, open_bundle, variables


def made(tmp_path: Path, **changes: object) -> Path:
    """A small bundle."""
    parts = tmp_path / "parts"
    files = {"debs.tar": b"debs", "wheels/x-py3.11-x86_64.tar": b"w", "images/nginx.tar": b"i"}
    for name, data in files.items():
        (parts / name).parent.mkdir(parents=True, exist_ok=True)
        (parts / name).write_bytes(data)
    fields: dict[str, object] = {
        "format": 1,
        "release": "0.1.0+12345678",
        "debian": "bookworm",
        "machine": "x86_64",
        "python": "3.11",
        "files": {name: bundle._sum(parts / name) for name in files},
        "debs": {},
    }
    lock = msgspec.convert({**fields, **changes}, Lock)
    target = tmp_path / "bundle.tar"
    bundle._pack(target, parts, lock)
    return target


def rewritten(source: Path, name: str, data: bytes | None) -> Path:
    """The bundle with another member `name`; None leaves it out."""
    with tarfile.open(source) as old:
        members = {
            one.name: file.read() for one in old if (file := old.extractfile(one)) is not None
        }
    if data is None:
        del members[name]
    else:
        members[name] = data
    with tarfile.open(source, "w") as new:
        for kept, content in members.items():
            member = tarfile.TarInfo(kept)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return source


def test_parts_come_out_once_and_are_what_playbooks_are_told(tmp_path: Path) -> None:
    source = made(tmp_path)
    directory, lock = open_bundle(source, tmp_path / "out")
    assert {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    } == {LOCK, *lock.files}
    assert variables(directory, lock) == {
        "common_bundle": f"{directory}/debs.tar",
        "mesostk_wheelhouse": f"{directory}/wheels",
        "mesostk_version": "0.1.0+12345678",
        "docker_images": [f"{directory}/images/nginx.tar"],
    }
    (directory / "debs.tar").write_bytes(b"left alone")
    assert open_bundle(source, tmp_path / "out")[0] == directory
    assert (directory / "debs.tar").read_bytes() == b"left alone"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("debs.tar", b"other", "debs.tar is not what was packed"),
        ("debs.tar", None, "debs.tar missing"),
        ("more", b"x", "more is not in its lock"),
        ("../evil", b"x", "evil is not in its lock"),
        (LOCK, b"{}", "lock.json"),
        (LOCK, None, "lock.json"),
    ],
)
def test_a_changed_bundle_is_refused_and_leaves_no_lock(
    tmp_path: Path, name: str, data: bytes | None, words: str
) -> None:
    source = rewritten(made(tmp_path), name, data)
    with pytest.raises(WireError, match=words):
        open_bundle(source, tmp_path / "out")
    assert not list((tmp_path / "out").rglob(LOCK))
    assert not (tmp_path / "evil").exists()


def test_a_lock_that_leads_outside_is_refused(tmp_path: Path) -> None:
    source = made(tmp_path)
    text = (tmp_path / "parts" / LOCK).read_bytes().replace(b"images/nginx.tar", b"../nginx.tar")
    with pytest.raises(WireError, match="no name of a part"):
        open_bundle(rewritten(source, LOCK, text), tmp_path / "out")


def test_other_formats_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="format 2; this version reads 1"):
        open_bundle(made(tmp_path, format=2), tmp_path / "out")
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(WireError, match="is no bundle"):
        open_bundle(tmp_path / "junk", tmp_path / "out")
    with pytest.raises(ConfigError, match="No such file"):
        open_bundle(tmp_path / "none", tmp_path / "out")


def test_a_cut_bundle_is_refused_and_a_whole_one_then_taken(tmp_path: Path) -> None:
    source = made(tmp_path)
    whole = source.read_bytes()
    source.write_bytes(whole[:2048])
    with pytest.raises(WireError, match=r"bundle\.tar"):
        open_bundle(source, tmp_path / "out")
    source.write_bytes(whole)
    assert open_bundle(source, tmp_path / "out")[1].python == "3.11"


def test_apt_installs_from_the_index(tmp_path: Path) -> None:
    """apt itself reads the index and takes the package that it names."""
    root = tmp_path / "package"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: hello-bundle\nVersion: 1.0\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: a test\n of two lines\n"
    )
    repository = tmp_path / "repository"
    repository.mkdir()
    deb = repository / "hello-bundle_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(deb)], check=True, capture_output=True)
    (repository / "Packages").write_text(index_of([deb], {deb.name: bundle._sum(deb)}))
    (tmp_path / "sources").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "archives" / "partial").mkdir(parents=True)
    (tmp_path / "status").touch()
    options = [
        f"Dir::Etc::sourcelist={tmp_path}/sources", "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={tmp_path}/lists", f"Dir::State::status={tmp_path}/status",
        f"Dir::Cache={tmp_path}", "Debug::NoLocking=1", "APT::Sandbox::User=root",
    ]  # fmt: skip
    apt = ["apt-get", "-q", *(f"-o{option}" for option in options)]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    shown = subprocess.run(
        [*apt, "install", "-y", "--print-uris", "hello-bundle"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert f"{deb.name} {deb.stat().st_size} " in shown


def test_programs_that_fail_are_quoted_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="there is no no-such-program"):
        bundle._run(["no-such-program"])
    with pytest.raises(MesostkError, match=r"sh failed: alas\nremedy: do this"):
        bundle._run(["sh", "-c", "echo alas >&2; exit 3"], remedy="do this")
    with pytest.raises(ConfigError, match="is no name of an image"):
        bundle._save("--privileged", Path("/nonexistent"))
