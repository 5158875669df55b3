"""The agent's end of the launcher: starts runs, watches them, ends them.

::

    launch(spec) ─▶ launcher ─▶ supervisor ─▶ pid record ─▶ exec ─▶ Run            LaunchFailed
                 └▶ idle one, by its line ─┘ (pool.py)               │ `ended` by line, or
    reattach(container id) ── records, pidfd, start time ─▶ Run      ▼ pidfd readable
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
from mesostk.agent import checkpoint, frames, leftovers
from mesostk.agent.checkpoint import ExitRecord, PidRecord
from mesostk.agent.launch_spec import LaunchFailed, LaunchSpec, request_of
from mesostk.agent.pool import Pool, Supervisor
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
    """The supervisor's answer: the task has exec'ed. `supervisor` if there is a line to it."""

    pid: int
    task_pid: int
    pidfd: int
    supervisor: Supervisor | None = None


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
        self._lock = -1
        self._launching: dict[int, asyncio.Future[_Started]] = {}
        self._pool = Pool(self._on_said, self._on_supervisor_gone)
        self._using: dict[Supervisor, Run] = {}
        self._ended_early: dict[Supervisor, ExitRecord] = {}
        self._concluding: set[asyncio.Future[ExitRecord]] = set()
        self._number = 0
        self._closed = False

    @property
    def launcher_pid(self) -> int | None:
        """Pid of the launcher; None before the first `start` and after it died."""
        return self._process.pid if self._process is not None else None

    @property
    def idle(self) -> tuple[int, ...]:
        """Pids of supervisors that are kept without a run; the last is used next."""
        return self._pool.idle

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
                async with asyncio.timeout(READY_TIMEOUT_S):
                    await self._ready
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
        for run in self._using.values():
            run.pidfd = -1  # the pool's
        self._using.clear()
        self._pool.close()
        for run in self.runs.values():
            if run.pidfd >= 0:
                asyncio.get_running_loop().remove_reader(run.pidfd)
                os.close(run.pidfd)
                run.pidfd = -1
        self.runs.clear()
        self._drop_launcher()

    def _drop_launcher(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)  # or its successor would wait for us
            self._lock = -1
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
        request = request_of(spec, directory, self._boot)
        number = self._next()
        frame = frames.encode((number, request))
        try:
            checkpoint.make_empty(directory)
        except OSError as error:
            raise LaunchFailed(f"cannot make {directory}: {error.strerror}") from error
        for n in range(_LAUNCHERS_PER_LAUNCH):
            await self.start()
            try:
                again = n == 0 and request["again"] is True
                started = await self._launch_once(number, frame, again=again)
                return self._begun(spec.container_id, directory, started)
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

    async def _launch_once(self, number: int, frame: bytes, *, again: bool) -> _Started:
        answer: asyncio.Future[_Started] = asyncio.get_running_loop().create_future()
        self._launching[number] = answer
        try:
            if not (again and self._lock >= 0 and self._pool.give(number, frame, [self._lock])):
                await self._send(frame)
            return await answer
        except asyncio.CancelledError:
            # The run goes on; whoever cancelled finds it by `reattach`.
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._let_go(answer.result())
            raise
        finally:
            del self._launching[number]

    def _begun(self, container_id: str, directory: Path, started: _Started) -> Run:
        """Watch a run that has started, whose end may have been told already."""
        one = started.supervisor
        run = Run(container_id, directory, started.pid, started.task_pid, started.pidfd)
        if one is None:
            self._watch(run)
            return run
        self.runs[container_id] = run
        self._using[one] = run
        ended = self._ended_early.pop(one, None)
        if ended is not None:
            asyncio.get_running_loop().call_soon(self._over, one, ended)
        elif one.pidfd < 0:
            asyncio.get_running_loop().call_soon(self._on_supervisor_gone, one)
        return run

    def _let_go(self, started: _Started) -> None:
        if started.supervisor is None:
            os.close(started.pidfd)
            return
        self._ended_early.pop(started.supervisor, None)
        self._pool.drop(started.supervisor)

    async def _send(self, frame: bytes) -> None:
        """One frame to the launcher, waiting for room; raises _Unanswered if it is gone."""
        async with self._sending:
            while self._socket is not None:
                try:
                    frames.send(self._socket, frame)
                except BlockingIOError:
                    await self._room(self._socket)
                except OSError:
                    break  # the reader hears of it, too
                else:
                    return
        raise _Unanswered

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
                received = frames.receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self._drop_launcher()
                return
            message, fds = received
            match message, fds:
                case ("ready", _, _), [lock] if self._lock < 0:
                    self._lock = lock
                    if self._ready is not None:
                        _settle(self._ready)
                    continue
                case ("started", int(number), int(task_pid), int(pid)), [pidfd, *line]:
                    one = self._pool.add(number, pid, pidfd, line[0]) if line else None
                    started = _Started(pid, task_pid, pidfd, one)
                    if not self._answer(number, started):
                        self._let_go(started)
                    continue
                case ("failed", int(number), str(reason)), _:
                    self._answer(number, LaunchFailed(reason))
                case ("gone", int(number), int()), _:
                    self._answer(number, _Unanswered())
            frames.close(fds)

    def _on_said(self, one: Supervisor, message: object) -> None:
        """By line: of the launch that it was given last."""
        match message:
            case ("started", one.number, int(task_pid), int(pid)):
                started = _Started(pid, task_pid, one.pidfd, one)
                if not self._answer(one.number, started):
                    self._let_go(started)
            case ("failed", one.number, str(reason)):
                self._answer(one.number, LaunchFailed(reason))
                self._pool.drop(one)
            case ("ended", one.number, bytes(record)):
                ended = checkpoint.exit_of(record)
                if one in self._using:
                    self._over(one, ended)
                else:  # `launch` has yet to return
                    self._ended_early[one] = ended

    def _over(self, one: Supervisor, ended: ExitRecord) -> None:
        run = self._using.pop(one, None)
        if run is None:
            return  # closed meanwhile
        run.pidfd = -1  # from here on no signal is for this run
        self.runs.pop(run.container_id, None)
        self._pool.put_back(one)
        self._on_exit(run.container_id, ended)

    def _on_supervisor_gone(self, one: Supervisor) -> None:
        """It was killed, or failed: its launch, if it had one, has no other answer."""
        self._answer(one.number, _Unanswered())
        run = self._using.pop(one, None)
        if run is not None:
            run.pidfd = -1
            self._look_up(run)

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
        self._look_up(run)

    def _look_up(self, run: Run) -> None:
        """Tell how a run whose supervisor has gone ended."""
        loop = asyncio.get_running_loop()
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
        checkpoint.remove_run(checkpoint.run_directory(self._runtime_dir, container_id))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Unanswered(Exception):
    """The launcher or the supervisor went before it answered: the records know."""
