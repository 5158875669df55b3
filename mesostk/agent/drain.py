"""Draining: every task is ended gently, none is started, and it is remembered until done.

Source: spec §8.10 (DRAIN_AGENT).
"""

from __future__ import annotations

from mesostk.agent import custom, endings, executors, kills, layout
from mesostk.agent.state import Run, Settings, State, TaskEntry
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Delete, Effect, Put, note
from mesostk.wire.link import Drain
from mesostk.wire.mesos import DrainConfig


class DrainSaved(WaitBase, frozen=True):
    """The order to drain survives a restart."""


def drain(state: State, message: Drain) -> list[Effect]:
    """Refuse launches from here on; tasks are ended once the order is on disk."""
    if state.drain == message.config:
        return []
    state.drain = message.config
    path = f"{layout.agent_dir(state.own_id.value)}/drain.config"
    return [
        note("Draining", mark_gone=message.config.mark_gone),
        state.save(DrainSaved(), Put(path, layout.frame(message.config)), sync=True),
    ]


def drain_saved(state: State, now: float, error: str | None) -> list[Effect]:
    """End all tasks, also when the disk refused the order: the master repeats it if need be."""
    effects: list[Effect] = []
    if error is not None:
        effects.append(note("Unrecorded", level="ERROR", what="drain", error=error))
    if state.drain is None:
        return effects
    for run in list(state.runs.values()):
        for entry in list(run.tasks.values()):
            effects += _end(state, now, run, entry, state.drain)
    return effects + finish_if_empty(state, now)


def _end(state: State, now: float, run: Run, entry: TaskEntry, config: DrainConfig) -> list[Effect]:
    entry.gone = config.mark_gone
    return kills.end(state, now, run, entry, "DRAIN", grace(entry, config, state.settings))


def grace(entry: TaskEntry, config: DrainConfig, settings: Settings) -> float:
    """The task's own grace cut to the order's, or the order's if the task has none."""
    policy = entry.info.kill_policy
    own_s = executors.grace_of(entry.info, settings)
    if config.max_grace_period is None:
        return own_s
    most_s = max(0.0, config.max_grace_period.nanoseconds / 1e9)
    if policy is None or policy.grace_period is None:
        return most_s
    return min(own_s, most_s)


def finish_if_empty(state: State, now: float) -> list[Effect]:
    """Forget the order when nothing is left here and everything was acknowledged."""
    if state.drain is not None:
        idle = [run for run in state.runs.values() if run.is_custom and not run.tasks]
        effects = [effect for run in idle for effect in custom.shut_down(state, now, run)]
        if effects:
            return effects
    if state.drain is None or state.frameworks or state.streams or state.agent_id is None:
        return []
    state.drain = None
    path = f"{layout.agent_dir(state.own_id.value)}/drain.config"
    return [note("Drained"), state.save(endings.Recorded(), Delete(path), sync=True)]
