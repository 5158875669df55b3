"""Detection, limits and killing: as text, in a plain directory tree, and in real cgroups."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.agent import usage
from mesostk.agent.cgroup_limits import (
    CgroupError,
    Limits,
    cfs_quota_us,
    cpu_shares,
    cpu_weight,
)
from mesostk.agent.cgroups import Cgroups, Hierarchy, choose, detect, hierarchies
from mesostk.agent.checkpoint import ExitRecord
from mesostk.agent.fetch_process import Cancellation, FetchError, FetchProcesses
from mesostk.agent.launch import LauncherClient
from mesostk.agent.launch_spec import LaunchSpec
from mesostk.agent.processes import kill_cgroup
from mesostk.agent.tests.fetch_bench import daemon_of, daemonising, fetch_bench, order, until
from mesostk.testing.processes import LIMIT_S
from mesostk.testing.requirements import absent, require_root

MIB = 1024 * 1024

V1_MOUNTS = """\
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
29 25 0:26 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
30 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
"""
V1_OWN = """\
9:name=systemd:/init.scope
4:memory:/
3:freezer:/
2:cpu,cpuacct:/
0::/init.scope
"""


def bases(found: list[Hierarchy]) -> dict[str, str]:
    return {",".join(sorted(h.controllers)): str(h.base) for h in found}


# -- detection ------------------------------------------------------------------------------------


def test_hierarchies_of_a_systemd_host_with_v1() -> None:
    found = hierarchies(V1_MOUNTS, V1_OWN)
    assert bases(found) == {
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "freezer": "/sys/fs/cgroup/freezer",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
        "": "/sys/fs/cgroup/unified",
    }
    assert [h.version for h in found] == [1, 1, 1, 1, 2]


def test_pid_1_of_systemd_sits_in_a_leaf_that_is_left_out() -> None:
    mounts = "30 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert bases(hierarchies(mounts, "0::/init.scope\n")) == {"": "/sys/fs/cgroup"}
    assert bases(hierarchies(mounts, "0::/lxc/h1/init.scope\n")) == {"": "/sys/fs/cgroup/lxc/h1"}


def test_runs_go_below_the_cgroup_of_a_host_that_is_a_container() -> None:
    # The whole hierarchy is mounted, but PID 1 lives deeper …
    mounts = "28 25 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    assert bases(hierarchies(mounts, "4:memory:/docker/abc\n")) == {
        "memory": "/sys/fs/cgroup/memory/docker/abc"
    }
    # … or only its own part is.
    mounts = "28 25 0:25 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    assert bases(hierarchies(mounts, "4:memory:/docker/abc\n")) == {
        "memory": "/sys/fs/cgroup/memory"
    }


@pytest.mark.parametrize("own", ["4:memory:/docker/other\n", "4:memory:/../x\n", "", "garbage\n"])
def test_mount_that_does_not_show_the_cgroup_of_pid_1_is_not_used(own: str) -> None:
    mounts = "28 25 0:25 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    assert hierarchies(mounts, own) == []


def test_mount_point_with_a_space() -> None:
    mounts = "28 25 0:25 / /my\\040cgroups rw - cgroup cgroup rw,memory\n"
    assert bases(hierarchies(mounts, "4:memory:/\n")) == {"memory": "/my cgroups"}


@given(st.text(max_size=200), st.text(max_size=200))
def test_detection_never_trips_over_odd_text(mounts: str, own: str) -> None:
    hierarchies(mounts, own)


def test_without_anything_runs_are_process_groups() -> None:
    cgroups, line = choose([], "mesos")
    assert cgroups is None
    assert line == (
        "cgroups: none (no hierarchy is mounted); runs are process groups, without limits"
    )


@pytest.mark.parametrize("root", ["", "/", "a/../b"])
def test_root_that_leaves_its_place_is_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(CgroupError, match="must be a relative path"):
        Cgroups([Hierarchy(1, frozenset({"cpu"}), tmp_path)], root)


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cpus", "shares"), [(0.001, 2), (0.1, 102), (1.0, 1024), (2.5, 2560)])
def test_shares_follow_cpus(cpus: float, shares: int) -> None:
    assert cpu_shares(cpus) == shares


def test_weight_spans_the_range_of_shares() -> None:
    assert [cpu_weight(n) for n in (2, 1024, 262144, 10**9)] == [1, 39, 10000, 10000]


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        (Limits(cpus=1.5, memory_bytes=0), None),
        (Limits(cpus=1.5, memory_bytes=0, enable_cfs=True), 150_000),
        (Limits(cpus=0.001, memory_bytes=0, enable_cfs=True), 1_000),
        (Limits(cpus=0.1, memory_bytes=0, cpus_limit=2.0), 200_000),
        (Limits(cpus=0.1, memory_bytes=0, cpus_limit=float("inf"), enable_cfs=True), None),
    ],
)
def test_quota(limits: Limits, quota: int | None) -> None:
    assert cfs_quota_us(limits) == quota


# -- v2, against a directory tree: not every kernel's v2 mount has controllers --------------------


class FakeV2:
    """A tree that fills new directories as the kernel does; watched by calling `grow`."""

    FILES = (
        *("cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "cpu.weight", "cpu.max"),
        *("memory.low", "memory.max", "memory.oom.group", "memory.current", "pids.max"),
    )

    def __init__(self, base: Path) -> None:
        self.base = base
        base.mkdir()
        (base / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        self.grow(base / "mesos")
        (base / "mesos" / "cgroup.controllers").write_text("cpu memory pids\n")
        (base / "cgroup.subtree_control").write_text("")

    def grow(self, directory: Path) -> None:
        directory.mkdir()
        for name in self.FILES:
            (directory / name).write_text("")
        (directory / "memory.current").write_text("0\n")

    def text(self, path: str) -> str:
        return (self.base / "mesos" / path).read_text()


@pytest.fixture
def v2(tmp_path: Path) -> tuple[Cgroups, FakeV2]:
    tree = FakeV2(tmp_path / "cgroup")
    cgroups, line = choose([Hierarchy(2, frozenset(), tree.base)], "mesos")
    assert cgroups is not None, line
    # A plain file keeps only what was written last; the kernel collects what is enabled.
    (tree.base / "mesos" / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return cgroups, tree


def test_v2_hands_controllers_down_and_keeps_supervisors_in_a_leaf(
    v2: tuple[Cgroups, FakeV2],
) -> None:
    cgroups, tree = v2
    assert (tree.base / "cgroup.subtree_control").read_text().startswith("+")
    assert (tree.base / "mesos" / "supervisors").is_dir()
    assert cgroups.describe() == f"v2 (cpu,memory,pids) at {tree.base}/mesos"
    assert cgroups.names() == set()


def test_v2_limits(v2: tuple[Cgroups, FakeV2]) -> None:
    cgroups, tree = v2
    tree.grow(tree.base / "mesos" / "r1")
    made = cgroups.create("r1", Limits(cpus=1, memory_bytes=64 * MIB, enable_cfs=True, pids=100))
    assert made.cgroups == (f"{tree.base}/mesos/r1",)
    assert made.supervisor_cgroups == (f"{tree.base}/mesos/supervisors",)
    assert made.oom_events == f"{tree.base}/mesos/r1/memory.events"
    assert tree.text("r1/cpu.weight") == "39"
    assert tree.text("r1/cpu.max") == "100000 100000"
    assert tree.text("r1/memory.low") == str(64 * MIB)
    assert tree.text("r1/memory.max") == str(64 * MIB)
    assert tree.text("r1/memory.oom.group") == "1"
    assert tree.text("r1/pids.max") == "100"


def test_v2_memory_limit_is_never_set_below_what_is_in_use(v2: tuple[Cgroups, FakeV2]) -> None:
    cgroups, tree = v2
    tree.grow(tree.base / "mesos" / "r1")
    cgroups.create("r1", Limits(cpus=1, memory_bytes=64 * MIB, memory_limit_bytes=128 * MIB))
    (tree.base / "mesos" / "r1" / "memory.current").write_text(f"{100 * MIB}\n")
    (tree.base / "mesos" / "r1" / "memory.max").write_text(f"{128 * MIB}")
    cgroups.update("r1", Limits(cpus=1, memory_bytes=32 * MIB))
    assert int(tree.text("r1/memory.max")) == 128 * MIB
    cgroups.update("r1", Limits(cpus=1, memory_bytes=101 * MIB))
    assert tree.text("r1/memory.max").startswith(str(101 * MIB))


def test_v2_nested_ones_are_below_the_one_that_limits_them_all(
    v2: tuple[Cgroups, FakeV2],
) -> None:
    cgroups, tree = v2
    mesos = tree.base / "mesos"
    for name in ("e", "e/mesos", "e/mesos/n"):
        tree.grow(mesos / name)
        (mesos / name / "cgroup.subtree_control").write_text("cpu memory\n")
    (mesos / "e" / "cgroup.controllers").write_text("cpu\n")
    free = Limits(cpus=1, memory_bytes=64 * MIB, memory_limit_bytes=float("inf"))
    made = cgroups.create("e.n", free, Limits(cpus=2, memory_bytes=128 * MIB))
    assert made.cgroups == (f"{mesos}/e/mesos/n",)
    assert made.oom_events == f"{mesos}/e/mesos/n/memory.events"
    assert tree.text("e/memory.max") == str(128 * MIB)
    assert tree.text("e/memory.oom.group") == ""  # one task's end is not that of all
    assert tree.text("e/mesos/n/memory.max") == "max"
    assert tree.text("e/mesos/n/memory.oom.group") == "1"
    assert tree.text("e/cgroup.subtree_control").startswith("+cpu")
    assert cgroups.names() == {"e"}


def test_v2_limit_that_cannot_be_set_is_an_error_that_names_the_file(
    v2: tuple[Cgroups, FakeV2],
) -> None:
    cgroups, tree = v2
    (tree.base / "mesos" / "r1").mkdir()  # without any files: as if the controller were missing
    with pytest.raises(CgroupError, match=r"cannot write '39' to .*/r1/cpu.weight: No such file"):
        cgroups.create("r1", Limits(cpus=1, memory_bytes=64 * MIB))
    assert not (tree.base / "mesos" / "r1").exists()


def test_v2_without_controllers_can_still_kill(tmp_path: Path) -> None:
    base = tmp_path / "cgroup"
    (base / "mesos").mkdir(parents=True)
    (base / "cgroup.controllers").write_text("\n")
    (base / "cgroup.subtree_control").write_text("")
    cgroups, line = choose([Hierarchy(2, frozenset(), base)], "mesos")
    assert cgroups is not None
    assert line == f"cgroups: v2 (no controllers: kills, no limits) at {base}/mesos"
    made = cgroups.create("r1", Limits(cpus=1, memory_bytes=64 * MIB))
    assert made.cgroups == (f"{base}/mesos/r1",)
    assert made.oom_events is None


def test_controllers_decide_between_v2_and_v1(tmp_path: Path) -> None:
    v1 = Hierarchy(1, frozenset({"memory"}), tmp_path / "memory")
    v2 = Hierarchy(2, frozenset(), tmp_path / "unified")
    for hierarchy in (v1, v2):
        hierarchy.base.mkdir()
    (v2.base / "cgroup.controllers").write_text("")
    cgroups, _ = choose([v1, v2], "mesos")
    assert cgroups is not None
    assert not cgroups.is_v2


@pytest.mark.parametrize("name", ["", "..", "a/b", "a..b", "supervisors"])
def test_container_id_that_is_no_name_is_refused(v2: tuple[Cgroups, FakeV2], name: str) -> None:
    with pytest.raises(CgroupError, match="cannot name a cgroup"):
        v2[0].create(name, Limits(cpus=1, memory_bytes=0))


def test_only_our_own_cgroups_are_orphans(v2: tuple[Cgroups, FakeV2]) -> None:
    cgroups, tree = v2
    for name in ("ours-live", "ours-dead", "theirs"):
        (tree.base / "mesos" / name).mkdir()
    assert cgroups.orphans({"ours-live", "ours-dead", "ours-gone"}, {"ours-live"}) == {"ours-dead"}


# -- memory and swap together ---------------------------------------------------------------------


def swap_tree(tmp_path: Path) -> tuple[Cgroups, Path]:
    """A v1 memory hierarchy as plain files, and the cgroup `r` in it."""
    (tmp_path / "mesos").mkdir()
    (tmp_path / "mesos" / "memory.memsw.limit_in_bytes").write_text("")
    cgroups = Cgroups([Hierarchy(1, frozenset({"memory"}), tmp_path)], "mesos")
    run = tmp_path / "mesos" / "r"
    run.mkdir()
    for name in ("soft_limit_in_bytes", "limit_in_bytes", "memsw.limit_in_bytes"):
        (run / f"memory.{name}").write_text("")
    for name in ("usage_in_bytes", "memsw.usage_in_bytes"):
        (run / f"memory.{name}").write_text("0")
    return cgroups, run


def limits_in(run: Path) -> tuple[str, str]:
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    first, second = ((run / name).read_text().strip() for name in names)
    return first, second


def test_swap_is_limited_with_memory_where_the_flag_says_so(tmp_path: Path) -> None:
    cgroups, run = swap_tree(tmp_path)
    cgroups.update("r", Limits(cpus=1, memory_bytes=64 * MIB))
    assert limits_in(run) == (str(64 * MIB), "")
    cgroups.limit_swap()
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        (run / name).write_text(f"{64 * MIB}")
    for mib in (128, 256, 128):
        cgroups.update("r", Limits(cpus=1, memory_bytes=mib * MIB))
        assert limits_in(run) == (str(mib * MIB), str(mib * MIB))
    # Not below what is in use, swap included.
    (run / "memory.memsw.usage_in_bytes").write_text(str(120 * MIB))
    cgroups.update("r", Limits(cpus=1, memory_bytes=100 * MIB))
    assert limits_in(run) == (str(128 * MIB), str(128 * MIB))


def test_swap_that_cannot_be_limited_is_refused(tmp_path: Path, v2: tuple[Cgroups, FakeV2]) -> None:
    with pytest.raises(CgroupError, match="by cgroups v1 only"):
        v2[0].limit_swap()
    other = tmp_path / "v1"
    other.mkdir()
    cgroups, run = swap_tree(other)
    (run.parent / "memory.memsw.limit_in_bytes").unlink()
    with pytest.raises(CgroupError, match=r"memory.memsw.limit_in_bytes is not available; boot"):
        cgroups.limit_swap()


# -- real cgroups ---------------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Cgroups]:
    require_root()
    cgroups, line = detect(f"mesostk-test-{uuid.uuid4()}")
    if cgroups is None:
        absent(line)
    yield cgroups
    for name in cgroups.names():
        cgroups.destroy(name)
    for top in cgroups.of("any").supervisor_cgroups:
        directory = Path(top)
        wait_for_none_in(directory)
        directory.rmdir()
        if cgroups.is_v2:
            directory.parent.rmdir()


def wait_for_none_in(cgroup: Path) -> None:
    """The supervisors that were not told to end, but that no agent is left."""
    deadline = time.monotonic() + 90.0
    while (cgroup / "cgroup.procs").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Runner:
    """Runs commands in cgroups to their end."""

    def __init__(self, directory: Path, cgroups: Cgroups) -> None:
        self.directory = directory
        self.cgroups = cgroups
        self.ended: dict[str, ExitRecord] = {}
        self.client = LauncherClient(directory / "runtime", self.ended.__setitem__)

    async def start(self, name: str, command: str, limits: Limits) -> int:
        made = self.cgroups.create(name, limits)
        spec = LaunchSpec(
            container_id=name,
            executable="sh",
            argv=("sh", "-c", command),
            env={"PATH": os.environ["PATH"]},
            sandbox=self.directory,
            cgroups=made.cgroups,
            supervisor_cgroups=made.supervisor_cgroups,
            oom_events=made.oom_events,
        )
        return (await self.client.launch(spec)).pid

    def read(self, path: str) -> str:
        return Path(path).read_text()

    def names_in(self, procs: str) -> list[str]:
        names = []
        for pid in self.read(procs).split():
            with contextlib.suppress(OSError):
                names.append(self.read(f"/proc/{pid}/comm").strip())
        return names

    async def end_of(self, name: str) -> ExitRecord:
        deadline = time.monotonic() + LIMIT_S
        while name not in self.ended:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        return self.ended[name]


@pytest.fixture
async def runner(tmp_path: Path, real: Cgroups):  # type: ignore[no-untyped-def] # async generator
    runner = Runner(tmp_path, real)
    yield runner
    for run in list(runner.client.runs.values()):
        runner.client.kill(run, 0.0)
        await runner.end_of(run.container_id)
    await runner.client.close()


def needs(cgroups: Cgroups, controller: str) -> None:
    if controller not in cgroups.describe():
        pytest.skip(f"no {controller} controller here")


@pytest.mark.root
async def test_task_is_in_its_cgroups_and_its_supervisor_is_not(runner: Runner) -> None:
    pid = await runner.start(
        "r", "cat /proc/self/cgroup; sleep 600", Limits(cpus=1, memory_bytes=0)
    )
    out = runner.directory / "stdout"
    deadline = time.monotonic() + LIMIT_S
    while "/r\n" not in (out.read_text() if out.exists() else ""):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    own = runner.read(f"/proc/{pid}/cgroup")
    assert "/r\n" not in own
    assert "mesostk-test-" in own  # nor in the agent's unit


@pytest.mark.root
async def test_memory_limit_is_real_and_its_breach_is_told(runner: Runner) -> None:
    needs(runner.cgroups, "memory")
    # tail keeps the whole of an endless line in memory.
    await runner.start("r", "tail /dev/zero", Limits(cpus=1, memory_bytes=48 * MIB))
    record = await runner.end_of("r")
    assert record.oom
    assert record.wait_status not in (0, None)
    assert not record.killed
    peak = runner.cgroups.memory_peak_bytes("r")
    assert peak is not None
    assert 40 * MIB < peak <= 48 * MIB


@pytest.mark.root
async def test_limit_of_memory_and_swap_is_real(runner: Runner) -> None:
    needs(runner.cgroups, "memory")
    try:
        runner.cgroups.limit_swap()
    except CgroupError as error:
        absent(str(error))
    limits = Limits(cpus=1, memory_bytes=48 * MIB)
    await runner.start("r", "sleep 1000", limits)
    name = "memory.memsw.limit_in_bytes"
    for mib in (48, 96, 64):
        runner.cgroups.update("r", Limits(cpus=1, memory_bytes=mib * MIB))
        for file in (name, "memory.limit_in_bytes"):
            assert runner.cgroups.file("memory", "r", file) == f"{mib * MIB}\n"
    runner.cgroups.destroy("r")


@pytest.mark.root
async def test_task_within_its_memory_is_left_alone(runner: Runner) -> None:
    await runner.start("r", "head -c 8M /dev/zero | tail", Limits(cpus=1, memory_bytes=48 * MIB))
    record = await runner.end_of("r")
    assert not record.oom
    assert record.wait_status == 0


@pytest.mark.root
async def test_quota_throttles_and_usage_counts_it(runner: Runner) -> None:
    needs(runner.cgroups, "cpu")
    limits = Limits(cpus=0.1, memory_bytes=64 * MIB, cpus_limit=0.1)
    pid = await runner.start("r", "while :; do :; done", limits)
    deadline = time.monotonic() + LIMIT_S
    while True:
        seen = usage.of_run(1.5, pid, "r", runner.cgroups, {"cpus_limit": 0.1})
        if seen.cpus_nr_throttled is not None and seen.cpus_nr_throttled >= 2:
            break
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert seen.timestamp == 1.5
    assert seen.cpus_limit == 0.1
    assert seen.processes == 1
    assert seen.mem_limit_bytes == 64 * MIB
    assert seen.cpus_user_time_secs is not None
    assert seen.cpus_user_time_secs > 0.01
    assert seen.mem_total_bytes is not None
    assert seen.mem_total_bytes > 0


@pytest.mark.root
async def test_what_a_killed_supervisor_leaves_is_found_by_its_cgroup(runner: Runner) -> None:
    # A session of its own and an empty environment: nothing but the cgroup leads to it.
    hidden = "(env -i setsid sleep 600 &); sleep 600"
    pid = await runner.start("r", hidden, Limits(cpus=1, memory_bytes=64 * MIB))
    procs = runner.cgroups.of("r").cgroups[0] + "/cgroup.procs"
    deadline = time.monotonic() + LIMIT_S
    while runner.names_in(procs).count("sleep") != 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert (await runner.end_of("r")).lost
    assert runner.read(procs) == ""


@pytest.mark.root
async def test_pids_limit_stops_a_fork_bomb_and_the_kill_takes_all_of_it(runner: Runner) -> None:
    needs(runner.cgroups, "pids")
    bomb = "b() { b | b & }; trap '' TERM; b; sleep 600"
    await runner.start("r", bomb, Limits(cpus=0.1, memory_bytes=64 * MIB, pids=20))
    runner.client.kill(runner.client.runs["r"], 0.1)
    await runner.end_of("r")
    runner.cgroups.destroy("r")
    assert runner.cgroups.names() == set()


@pytest.mark.root
def test_destroy_kills_what_is_nested_too(real: Cgroups) -> None:
    made = real.create("r", Limits(cpus=1, memory_bytes=64 * MIB))
    with contextlib.ExitStack() as stack:
        for nested in ("", "/inner", "/inner/most"):
            process = stack.enter_context(subprocess.Popen(["sleep", "600"]))
            stack.callback(process.kill)
            for top in made.cgroups:
                Path(top + nested).mkdir(exist_ok=True)
                Path(top + nested, "cgroup.procs").write_text(str(process.pid))
        real.destroy("r")
    assert real.names() == set()
    real.destroy("r")  # again is nothing


@pytest.mark.root
def test_v2_kill_takes_everything_at_once(tmp_path: Path) -> None:
    require_root()
    found = hierarchies(
        Path("/proc/self/mountinfo").read_text(), Path("/proc/1/cgroup").read_text()
    )
    v2 = [h for h in found if h.version == 2]
    if not v2:
        pytest.skip("no v2 mount")
    cgroups = Cgroups(v2, f"mesostk-test-{uuid.uuid4()}")
    cgroups.prepare()
    made = cgroups.create("r", Limits(cpus=1, memory_bytes=64 * MIB))
    try:
        join = f"echo 0 > {made.cgroups[0]}/cgroup.procs; trap '' TERM; sleep 600 & sleep 600"
        with subprocess.Popen(["sh", "-c", join]) as process:
            deadline = time.monotonic() + LIMIT_S
            procs = Path(made.cgroups[0], "cgroup.procs")
            while len(procs.read_text().split()) < 3:
                assert time.monotonic() < deadline
            assert kill_cgroup(made.cgroups[0]) == 3
            assert process.wait(LIMIT_S) == -9
    finally:
        cgroups.destroy("r")
        for top in made.supervisor_cgroups:
            Path(top).rmdir()
            Path(top).parent.rmdir()


@pytest.mark.root
def test_detection_on_this_host_says_what_it_uses(real: Cgroups) -> None:
    assert real.describe().startswith(("v1 ", "v2 "))
    if not real.is_v2 and "freezer" in real.describe():
        assert "/freezer/" in real.of("r").cgroups[0]


def pids_in(cgroup: str) -> list[int]:
    return [int(pid) for pid in Path(cgroup, "cgroup.procs").read_text().split()]


async def test_the_fetcher_has_cgroups_while_it_works(tmp_path: Path, real: Cgroups) -> None:
    async with fetch_bench(tmp_path, real) as bench:
        processes = FetchProcesses(bench.runs, daemonising(tmp_path, "sleep 600"))
        gone = Cancellation()
        working = asyncio.ensure_future(processes.carry_out(order(), gone))
        await until(lambda: daemon_of(tmp_path) is not None)
        (runtime,) = bench.left()
        for directory in real.of(runtime.name).cgroups:
            assert daemon_of(tmp_path) in pids_in(directory)
        gone.set()
        with pytest.raises(FetchError, match="no longer wanted"):
            await working
        assert not real.exists(runtime.name)
