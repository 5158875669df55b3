"""The module service_state: an agent that was restarted is the agent that it was."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from mesostk.testing.plugins import load

service_state = load("library", "service_state")


class Ended(Exception):
    """What the module answered."""


class Module:
    """As Ansible gives it to the module; the host's systemd is the tests'."""

    params: ClassVar = {"wait_s": 90, "advice": ""}
    check_mode = False

    def exit_json(self, **answer: Any) -> None:
        raise Ended("well", answer)

    def fail_json(self, msg: str) -> None:
        raise Ended("failed", msg)


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (["S1", "S1"], "well"),
        (["S1", None, None, "S1"], "well"),
        (["S1", None, "S2"], "failed"),
        ([None], "well"),
    ],
)
def test_an_agent_that_does_not_tell_its_id_yet_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, told: list[str | None], outcome: str
) -> None:
    assessed = iter([("restart", "its configuration changed")])
    answers = iter(told)
    monkeypatch.setattr(service_state, "assess", lambda _: next(assessed, ("none", "")))
    monkeypatch.setattr(service_state, "run", lambda *_: (0, ""))
    monkeypatch.setattr(service_state, "is_healthy", lambda _: None)
    monkeypatch.setattr(service_state, "agent_id", lambda _: next(answers))
    with pytest.raises(Ended) as ended:
        service_state.bring_up(Module(), {"name": "mesos-agent", "unit": "mesos-agent.service"})
    assert ended.value.args[0] == outcome
    assert list(answers) == []
