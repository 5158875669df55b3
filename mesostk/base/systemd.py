"""Telling systemd how a service of `Type=notify` is: one datagram to the socket it names.

Source: sd_notify(3). `READY=1` is sent once the ports are open, whether or not there is a leader.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from mesostk.base.units import whole_number


class Notifier:
    """Sends states to systemd; does nothing where no service manager asked for them."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        #: Seconds within which systemd wants a sign of life, or None.
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], pid: int) -> Notifier:
        """The notifier for `NOTIFY_SOCKET` and `WATCHDOG_USEC`, if that is meant for `pid`."""
        address = environ.get("NOTIFY_SOCKET") or None
        meant_for = environ.get("WATCHDOG_PID", str(pid))
        text = environ.get("WATCHDOG_USEC", "")
        watchdog_s = None
        microseconds = whole_number(text)
        if microseconds and meant_for == str(pid):
            watchdog_s = microseconds / 1e6
        return cls(address, watchdog_s)

    def ready(self, status: str = "") -> None:
        """The ports are open."""
        self._send("READY=1" + (f"\nSTATUS={_one_line(status)}" if status else ""))

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows."""
        self._send(f"STATUS={_one_line(text)}")

    def watchdog(self) -> None:
        """A sign of life from the loop."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The process has begun to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # A leading @ is systemd's spelling of an abstract socket's NUL byte.
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(), name)
        except OSError:
            # systemd restarts or its queue is full; the next sign of life follows soon.
            return


def _one_line(text: str) -> str:
    return " ".join(text.split())
