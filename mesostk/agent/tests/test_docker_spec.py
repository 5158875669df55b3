"""The body of the engine's create call for containers of every kind."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from mesostk.agent import docker_spec
from mesostk.agent.docker_parameters import OPTIONS, REFUSED, BadContainer
from mesostk.agent.docker_spec import Surroundings
from mesostk.wire.mesos import (
    AgentID,
    CommandInfo,
    ContainerInfo,
    Credential,
    DockerInfo,
    DockerVolume,
    Image,
    ImageDocker,
    MesosInfo,
    NetworkInfo,
    Parameter,
    PortMapping,
    Range,
    Ranges,
    Resource,
    SandboxPath,
    Scalar,
    TaskID,
    TaskInfo,
    Volume,
    VolumeSource,
)

AROUND = Surroundings(
    sandbox="/w/sandbox",
    inside="/mnt/mesos/sandbox",
    env={"MESOS_SANDBOX": "/mnt/mesos/sandbox"},
    labels={"MESOS_TASK_ID": "t"},
)
SANDBOX_MOUNT = {"Type": "bind", "Source": "/w/sandbox", "Target": "/mnt/mesos/sandbox"}


def scalar(name: str, amount: float) -> Resource:
    return Resource(name=name, type="SCALAR", scalar=Scalar(amount))


def task(command: CommandInfo | None = None, limits: Any = None, **container: Any) -> TaskInfo:
    docker = {k: container.pop(k) for k in list(container) if k in DockerInfo.__struct_fields__}
    ports = Ranges(range=(Range(begin=31240, end=31249),))
    return TaskInfo(
        name="t",
        task_id=TaskID("t"),
        agent_id=AgentID("A"),
        command=command if command is not None else CommandInfo(shell=False),
        container=ContainerInfo(
            type="DOCKER", docker=DockerInfo(**{"image": "img:1", **docker}), **container
        ),
        resources=(
            scalar("cpus", 0.5),
            scalar("mem", 128),
            Resource(name="ports", type="RANGES", ranges=ports),
        ),
        limits=limits if limits is not None else {},
    )


def body(info: TaskInfo, **around: Any) -> dict[str, Any]:
    return docker_spec.plan(info, replace(AROUND, **around)).body


def host(info: TaskInfo, **around: Any) -> dict[str, Any]:
    config: dict[str, Any] = body(info, **around)["HostConfig"]
    return config


def test_the_whole_body_of_a_bridged_web_app() -> None:
    info = task(
        CommandInfo(value="python3 -m http.server 8080"),
        network="BRIDGE",
        port_mappings=(
            PortMapping(host_port=31240, container_port=8080),
            PortMapping(host_port=31241, container_port=161, protocol="UDP"),
        ),
        parameters=(
            Parameter(key="env", value="A=b=c"),
            Parameter(key="cap-add", value="NET_ADMIN"),
            Parameter(key="cap-add", value="SYS_TIME"),
        ),
        volumes=(Volume(mode="RO", container_path="/etc/a", host_path="/var/data/a"),),
        hostname="web",
    )
    assert body(info) == {
        "Image": "img:1",
        "Hostname": "web",
        "Env": ["MESOS_SANDBOX=/mnt/mesos/sandbox", "A=b=c"],
        "Labels": {"MESOS_TASK_ID": "t"},
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "python3 -m http.server 8080"],
        "ExposedPorts": {"8080/tcp": {}, "161/udp": {}},
        "HostConfig": {
            "NetworkMode": "bridge",
            "Privileged": False,
            "LogConfig": {"Type": "json-file"},
            "CpuShares": 512,
            "Memory": 128 << 20,
            "Mounts": [SANDBOX_MOUNT],
            "Binds": ["/var/data/a:/etc/a:ro"],
            "PortBindings": {
                "8080/tcp": [{"HostPort": "31240"}],
                "161/udp": [{"HostPort": "31241"}],
            },
            "CapAdd": ["NET_ADMIN", "SYS_TIME"],
        },
    }


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (CommandInfo(value="date"), {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "date"]}),
        (CommandInfo(shell=False), {}),
        (CommandInfo(shell=False, arguments=("-v", "x")), {"Cmd": ["-v", "x"]}),
        (CommandInfo(shell=False, value="run", arguments=("-v",)), {"Cmd": ["run", "-v"]}),
    ],
)
def test_commands(command: CommandInfo, wanted: dict[str, Any]) -> None:
    made = body(task(command))
    assert {k: made[k] for k in ("Entrypoint", "Cmd") if k in made} == wanted


@pytest.mark.parametrize(
    ("limits", "enable_cfs", "wanted"),
    [
        ({}, False, {"Memory": 128 << 20}),
        ({}, True, {"Memory": 128 << 20, "CpuPeriod": 100_000, "CpuQuota": 50_000}),
        (
            {"cpus": Scalar(2.0), "mem": Scalar(256.0)},
            False,
            {
                "Memory": 256 << 20,
                "MemoryReservation": 128 << 20,
                "CpuPeriod": 100_000,
                "CpuQuota": 200_000,
            },
        ),
        (
            {"cpus": Scalar(math.inf), "mem": Scalar(math.inf)},
            True,
            {"MemoryReservation": 128 << 20},
        ),
    ],
)
def test_limits(limits: Any, enable_cfs: bool, wanted: dict[str, Any]) -> None:
    made = host(task(limits=limits), enable_cfs=enable_cfs)
    names = ("Memory", "MemoryReservation", "CpuPeriod", "CpuQuota")
    assert {k: made[k] for k in names if k in made} == wanted


@pytest.mark.parametrize(
    ("limit", "score"),
    [(None, None), (128.0, None), (129.0, 993), (math.inf, 993)],
)
def test_who_may_use_more_than_it_asked_for_is_ended_sooner(
    limit: float | None, score: int | None
) -> None:
    info = task(limits={"mem": Scalar(limit)} if limit is not None else {})
    assert host(info, memory_bytes=16 << 30).get("OomScoreAdj") == score
    assert "OomScoreAdj" not in host(info)  # of a host whose memory is unknown
    assert host(info, memory_bytes=64 << 20).get("OomScoreAdj") == (0 if score else None)


def test_small_amounts_are_raised_to_what_the_engine_takes() -> None:
    info = replace(task(), resources=(scalar("cpus", 0.001), scalar("mem", 4)))
    made = host(info)
    assert (made["CpuShares"], made["Memory"]) == (2, 32 << 20)


def test_networks() -> None:
    assert host(task())["NetworkMode"] == "host"
    assert host(task(network="NONE"))["NetworkMode"] == "none"
    named = (NetworkInfo(name="web"),)
    assert host(task(network="USER", network_infos=named))["NetworkMode"] == "web"
    made = body(
        task(
            network="USER",
            parameters=(Parameter(key="ip", value="10.1.1.1"), Parameter(key="net", value="n2")),
        )
    )
    assert made["HostConfig"]["NetworkMode"] == "n2"
    assert made["NetworkingConfig"] == {
        "EndpointsConfig": {"n2": {"IPAMConfig": {"IPv4Address": "10.1.1.1"}}}
    }


def test_privileged_is_asked_of_the_engine() -> None:
    assert host(task(privileged=True))["Privileged"] is True


def test_persistent_volumes_are_mounted_below_the_sandbox() -> None:
    around = replace(AROUND, volumes=(("/w/volumes/roles/db/v1", "data", True),))
    mounts = docker_spec.plan(task(), around).body["HostConfig"]["Mounts"]
    assert mounts == [
        SANDBOX_MOUNT,
        {
            "Type": "bind",
            "Source": "/w/volumes/roles/db/v1",
            "Target": "/mnt/mesos/sandbox/data",
            "ReadOnly": True,
        },
    ]


def test_volumes() -> None:
    named = VolumeSource(
        type="DOCKER_VOLUME", docker_volume=DockerVolume(driver="local", name="data")
    )
    own = VolumeSource(type="SANDBOX_PATH", sandbox_path=SandboxPath(type="SELF", path="d"))
    info = task(
        volumes=(
            Volume(mode="RW", container_path="/n", source=named),
            Volume(mode="RO", container_path="in", source=own),
            Volume(mode="RW", container_path="/new"),
        )
    )
    made = docker_spec.plan(info, AROUND)
    assert made.body["HostConfig"]["Binds"] == ["data:/n:rw"]
    assert made.body["HostConfig"]["VolumeDriver"] == "local"
    assert made.body["HostConfig"]["Mounts"][1] == {
        "Type": "bind",
        "Source": "/w/sandbox/d",
        "Target": "/mnt/mesos/sandbox/in",
        "ReadOnly": True,
    }
    assert made.body["Volumes"] == {"/new": {}}
    assert made.folders == ("d",)


@pytest.mark.parametrize(
    ("key", "value", "where", "wanted"),
    [
        ("add-host", "a:10.0.0.1", "ExtraHosts", ["a:10.0.0.1"]),
        ("device", "/dev/fuse", "Devices", [
            {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}
        ]),
        ("device", "/dev/a:/dev/b:r", "Devices", [
            {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}
        ]),
        ("memory-swap", "-1", "MemorySwap", -1),
        ("shm-size", "64m", "ShmSize", 64 << 20),
        ("ulimit", "nofile=1024:2048", "Ulimits", [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]),
        ("sysctl", "net.core.somaxconn=1024", "Sysctls", {"net.core.somaxconn": "1024"}),
        ("tmpfs", "/run:size=1m", "Tmpfs", {"/run": "size=1m"}),
        ("read-only", "true", "ReadonlyRootfs", True),
        ("init", "", "Init", True),
        ("cpus", "1.5", "NanoCpus", 1_500_000_000),
        ("volume", "/a:/b", "Binds", ["/a:/b"]),
        ("publish", "127.0.0.1:31240:80/udp", "PortBindings",
         {"80/udp": [{"HostPort": "31240", "HostIp": "127.0.0.1"}]}),
        ("log-opt", "max-size=1m", "LogConfig",
         {"Type": "json-file", "Config": {"max-size": "1m"}}),
        ("log-driver", "local", "LogConfig", {"Type": "local"}),
    ],
)  # fmt: skip
def test_parameters(key: str, value: str, where: str, wanted: object) -> None:
    assert host(task(parameters=(Parameter(key=key, value=value),)))[where] == wanted


@pytest.mark.parametrize(
    ("container", "why"),
    [
        ({"image": " "}, "image is empty"),
        ({"parameters": (Parameter(key="frob", value=""),)}, "'frob' is no option"),
        ({"parameters": (Parameter(key="pids-limit", value="x"),)}, "'pids-limit': 'x' is not"),
        ({"parameters": (Parameter(key="log-driver", value="none"),)}, "'log-driver'"),
        ({"network": "USER"}, "exactly one entry"),
        ({"hostname": "h"}, "hostname cannot be set in network HOST"),
        ({"port_mappings": (PortMapping(host_port=31240, container_port=1),)}, "need network"),
        (
            {"network": "BRIDGE", "port_mappings": (PortMapping(host_port=80, container_port=1),)},
            "host_port 80",
        ),
        (
            {
                "network": "BRIDGE",
                "port_mappings": (PortMapping(host_port=31240, container_port=1, protocol="x"),),
            },
            "protocol 'x'",
        ),
        (
            {"volumes": (Volume(mode="RO", container_path="/a", host_path="../x"),)},
            "leads out of the sandbox",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(container: dict[str, Any], why: str) -> None:
    text = docker_spec.why_not(task(**container))
    assert text is not None
    assert why in text


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_refused_parameters_give_their_reason(key: str) -> None:
    with pytest.raises(BadContainer, match=f"parameter '{key}' cannot be used: ."):
        docker_spec.plan(task(parameters=(Parameter(key=key, value="x"),)), AROUND)


def test_no_parameter_is_both_known_and_refused() -> None:
    assert not OPTIONS.keys() & REFUSED.keys()


# -- images of type MESOS ------------------------------------------------------------------------


def boxed(*, cached: bool = True, **container: Any) -> TaskInfo:
    """A task of type MESOS with an image."""
    image = Image(type="DOCKER", docker=ImageDocker(name="img:2"), cached=cached)
    info = ContainerInfo(type="MESOS", mesos=MesosInfo(image=image), **container)
    command = CommandInfo(value="x", user="nobody")
    return replace(task(), container=info, command=command)


def of_parent(path: str) -> Volume:
    source = VolumeSource(type="SANDBOX_PATH", sandbox_path=SandboxPath(type="PARENT", path=path))
    return Volume(mode="RO", container_path="/data", source=source)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (CommandInfo(shell=False, arguments=("run", "-x")), {"Cmd": ["run", "-x"]}),
        (
            CommandInfo(shell=False, value="/bin/run", arguments=("run", "-x")),
            {"Entrypoint": ["/bin/run"], "Cmd": ["-x"]},
        ),
        (CommandInfo(shell=False, value="/run"), {"Entrypoint": ["/run"], "Cmd": []}),
        (CommandInfo(value="run -x"), {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "run -x"]}),
        (CommandInfo(shell=False), {}),
    ],
)
def test_a_program_replaces_the_entry_point_of_an_image_of_type_mesos(
    command: CommandInfo, words: dict[str, Any]
) -> None:
    made = body(replace(boxed(), command=command))
    assert {key: made[key] for key in ("Entrypoint", "Cmd") if key in made} == words


def test_an_image_of_type_mesos_is_run_by_the_engine_in_the_hosts_network() -> None:
    around = replace(AROUND, parent="/w/parent")
    plan = docker_spec.plan(boxed(cached=False, volumes=(of_parent("v"),)), around)
    assert (plan.image, plan.force_pull, plan.folders) == ("img:2", True, ("/w/parent/v",))
    assert plan.body["HostConfig"]["NetworkMode"] == "host"
    assert (plan.user, plan.home) == ("nobody", around.inside)
    assert "User" not in plan.body, "who has that name is this host's to say"
    shared = {"Type": "bind", "Source": "/w/parent/v", "Target": "/data", "ReadOnly": True}
    assert plan.body["HostConfig"]["Mounts"][1:] == [shared]


@pytest.mark.parametrize(
    ("container", "why"),
    [
        ({"network_infos": (NetworkInfo(name="n"),)}, "network_infos need type DOCKER"),
        ({"volumes": (of_parent("../x"),)}, "leads out of the sandbox"),
        ({"volumes": (of_parent("/x"),)}, "must be relative"),
        (
            {
                "mesos": MesosInfo(
                    image=Image(
                        type="DOCKER",
                        docker=ImageDocker(
                            name="x", credential=Credential(principal="p", secret="s")
                        ),
                    )
                )
            },
            "--docker_config",
        ),
        ({"mesos": MesosInfo(image=Image(type="APPC"))}, "must be of type DOCKER"),
    ],
)
def test_an_image_that_cannot_be_run_is_refused_by_name(
    container: dict[str, Any], why: str
) -> None:
    info = boxed()
    assert info.container is not None
    text = docker_spec.why_not(
        replace(info, container=replace(info.container, **container)), is_nested=True
    )
    assert text is not None
    assert why in text


def test_a_parents_folder_is_for_tasks_of_a_group() -> None:
    text = docker_spec.why_not(boxed(volumes=(of_parent("v"),)))
    assert text is not None
    assert "only tasks of a group" in text
