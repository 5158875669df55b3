"""Lab hosts as systemd containers on a bridge with the tutorial's addresses.

What a lab owns in the engine carries the label `mesostk.lab=<name>`; nothing else is touched.
Each method looks first and changes only what differs, so that `up` is also the repair.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import docker
import docker.errors
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import EndpointConfig, IPAMConfig, IPAMPool

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops import engine, inventory, lab, lab_image, lab_registry, paths
from mesostk.ops.lab import LABEL, Endpoints, Host, HostState, HostStatus, LabSpec
from mesostk.ops.progress import Progress
from mesostk.ops.ssh_keys import SshIdentity

T = TypeVar("T")

_SETTINGS_LABEL = "mesostk.lab.settings"
_API = "1.41"  # Docker 20.10, the oldest that is used: it has private cgroup namespaces
#: systemd mounts file systems, changes its network and looks into other processes. Named one by
#: one, because `--privileged` would also hand over the machine's devices.
_CAPABILITIES = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"]
_SECURITY = ["seccomp=unconfined", "apparmor=unconfined"]
_TMPFS = {"/run": "exec", "/run/lock": ""}
#: Four starts in flight were the best rate; more only queue in the engine.
_IN_FLIGHT = 4
#: For what hangs: six hosts took 4 s on an idle machine, and a minute on a busy one.
_BOOT_LIMIT_S = 300.0
_STOP_LIMIT_S = 20
_CGROUPS = Path("/sys/fs/cgroup")


class DockerLab:
    """A lab whose hosts are containers; see `lab.Lab` for the methods."""

    def __init__(self, spec: LabSpec, state_dir: Path) -> None:
        self.spec = spec
        self.state_dir = state_dir
        self.ssh = SshIdentity(state_dir / "ssh")
        self._client: docker.DockerClient | None = None

    @property
    def inventory_path(self) -> Path:
        """The inventory that `up` writes."""
        return self.state_dir / "inventory" / "hosts.yml"

    @property
    def network_name(self) -> str:
        """Name of the engine's network and of its bridge interface."""
        return f"mesostk-{self.spec.name}"

    def container_name(self, host: Host) -> str:
        """Name of a host's container."""
        return f"{self.spec.name}-{host.name}"

    def _volume_name(self, host: Host) -> str:
        return f"{self.spec.name}-{host.name}-docker"

    def _engine(self) -> docker.DockerClient:
        if self._client is None:
            self._client = engine.connect()
        return self._client

    # up

    @engine.talking()
    def up(self, progress: Progress) -> None:
        """Make or repair the hosts until each answers by SSH, then write the inventory."""
        with lab.changing(self.state_dir):
            self._up(progress)

    def _up(self, progress: Progress, only: Sequence[Host] | None = None) -> None:
        hosts = self.spec.hosts() if only is None else only
        self._client = engine.ensure_engine(progress)
        lab.save_spec(self.state_dir, self.spec)
        self.ssh.ensure(self.spec.hosts())
        progress.step("Looking for the host image")
        # beside the labs, since all of them share the image
        image = lab_image.ensure_image(
            self._client, self.spec.release, progress, self.state_dir.parent
        )
        progress.step(f"Preparing the network {self.spec.network()}")
        network = self._ensure_network()
        if change := lab_registry.ensure(self._client, self.spec, image, self.network_name):
            progress.detail(f"image registry {lab_registry.url(self.spec)}: {change}")
        progress.step(f"Starting {len(hosts)} hosts")
        changes = _in_parallel(hosts, lambda host: self._ensure_host(host, image, network))
        for host, change in zip(hosts, changes, strict=True):
            if change:
                progress.detail(f"{host.name}: {change}")
        progress.step("Waiting for the hosts to answer by SSH")
        deadline = time.monotonic() + _BOOT_LIMIT_S
        _in_parallel(hosts, lambda host: self._wait_ready(host, deadline))
        lab_registry.wait(self.spec)
        self._write_inventory(self.spec.hosts())
        progress.done(f"{len(hosts)} hosts are up; inventory: {self.inventory_path}")

    @engine.talking()
    def reshape(self, spec: LabSpec, progress: Progress, joining: str = "") -> None:
        """Become `spec`: make the hosts that are new in it, take away those that are not.

        Host `joining` is made or repaired even if it is in the spec already, as `up` does.
        """
        with lab.changing(self.state_dir):
            before, after = self.spec.hosts(), spec.hosts()
            for host in before:
                if host not in after:
                    self._remove_host(host)
                    progress.detail(f"{host.name}: removed")
            self.spec = spec
            # A host that is off stays off: it may be the one that is replaced.
            fresh = [host for host in after if host not in before or host.name == joining]
            self._up(progress, fresh)

    def _remove_host(self, host: Host) -> None:
        container = self._find(host)
        if container is not None and container.labels.get(LABEL) == self.spec.name:
            container.remove(force=True)
            remove_cgroups([str(container.id)])
        for volume in self._engine().volumes.list(filters={"name": self._volume_name(host)}):
            volume.remove(force=True)

    def endpoints(self) -> Endpoints:
        """Where the daemons listen once `site.yml` has run."""
        return lab.host_endpoints(self.spec)

    def _write_inventory(self, hosts: Sequence[Host]) -> None:
        key, known = self.ssh.key.resolve(), self.ssh.known_hosts.resolve()
        group_vars = paths.data_root() / "inventory" / self.spec.topology / "group_vars"
        mirrors = {"docker_registry_mirrors": [lab_registry.url(self.spec)]}
        variables = {**inventory.ssh_variables(key, known), **mirrors}
        inventory.write_inventory(self.inventory_path.parent, hosts, variables, group_vars)

    def _ensure_network(self) -> Network:
        client = self._engine()
        wanted = self.spec.network()
        networks = client.networks.list()
        for network in networks:
            if network.name == self.network_name:
                if _subnets(network) == [wanted]:
                    return network
                raise ConfigError(
                    f"the Docker network {network.name} exists with other addresses "
                    f"({', '.join(map(str, _subnets(network)))}): "
                    f"`docker network rm {network.name}` and try again"
                )
        taken = {str(network.name): _subnets(network) for network in networks}
        clash = why_subnet_clashes(wanted, taken, read_routes(Path("/proc/net/route").read_text()))
        if clash is not None:
            raise ConfigError(clash)
        return client.networks.create(
            self.network_name,
            driver="bridge",
            internal=self.spec.isolated,
            options={"com.docker.network.bridge.name": self.network_name},
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(wanted))]),
            labels={LABEL: self.spec.name},
        )

    def _settings(self, host: Host) -> str:
        """Digest of all that is given to a container at its creation, apart from the image."""
        parts = [host.name, host.address, *_CAPABILITIES, *_SECURITY, *_TMPFS, *_TMPFS.values()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    def _ensure_host(self, host: Host, image: str, network: Network) -> str:
        """Make one host right; say what was done, nothing if nothing."""
        container = self._find(host)
        if container is not None and (why := self._why_remade(host, container)) is not None:
            container.remove(force=True)
            container = None
            change = f"made anew ({why})"
        else:
            change = "made"
        if container is None:
            container = self._create(host, image)
            container.start()
            return change
        return self._revive(host, container, network)

    def _why_remade(self, host: Host, container: Container) -> str | None:
        if container.labels.get(LABEL) != self.spec.name:
            raise ConfigError(
                f"a container named {container.name} exists that is not this lab's: "
                f"`docker rename {container.name} OTHER`, or use another --name for the lab"
            )
        if container.status in ("created", "dead", "removing"):
            return "its creation had been interrupted"
        if container.labels.get(_SETTINGS_LABEL) != self._settings(host):
            return "its settings were out of date"
        return None

    def _revive(self, host: Host, container: Container, network: Network) -> str:
        done = []
        endpoint = container.attrs["NetworkSettings"]["Networks"].get(self.network_name)
        if endpoint is None or endpoint["NetworkID"] not in ("", network.id):
            # a container keeps the id of a network that was removed and made again
            if endpoint is not None:
                network.disconnect(container, force=True)
            network.connect(container, ipv4_address=host.address, aliases=[host.name])
            done.append("connected")
        if container.status == "paused":
            container.unpause()
            done.append("resumed")
        elif container.status != "running":
            container.start()
            done.append("started")
        elif not done and self._is_partitioned(host, container):
            self._exec(container, self._on_link(host, _HEAL))
            done.append("connected")
        return ", ".join(done)

    def _create(self, host: Host, image: str) -> Container:
        labels = {LABEL: self.spec.name}
        volume = self._volume_name(host)
        self._engine().volumes.create(volume, labels=labels)
        container = self._engine().containers.create(
            image,
            name=self.container_name(host),
            hostname=host.name,
            cap_add=_CAPABILITIES,
            security_opt=_SECURITY,
            tmpfs=_TMPFS,
            cgroupns="private",
            stop_signal="SIGRTMIN+3",  # systemd's "halt"; it ignores SIGTERM
            # an engine in the host cannot put overlay2 on the host's own overlay
            volumes={volume: {"bind": "/var/lib/docker", "mode": "rw"}},
            labels={**labels, _SETTINGS_LABEL: self._settings(host)},
            network=self.network_name,
            networking_config={
                self.network_name: EndpointConfig(
                    _API, aliases=[host.name], ipv4_address=host.address
                )
            },
        )
        container.put_archive("/", self.ssh.archive(host))
        return container

    def _wait_ready(self, host: Host, deadline: float) -> None:
        renewed = False
        while True:
            reason = self.ssh.why_unreachable(host)
            if reason is None:
                return
            container = self._find(host)
            if container is None or container.status != "running":
                raise Unavailable(self._why_not_ready(host, reason))
            if not renewed and ("Permission denied" in reason or "verification failed" in reason):
                # the state directory was lost or changed since the host was made
                container.put_archive("/", self.ssh.archive(host))
                self._exec(container, "systemctl restart ssh")
                renewed = True
            if time.monotonic() > deadline:
                raise Unavailable(self._why_not_ready(host, reason))
            time.sleep(0.3)

    def _why_not_ready(self, host: Host, reason: str) -> str:
        name = self.container_name(host)
        container = self._find(host)
        state = "gone" if container is None else container.status
        tail = "" if container is None else container.logs(tail=10).decode(errors="replace")
        return (
            f"{host.name} ({host.address}) does not answer by SSH: {reason}\n"
            f"its container {name} is {state}; the end of its output:\n{tail}"
            f"Look at `docker logs {name}` and `docker exec {name} systemctl --failed`"
        )

    # down

    @engine.talking()
    def has_remains(self) -> bool:
        """Whether a running engine has containers or networks of this lab."""
        try:
            client = self._engine()
        except Unavailable:
            return False
        mine = self._mine()
        return bool(
            client.containers.list(all=True, filters=mine) or client.networks.list(filters=mine)
        )

    def _mine(self) -> dict[str, str | list[str] | bool]:
        return {"label": f"{LABEL}={self.spec.name}"}

    @engine.talking()
    def down(self, progress: Progress, *, purge: bool) -> None:
        """Remove containers, network, volumes, keys and left-over cgroups; `purge`: images too."""
        with lab.changing(self.state_dir):
            self._down(progress, purge=purge)

    def _down(self, progress: Progress, *, purge: bool) -> None:
        progress.step(f"Removing the hosts of lab {self.spec.name}")
        client = self._client = engine.ensure_engine(progress)
        mine = self._mine()
        containers = client.containers.list(all=True, filters=mine)
        _in_parallel(containers, lambda container: container.remove(force=True, v=True))
        remove_cgroups([str(container.id) for container in containers])
        for network in client.networks.list(filters=mine):
            network.remove()
        for volume in client.volumes.list(filters=mine):
            volume.remove(force=True)
        if purge:
            progress.step("Removing host images")
            for tag in lab_image.remove_images(client):
                progress.detail(tag)
        lab.forget(self.state_dir)
        progress.done(f"lab {self.spec.name} is gone")

    # one host

    @engine.talking()
    def status(self) -> list[HostStatus]:
        """What each host is; raises Unavailable if the engine does not answer."""
        return _in_parallel(self.spec.hosts(), self._status_of)

    def _status_of(self, host: Host) -> HostStatus:
        container = self._find(host)
        state: HostState
        if container is None:
            state, detail = "missing", "`mesostk lab up` makes it"
        elif container.status == "running":
            image = lab_image.image_name(self.spec.release)
            old = image not in container.image.tags if container.image else True
            state = "partitioned" if self._is_partitioned(host, container) else "running"
            detail = "made from an older image" if old else ""
        elif container.status == "exited":
            state, detail = "stopped", ""
        elif container.status == "paused":
            state, detail = "paused", ""
        else:
            state, detail = "broken", f"container is {container.status}; `mesostk lab up` repairs"
        return HostStatus(host=host, state=state, detail=detail)

    @engine.talking()
    def stop(self, host: str) -> None:
        """Kill the host's processes at once, as a power button does."""
        self._get(host).kill(signal="SIGKILL")

    @engine.talking()
    def start(self, host: str) -> None:
        """Boot the host and wait until it answers."""
        self._get(host).start()
        self._wait_ready(lab.named(self.spec, host), time.monotonic() + _BOOT_LIMIT_S)

    @engine.talking()
    def pause(self, host: str) -> None:
        """Freeze all processes of the host; to themselves no time passes until `heal`."""
        self._get(host).pause()

    @engine.talking()
    def partition(self, host: str) -> None:
        """Take the host's network link down; processes and addresses stay."""
        command = self._on_link(lab.named(self.spec, host), "ip link set $link down")
        self._exec(self._get(host), command)

    @engine.talking()
    def heal(self, host: str) -> None:
        """Take the link up again, with the default route that went with it; thaw what is frozen."""
        container = self._get(host)
        if container.status == "paused":
            container.unpause()
        command = self._on_link(lab.named(self.spec, host), _HEAL)
        self._exec(container, command)

    def _on_link(self, host: Host, command: str) -> str:
        """`command` with $link, the interface that has the host's address, and $gateway."""
        # a host that was connected anew may have its address on another interface than eth0
        find = f"link=$(ip -o -4 addr show to {host.address} | awk '{{ print $2 }}')"
        gateway = self.spec.network().network_address + 1
        return f'{find}; gateway={gateway}; test -n "$link" && {command}'

    def _is_partitioned(self, host: Host, container: Container) -> bool:
        flags = self._exec(container, self._on_link(host, "cat /sys/class/net/$link/flags"))
        return not int(flags, 16) & 1  # IFF_UP

    def _exec(self, container: Container, command: str) -> str:
        code, output = container.exec_run(["sh", "-c", command])
        text = (output if isinstance(output, bytes) else b"".join(output)).decode().strip()
        if code != 0:
            raise Unavailable(f"{container.name}: `{command}` failed: {text}")
        return text

    def _find(self, host: Host) -> Container | None:
        try:
            return self._engine().containers.get(self.container_name(host))
        except docker.errors.NotFound:
            return None

    def _get(self, name: str) -> Container:
        host = lab.named(self.spec, name)
        container = self._find(host)
        if container is None or container.labels.get(LABEL) != self.spec.name:
            raise Unavailable(f"{name} is missing; `mesostk lab up` makes it")
        return container


_HEAL = "ip link set $link up && ip route replace default via $gateway"


def _in_parallel(items: Iterable[Host] | Iterable[Container], work: Callable[..., T]) -> list[T]:
    """`work` on each item, results in order; the first error is raised when all have ended."""
    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        return list(pool.map(work, items))


def _subnets(network: Network) -> list[ipaddress.IPv4Network]:
    configs = (network.attrs.get("IPAM") or {}).get("Config") or []
    texts = [config["Subnet"] for config in configs if ":" not in config.get("Subnet", ":")]
    return [ipaddress.IPv4Network(text) for text in texts]


def read_routes(text: str) -> list[tuple[str, ipaddress.IPv4Network]]:
    """(interface, network) of each line of /proc/net/route but default routes."""
    routes = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[n]), "little") for n in (1, 7))
        if mask:
            routes.append((fields[0], ipaddress.IPv4Network((address, mask.bit_count()))))
    return routes


def why_subnet_clashes(
    wanted: ipaddress.IPv4Network,
    networks: dict[str, list[ipaddress.IPv4Network]],
    routes: Sequence[tuple[str, ipaddress.IPv4Network]],
) -> str | None:
    """What else uses addresses of `wanted`, with the remedy; None if nothing does.

    `networks` are the engine's, by name; `routes` the machine's, by interface.
    """
    elsewhere = "or choose other addresses with `--subnet 10.9.3.0/24`"
    for name, subnets in networks.items():
        for subnet in subnets:
            if subnet.overlaps(wanted):
                return (
                    f"the Docker network {name} ({subnet}) overlaps the lab's {wanted}: "
                    f"remove it (`docker network rm {name}`) {elsewhere}"
                )
    for interface, route in routes:
        if route.overlaps(wanted):
            return (
                f"this machine has a route to {route} on {interface}, which overlaps the lab's "
                f"{wanted}: take it away (`ip route del {route} dev {interface}`; "
                f"lxcbr0 belongs to LXC: `systemctl stop lxc-net`) {elsewhere}"
            )
    return None


def remove_cgroups(container_ids: Sequence[str], root: Path = _CGROUPS) -> list[Path]:
    """Remove the empty groups that systemd left in the containers' trees; return those.

    The engine removes a container's own group, but not groups made below it. Groups that still
    hold processes, or that this user may not remove, stay.
    """
    removed = []
    for container_id in container_ids:
        for top in [*root.glob(f"*/docker/{container_id}"), *root.glob(f"docker/{container_id}")]:
            below = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
            for group in [*below, top]:
                try:
                    group.rmdir()
                except OSError:
                    break
                removed.append(group)
    return removed
