"""Files that a daemon shows under virtual paths: `/files/*`, LIST_FILES, READ_FILE.

::

    /files/read?path=/frameworks/F/executors/E/runs/latest/logs/x
                     └───────── attached, longest match ────────┘└ rest ┘
      attached ─▶ real directory R (looked up at attach time)
      open(R/rest) ─▶ fd ─▶ where does /proc/self/fd/N say it is?  below real R: serve   else: 404

The check is made on what was opened, not on the name before: the task owns its sandbox and may
swap a directory for a symbolic link at any moment. Links that stay inside work.

Everything here blocks; for the disk thread.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from mesostk.errors import Rejected

#: Most bytes that one /files/read answers: 16 pages (Mesos `src/files/files.cpp`).
READ_LIMIT_BYTES = 16 * 4096


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of /files/browse. `mtime` in seconds, `mode` as `ls -l` spells it."""

    path: str
    nlink: int
    size: int
    mtime: float
    mode: str
    uid: str
    gid: str


class Piece(msgspec.Struct, frozen=True):
    """What /files/read answers: `data` found at `offset`, or the file's size and no data."""

    offset: int
    data: bytes


class VirtualFiles:
    """Which directories and files are shown under which virtual paths."""

    def __init__(self) -> None:
        self._attached: dict[str, Path] = {}

    def attach(self, virtual: str, real: Path) -> None:
        """Show `real` (a directory or a file) as `virtual`; said again, it is replaced.

        Symbolic links in `real` itself are followed now: an agent's `latest` link that is moved
        later must be attached again.
        """
        self.attach_real([virtual], Path(os.path.realpath(real)))

    def attach_real(self, virtuals: Iterable[str], real: Path) -> None:
        """As `attach` under several names, for a path known to hold no symbolic link."""
        for virtual in virtuals:
            self._attached[_normal(virtual)] = real

    def detach(self, virtual: str) -> None:
        """Show `virtual` no longer."""
        self._attached.pop(_normal(virtual), None)

    def attached(self) -> Mapping[str, str]:
        """Virtual path → real path, as /files/debug shows it."""
        return {virtual: str(real) for virtual, real in sorted(self._attached.items())}

    @contextlib.contextmanager
    def opened(self, virtual: str) -> Iterator[int]:
        """A file descriptor of the regular file or directory shown as `virtual`.

        Raises Rejected: 400 without a path, 404 where there is nothing, where it leads out of what
        is attached, and for devices, sockets and pipes.
        """
        fd = self._open(virtual)
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self, virtual: str) -> int:
        if not virtual:
            raise Rejected(400, "Expecting 'path=value' in query.\n")
        missing = Rejected(404, "")
        root, rest = self._find(virtual)
        if root is None or "\0" in virtual or ".." in PurePosixPath(virtual).parts:
            raise missing
        try:
            # O_NONBLOCK: a named pipe in a sandbox must not hold the thread.
            fd = os.open(root / rest, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):  # the latter: text that cannot be a file name
            raise missing from None
        kind = os.fstat(fd).st_mode
        where = Path(f"/proc/self/fd/{fd}").readlink()
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or not where.is_relative_to(root):
            os.close(fd)
            raise missing
        return fd

    def _find(self, virtual: str) -> tuple[Path | None, str]:
        """The attached directory with the longest matching name, and what follows it."""
        head, tail = _normal(virtual), ""
        while True:
            if head in self._attached:
                return self._attached[head], tail
            if head in ("/", ""):
                return None, ""
            parent, _, name = head.rpartition("/")
            head, tail = parent or "/", f"{name}/{tail}" if tail else name

    def browse(self, virtual: str) -> list[FileEntry]:
        """Entries of a directory by name. Raises Rejected as `opened`, and 400 for a file."""
        with self.opened(virtual) as fd:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise Rejected(400, "Path is not a directory.\n")
            base = virtual.rstrip("/")
            found = []
            for name in sorted(os.listdir(fd)):  # noqa: PTH208 - pathlib cannot list a descriptor
                with contextlib.suppress(FileNotFoundError):  # removed while we list
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    found.append(_entry(f"{base}/{name}", status))
            return found

    def read(self, virtual: str, offset: int = -1, length: int = -1) -> Piece:
        """Up to `length` bytes (-1: the rest, at most READ_LIMIT_BYTES) from `offset`.

        Offset -1 gives the size as `Piece.offset` and no data; past the end there is no data.
        Raises Rejected as `opened`, and 400 for a directory or a number below -1.
        """
        if offset < -1:
            raise Rejected(400, f"Negative offset provided: {offset}.\n")
        if length < -1:
            raise Rejected(400, f"Negative length provided: {length}.\n")
        with self.opened(virtual) as fd:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise Rejected(400, "Cannot read a directory.\n")
            if offset == -1:
                return Piece(status.st_size, b"")
            wanted = READ_LIMIT_BYTES if length == -1 else min(length, READ_LIMIT_BYTES)
            try:
                return Piece(offset, os.pread(fd, wanted, offset))
            except OverflowError:
                return Piece(offset, b"")  # an offset beyond what any file can have


def _normal(virtual: str) -> str:
    """With one slash at the start, none at the end and none doubled."""
    return "/" + "/".join(part for part in virtual.split("/") if part)


def _entry(path: str, status: os.stat_result) -> FileEntry:
    return FileEntry(
        path=path,
        nlink=status.st_nlink,
        size=status.st_size,
        mtime=status.st_mtime,
        mode=stat.filemode(status.st_mode),
        uid=_user_name(status.st_uid),
        gid=_group_name(status.st_gid),
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
