"""One cluster with three of everything that is elected, shared by the tests of this folder.

Each test leaves it as it found it: everything running, no app.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesostk.testing.processes import Cluster, attach_logs
from mesostk.testing.requirements import require_zookeeper

pytest_runtest_makereport = attach_logs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """3 ZooKeeper members, 3 masters, 2 agents, 2 Marathons."""
    require_zookeeper()
    directory = tmp_path_factory.mktemp("cluster")
    with Cluster(
        directory,
        masters=3,
        agents=2,
        marathons=2,
        zookeepers=3,
    ) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def cluster(whole: Cluster) -> Iterator[Cluster]:
    """The shared cluster, healed before and after."""
    whole.start()
    yield whole
    for unit in whole.units:
        unit.resume()
    whole.start()
    for app in whole.apps():
        whole.destroy(app)
