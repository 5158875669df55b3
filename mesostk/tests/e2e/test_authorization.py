"""Who may do what, with real daemons: credentials of agents, frameworks and operators, and ACLs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from mesostk.testing.frameworks import HandFramework
from mesostk.testing.processes import Cluster, until

SECRETS = {"agent": "a", "web": "w", "ops": "o", "guest": "g"}


def only(principal: str, objects: str) -> list[dict[str, Any]]:
    return [{"principals": {"values": [principal]}, objects: {"type": "ANY"}}]


ACLS = {
    "permissive": False,
    "register_agents": only("agent", "agents"),
    "register_frameworks": [{"principals": {"values": ["web"]}, "roles": {"values": ["web"]}}],
    "run_tasks": [{"principals": {"values": ["web"]}, "users": {"values": ["nobody"]}}],
    **{f"view_{what}": only("ops", "users") for what in ("frameworks", "tasks", "executors")},
    "view_roles": only("ops", "roles"),
    "view_flags": only("ops", "flags"),
    "teardown_frameworks": only("ops", "framework_principals"),
    "get_endpoints": [{"principals": {"type": "ANY"}, "paths": {"type": "ANY"}}],
}


def test_everyone_gets_what_the_rules_give_and_no_more(tmp_path: Path) -> None:
    listed = [{"principal": who, "secret": secret} for who, secret in SECRETS.items()]
    for name, content in (
        ("credentials", {"credentials": listed}),
        ("acls", ACLS),
        ("credential", listed[0]),
    ):
        (tmp_path / name).write_text(json.dumps(content))
    cluster = Cluster(
        tmp_path,
        marathons=0,
        master_flags=[
            f"--credentials=file://{tmp_path}/credentials",
            f"--acls=file://{tmp_path}/acls",
            "--authenticate_agents",
            "--authenticate_http_readwrite",
            "--authenticate_http_frameworks",
        ],
        agent_flags=[f"--credential=file://{tmp_path}/credential"],
    )
    with cluster:
        cluster.start()
        url = cluster.masters[0].url
        with HandFramework(url, auth=("web", "w"), role="web", failover_timeout=60.0) as framework:
            _check_views(url, framework)
            _check_calls(cluster, url, framework)


def _get(url: str, who: str, path: str) -> requests.Response:
    return requests.get(url + path, auth=(who, SECRETS[who]), timeout=60)


def _check_views(url: str, framework: HandFramework) -> None:
    framework.offer()
    assert [item["name"] for item in _get(url, "ops", "/frameworks").json()["frameworks"]]
    assert _get(url, "guest", "/frameworks").json()["frameworks"] == []
    assert _get(url, "guest", "/state").json()["frameworks"] == []
    assert "flags" not in _get(url, "guest", "/state").json()
    assert "flags" in _get(url, "ops", "/state").json()
    assert _get(url, "guest", "/roles").json()["roles"] == []
    assert _get(url, "guest", "/flags").status_code == 403
    flags = _get(url, "ops", "/flags").json()["flags"]
    assert flags["credentials"] == "****"


def _call(url: str, who: str, kind: str, **body: Any) -> requests.Response:
    call = {"type": kind, **({kind.lower(): body} if body else {})}
    return requests.post(f"{url}/api/v1", json=call, auth=(who, SECRETS[who]), timeout=60)


def _subscribed(url: str, who: str) -> dict[str, Any]:
    """The state with which the event stream begins."""
    with requests.post(
        f"{url}/api/v1",
        json={"type": "SUBSCRIBE"},
        auth=(who, SECRETS[who]),
        stream=True,
        timeout=60,
    ) as answer:
        raw = b""
        for part in answer.iter_content(None):
            raw += part
            size, _, rest = raw.partition(b"\n")
            if rest and len(rest) >= int(size):
                state: dict[str, Any] = json.loads(rest[: int(size)])["subscribed"]["get_state"]
                return state
    raise AssertionError("the stream ended before SUBSCRIBED")


def _check_calls(cluster: Cluster, url: str, framework: HandFramework) -> None:
    assert _subscribed(url, "guest")["get_frameworks"].get("frameworks", []) == []
    assert len(_subscribed(url, "ops")["get_frameworks"]["frameworks"]) == 1
    why = f"/explain-offers?framework={framework.id['value']}"
    assert (_get(url, "guest", why).status_code, _get(url, "ops", why).status_code) == (404, 200)
    assert _call(url, "guest", "TEARDOWN", framework_id=framework.id).status_code == 403
    assert requests.post(f"{url}/api/v1", json={"type": "GET_STATE"}, timeout=60).status_code == 401
    shown = _call(url, "guest", "GET_STATE").json()["get_state"]
    assert shown["get_frameworks"].get("frameworks", []) == []
    # An agent without the secret stays out, however often it tries.
    shown_flags = cluster.agents[0].get("/flags")
    assert shown_flags is not None
    assert not [name for name, text in shown_flags.json()["flags"].items() if '"secret"' in text]
    with HandFramework(url, auth=("guest", "g"), role="web") as refused:
        assert refused.first["error"]["message"] == "Not authorized to use role 'web'"
    answer = requests.post(f"{url}/api/link", data=b"0\n", timeout=60)
    assert answer.status_code == 401
    assert _call(url, "ops", "TEARDOWN", framework_id=framework.id).status_code == 200
    until("the framework to be gone", lambda: _is_gone(url, framework))
    framework.id = {}


def _is_gone(url: str, framework: HandFramework) -> bool | None:
    found = _get(url, "ops", "/frameworks").json()
    gone = [item["id"] for item in found["completed_frameworks"]]
    return True if framework.id["value"] in gone else None
