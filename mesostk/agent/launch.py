"""The agent's end of the launcher: starts runs, watches them, ends them.

::

    launch(spec) ─▶ launcher ─▶ supervisor ─▶ pid record ─▶ exec ─▶ Run            LaunchFailed
                                                                     │ pidfd readable
    reattach(container id) ── records, pidfd, start time ─▶ Run      ▼
    kill(run, grace) ─▶ SIGTERM to the supervisor            status record ─▶ on_exit(id, record)
                                                             none: kill what is left, then on_exit

Every run is in one of two places: in `runs`, its end still to be told by `on_exit`, exactly once;
or over, its `status` record on disk. No state is kept that a new agent cannot read from the runtime
directory.

The launcher is exec'd (`start`), which is safe from a process with threads; if it dies, the next
`launch` starts another, and what was asked of the dead one is looked up in its records. Runs are
not concerned: nothing depends on their parent.

Loop thread only, except where said; nothing here blocks for longer than a small file in a tmpfs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import msgspec

import mesostk
from mesostk.agent import checkpoint, launcher, leftovers
from mesostk.agent.checkpoint import ExitRecord, PidRecord
from mesostk.agent.launch_spec import LaunchFailed, LaunchSpec, request_of
from mesostk.agent.processes import children_of
from mesostk.errors import Unavailable, WireError

#: For a launcher to say it is ready. It first waits for launches of its predecessor to have left
#: their records, which takes milliseconds unless the runtime directory hangs.
READY_TIMEOUT_S = 30.0

#: What the launcher runs: `-I -S` keeps site-packages and their .pth code out, so the path of this
#: package is appended by hand.
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from mesostk.agent import launcher; "
    "launcher.main(int(sys.argv[2]), sys.argv[3])"
)


#: Tries for one launch; a request that kills its launcher must not do so for ever.
_LAUNCHERS_PER_LAUNCH = 2


class Run:
    """A run that is watched. `pid` is the supervisor's, `task_pid` the task's own (0: unknown)."""

    __slots__ = ("container_id", "directory", "pid", "pidfd", "task_pid")

    def __init__(self, container_id: str, directory: Path, pid: int, task_pid: int, pidfd: int):
        self.container_id = container_id
        self.directory = directory
        self.pid = pid
        self.task_pid = task_pid
        self.pidfd = pidfd


class _Started(msgspec.Struct, frozen=True):
    """The supervisor's answer: the task has exec'ed."""

    pid: int
    task_pid: int
    pidfd: int


class LauncherClient:
    """Starts and watches the runs of one agent; `runtime_dir` must be a directory of its own.

    `on_exit(container_id, record)` is called once for each run that `launch` returned or
    `reattach` returned as a Run, when nothing of it is left. `disk` runs what may block.
    """

    def __init__(
        self,
        runtime_dir: Path,
        on_exit: Callable[[str, ExitRecord], None],
        disk: Executor | None = None,
    ) -> None:
        self.runs: dict[str, Run] = {}
        self._runtime_dir = runtime_dir
        self._on_exit = on_exit
        self._disk = disk
        self._boot = checkpoint.boot_identity()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._ready: asyncio.Future[None] | None = None
        self._launching: dict[int, asyncio.Future[_Started]] = {}
        self._concluding: set[asyncio.Future[ExitRecord]] = set()
        self._number = 0
        self._closed = False

    @property
    def launcher_pid(self) -> int | None:
        """Pid of the launcher; None before the first `start` and after it died."""
        return self._process.pid if self._process is not None else None

    # -- the launcher process -----------------------------------------------------------------

    async def start(self) -> None:
        """Start the launcher unless it runs.

        When this returns, no launch asked of an earlier launcher on this runtime directory, by
        this agent or one before it, is still under way: `reattach` sees the truth.
        Raises Unavailable if it cannot be started or does not get ready.
        """
        async with self._starting:
            if self._closed:
                raise Unavailable("the agent is ending")
            if self._socket is not None:
                return
            loop = asyncio.get_running_loop()
            try:
                self._socket = self._exec()
            except OSError as error:
                raise Unavailable(f"cannot start the launcher: {error}") from error
            self._ready = loop.create_future()
            loop.add_reader(self._socket.fileno(), self._on_readable)
            try:
                await asyncio.wait_for(self._ready, READY_TIMEOUT_S)
            except (TimeoutError, _Unanswered) as error:
                self._drop_launcher()
                raise Unavailable(
                    f"the launcher did not get ready within {READY_TIMEOUT_S:g} s: is "
                    f"{self._runtime_dir} writable, and does no supervisor hang in it?"
                ) from error

    def _exec(self) -> socket.socket:
        self._runtime_dir.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        package = Path(mesostk.__file__).parent.parent
        lock = self._runtime_dir / "launcher.lock"
        arguments = [str(package), str(theirs.fileno()), str(lock)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C at the agent's terminal is not for it
            )
        ours.setblocking(False)
        return ours

    async def close(self) -> None:
        """Let the launcher end and stop watching; the runs go on, and a later agent finds them.

        Launches under way end with Unavailable; whether they happened is for that agent to see.
        """
        self._closed = True
        for run in self.runs.values():
            asyncio.get_running_loop().remove_reader(run.pidfd)
            os.close(run.pidfd)
        self.runs.clear()
        self._drop_launcher()

    def _drop_launcher(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()  # at worst between two forks; what it forked is in the records
            self._process.wait()
            self._process = None
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(_Unanswered())
        for answer in self._launching.values():
            if not answer.done():
                answer.set_exception(_Unanswered())

    # -- launching ----------------------------------------------------------------------------

    async def launch(self, spec: LaunchSpec) -> Run:
        """Start a run; returns when its task has exec'ed, its `pid` record being on disk.

        Raises LaunchFailed, nothing being left of the run, if the task cannot be started, and
        Unavailable if the launcher cannot.
        """
        directory = checkpoint.run_directory(self._runtime_dir, spec.container_id)
        frame = launcher.encode((self._next(), request_of(spec, directory, self._boot)))
        number = self._number
        try:
            checkpoint.make_empty(directory)
        except OSError as error:
            raise LaunchFailed(f"cannot make {directory}: {error.strerror}") from error
        for _ in range(_LAUNCHERS_PER_LAUNCH):
            await self.start()
            try:
                return await self._launch_once(spec.container_id, directory, number, frame)
            except _Unanswered:
                await self.start()  # past it, the records do not change behind our back
            outcome = await self.reattach(spec.container_id)
            if isinstance(outcome, Run):
                return outcome
            if outcome is not None and outcome.wait_status is not None:
                return self._ended_already(spec.container_id, directory, outcome)
            if outcome is not None:
                reason = outcome.failure if outcome.failure is not None else outcome.note
                raise LaunchFailed(reason if reason is not None else "it was lost while starting")
        raise LaunchFailed("the launcher died each time that it was asked to start it")

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _launch_once(
        self, container_id: str, directory: Path, number: int, frame: bytes
    ) -> Run:
        answer: asyncio.Future[_Started] = asyncio.get_running_loop().create_future()
        self._launching[number] = answer
        try:
            await self._send(frame)
            started = await answer
        except asyncio.CancelledError:
            # The run goes on; whoever cancelled finds it by `reattach`.
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                os.close(answer.result().pidfd)
            raise
        finally:
            del self._launching[number]
        run = Run(container_id, directory, started.pid, started.task_pid, started.pidfd)
        self._watch(run)
        return run

    async def _send(self, frame: bytes) -> None:
        """One frame to the launcher, waiting for room; raises _Unanswered if it is gone."""
        memory_file = -1
        if len(frame) > launcher.MAX_INLINE:
            memory_file = os.memfd_create("launch")
            os.write(memory_file, frame)
            frame = launcher.encode("in-file")
        try:
            async with self._sending:
                while self._socket is not None:
                    try:
                        socket.send_fds(
                            self._socket, [frame], [memory_file] if memory_file >= 0 else []
                        )
                    except BlockingIOError:
                        await self._room(self._socket)
                    except OSError:
                        break  # the reader hears of it, too
                    else:
                        return
            raise _Unanswered
        finally:
            if memory_file >= 0:
                os.close(memory_file)

    async def _room(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        fd = sock.fileno()
        loop.add_writer(fd, _settle, room)
        try:
            await room
        finally:
            loop.remove_writer(fd)

    def _on_readable(self) -> None:
        while self._socket is not None:
            try:
                frame, fds, _, _ = socket.recv_fds(self._socket, launcher.MAX_INLINE, 1)
            except BlockingIOError:
                return
            except OSError:
                frame, fds = b"", []
            if not frame:
                self._drop_launcher()
                return
            match launcher.decode(frame):
                case ("ready", _, _):
                    if self._ready is not None:
                        _settle(self._ready)
                case ("started", int(number), int(task_pid), int(pid)) if fds:
                    if self._answer(number, _Started(pid, task_pid, fds[0])):
                        continue
                case ("failed", int(number), str(reason)):
                    self._answer(number, LaunchFailed(reason))
                case ("gone", int(number), int()):
                    self._answer(number, _Unanswered())
            for fd in fds:
                os.close(fd)

    def _answer(self, number: int, value: _Started | Exception) -> bool:
        """False if nobody waits for it: answered already, or cancelled."""
        answer = self._launching.get(number)
        if answer is None or answer.done():
            return False
        if isinstance(value, Exception):
            answer.set_exception(value)
        else:
            answer.set_result(value)
        return True

    def _ended_already(self, container_id: str, directory: Path, outcome: ExitRecord) -> Run:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._on_exit, container_id, outcome)
        return Run(container_id, directory, 0, 0, -1)

    # -- watching -----------------------------------------------------------------------------

    async def reattach(self, container_id: str) -> Run | ExitRecord | None:
        """What became of a run that an earlier agent, or an unanswered `launch`, left.

        A Run: its supervisor is alive and is watched again. An ExitRecord: it is over, and what
        was left of it has been killed. None: its task was never forked.
        Call `start` first. Raises nothing: unreadable records are a `lost` run, with a note.
        """
        directory = checkpoint.run_directory(self._runtime_dir, container_id)
        try:
            ended = checkpoint.read_exit(directory)
            record = checkpoint.read_pid(directory)
        except WireError as error:
            return ExitRecord(lost=True, note=str(error))
        if ended is not None or record is None:
            return ended
        if record.boot != self._boot:
            return ExitRecord(lost=True, note="the host was restarted")
        pidfd = leftovers.open_pidfd(record)
        if pidfd is None:
            return await self._conclude(record, directory)
        # Supervisors of before version 0.2 recorded no task; it was their first child.
        task = record.task or next(iter(children_of(record.pid)), 0)
        run = Run(container_id, directory, record.pid, task, pidfd)
        self._watch(run)
        return run

    async def _conclude(self, record: PidRecord, directory: Path) -> ExitRecord:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._disk, leftovers.conclude, record, directory)

    def _watch(self, run: Run) -> None:
        self.runs[run.container_id] = run
        asyncio.get_running_loop().add_reader(run.pidfd, self._on_gone, run)

    def _on_gone(self, run: Run) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(run.pidfd)
        os.close(run.pidfd)
        run.pidfd = -1
        ended = leftovers.recorded(run.directory)
        if ended is not None:  # as ever but when the supervisor was killed
            self.runs.pop(run.container_id, None)
            self._on_exit(run.container_id, ended)
            return
        work = loop.run_in_executor(self._disk, leftovers.outcome, run.directory)
        self._concluding.add(work)
        work.add_done_callback(lambda done: self._on_outcome(run, done))

    def _on_outcome(self, run: Run, work: asyncio.Future[ExitRecord]) -> None:
        self._concluding.discard(work)
        if not work.cancelled() and self.runs.pop(run.container_id, None) is not None:
            self._on_exit(run.container_id, work.result())

    # -- ending -------------------------------------------------------------------------------

    def kill(self, run: Run, grace_s: float) -> None:
        """TERM now and KILL after `grace_s` seconds, whether or not the agent lives to see it.

        Said again, it may only shorten what remains of the grace. A run that has ended is left
        alone. `on_exit` tells the end, as ever.
        """
        if run.pidfd < 0:
            return
        deadline = time.monotonic() + max(0.0, grace_s)
        path = run.directory / "kill"
        with contextlib.suppress(OSError, ValueError):  # said for the first time
            deadline = min(deadline, float(path.read_text()))
        with contextlib.suppress(OSError):  # a full disk: the grace of the launch holds
            checkpoint.replace(path, f"{deadline:.6f}".encode())
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(run.pidfd, signal.SIGTERM)

    def forget(self, container_id: str) -> None:
        """Remove the runtime directory of a run that is over and fully reported."""
        shutil.rmtree(checkpoint.run_directory(self._runtime_dir, container_id), ignore_errors=True)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Unanswered(Exception):
    """The launcher or the supervisor went before it answered: the records know."""
