"""Commands against agents that ask who one is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesostk.testing.processes import LIMIT_S, Cluster, until
from mesostk.testing.scheduler import Scheduler, scalars

KNOWN = {"principal": "ops", "secret": "s3cret"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with credentials; a cluster is the context `here`, and runs the task `home`."""
    place = tmp_path_factory.mktemp("credentials")
    (place / "known.json").write_text(json.dumps(KNOWN))
    (place / "wrong.json").write_text(json.dumps({**KNOWN, "secret": "guess"}))
    (place / "torn.json").write_text("{")
    (place / "all.json").write_text(json.dumps({"credentials": [KNOWN]}))
    flags = [
        "--authenticate_http_readwrite",
        "--authenticate_http_readonly",
        f"--http_credentials=file://{place}/all.json",
    ]
    with Cluster(place, marathons=0, agent_flags=flags) as cluster:
        cluster.start()
        url = cluster.masters[0].url
        done = command(place, "context", "add", "here", "--marathon", url, "--master", url)
        assert done.returncode == 0, done.stderr
        with Scheduler(url) as scheduler:
            task = {
                "name": "home",
                "task_id": {"value": "home"},
                "resources": scalars(cpus=0.1, mem=32),
                "command": {"value": "echo hello; exec sleep 600"},
            }
            scheduler.launch(scheduler.offer(), task)
            scheduler.until_state("home", "TASK_RUNNING")
            out = "slaves/*/frameworks/*/executors/home/runs/latest/stdout"
            until("its output", lambda: any(f.read_text() for f in cluster.work_dir(1).glob(out)))
            yield place


def command(
    place: Path, *words: str, credential: str | None = None
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "MESOSTK_CONFIG": str(place / "contexts.json")}
    if credential is not None:
        environ["MESOSTK_CREDENTIAL"] = str(place / credential)
    run = [sys.executable, "-m", "mesostk", *words]
    return subprocess.run(
        run, env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.mark.parametrize("words", [("logs", "home"), ("exec", "home", "--", "echo", "hello")])
def test_who_proves_itself_is_let_in(place: Path, words: tuple[str, ...]) -> None:
    done = command(place, *words, credential="known.json")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


LOGS, EXEC = ("logs", "home"), ("exec", "home", "--", "true")


@pytest.mark.parametrize(
    ("words", "credential", "why"),
    [
        (LOGS, None, "asks who you are: name a file"),
        (EXEC, None, "asks who you are: name a file"),
        (EXEC, "wrong.json", "knows no principal 'ops' with that secret"),
        (LOGS, "torn.json", 'expected {"principal":'),
        (LOGS, "none.json", "No such file or directory"),
    ],
)
def test_who_does_not_is_told_the_remedy(
    place: Path, words: tuple[str, ...], credential: str | None, why: str
) -> None:
    done = command(place, *words, credential=credential)
    assert done.returncode in (1, 2)
    assert why in " ".join(done.stderr.split())
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_context_names_the_file_and_never_the_secret(place: Path) -> None:
    words = ["--marathon", "http://h:1", "--master", "http://h:2"]
    added = command(
        place, "context", "add", "there", *words, "--credential", str(place / "known.json")
    )
    assert added.returncode == 0, added.stderr
    assert command(place, "context", "use", "here").returncode == 0
    listed = command(place, "context", "list", "--json").stdout
    assert str(place / "known.json") in listed
    assert "s3cret" not in listed + (place / "contexts.json").read_text()
    missing = command(place, "context", "add", "x", *words, "--credential", "/nowhere")
    assert missing.returncode == 2
    assert "there is no such file" in missing.stderr
