"""A simulated ZooKeeper: nodes with versions, sessions, watches, multi; and a client like `Zk`.

::

    Zk.multi(ops) ──▶ Ensemble.apply, all or none ──▶ answer          each way takes its time
          └─ connection lost before or after ▶ UnknownOutcome
    no contact for the session timeout ──▶ ephemeral nodes go ──▶ client told when it is back: LOST

The client keeps the interface of `base.zk.Zk`, so that the project's own store, candidate and
detector run on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mesostk.base.zk import (
    BadVersionError,
    Check,
    Create,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    Remove,
    SessionState,
    SetData,
    Stat,
    ZkOp,
)
from mesostk.errors import Unavailable, UnknownOutcome
from mesostk.testing.faults import Kind
from mesostk.testing.simhost import Ground, Process
from mesostk.testing.simloop import Answer

T = TypeVar("T")

#: One way of a request, and of a watch's event; seconds.
DELAY_S = (0.0002, 0.01)
#: The most that a slow watch takes, and an expired client takes to learn of it; seconds.
SLOW_S = 4.0
NOTICE_S = 3.0


class Node:
    """A znode; `owner` is the session of an ephemeral one, 0 otherwise."""

    def __init__(self, data: bytes, owner: int) -> None:
        self.data = data
        self.owner = owner
        self.version = 0
        self.sequence = 0
        self.children: set[str] = set()

    def stat(self) -> Stat:
        return Stat(self.version, len(self.children), self.owner)


class Ensemble:
    """The servers as one: requests are applied one after the other."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.has_quorum = True
        self.cut_hosts: set[str] = set()
        self.nodes: dict[str, Node] = {"/": Node(b"", 0)}
        self.sessions: set[int] = set()
        self.clients: list[Zk] = []
        self.last_session = 0
        self._watches: dict[str, list[Callable[[], None]]] = {}
        #: Told every write that was applied: the client and its operations.
        self.on_write: list[Callable[[Zk, Sequence[ZkOp]], None]] = []
        #: Writes that the check at their head kept out.
        self.refused = 0
        #: The data of everyone who led below a path, oldest first.
        self.past_leaders: dict[str, list[bytes]] = {}

    # -- reachability ---------------------------------------------------------------------------

    def set_quorum(self, *, has_quorum: bool) -> None:
        """Nothing is answered, and no session ends, without a quorum."""
        self.has_quorum = has_quorum
        for client in list(self.clients):
            client.contact_changed()

    def cut(self, host: str) -> None:
        """Nothing that runs on `host` reaches the servers any more."""
        self.cut_hosts.add(host)
        self._changed(host)

    def mend(self, host: str) -> None:
        """It does again."""
        self.cut_hosts.discard(host)
        self._changed(host)

    def _changed(self, host: str) -> None:
        for client in list(self.clients):
            if client.process.host.name == host:
                client.contact_changed()

    # -- sessions and watches -------------------------------------------------------------------

    def new_session(self) -> int:
        self.last_session += 1
        self.sessions.add(self.last_session)
        return self.last_session

    def expire(self, session: int) -> None:
        """End a session: its ephemeral nodes go."""
        if session in self.sessions:
            self.sessions.discard(session)
            for path in [p for p, node in self.nodes.items() if node.owner == session]:
                self._remove(path)

    def watch(self, path: str, fn: Callable[[], None]) -> None:
        """Call `fn` once, at the next change of the node or its children."""
        self._watches.setdefault(path, []).append(fn)

    def _fire(self, path: str) -> None:
        for fn in self._watches.pop(path, ()):
            fn()

    # -- operations -----------------------------------------------------------------------------

    def node(self, path: str) -> Node:
        node = self.nodes.get(path)
        if node is None:
            raise NoNodeError
        return node

    def create(self, path: str, data: bytes, owner: int = 0, *, sequence: bool = False) -> str:
        parent_path = path.rpartition("/")[0] or "/"
        parent = self.node(parent_path)
        if sequence:
            path = f"{path}{parent.sequence:010d}"
            parent.sequence += 1
        if path in self.nodes:
            raise NodeExistsError
        self.nodes[path] = Node(data, owner)
        parent.children.add(path.rpartition("/")[2])
        self._fire(path)
        self._fire(parent_path)
        return path

    def set(self, path: str, data: bytes, version: int) -> Stat:
        node = self.node(path)
        if version not in (-1, node.version):
            raise BadVersionError
        node.data = data
        node.version += 1
        self._fire(path)
        return node.stat()

    def remove(self, path: str) -> None:
        if self.node(path).children:
            raise NotEmptyError
        self._remove(path)

    def _remove(self, path: str) -> None:
        del self.nodes[path]
        parent, _, name = path.rpartition("/")
        self.nodes[parent or "/"].children.discard(name)
        self._fire(path)
        self._fire(parent or "/")

    def check(self, path: str, version: int) -> None:
        """The head of a fenced multi."""
        if self.node(path).version != version:
            self.refused += 1
            raise BadVersionError

    def multi(self, ops: Sequence[ZkOp]) -> None:
        """Apply all `ops` or none."""
        undo = self._snapshot(ops)
        try:
            for op in ops:
                match op:
                    case Create(path, data):
                        self.create(path, data)
                    case SetData(path, data):
                        self.set(path, data, -1)
                    case Remove(path):
                        self.remove(path)
                    case Check(path, version):
                        self.check(path, version)
        except Exception:
            undo()
            raise

    def _snapshot(self, ops: Sequence[ZkOp]) -> Callable[[], None]:
        paths = {op.path for op in ops}
        paths |= {path.rpartition("/")[0] or "/" for path in paths}
        kept = {
            path: (node, node.data, node.version, set(node.children))
            for path in sorted(paths)
            if (node := self.nodes.get(path)) is not None
        }

        def undo() -> None:
            for path in paths:
                if path not in kept:
                    self.nodes.pop(path, None)
            for path, (node, data, version, children) in kept.items():
                self.nodes[path] = node
                node.data, node.version, node.children = data, version, children

        return undo


class Zk:
    """One session of a process; see `base.zk.Zk` for what its methods promise."""

    def __init__(self, ensemble: Ensemble, process: Process, session_timeout_s: float) -> None:
        self.ensemble = ensemble
        self._ground = ensemble.ground
        self.process = process
        self.session_timeout_s = session_timeout_s
        self.state = SessionState.LOST
        self.session_id: int | None = None
        self._life = process.life
        self._listeners: list[Callable[[SessionState], None]] = []
        self._waiting: list[Answer] = []
        self._contact = 0
        self._own_clock = 0
        ensemble.clients.append(self)
        process.on_contact.append(self.contact_changed)
        process.ended.append(self._process_died)

    # -- session --------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, as soon as that is possible."""
        self.process.later(self._delay(), self._connect)

    def listen(self, listener: Callable[[SessionState], None]) -> None:
        self._listeners.append(listener)

    def _can_reach(self) -> bool:
        alive = self.process.is_alive and self.process.life == self._life
        return alive and not self.process.is_paused and not self.is_cut and self._has_servers()

    @property
    def is_cut(self) -> bool:
        """Whether the host cannot reach the servers."""
        return self.process.host.name in self.ensemble.cut_hosts

    def _has_servers(self) -> bool:
        return self.ensemble.has_quorum

    def _connect(self) -> None:
        if not self._can_reach():
            self.process.later(1.0, self._connect)
            return
        if self.session_id is not None and self.session_id not in self.ensemble.sessions:
            self.session_id = None
            self._become(SessionState.LOST)
        if self.session_id is None:
            self.session_id = self.ensemble.new_session()
        self._become(SessionState.CONNECTED)

    def contact_changed(self) -> None:
        """The process was paused or resumed, its way to the servers cut or mended."""
        self._contact += 1
        contact = self._contact
        if self._can_reach():
            # Whether the session survived is learnt with the first answer of a server.
            if self.session_id not in self.ensemble.sessions:
                self.process.later(self._ground.rng.uniform(0.0, NOTICE_S), self._connect)
            elif self.state is not SessionState.CONNECTED:
                self.process.later(self._delay(), self._connect)
            return
        session, rng = self.session_id, self._ground.rng
        if session is None:
            return
        left = self.session_timeout_s * rng.uniform(2 / 3, 1.0)

        def expire() -> None:
            # Without a quorum nobody counts the time of sessions.
            if contact == self._contact and self._has_servers():
                self.ensemble.expire(session)

        self._ground.loop.later(left, expire)
        if not self.process.is_paused:
            self.process.later(rng.uniform(0.0, self.session_timeout_s / 3), self._suspend)

    def _suspend(self) -> None:
        """The connection is found broken."""
        if self._can_reach() or self.state is not SessionState.CONNECTED:
            return
        self._become(SessionState.SUSPENDED)
        self._own_clock += 1
        number = self._own_clock

        def lost() -> None:
            if self.state is SessionState.SUSPENDED and number == self._own_clock:
                self._become(SessionState.LOST)

        self.process.later(self.session_timeout_s, lost)
        self._lose_answers()

    def expire(self) -> None:
        """The servers end the session; the client learns it when it does."""
        if self.session_id is not None:
            self.ensemble.expire(self.session_id)
            self.process.later(self._ground.rng.uniform(0.0, NOTICE_S), self._connect)

    def _process_died(self) -> None:
        """Its session lives on at the servers until it times out."""
        self.ensemble.clients.remove(self)
        session = self.session_id
        if session is not None:
            left = self.session_timeout_s * self._ground.rng.uniform(2 / 3, 1.0)
            self._ground.loop.later(left, lambda: self.ensemble.expire(session))

    def _become(self, state: SessionState) -> None:
        if state is self.state:
            return
        self.state = state
        for listener in list(self._listeners):
            listener(state)

    def _lose_answers(self) -> None:
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            self.process.later(0.0, lambda answer=answer: answer.fail(_LostAnswer()))  # type: ignore[misc] # mypy cannot infer a lambda with a default

    # -- requests -------------------------------------------------------------------------------

    def _delay(self) -> float:
        return self._ground.rng.uniform(*DELAY_S)

    async def _call(
        self, apply: Callable[[], T], lost: type[Unavailable | UnknownOutcome], *, write: bool
    ) -> T:
        """Have the servers `apply` something; the answer may get lost, or never come."""
        answer = Answer()
        self._waiting.append(answer)
        self._ground.loop.later(self._delay(), lambda: self._arrive(answer, apply, write=write))
        try:
            return await answer  # type: ignore[no-any-return] # what `apply` returned
        except _LostAnswer as error:
            raise lost("the connection to ZooKeeper broke") from error

    def _arrive(self, answer: Answer, apply: Callable[[], Any], *, write: bool) -> None:
        # What a process sent before it was paused or died does arrive.
        if self.is_cut or not self._has_servers():
            self._finish(answer, lambda: answer.fail(_LostAnswer()))
            return
        rolled = write and self._ground.faults.roll(Kind.LOST_ANSWER, self.process.name)
        if rolled and self._ground.rng.random() < 0.5:
            self._finish(answer, lambda: answer.fail(_LostAnswer()))
            return
        try:
            result = apply()
        except _VERDICTS as verdict:
            error = verdict
            outcome: Callable[[], None] = lambda: answer.fail(error)  # noqa: E731 - one of two
        else:
            outcome = lambda: answer.give(result)  # noqa: E731 - one of two
        if rolled:
            outcome = lambda: answer.fail(_LostAnswer())  # noqa: E731 - nobody hears of it
        self._finish(answer, outcome)

    def _finish(self, answer: Answer, outcome: Callable[[], None]) -> None:
        def arrive() -> None:
            if answer in self._waiting:
                self._waiting.remove(answer)
                outcome()

        self.process.later(self._delay(), arrive)

    def _watch(self, path: str, watch: Callable[[], None] | None) -> None:
        if watch is None:
            return

        def fire() -> None:
            slow = self._ground.faults.roll(Kind.SLOW_WATCH, f"{self.process.name} {path}")
            delay = self._ground.rng.uniform(0.0, SLOW_S) if slow else self._delay()
            self._ground.loop.later(delay, tell)

        life = self._life

        def tell() -> None:
            if self.process.life == life:
                self.process.arrives(watch)()

        self.ensemble.watch(path, fire)

    # -- as base.zk.Zk --------------------------------------------------------------------------

    async def connected(self, timeout_s: float) -> None:
        """Return once connected; Unavailable after `timeout_s`."""
        answer = Answer()
        end = self._ground.loop.now + timeout_s

        def look() -> None:
            if self.state is SessionState.CONNECTED:
                answer.give(None)
            elif self._ground.loop.now >= end:
                answer.fail(Unavailable("ZooKeeper does not answer"))
            else:
                self.process.later(0.1, look)

        if self.state is SessionState.CONNECTED:
            return
        self.process.later(0.0, look)
        await answer

    async def get(self, path: str, watch: Callable[[], None] | None = None) -> tuple[bytes, Stat]:
        def apply() -> tuple[bytes, Stat]:
            node = self.ensemble.node(path)
            self._watch(path, watch)
            return node.data, node.stat()

        return await self._call(apply, Unavailable, write=False)

    async def get_many(self, paths: Sequence[str]) -> list[tuple[bytes, Stat] | None]:
        def apply() -> list[tuple[bytes, Stat] | None]:
            found = [self.ensemble.nodes.get(path) for path in paths]
            return [None if node is None else (node.data, node.stat()) for node in found]

        return await self._call(apply, Unavailable, write=False)

    async def children(self, path: str, watch: Callable[[], None] | None = None) -> list[str]:
        def apply() -> list[str]:
            names = sorted(self.ensemble.node(path).children)
            self._watch(path, watch)
            return names

        return await self._call(apply, Unavailable, write=False)

    async def exists(self, path: str, watch: Callable[[], None] | None = None) -> Stat | None:
        def apply() -> Stat | None:
            self._watch(path, watch)
            node = self.ensemble.nodes.get(path)
            return None if node is None else node.stat()

        return await self._call(apply, Unavailable, write=False)

    async def sync(self, path: str) -> None:
        await self._call(lambda: path, Unavailable, write=False)

    async def create(
        self, path: str, data: bytes, *, ephemeral: bool = False, sequence: bool = False
    ) -> str:
        session = self.session_id

        def apply() -> str:
            if ephemeral and session not in self.ensemble.sessions:
                raise _LostAnswer
            owner = session if ephemeral and session is not None else 0
            return self.ensemble.create(path, data, owner, sequence=sequence)

        return await self._call(apply, UnknownOutcome, write=True)

    async def set(self, path: str, data: bytes, version: int) -> Stat:
        def apply() -> Stat:
            stat = self.ensemble.set(path, data, version)
            self._wrote((SetData(path, data),))
            return stat

        return await self._call(apply, UnknownOutcome, write=True)

    async def ensure_path(self, path: str) -> None:
        parts = path.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            try:
                await self.create("/" + "/".join(parts[:count]), b"")
            except NodeExistsError:
                continue

    async def multi(self, ops: Sequence[ZkOp]) -> None:
        def apply() -> None:
            self.ensemble.multi(ops)
            self._wrote(ops)

        await self._call(apply, UnknownOutcome, write=True)

    def _wrote(self, ops: Sequence[ZkOp]) -> None:
        for fn in self.ensemble.on_write:
            fn(self, ops)


class _LostAnswer(Exception):
    """The connection broke before the answer, or the session had ended."""


#: What the servers may find wrong with a request.
_VERDICTS = (BadVersionError, NodeExistsError, NoNodeError, NotEmptyError, _LostAnswer)
