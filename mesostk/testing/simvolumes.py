"""What must be true of persistent volumes in a simulated world.

A volume that a task has used stays until its app may be gone, whatever crashes; nothing starts
without the volumes it was promised; and no two tasks have one at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesostk.agent.events import Launch
from mesostk.marathon import paths
from mesostk.testing.simagent import AgentShell
from mesostk.testing.simhost import Broken
from mesostk.testing.simproc import Run
from mesostk.testing.simshapes import NOTHING

if TYPE_CHECKING:
    from mesostk.testing.world import World

#: Where the simulated agents have their work_dir.
_WORK_DIR = "/w/"


class Warden:
    """Watches the volumes on every agent."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: Volumes that a task of an app has had, with the virtual time of the last start.
        self._used: dict[tuple[str, str], float] = {}
        for agent in world.agents:
            agent.on_effect.append(self._acts)
            agent.disk.on_remove.append(lambda path, agent=agent: self._removed(agent, path))  # type: ignore[misc] # bound

    def _acts(self, agent: AgentShell, effect: Any) -> None:
        if not isinstance(effect, Launch):
            return
        mine = {volume.source.removeprefix(_WORK_DIR) for volume in effect.spec.volumes}
        for path in sorted(mine):
            if path not in agent.disk.volumes:
                raise Broken(f"{agent.name} starts a task without its volume {path}")
        for run in agent.processes.alive():
            shared = mine & {volume.source.removeprefix(_WORK_DIR) for volume in run.spec.volumes}
            if shared:
                raise Broken(f"{agent.name} gives {sorted(shared)} away, which {run.task_id} has")

    def started(self, agent: AgentShell, run: Run) -> None:
        """A task runs, and writes into its volumes."""
        for volume in run.spec.volumes:
            path = volume.source.removeprefix(_WORK_DIR)
            self._used[agent.name, path] = self._world.loop.now

    def _removed(self, agent: AgentShell, path: str) -> None:
        used_at = self._used.pop((agent.name, path), None)
        persistence_id = path.rpartition("/")[2]
        if used_at is None or "#" not in persistence_id:
            return
        app_id = paths.unsafe(persistence_id.partition("#")[0])
        user = self._world.user.of_app(app_id)
        # A task that was on its way may start after its app was deleted.
        if agent.name in self._world.oracle.registrar.given_up:
            return  # with the agent its tasks' data was given up
        is_wanted = user is None or (user.gone_at < used_at and NOTHING not in user.possible)
        if is_wanted:
            raise Broken(f"{agent.name} destroys {path}, though nobody asked {app_id} to be gone")
        for run in agent.processes.alive():
            if any(volume.source.endswith(path) for volume in run.spec.volumes):
                raise Broken(f"{agent.name} destroys {path}, which {run.task_id} has")
