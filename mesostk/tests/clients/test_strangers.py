"""What strangers' software does with a real master and agent.

avmesos, mesoshttp   SUBSCRIBE, OFFERS, ACCEPT with LAUNCH, UPDATE, ACKNOWLEDGE, RECONCILE, REVIVE,
                     SUPPRESS (avmesos only), DECLINE with filters, KILL, TEARDOWN
avmesos-cli          agent list, framework list (--all), framework inspect, task list (--all),
                     task inspect: /slaves, /frameworks, /tasks?limit=-1. Its `task exec`
                     cannot be tried: this release ends with a NameError before it asks anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from mesostk.cli.app import app
from mesostk.testing.processes import Cluster, until
from mesostk.wire.recordio import Decoder

HERE = Path(__file__).parent
CLI = "{home}/avmesos/cli/mesos-cli.py"


def state(bare: Cluster) -> dict[str, Any]:
    answer = requests.get(f"{bare.masters[0].url}/state", timeout=60)
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("package", ["avmesos", "mesoshttp"])
def test_a_scheduler_launches_asks_kills_and_leaves(
    bare: Cluster, stranger: Any, package: str
) -> None:
    script = str(HERE / "drive_scheduler.py")
    told = json.loads(stranger(package, script, package, bare.masters[0].url))
    agent = bare.agents[0].url.removeprefix("http://").partition(":")[0]
    assert told["errors"] == []
    assert told["launched_on"] == agent
    assert told["master"]["version"] == "1.11.0"
    running = [at for at, name in enumerate(told["states"]) if name == "TASK_RUNNING"]
    assert len(running) == 2, told["states"]
    assert told["reasons"][running[1]] == "REASON_RECONCILIATION"
    assert told["states"][-1] == "TASK_KILLED"
    assert told["declined"] >= 1

    def completed() -> dict[str, Any] | None:
        for framework in state(bare)["completed_frameworks"]:
            if framework["id"] == told["framework_id"]:
                return dict(framework)
        return None

    framework = until("a framework that was torn down", completed)
    assert framework["name"] == f"by {package}"
    assert framework["failover_timeout"] == 30.0
    [task] = framework["completed_tasks"]
    assert (task["id"], task["state"]) == ("sleeper", "TASK_KILLED")


def events(stream: requests.Response) -> Iterator[dict[str, Any]]:
    """The records of an open answer."""
    decoder = Decoder()
    for chunk in stream.iter_content(None):
        yield from map(json.loads, decoder.feed(chunk))


@pytest.fixture
def framework(bare: Cluster) -> Any:
    """A framework with one running task, for the listings."""
    url = f"{bare.masters[0].url}/api/v1/scheduler"
    info = {"user": "nobody", "name": "listed", "failover_timeout": 60.0}
    body: dict[str, Any] = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
    with requests.post(url, json=body, stream=True, timeout=60) as stream:
        headers = {"Mesos-Stream-Id": stream.headers["Mesos-Stream-Id"]}
        framework_id, offer = None, None
        # Held for as long as the framework: its end would close the stream.
        told = events(stream)
        for event in told:
            if event["type"] == "SUBSCRIBED":
                framework_id = event["subscribed"]["framework_id"]
            elif event["type"] == "OFFERS":
                [offer] = event["offers"]["offers"]
                break
        assert offer is not None
        task = {
            "name": "listed",
            "task_id": {"value": "listed-1"},
            "agent_id": offer["agent_id"],
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
            "command": {"value": "sleep 600"},
        }
        launch = {"type": "LAUNCH", "launch": {"task_infos": [task]}}
        call = {
            "type": "ACCEPT",
            "framework_id": framework_id,
            "accept": {"offer_ids": [offer["id"]], "operations": [launch]},
        }
        assert requests.post(url, json=call, headers=headers, timeout=60).status_code == 202

        def is_running() -> bool | None:
            """Acknowledges what was told, as the next state is only told then."""
            asked = {"type": "GET_TASKS"}
            answer = requests.post(f"{bare.masters[0].url}/api/v1", json=asked, timeout=60)
            [task] = answer.json()["get_tasks"].get("tasks", []) or [{}]
            if "status_update_uuid" in task:
                body = {
                    "agent_id": offer["agent_id"],
                    "task_id": task["task_id"],
                    "uuid": task["status_update_uuid"],
                }
                call = {"type": "ACKNOWLEDGE", "framework_id": framework_id, "acknowledge": body}
                requests.post(url, json=call, headers=headers, timeout=60)
            return task.get("status_update_state") == "TASK_RUNNING" or None

        until("a running task", is_running)
        yield framework_id
        call = {"type": "TEARDOWN", "framework_id": framework_id}
        assert requests.post(url, json=call, headers=headers, timeout=60).status_code == 202


def test_the_cli_lists_agents_frameworks_and_tasks(
    bare: Cluster, stranger: Any, framework: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    address = bare.masters[0].url.removeprefix("http://")
    config.write_text(f'[master]\naddress = "{address}"\n')

    def cli(*words: str) -> str:
        told: str = stranger("avmesos-cli", CLI, *words, MESOS_CLI_CONFIG=str(config))
        return told

    [agent_id] = until("the agent", bare.active_agents)
    ip = bare.agents[0].url.removeprefix("http://").partition(":")[0]
    rows = [line.split() for line in cli("agent", "list").splitlines()]
    assert [agent_id, ip, "True"] in rows
    framework_id = framework["value"]
    for words in (("framework", "list"), ("framework", "list", "--all")):
        [row] = [line for line in cli(*words).splitlines() if framework_id in line]
        assert row.split()[1] == "True"
        assert row.split()[-1] == "listed"
    shown = json.loads(cli("framework", "inspect", framework_id))
    assert (shown["id"], shown["used_resources"]["cpus"]) == (framework_id, 0.1)
    [row] = [line for line in cli("task", "list").splitlines() if "listed-1" in line]
    assert row.split()[:3] == ["listed-1", "TASK_RUNNING", framework_id]
    assert "listed-1" in cli("task", "list", "--all")
    task = json.loads(cli("task", "inspect", "listed-1"))
    assert (task["slave_id"], task["state"]) == (agent_id, "TASK_RUNNING")


def test_our_own_words_say_what_agents_have_and_why_nothing_is_offered(
    bare: Cluster, framework: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.delenv("MESOSTK_CONTEXT", raising=False)
    run = CliRunner()

    def say(*words: str) -> str:
        done = run.invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    url = bare.masters[0].url
    say("context", "add", "here", "--marathon", url, "--master", url)
    [agent_id] = until("the agent", bare.active_agents)
    [row] = [line.split() for line in say("agents").splitlines() if agent_id in line]
    assert row[1:4] == [agent_id, "active", "0.1/32"]
    [row] = [line.split() for line in say("explain-offers", "listed").splitlines() if "*" in line]
    assert row[2] in {"yes", "no"}
    told = json.loads(say("explain-offers", framework["value"], "--json"))
    [part] = told["roles"]
    assert [agent["agent_id"] for agent in part["agents"]] == [agent_id]
    refused = run.invoke(app, ["explain-offers", "nobody"])
    assert refused.exit_code == 1
    assert "No framework has the id or name 'nobody'" in refused.output
