"""What the agent shows of its core: /state, /containers, figures. Pure. Source: spec §5.3, §11."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesostk.agent import executors, registration, updates
from mesostk.agent.fitting import Amounts
from mesostk.agent.state import Framework, Run, State
from mesostk.resources.resources import Resources
from mesostk.wire.legacy import (
    agent_executor_view,
    attributes_view,
    capability_names,
    framework_view,
    queued_task_view,
    task_view,
)
from mesostk.wire.mesos import TERMINAL_STATES, ContainerStatus

View = dict[str, Any]


def state_view(state: State, flags: Mapping[str, str], build: View, leader: str | None) -> View:
    """The object of /state; `build` has version, build_… and start_time."""
    s = state.settings
    total = state.total
    used = Resources.sum(
        Resources.of(entry.info.resources).unallocate()
        for run in state.live_runs()
        for entry in run.tasks.values()
    )
    reservations = total.reservations()
    view: View = {
        **build,
        "id": state.agent_id.value if state.agent_id is not None else "",
        "pid": f"slave(1)@{s.ip}:{s.port}",
        "hostname": s.hostname,
        "capabilities": capability_names(registration.CAPABILITIES),
        "resources": total.legacy_object(),
        "reserved_resources": {r: res.legacy_object() for r, res in reservations.items()},
        "unreserved_resources": total.unreserved().legacy_object(),
        "reserved_resources_full": {r: res.to_wire("ENDPOINT") for r, res in reservations.items()},
        "unreserved_resources_full": total.unreserved().to_wire("ENDPOINT"),
        "reserved_resources_allocated": {
            r: res.legacy_object() for r, res in used.reservations().items()
        },
        "unreserved_resources_allocated": used.unreserved().legacy_object(),
        "resource_providers": [],
        "attributes": attributes_view(s.attributes),
        "flags": dict(flags),
        "frameworks": [_framework(state, f) for f in state.frameworks.values()],
        "completed_frameworks": [_framework(state, f) for f in state.completed_frameworks],
    }
    if s.domain is not None:
        view["domain"] = s.domain
    if state.drain is not None:
        view["drain_config"] = state.drain
    if leader is not None:
        view["master_hostname"] = leader
    return view


def _framework(state: State, framework: Framework) -> View:
    view = framework_view(framework.info)
    for name in ("capabilities", "webui_url", "labels"):
        # Only masters tell these (spec §5.3).
        view.pop(name, None)
    view["executors"] = [
        _executor(state, run) for run in framework.runs.values() if run.parent_id is None
    ]
    view["completed_executors"] = [_executor(state, run) for run in framework.completed]
    return view


def _executor(state: State, run: Run) -> View:
    directory = f"{state.settings.work_dir}/{executors.sandbox_of(state, run)}"
    view = agent_executor_view(run.executor, run.container_id, directory)
    view["tasks"], view["queued_tasks"], view["completed_tasks"] = [], [], []
    for member in (run, *run.nested.values()):
        for entry in member.tasks.values():
            if entry.state == "TASK_STAGING":
                view["queued_tasks"].append(queued_task_view(entry.info, run.framework_id))
                continue
            kind = "completed_tasks" if entry.state in TERMINAL_STATES else "tasks"
            view[kind].append(task_view(registration.wire_task(state, member, entry)))
    for entry in run.completed:
        view["completed_tasks"].append(task_view(registration.wire_task(state, run, entry)))
    return view


def container_view(run: Run) -> View:
    """One entry of /containers, without its statistics."""
    return {
        "container_id": run.container_id.rpartition(".")[2],
        "framework_id": run.framework_id,
        "executor_id": run.executor_id,
        "executor_name": run.executor.name if run.executor.name is not None else "",
        "source": run.executor.source if run.executor.source is not None else "",
        "status": ContainerStatus(
            container_id=updates.container_id_of(run.container_id), executor_pid=run.pid
        ),
    }


_COUNTERS = (
    "container_launch_errors", "checkpoint_errors", "executors_terminated",
    "valid_framework_messages", "invalid_framework_messages", "valid_status_updates",
    "invalid_status_updates",
)  # fmt: skip

#: Of what there is none here: oversubscription, resource providers, an image store.
_NEVER = (
    "slave/executors_preempted", "resource_provider_manager/subscribed",
    "resource_provider_manager/events/subscribe", "resource_provider_manager/events/disconnect",
    "containerizer/mesos/provisioner/remove_container_errors",
    "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
)  # fmt: skip


def figures(state: State, uptime_s: float) -> dict[str, float]:
    """The `slave/…` part of /metrics/snapshot that only the core knows."""
    live = state.live_runs()
    tasks = [entry for run in live for entry in run.tasks.values()]
    found: dict[str, float] = {
        "slave/uptime_secs": uptime_s,
        "slave/registered": float(state.phase == "RUNNING"),
        "slave/recovery_errors": float(state.lost_records),
        "slave/frameworks_active": float(len(state.frameworks)),
        "slave/executors_running": float(sum(run.phase == "RUNNING" for run in live)),
        "slave/executors_registering": float(sum(run.phase != "RUNNING" for run in live)),
        "slave/executors_terminating": float(sum(entry.kill is not None for entry in tasks)),
    }
    for name in ("staging", "starting", "running", "killing"):
        wanted = f"TASK_{name.upper()}"
        found[f"slave/tasks_{name}"] = float(sum(entry.state == wanted for entry in tasks))
    for name in ("finished", "failed", "killed", "lost", "gone", "dropped", "error"):
        found[f"slave/tasks_{name}"] = float(state.counters.get(f"tasks_{name}", 0))
    for name in _COUNTERS:
        found[f"slave/{name}"] = float(state.counters.get(name, 0))
    found.update(dict.fromkeys(_NEVER, 0.0))
    found.update(_amounts(state, (entry.info.resources for entry in tasks)))
    return found


def _amounts(state: State, held: Iterable[Any]) -> dict[str, float]:
    total = Amounts(state.settings.resources)
    used = Amounts(resource for resources in held for resource in resources)
    found: dict[str, float] = {}
    for name in ("cpus", "gpus", "mem", "disk"):
        have, taken = total.scalars.get(name, 0) / 1000, used.scalars.get(name, 0) / 1000
        found[f"slave/{name}_total"] = have
        found[f"slave/{name}_used"] = taken
        found[f"slave/{name}_percent"] = taken / have if have else 0.0
        for part in ("total", "used", "percent"):
            found[f"slave/{name}_revocable_{part}"] = 0.0
    return found
