"""Fetching URIs into a sandbox (spec: Mesos §8.8)."""

from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
import threading
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from mesostk.agent.fetch_cache import FetchCache
from mesostk.agent.fetcher import Job, fetch_one, local_path, name_of, unpack
from mesostk.wire.mesos import CommandURI


def fetch(
    uri: CommandURI, sandbox: Path, home: str | None = None, cache: FetchCache | None = None
) -> Path:
    sandbox.mkdir(exist_ok=True)
    job = Job(sandbox, None, home, 5.0, threading.Event())
    return fetch_one(uri, job, cache if cache is not None else FetchCache(sandbox / "c", 0))


def tar_with(name: str, data: bytes = b"hi") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_archives_are_unpacked_beside_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_with("inner/x"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("y", "hi")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"hi"))
    for name in ("a.tar.gz", "b.zip", "c.txt.gz"):
        fetch(CommandURI(value=f"file://{tmp_path}/{name}"), tmp_path / "box")
    names = {str(p.relative_to(tmp_path / "box")) for p in (tmp_path / "box").rglob("*")}
    assert names == {"a.tar.gz", "inner", "inner/x", "b.zip", "y", "c.txt.gz", "c.txt"}


def test_executables_are_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_with("x"))
    uri = CommandURI(value=str(tmp_path / "a.tar.gz"), executable=True)
    made = fetch(uri, tmp_path / "box")
    assert made.stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "box" / "x").exists()


def test_an_archive_cannot_write_outside_of_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "evil.tgz").write_bytes(tar_with("../escaped"))
    with pytest.raises(tarfile.TarError):
        fetch(CommandURI(value=str(tmp_path / "evil.tgz")), tmp_path / "box")
    assert not (tmp_path / "escaped").exists()


def test_a_link_in_an_archive_is_no_way_out_of_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "box").mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, "../elsewhere"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("way/escaped"), io.BytesIO())
    packed.seek(0)
    with (
        tarfile.open(fileobj=packed) as archive,
        pytest.raises(tarfile.TarError, match="leads out"),
    ):
        unpack(archive, tmp_path / "box")
    assert not (tmp_path / "elsewhere" / "escaped").exists()


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        (CommandURI(value="http://h/a/b.tgz?v=1"), "b.tgz?v=1"),
        (CommandURI(value="http://h/a", output_file="d/e"), "d/e"),
    ],
)
def test_the_name_is_what_follows_the_last_slash_or_what_is_asked_for(
    uri: CommandURI, name: str
) -> None:
    assert name_of(uri) == name


@pytest.mark.parametrize(
    "uri",
    [
        CommandURI(value="http://h/"),
        CommandURI(value="x", output_file="../x"),
        CommandURI(value="x", output_file="/etc/x"),
    ],
)
def test_names_that_leave_the_sandbox_are_refused(uri: CommandURI) -> None:
    with pytest.raises(OSError, match="no file name inside"):
        name_of(uri)


def test_relative_paths_are_below_the_frameworks_home() -> None:
    assert local_path("lib/x", "/home/fw") == Path("/home/fw/lib/x")
    with pytest.raises(OSError, match="--frameworks_home"):
        local_path("lib/x", None)
    with pytest.raises(OSError, match="other"):
        local_path("file://other/x", None)


def test_schemes_that_are_not_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="hdfs"):
        fetch(CommandURI(value="hdfs://h/x"), tmp_path / "box")


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def file(_: web.Request) -> web.Response:
        return web.Response(body=b"content")

    async def missing(_: web.Request) -> web.Response:
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/file", file)
    app.router.add_get("/missing", missing)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


async def test_http_is_fetched_and_a_bad_status_is_told(server: str, tmp_path: Path) -> None:
    made = await asyncio.to_thread(fetch, CommandURI(value=f"{server}/file"), tmp_path / "box")
    assert made.read_bytes() == b"content"
    with pytest.raises(OSError, match="HTTP status 404"):
        await asyncio.to_thread(fetch, CommandURI(value=f"{server}/missing"), tmp_path / "box")


async def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, CommandURI(value="http://127.0.0.1:1/x"), tmp_path / "box")
