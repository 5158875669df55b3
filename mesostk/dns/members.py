"""The masters, leader first, as they stand for election in ZooKeeper.

Source: spec/dns-lb-autoscale.md §1.3. Nodes `json.info_N` hold MasterInfo as JSON and win over the
`info_N` of masters before 0.24, which hold it as protobuf; the smallest number leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mesostk.base.election import sequence_of
from mesostk.base.log import Log
from mesostk.base.zk import NoNodeError, SessionState, Zk
from mesostk.errors import StoreError, Unavailable, WireError
from mesostk.wire import json, protobuf
from mesostk.wire.mesos import MasterInfo

_JSON: Final = "json.info_"
_PROTOBUF: Final = "info_"

#: Pause after a read that was lost.
_RETRY_S: Final = 2.0


def candidates(names: list[str]) -> list[str]:
    """The nodes of masters, leader first."""
    for prefix in (_JSON, _PROTOBUF):
        found = [
            (number, name)
            for name in names
            if name.startswith(prefix) and (number := sequence_of(name)) is not None
        ]
        if found:
            return [name for _, name in sorted(found)]
    return []


def address_of(name: str, data: bytes) -> str:
    """`ip:port` of a master's node; WireError if it holds none."""
    decode = json.decode if name.startswith(_JSON) else protobuf.decode
    info = decode(data, MasterInfo)
    if info.address is not None and info.address.ip is not None:
        ip = info.address.ip
        return f"[{ip}]:{info.address.port}" if ":" in ip else f"{ip}:{info.address.port}"
    # Before 0.24: the first octet is the lowest byte.
    octets = (info.ip & 0xFFFFFFFF).to_bytes(4, "little")
    return ".".join(map(str, octets)) + f":{info.port}"


class Members:
    """Tells `changed` the addresses of all masters at each change, leader first.

    While ZooKeeper cannot be reached nothing is told: the last known leader is the best there is.
    """

    def __init__(
        self, zk: Zk, path: str, changed: Callable[[tuple[str, ...]], None], log: Log
    ) -> None:
        self._zk = zk
        self._path = path
        self._changed = changed
        self._log = log
        self._wake = asyncio.Event()
        self._told: tuple[str, ...] | None = None
        zk.listen(lambda _state: self._wake.set())

    async def run(self) -> None:
        """Watch for ever; a task of the daemon."""
        while True:
            self._wake.clear()
            if self._zk.state is SessionState.CONNECTED:
                try:
                    await self._look()
                except (Unavailable, StoreError) as error:
                    self._log.warning("Reading the masters failed", path=self._path, error=error)
                    await _pause(self._wake)
                    continue
            await self._wake.wait()

    async def _look(self) -> None:
        try:
            names = await self._zk.children(self._path, self._wake.set)
        except NoNodeError:
            # The watch tells of the directory's creation.
            if await self._zk.exists(self._path, self._wake.set) is not None:
                self._wake.set()
            names = []
        found = []
        for name in candidates(names):
            try:
                data, _ = await self._zk.get(f"{self._path}/{name}")
                found.append(address_of(name, data))
            except NoNodeError:
                # Gone in between; the watch of the directory has fired.
                continue
            except WireError as error:
                self._log.warning("Ignoring a master", node=name, error=error)
        told = tuple(dict.fromkeys(found))
        if told != self._told:
            self._told = told
            self._log.info("Masters are known", masters=",".join(told))
            self._changed(told)


async def _pause(wake: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_RETRY_S):
            await wake.wait()
    except TimeoutError:
        return
