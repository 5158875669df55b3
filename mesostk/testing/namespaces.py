"""Hosts of a test as network namespaces of its own, which can be cut off from each other.

::

    root namespace: the test, ZooKeeper   198.18.x.254, .21 …
          └─ veth ─▶ hub namespace: one bridge ─ veth ─▶ a namespace for each daemon's address

What is cut is black-holed on both sides: packets vanish and connections stay half open, as when a
switch dies. Nothing outside the namespaces is changed but for one interface, which goes with them.
"""

from __future__ import annotations

import os
import subprocess
from typing import Final

from mesostk.testing.requirements import require_program, require_root

#: For tests of networks between devices (RFC 2544): no host has these addresses.
PREFIX: Final = "198.18"
#: The test's own address.
OWN: Final = 254


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


class Namespaces:
    """Addresses of one test's daemons, each in a namespace; `outside` ones are the test's own."""

    def __init__(self, outside: tuple[int, ...] = ()) -> None:
        require_root()
        require_program("ip", "iproute2")
        self._made: list[str] = []
        self._third = self._free()
        self._hub = self._made[0]
        try:
            self._join_hub(outside)
        except AssertionError:
            self.close()
            raise

    def _join_hub(self, outside: tuple[int, ...]) -> None:
        link = f"mst{self._third}"
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("link", "add", link, "type", "veth", "peer", "name", "outer", "netns", self._hub)
        for device in ("bridge", "lo"):
            _ip("-n", self._hub, "link", "set", device, "up")
        _ip("-n", self._hub, "link", "set", "outer", "master", "bridge", "up")
        for last in (OWN, *outside):
            _ip("address", "add", f"{self[last]}/24", "dev", link)
        _ip("link", "set", link, "up")

    def _free(self) -> int:
        """The third number of addresses that no other test uses: its hub could be made."""
        for offset in range(254):
            third = (os.getpid() + offset) % 254 + 1
            name = f"mesostk-test-{third}"
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
            if done.returncode == 0:
                self._made.append(name)
                return third
        raise AssertionError("no network namespace can be made, or all of the tests are in use")

    def __getitem__(self, last: int) -> str:
        return f"{PREFIX}.{self._third}.{last}"

    def enter(self, ip: str) -> list[str]:
        """What starts a process in the namespace of an address, which is made if need be."""
        name = self._name(ip)
        if name not in self._made:
            last = ip.rpartition(".")[2]
            _ip("netns", "add", name)
            self._made.append(name)
            port = f"port{last}"
            peer = ("peer", "name", "eth0", "netns", name)
            _ip("-n", self._hub, "link", "add", port, "type", "veth", *peer)
            _ip("-n", self._hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{ip}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")
        return ["ip", "netns", "exec", name]

    def _name(self, ip: str) -> str:
        return f"{self._hub}-{ip.rpartition('.')[2]}"

    def cut(self, one: str, other: str) -> None:
        """Nothing gets through between two addresses; one may be outside."""
        self._route("add", one, other)

    def join(self, one: str, other: str) -> None:
        """They reach each other again."""
        self._route("del", one, other)

    def _route(self, verb: str, one: str, other: str) -> None:
        for here, there in ((one, other), (other, one)):
            if self._name(here) in self._made:
                _ip("-n", self._name(here), "route", verb, "blackhole", f"{there}/32")

    def close(self) -> None:
        """Take all of it away."""
        for name in reversed(self._made):
            _ip("netns", "del", name)
