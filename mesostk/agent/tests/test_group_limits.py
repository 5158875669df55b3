"""What executors and their tasks may use together: as amounts, and in real cgroups."""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from mesostk.agent import amounts
from mesostk.agent.events import Amounts
from mesostk.agent.state import Run, TaskEntry
from mesostk.agent.tests.agent_bench import AGENT, cpus, framework, task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster
from mesostk.agent.tests.test_isolation import cgroups_of_runs, root_agent
from mesostk.wire.link import RunGroup
from mesostk.wire.mesos import (
    ContainerInfo,
    ExecutorID,
    ExecutorInfo,
    LinuxInfo,
    Resource,
    Scalar,
    TaskGroupInfo,
    TaskInfo,
)

pytestmark = pytest.mark.root

#: Takes and keeps that many MiB.
HOLD = f'exec {sys.executable} -Sc \'import time; kept = b"x" * ({{}} << 20); '
HOLD += 'print("up", flush=True); time.sleep(1000)\''


def mem(mib: float) -> Resource:
    return Resource(name="mem", type="SCALAR", scalar=Scalar(mib))


def member(name: str, command: str, mib: float, **linux: object) -> TaskInfo:
    made = replace(task(name, command), resources=(cpus(0.5), mem(mib)))
    if not linux:
        return made
    info = LinuxInfo(**linux)  # type: ignore[arg-type] # its own fields
    return replace(made, container=ContainerInfo(type="MESOS", linux_info=info))


EXECUTOR = ExecutorInfo(
    executor_id=ExecutorID("pod"), type="DEFAULT", resources=(cpus(0.1), mem(32))
)


# -- amounts ---------------------------------------------------------------------------------------


def executor_run(*infos: TaskInfo) -> Run:
    entries = {info.task_id.value: TaskEntry(info=info) for info in infos}
    executor = replace(EXECUTOR, type="CUSTOM")
    return Run(
        framework_id="F", executor=executor, container_id="c", phase="RUNNING", tasks=entries
    )


def test_an_executor_may_use_what_it_and_its_live_tasks_were_given() -> None:
    run = executor_run(member("a", "x", 64), member("b", "x", 100))
    assert amounts.of_executor(run) == Amounts(cpus=1.1, mem_mib=196)
    run.tasks["b"].state = "TASK_FINISHED"
    assert amounts.of_executor(run) == Amounts(cpus=0.6, mem_mib=96)


def test_a_limit_of_one_task_raises_that_of_all() -> None:
    limited = replace(member("a", "x", 64), limits={"mem": Scalar(80), "cpus": Scalar(math.inf)})
    run = executor_run(limited, member("b", "x", 100))
    assert amounts.of_executor(run) == Amounts(
        cpus=1.1, mem_mib=196, cpus_limit=math.inf, mem_limit_mib=32 + 80 + 100
    )


# -- a real agent ----------------------------------------------------------------------------------


@pytest.fixture
async def master() -> AsyncIterator[ScriptedMaster]:
    master = ScriptedMaster()
    runner = await master.start()
    yield master
    await runner.cleanup()


@pytest.fixture
async def agent(master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    async with root_agent(master) as agent:
        yield agent


async def launch(master: ScriptedMaster, *members: TaskInfo) -> None:
    group = TaskGroupInfo(tasks=members)
    await master.send(RunGroup(framework=framework(), executor=EXECUTOR, task_group=group))


async def said(agent: AgentProcess, master: ScriptedMaster, name: str) -> None:
    """Wait until a task of the group has printed something."""
    status = (await master.until_state(name, "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.container_id is not None
    runs = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/pod/runs/latest"
    out = runs / "containers" / status.container_id.value / "stdout"
    await master.until_true(lambda: out.exists() and out.stat().st_size > 0)


async def test_tasks_of_a_group_share_their_memory_and_the_one_that_took_too_much_is_told(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    # 32 of the executor, 64 + 64 of the tasks: `lends` uses more than its own, which is fine.
    lends = member("lends", HOLD.format(70), 64)
    greedy = member("greedy", "until [ -e go ]; do sleep 0.05; done; exec tail /dev/zero", 64)
    await launch(master, lends, greedy)
    await said(agent, master, "lends")
    await master.until_state("greedy", "TASK_RUNNING")
    assert master.states("lends")[-1] == "TASK_RUNNING"
    runs = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/pod/runs/latest"
    for sandbox in (runs / "containers").iterdir():
        (sandbox / "go").touch()
    end = await master.until_ended("greedy")
    assert (end.status.state, end.status.reason) == (
        "TASK_FAILED",
        "REASON_CONTAINER_LIMITATION_MEMORY",
    )
    assert end.status.message is not None
    assert end.status.message.startswith("Memory limit exceeded: Requested: 160MB")
    assert end.status.limitation is not None
    (used,) = end.status.limitation.resources
    assert used.name == "mem"
    assert used.scalar is not None
    assert 159 <= used.scalar.value <= 160
    other = await master.until_ended("lends")
    assert (other.status.state, other.status.reason) == ("TASK_KILLED", None)


async def test_a_task_of_a_group_can_have_a_limit_of_its_own(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    alone = member("alone", HOLD.format(80), 64, share_cgroups=False)
    beside = member("beside", "sleep 1000", 64, share_cgroups=False)
    await launch(master, alone, beside)
    end = await master.until_ended("alone")
    assert end.status.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert end.status.message is not None
    assert end.status.message.startswith("Memory limit exceeded: Requested: 64MB")


async def test_the_limits_follow_the_tasks(master: ScriptedMaster, agent: AgentProcess) -> None:
    await launch(master, member("first", "sleep 1000", 64))
    await master.until_state("first", "TASK_RUNNING")
    root = f"mesostk-test/{agent.work_dir.parent.name}"

    def limits() -> set[int]:
        # Not by a search of all cgroups: those of others come and go while it looks.
        found = [run / "memory.limit_in_bytes" for run in cgroups_of_runs(root)]
        return {int(path.read_text()) >> 20 for path in found if path.exists()}

    if not limits():
        pytest.skip("no memory controller of v1 here")
    assert limits() == {96}
    await launch(master, member("second", "until [ -e go ]; do sleep 0.05; done", 64))
    await master.until_state("second", "TASK_RUNNING")
    assert limits() == {160}
    runs = agent.work_dir / f"slaves/{AGENT.value}/frameworks/F/executors/pod/runs/latest"
    for sandbox in (runs / "containers").iterdir():
        (sandbox / "go").touch()
    await master.until_ended("second")
    await master.until_true(lambda: limits() == {96})
