"""What a backup of Marathon holds comes back whole, or not at all."""

from __future__ import annotations

import msgspec
import pytest

from mesostk.errors import WireError
from mesostk.marathon import dump
from mesostk.marathon.events import ChangeGroup, CreateApp, PutApps
from mesostk.marathon.tests.conftest import World


def app(id: str, **fields: object) -> dict[str, object]:
    return {"id": id, "cmd": "serve", "cpus": 0.1, "mem": 16, **fields}


@pytest.fixture
def full(world: World) -> World:
    """A cluster with versions, a wide group, running tasks, a failure and a deployment."""
    world.ask(CreateApp, body=app("/web", instances=2))
    world.settle(3)
    world.ask(PutApps, app_id="/web", bodies=({"mem": 32},))
    world.settle(9)
    world.end(world.running("/web")[0])
    wide = [app(f"/wide/a{n}", instances=0) for n in range(300)]
    world.ask(ChangeGroup, group_id="/wide", body={"apps": wide})
    world.ask(CreateApp, body=app("/huge", cpus=1000))
    return world


def again(data: bytes, **options: bool) -> World:
    other = World()
    other.store = dump.restored(dump.decode(data), **options)
    other.start()
    return other


def test_apps_groups_and_all_their_versions_come_back(full: World) -> None:
    state = full.core.state
    data = dump.encode(dump.dumped(full.store))
    other = again(data).core.state
    assert other.root == state.root
    assert other.versions == state.versions
    assert other.group_versions == state.group_versions
    assert other.failures == state.failures
    assert other.audit == state.audit


def test_tasks_and_deployments_come_back_only_to_the_same_cluster(full: World) -> None:
    data = dump.encode(dump.dumped(full.store))
    elsewhere = again(data).core.state
    assert (elsewhere.framework_id, elsewhere.instances, elsewhere.deployments) == (None, {}, {})
    assert elsewhere.dirty == set()
    assert sorted(elsewhere.wants) == ["/huge", "/web"], "what runs nowhere is launched anew"
    same = again(data, same_cluster=True).core.state
    assert same.framework_id == full.core.state.framework_id
    assert same.instances == full.core.state.instances
    assert same.deployments == full.core.state.deployments


def test_the_document_is_the_same_after_a_round_trip(full: World) -> None:
    data = dump.encode(dump.dumped(full.store))
    stored = dump.restored(dump.decode(data), same_cluster=True)
    assert stored.keys() == full.store.keys()
    assert dump.encode(dump.dumped(stored)) == data


def test_damaged_records_are_kept_apart_and_do_not_come_back(full: World) -> None:
    full.store["apps/0/web/garbage"] = b"\x00garbage"
    made = dump.dumped(full.store)
    assert list(made.damaged) == ["apps/0/web/garbage"]
    assert "apps/0/web/garbage" not in dump.restored(made)


def test_half_a_cluster_is_not_restored(full: World) -> None:
    made = dump.dumped(full.store)
    shard = next(path for path in made.records if path.startswith("shards/"))
    lost = {path: raw for path, raw in made.records.items() if path != shard}
    with pytest.raises(WireError, match="missing: shard /wide"):
        dump.restored(msgspec.structs.replace(made, records=lost))
    wrong = {**made.records, shard: msgspec.Raw(b'{"id": 5}')}
    with pytest.raises(WireError, match="shards/"):
        dump.restored(msgspec.structs.replace(made, records=wrong))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a dump"),
        (b"[]", "not a dump"),
        (b'{"records": []}', "not a dump"),
        (b'{"format": "tar"}', "its format is 'tar'"),
        (b'{"schema": 99}', "use a newer one"),
    ],
)
def test_what_is_no_dump_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        dump.decode(data)
