"""The process that brings URIs into a sandbox, as the task's user. Source: spec §8.8.

::

    agent ── stdin: an order, one line of JSON ─▶ files of the cache opened ─▶ the user's rights
          ◀─ stdout: {"error": null or why} ───── fetched, said in the sandbox's stderr, unpacked
          ◀─ stdout: {…, "sizes": […]} ─────────── asked what they say they have, instead
    agent closes stdin, or is gone ─▶ this ends at once

A sandbox is its user's, whose other tasks may put a link where a file is about to be written: done
with the agent's rights that would write anywhere. Done with the user's it gains nothing.

Imports only the standard library, all of it before it gives up its rights: the interpreter may be
where the user cannot read. It is exec'd as `python -I -S`.
"""

from __future__ import annotations

import bz2  # noqa: F401 - for tarfile, which imports it when it needs it
import contextlib
import encodings.cp437  # for names in zip files
import encodings.idna  # noqa: F401 - for names of hosts
import ftplib
import gzip
import http.client
import json
import lzma
import os
import pwd
import shutil
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

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


class Terms(NamedTuple):
    """`home` is that of relative paths; a server that says nothing for `stall_s` is given up."""

    home: str | None
    stall_s: float


# -- the process -----------------------------------------------------------------------------------


def main() -> None:
    """Do what stdin says, and tell on stdout how it went."""
    order = json.loads(_first_line())
    threading.Thread(target=_end_with_the_agent, daemon=True).start()
    os.write(1, json.dumps(_obey(order)).encode() + b"\n")


def _first_line() -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        more = os.read(0, _CHUNK_BYTES)
        if not more:
            raise SystemExit("no order came")
        data += more
    return data


def _end_with_the_agent() -> None:
    while os.read(0, _CHUNK_BYTES):
        pass
    os._exit(1)


def _obey(order: dict[str, Any]) -> dict[str, Any]:
    """Tell sizes, or fetch; `error` in the answer says why it could not be done."""
    terms = Terms(order["home"], order["stall_s"])
    if order["sizes"] is None:
        return {"error": _fetch(order, terms)}
    _become(order["user"])
    return {"error": None, "sizes": [_announced(value, terms) for value in order["sizes"]]}


def _fetch(order: dict[str, Any], terms: Terms) -> str | None:
    with contextlib.ExitStack() as opened:
        try:
            if order["into"] is not None:
                into = Path(order["into"])
                into.unlink(missing_ok=True)  # what a former agent left; no link is followed
                file = opened.enter_context(into.open("xb"))
                _become(order["user"])
                _bring(order["value"], file, terms)
                return None
            kept: dict[str, IO[bytes]] = {
                path: opened.enter_context(Path(path).open("rb"))
                for uri in order["uris"]
                if (path := uri["kept"]) is not None
            }
            _become(order["user"])
            return _fetch_all(order, terms, kept)
        except BROKEN as error:
            return str(error)


def _become(user: str | None) -> None:
    os.umask(0o022)
    if user is None or os.geteuid() != 0:
        return
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def _fetch_all(order: dict[str, Any], terms: Terms, kept: dict[str, IO[bytes]]) -> str | None:
    directory = Path(order["directory"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(directory / "stderr", flags, 0o644), "w") as log:
        for uri in order["uris"]:
            try:
                if uri["error"] is not None:
                    raise OSError(uri["error"])
                made = _fetch_one(uri, directory, terms, kept.get(uri["kept"]))
            except BROKEN as error:
                log.write(f"Failed to fetch '{uri['value']}': {error}\n")
                return f"{uri['value']}: {error}"
            log.write(f"Fetched '{uri['value']}' to '{made}'\n")
    return None


# -- one URI ---------------------------------------------------------------------------------------


def _fetch_one(uri: dict[str, Any], directory: Path, terms: Terms, kept: IO[bytes] | None) -> Path:
    """Bring one URI, or what is `kept` of it, into the sandbox; returns the file."""
    target = directory / name_of(uri["value"], uri["output_file"])
    require_inside(target, directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        if kept is not None:
            shutil.copyfileobj(kept, file, _CHUNK_BYTES)
        else:
            _bring(uri["value"], file, terms)
    if uri["executable"]:
        target.chmod(0o755)
    elif uri["extract"]:
        _extract(target, directory)
    return target


def name_of(value: str, output_file: str | None) -> str:
    """The file's name in the sandbox: `output_file`, or what follows the last slash, query and all.

    Raises OSError for a name that would leave the sandbox.
    """
    name = output_file if output_file is not None else value.rpartition("/")[2]
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise OSError(f"'{name}' is no file name inside of the sandbox")
    return name


def require_inside(path: Path, directory: Path) -> None:
    """Raise OSError for a file that would be written elsewhere, by a link of an archive's."""
    if path.is_symlink() or not path.parent.resolve().is_relative_to(directory.resolve()):
        raise OSError(f"'{path.name}' leads out of the sandbox, by a link that was fetched")


def _bring(value: str, file: IO[bytes], terms: Terms) -> None:
    scheme = urlsplit(value).scheme
    if scheme in ("http", "https"):
        _download(value, file, terms.stall_s)
    elif scheme == "ftp":
        with _ftp(value, terms) as (ftp, path):
            size = _ftp_size(ftp, path)
            ftp.retrbinary(f"RETR {path}", file.write, _CHUNK_BYTES)
            _check_size(file.tell(), size)
    elif scheme in ("", "file"):
        _copy(local_path(value, terms.home), file)
    else:
        raise OSError(f"scheme '{scheme}' is not supported; use http, https, ftp or file")


def _announced(value: str, terms: Terms) -> dict[str, Any]:
    try:
        return {"size": _announced_size(value, terms), "error": None}
    except BROKEN as error:
        return {"size": None, "error": str(error)}


def _announced_size(value: str, terms: Terms) -> int | None:
    """Bytes that a URI says it has; None if it does not, and so is not cached. Raises OSError."""
    scheme = urlsplit(value).scheme
    if scheme in ("", "file"):
        # Opened: that a file can be seen does not mean that it may be read.
        with _open(local_path(value, terms.home)) as file:
            return os.fstat(file.fileno()).st_size
    if scheme == "ftp":
        with _ftp(value, terms) as (ftp, path):
            return _ftp_size(ftp, path)
    if scheme not in ("http", "https"):
        return None
    request = urllib.request.Request(value, method="HEAD")  # noqa: S310 - scheme was checked
    try:
        with urllib.request.urlopen(request, timeout=terms.stall_s) as answer:  # noqa: S310
            return _length(answer.headers.get("Content-Length"))
    except urllib.error.HTTPError as error:
        error.close()
        return None  # the download tells what is wrong
    except urllib.error.URLError as error:
        raise OSError(f"{error.reason}") from error


def _length(text: str | None) -> int | None:
    """A header's number; None if it is none that a file could have."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return int(text)


def _copy(source: Path, file: IO[bytes]) -> None:
    with _open(source) as copied:
        try:
            shutil.copyfileobj(copied, file, _CHUNK_BYTES)
        except OSError as error:
            raise OSError(f"{source}: {error.strerror}") from error


def _open(source: Path) -> IO[bytes]:
    """A file of this host; OSError says why it cannot be had."""
    if source.exists() and not (source.is_file() or source.is_dir()):
        # A pipe has no end, and a device fills the disk.
        raise OSError(f"'{source}' is no regular file")
    try:
        return source.open("rb")
    except OSError as error:
        raise OSError(f"{source}: {error.strerror}") from error


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


def _download(url: str, file: IO[bytes], stall_s: float) -> None:
    try:
        # `timeout` bounds each read, which is what a stall is.
        with urllib.request.urlopen(url, timeout=stall_s) as answer:  # noqa: S310 - scheme was checked
            if answer.status != 200:
                raise OSError(f"HTTP status {answer.status}")
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
            _check_size(file.tell(), _length(answer.headers.get("Content-Length")))
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP status {error.code}") from error
    except urllib.error.URLError as error:
        raise OSError(f"{error.reason}") from error


def _check_size(came: int, announced: int | None) -> None:
    if announced is not None and came != announced:
        raise OSError(f"{came} bytes came instead of the {announced} announced")


@contextlib.contextmanager
def _ftp(url: str, terms: Terms) -> Iterator[tuple[ftplib.FTP, str]]:
    """A connection that is logged in, and the file's path there; OSError says what failed."""
    parts = urlsplit(url)
    try:
        with ftplib.FTP(timeout=terms.stall_s) as ftp:  # noqa: S321 - whoever wrote the URI chose it
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


# -- archives --------------------------------------------------------------------------------------


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
        if member.isdir():
            member.mode |= 0o700  # its members come after it
        member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
        archive.extract(member, root, **_UNFILTERED)
