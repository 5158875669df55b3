"""What keeps tasks from filling the disk: rotation of their output, and quotas."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mesostk.agent.disk_watch import disk_usage, rotate
from mesostk.agent.events import DiskExceeded, Exited, KillRun
from mesostk.agent.tests.agent_bench import Bench, of_type, task, updates
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, master
from mesostk.testing.disks import small_disk
from mesostk.testing.requirements import absent
from mesostk.wire.mesos import Resource, Scalar

__all__ = ["master"]  # a fixture

MIB = 1 << 20


#: Writes until the file exists that it is told of.
WRITER = """
import os, sys
n = 0
while not os.path.exists(sys.argv[1]):
    for n in range(n, n + 1000):
        os.write(1, b"line %d of many\\n" % n)
    n += 1
"""


def test_no_byte_of_a_fast_writer_is_lost(tmp_path: Path) -> None:
    """A writer that never pauses, its output moved away again and again."""
    moved, rounds = b"", 0
    with (tmp_path / "stdout").open("ab") as out:
        writer = subprocess.Popen([sys.executable, "-ISc", WRITER, tmp_path / "over"], stdout=out)
    while writer.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "stdout.1").unlink()
        if not rotate(tmp_path, "stdout"):
            writer.kill()
            writer.wait()
            absent(f"the file system of {tmp_path} cuts no heads off files")
        with contextlib.suppress(FileNotFoundError):  # nothing to move yet
            moved += (tmp_path / "stdout.1").read_bytes()
            rounds += 1
        if rounds > 20 and len(moved) > MIB:
            (tmp_path / "over").touch()
    assert writer.returncode == 0
    whole = moved + (tmp_path / "stdout").read_bytes()
    lines = whole.count(b"\n")
    assert whole == b"".join(b"line %d of many\n" % n for n in range(lines))


def test_where_no_head_can_be_cut_off_the_file_is_emptied_and_that_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "tmpfs", "2m") as disk, (disk / "stdout").open("ab") as out:
        for text in (b"first" * 1000, b"second" * 1000):
            out.write(text)
            out.flush()
            assert not rotate(disk, "stdout")
            assert (disk / "stdout").read_bytes() == b""
            assert (disk / "stdout.1").read_bytes() == text


def test_on_a_full_disk_the_tasks_output_gives_way(tmp_path: Path) -> None:
    with small_disk(tmp_path / "tmpfs", "64k") as disk:
        (disk / "stdout").write_bytes(b"x" * 60000)
        with pytest.raises(OSError, match="No space left"):
            rotate(disk, "stdout")
        assert (disk / "stdout").stat().st_size == 0


@pytest.mark.parametrize("trick", ["link", "hard link", "fifo", "link in place of the copy"])
def test_nothing_that_a_task_put_there_is_followed(tmp_path: Path, trick: str) -> None:
    sandbox, victim = tmp_path / "box", tmp_path / "victim"
    sandbox.mkdir()
    victim.write_text("precious")
    if trick == "link":
        (sandbox / "stdout").symlink_to(victim)
    elif trick == "hard link":
        (sandbox / "stdout").hardlink_to(victim)
    elif trick == "fifo":
        os.mkfifo(sandbox / "stdout")
    else:
        (sandbox / "stdout").write_text("much" * 5000)
        (sandbox / "stdout.1").symlink_to(victim)
        rotate(sandbox, "stdout")
        assert (sandbox / "stdout.1").read_text().startswith("much" * 4000)
    if trick != "link in place of the copy":
        with pytest.raises(OSError, match=r"."):
            rotate(sandbox, "stdout")
    assert victim.read_text() == "precious"


def test_usage_counts_blocks_and_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * MIB)
    alone = disk_usage(tmp_path)
    assert alone >= MIB
    (tmp_path / "b").hardlink_to(tmp_path / "a" / "file")
    (tmp_path / "c").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MIB)
    assert alone <= disk_usage(tmp_path) < alone + MIB // 2


def test_who_uses_more_than_its_quota_fails_with_the_figures() -> None:
    bench = Bench()
    bench.register()
    cid = bench.run(task())
    killed = of_type(bench.feed(DiskExceeded(cid, 30 * MIB, 20 * MIB)), KillRun)
    assert [(kill.container_id, kill.grace_s) for kill in killed] == [(cid, 0.0)]
    assert not of_type(bench.feed(DiskExceeded(cid, 31 * MIB, 20 * MIB)), KillRun)
    status = updates(bench.feed(Exited(cid, 9, killed=True)))[-1].status
    assert (status.state, status.reason, status.message) == (
        "TASK_FAILED",
        "REASON_CONTAINER_LIMITATION_DISK",
        "Disk usage (30MB) exceeds quota (20MB)",
    )
    assert status.limitation is not None
    (disk,) = status.limitation.resources
    assert (disk.name, disk.scalar) == ("disk", Scalar(20.0))


@pytest.fixture
async def agent(tmp_path: Path, master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    flags = ("--container_log_size=64KB", "--enforce_container_disk_quota",
             "--container_disk_watch_interval=200ms")  # fmt: skip
    agent = AgentProcess(work_dir, master.url, *flags)
    await agent.start()
    await master.until(lambda: bool(master.subscriptions))
    yield agent
    await agent.kill()


async def test_a_chatty_task_and_a_greedy_one(master: ScriptedMaster, agent: AgentProcess) -> None:
    chatty = "i=0; while [ ! -e stdout.1 ]; do i=$((i+1)); echo line $i of many; done; exit 3"
    await master.launch(task("chatty", chatty))
    ended = await master.until_ended("chatty")
    assert ended.status.message == "Command exited with status 3"
    disk = Resource(name="disk", type="SCALAR", scalar=Scalar(2.0))
    plain = task("greedy", "head -c 5000000 /dev/urandom > big; sleep 600")
    greedy = replace(plain, resources=(*plain.resources, disk))
    await master.launch(greedy)
    ended = await master.until_ended("greedy")
    assert ended.status.reason == "REASON_CONTAINER_LIMITATION_DISK"
    assert (await agent.get("/health"))[0] == 200
