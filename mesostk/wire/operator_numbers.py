"""Field and enum numbers of `mesos.v1.master`, `mesos.v1.agent` and what only these two use.

Written as those in `numbers`, which holds the rest and joins both. Source: spec/mesos.md §4 and
§6.4; the numbers of responses and events are those of the original's `include/mesos/v1/master` and
`include/mesos/v1/agent`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mesostk.wire import agent_operator, maintenance, mesos, operator, quota, statistics

FIELDS: Mapping[type[msgspec.Struct], str] = {
    # -- values that only operators see ---------------------------------------------------------
    mesos.MachineID: "hostname=1:string ip=2:string",
    mesos.Flag: "name=1:string value=2:string",
    mesos.Metric: "name=1:string value=2:double",
    mesos.VersionInfo: (
        "version=1:string build_date=2:string build_time=3:double build_user=4:string "
        "git_sha=5:string git_branch=6:string git_tag=7:string"
    ),
    mesos.FileInfo: (
        "path=1:string nlink=2:int32 size=3:uint64 mtime=4 mode=5:uint32 uid=6:string gid=7:string"
    ),
    mesos.AgentCapability: "type=1:AgentInfo.Capability.Type",
    mesos.DrainConfig: "max_grace_period=1 mark_gone=2:bool",
    mesos.DrainInfo: "state=1:DrainState config=2",
    maintenance.Window: "machine_ids=1 unavailability=2",
    maintenance.Schedule: "windows=1",
    maintenance.InverseOfferStatus: "status=1:InverseOfferStatus.Status framework_id=2 timestamp=3",
    maintenance.DrainingMachine: "id=1 statuses=2",
    maintenance.Status: "draining_machines=1 down_machines=2",
    quota.QuotaConfig: "role=1:string guarantees=2 limits=3",
    quota.QuotaRequest: "force=1:bool role=2:string guarantee=3",
    quota.QuotaInfo: "role=1:string principal=2:string guarantee=3",
    quota.QuotaStatus: "infos=1 configs=2",
    statistics.ResourceStatistics: (
        "timestamp=1:double processes=30:uint32 threads=31:uint32 cpus_user_time_secs=2:double "
        "cpus_system_time_secs=3:double cpus_limit=4:double cpus_soft_limit=45:double "
        "cpus_nr_periods=7:uint32 cpus_nr_throttled=8:uint32 cpus_throttled_time_secs=9:double "
        "mem_total_bytes=36:uint64 mem_total_memsw_bytes=37:uint64 "
        "mem_kmem_usage_bytes=52:uint64 mem_kmem_tcp_usage_bytes=53:uint64 "
        "mem_limit_bytes=6:uint64 mem_soft_limit_bytes=38:uint64 mem_file_bytes=10:uint64 "
        "mem_anon_bytes=11:uint64 mem_cache_bytes=39:uint64 mem_rss_bytes=5:uint64 "
        "mem_mapped_file_bytes=12:uint64 mem_swap_bytes=40:uint64 "
        "mem_unevictable_bytes=41:uint64 mem_low_pressure_counter=32:uint64 "
        "mem_medium_pressure_counter=33:uint64 mem_critical_pressure_counter=34:uint64 "
        "disk_limit_bytes=26:uint64 disk_used_bytes=27:uint64 net_rx_packets=14:uint64 "
        "net_rx_bytes=15:uint64 net_rx_errors=16:uint64 net_rx_dropped=17:uint64 "
        "net_tx_packets=18:uint64 net_tx_bytes=19:uint64 net_tx_errors=20:uint64 "
        "net_tx_dropped=21:uint64"
    ),
    # -- calls to a master ----------------------------------------------------------------------
    operator.GetMetrics: "timeout=1",
    operator.SetLoggingLevel: "level=1:uint32 duration=2",
    operator.ListFiles: "path=1:string",
    operator.ReadFile: "path=1:string offset=2:uint64 length=3:uint64",
    operator.WeightInfo: "weight=1:double role=2:string",
    operator.Weights: "weight_infos=1",
    operator.ReserveResources: "agent_id=1 resources=2 source=3",
    operator.UnreserveResources: "agent_id=1 resources=2",
    operator.Volumes: "agent_id=1 volumes=2",
    operator.GrowVolume: "agent_id=1 volume=2 addition=3",
    operator.ShrinkVolume: "agent_id=1 volume=2 subtract=3",
    operator.Schedule: "schedule=1",
    operator.Machines: "machines=1",
    operator.ProtoDuration: "seconds=1:int64 nanos=2:int32",
    operator.DrainAgent: "agent_id=1 max_grace_period=2 mark_gone=3:bool",
    operator.AgentRef: "agent_id=1",
    operator.UpdateQuota: "force=1:bool quota_configs=2",
    operator.SetQuota: "quota_request=1",
    operator.RemoveQuota: "role=1:string",
    operator.Teardown: "framework_id=1",
    operator.Call: (
        "type=1:master.Call.Type get_metrics=2 set_logging_level=3 list_files=4 read_file=5 "
        "update_weights=6 reserve_resources=7 unreserve_resources=8 create_volumes=9 "
        "destroy_volumes=10 update_maintenance_schedule=11 start_maintenance=12 "
        "stop_maintenance=13 set_quota=14 remove_quota=15 teardown=16 mark_agent_gone=17 "
        "grow_volume=18 shrink_volume=19 update_quota=20 drain_agent=21 deactivate_agent=22 "
        "reactivate_agent=23"
    ),
    # -- answers of a master --------------------------------------------------------------------
    operator.Health: "healthy=1:bool",
    operator.Flags: "flags=1",
    operator.Version: "version_info=1",
    operator.Metrics: "metrics=1",
    operator.LoggingLevel: "level=1:uint32",
    operator.Files: "file_infos=1",
    operator.FilePart: "size=1:uint64 data=2:bytes",
    operator.Operations: "operations=1",
    operator.Agent: (
        "agent_info=1 active=2:bool version=3:string pid=4:string registered_time=5 "
        "reregistered_time=6 total_resources=7 allocated_resources=8 offered_resources=9 "
        "capabilities=10 deactivated=12:bool drain_info=13 estimated_drain_start_time=14"
    ),
    operator.Agents: "agents=1 recovered_agents=2",
    operator.Framework: (
        "framework_info=1 active=2:bool connected=3:bool registered_time=4 reregistered_time=5 "
        "unregistered_time=6 offers=7 inverse_offers=8 allocated_resources=9 "
        "offered_resources=10 recovered=11:bool offer_constraints=12"
    ),
    operator.Frameworks: "frameworks=1 completed_frameworks=2",
    operator.Executor: "executor_info=1 agent_id=2",
    operator.Executors: "executors=1",
    operator.Tasks: (
        "pending_tasks=1 tasks=2 completed_tasks=3 orphan_tasks=4 unreachable_tasks=5"
    ),
    operator.State: "get_tasks=1 get_executors=2 get_frameworks=3 get_agents=4",
    operator.Role: "name=1:string weight=2:double frameworks=3 resources=4",
    operator.Roles: "roles=1",
    operator.Master: "master_info=1 start_time=2:double elected_time=3:double",
    operator.GetMaintenanceStatus: "status=1",
    operator.GetQuota: "status=1",
    operator.Response: (
        "type=1:master.Response.Type get_health=2 get_flags=3 get_version=4 get_metrics=5 "
        "get_logging_level=6 list_files=7 read_file=8 get_state=9 get_agents=10 "
        "get_frameworks=11 get_executors=12 get_tasks=13 get_roles=14 get_weights=15 "
        "get_master=16 get_maintenance_status=17 get_maintenance_schedule=18 get_quota=19 "
        "get_operations=20"
    ),
    # -- events of a master ---------------------------------------------------------------------
    operator.Subscribed: "get_state=1 heartbeat_interval_seconds=2:double",
    operator.TaskAdded: "task=1",
    operator.TaskUpdated: "framework_id=1 status=2 state=3:TaskState",
    operator.AgentAdded: "agent=1",
    operator.FrameworkEvent: "framework=1",
    operator.FrameworkRemoved: "framework_info=1",
    operator.Event: (
        "type=1:master.Event.Type subscribed=2 task_added=3 task_updated=4 agent_added=5 "
        "agent_removed=6 framework_added=7 framework_updated=8 framework_removed=9"
    ),
    # -- calls to an agent ----------------------------------------------------------------------
    agent_operator.GetContainers: "show_nested=1:bool show_standalone=2:bool",
    agent_operator.LaunchNested: "container_id=1 command=2 container=3",
    agent_operator.ContainerRef: "container_id=1",
    agent_operator.KillContainer: "container_id=1 signal=2:int32",
    agent_operator.LaunchContainer: "container_id=1 command=2 resources=3 container=4 limits=5",
    agent_operator.AttachInput: "type=1:AttachContainerInput.Type container_id=2 process_io=3",
    agent_operator.PruneImages: "excluded_images=1",
    agent_operator.ResourceProviderInfo: "id=1 type=3:string name=4:string",
    agent_operator.ResourceProviderConfig: "info=1",
    agent_operator.RemoveResourceProviderConfig: "type=1:string name=2:string",
    agent_operator.MarkResourceProviderGone: "resource_provider_id=1",
    agent_operator.Call: (
        "type=1:agent.Call.Type get_metrics=2 set_logging_level=3 list_files=4 read_file=5 "
        "launch_nested_container=6 wait_nested_container=7 kill_nested_container=8 "
        "launch_nested_container_session=9 attach_container_input=10 "
        "attach_container_output=11 remove_nested_container=12 launch_container=13 "
        "wait_container=14 kill_container=15 remove_container=16 get_containers=20 "
        "add_resource_provider_config=17 update_resource_provider_config=18 "
        "remove_resource_provider_config=19 prune_images=21 mark_resource_provider_gone=22"
    ),
    agent_operator.ProcessIO: "type=1:ProcessIO.Type data=2 control=3",
    agent_operator.ProcessData: "type=1:ProcessIO.Data.Type data=2:bytes",
    agent_operator.ProcessControl: "type=1:ProcessIO.Control.Type tty_info=2 heartbeat=3",
    agent_operator.StreamHeartbeat: "interval=1",
    # -- answers of an agent --------------------------------------------------------------------
    agent_operator.Container: (
        "framework_id=1 executor_id=2 executor_name=3:string container_id=4 container_status=5 "
        "resource_statistics=6"
    ),
    agent_operator.Containers: "containers=1",
    agent_operator.Framework: "framework_info=1",
    agent_operator.Frameworks: "frameworks=1 completed_frameworks=2",
    agent_operator.Executor: "executor_info=1",
    agent_operator.Executors: "executors=1 completed_executors=2",
    agent_operator.Tasks: (
        "pending_tasks=1 queued_tasks=2 launched_tasks=3 terminated_tasks=4 completed_tasks=5"
    ),
    agent_operator.State: "get_tasks=1 get_executors=2 get_frameworks=3",
    agent_operator.Agent: "agent_info=1 drain_config=2 estimated_drain_start_time=3",
    agent_operator.ResourceProviders: "",
    agent_operator.Termination: (
        "exit_status=1:int32 state=2:TaskState reason=3:TaskStatus.Reason limitation=4 "
        "message=5:string"
    ),
    agent_operator.Response: (
        "type=1:agent.Response.Type get_health=2 get_flags=3 get_version=4 get_metrics=5 "
        "get_logging_level=6 list_files=7 read_file=8 get_state=9 get_containers=10 "
        "get_frameworks=11 get_executors=12 get_tasks=13 wait_nested_container=14 get_agent=15 "
        "wait_container=16 get_resource_providers=17 get_operations=18"
    ),
}

ENUMS: Mapping[str, str] = {
    "AgentInfo.Capability.Type": (
        "UNKNOWN=0 MULTI_ROLE=1 HIERARCHICAL_ROLE=2 RESERVATION_REFINEMENT=3 "
        "RESOURCE_PROVIDER=4 RESIZE_VOLUME=5 AGENT_OPERATION_FEEDBACK=6 AGENT_DRAINING=7 "
        "TASK_RESOURCE_LIMITS=8"
    ),
    "DrainState": "UNKNOWN=0 DRAINING=1 DRAINED=2",
    "InverseOfferStatus.Status": "UNKNOWN=0 ACCEPT=1 DECLINE=2",
    "master.Call.Type": (
        "UNKNOWN=0 GET_HEALTH=1 GET_FLAGS=2 GET_VERSION=3 GET_METRICS=4 GET_LOGGING_LEVEL=5 "
        "SET_LOGGING_LEVEL=6 LIST_FILES=7 READ_FILE=8 GET_STATE=9 GET_AGENTS=10 "
        "GET_FRAMEWORKS=11 GET_EXECUTORS=12 GET_TASKS=13 GET_ROLES=14 GET_WEIGHTS=15 "
        "UPDATE_WEIGHTS=16 GET_MASTER=17 SUBSCRIBE=18 RESERVE_RESOURCES=19 "
        "UNRESERVE_RESOURCES=20 CREATE_VOLUMES=21 DESTROY_VOLUMES=22 GET_MAINTENANCE_STATUS=23 "
        "GET_MAINTENANCE_SCHEDULE=24 UPDATE_MAINTENANCE_SCHEDULE=25 START_MAINTENANCE=26 "
        "STOP_MAINTENANCE=27 GET_QUOTA=28 SET_QUOTA=29 REMOVE_QUOTA=30 TEARDOWN=31 "
        "MARK_AGENT_GONE=32 GET_OPERATIONS=33 GROW_VOLUME=34 SHRINK_VOLUME=35 UPDATE_QUOTA=36 "
        "DRAIN_AGENT=37 DEACTIVATE_AGENT=38 REACTIVATE_AGENT=39"
    ),
    "master.Response.Type": (
        "UNKNOWN=0 GET_HEALTH=1 GET_FLAGS=2 GET_VERSION=3 GET_METRICS=4 GET_LOGGING_LEVEL=5 "
        "LIST_FILES=6 READ_FILE=7 GET_STATE=8 GET_AGENTS=9 GET_FRAMEWORKS=10 GET_EXECUTORS=11 "
        "GET_TASKS=12 GET_ROLES=13 GET_WEIGHTS=14 GET_MASTER=15 GET_MAINTENANCE_STATUS=16 "
        "GET_MAINTENANCE_SCHEDULE=17 GET_QUOTA=18 GET_OPERATIONS=19"
    ),
    "master.Event.Type": (
        "UNKNOWN=0 SUBSCRIBED=1 TASK_ADDED=2 TASK_UPDATED=3 AGENT_ADDED=4 AGENT_REMOVED=5 "
        "FRAMEWORK_ADDED=6 FRAMEWORK_UPDATED=7 FRAMEWORK_REMOVED=8 HEARTBEAT=9"
    ),
    "agent.Call.Type": (
        "UNKNOWN=0 GET_HEALTH=1 GET_FLAGS=2 GET_VERSION=3 GET_METRICS=4 GET_LOGGING_LEVEL=5 "
        "SET_LOGGING_LEVEL=6 LIST_FILES=7 READ_FILE=8 GET_STATE=9 GET_CONTAINERS=10 "
        "GET_FRAMEWORKS=11 GET_EXECUTORS=12 GET_TASKS=13 LAUNCH_NESTED_CONTAINER=14 "
        "WAIT_NESTED_CONTAINER=15 KILL_NESTED_CONTAINER=16 LAUNCH_NESTED_CONTAINER_SESSION=17 "
        "ATTACH_CONTAINER_INPUT=18 ATTACH_CONTAINER_OUTPUT=19 GET_AGENT=20 "
        "REMOVE_NESTED_CONTAINER=21 LAUNCH_CONTAINER=22 WAIT_CONTAINER=23 KILL_CONTAINER=24 "
        "REMOVE_CONTAINER=25 GET_RESOURCE_PROVIDERS=26 ADD_RESOURCE_PROVIDER_CONFIG=27 "
        "UPDATE_RESOURCE_PROVIDER_CONFIG=28 REMOVE_RESOURCE_PROVIDER_CONFIG=29 PRUNE_IMAGES=30 "
        "GET_OPERATIONS=31 MARK_RESOURCE_PROVIDER_GONE=32"
    ),
    "agent.Response.Type": (
        "UNKNOWN=0 GET_HEALTH=1 GET_FLAGS=2 GET_VERSION=3 GET_METRICS=4 GET_LOGGING_LEVEL=5 "
        "LIST_FILES=6 READ_FILE=7 GET_STATE=8 GET_CONTAINERS=9 GET_FRAMEWORKS=10 "
        "GET_EXECUTORS=11 GET_TASKS=12 WAIT_NESTED_CONTAINER=13 GET_AGENT=14 WAIT_CONTAINER=15 "
        "GET_RESOURCE_PROVIDERS=16 GET_OPERATIONS=17"
    ),
    "AttachContainerInput.Type": "UNKNOWN=0 CONTAINER_ID=1 PROCESS_IO=2",
    "ProcessIO.Type": "UNKNOWN=0 DATA=1 CONTROL=2",
    "ProcessIO.Data.Type": "UNKNOWN=0 STDIN=1 STDOUT=2 STDERR=3",
    "ProcessIO.Control.Type": "UNKNOWN=0 TTY_INFO=1 HEARTBEAT=2",
}
