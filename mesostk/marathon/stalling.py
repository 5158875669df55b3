"""Deployments that make no progress are told of, once for each standstill.

A `deployment_info` event, which every client of the original knows, then carries `waiting`: what
the present step waits for, since when and why.
"""

from __future__ import annotations

from typing import Final

from mesostk.marathon import explaining
from mesostk.marathon.deploying import current_step
from mesostk.marathon.deploymentview import plan_view, shown_step
from mesostk.marathon.state import State, Turn
from mesostk.wire.marathon import DeploymentInfoEvent

#: Longer than any launch that goes well, short enough for a person who waits.
STALLED_S: Final = 10.0


def tell(state: State, turn: Turn) -> None:
    """Emit the events of the deployments in which something stalled since the last call."""
    stalled = set()
    for app_id, waiting in state.waiting.items():
        if not waiting.told and turn.now - waiting.since_s >= STALLED_S:
            waiting.told = True
            stalled.add(state.locks[app_id])
    for id in sorted(stalled):
        deployment = state.deployments[id]
        step = current_step(state, deployment)
        waits = explaining.of_step(state, step)
        for each in waits:
            turn.note("Waiting", "WARNING", id=id, app=each.app, reason="; ".join(each.reasons))
        turn.emit(
            DeploymentInfoEvent(
                timestamp=turn.at,
                plan=plan_view(deployment),
                current_step=shown_step(deployment, step),
                waiting=waits,
            )
        )
