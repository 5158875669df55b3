"""Custom executors in a simulated world: the programs of a framework, and the agent's endpoint.

::

    Program ── SUBSCRIBE, UPDATE ──▶ Desk ──▶ the core (as `agent.executor_http`)
            ◀─ LAUNCH, KILL, ACKNOWLEDGED, SHUTDOWN ── Desk ◀── SendToExecutor

A program keeps its updates until they are acknowledged and brings them with the next subscription.
Its command says how it behaves: `executor`, `executor mute` (never subscribes), `executor stubborn`
(does not end when it is asked to). It may die, and stop for a while, at whatever it is told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from mesostk.agent import custom
from mesostk.agent.events import (
    CloseExecutorStream,
    ExecutorCalled,
    ExecutorStreamClosed,
    ExecutorSubscribed,
    SendToExecutor,
)
from mesostk.base.core import Event
from mesostk.errors import Rejected
from mesostk.testing.faults import Kind
from mesostk.testing.simhost import Broken
from mesostk.testing.simproc import FAILED, TERMINATED, Run
from mesostk.wire import executor as wire
from mesostk.wire import json
from mesostk.wire.mesos import (
    ExecutorID,
    FrameworkID,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

if TYPE_CHECKING:
    from mesostk.testing.simagent import AgentShell

#: A message over the loopback, and the start of a program, take so long; seconds.
DELAY_S = (0.0002, 0.005)
START_S = (0.05, 1.0)
#: Pause before an executor that is not subscribed tries again; seconds.
RETRY_S = 0.5
#: How long one stops that hangs; longer than an agent waits for it after a restart; seconds.
HANG_S = (0.5, 12.0)
#: What an executor takes to end once it was asked to; seconds.
LEAVING_S = (0.0, 0.5)
#: One event of so many goes through bytes.
_CODED_SHARE = 0.1


class Desk:
    """What an agent's executors talk to, through all its lives."""

    def __init__(self, shell: AgentShell, feed: Callable[[Event], None]) -> None:
        self._shell = shell
        self._feed = feed
        self._streams: dict[str, Program] = {}
        self._numbers = 0
        #: Told of each event before it is sent.
        self.on_send: list[Callable[[AgentShell, Program, wire.Event], None]] = []
        #: Told of each program that begins.
        self.on_program: list[Callable[[AgentShell, Program], None]] = []

    def started(self, run: Run) -> None:
        """The agent, or a launch that it left under way, has started an executor."""
        program = Program(self._shell, self, run)
        for fn in self.on_program:
            fn(self._shell, program)

    def ended(self) -> None:
        """The agent's process is gone, and all connections with it."""
        streams, self._streams = self._streams, {}
        for program in streams.values():
            program.disconnected()

    def take(self, program: Program, call: wire.Call) -> None:
        """A call arrives; one that is refused brings nothing, the program tries again."""
        core = self._shell.core
        if core is None or not core.state.recovered:
            return
        if call.type != "SUBSCRIBE" and not core.state.registering:
            return
        try:
            custom.refuse(core.state, call)
        except Rejected:
            return
        if call.subscribe is None:
            self._feed(ExecutorCalled(call))
            return
        self._numbers += 1
        stream = f"x{self._numbers}"
        self._streams[stream] = program
        program.connected(stream)
        ids = (call.framework_id.value, call.executor_id.value)
        self._feed(
            ExecutorSubscribed(
                stream=stream, framework_id=ids[0], executor_id=ids[1], subscribe=call.subscribe
            )
        )

    def send(self, effect: SendToExecutor) -> None:
        """Have an event arrive at whom the stream leads to."""
        program = self._streams.get(effect.stream)
        if program is None:
            return
        for fn in self.on_send:
            fn(self._shell, program, effect.event)
        event = effect.event
        if self._shell.ground.rng.random() < _CODED_SHARE:
            event = json.decode(json.encode(event), wire.Event)
        program.arrives(lambda: program.heard(effect.stream, event))

    def close(self, effect: CloseExecutorStream) -> None:
        """End a stream after what was sent; the core is not told."""
        program = self._streams.pop(effect.stream, None)
        if program is not None:
            program.arrives(lambda: program.disconnected(effect.stream))

    def left(self, stream: str) -> None:
        """The program's end of a stream is gone."""
        if self._streams.pop(stream, None) is not None:
            self._shell.arrives(lambda: self._feed(ExecutorStreamClosed(stream)))()


class Program:
    """One life of an executor."""

    def __init__(self, shell: AgentShell, desk: Desk, run: Run) -> None:
        self._shell = shell
        self._desk = desk
        self.run = run
        ground = shell.ground
        self._loop, self._faults = ground.loop, ground.faults
        self._rng = random.Random(ground.rng.random())
        env = run.spec.env
        self._executor_id = ExecutorID(env["MESOS_EXECUTOR_ID"])
        self._framework_id = FrameworkID(env["MESOS_FRAMEWORK_ID"])
        self._stream: str | None = None
        self.is_subscribed = False
        #: Whether it ever was, and when it was asked to end.
        self.was_subscribed = False
        self.asked_to_end = False
        self._is_leaving = False
        self._tasks: dict[str, Run] = {}
        self._infos: dict[str, TaskInfo] = {}
        #: Not acknowledged yet, by uuid in the order they were made.
        self._updates: dict[bytes, TaskStatus] = {}
        #: Ends that the agent has acknowledged, by task id.
        self.acknowledged: dict[str, TaskState] = {}
        self._hangs_until = 0.0
        #: When the last event arrives here, and the last call at the agent.
        self._free_at = self._posted_at = 0.0
        #: Updates that the last subscription brought.
        self._brought: frozenset[bytes] = frozenset()
        run.on_end = lambda _run: self._died()
        if not run.command.endswith("mute"):
            self._later(self._rng.uniform(*START_S), self._subscribe)

    @property
    def name(self) -> str:
        return f"{self._shell.name} {self._executor_id.value}"

    # -- time -----------------------------------------------------------------------------------

    def arrives(self, fn: Callable[[], None]) -> None:
        """Have `fn` happen here, after all that is on its way."""
        when = self._loop.now + self._rng.uniform(*DELAY_S)
        self._free_at = max(self._free_at, when)
        self._loop.at(self._free_at, lambda: self._now(fn))

    def _later(self, delay_s: float, fn: Callable[[], None]) -> None:
        self._loop.later(delay_s, lambda: self._now(fn))

    def _now(self, fn: Callable[[], None]) -> None:
        """Do it if the program lives, after a hang."""
        if not self.run.is_alive:
            return
        if self._loop.now < self._hangs_until:
            self._loop.at(self._hangs_until, lambda: self._now(fn))
        else:
            fn()

    def _falters(self) -> bool:
        """Whether it dies here; it may stop for a while, too."""
        if self._faults.roll(Kind.EXECUTOR_DIES, self.name):
            self._shell.processes.exits(self.run, FAILED if self._rng.random() < 0.5 else 9)
            return True
        if self._faults.roll(Kind.EXECUTOR_HANGS, self.name):
            self._hangs_until = self._loop.now + self._rng.uniform(*HANG_S)
        return False

    def _died(self) -> None:
        if self._stream is not None:
            self._desk.left(self._stream)

    # -- the agent ------------------------------------------------------------------------------

    def _call(self, **body: object) -> wire.Call:
        ids = {"executor_id": self._executor_id, "framework_id": self._framework_id}
        return wire.Call(**ids, **body)  # type: ignore[arg-type] # by their names

    def _post(self, call: wire.Call) -> None:
        """On its way; an agent that is not there answers nobody."""

        def arrive() -> None:
            if self._shell.is_alive:
                self._shell.arrives(lambda: self._desk.take(self, call))()

        when = self._loop.now + self._rng.uniform(*DELAY_S)
        self._posted_at = max(self._posted_at, when)
        self._loop.at(self._posted_at, arrive)

    def _subscribe(self) -> None:
        """Until it is subscribed, again and again."""
        if self.is_subscribed:
            return
        if self._stream is None:
            waiting = tuple(wire.Update(status=status) for status in self._updates.values())
            self._brought = frozenset(self._updates)
            body = wire.Subscribe(
                unacknowledged_tasks=tuple(self._infos.values()), unacknowledged_updates=waiting
            )
            self._post(self._call(type="SUBSCRIBE", subscribe=body))
        self._later(RETRY_S, self._subscribe)

    def connected(self, stream: str) -> None:
        """A subscription was let in; an older one counts no more."""
        self._stream = stream
        if not self.run.is_alive:
            self._desk.left(stream)

    def disconnected(self, stream: str | None = None) -> None:
        """The agent is gone, or has closed `stream`."""
        if not self.run.is_alive or (stream is not None and stream != self._stream):
            return
        self._stream = None
        self.is_subscribed = False
        self._later(self._rng.uniform(0.0, 2 * RETRY_S), self._subscribe)

    def heard(self, stream: str, event: wire.Event) -> None:
        """An event of the agent."""
        if stream != self._stream or self._falters():
            return
        if event.type == "SUBSCRIBED":
            self.is_subscribed = self.was_subscribed = True
            for uuid, status in list(self._updates.items()):
                if uuid not in self._brought:  # made since it asked
                    self._send(status)
        elif event.launch is not None:
            self._launch(event.launch.task)
        elif event.kill is not None:
            run = self._tasks.get(event.kill.task_id.value)
            if run is not None:
                self._shell.processes.end(run, 3.0)
        elif event.acknowledged is not None:
            self._acknowledged(event.acknowledged)
        elif event.type == "SHUTDOWN":
            self._leave()

    def _acknowledged(self, heard: wire.Acknowledged) -> None:
        self._infos.pop(heard.task_id.value, None)
        status = self._updates.pop(heard.uuid, None)
        if status is not None and status.state in ENDS:
            self.acknowledged[status.task_id.value] = status.state

    def _leave(self) -> None:
        self.asked_to_end = True
        if self._is_leaving or self.run.command.endswith("stubborn"):
            return
        self._is_leaving = True
        for run in self._tasks.values():
            self._shell.processes.end(run, 0.0)
        status = 0 if self._rng.random() < 0.8 else TERMINATED
        self._later(
            self._rng.uniform(*LEAVING_S), lambda: self._shell.processes.exits(self.run, status)
        )

    # -- tasks ----------------------------------------------------------------------------------

    def _launch(self, task: TaskInfo) -> None:
        task_id = task.task_id.value
        if task_id in self._tasks:
            raise Broken(f"{self.name} is told to launch {task_id} again")
        assert task.data is not None
        self._infos[task_id] = task
        run = self._shell.processes.start_within(self.run, task_id, task.data.decode())
        self._tasks[task_id] = run
        run.on_end = self._ended
        self._tell(task_id, "TASK_RUNNING")

    def _ended(self, run: Run) -> None:
        """A task is over; the program sees it as soon as it does not hang."""
        assert run.ended is not None
        state: TaskState = "TASK_KILLED"
        if not run.is_killed:
            state = "TASK_FINISHED" if run.ended.status == 0 else "TASK_FAILED"
        self._now(lambda: self._tell(run.task_id, state))

    def _tell(self, task_id: str, state: TaskState) -> None:
        status = TaskStatus(
            task_id=TaskID(task_id),
            state=state,
            source="SOURCE_EXECUTOR",
            executor_id=self._executor_id,
            uuid=self._rng.randbytes(16),
        )
        assert status.uuid is not None
        self._updates[status.uuid] = status
        if self.is_subscribed and not self._falters():
            self._send(status)

    def _send(self, status: TaskStatus) -> None:
        call = self._call(type="UPDATE", update=wire.Update(status=status))
        self._post(call)
        if self._faults.roll(Kind.DUPLICATE_CALL, self.name):
            self._post(call)


#: States that end a task, as an executor tells them.
ENDS = frozenset({"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"})
