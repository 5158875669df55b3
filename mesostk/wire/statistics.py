"""`mesos.v1.ResourceStatistics`: what a container uses.

Only fields that an agent here can fill are declared; unset ones are left out of the JSON.
"""

from __future__ import annotations

from mesostk.wire.mesos import Message


class ResourceStatistics(Message, frozen=True, kw_only=True, gc=False):
    """`timestamp` in seconds since the epoch; sizes in bytes; cpu in seconds and cpus."""

    timestamp: float
    processes: int | None = None
    threads: int | None = None
    cpus_user_time_secs: float | None = None
    cpus_system_time_secs: float | None = None
    cpus_limit: float | None = None
    cpus_soft_limit: float | None = None
    cpus_nr_periods: int | None = None
    cpus_nr_throttled: int | None = None
    cpus_throttled_time_secs: float | None = None
    mem_total_bytes: int | None = None
    mem_total_memsw_bytes: int | None = None
    mem_kmem_usage_bytes: int | None = None
    mem_kmem_tcp_usage_bytes: int | None = None
    mem_limit_bytes: int | None = None
    mem_soft_limit_bytes: int | None = None
    mem_file_bytes: int | None = None
    mem_anon_bytes: int | None = None
    mem_cache_bytes: int | None = None
    mem_rss_bytes: int | None = None
    mem_mapped_file_bytes: int | None = None
    mem_swap_bytes: int | None = None
    mem_unevictable_bytes: int | None = None
    mem_low_pressure_counter: int | None = None
    mem_medium_pressure_counter: int | None = None
    mem_critical_pressure_counter: int | None = None
    disk_limit_bytes: int | None = None
    disk_used_bytes: int | None = None
    net_rx_packets: int | None = None
    net_rx_bytes: int | None = None
    net_rx_errors: int | None = None
    net_rx_dropped: int | None = None
    net_tx_packets: int | None = None
    net_tx_bytes: int | None = None
    net_tx_errors: int | None = None
    net_tx_dropped: int | None = None
