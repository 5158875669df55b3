"""Marathon's flags, with the original's names and defaults (spec/marathon §4.2).

Durations are in milliseconds where the original has them so, in seconds where it has those; `unit`
says which. Flags of versions that this one does not imitate are accepted, so that a configuration
directory copied from an old installation starts; a note in the log says that they do nothing.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping

from mesostk import __version__
from mesostk.base.config import Flag, FlagSet, Values
from mesostk.base.units import port_number, size_bytes
from mesostk.base.zk import zk_url
from mesostk.errors import ConfigError
from mesostk.marathon import callbacks
from mesostk.marathon.matcher import RoleBehaviour
from mesostk.marathon.state import Settings

#: Accepted for old configuration directories; each does nothing here.
IGNORED = (
    "reporter_graphite", "reporter_datadog", "logstash", "sentry", "sentry_tags", "plugin_dir",
    "plugin_conf", "marathon_store_timeout", "assets_path", "artifact_store",
    "ssl_keystore_path", "ssl_keystore_password", "https_address",
    "backup_location", "deprecated_features",
    "metrics_statsd_host", "metrics_statsd_port", "metrics_datadog_host", "metrics_datadog_port",
    "metrics_name_prefix", "executor_health_checks",
)  # fmt: skip

#: The same, for numbers of the original's inner workings.
IGNORED_NUMBERS = (
    "max_tasks_per_offer_cycle", "offer_matching_timeout", "max_parallel_offers",
    "save_tasks_to_launch_timeout", "task_operation_notification_timeout",
    "max_queued_root_group_updates", "group_manager_request_timeout",
    "launch_queue_request_timeout", "max_queued_offers", "max_parallel_status_updates",
    "max_queued_status_updates", "mesos_heartbeat_interval", "mesos_heartbeat_failure_threshold",
    "zk_max_node_size", "zk_compression_threshold", "zk_max_concurrency",
    "zk_operation_max_retries", "zk_operation_base_retry_sleep_ms", "storage_compaction_interval",
    "storage_compaction_scan_batch_size", "graceful_shutdown_timeout", "on_elected_prepare_timeout",
    "task_lost_expunge_gc", "task_lost_expunge_initial_delay", "task_lost_expunge_interval",
    "task_reservation_timeout", "scale_apps_initial_delay", "scale_apps_interval",
    "reconciliation_initial_delay", "revive_offers_repetitions", "group_versions_cache_size",
    "min_mesos_offer_constraints_update_interval",
    "https_port", "zk_connection_timeout",
)  # fmt: skip

#: The same, for switches.
IGNORED_SWITCHES = (
    "store_cache", "zk_compression", "metrics", "metrics_prometheus", "metrics_statsd",
    "metrics_datadog", "tracing", "enable_metrics", "enable_tracing", "suppress_offers",
    "mesos_offer_constraints", "revive_offers_for_new_apps", "leader_proxy_ssl_ignore_hostname",
    "logger", "mesos_authentication",
)  # fmt: skip


def _basic() -> list[Flag]:
    return [
        Flag("master", str, None, "where the master is: host:port or zk://host:port/mesos"),
        Flag("zk", zk_url, None, "state and election: zk://host:port/marathon; without it a file"),
        Flag("state_dir", str, "/var/lib/marathon", "directory of the state when there is no --zk"),
        Flag("framework_name", str, "marathon", "name under which Marathon registers"),
        Flag("failover_timeout", float, 604_800.0, "time for which tasks outlive us", unit="s"),
        Flag("ha", bool, True, "elect a leader among several Marathons; needs --zk"),
        Flag("checkpoint", bool, True, "let tasks survive a restart of their agent"),
        Flag("hostname", str, None, "name that others reach this host by"),
        Flag("webui_url", str, None, "address that Mesos shows for this framework"),
        Flag("executor", str, "//cmd", "executor of apps that name none"),
        Flag("mesos_user", str, None, "user of tasks that name none"),
        Flag("mesos_role", str, "*", "role of apps that name none"),
        Flag(
            "new_group_enforce_role",
            str,
            "off",
            "top: what is new in a new top-level group gets the group's name as role; off",
        ),
        Flag("mesos_leader_ui_url", str, None, "address of the Mesos page, for links"),
        Flag("mesos_authentication_principal", str, None, "principal to register with"),
        Flag("mesos_authentication_secret", str, None, "its secret"),
        Flag("mesos_authentication_secret_file", str, None, "file that holds the secret"),
    ]


def _apps() -> list[Flag]:
    return [
        Flag("local_port_min", int, 10_000, "first service port to assign", minimum=1),
        Flag("local_port_max", int, 20_000, "one above the last of them", minimum=2),
        Flag("env_vars_prefix", str, None, "put before HOST and PORT* in the tasks' environment"),
        Flag("max_apps", int, None, "how many apps there may be", minimum=1),
        Flag("default_network_name", str, None, "network of apps that name none"),
        Flag("mesos_bridge_name", str, "mesos-bridge", "network of bridge mode"),
        Flag(
            "enable_features",
            str,
            "",
            "vips, task_killing, external_volumes, secrets, gpu_resources, mesos_isolators",
        ),
        Flag("max_running_deployments", int, 100, "deployments at once", minimum=1),
        Flag(
            "accepted_resource_roles_default_behavior",
            str,
            "any",
            "resources of apps that name no roles: any, reserved or unreserved",
        ),
        Flag(
            "default_accepted_resource_roles",
            str,
            None,
            "the same, listed: *, the role of --mesos_role, or both; as until 1.9",
        ),
        Flag(
            "gpu_scheduling_behavior",
            str,
            "restricted",
            "restricted keeps agents with GPUs for apps that want them; unrestricted does not",
        ),
        Flag("maintenance_mode", bool, True, "use no agent that is about to be maintained"),
        Flag("draining_seconds", float, 0.0, "how long before a maintenance", unit="s"),
        Flag("zk_max_versions", int, 50, "versions kept of each app and group", minimum=1),
        Flag("audit_days", float, 30.0, "keep who changed what; 0: do not", unit="days", minimum=0),
    ]


def _scheduling() -> list[Flag]:
    return [
        Flag("decline_offer_duration", float, 120_000.0, "refuse unused offers for", unit="ms"),
        Flag(
            "min_revive_offers_interval", float, 5000.0, "ask for offers at most every", unit="ms"
        ),
        Flag(
            "max_instances_per_offer",
            int,
            5,
            "launches out of one offer",
            old_names=("max_tasks_per_offer",),
            minimum=1,
        ),
        Flag("launch_tokens", int, 100, "unconfirmed launches per interval", minimum=1),
        Flag("launch_token_refresh_interval", float, 30_000.0, "that interval", unit="ms"),
        Flag("task_launch_confirm_timeout", float, 300_000.0, "first word of a task", unit="ms"),
        Flag("task_launch_timeout", float, 300_000.0, "from first word to running", unit="ms"),
        Flag("reconciliation_interval", float, 600_000.0, "ask for all tasks every", unit="ms"),
        Flag("kill_chunk_size", int, 100, "unconfirmed kills at once", minimum=1),
        Flag("kill_retry_timeout", float, 30_000.0, "repeat a kill after", unit="ms"),
        Flag(
            "kill_drain_seconds",
            float,
            2.0,
            "time for balancers between an instance's Killing and its kill, with HAPROXY_GROUP",
            unit="s",
            minimum=0,
        ),
        Flag("max_concurrent_marathon_health_checks", int, 256, "probes at once", minimum=1),
    ]


def _http() -> list[Flag]:
    return [
        Flag("http_address", str, "0.0.0.0", "address to listen on"),  # noqa: S104 - the original's
        Flag("http_port", port_number, 8080, "port to listen on", minimum=1),
        Flag("disable_http", bool, False, "accepted; this Marathon serves plain HTTP only"),
        Flag("http_compression", bool, True, "compress answers for callers that accept it"),
        Flag("http_credentials", str, None, "user:password that every request must give"),
        Flag("http_realm", str, "Mesosphere", "realm of those"),
        Flag("access_control_allow_origin", str, None, "origins that scripts may call from"),
        Flag("max_body_bytes", size_bytes, "4MB", "largest request body"),
        Flag(
            "http_max_concurrent_requests",
            int,
            None,
            "requests under way at once; more are answered 503",
            minimum=1,
        ),
        Flag("leader_proxy_connection_timeout", float, 5000.0, "standby to leader", unit="ms"),
        Flag("leader_proxy_read_timeout", float, 10_000.0, "standby to leader", unit="ms"),
        Flag("leader_proxy_max_open_connections", int, 64, "standby to leader", minimum=1),
        Flag(
            "event_stream_max_outstanding_messages",
            int,
            50,
            "unread events with which a subscriber that reads nothing for 10 s is cut",
            minimum=1,
        ),
        Flag("event_subscriber", str, None, "http_callback: events are sent to URLs, too"),
        Flag("http_endpoints", str, None, "URLs that get every event, separated by commas"),
        Flag(
            "http_event_callback_slow_consumer_timeout",
            float,
            10_000.0,
            "a URL that takes longer gets no events for as long",
            unit="ms",
            minimum=1,
        ),
        Flag("zk_timeout", float, 10_000.0, "wait for ZooKeeper to connect", unit="ms"),
        Flag("zk_session_timeout", float, 10_000.0, "ZooKeeper session", unit="ms"),
        Flag("logging_level", str, "info", "debug, info, warn or error"),
    ]


def from_zk_line(line: str) -> Mapping[str, str]:
    """What `/etc/mesos/zk` says to Marathon: its master, and its own path beside it."""
    if not line.startswith("zk://"):
        raise ConfigError(f"{line!r} is not like zk://host:2181/mesos")
    hosts, _, _ = line.removeprefix("zk://").partition("/")
    return {"master": line, "zk": f"zk://{hosts}/marathon"}


def flag_set() -> FlagSet:
    """Every flag of `marathon`."""
    accepted = [Flag(name, str, None, "accepted, does nothing here") for name in IGNORED]
    accepted += [Flag(name, str, None, "accepted, does nothing here") for name in IGNORED_NUMBERS]
    accepted += [Flag(name, bool, None, "accepted, does nothing here") for name in IGNORED_SWITCHES]
    return FlagSet(
        "marathon",
        "MARATHON_",
        [*_basic(), *_apps(), *_scheduling(), *_http(), *accepted],
        version=__version__,
        about="Keeps the wanted number of instances of each app running on Mesos.",
        negations=("disable_", "no-"),
        from_zk=from_zk_line,
    )


def ignored(values: Values) -> list[str]:
    """Flags that were given and do nothing."""
    names = (*IGNORED, *IGNORED_NUMBERS, *IGNORED_SWITCHES)
    return sorted(name for name in names if values.is_set(name))


def hostname_of(values: Values) -> str:
    """`--hostname`, else this host's own name."""
    return str(values.hostname) if values.hostname is not None else socket.gethostname()


#: Settings that are flags of the same meaning under another name.
_RENAMED = {
    "role": "mesos_role",
    "principal": "mesos_authentication_principal",
    "bridge_name": "mesos_bridge_name",
    "failover_timeout_s": "failover_timeout",
    "kill_drain_s": "kill_drain_seconds",
    "max_versions": "zk_max_versions",
    "draining_s": "draining_seconds",
}

#: Settings in seconds whose flags are in milliseconds, as the original has them.
_MILLISECONDS = {
    "decline_offer_duration_s": "decline_offer_duration",
    "min_revive_interval_s": "min_revive_offers_interval",
    "launch_token_refresh_s": "launch_token_refresh_interval",
    "launch_confirm_timeout_s": "task_launch_confirm_timeout",
    "launch_timeout_s": "task_launch_timeout",
    "reconciliation_interval_s": "reconciliation_interval",
    "kill_retry_s": "kill_retry_timeout",
}

#: Settings that are called as their flags.
_SAME = (
    "framework_name", "checkpoint", "local_port_min", "local_port_max", "default_network_name",
    "executor", "env_vars_prefix", "max_apps", "max_instances_per_offer", "launch_tokens",
    "kill_chunk_size", "max_running_deployments", "maintenance_mode",
)  # fmt: skip


def settings_of(values: Values) -> Settings:
    """What the core needs of the flags; ConfigError where two of them contradict each other."""
    if values.local_port_min >= values.local_port_max:
        raise ConfigError("--local_port_min must be below --local_port_max")
    _refuse_unknown_words(values)
    hostname = hostname_of(values)
    webui = values.webui_url
    plain = {setting: values[flag] for setting, flag in _RENAMED.items()}
    plain |= {setting: values[flag] / 1000 for setting, flag in _MILLISECONDS.items()}
    plain |= {name: values[name] for name in _SAME}
    return Settings(
        user=getpass.getuser() if values.mesos_user is None else values.mesos_user,
        hostname=hostname,
        webui_url=f"http://{hostname}:{values.http_port}" if webui is None else webui,
        enforce_new_groups=values.new_group_enforce_role == "top",
        features=frozenset(_listed(values.enable_features)),
        gpus_are_scarce=values.gpu_scheduling_behavior == "restricted",
        callbacks=values.event_subscriber is not None,
        http_endpoints=_endpoints(values),
        audit_s=values.audit_days * 86_400.0,
        role_behaviour=_role_behaviour(values),
        **plain,
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _refuse_unknown_words(values: Values) -> None:
    for name, known in (
        ("accepted_resource_roles_default_behavior", {"any", "reserved", "unreserved"}),
        ("gpu_scheduling_behavior", {"restricted", "unrestricted"}),
        ("new_group_enforce_role", {"off", "top"}),
    ):
        if values[name] not in known:
            raise ConfigError(
                f"--{name}: {values[name]!r} is not one of {', '.join(sorted(known))}"
            )
    if values.event_subscriber not in {None, "http_callback"}:
        raise ConfigError(f"--event_subscriber: {values.event_subscriber!r} is not http_callback")


def _role_behaviour(values: Values) -> RoleBehaviour:
    """What apps that name no roles accept; older Marathons listed it (until 1.9)."""
    behaviour: RoleBehaviour = values.accepted_resource_roles_default_behavior
    listed = set(_listed(values.default_accepted_resource_roles or ""))
    if not listed or values.is_set("accepted_resource_roles_default_behavior"):
        return behaviour
    if not listed <= {"*", values.mesos_role}:
        raise ConfigError(
            f"--default_accepted_resource_roles: only * and {values.mesos_role} (--mesos_role) can "
            "be offered"
        )
    if listed == {"*"}:
        return "unreserved"
    return "any" if "*" in listed else "reserved"


def _endpoints(values: Values) -> tuple[str, ...]:
    endpoints = tuple(_listed(values.http_endpoints or ""))
    for url in endpoints:
        why = callbacks.why_invalid(url)
        if why is not None:
            raise ConfigError(f"--http_endpoints: {why}")
    return endpoints
