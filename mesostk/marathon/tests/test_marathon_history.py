"""What outlives a leader besides apps: last failures, who changed what, who is called back."""

from __future__ import annotations

from mesostk.marathon import audit
from mesostk.marathon.events import (
    AddCallback,
    Caller,
    CreateApp,
    DeleteApp,
    DeleteDeployment,
    KillTasks,
    PutApps,
    RemoveCallback,
    RestartApp,
)
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World
from mesostk.wire.marathon import AuditEntry

DAY_S = 86_400.0
ALICE = Caller(user="alice", client_ip="10.0.3.9", method="PUT", uri="/v2/apps/web")


def app(id: str = "/web", **fields: object) -> dict[str, object]:
    return {"id": id, "cmd": "serve", "cpus": 0.1, "mem": 16, **fields}


def history(world: World, **wanted: str) -> list[AuditEntry]:
    return audit.entries(
        world.core.state,
        app=wanted.get("app"),
        user=wanted.get("user"),
        since=wanted.get("since"),
        limit=100,
    )


# -- the last failure -------------------------------------------------------------------------


def test_the_last_failure_of_an_app_outlives_the_leader(world: World) -> None:
    world.ask(CreateApp, body=app())
    world.settle(3)
    [task] = world.running("/web")
    world.update(task, "TASK_FAILED", message="exit status 3")
    world.feed()
    world.start()
    failure = world.core.state.failures["/web"]
    assert (failure.task_id, failure.state, failure.message) == (
        task, "TASK_FAILED", "exit status 3",
    )  # fmt: skip


def test_the_failure_of_an_app_that_is_deleted_is_forgotten(world: World) -> None:
    world.ask(CreateApp, body=app())
    world.settle(3)
    world.end(world.running("/web")[0])
    world.ask(DeleteApp, app_id="/web")
    world.settle(3)
    assert not world.core.state.failures
    assert not [path for path in world.store if path.startswith("failures/")]


def test_a_failure_of_an_app_that_was_lost_with_its_deletion_is_cleared_at_the_start(
    world: World,
) -> None:
    world.ask(CreateApp, body=app())
    world.settle(3)
    world.end(world.running("/web")[0])
    orphan = {path: data for path, data in world.store.items() if path.startswith("failures/")}
    world.ask(DeleteApp, app_id="/web")
    world.settle(3)
    world.store.update(orphan)
    world.start()
    assert not world.core.state.failures
    assert not [path for path in world.store if path.startswith("failures/")]


# -- who changed what -------------------------------------------------------------------------


def test_each_change_is_written_down_with_who_made_it_and_what_it_did(world: World) -> None:
    world.ask(CreateApp, body=app(), caller=ALICE)
    world.settle(3)
    world.ask(PutApps, app_id="/web", bodies=({"instances": 2},), caller=ALICE)
    world.settle(3)
    world.ask(PutApps, app_id="/web", bodies=({"mem": 32, "labels": {"a": "b"}},))
    world.settle(9)
    world.ask(RestartApp, app_id="/web")
    world.settle(9)
    world.ask(DeleteApp, app_id="/web", force=True)
    kinds = [(entry.changes[0].change, entry.changes[0].fields) for entry in history(world)]
    assert kinds == [
        ("stop", ()),
        ("restart", ()),
        ("restart", ("labels", "mem")),
        ("scale", ("instances",)),
        ("create", ()),
    ]
    assert [entry.user for entry in history(world)] == [None, None, None, "alice", "alice"]
    [first, *_] = history(world)
    assert first.force
    assert first.changes[0].before is not None
    assert first.changes[0].after is None


def test_what_is_no_change_of_an_app_is_written_down_in_words(world: World) -> None:
    world.ask(CreateApp, body=app())
    world.settle(3)
    [task] = world.running("/web")
    world.ask(KillTasks, app_id="/web", caller=ALICE)
    assert history(world)[0].detail == f"killed 1 tasks: {task}"
    world.ask(PutApps, app_id="/web", bodies=({"cpus": 1000.0},))
    [deployment] = world.core.state.deployments
    world.ask(DeleteDeployment, deployment_id=deployment)
    assert history(world)[0].detail == f"rolled back deployment {deployment}"
    assert history(world)[0].changes[0].fields == ("cpus",)


def test_refused_and_dry_requests_leave_no_entry(world: World) -> None:
    assert world.ask(CreateApp, body=app(cpus=-1)).status == 422
    assert world.ask(CreateApp, body=app(), dry_run=True).status == 200
    assert history(world) == []


def test_entries_are_found_by_app_group_user_and_time(world: World) -> None:
    world.ask(CreateApp, body=app("/shop/web"), caller=ALICE)
    world.ask(CreateApp, body=app("/shopping"))
    world.ask(CreateApp, body=app("/shop/db"))
    newest = history(world)[0]
    assert [entry.changes[0].app for entry in history(world, app="/shop")] == [
        "/shop/db",
        "/shop/web",
    ]
    assert [entry.changes[0].app for entry in history(world, app="/shop/db")] == ["/shop/db"]
    assert [entry.user for entry in history(world, user="alice")] == ["alice"]
    assert history(world, since=newest.timestamp) == []


def test_the_history_outlives_the_leader_and_ends_after_its_days() -> None:
    world = World(settings=Settings(audit_s=2 * DAY_S))
    world.connect()
    world.ask(CreateApp, body=app())
    world.now += DAY_S
    world.ask(CreateApp, body=app("/later"))
    before = history(world)
    assert len(before) == 2
    world.start()
    world.connect()
    assert history(world) == before
    world.now += 1.5 * DAY_S
    world.advance(10.0)
    assert [entry.changes[0].app for entry in history(world)] == ["/later"]
    assert len([path for path in world.store if path.startswith("audit/")]) == 1


def test_a_history_of_no_days_is_not_kept() -> None:
    world = World(settings=Settings(audit_s=0.0))
    world.connect()
    world.ask(CreateApp, body=app())
    assert history(world) == []


def test_a_change_of_thousands_of_apps_names_some_and_counts_the_rest(world: World) -> None:
    world.ask(PutApps, bodies=tuple(app(f"/a{n}", instances=0) for n in range(250)))
    [entry] = history(world)
    assert len(entry.changes) == audit.MAX_CHANGES
    assert entry.omitted == 150


# -- who is called back -----------------------------------------------------------------------


def test_callbacks_are_kept_by_the_next_leader_and_told_of_each_other() -> None:
    settings = Settings(callbacks=True, http_endpoints=("http://always/",))
    world = World(settings=settings)
    world.connect()
    assert list(world.callbacks) == ["http://always/"]
    reply = world.ask(AddCallback, url="http://a:1/x", caller=ALICE)
    assert (reply.status, reply.body.callback_url) == (200, "http://a:1/x")  # type: ignore[attr-defined] # an event
    world.ask(AddCallback, url="http://a:1/x")
    assert list(world.callbacks) == ["http://always/", "http://a:1/x"]
    assert world.events()[-2:] == ["subscribe_event", "subscribe_event"]
    world.callbacks = ()
    world.start()
    world.connect()
    assert list(world.callbacks) == ["http://always/", "http://a:1/x"]
    assert world.ask(RemoveCallback, url="http://a:1/x").status == 200
    assert list(world.callbacks) == ["http://always/"]
    assert world.events()[-1] == "unsubscribe_event"


def test_callbacks_need_their_flag_and_a_url(world: World) -> None:
    assert world.ask(AddCallback, url="http://a/").status == 400
    switched = World(settings=Settings(callbacks=True))
    for url in ("ftp://a/", "a", "http://", "http://a:99999/", "http://" + "a" * 2000):
        assert switched.ask(AddCallback, url=url).status == 422, url
    assert switched.callbacks == ()
