"""Processes and cgroups as /proc and /sys show them.

Stands below the launcher and its supervisors: imports nothing but os, signal and errno, no package
of ours.
"""

from __future__ import annotations

import errno
import os
import signal

#: At most, for all processes below another: those that keep forking are never all found.
_LOOKS = 5


def start_time(pid: int) -> int:
    """Start of a process in clock ticks since boot; raises OSError if there is none."""
    # The command name, in parentheses, may itself hold spaces and parentheses.
    return int(read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])


def children_of(pid: int) -> list[int]:
    """Pids of the direct children, zombies among them; empty if the process is gone."""
    try:
        return [int(child) for child in read(f"/proc/{pid}/task/{pid}/children").split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Pids of children, grandchildren and so on, those of threads' forks too, parents first."""
    found: list[int] = []
    parents = [pid]
    while parents:
        parent = parents.pop()
        try:
            threads = os.listdir(f"/proc/{parent}/task")  # noqa: PTH208 - no pathlib here
        except OSError:
            continue
        for thread in threads:
            try:
                children = read(f"/proc/{parent}/task/{thread}/children").split()
            except OSError:
                continue
            found += map(int, children)
            parents += map(int, children)
    return found


def everyone_below(pid: int) -> list[int]:
    """`descendants`, and those that were at first missed because their parents ended just then.

    An orphan moves up to a process whose children have been read by then: the next look finds it.
    """
    found: list[int] = []
    for look in range(_LOOKS):
        new = [each for each in descendants(pid) if each not in found]
        if look and not new:
            break
        found += new
    return found


def kill_cgroup(path: str) -> int:
    """SIGKILL everything in a cgroup (not in its children); returns how many were found.

    v2 by `cgroup.kill`; v1 by the freezer, so that nothing forks away meanwhile; in hierarchies
    without a freezer by the list of pids, which the caller repeats until it is empty.
    """
    try:
        pids = [int(pid) for pid in read(f"{path}/cgroup.procs").split()]
    except OSError:
        return 0
    if not pids:
        return 0
    try:
        write(f"{path}/cgroup.kill", "1")
    except OSError:
        _kill_frozen(path, pids)
    return len(pids)


def _kill_frozen(path: str, pids: list[int]) -> None:
    try:
        write(f"{path}/freezer.state", "FROZEN")
        pids = [int(pid) for pid in read(f"{path}/cgroup.procs").split()]
    except OSError:
        frozen = False
    else:
        frozen = True
    for pid in pids:
        send(pid, signal.SIGKILL)
    if frozen:
        try:
            write(f"{path}/freezer.state", "THAWED")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            # Removed meanwhile, and so empty: the agent and a supervisor may both be at it.


def environment(pid: int) -> list[str]:
    """The variables that a process was started with; none if it is gone, a zombie or another's."""
    try:
        return read(f"/proc/{pid}/environ").split("\0")
    except OSError:
        return []


def group_of(pid: int) -> int:
    """Process group of a process; 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def send(pid: int, number: int) -> bool:
    """Signal a process; False if it may not be signalled. One that is gone is fine."""
    try:
        os.kill(pid, number)
    except OSError as error:
        return error.errno != errno.EPERM
    return True


def send_group(group: int, number: int) -> None:
    """Signal a process group as far as there is one and it may be signalled; 0 is none."""
    if group == 0:
        return  # for the kernel it would be our own
    try:
        os.killpg(group, number)
    except OSError:
        return


def read(path: str) -> str:
    """The whole of a small file; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
    finally:
        os.close(fd)
    return b"".join(pieces).decode(errors="replace")


def write(path: str, text: str) -> None:
    """Write a control file in one go; raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
