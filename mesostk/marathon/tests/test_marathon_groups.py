"""The root group, its dependency graph, its records, and plans (spec/marathon §1.6, §3.1)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.marathon import grouprecords, groups, plan, versions
from mesostk.marathon.apps import normalise
from mesostk.marathon.groups import EMPTY, Group
from mesostk.marathon.refusal import Refused
from mesostk.wire.marathon import AppDefinition, GroupNode


def make(id: str, at: str = "t1", *dependencies: str, **more: object) -> AppDefinition:
    raw = {"id": id, "cmd": "x", "dependencies": list(dependencies)} | more
    return versions.stamped(None, normalise(raw), at)


def tree(*apps: AppDefinition, at: str = "t1") -> Group:
    return groups.put_apps(EMPTY, apps, at)


def updated(root: Group, id: str, at: str, **change: object) -> Group:
    old = groups.app(root, id)
    assert old is not None
    return groups.put_app(root, versions.stamped(old, normalise(change, old), at), at)


def shown(old: Group, new: Group) -> list[list[tuple[str, str | None]]]:
    return [[(a.action, a.app) for a in step.actions] for step in plan.steps(old, new)]


# -- tree -------------------------------------------------------------------------------------


def test_putting_an_app_makes_its_groups_and_leaves_the_old_root_as_it_was() -> None:
    root = tree(make("/prod/db/one"))
    assert groups.app(root, "/prod/db/one") is not None
    assert [group.id for group in groups.walk(root)] == ["/", "/prod", "/prod/db"]
    assert list(groups.apps(EMPTY)) == []


def test_only_the_groups_on_the_changed_path_are_new() -> None:
    root = tree(make("/a/one"), make("/b/two"))
    after = updated(root, "/a/one", "t2", cpus=2)
    assert after.groups["/b"] is root.groups["/b"]
    assert [n.id for n in grouprecords.changed(root, after, {}).nodes] == ["/", "/a"]
    assert grouprecords.changed(root, root, {}).nodes == ()


def test_an_app_and_a_group_cannot_share_an_id() -> None:
    root = tree(make("/a/one"))
    with pytest.raises(Refused, match="may not have the same identifier") as caught:
        groups.put_app(root, make("/a"), "t2")
    assert caught.value.status == 422
    with pytest.raises(Refused, match="may not have the same identifier"):
        groups.put_app(root, make("/a/one/two"), "t2")


def test_deleting() -> None:
    root = tree(make("/a/one"), make("/b/two"))
    without = groups.delete_app(root, "/a/one", "t2")
    assert groups.app(without, "/a/one") is None
    assert groups.find(without, "/a") is not None
    assert groups.delete_app(root, "/a/none", "t2") is root
    assert groups.find(groups.delete_group(root, "/a", "t2"), "/a") is None
    assert groups.delete_group(root, "/", "t2") == Group(id="/", version="t2")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["/a", "/b/x", "/b/y", "/c/d/z", "/c/w"]), unique=True))
def test_a_tree_is_assembled_from_its_records(ids: list[str]) -> None:
    root = tree(*(make(id) for id in ids))
    nodes = stored(grouprecords.changed(Group(id="/", version="-"), root, {}).nodes)
    definitions = {a.id: {a.version or "": a} for a in groups.apps(root)}
    assert grouprecords.assemble(nodes, {}, definitions, root.version) == (root, [])
    for id in list(definitions)[:1]:
        [version] = definitions.pop(id)
        _, missing = grouprecords.assemble(nodes, {}, definitions, root.version)
        assert missing == [f"app {id} {version}"]


def stored(nodes: Iterable[GroupNode]) -> dict[str, dict[str, GroupNode]]:
    found: dict[str, dict[str, GroupNode]] = {}
    for node in nodes:
        found.setdefault(node.id, {})[node.version] = node
    return found


def test_a_wide_group_writes_only_the_shards_that_changed() -> None:
    wide = tree(*(make(f"/a{n}") for n in range(400)))
    first = grouprecords.changed(Group(id="/", version="-"), wide, {})
    [node] = first.nodes
    assert not node.apps
    assert len(first.shards) == len(node.shards) == grouprecords.SHARDS
    nodes, parts = stored(first.nodes), {(p.id, p.shard, p.version): p for p in first.shards}
    definitions = {a.id: {a.version or "": a} for a in groups.apps(wide)}
    after = groups.delete_app(updated(wide, "/a7", "t2", cpus=2), "/a8", "t2")
    second = grouprecords.changed(wide, after, nodes)
    touched = {grouprecords.shard_of("/a7"), grouprecords.shard_of("/a8")}
    assert {part.shard for part in second.shards} == touched
    for kept in second.nodes:
        nodes[kept.id][kept.version] = kept
    parts |= {(p.id, p.shard, p.version): p for p in second.shards}
    for app in groups.apps(after):
        definitions[app.id][app.version or ""] = app
    assert grouprecords.assemble(nodes, parts, definitions, "t2") == (after, [])
    assert grouprecords.assemble(nodes, parts, definitions, wide.version) == (wide, [])
    lost = next(key for key in parts if key[2] == "t2")
    del parts[lost]
    _, missing = grouprecords.assemble(nodes, parts, definitions, "t2")
    assert missing == [f"shard / {lost[1]} t2"]


def test_a_group_that_was_wide_is_stored_whole_again() -> None:
    wide = tree(*(make(f"/a{n}") for n in range(300)))
    nodes = stored(grouprecords.changed(Group(id="/", version="-"), wide, {}).nodes)
    narrow = wide
    for number in range(200):
        narrow = groups.delete_app(narrow, f"/a{number}", "t2")
    [node] = grouprecords.changed(wide, narrow, nodes).nodes
    assert (len(node.apps), node.shards) == (100, {})


# -- dependencies -----------------------------------------------------------------------------


def test_group_dependencies_expand_to_all_apps_on_both_sides() -> None:
    root = tree(make("/db/a"), make("/db/b"), make("/web/x"), make("/web/sub/y"))
    web = groups.find(root, "/web")
    assert web is not None
    changed = Group(id="/web", apps=web.apps, groups=web.groups, dependencies=("/db",))
    graph = groups.dependencies(groups.put_group(root, changed, "t2"))
    assert graph["/web/x"] == {"/db/a", "/db/b"}
    assert graph["/web/sub/y"] == {"/db/a", "/db/b"}
    assert graph["/db/a"] == frozenset()


def test_layers_are_longest_paths_and_circles_are_refused() -> None:
    root = tree(make("/a"), make("/b", "t1", "/a"), make("/c", "t1", "/a", "/b"))
    assert groups.layers(root) == {"/a": 0, "/b": 1, "/c": 2}
    circle = groups.put_app(root, make("/a", "t2", "/c"), "t2")
    with pytest.raises(Refused, match="cyclic dependencies"):
        groups.refuse_invalid(circle)


def test_unknown_dependencies_and_misplaced_children_are_refused() -> None:
    with pytest.raises(Refused, match="does not exist"):
        groups.refuse_invalid(tree(make("/a", "t1", "/none")))
    with pytest.raises(Refused, match="not a direct child"):
        groups.refuse_invalid(Group(id="/", apps={"/a/b": make("/a/b")}))
    with pytest.raises(Refused, match="top-level groups"):
        groups.refuse_invalid(Group(id="/", enforce_role=True))
    groups.refuse_invalid(tree(make("/a"), make("/b", "t1", "/a")))


# -- plans (§3.1) -----------------------------------------------------------------------------


def test_new_apps_start_and_scale_layer_by_layer() -> None:
    root = tree(make("/web", "t1", "/db"), make("/db"))
    assert shown(EMPTY, root) == [
        [("StartApplication", "/db"), ("StartApplication", "/web")],
        [("ScaleApplication", "/db")],
        [("ScaleApplication", "/web")],
    ]


def test_removed_apps_stop_first() -> None:
    old = tree(make("/a"), make("/b"))
    new = groups.put_app(groups.delete_app(old, "/a", "t2"), make("/c", "t2"), "t2")
    assert shown(old, new) == [
        [("StopApplication", "/a")],
        [("StartApplication", "/c")],
        [("ScaleApplication", "/c")],
    ]


def test_scaling_scales_and_any_other_change_restarts() -> None:
    old = tree(make("/a"), make("/b"))
    assert shown(old, updated(old, "/a", "t2", instances=3)) == [[("ScaleApplication", "/a")]]
    assert shown(old, updated(old, "/a", "t2", labels={"x": "y"})) == [
        [("RestartApplication", "/a")]
    ]
    assert shown(old, updated(old, "/a", "t2", cpus=3, instances=0)) == [
        [("ScaleApplication", "/a")]
    ]
    assert shown(old, updated(old, "/a", "t2", instances=1)) == []


def test_a_forced_restart_is_planned_though_nothing_changed() -> None:
    old = tree(make("/a"))
    app = groups.app(old, "/a")
    assert app is not None
    new = groups.put_app(old, versions.restarted(app, "t2"), "t2")
    assert shown(old, new) == [[("RestartApplication", "/a")]]
    assert plan.affected(old, new) == {"/a"}


def test_affected_are_only_the_apps_that_differ() -> None:
    old = tree(make("/a"), make("/b"))
    assert plan.affected(old, updated(old, "/b", "t2", mem=1)) == {"/b"}
