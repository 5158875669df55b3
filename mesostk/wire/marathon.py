"""Marathon's `/v2` records: apps, groups, deployments, tasks, queue, events, error bodies.

`AppDefinition` is the one model inside: always in the canonical spelling of 1.5 and later, every
default filled in. The spellings of 2016 (`ports`, `uris`, `ipAddress`, `container.docker.network`)
exist only at the edge, in `marathon.apps`, which reads both and shows both.

Sources: spec of Marathon 1.1 … 1.11, docs/app RAML. Times of day are `2016-06-20T12:00:00.000Z`.
A field that is None or empty is left out unless it is declared with `shown`, which writes `null`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesostk.wire.mesos import shown


class Json(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Base of the records: immutable, camelCase, unset fields left out."""


# -- parts of an app --------------------------------------------------------------------------

NetworkMode = Literal["host", "container", "container/bridge"]
Protocol = Literal["tcp", "udp", "udp,tcp"]
HealthProtocol = Literal[
    "HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"
]
KillSelection = Literal["YOUNGEST_FIRST", "OLDEST_FIRST"]
VolumeMode = Literal["RW", "RO"]
VolumeType = Literal["root", "path", "mount"]

#: Protocols that the leader probes itself; the agent runs the others.
LEADER_PROBED: frozenset[str] = frozenset({"HTTP", "HTTPS", "TCP"})


class Fetch(Json, frozen=True, kw_only=True):
    uri: str
    extract: bool = shown(True)
    executable: bool = shown(False)
    cache: bool = shown(False)
    dest_path: str | None = None


class PortDefinition(Json, frozen=True, kw_only=True):
    """`port` is the service port, and with `requirePorts` the host port too; 0 = assign one."""

    port: int = shown(0)
    protocol: Protocol = shown("tcp")
    name: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class PortMapping(Json, frozen=True, kw_only=True):
    """`host_port` None = not published, 0 = any; `container_port` 0 = the host port."""

    container_port: int = shown(0)
    host_port: int | None = None
    service_port: int = shown(0)
    protocol: Protocol = shown("tcp")
    name: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    network_names: tuple[str, ...] = ()


class Network(Json, frozen=True, kw_only=True):
    mode: NetworkMode = shown("container")
    name: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class DockerParameter(Json, frozen=True, kw_only=True):
    key: str
    value: str


class PullConfig(Json, frozen=True, kw_only=True):
    secret: str


class Docker(Json, frozen=True, kw_only=True):
    image: str
    privileged: bool = shown(False)
    force_pull_image: bool = shown(False)
    parameters: tuple[DockerParameter, ...] = shown(())
    pull_config: PullConfig | None = None


class PersistentVolume(Json, frozen=True, kw_only=True):
    """`size` and `max_size` in MiB."""

    type: VolumeType = shown("root")
    size: int
    max_size: int | None = None
    profile_name: str | None = None
    constraints: tuple[tuple[str, ...], ...] = ()


class ExternalVolume(Json, frozen=True, kw_only=True):
    """`size` in GiB; `options` as the provider wants them."""

    name: str
    provider: str
    size: int | None = None
    options: dict[str, object] = msgspec.field(default_factory=dict)
    shared: bool | None = None


class Volume(Json, frozen=True, kw_only=True):
    """Exactly one of host path, persistent, external and secret."""

    container_path: str
    mode: VolumeMode | None = None
    host_path: str | None = None
    persistent: PersistentVolume | None = None
    external: ExternalVolume | None = None
    secret: str | None = None


class Seccomp(Json, frozen=True, kw_only=True):
    profile_name: str | None = None
    unconfined: bool | None = None


class IpcInfo(Json, frozen=True, kw_only=True):
    mode: Literal["PRIVATE", "SHARE_PARENT"]
    shm_size: int | None = None


class LinuxInfo(Json, frozen=True, kw_only=True):
    seccomp: Seccomp | None = None
    ipc_info: IpcInfo | None = None


class Container(Json, frozen=True, kw_only=True):
    """`port_mappings` is empty in host mode."""

    type: Literal["DOCKER", "MESOS"] = shown("DOCKER")
    docker: Docker | None = None
    volumes: tuple[Volume, ...] = shown(())
    port_mappings: tuple[PortMapping, ...] = ()
    linux_info: LinuxInfo | None = None


class Command(Json, frozen=True, kw_only=True):
    value: str


class HealthCheck(Json, frozen=True, kw_only=True):
    """Times in seconds."""

    path: str | None = None
    protocol: HealthProtocol = shown("HTTP")
    port_index: int | None = None
    port: int | None = None
    command: Command | None = None
    grace_period_seconds: int = shown(300)
    interval_seconds: int = shown(60)
    timeout_seconds: int = shown(20)
    max_consecutive_failures: int = shown(3)
    delay_seconds: int = shown(15)
    ignore_http1xx: bool = msgspec.field(name="ignoreHttp1xx", default_factory=lambda: False)
    ip_protocol: Literal["IPv4", "IPv6"] = "IPv4"


class CheckHttp(Json, frozen=True, kw_only=True):
    port_index: int | None = None
    port: int | None = None
    path: str | None = None
    scheme: Literal["HTTP", "HTTPS"] | None = None


class CheckTcp(Json, frozen=True, kw_only=True):
    port_index: int | None = None
    port: int | None = None


class ShellCommand(Json, frozen=True, kw_only=True):
    shell: str


class CheckExec(Json, frozen=True, kw_only=True):
    command: ShellCommand


class Check(Json, frozen=True, kw_only=True):
    """Times in seconds; the agent runs it, its result is only shown."""

    http: CheckHttp | None = None
    tcp: CheckTcp | None = None
    exec: CheckExec | None = None
    interval_seconds: int = shown(60)
    timeout_seconds: int = shown(20)
    delay_seconds: int = shown(15)


class ReadinessCheck(Json, frozen=True, kw_only=True):
    """Times in seconds."""

    name: str = shown("readinessCheck")
    protocol: Literal["HTTP", "HTTPS"] = shown("HTTP")
    path: str = shown("/")
    port_name: str = shown("http-api")
    interval_seconds: int = shown(30)
    timeout_seconds: int = shown(10)
    http_status_codes_for_ready: tuple[int, ...] = shown((200,))
    preserve_last_response: bool = shown(False)


class UpgradeStrategy(Json, frozen=True, kw_only=True):
    minimum_health_capacity: float = shown(1.0)
    maximum_over_capacity: float = shown(1.0)


class UnreachableStrategy(Json, frozen=True, kw_only=True):
    inactive_after_seconds: int = shown(0)
    expunge_after_seconds: int = shown(0)


class Residency(Json, frozen=True, kw_only=True):
    relaunch_escalation_timeout_seconds: int = shown(3600)
    task_lost_behavior: Literal["WAIT_FOREVER", "RELAUNCH_AFTER_TIMEOUT"] = shown("WAIT_FOREVER")


class EnvSecret(Json, frozen=True, kw_only=True):
    secret: str


class SecretSource(Json, frozen=True, kw_only=True):
    source: str


class ExecutorResources(Json, frozen=True, kw_only=True):
    cpus: float = shown(0.1)
    mem: float = shown(32.0)
    disk: float = shown(10.0)
    gpus: int = shown(0)


class ResourceLimits(Json, frozen=True, kw_only=True):
    cpus: float | Literal["unlimited"] | None = None
    mem: float | Literal["unlimited"] | None = None


class VersionInfo(Json, frozen=True, kw_only=True):
    last_scaling_at: str
    last_config_change_at: str


# -- parts of a pod --------------------------------------------------------------------------


class PodCommand(Json, frozen=True, kw_only=True):
    """Exactly one of both."""

    shell: str | None = None
    argv: tuple[str, ...] | None = None


class PodExec(Json, frozen=True, kw_only=True):
    command: PodCommand
    override_entrypoint: bool | None = None


class PodResources(Json, frozen=True, kw_only=True):
    """Mem and disk in MiB."""

    cpus: float = shown(0.1)
    mem: float = shown(32.0)
    disk: float = shown(0.0)
    gpus: int = shown(0)


class Endpoint(Json, frozen=True, kw_only=True):
    """`host_port` 0 = any, None = not published; `container_port` outside host networking."""

    name: str
    container_port: int | None = None
    host_port: int | None = None
    protocol: tuple[Literal["tcp", "udp"], ...] = shown(("tcp",))
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    network_names: tuple[str, ...] = ()


class PodImage(Json, frozen=True, kw_only=True):
    kind: Literal["DOCKER"] = shown("DOCKER")
    id: str
    force_pull: bool | None = None
    pull_config: PullConfig | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class HttpHealth(Json, frozen=True, kw_only=True):
    endpoint: str
    path: str = shown("/")
    scheme: Literal["HTTP", "HTTPS"] = shown("HTTP")


class TcpHealth(Json, frozen=True, kw_only=True):
    endpoint: str


class ExecHealth(Json, frozen=True, kw_only=True):
    command: PodCommand


class PodHealthCheck(Json, frozen=True, kw_only=True):
    """Exactly one kind; times in seconds. The agent runs it."""

    http: HttpHealth | None = None
    tcp: TcpHealth | None = None
    exec: ExecHealth | None = None
    grace_period_seconds: int = shown(300)
    interval_seconds: int = shown(60)
    max_consecutive_failures: int = shown(3)
    timeout_seconds: int = shown(20)
    delay_seconds: int = shown(15)


class PodCheck(Json, frozen=True, kw_only=True):
    """Exactly one kind; times in seconds. The agent runs it, and its result ends nothing."""

    http: HttpHealth | None = None
    tcp: TcpHealth | None = None
    exec: ExecHealth | None = None
    interval_seconds: int = shown(60)
    timeout_seconds: int = shown(20)
    delay_seconds: int = shown(15)


class VolumeMount(Json, frozen=True, kw_only=True):
    name: str
    mount_path: str
    read_only: bool = shown(False)


class Lifecycle(Json, frozen=True, kw_only=True):
    kill_grace_period_seconds: float | None = None


class PodContainer(Json, frozen=True, kw_only=True):
    name: str
    exec: PodExec | None = None
    resources: PodResources = shown(PodResources())
    resource_limits: ResourceLimits | None = None
    endpoints: tuple[Endpoint, ...] = ()
    image: PodImage | None = None
    environment: dict[str, str | EnvSecret] = msgspec.field(default_factory=dict)
    user: str | None = None
    health_check: PodHealthCheck | None = None
    check: PodCheck | None = None
    volume_mounts: tuple[VolumeMount, ...] = ()
    artifacts: tuple[Fetch, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    lifecycle: Lifecycle | None = None
    linux_info: LinuxInfo | None = None
    tty: bool | None = None


class PodVolume(Json, frozen=True, kw_only=True):
    """Without `host` it lives in the pod's sandbox and is shared by its containers."""

    name: str
    host: str | None = None
    persistent: PersistentVolume | None = None
    secret: str | None = None


class PodBackoff(Json, frozen=True, kw_only=True):
    """In seconds."""

    backoff: float = shown(1.0)
    backoff_factor: float = shown(1.15)
    max_launch_delay: float = shown(300.0)


class PodConstraint(Json, frozen=True, kw_only=True):
    field_name: str
    operator: str
    value: str | None = None


class Placement(Json, frozen=True, kw_only=True):
    constraints: tuple[PodConstraint, ...] = shown(())
    accepted_resource_roles: tuple[str, ...] = shown(())


class Scheduling(Json, frozen=True, kw_only=True):
    backoff: PodBackoff = shown(PodBackoff())
    upgrade: UpgradeStrategy = shown(UpgradeStrategy())
    placement: Placement = shown(Placement())
    kill_selection: KillSelection = shown("YOUNGEST_FIRST")
    unreachable_strategy: UnreachableStrategy | Literal["disabled"] = shown(UnreachableStrategy())


class PodDefinition(Json, frozen=True, kw_only=True):
    """What the containers and the executor of a pod are launched by, defaults filled in.

    Its id, labels and number are those of the run spec that holds it.
    """

    user: str | None = None
    environment: dict[str, str | EnvSecret] = msgspec.field(default_factory=dict)
    containers: tuple[PodContainer, ...] = shown(())
    secrets: dict[str, SecretSource] = msgspec.field(default_factory=dict)
    volumes: tuple[PodVolume, ...] = ()
    networks: tuple[Network, ...] = shown(())
    scheduling: Scheduling = shown(Scheduling())
    executor_resources: ExecutorResources = shown(ExecutorResources())
    linux_info: LinuxInfo | None = None
    legacy_shared_cgroups: bool | None = None


# -- the run spec -----------------------------------------------------------------------------


class AppDefinition(Json, frozen=True, kw_only=True, omit_defaults=False):
    """An app, normalised: absolute id, canonical keys, defaults filled in; or a pod, with `pod`.

    Of a pod the fields hold what plans and roll-outs look at, resources summed over containers.

    `version` and `version_info` are empty until the app enters the root group. All defaults are
    stored, so that a later change of a default changes no running app.
    """

    id: str
    cmd: str | None = None
    args: tuple[str, ...] | None = None
    user: str | None = None
    env: dict[str, str | EnvSecret] = msgspec.field(default_factory=dict)
    instances: int = 1
    cpus: float = 1.0
    mem: float = 128.0
    disk: float = 0.0
    gpus: int = 0
    resource_limits: ResourceLimits | None = None
    executor: str = ""
    executor_resources: ExecutorResources | None = None
    constraints: tuple[tuple[str, ...], ...] = ()
    fetch: tuple[Fetch, ...] = ()
    port_definitions: tuple[PortDefinition, ...] = ()
    require_ports: bool = False
    networks: tuple[Network, ...] = (Network(mode="host"),)
    container: Container | None = None
    health_checks: tuple[HealthCheck, ...] = ()
    check: Check | None = None
    readiness_checks: tuple[ReadinessCheck, ...] = ()
    dependencies: tuple[str, ...] = ()
    upgrade_strategy: UpgradeStrategy = UpgradeStrategy()
    backoff_seconds: float = 1.0
    backoff_factor: float = 1.15
    max_launch_delay_seconds: float = 300.0
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    accepted_resource_roles: tuple[str, ...] | None = None
    role: str | None = None
    residency: Residency | None = None
    task_kill_grace_period_seconds: int | None = None
    kill_selection: KillSelection = "YOUNGEST_FIRST"
    unreachable_strategy: UnreachableStrategy | Literal["disabled"] = UnreachableStrategy()
    secrets: dict[str, SecretSource] = msgspec.field(default_factory=dict)
    tty: bool = False
    pod: PodDefinition | None = None
    version: str | None = None
    version_info: VersionInfo | None = None


# -- deployments ------------------------------------------------------------------------------

ActionName = Literal[
    "StartApplication",
    "StopApplication",
    "ScaleApplication",
    "RestartApplication",
    "StartPod",
    "StopPod",
    "ScalePod",
    "RestartPod",
]


class Action(Json, frozen=True, kw_only=True):
    action: ActionName
    app: str | None = None
    pod: str | None = None


class Step(Json, frozen=True, kw_only=True):
    """Its actions run side by side."""

    actions: tuple[Action, ...] = shown(())


class ReadinessResponse(Json, frozen=True, kw_only=True):
    status: int
    content_type: str
    body: str


class ReadinessCheckResult(Json, frozen=True, kw_only=True):
    name: str
    task_id: str
    ready: bool
    last_response: ReadinessResponse | None = None


class CurrentAction(Json, frozen=True, kw_only=True):
    action: ActionName
    app: str | None = None
    pod: str | None = None
    readiness_check_results: tuple[ReadinessCheckResult, ...] = shown(())


class WaitingApp(Json, frozen=True, kw_only=True):
    """Why an app is not done, in words, and since when: an addition of ours."""

    app: str
    since: str
    reasons: tuple[str, ...] = shown(())


class DeploymentInfo(Json, frozen=True, kw_only=True):
    """One element of `GET /v2/deployments`; `current_step` counts from 1, 0 = not begun."""

    id: str
    version: str
    affected_apps: tuple[str, ...] = shown(())
    affected_pods: tuple[str, ...] = shown(())
    steps: tuple[Step, ...] = shown(())
    current_actions: tuple[CurrentAction, ...] = shown(())
    current_step: int
    total_steps: int
    waiting: tuple[WaitingApp, ...] = ()


class PlanGroup(Json, frozen=True, kw_only=True):
    """The root group before or after a deployment, by its version alone, as in `plan-format=light`.

    Clients from before 1.8 cannot read a plan without it.
    """

    id: str = shown("/")
    version: str | None = shown(None)


class DeploymentPlanView(Json, frozen=True, kw_only=True):
    """The plan inside events."""

    id: str
    version: str
    original: PlanGroup = shown(PlanGroup())
    target: PlanGroup = shown(PlanGroup())
    steps: tuple[Step, ...] = shown(())


class DeploymentResult(Json, frozen=True, kw_only=True):
    version: str
    deployment_id: str


class DeploymentId(Json, frozen=True, kw_only=True):
    id: str


class DryRun(Json, frozen=True, kw_only=True):
    steps: tuple[Step, ...] = shown(())


# -- tasks ------------------------------------------------------------------------------------


class TaskIpAddress(Json, frozen=True, kw_only=True):
    ip_address: str
    protocol: Literal["IPv4", "IPv6"] = shown("IPv4")


class HealthCheckResult(Json, frozen=True, kw_only=True):
    """`task_id` is the key of 1.1, `instance_id` that of 1.4; both are shown."""

    alive: bool
    consecutive_failures: int = shown(0)
    first_success: str | None = shown(None)
    last_failure: str | None = shown(None)
    last_success: str | None = shown(None)
    last_failure_cause: str | None = shown(None)
    instance_id: str | None = None
    task_id: str | None = None


class CheckResultHttp(Json, frozen=True, kw_only=True):
    status_code: int


class CheckResultTcp(Json, frozen=True, kw_only=True):
    succeeded: bool


class CheckResultCommand(Json, frozen=True, kw_only=True):
    exit_code: int


class CheckResult(Json, frozen=True, kw_only=True):
    http: CheckResultHttp | None = None
    tcp: CheckResultTcp | None = None
    command: CheckResultCommand | None = None


class LocalVolume(Json, frozen=True, kw_only=True):
    run_spec_id: str | None = None
    container_path: str
    uuid: str | None = None
    persistence_id: str


class TaskView(Json, frozen=True, kw_only=True):
    """A task in answers. `health_check_results` is left out while health is unknown, as in 1.1:
    the original marathon-lb takes an empty list for "alive"."""

    app_id: str
    id: str
    slave_id: str | None = shown(None)
    host: str | None = shown(None)
    state: str
    ports: tuple[int, ...] = shown(())
    service_ports: tuple[int, ...] = ()
    ip_addresses: tuple[TaskIpAddress, ...] = ()
    staged_at: str | None = shown(None)
    started_at: str | None = shown(None)
    version: str | None = shown(None)
    health_check_results: tuple[HealthCheckResult, ...] = ()
    check_result: CheckResult | None = None
    local_volumes: tuple[LocalVolume, ...] = ()
    region: str | None = None
    zone: str | None = None
    role: str | None = None


class TaskFailure(Json, frozen=True, kw_only=True):
    app_id: str
    host: str
    message: str
    state: str
    task_id: str
    timestamp: str
    version: str
    slave_id: str | None = shown(None)


class TaskCounts(Json, frozen=True, kw_only=True):
    tasks_staged: int = shown(0)
    tasks_running: int = shown(0)
    tasks_healthy: int = shown(0)
    tasks_unhealthy: int = shown(0)


class StatCounts(Json, frozen=True, kw_only=True):
    staged: int = shown(0)
    running: int = shown(0)
    healthy: int = shown(0)
    unhealthy: int = shown(0)


class LifeTime(Json, frozen=True, kw_only=True):
    average_seconds: float
    median_seconds: float


class Stats(Json, frozen=True, kw_only=True):
    counts: StatCounts
    life_time: LifeTime | None = None


class StatGroup(Json, frozen=True, kw_only=True):
    stats: Stats


class TaskStats(Json, frozen=True, kw_only=True):
    started_after_last_scaling: StatGroup | None = None
    with_latest_config: StatGroup | None = None
    with_outdated_config: StatGroup | None = None
    total_summary: StatGroup | None = None


class TaskKillRequest(Json, frozen=True, kw_only=True):
    """Body of `POST /v2/tasks/delete`."""

    ids: tuple[str, ...]


# -- groups -----------------------------------------------------------------------------------


class GroupNode(Json, frozen=True, kw_only=True, omit_defaults=False):
    """A stored group: references only, so that no record grows with what hangs below it.

    `apps` and `groups` map the full id of a direct child to the version of its own record. A group
    of very many apps has `shards` instead of `apps`: shard → version of its record.
    """

    id: str
    version: str
    apps: dict[str, str] = msgspec.field(default_factory=dict)
    groups: dict[str, str] = msgspec.field(default_factory=dict)
    dependencies: tuple[str, ...] = ()
    enforce_role: bool = False
    shards: dict[str, str] = msgspec.field(default_factory=dict)


class GroupShard(Json, frozen=True, kw_only=True, omit_defaults=False):
    """Some of the apps of a very wide group, by id, with the version of each."""

    id: str
    shard: str
    version: str
    apps: dict[str, str]


# -- launch queue -----------------------------------------------------------------------------


class QueueDelay(Json, frozen=True, kw_only=True):
    time_left_seconds: int
    overdue: bool


class RejectSummary(Json, frozen=True, kw_only=True):
    reason: str
    declined: int
    processed: int


class ProcessedOffers(Json, frozen=True, kw_only=True):
    processed_offers_count: int = shown(0)
    unused_offers_count: int = shown(0)
    last_unused_offer_at: str | None = shown(None)
    last_used_offer_at: str | None = shown(None)
    reject_summary_last_offers: tuple[RejectSummary, ...] = shown(())
    reject_summary_launch_attempt: tuple[RejectSummary, ...] = shown(())


class UnusedOffer(Json, frozen=True, kw_only=True):
    """`offer` is `{id, agentId, hostname, resources, attributes}`."""

    offer: dict[str, object]
    timestamp: str
    reason: tuple[str, ...] = shown(())


class QueueItem(Json, frozen=True, kw_only=True):
    """`app` is the full view of the app; `count` instances are left to launch."""

    count: int
    delay: QueueDelay
    since: str
    processed_offers_summary: ProcessedOffers
    last_unused_offers: tuple[UnusedOffer, ...] = ()
    app: dict[str, object] | None = None
    pod: dict[str, object] | None = None
    role: str | None = None


class Queue(Json, frozen=True, kw_only=True):
    queue: tuple[QueueItem, ...] = shown(())


# -- info, leader, errors ---------------------------------------------------------------------


class RefusedRole(Json, frozen=True, kw_only=True):
    """A role that apps have and that the master does not have Marathon in, since when."""

    role: str
    reason: str
    since: str


class Info(Json, frozen=True, kw_only=True, rename=None):
    """`GET /v2/info`; the snake_case keys are the original's, `refusedRoles` is our own."""

    name: str = shown("marathon")
    version: str
    buildref: str | None = None
    elected: bool
    leader: str | None = shown(None)
    framework_id: str | None = msgspec.field(name="frameworkId", default_factory=lambda: None)
    marathon_config: dict[str, object]
    zookeeper_config: dict[str, object]
    http_config: dict[str, object]
    event_subscriber: dict[str, object] = shown({})
    refused_roles: tuple[RefusedRole, ...] = msgspec.field(name="refusedRoles", default=())


class Leader(Json, frozen=True, kw_only=True):
    leader: str


class Message(Json, frozen=True, kw_only=True):
    message: str


class Violation(Json, frozen=True, kw_only=True):
    """`path` is slash-joined with `(index)`, e.g. `/healthChecks(0)/portIndex`; root is `/`."""

    path: str
    errors: tuple[str, ...]


class ErrorBody(Json, frozen=True, kw_only=True):
    """Every refusal: `details` is the parser's text (400) or violations (422)."""

    message: str
    details: str | tuple[Violation, ...] | None = None
    deployments: tuple[DeploymentId, ...] = ()


# -- history ----------------------------------------------------------------------------------

#: What a change does to an app, in one word.
ChangeKind = Literal["create", "restart", "scale", "update", "stop"]


class AuditChange(Json, frozen=True, kw_only=True):
    """What became of one app; `fields` are those that differ."""

    app: str
    change: ChangeKind
    fields: tuple[str, ...] = ()
    before: str | None = None
    after: str | None = None


class AuditEntry(Json, frozen=True, kw_only=True):
    """Who changed what and when: an element of `GET /v2/audit`, an addition of ours.

    `user` proved itself by its password; `forwarded_for` is what a proxy says. `omitted` changes
    are beyond those that are kept. `detail` says what is no change of an app.
    """

    timestamp: str
    user: str | None = None
    client_ip: str
    forwarded_for: str | None = None
    method: str
    uri: str
    force: bool = False
    deployment_id: str | None = None
    version: str | None = None
    changes: tuple[AuditChange, ...] = ()
    omitted: int = 0
    detail: str | None = None


class Callbacks(Json, frozen=True, kw_only=True):
    """`GET /v2/eventSubscriptions`, and how it is stored."""

    callback_urls: tuple[str, ...] = shown(())


# -- events -----------------------------------------------------------------------------------


class StreamEvent(Json, frozen=True, kw_only=True, tag_field="eventType"):
    """Base of what `/v2/events` sends; the tag is the name in the `event:` line too."""

    timestamp: str


class ApiPostEvent(StreamEvent, frozen=True, kw_only=True, tag="api_post_event"):
    client_ip: str
    uri: str
    app_definition: dict[str, object]


class PodCreated(StreamEvent, frozen=True, kw_only=True, tag="pod_created_event"):
    client_ip: str
    uri: str


class PodUpdated(StreamEvent, frozen=True, kw_only=True, tag="pod_updated_event"):
    client_ip: str
    uri: str


class PodDeleted(StreamEvent, frozen=True, kw_only=True, tag="pod_deleted_event"):
    client_ip: str
    uri: str


class SchedulerRegistered(StreamEvent, frozen=True, kw_only=True, tag="scheduler_registered_event"):
    framework_id: str
    master: str


class SchedulerReregistered(
    StreamEvent, frozen=True, kw_only=True, tag="scheduler_reregistered_event"
):
    master: str


class SchedulerDisconnected(
    StreamEvent, frozen=True, kw_only=True, tag="scheduler_disconnected_event"
):
    pass


class Subscribed(StreamEvent, frozen=True, kw_only=True, tag="subscribe_event"):
    client_ip: str
    callback_url: str


class Unsubscribed(StreamEvent, frozen=True, kw_only=True, tag="unsubscribe_event"):
    client_ip: str
    callback_url: str


class StreamAttached(StreamEvent, frozen=True, kw_only=True, tag="event_stream_attached"):
    remote_address: str


class StreamDetached(StreamEvent, frozen=True, kw_only=True, tag="event_stream_detached"):
    remote_address: str


class StatusUpdateEvent(StreamEvent, frozen=True, kw_only=True, tag="status_update_event"):
    slave_id: str
    task_id: str
    task_status: str
    message: str = shown("")
    app_id: str
    host: str
    ip_addresses: tuple[TaskIpAddress, ...] = shown(())
    ports: tuple[int, ...] = shown(())
    version: str


class FrameworkMessageEvent(StreamEvent, frozen=True, kw_only=True, tag="framework_message_event"):
    executor_id: str
    slave_id: str
    message: tuple[int, ...]


class AddHealthCheck(StreamEvent, frozen=True, kw_only=True, tag="add_health_check_event"):
    app_id: str
    version: str
    health_check: HealthCheck


class RemoveHealthCheck(StreamEvent, frozen=True, kw_only=True, tag="remove_health_check_event"):
    app_id: str


class FailedHealthCheck(StreamEvent, frozen=True, kw_only=True, tag="failed_health_check_event"):
    app_id: str
    task_id: str
    instance_id: str | None = None
    health_check: HealthCheck


class HealthStatusChanged(
    StreamEvent, frozen=True, kw_only=True, tag="health_status_changed_event"
):
    """Both `taskId` (1.1) and `instanceId` (1.4) are sent."""

    app_id: str
    instance_id: str
    task_id: str
    version: str
    alive: bool


class UnhealthyTaskKill(StreamEvent, frozen=True, kw_only=True, tag="unhealthy_task_kill_event"):
    app_id: str
    task_id: str
    instance_id: str
    version: str
    reason: str
    host: str
    slave_id: str | None = shown(None)


class UnhealthyInstanceKill(
    StreamEvent, frozen=True, kw_only=True, tag="unhealthy_instance_kill_event"
):
    app_id: str
    task_id: str
    instance_id: str
    version: str
    reason: str
    host: str
    slave_id: str | None = shown(None)


class GroupChangeSuccess(StreamEvent, frozen=True, kw_only=True, tag="group_change_success"):
    group_id: str
    version: str


class GroupChangeFailed(StreamEvent, frozen=True, kw_only=True, tag="group_change_failed"):
    group_id: str
    version: str
    reason: str


class DeploymentInfoEvent(StreamEvent, frozen=True, kw_only=True, tag="deployment_info"):
    """`waiting` is an addition of ours: told when a step makes no progress."""

    plan: DeploymentPlanView
    current_step: Step
    waiting: tuple[WaitingApp, ...] = ()


class DeploymentStepSuccess(StreamEvent, frozen=True, kw_only=True, tag="deployment_step_success"):
    plan: DeploymentPlanView
    current_step: Step


class DeploymentStepFailure(StreamEvent, frozen=True, kw_only=True, tag="deployment_step_failure"):
    plan: DeploymentPlanView
    current_step: Step


class DeploymentSuccess(StreamEvent, frozen=True, kw_only=True, tag="deployment_success"):
    id: str
    plan: DeploymentPlanView


class DeploymentFailed(StreamEvent, frozen=True, kw_only=True, tag="deployment_failed"):
    id: str
    plan: DeploymentPlanView
    reason: str


class AppTerminated(StreamEvent, frozen=True, kw_only=True, tag="app_terminated_event"):
    app_id: str


class InstanceChanged(StreamEvent, frozen=True, kw_only=True, tag="instance_changed_event"):
    instance_id: str
    condition: str
    run_spec_id: str
    agent_id: str | None = shown(None)
    host: str | None = shown(None)
    run_spec_version: str


class UnknownInstanceTerminated(
    StreamEvent, frozen=True, kw_only=True, tag="unknown_instance_terminated_event"
):
    instance_id: str
    run_spec_id: str
    condition: str


class InstanceHealthChanged(
    StreamEvent, frozen=True, kw_only=True, tag="instance_health_changed_event"
):
    """`healthy` is null while it is not known."""

    instance_id: str
    run_spec_id: str
    run_spec_version: str
    healthy: bool | None = shown(None)
