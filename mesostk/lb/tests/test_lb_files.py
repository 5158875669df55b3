"""Files of HAProxy that cannot be read or written: told with the remedy, and nothing is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesostk.lb.haproxy import FileTrouble, Haproxy, Paths
from mesostk.testing.disks import small_disk
from mesostk.testing.hostile import REPLACEMENTS

REMEDY = "marathon-lb must be able to read and write"


def haproxy(folder: Path, **more: Any) -> Haproxy:
    return Haproxy(Paths(config=folder / "haproxy.cfg", **more), asyncio.to_thread)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("name", REPLACEMENTS)
async def test_what_is_in_the_place_of_the_file_is_told(tmp_path: Path, name: str) -> None:
    REPLACEMENTS[name](tmp_path / "haproxy.cfg")
    with pytest.raises(FileTrouble, match=REMEDY):
        await haproxy(tmp_path).read()


async def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg").write_bytes(b"\xff\xfe")
    with pytest.raises(FileTrouble, match=REMEDY):
        await haproxy(tmp_path).read()


async def test_a_directory_is_not_replaced_and_no_candidate_is_left(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg").mkdir()
    with pytest.raises(FileTrouble, match=REMEDY):
        await haproxy(tmp_path, archive_versions=0).swap("new")
    assert names(tmp_path) == ["haproxy.cfg"]


async def test_on_a_full_disk_the_former_file_stays_and_tries_do_not_add_up(tmp_path: Path) -> None:
    with small_disk(tmp_path / "etc", "64k") as folder:
        one = haproxy(folder, archive_versions=0)
        await one.swap("former")
        for _ in range(2):
            with pytest.raises(FileTrouble, match=f"No space left on device.*{REMEDY}"):
                await one.swap("x" * (1 << 20))
            with pytest.raises(FileTrouble, match="No space left on device"):
                await one.check("x" * (1 << 20))
        assert await one.read() == "former"
        assert names(folder) == ["haproxy.cfg"]
