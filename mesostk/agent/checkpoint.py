"""What the agent and its supervisors write to disk, and how it is read back.

::

    work_dir/<layout.py>            the agent's records
      *.info, drain.config, epoch   one JSON record in a RecordIO frame, replaced atomically
      task.updates                  record after record, appended
      meta/boot_id                  boot identity in which the run records count
    runtime_dir/                    this boot only
      launcher.lock                 held while a launch is under way (launcher.py)
      containers/<run>/pid          PidRecord, by the supervisor before the task execs
      containers/<run>/status       ExitRecord, by the supervisor when nothing of the run is left
      containers/<run>/kill         monotonic deadline, by the agent before it sends SIGTERM

Two durabilities: run records are read back only in the boot that wrote them, so the page cache is
enough and nothing is fsynced; what must survive a power cut is written with `sync`.

A reader takes what is whole: a file cut at any byte gives the records before the cut and says how
many bytes it left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from mesostk.agent.events import Append, DiskOp, MakeVolume, RemoveVolume
from mesostk.base import regular
from mesostk.base.core import Delete, Put
from mesostk.errors import StoreError, WireError
from mesostk.wire import json
from mesostk.wire.recordio import encode_record

T = TypeVar("T")

#: Digits of a frame's length; a record is far below 10^12 bytes.
_MAX_LENGTH_DIGITS = 12


class CheckpointError(StoreError):
    """A record was not written; what was there before still is.

    `path` is the file, `is_full` whether the remedy is room on the disk (or in the quota).
    """

    def __init__(self, path: str, error: OSError) -> None:
        self.path = path
        self.is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; free space on its file system" if self.is_full else ""
        super().__init__(f"cannot write {path}: {error.strerror}{remedy}")


# -- frames ---------------------------------------------------------------------------------------


class Salvage(msgspec.Struct, frozen=True):
    """The whole records of a file in order; `good_bytes` long, followed by `lost_bytes` of no use.

    `why` says what is wrong with the rest, None if there is none.
    """

    records: tuple[bytes, ...]
    good_bytes: int
    lost_bytes: int = 0
    why: str | None = None


def salvage(data: bytes) -> Salvage:
    """Take the frames of `data` apart as far as they are whole. Never raises."""
    records: list[bytes] = []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at, at + _MAX_LENGTH_DIGITS + 1)
        header = data[at : end if end >= 0 else at + _MAX_LENGTH_DIGITS + 1]
        if not header.isdigit():
            return Salvage(tuple(records), at, len(data) - at, f"no record length at byte {at}")
        if end < 0 or end + 1 + int(header) > len(data):
            return Salvage(tuple(records), at, len(data) - at, f"record at byte {at} is cut off")
        records.append(data[end + 1 : end + 1 + int(header)])
        at = end + 1 + int(header)
    return Salvage(tuple(records), at)


def frame(record: object) -> bytes:
    """`record` as JSON in one RecordIO frame: what `Put` and `Append` of a record carry."""
    return encode_record(json.encode(record))


def read_record(path: Path, type: type[T]) -> T | None:
    """The record of a file that holds one; None if there is no file.

    Raises WireError, naming the file, if it is cut off or is not such a record.
    """
    records, problem = read_records(path, type)
    if problem is not None:
        raise WireError(problem)
    if records is None:
        return None
    if len(records) != 1:
        raise WireError(f"{path}: expected one record, found {len(records)}")
    return records[0]


def read_records(path: Path, type: type[T]) -> tuple[list[T] | None, str | None]:
    """The whole records of an appended file, and what is wrong with the rest of it.

    (None, None) if there is no file. Reading stops at the first record that is not of `type`: those
    after it may refer to it.
    """
    try:
        data = regular.read(path)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return [], f"{path}: {error.strerror}"
    found = salvage(data)
    problem = f"{path}: {found.why}" if found.why is not None else None
    records: list[T] = []
    for raw in found.records:
        try:
            records.append(json.decode(raw, type))
        except WireError as error:
            return records, f"{path}: record {len(records) + 1}: {error}"
    return records, problem


# -- writing --------------------------------------------------------------------------------------


class Disk:
    """Applies the agent's disk operations below `root`. Blocking: for the disk thread only."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def apply(self, ops: Sequence[DiskOp], sync: bool = False) -> None:
        """Apply `ops` in order; with `sync`, they survive a power cut once this returns.

        Each operation is all or nothing. Raises CheckpointError at the first that fails; those
        before it stay done, and a torn append is cut off again.
        """
        for op in ops:
            volume = isinstance(op, (MakeVolume, RemoveVolume))
            path = str(self.root / op.path) if volume else self._path(op.path)
            try:
                if isinstance(op, Put):
                    replace(path, op.data, sync=sync)
                elif isinstance(op, Append):
                    append(path, op.data, sync=sync)
                elif isinstance(op, Delete):
                    remove(path)
                elif isinstance(op, MakeVolume):
                    Path(path).mkdir(parents=True, exist_ok=True)
                elif isinstance(op, RemoveVolume):
                    remove_volume(Path(path), is_mount=op.is_mount)
                else:
                    link(Path(path), op.target)
                if sync:
                    self._sync_names(Path(path))
            except OSError as error:
                raise CheckpointError(path, error) from error

    def _sync_names(self, path: Path) -> None:
        """Make `path` and the directories that lead to it durable; any of them may be new."""
        for directory in path.parents:
            sync_directory(directory)
            if directory == self.root:
                return

    def _path(self, relative: str) -> str:
        if relative.startswith("/") or ".." in relative.split("/"):
            raise ValueError(f"checkpoint path {relative!r} is not below work_dir")
        return f"{self.root}/{relative}"


def replace(path: str | Path, data: bytes, *, sync: bool = False) -> None:
    """Put `data` in place of `path`, making its directories; raises OSError and leaves the old."""
    staged = f"{path}.new"
    try:
        fd = _open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        try:
            _write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(staged, path)  # noqa: PTH104 - text as it is, on the way of every launch
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(staged)  # noqa: PTH108
        raise


def append(path: str | Path, data: bytes, *, sync: bool = False) -> None:
    """Add `data` at the end of `path`, making it; raises OSError after cutting off what got in."""
    fd = _open(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    left = memoryview(data)
    try:
        try:
            while left:
                left = left[os.write(fd, left) :]
            if sync:
                os.fsync(fd)
        except OSError:
            # Nobody else appends: what is beyond the former end is of `data`.
            os.ftruncate(fd, os.fstat(fd).st_size - (len(data) - len(left)))
            raise
    finally:
        os.close(fd)


def _open(path: str, flags: int) -> int:
    """Open a file, making its directories only where there are none: mostly they are there, and
    each call of the kernel may have to wait for the interpreter's lock afterwards."""
    try:
        # Not held by a pipe that took a file's place and that nobody reads.
        return os.open(path, flags | os.O_NONBLOCK, 0o644)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))  # noqa: PTH120
        return os.open(path, flags, 0o644)


def make_empty(directory: Path) -> None:
    """Make the directory of a run; what was there is removed. Raises OSError."""
    try:
        directory.mkdir()
    except FileNotFoundError:
        directory.mkdir(parents=True)
    except FileExistsError:
        remove_run(directory)
        directory.mkdir()


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def make_directories(path: str) -> None:
    """Make a directory and those above it; nothing happens where they are. Raises OSError."""
    missing: list[str] = []
    while True:
        try:
            os.mkdir(path)  # noqa: PTH102
            break
        except FileExistsError:
            if not os.path.isdir(path):  # noqa: PTH112
                raise
            break
        except FileNotFoundError:
            missing.append(path)
            path = os.path.dirname(path)  # noqa: PTH120
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each)  # noqa: PTH102


def cut(path: Path, good_bytes: int) -> None:
    """Cut a torn tail off an appended file, so that the next append follows a whole record."""
    os.truncate(path, good_bytes)


def link(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target` in place of what was there; raises OSError."""
    make_directories(str(path.parent))
    with contextlib.suppress(FileExistsError):
        path.symlink_to(target)  # nothing was there, as in each new sandbox
        return
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    staged.symlink_to(target)
    staged.replace(path)


def remove(path: str | Path) -> None:
    """Remove a file, link or directory tree; nothing happens where there is none."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
    except IsADirectoryError:
        _remove_directory(path)


def _remove_directory(path: str | Path) -> None:
    """A directory of files goes by few calls, as the records of each task do; any other by many."""
    for name in os.listdir(path):  # noqa: PTH208
        try:
            os.unlink(f"{path}/{name}")  # noqa: PTH108
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            shutil.rmtree(path)
            return
    os.rmdir(path)  # noqa: PTH106


def remove_volume(path: Path, *, is_mount: bool) -> None:
    """Remove what is in a persistent volume, and the directory unless a disk is mounted there."""
    if not is_mount:
        remove(path)
        return
    for entry in path.iterdir():
        remove(entry)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; one that is gone meanwhile needs nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- this boot ------------------------------------------------------------------------------------


def boot_identity() -> str:
    """Names the boot of this host: the kernel's boot id and the start time of PID 1.

    The second changes when a host that is itself a container restarts without a new boot id.
    """
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        stat = Path("/proc/1/stat").read_text()
    except OSError:
        return boot_id  # hidden (hidepid): containers as hosts are then not told apart
    # The command name, in parentheses, may itself hold spaces and parentheses.
    return f"{boot_id}/{stat.rpartition(')')[2].split()[19]}"


class PidRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Identifies the processes of a run within the boot named `boot` (see `boot_identity`).

    `pid` is the supervisor, and the session of the task, `task` the task itself; `start_time`, in
    clock ticks since boot, tells a reused pid. `cgroups` are absolute directories.
    """

    container_id: str
    pid: int
    start_time: int
    boot: str
    task: int = 0
    cgroups: tuple[str, ...] = ()


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended; what the supervisor leaves in `status`.

    wait_status  as waitpid gives it; None if the task never ran, or nobody saw it end
    failure      why the task never ran, e.g. "user 'x' does not exist on this host"
    killed       a kill was asked for before the task ended
    escalated    … and it took SIGKILL, the grace having run out
    oom          the kernel killed something in the run's cgroup for its memory limit
    left         processes that could not be ended, being another user's
    lost         nobody saw it end; whatever was left of it was killed
    note         how it was lost
    """

    wait_status: int | None = None
    failure: str | None = None
    killed: bool = False
    escalated: bool = False
    oom: bool = False
    left: int = 0
    lost: bool = False
    note: str | None = None
    started_at: float | None = None
    ended_at: float | None = None


def run_directory(runtime_dir: Path, container_id: str) -> Path:
    """Where the records of a run are; raises ValueError for an id that is no file name."""
    if not container_id or "/" in container_id or container_id in (".", ".."):
        raise ValueError(f"container id {container_id!r} is not a file name")
    return runtime_dir / "containers" / container_id


def remove_run(run_dir: Path) -> None:
    """Remove the directory of a run, as far as that can be.

    `pid` goes first: without `status` beside it, it would name as alive what is over, by a
    supervisor that may be another run's since.
    """
    try:
        for name in ("pid", "status", "kill"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{run_dir}/{name}")  # noqa: PTH108 - text as it is, for every run
        os.rmdir(run_dir)  # noqa: PTH106
    except OSError:
        shutil.rmtree(run_dir, ignore_errors=True)


def read_pid(run_dir: Path) -> PidRecord | None:
    """The `pid` record of a run; None if its task was never forked.

    Raises WireError if it is not readable; the supervisor writes it atomically, so that this means
    a damaged file system or a foreign hand.
    """
    return _read_plain(run_dir / "pid", PidRecord)


def read_exit(run_dir: Path) -> ExitRecord | None:
    """The `status` record of a run; None while it runs. Raises WireError as `read_pid`."""
    return _read_plain(run_dir / "status", ExitRecord)


def exit_of(record: bytes) -> ExitRecord:
    """The `status` record as its supervisor tells it. Raises nothing: a damaged one is `lost`."""
    try:
        return msgspec.json.decode(record, type=ExitRecord)
    except msgspec.MsgspecError as error:
        return ExitRecord(lost=True, note=f"its record is damaged: {error}")


def _read_plain(path: Path, type: type[T]) -> T | None:
    try:
        data = regular.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WireError(f"{path}: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=type)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{path}: {error}") from error
