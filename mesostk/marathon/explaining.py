"""Why an app is not as it is wanted, and since when, in words for people.

::

    what its action waits for ─┐
    role refused by the master │
    back-off                   ├─▶ reasons, the most telling last ─▶ /v2/apps/{id}/why, deployments
    offers declined, and why   │                                     with embed=deployment.waiting,
    failing health check       │                                     deployment_info once it stalls
    last failure of a task     ┘

Views only: nothing here changes the state.
"""

from __future__ import annotations

import math

from mesostk.marathon import subscribing
from mesostk.marathon.instances import Instance
from mesostk.marathon.queue import Reasons
from mesostk.marathon.state import State
from mesostk.marathon.timestamps import iso
from mesostk.marathon.versions import config_version
from mesostk.wire.marathon import Step, WaitingApp

#: Instances and agents that are named one by one; more would hide what matters.
NAMED = 3


def waiting(state: State, app_id: str) -> WaitingApp | None:
    """Why the app's action in a deployment is not done; None where nothing is waited for."""
    held = state.waiting.get(app_id)
    if held is None:
        return None
    since = iso(held.since_s + state.offset_s)
    return WaitingApp(app=app_id, since=since, reasons=(held.reason, *details(state, app_id)))


def of_step(state: State, step: Step) -> tuple[WaitingApp, ...]:
    """What the actions of a deployment's step wait for."""
    found = (waiting(state, action.app) for action in step.actions if action.app is not None)
    return tuple(each for each in found if each is not None)


def why(state: State, app_id: str) -> WaitingApp:
    """The same for any app, in a deployment or not; no reasons where all is as wanted."""
    found = waiting(state, app_id)
    if found is not None:
        return found
    reasons: list[str] = []
    since = state.now
    want = state.wants.get(app_id)
    if want is not None:
        waits = "instance waits" if want.count == 1 else "instances wait"
        reasons.append(f"{want.count} {waits} to be launched")
        since = want.since_at - state.offset_s
    details_ = details(state, app_id)
    return WaitingApp(app=app_id, since=iso(since + state.offset_s), reasons=(*reasons, *details_))


def details(state: State, app_id: str) -> list[str]:
    """What is known of the causes: back-off, declined offers, health, the last failure."""
    reasons = [*_launching(state, app_id), *_health(state, app_id)]
    failure = state.failures.get(app_id)
    if failure is not None and app_id in state.waiting.keys() | state.wants.keys():
        words = f": {failure.message}" if failure.message else ""
        task = f"task {failure.task_id} on {failure.host}"
        reasons.append(f"last failure at {failure.timestamp}: {task} {failure.state}{words}")
    return reasons


def _launching(state: State, app_id: str) -> list[str]:
    want = state.wants.get(app_id)
    if want is None:
        return []
    reasons = []
    role = state.settings.role if want.app.role is None else want.app.role
    refused = subscribing.refusal(state, role)
    if refused is not None:
        reasons.append(refused)
    left_s = state.delays.until((app_id, config_version(want.app)), state.now) - state.now
    if left_s > 0:
        reasons.append(f"back-off after failures: tried again in {math.ceil(left_s)} s")
    if not state.connected:
        reasons.append("not connected to a master, so no offers come")
    elif left_s <= 0 and refused is None:
        reasons += _offers(state.reasons.get(app_id))
    return reasons


def _offers(book: Reasons | None) -> list[str]:
    if book is None or book.processed == 0:
        return ["no offers were made since: see `mesostk explain-offers marathon`"]
    latest = list(book.last_unused.values())[-NAMED:]
    return [f"offer of {each.offer.hostname}: {each.reason}, {each.detail}" for each in latest]


def _health(state: State, app_id: str) -> list[str]:
    sick = [each for each in state.of_app(app_id) if state.health_of(each) is False]
    return [_sick(state, each) for each in sick[:NAMED]]


def _sick(state: State, instance: Instance) -> str:
    causes = [
        check.last_failure_cause
        for check in state.health.get(instance.id, ())
        if check.alive is False and check.last_failure_cause is not None
    ]
    words = f": {causes[-1]}" if causes else ""
    return f"task {instance.task_id} on {instance.host} fails its health check{words}"
