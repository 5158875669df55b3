"""The run ledger: who changed what when, how it ended, how long each step took.

::

    <ledger>/                    $MESOSTK_LEDGER_DIR, else beside the labs; mode 0700
    └── 20261122-165012-3f9c/    one per run; locked by the process that is at it
        └── entry.json           written before the work begins, replaced whole at each step

A run that nobody holds the lock of, and that was never ended, was interrupted: the kernel drops the
lock with the process, however that ends, so a pid that was given to another process since cannot be
mistaken for it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import msgspec

from mesostk.errors import ConfigError, MesostkError, Rejected, Unavailable

Outcome = Literal["running", "done", "failed", "interrupted"]

#: Entries that are kept; the oldest go first. At some 2 KB each that is a year of daily changes.
KEPT = 1000

#: As many runs of a kind tell how long the next one takes: older ones knew another cluster.
_LEARNT_FROM = 5

#: Names of variables whose value is not written down.
_SECRET = re.compile(r"pass|secret|token|credential|private|auth|key", re.IGNORECASE)
_WITHHELD = "(withheld)"
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


class Step(msgspec.Struct, frozen=True):
    """One part of a run: a play on one batch of hosts, or a step of a lab; `seconds` it took."""

    name: str
    seconds: float


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a command that changes something; times are seconds since the epoch."""

    id: str
    verb: str
    arguments: tuple[str, ...]
    #: Options whose values were secrets; a resumption needs them again.
    withheld: tuple[str, ...] = ()
    directory: str
    who: str
    machine: str
    version: str
    context: str = ""
    inventory: str = ""
    started_at: float
    ended_at: float | None = None
    outcome: Outcome = "running"
    message: str = ""
    logs: tuple[str, ...] = ()
    hosts: int = 0
    changed: int = 0
    steps: tuple[Step, ...] = ()
    #: Id of the run that this one goes on with.
    resumes: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs, and of a run that was interrupted."""
        return None if self.ended_at is None else self.ended_at - self.started_at


class StepTime(msgspec.Struct, frozen=True):
    """A step that comes `times` times, and how many `seconds` it takes each time."""

    name: str
    times: int
    seconds: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """How long something will take: the median, and how many runs say so."""

    seconds: float
    runs: int
    #: What it is made of, where that is known.
    steps: tuple[StepTime, ...] = ()
    #: Steps that have never been seen; their time is not in `seconds`.
    unknown: tuple[str, ...] = ()


# -- pure ---------------------------------------------------------------------------------------


def withhold(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(arguments without the values of secret variables, options that lost theirs)."""
    kept, lost = [], []
    for position, word in enumerate(arguments):
        before = arguments[position - 1] if position else ""
        flag, _, rest = word.partition("=")
        joined = flag == "--extra-var"
        pair = rest if joined else word
        name, equals, _ = pair.partition("=")
        is_pair = joined or before in ("-e", "--extra-var")
        if is_pair and equals and _SECRET.search(name):
            lost.append(name)
            word = ("--extra-var=" if joined else "") + f"{name}={_WITHHELD}"
        kept.append(re.sub(r"(\w://)[^/@\s]+@", rf"\1{_WITHHELD}@", word))
        if kept[-1] != word:
            lost.append(word.partition("://")[0] + "://…")
    return tuple(kept), tuple(lost)


def why_not_resumed(entry: Entry) -> str | None:
    """Why a run cannot be run again as it was, with the remedy; None if it can."""
    if entry.outcome == "running":
        return f"run {entry.id} is at work: wait until it has ended"
    if entry.outcome == "done":
        return f"run {entry.id} is done: there is nothing left of it to do"
    if entry.withheld:
        return (
            f"run {entry.id} was given secrets, which are not written down "
            f"({', '.join(entry.withheld)}): type its command again"
        )
    if "-" in entry.arguments:
        return f"run {entry.id} read its standard input, which is gone: type its command again"
    return None


def estimate_run(entries: Iterable[Entry], verb: str, inventory: str = "") -> Estimate | None:
    """How long `verb` takes, by its last runs that were done; None without any.

    Runs on other hosts than those of `inventory` count only where there are none on these.
    """
    done = [one for one in entries if one.verb == verb and one.outcome == "done"]
    same = [one for one in done if one.inventory == inventory]
    used = sorted(same or done, key=lambda one: one.started_at)[-_LEARNT_FROM:]
    times = [one.seconds for one in used if one.seconds is not None]
    return Estimate(seconds=statistics.median(times), runs=len(times)) if times else None


def estimate_steps(
    entries: Iterable[Entry], steps: Mapping[str, int], inventory: str = ""
) -> Estimate:
    """How long `steps` (name → how often, one batch of hosts each) take one after the other.

    What a step took on other hosts than those of `inventory` counts only where it was never done
    on these.
    """
    here: dict[str, list[float]] = {}
    anywhere: dict[str, list[float]] = {}
    for entry in sorted(entries, key=lambda one: one.started_at):
        for step in entry.steps:
            anywhere.setdefault(step.name, []).append(step.seconds)
            if entry.inventory == inventory:
                here.setdefault(step.name, []).append(step.seconds)
    seen = {name: (here.get(name) or times)[-_LEARNT_FROM:] for name, times in anywhere.items()}
    known = tuple(
        StepTime(name, times, statistics.median(seen[name]))
        for name, times in steps.items()
        if name in seen
    )
    return Estimate(
        seconds=sum(one.seconds * one.times for one in known),
        runs=min((len(seen[one.name]) for one in known), default=0),
        steps=known,
        unknown=tuple(name for name in steps if name not in seen),
    )


# -- the files ----------------------------------------------------------------------------------


def _who(environ: Mapping[str, str]) -> str:
    import getpass  # noqa: PLC0415 # reads the password database, which only a run needs

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    behind = environ.get("SUDO_USER")
    return f"{behind} (as {user})" if behind and behind != user else user


def _write(directory: Path, entry: Entry) -> None:
    partial = directory / "entry.json.new"
    with partial.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(entry), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.chmod(0o600)
    partial.replace(directory / "entry.json")
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_held(directory: Path) -> bool:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


class Run:
    """The entry of a run that is at work; a context manager that holds its lock."""

    def __init__(
        self,
        directory: Path,
        entry: Entry,
        require_alone: Callable[[], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._require_alone = require_alone
        self._wall = wall
        self._lock = -1
        self._step = ""
        self._step_since = 0.0
        self.entry = entry

    def __enter__(self) -> Self:
        # One run begins at a time, so that of two for the same hosts the second sees the first.
        beginning = os.open(self._directory.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(beginning, fcntl.LOCK_EX)
            self._require_alone()
            self._directory.mkdir(mode=0o700)
            self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            # A reader of the ledger may look at the lock in this instant, so this waits for it.
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._replace()
        finally:
            os.close(beginning)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def _replace(self, **fields: object) -> None:
        self.entry = msgspec.structs.replace(self.entry, **fields)
        _write(self._directory, self.entry)

    @property
    def id(self) -> str:
        """By which `runs show` and `runs resume` find it."""
        return self.entry.id

    def log(self, path: Path) -> None:
        """Where a part of the run writes what it does; known before that part begins."""
        self._replace(logs=(*self.entry.logs, str(path)))

    def step(self, name: str) -> None:
        """A step begins, and ends the one before."""
        now = self._wall()
        self._end_step(now)
        self._step, self._step_since = name, now

    def step_done(self) -> None:
        """The step is over, and what comes next is none."""
        self._end_step(self._wall())

    def _end_step(self, now: float) -> None:
        if self._step:
            took = Step(self._step, round(max(0.0, now - self._step_since), 3))
            self._step = ""
            self._replace(steps=(*self.entry.steps, took))

    def counted(self, *, hosts: int, changed: int) -> None:
        """How many hosts a part of the run had, and how much it changed there."""
        self._replace(hosts=max(hosts, self.entry.hosts), changed=self.entry.changed + changed)

    def end(self, outcome: Outcome, message: str = "") -> None:
        """The run is over; the step that a failed one stopped in teaches no duration."""
        now = self._wall()
        if outcome == "done":
            self._end_step(now)
        self._replace(outcome=outcome, message=message, ended_at=now)


class Ledger:
    """All runs below one directory."""

    def __init__(self, directory: Path, wall: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self._wall = wall
        #: Files that could not be read, each with the reason; set by `entries`.
        self.unreadable: list[str] = []

    def begin(
        self,
        verb: str,
        arguments: Sequence[str],
        *,
        version: str,
        context: str = "",
        inventory: str = "",
        environ: Mapping[str, str] = os.environ,
    ) -> Run:
        """The run to enter before anything is changed; raises ConfigError if it cannot be written.

        A change that nobody could trace is not begun. To enter it raises Unavailable if another run
        changes the same inventory.
        """
        now = self._wall()
        kept, withheld = withhold(arguments)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        entry = Entry(
            id=f"{stamp}-{os.urandom(2).hex()}",
            verb=verb,
            arguments=kept,
            withheld=withheld,
            directory=str(Path.cwd()),
            who=_who(environ),
            machine=os.uname().nodename,
            version=version,
            context=context,
            inventory=inventory,
            started_at=now,
            resumes=environ.get("MESOSTK_RESUMES", ""),
        )
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._forget_oldest()
            if not os.access(self.directory, os.W_OK):
                raise PermissionError("not writable")
        except OSError as error:
            raise ConfigError(
                f"the run ledger {self.directory}: {error.strerror or error}; "
                "make it writable, or name another place in MESOSTK_LEDGER_DIR"
            ) from error
        return Run(
            self.directory / entry.id, entry, lambda: self._require_alone(inventory), self._wall
        )

    def _require_alone(self, inventory: str) -> None:
        if not inventory:
            return
        for entry in self.entries():
            if entry.outcome == "running" and entry.inventory == inventory:
                raise Unavailable(
                    f"run {entry.id} ({entry.verb}, {entry.who}) changes the same hosts: "
                    "wait until it has ended, see `mesostk runs list`"
                )

    def _paths(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return sorted(one for one in self.directory.iterdir() if _ID.fullmatch(one.name))

    def _forget_oldest(self) -> None:
        for path in self._paths()[: -(KEPT - 1)]:
            if not _is_held(path):
                shutil.rmtree(path)

    def _read(self, path: Path) -> Entry | None:
        # The lock first: a run that ends in between has then written how.
        held = _is_held(path)
        try:
            entry = msgspec.json.decode((path / "entry.json").read_bytes(), type=Entry)
        except FileNotFoundError:
            # It ended before it was written down, that is, before it changed anything.
            return None
        except (OSError, msgspec.MsgspecError) as error:
            self.unreadable.append(f"{path}: {error}")
            return None
        if entry.outcome == "running" and not held:
            return msgspec.structs.replace(entry, outcome="interrupted")
        return entry

    def entries(self) -> list[Entry]:
        """Every run, the oldest first; those whose process is gone as interrupted."""
        self.unreadable = []
        found = [entry for path in self._paths() if (entry := self._read(path)) is not None]
        # Ids are of a second and chance; two runs may begin within one.
        return sorted(found, key=lambda one: one.started_at)

    def find(self, wanted: str) -> Entry:
        """The run whose id begins or ends with `wanted`. Raises Rejected 404 or, if there are
        several, 409."""
        found = [
            one
            for one in self.entries()
            if one.id == wanted or one.id.startswith(wanted) or one.id.endswith(wanted)
        ]
        if not found:
            raise Rejected(404, f"the ledger has no run {wanted!r}; `mesostk runs list` shows all")
        if len(found) > 1:
            ids = ", ".join(one.id for one in found[-5:])
            raise Rejected(409, f"several runs are called {wanted!r}: {ids}")
        return found[0]

    def was_cut_off(self, verb: str, words: Iterable[str], inventory: str) -> bool:
        """Whether the last run of `verb` with these arguments failed or was interrupted."""
        wanted = set(words)
        for one in reversed(self.entries()):
            if (one.verb, one.inventory) == (verb, inventory) and wanted <= set(one.arguments):
                return one.outcome in ("failed", "interrupted")
        return False

    def last_unfinished(self) -> Entry:
        """The newest run that failed or was interrupted. Raises MesostkError without any."""
        for entry in reversed(self.entries()):
            if entry.outcome in ("failed", "interrupted"):
                return entry
        raise MesostkError("no run has failed or was interrupted: there is nothing to resume")
