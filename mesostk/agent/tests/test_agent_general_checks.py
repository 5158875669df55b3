"""General checks: results told when they change, in the core and by real programs."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from mesostk.agent.events import Check, Checked, Exited
from mesostk.agent.tests.agent_bench import Bench, of_type, one, task, updates
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, agent, master
from mesostk.wire.mesos import (
    CheckCommand,
    CheckHttp,
    CheckInfo,
    CheckStatusInfo,
    CheckTcp,
    CommandInfo,
    HealthCheck,
    HTTPCheckInfo,
)

__all__ = ["agent", "master"]  # fixtures

COMMAND = CheckInfo(
    type="COMMAND",
    command=CheckCommand(command=CommandInfo(value="test -e ready")),
    delay_seconds=1,
    interval_seconds=5,
)


def shown(status: CheckStatusInfo | None) -> int | bool | None:
    assert status is not None
    if status.command is not None:
        return status.command.exit_code
    if status.http is not None:
        return status.http.status_code
    assert status.tcp is not None
    return status.tcp.succeeded


def test_a_result_is_told_when_it_changes_and_with_every_update() -> None:
    bench = Bench()
    bench.register()
    cid = bench.run(task(check=COMMAND))
    assert one(bench.advance(1), Check).check.command == CommandInfo(value="test -e ready")
    told: list[int | bool | None] = []
    for number, result in enumerate([1, 1, 0, None, 0]):
        for update in updates(bench.feed(Checked(cid, number, result))):
            assert update.status.state == "TASK_RUNNING"
            assert update.status.reason == "REASON_TASK_CHECK_STATUS_UPDATED"
            told.append(shown(update.status.check_status))
            bench.acknowledge(update)
        assert not of_type(bench.advance(4.9), Check)
        assert one(bench.advance(0.1), Check).number == number + 1
    assert told == [1, 0, None, 0]


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (COMMAND, "COMMAND"),
        (CheckInfo(type="HTTP", http=CheckHttp(port=80)), "HTTP"),
        (CheckInfo(type="TCP", tcp=CheckTcp(port=80)), "TCP"),
    ],
)
def test_the_first_running_has_an_empty_result(check: CheckInfo, kind: str) -> None:
    bench = Bench()
    bench.register()
    bench.run(task(check=check))
    run = next(iter(bench.core.state.runs.values()))
    status = run.only_task.statuses[-1].check_status
    assert status is not None
    assert (status.type, shown(status)) == (kind, None)


def test_a_task_that_ends_is_checked_no_more() -> None:
    bench = Bench()
    bench.register()
    cid = bench.run(task(check=COMMAND))
    bench.feed(Exited(cid, 0))
    assert not of_type(bench.advance(60), Check)


async def until_shown(master: ScriptedMaster, task_id: str, wanted: int | bool) -> None:
    await master.until(
        lambda: any(
            update.status.check_status is not None and shown(update.status.check_status) == wanted
            for update in master.of(task_id)
        )
    )


async def test_commands_and_ports_are_checked_for_real(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    quick = {"delay_seconds": 0.0, "interval_seconds": 0.1}
    check = CheckInfo(type="COMMAND", command=COMMAND.command, **quick)  # type: ignore[arg-type]
    await master.launch(
        task("t", "until [ -e go ]; do sleep 0.05; done; : > ready; sleep 1000", check=check)
    )
    await master.until_state("t", "TASK_RUNNING")
    await until_shown(master, "t", 1)
    [sandbox] = agent.work_dir.glob("slaves/*/frameworks/*/executors/t/runs/*-*")
    (sandbox / "go").touch()
    await until_shown(master, "t", 0)
    closed = CheckInfo(type="TCP", tcp=CheckTcp(port=1), **quick)  # type: ignore[arg-type]
    await master.launch(task("closed", "sleep 1000", check=closed))
    await until_shown(master, "closed", False)
    own = CheckInfo(type="HTTP", http=CheckHttp(port=agent.port, path="/health"), **quick)  # type: ignore[arg-type]
    await master.launch(task("web", "sleep 1000", check=own))
    await until_shown(master, "web", 200)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that nobody has signed, and its key."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=somebody", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
async def https(certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


async def test_https_is_healthy_whoever_signed_the_certificate(
    master: ScriptedMaster, agent: AgentProcess, https: int
) -> None:
    assert agent.port
    check = HealthCheck(
        type="HTTP", http=HTTPCheckInfo(port=https, scheme="https"), delay_seconds=0.0
    )
    await master.launch(task("t", "sleep 1000", health_check=check))
    await master.until(lambda: any(update.status.healthy for update in master.of("t")))
