"""ZooKeeper for tests: fixtures over the servers that `mesostk.ops.zookeeper` starts.

A `conftest.py` takes what it needs: `from mesostk.testing.zookeeper import zookeeper, zk_path`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from mesostk.ops.zookeeper import Ensemble, Member, free_ports
from mesostk.testing.requirements import require_zookeeper

__all__ = ["Ensemble", "Member", "ensemble", "free_ports", "zk_path", "zookeeper"]

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """One standalone server for all tests; each uses a path of its own (`zk_path`)."""
    require_zookeeper()
    servers = Ensemble(tmp_path_factory.mktemp("zookeeper"))
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """Three servers of its own for a test that stops or kills some of them."""
    require_zookeeper()
    servers = Ensemble(tmp_path_factory.mktemp("ensemble"), members=3)
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def zk_path() -> str:
    """A path below which no other test of this run has nodes."""
    return f"/test{next(_NUMBERS)}"
