"""Definitions of apps that are none: refused with 2, by file and place, and no server is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mesostk.cli import definitions
from mesostk.cli.app import app
from mesostk.errors import ConfigError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "app.json:1:1: not JSON: Expecting value"),
        (b'{"id": "/a",\n "cpus": }', "app.json:2:10: not JSON: Expecting value"),
        (b'{"id": "/a", "cpus": 1, "cpus": 2}', "the key 'cpus' comes twice in one object"),
        (b'[{"id": "/a", "env": {"A": "1", "A": "2"}}]', "the key 'A' comes twice in one object"),
        (b'{"id": "/a", "cpus": NaN}', "NaN is no number of JSON"),
        (b'{"id": "/a", "cpus": -Infinity}', "-Infinity is no number of JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "not JSON: Exceeds the limit"),
        (b'{"id": "\xff"}', "app.json: 'utf-8' codec can't decode byte 0xff"),
        (b"3", "app.json: an app is an object"),
        (b'[{"id": 3}]', "app.json: an app is an object"),
    ],
)
def test_what_is_no_app_is_refused_by_file_and_place(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "app.json"
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["deploy", str(path)])
    assert result.exit_code == 2, result.exception
    assert words in " ".join(result.stderr.split())


def test_a_path_that_can_be_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="embedded null byte"):
        definitions.read("a\0b")
