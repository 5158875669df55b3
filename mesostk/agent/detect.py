"""What the host offers and who it is, where flags do not say. Sources: spec §7.1, §9.3.

Blocking, at start only.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

import mesostk
from mesostk import MESOS_VERSION
from mesostk.agent import isolation
from mesostk.agent.executors import DEFAULT_PATH
from mesostk.agent.isolation import Isolation
from mesostk.agent.state import Settings
from mesostk.base.config import Values
from mesostk.base.flagtext import decode_json
from mesostk.errors import ConfigError
from mesostk.resources import attributes, text
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import AgentInfo, Attribute, ContainerInfo, DomainInfo, Resource

_GIB = 1024.0  # in MiB
_PORTS = (31000, 32000)

#: For the address discovery command to answer.
_COMMAND_TIMEOUT_S = 30.0

#: For the attempt to make a namespace.
_ATTEMPT_S = 10.0

_ATTEMPT = (
    "import sys; sys.path.append(sys.argv[1]); from mesostk.agent import namespaces; "
    "namespaces.attempt(sys.argv[2])"
)


def settings_of(values: Values, environ: Mapping[str, str]) -> Settings:
    """The settings of an agent whose directories exist; raises ConfigError naming the flag."""
    ip = address(values)
    work_dir = Path(values.work_dir).absolute()
    return Settings(
        hostname=host_name(values, ip),
        ip=ip,
        port=values.advertise_port if values.advertise_port is not None else values.port,
        resources=resources_of(values, work_dir),
        attributes=attributes_of(values),
        domain=domain_of(values),
        work_dir=str(work_dir),
        version=MESOS_VERSION,
        containerizers=containerizers_of(values),
        switch_user=values.switch_user and os.geteuid() == 0,
        base_env=base_env(values, environ),
        libprocess_ip=values.ip if values.ip is not None else environ.get("LIBPROCESS_IP"),
        adopt_cluster=values.adopt_cluster,
        registration_backoff_s=values.registration_backoff_factor,
        registration_backoff_max_s=60.0 if values.master.startswith("zk://") else 5.0,
        shutdown_grace_s=values.executor_shutdown_grace_period,
        recovery_timeout_s=values.recovery_timeout,
        executor_registration_timeout_s=values.executor_registration_timeout,
        executor_reregistration_timeout_s=values.executor_reregistration_timeout,
        max_completed_runs=values.max_completed_executors_per_framework,
        cgroups_enable_cfs=values.cgroups_enable_cfs,
        memory_bytes=psutil.virtual_memory().total,
        sandbox_directory=values.sandbox_directory,
        isolation=isolation_of(values),
    )


def address(values: Values) -> str:
    """The address at which the agent is reached."""
    if values.advertise_ip is not None:
        return _checked("advertise_ip", values.advertise_ip)
    if values.ip is not None:
        return _checked("ip", values.ip)
    if values.ip_discovery_command is not None:
        return _checked("ip_discovery_command", _answer_of(values.ip_discovery_command))
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def _answer_of(command: str) -> str:
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"--ip_discovery_command failed: {error}") from error
    return done.stdout.strip()


def _checked(flag: str, ip: str) -> str:
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError as error:
        raise ConfigError(f"--{flag}: {ip!r} is not an IP address") from error
    if parsed.is_unspecified:
        raise ConfigError(f"--{flag}: {ip} is no address at which others can reach the agent")
    return ip


def host_name(values: Values, ip: str) -> str:
    """The name that frameworks see."""
    if values.hostname is not None:
        return str(values.hostname)
    if not values.hostname_lookup:
        return ip
    try:
        return socket.gethostbyaddr(ip)[0]
    except OSError:
        return socket.gethostname()


def attributes_of(values: Values) -> tuple[Attribute, ...]:
    """What the flag says about this host."""
    if values.attributes is None:
        return ()
    try:
        return attributes.parse(values.attributes)
    except ConfigError as error:
        raise ConfigError(f"--attributes: {error}; expected name:value;name:value") from error


def resources_of(values: Values, work_dir: Path) -> tuple[Resource, ...]:
    """What the flag says, completed by what the host has of cpus, mem, disk and ports."""
    said = values.resources if values.resources is not None else ""
    try:
        told = text.parse(said, values.default_role)
    except ConfigError as error:
        raise ConfigError(f"--resources: {error}") from error
    # A zero is left out by the parser, but saying it keeps the detected amount out.
    named = {resource.name for resource in told.to_wire()} | _zeros(said)
    found = Resources.of(())
    for name, detected in _detected(work_dir).items():
        if name not in named:
            found = found + detected
    return (told + found).to_wire()


def _zeros(said: str) -> set[str]:
    names = {part.partition(":")[0].partition("(")[0].strip() for part in said.split(";")}
    return names & {"cpus", "mem", "disk", "ports"}


def _detected(work_dir: Path) -> dict[str, Resources]:
    cpus = os.cpu_count()
    status = os.statvfs(work_dir)
    mem_mib = psutil.virtual_memory().total / 2**20
    disk_mib = status.f_frsize * status.f_blocks / 2**20
    found = {
        "cpus": Resources.scalars(cpus=cpus if cpus is not None else 1),
        "mem": Resources.scalars(mem=int(share(mem_mib, 1 * _GIB))),
        "disk": Resources.scalars(disk=int(share(disk_mib, 5 * _GIB))),
        "ports": Resources.ports(_PORTS),
    }
    return {name: resources for name, resources in found.items() if resources}


def share(total_mib: float, kept_mib: float) -> float:
    """What tasks get of an amount: all but `kept_mib`, or half if there is less than twice that."""
    return total_mib - kept_mib if total_mib >= 2 * kept_mib else total_mib / 2


def domain_of(values: Values) -> DomainInfo | None:
    """Region and zone."""
    if values.domain is None:
        return None
    try:
        return decode_json(values.domain, DomainInfo)
    except ValueError as error:
        raise ConfigError(
            f'--domain: {error}; expected {{"fault_domain":{{"region":{{"name":…}},"zone":…}}}}'
        ) from error


def containerizers_of(values: Values) -> tuple[str, ...]:
    """Known containerizers in the order in which they are asked."""
    names = tuple(part.strip() for part in values.containerizers.split(",") if part.strip())
    unknown = [name for name in names if name not in {"mesos", "docker"}]
    if unknown or not names:
        raise ConfigError(f"--containerizers: {', '.join(unknown) or 'empty'}; known: mesos,docker")
    return names


def isolation_of(values: Values) -> Isolation:
    """What the flags ask for; raises ConfigError naming the flag and the remedy.

    Blocks: each kind of namespace that is asked for is tried.
    """
    found = Isolation(
        may_share_pid=not values.disallow_sharing_agent_pid_namespace,
        may_share_ipc=not values.disallow_sharing_agent_ipc_namespace,
        shm_mib=values.default_container_shm_size,
        container=_default_container(values.default_container_info),
    )
    if not values.is_set("isolation"):
        return found
    names = isolation.names_of(values.isolation)
    wanted = {name: kind for name, kind in isolation.NAMESPACES.items() if name in names}
    if wanted:
        _require_namespaces(values, wanted)
    return msgspec.structs.replace(
        found,
        namespaces=frozenset(wanted.values()),
        limits=frozenset(kind for name, kind in isolation.LIMITING.items() if name in names),
        no_new_privileges=isolation.NO_NEW_PRIVILEGES in names,
    )


def _require_namespaces(values: Values, wanted: Mapping[str, str]) -> None:
    said = f"--isolation={','.join(sorted(wanted))}"
    if os.geteuid() != 0:
        raise ConfigError(f"{said} needs an agent that runs as root")
    if values.launcher == "posix":
        raise ConfigError(f"{said} needs --launcher=linux")
    for kind in sorted({*wanted.values(), "mnt"}):
        why = why_impossible(kind)
        if why is not None:
            raise ConfigError(f"{said}: this host refuses it: {why}; leave it out")


def why_impossible(kind: str) -> str | None:
    """Why a process of this host can have no namespace of that kind; None if it can. Blocks."""
    package = str(Path(mesostk.__file__).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", _ATTEMPT, package, kind]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_ATTEMPT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip()


def _default_container(text: str | None) -> ContainerInfo | None:
    if text is None:
        return None
    try:
        container = decode_json(text, ContainerInfo)
    except ValueError as error:
        raise ConfigError(
            f'--default_container_info: {error}; expected {{"type":"MESOS","volumes":[…]}}'
        ) from error
    if container.type != "MESOS":
        raise ConfigError("--default_container_info: 'type' must be MESOS")
    return container


def base_env(values: Values, environ: Mapping[str, str]) -> dict[str, str]:
    """What every task inherits: the flag's map, or this process's environment without its own
    settings. Source: spec §8.3.
    """
    if values.executor_environment_variables is not None:
        try:
            told = decode_json(values.executor_environment_variables, dict[str, str])
        except ValueError as error:
            raise ConfigError(
                f'--executor_environment_variables: {error}; expected {{"NAME":"value"}}'
            ) from error
        return {"PATH": DEFAULT_PATH, **told}
    own = ("MESOS_", "LIBPROCESS_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "INVOCATION_ID")
    return {name: value for name, value in environ.items() if not name.startswith(own)}


def why_incompatible(was: AgentInfo, now: AgentInfo, policy: str) -> str | None:
    """Why an agent may not go on under its old id; None if it may. Source: spec §8.6."""
    for field in ("hostname", "port", "domain"):
        before, after = getattr(was, field), getattr(now, field)
        if before != after:
            return f"{field} changed from {before} to {after}"
    old, new = Resources.of(was.resources), Resources.of(now.resources)
    if policy == "equal":
        if old != new:
            return f"resources changed from {old} to {new}"
        if set(was.attributes) != set(now.attributes):
            return "attributes changed"
        return None
    if not new.contains(old):
        return f"resources shrank from {old} to {new}"
    if not set(was.attributes) <= set(now.attributes):
        return "attributes were removed or changed"
    return None
