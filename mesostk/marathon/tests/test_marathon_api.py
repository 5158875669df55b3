"""The HTTP edge: statuses, headers and bodies of spec/marathon §1, over a real server."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from mesostk.base.http import BasicAuth
from mesostk.marathon.tests.rig import MAX_BODY, Rig

HELLO = {"id": "hello2", "cmd": "echo hello; sleep 10", "mem": 16, "cpus": 0.1, "ports": [0]}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.start()
    rig.leader = "me:8080"
    yield rig
    await rig.stop()


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(rig.server.url) as session:
        yield session


async def answer(response: aiohttp.ClientResponse) -> tuple[int, object]:
    return response.status, msgspec.json.decode(await response.read())


async def test_create_answers_201_with_the_headers_of_the_tutorial(
    client: aiohttp.ClientSession,
) -> None:
    response = await client.post("/v2/apps", json=HELLO)
    assert response.status == 201
    headers = response.headers
    assert headers["X-Marathon-Leader"] == "http://me:8080"
    assert headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
    assert (headers["Pragma"], headers["Expires"]) == ("no-cache", "0")
    assert headers["Location"] == f"http://{response.url.host}:{response.url.port}/v2/apps/hello2"
    assert headers["Content-Type"] == "application/json; qs=2"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/v2/apps/no", None, 404, "App '/no' does not exist"),
        ("GET", "/v2/apps/no/such/app", None, 404, "App '/no/such/app' does not exist"),
        ("GET", "/v2/apps/no/tasks", None, 404, "App '/no' does not exist"),
        ("GET", "/v2/apps/no/versions", None, 404, "App '/no' does not exist"),
        ("GET", "/v2/groups/no", None, 404, "Group '/no' does not exist"),
        ("GET", "/v3/apps", None, 404, "URI not found: /v3/apps"),
        ("POST", "/v2/apps", b"{", 400, "Invalid JSON"),
        ("POST", "/v2/apps", b"\xff\xfe", 400, "Invalid JSON"),
        ("POST", "/v2/apps", b"[" * 50_000, 400, "Invalid JSON"),
        ("POST", "/v2/apps", b"[]", 400, "Invalid JSON"),
        ("POST", "/v2/apps", b'{"id": 5}', 400, "Invalid JSON"),
        ("POST", "/v2/apps", b'{"id": "a", "cmd": "x", "instances": -1}', 422,
         "Object is not valid"),
        ("POST", "/v2/apps", b'{"id": "a", "cmd": "x", "instanecs": 1}', 422,
         "Object is not valid"),
        ("PUT", "/v2/apps", b"{}", 400, "Invalid JSON"),
        ("PATCH", "/v2/apps/no", b"{}", 404, "App '/no' does not exist"),
        ("DELETE", "/v2/apps/no", None, 404, "App '/no' does not exist"),
        ("POST", "/v2/apps/no/restart", None, 404, "App '/no' does not exist"),
        ("POST", "/v2/tasks/delete", b'{"ids": 5}', 400, "Invalid JSON"),
        ("DELETE", "/v2/deployments/no", None, 404, "DeploymentPlan no does not exist"),
        ("DELETE", "/v2/queue/no/delay", None, 404,
         "Application /no not found in tasks queue."),
        ("GET", "/v2/apps?label=a(", None, 422, None),
        ("DELETE", "/v2/apps/x?force=perhaps", None, 400, None),
    ],
)  # fmt: skip
async def test_what_is_refused_says_so_in_the_original_form(
    client: aiohttp.ClientSession,
    method: str,
    path: str,
    body: bytes | None,
    status: int,
    message: str | None,
) -> None:
    headers = {"Content-Type": "application/json"}
    response = await client.request(method, path, data=body, headers=headers)
    got, document = await answer(response)
    assert got == status
    assert isinstance(document, dict)
    if message is not None:
        assert document["message"] == message
    assert response.headers["Cache-Control"].startswith("no-cache")


async def test_a_violation_names_its_path(client: aiohttp.ClientSession) -> None:
    broken = {**HELLO, "healthChecks": [{"portIndex": 5}]}
    _, document = await answer(await client.post("/v2/apps", json=broken))
    assert isinstance(document, dict)
    assert [each["path"] for each in document["details"]] == ["/healthChecks(0)/portIndex"]


async def test_a_body_beyond_the_limit_is_413(client: aiohttp.ClientSession) -> None:
    huge = {**HELLO, "labels": {"x": "y" * MAX_BODY}}
    assert (await client.post("/v2/apps", json=huge)).status == 413


async def test_another_content_type_is_415(client: aiohttp.ClientSession) -> None:
    response = await client.post("/v2/apps", data={"id": "form"})
    assert response.status == 415


async def test_a_method_that_is_not_there_is_405(client: aiohttp.ClientSession) -> None:
    await client.post("/v2/apps", json=HELLO)
    assert (await client.post("/v2/apps/hello2", json={})).status == 405
    assert (await client.put("/v2/deployments")).status == 405


async def test_an_app_is_read_scaled_and_deleted_by_its_path(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    await client.post("/v2/apps", json={**HELLO, "id": "/prod/web/hello2"})
    rig.world.settle(3)
    _, document = await answer(await client.get("/v2/apps/prod/web/hello2"))
    assert isinstance(document, dict)
    app = document["app"]
    assert app["tasksRunning"] == 1
    assert [task["state"] for task in app["tasks"]] == ["TASK_RUNNING"]
    assert app["deployments"] == []
    status, changed = await answer(
        await client.put("/v2/apps//prod/web/hello2", json={"instances": 3})
    )
    assert status == 200
    assert isinstance(changed, dict)
    assert set(changed) == {"version", "deploymentId"}
    rig.world.settle(3)
    _, tasks = await answer(await client.get("/v2/apps/prod/web/hello2/tasks"))
    assert isinstance(tasks, dict)
    assert len(tasks["tasks"]) == 3
    _, versions = await answer(await client.get("/v2/apps/prod/web/hello2/versions"))
    assert isinstance(versions, dict)
    assert len(versions["versions"]) == 2
    _, old = await answer(
        await client.get(f"/v2/apps/prod/web/hello2/versions/{versions['versions'][1]}")
    )
    assert isinstance(old, dict)
    assert old["instances"] == 1
    _, all_below = await answer(await client.get("/v2/apps/prod/*"))
    assert isinstance(all_below, dict)
    assert [each["id"] for each in all_below["*"]] == ["/prod/web/hello2"]
    task_id = tasks["tasks"][0]["id"]
    _, killed = await answer(await client.delete(f"/v2/apps/prod/web/hello2/tasks/{task_id}"))
    assert isinstance(killed, dict)
    assert killed["task"]["id"] == task_id
    assert (await client.delete("/v2/apps/prod/web/hello2")).status == 200
    rig.world.settle(3)
    assert not rig.world.tasks


async def test_apps_are_filtered_and_embed_what_is_asked_for(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    await client.post("/v2/apps", json={**HELLO, "labels": {"tier": "web"}})
    await client.post("/v2/apps", json={"id": "other", "cmd": "sleep 5"})
    rig.world.settle(3)
    for query, expected in [
        ("", ["/hello2", "/other"]),
        ("?id=HELLO", ["/hello2"]),
        ("?cmd=sleep", ["/hello2", "/other"]),
        ("?cmd=echo&id=other", []),
        ("?label=tier==web", ["/hello2"]),
        ("?label=!tier", None),
    ]:
        status, document = await answer(await client.get(f"/v2/apps{query}"))
        if expected is None:
            assert status == 422
            continue
        assert isinstance(document, dict)
        assert [app["id"] for app in document["apps"]] == expected
        assert all("tasks" not in app and "tasksRunning" in app for app in document["apps"])
    _, embedded = await answer(await client.get("/v2/apps?embed=apps.tasks&embed=nonsense"))
    assert isinstance(embedded, dict)
    assert [len(app["tasks"]) for app in embedded["apps"]] == [1, 1]


async def test_tasks_as_text_are_lines_of_service_ports(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    await client.post("/v2/apps", json={**HELLO, "id": "/a/hello", "ports": [10123]})
    await client.post("/v2/apps", json={"id": "portless", "cmd": "sleep 5", "ports": []})
    rig.world.settle(3)
    response = await client.get("/v2/tasks", headers={"Accept": "text/plain"})
    lines = sorted((await response.text()).splitlines())
    by_app = {i.app_id: i for i in rig.world.core.state.instances.values()}
    hello, portless = by_app["/a/hello"], by_app["/portless"]
    assert lines == [
        f"a_hello\t10123\t{hello.host}:{hello.ports[0]}\t",
        f"portless\t \t{portless.host}\t",
    ]


async def test_a_waiting_app_is_in_the_queue_with_its_reasons(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    await client.post("/v2/apps", json={**HELLO, "cpus": 99})
    rig.world.offer()
    _, document = await answer(await client.get("/v2/queue?embed=lastUnusedOffers"))
    assert isinstance(document, dict)
    (item,) = document["queue"]
    assert (item["count"], item["app"]["id"]) == (1, "/hello2")
    assert item["delay"] == {"timeLeftSeconds": 0, "overdue": True}
    funnel = {
        each["reason"]: each["declined"]
        for each in item["processedOffersSummary"]["rejectSummaryLastOffers"]
    }
    assert funnel["InsufficientCpus"] == 3
    assert len(item["lastUnusedOffers"]) == 3
    _, deployments = await answer(await client.get("/v2/deployments"))
    assert isinstance(deployments, list)
    assert (deployments[0]["currentStep"], deployments[0]["totalSteps"]) == (2, 2)
    assert deployments[0]["affectedApps"] == ["/hello2"]


async def test_groups_show_the_tree(rig: Rig, client: aiohttp.ClientSession) -> None:
    await client.post("/v2/apps", json={**HELLO, "id": "/prod/web/hello2"})
    _, root = await answer(await client.get("/v2/groups"))
    assert isinstance(root, dict)
    assert root["groups"][0]["groups"][0]["apps"][0]["id"] == "/prod/web/hello2"
    _, names = await answer(await client.get("/v2/groups?embed=group.groups"))
    assert isinstance(names, dict)
    assert "apps" not in names
    _, apps = await answer(await client.get("/v2/groups/prod/apps"))
    assert isinstance(apps, list)
    assert len(apps) == 1
    _, versions = await answer(await client.get("/v2/groups/versions"))
    assert isinstance(versions, list)
    _, old = await answer(await client.get(f"/v2/groups/versions/{versions[0]}"))
    assert isinstance(old, dict)
    assert old["id"] == "/"


@pytest.mark.parametrize("path", ["/v2/apps", "/v2/apps/hello2", "/v2/groups", "/ping", "/ui/"])
async def test_head_answers_as_get_without_the_body(
    client: aiohttp.ClientSession, path: str
) -> None:
    await client.post("/v2/apps", json=HELLO)
    response = await client.head(path)
    assert response.status == 200
    assert await response.read() == b""


async def test_system_endpoints(rig: Rig, client: aiohttp.ClientSession) -> None:
    assert await (await client.get("/ping")).text() == "pong"
    assert await answer(await client.get("/v2/leader")) == (200, {"leader": "me:8080"})
    _, info = await answer(await client.get("/v2/info"))
    assert isinstance(info, dict)
    assert (info["frameworkId"], info["elected"], info["leader"]) == ("F1", True, "me:8080")
    assert "pw" not in info["zookeeper_config"]["zk"]
    _, metrics = await answer(await client.get("/metrics"))
    assert isinstance(metrics, dict)
    assert set(metrics) == {"version", "gauges", "counters", "histograms", "meters", "timers"}
    prometheus = await (await client.get("/metrics/prometheus")).text()
    assert "# TYPE" in prometheus
    response = await client.get("/", allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (302, "/ui/")
    assert await answer(await client.delete("/v2/leader")) == (
        200,
        {"message": "Leadership abdicated"},
    )
    assert rig.abdicated


async def test_a_role_that_the_master_refuses_is_in_info(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    _, info = await answer(await client.get("/v2/info"))
    assert isinstance(info, dict)
    assert "refusedRoles" not in info, "only where there is one"
    rig.world.refused_roles = {"dev"}
    assert (
        await client.post("/v2/apps", json={**HELLO, "id": "/dev/a", "role": "dev"})
    ).status == 201
    _, info = await answer(await client.get("/v2/info"))
    assert isinstance(info, dict)
    [refused] = info["refusedRoles"]
    assert (refused["role"], refused["reason"]) == ("dev", "Not authorized to use role 'dev'")
    assert refused["since"].endswith("Z")


async def test_the_page_runs_no_foreign_code(client: aiohttp.ClientSession) -> None:
    page = await client.get("/ui/")
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = await page.text()
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text
    for name in ("../core.py", "..%2fcore.py", "%2e%2e/core.py", "nothing.js"):
        assert (await client.get(f"/ui/{name}")).status == 404


async def test_every_module_of_the_page_is_there(client: aiohttp.ClientSession) -> None:
    seen, left = set[str](), ["main.js"]
    while left:
        name = left.pop()
        seen.add(name)
        answer = await client.get(f"/ui/{name}")
        assert (answer.status, answer.content_type) == (200, "text/javascript"), name
        found = re.findall(r'from "\./([a-z]+\.js)"', await answer.text())
        left += [each for each in found if each not in seen and each not in left]
    assert {"views.js", "model.js", "pods.js"} <= seen


async def test_cross_origin_callers_are_allowed_as_configured(
    client: aiohttp.ClientSession,
) -> None:
    asked = {"Access-Control-Request-Headers": "X-Mine"}
    response = await client.options("/v2/apps", headers=asked)
    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == "http://allowed"
    assert response.headers["Access-Control-Allow-Headers"] == "X-Mine"


async def test_credentials_are_asked_for() -> None:
    rig = Rig(auth=BasicAuth({"user": "pw"}, "Mesosphere"))
    await rig.start()
    try:
        async with aiohttp.ClientSession(rig.server.url) as client:
            response = await client.get("/ping")
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == 'Basic realm="Mesosphere"'
            proof = {"Authorization": f"Basic {base64.b64encode(b'user:pw').decode()}"}
            assert (await client.get("/ping", headers=proof)).status == 200
    finally:
        await rig.stop()


# -- standby ----------------------------------------------------------------------------------


@pytest.fixture
async def standby(rig: Rig) -> AsyncIterator[Rig]:
    standby = Rig(leads=False)
    await standby.start()
    standby.leader = f"127.0.0.1:{rig.server.port}"
    yield standby
    await standby.stop()


async def test_a_standby_answers_with_the_leaders_words(rig: Rig, standby: Rig) -> None:
    async with aiohttp.ClientSession(standby.server.url) as client:
        created = await client.post("/v2/apps", json=HELLO)
        assert created.status == 201
        assert "1.1 me:8080" in created.headers.getall("X-Marathon-Via")
        assert created.headers["X-Marathon-Leader"] == "http://me:8080"
        assert "/hello2" in rig.world.core.state.apps
        missing = await client.get("/v2/apps/no")
        assert await answer(missing) == (404, {"message": "App '/no' does not exist"})
        plain = await client.post("/v2/apps/hello2/restart?force=true")
        assert plain.status == 200


async def test_events_are_a_redirect_on_a_standby(rig: Rig, standby: Rig) -> None:
    async with aiohttp.ClientSession(standby.server.url) as client:
        response = await client.get("/v2/events?event_type=x", allow_redirects=False)
        assert response.status == 302
        expected = f"http://127.0.0.1:{rig.server.port}/v2/events?event_type=x"
        assert response.headers["Location"] == expected


async def test_a_loop_is_502(standby: Rig) -> None:
    async with aiohttp.ClientSession(standby.server.url) as client:
        looped = {"X-Marathon-Via": "1.1 other:8080, 1.1 me:8080"}
        response = await client.get("/ping", headers=looped)
        assert response.status == 502


async def test_no_leader_is_502_after_some_tries(standby: Rig) -> None:
    standby.leader = None
    async with aiohttp.ClientSession(standby.server.url) as client:
        status, document = await answer(await client.get("/ping"))
    assert status == 502
    assert document == {"message": "Could not determine the current leader"}


async def test_a_leader_that_comes_while_we_wait_is_used(rig: Rig, standby: Rig) -> None:
    leader, standby.leader = standby.leader, None
    async with aiohttp.ClientSession(standby.server.url) as client:
        request = asyncio.ensure_future(client.get("/ping"))
        asyncio.get_running_loop().call_later(0.1, setattr, standby, "leader", leader)
        assert (await request).status == 200


async def test_an_unreachable_leader_is_502(standby: Rig) -> None:
    standby.leader = "127.0.0.1:1"
    async with aiohttp.ClientSession(standby.server.url) as client:
        status, document = await answer(await client.get("/v2/apps"))
    assert status == 502
    assert isinstance(document, dict)
    assert "127.0.0.1:1" in document["message"]


async def test_an_agent_is_evacuated_and_no_longer(rig: Rig, client: aiohttp.ClientSession) -> None:
    nothing = {"agentId": "S9", "instances": []}
    for method in ("POST", "GET", "DELETE"):
        response = await client.request(method, "/v2/agents/S9/evacuate")
        assert await answer(response) == (200, nothing)


async def test_what_an_app_waits_for_is_told_to_who_asks(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    await client.post("/v2/apps", json=HELLO)
    why = await (await client.get("/v2/apps/hello2/why")).json()
    assert why["app"] == "/hello2"
    assert why["reasons"][0] == "0 of 1 instances launched"
    deployments = await (await client.get("/v2/deployments?embed=deployment.waiting")).json()
    assert deployments[0]["waiting"] == [why]
    plain = await (await client.get("/v2/deployments")).json()
    assert "waiting" not in plain[0]
    assert (await client.get("/v2/apps/none/why")).status == 404


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "inf", "nan"])
async def test_a_deployment_timeout_that_is_no_time_is_refused(
    client: aiohttp.ClientSession, text: str
) -> None:
    path = f"/v2/apps?deploymentTimeoutSeconds={text}"
    response = await client.post(path, json=HELLO)
    assert response.status == 400
    assert "deploymentTimeoutSeconds" in (await response.json())["message"]


async def test_a_dry_run_tells_the_plan_and_changes_nothing(client: aiohttp.ClientSession) -> None:
    response = await client.post("/v2/apps?dryRun=true", json=HELLO)
    assert response.status == 200
    plan = await response.json()
    assert plan["apps"][0]["change"] == "create"
    assert plan["apps"][0]["launch"] == 1
    assert (await client.get("/v2/apps/hello2")).status == 404
    await client.post("/v2/apps", json=HELLO)
    path = "/v2/apps/hello2?dryRun=true&force=true"
    plan = await (await client.put(path, json={"instances": 3})).json()
    assert (plan["apps"][0]["change"], plan["apps"][0]["fields"]) == ("scale", ["instances"])


# -- history, callbacks, logging --------------------------------------------------------------


async def test_the_history_tells_who_asked_and_is_limited(client: aiohttp.ClientSession) -> None:
    for name in ("a", "b", "c"):
        await client.post("/v2/apps", json={**HELLO, "id": name})
    status, body = await answer(await client.get("/v2/audit?limit=2"))
    assert status == 200
    entries = body["audit"]  # type: ignore[index] # JSON
    assert [each["changes"][0]["app"] for each in entries] == ["/c", "/b"]
    assert entries[0]["clientIp"] == "127.0.0.1"
    assert (entries[0]["method"], entries[0]["uri"]) == ("POST", "/v2/apps")
    status, body = await answer(await client.get("/v2/audit?app=a"))
    assert [each["changes"][0]["app"] for each in body["audit"]] == ["/a"]  # type: ignore[index]
    for wrong in ("0", "-1", "x", "999999"):
        assert (await client.get(f"/v2/audit?limit={wrong}")).status == 400


async def test_the_history_names_the_user_of_the_credentials() -> None:
    rig = Rig(auth=BasicAuth({"alice": "secret"}, "Mesosphere"))
    await rig.start()
    proof = f"Basic {base64.b64encode(b'alice:secret').decode()}"
    headers = {"Authorization": proof, "X-Forwarded-For": "10.0.3.9"}
    async with aiohttp.ClientSession(rig.server.url, headers=headers) as session:
        await session.post("/v2/apps", json=HELLO)
        _, body = await answer(await session.get("/v2/audit"))
    [entry] = body["audit"]  # type: ignore[index] # JSON
    assert (entry["user"], entry["forwardedFor"]) == ("alice", "10.0.3.9")
    await rig.stop()


async def test_callbacks_are_400_without_their_flag(client: aiohttp.ClientSession) -> None:
    assert (await client.get("/v2/eventSubscriptions")).status == 400
    assert (await client.post("/v2/eventSubscriptions?callbackUrl=http://a/")).status == 400
    assert (await client.post("/v2/eventSubscriptions")).status == 400
    assert (await client.delete("/v2/eventSubscriptions?callbackUrl=http://a/")).status == 400


async def test_log_levels_are_shown_and_changed_in_both_forms_of_the_original(
    rig: Rig, client: aiohttp.ClientSession
) -> None:
    _, before = await answer(await client.get("/logging"))
    assert before["ROOT"] == "INFO"  # type: ignore[index] # JSON
    change = {"level": "debug", "logger": "ROOT"}
    assert await answer(await client.post("/logging", json=change)) == (
        200,
        {"level": "DEBUG", "logger": "ROOT", "durationSeconds": None},
    )
    assert rig.log.level == "DEBUG"
    form = await client.post("/logging", data={"level": "warn", "logger": "ROOT"})
    assert form.status == 200
    assert rig.log.level == "WARNING"


async def test_a_log_level_for_a_while_goes_back(rig: Rig, client: aiohttp.ClientSession) -> None:
    change = {"level": "error", "logger": "ROOT", "durationSeconds": 1}
    # By now the second may be over.
    assert await answer(await client.post("/logging", json=change)) == (
        200,
        {"level": "ERROR", "logger": "ROOT", "durationSeconds": 1},
    )
    async with asyncio.timeout(60):
        while rig.log.level != "INFO":  # noqa: ASYNC110 - nothing tells of the end of the time
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"level": "loud"}, 422),
        ({"level": "info", "logger": "com.example"}, 422),
        ({"level": "info", "durationSeconds": 0}, 422),
        ({"level": "info", "durationSeconds": "x"}, 400),
        ({"level": "info", "loger": "ROOT"}, 422),
    ],
)
async def test_log_levels_that_make_no_sense_are_refused(
    client: aiohttp.ClientSession, body: dict[str, object], status: int
) -> None:
    assert (await client.post("/logging", json=body)).status == status


@pytest.mark.parametrize(
    "path", ["/v2/apps", "/v2/groups", "/v2/tasks", "/v2/deployments", "/v2/queue", "/v2/pods",
             "/v2/leader", "/v2/info", "/v2/plugins", "/ping", "/metrics"],
)  # fmt: skip
async def test_a_slash_behind_a_path_changes_nothing(
    client: aiohttp.ClientSession, path: str
) -> None:
    bare, slashed = await client.get(path), await client.get(path + "/")
    assert bare.status == slashed.status == 200
    if path != "/metrics":
        assert await bare.read() == await slashed.read()


async def test_more_requests_than_allowed_are_turned_away_until_one_is_done() -> None:
    rig = Rig(most=1)
    await rig.start()
    rig.world.hold_saves = True
    async with aiohttp.ClientSession(rig.server.url) as session:
        first = asyncio.create_task(session.post("/v2/apps", json=HELLO))
        async with asyncio.timeout(60):
            while not rig.world.held:  # noqa: ASYNC110 - the world tells nobody
                await asyncio.sleep(0.01)
        turned_away = await session.get("/v2/apps")
        assert turned_away.status == 503
        rig.world.release_saves()
        assert (await first).status == 201
        assert (await session.get("/v2/apps")).status == 200
    await rig.stop()
