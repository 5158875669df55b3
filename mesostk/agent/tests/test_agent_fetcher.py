"""Fetching URIs into a sandbox (spec: Mesos §8.8)."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import pytest
from aiohttp import web

from mesostk.agent.fetch_process import Cancellation, FetchError, FetchProcesses, command
from mesostk.agent.fetching import local_path, name_of, unpack
from mesostk.agent.tests.fetch_bench import (
    FetchBench,
    daemon_of,
    daemonising,
    fetch_bench,
    is_alive,
    order,
    until,
)
from mesostk.testing.requirements import require_root
from mesostk.wire.mesos import CommandURI


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[FetchBench]:
    async with fetch_bench(tmp_path / "bench") as bench:
        yield bench


def tar_with(name: str, data: bytes = b"hi") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


async def test_archives_are_unpacked_beside_and_kept(bench: FetchBench, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_with("inner/x"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("y", "hi")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"hi"))
    for name in ("a.tar.gz", "b.zip", "c.txt.gz"):
        await bench.fetch(CommandURI(value=f"file://{tmp_path}/{name}"), tmp_path / "box")
    names = {str(p.relative_to(tmp_path / "box")) for p in (tmp_path / "box").rglob("*")}
    assert names == {"stderr", "a.tar.gz", "inner", "inner/x", "b.zip", "y", "c.txt.gz", "c.txt"}


async def test_executables_are_not_unpacked(bench: FetchBench, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_with("x"))
    uri = CommandURI(value=str(tmp_path / "a.tar.gz"), executable=True)
    made = await bench.fetch(uri, tmp_path / "box")
    assert made.stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "box" / "x").exists()


async def test_an_archive_cannot_write_outside_of_the_sandbox(
    bench: FetchBench, tmp_path: Path
) -> None:
    (tmp_path / "evil.tgz").write_bytes(tar_with("../escaped"))
    with pytest.raises(FetchError, match="leads out"):
        await bench.fetch(CommandURI(value=str(tmp_path / "evil.tgz")), tmp_path / "box")
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
    assert name_of(uri.value, uri.output_file) == name


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
        name_of(uri.value, uri.output_file)


def test_relative_paths_are_below_the_frameworks_home() -> None:
    assert local_path("lib/x", "/home/fw") == Path("/home/fw/lib/x")
    with pytest.raises(OSError, match="--frameworks_home"):
        local_path("lib/x", None)
    with pytest.raises(OSError, match="other"):
        local_path("file://other/x", None)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        (".tar", "w"), (".tgz", "w:gz"), (".tar.gz", "w:gz"), (".tbz2", "w:bz2"),
        (".tar.bz2", "w:bz2"), (".txz", "w:xz"), (".tar.xz", "w:xz"),
    ],
)  # fmt: skip
async def test_every_kind_of_tar_is_unpacked_unless_it_is_not_to_be(
    bench: FetchBench, tmp_path: Path, suffix: str, mode: Literal["w", "w:gz", "w:bz2", "w:xz"]
) -> None:
    source = tmp_path / f"a{suffix}"
    with tarfile.open(source, mode) as archive:
        info = tarfile.TarInfo("x")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"hi"))
    await bench.fetch(CommandURI(value=str(source), extract=False), tmp_path / "packed")
    assert not (tmp_path / "packed" / "x").exists()
    await bench.fetch(CommandURI(value=str(source)), tmp_path / "box")
    assert (tmp_path / "box" / "x").read_bytes() == b"hi"
    source.write_bytes(source.read_bytes()[:40] + b"\xff" * 400)  # whatever it was, it is no more
    with pytest.raises(FetchError, match=f"a{suffix}"):
        await bench.fetch(CommandURI(value=str(source)), tmp_path / "scribbled")
    assert "Failed to fetch" in (tmp_path / "scribbled" / "stderr").read_text()


async def test_an_encrypted_or_scribbled_file_fails_with_its_name(
    bench: FetchBench, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("y", "hi")
    packed = bytearray((tmp_path / "b.zip").read_bytes())
    for at in (6, packed.index(b"PK\x01\x02") + 8):
        packed[at] |= 1  # says that it is encrypted
    (tmp_path / "b.zip").write_bytes(packed)
    (tmp_path / "c.gz").write_bytes(gzip.compress(b"hi" * 1000)[:-20] + b"\xff" * 40)
    for name in ("b.zip", "c.gz"):
        with pytest.raises(FetchError, match=name):
            await bench.fetch(CommandURI(value=str(tmp_path / name)), tmp_path / f"box-{name}")


@pytest.mark.parametrize("then", ["output file", "same name", "zip", "gz"])
async def test_a_fetched_link_leads_no_later_uri_out_of_the_sandbox(
    bench: FetchBench, tmp_path: Path, then: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text("precious")
    box = tmp_path / "box"
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        for name, aim in (("way", "../elsewhere"), ("direct", "../elsewhere/x")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, aim
            archive.addfile(link)
    await bench.fetch(CommandURI(value=str(tmp_path / "links.tar")), box)
    (tmp_path / "plain").write_text("evil")
    if then == "zip":
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive_zip:
            archive_zip.writestr("way/x", "evil")
        uri = CommandURI(value=str(tmp_path / "z.zip"))
    elif then == "gz":
        (tmp_path / "direct.gz").write_bytes(gzip.compress(b"evil"))
        uri = CommandURI(value=str(tmp_path / "direct.gz"))
    else:
        name = "way/x" if then == "output file" else "direct"
        uri = CommandURI(value=str(tmp_path / "plain"), output_file=name)
    with pytest.raises(FetchError, match="leads out of the sandbox"):
        await bench.fetch(uri, box)
    assert (tmp_path / "elsewhere" / "x").read_text() == "precious"


async def test_what_is_no_http_fails_with_the_reason(bench: FetchBench, tmp_path: Path) -> None:
    """Nothing that a server says may be more than the failure of one task."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-not-http\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    uri = CommandURI(value=f"http://127.0.0.1:{port}/x")
    with pytest.raises(FetchError, match=f"127.0.0.1:{port}/x"):
        await bench.fetch(uri, tmp_path / "box")
    server.close()
    await server.wait_closed()


async def test_schemes_that_are_not_known_are_refused(bench: FetchBench, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="hdfs"):
        await bench.fetch(CommandURI(value="hdfs://h/x"), tmp_path / "box")


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


async def test_http_is_fetched_and_a_bad_status_is_told(
    bench: FetchBench, server: str, tmp_path: Path
) -> None:
    made = await bench.fetch(CommandURI(value=f"{server}/file"), tmp_path / "box")
    assert made.read_bytes() == b"content"
    with pytest.raises(FetchError, match="HTTP status 404"):
        await bench.fetch(CommandURI(value=f"{server}/missing"), tmp_path / "box")


async def test_a_server_that_is_not_there_is_told(bench: FetchBench, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="refused"):
        await bench.fetch(CommandURI(value="http://127.0.0.1:1/x"), tmp_path / "box")


# -- files of this host ---------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user gets to; pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def fetch_as(
    bench: FetchBench,
    user: str | None,
    source: Path,
    sandbox: Path,
    gone: Cancellation | None = None,
) -> Path:
    return await bench.fetch(CommandURI(value=str(source)), sandbox, user=user, cancelled=gone)


async def test_what_is_no_file_is_not_waited_for(bench: FetchBench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FetchError, match=f"'{source}' is no regular file"):
            await fetch_as(bench, None, source, tmp_path / "box")


@pytest.mark.root
async def test_a_task_gets_the_files_that_its_user_may_read(
    bench: FetchBench, public: Path
) -> None:
    require_root()
    (public / "open").write_text("hi")
    (public / "closed").write_text("secret")
    (public / "closed").chmod(0o600)
    made = await fetch_as(bench, "nobody", public / "open", public / "box")
    assert made.read_text() == "hi"
    assert made.owner() == (public / "box" / "stderr").owner() == "nobody"
    with pytest.raises(FetchError, match="closed: Permission denied"):
        await fetch_as(bench, "nobody", public / "closed", public / "box")
    with pytest.raises(FetchError, match="shadow: Permission denied"):
        await fetch_as(bench, "nobody", Path("/etc/shadow"), public / "box")
    with pytest.raises(FetchError, match="none: No such file"):
        await fetch_as(bench, "nobody", public / "none", public / "box")


@pytest.mark.root
@pytest.mark.parametrize("link", ["stderr", "way", "open"])
async def test_what_the_user_links_in_its_sandbox_is_written_with_its_rights_only(
    bench: FetchBench, public: Path, link: str
) -> None:
    require_root()
    precious = public / "precious"
    precious.mkdir()
    (precious / "open").write_text("root's")
    (public / "open").write_text("evil")
    box = public / "box"
    box.mkdir()
    uri = CommandURI(value=str(public / "open"), output_file="way/open" if link == "way" else None)
    (box / link).symlink_to(precious if link == "way" else precious / "open")
    shutil.chown(box, "nobody")
    with pytest.raises(FetchError):
        await bench.fetch(uri, box, user="nobody")
    assert (precious / "open").read_text() == "root's"


@pytest.mark.root
async def test_archives_are_unpacked_as_their_user(bench: FetchBench, public: Path) -> None:
    require_root()
    with tarfile.open(public / "a.tar", "w") as archive:
        folder, inner = tarfile.TarInfo("folder"), tarfile.TarInfo("folder/x")
        folder.type, folder.mode, inner.size = tarfile.DIRTYPE, 0o555, 2
        archive.addfile(folder)
        archive.addfile(inner, io.BytesIO(b"hi"))
    await fetch_as(bench, "nobody", public / "a.tar", public / "box")
    assert (public / "box" / "folder" / "x").owner() == "nobody"


@pytest.mark.root
async def test_a_copy_ends_with_its_run(bench: FetchBench, public: Path) -> None:
    require_root()
    with (public / "endless").open("wb") as file:
        file.truncate(1 << 40)  # holes: nobody waits for that much to be copied
    gone = Cancellation()
    copied = public / "box" / "endless"
    copy = fetch_as(bench, "nobody", public / "endless", public / "box", gone)
    copying = asyncio.ensure_future(copy)
    await until(lambda: copying.done() or (copied.exists() and copied.stat().st_size > 0))
    gone.set()
    with pytest.raises(FetchError, match="no longer wanted"):
        await copying
    assert not bench.left()
    with pytest.raises(FetchError, match="no longer wanted"):  # cancelled before it began
        await fetch_as(bench, "nobody", public / "endless", public / "box", gone)


# -- the process ----------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["sleep 600", "echo '{\"error\": null}'"])
async def test_what_a_process_started_ends_with_it(tmp_path: Path, then: str) -> None:
    async with fetch_bench(tmp_path) as bench:
        processes = FetchProcesses(bench.runs, daemonising(tmp_path, then))
        gone = Cancellation()
        working = asyncio.ensure_future(processes.carry_out(order(), gone))
        await until(lambda: daemon_of(tmp_path) is not None)
        if "sleep" in then:
            gone.set()
            with pytest.raises(FetchError, match="no longer wanted"):
                await working
        else:
            assert await working == {"error": None}
        assert not is_alive(daemon_of(tmp_path))
        assert not bench.left()


async def test_what_a_former_agent_left_is_ended_by_the_next(tmp_path: Path) -> None:
    """Even a process that does not see that its agent has gone."""
    async with fetch_bench(tmp_path) as former:
        processes = FetchProcesses(former.runs, daemonising(tmp_path, "sleep 600"))
        working = asyncio.ensure_future(processes.carry_out(order(), Cancellation()))
        await until(lambda: daemon_of(tmp_path) is not None)
        await former.runs.close()
        working.cancel()
        await asyncio.wait([working])
        assert is_alive(daemon_of(tmp_path))
    async with fetch_bench(tmp_path) as bench:
        await bench.runs.sweep((), bench.runtime)
        await until(lambda: not bench.left())
        assert not is_alive(daemon_of(tmp_path))


async def test_a_process_that_answers_nothing_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with fetch_bench(tmp_path) as bench:
        processes = FetchProcesses(bench.runs, ("/bin/sh", "-c", "echo no library >&2; exit 3"))
        with pytest.raises(FetchError, match=r"^the fetcher ended with 3: no library$"):
            await processes.carry_out(order(value="x" * 1_000_000), Cancellation())
        absent = FetchProcesses(bench.runs, (str(tmp_path / "absent"),))
        with pytest.raises(FetchError, match=r"^no process to fetch by: .*absent"):
            await absent.carry_out(order(), Cancellation())
        assert not bench.left()


def test_the_process_ends_with_its_agent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        value = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        line = json.dumps(order(value=value, into=str(tmp_path / "x"))) + "\n"
        with subprocess.Popen(command(), stdin=subprocess.PIPE) as working:
            assert working.stdin is not None
            working.stdin.write(line.encode())
            working.stdin.flush()
            connection = server.accept()[0]  # which says nothing
            working.stdin.close()
            assert working.wait() == 1
            connection.close()
