"""The fetcher's cache, and fetching by FTP and as the task's user."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mesostk.agent.fetch_cache import FetchCache
from mesostk.agent.fetch_process import Cancellation, FetchError
from mesostk.agent.tests.fetch_bench import FetchBench, fetch_bench, order
from mesostk.testing.requirements import require_root
from mesostk.wire.mesos import CommandURI


class Source:
    """Counts how often a file is brought."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.brought = 0

    async def __call__(self, path: Path) -> None:
        self.brought += 1
        self._write(path)

    def _write(self, path: Path) -> None:
        path.write_bytes(self.data)


@pytest.fixture
def cache(tmp_path: Path) -> FetchCache:
    return FetchCache(tmp_path / "cache", 100)


async def test_a_file_is_brought_once_for_each_user(cache: FetchCache) -> None:
    source = Source(b"x" * 10)
    for user in (None, None, "ann"):
        async with cache.hold((user, "u"), 10, source) as path:
            assert path is not None
            assert path.read_bytes() == source.data
    assert (source.brought, cache.used) == (2, 20)


async def test_the_longest_unused_goes_first_and_none_in_use(cache: FetchCache) -> None:
    sources = {name: Source(b"x" * 40) for name in "abc"}
    async with cache.hold((None, "a"), 40, sources["a"]):
        async with (
            cache.hold((None, "b"), 40, sources["b"]),
            cache.hold((None, "c"), 40, sources["c"]) as path,
        ):
            assert path is None
        async with cache.hold((None, "c"), 40, sources["c"]) as path:
            assert path is not None
    for name in "ac":
        async with cache.hold((None, name), 40, sources[name]):
            pass
    assert [source.brought for source in sources.values()] == [1, 1, 1]
    assert cache.used == 80


async def test_what_is_larger_than_the_cache_is_not_kept(cache: FetchCache) -> None:
    async with cache.hold((None, "u"), 101, Source(b"")) as path:
        assert path is None


@pytest.mark.parametrize("size", [9, 11])
async def test_a_file_of_another_size_than_announced_is_refused(
    cache: FetchCache, size: int
) -> None:
    source = Source(b"x" * size)
    for _ in range(2):
        with pytest.raises(OSError, match="announced"):
            async with cache.hold((None, "u"), 10, source):
                pass
    assert (source.brought, cache.used) == (2, 0)


async def test_those_who_want_it_at_once_wait_for_one_download(cache: FetchCache) -> None:
    started, go = asyncio.Event(), asyncio.Event()
    source = Source(b"x" * 10)

    async def slow(path: Path) -> None:
        started.set()
        await go.wait()
        await source(path)

    async def want() -> bytes:
        async with cache.hold((None, "u"), 10, slow) as path:
            assert path is not None
            return path.read_bytes()

    first = asyncio.ensure_future(want())
    await started.wait()
    others = [asyncio.ensure_future(want()) for _ in range(2)]
    await asyncio.sleep(0)  # for both to wait
    go.set()
    assert await asyncio.gather(first, *others) == [source.data] * 3
    assert source.brought == 1


async def test_who_waits_for_a_download_that_fails_goes_without(cache: FetchCache) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def killed(_path: Path) -> None:
        started.set()
        await go.wait()
        raise OSError("no longer wanted")

    async def want() -> Path | None:
        async with cache.hold((None, "u"), 10, killed) as path:
            return path

    first = asyncio.ensure_future(want())
    await started.wait()
    other = asyncio.ensure_future(want())
    await asyncio.sleep(0)  # for it to wait
    go.set()
    with pytest.raises(OSError, match="no longer wanted"):
        await first
    assert await other is None
    assert cache.used == 0


async def test_a_start_finds_nothing_of_a_former_life(cache: FetchCache) -> None:
    async with cache.hold((None, "u"), 10, Source(b"x" * 10)) as path:
        assert path is not None
    again = FetchCache(path.parent, 100)
    again.clear()
    assert not path.exists()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[FetchBench]:
    async with fetch_bench(tmp_path / "bench") as bench:
        yield bench


async def test_a_cached_uri_is_copied_from_the_cache(
    bench: FetchBench, tmp_path: Path, cache: FetchCache
) -> None:
    (tmp_path / "file").write_bytes(b"first")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "c1").write_bytes(b"a former agent's, which could not be removed")
    uri = CommandURI(value=str(tmp_path / "file"), cache=True, output_file="in/side")
    await bench.fetch(uri, tmp_path / "a", cache=cache)
    (tmp_path / "file").write_bytes(b"other")
    made = await bench.fetch(uri, tmp_path / "b", cache=cache)
    assert (made, made.read_bytes()) == (tmp_path / "b/in/side", b"first")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user gets to; who may enter pytest's own, any pytest changes."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.root
@pytest.mark.parametrize("cached", [False, True])
async def test_a_file_that_the_user_may_not_read_is_not_read_for_it(
    bench: FetchBench, public: Path, cache: FetchCache, cached: bool
) -> None:
    """Nor, having been readable once, does it come out of the cache, nor is its size told."""
    require_root()
    secret = public / "secret"
    secret.write_text("mine")
    secret.chmod(0o644)
    uri = CommandURI(value=str(secret), cache=cached)
    made = await bench.fetch(uri, public / "first", user="nobody", cache=cache)
    assert made.read_text() == "mine"
    secret.chmod(0o600)
    with pytest.raises(FetchError, match="secret: Permission denied"):
        await bench.fetch(uri, public / "box", user="nobody", cache=cache)
    assert all(path.read_bytes() == b"" for path in (public / "box").glob("secret"))
    asked = order(user="nobody", sizes=[str(secret)])
    answer = await bench.processes.carry_out(asked, Cancellation())
    assert answer["sizes"] == [{"size": None, "error": f"{secret}: Permission denied"}]


class Ftp(socketserver.StreamRequestHandler):
    """An FTP server of the few words that fetching needs."""

    data = b"by ftp"

    def handle(self) -> None:
        self._say("220 hello")
        listener: socket.socket | None = None
        while line := self.rfile.readline().decode().strip():
            word = line.split()[0].upper()
            if word == "EPSV":
                listener = socket.create_server(("127.0.0.1", 0))
                self._say(f"229 here (|||{listener.getsockname()[1]}|)")
            elif word == "PASV":
                listener = socket.create_server(("127.0.0.1", 0))
                port = listener.getsockname()[1]
                self._say(f"227 here (127,0,0,1,{port >> 8},{port & 255})")
            elif word == "SIZE" and "missing" not in line:
                self._say(f"213 {len(self.data)}")
            elif word in {"RETR", "SIZE"} and "missing" in line:
                self._say("550 no such file")
            elif word == "RETR" and listener is not None:
                self._say(f"150 coming ({len(self.data)} bytes)")
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(self.data)
                self._say("226 done")
            else:
                self._say({"USER": "331 and?", "QUIT": "221 bye"}.get(word, "200 well"))
            if listener is not None and word == "RETR":
                listener.close()

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def ftp() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Ftp) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ftp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("cached", [False, True])
async def test_ftp_brings_a_file_or_the_reason(
    bench: FetchBench, tmp_path: Path, cache: FetchCache, ftp: str, cached: bool
) -> None:
    uri = CommandURI(value=f"{ftp}/pub/file", cache=cached)
    made = await bench.fetch(uri, tmp_path / "box", cache=cache)
    assert made.read_bytes() == Ftp.data
    assert cache.used == (len(Ftp.data) if cached else 0)
    with pytest.raises(FetchError, match="no such file"):
        await bench.fetch(replace(uri, value=f"{ftp}/missing"), tmp_path / "box", cache=cache)
