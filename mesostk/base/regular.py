"""Reading what should be a regular file and may be anything: a pipe that nobody writes to would
hold its reader for ever, and a device has no end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from mesostk.base.units import format_bytes

#: Of what a daemon or the command reads as a whole; more is some other file.
MAX_BYTES: Final = 64 << 20


def read(path: Path, limit_bytes: int = MAX_BYTES) -> bytes:
    """All of a file. Blocks only as long as a disk does.

    Raises OSError, also for what is no regular file (/dev/null counts as an empty one) and for more
    than `limit_bytes`.
    """
    # O_NONBLOCK: or a pipe would hold us before it is known for one.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode) and not os.path.samestat(status, os.stat(os.devnull)):  # noqa: PTH116
            raise OSError(errno.EINVAL, "no regular file", str(path))
        with os.fdopen(fd, "rb", closefd=False) as file:
            # What /proc has is of size 0 and read all the same.
            large = status.st_size > limit_bytes
            data = b"" if large else file.read(limit_bytes + 1)
    finally:
        os.close(fd)
    if large or len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"larger than {format_bytes(limit_bytes)}", str(path))
    return data
