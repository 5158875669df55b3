"""Checks that agents run in a simulated world (as `agent.probing`), and what must be true of them.

A check finds what its task is like: a service answers, or it does not. Who fails too often in a row
is ended, nobody else is, and nobody in its grace period; at rest every task that has a check is
still checked, and its framework knows the last result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mesostk.agent.events import Check, Checked, KillRun, Probe, Probed
from mesostk.base.core import Effect, Event
from mesostk.marathon.core import Marathon
from mesostk.master.core import Master
from mesostk.testing.faults import Kind
from mesostk.testing.simhost import Broken
from mesostk.testing.simproc import Run
from mesostk.wire.mesos import HealthCheck

if TYPE_CHECKING:
    from mesostk.testing.simagent import AgentShell

#: A check that succeeds takes so long; seconds.
ANSWER_S = (0.001, 0.3)
#: How long after its last failure a task may live, in two looks; seconds.
LOOK_S = 5.0


class Results(msgspec.Struct):
    """What came of the health checks of one task in one life of its agent."""

    life: int
    has_succeeded: bool = False
    failures: int = 0


class Checkers:
    """All checks of an agent, through all its lives."""

    def __init__(self, shell: AgentShell, feed: Callable[[Event], None]) -> None:
        self._shell = shell
        self._feed = feed
        self._results: dict[str, Results] = {}
        self._condemned: set[str] = set()
        #: When each task was last checked, by container and whether for its health.
        self.asked_at: dict[tuple[str, bool], float] = {}

    def probe(self, effect: Probe) -> None:
        """A health check."""

        def told(succeeded: bool) -> None:
            self._judge(effect.container_id, effect.check, succeeded=succeeded)
            error = None if succeeded else "Command returned exit status: 1"
            self._feed(Probed(effect.container_id, effect.number, error))

        self._run(effect.container_id, effect.check, told, is_health=True)

    def check(self, effect: Check) -> None:
        """A general check."""

        def told(succeeded: bool) -> None:
            code = 0 if succeeded else 1
            self._feed(Checked(effect.container_id, effect.number, code))

        self._run(effect.container_id, effect.check, told, is_health=False)

    def _run(
        self, id: str, check: HealthCheck, told: Callable[[bool], None], *, is_health: bool
    ) -> None:
        ground = self._shell.ground
        self.asked_at[id, is_health] = ground.loop.now
        run = self._shell.processes.runs.get(id)
        fails = ground.faults.roll(Kind.PROBE_FAILS, f"{self._shell.name} {id}")
        succeeds = not fails and run is not None and run.serves(ground.loop.now)
        took_s = ground.rng.uniform(*ANSWER_S) if succeeds else check.timeout_seconds
        self._shell.later(took_s, lambda: told(succeeds))

    # -- what must be true ----------------------------------------------------------------------

    def _judge(self, id: str, check: HealthCheck, *, succeeded: bool) -> None:
        shell, run = self._shell, self._shell.processes.runs.get(id)
        known = self._results.get(id)
        if known is None or known.life != shell.life:
            known = self._results[id] = Results(shell.life)
        if succeeded:
            known.has_succeeded, known.failures = True, 0
            return
        known.failures += 1
        if run is None or known.failures < check.consecutive_failures:
            return
        checked_s = shell.ground.loop.now - max(run.started_at, shell.born_at)
        grown_s = checked_s - check.consecutive_failures * (
            check.interval_seconds + check.timeout_seconds
        )
        if known.has_succeeded or grown_s > check.grace_period_seconds:
            self._must_end(run)

    def _must_end(self, run: Run) -> None:
        life, looks = self._shell.life, 0

        def look() -> None:
            nonlocal looks
            if not run.is_alive or run.is_killed or self._shell.life != life:
                return
            looks += not self._shell.is_paused
            if looks > 1:
                raise Broken(f"{self._shell.name} lets {run.task_id} be, which is not healthy")
            self._shell.ground.loop.later(LOOK_S, look)

        self._shell.ground.loop.later(LOOK_S, look)

    def killing(self, effect: KillRun) -> None:
        """Who is killed for its health failed often enough, and not when it was young."""
        core = self._shell.core
        held = None if core is None else core.state.runs.get(effect.container_id)
        if held is None or held.is_executor or effect.container_id in self._condemned:
            return
        entry, run = held.only_task, self._shell.processes.runs.get(effect.container_id)
        check = entry.info.health_check
        if entry.kill is None or entry.kill.cause != "HEALTH" or check is None or run is None:
            return
        self._condemned.add(effect.container_id)
        known = self._results.get(effect.container_id, Results(0))
        if known.failures < check.consecutive_failures:
            raise Broken(f"{run.task_id} is ended for its health after {known.failures} failures")
        age_s = self._shell.ground.loop.now - run.started_at
        # The order is on disk first.
        if not known.has_succeeded and age_s <= check.grace_period_seconds:
            raise Broken(f"{run.task_id} is ended for its health in its grace period")

    def why_not_checked(self, run: Run) -> str | None:
        """What is wrong with the checks of a task at rest."""
        core = self._shell.core
        assert core is not None
        held = core.state.runs.get(run.spec.container_id)
        if held is None or held.is_executor:
            return None
        info, now = held.only_task.info, self._shell.ground.loop.now
        for is_health, check in ((True, info.health_check), (False, info.check)):
            if check is None:
                continue
            most_s = check.delay_seconds + check.interval_seconds + check.timeout_seconds + LOOK_S
            begun = max(run.started_at, self._shell.born_at)
            last = self.asked_at.get((run.spec.container_id, is_health), begun)
            if now - max(begun, last) > most_s:
                return f"{run.task_id} is not checked any more"
        return None


def performers(checkers: Checkers) -> dict[type[Effect], tuple[str, Callable[[Effect], None]]]:
    """What an agent's shell does about checks."""
    return {Probe: ("", checkers.probe), Check: ("", checkers.check)}  # type: ignore[dict-item] # by their types


def why_not_told(master: Master, marathon: Marathon) -> str | None:
    """What master and Marathon do not know yet of the tasks that agents check: all is well."""
    for instance in marathon.state.instances.values():
        app = marathon.state.app_of(instance)
        if app is None or app.check is None:
            continue
        if marathon.state.health_of(instance) is not True:
            return f"{instance.id} is not known to be healthy"
        told = None if instance.check is None else instance.check.command
        if told is None or told.exit_code != 0:
            return f"Marathon has {told} of the check of {instance.id}"
    for agent in master.agents.values():
        for task in agent.tasks.values():
            last = task.wire.statuses[-1].check_status if task.wire.statuses else None
            if last is not None and (last.command is None or last.command.exit_code != 0):
                return f"the master has {last} of the check of {task.task_id}"
    return None
