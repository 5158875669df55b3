"""Whether a supervisor is still there, and ending what is left of its run when it was killed.

Without the supervisor nobody knows the run's processes as descendants: orphans belong to init.
They are found by what they hardly shed together: the run's cgroups, the session that the supervisor
made, and the run's mark in their environment.
"""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from mesostk.agent import checkpoint
from mesostk.agent.checkpoint import ExitRecord, PidRecord
from mesostk.agent.processes import kill_cgroup, send, start_time
from mesostk.agent.supervisor import RUN_MARKER
from mesostk.errors import WireError

#: For killed processes to be gone; only one that hangs in the kernel takes longer.
_PATIENCE_S = 10.0
_ROUND_S = 0.02

#: One after the other, until nothing is taken to be left.
_EMPTY_LOOKS = 2


def end(record: PidRecord) -> int:
    """SIGKILL every process of the run until none is found; returns how many there were.

    Blocks: two looks through /proc at least, seconds at worst. One that finds nothing is not the
    last: what forks and ends while /proc is read shows neither itself nor its child, and what is
    about to exec has no environment. Kills nothing if the host was restarted since; see `find` for
    how others' processes are told apart.
    """
    seen: set[int] = set()
    empty_looks = 0
    deadline = time.monotonic() + _PATIENCE_S
    while empty_looks < _EMPTY_LOOKS and time.monotonic() < deadline:
        found = find(record)
        held = sum(kill_cgroup(path) for path in record.cgroups)
        empty_looks = 0 if found or held else empty_looks + 1
        seen |= found
        for pid in found:
            send(pid, signal.SIGKILL)
        time.sleep(_ROUND_S)  # on the disk thread, for the kernel to finish them
    return len(seen)


def find(record: PidRecord) -> set[int]:
    """Pids of the processes of the run, zombies left out.

    The session's number counts only while the supervisor, its leader, is gone: if a later process
    has got the number, its session is not ours.
    """
    mark = f"{RUN_MARKER}={record.container_id}".encode()
    try:
        is_reused = start_time(record.pid) != record.start_time
    except OSError:
        is_reused = False
    found = set()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            stat = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()
            if stat[0] in "ZX" or int(stat[19]) < record.start_time:
                continue
            in_session = not is_reused and int(stat[3]) == record.pid
            if in_session or mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                found.add(pid)
        except OSError:
            continue  # ended while we looked, or another user's
    return found - {os.getpid()}


def open_pidfd(record: PidRecord) -> int | None:
    """A pidfd of the very supervisor that wrote `record`; None if it is gone."""
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return None
    # Compared after opening: from here on the pid cannot come to mean another process.
    try:
        is_it = start_time(record.pid) == record.start_time
    except OSError:
        is_it = False  # gone between the two
    if is_it and not select.select([pidfd], [], [], 0)[0]:  # readable: a zombie
        return pidfd
    os.close(pidfd)
    return None


def recorded(directory: Path) -> ExitRecord | None:
    """How a run has ended, if its supervisor lived to write it; a small file in a tmpfs."""
    try:
        return checkpoint.read_exit(directory)
    except WireError:
        return None


def outcome(directory: Path) -> ExitRecord:
    """How a run whose supervisor has gone ended; kills what is left if it left no record.

    Blocks as `end` does. A run whose records cannot be read is `lost`, with a note; nothing can be
    killed of it without the `pid` record.
    """
    try:
        record = checkpoint.read_pid(directory)
        if record is not None:
            return conclude(record, directory)
        ended = checkpoint.read_exit(directory)
    except WireError as error:
        return ExitRecord(lost=True, note=str(error))
    return ended if ended is not None else ExitRecord(lost=True, note="its records are gone")


def conclude(record: PidRecord, directory: Path) -> ExitRecord:
    """As `outcome`, for a run whose `pid` record is known. Blocks as `end` does."""
    note = "its supervisor was killed"
    try:
        ended = checkpoint.read_exit(directory)
    except WireError as error:
        ended, note = None, str(error)
    if ended is not None:
        return ended
    killed = end(record)
    return ExitRecord(lost=True, note=f"{note}; {killed} of its processes were left and ended")
