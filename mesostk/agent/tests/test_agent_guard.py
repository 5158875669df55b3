"""Who may ask an agent, and what its flags need."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from mesostk.agent.guard import realm_of
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, master
from mesostk.testing.processes import command, run_once

__all__ = ["master"]  # a fixture

CLOSED = '{"disabled_endpoints":{"paths":["/slave(1)/containers"]}}'
CREDENTIALS = '{"credentials":[{"principal":"ops","secret":"s3"}]}'


@pytest.mark.parametrize(
    ("path", "realm"),
    [
        ("/slave(1)/api/v1", "mesos-agent-readwrite"),
        ("/api/v1/operator", "mesos-agent-readwrite"),
        ("/api/v1/executor", None),
        ("/health/", None),
        ("/state", "mesos-agent-readonly"),
        ("/files/read", "mesos-agent-readonly"),
    ],
)
def test_each_path_has_its_realm(path: str, realm: str | None) -> None:
    assert realm_of(path) == realm


@pytest.fixture
async def closed(tmp_path: Path, master: ScriptedMaster) -> AsyncIterator[AgentProcess]:
    (tmp_path / "work").mkdir()
    (tmp_path / "secrets").write_text(CREDENTIALS)
    flags = ("--authenticate_http_readwrite", "--authenticate_http_readonly",
             f"--http_credentials=file://{tmp_path}/secrets",
             f"--firewall_rules={CLOSED}")  # fmt: skip
    agent = AgentProcess(tmp_path / "work", master.url, *flags)
    await agent.start()
    await master.until(lambda: bool(master.subscriptions))
    yield agent
    await agent.kill()


def proof(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def test_only_who_proves_itself_is_answered(closed: AgentProcess) -> None:
    url = f"http://127.0.0.1:{closed.port}"
    call = {"type": "GET_HEALTH"}
    wrong, right = proof("ops:no"), proof("ops:s3")
    async with aiohttp.ClientSession() as http:
        for headers, status in (({}, 401), (wrong, 401), (right, 200)):
            async with http.post(f"{url}/api/v1", json=call, headers=headers) as answer:
                assert answer.status == status
            async with http.get(f"{url}/flags", headers=headers) as answer:
                assert answer.status == status
                if status == 200:
                    assert "s3" not in await answer.text()
        async with http.get(f"{url}/health") as answer:
            assert answer.status == 200
        for path in ("/slave(1)/state/below", "/api/v1/below", "/logging/toggle", "/profiler/stop"):
            async with http.get(f"{url}{path}") as answer:
                assert answer.status == 401, path
        async with http.get(f"{url}/help/files/read") as answer:
            assert answer.status == 200
        for path in ("/containers", "/slave(1)/containers.json", "/slave(1)/containers/below"):
            async with http.get(f"{url}{path}", headers=right) as answer:
                assert answer.status == 403


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--authenticate_http_readwrite", "needs --http_credentials"),
        ("--authenticate_http_executors", "executors have no tokens"),
        ("--http_credentials={", "credentials"),
        ("--firewall_rules=[]", "--firewall_rules"),
        ("--acls={}", "agents know no ACLs"),
    ],
)
def test_flags_that_cannot_do_what_they_say_are_refused(
    tmp_path: Path, flag: str, text: str
) -> None:
    argv = command("mesos-agent", "--master=127.0.0.1:1", f"--work_dir={tmp_path}/w",
                   f"--runtime_dir={tmp_path}/r", "--ip=127.0.0.1", "--port=0", flag)  # fmt: skip
    done = run_once(argv, tmp_path)
    assert (done.returncode, text in done.stdout) == (2, True), done.stdout
