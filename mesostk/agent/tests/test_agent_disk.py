"""The disk queue on real files: order, failure, and what is read back."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesostk.agent import layout
from mesostk.agent.checkpoint import Disk
from mesostk.agent.disk import DirectoryLock, DiskQueue, read_records
from mesostk.agent.events import Append, Checkpoint, Link, SaveFailed
from mesostk.agent.gc import Collector, Policy
from mesostk.base.core import Event, Put, Saved
from mesostk.base.daemon import Daemon
from mesostk.base.log import Log
from mesostk.errors import ConfigError
from mesostk.testing import disks


async def apply_all(work_dir: Path, *checkpoints: Checkpoint) -> list[Event]:
    daemon, told = Daemon("test", log=Log(stream=io.StringIO())), []
    done = asyncio.Event()

    def feed(event: Event) -> None:
        told.append(event)
        if len(told) == len(checkpoints):
            done.set()

    queue = DiskQueue(daemon, Disk(work_dir), feed)
    running = asyncio.create_task(queue.run())
    for checkpoint in checkpoints:
        queue.save(checkpoint)
    async with asyncio.timeout(90):
        await done.wait()
    running.cancel()
    daemon.disk_pool.shutdown()
    return told


async def test_checkpoints_are_told_in_order_and_read_back(tmp_path: Path) -> None:
    home = layout.agent_dir("S0")
    told = await apply_all(
        tmp_path,
        Checkpoint(1, (Put(f"{home}/slave.info", b"a"), Link(layout.LATEST, "S0")), sync=True),
        Checkpoint(2, (Append(f"{home}/x", b"1"), Append(f"{home}/x", b"2"))),
        Checkpoint(3, (Put(layout.EPOCH, b"e"),)),
    )
    assert told == [Saved(1), Saved(2), Saved(3)]
    files, latest = read_records(tmp_path)
    assert latest == "S0"
    assert files == {f"{home}/slave.info": b"a", f"{home}/x": b"12", layout.EPOCH: b"e"}


async def test_a_failed_checkpoint_does_not_hold_up_the_next(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told = await apply_all(
        tmp_path, Checkpoint(1, (Put("file/x", b""),)), Checkpoint(2, (Put("ok", b"y"),))
    )
    assert isinstance(told[0], SaveFailed)
    assert str(tmp_path) in told[0].path
    assert told[1] == Saved(2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "small", "64k") as path:
        yield path


async def test_a_full_disk_is_told_and_leaves_the_log_whole(small_disk: Path) -> None:
    told = await apply_all(
        small_disk,
        Checkpoint(1, (Append("log", b"x" * 1000),)),
        Checkpoint(2, (Append("log", b"y" * 100_000),)),
        Checkpoint(3, (Append("log", b"z"),)),
    )
    assert told[0] == Saved(1)
    assert isinstance(told[1], SaveFailed)
    assert "No space left on device" in told[1].error
    assert told[2] == Saved(3)
    assert (small_disk / "log").read_bytes() == b"x" * 1000 + b"z"


async def test_a_directory_has_one_agent(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "w", "work_dir")
    with pytest.raises(ConfigError, match=r"--work_dir=.* is in use by another agent"):
        DirectoryLock(tmp_path / "w", "work_dir")
    await lock.release()
    await DirectoryLock(tmp_path / "w", "work_dir").release()


async def test_ended_sandboxes_go_when_they_are_old_and_live_ones_stay(tmp_path: Path) -> None:
    daemon = Daemon("test", log=Log(stream=io.StringIO()))
    old, new, live = (
        (
            tmp_path / layout.sandbox("S0", "F", "e", run),
            tmp_path / layout.run_dir("S0", "F", "e", run),
        )
        for run in ("old", "new", "live")
    )
    foreign = tmp_path / layout.agent_dir("S9")
    foreign.mkdir(parents=True)
    os.utime(foreign, (1, 1))
    for sandbox, records in (old, new, live):
        sandbox.mkdir(parents=True)
        records.mkdir(parents=True)
        if sandbox is not live[0]:
            (records / "executor.sentinel").touch()
    os.utime(old[1] / "executor.sentinel", (1, 1))
    removed: list[Path] = []
    policy = Policy(delay_s=1000.0, headroom=0.0, interval_s=60.0)
    collector = Collector(daemon, tmp_path, policy, lambda: "S0", removed.append)
    collector.add_old()
    await collector.collect()
    assert set(removed) == {old[0], tmp_path / "slaves" / "S9"}
    assert not old[0].exists()
    assert not old[1].exists()
    assert not foreign.exists()
    assert new[0].exists()
    assert live[0].exists()
    daemon.disk_pool.shutdown()
