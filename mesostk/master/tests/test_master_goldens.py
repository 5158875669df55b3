"""Keys of the legacy documents, typed from spec/mesos.md §5.1 and §5.2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mesostk.master import documents, legacy
from mesostk.master.fragments import Fragments
from mesostk.wire.legacy import leader_view

# §5.2, row by row: (keys that are always there, keys that may be).
TOP = (
    (
        "version build_date build_time build_user start_time id pid hostname capabilities"
        " activated_slaves deactivated_slaves unreachable_slaves flags slaves recovered_slaves"
        " frameworks completed_frameworks orphan_tasks unregistered_frameworks"
    ),
    (
        "git_sha git_branch git_tag elected_time domain leader leader_info cluster log_dir"
        " external_log_file"
    ),
)
SLAVE = (
    (
        "id hostname port attributes pid registered_time resources used_resources offered_resources"
        " reserved_resources unreserved_resources active deactivated version capabilities"
    ),
    "domain reregistered_time drain_info estimated_drain_start_time_seconds",
)
FRAMEWORK_SUMMARY = (
    "id name used_resources offered_resources capabilities hostname webui_url active connected"
    " recovered"
)
FRAMEWORK = (
    (
        f"{FRAMEWORK_SUMMARY} user failover_timeout checkpoint registered_time unregistered_time"
        " resources tasks unreachable_tasks completed_tasks offers executors offer_constraints"
    ),
    "pid principal reregistered_time roles role labels",
)
TASK = (
    "id name framework_id executor_id slave_id state resources role statuses",
    "limits user labels discovery container health_check",
)
STATUS = ("state timestamp", "labels container_status healthy")
OFFER = ("id framework_id allocation_info slave_id resources", "")
ROLE = ("name weight quota resources allocated offered reserved frameworks", "")
COUNTS = (
    "TASK_STAGING TASK_STARTING TASK_RUNNING TASK_KILLING TASK_FINISHED TASK_KILLED TASK_FAILED"
    " TASK_LOST TASK_ERROR TASK_UNREACHABLE"
)


def check(document: dict[str, Any], row: tuple[str, str]) -> None:
    always, optional = (set(names.split()) for names in row)
    assert always - document.keys() == set()
    assert document.keys() - always - optional == set()


def read(pieces: Iterator[bytes]) -> Any:
    return msgspec.json.decode(b"".join(pieces))


@pytest.fixture
def busy(bench: Any) -> Any:
    """A master with one running task and one offer."""
    bench.running()
    bench.agent("a2")
    bench.run(1.0)
    assert bench.master.offers
    return bench


def test_state_has_the_keys_of_the_original(busy: Any) -> None:
    master = busy.master
    head = legacy.state_head(master, leader_view(master.info), master.info.pid, {"port": "1"}, "c")
    state = read(documents.state(master, Fragments(master), head))
    check(state, TOP)
    check(state["leader_info"], ("id pid port hostname", "domain"))
    for slave in state["slaves"]:
        check(slave, SLAVE)
        assert {"cpus", "gpus", "mem", "disk"} <= slave["resources"].keys()
    [framework] = state["frameworks"]
    check(framework, FRAMEWORK)
    [task] = framework["tasks"]
    check(task, TASK)
    for status in task["statuses"]:
        check(status, STATUS)
    for offer in framework["offers"]:
        check(offer, OFFER)


def test_slaves_summary_tasks_and_roles_have_the_keys_of_the_original(busy: Any) -> None:
    master = busy.master
    fragments = Fragments(master)
    slaves = read(documents.slaves(master, fragments, None))
    check(slaves, ("slaves recovered_slaves", ""))
    full = (
        " reserved_resources_full unreserved_resources_full used_resources_full"
        " offered_resources_full"
    )
    for slave in slaves["slaves"]:
        check(slave, (SLAVE[0] + full, SLAVE[1]))
    summary = read(documents.state_summary(master, fragments, "c"))
    check(summary, ("hostname cluster slaves frameworks", ""))
    for slave in summary["slaves"]:
        check(slave, (f"{SLAVE[0]} {COUNTS} framework_ids", SLAVE[1]))
    for framework in summary["frameworks"]:
        check(framework, (f"{FRAMEWORK_SUMMARY} {COUNTS} slave_ids", "pid"))
    frameworks = read(documents.frameworks(master, fragments, None))
    check(frameworks, ("frameworks completed_frameworks unregistered_frameworks", ""))
    for role in legacy.roles(master)["roles"]:
        check(role, ROLE)
        check(role["quota"], ("role guarantee limit consumed", ""))
