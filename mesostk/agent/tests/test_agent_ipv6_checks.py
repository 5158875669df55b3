"""Checks over IPv6 reach what listens there only, and those over IPv4 do not."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web

from mesostk.agent import probing
from mesostk.base.client import Client
from mesostk.errors import Unavailable
from mesostk.wire.mesos import HTTPCheckInfo, IPProtocol, TCPCheckInfo


async def serve() -> tuple[web.AppRunner, int]:
    """A server on ::1 that answers 204; the runner to clean up, and its port."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/ok", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "::1", 0).start()
    return runner, int(runner.addresses[0][1])


def prober(client: Client) -> probing.Prober:
    nothing = cast("Any", None)  # a request needs the client only
    return probing.Prober(nothing, client, lambda _event: None, nothing)


async def test_each_kind_of_check_uses_the_protocol_that_it_names() -> None:
    runner, port = await serve()
    client = Client("test")
    try:
        for protocol, reaches in (("IPv6", True), ("IPv4", False)):
            version = cast("IPProtocol", protocol)
            http = HTTPCheckInfo(protocol=version, port=port, path="/ok")
            tcp = TCPCheckInfo(protocol=version, port=port)
            if reaches:
                assert await prober(client)._http(http, None) == 204
                await probing._tcp(tcp, None)
                continue
            with pytest.raises(Unavailable):
                await prober(client)._http(http, None)
            with pytest.raises(Unavailable, match=f"cannot connect to 127.0.0.1:{port}"):
                await probing._tcp(tcp, None)
    finally:
        await client.close()
        await runner.cleanup()
        await asyncio.sleep(0)
