"""Long lists leave the loop its turns and are the same bytes as if written at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from mesostk.marathon import pieces
from mesostk.marathon.groups import Group
from mesostk.marathon.pieces import encode_group, encode_list
from mesostk.wire import json
from mesostk.wire.marathon import AppDefinition


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
async def test_a_list_is_the_same_as_if_written_at_once(count: int) -> None:
    items = list(range(count))
    body = await encode_list("apps", items, lambda n: {"id": n, "none": None, "é": "\n"})
    assert body == json.encode({"apps": [{"id": n, "none": None, "é": "\n"} for n in items]})


async def test_others_run_while_a_long_list_is_written() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def slow(item: int) -> int:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        return item

    other = asyncio.create_task(count_turns())
    await encode_list("tasks", range(30), slow)
    other.cancel()
    assert turns >= 5


async def test_a_short_list_is_written_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    # However long a busy machine keeps this process waiting.
    monkeypatch.setattr(pieces, "PIECE_S", 3600.0)
    ran = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(ran.set_result, None)
    await encode_list("apps", [1, 2, 3], lambda n: n)
    assert not ran.done()


async def test_a_group_is_written_with_all_below_it() -> None:
    web = AppDefinition(id="/g/web", cmd="x", version="t1")
    inner = Group(id="/g/h", version="t2", dependencies=("/g",), enforce_role=True)
    group = Group(id="/g", version="t1", apps={web.id: web}, groups={inner.id: inner})
    every = frozenset({"apps", "pods", "groups"})
    shown = json.decode(await encode_group(group, every, lambda app: {"id": app.id}), dict)
    assert shown == {
        "id": "/g",
        "apps": [{"id": "/g/web"}],
        "pods": [],
        "groups": [
            {
                "id": "/g/h",
                "apps": [],
                "pods": [],
                "groups": [],
                "dependencies": ["/g"],
                "version": "t2",
                "enforceRole": True,
            }
        ],
        "dependencies": [],
        "version": "t1",
    }
    bare = json.decode(await encode_group(group, frozenset(), lambda app: app), dict)
    assert bare == {"id": "/g", "dependencies": [], "version": "t1"}
