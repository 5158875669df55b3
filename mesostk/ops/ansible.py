"""Runs a playbook through ansible-runner: events become progress, failures become sentences.

::

    run_playbook(site.yml, inventory) ─▶ ansible-runner ─▶ ansible-playbook ─ssh─▶ hosts
                                            │ events
             progress.step / .detail ◀──────┤
             Outcome(stats, failures) ◀─────┘        the whole output: <log directory>/…/stdout
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mesostk.errors import ConfigError, MesostkError
from mesostk.ops.inventory import check_files
from mesostk.ops.ledger import Run
from mesostk.ops.paths import data_root
from mesostk.ops.progress import Progress
from mesostk.ops.restarts import HostChange, ServiceState, read_changes, read_services

#: Lines of Ansible's own output that are told of an error outside of any task.
_ERROR_LINES = 12

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

#: Runs whose output stays below the log directory.
_RUNS_KEPT = 20

#: Hosts that progress names at a time; of the rest it tells the number.
_HOSTS_NAMED = 4


#: Words of Ansible's own for --tags.
_EVERY_PLAYBOOKS_TAGS = frozenset({"all", "always", "tagged", "untagged"})


class Failure(msgspec.Struct, frozen=True):
    """What went wrong on one host; `remedy` is empty where none is known."""

    host: str
    task: str
    message: str
    remedy: str = ""


class HostStats(msgspec.Struct):
    """Counts of one host's task results."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one run of a playbook; `log` holds Ansible's own output."""

    rc: int
    hosts: Mapping[str, HostStats]
    failures: Sequence[Failure]
    log: Path
    #: What the playbook told by `set_stats`.
    told: Mapping[str, Any] = {}
    #: What was changed or, in check mode, would be; and the services as they ran before.
    changes: Sequence[HostChange] = ()
    services: Sequence[ServiceState] = ()

    def output(self) -> str:
        """What Ansible printed, without the colours that ansible-runner asks it for."""
        return _COLOUR.sub("", self.log.read_text())

    @property
    def changed(self) -> int:
        """Number of changes on all hosts together."""
        return sum(stats.changed for stats in self.hosts.values())


class _Remedy(msgspec.Struct, frozen=True):
    """Words in what Ansible says of a host, and what an operator can do about it."""

    words: str
    remedy: str
    #: Whether it is one only for a host that Ansible does not reach: a service may say the same.
    unreachable: bool = False


def remedies() -> list[_Remedy]:
    """Those of `playbooks/remedies.json`, which the preflight of plain Ansible reads, too."""
    path = data_root() / "playbooks" / "remedies.json"
    return msgspec.json.decode(path.read_bytes(), type=list[_Remedy])


def remedy_for(message: str, *, unreachable: bool) -> str:
    """What to do about a failure that says `message`; empty where nothing general helps."""
    fitting = (one for one in remedies() if unreachable or not one.unreachable)
    return next((one.remedy for one in fitting if one.words in message), "")


class _Listener:
    """Turns ansible-runner's events into progress and an outcome."""

    def __init__(self, progress: Progress, run: Run | None) -> None:
        self._progress = progress
        self._run = run
        self._play = ""
        self.failures: list[Failure] = []
        self._unreachable: list[Failure] = []
        self.hosts: dict[str, HostStats] = {}
        self.told: dict[str, Any] = {}
        #: Hosts that are at the present task, in the order in which they began it.
        self._busy: dict[str, None] = {}
        self.changes: list[HostChange] = []
        self.services: list[ServiceState] = []

    def _host(self, kind: str, data: Mapping[str, Any]) -> None:
        host, task = str(data.get("host", "")), str(data.get("task", ""))
        if kind == "runner_on_start":
            self._busy[host] = None
        else:
            self._busy.pop(host, None)
            self._ended(host, task, data)
            self._ok(data)
        first = list(self._busy)[:_HOSTS_NAMED]
        if first:
            more = len(self._busy) - len(first)
            others = f" and {more} more" if more else ""
            self._progress.live(f"{task} ({', '.join(first)}{others})")

    def _ended(self, host: str, task: str, data: Mapping[str, Any]) -> None:
        result: Mapping[str, Any] = data.get("res") or {}
        if result.get("changed"):
            self._progress.detail(f"{host}: {task}: changed")
        if str(data.get("task_action", "")).endswith("debug") and result.get("msg"):
            message = result["msg"]
            for line in message if isinstance(message, list) else str(message).splitlines():
                self._progress.note(str(line))

    def __call__(self, event: Mapping[str, Any]) -> bool:
        kind = str(event.get("event", ""))
        data: Mapping[str, Any] = event.get("event_data") or {}
        if kind == "playbook_on_play_start":
            self._play = str(data.get("name", "play"))
            self._progress.step(self._play)
        elif kind == "playbook_on_task_start":
            self._begin_play()
            self._busy.clear()
            self._progress.detail(str(data.get("name", "")))
        elif kind in ("runner_on_start", "runner_on_ok", "runner_on_skipped"):
            self._host(kind, data)
        elif kind in ("runner_on_failed", "runner_on_unreachable"):
            if not data.get("ignore_errors"):
                self._failed(data)
        elif kind == "runner_item_on_ok":
            self._ok(data)
        elif kind == "playbook_on_stats":
            self._stats(data)
        # Events are for now; the run's output is kept whole, so that no file per event is needed.
        return False

    def _begin_play(self) -> None:
        # A play without hosts has no task, takes no time and teaches nothing.
        if self._play and self._run is not None:
            self._run.step(self._play)
        self._play = ""

    def _ok(self, data: Mapping[str, Any]) -> None:
        result: Mapping[str, Any] = data.get("res") or {}
        host = str(data.get("host", "?"))
        if data.get("task_action") == "service_state":
            self.services += read_services(host, result)
        elif "results" not in result:
            # The answer of a loop only repeats those of its items.
            self.changes += read_changes(host, str(data.get("task", "?")), result)

    def _failed(self, data: Mapping[str, Any]) -> None:
        result: Mapping[str, Any] = data.get("res") or {}
        parts = [str(result[key]) for key in ("msg", "stderr") if result.get(key)]
        message = "\n".join(parts) if parts else "no reason given"
        # The preflight's report has the remedy of each finding in it.
        is_unreachable = bool(result.get("unreachable"))
        told = "Remedy: " in message
        remedy = "" if told else remedy_for(message, unreachable=is_unreachable)
        found = Failure(str(data.get("host", "?")), str(data.get("task", "?")), message, remedy)
        self.failures.append(found)
        if is_unreachable:
            self._unreachable.append(found)

    def _stats(self, data: Mapping[str, Any]) -> None:
        fields = {"ok": "ok", "changed": "changed", "failures": "failed", "dark": "unreachable"}
        for theirs, ours in fields.items():
            counts: Mapping[str, int] = data.get(theirs) or {}
            for host, count in counts.items():
                setattr(self.hosts.setdefault(host, HostStats()), ours, count)
        told: Mapping[str, Mapping[str, Any]] = data.get("artifact_data") or {}
        self.told.update(told)
        # The preflight goes on without hosts that it cannot reach, and reports them by itself;
        # only the counts at the end tell that.
        for one in self._unreachable:
            if not self.hosts.setdefault(one.host, HostStats()).unreachable:
                self.failures.remove(one)

    def outcome(self, rc: int, log: Path) -> Outcome:
        """What was heard of a run that ended with `rc`."""
        if rc != 0 and not self.failures:
            # It ended outside of any task: of a file that is wrong there is its own output only.
            message = f"ended with {rc}\n{errors_in(log)}"
            self.failures.append(Failure("", "ansible-playbook", message, ""))
        return Outcome(
            rc=rc,
            hosts=self.hosts,
            failures=self.failures,
            log=log,
            told=self.told,
            changes=self.changes,
            services=self.services,
        )


def _arguments(
    limit: Sequence[str], tags: Sequence[str], *, check: bool, diff: bool
) -> dict[str, str]:
    words = (["--check"] if check else []) + (["--diff"] if diff else [])
    options = {"cmdline": " ".join(words)} if words else {}
    if limit:
        options["limit"] = ",".join(limit)
    if tags:
        options["tags"] = ",".join(tags)
    return options


def _playbook(root: Path, name: str) -> Path:
    found = root / "playbooks" / f"{name}.yml"
    if not found.is_file():
        known = ", ".join(sorted(path.stem for path in found.parent.glob("*.yml")))
        raise ConfigError(f"there is no playbook {name!r}; there are {known}")
    return found


def errors_in(log: Path) -> str:
    """What Ansible says in its own output when it ends without a failed task."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    found = [number for number, line in enumerate(lines) if line.startswith("[ERROR]: ")]
    told = lines[found[0] : found[0] + _ERROR_LINES] if found else lines[-1:]
    return "\n".join(told).removeprefix("[ERROR]: ")


def tags_of(playbook: Path) -> set[str]:
    """Tags of a playbook and of those that it imports, by which a run can be told to do less."""
    found: set[str] = set()
    for play in yaml.safe_load(playbook.read_text()):
        found.update(play.get("tags", ()))
        for role in play.get("roles", ()):
            found.update(role.get("tags", ()))
        if (below := play.get("ansible.builtin.import_playbook")) is not None:
            found |= tags_of(playbook.parent / below)
    return found - {"always"}


def _check_tags(playbook: Path, tags: Sequence[str]) -> None:
    # Ansible takes a word that is no tag for one that nothing has, and does nothing.
    wanted = {word for tag in tags for word in tag.split(",")} - _EVERY_PLAYBOOKS_TAGS
    known = tags_of(playbook) if wanted else set()
    if unknown := sorted(wanted - known):
        there = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"--tags {', '.join(unknown)}: the tags of {playbook.name} are {there}")


def _environment(root: Path) -> dict[str, str]:
    """What Ansible is started with: its configuration, and the programs beside this interpreter."""
    own_bin = Path(sys.executable).parent
    search = os.pathsep.join([str(own_bin), os.environ.get("PATH", os.defpath)])
    if shutil.which("ansible-playbook", path=search) is None:
        raise MesostkError("ansible-playbook is not installed: pip install ansible-core")
    return {
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "PATH": search,
        "LC_ALL": "C.UTF-8",
    }


@contextmanager
def hanging_up() -> Iterator[None]:
    """Have programs that are begun here end with this process, also below `nohup`.

    Ansible runs on a terminal of its own, which hangs up when this process is gone, however that
    came. It would inherit that hanging up is ignored, and work on while the next run has begun; a
    handler is not inherited, and lets this process ignore it as before.
    """
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _last_written(run: Path) -> float:
    """When a run wrote its last line or was begun, in seconds since 1970; 0 if it is gone."""
    found = 0.0
    for path in (run, run / "stdout"):
        with suppress(FileNotFoundError):
            found = max(found, path.stat().st_mtime)
    return found


def _unless_gone(_function: object, _path: str, error: tuple[type, BaseException, object]) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def forget_runs(directory: Path, kept: int = _RUNS_KEPT) -> None:
    """Remove the output of all runs but the `kept` that wrote last, of which some may be at work.

    ansible-runner would do it, too, but fails where another command does so at the same time.
    """
    if not directory.is_dir():
        return
    for run in sorted(directory.glob("[!.]*"), key=_last_written, reverse=True)[kept:]:
        # Half of one would be taken for one that has just been written to.
        with suppress(FileNotFoundError):
            run.rename(run.with_name(f".{run.name}"))
    for run in directory.glob(".*"):
        shutil.rmtree(run, onerror=_unless_gone)


def run_playbook(
    name: str,
    inventory: Path,
    progress: Progress,
    log_dir: Path,
    *,
    limit: Sequence[str] = (),
    tags: Sequence[str] = (),
    check: bool = False,
    diff: bool = False,
    extra_vars: Mapping[str, object] | None = None,
    run: Run | None = None,
) -> Outcome:
    """Run `playbooks/<name>.yml` on `inventory`, as a part of the ledger's `run` if one is given.

    A failed run is an outcome, not an exception. Raises ConfigError if the playbook, a tag or the
    inventory does not exist, MesostkError if Ansible itself cannot be started.
    """
    import ansible_runner  # noqa: PLC0415 # 0.3 s, which only the commands that use it pay

    root = data_root()
    playbook = _playbook(root, name)
    check_files(inventory)
    _check_tags(playbook, tags)
    environment = _environment(root)
    log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = _Listener(progress, run)
    ident = f"{run.id if run is not None else 'look'}-{name}-{uuid.uuid4().hex[:6]}"
    log = log_dir.absolute() / "artifacts" / ident / "stdout"
    if run is not None:
        run.log(log)
    forget_runs(log.parent.parent)
    with hanging_up():
        ran = ansible_runner.run(
            private_data_dir=str(log_dir),
            project_dir=str(root),
            playbook=str(playbook),
            inventory=str(inventory.absolute()),
            ident=ident,
            extravars=dict(extra_vars or {}),
            envvars=environment,
            event_handler=listener,
            quiet=True,
            # Extra variables may be secrets: they are handed over, not left on the disk.
            suppress_env_files=True,
            **_arguments(limit, tags, check=check, diff=diff),
        )
    # It repeats the whole environment, which may hold secrets.
    (log.parent / "command").unlink(missing_ok=True)
    outcome = listener.outcome(int(ran.rc), log)
    if run is not None:
        if outcome.rc == 0:
            run.step_done()
        run.counted(hosts=len(outcome.hosts), changed=outcome.changed)
    return outcome
