"""Instances under status updates: the mapping of spec/marathon §3.7, and order of progress."""

import pytest

from mesostk.marathon.constraints import Placement
from mesostk.marathon.instances import Condition, Instance, InstanceId, condition_of, updated
from mesostk.wire.mesos import TaskID, TaskStatus


def status(state: str, **fields: object) -> TaskStatus:
    return TaskStatus(task_id=TaskID("t"), state=state, **fields)  # type: ignore[arg-type] # terse


def instance(condition: Condition = Condition.PROVISIONED) -> Instance:
    return Instance(
        id=InstanceId("a.instance-1"),
        app_id="/a",
        version="v",
        config_version="v",
        task_id="t",
        agent_id="S0",
        host="h",
        placement=Placement(hostname="h"),
        condition=condition,
        provisioned_at=1.0,
        since=1.0,
    )


@pytest.mark.parametrize(
    ("state", "reason", "message", "expected"),
    [
        ("TASK_STAGING", None, None, "Staging"),
        ("TASK_RUNNING", None, None, "Running"),
        ("TASK_GONE_BY_OPERATOR", None, None, "Gone"),
        ("TASK_UNREACHABLE", None, None, "Unreachable"),
        ("TASK_LOST", "REASON_TASK_UNKNOWN", None, "Unknown"),
        ("TASK_LOST", "REASON_RECONCILIATION", None, "Unreachable"),
        ("TASK_LOST", "REASON_AGENT_REMOVED", None, "Unreachable"),
        (
            "TASK_LOST",
            "REASON_RECONCILIATION",
            "Reconciliation: Task is unknown to the agent",
            "Unknown",
        ),
        ("TASK_LOST", "REASON_INVALID_OFFERS", None, "Gone"),
        ("TASK_LOST", None, None, "Gone"),
    ],
)
def test_a_mesos_state_means_the_condition_of_the_original(
    state: str, reason: str | None, message: str | None, expected: str
) -> None:
    assert condition_of(status(state, reason=reason, message=message)) == expected


def test_running_is_stamped_once() -> None:
    first = updated(instance(), status("TASK_RUNNING"), 5.0)
    lost = updated(first, status("TASK_UNREACHABLE"), 7.0)
    back = updated(lost, status("TASK_RUNNING"), 9.0)
    assert (first.started_at, back.started_at, back.since) == (5.0, 5.0, 9.0)


def test_a_late_staging_update_does_not_undo_running() -> None:
    running = updated(instance(), status("TASK_RUNNING"), 5.0)
    assert updated(running, status("TASK_STAGING"), 6.0) is running


def test_the_same_update_again_changes_nothing() -> None:
    running = updated(instance(), status("TASK_RUNNING"), 5.0)
    assert updated(running, status("TASK_RUNNING"), 6.0) is running


def test_an_endless_message_is_cut() -> None:
    failed = updated(instance(), status("TASK_FAILED", message="x" * 20_000), 5.0)
    assert failed.message is not None
    assert len(failed.message) == 10_000
    assert failed.is_terminal
