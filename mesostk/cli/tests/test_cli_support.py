"""The one archive: a directory for each host, whatever names a host sends."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from mesostk.cli.support import pack


def archive(path: Path, *names: str) -> None:
    with tarfile.open(path, "w:gz") as out:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            out.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        out.addfile(link)


def test_hosts_are_directories_and_cannot_write_elsewhere(tmp_path: Path) -> None:
    archive(tmp_path / "m1.tar.gz", "logs/a.log", "/etc/passwd", "../../evil")
    archive(tmp_path / "s1.tar.gz", "logs/a.log")
    made = tmp_path / "all.tar.gz"
    (tmp_path / "hosts").mkdir()
    for name in ("m1", "s1"):
        (tmp_path / f"{name}.tar.gz").rename(tmp_path / "hosts" / f"{name}.tar.gz")
    pack(made, "top", tmp_path / "hosts", {"about.json": b"{}"})
    assert made.stat().st_mode & 0o777 == 0o600
    with tarfile.open(made) as found:
        assert sorted(found.getnames()) == [
            "top/about.json",
            "top/m1/etc/passwd",
            "top/m1/logs/a.log",
            "top/s1/logs/a.log",
        ]
        assert all(member.isfile() for member in found)
    assert not made.with_name("all.tar.gz.part").exists()
