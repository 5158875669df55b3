"""Daemons as plain processes that outlive the command which started them.

A pid file holds pid and start time, so that a number that was given to another process since is
never mistaken for ours. Every process also carries the lab's directory in its environment; what
it forks inherits that, which is how the tasks of an agent that is gone are found.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from mesostk.errors import ConfigError, Unavailable

MARK = "MESOSTK_LAB_DIR"
#: Settings of daemons that a user may have for a real cluster must not reach the lab.
_FOREIGN_PREFIXES = ("MESOS_", "MARATHON_", "CHRONOS_", "LIBPROCESS_", "NOTIFY_SOCKET")


class PidFile(msgspec.Struct, frozen=True):
    """Which process a daemon is: `started` is its start time in seconds since the epoch."""

    pid: int
    started: float


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon that a lab should have running."""

    name: str
    argv: tuple[str, ...]
    address: str
    port: int


class ProcessTable:
    """The daemons below one directory: `run/` has their pid files, `logs/` what they say."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._run = directory / "run"
        self._logs = directory / "logs"

    def log(self, name: str) -> Path:
        """Where the daemon's stdout and stderr go."""
        return self._logs / f"{name}.log"

    def find(self, name: str) -> psutil.Process | None:
        """The daemon's live process; None if it has ended or was never started."""
        try:
            record = msgspec.json.decode((self._run / f"{name}.json").read_bytes(), type=PidFile)
            process = psutil.Process(record.pid)
            # the clock is read in ticks of 10 ms
            ours = abs(process.create_time() - record.started) < 0.02
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, msgspec.MsgspecError, psutil.NoSuchProcess):
            return None

    def is_paused(self, name: str) -> bool:
        """Whether the daemon is there but stopped by a signal."""
        process = self.find(name)
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def resume(self, name: str) -> None:
        """Let a paused daemon go on; nothing happens to one that is not there."""
        self._signal(name, signal.SIGCONT)

    def pause(self, name: str) -> None:
        """Stop the daemon from doing anything, its connections stay open."""
        self._signal(name, signal.SIGSTOP)

    def _signal(self, name: str, number: int) -> None:
        process = self.find(name)
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def start(self, process: Process) -> None:
        """Start the daemon. Raises ConfigError if something else has its port."""
        require_port(process.address, process.port, process.name)
        for directory in (self._run, self._logs):
            directory.mkdir(parents=True, exist_ok=True)
        with self.log(process.name).open("ab") as out:
            popen = subprocess.Popen(
                process.argv,
                cwd=self.directory,
                env=self._environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is not for the daemons
            )
        record = PidFile(popen.pid, psutil.Process(popen.pid).create_time())
        partial = self._run / f"{process.name}.new"
        partial.write_bytes(msgspec.json.encode(record))
        partial.replace(self._run / f"{process.name}.json")
        _abandon(popen)

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        kept = {key: text for key, text in environ.items() if not key.startswith(_FOREIGN_PREFIXES)}
        package_parent = str(Path(__file__).resolve().parent.parent.parent)
        path = os.pathsep.join(filter(None, [package_parent, environ.get("PYTHONPATH")]))
        return {**kept, MARK: str(self.directory.resolve()), "PYTHONPATH": path}

    def tail(self, name: str, lines: int = 10) -> str:
        """The end of the daemon's log."""
        try:
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(it wrote nothing)"

    def marked(self) -> list[psutil.Process]:
        """Every live process that carries this directory's mark, and the descendants of those."""
        mine = str(self.directory.resolve())
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == mine:
                    found[process.pid] = process
                    found.update((child.pid, child) for child in process.children(recursive=True))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        found.pop(os.getpid(), None)
        return [process for process in found.values() if _is_alive(process)]

    def end(self, name: str, grace_s: float) -> None:
        """SIGTERM, SIGKILL after `grace_s`; returns when it is gone."""
        if (process := self.find(name)) is not None:
            end_all([process], grace_s)
        (self._run / f"{name}.json").unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """SIGKILL at once."""
        self.end(name, grace_s=0.0)


def end_all(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """End `processes`: SIGTERM, then SIGKILL to those still there after `grace_s`.

    Raises Unavailable naming the pids that even that does not end.
    """
    alive = list(processes)
    rounds: Sequence[tuple[int, float]] = ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0))
    for number, limit_s in rounds if grace_s > 0 else rounds[1:]:
        for process in alive:
            try:
                process.send_signal(signal.SIGCONT)  # a paused process would keep the signal
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        alive = wait_gone(alive, limit_s)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise Unavailable(f"processes {pids} do not end, even by SIGKILL: look at `ps -l {pids}`")


def wait_gone(processes: Sequence[psutil.Process], limit_s: float) -> list[psutil.Process]:
    """Those of `processes` that are still there after at most `limit_s`.

    A zombie counts as gone: in a container whose first process reaps nobody it stays for ever.
    """
    deadline = time.monotonic() + limit_s
    while alive := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _abandon(popen: subprocess.Popen[bytes]) -> None:
    """Let the process go on without its Popen, which would warn when it is collected."""
    popen.returncode = 0


def require_port(address: str, port: int, name: str, patience_s: float = 2.0) -> None:
    """Raise ConfigError if `name` could not listen on `address:port` within `patience_s`.

    A killed process counts as gone when its first thread is, and its others may hold the port for
    a moment longer.
    """
    deadline = time.monotonic() + patience_s
    while (error := _why_not_bound(address, port)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise ConfigError(
                f"{name} needs {address}:{port}: {error.strerror}; `ss -ltnp` shows who listens "
                "there; end that, or choose other addresses with `--subnet 127.0.4.0/24`"
            ) from error
        time.sleep(0.05)


def _why_not_bound(address: str, port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error
    return None


def listens(address: str, port: int) -> bool:
    """Whether something accepts connections at `address:port`."""
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False


def wait_until(
    condition: Callable[[], bool],
    limit_s: float,
    describe: Callable[[], str],
    every_s: float = 0.05,
) -> None:
    """Return when `condition` holds; raise Unavailable with `describe()` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(describe())
        time.sleep(every_s)
