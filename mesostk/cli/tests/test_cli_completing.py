"""Tab completion: what is offered, within a second, and nothing where nobody answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mesostk.cli import completing, contexts
from mesostk.cli.app import app
from mesostk.cli.completing import along_paths, task_ids
from mesostk.cli.tests.test_cli_commands import Cluster

IDS = ["/web", "/shop/api", "/shop/db/main", "/shop/db/replica", "/lone/deep/app"]


@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("", ["/lone/", "/shop/", "/web"]),
        ("/", ["/lone/", "/shop/", "/web"]),
        ("/s", ["/shop/api", "/shop/db/"]),
        ("/shop/", ["/shop/api", "/shop/db/"]),
        ("/shop/d", ["/shop/db/main", "/shop/db/replica"]),
        ("/l", ["/lone/deep/app"]),
        ("w", ["web"]),
        ("sh", ["shop/api", "shop/db/"]),
        ("/web", ["/web"]),
        ("/x", []),
    ],
)
def test_apps_are_completed_a_group_at_a_time(incomplete: str, offered: list[str]) -> None:
    assert along_paths(IDS, incomplete) == offered


def test_tasks_are_offered_by_short_ids_where_those_say_enough() -> None:
    one = "web.instance-25ef0930-ce53-45fb-b96e-c37bfd6584aa._app.1"
    other = "api.instance-25ef0930-0000-45fb-b96e-c37bfd6584aa._app.1"
    twin = "api.instance-25ef0930-1111-45fb-b96e-c37bfd6584aa._app.1"
    assert task_ids([one, other, twin], "w") == ["web.25ef0930"]
    assert task_ids([one, other, twin], "web.inst") == [one]
    assert task_ids([one, other, twin], "a") == [other, twin]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.delenv("MESOSTK_CONTEXT", raising=False)
    one = Cluster()
    url = f"http://{one.address}"
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all:\n  children:\n    mesos_agents:\n      hosts: {agent1: {}, b2:}\n")
    contexts.remember(
        "here", contexts.Context(masters=[url], marathons=[url], inventory=str(inventory))
    )
    contexts.remember("nowhere", contexts.Context(masters=[], marathons=[]))
    yield one
    one.close()


def offered(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What bash is told after `mesostk WORDS` and the key."""
    monkeypatch.setenv("_MESOSTK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["mesostk", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    result = CliRunner().invoke(app, prog_name="mesostk")
    assert result.stderr == ""
    return result.stdout.split()


def test_the_words_of_the_line_decide_what_is_asked_and_whom(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "PATIENCE_S", 60.0)  # a busy machine answers late
    cluster.answers["GET", "/v2/apps"] = (200, {"apps": [{"id": "/a/b"}, {"id": "/c"}]})
    cluster.answers["GET", "/v2/tasks"] = (200, {"tasks": [{"id": "old.1"}]})
    cluster.answers["GET", "/slaves"] = (200, {"slaves": [{"hostname": "10.0.0.7"}]})
    here = ("--context", "here")
    assert offered(monkeypatch, "scale", *here, "/") == ["/a/", "/c"]
    assert offered(monkeypatch, "scale", *here, "/a") == ["/a/b"]
    assert offered(monkeypatch, "logs", *here, "o") == ["old.1"]
    assert offered(monkeypatch, "impact", *here, "10") == ["10.0.0.7"]
    assert offered(monkeypatch, "drain", *here, "a") == ["agent1"]
    assert offered(monkeypatch, "drain", *here, "agent1", "b") == ["b2"]
    assert offered(monkeypatch, "scale", "--context", "nowhere", "/") == []


@pytest.mark.parametrize("answer", [(200, {"no": "apps"}), (200, []), (500, {}), (401, {})])
def test_senseless_answers_are_passed_over_in_silence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, object]
) -> None:
    monkeypatch.setattr(completing, "PATIENCE_S", 60.0)
    cluster.answers["GET", "/v2/apps"] = answer
    assert offered(monkeypatch, "scale", "--context", "here", "/") == []


def test_who_does_not_answer_is_not_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "PATIENCE_S", 0.05)
    told = threading.Event()

    def ask(_context: contexts.Context) -> list[str]:
        told.wait()
        return ["/late"]

    line = typer.Context(typer.main.get_command(app))
    line.params["context"] = "here"
    assert completing.known(line, ask) == []
    told.set()
