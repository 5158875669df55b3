"""What goes wrong in a simulated world: which kinds there are, how often, and what happened.

Faults at an effect boundary are rolled by the parts of the world (`roll`); those that come from
outside are drawn by the world itself (`Kind` below the line). Each one is counted and logged.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from enum import StrEnum


class Kind(StrEnum):
    """A kind of fault."""

    CRASH_BEFORE_SAVE = "crash before save"
    CRASH_AFTER_SAVE = "crash after save"
    CRASH_BEFORE_CHECKPOINT = "crash before checkpoint"
    CRASH_AFTER_CHECKPOINT = "crash after checkpoint"
    CRASH_BEFORE_SEND = "crash before send"
    CRASH_AFTER_SEND = "crash after send"
    CRASH_BEFORE_LAUNCH = "crash before launch"
    CRASH_AFTER_LAUNCH = "crash after launch"
    LOST_ANSWER = "write of unknown outcome"
    SLOW_WATCH = "slow watch"
    STALE_READ = "stale read"
    TORN_RECORD = "torn record"
    DUPLICATE_CALL = "duplicated call"
    LATE_MESSAGE = "late message"
    TASK_DIES = "task dies by itself"
    PROBE_FAILS = "probe without an answer"
    EXECUTOR_DIES = "executor dies by itself"
    EXECUTOR_HANGS = "executor stops for a while"
    # -- drawn by the world
    KILL_PROCESS = "process killed"
    KILL_LEADER = "leader killed"
    PAUSE = "process paused"
    EXPIRE_SESSION = "session expired"
    CLOCK_STEP = "clock step"
    CUT_LINK = "link cut"
    HALF_OPEN = "link half open"
    PARTITION = "partition"
    ZK_PARTITION = "partition from ZooKeeper"
    ZK_OUTAGE = "ZooKeeper without quorum"
    DISK_FULL = "disk full"
    POWER_CUT = "power cut"
    TAKEN_OUT = "agent deactivated or drained"
    MARKED_GONE = "agent marked gone"
    MAINTENANCE = "machine in maintenance"
    QUOTA = "quota set"
    SICK_TASK = "task unhealthy for a while"
    EVACUATED = "agent evacuated by Marathon"


#: Chance at each opportunity: one or two of a kind in a run of a few hundred effects.
CHANCES = {
    Kind.CRASH_BEFORE_SAVE: 0.01,
    Kind.CRASH_AFTER_SAVE: 0.01,
    Kind.CRASH_BEFORE_CHECKPOINT: 0.005,
    Kind.CRASH_AFTER_CHECKPOINT: 0.005,
    Kind.CRASH_BEFORE_SEND: 0.0015,
    Kind.CRASH_AFTER_SEND: 0.0015,
    Kind.CRASH_BEFORE_LAUNCH: 0.02,
    Kind.CRASH_AFTER_LAUNCH: 0.02,
    Kind.LOST_ANSWER: 0.02,
    Kind.SLOW_WATCH: 0.05,
    Kind.STALE_READ: 0.3,
    Kind.TORN_RECORD: 0.5,
    Kind.DUPLICATE_CALL: 0.03,
    Kind.LATE_MESSAGE: 0.02,
    Kind.TASK_DIES: 0.1,
    Kind.PROBE_FAILS: 0.01,
    Kind.EXECUTOR_DIES: 0.02,
    Kind.EXECUTOR_HANGS: 0.04,
}

#: Relative frequency of those that the world draws.
WEIGHTS = {
    Kind.KILL_PROCESS: 4,
    Kind.KILL_LEADER: 2,
    Kind.PAUSE: 3,
    Kind.EXPIRE_SESSION: 2,
    Kind.CLOCK_STEP: 1,
    Kind.CUT_LINK: 2,
    Kind.HALF_OPEN: 2,
    Kind.PARTITION: 2,
    Kind.ZK_PARTITION: 1,
    Kind.ZK_OUTAGE: 1,
    Kind.DISK_FULL: 1,
    Kind.POWER_CUT: 1,
    Kind.TAKEN_OUT: 2,
    Kind.MARKED_GONE: 1,
    Kind.MAINTENANCE: 1,
    Kind.QUOTA: 1,
    Kind.SICK_TASK: 2,
    Kind.EVACUATED: 2,
}


class Faults:
    """Rolls, counts and logs; nothing goes wrong any more once `is_on` is false."""

    def __init__(self, rng: random.Random, clock: Callable[[], float]) -> None:
        self._rng = rng
        self._clock = clock
        self.is_on = False
        self.counts: Counter[Kind] = Counter()
        self.log: list[str] = []

    def roll(self, kind: Kind, where: str) -> bool:
        """Whether a fault of `kind` happens now at `where`."""
        if not self.is_on or self._rng.random() >= CHANCES[kind]:
            return False
        self.note(kind, where)
        return True

    def draw(self) -> Kind:
        """The next fault from outside; the world notes it if it finds a victim."""
        kinds = list(WEIGHTS)
        return self._rng.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]

    def note(self, kind: Kind, where: str) -> None:
        """Count and log a fault."""
        self.counts[kind] += 1
        self.log.append(f"{self._clock():9.3f} {kind}: {where}")
