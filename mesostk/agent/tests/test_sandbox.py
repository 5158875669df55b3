"""Sandboxes: ownership, what /files/* shows, what it must not, and when they go."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.agent.sandbox import (
    SandboxError,
    create,
    disk_used,
    due,
    max_age_s,
    size_bytes,
)
from mesostk.base.files import READ_LIMIT_BYTES, Piece, VirtualFiles
from mesostk.errors import Rejected
from mesostk.testing.requirements import require_root


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A sandbox with files, and a secret beside it."""
    (tmp_path / "secret").write_text("s3cret")
    sandbox = tmp_path / "runs" / "r1"
    create(sandbox, None)
    (sandbox / "stdout").write_text("0123456789")
    (sandbox / "logs").mkdir()
    (sandbox / "logs" / "x").write_text("deep")
    return sandbox


@pytest.fixture
def files(sandbox: Path) -> VirtualFiles:
    files = VirtualFiles()
    files.attach("/frameworks/F/executors/E/runs/latest", sandbox)
    files.attach(str(sandbox), sandbox)
    return files


V = "/frameworks/F/executors/E/runs/latest"


def refused(status: int):  # type: ignore[no-untyped-def] # pytest's own context manager
    return pytest.raises(Rejected, check=lambda error: error.status == status)


# -- making ---------------------------------------------------------------------------------------


def test_sandbox_is_closed_to_others_and_latest_points_to_it(sandbox: Path) -> None:
    assert stat.S_IMODE(sandbox.stat().st_mode) == 0o750
    assert (sandbox.parent / "latest").readlink() == Path("r1")
    create(sandbox.parent / "r2", None)
    assert (sandbox.parent / "latest").readlink() == Path("r2")


def test_sandbox_that_exists_keeps_its_files(sandbox: Path) -> None:
    create(sandbox, None)
    assert (sandbox / "stdout").exists()


def test_unknown_user_makes_no_sandbox(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="user 'no-such-user' does not exist on this host"):
        create(tmp_path / "r", "no-such-user")
    assert not (tmp_path / "r").exists()


@pytest.mark.root
def test_sandbox_belongs_to_its_user(tmp_path: Path) -> None:
    require_root()
    create(tmp_path / "r", "nobody")
    entry = pwd.getpwnam("nobody")
    found = (tmp_path / "r").stat()
    assert (found.st_uid, found.st_gid) == (entry.pw_uid, entry.pw_gid)
    assert stat.S_IMODE(found.st_mode) == 0o750


def test_sandbox_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SandboxError, match=r"cannot make sandbox .*/file/r: Not a directory"):
        create(tmp_path / "file" / "r", None)


# -- browsing and reading -------------------------------------------------------------------------


def test_directory_is_listed_as_ls_does(files: VirtualFiles, sandbox: Path) -> None:
    (sandbox / "link").symlink_to("stdout")
    entries = {entry.path: entry for entry in files.browse(V + "/")}
    assert list(entries) == [f"{V}/link", f"{V}/logs", f"{V}/stdout"]
    out = entries[f"{V}/stdout"]
    assert (out.mode, out.size, out.nlink) == ("-rw-r--r--", 10, 1)
    assert out.uid == pwd.getpwuid(os.getuid()).pw_name
    assert out.mtime == (sandbox / "stdout").stat().st_mtime
    assert entries[f"{V}/logs"].mode == "drwxr-xr-x"
    assert entries[f"{V}/link"].mode.startswith("l")


def test_owner_without_a_name_is_a_number(files: VirtualFiles, sandbox: Path) -> None:
    require_root()
    os.chown(sandbox / "stdout", 54321, 54322)
    entry = next(e for e in files.browse(V) if e.path.endswith("stdout"))
    assert (entry.uid, entry.gid) == ("54321", "54322")


def test_both_names_of_a_sandbox_lead_to_it(files: VirtualFiles, sandbox: Path) -> None:
    for path in (f"{V}/logs/x", f"{sandbox}/logs/x", f"/{V}//logs/./x", f"{V.lstrip('/')}/logs/x"):
        assert files.read(path, 0) == Piece(0, b"deep")


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (-1, -1, Piece(10, b"")),
        (-1, 5, Piece(10, b"")),
        (0, -1, Piece(0, b"0123456789")),
        (3, 4, Piece(3, b"3456")),
        (8, 100, Piece(8, b"89")),
        (3, 0, Piece(3, b"")),
        (10, -1, Piece(10, b"")),
        (1000, 5, Piece(1000, b"")),
        (2**70, 5, Piece(2**70, b"")),
    ],
)
def test_read(files: VirtualFiles, offset: int, length: int, expected: Piece) -> None:
    assert files.read(f"{V}/stdout", offset, length) == expected


def test_one_read_is_sixteen_pages_at_most(files: VirtualFiles, sandbox: Path) -> None:
    (sandbox / "big").write_bytes(b"x" * 200_000)
    for length in (-1, 200_000):
        assert len(files.read(f"{V}/big", 0, length).data) == READ_LIMIT_BYTES == 65536


def test_bad_requests_have_their_status(files: VirtualFiles) -> None:
    with refused(400):
        files.browse("")
    with refused(400):
        files.browse(f"{V}/stdout")
    with refused(400):
        files.read(f"{V}/logs", 0)
    with refused(400):
        files.read(f"{V}/stdout", -2)
    with refused(400):
        files.read(f"{V}/stdout", 0, -2)
    with refused(404):
        files.read(f"{V}/nothing", 0)
    with refused(404):
        files.browse("/frameworks")
    files.detach(V)
    with refused(404):
        files.browse(V)


def test_single_file_can_be_attached(files: VirtualFiles, tmp_path: Path) -> None:
    (tmp_path / "agent.log").write_text("line")
    files.attach("/slave/log", tmp_path / "agent.log")
    assert files.read("/slave/log", 0) == Piece(0, b"line")
    with refused(404):
        files.read("/slave/log/x", 0)
    assert files.attached()["/slave/log"] == str(tmp_path / "agent.log")


# -- no way out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/../../secret", "/logs/../../../secret", "/..", "/x\0", "/logs/../stdout", "/../r1/stdout"],
)
def test_dots_lead_nowhere(files: VirtualFiles, path: str) -> None:
    with refused(404):
        files.read(V + path, 0)


@pytest.mark.parametrize(
    "target", ["../../secret", "/etc/passwd", "/proc/self/environ", "/dev/zero"]
)
def test_link_out_of_the_sandbox_is_not_followed(
    files: VirtualFiles, sandbox: Path, target: str
) -> None:
    (sandbox / "link").symlink_to(target)
    with refused(404):
        files.read(f"{V}/link", 0)


def test_directory_link_out_of_the_sandbox_is_not_followed(
    files: VirtualFiles, sandbox: Path
) -> None:
    (sandbox / "up").symlink_to("../..")
    with refused(404):
        files.browse(f"{V}/up")
    with refused(404):
        files.read(f"{V}/up/secret", 0)


def test_sibling_whose_name_begins_alike_is_outside(files: VirtualFiles, sandbox: Path) -> None:
    sibling = sandbox.with_name("r1-other")
    sibling.mkdir()
    (sibling / "x").write_text("theirs")
    (sandbox / "link").symlink_to("../r1-other/x")
    with refused(404):
        files.read(f"{V}/link", 0)
    with refused(404):
        files.read(f"{V}-other/x", 0)


def test_link_within_the_sandbox_works(files: VirtualFiles, sandbox: Path) -> None:
    (sandbox / "current").symlink_to("logs/x")
    (sandbox / "absolute").symlink_to(sandbox / "logs")
    assert files.read(f"{V}/current", 0) == Piece(0, b"deep")
    assert files.read(f"{V}/absolute/x", 0) == Piece(0, b"deep")


def test_pipe_in_the_sandbox_does_not_hold_the_reader(files: VirtualFiles, sandbox: Path) -> None:
    os.mkfifo(sandbox / "pipe")
    with refused(404):
        files.read(f"{V}/pipe", 0)


PARTS = st.lists(
    st.sampled_from(
        [
            "..",
            ".",
            "",
            "logs",
            "x",
            "stdout",
            "up",
            "loop",
            "secret",
            "r1",
            "~",
            "\udc80",
            "\ud800",
        ]
    )
)


@given(PARTS)
def test_no_path_reaches_the_secret(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    top = tmp_path_factory.getbasetemp() / "escape"
    sandbox = top / "r1"
    if not sandbox.exists():
        (sandbox / "logs").mkdir(parents=True)
        (top / "secret").write_text("s3cret")
        (sandbox / "up").symlink_to("..")
        (sandbox / "loop").symlink_to("loop")
    files = VirtualFiles()
    files.attach("/v", sandbox)
    try:
        piece = files.read("/v/" + "/".join(parts), 0)
    except Rejected:
        return
    assert piece.data != b"s3cret"


# -- room -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "expected"),
    [(0.0, 0.9 * 604800), (0.5, 0.4 * 604800), (0.9, 0.0), (1.0, 0.0)],
)
def test_age_shrinks_as_the_disk_fills(used: float, expected: float) -> None:
    assert max_age_s(604800, 0.1, used) == pytest.approx(expected)


def test_due_are_the_old_ones_oldest_first() -> None:
    ended = [(Path("a"), 50.0), (Path("b"), 10.0), (Path("c"), 91.0), (Path("d"), 90.0)]
    assert due(ended, now=100.0, age_s=10.0) == [Path("b"), Path("a"), Path("d")]
    assert due(ended, now=100.0, age_s=1000.0) == []


def test_sizes_are_those_of_the_disk(sandbox: Path) -> None:
    (sandbox / "big").write_bytes(b"x" * 100_000)
    (sandbox / "link").symlink_to("/")
    assert 100_000 <= size_bytes(sandbox) < 200_000
    assert 0.0 <= disk_used(sandbox) <= 1.0
