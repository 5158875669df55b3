"""What the host has and how busy it is, as masters and agents tell it (spec/mesos.md §5.4, §11)."""

from __future__ import annotations

import os

import psutil


def system_figures(prefix: str = "") -> dict[str, float]:
    """For /system/stats.json, or for the metrics with `prefix` before each name; sizes in bytes."""
    load = os.getloadavg()
    memory = psutil.virtual_memory()
    average = "load" if prefix else "avg_load"
    return {
        f"{prefix}{average}_1min": load[0],
        f"{prefix}{average}_5min": load[1],
        f"{prefix}{average}_15min": load[2],
        f"{prefix}cpus_total": float(os.cpu_count() or 1),
        f"{prefix}mem_total_bytes": float(memory.total),
        f"{prefix}mem_free_bytes": float(memory.available),
    }
