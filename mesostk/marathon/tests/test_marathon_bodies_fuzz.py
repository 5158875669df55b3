"""Bodies that are JSON and mean nothing: a documented status, and every view is there after.

Every body of /v2 that changes something, with something else in one to three of its places, over
a real server; what is accepted is deployed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from hypothesis import given
from hypothesis import strategies as st

from mesostk.marathon.tests.rig import Rig
from mesostk.testing.hostile import altered, fuzz

APP: dict[str, Any] = {
    "id": "/a",
    "cmd": "x",
    "cpus": 0.1,
    "mem": 16,
    "disk": 1,
    "instances": 1,
    "env": {"A": "b"},
    "labels": {"k": "v"},
    "constraints": [["hostname", "UNIQUE"], ["rack", "MAX_PER", "2"]],
    "fetch": [{"uri": "http://127.0.0.1/x", "extract": True, "destPath": "y"}],
    "portDefinitions": [{"port": 0, "protocol": "tcp", "name": "n", "labels": {"a": "b"}}],
    "container": {
        "type": "MESOS",
        "volumes": [{"containerPath": "d", "mode": "RW", "hostPath": "h"}],
    },
    "healthChecks": [
        {
            "protocol": "HTTP",
            "path": "/",
            "portIndex": 0,
            "gracePeriodSeconds": 1,
            "intervalSeconds": 1,
            "timeoutSeconds": 1,
            "maxConsecutiveFailures": 1,
        },
        {"protocol": "COMMAND", "command": {"value": "true"}},
    ],
    "readinessChecks": [
        {
            "name": "r",
            "protocol": "HTTP",
            "path": "/",
            "portName": "n",
            "intervalSeconds": 3,
            "timeoutSeconds": 1,
            "httpStatusCodesForReady": [200],
        }
    ],
    "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.2},
    "dependencies": ["/b"],
    "backoffSeconds": 1,
    "backoffFactor": 1.2,
    "maxLaunchDelaySeconds": 5,
    "unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2},
    "killSelection": "OLDEST_FIRST",
    "taskKillGracePeriodSeconds": 2,
    "acceptedResourceRoles": ["*"],
    "role": "*",
    "user": "u",
    "networks": [{"mode": "host"}],
    "requirePorts": False,
    "resourceLimits": {"cpus": 1, "mem": "unlimited"},
}
SIMPLE: dict[str, Any] = {"id": "/b", "cmd": "x", "cpus": 0.1, "mem": 16}
DOCK: dict[str, Any] = {
    "id": "/c",
    "cpus": 0.1,
    "mem": 16,
    "args": ["x"],
    "container": {
        "type": "DOCKER",
        "docker": {
            "image": "i",
            "network": "BRIDGE",
            "portMappings": [
                {"containerPort": 1, "hostPort": 0, "servicePort": 0, "protocol": "tcp"}
            ],
            "parameters": [{"key": "k", "value": "v"}],
            "privileged": False,
        },
        "volumes": [{"containerPath": "/d", "hostPath": "/h", "mode": "RO"}],
    },
}
GROUP: dict[str, Any] = {
    "id": "/g",
    "dependencies": ["/b"],
    "apps": [{**SIMPLE, "id": "x"}, {**DOCK, "id": "y", "dependencies": ["../g/x"]}],
    "groups": [{"id": "s", "apps": [{**SIMPLE, "id": "z"}]}],
    "pods": [],
}
RES: dict[str, Any] = {
    "id": "/g/e",
    "cmd": "x",
    "cpus": 0.1,
    "mem": 16,
    "container": {
        "type": "MESOS",
        "volumes": [{"containerPath": "d", "mode": "RW", "persistent": {"size": 10}}],
    },
    "residency": {"relaunchEscalationTimeoutSeconds": 1, "taskLostBehavior": "WAIT_FOREVER"},
    "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0},
}
POD: dict[str, Any] = {
    "id": "/p",
    "labels": {"a": "b"},
    "version": "2016-06-20T12:00:00.000Z",
    "user": "u",
    "environment": {"A": "b"},
    "containers": [
        {
            "name": "c1",
            "exec": {"command": {"shell": "x"}},
            "resources": {"cpus": 0.1, "mem": 16, "disk": 0, "gpus": 0},
            "endpoints": [{"name": "e", "hostPort": 0, "protocol": ["tcp"]}],
            "image": {"kind": "DOCKER", "id": "i"},
            "healthCheck": {"http": {"endpoint": "e", "path": "/"}, "gracePeriodSeconds": 1},
            "volumeMounts": [{"name": "v", "mountPath": "m"}],
            "artifacts": [{"uri": "http://127.0.0.1/"}],
            "lifecycle": {"killGracePeriodSeconds": 1},
            "environment": {"B": "c"},
        }
    ],
    "networks": [{"mode": "host"}],
    "volumes": [{"name": "v", "host": "/h"}],
    "scaling": {"kind": "fixed", "instances": 1},
    "scheduling": {
        "backoff": {"backoff": 1, "backoffFactor": 1.1, "maxLaunchDelay": 5},
        "upgrade": {"minimumHealthCapacity": 1, "maximumOverCapacity": 0},
        "placement": {
            "constraints": [{"fieldName": "hostname", "operator": "UNIQUE"}],
            "acceptedResourceRoles": ["*"],
        },
        "killSelection": "OLDEST_FIRST",
        "unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2},
    },
    "executorResources": {"cpus": 0.1, "mem": 32},
}
#: Calls, each near to one that is done.
REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v2/apps", RES),
    ("POST", "/v2/apps", APP),
    ("POST", "/v2/apps", DOCK),
    ("PUT", "/v2/apps/a", APP),
    ("PUT", "/v2/apps/c", DOCK),
    ("PATCH", "/v2/apps/b", {"instances": 2, "env": {"A": "b"}}),
    ("PUT", "/v2/apps", [SIMPLE, APP]),
    ("PATCH", "/v2/apps", [{"id": "/b", "instances": 2}]),
    ("PUT", "/v2/apps/b", {"version": "2016-06-20T12:00:00.000Z"}),
    ("POST", "/v2/groups", {"id": "/h", "apps": [{**SIMPLE, "id": "x"}]}),
    ("PUT", "/v2/groups/g", GROUP),
    ("PUT", "/v2/groups/g", {"scaleBy": 2}),
    ("PUT", "/v2/groups/", {"id": "/", "apps": [SIMPLE], "groups": [GROUP]}),
    ("PUT", "/v2/groups/g", {"version": "2016-06-20T12:00:00.000Z"}),
    ("POST", "/v2/pods", POD),
    ("PUT", "/v2/pods/p", POD),
    ("POST", "/v2/tasks/delete", {"ids": ["x"]}),
    ("POST", "/v2/apps//b/restart", {}),
)

MISPLACED = (SIMPLE, [SIMPLE, SIMPLE], POD, "LIKE", "../..", {"mode": "container"}, "/b")

#: What a body may be answered with (spec/marathon §1): a server's error never.
STATUSES = {200, 201, 202, 400, 404, 409, 422}

VIEWS = (
    "/v2/apps?embed=apps.tasks&embed=apps.counts",
    "/v2/groups?embed=group.apps&embed=group.groups&embed=group.pods",
    "/v2/queue",
    "/v2/deployments",
    "/v2/pods/::status",
)

#: Calls one after the other to one Marathon: what the first left, the next meets.
ROUNDS = 5


@fuzz(8)
@given(st.data())
def test_no_body_ends_marathon_or_hides_what_it_has(data: st.DataObject) -> None:
    calls = []
    for _ in range(ROUNDS):
        method, path, body = data.draw(st.sampled_from(REQUESTS))
        calls.append((method, path, data.draw(altered(body, MISPLACED))))
    asyncio.run(_make(calls))


async def _make(calls: list[tuple[str, str, Any]]) -> None:
    rig = Rig()
    await rig.start()
    rig.leader = "me:8080"
    try:
        async with aiohttp.ClientSession(rig.server.url) as client:
            await client.post("/v2/apps", json=SIMPLE)
            await client.post("/v2/groups", json={"id": "/g"})
            for method, path, body in calls:
                async with client.request(method, path, json=body, params={"force": "true"}) as got:
                    assert got.status in STATUSES, (method, path, body, await got.text())
                rig.world.settle()
                for view in VIEWS:
                    async with client.get(view) as shown:
                        assert shown.status == 200, (view, body, await shown.text())
    finally:
        await rig.stop()
