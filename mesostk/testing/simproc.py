"""Simulated tasks with their supervisors: what runs on a host, whoever watches it.

A task's command says how it behaves: `run` for ever, `exit 0`, `exit 1` after a while, `hang` on
TERM until it is killed, `serve 3`: answer probes some time after it began, unless it is sick. Runs
outlive the agent; what became of them is found in the runtime directory by the next one.

A custom executor is a run, too; its tasks are runs within it, which the agent does not see: they
end with it at the latest, and only it tells of their ends (`simexecutor`).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from mesostk.agent.events import Exited, RunSeen, RunSpec
from mesostk.testing.faults import Faults, Kind
from mesostk.testing.simloop import Loop

#: How long a task that ends by itself lives, and one takes to die of TERM; seconds.
LIFE_S = (2.0, 30.0)
DYING_S = (0.0, 0.5)
#: After how long a service answers its health checks, and after how long more it is ready; seconds.
WARM_S = (0.2, 4.0)
READY_S = (0.0, 5.0)
#: Wait statuses: exit code 1, SIGTERM, SIGKILL.
FAILED, TERMINATED, KILLED = 1 << 8, 15, 9


class Run:
    """One supervisor with its task."""

    def __init__(self, spec: RunSpec, task_id: str, started_at: float, rng: random.Random) -> None:
        self.spec = spec
        self.task_id = task_id
        self.started_at = started_at
        #: From when on a service answers, says that it is ready, and is well again.
        self.warm_at = started_at + rng.uniform(*WARM_S)
        self.ready_at = self.warm_at + rng.uniform(*READY_S)
        self.well_at = started_at
        self.is_alive = True
        self.is_killed = False
        self.kill_at: float | None = None
        self.ended: Exited | None = None
        #: Of an executor's task: the executor's run, and who is told of the task's end.
        self.within: Run | None = None
        self.on_end: Callable[[Run], None] = lambda _run: None

    @property
    def command(self) -> str:
        return self.spec.argv[-1]

    def serves(self, now: float, *, ready: bool = False) -> bool:
        """Whether a probe of its health, or of its readiness, gets a good answer."""
        if not self.is_alive or not self.command.startswith("serve"):
            return False
        return now >= max(self.ready_at if ready else self.warm_at, self.well_at)


class Processes:
    """All runs of a host, by container id; `on_exit` is told of each end."""

    def __init__(self, loop: Loop, rng: random.Random, faults: Faults) -> None:
        self._loop = loop
        self._rng = rng
        self._faults = faults
        self.runs: dict[str, Run] = {}
        #: Tasks of executors.
        self.inner: list[Run] = []
        self.on_start: Callable[[Run], None] = lambda _run: None
        self.on_exit: Callable[[Exited], None] = lambda _exited: None

    def start(self, spec: RunSpec, task_id: str) -> Run:
        """Exec a task."""
        run = self.runs[spec.container_id] = Run(spec, task_id, self._loop.now, self._rng)
        self._begin(run)
        return run

    def start_within(self, executor: Run, task_id: str, command: str) -> Run:
        """A task of an executor begins."""
        spec = msgspec.structs.replace(executor.spec, argv=(command,), volumes=())
        run = Run(spec, task_id, self._loop.now, self._rng)
        run.within = executor
        self.inner = [other for other in self.inner if other.is_alive]
        self.inner.append(run)
        self._begin(run)
        return run

    def _begin(self, run: Run) -> None:
        self.on_start(run)
        if run.command.startswith("exit"):
            life = self._rng.uniform(*LIFE_S)
            status = 0 if run.command == "exit 0" else FAILED
            self._loop.later(life, lambda: self._end(run, status))
        elif self._faults.roll(Kind.TASK_DIES, run.task_id):
            self._loop.later(self._rng.uniform(*LIFE_S), lambda: self._end(run, FAILED))

    def kill(self, container_id: str, grace_s: float) -> None:
        """TERM now, KILL after the grace; told again, it may only come sooner."""
        run = self.runs.get(container_id)
        if run is not None:
            self.end(run, grace_s)

    def end(self, run: Run, grace_s: float) -> None:
        """The same, for one that is at hand."""
        if not run.is_alive:
            return
        hangs = run.command == "hang"
        delay = grace_s if hangs else min(grace_s, self._rng.uniform(*DYING_S))
        kill_at = self._loop.now + delay
        run.is_killed = True
        if run.kill_at is None or kill_at < run.kill_at:
            run.kill_at = kill_at
            status = KILLED if hangs else TERMINATED
            self._loop.at(kill_at, lambda: self._end(run, status))

    def _end(self, run: Run, status: int) -> None:
        if not run.is_alive:
            return
        run.is_alive = False
        run.ended = Exited(run.spec.container_id, status, killed=run.is_killed)
        if run.within is not None:
            run.on_end(run)
            return
        self._end_within(run)
        run.on_end(run)
        self.on_exit(run.ended)

    def exits(self, run: Run, status: int) -> None:
        """A run ends by itself now."""
        self._end(run, status)

    def _end_within(self, executor: Run) -> None:
        """What an executor has started ends with it, and nobody is left to tell."""
        for run in self.inner:
            if run.within is executor and run.is_alive:
                run.is_alive = False
                run.is_killed = True
                run.ended = Exited(run.spec.container_id, None)

    def forget(self, container_id: str) -> None:
        """The records of a run that is over may go."""
        run = self.runs.get(container_id)
        assert run is None or not run.is_alive, f"the records of {container_id}, which runs, go"
        self.runs.pop(container_id, None)

    def seen(self) -> dict[str, RunSeen]:
        """What a new agent finds."""
        return {
            container_id: RunSeen(alive=run.is_alive, ended=run.ended)
            for container_id, run in self.runs.items()
        }

    def cut_power(self) -> None:
        """Nothing is left, not even the records."""
        for run in (*self.runs.values(), *self.inner):
            run.is_alive = False
        self.runs.clear()
        self.inner.clear()

    def alive(self) -> list[Run]:
        """All that runs: tasks, executors and their tasks."""
        return [run for run in (*self.runs.values(), *self.inner) if run.is_alive]
