"""One container lab, made once for all tests of this folder that have no hosts of their own.

Its name and network are not those of `make lab`, so that testing leaves a developer's lab alone.
Tests that have hosts of their own are marked `beside`, and run in a second process meanwhile.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesostk.ops.lab import existing
from mesostk.testing.beside import TestsBeside
from mesostk.testing.labs import Cluster, mesostk
from mesostk.testing.requirements import require_docker, require_root

NAME = "test"
SUBNET = "10.0.33.0/24"


def pytest_configure(config: pytest.Config) -> None:
    """Run beside the others what is marked so."""
    config.pluginmanager.register(TestsBeside(Path(__file__).parent), "tests beside")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six hosts, provisioned, with the tutorial's hello2 running."""
    require_docker()
    require_root()
    config = tmp_path_factory.mktemp("config") / "contexts.json"
    os.environ["MESOSTK_CONFIG"] = str(config)
    mesostk("lab", "down", "--name", NAME)
    up = ("lab", "up", "--driver", "docker", "--name", NAME, "--subnet", SUBNET)
    try:
        done = mesostk(*up, timeout_s=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        print(done.stderr)
        yield Cluster(existing(NAME), tmp_path_factory.mktemp("runs"))
    finally:
        mesostk("lab", "down", "--name", NAME)
        del os.environ["MESOSTK_CONFIG"]
