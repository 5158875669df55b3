"""Labs: whole clusters on one machine, as records; and the two kinds of making them.

A lab is a name, a driver and a number of hosts. Its state directory holds all that it made outside
an engine: SSH keys, known hosts, inventory, logs, pid files.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops import paths, zookeeper
from mesostk.ops.progress import Progress

DriverName = Literal["docker", "local", "vagrant"]
Release = Literal["bookworm", "trixie"]
#: `lab`: names and load balancing beside the masters; `tutorial`: on two hosts of their own.
Topology = Literal["lab", "tutorial"]
HostState = Literal["running", "stopped", "missing", "partitioned", "paused", "broken"]

#: The tutorial numbers masters from .11 and agents from .51.
_FIRST_MASTER, _FIRST_AGENT, _MAX_MASTERS, _MAX_AGENTS = 11, 51, 7, 9
_DNS, _BALANCER = 60, 61
#: Label of what a lab owns in an engine; its value is the lab's name.
LABEL = "mesostk.lab"
DEFAULT_SUBNETS: dict[DriverName, str] = {
    "docker": "10.0.3.0/24",
    "local": "127.0.3.0/24",
    "vagrant": "10.0.3.0/24",
}
MASTER_GROUPS = ("zookeeper", "mesos_masters", "marathon")
AGENT_GROUPS = ("mesos_agents",)
EDGE_GROUPS = ("mesos_dns", "marathon_lb")


class Host(msgspec.Struct, frozen=True):
    """One host of a lab: name, IPv4 address, Ansible groups."""

    name: str
    address: str
    groups: tuple[str, ...]
    #: Its number in ZooKeeper, which it keeps whoever comes and goes; 0 for who is no member.
    zookeeper_id: int = 0

    @property
    def is_master(self) -> bool:
        """Whether masters and Marathon run there."""
        return "mesos_masters" in self.groups

    @property
    def is_agent(self) -> bool:
        """Whether tasks run there."""
        return "mesos_agents" in self.groups


class LabSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a lab should be."""

    driver: DriverName
    name: str = "lab"
    masters: int = 3
    agents: int = 3
    subnet: str = ""  # empty: the driver's default
    release: Release = "bookworm"  # Debian of container hosts
    isolated: bool = False  # container hosts reach each other and this machine, nothing else
    topology: Topology = "lab"
    added: tuple[Host, ...] = ()  # by `node add` and `node replace`
    removed: tuple[str, ...] = ()  # by `node remove` and `node replace`

    def hosts(self) -> tuple[Host, ...]:
        """Masters, agents, then the rest, with the tutorial's names and last octets; as changed."""
        left = [host for host in self._first_hosts() if host.name not in self.removed]
        return (*left, *self.added)

    def _first_hosts(self) -> tuple[Host, ...]:
        base = self.network().network_address
        apart = self.topology == "tutorial"
        groups = MASTER_GROUPS if apart else MASTER_GROUPS + EDGE_GROUPS
        masters = (
            Host(f"mesos-master{n + 1}", str(base + _FIRST_MASTER + n), groups, n + 1)
            for n in range(self.masters)
        )
        agents = (
            Host(f"mesos-slave{n + 1}", str(base + _FIRST_AGENT + n), AGENT_GROUPS)
            for n in range(self.agents)
        )
        edge = (
            Host("mesos-dns", str(base + _DNS), ("mesos_dns",)),
            Host("mesos-lb", str(base + _BALANCER), ("marathon_lb",)),
        )
        return (*masters, *agents, *(edge if apart else ()))

    def in_group(self, group: str) -> list[Host]:
        """The hosts that have the role `group`."""
        return [host for host in self.hosts() if group in host.groups]

    def network(self) -> ipaddress.IPv4Network:
        """The hosts' network. Raises ConfigError if `subnet` is not one."""
        text = self.subnet or DEFAULT_SUBNETS[self.driver]
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as error:
            raise ConfigError(f"subnet: {error}; expected a network such as 10.0.3.0/24") from error
        if network.prefixlen > 26:
            raise ConfigError(f"subnet: {text} is too small for hosts .11 to .61; use a /24")
        return network


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one host is at now; `detail` is for people."""

    host: Host
    state: HostState
    detail: str = ""


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lab's daemons are reached: URLs without a path; `zookeeper` as `zk://host:port,…`."""

    masters: tuple[str, ...]
    marathons: tuple[str, ...]
    zookeeper: str | None = None
    dns: tuple[str, ...] = ()  # HTTP interfaces
    balancers: tuple[str, ...] = ()  # HTTP interfaces


def host_endpoints(spec: LabSpec) -> Endpoints:
    """Where the daemons listen on hosts that `site.yml` has provisioned."""
    masters = [host.address for host in spec.in_group("mesos_masters")]
    return Endpoints(
        masters=tuple(f"http://{address}:5050" for address in masters),
        marathons=tuple(f"http://{address}:8080" for address in masters),
        zookeeper="zk://" + ",".join(f"{address}:2181" for address in masters),
        dns=tuple(f"http://{host.address}:8123" for host in spec.in_group("mesos_dns")),
        balancers=tuple(f"http://{host.address}:9090" for host in spec.in_group("marathon_lb")),
    )


class Lab(Protocol):
    """What every driver offers. All methods block; they raise ConfigError or Unavailable."""

    spec: LabSpec
    state_dir: Path

    def up(self, progress: Progress) -> None:
        """Make what is missing, start what is stopped, leave alone what is right."""
        ...

    def down(self, progress: Progress, *, purge: bool) -> None:
        """Take away all that `up` made, also half of it; `purge` takes caches too."""
        ...

    def endpoints(self) -> Endpoints:
        """Where the daemons of a lab that is up are reached."""
        ...

    def status(self) -> list[HostStatus]:
        """One entry a host, in the order of `spec.hosts()`."""
        ...

    def stop(self, host: str) -> None:
        """Switch the host off as a power button does."""
        ...

    def start(self, host: str) -> None:
        """Switch it on again."""
        ...

    def pause(self, host: str) -> None:
        """Hold all that runs on the host where it is, until it is healed."""
        ...

    def partition(self, host: str) -> None:
        """Cut the host off the network; what runs there goes on."""
        ...

    def heal(self, host: str) -> None:
        """Connect it again, and let it go on."""
        ...


def default_masters(driver: DriverName) -> int:
    """3, as the tutorial; 1 for a local lab on a machine without ZooKeeper."""
    if driver == "local" and zookeeper.zookeeper_missing() is not None:
        return 1
    return 3


def validate(spec: LabSpec) -> None:
    """Raise ConfigError, naming the field, if no lab can be made of `spec`."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,6}", spec.name):
        raise ConfigError(
            f"lab name {spec.name!r}: use a letter, then up to 6 of a-z, 0-9 and - "
            "(it becomes part of a network interface's name)"
        )
    if not 1 <= spec.masters <= _MAX_MASTERS or spec.masters % 2 == 0:
        raise ConfigError(
            f"masters: {spec.masters}; use 1, 3, 5 or 7: an even number tolerates no more failures "
            "than the odd one below it"
        )
    if not 1 <= spec.agents <= _MAX_AGENTS:
        raise ConfigError(f"agents: {spec.agents}; use 1 to {_MAX_AGENTS}")
    if spec.driver != "docker" and (spec.isolated or spec.release != "bookworm"):
        raise ConfigError("isolated and release are for container hosts: use --driver docker")
    if spec.driver == "local" and spec.topology != "lab":
        raise ConfigError(
            f"topology: {spec.topology}; a local lab has no load balancer, whose ports would be "
            "the machine's own: use --driver docker"
        )
    spec.network()


def named(spec: LabSpec, name: str) -> Host:
    """The host called `name`. Raises ConfigError listing the hosts there are."""
    for host in spec.hosts():
        if host.name == name:
            return host
    known = ", ".join(host.name for host in spec.hosts())
    raise ConfigError(f"lab {spec.name!r} has no host {name!r}; it has {known}")


_NAME = re.compile(r"mesos-(master|slave)([1-9])")


def with_host(spec: LabSpec, name: str, old: str = "") -> LabSpec:
    """`spec` with one host more, which does what `old` does, or what its name says.

    Raises ConfigError if there is such a host, or no address for the name.
    """
    if name in [host.name for host in spec.hosts()]:
        return spec
    found = _NAME.fullmatch(name)
    if found is None or (found[1] == "master" and int(found[2]) > _MAX_MASTERS):
        raise ConfigError(
            f"host {name!r}: a lab's hosts are mesos-master1 to {_MAX_MASTERS} and "
            f"mesos-slave1 to {_MAX_AGENTS}, whose addresses follow from their names"
        )
    number = int(found[2])
    is_master = found[1] == "master"
    first = _FIRST_MASTER if is_master else _FIRST_AGENT
    address = str(spec.network().network_address + first + number - 1)
    if old:
        like = named(spec, old)
        host = Host(name, address, like.groups, like.zookeeper_id)
    elif is_master:
        masters = MASTER_GROUPS if spec.topology == "tutorial" else MASTER_GROUPS + EDGE_GROUPS
        taken = {one.zookeeper_id for one in spec.hosts()}
        free = next(one for one in range(1, 256) if one not in taken)
        host = Host(name, address, masters, free)
    else:
        host = Host(name, address, AGENT_GROUPS)
    removed = tuple(one for one in spec.removed if one != name)
    if host in msgspec.structs.replace(spec, removed=removed).hosts():
        return msgspec.structs.replace(spec, removed=removed)
    return msgspec.structs.replace(spec, added=(*spec.added, host))


def without_host(spec: LabSpec, name: str) -> LabSpec:
    """`spec` with one host less. Raises ConfigError if it has no such host."""
    named(spec, name)
    added = tuple(host for host in spec.added if host.name != name)
    first = name in [host.name for host in msgspec.structs.replace(spec, added=added).hosts()]
    removed = (*spec.removed, name) if first else spec.removed
    return msgspec.structs.replace(spec, added=added, removed=removed)


def why_not_changed(old: LabSpec, new: LabSpec) -> str | None:
    """Why lab `old` cannot become `new` in place, with the remedy; None if it can grow to it."""
    remedy = f"run `mesostk lab down --name {old.name}` first"
    if old.driver != new.driver:
        return f"lab {old.name!r} exists with driver {old.driver}; {remedy}"
    if old.network() != new.network():
        return f"lab {old.name!r} exists on {old.network()}; {remedy}"
    if (old.release, old.isolated) != (new.release, new.isolated):
        kind = "isolated " if old.isolated else ""
        return f"lab {old.name!r} exists with {kind}{old.release} hosts; {remedy}"
    if old.topology != new.topology:
        return f"lab {old.name!r} exists with topology {old.topology}; {remedy}"
    if old.masters != new.masters or new.agents < old.agents:
        return (
            f"lab {old.name!r} has {old.masters} masters and {old.agents} agents; "
            f"only agents can be added to it: {remedy}"
        )
    return None


def state_dir(name: str) -> Path:
    """Where the state of lab `name` is kept."""
    return paths.labs_dir() / name


def load_spec(directory: Path) -> LabSpec | None:
    """What `save_spec` wrote, None if there is no lab. Raises ConfigError if unreadable."""
    path = directory / "lab.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabSpec)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}; remove the directory if its lab is gone") from error


def save_spec(directory: Path, spec: LabSpec) -> None:
    """Remember `spec`, so that `status` and `down` need no arguments."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps(msgspec.to_builtins(spec), indent=2) + "\n"
    partial = directory / "lab.json.new"
    partial.write_text(text)
    partial.replace(directory / "lab.json")


@contextmanager
def changing(directory: Path) -> Iterator[None]:
    """Keep every other command from changing the same lab.

    Raises Unavailable if one is at it. The lock is the directory's own, so it leaves no file and
    ends with the process, however that ends.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"another command is changing lab {directory.name!r}: wait until it has ended"
            ) from error
        yield
    finally:
        os.close(handle)


def forget(directory: Path) -> None:
    """Remove the state directory, and the labs directory with the last of them."""
    shutil.rmtree(directory, ignore_errors=False) if directory.exists() else None
    if directory.parent.is_dir() and not any(directory.parent.iterdir()):
        directory.parent.rmdir()


def _docker(spec: LabSpec, directory: Path) -> Lab:
    from mesostk.ops.docker_lab import DockerLab  # noqa: PLC0415 # the SDK costs 200 ms

    return DockerLab(spec, directory)


def _local(spec: LabSpec, directory: Path) -> Lab:
    from mesostk.ops.local_lab import LocalLab  # noqa: PLC0415 # only what is needed

    return LocalLab(spec, directory)


def _vagrant(spec: LabSpec, directory: Path) -> Lab:
    from mesostk.ops.vagrant_lab import VagrantLab  # noqa: PLC0415 # only what is needed

    return VagrantLab(spec, directory)


_DRIVERS: dict[DriverName, Callable[[LabSpec, Path], Lab]] = {
    "docker": _docker,
    "local": _local,
    "vagrant": _vagrant,
}


def plan(spec: LabSpec) -> Lab:
    """The lab that `spec` describes, made or not.

    Raises ConfigError if `spec` is wrong or a lab of that name exists which cannot become it.
    """
    validate(spec)
    directory = state_dir(spec.name)
    existing = load_spec(directory)
    if existing is not None and (reason := why_not_changed(existing, spec)) is not None:
        raise ConfigError(reason)
    if existing is not None:
        spec = msgspec.structs.replace(spec, added=existing.added, removed=existing.removed)
    return _DRIVERS[spec.driver](spec, directory)


def existing(name: str = "lab") -> Lab:
    """The lab called `name` that was made earlier. Raises Unavailable if there is none."""
    directory = state_dir(name)
    spec = load_spec(directory)
    if spec is None:
        raise Unavailable(f"there is no lab {name!r}; `mesostk lab up` makes one")
    return _DRIVERS[spec.driver](spec, directory)


def to_remove(name: str = "lab") -> Lab | None:
    """The lab called `name`, also if its state is lost and only container hosts of it are left.

    None if there is nothing to remove.
    """
    directory = state_dir(name)
    if load_spec(directory) is None:
        from mesostk.ops.docker_lab import DockerLab  # noqa: PLC0415 # the SDK costs 200 ms

        spec = LabSpec(driver="docker", name=name)
        validate(spec)
        remains = DockerLab(spec, directory)
        return remains if remains.has_remains() else None
    return existing(name)
