"""The project's own store, election and detector on a simulated ZooKeeper, without asyncio.

Their coroutines are run by `simloop.spawn`; only the loops around them, which wait for asyncio's
events, are written anew here.
"""

# ruff: noqa: SLF001  # drives what the real loops around these classes drive

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from mesostk.base import election, zkstore
from mesostk.base.core import Event, Op, Save, Saved
from mesostk.base.log import Log
from mesostk.base.pipeline import take_batch
from mesostk.base.zk import SessionState
from mesostk.base.zk import Zk as RealZk
from mesostk.errors import Unavailable, UnknownOutcome
from mesostk.testing.faults import Kind
from mesostk.testing.simhost import Process
from mesostk.testing.simloop import spawn
from mesostk.testing.simzk import Ensemble, Zk

_QUIET = Log("error")


def _as_real(zk: Zk) -> RealZk:
    """The simulated client where the real one is declared; it has the same methods."""
    return cast("RealZk", zk)


class ZkStore(zkstore.ZkStore):
    """The real store; only the listing of children waits for one after the other."""

    async def _load_some(
        self, paths: list[str], tree: zkstore.Tree, records: dict[str, bytes]
    ) -> list[str]:
        deeper: list[str] = []
        found = await self._zk.get_many([f"{self._root}/{path}" for path in paths])
        for path, node in zip(paths, found, strict=True):
            if node is None:
                continue
            data, stat = node
            tree.add(path, has_data=bool(data))
            if data:
                records[path] = data
            if stat.children:
                deeper += [f"{path}/{name}" for name in await self._children(path)]
        return deeper


def store_on(zk: Zk, root: str) -> ZkStore:
    """A store of the project on a simulated session."""
    return ZkStore(_as_real(zk), root)


class Pipeline:
    """`base.pipeline.SavePipeline` in virtual time: in order, one commit in flight."""

    def __init__(self, process: Process, store: ZkStore) -> None:
        self._process = process
        self._store = store
        #: Set before the first save.
        self.feed: Callable[[Event], None] = lambda _event: None
        self._waiting: deque[Save] = deque()
        self._busy = False

    def save(self, effect: Save) -> None:
        """Queue a save."""
        self._waiting.append(effect)
        self._next()

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        batch = take_batch(self._waiting)
        ops: list[Op] = [op for save in batch for op in save.ops]
        if not ops:
            self._process.later(0.0, lambda: self._saved(batch))
            return
        spawn(
            self._store.commit(ops),
            lambda _none: self._saved(batch),
            lambda error: self._process.crash(f"store: {type(error).__name__}: {error}"),
        )

    def _saved(self, batch: list[Save]) -> None:
        self._busy = False
        for save in batch:
            self.feed(Saved(save.token))
        self._next()


class _Wake:
    """Stands for the asyncio.Event that a candidate or detector waits on."""

    def __init__(self, process: Process, look: Callable[[], None]) -> None:
        self._process = process
        self._look = look
        self._is_set = False

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            self._process.later(0.0, self._wake)

    def _wake(self) -> None:
        self._is_set = False
        self._look()


class _Looking:
    """Runs `_look` again after each wake, one at a time, and after a lost answer."""

    def __init__(self, process: Process, zk: Zk, it: Any) -> None:
        self._process = process
        self._zk = zk
        self._it = it
        self._busy = self._again = False
        self.wake = _Wake(process, self.look)
        it._wake = self.wake

    def look(self) -> None:
        if self._busy:
            self._again = True
            return
        if self._zk.state is not SessionState.CONNECTED or getattr(self._it, "_over", False):
            return
        self._busy = True
        spawn(self._it._look(), self._done, self._failed)

    def _done(self, _none: object) -> None:
        self._busy = False
        if self._again:
            self._again = False
            self.wake.set()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, Unavailable | UnknownOutcome):
            raise error
        self._busy = False
        self._process.later(election.RETRY_S, self.look)


def stand(
    process: Process,
    zk: Zk,
    path: str,
    prefix: str,
    data: bytes,
    elected: Callable[[], None],
    lost: Callable[[str], None],
) -> None:
    """Have `process` run for leader with the project's own candidate."""
    candidate = election.Candidate(_as_real(zk), path, prefix, data, elected, lost, _QUIET)
    _Looking(process, zk, candidate).wake.set()


def detect(process: Process, zk: Zk, path: str, leader: Callable[[bytes | None], None]) -> None:
    """Tell `leader` who leads below `path`, by the project's own detector.

    A server that lags behind may answer a new session with the leader before the present one.
    """
    ensemble, faults = zk.ensemble, process.ground.faults
    past = history(ensemble, path)
    if len(past) > 1 and faults.roll(Kind.STALE_READ, f"{process.name} {path}"):
        stale = past[-2]
        process.later(0.01, lambda: leader(stale))
        process.later(
            process.ground.rng.uniform(0.5, 5.0), lambda: _begin(process, zk, path, leader)
        )
        return
    _begin(process, zk, path, leader)


def _begin(process: Process, zk: Zk, path: str, leader: Callable[[bytes | None], None]) -> None:
    detector = election.Detector(_as_real(zk), path, leader, _QUIET)
    _Looking(process, zk, detector).wake.set()


def history(ensemble: Ensemble, path: str) -> list[bytes]:
    """The data of all that ever led below `path`, oldest first, as told by `remember`."""
    return ensemble.past_leaders.setdefault(path, [])


def remember(ensemble: Ensemble, path: str, data: bytes) -> None:
    """Note that the candidate with `data` leads below `path` now."""
    history(ensemble, path).append(data)
