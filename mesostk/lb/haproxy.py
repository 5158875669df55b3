"""One HAProxy of this host: its file is checked and swapped, its process reloaded and changed.

::

    check ─▶ swap (rename) ─▶ state of the servers saved ─▶ reload by master socket or command
                                                            └─▶ new worker seen, or it failed

Nothing here decides what is to be done; `applying` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import re
import shlex
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mesostk.base import regular
from mesostk.errors import MesostkError, Unavailable
from mesostk.lb import changes, runtime
from mesostk.lb.changes import Step

T = TypeVar("T")

#: `haproxy -c` on 1,000 apps takes 0.1 s; certificates in the thousands some seconds.
CHECK_TIMEOUT_S: Final = 60.0
RELOAD_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02

DOMAIN_MAP: Final = "domain2backend.map"
APP_MAP: Final = "app2backend.map"

_STILL_BUSY: Final = "connections attached"
_QUOTED = re.compile(r"'([^']+)'")


class ReloadFailed(MesostkError):
    """HAProxy goes on with its old configuration."""


class FileTrouble(MesostkError):
    """A file of HAProxy's cannot be read or written; it goes on with what it has."""


class Invalid(msgspec.Struct, frozen=True):
    """What `haproxy -c` does not like: its words, the lines and the names it speaks of."""

    message: str
    lines: tuple[int, ...]
    names: tuple[str, ...]


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Where this HAProxy's things are. `master_socket` None: reload by command only."""

    config: Path = Path("/etc/haproxy/haproxy.cfg")
    program: str = "haproxy"
    stats_socket: str = "/var/run/haproxy/socket"
    master_socket: str | None = None
    state_directory: str = "/var/state/haproxy/"
    command: str | None = None
    #: How many files of before are kept.
    archive_versions: int = 5
    #: Reloads after the first one without a new process; 0: none, but no end of waiting; -1: any.
    reload_retries: int = 10
    reload_interval_s: float = 10.0


#: Runs blocking work in the disk thread: `Daemon.disk`.
Disk = Callable[..., Awaitable[Any]]


class Haproxy:
    """Everything that is done to files and processes of HAProxy."""

    def __init__(self, paths: Paths, disk: Disk) -> None:
        self.paths = paths
        self._thread = disk
        self._performers: dict[type[Step], Callable[[Any], Awaitable[bool]]] = {
            changes.Add: self._add,
            changes.Ready: self._ready,
            changes.Drain: self._drain,
            changes.Remove: self._remove,
        }

    # -- files --------------------------------------------------------------------------------

    async def _disk(self, work: Callable[..., T], *args: Any) -> T:
        try:
            done: T = await self._thread(work, *args)
        except (OSError, UnicodeDecodeError) as error:
            folder = self.paths.config.parent
            raise FileTrouble(
                f"{error}; marathon-lb must be able to read and write the files of HAProxy:"
                f" look at {folder} and at what is free there"
            ) from error
        return done

    async def read(self) -> str | None:
        """The file as it is; None where there is none."""
        text: str | None = await self._disk(_read, self.paths.config)
        return text

    async def check(self, text: str) -> Invalid | None:
        """What HAProxy says against `text`; None if it would start with it."""
        candidate: str = await self._disk(_write_beside, self.paths.config, text)
        try:
            code, output = await run([self.paths.program, "-c", "-f", candidate], CHECK_TIMEOUT_S)
        finally:
            await self._disk(_remove, candidate)
        return None if code == 0 else complaints(output, candidate)

    async def swap(self, text: str) -> None:
        """Put `text` in the file's place at once, with the files of before in `archive`."""
        if self.paths.archive_versions:
            await self._disk(_archive, self.paths.config, self.paths.archive_versions)
        await self._disk(_replace, self.paths.config, text)

    async def write_maps(self, domains: str, apps: str) -> None:
        """Put both map files in their places."""
        for name, text in ((DOMAIN_MAP, domains), (APP_MAP, apps)):
            path = self.paths.config.parent / name
            if await self._disk(_read, path) != text:
                await self._disk(_replace, path, text)

    async def loaded(self) -> str | None:
        """What `mark_loaded` wrote last."""
        mark: str | None = await self._disk(_read, self._mark)
        return mark

    async def mark_loaded(self, mark: str) -> None:
        """Remember which structure the process was given, for the next marathon-lb."""
        await self._disk(_replace, self._mark, mark)

    @property
    def _mark(self) -> Path:
        return self.paths.config.with_suffix(".loaded")

    # -- the running process ------------------------------------------------------------------

    async def servers(self) -> list[runtime.RunningServer]:
        """The servers that it has now; Unavailable if it does not run."""
        return list(runtime.servers(await self._ask("show servers state")))

    async def statistics(self) -> list[dict[str, str]]:
        """The rows of `show stat`; Unavailable if it does not run."""
        return runtime.statistics(await self._ask("show stat"))

    async def pids(self) -> list[int]:
        """Its processes: the master, the worker, and workers that end their last connections."""
        if self.paths.master_socket is not None:
            with contextlib.suppress(Unavailable):
                answer = await runtime.ask(self.paths.master_socket, "show proc")
                return [process.pid for process in runtime.processes(answer)]
        pids: list[int] = await self._disk(_pids_by_name, Path(self.paths.program).name)
        return pids

    async def _ask(self, command: str) -> str:
        return await runtime.ask(self.paths.stats_socket, command)

    async def _change(self, command: str) -> None:
        await runtime.change(self.paths.stats_socket, command)

    async def perform(self, step: Step) -> bool:
        """Do one step; False if a server cannot go yet because it has connections.

        Refused if HAProxy will not, Unavailable if it does not answer.
        """
        return await self._performers[type(step)](step)

    async def _add(self, step: changes.Add) -> bool:
        where = f"{step.backend}/{step.name}"
        await self._change(f"add server {where} {step.address} {step.options}")
        # A new server is in maintenance and unchecked until told otherwise.
        if " check " in f" {step.options} ":
            await self._change(f"enable health {where}")
        if not step.draining:
            await self._change(f"enable server {where}")
        return True

    async def _ready(self, step: Step) -> bool:
        await self._change(f"set server {step.backend}/{step.name} state ready")
        return True

    async def _drain(self, step: Step) -> bool:
        await self._change(f"set server {step.backend}/{step.name} state maint")
        return True

    async def _remove(self, step: Step) -> bool:
        await self._drain(step)
        try:
            await self._change(f"del server {step.backend}/{step.name}")
        except runtime.Refused as refused:
            if _STILL_BUSY in str(refused):
                return False
            raise
        return True

    # -- reload -------------------------------------------------------------------------------

    async def reload(self) -> str:
        """Make HAProxy start anew from its file without refusing a connection; say how.

        ReloadFailed if it could not, Unavailable if there is none and no command to start one.
        """
        await self._save_state()
        if self.paths.master_socket is not None:
            try:
                answer = await runtime.ask(self.paths.master_socket, "show proc")
            except Unavailable:
                if self.paths.command is None:
                    raise
            else:
                await self._reload_by_master(self.paths.master_socket, answer)
                return "master socket"
        command = self.paths.command or await self._disk(usual_command)
        if command is None:
            raise Unavailable("HAProxy does not run and no reload command is known")
        code, output = await run(shlex.split(command), RELOAD_TIMEOUT_S)
        if code != 0:
            raise ReloadFailed(f"`{command}` ended with {code}: {output.strip()[-400:]}")
        return command

    async def _save_state(self) -> None:
        try:
            state = await self._ask("show servers state")
        except Unavailable:
            return
        directory = Path(self.paths.state_directory)
        if await self._disk(directory.is_dir):
            await self._disk(_replace, directory / "global", runtime.state_to_keep(state))

    async def _reload_by_master(self, path: str, before: str) -> None:
        known = {process.pid for process in runtime.processes(before)}
        failed = runtime.failed_reloads(before)
        retries, interval_s = self.paths.reload_retries, self.paths.reload_interval_s
        attempts = 0
        while attempts <= retries or retries < 0:
            attempts += 1
            # The master answers by starting itself anew, so the connection may just break.
            with contextlib.suppress(Unavailable):
                await runtime.ask(path, "reload", timeout_s=0.5)
            if await self._new_worker(path, known, failed, interval_s if retries else math.inf):
                return
        raise ReloadFailed(f"no new worker after {attempts} reloads, {interval_s:g} s apart")

    async def _new_worker(self, path: str, known: set[int], failed: int, limit_s: float) -> bool:
        """Whether a worker that is not `known` came in time; ReloadFailed if HAProxy says so."""
        deadline = asyncio.get_running_loop().time() + limit_s
        while asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(Unavailable):
                answer = await runtime.ask(path, "show proc", timeout_s=1.0)
                if runtime.failed_reloads(answer) > failed:
                    raise ReloadFailed("HAProxy could not load the new file; its log says why")
                if self._has_new_worker(answer, known):
                    return True
            await asyncio.sleep(POLL_S)
        return False

    def _has_new_worker(self, answer: str, known: set[int]) -> bool:
        return any(
            process.kind == "worker" and not process.is_old and process.pid not in known
            for process in runtime.processes(answer)
        )


# -- what HAProxy says ------------------------------------------------------------------------


def complaints(output: str, path: str) -> Invalid:
    """The errors in the output of `haproxy -c -f path`; warnings do not count."""
    alerts = [line for line in output.splitlines() if "[ALERT]" in line]
    at_line = re.compile(re.escape(path) + r":(\d+)")
    lines = [int(found) for line in alerts for found in at_line.findall(line)]
    names = [name for line in alerts for name in _QUOTED.findall(line)]
    words = [re.sub(r"^\[ALERT\]\s+\(\d+\) : ", "", line) for line in alerts]
    text = "; ".join(words).replace(path, "haproxy.cfg") or output.strip()[-400:]
    return Invalid(text[:1000], tuple(dict.fromkeys(lines)), tuple(dict.fromkeys(names)))


def taken_binds(binds: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of `binds` (address or `*`, port) that some other process has.

    `haproxy -c` does not try to bind, and a reload that fails for one port fails for all.
    """
    return [bind for bind in binds if _is_taken(*bind)]


def _is_taken(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind(("" if address in ("*", "") else address.strip("[]"), port))
        except OSError as error:
            return error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
    return False


def usual_command() -> str | None:
    """How this host reloads HAProxy, as the original looks for it."""
    if Path("/etc/init/haproxy.conf").is_file():
        return "reload haproxy"
    for directory in ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"):
        if Path(directory, "haproxy.service").is_file():
            return "systemctl reload-or-restart haproxy"
    return "/etc/init.d/haproxy reload" if Path("/etc/init.d/haproxy").is_file() else None


async def run(command: Sequence[str], timeout_s: float) -> tuple[int, str]:
    """(exit code, output) of a command; Unavailable if it cannot be run or does not end."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise Unavailable(f"`{shlex.join(command)}` did not end in {timeout_s:g} s") from error
    return process.returncode or 0, output.decode(errors="replace")


# -- disk thread ------------------------------------------------------------------------------


def _read(path: Path) -> str | None:
    try:
        return regular.read(path).decode()
    except FileNotFoundError:
        return None


def _mode_of(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0o644


def _write_beside(path: Path, text: str) -> str:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).chmod(_mode_of(path))
    except OSError:
        _remove(name)  # a full disk is not filled by tries
        raise
    return name


def _archive(path: Path, versions: int) -> None:
    """Keep a copy of the file as it is: `archive/<name>.1` is the newest of `versions`."""
    if not path.exists():
        return
    folder = path.parent / "archive"
    folder.mkdir(exist_ok=True)
    for number in range(versions, 1, -1):
        older = folder / f"{path.name}.{number - 1}"
        if older.exists():
            older.replace(folder / f"{path.name}.{number}")
    shutil.copy2(path, folder / f"{path.name}.1")


def _replace(path: Path, text: str) -> None:
    name = _write_beside(path, text)
    try:
        Path(name).replace(path)
    except OSError:
        _remove(name)
        raise


def _remove(name: str) -> None:
    Path(name).unlink(missing_ok=True)


def _pids_by_name(name: str) -> list[int]:
    entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted((int(e.name) for e in entries if _read_comm(e) == name), reverse=True)


def _read_comm(entry: Path) -> str:
    try:
        return (entry / "comm").read_text().strip()
    except OSError:  # it ended meanwhile
        return ""
