"""Jobs of the second framework that run through custom executors of its own.

An executor is started with the first job that goes to it and takes more of them; it is asked to end
now and then, and at rest as soon as it has none. Its id may be used again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from mesostk.resources.resources import Resources
from mesostk.wire import scheduler
from mesostk.wire.mesos import AgentID, CommandInfo, ExecutorID, ExecutorInfo, Offer, TaskInfo

#: What an executor is like, with weights.
_COMMANDS = {"executor": 8, "executor mute": 1, "executor stubborn": 2}
#: Executors of one framework on an agent, at most.
_PER_AGENT = 2
#: How many of the jobs go to one, and how many of them are shut down at a look, with their jobs.
_SHARE = 0.7
_SHUTDOWN_SHARE = 0.15
#: Thousandths of a cpu that must be offered for a job and its executor.
NEEDED = 1000


class Crews:
    """The executors of a framework; `send` makes a call."""

    def __init__(self, rng: random.Random, send: Callable[[scheduler.Call], None]) -> None:
        self._rng = rng
        self._send = send
        self._infos: dict[str, ExecutorInfo] = {}
        #: The agent of each executor that may run, and the executor of each job.
        self._agents: dict[str, AgentID] = {}
        self._of_job: dict[str, str] = {}

    def take(self, job: TaskInfo, offer: Offer) -> TaskInfo:
        """The job as one of an executor, or as it is."""
        free = Resources.of(offer.resources).unallocate().unreserved().quantities().get("cpus", 0)
        if free < NEEDED or self._rng.random() >= _SHARE:
            return job
        name = f"crew-{offer.hostname}-{self._rng.randrange(_PER_AGENT)}"
        info = self._infos.get(name)
        if info is None:
            info = self._infos[name] = ExecutorInfo(
                type="CUSTOM",
                executor_id=ExecutorID(name),
                command=CommandInfo(value=self._rng.choices(*_choices())[0]),
                resources=Resources.scalars(cpus=0.5, mem=16).to_wire(),
            )
        self._agents[name] = offer.agent_id
        self._of_job[job.task_id.value] = name
        assert job.command is not None
        assert job.command.value is not None
        return msgspec.structs.replace(
            job, command=None, executor=info, data=job.command.value.encode()
        )

    def look_after(self, open_jobs: set[str], *, is_resting: bool) -> None:
        """Shut down what has nothing to do any more at rest, and before that some at random."""
        busy = {self._of_job[job] for job in open_jobs if job in self._of_job}
        for name, agent_id in sorted(self._agents.items()):
            ends = name not in busy if is_resting else self._rng.random() < _SHUTDOWN_SHARE
            if ends:
                body = scheduler.Shutdown(executor_id=ExecutorID(name), agent_id=agent_id)
                self._send(scheduler.Call(type="SHUTDOWN", shutdown=body))


def _choices() -> tuple[list[str], list[int]]:
    return list(_COMMANDS), list(_COMMANDS.values())
