"""The files of a cgroup that limit it (spec §8.7): CPU time, memory, processes.

Blocking, a few file writes at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from mesostk.errors import MesostkError

_CFS_PERIOD_US = 100_000
_MIN_CFS_QUOTA_US = 1_000
_MIN_SHARES = 2
_MIN_MEMORY_BYTES = 32 * 1024 * 1024


class CgroupError(MesostkError):
    """A cgroup could not be made, limited or removed; the message names the file and why."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may use.

    `cpus` become shares, and a quota too if `enable_cfs` (a `cpus_limit` always does).
    `memory_bytes` is the soft limit, and the hard one too unless `memory_limit_bytes` is given,
    infinite for none. No limit of `pids` where None.
    """

    cpus: float
    memory_bytes: int
    cpus_limit: float | None = None
    memory_limit_bytes: float | None = None
    pids: int | None = None
    enable_cfs: bool = False


def cpu_shares(cpus: float) -> int:
    """v1 `cpu.shares` of a request. Source: Mesos `cgroups/cpu` (spec: §8.7)."""
    return max(_MIN_SHARES, int(1024 * cpus))


def cpu_weight(shares: int) -> int:
    """v2 `cpu.weight` (1 … 10000) for v1 shares (2 … 262144), by the mapping that runc uses."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def cfs_quota_us(limits: Limits) -> int | None:
    """CPU time per period of 100 ms; None for no quota."""
    cpus = limits.cpus_limit
    if cpus is None:
        cpus = limits.cpus if limits.enable_cfs else None
    if cpus is None or cpus == float("inf"):
        return None
    return max(_MIN_CFS_QUOTA_US, int(cpus * _CFS_PERIOD_US))


def limit_cpu(directory: Path, limits: Limits, *, is_v2: bool) -> None:
    """Shares of the request, and the quota."""
    shares = cpu_shares(limits.cpus)
    quota = cfs_quota_us(limits)
    if is_v2:
        write(directory / "cpu.weight", str(cpu_weight(shares)))
        write(directory / "cpu.max", f"{'max' if quota is None else quota} {_CFS_PERIOD_US}")
        return
    write(directory / "cpu.shares", str(shares))
    if (directory / "cpu.cfs_quota_us").exists():  # not in kernels without CFS bandwidth
        write(directory / "cpu.cfs_period_us", str(_CFS_PERIOD_US))
        write(directory / "cpu.cfs_quota_us", "-1" if quota is None else str(quota))


#: Of cgroups v1: the limit and the use of memory and swap together.
MEMSW_LIMIT, _MEMSW_USAGE = "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"


def limit_memory(
    directory: Path, limits: Limits, *, is_v2: bool, is_new: bool, as_one: bool, with_swap: bool
) -> None:
    """`as_one`: when it runs out, all in it are ended, for half a task is none (v2). `with_swap`:
    the hard limit holds for memory and swap together (v1)."""
    soft = max(limits.memory_bytes, _MIN_MEMORY_BYTES)
    wanted = limits.memory_limit_bytes
    hard = soft if wanted is None else max(wanted, soft)
    names = (
        ("memory.low", "memory.max", "memory.current")
        if is_v2
        else ("memory.soft_limit_in_bytes", "memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    write(directory / names[0], str(soft))
    if is_new and is_v2 and as_one:
        write(directory / "memory.oom.group", "1")
    if hard == float("inf"):
        _write_hard(directory, names[1], "max" if is_v2 else "-1", with_swap, grows=True)
    elif is_new or hard >= _number(directory / (_MEMSW_USAGE if with_swap else names[2])):
        grows = with_swap and not is_new and hard >= _number(directory / MEMSW_LIMIT)
        _write_hard(directory, names[1], str(int(hard)), with_swap, grows=grows)


def _write_hard(directory: Path, name: str, text: str, with_swap: bool, *, grows: bool) -> None:
    """The limit, and that of memory and swap: at no moment may this one be the lower."""
    files = [name, MEMSW_LIMIT] if with_swap else [name]
    for each in reversed(files) if grows else files:
        write(directory / each, text)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise CgroupError(f"{path}: {error}") from error


def write(path: Path, text: str) -> None:
    """Write a control file; CgroupError names it if that is refused."""
    try:
        # O_WRONLY without O_CREAT: in a cgroup nothing can be made, only written.
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise CgroupError(f"cannot write {text!r} to {path}: {error.strerror}") from error
