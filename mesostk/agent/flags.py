"""The agent's flags: every one of the original (spec §9.3), so that its configuration loads here.

Flags of parts that do not exist here are accepted and say so in `--help`; setting one is a warning
at start, never a silent nothing. One that promises protection, or something that tasks are offered,
keeps the agent from starting instead: nobody must believe to have it.
"""

from __future__ import annotations

import base64

import msgspec

from mesostk import MESOS_VERSION, __version__
from mesostk.base.config import Flag, FlagSet, Values, duration, port_number, size_bytes
from mesostk.base.flagtext import decode_json

_UNUSED = "Accepted for the original's sake; has no effect here."

#: Name → default of flags that are only accepted; None where unset.
_ACCEPTED_TEXTS: dict[str, str | None] = {
    "acls": None,
    "agent_features": None,
    "agent_subsystems": None,
    "allowed_devices": None,
    "appc_simple_discovery_uri_prefix": "http://",
    "appc_store_dir": "/tmp/mesos/store/appc",  # noqa: S108 - the original's default
    "authenticatee": "crammd5",
    "authorizer": "local",
    "bounding_capabilities": None,
    "cgroups_hierarchy": "/sys/fs/cgroup",
    "cgroups_net_cls_primary_handle": None,
    "cgroups_net_cls_secondary_handles": None,
    "container_logger": None,
    "container_ports_isolated_range": None,
    "csi_plugin_config_dir": None,
    "default_container_dns": None,
    "disk_profile_adaptor": None,
    "docker": "docker",
    "docker_mesos_image": None,
    "docker_registry": "https://registry-1.docker.io",
    "docker_store_dir": "/tmp/mesos/store/docker",  # noqa: S108 - the original's default
    "docker_volume_checkpoint_dir": "/var/run/mesos/isolators/docker/volume",
    "domain_socket_location": None,
    "effective_capabilities": None,
    "external_log_file": None,
    "hadoop_home": None,
    "hooks": None,
    "host_path_volume_force_creation": None,
    "http_authenticators": None,
    "image_gc_config": None,
    "image_providers": None,
    "image_provisioner_backend": "auto",
    "ip6": None,
    "ip6_discovery_command": None,
    "jwt_secret_key": None,
    "launcher_dir": None,
    "log_dir": None,
    "master_detector": None,
    "modules": None,
    "modules_dir": None,
    "network_cni_config_dir": None,
    "network_cni_plugins_dir": None,
    "nvidia_gpu_devices": None,
    "perf_events": None,
    "qos_controller": None,
    "resource_estimator": None,
    "resource_provider_config_dir": None,
    "seccomp_config_dir": None,
    "seccomp_profile_name": None,
    "secret_resolver": None,
    "systemd_runtime_directory": "/run/systemd/system",
    "volume_gid_range": None,
    "xfs_project_range": "[5000-10000]",
}

#: Of builds with the port mapping isolator only.
_PORT_MAPPING: dict[str, str | None] = {
    "egress_burst": None,
    "egress_ceil_limit": None,
    "egress_flow_classifier_parent": "root",
    "egress_rate_limit_per_container": None,
    "egress_rate_per_cpu": None,
    "egress_unique_flow_per_container": "false",
    "ephemeral_ports_per_container": "1024",
    "eth0_name": None,
    "ingress_burst": None,
    "ingress_ceil_limit": None,
    "ingress_isolate_existing_containers": "true",
    "ingress_rate_limit_per_container": None,
    "ingress_rate_per_cpu": None,
    "lo_name": None,
    "maximum_egress_rate_limit": None,
    "maximum_ingress_rate_limit": None,
    "minimum_egress_rate_limit": None,
    "minimum_ingress_rate_limit": None,
    "network_enable_rate_statistics": "false",
    "network_enable_snmp_statistics": "false",
    "network_enable_socket_statistics_details": "false",
    "network_enable_socket_statistics_summary": "false",
    "network_link_speed": None,
    "network_rate_statistics_interval": None,
    "network_rate_statistics_window": None,
}
_SWITCHES_OF_PORT_MAPPING = {
    name for name, default in _PORT_MAPPING.items() if default in ("true", "false")
}

_ACCEPTED_SWITCHES: dict[str, bool] = {
    "cgroups_cpu_enable_pids_and_tids_count": False,
    "check_agent_port_range_only": False,
    "docker_ignore_runtime": False,
    "docker_volume_chown": False,
    "enforce_container_ports": False,
    "gc_non_executor_container_sandboxes": False,
    "http_command_executor": False,
    "http_executor_domain_sockets": False,
    "initialize_driver_logging": True,
    "memory_profiling": False,
    "network_cni_metrics": True,
    "network_cni_root_dir_persist": False,
    "quiet": False,
    "revocable_cpu_low_priority": True,
    "systemd_enable_support": True,
    "xfs_kill_containers": False,
}

_ACCEPTED_DURATIONS: dict[str, str | None] = {
    "authentication_backoff_factor": "1secs",
    "authentication_timeout_max": "1mins",
    "authentication_timeout_min": "5secs",
    "cgroups_destroy_timeout": "1mins",
    "container_ports_watch_interval": "30secs",
    "docker_stop_timeout": "0ns",
    "executor_reregistration_retry_interval": None,
    "oversubscribed_resources_interval": "15secs",
    "perf_duration": "10secs",
    "perf_interval": "1mins",
    "qos_correction_interval_min": "0ns",
}

#: Flags that are accepted as long as they say nothing, and what is missing for anything else.
_REFUSED = {
    "acls": "agents know no ACLs; --authenticate_http_readwrite and --firewall_rules close them",
    "allowed_devices": "devices are not kept from tasks here",
    "bounding_capabilities": "capabilities of tasks are not limited here; switch_user does",
    "container_ports_isolated_range": "ports of tasks are not watched here",
    "csi_plugin_config_dir": "there are no CSI plugins here",
    "disk_profile_adaptor": "there are no storage resource providers here",
    "domain_socket_location": "executors reach the agent over TCP only",
    "effective_capabilities": "capabilities of tasks are not limited here; switch_user does",
    "enforce_container_ports": "ports of tasks are not watched here",
    "hooks": "there are no modules here",
    "http_authenticators": "there is HTTP Basic (--http_credentials) and nothing else",
    "http_executor_domain_sockets": "executors reach the agent over TCP only",
    "jwt_secret_key": "executors have no tokens",
    "modules": "there are no modules here",
    "modules_dir": "there are no modules here",
    "network_cni_config_dir": "there are no CNI networks here; those of Docker are",
    "network_cni_plugins_dir": "there are no CNI networks here; those of Docker are",
    "nvidia_gpu_devices": "there are no GPUs here",
    "qos_controller": "there is no oversubscription here",
    "resource_estimator": "there is no oversubscription here",
    "resource_provider_config_dir": "there are no resource providers here",
    "seccomp_config_dir": "there are no seccomp profiles but Docker's here",
    "seccomp_profile_name": "there are no seccomp profiles but Docker's here",
    "secret_resolver": "secrets are files of --secrets_dir",
    "xfs_kill_containers": "quotas are measured (--enforce_container_disk_quota), not XFS's",
}

_OLD_NAMES = {
    "effective_capabilities": ("allowed_capabilities",),
    "agent_subsystems": ("slave_subsystems",),
    "jwt_secret_key": ("executor_secret_key",),
}


class _Credential(msgspec.Struct, forbid_unknown_fields=True):
    principal: str
    secret: str


#: Source: spec §8.6.
_MAX_REREGISTRATION_S = 15.0

#: Flags whose values are shown to nobody.
_SECRET = frozenset({"credential", "http_credentials"})


def credential(text: str) -> str:
    """The `Authorization` header of a credential in JSON. Raises ValueError with what is wrong."""
    try:
        one = decode_json(text, _Credential)
    except ValueError as error:
        raise ValueError(f'{error}; expected {{"principal":…,"secret":…}}') from error
    coded = base64.b64encode(f"{one.principal}:{one.secret}".encode()).decode()
    return f"Basic {coded}"


def shown(values: Values) -> dict[str, str]:
    """What /flags and /state tell: every flag with a value, but no secret."""
    texts = values.as_strings()
    return {name: "****" if name in _SECRET else text for name, text in texts.items()}


def _number(text: str) -> float:
    return float(text)


def _used() -> list[Flag]:
    return [*_identity(), *_registration(), *_runs(), *_disk()]


def _identity() -> list[Flag]:
    return [
        Flag("master", str, None, "zk://host:2181,…/path of the masters, or host:port of one.",
             required=True),
        Flag("work_dir", str, None, "Directory of sandboxes and records; must survive reboots.",
             required=True, file_value=False),
        Flag("runtime_dir", str, None, "Directory of run records of this boot; default "
             "/var/run/mesos for root, else run below work_dir. One agent each.",
             file_value=False),
        Flag("ip", str, None, "Address to listen on and to be reached at."),
        Flag("port", port_number, 5051, "Port to listen on; 0 takes a free one.", minimum=0),
        Flag("advertise_ip", str, None, "Address at which others reach the agent, if not --ip."),
        Flag("advertise_port", port_number, None,
             "Port at which others reach the agent, if not --port."),
        Flag("ip_discovery_command", str, None, "Program that prints the address to use."),
        Flag("hostname", str, None, "Name that frameworks and people see."),
        Flag("hostname_lookup", bool, True, "Find the name of the address; else it is the name."),
        Flag("domain", str, None, 'JSON {"fault_domain":{"region":{"name"},"zone":{"name"}}}.',
             is_json=True),
        Flag("attributes", str, None, "rack:abc;level:10; shown to frameworks.", keyed_dir=True),
        Flag("resources", str, None, "cpus:8;mem:4096;ports:[31000-32000]; others are detected.",
             keyed_dir=True),
        Flag("default_role", str, "*", "Role of resources that name none."),
        Flag("logging_level", str, "INFO", "Lowest level that is logged.",
             choices=("INFO", "WARNING", "ERROR")),
        Flag("logbufsecs", int, 0, _UNUSED),
    ]  # fmt: skip


def _registration() -> list[Flag]:
    return [
        Flag("zk_session_timeout", duration, "10secs", "ZooKeeper session timeout.", minimum=1),
        Flag("registration_backoff_factor", duration, "1secs",
             "The first attempt waits a random part of this, later ones up to a minute."),
        Flag("adopt_cluster", str, None, "Id of the cluster to join although the agent belongs to "
             "another; an agent refuses foreign clusters and names their id."),
        Flag("recover", str, "reconnect", "cleanup ends all tasks of a former agent, then exits.",
             choices=("reconnect", "cleanup")),
        Flag("recovery_timeout", duration, "15mins", "Told to tasks as MESOS_RECOVERY_TIMEOUT."),
        Flag("reconfiguration_policy", str, "equal", "Which changes of resources and attributes "
             "are accepted at restart.", choices=("equal", "additive")),
        Flag("strict", bool, True, "If set on purpose, unreadable records keep the agent from "
             "starting; else each is logged and counted in slave/recovery_errors. No task ends "
             "for them."),
    ]  # fmt: skip


def _runs() -> list[Flag]:
    return [
        Flag("containerizers", str, "mesos", "Comma separated: mesos, docker."),
        Flag("executor_registration_timeout", duration, "1mins",
             "A container that is not started by then, pulling its image included, has failed; an "
             "executor that has not subscribed by then is ended."),
        Flag("executor_reregistration_timeout", duration, "2secs",
             "An executor that is not back so long after a restart of the agent is ended; at most "
             "15secs."),
        Flag("http_heartbeat_interval", duration, "30secs",
             "Between heartbeats on the output of containers.", minimum=1),
        Flag("authenticate_http_readonly", bool, False,
             "Documents, metrics and sandboxes ask for HTTP Basic credentials."),
        Flag("authenticate_http_readwrite", bool, False,
             "The operator API, which can run programs, asks for HTTP Basic credentials."),
        Flag("firewall_rules", str, None, 'JSON {"disabled_endpoints":{"paths":["/state"]}}: '
             "answers 403, with or without /slave(1) and .json.", is_json=True),
        Flag("authenticate_http_executors", bool, False, "Refused: executors have no tokens."),
        Flag("http_credentials", str, None,
             'file:///path of {"credentials":[{"principal":…,"secret":…}]}.', is_json=True),
        Flag("credential", credential, None, 'file:///path of {"principal":…,"secret":…}, by which '
             "the agent proves itself to the master.", is_json=True),
        Flag("secrets_dir", str, "/etc/mesos-secrets", "Where the secrets are that tasks name: "
             "files that root alone can read, each by its name.", file_value=False),
        Flag("docker_socket", str, "/var/run/docker.sock", "Where the Docker engine listens.",
             file_value=False),
        Flag("docker_config", str, None, "JSON with the credentials of registries, or file:///path "
             "of a Docker config.json.", is_json=True),
        Flag("docker_kill_orphans", bool, True, "Remove this agent's unknown containers."),
        Flag("docker_remove_delay", duration, "6hrs", "Ended containers are kept for this long."),
        Flag("sandbox_directory", str, "/mnt/mesos/sandbox", "Where containers see their sandbox.",
             file_value=False),
        Flag("launcher", str, None, "linux: cgroups (default for root); posix: process groups.",
             choices=("linux", "posix")),
        Flag("cgroups_root", str, "mesos", "Cgroup below which runs have theirs.",
             file_value=False),
        Flag("isolation", str, "posix/cpu,posix/mem", "Comma separated: cgroups/cpu, cgroups/mem, "
             "cgroups/pids, filesystem/linux, namespaces/pid, namespaces/ipc, linux/nnp. Unless "
             "given, runs have cgroups with limits where the host offers them.", file_value=False),
        Flag("default_container_info", str, None, "JSON ContainerInfo of type MESOS for those that "
             'name none; with filesystem/linux a volume {"container_path":"/tmp","host_path":'
             '".private/tmp","mode":"RW"} gives each a /tmp of its own.', is_json=True),
        Flag("default_container_shm_size", int, None, "MiB of a private /dev/shm that says no "
             "size.", minimum=1),
        Flag("disallow_sharing_agent_pid_namespace", bool, False,
             "Refuse tasks that ask for 'share_pid_namespace'."),
        Flag("disallow_sharing_agent_ipc_namespace", bool, False,
             "Refuse tasks that ask for the 'ipc_mode' SHARE_PARENT."),
        Flag("cgroups_limit_swap", bool, False, "Limit memory and swap together; with cgroups v1."),
        Flag("cgroups_enable_cfs", bool, False, "Limit tasks to their cpus by quota."),
        Flag("switch_user", bool, True, "Run tasks as the user they name; only root can."),
        Flag("frameworks_home", str, None, "Directory that relative URIs are under.",
             file_value=False),
        Flag("executor_environment_variables", str, None,
             "JSON map of variables that tasks inherit instead of the agent's environment.",
             is_json=True),
        Flag("executor_shutdown_grace_period", duration, "5secs",
             "Between TERM and KILL when a whole framework is ended."),
        Flag("max_completed_executors_per_framework", int, 150, "History in /state.", minimum=0),
        Flag("fetcher_stall_timeout", duration, "1mins", "A download that stands still fails."),
        Flag("fetcher_cache_size", size_bytes, "2GB",
             "Of URIs with 'cache'; what does not fit is fetched for each task.", minimum=0),
        Flag("fetcher_cache_dir", str, None,
             "Where cached URIs are, removed at each start; by default 'fetch' in work_dir.",
             file_value=False),
    ]  # fmt: skip


def _disk() -> list[Flag]:
    return [
        Flag("gc_delay", duration, "1weeks", "Sandboxes of ended runs are kept for this long."),
        Flag("gc_disk_headroom", _number, 0.1, "Part of the disk to keep free by removing them "
             "earlier.", minimum=0),
        Flag("disk_watch_interval", duration, "1mins", "How often the disk is looked at."),
        Flag("container_disk_watch_interval", duration, "15secs",
             "How often the sandbox of each task is measured.", minimum=0.1),
        Flag("enforce_container_disk_quota", bool, False,
             "End tasks whose sandbox is larger than their disk resource."),
        Flag("container_log_size", size_bytes, "100MB",
             "Size from which on stdout and stderr are moved to stdout.1 and stderr.1; 0 never.",
             minimum=0),
        Flag("xfs_quota_headroom", size_bytes, "10MB", _UNUSED),
    ]  # fmt: skip


def _help(name: str) -> str:
    return f"Refused: {_REFUSED[name]}." if name in _REFUSED else _UNUSED


def _accepted() -> list[Flag]:
    flags = [
        Flag(name, str, default, _help(name), old_names=_OLD_NAMES.get(name, ()), file_value=False)
        for name, default in _ACCEPTED_TEXTS.items()
    ]
    flags += [
        Flag(name, bool if name in _SWITCHES_OF_PORT_MAPPING else str, default, _help(name))
        for name, default in _PORT_MAPPING.items()
    ]
    flags += [
        Flag(name, bool, default, _help(name)) for name, default in _ACCEPTED_SWITCHES.items()
    ]
    flags += [
        Flag(name, duration, default, _help(name)) for name, default in _ACCEPTED_DURATIONS.items()
    ]
    return flags


def agent_flags(prog: str = "mesos-agent") -> FlagSet:
    """The flags of the agent, for the program called `prog`."""
    return FlagSet(
        prog,
        "MESOS_",
        [*_used(), *_accepted()],
        version=f"mesos {MESOS_VERSION} (mesostk {__version__})",
        about="Runs tasks for a cluster and reports what becomes of them.",
        from_zk=lambda line: {"master": line},
    )


def refusal(values: Values) -> str | None:
    """Why the agent cannot do what a flag says; None if it can."""
    for name, why in _REFUSED.items():
        if values.is_set(name) and values[name] not in (None, False, ""):
            return f"--{name}: {why}; leave the flag out"
    if values.executor_reregistration_timeout > _MAX_REREGISTRATION_S:
        return f"--executor_reregistration_timeout: at most {_MAX_REREGISTRATION_S:g}secs"
    return None


def without_effect(values: Values) -> list[str]:
    """Names of flags that somebody set and that do nothing here."""
    names = [*_ACCEPTED_TEXTS, *_PORT_MAPPING, *_ACCEPTED_SWITCHES, *_ACCEPTED_DURATIONS]
    return [name for name in names if values.is_set(name) and name not in _REFUSED]
