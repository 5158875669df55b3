"""The metrics that monitoring reads, as key lists: the Datadog check and spec/mesos.md §15.1."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from mesostk.master.figures import OPERATIONS, figures
from mesostk.master.tests.conftest import WALL
from mesostk.master.tests.test_master_random import Chaos
from mesostk.master.views import used_on
from mesostk.resources.resources import Resources

#: What integrations-core's `mesos_master` check reads of the core's figures.
DATADOG = [
    "tasks_error",
    "tasks_failed",
    "tasks_finished",
    "tasks_killed",
    "tasks_lost",
    "tasks_running",
    "tasks_staging",
    "tasks_starting",
    "slave_registrations",
    "slave_removals",
    "slave_reregistrations",
    "slave_shutdowns_canceled",
    "slave_shutdowns_scheduled",
    "slaves_active",
    "slaves_connected",
    "slaves_disconnected",
    "slaves_inactive",
    "cpus_percent",
    "cpus_total",
    "cpus_used",
    "disk_percent",
    "disk_total",
    "disk_used",
    "gpus_percent",
    "gpus_total",
    "gpus_used",
    "mem_percent",
    "mem_total",
    "mem_used",
    "frameworks_active",
    "frameworks_connected",
    "frameworks_disconnected",
    "frameworks_inactive",
    "elected",
    "uptime_secs",
    "dropped_messages",
    "outstanding_offers",
    "event_queue_dispatches",
    "event_queue_http_requests",
    "event_queue_messages",
    "invalid_framework_to_executor_messages",
    "invalid_status_update_acknowledgements",
    "invalid_status_updates",
    "messages_authenticate",
    "messages_deactivate_framework",
    "messages_decline_offers",
    "messages_exited_executor",
    "messages_framework_to_executor",
    "messages_kill_task",
    "messages_launch_tasks",
    "messages_reconcile_tasks",
    "messages_register_framework",
    "messages_register_slave",
    "messages_reregister_framework",
    "messages_reregister_slave",
    "messages_resource_request",
    "messages_revive_offers",
    "messages_status_update",
    "messages_status_update_acknowledgement",
    "messages_unregister_framework",
    "messages_unregister_slave",
    "valid_framework_to_executor_messages",
    "valid_status_update_acknowledgements",
    "valid_status_updates",
]

#: §15.1, apart from the above.
MORE = [
    "cpus_revocable_percent",
    "cpus_revocable_total",
    "cpus_revocable_used",
    "mem_revocable_percent",
    "mem_revocable_total",
    "mem_revocable_used",
    "disk_revocable_percent",
    "disk_revocable_total",
    "disk_revocable_used",
    "gpus_revocable_percent",
    "gpus_revocable_total",
    "gpus_revocable_used",
    "invalid_executor_to_framework_messages",
    "invalid_operation_status_update_acknowledgements",
    "invalid_operation_status_updates",
    "messages_executor_to_framework",
    "messages_operation_status_update",
    "messages_operation_status_update_acknowledgement",
    "messages_reconcile_operations",
    "messages_suppress_offers",
    "messages_update_slave",
    "operator_event_stream_subscribers",
    "recovery_slave_removals",
    "slave_shutdowns_completed",
    "slave_unreachable_canceled",
    "slave_unreachable_completed",
    "slave_unreachable_scheduled",
    "slaves_unreachable",
    "tasks_dropped",
    "tasks_gone",
    "tasks_gone_by_operator",
    "tasks_killing",
    "tasks_unreachable",
    "valid_executor_to_framework_messages",
    "valid_operation_status_update_acknowledgements",
    "valid_operation_status_updates",
    "slave_removals/reason_registered",
    "slave_removals/reason_unhealthy",
    "slave_removals/reason_unregistered",
]

STATES = (
    "dropped", "error", "failed", "finished", "gone_by_operator", "pending", "recovering", "total",
    "unreachable",
)  # fmt: skip


def test_every_key_that_monitoring_reads_is_there_from_the_start(bench: Any) -> None:
    bench.master.started_at = 1.0
    shown = figures(bench.master, 2.0, elected=True, per_framework=True)
    operations = [f"operations/{kind}/{state}" for kind in OPERATIONS for state in STATES]
    wanted = [*DATADOG, *MORE, *operations, *(f"operations/{state}" for state in STATES)]
    assert {f"master/{name}" for name in wanted} - shown.keys() == set()
    for name in ("cpus", "mem", "disk", "gpus"):
        assert f"allocator/mesos/resources/{name}/total" in shown
        assert f"allocator/mesos/resources/{name}/offered_or_allocated" in shown


def test_keys_of_a_framework_and_of_its_role(bench: Any) -> None:
    bench.running()
    shown = figures(bench.master, 2.0, elected=True, per_framework=True)
    [framework_id] = bench.master.frameworks
    prefix = f"master/frameworks/f/{framework_id}"
    expected = {
        "subscribed": 1, "calls/subscribe": 1, "calls/accept": 1, "events/offers": 1,
        "offers/sent": 1, "offers/accepted": 1, "operations/launch": 1, "roles/*/suppressed": 0,
        "tasks/active/task_running": 1,
    }  # fmt: skip
    assert {name: shown.get(f"{prefix}/{name}") for name in expected} == expected
    assert shown["allocator/mesos/roles/*/shares/dominant"] > 0
    assert shown["allocator/mesos/offer_filters/roles/*/active"] >= 0


def test_every_counter_of_a_framework_is_there_from_the_start(bench: Any) -> None:
    """spec/mesos.md §15.1, as of a framework that has only subscribed."""
    bench.framework("filler")
    shown = figures(bench.master, 2.0, elected=True, per_framework=True)
    [framework_id] = bench.master.frameworks
    prefix = f"master/frameworks/filler/{framework_id}/"
    kinds = {
        "calls/": ("accept", "accept_inverse_offers", "acknowledge",
                   "acknowledge_operation_status", "decline", "decline_inverse_offers", "kill",
                   "message", "reconcile", "reconcile_operations", "request", "revive",
                   "shutdown", "subscribe", "suppress", "teardown", "update_framework"),
        "events/": ("error", "failure", "heartbeat", "inverse_offers", "message", "offers",
                    "rescind", "rescind_inverse_offer", "subscribed", "update",
                    "update_operation_status"),
        "offers/": ("accepted", "declined", "rescinded", "sent"),
        "operations/": ("create", "create_disk", "destroy", "destroy_disk", "grow_volume",
                        "launch", "launch_group", "reserve", "shrink_volume", "unreserve"),
        "roles/*/": ("suppressed",),
        "tasks/active/": ("task_killing", "task_running", "task_staging", "task_starting",
                          "task_unknown", "task_unreachable"),
        "tasks/terminal/": ("task_dropped", "task_error", "task_failed", "task_finished",
                            "task_gone", "task_gone_by_operator", "task_killed", "task_lost"),
        "": ("calls", "events", "operations", "subscribed"),
    }  # fmt: skip
    wanted = {kind + name for kind, names in kinds.items() for name in names}
    have = {name.removeprefix(prefix): value for name, value in shown.items() if prefix in name}
    assert sorted(wanted ^ have.keys()) == []
    assert (have["calls"], have["events"]) == (1, 2)
    assert (have["events/subscribed"], have["events/heartbeat"]) == (1, 1)


def test_calls_are_counted_by_principal(bench: Any) -> None:
    bench.framework("f", principal="web")
    bench.framework("g", principal="web")
    shown = figures(bench.master, 2.0, elected=True, per_framework=True)
    assert shown["frameworks/web/messages_received"] == 2
    assert shown["frameworks/web/messages_processed"] == 2


@pytest.mark.parametrize("seed", range(3))
def test_used_resources_are_what_tasks_and_executors_hold(make_bench: Any, seed: int) -> None:
    bench = make_bench()
    chaos = Chaos(bench, Random(seed))
    for _ in range(12):
        for _ in range(20):
            chaos.step()
        shown = figures(bench.master, WALL, elected=True, per_framework=False)
        agents = bench.master.agents.values()
        held = Resources.sum(used_on(agent) for agent in agents)
        total = Resources.sum(agent.total for agent in agents)
        for name in ("cpus", "mem", "disk"):
            assert shown[f"master/{name}_used"] == held.scalar(name) / 1000
            assert shown[f"master/{name}_total"] == total.scalar(name) / 1000
