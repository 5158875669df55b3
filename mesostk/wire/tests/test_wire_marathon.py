"""Spelling of Marathon's records (spec/marathon §1, §2)."""

from __future__ import annotations

import msgspec

from mesostk.wire.marathon import (
    AppDefinition,
    EnvSecret,
    ErrorBody,
    HealthCheck,
    Info,
    InstanceHealthChanged,
    PortDefinition,
    TaskView,
    UnreachableStrategy,
    Violation,
)


def encoded(value: object) -> object:
    return msgspec.json.decode(msgspec.json.encode(value))


def test_port_definition_has_the_keys_of_the_tutorials_answer() -> None:
    assert encoded(PortDefinition()) == {"port": 0, "protocol": "tcp", "labels": {}}


def test_health_check_spells_ignore_http1xx_as_the_original() -> None:
    assert encoded(HealthCheck(path="/", port_index=0)) == {
        "path": "/",
        "protocol": "HTTP",
        "portIndex": 0,
        "gracePeriodSeconds": 300,
        "intervalSeconds": 60,
        "timeoutSeconds": 20,
        "maxConsecutiveFailures": 3,
        "delaySeconds": 15,
        "ignoreHttp1xx": False,
    }


def test_app_record_round_trips_with_every_union() -> None:
    app = AppDefinition(
        id="/a",
        env={"A": "1", "B": EnvSecret(secret="s")},
        unreachable_strategy="disabled",
        constraints=(("hostname", "UNIQUE"),),
    )
    assert msgspec.json.decode(msgspec.json.encode(app), type=AppDefinition) == app
    assert AppDefinition(id="/a").unreachable_strategy == UnreachableStrategy()


def test_event_carries_its_type_and_a_null_health() -> None:
    event = InstanceHealthChanged(
        timestamp="t", instance_id="i", run_spec_id="/r", run_spec_version="v"
    )
    assert encoded(event) == {
        "eventType": "instance_health_changed_event",
        "timestamp": "t",
        "instanceId": "i",
        "runSpecId": "/r",
        "runSpecVersion": "v",
        "healthy": None,
    }


def test_task_of_unknown_health_has_no_results_and_no_start() -> None:
    task = encoded(TaskView(app_id="/a", id="a.1", state="TASK_STAGING"))
    assert isinstance(task, dict)
    assert "healthCheckResults" not in task
    assert task["startedAt"] is None


def test_error_body_leaves_out_what_does_not_apply() -> None:
    assert encoded(ErrorBody(message="no")) == {"message": "no"}
    violation = Violation(path="/id", errors=("bad",))
    assert encoded(ErrorBody(message="no", details=(violation,))) == {
        "message": "no",
        "details": [{"path": "/id", "errors": ["bad"]}],
    }


def test_info_keeps_the_originals_snake_case_sections() -> None:
    info = Info(version="1", elected=True, marathon_config={}, zookeeper_config={}, http_config={})
    body = encoded(info)
    assert isinstance(body, dict)
    assert {"frameworkId", "marathon_config", "zookeeper_config", "http_config"} <= set(body)
