"""The log by syslog as well, as `--syslog-socket` of the original has it."""

from __future__ import annotations

import socket
import sys
from typing import Final

from mesostk.errors import ConfigError

NOWHERE: Final = "/dev/null"

#: Facility user, severity notice: lines carry their own level. Source: RFC 3164 §4.1.1.
_PRIORITY: Final = 1 * 8 + 5
_MAX_BYTES: Final = 8192


class Tee:
    """Writes each line to standard error and to a syslog socket.

    A syslog that is away loses lines; standard error has them, and the daemon goes on.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"--syslog-socket {path}: {error.strerror}; {NOWHERE} is for no syslog"
            ) from error

    def write(self, text: str, /) -> None:
        """Take lines in, whole."""
        sys.stderr.write(text)
        for line in text.splitlines():
            message = f"<{_PRIORITY}>marathon-lb: {line}".encode()[:_MAX_BYTES]
            try:
                self._socket.send(message)
            except OSError:
                self._again(message)

    def _again(self, message: bytes) -> None:
        """Once more, for a syslog that was started anew."""
        try:
            self._socket.connect(self._path)
            self._socket.send(message)
        except OSError:
            return

    def flush(self) -> None:
        """Nothing is kept back."""
        sys.stderr.flush()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def stream_to(path: str | None) -> Tee | None:
    """Where a log for `path` goes; None for standard error alone. ConfigError if nobody listens."""
    return None if path is None or path == NOWHERE else Tee(path)
