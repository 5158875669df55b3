"""A deployment as events and answers show it: steps with the names that actions on pods have.

Source: spec/marathon §1.5, §1.9.
"""

from __future__ import annotations

from mesostk.marathon.repository import Deployment
from mesostk.wire.marathon import Action, ActionName, DeploymentPlanView, PlanGroup, Step


def plan_view(deployment: Deployment) -> DeploymentPlanView:
    """The plan as events carry it."""
    return DeploymentPlanView(
        id=deployment.id,
        version=deployment.version,
        original=PlanGroup(version=deployment.original),
        target=PlanGroup(version=deployment.version),
        steps=shown_steps(deployment),
    )


#: What the actions on pods are called.
_POD_ACTIONS: dict[ActionName, ActionName] = {
    "StartApplication": "StartPod",
    "StopApplication": "StopPod",
    "ScaleApplication": "ScalePod",
    "RestartApplication": "RestartPod",
}


def shown_steps(deployment: Deployment) -> tuple[Step, ...]:
    """The steps with the names that actions on pods have in answers and events."""
    if not deployment.pods:
        return deployment.steps
    return tuple(shown_step(deployment, step) for step in deployment.steps)


def shown_step(deployment: Deployment, step: Step) -> Step:
    """One step, likewise."""
    held = frozenset(deployment.pods)
    if not held:
        return step
    return Step(
        actions=tuple(
            Action(action=_POD_ACTIONS[action.action], pod=action.app)
            if action.app in held
            else action
            for action in step.actions
        )
    )
