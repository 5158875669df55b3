"""Copying a container's output: cut streams, crashes between any two writes, repeated times."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.agent.docker_logs import Copier, Frame, Frames, Positions, Skipper, since_query
from mesostk.errors import WireError


def raw(frame: Frame) -> bytes:
    data = frame.at.encode() + b" " + frame.data
    return bytes([frame.stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def stamp(number: int) -> str:
    return f"2026-01-02T03:04:05.{number:09d}Z"


FRAMES = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.integers(0, 3), st.binary(max_size=8)), max_size=12
).map(
    # Times never decrease; pieces of one line share theirs.
    lambda rows: [
        Frame(stream, stamp(sum(step for _, step, _ in rows[: i + 1])), data)
        for i, (stream, _, data) in enumerate(rows)
    ]
)


@given(FRAMES, st.integers(1, 7))
def test_frames_are_the_same_however_the_stream_is_cut(frames: list[Frame], size: int) -> None:
    data = b"".join(map(raw, frames))
    taker = Frames()
    found = [f for at in range(0, len(data), size) for f in taker.feed(data[at : at + size])]
    assert found == frames


def test_a_terminals_stream_is_refused() -> None:
    with pytest.raises(WireError, match="terminal"):
        Frames().feed(b"hello world\r\n")


@given(FRAMES, st.lists(st.integers(0, 12), max_size=3), st.integers(0, 9))
def test_each_byte_is_copied_once_over_any_crashes(
    tmp_path_factory: pytest.TempPathFactory, frames: list[Frame], cuts: list[int], torn: int
) -> None:
    sandbox = tmp_path_factory.mktemp("sandbox")
    record = sandbox / "record"
    (sandbox / "stderr").write_bytes(b"fetched\n")
    Copier(sandbox, record).begin()
    for cut in cuts:
        _read_until(sandbox, record, frames, cut)
        # Killed after bytes were appended and before the record of them.
        with (sandbox / "stdout").open("ab") as file:
            file.write(b"x" * torn)
    _read_until(sandbox, record, frames, len(frames))
    for stream, name, before in ((1, "stdout", b""), (2, "stderr", b"fetched\n")):
        wanted = before + b"".join(f.data for f in frames if f.stream == stream)
        assert (sandbox / name).read_bytes() == wanted


def _read_until(sandbox: Path, record: Path, frames: list[Frame], count: int) -> None:
    """What a new agent copies of the engine's log before it is killed."""
    copier = Copier(sandbox, record)
    copier.resume()
    since = copier.positions.since
    skipper = Skipper(copier.positions)
    told = [frame for frame in frames if frame.at >= since]
    for frame in told[:count]:
        copier.take([frame], skipper)


def test_a_file_that_was_emptied_goes_on(tmp_path: Path) -> None:
    copier = Copier(tmp_path, tmp_path / "record")
    copier.begin()
    copier.take([Frame(1, stamp(1), b"one\n")], Skipper(copier.positions))
    (tmp_path / "stdout").write_bytes(b"")
    copier.resume()
    two = [Frame(1, stamp(1), b"one\n"), Frame(1, stamp(2), b"two\n")]
    copier.take(two, Skipper(copier.positions))
    assert (tmp_path / "stdout").read_bytes() == b"two\n"


def test_output_that_has_grown_moves_on_and_nothing_is_lost(tmp_path: Path) -> None:
    copier = Copier(tmp_path, tmp_path / "record", log_bytes=10)
    copier.begin()
    frames = [Frame(1, stamp(n), b"line %d\n" % n) for n in range(5)]
    for frame in frames[:3]:
        copier.take([frame], Skipper(copier.positions))
    assert (tmp_path / "stdout.1").read_bytes() == b"line 0\nline 1\n"
    assert (tmp_path / "stdout").read_bytes() == b"line 2\n"
    again = Copier(tmp_path, tmp_path / "record", log_bytes=10)
    again.resume()
    again.take(frames, Skipper(again.positions))
    assert (tmp_path / "stdout.1").read_bytes() == b"line 2\nline 3\nline 4\n"


def test_a_directory_in_the_way_of_old_output_keeps_no_disk_from_filling(tmp_path: Path) -> None:
    (tmp_path / "stdout.1").mkdir()
    copier = Copier(tmp_path, tmp_path / "record", log_bytes=10)
    copier.begin()
    copier.take([Frame(1, stamp(1), b"x" * 11)], Skipper(copier.positions))
    assert (tmp_path / "stdout").read_bytes() == b""


def test_a_link_in_the_sandbox_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "stdout").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"symbolic links|Too many levels"):
        Copier(tmp_path, tmp_path / "record").begin()
    assert (tmp_path / "victim").read_text() == "kept"


def test_times_become_what_the_engine_asks_for() -> None:
    assert since_query("2026-01-02T03:04:05.000000007Z") == "1767323045.000000007"
    assert since_query("") == "0"
    with pytest.raises(WireError, match="has the time"):
        since_query("yesterday")


def test_the_earlier_stream_decides_where_to_begin() -> None:
    positions = Positions()
    positions.stdout.at, positions.stderr.at = stamp(5), stamp(3)
    assert positions.since == stamp(3)
