"""From a task with a DOCKER container to the body of the engine's create call. Pure.

::

    TaskInfo ── container.docker ─▶ Image, HostConfig{NetworkMode, PortBindings, Privileged}
             ├─ container.mesos.image ─▶ the same, in network HOST: no other provisioner is here
             ├─ container.volumes ─▶ HostConfig{Binds, Mounts}, Volumes
             ├─ command           ─▶ Entrypoint, Cmd, Env
             ├─ resources, limits ─▶ HostConfig{CpuShares, CpuQuota, Memory, MemoryReservation}
             └─ docker.parameters ─▶ anything, last (docker_parameters.py)

Sources: spec §8.9; Docker Engine API, `POST /containers/create`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from mesostk.agent import docker_parameters
from mesostk.agent.docker_parameters import BadContainer, Body
from mesostk.wire.mesos import (
    CommandInfo,
    ContainerInfo,
    DockerInfo,
    Image,
    TaskInfo,
    Volume,
)

#: Least values that the engine and the kernel take. Source: spec §8.9.
MIN_CPU_SHARES = 2
MIN_MEMORY_BYTES = 32 << 20

SHARES_PER_CPU = 1024
CFS_PERIOD_US = 100_000
MIN_CFS_QUOTA_US = 1_000

_MIB = 1 << 20

#: Containers are called this, then their container id. Source: spec §8.9.
NAME_PREFIX = "mesos-"

#: Variables of a container that are shown to nobody, separated by commas.
SECRETS_LABEL = "mesostk.secrets"

_NETWORKS = {"HOST": "host", "BRIDGE": "bridge", "NONE": "none"}


class DockerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to create. `folders` are made first, relative to the sandbox or absolute; `inside` is
    where the container sees its sandbox.

    `body` is that of the create call, complete but for the label that names this agent, and for
    secrets. `user` is who the container runs as, by the ids that this host knows, and `home` where
    it starts; without them that is the image's, as it is where the image names a directory.
    """

    image: str
    force_pull: bool
    body: dict[str, Any]
    folders: tuple[str, ...] = ()
    inside: str = "/"
    user: str | None = None
    home: str | None = None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent adds: absolute path of the sandbox, where it appears inside, and variables."""

    sandbox: str
    inside: str
    env: dict[str, str]
    labels: dict[str, str]
    enable_cfs: bool = False
    #: Of the host, 0 if unknown.
    memory_bytes: int = 0
    #: Sandbox of the executor whose task it is; None for a task of no group.
    parent: str | None = None
    #: Persistent volumes: (directory, path below `inside`, read only).
    volumes: tuple[tuple[str, str, bool], ...] = ()


def name_of(container_id: str) -> str:
    """What the engine calls the container of a run."""
    return NAME_PREFIX + container_id


def is_for_engine(container: ContainerInfo | None) -> bool:
    """Whether the Docker engine runs it: a container of type DOCKER, or one with an image."""
    if container is None:
        return False
    return container.type == "DOCKER" or image_of(container) is not None


def image_of(container: ContainerInfo) -> Image | None:
    """The image of a container of type MESOS, which is run without a provisioner of its own."""
    return container.mesos.image if container.type == "MESOS" and container.mesos else None


def _for_engine(task: TaskInfo) -> TaskInfo:
    """A task of type MESOS with an image as one of type DOCKER: the same image, host network."""
    container = task.container
    image = image_of(container) if container is not None else None
    if container is None or image is None:
        return task
    if image.docker is None:
        raise BadContainer("container.mesos.image must be of type DOCKER")
    if image.docker.credential is not None:
        raise BadContainer(
            "container.mesos.image.docker.credential would be shown in states; give a secret as "
            "config, or put the registry's into the agent's --docker_config"
        )
    if any(info.name is not None for info in container.network_infos):
        raise BadContainer("container.network_infos need type DOCKER; without them it is HOST")
    docker = DockerInfo(image=image.docker.name, network="HOST", force_pull_image=not image.cached)
    mended = msgspec.structs.replace(container, type="DOCKER", mesos=None, docker=docker)
    return msgspec.structs.replace(task, container=mended)


def _user_of_host(task: TaskInfo) -> str | None:
    """Whom a task of type MESOS asks to run as; type DOCKER leaves it to the image.

    Its sandbox and volumes are that user's; images need not know him, or know another by his name.
    Source: Mesos' launcher, which looks the user up before it enters the image.
    """
    if task.container is None or image_of(task.container) is None or task.command is None:
        return None
    return task.command.user


def _entry_point(task: TaskInfo) -> Body:
    """The program that a task of type MESOS names in place of the image's; its arguments begin with
    the program's own name. Type DOCKER has no such thing: there all words are arguments.

    Source: Mesos' table of docker/runtime: without a shell, a value replaces the entry point.
    """
    command = task.command
    if task.container is None or image_of(task.container) is None or command is None:
        return {}
    if command.shell or command.value is None:
        return {}
    return {"Entrypoint": [command.value], "Cmd": list(command.arguments[1:])}


def plan(task: TaskInfo, around: Surroundings) -> DockerPlan:
    """The container of `task`; raises BadContainer with the field and the reason."""
    user, entry_point = _user_of_host(task), _entry_point(task)
    # Source: Mesos' containerizer; type DOCKER starts where `docker run` does.
    home = around.inside if task.container is not None and image_of(task.container) else None
    task = _for_engine(task)
    container, command = task.container, task.command
    docker = container.docker if container is not None else None
    if container is None or docker is None:
        raise BadContainer("container.docker is missing; it names the image")
    if not docker.image.strip():
        raise BadContainer("container.docker.image is empty")
    body: Body = {
        "Image": docker.image,
        "Env": [f"{name}={value}" for name, value in around.env.items()],
        "Labels": dict(around.labels),
        "HostConfig": {
            "NetworkMode": _network(container, docker),
            "Privileged": docker.privileged,
            "LogConfig": {"Type": "json-file"},
            **_limits(task, around),
        },
        **_command(command),
        **entry_point,
    }
    _volumes(body, container, around)
    folders = tuple(_sandbox_folders(container, around))
    # Parameters that move the container to another network decide whether ports can be mapped.
    docker_parameters.apply(body, docker.parameters)
    docker_parameters.name_endpoint(body)
    network = body["HostConfig"]["NetworkMode"]
    _ports(body, docker, task, network)
    if container.hostname is not None:
        if network == "host":
            raise BadContainer("container.hostname cannot be set in network HOST")
        body["Hostname"] = container.hostname
    return DockerPlan(
        image=docker.image,
        force_pull=bool(docker.force_pull_image),
        body=body,
        folders=folders,
        inside=around.inside,
        user=user,
        home=home,
    )


def why_not(task: TaskInfo, *, enable_cfs: bool = False, is_nested: bool = False) -> str | None:
    """Why no container can be made of `task`; None if it can."""
    parent = "/x" if is_nested else None
    around = Surroundings(
        sandbox="/x", inside="/x", env={}, labels={}, enable_cfs=enable_cfs, parent=parent
    )
    try:
        plan(task, around)
    except BadContainer as error:
        return str(error)
    return None


# -- command --------------------------------------------------------------------------------------


def _command(command: CommandInfo | None) -> Body:
    """A shell replaces the image's entry point; arguments go to it."""
    if command is None:
        return {}
    if command.shell:
        if command.value is None:
            raise BadContainer("command.value is missing; give 'shell': false to run the image's")
        return {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", command.value]}
    words = [*((command.value,) if command.value is not None else ()), *command.arguments]
    return {"Cmd": words} if words else {}


# -- limits ---------------------------------------------------------------------------------------


def oom_score_adj(task: TaskInfo, memory_bytes: int) -> int | None:
    """What has the kernel end a task sooner, the less it asked for, if it may use more than that.

    None where request and limit are the same, or the host's memory is unknown. Source: Mesos'
    calculateOOMScoreAdj.
    """
    limit = task.limits.get("mem")
    asked = _amount(task, "mem")
    if limit is None or limit.value <= asked or not memory_bytes:
        return None
    return max(0, 1000 - int(1000 * asked * _MIB) // memory_bytes)


def _limits(task: TaskInfo, around: Surroundings) -> Body:
    cpus, memory = _amount(task, "cpus"), _amount(task, "mem")
    hard = {name: limit.value for name, limit in task.limits.items()}
    limits: Body = {"CpuShares": max(MIN_CPU_SHARES, int(SHARES_PER_CPU * cpus))}
    cpus_limit = hard.get("cpus", cpus if around.enable_cfs else math.inf)
    if not math.isinf(cpus_limit):
        limits["CpuPeriod"] = CFS_PERIOD_US
        limits["CpuQuota"] = max(MIN_CFS_QUOTA_US, int(CFS_PERIOD_US * cpus_limit))
    if "mem" not in hard:
        limits["Memory"] = max(MIN_MEMORY_BYTES, int(memory * _MIB))
        return limits
    limits["MemoryReservation"] = max(MIN_MEMORY_BYTES, int(memory * _MIB))
    if not math.isinf(hard["mem"]):
        limits["Memory"] = max(MIN_MEMORY_BYTES, int(hard["mem"] * _MIB))
    adjusted = oom_score_adj(task, around.memory_bytes)
    if adjusted is not None:
        limits["OomScoreAdj"] = adjusted
    return limits


def _amount(task: TaskInfo, name: str) -> float:
    return sum(r.scalar.value for r in task.resources if r.name == name and r.scalar is not None)


# -- network --------------------------------------------------------------------------------------


def _network(container: ContainerInfo, docker: DockerInfo) -> str:
    if docker.network != "USER":
        return _NETWORKS[docker.network]
    names = [info.name for info in container.network_infos]
    if any(p.key.lstrip("-") in ("net", "network") for p in docker.parameters):
        return "bridge"  # the parameter names it
    if len(names) != 1 or names[0] is None:
        raise BadContainer(
            f"network USER needs exactly one entry with a name in container.network_infos, "
            f"not {len(names)}"
        )
    return names[0]


def _ports(body: Body, docker: DockerInfo, task: TaskInfo, network: str) -> None:
    if not docker.port_mappings:
        return
    if network in ("host", "none"):
        raise BadContainer("container.docker.port_mappings need network BRIDGE or USER")
    offered = [
        (r.begin, r.end)
        for resource in task.resources
        if resource.name == "ports" and resource.ranges is not None
        for r in resource.ranges.range
    ]
    exposed: Body = body.setdefault("ExposedPorts", {})
    bindings: Body = body["HostConfig"].setdefault("PortBindings", {})
    for mapping in docker.port_mappings:
        if not any(begin <= mapping.host_port <= end for begin, end in offered):
            raise BadContainer(
                f"host_port {mapping.host_port} of container.docker.port_mappings is not among "
                "the ports of the task's resources"
            )
        protocol = mapping.protocol if mapping.protocol is not None else "tcp"
        try:
            key = docker_parameters.port_key(f"{mapping.container_port}/{protocol}")
        except ValueError as error:
            raise BadContainer(f"container.docker.port_mappings: {error}") from error
        exposed[key] = {}
        bindings.setdefault(key, []).append({"HostPort": str(mapping.host_port)})


# -- volumes --------------------------------------------------------------------------------------


def _volumes(body: Body, container: ContainerInfo, around: Surroundings) -> None:
    host = body["HostConfig"]
    # As a mount, not as `path:path`: the ids in the sandbox's path may hold colons.
    host["Mounts"] = [{"Type": "bind", "Source": around.sandbox, "Target": around.inside}]
    if container.docker is not None and container.docker.volume_driver is not None:
        host["VolumeDriver"] = container.docker.volume_driver
    for source, below, read_only in around.volumes:
        target = str(PurePosixPath(around.inside, below))
        mount = {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
        host["Mounts"].append(mount)
    for volume in container.volumes:
        if _is_secret(volume):
            continue  # mounted at launch, when its file is there
        inside = str(PurePosixPath(around.inside, volume.container_path))
        read_only = volume.mode == "RO"
        outside = _outside(volume, around.parent)
        if outside is None:
            body.setdefault("Volumes", {})[inside] = {}
        elif not outside.startswith("/") and volume.source is not None and _is_named(volume):
            _use_driver(host, volume)
            host.setdefault("Binds", []).append(_bind(outside, inside, read_only))
        elif outside.startswith("/") and not _is_of_parent(volume):
            host.setdefault("Binds", []).append(_bind(outside, inside, read_only))
        else:
            source = str(PurePosixPath(around.sandbox, outside))
            mount = {"Type": "bind", "Source": source, "Target": inside, "ReadOnly": read_only}
            host["Mounts"].append(mount)


def _bind(outside: str, inside: str, read_only: bool) -> str:
    for path in (outside, inside):
        if ":" in path:
            raise BadContainer(f"container.volumes: '{path}' must not hold a colon")
    return f"{outside}:{inside}:{'ro' if read_only else 'rw'}"


def _is_named(volume: Volume) -> bool:
    return volume.source is not None and volume.source.type == "DOCKER_VOLUME"


def _is_secret(volume: Volume) -> bool:
    return volume.source is not None and volume.source.type == "SECRET"


def with_secrets(
    plan: DockerPlan, variables: Mapping[str, str], files: Mapping[str, str], inside: str
) -> Body:
    """The body of `plan` with secrets in it; `files` by path below `inside`."""
    body = {**plan.body, "HostConfig": dict(plan.body["HostConfig"])}
    body["Env"] = [*body["Env"], *(f"{name}={text}" for name, text in variables.items())]
    body["HostConfig"]["Mounts"] = [
        *body["HostConfig"]["Mounts"],
        *(
            {
                "Type": "bind",
                "Source": source,
                "Target": str(PurePosixPath(inside, below)),
                "ReadOnly": True,
            }
            for below, source in files.items()
        ),
    ]
    if variables:
        body["Labels"] = {**body["Labels"], SECRETS_LABEL: ",".join(variables)}
    return body


def _is_of_parent(volume: Volume) -> bool:
    path = volume.source.sandbox_path if volume.source is not None else None
    return path is not None and path.type == "PARENT"


def _outside(volume: Volume, parent: str | None) -> str | None:
    """Path on the host, name of a volume, or path in the sandbox; None for a new volume."""
    if volume.image is not None:
        raise BadContainer("container.volumes: images cannot be mounted")
    source = volume.source
    if source is None:
        path = volume.host_path
    elif source.type == "DOCKER_VOLUME" and source.docker_volume is not None:
        return source.docker_volume.name
    elif source.type == "HOST_PATH" and source.host_path is not None:
        path = source.host_path.path
    elif source.type == "SANDBOX_PATH" and source.sandbox_path is not None:
        path = source.sandbox_path.path
        if path.startswith("/"):
            raise BadContainer("container.volumes: sandbox_path must be relative")
        if source.sandbox_path.type == "PARENT":
            if parent is None:
                raise BadContainer("container.volumes: only tasks of a group have a PARENT")
            if ".." in PurePosixPath(path).parts:
                raise BadContainer(f"container.volumes: '{path}' leads out of the sandbox")
            return f"{parent}/{path}"
    else:
        raise BadContainer(f"container.volumes: source {source.type} cannot be used with docker")
    if path is not None and not path.startswith("/") and ".." in PurePosixPath(path).parts:
        raise BadContainer(f"container.volumes: '{path}' leads out of the sandbox")
    return path


def _use_driver(host: Body, volume: Volume) -> None:
    named = volume.source.docker_volume if volume.source is not None else None
    driver = named.driver if named is not None else None
    if driver is None:
        return
    if host.get("VolumeDriver", driver) != driver:
        raise BadContainer("container.volumes: a container has one volume driver, not several")
    host["VolumeDriver"] = driver


def _sandbox_folders(container: ContainerInfo, around: Surroundings) -> Iterator[str]:
    for volume in container.volumes:
        outside = None if _is_secret(volume) else _outside(volume, around.parent)
        if outside is None or _is_named(volume):
            continue
        if _is_of_parent(volume) or not outside.startswith("/"):
            yield outside
