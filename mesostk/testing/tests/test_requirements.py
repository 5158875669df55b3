"""An absent part of the machine skips a test on a laptop and fails it in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesostk.testing.requirements import docker_missing, require_zookeeper


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Java."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("empty_path")
def test_an_absent_server_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no `java`"):
        require_zookeeper()


@pytest.mark.usefixtures("empty_path")
def test_an_absent_server_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="in CI every test must run: no `java`"):
        require_zookeeper()


def test_docker_is_there_or_the_reason_is_told() -> None:
    reason = docker_missing()
    assert reason is None or "Docker" in reason
