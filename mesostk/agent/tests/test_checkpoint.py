"""Records on disk: whole or not at all, and readable after a cut at any byte."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.agent.checkpoint import (
    CheckpointError,
    Disk,
    ExitRecord,
    PidRecord,
    append,
    boot_identity,
    cut,
    frame,
    read_exit,
    read_pid,
    read_record,
    read_records,
    replace,
    run_directory,
    salvage,
)
from mesostk.agent.events import Append, Link
from mesostk.base.core import Delete, Put
from mesostk.errors import WireError
from mesostk.testing import disks
from mesostk.wire.recordio import encode_record


class Note(msgspec.Struct, frozen=True):
    number: int
    text: str = ""


RECORDS = st.lists(st.binary(max_size=40), max_size=6)


# -- salvage --------------------------------------------------------------------------------------


@given(RECORDS)
def test_whole_file_gives_every_record(records: list[bytes]) -> None:
    data = b"".join(map(encode_record, records))
    found = salvage(data)
    assert list(found.records) == records
    assert (found.good_bytes, found.lost_bytes, found.why) == (len(data), 0, None)


@given(RECORDS)
def test_file_cut_at_any_byte_gives_the_records_before_the_cut(records: list[bytes]) -> None:
    frames = [encode_record(record) for record in records]
    data = b"".join(frames)
    ends = [sum(map(len, frames[:n])) for n in range(len(frames) + 1)]
    for size in range(len(data) + 1):
        found = salvage(data[:size])
        whole = sum(end <= size for end in ends[1:])
        assert list(found.records) == records[:whole]
        assert found.good_bytes == ends[whole]
        assert found.good_bytes + found.lost_bytes == size
        assert (found.why is None) == (found.lost_bytes == 0)


@given(RECORDS, st.binary(min_size=1, max_size=60))
def test_what_follows_the_records_never_harms_them(records: list[bytes], tail: bytes) -> None:
    data = b"".join(map(encode_record, records))
    found = salvage(data + tail)
    assert list(found.records[: len(records)]) == records
    assert found.good_bytes + found.lost_bytes == len(data) + len(tail)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_apart_without_an_exception(data: bytes) -> None:
    found = salvage(data)
    assert found.good_bytes + found.lost_bytes == len(data)


def test_length_of_many_digits_is_not_believed() -> None:
    found = salvage(frame(Note(1)) + b"9" * 5000 + b"\n")
    assert found.records == (b'{"number":1,"text":""}',)
    assert found.lost_bytes == 5001


# -- reading --------------------------------------------------------------------------------------


def test_records_that_were_appended_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "tasks" / "t" / "task.updates"
    for number in range(3):
        append(path, frame(Note(number)))
    assert read_records(path, Note) == ([Note(0), Note(1), Note(2)], None)


def test_append_after_a_torn_tail_needs_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "task.updates"
    append(path, frame(Note(1)))
    good = path.stat().st_size
    append(path, frame(Note(2))[:-3])
    records, problem = read_records(path, Note)
    assert records == [Note(1)]
    assert problem == f"{path}: record at byte {good} is cut off"
    cut(path, good)
    append(path, frame(Note(3)))
    assert read_records(path, Note) == ([Note(1), Note(3)], None)


def test_record_of_another_type_ends_the_reading_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "task.updates"
    for record in (frame(Note(1)), encode_record(b'{"number":"x"}'), frame(Note(3))):
        append(path, record)
    records, problem = read_records(path, Note)
    assert records == [Note(1)]
    assert problem is not None
    assert problem.startswith(f"{path}: record 2: ")
    assert "number" in problem


def test_file_that_is_not_there_is_no_record_and_no_problem(tmp_path: Path) -> None:
    assert read_record(tmp_path / "slave.info", Note) is None
    assert read_records(tmp_path / "task.updates", Note) == (None, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"5\n{", frame(Note(1)) * 2, b"garbage", b"2\n{}", b"\xff\xfe", frame(Note(1))[:-1]],
)
def test_damaged_single_record_is_refused_with_its_path(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "slave.info"
    path.write_bytes(data)
    with pytest.raises(WireError, match=str(path)):
        read_record(path, Note)


# -- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True])
def test_operations_are_applied_in_order(tmp_path: Path, sync: bool) -> None:
    Disk(tmp_path).apply(
        (
            Put("meta/slaves/S0/slave.info", frame(Note(1))),
            Link("meta/slaves/latest", "S0"),
            Append("meta/slaves/S0/log", frame(Note(2))),
            Append("meta/slaves/S0/log", frame(Note(3))),
            Put("meta/slaves/S0/slave.info", frame(Note(4))),
            Link("meta/slaves/latest", "S0"),
        ),
        sync,
    )
    latest = tmp_path / "meta/slaves/latest"
    assert latest.readlink() == Path("S0")
    assert read_record(latest / "slave.info", Note) == Note(4)
    assert read_records(latest / "log", Note) == ([Note(2), Note(3)], None)
    Disk(tmp_path).apply(
        (Delete("meta/slaves/latest"), Delete("meta/slaves/S0"), Delete("no")), sync
    )
    assert [*(tmp_path / "meta/slaves").iterdir()] == []


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x"])
def test_path_outside_of_work_dir_is_a_bug(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="not below work_dir"):
        Disk(tmp_path).apply((Put(path, b""),))


def test_failed_write_is_a_typed_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "meta").write_text("a file in the way")
    with pytest.raises(CheckpointError) as caught:
        Disk(tmp_path).apply((Put("meta/epoch", b"x"),))
    assert caught.value.path == f"{tmp_path}/meta/epoch"
    assert not caught.value.is_full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    with disks.small_disk(tmp_path / "disk", "64k") as path:
        yield path


@pytest.mark.root
def test_full_disk_leaves_the_old_record_and_no_torn_one(small_disk: Path) -> None:
    disk = Disk(small_disk)
    disk.apply((Put("task.info", frame(Note(1))), Append("task.updates", frame(Note(2)))))
    fill = small_disk / "fill"
    with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    big = frame(Note(3, "x" * 20_000))
    for op in (Put("task.info", big), Append("task.updates", big), Put("new/task.info", big)):
        with pytest.raises(CheckpointError) as caught:
            disk.apply((op,))
        assert caught.value.is_full
        assert "free space on its file system" in str(caught.value)
    assert read_record(small_disk / "task.info", Note) == Note(1)
    assert read_records(small_disk / "task.updates", Note) == ([Note(2)], None)
    assert not (small_disk / "task.info.new").exists()
    fill.unlink()
    disk.apply((Append("task.updates", frame(Note(4))),))
    assert read_records(small_disk / "task.updates", Note) == ([Note(2), Note(4)], None)


def test_replaced_file_is_the_old_or_the_new_never_between(tmp_path: Path) -> None:
    path = tmp_path / "epoch"
    replace(path, b"old")
    with path.open("rb") as reader:
        replace(path, b"new and longer")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new and longer"


def test_quota_counts_as_full() -> None:
    assert CheckpointError("p", OSError(errno.EDQUOT, "Disk quota exceeded")).is_full


# -- this boot ------------------------------------------------------------------------------------


def test_boot_identity_is_the_same_throughout_a_boot() -> None:
    assert boot_identity() == boot_identity()
    assert boot_identity().startswith(Path("/proc/sys/kernel/random/boot_id").read_text().strip())


PID = PidRecord(container_id="r", pid=7, start_time=8, boot="b", cgroups=("/x",))
EXIT = ExitRecord(wait_status=256, killed=True)


def test_run_records_are_read_back(tmp_path: Path) -> None:
    assert read_pid(tmp_path) is None
    assert read_exit(tmp_path) is None
    (tmp_path / "pid").write_bytes(msgspec.json.encode(PID))
    (tmp_path / "status").write_bytes(msgspec.json.encode(EXIT))
    assert read_pid(tmp_path) == PID
    assert read_exit(tmp_path) == EXIT


def test_run_record_cut_at_any_byte_is_refused_with_its_path(tmp_path: Path) -> None:
    for name, record, read in (("pid", PID, read_pid), ("status", EXIT, read_exit)):
        data = msgspec.json.encode(record)
        for size in range(len(data)):
            (tmp_path / name).write_bytes(data[:size])
            with pytest.raises(WireError, match=str(tmp_path / name)):
                read(tmp_path)


def test_run_directory_is_below_the_runtime_directory(tmp_path: Path) -> None:
    assert run_directory(tmp_path, "abc") == tmp_path / "containers" / "abc"
    for bad in ("", ".", "..", "a/b"):
        with pytest.raises(ValueError, match="is not a file name"):
            run_directory(tmp_path, bad)


@pytest.mark.parametrize("with_directory", [False, True])
def test_what_a_removed_directory_points_at_stays(tmp_path: Path, *, with_directory: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    disk, records = Disk(tmp_path), tmp_path / "records"
    records.mkdir()
    (records / "task.info").write_text("x")
    (records / "link").symlink_to(outside)
    (tmp_path / "alias").symlink_to(records)
    if with_directory:
        (records / "deeper").mkdir()
        (records / "deeper" / "link").symlink_to(outside)
    disk.apply((Delete("alias"), Delete("never/there")))
    assert (records / "task.info").exists()
    disk.apply((Delete("records"), Delete("records")))
    assert not records.exists()
    assert (outside / "kept").read_text() == "kept"
