"""`DockerInfo.parameters`: options of `docker run`, as keys of the engine's create call. Pure.

::

    {"key": "cap-add", "value": "NET_ADMIN"} ─▶ OPTIONS["cap-add"] ─▶ body["HostConfig"]["CapAdd"]

What the agent must decide itself, what only the command line client does, and what is unknown is
refused with the option's name and the reason. Source: Docker Engine API, `POST /containers/create`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mesostk.base.units import size_bytes
from mesostk.errors import MesostkError
from mesostk.wire.mesos import Parameter

Body = dict[str, Any]
Edit = Callable[[Body, str], None]

#: Log drivers that the engine reads back; from others the sandbox would get nothing.
READABLE_LOG_DRIVERS = ("json-file", "local", "journald")


class BadContainer(MesostkError):
    """A container cannot be made as asked for; the message names the field and the reason."""


def apply(body: Body, parameters: Iterable[Parameter]) -> None:
    """Put `parameters` into `body`, in order; raises BadContainer."""
    for parameter in parameters:
        key, value = parameter.key.lstrip("-"), parameter.value
        if key in REFUSED:
            raise BadContainer(f"parameter '{key}' cannot be used: {REFUSED[key]}")
        edit = OPTIONS.get(key)
        if edit is None:
            raise BadContainer(
                f"parameter '{key}' is no option of 'docker run' that this agent knows; "
                "give the long name without dashes, as in 'cap-add'"
            )
        try:
            edit(body, value)
        except ValueError as error:
            raise BadContainer(f"parameter '{key}': {error}") from error


# -- kinds of options -----------------------------------------------------------------------------


def _host(body: Body) -> Body:
    config: Body = body.setdefault("HostConfig", {})
    return config


def _text(name: str) -> Edit:
    return lambda body, value: body.update({name: value})


def _host_text(name: str) -> Edit:
    return lambda body, value: _host(body).update({name: value})


def _host_number(name: str) -> Edit:
    return lambda body, value: _host(body).update({name: _whole(value)})


def _host_switch(name: str) -> Edit:
    return lambda body, value: _host(body).update({name: _switch(value)})


def _host_list(name: str) -> Edit:
    return lambda body, value: _host(body).setdefault(name, []).append(value)


def _host_map(name: str) -> Edit:
    def edit(body: Body, value: str) -> None:
        left, right = _pair(value)
        _host(body).setdefault(name, {})[left] = right

    return edit


def _host_bytes(name: str) -> Edit:
    return lambda body, value: _host(body).update({name: _bytes(value)})


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a whole number") from None


def _switch(text: str) -> bool:
    if text.lower() not in ("", "true", "1", "false", "0"):
        raise ValueError(f"'{text}' is neither true nor false")
    return text.lower() in ("", "true", "1")


def _pair(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not left or not equals:
        raise ValueError(f"'{text}' is not of the form name=value")
    return left, right


def _bytes(text: str) -> int:
    """Docker's sizes: a number with b, k, m or g; -1 means no limit."""
    if text == "-1":
        return -1
    lower = text.lower().removesuffix("b")
    for unit, name in (("k", "KB"), ("m", "MB"), ("g", "GB")):
        if lower.endswith(unit):
            return size_bytes(lower[:-1] + name)
    return size_bytes(lower + "B")


# -- options that need more than a name -----------------------------------------------------------


def _environment(body: Body, value: str) -> None:
    _pair(value)  # a name alone takes the value of the client's environment, which is not here
    body.setdefault("Env", []).append(value)


def _label(body: Body, value: str) -> None:
    left, _, right = value.partition("=")
    body.setdefault("Labels", {})[left] = right


def _entrypoint(body: Body, value: str) -> None:
    body["Entrypoint"] = [value]


def _volume(body: Body, value: str) -> None:
    if ":" in value:
        _host(body).setdefault("Binds", []).append(value)
    else:
        body.setdefault("Volumes", {})[value] = {}


def _tmpfs(body: Body, value: str) -> None:
    path, _, options = value.partition(":")
    _host(body).setdefault("Tmpfs", {})[path] = options


def _expose(body: Body, value: str) -> None:
    body.setdefault("ExposedPorts", {})[port_key(value)] = {}


def _publish(body: Body, value: str) -> None:
    """[[ip:]host:]container[/proto]"""
    whole, _, protocol = value.partition("/")
    *outside, inside = whole.rsplit(":", 2)
    key = port_key(f"{inside}/{protocol}" if protocol else inside)
    place = {"HostPort": str(_whole(outside[-1])) if outside and outside[-1] else ""}
    if len(outside) > 1:
        place["HostIp"] = outside[0].strip("[]")
    body.setdefault("ExposedPorts", {})[key] = {}
    _host(body).setdefault("PortBindings", {}).setdefault(key, []).append(place)


def port_key(text: str) -> str:
    """`80` or `53/UDP` as the engine names ports; raises ValueError."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"protocol '{protocol}' is not tcp, udp or sctp")
    if not 0 < _whole(number) < 65536:
        raise ValueError(f"{number} is not a port")
    return f"{int(number)}/{protocol}"


def _device(body: Body, value: str) -> None:
    """host[:container][:rwm]"""
    parts = value.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"'{value}' is not of the form /dev/x[:/dev/y[:rwm]]")
    rights = "rwm"
    if len(parts) > 1 and not parts[-1].startswith("/"):
        rights = parts.pop()
    inside = parts[1] if len(parts) > 1 else parts[0]
    device = {
        "PathOnHost": parts[0],
        "PathInContainer": inside,
        "CgroupPermissions": rights,
    }
    _host(body).setdefault("Devices", []).append(device)


def _ulimit(body: Body, value: str) -> None:
    name, numbers = _pair(value)
    soft, _, hard = numbers.partition(":")
    limit = {"Name": name, "Soft": _whole(soft), "Hard": _whole(hard or soft)}
    _host(body).setdefault("Ulimits", []).append(limit)


def _cpus(body: Body, value: str) -> None:
    try:
        nano = round(float(value) * 1e9)
    except (ValueError, OverflowError):
        raise ValueError(f"'{value}' is not a number of cpus") from None
    host = _host(body)
    # The engine takes one or the other; what the operator names wins over the task's own.
    host.pop("CpuQuota", None)
    host.pop("CpuPeriod", None)
    host["NanoCpus"] = nano


def _log_driver(body: Body, value: str) -> None:
    if value not in READABLE_LOG_DRIVERS:
        known = ", ".join(READABLE_LOG_DRIVERS)
        raise ValueError(f"the sandbox is filled from what the engine can read back: use {known}")
    _host(body)["LogConfig"] = {**_host(body).get("LogConfig", {}), "Type": value}


def _log_option(body: Body, value: str) -> None:
    name, text = _pair(value)
    _host(body).setdefault("LogConfig", {}).setdefault("Config", {})[name] = text


def _network(body: Body, value: str) -> None:
    _host(body)["NetworkMode"] = value


def _endpoint(name: str) -> Edit:
    def edit(body: Body, value: str) -> None:
        if name == "Aliases":
            _endpoint_of(body).setdefault("Aliases", []).append(value)
        else:
            _endpoint_of(body).setdefault("IPAMConfig", {})[name] = value

    return edit


def _endpoint_of(body: Body) -> Body:
    """Settings at the container's network; the name of that is filled in at the end."""
    endpoint: Body = body.setdefault("NetworkingConfig", {}).setdefault("EndpointsConfig", {})
    inner: Body = endpoint.setdefault("", {})
    return inner


def name_endpoint(body: Body) -> None:
    """Give the endpoint's settings the network that all parameters together have named."""
    networks: Body = body.get("NetworkingConfig", {}).get("EndpointsConfig", {})
    if "" in networks:
        networks[body["HostConfig"]["NetworkMode"]] = networks.pop("")


OPTIONS: dict[str, Edit] = {
    "add-host": _host_list("ExtraHosts"),
    "blkio-weight": _host_number("BlkioWeight"),
    "cap-add": _host_list("CapAdd"),
    "cap-drop": _host_list("CapDrop"),
    "cgroup-parent": _host_text("CgroupParent"),
    "cgroupns": _host_text("CgroupnsMode"),
    "cpu-period": _host_number("CpuPeriod"),
    "cpu-quota": _host_number("CpuQuota"),
    "cpu-rt-period": _host_number("CpuRealtimePeriod"),
    "cpu-rt-runtime": _host_number("CpuRealtimeRuntime"),
    "cpu-shares": _host_number("CpuShares"),
    "cpus": _cpus,
    "cpuset-cpus": _host_text("CpusetCpus"),
    "cpuset-mems": _host_text("CpusetMems"),
    "device": _device,
    "device-cgroup-rule": _host_list("DeviceCgroupRules"),
    "dns": _host_list("Dns"),
    "dns-opt": _host_list("DnsOptions"),
    "dns-option": _host_list("DnsOptions"),
    "dns-search": _host_list("DnsSearch"),
    "domainname": _text("Domainname"),
    "entrypoint": _entrypoint,
    "env": _environment,
    "expose": _expose,
    "group-add": _host_list("GroupAdd"),
    "hostname": _text("Hostname"),
    "init": _host_switch("Init"),
    "ip": _endpoint("IPv4Address"),
    "ip6": _endpoint("IPv6Address"),
    "ipc": _host_text("IpcMode"),
    "isolation": _host_text("Isolation"),
    "label": _label,
    "link": _host_list("Links"),
    "log-driver": _log_driver,
    "log-opt": _log_option,
    "mac-address": _text("MacAddress"),
    "memory": _host_bytes("Memory"),
    "memory-reservation": _host_bytes("MemoryReservation"),
    "memory-swap": _host_bytes("MemorySwap"),
    "memory-swappiness": _host_number("MemorySwappiness"),
    "net": _network,
    "net-alias": _endpoint("Aliases"),
    "network": _network,
    "network-alias": _endpoint("Aliases"),
    "oom-kill-disable": _host_switch("OomKillDisable"),
    "oom-score-adj": _host_number("OomScoreAdj"),
    "pid": _host_text("PidMode"),
    "pids-limit": _host_number("PidsLimit"),
    "privileged": _host_switch("Privileged"),
    "publish": _publish,
    "publish-all": _host_switch("PublishAllPorts"),
    "read-only": _host_switch("ReadonlyRootfs"),
    "runtime": _host_text("Runtime"),
    "security-opt": _host_list("SecurityOpt"),
    "shm-size": _host_bytes("ShmSize"),
    "stop-signal": _text("StopSignal"),
    "storage-opt": _host_map("StorageOpt"),
    "sysctl": _host_map("Sysctls"),
    "tmpfs": _tmpfs,
    "ulimit": _ulimit,
    "user": _text("User"),
    "userns": _host_text("UsernsMode"),
    "uts": _host_text("UTSMode"),
    "volume": _volume,
    "volume-driver": _host_text("VolumeDriver"),
    "volumes-from": _host_list("VolumesFrom"),
    "workdir": _text("WorkingDir"),
}

_OF_THE_CLIENT = "the command line client does it, and there is none here"
_OF_THE_AGENT = "the agent must find, see the end of and remove the container itself"
_HEALTH = "give the task a health check, which the framework hears of"

REFUSED: dict[str, str] = {
    "attach": _OF_THE_CLIENT,
    "cidfile": _OF_THE_CLIENT,
    "detach": _OF_THE_CLIENT,
    "detach-keys": _OF_THE_CLIENT,
    "disable-content-trust": _OF_THE_CLIENT,
    "env-file": f"{_OF_THE_CLIENT}; put the variables into the command's environment",
    "label-file": f"{_OF_THE_CLIENT}; give each label",
    "interactive": "a task has no input",
    "tty": "a terminal mixes stdout and stderr, which the sandbox keeps apart",
    "name": _OF_THE_AGENT,
    "restart": f"{_OF_THE_AGENT}; the framework starts a task again",
    "rm": _OF_THE_AGENT,
    "sig-proxy": _OF_THE_CLIENT,
    "stop-timeout": "give the task a kill_policy with a grace_period",
    "pull": "use force_pull_image",
    "platform": "the engine runs images of its own platform",
    "health-cmd": _HEALTH,
    "health-interval": _HEALTH,
    "health-retries": _HEALTH,
    "health-start-period": _HEALTH,
    "health-timeout": _HEALTH,
    "no-healthcheck": _HEALTH,
    "gpus": "this agent offers no GPUs",
    "mount": "use 'volume', or the container's volumes",
}
