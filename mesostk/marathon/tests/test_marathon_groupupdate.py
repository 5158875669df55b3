"""Group JSON applied to the root (spec/marathon §1.6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.marathon import groups, groupupdate, plan
from mesostk.marathon.appview import app_view
from mesostk.marathon.groups import EMPTY, Group
from mesostk.marathon.refusal import Refused


def put(root: Group, id: str, raw: Any, at: str = "t1") -> Group:
    changed = groupupdate.updated(root, id, groupupdate.read(raw), at)
    return groupupdate.settled(root, changed, at, 10000, 10100)


def one(id: str, **more: object) -> dict[str, object]:
    return {"id": id, "cmd": "x", "ports": [0]} | more


def ids(root: Group) -> list[str]:
    return sorted(app.id for app in groups.apps(root))


def test_nested_groups_with_relative_ids_and_dependencies() -> None:
    raw = {
        "groups": [
            {"id": "db", "apps": [one("mongo")]},
            {"id": "web", "dependencies": ["../prod/db"], "apps": [one("a", dependencies=["b"]),
                                                                  one("b")]},
        ]
    }  # fmt: skip
    raw["groups"][1]["dependencies"] = ["db"]
    root = put(EMPTY, "/prod", raw)
    assert ids(root) == ["/prod/db/mongo", "/prod/web/a", "/prod/web/b"]
    depth = groups.layers(root)
    assert (depth["/prod/db/mongo"], depth["/prod/web/b"], depth["/prod/web/a"]) == (0, 1, 2)
    assert sorted(app.version or "" for app in groups.apps(root)) == ["t1"] * 3
    ports = [app.port_definitions[0].port for app in groups.apps(root)]
    assert sorted(ports) == [10000, 10001, 10002]


def test_absent_keeps_and_present_replaces() -> None:
    root = put(EMPTY, "/prod", {"apps": [one("a"), one("b")], "groups": [{"id": "sub"}]})
    kept = put(root, "/prod", {"dependencies": []}, "t2")
    assert ids(kept) == ["/prod/a", "/prod/b"]
    replaced = put(root, "/prod", {"apps": [one("b"), one("c")]}, "t2")
    assert ids(replaced) == ["/prod/b", "/prod/c"]
    assert groups.find(replaced, "/prod/sub") is not None
    assert groups.find(put(root, "/prod", {"groups": []}, "t2"), "/prod/sub") is None


def test_putting_the_same_content_changes_no_app() -> None:
    raw = {"apps": [one("a")], "groups": [{"id": "sub", "apps": [one("b")]}]}
    root = put(EMPTY, "/prod", raw)
    assert plan.steps(root, put(root, "/prod", raw, "t2")) == ()


def test_scale_by_rounds_up() -> None:
    root = put(EMPTY, "/prod", {"apps": [one("a", instances=3)], "groups": [
        {"id": "sub", "apps": [one("b", instances=0)]}]})  # fmt: skip
    changed = groupupdate.scaled(root, "/prod", 1.5, "t2")
    after = groupupdate.settled(root, changed, "t2", 10000, 10100)
    assert sorted(app.instances for app in groups.apps(after)) == [0, 5]
    [step] = plan.steps(root, after)
    assert [action.action for action in step.actions] == ["ScaleApplication"]
    with pytest.raises(Refused, match="Group '/none' does not exist"):
        groupupdate.scaled(root, "/none", 2.0, "t2")


@pytest.mark.parametrize(
    ("raw", "status", "path"),
    [
        ({"version": "v", "apps": []}, 422, "/version"),
        ({"scaleBy": 2, "groups": []}, 422, "/scaleBy"),
        ({"scaleBy": -1}, 422, "/scaleBy"),
        ({"pods": [{}]}, 422, "/pods"),
        ({"app": []}, 422, "/app"),
        ([], 400, "/"),
        ({"id": "/other"}, 400, "/id"),
        ({"apps": [{"id": "a", "cpus": "x"}]}, 400, "/apps(0)/cpus"),
        ({"apps": [one("a"), one("a")]}, 422, "/apps(1)/id"),
        ({"apps": [one("a", cpus=-1)]}, 422, "/prod/a/cpus"),
        ({"groups": [{"id": "s", "apps": [one("a", cpsu=1)]}]}, 422, "/groups(0)/apps(0)/cpsu"),
        ({"groups": [{"apps": []}]}, 400, "/groups(0)/id"),
        ({"groups": [{"id": "S"}]}, 422, "/groups(0)/id"),
        ({"groups": [{"id": "s", "scaleBy": 2}]}, 422, "/groups(0)"),
        ({"apps": [one("/else/a")]}, 422, "/"),
        ({"apps": [one("a", dependencies=["a/x"])]}, 422, "/dependencies"),
        ({"groups": [{"id": "s", "enforceRole": True}]}, 422, "/enforceRole"),
    ],
)
def test_refusals_name_the_place(raw: Any, status: int, path: str) -> None:
    with pytest.raises(Refused) as caught:
        put(EMPTY, "/prod", raw)
    assert caught.value.status == status
    assert caught.value.details is not None
    assert [each.path for each in caught.value.details if not isinstance(each, str)] == [path]


def test_the_view_has_the_originals_keys() -> None:
    root = put(EMPTY, "/prod", {"apps": [one("a")]})
    view = groupupdate.group_view(root, app_view)
    assert list(view) == ["id", "apps", "pods", "groups", "dependencies", "version", "enforceRole"]
    [child] = view["groups"] if isinstance(view["groups"], list) else []
    assert [app["id"] for app in child["apps"]] == ["/prod/a"]
    assert "groups" not in groupupdate.group_view(root, app_view, with_groups=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "apps", "groups", "cmd", "scaleBy", "version", "ports"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_any_json_value_is_applied_or_refused(raw: Any) -> None:
    try:
        put(EMPTY, "/prod", raw)
    except Refused as refused:
        status = refused.status
    else:
        status = 200
    assert status in (200, 400, 422)
