"""A walk along spec/marathon §1: each row of its tables, asked over a real server.

A row names what it stands for, asks, and says the status and what the body must hold: keys of an
object, the beginning of a message, or the length of a list. The rows of §1.9 (events) and §1.10
(standbys) are in test_marathon_stream and test_marathon_api.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from mesostk.marathon.events import CreateApp, CreatePod, DeleteApp, PutApps
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.rig import Rig
from mesostk.wire.mesos import (
    CheckStatusCommand,
    CheckStatusHttp,
    CheckStatusInfo,
    CheckStatusTcp,
)

SLEEP: dict[str, Any] = {"cmd": "sleep 1000", "cpus": 0.1, "mem": 32}
POD: dict[str, Any] = {
    "id": "/g/pod", "containers": [{"name": "c", "exec": {"command": {"shell": "sleep 1000"}}}],
}  # fmt: skip

#: (row, method, path, body or None, status, what the answer holds)
Row = tuple[str, str, str, Any, int, Any]

RESULT = {"version", "deploymentId"}

#: The keys of the tutorial's time, and those since.
APP_KEYS = {
    "id", "cmd", "args", "env", "instances", "cpus", "mem", "uris", "fetch", "ports",
    "portDefinitions", "container", "healthChecks", "labels", "version", "networks", "role",
    "tasksRunning", "deployments",
}  # fmt: skip

ROWS: list[Row] = [
    # -- 1.2 error bodies ---------------------------------------------------------------------
    ("1.2 unparsable JSON", "POST", "/v2/apps", b"{", 400, "Invalid JSON"),
    ("1.2 wrong type", "POST", "/v2/apps", {"id": "x", "cpus": "a"}, 400, "Invalid JSON"),
    ("1.2 missing key", "PUT", "/v2/apps", [{"cmd": "x"}], 400, "Invalid JSON"),
    ("1.2 bad request", "DELETE", "/v2/apps/g/web/tasks?scale=true&wipe=true", None, 400,
     "You cannot use scale and wipe at the same time."),
    ("1.2 invalid task id", "POST", "/v2/tasks/delete", {"ids": ["nobody"]}, 400,
     "Invalid task id"),
    ("1.2 unknown task in a list", "POST", "/v2/tasks/delete",
     {"ids": ["a.instance-00000000-0000-4000-8000-000000000000._app.1"]}, 200, {"tasks"}),
    ("1.2 unknown route", "GET", "/v2/nothing", None, 404, "URI not found: /v2/nothing"),
    ("1.2 method", "PUT", "/v2/deployments", {}, 405, "405 Method Not Allowed"),
    ("1.2 accept", "GET", "/v2/apps accept:image/png", None, 406, "Expecting 'Accept'"),
    ("1.2 content type", "POST", "/v2/apps type:text/plain", b"x", 415, "Unsupported Media Type"),
    ("1.2 locked", "PUT", "/v2/apps/waiting", {"mem": 33}, 409,
     "App is locked by one or more deployments. Override with the option '?force=true'."),
    ("1.2 forced", "PUT", "/v2/apps/waiting?force=true", {"mem": 33}, 200, RESULT),
    ("1.2 exists", "POST", "/v2/apps", {"id": "/g/web", **SLEEP}, 409,
     "An app with id [/g/web] already exists."),
    ("1.2 invalid object", "POST", "/v2/apps", {"id": "/x"}, 422, "Object is not valid"),
    ("1.2 illegal argument", "GET", "/v2/apps?label=,", None, 422, "Can not parse label selector"),
    ("1.2 ports exhausted", "POST", "/v2/apps", {"id": "/x", **SLEEP, "ports": [0] * 11}, 500,
     "All ports in the range [10000-10010) are already in use"),
    # -- 1.3 apps -----------------------------------------------------------------------------
    ("1.3 list", "GET", "/v2/apps", None, 200, {"apps"}),
    ("1.3 list by cmd", "GET", "/v2/apps?cmd=SLEEP", None, 200, {"apps": 2}),
    ("1.3 list by id", "GET", "/v2/apps?id=WEB", None, 200, {"apps": 1}),
    ("1.3 list by label", "GET", "/v2/apps?label=tier%3D%3Dfront", None, 200, {"apps": 1}),
    ("1.3 filters are and-ed", "GET", "/v2/apps?id=web&label=%21x,tier%20in%20(back)", None, 422,
     "Can not parse"),
    ("1.3 filters that exclude", "GET", "/v2/apps?id=web&label=tier%20in%20(back)", None, 200,
     {"apps": 0}),
    ("1.3 create", "POST", "/v2/apps", {"id": "/new", **SLEEP}, 201, APP_KEYS),
    ("1.3 bulk upsert", "PUT", "/v2/apps", [{"id": "/a", **SLEEP}, {"id": "/b", **SLEEP}], 200,
     RESULT),
    ("1.3 bulk, partial", "PUT", "/v2/apps?partialUpdate=true", [{"id": "/g/web", "mem": 33}], 200,
     RESULT),
    ("1.3 bulk patch", "PATCH", "/v2/apps", [{"id": "/g/web", "mem": 33}], 200, RESULT),
    ("1.3 bulk patch unknown", "PATCH", "/v2/apps", [{"id": "/no"}], 404,
     "App '/no' does not exist"),
    ("1.3 get", "GET", "/v2/apps/g/web", None, 200, {"app"}),
    ("1.3 get unknown", "GET", "/v2/apps/no", None, 404, "App '/no' does not exist"),
    ("1.3 get below a group", "GET", "/v2/apps/g/*", None, 200, {"*": 1}),
    ("1.3 get below the root", "GET", "/v2/apps/*", None, 200, {"*": 2}),
    ("1.3 put changes", "PUT", "/v2/apps/g/web", {"mem": 33}, 200, RESULT),
    ("1.3 put creates", "PUT", "/v2/apps/new", SLEEP, 201, RESULT),
    ("1.3 put with its id", "PUT", "/v2/apps/g/web", {"id": "g/web", "mem": 33}, 200, RESULT),
    ("1.3 put with another id", "PUT", "/v2/apps/g/web", {"id": "/x"}, 400, "Invalid JSON"),
    ("1.3 put a version", "PUT", "/v2/apps/g/web", {"version": "{version}"}, 200, RESULT),
    ("1.3 put an unknown version", "PUT", "/v2/apps/g/web",
     {"version": "2001-01-01T00:00:00.000Z"}, 404, "App '/g/web' does not exist in version"),
    ("1.3 put a version and more", "PUT", "/v2/apps/g/web",
     {"version": "2001-01-01T00:00:00.000Z", "mem": 33}, 422,
     ("/", "The 'version' field may only be combined with the 'id' field.")),
    ("1.3 put as it was read", "PUT", "/v2/apps/g/web", {"version": "{version}", "mem": 33}, 200,
     RESULT),
    ("1.3 put a whole definition", "PUT", "/v2/apps/g/web?partialUpdate=false", SLEEP, 200, RESULT),
    ("1.3 put less than a whole one", "PUT", "/v2/apps/g/web?partialUpdate=false", {"mem": 1}, 422,
     "Object is not valid"),
    ("1.3 cmd and args exclude each other", "PUT", "/v2/apps/g/web", {"args": ["x"]}, 422,
     "Object is not valid"),
    ("1.3 patch", "PATCH", "/v2/apps/g/web", {"mem": 33}, 200, RESULT),
    ("1.3 patch unknown", "PATCH", "/v2/apps/no", {"mem": 33}, 404, "App '/no' does not exist"),
    ("1.3 an empty deployment", "PUT", "/v2/apps/g/web", {}, 200, RESULT),
    ("1.3 delete", "DELETE", "/v2/apps/g/web", None, 200, RESULT),
    ("1.3 delete forces", "DELETE", "/v2/apps/waiting", None, 200, RESULT),
    ("1.3 delete without force", "DELETE", "/v2/apps/waiting?force=false", None, 409,
     "App is locked"),
    ("1.3 restart", "POST", "/v2/apps/g/web/restart", None, 200, RESULT),
    ("1.3 restart locked", "POST", "/v2/apps/waiting/restart", None, 409, "App is locked"),
    ("1.3 versions", "GET", "/v2/apps/g/web/versions", None, 200, {"versions": 1}),
    ("1.3 version", "GET", "/v2/apps/g/web/versions/{version}", None, 200, {"id", "cmd"}),
    ("1.3 no version", "GET", "/v2/apps/g/web/versions/x", None, 404, "App '/g/web' does not"),
    ("1.3 tasks", "GET", "/v2/apps/g/web/tasks", None, 200, {"tasks": 2}),
    ("1.3 tasks below a group", "GET", "/v2/apps/g/*/tasks", None, 200, {"tasks": 2}),
    ("1.3 kill all", "DELETE", "/v2/apps/g/web/tasks", None, 200, {"tasks": 2}),
    ("1.3 kill on any host", "DELETE", "/v2/apps/g/web/tasks?host=*", None, 200, {"tasks": 2}),
    ("1.3 kill on no host", "DELETE", "/v2/apps/g/web/tasks?host=none", None, 200, {"tasks": 0}),
    ("1.3 kill and scale", "DELETE", "/v2/apps/g/web/tasks?scale=true", None, 200, RESULT),
    ("1.3 kill and wipe", "DELETE", "/v2/apps/g/web/tasks?wipe=true", None, 200, {"tasks": 2}),
    ("1.3 kill one", "DELETE", "/v2/apps/g/web/tasks/{task}", None, 200, {"task"}),
    ("1.3 kill one and scale", "DELETE", "/v2/apps/g/web/tasks/{task}?scale=true", None, 200,
     RESULT),
    ("1.3 kill none", "DELETE", "/v2/apps/g/web/tasks/x", None, 404, "Task 'x' does not exist"),
    # -- 1.5 tasks, deployments, queue ----------------------------------------------------------
    ("1.5 tasks", "GET", "/v2/tasks", None, 200, {"tasks": 2}),
    ("1.5 running tasks", "GET", "/v2/tasks?status=running", None, 200, {"tasks": 2}),
    ("1.5 staging tasks", "GET", "/v2/tasks?status[]=staging", None, 200, {"tasks": 0}),
    ("1.5 both", "GET", "/v2/tasks?status=staging&status=running", None, 200, {"tasks": 2}),
    ("1.5 tasks as text", "GET", "/v2/tasks accept:text/plain", None, 200, "g_web\t10000\tagent"),
    ("1.5 delete tasks", "POST", "/v2/tasks/delete", {"ids": ["{task}"]}, 200, {"tasks": 1}),
    ("1.5 delete tasks, scale", "POST", "/v2/tasks/delete?scale=true", {"ids": ["{task}"]}, 200,
     RESULT),
    ("1.5 delete tasks, wipe", "POST", "/v2/tasks/delete?wipe=true", {"ids": ["{task}"]}, 200,
     {"tasks": 1}),
    ("1.5 delete tasks, both", "POST", "/v2/tasks/delete?wipe=true&scale=true", {"ids": []}, 400,
     "You cannot use scale and wipe"),
    ("1.5 deployments", "GET", "/v2/deployments", None, 200, 1),
    ("1.5 revert", "DELETE", "/v2/deployments/{deployment}", None, 200, RESULT),
    ("1.5 cancel", "DELETE", "/v2/deployments/{deployment}?force=true", None, 202, b""),
    ("1.5 no deployment", "DELETE", "/v2/deployments/x", None, 404,
     "DeploymentPlan x does not exist"),
    ("1.5 queue", "GET", "/v2/queue", None, 200, {"queue": 1}),
    ("1.5 queue with offers", "GET", "/v2/queue?embed=lastUnusedOffers", None, 200, {"queue": 1}),
    ("1.5 delay", "DELETE", "/v2/queue/waiting/delay", None, 204, b""),
    ("1.5 no delay", "DELETE", "/v2/queue//no/delay", None, 404,
     "Application /no not found in tasks queue."),
    # -- 1.6 groups ---------------------------------------------------------------------------
    ("1.6 root", "GET", "/v2/groups", None, 200, {"id", "apps", "groups", "pods", "version"}),
    ("1.6 group", "GET", "/v2/groups/g", None, 200, {"id", "apps", "dependencies"}),
    ("1.6 only groups", "GET", "/v2/groups?embed=group.groups", None, 200, {"groups"}),
    ("1.6 no group", "GET", "/v2/groups/no", None, 404, "Group '/no' does not exist"),
    ("1.6 apps of a group", "GET", "/v2/groups/g/apps", None, 200, 1),
    ("1.6 apps of the root", "GET", "/v2/groups/apps?embed=group.apps.tasks", None, 200, 2),
    ("1.6 versions", "GET", "/v2/groups/g/versions", None, 200, 2),
    ("1.6 versions of the root", "GET", "/v2/groups/versions", None, 200, 3),
    ("1.6 version", "GET", "/v2/groups/versions/{root}", None, 200, {"apps", "groups"}),
    ("1.6 version with less", "GET", "/v2/groups/versions/{root}?embed=group.pods", None, 200,
     {"pods"}),
    ("1.6 no version", "GET", "/v2/groups/versions/x", None, 404, "Group '/' does not exist in"),
    ("1.6 create", "POST", "/v2/groups", {"id": "/new"}, 201, RESULT),
    ("1.6 create below", "POST", "/v2/groups/g", {"id": "new"}, 201, RESULT),
    ("1.6 create again", "POST", "/v2/groups", {"id": "/g"}, 409,
     "Group /g is already created. Use PUT to change this group."),
    ("1.6 create over an app", "POST", "/v2/groups", {"id": "/waiting"}, 409,
     "An app with the path /waiting already exists."),
    ("1.6 put", "PUT", "/v2/groups/g", {"dependencies": []}, 200, RESULT),
    ("1.6 put a new one", "PUT", "/v2/groups/new", {"apps": [{"id": "a", **SLEEP}]}, 200, RESULT),
    ("1.6 dry run", "PUT", "/v2/groups/g?dryRun=true", {"scaleBy": 2}, 200, {"steps": 1}),
    ("1.6 scale", "PUT", "/v2/groups/g", {"scaleBy": 1.5}, 200, RESULT),
    ("1.6 scale with content", "PUT", "/v2/groups/g", {"scaleBy": 2, "apps": []}, 422,
     "Object is not valid"),
    ("1.6 roll back", "PUT", "/v2/groups?force=true", {"version": "{root}"}, 200, RESULT),
    ("1.6 locked", "PUT", "/v2/groups", {"apps": []}, 409, "App is locked"),
    ("1.6 forced", "PUT", "/v2/groups?force=true", {"apps": []}, 200, RESULT),
    ("1.6 enforce", "PATCH", "/v2/groups/g", {"enforceRole": True}, 200, b""),
    ("1.6 delete", "DELETE", "/v2/groups/g", None, 200, RESULT),
    ("1.6 delete locked", "DELETE", "/v2/groups", None, 409, "App is locked"),
    ("1.6 delete all", "DELETE", "/v2/groups?force=true", None, 200, RESULT),
    ("1.6 app and group of one path", "PUT", "/v2/groups/g", {"groups": [{"id": "web"}]}, 422,
     ("/", "Groups and Applications may not have the same identifier")),
    ("1.6 cycle", "PUT", "/v2/groups/c",
     {"apps": [{"id": "a", **SLEEP, "dependencies": ["b"]},
               {"id": "b", **SLEEP, "dependencies": ["../c/a"]}]}, 422,
     ("/", "Dependency graph has cyclic dependencies.")),
    # -- 1.7 pods -----------------------------------------------------------------------------
    ("1.7 probe", "HEAD", "/v2/pods", None, 200, b""),
    ("1.7 create", "POST", "/v2/pods", {**POD, "id": "/new"}, 201, {"id", "containers"}),
    ("1.7 list", "GET", "/v2/pods", None, 200, 1),
    ("1.7 get", "GET", "/v2/pods/g/pod", None, 200, {"id", "containers", "scaling", "role"}),
    ("1.7 no pod", "GET", "/v2/pods/no", None, 404, "Pod '/no' does not exist"),
    ("1.7 put", "PUT", "/v2/pods/g/pod", {**POD, "labels": {"a": "b"}}, 200, {"id", "labels"}),
    ("1.7 put another id", "PUT", "/v2/pods/g/pod", {**POD, "id": "/x"}, 400,
     "'/g/pod' does not match definition's id ('/x')"),
    ("1.7 put unknown", "PUT", "/v2/pods/no", {**POD, "id": "/no"}, 404, "Pod '/no' does not"),
    ("1.7 delete", "DELETE", "/v2/pods/g/pod", None, 202, b""),
    ("1.7 all statuses", "GET", "/v2/pods/::status", None, 200, 1),
    ("1.7 status", "GET", "/v2/pods/g/pod::status", None, 200, {"id", "spec", "status"}),
    ("1.7 versions", "GET", "/v2/pods/g/pod::versions", None, 200, 1),
    ("1.7 version", "GET", "/v2/pods/g/pod::versions/{pod_version}", None, 200, {"id"}),
    ("1.7 kill some", "DELETE", "/v2/pods/g/pod::instances?wipe=true", ["{instance}"], 200, 1),
    ("1.7 kill one", "DELETE", "/v2/pods/g/pod::instances/{instance}", None, 200, {"id"}),
    # -- 1.8 system ---------------------------------------------------------------------------
    ("1.8 info", "GET", "/v2/info", None, 200,
     {"name", "version", "buildref", "elected", "leader", "frameworkId", "marathon_config",
      "zookeeper_config", "http_config", "event_subscriber"}),
    ("1.8 leader", "GET", "/v2/leader", None, 200, {"leader"}),
    ("1.8 abdicate", "DELETE", "/v2/leader", None, 200, "Leadership abdicated"),
    ("1.8 abdicate with a backup", "DELETE", "/v2/leader?backup=file:///tmp/b", None, 200,
     "Leadership abdicated"),
    ("1.8 backup to s3", "DELETE", "/v2/leader?backup=s3://b/x", None, 422,
     ("/backup", "Invalid URI or unsupported scheme: s3://b/x")),
    ("1.8 plugins", "GET", "/v2/plugins", None, 200, {"plugins": 0}),
    ("1.8 a plugin", "POST", "/v2/plugins/p/x", None, 404, "No plugin with id p"),
    ("1.8 ping", "GET", "/ping", None, 200, "pong"),
    ("1.8 ping as JSON", "GET", "/ping accept:application/json", None, 200, '"pong"'),
    ("1.8 root", "GET", "/", None, 302, b""),
    ("1.8 metrics", "GET", "/metrics", None, 200,
     {"version", "gauges", "counters", "histograms", "meters", "timers"}),
    ("1.8 prometheus", "GET", "/metrics/prometheus", None, 200, "# "),
    ("1.8 logging", "GET", "/logging", None, 200, {"ROOT"}),
    ("1.8 set a level", "POST", "/logging", {"level": "debug", "logger": "ROOT"}, 200, None),
    ("1.8 help", "GET", "/help", None, 200, "<!DOCTYPE html>"),
    ("1.8 config", "GET", "/config", None, 200, {"flags"}),
    ("1.8 schema of apps", "GET", "/v2/schemas/app", None, 200, {"$schema", "properties"}),
    ("1.8 schema of pods", "GET", "/v2/schemas/pod", None, 200, {"$schema", "properties"}),
    ("1.8 schema of groups", "GET", "/v2/schemas/group", None, 200, {"$schema", "properties"}),
    ("1.8 no other schema", "GET", "/v2/schemas/x", None, 404, "No schema of x; there are app"),
    ("1.8 artifacts are gone", "POST", "/v2/artifacts", None, 404, "There is no artifact store"),
    ("1.8 an artifact", "GET", "/v2/artifacts/a/b", None, 404, "There is no artifact store"),
    ("1.8 no callbacks", "POST", "/v2/eventSubscriptions?callbackUrl=http://h/", None, 400,
     "http event callback system is not running"),
    ("1.9 events need their type", "GET", "/v2/events accept:application/json", None, 405,
     "Expecting 'Accept'"),
]  # fmt: skip


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """/g/web runs twice, /g/pod once, /waiting fits nowhere."""
    rig = Rig(settings=Settings(local_port_max=10_010))
    await rig.start()
    rig.leader = "me:8080"
    world = rig.world
    web = {"id": "/g/web", **SLEEP, "instances": 2, "ports": [0], "labels": {"tier": "front"}}
    for command, body in ((CreateApp, web), (CreatePod, POD)):
        assert world.ask(command, body=body).status == 201
    world.settle(3)
    assert world.ask(CreateApp, body={"id": "/waiting", **SLEEP, "cpus": 1000}).status == 201
    world.settle(1)
    world.requests = 0  # the server counts from here
    world.replies.clear()
    yield rig
    await rig.stop()


def names_of(rig: Rig) -> dict[str, str]:
    """What rows call by a name: ids and versions of this run."""
    state = rig.world.core.state
    [pod] = state.of_app("/g/pod")
    return {
        "task": state.of_app("/g/web")[0].task_id,
        "instance": pod.id,
        "deployment": next(iter(state.deployments)),
        "version": next(iter(state.versions["/g/web"])),
        "pod_version": next(iter(state.versions["/g/pod"])),
        "root": state.root.version,
    }


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    return [filled(each, names) for each in value] if isinstance(value, list) else value


def check(wanted: Any, raw: bytes) -> None:
    """The body holds what the row says."""
    if isinstance(wanted, bytes) or wanted is None:
        assert wanted is None or raw == wanted
        return
    if isinstance(wanted, str) and not raw.startswith(b"{"):
        assert raw.decode().startswith(wanted)
        return
    body = msgspec.json.decode(raw)
    match wanted:
        case str():
            assert body["message"].startswith(wanted)
        case (path, text):
            assert [each["path"] for each in body["details"]] == [path]
            assert body["details"][0]["errors"][0].startswith(text)
        case int():
            assert len(body) == wanted
        case set():
            assert wanted <= body.keys()
        case dict():
            assert {key: len(body[key]) for key in wanted} == wanted


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
async def test_row(rig: Rig, row: Row) -> None:
    _, method, path, body, status, wanted = row
    path, *extra = filled(path, names_of(rig)).split(" ")
    headers = {}
    for each in extra:
        name, _, value = each.partition(":")
        headers["Accept" if name == "accept" else "Content-Type"] = value
    body = filled(body, names_of(rig))
    kwargs: dict[str, Any] = {"headers": headers, "allow_redirects": False}
    if body is not None:
        kwargs["data"] = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers.setdefault("Content-Type", "application/json")
    async with aiohttp.ClientSession(rig.server.url) as session:
        answer = await session.request(method, path, **kwargs)
        raw = await answer.read()
    assert answer.status == status, raw
    check(wanted, raw)
    # 1.1: on every answer of a leader
    assert answer.headers["X-Marathon-Leader"] == "http://me:8080"
    assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
    assert (answer.headers["Pragma"], answer.headers["Expires"]) == ("no-cache", "0")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-XSS-Protection"] == "1; mode=block"
    assert answer.headers["Server"].startswith("mesostk/")
    if wanted is RESULT:
        deployment = msgspec.json.decode(raw)["deploymentId"]
        assert answer.headers["Marathon-Deployment-Id"] == deployment
    if status == 201:
        assert answer.headers["Location"].startswith(rig.server.url)


# -- 1.4 and 1.9: what needs a course of events ---------------------------------------------------


def told(rig: Rig, kind: str) -> list[Any]:
    """Events of a type, in order."""
    return [each.event for each in rig.world.emitted if each.event.__struct_config__.tag == kind]


async def test_1_9_health_checks_are_told_when_they_come_and_go(rig: Rig) -> None:
    world = rig.world
    check = {"protocol": "TCP", "gracePeriodSeconds": 1}
    world.ask(CreateApp, body={"id": "/c", **SLEEP, "ports": [0], "healthChecks": [check]})
    [added] = told(rig, "add_health_check_event")
    assert (added.app_id, added.version) == ("/c", world.core.state.apps["/c"].version)
    assert added.health_check.protocol == "TCP"
    world.settle(3)
    for instance in world.core.state.of_app("/c"):
        world.probe(instance.id, alive=True)
    assert world.ask(PutApps, bodies=({"instances": 2},), app_id="/c").status == 200
    assert len(told(rig, "add_health_check_event")) == 1, "nothing but their number changed"
    assert told(rig, "remove_health_check_event") == []
    world.ask(DeleteApp, app_id="/c", force=True)
    world.settle(5)
    assert [each.app_id for each in told(rig, "remove_health_check_event")] == ["/c"]


async def test_1_9_a_change_that_is_refused_is_told(rig: Rig) -> None:
    reply = rig.world.ask(PutApps, bodies=({"mem": 33},), app_id="/waiting")
    assert reply.status == 409
    [failed] = told(rig, "group_change_failed")
    assert failed.group_id == "/"
    assert failed.reason.startswith("App is locked")


async def test_1_4_a_task_shows_what_its_check_saw(rig: Rig) -> None:
    world = rig.world
    task = world.running("/g/web")[0]
    for seen, shown in (
        (CheckStatusInfo(http=CheckStatusHttp(status_code=204)), {"http": {"statusCode": 204}}),
        (CheckStatusInfo(tcp=CheckStatusTcp(succeeded=False)), {"tcp": {"succeeded": False}}),
        (CheckStatusInfo(command=CheckStatusCommand(exit_code=0)), {"command": {"exitCode": 0}}),
    ):
        world.update(task, "TASK_RUNNING", check=seen)
        world.feed()
        async with aiohttp.ClientSession(rig.server.url) as session:
            body = await (await session.get("/v2/tasks")).json(content_type=None)
        assert [each.get("checkResult") for each in body["tasks"] if each["id"] == task] == [shown]


async def test_1_5_text_tells_endpoints_in_container_networks_to_who_asks(rig: Rig) -> None:
    world = rig.world
    mappings = [{"containerPort": 80}, {"containerPort": 81, "hostPort": 0}]
    network = {"mode": "container", "name": "dmz"}
    container = {"type": "MESOS", "portMappings": mappings}
    body = {"id": "/n", **SLEEP, "networks": [network], "container": container}
    assert world.ask(CreateApp, body=body).status == 201
    world.settle(3)
    [task] = world.running("/n")
    world.update(task, "TASK_RUNNING", address="10.9.0.7")
    world.feed()
    [instance] = world.core.state.of_app("/n")
    published = f"{instance.host}:{instance.ports[0]}"
    for query, ends in (
        ("", ["", published]),
        ("?containerNetworks=other", ["", published]),
        ("?containerNetworks=other,dmz", ["10.9.0.7:80", "10.9.0.7:81"]),
        ("?containerNetworks=*", ["10.9.0.7:80", "10.9.0.7:81"]),
    ):
        async with aiohttp.ClientSession(rig.server.url) as session:
            answer = await session.get(f"/v2/apps/n/tasks{query}", headers={"Accept": "text/plain"})
            lines = (await answer.text()).splitlines()
        assert ["\t".join(line.split("\t")[2:]).strip() for line in lines] == ends


#: Keys of `/v2/info`, as the original has them.
MARATHON_CONFIG = """
    access_control_allow_origin checkpoint decline_offer_duration default_network_name
    env_vars_prefix executor failover_timeout features framework_name ha hostname launch_token
    launch_token_refresh_interval leader_proxy_connection_timeout_ms leader_proxy_read_timeout_ms
    local_port_max local_port_min master max_instances_per_offer mesos_bridge_name
    mesos_heartbeat_failure_threshold mesos_heartbeat_interval mesos_leader_ui_url mesos_role
    mesos_user min_revive_offers_interval new_group_enforce_role offer_matching_timeout
    on_elected_prepare_timeout reconciliation_initial_delay reconciliation_interval
    scale_apps_initial_delay scale_apps_interval store_cache task_launch_confirm_timeout
    task_launch_timeout task_lost_expunge_initial_delay task_lost_expunge_interval
    task_reservation_timeout webui_url
"""
ZOOKEEPER_CONFIG = """
    zk zk_compression zk_compression_threshold zk_connection_timeout zk_max_node_size
    zk_max_versions zk_session_timeout zk_timeout
"""


async def test_1_8_the_configuration_shows_no_password(rig: Rig) -> None:
    async with aiohttp.ClientSession(rig.server.url) as session:
        text = await (await session.get("/config")).text()
        info = await (await session.get("/v2/info")).text()
    document = msgspec.json.decode(info)
    assert sorted(document["marathon_config"]) == MARATHON_CONFIG.split()
    assert sorted(document["zookeeper_config"]) == ZOOKEEPER_CONFIG.split()
    async with aiohttp.ClientSession(rig.server.url) as session:
        page = await (await session.get("/help")).text()
    assert '"zk":"zk://****@h:1/m"' in text
    assert "pw" not in text
    assert "u:pw" not in info
    assert "/v2/apps/{tail}" in page
