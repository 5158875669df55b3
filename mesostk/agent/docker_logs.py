"""A container's output, from the engine's log into the sandbox: each line once, in order.

::

    engine's log ─ frames "‹stream›‹time› ‹bytes›" ─▶ Frames ─▶ Copier ─▶ sandbox/stdout, stderr
                                                                  └─▶ `docker.logs`: Position each
    agent killed, engine restarted: ask again since the earlier time ─▶ known frames are skipped

A Position says up to which frame a stream was copied and how long its file was then. It is written
after the bytes: what an agent that was killed had appended beyond it is cut off and copied again.

Within a stream the engine's times never decrease, unless somebody sets the host's clock back;
frames with the time of the last one are counted, because pieces of a long line share theirs.
"""

from __future__ import annotations

import calendar
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from mesostk.errors import WireError

#: 1 is stdout and 2 is stderr in the engine's frames.
STREAMS = {1: "stdout", 2: "stderr"}

_HEADER_BYTES = 8

#: A frame holds one message, which the engine cuts at 16 KiB.
MAX_FRAME_BYTES = 4 << 20

_TAIL_BYTES = 400

#: The record keeps this length, so that it can be written over in one go.
_RECORD_BYTES = 512


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message: `at` is the engine's time as it spells it, which sorts as text."""

    stream: int
    at: str
    data: bytes


class Frames:
    """Takes the engine's log stream apart, however it is cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now; raises WireError for anything that is none."""
        self._buffer += data
        found: list[Frame] = []
        at = 0
        while len(self._buffer) - at >= _HEADER_BYTES:
            stream = self._buffer[at]
            size = int.from_bytes(self._buffer[at + 4 : at + _HEADER_BYTES], "big")
            if stream not in STREAMS or size > MAX_FRAME_BYTES:
                raise WireError(f"the engine's log has no frame at byte {at}: is it a terminal's?")
            end = at + _HEADER_BYTES + size
            if end > len(self._buffer):
                break
            time, _, text = bytes(self._buffer[at + _HEADER_BYTES : end]).partition(b" ")
            found.append(Frame(stream, time.decode("ascii", errors="replace"), text))
            at = end
        del self._buffer[:at]
        return found


class Position(msgspec.Struct):
    """`count` frames with time `at` were copied, and all before; the file was `size` bytes long."""

    at: str = ""
    count: int = 0
    size: int = 0


class Positions(msgspec.Struct):
    stdout: Position = msgspec.field(default_factory=Position)
    stderr: Position = msgspec.field(default_factory=Position)

    def of(self, stream: int) -> Position:
        """The position of stream 1 or 2."""
        return self.stdout if stream == 1 else self.stderr

    @property
    def since(self) -> str:
        """Time from which the engine must tell again; empty for all."""
        return min(self.stdout.at, self.stderr.at)


class Skipper:
    """Tells frames that were copied from new ones, on one reading of the log."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._seen = {1: 0, 2: 0}
        self._known = {n: (positions.of(n).at, positions.of(n).count) for n in STREAMS}

    def new(self, frame: Frame) -> bool:
        """Whether `frame` is new; if so, the position of its stream now includes it."""
        at, count = self._known[frame.stream]
        if frame.at < at:
            return False
        if frame.at == at and self._seen[frame.stream] < count:
            self._seen[frame.stream] += 1
            return False
        position = self._positions.of(frame.stream)
        position.count = position.count + 1 if frame.at == position.at else 1
        position.at = frame.at
        return True


class Copier:
    """The two files of one container and the record of how far they are. Blocks."""

    def __init__(self, sandbox: Path, record: Path, log_bytes: int = 0) -> None:
        """`log_bytes`: size from which on a file is moved to `.1`, 0 for never."""
        self.sandbox = sandbox
        self._record = record
        self._log_bytes = log_bytes
        self.positions = Positions()

    def begin(self) -> None:
        """Before the container starts: nothing is copied, the files are as they are."""
        for number in STREAMS:
            fd = self._open(number)
            try:
                self.positions.of(number).size = os.fstat(fd).st_size
            finally:
                os.close(fd)
        self._save(os.O_CREAT | os.O_TRUNC)

    def resume(self) -> None:
        """Go on from the record, be it ours or a former agent's; without one, from the start."""
        try:
            self.positions = msgspec.json.decode(self._record.read_bytes(), type=Positions)
        except (OSError, ValueError, RecursionError):
            self.positions = Positions()
        for number in STREAMS:
            position = self.positions.of(number)
            fd = self._open(number)
            try:
                # A file that somebody emptied meanwhile just goes on from there.
                position.size = min(position.size, os.fstat(fd).st_size)
                os.ftruncate(fd, position.size)
            finally:
                os.close(fd)

    def take(self, frames: Iterable[Frame], skipper: Skipper) -> None:
        """Append what is new. Raises OSError, after which `resume` must come first."""
        texts: dict[int, list[bytes]] = {}
        for frame in frames:
            if skipper.new(frame):
                texts.setdefault(frame.stream, []).append(frame.data)
        for number, pieces in texts.items():
            fd = self._open(number)
            try:
                left = memoryview(b"".join(pieces))
                while left:
                    left = left[os.write(fd, left) :]
                self.positions.of(number).size = os.fstat(fd).st_size
            finally:
                os.close(fd)
        if texts:
            self._save(os.O_CREAT)
        for number in texts:
            if 0 < self._log_bytes < self.positions.of(number).size:
                self._move(number)

    def _move(self, number: int) -> None:
        """Go on in a new file. Should the record not come to be written, `resume` finds it empty,
        and all that was copied so far in the old one."""
        path = self.sandbox / STREAMS[number]
        try:
            path.replace(path.with_name(f"{path.name}.1"))
        except OSError:  # the task put something in its way: its output gives way then
            fd = self._open(number)
            os.ftruncate(fd, 0)
            os.close(fd)
        self.positions.of(number).size = 0
        self._save(os.O_CREAT)

    def last_error(self) -> str:
        """The end of stderr, where the engine's runtime says that it could not start a program."""
        try:
            with (self.sandbox / "stderr").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                return file.read().decode(errors="replace").strip().rpartition("\n")[2]
        except OSError:
            return ""

    def _open(self, number: int) -> int:
        # The task may put anything in its sandbox: not through a link, and no waiting for a pipe.
        path = self.sandbox / STREAMS[number]
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(f"{path} is not a file any more")
        return fd

    def _save(self, flags: int) -> None:
        data = msgspec.json.encode(self.positions).ljust(_RECORD_BYTES)
        fd = os.open(self._record, os.O_WRONLY | os.O_CLOEXEC | flags, 0o644)
        try:
            os.pwrite(fd, data, 0)
        finally:
            os.close(fd)


def since_query(at: str) -> str:
    """A time of a frame as the engine's `since`: seconds, a point and nanoseconds."""
    if not at:
        return "0"
    seconds, _, rest = at.partition(".")
    try:
        whole = calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S"))
    except ValueError as error:
        raise WireError(f"the engine's log has the time {at!r}") from error
    return f"{whole}.{rest.rstrip('Z').ljust(9, '0')[:9]}"
