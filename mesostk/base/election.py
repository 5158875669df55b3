"""Who leads: candidates and detectors over one ZooKeeper directory, and their standalone forms.

::

    <path>/json.info_0000000007      ephemeral, sequential; the smallest number leads
    <path>/json.info_0000000009
    <path>/mesostk                   no number: no candidate, skipped

    Candidate.run ─▶ elected() … lost(reason)      at most one of each; after lost the process ends
    Detector.run ──▶ leader(data | None)           at each change; None: nobody leads, or not known

Both re-read the directory after every event of the session or of a watch, as if starting anew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from mesostk.base.log import Log
from mesostk.base.zk import NoNodeError, SessionState, Zk
from mesostk.errors import Unavailable, UnknownOutcome

#: What the original's masters call their candidates' nodes; the data is MasterInfo as JSON.
MASTER_PREFIX: Final = "json.info_"

#: Pause before a directory is read again after an answer was lost; the original's.
RETRY_S: Final = 2.0

#: Up to as many digits as 64 bits have; ZooKeeper makes ten.
_SEQUENCE = re.compile(r"(?:^|.*[_-])([0-9]{1,19})", re.DOTALL)


def latch_prefix(unique: str) -> str:
    """The prefix of a candidate as Curator's LeaderLatch spells it: `_c_<uuid>-latch-`."""
    return f"_c_{unique}-latch-"


def sequence_of(name: str) -> int | None:
    """The number that ZooKeeper put at the end of a candidate's name; None if there is none.

    Source: Mesos `zookeeper/group.cpp`: names without a number are other things and are skipped.
    """
    match = _SEQUENCE.fullmatch(name)
    return None if match is None else int(match[1])


def leader_of(names: list[str]) -> str | None:
    """The candidate with the smallest number, names breaking ties; None if there is none."""
    numbered = [(number, name) for name in names if (number := sequence_of(name)) is not None]
    return min(numbered)[1] if numbered else None


class Candidate:
    """Runs for leader with one node. `run` is a task of the daemon.

    `elected()` is called once the node leads, `lost(reason)` once if it led and does no more, or
    can no longer be sure to. A candidate that does not lead makes its node anew when it vanishes.
    """

    def __init__(
        self,
        zk: Zk,
        path: str,
        prefix: str,
        data: bytes,
        elected: Callable[[], None],
        lost: Callable[[str], None],
        log: Log,
    ) -> None:
        self._zk = zk
        self._path = path
        self._prefix = prefix
        self._data = data
        self._on_elected = elected
        self._on_lost = lost
        self._log = log
        self._wake = asyncio.Event()
        self._node: str | None = None
        #: True from `elected()` to `lost()`.
        self.leads = False
        self._over = False
        zk.listen(self._on_session)

    def _on_session(self, state: SessionState) -> None:
        # At once, not when the task gets its turn: from here on another may lead.
        if state is SessionState.LOST:
            self._node = None
            self._lose("the ZooKeeper session is lost")
        self._wake.set()

    def _lose(self, reason: str) -> None:
        if self.leads:
            self.leads = False
            self._over = True
            self._on_lost(reason)

    async def run(self) -> None:
        """Run until leadership was won and lost."""
        while not self._over:
            self._wake.clear()
            if self._zk.state is SessionState.CONNECTED:
                try:
                    await self._look()
                except (Unavailable, UnknownOutcome) as error:
                    self._log.warning("Reading candidates failed", path=self._path, error=error)
                    await _wait(self._wake, RETRY_S)
                    continue
            if not self._over:
                await self._wake.wait()

    async def _look(self) -> None:
        names = await self._members()
        if self._node is not None and self._node not in names:
            self._log.warning("Candidate node vanished", path=self._path, node=self._node)
            self._node = None
            self._lose(f"somebody removed the leader's node below {self._path}")
            if self._over:
                return
        if self._node is None:
            self._node = await self._mine(names)
            # Made or found: only another look tells whether it leads.
            names = await self._members()
        if leader_of(names) == self._node and not self.leads:
            self.leads = True
            self._log.info("Leading", path=self._path, node=self._node)
            self._on_elected()
        elif leader_of(names) != self._node:
            self._lose(f"{leader_of(names)} below {self._path} is before this one")

    async def _members(self) -> list[str]:
        try:
            return await self._zk.children(self._path, self._wake.set)
        except NoNodeError:
            await self._zk.ensure_path(self._path)
            return await self._zk.children(self._path, self._wake.set)

    async def _mine(self, names: list[str]) -> str:
        """This session's node: one that an answer was lost for, else a new one."""
        session = self._zk.session_id
        for name in sorted(names):
            if not name.startswith(self._prefix):
                continue
            try:
                data, stat = await self._zk.get(f"{self._path}/{name}")
            except NoNodeError:
                continue
            if session is not None and stat.ephemeral_owner == session and data == self._data:
                return name
        made = await self._zk.create(
            f"{self._path}/{self._prefix}", self._data, ephemeral=True, sequence=True
        )
        name = made.rpartition("/")[2]
        self._log.info("Standing for election", path=self._path, node=name)
        return name


class Detector:
    """Tells who leads. `run` is a task of the daemon; `leader` gets the data of the leading node.

    When the session is lost the leader is not known any more, which is told as None.
    """

    def __init__(self, zk: Zk, path: str, leader: Callable[[bytes | None], None], log: Log) -> None:
        self._zk = zk
        self._path = path
        self._on_leader = leader
        self._log = log
        self._wake = asyncio.Event()
        self._told: tuple[str, bytes] | None = None
        self._told_any = False
        zk.listen(self._on_session)

    def _on_session(self, state: SessionState) -> None:
        if state is SessionState.LOST:
            self._tell(None)
        self._wake.set()

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            self._wake.clear()
            if self._zk.state is SessionState.CONNECTED:
                try:
                    await self._look()
                except Unavailable as error:
                    self._log.warning("Reading the leader failed", path=self._path, error=error)
                    await _wait(self._wake, RETRY_S)
                    continue
            await self._wake.wait()

    async def _look(self) -> None:
        try:
            names = await self._zk.children(self._path, self._wake.set)
        except NoNodeError:
            # Nobody ever ran here. The watch tells of the directory's creation.
            if await self._zk.exists(self._path, self._wake.set) is not None:
                self._wake.set()
            self._tell(None)
            return
        name = leader_of(names)
        if name is None:
            self._tell(None)
            return
        try:
            data, _ = await self._zk.get(f"{self._path}/{name}", self._wake.set)
        except NoNodeError:
            # Gone between the two; the watch on the directory has fired or will.
            self._wake.set()
            return
        self._tell((name, data))

    def _tell(self, found: tuple[str, bytes] | None) -> None:
        if self._told_any and found == self._told:
            return
        self._told_any = True
        self._told = found
        self._on_leader(None if found is None else found[1])


class AlwaysLeader:
    """A candidate where nobody else runs: elected at once."""

    def __init__(self, elected: Callable[[], None]) -> None:
        self._on_elected = elected
        self.leads = False

    async def run(self) -> None:
        """Become the leader."""
        self.leads = True
        self._on_elected()


class FixedLeader:
    """A detector where the leader is told by a flag."""

    def __init__(self, data: bytes | None, leader: Callable[[bytes | None], None]) -> None:
        self._data = data
        self._on_leader = leader

    async def run(self) -> None:
        """Tell the leader once."""
        self._on_leader(self._data)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Return when `event` is set, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


__all__ = [
    "MASTER_PREFIX",
    "AlwaysLeader",
    "Candidate",
    "Detector",
    "FixedLeader",
    "latch_prefix",
    "leader_of",
    "sequence_of",
]
