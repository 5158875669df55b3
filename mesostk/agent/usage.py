"""What a run uses: from its cgroups where it has them, else from /proc.

::

    cgroups   v1 cpuacct.usage_*, memory.*      v2 cpu.stat, memory.*         complete and cheap
    /proc     the supervisor's descendants      live ones, and of the ended those their parent
                                                waited for: a lower bound

Blocking reads of kernel files, well under a millisecond per run with cgroups.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mesostk.agent import processes
from mesostk.agent.cgroups import Cgroups

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Statistics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`ResourceStatistics` of the original, as far as it is measured here (spec: Mesos §6.4).

    `timestamp` in seconds since the epoch; what is not known is left out.
    """

    timestamp: float
    processes: int | None = None
    threads: int | None = None
    cpus_user_time_secs: float | None = None
    cpus_system_time_secs: float | None = None
    cpus_limit: float | None = None
    cpus_nr_periods: int | None = None
    cpus_nr_throttled: int | None = None
    cpus_throttled_time_secs: float | None = None
    mem_total_bytes: int | None = None
    mem_total_memsw_bytes: int | None = None
    mem_limit_bytes: int | None = None
    mem_soft_limit_bytes: int | None = None
    mem_rss_bytes: int | None = None
    mem_file_bytes: int | None = None
    mem_anon_bytes: int | None = None
    mem_cache_bytes: int | None = None
    mem_mapped_file_bytes: int | None = None
    mem_swap_bytes: int | None = None
    mem_unevictable_bytes: int | None = None
    disk_limit_bytes: int | None = None
    disk_used_bytes: int | None = None


def of_run(
    timestamp: float,
    supervisor_pid: int,
    container_id: str,
    cgroups: Cgroups | None,
    allowed: Mapping[str, float | int],
) -> Statistics:
    """Statistics of a live run; those of a run that has just ended are nearly empty.

    `allowed` holds what the agent knows itself: cpus_limit, mem_limit_bytes, disk_limit_bytes,
    disk_used_bytes. Raises nothing.
    """
    measured = _of_descendants(supervisor_pid)
    if cgroups is not None:
        measured |= _of_cgroups(cgroups, container_id)
    return msgspec.convert({"timestamp": timestamp, **allowed, **measured}, Statistics)


# -- cgroups --------------------------------------------------------------------------------------


def _of_cgroups(cgroups: Cgroups, container_id: str) -> dict[str, float | int]:
    def numbers(controller: str, name: str) -> dict[str, int]:
        return _table(cgroups.file(controller, container_id, name))

    def number(controller: str, name: str) -> int | None:
        text = cgroups.file(controller, container_id, name)
        return int(text) if text is not None and text.strip().isdigit() else None

    if cgroups.is_v2:
        cpu = numbers("cpu", "cpu.stat")
        memory = numbers("memory", "memory.stat")
        return _known(
            cpus_user_time_secs=_scaled(cpu.get("user_usec"), 1e6),
            cpus_system_time_secs=_scaled(cpu.get("system_usec"), 1e6),
            cpus_nr_periods=cpu.get("nr_periods"),
            cpus_nr_throttled=cpu.get("nr_throttled"),
            cpus_throttled_time_secs=_scaled(cpu.get("throttled_usec"), 1e6),
            mem_total_bytes=number("memory", "memory.current"),
            mem_limit_bytes=number("memory", "memory.max"),
            mem_soft_limit_bytes=number("memory", "memory.low"),
            mem_swap_bytes=number("memory", "memory.swap.current"),
            mem_rss_bytes=memory.get("anon"),
            mem_anon_bytes=memory.get("anon"),
            mem_file_bytes=memory.get("file"),
            mem_cache_bytes=memory.get("file"),
            mem_mapped_file_bytes=memory.get("file_mapped"),
            mem_unevictable_bytes=memory.get("unevictable"),
        )
    cpu = numbers("cpu", "cpu.stat")
    memory = numbers("memory", "memory.stat")
    return _known(
        cpus_user_time_secs=_scaled(number("cpuacct", "cpuacct.usage_user"), 1e9),
        cpus_system_time_secs=_scaled(number("cpuacct", "cpuacct.usage_sys"), 1e9),
        cpus_nr_periods=cpu.get("nr_periods"),
        cpus_nr_throttled=cpu.get("nr_throttled"),
        cpus_throttled_time_secs=_scaled(cpu.get("throttled_time"), 1e9),
        mem_total_bytes=number("memory", "memory.usage_in_bytes"),
        mem_total_memsw_bytes=number("memory", "memory.memsw.usage_in_bytes"),
        mem_limit_bytes=number("memory", "memory.limit_in_bytes"),
        mem_soft_limit_bytes=number("memory", "memory.soft_limit_in_bytes"),
        mem_rss_bytes=memory.get("total_rss"),
        mem_anon_bytes=memory.get("total_rss"),
        mem_file_bytes=memory.get("total_cache"),
        mem_cache_bytes=memory.get("total_cache"),
        mem_mapped_file_bytes=memory.get("total_mapped_file"),
        mem_swap_bytes=memory.get("total_swap"),
        mem_unevictable_bytes=memory.get("total_unevictable"),
    )


def _table(text: str | None) -> dict[str, int]:
    """`name number` lines."""
    rows = (line.split() for line in (text if text is not None else "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _scaled(value: int | None, per_second: float) -> float | None:
    return None if value is None else value / per_second


def _known(**measured: float | None) -> dict[str, float | int]:
    return {name: value for name, value in measured.items() if value is not None}


# -- /proc ----------------------------------------------------------------------------------------


def _of_descendants(supervisor_pid: int) -> dict[str, float | int]:
    """Sums over the supervisor's descendants; of those that ended, what their parent waited for."""
    count = threads = rss_pages = user = system = 0
    for pid in processes.descendants(supervisor_pid):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            continue  # ended meanwhile
        # Fields of proc(5) from the third on; the name before may hold spaces.
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            continue
        count += 1
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
        threads += int(fields[17])
        rss_pages += int(fields[21])
    return {
        "processes": count,
        "threads": threads,
        "cpus_user_time_secs": user / _TICKS_PER_S,
        "cpus_system_time_secs": system / _TICKS_PER_S,
        "mem_rss_bytes": rss_pages * _PAGE_BYTES,
    }
