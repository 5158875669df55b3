"""What must be true of deployments in a simulated world, by books that are not Marathon's own.

::

    what a Marathon was told (updates, probes) ─▶ which instances are good, as far as it can know
    what it decides (saves, calls)             ─▶ is that within the bounds, and in order?

Good: running by the last update, every health check's last probe answered, and of the wanted
version also seen ready. It all begins anew with each life, as Marathon's own knowledge does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mesostk.base.core import Event, Put, Save
from mesostk.marathon import repository
from mesostk.marathon.events import ProbeResult
from mesostk.marathon.instances import Condition, Goal, Instance
from mesostk.marathon.state import State
from mesostk.testing.simhost import Broken
from mesostk.testing.simmarathon import MarathonShell
from mesostk.wire import scheduler
from mesostk.wire.marathon import LEADER_PROBED, AppDefinition

if TYPE_CHECKING:
    from mesostk.testing.world import World

#: Rounding of 10 x (1 + 0.1) and its like.
_EPSILON = 1e-6
#: A readiness check's results carry this index.
_READINESS = -1
_BEFORE_RUNNING = frozenset({"TASK_STAGING", "TASK_STARTING"})
#: Drain seconds of an app with a balancer's label that says nothing else (`--kill_drain_seconds`).
_DRAIN_S = 2.0


class Books(msgspec.Struct):
    """What one life of a Marathon was told, and did."""

    #: Last state of each task, by its id.
    heard: dict[str, str] = msgspec.field(default_factory=dict)
    #: Last result of each health check by instance, and those seen ready.
    checks: dict[str, dict[int, bool]] = msgspec.field(default_factory=dict)
    ready: set[str] = msgspec.field(default_factory=set)
    #: Last word of the agents' own checks by task id.
    well: dict[str, bool] = msgspec.field(default_factory=dict)
    #: Step that each deployment is at.
    positions: dict[str, int] = msgspec.field(default_factory=dict)


class Referee:
    """Watches every Marathon of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._books: dict[tuple[str, int], Books] = {}
        #: Task ids that were ever launched, and when the drain of each that goes is over.
        self._made: set[str] = set()
        self._condemned: set[str] = set()
        self._no_kill_before: dict[str, float] = {}
        for marathon in world.marathons:
            marathon.on_heard.append(self._heard)
            marathon.on_probe.append(self._probed)
            marathon.on_handled.append(self._handled)
            marathon.on_save.append(self._saves)
            marathon.on_call.append(self._calls)

    def _of(self, marathon: MarathonShell) -> Books:
        return self._books.setdefault((marathon.name, marathon.life), Books())

    # -- what it was told -----------------------------------------------------------------------

    def _heard(self, marathon: MarathonShell, event: scheduler.Event) -> None:
        if event.update is None or marathon.core is None:
            return
        books, status, state = self._of(marathon), event.update.status, marathon.core.state
        task_id = status.task_id.value
        id = state.by_task.get(task_id)
        instance = None if id is None else state.instances.get(id)
        runs = instance is not None and instance.is_running  # or a leader before this one heard it
        if status.state in _BEFORE_RUNNING and (runs or books.heard.get(task_id) == "TASK_RUNNING"):
            return  # told late, or twice
        books.heard[task_id] = status.state
        if status.healthy is not None:
            books.well[task_id] = status.healthy
        if status.state != "TASK_RUNNING" and instance is not None:
            books.checks.pop(instance.id, None)

    def _probed(self, marathon: MarathonShell, result: ProbeResult) -> None:
        books = self._of(marathon)
        if result.index != _READINESS:
            found = books.checks.setdefault(result.instance_id, {})
            found[result.index] = result.outcome.alive
        elif result.outcome.alive:
            books.ready.add(result.instance_id)

    def _is_good(self, marathon: MarathonShell, instance: Instance) -> bool:
        """Serves, as far as this Marathon can know."""
        assert marathon.core is not None
        books, state = self._of(marathon), marathon.core.state
        if instance.tasks:
            return instance.is_running
        known = books.heard.get(instance.task_id)
        if known != "TASK_RUNNING" and (known is not None or not instance.is_running):
            return False
        app = state.app_of(instance)
        kinds = () if app is None else app.health_checks
        wanted = sum(check.protocol in LEADER_PROBED for check in kinds)
        checks = books.checks.get(instance.id, {})
        if wanted < len(kinds) and not books.well.get(instance.task_id, instance.agent_health):
            return False
        return len(checks) == wanted and all(checks.values())

    def _is_up(self, marathon: MarathonShell, instance: Instance) -> bool:
        """Good, and seen ready."""
        assert marathon.core is not None
        app = marathon.core.state.app_of(instance)
        waits = app is not None and bool(app.readiness_checks)
        is_ready = not waits or instance.id in self._of(marathon).ready
        return is_ready and self._is_good(marathon, instance)

    # -- what it decides ------------------------------------------------------------------------

    def _saves(self, marathon: MarathonShell, save: Save) -> None:
        assert marathon.core is not None
        state = marathon.core.state
        made: set[str] = set()
        gone: list[Instance] = []
        for op in save.ops:
            if not isinstance(op, Put) or not op.path.startswith("instances/"):
                continue
            instance = repository.read(op.data, Instance)
            if instance.task_id not in self._made:
                self._made.add(instance.task_id)
                made.add(instance.app_id)
            if instance.goal is Goal.DECOMMISSIONED and instance.task_id not in self._condemned:
                self._condemned.add(instance.task_id)
                gone.append(instance)
        for app_id in sorted(made):
            self._check_capacity(marathon, state, app_id)
        for instance in gone:
            self._check_drained(marathon, state, instance)
        for app_id in sorted({instance.app_id for instance in gone}):
            self._check_health(marathon, state, [i for i in gone if i.app_id == app_id])

    def _check_capacity(self, marathon: MarathonShell, state: State, app_id: str) -> None:
        """An instance more is within maximumOverCapacity."""
        live = [
            i for i in state.of_app(app_id) if i.condition is not Condition.UNREACHABLE_INACTIVE
        ]
        wanted = [_most(app) for app in _sides(state, app_id)]
        app = state.apps.get(app_id)
        if app_id not in state.locks and app is not None and not any(i.is_leaving for i in live):
            wanted = [app.instances]
        if len(live) > max(wanted, default=0):
            raise Broken(f"{marathon.name} has {len(live)} of {app_id}, at most {wanted} may be")

    def _check_health(self, marathon: MarathonShell, state: State, gone: list[Instance]) -> None:
        """What an upgrade or an evacuation takes away leaves minimumHealthCapacity."""
        app = state.apps.get(gone[0].app_id)
        if app is None or app.instances == 0 or not _has_turn(state, app.id):
            return
        ours = [i for i in gone if i.kill_reason == "no longer wanted"]
        old = [i for i in ours if _is_old(state, i, app) and self._is_good(marathon, i)]
        if not old:
            return
        left = [
            i
            for i in state.of_app(app.id)
            if i.goal is Goal.RUNNING
            and (self._is_good if _is_old(state, i, app) else self._is_up)(marathon, i)
        ]
        least = _least(app)
        if _is_resident(app) and least >= _floor(app):
            least -= 1  # its successor needs the same volume
        if len(left) < least:
            names = ", ".join(i.task_id for i in old)
            raise Broken(f"{marathon.name} kills {names}: {len(left)} good are left, not {least}")

    def _check_drained(self, marathon: MarathonShell, state: State, instance: Instance) -> None:
        """What serves is shown as Killing for the time that balancers need."""
        app = state.app_of(instance)
        drain_s = 0.0 if app is None else _drain_s(app)
        if drain_s == 0.0:
            return
        if self._of(marathon).heard.get(instance.task_id) == "TASK_KILLING":
            return  # its agent ends it already
        if instance.condition is Condition.KILLING:
            self._no_kill_before[instance.task_id] = self._world.loop.now + drain_s
        elif instance.id in state.instances and self._is_good(marathon, instance):
            raise Broken(f"{marathon.name} does not drain {instance.task_id}")

    def _calls(self, marathon: MarathonShell, call: scheduler.Call) -> None:
        if call.kill is None or marathon.core is None:
            return
        state = marathon.core.state
        instance = state.instances.get(state.by_task.get(call.kill.task_id.value, ""))  # type: ignore[call-overload] # a plain str
        if instance is None or instance.condition is not Condition.KILLING:
            return  # a former leader's decision to drain it was never saved
        due = self._no_kill_before.get(call.kill.task_id.value, -math.inf)
        if self._world.loop.now < due - _EPSILON:
            early = due - self._world.loop.now
            raise Broken(f"{marathon.name} kills {call.kill.task_id.value} {early:.3f} s too early")

    # -- steps ----------------------------------------------------------------------------------

    def _handled(self, marathon: MarathonShell, _event: Event) -> None:
        """No deployment goes on before all that its step is about is up."""
        if marathon.core is None or not marathon.core.state.deployments:
            return
        state, books = marathon.core.state, self._of(marathon)
        for id, position in state.position.items():
            before = books.positions.get(id, 0)
            books.positions[id] = position
            for step in state.deployments[id].steps[before:position]:
                for action in step.actions:
                    if action.app is not None:
                        self._check_done(marathon, state, action.app, action.action)

    def _check_done(self, marathon: MarathonShell, state: State, app_id: str, action: str) -> None:
        app = state.apps.get(app_id)
        live = [i for i in state.of_app(app_id) if i.goal is Goal.RUNNING]
        if action == "StartApplication":
            return
        if action == "StopApplication" or app is None:
            if state.of_app(app_id):
                raise Broken(f"{marathon.name} goes on before {app_id} has ended")
            return
        current = [i for i in live if not _is_old(state, i, app)]
        up = [i for i in current if self._is_up(marathon, i)]
        if action == "RestartApplication" and (len(up) < app.instances or len(live) > len(current)):
            raise Broken(f"{marathon.name} goes on with {len(up)} of {app_id} up")
        if action == "ScaleApplication" and app.instances and len(live) < app.instances:
            raise Broken(f"{marathon.name} goes on with {len(live)} of {app_id}")


# -- bounds -------------------------------------------------------------------------------------


def _least(app: AppDefinition) -> int:
    return math.ceil(app.instances * app.upgrade_strategy.minimum_health_capacity - _EPSILON)


def _floor(app: AppDefinition) -> int:
    over = app.upgrade_strategy.maximum_over_capacity
    return math.floor(app.instances * (1 + over) + _EPSILON)


def _most(app: AppDefinition) -> int:
    """Instances at once; one more where an upgrade could not move otherwise (spec §3.2)."""
    most = _floor(app)
    return most + 1 if _least(app) >= most and not _is_resident(app) else most


def _is_resident(app: AppDefinition) -> bool:
    volumes = () if app.container is None else app.container.volumes
    return any(volume.persistent is not None for volume in volumes)


def _drain_s(app: AppDefinition) -> float:
    given = app.labels.get("MARATHON_DRAIN_SECONDS")
    if given is not None:
        return float(given)
    return _DRAIN_S if "HAPROXY_GROUP" in app.labels else 0.0


def _sides(state: State, app_id: str) -> Sequence[AppDefinition]:
    """What the app is and, while it is changed, was."""
    found = [state.apps[app_id]] if app_id in state.apps else []
    lock = state.locks.get(app_id)
    before = None if lock is None else state.deployments[lock].before.get(app_id)
    if before is not None:
        found.append(state.versions[app_id][before])
    return found


def _has_turn(state: State, app_id: str) -> bool:
    """Whether the deployment that holds an app, if any, has come to it."""
    lock = state.locks.get(app_id)
    if lock is None:
        return True
    position = state.position[lock]
    return any(index <= position for index, _action in state.actions[lock].get(app_id, ()))


def _is_old(state: State, instance: Instance, app: AppDefinition) -> bool:
    """Launched by a definition that runs something else, or about to leave its agent."""
    was = state.app_of(instance)
    return instance.is_leaving or was is None or was.cmd != app.cmd
