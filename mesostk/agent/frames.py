"""What agent, launcher and supervisors say to each other over SOCK_SEQPACKET sockets.

::

    MSL1 | crc32 of the rest | marshal of plain objects          with file descriptors beside it
    MSL1 | crc32             | "in-file"                         the frame itself in a memory file

Imports nothing but small modules of the standard library: see launcher.py.
"""

from __future__ import annotations

import binascii
import marshal
import os
import socket
import sys

TYPE_CHECKING = False  # importing typing for it would bring re and half a megabyte along
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: Opens each frame; with the checksum it keeps stray bytes away from `marshal`, which trusts them.
MAGIC = b"MSL1"

#: A request up to this size travels in the frame; a larger one in a memory file beside it, because
#: a SOCK_SEQPACKET message must fit the socket's buffer (208 KiB by default).
MAX_INLINE = 64 * 1024

#: Largest request in a memory file: the kernel allows no more for argv and environment together.
MAX_REQUEST = 8 * 1024 * 1024

#: File descriptors that are taken with one frame.
_MAX_FDS = 4

_HEADER = len(MAGIC) + 4


def encode(message: Any) -> bytes:
    """A frame of plain objects (None, bool, int, float, str, bytes, tuple, list, dict)."""
    body = marshal.dumps(message)
    return MAGIC + binascii.crc32(body).to_bytes(4, "big") + body


def decode(frame: bytes) -> object | None:
    """What `encode` was given; None if the bytes are not such a frame."""
    body = frame[_HEADER:]
    if frame[: len(MAGIC)] != MAGIC:
        return None
    if binascii.crc32(body) != int.from_bytes(frame[len(MAGIC) : _HEADER], "big"):
        return None
    try:
        message: object = marshal.loads(body)  # noqa: S302 - checksummed, from our own agent
    except (EOFError, TypeError, ValueError):
        return None
    return message


def send(sock: socket.socket, frame: bytes, fds: Sequence[int] = ()) -> None:
    """Send a frame, however large, with file descriptors. Raises OSError, BlockingIOError too."""
    if len(frame) <= MAX_INLINE:
        if fds:
            socket.send_fds(sock, [frame], list(fds))
        else:
            sock.send(frame)
        return
    memory_file = os.memfd_create("launch")
    try:
        os.write(memory_file, frame)
        socket.send_fds(sock, [encode("in-file")], [memory_file, *fds])
    finally:
        os.close(memory_file)


def receive(sock: socket.socket) -> tuple[object | None, list[int]] | None:
    """The next message, None in its place for what is none, and the descriptors that came with it,
    which no exec inherits. None when nobody is at the other end. Raises OSError.
    """
    frame, ancillary, flags, _ = sock.recvmsg(
        2 * MAX_INLINE, socket.CMSG_SPACE(4 * _MAX_FDS), socket.MSG_CMSG_CLOEXEC
    )
    fds = _descriptors(ancillary)
    if not frame and not fds:
        return None
    message = None if flags & socket.MSG_TRUNC else decode(frame)
    if message == "in-file":
        message = _read_memory_file(fds.pop(0)) if fds else None
    return message, fds


def close(fds: Sequence[int]) -> None:
    """Close descriptors that were received."""
    for fd in fds:
        os.close(fd)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            usable = len(data) - len(data) % 4
            fds += [
                int.from_bytes(data[i : i + 4], sys.byteorder, signed=True)
                for i in range(0, usable, 4)
            ]
    return fds


def _read_memory_file(fd: int) -> object | None:
    try:
        size = os.fstat(fd).st_size
        return decode(os.pread(fd, min(size, MAX_REQUEST), 0))
    except OSError:
        return None
    finally:
        os.close(fd)
