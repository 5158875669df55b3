"""`--whitelist`: read at start, read again when it changes, kept while it cannot be read."""

from __future__ import annotations

import asyncio
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from mesostk.base.log import Log
from mesostk.errors import ConfigError
from mesostk.master import events as ev
from mesostk.master import whitelist


class Out(StringIO):
    """A log that tells when it complains."""

    def __init__(self) -> None:
        super().__init__()
        self.complained = asyncio.Event()

    def write(self, text: str) -> int:
        if "Keeping" in text:
            self.complained.set()
        return super().write(text)


def test_offers_follow_the_list(make_bench: Any) -> None:
    bench = make_bench(whitelist=frozenset({"a1"}))
    _, first = bench.agent("a1")
    _, second = bench.agent("a2")
    stream, _ = bench.framework()
    assert [offer.agent_id.value for offer in bench.offers(stream, 1.0)] == [first]
    bench.feed(ev.WhitelistRead(frozenset({"a1"})))
    assert not bench.heard(stream, "RESCIND")
    bench.feed(ev.WhitelistRead(frozenset({"a2"})))
    assert len(bench.heard(stream, "RESCIND")) == 1
    assert [offer.agent_id.value for offer in bench.offers(stream, 1.0)] == [second]


async def test_the_file_is_read_again_and_a_lost_one_keeps_what_it_said(tmp_path: Path) -> None:
    file, out = tmp_path / "list", Out()
    file.write_text("a1\n\n a2 \n")
    told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    task = asyncio.create_task(whitelist.watch(file, Log(stream=out), told.put_nowait, 0.01))
    try:
        assert await asyncio.wait_for(told.get(), 60) == {"a1", "a2"}
        file.unlink()
        await asyncio.wait_for(out.complained.wait(), 60)
        file.write_text("a3\n")
        while await asyncio.wait_for(told.get(), 60) != {"a3"}:
            pass
        assert out.getvalue().count("Keeping") == 1
    finally:
        task.cancel()


def test_a_file_that_is_not_there_does_not_let_the_master_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--whitelist"):
        whitelist.read(tmp_path / "none")
    with pytest.raises(ValueError, match="file:///path"):
        whitelist.path_of("some,names")
