"""Keys, types and statuses of every endpoint and operator call, typed from spec/mesos.md §4 and §5.

A real master and agent with one running task. A shape is a type, `[shape]`, `{"key": shape}` (a `?`
at the end of the key: it may be absent), or `{"*": shape}` for any keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import pytest
import requests

from mesostk.testing.processes import Cluster
from mesostk.testing.scheduler import Scheduler, scalars
from mesostk.wire import agent_operator, operator

NUM = float
TEXT = str

# -- §6.1, §6.4 -----------------------------------------------------------------------------------

VALUE = {"value": TEXT}
TIME = {"nanoseconds": int}
LABELS = {"labels": [{"key": TEXT, "value?": TEXT}]}
RANGES = {"range": [{"begin": int, "end": int}]}
RESOURCE = {
    "provider_id?": VALUE, "name": TEXT, "type": TEXT, "scalar?": {"value": NUM},
    "ranges?": RANGES, "set?": {"item": [TEXT]}, "role?": TEXT, "reservations?": [{"*": object}],
    "reservation?": {"*": object}, "allocation_info?": {"role": TEXT}, "disk?": {"*": object},
    "revocable?": {}, "shared?": {},
}  # fmt: skip
RESOURCES = [RESOURCE]
AGENT_INFO = {
    "hostname": TEXT, "port": int, "resources?": RESOURCES, "attributes?": [{"*": object}],
    "id?": VALUE, "domain?": {"*": object},
}  # fmt: skip
FRAMEWORK_INFO = {
    "user": TEXT, "name": TEXT, "id?": VALUE, "failover_timeout": NUM, "checkpoint": bool,
    "hostname?": TEXT, "role?": TEXT, "roles?": [TEXT], "principal?": TEXT, "webui_url?": TEXT,
    "capabilities?": [{"type?": TEXT}], "labels?": LABELS, "offer_filters?": {"*": object},
}  # fmt: skip
STATUS = {
    "task_id": VALUE, "state": TEXT, "agent_id?": VALUE, "executor_id?": VALUE, "uuid?": TEXT,
    "timestamp?": NUM, "source?": TEXT, "reason?": TEXT, "message?": TEXT, "healthy?": bool,
    "container_status?": {"*": object}, "check_status?": {"*": object}, "labels?": LABELS,
}  # fmt: skip
TASK = {
    "name": TEXT, "task_id": VALUE, "framework_id": VALUE, "executor_id?": VALUE,
    "agent_id": VALUE, "state": TEXT, "resources?": RESOURCES, "statuses?": [STATUS],
    "status_update_state?": TEXT, "status_update_uuid?": TEXT, "labels?": LABELS,
    "discovery?": {"*": object}, "container?": {"*": object}, "user?": TEXT,
    "health_check?": {"*": object}, "kill_policy?": {"*": object}, "limits?": {"*": object},
}  # fmt: skip
OFFER = {
    "id": VALUE, "framework_id": VALUE, "agent_id": VALUE, "hostname": TEXT, "url?": {"*": object},
    "resources?": RESOURCES, "attributes?": [{"*": object}], "executor_ids?": [VALUE],
    "allocation_info?": {"role": TEXT}, "domain?": {"*": object}, "unavailability?": {"*": object},
}  # fmt: skip
COMMAND = {
    "value?": TEXT, "shell": bool, "user?": TEXT, "arguments?": [TEXT], "uris?": [{"*": object}],
    "environment?": {"*": object},
}  # fmt: skip
EXECUTOR_INFO = {
    "type?": TEXT, "executor_id": VALUE, "framework_id?": VALUE, "command?": COMMAND,
    "container?": {"*": object}, "resources?": RESOURCES, "name?": TEXT, "source?": TEXT,
    "data?": TEXT, "discovery?": {"*": object}, "shutdown_grace_period?": TIME, "labels?": LABELS,
}  # fmt: skip
VERSION_INFO = {
    "version": TEXT, "build_date?": TEXT, "build_time?": NUM, "build_user?": TEXT, "git_sha?": TEXT,
    "git_branch?": TEXT, "git_tag?": TEXT,
}  # fmt: skip
MASTER_INFO = {
    "id": TEXT, "ip": int, "port": int, "pid?": TEXT, "hostname?": TEXT, "version?": TEXT,
    "address?": {"hostname?": TEXT, "ip?": TEXT, "port": int}, "domain?": {"*": object},
    "capabilities?": [{"type": TEXT}],
}  # fmt: skip
MACHINE = {"hostname?": TEXT, "ip?": TEXT}
FILE = {
    "path": TEXT, "nlink?": int, "size?": int, "mtime?": TIME, "mode?": int, "uid?": TEXT,
    "gid?": TEXT,
}  # fmt: skip

# -- §4.2: calls of a master ----------------------------------------------------------------------

AGENT = {
    "agent_info": AGENT_INFO, "active": bool, "deactivated": bool, "version": TEXT, "pid?": TEXT,
    "registered_time?": TIME, "reregistered_time?": TIME, "total_resources?": RESOURCES,
    "allocated_resources?": RESOURCES, "offered_resources?": RESOURCES,
    "capabilities?": [{"type": TEXT}], "drain_info?": {"*": object},
    "estimated_drain_start_time?": TIME,
}  # fmt: skip
AGENTS = {"agents?": [AGENT], "recovered_agents?": [AGENT_INFO]}
FRAMEWORK = {
    "framework_info": FRAMEWORK_INFO, "active": bool, "connected": bool, "recovered": bool,
    "registered_time?": TIME, "reregistered_time?": TIME, "unregistered_time?": TIME,
    "offers?": [OFFER], "inverse_offers?": [{"*": object}], "allocated_resources?": RESOURCES,
    "offered_resources?": RESOURCES, "offer_constraints?": {"*": object},
}  # fmt: skip
FRAMEWORKS = {"frameworks?": [FRAMEWORK], "completed_frameworks?": [FRAMEWORK]}
EXECUTORS = {"executors?": [{"executor_info": EXECUTOR_INFO, "agent_id": VALUE}]}
TASKS = {"tasks?": [TASK], "unreachable_tasks?": [TASK], "completed_tasks?": [TASK]}
AMOUNTS = {"*": {"value": NUM}}
SHARED_READS: dict[str, tuple[dict[str, Any] | None, Any]] = {
    "GET_HEALTH": (None, {"healthy": bool}),
    "GET_FLAGS": (None, {"flags": [{"name": TEXT, "value?": TEXT}]}),
    "GET_VERSION": (None, {"version_info": VERSION_INFO}),
    "GET_METRICS": ({"timeout": {"nanoseconds": 10**9}},
                    {"metrics": [{"name": TEXT, "value": NUM}]}),
    "GET_LOGGING_LEVEL": (None, {"level": int}),
    "GET_OPERATIONS": (None, {"operations?": [{"*": object}]}),
}  # fmt: skip
MASTER_READS: dict[str, tuple[dict[str, Any] | None, Any]] = {
    **SHARED_READS,
    "GET_STATE": (None, {
        "get_tasks": TASKS, "get_executors": EXECUTORS, "get_frameworks": FRAMEWORKS,
        "get_agents": AGENTS,
    }),
    "GET_AGENTS": (None, AGENTS),
    "GET_FRAMEWORKS": (None, FRAMEWORKS),
    "GET_EXECUTORS": (None, EXECUTORS),
    "GET_TASKS": (None, TASKS),
    "GET_ROLES": (None, {"roles": [
        {"name": TEXT, "weight": NUM, "frameworks?": [VALUE], "resources?": RESOURCES},
    ]}),
    "GET_WEIGHTS": (None, {"weight_infos": [{"weight": NUM, "role": TEXT}]}),
    "GET_MASTER": (None, {"master_info": MASTER_INFO, "start_time": NUM, "elected_time": NUM}),
    "GET_MAINTENANCE_STATUS": (None, {"status": {
        "draining_machines": [{"id": MACHINE, "statuses?": [
            {"status": TEXT, "framework_id": VALUE, "timestamp": TIME},
        ]}],
        "down_machines?": [MACHINE],
    }}),
    "GET_MAINTENANCE_SCHEDULE": (None, {"schedule": {"windows": [
        {"machine_ids": [MACHINE], "unavailability": {"start": TIME, "duration?": TIME}},
    ]}}),
    "GET_QUOTA": (None, {"status": {
        "infos": [{"role": TEXT, "principal?": TEXT, "guarantee": RESOURCES}],
        "configs": [{"role": TEXT, "guarantees": AMOUNTS, "limits": AMOUNTS}],
    }}),
}  # fmt: skip

#: §4.1: a call without its message is 400 and names it.
MASTER_BODIES = (
    "get_metrics", "set_logging_level", "list_files", "read_file", "update_weights",
    "reserve_resources", "unreserve_resources", "create_volumes", "destroy_volumes",
    "grow_volume", "shrink_volume", "update_maintenance_schedule", "start_maintenance",
    "stop_maintenance", "drain_agent", "deactivate_agent", "reactivate_agent", "update_quota",
    "set_quota", "remove_quota", "teardown", "mark_agent_gone",
)  # fmt: skip
NO_AGENT = {"agent_id": {"value": "none"}}
DISK = {"name": "disk", "type": "SCALAR", "scalar": {"value": 1}}
CPUS = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}
NO_WEIGHT = (
    "Failed to validate update weights request JSON for role 'r': Invalid weight '0':"
    " Weights must be positive"
)
#: (call, its message, status, beginning of the text): §4.2, §15.2; without what only a failing disk
#: or a race is answered (500, 409).
MASTER_REFUSALS: list[tuple[str, dict[str, Any], int, str]] = [
    ("LIST_FILES", {"path": "/none"}, 404, ""),
    ("READ_FILE", {"path": "/none", "offset": 0}, 404, ""),
    ("UPDATE_WEIGHTS", {"weight_infos": [{"weight": 0, "role": "r"}]}, 400, NO_WEIGHT),
    ("UPDATE_WEIGHTS", {"weight_infos": [{"weight": 1, "role": "a//b"}]}, 400, ""),
    ("RESERVE_RESOURCES", {**NO_AGENT, "resources": [CPUS]}, 400,
     "No agent found with specified ID"),
    ("UNRESERVE_RESOURCES", {**NO_AGENT, "resources": [CPUS]}, 400,
     "No agent found with specified ID"),
    ("CREATE_VOLUMES", {**NO_AGENT, "volumes": [DISK]}, 400, "No agent found with specified ID"),
    ("DESTROY_VOLUMES", {**NO_AGENT, "volumes": [DISK]}, 400, "No agent found with specified ID"),
    ("GROW_VOLUME", {**NO_AGENT, "volume": DISK, "addition": DISK}, 400,
     "No agent found with specified ID"),
    ("GROW_VOLUME", {"volume": DISK, "addition": DISK}, 400, ""),
    ("SHRINK_VOLUME", {**NO_AGENT, "volume": DISK, "subtract": {"value": 1}}, 400,
     "No agent found with specified ID"),
    ("SHRINK_VOLUME", {"volume": DISK, "subtract": {"value": 1}}, 400, ""),
    ("UPDATE_MAINTENANCE_SCHEDULE", {"schedule": {"windows": [
        {"machine_ids": [], "unavailability": {"start": {"nanoseconds": 1}}}]}}, 400, ""),
    ("START_MAINTENANCE", {"machines": []}, 400, "List of machines is empty"),
    ("STOP_MAINTENANCE", {"machines": []}, 400, "List of machines is empty"),
    ("START_MAINTENANCE", {"machines": [{"hostname": "none"}]}, 400,
     "Machine '{\"hostname\":\"none\"}' is not part of a maintenance schedule"),
    ("DRAIN_AGENT", NO_AGENT, 400, "Unknown agent"),
    ("DEACTIVATE_AGENT", NO_AGENT, 400, "Unknown agent"),
    ("REACTIVATE_AGENT", NO_AGENT, 400, "Unknown agent"),
    ("UPDATE_QUOTA", {"quota_configs": [{"role": "*"}]}, 400, "Invalid QuotaConfig: "),
    ("SET_QUOTA", {"quota_request": {"role": "q"}}, 400,
     "Failed to validate set quota request: "),
    ("REMOVE_QUOTA", {"role": "none"}, 400, ""),
    ("TEARDOWN", {"framework_id": {"value": "none"}}, 400, "No framework found with specified ID"),
    ("MARK_AGENT_GONE", NO_AGENT, 404, "Agent 'none' not found"),
]  # fmt: skip

# -- §4.4: calls of an agent ----------------------------------------------------------------------

AGENT_FRAMEWORKS = {
    "frameworks?": [{"framework_info": FRAMEWORK_INFO}],
    "completed_frameworks?": [{"framework_info": FRAMEWORK_INFO}],
}
AGENT_EXECUTORS = {
    "executors?": [{"executor_info": EXECUTOR_INFO}],
    "completed_executors?": [{"executor_info": EXECUTOR_INFO}],
}
AGENT_TASKS = {
    "queued_tasks?": [TASK], "launched_tasks": [TASK], "terminated_tasks?": [TASK],
    "completed_tasks?": [TASK],
}  # fmt: skip
STATISTICS = {"timestamp": NUM, "*": NUM}
CONTAINER_STATUS = {
    "container_id": {"value": TEXT, "parent?": {"*": object}}, "executor_pid?": int,
    "network_infos?": [{"*": object}], "cgroup_info?": {"*": object},
}  # fmt: skip
AGENT_READS: dict[str, tuple[dict[str, Any] | None, Any]] = {
    **SHARED_READS,
    "GET_STATE": (None, {
        "get_tasks": AGENT_TASKS, "get_executors": AGENT_EXECUTORS,
        "get_frameworks": AGENT_FRAMEWORKS,
    }),
    "GET_CONTAINERS": ({"show_nested": True, "show_standalone": True}, {"containers": [{
        "framework_id?": VALUE, "executor_id?": VALUE, "executor_name?": TEXT,
        "container_id": {"value": TEXT, "parent?": {"*": object}},
        "container_status?": CONTAINER_STATUS, "resource_statistics?": STATISTICS,
    }]}),
    "GET_FRAMEWORKS": (None, AGENT_FRAMEWORKS),
    "GET_EXECUTORS": (None, AGENT_EXECUTORS),
    "GET_TASKS": (None, AGENT_TASKS),
    "GET_AGENT": (None, {
        "agent_info": AGENT_INFO, "drain_config?": {"*": object},
        "estimated_drain_start_time?": TIME,
    }),
    "GET_RESOURCE_PROVIDERS": (None, {}),
    "LIST_FILES": ({"path": "/frameworks/{F}/executors/t/runs/latest"}, {"file_infos": [FILE]}),
    "READ_FILE": ({"path": "/frameworks/{F}/executors/t/runs/latest/stdout", "offset": 0},
                  {"size": int, "data": TEXT}),
}  # fmt: skip
AGENT_BODIES = (
    "get_metrics", "set_logging_level", "list_files", "read_file", "launch_nested_container",
    "wait_nested_container", "kill_nested_container", "remove_nested_container",
    "launch_nested_container_session", "attach_container_output", "launch_container",
    "wait_container", "kill_container", "remove_container", "add_resource_provider_config",
    "update_resource_provider_config", "remove_resource_provider_config",
    "mark_resource_provider_gone",
)  # fmt: skip
PROVIDER = {"info": {"type": "t", "name": "n"}}
UNKNOWN_PROVIDER = (
    "Failed to validate resource provider config with type 't' and name 'n':"
    " Unknown local resource provider type 't'"
)
WITH_ID = (
    "Failed to validate agent::Call: Expecting 'add_resource_provider_config.info.id' to be unset"
)
NO_CONTAINER = {"container_id": {"value": "none"}}
NONE_BELOW = {"container_id": {"value": "none", "parent": {"value": "nor"}}}
NO_PARENT = (
    "Failed to validate agent::Call: Expecting 'launch_nested_container.container_id.parent'"
)
AGENT_REFUSALS: list[tuple[str, dict[str, Any], int, str]] = [
    ("WAIT_NESTED_CONTAINER", NONE_BELOW, 404, "Container nor.none cannot be found"),
    ("WAIT_CONTAINER", NO_CONTAINER, 404, "Container"),
    ("KILL_NESTED_CONTAINER", NONE_BELOW, 404, "Container 'nor.none' cannot be found"),
    ("KILL_CONTAINER", NO_CONTAINER, 404, "Container 'none' cannot be found"),
    ("ATTACH_CONTAINER_OUTPUT", NO_CONTAINER, 404, "Container"),
    ("LAUNCH_NESTED_CONTAINER", NO_CONTAINER, 400, NO_PARENT),
    ("LAUNCH_CONTAINER", NO_CONTAINER, 400, "Failed to validate agent::Call: Expecting"),
    ("LIST_FILES", {"path": "/none"}, 404, ""),
    ("READ_FILE", {"path": "/none", "offset": 0}, 404, ""),
    ("ADD_RESOURCE_PROVIDER_CONFIG", PROVIDER, 400, UNKNOWN_PROVIDER),
    ("UPDATE_RESOURCE_PROVIDER_CONFIG", PROVIDER, 400, UNKNOWN_PROVIDER),
    (
        "ADD_RESOURCE_PROVIDER_CONFIG",
        {"info": {"type": "t", "name": "n", "id": {"value": "i"}}},
        400,
        WITH_ID,
    ),
    (
        "REMOVE_RESOURCE_PROVIDER_CONFIG",
        {"type": "t", "name": "n"},
        500,
        "Missing required flag --resource_provider_config_dir",
    ),
    # Nothing to do is done.
    ("MARK_RESOURCE_PROVIDER_GONE", {"resource_provider_id": {"value": "p"}}, 200, ""),
    ("PRUNE_IMAGES", {}, 200, ""),
    ("PRUNE_IMAGES", {"excluded_images": [{"type": "DOCKER", "docker": {"name": "x"}}]}, 200, ""),
]

# -- §5: the older endpoints ----------------------------------------------------------------------

AMOUNT = {"cpus": NUM, "gpus": NUM, "mem": NUM, "disk": NUM, "*": object}
SLAVE = {
    "id": TEXT, "hostname": TEXT, "port": int, "attributes": {"*": object}, "domain?": object,
    "pid": TEXT, "registered_time": NUM, "reregistered_time?": NUM, "resources": AMOUNT,
    "used_resources": AMOUNT, "offered_resources": AMOUNT, "reserved_resources": {"*": AMOUNT},
    "unreserved_resources": AMOUNT, "active": bool, "deactivated": bool, "version": TEXT,
    "capabilities": [TEXT], "drain_info?": object, "estimated_drain_start_time_seconds?": NUM,
}  # fmt: skip
SUMMARY = {
    "id": TEXT, "name": TEXT, "pid?": TEXT, "used_resources": AMOUNT, "offered_resources": AMOUNT,
    "capabilities": [TEXT], "hostname": TEXT, "webui_url": TEXT, "active": bool, "connected": bool,
    "recovered": bool,
}  # fmt: skip
OLD_STATUS = {
    "state": TEXT, "timestamp": NUM, "labels?": object, "container_status?": object,
    "healthy?": bool,
}  # fmt: skip
OLD_TASK = {
    "id": TEXT, "name": TEXT, "framework_id": TEXT, "executor_id": TEXT, "slave_id": TEXT,
    "state": TEXT, "resources": AMOUNT, "limits?": object, "role": TEXT, "statuses": [OLD_STATUS],
    "user?": TEXT, "labels?": object, "discovery?": object, "container?": object,
    "health_check?": object,
}  # fmt: skip
OLD_FRAMEWORK = {
    **SUMMARY, "user": TEXT, "failover_timeout": NUM, "checkpoint": bool, "registered_time": NUM,
    "unregistered_time": NUM, "principal?": TEXT, "resources": AMOUNT, "reregistered_time?": NUM,
    "roles?": [TEXT], "role?": TEXT, "tasks": [OLD_TASK], "unreachable_tasks": [OLD_TASK],
    "completed_tasks": [OLD_TASK], "offers": [{
        "id": TEXT, "framework_id": TEXT, "allocation_info": {"role": TEXT}, "slave_id": TEXT,
        "resources": AMOUNT,
    }],
    "executors": [object], "labels?": object, "offer_constraints": {"*": object},
}  # fmt: skip
COUNTS = dict.fromkeys(
    ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_FINISHED",
     "TASK_KILLED", "TASK_FAILED", "TASK_LOST", "TASK_ERROR", "TASK_UNREACHABLE"), int,
)  # fmt: skip
VERSION = {
    "version": TEXT, "build_date": TEXT, "build_time": NUM, "build_user": TEXT, "git_sha?": TEXT,
    "git_branch?": TEXT, "git_tag?": TEXT,
}  # fmt: skip
BROWSED = [
    {"path": TEXT, "nlink": int, "size": int, "mtime": NUM, "mode": TEXT, "uid": TEXT, "gid": TEXT}
]
SYSTEM = {
    "avg_load_1min": NUM, "avg_load_5min": NUM, "avg_load_15min": NUM, "cpus_total": NUM,
    "mem_total_bytes": NUM, "mem_free_bytes": NUM,
}  # fmt: skip
MASTER_GETS: dict[str, Any] = {
    "/state": {
        **VERSION, "start_time": NUM, "elected_time?": NUM, "id": TEXT, "pid": TEXT,
        "hostname": TEXT, "capabilities": [TEXT], "activated_slaves": NUM,
        "deactivated_slaves": NUM, "unreachable_slaves": NUM, "domain?": object, "leader?": TEXT,
        "leader_info?": {"id": TEXT, "pid": TEXT, "port": int, "hostname": TEXT, "domain?": object},
        "cluster?": TEXT, "log_dir?": TEXT, "external_log_file?": TEXT, "flags": {"*": TEXT},
        "slaves": [SLAVE], "recovered_slaves": [object], "frameworks": [OLD_FRAMEWORK],
        "completed_frameworks": [OLD_FRAMEWORK], "orphan_tasks": [object],
        "unregistered_frameworks": [object],
    },
    "/state-summary": {
        "hostname": TEXT, "cluster?": TEXT,
        "slaves": [{**SLAVE, **COUNTS, "framework_ids": [TEXT]}],
        "frameworks": [{**SUMMARY, **COUNTS, "slave_ids": [TEXT]}],
    },
    "/slaves": {
        "slaves": [{
            **SLAVE, "reserved_resources_full": {"*": [object]},
            "unreserved_resources_full": [object], "used_resources_full": [object],
            "offered_resources_full": [object],
        }],
        "recovered_slaves": [object],
    },
    "/frameworks": {
        "frameworks": [OLD_FRAMEWORK], "completed_frameworks": [OLD_FRAMEWORK],
        "unregistered_frameworks": [object],
    },
    "/tasks": {"tasks": [OLD_TASK]},
    "/roles": {"roles": [{
        "name": TEXT, "weight": NUM,
        "quota": {"role": TEXT, "guarantee": {"*": NUM}, "limit": {"*": NUM},
                  "consumed": {"*": object}},
        "resources": AMOUNT, "allocated": {"*": NUM}, "offered": {"*": NUM},
        "reserved": {"*": NUM},
        "frameworks": [TEXT],
    }]},
    "/quota": {"infos": [object], "configs": [object]},
    "/weights": [{"role": TEXT, "weight": NUM}],
    "/maintenance/schedule": {"windows": [
        {"machine_ids": [MACHINE], "unavailability": {"start": TIME, "duration?": TIME}},
    ]},
    "/maintenance/status": {"draining_machines": [object], "down_machines?": [object]},
    "/flags": {"flags": {"*": TEXT}},
    "/version": VERSION,
    "/metrics/snapshot": {"*": NUM},
    "/system/stats.json": SYSTEM,
    "/files/debug": {"*": TEXT},
    "/registrar(1)/registry": {
        "master": {"info": MASTER_INFO}, "slaves": {"slaves": [{"info": AGENT_INFO}]},
        "schedules": [object], "weights": [{"info": {"weight": NUM, "role": TEXT}}],
        "quota_configs": [object],
    },
    "/allocator/offer_constraints_debug": {"frameworks": {"*": {
        "suppressed_roles": [TEXT], "excluded_by_attribute_constraints": {"*": [TEXT]},
    }}},
}  # fmt: skip
AGENT_GETS: dict[str, Any] = {
    "/state": {
        **VERSION, "start_time": NUM, "id": TEXT, "pid": TEXT, "hostname": TEXT,
        "capabilities": [TEXT], "domain?": object, "drain_config?": object,
        "estimated_drain_start_time_seconds?": NUM, "resources": AMOUNT,
        "reserved_resources": {"*": AMOUNT}, "unreserved_resources": AMOUNT,
        "reserved_resources_full": {"*": [object]}, "unreserved_resources_full": [object],
        "reserved_resources_allocated": {"*": AMOUNT}, "unreserved_resources_allocated": AMOUNT,
        "resource_providers?": [object], "attributes": {"*": object}, "master_hostname?": TEXT,
        "log_dir?": TEXT, "external_log_file?": TEXT, "flags": {"*": TEXT},
        "frameworks": [{
            "id": TEXT, "name": TEXT, "user": TEXT, "failover_timeout": NUM, "checkpoint": bool,
            "hostname": TEXT, "principal?": TEXT, "roles?": [TEXT], "role?": TEXT,
            "executors": [{
                "id": TEXT, "name": TEXT, "source": TEXT, "container": TEXT, "directory": TEXT,
                "resources": AMOUNT, "role?": TEXT, "labels?": object, "type?": TEXT,
                "tasks": [OLD_TASK], "queued_tasks": [object], "completed_tasks": [OLD_TASK],
            }],
            "completed_executors": [object],
        }],
        "completed_frameworks": [object],
    },
    "/containers?framework_id={F}": [{
        "framework_id": TEXT, "executor_id": TEXT, "executor_name": TEXT, "source": TEXT,
        "container_id": TEXT, "status": CONTAINER_STATUS, "statistics": STATISTICS,
    }],
    "/monitor/statistics": [{
        "executor_id": TEXT, "executor_name": TEXT, "framework_id": TEXT, "source": TEXT,
        "statistics": STATISTICS,
    }],
    "/containerizer/debug": {"pending": [object]},
    "/flags": {"flags": {"*": TEXT}},
    "/version": VERSION,
    "/metrics/snapshot": {"*": NUM},
    "/system/stats.json": SYSTEM,
    "/files/debug": {"*": TEXT},
    "/files/browse?path=/frameworks/{F}/executors/t/runs/latest": BROWSED,
    "/files/read?path=/frameworks/{F}/executors/t/runs/latest/stdout&offset=0":
        {"offset": int, "data": TEXT},
}  # fmt: skip
#: (path, method, body, status, beginning of the text): §5.1, §5.4, §15.2.
MASTER_OLD_REFUSALS: list[tuple[str, str, str, int, str]] = [
    ("/reserve", "POST", "", 400, "Missing 'slaveId' query parameter in the request body"),
    ("/unreserve", "POST", "slaveId=x", 400,
     "Missing 'resources' query parameter in the request body"),
    ("/create-volumes", "POST", "slaveId=x", 400,
     "Missing 'volumes' query parameter in the request body"),
    ("/destroy-volumes", "POST", "slaveId=x", 400,
     "Missing 'volumes' query parameter in the request body"),
    ("/teardown", "POST", "", 400, "Missing 'frameworkId' query parameter in the request body"),
    ("/teardown", "POST", "frameworkId=x", 400, "No framework found with specified ID"),
    ("/machine/down", "POST", "[]", 400, "List of machines is empty"),
    ("/machine/up", "POST", "[]", 400, "List of machines is empty"),
    ("/quota", "POST", "{", 400, "Failed to parse set quota request JSON '{': "),
    ("/quota", "POST", '{"role":"q"}', 400, "Failed to validate set quota request: "),
    ("/quota/none", "DELETE", "", 400, ""),
    ("/weights", "PUT", '[{"role":"r","weight":0}]', 400, NO_WEIGHT),
    ("/files/browse", "GET", "", 400, "Expecting 'path=value' in query."),
    ("/files/read", "GET", "", 400, "Expecting 'path=value' in query."),
    ("/files/download", "GET", "", 400, "Expecting 'path=value' in query."),
    ("/files/browse?path=/none", "GET", "", 404, ""),
    ("/redirect/x", "GET", "", 404, ""),
    ("/reserve", "GET", "", 405, "405 Method Not Allowed. Expecting one of { 'POST' }"),
    ("/weights", "POST", "", 405, "405 Method Not Allowed. Expecting one of { 'GET', 'PUT' }"),
    ("/state/../flags", "GET", "", 200, ""),
]  # fmt: skip


# -- checking -------------------------------------------------------------------------------------


def why_not(value: Any, shape: Any, where: str) -> str | None:
    """Where `value` is not of `shape`; None if it is."""
    if shape is object:
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list: {value!r}"
        found = (why_not(item, shape[0], f"{where}[{n}]") for n, item in enumerate(value))
        return next((why for why in found if why is not None), None)
    if isinstance(shape, dict):
        return _why_no_object(value, shape, where)
    if shape is NUM:
        is_of = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        is_of = type(value) is shape
    return None if is_of else f"{where} is no {shape.__name__}: {value!r}"


def _why_no_object(value: Any, shape: dict[str, Any], where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where} is no object: {value!r}"
    known = {name.rstrip("?"): item for name, item in shape.items()}
    for name in shape:
        if name != "*" and not name.endswith("?") and name not in value:
            return f"{where} has no '{name}'"
    for name, item in value.items():
        wanted = known.get(name, known.get("*"))
        if wanted is None:
            return f"{where} has '{name}', which is not expected"
        why = why_not(item, wanted, f"{where}.{name}")
        if why is not None:
            return why
    return None


# -- a cluster in which every list has something --------------------------------------------------


class Pair(NamedTuple):
    """Where a master and its agent are; `{F}` and `{S}` stand for the framework and its stream."""

    master: str
    agent: str
    framework: str
    stream: str

    def url(self, who: str) -> str:
        return self.master if who == "master" else self.agent


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A running task, a quota, a weight and a window of maintenance."""
    with Cluster(tmp_path_factory.mktemp("goldens"), marathons=0) as cluster:
        cluster.start()
        url = cluster.masters[0].url
        with Scheduler(url, role="web") as scheduler:
            task = {
                "name": "t",
                "task_id": {"value": "t"},
                "resources": scalars(cpus=0.1, mem=32),
                "command": {"value": "echo out; exec sleep 600"},
                "labels": {"labels": [{"key": "k", "value": "v"}]},
            }
            scheduler.launch(scheduler.offer(), task)
            scheduler.until_state("t", "TASK_RUNNING")
            machine = {"hostname": "elsewhere", "ip": "10.9.9.9"}
            window = {"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 5}}}
            for call, body in (
                ("UPDATE_WEIGHTS", {"weight_infos": [{"weight": 2.0, "role": "web"}]}),
                ("UPDATE_QUOTA", {"force": True, "quota_configs": [{
                    "role": "ops", "guarantees": {"cpus": {"value": 0.1}},
                    "limits": {"cpus": {"value": 1.0}}}]}),
                ("UPDATE_MAINTENANCE_SCHEDULE", {"schedule": {"windows": [window]}}),
            ):  # fmt: skip
                assert operate(url, call, body).status_code == 200
            framework = scheduler.framework_id["value"]
            yield Pair(url, cluster.agents[0].url, framework, scheduler.stream_id)


def operate(url: str, kind: str, body: Any = None) -> requests.Response:
    call = {"type": kind} if body is None else {"type": kind, kind.lower(): body}
    return requests.post(f"{url}/api/v1", json=call, timeout=60)


READS = [("master", kind) for kind in MASTER_READS] + [("agent", kind) for kind in AGENT_READS]


@pytest.mark.parametrize(("who", "kind"), READS)
def test_reading_calls_have_the_keys_and_types_of_the_original(
    pair: Pair, who: str, kind: str
) -> None:
    body, shape = (MASTER_READS if who == "master" else AGENT_READS)[kind]
    if body is not None and "path" in body:
        body = {**body, "path": body["path"].replace("{F}", pair.framework)}
    answer = operate(pair.url(who), kind, body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    said = answer.json()
    whole = {"type": TEXT, kind.lower(): shape}
    assert said["type"] == kind
    assert why_not(said, whole, kind) is None


GETS = [("master", path) for path in MASTER_GETS] + [("agent", path) for path in AGENT_GETS]


@pytest.mark.parametrize(("who", "path"), GETS)
def test_endpoints_have_the_keys_and_types_of_the_original(pair: Pair, who: str, path: str) -> None:
    shape = (MASTER_GETS if who == "master" else AGENT_GETS)[path]
    answer = requests.get(pair.url(who) + path.replace("{F}", pair.framework), timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    assert why_not(answer.json(), shape, path) is None
    if who == "master" and not path.startswith("/files"):
        mark = "&" if "?" in path else "?"
        wrapped = requests.get(f"{pair.url(who)}{path}{mark}jsonp=go", timeout=60)
        assert wrapped.headers["Content-Type"].startswith("text/javascript")
        assert wrapped.text.startswith("go(")
        assert wrapped.text.endswith(")")


def test_calls_without_their_message_name_it(pair: Pair) -> None:
    for who, names in (("master", MASTER_BODIES), ("agent", AGENT_BODIES)):
        for name in names:
            answer = operate(pair.url(who), name.upper())
            text = f"Failed to validate {who}::Call: Expecting '{name}' to be present"
            assert (answer.status_code, answer.text) == (400, text)
        answer = operate(pair.url(who), "UNKNOWN")
        assert (answer.status_code, answer.text) == (501, "501 Not Implemented.")
        answer = requests.post(f"{pair.url(who)}/api/v1", json={}, timeout=60)
        text = f"Failed to validate {who}::Call: Expecting 'type' to be present"
        assert (answer.status_code, answer.text) == (400, text)


REFUSALS = [("master", *row) for row in MASTER_REFUSALS]
REFUSALS += [("agent", *row) for row in AGENT_REFUSALS]


@pytest.mark.parametrize(("who", "kind", "body", "status", "text"), REFUSALS)
def test_calls_that_cannot_be_done_are_refused_with_the_originals_status_and_text(
    pair: Pair, who: str, kind: str, body: dict[str, Any], status: int, text: str
) -> None:
    answer = operate(pair.url(who), kind, body)
    assert answer.status_code == status, answer.text
    assert answer.text.startswith(text), answer.text


@pytest.mark.parametrize(("path", "method", "body", "status", "text"), MASTER_OLD_REFUSALS)
def test_older_endpoints_refuse_with_the_originals_status_and_text(
    pair: Pair, path: str, method: str, body: str, status: int, text: str
) -> None:
    answer = requests.request(method, pair.master + path, data=body, timeout=60)
    assert answer.status_code == status, answer.text
    assert answer.text.startswith(text), answer.text


def test_every_call_there_is_has_a_row() -> None:
    bodies = {name.upper() for name in MASTER_BODIES}
    assert {*MASTER_READS, *bodies, "SUBSCRIBE", "UNKNOWN"} == set(get_args(operator.CallType))
    bodies = {name.upper() for name in AGENT_BODIES}
    rows = {*AGENT_READS, *bodies, "ATTACH_CONTAINER_INPUT", "PRUNE_IMAGES", "UNKNOWN"}
    assert rows == set(get_args(agent_operator.CallType))


STATISTICS_OF_TIMERS = ("count", "max", "min", "p50", "p90", "p95", "p99", "p999", "p9999")
SYSTEM_KEYS = [
    f"system/{name}"
    for name in ("cpus_total", "load_1min", "load_5min", "load_15min", "mem_free_bytes",
                 "mem_total_bytes")
]  # fmt: skip
#: §15.1, and what integrations-core's Datadog checks and the Prometheus exporter read beside
#: `master/…` and `slave/…`, whose keys are in test_master_figures.
MASTER_METRICS = [
    *SYSTEM_KEYS,
    "registrar/queued_operations", "registrar/registry_size_bytes", "registrar/state_fetch_ms",
    "registrar/state_store_ms", "registrar/log/recovered", "registrar/log/ensemble_size",
    *(f"registrar/state_store_ms/{name}" for name in STATISTICS_OF_TIMERS),
    "allocator/event_queue_dispatches", "allocator/mesos/event_queue_dispatches",
    "allocator/mesos/allocation_runs", "allocator/mesos/allocation_run_ms",
    "allocator/mesos/allocation_run_latency_ms",
    *(f"allocator/mesos/allocation_run_ms/{name}" for name in STATISTICS_OF_TIMERS),
    *(f"allocator/mesos/allocation_run_latency_ms/{name}" for name in STATISTICS_OF_TIMERS),
    *(f"allocator/mesos/resources/{name}/{what}" for name in ("cpus", "mem", "disk")
      for what in ("total", "offered_or_allocated")),
    "allocator/mesos/roles/web/shares/dominant", "allocator/mesos/offer_filters/roles/web/active",
    "allocator/mesos/quota/roles/ops/resources/cpus/guarantee",
    "allocator/mesos/quota/roles/ops/resources/cpus/limit",
    "master/http_cache_hits", "master/elected", "master/uptime_secs",
]  # fmt: skip


def test_the_metrics_that_monitoring_reads_are_there(pair: Pair) -> None:
    shown = requests.get(f"{pair.master}/metrics/snapshot", timeout=60).json()
    assert [name for name in MASTER_METRICS if name not in shown] == []
    assert shown["registrar/registry_size_bytes"] > 0
    assert shown["registrar/log/recovered"] == 1
    assert shown["allocator/mesos/allocation_run_ms/count"] > 0
    shown = requests.get(f"{pair.agent}/metrics/snapshot", timeout=60).json()
    assert [name for name in SYSTEM_KEYS if name not in shown] == []


JSON, PROTOBUF = "application/json", "application/x-protobuf"
INFO = {"user": "u", "name": "n"}
#: (method, headers, body, status, beginning of the text): §2.1 by its rows 4 to 16, §15.2.
SCHEDULER_REFUSALS: list[tuple[str, dict[str, str], str, int, str]] = [
    ("GET", {}, "", 405,
     "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."),
    ("POST", {"Content-Type": "text/html"}, "{}", 415,
     "Expecting 'Content-Type' of application/json or application/x-protobuf"),
    ("POST", {"Content-Type": PROTOBUF}, "\x7f", 400, "Failed to parse body into Call protobuf"),
    ("POST", {"Content-Type": JSON}, "{", 400, "Failed to parse body into JSON: syntax error"),
    ("POST", {"Content-Type": JSON}, '{"type":7}', 400,
     "Failed to convert JSON into Call protobuf: "),
    ("POST", {"Content-Type": JSON}, "{}", 400,
     "Failed to validate scheduler::Call: Expecting 'type' to be present"),
    *(("POST", {"Content-Type": JSON}, json.dumps({"type": kind, "framework_id": {"value": "x"}}),
       400, f"Failed to validate scheduler::Call: Expecting '{kind.lower()}' to be present")
      for kind in ("ACCEPT", "DECLINE", "KILL", "SHUTDOWN", "ACKNOWLEDGE", "RECONCILE", "MESSAGE",
                   "REQUEST", "ACCEPT_INVERSE_OFFERS", "DECLINE_INVERSE_OFFERS",
                   "ACKNOWLEDGE_OPERATION_STATUS", "RECONCILE_OPERATIONS", "UPDATE_FRAMEWORK")),
    ("POST", {"Content-Type": JSON}, '{"type":"SUBSCRIBE"}', 400,
     "Failed to validate scheduler::Call: Expecting 'subscribe' to be present"),
    ("POST", {"Content-Type": JSON, "Accept": "text/html"},
     json.dumps({"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO}}), 406,
     "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"),
    ("POST", {"Content-Type": JSON, "Mesos-Stream-Id": "x"},
     json.dumps({"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO}}), 400,
     "Subscribe calls should not include the 'Mesos-Stream-Id' header"),
    ("POST", {"Content-Type": JSON}, '{"type":"REVIVE","framework_id":{"value":"none"}}', 400,
     "Framework cannot be found"),
    ("POST", {"Content-Type": JSON}, '{"type":"REVIVE","framework_id":{"value":"{F}"}}', 400,
     "All non-subscribe calls should include the 'Mesos-Stream-Id' header"),
    ("POST", {"Content-Type": JSON, "Mesos-Stream-Id": "x"},
     '{"type":"REVIVE","framework_id":{"value":"{F}"}}', 400,
     "The stream ID 'x' included in this request didn't match"),
    ("POST", {"Content-Type": JSON, "Mesos-Stream-Id": "{S}"},
     '{"type":"UNKNOWN","framework_id":{"value":"{F}"}}', 501, "501 Not Implemented."),
]  # fmt: skip


@pytest.mark.parametrize(("method", "headers", "body", "status", "text"), SCHEDULER_REFUSALS)
def test_the_scheduler_api_refuses_with_the_originals_status_and_text(
    pair: Pair, method: str, headers: dict[str, str], body: str, status: int, text: str
) -> None:
    answer = requests.request(
        method, f"{pair.master}/api/v1/scheduler",
        headers={name: text.replace("{S}", pair.stream) for name, text in headers.items()},
        data=body.replace("{F}", pair.framework), timeout=60,
    )  # fmt: skip
    assert answer.status_code == status, answer.text
    assert answer.text.startswith(text), answer.text
