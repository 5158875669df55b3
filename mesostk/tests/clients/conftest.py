"""Fixtures of the tests with strangers' clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesostk.testing.processes import Cluster, attach_logs

pytest_runtest_makereport = attach_logs


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """1 standalone master, 1 agent and 1 Marathon, shared by the tests of a module."""
    flags = ["--min_revive_offers_interval=200"]  # ms; each deployment would wait for 5 s
    with Cluster(tmp_path_factory.mktemp("alone"), marathon_flags=flags) as cluster:
        cluster.start()
        yield cluster
