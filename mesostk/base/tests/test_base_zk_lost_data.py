"""Clients of a ZooKeeper that lost its data follow the empty one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from mesostk.base.zk import SessionState, Zk, ZkUrl
from mesostk.testing.requirements import require_zookeeper
from mesostk.testing.zookeeper import Ensemble


def lose_data(servers: Ensemble, directory: Path) -> None:
    """Stop the servers, remove what they know, start them."""
    servers.stop()
    for data in directory.rglob("version-2"):
        shutil.rmtree(data)
    servers.start()


@pytest.mark.zookeeper
async def test_client_that_has_seen_more_than_its_servers_connects_again(tmp_path: Path) -> None:
    require_zookeeper()
    servers = Ensemble(tmp_path)
    servers.start()
    zk = Zk(ZkUrl(servers.hosts, "/"), session_timeout_s=4.0)
    try:
        zk.start()
        await zk.connected(60.0)
        for number in range(50):
            await zk.create(f"/n{number}", b"")
        states: list[SessionState] = []
        lost, back = asyncio.Event(), asyncio.Event()

        def listen(state: SessionState) -> None:
            states.append(state)
            if state is SessionState.LOST:
                lost.set()
            elif state is SessionState.CONNECTED:
                back.set()

        zk.listen(listen)
        await asyncio.to_thread(lose_data, servers, tmp_path)
        await asyncio.wait_for(lost.wait(), 60)
        await asyncio.wait_for(back.wait(), 60)
        assert states[:2] == [SessionState.SUSPENDED, SessionState.LOST]
        assert not [name for name in await zk.children("/") if name.startswith("n")]
    finally:
        await zk.close()
        servers.stop()
