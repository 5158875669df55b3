"""Several roles in one Marathon: who may ask for which, whose offers are used, what is subscribed.

Expected texts and rules: the original's `multirole.md` and the texts of its validation.
"""

from __future__ import annotations

from typing import Any

import pytest

from mesostk.base.core import Tick
from mesostk.marathon import explaining, repository, subscribing
from mesostk.marathon.events import (
    ChangeGroup,
    CreateApp,
    CreatePod,
    DeleteApp,
    Disconnected,
    FromMaster,
    PatchGroup,
    PutApps,
    Reply,
)
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World
from mesostk.wire import scheduler
from mesostk.wire.marathon import AppDefinition, ErrorBody

SLEEP: dict[str, Any] = {"cmd": "sleep 1000", "cpus": 0.1, "mem": 32}


def world(role: str = "*", *, top: bool = False) -> World:
    made = World(settings=Settings(role=role, principal="p", enforce_new_groups=top))
    made.connect()
    return made


def create(made: World, id: str, **fields: object) -> Reply:
    return made.ask(CreateApp, body={"id": id, **SLEEP, **fields})


def put(made: World, id: str, *, force: bool = False, **fields: object) -> Reply:
    return made.ask(PutApps, bodies=(fields,), app_id=id, force=force)


def enforce(made: World, group: str, *, wanted: bool = True) -> Reply:
    return made.ask(PatchGroup, group_id=group, body={"enforceRole": wanted})


def refusals(reply: Reply) -> list[tuple[str, str]]:
    assert reply.status == 422, reply
    assert isinstance(reply.body, ErrorBody)
    assert isinstance(reply.body.details, tuple)
    return [(each.path, error) for each in reply.body.details for error in each.errors]


def role_of(made: World, id: str) -> str | None:
    return made.core.state.apps[id].role


def roles_of(made: World) -> tuple[str, ...]:
    """Those of the next subscription."""
    assert made.info is not None
    return made.info.roles


def told(made: World) -> tuple[str, ...]:
    """Those of the last UPDATE_FRAMEWORK."""
    return made.updates[-1].framework_info.roles


def settle(made: World, *roles: str, rounds: int = 10) -> None:
    for _ in range(rounds):
        for role in roles:
            made.offer(role=role)
        made.advance(1.0)


# -- who may ask for what -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "asked", "expected"),
    [
        ("/web", None, "main"),
        ("/web", "main", "main"),
        ("/web", "web", "got web, expected one of: [main]"),
        ("/dev/web", None, "main"),
        ("/dev/web", "dev", "dev"),
        ("/dev/team/web", "dev", "dev"),
        ("/dev/team/web", "team", "got team, expected one of: [dev, main]"),
        ("/strict/web", None, "strict"),
        ("/strict/team/web", None, "strict"),
        ("/strict/web", "main", "got main, expected one of: [strict]"),
    ],
)
def test_an_app_has_the_role_of_the_flag_or_of_its_top_level_group(
    id: str, asked: str | None, expected: str
) -> None:
    made = world("main")
    strict = {"id": "/strict", "enforceRole": True}
    assert made.ask(ChangeGroup, group_id="/", body={"groups": [strict]}).status == 200
    reply = create(made, id) if asked is None else create(made, id, role=asked)
    if expected.startswith("got"):
        assert refusals(reply) == [("/role", expected)]
        return
    assert reply.status == 201
    assert isinstance(reply.body, dict)
    assert reply.body["role"] == role_of(made, id) == expected


def test_a_group_that_enforces_its_role_leaves_apps_their_role_until_they_change_it() -> None:
    made = world("slave_public")
    create(made, "/dev/old")
    assert enforce(made, "/dev") == Reply(request=2, status=200)
    made.start()
    made.connect()
    assert made.core.state.root.groups["/dev"].enforce_role, "found again by the next leader"
    create(made, "/dev/new")
    assert role_of(made, "/dev/new") == "dev"
    assert put(made, "/dev/old", force=True, instances=2).status == 200
    assert put(made, "/dev/old", force=True, role="slave_public").status == 200
    assert role_of(made, "/dev/old") == "slave_public"
    assert put(made, "/dev/old", force=True, role="dev").status == 200
    for id in ("/dev/old", "/dev/new"):
        assert refusals(put(made, id, force=True, role="slave_public")) == [
            ("/role", "got slave_public, expected one of: [dev]")
        ]
    assert enforce(made, "/dev", wanted=False).status == 200
    assert put(made, "/dev/old", force=True, role="slave_public").status == 200


def test_tasks_are_told_whether_their_group_enforces_its_role() -> None:
    made = world()
    made.ask(ChangeGroup, group_id="/", body={"groups": [{"id": "loose"}, {"id": "strict"}]})
    enforce(made, "/strict")
    create(made, "/loose/a")
    create(made, "/strict/a")
    pod = {"id": "/strict/pod", "containers": [{"name": "c", "exec": {"command": {"shell": "x"}}}]}
    assert made.ask(CreatePod, body=pod).status == 201
    settle(made, "*", "strict")
    told = {}
    for task in made.tasks.values():
        assert task.command is not None
        assert task.command.environment is not None
        for variable in task.command.environment.variables:
            if variable.name == "MARATHON_APP_ENFORCE_GROUP_ROLE":
                told[task.task_id.value.partition(".")[0]] = variable.value
    assert told == {"loose_a": "FALSE", "strict_a": "TRUE", "strict_pod": "TRUE"}


def test_a_flag_makes_new_groups_enforce_their_role_unless_they_say_otherwise() -> None:
    made = world("main", top=True)
    create(made, "/a/web")
    made.ask(ChangeGroup, group_id="/b/inner", body={"apps": [{"id": "web", **SLEEP}]})
    body = {"id": "/c", "enforceRole": False, "apps": [{"id": "web", **SLEEP}]}
    assert made.ask(ChangeGroup, group_id="/", body=body, create=True).status == 201
    made.ask(ChangeGroup, group_id="/d", body={"apps": [{"id": "web", **SLEEP}]})
    roles = {id: app.role for id, app in made.core.state.apps.items()}
    assert roles == {"/a/web": "a", "/b/inner/web": "b", "/c/web": "main", "/d/web": "d"}
    found = {id: group.enforce_role for id, group in made.core.state.root.groups.items()}
    assert found == {"/a": True, "/b": True, "/c": False, "/d": True}
    assert not made.core.state.root.groups["/b"].groups["/b/inner"].enforce_role


@pytest.mark.parametrize(
    ("group", "body", "expected"),
    [
        (
            "/dev",
            {"enforceRole": True, "apps": [{"id": "other", **SLEEP}]},
            (
                "enforceRole cannot be modified in a request that adds, removes or modifies "
                "services; please make these changes in separate requests."
            ),
        ),
        (
            "/dev/team",
            {"enforceRole": True},
            "enforceRole can only be set for top-level groups, and /dev/team is not top-level",
        ),
    ],
)
def test_who_enforces_is_changed_alone_and_on_top_level(
    group: str, body: dict[str, Any], expected: str
) -> None:
    made = world()
    create(made, "/dev/web")
    reply = made.ask(ChangeGroup, group_id=group, body=body)
    assert refusals(reply) == [("/enforceRole", expected)]


def test_only_top_level_groups_that_exist_can_be_patched() -> None:
    made = world()
    create(made, "/dev/team/web")
    assert refusals(enforce(made, "/dev/team")) == [("/", "Path needs to be top-level")]
    unknown = enforce(made, "/other")
    assert (unknown.status, unknown.body) == (
        404,
        ErrorBody(message="Group '/other' does not exist"),
    )
    wrong = made.ask(PatchGroup, group_id="/dev", body={"enforceRole": "yes"})
    assert wrong.status == 400


@pytest.mark.parametrize(
    ("accepted", "allowed"),
    [(["*"], True), (["*", "dev"], True), (["dev"], True), (["prod"], False), (["*", "x"], False)],
)
def test_accepted_resource_roles_are_the_apps_own_and_the_unreserved(
    accepted: list[str], allowed: bool
) -> None:
    made = world("main")
    reply = create(made, "/dev/web", role="dev", acceptedResourceRoles=accepted)
    if allowed:
        assert reply.status == 201
    else:
        text = "acceptedResourceRoles can only contain * and dev"
        assert refusals(reply) == [("/acceptedResourceRoles", text)]


# -- offers -------------------------------------------------------------------------------------


def test_an_offer_serves_only_apps_of_its_role() -> None:
    made = world("main")
    create(made, "/dev/web", role="dev")
    create(made, "/dev/api")
    settle(made, "main")
    assert (made.running("/dev/web"), len(made.running("/dev/api"))) == ([], 1)
    settle(made, "dev")
    [task] = made.running("/dev/web")
    [instance] = made.core.state.of_app("/dev/web")
    assert (instance.task_id, instance.role) == (task, "dev")


def test_the_master_is_told_of_roles_that_come_and_go() -> None:
    made = world("main")
    assert roles_of(made) == ("main",)
    assert made.updates == []
    create(made, "/dev/web", role="dev")
    assert told(made) == ("dev", "main")
    settle(made, "dev")
    made.start()
    assert roles_of(made) == ("dev", "main"), "a new leader subscribes in all"
    made.connect()
    made.ask(DeleteApp, app_id="/dev/web")
    made.advance(30.0)
    assert made.running("/dev/web") == []
    assert told(made) == ("main",)
    assert roles_of(made) == ("main",), "for the next subscription, too"


def test_a_role_that_came_while_disconnected_is_told_when_connected() -> None:
    made = world("main")
    made.feed(Disconnected("gone"))
    create(made, "/dev/web", role="dev")
    assert made.updates == []
    made.connect()
    assert [update.framework_info.roles for update in made.updates] == [("dev", "main")]


def refused(made: World) -> list[tuple[str, str]]:
    found = subscribing.refused_roles(made.core.state)
    return [(each.role, each.reason) for each in found]


def why(made: World, id: str) -> str:
    return " | ".join(explaining.why(made.core.state, id).reasons)


def test_a_role_that_the_master_refuses_keeps_no_other_out_and_is_told_with_the_remedy() -> None:
    made = world("main")
    made.refused_roles = {"bad"}
    create(made, "/bad/web", role="bad")
    create(made, "/dev/web", role="dev")
    assert refused(made) == [("bad", "Not authorized to use role 'bad'")]
    assert roles_of(made) == ("dev", "main"), "the next subscription goes without it"
    settle(made, "dev", "main")
    assert len(made.running("/dev/web")) == 1
    text = "the master refuses role 'bad': Not authorized to use role 'bad'; add it to --roles"
    assert text in why(made, "/bad/web")
    assert "explain-offers" not in why(made, "/bad/web"), "offers cannot come"
    assert "refuses" not in why(made, "/dev/web")
    asked = len(made.updates)
    made.advance(60.0)
    assert len(made.updates) == asked, "what refused it cannot change without a new subscription"


def test_a_refused_role_is_asked_for_again_by_each_subscription() -> None:
    made = world("main")
    made.refused_roles = {"bad"}
    create(made, "/bad/web", role="bad")
    [before] = subscribing.refused_roles(made.core.state)
    made.advance(60.0)
    made.feed(Disconnected("restarted"))
    made.connect()
    assert subscribing.refused_roles(made.core.state) == (before,), "since the first time"
    made.feed(Disconnected("restarted with other --roles"))
    made.refused_roles = set()
    made.connect()
    assert refused(made) == []
    assert roles_of(made) == ("bad", "main")
    settle(made, "bad")
    assert len(made.running("/bad/web")) == 1


def test_nothing_is_launched_in_another_role_than_the_refused_one() -> None:
    made = world("main")
    made.refused_roles = {"bad"}
    create(made, "/bad/web", role="bad")
    settle(made, "main")
    assert made.running("/bad/web") == []
    assert made.quiet == {"main"}, "no offers are asked for in a role in which nothing is wanted"


def test_a_refused_role_is_forgotten_with_its_last_app() -> None:
    made = world("main")
    made.refused_roles = {"bad"}
    create(made, "/bad/web", role="bad")
    made.ask(DeleteApp, app_id="/bad/web", force=True)
    made.advance(30.0)
    assert refused(made) == []
    assert roles_of(made) == ("main",)


def test_a_subscription_that_is_refused_for_a_role_of_an_app_is_made_without_it() -> None:
    made = world("main")
    create(made, "/dev/web", role="dev")
    create(made, "/bad/web", role="bad")
    made.start()
    assert roles_of(made) == ("bad", "dev", "main")
    made.refused_roles = {"bad"}
    error = scheduler.Error(message="Role 'bad' is not present in the master's --roles")
    made.feed(FromMaster(scheduler.Event(type="ERROR", error=error)))
    assert (roles_of(made), made.exits) == (("main",), [])
    made.connect()
    assert roles_of(made) == ("dev", "main")
    assert [role for role, _ in refused(made)] == ["bad"]


@pytest.mark.parametrize(
    "message", ["Framework has been removed", "Framework failed over", "Role 'main' is not present"]
)
def test_an_error_that_fewer_roles_cannot_mend_ends_the_process(message: str) -> None:
    made = world("main")
    if message.startswith("Framework"):
        create(made, "/dev/web", role="dev")
    made.feed(FromMaster(scheduler.Event(type="ERROR", error=scheduler.Error(message=message))))
    [ended] = made.exits
    assert ended.reason.startswith(message)


def test_a_connection_lost_while_a_role_is_asked_for_is_made_anew_without_it_first() -> None:
    made = world("main")
    made.hold_answers = True
    create(made, "/dev/web", role="dev")
    create(made, "/web/a", role="web")
    assert told(made) == ("dev", "main"), "one at a time"
    assert roles_of(made) == ("main",)
    made.feed(Disconnected("gone"))
    made.hold_answers = False
    made.connect()
    assert roles_of(made) == ("dev", "main", "web")


def test_a_connection_lost_while_a_role_is_given_up_is_made_anew_with_it_first() -> None:
    made = world("main")
    create(made, "/dev/web", role="dev")
    made.hold_answers = True
    made.ask(DeleteApp, app_id="/dev/web", force=True)
    made.advance(30.0)
    assert told(made) == ("main",)
    assert roles_of(made) == ("dev", "main"), "nobody knows yet whether the master did it"
    made.feed(Disconnected("gone"))
    made.hold_answers = False
    made.connect()
    assert "dev" in made.core.state.roles, "the master has what it was subscribed with"
    asked = len(made.updates)
    made.advance(30.0)
    assert len(made.updates) == asked + 1
    assert told(made) == roles_of(made) == ("main",)


def test_each_role_is_revived_and_suppressed_for_itself() -> None:
    made = world("main")
    made.advance(1.0)
    assert made.suppressed, "nothing is wanted"
    create(made, "/dev/web", role="dev")
    assert made.updates[-1].suppressed_roles == ("main",)
    assert made.revived == [("dev",)]
    settle(made, "dev")
    assert made.quiet == {"dev", "main"}
    create(made, "/api")
    assert made.revived[-1] == ("main",)
    assert "dev" not in made.revived[-1]


def test_changing_the_role_moves_the_instances_to_offers_of_it() -> None:
    made = world("main")
    create(made, "/dev/web")
    settle(made, "main")
    [before] = made.running("/dev/web")
    assert put(made, "/dev/web", role="dev").status == 200
    settle(made, "main")
    assert made.running("/dev/web") == [before], "no offer of the new role, no healthy new one"
    settle(made, "dev")
    [after] = made.running("/dev/web")
    assert after != before
    assert made.core.state.deployments == {}


# -- residents ----------------------------------------------------------------------------------


def resident(**fields: object) -> dict[str, Any]:
    volume = {"containerPath": "data", "persistent": {"size": 16}, "mode": "RW"}
    return {"container": {"type": "MESOS", "volumes": [volume]}, **fields}


def test_residents_reserve_in_their_role_and_keep_what_they_have_when_it_changes() -> None:
    made = world("main")
    create(made, "/dev/db", **resident())
    settle(made, "main")
    [old] = made.core.state.residences.values()
    assert old.role == "main"
    [(path, text)] = refusals(put(made, "/dev/db", role="dev"))
    assert path == "/role"
    assert "under the previous role, main." in text
    assert text.endswith("retry your request with ?force=true")
    assert put(made, "/dev/db", role="dev", force=True).status == 200
    settle(made, "dev")
    assert made.running("/dev/db") == [], "waits for the role that its volume is reserved for"
    made.start()
    assert roles_of(made) == ("dev", "main"), "its volume can only be offered in the old role"
    made.connect()
    assert put(made, "/dev/db", instances=2, force=True).status == 200
    settle(made, "dev")
    assert {each.role for each in made.core.state.residences.values()} == {"main", "dev"}


@pytest.mark.parametrize(
    ("role", "accepted", "path", "text"),
    [
        ("*", None, "/role", "Resident apps cannot have the role *"),
        (
            "main",
            ["main"],
            "/acceptedResourceRoles",
            'A resident app must have `acceptedResourceRoles = ["*"]`.',
        ),
    ],
)
def test_residents_need_a_role_and_unreserved_resources(
    role: str, accepted: list[str] | None, path: str, text: str
) -> None:
    body = resident() if accepted is None else resident(acceptedResourceRoles=accepted)
    [(found, said)] = refusals(create(world(role), "/db", **body))
    assert (found, said[: len(text)]) == (path, text)


# -- records of before --------------------------------------------------------------------------


def test_apps_stored_without_a_role_have_that_of_the_flag_and_do_not_restart() -> None:
    made = world("main")
    create(made, "/web")
    settle(made, "main")
    [path] = [path for path in made.store if path.startswith("apps/")]
    stored = repository.read(made.store[path], AppDefinition)
    assert stored.role == "main"
    made.store[path] = made.store[path].replace(b'"role":"main"', b'"role":null')
    made.start()
    made.connect()
    assert role_of(made, "/web") == "main"
    before = made.running("/web")
    assert put(made, "/web", cmd="sleep 1000").status == 200
    made.feed(Tick())
    assert made.core.state.deployments == {}
    assert made.running("/web") == before
