"""The module host_bundle: no secret leaves the host, in whatever form it is written down."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mesostk.ops.paths import data_root
from mesostk.testing.plugins import load

SECRET = "hunter2-Zx81"


bundle = load("library", "host_bundle")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"MESOS_SECRET={SECRET}", "MESOS_SECRET="),
        (f'export DB_PASSWORD="{SECRET}"', "export DB_PASSWORD="),
        (f"db.password: {SECRET}", "db.password:"),
        (f'{{"api_key": "{SECRET}", "port": 80}}', '"port": 80'),
        (f"zk://user:{SECRET}@10.0.3.11:2181/mesos", "@10.0.3.11:2181/mesos"),
        (f"ExecStart=/x --http_credentials admin:{SECRET} --port=8080", "--port=8080"),
        (f"ExecStart=/x --http_credentials=admin:{SECRET} --port=8080", "--port=8080"),
        (f"  stats auth admin:{SECRET}", "stats auth"),
        (f"  user haproxy insecure-password {SECRET}", "user haproxy"),
        (f"Authorization: Basic {SECRET}", "Authorization"),
        (f"addauth digest:super:{SECRET}", "addauth"),
        (
            f"a\n-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----\nb",
            "b",
        ),
    ],
)
def test_a_secret_is_withheld_and_the_rest_is_kept(text: str, kept: str) -> None:
    cleaned = bundle.Redactor().text(text)
    assert SECRET not in cleaned
    assert kept in cleaned
    assert bundle.WITHHELD in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "port=8080",
        "monkey: 3",
        "author=anna",
        "http://10.0.3.11:8080/v2/apps",
        "keepalive=yes",
        "Launching task=web.1 agent=S3 framework=F1 cause=o-81",
    ],
)
def test_what_is_no_secret_is_kept(text: str) -> None:
    assert bundle.Redactor().text(text) == text


@pytest.mark.parametrize(
    "path",
    [
        "/etc/marathon/conf/http_credentials",
        "/etc/mesos-master/credentials",
        "/etc/marathon/conf/mesos_authentication_secret_file",
        "/etc/haproxy/htpasswd",
    ],
)
def test_a_file_that_is_secret_by_its_name_is_withheld_whole(path: str) -> None:
    redactor = bundle.Redactor()
    assert redactor.file(path, f"admin:{SECRET}\n") == bundle.WITHHELD + "\n"
    assert SECRET not in redactor.everywhere(f"Started with {SECRET} as ever")


@pytest.mark.parametrize(
    "document",
    [
        {"env": {"DB": SECRET}},
        {"app": {"env": {"nested": {"deep": [SECRET]}}}},
        {"command": {"environment": {"variables": [{"name": "DB", "value": SECRET}]}}},
        {"credential": SECRET},
        {"url": f"http://me:{SECRET}@registry"},
    ],
)
def test_documents_lose_environments_and_secret_members(document: dict[str, Any]) -> None:
    redactor = bundle.Redactor()
    cleaned = redactor.file("state.json", json.dumps({**document, "cpus": 0.5}))
    assert SECRET not in cleaned
    assert json.loads(cleaned)["cpus"] == 0.5
    assert SECRET not in redactor.everywhere(f"the task printed {SECRET}")


def test_a_harmless_environment_is_withheld_but_not_hunted_for() -> None:
    redactor = bundle.Redactor()
    document = {"env": {"PATH": "/usr/bin:/bin", "MODE": "production"}}
    assert "production" not in redactor.file("state.json", json.dumps(document))
    line = "production starts /usr/bin/web"
    assert redactor.everywhere(line) == line


def test_the_archive_is_for_its_owner_and_replaces_nobodys_file(tmp_path: Path) -> None:
    target = tmp_path / "other"
    target.write_text("theirs")
    path = tmp_path / "support.tar.gz"
    path.symlink_to(target)
    bundle.pack(str(path), {"host/date.txt": "now", "a": "b"})
    assert target.read_text() == "theirs"
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["a", "host/date.txt"]


def test_the_secrets_of_tasks_are_in_no_bundle_and_no_backup() -> None:
    root = data_root()
    [place] = [
        line.partition(": ")[2]
        for line in (root / "roles/mesos_agent/defaults/main.yml").read_text().splitlines()
        if line.startswith("mesos_agent_secrets_dir:")
    ]
    backup = (root / "playbooks/backup.yml").read_text()
    taken = {*bundle.CONFIGS, *re.findall(r"'(/etc/[^']+)'", backup)}
    assert "/etc/mesos-slave" in taken
    assert not [path for path in taken if f"{place}/".startswith(f"{path.rstrip('*')}/")]
