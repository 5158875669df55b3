"""What the Docker engine says of containers, as the agent wants to know it. Pure.

::

    inspect ─▶ is_live, launched_of, exited_of, address_of, finished_at
    list    ─▶ owned_name, run_of            stats ─▶ statistics_of
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mesostk.agent.docker_spec import NAME_PREFIX, SECRETS_LABEL
from mesostk.agent.events import Exited, Launched

#: Whose container it is: the id of the agent's work_dir.
OWNER_LABEL = "mesostk.work_dir"

#: Names that the original gave. Source: spec §8.9.
OLD_NAME = re.compile(r"/?mesos-(?P<agent>.+-S\d+)\.(?P<run>[^.]+)(?:\.executor)?")

#: States in which a container's program has not ended.
LIVE_STATES = frozenset({"running", "paused", "restarting", "removing"})


def is_live(found: Mapping[str, Any]) -> bool:
    """Whether a container's program has not ended."""
    return found["State"]["Status"] in LIVE_STATES


def exited_of(container_id: str, found: Mapping[str, Any]) -> Exited:
    """How it ended, from its `inspect`."""
    state = found["State"]
    code = int(state.get("ExitCode", 0)) & 0xFF
    memory = found.get("HostConfig", {}).get("Memory", 0)
    return Exited(
        container_id,
        code << 8,
        oom=bool(state.get("OOMKilled")) and code != 0,
        message=f"Memory limit exceeded: Requested: {memory / (1 << 20):g}MB",
        what="Container",
    )


def gone(container_id: str, name: str) -> Exited:
    """Its end, when the engine does not know it any more."""
    text = f"Container {name} was removed by somebody else; its exit status is not known"
    return Exited(container_id, None, message=text, what="Container")


def launched_of(container_id: str, found: Mapping[str, Any]) -> Launched:
    """A running container as the core is told of it."""
    ip = address_of(found)
    return Launched(
        container_id,
        int(found["State"].get("Pid", 0)),
        data=json.dumps([_without_secrets(found)]).encode(),
        ips=(ip,) if ip is not None else (),
    )


def _without_secrets(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the engine says of a container, less the variables that are secrets."""
    config = found.get("Config") or {}
    hidden = set(((config.get("Labels") or {}).get(SECRETS_LABEL) or "").split(","))
    env = [
        f"{name}=****" if (name := pair.partition("=")[0]) in hidden else pair
        for pair in config.get("Env") or ()
    ]
    return found if hidden == {""} else {**found, "Config": {**config, "Env": env}}


def address_of(found: Mapping[str, Any]) -> str | None:
    """Its address in its first network that gave it one."""
    networks = found.get("NetworkSettings", {}).get("Networks") or {}
    return next((n["IPAddress"] for n in networks.values() if n.get("IPAddress")), None)


def finished_at(found: Mapping[str, Any], otherwise: float) -> float:
    """When it ended, in seconds since the epoch."""
    text = str(found["State"].get("FinishedAt", "")).partition(".")[0].rstrip("Z")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return otherwise


def owned_name(listed: Mapping[str, Any], owner: str, agent_id: str) -> str | None:
    """The name of a listed container if it is this agent's, by label or by the original's name."""
    names = [str(name).lstrip("/") for name in listed.get("Names") or ()]
    if (listed.get("Labels") or {}).get(OWNER_LABEL) == owner:
        return next((name for name in names if name.startswith(NAME_PREFIX)), None)
    for name in names:
        match = OLD_NAME.fullmatch(name)
        if match is not None and agent_id and match["agent"] == agent_id:
            return name
    return None


def run_of(name: str) -> str:
    """The container id in the name of a container."""
    match = OLD_NAME.fullmatch(name)
    return match["run"] if match is not None else name.removeprefix(NAME_PREFIX)


def statistics_of(found: Mapping[str, Any]) -> dict[str, float | int]:
    """The engine's counters; `total_rss` is of cgroup v1, `anon` of v2."""
    cpu, memory = found.get("cpu_stats") or {}, found.get("memory_stats") or {}
    used, throttled = cpu.get("cpu_usage") or {}, cpu.get("throttling_data") or {}
    detail = memory.get("stats") or {}
    measured: dict[str, float | int | None] = {
        "processes": (found.get("pids_stats") or {}).get("current"),
        "cpus_user_time_secs": _seconds(used.get("usage_in_usermode")),
        "cpus_system_time_secs": _seconds(used.get("usage_in_kernelmode")),
        "cpus_nr_periods": throttled.get("periods"),
        "cpus_nr_throttled": throttled.get("throttled_periods"),
        "cpus_throttled_time_secs": _seconds(throttled.get("throttled_time")),
        "mem_total_bytes": memory.get("usage"),
        "mem_limit_bytes": memory.get("limit"),
        "mem_rss_bytes": detail.get("total_rss", detail.get("anon")),
        "mem_cache_bytes": detail.get("total_cache", detail.get("file")),
    }
    return {name: value for name, value in measured.items() if value is not None}


def _seconds(nanoseconds: int | None) -> float | None:
    return nanoseconds / 1e9 if nanoseconds is not None else None
