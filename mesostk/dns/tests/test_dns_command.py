"""`mesostk dns` against a real server of the HTTP interface."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesostk.base.clock import RealClock
from mesostk.base.http import Server
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.cli.contexts import Context
from mesostk.cli.dns import full_name, servers, service_of
from mesostk.dns import facts
from mesostk.dns.assembly import make_core
from mesostk.dns.config import Config
from mesostk.dns.http import Api, make_application


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web", "web.marathon.mesos"),
        ("/shop/Web", "web-shop.marathon.mesos"),
        ("leader", "leader.mesos"),
        ("master0", "master0.mesos"),
        ("web.chronos.mesos.", "web.chronos.mesos"),
        ("_web._tcp", "_web._tcp.marathon.mesos"),
    ],
)
def test_what_people_type_becomes_a_name(text: str, wanted: str) -> None:
    assert full_name(text, "mesos") == wanted


def test_a_service_is_looked_for_beside_the_name() -> None:
    assert service_of("web.marathon.mesos") == "_web._tcp.marathon.mesos"
    assert service_of("_web._udp.marathon.mesos") == "_web._udp.marathon.mesos"


def test_servers_are_on_the_masters_unless_named() -> None:
    context = Context(masters=["http://10.0.3.11:5050", "http://10.0.3.12:5050"], marathons=[])
    assert servers(context, None) == ["http://10.0.3.11:8123", "http://10.0.3.12:8123"]
    assert servers(context, "ns") == ["http://ns:8123"]
    assert servers(context, "ns:81") == ["http://ns:81"]


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    config = Config(masters=("10.0.3.11:5050",))
    core = make_core(config, (), (), RealClock(), random.Random(1))
    task = facts.Task(
        id="web.1", name="web", framework_id="F", agent_id="x-S0", is_running=True, ports=(31005,)
    )
    agent = facts.Agent("x-S0", "10.0.3.51", 5051)
    core.naming.take([facts.Snapshot((agent,), (facts.Framework("F", "marathon"),), (task,))])
    api = Api(config, core.zone, core.answers, lambda: {"healthy": True})
    server = Server(make_application(api, Log("ERROR"), Metrics()), "127.0.0.1", 0)
    await server.start()
    yield f"127.0.0.1:{server.port}"
    await server.stop()


async def run(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesostk", "dns", *words, stdout=-1, stderr=-1
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_name_is_shown_with_its_service(address: str) -> None:
    code, out, err = await run("web", "--server", address, "--json")
    assert code == 0, err
    address_record, service = json.loads(out)
    assert (address_record["type"], address_record["value"]) == ("A", "10.0.3.51")
    assert service["type"] == "SRV"
    assert service["value"].endswith("-s0.marathon.slave.mesos.:31005")
    code, out, _ = await run("--enumerate", "--server", address)
    assert code == 0
    assert "web.marathon.mesos." in out


async def test_what_is_no_name_is_said(address: str) -> None:
    code, _, err = await run("nope", "--server", address)
    assert code == 1
    assert "nope.marathon.mesos is no name" in err
    code, _, err = await run("--server", address)
    assert code == 2
    assert "give one NAME, or --enumerate" in err
