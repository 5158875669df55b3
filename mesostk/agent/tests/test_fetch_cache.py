"""The fetcher's cache, and fetching by FTP and as the task's user."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesostk.agent.fetch_cache import FetchCache
from mesostk.agent.fetcher import Cancellation, FetchError, Job, fetch_all
from mesostk.agent.fetching import name_of
from mesostk.testing.requirements import require_root
from mesostk.wire.mesos import CommandURI


class Source:
    """Counts how often a file is brought."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.brought = 0

    def __call__(self, path: Path) -> None:
        self.brought += 1
        path.write_bytes(self.data)


@pytest.fixture
def cache(tmp_path: Path) -> FetchCache:
    return FetchCache(tmp_path / "cache", 100)


def test_a_file_is_brought_once_for_each_user(cache: FetchCache) -> None:
    source = Source(b"x" * 10)
    for user in (None, None, "ann"):
        with cache.hold((user, "u"), 10, source) as path:
            assert path is not None
            assert path.read_bytes() == source.data
    assert (source.brought, cache.used) == (2, 20)


def test_the_longest_unused_goes_first_and_none_in_use(cache: FetchCache) -> None:
    sources = {name: Source(b"x" * 40) for name in "abc"}
    with cache.hold((None, "a"), 40, sources["a"]):
        with (
            cache.hold((None, "b"), 40, sources["b"]),
            cache.hold((None, "c"), 40, sources["c"]) as path,
        ):
            assert path is None
        with cache.hold((None, "c"), 40, sources["c"]) as path:
            assert path is not None
    for name in "ac":
        with cache.hold((None, name), 40, sources[name]):
            pass
    assert [source.brought for source in sources.values()] == [1, 1, 1]
    assert cache.used == 80


def test_what_is_larger_than_the_cache_is_not_kept(cache: FetchCache) -> None:
    with cache.hold((None, "u"), 101, Source(b"")) as path:
        assert path is None


@pytest.mark.parametrize("size", [9, 11])
def test_a_file_of_another_size_than_announced_is_refused(cache: FetchCache, size: int) -> None:
    source = Source(b"x" * size)
    for _ in range(2):
        with pytest.raises(OSError, match="announced"), cache.hold((None, "u"), 10, source):
            pass
    assert (source.brought, cache.used) == (2, 0)


def test_those_who_want_it_at_once_wait_for_one_download(cache: FetchCache) -> None:
    started, go = threading.Event(), threading.Event()
    source = Source(b"x" * 10)

    def slow(path: Path) -> None:
        started.set()
        go.wait(90)
        source(path)

    read: list[bytes] = []

    def want() -> None:
        with cache.hold((None, "u"), 10, slow) as path:
            assert path is not None
            read.append(path.read_bytes())

    threads = [threading.Thread(target=want) for _ in range(3)]
    threads[0].start()
    assert started.wait(90)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(90)
    assert (read, source.brought) == ([source.data] * 3, 1)


def test_a_start_finds_nothing_of_a_former_life(cache: FetchCache) -> None:
    with cache.hold((None, "u"), 10, Source(b"x" * 10)) as path:
        assert path is not None
    again = FetchCache(path.parent, 100)
    again.clear()
    assert not path.exists()


def job(sandbox: Path, user: str | None = None) -> Job:
    sandbox.mkdir(exist_ok=True)
    if user is not None:
        shutil.chown(sandbox, user)
    return Job(sandbox, user, None, 60.0, Cancellation())


def fetch_one(uri: CommandURI, job: Job, cache: FetchCache) -> Path:
    fetch_all((uri,), job, cache)
    return job.directory / name_of(uri.value, uri.output_file)


def test_a_cached_uri_is_copied_from_the_cache(tmp_path: Path, cache: FetchCache) -> None:
    (tmp_path / "file").write_bytes(b"first")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "c1").write_bytes(b"a former agent's, which could not be removed")
    uri = CommandURI(value=str(tmp_path / "file"), cache=True, output_file="in/side")
    fetch_one(uri, job(tmp_path / "a"), cache)
    (tmp_path / "file").write_bytes(b"other")
    made = fetch_one(uri, job(tmp_path / "b"), cache)
    assert (made, made.read_bytes()) == (tmp_path / "b/in/side", b"first")


def test_a_file_that_the_user_may_not_read_is_not_read_for_it(
    tmp_path: Path, cache: FetchCache
) -> None:
    require_root()
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    secret = tmp_path / "secret"
    secret.write_text("mine")
    secret.chmod(0o600)
    with pytest.raises(FetchError, match="Permission denied"):
        fetch_one(CommandURI(value=str(secret)), job(tmp_path / "box", "nobody"), cache)
    secret.chmod(0o644)
    made = fetch_one(CommandURI(value=str(secret)), job(tmp_path / "box", "nobody"), cache)
    assert made.read_text() == "mine"


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


def test_ftp_brings_a_file_or_the_reason(tmp_path: Path, cache: FetchCache, ftp: str) -> None:
    made = fetch_one(CommandURI(value=f"{ftp}/pub/file"), job(tmp_path / "box"), cache)
    assert made.read_bytes() == Ftp.data
    with pytest.raises(FetchError, match="no such file"):
        fetch_one(CommandURI(value=f"{ftp}/missing"), job(tmp_path / "box"), cache)
