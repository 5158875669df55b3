"""Files of daemons and of the command with something else in their place: told by their path, and
never waited for.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from mesostk.agent import checkpoint, disk
from mesostk.base import flagtext
from mesostk.base.filestore import FileStore
from mesostk.cli import credentials
from mesostk.cli.app import app
from mesostk.dns import config as dns_config
from mesostk.errors import ConfigError, StoreError
from mesostk.lb import flags as lb_flags
from mesostk.master import whitelist
from mesostk.testing.hostile import REPLACEMENTS

#: What reads a file that somebody configured.
READERS: Final[dict[str, Callable[[Path], object]]] = {
    "flag": flagtext.read,
    "Mesos-DNS": dns_config.load,
    "template": lambda path: lb_flags.overrides({}, path.parent),
    "whitelist": whitelist.read,
    "credential": lambda path: credentials.read(str(path)),
}


@pytest.mark.parametrize("what", REPLACEMENTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_configured_file_that_is_none_is_refused_by_its_path(
    tmp_path: Path, reader: str, what: str
) -> None:
    path = tmp_path / "HAPROXY_HEAD"
    REPLACEMENTS[what](path)
    with pytest.raises(ConfigError, match="HAPROXY_HEAD"):
        READERS[reader](path)


@pytest.mark.parametrize("what", REPLACEMENTS)
def test_a_record_of_an_agent_that_is_none_counts_as_empty(tmp_path: Path, what: str) -> None:
    latest = tmp_path / "meta/slaves/latest"
    (latest.parent / "S1").mkdir(parents=True)
    latest.symlink_to("S1")
    if what != "directory":  # of which there are many
        REPLACEMENTS[what](latest.parent / "S1/slave.info")
    (latest.parent / "S1/task.info").write_bytes(b"whole")
    files, _ = disk.read_records(tmp_path)
    found = {Path(path).name: data for path, data in files.items()}
    assert found.pop("slave.info", b"") == b""
    assert found == {"task.info": b"whole"}


@pytest.mark.parametrize("write", [checkpoint.replace, checkpoint.append])
@pytest.mark.parametrize("name", ["record", "record.new"])
@pytest.mark.parametrize("what", ["directory", "pipe", "socket", "link to itself"])
def test_what_cannot_be_written_is_told_at_once(
    tmp_path: Path, write: Callable[[Path, bytes], None], name: str, what: str
) -> None:
    REPLACEMENTS[what](tmp_path / name)
    try:
        write(tmp_path / "record", b"new")
    except OSError:
        return
    # What was in its way was replaced, or is in nobody's.
    assert (tmp_path / "record").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["store", "store.lock"])
@pytest.mark.parametrize("what", ["directory", "pipe", "socket", "link to itself"])
async def test_a_store_that_is_none_is_refused_by_its_path(
    tmp_path: Path, name: str, what: str
) -> None:
    REPLACEMENTS[what](tmp_path / name)
    store = FileStore(tmp_path / "store")
    async with asyncio.timeout(60):
        with pytest.raises(StoreError, match=re.escape(str(tmp_path / "store"))):
            await store.open("me")
        await store.close()


@pytest.mark.parametrize("what", REPLACEMENTS)
def test_known_clusters_that_are_none_are_told_by_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = tmp_path / "contexts.json"
    REPLACEMENTS[what](path)
    monkeypatch.setenv("MESOSTK_CONFIG", str(path))
    for words in (["context", "list"], ["status"], ["app", "list"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2, (words, result.output, result.exception)
        assert str(path) in result.stderr.replace("\n", "")
    assert os.path.lexists(path)
