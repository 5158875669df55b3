"""Field and enum numbers of `mesos.v1` and its scheduler, executor and operator APIs.

One line of text per message: `name=number` for an embedded message, `name=number:kind` for a
scalar of that protobuf type or an enum of that name in `ENUMS`. The struct says what is repeated,
a map, or required. Those of the operator API are in `operator_numbers`. Source: spec of the
original, `include/mesos/v1/*.proto`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mesostk.wire import executor, mesos, operator_numbers, scheduler

FIELDS: Mapping[type[msgspec.Struct], str] = {
    **operator_numbers.FIELDS,
    mesos.TaskInfo: (
        "name=1:string task_id=2 agent_id=3 resources=4 executor=5 data=6:bytes command=7 "
        "health_check=8 container=9 labels=10 discovery=11 kill_policy=12 check=13 "
        "max_completion_time=14 limits=15"
    ),
    mesos.TaskID: "value=1:string",
    mesos.AgentID: "value=1:string",
    mesos.Resource: (
        "name=1:string type=2:Value.Type scalar=3 ranges=4 set=5 role=6:string disk=7 "
        "reservation=8 revocable=9 shared=10 allocation_info=11 provider_id=12 "
        "reservations=13"
    ),
    mesos.ResourceProviderID: "value=1:string",
    mesos.Scalar: "value=1:double",
    mesos.Ranges: "range=1",
    mesos.Range: "begin=1:uint64 end=2:uint64",
    mesos.Set: "item=1:string",
    mesos.AllocationInfo: "role=1:string",
    mesos.ReservationInfo: (
        "principal=1:string labels=2 role=3:string type=4:Resource.ReservationInfo.Type"
    ),
    mesos.Labels: "labels=1",
    mesos.Label: "key=1:string value=2:string",
    mesos.DiskInfo: "persistence=1 volume=2 source=3",
    mesos.Persistence: "id=1:string principal=2:string",
    mesos.Volume: (
        "container_path=1:string host_path=2:string mode=3:Volume.Mode image=4 source=5"
    ),
    mesos.Image: "type=1:Image.Type appc=2 docker=3 cached=4:bool",
    mesos.ImageAppc: "name=1:string id=2:string labels=3",
    mesos.ImageDocker: "name=1:string credential=2 config=3",
    mesos.Credential: "principal=1:string secret=2:string",
    mesos.Secret: "type=1:Secret.Type reference=2 value=3",
    mesos.SecretReference: "name=1:string key=2:string",
    mesos.SecretValue: "data=1:bytes",
    mesos.VolumeSource: (
        "type=1:Volume.Source.Type docker_volume=2 sandbox_path=3 secret=4 host_path=5"
    ),
    mesos.DockerVolume: "driver=1:string name=2:string driver_options=3",
    mesos.Parameters: "parameter=1",
    mesos.Parameter: "key=1:string value=2:string",
    mesos.HostPathSource: "path=1:string mount_propagation=2",
    mesos.MountPropagation: "mode=1:MountPropagation.Mode",
    mesos.SandboxPath: "type=1:Volume.Source.SandboxPath.Type path=2:string",
    mesos.DiskSource: (
        "type=1:Resource.DiskInfo.Source.Type path=2 mount=3 id=4:string metadata=5 "
        "profile=6:string vendor=7:string"
    ),
    mesos.DiskSourceRoot: "root=1:string",
    mesos.RevocableInfo: "",
    mesos.SharedInfo: "",
    mesos.ExecutorInfo: (
        "executor_id=1 data=4:bytes resources=5 command=7 framework_id=8 name=9:string "
        "source=10:string container=11 discovery=12 shutdown_grace_period=13 labels=14 "
        "type=15:ExecutorInfo.Type"
    ),
    mesos.ExecutorID: "value=1:string",
    mesos.FrameworkID: "value=1:string",
    mesos.CommandInfo: (
        "uris=1 environment=2 value=3:string user=5:string shell=6:bool arguments=7:string"
    ),
    mesos.CommandURI: (
        "value=1:string executable=2:bool extract=3:bool cache=4:bool output_file=5:string"
    ),
    mesos.Environment: "variables=1",
    mesos.Variable: "name=1:string value=2:string type=3:Environment.Variable.Type secret=4",
    mesos.ContainerInfo: (
        "type=1:ContainerInfo.Type volumes=2 docker=3 hostname=4:string mesos=5 "
        "network_infos=7 linux_info=8 rlimit_info=9 tty_info=10"
    ),
    mesos.DockerInfo: (
        "image=1:string network=2:ContainerInfo.DockerInfo.Network port_mappings=3 "
        "privileged=4:bool parameters=5 force_pull_image=6:bool volume_driver=7:string"
    ),
    mesos.PortMapping: "host_port=1:uint32 container_port=2:uint32 protocol=3:string",
    mesos.MesosInfo: "image=1",
    mesos.NetworkInfo: "groups=3:string labels=4 ip_addresses=5 name=6:string port_mappings=7",
    mesos.IPAddress: "protocol=1:NetworkInfo.Protocol ip_address=2:string",
    mesos.LinuxInfo: (
        "capability_info=1 bounding_capabilities=2 effective_capabilities=3 "
        "share_pid_namespace=4:bool seccomp=5 ipc_mode=6:LinuxInfo.IpcMode shm_size=7:uint32 "
        "share_cgroups=8:bool"
    ),
    mesos.CapabilityInfo: "capabilities=1:CapabilityInfo.Capability",
    mesos.SeccompInfo: "profile_name=1:string unconfined=2:bool",
    mesos.RLimitInfo: "rlimits=1",
    mesos.RLimit: "type=1:RLimitInfo.RLimit.Type hard=2:uint64 soft=3:uint64",
    mesos.TTYInfo: "window_size=1",
    mesos.WindowSize: "rows=1:uint32 columns=2:uint32",
    mesos.DiscoveryInfo: (
        "visibility=1:DiscoveryInfo.Visibility name=2:string environment=3:string "
        "location=4:string version=5:string ports=6 labels=7"
    ),
    mesos.Ports: "ports=1",
    mesos.Port: (
        "number=1:uint32 name=2:string protocol=3:string "
        "visibility=4:DiscoveryInfo.Visibility labels=5"
    ),
    mesos.DurationInfo: "nanoseconds=1:int64",
    mesos.HealthCheck: (
        "http=1 delay_seconds=2:double interval_seconds=3:double timeout_seconds=4:double "
        "consecutive_failures=5:uint32 grace_period_seconds=6:double command=7 "
        "type=8:HealthCheck.Type tcp=9"
    ),
    mesos.HTTPCheckInfo: (
        "port=1:uint32 path=2:string scheme=3:string statuses=4:uint32 "
        "protocol=5:NetworkInfo.Protocol"
    ),
    mesos.TCPCheckInfo: "port=1:uint32 protocol=2:NetworkInfo.Protocol",
    mesos.CheckInfo: (
        "type=1:CheckInfo.Type command=2 http=3 delay_seconds=4:double "
        "interval_seconds=5:double timeout_seconds=6:double tcp=7"
    ),
    mesos.CheckCommand: "command=1",
    mesos.CheckHttp: "port=1:uint32 path=2:string",
    mesos.CheckTcp: "port=1:uint32",
    mesos.KillPolicy: "grace_period=1",
    mesos.Offer: (
        "id=1 framework_id=2 agent_id=3 hostname=4:string resources=5 executor_ids=6 "
        "attributes=7 url=8 unavailability=9 allocation_info=10 domain=11"
    ),
    mesos.OfferID: "value=1:string",
    mesos.URL: "scheme=1:string address=2 path=3:string query=4 fragment=5:string",
    mesos.Address: "hostname=1:string ip=2:string port=3:int32",
    mesos.DomainInfo: "fault_domain=1",
    mesos.FaultDomain: "region=1 zone=2",
    mesos.RegionInfo: "name=1:string",
    mesos.ZoneInfo: "name=1:string",
    mesos.Attribute: "name=1:string type=2:Value.Type scalar=3 ranges=4 text=5 set=6",
    mesos.Text: "value=1:string",
    mesos.Unavailability: "start=1 duration=2",
    mesos.TimeInfo: "nanoseconds=1:int64",
    mesos.InverseOffer: "id=1 url=2 framework_id=3 agent_id=4 unavailability=5 resources=6",
    mesos.OfferOperation: (
        "type=1:Offer.Operation.Type launch=2 reserve=3 unreserve=4 create=5 destroy=6 "
        "launch_group=7 id=12 grow_volume=13 shrink_volume=14 create_disk=15 destroy_disk=16"
    ),
    mesos.OperationID: "value=1:string",
    mesos.Launch: "task_infos=1",
    mesos.LaunchGroup: "executor=1 task_group=2",
    mesos.TaskGroupInfo: "tasks=1",
    mesos.Reserve: "resources=1 source=2",
    mesos.Unreserve: "resources=1",
    mesos.Create: "volumes=1",
    mesos.Destroy: "volumes=1",
    mesos.GrowVolume: "volume=1 addition=2",
    mesos.ShrinkVolume: "volume=1 subtract=2",
    mesos.CreateDisk: (
        "source=1 target_type=2:Resource.DiskInfo.Source.Type target_profile=3:string"
    ),
    mesos.DestroyDisk: "source=1",
    mesos.FrameworkInfo: (
        "user=1:string name=2:string id=3 failover_timeout=4:double checkpoint=5:bool "
        "role=6:string hostname=7:string principal=8:string webui_url=9:string "
        "capabilities=10 labels=11 roles=12:string offer_filters=13"
    ),
    mesos.FrameworkCapability: "type=1:FrameworkInfo.Capability.Type",
    mesos.OfferFilters: "min_allocatable_resources=1",
    mesos.MinAllocatableResources: "quantities=1",
    mesos.ResourceQuantities: "quantities=1",
    mesos.TaskStatus: (
        "task_id=1 state=2:TaskState data=3:bytes message=4:string agent_id=5 "
        "timestamp=6:double executor_id=7 healthy=8:bool source=9:TaskStatus.Source "
        "reason=10:TaskStatus.Reason uuid=11:bytes labels=12 container_status=13 "
        "unreachable_time=14 check_status=15 limitation=16"
    ),
    mesos.CheckStatusInfo: "type=1:CheckInfo.Type command=2 http=3 tcp=4",
    mesos.CheckStatusCommand: "exit_code=1:int32",
    mesos.CheckStatusHttp: "status_code=1:uint32",
    mesos.CheckStatusTcp: "succeeded=1:bool",
    mesos.ContainerStatus: ("network_infos=1 cgroup_info=2 executor_pid=3:uint32 container_id=4"),
    mesos.ContainerID: "value=1:string parent=2",
    mesos.CgroupInfo: "net_cls=1",
    mesos.NetCls: "classid=1:uint32",
    mesos.TaskResourceLimitation: "resources=1",
    mesos.MasterInfo: (
        "id=1:string ip=2:uint32 port=3:uint32 pid=4:string hostname=5:string "
        "version=6:string address=7 domain=8 capabilities=9"
    ),
    mesos.MasterCapability: "type=1:MasterInfo.Capability.Type",
    mesos.Filters: "refuse_seconds=1:double",
    mesos.Request: "agent_id=1 resources=2",
    mesos.AgentInfo: "hostname=1:string resources=3 attributes=5 id=6 port=8:int32 domain=10",
    mesos.Task: (
        "name=1:string task_id=2 framework_id=3 executor_id=4 agent_id=5 state=6:TaskState "
        "resources=7 statuses=8 status_update_state=9:TaskState status_update_uuid=10:bytes "
        "labels=11 discovery=12 container=13 user=14:string health_check=15 kill_policy=16 "
        "limits=17"
    ),
    mesos.OperationStatus: (
        "operation_id=1 state=2:OperationState message=3:string converted_resources=4 uuid=5 "
        "agent_id=6 resource_provider_id=7"
    ),
    mesos.UUID: "value=1:bytes",
    mesos.Operation: "framework_id=1 agent_id=2 info=3 latest_status=4 statuses=5 uuid=6",
    scheduler.TextValue: "value=1:string",
    scheduler.TextRegex: "regex=1:string",
    scheduler.Empty: "",
    scheduler.Predicate: (
        "exists=1 not_exists=2 text_equals=3 text_not_equals=4 text_matches=5 text_not_matches=6"
    ),
    scheduler.Selector: (
        "pseudoattribute_type=1:AttributeConstraint.Selector.PseudoattributeType "
        "attribute_name=2:string"
    ),
    scheduler.AttributeConstraint: "selector=1 predicate=2",
    scheduler.ConstraintGroup: "attribute_constraints=1",
    scheduler.RoleConstraints: "groups=1",
    scheduler.OfferConstraints: "role_constraints=1",
    scheduler.Subscribe: "framework_info=1 suppressed_roles=2:string offer_constraints=3",
    scheduler.Accept: "offer_ids=1 operations=2 filters=3",
    scheduler.Decline: "offer_ids=1 filters=2",
    scheduler.InverseOfferAnswer: "inverse_offer_ids=1 filters=2",
    scheduler.Roles: "roles=1:string",
    scheduler.Kill: "task_id=1 agent_id=2 kill_policy=3",
    scheduler.Shutdown: "executor_id=1 agent_id=2",
    scheduler.Acknowledge: "agent_id=1 task_id=2 uuid=3:bytes",
    scheduler.AcknowledgeOperationStatus: (
        "agent_id=1 resource_provider_id=2 uuid=3:bytes operation_id=4"
    ),
    scheduler.ReconcileTask: "task_id=1 agent_id=2",
    scheduler.Reconcile: "tasks=1",
    scheduler.ReconcileOperation: "operation_id=1 agent_id=2 resource_provider_id=3",
    scheduler.ReconcileOperations: "operations=1",
    scheduler.SchedulerMessage: "agent_id=1 executor_id=2 data=3:bytes",
    scheduler.RequestResources: "requests=1",
    scheduler.UpdateFramework: ("framework_info=1 suppressed_roles=2:string offer_constraints=3"),
    scheduler.Call: (
        "framework_id=1 type=2:scheduler.Call.Type subscribe=3 accept=4 decline=5 kill=6 "
        "shutdown=7 acknowledge=8 reconcile=9 message=10 request=11 accept_inverse_offers=13 "
        "decline_inverse_offers=14 revive=15 suppress=16 acknowledge_operation_status=17 "
        "reconcile_operations=18 update_framework=19"
    ),
    scheduler.Subscribed: "framework_id=1 heartbeat_interval_seconds=2:double master_info=3",
    scheduler.Offers: "offers=1",
    scheduler.InverseOffers: "inverse_offers=1",
    scheduler.Rescind: "offer_id=1",
    scheduler.RescindInverseOffer: "inverse_offer_id=1",
    scheduler.Update: "status=1",
    scheduler.UpdateOperationStatus: "status=1",
    scheduler.ExecutorMessage: "agent_id=1 executor_id=2 data=3:bytes",
    scheduler.Failure: "agent_id=1 executor_id=2 status=3:int32",
    scheduler.Error: "message=1:string",
    scheduler.Event: (
        "type=1:scheduler.Event.Type subscribed=2 offers=3 rescind=4 update=5 message=6 "
        "failure=7 error=8 inverse_offers=9 rescind_inverse_offer=10 "
        "update_operation_status=11"
    ),
    executor.Update: "status=1",
    executor.Subscribe: "unacknowledged_tasks=1 unacknowledged_updates=2",
    executor.Call: (
        "executor_id=1 framework_id=2 type=3:executor.Call.Type subscribe=4 update=5 message=6"
    ),
    executor.Subscribed: "executor_info=1 framework_info=2 agent_info=3 container_id=4",
    executor.Launch: "task=1",
    executor.LaunchGroup: "task_group=1",
    executor.Kill: "task_id=1 kill_policy=2",
    executor.Acknowledged: "task_id=1 uuid=2:bytes",
    executor.Error: "message=1:string",
    executor.Event: (
        "type=1:executor.Event.Type subscribed=2 acknowledged=3 launch=4 kill=5 message=6 "
        "error=7 launch_group=8"
    ),
    executor.ToFramework: "data=2:bytes",
    executor.ToExecutor: "data=1:bytes",
}

ENUMS: Mapping[str, str] = {
    **operator_numbers.ENUMS,
    "Value.Type": "SCALAR=0 RANGES=1 SET=2 TEXT=3",
    "Resource.ReservationInfo.Type": "UNKNOWN=0 STATIC=1 DYNAMIC=2",
    "Volume.Mode": "RW=1 RO=2",
    "Image.Type": "APPC=1 DOCKER=2",
    "Secret.Type": "UNKNOWN=0 REFERENCE=1 VALUE=2",
    "Volume.Source.Type": (
        "UNKNOWN=0 DOCKER_VOLUME=1 SANDBOX_PATH=2 SECRET=3 HOST_PATH=4 CSI_VOLUME=5"
    ),
    "MountPropagation.Mode": "UNKNOWN=0 HOST_TO_CONTAINER=1 BIDIRECTIONAL=2",
    "Volume.Source.SandboxPath.Type": "UNKNOWN=0 SELF=1 PARENT=2",
    "Resource.DiskInfo.Source.Type": "UNKNOWN=0 PATH=1 MOUNT=2 BLOCK=3 RAW=4",
    "ExecutorInfo.Type": "UNKNOWN=0 DEFAULT=1 CUSTOM=2",
    "Environment.Variable.Type": "UNKNOWN=0 VALUE=1 SECRET=2",
    "ContainerInfo.Type": "DOCKER=1 MESOS=2",
    "ContainerInfo.DockerInfo.Network": "HOST=1 BRIDGE=2 NONE=3 USER=4",
    "NetworkInfo.Protocol": "IPv4=1 IPv6=2",
    "LinuxInfo.IpcMode": "UNKNOWN=0 PRIVATE=1 SHARE_PARENT=2",
    "RLimitInfo.RLimit.Type": (
        "UNKNOWN=0 RLMT_AS=1 RLMT_CORE=2 RLMT_CPU=3 RLMT_DATA=4 RLMT_FSIZE=5 RLMT_LOCKS=6 "
        "RLMT_MEMLOCK=7 RLMT_MSGQUEUE=8 RLMT_NICE=9 RLMT_NOFILE=10 RLMT_NPROC=11 RLMT_RSS=12 "
        "RLMT_RTPRIO=13 RLMT_RTTIME=14 RLMT_SIGPENDING=15 RLMT_STACK=16"
    ),
    "DiscoveryInfo.Visibility": "FRAMEWORK=0 CLUSTER=1 EXTERNAL=2",
    "HealthCheck.Type": "UNKNOWN=0 COMMAND=1 HTTP=2 TCP=3",
    "CheckInfo.Type": "UNKNOWN=0 COMMAND=1 HTTP=2 TCP=3",
    "Offer.Operation.Type": (
        "UNKNOWN=0 LAUNCH=1 RESERVE=2 UNRESERVE=3 CREATE=4 DESTROY=5 LAUNCH_GROUP=6 "
        "GROW_VOLUME=11 SHRINK_VOLUME=12 CREATE_DISK=13 DESTROY_DISK=14"
    ),
    "FrameworkInfo.Capability.Type": (
        "UNKNOWN=0 REVOCABLE_RESOURCES=1 TASK_KILLING_STATE=2 GPU_RESOURCES=3 "
        "SHARED_RESOURCES=4 PARTITION_AWARE=5 MULTI_ROLE=6 RESERVATION_REFINEMENT=7 "
        "REGION_AWARE=8"
    ),
    "TaskState": (
        "TASK_STARTING=0 TASK_RUNNING=1 TASK_FINISHED=2 TASK_FAILED=3 TASK_KILLED=4 "
        "TASK_LOST=5 TASK_STAGING=6 TASK_ERROR=7 TASK_KILLING=8 TASK_DROPPED=9 "
        "TASK_UNREACHABLE=10 TASK_GONE=11 TASK_GONE_BY_OPERATOR=12 TASK_UNKNOWN=16"
    ),
    "TaskStatus.Source": "SOURCE_MASTER=0 SOURCE_AGENT=1 SOURCE_EXECUTOR=2",
    "TaskStatus.Reason": (
        "REASON_COMMAND_EXECUTOR_FAILED=0 REASON_EXECUTOR_TERMINATED=1 "
        "REASON_EXECUTOR_UNREGISTERED=2 REASON_FRAMEWORK_REMOVED=3 REASON_GC_ERROR=4 "
        "REASON_INVALID_FRAMEWORKID=5 REASON_INVALID_OFFERS=6 REASON_MASTER_DISCONNECTED=7 "
        "REASON_CONTAINER_LIMITATION_MEMORY=8 REASON_RECONCILIATION=9 "
        "REASON_AGENT_DISCONNECTED=10 REASON_AGENT_REMOVED=11 REASON_AGENT_RESTARTED=12 "
        "REASON_AGENT_UNKNOWN=13 REASON_TASK_INVALID=14 REASON_TASK_UNAUTHORIZED=15 "
        "REASON_TASK_UNKNOWN=16 REASON_CONTAINER_PREEMPTED=17 REASON_RESOURCES_UNKNOWN=18 "
        "REASON_CONTAINER_LIMITATION=19 REASON_CONTAINER_LIMITATION_DISK=20 "
        "REASON_CONTAINER_LAUNCH_FAILED=21 REASON_CONTAINER_UPDATE_FAILED=22 "
        "REASON_EXECUTOR_REGISTRATION_TIMEOUT=23 REASON_EXECUTOR_REREGISTRATION_TIMEOUT=24 "
        "REASON_TASK_GROUP_INVALID=25 REASON_TASK_GROUP_UNAUTHORIZED=26 "
        "REASON_IO_SWITCHBOARD_EXITED=27 REASON_TASK_CHECK_STATUS_UPDATED=28 "
        "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED=29 REASON_TASK_KILLED_DURING_LAUNCH=30 "
        "REASON_AGENT_REMOVED_BY_OPERATOR=31 REASON_AGENT_REREGISTERED=32 "
        "REASON_MAX_COMPLETION_TIME_REACHED=33 REASON_AGENT_DRAINING=34"
    ),
    "MasterInfo.Capability.Type": "UNKNOWN=0 AGENT_UPDATE=1 AGENT_DRAINING=2 QUOTA_V2=3",
    "OperationState": (
        "OPERATION_UNSUPPORTED=0 OPERATION_PENDING=1 OPERATION_FINISHED=2 OPERATION_FAILED=3 "
        "OPERATION_ERROR=4 OPERATION_DROPPED=5 OPERATION_UNREACHABLE=6 "
        "OPERATION_GONE_BY_OPERATOR=7 OPERATION_RECOVERING=8 OPERATION_UNKNOWN=9"
    ),
    "CapabilityInfo.Capability": (
        "UNKNOWN=0 CHOWN=1000 DAC_OVERRIDE=1001 DAC_READ_SEARCH=1002 FOWNER=1003 FSETID=1004 "
        "KILL=1005 SETGID=1006 SETUID=1007 SETPCAP=1008 LINUX_IMMUTABLE=1009 "
        "NET_BIND_SERVICE=1010 NET_BROADCAST=1011 NET_ADMIN=1012 NET_RAW=1013 IPC_LOCK=1014 "
        "IPC_OWNER=1015 SYS_MODULE=1016 SYS_RAWIO=1017 SYS_CHROOT=1018 SYS_PTRACE=1019 "
        "SYS_PACCT=1020 SYS_ADMIN=1021 SYS_BOOT=1022 SYS_NICE=1023 SYS_RESOURCE=1024 "
        "SYS_TIME=1025 SYS_TTY_CONFIG=1026 MKNOD=1027 LEASE=1028 AUDIT_WRITE=1029 "
        "AUDIT_CONTROL=1030 SETFCAP=1031 MAC_OVERRIDE=1032 MAC_ADMIN=1033 SYSLOG=1034 "
        "WAKE_ALARM=1035 BLOCK_SUSPEND=1036 AUDIT_READ=1037"
    ),
    "AttributeConstraint.Selector.PseudoattributeType": "UNKNOWN=0 HOSTNAME=1 REGION=2 ZONE=3",
    "scheduler.Call.Type": (
        "UNKNOWN=0 SUBSCRIBE=1 TEARDOWN=2 ACCEPT=3 DECLINE=4 REVIVE=5 KILL=6 SHUTDOWN=7 "
        "ACKNOWLEDGE=8 RECONCILE=9 MESSAGE=10 REQUEST=11 SUPPRESS=12 ACCEPT_INVERSE_OFFERS=13 "
        "DECLINE_INVERSE_OFFERS=14 ACKNOWLEDGE_OPERATION_STATUS=15 RECONCILE_OPERATIONS=16 "
        "UPDATE_FRAMEWORK=17"
    ),
    "scheduler.Event.Type": (
        "UNKNOWN=0 SUBSCRIBED=1 OFFERS=2 RESCIND=3 UPDATE=4 MESSAGE=5 FAILURE=6 ERROR=7 "
        "HEARTBEAT=8 INVERSE_OFFERS=9 RESCIND_INVERSE_OFFER=10 UPDATE_OPERATION_STATUS=11"
    ),
    "executor.Call.Type": "UNKNOWN=0 SUBSCRIBE=1 UPDATE=2 MESSAGE=3 HEARTBEAT=4",
    "executor.Event.Type": (
        "UNKNOWN=0 SUBSCRIBED=1 LAUNCH=2 KILL=3 ACKNOWLEDGED=4 MESSAGE=5 ERROR=6 SHUTDOWN=7 "
        "LAUNCH_GROUP=8 HEARTBEAT=9"
    ),
}
