"""From a pod and what it takes from an offer to the LAUNCH_GROUP that Mesos launches.

::

    /shop/web ─▶ shop_web.instance-<uuid> ─▶ executor instance-shop_web.<uuid>
                                             └─ a task for each container:
                                                shop_web.instance-<uuid>.<container>.1

Source: spec/marathon §1.7, §3.4 (ids, environment, volumes).
"""

from __future__ import annotations

from collections.abc import Mapping

from mesostk.marathon import paths
from mesostk.marathon.environment import of_labels
from mesostk.marathon.instances import InstanceId
from mesostk.marathon.matcher import Match, take, take_ports
from mesostk.marathon.pods import definition, endpoints
from mesostk.marathon.taskinfo import (
    NS_PER_S,
    Options,
    labels_of,
    limits_of,
    linux_info_of,
    secret_of,
)
from mesostk.resources import scalar
from mesostk.resources.resources import Resources
from mesostk.wire import mesos
from mesostk.wire.marathon import (
    AppDefinition,
    Endpoint,
    EnvSecret,
    ExecHealth,
    PodCommand,
    PodContainer,
)


def task_id(instance_id: InstanceId, container: str, incarnation: int) -> str:
    """The id of a container's task, by how often the instance was launched."""
    return f"{instance_id}.{container}.{incarnation}"


def executor_id(instance_id: InstanceId) -> str:
    """`a_b.instance-<uuid>` → `instance-a_b.<uuid>`."""
    path, _, unique = instance_id.rpartition(".instance-")
    return f"instance-{path}.{unique}"


def build(
    spec: AppDefinition,
    match: Match,
    agent: mesos.AgentID,
    instance_id: InstanceId,
    options: Options,
    incarnation: int = 1,
) -> mesos.OfferOperation:
    """The operation that launches one instance with what `match` found.

    Persistent volumes are the executor's: its containers share them, and see them in its sandbox.
    """
    pod = definition(spec)
    every = endpoints(pod)
    ports = dict(zip((each.name for each in every), match.ports, strict=True))
    left = match.resources
    tasks = []
    for container in pod.containers:
        wanted = container.resources
        amounts = {
            "cpus": wanted.cpus, "mem": wanted.mem, "disk": wanted.disk, "gpus": wanted.gpus,
        }  # fmt: skip
        held = _part(left, amounts)
        held += take_ports(left, [ports[each.name] for each in container.endpoints])
        left -= held
        task = task_id(instance_id, container.name, incarnation)
        about = _about(spec, container, match, task)
        about["MESOS_EXECUTOR_ID"] = executor_id(instance_id)
        about["MARATHON_APP_ENFORCE_GROUP_ROLE"] = str(options.enforce_role).upper()
        about |= _addresses(spec, ports, options.env_vars_prefix or "")
        tasks.append(_task(spec, container, ports, about, agent, task, held))
    return mesos.OfferOperation(
        type="LAUNCH_GROUP",
        launch_group=mesos.LaunchGroup(
            executor=_executor(spec, instance_id, left, ports, options),
            task_group=mesos.TaskGroupInfo(tasks=tuple(tasks)),
        ),
    )


def _part(left: Resources, amounts: Mapping[str, float]) -> Resources:
    part = Resources({})
    for name, amount in amounts.items():
        taken = take(left, name, scalar.from_float(amount))
        assert taken is not None  # the match holds the sum of all parts
        part += Resources(taken)
    return part


def _executor(
    spec: AppDefinition,
    instance_id: InstanceId,
    resources: Resources,
    ports: Mapping[str, int | None],
    options: Options,
) -> mesos.ExecutorInfo:
    networks = tuple(
        mesos.NetworkInfo(
            name=options.bridge_name if network.mode == "container/bridge" else network.name,
            labels=labels_of(network.labels),
            port_mappings=_published(spec, ports, network.name),
        )
        for network in spec.networks
        if network.mode != "host"
    )
    container = None
    linux_info = linux_info_of(definition(spec).linux_info)
    if networks or linux_info is not None:
        container = mesos.ContainerInfo(type="MESOS", network_infos=networks, linux_info=linux_info)
    return mesos.ExecutorInfo(
        type="DEFAULT",
        executor_id=mesos.ExecutorID(executor_id(instance_id)),
        # PRE: the framework does not claim RESERVATION_REFINEMENT
        resources=resources.to_wire("PRE"),
        container=container,
        labels=labels_of(spec.labels),
    )


def _published(
    spec: AppDefinition, ports: Mapping[str, int | None], network: str | None
) -> tuple[mesos.PortMapping, ...]:
    """Host port → container port for each endpoint that has both in `network`, by protocol."""
    return tuple(
        mesos.PortMapping(
            host_port=host_port, container_port=each.container_port or host_port, protocol=protocol
        )
        for each in endpoints(definition(spec))
        if (host_port := ports[each.name]) is not None
        and (not each.network_names or network in each.network_names)
        for protocol in each.protocol
    )


def _task(
    spec: AppDefinition,
    container: PodContainer,
    ports: Mapping[str, int | None],
    about: Mapping[str, str],
    agent: mesos.AgentID,
    task: str,
    held: Resources,
) -> mesos.TaskInfo:
    lifecycle = container.lifecycle
    grace_s = None if lifecycle is None else lifecycle.kill_grace_period_seconds
    return mesos.TaskInfo(
        name=container.name,
        task_id=mesos.TaskID(task),
        agent_id=agent,
        resources=held.to_wire("PRE"),
        command=_command(spec, container, about),
        container=_container(spec, container),
        health_check=_health_check(container, ports),
        check=_check(container, ports),
        kill_policy=None
        if grace_s is None
        else mesos.KillPolicy(
            grace_period=mesos.DurationInfo(nanoseconds=round(grace_s * NS_PER_S))
        ),
        labels=labels_of({**spec.labels, **container.labels}),
        discovery=_discovery(spec, container, ports),
        limits=limits_of(container.resource_limits),
    )


def _command(
    spec: AppDefinition,
    container: PodContainer,
    about: Mapping[str, str],
) -> mesos.CommandInfo:
    """Without a shell, arguments go to the image's entry point unless they shall replace it.

    A container without an image has none, so its first word is the program.
    """
    pod = definition(spec)
    values: dict[str, str | EnvSecret] = {
        **about,
        **pod.environment,
        **container.environment,
    }
    variables = tuple(
        mesos.Variable(name=name, value=value)
        if isinstance(value, str)
        else mesos.Variable(name=name, type="SECRET", secret=secret_of(spec, value.secret))
        for name, value in values.items()
    )
    given = container.exec
    command = PodCommand() if given is None else given.command
    argv = command.argv or ()
    keeps_entry = container.image is not None and not (given and given.override_entrypoint)
    program = None if keeps_entry else next(iter(argv), None)
    return mesos.CommandInfo(
        uris=tuple(
            mesos.CommandURI(
                value=each.uri,
                executable=each.executable,
                extract=each.extract,
                cache=each.cache,
                output_file=each.dest_path,
            )
            for each in container.artifacts
        ),
        environment=mesos.Environment(variables=variables),
        shell=command.shell is not None,
        value=command.shell if command.shell is not None else program,
        arguments=argv,
        user=container.user if container.user is not None else pod.user,
    )


def _about(spec: AppDefinition, container: PodContainer, match: Match, task: str) -> dict[str, str]:
    resources = container.resources
    return {
        "MESOS_TASK_ID": task,
        "MARATHON_APP_ID": spec.id,
        "MARATHON_APP_VERSION": spec.version or "",
        "MARATHON_CONTAINER_ID": container.name,
        "MARATHON_CONTAINER_RESOURCE_CPUS": repr(float(resources.cpus)),
        "MARATHON_CONTAINER_RESOURCE_MEM": repr(float(resources.mem)),
        "MARATHON_CONTAINER_RESOURCE_DISK": repr(float(resources.disk)),
        "MARATHON_CONTAINER_RESOURCE_GPUS": str(resources.gpus),
        "HOST": match.placement.hostname,
        **of_labels({**spec.labels, **container.labels}),
    }


def _addresses(spec: AppDefinition, ports: Mapping[str, int | None], prefix: str) -> dict[str, str]:
    """The ports of all endpoints of the pod: its containers find each other by them."""
    found: dict[str, str] = {}
    for each in endpoints(definition(spec)):
        name = each.name.upper().replace("-", "_")
        host_port = ports[each.name]
        if host_port is not None:
            found[f"{prefix}EP_HOST_{name}"] = str(host_port)
        inside = _inside(each, ports)
        if each.container_port is not None and inside is not None:
            found[f"{prefix}EP_CONTAINER_{name}"] = str(inside)
        if inside is not None:
            found[f"{prefix}ENDPOINT_{name}"] = str(inside)
    return found


def _inside(endpoint: Endpoint, ports: Mapping[str, int | None]) -> int | None:
    """The port that the container listens on: its own, where that is 0 or none the host's."""
    return endpoint.container_port or ports[endpoint.name]


def _container(spec: AppDefinition, container: PodContainer) -> mesos.ContainerInfo | None:
    image = None
    if container.image is not None:
        config = container.image.pull_config
        image = mesos.Image(
            type="DOCKER",
            docker=mesos.ImageDocker(
                name=container.image.id,
                config=None if config is None else secret_of(spec, config.secret),
            ),
            cached=not container.image.force_pull,
        )
    volumes = _volumes(spec, container)
    linux_info = linux_info_of(container.linux_info)
    if image is None and not volumes and linux_info is None and not container.tty:
        return None
    return mesos.ContainerInfo(
        type="MESOS",
        volumes=volumes,
        mesos=mesos.MesosInfo(image=image) if image else None,
        linux_info=linux_info,
        tty_info=mesos.TTYInfo() if container.tty else None,
    )


def _volumes(spec: AppDefinition, container: PodContainer) -> tuple[mesos.Volume, ...]:
    by_name = {volume.name: volume for volume in definition(spec).volumes}
    found = []
    for mount in container.volume_mounts:
        volume = by_name[mount.name]
        source = None
        if volume.secret is not None:
            secret = secret_of(spec, volume.secret)
            source = mesos.VolumeSource(type="SECRET", secret=secret)
        elif volume.host is None:
            shared = mesos.SandboxPath(type="PARENT", path=volume.name)
            source = mesos.VolumeSource(type="SANDBOX_PATH", sandbox_path=shared)
        found.append(
            mesos.Volume(
                mode="RO" if mount.read_only else "RW",
                container_path=mount.mount_path,
                host_path=volume.host,
                source=source,
            )
        )
    return tuple(found)


def _health_check(
    container: PodContainer, ports: Mapping[str, int | None]
) -> mesos.HealthCheck | None:
    check = container.health_check
    if check is None:
        return None
    by_name = {endpoint.name: endpoint for endpoint in container.endpoints}
    kind: mesos.CheckType = "COMMAND"
    command, http, tcp = None, None, None
    if check.http is not None:
        kind = "HTTP"
        http = mesos.HTTPCheckInfo(
            port=_inside(by_name[check.http.endpoint], ports) or 0,
            scheme=check.http.scheme.lower(),
            path=check.http.path,
        )
    elif check.tcp is not None:
        kind = "TCP"
        tcp = mesos.TCPCheckInfo(port=_inside(by_name[check.tcp.endpoint], ports) or 0)
    else:
        command = _check_command(check.exec)
    return mesos.HealthCheck(
        type=kind,
        command=command,
        http=http,
        tcp=tcp,
        delay_seconds=float(check.delay_seconds),
        interval_seconds=float(check.interval_seconds),
        timeout_seconds=float(check.timeout_seconds),
        grace_period_seconds=float(check.grace_period_seconds),
        consecutive_failures=check.max_consecutive_failures,
    )


def _check(container: PodContainer, ports: Mapping[str, int | None]) -> mesos.CheckInfo | None:
    """The check whose result is only told, in the task's status."""
    wanted = container.check
    if wanted is None:
        return None
    by_name = {endpoint.name: endpoint for endpoint in container.endpoints}
    kind: mesos.CheckType = "COMMAND"
    command, http, tcp = None, None, None
    if wanted.http is not None:
        kind = "HTTP"
        port = _inside(by_name[wanted.http.endpoint], ports) or 0
        http = mesos.CheckHttp(port=port, path=wanted.http.path)
    elif wanted.tcp is not None:
        kind = "TCP"
        tcp = mesos.CheckTcp(port=_inside(by_name[wanted.tcp.endpoint], ports) or 0)
    else:
        command = mesos.CheckCommand(command=_check_command(wanted.exec))
    return mesos.CheckInfo(
        type=kind,
        command=command,
        http=http,
        tcp=tcp,
        delay_seconds=float(wanted.delay_seconds),
        interval_seconds=float(wanted.interval_seconds),
        timeout_seconds=float(wanted.timeout_seconds),
    )


def _check_command(check: ExecHealth | None) -> mesos.CommandInfo:
    assert check is not None  # validation demands exactly one kind
    command = check.command
    if command.shell is not None:
        return mesos.CommandInfo(value=command.shell)
    argv = command.argv or ()
    return mesos.CommandInfo(shell=False, value=argv[0], arguments=argv)


def _discovery(
    spec: AppDefinition, container: PodContainer, ports: Mapping[str, int | None]
) -> mesos.DiscoveryInfo:
    found = tuple(
        mesos.Port(number=number, name=each.name, protocol=protocol, labels=labels_of(each.labels))
        for each in container.endpoints
        if (number := ports[each.name] or each.container_port)
        for protocol in each.protocol
    )
    name = f"{container.name}.{paths.reversed_name(spec.id)}"
    return mesos.DiscoveryInfo(visibility="FRAMEWORK", name=name, ports=mesos.Ports(ports=found))
