"""`/v2/schemas`: what the schemas take is what is read, and what they refuse is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from mesostk.marathon import appinput, groupchange, pods, schemas
from mesostk.marathon.refusal import Refused

EXAMPLES = Path(__file__).parents[3] / "examples"

READERS: dict[str, Callable[[Any], object]] = {
    "app": appinput.read,
    "pod": pods.normalise,
    "group": groupchange.read,
}

APP = {"id": "/a", "cmd": "x"}
POD = {"id": "/p", "containers": [{"name": "c", "exec": {"command": {"shell": "x"}}}]}


@pytest.fixture(scope="module")
def judges() -> dict[str, Draft4Validator]:
    made = schemas.documents()
    for schema in made.values():
        Draft4Validator.check_schema(schema)
    return {kind: Draft4Validator(schema) for kind, schema in made.items()}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("app", APP),
        ("app", {**APP, "cpus": 1, "mem": None, "ports": [0], "uris": ["http://h/a"]}),
        ("app", {**APP, "env": {"A": "b", "C": {"secret": "c"}, "D": None}, "secrets": {}}),
        ("app", {**APP, "unreachableStrategy": "disabled", "resourceLimits": {"mem": "unlimited"}}),
        ("app", {**APP, "version": "x", "tasks": [{"id": 1}], "tasksRunning": 1}),
        ("app", {**APP, "networks": [{"mode": "container/bridge"}],
                 "container": {"portMappings": [{"containerPort": 80}]}}),
        ("pod", POD),
        ("pod", {**POD, "version": "2026-01-01T00:00:00.000Z", "scaling": {"kind": "fixed"}}),
        ("group", {"id": "/g", "apps": [APP], "pods": [POD], "groups": [{"id": "h"}]}),
        ("group", {"scaleBy": 1.5}),
    ],
)  # fmt: skip
def test_what_is_read_fits_the_schema(
    judges: dict[str, Draft4Validator], kind: str, body: dict[str, Any]
) -> None:
    READERS[kind](body)
    assert [error.message for error in judges[kind].iter_errors(body)] == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("app", {**APP, "colour": "red"}),
        ("app", {**APP, "cpus": "1"}),
        ("app", {**APP, "container": {"docker": {}}}),
        ("app", {**APP, "healthChecks": [{"protocol": "UDP"}]}),
        ("app", {**APP, "constraints": ["hostname", "UNIQUE"]}),
        ("app", []),
        ("pod", {"id": "/p"}),
        ("pod", {**POD, "containers": None}),
        ("pod", {**POD, "networks": [{"mode": "x"}]}),
        ("group", {"apps": {}}),
        ("group", {"scaleBy": "1"}),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(
    judges: dict[str, Draft4Validator], kind: str, body: Any
) -> None:
    assert list(judges[kind].iter_errors(body))
    with pytest.raises(Refused):
        READERS[kind](body)


def test_a_group_is_judged_down_to_its_apps(judges: dict[str, Draft4Validator]) -> None:
    wrong = {"groups": [{"id": "h", "apps": [{**APP, "colour": "red"}]}]}
    [error] = judges["group"].iter_errors(wrong)
    paths = [list(inner.absolute_path) for inner in error.context or ()]
    assert ["groups", 0, "apps"] in [path[:3] for path in paths]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_the_examples_fit(judges: dict[str, Draft4Validator], path: Path) -> None:
    body = json.loads(path.read_bytes())
    kind = "pod" if "containers" in body else "app"
    assert [error.message for error in judges[kind].iter_errors(body)] == []
