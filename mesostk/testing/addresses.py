"""Loopback addresses for the daemons of one test, apart from those of every other."""

from __future__ import annotations

import itertools
import os
import random
import socket
from typing import Final, Protocol

#: Ports of one load balancer from its first: the fixed ones, then those of its apps.
_BLOCK: Final = (*range(8), *range(100, 112))


def free_block(ip: str) -> int:
    """The first port of a block for a load balancer of which none is in use at `ip`.

    Where neither tasks nor outgoing connections get theirs.
    """
    starts = range(21_000, 30_800, 200)
    for start in random.sample(starts, len(starts)):
        if all(_is_free(ip, start + offset) for offset in _BLOCK):
            return start
    raise AssertionError(f"every block of ports of {ip} is in use")


def _is_free(ip: str, port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((ip, port))
        except OSError:
            return False
    return True


class Addresses(Protocol):
    """The addresses of a cluster's daemons, by their last number; held until closed."""

    def __getitem__(self, last: int) -> str: ...

    def enter(self, ip: str) -> list[str]:
        """What a command has to begin with to have the address."""
        ...

    def close(self) -> None: ...


class AddressBlock:
    """A /24 of loopback addresses that no other test uses; held until closed."""

    #: Second numbers of the addresses that belong to these tests.
    SECOND: Final = range(40, 60)
    #: Held while the block is in use, at an address that no host gets.
    LOCK_PORT: Final = 20_254

    def __init__(self) -> None:
        blocks = itertools.product(self.SECOND, range(1, 255))
        for second, third in itertools.islice(blocks, os.getpid() % 4000, None):
            sock = socket.socket()
            try:
                sock.bind((f"127.{second}.{third}.254", self.LOCK_PORT))
            except OSError:
                sock.close()
                continue
            self._lock = sock
            self._prefix = f"127.{second}.{third}"
            return
        raise AssertionError("every loopback address block of the tests is in use")

    def __getitem__(self, last: int) -> str:
        return f"{self._prefix}.{last}"

    def enter(self, ip: str) -> list[str]:
        """What a command has to begin with to have the address: nothing on loopback."""
        del ip
        return []

    def close(self) -> None:
        self._lock.close()
