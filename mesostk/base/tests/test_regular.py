"""Files that are replaced by something else are told, and hold nobody up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesostk.base import regular
from mesostk.testing.hostile import REPLACEMENTS


def test_a_file_is_read_as_a_whole_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert regular.read(path, 10) == b"x" * 10
    with pytest.raises(OSError, match="larger than 9B"):
        regular.read(path, 9)
    assert regular.read(Path(os.devnull)) == b""


@pytest.mark.parametrize("name", REPLACEMENTS)
def test_what_is_no_file_is_told_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    REPLACEMENTS[name](path)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match=r"."):
        regular.read(path)
    assert set(Path("/proc/self/fd").iterdir()) <= before
