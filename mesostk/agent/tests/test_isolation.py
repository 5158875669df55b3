"""`--isolation`: what it names, what a task gets of it, and a real agent that gives it."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from mesostk.agent import executors, isolation, volumes
from mesostk.agent.cgroups import hierarchies
from mesostk.agent.detect import isolation_of
from mesostk.agent.events import BindMount
from mesostk.agent.flags import agent_flags
from mesostk.agent.isolation import Isolation, Own, Shared
from mesostk.agent.tests.agent_bench import AGENT, settings, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, live_tasks
from mesostk.base.config import Values
from mesostk.errors import ConfigError, Rejected
from mesostk.testing.requirements import require_root
from mesostk.wire import json
from mesostk.wire.link import Kill
from mesostk.wire.mesos import (
    CommandInfo,
    ContainerInfo,
    FrameworkID,
    HealthCheck,
    LinuxInfo,
    TaskID,
    Volume,
)
from mesostk.wire.recordio import Decoder

EVERYTHING = Isolation(namespaces=frozenset({"pid", "ipc", "mnt"}))
PRIVATE_TMP = '{"type":"MESOS","volumes":[{"container_path":"/tmp","host_path":".t","mode":"RW"}]}'


def values(*more: str) -> Values:
    return agent_flags().load(["--master=h:1", "--work_dir=/w", *more], {})


def linux(**info: object) -> ContainerInfo:
    return ContainerInfo(type="MESOS", linux_info=LinuxInfo(**info))  # type: ignore[arg-type] # its own fields


# -- the flag --------------------------------------------------------------------------------------


def test_names_of_several_stand_for_them() -> None:
    assert isolation.names_of("cgroups, posix/disk") == {"cgroups/cpu", "cgroups/mem", "disk/du"}
    assert isolation.names_of("process") == {"posix/cpu", "posix/mem"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cgroups/cpu,gpu/nvidia,docker/runtime", "docker/runtime, gpu/nvidia cannot be had here"),
        ("cgroups/cpus", "there is no isolator 'cgroups/cpus'"),
        ("filesystem/linux,filesystem/posix", "only one of"),
    ],
)
def test_what_cannot_be_had_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        isolation_of(values(f"--isolation={text}"))


def test_without_the_flag_all_limits_hold_and_nothing_is_apart() -> None:
    assert isolation_of(values()) == Isolation()
    assert Isolation().limits == {"cpu", "memory", "pids"}


def test_the_flag_says_which_limits_hold() -> None:
    assert isolation_of(values("--isolation=posix/cpu,posix/mem")).limits == frozenset()
    assert isolation_of(values("--isolation=cgroups/mem,linux/nnp")) == Isolation(
        limits=frozenset({"memory"}), no_new_privileges=True
    )


@pytest.mark.parametrize("text", ["[]", '{"type":"DOCKER"}', '{"type":"MESOS","volumes":3}'])
def test_a_default_container_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--default_container_info"):
        isolation_of(values(f"--default_container_info={text}"))


def test_namespaces_need_root_and_the_linux_launcher() -> None:
    with pytest.raises(ConfigError, match="namespaces/pid needs"):
        isolation_of(values("--isolation=namespaces/pid", "--launcher=posix"))


# -- one task --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "own"),
    [
        (None, Own(namespaces=("ipc", "mnt", "pid"))),
        (linux(share_pid_namespace=True), Own(namespaces=("ipc", "mnt"))),
        (linux(ipc_mode="SHARE_PARENT"), Own(namespaces=("mnt", "pid"))),
        (linux(ipc_mode="PRIVATE"), Own(namespaces=("ipc", "mnt", "pid"), shm_mib=0)),
        (linux(ipc_mode="PRIVATE", shm_size=8), Own(namespaces=("ipc", "mnt", "pid"), shm_mib=8)),
    ],
)
def test_a_task_has_what_its_linux_info_leaves(container: ContainerInfo | None, own: Own) -> None:
    assert isolation.own_of(container, EVERYTHING) == own
    assert isolation.own_of(container, Isolation()) == Own()


OWN_SHM = linux(ipc_mode="PRIVATE", shm_size=8)
HOSTS = linux(ipc_mode="SHARE_PARENT")


@pytest.mark.parametrize(
    ("container", "executor", "own"),
    [
        (None, None, Own(namespaces=("mnt", "pid"), shared=Shared())),
        (None, OWN_SHM, Own(namespaces=("mnt", "pid"), shared=Shared())),
        (None, HOSTS, Own(namespaces=("mnt", "pid"))),
        (HOSTS, None, Own(namespaces=("mnt", "pid"), shared=Shared())),
        (HOSTS, OWN_SHM, Own(namespaces=("mnt", "pid"), shared=Shared(shm_mib=8))),
        (
            HOSTS,
            linux(ipc_mode="PRIVATE"),
            Own(namespaces=("mnt", "pid"), shared=Shared(shm_mib=0)),
        ),
        (HOSTS, HOSTS, Own(namespaces=("mnt", "pid"))),
        (OWN_SHM, HOSTS, Own(namespaces=("ipc", "mnt", "pid"), shm_mib=8)),
    ],
)
def test_a_task_of_a_group_shares_what_its_executor_has(
    container: ContainerInfo | None, executor: ContainerInfo | None, own: Own
) -> None:
    assert isolation.own_within(container, executor, EVERYTHING) == own
    assert isolation.own_within(container, executor, Isolation()) == Own()


def test_shared_memory_of_a_group_needs_mounts_of_the_tasks_own() -> None:
    only_ipc = Isolation(namespaces=frozenset({"ipc"}))
    assert isolation.own_within(HOSTS, OWN_SHM, only_ipc).namespaces == ("mnt",)
    assert isolation.own_within(None, OWN_SHM, only_ipc).namespaces == ()


def test_proc_and_shared_memory_of_its_own_need_mounts_of_its_own() -> None:
    only_pid = Isolation(namespaces=frozenset({"pid"}))
    assert isolation.own_of(None, only_pid) == Own(namespaces=("mnt", "pid"))


STRICT = replace(EVERYTHING, may_share_pid=False, may_share_ipc=False)


@pytest.mark.parametrize(
    ("container", "why"),
    [
        (linux(share_pid_namespace=True), "agent pid namespace .* not allowed"),
        (HOSTS, "agent IPC namespace .* not allowed"),
        (linux(shm_size=8), "'shm_size' needs the 'ipc_mode' PRIVATE"),
    ],
)
def test_what_may_not_be_shared_is_refused(container: ContainerInfo, why: str) -> None:
    asked = replace(task("t", "true"), container=container)
    refusal = executors.why_not(asked, replace(settings(), isolation=STRICT))
    assert refusal is not None
    assert refusal[:2] == ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED")
    assert re.search(why, refusal[2])
    # Of an executor, it holds for all of its tasks.
    said = isolation.why_not_within(None, container, STRICT)
    assert said is not None
    assert re.search(why, said)


def test_a_task_of_a_group_may_share_all_that_its_executor_may() -> None:
    assert isolation.why_not_within(HOSTS, OWN_SHM, STRICT) is None
    assert isolation.why_not_within(HOSTS, HOSTS, EVERYTHING) is None
    hosts_pids = linux(share_pid_namespace=True)
    assert isolation.why_not_within(hosts_pids, hosts_pids, EVERYTHING) is None
    said = isolation.why_not_within(hosts_pids, None, EVERYTHING)
    assert said == "'share_pid_namespace': a default executor has no process to share it with"
    assert isolation.why_not_within(linux(shm_size=8), OWN_SHM, EVERYTHING) is not None


def test_a_volume_outside_of_the_sandbox_is_mounted_where_that_can_be() -> None:
    volume = Volume(mode="RO", container_path="/tmp", host_path=".private/tmp")
    asked = replace(task("t", "true"), container=ContainerInfo(type="MESOS", volumes=(volume,)))
    place = BindMount(source="/s/.private/tmp", target="/tmp", read_only=True, make=True)
    assert volumes.mounts_of(asked, "/s", None) == (place,)
    assert volumes.links_of(asked, "/s", None, can_mount=True) == ()
    with pytest.raises(Rejected, match="filesystem/linux"):
        volumes.links_of(asked, "/s", None, can_mount=False)


@pytest.mark.parametrize("path", ["/", "/a/../etc"])
def test_a_volume_is_mounted_at_no_odd_place(path: str) -> None:
    volume = Volume(mode="RW", container_path=path, host_path="/srv")
    asked = replace(task("t", "true"), container=ContainerInfo(type="MESOS", volumes=(volume,)))
    with pytest.raises(Rejected, match="cannot be mounted at"):
        volumes.mounts_of(asked, "/s", None)


# -- a real agent ----------------------------------------------------------------------------------


@pytest.fixture
async def master() -> AsyncIterator[ScriptedMaster]:
    master = ScriptedMaster()
    runner = await master.start()
    yield master
    await runner.cleanup()


@contextlib.asynccontextmanager
async def root_agent(master: ScriptedMaster, *flags: str) -> AsyncIterator[AgentProcess]:
    """An agent with cgroups; not in /tmp, which its tasks may have of their own."""
    require_root()
    home = Path(tempfile.mkdtemp(prefix="mesostk-", dir="/var/tmp"))
    (home / "work").mkdir()
    root = f"--cgroups_root=mesostk-test/{home.name}"
    agent = AgentProcess(home / "work", master.url, "--launcher=linux", root, *flags)
    await agent.start()
    try:
        await master.until(lambda: bool(master.subscriptions))
        yield agent
    finally:
        for task_id in live_tasks(master):
            await master.send(Kill(framework_id=FrameworkID("F"), task_id=TaskID(task_id)))
        await master.until(lambda: not live_tasks(master))
        await master.until_true(lambda: not cgroups_of_runs(f"mesostk-test/{home.name}"))
        await agent.kill(signal.SIGTERM)
        print((home / "agent.log").read_text())
        shutil.rmtree(home)
        remove_cgroups(f"mesostk-test/{home.name}")


@pytest.fixture
async def agent(master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    names = "cgroups/cpu,cgroups/mem,filesystem/linux,namespaces/pid,namespaces/ipc"
    default = f"--default_container_info={PRIVATE_TMP}"
    async with root_agent(master, f"--isolation={names}", default) as agent:
        yield agent


def cgroups_below(root: str) -> list[Path]:
    """`root` in every hierarchy that has it."""
    text = Path("/proc/self/mountinfo").read_text()
    found = hierarchies(text, Path("/proc/1/cgroup").read_text())
    return [h.base / root for h in found if (h.base / root).is_dir()]


def cgroups_of_runs(root: str) -> list[Path]:
    """Those that are not the agent's own."""
    return [
        child
        for base in cgroups_below(root)
        for child in base.iterdir()
        if child.is_dir() and child.name != "supervisors"
    ]


def remove_cgroups(root: str) -> None:
    """What an agent leaves of its own, all runs being over; fails if a run left any.

    Supervisors without a run end when they see that the agent has.
    """
    deadline = time.monotonic() + 90.0
    for base in cgroups_below(root):
        for name in ("supervisors", ""):
            with contextlib.suppress(FileNotFoundError):
                while (base / name / "cgroup.procs").read_text():
                    assert time.monotonic() < deadline, f"not empty: {base / name}"
                    time.sleep(0.005)
                (base / name).rmdir()


async def session(agent: AgentProcess, container_id: str, name: str, command: str) -> str:
    """What a program says that is run beside a task."""
    launch = {
        "container_id": {"value": name, "parent": {"value": container_id}},
        "command": {"value": command},
    }
    call = {"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": launch}
    url = f"http://127.0.0.1:{agent.port}/api/v1"
    async with aiohttp.ClientSession() as client, client.post(url, json=call) as answer:
        assert answer.status == 200, await answer.text()
        records = [json.decode(r, dict) for r in Decoder().feed(await answer.read())]
    said = [r["data"]["data"] for r in records if r["type"] == "DATA"]
    return b"".join(map(base64.b64decode, said)).decode()


async def test_a_task_with_namespaces_outlives_its_agent(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    # The check passes only beside the task: among its processes, with its /tmp.
    seen = "grep -q loop /proc/2/cmdline && test -e /tmp/mine"
    check = HealthCheck(
        type="COMMAND", command=CommandInfo(value=seen), delay_seconds=0, interval_seconds=0.1
    )
    command = "echo $$; touch /tmp/mine; : loop; until [ -e /tmp/go ]; do sleep 0.05; done; exit 9"
    await master.launch(task("t", command, health_check=check))
    await master.until(lambda: any(u.status.healthy for u in master.of("t")))
    status = (await master.until_state("t", "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.container_id is not None
    container = status.container_id.value
    sandbox = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/t/runs/latest"
    assert (sandbox / "stdout").read_text() == "2\n"
    assert (sandbox / ".t" / "mine").stat().st_uid == 0
    assert (sandbox / ".t").stat().st_mode & 0o7777 == 0o1777  # as the /tmp that it hides

    await agent.kill()
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    said = await session(agent, container, "s", "ls /tmp; cat /proc/1/comm; touch /tmp/go")
    assert said.split() == ["mine", "mesos-init"]
    end = await master.until_ended("t")
    assert end.status.message == "Command exited with status 9"
    log = (agent.work_dir.parent / "agent.log").read_text()
    assert "limits cpu,memory; namespaces ipc,mnt,pid" in log


async def test_a_mount_that_would_hide_the_sandbox_fails_the_task(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    volume = Volume(mode="RW", container_path="/var/tmp", host_path="/srv")
    container = ContainerInfo(type="MESOS", volumes=(volume,))
    await master.launch(replace(task("t", "true"), container=container))
    end = await master.until_ended("t")
    assert end.status.message is not None
    assert "would hide the sandbox" in end.status.message
