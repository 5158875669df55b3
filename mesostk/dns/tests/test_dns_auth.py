"""Who asks is proved to the master: HTTP Basic over TLS, and DC/OS' signed statements."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mesostk.base.client import Client
from mesostk.base.clock import RealClock
from mesostk.base.log import Log
from mesostk.dns.assembly import make_core
from mesostk.dns.auth import Authorizer, tls_of
from mesostk.dns.config import Config, Credentials
from mesostk.dns.source import Settings, Source
from mesostk.errors import ConfigError, Unavailable
from mesostk.testing.requirements import require_program

STATE = {
    "leader": "master@127.0.0.1:PORT",
    "slaves": [{"id": "x-S0", "pid": "slave(1)@10.0.3.51:5051"}],
    "frameworks": [],
}


@asynccontextmanager
async def serving(
    path: str,
    handler: Callable[[web.Request], Awaitable[web.Response]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def openssl(*words: str, **options: Any) -> bytes:
    program = require_program("openssl", "openssl")
    done = subprocess.run([program, *words], capture_output=True, timeout=60, check=True, **options)
    return bytes(done.stdout)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=master",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
    )  # fmt: skip
    return cert, key


async def test_a_master_is_asked_over_tls_with_a_password(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    seen: list[str] = []

    async def state(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        port = request.url.port
        return web.json_response(json.loads(json.dumps(STATE).replace("PORT", str(port))))

    async with serving("/master/state", state, context) as port:
        config = Config(
            masters=(f"127.0.0.1:{port}",), mesos_https_on=True, ca_cert_file=str(cert),
            mesos_authentication="basic",
            mesos_credentials=Credentials(principal="dns", secret="geheim"),
        )  # fmt: skip
        clock = RealClock()
        core = make_core(config, (), (), clock, random.Random(1))
        client = Client("Mesos-DNS", tls=tls_of(config))
        authorize = Authorizer(config, client, clock.wall).header
        # The master serves no event stream, so it is polled.
        settings = Settings(masters=config.masters, scheme="https", refresh_s=60.0)
        source = Source(client, settings, core.naming, clock.monotonic, Log("ERROR"), authorize)
        known = asyncio.Event()
        core.naming.listeners.append(
            lambda _batch: known.set() if core.zone.values("slave.mesos", "A") else None
        )
        task = asyncio.create_task(source.run())
        await asyncio.wait_for(known.wait(), 60)
        task.cancel()
        await asyncio.wait([task])
        await client.close()
    assert core.zone.values("slave.mesos", "A") == ["10.0.3.51"]
    assert seen[0] == "Basic " + base64.b64encode(b"dns:geheim").decode()


async def test_a_certificate_of_nobody_known_is_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other")

    async def never(_request: web.Request) -> web.Response:
        raise AssertionError("reached without trust")

    async with serving("/", never, context) as port:
        config = Config(masters=("127.0.0.1:1",), mesos_https_on=True, ca_cert_file=str(other))
        client = Client("Mesos-DNS", tls=tls_of(config))
        with pytest.raises(Unavailable, match="certificate"):
            await client.request("GET", f"https://127.0.0.1:{port}/")
        await client.close()


async def test_a_service_account_logs_in_with_a_signed_statement(tmp_path: Path) -> None:
    private = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048").decode()
    public = tmp_path / "public.pem"
    public.write_bytes(openssl("pkey", "-pubout", input=private.encode()))
    logins: list[dict[str, str]] = []

    async def login(request: web.Request) -> web.Response:
        logins.append(await request.json())
        return web.json_response({"token": "T0KEN"})

    async with serving("/login", login) as port:
        account = tmp_path / "account.json"
        endpoint = f"http://127.0.0.1:{port}/login"
        account.write_text(
            json.dumps({"uid": "dns", "private_key": private, "login_endpoint": endpoint})
        )
        config = Config(
            masters=("127.0.0.1:1",), mesos_authentication="iam", iam_config_file=str(account)
        )
        client = Client("Mesos-DNS")
        assert await Authorizer(config, client, lambda: 1000.0).header() == "token=T0KEN"
        await client.close()
    (said,) = logins
    head, body, signature = said["token"].split(".")
    assert said["uid"] == "dns"
    assert json.loads(base64.urlsafe_b64decode(body + "==")) == {"uid": "dns", "exp": 4600}
    proof = tmp_path / "signature"
    proof.write_bytes(base64.urlsafe_b64decode(signature + "=="))
    verified = openssl(
        "dgst", "-sha256", "-verify", str(public), "-signature", str(proof),
        input=f"{head}.{body}".encode(),
    )  # fmt: skip
    assert b"Verified OK" in verified


def test_an_account_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text('{"uid": "dns"}')
    config = Config(masters=("127.0.0.1:1",), mesos_authentication="iam", iam_config_file=str(path))
    with pytest.raises(ConfigError, match=r"account\.json.*private_key"):
        Authorizer(config, None, lambda: 0.0)  # type: ignore[arg-type]  # never gets so far
