"""Secrets on real processes: tasks get them, and nobody and nothing else does."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import Cluster, until

TEXT = "s3cret-of-the-database"
SUM = hashlib.sha256(TEXT.encode()).hexdigest()

#: What a task writes of its secrets, so that its own sandbox does not hold them.
SAYS = (
    'printf %s "$PASSWORD" | sha256sum > env.sum; cat kept/password | tr -d "\\n" | sha256sum '
    "> file.sum; exec sleep 1000"
)

APP: dict[str, Any] = {
    "id": "/db",
    "cmd": SAYS,
    "cpus": 0.1,
    "mem": 32,
    "env": {"PASSWORD": {"secret": "password"}},
    "secrets": {"password": {"source": "db/password"}},
    "container": {
        "type": "MESOS",
        "volumes": [{"containerPath": "kept/password", "secret": "password"}],
    },
    "healthChecks": [
        {
            "protocol": "COMMAND",
            "command": {"value": f"test $(printf %s $PASSWORD | sha256sum | cut -c1-64) = {SUM}"},
            "intervalSeconds": 1,
            "delaySeconds": 0,
            "gracePeriodSeconds": 120,
        }
    ],
}

POD: dict[str, Any] = {
    "id": "/pod",
    "environment": {"PASSWORD": {"secret": "password"}},
    "secrets": {"password": {"source": "db/password"}},
    "containers": [
        {
            "name": "one",
            "exec": {"command": {"shell": SAYS}},
            "resources": {"cpus": 0.1, "mem": 32},
            "volumeMounts": [{"name": "of-db", "mountPath": "kept/password"}],
        }
    ],
    "volumes": [{"name": "of-db", "secret": "password"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("of-the-host") / "secrets"
    (folder / "db").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "db/password").write_text(f"{TEXT}\n")
    (folder / "db/password").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("secrets"),
        agent_flags=[f"--secrets_dir={folder}"],
        marathon_flags=["--enable_features=secrets"],
    ) as made:
        made.start()
        yield made


def sums(cluster: Cluster) -> list[str]:
    found = cluster.work_dir(1).glob("slaves/**/*.sum")
    texts = (path.read_text() for path in found if not path.is_symlink())
    return [text[:64] for text in texts if text.endswith("\n")]  # written to its end


def assert_nobody_else_knows(cluster: Cluster) -> None:
    """Records, stores, logs, sandboxes and every answer, but for what is given to the tasks."""
    given = cluster.work_dir(1) / "run/secrets"
    for path in cluster.directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(given):
            with contextlib.suppress(FileNotFoundError):  # one that was replaced meanwhile
                assert TEXT.encode() not in path.read_bytes(), path
    master, agent = cluster.masters[0].url, cluster.agents[0].url
    answers = [cluster.call("GET", path) for path in (
        "/v2/apps?embed=apps.tasks", "/v2/apps/db", "/v2/pods", "/v2/pods/pod::status",
        "/v2/audit", "/v2/groups", "/v2/queue", "/v2/info", "/v2/apps/db/versions",
    )]  # fmt: skip
    answers += [requests.get(f"{url}/state", timeout=60) for url in (master, agent)]
    for kind in ("GET_TASKS", "GET_EXECUTORS", "GET_STATE", "GET_FLAGS", "GET_CONTAINERS"):
        for url in (master, agent)[kind == "GET_CONTAINERS" :]:
            answers.append(
                requests.post(f"{url}/api/v1", json={"type": kind}, timeout=60, headers={
                    "Accept": "application/json"})
            )  # fmt: skip
    for answer in answers:
        assert answer.ok, (answer.url, answer.text)
        assert TEXT not in answer.text, answer.url


def assert_not_downloadable(cluster: Cluster) -> None:
    agent = cluster.agents[0].url
    [link] = [p for p in cluster.work_dir(1).glob("slaves/**/db.*/runs/*/kept/password")
              if "latest" not in p.parts]  # fmt: skip
    assert link.read_text() == f"{TEXT}\n"
    for call in ("read", "download"):
        answer = requests.get(f"{agent}/files/{call}", params={"path": str(link)}, timeout=60)
        assert answer.status_code == 404
    listed = requests.get(f"{agent}/files/browse", params={"path": str(link.parent)}, timeout=60)
    assert TEXT not in listed.text


def test_tasks_of_apps_and_pods_get_their_secrets_and_nothing_else_does(cluster: Cluster) -> None:
    assert cluster.call("POST", "/v2/apps", json=APP).status_code == 201
    created = cluster.call("POST", "/v2/pods", json=POD)
    assert created.status_code == 201, created.text
    until("what the tasks got", lambda: len(sums(cluster)) == 4 or None)
    cluster.wait_deployed()
    assert set(sums(cluster)) == {SUM}
    health = cluster.call("GET", "/v2/apps/db").json()["app"]["tasksHealthy"]
    assert health == 1, "the check's command sees the variable, too"
    assert_nobody_else_knows(cluster)
    assert_not_downloadable(cluster)
    cluster.destroy("/db")
    cluster.call("DELETE", "/v2/pods/pod")
    cluster.wait_deployed()
    given = cluster.work_dir(1) / "run/secrets"
    until("nothing given any more", lambda: not list(given.iterdir()))


def test_a_secret_that_is_not_there_fails_the_task_with_its_name_and_the_remedy(
    cluster: Cluster, folder: Path
) -> None:
    missing = {**APP, "id": "/lost", "secrets": {"password": {"source": "db/none"}}}
    assert cluster.call("POST", "/v2/apps", json=missing).status_code == 201

    def failure() -> str | None:
        app = cluster.call("GET", "/v2/apps/lost").json()["app"]
        return None if "lastTaskFailure" not in app else app["lastTaskFailure"]["message"]

    told = until("its end", failure)
    assert f"secret 'db/none' is not on this host: put it into {folder}/db/none" in told
    cluster.destroy("/lost")
