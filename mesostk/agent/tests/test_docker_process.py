"""The real agent with a real Docker engine of its own that is stopped and killed under it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gzip
import hashlib
import io
import shutil
import signal
import socket
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from aiohttp import web
from msgspec.structs import replace

from mesostk.agent.docker_engine import EngineError, credentials, fetched_configs
from mesostk.agent.tests.agent_bench import AGENT, cpus, framework, task
from mesostk.agent.tests.test_agent_process import TIMEOUT_S, AgentProcess, ScriptedMaster
from mesostk.testing.disks import small_disk
from mesostk.testing.dockerd import IMAGE, Dockerd, load_image, remove_containers
from mesostk.testing.requirements import DOCKER_SOCKET, require_docker, require_root
from mesostk.wire import json
from mesostk.wire.link import Kill, RunGroup
from mesostk.wire.mesos import (
    CommandInfo,
    ContainerInfo,
    DockerInfo,
    DurationInfo,
    Environment,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    HealthCheck,
    HTTPCheckInfo,
    Image,
    ImageDocker,
    KillPolicy,
    MesosInfo,
    NetworkInfo,
    Parameter,
    PortMapping,
    Range,
    Ranges,
    Resource,
    SandboxPath,
    Scalar,
    Secret,
    SecretReference,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
    TCPCheckInfo,
    Variable,
    Volume,
    VolumeSource,
)

pytestmark = [pytest.mark.docker, pytest.mark.root]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    require_docker()
    require_root()
    engine = Dockerd(tmp_path_factory.mktemp("engine"))
    engine.start()
    load_image(engine.socket)
    yield engine
    engine.remove()
    shutil.rmtree(engine.root, ignore_errors=True)


@pytest.fixture
async def master() -> AsyncIterator[ScriptedMaster]:
    master = ScriptedMaster()
    runner = await master.start()
    yield master
    await runner.cleanup()


def agent_of(tmp_path: Path, master: ScriptedMaster, socket: Path, *flags: str) -> AgentProcess:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    return AgentProcess(
        work_dir, master.url, "--containerizers=docker,mesos", f"--docker_socket={socket}", *flags
    )


@contextlib.asynccontextmanager
async def running(agent: AgentProcess, master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    await agent.start()
    try:
        await master.until(lambda: bool(master.subscriptions))
        yield agent
    finally:
        await agent.kill(signal.SIGTERM)
        remove_all(agent)
        print((agent.work_dir.parent / "agent.log").read_text())


@pytest.fixture
async def agent(
    tmp_path: Path, master: ScriptedMaster, engine: Dockerd
) -> AsyncIterator[AgentProcess]:
    # However slow the machine: dozens of containers start, and programs answer to TERM.
    flags = ("--executor_registration_timeout=10mins", "--executor_shutdown_grace_period=90secs")
    async with running(agent_of(tmp_path, master, engine.socket, *flags), master) as agent:
        yield agent


def remove_all(agent: AgentProcess) -> None:
    path = next(a.partition("=")[2] for a in agent.arguments if a.startswith("--docker_socket"))
    remove_containers(Path(path), agent.work_dir)


#: Most of the programs are the first process of their container, to which TERM means nothing.
AT_ONCE = KillPolicy(grace_period=DurationInfo(nanoseconds=0))


def contained(task_id: str, command: str | None, **docker_info: Any) -> TaskInfo:
    container = ContainerInfo(type="DOCKER", docker=DockerInfo(image=IMAGE, **docker_info))
    info = CommandInfo(shell=False) if command is None else CommandInfo(value=command)
    plain = task(task_id, "true")
    memory = Resource(name="mem", type="SCALAR", scalar=Scalar(32.0))
    # The weight that a container has by default, lest a busy machine starve those of tests.
    made = replace(plain, command=info, container=container, resources=(cpus(1.0), memory))
    return replace(made, kill_policy=AT_ONCE)


def read(agent: AgentProcess, task_id: str, name: str = "stdout") -> str:
    runs = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/{task_id}/runs/latest"
    return (runs / name).read_text()


async def until(condition: Callable[[], bool], seconds: float = TIMEOUT_S) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - files and the engine tell nobody
            await asyncio.sleep(0.02)


async def kill(master: ScriptedMaster, task_id: str) -> None:
    await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID(task_id)))


async def test_a_container_runs_writes_its_sandbox_and_its_exit_code_is_told(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    text = "echo hello; echo oops >&2; echo kept >$MESOS_SANDBOX/file; echo $X $(hostname); exit 7"
    info = contained("t1", text, parameters=(Parameter(key="env", value="X=set"),))
    await master.launch(info)
    end = await master.until_ended("t1")
    assert master.states("t1") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
    assert end.status.message == "Container exited with status 7"
    assert read(agent, "t1") == f"hello\nset {socket.gethostname()}\n"
    assert read(agent, "t1", "stderr") == "oops\n"
    assert read(agent, "t1", "file") == "kept\n"
    told = master.of("t1")[1].status
    assert told.data is not None
    inspected = json.decode(told.data, list)[0]
    assert told.container_status is not None
    assert told.container_status.container_id is not None
    assert inspected["Name"] == f"/mesos-{told.container_status.container_id.value}"
    assert inspected["Config"]["Labels"]["MESOS_TASK_ID"] == "t1"


def has_said(agent: AgentProcess, task_id: str, text: str) -> bool:
    try:
        return read(agent, task_id) == text
    except FileNotFoundError:  # the engine has said nothing yet
        return False


async def test_a_killed_container_gets_its_grace_and_no_more(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    gentle = contained(
        "gentle", "trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.1; done"
    )
    stubborn = contained("stubborn", "trap '' TERM; echo hi; while :; do sleep 0.1; done")
    policy = KillPolicy(grace_period=DurationInfo(nanoseconds=1_000_000_000))
    await master.launch(replace(gentle, kill_policy=None))  # the agent's own grace
    await master.launch(replace(stubborn, kill_policy=policy))
    for name in ("gentle", "stubborn"):
        await master.until_state(name, "TASK_RUNNING")
        await until(functools.partial(has_said, agent, name, "hi\n"))
        await kill(master, name)
    assert (await master.until_ended("gentle")).status.state == "TASK_KILLED"
    ended = (await master.until_ended("stubborn")).status
    assert (ended.state, ended.message) == ("TASK_KILLED", "Container exited with status 137")
    assert read(agent, "gentle") == "hi\nbye\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": "mesostk-none:1"}, "image 'mesostk-none:1' cannot be had"),
        ({"parameters": (Parameter(key="frob", value="x"),)}, "parameter 'frob' is no option"),
        ({"parameters": (Parameter(key="restart", value="always"),)}, "'restart' cannot be used"),
        ({"parameters": (Parameter(key="cap-add", value="NO_SUCH"),)}, "NO_SUCH"),
        (
            {"parameters": (Parameter(key="entrypoint", value="/bin/foreign"),)},
            "its program is for another processor",
        ),
        (
            {"parameters": (Parameter(key="entrypoint", value="/bin/absent"),)},
            "the image has no such program",
        ),
        (
            {"port_mappings": (PortMapping(host_port=31240, container_port=80),)},
            "port_mappings need network BRIDGE or USER",
        ),
    ],
)
async def test_what_cannot_run_says_why(
    master: ScriptedMaster, agent: AgentProcess, change: dict[str, Any], reason: str
) -> None:
    plain = contained("t1", None)
    assert plain.container is not None
    assert plain.container.docker is not None
    container = replace(plain.container, docker=replace(plain.container.docker, **change))
    await master.launch(replace(plain, container=container))
    end = await master.until_ended("t1")
    assert end.status.state == "TASK_FAILED"
    assert end.status.message is not None
    assert reason in end.status.message


async def test_limits_are_the_engines_and_death_of_memory_is_told(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await master.launch(contained("t1", "x=a; while :; do x=$x$x; done"))
    end = await master.until_ended("t1")
    assert end.status.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert end.status.message == "Memory limit exceeded: Requested: 32MB"


async def test_health_checks_reach_into_the_container(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    inside = HealthCheck(
        type="COMMAND", command=CommandInfo(value="test -e /bin/foreign"), delay_seconds=0
    )
    absent = HealthCheck(
        type="COMMAND", command=CommandInfo(value="test -e /bin/nothing"), delay_seconds=0,
        interval_seconds=0.1, grace_period_seconds=0, consecutive_failures=2,
    )  # fmt: skip
    await master.launch(replace(contained("well", "sleep 1000"), health_check=inside))
    await master.launch(replace(contained("ill", "sleep 1000"), health_check=absent))
    await master.until(lambda: any(u.status.healthy for u in master.of("well")))
    end = await master.until_ended("ill")
    assert (end.status.state, end.status.healthy) == ("TASK_KILLED", False)
    usage = next(c for c in await agent.json("/containers") if c["executor_id"] == "well")
    assert usage["statistics"]["mem_limit_bytes"] == 32 << 20
    assert usage["statistics"]["mem_rss_bytes"] > 0
    await kill(master, "well")
    await master.until_ended("well")


#: Lines without an end, in bursts; while there is a file `hush`, none, and how many in `hushed`.
NUMBERS = (
    "cd $MESOS_SANDBOX; i=0; while [ ! -e stop ]; do "
    "if [ -e hush ]; then echo $i >hushed; sleep 0.01; continue; fi; "
    "i=$((i+1)); echo $i; echo $i >&2; "
    "[ $((i % 50)) = 0 ] && sleep 0.01; done; exit 5"
)


async def test_every_line_is_kept_once_over_restarts_of_agent_engine_and_both(
    master: ScriptedMaster, agent: AgentProcess, engine: Dockerd
) -> None:
    await master.launch(contained("lines", NUMBERS))
    await master.until_state("lines", "TASK_RUNNING")
    sandbox = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/lines/runs/latest"

    async def has_grown() -> None:
        size = len(read(agent, "lines"))
        await until(lambda: len(read(agent, "lines")) > size + 500)

    def is_hushed() -> bool:
        if not (sandbox / "hushed").exists():
            return False
        count = (sandbox / "hushed").read_text()
        return count.endswith("\n") and all(
            read(agent, "lines", name).endswith(f"\n{count}") for name in ("stdout", "stderr")
        )

    async def end_engine() -> None:
        """Between two lines: an engine that ends loses what it has read and not yet written."""
        (sandbox / "hush").touch()
        await until(is_hushed)
        await asyncio.to_thread(engine.kill, signal.SIGTERM)
        (sandbox / "hush").unlink()  # what comes now is for its successor

    await has_grown()
    await agent.kill()
    await agent.start()
    await has_grown()
    await end_engine()
    await asyncio.to_thread(engine.start)
    await has_grown()
    await end_engine()
    await agent.kill()
    await agent.start()
    await asyncio.to_thread(engine.start)
    await has_grown()
    await master.until(lambda: len(master.subscriptions) >= 3)
    (sandbox / "stop").touch()
    end = await master.until_ended("lines")
    assert end.status.message == "Container exited with status 5"
    assert master.states("lines") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
    for name in ("stdout", "stderr"):
        lines = [int(line) for line in read(agent, "lines", name).split()]
        assert lines == list(range(1, len(lines) + 1))
    assert read(agent, "lines") == read(agent, "lines", "stderr")


async def test_what_ended_while_the_agent_was_away_is_told_with_its_exit_code(
    master: ScriptedMaster, agent: AgentProcess, engine: Dockerd
) -> None:
    await master.launch(
        contained("t1", "while [ ! -e $MESOS_SANDBOX/go ]; do sleep 0.05; done; exit 9")
    )
    status = (await master.until_state("t1", "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.container_id is not None
    await agent.kill()
    sandbox = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/t1/runs/latest"
    (sandbox / "go").touch()
    client = docker.APIClient(base_url=f"unix://{engine.socket}", version="auto")
    with contextlib.closing(client):
        client.wait(f"mesos-{status.container_id.value}")
    await agent.start()
    end = await master.until_ended("t1")
    assert end.status.message == "Container exited with status 9"


async def test_containers_of_nobody_are_ended_and_those_of_others_left_alone(
    master: ScriptedMaster, agent: AgentProcess, engine: Dockerd
) -> None:
    await master.launch(contained("mine", "sleep 1000"))
    await master.until_state("mine", "TASK_RUNNING")
    await agent.kill()
    owner = (agent.work_dir / "meta/docker_owner").read_text()
    client = docker.APIClient(base_url=f"unix://{engine.socket}", version="auto")
    with contextlib.closing(client):
        host = client.create_host_config(network_mode="host")
        for name, labels in (
            ("mesos-lost", {"mesostk.work_dir": owner}),
            ("mesos-other", {"mesostk.work_dir": "somebody"}),
            (f"mesos-{AGENT.value}.old", {}),
            ("mesos-X-S7.old", {}),
        ):
            client.create_container(
                IMAGE, ["sleep", "1000"], name=name, labels=labels, host_config=host
            )
            client.start(name)
        await agent.start()
        await master.until(lambda: len(master.subscriptions) >= 2)

        def names() -> set[str]:
            return {c["Names"][0].lstrip("/") for c in client.containers()}

        await until(lambda: not names() & {"mesos-lost", f"mesos-{AGENT.value}.old"})
        assert {"mesos-other", "mesos-X-S7.old"} <= names()
        for name in ("mesos-other", "mesos-X-S7.old"):
            client.remove_container(name, force=True)
    await kill(master, "mine")
    assert (await master.until_ended("mine")).status.state == "TASK_KILLED"


async def test_an_engine_that_is_away_fails_tasks_with_the_reason_and_not_the_agent(
    tmp_path: Path, master: ScriptedMaster
) -> None:
    async with running(agent_of(tmp_path, master, tmp_path / "no.sock"), master) as agent:
        await master.launch(contained("t1", "true"))
        end = await master.until_ended("t1")
        assert end.status.message is not None
        assert "no.sock does not answer: No such file or directory" in end.status.message
        await master.launch(task("t2", "true"))
        assert (await master.until_ended("t2")).status.state == "TASK_FINISHED"
        assert (await agent.get("/health"))[0] == 200


async def test_bridged_containers_have_ports_and_an_address(
    tmp_path: Path, master: ScriptedMaster
) -> None:
    require_docker()
    load_image(DOCKER_SOCKET)
    async with running(agent_of(tmp_path, master, DOCKER_SOCKET), master):
        ports = Resource(
            name="ports", type="RANGES", ranges=Ranges(range=(Range(begin=31240, end=31241),))
        )
        mappings = (
            PortMapping(host_port=31240, container_port=8080, protocol="TCP"),
            PortMapping(host_port=31241, container_port=161, protocol="udp"),
        )
        web = contained(
            "web", "mkdir /tmp/w; echo hi >/tmp/w/index.html; httpd -f -p 8080 -h /tmp/w",
            network="BRIDGE", port_mappings=mappings,
        )  # fmt: skip
        check = HealthCheck(
            type="HTTP", http=HTTPCheckInfo(port=8080, path="/"), delay_seconds=0.2,
            interval_seconds=0.2, grace_period_seconds=TIMEOUT_S,
        )  # fmt: skip
        await master.launch(replace(web, resources=(*web.resources, ports), health_check=check))
        told = (await master.until_state("web", "TASK_RUNNING")).status.container_status
        assert told is not None
        ip = told.network_infos[0].ip_addresses[0].ip_address
        assert ip is not None
        assert ip.startswith("172.")
        await master.until(lambda: any(u.status.healthy for u in master.of("web")))
        reader, writer = await asyncio.open_connection("127.0.0.1", 31240)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"hi\n")
        writer.close()
        twice = contained("twice", "sleep 1000", network="BRIDGE", port_mappings=())
        publish = Parameter(key="publish", value="31240:80")
        assert twice.container is not None
        assert twice.container.docker is not None
        info = replace(twice.container.docker, parameters=(publish,))
        await master.launch(replace(twice, container=replace(twice.container, docker=info)))
        end = await master.until_ended("twice")
        assert end.status.message is not None
        assert "a port it maps is bound by something else" in end.status.message
        await kill(master, "web")
        await master.until_ended("web")


async def test_fifty_containers_start_at_once(master: ScriptedMaster, agent: AgentProcess) -> None:
    names = [f"n{i}" for i in range(50)]
    for name in names:
        await master.launch(contained(name, "sleep 1000"))
    for name in names:
        await master.until_state(name, "TASK_RUNNING")
    for name in names:
        await kill(master, name)
    for name in names:
        assert (await master.until_ended(name)).status.state == "TASK_KILLED"


async def test_volumes_and_folders_of_the_sandbox_are_mounted(
    master: ScriptedMaster, agent: AgentProcess, tmp_path: Path
) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "f").write_text("from the host\n")
    plain = contained("t1", "cat /given/f; echo x >/given/g || echo read-only; echo y >/own/h")
    assert plain.container is not None
    volumes = (
        Volume(mode="RO", container_path="/given", host_path=str(tmp_path / "given")),
        Volume(mode="RW", container_path="/own", host_path="data"),
    )
    await master.launch(replace(plain, container=replace(plain.container, volumes=volumes)))
    await master.until_ended("t1")
    assert read(agent, "t1") == "from the host\nread-only\n"
    assert read(agent, "t1", "data/h") == "y\n"


async def test_secrets_are_the_containers_and_not_in_what_is_told(
    master: ScriptedMaster, tmp_path: Path, engine: Dockerd
) -> None:
    folder = tmp_path / "of-host"
    folder.mkdir(mode=0o700)
    (folder / "key").write_text("hunter2\n")
    (folder / "key").chmod(0o600)
    secret = Secret(type="REFERENCE", reference=SecretReference(name="key"))
    volume = Volume(
        mode="RO", container_path="kept/key", source=VolumeSource(type="SECRET", secret=secret)
    )
    text = 'echo "$KEY" | sha256sum; sha256sum <$MESOS_SANDBOX/kept/key; sleep 1000'
    info = contained("t1", text, parameters=(Parameter(key="user", value="1000"),))
    assert info.container is not None
    variables = (Variable(name="KEY", type="SECRET", secret=secret),)
    info = replace(
        info,
        command=CommandInfo(value=text, environment=Environment(variables=variables)),
        container=replace(info.container, volumes=(volume,)),
    )
    flags = (f"--secrets_dir={folder}",)
    async with running(agent_of(tmp_path, master, engine.socket, *flags), master) as agent:
        await master.launch(info)
        told = (await master.until_state("t1", "TASK_RUNNING")).status
        await until(lambda: read(agent, "t1").count("\n") == 2)
        assert set(read(agent, "t1").split()) == {hashlib.sha256(b"hunter2\n").hexdigest(), "-"}
        assert told.data is not None
        assert b"KEY=****" in told.data
        assert b"hunter2" not in told.data
        await kill(master, "t1")
        await master.until_ended("t1")


def in_group(task_id: str, command: str, image: Image | None = None) -> TaskInfo:
    """A task of a group that sees the group's folder as `shared`."""
    source = VolumeSource(
        type="SANDBOX_PATH", sandbox_path=SandboxPath(type="PARENT", path="common")
    )
    volume = Volume(mode="RW", container_path="shared", source=source)
    container = ContainerInfo(type="MESOS", mesos=MesosInfo(image=image), volumes=(volume,))
    plain = contained(task_id, f"cd $MESOS_SANDBOX; {command}")
    return replace(plain, container=container, resources=(cpus(0.1), plain.resources[1]))


async def test_an_image_in_a_group_shares_a_folder_and_outlives_the_agent(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    """A container of type MESOS with an image: the engine runs it beside one without."""
    image = Image(type="DOCKER", docker=ImageDocker(name=IMAGE))
    wait = "until [ -e shared/go ]; do sleep 0.1; done"
    boxed = in_group("boxed", f"echo $(hostname) >shared/from-box; {wait}; exit 3", image)
    plain = in_group("plain", "echo plain >shared/from-plain; sleep 1000")
    executor = ExecutorInfo(executor_id=ExecutorID("pod"), type="DEFAULT", resources=(cpus(0.1),))
    tasks = TaskGroupInfo(tasks=(boxed, plain))
    await master.send(RunGroup(framework=framework(), executor=executor, task_group=tasks))
    for name in ("boxed", "plain"):
        await master.until_state(name, "TASK_RUNNING")
    latest = f"slaves/{AGENT.value}/frameworks/F/executors/pod/runs/latest"
    common = agent.work_dir / latest / "common"
    # A file is there before its line is: the shell opens it, and only then runs `hostname`.
    said = [common / "from-box", common / "from-plain"]
    await until(lambda: all(p.exists() and p.read_text().endswith("\n") for p in said))
    assert {p.name for p in common.iterdir()} == {"from-box", "from-plain"}
    assert (common / "from-box").read_text() == f"{socket.gethostname()}\n"
    links = len(master.subscriptions)
    await agent.kill()
    await agent.start()
    await master.until(lambda: len(master.subscriptions) > links)
    (common / "go").touch()
    assert (await master.until_ended("boxed")).status.state == "TASK_FAILED"
    assert (await master.until_ended("plain")).status.state == "TASK_KILLED"


@contextlib.asynccontextmanager
async def silent_registry() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An image whose registry takes connections and says nothing, and when it was asked first.

    It hangs up at the end: the engine would wait for 10 s.
    """
    asked = asyncio.Event()
    pulls: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pulls[asyncio.current_task()] = writer
        asked.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    registry = await asyncio.start_server(silent, "127.0.0.70", 0)
    async with registry:
        yield f"127.0.0.70:{registry.sockets[0].getsockname()[1]}/slow:1", asked
        registry.close()
        for writer in pulls.values():
            writer.transport.abort()
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*(pull for pull in pulls if pull is not None))


def of_image(image: str, task_id: str = "t1") -> TaskInfo:
    container = ContainerInfo(type="DOCKER", docker=DockerInfo(image=image))
    return replace(contained(task_id, None), container=container)


async def test_a_task_whose_image_is_still_on_the_way_is_killed_at_once(
    tmp_path: Path, master: ScriptedMaster
) -> None:
    require_docker()
    agent = agent_of(tmp_path, master, DOCKER_SOCKET)
    async with silent_registry() as (image, asked), running(agent, master):
        await master.launch(of_image(image))
        async with asyncio.timeout(TIMEOUT_S):
            await asked.wait()
        await kill(master, "t1")
        end = await master.until_ended("t1")
    assert (end.status.state, end.status.reason) == (
        "TASK_KILLED",
        "REASON_TASK_KILLED_DURING_LAUNCH",
    )


async def test_a_hung_engine_fails_the_task_in_time_and_not_the_agent(
    tmp_path: Path, master: ScriptedMaster, engine: Dockerd
) -> None:
    limit = "--executor_registration_timeout=1secs"
    async with running(agent_of(tmp_path, master, engine.socket, limit), master) as agent:
        engine.pause()
        try:
            await master.launch(contained("t1", "true"))
            await master.launch(task("t2", "true"))
            assert (await master.until_ended("t2")).status.state == "TASK_FINISHED"
            end = await master.until_ended("t1")
            assert (await agent.get("/health"))[0] == 200
        finally:
            engine.go_on()
    assert end.status.message is not None
    assert "took longer than --executor_registration_timeout" in end.status.message


async def test_a_container_of_a_users_network_is_checked_at_its_own_address(
    tmp_path: Path, master: ScriptedMaster
) -> None:
    require_docker()
    load_image(DOCKER_SOCKET)
    client = docker.APIClient(base_url=f"unix://{DOCKER_SOCKET}", version="auto")
    name = f"mesostk-{tmp_path.name[-24:]}"
    with contextlib.closing(client):
        made = client.create_network(name, driver="bridge")
        try:
            async with running(agent_of(tmp_path, master, DOCKER_SOCKET), master):
                plain = contained("web", "httpd -f -p 8080 -h /bin", network="USER")
                assert plain.container is not None
                container = replace(plain.container, network_infos=(NetworkInfo(name=name),))
                check = HealthCheck(
                    type="TCP", tcp=TCPCheckInfo(port=8080), delay_seconds=0.2,
                    interval_seconds=0.2, grace_period_seconds=TIMEOUT_S,
                )  # fmt: skip
                await master.launch(replace(plain, container=container, health_check=check))
                told = (await master.until_state("web", "TASK_RUNNING")).status.container_status
                await master.until(lambda: any(u.status.healthy for u in master.of("web")))
                await kill(master, "web")
                await master.until_ended("web")
        finally:
            client.remove_network(made["Id"])
    assert told is not None
    (network,) = told.network_infos
    assert network.name == name
    assert network.ip_addresses[0].ip_address is not None


async def test_two_agents_on_one_engine_leave_each_other_alone(
    tmp_path: Path, engine: Dockerd
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pairs: list[tuple[ScriptedMaster, AgentProcess]] = []
        # The second removes nothing by itself, however long this takes.
        for name, delay in (("one", "0secs"), ("two", "1days")):
            (tmp_path / name).mkdir()
            master = ScriptedMaster()
            runner = await master.start()
            stack.push_async_callback(runner.cleanup)
            flag = f"--docker_remove_delay={delay}"
            agent = agent_of(tmp_path / name, master, engine.socket, flag)
            pairs.append((master, await stack.enter_async_context(running(agent, master))))
        for (master, _), name in zip(pairs, ("one", "two"), strict=True):
            await master.launch(contained(name, "exec sleep 1000"))
            await master.until_state(name, "TASK_RUNNING")
            await master.launch(contained(f"{name}-over", "exit 4"))
            await master.until_ended(f"{name}-over")
        master, agent = pairs[0]
        await agent.kill()
        await agent.start()
        await master.until(lambda: len(master.subscriptions) >= 2)
        owners = [(a.work_dir / "meta/docker_owner").read_text() for _, a in pairs]
        client = docker.APIClient(base_url=f"unix://{engine.socket}", version="auto")
        with contextlib.closing(client):

            def states(owner: str) -> list[str]:
                label = {"label": f"mesostk.work_dir={owner}"}
                return sorted(one["State"] for one in client.containers(all=True, filters=label))

            # The first has tidied: what was its own and over is gone, and nothing of the other.
            await until(lambda: states(owners[0]) == ["running"])
            assert states(owners[1]) == ["exited", "running"]
        for (master, _), name in zip(pairs, ("one", "two"), strict=True):
            assert master.states(name) == ["TASK_STARTING", "TASK_RUNNING"]
            await kill(master, name)
            await master.until_ended(name)


async def test_a_pull_is_told_of_in_the_sandbox_and_ends_with_its_time(
    tmp_path: Path, master: ScriptedMaster
) -> None:
    require_docker()
    agent = agent_of(tmp_path, master, DOCKER_SOCKET, "--executor_registration_timeout=4secs")
    async with silent_registry() as (image, _), running(agent, master):
        said = ""
        for n in range(20):  # on a slow machine the time may be over before the pull has begun
            await master.launch(of_image(image, f"t{n}"))
            end = await master.until_ended(f"t{n}")
            with contextlib.suppress(FileNotFoundError):
                said = read(agent, f"t{n}", "stderr")
            if said:
                break
        assert said == f"Pulling image '{image}'\n"
    assert (end.status.state, end.status.reason) == (
        "TASK_FAILED",
        "REASON_CONTAINER_LAUNCH_FAILED",
    )
    assert end.status.message is not None
    assert "longer than --executor_registration_timeout, which is 4 s" in end.status.message


def fill_up(path: Path) -> None:
    """Write until the disk takes no more, which is raised."""
    with path.open("wb", 0) as file:
        while True:
            file.write(bytes(4096))


async def test_an_engine_whose_disk_is_full_is_named_as_the_reason(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, master: ScriptedMaster
) -> None:
    require_docker()
    root = tmp_path_factory.mktemp("full")  # short: sockets are below it
    with small_disk(tmp_path / "disk", "24m") as disk:
        engine = Dockerd(root, f"--data-root={disk}")
        engine.start()
        try:
            load_image(engine.socket)
            fill = disk / "fill"
            with pytest.raises(OSError, match="No space left"):
                fill_up(fill)
            async with running(agent_of(tmp_path, master, engine.socket), master):
                await master.launch(contained("t1", "true"))
                end = await master.until_ended("t1")
            fill.unlink()
        finally:
            engine.remove()
    assert end.status.state == "TASK_FAILED"
    assert end.status.message is not None
    assert "the engine's disk is full: remove images or enlarge it" in end.status.message


@contextlib.asynccontextmanager
async def guarded_registry(socket: Path, user: str) -> AsyncIterator[str]:
    """The name of the image of these tests in a registry that wants `user`:secret."""
    client = docker.APIClient(base_url=f"unix://{socket}", version="auto")
    with contextlib.closing(client):
        saved = io.BytesIO(b"".join(client.get_image(IMAGE)))
    with tarfile.open(fileobj=saved) as archive:

        def read_of(name: str) -> bytes:
            member = archive.extractfile(name)
            assert member is not None
            return member.read()

        [listed] = json.decode(read_of("manifest.json"), list[dict[str, Any]])
        config = read_of(listed["Config"])
        layers = [gzip.compress(read_of(name), 1) for name in listed["Layers"]]

    def described(kind: str, data: bytes) -> dict[str, Any]:
        blobs[digest_of(data)] = data
        return {"mediaType": f"{kinds}.{kind}", "size": len(data), "digest": digest_of(data)}

    def digest_of(data: bytes) -> str:
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    wanted = f"Basic {base64.b64encode(f'{user}:secret'.encode()).decode()}"
    kinds, blobs = "application/vnd.docker", dict[str, bytes]()
    manifest = json.encode(
        {
            "schemaVersion": 2,
            "mediaType": f"{kinds}.distribution.manifest.v2+json",
            "config": described("container.image.v1+json", config),
            "layers": [described("image.rootfs.diff.tar.gzip", each) for each in layers],
        }
    )

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != wanted:
            challenge = {"WWW-Authenticate": 'Basic realm="registry"'}
            return web.Response(status=401, headers=challenge)
        kind, _, name = request.path.partition("/private/app/")[2].partition("/")
        if kind == "blobs":
            return web.Response(body=blobs[name])
        told = {"Docker-Content-Digest": digest_of(manifest)} if kind else {}
        told["Docker-Distribution-Api-Version"] = "registry/2.0"
        type_ = f"{kinds}.distribution.manifest.v2+json" if kind else "application/json"
        body = manifest if kind else b"{}"
        return web.Response(body=body, headers=told, content_type=type_)

    app = web.Application()
    app.router.add_get("/v2/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.70", 0).start()
    try:
        yield f"127.0.0.70:{runner.addresses[0][1]}/private/app:1"
    finally:
        await runner.cleanup()


def remove_image(image: str) -> None:
    client = docker.APIClient(base_url=f"unix://{DOCKER_SOCKET}", version="auto")
    with contextlib.closing(client), contextlib.suppress(docker.errors.ImageNotFound):
        client.remove_image(image)


def docker_config(registry: str, user: str) -> str:
    secret = base64.b64encode(f"{user}:secret".encode()).decode()
    return json.encode({"auths": {registry: {"auth": secret}}}).decode()


async def test_an_image_is_pulled_with_the_secret_that_the_task_names(
    tmp_path: Path, master: ScriptedMaster, engine: Dockerd
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    # The machine's own engine: that of these tests has a network of its own, without registries.
    agent = agent_of(tmp_path, master, DOCKER_SOCKET, f"--secrets_dir={secrets}")

    def pulled(task_id: str, image: str, secret: str) -> TaskInfo:
        config = None
        if secret != "none":
            config = Secret(type="REFERENCE", reference=SecretReference(name=secret))
        info = MesosInfo(
            image=Image(type="DOCKER", docker=ImageDocker(name=image, config=config), cached=False)
        )
        plain = task(task_id, "true")
        return replace(plain, container=ContainerInfo(type="MESOS", mesos=info))

    async with guarded_registry(engine.socket, "me") as image, running(agent, master):
        registry = image.partition("/")[0]
        for name, user in (("good", "me"), ("wrong", "another")):
            (secrets / name).write_text(docker_config(registry, user))
            (secrets / name).chmod(0o600)
        (secrets / "broken").write_text("{not json: me:secret")
        (secrets / "broken").chmod(0o600)
        ends = {}
        for name in ("none", "wrong", "broken", "absent", "good"):
            await master.launch(pulled(f"with-{name}", image, name))
            ends[name] = (await master.until_ended(f"with-{name}")).status
        remove_all(agent)
        remove_image(image)
    assert ends["good"].state == "TASK_FINISHED", ends["good"].message
    told = {name: str(end.message) for name, end in ends.items() if name != "good"}
    assert "credentials" in told["none"]
    assert "credentials" in told["wrong"]
    assert "secret 'broken' is no Docker configuration" in told["broken"]
    assert "secret 'absent' is not on this host: put it into" in told["absent"]
    assert "me:secret" not in str(told)


def test_credentials_of_the_sandbox_come_before_the_agents_own(tmp_path: Path) -> None:
    def config(user: str) -> str:
        secret = base64.b64encode(f"{user}:secret".encode()).decode()
        return json.encode({"auths": {"registry.example:5000": {"auth": secret}}}).decode()

    def user_of(image: str, agents: str | None) -> str | None:
        own = [] if agents is None else [("--docker_config", agents)]
        header = credentials(image, [*fetched_configs(tmp_path), *own])
        if header is None:
            return None
        return str(json.decode(base64.urlsafe_b64decode(header), dict[str, Any])["username"])

    image = "registry.example:5000/team/app:1"
    assert user_of(image, None) is None
    assert user_of(image, config("agent")) == "agent"
    assert user_of("elsewhere.example/app", config("agent")) is None
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(config("task"))
    assert user_of(image, config("agent")) == "task"
    (tmp_path / ".docker" / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"config\.json is no Docker configuration"):
        user_of(image, None)
