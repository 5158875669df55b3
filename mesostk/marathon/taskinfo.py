"""From an app and what it takes from an offer to the `TaskInfo` that Mesos launches.

::

    /prod/db ─▶ prod_db.instance-<uuid> ─▶ prod_db.instance-<uuid>._app.1     name db.prod
                     instance id                    task id                   mesos-dns: db-prod-…

Sources: spec/marathon §3.4 (ids, name, discovery, command), §2.2 (containers), §2.4 (checks).
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence

import msgspec

from mesostk.marathon import checks, environment, paths
from mesostk.marathon.apps import is_bridge, is_host
from mesostk.marathon.matcher import Match
from mesostk.wire import mesos
from mesostk.wire.marathon import (
    AppDefinition,
    Container,
    EnvSecret,
    LinuxInfo,
    Network,
    PortDefinition,
    PortMapping,
    ResourceLimits,
    Volume,
)

COMMAND_EXECUTOR = "//cmd"

NS_PER_S = 1_000_000_000

_TASK_ID = re.compile(
    r"(?P<instance>(?P<app>.+)\.(?:instance-|marathon-)?[0-9a-f]{8}-[0-9a-f-]{27})"
    r"(?:\.(?P<container>_app|[a-z0-9-]+)(?:\.(?P<incarnation>[0-9]+))?)?"
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's flags that shape tasks."""

    executor: str = COMMAND_EXECUTOR
    env_vars_prefix: str | None = None
    bridge_name: str = "mesos-bridge"
    enforce_role: bool = False


# -- ids --------------------------------------------------------------------------------------


def instance_id(app_id: str, uuid: str) -> str:
    """`/a/b` → `a_b.instance-<uuid>`."""
    return f"{paths.safe(app_id)}.instance-{uuid}"


def task_id(instance_id: str, incarnation: int = 1) -> str:
    """The id of an instance's task, by how often the instance was launched."""
    return f"{instance_id}._app.{incarnation}"


def instance_of(task_id: str) -> str | None:
    """The instance id within a task id of any Marathon since 0.8; None if it is none."""
    found = _TASK_ID.fullmatch(task_id)
    return None if found is None else found["instance"]


def app_of(task_id: str) -> str | None:
    """The app id within a task or instance id of any Marathon since 0.8; None if it is none."""
    found = _TASK_ID.fullmatch(task_id)
    return None if found is None else paths.unsafe(found["app"])


# -- task -------------------------------------------------------------------------------------


def build(
    app: AppDefinition,
    match: Match,
    agent: mesos.AgentID,
    task: str,
    options: Options,
) -> mesos.TaskInfo:
    """The task with id `task` of `app` on `agent`, using what `match` found there."""
    name = paths.reversed_name(app.id)
    command = _command(app, match, task, options)
    container = _container(app, match, task, options)
    executor = _executor(app, options, task, command, container)
    grace_s = app.task_kill_grace_period_seconds
    return mesos.TaskInfo(
        name=name,
        task_id=mesos.TaskID(task),
        agent_id=agent,
        # PRE: the framework does not claim RESERVATION_REFINEMENT
        resources=match.resources.to_wire("PRE"),
        executor=executor,
        command=command if executor is None else None,
        container=container if executor is None else None,
        health_check=checks.health_check(app, match),
        check=checks.check(app, match),
        kill_policy=None
        if grace_s is None
        else mesos.KillPolicy(grace_period=mesos.DurationInfo(nanoseconds=grace_s * NS_PER_S)),
        labels=labels_of(app.labels),
        discovery=_discovery(app, match, name),
        limits=limits_of(app.resource_limits),
    )


def labels_of(labels: Mapping[str, str]) -> mesos.Labels | None:
    """Labels as Mesos writes them; None where there are none."""
    if not labels:
        return None
    return mesos.Labels(labels=tuple(mesos.Label(key=k, value=v) for k, v in labels.items()))


def limits_of(limits: ResourceLimits | None) -> dict[str, mesos.Scalar]:
    """Limits above what is requested, `unlimited` as infinity."""
    if limits is None:
        return {}
    given = {"cpus": limits.cpus, "mem": limits.mem}
    return {
        name: mesos.Scalar(math.inf if limit == "unlimited" else float(limit))
        for name, limit in given.items()
        if limit is not None
    }


# -- command ----------------------------------------------------------------------------------


def _command(app: AppDefinition, match: Match, task: str, options: Options) -> mesos.CommandInfo:
    variables = tuple(
        _variable(app, name, value)
        for name, value in environment.variables(
            app, match, task, options.env_vars_prefix, options.enforce_role
        ).items()
    )
    value: str | None = app.cmd
    arguments: tuple[str, ...] = ()
    if app.args:
        arguments = app.args
        value = app.args[0] if app.container is None else None
    return mesos.CommandInfo(
        uris=tuple(
            mesos.CommandURI(
                value=entry.uri,
                executable=entry.executable,
                extract=entry.extract,
                cache=entry.cache,
                output_file=entry.dest_path,
            )
            for entry in app.fetch
        ),
        environment=mesos.Environment(variables=variables),
        shell=app.cmd is not None,
        value=value,
        arguments=arguments,
        user=app.user,
    )


def _variable(app: AppDefinition, name: str, value: str | EnvSecret) -> mesos.Variable:
    if isinstance(value, str):
        return mesos.Variable(name=name, value=value)
    return mesos.Variable(name=name, type="SECRET", secret=secret_of(app, value.secret))


def secret_of(app: AppDefinition, name: str) -> mesos.Secret:
    """A reference to where the secret `name` of the app comes from."""
    reference = mesos.SecretReference(name=app.secrets[name].source)
    return mesos.Secret(type="REFERENCE", reference=reference)


def _executor(
    app: AppDefinition,
    options: Options,
    task: str,
    command: mesos.CommandInfo,
    container: mesos.ContainerInfo | None,
) -> mesos.ExecutorInfo | None:
    """A custom executor given by path; None for the command executor."""
    path = app.executor or options.executor
    if path in ("", COMMAND_EXECUTOR):
        return None
    quoted = shlex.quote(path)
    run = f"chmod ug+rx {quoted} && exec {quoted} {command.value or ''}".rstrip()
    return mesos.ExecutorInfo(
        executor_id=mesos.ExecutorID(f"marathon-{task}"),
        name=task,
        source=paths.safe(app.id),
        # S604: a field of the record, no process is started here
        command=msgspec.structs.replace(command, shell=True, value=run, arguments=()),  # noqa: S604
        container=container,
    )


# -- container --------------------------------------------------------------------------------


def _container(
    app: AppDefinition, match: Match, task: str, options: Options
) -> mesos.ContainerInfo | None:
    container = app.container
    if container is None:
        return None if not app.tty else mesos.ContainerInfo(type="MESOS", tty_info=mesos.TTYInfo())
    volumes = tuple(_volume(app, v) for v in container.volumes if v.persistent is None)
    if container.type == "DOCKER":
        return mesos.ContainerInfo(
            type="DOCKER",
            volumes=volumes,
            docker=_docker(app, container, match, task),
            network_infos=_named_networks(app.networks),
        )
    image = None
    if container.docker is not None:
        docker = container.docker
        config = None
        if docker.pull_config is not None:
            config = secret_of(app, docker.pull_config.secret)
        image = mesos.Image(
            type="DOCKER",
            docker=mesos.ImageDocker(name=docker.image, config=config),
            cached=not docker.force_pull_image,
        )
    return mesos.ContainerInfo(
        type="MESOS",
        volumes=volumes,
        mesos=mesos.MesosInfo(image=image),
        network_infos=_mesos_networks(app, container, match, options),
        linux_info=linux_info_of(container.linux_info),
        tty_info=mesos.TTYInfo() if app.tty else None,
    )


def _docker(app: AppDefinition, container: Container, match: Match, task: str) -> mesos.DockerInfo:
    docker = container.docker
    assert docker is not None  # validation refuses type DOCKER without it
    network: mesos.DockerNetwork = "USER"
    if is_host(app.networks):
        network = "HOST"
    elif is_bridge(app.networks):
        network = "BRIDGE"
    parameters = [mesos.Parameter(key=p.key, value=p.value) for p in docker.parameters]
    parameters.append(mesos.Parameter(key="label", value=f"MESOS_TASK_ID={task}"))
    return mesos.DockerInfo(
        image=docker.image,
        network=network,
        port_mappings=() if network == "HOST" else _published(container.port_mappings, match),
        privileged=docker.privileged,
        parameters=tuple(parameters),
        force_pull_image=docker.force_pull_image,
    )


def _published(
    mappings: Sequence[PortMapping], match: Match, network: str | None = None
) -> tuple[mesos.PortMapping, ...]:
    """Host port → container port for every published mapping, one for each protocol."""
    return tuple(
        mesos.PortMapping(
            host_port=port,
            container_port=mapping.container_port if mapping.container_port != 0 else port,
            protocol=protocol,
        )
        for mapping, port in zip(mappings, match.ports, strict=True)
        if port is not None and (network is None or network in mapping.network_names)
        for protocol in mapping.protocol.split(",")
    )


def _named_networks(networks: Sequence[Network]) -> tuple[mesos.NetworkInfo, ...]:
    return tuple(
        mesos.NetworkInfo(name=network.name, labels=labels_of(network.labels))
        for network in networks
        if network.mode == "container"
    )


def _mesos_networks(
    app: AppDefinition, container: Container, match: Match, options: Options
) -> tuple[mesos.NetworkInfo, ...]:
    if is_host(app.networks):
        return ()
    several = len(app.networks) > 1
    return tuple(
        mesos.NetworkInfo(
            name=options.bridge_name if network.mode == "container/bridge" else network.name,
            labels=labels_of(network.labels),
            port_mappings=_published(
                container.port_mappings, match, network.name if several else None
            ),
        )
        for network in app.networks
    )


def _volume(app: AppDefinition, volume: Volume) -> mesos.Volume:
    mode = volume.mode if volume.mode is not None else "RW"
    source = None
    if volume.secret is not None:
        source = mesos.VolumeSource(type="SECRET", secret=secret_of(app, volume.secret))
    elif volume.external is not None:
        options = volume.external.options
        driver = options.get("dvdi/driver")
        others = {k.partition("/")[2]: str(v) for k, v in options.items() if k != "dvdi/driver"}
        if volume.external.size is not None:
            others["size"] = str(volume.external.size)
        parameters = tuple(mesos.Parameter(key=k, value=v) for k, v in others.items())
        source = mesos.VolumeSource(
            type="DOCKER_VOLUME",
            docker_volume=mesos.DockerVolume(
                driver=None if driver is None else str(driver),
                name=volume.external.name,
                driver_options=mesos.Parameters(parameter=parameters) if parameters else None,
            ),
        )
    return mesos.Volume(
        mode=mode, container_path=volume.container_path, host_path=volume.host_path, source=source
    )


def linux_info_of(info: LinuxInfo | None) -> mesos.LinuxInfo | None:
    """What isolators of the original read; None where nothing is asked of them."""
    if info is None:
        return None
    seccomp, ipc = info.seccomp, info.ipc_info
    return mesos.LinuxInfo(
        seccomp=None
        if seccomp is None
        else mesos.SeccompInfo(profile_name=seccomp.profile_name, unconfined=seccomp.unconfined),
        ipc_mode=None if ipc is None else ipc.mode,
        shm_size=None if ipc is None else ipc.shm_size,
    )


# -- discovery --------------------------------------------------------------------------------


def _discovery(app: AppDefinition, match: Match, name: str) -> mesos.DiscoveryInfo:
    """Name and ports by which mesos-dns and others find the task."""
    definitions: Sequence[PortDefinition | PortMapping] = app.port_definitions
    if not is_host(app.networks):
        definitions = app.container.port_mappings if app.container is not None else ()
    found = tuple(
        mesos.Port(
            number=seen,
            name=definition.name,
            protocol=protocol,
            labels=labels_of(definition.labels | _scope(app, definition, published)),
        )
        for definition, seen, published in zip(definitions, match.seen, match.ports, strict=True)
        for protocol in definition.protocol.split(",")
    )
    return mesos.DiscoveryInfo(visibility="FRAMEWORK", name=name, ports=mesos.Ports(ports=found))


def _scope(
    app: AppDefinition, definition: PortDefinition | PortMapping, published: int | None
) -> dict[str, str]:
    """In which network a port's number counts; host networking needs no telling."""
    if isinstance(definition, PortDefinition):
        return {}
    if published is not None:
        return {"network-scope": "host"}
    names = definition.network_names or tuple(n.name for n in app.networks if n.name is not None)
    name = {"network-name": names[0]} if len(names) == 1 else {}
    return {"network-scope": "container"} | name
