"""What must be true of custom executors in a simulated world.

No executor is told to run a task that is not on disk, or twice (`simexecutor`), and none hears that
an update is on disk before it is; one that never subscribes, or does not end when it is asked to,
is ended in time; what an agent took from an executor as the end of a task is told to its framework.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from mesostk.agent.events import SendUp
from mesostk.testing.simagent import EXECUTOR_REGISTRATION_S, AgentShell
from mesostk.testing.simexecutor import Program
from mesostk.testing.simhost import Broken
from mesostk.wire import executor as wire
from mesostk.wire import link

if TYPE_CHECKING:
    from mesostk.testing.world import World

#: How often an executor that should end is looked at, and how many looks in one life of its agent,
#: not paused, it may outlast its time; seconds.
LOOK_S = 5.0
SLACK_LOOKS = 2


class Steward:
    """Watches the executors on every agent."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: Every program that was ever started, with its agent.
        self.programs: list[tuple[AgentShell, Program]] = []
        #: Updates that went up, and so were on disk: what was acknowledged to the end is deleted.
        self._went_up: set[bytes] = set()
        for agent in world.agents:
            agent.on_effect.append(self._acts)
            agent.desk.on_program.append(self._begins)
            agent.desk.on_send.append(self._told)

    def _begins(self, agent: AgentShell, program: Program) -> None:
        for other in agent.processes.alive():
            same = other.task_id == program.run.task_id and other.within is None
            if same and other is not program.run:
                raise Broken(f"{agent.name} starts {other.task_id} twice")
        self.programs.append((agent, program))
        looks = int(EXECUTOR_REGISTRATION_S / LOOK_S) + SLACK_LOOKS
        if program.run.command.endswith("mute"):
            self._ends_within(agent, program, looks, "does not subscribe")

    def _acts(self, _agent: AgentShell, effect: Any) -> None:
        if isinstance(effect, SendUp) and isinstance(effect.message, link.StatusUpdates):
            uuids = (update.status.uuid for update in effect.message.updates)
            self._went_up.update(uuid for uuid in uuids if uuid is not None)

    def _told(self, agent: AgentShell, program: Program, event: wire.Event) -> None:
        if event.launch is not None:
            name = event.launch.task.task_id.value
            path = f"/{name}/task.info"
            if not agent.was_full and not any(p.endswith(path) for p in agent.disk.files):
                raise Broken(f"{agent.name} has {name} launched unsaved")
        elif event.acknowledged is not None and not agent.was_full:
            uuid = event.acknowledged.uuid
            mark, files = base64.b64encode(uuid), agent.disk.files.items()
            is_saved = any(mark in data for path, data in files if path.endswith("updates"))
            is_given_up = self._world.oracle.registrar.is_given_up(agent)
            if not is_saved and uuid not in self._went_up and not is_given_up:
                task_id = event.acknowledged.task_id.value
                raise Broken(f"{agent.name} acknowledges an update of {task_id} unsaved")
        elif event.type == "SHUTDOWN":
            grace = int(agent.shutdown_grace_s / LOOK_S) + SLACK_LOOKS
            self._ends_within(agent, program, grace, "was asked to end", is_asked=True)

    def _ends_within(
        self,
        agent: AgentShell,
        program: Program,
        looks: int,
        why: str,
        *,
        is_asked: bool = False,
    ) -> None:
        """Broken if it lives on through so many looks at an agent that could end it.

        `is_asked`: the agent means it to end, which its next life knows nothing of.
        """
        seen, life = 0, agent.life

        def look() -> None:
            nonlocal seen, life
            if not program.run.is_alive:
                return
            watched = agent.is_alive and not agent.is_paused and agent.life == life
            seen = seen + 1 if watched else 0
            if seen > looks:
                raise Broken(f"{agent.name} lets {program.run.task_id} be, which {why}")
            if agent.life != life and (is_asked or program.asked_to_end):
                return  # the framework asks again
            life = agent.life
            self._world.loop.later(LOOK_S, look)

        self._world.loop.later(LOOK_S, look)

    def ends(self) -> dict[str, str]:
        """The end of each task that an agent took from its executor."""
        return {
            task_id: state
            for _agent, program in self.programs
            for task_id, state in program.acknowledged.items()
        }
