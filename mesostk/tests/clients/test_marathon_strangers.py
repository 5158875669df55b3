"""What other strangers do with a real Marathon.

shpkpr          `apps show`, `apps show -a`, `apps deploy` of one and of two templates, --force:
                GET /v2/apps (embed five parts), GET and PUT /v2/apps/{id}, PUT /v2/apps/,
                GET /v2/deployments; the delete and info calls of its client
marathon-acme   get_apps, its count of ports in host, bridge and container networks, get_events with
                event_type
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, until

HERE = Path(__file__).parent

APP: dict[str, Any] = {"cmd": "exec sleep 1000", "cpus": 0.1, "mem": 16, "instances": 1}


@pytest.fixture
def url(alone: Cluster) -> str:
    return alone.marathons[0].url


def shpkpr(stranger: Any, url: str, *words: str) -> str:
    code = "from shpkpr.cli.entrypoint import cli; cli()"
    environ = {"SHPKPR_MARATHON_URL": url, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
    return str(stranger("shpkpr", "-c", code, *words, **environ))


def test_shpkpr_deploys_shows_and_deletes(
    alone: Cluster, stranger: Any, url: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        body = {"id": f"/{name}", **APP, "labels": {"who": "{{ WHO }}"}}
        (tmp_path / f"{name}.json.tmpl").write_text(json.dumps(body))
    where = ("--template-dir", str(tmp_path))
    shpkpr(stranger, url, "apps", "deploy", *where, "-t", "one.json.tmpl", "WHO=me")
    alone.wait_running("/one", 1)
    shown = json.loads(shpkpr(stranger, url, "apps", "show", "-a", "/one"))
    assert (shown["id"], shown["labels"], shown["tasksRunning"]) == ("/one", {"who": "me"}, 1)
    both = ("-t", "one.json.tmpl", "-t", "two.json.tmpl")
    shpkpr(stranger, url, "apps", "deploy", "--force", *where, *both, "WHO=us")
    listed = json.loads(shpkpr(stranger, url, "apps", "show"))
    assert {app["id"]: app["labels"]["who"] for app in listed} == {"/one": "us", "/two": "us"}
    code = (
        "import sys; from shpkpr.marathon import MarathonClient as C; c = C(sys.argv[1]);"
        "print(c.get_info()['name'], c.delete_application('one'), c.delete_application('none'),"
        "c.delete_application('/two', force=True))"
    )
    assert str(stranger("shpkpr", "-c", code, url)).split() == ["marathon", "True", "False", "True"]
    until("no app", lambda: alone.apps() == [])


def test_marathon_acme_lists_apps_counts_their_ports_and_hears_of_changes(
    alone: Cluster, stranger: Any, url: str
) -> None:
    bridge = {"type": "DOCKER", "docker": {"image": "x", "network": "BRIDGE", "portMappings": [
        {"containerPort": 80}, {"containerPort": 443}]}}  # fmt: skip
    inside = {"type": "MESOS", "portMappings": [{"containerPort": 80}]}
    for id, more in (
        ("/host", {"ports": [0, 0, 0]}),
        ("/bridged", {"container": bridge, "instances": 0}),
        ("/inside", {"container": inside, "networks": [{"mode": "container", "name": "n"}],
                     "instances": 0}),
    ):  # fmt: skip
        answer = requests.post(f"{url}/v2/apps", json={"id": id, **APP, **more}, timeout=60)
        assert answer.status_code == 201, answer.text
    told: list[dict[str, Any]] = []

    def listen() -> None:
        out = stranger("marathon-acme", str(HERE / "drive_acme.py"), url, "2")
        told.extend(json.loads(line) for line in str(out).splitlines())

    # It installs itself first, so changes go on until it has heard of one.
    listener = threading.Thread(target=listen)
    listener.start()
    number = 0
    while listener.is_alive():
        # One more change in each round.
        number += 1
        body = {"labels": {"n": str(number)}}
        requests.put(f"{url}/v2/apps/host?force=true", json=body, timeout=60)
        listener.join(0.5)
    assert {"/host": 3, "/bridged": 2, "/inside": 1}.items() <= told[0]["ports"].items()
    assert [each["event"] for each in told[2:]] == ["event_stream_attached", "api_post_event"]
    assert told[3]["keys"] == ["appDefinition", "clientIp", "eventType", "timestamp", "uri"]
    requests.delete(f"{url}/v2/groups?force=true", timeout=60)
    until("no app", lambda: alone.apps() == [])
