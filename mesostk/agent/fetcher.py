"""Brings the URIs of a command into its sandbox. Source: spec §8.8.

::

    http(s)://…, ftp://…, file:///…, /absolute, relative to --frameworks_home ─▶ <sandbox>/<name>
        cache: by way of fetch_cache.py
        executable: mode 0755 · else archives are unpacked beside and kept

Runs in threads of its own: a slow server holds up nobody but its task. What it has to say goes to
the sandbox's `stderr` as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import gzip
import http.client
import lzma
import os
import pwd
import shutil
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from mesostk.agent.events import CancelFetch, Fetch, Fetched, FetchFailed
from mesostk.agent.fetch_cache import FetchCache
from mesostk.base.core import Event
from mesostk.base.daemon import Daemon
from mesostk.base.units import whole_number
from mesostk.errors import MesostkError
from mesostk.wire.mesos import CommandURI

#: Runs that fetch at the same time; more wait.
MAX_FETCHING = 8

_CHUNK_BYTES = 1 << 20

_TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")


#: What a URI can be that is broken: unreachable, answered by something else than HTTP, an archive
#: that is cut, scribbled, encrypted or packed in a way that nobody knows here.
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    http.client.HTTPException,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class FetchError(MesostkError):
    """A URI cannot be had; the message names it and says why."""


class Fetcher:
    """Performs Fetch and CancelFetch."""

    def __init__(
        self,
        daemon: Daemon,
        feed: Callable[[Event], None],
        work_dir: Path,
        frameworks_home: str | None,
        stall_timeout_s: float,
        cache: FetchCache,
    ) -> None:
        self._daemon = daemon
        self._feed = feed
        self._work_dir = work_dir
        self._home = frameworks_home
        self._stall_s = stall_timeout_s
        self._cache = cache
        gauge = daemon.metrics.gauge
        gauge("containerizer/fetcher/cache_size_total_bytes", lambda: cache.capacity)
        gauge("containerizer/fetcher/cache_size_used_bytes", lambda: cache.used)
        self._pool = ThreadPoolExecutor(MAX_FETCHING, thread_name_prefix="fetch")
        self._cancelled: dict[str, Cancellation] = {}
        self._succeeded = daemon.metrics.counter("containerizer/fetcher/task_fetches_succeeded")
        self._failed = daemon.metrics.counter("containerizer/fetcher/task_fetches_failed")

    def fetch(self, effect: Fetch) -> None:
        """Begin; the outcome is told by an event."""
        self._cancelled[effect.container_id] = Cancellation()
        self._daemon.start(f"fetch {effect.container_id}", self._run(effect))

    def cancel(self, effect: CancelFetch) -> None:
        """Give up soon and say nothing."""
        cancelled = self._cancelled.get(effect.container_id)
        if cancelled is not None:
            cancelled.set()

    def clear_cache(self) -> None:
        """Remove what a former agent kept. Blocks."""
        try:
            self._cache.clear()
        except OSError as error:
            self._daemon.log.error("Cache stays", why=error)

    async def close(self) -> None:
        """Stop all fetching; the runs are told as dropped after the restart."""
        for cancelled in self._cancelled.values():
            cancelled.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, effect: Fetch) -> None:
        cancelled = self._cancelled[effect.container_id]
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, self._fetch_all, effect, cancelled)
        except MesostkError as error:
            self._failed.value += 1
            if not cancelled.is_set():
                self._feed(FetchFailed(effect.container_id, str(error)))
        else:
            self._succeeded.value += 1
            if not cancelled.is_set():
                self._feed(Fetched(effect.container_id))
        finally:
            del self._cancelled[effect.container_id]

    def _fetch_all(self, effect: Fetch, cancelled: Cancellation) -> None:
        # Imported here: the sandbox module is for the disk thread and brings its own errors.
        from mesostk.agent import sandbox  # noqa: PLC0415

        directory = self._work_dir / effect.sandbox
        sandbox.create(directory, effect.user)
        job = Job(directory, effect.user, self._home, self._stall_s, cancelled)
        try:
            fetch_all(effect.uris, job, self._cache)
        except OSError as error:
            raise FetchError(f"sandbox {directory}: {error}") from error


class Cancellation:
    """Whether a job is wanted no more; `set` also ends the process that works for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._working: subprocess.Popen[bytes] | None = None

    def set(self) -> None:
        """From any thread."""
        with self._lock:
            self._is_set = True
            if self._working is not None:
                self._working.kill()

    def is_set(self) -> bool:
        """Whether it was cancelled."""
        return self._is_set

    @contextlib.contextmanager
    def ends(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Within this, `set` kills the process, as it does at once where it came before."""
        with self._lock:
            self._working = process
            if self._is_set:
                process.kill()
        try:
            yield
        finally:
            with self._lock:
                self._working = None


class Job(NamedTuple):
    """For whom, and how, URIs are fetched. `user` None: the agent's own."""

    directory: Path
    user: str | None
    home: str | None
    stall_s: float
    cancelled: Cancellation


def fetch_all(uris: Iterable[CommandURI], job: Job, cache: FetchCache) -> None:
    """Bring all, saying so in the sandbox's stderr. Raises FetchError naming the one that fails,
    OSError for the sandbox itself."""
    with (job.directory / "stderr").open("a") as log:
        for uri in uris:
            try:
                made = fetch_one(uri, job, cache)
            except BROKEN as error:
                log.write(f"Failed to fetch '{uri.value}': {error}\n")
                raise FetchError(f"{uri.value}: {error}") from error
            log.write(f"Fetched '{uri.value}' to '{made}'\n")
    if job.user is not None:
        give_to(job.directory, job.user)


def fetch_one(uri: CommandURI, job: Job, cache: FetchCache) -> Path:
    """Bring one URI into the sandbox; returns the file. Raises one of BROKEN."""
    target = job.directory / name_of(uri)
    require_inside(target, job.directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    size = announced_size(uri.value, job) if uri.cache else None
    if size is None:
        _bring(uri.value, target, job)
    else:
        key = (job.user, uri.value)
        with cache.hold(key, size, lambda path: _bring(uri.value, path, job)) as kept:
            if kept is None:
                _bring(uri.value, target, job)
            else:
                shutil.copyfile(kept, target)
    if uri.executable:
        target.chmod(0o755)
    elif uri.extract:
        _extract(target, job.directory)
    return target


def require_inside(path: Path, directory: Path) -> None:
    """Raise OSError for a file that would be written elsewhere, by a link of an archive's."""
    if path.is_symlink() or not path.parent.resolve().is_relative_to(directory.resolve()):
        raise OSError(f"'{path.name}' leads out of the sandbox, by a link that was fetched")


def _bring(value: str, target: Path, job: Job) -> None:
    scheme = urlsplit(value).scheme
    if scheme in ("http", "https"):
        _download(value, target, job.stall_s, job.cancelled)
    elif scheme == "ftp":
        with _ftp(value, job) as (ftp, path), target.open("wb") as file:
            size = _ftp_size(ftp, path)
            ftp.retrbinary(f"RETR {path}", file.write, _CHUNK_BYTES)
            _check_size(file.tell(), size)
    elif scheme in ("", "file"):
        _copy(local_path(value, job.home), target, job)
    else:
        raise OSError(f"scheme '{scheme}' is not supported; use http, https, ftp or file")


def announced_size(value: str, job: Job) -> int | None:
    """Bytes that a URI says it has; None if it does not, and so is not cached. Raises OSError."""
    scheme = urlsplit(value).scheme
    if scheme in ("", "file"):
        return local_path(value, job.home).stat().st_size
    if scheme == "ftp":
        with _ftp(value, job) as (ftp, path):
            return _ftp_size(ftp, path)
    if scheme not in ("http", "https"):
        return None
    request = urllib.request.Request(value, method="HEAD")  # noqa: S310 - scheme was checked
    try:
        with urllib.request.urlopen(request, timeout=job.stall_s) as answer:  # noqa: S310
            length = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        error.close()
        return None  # the download tells what is wrong
    except urllib.error.URLError as error:
        raise OSError(f"{error.reason}") from error
    return whole_number(length) if length is not None else None


def _copy(source: Path, target: Path, job: Job) -> None:
    """Copy a file that the job's user may read: a task must not have the agent read it others'
    files. That is done by a process of that user, which ends with the job."""
    if source.exists() and not (source.is_file() or source.is_dir()):
        # A pipe has no end, and a device fills the disk.
        raise OSError(f"'{source}' is no regular file")
    if job.user is None or os.geteuid() != 0:
        shutil.copyfile(source, target)
        return
    entry = pwd.getpwnam(job.user)
    with (
        target.open("wb") as file,
        subprocess.Popen(
            ["/bin/cat", "--", str(source)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=os.getgrouplist(job.user, entry.pw_gid),
        ) as copying,
        job.cancelled.ends(copying),
    ):
        said = copying.communicate()[1].decode(errors="replace").strip()
    if job.cancelled.is_set():
        raise OSError("no longer wanted")
    if copying.returncode != 0:
        raise OSError(said.removeprefix("/bin/cat: "))


def name_of(uri: CommandURI) -> str:
    """The file's name in the sandbox: `output_file`, or what follows the last slash, query and all.

    Raises OSError for a name that would leave the sandbox.
    """
    name = uri.output_file if uri.output_file is not None else uri.value.rpartition("/")[2]
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise OSError(f"'{name}' is no file name inside of the sandbox")
    return name


def local_path(value: str, home: str | None) -> Path:
    """The file that `file://…`, an absolute or a relative path means; OSError if none."""
    parts = urlsplit(value)
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise OSError(f"file URI names the host '{parts.netloc}'; only local files can be had")
    path = Path(parts.path if parts.scheme == "file" else value)
    if path.is_absolute():
        return path
    if home is None:
        raise OSError("a relative path needs --frameworks_home")
    return Path(home) / path


def _download(url: str, target: Path, stall_s: float, cancelled: Cancellation) -> None:
    try:
        # `timeout` bounds each read, which is what a stall is.
        with urllib.request.urlopen(url, timeout=stall_s) as answer, target.open("wb") as file:  # noqa: S310 - scheme was checked
            if answer.status != 200:
                raise OSError(f"HTTP status {answer.status}")
            size = 0
            while chunk := answer.read(_CHUNK_BYTES):
                if cancelled.is_set():
                    raise OSError("no longer wanted")
                file.write(chunk)
                size += len(chunk)
            announced = answer.headers.get("Content-Length", "")
            _check_size(size, whole_number(announced))
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP status {error.code}") from error
    except urllib.error.URLError as error:
        raise OSError(f"{error.reason}") from error


def _check_size(came: int, announced: int | None) -> None:
    if announced is not None and came != announced:
        raise OSError(f"{came} bytes came instead of the {announced} announced")


@contextlib.contextmanager
def _ftp(url: str, job: Job) -> Iterator[tuple[ftplib.FTP, str]]:
    """A connection that is logged in, and the file's path there; OSError says what failed."""
    parts = urlsplit(url)
    try:
        with ftplib.FTP(timeout=job.stall_s) as ftp:  # noqa: S321 - whoever wrote the URI chose it
            ftp.connect(parts.hostname or "", parts.port or ftplib.FTP_PORT)
            ftp.login(unquote(parts.username or ""), unquote(parts.password or ""))
            ftp.voidcmd("TYPE I")
            yield ftp, unquote(parts.path)
    except ftplib.Error as error:
        raise OSError(str(error)) from error


def _ftp_size(ftp: ftplib.FTP, path: str) -> int | None:
    try:
        return ftp.size(path)
    except ftplib.error_perm:
        return None  # not every server tells


def _extract(file: Path, directory: Path) -> None:
    """Unpack an archive beside itself; members that would leave the sandbox are refused."""
    name = file.name
    if name.endswith(_TAR_SUFFIXES):
        with tarfile.open(file) as archive:
            unpack(archive, directory)
    elif name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive_zip:
            for member in archive_zip.infolist():
                require_inside(directory / member.filename.lstrip("/").rstrip("/"), directory)
                archive_zip.extract(member, directory)  # which drops `..` and absolute names
    elif name.endswith(".gz"):
        plain = file.with_suffix("")
        require_inside(plain, directory)
        with gzip.open(file) as source, plain.open("wb") as unpacked:
            shutil.copyfileobj(source, unpacked, _CHUNK_BYTES)


#: Later Pythons want to be told that somebody has looked; older ones do not know the word.
_UNFILTERED: Final[dict[str, Any]] = (
    {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
)


def unpack(archive: tarfile.TarFile, directory: Path) -> None:
    """Unpack below `directory`; TarError for a member that would be written elsewhere.

    Not by `extractall(filter=…)`: Python before 3.11.4, Debian 12's among them, has no filters.
    A member is looked at when those before it are on the disk: a link among them may lead out.
    """
    root = directory.resolve()
    for member in archive:
        member.name = member.name.lstrip("/")
        aims = [root / member.name]
        if member.islnk():
            member.linkname = member.linkname.lstrip("/")
            aims.append(root / member.linkname)
        for aim in aims:
            if not aim.resolve().is_relative_to(root):
                raise tarfile.ExtractError(f"{member.name} leads out of the sandbox")
        member.mode &= 0o755  # no set-id bits, no writing by others
        archive.extract(member, root, **_UNFILTERED)


def give_to(directory: Path, user: str) -> None:
    """Make everything below `directory` belong to `user`."""
    entry = pwd.getpwnam(user)
    for base, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(Path(base, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)
