"""What `GET /v2/deployments`, `/v2/queue` and `/v2/groups` show.

Source: spec/marathon §1.5 (deployments, queue), §1.6 (groups).
"""

from __future__ import annotations

import math

import msgspec

from mesostk.marathon import deploying, deploymentview, explaining
from mesostk.marathon.matcher import REASONS
from mesostk.marathon.podviews import pod_view
from mesostk.marathon.queue import Reasons
from mesostk.marathon.repository import Deployment
from mesostk.marathon.state import State, Want
from mesostk.marathon.timestamps import iso
from mesostk.marathon.versions import config_version
from mesostk.marathon.views import app_info, readiness
from mesostk.wire.marathon import (
    CurrentAction,
    DeploymentInfo,
    ProcessedOffers,
    Queue,
    QueueDelay,
    QueueItem,
    RejectSummary,
    UnusedOffer,
)

#: Parts of a group that `embed` names; without any `embed` all are shown.
GROUP_PARTS = frozenset({"groups", "apps", "pods"})


# -- deployments ------------------------------------------------------------------------------


def deployments(state: State, *, with_waiting: bool = False) -> list[DeploymentInfo]:
    """All running deployments, oldest first; `with_waiting` says what they wait for.

    Only who asks for that is told: clients of the original do not know the key.
    """
    running = sorted(state.deployments.values(), key=lambda each: (each.created_at, each.id))
    return [deployment(state, each, with_waiting=with_waiting) for each in running]


def deployment(state: State, running: Deployment, *, with_waiting: bool = False) -> DeploymentInfo:
    """One running deployment; only actions that are not done are current."""
    step = deploying.current_step(state, running)
    return DeploymentInfo(
        id=running.id,
        version=running.version,
        affected_apps=tuple(sorted(running.after.keys() - set(running.pods))),
        affected_pods=tuple(sorted(running.pods)),
        steps=deploymentview.shown_steps(running),
        current_actions=tuple(
            CurrentAction(
                action=action.action,
                app=action.app,
                pod=action.pod,
                readiness_check_results=tuple(readiness(state, action.app or "")),
            )
            for action in deploymentview.shown_step(running, step).actions
        ),
        current_step=state.position[running.id] + 1,
        total_steps=len(running.steps),
        waiting=explaining.of_step(state, step) if with_waiting else (),
    )


# -- the launch queue -------------------------------------------------------------------------


def queue(state: State, *, with_offers: bool) -> Queue:
    """What waits to be launched, and why; `with_offers` adds the last unused offers."""
    wants = sorted(state.wants.items())
    return Queue(queue=tuple(_item(state, want, with_offers=with_offers) for _, want in wants))


def _item(state: State, want: Want, *, with_offers: bool) -> QueueItem:
    app = want.app
    now = state.now
    left_s = state.delays.until((app.id, config_version(app)), now) - now
    reasons = state.reasons.get(app.id, Reasons())
    return QueueItem(
        app=None if app.pod is not None else app_info(state, app, frozenset()),
        pod=None if app.pod is None else pod_view(app),
        count=want.count,
        delay=QueueDelay(time_left_seconds=math.ceil(left_s), overdue=left_s <= 0),
        since=iso(want.since_at),
        processed_offers_summary=_summary(reasons),
        last_unused_offers=tuple(
            UnusedOffer(
                offer={
                    "id": unused.offer.id.value,
                    "agentId": unused.offer.agent_id.value,
                    "hostname": unused.offer.hostname,
                    "resources": msgspec.to_builtins(unused.offer.resources),
                    "attributes": msgspec.to_builtins(unused.offer.attributes),
                },
                timestamp=unused.at,
                reason=(unused.reason, unused.detail),
            )
            for unused in (reasons.last_unused.values() if with_offers else ())
        ),
        # clients from before 1.9 do not know the key
        role=None if app.role == state.settings.role else app.role,
    )


def _summary(reasons: Reasons) -> ProcessedOffers:
    """The funnel: each offer is booked on its first failing reason."""
    funnel = []
    left = reasons.processed
    for reason in REASONS:
        declined = reasons.declined.get(reason, 0)
        funnel.append(RejectSummary(reason=reason, declined=declined, processed=left))
        left -= declined
    return ProcessedOffers(
        processed_offers_count=reasons.processed,
        unused_offers_count=reasons.unused,
        last_unused_offer_at=reasons.last_unused_at,
        last_used_offer_at=reasons.last_used_at,
        reject_summary_last_offers=tuple(funnel),
        reject_summary_launch_attempt=tuple(funnel),
    )


# -- groups -----------------------------------------------------------------------------------


def group_parts(embed: list[str]) -> frozenset[str]:
    """Which parts of groups are shown; no `embed` at all means every part."""
    asked = {value.removeprefix("group.") for value in embed}
    return frozenset(asked & GROUP_PARTS) if asked & GROUP_PARTS or embed else GROUP_PARTS
