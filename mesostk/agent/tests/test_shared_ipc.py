"""What tasks of a group share of IPC: the mounts that hold it, and real groups of a real agent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mesostk.agent.shared_ipc import SharedIpc, SharedIpcError
from mesostk.agent.tests.agent_bench import AGENT, framework, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster
from mesostk.agent.tests.test_isolation import linux, root_agent
from mesostk.testing.requirements import require_root
from mesostk.wire.link import RunGroup
from mesostk.wire.mesos import ExecutorID, ExecutorInfo, TaskGroupInfo, TaskInfo

pytestmark = pytest.mark.root


# -- the mounts ----------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedIpc]:
    require_root()
    shared = SharedIpc(tmp_path)
    yield shared
    for container_id in shared.held():
        shared.release(container_id)


def test_what_is_held_is_made_once_and_found_again(shared: SharedIpc, tmp_path: Path) -> None:
    namespace, shm = Path(shared.hold("e")), Path(shared.hold_shm("e", 3))
    inode = namespace.stat().st_ino
    assert inode != Path("/proc/self/ns/ipc").stat().st_ino
    (shm / "left").touch()
    later = SharedIpc(tmp_path)
    assert Path(later.hold("e")).stat().st_ino == inode
    assert (Path(later.hold_shm("e", 3)) / "left").exists()
    assert later.held() == {"e"}


def test_it_is_for_no_other_user(shared: SharedIpc, tmp_path: Path) -> None:
    shared.hold_shm("e", 0)
    assert (tmp_path / "ipc").stat().st_mode & 0o777 == 0o700


def test_what_is_released_is_gone(shared: SharedIpc, tmp_path: Path) -> None:
    shared.hold("e")
    shared.hold_shm("e", 0)
    shared.hold("other")
    assert shared.is_held("e")
    shared.release("e")
    assert shared.held() == {"other"}
    assert not shared.is_held("e")
    assert str(tmp_path / "ipc" / "e") not in Path("/proc/self/mountinfo").read_text()


def test_where_it_cannot_be_made_is_told(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "ipc").touch()
    with pytest.raises(SharedIpcError, match=r"Not a directory|File exists"):
        SharedIpc(tmp_path).hold("e")


# -- a real agent --------------------------------------------------------------------------------


@pytest.fixture
async def master() -> AsyncIterator[ScriptedMaster]:
    master = ScriptedMaster()
    runner = await master.start()
    yield master
    await runner.cleanup()


@pytest.fixture
async def agent(master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    async with root_agent(master, "--isolation=filesystem/linux,namespaces/ipc") as agent:
        yield agent


async def launch(master: ScriptedMaster, *members: TaskInfo) -> None:
    executor = ExecutorInfo(
        executor_id=ExecutorID("pod"),
        type="DEFAULT",
        container=linux(ipc_mode="PRIVATE", shm_size=8),
    )
    group = TaskGroupInfo(tasks=members)
    await master.send(RunGroup(framework=framework(), executor=executor, task_group=group))


#: Says in which IPC namespace it is; leaves a file in /dev/shm; waits for one of the pod.
SAYS = "readlink /proc/self/ns/ipc; touch /dev/shm/{mark}; until [ -e {go} ]; do sleep 0.05; done"


def member(agent: AgentProcess, name: str, mode: str | None) -> TaskInfo:
    command = SAYS.format(mark=mark(agent, name), go=agent.work_dir / "go")
    return replace(task(name, command), container=None if mode is None else linux(ipc_mode=mode))


def mark(agent: AgentProcess, name: str) -> str:
    """The file that a task leaves; no other test's, for the host's /dev/shm is everybody's."""
    return f"{agent.work_dir.parent.name}-{name}"


async def namespace_of(agent: AgentProcess, master: ScriptedMaster, name: str) -> str:
    """Which IPC namespace a task says it is in."""
    status = (await master.until_state(name, "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.container_id is not None
    run = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/pod/runs/latest"
    out = run / "containers" / status.container_id.value / "stdout"
    await master.until_true(lambda: out.exists() and out.read_text().endswith("\n"))
    return out.read_text().strip()


async def test_tasks_of_a_group_share_their_executors_ipc_even_after_a_restart_of_the_agent(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    await launch(
        master,
        member(agent, "shares", "SHARE_PARENT"),
        member(agent, "silent", None),
        member(agent, "apart", "PRIVATE"),
    )
    [shares, silent, apart] = [
        await namespace_of(agent, master, name) for name in ("shares", "silent", "apart")
    ]
    assert shares == silent
    ours = os.readlink("/proc/self/ns/ipc")  # noqa: PTH115 - the link's own text
    assert len({shares, apart, ours}) == 3
    await agent.kill()
    await agent.start()
    await master.until(lambda: len(master.subscriptions) >= 2)
    await launch(master, member(agent, "later", "SHARE_PARENT"))
    assert await namespace_of(agent, master, "later") == shares

    held = agent.work_dir / "run" / "ipc"
    [pod] = held.iterdir()
    theirs = {mark(agent, "shares"), mark(agent, "later")}
    await master.until_true(lambda: names(pod / "shm") == theirs)
    # Only who names no mode has the host's /dev/shm.
    left = Path("/dev/shm") / mark(agent, "silent")
    await master.until_true(left.exists)
    assert not names(left.parent) & {*theirs, mark(agent, "apart")}
    left.unlink()
    (agent.work_dir / "go").touch()
    for name in ("shares", "silent", "apart", "later"):
        await master.until_state(name, "TASK_FINISHED")
    await master.until_true(lambda: not names(held))


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}
